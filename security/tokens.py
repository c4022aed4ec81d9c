"""Bearer tokens for callers that do not sign each message, and the two ways to earn one.

A token is a JWT of the bus (RFC 9068, ``typ: at+jwt``) that names one registered system and lives ten minutes. It is
earned by a client secret (kept as argon2id hash) or by a client assertion signed with the system's registered key
(``private_key_jwt``, RFC 7523), so that an agency with nothing but its signing key needs no second secret.

A token outlives the suspension of its system by its lifetime at most; whoever authorises looks at the system's own
state anyway.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from schemas.codec import read_json
from schemas.identifiers import SystemCode
from schemas.message import Means, Principal
from schemas.problem import Malformed, NotIdentified
from security import base64url
from security.keys import KeyDirectory, KeyRing
from security.once import UseOnce
from security.signing import (
    MAX_HEADER_LENGTH,
    ProtectedHeader,
    check_key_window,
    is_numeric_date,
    read_header,
    registered_key,
    sign_compact,
    signature_holds,
    split_compact,
)

TOKEN_TYPE = "at+jwt"  # noqa: S105 (a media type)
#: RFC 7523 leaves the life of an assertion to us: long enough for a clock that is off, short for a thief.
MAX_ASSERTION_SECONDS = 300
#: Tokens of ours have about 600 characters.
MAX_TOKEN_LENGTH = 2048
#: Most verified tokens remembered (about 1 KB each); when full the memory starts again empty.
MAX_REMEMBERED_TOKENS = 8192
MAX_REMEMBERED_ASSERTIONS = 8192
#: Shortest client secret, in characters. :func:`new_secret` makes 43.
MIN_SECRET_LENGTH = 16

_ASSERTION_MEMBERS = frozenset({"alg", "typ", "kid", "x5t#S256"})
#: OWASP's second choice for argon2id (19 MiB, 2 passes): the token endpoint is open to strangers, each try costs this.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


#: Where the bus hands out tokens, below its public address.
TOKEN_PATH = "/v1/oauth/token"  # noqa: S105 - a path, no secret


class _Remembered(NamedTuple):
    principal: Principal
    not_before: datetime
    expires_at: datetime


class TokenAuthority:
    """Issues and verifies the bus's tokens. One instance serves all threads of a process."""

    def __init__(
        self,
        ring: KeyRing,
        issuer: str,
        *,
        lifetime_seconds: int = 600,
        clock_skew_seconds: int = 300,
        use_once: UseOnce | None = None,
    ) -> None:
        """``issuer`` is the bus's own name (a URL or URN): the ``iss`` and ``aud`` of tokens, ``aud`` of assertions.

        ``use_once`` remembers assertions for all processes; without it each remembers its own.
        """
        self._use_once = use_once
        self._ring = ring
        self._issuer = issuer
        #: Whom an assertion may address: the bus by its name, or its token endpoint (RFC 7523, section 3).
        self._audiences = (issuer, issuer.rstrip("/") + TOKEN_PATH)
        self._lifetime = timedelta(seconds=lifetime_seconds)
        self._skew = timedelta(seconds=clock_skew_seconds)
        self._verified: dict[str, _Remembered] = {}
        self._assertions: dict[tuple[str, str], datetime] = {}
        self._lock = threading.Lock()

    @property
    def lifetime_seconds(self) -> int:
        return int(self._lifetime.total_seconds())

    def issue(self, system: SystemCode, *, now: datetime) -> str:
        """A token for a system that has just proved who it is."""
        issued = int(now.timestamp())
        claims = {
            "iss": self._issuer,
            "aud": self._issuer,
            "sub": system,
            "client_id": system,
            "iat": issued,
            "exp": issued + self.lifetime_seconds,
            "jti": secrets.token_hex(16),
        }
        return sign_compact(json.dumps(claims, separators=(",", ":")).encode("utf-8"), TOKEN_TYPE, self._ring)

    def verify(self, token: str, now: datetime) -> Principal:
        """Whose token this is. Raises NotIdentified(token-invalid, token-expired); why a forgery fails is not told."""
        known = self._verified.get(token)
        if known is None:
            known = self._read(token, now)
            if len(self._verified) >= MAX_REMEMBERED_TOKENS:
                self._verified.clear()
            self._verified[token] = known
        if now >= known.expires_at:
            self._verified.pop(token, None)
            raise NotIdentified("token-expired")
        if now < known.not_before:
            raise NotIdentified("token-invalid")
        return known.principal

    def verify_assertion(self, assertion: str, keys: KeyDirectory, now: datetime) -> Principal:
        """The system that signed a client assertion (RFC 7523, section 3) with its registered key.

        ``iss`` and ``sub`` name the system, ``aud`` our issuer name or our token endpoint, ``exp`` lies at most five
        minutes ahead, ``jti`` was not used before. Raises NotIdentified(assertion-invalid, assertion-expired,
        assertion-replayed, and the reasons of a key).
        """
        try:
            parts = split_compact(assertion)
        except (Malformed, NotIdentified):
            raise NotIdentified("assertion-invalid") from None
        header = _assertion_header(parts.header_segment)
        key = keys.find_key(header.key_id)
        if key is None:
            raise NotIdentified("key-unknown")
        if header.algorithm != key.algorithm or header.thumbprint not in ("", key.thumbprint):
            raise NotIdentified("assertion-invalid")
        check_key_window(key, now)
        if not signature_holds(key.public_key, header.algorithm, parts.signature, parts.signing_input):
            raise NotIdentified("signature-invalid")
        self._check_assertion_claims(_claims(parts.payload, "assertion-invalid"), key.system, now)
        return Principal(agency=key.agency, system=key.system, means=Means.TOKEN, key_id=key.key_id)

    def _read(self, token: str, now: datetime) -> _Remembered:
        if len(token) > MAX_TOKEN_LENGTH:
            raise NotIdentified("token-invalid")
        try:
            parts = split_compact(token)
            header = read_header(parts.header_segment, TOKEN_TYPE)
            key = registered_key(header, self._ring.find_key, now)
        except (Malformed, NotIdentified):
            raise NotIdentified("token-invalid") from None
        if not signature_holds(key.public_key, header.algorithm, parts.signature, parts.signing_input):
            raise NotIdentified("token-invalid")
        claims = _claims(parts.payload, "token-invalid")
        if claims.get("iss") != self._issuer or claims.get("aud") != self._issuer:
            raise NotIdentified("token-invalid")
        if not is_numeric_date(claims.get("exp")) or not is_numeric_date(claims.get("iat")):
            raise NotIdentified("token-invalid")
        system = SystemCode(claims["sub"])
        return _Remembered(
            Principal(agency=system.agency, system=system, means=Means.TOKEN),
            # Nodes of one bus share time only roughly.
            datetime.fromtimestamp(claims["iat"], UTC) - self._skew,
            datetime.fromtimestamp(claims["exp"], UTC),
        )

    def _check_assertion_claims(self, claims: dict[str, Any], system: SystemCode, now: datetime) -> None:
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        for_us = any(own in audiences for own in self._audiences)
        if claims.get("iss") != system or claims.get("sub") != system or not for_us:
            raise NotIdentified("assertion-invalid")
        if not is_numeric_date(claims.get("exp")):
            raise NotIdentified("assertion-invalid")
        expires = datetime.fromtimestamp(claims["exp"], UTC)
        if now > expires + self._skew:
            raise NotIdentified("assertion-expired", limit_seconds=MAX_ASSERTION_SECONDS)
        if expires > now + timedelta(seconds=MAX_ASSERTION_SECONDS) + self._skew:
            raise NotIdentified("assertion-expired", limit_seconds=MAX_ASSERTION_SECONDS)
        identity = claims.get("jti")
        if not isinstance(identity, str) or not 1 <= len(identity) <= 200:
            raise NotIdentified("assertion-invalid")
        self._use_assertion((system, identity), expires + self._skew, now)

    def _use_assertion(self, name: tuple[str, str], until: datetime, now: datetime) -> None:
        with self._lock:
            if name in self._assertions:
                raise NotIdentified("assertion-replayed")
            if len(self._assertions) >= MAX_REMEMBERED_ASSERTIONS:
                self._assertions = {n: end for n, end in self._assertions.items() if end >= now}
            if len(self._assertions) >= MAX_REMEMBERED_ASSERTIONS:
                if self._use_once is None:
                    raise NotIdentified("assertion-invalid")
                self._assertions.clear()  # the store remembers them
            if self._use_once is None:
                self._assertions[name] = until
                return
        # Not under the lock: it waits for a disk.
        if not self._use_once(hashlib.sha256("\n".join(("assertion", *name)).encode()).digest(), until):
            raise NotIdentified("assertion-replayed")
        with self._lock:
            self._assertions[name] = until


