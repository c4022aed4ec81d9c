"""``lgsp registry`` from the outside: what it prints, what it exits with, and what is in the store afterwards."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, create_engine

from bus.cli.registry import registry
from bus.settings import load_settings
from registry.store import RegistryStore, metadata
from security.keys import SigningKey
from security.secrets import SecretBox
from security.tokens import verify_secret

MANUAL = Path(__file__).resolve().parent.parent / "docs" / "registering-a-service.md"
Run = Callable[..., Result]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'lgsp.db'}")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> RegistryStore:
    return RegistryStore(engine)


@pytest.fixture
def run(tmp_path: Path, store: RegistryStore) -> Run:
    class Context:
        settings = load_settings({"home": tmp_path}, environ={})

    def invoke(*words: str | Path, typed: str = "") -> Result:
        return CliRunner().invoke(registry, [str(word) for word in words], obj=Context(), input=typed)

    return invoke


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", MANUAL.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def manual(tmp_path: Path) -> Path:
    """The manual's example manifest, with the certificate that it names beside it."""
    (tmp_path / "mot-cua.pem").write_text(SigningKey.generate().certificate_pem, encoding="ascii")
    path = tmp_path / "so-mau.yaml"
    path.write_text(examples("yaml")[0], encoding="utf-8")
    return path


def test_the_manual_s_manifest_does_what_the_manual_says(run: Run, store: RegistryStore, manual: Path) -> None:
    command, *promised = examples("console")[0].splitlines()
    assert command == "$ lgsp registry apply so-mau.yaml --dry-run"
    dry = run("apply", manual, "--dry-run")
    assert (dry.exit_code, dry.output.splitlines()) == (0, promised)
    assert store.revision() == 0

    applied = run("apply", manual)
    assert (applied.exit_code, applied.output.splitlines()[:-1]) == (0, promised[:-1])
    assert store.revision() == 1
    again = run("apply", manual)
    assert (again.exit_code, again.output) == (0, "0 to add, 0 to change, 0 to remove, 7 unchanged\n")

    directory = store.load()
    [service] = directory.services.values()
    [grant] = directory.grants_for(directory.agencies[service.owner].code, service.code) or directory.grants.values()
    assert (service.key, grant.id) == ("civil.birth-registration/1", "khai-sinh-so-mau")
    assert [directory.find_key(held.key_id) is not None for held in directory.systems_of(grant.grantee)[0].certificates]


def test_the_manual_s_other_examples_hold(run: Run, store: RegistryStore, manual: Path, tmp_path: Path) -> None:
    run("apply", manual)
    removal, bad = tmp_path / "bo-quyen.yaml", tmp_path / "sai.yaml"
    removal.write_text(examples("yaml")[1], encoding="utf-8")
    assert run("apply", removal).exit_code == 0
    assert store.load().grants == {}

    bad.write_text(
        "---\nkind: Service\ncode: a.b\nversion: 1\nname: x\nowner: H99\npattern: hai-chieu\n"
        "---\nkind: Grant\nid: g\nservice: a.b\n",
        encoding="utf-8",
    )
    refused = run("apply", bad)
    assert (refused.exit_code, refused.stderr.splitlines()) == (2, examples("console")[1].splitlines()[1:])

    communes = tmp_path / "xa-phuong.csv"
    communes.write_text(examples("csv")[0], encoding="utf-8")
    assert run("import", "--agencies", communes).exit_code == 0
    assert {"H99.31", "H99.32"} <= set(store.load().agencies)


def test_the_audit_trail_names_who_typed(run: Run, store: RegistryStore, manual: Path) -> None:
    run("apply", manual)
    assert all(event["actor"].startswith("cli:") for event in store.events())
    assert "khai-sinh-so-mau" in run("history").output
    assert "khai-sinh-so-mau" not in run("history", "H99").output


@pytest.mark.parametrize("kind, count", [("agencies", 3), ("systems", 2), ("services", 1), ("grants", 1)])
def test_each_kind_can_be_listed(run: Run, manual: Path, kind: str, count: int) -> None:
    run("apply", manual)
    listed = json.loads(run("list", kind, "--json").output)
    assert len(listed) == count
    table = run("list", kind).output
    assert all(str(entry.get("code") or entry.get("id")) in table for entry in listed)
    assert "…" not in table


@pytest.mark.parametrize(
    "code, kinds",
    [
        ("H99.15", ["Agency"]),
        ("SOMAU", ["Agency"]),
        ("000.00.15.H99", ["Agency"]),
        ("H99.15/mot-cua", ["System"]),
        ("civil.birth-registration", ["Service"]),
        ("civil.birth-registration/1", ["Service"]),
        ("khai-sinh-so-mau", ["Grant"]),
    ],
)
def test_anything_can_be_shown_by_its_code(run: Run, manual: Path, code: str, kinds: list[str]) -> None:
    run("apply", manual)
    assert [entry["kind"] for entry in json.loads(run("show", code, "--json").output)] == kinds
    assert kinds[0] in run("show", code).output


