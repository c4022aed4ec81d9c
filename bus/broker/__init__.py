"""The queue between the outbox and the deliverers. It carries references, never a citizen's data.

Two brokers pass the same contract suite: the embedded one, where the store itself is the queue, and RabbitMQ, one queue
for each receiving system.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from bus.records import Claim, Settlement
from schemas.identifiers import SystemCode


class Broker(Protocol):
    """What a delivery process asks of the queue. One thread calls it."""

    def systems_due(self, now: datetime) -> list[tuple[SystemCode, datetime]]:
        """The systems that messages wait for, each with the moment its first one is due."""
        ...

    def take(self, settled: Sequence[Settlement], places: Mapping[SystemCode, int], now: datetime) -> list[Claim]:
        """Write how earlier claims ended, and claim up to ``places[system]`` due deliveries of each system.

        When it returns, both are on disk; when it raises, neither is.
        """
        ...

    def wait(self, seconds: float) -> None:
        """Return when something may be due, at the latest after ``seconds``."""
        ...

    def tap(self) -> None:
        """End a `wait` from another thread."""
        ...

    def give_back(self) -> None:
        """Nothing more will be claimed here: what lies here unclaimed is for others, from now on. From any thread."""
        ...

    def close(self) -> None: ...
