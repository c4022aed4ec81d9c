"""The queue between the outbox and the deliverers. It carries references, never a citizen's data.

Two brokers pass the same contract suite: the embedded one, where the store itself is the queue, and RabbitMQ, one queue
for each receiving system.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from bus.records import Claim, Settlement
from schemas.identifiers import SystemCode


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerStanding:
    """How a delivery process stands with a broker outside of the store."""

    connected: bool
    #: The broker has asked for a pause: its memory or its disk runs out.
    blocked: bool
    #: References sent whose safe arrival has not been confirmed yet.
    unconfirmed: int
    #: How long the latest confirmation took; None before the first.
    confirm_seconds: float | None


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

    def standing(self) -> BrokerStanding | None:
        """How it is with the broker now; None where the store is the queue. Any thread may ask."""
        ...

    def close(self) -> None: ...
