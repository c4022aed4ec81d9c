"""What the ledger tells of messages, deliveries, dossiers and refusals: what only reads, in a connection of the
caller's.

:class:`bus.ledger.Ledger` has a method of the same name for each of these; callers ask that. What each costs and where
it ends stands here. Finding by agency, service, state and time: :mod:`bus.search`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, exists, func, literal, literal_column, select, text

from bus.records import (
    AttemptRecord,
    Carried,
    DeadRecord,
    DeliveryRecord,
    DossierEvent,
    ExchangeRecord,
    QueueRecord,
    RefusalRecord,
    ReplayRecord,
    State,
    StoredReply,
)
from bus.tables import (
    attempts,
    counters,
    deliveries,
    dossier_aliases,
    dossier_events,
    exchanges,
    outbox,
    payloads,
    refusal_details,
    refusals,
    refused_messages,
    replayed,
    replays,
    replies,
    search_keys,
)
from registry.dossier_view import DossierFact
from registry.model import Pattern
from schemas.identifiers import AgencyCode, DossierCode, MessageId, ServiceCode, SystemCode
from schemas.message import Grade
from schemas.moment import from_micros, to_micros

#: Messages that are read in one go by :func:`carried`; their bodies are in memory together.
_CARRIED_AT_ONCE = 200

#: Fewer than either store takes.
_VALUES_OF_A_STATEMENT = 500

#: Messages of one dossier that are told. Real ones have some dozens.
MOST_OF_A_DOSSIER = 1000

#: Messages and refusals that one number or reference finds. A clerk looks at a page of them.
MOST_FOUND_BY_KEY = 50

#: The columns of :func:`milestones`; moments in whole microseconds.
MILESTONE_COLUMNS = (
    "dossier", "unit", "at", "status", "received", "due", "finished", "channel", "synchronised",
    "procedure",
)  # fmt: skip

#: Conditions in the words of the partial indexes, so that they serve. An alias is counted under the dossier's code.
_MILESTONES = text(
    """
    WITH chosen(name) AS (
        SELECT dossier FROM dossier_events WHERE received >= :since AND received < :until
        UNION SELECT dossier FROM dossier_events WHERE finished >= :since AND finished < :until
        UNION SELECT dossier FROM dossier_events WHERE status IN ('2', '9', '10') AND at >= :since AND at < :until
    ), roots(root) AS (
        SELECT DISTINCT COALESCE(joined.dossier, chosen.name)
        FROM chosen LEFT JOIN dossier_aliases AS joined ON joined.alias = chosen.name
    ), names(name, root) AS (
        SELECT root, root FROM roots
        UNION ALL SELECT joined.alias, roots.root
        FROM roots JOIN dossier_aliases AS joined ON joined.dossier = roots.root
    )
    SELECT names.root, said.unit, said.at, said.status, said.received, said.due, said.finished, said.channel,
        CASE WHEN said.synchronises = 1 AND EXISTS (
            SELECT 1 FROM deliveries
            WHERE deliveries.exchange_id = said.exchange_id AND deliveries.state = 'delivered'
        ) THEN 1 ELSE 0 END, said.procedure
    FROM names JOIN dossier_events AS said ON said.dossier = names.name
    ORDER BY names.root, said.exchange_id, said.number
    """
)


# ── messages ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def find(connection: Connection, message_id: MessageId) -> ExchangeRecord | None:
    """Everything known of one message, or None."""
    found = _find_where(connection, exchanges.c.message_id == message_id)
    return found[0] if found else None


def found_by(connection: Connection, key: int) -> tuple[list[ExchangeRecord], list[RefusalRecord]]:
    """Messages and refusals that this key finds (:mod:`bus.finding`): the newest :data:`MOST_FOUND_BY_KEY` of both
    together, oldest first."""
    query = select(search_keys.c.position).where(search_keys.c.key == key)
    newest = query.order_by(search_keys.c.position.desc()).limit(MOST_FOUND_BY_KEY)
    positions = list(connection.execute(newest).scalars())
    if not positions:
        return [], []
    messages = _find_where(connection, exchanges.c.id.in_(positions))
    return messages, _refusals_where(connection, refusals.c.id.in_(positions))


def _find_where(connection: Connection, condition: ColumnElement[bool]) -> list[ExchangeRecord]:
    kept = exists().where(payloads.c.exchange_id == exchanges.c.id).label("body_kept")
    rows = connection.execute(select(exchanges, kept).where(condition).order_by(exchanges.c.id)).all()
    its = _deliveries_of(connection, [row.id for row in rows])
    return [_exchange_record(row, its[row.id]) for row in rows]


def _deliveries_of(connection: Connection, exchange_ids: Sequence[int]) -> dict[int, list[DeliveryRecord]]:
    """By exchange, for all of them at once: a dossier may have hundreds."""
    with_due = (
        select(deliveries, func.coalesce(outbox.c.queued_at, outbox.c.due_at).label("due_at"))
        .outerjoin(outbox, outbox.c.delivery_id == deliveries.c.id)
        .order_by(deliveries.c.id)
    )
    rows = list(_some_at_a_time(connection, with_due, deliveries.c.exchange_id, exchange_ids))
    ids = [row.id for row in rows]
    tried: dict[int, list[AttemptRecord]] = defaultdict(list)
    by_number = select(attempts).order_by(attempts.c.delivery_id, attempts.c.number)
    for row in _some_at_a_time(connection, by_number, attempts.c.delivery_id, ids):
        tried[row.delivery_id].append(_attempt_record(row))
    ordered: dict[int, list[ReplayRecord]] = defaultdict(list)
    orders = select(replays, replayed.c.delivery_id, replayed.c.after_attempt).join(replayed).order_by(replays.c.id)
    for row in _some_at_a_time(connection, orders, replayed.c.delivery_id, ids):
        ordered[row.delivery_id].append(_replay_record(row))
    found: dict[int, list[DeliveryRecord]] = defaultdict(list)
    for row in rows:
        found[row.exchange_id].append(_delivery_record(row, tried[row.id], ordered[row.id]))
    return found


def _some_at_a_time(
    connection: Connection, query: Select[Any], column: ColumnElement[int], ids: Sequence[int]
) -> Iterator[Row[Any]]:
    """What the query finds of these; a statement has room for so many values only."""
    for first in range(0, len(ids), _VALUES_OF_A_STATEMENT):
        yield from connection.execute(query.where(column.in_(ids[first : first + _VALUES_OF_A_STATEMENT])))


def body_of(connection: Connection, exchange_id: int) -> bytes | None:
    """The exact bytes received, or None once they were erased."""
    body: bytes | None = connection.execute(
        select(payloads.c.body).where(payloads.c.exchange_id == exchange_id)
    ).scalar()
    return body


def carried(
    connection: Connection, services: Collection[ServiceCode], since: datetime, until: datetime | None = None
) -> Iterator[Carried]:
    """Every message of these services that was accepted in ``[since, until)``, in the order of acceptance, with its
    bytes.

    Costs as much as there are such messages, however many others there are; memory stays small.
    """
    chosen = select(exchanges.c.id).where(
        exchanges.c.service.in_(services), exchanges.c.received_at >= to_micros(since)
    )
    if until is not None:
        chosen = chosen.where(exchanges.c.received_at < to_micros(until))
    first = (
        select(deliveries.c.receiver)
        .where(deliveries.c.exchange_id == exchanges.c.id)
        .order_by(deliveries.c.id)
        .limit(1)
        .scalar_subquery()
    )
    columns = (exchanges.c.id, exchanges.c.service, exchanges.c.service_version, exchanges.c.received_at)
    ids = sorted(connection.execute(chosen).scalars())
    for start in range(0, len(ids), _CARRIED_AT_ONCE):
        query = (
            select(*columns, first.label("receiver"), payloads.c.body)
            .outerjoin(payloads, payloads.c.exchange_id == exchanges.c.id)
            .where(exchanges.c.id.in_(ids[start : start + _CARRIED_AT_ONCE]))
            .order_by(exchanges.c.id)
        )
        for row in connection.execute(query):
            yield Carried(
                exchange_id=row.id,
                service=ServiceCode(row.service),
                version=row.service_version,
                received_at=from_micros(row.received_at),
                receiver=row.receiver or "",
                body=row.body,
            )


def was_delivered(connection: Connection, message_id: MessageId) -> bool:
    """Has any receiver of this message got it?"""
    query = select(literal(1)).select_from(deliveries.join(exchanges))
    query = query.where(exchanges.c.message_id == message_id, deliveries.c.state == State.DELIVERED.value)
    return connection.execute(query.limit(1)).first() is not None


def reply_to(connection: Connection, message_id: MessageId) -> StoredReply | None:
    """The stored answer of a request-reply call that was delivered."""
    row = connection.execute(
        select(replies)
        .join(deliveries, deliveries.c.id == replies.c.delivery_id)
        .join(exchanges, exchanges.c.id == deliveries.c.exchange_id)
        .where(exchanges.c.message_id == message_id)
    ).first()
    if row is None:
        return None
    return _stored_reply(row)


def dead(
    connection: Connection, most: int = 1000, system: SystemCode | None = None, after: int = -1
) -> list[DeadRecord]:
    """Dead deliveries with their last problem, oldest first; ``after``: the last delivery id of the page before."""
    statement = (
        select(deliveries, exchanges.c.message_id, exchanges.c.service, exchanges.c.sender, exchanges.c.dossier,
               exchanges.c.pattern)
        .join(exchanges)
        .where(deliveries.c.state == State.DEAD, deliveries.c.id > after)
        .order_by(deliveries.c.id)
        .limit(most)
    )  # fmt: skip
    if system is not None:
        statement = statement.where(deliveries.c.system == system)
    return [_dead_record(row) for row in connection.execute(statement)]


# ── dossiers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def of_dossier(connection: Connection, *codes: str) -> list[ExchangeRecord]:
    """Every message that is of a dossier or speaks of it, in the order of acceptance; the last
    :data:`MOST_OF_A_DOSSIER` where there are more (a placeholder that somebody takes for a code)."""
    speaks = select(dossier_events.c.exchange_id).where(dossier_events.c.dossier.in_(codes))
    of_it = select(exchanges.c.id).where(exchanges.c.dossier.in_(codes), exchanges.c.dossier.is_not(None))
    ids = connection.execute(speaks.union(of_it).order_by(text("1 DESC")).limit(MOST_OF_A_DOSSIER)).scalars()
    numbers = list(ids)
    return _find_where(connection, exchanges.c.id.in_(numbers)) if numbers else []


def codes_of_dossier(connection: Connection, code: str) -> tuple[str, ...]:
    """All codes of the dossier that has this one, the code that it is counted under first."""
    known = dossier_aliases
    root = connection.execute(select(known.c.dossier).where(known.c.alias == code)).scalar() or code
    others = select(known.c.alias).where(known.c.dossier == root).order_by(known.c.alias)
    return (root, *connection.execute(others.limit(MOST_OF_A_DOSSIER)).scalars())


def said_of_dossier(connection: Connection, *codes: str) -> list[DossierEvent]:
    """What messages said of a dossier, in the order of acceptance; of many the last, as in :func:`of_dossier`."""
    last_first = (dossier_events.c.exchange_id.desc(), dossier_events.c.number.desc())
    arrived = exists().where(
        deliveries.c.exchange_id == dossier_events.c.exchange_id, deliveries.c.state == State.DELIVERED.value
    )
    query = select(dossier_events, arrived.label("delivered")).where(dossier_events.c.dossier.in_(codes))
    rows = connection.execute(query.order_by(*last_first).limit(MOST_OF_A_DOSSIER)).all()
    return [_dossier_event(row) for row in reversed(rows)]


def milestones(connection: Connection, since: datetime, until: datetime) -> Iterator[tuple[Any, ...]]:
    """What was said of every dossier that came in or was finished in ``[since, until)``, all of it and also from
    outside of that time: rows of :data:`MILESTONE_COLUMNS`, dossier by dossier, each in the order of acceptance.

    Costs as much as was said of these dossiers, however many others there are; memory stays small.
    """
    limits = {"since": to_micros(since), "until": to_micros(until)}
    for row in connection.execute(_MILESTONES, limits, execution_options={"yield_per": 2000}):
        yield tuple(row)


# ── refusals ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def refusals_of(
    connection: Connection, *, message_id: MessageId | None = None, dossier: DossierCode | None = None
) -> list[RefusalRecord]:
    """Refusals of one message id or dossier, oldest first."""
    condition = refusals.c.message_id == message_id if message_id else refusals.c.dossier == dossier
    return _refusals_where(connection, condition)


def refusal(connection: Connection, id_: int) -> RefusalRecord | None:
    """The refusal of this number, which is its place in the evidence log."""
    return next(iter(_refusals_where(connection, refusals.c.id == id_)), None)


def _refusals_where(connection: Connection, condition: ColumnElement[bool]) -> list[RefusalRecord]:
    query = (
        select(refusals, refusal_details.c.details)
        .outerjoin(refusal_details, refusal_details.c.id == refusals.c.id)
        .where(condition)
    )
    return [_refusal_record(row) for row in connection.execute(query.order_by(refusals.c.id).limit(1000))]


def kept_refused(connection: Connection, id_: int, now: datetime) -> bytes | None:
    """The sealed message of a refusal (:mod:`bus.refused`), if it is kept and its hours are not over."""
    kept = refused_messages
    query = select(kept.c.sealed).where(kept.c.id == id_, kept.c.until > to_micros(now))
    sealed: bytes | None = connection.execute(query).scalar()
    return sealed


# ── numbers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def totals(connection: Connection) -> dict[tuple[str, str], int]:
    """The durable counters, ``(name, label) → value``."""
    return {(row.name, row.labels): row.value for row in connection.execute(select(counters))}


def queues(connection: Connection) -> list[QueueRecord]:
    """Each system's waiting messages: how many, and since when the oldest waits."""
    rows = connection.execute(
        select(outbox.c.system, func.count().label("waiting"), func.min(exchanges.c.received_at).label("oldest"))
        .join(deliveries, deliveries.c.id == outbox.c.delivery_id)
        .join(exchanges, exchanges.c.id == deliveries.c.exchange_id)
        .group_by(outbox.c.system)
    )
    return [
        QueueRecord(system=SystemCode(row.system), waiting=row.waiting, oldest=from_micros(row.oldest)) for row in rows
    ]


