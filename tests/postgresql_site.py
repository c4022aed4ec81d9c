"""PostgreSQL as an operator sets it up: empty folders, the package's programs, the scripts of `docker/postgresql/`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import psycopg

from benchmarks.postgresql import _binaries, _give, _installed, _user
from tests.processes import until


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where the servers of one test live, and how their programs are run."""

    binaries: Path
    folder: Path
    user: dict[str, Any]

    def environment(self, server: str, port: int, **more: str) -> dict[str, str]:
        return {
            "PATH": f"{self.binaries}:{os.environ['PATH']}",
            "PGDATA": str(self.folder / server),
            "PGHOST": str(self.folder),
            "PGPORT": str(port),
            "SECRETS": str(self.folder / "secrets"),
            "TMPDIR": str(self.folder),
            **more,
        }

    def run(self, *command: str, environment: dict[str, str]) -> None:
        done = subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True, **self.user)
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def running(self, *command: str, environment: dict[str, str], port: int) -> Iterator[subprocess.Popen[bytes]]:
        arguments = ("-p", str(port), "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1")
        with (self.folder / f"{port}.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, *arguments], env=environment, cwd=self.folder, stdout=log, stderr=log, **self.user
            )
        try:
            assert until(lambda: process.poll() is not None or self.answers(port), 40)
            assert process.poll() is None, (self.folder / f"{port}.log").read_text()
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def initdb(self, environment: dict[str, str]) -> None:
        kind = ("--encoding", "UTF8", "--locale", "C", "--auth-host", "scram-sha-256", "--no-sync")
        self.run("initdb", "--username", "postgres", *kind, environment=environment)

    def answers(self, port: int) -> bool:
        try:
            self.connect(port).close()
        except psycopg.OperationalError:
            return False
        return True

    def connect(self, port: int) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=str(self.folder), port=port, user="postgres", dbname="postgres", autocommit=True, connect_timeout=3
        )


@contextmanager
def empty_site(give_up: Callable[[str], NoReturn]) -> Iterator[Site]:
    """A folder of PostgreSQL's own user, gone afterwards. ``give_up(reason)`` where there is no PostgreSQL."""
    binaries = _binaries() or _installed()
    if binaries is None:
        give_up("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="lgsp-standby-"))
    _give(folder)
    try:
        yield Site(binaries=binaries, folder=folder, user=_user())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
