"""Many dead deliveries at once: sent again, set aside, taken back. Its decisions and its SQL.

::

    preview   what a deed would touch: groups, a sample, and nothing is changed
    order     a row: whose, what, which ones, why; with its event in the audit trail
    carry on  one batch after the other by whoever delivers (`lgsp work`), in turn, each in one transaction
    stop      after the batch that is under way

A batch moves deliveries, notes which ones and how far the job has come, all or nothing: whatever process dies, nothing
is done twice, and another goes on. A job means those that were dead at the moment of its preview: what dies later, or
again, is not touched. Each delivery moves by an UPDATE that names its state, so two jobs that mean the same do it once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Row,
    Select,
    cast,
    func,
    insert,
    literal_column,
    or_,
    select,
    type_coerce,
    update,
)

from bus.ledger import Ledger
from bus.nodes import NodeStore
from bus.people import AuditEvent, note, trail_name
from bus.records import State
from bus.store import Store
from bus.tables import bulk_jobs, bulk_moved, deliveries, exchanges
from registry.model import Pattern
from schemas.identifiers import AgencyCode, DossierCode, MessageId, ServiceCode, SystemCode
from schemas.moment import from_micros, to_micros
from schemas.problem import NotFound

#: Deliveries that a preview looks at; of more it says "more than".
MOST_PREVIEWED: Final = 20_000
#: Deliveries of one batch: its transaction must not hold others up.
MOST_IN_A_BATCH: Final = 1000
#: One batch of all processes together in so many seconds: a partner that has just come back is not run over.
BATCH_SECONDS: Final = 1.0
SAMPLE: Final = 10


class Deed(StrEnum):
    """What is done to each delivery."""

    REPLAY = "replay"
    SET_ASIDE = "set-aside"
    TAKE_BACK = "take-back"

    @property
    def of(self) -> State:
        """The state that a delivery must be in."""
        return State.SET_ASIDE if self is Deed.TAKE_BACK else State.DEAD


class JobState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """Which deliveries are meant: all facts must fit; what is left open does not matter."""

    system: SystemCode | None = None
    service: ServiceCode | None = None
    #: Of the last problem.
    reason: str | None = None
    sender: AgencyCode | None = None
    dossier: DossierCode | None = None
    #: Died in ``[since, until)``.
    since: datetime | None = None
    until: datetime | None = None
    #: Sent or received by this agency: the scope of whoever asks.
    agency: AgencyCode | None = None

    def to_facts(self) -> dict[str, Any]:
        """As JSON types, without what is open."""
        facts: dict[str, Any] = {
            name: getattr(self, name) for name in ("system", "service", "reason", "sender", "dossier", "agency")
        }
        facts |= {name: None if at is None else to_micros(at) for name, at in self._times().items()}
        return {name: value for name, value in facts.items() if value is not None}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Self:
        def moment(name: str) -> datetime | None:
            return from_micros(facts[name]) if name in facts else None

        return cls(
            system=SystemCode.unchecked(facts["system"]) if "system" in facts else None,
            service=ServiceCode.unchecked(facts["service"]) if "service" in facts else None,
            reason=facts.get("reason"),
            sender=AgencyCode.unchecked(facts["sender"]) if "sender" in facts else None,
            dossier=DossierCode.unchecked(facts["dossier"]) if "dossier" in facts else None,
            since=moment("since"),
            until=moment("until"),
            agency=AgencyCode.unchecked(facts["agency"]) if "agency" in facts else None,
        )

    def _times(self) -> dict[str, datetime | None]:
        return {"since": self.since, "until": self.until}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Deliveries that failed alike."""

    system: SystemCode
    service: ServiceCode
    reason: str
    count: int
    #: Calls whose caller waited for the answer: only that caller repeats them.
    calls: int
    oldest: datetime | None
    newest: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """One delivery in a list."""

    delivery_id: int
    message_id: MessageId
    service: ServiceCode
    sender: AgencyCode
    receiver: AgencyCode
    system: SystemCode
    died_at: datetime | None
    problem: Mapping[str, Any] | None
    attempts: int
    trace_id: str
    state: State
    moved_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a deed would touch, at one moment."""

    groups: Sequence[Group]
    #: The oldest of them.
    sample: Sequence[Touched]
    #: There are more than :data:`MOST_PREVIEWED`; groups and counts are of so many.
    more: bool

    @property
    def count(self) -> int:
        return sum(group.count for group in self.groups)

    @property
    def calls(self) -> int:
        return sum(group.calls for group in self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Work to be done. ``form`` names the form that ordered it: sent twice, it is one order."""

    form: str
    deed: Deed
    meant: Meant
    reason: str
    batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An order and how far it has come."""

    id: int
    ordered_at: datetime
    person: str
    agency: AgencyCode | None
    deed: Deed
    meant: Meant
    reason: str
    batch: int
    state: JobState
    expected: int
    looked: int
    moved: int
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What a job did to one delivery."""

    job: Job
    at: datetime


