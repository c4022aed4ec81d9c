"""Bulkheads: one circuit breaker and one concurrency limit per receiving system, so that a ministry that is down or
slow delays only itself.

A breaker opens after some failures in a row, rests, lets one delivery through as a probe, and closes when that one
succeeds. While it is open nothing is claimed for the system: messages wait without using up their attempts.

Where several processes deliver, :mod:`bus.cluster` makes them one: it divides each limit among those who call the
system, carries openings and closings from one to the other, and lets one of them probe. Calls themselves ask nobody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from schemas.identifiers import SystemCode

#: A system that was called within this time counts as called: its limit is divided among those who call it.
_USED_SECONDS: Final = 60.0
#: A probe that was granted and not begun by then is for another process.
_PROBE_UNUSED_SECONDS: Final = 2.0
#: After "somebody else probes", when to ask again.
_ASK_AGAIN_SECONDS: Final = 1.0


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """This process's part of each limit: it is the ``rank``-th (from 0) of ``of``."""

    rank: int = 0
    of: int = 1

    def of_limit(self, limit: int) -> int:
        """At least one where the limit is not 0, or a system with few places would never be called from here."""
        return min(limit, max(1, limit // self.of + (self.rank < limit % self.of)))


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What changed here and the other processes do not know yet."""

    opened: frozenset[SystemCode]
    closed: frozenset[SystemCode]
    unused_probes: frozenset[SystemCode]


@dataclass(slots=True)
class _Bulkhead:
    in_flight: int = 0
    failures_in_a_row: int = 0
    opened_at: float | None = None
    used_at: float = float("-inf")
    #: The name of the opening that all processes know.
    opening: str | None = None
    untold: Literal["opened", "closed"] | None = None
    probe_since: float | None = None
    ask_at: float = float("-inf")


class Bulkheads:
    """The state of every receiving system, as this process knows it. Thread-safe. ``clock`` is monotonic, in seconds.

    Alone it has every place and every probe; `join` makes it one of several.
    """

    def __init__(
        self, *, failures_to_open: int, open_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures_to_open = failures_to_open
        self._open_seconds = open_seconds
        self._clock = clock
        self._mutex = threading.Lock()
        self._bulkheads: dict[SystemCode, _Bulkhead] = {}
        self._may_probe: Callable[[SystemCode], bool] = lambda _: True
        self._on_news: Callable[[], None] = lambda: None
        self._parts: Mapping[SystemCode, Part] = {}
        self._other_part = Part()
        self._deliverers = 1

    # ── calling ───────────────────────────────────────────────────────────────────────────────────────────────────

    def free_places(self, system: SystemCode, limit: int) -> int:
        """How many more calls may start now: none while the breaker rests, one while it probes."""
        with self._mutex:
            bulkhead = self._of(system)
            most = self._most(system, bulkhead, limit)
            probing = most > 0 and self._state(bulkhead) is BreakerState.HALF_OPEN
            free = max(0, most - bulkhead.in_flight)
        return free if not probing or not free or self._granted(system) else 0

    def enter(self, system: SystemCode) -> None:
        """A call starts (or its delivery was claimed); every `enter` is followed by one `leave`."""
        with self._mutex:
            first = self._enter(self._of(system))
        if first:
            self._on_news()

    def try_enter(self, system: SystemCode, limit: int) -> bool:
        """Enter if there is a free place: for a caller that waits for the reply itself."""
        if self.free_places(system, limit) == 0:
            return False
        with self._mutex:
            bulkhead = self._of(system)
            if bulkhead.in_flight >= self._most(system, bulkhead, limit):
                return False
            first = self._enter(bulkhead)
        if first:
            self._on_news()
        return True

    def leave(self, system: SystemCode, *, healthy: bool) -> None:
        """A call ended. ``healthy``: the system answered at all, even if it refused this message."""
        with self._mutex:
            bulkhead = self._of(system)
            bulkhead.in_flight -= 1
            before = self._state(bulkhead)
            if healthy:
                bulkhead.failures_in_a_row = 0
                if before is BreakerState.CLOSED:
                    return
                bulkhead.untold = "closed"
                _close(bulkhead)
            else:
                bulkhead.failures_in_a_row += 1
                if before is BreakerState.OPEN or bulkhead.failures_in_a_row < self._failures_to_open:
                    return
                bulkhead.untold = "opened"
                bulkhead.opened_at, bulkhead.probe_since = self._clock(), None
        self._on_news()

    def state(self, system: SystemCode) -> BreakerState:
        with self._mutex:
            return self._state(self._of(system))

    def seconds_until_probe(self, system: SystemCode) -> float:
        """0 when calls may start."""
        with self._mutex:
            opened_at = self._of(system).opened_at
            return 0.0 if opened_at is None else max(0.0, opened_at + self._open_seconds - self._clock())

    def all_states(self) -> dict[SystemCode, BreakerState]:
        with self._mutex:
            return {system: self._state(bulkhead) for system, bulkhead in self._bulkheads.items()}

    def share(self, system: SystemCode, limit: int) -> int:
        """This process's part of a system's limit."""
        with self._mutex:
            return self._part(system).of_limit(limit)

    def most_to_hold(self, limits: Mapping[SystemCode, int]) -> dict[SystemCode, int]:
        """How many references of each system a deliverer takes from the queue at once: its part among all deliverers;
        one for a probe, none of a system that rests."""
        with self._mutex:
            part = Part(of=self._deliverers)
            held = {system: max(1, part.of_limit(limit)) for system, limit in limits.items()}
            for system, bulkhead in self._bulkheads.items():
                if bulkhead.opened_at is not None and system in held:
                    if self._state(bulkhead) is BreakerState.OPEN:
                        del held[system]
                    else:
                        held[system] = 1
            return held

    # ── being one of several ──────────────────────────────────────────────────────────────────────────────────────

    def join(self, *, may_probe: Callable[[SystemCode], bool], on_news: Callable[[], None]) -> None:
        """From now on ask ``may_probe`` before a rested system is tried (it may take a while, and raise), and call
        ``on_news`` when there is something to tell (it must not)."""
        with self._mutex:
            self._may_probe, self._on_news = may_probe, on_news

    def divide(self, parts: Mapping[SystemCode, Part], others: Part, deliverers: int) -> None:
        """This process's part of each limit; ``others``: of systems that are not named. ``deliverers``: how many
        processes take from the queues."""
        with self._mutex:
            self._parts, self._other_part, self._deliverers = parts, others, max(1, deliverers)

    def used(self) -> frozenset[SystemCode]:
        """The systems that were called from here lately."""
        since = self._clock() - _USED_SECONDS
        with self._mutex:
            return frozenset(system for system, b in self._bulkheads.items() if b.in_flight or b.used_at >= since)

    def take_news(self) -> News:
        """What is to be told; it counts as told unless `tell_again` follows."""
        with self._mutex:
            return News(
                opened=self._take_untold("opened"),
                closed=self._take_untold("closed"),
                unused_probes=self._take_unused_probes(),
            )

    def tell_again(self, news: News) -> None:
        """It could not be told. What has happened since counts more."""
        with self._mutex:
            for system in news.opened | news.closed:
                bulkhead = self._of(system)
                if bulkhead.untold is None:
                    bulkhead.untold = "opened" if system in news.opened else "closed"

    def follow(self, openings: Mapping[SystemCode, str], own: Collection[str] = ()) -> None:
        """All open breakers of all processes, by the name of each opening; ``own``: names that were given here.

        One that is new here opens and rests from now on; one that is gone closes. What is still to be told from here
        is left as it is: it comes later than what the others know.
        """
        with self._mutex:
            for system, opening in openings.items():
                bulkhead = self._of(system)
                if bulkhead.untold is None and bulkhead.opening != opening:
                    bulkhead.opening = opening
                    if opening not in own:
                        bulkhead.failures_in_a_row = self._failures_to_open
                        bulkhead.opened_at, bulkhead.probe_since = self._clock(), None
            for system, bulkhead in self._bulkheads.items():
                if system not in openings and bulkhead.opening is not None and bulkhead.untold is None:
                    bulkhead.opening = None
                    bulkhead.failures_in_a_row = 0
                    _close(bulkhead)

    # ── inside, with the mutex held ───────────────────────────────────────────────────────────────────────────────

    def _of(self, system: SystemCode) -> _Bulkhead:
        return self._bulkheads.setdefault(system, _Bulkhead())

    def _state(self, bulkhead: _Bulkhead) -> BreakerState:
        if bulkhead.opened_at is None:
            return BreakerState.CLOSED
        if self._clock() - bulkhead.opened_at < self._open_seconds:
            return BreakerState.OPEN
        return BreakerState.HALF_OPEN

    def _part(self, system: SystemCode) -> Part:
        return self._parts.get(system, self._other_part)

    def _most(self, system: SystemCode, bulkhead: _Bulkhead, limit: int) -> int:
        match self._state(bulkhead):
            case BreakerState.OPEN:
                return 0
            case BreakerState.HALF_OPEN:
                return 1
            case _:
                return self._part(system).of_limit(limit)

    def _enter(self, bulkhead: _Bulkhead) -> bool:
        """True when this is the first call for a long time."""
        now = self._clock()
        first = bulkhead.used_at < now - _USED_SECONDS
        bulkhead.in_flight += 1
        bulkhead.used_at = now
        return first

    def _take_untold(self, what: str) -> frozenset[SystemCode]:
        found = frozenset(system for system, bulkhead in self._bulkheads.items() if bulkhead.untold == what)
        for system in found:
            self._bulkheads[system].untold = None
        return found

    def _take_unused_probes(self) -> frozenset[SystemCode]:
        before = self._clock() - _PROBE_UNUSED_SECONDS
        unused = frozenset(
            system
            for system, bulkhead in self._bulkheads.items()
            if bulkhead.probe_since is not None and bulkhead.probe_since < before and not bulkhead.in_flight
        )
        for system in unused:
            self._bulkheads[system].probe_since = None
        return unused

    def _granted(self, system: SystemCode) -> bool:
        """May this process make the next try? Called without the mutex: others are asked."""
        with self._mutex:
            bulkhead = self._of(system)
            if bulkhead.probe_since is not None:
                return True
            if self._clock() < bulkhead.ask_at:
                return False
        granted = self._may_probe(system)
        with self._mutex:
            if granted:
                bulkhead.probe_since = self._clock()
            else:
                bulkhead.ask_at = self._clock() + _ASK_AGAIN_SECONDS
        return granted


def _close(bulkhead: _Bulkhead) -> None:
    bulkhead.opened_at = bulkhead.probe_since = None
    bulkhead.ask_at = float("-inf")
