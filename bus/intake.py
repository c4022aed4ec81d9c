"""The way in: steps 2 to 5 of a message's life, on one screen.

The order is a security argument and therefore visible: nobody unknown is worth work, strangers learn nothing of
schemas, nothing invalid is kept, nothing is acknowledged before the disk has it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bus.attachments import Attachments
from bus.evidence import EvidenceWriter
from bus.finding import Finder
from bus.ledger import Ledger
from bus.logs import get_logger
from bus.quotas import QuotaMeter, quota_periods
from bus.records import NewExchange, Recorded, Refusal
from bus.refused import RefusedMessages
from bus.spans import traced
from registry.access import AccessRequest, Permission, decide
from registry.directory import LiveDirectory
from registry.dossier_view import DossierFact, Heard
from registry.model import Ordering, Pattern, Service
from schemas.message import AttachedFile, Envelope, Message, Receipt
from schemas.moment import utc_now
from schemas.problem import NotPermitted, Refused
from security.identity import Identification

log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """A message is on disk. ``repeated``: it was before; then the receipt is the first one."""

    message: Message
    permission: Permission
    receipt: Receipt
    exchange_id: int
    repeated: bool
    #: Request-reply: until when the caller's own thread holds the delivery.
    lease_until: datetime | None


class Intake:
    """Accepts or refuses one envelope at a time. One instance serves all threads."""

    def __init__(
        self,
        *,
        identification: Identification,
        directory: LiveDirectory,
        quotas: QuotaMeter,
        attachments: Attachments,
        evidence: EvidenceWriter,
        ledger: Ledger,
        finder: Finder,
        refused: RefusedMessages,
        reply_lease: timedelta,
        strangers_recorded_per_second: int,
    ) -> None:
        self._identification = identification
        self._directory = directory
        self._quotas = quotas
        self._attachments = attachments
        self._evidence = evidence
        self._ledger = ledger
        self._finder = finder
        self._refused = refused
        self._reply_lease = reply_lease
        self._strangers = _Allowance(strangers_recorded_per_second)

    def accept(self, envelope: Envelope) -> Acceptance:
        """Steps 2 to 5. Returns when message, evidence and outbox are on disk; raises Refused, which is kept too."""
        message = None
        try:
            message = self._identify(envelope)  # 2
            permission = self._authorise(message)  # 3
            parsed = self._validate(message, permission.service, envelope.attached)  # 4
            return self._record(message, permission, parsed)  # 5
        except Refused as problem:
            self.refuse(problem, envelope, message)
            raise

    def accept_identified(self, message: Message) -> Acceptance:
        """Steps 3 to 5 of a one-way message that was identified when it was refused for want of a right. Raises
        Refused; that it was refused is on record already."""
        permission = self._authorise(message)  # 3
        if permission.service.pattern is not Pattern.ONE_WAY:
            raise NotPermitted("rerun-not-possible")
        parsed = self._validate(message, permission.service, ())  # 4
        return self._record(message, permission, parsed)  # 5

    # 2. Identify: who sends this, and is it what they signed?
    @traced("identify")
    def _identify(self, envelope: Envelope) -> Message:
        return self._identification.identify(envelope)

    # 3. Authorise: a grant for sender, service, purpose, receivers, time and quota
    @traced("authorise")
    def _authorise(self, message: Message) -> Permission:
        manifest = message.manifest
        request = AccessRequest(
            sender=manifest.sender,
            system=message.principal.system,
            service=manifest.service,
            version=manifest.service_version,
            receivers=manifest.receivers,
            purpose=manifest.purpose,
            content_type=manifest.content_type,
            grade=message.grade,
            body_length=len(message.body),
        )
        now = message.received_at
        permission = decide(request, self._directory.current(), lambda grant: self._quotas.usage(grant, now), now)
        self._quotas.count(quota_periods(permission.grant, now))
        return permission

    # 4. Validate: the payload against the contract of its service, attachments present
    @traced("validate")
    def _validate(self, message: Message, service: Service, attached: Sequence[AttachedFile]) -> object:
        contract = self._directory.current().contract_for(service)
        parsed: object = contract.check_request(message.body, message.manifest.content_type)
        for file in attached:
            if file.content is not None:
                self._attachments.add(file.reference.sha256, message.manifest.sender, [file.content])
        self._attachments.check_present(message.manifest)
        return parsed

    # 5. Record: message, deliveries, outbox and evidence in one transaction
    @traced("record")
    def _record(self, message: Message, permission: Permission, parsed: object = None) -> Acceptance:
        service = permission.service
        receipt, leaf = self._evidence.accepted(message, utc_now())
        in_order = service.ordering is Ordering.DOSSIER and message.manifest.dossier is not None
        waits_for_reply = service.pattern is Pattern.REQUEST_REPLY
        lease_until = utc_now() + self._reply_lease if waits_for_reply else None
        facts = self._said_of_dossiers(message, permission, parsed) if service.dossier else ()
        recorded: Recorded = self._ledger.record(
            NewExchange(
                message=message,
                pattern=service.pattern,
                receipt=receipt,
                leaf=leaf,
                routes=tuple((agency, system.code) for agency, system in permission.routes),
                ordering_key=message.manifest.dossier if in_order else None,
                lease_until=lease_until,
                quota_periods=quota_periods(permission.grant, message.received_at),
                dossier_facts=facts,
                search_keys=self._finder.keys(message.trace_id, message.body, facts),
            )
        )
        self._quotas.learn(recorded.quota_used)
        log.info(
            "exchange.repeated" if recorded.repeated else "exchange.recorded",
            message_id=message.manifest.message_id,
            sender=message.manifest.sender,
            service=service.key,
            grade=message.grade.value,
            count=len(permission.routes),
        )
        return Acceptance(
            message=message,
            permission=permission,
            receipt=recorded.receipt,
            exchange_id=recorded.exchange_id,
            repeated=recorded.repeated,
            lease_until=lease_until,
        )

    def _said_of_dossiers(self, message: Message, permission: Permission, parsed: object) -> tuple[DossierFact, ...]:
        manifest = message.manifest
        heard = Heard(
            accepted_at=message.received_at,
            sender=manifest.sender,
            receiver=permission.routes[0][0],
            dossier=manifest.dossier,
        )
        contract = self._directory.current().contract_for(permission.service)
        return contract.dossier_facts(message.body, manifest.content_type, heard, parsed)

    def _goes_one_way(self, message: Message) -> bool:
        """Whoever asks and waits for an answer asks again itself."""
        service = self._directory.current().service(message.manifest.service, message.manifest.service_version)
        return service is not None and service.pattern is Pattern.ONE_WAY

    def refuse(self, problem: Refused, envelope: Envelope, message: Message | None = None) -> None:
        """Keep a refusal as evidence. Strangers' are kept at a bounded rate, so that nobody can fill the disk."""
        log.info("exchange.refused", problem=problem.slug, reason=problem.reason)
        if message is None and not self._strangers.take():
            return
        now = utc_now()
        manifest = message.manifest if message else None
        self._ledger.refuse(
            Refusal(
                refused_at=now,
                problem=problem.slug,
                reason=problem.reason,
                trace_id=envelope.trace_id,
                leaf=self._evidence.refused(problem, now, envelope, message),
                sender=manifest.sender if manifest else None,
                service=manifest.service if manifest else None,
                message_id=manifest.message_id if manifest else None,
                dossier=manifest.dossier if manifest else None,
                # What a stranger names as its subject proves nothing, and would find itself in other people's searches.
                search_keys=self._finder.keys(envelope.trace_id, message.body if message else b""),
                details=_details(problem, message) if message else {},
                kept=self._refused.keep(problem, message, now) if message and self._goes_one_way(message) else None,
            )
        )


#: Places of one refused message that are kept; who mends them sends again and learns of the next.
_MOST_ERRORS = 50


def _details(problem: Refused, message: Message) -> dict[str, Any]:
    """What may be kept of a refused message beside the reason: no value of its payload."""
    manifest = message.manifest
    return {
        "version": manifest.service_version,
        "receivers": list(manifest.receivers),
        "purpose": manifest.purpose,
        "system": message.principal.system,
        "facts": dict(problem.facts),
        "errors": [{"pointer": error.pointer, "detail": error.detail} for error in problem.errors[:_MOST_ERRORS]],
    }


class _Allowance:
    """So many a second, then none until the next. Thread-safe."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._mutex = threading.Lock()
        self._second = 0
        self._taken = 0

    def take(self) -> bool:
        second = int(time.monotonic())
        with self._mutex:
            if second != self._second:
                self._second, self._taken = second, 0
            self._taken += 1
            return self._taken <= self._per_second
