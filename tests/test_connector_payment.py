"""The payment platform: its connector and its notices, bound to the contract, and what must never be believed."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from connectors.base import Answer, Incoming, PartnerCall, Reply
from connectors.payment import DIGESTS, Notice, PaymentReceiver, Protocol, told_inside
from connectors.payment_digest import HMAC_SHA256, digest, joined, read_money, write_time
from connectors.sandbox.app import Sandbox, SandboxConfig, create_sandbox
from registry.model import DeliveryMode, Endpoint, Grant, Pattern, Service, System
from schemas.identifiers import ServiceCode, SystemCode
from schemas.message import Grade
from schemas.problem import (
    InternalFailure,
    InvalidReply,
    Malformed,
    NotFound,
    NotIdentified,
    Problem,
    ProviderRejected,
    ProviderUnavailable,
    SchemaViolation,
)
from schemas.validation import compile_schema
from tests.bus_world import MINISTRY, RECEIVER, World, bus_world
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of
from tests.loopback import Recorded, serving

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "schemas" / "partners" / "payment"
SECRET = b"DT-SANDBOX:SANDBOX-SECRET-01"
SYSTEM = SystemCode("G99.30/thanh-toan")
ENDPOINT = Endpoint(
    connector="payment", url="http://127.0.0.1:9", secret="payment", settings={"inbound": {"receiver": "H99.15"}}
)
WHEN = datetime(2026, 4, 23, 3, 1, 31, tzinfo=UTC)


def example(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.example.json").read_bytes())
    return document


def init(number: int = 1, **changes: Any) -> dict[str, Any]:
    """An INIT without digest and partner code, which the bus puts in."""
    document = {k: v for k, v in example("payment-init").items() if k not in ("MaXacThuc", "MaDoiTac")}
    return document | {"MaThamChieu": f"HP{number:04d}260423100001"} | changes


def question(kind: str = "QUERY", number: int = 1) -> dict[str, Any]:
    reference = f"HP{number:04d}260423100001"
    return {"LoaiBanTin": kind, "PhienBan": "1.0.6", "MaThamChieu": reference, "ThoiGianGD": "20260423100500"}


class TestPayment(ConnectorContract):
    bound = Binding(
        connector="payment",
        path="/payment",
        operation="INIT",
        service="payment.init",
        payload=init,
        effects=lambda state: len(state["transactions"]),
        logs_in=False,
    )

    def test_a_payer_gets_an_address_and_the_answer_stays_json_in_a_string(self, rig: Rig) -> None:
        document = json.loads(rig.deliver().body)
        assert isinstance(document["message"], str)
        assert told_inside(document)["UrlThanhToan"].endswith("/payment/pay/HP0001260423100001")
        assert requests.get(told_inside(document)["UrlThanhToan"], timeout=10).status_code == 200

    def test_a_payload_with_its_own_digest_travels_byte_for_byte(self, rig: Rig) -> None:
        protocol = Protocol.of(rig.endpoint, rig.secret)
        document = init(MaDoiTac="DT-SANDBOX", ThongTinGiaoDich="Lệ phí")
        body = json.dumps(document | {"MaXacThuc": protocol.digest("INIT", document)}, indent=3).encode()
        assert rig.deliver(parcel_of("payment.init", body)).status == 200
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(parcel_of("payment.init", document | {"MaXacThuc": "0" * 64}))
        assert caught.value.reason == "payment-digest-wrong"

    def test_money_beyond_32_bits_arrives_whole(self, rig: Rig) -> None:
        rig.deliver(parcel_of("payment.init", example("payment-init.2")))
        (kept,) = rig.sandbox.twins["payment"].state()["transactions"].values()
        assert kept["SoTien"] == "2147483648000"

    @pytest.mark.parametrize("state", ["1", "3", "4"])
    def test_every_state_of_a_transaction_is_an_answer(self, rig: Rig, state: str) -> None:
        rig.deliver()
        pay(rig.server, TrangThaiGD=state)
        document = json.loads(rig.deliver(parcel_of("payment.query", question())).body)
        assert told_inside(document)["TrangThaiGD"] == state

    def test_a_receipt_is_a_pdf_once_it_is_paid(self, rig: Rig) -> None:
        rig.deliver()
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of("payment.bill", question("GET_BILL")))
        pay(rig.server)
        reply = rig.deliver(parcel_of("payment.bill", question("GET_BILL")))
        assert (reply.body[:5], reply.content_type) == (b"%PDF-", "application/pdf")

    def test_a_reference_that_is_used_again_for_something_else_is_refused(self, rig: Rig) -> None:
        rig.deliver()
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of("payment.init", init(SoTien="1")))
        assert rig.effects() == 1

    @pytest.mark.parametrize(
        ("service", "payload", "reason"),
        [
            ("payment.init", init(SoTien="150.000"), "payload-not-for-partner"),
            ("payment.init", init(SoTien="0"), "payload-not-for-partner"),
            ("payment.init", init(SoTien="-5"), "payload-not-for-partner"),
            ("payment.init", init(SoTien=150000.0), "payload-not-for-partner"),
            ("payment.init", init(SoTien=True), "payload-not-for-partner"),
            ("payment.init", init(SoTien="9" * 19), "payload-not-for-partner"),
            ("payment.init", init(ThoiGianGD="23/04/2026 10:00:00"), "payload-not-for-partner"),
            ("payment.init", init(ThoiGianGD="20260423250000"), "payload-not-for-partner"),
            ("payment.init", init(MaThamChieu="HP|1"), "payload-not-for-partner"),
            ("payment.init", init(Ip=["203.0.113.10"]), "payload-not-for-partner"),
            ("payment.init", init(LoaiBanTin="QUERY"), "payload-not-for-partner"),
            ("payment.init", init(MaDoiTac="DT-KHAC"), "payment-partner-differs"),
            ("payment.query", question() | {"ThoiGianGD": ""}, "payload-not-for-partner"),
            ("payment.refund", init(), "service-not-of-partner"),
            ("payment.init", b"[]", "payload-not-for-partner"),
        ],
    )
    def test_what_would_be_paid_wrongly_never_leaves(self, rig: Rig, service: str, payload: Any, reason: str) -> None:
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(parcel_of(service, payload))
        assert caught.value.reason == reason
        assert rig.server.requests == []

    def test_the_clock_of_twelve_hours_is_noticed(self, rig: Rig) -> None:
        afternoon = datetime(2026, 4, 23, 6, 30, 5, tzinfo=UTC)  # 13:30 here
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(parcel_of("payment.init", init(ThoiGianGD="20260423013000"), at=afternoon))
        assert caught.value.reason == "payment-clock-of-twelve"
        rig.deliver(parcel_of("payment.init", init(ThoiGianGD="20260423133000"), at=afternoon))

    @pytest.mark.parametrize("code, problem", [("-1", ProviderUnavailable), ("3", ProviderRejected)])
    def test_the_code_decides_whether_to_try_again(self, rig: Rig, code: str, problem: type[Problem]) -> None:
        rig.fault("error", code=code, message="Thanh toán thành công")
        with pytest.raises(problem):
            rig.deliver()

    @pytest.mark.parametrize(
        "message",
        ["", "{}", '{"UrlThanhToan":""}', '{"UrlThanhToan":"javascript:alert(1)"}', "{oops", '{"UrlThanhToan":5}'],
    )
    def test_a_yes_without_an_address_to_pay_at_is_no_answer(self, rig: Rig, message: str) -> None:
        rig.fault("error", code="0", message=message)
        with pytest.raises(InvalidReply):
            rig.deliver()

    @pytest.mark.parametrize(
        "settings", [{"algorithm": "md5"}, {"digests": []}, {"digests": {"INIT": "MaLoi"}}, {"paths": {"INIT": 5}}]
    )
    def test_settings_that_cannot_work_wait_for_the_operator(self, rig: Rig, settings: Any) -> None:
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver(settings=settings)
        assert caught.value.reason == "endpoint-invalid"


def pay(server: Recorded, number: int = 1, **wish: Any) -> Any:
    """The payer pays at the twin."""
    wish = {"MaThamChieu": f"HP{number:04d}260423100001", **wish}
    answer = requests.post(f"{server.url}/_sandbox/payment/pay", json=wish, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()


# ---- Digests


@pytest.mark.parametrize(
    "kind, name", [("INIT", "payment-init"), ("CONFIRM", "payment-notice"), ("GET_BILL", "payment-bill")]
)
def test_the_digests_are_those_of_the_test_vectors(kind: str, name: str) -> None:
    document = example(name)
    assert digest(joined(document, DIGESTS[kind]), b"SANDBOX-SECRET-01") == document["MaXacThuc"]


def test_the_description_stands_before_the_time_in_one_message_and_behind_it_in_the_other() -> None:
    for kind, step in (("INIT", -1), ("CONFIRM", 1)):
        assert DIGESTS[kind].index("ThongTinGiaoDich") - DIGESTS[kind].index("ThoiGianGD") == step


def test_two_ways_to_cut_the_same_text_do_not_share_a_digest() -> None:
    with pytest.raises(ValueError, match="MaThamChieu"):
        joined({"MaThamChieu": "HP1|5", "SoTien": "0"}, ("MaThamChieu", "SoTien"))


def test_hmac_is_another_family() -> None:
    # RFC 4231, test case 2
    assert digest("what do ya want for nothing?", b"Jefe", HMAC_SHA256) == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


@pytest.mark.parametrize(
    "value, money",
    [
        *(("150000", 150_000), (150_000, 150_000), ("2147483648", 2**31), ("9" * 18, 10**18 - 1)),
        *(
            (text, None)
            for text in ("", "0", "00150000", "-1", "+1", "1e5", "150.000", "150,000", " 1", "１５", "9" * 19)
        ),
        *((None, None), (True, None), (1.0, None), ([], None), (0, None), (-1, None)),
    ],
)
def test_money_is_whole_dong_or_nothing(value: object, money: int | None) -> None:
    assert read_money(value) == money


def test_the_hour_is_written_from_00_to_23() -> None:
    assert write_time(datetime(2026, 4, 23, 6, 30, tzinfo=UTC)) == "20260423133000"


# ---- Notices


def confirm(endpoint: Endpoint = ENDPOINT, **changes: Any) -> bytes:
    """A notice with a digest that holds, unless it is among the changes."""
    document = {k: v for k, v in example("payment-notice").items() if k != "MaXacThuc"} | changes
    document = {name: value for name, value in document.items() if value is not ...}
    if "MaXacThuc" not in document:
        document["MaXacThuc"] = Protocol.of(endpoint, SECRET).digest("CONFIRM", document)
    return json.dumps(document, ensure_ascii=False).encode()


def call(body: bytes, path: str = "ipn", method: str = "POST") -> PartnerCall:
    return PartnerCall(
        method=method,
        path=path,
        query={},
        headers={},
        body=body,
        content_type="application/json",
        received_at=WHEN,
        system=SYSTEM,
    )


def receive(body: bytes, path: str = "ipn", endpoint: Endpoint = ENDPOINT) -> Incoming:
    incoming = PaymentReceiver().receive(call(body, path), endpoint, SECRET)
    assert isinstance(incoming, Incoming)
    return incoming


def test_a_notice_becomes_a_message_with_the_platforms_own_bytes() -> None:
    body = (FOLDER / "payment-notice.example.json").read_bytes()
    incoming = receive(body)
    assert (incoming.service, incoming.receivers, incoming.body) == ("payment.notice", ("H99.15",), body)


def test_the_answer_bears_a_digest_of_our_own() -> None:
    incoming = receive(confirm())
    taken = json.loads(PaymentReceiver().answer(call(b""), incoming, receipt()).body)
    assert list(taken) == ["MaLoi", "MoTaLoi", "MaDoiTac", "MaThamChieu", "ThoiGianGD", "MaXacThuc"]
    assert (taken["MaLoi"], taken["ThoiGianGD"]) == ("00", "20260423100131")
    text = f"00|{taken['MoTaLoi']}|DT-SANDBOX|HP0001260423100001|20260423100131"
    assert taken["MaXacThuc"] == digest(text, b"SANDBOX-SECRET-01") != json.loads(confirm())["MaXacThuc"]


def receipt() -> Any:
    from schemas.message import Receipt

    return object.__new__(Receipt)


@pytest.mark.parametrize("outcome", [InternalFailure(), NotFound("page-unknown"), Reply(body=b"x")])
def test_what_was_not_recorded_is_never_called_taken(outcome: Any) -> None:
    answer = json.loads(PaymentReceiver().answer(call(b""), receive(confirm()), outcome).body)
    assert answer["MaLoi"] == "99"


def test_a_notice_is_the_same_message_each_time_and_another_state_another() -> None:
    first, again = receive(confirm()), receive(confirm())
    cancelled, other = receive(confirm(MaLoi="99")), receive(confirm(MaGiaoDich="G22.99.1-260423000002"))
    assert first.message_id == again.message_id
    assert len({first.message_id, cancelled.message_id, other.message_id}) == 3
    # A sum that changes on the way does not make another message: the bus refuses the second one.
    assert receive(confirm(SoTien="1")).message_id == first.message_id


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"MaXacThuc": "0" * 64}, "payment-digest-wrong"),
        ({"MaXacThuc": ""}, "payment-digest-wrong"),
        ({"MaXacThuc": None}, "payment-digest-wrong"),
        ({"MaXacThuc": "é" * 64}, "payment-digest-wrong"),
        # The digest of the example, and a sum that is not the example's.
        ({"SoTien": "1", "MaXacThuc": example("payment-notice")["MaXacThuc"]}, "payment-digest-wrong"),
        (
            {"MaLoi": "00", "MaGiaoDich": "x", "MaXacThuc": example("payment-notice")["MaXacThuc"]},
            "payment-digest-wrong",
        ),
        ({"MaDoiTac": "DT-KHAC"}, "payment-partner-differs"),
        ({"MaDoiTac": ...}, "payment-partner-differs"),
        ({"LoaiBanTin": "INIT"}, "payment-notice-incomplete"),
        ({"MaThamChieu": ...}, "payment-notice-incomplete"),
        ({"MaLoi": ...}, "payment-notice-incomplete"),
        ({"SoTien": "-150000"}, "payment-notice-incomplete"),
        ({"SoTien": "1.5e5"}, "payment-notice-incomplete"),
        ({"SoTien": 150000.5, "MaXacThuc": "0" * 64}, "payment-notice-incomplete"),
        ({"MaThamChieu": "HP0001260423100001|150000", "MaXacThuc": "0" * 64}, "payment-notice-incomplete"),
    ],
)
def test_a_notice_that_proves_nothing_is_refused(changes: Mapping[str, Any], reason: str) -> None:
    body = confirm(**changes)
    with pytest.raises(Problem) as caught:
        receive(body)
    assert caught.value.reason == reason
    assert isinstance(caught.value, NotIdentified | Malformed)
    answer = PaymentReceiver().refuse(call(body), caught.value)
    told = json.loads(answer.body)
    assert (answer.status, told["MaLoi"], "MaXacThuc" in told) == (200, "99", False)
    assert "HP0001" not in answer.body.decode()


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"x"', b"{", b"\xff", b'{"MaLoi":"00","MaLoi":"99"}'])
def test_what_cannot_be_read_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        receive(body)


def test_numbers_are_taken_as_they_come() -> None:
    assert receive(confirm(SoTien=2_147_483_648_000)).service == "payment.notice"


def test_a_reference_that_was_never_given_out_is_refused() -> None:
    endpoint = replace(ENDPOINT, settings={"inbound": {"receiver": "H99.15", "reference_prefixes": ["HP"]}})
    assert receive(confirm(), endpoint=endpoint)
    with pytest.raises(NotFound) as caught:
        receive(confirm(MaThamChieu="ZZ0001"), endpoint=endpoint)
    assert caught.value.reason == "payment-reference-unknown"


@pytest.mark.parametrize(
    "text, dossier",
    [
        ("Thanh toan le phi ho so H99.15-260423-0001", "H99.15-260423-0001"),
        ("Ho so 000.00.15.H99-260423-0001, le phi.", "000.00.15.H99-260423-0001"),
        ("H99.15-260423-0001 va H99.15-260423-0002", None),
        ("H99.15-260231-0001", None),
        (None, None),
    ],
)
def test_the_dossier_is_the_one_that_the_description_names(text: str | None, dossier: str | None) -> None:
    assert receive(confirm(ThongTinGiaoDich=text)).dossier == dossier


@pytest.mark.parametrize("path", ["return?MaLoi=00", "ipn/x", "", "IPN"])
def test_there_is_nothing_at_other_places(path: str) -> None:
    with pytest.raises(NotFound):
        receive(confirm(), path)


def test_the_browser_is_shown_a_page_and_not_believed() -> None:
    for method in ("GET", "POST"):
        answer = PaymentReceiver().receive(call(confirm(), "return", method), ENDPOINT, SECRET)
        assert isinstance(answer, Answer)
        assert "không xác nhận" in answer.body.decode()
        assert b"HP0001" not in answer.body
    with pytest.raises(NotFound):
        PaymentReceiver().receive(call(confirm(), method="GET"), ENDPOINT, SECRET)


def test_no_secret_is_in_what_the_bus_carries_on() -> None:
    incoming = receive(confirm())
    assert isinstance(incoming, Notice)
    assert "SANDBOX-SECRET" not in repr(incoming) + repr(Protocol.of(ENDPOINT, SECRET))
    assert "Thanh toan thanh cong" in incoming.body.decode()


def payable(**changes: Any) -> bytes:
    document = {k: v for k, v in example("payment-payable").items() if k != "MaXacThuc"} | changes
    document.setdefault("MaXacThuc", Protocol.of(ENDPOINT, SECRET).digest("PAYABLE", document))
    return json.dumps(document).encode()


def test_the_platform_asks_what_is_to_be_paid_and_gets_the_agencys_own_words() -> None:
    assert payable() == json.dumps(example("payment-payable")).encode()
    incoming = receive(payable(), "payable")
    assert (incoming.service, incoming.dossier) == ("payment.payable", "H99.15-260423-0001")
    reply = Reply(body=b'{"error_code":"1","SoTien":"150000"}', content_type="application/json")
    assert PaymentReceiver().answer(call(b"", "payable"), incoming, reply).body == reply.body
    failed = PaymentReceiver().answer(call(b"", "payable"), incoming, InternalFailure())
    assert json.loads(failed.body)["error_code"] == "-1"


def test_who_owes_what_is_told_to_nobody_else() -> None:
    with pytest.raises(NotIdentified):
        receive(payable(MaXacThuc="0" * 64), "payable")
    with pytest.raises(Malformed):
        receive(payable(MaHoSo=""), "payable")


# ---- Through the bus


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path) as made:
        made.register(*platform())
        yield made


def platform() -> tuple[Any, ...]:
    code, notice = SystemCode(f"{MINISTRY}/thanh-toan"), ServiceCode("payment.notice")
    endpoint = replace(ENDPOINT, settings={"inbound": {"receiver": RECEIVER}})
    schema = json.loads((FOLDER / "payment-notice.schema.json").read_bytes())
    facts: dict[str, Any] = {"version": 1, "owner": MINISTRY, "pattern": Pattern.ONE_WAY, "grade": Grade.ATTESTED}
    return (
        System(code=code, name="Nền tảng", mode=DeliveryMode.PUSH, endpoint=endpoint, receives=(notice,)),
        Service(code=notice, name="Báo thanh toán", schema=schema, **facts),
        Grant(id="paid", service=notice, grantee=MINISTRY),
    )


@pytest.fixture
def street(world: World, tmp_path: Path) -> Iterator[tuple[Recorded, str, World]]:
    """The twin, and where the bus takes its notices."""
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json"))
    parts: Sandbox = app.extensions["sandbox"]
    credential = parts.credentials["payment"].encode()
    world.bus.registry.put_secret("payment", world.bus.secrets.seal("payment", credential), "test")
    document = init(MaDoiTac="DT-SANDBOX")
    document["MaXacThuc"] = Protocol.of(ENDPOINT, credential).digest("INIT", document)
    with serving(app) as server, world.serving() as url:
        requests.post(f"{server.url}/payment/init", json=document, timeout=10)
        yield server, f"{url}/partners/{MINISTRY}/thanh-toan", world
        parts.close()


def test_the_twins_notice_twice_is_one_message_and_two_thanks(street: tuple[Recorded, str, World]) -> None:
    server, address, world = street
    told = pay(server, ipn_url=f"{address}/ipn", times=2, return_url=f"{address}/return", redirect="before")
    assert [json.loads(answer)["MaLoi"] for answer in told["answers"]] == ["00", "00"]
    assert world.rows()["exchanges"] == 1


def test_a_second_notice_with_another_sum_is_refused(street: tuple[Recorded, str, World]) -> None:
    server, address, world = street
    first = pay(server, ipn_url=f"{address}/ipn")["answers"]
    second = pay(server, ipn_url=f"{address}/ipn", SoTien="1")["answers"]
    assert [json.loads(answer)["MaLoi"] for answer in (*first, *second)] == ["00", "99"]
    assert world.rows()["exchanges"] == 1


def test_a_wrong_digest_and_a_browsers_word_leave_no_message(street: tuple[Recorded, str, World]) -> None:
    server, address, world = street
    told = pay(server, ipn_url=f"{address}/ipn", digest="wrong", return_url=f"{address}/return")
    assert json.loads(told["answers"][0])["MaLoi"] == "99"
    assert world.rows()["exchanges"] == 0
    assert pay(server, TrangThaiGD="3", ipn_url=f"{address}/ipn")["answers"] == []


def test_the_platform_asks_through_the_bus_what_is_payable(street: tuple[Recorded, str, World]) -> None:
    server, address, world = street
    service = ServiceCode("payment.payable")
    facts: dict[str, Any] = {"version": 1, "owner": RECEIVER, "pattern": Pattern.REQUEST_REPLY, "grade": Grade.ATTESTED}
    world.register(
        System(
            code=SystemCode(f"{RECEIVER}/thu-phi"),
            name="Thu phí",
            mode=DeliveryMode.PUSH,
            receives=(service,),
            endpoint=Endpoint(connector="rest", url=f"{server.url}/payment/fees"),
        ),
        Service(code=service, name="Tra cứu khoản phải nộp", **facts),
        Grant(id="payable", service=service, grantee=MINISTRY),
    )
    credential = server_credential(world)
    found = []
    for at, code in (("1", "H99.15-260423-0001"), ("2", "H99.15-260423-0002")):
        asked = {"MaDoiTac": "DT-SANDBOX", "MaHoSo": code, "ThoiGianGD": f"2026042309590{at}"}
        asked["MaXacThuc"] = Protocol.of(ENDPOINT, credential).digest("PAYABLE", asked)
        found.append(requests.post(f"{address}/payable", json=asked, timeout=10).json())
    assert (found[0]["error_code"], found[0]["SoTien"]) == ("1", "150000")
    assert found[1] == {"error_code": "0"}
    assert requests.post(f"{address}/payable", json={"MaHoSo": "x"}, timeout=10).json()["error_code"] == "-1"


def server_credential(world: World) -> bytes:
    secret = world.bus.connector_secrets("payment")
    assert secret is not None
    return secret


# ---- Schemas


@pytest.mark.parametrize(
    "schema, document",
    [
        ("payment-init", init(SoTien="150.000")),
        ("payment-init", init(SoTien=150000)),
        ("payment-init", init(ThongTinGiaoDich="a|b")),
        ("payment-init", init(ThoiGianGD="20260423246000")),
        ("payment-init", init(MaTienTe="USD")),
        ("payment-init", init(la="x")),
        ("payment-init", init(ThongTinBienLai={"MaDichVu": "3", "MaHoSo": "x"})),
        ("payment-notice", json.loads(confirm(SoTien="0"))),
        ("payment-query", {}),
    ],
)
def test_what_the_platform_would_choke_on_is_refused(schema: str, document: Any) -> None:
    compiled = compile_schema(json.loads((FOLDER / f"{schema}.schema.json").read_bytes()))
    with pytest.raises(SchemaViolation):
        compiled.validate(json.dumps(document).encode(), "application/json")


def test_the_commands_of_the_manual_pay(tmp_path: Path) -> None:
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json"))
    partner, _, secret = app.extensions["sandbox"].credentials["payment"].partition(":")
    page = (ROOT / "docs" / "partners" / "payment.md").read_text("utf-8")
    (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    with serving(app) as server:
        said = subprocess.run(
            ["sh", "-euc", commands.replace("http://127.0.0.1:8090", server.url)],
            env={"PATH": os.environ["PATH"], "PARTNER": partner, "SECRET": secret},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
    assert "UrlThanhToan" in said
    assert "H99.15-260423-0009,150000,1," in said
