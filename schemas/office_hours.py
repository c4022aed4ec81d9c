"""How much office time lies between two moments, in Vietnam: Monday to Friday, without public holidays.

Hours are those of most provincial offices (7:30 to 11:30 and 13:30 to 17:00); holidays those of article 112 of the
Labour Code 2019. Days that move with the moon stand in a table, which ends: a later Tết counts as office time, and
somebody is asked in vain why it is so quiet. So do days that the Government swaps, each year by a notice of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Final

from schemas.moment import VIETNAM

HALVES: Final = ((time(7, 30), time(11, 30)), (time(13, 30), time(17, 0)))

#: Month and day: New Year, Reunification, Labour Day, National Day with the day before.
_FIXED: Final = frozenset({(1, 1), (4, 30), (5, 1), (9, 1), (9, 2)})
#: The first day of the lunar year, from which Tết is the day before and the three after; and the Hùng Kings' day.
_TET: Final = (date(2026, 2, 17), date(2027, 2, 6), date(2028, 1, 26), date(2029, 2, 13))
_HUNG_KINGS: Final = frozenset({date(2026, 4, 26), date(2027, 4, 16), date(2028, 4, 4), date(2029, 4, 23)})
_MOVING: Final = _HUNG_KINGS | {first + timedelta(days=day) for first in _TET for day in range(-1, 4)}

#: Longer is not counted.
_MOST_DAYS: Final = 60


def is_working_day(day: date) -> bool:
    return day.weekday() < 5 and (day.month, day.day) not in _FIXED and day not in _MOVING


def office_time(since: datetime, until: datetime) -> timedelta:
    """Office time in ``[since, until)``; of more than sixty days, of the last sixty."""
    since = max(since, until - timedelta(days=_MOST_DAYS))
    return sum((_overlap(since, until, *half) for half in _halves(since, until)), timedelta())


def _halves(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    day, last = since.astimezone(VIETNAM).date(), until.astimezone(VIETNAM).date()
    while day <= last:
        if is_working_day(day):
            for begin, end in HALVES:
                yield datetime.combine(day, begin, VIETNAM), datetime.combine(day, end, VIETNAM)
        day += timedelta(days=1)


def _overlap(since: datetime, until: datetime, begin: datetime, end: datetime) -> timedelta:
    return max(timedelta(), min(until, end) - max(since, begin))
