"""``lgsp backup``, ``lgsp restore`` and ``lgsp key backup``: what an operator sees, and the exit codes."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bus.bundles import trust_of
from bus.cli import lgsp
from bus.logs import no_logs
from schemas.moment import utc_now
from security.evidence.checkpoint import NoteKey, sign_checkpoint
from security.sealed_stream import Passphrase
from tests.backed_up import PAPER, live, provider, take, upload
from tests.bus_world import World, bus_world
from tests.loopback import serving

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def a_cheap_phrase(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second a try is for those who try phrases."""
    dear = Passphrase.__init__
    monkeypatch.setattr(Passphrase, "__init__", lambda self, phrase: dear(self, phrase, log_n=4))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with no_logs(), serving(provider) as partner, bus_world(tmp_path / "old", partner_url=partner.url) as world:
        yield world


@pytest.fixture
def run(world: World) -> Run:
    def invoke(*words: object, home: Path = world.settings.home, language: str = "en_GB.UTF-8", **facts: Any) -> Result:
        environment = {"LANG": language, "LC_ALL": "", "LC_MESSAGES": ""}
        return CliRunner().invoke(lgsp, ["--home", str(home), *map(str, words)], env=environment, **facts)

    return invoke


@pytest.fixture
def keys(run: Run, tmp_path: Path) -> tuple[Path, str]:
    """The file of the private key, and the line of the public one."""
    made = run("key", "backup", "--out", tmp_path / "backup.key")
    assert made.exit_code == 0, made.output
    return tmp_path / "backup.key", made.stdout.strip()


def test_a_backup_key_is_made_once(run: Run, keys: tuple[Path, str]) -> None:
    file, public = keys
    assert public.startswith("lgsp-backup-")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = run("key", "backup", "--out", file)
    assert (again.exit_code, "never overwritten" in again.stderr) == (2, True)


def test_a_bus_is_backed_up_checked_and_brought_back(
    run: Run, world: World, keys: tuple[Path, str], tmp_path: Path
) -> None:
    live(world)
    key, public = keys
    (tmp_path / "backup.pub").write_text(public + "\n")
    (tmp_path / "trust.json").write_bytes(trust_of(world.bus))
    file = tmp_path / "lgsp.backup"
    made = run("backup", "--out", file, "--recipient", tmp_path / "backup.pub")
    assert made.exit_code == 0, made.output
    assert "The backup is written." in made.stdout
    assert "6, 6 with their body" in made.stdout
    checked = run("backup", "--check", file, "--key", key, "--trust", tmp_path / "trust.json")
    assert checked.exit_code == 0, checked.output
    assert "YES: the backup is whole" in checked.stdout
    assert str(world.bus.log.verifier) in checked.stdout
    assert "compare the log key" not in checked.stderr
    new = tmp_path / "new"
    back = run("restore", file, "--key", key, home=new)
    assert back.exit_code == 0, back.output
    for words in ("6 held against their entries", "due again: 1.", "The bus is back", "2 attachments"):
        assert words in back.stdout, words
    assert run("evidence", "log-verify", home=new).exit_code == 0
    assert "Nothing is wrong" not in run("doctor", "--full", home=tmp_path / "none").stdout
    again = run("restore", file, "--key", key, "--force", home=new)
    assert (again.exit_code, "which no restore replaces" in again.stderr) == (2, True)


def test_the_answers_for_programs(run: Run, world: World, keys: tuple[Path, str], tmp_path: Path) -> None:
    live(world)
    key, public = keys
    file = tmp_path / "lgsp.backup"
    made = json.loads(run("backup", "--out", file, "--recipient", public, "--exclude-bodies", "--json").stdout)
    assert (made["rows"]["exchanges"], made["rows"]["payloads"], made["bytes"]) == (6, 4, file.stat().st_size)
    world.bus.seal_evidence(utc_now())
    take(world, world.signed())
    late = world.bus.seal_evidence(utc_now())
    assert late is not None
    (tmp_path / "note").write_text(late.note)
    checked = json.loads(
        run("backup", "--check", file, "--key", key, "--checkpoint", tmp_path / "note", "--json").stdout
    )
    assert checked["witnessed"] == {"size": late.size, "missing": 1}
    assert (checked["id"], checked["bodies"], checked["log"]["size"]) == (made["id"], False, made["entries"])
    restored = json.loads(run("restore", file, "--key", key, "--json", home=tmp_path / "new").stdout)
    assert (restored["messages"], restored["bodies_proven"], restored["entries"]) == (6, 4, made["entries"])
    assert restored["deliveries"]["delivering"] == 1
    told = run("restore", file, "--key", key, "--checkpoint", tmp_path / "note", home=tmp_path / "third")
    assert "came after this moment: 1." in told.stdout


def test_it_speaks_vietnamese(run: Run, world: World, keys: tuple[Path, str], tmp_path: Path) -> None:
    key, public = keys
    file = tmp_path / "b"
    said = run("backup", "--out", file, "--recipient", public, language="vi_VN.UTF-8")
    assert "Đã ghi xong bản sao lưu." in said.stdout
    said = run("backup", "--check", file, "--key", key, language="vi_VN.UTF-8")
    assert "ĐÚNG: bản sao lưu nguyên vẹn" in said.stdout
    file.write_bytes(file.read_bytes()[:-1])
    said = run("restore", file, "--key", key, home=tmp_path / "new", language="vi_VN.UTF-8")
    assert (said.exit_code, "Bản sao lưu bị hỏng" in said.stderr) == (2, True)


