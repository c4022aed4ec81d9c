"""What a process sends: a message of the bus itself, as its member system, signed with its own key.

It takes the way of every message (``bus.intake``): the bus's agency needs grants like any other member, the payload
must fit its service, and the evidence has it. Its id follows from the process and the step: sent again after a crash it
is the same message, which has the same receipt and is delivered once.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bus.calls import Calls
from bus.intake import Acceptance, Intake
from bus.processes.condition import find
from bus.processes.definition import Sending
from connectors.base import message_id_of
from registry.directory import LiveDirectory
from registry.model import Pattern
from schemas.codec import write_json
from schemas.identifiers import AgencyCode, DossierCode, MessageId, SystemCode
from schemas.message import Envelope, Manifest, sha256_hex
from schemas.problem import Malformed, SchemaViolation, UnknownService
from security.keys import KeyRing
from security.signing import sign_manifest


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
        manifest = Manifest(
            message_id=message_id_of(self.system, "process", *name),
            sender=self.system.agency,
            receivers=(sending.receiver or _receiver(sending, facts) or service.owner,),
            service=sending.service,
            service_version=version,
            issued_at=now.replace(microsecond=0),
            content_type="application/json",
            body_sha256=sha256_hex(body),
            body_length=len(body),
            purpose=sending.purpose,
            dossier=DossierCode(facts["process"]["dossier"]),
        )
        return Envelope(
            body=body,
            content_type=manifest.content_type,
            headers={"lgsp-manifest": sign_manifest(manifest, self.ring)},
            received_at=now,
            traceparent=f"00-{sha256_hex(name[0].encode())[:32]}-{secrets.token_hex(8)}-01",
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
