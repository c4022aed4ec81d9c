"""A line between two parties of ours that can be cut, reset, stalled and mended: a TCP proxy on loopback.

With several targets it is also the load balancer in front of several web processes: each new connection goes to the
next one that takes it.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import count

_CHUNK_BYTES = 65_536


class Line:
    """Listens from the beginning to `close`. Thread-safe."""

    def __init__(self, targets: Sequence[int]) -> None:
        """``targets``: ports of loopback."""
        self._targets = list(targets)
        self._turns = count()
        self._mutex = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._flowing = threading.Event()
        self._flowing.set()
        self._closed = False
        self._listener: socket.socket | None = None
        self.port = 0
        self._listen()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End all connections and refuse new ones."""
        self._deafen()
        self._end_all(reset=False)

    def reset(self) -> None:
        """End all connections with RST, in the middle of whatever was said; new ones are taken."""
        self._end_all(reset=True)

    def stall(self) -> None:
        """Carry nothing any more, and tell nobody: connections stay open, new ones are taken."""
        self._flowing.clear()

    def mend(self) -> None:
        """Carry everything again, also what was said while it stalled."""
        self._flowing.set()
        if self._listener is None:
            self._listen()

    def close(self) -> None:
        self._closed = True
        self._deafen()
        self._flowing.set()
        self._end_all(reset=False)

    def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self.port = int(listener.getsockname()[1])
        self._listener = listener
        threading.Thread(target=self._take, args=(listener,), daemon=True).start()

    def _deafen(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _take(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        self._flowing.wait()
        far = self._reach()
        if far is None:
            near.close()
            return
        pair = (near, far)
        with self._mutex:
            self._pairs.add(pair)
            cut = self._listener is None
        for end in pair:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if cut:
            self._end(pair, reset=False)
        back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
        back.start()
        self._pump(near, far)
        back.join()
        self._end(pair, reset=False)
        for end in pair:
            end.close()

    def _reach(self) -> socket.socket | None:
        """A connection to the first target that takes one, beginning with the next in turn."""
        first = next(self._turns)
        for offset in range(len(self._targets)):
            with suppress(OSError):
                return socket.create_connection(("127.0.0.1", self._targets[(first + offset) % len(self._targets)]))
        return None

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                self._flowing.wait()
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _end_all(self, *, reset: bool) -> None:
        with self._mutex:
            pairs = list(self._pairs)
        for pair in pairs:
            self._end(pair, reset=reset)

    def _end(self, pair: tuple[socket.socket, socket.socket], *, reset: bool) -> None:
        with self._mutex:
            self._pairs.discard(pair)
        for end in pair:
            with suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    # An address of no family ends a connection with RST, also while a thread waits in it.
                    _disconnect(end)
                end.shutdown(socket.SHUT_RDWR)


def _disconnect(end: socket.socket) -> None:
    """connect(2) with AF_UNSPEC dissolves the association of a TCP socket: the peer gets a RST."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.connect(end.fileno(), struct.pack("=H14x", socket.AF_UNSPEC), 16)