def states(connection: Connection) -> dict[State, int]:
    """How many deliveries stand in each state."""
    rows = connection.execute(select(deliveries.c.state, func.count()).group_by(deliveries.c.state))
    return {State(state): number for state, number in rows}


def unsettled(connection: Connection) -> dict[State, int]:
    """How many deliveries are under way or dead. Costs as much as there are of these, not of messages."""
    return {
        state: connection.execute(
            # The state in the statement itself, not bound: only so does the partial index serve.
            select(func.count()).where(deliveries.c.state == literal_column(f"'{state.value}'"))
        ).scalar_one()
        for state in (State.DELIVERING, State.DEAD)
    }


# ── rows as records ───────────────────────────────────────────────────────────────────────────────────────────────────


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


def _problem(stored: str | None) -> Mapping[str, Any] | None:
    return None if stored is None else json.loads(stored)


def _exchange_record(row: Row[Any], of_exchange: Sequence[DeliveryRecord]) -> ExchangeRecord:
    return ExchangeRecord(
        id=row.id,
        message_id=MessageId(row.message_id),
        sender=AgencyCode(row.sender),
        sender_system=SystemCode(row.sender_system),
        service=ServiceCode(row.service),
        service_version=row.service_version,
        pattern=Pattern(row.pattern),
        grade=Grade(row.grade),
        dossier=DossierCode(row.dossier) if row.dossier else None,
        received_at=from_micros(row.received_at),
        traceparent=row.traceparent,
        manifest_jws=row.manifest,
        manifest_sha256=row.manifest_sha256,
        receipt_jws=row.receipt,
        deliveries=tuple(of_exchange),
        body_erased=not row.body_kept,
    )


