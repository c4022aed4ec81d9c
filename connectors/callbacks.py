"""Secrets of partners that we call and that call us: one JSON object of ``user``, ``secret`` and ``callback``.

``user`` and ``secret`` are what we log in with; ``callback`` is what the partner proves itself with, in a header of its
calls. A partner that never calls may have ``client_id:client_secret`` instead.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from connectors.base import PartnerCall
from schemas.codec import read_json
from schemas.identifiers import AgencyCode
from schemas.problem import Malformed, NotIdentified, Problem, ProviderUnavailable


def login_of(secret: bytes | None) -> bytes | None:
    """``user:secret`` of either form, for :class:`connectors.oauth2.TokenCalls`, which refuses what is none."""
    parts = _parts(secret)
    return f"{parts['user']}:{parts['secret']}".encode() if {"user", "secret"} <= parts.keys() else secret


def prove(call: PartnerCall, header: str, secret: bytes | None) -> None:
    """Raise NotIdentified unless the call's header holds the callback secret; as a bearer token where the header is
    ``authorization``. Where no such secret is stored nobody may call."""
    given = call.headers.get(header.lower(), "")
    if header.lower() == "authorization":
        scheme, _, given = given.partition(" ")
        given = given if scheme.lower() == "bearer" else ""
    expected = _parts(secret).get("callback", "")
    if not expected or not hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode()):
        raise NotIdentified("partner-proof-wrong")


def receiver_of(inbound: Mapping[str, Any]) -> AgencyCode:
    """The agency that takes the partner's messages, by the endpoint's setting ``inbound``. Raises ProviderUnavailable
    where it is missing: an operator's matter, and the partner may come again."""
    try:
        return AgencyCode(inbound.get("receiver"))
    except Malformed:
        raise ProviderUnavailable("endpoint-invalid", setting="inbound") from None


def _parts(secret: bytes | None) -> Mapping[str, str]:
    try:
        document = read_json(secret or b"")
    except Problem:
        return {}
    if not isinstance(document, dict) or not all(isinstance(part, str) and part for part in document.values()):
        return {}
    return document