class Bulk:
    """Previews, orders and carries on. Thread-safe; several processes may share one store."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────────────

    def preview(self, deed: Deed, meant: Meant) -> Preview:
        """What the deed would touch. Costs as much as there are dead deliveries, of however many messages."""
        columns = (deliveries.c.system, exchanges.c.service, _reason(self._store).label("reason"),
                   exchanges.c.pattern, deliveries.c.settled_at)  # fmt: skip
        looked = self._meant(select(*columns), deed, meant).limit(MOST_PREVIEWED + 1).subquery()
        calls = func.count().filter(looked.c.pattern == Pattern.REQUEST_REPLY.value)
        key = (looked.c.system, looked.c.service, looked.c.reason)
        grouped = select(
            *key, func.count(), calls, func.min(looked.c.settled_at), func.max(looked.c.settled_at)
        ).group_by(*key)
        with self._store.reading() as connection:
            groups = [_group(row) for row in connection.execute(grouped)]
            rows = connection.execute(self._meant(select(*_TOUCHED), deed, meant).limit(SAMPLE)).all()
        return Preview(
            groups=sorted(groups, key=lambda group: (-group.count, group.system, group.service, group.reason)),
            sample=[_touched(row) for row in rows],
            more=sum(group.count for group in groups) > MOST_PREVIEWED,
        )

    def reasons(self, deed: Deed, agency: AgencyCode | None) -> list[str]:
        """The reasons that there are at this moment, to choose from: of as many as a preview looks at."""
        query = select(_reason(self._store).label("reason"))
        # Nothing of a message matters to who sees the province: without its row it costs a third.
        query = _in_state(query, deed) if agency is None else self._meant(query, deed, Meant(agency=agency))
        looked = query.limit(MOST_PREVIEWED + 1).subquery()
        with self._store.reading() as connection:
            return sorted(connection.execute(select(looked.c.reason).distinct()).scalars())

    def job(self, number: int) -> Job:
        """Raises NotFound(bulk-unknown)."""
        with self._store.reading() as connection:
            row = connection.execute(select(bulk_jobs).where(bulk_jobs.c.id == number)).first()
        if row is None:
            raise NotFound("bulk-unknown")
        return _job(row)

    def jobs(self, agency: AgencyCode | None, before: int | None = None, most: int = 20) -> list[Job]:
        """Newest first; ``agency``: those about this agency's deliveries only."""
        query = select(bulk_jobs).order_by(bulk_jobs.c.id.desc()).limit(most)
        if agency is not None:
            query = query.where(bulk_jobs.c.agency == agency)
        if before is not None:
            query = query.where(bulk_jobs.c.id < before)
        with self._store.reading() as connection:
            return [_job(row) for row in connection.execute(query)]

    def moved_by(self, number: int, after: int = -1, most: int = 50) -> list[Touched]:
        """The deliveries that a job moved, as they stand now; ``after``: the last one of the page before."""
        query = (
            select(*_TOUCHED, bulk_moved.c.moved_at)
            .join(deliveries, deliveries.c.id == bulk_moved.c.delivery_id)
            .join(exchanges, exchanges.c.id == deliveries.c.exchange_id)
            .where(bulk_moved.c.job_id == number, bulk_moved.c.delivery_id > after)
            .order_by(bulk_moved.c.delivery_id)
            .limit(most)
        )
        with self._store.reading() as connection:
            return [replace(_touched(row), moved_at=from_micros(row.moved_at)) for row in connection.execute(query)]

    def moves_of(self, wanted: Sequence[int]) -> dict[int, list[Move]]:
        """What was done to these deliveries by such work, oldest first: who, when, why. One look-up by index."""
        query = (
            select(bulk_jobs, bulk_moved.c.delivery_id, bulk_moved.c.moved_at)
            .join(bulk_moved)
            .where(bulk_moved.c.delivery_id.in_(wanted))
            .order_by(bulk_jobs.c.id)
        )
        found: dict[int, list[Move]] = {}
        with self._store.reading() as connection:
            for row in connection.execute(query):
                found.setdefault(row.delivery_id, []).append(Move(job=_job(row), at=from_micros(row.moved_at)))
        return found

    # ── ordering ──────────────────────────────────────────────────────────────────────────────────────────────────

    def order(self, order: Order, event: AuditEvent) -> int:
        """The job's number. The same form again gives the same one. ``event`` is noted with it, about it."""
        return self._store.write(self._order_in, order, event)

    def _order_in(self, connection: Connection, order: Order, event: AuditEvent) -> int:
        known = connection.execute(select(bulk_jobs.c.id).where(bulk_jobs.c.form == order.form)).scalar()
        if known is not None:
            return int(known)
        every = self._meant(select(deliveries.c.id), order.deed, order.meant).order_by(None).subquery()
        expected = connection.execute(select(func.count()).select_from(every)).scalar_one()
        number: int = connection.execute(
            insert(bulk_jobs)
            .values(
                form=order.form,
                ordered_at=to_micros(event.at),
                person=event.person,
                agency=order.meant.agency,
                deed=order.deed,
                meant=json.dumps(order.meant.to_facts()),
                reason=order.reason,
                batch=max(1, min(order.batch, MOST_IN_A_BATCH)),
                state=JobState.RUNNING,
                expected=expected,
                looked=0,
                moved=0,
                reached=-1,
            )
            .returning(bulk_jobs.c.id)
        ).scalar_one()
        facts = {"deed": order.deed, "expected": expected, **order.meant.to_facts()}
        note(connection, replace(event, target=f"bulk:{number}", reason=order.reason, facts=facts))
        return number

    def stop(self, number: int, event: AuditEvent) -> bool:
        """Nothing is begun any more; False when it has ended already."""

        def stop(connection: Connection) -> bool:
            running = (bulk_jobs.c.id == number, bulk_jobs.c.state == JobState.RUNNING)
            values = {"state": JobState.STOPPED, "ended_at": to_micros(event.at)}
            stopped = connection.execute(update(bulk_jobs).where(*running).values(values)).rowcount == 1
            if stopped:
                note(connection, event)
            return stopped

        return self._store.write(stop)

    # ── carrying on ───────────────────────────────────────────────────────────────────────────────────────────────

    def carry_on_in_turn(self, nodes: NodeStore, node_id: str, now: datetime) -> int:
        """One batch of the oldest job, unless a process of this bus has done one within the second; how many deliveries
        were moved."""
        with self._store.reading() as connection:
            if connection.execute(_RUNNING).first() is None:
                return 0
        return nodes.once_a_period("bulk", node_id, now, BATCH_SECONDS, lambda turn: self.carry_on(turn, now)) or 0

    def carry_on(self, connection: Connection, now: datetime) -> int:
        """One batch of the oldest job, in the caller's transaction."""
        row = connection.execute(_RUNNING.with_for_update()).first()
        if row is None:
            return 0
        job = _job(row)
        query = self._meant(select(deliveries.c.id), job.deed, job.meant).where(deliveries.c.id > row.reached)
        ids = list(connection.execute(query.limit(job.batch)).scalars())
        moved = self._do(connection, job, ids, now)
        if moved:
            connection.execute(
                insert(bulk_moved),
                [{"job_id": job.id, "delivery_id": each, "moved_at": to_micros(now)} for each in moved],
            )
        done = len(ids) < job.batch
        values: dict[str, Any] = {
            "looked": bulk_jobs.c.looked + len(ids),
            "moved": bulk_jobs.c.moved + len(moved),
            "reached": ids[-1] if ids else row.reached,
        }
        if done:
            values |= {"state": JobState.DONE, "ended_at": to_micros(now)}
        connection.execute(update(bulk_jobs).where(bulk_jobs.c.id == job.id).values(values))
        if done:
            facts = {"looked": job.looked + len(ids), "moved": job.moved + len(moved)}
            ended = AuditEvent(at=now, person=job.person, action="bulk.ended", target=f"bulk:{job.id}",
                               reason=job.reason, agency=job.agency, facts=facts)  # fmt: skip
            note(connection, ended)
        return len(moved)

    def _do(self, connection: Connection, job: Job, ids: Sequence[int], now: datetime) -> list[int]:
        if not ids:
            return []
        match job.deed:
            case Deed.REPLAY:
                return self._ledger.replay_in(connection, ids, trail_name(job.person), job.reason, now)[1]
            case Deed.SET_ASIDE:
                return self._ledger.set_aside_in(connection, ids)
            case Deed.TAKE_BACK:
                return self._ledger.take_back_in(connection, ids)

    def _meant(self, query: Select[Any], deed: Deed, meant: Meant) -> Select[Any]:
        joined = query.select_from(deliveries.join(exchanges, exchanges.c.id == deliveries.c.exchange_id))
        return _in_state(joined.where(*self._conditions(meant)), deed)

    def _conditions(self, meant: Meant) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        for column, value in (
            (deliveries.c.system, meant.system),
            (exchanges.c.service, meant.service),
            (exchanges.c.sender, meant.sender),
            (exchanges.c.dossier, meant.dossier),
        ):
            if value is not None:
                found.append(column == value)
        if meant.reason is not None:
            found.append(_reason(self._store) == meant.reason)
        if meant.since is not None:
            found.append(deliveries.c.settled_at >= to_micros(meant.since))
        if meant.until is not None:
            found.append(deliveries.c.settled_at < to_micros(meant.until))
        if meant.agency is not None:
            found.append(or_(exchanges.c.sender == meant.agency, deliveries.c.receiver == meant.agency))
        return found


