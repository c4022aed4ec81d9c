"""What the log remembers: one entry per thing that happened to a message, in one exact spelling.

Entries hold names of agencies and digests, never a payload, a person's name or number: a leaf cannot be erased, so
nothing may be in it that ever must be.

::

    {"at":"2026-04-23T03:00:00.000000Z","body_sha256":"…","key_id":"…","kind":"accepted","manifest_sha256":"…",…}

Canonical form: RFC 8785 for what occurs here (ASCII names in order, no white space, strings with their shortest
escapes, whole numbers, arrays of strings).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from schemas.message import Message
from schemas.moment import to_wire
from security.evidence.tree import leaf_hash

Kind = Literal["accepted", "delivered", "dead", "refused"]
Fact = str | int | list[str]

_KINDS: frozenset[str] = frozenset(get_args(Kind))
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
#: RFC 8785 asks that numbers survive a reader that knows only doubles.
_MAX_NUMBER = 2**53 - 1
_encoder = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceEntry:
    """A kind and its facts. Raises ValueError for a fact that has no canonical form."""

    kind: Kind
    facts: Mapping[str, Fact]

    def __post_init__(self) -> None:
        if self.kind not in _KINDS or "kind" in self.facts:
            raise ValueError("an entry has one known kind")
        for name, value in self.facts.items():
            if not _NAME.fullmatch(name) or not _is_fact(value):
                raise ValueError(f"the fact {name!r} has no canonical form")

    def encode(self) -> bytes:
        """The exact bytes that are hashed and kept."""
        return _encoder.encode({"kind": self.kind, **self.facts}).encode("utf-8")

    def leaf_hash(self) -> bytes:
        return leaf_hash(self.encode())

    def leaf(self) -> tuple[bytes, bytes]:
        """(leaf hash, entry): what :meth:`security.evidence.log.EvidenceLog.append` takes."""
        entry = self.encode()
        return leaf_hash(entry), entry


def accepted(message: Message, *, at: datetime) -> EvidenceEntry:
    """The bus took the message: from here on it answers for it."""
    manifest = message.manifest
    return EvidenceEntry(
        kind="accepted",
        facts={
            "message_id": manifest.message_id,
            "manifest_sha256": message.manifest_sha256,
            "body_sha256": manifest.body_sha256,
            "sender": manifest.sender,
            "system": message.principal.system,
            "grade": message.grade.value,
            "key_id": message.principal.key_id,
            "at": to_wire(at),
        },
    )


def delivered(
    *, message_id: str, manifest_sha256: str, receiver: str, attempt: int, at: datetime, reply_sha256: str = ""
) -> EvidenceEntry:
    """A receiver has it; ``reply_sha256`` is the digest of its answer's body, if it gave one."""
    facts: dict[str, Fact] = {
        "message_id": message_id,
        "manifest_sha256": manifest_sha256,
        "receiver": receiver,
        "attempt": attempt,
        "at": to_wire(at),
    }
    if reply_sha256:
        facts["reply_sha256"] = reply_sha256
    return EvidenceEntry(kind="delivered", facts=facts)


def dead(
    *, message_id: str, manifest_sha256: str, receiver: str, attempts: int, reason: str, at: datetime
) -> EvidenceEntry:
    """The bus gave up on one receiver, and why (a code of ``schemas.reasons``)."""
    return EvidenceEntry(
        kind="dead",
        facts={
            "message_id": message_id,
            "manifest_sha256": manifest_sha256,
            "receiver": receiver,
            "attempts": attempts,
            "reason": reason,
            "at": to_wire(at),
        },
    )


def refused(
    *, reason: str, body_sha256: str, at: datetime, message_id: str = "", manifest_sha256: str = "", sender: str = ""
) -> EvidenceEntry:
    """The bus said no. Only proven facts are named: for a caller that was not identified that is the digest alone."""
    facts: dict[str, Fact] = {"reason": reason, "body_sha256": body_sha256, "at": to_wire(at)}
    for name, value in (("message_id", message_id), ("manifest_sha256", manifest_sha256), ("sender", sender)):
        if value:
            facts[name] = value
    return EvidenceEntry(kind="refused", facts=facts)


def _is_fact(value: object) -> bool:
    if isinstance(value, str):
        return True
    if type(value) is int:
        return -_MAX_NUMBER <= value <= _MAX_NUMBER
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
