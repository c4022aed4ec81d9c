"""The national catalogue beside the province's own: what came, changed and went, matched by code alone."""

from __future__ import annotations

import copy
import csv
import io
import json
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from connectors.http import HttpClient
from connectors.national_portal import NationalPortalConnector
from connectors.sandbox.app import SandboxConfig, create_sandbox
from connectors.sandbox.national_portal_catalogue import catalogue
from registry.model import Endpoint
from schemas.problem import Malformed
from schemas.procedures import (
    CatalogueDiff,
    Standing,
    catalogue_diff,
    drift_csv,
    drift_rows,
    drift_table,
    list_catalogue,
    pull_catalogue,
    read_procedure,
    read_procedures,
    standing_of,
)
from tests.connector_contract import parcel_of
from tests.loopback import serving


def diff(local: dict[str, dict[str, Any]], national: dict[str, dict[str, Any]]) -> CatalogueDiff:
    return catalogue_diff(map(read_procedure, local.values()), map(read_procedure, national.values()))


def changed(code: str, change: Any) -> CatalogueDiff:
    """The drift after one change to a province's copy of the catalogue."""
    local = catalogue()
    change(local[code])
    return diff(local, catalogue())


def fields(found: CatalogueDiff) -> list[tuple[str, str, str]]:
    return [tuple(change) for each in found.changed for change in each.changes]


def test_a_faithful_copy_has_no_drift() -> None:
    found = diff(catalogue(), catalogue())
    assert found.is_empty
    assert found.unchanged == len(catalogue())
    assert drift_table(found) == "0 mới, 0 thay đổi, 0 bãi bỏ, 8 như nhau"


def test_what_is_new_and_what_is_gone() -> None:
    local, national = catalogue(), catalogue()
    del local["2.000033"]
    del national["1.000894"]
    national["2.000488"]["TRANGTHAI"] = 0
    found = diff(local, national)
    assert [each.code for each in found.added] == ["2.000033"]
    assert [each.code for each in found.withdrawn] == ["1.000894", "2.000488"]
    assert (found.changed, found.unchanged) == ((), 5)


def test_what_neither_side_offers_is_no_drift() -> None:
    local, national = catalogue(), catalogue()
    local["2.000488"]["TRANGTHAI"] = national["2.000488"]["TRANGTHAI"] = "0"
    assert diff(local, national).is_empty


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda it: it.update(TENTTHC="Cấp phép"), ("name", "Cấp phép", "Cấp giấy phép")),
        (lambda it: it.update(LINHVUCTHUCHIEN=[{"MALINHVUC": "G99-X"}]), ("field", "G99-X", "G99-DN01")),
        (
            lambda it: it["CACHTHUCTHUCHIEN"].pop(),
            (
                "days",
                "1: 15 Ngày làm việc; 2: 15 Ngày làm việc",
                "1: 15 Ngày làm việc; 2: 15 Ngày làm việc; 3: 15 Ngày làm việc",
            ),
        ),
        (
            lambda it: it["CACHTHUCTHUCHIEN"][1]["THOIGIAN"][0]["PHILEPHI"][0].update(SOTIEN=2_200_000_000),
            (
                "fees",
                "1: LP01 150000; 2: LP01 2200000000; 3: LP01 150000",
                "1: LP01 150000; 2: LP01 75000; 3: LP01 150000",
            ),
        ),
        (lambda it: it["THANHPHANHOSO"][0]["GIAYTO"].clear(), ("components", "", "G99.T001")),
        (lambda it: it.update(KETQUATHUCHIEN=[{"MAKETQUA": "KQ.G99.000001"}]), ("results", "KQ.G99.000001", "")),
        (lambda it: it.update(COQUANTHUCHIEN=[{"MADONVI": "H99.16"}]), ("agencies", "H99.16", "H99.15")),
    ],
    ids=["name", "field", "days", "fees", "components", "results", "agencies"],
)
def test_each_thing_that_changed_is_named_with_both_sides(change: Any, expected: tuple[str, str, str]) -> None:
    assert expected in fields(changed("1.003560", change))


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it["CACHTHUCTHUCHIEN"].reverse(),
        lambda it: it["CACHTHUCTHUCHIEN"][0]["THOIGIAN"][0].update(THOIGIANGIAIQUYET="15"),
        lambda it: it["CACHTHUCTHUCHIEN"][0]["THOIGIAN"][0].update(THOIGIANGIAIQUYET=15.0),
        lambda it: it["CACHTHUCTHUCHIEN"][0]["THOIGIAN"][0]["PHILEPHI"][0].update(SOTIEN="150.000"),
        lambda it: it.update(TENTTHC="  Cấp giấy  phép"),
        lambda it: it.update(TENTTHC=unicodedata.normalize("NFD", "Cấp giấy phép")),
        lambda it: it.update(TENTTHC=""),
        lambda it: it.pop("THANHPHANHOSO"),
        lambda it: it.pop("CACHTHUCTHUCHIEN"),
        lambda it: it.pop("TRANGTHAI"),
        lambda it: it.update(YEUCAU="ghi chú của tỉnh"),
    ],
    ids=["order", "text", "float", "dots", "spaces", "nfd", "no-name", "no-papers", "no-times", "no-state", "other"],
)
def test_another_spelling_and_what_is_not_kept_are_no_drift(change: Any) -> None:
    assert changed("1.003560", change).is_empty


