"""The store: durable, shared fairly between processes, migrated up and down."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, inspect, text
from sqlalchemy.exc import DBAPIError, OperationalError

import bus.tables
import registry.store
import security.evidence.log
from bus.records import State, StoredReply
from bus.settings import load_settings
from bus.store import Store, migrate, migration_config, open_store
from registry.dossier_view import DossierFact
from schemas.identifiers import DossierCode, SystemCode
from security.evidence.checkpoint import NoteKey
from security.keys import KeyRing
from tests.ledger_house import LEASE, NOON, RECEIVER, SECOND, STORE, House, prepare
from tests.postgresql import PrivateServer

METADATA = [bus.tables.metadata, registry.store.metadata, security.evidence.log.metadata]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'lgsp.db'}"
    server: PrivateServer = request.getfixturevalue("postgresql")
    return server.url(server.new_database())


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = _open(url)
    yield store
    store.close()


def _open(url: str) -> Store:
    return open_store(load_settings({"store_url": url}, environ={}))


# ── transactions ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def numbers(store: Store) -> Store:
    with store.writing() as connection:
        connection.execute(text("CREATE TABLE numbers (number INTEGER)"))
    return store


def _count(store: Store) -> int:
    with store.reading() as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM numbers")).scalar_one())


def _write_and_fail(store: Store) -> None:
    with store.writing() as connection:
        connection.execute(text("INSERT INTO numbers VALUES (2)"))
        raise KeyError


def test_a_transaction_is_kept_whole_or_not_at_all(numbers: Store) -> None:
    with numbers.writing() as connection:
        connection.execute(text("INSERT INTO numbers VALUES (1)"))
    with pytest.raises(KeyError):
        _write_and_fail(numbers)
    assert _count(numbers) == 1
    with numbers.writing() as connection:  # and the writer's turn was given back
        connection.execute(text("INSERT INTO numbers VALUES (3)"))
    assert _count(numbers) == 2


def test_what_is_written_while_reading_is_not_kept(numbers: Store) -> None:
    try:
        with numbers.reading() as connection:
            connection.execute(text("INSERT INTO numbers VALUES (1)"))
    except DBAPIError:
        pass
    assert _count(numbers) == 0


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_reader_sees_one_moment_and_waits_for_no_writer(numbers: Store, url: str) -> None:
    other = _open(url)
    with other.writing() as writing:
        writing.execute(text("INSERT INTO numbers VALUES (1)"))
        assert _count(numbers) == 0
    other.close()
    assert _count(numbers) == 1


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_commit_is_on_the_disk_before_it_returns(store: Store) -> None:
    """What makes an acknowledgement true after a power cut: WAL with a flush at each commit, on every connection."""
    for _ in range(2):
        with store.writing() as connection:
            assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2
            assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
            assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
        store.engine.dispose()


def test_a_failing_statement_does_not_tell_its_values(numbers: Store) -> None:
    with pytest.raises(DBAPIError) as failed, numbers.writing() as connection:
        connection.execute(text("INSERT INTO nowhere VALUES (:secret)"), {"secret": "097000000001"})
    assert "097000000001" not in str(failed.value)


_WRITER = """
import sys, time
from sqlalchemy import text
from bus.settings import load_settings
from bus.store import open_store
store = open_store(load_settings({"store_url": sys.argv[1]}, environ={}))
with store.writing() as connection:
    connection.execute(text("INSERT INTO ready VALUES (1)"))
while True:
    with store.reading() as connection:
        if connection.execute(text("SELECT COUNT(*) FROM ready")).scalar_one() == 2:
            break
    time.sleep(0.005)
written, ends = 0, time.monotonic() + 1.0
while time.monotonic() < ends:
    with store.writing() as connection:
        connection.execute(text("INSERT INTO numbers VALUES (1)"))
        time.sleep(0.002)
    written += 1