def test_a_service_is_shown_with_its_schema_by_digest_and_a_system_with_its_keys(run: Run, manual: Path) -> None:
    run("apply", manual)
    service = run("show", "civil.birth-registration").output
    assert "JSON Schema" in service
    assert "MaHoSo" not in service
    system = run("show", "H99.15/mot-cua").output
    assert "until" in system
    assert "CERTIFICATE" not in system
    assert "2031-01-01 00:00" not in run("show", "khai-sinh-so-mau").output
    assert "2030-12-31 23:59 +07" in run("show", "khai-sinh-so-mau").output


def test_what_is_not_there_cannot_be_shown(run: Run) -> None:
    assert run("show", "H99.77").exit_code == 2


def test_an_export_can_be_applied_to_an_empty_registry(run: Run, manual: Path, tmp_path: Path) -> None:
    run("apply", manual)
    exported = tmp_path / "xuat.yaml"
    exported.write_text(run("export").stdout, encoding="utf-8")
    url = f"sqlite:///{tmp_path / 'other.db'}"
    other = create_engine(url)
    metadata.create_all(other)
    other.dispose()
    assert run("--store", url, "apply", exported).exit_code == 0
    assert run("--store", url, "export").stdout == exported.read_text(encoding="utf-8")
    assert "kind: System" not in run("export", "agencies", "grants").stdout


def test_a_secret_goes_in_and_never_comes_out(run: Run, store: RegistryStore, tmp_path: Path) -> None:
    kept = run("secret", "set", "ho-tich-token", typed="mật khẩu của sở\n")
    assert (kept.exit_code, kept.output) == (0, "secret ho-tich-token kept\n")
    sealed = store.secret("ho-tich-token")
    assert sealed is not None
    assert "mật khẩu".encode() not in sealed
    box = SecretBox.load(tmp_path / "keys" / "master-keys.json")
    assert box.open("ho-tich-token", sealed).decode() == "mật khẩu của sở"
    assert run("secret", "list").output == "ho-tich-token\n"


@pytest.mark.parametrize("name, typed", [("ho-tich", ""), ("ho-tich", "\n"), ("Ho Tich", "x"), ("../x", "x")])
def test_a_secret_without_a_value_or_a_proper_name_is_refused(
    run: Run, store: RegistryStore, name: str, typed: str
) -> None:
    assert run("secret", "set", name, typed=typed).exit_code == 2
    assert store.secret_names() == []


def test_a_client_secret_is_printed_once_and_kept_as_a_hash(run: Run, store: RegistryStore, manual: Path) -> None:
    run("apply", manual)
    given = run("client-secret", "H99.15/mot-cua")
    secret = given.output.strip()
    held = store.load().system("H99.15/mot-cua")
    assert held is not None
    assert verify_secret(held.client_secret_hash, secret)
    shown = run("show", "H99.15/mot-cua", "--json").output + run("export").output
    assert secret not in shown
    assert "argon2" not in shown
    # Applying the manifest, which knows nothing of the secret, leaves it.
    assert "7 unchanged" in run("apply", manual).output
    assert run("client-secret", "H99.15/khong-co").exit_code == 2


def test_a_store_without_tables_says_what_to_do(run: Run, tmp_path: Path) -> None:
    answer = run("--store", f"sqlite:///{tmp_path / 'empty.db'}", "list", "agencies")
    assert answer.exit_code == 1
    assert "lgsp init" in answer.stderr


def test_names_with_brackets_are_printed_as_they_are(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("kind: Agency\ncode: H99\nname: 'Tỉnh [red]Thử[/red] :smile:'\n", encoding="utf-8")
    run("apply", path)
    assert "Tỉnh [red]Thử[/red] :smile:" in run("list", "agencies").output


def test_every_command_explains_itself() -> None:
    def commands(group: click.Group) -> Iterator[click.Command]:
        for command in group.commands.values():
            yield command
            if isinstance(command, click.Group):
                yield from commands(command)

    assert all(command.help for command in commands(registry))


@pytest.mark.parametrize(
    ("wsdl", "operation", "said"),
    [
        ("<wsdl/>", "TraCuu", "WSDL"),
        (None, "NoSuchOperation", "operation"),
    ],
    ids=["no-wsdl", "no-such-operation"],
)
def test_a_wsdl_that_cannot_be_used_is_told_at_registration(
    run: Run, tmp_path: Path, wsdl: str | None, operation: str, said: str
) -> None:
    population = Path("schemas/partners/population")
    text = wsdl or (population / "population.wsdl").read_text("utf-8")
    (tmp_path / "x.wsdl").write_text(text, encoding="utf-8")
    (tmp_path / "x.xsd").write_text((population / "population.xsd").read_text("utf-8"), encoding="utf-8")
    (tmp_path / "x.yaml").write_text(
        "kind: Agency\ncode: G99\nname: Bộ\n---\n"
        "kind: Service\ncode: citizen.lookup\nversion: 1\nname: Tra cứu\nowner: G99\npattern: request-reply\n"
        "content_types: [application/xml]\nschema: {file: x.xsd}\n"
        "provider:\n  content_type: application/xml\n"
        f"  soap: {{wsdl: {{file: x.wsdl}}, operation: {operation}}}\n",
        encoding="utf-8",
    )
    result = run("apply", tmp_path / "x.yaml")
    assert result.exit_code == 2
    assert "/Service/citizen.lookup~11/provider/soap" in result.output
    assert said in result.output
