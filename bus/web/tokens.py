"""`/v1/oauth/token`: client_credentials (RFC 6749, section 4.4) for callers that do not sign each message."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from flask import Blueprint, Response, request

from bus.assembly import Bus
from bus.web.answers import json_response
from bus.web.described import Answer, describe
from bus.web.door import received_at
from schemas.identifiers import SystemCode
from schemas.problem import Malformed, NotIdentified
from security.tokens import TOKEN_PATH, verify_secret

#: RFC 7523, section 2.2.
_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_MAX_FORM_BYTES = 16 * 1024


def token_surface(bus: Bus) -> Blueprint:
    """The token endpoint, and the keys that verify what the bus signs."""
    routes = Blueprint("tokens", __name__)

    @routes.post(TOKEN_PATH)
    @describe(
        "Identity",
        "Get a bearer token",
        access="anyone",
        body={
            "application/x-www-form-urlencoded": {
                "type": "object",
                "required": ["grant_type"],
                "properties": {
                    "grant_type": {"const": "client_credentials"},
                    "client_id": {"type": "string", "description": "system code, as in H99.15/mot-cua"},
                    "client_secret": {"type": "string"},
                    "client_assertion_type": {"const": _JWT_BEARER},
                    "client_assertion": {
                        "type": "string",
                        "description": "JWT signed with the system's key (RFC 7523)",
                    },
                },
            }
        },
        answers={
            200: Answer(
                meaning="A token for one system",
                schema={
                    "type": "object",
                    "required": ["access_token", "token_type", "expires_in"],
                    "properties": {
                        "access_token": {"type": "string"},
                        "token_type": {"const": "Bearer"},
                        "expires_in": {"type": "integer"},
                    },
                },
                headers={"Cache-Control": "no-store"},
            )
        },
        problems=(400, 401),
    )
    def token() -> Response:
        """Prove who you are by a client secret (in the form or as HTTP Basic), or by an assertion that you sign with
        the same key as your messages."""
        request.max_content_length = request.max_form_memory_size = _MAX_FORM_BYTES
        form = request.form
        if form.get("grant_type") != "client_credentials":
            raise Malformed("grant-type-unknown")
        system = _asserted(bus, form) if "client_assertion" in form else _with_secret(bus, form)
        response = json_response(
            {
                "access_token": bus.tokens.issue(system, now=received_at()),
                "token_type": "Bearer",
                "expires_in": bus.tokens.lifetime_seconds,
            }
        )
        response.headers["Cache-Control"] = "no-store"
        return response

    @routes.get("/v1/keys")
    @describe(
        "Identity",
        "The bus's public keys",
        access="anyone",
        answers={200: Answer(meaning="A JWK Set (RFC 7517): what receipts and attested manifests are verified with")},
    )
    def keys() -> Response:
        """Pin the one you trust; during a rotation there are two."""
        return json_response(bus.ring.public_jwks())

    return routes


def _asserted(bus: Bus, form: Mapping[str, str]) -> SystemCode:
    if form.get("client_assertion_type") != _JWT_BEARER:
        raise NotIdentified("client-not-identified")
    return bus.tokens.verify_assertion(form["client_assertion"], bus.directory.current(), received_at()).system


def _with_secret(bus: Bus, form: Mapping[str, str]) -> SystemCode:
    client_id, secret = _basic() or (form.get("client_id", ""), form.get("client_secret", ""))
    system = bus.directory.current().system(client_id)
    # An unknown system costs as much time as a wrong secret: who is a member is not told to strangers.
    right = verify_secret(system.client_secret_hash if system else "", secret)
    if system is None or not right or system.suspended:
        raise NotIdentified("client-not-identified")
    return system.code


def _basic() -> tuple[str, str] | None:
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, _, secret = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise NotIdentified("client-not-identified") from None
    return client_id, secret