def _delivery_record(row: Row[Any], tried: Sequence[AttemptRecord], ordered: Sequence[ReplayRecord]) -> DeliveryRecord:
    return DeliveryRecord(
        id=row.id,
        receiver=AgencyCode(row.receiver),
        system=SystemCode(row.system),
        state=State(row.state),
        attempt=row.attempt,
        lease_until=_moment(row.lease_until),
        due_at=_moment(row.due_at),
        settled_at=_moment(row.settled_at),
        problem=_problem(row.problem),
        receipt_jws=row.receipt,
        leaf=row.leaf,
        attempts=tuple(tried),
        replays=tuple(ordered),
    )


def _attempt_record(row: Row[Any]) -> AttemptRecord:
    return AttemptRecord(
        number=row.number,
        started_at=from_micros(row.started_at),
        finished_at=from_micros(row.finished_at),
        outcome=State(row.outcome),
        problem=_problem(row.problem),
    )


def _replay_record(row: Row[Any]) -> ReplayRecord:
    return ReplayRecord(
        id=row.id,
        ordered_at=from_micros(row.ordered_at),
        actor=row.actor,
        reason=row.reason,
        after_attempt=row.after_attempt,
    )


def _dossier_event(row: Row[Any]) -> DossierEvent:
    return DossierEvent(
        exchange_id=row.exchange_id,
        number=row.number,
        fact=DossierFact(
            dossier=row.dossier,
            at=from_micros(row.at),
            unit=row.unit,
            status=row.status,
            said=row.said,
            received=_moment(row.received),
            due=_moment(row.due),
            finished=_moment(row.finished),
            holder=row.holder,
            procedure=row.procedure,
            channel=row.channel,
            amount=row.amount,
            payment_reference=row.payment_reference,
            payment_state=row.payment_state,
            parcel=row.parcel,
            parcel_state=row.parcel_state,
            synchronises=bool(row.synchronises),
        ),
        delivered=bool(row.delivered),
    )


