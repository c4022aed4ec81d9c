"""What the bus itself puts on record: the evidence entries and signed receipts of each fate a message can meet.

Entries hold digests, codes and moments, nothing personal; a body may be erased later and the proof still stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from bus.records import Leaf
from schemas.identifiers import AgencyCode, MessageId
from schemas.message import EMPTY_SHA256, Envelope, Message, Receipt, sha256_hex
from schemas.moment import to_wire
from schemas.problem import Problem
from security.evidence import entries
from security.keys import KeyRing
from security.signing import receipt_claims, sign_receipt


class DeliveryFacts(Protocol):
    """What a record of a delivery is made from; a claim has it all."""

    @property
    def attempt(self) -> int: ...
    @property
    def message_id(self) -> MessageId: ...
    @property
    def manifest_sha256(self) -> str: ...
    @property
    def receiver(self) -> AgencyCode: ...


@dataclass(frozen=True, slots=True)
class EvidenceWriter:
    """Writes entries and signs receipts with the bus's current key. Safe to share between threads."""

    ring: KeyRing

    def accepted(self, message: Message, now: datetime) -> tuple[Receipt, Leaf]:
        """Step 5: the message is ours now. The receipt leaves the house only after the disk has the leaf."""
        leaf = _leaf(entries.accepted(message, at=now))
        claims = receipt_claims(message, state="accepted", leaf=leaf.hash.hex(), recorded_at=now)
        receipt = Receipt(
            message_id=message.manifest.message_id,
            state="accepted",
            received_at=message.received_at,
            receivers=message.manifest.receivers,
            leaf=leaf.hash.hex(),
            receipt=sign_receipt(claims, self.ring),
        )
        return receipt, leaf

    def refused(self, problem: Problem, now: datetime, envelope: Envelope, message: Message | None = None) -> Leaf:
        """Steps 1 to 5: turned away. What a stranger sent is kept as a digest only."""
        proven = {}
        if message is not None:
            manifest = message.manifest
            proven = {
                "message_id": manifest.message_id,
                "manifest_sha256": message.manifest_sha256,
                "sender": manifest.sender,
            }
        entry = entries.refused(reason=problem.reason, body_sha256=sha256_hex(envelope.body), at=now, **proven)
        return _leaf(entry)

    def delivered(self, delivery: DeliveryFacts, now: datetime, reply: bytes = b"") -> tuple[str, Leaf]:
        """Step 8: the receiver has it. The signed receipt names the digest of what it answered."""
        reply_sha256 = sha256_hex(reply) if reply else EMPTY_SHA256
        leaf = _leaf(
            entries.delivered(
                message_id=delivery.message_id,
                manifest_sha256=delivery.manifest_sha256,
                receiver=delivery.receiver,
                attempt=delivery.attempt,
                at=now,
                reply_sha256=reply_sha256,
            )
        )
        claims = {
            "version": 1,
            "message_id": delivery.message_id,
            "manifest_sha256": delivery.manifest_sha256,
            "state": "delivered",
            "receiver": delivery.receiver,
            "attempt": delivery.attempt,
            "delivered_at": to_wire(now),
            "reply_sha256": reply_sha256,
            "leaf": leaf.hash.hex(),
            "iat": int(now.timestamp()),
        }
        return sign_receipt(claims, self.ring), leaf

    def dead(self, delivery: DeliveryFacts, now: datetime, problem: Problem) -> Leaf:
        """Step 8: given up, and why."""
        return _leaf(
            entries.dead(
                message_id=delivery.message_id,
                manifest_sha256=delivery.manifest_sha256,
                receiver=delivery.receiver,
                attempts=delivery.attempt,
                reason=problem.reason,
                at=now,
            )
        )


def _leaf(entry: entries.EvidenceEntry) -> Leaf:
    leaf, encoded = entry.leaf()
    return Leaf(hash=leaf, entry=encoded)
