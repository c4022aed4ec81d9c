"""How much of its quota a grant has used: exact in the store, nearly exact in the memory of each process.

The store counts in the transaction that records a message, all processes together. Step 3 looks at this process's
memory of that count, so a refusal for quota costs no transaction; it may let through as many messages as other
processes have in flight at that moment, no more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime

from registry.access import Usage
from registry.model import Grant
from schemas.moment import VIETNAM

Period = tuple[str, str]


def day_period(now: datetime) -> str:
    """The name of the day in Vietnam that messages of now count in."""
    return now.astimezone(VIETNAM).strftime("%Y-%m-%d")


def quota_periods(grant: Grant, now: datetime) -> tuple[Period, ...]:
    """The periods that a message of now counts in: the day and the minute in Vietnam, where the grant limits them."""
    if not (grant.quota.per_day or grant.quota.per_minute):
        return ()
    local = now.astimezone(VIETNAM)
    periods = []
    if grant.quota.per_day:
        periods.append((grant.id, day_period(local)))
    if grant.quota.per_minute:
        periods.append((grant.id, local.strftime("%Y-%m-%dT%H:%M")))
    return tuple(periods)


class QuotaMeter:
    """Remembers counts per grant and period. Thread-safe."""

    #: Periods remembered before the memory starts again from the store.
    MOST_REMEMBERED = 50_000

    def __init__(self, read: Callable[[str, str], int]) -> None:
        """``read(grant_id, period)`` asks the store; it is called once per period and process."""
        self._read = read
        self._mutex = threading.Lock()
        self._used: dict[Period, int] = {}

    def usage(self, grant: Grant, now: datetime) -> Usage:
        used = {period[1]: self._known(period) for period in quota_periods(grant, now)}
        this_minute = [count for period, count in used.items() if "T" in period]
        today = [count for period, count in used.items() if "T" not in period]
        return Usage(this_minute=sum(this_minute), today=sum(today))

    def count(self, periods: tuple[Period, ...]) -> None:
        """A message is about to be recorded: later ones see it even before it is."""
        with self._mutex:
            for period in periods:
                self._used[period] = self._used.get(period, 0) + 1

    def learn(self, totals: Mapping[Period, int]) -> None:
        """What the store said after a commit, all processes included."""
        with self._mutex:
            for period, total in totals.items():
                self._used[period] = max(self._used.get(period, 0), total)

    def _known(self, period: Period) -> int:
        known = self._used.get(period)
        if known is None:
            known = self._read(*period)
            with self._mutex:
                if len(self._used) > self.MOST_REMEMBERED:
                    self._used.clear()
                known = self._used.setdefault(period, known)
        return known
