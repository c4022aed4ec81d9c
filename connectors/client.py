"""The client of an agency: what a member's software needs to send, call, receive and check.

::

    key = SigningKey.load(Path("one-stop.pem"))
    client = AgencyClient("https://bus.example.vn", key, system="H99.15/mot-cua")
    receipt = client.send("dossier.transfer", ["H99.16"], {"MaHoSo": "H99.15-260423-0001"})
    for delivery in client.inbox():
        save(delivery.body)     # first keep it, then acknowledge: the other order loses data
        delivery.ack()

Every message is signed here, with the agency's own key, and every answer is checked here: a receipt against the bus's
public keys, a reply against the request it answers. The keys come from ``GET /v1/keys`` once, or better are pinned:
give ``bus_keys``, the JWK Set that the operator handed over.

One client serves all threads of a process. Failures are the classes of :mod:`schemas.problem`: what the bus refused
comes back as the same class with the same reason.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import mimetypes
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import uuid6
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from connectors.base import Reply
from connectors.http import HttpClient, HttpSettings, retry_after_seconds
from connectors.rest import content_digest
from schemas.codec import read_json, write_json
from schemas.identifiers import AgencyCode, DossierCode, MessageId, ServiceCode, SystemCode
from schemas.message import AttachmentReference, Direction, Manifest, Receipt, sha256_hex
from schemas.moment import from_wire, utc_now
from schemas.problem import (
    FieldError,
    InvalidReply,
    NotFound,
    Problem,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    Refused,
)
from security import base64url
from security.keys import Algorithm, PublicKey, PublicKeyRecord, Signer, checked_public_key, key_id_of
from security.signing import sign_manifest, verify_manifest, verify_receipt

T = TypeVar("T")

#: A client assertion is used within seconds; RFC 7523 asks for a short life and the bus takes at most 300 s.
ASSERTION_SECONDS = 120
#: Ask for a new token this long before the old one ends, so that none ends on its way.
TOKEN_MARGIN_SECONDS = 30
#: Fifty messages of 2 MiB in base64: the most that one look into the inbox brings unless it asks for more.
MAX_ANSWER_BYTES = 160 * 1024 * 1024
#: A file of 512 MiB over a 10 Mbit/s line takes about seven minutes.
TRANSFER_TIMEOUT_SECONDS = 900.0
_RECEIPT_FACTS = ("message_id", "state", "received_at", "receivers", "leaf")
#: The JWK Set names keys, not systems, and nothing that checks receipts asks: a placeholder for the bus's own code.
_BUS = SystemCode("Z00/lgsp")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedReply:
    """A provider's answer whose manifest was checked: signature, body digest, and that it answers this request."""

    body: bytes
    content_type: str
    manifest: Manifest
    manifest_jws: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxDelivery:
    """One message from the inbox, checked against the bus's receipt. Yours until ``lease_until``; then it comes again.

    :meth:`ack` after it is saved, :meth:`nack` to give it back. Neither is needed twice.
    """

    delivery_id: str
    manifest: Manifest
    manifest_jws: str
    receipt_jws: str
    body: bytes
    attempt: int
    lease_until: datetime | None
    _client: AgencyClient = field(repr=False, compare=False)

    def ack(self) -> None:
        """Tell the bus that this is safely stored: it will not come again."""
        self._client._settle(self.delivery_id, "ack", None)

    def nack(self, reason: str, *, final: bool = False) -> None:
        """Give it back: to come again later, or never when ``final`` (it then counts as dead and its sender is told).
        ``reason`` is shown to operators of both sides: no personal data."""
        self._client._settle(self.delivery_id, "nack", {"reason": reason[:200], "final": final})

    def download(self, attachment: AttachmentReference, path: Path) -> None:
        """Fetch an attachment of this message to ``path``; the file is there only if its digest is right."""
        self._client.download(attachment.sha256, path)


