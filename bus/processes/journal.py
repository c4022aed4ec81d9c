"""What is on disk of processes: where each stands, what it was given, what it did.

States of a process; every move is an UPDATE that names the turn it belongs to::

    running ──▶ done
       │  └───▶ failed
       └──▶ compensating ──▶ failed

*Compensating*: from where it stands only failure can be reached, and what undoes it is being sent.

A process is claimed for the time of a lease; the claim counts its turn, and a turn that comes back after another claim
changes nothing. Thread-safe; several programs may share one store.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import uuid6

from bus.processes.condition import find, key_text
from bus.store import Store
from bus.tables import (
    delivery_id,
    exchanges,
    payloads,
    process_cursor,
    process_definitions,
    process_inbox,
    process_keys,
    process_steps,
    process_unclaimed,
    processes,
    replies,
)
from schemas.codec import read_json
from schemas.identifiers import AgencyCode, DossierCode, MessageId, ServiceCode
from schemas.moment import from_micros, to_micros
from schemas.problem import Malformed

if TYPE_CHECKING:
    from sqlalchemy import Connection

_CURSOR = "messages"
#: How long a message that no process knew waits for one that learns its reference. Longer than any outage.
_LAID_ASIDE = timedelta(days=30)


class Status(StrEnum):
    """How a process is."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    DONE = "done"
    FAILED = "failed"


