"""Reading and judging what partners say in JSON, and reading the credentials that the bus has for them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from connectors.base import Parcel, Reply
from connectors.http_call import written_members
from registry.model import Endpoint
from schemas.codec import read_json
from schemas.problem import InvalidReply, Problem, ProviderRejected, ProviderUnavailable


def reply_object(reply: Reply) -> Mapping[str, Any]:
    """The JSON object that a partner answered with. Raises InvalidReply."""
    try:
        document = read_json(reply.body)
    except Problem:
        document = None
    if not isinstance(document, dict):
        raise InvalidReply("reply-not-readable")
    return document


def payload_object(parcel: Parcel) -> Mapping[str, Any]:
    """The JSON object in a parcel. Raises ProviderRejected: the bus's own schema let something else through."""
    try:
        document = read_json(parcel.body)
    except Problem:
        document = None
    if not isinstance(document, dict):
        raise ProviderRejected("payload-not-for-partner", member="(root)")
    return document


def with_member(body: bytes, name: str, value: str) -> bytes:
    """A JSON object with one more member, at its head; every byte of the object stays. For partners whose shared
    secret stands inside the document. The object must not have the member yet."""
    start = body.index(b"{") + 1
    comma = b"" if body[start:].lstrip().startswith(b"}") else b","
    return body[:start] + f"{json.dumps(name)}:{json.dumps(value)}".encode() + comma + body[start:]


def without_member(body: bytes, name: str) -> bytes:
    """A JSON object without a member; the values that stay are as they were written. One without it is untouched."""
    members = written_members(body)
    if name not in members:
        return body
    rest = (f"{json.dumps(other, ensure_ascii=False)}:{text}" for other, text in members.items() if other != name)
    return f"{{{','.join(rest)}}}".encode()


def operation_of(parcel: Parcel, endpoint: Endpoint, operations: Mapping[str, str]) -> str:
    """The partner's operation for the parcel's service: the endpoint's ``operations`` first, then the usual names."""
    table = setting_mapping(endpoint, "operations")
    operation = table.get(parcel.manifest.service) or operations.get(parcel.manifest.service)
    if not isinstance(operation, str):
        raise ProviderRejected("service-not-of-partner")
    return operation


def name_and_password(secret: bytes | None) -> tuple[str, str]:
    """``name:password`` of a stored secret. Raises ProviderUnavailable when there is none."""
    try:
        name, colon, password = (secret or b"").decode("utf-8").strip().partition(":")
    except UnicodeDecodeError:
        name = colon = password = ""
    if not (name and colon and password):
        raise ProviderUnavailable("endpoint-secret-missing")
    return name, password


def setting_text(endpoint: Endpoint, name: str, default: str = "") -> str:
    value = endpoint.settings.get(name, default)
    if not isinstance(value, str):
        raise ProviderUnavailable("endpoint-invalid", setting=name)
    return value


def setting_mapping(endpoint: Endpoint, name: str) -> Mapping[str, Any]:
    value = endpoint.settings.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ProviderUnavailable("endpoint-invalid", setting=name)
    return value


def setting_texts(settings: Mapping[str, Any], name: str, default: Iterable[str]) -> tuple[str, ...]:
    value = settings.get(name, list(default))
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise ProviderUnavailable("endpoint-invalid", setting=name)
    return tuple(value)


def says(message: object, wordings: Iterable[str]) -> bool:
    """Does a partner's message contain one of these wordings? Case and Unicode composition do not count: partners
    send decomposed Vietnamese, and change the capital letters between releases."""
    text = _folded(str(message or ""))
    return any(_folded(wording) in text for wording in wordings)


def code_text(code: object) -> str:
    """A partner's error code as text: ``0``, ``"0"``, ``"00"`` and ``-1`` are all alive, even within one flow (P4)."""
    if isinstance(code, bool) or not isinstance(code, str | int):
        return ""
    return str(code).strip()


def is_success(code: object) -> bool:
    """Zero in any spelling: 0, "0", "00", "000"."""
    text = code_text(code)
    return bool(text) and not text.strip("0")


def shown_code(code: object) -> str:
    """A code fit for a problem's wording: short digits, or a question mark. Partners put free text here too."""
    text = code_text(code)
    return text if text.lstrip("-").isdigit() and len(text) <= 6 else "?"


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()
