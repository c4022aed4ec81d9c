"""The connection to the store: SQLite with full durability, or PostgreSQL, from one URL.

SQLite allows one writer at a time and lets the others spin; under load that starves processes at random. Writers
here queue on a file lock first, which the kernel hands over in turn, so several processes share one file fairly.

A connection to PostgreSQL may break at any moment. Before the COMMIT was sent nothing has happened and the change is
made once more on another connection; after it nobody knows, and :class:`OutcomeUnknown` says so.
"""

from __future__ import annotations

import fcntl
import os
from _queue import Empty, SimpleQueue
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
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    RootTransaction,
    create_engine,
    delete,
    event,
    insert,
    inspect,
    make_url,
    select,
)
from sqlalchemy.exc import DBAPIError

from bus.postgresql import Bell, is_broken, open_reading_engine, open_writing_engine, writers_of
from bus.settings import Settings
from bus.tables import store_marks

T = TypeVar("T")

_MIGRATIONS = Path(__file__).parent / "migrations" / "versions"


class StoreUnreachable(ConnectionError):
    """The store is away, or went away before the commit: nothing happened, and trying again at once is no use."""


class OutcomeUnknown(Exception):
    """The connection broke in the middle of a COMMIT: all of the change is on disk, or nothing of it."""

    def __init__(self, result: Any = None) -> None:
        """``result``: what the change returned, which is true if it is on disk."""
        super().__init__("the connection broke in mid-commit")
        self.result = result


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

    def __init__(
        self,
        engine: Engine,
        apart: Apart = call_here,
        writing_engine: Engine | None = None,
        turn: Callable[[], AbstractContextManager[None]] | None = None,
    ) -> None:
        """``apart`` is where transactions run; ``writing_engine`` is where connections that write come from, where
        that is another; ``turn`` is what a writer waits for."""
        self.engine = engine
        self._apart = apart
        self._reader = engine.execution_options(**{READ_ONLY: True})
        self._writing_engine = writing_engine or engine
        if not self.is_sqlite:  # SQLite reads one moment anyway
            self._reader = self._reader.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._turn = turn or _turns_of(engine)
        #: Connections that write, kept apart from the engine's pool: under gevent transactions run in real threads, and
        #: a lock that greenlets share with real threads is a lock that can be lost. A deque needs none.
        self._writers: deque[Connection] = deque()
        self._closed = False

    @contextmanager
    def reading(self, *, unhurried: bool = False) -> Iterator[Connection]:
        """A consistent view of the store; nothing done here is kept. ``unhurried``: a statement may take its time."""
        with self._reader.connect() as connection:
            try:
                with self._unhurried(connection) if unhurried else nullcontext():
                    yield connection
            finally:
                if self._closed:  # the pool is gone: nobody else would close this connection
                    connection.invalidate()

    def write(self, change: Callable[..., T], *arguments: Any) -> T:
        """``change(connection, *arguments)`` as one transaction, run where its flush holds up nobody else: on a normal
        return everything is on disk, on an exception nothing happened, except on OutcomeUnknown.

        ``change`` may be called twice, the second time as if the first had never been.
        """
        result: T = self._apart(self._write, change, *arguments)
        return result

    def _write(self, change: Callable[..., T], *arguments: Any) -> T:
        try:
            return self._write_once(change, *arguments)
        except StoreUnreachable:  # one connection may be broken while the server is well
            return self._write_once(change, *arguments)

    def _write_once(self, change: Callable[..., T], *arguments: Any) -> T:
        returned: list[T] = []
        try:
            with self.writing() as connection:
                returned.append(change(connection, *arguments))
        except OutcomeUnknown as unknown:
            raise OutcomeUnknown(returned[0]) from unknown
        return returned[0]

    @contextmanager
    def writing(self, *, unhurried: bool = False) -> Iterator[Connection]:
        """One transaction: on a normal exit everything is on disk, on an exception nothing happened (except on
        OutcomeUnknown). Raises StoreUnreachable where the connection broke."""
        with self._turn():
            connection = self._writer()
            try:
                transaction = connection.begin()
                try:
                    with self._unhurried(connection) if unhurried else nullcontext():
                        yield connection
                except BaseException as error:
                    self._undo(transaction, connection, error)
                    raise
                self._commit(transaction, connection)
            finally:
                self._put_away(connection)

    def _writer(self) -> Connection:
        try:
            return self._writers.pop()
        except IndexError:
            pass
        try:
            return self._writing_engine.connect()
        except DBAPIError as error:
            raise StoreUnreachable(type(error.orig).__name__) from error

    def _undo(self, transaction: RootTransaction, connection: Connection, error: BaseException) -> None:
        if not self._is_broken(connection):
            transaction.rollback()
        elif isinstance(error, Exception):
            raise StoreUnreachable(type(error).__name__) from error

    def _commit(self, transaction: RootTransaction, connection: Connection) -> None:
        try:
            transaction.commit()
        except Exception as error:
            if self._is_broken(connection):
                raise OutcomeUnknown from error
            raise

    def _put_away(self, connection: Connection) -> None:
        if self._is_broken(connection):
            # Whatever else lies there has met the same fate: the next change must not find out one by one.
            connection.invalidate()
            connection.close()
            while self._writers:
                self._writers.pop().close()
        elif self._closed:  # a writer that outlived its store takes its connection with it
            connection.close()
        else:
            self._writers.append(connection)

    def _is_broken(self, connection: Connection) -> bool:
        if self.is_sqlite:
            return False
        return connection.invalidated or is_broken(connection.connection.driver_connection)

    @contextmanager
    def _unhurried(self, connection: Connection) -> Iterator[None]:
        if self.is_sqlite:
            yield
            return
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        driver: Any = connection.connection.driver_connection
        patience, driver.patience_seconds = driver.patience_seconds, None
        try:
            yield
        finally:
            driver.patience_seconds = patience

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def close(self) -> None:
        self._closed = True
        while self._writers:
            self._writers.pop().close()
        self.engine.dispose()


