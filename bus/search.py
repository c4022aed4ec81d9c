"""Finding messages by what a caller on the phone knows: agency, service, state, time, dossier. Newest first, in pages.

Each question begins where the fewest rows are, and reads an index there from its newest end::

    dossier                       exchanges_by_dossier
    dead, delivering, waiting     deliveries_dead, deliveries_leased, the outbox and the lines of dossiers
    set aside                     deliveries_set_aside
    agency                        exchanges_by_sender and deliveries_by_receiver, the newest of both
    service                       exchanges_of_service
    time alone, or nothing        the ids themselves, which grow with time

Other conditions are looked at row by row on the way. An index on states is not kept: every message would enter it and
leave it again (measured: 12 µs of the server's 74 for a claim and its end).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, exists, func, literal_column, or_, select, union

from bus.records import FoundDelivery, FoundMessage, State, Wanted
from bus.retention import OUT_OF_TURN, first_since
from bus.tables import RECEIVERS_PER_EXCHANGE, UNFINISHED, deliveries, exchanges, outbox
from schemas.identifiers import AgencyCode, DossierCode, MessageId, ServiceCode, SystemCode
from schemas.moment import from_micros, to_micros

#: Messages of one page.
MOST_FOUND = 500


def search(connection: Connection, wanted: Wanted) -> list[FoundMessage]:
    """See :meth:`bus.ledger.Ledger.search`."""
    most = min(wanted.limit, MOST_FOUND)
    low, high = _bounds(connection, wanted.since, wanted.until, wanted.before)
    branches = _branches(wanted, low, high)
    newest = [branch.limit(most).subquery() for branch in branches]
    ids = union(*(select(each.c[0].label("id")) for each in newest)).subquery()
    query = select(exchanges).join(ids, ids.c.id == exchanges.c.id).order_by(exchanges.c.id.desc()).limit(most)
    rows = connection.execute(query).all()
    of: dict[int, list[FoundDelivery]] = {row.id: [] for row in rows}
    for delivery in connection.execute(_deliveries_of(list(of))):
        of[delivery.exchange_id].append(
            FoundDelivery(
                receiver=AgencyCode.unchecked(delivery.receiver),
                system=SystemCode.unchecked(delivery.system),
                state=State(delivery.state),
                attempts=delivery.attempt,
                settled_at=None if delivery.settled_at is None else from_micros(delivery.settled_at),
            )
        )
    return [
        FoundMessage(
            exchange_id=row.id,
            message_id=MessageId.unchecked(row.message_id),
            received_at=from_micros(row.received_at),
            sender=AgencyCode.unchecked(row.sender),
            service=ServiceCode.unchecked(row.service),
            service_version=row.service_version,
            dossier=DossierCode.unchecked(row.dossier) if row.dossier else None,
            deliveries=tuple(of[row.id]),
        )
        for row in rows
    ]


def _bounds(
    connection: Connection, since: datetime | None, until: datetime | None, before: int | None
) -> tuple[int, int]:
    """Exchange ids from ``low`` up to and without ``high``: no more than may fit."""
    low = first_since(connection, since - OUT_OF_TURN) if since else 0
    highs = [(connection.execute(select(func.max(exchanges.c.id))).scalar() or 0) + 1]
    highs += [first_since(connection, until + OUT_OF_TURN)] if until else []
    highs += [before] if before is not None else []
    return low, min(highs)


def _branches(wanted: Wanted, low: int, high: int) -> list[Select[Any]]:
    """Each finds exchange ids by an index of its own, newest first; together they find all."""
    exchange = _of_exchanges(wanted, low, high)
    if wanted.dossier is not None:
        return [exchange.where(_party(wanted.agency))] if wanted.agency else [exchange]
    if wanted.state in (State.DEAD, State.DELIVERING, State.SET_ASIDE):
        return [_of_deliveries(wanted, low, high).where(_in(wanted.state))]
    if wanted.state is State.WAITING:
        due = _of_deliveries(wanted, low, high, outbox.c.delivery_id).join(
            outbox, outbox.c.delivery_id == deliveries.c.id
        )
        in_line = _of_deliveries(wanted, low, high).where(deliveries.c.ordering_key.is_not(None), UNFINISHED)
        return [branch.where(_in(State.WAITING)) for branch in (due, in_line)]
    if wanted.agency is None:
        return [exchange]
    received = _of_deliveries(replace(wanted, agency=None), low, high).where(deliveries.c.receiver == wanted.agency)
    return [
        exchange.where(exchanges.c.sender == wanted.agency),
        received.where(_in(wanted.state)) if wanted.state else received,
    ]


def _of_exchanges(wanted: Wanted, low: int, high: int) -> Select[Any]:
    query = select(exchanges.c.id).where(exchanges.c.id >= low, exchanges.c.id < high, *_facts(wanted))
    if wanted.state is not None:
        query = query.where(exists().where(deliveries.c.exchange_id == exchanges.c.id, _in(wanted.state)))
    return query.order_by(exchanges.c.id.desc())


def _of_deliveries(wanted: Wanted, low: int, high: int, key: ColumnElement[int] = deliveries.c.id) -> Select[Any]:
    """By the ids of deliveries, which stand in the order of their exchanges."""
    query = (
        select(deliveries.c.exchange_id)
        .join(exchanges, exchanges.c.id == deliveries.c.exchange_id)
        .where(key >= low * RECEIVERS_PER_EXCHANGE, key < high * RECEIVERS_PER_EXCHANGE, *_facts(wanted))
        .order_by(key.desc())
    )
    if wanted.agency is not None:
        query = query.where(or_(exchanges.c.sender == wanted.agency, deliveries.c.receiver == wanted.agency))
    return query


def _facts(wanted: Wanted) -> Iterator[ColumnElement[bool]]:
    """What an exchange itself must be."""
    if wanted.service is not None:
        yield exchanges.c.service == wanted.service
    if wanted.dossier is not None:
        yield exchanges.c.dossier == wanted.dossier
    if wanted.since is not None:
        yield exchanges.c.received_at >= to_micros(wanted.since)
    if wanted.until is not None:
        yield exchanges.c.received_at < to_micros(wanted.until)


def _party(agency: AgencyCode) -> ColumnElement[bool]:
    receives = exists().where(deliveries.c.exchange_id == exchanges.c.id, deliveries.c.receiver == agency)
    return or_(exchanges.c.sender == agency, receives)


def _in(state: State) -> ColumnElement[bool]:
    """Said in full, not bound: so partial indexes serve."""
    return deliveries.c.state == literal_column(f"'{state.value}'")


def _deliveries_of(ids: Sequence[int]) -> Select[Any]:
    return select(deliveries).where(deliveries.c.exchange_id.in_(ids)).order_by(deliveries.c.id)