_OPEN = (Status.RUNNING.value, Status.COMPENSATING.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest:
    """What one definition listens to."""

    code: str
    version: str
    source: bytes
    start: ServiceCode
    awaited: frozenset[ServiceCode]
    #: Services whose messages are also known by a value, and where in the payload it stands.
    matching: frozenset[tuple[ServiceCode, tuple[str, ...]]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """The right to move a process until its lease runs out, with all that stands about it."""

    id: str
    turn: int
    definition: str
    version: str
    dossier: DossierCode
    status: Status
    state: dict[str, Any] | None
    started_at: datetime
    #: Messages not taken yet, in the order of their acceptance.
    inbox: tuple[tuple[int, ServiceCode], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that a process did."""

    at: datetime
    step: str
    event: str
    service: str = ""
    message_id: str = ""
    problem: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a turn, or a part of it, leaves behind. ``due_at`` None: only a message can move it."""

    status: Status
    state: Mapping[str, Any]
    due_at: datetime | None
    taken: Sequence[int] = ()
    events: Sequence[Event] = ()
    problem: Mapping[str, Any] | None = None
    #: Services and values by which its messages are known besides the dossier.
    keys: frozenset[tuple[str, str]] = frozenset()
    #: False while the turn goes on: the claim is kept.
    over: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """A process as people look at it."""

    id: str
    definition: str
    version: str
    dossier: DossierCode
    status: Status
    started_at: datetime
    ended_at: datetime | None
    due_at: datetime | None
    problem: Mapping[str, Any] | None
    state: Mapping[str, Any] | None
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What an exchange can tell a process: its sender, its body, and the answer to it. None: erased, or none yet."""

    exchange_id: int
    sender: AgencyCode
    body: bytes | None
    reply: bytes | None


class Journal:
    """Reads messages for processes, claims and keeps them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # ── messages ──────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self) -> None:
        """The first time: processes begin with messages from now on, not with all that ever was."""
        self._store.write(self._begin_in)

    def _begin_in(self, connection: Connection) -> None:
        if self._cursor(connection) is None:
            connection.execute(process_cursor.insert().values(name=_CURSOR, exchange_id=_newest(connection)))

    def read(self, interests: Iterable[Interest], now: datetime, most: int = 500) -> int:
        """Give new messages to the processes that they start or that may wait for them; how many were given.

        Each message once, whoever reads: the cursor moves in the same transaction, from a named place.
        """
        with self._store.reading() as connection:
            if self._cursor(connection) == _newest(connection):
                return 0
        return self._store.write(self._read_in, tuple(interests), now, most)

    def _read_in(self, connection: Connection, interests: Sequence[Interest], now: datetime, most: int) -> int:
        start, newest = self._cursor(connection), _newest(connection)
        if start is None or newest <= start:
            return 0
        services = {code for interest in interests for code in (interest.start, *interest.awaited)}
        rows = connection.execute(
            exchanges.select()
            .with_only_columns(exchanges.c.id, exchanges.c.service, exchanges.c.dossier)
            .where(exchanges.c.id > start, exchanges.c.id <= newest, exchanges.c.service.in_(sorted(services)))
            .order_by(exchanges.c.id)
            .limit(most)
        ).all()
        end = rows[-1].id if len(rows) == most else newest
        moved = connection.execute(
            process_cursor.update()
            .where(process_cursor.c.name == _CURSOR, process_cursor.c.exchange_id == start)
            .values(exchange_id=end)
        )
        if moved.rowcount != 1:  # another program has read them
            return 0
        connection.execute(process_unclaimed.delete().where(process_unclaimed.c.at < to_micros(now - _LAID_ASIDE)))
        return sum(self._give(connection, row, interests, now) for row in rows)

    def _give(self, connection: Connection, row: Any, interests: Sequence[Interest], now: datetime) -> int:
        known = connection.execute(processes.select().where(processes.c.dossier == row.dossier)).all()
        by_value = self._known_by_value(connection, row, interests, now)
        given = [
            process.id
            for process in (*known, *(other for other in by_value if other.dossier != row.dossier))
            if process.status in _OPEN
            and any(i.code == process.definition and row.service in i.awaited for i in interests)
        ]
        for interest in interests:
            # Once for a dossier: the notice that starts a process may come twice, under two ids as well.
            if (
                row.dossier
                and interest.start == row.service
                and all(process.definition != interest.code for process in known)
            ):
                given.append(self._start(connection, interest, row.dossier, now))
        for process_id in given:
            connection.execute(
                process_inbox.insert().values(process_id=process_id, exchange_id=row.id, service=row.service)
            )
        if given:
            connection.execute(processes.update().where(processes.c.id.in_(given)).values(due_at=to_micros(now)))
        return len(given)

    def _known_by_value(
        self, connection: Connection, row: Any, interests: Sequence[Interest], now: datetime
    ) -> Sequence[Any]:
        """The processes that know this message by a value of its payload. One that nobody knows is laid aside."""
        places = {at for interest in interests for service, at in interest.matching if service == row.service}
        if not places:
            return ()
        body = connection.execute(payloads.select().where(payloads.c.exchange_id == row.id)).first()
        values = {key_text(find(read_fact(bytes(body.body) if body else None), at)) for at in places} - {""}
        keys = process_keys.select().where(process_keys.c.service == row.service, process_keys.c.value.in_(values))
        ids = {key.process_id for key in connection.execute(keys)}
        for value in values if not ids else ():
            connection.execute(
                process_unclaimed.insert().values(
                    service=row.service, value=value, exchange_id=row.id, at=to_micros(now)
                )
            )
        return connection.execute(processes.select().where(processes.c.id.in_(ids))).all()

    def _start(self, connection: Connection, interest: Interest, dossier: str, now: datetime) -> str:
        of_version = process_definitions.select().where(
            process_definitions.c.code == interest.code, process_definitions.c.version == interest.version
        )
        if connection.execute(of_version).first() is None:
            connection.execute(
                process_definitions.insert().values(
                    code=interest.code, version=interest.version, source=interest.source
                )
            )
        process_id = str(uuid6.uuid7())
        connection.execute(
            processes.insert().values(
                id=process_id,
                definition=interest.code,
                version=interest.version,
                dossier=dossier,
                status=Status.RUNNING.value,
                started_at=to_micros(now),
                due_at=to_micros(now),
                turn=0,
            )
        )
        return process_id

    def _cursor(self, connection: Connection) -> int | None:
        found: int | None = connection.execute(
            process_cursor.select()
            .with_only_columns(process_cursor.c.exchange_id)
            .where(process_cursor.c.name == _CURSOR)
        ).scalar()
        return found

    # ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def claim(self, now: datetime, lease: timedelta, most: int = 20) -> list[Claimed]:
        """Processes that are due and that nobody holds, for the time of a lease, longest due first."""
        with self._store.reading() as connection:
            due = [row.id for row in connection.execute(_due(now, most))]
        return self._store.write(self._claim_in, due, now, lease) if due else []

    def _claim_in(self, connection: Connection, due: Sequence[str], now: datetime, lease: timedelta) -> list[Claimed]:
        claimed = []
        for row in connection.execute(_due(now, len(due)).where(processes.c.id.in_(due))).all():
            moved = connection.execute(
                processes.update()
                .where(processes.c.id == row.id, processes.c.turn == row.turn, processes.c.status.in_(_OPEN))
                .values(turn=row.turn + 1, lease_until=to_micros(now + lease))
            )
            if moved.rowcount == 1:
                claimed.append(_claimed(row, self._inbox(connection, row.id)))
        return claimed

    def _inbox(self, connection: Connection, process_id: str) -> list[Any]:
        waiting = process_inbox.select().where(process_inbox.c.process_id == process_id)
        return list(connection.execute(waiting.order_by(process_inbox.c.exchange_id)))

    def keep(self, claimed: Claimed, progress: Progress) -> bool:
        """Write what was done; False when the claim was no longer held, and nothing is written."""
        return self._store.write(self._keep_in, claimed, progress)

    def _keep_in(self, connection: Connection, claimed: Claimed, progress: Progress) -> bool:
        ended = progress.status.value not in _OPEN
        due_at = None if ended else progress.due_at
        held = processes.select().where(processes.c.id == claimed.id, processes.c.turn == claimed.turn)
        if connection.execute(held).first() is None:
            return False
        self._write_keys(connection, claimed.id, frozenset() if ended else progress.keys)
        seen = {exchange_id for exchange_id, _ in claimed.inbox}
        if not ended and any(row.exchange_id not in seen for row in self._inbox(connection, claimed.id)):
            due_at = claimed.started_at  # a message has come meanwhile
        values: dict[str, Any] = {
            "status": progress.status.value,
            "state": json.dumps(progress.state, ensure_ascii=False),
            "problem": json.dumps(progress.problem) if progress.problem else None,
        }
        if progress.over:
            values |= {"due_at": to_micros(due_at) if due_at else None, "lease_until": None}
        if ended:
            values["ended_at"] = to_micros(progress.events[-1].at)
        moved = connection.execute(
            processes.update().where(processes.c.id == claimed.id, processes.c.turn == claimed.turn).values(**values)
        )
        if moved.rowcount != 1:
            return False
        self._write_events(connection, claimed.id, progress.events)
        done = process_inbox.delete().where(process_inbox.c.process_id == claimed.id)
        if ended:
            connection.execute(done)
        elif progress.taken:
            connection.execute(done.where(process_inbox.c.exchange_id.in_(progress.taken)))
        return True

    def _write_keys(self, connection: Connection, process_id: str, keys: frozenset[tuple[str, str]]) -> None:
        of_process = process_keys.c.process_id == process_id
        known = {(row.service, row.value) for row in connection.execute(process_keys.select().where(of_process))}
        for service, value in known - keys:
            gone = process_keys.delete().where(process_keys.c.service == service, process_keys.c.value == value)
            connection.execute(gone.where(of_process))
        for service, value in keys - known:
            connection.execute(process_keys.insert().values(service=service, value=value, process_id=process_id))
            self._give_laid_aside(connection, process_id, service, value)

    def _give_laid_aside(self, connection: Connection, process_id: str, service: str, value: str) -> None:
        """What came before the process knew that it would be its own: both may stand in one batch after an outage."""
        of_value = (process_unclaimed.c.service == service) & (process_unclaimed.c.value == value)
        known = {row.exchange_id for row in self._inbox(connection, process_id)}
        for row in connection.execute(process_unclaimed.select().where(of_value)).all():
            if row.exchange_id not in known:
                connection.execute(
                    process_inbox.insert().values(process_id=process_id, exchange_id=row.exchange_id, service=service)
                )
        connection.execute(process_unclaimed.delete().where(of_value))

    def _write_events(self, connection: Connection, process_id: str, events: Sequence[Event]) -> None:
        last = connection.execute(
            process_steps.select()
            .with_only_columns(process_steps.c.number)
            .where(process_steps.c.process_id == process_id)
            .order_by(process_steps.c.number.desc())
            .limit(1)
        ).scalar()
        for number, event in enumerate(events, start=1 + (last or 0)):
            connection.execute(
                process_steps.insert().values(
                    process_id=process_id,
                    number=number,
                    at=to_micros(event.at),
                    step=event.step,
                    event=event.event,
                    service=event.service or None,
                    message_id=event.message_id or None,
                    problem=json.dumps(event.problem) if event.problem else None,
                )
            )

    # ── telling ───────────────────────────────────────────────────────────────────────────────────────────────────

    def source_of(self, code: str, version: str) -> bytes | None:
        """The definition as it was when processes began under it."""
        with self._store.reading() as connection:
            row = connection.execute(
                process_definitions.select().where(
                    process_definitions.c.code == code, process_definitions.c.version == version
                )
            ).first()
        return None if row is None else bytes(row.source)

    def learnt_from(self, exchange_ids: Iterable[int]) -> dict[int, Learnt]:
        """What these exchanges can tell."""
        wanted = sorted(set(exchange_ids))
        with self._store.reading() as connection:
            senders = connection.execute(
                exchanges.select()
                .with_only_columns(exchanges.c.id, exchanges.c.sender)
                .where(exchanges.c.id.in_(wanted))
            ).all()
            bodies = connection.execute(payloads.select().where(payloads.c.exchange_id.in_(wanted))).all()
            answers = connection.execute(
                replies.select()
                .with_only_columns(replies.c.delivery_id, replies.c.body)
                .where(replies.c.delivery_id.in_([delivery_id(one, 0) for one in wanted]))
            ).all()
        body_of = {row.exchange_id: bytes(row.body) for row in bodies}
        reply_of = {row.delivery_id: bytes(row.body) for row in answers}
        return {
            row.id: Learnt(
                exchange_id=row.id,
                sender=AgencyCode(row.sender),
                body=body_of.get(row.id),
                reply=reply_of.get(delivery_id(row.id, 0)),
            )
            for row in senders
        }

    def message_id_of(self, exchange_id: int) -> MessageId:
        with self._store.reading() as connection:
            query = exchanges.select().with_only_columns(exchanges.c.message_id).where(exchanges.c.id == exchange_id)
            return MessageId(connection.execute(query).scalar_one())

    def find(self, process_id: str) -> ProcessRecord | None:
        found = self._records(processes.c.id == process_id, most=1)
        return found[0] if found else None

    def of_dossier(self, dossier: DossierCode) -> list[ProcessRecord]:
        """The processes of a dossier, oldest first."""
        return self._records(processes.c.dossier == dossier, most=1000)[::-1]

    def newest(self, most: int, status: Status | None = None) -> list[ProcessRecord]:
        """Newest first."""
        return self._records(processes.c.status == status.value if status else None, most=most)

    def _records(self, condition: Any, *, most: int) -> list[ProcessRecord]:
        query = processes.select().order_by(processes.c.id.desc()).limit(most)
        with self._store.reading() as connection:
            rows = connection.execute(query if condition is None else query.where(condition)).all()
            return [_record(row, _events_of(connection, row.id)) for row in rows]


def read_fact(data: bytes | None) -> Any:
    """What a message says, as far as a process can read it: None when it is not there, nothing of other than JSON."""
    try:
        return None if data is None else read_json(data)
    except Malformed:
        return {}


def _newest(connection: Connection) -> int:
    newest: int | None = connection.execute(
        exchanges.select().with_only_columns(exchanges.c.id).order_by(exchanges.c.id.desc()).limit(1)
    ).scalar()
    return -1 if newest is None else newest


def _due(now: datetime, most: int) -> Any:
    free = processes.c.lease_until.is_(None) | (processes.c.lease_until < to_micros(now))
    return (
        processes.select()
        .where(processes.c.due_at <= to_micros(now), free)
        .order_by(processes.c.due_at, processes.c.id)
        .limit(most)
    )


def _claimed(row: Any, inbox: Sequence[Any]) -> Claimed:
    return Claimed(
        id=row.id,
        turn=row.turn + 1,
        definition=row.definition,
        version=row.version,
        dossier=DossierCode(row.dossier),
        status=Status(row.status),
        state=json.loads(row.state) if row.state else None,
        started_at=from_micros(row.started_at),
        inbox=tuple((each.exchange_id, ServiceCode(each.service)) for each in inbox),
    )


def _events_of(connection: Connection, process_id: str) -> tuple[Event, ...]:
    rows = connection.execute(
        process_steps.select().where(process_steps.c.process_id == process_id).order_by(process_steps.c.number)
    )
    return tuple(
        Event(
            at=from_micros(row.at),
            step=row.step,
            event=row.event,
            service=row.service or "",
            message_id=row.message_id or "",
            problem=json.loads(row.problem) if row.problem else None,
        )
        for row in rows
    )


def _record(row: Any, events: tuple[Event, ...]) -> ProcessRecord:
    return ProcessRecord(
        id=row.id,
        definition=row.definition,
        version=row.version,
        dossier=DossierCode(row.dossier),
        status=Status(row.status),
        started_at=from_micros(row.started_at),
        ended_at=from_micros(row.ended_at) if row.ended_at is not None else None,
        due_at=from_micros(row.due_at) if row.due_at is not None else None,
        problem=json.loads(row.problem) if row.problem else None,
        state=json.loads(row.state) if row.state else None,
        events=events,
    )
