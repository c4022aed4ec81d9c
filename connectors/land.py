"""Land registration systems (VBDLIS, ILIS): dossiers go there, and the land office reports back by calling the bus.

Out::

    POST <url>/TiepNhanHoSo   Authorization: Bearer …     {"TinhId", "HuyenId", "XaId", "SoBienNhan", …}
    → {"data": 1, "status": {"success": true, "code": …, "message": "…"}}      or {"Result": true, "Message", "Data"}

In, below ``/partners/<agency>/<system>/``::

    POST LuanChuyen  ChoBoSung  DaBoSung  KetThuc  KetQuaThue  ThongBaoThue     {"SoBienNhan", …, "SecurityCode"}
    → {"Result": 1, "Message": "", "Data": null}
    POST token       grant_type=password&username=…&password=…                  → {"access_token", "expires_in"}

Source: vietnam.md 4.17 and 6.2, and the code of a living one-stop that speaks to both products (TD: VBDLIS, ILIS). The
two products differ in the names of operations (``DIALECTS``) and in the proof.

============================ ======================================= ================================
service                      out: ilis / vbdlis                      in
============================ ======================================= ================================
``land.transfer``            TiepNhanHoSo / tiepnhan
``land.supplement``          BoSungHoSo / capnhattrangthaibosunghoso
``land.returned``            CapNhatTrangThaiHoSo / capnhat…hoso
``land.result-wrong``        phanhoihososaiketqua, both
``land.tax-receipt``         ChungTuThue, both (name assumed)
``land.moved``                                                       LuanChuyen
``land.waiting``                                                     ChoBoSung
``land.supplemented``                                                DaBoSung
``land.finished``                                                    KetThuc
``land.tax-result``                                                  KetQuaThue
``land.tax-notice``                                                  ThongBaoThue, nhantbthuedvcqg
============================ ======================================= ================================

Endpoint settings: ``dialect`` (``ilis``), ``operations`` (over the dialect's), ``auth`` (``password``: OAuth password
grant; ``security_code``: a member of the body), ``token_path``, ``client_id``, ``headers``, ``wording`` (list
``exists``), and ``inbound`` with ``receivers`` (agencies that take the reports; needed), ``auth`` (the same two;
``security_code``), ``operations`` (path → service). The secret is ``user:password``, where the password is the security
code too, or a JSON object of ``user``, ``password``, ``security_code`` and ``client_secret``.

Quirks kept here and nowhere else:

- A repeat is answered by "đã tồn tại": the dossier is there, so it is delivered. Words decide only this.
- The security code is a secret inside a document: it is written into and cut out of the bytes, and every other byte
  stays. What is recorded and delivered has no trace of it.
- Amounts of land tax pass 2,147,483,647 đồng (P31): nothing here reads them.
- A report that comes twice is one message: the same operation, receipt number and bytes but for the code. There is no
  number of a report to go by, and a dossier moves more than once.
- ``Result`` goes out as 1 or 0: one client declares it a number, and those that want a boolean read a number too.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs, urlencode

from connectors.base import Answer, Incoming, Outcome, Parcel, PartnerCall, Reply, message_id_of
from connectors.http import HttpClient, check_status
from connectors.oauth2 import TokenCalls, place
from connectors.partner_json import (
    name_and_password,
    operation_of,
    payload_object,
    reply_object,
    says,
    setting_mapping,
    setting_text,
    setting_texts,
    shown_code,
    with_member,
    without_member,
)
from connectors.rest import fixed_headers, kept, question_headers
from registry.model import Endpoint
from schemas.codec import read_content_type, read_json, write_json
from schemas.identifiers import AgencyCode, DossierCode, ServiceCode
from schemas.message import sha256_hex
from schemas.problem import (
    InvalidReply,
    Malformed,
    NotIdentified,
    Problem,
    ProviderRejected,
    ProviderUnavailable,
)

#: Names of the operations by product, from the code of a living client.
DIALECTS: dict[str, dict[str, str]] = {
    "ilis": {
        "land.transfer": "TiepNhanHoSo",
        "land.supplement": "BoSungHoSo",
        "land.returned": "CapNhatTrangThaiHoSo",
        "land.result-wrong": "phanhoihososaiketqua",
        "land.tax-receipt": "ChungTuThue",
    },
    "vbdlis": {
        "land.transfer": "tiepnhan",
        "land.supplement": "capnhattrangthaibosunghoso",
        "land.returned": "capnhattrangthaitraketquahoso",
        "land.result-wrong": "phanhoihososaiketqua",
        "land.tax-receipt": "ChungTuThue",
    },
}
#: What the land office reports, by the last part of the address it calls.
REPORTS = {
    "LuanChuyen": "land.moved",
    "ChoBoSung": "land.waiting",
    "DaBoSung": "land.supplemented",
    "KetThuc": "land.finished",
    "KetQuaThue": "land.tax-result",
    "ThongBaoThue": "land.tax-notice",
    # The address of tax notices at provinces on the national platform (OCPS-FILTER).
    "nhantbthuedvcqg": "land.tax-notice",
}
#: The dossier is there already (TD).
EXISTS = ("đã tồn tại",)
PROOF = "SecurityCode"
#: Life of a token that the land system gets from us, in seconds.
TOKEN_SECONDS = 3600
#: The form of a login is a few hundred bytes; nothing longer is parsed for a caller that has proved nothing.
_MAX_FORM_BYTES = 8192

Means = Literal["password", "security_code"]


class LandConnector:
    """Carries dossiers to the land system. Safe under threads; tokens are shared between them."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._calls = TokenCalls(http)

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`. The reply is the land system's answer, byte for byte."""
        dialect = setting_text(endpoint, "dialect", "ilis")
        if dialect not in DIALECTS:
            raise ProviderUnavailable("endpoint-invalid", setting="dialect")
        url = f"{endpoint.url.rstrip('/')}/{operation_of(parcel, endpoint, DIALECTS[dialect])}"
        if PROOF in payload_object(parcel):
            # A sender that knows the code, or guesses at it, does not speak for the bus.
            raise ProviderRejected("payload-not-for-partner", member=PROOF)
        credential = _Credential.read(secret)
        if _means(setting_text(endpoint, "auth", "password"), "auth") == "security_code":
            body = with_member(parcel.body, PROOF, credential.security_code)
            reply = self._post(url, parcel, endpoint, body, "", endpoint.timeout_seconds)
        else:
            reply = self._calls.make(
                lambda bearer, seconds: self._post(url, parcel, endpoint, parcel.body, bearer, seconds),
                endpoint,
                secret,
                token_url=place(endpoint, "token_path", "token"),
                headers=fixed_headers(endpoint),
                form=credential.form(setting_text(endpoint, "client_id")),
                basic=False,
            )
        return kept(judged(check_status(reply), endpoint))

    def close(self) -> None:
        self._http.close()

    def _post(
        self, url: str, parcel: Parcel, endpoint: Endpoint, body: bytes, authorization: str, seconds: float
    ) -> Reply:
        headers = question_headers(parcel, endpoint) | ({"Authorization": authorization} if authorization else {})
        return self._http.request("POST", url, headers=headers, body=body, timeout_seconds=seconds)


def judged(reply: Reply, endpoint: Endpoint) -> Reply:
    """The reply if the land system has what it was given. Both shapes of answer are alive, and 1 is yes as true is."""
    document = reply_object(reply)
    status = document.get("status")
    if "Result" in document:
        yes, message, code = document["Result"] in (True, "1"), document.get("Message"), document["Result"]
    elif isinstance(status, dict):
        yes = document.get("data") == 1 or status.get("success") is True
        message, code = status.get("message"), status.get("code")
    else:
        raise InvalidReply("reply-not-readable")
    if yes or says(message, setting_texts(setting_mapping(endpoint, "wording"), "exists", EXISTS)):
        return reply
    raise ProviderRejected("provider-said-no", code=shown_code(code))


# ---- The land office calls us


class LandReceiver:
    """Takes the land office's reports. Keeps nothing: even a token proves itself."""

    def receive(self, call: PartnerCall, endpoint: Endpoint, secret: bytes | None) -> Incoming | Answer:
        """See :class:`connectors.base.Receiver`."""
        credential = _Credential.read(secret)
        inbound = setting_mapping(endpoint, "inbound")
        means = _means(inbound.get("auth", "security_code"), "inbound")
        if call.method != "POST":
            raise Malformed("partner-call-unknown")
        if call.path.rstrip("/") == "token" and means == "password":
            return _login(call, credential)
        document = _report(call)
        _prove(call, document, credential, means)
        operation = call.path.rstrip("/").rpartition("/")[2]
        service = {**REPORTS, **_operations(inbound)}.get(operation)
        if not isinstance(service, str):
            raise Malformed("partner-call-unknown")
        number = document.get("SoBienNhan") or document.get("MaHoSo")
        if not isinstance(number, str) or not number:
            raise Malformed("partner-call-incomplete", member="SoBienNhan")
        body = without_member(call.body, PROOF)
        return Incoming(
            service=ServiceCode(service),
            receivers=_receivers(inbound),
            body=body,
            content_type="application/json",
            message_id=message_id_of(call.system, service, number, sha256_hex(body)),
            dossier=_dossier(document),
        )

    def answer(self, call: PartnerCall, incoming: Incoming, outcome: Outcome) -> Answer:
        return self.refuse(call, outcome) if isinstance(outcome, Problem) else _said(1, "", 200)

    def refuse(self, call: PartnerCall, problem: Problem) -> Answer:
        """0 and the sentence; the status tells a client that reads no body, and a retrying one that it may."""
        return _said(0, problem.detail("vi"), problem.status)


def _said(result: int, message: str, status: int) -> Answer:
    return Answer(status=status, body=write_json({"Result": result, "Message": message, "Data": None}))


def _report(call: PartnerCall) -> Mapping[str, Any]:
    if not read_content_type(call.content_type or "application/json").is_json:
        raise Malformed("partner-call-not-json")
    document = read_json(call.body)
    if not isinstance(document, dict):
        raise Malformed("partner-call-not-json")
    return document


def _prove(call: PartnerCall, document: Mapping[str, Any], credential: _Credential, means: Means) -> None:
    """The shared code in the body, or a token that we gave. Raises NotIdentified."""
    if means == "security_code":
        proven = _same(document.get(PROOF), credential.security_code)
    else:
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        proven = scheme.lower() == "bearer" and credential.gave(token, call)
    if not proven:
        raise NotIdentified("partner-not-proven")


def _login(call: PartnerCall, credential: _Credential) -> Answer:
    """RFC 6749, 4.3: a token for the name and password, or ``invalid_grant`` in the form's own words."""
    form = parse_qs(call.body[:_MAX_FORM_BYTES].decode("utf-8", errors="replace"), max_num_fields=20)
    given = {name: values[0] for name, values in form.items()}
    named = _same(given.get("username"), credential.user)
    if given.get("grant_type") != "password" or not (_same(given.get("password"), credential.password) and named):
        return Answer(status=400, body=write_json({"error": "invalid_grant"}))
    token = credential.token(call, int(call.received_at.timestamp()) + TOKEN_SECONDS)
    return Answer(
        body=write_json({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS}),
        headers={"Cache-Control": "no-store"},
    )


def _receivers(inbound: Mapping[str, Any]) -> tuple[AgencyCode, ...]:
    codes = setting_texts(inbound, "receivers", ())
    if not codes:
        raise ProviderUnavailable("endpoint-invalid", setting="inbound")
    return tuple(AgencyCode(code) for code in codes)


def _dossier(document: Mapping[str, Any]) -> DossierCode | None:
    """The dossier that a report is about, where the receipt number is one: one-stops often send it as such."""
    for member in ("MaHoSoMotCua", "MaHoSo", "SoBienNhan"):
        try:
            return DossierCode(document.get(member))
        except Malformed:
            continue
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Credential:
    """What the land system and the bus know of each other; never shown, not even by ``repr``."""

    user: str
    password: str
    security_code: str
    client_secret: str = ""

    def __repr__(self) -> str:
        return "_Credential(…)"

    @classmethod
    def read(cls, secret: bytes | None) -> _Credential:
        """From a stored secret in either form. Raises ProviderUnavailable."""
        if not (secret or b"").lstrip().startswith(b"{"):
            user, password = name_and_password(secret)
            return cls(user=user, password=password, security_code=password)
        try:
            parts = read_json(secret or b"")
        except Malformed:
            parts = {}
        texts = {name: parts.get(name, "") for name in ("user", "password", "security_code", "client_secret")}
        if not all(isinstance(text, str) for text in texts.values()) or not (texts["user"] and texts["password"]):
            raise ProviderUnavailable("endpoint-secret-missing")
        return cls(**{**texts, "security_code": texts["security_code"] or texts["password"]})

    def form(self, client_id: str) -> str:
        """The body of a login (RFC 6749, 4.3.2), with the client where there is one."""
        client = {"client_id": client_id, "client_secret": self.client_secret} if client_id else {}
        return urlencode({"grant_type": "password", "username": self.user, "password": self.password, **client})

    def token(self, call: PartnerCall, ends: int) -> str:
        """A token that every process knows again: its end, and a digest that only the password's holder can make."""
        said = f"{call.system}\x1f{ends}".encode()
        digest = hmac.new(self.password.encode(), b"lgsp land token\x1f" + said, hashlib.sha256).digest()
        return f"{ends}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"

    def gave(self, token: str, call: PartnerCall) -> bool:
        ends = token.partition(".")[0]
        if not (ends.isascii() and ends.isdigit() and len(ends) <= 12):
            return False
        return _same(token, self.token(call, int(ends))) and call.received_at.timestamp() <= int(ends)


def _same(given: object, expected: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode(errors="replace"), expected.encode())


def _means(value: object, setting: str) -> Means:
    if value == "password":
        return "password"
    if value == "security_code":
        return "security_code"
    raise ProviderUnavailable("endpoint-invalid", setting=setting)


def _operations(inbound: Mapping[str, Any]) -> Mapping[str, Any]:
    value = inbound.get("operations", {})
    if not isinstance(value, Mapping):
        raise ProviderUnavailable("endpoint-invalid", setting="inbound")
    return value
