"""How far each subscription was told, and what comes after: the SQL of :mod:`bus.events`.

Nothing is written when something happens: what messages say of dossiers and what was changed in the registry is on disk
already, in the transaction that made it so. A cursor reads along behind it. Its place is a position of the evidence log
(of the registry: a revision). Both are given out to one transaction after the other, each only when the one before has
ended, so behind a position that can be seen nothing appears any more; an id that a sequence gave out would not do.

A cursor is claimed for the time of a lease; the claim counts its turn, and a turn that comes back after another claim
changes nothing. Thread-safe; several programs may share one store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, Select, delete, insert, or_, select, tuple_, update

from bus.store import Store
from bus.tables import deliveries, dossier_events, event_cursors, exchanges
from schemas.identifiers import AgencyCode, MessageId, ServiceCode, SystemCode
from schemas.moment import from_micros, to_micros
from security.evidence.log import EvidenceLog

#: Earlier words on a dossier that count for whether something is new: the last ones, of many.
MOST_EARLIER = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far one subscription was told of one stream."""

    subscription: str
    stream: str
    #: The last one that is done with.
    position: int
    number: int
    turn: int
    free_at: datetime
    tries: int
    problem: str | None

    @property
    def place(self) -> tuple[int, int]:
        return self.position, self.number


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a message or an answer said of a dossier, and who may look at it."""

    #: Where it stands among all that was said.
    position: int
    number: int
    message_id: MessageId
    service: ServiceCode
    sender: AgencyCode
    sender_system: SystemCode
    receivers: frozenset[AgencyCode]
    traceparent: str
    dossier: str
    unit: str | None
    at: datetime
    status: str | None
    due: datetime | None
    holder: str | None
    procedure: str | None

    @property
    def place(self) -> tuple[int, int]:
        return self.position, self.number


class EventStore:
    """Reads what happened, claims and moves cursors."""

    def __init__(self, store: Store, log: EvidenceLog) -> None:
        self._store = store
        self._log = log

    # ── cursors ───────────────────────────────────────────────────────────────────────────────────────────────────

    def follow(self, wanted: Collection[tuple[str, str]], streams: Mapping[str, int], revision: int) -> None:
        """One cursor for each subscription and stream of this revision of the registry, and no other. A new one begins
        at the stream's end. What a later revision wants is let alone: another program has seen it already."""
        with self._store.reading() as connection:
            held = {(row.subscription, row.stream): row.revision for row in connection.execute(select(event_cursors))}
        gone = {place for place, since in held.items() if place not in wanted and since <= revision}
        if gone or any(place not in held for place in wanted):
            self._store.write(self._follow_in, frozenset(wanted), dict(streams), revision)

    def _follow_in(
        self, connection: Connection, wanted: Collection[tuple[str, str]], streams: Mapping[str, int], revision: int
    ) -> None:
        # One at a time: two nodes may see a new subscription at once.
        self._log.lock(connection)
        held = {(row.subscription, row.stream): row.revision for row in connection.execute(select(event_cursors))}
        for place, since in held.items():
            if place not in wanted and since <= revision:
                connection.execute(delete(event_cursors).where(*_at(*place)))
        rows = [
            {
                "subscription": subscription,
                "stream": stream,
                "revision": revision,
                "position": streams.get(stream, self._log.size(connection) - 1),
                "number": _LAST,
                "turn": 0,
                "free_at": 0,
                "tries": 0,
            }
            for subscription, stream in sorted(wanted)
            if (subscription, stream) not in held
        ]
        if rows:
            connection.execute(insert(event_cursors), rows)

    def cursors(self) -> list[Cursor]:
        with self._store.reading() as connection:
            rows = connection.execute(
                select(event_cursors).order_by(event_cursors.c.subscription, event_cursors.c.stream)
            )
            return [_cursor(row) for row in rows]

    def claim(self, cursor: Cursor, now: datetime, lease: timedelta) -> bool:
        """Have it for the time of a lease; False when somebody else was first. Its turn is one more then."""
        return self._store.write(self._claim_in, cursor, now, lease)

    def _claim_in(self, connection: Connection, cursor: Cursor, now: datetime, lease: timedelta) -> bool:
        values = {"turn": cursor.turn + 1, "free_at": to_micros(now + lease)}
        return self._changed(connection, cursor, cursor.turn, values)

    def keep(
        self, cursor: Cursor, place: tuple[int, int], *, free_at: datetime, tries: int = 0, problem: str | None = None
    ) -> bool:
        """End the turn of a claimed cursor: everything up to this place is told. False when its lease ran out and
        somebody else has it; nothing is written then."""
        return self._store.write(self._keep_in, cursor, place, free_at, tries, problem)

    def _keep_in(
        self,
        connection: Connection,
        cursor: Cursor,
        place: tuple[int, int],
        free_at: datetime,
        tries: int,
        problem: str | None,
    ) -> bool:
        values = {
            "position": place[0],
            "number": place[1],
            "free_at": to_micros(free_at),
            "tries": tries,
            "problem": problem,
        }
        return self._changed(connection, cursor, cursor.turn + 1, values)

    def _changed(self, connection: Connection, cursor: Cursor, turn: int, values: Mapping[str, Any]) -> bool:
        held = (*_at(cursor.subscription, cursor.stream), event_cursors.c.turn == turn)
        return bool(connection.execute(update(event_cursors).where(*held).values(**values)).rowcount)

    # ── what was said of dossiers ─────────────────────────────────────────────────────────────────────────────────

    def said_since(self, place: tuple[int, int], most: int) -> tuple[list[Said], tuple[int, int]]:
        """The words on status, due date and holder after this place, in their order, and the place up to which these
        are all."""
        with self._store.reading() as connection:
            # First the end: what stands before it is all on disk, whatever comes between these questions.
            end = self._log.size(connection) - 1
            if end <= place[0]:
                return [], place
            found = [
                *self._said(connection, _message_place(), place, end, most, dossier_events.c.position.is_(None)),
                *self._said(connection, _answer_place(), place, end, most, dossier_events.c.position.is_not(None)),
            ]
            rows = sorted(found, key=_place_of)[:most]
            said = self._with_parties(connection, rows)
        return said, (said[-1].place if len(said) == most else (end, _LAST))

    def _said(
        self,
        connection: Connection,
        columns: tuple[Column[Any], Column[Any]],
        after: tuple[int, int],
        end: int,
        most: int,
        kind: ColumnElement[bool],
    ) -> Sequence[Row[Any]]:
        position = columns[0]
        query = (
            _words()
            # The first is for the index, the second for the rows of the first position.
            .where(position >= after[0], position <= end, tuple_(*columns) > tuple_(*after), kind)
            .order_by(*columns)
            .limit(most)
        )
        return connection.execute(query).all()

    def said_before(self, codes: Collection[str], place: tuple[int, int]) -> list[Said]:
        """The words on a dossier with these codes before this place, in their order."""
        query = (
            _words()
            .where(dossier_events.c.dossier.in_(codes), dossier_events.c.exchange_id <= place[0])
            .order_by(dossier_events.c.exchange_id.desc(), dossier_events.c.number.desc())
            .limit(MOST_EARLIER)
        )
        with self._store.reading() as connection:
            rows = [row for row in connection.execute(query).all() if _place_of(row) < place]
            return self._with_parties(connection, sorted(rows, key=_place_of))

    def _with_parties(self, connection: Connection, rows: Sequence[Row[Any]]) -> list[Said]:
        receivers: dict[int, set[str]] = defaultdict(set)
        query = select(deliveries.c.exchange_id, deliveries.c.receiver)
        for ids in _in_parts(sorted({row.exchange_id for row in rows})):
            for exchange_id, receiver in connection.execute(query.where(deliveries.c.exchange_id.in_(ids))):
                receivers[exchange_id].add(receiver)
        return [_said_of(row, receivers[row.exchange_id]) for row in rows]


