"""Bulkheads: one circuit breaker and one concurrency limit per receiving system, so that a ministry that is down or
slow delays only itself.

A breaker opens after some failures in a row, rests, lets one delivery through as a probe, and closes when that one
succeeds. While it is open nothing is claimed for the system: messages wait without using up their attempts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from schemas.identifiers import SystemCode


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class _Bulkhead:
    in_flight: int = 0
    failures_in_a_row: int = 0
    opened_at: float | None = None


class Bulkheads:
    """The state of every receiving system in this process. Thread-safe. ``clock`` is monotonic, in seconds."""

    def __init__(
        self, *, failures_to_open: int, open_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures_to_open = failures_to_open
        self._open_seconds = open_seconds
        self._clock = clock
        self._mutex = threading.Lock()
        self._bulkheads: dict[SystemCode, _Bulkhead] = {}

    def free_places(self, system: SystemCode, limit: int) -> int:
        """How many more calls may start now: none while the breaker rests, one while it probes."""
        with self._mutex:
            bulkhead = self._of(system)
            match self._state(bulkhead):
                case BreakerState.OPEN:
                    return 0
                case BreakerState.HALF_OPEN:
                    return max(0, 1 - bulkhead.in_flight)
                case _:
                    return max(0, limit - bulkhead.in_flight)

    def enter(self, system: SystemCode) -> None:
        """A call starts (or its delivery was claimed); every `enter` is followed by one `leave`."""
        with self._mutex:
            self._of(system).in_flight += 1

    def try_enter(self, system: SystemCode, limit: int) -> bool:
        """Enter if there is a free place: for a caller that waits for the reply itself."""
        with self._mutex:
            bulkhead = self._of(system)
            state = self._state(bulkhead)
            most = {BreakerState.OPEN: 0, BreakerState.HALF_OPEN: 1, BreakerState.CLOSED: limit}[state]
            if bulkhead.in_flight >= most:
                return False
            bulkhead.in_flight += 1
            return True

    def leave(self, system: SystemCode, *, healthy: bool) -> None:
        """A call ended. ``healthy``: the system answered at all, even if it refused this message."""
        with self._mutex:
            bulkhead = self._of(system)
            bulkhead.in_flight -= 1
            if healthy:
                bulkhead.failures_in_a_row, bulkhead.opened_at = 0, None
                return
            bulkhead.failures_in_a_row += 1
            if bulkhead.failures_in_a_row >= self._failures_to_open:
                bulkhead.opened_at = self._clock()

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

    def _of(self, system: SystemCode) -> _Bulkhead:
        return self._bulkheads.setdefault(system, _Bulkhead())

    def _state(self, bulkhead: _Bulkhead) -> BreakerState:
        if bulkhead.opened_at is None:
            return BreakerState.CLOSED
        if self._clock() - bulkhead.opened_at < self._open_seconds:
            return BreakerState.OPEN
        return BreakerState.HALF_OPEN
