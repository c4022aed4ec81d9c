"""The generic REST connector: any system that takes a POST.

::

    POST <endpoint url>
    Content-Type: <the payload's own>
    Content-Digest: sha-256=:<base64>:          RFC 9530, over the payload bytes
    Idempotency-Key: <message id>               the same for every attempt
    Lgsp-Manifest: <compact JWS of the sender>
    Lgsp-Receipt: <compact JWS of the bus>
    Lgsp-Receiver: <agency code>                which of the manifest's receivers this copy is for
    traceparent: <W3C trace context>
    Authorization: …                            by endpoint settings

    <payload bytes as the sender signed them>

2xx is delivered, and the answer's bytes are kept as they are.

Endpoint settings: ``auth`` is ``none`` (default), ``bearer`` (the secret is the token), ``basic`` (the secret is
``user:password``) or ``header`` (the secret is the value of the header named by ``auth_header``); ``headers`` are fixed
extra headers, such as the ``dstcode`` of an X-Road adapter.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping

from connectors.base import Parcel, Reply
from connectors.http import HttpClient, check_status
from registry.model import Endpoint
from schemas.problem import InvalidReply, ProviderUnavailable

#: What of the answer's headers is worth keeping: evidence and where to look next.
KEPT_HEADERS = frozenset({"lgsp-manifest", "content-digest", "location", "etag"})
#: Headers that an endpoint's settings may not set: they are the bus's word about the message, or frame the request.
OWN_HEADERS = frozenset(
    {
        *(
            "content-type",
            "content-digest",
            "content-length",
            "transfer-encoding",
            "connection",
            "host",
            "authorization",
        ),
        *("idempotency-key", "lgsp-manifest", "lgsp-receipt", "lgsp-receiver", "traceparent"),
    }
)
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
#: Visible ASCII and spaces; anything else could end the header and begin another one.
HEADER_VALUE = re.compile(r"[\x20-\x7e]{1,8192}")


class RestConnector:
    """Posts payloads as they are. Safe under threads; keeps no state but the connections of its HTTP client."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`."""
        headers = {
            **fixed_headers(endpoint),
            **message_headers(parcel),
            "Content-Type": parcel.manifest.content_type,
            "Content-Digest": content_digest(parcel.manifest.body_sha256),
            **authorization(endpoint, secret),
        }
        reply = self._http.request(
            "POST", endpoint.url, headers=headers, body=parcel.body, timeout_seconds=endpoint.timeout_seconds
        )
        return kept(check_digest(check_status(reply)))

    def close(self) -> None:
        self._http.close()


def message_headers(parcel: Parcel) -> dict[str, str]:
    """The bus's own headers of a delivery, the same for every HTTP partner."""
    return {
        "Idempotency-Key": parcel.manifest.message_id,
        "Lgsp-Manifest": parcel.manifest_jws,
        "Lgsp-Receipt": parcel.receipt_jws,
        "Lgsp-Receiver": parcel.receiver,
        "traceparent": parcel.traceparent,
    }


def content_digest(sha256_hex: str) -> str:
    """Content-Digest of a body by its known SHA-256 (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256_hex)).decode('ascii')}:"


def check_digest(reply: Reply) -> Reply:
    """The reply, unless it names a SHA-256 of its body that is not the body's (RFC 9530). Raises InvalidReply."""
    named = reply.headers.get("content-digest", "")
    for member in named.split(","):
        algorithm, _, value = member.strip().partition("=")
        if algorithm.lower() == "sha-256" and value != content_digest(hashlib.sha256(reply.body).hexdigest())[8:]:
            raise InvalidReply("reply-digest-wrong")
    return reply


def kept(reply: Reply) -> Reply:
    """The reply with only the headers worth keeping."""
    headers = {name: value for name, value in reply.headers.items() if name in KEPT_HEADERS}
    return Reply(body=reply.body, content_type=reply.content_type, status=reply.status, headers=headers)


def fixed_headers(endpoint: Endpoint) -> Mapping[str, str]:
    """The endpoint's extra headers. Raises ProviderUnavailable when they are not plain header text."""
    headers = endpoint.settings.get("headers")
    if headers is None:
        return {}
    if not isinstance(headers, Mapping) or not all(_is_plain_header(*header) for header in headers.items()):
        raise ProviderUnavailable("endpoint-invalid", setting="headers")
    return headers


def _is_plain_header(name: object, value: object) -> bool:
    if not isinstance(name, str) or not isinstance(value, str):
        return False
    return bool(HEADER_NAME.fullmatch(name) and HEADER_VALUE.fullmatch(value)) and name.lower() not in OWN_HEADERS


def authorization(endpoint: Endpoint, secret: bytes | None) -> dict[str, str]:
    """The header that proves who calls. Raises ProviderUnavailable when settings or secret do not allow one."""
    means = endpoint.settings.get("auth", "none")
    if means == "none":
        return {}
    text = secret_text(secret)
    if means == "bearer":
        return {"Authorization": f"Bearer {text}"}
    if means == "basic":
        # RFC 7617: the user name ends at the first colon.
        if ":" not in text:
            raise ProviderUnavailable("endpoint-secret-missing")
        return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode('ascii')}"}
    name = endpoint.settings.get("auth_header", "")
    if means == "header" and isinstance(name, str) and HEADER_NAME.fullmatch(name):
        return {name: text}
    raise ProviderUnavailable("endpoint-invalid", setting="auth")


def secret_text(secret: bytes | None) -> str:
    """The secret as header text; a missing or unprintable one is refused without being named."""
    text = secret.decode("ascii", errors="replace").strip() if secret else ""
    if not HEADER_VALUE.fullmatch(text):
        raise ProviderUnavailable("endpoint-secret-missing")
    return text
