"""Sessions that the twins hand out and later refuse."""

from __future__ import annotations

import hmac
import secrets
import threading
from time import monotonic

from werkzeug.datastructures import Authorization


class IssuedSessions:
    """Opaque session names with an end. Safe under threads."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._ends: dict[str, float] = {}
        self._issued = 0
        self._lock = threading.Lock()

    def issue(self) -> str:
        session = secrets.token_urlsafe(24)
        now = monotonic()
        with self._lock:
            self._ends = {name: end for name, end in self._ends.items() if end > now}
            self._ends[session] = now + self.seconds
            self._issued += 1
        return session

    def holds(self, session: object) -> bool:
        with self._lock:
            return isinstance(session, str) and self._ends.get(session, 0.0) > monotonic()

    def token_answer(self) -> dict[str, str | int]:
        """A new session as an OAuth 2.0 token answer (RFC 6749, 5.1)."""
        return {"access_token": self.issue(), "token_type": "Bearer", "expires_in": int(self.seconds)}

    def holds_bearer(self, authorization: str) -> bool:
        """Whether this is the header of a caller with a good session (RFC 6750, 2.1)."""
        scheme, _, token = authorization.partition(" ")
        return scheme == "Bearer" and self.holds(token)

    def end_all(self) -> None:
        """As after a restart of the partner: nobody's session is good any more."""
        with self._lock:
            self._ends.clear()

    @property
    def issued(self) -> int:
        """How many logins there were."""
        with self._lock:
            return self._issued


def same_login(given: Authorization | None, name: str, secret: str) -> bool:
    """Whether HTTP Basic says who the twin knows. Both are compared, so that time tells neither."""
    named = given is not None and same_secret(given.username, name)
    return given is not None and same_secret(given.password, secret) and named


def same_secret(given: object, expected: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode(), expected.encode())
