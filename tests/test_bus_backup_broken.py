"""Backups that are no good, and processes that are killed over them: nothing but the real one becomes a bus."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bus.assembly import open_bus
from bus.backup.checking import check_backup
from bus.backup.container import rows_of
from bus.logs import no_logs
from bus.settings import Settings
from bus.setup import initialise
from schemas.identifiers import ServiceCode
from schemas.moment import utc_now
from schemas.problem import InternalFailure, Malformed, Problem
from security.sealed_stream import Passphrase
from tests.backed_up import (
    KEY,
    OTHER_KEY,
    PAPER,
    Forged,
    Open,
    Stores,
    all_rows,
    back_up,
    bring_back,
    forge,
    live,
    place,
    provider,
    refused_for,
    take,
)
from tests.bus_world import NOTE, SENDER, SERVICES, World, _grant, bus_world
from tests.loopback import serving


@pytest.fixture
def stores(request: pytest.FixtureRequest) -> Stores:
    return Stores(request)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with no_logs(), serving(provider) as partner, bus_world(tmp_path / "old", partner_url=partner.url) as made:
        yield made


# ── files that are no good ────────────────────────────────────────────────────────────────────────────────────────────


def test_damaged_files_are_refused_before_anything_is_written(world: World, tmp_path: Path) -> None:
    live(world)
    back_up(world, tmp_path / "b")
    data = (tmp_path / "b").read_bytes()
    settings = place(tmp_path / "new")
    hostile: dict[str, bytes] = {
        "nothing": b"",
        "another kind of file": PAPER,
        "cut in half": data[: len(data) // 2],
        "cut by one byte": data[:-1],
        "one byte more": data + b"\0",
        "twice": data + data,
    }
    for place_ in range(100, len(data), len(data) // 12):
        changed = bytearray(data)
        changed[place_] ^= 1
        hostile[f"a bit flipped at {place_}"] = bytes(changed)
    for name, content in hostile.items():
        (tmp_path / "hostile").write_bytes(content)
        reason = refused_for(tmp_path / "hostile", settings)
        assert reason in {"backup-damaged", "backup-unreadable", "backup-key-wrong"}, name
        assert not settings.home.exists(), name
    assert refused_for(tmp_path / "b", settings, opener=OTHER_KEY) == "backup-key-wrong"
    assert refused_for(tmp_path / "b", settings, opener=Passphrase(b"a long enough phrase")) == "backup-key-wrong"
    assert not settings.home.exists()


def in_table(name: str, change: Callable[[Forged], object]) -> Callable[[Forged], object]:
    return lambda part: change(part) if part.name == name else None


def set_cell(table: str, column: str, value: Any, row: int = 0) -> Callable[[Forged], object]:
    return in_table(table, lambda part: part.rows[row].__setitem__(part.columns.index(column), value))


def drop_row(table: str, row: int = -1) -> Callable[[Forged], object]:
    return in_table(table, lambda part: part.rows.pop(row))


def rename(kind: str, name: str) -> Callable[[Forged], object]:
    return lambda part: setattr(part, "name", name) if part.kind == kind else None


def leave_out(name: str) -> Callable[[Forged], object]:
    return in_table(name, lambda part: setattr(part, "left_out", True))


def rename_column(part: Forged) -> None:
    part.columns[0] = 'id") VALUES (1); DROP TABLE exchanges; --'


#: What somebody changed → whether it is seen before anything is written (else: before there is a store).
FORGERIES: dict[str, tuple[Callable[[Forged], object], dict[str, Any], bool]] = {
    "an entry changed": (set_cell("evidence_leaves", "entry", b'{"kind":"accepted"}'), {}, True),
    "an entry left out": (drop_row("evidence_leaves"), {}, True),
    "an entry in the middle left out": (drop_row("evidence_leaves", 2), {}, True),
    "a leaf hash changed": (set_cell("evidence_leaves", "hash", bytes(32)), {}, True),
    "a message left out": (drop_row("exchanges"), {}, True),
    "no log key": (leave_out("evidence-log.pem"), {}, True),
    "a key outside of the folder": (rename("key", "../outside.pem"), {}, True),
    "a key with an absolute name": (rename("key", "/outside.pem"), {}, True),
    "a hidden key": (rename("key", "ring/.hidden"), {}, True),
    "an attachment outside of the folder": (rename("attachment", "../../outside"), {}, True),
    "another attachment": (rename("attachment", "a" * 64), {}, True),
    "a kind that nobody knows": (in_table("agencies", lambda part: setattr(part, "kind", "program")), {}, True),
    "another root": (lambda _part: None, {"log": {"root": "0" * 64}}, True),
    "another size": (lambda _part: None, {"log": {"size": 3}}, True),
    "no log": (lambda _part: None, {"log": None}, True),
    "a newer program": (lambda _part: None, {"revision": "9999"}, True),
    "a revision that is a path": (lambda _part: None, {"revision": "../../x"}, True),
    "a body changed": (set_cell("payloads", "body", b'{"title": "khac"}'), {}, False),
    "a manifest changed": (set_cell("exchanges", "manifest", "e30.e30.e30"), {}, False),
    "a manifest that is none": (set_cell("exchanges", "manifest", "x"), {}, False),
    "a message under another number": (set_cell("exchanges", "id", 10**6), {}, False),
    "a tile changed": (
        in_table("evidence_tiles", lambda part: part.rows.append([0] * 2 + [bytes(8192)])), {}, False,
    ),
    "a checkpoint of another root": (
        in_table("evidence_checkpoints", lambda part: part.rows[0].__setitem__(part.columns.index("note"), "x")),
        {}, False,
    ),
    "the log's size changed": (set_cell("evidence_head", "size", 3), {}, False),
    "a delivery of no message": (set_cell("deliveries", "exchange_id", 10**6), {}, False),
    "a row twice": (in_table("agencies", lambda part: part.rows.append(part.rows[0])), {}, False),
    "nothing where something must be": (set_cell("deliveries", "system", None), {}, False),
    "a text where a number must be": (set_cell("deliveries", "id", [["x"]]), {}, True),
    "a table of the store itself": (in_table("agencies", lambda p: setattr(p, "name", "alembic_version")), {}, False),
    "a column that is a statement": (in_table("agencies", rename_column), {}, False),
}  # fmt: skip


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("genuine")
    with no_logs(), serving(provider) as partner, bus_world(folder, partner_url=partner.url) as world:
        live(world)
        back_up(world, folder / "b")
        with (folder / "b").open("rb") as file:
            return folder / "b", check_backup(file, KEY).header


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_backup_becomes_no_bus(genuine: tuple[Path, Any], tmp_path: Path, name: str) -> None:
    change, header, early = FORGERIES[name]
    file, known = genuine
    if isinstance(header.get("log"), dict):
        header = {"log": {**known["log"], **header["log"]}}
    forge(file, tmp_path / "forged", change, **header)
    settings = place(tmp_path / "new" / "home")
    reason = refused_for(tmp_path / "forged", settings)
    assert reason in {"backup-damaged", "backup-evidence-broken", "backup-too-new"}
    assert not list(tmp_path.rglob("outside*"))
    assert not list(tmp_path.rglob("lgsp.db*"))
    assert settings.home.exists() is not early
    if not early:
        with pytest.raises(InternalFailure):
            open_bus(settings)
        assert not settings.key_folder.exists()
        # The genuine one may follow at once.
        bring_back(file, settings, force=True)


@pytest.mark.service
def test_a_forged_backup_leaves_a_postgresql_as_it_was(
    genuine: tuple[Path, Any], stores: Stores, opened: Open, tmp_path: Path
) -> None:
    settings = place(tmp_path / "new", stores.empty("postgresql"))
    for name in ("a body changed", "a delivery of no message", "a row twice", "nothing where something must be"):
        forge(genuine[0], tmp_path / "forged", FORGERIES[name][0])
        reason = refused_for(tmp_path / "forged", settings, force=True)
        assert reason == ("backup-evidence-broken" if name == "a body changed" else "backup-damaged"), name
    bring_back(genuine[0], settings, force=True)
    assert len(all_rows(opened(settings))["exchanges"]) == 6


@pytest.mark.parametrize(
    "batch",
    [
        b"",
        b"\0\0\0\x02[]x",
        b"\0\0\0\x03[1]",
        b"\0\0\0\x08[[1],[2]",
        b"\0\0\0\x07[[[9]]]abc",
        b"\0\0\0\x08[[[-1]]]",
        b"\0\0\0\x09[[[[1]]]]x",
        b"\0\0\0\x08[[1, 2]]",
        b"\xff\xff\xff\xff[]",
        b"\0\0\0\x02{}",
    ],
)
def test_a_batch_that_is_none_is_refused(batch: bytes) -> None:
    with pytest.raises(Malformed):
        rows_of(batch, 1)


# ── killed in the middle ──────────────────────────────────────────────────────────────────────────────────────────────

_DYING = """
import os, signal, sys
from pathlib import Path
from bus.assembly import open_bus
from bus.backup import making, restoring
from bus.settings import load_settings
from security.sealed_stream import BackupKey
doing, home, url, file, key, where = sys.argv[1:]
settings = load_settings({"home": home, "store_url": url}, environ={})
key = BackupKey.load(Path(key))
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
progress = lambda what, count: die() if what == where else None
if where == "before the keys appear":
    restoring._put_keys = die
