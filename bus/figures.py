"""Figures of flows, by hours and days, and of months: what the console shows of a million messages costs as much as of
a thousand.

::

    flow_hours    added up in the ledger's own transactions         40 days
    flow_days     whole days of Vietnam, added up once a day        for good
    month_figures of dossiers, made by the worker (bus/monthly.py)  for good

A span is read from days as far as they were added up, and from hours at its edges and after them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, text

from bus.ledger import BUCKETS_MS
from bus.retention import OUT_OF_TURN, first_since
from bus.store import Store
from bus.tables import exchanges, flow_days, flow_hours, month_figures, months_made
from schemas.moment import beginning_of, from_micros, hour_of, to_micros, utc_now

_HOUR: Final = timedelta(hours=1)
#: Vietnam's midnight in hours since 1970: seven hours ahead, no summer time.
_AHEAD: Final = 7
_HOURS_A_DAY: Final = 24
#: Hours are kept for as many days after they were added up.
KEPT_DAYS: Final = 40
#: A day is added up when it is over for an hour: clocks differ a little.
_SETTLED_AFTER: Final = _HOUR
#: What is counted of messages, beside the buckets of their latencies.
OUTCOMES: Final = ("accepted", "delivered", "retried", "died", "refused")
_BOUNDS: Final = tuple(float(bound) for bound in BUCKETS_MS)


@dataclass(slots=True, kw_only=True)
class Counts:
    """What happened on some flows in some time."""

    accepted: int = 0
    delivered: int = 0
    #: Attempts that failed and were put off.
    retried: int = 0
    died: int = 0
    refused: int = 0
    #: Upper bound in milliseconds → messages delivered within it, and within no smaller one; inf: the rest.
    took: dict[float, int] = field(default_factory=dict)

    def add(self, what: str, value: int) -> None:
        if (bound := _bound(what)) is not None:
            self.took[bound] = self.took.get(bound, 0) + value
        elif what in OUTCOMES:
            setattr(self, what, getattr(self, what) + value)

    def numbers(self) -> Iterator[tuple[str, int]]:
        """What :meth:`add` was given."""
        yield from ((name, value) for name in OUTCOMES if (value := getattr(self, name)))
        for bound, value in self.took.items():
            yield f"ms <= {'+Inf' if bound == float('inf') else int(bound)}", value

    def __iadd__(self, other: Counts) -> Counts:
        for name in OUTCOMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for bound, value in other.took.items():
            self.took[bound] = self.took.get(bound, 0) + value
        return self

    @property
    def failed_percent(self) -> float | None:
        """Given up or refused, among all that came to an end; None where nothing did."""
        ended = self.delivered + self.died + self.refused
        return None if not ended else 100 * (self.died + self.refused) / ended

    def percentile_ms(self, percent: float = 95) -> float | None:
        """The time within which so many percent were delivered, between the bounds of its bucket; inf: longer than the
        longest bound; None: nothing was delivered."""
        total = sum(self.took.values())
        if not total:
            return None
        wanted, seen, below = total * percent / 100, 0, 0.0
        for bound in (*_BOUNDS, float("inf")):
            inside = self.took.get(bound, 0)
            if inside and seen + inside >= wanted:
                return bound if bound == float("inf") else below + (bound - below) * (wanted - seen) / inside
            seen, below = seen + inside, bound
        return float("inf")


@lru_cache(maxsize=256)
def _bound(what: str) -> float | None:
    return float(what[6:].replace("+Inf", "inf")) if what.startswith("ms <= ") else None


class Route(NamedTuple):
    """Who sends what to which system. ``system`` is empty of what was refused."""

    sender: str
    service: str
    system: str

    @property
    def receiver(self) -> str:
        """The agency of the system."""
        return self.system.partition("/")[0]

    def concerns(self, agency: str) -> bool:
        """Is it the agency's affair?"""
        return agency in (self.sender, self.receiver)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What passed on one route."""

    route: Route
    counts: Counts

    @property
    def sender(self) -> str:
        return self.route.sender

    @property
    def service(self) -> str:
        return self.route.service

    @property
    def system(self) -> str:
        return self.route.system

    @property
    def receiver(self) -> str:
        return self.route.receiver


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """One hour of the strip."""

    begins: datetime
    counts: Counts


class Figures:
    """Reads figures, and adds hours up into days. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def flows(self, since: datetime, until: datetime | None = None, agency: str | None = None) -> list[Flow]:
        """The flows that had something to do in that time, as whole hours; ``agency``: only those of its affair."""
        with self._store.reading(unhurried=True) as connection:
            found = counts_by_route(connection, since, until)
        return [
            Flow(route=route, counts=counts)
            for route, counts in sorted(found.items())
            if agency is None or route.concerns(agency)
        ]

    def days(self, since: datetime, until: datetime) -> Iterator[tuple[datetime, str, str, str, int]]:
        """Rows of (Vietnam's day, sender, system, what, value) between two of its midnights, however many."""
        with self._store.reading(unhurried=True) as connection:
            for day, sender, system, what, value in _by_days(connection, _day(hour_of(since)), _day(hour_of(until))):
                yield beginning_of(_first_hour(day)), sender, system, what, value

    # ── days ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def add_up(self, connection: Connection, now: datetime) -> int:
        """Add up the days that are over, and forget one day of hours that are old; how many days. In the caller's
        transaction, once for each day of all processes (a duty)."""
        today = _day(hour_of(now - _SETTLED_AFTER))
        done = connection.execute(select(func.max(flow_days.c.day))).scalar()
        earliest = connection.execute(select(func.min(flow_hours.c.hour))).scalar()
        if earliest is None:
            return 0
        first = _day(earliest) if done is None else int(done) + 1
        if first < today:
            bounds = {"first": _first_hour(first), "end": _first_hour(today)}
            connection.execute(_ADD_UP, bounds)
        if earliest < _first_hour(today - KEPT_DAYS):
            old = _first_hour(_day(earliest) + 1)
            connection.execute(delete(flow_hours).where(flow_hours.c.hour < old))
        return max(0, today - first)

    # ── months ────────────────────────────────────────────────────────────────────────────────────────────────────

    def first_message_at(self) -> datetime | None:
        """When the oldest message of the store came."""
        query = select(exchanges.c.received_at).order_by(exchanges.c.id).limit(1)
        with self._store.reading() as connection:
            received = connection.execute(query).scalar()
        return None if received is None else from_micros(received)

    def months(self) -> dict[str, MonthMade]:
        """The months that were made, by name (``2026-11``)."""
        with self._store.reading() as connection:
            return {
                row.month: MonthMade(made_at=from_micros(row.made_at), took=timedelta(milliseconds=row.took_ms))
                for row in connection.execute(select(months_made).order_by(months_made.c.month.desc()))
            }

    def month(self, month: str, kind: str, unit: str | None = None) -> list[MonthFigures]:
        """What was made of a month, of one unit or of all; nothing where it was not made."""
        query = select(month_figures).where(month_figures.c.month == month, month_figures.c.kind == kind)
        if unit is not None:
            query = query.where(month_figures.c.unit == unit)
        with self._store.reading() as connection:
            rows = connection.execute(query.order_by(month_figures.c.unit, month_figures.c.name)).all()
        return [MonthFigures(kind=kind, unit=row.unit, name=row.name, numbers=json.loads(row.figures)) for row in rows]

    def keep_month(self, month: str, rows: Sequence[MonthFigures], made: MonthMade) -> None:
        """In place of what was made of it before."""
        self._store.write(_keep_month, month, rows, made)

    def said_of_money_and_post(self, since: datetime, until: datetime) -> Iterable[Any]:
        """What messages of that time said of payments and parcels, in the order of acceptance: rows with ``unit``,
        ``procedure``, ``payment_reference``, ``amount``, ``payment_state``, ``parcel``, ``parcel_state``,
        ``exchange_id``."""
        with self._store.reading(unhurried=True) as connection:
            bounds = {
                "low": first_since(connection, since - OUT_OF_TURN),
                "high": first_since(connection, until + OUT_OF_TURN),
                "since": to_micros(since),
                "until": to_micros(until),
            }
            yield from connection.execute(_MONEY_AND_POST, bounds, execution_options={"yield_per": 2000})


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthMade:
    made_at: datetime
    took: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthFigures:
    """Some numbers of a month: ``dossiers`` of a unit's procedure, ``flows`` of an agency's service, ``days`` of an
    agency's day (of the whole province where the unit is empty)."""

    kind: str
    unit: str
    name: str
    numbers: Mapping[str, int]


