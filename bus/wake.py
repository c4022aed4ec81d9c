"""A tap on the shoulder between processes of one machine: "something is due".

Each listener owns a named pipe in the wake folder; whoever makes something due writes a byte into all of them. A tap
may be lost (a full pipe, a listener that is just starting): listeners look by themselves now and then as well.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from pathlib import Path
from uuid import uuid4

#: How long a sender may overlook a new listener.
_LOOK_AGAIN_SECONDS = 1.0


class WakeListener:
    """Waits for taps. One thread waits; any process may tap."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{os.getpid()}-{uuid4().hex[:8]}"
        os.mkfifo(self._path, 0o600)
        #: Opened for both directions, so that it never reads as closed while nobody writes.
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self, seconds: float) -> bool:
        """True when tapped within ``seconds``; all taps so far count as one."""
        ready, _, _ = select.select([self._descriptor], [], [], seconds)
        if not ready:
            return False
        with contextlib.suppress(BlockingIOError):
            os.read(self._descriptor, 65536)
        return True

    def tap(self) -> None:
        """Wake the listener from another thread of its own process."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._descriptor, b".")

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


class WakeSender:
    """Taps every listener of the folder. Thread-safe; never blocks, never fails."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mutex = threading.Lock()
        self._descriptors: dict[str, int] = {}
        self._looked_at = float("-inf")

    def tap(self) -> None:
        with self._mutex:
            if time.monotonic() - self._looked_at > _LOOK_AGAIN_SECONDS:
                self._look_for_listeners()
            for name, descriptor in list(self._descriptors.items()):
                try:
                    os.write(descriptor, b".")
                except BlockingIOError:
                    pass  # full: it has taps enough
                except OSError:
                    self._forget(name)

    def close(self) -> None:
        with self._mutex:
            for name in list(self._descriptors):
                self._forget(name)

    def _look_for_listeners(self) -> None:
        self._looked_at = time.monotonic()
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return
        for name in names:
            if name not in self._descriptors:
                try:
                    self._descriptors[name] = os.open(self._folder / name, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                except OSError:
                    # No reader: its process was killed. A listener that is just opening its pipe makes a new look-up.
                    _remove_orphan(self._folder / name)

    def _forget(self, name: str) -> None:
        os.close(self._descriptors.pop(name))


def _remove_orphan(path: Path) -> None:
    """Remove the pipe of a dead process, named by its process id."""
    process = path.name.partition("-")[0]
    if process.isdigit() and not Path(f"/proc/{process}").exists():
        path.unlink(missing_ok=True)
