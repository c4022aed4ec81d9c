"""Figures of dossiers and of messages by month: the worker makes them, the console shows what was made last.

Reading a month costs as much as happened in it, seconds where there are a million messages; so nobody waits for it.
The rules are those of :mod:`bus.dossiers`; a month that is over is made again now and then, for what was still open in
it comes to its end.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from bus.assembly import Bus
from bus.dossiers import UnitFigures, figures_by_procedure
from bus.figures import Counts, Figures, MonthFigures, MonthMade
from bus.retention import start_of_month
from schemas.moment import VIETNAM

#: How old the figures of the current month, of the one before and of earlier ones may be.
_AGES: Final = (timedelta(minutes=10), timedelta(hours=1))
_LATER_AGE: Final = timedelta(days=1)
#: Earlier months are left as they are.
_MONTHS_BACK: Final = 12
#: A month that took a second to make is left alone for these: making them costs a hundredth of a core at most.
_REST_FOR_EACH_SECOND: Final = 100
#: How long a process has for a month before another one may begin it, too.
_TURN: Final = timedelta(minutes=5)

PAYMENT_STATES: Final = ("requested", "paid", "failed", "refunded")
#: Before the state of a parcel, in the words of its service.
PARCEL: Final = "parcel "
#: Before what an agency's messages did, as sender and as receiver.
SENT: Final = "sent "
GOT: Final = "got "
_BY_DAY: Final = frozenset({"accepted", "delivered", "died", "refused"})


def month_of(moment: datetime) -> str:
    """``2026-11``, in Vietnam."""
    return f"{moment.astimezone(VIETNAM):%Y-%m}"


def bounds_of(month: str) -> tuple[datetime, datetime]:
    """Its first moment and that of the next one, in Vietnam. Raises ValueError."""
    first = datetime.strptime(month, "%Y-%m").replace(tzinfo=VIETNAM)
    return first, (first + timedelta(days=32)).replace(day=1)


def due_month(made: Mapping[str, MonthMade], first: datetime | None, now: datetime) -> str | None:
    """The month to make now, the latest one first; None: all are fresh. ``first``: when the oldest message came."""
    if first is None:
        return None
    for back in range(_MONTHS_BACK + 1):
        begins = start_of_month(now, back)
        name = month_of(begins)
        if name < month_of(first):
            return None
        known = made.get(name)
        if known is None:
            return name
        age = _AGES[back] if back < len(_AGES) else _LATER_AGE
        if now - known.made_at >= max(age, known.took * _REST_FOR_EACH_SECOND):
            return name
    return None


def make_month(bus: Bus, figures: Figures, month: str, now: datetime) -> None:
    """Make a month's figures and keep them in place of earlier ones."""
    started = time.monotonic()
    since, until = bounds_of(month)
    end = min(until, now + timedelta(hours=1))
    made = [*_dossiers(bus, figures, since, until, now), *_flows(figures, since, end), *_days(figures, since, until)]
    figures.keep_month(month, made, MonthMade(made_at=now, took=timedelta(seconds=time.monotonic() - started)))


def _dossiers(bus: Bus, figures: Figures, since: datetime, until: datetime, now: datetime) -> Iterator[MonthFigures]:
    rows: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for key, counted in figures_by_procedure(bus.ledger.milestones(since, until), since, until, now).items():
        rows[key] |= {name: value for name, value in asdict(counted).items() if value and name != "unit"}
    for key, numbers in money_and_post(figures.said_of_money_and_post(since, until)).items():
        rows[key] |= numbers
    return _kept("dossiers", rows)


def _flows(figures: Figures, since: datetime, until: datetime) -> Iterator[MonthFigures]:
    """What each agency sent and got, by service; a message is in the numbers of both."""
    rows: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for flow in figures.flows(since, until):
        for unit, side in ((flow.sender, SENT), (flow.receiver, GOT)):
            if unit:
                for what, value in flow.counts.numbers():
                    rows[unit, flow.service][side + what] += value
    return _kept("flows", rows)


def _days(figures: Figures, since: datetime, until: datetime) -> Iterator[MonthFigures]:
    rows: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for day, sender, system, what, value in figures.days(since, until):
        if what in _BY_DAY:
            name = f"{day.astimezone(VIETNAM):%Y-%m-%d}"
            for unit in {"", sender, system.partition("/")[0]}:
                rows[unit, name][what] += value
    return _kept("days", rows)


def _kept(kind: str, rows: Mapping[tuple[str, str], Mapping[str, int]]) -> Iterator[MonthFigures]:
    for (unit, name), numbers in sorted(rows.items()):
        if numbers:
            yield MonthFigures(kind=kind, unit=unit, name=name, numbers=dict(numbers))


def money_and_post(said: Iterable[Any]) -> dict[tuple[str, str], dict[str, int]]:
    """Payments and parcels as they were last told, each counted once, by unit and procedure."""
    payments: dict[Any, tuple[tuple[str, str], str, int]] = {}
    parcels: dict[str, tuple[tuple[str, str], str]] = {}
    for row in said:
        whose = (row.unit or "", row.procedure or "")
        if row.parcel:
            parcels[row.parcel] = (whose, row.parcel_state or parcels.get(row.parcel, ("", ""))[1])
        if row.payment_reference or row.payment_state:
            key = row.payment_reference or row.exchange_id
            _, state, amount = payments.get(key, (whose, "requested", 0))
            payments[key] = (whose, row.payment_state or state, amount if row.amount is None else row.amount)
    found: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for whose, state, amount in payments.values():
        known = state if state in PAYMENT_STATES else "requested"
        found[whose][f"payments_{known}"] += 1
        found[whose][f"dong_{known}"] += amount
    for whose, state in parcels.values():
        found[whose][PARCEL + state] += 1
    return {whose: dict(numbers) for whose, numbers in found.items()}


def unit_figures(numbers: Mapping[str, int], unit: str = "") -> UnitFigures:
    """The dossiers among a month's numbers."""
    names = UnitFigures.__dataclass_fields__.keys() - {"unit"}
    return UnitFigures(unit=unit, **{name: value for name, value in numbers.items() if name in names})


def counts_of(numbers: Mapping[str, int], side: str) -> Counts:
    """What :data:`SENT` or :data:`GOT` messages did, among a month's numbers."""
    counts = Counts()
    for name, value in numbers.items():
        if name.startswith(side):
            counts.add(name[len(side) :], value)
    return counts


def added(rows: Iterable[MonthFigures]) -> dict[str, int]:
    """The sum of all their numbers."""
    total: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        for name, value in row.numbers.items():
            total[name] += value
    return dict(total)


class MonthKeeper:
    """Keeps days and months up to date, in turn with the other processes of the bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._figures = Figures(bus.store)

    def run_once(self, now: datetime) -> str | None:
        """Add up days that are over; make a month if one is due: its name."""
        turn = self._bus.nodes.in_turn
        turn("add-up", self._bus.cluster.id, now, timedelta(minutes=10), lambda c: self._figures.add_up(c, now))
        month = due_month(self._figures.months(), self._figures.first_message_at(), now)
        if month is None or not turn(f"month {month}", self._bus.cluster.id, now, _TURN, lambda _: True):
            return None
        make_month(self._bus, self._figures, month, now)
        return month
