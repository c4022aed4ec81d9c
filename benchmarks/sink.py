"""The sink: an HTTP server that takes everything, counts it, and remembers when each Idempotency-Key first came.

``POST anything`` → 200 · ``GET /stats`` → counts as JSON · ``GET /arrivals`` → ``key,arrival_us`` lines
(CLOCK_MONOTONIC, comparable with the load generator's ``start_us``) · ``POST /reset`` → everything forgotten.

One uvloop process, no framework: about 15 µs of processor time a request.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.request
from dataclasses import dataclass
from typing import cast

from benchmarks.processes import Running, free_port, start_server

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkStats:
    requests: int
    distinct: int
    #: Requests whose key had come before: what an idempotent receiver would have dropped.
    repeated: int
    without_key: int
    body_bytes: int
    #: CLOCK_MONOTONIC microseconds of the first and the latest arrival; 0 before any.
    first_us: int
    last_us: int


class Sink(Running):
    """A running sink, seen from the measuring process."""

    def stats(self) -> SinkStats:
        return SinkStats(**json.loads(self._get("/stats")))

    def arrivals(self) -> dict[str, int]:
        """First arrival of each key."""
        lines = self._get("/arrivals").decode("ascii").splitlines()
        return {key: int(moment) for key, _, moment in (line.rpartition(",") for line in lines)}

    def reset(self) -> None:
        self._get("/reset", method="POST")

    def wait_for(self, distinct: int, *, within_seconds: float) -> SinkStats:
        """Wait until so many different keys have come, or time is up."""
        deadline = time.monotonic() + within_seconds
        while (stats := self.stats()).distinct < distinct and time.monotonic() < deadline:
            time.sleep(0.05)
        return stats

    def _get(self, path: str, *, method: str = "GET") -> bytes:
        request = urllib.request.Request(self.url + path, method=method)  # noqa: S310 - loopback, made here
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - the same
            return bytes(answer.read())


def start_sink(*, port: int = 0) -> Sink:
    """A sink in its own process, ready to take requests."""
    running = start_server(
        "sink", [sys.executable, "-m", "benchmarks.sink", str(port := port or free_port())], port=port
    )
    return Sink(name=running.name, process=running.process, port=running.port)


class _Counts:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.requests = self.without_key = self.body_bytes = self.first_us = self.last_us = 0
        self.arrivals: dict[bytes, int] = {}

    def take(self, key: bytes, length: int) -> None:
        now_us = time.monotonic_ns() // 1000
        self.requests += 1
        self.body_bytes += length
        self.last_us = now_us
        if not self.first_us:
            self.first_us = now_us
        if key:
            self.arrivals.setdefault(key, now_us)
        else:
            self.without_key += 1

    def stats(self) -> bytes:
        facts = {
            "requests": self.requests,
            "distinct": len(self.arrivals),
            "repeated": self.requests - self.without_key - len(self.arrivals),
            "without_key": self.without_key,
            "body_bytes": self.body_bytes,
            "first_us": self.first_us,
            "last_us": self.last_us,
        }
        return json.dumps(facts).encode()


class _Taker(asyncio.Protocol):
    """One connection. Reads heads by hand; bodies need a Content-Length (all measured clients send one)."""

    def __init__(self, counts: _Counts) -> None:
        self.counts = counts
        self.rest = b""
        self.transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports write, but are not registered as asyncio's WriteTransport.
        self.transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        if self.rest:
            data = self.rest + data
        while (head_end := data.find(b"\r\n\r\n")) >= 0:
            head = data[: head_end + 2]
            length = int(_header(head, b"content-length") or 0)
            if len(data) < head_end + 4 + length:
                break
            data = data[head_end + 4 + length :]
            self._answer(head, length)
        self.rest = data

    def _answer(self, head: bytes, length: int) -> None:
        assert self.transport is not None
        if head.startswith(b"GET /stats "):
            self.transport.write(_with_body(self.counts.stats()))
        elif head.startswith(b"GET /arrivals "):
            rows = b"".join(b"%s,%d\n" % row for row in self.counts.arrivals.items())
            self.transport.write(_with_body(rows))
        elif head.startswith(b"POST /reset "):
            self.counts.reset()
            self.transport.write(_OK)
        else:
            self.counts.take(_header(head, b"idempotency-key"), length)
            self.transport.write(_OK)


def _header(head: bytes, name: bytes) -> bytes:
    lowered = head.lower()
    at = lowered.find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    start = at + len(name) + 3
    return head[start : head.find(b"\r\n", start)].strip()


def _with_body(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def _serve(port: int) -> None:
    counts = _Counts()
    server = await asyncio.get_running_loop().create_server(lambda: _Taker(counts), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:  # outside the extra "bench": counts the same, costs more
        asyncio.run(_serve(int(sys.argv[1])))
    else:
        uvloop.run(_serve(int(sys.argv[1])))