class AgencyClient:
    """A member of the bus speaking for one system of one agency."""

    def __init__(
        self,
        bus_url: str,
        key: Signer,
        agency: AgencyCode | str | None = None,
        system: SystemCode | str = "",
        *,
        bus_keys: Mapping[str, Any] | None = None,
        provider_keys: Sequence[PublicKeyRecord] = (),
        http: HttpSettings | None = None,
        timeout_seconds: float = 35.0,
        attempts: int = 5,
        audience: str = "",
        wait: Callable[[float], None] = time.sleep,
        clock: Callable[[], datetime] = utc_now,
        language: str = "en",
    ) -> None:
        """``system`` is the registered system whose key this is; ``agency`` is its own unless it speaks for another.

        ``bus_keys`` pins the bus's JWK Set; ``provider_keys`` are keys of providers that sign their own replies.
        ``attempts`` counts tries over a lost connection or a busy bus, all with the same message id. ``language`` is
        the one in which the bus shall tell its refusals (``vi``, ``en``).
        """
        self.system = SystemCode(system)
        self.agency = AgencyCode(agency) if agency else self.system.agency
        self._bus_url = bus_url.rstrip("/")
        self._audience = (audience or bus_url).rstrip("/")
        self._key = key
        self._http = HttpClient(http or HttpSettings(max_reply_bytes=MAX_ANSWER_BYTES))
        self._timeout_seconds = timeout_seconds
        self._attempts = attempts
        self._wait = wait
        self._clock = clock
        self._language = language
        self._lock = threading.Lock()
        self._provider_keys = {record.key_id: record for record in provider_keys}
        self._pinned = bus_keys is not None
        self._bus_keys = read_key_set(bus_keys) if bus_keys is not None else {}
        self._token = ""
        self._token_until = 0.0

    # --- sending -----------------------------------------------------------------------------------------------------

    def send(
        self,
        service: str,
        receivers: Sequence[str],
        payload: bytes | Mapping[str, Any] | Sequence[Any],
        *,
        dossier: str | None = None,
        purpose: str = "",
        user: str = "",
        attachments: Sequence[Path] = (),
        content_type: str = "application/json",
        service_version: int = 1,
        message_id: str | None = None,
    ) -> Receipt:
        """Sign one message, hand it over and return the bus's checked receipt: from then on it is the bus's to deliver.

        Bytes are sent as they are; anything else becomes JSON. Files are uploaded first. To repeat a send whose outcome
        is unknown, give the same ``message_id``: the bus answers with the first receipt and delivers once.

        Raises the bus's refusal (a Refused), ProviderUnavailable when the bus stays out of reach, InvalidReply when the
        receipt is not good.
        """
        manifest, body = self._manifest(
            service, receivers, payload, dossier, purpose, user, attachments, content_type, service_version, message_id
        )
        jws, reply = self._post_exchange(manifest, body)
        # The bus may answer an id that was used before with the receipt of that first time, whose manifest was signed
        # at another moment; a fresh id can only have this one.
        return self._receipt(manifest, reply, "" if message_id else _signed_payload_sha256(jws))

    def call(
        self,
        service: str,
        receiver: str,
        payload: bytes | Mapping[str, Any] | Sequence[Any],
        *,
        dossier: str | None = None,
        purpose: str = "",
        user: str = "",
        content_type: str = "application/json",
        service_version: int = 1,
        message_id: str | None = None,
    ) -> VerifiedReply:
        """Ask one provider through the bus and return its answer, checked to belong to this question.

        To repeat a question whose outcome is unknown, give the same ``message_id``: it is answered once.
        Raises as :meth:`send`, and the provider's failures (ProviderUnavailable, ProviderRejected, …).
        """
        manifest, body = self._manifest(
            service, [receiver], payload, dossier, purpose, user, (), content_type, service_version, message_id
        )
        jws, reply = self._post_exchange(manifest, body)
        return self._verified_reply(manifest, self._question_sha256(manifest, jws, reply, bool(message_id)), reply)

    def upload(self, path: Path, *, content_type: str = "") -> AttachmentReference:
        """Store a file on the bus under its digest, unless it is there already, and return what to name it by."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        length = path.stat().st_size
        kind = content_type or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        target = f"/v1/attachments/{digest}"
        if self._authorised("HEAD", target).status == 404:
            with path.open("rb") as file:
                headers = {
                    "Content-Type": kind,
                    "Content-Length": str(length),
                    "Content-Digest": content_digest(digest),
                    "Authorization": f"Bearer {self._bearer()}",
                }
                _expect(
                    self._http.request(
                        "PUT",
                        self._bus_url + target,
                        headers=headers,
                        body=file,
                        timeout_seconds=TRANSFER_TIMEOUT_SECONDS,
                    )
                )
        return AttachmentReference(sha256=digest, length=length, name=path.name, content_type=kind)

    # --- receiving ---------------------------------------------------------------------------------------------------

    def inbox(self, *, wait: int = 20, max: int = 50, follow: bool = False) -> Iterator[InboxDelivery]:
        """Messages for this system, oldest first: all that are there now, or with ``follow`` for ever.

        ``wait`` is how many seconds the bus may hold an empty answer back, ``max`` how many messages come in one.
        A message whose receipt or digest is wrong is given back to the bus and not shown.
        """
        while True:
            query = urlencode({"wait": wait, "max": max})
            reply = _expect(self._authorised("GET", f"/v1/inbox?{query}", extra_seconds=wait))
            deliveries = _object(reply).get("deliveries")
            if not isinstance(deliveries, list):
                raise InvalidReply("bus-answer-not-readable")
            for document in deliveries:
                delivery = self._checked_delivery(document)
                if delivery is not None:
                    yield delivery
            if not follow and not deliveries:
                return
            # What is there now was fetched; the next look need not wait for more.
            wait = wait if follow else 0

    def download(self, sha256: str, path: Path) -> None:
        """Fetch an attachment. ``path`` appears complete and with the right digest, or not at all."""
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            with partial.open("xb") as sink:
                _expect(
                    self._http.request(
                        "GET",
                        f"{self._bus_url}/v1/attachments/{sha256}",
                        headers={"Authorization": f"Bearer {self._bearer()}"},
                        timeout_seconds=TRANSFER_TIMEOUT_SECONDS,
                        sink=sink,
                    )
                )
            with partial.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    raise InvalidReply("attachment-digest-wrong")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def status(self, message_id: str) -> Mapping[str, Any]:
        """State, deliveries and timeline of a message this agency sent or received. Raises NotFound."""
        return _object(_expect(self._authorised("GET", f"/v1/exchange/{quote(MessageId(message_id))}")))

    def evidence(self, message_id: str) -> bytes:
        """The evidence bundle of a message this agency sent or received: one file for the offline verifier
        (``security/verifier.py``). Raises NotFound, also in the second before its entries are sealed."""
        return _expect(self._authorised("GET", f"/v1/exchange/{quote(MessageId(message_id))}/evidence")).body

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> AgencyClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- one exchange ------------------------------------------------------------------------------------------------

    def _manifest(
        self,
        service: str,
        receivers: Sequence[str],
        payload: bytes | Mapping[str, Any] | Sequence[Any],
        dossier: str | None,
        purpose: str,
        user: str,
        attachments: Sequence[Path],
        content_type: str,
        service_version: int,
        message_id: str | None,
    ) -> tuple[Manifest, bytes]:
        body = payload if isinstance(payload, bytes) else write_json(payload)
        manifest = Manifest(
            message_id=MessageId(message_id) if message_id else new_message_id(),
            sender=self.agency,
            receivers=tuple(AgencyCode(receiver) for receiver in receivers),
            service=ServiceCode(service),
            service_version=service_version,
            issued_at=self._clock().replace(microsecond=0),
            content_type=content_type,
            body_sha256=sha256_hex(body),
            body_length=len(body),
            purpose=purpose,
            user=user,
            dossier=DossierCode(dossier) if dossier else None,
            attachments=tuple(self.upload(path) for path in attachments),
        )
        return manifest, body

    def _post_exchange(self, manifest: Manifest, body: bytes) -> tuple[str, Reply]:
        jws = sign_manifest(manifest, self._key)
        headers = {
            "Content-Type": manifest.content_type,
            "Content-Digest": content_digest(manifest.body_sha256),
            "Lgsp-Manifest": jws,
            "traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01",
        }
        return jws, self._patiently(lambda: self._request("POST", "/v1/exchange", headers, body))

    def _receipt(self, manifest: Manifest, reply: Reply, manifest_sha256: str) -> Receipt:
        document = _object(reply)
        try:
            receipt = Receipt(
                message_id=MessageId(document["message_id"]),
                state=str(document["state"]),
                received_at=from_wire(document["received_at"]),
                receivers=tuple(AgencyCode(code) for code in document["receivers"]),
                leaf=str(document["leaf"]),
                receipt=str(document["receipt"]),
            )
        except (KeyError, TypeError, ValueError, Problem):
            raise InvalidReply("bus-answer-not-readable") from None
        claims = self._check_receipt(receipt.receipt, manifest, manifest_sha256)
        # Only what is signed may be shown: each fact beside the receipt must be one of the receipt's own.
        if any(claims.get(name) != document[name] for name in _RECEIPT_FACTS):
            raise InvalidReply("receipt-not-of-this-message")
        return receipt

    def _check_receipt(self, receipt_jws: str, manifest: Manifest, manifest_sha256: str) -> Mapping[str, Any]:
        """The receipt's claims, if the bus signed them and they speak of this manifest (of this very text, where its
        digest is given)."""
        claims = self._with_bus_keys(lambda find_key: verify_receipt(receipt_jws, find_key))
        right = claims.get("message_id") == manifest.message_id and claims.get("receivers") == list(manifest.receivers)
        if not right or (manifest_sha256 and claims.get("manifest_sha256") != manifest_sha256):
            raise InvalidReply("receipt-not-of-this-message")
        return claims

    def _question_sha256(self, request: Manifest, request_jws: str, reply: Reply, may_be_repeated: bool) -> str:
        """The digest of the manifest that was answered. Of a repeated question that is the first one's, signed at
        another moment: then the bus's receipt says it, which is for this very message id."""
        asked = _signed_payload_sha256(request_jws)
        receipt = reply.headers.get("lgsp-receipt", "")
        if may_be_repeated and receipt:
            return str(self._check_receipt(receipt, request, "").get("manifest_sha256", asked))
        return asked

    def _verified_reply(self, request: Manifest, asked_sha256: str, reply: Reply) -> VerifiedReply:
        jws = reply.headers.get("lgsp-manifest", "")
        if not jws:
            raise InvalidReply("bus-answer-not-readable")
        verified = self._with_bus_keys(lambda find_key: verify_manifest(jws, _Keys(find_key), self._clock()))
        manifest = verified.manifest
        belongs = (
            manifest.direction is Direction.REPLY
            and manifest.service == request.service
            and manifest.sender == request.receivers[0]
            and manifest.request_manifest_sha256 == asked_sha256
            and manifest.body_sha256 == sha256_hex(reply.body)
        )
        if not belongs:
            raise InvalidReply("reply-not-of-this-request")
        return VerifiedReply(body=reply.body, content_type=reply.content_type, manifest=manifest, manifest_jws=jws)

    # --- the inbox ---------------------------------------------------------------------------------------------------

    def _checked_delivery(self, document: Any) -> InboxDelivery | None:
        """The delivery, if the bus's receipt covers this very manifest, and the manifest this very body.

        The receipt is what ties the message to the bus's evidence; the sender's own signature was checked by the bus
        and stays in ``manifest_jws`` for whoever holds the sender's certificate.
        """
        try:
            delivery_id = str(document["delivery_id"])
            manifest_jws, receipt_jws = str(document["manifest"]), str(document["receipt"])
            body = base64.b64decode(document["body_base64"], validate=True)
            lease_until = from_wire(document["lease_until"]) if document.get("lease_until") else None
            attempt = int(document.get("attempt", 1))
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise InvalidReply("bus-answer-not-readable") from None
        try:
            manifest = self.checked_manifest(manifest_jws, receipt_jws, body)
        except (Refused, InvalidReply) as problem:
            # A pinned key set that the bus has outgrown says nothing about this message: tell the operator instead.
            if problem.reason == "key-unknown":
                raise
            self._settle(delivery_id, "nack", {"reason": "receipt-not-of-this-message"})
            return None
        return InboxDelivery(
            delivery_id=delivery_id,
            manifest=manifest,
            manifest_jws=manifest_jws,
            receipt_jws=receipt_jws,
            body=body,
            attempt=attempt,
            lease_until=lease_until,
            _client=self,
        )

    def checked_manifest(self, manifest_jws: str, receipt_jws: str, body: bytes) -> Manifest:
        """The manifest of a message that came from the bus, if the bus's receipt covers it and it covers this body.

        A manifest over a translated body is the bus's own and leads back to the one that the receipt covers. Raises a
        Refused or InvalidReply: ``key-unknown`` when the bus has keys that are not known here.
        """
        manifest = Manifest.from_claims(read_json(_signed_payload(manifest_jws)))
        covered = _signed_payload_sha256(manifest_jws)
        if manifest.translated is not None:
            # By the time of its making: a message may have waited for days.
            self._with_bus_keys(lambda find_key: verify_manifest(manifest_jws, _Keys(find_key), manifest.issued_at))
            covered = manifest.translated.manifest_sha256
        self._check_receipt(receipt_jws, manifest, covered)
        if manifest.body_sha256 != sha256_hex(body):
            raise InvalidReply("receipt-not-of-this-message")
        return manifest

    def _settle(self, delivery_id: str, verdict: str, document: Mapping[str, Any] | None) -> None:
        target = f"/v1/inbox/{quote(delivery_id, safe='')}/{verdict}"
        _expect(self._authorised("POST", target, body=write_json(document or {})))

    # --- the wire ----------------------------------------------------------------------------------------------------

    def _request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, extra_seconds: float = 0.0
    ) -> Reply:
        return self._http.request(
            method,
            self._bus_url + target,
            headers={"Accept-Language": self._language, **headers},
            body=body,
            timeout_seconds=self._timeout_seconds + extra_seconds,
        )

    def _authorised(self, method: str, target: str, *, body: bytes | None = None, extra_seconds: float = 0.0) -> Reply:
        """A call with a bearer token; a token that the bus no longer takes is renewed once."""

        def ask() -> Reply:
            headers = {"Authorization": f"Bearer {self._bearer()}", "Content-Type": "application/json"}
            return self._request(method, target, headers, body, extra_seconds)

        reply = self._patiently(ask, judge=False)
        if reply.status == 401:
            with self._lock:
                self._token = ""
            reply = self._patiently(ask, judge=False)
        return reply

    def _bearer(self) -> str:
        """A token for this system, fetched with a signed assertion (RFC 7523) and kept until shortly before its end."""
        with self._lock:
            if self._token and time.monotonic() < self._token_until:
                return self._token
            form = {
                "grant_type": "client_credentials",
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": client_assertion(self.system, self._audience, self._key, self._clock()),
            }
            reply = _expect(
                self._request(
                    "POST",
                    "/v1/oauth/token",
                    {"Content-Type": "application/x-www-form-urlencoded"},
                    urlencode(form).encode("ascii"),
                )
            )
            document = _object(reply)
            token, lifetime = document.get("access_token"), document.get("expires_in", 60)
            if not isinstance(token, str) or not isinstance(lifetime, int):
                raise InvalidReply("bus-answer-not-readable")
            self._token = token
            self._token_until = time.monotonic() + lifetime - TOKEN_MARGIN_SECONDS
            return token

    def _patiently(self, ask: Callable[[], Reply], *, judge: bool = True) -> Reply:
        """Ask, and ask again while the connection fails or the bus says "later", with growing pauses.

        Repeating is safe because every call here is idempotent: a message by its id, the others by nature.
        """
        for attempt in range(1, self._attempts + 1):
            pause: float | None = None
            try:
                reply = ask()
            except (ProviderUnavailable, ProviderTimeout) as problem:
                if attempt == self._attempts:
                    raise ProviderUnavailable("bus-unreachable") from problem
            else:
                if not _passes(reply) or attempt == self._attempts:
                    return _expect(reply) if judge else reply
                pause = retry_after_seconds(reply.headers.get("retry-after", ""))
            # Full jitter: clients that lost the same bus must not come back at the same moment.
            backoff = random.uniform(0.1, 0.5 * 2**attempt)  # noqa: S311 - spreads load, keeps no secret
            self._wait(min(max(pause or 0.0, backoff), 60.0))
        raise ProviderUnavailable("bus-unreachable")

    def _with_bus_keys(self, check: Callable[[Callable[[str], PublicKeyRecord | None]], T]) -> T:
        """Run a check with the known keys; one that names an unknown key is run again with the keys fetched anew."""
        missing = False

        def find_key(key_id: str) -> PublicKeyRecord | None:
            nonlocal missing
            record = self._bus_keys.get(key_id) or self._provider_keys.get(key_id)
            missing = missing or record is None
            return record

        try:
            return check(find_key)
        except Problem:
            if not missing or self._pinned:
                raise
        self._fetch_keys()
        return check(find_key)

    def _fetch_keys(self) -> None:
        reply = self._patiently(lambda: self._request("GET", "/v1/keys", {}, None))
        self._bus_keys = read_key_set(_object(reply))