def _keep_month(connection: Connection, month: str, rows: Sequence[MonthFigures], made: MonthMade) -> None:
    connection.execute(delete(month_figures).where(month_figures.c.month == month))
    connection.execute(delete(months_made).where(months_made.c.month == month))
    values = [
        {"month": month, "kind": row.kind, "unit": row.unit, "name": row.name, "figures": json.dumps(dict(row.numbers))}
        for row in rows
    ]
    if values:
        connection.execute(insert(month_figures), values)
    took = made.took // timedelta(milliseconds=1)
    connection.execute(insert(months_made).values(month=month, made_at=to_micros(made.made_at), took_ms=took))


def counts_by_route(connection: Connection, since: datetime, until: datetime | None = None) -> dict[Route, Counts]:
    """The routes on which something happened in that time, as whole hours."""
    first, end = hour_of(since), hour_of((until or utc_now()) + _HOUR - timedelta(microseconds=1))
    first_day, end_day = _whole_days(connection, first, end)
    if first_day < end_day:
        spans = [
            (flow_days, flow_days.c.day, first_day, end_day),
            (flow_hours, flow_hours.c.hour, first, _first_hour(first_day)),
            (flow_hours, flow_hours.c.hour, _first_hour(end_day), end),
        ]
    else:
        spans = [(flow_hours, flow_hours.c.hour, first, end)]
    found: dict[Route, Counts] = defaultdict(Counts)
    for table, at, begin, stop in spans:
        if begin < stop:
            columns = (table.c.sender, table.c.service, table.c.system, table.c.what)
            query = select(*columns, func.sum(table.c.value)).where(at >= begin, at < stop).group_by(*columns)
            for sender, service, system, what, value in connection.execute(query):
                found[Route(sender, service, system)].add(what, int(value))
    return found


