"""Bundles: all evidence of one message in one file, and the trust file to verify it by.

A bundle is JSON in one canonical spelling, so that no byte of it can change unnoticed. It is verified offline by
``security/verifier.py``, which shares no code with what writes it but the names of the two formats.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from security.evidence.checkpoint import Checkpoint, NoteVerifier
from security.evidence.log import EvidenceLog
from security.keys import KeyRing
from security.verifier import BUNDLE_FORMAT, TRUST_FORMAT, canonical_json

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenEntry:
    """An entry of the log with its way to the root."""

    position: int
    entry: bytes
    proof: tuple[bytes, ...]


def proven_entry(log: EvidenceLog, connection: Connection, position: int, size: int) -> ProvenEntry:
    """Read an entry and prove it under the checkpoint of ``size``. Raises ValueError when that does not cover it yet:
    seal first, or ask again in a moment."""
    proof = log.inclusion_proof(connection, position, size)
    entry = log.entry(connection, position)
    if entry is None:
        raise ValueError("no such entry")
    return ProvenEntry(position=position, entry=entry, proof=tuple(proof))


def write_bundle(
    *,
    message_id: str,
    manifest_jws: str,
    sender_certificate_pem: str,
    receipt_jws: str,
    bus_jwk: dict[str, str],
    checkpoint: Checkpoint,
    entries: Sequence[ProvenEntry],
    body: bytes | None = None,
    timestamp: bytes | None = None,
) -> bytes:
    """The file. For an attested message the sender's certificate is that of the bus's key which signed the manifest;
    ``bus_jwk`` is the member of :meth:`KeyRing.public_jwks` whose ``kid`` signed the receipt, ``timestamp`` a token
    over the checkpoint."""
    document: dict[str, Any] = {
        "format": BUNDLE_FORMAT,
        "message_id": message_id,
        "manifest": manifest_jws,
        "sender_certificate": sender_certificate_pem,
        "receipt": receipt_jws,
        "bus_key": bus_jwk,
        "checkpoint": checkpoint.note,
        "entries": [
            {
                "position": item.position,
                "entry": item.entry.decode("utf-8"),
                "proof": [base64.b64encode(value).decode("ascii") for value in item.proof],
            }
            for item in entries
        ],
    }
    if body is not None:
        document["body"] = base64.b64encode(body).decode("ascii")
    if timestamp is not None:
        document["timestamp"] = base64.b64encode(timestamp).decode("ascii")
    return canonical_json(document)


def write_trust(
    ring: KeyRing,
    log_keys: Sequence[NoteVerifier],
    authorities: Sequence[str] = (),
    timestamp_authorities: Sequence[str] = (),
) -> bytes:
    """What a verifier must believe: the bus's keys with the time in which each may sign, the log's keys (and those of
    witnesses), if senders' certificates are to be followed, their authorities (PEM), and the roots of timestamp
    authorities (PEM)."""
    keys: list[dict[str, str | int]] = []
    for jwk in ring.public_jwks()["keys"]:
        record = ring.find_key(jwk["kid"])
        if record is None:
            continue
        until = min(record.not_after, record.revoked_at or record.not_after)
        window = {"signs_from": int(record.not_before.timestamp()), "signs_until": int(until.timestamp())}
        keys.append({**jwk, **window})
    document: dict[str, Any] = {
        "format": TRUST_FORMAT,
        "bus_keys": keys,
        "log_keys": [str(key) for key in log_keys],
        "authorities": list(authorities),
    }
    if timestamp_authorities:
        document["timestamp_authorities"] = list(timestamp_authorities)
    return canonical_json(document)
