"""The outbox's relay: what is due goes to its receiver's queue, what has ended is written down (steps 6 to 8 in turn).

One turn is one transaction: the settlements of the deliveries that have ended and the claims of the next ones share
one flush. Between turns no lock is held.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime

from bus.broker import Broker
from bus.bulkheads import Bulkheads
from bus.logs import get_logger
from bus.records import Claim, Settlement
from registry.directory import LiveDirectory
from schemas.identifiers import SystemCode
from schemas.moment import utc_now

log = get_logger()

#: A turn that comes sooner finds little to do and keeps the writer lock from those who accept messages.
_TURN_SECONDS = 0.01
#: A settlement waits at most this long for company.
_SETTLE_SECONDS = 0.02
#: After a turn that failed (disk full, database away) the relay rests so long before it tries again.
_REST_SECONDS = 1.0


class Relay:
    """Moves due deliveries to ``start`` and settlements to the ledger. One thread runs it; any thread settles."""

    def __init__(
        self,
        *,
        broker: Broker,
        directory: LiveDirectory,
        bulkheads: Bulkheads,
        start: Callable[[Claim], object],
        most_at_once: int,
        poll_seconds: float,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._broker = broker
        self._directory = directory
        self._bulkheads = bulkheads
        self._start = start
        self._most_at_once = most_at_once
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._mutex = threading.Lock()
        self._settled: list[Settlement] = []
        self._in_flight: set[tuple[int, int]] = set()
        self._stopping = threading.Event()
        #: When the latest turn ended well, by time.monotonic.
        self.turned_at = time.monotonic()

    def settle(self, settlement: Settlement) -> None:
        """Note how a claim ended; it is written in the next turn, or its lease runs out and it happens again."""
        with self._mutex:
            self._settled.append(settlement)
            self._in_flight.discard((settlement.delivery_id, settlement.attempt))

    def forget(self, claim: Claim) -> None:
        """A claim has come to its end, settled or not: nobody waits for it any more. Unsettled, its lease runs out."""
        with self._mutex:
            self._in_flight.discard((claim.delivery_id, claim.attempt))

    @property
    def in_flight(self) -> int:
        """How many deliveries have been started and have not come to their end."""
        return len(self._in_flight)

    def stop(self) -> None:
        """Claim nothing more; `run` returns when what is in flight has ended and is written."""
        self._stopping.set()
        self._broker.give_back()
        self._broker.tap()

    def run(self) -> None:
        """Turn until stopped."""
        while True:
            begun = time.monotonic()
            try:
                done = self._turn()
                self.turned_at = time.monotonic()
            except Exception:
                log.exception("relay.failed")
                time.sleep(_REST_SECONDS)
                continue
            with self._mutex:
                unwritten, in_flight = len(self._settled), len(self._in_flight)
            if self._stopping.is_set() and not in_flight and not unwritten:
                return
            if not done:  # else a settlement may have made the next message of its dossier due
                self._broker.wait(_SETTLE_SECONDS if in_flight or unwritten else self._poll_seconds)
            time.sleep(max(0.0, _TURN_SECONDS - (time.monotonic() - begun)))

    def _turn(self) -> int:
        """One transaction, if there is anything to write or claim; returns how much was done."""
        now = self._clock()
        with self._mutex:
            settled, self._settled = self._settled, []
        places = {} if self._stopping.is_set() else self._places(now)
        if not settled and not places:
            return 0
        try:
            claims = self._broker.take(settled, places, now)
        except BaseException:
            with self._mutex:
                self._settled = self._without_the_unwritable(settled, now) + self._settled
            raise
        with self._mutex:
            self._in_flight.update((claim.delivery_id, claim.attempt) for claim in claims)
        for claim in claims:
            self._bulkheads.enter(claim.system)
            self._start(claim)
        return len(claims) + len(settled)

    def _without_the_unwritable(self, settled: list[Settlement], now: datetime) -> list[Settlement]:
        """What is still to be written after a turn failed. When the store takes the others one by one, the one that it
        does not take is dropped (its lease runs out): it must not hold up all deliveries for ever."""
        unwritten = []
        for settlement in settled:
            try:
                self._broker.take([settlement], {}, now)
            except Exception:
                unwritten.append(settlement)
        if len(unwritten) == len(settled):  # the store is out of reach: keep everything
            return settled
        for settlement in unwritten:
            log.error("settlement.dropped", delivery_id=settlement.delivery_id, attempt=settlement.attempt)
        return []

    def _places(self, now: datetime) -> dict[SystemCode, int]:
        """How many deliveries may start for each system that something is due for."""
        with self._mutex:
            free = self._most_at_once - len(self._in_flight)
        directory = self._directory.current()
        places: dict[SystemCode, int] = {}
        for code, due_at in self._broker.systems_due(now):
            system = directory.system(code)
            if due_at > now or free <= 0 or system is None or not system.mode.is_delivered:
                continue
            number = min(self._bulkheads.free_places(code, system.concurrency), free)
            if number > 0:
                places[code] = number
                free -= number
        return places
