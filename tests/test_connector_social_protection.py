"""The social-protection connector, bound to the contract; XML inside a JSON string (P5)."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from connectors.base import Reply
from connectors.social_protection import carries_doctype, judged
from schemas.problem import InvalidReply, ProviderRejected, ProviderUnavailable
from schemas.validation import compile_schema
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "schemas" / "partners" / "social_protection"
XXE = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]><ExtentData>&e;</ExtentData>'
LAUGHS = '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><ExtentData>&b;</ExtentData>'


def example(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.example.json").read_bytes())
    return document


def dossier(number: int = 1, **changes: Any) -> dict[str, Any]:
    return example("dossier") | {"MaHoSo": f"H99.15-260423-{number:04d}"} | changes


DAYS = {"tuNgay": "22/04/2026", "denNgay": "23/04/2026"}


class TestSocialProtection(ConnectorContract):
    bound = Binding(
        connector="social_protection",
        path="/social_protection",
        operation="DongBoDVC",
        service="social-protection.dossier",
        payload=dossier,
        effects=lambda state: len(state["dossiers"]),
        logs_in=False,
    )

    def test_xml_inside_a_string_goes_there_and_back_as_it_was(self, rig: Rig) -> None:
        extent = '<ExtentData a="1">\n <TenGiayTo>Quyết định &amp; "biên bản" \\ &#273;</TenGiayTo></ExtentData>'
        parcel = parcel_of("social-protection.dossier", dossier(CertificateExtentData=extent))
        rig.deliver(parcel)
        kept = rig.sandbox.twins["social_protection"].state()["dossiers"]["H99.15-260423-0001"]
        assert kept == json.loads(parcel.body)
        reply = rig.deliver(parcel_of("social-protection.results", DAYS))
        (row,) = json.loads(reply.body)["result"]["data"]
        assert row["certificateExtentData"] == extent
        compile_schema(json.loads((FOLDER / "results-reply.schema.json").read_bytes())).validate(
            reply.body, reply.content_type
        )

    def test_progress_follows_its_dossier_and_waits_for_it(self, rig: Rig) -> None:
        row = parcel_of("social-protection.progress", example("progress"))
        with pytest.raises(ProviderUnavailable):
            rig.deliver(row)
        rig.deliver()
        rig.deliver(row)
        rig.deliver(row)
        assert len(rig.sandbox.twins["social_protection"].state()["progress"]["H99.15-260423-0001"]) == 1

    @pytest.mark.parametrize("extent", [XXE, LAUGHS, f"<!-- x -->\n{XXE}"])
    def test_xml_with_a_dtd_never_leaves(self, rig: Rig, extent: str) -> None:
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of("social-protection.dossier", dossier(CertificateExtentData=extent)))
        assert rig.server.requests == []

    def test_xml_with_a_dtd_never_arrives(self, rig: Rig) -> None:
        rig.deliver(parcel_of("social-protection.dossier", dossier(CertificateExtentData="")))
        rig.sandbox.twins["social_protection"].extent = XXE  # type: ignore[attr-defined]
        with pytest.raises(InvalidReply) as caught:
            rig.deliver(parcel_of("social-protection.results", DAYS))
        assert caught.value.reason == "embedded-xml-doctype"
        assert "hostname" not in caught.value.detail("vi") + repr(caught.value)

    def test_xml_that_is_broken_holds_up_no_list(self, rig: Rig) -> None:
        rig.deliver(parcel_of("social-protection.dossier", dossier(1, CertificateExtentData="<ExtentData>&")))
        rig.deliver(parcel_of("social-protection.dossier", dossier(2)))
        reply = rig.deliver(parcel_of("social-protection.results", DAYS))
        assert len(json.loads(reply.body)["result"]["data"]) == 2

    def test_a_wrong_key_is_told_without_the_key(self, rig: Rig) -> None:
        rig.secret = b"truc-lgsp:sai-mat-khau"
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver()
        assert "sai-mat-khau" not in caught.value.detail("vi") + repr(caught.value)

    def test_the_key_alone_is_a_secret_too(self, rig: Rig) -> None:
        rig.secret = rig.secret.partition(b":")[2]
        assert rig.deliver().status == 200

    def test_a_payload_with_a_key_of_its_own_never_leaves(self, rig: Rig) -> None:
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of("social-protection.dossier", dossier(AcceptKey="thử")))
        assert rig.server.requests == []

    def test_the_words_for_a_repeat_are_a_setting(self, rig: Rig) -> None:
        rig.deliver()
        rig.sandbox.twins["social_protection"].wording["exists"] = "Trùng mã hồ sơ"  # type: ignore[attr-defined]
        with pytest.raises(ProviderRejected):
            rig.deliver()
        rig.deliver(settings={"wording": {"exists": ["trùng mã"]}})

    @pytest.mark.parametrize(
        "answer, problem",
        [
            ({"error_code": "0"}, None),
            ({"error_code": 0, "message": "Lỗi"}, None),
            ({"result": {"error_code": 0, "data": None}}, None),
            ({"result": {"error_code": "00", "data": ["x", {"certificateExtentData": 5}]}}, None),
            ({"error_code": "7", "message": "ĐÃ TỒN TẠI"}, None),
            ({"error_code": "7", "message": "thành công"}, ProviderRejected),
            ({"error_code": -1}, ProviderUnavailable),
            ({"error_code": None}, ProviderRejected),
            ({"error_code": True}, ProviderRejected),
            ({"result": {"error_code": 5}, "error_code": "0"}, ProviderRejected),
            ({"result": {}}, InvalidReply),
            ({}, InvalidReply),
        ],
    )
    def test_codes_are_told_apart_in_both_wrappers(self, rig: Rig, answer: Any, problem: Any) -> None:
        reply = Reply(body=json.dumps(answer).encode())
        if problem is None:
            assert judged(reply, rig.endpoint) is reply
            return
        with pytest.raises(problem):
            judged(reply, rig.endpoint)

    def test_the_commands_of_the_manual_work(self, rig: Rig) -> None:
        page = (ROOT / "docs" / "partners" / "social_protection.md").read_text("utf-8")
        (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        said = subprocess.run(
            ["sh", "-euc", commands.replace("http://127.0.0.1:8090", rig.server.url)],
            env={
                "PATH": os.environ["PATH"],
                "PASSWORD": rig.sandbox.credentials["social_protection"].partition(":")[2],
            },
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
        assert said.count("Đồng bộ thành công") == 3
        assert "certificateExtentData" in said


@pytest.mark.parametrize(
    "text, found",
    [
        ("<a/>", False),
        ("", False),
        ("không phải XML", False),
        ("<a>&lt;!DOCTYPE</a>", False),
        ("<a><![CDATA[<!DOCTYPE x>]]></a>", False),
        ("<a>&", False),
        ("<!DOCTYPE a><a/>", True),
        (XXE, True),
        (LAUGHS, True),
        ("\ufeff<!DOCTYPE a><a/>", True),
        ("<!doctype a><a>&", True),
        ("x<!DOCTYPE a><a/>", True),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><a/>', True),
        ("\ud800<!DOCTYPE a><a/>", True),
    ],
)
def test_a_dtd_is_found_wherever_it_hides(text: str, found: bool) -> None:
    assert carries_doctype(text) is found
