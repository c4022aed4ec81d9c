"""PostgreSQL with the standby of `docker/postgresql/`: every commit is on both, and the bus finds the survivor."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest

from bus.settings import load_settings
from bus.setup import initialise
from bus.store import open_store
from tests.loopback import closed_port
from tests.postgresql_site import Site, empty_site
from tests.processes import until

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "docker" / "postgresql"


@pytest.fixture
def site(missing_service: Callable[[str], NoReturn]) -> Iterator[Site]:
    with empty_site(missing_service) as site:
        yield site


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
    site.initdb(primary)
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
            # It is on the standby's disk when the commit ends, and visible there a moment later.
            assert rows(site, first) > 0
            assert until(lambda: rows(site, second) == rows(site, first))
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
