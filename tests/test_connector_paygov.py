"""PayGov: the contract, its checksum, its order ids, and its three words."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from connectors.base import Answer, Incoming, PartnerCall
from connectors.paygov import OrderId, PaygovReceiver, _Protocol, check_order
from connectors.payment_books import Verdict
from connectors.sandbox.app import SandboxConfig, create_sandbox
from registry.model import DeliveryMode, Endpoint, Grant, Pattern, Service, System
from schemas.identifiers import ServiceCode, SystemCode
from schemas.message import Grade
from schemas.problem import (
    InvalidReply,
    Malformed,
    NotFound,
    NotIdentified,
    Problem,
    ProviderRejected,
    ProviderUnavailable,
)
from tests.bus_world import MINISTRY, RECEIVER, bus_world
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of
from tests.loopback import serving

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "schemas" / "partners" / "paygov"
SECRET = b"ACCESSKEY01:SECRETKEY01"
ENDPOINT = Endpoint(
    connector="paygov",
    url="http://127.0.0.1:9",
    secret="paygov",
    settings={"partnerCode": "PARTNER01", "inbound": {"receiver": "H99.15"}},
)


def example(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.example.json").read_bytes())
    return document


def order(number: int = 1, **changes: Any) -> dict[str, Any]:
    return example("paygov-order") | {"orderId": f"H99.15-H99.15-260423-{number:04d}-01"} | changes


class TestPaygov(ConnectorContract):
    bound = Binding(
        connector="paygov",
        path="/paygov",
        operation="order",
        service="paygov.order",
        payload=order,
        effects=lambda state: len(state["orders"]),
        settings={"partnerCode": "PARTNER01"},
        logs_in=False,
    )

    def test_a_payer_gets_an_address(self, rig: Rig) -> None:
        assert json.loads(rig.deliver().body)["payUrl"].endswith("/paygov/pay/H99.15-H99.15-260423-0001-01")

    def test_a_payload_with_its_own_checksum_travels_byte_for_byte(self, rig: Rig) -> None:
        document = order(partnerCode="PARTNER01", accessKey="ACCESSKEY-SANDBOX")
        document["checksum"] = _Protocol.of(rig.endpoint, rig.secret).checksum("order", document)
        assert rig.deliver(parcel_of("paygov.order", json.dumps(document, indent=3).encode())).status == 200
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(parcel_of("paygov.order", document | {"checksum": "0" * 64}))
        assert caught.value.reason == "payment-digest-wrong"

    @pytest.mark.parametrize(
        "changes, reason",
        [
            ({"amount": "150.000"}, "payload-not-for-partner"),
            ({"amount": 1.5}, "payload-not-for-partner"),
            ({"orderId": "H99.15-260423-0001"}, "payload-not-for-partner"),
            ({"orderId": None}, "payload-not-for-partner"),
            ({"requestCode": ["x"]}, "payload-not-for-partner"),
            ({"requestCode": ""}, "payload-not-for-partner"),
            ({"partnerCode": "KHAC"}, "payment-partner-differs"),
            ({"accessKey": "KHAC"}, "payment-partner-differs"),
        ],
    )
    def test_what_is_no_order_never_leaves(self, rig: Rig, changes: Any, reason: str) -> None:
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(parcel_of("paygov.order", order(**changes)))
        assert (caught.value.reason, rig.server.requests) == (reason, [])

    def test_an_order_that_comes_again_with_another_sum_is_refused(self, rig: Rig) -> None:
        rig.deliver()
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of("paygov.order", order(amount="1")))

    def test_a_yes_without_an_address_is_no_answer(self, rig: Rig) -> None:
        rig.fault("error", code="00", message="Thành công")
        with pytest.raises(InvalidReply):
            rig.deliver()

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"partnerCode": "PARTNER01", "checksums": {"ipn": ["orderId"]}},
            {"partnerCode": "PARTNER01", "checksums": {"order": "secretKey"}},
        ],
    )
    def test_settings_that_prove_nothing_wait_for_the_operator(self, rig: Rig, settings: Any) -> None:
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver(settings=settings)
        assert caught.value.reason == "endpoint-invalid"


def test_the_checksum_is_that_of_the_test_vector() -> None:
    document = {"orderId": "H99.15-H99.15-260423-0001-01", "requestCode": "REQ0001", "amount": "150000"}
    assert _Protocol.of(ENDPOINT, SECRET).checksum("order", document) == (
        "75d6b2a311d135d778430059dd3bf5b958fe43b5f444e48edc594cefe7f1f139"
    )


@pytest.mark.parametrize(
    "text, dossier",
    [
        ("H99.15-H99.15-260423-0001-01", "H99.15-260423-0001"),
        # Units of other lengths, and codes of both spellings: fixed positions find none of these (P34).
        ("H99.15.01-H99.15.01-260423-0001-02", "H99.15.01-260423-0001"),
        ("000.00.15.H99-000.00.15.H99-260423-1234567-99", "000.00.15.H99-260423-1234567"),
        ("H99-H99.15-260423-0001-01", "H99.15-260423-0001"),
    ],
)
def test_the_dossier_is_read_from_an_order_of_any_unit(text: str, dossier: str) -> None:
    found = OrderId.read(text)
    assert found is not None
    assert found.dossier == dossier


@pytest.mark.parametrize(
    "text",
    [
        *("", "H99.15-260423-0001", "H99.15-260423-0001-01", "H99.15-H99.15-260231-0001-01", None, 5, ["x"]),
        *("H99.15-H99.15-260423-0001-0100", "-H99.15-260423-0001-01", "x" * 200, "a-b-H99.15-260423-0001-01"),
    ],
)
def test_what_was_never_an_order_of_ours_is_none(text: object) -> None:
    assert OrderId.read(text) is None


def notice(**changes: Any) -> bytes:
    document = {k: v for k, v in example("paygov-notice").items() if k != "checksum"} | changes
    if "checksum" not in document:
        document["checksum"] = _Protocol.of(ENDPOINT, SECRET).checksum("ipn", document)
    return json.dumps(document).encode()


def call(body: bytes, path: str = "ipn", method: str = "POST") -> PartnerCall:
    return PartnerCall(
        method=method,
        path=path,
        query={},
        headers={},
        body=body,
        content_type="application/json",
        received_at=datetime(2026, 4, 23, 3, tzinfo=UTC),
        system=SystemCode("G99.39/paygov"),
    )


def receive(body: bytes) -> Incoming:
    incoming = PaygovReceiver().receive(call(body), ENDPOINT, SECRET)
    assert isinstance(incoming, Incoming)
    return incoming


def test_a_notice_becomes_a_message_of_its_dossier() -> None:
    body = (FOLDER / "paygov-notice.example.json").read_bytes()
    incoming = receive(body)
    assert (incoming.service, incoming.dossier, incoming.body) == ("paygov.notice", "H99.15-260423-0001", body)
    assert incoming.message_id == receive(notice()).message_id != receive(notice(errorCode="24")).message_id


@pytest.mark.parametrize(
    "changes, problem, word",
    [
        ({"checksum": "0" * 64}, NotIdentified, "SIGNATURE_WRONG"),
        ({"checksum": None}, NotIdentified, "SIGNATURE_WRONG"),
        ({"errorCode": "00", "transactionNo": "x", "checksum": "0" * 64}, NotIdentified, "SIGNATURE_WRONG"),
        ({"orderId": "H99.15-260423-0001"}, NotFound, "FAILED"),
        ({"orderId": ["x"], "checksum": "0" * 64}, Malformed, "FAILED"),
        ({"errorCode": "0"}, Malformed, "FAILED"),
        ({"errorCode": 0}, Malformed, "FAILED"),
        ({"transactionNo": "a|b"}, Malformed, "FAILED"),
        # No checksum covers it, so anybody may have put it there.
        ({"amount": "150000"}, Malformed, "FAILED"),
    ],
)
def test_what_proves_nothing_is_told_so_in_its_words(changes: Any, problem: type[Problem], word: str) -> None:
    with pytest.raises(problem) as caught:
        receive(notice(**changes))
    answer = PaygovReceiver().refuse(call(b""), caught.value)
    assert (answer.body, answer.content_type) == (word.encode(), "text/plain")


def test_a_sum_that_the_checksum_covers_is_taken() -> None:
    checksums = {"ipn": ["secretKey", "orderId", "errorCode", "amount"]}
    endpoint = replace(ENDPOINT, settings={**ENDPOINT.settings, "checksums": checksums})
    document = {"orderId": "H99.15-H99.15-260423-0001-01", "errorCode": "00", "amount": "2147483648000"}
    document["checksum"] = _Protocol.of(endpoint, SECRET).checksum("ipn", document)
    assert isinstance(PaygovReceiver().receive(call(json.dumps(document).encode()), endpoint, SECRET), Incoming)
    document["amount"] = "1"
    with pytest.raises(NotIdentified):
        PaygovReceiver().receive(call(json.dumps(document).encode()), endpoint, SECRET)


def test_no_key_is_shown() -> None:
    assert "KEY01" not in repr(_Protocol.of(ENDPOINT, SECRET))


def test_values_cannot_be_cut_at_another_place() -> None:
    """A payment that failed ("24") does not become one that succeeded by moving characters between values."""
    failed = json.loads(notice(errorCode="24", transactionNo="00123"))
    moved = failed | {"orderId": failed["orderId"] + "24", "errorCode": "00", "transactionNo": "123"}
    protocol = _Protocol.of(ENDPOINT, SECRET)
    assert protocol.checksum("ipn", moved) == failed["checksum"]
    with pytest.raises(NotFound):
        receive(json.dumps(moved).encode())


def test_the_browser_is_not_believed() -> None:
    assert isinstance(PaygovReceiver().receive(call(notice(), "return", "GET"), ENDPOINT, SECRET), Answer)
    with pytest.raises(NotFound):
        PaygovReceiver().receive(call(notice(), method="GET"), ENDPOINT, SECRET)
    with pytest.raises(Malformed):
        receive(b"orderId=1")


@pytest.mark.parametrize(
    "changes, verdict",
    [
        ({}, Verdict.AMOUNT_UNKNOWN),
        ({"amount": "150000"}, Verdict.PAID),
        ({"amount": 150000}, Verdict.PAID),
        ({"amount": "1"}, Verdict.OTHER_AMOUNT),
        ({"amount": None}, Verdict.OTHER_AMOUNT),
        ({"errorCode": "24", "amount": "150000"}, Verdict.NOT_PAID),
        ({"orderId": "H99.15-H99.15-260423-0002-01"}, Verdict.OTHER_REFERENCE),
    ],
)
def test_a_notice_pays_its_own_order(changes: Any, verdict: Verdict) -> None:
    assert check_order(order(), example("paygov-notice") | changes) == verdict


@pytest.fixture
def street(tmp_path: Path) -> Iterator[tuple[str, str, Any]]:
    """The twin with one order, and where the bus takes its notices."""
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json"))
    parts = app.extensions["sandbox"]
    credential = parts.credentials["paygov"].encode()
    with bus_world(tmp_path) as world, serving(app) as server, world.serving() as url:
        code, service = SystemCode(f"{MINISTRY}/paygov"), ServiceCode("paygov.notice")
        settings = {"partnerCode": "PARTNER01", "inbound": {"receiver": RECEIVER}}
        facts: dict[str, Any] = {"version": 1, "owner": MINISTRY, "pattern": Pattern.ONE_WAY, "grade": Grade.ATTESTED}
        world.register(
            System(
                code=code,
                name="PayGov",
                mode=DeliveryMode.PUSH,
                endpoint=replace(ENDPOINT, settings=settings),
                receives=(service,),
            ),
            Service(code=service, name="Báo thanh toán", **facts),
            Grant(id="paid", service=service, grantee=MINISTRY),
        )
        world.bus.registry.put_secret("paygov", world.bus.secrets.seal("paygov", credential), "test")
        document = order(partnerCode="PARTNER01", accessKey="ACCESSKEY-SANDBOX")
        document["checksum"] = _Protocol.of(ENDPOINT, credential).checksum("order", document)
        assert requests.post(f"{server.url}/paygov/order", json=document, timeout=10).json()["errorCode"] == "00"
        yield server.url, f"{url}/partners/{MINISTRY}/paygov/ipn", world
        parts.close()


def test_the_twins_notices_are_answered_in_three_words(street: tuple[str, str, Any]) -> None:
    twin, address, world = street

    def pay(**wish: Any) -> list[str]:
        wish = {"orderId": "H99.15-H99.15-260423-0001-01", "ipn_url": address, **wish}
        answers: list[str] = requests.post(f"{twin}/_sandbox/paygov/pay", json=wish, timeout=20).json()["answers"]
        return answers

    assert pay(checksum="wrong") == ["SIGNATURE_WRONG"]
    assert pay(notice_orderId="x") == ["FAILED"]
    assert world.rows()["exchanges"] == 0
    assert pay(times=2) == ["SUCCESSFUL", "SUCCESSFUL"]
    assert world.rows()["exchanges"] == 1
    assert requests.post(f"{twin}/_sandbox/paygov/pay", json={}, timeout=10).status_code == 400


def test_the_commands_of_the_manual_place_an_order(tmp_path: Path) -> None:
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json"))
    access_key, _, secret_key = app.extensions["sandbox"].credentials["paygov"].partition(":")
    page = (ROOT / "docs" / "partners" / "paygov.md").read_text("utf-8")
    (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    with serving(app) as server:
        said = subprocess.run(
            ["sh", "-euc", commands.replace("http://127.0.0.1:8090", server.url)],
            env={"PATH": os.environ["PATH"], "ACCESS_KEY": access_key, "SECRET_KEY": secret_key},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
    assert json.loads(said)["errorCode"] == "00"