def _dead_record(row: Row[Any]) -> DeadRecord:
    return DeadRecord(
        delivery_id=row.id,
        message_id=MessageId(row.message_id),
        service=ServiceCode(row.service),
        sender=AgencyCode(row.sender),
        receiver=AgencyCode(row.receiver),
        system=SystemCode(row.system),
        dossier=DossierCode(row.dossier) if row.dossier else None,
        pattern=Pattern(row.pattern),
        attempt=row.attempt,
        died_at=_moment(row.settled_at),
        problem=_problem(row.problem),
    )


def _refusal_record(row: Row[Any]) -> RefusalRecord:
    return RefusalRecord(
        id=row.id,
        refused_at=from_micros(row.refused_at),
        problem=row.problem,
        reason=row.reason,
        sender=row.sender,
        service=row.service,
        message_id=row.message_id,
        trace_id=row.trace_id,
        dossier=row.dossier,
        details=json.loads(row.details) if row.details else {},
    )


def _stored_reply(row: Row[Any]) -> StoredReply:
    original = None
    if row.original_body is not None:
        original = StoredReply(
            manifest_jws=row.original_manifest, content_type=row.original_content_type, body=row.original_body
        )
    return StoredReply(manifest_jws=row.manifest, content_type=row.content_type, body=row.body, original=original)
