"""The relay, with a broker of the tests' own that keeps what it is given in memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime

from bus.bulkheads import Bulkheads
from bus.outbox import Relay
from bus.records import Claim, Settlement, State
from registry.directory import Directory, LiveDirectory
from schemas.identifiers import SystemCode
from schemas.moment import utc_now


class Registry:
    """A registry with nothing in it."""

    def revision(self) -> int:
        return 1

    def load(self, *, sandbox_open: bool = False, earlier: Directory | None = None) -> Directory:
        return Directory(revision=1, sandbox_open=sandbox_open, earlier=earlier)


class MemoryBroker:
    """A queue in memory that refuses some settlements, as a store does that finds them broken."""

    def __init__(self, unwritable: set[int]) -> None:
        self.unwritable = unwritable
        self.written: list[int] = []
        self.given_back = False
        self._tapped = threading.Event()

    def systems_due(self, now: datetime) -> list[tuple[SystemCode, datetime]]:
        return []

    def take(self, settled: Sequence[Settlement], places: Mapping[SystemCode, int], now: datetime) -> list[Claim]:
        if any(settlement.delivery_id in self.unwritable for settlement in settled):
            raise RuntimeError("this cannot be written")
        self.written += [settlement.delivery_id for settlement in settled]
        return []

    def wait(self, seconds: float) -> None:
        self._tapped.wait(seconds)

    def tap(self) -> None:
        self._tapped.set()

    def give_back(self) -> None:
        self.given_back = True

    def close(self) -> None: ...


def relay_over(broker: MemoryBroker) -> Relay:
    return Relay(
        broker=broker,
        directory=LiveDirectory(Registry()),
        bulkheads=Bulkheads(failures_to_open=5, open_seconds=1),
        start=lambda claim: None,
        most_at_once=10,
        poll_seconds=0.05,
    )


def ended(delivery_id: int) -> Settlement:
    now = utc_now()
    return Settlement(delivery_id=delivery_id, attempt=1, state=State.DELIVERED, started_at=now, finished_at=now)


def test_one_settlement_that_cannot_be_written_does_not_hold_up_the_others() -> None:
    broker = MemoryBroker(unwritable={2})
    relay = relay_over(broker)
    for number in (1, 2, 3):
        relay.settle(ended(number))
    relay.stop()
    relay.run()  # returns only when nothing is left to write
    assert broker.written == [1, 3]
    assert broker.given_back, "what was not claimed is for others"


def test_settlements_wait_for_a_store_that_is_out_of_reach() -> None:
    broker = MemoryBroker(unwritable={1, 2})
    relay = relay_over(broker)
    for number in (1, 2):
        relay.settle(ended(number))
    relay.stop()
    thread = threading.Thread(target=relay.run)
    thread.start()
    thread.join(0.5)
    assert thread.is_alive(), "what is not written is not forgotten"
    broker.unwritable.clear()
    thread.join(5)
    assert not thread.is_alive()
    assert broker.written == [1, 2]
