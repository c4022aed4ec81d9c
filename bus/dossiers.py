"""Where a dossier stands, from what its messages said: the one definition for the trace and for the statistics.

Rules, with their sources:

* Later messages know better: facts are taken in the order of acceptance, the last word counts. A national status is
  never refused for coming out of turn, only marked (vietnam.md 3.4).
* A dossier came in when a message says so, else when it first had status 2. It is finished when it stands at 9 or 10
  (or no status was ever told), at the moment that a message states, else when it got there. A 9 that is followed by
  work again was no end: provinces send 5, 6 and 8 as 9 (P11).
* Early, on time and late compare **days** of Asia/Ho_Chi_Minh, not hours (vietnam.md 7.1). A dossier without a due date
  is none of the three and is counted on its own: leaving it out silently is how rates are beautified (P11).
* Statuses 1 and 3 are not counted (nobody took the dossier on); 7 was withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from bus.records import DossierEvent
from schemas.codes import DONE_STATUSES, DOSSIER_STATUSES, UNCOUNTED_STATUSES, may_follow
from schemas.moment import from_micros, to_micros

_WITHDRAWN: Final = "7"
_RECEIVED: Final = "2"
#: Statuses in which the clock stands still.
_PAUSED: Final = frozenset({"5", "6", "8"})
_ONLINE: Final = "2"
_HOUR: Final = 3_600_000_000
_DAY: Final = 24 * _HOUR
#: Asia/Ho_Chi_Minh is seven hours ahead, without summer time, since June 1975: long before any dossier here.
_AHEAD: Final = 7 * _HOUR


class Timeliness(StrEnum):
    """How a dossier keeps its due date."""

    EARLY = "early"
    ON_TIME = "on-time"
    LATE = "late"
    #: Finished, and nobody had said until when.
    NO_DUE_DATE = "no-due-date"
    RUNNING = "running"
    PAUSED = "paused"
    #: Running, and its day is past.
    OVERDUE = "overdue"
    WITHDRAWN = "withdrawn"
    #: Not taken on: new, or refused.
    NOT_COUNTED = "not-counted"


class Standing:
    """Where one dossier stands; facts are added one by one. Moments are whole microseconds since 1970 (UTC)."""

    __slots__ = ("_done_at", "_received_stated", "channel", "due", "finished_stated", "procedure", "received", "status",
                 "status_since", "synchronised", "unit")  # fmt: skip

    def __init__(self) -> None:
        self.unit: str = ""
        self.procedure: str = ""
        self.status: str | None = None
        self.status_since: int | None = None
        self.received: int | None = None
        self._received_stated = False
        self.due: int | None = None
        self.finished_stated: int | None = None
        self._done_at: int | None = None
        self.channel: str | None = None
        #: Has a message that synchronises it been delivered?
        self.synchronised = False

    def add(
        self,
        unit: str | None,
        at: int,
        status: str | None,
        received: int | None,
        due: int | None,
        finished: int | None,
        channel: str | None,
        synchronised: object,
        procedure: str | None = None,
    ) -> None:
        """What one message says; parameters in the order of ``bus.telling.MILESTONE_COLUMNS``."""
        if unit:
            self.unit = unit
        if procedure:
            self.procedure = procedure
        if received is not None:
            self.received, self._received_stated = received, True
        if status is not None:
            self._enter(status, at)
        if due is not None:
            self.due = due
        if finished is not None:
            self.finished_stated = finished
        if channel is not None:
            self.channel = channel
        if synchronised:
            self.synchronised = True

    def _enter(self, status: str, at: int) -> None:
        if status == self.status:
            return
        if status not in DONE_STATUSES:
            self._done_at = None
        elif self.status not in DONE_STATUSES:
            self._done_at = at
        if status == _RECEIVED and self.received is None:
            self.received = at
        self.status, self.status_since = status, at

    @property
    def finished(self) -> int | None:
        """When the work was done; None while it is not."""
        if self.status is not None and self.status not in DONE_STATUSES:
            return None
        return self._done_at if self.finished_stated is None else self.finished_stated

    def timeliness(self, now: int) -> Timeliness:
        """How it keeps its due date, as of ``now``."""
        if self.status in UNCOUNTED_STATUSES:
            return Timeliness.NOT_COUNTED
        if self.status == _WITHDRAWN:
            return Timeliness.WITHDRAWN
        finished, due = self.finished, self.due
        if finished is not None:
            if due is None:
                return Timeliness.NO_DUE_DATE
            days = _day(finished) - _day(due)
            return Timeliness.LATE if days > 0 else Timeliness.EARLY if days < 0 else Timeliness.ON_TIME
        if self.status in _PAUSED:
            return Timeliness.PAUSED
        return Timeliness.OVERDUE if due is not None and _day(now) > _day(due) else Timeliness.RUNNING


def _day(micros: int) -> int:
    """The day in Vietnam, counted from 1970."""
    return (micros + _AHEAD) // _DAY


# ── the trace of one dossier ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A status that a dossier took."""

    exchange_id: int
    at: datetime
    #: The national status; None where its sender's own has no counterpart.
    status: str | None
    #: As the message wrote it.
    said: str | None
    #: May it follow the one before?
    legal: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One payment as far as messages told it, by its reference."""

    reference: str | None
    #: Whole đồng, as last stated.
    amount: int | None
    state: str | None
    at: datetime
    exchange_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A postal item and where it is."""

    code: str
    state: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DossierStory:
    """One dossier from its messages. Moments are aware UTC."""

    #: All its codes, the one that it is counted under first.
    codes: tuple[str, ...]
    unit: str
    procedure: str | None
    channel: str | None
    status: str | None
    status_since: datetime | None
    received_at: datetime | None
    due_at: datetime | None
    finished_at: datetime | None
    timeliness: Timeliness
    holder: str | None
    holder_since: datetime | None
    synchronised: bool
    steps: tuple[Step, ...]
    payments: tuple[Payment, ...]
    parcels: tuple[Parcel, ...]


