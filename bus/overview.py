"""What the first screen tells: who needs help, how each flow goes, what waits and since when. Its SQL, too.

Everything costs the same however many messages there are: figures by the hour are added up as messages pass
(``flow_hours``), and of what waits, died or was refused no more than the :data:`MOST_LOOKED_AT` oldest or newest are
looked at. Where there are more, counts are lower bounds and say so.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, func, literal_column, select

from bus.figures import OUTCOMES, Counts, Flow, Hour, Route, beginning_of, counts_by_route, hour_of
from bus.nodes import Opening, open_breakers
from bus.records import RefusalRecord
from bus.store import Store
from bus.tables import deliveries, exchanges, flow_hours, outbox, refusals
from schemas.identifiers import SystemCode
from schemas.moment import from_micros, to_micros

MOST_LOOKED_AT: Final = 5000
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

    #: Hour since 1970, route, outcome, how many.
    hours: tuple[tuple[int, Route, str, int], ...]
    flows: tuple[FlowNow, ...]
    dead: tuple[TroubleGroup, ...]
    refused: tuple[TroubleGroup, ...]
    open_breakers: Mapping[SystemCode, Opening]
    #: More waits, died or was refused than was looked at: counts are lower bounds.
    more_waiting: bool = False
    more_dead: bool = False
    more_refused: bool = False


def last_hours(store: Store, now: datetime) -> dict[Route, int]:
    """Of each route of the last week the last hour in which something came, since 1970. Reads a week of figures: ask it
    once a minute."""
    columns = (flow_hours.c.sender, flow_hours.c.service, flow_hours.c.system)
    first = hour_of(now) - DAYS_OF_FLOWS * 24
    accepted = (flow_hours.c.hour >= first, flow_hours.c.what == "accepted")
    query = select(*columns, func.max(flow_hours.c.hour)).where(*accepted).group_by(*columns)
    with store.reading() as connection:
        return {Route(*row[:3]): row[3] for row in connection.execute(query)}


def overview(store: Store, now: datetime, last: Mapping[Route, int]) -> Overview:
    """Of the last 24 hours: from the beginning of the hour 23 hours ago. ``last``: of :func:`last_hours`."""
    with store.reading() as connection:
        hours = _hours(connection, hour_of(now) - 23)
        counts = counts_by_route(connection, now - timedelta(hours=23), now)
        # What came since the week was read.
        came = {route: hour for hour, route, what, _ in sorted(hours) if what == "accepted"}
        waiting, more_waiting = _waiting(connection)
        dead, more_dead = _dead(connection)
        refused, more_refused = _refused(connection, now - timedelta(hours=24))
        resting = open_breakers(connection)
    return Overview(
        hours=hours,
        flows=tuple(_flows(counts, {**last, **came}, waiting)),
        dead=dead,
        refused=refused,
        open_breakers=resting,
        more_waiting=more_waiting,
        more_dead=more_dead,
        more_refused=more_refused,
    )


def by_hour(overview: Overview, now: datetime, seen: Callable[[Route], bool]) -> list[Hour]:
    """24 hours, the present one last, of the routes that are seen."""
    present = hour_of(now)
    found = {hour: Counts() for hour in range(present - 23, present + 1)}
    for hour, route, what, value in overview.hours:
        if hour in found and seen(route):
            found[hour].add(what, value)
    return [Hour(begins=beginning_of(hour), counts=counts) for hour, counts in found.items()]


def _hours(connection: Connection, first: int) -> tuple[tuple[int, Route, str, int], ...]:
    outcomes = select(flow_hours).where(flow_hours.c.hour >= first, flow_hours.c.what.in_(OUTCOMES))
    rows = connection.execute(outcomes)
    return tuple((row.hour, Route(row.sender, row.service, row.system), row.what, row.value) for row in rows)


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
    return _grouped(rows, _refused_key), len(rows) == MOST_LOOKED_AT


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
    return key, row.refused_at, {"problem": row.problem, "reason": row.reason}, frozenset({row.sender or ""})


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
    return one.oldest is None, one.oldest or from_micros(0), -one.counts.died, -one.counts.accepted, one.route