print(written)
"""


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_two_processes_share_one_file_fairly(numbers: Store, url: str) -> None:
    with numbers.writing() as connection:
        connection.execute(text("CREATE TABLE ready (number INTEGER)"))
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, url], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    shares = sorted(int(writer.communicate(timeout=30)[0]) for writer in writers)
    assert sum(shares) == _count(numbers), "and none of them lost a write"
    # Without the queue one of them got a tenth (measured, speed.md 9).
    assert shares[0] > sum(shares) / 4, shares


# ── migrations ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _tables(store: Store) -> set[str]:
    with store.reading() as connection:
        return set(inspect(connection).get_table_names()) - {"alembic_version"} - parts(connection)


def parts(connection: Any) -> set[str]:
    """Tables that are parts of others."""
    if connection.dialect.name == "sqlite":
        return set()
    return set(
        connection.execute(text("SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'")).scalars()
    )


def test_the_migrations_make_the_tables_that_the_code_uses(store: Store) -> None:
    """Drift: a column, index or table in the code without a migration, or the other way round."""
    migrate(store)
    with store.reading() as connection:
        no_parts = parts(connection)
        opts = {"compare_type": True, "include_name": lambda name, kind, _: kind != "table" or name not in no_parts}
        context = MigrationContext.configure(connection, opts=opts)
        together = MetaData()
        for metadata in METADATA:
            for table in metadata.tables.values():
                table.to_metadata(together)
        assert compare_metadata(context, together) == []
        assert _indexes(connection) == {
            (table.name, index.name, tuple(column.name for column in index.columns))
            for table in together.tables.values()
            for index in table.indexes
        }


def _indexes(connection: Any) -> set[tuple[str, str | None, tuple[str | None, ...]]]:
    inspector = inspect(connection)
    return {
        (table, index["name"], tuple(index["column_names"]))
        for table in set(inspector.get_table_names()) - parts(connection)
        for index in inspector.get_indexes(table)
        if "duplicates_constraint" not in index and not (index["name"] or "").startswith("sqlite_")
    }


def test_migrating_again_changes_nothing(store: Store) -> None:
    migrate(store)
    before = _tables(store)
    migrate(store)
    assert _tables(store) == before
    assert {"exchanges", "evidence_leaves", "agencies"} <= before


def test_up_down_and_up_again_with_data_in_place(url: str, tmp_path: Path) -> None:
    house = House(
        store_url=url,
        ring=KeyRing.open_or_create(tmp_path / "ring", SystemCode("H99/lgsp-bus")),
        log_key=NoteKey.generate("test.invalid/log"),
    )
    migrate(house.store)
    with house.store.writing() as connection:
        house.log.prepare(connection)
    house.record()
    (claim,) = house.claim()
    house.settle(claim, State.DELIVERED)
    with house.store.writing() as connection:
        command.downgrade(migration_config(connection), "base")
    assert _tables(house.store) == set()
    migrate(house.store)
    with house.store.writing() as connection:
        house.log.prepare(connection)
    house.record()
    house.must_hold()
    house.close()


@pytest.fixture
def full_house(url: str, tmp_path: Path) -> Iterator[House]:
    """A house in which everything has happened that the ledger knows."""
    ring = KeyRing.open_or_create(tmp_path / "ring", SystemCode("H99/lgsp-bus"))
    key = NoteKey.generate("test.invalid/log")
    prepare(House(store_url=url, ring=ring, log_key=key))
    house = House(store_url=url, ring=ring, log_key=key)
    dossier = DossierCode("H99.15-261121-0001")
    fact = DossierFact(dossier=dossier, at=NOON, status="2", received=NOON, aliases=("TTHC-1",))
    for _ in range(3):
        house.record(dossier=dossier, ordered=True, receivers=(RECEIVER, SECOND), quota_periods=(("g", "2026-11-21"),))
    spoken = house.new(dossier=dossier)
    house.ledger.record(replace(spoken, dossier_facts=(fact,)))
    for state in (State.DELIVERED, State.DEAD, State.WAITING):
        (claim, *_) = house.claim(NOON + timedelta(days=36500), most=1)  # also what is due by the real clock
        house.settle(claim, state, due_at=NOON + LEASE)
    house.ledger.replay([record.delivery_id for record in house.ledger.dead()], "admin", "again", NOON)
    call = house.new(lease_until=NOON + LEASE)
    answered = house.ledger.held_claim(house.ledger.record(call).exchange_id * 1024, 1)
    assert answered is not None
    reply = StoredReply(manifest_jws="m", content_type="text/plain", body=b"answer")
    house.ledger.settle(replace(house.end(answered, State.DELIVERED), reply=reply))
    house.ledger.refuse(house.refusal())
    house.ledger.hold_due([], {STORE: 10}, NOON, NOON + LEASE)  # one reference is on its way to a broker
    with house.store.writing() as connection:
        house.log.seal(connection, NOON)
    yield house
    house.close()


def _revisions() -> list[str]:
    config = Config()
    config.set_main_option("script_location", "bus:migrations")
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]


def _counts(house: House) -> dict[str, int]:
    return {table: house.rows(table) for table in _tables(house.store)}


def test_every_step_down_and_up_again_keeps_what_both_sides_know(full_house: House) -> None:
    """From the newest tables down to the first, one step further each time, and back with everything in place."""
    newest = _counts(full_house)
    assert newest["attempts"] == 4
    assert newest["replies"] == 1
    assert newest["dossier_events"] == 1
    totals = full_house.ledger.totals()
    for revision in _revisions()[1:]:
        with full_house.store.writing() as connection:
            command.downgrade(migration_config(connection), revision)
        older = _counts(full_house)
        assert all(newest[table] == number for table, number in older.items() if table in newest), revision
        migrate(full_house.store)
        again = _counts(full_house)
        assert {table: again[table] for table in older if table in again} == {
            table: number for table, number in older.items() if table in again
        }, revision
        newest = again
        full_house.must_hold()
        assert full_house.ledger.totals() == totals
        full_house.record()
        totals, newest = full_house.ledger.totals(), _counts(full_house)


def test_an_upgrade_in_steps_gives_the_same_tables_as_one_at_once(store: Store, tmp_path: Path) -> None:
    for revision in reversed(_revisions()):
        migrate(store, revision)
    with store.reading() as connection:
        stepwise = _indexes(connection)
    with store.writing() as connection:
        command.downgrade(migration_config(connection), "base")
    assert _tables(store) == set()
    migrate(store)
    with store.reading() as connection:
        assert _indexes(connection) == stepwise


def test_a_migration_that_fails_leaves_nothing_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("alembic.operations.Operations.create_index", fail)
    with pytest.raises(OSError, match="no space"):
        migrate(store)
    monkeypatch.undo()
    assert _tables(store) == set()
    migrate(store)


def test_a_store_out_of_reach_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    store = _open(f"sqlite:///{folder}")  # a folder is no database
    with pytest.raises((OperationalError, OSError)), store.reading() as connection:
        connection.execute(text("SELECT 1"))
    store.close()