_RUNNING = select(bulk_jobs).where(bulk_jobs.c.state == literal_column("'running'")).order_by(bulk_jobs.c.id).limit(1)

_TOUCHED = (
    deliveries.c.id, deliveries.c.receiver, deliveries.c.system, deliveries.c.settled_at, deliveries.c.problem,
    deliveries.c.attempt, deliveries.c.state, exchanges.c.message_id, exchanges.c.service, exchanges.c.sender,
    exchanges.c.traceparent,
)  # fmt: skip


def _in_state(query: Select[Any], deed: Deed) -> Select[Any]:
    """Oldest first. The state is said in full, not bound: so the partial indexes serve."""
    return query.where(deliveries.c.state == literal_column(f"'{deed.of.value}'")).order_by(deliveries.c.id)


def _reason(store: Store) -> ColumnElement[str]:
    """The reason in a delivery's last problem, in the store's own words for JSON."""
    problem = deliveries.c.problem
    document: Any = type_coerce(problem, JSON) if store.is_sqlite else cast(problem, JSON)
    return func.coalesce(document["reason"].as_string(), literal_column("'unknown'"))


def _group(row: Sequence[Any]) -> Group:
    system, service, reason, count, calls, oldest, newest = row
    return Group(
        system=SystemCode.unchecked(system),
        service=ServiceCode.unchecked(service),
        reason=reason,
        count=count,
        calls=calls,
        oldest=None if oldest is None else from_micros(oldest),
        newest=None if newest is None else from_micros(newest),
    )


def _touched(row: Any) -> Touched:
    return Touched(
        delivery_id=row.id,
        message_id=MessageId.unchecked(row.message_id),
        service=ServiceCode.unchecked(row.service),
        sender=AgencyCode.unchecked(row.sender),
        receiver=AgencyCode.unchecked(row.receiver),
        system=SystemCode.unchecked(row.system),
        died_at=None if row.settled_at is None else from_micros(row.settled_at),
        problem=None if row.problem is None else json.loads(row.problem),
        attempts=row.attempt,
        trace_id=row.traceparent[3:35],
        state=State(row.state),
    )


def _job(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        ordered_at=from_micros(row.ordered_at),
        person=row.person,
        agency=AgencyCode.unchecked(row.agency) if row.agency else None,
        deed=Deed(row.deed),
        meant=Meant.from_facts(json.loads(row.meant)),
        reason=row.reason,
        batch=row.batch,
        state=JobState(row.state),
        expected=row.expected,
        looked=row.looked,
        moved=row.moved,
        ended_at=None if row.ended_at is None else from_micros(row.ended_at),
    )
