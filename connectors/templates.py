"""Values that a partner wants in its headers, written as data: a small closed vocabulary, no code.

::

    Basic {base64({secret.user}:{sha256({url_path}{secret.user}{timestamp_ms}{secret.secret})})}

    template = *( text / "{" value "}" / "{" function "(" template ")}" )       ; text has no braces

=================== ============================================================================================
value               what it stands for
=================== ============================================================================================
timestamp_ms        milliseconds since 1970, the same wherever one call needs them
timestamp_iso       the same moment as ``2026-04-23T03:00:00Z``
message_id          the message's own id, the same for every attempt
sender, receiver    agency codes
service             code of the service
user                the officer on whose behalf the sender acts, as its manifest names them
operation           the provider's operation
url_path            the path of the address that is called
secret              the whole secret
secret.NAME         a part of it: of a JSON object, or ``user`` and ``password`` of ``user:password``
=================== ============================================================================================

Functions: ``base64`` and ``sha256`` (lower-case hex) of their argument in UTF-8, and ``secret_json(NAME,NAME)``, the
JSON object of these parts of the secret.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from connectors.base import Parcel
from registry.model import Endpoint
from schemas.codec import read_json, write_json
from schemas.moment import to_micros
from schemas.problem import Malformed, ProviderUnavailable

MAX_TEMPLATE_CHARACTERS: Final = 8192
MAX_DEPTH: Final = 8

_VALUES: Final = frozenset(
    {"timestamp_ms", "timestamp_iso", "message_id", "sender", "receiver", "service", "user", "operation", "url_path"}
)
_FUNCTIONS: Final[Mapping[str, Callable[[bytes], str]]] = {
    "base64": lambda data: base64.b64encode(data).decode("ascii"),
    "sha256": lambda data: hashlib.sha256(data).hexdigest(),
}
_TEXT: Final = re.compile(r"(?:[^{})]|\)(?!\}))+")
_NAME: Final = re.compile(r"\{([a-z_0-9]+(?:\.[A-Za-z0-9_-]{1,40})?)([}(])")
_PART_NAMES: Final = re.compile(r"([A-Za-z0-9_-]{1,40}(?:,[A-Za-z0-9_-]{1,40}){0,19})\)\}")


class Facts:
    """What the vocabulary stands for in one call. For one thread; its ``repr`` tells nothing."""

    __slots__ = ("_parts", "_secret", "_values", "moment")

    def __init__(
        self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None, now: datetime, *, operation: str, url: str
    ) -> None:
        #: The one moment of the call.
        self.moment = moment = now.astimezone(UTC)
        self._values: Mapping[str, str] = {
            "timestamp_ms": str(to_micros(moment) // 1000),
            "timestamp_iso": moment.isoformat(timespec="seconds")[:-6] + "Z",
            "message_id": parcel.manifest.message_id,
            "sender": parcel.manifest.sender,
            "receiver": parcel.receiver,
            "service": parcel.manifest.service,
            "user": parcel.manifest.user,
            "operation": operation,
            "url_path": _path(url),
        }
        self._secret = secret
        self._parts: Mapping[str, str] | None = None

    def value(self, name: str) -> str:
        return self._values[name]

    def pem(self) -> str:
        """The secret's part ``pem``, or the whole secret where it is one."""
        return self.secret("" if (self._secret or b"").lstrip().startswith(b"-----BEGIN") else "pem")

    def secret(self, part: str = "") -> str:
        """The secret or a part of it. Raises ProviderUnavailable when there is none, without naming it."""
        if self._parts is None:
            self._parts = secret_parts(self._secret)
        text = self._parts.get(part, "")
        if not text:
            raise ProviderUnavailable("endpoint-secret-missing")
        return text


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        raise ProviderUnavailable("endpoint-invalid", setting="url") from None


def secret_parts(secret: bytes | None) -> Mapping[str, str]:
    """Named parts of a stored secret, the whole of it under the empty name: the members of a JSON object of texts,
    ``user`` and ``password`` of ``user:password``. Raises ProviderUnavailable for bytes that are no text."""
    try:
        text = (secret or b"").decode("utf-8").strip()
        members = read_json(text.encode()) if text.startswith("{") else None
    except (UnicodeDecodeError, Malformed):
        raise ProviderUnavailable("endpoint-secret-missing") from None
    if members is None:
        user, colon, password = text.partition(":")
        members = {"user": user, "password": password} if colon else {}
    if not all(isinstance(member, str) for member in members.values()):
        raise ProviderUnavailable("endpoint-secret-missing")
    return {**members, "": text}


#: Renders one piece of a template.
_Piece = Callable[[Facts], str]


def render(template: object, facts: Facts, setting: str, escape: Callable[[str], str] = str) -> str:
    """The text that a template stands for in this call; ``escape`` is applied to what values and functions give.

    Raises ProviderUnavailable: ``endpoint-invalid`` naming the setting for what is no template of this vocabulary,
    ``endpoint-secret-missing`` for a part that the secret has not.
    """
    try:
        pieces = _compiled(template if isinstance(template, str) else "{")
    except _NoTemplate:
        raise ProviderUnavailable("endpoint-invalid", setting=setting) from None
    return "".join(piece if isinstance(piece, str) else escape(piece(facts)) for piece in pieces)


class _NoTemplate(ValueError):
    """The text is not of the vocabulary."""


@lru_cache(maxsize=1024)
def _compiled(template: str) -> tuple[str | _Piece, ...]:
    if len(template) > MAX_TEMPLATE_CHARACTERS:
        raise _NoTemplate
    pieces, end = _pieces(template, 0, 0)
    if end != len(template):
        raise _NoTemplate
    return pieces


def _pieces(template: str, at: int, depth: int) -> tuple[tuple[str | _Piece, ...], int]:
    """The pieces from ``at`` to the end of the template or of the function around them, and where that is."""
    if depth > MAX_DEPTH:
        raise _NoTemplate
    pieces: list[str | _Piece] = []
    while at < len(template):
        if text := _TEXT.match(template, at):
            pieces.append(text[0])
            at = text.end()
        elif opening := _NAME.match(template, at):
            piece, at = _piece(template, opening, depth)
            pieces.append(piece)
        else:
            break
    return tuple(pieces), at


def _piece(template: str, opening: re.Match[str], depth: int) -> tuple[_Piece, int]:
    name, at = opening[1], opening.end()
    if opening[2] == "}":
        return _value(name), at
    if name == "secret_json":
        parts = _PART_NAMES.match(template, at)
        if parts is None:
            raise _NoTemplate
        return _secret_json(tuple(parts[1].split(","))), parts.end()
    function = _FUNCTIONS.get(name)
    inner, at = _pieces(template, at, depth + 1)
    if function is None or not template.startswith(")}", at):
        raise _NoTemplate
    return _applied(function, inner), at + 2


def _value(name: str) -> _Piece:
    head, dot, part = name.partition(".")
    if head == "secret":
        return lambda facts: facts.secret(part)
    if dot or name not in _VALUES:
        raise _NoTemplate
    return lambda facts: facts.value(name)


def _secret_json(names: tuple[str, ...]) -> _Piece:
    return lambda facts: write_json({name: facts.secret(name) for name in names}).decode()


def _applied(function: Callable[[bytes], str], inner: tuple[str | _Piece, ...]) -> _Piece:
    def apply(facts: Facts) -> str:
        return function("".join(piece if isinstance(piece, str) else piece(facts) for piece in inner).encode())

    return apply
