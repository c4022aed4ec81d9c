"""A receiver that honours the idempotency key, writes down every arrival, and misbehaves when it is told to.

::

    python -m benchmarks.faults_receiver PORT FILE

    POST anything   {"serial": 17, …}  →  200, once what it did is in the file
    PUT /behave     {"how": "slow", "seconds": 30}
    PUT /answer     {"path": "/list", "answer": …}     what a POST to this path is answered from now on

The file has one line an arrival: ``<CLOCK_MONOTONIC microseconds> <what> <Idempotency-Key> <serial>`` (``-``: the body
has none), where *what* is ``effect`` (the key was new, it was acted upon), ``repeat`` (known, answered as before),
``conflict`` (known, with another body) or ``refused``. An arrival is written down before it is answered. Killed and
started again it reads its file: what it did it knows.

Behaviours: ``well``; ``slow``: answers after so many seconds; ``garbage``: bytes that are no HTTP, a page of HTML under
502, an answer with a wrong digest, in turn; ``breaks-off``: resets the connection in the middle of the request's body,
and in the middle of its answer, in turn; a body with ``poison`` in it is always refused (422).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET

_TAKEN = b'{"taken": true}'
_REFUSED = b'{"detail": "poison"}'
_HTML = b"<html><body>Bad Gateway</body></html>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One line of the file."""

    at_us: int
    what: str
    key: str
    serial: str


def read_arrivals(file: Path) -> list[Arrival]:
    """In the order of arrival. A line that a killed receiver did not finish is left out: it answered nothing."""
    text = file.read_text(encoding="ascii") if file.exists() else ""
    rows = (line.split(" ") for line in text.splitlines() if line.count(" ") == 3)
    return [Arrival(at_us=int(at), what=what, key=key, serial=serial) for at, what, key, serial in rows]


class _Receiver:
    def __init__(self, file: Path) -> None:
        before = read_arrivals(file)
        self._known = {arrival.key: "" for arrival in before if arrival.what == "effect"}
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._how, self._seconds = "well", 0.0
        self._turns = count()
        self._answers: dict[bytes, bytes] = {}

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                if not await self._answer(head, reader, writer):
                    break
                await writer.drain()
        writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        length = int(_header(head, "content-length") or 0)
        if head.startswith(b"PUT /behave"):
            wish = json.loads(await reader.readexactly(length))
            self._how, self._seconds = wish["how"], float(wish.get("seconds", 0))
            writer.write(_http("200 OK", b"{}"))
            return True
        if head.startswith(b"PUT /answer"):
            wish = json.loads(await reader.readexactly(length))
            self._answers[wish["path"].encode()] = json.dumps(wish["answer"]).encode()
            writer.write(_http("200 OK", b"{}"))
            return True
        how, turn = self._how, next(self._turns)
        if how == "breaks-off" and turn % 2 == 0:
            await reader.readexactly(length // 2)
            return _reset(writer)
        body = await reader.readexactly(length)
        if not self._take(head, body):
            writer.write(_http("422 Unprocessable Content", _REFUSED))
            return True
        match how:
            case "slow":
                await asyncio.sleep(self._seconds)
            case "garbage":
                writer.write(_garbage(turn))
                return turn % 3 != 0
            case "breaks-off":
                writer.write(_http("200 OK", _TAKEN)[:-5])
                await writer.drain()
                return _reset(writer)
        writer.write(_http("200 OK", self._answers.get(head.split(b" ", 2)[1], _TAKEN)))
        return True

    def _take(self, head: bytes, body: bytes) -> bool:
        """Write down what came; False for what is refused."""
        key, digest = _header(head, "idempotency-key"), hashlib.sha256(body).hexdigest()
        if b"poison" in body:
            what = "refused"
        elif key not in self._known:
            self._known[key] = digest
            what = "effect"
        else:
            what = "repeat" if self._known[key] in ("", digest) else "conflict"
        line = f"{time.monotonic_ns() // 1000} {what} {key} {json.loads(body).get('serial', '-')}\n"
        os.write(self._file, line.encode("ascii"))
        return what != "refused"


def _garbage(turn: int) -> bytes:
    wrong = b"Content-Digest: sha-256=:" + b"A" * 43 + b"=:\r\n"
    return [b"\x00\xff\x00garbage\r\n\r\n", _http("502 Bad Gateway", _HTML), _http("200 OK", _TAKEN, wrong)][turn % 3]


def _http(status: str, body: bytes, more: bytes = b"") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n".encode("ascii")
    return head + more + b"\r\n" + body


def _reset(writer: asyncio.StreamWriter) -> bool:
    writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False


def _header(head: bytes, name: str) -> str:
    for line in head.decode("latin-1").split("\r\n")[1:]:
        found, _, value = line.partition(":")
        if found.lower() == name:
            return value.strip()
    return ""


async def _serve(port: int, file: Path) -> None:
    server = await asyncio.start_server(_Receiver(file).talk, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


def main(arguments: Sequence[str]) -> None:
    port, file = arguments
    asyncio.run(_serve(int(port), Path(file)))


if __name__ == "__main__":
    main(sys.argv[1:])
