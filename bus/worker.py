"""The delivery process behind `lgsp work`: the relay, its deliverers, and the housekeeping that must not wait."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from bus.assembly import Bus
from bus.broker import BrokerStanding
from bus.broker.opened import open_broker
from bus.bulk import BATCH_SECONDS, Bulk
from bus.event_mover import EventMover
from bus.logs import get_logger
from bus.monthly import MonthKeeper
from bus.nodes import Role
from bus.outbox import Relay
from bus.records import Claim
from bus.retention import Retention
from bus.store import open_bell
from bus.timestamps import Stamping
from bus.watching import TELL_SECONDS, WATCH_SECONDS, Watch
from schemas.moment import utc_now
from security.evidence.checkpoint import Checkpoint

log = get_logger()

#: How often leases that ran out are given back and rotated keys are noticed.
_HOUSEKEEPING_SECONDS = 1.0
#: How often a process asks whether it is its turn to tidy up.
_TIDYING_SECONDS = 20.0
#: How often days and months that are due are added up.
_FIGURES_SECONDS = 20.0
#: How often room is made for what comes and what is too old is erased.
_RETENTION_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkStanding:
    """A delivery process at this moment."""

    #: Deliveries under way.
    in_flight: int
    #: Since the relay last looked for what is due or wrote what had ended.
    turned_seconds_ago: float
    #: None where the store is the queue.
    broker: BrokerStanding | None


class Worker:
    """Runs until `stop`. What is in flight then ends and is written before `run` returns."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        settings = bus.settings
        self._broker = open_broker(bus)
        self._pool = _Pool(self._deliver)
        self._relay = Relay(
            broker=self._broker,
            directory=bus.directory,
            bulkheads=bus.bulkheads,
            start=lambda claim: self._pool.start(claim, self._relay.in_flight),
            most_at_once=settings.deliveries_at_once,
            poll_seconds=settings.poll_seconds,
            clock=bus.clock,
        )
        self._delivery = bus.delivery(self._relay.settle)
        self._retention = Retention(
            bus.store,
            bus.log,
            bodies_months=settings.keep_bodies_months,
            events_months=settings.keep_events_months,
        )
        self._figures = MonthKeeper(bus)
        self._move = _moving(bus)
        self._bulk = Bulk(bus.store, bus.ledger)
        self._watch = Watch(bus)
        self._stamping = Stamping.of(bus)
        self._events = EventMover.of(bus)
        self._bell = open_bell(settings, self._broker.tap)
        self._stopping = threading.Event()

    def run(self) -> None:
        """Deliver until `stop` is called."""
        duties = [
            (_HOUSEKEEPING_SECONDS, self._release_stalled),
            (_HOUSEKEEPING_SECONDS, self._notice_rotated_keys),
            (self._bus.settings.checkpoint_seconds, self._seal),
            (self._bus.settings.poll_seconds, self._move_processes),
            (self._bus.settings.poll_seconds, self._tell_events),
            (BATCH_SECONDS, self._carry_on_bulk_work),
            (WATCH_SECONDS, self._look_for_trouble),
            (TELL_SECONDS, self._tell_of_trouble),
            (_TIDYING_SECONDS, self._tidy),
            (_RETENTION_SECONDS, self._keep_to_the_policy),
            (_FIGURES_SECONDS, self._add_up),
        ]
        if self._stamping is not None:
            duties.append((self._bus.settings.timestamp_seconds, self._stamp))
        keepers = [threading.Thread(target=self._every, args=duty, daemon=True) for duty in duties]
        self._bus.cluster.start(Role.WORK)
        for keeper in keepers:
            keeper.start()
        if self._bell is not None:
            self._bell.start()
        log.info("worker.started", count=self._bus.settings.deliveries_at_once)
        self._relay.run()
        self._stopping.set()
        for keeper in keepers:
            keeper.join()
        self._pool.stop()
        if self._bell is not None:
            self._bell.stop()
        self._events.close()
        self._seal_the_last()
        if self._stamping is not None:
            self._stamping.close()
        self._watch.close()
        self._broker.close()
        self._bus.cluster.stop()
        log.info("worker.stopped")

    def stop(self) -> None:
        """Claim nothing more and end when what is in flight is written. Safe to call from a signal handler's thread."""
        self._relay.stop()

    def standing(self) -> WorkStanding:
        """How this process is, for whoever watches it. Any thread may ask."""
        return WorkStanding(
            in_flight=self._relay.in_flight,
            turned_seconds_ago=time.monotonic() - self._relay.turned_at,
            broker=self._broker.standing(),
        )

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

    def _notice_rotated_keys(self) -> None:
        self._bus.ring.reload_if_changed()

    def _release_stalled(self) -> None:
        released = self._bus.ledger.release_stalled(utc_now())
        if released:
            log.warning("deliveries.released", count=released)
            self._broker.tap()

    def _move_processes(self) -> None:
        while self._move() and not self._stopping.is_set():
            pass

    def _tell_events(self) -> None:
        while self._events.run_once() and not self._stopping.is_set():
            pass

    def _carry_on_bulk_work(self) -> None:
        moved = self._bulk.carry_on_in_turn(self._bus.nodes, self._bus.cluster.id, utc_now())
        if moved:
            log.info("bulk.moved", count=moved)
            self._bus.wake.tap()

    def _look_for_trouble(self) -> None:
        self._watch.look_in_turn(utc_now())

    def _tell_of_trouble(self) -> None:
        self._watch.tell(utc_now(), self._stopping.is_set)

    def _tidy(self) -> None:
        self._bus.tidy_in_turn(utc_now())

    def _keep_to_the_policy(self) -> None:
        now = utc_now()
        self._retention.make_room(now)
        for table, count in self._retention.erase(now).items():
            log.info("retention.erased", table=table, count=count)

    def _add_up(self) -> None:
        month = self._figures.run_once(utc_now())
        if month is not None:
            log.info("figures.made", month=month)

    def _seal(self) -> None:
        self._sealed(self._bus.seal_in_turn(utc_now()))

    def _stamp(self) -> None:
        if self._stamping is not None:
            self._stamping.stamp_in_turn(utc_now(), self._stopping.is_set)

    def _seal_the_last(self) -> None:
        """Not in turn: there may be nobody else."""
        self._sealed(self._bus.seal_evidence(utc_now()))

    def _sealed(self, checkpoint: Checkpoint | None) -> None:
        if checkpoint is not None:
            log.info("evidence.sealed", size=checkpoint.size)


def _moving(bus: Bus) -> Callable[[], int]:
    """What moves the processes that the settings name. Without any the engine is not even imported."""
    if not bus.settings.process_names:
        return lambda: 0
    from bus.processes.runner import Runner

    return Runner.of(bus).run_once


class _Pool:
    """Threads that deliver, as many as were ever needed at once. concurrent.futures would make a Future for each
    delivery, and nobody here asks for one."""

    def __init__(self, deliver: Callable[[Claim], None]) -> None:
        self._deliver = deliver
        self._claims: queue.SimpleQueue[Claim | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def start(self, claim: Claim, in_flight: int) -> None:
        """Deliver soon, on a thread of the pool; ``in_flight`` counts this claim too. For the relay's thread only."""
        if len(self._threads) < in_flight:
            thread = threading.Thread(target=self._work, name="delivery", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._claims.put(claim)

    def stop(self) -> None:
        """Wait for what was started."""
        for _ in self._threads:
            self._claims.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (claim := self._claims.get()) is not None:
            self._deliver(claim)
