"""What a connector is: the two protocols, and the values that cross them.

A :class:`Connector` calls a partner; a :class:`Receiver` turns a partner's own call into an envelope for the bus.
Both are plain objects without a base class; the table in ``connectors/table.py`` names them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

from registry.model import Endpoint, HttpCall, SoapCall, System
from schemas.identifiers import AgencyCode, DossierCode, MessageId, ServiceCode, SystemCode
from schemas.message import Manifest, Receipt
from schemas.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One message on its way to one receiver: everything a connector may use, and nothing else of the bus."""

    manifest: Manifest
    #: The sender's manifest as compact JWS, and the bus's receipt for it: both travel with the payload.
    manifest_jws: str
    receipt_jws: str
    body: bytes
    receiver: AgencyCode
    traceparent: str
    #: The receiver's system as the registry knows it; None where a tool or a test has no registry.
    system: System | None = None
    #: 1 for the first try.
    attempt: int = 1
    #: The provider's operation, where the service was registered from its WSDL or OpenAPI.
    call: SoapCall | HttpCall | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the partner answered, exact bytes. ``headers`` has lower-case names and only those worth keeping."""

    body: bytes = b""
    content_type: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The answer as it came over the wire, where ``body`` is only a part of it (the payload of a SOAP envelope).
    original: bytes = b""

    @property
    def received(self) -> bytes:
        """The partner's exact bytes: what the evidence is about."""
        return self.original or self.body


class Connector(Protocol):
    """Carries parcels to one kind of partner. One instance serves all threads of a process."""

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """Hand the parcel over and return the partner's answer.

        Idempotent for the partner: every call carries ``Idempotency-Key: <message id>`` or the partner's own key with
        the same force, and repeats of a parcel carry the same one.

        Raises ProviderUnavailable (refused, reset, 5xx, 408, 425, 429), ProviderTimeout (no answer in
        ``endpoint.timeout_seconds``), ProviderRejected (the partner will never take it; not retried), InvalidReply
        (the answer is nonsense). No error text carries a secret, a payload or an internal address.
        """
        ...

    def close(self) -> None:
        """Let go of kept connections; the instance is not used again."""
        ...


class SecretStore(Protocol):
    """Secrets by name, sealed where they lie. Safe under threads; other processes see what is remembered at once."""

    def __call__(self, name: str) -> bytes | None:
        """The secret of this name, opened; None where there is none."""
        ...

    def remember(self, name: str, secret: bytes) -> None:
        """Keep a secret that a partner has changed, in place of an earlier one. Returns after it is on disk."""
        ...


@runtime_checkable
class RemembersSecrets(Protocol):
    """A connector whose partner changes secrets by itself. It gets the store once, before the first parcel; without
    one (a test, a tool) it remembers in memory only."""

    def remember_in(self, secrets: SecretStore) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """Something for a queue at the broker. ``body`` and ``headers`` hold nothing that the broker may not read."""

    #: The queue's owner.
    mailbox: SystemCode
    message_id: MessageId
    body: bytes
    content_type: str
    headers: Mapping[str, str]
    #: Of an event: its type, and the agency whose matter it is.
    topic: tuple[str, str] = ("", "")


class Mailboxes(Protocol):
    """Queues of members at the broker. Safe under threads."""

    def put(self, letter: Letter, timeout_seconds: float) -> None:
        """Put it into its mailbox, which is made if it is missing. Returns after the broker has it on its disks.

        Raises ProviderUnavailable (``mailbox-full``, ``mailbox-unreachable``), ProviderTimeout. Then it may be there
        nevertheless: a letter may come twice, and has the same message id both times.
        """
        ...


@runtime_checkable
class UsesMailboxes(Protocol):
    """A connector that puts parcels into mailboxes. It gets them once, before the first parcel, where the bus has a
    broker; without them it delivers nothing."""

    def put_into(self, mailboxes: Mailboxes) -> None: ...


# ---- A partner calls us


@dataclass(frozen=True, slots=True, kw_only=True)
class PartnerCall:
    """One call of a partner at its own address, ``/partners/<agency>/<system>/<path>``; nothing is proven."""

    method: str
    #: Below the system's address, without a leading slash.
    path: str
    #: Of a parameter that comes twice the first.
    query: Mapping[str, str]
    #: Names in lower case.
    headers: Mapping[str, str]
    body: bytes
    content_type: str
    received_at: datetime
    #: Whose address was called.
    system: SystemCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A partner's call as the message that it is. From here on it is a message like another: authorised, validated,
    recorded, delivered."""

    service: ServiceCode
    receivers: tuple[AgencyCode, ...]
    #: The payload: the partner's own bytes wherever they are a document of their own.
    body: bytes
    content_type: str
    #: The same for the same call again (:func:`message_id_of`), so that a notice that comes twice is one message.
    message_id: MessageId
    dossier: DossierCode | None = None
    purpose: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the partner gets, in its own words."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


#: How an incoming message ended: recorded (one-way), answered (request-reply), or a problem.
Outcome = Receipt | Reply | Problem


class Receiver(Protocol):
    """Understands one kind of partner that calls us. One instance serves all threads; it keeps nothing of a call."""

    def receive(self, call: PartnerCall, endpoint: Endpoint, secret: bytes | None) -> Incoming | Answer:
        """Prove that the partner itself makes this call, then say which message it is; an Answer for what is none
        (a login, a ping, a call that the protocol wants answered with an error of its own).

        ``endpoint`` is the calling system's; ``endpoint.settings["inbound"]`` holds what the receiver must know, as
        the agency that takes its messages. Raises NotIdentified when the proof does not hold, Malformed for what
        cannot be read; :meth:`refuse` words both.
        """
        ...

    def answer(self, call: PartnerCall, incoming: Incoming, outcome: Outcome) -> Answer:
        """The answer to a message, by how it ended. Success only for what is recorded."""
        ...

    def refuse(self, call: PartnerCall, problem: Problem) -> Answer:
        """The answer to a call that was no message, in the partner's own form. No received value, nothing internal."""
        ...


_NAMESPACE = uuid.UUID("6f0d3c9e-5d1b-5e0a-9a53-6c677370b05e")


def message_id_of(system: SystemCode, *parts: str) -> MessageId:
    """The id of a message whose sender gives none: the same for the same parts of the same system (RFC 9562, UUIDv5).

    ``parts`` must name the message and nothing that changes between repeats: a reference number, not the time.
    """
    return MessageId(str(uuid.uuid5(_NAMESPACE, "\x1f".join((system, *parts)))))
