"""The national portal's calls to us: dossiers filed there, promotion notices, supplements, tax notices.

::

    POST /partners/<agency>/<system>/mapi/login   {"username", "password"}         → {"error_code": 0, "session": "…"}
    POST /partners/<agency>/<system>/<operation>  {"session", "service", "isUpdating", "data": {…}}
                                                  {"session", "MaHoSo", "TepDonDangKy": "<base64>", …}
                                                                                   → {"error_code": "0", "message"}

Source: vietnam.md 4.1, 4.5, 5.1 (OCPS-DVC, OCPS-FILTER): a province publishes on its own side what it calls at the
portal's. The operation stands in ``service``, or is the last part of the path; the session in the body or in the header
of that name; both are read. What follows ``isUpdating: "True"`` is a supplement to what came before.

======================== ========================== ============================ ===================================
operation                message                    with isUpdating "True"       the same again
======================== ========================== ============================ ===================================
``nhanhsdvcqg``          ``dossier.submitted``      ``dossier.supplement``       taken, one message
``addtthcKhuyenMai``     ``promotion.notice``       ``promotion.supplement``     1, "duplicate refId"; one message
``nhantbthuedvcqg``      ``tax.notice``             ``tax.notice``               taken, one message
======================== ========================== ============================ ===================================

A message's payload is the portal's document as it was written; the envelope around it, session included, goes no
further. Sessions are signed and not kept: any process of the bus knows another's, and they end by themselves or with
the password.

``settings["inbound"]`` of the endpoint: ``receiver`` (the agency that takes the messages, needed), ``purpose``,
``services`` (operation → service), ``session_seconds`` (900). The secret's second line is the ``username:password``
that the portal logs in with; without one nobody can.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from connectors.adapter import refuse_guessable
from connectors.base import Answer, Incoming, Outcome, PartnerCall, message_id_of
from connectors.http_call import written_members
from connectors.national_portal import outgoing
from connectors.partner_json import name_and_password, setting_mapping, setting_text
from registry.model import Endpoint
from schemas.codec import read_json, write_json
from schemas.identifiers import AgencyCode, DossierCode, ServiceCode, SystemCode
from schemas.message import Receipt, sha256_hex
from schemas.problem import (
    IdempotencyConflict,
    InternalFailure,
    Malformed,
    NotIdentified,
    Problem,
    ProviderUnavailable,
    Refused,
    UnknownService,
)

#: Operation of the portal → service of the bus, for what is new and for what supplements it.
SERVICES: Final[Mapping[str, tuple[str, str]]] = {
    "nhanhsdvcqg": ("dossier.submitted", "dossier.supplement"),
    "addtthcKhuyenMai": ("promotion.notice", "promotion.supplement"),
    "nhantbthuedvcqg": ("tax.notice", "tax.notice"),
}
#: The portal's own number of a document, the first that is there (vietnam.md 4.5).
REFERENCES: Final = ("MaHoSoQG", "MaHoSo")
#: Documents that are one by their number alone. Of supplements and tax notices a dossier has several.
NUMBERED: Final = frozenset({"nhanhsdvcqg", "addtthcKhuyenMai"})
#: What makes the envelope when there is no ``data``.
ENVELOPE: Final = frozenset({"session", "madonvi", "service", "isUpdating"})
#: Life of a session: the portal's own is unknown, and a living client logs in for each call.
SESSION_SECONDS: Final = 900
#: Longest text that is looked at as a session.
_SESSION_LENGTH: Final = 200


class NationalPortalReceiver:
    """See :class:`connectors.base.Receiver`. Safe under threads; keeps nothing."""

    def receive(self, call: PartnerCall, endpoint: Endpoint, secret: bytes | None) -> Incoming | Answer:
        """A login is answered; everything else needs a session of ours and is a message."""
        document = _document(call)
        door = _Door.of(call.system, endpoint, secret)
        if call.path.rpartition("/")[2] == "login":
            return door.log_in(document, call.received_at)
        session = document.get("session") or call.headers.get("session", "")
        if not door.holds(session, call.received_at):
            raise NotIdentified("portal-session-invalid")
        return _incoming(call, document, door.inbound)

    def answer(self, call: PartnerCall, incoming: Incoming, outcome: Outcome) -> Answer:
        """Zero for what is recorded; a promotion notice that was here before is an error of the portal's protocol."""
        if not isinstance(outcome, Receipt):
            return self.refuse(call, outcome if isinstance(outcome, Problem) else InternalFailure())
        if incoming.service == SERVICES["addtthcKhuyenMai"][0] and outcome.received_at < call.received_at:
            return _said("1", "duplicate refId")
        return _said("0", "Tiếp nhận thành công")

    def refuse(self, call: PartnerCall, problem: Problem) -> Answer:
        """``1`` for a number that stands for something else already, ``-1`` for the rest, as the portal knows it.

        The status is 200 whatever happened: its clients read the code.
        """
        if isinstance(problem, IdempotencyConflict):
            return _said("1", "duplicate refId")
        if problem.reason == "portal-session-invalid":
            return _said("-1", "session không hợp lệ")
        # What went wrong on our side is for our operators; the portal sends again.
        return _said(
            "-1", problem.detail("vi") if isinstance(problem, Refused) else "Hệ thống bận, vui lòng gửi lại sau"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Door:
    """What one system's portal proves itself with, and where its messages go."""

    name: str
    password: str
    key: bytes
    seconds: int
    inbound: Mapping[str, Any]

    @classmethod
    def of(cls, system: SystemCode, endpoint: Endpoint, secret: bytes | None) -> _Door:
        """Raises ProviderUnavailable for settings or a secret that an operator must mend; nobody gets in until then."""
        inbound = setting_mapping(endpoint, "inbound")
        seconds = inbound.get("session_seconds", SESSION_SECONDS)
        if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 < seconds <= 86_400:
            raise ProviderUnavailable("endpoint-invalid", setting="inbound.session_seconds")
        line = (secret or b"").strip().partition(b"\n")[2]
        name, password = name_and_password(line)
        if line.strip() == outgoing(secret):
            # One password for both ways would let the portal's logs open the province, and ours the portal.
            raise ProviderUnavailable("endpoint-secret-weak")
        refuse_guessable(password, setting_text(endpoint, "madonvi"))
        key = hmac.digest(line, b"lgsp-portal-session\x1f" + system.encode(), "sha256")
        return cls(name=name, password=password, key=key, seconds=seconds, inbound=inbound)

    def log_in(self, document: Mapping[str, Any], now: datetime) -> Answer:
        named = _same(document.get("username"), self.name)
        if not (_same(document.get("password"), self.password) and named):
            raise NotIdentified("portal-login-wrong")
        facts = f"{int(now.timestamp()) + self.seconds:x}.{secrets.token_hex(8)}"
        # A number here, a text in every other answer: as the portal's own login does it (P4).
        return _answer({"error_code": 0, "session": f"{facts}.{self._proof(facts)}"})

    def holds(self, session: object, now: datetime) -> bool:
        if not isinstance(session, str) or not session.isascii() or len(session) > _SESSION_LENGTH:
            return False
        facts, _, proof = session.rpartition(".")
        if not hmac.compare_digest(proof, self._proof(facts)):
            return False
        return int(facts.partition(".")[0], 16) > now.timestamp()

    def _proof(self, facts: str) -> str:
        return hmac.new(self.key, facts.encode("ascii"), hashlib.sha256).hexdigest()


def _same(given: object, expected: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _document(call: PartnerCall) -> Mapping[str, Any]:
    document = read_json(call.body)
    if call.method != "POST" or not isinstance(document, dict):
        raise Malformed("portal-call-unreadable")
    return document


def _incoming(call: PartnerCall, document: Mapping[str, Any], inbound: Mapping[str, Any]) -> Incoming:
    operation = str(document.get("service") or call.path.rpartition("/")[2])
    updating = str(document.get("isUpdating", "")).casefold() == "true"
    service = _service(operation, updating, inbound)
    payload = _payload(call.body, document)
    first = _first(document)
    reference = next((first[name] for name in REFERENCES if isinstance(first.get(name), str) and first[name]), "")
    # What has no number of its own is the same when every byte of it is.
    numbered = bool(reference) and operation in NUMBERED and not updating and not _several(document)
    parts = (operation, reference) if numbered else (operation, str(updating), reference, sha256_hex(payload))
    return Incoming(
        service=service,
        receivers=(_receiver(inbound),),
        body=payload,
        content_type="application/json",
        message_id=message_id_of(call.system, *parts),
        dossier=None if _several(document) else _dossier(reference),
        purpose=str(inbound.get("purpose", "")),
    )


def _service(operation: str, updating: bool, inbound: Mapping[str, Any]) -> ServiceCode:
    table = inbound.get("services", {})
    named = table.get(operation) if isinstance(table, Mapping) else None
    if isinstance(named, str):
        return ServiceCode(named)
    if operation not in SERVICES:
        raise UnknownService("portal-operation-unknown")
    return ServiceCode(SERVICES[operation][updating])


def _receiver(inbound: Mapping[str, Any]) -> AgencyCode:
    try:
        return AgencyCode(inbound.get("receiver"))
    except Malformed:
        raise ProviderUnavailable("endpoint-invalid", setting="inbound.receiver") from None


def _payload(body: bytes, document: Mapping[str, Any]) -> bytes:
    """The document inside the envelope, each value as it was written; all of the body when there is no envelope."""
    data = document.get("data")
    if isinstance(data, list | dict):
        text = written_members(body)["data"]
        if isinstance(data, dict):
            return text.encode()
        if not data or not all(isinstance(row, dict) for row in data):
            raise Malformed("portal-call-unreadable")
        return text[1:-1].strip().encode() if len(data) == 1 else f'{{"data":{text}}}'.encode()
    if "data" in document:
        raise Malformed("portal-call-unreadable")
    if not ENVELOPE & document.keys():
        return body
    members = written_members(body).items()
    rest = (f"{write_json(name).decode()}:{text}" for name, text in members if name not in ENVELOPE)
    return f"{{{','.join(rest)}}}".encode()


def _first(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document that is told about: the first of a list, and an empty one for what the payload refuses anyway."""
    data = document.get("data", document)
    first = data[0] if isinstance(data, list) and data else data
    return first if isinstance(first, Mapping) else {}


def _several(document: Mapping[str, Any]) -> bool:
    data = document.get("data")
    return isinstance(data, list) and len(data) > 1


def _dossier(reference: str) -> DossierCode | None:
    """The dossier's code, if the portal's number is written as one; a trace by another number goes by the payload."""
    try:
        return DossierCode(reference)
    except Malformed:
        return None


def _said(code: str, message: str) -> Answer:
    return _answer({"error_code": code, "message": message})


def _answer(document: Mapping[str, Any]) -> Answer:
    return Answer(body=write_json(document))
