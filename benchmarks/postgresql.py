"""A private PostgreSQL: a fresh cluster on a free loopback port, durable or hasty, gone when it is stopped.

Nothing of a PostgreSQL that the machine runs already is touched. As root the server runs as an unprivileged user
(PostgreSQL refuses root), and Debian's package is installed when it is missing. A server may be killed and started
again, and have a synchronous standby that takes its place.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.processes import family, free_port

_STANDBY = "standby"


class PostgresMissing(RuntimeError):
    """There is no PostgreSQL on this machine and this user may not install it."""


@dataclass(slots=True, kw_only=True)
class PostgresServer:
    """A cluster's server, running or not. Databases are cheap: take one per test."""

    port: int
    password: str
    #: Holds the data, the log and the socket.
    folder: Path
    binaries: Path
    #: Settings of its command line, ``name=value``.
    settings: Sequence[str] = ()
    #: Where the data lies when not in ``folder``.
    data: Path | None = None
    #: Those that were made here and not dropped.
    databases: list[str] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def process_id(self) -> int:
        """Of the postmaster, its children are the backends; 0 while it does not run."""
        return self._process.pid if self._process is not None and self.is_running else 0

    def url(self, database: str, port: int = 0) -> str:
        """SQLAlchemy's address of a database; ``port``: of a line that leads here."""
        return f"postgresql+psycopg://lgsp:{self.password}@127.0.0.1:{port or self.port}/{database}"

    def new_database(self, template: str = "template1") -> str:
        """The name of a fresh database, a copy of ``template`` (which nobody may be connected to)."""
        name = f"test_{next(self._numbers)}"
        with self.connect("postgres") as connection:
            # Before version 15 the only way there is; since then the quicker one for a database of many small files.
            strategy = "STRATEGY FILE_COPY" if connection.info.server_version >= 150_000 else ""
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {strategy}')
        self.databases.append(name)
        return name

    def drop(self, databases: Iterable[str]) -> None:
        """Whoever is connected to them is thrown out."""
        with self.connect("postgres") as connection:
            for name in databases:
                connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
                self.databases.remove(name)

    def connect(self, database: str) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="lgsp",
            password=self.password,
            dbname=database,
            autocommit=True,
            connect_timeout=20,
        )

    def start(self, *, within_seconds: float = 60.0) -> None:
        """Start it, and return when it takes connections. Tried again while it ends at once: after a kill the server's
        children hold its memory for a moment, and a disk may be full. Raises RuntimeError."""
        patience_ends = time.monotonic() + within_seconds
        while time.monotonic() < patience_ends:
            if not self.is_running:
                self._launch()
            try:
                self.connect("postgres").close()
                return
            except psycopg.OperationalError:
                time.sleep(0.05)
        text = (self.folder / "log").read_text(errors="replace")
        self.stop()
        raise RuntimeError(f"PostgreSQL did not start: {text[-2000:]}")

    def _launch(self) -> None:
        settings = (f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(self.binaries / "postgres"), "-D", str(self.data or self.folder / "data")),
                    *(part for setting in (*settings, *self.settings) for part in ("-c", setting)),
                ],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                **_user(),
            )

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL to the postmaster and all its children at once: a power cut, as far as the disks allow."""
        if self._process is not None:
            for pid in family(self._process.pid):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self._process.wait()

    def stop(self) -> None:
        """SIGINT ("fast"): ends the sessions, does not wait for them."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def break_connections(self) -> int:
        """End every session but this one, in whatever it does; how many."""
        with self.connect("postgres") as connection:
            ended = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            return ended.rowcount

    def standby(self, folder: Path) -> PostgresServer:
        """A copy of this server, which from now on follows it, and without which this one acknowledges nothing."""
        folder.mkdir(parents=True)
        _give(folder)
        source = f"host=127.0.0.1 port={self.port} user=lgsp password={self.password} application_name={_STANDBY}"
        subprocess.run(
            [
                *(str(self.binaries / "pg_basebackup"), "-d", source, "-D", str(folder / "data")),
                *("-X", "stream", "-c", "fast", "-R"),
            ],
            cwd=folder,
            check=True,
            capture_output=True,
            **_user(),
        )
        other = PostgresServer(
            port=free_port(),
            password=self.password,
            folder=folder,
            binaries=self.binaries,
            settings=self.settings,
        )
        other.start()
        with self.connect("postgres") as connection:
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{_STANDBY}'")
            connection.execute("SELECT pg_reload_conf()")
            patience_ends = time.monotonic() + 20
            while connection.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'").fetchone() is None:
                if time.monotonic() > patience_ends:
                    other.stop()
                    raise RuntimeError("the standby does not follow")
                time.sleep(0.05)
        return other

    def promote(self) -> None:
        """From a standby to a server that takes writes."""
        with self.connect("postgres") as connection:
            connection.execute("SELECT pg_promote(wait => true)")


def make_postgresql(
    folder: Path, *, settings: Sequence[str] = (), data: Path | None = None, small: bool = False
) -> PostgresServer:
    """A new cluster below ``folder`` (which must be empty), not started yet; ``data``: where its data lies instead;
    ``small``: its log comes in pieces that fit on a small disk. Raises PostgresMissing."""
    binaries = _binaries() or _installed()
    if binaries is None:
        raise PostgresMissing("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder.mkdir(parents=True, exist_ok=True)
    for place in (folder, *([data.parent] if data else [])):
        _give(place)
    server = PostgresServer(
        port=free_port(),
        password=secrets.token_hex(16),
        folder=folder,
        binaries=binaries,
        settings=settings,
        data=data,
    )
    password_file = folder / "password"
    password_file.write_text(server.password)
    password_file.chmod(0o600)
    _give(password_file)
    subprocess.run(
        [
            *(str(binaries / "initdb"), "-D", str(data or folder / "data"), "-U", "lgsp", "--no-sync"),
            *("--no-instructions", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256"),
            *(f"--pwfile={password_file}", *(["--wal-segsize=1"] if small else [])),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
        **_user(),
    )
    return server


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


def _owner() -> pwd.struct_passwd | None:
    """Whom the server runs as where this process is root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return pwd.getpwnam("postgres" if "postgres" in names else "nobody")


def _user() -> dict[str, Any]:
    owner = _owner()
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if owner else {}


def _give(path: Path) -> None:
    owner = _owner()
    if owner:
        os.chown(path, owner.pw_uid, owner.pw_gid)
