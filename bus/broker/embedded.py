"""The embedded broker: the outbox table is the queue, a named pipe the bell. Nothing to install, nothing to lose."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from bus.ledger import Ledger
from bus.records import Claim, Settlement
from bus.spans import note_step
from bus.wake import WakeListener
from schemas.identifiers import SystemCode


class EmbeddedBroker:
    """See :class:`bus.broker.Broker`. An outbox row leaves the table in the transaction that claims its delivery."""

    def __init__(self, ledger: Ledger, wake_folder: Path, lease_seconds: float) -> None:
        self._ledger = ledger
        self._lease = timedelta(seconds=lease_seconds)
        self._listener = WakeListener(wake_folder)

    def systems_due(self, now: datetime) -> list[tuple[SystemCode, datetime]]:
        return self._ledger.systems_due(now)

    def take(self, settled: Sequence[Settlement], places: Mapping[SystemCode, int], now: datetime) -> list[Claim]:
        started = time.time_ns()
        claims = self._ledger.settle_and_claim(settled, places, now, self._lease)
        for claim in claims:
            note_step("dispatch", claim, started)
        return claims

    def wait(self, seconds: float) -> None:
        self._listener.wait(seconds)

    def tap(self) -> None:
        self._listener.tap()

    def give_back(self) -> None:
        """Nothing lies here: the table is the queue."""

    def standing(self) -> None:
        """There is no other broker."""

    def close(self) -> None:
        self._listener.close()