def _passes(reply: Reply) -> bool:
    """May the same be asked again soon? Not what a provider said (502, 504), but what a proxy says itself in front of a
    bus that is being restarted; and not a caller's own mistake."""
    of_the_bus = reply.content_type.partition(";")[0].strip().lower() == "application/problem+json"
    return reply.status in (429, 500, 503) or (reply.status in (502, 504) and not of_the_bus)


def new_message_id() -> MessageId:
    """A fresh UUID of version 7: made before the first try, so that every repetition bears the same one."""
    return MessageId(str(uuid6.uuid7()))


def client_assertion(system: SystemCode, audience: str, key: Signer, now: datetime) -> str:
    """A ``private_key_jwt`` (RFC 7523): this system's signed word that it asks for a token, good for two minutes.

    ``audience`` is the bus's address; its token endpoint is named too, as RFC 7523 likes it.
    """
    header = {"alg": key.algorithm, "typ": "JWT", "kid": key.key_id}
    claims = {
        "iss": system,
        "sub": system,
        "aud": [audience, f"{audience}/v1/oauth/token"],
        "iat": int(now.timestamp()),
        "exp": int((now + timedelta(seconds=ASSERTION_SECONDS)).timestamp()),
        "jti": secrets.token_urlsafe(16),
    }
    signed = f"{base64url.encode(write_json(header))}.{base64url.encode(write_json(claims))}"
    return f"{signed}.{base64url.encode(key.sign(signed.encode('ascii')))}"


