"""The outbox behind a queue of its own for each receiver: step 6 as a thread, and deliveries claimed by reference.

::

    outbox row due ──hold──▶ published ──confirmed──▶ noted as queued ─ ─ ─ claim takes the row away
                     ▲             failed, or not confirmed in time │
                     └──────────────────────────────────────────────┘

Most deliveries are claimed before anybody notes that their reference has arrived; only of the others it is noted.

The row stays until the delivery is claimed, so nothing is lost with the broker: a reference that did not arrive is sent
again a second later, one that nothing is known of when its hold runs out, and so is what lay in a queue that is found
empty (a broker that lost its disks). A reference too many claims nothing: the ledger knows whether its delivery still
waits.

A reference is acknowledged when the end of its attempt is on disk, so the queue never holds less than what is open.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice, takewhile
from pathlib import Path
from typing import Final

from bus.broker import BrokerStanding
from bus.broker.rabbitmq import RabbitLink, Received
from bus.ledger import Ledger
from bus.logs import get_logger
from bus.records import Claim, Reference, Settlement
from bus.spans import note_step
from bus.wake import WakeListener
from registry.directory import LiveDirectory
from schemas.identifiers import SystemCode
from schemas.moment import utc_now

log = get_logger()

#: A reference of which by then nothing is known is sent again.
_HOLD: Final = timedelta(seconds=15)
#: What has arrived and is not claimed so soon is noted. Noting it at once would be one more change of every row.
_NOTE_AFTER_SECONDS: Final = 5.0
#: How soon to look for what did not arrive while something is on its way.
_CONFIRM_SECONDS: Final = 0.2
#: A turn of the dispatcher that comes sooner finds little to send, and costs as much.
_TURN_SECONDS: Final = 0.02
#: How soon after a reference is known not to have arrived it is sent again; at once, a queue that takes nothing would
#: keep a dispatcher running in circles.
_AGAIN: Final = timedelta(seconds=1)
#: Of one system in one turn, and of all that are on their way to the broker: more would only fill memory.
_MOST_OF_A_SYSTEM: Final = 500
_MOST_UNCONFIRMED: Final = 4000
#: What lies here unused for so long, because its receiver rests, goes back to the outbox: a broker ends the channel of
#: those who hold a message for half an hour, and another node may have more luck.
_IDLE_SECONDS: Final = 120.0
#: How long a reference rests that was handed back.
_REST: Final = timedelta(seconds=30)
#: The same of a reference whose receiver's breaker is open; the breaker itself rests longer.
_SHORT_REST: Final = timedelta(seconds=5)
#: How often the queues are looked at, and how long something must have lain in one before it is missed there.
_LOOK_SECONDS: Final = 30.0
_MISSED_AFTER: Final = timedelta(seconds=120)


class QueuedBroker:
    """See :class:`bus.broker.Broker`. Start it before use."""

    def __init__(
        self,
        ledger: Ledger,
        directory: LiveDirectory,
        wake_folder: Path,
        urls: Sequence[str],
        *,
        lease_seconds: float,
        poll_seconds: float,
        authority_file: str = "",
        most_to_hold: Callable[[Mapping[SystemCode, int]], Mapping[SystemCode, int]] = dict,
    ) -> None:
        """``most_to_hold``: of how many deliveries each system may have open, how many references lie here at most."""
        self._most_to_hold = most_to_hold
        self._ledger = ledger
        self._directory = directory
        self._lease = timedelta(seconds=lease_seconds)
        self._poll_seconds = poll_seconds
        self._listener = WakeListener(wake_folder)
        self._changed = threading.Event()
        self._link = RabbitLink(urls, on_change=self._on_change, authority_file=authority_file)
        #: What was claimed by which reference and until when, until its end is on disk. Of the relay's thread.
        self._held: dict[tuple[int, int], tuple[Received, datetime]] = {}
        #: References that have arrived, and when that was heard. Of the dispatcher's thread.
        self._arrived: deque[tuple[float, Reference]] = deque()
        self._swept_at = time.monotonic()
        self._stopping = threading.Event()
        self._giving_back = threading.Event()
        self._dispatching = threading.Thread(target=self._dispatch, name="dispatch", daemon=True)
        self._systems_of: tuple[int, Mapping[SystemCode, int]] = (-1, {})

    def start(self) -> None:
        self._link.start()
        self._dispatching.start()

    # ── steps 7 and 8, for the relay's thread ─────────────────────────────────────────────────────────────────────

    def systems_due(self, now: datetime) -> list[tuple[SystemCode, datetime]]:
        return [(system, now) for system in self._link.received()]

    def take(self, settled: Sequence[Settlement], places: Mapping[SystemCode, int], now: datetime) -> list[Claim]:
        taken = [each for system, most in places.items() for each in self._link.take(system, most)]
        try:
            claims = self._ledger.settle_and_claim_these(
                settled, [each.delivery_id for each in taken], now, self._lease
            )
        except BaseException:
            self._link.put_back(reversed(taken))
            raise
        self._link.acknowledge([*self._ended(settled), *self._unused(taken, claims), *self._run_out(now)])
        return claims

    def _ended(self, settled: Sequence[Settlement]) -> Iterable[Received]:
        for settlement in settled:
            held = self._held.pop((settlement.delivery_id, settlement.attempt), None)
            if held is not None:
                yield held[0]

    def _unused(self, taken: Sequence[Received], claims: Sequence[Claim]) -> Iterable[Received]:
        """References that claimed nothing: repeats, and what has been settled meanwhile."""
        claimed = {claim.delivery_id: claim for claim in claims}
        for reference in taken:
            claim = claimed.pop(reference.delivery_id, None)
            if claim is None:
                yield reference
            else:
                self._held[claim.delivery_id, claim.attempt] = (reference, claim.lease_until)

    def _run_out(self, now: datetime) -> Iterable[Received]:
        """References whose lease ran out before anybody wrote an end: the ledger makes their deliveries due again."""
        if time.monotonic() - self._swept_at < _LOOK_SECONDS:
            return
        self._swept_at = time.monotonic()
        for key, (reference, lease_until) in list(self._held.items()):
            if lease_until < now:
                del self._held[key]
                yield reference

    def wait(self, seconds: float) -> None:
        self._changed.wait(seconds)
        self._changed.clear()

    def tap(self) -> None:
        self._changed.set()
        self._listener.tap()

    def give_back(self) -> None:
        self._giving_back.set()
        self._listener.tap()

    def standing(self) -> BrokerStanding:
        link = self._link
        return BrokerStanding(
            connected=link.is_open,
            blocked=link.is_blocked,
            unconfirmed=link.unconfirmed,
            confirm_seconds=link.confirm_seconds,
        )

    def close(self) -> None:
        self._stopping.set()
        self._listener.tap()
        self._dispatching.join()
        self._link.close()
        self._listener.close()

    def _on_change(self) -> None:
        self._changed.set()

    # ── step 6, on a thread of its own ────────────────────────────────────────────────────────────────────────────

    def _dispatch(self) -> None:
        looked_at = time.monotonic()
        failed: list[Reference] = []
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                failed += self._link.failed()
                if failed:
                    self._ledger.hand_back([each.delivery_id for each in failed], utc_now() + _AGAIN)
                    failed = []
                self._arrived.extend((begun, each) for each in self._link.confirmed())
                sent = self._send_due(begun)
                if time.monotonic() - looked_at > _LOOK_SECONDS:
                    looked_at = time.monotonic()
                    self._keep_house()
                self._find_lost()
            except Exception:
                log.exception("dispatch.failed")
                sent = 0
                self._stopping.wait(1.0)
            if not sent:
                patience = _CONFIRM_SECONDS if self._link.unconfirmed else self._poll_seconds
                self._listener.wait(min(patience, self._poll_seconds))
            time.sleep(max(0.0, _TURN_SECONDS - (time.monotonic() - begun)))

        self._note_the_rest()

    def _note_the_rest(self) -> None:
        """Else other nodes would send it a second time: no harm, and no use."""
        self._arrived.extend((0.0, each) for each in self._link.confirmed())
        if self._arrived:
            now = utc_now()
            try:
                self._ledger.hold_due([reference for _, reference in self._arrived], {}, now, now)
            except Exception:
                log.exception("dispatch.failed")

    def _send_due(self, begun: float) -> int:
        """Note what has arrived, send what is due; returns how many were sent."""
        now, started = utc_now(), time.time_ns()
        systems = self._served_systems()
        self._hold(systems)
        unclaimed = self._arrived_before(begun - _NOTE_AFTER_SECONDS)
        limits = {} if self._must_pause() else dict.fromkeys(systems, _MOST_OF_A_SYSTEM)
        if not unclaimed and not limits:
            return 0
        references = self._ledger.hold_due(unclaimed, limits, now, now + _HOLD)
        for _ in unclaimed:
            self._arrived.popleft()
        if references:
            self._link.publish(references)
            for reference in references:
                note_step("dispatch", reference, started)
        return len(references)

    def _hold(self, systems: Mapping[SystemCode, int]) -> None:
        """Take references, as many as can be used here. What lies here of a system that rests goes back to the outbox
        for that time; the queue itself would hand it out again at once, and count that as a failure each time."""
        wanted = {} if self._giving_back.is_set() else self._most_to_hold(systems)
        self._link.consume(wanted)
        unwanted = [system for system in self._link.received() if system not in wanted]
        resting = [each for system in unwanted for each in self._link.take(system, _MOST_OF_A_SYSTEM)]
        if not resting:
            return
        due_at = utc_now() + (timedelta(0) if self._giving_back.is_set() else _SHORT_REST)
        try:
            self._ledger.hand_back([each.delivery_id for each in resting], due_at)
        except BaseException:
            self._link.put_back(reversed(resting))
            raise
        self._link.acknowledge(resting)

    def _must_pause(self) -> bool:
        return not self._link.is_open or self._link.is_blocked or self._link.unconfirmed >= _MOST_UNCONFIRMED

    def _arrived_before(self, moment: float) -> list[Reference]:
        """What arrived until then and has not been noted, a part at a time."""
        arrived = takewhile(lambda each: each[0] <= moment, self._arrived)
        return [reference for _, reference in islice(arrived, _MOST_UNCONFIRMED)]

    def _served_systems(self) -> Mapping[SystemCode, int]:
        """The systems that are delivered to, with the most deliveries that may be open at each."""
        directory = self._directory.current()
        if self._systems_of[0] != directory.revision:
            pushed = {
                system.code: system.concurrency
                for system in directory.systems.values()
                if system.mode.is_delivered and not system.suspended
            }
            self._systems_of = (directory.revision, pushed)
        return self._systems_of[1]

    def _keep_house(self) -> None:
        idle = self._link.take_older_than(_IDLE_SECONDS)
        if idle:
            self._ledger.hand_back([each.delivery_id for each in idle], utc_now() + _REST)
            self._link.acknowledge(idle)
        self._link.look_at(self._ledger.queued_systems(utc_now() - _MISSED_AFTER))

    def _find_lost(self) -> None:
        """An empty queue holds nothing of what the outbox thinks is there; at most what is in somebody's hands."""
        now = utc_now()
        for system, ready in self._link.depths().items():
            if ready == 0:
                found = self._ledger.requeue_lost(system, now - _MISSED_AFTER, now)
                if found:
                    log.warning("outbox.sent_again", system=system, count=found)
