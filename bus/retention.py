"""How long bodies and events are kept, and where PostgreSQL keeps them: the tables that grow without bound, in parts.

::

    payloads, dossier_events   by exchange id       0 ──── part ────▶ n ──── part ────▶ 2n ── made ahead ──▶ …
    replies, attempts          by delivery id       the same parts, 1024 delivery ids to an exchange id

Ids grow with time, so a part is a stretch of time; but where in the ids a month will begin is not known before it does,
and the bounds of a part must be known before the first row comes. So a part is a number of ids, about those of a month,
and it goes in one piece when its last message is older than the policy says. Where traffic is so thin that a part lasts
much longer, its rows are deleted by themselves a month later; on SQLite, which knows no parts, they always are.

What goes are bodies and events. Exchanges, their manifests and receipts, and all evidence stay, and so does the body of
whatever may still be delivered: proofs verify without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select, text

from bus.store import Store
from bus.tables import PARTITIONED, RECEIVERS_PER_EXCHANGE, exchanges
from schemas.moment import VIETNAM, to_micros
from security.evidence.log import EvidenceLog

#: The fewest exchange ids of a part: some weeks of a province.
SMALLEST_PART: Final = 1 << 22
#: Parts that a restore makes of one table: a query that knows no id looks into each.
_MOST_AT_ONCE: Final = 50
#: Rows deleted in one transaction: writers wait for no more than these.
_ROWS_AT_ONCE: Final = 500
#: How far ids may be out of step with the moments of acceptance: writers wait for one another, clocks are set.
OUT_OF_TURN: Final = timedelta(hours=1)
#: Of PostgreSQL's advisory locks: one node at a time keeps house, any node may.
_HOUSEKEEPING: Final = 7_283_001
#: Making and dropping parts stops all writers: not for long. What does not get its lock comes again in a minute.
_LOCK_PATIENCE: Final = "SET LOCAL lock_timeout = '2s'"

_BODIES: Final = ("payloads", "replies")
_EVENTS: Final = ("attempts", "dossier_events")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The rows of one table whose exchange ids are in ``[first, end)``."""

    table: str
    name: str
    first: int
    end: int


class Retention:
    """Makes parts ahead of their time, and erases what is older than the policy. Any number of nodes may call it."""

    def __init__(self, store: Store, log: EvidenceLog, *, bodies_months: int, events_months: int) -> None:
        """Months: how many whole ones beside the current one are kept; 0: all of them, for ever."""
        self._store = store
        self._log = log
        self._months = dict.fromkeys(_BODIES, bodies_months) | dict.fromkeys(_EVENTS, events_months)

    def make_room(self, now: datetime) -> int:
        """See to it that two parts lie ahead of the newest message; how many were made. SQLite has no parts."""
        return 0 if self._store.is_sqlite else self._store.write(self._make_room_in, now)

    def _make_room_in(self, connection: Connection, now: datetime) -> int:
        if not _our_turn(connection):
            return 0
        head = self._log.size(connection)
        size = max(SMALLEST_PART, head - first_since(connection, now - timedelta(days=30)))
        made = 0
        for table in PARTITIONED:
            end = max((part.end for part in _parts(connection, table)), default=0)
            while end < head + size:
                self._log.lock(connection)  # nobody writes while a part is made, so nobody can stand in our way
                first = max(end, _end_of_rest(connection, table))
                end = first + size
                _make_part(connection, table, first, end)
                made += 1
        return made

    def erase(self, now: datetime) -> dict[str, int]:
        """Table → rows or parts erased, where any were. Short transactions; nothing that is still open goes."""
        erased: dict[str, int] = {}
        for table, months in self._months.items():
            if months:
                number = self._erase_from(table, start_of_month(now, months), start_of_month(now, months + 1))
                if number:
                    erased[table] = number
        return erased

    def _erase_from(self, table: str, kept_from: datetime, surely_kept_from: datetime) -> int:
        with self._store.reading(unhurried=True) as connection:
            end = first_since(connection, kept_from - OUT_OF_TURN)
            parts = [] if self._store.is_sqlite else list(_parts(connection, table))
            whole = [part for part in parts if part.end <= end and not _is_open(connection, part)]
            if not self._store.is_sqlite:
                end = first_since(connection, surely_kept_from - OUT_OF_TURN)
        dropped = sum(self._store.write(_drop_part, part) for part in whole)
        return dropped + self._erase_rows(table, end)

    def _erase_rows(self, table: str, end: int) -> int:
        deleted, after = 0, -1
        while True:
            keys = self._store.write(_erase_some, table, after, end)
            if not keys:
                return deleted
            deleted, after = deleted + len(keys), keys[-1]


def start_of_month(now: datetime, months_ago: int) -> datetime:
    """The first moment of that month, in Vietnam."""
    local = now.astimezone(VIETNAM)
    month = local.year * 12 + local.month - 1 - months_ago
    return local.replace(
        year=month // 12, month=month % 12 + 1, day=1, hour=0, minute=0, second=0, microsecond=0, fold=0
    )