def story_of(codes: Sequence[str], events: Sequence[DossierEvent], now: datetime) -> DossierStory:
    """The story that these events tell, in their order; no events, an empty one."""
    standing = Standing()
    procedure = holder = holder_since = None
    for event in events:
        fact = event.fact
        standing.add(
            fact.unit,
            to_micros(fact.at),
            fact.status,
            _micros(fact.received),
            _micros(fact.due),
            _micros(fact.finished),
            fact.channel,
            fact.synchronises and event.delivered,
        )
        procedure = fact.procedure or procedure
        if fact.holder and fact.holder != holder:
            holder, holder_since = fact.holder, fact.at
    return DossierStory(
        codes=tuple(codes),
        unit=standing.unit,
        procedure=procedure,
        channel=standing.channel,
        status=standing.status,
        status_since=_moment(standing.status_since),
        received_at=_moment(standing.received),
        due_at=_moment(standing.due),
        finished_at=_moment(standing.finished),
        timeliness=standing.timeliness(to_micros(now)),
        holder=holder,
        holder_since=holder_since,
        synchronised=standing.synchronised,
        steps=tuple(_steps(events)),
        payments=_payments(events),
        parcels=_parcels(events),
    )


def _steps(events: Iterable[DossierEvent]) -> Iterator[Step]:
    """Every status that is new, and every one that the tables do not know."""
    before: str | None = None
    for event in events:
        fact = event.fact
        if fact.status is None and fact.said is None:
            continue
        if fact.status is not None and fact.status == before:
            continue
        legal = fact.status is None or before is None or may_follow(before, fact.status)
        yield Step(exchange_id=event.exchange_id, at=fact.at, status=fact.status, said=fact.said, legal=legal)
        before = fact.status or before


def _payments(events: Iterable[DossierEvent]) -> tuple[Payment, ...]:
    """One entry a reference, so that a notice that comes twice is still one payment."""
    found: dict[object, Payment] = {}
    for event in events:
        fact = event.fact
        if fact.amount is None and fact.payment_reference is None and fact.payment_state is None:
            continue
        key = fact.payment_reference or event.exchange_id
        known = found.get(key)
        found[key] = Payment(
            reference=fact.payment_reference,
            amount=fact.amount if fact.amount is not None or known is None else known.amount,
            state=fact.payment_state or (known.state if known else None),
            at=fact.at,
            exchange_ids=(*known.exchange_ids, event.exchange_id) if known else (event.exchange_id,),
        )
    return tuple(found.values())


def _parcels(events: Iterable[DossierEvent]) -> tuple[Parcel, ...]:
    found: dict[str, Parcel] = {}
    for event in events:
        fact = event.fact
        if fact.parcel:
            known = found.get(fact.parcel)
            state = fact.parcel_state or (known.state if known else None)
            found[fact.parcel] = Parcel(code=fact.parcel, state=state, at=fact.at)
    return tuple(found.values())


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else to_micros(moment)


