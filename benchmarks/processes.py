"""Start, watch and stop the processes of a measurement. Everything listens on loopback and is stopped by its own id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What some processes have used so far: resident memory now, processor time since each began."""

    #: Resident bytes of each process id; pages shared after a fork are counted in each.
    rss_bytes: Mapping[int, int]
    cpu_seconds: float

    @property
    def largest_rss_bytes(self) -> int:
        return max(self.rss_bytes.values(), default=0)


@dataclass(slots=True, kw_only=True)
class Running:
    """A server that was started here, with everything it started itself. Stop it once; use it as a context manager."""

    name: str
    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def pids(self) -> list[int]:
        return family(self.process.pid)

    def stop(self, *, patience_seconds: float = 10.0) -> None:
        """SIGTERM, then SIGKILL to what is still there of its family when patience ends."""
        members = self.pids
        self.process.terminate()
        try:
            self.process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for member in members:
            if member != self.process.pid and _parent(member) in (1, os.getpid()) and _alive(member):
                os.kill(member, signal.SIGKILL)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_server(
    name: str,
    command: Sequence[str],
    *,
    port: int,
    environment: Mapping[str, str] | None = None,
    log: IO[bytes] | None = None,
    ready_within_seconds: float = 30.0,
) -> Running:
    """Start ``command`` at the repository's root and return when something listens on ``port`` of loopback.

    What it says goes to ``log``; without one, only its standard error is seen.
    Raises RuntimeError when it ends first or is not ready in time (it is stopped then).
    """
    process = subprocess.Popen(
        list(command),
        cwd=ROOT,
        env=child_environment(environment),
        stdin=subprocess.DEVNULL,
        stdout=log or subprocess.DEVNULL,
        stderr=log,
    )
    running = Running(name=name, process=process, port=port)
    try:
        wait_until_listening(port, process=process, within_seconds=ready_within_seconds)
    except RuntimeError as error:
        running.stop()
        raise RuntimeError(f"{name}: {error}") from None
    return running


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, with the repository importable and ``extra`` on top."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path, **(extra or {})}


def program(name: str) -> str:
    """The console script of this interpreter's own environment (``gunicorn``, ``granian``, ``dramatiq``)."""
    return str(Path(sys.executable).parent / name)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until_listening(
    port: int, *, process: subprocess.Popen[bytes] | None = None, within_seconds: float = 30.0
) -> None:
    deadline = time.monotonic() + within_seconds
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"ended with code {process.returncode} before it listened")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError("nothing listened in time")


def sample(pids: Iterable[int]) -> Sample:
    """Memory and processor time of these processes now; those that are gone are left out."""
    rss: dict[int, int] = {}
    cpu_ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            rss[pid] = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        except OSError:
            continue
        # Fields 14 and 15 of proc(5): time in user and kernel mode. Waited-for children are counted on their own.
        cpu_ticks += int(fields[11]) + int(fields[12])
    return Sample(rss_bytes=rss, cpu_seconds=cpu_ticks / _TICKS_PER_SECOND)


def family(pid: int) -> list[int]:
    """A process and all its descendants, eldest first."""
    members = [pid]
    for member in members:
        for task in Path(f"/proc/{member}/task").glob("*/children"):
            try:
                members += map(int, task.read_text().split())
            except OSError:
                continue
    return members


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
    except OSError:
        return 0
