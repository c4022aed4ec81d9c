"""Signing in with an account of the identity provider that ``LGSP_OIDC_ISSUER`` names."""

from __future__ import annotations

import hmac
import json
from datetime import timedelta
from typing import Final

from flask import redirect, request
from werkzeug.wrappers import Response as AnyResponse

from bus.openid import Attempt, IdentityProvider, SignedInElsewhere
from bus.people import AuditEvent, SignInFailed
from bus.web.console.desk import Console, give_session, harden, safe_address
from bus.web.console.signing_in import sign_in_form
from schemas.moment import from_micros, to_micros, utc_now
from schemas.problem import Malformed, NotIdentified
from security import base64url

_COOKIE: Final = "lgsp-openid"
_PATH: Final = "/console/sign-in/openid"
#: Long enough to type a password and a code there.
_PATIENCE: Final = timedelta(minutes=10)


def install(console: Console) -> None:
    if not console.bus.settings.oidc_issuer:
        return
    provider, box, people = IdentityProvider(console.bus.settings), console.bus.secrets, console.people

    @console.routes.get("/sign-in/openid/begin", endpoint="begin_openid")
    def begin() -> AnyResponse:
        attempt, now = Attempt.new(), utc_now()
        try:
            answer = redirect(provider.address(attempt, now), 303)
        except NotIdentified:
            return sign_in_form(SignInFailed(), 503, openid=True, elsewhere=True)
        kept = {
            "state": attempt.state, "nonce": attempt.nonce, "verifier": attempt.verifier,
            "next": safe_address(request.args.get("next", "/console/")), "at": to_micros(now),
        }  # fmt: skip
        sealed = base64url.encode(box.seal(_COOKIE, json.dumps(kept).encode()))
        # Lax: the browser comes back from another site.
        answer.set_cookie(
            _COOKIE, sealed, path=_PATH, max_age=int(_PATIENCE.total_seconds()), httponly=True, samesite="Lax",
            secure=request.is_secure,
        )  # fmt: skip
        return harden(answer)

    @console.routes.get("/sign-in/openid", endpoint="end_openid")
    def end() -> AnyResponse:
        try:
            attempt, following = _begun()
            someone = provider.redeem(request.args.get("code", "")[:2000], attempt, utc_now())
            token, _ = people.sign_in_as(someone.subject, utc_now(), someone.roles)
        except (NotIdentified, Malformed):
            answer = sign_in_form(SignInFailed(), 401, openid=True, elsewhere=True)
        except SignInFailed as failed:
            _note_stranger(someone)
            answer = sign_in_form(failed, 401, openid=True, elsewhere=True)
        else:
            answer = give_session(redirect(following, 303), token)
        answer.delete_cookie(_COOKIE, path=_PATH)
        return answer

    def _begun() -> tuple[Attempt, str]:
        """What this browser began. Raises NotIdentified, Malformed."""
        try:
            kept = json.loads(box.open(_COOKIE, base64url.decode(request.cookies.get(_COOKIE, ""))))
        except ValueError:
            raise NotIdentified("openid-refused") from None
        too_late = utc_now() - from_micros(kept["at"]) > _PATIENCE
        same = hmac.compare_digest(kept["state"].encode(), request.args.get("state", "").encode())
        if too_late or not same or not request.args.get("code"):
            raise NotIdentified("openid-refused")
        return Attempt(state=kept["state"], nonce=kept["nonce"], verifier=kept["verifier"]), kept["next"]

    def _note_stranger(someone: SignedInElsewhere) -> None:
        """So that a security officer finds what to write into a new account."""
        facts = {"subject": someone.subject, "roles": sorted(someone.roles or ())}
        people.note(AuditEvent(at=utc_now(), person="openid", action="sign-in.stranger", target="openid:", facts=facts))
