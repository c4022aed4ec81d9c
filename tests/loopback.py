"""Real servers on loopback for tests: a WSGI application, and a socket that says exactly what a test wants."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server


class QuietHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Nothing: what a test wants to know it asks."""


@dataclass
class Recorded:
    """A running application and what was asked of it."""

    url: str
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def header(self, name: str) -> list[str]:
        """Values of a request header, in order of arrival, where it was sent."""
        return [headers[name.lower()] for _, _, headers in self.requests if name.lower() in headers]


@contextmanager
def serving(application: Callable[..., Any], port: int = 0) -> Iterator[Recorded]:
    """The application on a free port (or this one), threaded, and everything that it was asked."""
    recorded = Recorded(url="")

    def recording(environ: dict[str, Any], start_response: Any) -> Any:
        headers = {k[5:].lower().replace("_", "-"): v for k, v in environ.items() if k.startswith("HTTP_")}
        recorded.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], headers))
        return application(environ, start_response)

    server = make_server("127.0.0.1", port, recording, threaded=True, request_handler=QuietHandler)
    recorded.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield recorded
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def saying(
    parts: Sequence[bytes], *, pause_seconds: float = 0.0, reset: bool = False, keep_open: bool = False
) -> Iterator[str]:
    """A server that reads one request per connection and answers with these bytes, part by part; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    stopping = threading.Event()
    threads: list[threading.Thread] = []

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                _read_request(connection)
                for part in parts:
                    connection.sendall(part)
                    if stopping.wait(pause_seconds):
                        break
                if keep_open:
                    stopping.wait(10)
                if reset:
                    time.sleep(0.05)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=answer, args=(connection,))
            threads.append(thread)
            thread.start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stopping.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in [acceptor, *threads]:
            thread.join()


def _read_request(connection: socket.socket) -> None:
    seen = b""
    while b"\r\n\r\n" not in seen:
        part = connection.recv(65_536)
        if not part:
            return
        seen += part
    head, _, body = seen.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-len")), 0
    )
    while len(body) < length:
        part = connection.recv(65_536)
        if not part:
            return
        body += part


def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
