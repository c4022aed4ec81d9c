"""Timestamps on checkpoints (RFC 3161): the word of an authority outside this house on when the log was already so.

What is stamped is SHA-256 of the signed checkpoint note. An answer is kept only when two readers that share no code
agree on it: rfc3161-client, which verifies with OpenSSL, and the offline verifier, so that whatever the bus keeps
everybody can check. The only use of rfc3161-client.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from rfc3161_client import (
    HashAlgorithm,
    PKIStatus,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from schemas.problem import InvalidReply, Malformed
from security.verifier import MAX_TOKEN_BYTES, Refuted, believe_timestamp, read_timestamp

#: RFC 3161, 3.4.
QUERY_TYPE, REPLY_TYPE = "application/timestamp-query", "application/timestamp-reply"
#: A token and its status.
MAX_ANSWER_BYTES = MAX_TOKEN_BYTES + 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class TimestampRequest:
    """A question to an authority; it is good for one answer."""

    note: str
    nonce: int
    #: What is sent.
    query: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Timestamp:
    """A token (DER) that was verified, and the time in it."""

    token: bytes
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TimestampTrust:
    """Whose timestamps are believed: roots, and a policy if it must be a certain one. Safe under threads."""

    roots: tuple[x509.Certificate, ...]
    policy: str = ""
    #: How far an authority's time may be from ours: with a certificate that has ended it could date back.
    clock_skew_seconds: int = 300

    @classmethod
    def load(cls, path: Path, *, policy: str = "", clock_skew_seconds: int = 300) -> TimestampTrust:
        """Raises Malformed(timestamp-authority-unreadable)."""
        try:
            roots = x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError):
            raise Malformed("timestamp-authority-unreadable") from None
        return cls(roots=tuple(roots), policy=policy, clock_skew_seconds=clock_skew_seconds)

    def pems(self) -> Sequence[str]:
        """The roots, as a trust file has them."""
        return [root.public_bytes(serialization.Encoding.PEM).decode("ascii") for root in self.roots]

    def ask(self, note: str) -> TimestampRequest:
        """A question about this checkpoint note, with a fresh nonce."""
        request = (
            TimestampRequestBuilder()
            .data(note.encode("utf-8"))
            .hash_algorithm(HashAlgorithm.SHA256)
            .nonce(nonce=True)
            .cert_request(cert_request=True)
            .build()
        )
        if request.nonce is None:
            raise ValueError("a request without a nonce")
        return TimestampRequest(note=note, nonce=request.nonce, query=request.as_bytes())

    def accept(self, request: TimestampRequest, answer: bytes, now: datetime) -> Timestamp:
        """The token in an answer, verified. Raises InvalidReply: timestamp-unreadable, timestamp-refused,
        timestamp-wrong (another checkpoint, nonce or policy, or a signature that does not hold), timestamp-untrusted
        (the signer's certificate) or timestamp-out-of-time."""
        response = _decoded(answer)
        token = response.time_stamp_token()
        try:
            stamp = read_timestamp(token, request.note)
            if stamp.nonce != request.nonce or (self.policy and stamp.policy != self.policy):
                raise InvalidReply("timestamp-wrong")
            believe_timestamp(stamp, self.roots)
        except Refuted as refuted:
            untrusted = refuted.code == "timestamp-not-from-authority"
            raise InvalidReply("timestamp-untrusted" if untrusted else "timestamp-wrong") from None
        self._believe_too(response, request)
        if abs(stamp.at - now) > timedelta(seconds=self.clock_skew_seconds):
            raise InvalidReply("timestamp-out-of-time", seconds=self.clock_skew_seconds)
        return Timestamp(token=token, at=stamp.at)

    def _believe_too(self, response: TimeStampResponse, request: TimestampRequest) -> None:
        """The second opinion."""
        builder = VerifierBuilder(nonce=request.nonce, roots=list(self.roots))
        if self.policy:
            builder = builder.policy_id(x509.ObjectIdentifier(self.policy))
        try:
            builder.build().verify(response, hashlib.sha256(request.note.encode("utf-8")).digest())
        except (VerificationError, ValueError):
            raise InvalidReply("timestamp-untrusted") from None


def _decoded(answer: bytes) -> TimeStampResponse:
    try:
        response = decode_timestamp_response(answer)
        status = PKIStatus(response.status)
    except ValueError:
        raise InvalidReply("timestamp-unreadable") from None
    # RFC 3161, 2.4.2: with modifications is granted, too; the library takes it for a refusal, and nobody sends it.
    if status is not PKIStatus.GRANTED:
        raise InvalidReply("timestamp-refused")
    return response
