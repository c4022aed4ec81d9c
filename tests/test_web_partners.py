"""Partners that call in their own protocol: proven by it, recorded like every message, answered in their own words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bus.web.app import create_app
from connectors.base import Answer, Incoming, Outcome, PartnerCall, message_id_of
from registry.model import DeliveryMode, Endpoint, Grant, Pattern, Service, System
from schemas.identifiers import AgencyCode, DossierCode, ServiceCode, SystemCode
from schemas.message import Grade, Means, Receipt
from schemas.problem import Malformed, NotIdentified, Problem
from security.signing import split_compact
from tests.bus_world import MINISTRY, RECEIVER, World, ask, bus_world
from tests.loopback import serving

SECRET = b"bi-mat-thu-nghiem"
GATEWAY = SystemCode(f"{MINISTRY}/cong-thanh-toan")
NOTICE = ServiceCode("payment.paid")


class Gateway:
    """A gateway in three lines: ``{"ref", "dossier", "amount", "digest"}``, the digest over all and the secret."""

    def receive(self, call: PartnerCall, endpoint: Endpoint, secret: bytes | None) -> Incoming | Answer:
        if call.path == "ping":
            return Answer(body=b'{"code":"00"}')
        if call.path == "broken":
            raise RuntimeError("a fault of ours, with mật khẩu in it")
        try:
            notice = json.loads(call.body)
            text = f"{notice['ref']}|{notice['amount']}|".encode() + (secret or b"")
        except (ValueError, KeyError):
            raise Malformed("json-invalid") from None
        if hashlib.sha256(text).hexdigest() != notice.get("digest"):
            raise NotIdentified("signature-invalid")
        return Incoming(
            service=NOTICE,
            receivers=(AgencyCode(endpoint.settings["inbound"]["receiver"]),),
            body=call.body,
            content_type="application/json",
            message_id=message_id_of(call.system, notice["ref"]),
            dossier=DossierCode(notice["dossier"]),
        )

    def answer(self, call: PartnerCall, incoming: Incoming, outcome: Outcome) -> Answer:
        return Answer(body=b'{"code":"00"}') if isinstance(outcome, Receipt) else self.refuse(call, _problem(outcome))

    def refuse(self, call: PartnerCall, problem: Problem) -> Answer:
        return Answer(body=json.dumps({"code": "99", "reason": problem.reason}).encode())


def _problem(outcome: Outcome) -> Problem:
    assert isinstance(outcome, Problem)
    return outcome


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path) as made:
        endpoint = Endpoint(
            connector="gateway",
            url="http://127.0.0.1:9",
            secret="gateway",
            settings={"inbound": {"receiver": RECEIVER}},
        )
        made.register(
            System(code=GATEWAY, name="Cổng thử", mode=DeliveryMode.PUSH, endpoint=endpoint, receives=(NOTICE,)),
            Service(
                code=NOTICE,
                version=1,
                name="Báo đã thanh toán",
                owner=MINISTRY,
                pattern=Pattern.ONE_WAY,
                grade=Grade.ATTESTED,
                schema={"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer"}}},
            ),
            Grant(id="paid", service=NOTICE, grantee=MINISTRY),
        )
        made.bus.registry.put_secret("gateway", made.bus.secrets.seal("gateway", SECRET), "test")
        yield made


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with serving(create_app(replace(world.bus, receivers={"gateway": Gateway()}))) as server:
        yield f"{server.url}/partners/{GATEWAY}"


def notice(reference: str = "R1", amount: Any = 150_000, **changes: Any) -> bytes:
    digest = hashlib.sha256(f"{reference}|{amount}|".encode() + SECRET).hexdigest()
    facts = {"ref": reference, "dossier": "H99.15-260423-0001", "amount": amount, "digest": digest}
    return json.dumps(facts | changes).encode()


def call(url: str, body: bytes = b"", path: str = "ipn", method: str = "POST") -> Any:
    answer = ask(method, f"{url}/{path}", body, {"Content-Type": "application/json"})
    return answer.status, json.loads(answer.body)


def test_a_partners_call_becomes_a_message_that_the_bus_attests(world: World, url: str) -> None:
    assert call(url, notice()) == (200, {"code": "00"})
    record = world.bus.ledger.find(message_id_of(GATEWAY, "R1"))
    assert record is not None
    assert (record.sender, record.sender_system, record.grade) == (MINISTRY, GATEWAY, Grade.ATTESTED)
    assert record.dossier == "H99.15-260423-0001"
    base = url.partition("/partners")[0]
    fetched = ask("GET", f"{base}/v1/inbox?wait=5", headers=world.bearer("H99.16/kho"))
    (delivery,) = fetched.json["deliveries"]
    claims = json.loads(split_compact(delivery["manifest"]).payload)
    assert claims["attested"] == {"means": Means.PARTNER.value, "system": GATEWAY}


def test_a_notice_that_comes_twice_is_one_message(world: World, url: str) -> None:
    assert [call(url, notice()) for _ in range(2)] == [(200, {"code": "00"})] * 2
    assert world.rows()["exchanges"] == 1


def test_a_reference_that_comes_again_with_another_amount_is_refused(world: World, url: str) -> None:
    call(url, notice())
    assert call(url, notice(amount=1))[1]["code"] == "99"
    assert world.rows()["exchanges"] == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (notice(digest="0" * 64), "signature-invalid"),
        (b"not json", "json-invalid"),
        (notice(amount="150000"), "payload-breaks-schema"),
    ],
    ids=["wrong-digest", "unreadable", "breaks-schema"],
)
def test_a_call_that_is_refused_leaves_evidence_and_no_message(
    world: World, url: str, body: bytes, reason: str
) -> None:
    assert call(url, body) == (200, {"code": "99", "reason": reason})
    rows = world.rows()
    assert (rows["exchanges"], rows["refusals"]) == (0, 1)


def test_a_partner_without_a_grant_is_refused_in_its_own_words(world: World, url: str) -> None:
    world.register(remove=[world.bus.directory.current().grants["paid"]])
    assert call(url, notice())[1] == {"code": "99", "reason": "no-grant"}


def test_what_is_no_message_is_answered_at_once(world: World, url: str) -> None:
    assert call(url, path="ping", method="GET") == (200, {"code": "00"})
    assert world.rows()["exchanges"] == 0


def test_a_fault_of_ours_is_told_as_such_and_nothing_of_it(url: str) -> None:
    assert call(url, path="broken") == (200, {"code": "99", "reason": "internal"})


@pytest.mark.parametrize("address", ["G99/khong-co/ipn", "G99/csdl/ipn", "H99.17/tam-ngung/ipn", "x/y/z", "G99//ipn"])
def test_an_address_that_no_calling_partner_has_is_not_there(url: str, address: str) -> None:
    status, problem = call(url.partition("/partners")[0] + "/partners", notice(), path=address)
    assert (status, problem["reason"]) == (404, "page-unknown")
