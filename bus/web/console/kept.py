"""What all open pages of a process share: read once in a while, however many look."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """What ``read`` finds, read again once it is older than ``lasts``. Thread-safe: who comes meanwhile waits."""

    def __init__(self, read: Callable[[datetime], T], lasts: timedelta) -> None:
        self._read = read
        self._lasts = lasts
        self._mutex = threading.Lock()
        self._known: tuple[datetime, T] | None = None

    def at(self, now: datetime) -> tuple[datetime, T]:
        """When it was read, and what was found. A clock that was set back makes it read again."""
        with self._mutex:
            if self._known is None or not timedelta(0) <= now - self._known[0] < self._lasts:
                self._known = (now, self._read(now))
            return self._known