def first_since(connection: Connection, moment: datetime) -> int:
    """The id from which on messages are of this moment or later. Ids grow with time: halving finds it in some
    dozens of looks at the primary key, and no index on moments must be kept for it."""
    low, high = 0, (connection.execute(select(func.max(exchanges.c.id))).scalar() or 0) + 1
    while low < high:
        middle = (low + high) // 2
        found = connection.execute(
            select(exchanges.c.id, exchanges.c.received_at)
            .where(exchanges.c.id >= middle)
            .order_by(exchanges.c.id)
            .limit(1)
        ).first()
        if found is None or found.received_at >= to_micros(moment):
            high = middle
        else:
            low = found.id + 1
    return low


# ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

_PARTS = text(
    "SELECT part.relname, pg_get_expr(part.relpartbound, part.oid) FROM pg_inherits "
    "JOIN pg_class AS part ON part.oid = inhrelid WHERE inhparent = CAST(:parent AS regclass) ORDER BY part.relname"
)
_BOUNDS = re.compile(r"FROM \((?:MINVALUE|'?(\d+)'?)\) TO \('?(\d+)'?\)")


def _parts(connection: Connection, table: str) -> Iterator[Part]:
    scale = _ids_to_an_exchange(table)
    for name, bounds in connection.execute(_PARTS, {"parent": table}):
        found = _BOUNDS.search(bounds)
        if found:  # the other one is the rest
            yield Part(table=table, name=name, first=int(found[1] or 0) // scale, end=int(found[2]) // scale)


def _ids_to_an_exchange(table: str) -> int:
    return RECEIVERS_PER_EXCHANGE if PARTITIONED[table] == "delivery_id" else 1


def _make_part(connection: Connection, table: str, first: int, end: int) -> None:
    scale = _ids_to_an_exchange(table)
    connection.execute(
        text(
            f"CREATE TABLE {table}_{first:015d} PARTITION OF {table} "
            f"FOR VALUES FROM ({first * scale}) TO ({end * scale})"
        )
    )


def make_parts(connection: Connection, head: int) -> int:
    """Parts for a store that is filled at once (a restore) with so many ids; returns how many were made. Of a revision
    that knows no parts none are."""
    size, made = max(SMALLEST_PART, head // _MOST_AT_ONCE), 0
    for table in PARTITIONED:
        end = max((part.end for part in _parts(connection, table)), default=head)
        while end < head:
            _make_part(connection, table, end, end + size)
            end, made = end + size, made + 1
    return made


def _end_of_rest(connection: Connection, table: str) -> int:
    """Behind the last exchange whose rows no part was ready for."""
    query = f"SELECT MAX({PARTITIONED[table]}) FROM {table}_rest"  # noqa: S608 - our own tables
    last = connection.execute(text(query)).scalar()
    return 0 if last is None else int(last) // _ids_to_an_exchange(table) + 1


def _drop_part(connection: Connection, part: Part) -> int:
    if not _our_turn(connection) or _is_open(connection, part):
        return 0
    connection.execute(text(f"DROP TABLE {part.name}"))
    return 1


def _our_turn(connection: Connection) -> bool:
    """Whether this transaction is the one that keeps house now."""
    connection.execute(text(_LOCK_PATIENCE))
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _HOUSEKEEPING}).scalar())


#: Each by a small index: what is under way or dead is little beside what is done.
_OPEN_OF_PART = text(
    "SELECT EXISTS (SELECT 1 FROM outbox WHERE delivery_id >= :first AND delivery_id < :end) "
    "OR EXISTS (SELECT 1 FROM deliveries WHERE state = 'delivering' AND id >= :first AND id < :end) "
    "OR EXISTS (SELECT 1 FROM deliveries WHERE ordering_key IS NOT NULL AND state IN ('waiting', 'delivering') "
    "AND id >= :first AND id < :end) "
    "OR EXISTS (SELECT 1 FROM deliveries JOIN exchanges ON exchanges.id = deliveries.exchange_id "
    "WHERE state = 'dead' AND deliveries.id >= :first AND deliveries.id < :end AND pattern = 'one-way')"
)


def _is_open(connection: Connection, part: Part) -> bool:
    """Whether something of this part may still be delivered, or sent again."""
    bounds = {"first": part.first * RECEIVERS_PER_EXCHANGE, "end": part.end * RECEIVERS_PER_EXCHANGE}
    return bool(connection.execute(_OPEN_OF_PART, bounds).scalar())


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _erase_some(connection: Connection, table: str, after: int, end: int) -> list[int]:
    """The keys of the rows that were deleted, in order."""
    key, scale = PARTITIONED[table], _ids_to_an_exchange(table)
    chosen = (
        f"SELECT DISTINCT {key} FROM {table} WHERE {key} > :after AND {key} < :end AND NOT EXISTS ("  # noqa: S608
        f"SELECT 1 FROM deliveries JOIN exchanges ON exchanges.id = deliveries.exchange_id "
        f"WHERE deliveries.exchange_id = {table}.{key} / {scale} AND (deliveries.state IN ('waiting', 'delivering') "
        f"OR (deliveries.state = 'dead' AND exchanges.pattern = 'one-way'))) ORDER BY {key} LIMIT {_ROWS_AT_ONCE}"
    )
    keys = list(connection.execute(text(chosen), {"after": after, "end": end * scale}).scalars())
    if keys:
        delete = f"DELETE FROM {table} WHERE {key} >= :first AND {key} <= :last AND {key} IN ({chosen})"  # noqa: S608
        connection.execute(text(delete), {"first": keys[0], "last": keys[-1], "after": after, "end": end * scale})
    return keys