def test_names_never_match_procedures() -> None:
    """Two codes bear the name "Cấp giấy phép", and a third differs by one word (P10)."""
    local, national = catalogue(), catalogue()
    del local["1.003562"]
    del national["1.003560"]
    found = diff(local, national)
    assert [each.code for each in found.added] == ["1.003562"]
    assert [each.code for each in found.withdrawn] == ["1.003560"]
    assert found.changed == ()


def test_a_provinces_variant_is_compared_with_its_own_code_or_else_with_the_national_one() -> None:
    local, national = catalogue(), catalogue()
    variant = local["1.003560"]
    variant["MATTHC"] = "1.003560.000.00.00.H99"
    assert diff(local, national).is_empty
    of_portal = copy.deepcopy(variant) | {"TENTTHC": "Cấp giấy phép tại tỉnh"}
    found = diff(local, national | {of_portal["MATTHC"]: of_portal})
    assert [each.national.code for each in found.changed] == ["1.003560.000.00.00.H99"]
    assert [each.code for each in found.added] == ["1.003560"]


def test_a_code_that_comes_twice_is_told() -> None:
    procedures = [*map(read_procedure, catalogue().values())]
    found = catalogue_diff([*procedures, procedures[0]], procedures)
    assert found.twice == ("1.001193",)
    assert ("trùng mã", "1.001193", "", "", "", "") in drift_rows(found)


def test_an_empty_answer_does_not_withdraw_a_province() -> None:
    with pytest.raises(Malformed) as caught:
        diff(catalogue(), {})
    assert caught.value.reason == "catalogue-empty"


@pytest.mark.parametrize(
    "document",
    [None, 7, {}, {"result": {}}, [7], [{}], [{"MATTHC": "x"}], [{"MATTHC": 1.003560}]]
    + [[{"MATTHC": "1.003560", member: "x"}] for member in ("CACHTHUCTHUCHIEN", "THANHPHANHOSO", "KETQUATHUCHIEN")],
)
def test_what_is_no_catalogue_is_refused(document: Any) -> None:
    with pytest.raises(Malformed):
        read_procedures(document)


