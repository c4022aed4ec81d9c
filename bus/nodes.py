"""What the processes of one bus tell each other through the store: who lives, whose breakers rest, who may try a
receiver again, who does a periodic duty. The SQL of it; what follows from it is in :mod:`bus.cluster`.

Nobody leads: each process writes its own row, and what only one may have is won by an UPDATE that names who has it now.
Thread-safe; several processes may share one store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Row, delete, inspect, or_, select, text, update

from bus.store import Store
from bus.tables import breakers, duties, nodes, used_proofs
from schemas.identifiers import SystemCode
from schemas.moment import from_micros, to_micros

T = TypeVar("T")


class Role(StrEnum):
    """What a process does."""

    SERVE = "serve"
    WORK = "work"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """A process as it last told of itself."""

    id: str
    role: Role
    host: str
    process: int
    version: str
    #: The newest revision of the tables that its program knows.
    revision: str
    started_at: datetime
    beat_at: datetime
    beats: int
    #: The receiving systems that it has called lately.
    uses: frozenset[SystemCode] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerNews:
    """What one process has to tell of its breakers."""

    #: System → the name of this opening.
    opened: Mapping[SystemCode, str] = field(default_factory=dict)
    closed: frozenset[SystemCode] = frozenset()
    #: Tries that it was given and did not make.
    unused: frozenset[SystemCode] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.opened or self.closed or self.unused)


class Opening(NamedTuple):
    """That a circuit breaker opened."""

    name: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What all of them have told, at one moment."""

    nodes: Sequence[NodeRecord]
    #: System with an open breaker → the name of the opening.
    open: Mapping[SystemCode, str]


class NodeStore:
    """Reads and writes what nodes tell. Costs follow the number of nodes, not of messages."""

    #: Expired proofs that one tidying removes at most: it must not hold the writers up.
    MOST_TIDIED = 5000

    def __init__(self, store: Store) -> None:
        self._store = store

    # ── telling ───────────────────────────────────────────────────────────────────────────────────────────────────

    def beat(self, node: NodeRecord, news: BreakerNews) -> None:
        """Renew a node's row, and tell its news, in one transaction."""
        self._store.write(self._beat_in, node, news)

    def _beat_in(self, connection: Connection, node: NodeRecord, news: BreakerNews) -> None:
        connection.execute(_BEAT, _node_row(node))
        # In one order, so that two nodes with the same news do not wait for each other.
        for system, opening in sorted(news.opened.items()):
            row = {"system": system, "opening": opening, "opened_at": to_micros(node.beat_at)}
            connection.execute(_OPEN, row)
        for system in sorted(news.closed):
            connection.execute(delete(breakers).where(breakers.c.system == system))
        for system in sorted(news.unused):
            mine = (breakers.c.system == system, breakers.c.probe_node == node.id)
            connection.execute(update(breakers).where(*mine).values(probe_node=None, probe_until=None))

    def leave(self, node_id: str) -> None:
        """A node ends: its row goes, and so does its right to try a receiver."""
        self._store.write(self._leave_in, node_id)

    def _leave_in(self, connection: Connection, node_id: str) -> None:
        connection.execute(
            update(breakers).where(breakers.c.probe_node == node_id).values(probe_node=None, probe_until=None)
        )
        connection.execute(delete(nodes).where(nodes.c.id == node_id))

    def look(self) -> Look:
        """Everything that nodes have told, by one read of two small tables."""
        with self._store.reading() as connection:
            found = [_node(row) for row in connection.execute(select(nodes).order_by(nodes.c.id))]
            openings = open_breakers(connection)
        return Look(nodes=found, open={system: opening.name for system, opening in openings.items()})

    def look_if_any(self) -> Look:
        """The same of a store that may be older than the roll of nodes."""
        with self._store.reading() as connection:
            known = inspect(connection).has_table(nodes.name)
        return self.look() if known else Look(nodes=[], open={})

    # ── what only one may have ────────────────────────────────────────────────────────────────────────────────────

    def claim_probe(
        self, system: SystemCode, node_id: str, living: Collection[str], now: datetime, lease: timedelta
    ) -> bool:
        """May this node try a system whose breaker has rested? One at a time may, of all nodes.

        The right ends with the lease, with the node that has it (one that is not among ``living``), and when the
        breaker opens anew.
        """
        return self._store.write(self._claim_probe_in, system, node_id, living, now, lease)

    def _claim_probe_in(
        self, connection: Connection, system: SystemCode, node_id: str, living: Collection[str], now: datetime,
        lease: timedelta,
    ) -> bool:  # fmt: skip
        free = or_(
            breakers.c.probe_node.is_(None),
            breakers.c.probe_node == node_id,
            breakers.c.probe_node.not_in(list(living)),
            breakers.c.probe_until < to_micros(now),
            breakers.c.probe_until > to_micros(now + 2 * lease),  # of a clock that was wrong
        )
        claimed = connection.execute(
            update(breakers)
            .where(breakers.c.system == system, free)
            .values(probe_node=node_id, probe_until=to_micros(now + lease))
        )
        if claimed.rowcount == 1:
            return True
        known = connection.execute(select(breakers.c.system).where(breakers.c.system == system)).first()
        return known is None  # closed meanwhile: nobody need ask

    def in_turn(
        self, duty: str, node_id: str, now: datetime, period: timedelta, do: Callable[[Connection], T]
    ) -> T | None:
        """Do a periodic duty unless a node has done it within the period: None then, and it cost one look-up.

        Who may, and what was done, are one transaction: a duty that fails is nobody's, and the next one tries.
        """
        with self._store.reading() as connection:
            until = connection.execute(select(duties.c.until).where(duties.c.name == duty)).scalar()
        if until is not None and _is_kept(until, now, period):
            return None
        return self._store.write(self._in_turn_in, duty, node_id, now, period, do)

    def _in_turn_in(
        self, connection: Connection, duty: str, node_id: str, now: datetime, period: timedelta,
        do: Callable[[Connection], T],
    ) -> T | None:  # fmt: skip
        values = {"node": node_id, "until": to_micros(now + period)}
        over = or_(duties.c.until <= to_micros(now), duties.c.until > to_micros(now + 2 * period))
        taken = connection.execute(update(duties).where(duties.c.name == duty, over).values(**values)).rowcount
        if not taken:
            taken = connection.execute(_FIRST_TIME, {"name": duty, **values}).rowcount
        return do(connection) if taken else None

    def once_a_period(
        self, duty: str, node_id: str, now: datetime, seconds: float, do: Callable[[Connection], T]
    ) -> T | None:
        """The same for a duty that every node looks at once in so many seconds."""
        # A little less than the period: who looks once a period must not come just too early each time.
        return self.in_turn(duty, node_id, now, timedelta(seconds=seconds * 0.9), do)

    # ── tidying ───────────────────────────────────────────────────────────────────────────────────────────────────

    def tidy(self, connection: Connection, now: datetime, silent_for: timedelta) -> int:
        """Forget nodes that were silent for so long and proofs that have expired; how many rows. In the caller's
        transaction. A node that lives after all writes its row anew."""
        gone = connection.execute(delete(nodes).where(nodes.c.beat_at < to_micros(now - silent_for))).rowcount
        expired = select(used_proofs.c.proof).where(used_proofs.c.expires_at < to_micros(now)).limit(self.MOST_TIDIED)
        removed = connection.execute(delete(used_proofs).where(used_proofs.c.proof.in_(expired))).rowcount
        return int(gone + removed)