def _by_days(connection: Connection, first: int, end: int) -> list[tuple[int, str, str, str, int]]:
    """Rows of (day, sender, system, what, value)."""
    _, added_up = _whole_days(connection, _first_hour(first), _first_hour(end))
    days, hours = flow_days.c, flow_hours.c
    query = (
        select(days.day, days.sender, days.system, days.what, func.sum(days.value))
        .where(days.day >= first, days.day < added_up)
        .group_by(days.day, days.sender, days.system, days.what)
    )
    rows = [(int(row[0]), *row[1:4], int(row[4])) for row in connection.execute(query)]
    query = (
        select(hours.hour, hours.sender, hours.system, hours.what, func.sum(hours.value))
        .where(hours.hour >= _first_hour(max(first, added_up)), hours.hour < _first_hour(end))
        .group_by(hours.hour, hours.sender, hours.system, hours.what)
    )
    rows += [(_day(int(row[0])), *row[1:4], int(row[4])) for row in connection.execute(query)]
    return rows


def _whole_days(connection: Connection, first: int, end: int) -> tuple[int, int]:
    """The days between two hours that were added up: first, and after the last."""
    done = connection.execute(select(func.max(flow_days.c.day))).scalar()
    first_day = _day(first + _HOURS_A_DAY - 1)
    return first_day, max(first_day, min(_day(end), 0 if done is None else int(done) + 1))


def _day(hour: int) -> int:
    """The day in Vietnam, counted from 1970."""
    return (hour + _AHEAD) // _HOURS_A_DAY


def _first_hour(day: int) -> int:
    return day * _HOURS_A_DAY - _AHEAD


_ADD_UP: Final = text(
    f"INSERT INTO flow_days (day, sender, service, system, what, value) "  # noqa: S608 - numbers of ours
    f"SELECT (hour + {_AHEAD}) / {_HOURS_A_DAY}, sender, service, system, what, SUM(value) FROM flow_hours "
    f"WHERE hour >= :first AND hour < :end GROUP BY 1, 2, 3, 4, 5"
)

_MONEY_AND_POST: Final = text(
    """
    SELECT said.exchange_id, said.dossier, said.payment_reference, said.amount, said.payment_state, said.parcel,
        said.parcel_state,
        COALESCE(said.unit, (SELECT other.unit FROM dossier_events AS other
            WHERE other.dossier = said.dossier AND other.unit IS NOT NULL ORDER BY other.exchange_id LIMIT 1)) AS unit,
        COALESCE(said.procedure, (SELECT other.procedure FROM dossier_events AS other
            WHERE other.dossier = said.dossier AND other.procedure IS NOT NULL
            ORDER BY other.exchange_id LIMIT 1)) AS procedure
    FROM dossier_events AS said
    WHERE said.exchange_id >= :low AND said.exchange_id < :high AND said.at >= :since AND said.at < :until
        AND (said.payment_reference IS NOT NULL OR said.payment_state IS NOT NULL OR said.parcel IS NOT NULL)
    ORDER BY said.exchange_id, said.number
    """
)