def read_key_set(document: Mapping[str, Any]) -> dict[str, PublicKeyRecord]:
    """The bus's public keys of a JWK Set by key id. Raises InvalidReply when a member is not such a key."""
    try:
        return {record.key_id: record for record in map(_read_key, document["keys"])}
    except (KeyError, TypeError, ValueError, AttributeError, Problem):
        raise InvalidReply("bus-answer-not-readable") from None


def _read_key(jwk: Mapping[str, str]) -> PublicKeyRecord:
    public_key: PublicKey
    algorithm: Algorithm
    if jwk["kty"] == "RSA":
        public_key = rsa.RSAPublicNumbers(_number(jwk["e"]), _number(jwk["n"])).public_key()
        algorithm = "PS256"
    else:
        numbers = ec.EllipticCurvePublicNumbers(_number(jwk["x"]), _number(jwk["y"]), ec.SECP256R1())
        public_key, algorithm = numbers.public_key(), "ES256"
    return PublicKeyRecord(
        # Computed, not believed: a kid that is not the key's own thumbprint names another key.
        key_id=key_id_of(checked_public_key(public_key)),
        public_key=public_key,
        algorithm=algorithm,
        thumbprint=jwk.get("x5t#S256", ""),
        system=_BUS,
        agency=_BUS.agency,
        # The set lists what counts today; receipts of the past are judged by the evidence, not here.
        not_before=utc_now() - timedelta(days=36500),
        not_after=utc_now() + timedelta(days=3650),
        attests=True,
    )


