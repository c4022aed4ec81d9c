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
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, delete, event, insert, inspect, make_url, select
from sqlalchemy.exc import DBAPIError

from bus.settings import Settings
from bus.tables import store_marks

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


# ── revisions of the tables ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One step of the tables, as its migration describes it."""

    id: str
    #: It takes nothing away: programs of the release before go on working beside it.
    expands: bool
    #: What it leaves for the end, when no such program runs any more.
    contract: Callable[[], None] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrations:
    """The steps that a program knows, oldest first. ``location``: where they lie, in Alembic's words."""

    location: str = "bus:migrations"

    def steps(self) -> list[Revision]:
        found = ScriptDirectory.from_config(self.config()).walk_revisions()
        steps = [
            Revision(
                id=script.revision,
                expands=getattr(script.module, "expands", False) is True,
                contract=getattr(script.module, "contract", None),
            )
            for script in found
        ]
        return steps[::-1]

    def config(self, connection: Connection | None = None) -> Config:
        config = Config()
        config.set_main_option("script_location", self.location)
        if connection is not None:
            config.attributes["connection"] = connection
        return config


OURS = Migrations()

#: Any number, the same in every program: who holds the lock of this name changes the tables.
_MIGRATING = 5_361_001

#: The mark of a store that names the oldest program (by the newest revision that it knows) that may work with it.
_WORKS_WITH = "works-with"


def migrate(store: Store, revision: str = "head", migrations: Migrations = OURS) -> None:
    """Bring the store's tables to a revision, creating them when there are none. Safe to repeat.

    Looks at no one: who else works with the store is asked in :mod:`bus.upgrading`.
    """
    store.write(_migrate_in, revision, migrations)


def _migrate_in(connection: Connection, revision: str, migrations: Migrations) -> None:
    _alone(connection)
    before, works_with = _revision_of(connection), _works_with(connection)
    command.upgrade(migrations.config(connection), revision)
    after = _revision_of(connection)
    if after == before:
        return
    passed = [step for step in migrations.steps() if before < step.id <= after]
    beside = before and all(step.expands for step in passed)
    _mark(connection, (works_with or before) if beside else after)


def contract(store: Store, migrations: Migrations = OURS) -> None:
    """Take away what only programs of an earlier release needed: from now on they may not work with the store."""
    store.write(_contract_in, migrations)


def _contract_in(connection: Connection, migrations: Migrations) -> None:
    _alone(connection)
    works_with, now = _works_with(connection), _revision_of(connection)
    with Operations.context(MigrationContext.configure(connection)):
        for step in migrations.steps():
            if works_with < step.id <= now and step.contract is not None:
                step.contract()
    _mark(connection, now)


def _alone(connection: Connection) -> None:
    """Two nodes that are set up at the same moment follow one another. SQLite has one writer at a time anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")


def _revision_of(connection: Connection) -> str:
    return MigrationContext.configure(connection).get_current_revision() or ""


def _works_with(connection: Connection) -> str:
    if not inspect(connection).has_table(store_marks.name):
        return _revision_of(connection)
    mark = select(store_marks.c.value).where(store_marks.c.name == _WORKS_WITH)
    return str(connection.execute(mark).scalar() or _revision_of(connection))


def _mark(connection: Connection, oldest: str) -> None:
    if inspect(connection).has_table(store_marks.name):
        connection.execute(delete(store_marks).where(store_marks.c.name == _WORKS_WITH))
        connection.execute(insert(store_marks).values(name=_WORKS_WITH, value=oldest))


def newest_revision() -> str:
    """The newest revision of the tables that this program knows, by the names of its migrations: `0007_nodes.py`."""
    return max(path.name[:4] for path in _MIGRATIONS.glob("[0-9]" * 4 + "_*.py"))


class StoreUnfit(RuntimeError):
    """This program cannot work with the store as it is; the text says what to do."""


def must_fit(store: Store) -> None:
    """Raises StoreUnfit for tables that this program does not know. A store that cannot be reached is not unfit."""
    try:
        with store.reading() as connection:
            revision, works_with = _revision_of(connection), _works_with(connection)
    except DBAPIError:
        return
    ours = newest_revision()
    if revision < ours:
        raise StoreUnfit(
            f"The store's tables are at {revision or 'nothing'}, this program needs {ours}: run `lgsp upgrade`"
            if revision
            else "The store has no tables yet: run `lgsp init`"
        )
    if revision > ours and works_with > ours:
        raise StoreUnfit(f"The store's tables are at {revision}, this program knows {ours}: install a newer version")


def refuse_unfit_store(settings: Settings) -> None:
    """For programs that begin: end with a sentence where :func:`must_fit` raises. Leaves nothing open."""
    store = open_store(settings)
    try:
        must_fit(store)
    except StoreUnfit as unfit:
        raise SystemExit(f"{unfit}.") from None
    finally:
        store.close()


def migration_config(connection: Connection) -> Config:
    """What Alembic needs to migrate the store behind this connection, in the connection's transaction."""
    return OURS.config(connection)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStanding:
    """What `lgsp doctor` wants to know of a store. Empty revision: there are no tables yet."""

    dialect: str
    server_version: str
    revision: str
    newest_revision: str
    #: The oldest program, by its newest revision, that may work with it: older than ``revision`` while an upgrade is
    #: not finished.
    works_with: str
    #: Whether a commit returns only after its bytes are on the disk, as far as the store itself says.
    durable: bool


def standing_of(store: Store, migrations: Migrations = OURS) -> StoreStanding:
    """Ask the store about itself. Raises what the driver raises when it cannot be reached."""
    with store.reading() as connection:
        revision, works_with = _revision_of(connection), _works_with(connection)
        if store.is_sqlite:
            # FULL is 2, EXTRA is 3.
            flushes = connection.exec_driver_sql("PRAGMA synchronous").scalar_one() >= 2
            durable = flushes and connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        else:
            said = [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in ("fsync", "synchronous_commit")]
            durable = said[0] == "on" and said[1] != "off"
        version = ".".join(map(str, connection.dialect.server_version_info or ()))
    return StoreStanding(
        dialect=store.engine.dialect.name,
        server_version=version,
        revision=revision,
        newest_revision=migrations.steps()[-1].id,
        works_with=works_with,
        durable=durable,
    )
