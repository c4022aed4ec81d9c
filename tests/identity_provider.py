"""An identity provider for tests, over HTTP and with real signed tokens: OpenID Connect's authorization code with PKCE.

It lets in whoever ``someone`` says, without asking for a password, and is as strict with the client as a real one: a
code counts once, for its redirect address, its client's secret and its verifier. ``changed`` makes its tokens hostile.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from flask import Flask, Response, jsonify, redirect, request
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey
from werkzeug.wrappers import Response as AnyResponse

from security import base64url
from tests.loopback import serving

CLIENT, SECRET = "truc", "bí-mật của trục liên thông tỉnh Thử Nghiệm"


@dataclass
class IdentityProvider:
    """What it is about to say."""

    url: str = ""
    someone: str = "u-1"
    #: Claims that are not as they should be; None leaves one out.
    changed: dict[str, Any] = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "k1"}, auto_kid=False))
    #: Sign with this instead, under the name of the published key.
    forged: RSAKey | OctKey | None = None
    algorithm: str = "RS256"
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    down: bool = False

    def app(self) -> Flask:
        app = Flask("provider", static_folder=None)
        app.get("/.well-known/openid-configuration")(self.description)
        app.get("/keys")(self.keys)
        app.get("/authorize")(self.authorize)
        app.post("/token")(self.token)
        return app

    def description(self) -> AnyResponse:
        if self.down:
            return Response("down", 503)
        places = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
        return jsonify({"issuer": self.url} | {name: f"{self.url}/{place}" for name, place in places.items()})

    def keys(self) -> AnyResponse:
        return jsonify(KeySet([self.key]).as_dict(private=False))

    def authorize(self) -> AnyResponse:
        asked = dict(request.args)
        self.asked.append(asked)
        assert (asked["response_type"], asked["client_id"], asked["code_challenge_method"]) == ("code", CLIENT, "S256")
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return redirect(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")

    def token(self) -> AnyResponse:
        form, login = request.form, request.authorization
        asked = self.codes.pop(form.get("code", ""), None)
        verifier = base64url.encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if login is None or (login.username, login.password) != (_quoted(CLIENT), _quoted(SECRET)):
            return Response("{}", 401, content_type="application/json")
        if asked is None or asked["redirect_uri"] != form["redirect_uri"] or asked["code_challenge"] != verifier:
            return Response('{"error": "invalid_grant"}', 400, content_type="application/json")
        now = int(time.time())
        claims = {
            "iss": self.url, "sub": self.someone, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"],
        } | self.changed  # fmt: skip
        kept = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": self.algorithm, "kid": "k1"}
        signed = jwt.encode(header, kept, self.forged or self.key, algorithms=[self.algorithm])
        return jsonify({"access_token": "x", "token_type": "Bearer", "id_token": signed})


@contextmanager
def identity_provider() -> Iterator[IdentityProvider]:
    provider = IdentityProvider()
    with serving(provider.app()) as recorded:
        provider.url = recorded.url
        yield provider


def _quoted(text: str) -> str:
    return quote(text, safe="")
