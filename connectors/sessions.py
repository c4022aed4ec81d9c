"""Sessions and tokens of partners, kept while they are good: one login serves every thread of a process.

A partner that takes a second for a login must not be asked by fifty threads at once, so of the callers that need a new
session one logs in and the others wait for it. A session that the partner no longer takes is forgotten only if it is
still the one in store: a late complaint about an old session must not throw away the new one.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from registry.model import Endpoint


@dataclass(slots=True)
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    token: str = ""
    ends: float = 0.0


class Sessions:
    """Tokens by endpoint and credential. Safe under threads. Nothing is written anywhere."""

    #: A session without a stated life is asked for again after ten minutes, whatever the partner thinks of it.
    DEFAULT_SECONDS = 600.0

    def __init__(self) -> None:
        self._slots: dict[str, _Slot] = {}
        self._lock = threading.Lock()

    def get(self, endpoint: Endpoint, secret: bytes, login: Callable[[], tuple[str, float | None]]) -> str:
        """The token in store, or the one that ``login`` fetches; it returns the token and its life in seconds."""
        slot = self._slot(endpoint, secret)
        with slot.lock:
            if not slot.token or monotonic() >= slot.ends:
                token, seconds = login()
                slot.token, slot.ends = token, monotonic() + (seconds or self.DEFAULT_SECONDS)
            return slot.token

    def forget(self, endpoint: Endpoint, secret: bytes, token: str) -> None:
        """The partner refused this token."""
        slot = self._slot(endpoint, secret)
        with slot.lock:
            if slot.token == token:
                slot.token = ""

    def _slot(self, endpoint: Endpoint, secret: bytes) -> _Slot:
        # A digest, so that a changed password opens a new slot and no dump of this table shows one.
        key = hashlib.sha256(b"\0".join((endpoint.connector.encode(), endpoint.url.encode(), secret))).hexdigest()
        with self._lock:
            return self._slots.setdefault(key, _Slot())
