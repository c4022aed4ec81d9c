"""What the first screen tells: who needs help, how each flow goes, what waits and since when. Its SQL, too.

Everything costs the same however many messages there are: figures by the hour are added up as messages pass
(``flow_hours``), and of what waits, died or was refused no more than the :data:`MOST_LOOKED_AT` oldest or newest are
looked at. Where there are more, counts are lower bounds and say so.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, func, literal_column, select

from bus.figures import OUTCOMES, Counts, Flow, Hour, Route
from bus.nodes import Opening, open_breakers
from bus.records import RefusalRecord
from bus.store import Store
from bus.tables import deliveries, exchanges, flow_hours, outbox, refusal_details, refusals
from schemas.identifiers import SystemCode
from schemas.moment import beginning_of, from_micros, hour_of, to_micros

MOST_LOOKED_AT: Final = 5000
#: Groups of refusals whose latest is told with its facts.
_MOST_IN_WORDS: Final = 100
#: Flows that were silent longer are gone from the table.
DAYS_OF_FLOWS: Final = 7
#: A dead delivery died while it was delivered; a refusal's problem says at which of the eight steps it was turned away.
STEPS: Final[Mapping[str, int]] = {
    "malformed": 1,
    "too-large": 1,
    "not-identified": 2,
    "not-permitted": 3,
    "unknown-service": 3,
    "unknown-receiver": 3,
    "too-many": 3,
    "schema-violation": 4,
    "not-found": 4,
    "idempotency-conflict": 5,
}
DELIVERY_STEP: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowNow(Flow):
    """A flow of the last 24 hours, and how it stands."""

    #: Beginning of the last hour in which something came; None: not within a week.
    last_hour: datetime | None = None
    waiting: int = 0
    oldest: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TroubleGroup:
    """Failures with one cause in one flow: dead deliveries, or refusals (``system`` is empty)."""

    route: Route
    step: int
    problem: str
    reason: str
    count: int
    oldest: datetime
    newest: datetime
    #: Of the newest: facts for the wording, and what the receiver said.
    last: Mapping[str, Any] = field(default_factory=dict)
    agencies: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The first screen's figures of one moment, of the whole province."""

    #: Each hour since 1970 → agency, or None for all → what was its affair, without latencies.
    hours: tuple[tuple[int, Mapping[str | None, Counts]], ...]
    flows: tuple[FlowNow, ...]
    dead: tuple[TroubleGroup, ...]
    refused: tuple[TroubleGroup, ...]
    open_breakers: Mapping[SystemCode, Opening]
    #: More waits, died or was refused than was looked at: counts are lower bounds.
    more_waiting: bool = False
    more_dead: bool = False
    more_refused: bool = False

    def by_hour(self, agency: str | None) -> list[Hour]:
        """24 hours, the present one last; ``agency``: what is its affair."""
        return [Hour(begins=beginning_of(hour), counts=of.get(agency) or Counts()) for hour, of in self.hours]


