"""Signing in by way of an identity provider (OpenID Connect, authorization code with PKCE): what is asked of it, and
what it answers. No pages: those are in ``bus/web/console/openid.py``.

The provider's description and keys are read once and again after ten minutes, or when a token names a key that is not
known. Thread-safe.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote, urlencode

from bus.people import PersonRole
from bus.settings import Settings
from connectors.http import HttpClient, HttpSettings
from schemas.codec import read_json
from schemas.problem import Malformed, NotIdentified, ProviderFailure
from security import base64url
from security.openid import verify_id_token

_FRESH: Final = timedelta(minutes=10)
_TIMEOUT_SECONDS: Final = 10.0
_MOST_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One sign-in under way: what only the browser that began it may bring back."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> Attempt:
        return cls(state=secrets.token_urlsafe(24), nonce=secrets.token_urlsafe(24), verifier=secrets.token_urlsafe(48))

    @property
    def challenge(self) -> str:
        """RFC 7636, S256."""
        return base64url.encode(hashlib.sha256(self.verifier.encode("ascii")).digest())


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedInElsewhere:
    """Whom the provider has let in. ``roles`` is None where roles are given here."""

    subject: str
    roles: frozenset[PersonRole] | None


class IdentityProvider:
    """The provider that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http = HttpClient(HttpSettings(max_reply_bytes=_MOST_BYTES))
        self._mutex = threading.Lock()
        self._known: tuple[datetime, Mapping[str, Any], Mapping[str, Any]] | None = None

    @property
    def redirect_uri(self) -> str:
        base = self._settings.console_url or self._settings.public_url
        return f"{base.rstrip('/')}/console/sign-in/openid"

    def address(self, attempt: Attempt, now: datetime) -> str:
        """Where the browser is sent. Raises NotIdentified(openid-unreachable)."""
        asked = {
            "response_type": "code",
            "client_id": self._settings.oidc_client_id,
            "redirect_uri": self.redirect_uri,
            "scope": "openid",
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        endpoint = str(self._description(now)["authorization_endpoint"])
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}"

    def redeem(self, code: str, attempt: Attempt, now: datetime) -> SignedInElsewhere:
        """Who it is that came back with a code. Raises NotIdentified(openid-refused, openid-unreachable)."""
        settings = self._settings
        description = self._description(now)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "code_verifier": attempt.verifier,
        }
        headers = {
            "Authorization": _basic(settings.oidc_client_id, settings.oidc_client_secret),
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        answer = self._asked("POST", str(description["token_endpoint"]), headers, urlencode(form).encode())
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise NotIdentified("openid-refused")
        claims = self._verified(token, attempt, now)
        return SignedInElsewhere(subject=f"{settings.oidc_issuer} {claims['sub']}", roles=roles_of(claims, settings))

    def _verified(self, token: str, attempt: Attempt, now: datetime) -> Mapping[str, Any]:
        facts: dict[str, Any] = {
            "issuer": self._settings.oidc_issuer,
            "client_id": self._settings.oidc_client_id,
            "nonce": attempt.nonce,
            "now": now,
        }
        try:
            return verify_id_token(token, self._keys(now), **facts)
        except NotIdentified:
            with self._mutex:  # the provider may have changed its keys since
                fresh = self._known is not None and now - self._known[0] < timedelta(seconds=30)
                self._known = self._known if fresh else None
            if fresh:
                raise
        return verify_id_token(token, self._keys(now), **facts)

    def _description(self, now: datetime) -> Mapping[str, Any]:
        return self._read(now)[1]

    def _keys(self, now: datetime) -> Mapping[str, Any]:
        return self._read(now)[2]

    def _read(self, now: datetime) -> tuple[datetime, Mapping[str, Any], Mapping[str, Any]]:
        with self._mutex:
            known = self._known
        if known is not None and now - known[0] < _FRESH:
            return known
        issuer = self._settings.oidc_issuer
        description = self._asked("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration", {})
        needed = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        if description.get("issuer") != issuer or not all(isinstance(description.get(name), str) for name in needed):
            raise NotIdentified("openid-unreachable")
        keys = self._asked("GET", description["jwks_uri"], {})
        found = (now, description, keys)
        with self._mutex:
            self._known = found
        return found

    def _asked(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Mapping[str, Any]:
        """A JSON object of the provider. Raises NotIdentified: what went wrong there is nothing for a stranger."""
        try:
            reply = self._http.request(method, url, headers=headers, timeout_seconds=_TIMEOUT_SECONDS, body=body)
            document = read_json(reply.body) if reply.status == 200 else None
        except (ProviderFailure, Malformed):
            raise NotIdentified("openid-unreachable") from None
        if not isinstance(document, Mapping):
            raise NotIdentified("openid-refused" if 400 <= reply.status < 500 else "openid-unreachable")
        return document


def roles_of(claims: Mapping[str, Any], settings: Settings) -> frozenset[PersonRole] | None:
    """The roles that the provider's groups are here; None where roles are given here. Pure."""
    if not settings.oidc_role_claim:
        return None
    value: Any = claims
    for name in settings.oidc_role_claim.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    groups = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    known = settings.oidc_group_roles
    return frozenset(PersonRole(role) for group in groups for role in known.get(str(group), ()))


def _basic(name: str, secret: str) -> str:
    """HTTP Basic (RFC 7617) as OAuth spells it (RFC 6749, 2.3.1)."""
    return "Basic " + b64encode(f"{quote(name, safe='')}:{quote(secret, safe='')}".encode()).decode("ascii")
