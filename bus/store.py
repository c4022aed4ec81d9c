"""The connection to the store: SQLite with full durability, or PostgreSQL, from one URL.

SQLite allows one writer at a time and lets the others spin; under load that starves processes at random. Writers
here queue on a file lock first, which the kernel hands over in turn, so several processes share one file fairly.
"""

from __future__ import annotations

import fcntl
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url

from bus.settings import Settings

T = TypeVar("T")

_MIGRATIONS = Path(__file__).parent / "migrations" / "versions"

#: Execution option of connections that only read: they take no write lock.
READ_ONLY = "lgsp_read"


class Apart(Protocol):
    """Calls a function and returns its result, at a place where it may block without holding up this process.

    Plain threads need no such place. Under gevent a flush, or the wait for the writer lock, would stop every request of
    the process; there it is a pool of real threads.
    """

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any: ...


def call_here(function: Callable[..., Any], *arguments: Any) -> Any:
    """The place of plain threads: right here."""
    return function(*arguments)


class Store:
    """One database, opened for reading and for writing. Safe to share between threads; not across a fork."""

    def __init__(self, engine: Engine, apart: Apart = call_here) -> None:
        """``apart`` is where transactions run."""
        self.engine = engine
        self._apart = apart
        self._reader = engine.execution_options(**{READ_ONLY: True})
        self._turn = _turns_of(engine)
        #: Connections that write, kept apart from the engine's pool: under gevent transactions run in real threads, and
        #: a lock that greenlets share with real threads is a lock that can be lost. A deque needs none.
        self._writers: deque[Connection] = deque()
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent view of the store; nothing done here is kept."""
        with self._reader.connect() as connection:
            try:
                yield connection
            finally:
                if self._closed:  # the pool is gone: nobody else would close this connection
                    connection.invalidate()

    def write(self, change: Callable[..., T], *arguments: Any) -> T:
        """``change(connection, *arguments)`` as one transaction, run where its flush holds up nobody else: on a normal
        return everything is on disk, on an exception nothing happened."""
        result: T = self._apart(self._write, change, *arguments)
        return result

    def _write(self, change: Callable[..., T], *arguments: Any) -> T:
        with self.writing() as connection:
            return change(connection, *arguments)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction: on a normal exit everything is on disk, on an exception nothing happened."""
        with self._turn():
            try:
                connection = self._writers.pop()
            except IndexError:
                connection = self.engine.connect()
            try:
                with connection.begin():
                    yield connection
            finally:
                if self._closed:  # a writer that outlived its store takes its connection with it
                    connection.close()
                else:
                    self._writers.append(connection)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def close(self) -> None:
        self._closed = True
        while self._writers:
            self._writers.pop().close()
        self.engine.dispose()


def open_store(settings: Settings, apart: Apart = call_here) -> Store:
    return Store(open_engine(settings), apart)


def open_engine(settings: Settings) -> Engine:
    """An engine with the pragmas and locking that the ledger relies on. Connects lazily."""
    url = make_url(settings.effective_store_url)
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, hide_parameters=True, paramstyle="format")  # see Prepared
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": 30.0, "check_same_thread": False}, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(dbapi_connection: Any, _record: Any) -> None:
    #: The driver must not open transactions by itself: `_begin_sqlite` says which kind.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    #: FULL: a commit returns after its bytes are on the disk. With NORMAL a power cut loses acknowledged messages.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA cache_size=-16384")
    cursor.execute("PRAGMA wal_autocheckpoint=4000")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _turns_of(engine: Engine) -> Callable[[], AbstractContextManager[None]]:
    """How writers of this store take turns. PostgreSQL sees to that itself."""
    database = engine.url.database
    if engine.dialect.name == "sqlite" and database and database != ":memory:":
        path = Path(f"{database}.writer")
        return lambda: _file_lock(path)
    return nullcontext


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """An exclusive lock on a file, in turn between processes and, as each holder opens the file anew, threads."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # lets go of the lock


def migrate(store: Store, revision: str = "head") -> None:
    """Bring the store's tables to a revision, creating them when there are none. Safe to repeat."""
    with store.writing() as connection:
        command.upgrade(migration_config(connection), revision)


def newest_revision() -> str:
    """The newest revision of the tables that this program knows, by the names of its migrations: `0006_nodes.py`."""
    return max(path.name[:4] for path in _MIGRATIONS.glob("[0-9]" * 4 + "_*.py"))


def migration_config(connection: Connection) -> Config:
    """What Alembic needs to migrate the store behind this connection, in the connection's transaction."""
    config = Config()
    config.set_main_option("script_location", "bus:migrations")
    config.attributes["connection"] = connection
    return config


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStanding:
    """What `lgsp doctor` wants to know of a store. Empty revision: there are no tables yet."""

    dialect: str
    server_version: str
    revision: str
    newest_revision: str
    #: Whether a commit returns only after its bytes are on the disk, as far as the store itself says.
    durable: bool


def standing_of(store: Store) -> StoreStanding:
    """Ask the store about itself. Raises what the driver raises when it cannot be reached."""
    with store.reading() as connection:
        revision = MigrationContext.configure(connection).get_current_revision() or ""
        if store.is_sqlite:
            # FULL is 2, EXTRA is 3.
            flushes = connection.exec_driver_sql("PRAGMA synchronous").scalar_one() >= 2
            durable = flushes and connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        else:
            said = [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in ("fsync", "synchronous_commit")]
            durable = said[0] == "on" and said[1] != "off"
        version = ".".join(map(str, connection.dialect.server_version_info or ()))
    config = Config()
    config.set_main_option("script_location", "bus:migrations")
    newest = ScriptDirectory.from_config(config).get_current_head() or ""
    return StoreStanding(
        dialect=store.engine.dialect.name,
        server_version=version,
        revision=revision,
        newest_revision=newest,
        durable=durable,
    )
