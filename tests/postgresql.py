"""A private PostgreSQL for tests: a fresh cluster in a temporary folder, on a free loopback port, gone afterwards.

::

    @pytest.fixture(scope="module")
    def postgresql(missing_service):
        with private_postgresql(missing_service) as server:
            yield server

    url = server.new_database()
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from benchmarks.postgresql import PostgresMissing, PostgresServer, make_postgresql

_SETTINGS = ("shared_buffers=32MB", "max_connections=80", "log_min_messages=fatal")
#: A test cluster survives no power cut, and need not: what is tested is what transactions see of each other.
_HASTE = ("fsync=off", "full_page_writes=off")

PrivateServer = PostgresServer


@contextmanager
def private_postgresql(give_up: Callable[[str], NoReturn], *, durable: bool = False) -> Iterator[PrivateServer]:
    """Start a cluster, stop it at the end. ``give_up(reason)`` when there is no PostgreSQL here and none can be had.

    ``durable``: every commit reaches the disk, as in production; for measurements and faults.
    """
    folder = Path(tempfile.mkdtemp(prefix="lgsp-pg-"))
    try:
        try:
            server = make_postgresql(folder, settings=(*_SETTINGS, *(() if durable else _HASTE)))
        except PostgresMissing as missing:
            give_up(str(missing))
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
