"""The pull inbox: members that cannot be called fetch what waits for them, and say when they have it.

REST and SOAP speak to the same :class:`Inbox`; what differs is only the wire.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from random import random
from typing import ClassVar

from bus.delivery import problem_facts
from bus.evidence import EvidenceWriter
from bus.ledger import Ledger
from bus.logs import get_logger
from bus.records import Claim, Settlement, State
from bus.retry import decide
from registry.directory import LiveDirectory
from registry.model import DeliveryMode, RetryPolicy
from schemas.identifiers import SystemCode
from schemas.message import Principal
from schemas.moment import utc_now
from schemas.problem import IdempotencyConflict, NotFound, NotPermitted, ProviderRejected, ProviderUnavailable

log = get_logger()

#: Longest wait for the first message of a fetch, seconds.
MAX_WAIT_SECONDS = 60
MAX_DELIVERIES = 200
#: What a member says when it gives a delivery back is kept up to here.
MAX_SAID_CHARACTERS = 200
#: One look at the store, so often, serves all who wait in this process.
_WATCH_SECONDS = 0.2


class Inbox:
    """What waits for the systems that fetch. One instance serves all threads.

    A delivery is named ``<delivery id>.<attempt>``: whoever held it before under another attempt cannot settle it.
    """

    def __init__(
        self, *, ledger: Ledger, directory: LiveDirectory, evidence: EvidenceWriter, lease_seconds: float
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._evidence = evidence
        self._lease = timedelta(seconds=lease_seconds)
        self._watch = InboxWatch(ledger)

    def fetch(self, principal: Principal, *, wait_seconds: float, most: int) -> Sequence[Claim]:
        """Leased deliveries, oldest first; none when nothing came within ``wait_seconds``.

        Raises NotPermitted(not-an-inbox).
        """
        system = self._system(principal)
        if wait_seconds and not self._ledger.has_due(system, utc_now()):
            self._watch.wait(system, min(wait_seconds, MAX_WAIT_SECONDS))
        if not self._ledger.has_due(system, utc_now()):
            return []
        return self._ledger.claim({system: max(1, min(most, MAX_DELIVERIES))}, utc_now(), self._lease)

    def acknowledge(self, principal: Principal, delivery: str, started_at: datetime) -> None:
        """The member has stored it.

        Raises NotPermitted(not-an-inbox), NotFound (not yours), IdempotencyConflict(lease-lost).
        """
        claim = self._own_claim(principal, delivery)
        now = utc_now()
        receipt_jws, leaf = self._evidence.delivered(claim, now)
        self._settle(
            Settlement(
                delivery_id=claim.delivery_id,
                attempt=claim.attempt,
                state=State.DELIVERED,
                started_at=started_at,
                finished_at=now,
                receipt_jws=receipt_jws,
                leaf=leaf,
            )
        )

    def give_back(self, principal: Principal, delivery: str, started_at: datetime, *, said: str, final: bool) -> State:
        """The member does not take it; ``final``: never. Otherwise the service's retry policy decides.

        The state that follows. Raises what :meth:`acknowledge` raises.
        """
        claim = self._own_claim(principal, delivery)
        now = utc_now()
        problem = ProviderRejected("refused-by-receiver") if final else ProviderUnavailable("not-acknowledged")
        service = self._directory.current().service(claim.service, claim.service_version)
        decision = decide(
            problem,
            service.retry if service else RetryPolicy(),
            tries=claim.attempt - claim.attempts_before,
            since=claim.retry_since,
            now=now,
            random=random,
        )
        facts = problem_facts(problem) or {}
        self._settle(
            Settlement(
                delivery_id=claim.delivery_id,
                attempt=claim.attempt,
                state=decision.state,
                started_at=started_at,
                finished_at=now,
                problem={**facts, "said": said[:MAX_SAID_CHARACTERS]},
                due_at=decision.due_at,
                leaf=self._evidence.dead(claim, now, problem) if decision.state is State.DEAD else None,
            )
        )
        return decision.state

    def _system(self, principal: Principal) -> SystemCode:
        system = self._directory.current().system(principal.system)
        if system is None or system.suspended or system.mode is not DeliveryMode.INBOX:
            raise NotPermitted("not-an-inbox")
        return system.code

    def _own_claim(self, principal: Principal, delivery: str) -> Claim:
        system = self._system(principal)
        number, _, attempt = delivery.partition(".")
        if not (number.isdecimal() and attempt.isdecimal() and len(delivery) < 40):
            raise NotFound("delivery-unknown")
        claim = self._ledger.held_claim(int(number), int(attempt))
        if claim is None:
            raise IdempotencyConflict("lease-lost")
        if claim.system != system:
            raise NotFound("delivery-unknown")
        return claim

    def _settle(self, settlement: Settlement) -> None:
        if not self._ledger.settle(settlement):
            raise IdempotencyConflict("lease-lost")


class InboxWatch:
    """Lets many long polls wait on one look at the store. Thread-safe."""

    #: The process is told to end: nobody waits any longer, or a long poll would hold it up for a minute. A plain mark,
    #: because a signal handler sets it.
    ending: ClassVar[bool] = False

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._mutex = threading.Lock()
        self._waiting: dict[SystemCode, list[threading.Event]] = defaultdict(list)
        self._watching = False

    def wait(self, system: SystemCode, seconds: float) -> None:
        """Return when something is due for the system, at the latest after ``seconds``."""
        gate = threading.Event()
        with self._mutex:
            self._waiting[system].append(gate)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="inbox-watch", daemon=True).start()
        try:
            gate.wait(seconds)
        finally:
            with self._mutex:
                self._waiting[system].remove(gate)
                if not self._waiting[system]:
                    del self._waiting[system]

    def _watch(self) -> None:
        while True:
            with self._mutex:
                if not self._waiting:
                    self._watching = False
                    return
            due = self._due()
            with self._mutex:
                for system in self._waiting.keys() if self.ending else due & self._waiting.keys():
                    for gate in self._waiting[system]:
                        gate.set()
            time.sleep(_WATCH_SECONDS)

    def _due(self) -> set[SystemCode]:
        now = utc_now()
        try:
            return {system for system, due_at in self._ledger.systems_due(now) if due_at <= now}
        except Exception:  # the store is away for a moment: the next look may find it again
            log.exception("inbox.watch-failed")
            return set()