def _number(text: str) -> int:
    return int.from_bytes(base64url.decode(text), "big")


@dataclass(frozen=True, slots=True)
class _Keys:
    """A key directory around a function."""

    find_key: Callable[[str], PublicKeyRecord | None]


def _signed_payload(jws: str) -> bytes:
    try:
        return base64url.decode(jws.split(".")[1])
    except (IndexError, ValueError):
        raise InvalidReply("bus-answer-not-readable") from None


def _signed_payload_sha256(jws: str) -> str:
    return sha256_hex(_signed_payload(jws))


def _object(reply: Reply) -> Mapping[str, Any]:
    """The JSON object in an answer. Raises InvalidReply."""
    try:
        document = read_json(reply.body)
    except Problem:
        document = None
    if not isinstance(document, dict):
        raise InvalidReply("bus-answer-not-readable")
    return document


# --- problems that the bus tells -------------------------------------------------------------------------------------


def _expect(reply: Reply) -> Reply:
    """The reply if it is a 2xx; else the problem that it tells."""
    if 200 <= reply.status < 300:
        return reply
    raise told_problem(reply)


class _Told:
    """A problem whose wording came over the wire, already woven and in the language the caller asked for."""

    __slots__ = ()

    def detail(self, language: str = "en") -> str:
        return str(self)