def test_a_phrase_is_asked_for_twice_when_sealing_and_once_when_opening(run: Run, tmp_path: Path) -> None:
    file, phrase = tmp_path / "b", "correct horse battery"
    assert run("backup", "--out", file, input=f"{phrase}\nanother\n").exit_code != 0
    assert not file.exists()
    assert run("backup", "--out", file, input=f"{phrase}\n{phrase}\n").exit_code == 0
    assert run("backup", "--check", file, input=f"{phrase}\n").exit_code == 0
    (tmp_path / "phrase").write_text(f"{phrase}\nmore\n")
    back = run("restore", file, "--passphrase-file", tmp_path / "phrase", home=tmp_path / "new")
    assert back.exit_code == 0, back.output
    assert phrase not in back.output
    wrong = run("backup", "--check", file, input="another battery\n")
    assert (wrong.exit_code, "another key or passphrase" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    "words, told",
    [
        ([], "Name a file to write"),
        (["--out", "b", "--check", "b"], "Name a file to write"),
        (["--out", "new", "--recipient", "lgsp-backup-x"], "not the public key"),
        (["--out", "new", "--passphrase-file", "short"], "at least 12 bytes"),
        (["--out", "new", "--passphrase-file", "empty"], "first line is empty"),
        (["--out", "new", "--key", "b"], "belong to --check"),
        (["--check", "b", "--key", "b"], "cannot be read"),
        (["--check", "b", "--passphrase-file", "phrase"], "not a backup"),
        (["--check", "b", "--passphrase-file", "phrase", "--trust", "b"], "trust file cannot be read"),
        (["--check", "b", "--key", "b", "--passphrase-file", "phrase"], ""),
        (["--out", "b", "--passphrase-file", "phrase"], "never overwritten"),
        (["--check", "missing"], "does not exist"),
    ],
)
def test_a_wrong_command_is_refused_with_a_sentence(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {"b": "text", "short": "short", "empty": "\n", "phrase": "a long enough phrase"}.items():
        Path(name).write_text(text)
    refused = run("backup", *words)
    assert refused.exit_code == 2, refused.output
    assert told in refused.stderr
    assert not Path("new").exists()


def test_missing_files_are_an_alarm_and_the_backup_is_there(
    run: Run, world: World, keys: tuple[Path, str], tmp_path: Path
) -> None:
    digest = upload(world, PAPER).sha256
    (world.settings.attachment_folder / digest[:2] / digest).unlink()
    made = run("backup", "--out", tmp_path / "b", "--recipient", keys[1])
    assert made.exit_code == 1
    assert "missing or damaged: 1" in made.stdout
    assert digest in made.stdout
    assert run("backup", "--check", tmp_path / "b", "--key", keys[0]).exit_code == 0


def test_the_commands_know_an_incomplete_home(run: Run, world: World, tmp_path: Path) -> None:
    world.settings.restore_mark_path.write_text("{}")
    for words in (["init"], ["serve"], ["work"], ["evidence", "log-verify"], ["backup", "--out", tmp_path / "b"]):
        refused = run(*words, input="a long enough phrase\n" * 2)
        assert (refused.exit_code, "did not come to its end" in refused.stderr) == (1, True), words
    assert "a restore did not come to its end" in run("doctor").stdout


def test_a_log_that_is_shorter_than_others_saw_says_by_how_much(
    run: Run, world: World, keys: tuple[Path, str], tmp_path: Path
) -> None:
    """As after a restore to an earlier moment, by whichever means."""
    live(world)
    early, file, note = world.bus.seal_evidence(utc_now()), tmp_path / "b", tmp_path / "note"
    take(world, world.signed())
    run("backup", "--out", file, "--recipient", keys[1])
    take(world, world.signed())
    late = world.bus.seal_evidence(utc_now())
    assert early is not None
    assert late is not None
    new = tmp_path / "new"
    assert run("restore", file, "--key", keys[0], home=new).exit_code == 0

    def looked_at(text: str) -> tuple[int, Any]:
        note.write_text(text)
        said = run("evidence", "log-verify", "--checkpoint", note, "--json", home=new)
        return said.exit_code, json.loads(said.stdout)["witnessed"]["missing"] if said.exit_code == 0 else None

    assert looked_at(early.note) == (0, 0)
    assert looked_at(late.note) == (0, 1)
    said = run("evidence", "log-verify", "--checkpoint", note, home=new, language="vi_VN.UTF-8")
    assert f"cỡ {late.size} có, sau thời điểm này: 1." in said.stdout
    # A log that they saw and that is another one: the last entry, which no checkpoint here covers, included.
    key = NoteKey.load(world.settings.log_key_path, world.settings.log_origin)
    for size in (early.size, late.size - 1):
        assert looked_at(sign_checkpoint(key.name, size, bytes(32), key).note)[0] == 1
    assert looked_at(early.note.replace("\n", "\nx", 1))[0] == 2
