"""What the store needs to know of PostgreSQL: connections that nobody waits on for ever, and a bell across hosts.

A server may be gone, hung or failed over at any moment. Four bounds, each for another way to hang::

    connect_timeout                       a host that does not answer          (each host of the URL in turn)
    statement, lock, idle-in-transaction  a statement or a holder of locks     (ended by the server)
    tcp_user_timeout, keepalives          a network that swallows packets      (ended by the kernel)
    patience                              a server that is alive and silent    (ended here, the connection is given up)

Only what is asked for in the URL's own words differs from these: ``?host=a:5432&host=b:5432`` names several servers, of
which the one that may be written to is taken; ``sslmode``, ``sslrootcert`` and all other words of libpq pass through.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar

import psycopg
from psycopg import waiting
from sqlalchemy import URL, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError

from bus.logs import get_logger
from bus.settings import Settings
from security.statements import send_waiting

log = get_logger()

T = TypeVar("T")

#: Rung in the transaction that makes something due.
CHANNEL = "lgsp_due"
#: A connection whose server is silent for so many times what a statement may take is given up.
_PATIENCE_BEYOND = 1.2
#: PostgreSQL cuts longer names.
_MOST_NAME_BYTES = 63
#: How often a wait looks up, for its own end.
_LOOK_SECONDS = 0.1
#: How long the bell waits for a ring before it looks whether it shall end.
_LISTEN_SECONDS = 1.0
#: After a connection was lost: the first pause before a new one, and the longest.
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 10.0


class ServerSilent(psycopg.OperationalError):
    """The server took a statement and did not answer in time. Whether it ran is not known."""


class PatientConnection(psycopg.Connection[Any]):
    """Waits for an answer as long as a statement may take, and then gives the connection up."""

    #: None: as long as it takes (migrations).
    patience_seconds: float | None = None

    def wait(self, gen: Generator[Any, Any, T], *arguments: Any, **options: Any) -> T:
        if self.patience_seconds is None:
            return self.wait_any_time(gen, *arguments, **options)
        try:
            return self.wait_any_time(_until(gen, time.monotonic() + self.patience_seconds), *arguments, **options)
        except ServerSilent:
            self.pgconn.finish()
            raise

    def wait_any_time(self, gen: Generator[Any, Any, T], *arguments: Any, **options: Any) -> T:
        """As the driver does."""
        return super().wait(gen, *arguments, **options)


class PatientOnRealThreads(PatientConnection):
    """Waits as the driver does where gevent is not. Where gevent is, the driver would turn an event loop in each thread
    that waits, several times a transaction; transactions that write have real threads (:class:`bus.store.Apart`)."""

    def wait_any_time(self, gen: Generator[Any, Any, T], interval: float = _LOOK_SECONDS, **options: Any) -> T:
        waited: T = _WAIT_IN_C(gen, self.pgconn.socket, interval, **options)
        return waited


#: Of a build without it (psycopg without its extension in C), the usual way.
_WAIT_IN_C: Any = getattr(waiting, "wait_c", waiting.wait)


def _until(gen: Generator[Any, Any, T], ends: float) -> Generator[Any, Any, T]:
    """``gen``, which the driver feeds with what its socket is ready for, and several times a second with nothing."""
    ready: Any = None
    try:
        while True:
            ready = yield gen.send(ready)
            if not ready and time.monotonic() > ends:
                gen.close()
                raise ServerSilent("the server is silent")
    except StopIteration as ended:
        result: T = ended.value
        return result


def open_reading_engine(url: URL, settings: Settings, role: str) -> Engine:
    """Pooled, bounded, each connection looked at before it is used; what is read in one block is of one moment."""
    engine = create_engine(
        with_hosts(url),
        connect_args=connect_arguments(url, settings, role),
        pool_pre_ping=True,
        pool_size=max(1, settings.store_connections - writers_of(settings)),
        max_overflow=0,
        pool_timeout=settings.store_connect_seconds,
        hide_parameters=True,
        paramstyle="format",  # see Prepared
    )
    _make_patient(engine, settings, PatientConnection)
    return engine


def open_writing_engine(url: URL, settings: Settings, role: str) -> Engine:
    """For connections that the store keeps itself, and uses on real threads only."""
    return _open_unpooled(url, settings, role, PatientConnection if _waits_in_c() else PatientOnRealThreads)


def _waits_in_c() -> bool:
    """Whether the driver chooses that way itself, as it does where gevent is not."""
    return waiting.wait is _WAIT_IN_C


def _open_unpooled(url: URL, settings: Settings, role: str, kind: type[PatientConnection]) -> Engine:
    engine = create_engine(
        with_hosts(url),
        connect_args=connect_arguments(url, settings, role),
        poolclass=NullPool,
        hide_parameters=True,
        paramstyle="format",
    )
    _make_patient(engine, settings, kind)
    return engine


def writers_of(settings: Settings) -> int:
    """How many of a process's connections write. Few: writers follow one another at the head of the evidence log."""
    return max(1, settings.store_connections // 3)


def connect_arguments(url: URL, settings: Settings, role: str) -> dict[str, Any]:
    """What libpq is told beside the URL; the URL's own words win."""
    statement_ms = round(settings.store_timeout_seconds * 1000)
    bounds = (
        f"-c statement_timeout={statement_ms} -c lock_timeout={statement_ms // 2} "
        f"-c idle_in_transaction_session_timeout={statement_ms * 2}"
    )
    words: dict[str, Any] = {
        "application_name": _name(role),
        "connect_timeout": max(1, round(settings.store_connect_seconds)),
        "target_session_attrs": "read-write",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": statement_ms,
    }
    asked: Mapping[str, Any] = url.query
    own = f" {asked['options']}" if "options" in asked else ""
    return {word: value for word, value in words.items() if word not in asked} | {"options": bounds + own}


def with_hosts(url: URL) -> URL:
    """The URL without what :func:`connect_arguments` says in its place."""
    return url.difference_update_query(["options"])


def is_broken(connection: Any) -> bool:
    """Whether this driver connection is of no more use."""
    return bool(connection.closed) or connection.pgconn.status != psycopg.pq.ConnStatus.OK


def _name(role: str) -> str:
    return f"lgsp {role}@{socket.gethostname()}".encode()[:_MOST_NAME_BYTES].decode("utf-8", "ignore")


def _make_patient(engine: Engine, settings: Settings, kind: type[PatientConnection]) -> None:
    def connect(_dialect: Any, _record: Any, arguments: Any, words: dict[str, Any]) -> PatientConnection:
        connection = kind.connect(*arguments, **words)
        connection.patience_seconds = settings.store_timeout_seconds * _PATIENCE_BEYOND
        # The driver ends its own prepared statements by DEALLOCATE ALL, which would end those of security.batches too.
        connection.prepare_threshold = None
        return connection

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "before_cursor_execute", lambda connection, *_: send_waiting(connection))


class Bell:
    """Calls ``heard`` when another process, on whatever host, has made something due. One thread, one connection.

    A ring may be missed while the connection is away: then it rings once by itself when it is back, and whoever is
    called looks now and then anyway.
    """

    def __init__(self, url: URL, settings: Settings, heard: Callable[[], object]) -> None:
        self._engine = _open_unpooled(url, settings, "bell", PatientConnection)
        self._heard = heard
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bell", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            try:
                with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    driver: Any = connection.connection.driver_connection
                    driver.execute(f"LISTEN {CHANNEL}")
                    pause = _FIRST_PAUSE_SECONDS
                    self._heard()
                    self._listen(driver)
            except (psycopg.Error, DBAPIError) as error:
                log.warning("bell.lost", problem=type(error).__name__)
                self._stopping.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _listen(self, connection: psycopg.Connection[Any]) -> None:
        while not self._stopping.is_set():
            for _ in connection.notifies(timeout=_LISTEN_SECONDS, stop_after=1):
                self._heard()
