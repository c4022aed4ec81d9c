"""The load generator: ready-made HTTP requests over kept connections, from a process of its own.

Two ways to drive:

*closed loop*  ``connections`` callers, each sends its next request when it has the answer to the last: how much fits.
*open loop*    ``rate`` requests a second on a fixed timetable, whatever the answers do. Latency is counted from the
               moment a request was *due*, so a server that stalls is charged for everybody who would have come
               meanwhile (no coordinated omission).

One thread, one epoll, no HTTP library: a request is one ``send`` and one ``recv``, some ten µs of processor time, so
that the measured server keeps the machine. Loopback only. Moments are CLOCK_MONOTONIC microseconds, the same clock in
every process of a machine, so that a sink's arrival times can be compared with them.
"""

from __future__ import annotations

import array
import gc
import ipaddress
import json
import math
import resource
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.processes import ROOT, child_environment

N = TypeVar("N", int, float)

#: Status written for a request that got no whole answer: refused, reset, or silent for too long.
NO_ANSWER = 0
_RECEIVE_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What one run saw. Latencies are milliseconds over every answered request after the warm-up."""

    requests: int
    #: Answers with a 2xx status.
    accepted: int
    statuses: Mapping[int, int]
    #: From the first send to the last answer, warm-up left out.
    seconds: float
    #: Accepted answers a second.
    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    #: Processor time of the generator itself.
    generator_cpu_us_per_request: float
    #: One row a request: index in the list of requests, start (or due moment), latency, status.
    csv: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run, as handed to the generator's process."""

    host: str
    port: int
    requests_file: str
    connections: int
    rate: float
    seconds: float
    count: int
    warmup_seconds: float
    timeout_seconds: float
    csv: str


@dataclass(slots=True, kw_only=True)
class LoadRun:
    """A run under way; :meth:`wait` gives its result once."""

    process: subprocess.Popen[bytes]
    directory: tempfile.TemporaryDirectory[str] | None

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self) -> LoadResult:
        """Raises RuntimeError when the generator failed; its traceback is on standard error."""
        try:
            output, _ = self.process.communicate()
        finally:
            if self.directory is not None:
                self.directory.cleanup()
        if self.process.returncode != 0:
            raise RuntimeError(f"the load generator ended with code {self.process.returncode}")
        facts = json.loads(output)
        facts["statuses"] = {int(status): times for status, times in facts["statuses"].items()}
        facts["csv"] = Path(facts["csv"]) if facts["csv"] else None
        return LoadResult(**facts)


def run_load(
    requests: Sequence[bytes] | Path,
    *,
    port: int,
    host: str = "127.0.0.1",
    connections: int = 32,
    rate: float = 0.0,
    seconds: float = 0.0,
    count: int = 0,
    warmup_seconds: float = 0.0,
    timeout_seconds: float = 30.0,
    csv: Path | None = None,
) -> LoadResult:
    """Send ``requests`` (bytes each, or a file by :func:`write_requests`) and wait for the result.

    ``rate`` 0 is the closed loop. It ends when the list was sent once, or after ``count`` requests (the list is then
    repeated as often as needed), or after ``seconds``, whichever comes first; without ``count`` the list is sent at
    most once. Raises ValueError for an address that is not loopback.
    """
    return start_load(
        requests,
        port=port,
        host=host,
        connections=connections,
        rate=rate,
        seconds=seconds,
        count=count,
        warmup_seconds=warmup_seconds,
        timeout_seconds=timeout_seconds,
        csv=csv,
    ).wait()