#: Nothing of a position has a higher number.
_LAST = 2**31 - 1


def _words() -> Select[Any]:
    said = dossier_events.c
    return (
        select(
            *(said.exchange_id, said.number, said.position, said.dossier, said.unit, said.at, said.status, said.due),
            *(said.holder, said.procedure),
            *(exchanges.c[name] for name in ("message_id", "service", "sender", "sender_system", "traceparent")),
        )
        .join(exchanges, exchanges.c.id == said.exchange_id)
        .where(or_(said.status.is_not(None), said.due.is_not(None), said.holder.is_not(None)))
    )


def _message_place() -> tuple[Column[Any], Column[Any]]:
    return dossier_events.c.exchange_id, dossier_events.c.number


def _answer_place() -> tuple[Column[Any], Column[Any]]:
    return dossier_events.c.position, dossier_events.c.number


def _place_of(row: Row[Any]) -> tuple[int, int]:
    return row.exchange_id if row.position is None else row.position, row.number


def _in_parts(ids: Sequence[int]) -> Iterable[Sequence[int]]:
    """A statement takes some hundred parameters on any store."""
    return (ids[first : first + 500] for first in range(0, len(ids), 500))


def _at(subscription: str, stream: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return event_cursors.c.subscription == subscription, event_cursors.c.stream == stream


def _cursor(row: Row[Any]) -> Cursor:
    return Cursor(
        subscription=row.subscription,
        stream=row.stream,
        position=row.position,
        number=row.number,
        turn=row.turn,
        free_at=from_micros(row.free_at),
        tries=row.tries,
        problem=row.problem,
    )


def _said_of(row: Row[Any], receivers: Collection[str]) -> Said:
    position, number = _place_of(row)
    return Said(
        position=position,
        number=number,
        message_id=MessageId.unchecked(row.message_id),
        service=ServiceCode.unchecked(row.service),
        sender=AgencyCode.unchecked(row.sender),
        sender_system=SystemCode.unchecked(row.sender_system),
        receivers=frozenset(map(AgencyCode.unchecked, receivers)),
        traceparent=row.traceparent,
        dossier=row.dossier,
        unit=row.unit,
        at=from_micros(row.at),
        status=row.status,
        due=None if row.due is None else from_micros(row.due),
        holder=row.holder,
        procedure=row.procedure,
    )
