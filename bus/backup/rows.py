"""The store's side of backup and restore: every table at one moment, and an empty store filled. SQL of the room.

Rows travel as plain values (numbers, texts, bytes, nothing), so what one kind of store gave the other can take.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    exists,
    func,
    inspect,
    make_url,
    or_,
    select,
    text,
    update,
)

import bus.tables
import registry.store
import security.evidence.log
from bus.records import State
from bus.retention import make_parts
from bus.settings import Settings
from bus.store import Store, migrate_in, open_engine, open_store
from bus.tables import (
    attachments,
    breakers,
    deliveries,
    duties,
    exchange_attachments,
    exchanges,
    nodes,
    outbox,
    payloads,
    replies,
)
from schemas.problem import Malformed
from security.evidence.log import evidence_head, evidence_leaves

#: Evidence first: whoever reads learns early what it is worth. Then in the order in which rows refer to each other.
TABLES: tuple[Table, ...] = (
    *security.evidence.log.metadata.sorted_tables,
    *registry.store.metadata.sorted_tables,
    *bus.tables.metadata.sorted_tables,
)
#: What processes tell each other of themselves is over when they are.
KEPT: tuple[Table, ...] = tuple(table for table in TABLES if table not in (nodes, breakers, duties))

_UNDELIVERED = deliveries.c.state != State.DELIVERED.value
#: What is left out of a backup without bodies is what its receivers have; what must still go out, or may be replayed,
#: stays. An attachment that is left out is not claimed to be here either: its sender is asked for it again.
_WITHOUT_BODIES: Mapping[str, ColumnElement[bool]] = {
    payloads.name: exists().where(deliveries.c.exchange_id == payloads.c.exchange_id, _UNDELIVERED),
    replies.name: exists().where(deliveries.c.id == replies.c.delivery_id, _UNDELIVERED),
    attachments.name: or_(
        ~exists().where(exchange_attachments.c.sha256 == attachments.c.sha256),
        exists().where(
            exchange_attachments.c.sha256 == attachments.c.sha256,
            deliveries.c.exchange_id == exchange_attachments.c.exchange_id,
            _UNDELIVERED,
        ),
    ),
}


# --- one moment of a store -------------------------------------------------------------------------------------------


@contextmanager
def snapshot_of(store: Store) -> Iterator[Connection]:
    """The store as it is at the first look, however long the reading takes; nobody who writes waits for it."""
    with store.reading(unhurried=True) as connection:
        _for_as_long_as_it_takes(connection)
        yield connection


def _for_as_long_as_it_takes(connection: Connection) -> None:
    """PostgreSQL may not end this transaction because files are copied between two of its statements."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")


def column_names(table: Table) -> list[str]:
    return [column.name for column in table.columns]


def rows_in(connection: Connection, table: Table, *, bodies: bool) -> Iterator[tuple[Any, ...]]:
    """The rows of a table in the order of its key, one at a time."""
    query = select(*table.columns).order_by(*table.primary_key.columns)
    if not bodies and table.name in _WITHOUT_BODIES:
        query = query.where(_WITHOUT_BODIES[table.name])
    return _streamed(connection, query)


def attachment_digests(connection: Connection, *, bodies: bool) -> Iterator[str]:
    """The files that these rows speak of, each once."""
    query = select(attachments.c.sha256).distinct().order_by(attachments.c.sha256)
    if not bodies:
        query = query.where(_WITHOUT_BODIES[attachments.name])
    return (digest for (digest,) in _streamed(connection, query))


