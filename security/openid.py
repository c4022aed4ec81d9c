"""What an identity provider says of somebody who signs in: an ID token (OpenID Connect Core 1.0, section 3.1.3.7).

The token is believed when its signature is by a key of the provider, under an algorithm that is no shared secret, and
when it is from this provider, for this client, for this very sign-in (``nonce``), and of now.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from schemas.problem import NotIdentified

#: No HS*: what is signed with the client's secret could be written by whoever has read it.
ALGORITHMS: Final = ["RS256", "PS256", "ES256", "ES384", "EdDSA"]
_LEEWAY_SECONDS: Final = 60
_LONGEST: Final = 16_384


def verify_id_token(
    token: str, keys: Mapping[str, Any], *, issuer: str, client_id: str, nonce: str, now: datetime
) -> dict[str, Any]:
    """The claims of a token that holds. ``keys`` is the provider's JWK set. Raises NotIdentified(openid-refused)."""
    if len(token) > _LONGEST:
        raise NotIdentified("openid-refused")
    try:
        read = jwt.decode(token, KeySet.import_key_set(dict(keys)), algorithms=ALGORITHMS)  # type: ignore[arg-type]
        jwt.JWTClaimsRegistry(
            now=int(now.timestamp()),
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        ).validate(read.claims)
    except (JoseError, ValueError, KeyError, TypeError):
        raise NotIdentified("openid-refused") from None
    claims: dict[str, Any] = read.claims
    audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if not isinstance(claims["sub"], str) or not claims["sub"] or len(claims["sub"]) > 255:
        raise NotIdentified("openid-refused")
    if (len(audiences) > 1 or "azp" in claims) and claims.get("azp") != client_id:
        raise NotIdentified("openid-refused")
    return claims
