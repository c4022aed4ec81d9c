"""A private PostgreSQL for tests: a fresh cluster in a temporary folder, on a free loopback port, gone afterwards.

::

    @pytest.fixture(scope="module")
    def postgresql(missing_service):
        with private_postgresql(missing_service) as server:
            yield server

    url = server.new_database()

Nothing of a PostgreSQL that the machine runs already is touched. As root the server runs as an unprivileged user
(PostgreSQL refuses root), and Debian's package is installed when it is missing.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import psycopg

from tests.loopback import closed_port

_SETTINGS = ("shared_buffers=32MB", "max_connections=80", "log_min_messages=fatal")
#: A test cluster survives no power cut, and need not: what is tested is what transactions see of each other.
_HASTE = ("fsync=off", "full_page_writes=off")


@dataclass(slots=True, kw_only=True)
class PrivateServer:
    """A running cluster. Databases are cheap: take one per test."""

    port: int
    password: str
    #: Of the postmaster; its children are the backends.
    process_id: int = 0
    _numbers: Iterator[int] = field(default_factory=count)

    def url(self, database: str) -> str:
        """SQLAlchemy's address of a database."""
        return f"postgresql+psycopg://lgsp:{self.password}@127.0.0.1:{self.port}/{database}"

    def new_database(self, template: str = "template1") -> str:
        """The name of a fresh database, a copy of ``template`` (which nobody may be connected to)."""
        name = f"test_{next(self._numbers)}"
        with self.connect("postgres") as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def connect(self, database: str) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="lgsp", password=self.password, dbname=database, autocommit=True
        )


@contextmanager
def private_postgresql(give_up: Callable[[str], NoReturn], *, durable: bool = False) -> Iterator[PrivateServer]:
    """Start a cluster, stop it at the end. ``give_up(reason)`` when there is no PostgreSQL here and none can be had.

    ``durable``: every commit reaches the disk, as in production; for measurements and faults.
    """
    binaries = _binaries() or _installed()
    if binaries is None:
        give_up("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="lgsp-pg-"))
    try:
        user = _unprivileged(folder)
        server = PrivateServer(port=closed_port(), password=secrets.token_hex(16))
        _make_cluster(binaries, folder, server.password, user)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(str(binaries / "postgres"), "-D", str(folder / "data"), "-p", str(server.port)),
                    *("-k", str(folder), "-c", "listen_addresses=127.0.0.1"),
                    *(part for setting in (*_SETTINGS, *(() if durable else _HASTE)) for part in ("-c", setting)),
                ],
                cwd=folder,
                stdout=log,
                stderr=log,
                **user,
            )
        try:
            server.process_id = process.pid
            _wait_until_it_answers(server, process, folder / "log")
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # "fast": ends the sessions, does not wait for them
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path | None:
    """The newest server on this machine. Debian keeps its programs off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def _installed() -> Path | None:
    """Debian's package, where this process may install it."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return None
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", "postgresql"]):
        done = subprocess.run(["apt-get", "-qq", *command], env=quiet, capture_output=True, check=False)
        if done.returncode != 0:
            return None
    return _binaries()


def _unprivileged(folder: Path) -> dict[str, Any]:
    """How to start a process that PostgreSQL accepts, and the folder given to its user."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _make_cluster(binaries: Path, folder: Path, password: str, user: dict[str, Any]) -> None:
    password_file = folder / "password"
    password_file.write_text(password)
    password_file.chmod(0o600)
    if user:
        os.chown(password_file, user["user"], user["group"])
    subprocess.run(
        [
            *(str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "lgsp", "--no-sync", "--no-instructions"),
            *("--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", f"--pwfile={password_file}"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
        **user,
    )


def _wait_until_it_answers(server: PrivateServer, process: subprocess.Popen[bytes], log: Path) -> None:
    patience_ends = time.monotonic() + 30
    while time.monotonic() < patience_ends and process.poll() is None:
        try:
            server.connect("postgres").close()
            return
        except psycopg.OperationalError:
            time.sleep(0.05)
    raise AssertionError(f"PostgreSQL did not start: {log.read_text(errors='replace')[-2000:]}")