def _streamed(connection: Connection, query: Select[Any]) -> Iterator[tuple[Any, ...]]:
    """Rows as the driver gives them, one in memory at a time; in the connection's transaction."""
    sql = str(query.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        yield from driver.execute(sql)
        return
    with driver.cursor() as cursor:
        cursor.execute(f"SELECT * FROM ({sql}) AS shape LIMIT 0")  # noqa: S608 - compiled above
        types = [column.type_code for column in cursor.description]
        with cursor.copy(f"COPY ({sql}) TO STDOUT (FORMAT BINARY)") as copy:
            copy.set_types(types)
            yield from copy.rows()


# --- what is there ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreHeld:
    """What a store holds before a restore: are there tables, and how many entries has its evidence log?"""

    tables: bool
    size: int


def held_in(settings: Settings) -> StoreHeld:
    """Looks, and makes nothing. Raises what the driver raises when the store is out of reach."""
    file = _sqlite_file(settings)
    if file is not None and not file.exists():
        return StoreHeld(tables=False, size=0)
    engine = open_engine(settings)
    try:
        with engine.connect() as connection:
            names = set(inspect(connection).get_table_names())
            ours = names & {table.name for table in TABLES}
            size = 0
            if evidence_head.name in ours:
                size = connection.execute(select(func.max(evidence_head.c.size))).scalar() or 0
    finally:
        engine.dispose()
    return StoreHeld(tables=bool(ours), size=size)


def knows_revision(revision: str) -> bool:
    """Can this program bring tables of that revision up to its own?"""
    config = Config()
    config.set_main_option("script_location", "bus:migrations")
    try:
        return ScriptDirectory.from_config(config).get_revision(revision) is not None
    except CommandError:
        return False


# --- a store filled --------------------------------------------------------------------------------------------------


@contextmanager
def filling(settings: Settings, revision: str, *, size: int, replace: bool) -> Iterator[Connection]:
    """A transaction over empty tables of that revision. On a normal exit it is the store of the settings; on an
    exception, or if this process dies, nothing has changed there. ``size``: how many ids they will have; ``replace``:
    tables that are there go."""
    if _sqlite_file(settings) is None:
        with _filling_postgresql(settings, revision, replace=replace) as connection:
            make_parts(connection, size)
            yield connection
    else:
        with _filling_sqlite(settings, revision) as connection:
            yield connection


@contextmanager
def _filling_postgresql(settings: Settings, revision: str, *, replace: bool) -> Iterator[Connection]:
    store = open_store(settings)
    try:
        with store.writing(unhurried=True) as connection:
            _for_as_long_as_it_takes(connection)
            if replace:
                for table in reversed(TABLES):
                    connection.exec_driver_sql(f'DROP TABLE IF EXISTS "{table.name}" CASCADE')
                connection.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")
            _make_tables(connection, revision)
            yield connection
            connection.exec_driver_sql("ANALYZE")
    finally:
        store.close()


@contextmanager
def _filling_sqlite(settings: Settings, revision: str) -> Iterator[Connection]:
    """A file beside its place, without a journal (unfinished it is worth nothing), moved there at the end."""
    place = _sqlite_file(settings) or Path()
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_name(f"{place.name}.restoring")
    _remove_database(fresh)
    url = make_url(settings.effective_store_url).set(database=str(fresh))
    engine = open_engine(dataclasses.replace(settings, store_url=url.render_as_string(hide_password=False)))
    try:
        with engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            for pragma in ("journal_mode=OFF", "synchronous=OFF", "foreign_keys=OFF"):
                driver.execute(f"PRAGMA {pragma}")
            with connection.begin():
                _make_tables(connection, revision)
                yield connection
            if driver.execute("PRAGMA foreign_key_check").fetchone() is not None:
                raise Malformed("backup-damaged")
            driver.execute("PRAGMA journal_mode=WAL")
    except BaseException:
        engine.dispose()
        _remove_database(fresh)
        raise
    engine.dispose()
    flush(fresh)
    for suffix in ("-wal", "-shm"):  # of the file that was there; beside another one they would spoil it
        Path(f"{place}{suffix}").unlink(missing_ok=True)
    fresh.replace(place)
    flush(place.parent)


def _make_tables(connection: Connection, revision: str) -> None:
    migrate_in(connection, revision)
    names = set(inspect(connection).get_table_names())
    for table in reversed(TABLES):  # a migration may have put rows in; those of the backup are all there are
        if table.name in names:
            connection.exec_driver_sql(f'DELETE FROM "{table.name}"')  # noqa: S608 - our own names


def bring_up_to_date(connection: Connection) -> None:
    """The tables, once they are filled, become those of this program."""
    migrate_in(connection)
    if connection.dialect.name != "sqlite":
        _count_on(connection)


def _count_on(connection: Connection) -> None:
    """Numbers that PostgreSQL gives by itself go on behind those that are there."""
    for table in TABLES:
        [key, *others] = table.primary_key.columns
        if others:
            continue
        names = {"table": table.name, "key": key.name}
        sequence = connection.execute(text("SELECT pg_get_serial_sequence(:table, :key)"), names).scalar()
        highest = connection.execute(select(func.max(key))).scalar() if sequence else None
        if highest is not None:
            connection.execute(text("SELECT setval(:sequence, :highest)"), {"sequence": sequence, "highest": highest})


def _remove_database(file: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal", ".writer"):
        Path(f"{file}{suffix}").unlink(missing_ok=True)


def _sqlite_file(settings: Settings) -> Path | None:
    url = make_url(settings.effective_store_url)
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def flush(path: Path) -> None:
    """A file's bytes, or a folder's names, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class TableFilled:
    """Takes rows for one table. Raises ValueError where there is no such table or column."""

    def __init__(self, connection: Connection, table: str, columns: Sequence[str]) -> None:
        self._connection = connection
        known = {column["name"] for column in inspect(connection).get_columns(table)} if _is_ours(table) else set()
        if not columns or not known.issuperset(columns):
            raise ValueError("no such table or column")
        quoted = ", ".join(f'"{column}"' for column in columns)
        self._copy = f'COPY "{table}" ({quoted}) FROM STDIN'
        self._insert = f'INSERT INTO "{table}" ({quoted}) VALUES ({", ".join("?" * len(columns))})'  # noqa: S608 - checked

    def take(self, batches_of_rows: Iterable[Sequence[Sequence[Any]]]) -> None:
        """Raises Malformed(backup-damaged) for rows that the table does not take."""
        dbapi: Any = self._connection.dialect.loaded_dbapi
        try:
            self._take(batches_of_rows)
        except (dbapi.IntegrityError, dbapi.DataError, dbapi.ProgrammingError, dbapi.InterfaceError):
            raise Malformed("backup-damaged") from None

    def _take(self, batches_of_rows: Iterable[Sequence[Sequence[Any]]]) -> None:
        driver: Any = self._connection.connection.driver_connection
        if self._connection.dialect.name == "sqlite":
            for rows in batches_of_rows:
                driver.executemany(self._insert, rows)
            return
        with driver.cursor() as cursor, cursor.copy(self._copy) as copy:
            for rows in batches_of_rows:
                for row in rows:
                    copy.write_row(row)


def _is_ours(table: str) -> bool:
    return table in {known.name for known in TABLES}


# --- after it was filled ---------------------------------------------------------------------------------------------


def make_due_again(connection: Connection) -> None:
    """What was under way at the moment of the backup is due again: the processes that had it are gone, and so are the
    queues that held its references."""
    connection.execute(update(deliveries).where(deliveries.c.state == State.DELIVERING.value).values(lease_until=0))
    connection.execute(
        update(outbox).where(outbox.c.queued_at.is_not(None)).values(due_at=outbox.c.queued_at, queued_at=None)
    )


def delivery_states(connection: Connection) -> dict[str, int]:
    counted = select(deliveries.c.state, func.count()).group_by(deliveries.c.state)
    return dict(connection.execute(counted).all())


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A message as the store keeps it, beside what the evidence log says of it; None: not there."""

    exchange_id: int
    manifest_jws: str
    body: bytes | None
    entry: Mapping[str, Any] | None


def kept_messages(connection: Connection) -> Iterator[Kept]:
    """Every message, in the order of acceptance."""
    query = (
        select(exchanges.c.id, exchanges.c.manifest, payloads.c.body, evidence_leaves.c.entry)
        .outerjoin(payloads, payloads.c.exchange_id == exchanges.c.id)
        .outerjoin(evidence_leaves, evidence_leaves.c.position == exchanges.c.id)
        .order_by(exchanges.c.id)
    )
    for number, manifest, body, entry in _streamed(connection, query):
        yield Kept(
            exchange_id=number,
            manifest_jws=manifest,
            body=body,
            entry=None if entry is None else json.loads(entry),
        )