def open_breakers(connection: Connection) -> dict[SystemCode, Opening]:
    """The systems whose circuit breaker is open, in their order."""
    query = select(breakers.c.system, breakers.c.opening, breakers.c.opened_at).order_by(breakers.c.system)
    return {
        SystemCode.unchecked(row.system): Opening(row.opening, from_micros(row.opened_at))
        for row in connection.execute(query)
    }


def _is_kept(until: int, now: datetime, period: timedelta) -> bool:
    return to_micros(now) < until <= to_micros(now + 2 * period)  # later than that: of a clock that was wrong


def _node_row(node: NodeRecord) -> dict[str, Any]:
    return {
        "id": node.id,
        "role": node.role.value,
        "host": node.host,
        "process": node.process,
        "version": node.version,
        "revision": node.revision,
        "started_at": to_micros(node.started_at),
        "beat_at": to_micros(node.beat_at),
        "beats": node.beats,
        "uses": json.dumps(sorted(node.uses)),
    }


def _node(row: Row[Any]) -> NodeRecord:
    return NodeRecord(
        id=row.id,
        role=Role(row.role),
        host=row.host,
        process=row.process,
        version=row.version,
        revision=row.revision,
        started_at=from_micros(row.started_at),
        beat_at=from_micros(row.beat_at),
        beats=row.beats,
        uses=frozenset(map(SystemCode.unchecked, json.loads(row.uses))),
    )


_BEAT = text(
    "INSERT INTO nodes (id, role, host, process, version, revision, started_at, beat_at, beats, uses) "
    "VALUES (:id, :role, :host, :process, :version, :revision, :started_at, :beat_at, :beats, :uses) "
    "ON CONFLICT (id) DO UPDATE SET beat_at = excluded.beat_at, beats = excluded.beats, uses = excluded.uses"
)

_OPEN = text(
    "INSERT INTO breakers (system, opening, opened_at) VALUES (:system, :opening, :opened_at) "
    "ON CONFLICT (system) DO UPDATE SET opening = excluded.opening, opened_at = excluded.opened_at, "
    "probe_node = NULL, probe_until = NULL"
)

_FIRST_TIME = text("INSERT INTO duties (name, node, until) VALUES (:name, :node, :until) ON CONFLICT (name) DO NOTHING")
