"""Criminal record: the connector bound to the contract, pull and acknowledge, batches, VNeID's own calls."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from connectors.base import Incoming, PartnerCall
from connectors.criminal_record import (
    OPERATIONS,
    CriminalRecordReceiver,
    batches,
)
from connectors.sandbox.app import Sandbox, SandboxConfig, create_sandbox
from connectors.sandbox.faults import Fault
from registry.model import Endpoint
from schemas.codes import LOCAL_STATUSES
from schemas.identifiers import SystemCode
from schemas.moment import utc_now
from schemas.problem import (
    InternalFailure,
    InvalidReply,
    Malformed,
    NotFound,
    NotIdentified,
    Problem,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    SchemaViolation,
)
from schemas.validation import compile_schema
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of
from tests.loopback import serving

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "schemas" / "partners" / "criminal_record"
SYSTEM = SystemCode("G99.18/ly-lich")


def recorded(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.example.json").read_bytes())
    return document


def receipt(number: int) -> str:
    return f"H99.15-260423-{number:04d}"


def declaration(number: int = 1, **form: Any) -> dict[str, Any]:
    document = recorded("register") | {"idReceivedDec": receipt(number)}
    return document | {"declarationWSForm": document["declarationWSForm"] | form}


def status(number: int = 1, **changes: Any) -> dict[str, Any]:
    return recorded("sync") | {"maHoSoMCDT": receipt(number)} | changes


def ask(rig: Rig, service: str, **question: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(rig.deliver(parcel_of(f"criminal-record.{service}", question)).body)
    schema = compile_schema(json.loads((FOLDER / "reply.schema.json").read_bytes()))
    schema.validate(json.dumps(answer).encode(), "application/json")
    return answer


def listed(rig: Rig) -> list[dict[str, Any]]:
    return list(ask(rig, "statuses", infoType=2)["LISTCONTENT"])


def acknowledge(rig: Rig, *items: Mapping[str, Any]) -> str:
    """What an agency sends for the items of a list that it has saved."""
    numbers = ";".join(str(item["DECLARATION_ID"]) for item in items)
    return str(ask(rig, "acknowledge", declarationId=numbers, infoType=2)["STATUS"])


def go_on(rig: Rig, number: int) -> None:
    url = f"{rig.server.url}/criminal_record/so/xu-ly"
    requests.post(url, json={"idReceivedDec": receipt(number)}, timeout=10).raise_for_status()


class TestDeclarations(ConnectorContract):
    bound = Binding(
        connector="criminal_record",
        path="/criminal_record",
        operation="nhanHoSoDangKy",
        service="criminal-record.register",
        payload=declaration,
        effects=lambda state: len(state["declarations"]),
    )

    def test_the_bytes_that_were_signed_are_the_bytes_that_go(self, rig: Rig) -> None:
        body = json.dumps(declaration(), ensure_ascii=False, indent=3).encode()
        sent: list[bytes] = []

        def listens(environ: Any, start_response: Any) -> Any:
            sent.append(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0)))
            start_response("200 OK", [("Content-Type", "application/json")])
            return [b'{"STATUS":1,"access_token":"t"}']

        with serving(listens) as server:
            rig.deliver(parcel_of("criminal-record.register", body), url=server.url)
        assert sent == [b"grant_type=client_credentials", body]

    def test_a_receipt_number_that_is_there_already_means_an_attempt_before_arrived(self, rig: Rig) -> None:
        rig.deliver()
        assert json.loads(rig.deliver().body)["STATUS"] == "0"
        assert rig.sandbox.twins["criminal_record"].state()["duplicates"] == 1
        rig.sandbox.twins["criminal_record"].wording["again"] = "Trùng biên nhận"  # type: ignore[attr-defined]
        with pytest.raises(ProviderUnavailable):
            rig.deliver()
        assert rig.deliver(settings={"wording": {"received": ["trùng BIÊN nhận"]}}).status == 200

    @pytest.mark.parametrize("birth", ["1985", "01/1985", "02/01/1985"])
    def test_a_birth_may_be_known_in_part(self, rig: Rig, birth: str) -> None:
        assert rig.deliver(parcel_of("criminal-record.register", declaration(birthDateStr=birth))).status == 200

    @pytest.mark.parametrize(
        "form", [{"birthDateStr": "1985-01-02"}, {"birthDateStr": "13/1985"}, {"fullName": ""}, {"declareDate": "2026"}]
    )
    def test_wrong_data_are_final_by_their_words(self, rig: Rig, form: Mapping[str, Any]) -> None:
        parcel = parcel_of("criminal-record.register", declaration(**form))
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel)
        with pytest.raises(ProviderUnavailable):
            rig.deliver(parcel, settings={"wording": {"final": []}})

    def test_a_refusal_that_says_nothing_is_tried_again(self, rig: Rig) -> None:
        for message in ("", "Lỗi hệ thống", "đang bảo trì"):
            rig.fault("error", message=message)
            with pytest.raises(ProviderUnavailable):
                rig.deliver()

    @pytest.mark.parametrize(
        "body", [b"[]", b"{}", b'{"STATUS":"2"}', b'{"STATUS":null}', b'{"status":"1"}', b'{"STATUS":true}']
    )
    def test_an_answer_without_a_status_is_no_answer(self, rig: Rig, body: bytes) -> None:
        def answers(environ: Any, start_response: Any) -> Any:
            start_response("200 OK", [("Content-Type", "application/json")])
            return [b'{"access_token":"t"}' if environ["PATH_INFO"].endswith("token") else body]

        with serving(answers) as server, pytest.raises(InvalidReply):
            rig.deliver(url=server.url)

    def test_the_space_in_an_address_is_the_partners_own(self, rig: Rig) -> None:
        question = parcel_of("criminal-record.status", recorded("status"))
        path = "LLTP-API- traTrangThaiHs"
        assert b"STATUS" in rig.deliver(question, settings={"paths": {"traTrangThaiHs": path}}).body
        assert rig.server.requests[-1][1] == f"/criminal_record/{path}"

    def test_not_found_is_an_answer(self, rig: Rig) -> None:
        assert ask(rig, "status", **recorded("status"))["STATUS"] == "0"
        rig.deliver(rig.parcel(2))
        assert ask(rig, "status", **recorded("status"))["LISTCONTENT"][0]["DEC_STATUS_ID"] == 3
        assert ask(rig, "status", **recorded("status") | {"identifyNo": "099199000001"})["STATUS"] == "0"

    @pytest.mark.parametrize("payload", [[], b"{", b"\xff", b'{"a":1,"a":2}'])
    def test_a_payload_of_another_shape_never_leaves(self, rig: Rig, payload: Any) -> None:
        for service in OPERATIONS:
            with pytest.raises(ProviderRejected):
                rig.deliver(parcel_of(service, payload))
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of("something.else", {}))
        assert rig.server.requests == []

    # ---- Pull and acknowledge (P26)

    def test_asking_never_acknowledges(self, rig: Rig) -> None:
        rig.deliver(rig.parcel(1))
        rig.deliver(rig.parcel(2))
        assert listed(rig) == listed(rig)
        assert [item["RECEIVE_NO"] for item in listed(rig)] == [receipt(1), receipt(2)]
        assert not any("danhDau" in path for _, path, _ in rig.server.requests)

    def test_what_is_acknowledged_is_gone_until_it_changes_again(self, rig: Rig) -> None:
        rig.deliver(rig.parcel(1))
        rig.deliver(rig.parcel(2))
        saved = listed(rig)
        go_on(rig, 2)  # after the list was read, before the acknowledgement
        acknowledge(rig, saved[0])
        assert [item["DEC_STATUS_ID"] for item in listed(rig)] == [4]
        acknowledge(rig, *listed(rig))
        assert listed(rig) == []
        go_on(rig, 1)
        assert [
            (item["DECLARATION_ID"], LOCAL_STATUSES["criminal-record"].national[str(item["DEC_STATUS_ID"])])
            for item in listed(rig)
        ] == [(1, "4")]

    @pytest.mark.parametrize("kind", ["reset", "truncate"])
    def test_a_list_that_is_lost_on_its_way_comes_again(self, rig: Rig, kind: str) -> None:
        rig.deliver()
        question = parcel_of("criminal-record.statuses", {"infoType": 2})
        rig.sandbox.dial.turn("criminal_record", [Fault(kind=kind, service="traDsTrangThaiHs", count=1, acts=True)])
        with pytest.raises(ProviderUnavailable):
            rig.deliver(question)
        assert len(json.loads(rig.deliver(question).body)["LISTCONTENT"]) == 1

    def test_one_acknowledgement_too_many_does_no_harm(self, rig: Rig) -> None:
        rig.deliver()
        items = listed(rig)
        assert [acknowledge(rig, *items), acknowledge(rig, *items)] == ["1", "1"]

    @pytest.mark.parametrize("listing", ["9", "1;9", "1,2", ";", "", "1;"])
    def test_an_acknowledgement_of_nothing_is_final_and_takes_nothing(self, rig: Rig, listing: str) -> None:
        rig.deliver()
        with pytest.raises(ProviderRejected):
            ask(rig, "acknowledge", declarationId=listing, infoType=2)
        assert len(listed(rig)) == 1


class TestVneid(ConnectorContract):
    bound = Binding(
        connector="criminal_record",
        path="/criminal_record",
        operation="dongBoTrangThai",
        service="criminal-record.sync",
        payload=status,
        effects=lambda state: len(state["synced"]),
    )

    @pytest.mark.parametrize(
        "code, problem",
        [("01", ProviderRejected), ("03", ProviderUnavailable), ("99", ProviderUnavailable), ("", InvalidReply)],
    )
    def test_interrupted_comes_again_and_wrong_does_not(self, rig: Rig, code: str, problem: type[Exception]) -> None:
        rig.fault("error", code=code, message="")
        with pytest.raises(problem):
            rig.deliver()

    def test_after_an_interruption_the_same_batch_is_taken(self, rig: Rig) -> None:
        parcel = parcel_of("criminal-record.sync", {"data": [status(number) for number in range(1, 101)]})
        rig.fault("error", code="03", count=1, acts=True)
        with pytest.raises(ProviderUnavailable):
            rig.deliver(parcel)
        rig.deliver(replace(parcel, attempt=2))
        assert rig.effects() == 100

    @pytest.mark.parametrize(
        "settings, sizes", [({}, [40, 40, 20]), ({"batch": 1000}, [100]), ({"batch": 99}, [99, 1])]
    )
    def test_a_list_goes_in_batches(self, rig: Rig, settings: Mapping[str, Any], sizes: list[int]) -> None:
        parcel = parcel_of("criminal-record.sync", {"data": [status(number) for number in range(1, 101)]})
        rig.deliver(parcel, settings=settings)
        assert rig.sandbox.twins["criminal_record"].state()["batches"] == sizes
        assert rig.sandbox.twins["criminal_record"].state()["logins"] == 1

    def test_all_batches_share_one_time_limit(self, rig: Rig) -> None:
        rig.fault("stall", seconds=0.2)
        parcel = parcel_of("criminal-record.sync", {"data": [status(number) for number in range(1, 11)]})
        with pytest.raises(ProviderTimeout):
            rig.deliver(parcel, settings={"batch": 1}, timeout_seconds=0.5)

    @pytest.mark.parametrize("size", [0, -1, 1001, "40", True, None, 2.5])
    def test_a_batch_of_no_size_waits_for_the_operator(self, rig: Rig, size: Any) -> None:
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver(settings={"batch": size})
        assert caught.value.facts == {"setting": "batch"}

    def test_what_a_code_means_is_a_setting(self, rig: Rig) -> None:
        rig.fault("error", code="01", message="")
        with pytest.raises(ProviderUnavailable):
            rig.deliver(settings={"codes": {"01": "later"}})
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver(settings={"codes": {"01": "perhaps"}})
        assert caught.value.reason == "endpoint-invalid"

    @pytest.mark.parametrize("rows", [[], {}, None, "x", [1], [{}, []]])
    def test_a_list_of_nothing_never_leaves(self, rig: Rig, rows: Any) -> None:
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of("criminal-record.sync", {"data": rows}))
        assert rig.server.requests == []


def test_one_status_goes_as_it_was_signed() -> None:
    body = b'{ "maHoSoMCDT" : "H99.15-260423-0003" }'
    assert list(batches(body, json.loads(body), 40)) == [body]


@pytest.mark.parametrize(
    "name, document",
    [
        ("acknowledge", {"declarationId": "1, 2", "infoType": 2}),
        ("acknowledge", {"declarationId": "", "infoType": 2}),
        ("acknowledge", {"declarationId": "1"}),
        ("statuses", {"infoType": 3}),
        ("sync", {"data": [recorded("sync")] * 1001}),
        ("sync", {"trangThaiXuLy": "4"}),
        ("register", declaration(birthDateStr="1985-01-02")),
        ("register", declaration(declareTypeId=1)),
        ("submitted", {"maHoSoMCDT": "x", "toKhai": {"loaiPhieu": 3}}),
    ],
)
def test_what_the_partner_would_choke_on_is_refused_at_the_door(name: str, document: Any) -> None:
    schema = compile_schema(json.loads((FOLDER / f"{name}.schema.json").read_bytes()))
    with pytest.raises(SchemaViolation):
        schema.validate(json.dumps(document).encode(), "application/json")


# ---- VNeID calls us

SECRET = b'{"user": "u", "secret": "s", "callback": "bi-mat-thu"}'
ENDPOINT = Endpoint(
    connector="criminal_record",
    url="http://127.0.0.1:9",
    secret="criminal-record",
    settings={"inbound": {"receiver": "H99.15"}},
)


def call(body: Any, **changes: Any) -> PartnerCall:
    made = PartnerCall(
        method="POST",
        path="ho-so",
        query={},
        headers={"authorization": "Bearer bi-mat-thu"},
        body=body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode(),
        content_type="application/json",
        received_at=utc_now(),
        system=SYSTEM,
    )
    return replace(made, **changes)


def received(body: Any, **changes: Any) -> Incoming:
    incoming = CriminalRecordReceiver().receive(call(body, **changes), ENDPOINT, SECRET)
    assert isinstance(incoming, Incoming)
    return incoming


def test_a_dossier_of_vneid_is_a_message_in_its_own_bytes() -> None:
    body = (FOLDER / "submitted.example.json").read_bytes()
    incoming = received(body)
    assert (incoming.body, incoming.service, incoming.receivers) == (body, "criminal-record.submitted", ("H99.15",))
    assert incoming.dossier == "H99.15-260423-0003"


def test_the_same_dossier_is_one_message_and_its_supplement_another() -> None:
    first, supplement = recorded("submitted"), recorded("submitted") | {"ngayTiepNhan": "24/04/2026"}
    assert received(first).message_id == received(first).message_id != received(supplement).message_id


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer sai"}, {"authorization": "bi-mat-thu"}])
def test_a_call_without_the_proof_is_not_vneids(headers: Mapping[str, str]) -> None:
    with pytest.raises(NotIdentified):
        received(recorded("submitted"), headers=headers)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", {"maHoSoMCDT": None}, {"maHoSoMCDT": "x" * 101}, {"maHoSoMCDT": []}]
)
def test_what_names_no_dossier_is_refused(body: Any) -> None:
    with pytest.raises(Malformed):
        received(body)


@pytest.mark.parametrize("changes", [{"path": "khac"}, {"method": "GET"}])
def test_other_addresses_are_nobodys(changes: dict[str, str]) -> None:
    with pytest.raises(NotFound):
        received(recorded("submitted"), **changes)


@pytest.mark.parametrize("inbound", [{}, {"receiver": None}, {"receiver": "h99"}])
def test_where_nobody_takes_the_message_the_caller_comes_again(inbound: dict[str, Any]) -> None:
    endpoint = replace(ENDPOINT, settings={"inbound": inbound})
    with pytest.raises(ProviderUnavailable) as caught:
        CriminalRecordReceiver().receive(call(recorded("submitted")), endpoint, SECRET)
    assert caught.value.facts == {"setting": "inbound"}


@pytest.mark.parametrize(
    "problem, code",
    [
        (NotIdentified("partner-proof-wrong"), "01"),
        (SchemaViolation("json-invalid"), "01"),
        (ProviderUnavailable("provider-unreachable"), "03"),
        (InternalFailure(), "03"),
    ],
)
def test_success_is_said_only_for_what_is_recorded(problem: Problem, code: str) -> None:
    answer = CriminalRecordReceiver().answer(call(b""), received(recorded("submitted")), problem)
    assert json.loads(answer.body)["statusCode"] == code


def test_the_commands_of_the_manual_ask_the_twin(tmp_path: Path) -> None:
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json"))
    sandbox: Sandbox = app.extensions["sandbox"]
    page = (ROOT / "docs" / "partners" / "criminal_record.md").read_text("utf-8")
    (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    credential = json.loads(sandbox.credentials["criminal_record"])
    with serving(app) as server:
        said = subprocess.run(
            ["sh", "-euc", commands.replace("http://127.0.0.1:8090", server.url)],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "NAME": credential["user"], "SECRET": credential["secret"]},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
    sandbox.close()
    assert said.count('"STATUS":"1"') == 4
    assert said.count('"DECLARATION_ID":1') == 2
    assert '"LISTCONTENT":[]' in said
    assert '"statusCode":"00"' in said
