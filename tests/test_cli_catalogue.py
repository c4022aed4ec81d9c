"""``lgsp catalogue`` over a real bus and the portal's twin: pulled whole or not at all, and compared."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bus.cli import lgsp
from connectors.sandbox.faults import Fault
from connectors.sandbox.national_portal_catalogue import catalogue
from tests.province_world import ProvinceWorld, province_world

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def province(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProvinceWorld]:
    with province_world(tmp_path_factory.mktemp("province")) as province:
        yield province


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def invoke(*words: str) -> Result:
        environment = {"LANG": "en_GB.UTF-8", "LC_ALL": "", "LC_MESSAGES": ""}
        return CliRunner().invoke(lgsp, ["catalogue", *words], env=environment)

    return invoke


def pull(province: ProvinceWorld, run: Run, *words: str) -> Result:
    profile = str(province.member("H99.15/mot-cua", ".toml"))
    return run("pull", "--profile", profile, "--to", "G99", "--attempts", "1", *words, "national.json")


def write(name: str, documents: Any) -> str:
    Path(name).write_text(json.dumps(documents, ensure_ascii=False), "utf-8")
    return name


def test_the_catalogue_is_pulled_whole_as_the_portal_writes_it(province: ProvinceWorld, run: Run) -> None:
    pulled = pull(province, run)
    assert pulled.exit_code == 0, pulled.output
    assert f"{len(catalogue())} procedures in national.json" in pulled.stdout
    assert {each["MATTHC"]: each for each in json.loads(Path("national.json").read_bytes())} == catalogue()
    same = run("diff", write("local.json", [*catalogue().values()]), "national.json")
    assert (same.exit_code, same.stdout) == (0, "0 mới, 0 thay đổi, 0 bãi bỏ, 8 như nhau\n")


def test_a_pull_that_breaks_off_leaves_the_catalogue_of_yesterday(province: ProvinceWorld, run: Run) -> None:
    Path("national.json").write_text("yesterday")
    dial = province.sandbox.dial
    # Two procedures are told, the third is not.
    well = Fault(kind="stall", service="LayThuTuc", seconds=0.0, count=2)
    dial.turn("national_portal", [well, Fault(kind="status", service="LayThuTuc")])
    try:
        pulled = pull(province, run)
    finally:
        dial.turn("national_portal", [])
    assert pulled.exit_code == 1, pulled.output
    assert Path("national.json").read_text() == "yesterday"
    assert [path.name for path in Path().iterdir()] == ["national.json"]


def drifted() -> tuple[str, str]:
    local, national = catalogue(), catalogue()
    local["1.003560"] |= {"TENTTHC": "=1+1", "KETQUATHUCHIEN": [{"MAKETQUA": "KQ.G15.000031"}]}
    del local["2.000033"], national["1.003561"]
    return write("local.json", [*local.values()]), write("national.json", [*national.values()])


def test_differences_are_told_as_a_table_as_csv_and_as_json(run: Run) -> None:
    files = drifted()
    told = run("diff", *files)
    assert (told.exit_code, told.stdout.splitlines()[-1]) == (1, "1 mới, 1 thay đổi, 1 bãi bỏ, 5 như nhau")
    rows = list(csv.DictReader(io.StringIO(run("diff", "--csv", *files).stdout)))
    assert [(row["loại"], row["mã TTHC"]) for row in rows] == [
        ("mới", "2.000033"), ("thay đổi", "1.003560"), ("thay đổi", "1.003560"), ("bãi bỏ", "1.003561"),
    ]  # fmt: skip
    assert rows[1]["tại tỉnh"] == "'=1+1"
    document = json.loads(run("diff", "--json", *files).stdout)
    assert document["withdrawn"] == [{"code": "1.003561", "name": "Cấp lại giấy phép"}]
    assert document["changed"][0]["changes"][0] == {"field": "name", "local": "=1+1", "national": "Cấp giấy phép"}
    assert document["unchanged"] == 5


@pytest.mark.parametrize(
    "codes, code, said",
    [
        (["1.001193"], 0, ["như nhau"]),
        (["1.003560"], 1, ["thay đổi"]),
        (["2.000033"], 1, ["mới"]),
        (["1.003561"], 2, ["bãi bỏ"]),
        (["9.999999"], 2, ["không có"]),
        (["1.001193", "1.003561", "1.003560"], 2, ["như nhau", "bãi bỏ", "thay đổi"]),
        (["1.001193", "1.003560"], 1, ["như nhau", "thay đổi"]),
    ],
)
def test_software_that_takes_dossiers_may_ask_first(run: Run, codes: list[str], code: int, said: list[str]) -> None:
    asked = [word for each in codes for word in ("--check", each)]
    told = run("diff", *asked, *drifted())
    assert (told.exit_code, told.stdout.splitlines()) == (code, [f"{c}  {s}" for c, s in zip(codes, said, strict=True)])
    assert run("diff", *asked, "--json", *drifted()).exit_code == code


@pytest.mark.parametrize("documents", [[], {}, [{"MATTHC": "x"}], 7])
def test_what_is_no_catalogue_is_refused_in_a_sentence(run: Run, documents: Any) -> None:
    told = run("diff", write("local.json", [*catalogue().values()]), write("national.json", documents))
    assert told.exit_code == 2
    assert "Traceback" not in told.output
    assert told.stderr


def test_nothing_in_a_catalogue_moves_the_cursor(run: Run) -> None:
    local, national = catalogue(), catalogue()
    national["1.003560"]["TENTTHC"] = "\x1b[2Jxóa"
    told = run("diff", write("local.json", [*local.values()]), write("national.json", [*national.values()]))
    assert "xóa" in told.stdout
    assert "\x1b" not in told.stdout
