"""A private PostgreSQL for tests: a fresh cluster in a temporary folder, on a free loopback port, gone afterwards.

Most tests take the fixtures ``postgresql`` and ``new_store`` (conftest); a test that kills, stops or reconfigures its
server has one of its own::

    with private_postgresql(missing_service) as server:
        url = server.url(server.new_database())
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
_HASTE = (
    *("fsync=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0"),
    *("autovacuum=off", "checkpoint_timeout=1h", "max_wal_size=2GB"),
)
#: A database is 300 files, and this much for all of them is more than a test process leaves there at a time.
_MEMORY = Path("/dev/shm")  # noqa: S108 - a private folder is made in it
_ROOM_BYTES = 2 * 1024**3

PrivateServer = PostgresServer


@contextmanager
def private_postgresql(give_up: Callable[[str], NoReturn], *, durable: bool = False) -> Iterator[PrivateServer]:
    """Start a cluster, stop it at the end. ``give_up(reason)`` when there is no PostgreSQL here and none can be had.

    ``durable``: every commit reaches the disk, as in production; for measurements and faults.
    """
    folder = Path(tempfile.mkdtemp(prefix="lgsp-pg-")) if durable else hasty_folder("lgsp-pg-")
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


def hasty_folder(prefix: str) -> Path:
    """A new folder for a server that need not outlive a power cut: in memory where there is room. Whoever asks removes
    it."""
    try:
        room = shutil.disk_usage(_MEMORY).free
    except OSError:
        room = 0
    return Path(tempfile.mkdtemp(prefix=prefix, dir=_MEMORY if room > _ROOM_BYTES else None))
