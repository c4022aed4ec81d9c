"""What a process sends: a message of the bus itself (:mod:`bus.own_messages`), whose id follows from the process and
the step."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bus.calls import Calls
from bus.intake import Acceptance, Intake
from bus.own_messages import own_envelope
from bus.processes.condition import find
from bus.processes.definition import Sending
from connectors.base import message_id_of
from registry.directory import LiveDirectory
from registry.model import Pattern
from schemas.codec import write_json
from schemas.identifiers import AgencyCode, DossierCode, MessageId, SystemCode
from schemas.message import Envelope, sha256_hex
from schemas.problem import Malformed, SchemaViolation, UnknownService
from security.keys import KeyRing


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """It is recorded; ``answered``: its provider's answer is on disk too."""

    exchange_id: int
    message_id: MessageId
    answered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Sends for processes. Safe to share between threads."""

    system: SystemCode
    ring: KeyRing
    directory: LiveDirectory
    intake: Intake
    calls: Calls

    def send(self, sending: Sending, facts: dict[str, Any], name: tuple[str, ...], now: datetime) -> Sent:
        """``name`` is the process, the step and its number of turns: the message's identity.

        Raises Refused (the message can never go so) and ProviderFailure (the provider of a request did not answer).
        """
        acceptance = self.intake.accept(self._envelope(sending, facts, name, now))
        answered = acceptance.permission.service.pattern is Pattern.REQUEST_REPLY
        if answered:
            self.calls.answer(acceptance)
        return _sent(acceptance, answered)

    def _envelope(self, sending: Sending, facts: dict[str, Any], name: tuple[str, ...], now: datetime) -> Envelope:
        directory = self.directory.current()
        version = sending.version or directory.latest_version(sending.service)
        service = directory.service(sending.service, version) if version else None
        if service is None or version is None:
            raise UnknownService("service-unknown", service=sending.service)
        body = write_json(sending.content.apply({**facts, "payload": {}}).get("payload"))
        return own_envelope(
            self.ring,
            self.system,
            message_id=message_id_of(self.system, "process", *name),
            receivers=(sending.receiver or _receiver(sending, facts) or service.owner,),
            service=service,
            body=body,
            content_type="application/json",
            traceparent=f"00-{sha256_hex(name[0].encode())[:32]}-{secrets.token_hex(8)}-01",
            now=now,
            purpose=sending.purpose,
            dossier=DossierCode(facts["process"]["dossier"]),
        )


def _receiver(sending: Sending, facts: dict[str, Any]) -> AgencyCode | None:
    """The agency that the facts name, where the definition says so."""
    if not sending.receiver_at:
        return None
    found = find(facts, sending.receiver_at)
    if not isinstance(found, str):
        raise SchemaViolation("process-receiver-unknown")
    try:
        return AgencyCode(found)
    except Malformed:
        raise SchemaViolation("process-receiver-unknown") from None


def _sent(acceptance: Acceptance, answered: bool) -> Sent:
    return Sent(
        exchange_id=acceptance.exchange_id,
        message_id=acceptance.message.manifest.message_id,
        answered=answered,
    )
