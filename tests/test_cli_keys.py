"""``lgsp key``: keys are made once, shown without their secret, rotated and read back."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bus.cli import lgsp
from bus.settings import load_settings
from bus.setup import initialise
from schemas.identifiers import SystemCode
from schemas.moment import utc_now
from security.certificates import check_path, read_certificate
from security.keys import KeyRing, SigningKey
from security.tokens import TokenAuthority

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return lambda *words, **options: CliRunner().invoke(lgsp, ["--home", "home", *words], **options)


def test_a_key_is_made_for_a_system_and_its_certificate_is_for_the_registry(run: Run, tmp_path: Path) -> None:
    made = run("key", "create", "--system", "H99.15/mot-cua", "--out", "mot-cua.pem")
    assert made.exit_code == 0, made.output
    assert stat.S_IMODE((tmp_path / "mot-cua.pem").stat().st_mode) == 0o600
    key = SigningKey.load(tmp_path / "mot-cua.pem")
    printed = run("key", "certificate", "mot-cua.pem")
    assert read_certificate(printed.stdout).key_id == key.key_id
    assert "PRIVATE" not in printed.stdout
    (tmp_path / "mot-cua.crt").write_text(printed.stdout)
    for name in ("mot-cua.pem", "mot-cua.crt"):
        shown = json.loads(run("key", "show", name, "--json").stdout)
        assert (shown["kid"], shown["thumbprint"], shown["algorithm"]) == (key.key_id, key.thumbprint, "ES256")
    assert "days left" in run("key", "show", "mot-cua.pem").stdout


@pytest.mark.parametrize("words", [("key", "create"), ("key", "ca", "issue", "--ca", "ca")])
def test_a_key_is_never_overwritten(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    run("key", "ca", "create", "--out", "ca")
    (tmp_path / "old.pem").write_text("precious")
    refused = run(*words, "--system", "H99.15/mot-cua", "--out", "old.pem")
    assert (refused.exit_code, (tmp_path / "old.pem").read_text()) == (2, "precious")
    assert run("key", "ca", "create", "--out", "ca").exit_code == 2


def test_a_password_protects_a_key_and_is_asked_for(run: Run, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("correct horse\nsecond line\n")
    (tmp_path / "wrong").write_text("something else")
    (tmp_path / "empty").write_text("\n")
    create = ("key", "create", "--system", "H99.15/mot-cua", "--ps256", "--out")
    assert run(*create, "k.pem", "--password-file", "password").exit_code == 0
    assert SigningKey.load(tmp_path / "k.pem", password=b"correct horse").algorithm == "PS256"
    assert run("key", "show", "k.pem", "--password-file", "password").exit_code == 0
    for words in (("k.pem",), ("k.pem", "--password-file", "wrong"), ("k.pem", "--password-file", "empty")):
        assert run("key", "show", *words).exit_code == 2


@pytest.mark.parametrize("content", ["", "-----BEGIN NONSENSE-----", "\x00\x01"])
def test_a_file_that_is_no_key_is_refused_in_one_sentence(run: Run, tmp_path: Path, content: str) -> None:
    (tmp_path / "bad").write_text(content)
    for command in ("show", "certificate"):
        refused = run("key", command, "bad")
        assert (refused.exit_code, refused.stdout, len(refused.stderr.splitlines())) == (2, "", 1)


def test_the_sandbox_authority_issues_keys_that_lead_to_it(run: Run, tmp_path: Path) -> None:
    assert run("key", "ca", "issue", "--ca", "ca", "--system", "H99.15/mot-cua", "--out", "k.pem").exit_code == 1
    assert run("key", "ca", "create", "--out", "ca").exit_code == 0
    assert run("key", "ca", "issue", "--ca", "ca", "--system", "H99.15/mot-cua", "--out", "k.pem").exit_code == 0
    check_path(
        SigningKey.load(tmp_path / "k.pem").certificate_pem, [(tmp_path / "ca/authority.pem").read_text()], utc_now()
    )


def test_the_bus_rotates_its_key_after_a_question_and_lists_both(run: Run, tmp_path: Path) -> None:
    settings = load_settings({"home": tmp_path / "home"}, environ={})
    initialise(settings)
    before = KeyRing(settings.ring_folder, SystemCode(settings.system)).current.key_id
    assert run("key", "rotate", input="n\n").exit_code == 1
    assert json.loads(run("key", "list", "--json").stdout)["keys"][0]["kid"] == before
    assert run("key", "rotate", "--yes").exit_code == 0
    listed = {line.split()[1]: line for line in run("key", "list").stdout.splitlines() if " ES256 " in line}
    assert len(listed) == 2
    assert "verifies" in listed[before]
    (after,) = listed.keys() - {before}
    assert "signs" in listed[after]


def test_the_operator_s_token_is_the_bus_s_own(run: Run, tmp_path: Path) -> None:
    settings = load_settings({"home": tmp_path / "home"}, environ={})
    initialise(settings)
    token = run("key", "operator-token").stdout.strip()
    ring = KeyRing(settings.ring_folder, SystemCode(settings.system))
    assert TokenAuthority(ring, settings.public_url).verify(token, utc_now()).system == settings.system