def test_the_report_is_a_table_and_a_csv_that_runs_nothing() -> None:
    found = changed("1.003560", lambda it: it.update(TENTTHC='=HYPERLINK("x"), "y"'))
    (row,) = csv.DictReader(io.StringIO(drift_csv(found)))
    assert row == {
        "loại": "thay đổi",
        "mã TTHC": "1.003560",
        "tên": '\'=HYPERLINK("x"), "y"',
        "nội dung": "tên",
        "tại tỉnh": '\'=HYPERLINK("x"), "y"',
        "quốc gia": "Cấp giấy phép",
    }
    head, line, counts = drift_table(found).splitlines()
    assert head.index("nội dung") == line.index("tên", line.index("1.003560"))
    assert counts == "0 mới, 1 thay đổi, 0 bãi bỏ, 7 như nhau"


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Any]:
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json"))
    sandbox = app.extensions["sandbox"]
    connector = NationalPortalConnector(HttpClient())
    with serving(app) as server:
        endpoint = Endpoint(
            connector="national_portal", url=f"{server.url}/national_portal", settings={"madonvi": "H99"}
        )
        secret = sandbox.credentials["national_portal"].encode()

        def put(service: str, payload: Mapping[str, Any]) -> Any:
            return json.loads(connector.deliver(parcel_of(service, payload), endpoint, secret).body)

        yield put
        sandbox.close()
        connector.close()


def test_the_catalogue_pulled_from_the_portal_is_compared_with_a_local_file(ask: Any) -> None:
    local = catalogue()
    local["1.003561"]["CACHTHUCTHUCHIEN"][1]["THOIGIAN"][0]["THOIGIANGIAIQUYET"] = 5
    kept = json.loads(json.dumps(list(local.values())))
    found = catalogue_diff(read_procedures(kept), map(read_procedure, pull_catalogue(ask, list_catalogue(ask))))
    assert [(each.local.code, [change.field for change in each.changes]) for each in found.changed] == [
        ("1.003561", ["days"])
    ]
    assert (found.added, found.withdrawn) == ((), ())


def test_what_the_details_tell_of_another_procedure_is_not_this_one_s() -> None:
    listed, told = {"MATTHC": "1.003560", "TENTTHC": "Cấp giấy phép"}, [{"MATTHC": "1.003561"}]

    def put(service: str, payload: Mapping[str, Any]) -> Any:
        return {"result": [listed] if service == "procedure.list" else told}

    assert list(pull_catalogue(put, list_catalogue(put))) == [listed]
    told.append({"MATTHC": "1.003560", "YEUCAU": "không"})
    assert list(pull_catalogue(put, list_catalogue(put))) == [told[1]]


@pytest.mark.parametrize("answer", [{"result": []}, []])
def test_an_empty_list_is_an_answer_that_went_wrong(answer: Any) -> None:
    with pytest.raises(Malformed) as caught:
        list_catalogue(lambda service, payload: answer)
    assert caught.value.reason == "catalogue-empty"


@pytest.mark.parametrize(
    "code, standing",
    [
        ("1.001193", Standing.SAME),
        ("1.003560", Standing.CHANGED),
        # A province's variant stands as the national procedure does.
        ("1.003560.000.00.00.H99", Standing.CHANGED),
        ("1.003561", Standing.WITHDRAWN),
        ("1.003562", Standing.WITHDRAWN),
        ("2.000033", Standing.NEW),
        ("9.999999", Standing.UNKNOWN),
    ],
)
def test_a_procedure_stands_open_or_closed(code: str, standing: Standing) -> None:
    local, national = catalogue(), catalogue()
    local["1.003560"]["THANHPHANHOSO"] = []
    del local["2.000033"], national["1.003561"]
    national["1.003562"]["TRANGTHAI"] = 0
    ours, theirs = ([*map(read_procedure, side.values())] for side in (local, national))
    assert standing_of(code, ours, theirs) is standing
    assert standing.is_open == (standing in (Standing.SAME, Standing.CHANGED, Standing.NEW))


def test_nothing_stands_in_an_empty_catalogue() -> None:
    with pytest.raises(Malformed):
        standing_of("1.003560", [read_procedure({"MATTHC": "1.003560"})], [])