def start_load(
    requests: Sequence[bytes] | Path,
    *,
    port: int,
    host: str = "127.0.0.1",
    connections: int = 32,
    rate: float = 0.0,
    seconds: float = 0.0,
    count: int = 0,
    warmup_seconds: float = 0.0,
    timeout_seconds: float = 30.0,
    csv: Path | None = None,
) -> LoadRun:
    """As :func:`run_load`, without waiting."""
    if not ipaddress.ip_address(host).is_loopback:
        raise ValueError("the load generator speaks to loopback only")
    if connections < 1:
        raise ValueError("at least one connection is needed")
    directory = None
    if not isinstance(requests, Path):
        directory = tempfile.TemporaryDirectory(prefix="lgsp-load-")
        requests = write_requests(Path(directory.name) / "requests", requests)
    plan = Plan(
        host=host,
        port=port,
        requests_file=str(requests.resolve()),
        connections=connections,
        rate=rate,
        seconds=seconds,
        count=count,
        warmup_seconds=warmup_seconds,
        timeout_seconds=timeout_seconds,
        csv=str(csv.resolve()) if csv else "",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load", json.dumps(asdict(plan))],
        cwd=ROOT,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    return LoadRun(process=process, directory=directory)


def write_requests(path: Path, requests: Iterable[bytes]) -> Path:
    """Keep ready-made requests in a file: each is its length (4 bytes, big-endian) and its bytes."""
    with path.open("wb") as file:
        for request in requests:
            file.write(len(request).to_bytes(4, "big"))
            file.write(request)
    return path


def read_requests(path: Path) -> list[bytes]:
    data = path.read_bytes()
    requests = []
    position = 0
    while position < len(data):
        end = position + 4 + int.from_bytes(data[position : position + 4], "big")
        requests.append(data[position + 4 : end])
        position = end
    return requests


def http_request(path: str, body: bytes, *, headers: Mapping[str, str], method: str = "POST") -> bytes:
    """The bytes of one HTTP/1.1 request on a kept connection."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body


# ---------------------------------------------------------------------------------------------- the generator's process


class _Caller:
    """One kept connection and the request it waits for."""

    __slots__ = ("closes", "connection", "file_number", "index", "needed", "received", "started_us", "unsent")

    def __init__(self) -> None:
        self.connection: socket.socket | None = None
        self.file_number = -1
        self.index = -1
        self.started_us = 0
        self.unsent = b""
        self.received = b""
        #: Length of the whole answer once its head is known; 0 before.
        self.needed = 0
        #: The server said that this answer is the connection's last.
        self.closes = False


class _Generator:
    """Runs a plan. Rows are kept as plain integers and written after the end."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.requests = read_requests(Path(plan.requests_file))
        total = plan.count or len(self.requests)
        rounds = repeat(range(len(self.requests)), math.ceil(total / max(1, len(self.requests))))
        self.indexes = iter(list(chain.from_iterable(rounds))[:total])
        self.poll = select.epoll()
        self.callers: dict[int, _Caller] = {}
        self.idle: deque[_Caller] = deque()
        self.rows = array.array("q")
        self.in_flight = 0
        #: When silent connections are looked for again.
        self.next_look_us = 0

    def run(self) -> dict[str, Any]:
        gc.collect()
        gc.disable()
        for _ in range(self.plan.connections):
            self.idle.append(_Caller())
        for caller in self.idle:
            self._connect(caller)
        cpu_before = _cpu_seconds()
        began_us = _now_us()
        if self.plan.rate > 0:
            self._open_loop(began_us)
        else:
            self._closed_loop(began_us)
        return self._result(began_us, _cpu_seconds() - cpu_before)

    def _closed_loop(self, began_us: int) -> None:
        ends_us = began_us + int(self.plan.seconds * 1e6) if self.plan.seconds else sys.maxsize
        while True:
            while self.idle and _now_us() < ends_us and (index := next(self.indexes, -1)) >= 0:
                self._send(self.idle.popleft(), index, _now_us())
            if not self.in_flight:
                return
            self._receive(1.0)

    def _open_loop(self, began_us: int) -> None:
        ends_us = began_us + int(self.plan.seconds * 1e6) if self.plan.seconds else sys.maxsize
        gap_us = 1e6 / self.plan.rate
        waiting: deque[tuple[int, int]] = deque()
        step = 0
        due_us = began_us
        index = next(self.indexes, -1)
        while True:
            now_us = _now_us()
            while index >= 0 and due_us <= now_us:
                waiting.append((index, due_us))
                step += 1
                due_us = began_us + int(step * gap_us)
                index = next(self.indexes, -1) if due_us < ends_us else -1
            while waiting and self.idle:
                self._send(self.idle.popleft(), *waiting.popleft())
            if not self.in_flight and index < 0 and not waiting:
                return
            pause = (due_us - _now_us()) / 1e6 if index >= 0 else 1.0
            # epoll counts in milliseconds; select on the epoll object itself wakes to the microsecond.
            select.select([self.poll], [], [], max(0.0, min(1.0, pause)))
            self._receive(0.0)

    def _connect(self, caller: _Caller) -> bool:
        self._disconnect(caller)
        try:
            connection = socket.create_connection((self.plan.host, self.plan.port), timeout=5)
        except OSError:
            return False
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        caller.connection, caller.file_number = connection, connection.fileno()
        self.callers[caller.file_number] = caller
        self.poll.register(caller.file_number, select.EPOLLIN)
        return True

    def _disconnect(self, caller: _Caller) -> None:
        if caller.connection is not None:
            del self.callers[caller.file_number]
            self.poll.unregister(caller.file_number)
            caller.connection.close()
            caller.connection = None

    def _send(self, caller: _Caller, index: int, started_us: int) -> None:
        caller.index, caller.started_us = index, started_us
        caller.received, caller.needed = b"", 0
        self.in_flight += 1
        if caller.connection is None and not self._connect(caller):
            self._done(caller, NO_ANSWER)
            return
        caller.unsent = self.requests[index]
        self._send_rest(caller)

    def _send_rest(self, caller: _Caller) -> None:
        assert caller.connection is not None
        try:
            sent = caller.connection.send(caller.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._fail(caller)
            return
        waited = caller.unsent is not self.requests[caller.index]
        caller.unsent = caller.unsent[sent:] if sent < len(caller.unsent) else b""
        if caller.unsent:
            self.poll.modify(caller.file_number, select.EPOLLIN | select.EPOLLOUT)
        elif waited:
            self.poll.modify(caller.file_number, select.EPOLLIN)

    def _receive(self, timeout_seconds: float) -> None:
        for file_number, event in self.poll.poll(timeout_seconds):
            caller = self.callers.get(file_number)
            if caller is None:
                continue
            if event & select.EPOLLOUT and caller.unsent:
                self._send_rest(caller)
            if event & ~select.EPOLLOUT:
                self._read(caller)
        if _now_us() > self.next_look_us:
            self._give_up_on_the_silent()

    def _read(self, caller: _Caller) -> None:
        assert caller.connection is not None
        try:
            data = caller.connection.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or caller.index < 0:
            self._fail(caller)
            return
        data = caller.received = caller.received + data if caller.received else data
        if not caller.needed:
            caller.needed, caller.closes = _answer_length(data)
        if caller.needed and len(data) >= caller.needed:
            if caller.closes:
                self._disconnect(caller)
            self._done(caller, int(data[9:12]))

    def _fail(self, caller: _Caller) -> None:
        """The server closed: an idle connection is opened again at its next use, a waiting request is lost."""
        self._disconnect(caller)
        if caller.index >= 0:
            self._done(caller, NO_ANSWER)

    def _done(self, caller: _Caller, status: int) -> None:
        self.rows.extend((caller.index, caller.started_us, _now_us() - caller.started_us, status))
        caller.index = -1
        self.in_flight -= 1
        self.idle.append(caller)

    def _give_up_on_the_silent(self) -> None:
        now_us = _now_us()
        self.next_look_us = now_us + 500_000
        too_old_us = now_us - int(self.plan.timeout_seconds * 1e6)
        for caller in list(self.callers.values()):
            if caller.index >= 0 and caller.started_us < too_old_us:
                self._fail(caller)

    def _result(self, began_us: int, cpu_seconds: float) -> dict[str, Any]:
        rows = [tuple(self.rows[at : at + 4]) for at in range(0, len(self.rows), 4)]
        if self.plan.csv:
            lines = (f"{index},{start},{latency},{status}\n" for index, start, latency, status in rows)
            Path(self.plan.csv).write_text("request,start_us,latency_us,status\n" + "".join(lines), encoding="ascii")
        first_us = began_us + int(self.plan.warmup_seconds * 1e6)
        counted = [row for row in rows if row[1] >= first_us]
        latencies = sorted(row[2] for row in counted if row[3] != NO_ANSWER)
        accepted = sum(200 <= row[3] < 300 for row in counted)
        seconds = max((row[1] + row[2] for row in counted), default=first_us) - first_us
        return {
            "requests": len(counted),
            "accepted": accepted,
            "statuses": Counter(row[3] for row in counted),
            "seconds": seconds / 1e6,
            "rate": accepted / (seconds / 1e6) if seconds else 0.0,
            "p50_ms": percentile(latencies, 50) / 1000,
            "p95_ms": percentile(latencies, 95) / 1000,
            "p99_ms": percentile(latencies, 99) / 1000,
            "max_ms": (latencies[-1] if latencies else 0) / 1000,
            "generator_cpu_us_per_request": cpu_seconds * 1e6 / max(1, len(rows)),
            "csv": self.plan.csv,
        }


def percentile(ordered: Sequence[N], percent: float) -> N | int:
    """Nearest rank: the smallest value that at least ``percent`` of all do not exceed; 0 of nothing."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0


def _answer_length(data: bytes) -> tuple[int, bool]:
    """Length of head and body together, 0 while that cannot be told; and whether the connection ends with it.

    A chunked body is whole when its last chunk is there.
    """
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return 0, False
    head = data[:head_end].lower()
    closes = b"\r\nconnection: close" in head
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        line_end = head.find(b"\r\n", at + 2)
        return head_end + 4 + int(head[at + 17 : line_end if line_end >= 0 else len(head)]), closes
    if b"\r\ntransfer-encoding: chunked" in head:
        return (len(data) if data.endswith(b"\r\n0\r\n\r\n") else 0), closes
    return head_end + 4, closes


def _now_us() -> int:
    return time.monotonic_ns() // 1000


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    print(json.dumps(_Generator(Plan(**json.loads(sys.argv[1]))).run()))
