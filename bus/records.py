"""The values that go into the ledger and come out of it. Frozen, safe under threads; moments are aware UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from bus.refused import KeptMessage
from registry.dossier_view import DossierFact
from registry.model import Pattern
from schemas.identifiers import AgencyCode, DossierCode, MessageId, ServiceCode, SystemCode
from schemas.message import Grade, Message, Receipt


class State(StrEnum):
    """Where one delivery stands."""

    WAITING = "waiting"
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    DEAD = "dead"
    #: Dead, and an administrator has decided that it is not to be sent: it left the list of what needs somebody.
    SET_ASIDE = "set-aside"

    @property
    def told(self) -> str:
        """What members are told: setting aside is the house's own affair."""
        return State.DEAD.value if self is State.SET_ASIDE else self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One entry for the evidence log: its hash and the bytes hashed."""

    hash: bytes
    entry: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewExchange:
    """An accepted message on its way to the disk (step 5)."""

    message: Message
    pattern: Pattern
    receipt: Receipt
    leaf: Leaf
    routes: tuple[tuple[AgencyCode, SystemCode], ...]
    #: Set where messages of one dossier must reach a receiver in order.
    ordering_key: str | None = None
    #: Request-reply only: the caller itself delivers, and its claim runs out then.
    lease_until: datetime | None = None
    #: ``(grant id, period)`` pairs whose quota this message uses up.
    quota_periods: tuple[tuple[str, str], ...] = ()
    #: What the payload says of dossiers, in the order in which it happened.
    dossier_facts: tuple[DossierFact, ...] = ()
    #: By what it can be found beside its id (:mod:`bus.finding`).
    search_keys: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What became of a NewExchange: its receipt, which is the first one when the message was here before."""

    exchange_id: int
    receipt: Receipt
    repeated: bool = False
    #: ``(grant id, period) → messages so far``, all processes together.
    quota_used: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A message that was turned away: what may be kept of it as evidence. Only a proven sender is named."""

    refused_at: datetime
    problem: str
    reason: str
    trace_id: str
    leaf: Leaf
    sender: AgencyCode | None = None
    service: ServiceCode | None = None
    message_id: MessageId | None = None
    dossier: DossierCode | None = None
    #: By what it can be found beside its id (:mod:`bus.finding`).
    search_keys: frozenset[int] = frozenset()
    #: Of a proven sender's: ``version``, ``receivers``, ``purpose``, ``system``, ``facts``, ``errors``.
    details: Mapping[str, Any] = field(default_factory=dict)
    #: The message itself, where a grant would mend it and the province keeps such ones.
    kept: KeptMessage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to deliver one message to one receiver until the lease runs out. Carries all that the call needs."""

    delivery_id: int
    exchange_id: int
    attempt: int
    lease_until: datetime
    message_id: MessageId
    sender: AgencyCode
    receiver: AgencyCode
    system: SystemCode
    service: ServiceCode
    service_version: int
    pattern: Pattern
    manifest_jws: str
    manifest_sha256: str
    receipt_jws: str
    body: bytes
    received_at: datetime
    traceparent: str
    #: The retry policy counts attempts after this one and time from this moment: acceptance, or the last replay.
    attempts_before: int
    retry_since: datetime
    dossier: DossierCode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """A message as those see it who count what messages say."""

    exchange_id: int
    service: ServiceCode
    version: int
    received_at: datetime
    #: The first of its receivers.
    receiver: str
    #: None: erased.
    body: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What lies in a queue for a delivery: its number and the trace it belongs to, nothing of the message itself."""

    delivery_id: int
    system: SystemCode
    traceparent: str
    #: The outbox row that it was made from, so that a later one of the same delivery is not mistaken for it.
    outbox_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReply:
    """The answer to a request-reply call: the bytes that the caller gets and the manifest that proves them."""

    #: Empty only in an ``original`` whose provider does not sign.
    manifest_jws: str
    content_type: str
    body: bytes
    #: What the provider itself sent, byte for byte, where the bus translated it into the caller's form.
    original: StoredReply | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How an attempt ended (step 8): delivered, again later (``due_at``), or dead."""

    delivery_id: int
    attempt: int
    state: State
    started_at: datetime
    finished_at: datetime
    #: ``{"problem": slug, "reason": code, "facts": {...}}`` of the last failure, if it failed.
    problem: Mapping[str, Any] | None = None
    due_at: datetime | None = None
    receipt_jws: str | None = None
    leaf: Leaf | None = None
    reply: StoredReply | None = None
    #: What the reply says of dossiers, in the order in which it happened.
    dossier_facts: tuple[DossierFact, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofUse:
    """Something signed that counts once, until it expires anyway."""

    #: SHA-256 of what was signed, hex.
    proof: str
    expires_at: datetime
    #: Names this use: written twice, it is still one.
    use: str


LedgerWork = NewExchange | Refusal | Settlement | ProofUse


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One try of a delivery, as it ended."""

    number: int
    started_at: datetime
    finished_at: datetime
    outcome: State
    problem: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRecord:
    """An order to send a dead delivery again."""

    id: int
    ordered_at: datetime
    actor: str
    reason: str
    after_attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRecord:
    """One receiver's share of a message."""

    id: int
    receiver: AgencyCode
    system: SystemCode
    state: State
    attempt: int
    lease_until: datetime | None
    #: When the bus will try (again); None while it waits for an earlier message, is under way, or has ended.
    due_at: datetime | None
    settled_at: datetime | None
    problem: Mapping[str, Any] | None
    receipt_jws: str | None
    leaf: int | None
    attempts: tuple[AttemptRecord, ...]
    replays: tuple[ReplayRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRecord:
    """One accepted message with all that became of it."""

    #: Also the position of its leaf in the evidence log.
    id: int
    message_id: MessageId
    sender: AgencyCode
    sender_system: SystemCode
    service: ServiceCode
    service_version: int
    pattern: Pattern
    grade: Grade
    dossier: DossierCode | None
    received_at: datetime
    traceparent: str
    manifest_jws: str
    manifest_sha256: str
    receipt_jws: str
    deliveries: tuple[DeliveryRecord, ...]
    #: Its body is older than the bus keeps bodies.
    body_erased: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a message must be to be found; what is left open does not matter."""

    #: Its sender or one of its receivers.
    agency: AgencyCode | None = None
    sender: AgencyCode | None = None
    #: One of its receivers.
    receiver: AgencyCode | None = None
    service: ServiceCode | None = None
    #: Of one of its deliveries; of that agency's own where it receives.
    state: State | None = None
    dossier: DossierCode | None = None
    #: Accepted in ``[since, until)``.
    since: datetime | None = None
    until: datetime | None = None
    #: Older than this exchange.
    before: int | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDelivery:
    """One receiver of a message that was found, in short."""

    receiver: AgencyCode
    system: SystemCode
    state: State
    attempts: int
    settled_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMessage:
    """A message that was found, in short; :meth:`bus.ledger.Ledger.find` tells all of it."""

    exchange_id: int
    message_id: MessageId
    received_at: datetime
    sender: AgencyCode
    service: ServiceCode
    service_version: int
    dossier: DossierCode | None
    deliveries: tuple[FoundDelivery, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPage:
    """Messages that were found, newest first, and how far back was looked for them."""

    messages: tuple[FoundMessage, ...]
    #: Where the next page begins (:attr:`Wanted.before`); None: that was all.
    before: int | None
    #: The moment of acceptance there.
    looked_back_to: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadRecord:
    """One entry of the dead-letter list."""

    delivery_id: int
    message_id: MessageId
    service: ServiceCode
    sender: AgencyCode
    receiver: AgencyCode
    system: SystemCode
    dossier: DossierCode | None
    pattern: Pattern
    attempt: int
    died_at: datetime | None
    problem: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DossierEvent:
    """What one accepted message said of a dossier. ``fact.dossier`` is the code that it used."""

    exchange_id: int
    number: int
    fact: DossierFact
    #: Did the message reach a receiver?
    delivered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalRecord:
    """A message that was turned away."""

    #: Also the position of its leaf in the evidence log.
    id: int
    refused_at: datetime
    problem: str
    reason: str
    sender: str | None
    service: str | None
    message_id: str | None
    trace_id: str
    dossier: str | None = None
    #: What else is known of it (:class:`Refusal`); empty of a stranger's, and of those from before there was this.
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRecord:
    """What waits for one system."""

    system: SystemCode
    waiting: int
    oldest: datetime