class Overviews:
    """Reads overviews, one after the other: of the hours that are over what they said the first time. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: Hours in which nothing changes any more: up to this one, not including it.
        self._settled: tuple[int, _Passed] | None = None

    def read(self, now: datetime) -> Overview:
        """Of the last 24 hours: from the beginning of the hour 23 hours ago."""
        with self._store.reading() as connection:
            passed = self._passed(connection, hour_of(now))
            waiting, more_waiting = _waiting(connection)
            dead, more_dead = _dead(connection)
            refused, more_refused = _refused(connection, now - timedelta(hours=24))
            resting = open_breakers(connection)
        return Overview(
            hours=tuple(passed.hours.items()),
            flows=tuple(_flows(passed.routes, passed.last, waiting)),
            dead=dead,
            refused=refused,
            open_breakers=resting,
            more_waiting=more_waiting,
            more_dead=more_dead,
            more_refused=more_refused,
        )

    def _passed(self, connection: Connection, present: int) -> _Passed:
        """The hour before this one is read again, too: what ended in its last second may be written in the next."""
        settled = self._settled
        if settled is None or settled[0] != present - 1:
            before = _passed(connection, present - 23, present - 1)
            settled = (present - 1, replace(before, last=_last_hours(connection, present)))
            self._settled = settled
        return settled[1] + _passed(connection, present - 1, present + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passed:
    """What passed in some hours."""

    #: Hour since 1970 → agency, or None for all → what was its affair, without latencies.
    hours: Mapping[int, Mapping[str | None, Counts]]
    routes: Mapping[Route, Counts]
    #: Of each route the last hour in which something came.
    last: Mapping[Route, int]

    def __add__(self, later: _Passed) -> _Passed:
        routes = dict(self.routes)
        for route, counts in later.routes.items():
            routes[route] = Counts()
            routes[route] += self.routes.get(route, Counts())
            routes[route] += counts
        return _Passed(hours={**self.hours, **later.hours}, routes=routes, last={**self.last, **later.last})


def _passed(connection: Connection, first: int, end: int) -> _Passed:
    """From an hour up to another, not including it."""
    hours: dict[int, dict[str | None, Counts]] = {hour: defaultdict(Counts) for hour in range(first, end)}
    routes: dict[Route, Counts] = defaultdict(Counts)
    last: dict[Route, int] = {}
    rows = select(flow_hours).where(flow_hours.c.hour >= first, flow_hours.c.hour < end).order_by(flow_hours.c.hour)
    for hour, sender, service, system, what, value in connection.execute(rows):
        route = Route(sender, service, system)
        routes[route].add(what, value)
        if what in OUTCOMES:
            for agency in {None, sender, route.receiver}:
                hours[hour][agency].add(what, value)
        if what == "accepted":
            last[route] = hour
    return _Passed(hours=hours, routes=routes, last=last)


def _last_hours(connection: Connection, present: int) -> dict[Route, int]:
    columns = (flow_hours.c.sender, flow_hours.c.service, flow_hours.c.system)
    week = (flow_hours.c.hour >= present - DAYS_OF_FLOWS * 24, flow_hours.c.what == "accepted")
    rows = connection.execute(select(*columns, func.max(flow_hours.c.hour)).where(*week).group_by(*columns))
    return {Route(*row[:3]): row[3] for row in rows}


def _waiting(connection: Connection) -> tuple[dict[Route, tuple[int, datetime]], bool]:
    """Of the oldest that have a place in the outbox, whatever their due date: ids grow with time."""
    oldest = (
        select(outbox.c.delivery_id, outbox.c.system).order_by(outbox.c.delivery_id).limit(MOST_LOOKED_AT).subquery()
    )
    rows = connection.execute(
        select(exchanges.c.sender, exchanges.c.service, oldest.c.system, exchanges.c.received_at)
        .join(deliveries, deliveries.c.id == oldest.c.delivery_id)
        .join(exchanges, exchanges.c.id == deliveries.c.exchange_id)
    ).all()
    counts: dict[Route, tuple[int, datetime]] = {}
    for sender, service, system, received_at in rows:
        route, at = Route(sender, service, system), from_micros(received_at)
        count, before = counts.get(route, (0, at))
        counts[route] = (count + 1, min(before, at))
    return counts, len(rows) == MOST_LOOKED_AT


def _dead(connection: Connection) -> tuple[tuple[TroubleGroup, ...], bool]:
    newest = (
        select(deliveries.c.id, deliveries.c.exchange_id, deliveries.c.system, deliveries.c.receiver,
               deliveries.c.problem, deliveries.c.settled_at)
        # Said in full, not bound: so the partial index serves.
        .where(deliveries.c.state == literal_column("'dead'"))
        .order_by(deliveries.c.id.desc())
        .limit(MOST_LOOKED_AT)
        .subquery()
    )  # fmt: skip
    rows = connection.execute(
        select(exchanges.c.sender, exchanges.c.service, newest).join(newest, newest.c.exchange_id == exchanges.c.id)
    ).all()
    return _grouped(rows, _dead_key), len(rows) == MOST_LOOKED_AT


def _refused(connection: Connection, since: datetime) -> tuple[tuple[TroubleGroup, ...], bool]:
    newest = select(refusals).order_by(refusals.c.id.desc()).limit(MOST_LOOKED_AT).subquery()
    rows = connection.execute(select(newest).where(newest.c.refused_at >= to_micros(since))).all()
    groups = _grouped(rows, _refused_key)
    latest = [group.last["id"] for group in groups[:_MOST_IN_WORDS]]
    known = connection.execute(select(refusal_details).where(refusal_details.c.id.in_(latest)))
    details = {row.id: json.loads(row.details) for row in known}
    told = (replace(group, last={**group.last, **details.get(group.last["id"], {})}) for group in groups)
    return tuple(told), len(rows) == MOST_LOOKED_AT


def refusals_found(
    store: Store, *, sender: str | None = None, service: str | None = None, reason: str | None = None,
    before: int | None = None, most: int = 50,
) -> tuple[list[RefusalRecord], int | None]:  # fmt: skip
    """A page of refusals that fit, newest first, and where the next page begins (None: that was all). Of each page no
    more than :data:`MOST_LOOKED_AT` are looked at, so it may have fewer than ``most``."""
    newest = select(refusals).order_by(refusals.c.id.desc()).limit(MOST_LOOKED_AT)
    if before is not None:
        newest = newest.where(refusals.c.id < before)
    looked_at = newest.subquery()
    query = select(looked_at).order_by(looked_at.c.id.desc()).limit(most)
    for column, value in ((looked_at.c.sender, sender), (looked_at.c.service, service), (looked_at.c.reason, reason)):
        if value is not None:
            query = query.where(column == value if value else column.is_(None))
    with store.reading() as connection:
        rows = connection.execute(query).all()
        last = connection.execute(select(func.min(looked_at.c.id), func.count())).one()
    found = [
        RefusalRecord(
            id=row.id, refused_at=from_micros(row.refused_at), problem=row.problem, reason=row.reason,
            sender=row.sender, service=row.service, message_id=row.message_id, trace_id=row.trace_id,
            dossier=row.dossier,
        )
        for row in rows
    ]  # fmt: skip
    if len(found) == most:
        return found, found[-1].id
    return found, last[0] if last[1] == MOST_LOOKED_AT else None


_Key = tuple[Route, int, str, str]


def _dead_key(row: Row[Any]) -> tuple[_Key, int, Mapping[str, Any], frozenset[str]]:
    problem: Mapping[str, Any] = json.loads(row.problem) if row.problem else {}
    reason = str(problem.get("reason", "unknown"))
    route = Route(row.sender, row.service, row.system)
    key = (route, DELIVERY_STEP, str(problem.get("problem", "")), reason)
    return key, row.settled_at or 0, problem, frozenset({row.sender, row.receiver})


def _refused_key(row: Row[Any]) -> tuple[_Key, int, Mapping[str, Any], frozenset[str]]:
    route = Route(row.sender or "", row.service or "", "")
    key = (route, STEPS.get(row.problem, 1), row.problem, row.reason)
    last = {"id": row.id, "problem": row.problem, "reason": row.reason}
    return key, row.refused_at, last, frozenset({row.sender or ""})


def _grouped(
    rows: Iterable[Row[Any]], key_of: Callable[[Row[Any]], tuple[_Key, int, Mapping[str, Any], frozenset[str]]]
) -> tuple[TroubleGroup, ...]:
    """The largest group first."""
    found: dict[_Key, list[tuple[int, Mapping[str, Any], frozenset[str]]]] = defaultdict(list)
    for row in rows:
        key, at, last, agencies = key_of(row)
        found[key].append((at, last, agencies))
    groups = []
    for (route, step, problem, reason), each in found.items():
        moments = [at for at, _, _ in each]
        groups.append(
            TroubleGroup(
                route=route,
                step=step,
                problem=problem,
                reason=reason,
                count=len(each),
                oldest=from_micros(min(moments)),
                newest=from_micros(max(moments)),
                last=max(each, key=lambda one: one[0])[1],
                agencies=frozenset().union(*(agencies for _, _, agencies in each)),
            )
        )
    return tuple(sorted(groups, key=lambda group: (-group.count, group.route, group.reason)))


def _flows(
    counts: Mapping[Route, Counts],
    last: Mapping[Route, int],
    waiting: Mapping[Route, tuple[int, datetime]],
) -> Iterable[FlowNow]:
    """In the order of trouble: what waits longest first, then what failed, then the busiest."""
    made = []
    for route in {*counts, *last, *waiting}:
        if not route.system:
            continue
        count, oldest = waiting.get(route, (0, None))
        made.append(
            FlowNow(
                route=route,
                counts=counts.get(route) or Counts(),
                last_hour=beginning_of(last[route]) if route in last else None,
                waiting=count,
                oldest=oldest,
            )
        )
    return sorted(made, key=_by_trouble)


def _by_trouble(one: FlowNow) -> tuple[object, ...]:
    return one.oldest is None, one.oldest, -one.counts.died, -one.counts.accepted, one.route