def _all_below(cls: type[Problem]) -> Iterator[type[Problem]]:
    for child in cls.__subclasses__():
        if "slug" in vars(child):
            yield child
        yield from _all_below(child)


#: Slug → the class of that problem, whose instances carry the bus's own sentence.
_TOLD: dict[str, type[Problem]] = {cls.slug: type(cls.__name__, (_Told, cls), {}) for cls in _all_below(Problem)}


def told_problem(reply: Reply) -> Problem:
    """The problem in an RFC 9457 document, as the same class with the same reason as on the bus.

    An answer that is no problem document (a proxy's error page) becomes ProviderUnavailable for a 5xx, NotFound for a
    404 and ProviderRejected for the rest.
    """
    try:
        document = json.loads(reply.body)
        told = _TOLD[str(document["type"]).rsplit("/", 1)[-1]]
    except (ValueError, KeyError, TypeError, RecursionError):
        if reply.status == 404:
            return NotFound("bus-answer-not-readable")
        if reply.status >= 500:
            return ProviderUnavailable("bus-answer-not-readable")
        return ProviderRejected("bus-answer-not-readable")
    problem = told.__new__(told)
    Exception.__init__(problem, str(document.get("detail", "")))
    problem.reason = str(document.get("reason", ""))
    problem.errors = tuple(
        FieldError(pointer=str(error.get("pointer", "")), detail=str(error.get("detail", "")))
        for error in document.get("errors") or ()
        if isinstance(error, dict)
    )
    problem.retry_after_seconds = retry_after_seconds(reply.headers.get("retry-after", ""))
    problem.facts = {}
    return problem
