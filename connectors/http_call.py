"""An HTTP operation as its OpenAPI describes it: which member of a JSON payload travels where.

::

    HttpCall(method="POST", path="/hoSo/{maHoSo}/yKien", query=("trang",), headers=("X-Ma-Can-Bo",), body="*")

    {"maHoSo": "H99.15-260423-0001", "trang": [1, 2], "X-Ma-Can-Bo": "CB01", "noiDung": "…"}

    POST <endpoint url>/hoSo/H99.15-260423-0001/yKien?trang=1&trang=2
    X-Ma-Can-Bo: CB01

    {"noiDung":"…"}

Members that path, query or headers name travel there and nowhere else; the body is the rest (``*``), one member, or
nothing. A body that loses no member is the payload's very bytes. What goes into a URL or a body is cut out of the
payload as it was written, so ``1.10`` stays ``1.10`` and no decimal is rounded.

A payload comes from a sender whom the bus trusts no further than its schema, so a value cannot leave its place: in a
path it is not empty, has no slash or backslash and never makes a segment ``.`` or ``..``; in the query it is encoded;
in a header it is visible ASCII. A GET has no body.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Final
from urllib.parse import quote

from registry.model import HttpCall
from schemas.codec import read_json
from schemas.problem import Problem, ProviderRejected, ProviderUnavailable

METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
#: Servers take request lines of 8,000 bytes and more (RFC 9112, 3).
MAX_TARGET_LENGTH: Final = 7_500
_TEMPLATE: Final = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@%-]|\{[^{}/?#]{1,100}\})*)*")
_PLACE: Final = re.compile(r"\{([^{}]+)\}")
_VISIBLE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,8190}[\x21-\x7e])?")
_NOT_IN_A_PATH: Final = re.compile(r"[/\\\x00-\x1f\x7f]")
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """What goes out: ``target`` follows the endpoint's URL, ``body`` is None where there is none."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None


def http_request(call: HttpCall, payload: bytes, *, own_headers: Collection[str]) -> HttpRequest:
    """The request that carries a JSON payload to an operation; ``own_headers`` (lower case) are not for payloads.

    Raises ProviderUnavailable ``http-call-invalid`` for an operation that cannot be called, ProviderRejected
    ``payload-not-for-partner`` for a payload that cannot travel so: its schema should have refused it.
    """
    _check(call, own_headers)
    try:
        read_json(payload)
    except Problem:
        raise ProviderRejected("payload-not-for-partner", member="(root)") from None
    elsewhere = {*_PLACE.findall(call.path), *call.query, *call.headers}
    if not elsewhere and call.body in ("*", ""):
        return HttpRequest(method=call.method, target=call.path, headers={}, body=_or_none(call, payload))
    members = written_members(payload)
    target = _path(call.path, members) + _query(call.query, members)
    if len(target) > MAX_TARGET_LENGTH:
        raise ProviderRejected("payload-not-for-partner", member="(root)")
    headers = {name: _header(name, members) for name in call.headers if members.get(name, "null") != "null"}
    return HttpRequest(
        method=call.method, target=target, headers=headers, body=_or_none(call, _body(call, members, elsewhere))
    )


def _check(call: HttpCall, own_headers: Collection[str]) -> None:
    if call.method not in METHODS:
        raise ProviderUnavailable("http-call-invalid", member="method")
    if not _TEMPLATE.fullmatch(call.path):
        raise ProviderUnavailable("http-call-invalid", member="path")
    for name in call.headers:
        if not _HEADER_NAME.fullmatch(name) or name.lower() in own_headers:
            raise ProviderUnavailable("http-call-invalid", member="headers")


_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")


def _or_none(call: HttpCall, body: bytes | None) -> bytes | None:
    """A method that brings something says so even when it brings nothing (RFC 9110, 8.6)."""
    if call.method == "GET":
        return None
    if call.body == "" or body is None:
        return b"" if call.method in ("POST", "PUT", "PATCH") else None
    return body


def written_members(payload: bytes) -> dict[str, str]:
    """The members of a JSON object that :func:`read_json` took, each value as the text that it was written with.

    Raises ProviderRejected for what is no object.
    """
    text = payload.decode("utf-8")
    at = _after_space(text, 0)
    if text[at] != "{":
        raise ProviderRejected("payload-not-for-partner", member="(root)")
    members: dict[str, str] = {}
    at = _after_space(text, at + 1)
    while text[at] != "}":
        name, at = scanstring(text, at + 1, True)
        at = _after_space(text, _after_space(text, at) + 1)  # behind the colon
        _, end = _DECODER.raw_decode(text, at)
        members[name] = text[at:end]
        at = _after_space(text, end)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return members


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _path(template: str, members: Mapping[str, str]) -> str:
    def filled(found: re.Match[str]) -> str:
        name = found[1]
        value = _scalar(name, members.get(name, "null"))
        if not value or _NOT_IN_A_PATH.search(value):
            raise ProviderRejected("payload-not-for-partner", member=name)
        return quote(value, safe="")

    path = _PLACE.sub(filled, template)
    if any(segment in (".", "..") for segment in path.split("/")):
        # Dots are never encoded, and a server that resolves them would answer for another operation.
        raise ProviderRejected("payload-not-for-partner", member=", ".join(_PLACE.findall(template)) or "(root)")
    return path


def _query(names: Collection[str], members: Mapping[str, str]) -> str:
    pairs = [(name, value) for name in names for value in _query_values(name, members.get(name, "null"))]
    return "?" + "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs) if pairs else ""


def _query_values(name: str, text: str) -> Iterator[str]:
    """None for null, one for a plain value, as many as an array has."""
    if text == "null":
        return
    if not text.startswith("["):
        yield _scalar(name, text)
        return
    at = _after_space(text, 1)
    while text[at] != "]":
        _, end = _DECODER.raw_decode(text, at)
        yield _scalar(name, text[at:end])
        at = _after_space(text, end)
        if text[at] == ",":
            at = _after_space(text, at + 1)


def _header(name: str, members: Mapping[str, str]) -> str:
    value = _scalar(name, members[name])
    if not _VISIBLE.fullmatch(value):
        raise ProviderRejected("payload-not-for-partner", member=name)
    return value


def _scalar(name: str, text: str) -> str:
    """A text's characters, a number or boolean as it was written. Raises ProviderRejected for the rest."""
    if text[0] in "{[" or text == "null":
        raise ProviderRejected("payload-not-for-partner", member=name)
    return str(json.loads(text)) if text[0] == '"' else text


def _body(call: HttpCall, members: Mapping[str, str], elsewhere: Collection[str]) -> bytes | None:
    if call.body != "*":
        return members[call.body].encode() if call.body in members else None
    rest = (f"{json.dumps(name, ensure_ascii=False)}:{text}" for name, text in members.items() if name not in elsewhere)
    return f"{{{','.join(rest)}}}".encode()