def open_store(settings: Settings, apart: Apart = call_here, role: str = "command") -> Store:
    """The store of the settings; connects lazily. ``role`` is what the server is told of this process."""
    url = make_url(settings.effective_store_url)
    if url.get_backend_name() == "sqlite":
        return Store(_open_sqlite(url), apart)
    return Store(
        open_reading_engine(url, settings, role),
        apart,
        open_writing_engine(url, settings, role),
        _Places(writers_of(settings), settings.store_timeout_seconds),
    )


def open_bell(settings: Settings, heard: Callable[[], object]) -> Bell | None:
    """Tells of what other hosts make due; None where there are none (SQLite). Start it before use."""
    url = make_url(settings.effective_store_url)
    return None if url.get_backend_name() == "sqlite" else Bell(url, settings, heard)


def open_engine(settings: Settings) -> Engine:
    """For what only looks into the registry. Connects lazily."""
    url = make_url(settings.effective_store_url)
    return _open_sqlite(url) if url.get_backend_name() == "sqlite" else open_reading_engine(url, settings, "registry")


def _open_sqlite(url: URL) -> Engine:
    """An engine with the pragmas and locking that the ledger relies on."""
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


class _Places:
    """Lets so many write at once. Called from real threads, also under gevent: hence the queue that gevent does not
    replace."""

    def __init__(self, places: int, patience_seconds: float) -> None:
        self._free: SimpleQueue[None] = SimpleQueue()
        self._patience_seconds = patience_seconds
        for _ in range(places):
            self._free.put(None)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        try:
            self._free.get(timeout=self._patience_seconds)
        except Empty:
            raise StoreUnreachable("all connections that write are taken") from None
        try:
            yield
        finally:
            self._free.put(None)


def _turns_of(engine: Engine) -> Callable[[], AbstractContextManager[None]]:
    """How writers of one SQLite file take turns."""
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
    with store.writing(unhurried=True) as connection:
        migrate_in(connection, revision, migrations)


def migrate_in(connection: Connection, revision: str = "head", migrations: Migrations = OURS) -> None:
    """The same in a transaction of the caller's."""
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
    with store.writing(unhurried=True) as connection:
        _contract_in(connection, migrations)


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
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")  # the other one takes as long as it takes
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
        connection.exec_driver_sql("SET LOCAL lock_timeout TO DEFAULT")


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
