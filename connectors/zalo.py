"""Notices by Zalo (ZNS): approved templates, parameters of limited length, a token that is refreshed.

::

    POST <url>/<token_path>    secret_key: …   app_id, grant_type=refresh_token, refresh_token
                               → {"access_token", "refresh_token", "expires_in"}
    POST <url>/<message_path>  access_token: …
                               {"phone": "84900000001", "template_id", "template_data": {…}, "tracking_id"}
                               → {"error": 0, "message"}

Source: vietnam.md 4.22; paths and names of the headers are unverified and settings.

The payload is that of ``notice.sms``: ``{to, template, parameters}``. Kinds and lengths of parameters are data,
schemas/partners/zalo/templates.json; what is too long is refused, for a procedure's name often is and a cut one
misleads. Every answer is a 200; ``error`` decides.

A refresh gives a new refresh token as well, and the old one is dead. The newest is sealed beside the operator's secret,
which stays as it is, under its name and ``.newest``::

    {"of": "<digest of the operator's secret>", "at": 1776913200000000, "refresh_token": "…"}

Every process begins a refresh with it. Where another one was quicker, the token is refused and the newer one is there
by now. Of two that refreshed at once (if Zalo lets both) the later token stays. When an operator seals another secret,
what is kept for the one before counts no more.

Endpoint settings: ``template_ids`` (our template → the approved number), ``templates`` and ``limits`` over the data,
``message_path``, ``token_path``, ``token_codes`` (an ``error`` that means: refresh), ``final_codes``, and
``header_separator`` (``_``; ``-`` for servers that drop names with an underscore). The secret is a JSON object of
``app_id``, ``secret_key`` and ``refresh_token``.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlencode

from connectors.base import Parcel, Reply, SecretStore
from connectors.http import Deadline, HttpClient, check_status
from connectors.oauth2 import FORM_TYPE, place
from connectors.partner_json import (
    code_text,
    is_success,
    payload_object,
    reply_object,
    setting_mapping,
    setting_text,
    setting_texts,
    shown_code,
)
from connectors.rest import fixed_headers, kept, question_headers
from connectors.sessions import Sessions
from connectors.sms import carrier_number
from connectors.templates import secret_parts
from registry.model import Endpoint
from schemas.codec import read_json, write_json
from schemas.moment import to_micros, utc_now
from schemas.problem import InvalidReply, ProviderRejected, ProviderUnavailable
from schemas.text import nfc

#: "The access token is invalid or has expired", as published; unverified.
TOKEN_CODES: Final = ("-124", "-216")


class ZaloConnector:
    """Hands notices to Zalo. Safe under threads; tokens are shared between them."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._sessions = Sessions()
        #: Digest of the sealed secret → the newest refresh token of this process, should the store not have it. One
        #: thread writes at a time: Sessions sees to it.
        self._newest: dict[str, str] = {}
        self._secrets: SecretStore | None = None

    def remember_in(self, secrets: SecretStore) -> None:
        """See :class:`connectors.base.RemembersSecrets`."""
        self._secrets = secrets

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`. The reply is Zalo's answer, byte for byte."""
        body = write_json(message_of(parcel, endpoint))
        sealed = _parts(secret)
        deadline = Deadline(endpoint.timeout_seconds)
        headers = question_headers(parcel, endpoint, {"Content-Type": "application/json"})
        for _ in range(2):
            token = self._sessions.get(endpoint, secret or b"", lambda: self._refresh(endpoint, sealed, deadline))
            reply = self._http.request(
                "POST",
                place(endpoint, "message_path", "message/template"),
                headers={**headers, _header(endpoint, "access_token"): token},
                body=body,
                timeout_seconds=deadline.remaining(),
            )
            code = code_text(reply_object(check_status(reply)).get("error"))
            if code not in setting_texts(endpoint.settings, "token_codes", TOKEN_CODES):
                _judge(code, endpoint)
                return kept(reply)
            self._sessions.forget(endpoint, secret or b"", token)
        raise ProviderUnavailable("provider-login-failed")

    def close(self) -> None:
        self._http.close()

    def _refresh(self, endpoint: Endpoint, sealed: Mapping[str, str], deadline: Deadline) -> tuple[str, float | None]:
        """A new access token and its life. Raises ProviderUnavailable ``provider-login-failed``."""
        key = hashlib.sha256("\0".join(sealed[part] for part in sorted(sealed)).encode()).hexdigest()
        tried: set[str] = set()
        while token := self._next_token(endpoint, key, sealed, tried):
            tried.add(token)
            document = self._asked(endpoint, sealed, token, deadline)
            access, refresh = document.get("access_token"), document.get("refresh_token")
            if isinstance(access, str) and access.isascii() and access.isprintable() and access:
                if isinstance(refresh, str) and refresh:
                    self._newest[key] = refresh
                    self._keep(endpoint, key, refresh)
                seconds = code_text(document.get("expires_in"))
                # Nine tenths of the life: a token must not end on its way.
                return access, float(seconds) * 0.9 if seconds.isdigit() and int(seconds) else None
            if "error" not in document:
                raise InvalidReply("reply-not-readable")
        raise ProviderUnavailable("provider-login-failed")

    def _asked(
        self, endpoint: Endpoint, sealed: Mapping[str, str], token: str, deadline: Deadline
    ) -> Mapping[str, Any]:
        form = {"app_id": sealed["app_id"], "grant_type": "refresh_token", "refresh_token": token}
        reply = self._http.request(
            "POST",
            place(endpoint, "token_path", "v4/oa/access_token"),
            headers={
                **fixed_headers(endpoint),
                "Content-Type": FORM_TYPE,
                _header(endpoint, "secret_key"): sealed["secret_key"],
            },
            body=urlencode(form).encode("ascii"),
            timeout_seconds=deadline.remaining(),
        )
        return reply_object(check_status(reply))

    def _next_token(self, endpoint: Endpoint, key: str, sealed: Mapping[str, str], tried: set[str]) -> str | None:
        """The likeliest refresh token that was not tried; asks the store each time, for another process may refresh."""
        kept = self._kept(endpoint, key)
        candidates = (kept[1] if kept else "", self._newest.get(key, ""), sealed["refresh_token"])
        return next((token for token in candidates if token and token not in tried), None)

    def _kept(self, endpoint: Endpoint, key: str) -> tuple[int, str] | None:
        """When the newest token came and the token, as kept for this very secret of the operator."""
        secret = self._secrets(_newest_name(endpoint)) if self._secrets and endpoint.secret else None
        kept = read_json(secret) if secret else None
        if not isinstance(kept, Mapping) or kept.get("of") != key:
            return None
        at, token = kept.get("at"), kept.get("refresh_token")
        return (at, token) if isinstance(at, int) and isinstance(token, str) else None

    def _keep(self, endpoint: Endpoint, key: str, token: str) -> None:
        at = to_micros(utc_now())
        if self._secrets is None or not endpoint.secret:
            return
        kept = self._kept(endpoint, key)
        if kept is None or kept[0] <= at:
            document = {"of": key, "at": at, "refresh_token": token}
            self._secrets.remember(_newest_name(endpoint), write_json(document))


def _newest_name(endpoint: Endpoint) -> str:
    """Beside the operator's secret, which is never written over."""
    return f"{endpoint.secret}.newest"


def _parts(secret: bytes | None) -> Mapping[str, str]:
    parts = secret_parts(secret)
    if not all(parts.get(name) for name in ("app_id", "secret_key", "refresh_token")):
        raise ProviderUnavailable("endpoint-secret-missing")
    return {name: parts[name] for name in ("app_id", "secret_key", "refresh_token")}


def _header(endpoint: Endpoint, name: str) -> str:
    separator = setting_text(endpoint, "header_separator", "_")
    if separator not in ("_", "-"):
        raise ProviderUnavailable("endpoint-invalid", setting="header_separator")
    return name.replace("_", separator)


def _judge(code: str, endpoint: Endpoint) -> None:
    """Raise InvalidReply for an answer without a code, ProviderRejected by ``final_codes``, ProviderUnavailable for
    other codes that are not zero."""
    if not code:
        raise InvalidReply("reply-not-readable")
    if is_success(code):
        return
    if code in setting_texts(endpoint.settings, "final_codes", ()):
        raise ProviderRejected("provider-said-no", code=shown_code(code))
    raise ProviderUnavailable("partner-says-later", code=shown_code(code))


def message_of(parcel: Parcel, endpoint: Endpoint) -> dict[str, Any]:
    """What Zalo is sent. Raises ProviderRejected ``template-unknown``, ``payload-not-for-partner``,
    ``notice-too-long``; ProviderUnavailable for a template without an approved number."""
    payload = payload_object(parcel)
    name = str(payload.get("template"))
    kinds = {**_document()["templates"], **setting_mapping(endpoint, "templates")}.get(name)
    if kinds is None:
        raise ProviderRejected("template-unknown")
    number = setting_mapping(endpoint, "template_ids").get(name)
    if not _is_text(number):
        raise ProviderUnavailable("endpoint-invalid", setting="template_ids")
    given = payload.get("parameters")
    if not isinstance(kinds, Mapping):
        raise ProviderUnavailable("endpoint-invalid", setting="templates")
    if not isinstance(given, Mapping) or given.keys() != kinds.keys():
        raise ProviderRejected("payload-not-for-partner", member="parameters")
    limits = {**_document()["limits"], **setting_mapping(endpoint, "limits")}
    data = {parameter: _value(parameter, given[parameter], limits.get(kind)) for parameter, kind in kinds.items()}
    return {
        "phone": carrier_number(payload.get("to")),
        "template_id": number,
        "template_data": data,
        "tracking_id": parcel.manifest.message_id,
    }


def _value(parameter: str, value: object, limit: object) -> str:
    text = nfc(value).strip() if isinstance(value, str) else ""
    if not text or any(unicodedata.category(c)[0] == "C" for c in text):
        raise ProviderRejected("payload-not-for-partner", member=f"parameters/{parameter}")
    if type(limit) is not int:
        raise ProviderUnavailable("endpoint-invalid", setting="limits")
    if len(text) > limit:
        raise ProviderRejected("notice-too-long", length=len(text), limit=limit)
    return text


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


@cache
def _document() -> Mapping[str, Any]:
    document: Mapping[str, Any] = read_json(
        files("schemas").joinpath("partners", "zalo", "templates.json").read_bytes()
    )
    return document
