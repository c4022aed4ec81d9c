"""The generic REST connector: any system that takes a POST, or whose operations OpenAPI describes.

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

A service that was registered with its HTTP operation (``provider.http``) is called by that method, path, query and body
instead, with the same headers: see :mod:`connectors.http_call`.

Endpoint settings:

``auth``
    ``none`` (default); ``bearer``: the secret is the token; ``basic``: the secret is ``user:password``; ``header``: the
    secret is the value of the header named by ``auth_header``; ``oauth2``: the secret is ``client_id:client_secret``,
    and a token is fetched for it (client credentials) at ``token_path`` below the endpoint's URL (default ``token``)
    or at ``token_url``, for a ``scope`` if one is set. A 401 later means one new token. For ``basic`` and ``oauth2``
    the secret may be an object of ``user``, ``secret`` and ``callback`` instead, where the partner calls us, too:
    see :mod:`connectors.rest_receiver`.
``headers``
    Fixed extra headers, such as the ``dstcode`` of an X-Road adapter. A payload cannot override them.
``not_found``
    ``answer``: a 404 to a GET is what the look-up found, and its body is the reply; ``refuse`` (default).
``reply_codes``
    For partners that say "no" inside a 200: see :mod:`connectors.reply_codes`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from connectors.base import Parcel, Reply
from connectors.callbacks import login_of
from connectors.http import HttpClient, check_status
from connectors.http_call import http_request
from connectors.oauth2 import TokenCalls, place
from connectors.partner_json import setting_text
from connectors.reply_codes import check_codes
from registry.model import Endpoint, HttpCall
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
#: What no member of a payload may become: it would change how the request or its answer is read, or who seems to ask.
NOT_FOR_PAYLOADS = OWN_HEADERS | {
    *("accept", "accept-encoding", "cookie", "expect", "forwarded", "proxy-authorization", "te", "trailer", "upgrade"),
    *("user-agent", "via", "x-http-method-override"),
}
#: What most partners speak.
JSON_BOTH_WAYS: Final = {"Content-Type": "application/json", "Accept": "application/json"}
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
#: Visible ASCII and spaces; anything else could end the header and begin another one.
HEADER_VALUE = re.compile(r"[\x20-\x7e]{1,8192}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None


class RestConnector:
    """Posts payloads as they are, or calls operations. Safe under threads; tokens are shared between them."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._calls = TokenCalls(http)

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`."""
        call = parcel.call
        request = _described(parcel, endpoint, call) if isinstance(call, HttpCall) else _post(parcel, endpoint)
        not_found = setting_text(endpoint, "not_found", "refuse")
        if not_found not in ("refuse", "answer"):
            raise ProviderUnavailable("endpoint-invalid", setting="not_found")
        reply = self._send(request, endpoint, secret)
        if not_found == "answer" and reply.status == 404 and request.method == "GET":
            return kept(check_digest(reply))
        return kept(check_codes(check_digest(check_status(reply)), endpoint))

    def close(self) -> None:
        self._http.close()

    def _send(self, request: _Request, endpoint: Endpoint, secret: bytes | None) -> Reply:
        def call(proof: Mapping[str, str], seconds: float) -> Reply:
            headers = {**request.headers, **proof}
            return self._http.request(
                request.method, request.url, headers=headers, body=request.body, timeout_seconds=seconds
            )

        if endpoint.settings.get("auth") in ("basic", "oauth2"):
            secret = login_of(secret)
        if endpoint.settings.get("auth") != "oauth2":
            return call(authorization(endpoint, secret), endpoint.timeout_seconds)
        url = setting_text(endpoint, "token_url")
        return self._calls.make(
            lambda bearer, seconds: call({"Authorization": bearer}, seconds),
            endpoint,
            secret,
            token_url=url or place(endpoint, "token_path", "token"),
            # Fixed headers are for the partner; a token server elsewhere may be somebody else's.
            headers={} if url else fixed_headers(endpoint),
            form=_token_form(setting_text(endpoint, "scope")),
        )


def _post(parcel: Parcel, endpoint: Endpoint) -> _Request:
    """The payload as it is."""
    headers = {**fixed_headers(endpoint), **payload_headers(parcel)}
    return _Request(method="POST", url=endpoint.url, headers=headers, body=parcel.body)


def _described(parcel: Parcel, endpoint: Endpoint, operation: HttpCall) -> _Request:
    """The operation that the service is registered with."""
    request = http_request(operation, parcel.body, own_headers=NOT_FOR_PAYLOADS)
    if "?" in endpoint.url or "#" in endpoint.url:
        raise ProviderUnavailable("endpoint-invalid", setting="url")
    base = endpoint.url.rstrip("/") if request.target.startswith("/") else endpoint.url
    fixed = fixed_headers(endpoint)
    # Names of headers have no case, and the endpoint's word stands above the payload's.
    taken = {*(name.lower() for name in fixed), str(endpoint.settings.get("auth_header", "")).lower()}
    headers = {"Accept": "application/json", **request.headers}
    headers = {name: value for name, value in headers.items() if name.lower() not in taken}
    headers |= {**fixed, **message_headers(parcel)}
    if request.body:
        headers["Content-Type"] = "application/json"
        headers["Content-Digest"] = content_digest(hashlib.sha256(request.body).hexdigest())
    return _Request(method=request.method, url=base + request.target, headers=headers, body=request.body)


def _token_form(scope: str) -> str:
    return urlencode({"grant_type": "client_credentials", **({"scope": scope} if scope else {})})


def message_headers(parcel: Parcel) -> dict[str, str]:
    """The bus's own headers of a delivery, the same for every HTTP partner."""
    return {
        **identity_headers(parcel),
        "Lgsp-Manifest": parcel.manifest_jws,
        "Lgsp-Receipt": parcel.receipt_jws,
        "Lgsp-Receiver": parcel.receiver,
    }


def payload_headers(parcel: Parcel) -> dict[str, str]:
    """All headers of the bus beside a payload that goes out as it is."""
    return {
        **message_headers(parcel),
        "Content-Type": parcel.manifest.content_type,
        "Content-Digest": content_digest(parcel.manifest.body_sha256),
    }


def question_headers(parcel: Parcel, endpoint: Endpoint, own: Mapping[str, str] = JSON_BOTH_WAYS) -> dict[str, str]:
    """Headers of a question to a partner with a format of its own: the endpoint's fixed ones, ``own``, the identity's.

    The later stand above the earlier. Raises ProviderUnavailable as :func:`fixed_headers` does.
    """
    return {**fixed_headers(endpoint), **own, **identity_headers(parcel)}


def identity_headers(parcel: Parcel) -> dict[str, str]:
    """What tells the attempts of one message together, also to the gateways on the way."""
    return {"Idempotency-Key": parcel.manifest.message_id, "traceparent": parcel.traceparent}


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