# --- client secrets --------------------------------------------------------------------------------------------------


def new_secret() -> str:
    """A client secret of 256 random bits, 43 characters."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """argon2id in PHC text form, for ``registry.model.System.client_secret_hash``. About 20 ms and 19 MiB."""
    return _HASHER.hash(secret)


def verify_secret(secret_hash: str, secret: str) -> bool:
    """Whether this is the secret. Never raises; as slow for a system without a hash, so that time tells nothing."""
    try:
        _HASHER.verify(secret_hash or _NO_HASH, secret)
    except (Argon2Error, InvalidHashError):
        return False
    return secret_hash != ""


#: argon2id of a random secret that nobody kept: what the secret of an unknown system is compared with.
_NO_HASH = "$argon2id$v=19$m=19456,t=2,p=1$sLw8l9uaJILc8Ucs1hn6sw$eUtGb7TqK3KLdZfe77/2s3NsDirEZjg8YBfMxSJksf8"


def refuse_weak_secret(secret: str, system: SystemCode) -> None:
    """Raises Malformed(secret-weak) for what half of the country uses: short, monotonous, or made from the agency's
    own code (vietnam.md 6.4)."""
    plain = re.sub(r"[^a-z0-9]", "", secret.lower())
    agency = re.sub(r"[^a-z0-9]", "", system.agency.lower())
    name = re.sub(r"[^a-z0-9]", "", system.split("/", 1)[1].lower())
    weak = len(secret) < MIN_SECRET_LENGTH or len(set(secret)) < 8
    # A random secret may well contain a short code such as "h99" or "sms" by chance: then only the start counts.
    weak = weak or any(
        plain.startswith(word) or plain.endswith(word) or (len(word) >= 5 and word in plain) for word in (agency, name)
    )
    if weak or secret.lower().startswith(system.agency.lower()):
        raise Malformed("secret-weak", minimum=MIN_SECRET_LENGTH)


def _assertion_header(segment: str) -> ProtectedHeader:
    """Assertions come from other people's libraries: ``typ`` and ``x5t#S256`` may be missing, nothing may be added."""
    try:
        if len(segment) > MAX_HEADER_LENGTH:
            raise ValueError("too long")
        header = read_json(base64url.decode(segment), max_depth=3)
    except (ValueError, Malformed):
        raise NotIdentified("assertion-invalid") from None
    if not isinstance(header, dict) or not all(isinstance(value, str) for value in header.values()):
        raise NotIdentified("assertion-invalid")
    if header.get("alg") not in ("ES256", "PS256"):
        raise NotIdentified("algorithm-not-allowed")
    if not {"alg", "kid"} <= header.keys() <= _ASSERTION_MEMBERS or header.get("typ", "JWT") not in (
        "JWT",
        "client-authentication+jwt",
    ):
        raise NotIdentified("header-not-allowed")
    return ProtectedHeader(header["alg"], header["kid"], header.get("x5t#S256", ""))


def _claims(payload: bytes, reason: str) -> dict[str, Any]:
    try:
        claims = read_json(payload, max_depth=4)
    except Malformed:
        raise NotIdentified(reason) from None
    if not isinstance(claims, dict):
        raise NotIdentified(reason)
    return claims
