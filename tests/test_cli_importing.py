"""``lgsp registry import --wsdl`` and ``--openapi`` from the outside: files, words, exit codes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, create_engine

from bus.cli.registry import registry
from bus.settings import load_settings
from registry.model import SoapCall
from registry.store import RegistryStore, metadata
from tests.loopback import serving

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "corpus"
PARTNERS = ROOT / "schemas" / "partners"
Run = Callable[..., Result]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'lgsp.db'}")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def invoke(*words: str | Path, import_hosts: str = "", said_in: str = "en") -> Result:
        class Context:
            settings = load_settings({"home": tmp_path, "import_hosts": import_hosts}, environ={})
            language = said_in

        return CliRunner().invoke(registry, [str(word) for word in words], obj=Context())

    return invoke


def agency(folder: Path, code: str) -> Path:
    path = folder / "agency.yaml"
    path.write_text(f"kind: Agency\ncode: {code}\nname: Cơ quan mẫu\n", encoding="utf-8")
    return path


@pytest.mark.usefixtures("engine")
def test_the_population_wsdl_becomes_registered_services_with_no_hand_edits(
    run: Run, engine: Engine, tmp_path: Path
) -> None:
    out = tmp_path / "drafts"
    made = run(
        *("import", "--wsdl", PARTNERS / "population" / "population.wsdl", "--prefix", "dan-cu"),
        *("--system", "G99.01/dan-cu", "--stage", "published", "--out", out),
    )
    assert made.exit_code == 0, made.output
    assert "7 drafted, 0 refused" in made.output

    applied = run("apply", agency(tmp_path, "G99.01"), *sorted(out.glob("*.yaml")))
    assert applied.exit_code == 0, applied.output
    directory = RegistryStore(engine).load()
    assert len(directory.services) == 7
    service = next(one for one in directory.services.values() if one.code == "dan-cu.tra-cuu-thong-tin-cong-dan")
    assert service.provider is not None
    assert isinstance(service.provider.call, SoapCall)
    again = run("apply", *sorted(out.glob("*.yaml")))
    assert "0 to add, 0 to change" in again.output


@pytest.mark.usefixtures("engine")
def test_the_business_openapi_becomes_registered_services_with_no_hand_edits(
    run: Run, engine: Engine, tmp_path: Path
) -> None:
    out = tmp_path / "drafts"
    made = run(
        *("import", "--openapi", PARTNERS / "business_registry" / "openapi.json", "--prefix", "dkdn"),
        *("--system", "G99.12/dkdn", "--out", out),
    )
    assert made.exit_code == 0, made.output
    assert "lgsp registry secret set g99.12.dkdn" in made.output

    applied = run("apply", agency(tmp_path, "G99.12"), *sorted(out.glob("*.yaml")))
    assert applied.exit_code == 0, applied.output
    assert len(RegistryStore(engine).load().services) == 4


def test_every_operation_is_reported_with_its_reason_when_refused(run: Run, tmp_path: Path) -> None:
    result = run(
        *("import", "--wsdl", CORPUS / "wsdl" / "rpc-style.wsdl", "--prefix", "t", "--owner", "G99.01"),
        *("--out", tmp_path / "drafts"),
    )

    assert result.exit_code == 0
    assert "+ Find  t.find/1" in result.output
    assert "- Add  wsdl-rpc-style" in result.output
    assert "document/literal" in result.output
    assert "1 drafted, 7 refused" in result.output


@pytest.mark.parametrize(
    "said_in, header, secret",
    [
        ("en", "! the request has a header block", "! keep the endpoint's secret before the first call: "),
        ("vi", "! yêu cầu có khối đầu thư SOAP", "! lưu bí mật của điểm cuối trước lần gọi đầu tiên: "),
    ],
)
def test_what_to_know_is_told_in_the_language_of_the_session(
    run: Run, tmp_path: Path, said_in: str, header: str, secret: str
) -> None:
    soap = run(
        *("import", "--wsdl", CORPUS / "wsdl" / "headers-and-faults.wsdl", "--prefix", "t", "--owner", "G99.01"),
        *("--out", tmp_path / "soap"),
        said_in=said_in,
    )
    assert header in soap.output, soap.output
    rest = run(
        *("import", "--openapi", CORPUS / "openapi" / "version-3-1.json", "--prefix", "t"),
        *("--system", "G99.12/registry", "--out", tmp_path / "rest"),
        said_in=said_in,
    )
    assert f"{secret}lgsp registry secret set g99.12.registry" in rest.output, rest.output


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("said_in, rule", [("en", "is no registered agency"), ("vi", "không phải cơ quan đã đăng ký")])
def test_an_apply_that_does_not_fit_is_told_in_the_language_of_the_session(
    run: Run, tmp_path: Path, said_in: str, rule: str
) -> None:
    manifest = tmp_path / "a.yaml"
    manifest.write_text("kind: Agency\ncode: H99.15\nname: Sở\nparent: H99\n", encoding="utf-8")
    result = run("apply", manifest, said_in=said_in)
    assert result.exit_code == 2
    assert f"  /Agency/H99.15/parent: {rule}" in result.output


def test_a_dry_run_prints_the_manifests_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "drafts"
    result = run(
        *("import", "--openapi", CORPUS / "openapi" / "version-3-1.json", "--prefix", "t", "--owner", "G99.01"),
        *("--select", "saveTree", "--out", out, "--dry-run"),
    )

    assert result.exit_code == 0
    assert "code: t.save-tree" in result.output
    assert "saveShape" not in result.output
    assert "nothing was written" in result.output
    assert not out.exists()


def test_files_that_are_there_are_kept_unless_forced(run: Run, tmp_path: Path) -> None:
    words = ("import", "--wsdl", CORPUS / "wsdl" / "soap12-only.wsdl", "--prefix", "t", "--owner", "G99.01")
    out = tmp_path / "drafts"
    assert run(*words, "--out", out).exit_code == 0
    (out / "t.find.yaml").write_text("edited by hand")

    refused = run(*words, "--out", out)
    assert refused.exit_code == 2
    assert "--force" in refused.output
    assert (out / "t.find.yaml").read_text() == "edited by hand"
    assert run(*words, "--out", out, "--force").exit_code == 0
    assert "kind: Service" in (out / "t.find.yaml").read_text()


def test_an_operation_that_is_not_there_is_told(run: Run, tmp_path: Path) -> None:
    result = run(
        *("import", "--wsdl", CORPUS / "wsdl" / "soap12-only.wsdl", "--prefix", "t", "--owner", "G99.01"),
        *("--select", "Nothing", "--out", tmp_path / "drafts"),
    )

    assert result.exit_code == 2
    assert "Nothing  there is no such operation" in result.output


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--wsdl", "a.wsdl", "--openapi", "b.json"),
        ("--wsdl", "a.wsdl"),
        ("--wsdl", "a.wsdl", "--prefix", "t"),
        ("--wsdl", "a.wsdl", "--owner", "G99.01"),
    ],
)
def test_a_command_that_says_too_little_or_too_much_is_a_wrong_command(run: Run, words: tuple[str, ...]) -> None:
    result = run("import", *words)

    assert result.exit_code == 2
    assert "Usage" in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--owner", "nobody"), "agency code"),
        (("--system", "nobody"), "system code"),
    ],
)
def test_codes_that_are_none_are_refused_in_words(run: Run, words: tuple[str, ...], said: str) -> None:
    result = run("import", "--wsdl", CORPUS / "wsdl" / "soap12-only.wsdl", "--prefix", "t", *words)

    assert result.exit_code == 2
    assert said in result.output


def test_a_url_needs_its_host_in_the_settings(run: Run, tmp_path: Path) -> None:
    body = (CORPUS / "wsdl" / "soap12-only.wsdl").read_bytes()

    def application(_environ: object, start_response: Callable[..., object]) -> list[bytes]:
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    with serving(application) as host:
        words = (
            "import",
            "--wsdl",
            f"{host.url}/x.wsdl",
            "--prefix",
            "t",
            "--owner",
            "G99.01",
            "--out",
            tmp_path / "d",
        )
        refused = run(*words)
        assert refused.exit_code == 2
        assert "LGSP_IMPORT_HOSTS" in refused.output
        assert host.url not in refused.output
        assert not host.requests
        allowed = run(*words, import_hosts=host.url.removeprefix("http://"))
    assert allowed.exit_code == 0, allowed.output


def test_what_a_description_says_cannot_steer_the_terminal(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(
        '{"openapi": "3.1.0", "paths": {"/a": {"trace": {"operationId": "\\u001b[2Jgone"}}}}', encoding="utf-8"
    )

    result = run("import", "--openapi", tmp_path / "x.json", "--prefix", "t", "--owner", "G99.01")
    assert result.exit_code == 2
    assert "\x1b" not in result.output


@pytest.mark.usefixtures("engine")
def test_the_examples_of_the_manual_run_as_written(
    run: Run, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "importing.md").read_text(encoding="utf-8")
    [commands] = re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL)
    [printed] = re.findall(r"```text\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "agencies.yaml").write_text(
        "".join(f"---\nkind: Agency\ncode: {code}\nname: Cơ quan mẫu\n" for code in ("G99.01", "G99.12")),
        encoding="utf-8",
    )
    (tmp_path / "schemas").symlink_to(ROOT / "schemas")
    monkeypatch.chdir(tmp_path)

    outputs = []
    for line in commands.splitlines():
        words = shlex.split(line)
        assert words[:2] == ["lgsp", "registry"]
        there = [sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in words[2:]]
        result = run(*chain.from_iterable(there))
        assert result.exit_code == 0, result.output
        outputs.append(result.output)
    assert outputs[1].startswith(printed)
    assert len(RegistryStore(engine).load().services) == 11


def test_help_has_examples(run: Run) -> None:
    result = run("import", "--help")

    assert "lgsp registry import --wsdl population.wsdl" in result.output