if where == "after the keys appeared":
    put = restoring._put_keys
    restoring._put_keys = lambda *words: (put(*words), die())
if doing == "backup":
    bus = open_bus(settings)
    making.make_backup(settings, bus.store, bus.log, Path(file), [key.recipient], progress=progress)
else:
    with open(file, "rb") as opened:
        checked = restoring.check_backup
        restoring.check_backup = lambda *words, **facts: checked(*words, **{**facts, "progress": lambda *_: None})
        restoring.restore_backup(settings, opened, key, force=True, progress=progress)
"""


def dies(doing: str, settings: Settings, file: Path, folder: Path, where: str) -> None:
    if not (folder / "key").exists():
        KEY.save(folder / "key")
    words = [doing, str(settings.home), settings.store_url, str(file), str(folder / "key"), where]
    ended = subprocess.run(
        [sys.executable, "-c", _DYING, *words], cwd=Path(__file__).resolve().parent.parent, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def test_a_backup_that_is_killed_leaves_no_file_of_its_name(world: World, tmp_path: Path) -> None:
    live(world)
    dies("backup", world.settings, tmp_path / "b", tmp_path, "attachments")
    assert not (tmp_path / "b").exists()
    [half] = tmp_path.glob(".b.*.part")
    assert refused_for(half, place(tmp_path / "new")) in {"backup-damaged", "backup-unreadable"}
    back_up(world, tmp_path / "b")


@pytest.mark.parametrize(
    "kind, where",
    [
        ("sqlite", "attachments"),
        ("sqlite", "before the keys appear"),
        ("sqlite", "after the keys appeared"),
        pytest.param("postgresql", "before the keys appear", marks=pytest.mark.service),
    ],
)
def test_a_restore_that_is_killed_leaves_a_home_that_says_so(
    genuine: tuple[Path, Any], stores: Stores, opened: Open, tmp_path: Path, kind: str, where: str
) -> None:
    settings = place(tmp_path / "new", stores.empty(kind))
    dies("restore", settings, genuine[0], tmp_path, where)
    assert settings.restore_mark_path.exists()
    for attempt in (open_bus, initialise):
        with pytest.raises(InternalFailure) as incomplete:
            attempt(settings)
        assert incomplete.value.reason == "restore-incomplete"
    with pytest.raises(InternalFailure):
        bring_back(genuine[0], settings)
    bring_back(genuine[0], settings, force=True)
    bus = opened(settings)
    assert len(all_rows(bus)["exchanges"]) == 6
    assert not settings.restore_mark_path.exists()
    left = {path.name for path in settings.home.iterdir()} - {"wake", "lgsp.db-wal", "lgsp.db-shm", "lgsp.db.writer"}
    assert {name for name in left if not name.startswith("keys.before")} <= {"keys", "attachments", "lgsp.db"}


def test_after_a_kill_only_the_same_backup_may_replace_what_it_brought(
    genuine: tuple[Path, Any], world: World, tmp_path: Path
) -> None:
    settings = place(tmp_path / "new")
    dies("restore", settings, genuine[0], tmp_path, "before the keys appear")
    back_up(world, tmp_path / "another")
    with pytest.raises(Problem) as refused:
        bring_back(tmp_path / "another", settings, force=True)
    assert refused.value.reason == "restore-evidence-there"


# ── memory ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_MEASURED = """
import resource, sys
from pathlib import Path
from bus.assembly import open_bus
from bus.backup.making import make_backup
from bus.backup.restoring import restore_backup
from bus.settings import load_settings
from security.sealed_stream import BackupKey
home, new, file, key = sys.argv[1:]
settings, key = load_settings({"home": home}, environ={}), BackupKey.load(Path(key))
bus = open_bus(settings)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
make_backup(settings, bus.store, bus.log, Path(file), [key.recipient])
with open(file, "rb") as opened:
    restore_backup(load_settings({"home": new}, environ={}), opened, key)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_follows_the_largest_row_and_no_file(world: World, tmp_path: Path) -> None:
    """200 MiB of attachments and 48 MiB of bodies, the largest 8 MiB."""
    folder = world.settings.attachment_folder
    large = hashlib.sha256()
    (folder / "incoming").mkdir(parents=True, exist_ok=True)
    block = os.urandom(2**20)
    with (folder / "incoming" / "large").open("wb") as file:
        for _ in range(200):
            file.write(block)
            large.update(block)
    digest = large.hexdigest()
    (folder / digest[:2]).mkdir()
    shutil.move(folder / "incoming" / "large", folder / digest[:2] / digest)
    world.bus.ledger.add_attachment(digest, SENDER, 200 * 2**20, utc_now())
    large_one = replace(next(s for s in SERVICES if s.code == NOTE), code=ServiceCode("dossier.scan"))
    world.register(replace(large_one, max_body_bytes=2**24), _grant("scan", large_one.code))
    for _ in range(6):
        take(world, world.signed({"note": os.urandom(2**22).hex()}, service=large_one.code))
    KEY.save(tmp_path / "key")
    words = [world.settings.home, tmp_path / "new", tmp_path / "b", tmp_path / "key"]
    ended = subprocess.run(
        [sys.executable, "-c", _MEASURED, *map(str, words)], cwd=Path(__file__).resolve().parent.parent,
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert int(ended.stdout) < 100, f"{ended.stdout} MiB"