# ── statistics ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True, kw_only=True)
class UnitFigures:
    """One unit's dossiers of a period."""

    unit: str
    #: Came in within the period.
    received: int = 0
    #: Of the received: by channel 2.
    online: int = 0
    #: Finished within the period, whenever they came in.
    returned: int = 0
    early: int = 0
    on_time: int = 0
    late: int = 0
    #: Of the returned: without a due date, so none of the three.
    without_due_date: int = 0
    #: Of the received: not finished yet.
    in_progress: int = 0
    #: Of those in progress: past their day.
    overdue: int = 0
    #: Of the received: taken back by the citizen.
    withdrawn: int = 0
    #: Of the received: delivered to the national portal.
    synchronised: int = 0

    def count(self, standing: Standing, since: int, until: int, now: int) -> None:
        """Add one dossier where it belongs."""
        how = standing.timeliness(now)
        if how is Timeliness.NOT_COUNTED:
            return
        if standing.received is not None and since <= standing.received < until:
            self.received += 1
            self.online += standing.channel == _ONLINE
            self.synchronised += standing.synchronised
            self.withdrawn += how is Timeliness.WITHDRAWN
            self.overdue += how is Timeliness.OVERDUE
            self.in_progress += how in _OPEN
        finished = standing.finished
        if how in _FINISHED and finished is not None and since <= finished < until:
            self.returned += 1
            self.early += how is Timeliness.EARLY
            self.on_time += how is Timeliness.ON_TIME
            self.late += how is Timeliness.LATE
            self.without_due_date += how is Timeliness.NO_DUE_DATE

    def __add__(self, other: UnitFigures) -> UnitFigures:
        """Of both together, under this one's name."""
        numbers = [field.name for field in fields(self) if field.name != "unit"]
        return UnitFigures(unit=self.unit, **{name: getattr(self, name) + getattr(other, name) for name in numbers})

    @property
    def on_time_percent(self) -> Decimal | None:
        """Early and on time among those that had a due date; None when there is none."""
        return percent(self.early + self.on_time, self.early + self.on_time + self.late)

    @property
    def sync_percent(self) -> Decimal | None:
        """Of the received, how many the portal has (QĐ 766/QĐ-TTg scores it)."""
        return percent(self.synchronised, self.received)


_OPEN: Final = frozenset({Timeliness.RUNNING, Timeliness.PAUSED, Timeliness.OVERDUE})
_FINISHED: Final = frozenset({Timeliness.EARLY, Timeliness.ON_TIME, Timeliness.LATE, Timeliness.NO_DUE_DATE})
_HUNDRED: Final = Decimal("100.00")
_CENT: Final = Decimal("0.01")


def percent(part: int, whole: int) -> Decimal | None:
    """Two decimals, half up. 100.00 only for all of them: one late dossier among a million stays visible."""
    if not whole:
        return None
    rounded = (Decimal(part) * 100 / whole).quantize(_CENT, ROUND_HALF_UP)
    return min(rounded, _HUNDRED - _CENT) if part < whole else rounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """The figures of every unit that had something to do, by code, and the dossiers that the portal lacks."""

    units: tuple[UnitFigures, ...]
    total: UnitFigures
    #: Received in the period and not at the portal, up to the number asked for.
    not_synchronised: tuple[str, ...]


def statistics_of(
    rows: Iterable[tuple[Any, ...]],
    since: datetime,
    until: datetime,
    now: datetime,
    *,
    unit: str = "",
    list_most: int = 0,
) -> Statistics:
    """Figures from the rows of ``Ledger.milestones(since, until)``, which come dossier by dossier."""
    start, end, present = to_micros(since), to_micros(until), to_micros(now)
    figures: dict[str, UnitFigures] = {}
    missing: list[str] = []
    for dossier, said in groupby(rows, itemgetter(0)):
        standing = Standing()
        for row in said:
            standing.add(*row[1:])
        if unit and standing.unit != unit:
            continue
        of_unit = figures.get(standing.unit)
        if of_unit is None:
            of_unit = figures[standing.unit] = UnitFigures(unit=standing.unit)
        before = of_unit.received - of_unit.synchronised
        of_unit.count(standing, start, end, present)
        if len(missing) < list_most and of_unit.received - of_unit.synchronised > before:
            missing.append(dossier)
    units = tuple(figures[code] for code in sorted(figures) if figures[code].received or figures[code].returned)
    total = sum(units, UnitFigures(unit=""))
    return Statistics(units=units, total=total, not_synchronised=tuple(missing))


def figures_by_procedure(
    rows: Iterable[tuple[Any, ...]], since: datetime, until: datetime, now: datetime
) -> dict[tuple[str, str], UnitFigures]:
    """The same figures by unit and procedure, either empty where nobody said it."""
    start, end, present = to_micros(since), to_micros(until), to_micros(now)
    figures: dict[tuple[str, str], UnitFigures] = {}
    for _, said in groupby(rows, itemgetter(0)):
        standing = Standing()
        for row in said:
            standing.add(*row[1:])
        key = (standing.unit, standing.procedure)
        if key not in figures:
            figures[key] = UnitFigures(unit=standing.unit)
        figures[key].count(standing, start, end, present)
    return figures


def status_name(code: str | None) -> str:
    """What the national list calls a status."""
    known = DOSSIER_STATUSES.get(code or "")
    return known.name if known else ""
