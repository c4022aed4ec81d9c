"""Request-reply: the caller's own thread delivers what it has just had recorded, and takes the answer home."""

from __future__ import annotations

from datetime import timedelta

from bus.bulkheads import Bulkheads
from bus.delivery import Delivery, Outcome
from bus.intake import Acceptance
from bus.ledger import Ledger
from bus.records import Claim, StoredReply
from bus.tables import delivery_id
from registry.directory import LiveDirectory
from registry.model import Pattern
from schemas.moment import utc_now
from schemas.problem import InternalFailure, NotFound, Problem, ProviderUnavailable


class Calls:
    """Answers accepted request-reply messages. One instance serves all threads."""

    def __init__(
        self, *, ledger: Ledger, delivery: Delivery, bulkheads: Bulkheads, directory: LiveDirectory, lease: timedelta
    ) -> None:
        self._ledger = ledger
        self._delivery = delivery
        self._bulkheads = bulkheads
        self._directory = directory
        self._lease = lease

    def answer(self, acceptance: Acceptance) -> StoredReply:
        """The provider's reply; for a message that was answered before, the very same reply.

        Raises ProviderFailure. After a failure the caller may send the same message again; it is tried anew.
        """
        if acceptance.repeated:
            return self._answer_again(acceptance)
        return self._deliver(_first_claim(acceptance))

    def _answer_again(self, acceptance: Acceptance) -> StoredReply:
        message_id = acceptance.message.manifest.message_id
        stored = self._ledger.reply_to(message_id)
        if stored is not None:
            return stored
        claim = self._ledger.claim_again(message_id, utc_now(), self._lease)
        if claim is not None:
            return self._deliver(claim)
        if not self._ledger.was_delivered(message_id):
            raise ProviderUnavailable("call-in-progress", retry_after_seconds=2)
        stored = self._ledger.reply_to(message_id)  # the attempt may have ended between the two looks
        if stored is None:
            raise NotFound("reply-erased")
        return stored

    def _deliver(self, claim: Claim) -> StoredReply:
        system = self._directory.current().system(claim.system)
        if not self._bulkheads.try_enter(claim.system, system.concurrency if system else 0):
            busy = ProviderUnavailable(
                "receiver-busy", retry_after_seconds=max(1, round(self._bulkheads.seconds_until_probe(claim.system)))
            )
            self._delivery.give_up(claim, busy)
            raise busy
        outcome: Outcome = self._delivery.deliver(claim)
        if outcome.stored is None:
            problem: Problem = outcome.problem or InternalFailure()
            raise problem
        return outcome.stored


def _first_claim(acceptance: Acceptance) -> Claim:
    """The claim that was written together with the message (its delivery was born *delivering*)."""
    message, manifest = acceptance.message, acceptance.message.manifest
    if acceptance.lease_until is None:
        raise ValueError("a one-way message is delivered from the outbox")
    receiver, system = acceptance.permission.routes[0]
    return Claim(
        delivery_id=delivery_id(acceptance.exchange_id, 0),
        exchange_id=acceptance.exchange_id,
        attempt=1,
        lease_until=acceptance.lease_until,
        message_id=manifest.message_id,
        sender=manifest.sender,
        receiver=receiver,
        system=system.code,
        service=manifest.service,
        service_version=manifest.service_version,
        pattern=Pattern.REQUEST_REPLY,
        manifest_jws=message.manifest_jws,
        manifest_sha256=message.manifest_sha256,
        receipt_jws=acceptance.receipt.receipt,
        body=message.body,
        received_at=message.received_at,
        traceparent=message.traceparent,
        attempts_before=0,
        retry_since=message.received_at,
        dossier=manifest.dossier,
    )
