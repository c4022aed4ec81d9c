"""Calls under an access token, for partners that hand one out for a name and a password (RFC 6749, 4.4).

::

    POST <token url>   Authorization: Basic client_id:client_secret   → {"access_token": "…", "expires_in": 3600}
    …                  Authorization: Bearer <access_token>           401 → one new token, and the call once more

Many partners do this without the form that the RFC wants, or with a login of their own behind the same answer, so what
is posted is the caller's choice.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

from connectors.base import Reply
from connectors.http import Deadline, HttpClient, check_status
from connectors.partner_json import name_and_password, reply_object, setting_text
from connectors.sessions import Sessions
from registry.model import Endpoint
from schemas.problem import InvalidReply, ProviderUnavailable

#: Makes the call itself: the Authorization header's value and the seconds that are left.
Call = Callable[[str, float], Reply]

FORM_TYPE = "application/x-www-form-urlencoded"


class TokenCalls:
    """Makes calls under tokens that all threads of a process share; see :class:`connectors.sessions.Sessions`."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._sessions = Sessions()

    def make(
        self,
        call: Call,
        endpoint: Endpoint,
        secret: bytes | None,
        *,
        token_url: str,
        headers: Mapping[str, str],
        form: str = "",
        basic: bool = True,
    ) -> Reply:
        """The answer to a call, whatever its status but 401; the token's request has the ``headers`` and the ``form``,
        and the credential as Basic unless the form has it (RFC 6749, 4.3). Then its form is the caller's to check.

        One deadline holds for all calls together. Raises ProviderUnavailable ``endpoint-secret-missing`` and
        ``provider-login-failed``: an operator renews the credential, and the messages wait.
        """
        if basic:
            name_and_password(secret)
        credential = secret or b""
        deadline = Deadline(endpoint.timeout_seconds)

        def login() -> tuple[str, float | None]:
            named = f"Basic {base64.b64encode(credential.strip()).decode('ascii')}"
            own = {
                **({"Authorization": named} if basic else {}),
                **({"Content-Type": FORM_TYPE} if form else {}),
            }
            reply = self._http.request(
                "POST",
                token_url,
                headers={**headers, **own},
                body=form.encode("ascii"),
                timeout_seconds=deadline.remaining(),
            )
            return _read_token(reply)

        for _ in range(2):
            token = self._sessions.get(endpoint, credential, login)
            reply = call(f"Bearer {token}", deadline.remaining())
            if reply.status != 401:
                return reply
            self._sessions.forget(endpoint, credential, token)
        raise ProviderUnavailable("provider-login-failed")


def place(endpoint: Endpoint, setting: str, default: str) -> str:
    """The URL of one of the partner's paths."""
    return f"{endpoint.url.rstrip('/')}/{setting_text(endpoint, setting, default).lstrip('/')}"


def _read_token(reply: Reply) -> tuple[str, float | None]:
    """Token and life in seconds of an ``access_token`` answer. A refused login may pass (an operator renews the
    credential), so it is ProviderUnavailable."""
    if reply.status in (400, 401, 403):
        raise ProviderUnavailable("provider-login-failed")
    document = reply_object(check_status(reply))
    token, seconds = document.get("access_token"), document.get("expires_in")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise InvalidReply("reply-not-readable")
    # Nine tenths of the life: a token must not end on its way.
    return token, float(seconds) * 0.9 if isinstance(seconds, int) and seconds > 0 else None
