"""The delivery process behind `lgsp work`: the relay, its deliverers, and the housekeeping that must not wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from bus.assembly import Bus
from bus.broker.embedded import EmbeddedBroker
from bus.logs import get_logger
from bus.outbox import Relay
from bus.records import Claim
from schemas.moment import utc_now

log = get_logger()

#: How often leases that ran out are given back and rotated keys are noticed.
_HOUSEKEEPING_SECONDS = 1.0


class Worker:
    """Runs until `stop`. What is in flight then ends and is written before `run` returns."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        settings = bus.settings
        self._broker = EmbeddedBroker(bus.ledger, settings.wake_folder, settings.lease_seconds)
        self._pool = ThreadPoolExecutor(settings.deliveries_at_once, thread_name_prefix="delivery")
        self._relay = Relay(
            broker=self._broker,
            directory=bus.directory,
            bulkheads=bus.bulkheads,
            start=lambda claim: self._pool.submit(self._deliver, claim),
            most_at_once=settings.deliveries_at_once,
            poll_seconds=settings.poll_seconds,
        )
        self._delivery = bus.delivery(settle=self._relay.settle)
        self._stopping = threading.Event()

    def run(self) -> None:
        """Deliver until `stop` is called."""
        keepers = [
            threading.Thread(target=self._every, args=(period, task), daemon=True)
            for period, task in (
                (_HOUSEKEEPING_SECONDS, self._keep_house),
                (self._bus.settings.checkpoint_seconds, self._seal),
            )
        ]
        for keeper in keepers:
            keeper.start()
        log.info("worker.started", count=self._bus.settings.deliveries_at_once)
        self._relay.run()
        self._stopping.set()
        for keeper in keepers:
            keeper.join()
        self._pool.shutdown()
        self._seal()
        self._broker.close()
        log.info("worker.stopped")

    def stop(self) -> None:
        """Claim nothing more and end when what is in flight is written. Safe to call from a signal handler's thread."""
        self._relay.stop()

    def _deliver(self, claim: Claim) -> None:
        try:
            self._delivery.deliver(claim)
        except Exception:  # the registry or a key is out of reach: the lease runs out and it happens again
            log.exception("delivery.failed", delivery_id=claim.delivery_id, system=claim.system)
        finally:
            self._relay.forget(claim)

    def _every(self, period: float, task: Callable[[], None]) -> None:
        while not self._stopping.wait(period):
            try:
                task()
            except Exception:
                log.exception("housekeeping.failed")

    def _keep_house(self) -> None:
        self._bus.ring.reload_if_changed()
        released = self._bus.ledger.release_stalled(utc_now())
        if released:
            log.warning("deliveries.released", count=released)
            self._broker.tap()

    def _seal(self) -> None:
        checkpoint = self._bus.seal_evidence(utc_now())
        if checkpoint is not None:
            log.info("evidence.sealed", size=checkpoint.size)
