"""PostgreSQL with the standby of `docker/postgresql/`: every commit is on both, and the bus finds the survivor."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest

from bus.settings import load_settings
from bus.setup import initialise
from bus.store import open_store
from tests.loopback import closed_port
from tests.postgresql import _binaries, _installed
from tests.processes import until

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "docker" / "postgresql"


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


@pytest.fixture
def site(missing_service: Callable[[str], NoReturn]) -> Iterator[Site]:
    binaries = _binaries() or _installed()
    if binaries is None:
        missing_service("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="lgsp-standby-"))
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        entry = pwd.getpwnam("postgres" if "postgres" in {each.pw_name for each in pwd.getpwall()} else "nobody")
        user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    try:
        yield Site(binaries=binaries, folder=folder, user=user)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.service
def test_a_commit_is_on_two_machines_and_the_bus_finds_the_one_that_is_left(site: Site, tmp_path: Path) -> None:
    ports = first, second = closed_port(), closed_port()
    secrets = site.folder / "secrets"
    stores = [f"127.0.0.1:{port}" for port in ports]
    maker = [sys.executable, str(ROOT / "docker" / "make_secrets.py"), str(secrets), "--store", *stores]
    subprocess.run(maker, check=True, capture_output=True)
    if site.user:
        os.chown(secrets, site.user["user"], site.user["group"])
    settings = load_settings(environ={"LGSP_STORE_URL_FILE": str(secrets / "store-url"), "LGSP_HOME": str(tmp_path)})
    primary = site.environment("primary", first, STANDBY="standby")
    standby = site.environment("standby", second, STANDBY="standby", PRIMARY=f"host=127.0.0.1 port={first}")
    initdb = ("initdb", "--username", "postgres", "--encoding", "UTF8", "--locale", "C", "--auth-host", "scram-sha-256")
    site.run(*initdb, "--no-sync", environment=primary)
    (site.folder / "standby").mkdir(mode=0o700)
    if site.user:
        os.chown(site.folder / "standby", site.user["user"], site.user["group"])
    with site.running("postgres", environment=primary, port=first):
        site.run("sh", str(SCRIPTS / "primary.sh"), environment=primary)
    with ExitStack() as stack:
        alive = stack.enter_context(site.running("postgres", environment=primary, port=first))
        stack.enter_context(site.running("sh", str(SCRIPTS / "standby.sh"), environment=standby, port=second))
        with site.connect(first) as connection:
            state = "SELECT application_name, sync_state FROM pg_stat_replication"
            assert until(lambda: connection.execute(state).fetchall() == [("standby", "sync")])
        initialise(settings)
        store = open_store(settings)
        try:
            assert rows(site, second) == rows(site, first) > 0
            alive.kill()
            alive.wait()
            site.run("sh", str(SCRIPTS / "promote.sh"), environment=standby)
            assert until(lambda: writes(store), 15)
            assert rows(site, second) > 0
        finally:
            store.close()


def writes(store: Any) -> bool:
    """A transaction of the bus that must end on a disk."""
    started = time.monotonic()
    try:
        with store.writing() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")
    except Exception:
        return False
    return time.monotonic() - started < 5


def rows(site: Site, port: int) -> int:
    """How many tables of the bus a server has."""
    with psycopg.connect(
        host=str(site.folder), port=port, user="postgres", dbname="lgsp", autocommit=True
    ) as connection:
        found = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    return int(found[0]) if found else 0
