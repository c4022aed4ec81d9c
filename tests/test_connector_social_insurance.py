"""Social insurance: services on the plain REST connector, bound to the contract; codes inside a 200 as a setting."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectors.base import Reply
from connectors.reply_codes import check_codes
from registry.model import Endpoint, HttpCall
from schemas.problem import InvalidReply, ProviderRejected, ProviderUnavailable, SchemaViolation
from schemas.validation import compile_schema
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "schemas" / "partners" / "social_insurance"
OPERATIONS = {
    "household-by-number": "getTraCuuTtHgdByMaSoBhxh",
    "number": "getMaSoBhxhTheoTieuChi",
    "household": "getTraCuuThongTinHgd",
}
CODES = {"members": ["errorCode", "maLoi"], "success": ["25"], "retry": ["03"]}
SETTINGS = {"auth": "oauth2", "reply_codes": CODES}


def example(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.example.json").read_bytes())
    return document


def call(name: str) -> HttpCall:
    return HttpCall(method="POST", path=f"/apiBHXH/{OPERATIONS[name]}", body="*")


def check(schema: str, body: bytes) -> Any:
    compiled = compile_schema(json.loads((FOLDER / f"{schema}.schema.json").read_bytes()))
    return compiled.validate(body, "application/json")


class TestSocialInsurance(ConnectorContract):
    bound = Binding(
        connector="rest",
        twin="social_insurance",
        path="/social_insurance",
        operation="getMaSoBhxhTheoTieuChi",
        service="social-insurance.number",
        payload=lambda number: example("number"),
        effects=lambda state: len(state["idempotency_keys"]),
        settings=SETTINGS,
        call=call("number"),
    )

    @pytest.mark.parametrize("name", OPERATIONS)
    def test_each_question_gets_its_answer(self, rig: Rig, name: str) -> None:
        parcel = parcel_of(f"social-insurance.{name}", example(name), call=call(name))
        check(name, parcel.body)
        document = check(f"{name}-reply", rig.deliver(parcel).body)
        assert document["trangThai"] == "Đang tham gia"
        assert all(isinstance(value, str) for value in document.values())

    def test_a_birthday_may_be_a_year_or_a_month(self, rig: Rig) -> None:
        question = example("number") | {"hoTen": "LÝ THÁI AN", "ngaySinh": "1950", "loaiNgaySinh": "1", "gioiTinh": "1"}
        parcel = parcel_of("social-insurance.number", question, call=call("number"))
        check("number", parcel.body)
        assert json.loads(rig.deliver(parcel).body)["maSoBhxh"] == "9900000003"

    def test_nobody_found_is_an_answer(self, rig: Rig) -> None:
        question = example("number") | {"hoTen": "ĐẶNG PHƯƠNG ĐÔNG"}
        document = json.loads(rig.deliver(parcel_of("social-insurance.number", question, call=call("number"))).body)
        assert document == {"maSoBhxh": "", "trangThai": "Không tìm thấy", "errorCode": "0"}

    def test_25_is_success_where_the_endpoint_says_so(self, rig: Rig) -> None:
        rig.sandbox.twins["social_insurance"].wording["success_code"] = "25"  # type: ignore[attr-defined]
        assert json.loads(rig.deliver().body)["maSoBhxh"] == "9900000001"
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(settings={**SETTINGS, "reply_codes": {**CODES, "success": []}})
        assert caught.value.facts["code"] == "25"

    def test_without_the_setting_every_200_is_an_answer(self, rig: Rig) -> None:
        rig.fault("error", code="25", message="Lỗi")
        assert json.loads(rig.deliver(settings={"auth": "oauth2"}).body)["errorCode"] == "25"

    def test_the_commands_of_the_manual_ask_the_twin(self, rig: Rig) -> None:
        page = (ROOT / "docs" / "partners" / "social_insurance.md").read_text("utf-8")
        (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        name, _, password = rig.sandbox.credentials["social_insurance"].partition(":")
        said = subprocess.run(
            ["sh", "-euc", commands.replace("http://127.0.0.1:8090", rig.server.url)],
            env={"PATH": os.environ["PATH"], "NAME": name, "PASSWORD": password},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
        assert said.count("Đang tham gia") == 3


@pytest.mark.parametrize(
    "body, problem",
    [
        (b'{"errorCode":"0"}', None),
        (b'{"errorCode":"000"}', None),
        (b'{"errorCode":0}', None),
        (b'{"errorCode":""}', None),
        (b'{"errorCode":null}', None),
        (b"{}", None),
        (b'{"errorCode":"25"}', None),
        (b'{"errorCode":25}', None),
        (b'{"maLoi":" 25 ","moTaLoi":"x"}', None),
        (b'{"errorCode":"0","maLoi":"7"}', ProviderRejected),
        (b'{"errorCode":"03"}', ProviderUnavailable),
        (b'{"errorCode":"7","trangThai":"Th\xc3\xa0nh c\xc3\xb4ng"}', ProviderRejected),
        (b'{"errorCode":"ma loi dai va la"}', ProviderRejected),
        (b'{"errorCode":true}', ProviderRejected),
        (b'{"errorCode":[]}', ProviderRejected),
        (b"[]", InvalidReply),
        (b"<html>", InvalidReply),
        (b"", InvalidReply),
    ],
)
def test_codes_are_judged_and_words_are_not(body: bytes, problem: Any) -> None:
    endpoint = Endpoint(connector="rest", url="http://bhxh.invalid", settings={"reply_codes": CODES})
    reply = Reply(body=body)
    if problem is None:
        assert check_codes(reply, endpoint) is reply
        return
    with pytest.raises(problem) as caught:
        check_codes(reply, endpoint)
    assert "ma loi" not in caught.value.detail("vi")


@pytest.mark.parametrize("rules", ["errorCode", {"members": "errorCode"}, {"members": [1]}, {"success": {"25": 1}}])
def test_rules_of_another_form_wait_for_the_operator(rules: Any) -> None:
    endpoint = Endpoint(connector="rest", url="http://bhxh.invalid", settings={"reply_codes": rules})
    with pytest.raises(ProviderUnavailable) as caught:
        check_codes(Reply(body=b'{"errorCode":"1"}'), endpoint)
    assert caught.value.reason == "endpoint-invalid"


@pytest.mark.parametrize(
    "changes",
    [
        {"ngaySinh": "1999", "loaiNgaySinh": "0"},
        {"ngaySinh": "19990501", "loaiNgaySinh": "1"},
        {"ngaySinh": "199905", "loaiNgaySinh": "1"},
        {"ngaySinh": "01/05/1999"},
        {"ngaySinh": 19990501},
        {"loaiNgaySinh": "3"},
        {"gioiTinh": "0"},
        {"gioiTinh": 1},
        {"maTinhKs": "1"},
        {"maTinhKs": 31},
        {"maXaKs": "1156"},
        {"maHuyenKs": None},
        {"isKs": "2"},
        {"hoTen": ""},
        {"them": "1"},
    ],
)
def test_questions_that_the_insurance_would_choke_on_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SchemaViolation):
        check("number", json.dumps(example("number") | changes).encode())


def test_the_demonstration_registers_what_is_tested_here() -> None:
    documents = list(yaml.safe_load_all((ROOT / "bus" / "demo" / "province.yaml").read_text("utf-8")))
    paths = {
        document["code"].removeprefix("social-insurance."): document["provider"]["http"]["path"]
        for document in documents
        if document["kind"] == "Service" and document["code"].startswith("social-insurance.")
    }
    assert paths == {name: call(name).path for name in OPERATIONS}
