"""The agency client against the real bus on loopback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uuid6
from flask import Flask, Response, request

from bus.web.app import create_app
from connectors.base import Reply
from connectors.client import AgencyClient, read_key_set, told_problem
from connectors.sandbox.app import SandboxConfig, create_sandbox
from connectors.sandbox.one_stop import OneStopMember
from schemas.moment import utc_now
from schemas.problem import (
    IdempotencyConflict,
    InvalidReply,
    NotFound,
    NotIdentified,
    NotPermitted,
    Problem,
    ProviderRejected,
    ProviderUnavailable,
    SchemaViolation,
)
from security.keys import KeyRing, SigningKey
from tests.bus_world import GOOD, RECEIVER, RECEIVING, SENDING, World, bus_world, key_of
from tests.connector_contract import dossier
from tests.loopback import closed_port, serving

PURPOSE = "giai-quyet-tthc"
MakeClient = Callable[..., AgencyClient]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path) as world:
        yield world


@pytest.fixture
def connect(world: World) -> Iterator[MakeClient]:
    """Makes clients of the running bus; they do not sleep between tries."""
    made: list[AgencyClient] = []
    with world.serving() as url:

        def make(system: str = SENDING, bus_url: str = "", **options: Any) -> AgencyClient:
            options = {"wait": lambda _: None, "audience": world.settings.public_url} | options
            client = AgencyClient(bus_url or url, options.pop("key", key_of(system)), system=system, **options)
            made.append(client)
            return client

        yield make
        for client in made:
            client.close()


def test_a_message_goes_from_one_agency_to_the_other(connect: MakeClient) -> None:
    receipt = connect().send("dossier.transfer", [RECEIVER], GOOD, purpose=PURPOSE, dossier="H99.15-260423-0001")
    (delivery,) = connect(RECEIVING).inbox(wait=0)
    assert json.loads(delivery.body) == GOOD
    assert delivery.manifest.message_id == receipt.message_id
    assert delivery.manifest.dossier == "H99.15-260423-0001"
    delivery.ack()
    assert list(connect(RECEIVING).inbox(wait=0)) == []


def test_the_same_id_sends_once_and_gets_the_first_receipt(connect: MakeClient) -> None:
    client, message_id = connect(), str(uuid6.uuid7())
    first = client.send("dossier.transfer", [RECEIVER], GOOD, purpose=PURPOSE, message_id=message_id)
    again = client.send("dossier.transfer", [RECEIVER], GOOD, purpose=PURPOSE, message_id=message_id)
    assert again.receipt == first.receipt
    assert len(list(connect(RECEIVING).inbox(wait=0))) == 1
    with pytest.raises(IdempotencyConflict):
        client.send("dossier.transfer", [RECEIVER], GOOD | {"pages": 4}, purpose=PURPOSE, message_id=message_id)


def test_what_the_bus_refuses_comes_back_as_the_same_problem(connect: MakeClient) -> None:
    client = connect()
    with pytest.raises(SchemaViolation) as violation:
        client.send("dossier.transfer", [RECEIVER], {"title": 5}, purpose=PURPOSE)
    assert violation.value.errors[0].pointer == "/title"
    assert violation.value.reason
    with pytest.raises(NotPermitted):
        client.send("dossier.transfer", [RECEIVER], GOOD, purpose="to-mo")
    with pytest.raises(NotIdentified):
        connect(key=SigningKey.generate()).send("dossier.transfer", [RECEIVER], GOOD, purpose=PURPOSE)
    with pytest.raises(NotFound):
        client.status(str(uuid6.uuid7()))


def test_status_tells_how_far_a_message_is(connect: MakeClient) -> None:
    client = connect()
    receipt = client.send("dossier.transfer", [RECEIVER], GOOD, purpose=PURPOSE)
    assert client.status(receipt.message_id)["message_id"] == receipt.message_id


def test_a_delivery_that_is_given_back_comes_again(connect: MakeClient) -> None:
    connect().send("dossier.transfer", [RECEIVER], GOOD, purpose=PURPOSE)
    receiver = connect(RECEIVING)
    (delivery,) = receiver.inbox(wait=0)
    delivery.nack("hệ thống đang bảo trì")
    again = next(iter(receiver.inbox(wait=5)))
    assert again.attempt == 2
    again.ack()


def test_a_file_travels_beside_the_message(connect: MakeClient, tmp_path: Path) -> None:
    paper = tmp_path / "to-khai.pdf"
    paper.write_bytes(b"%PDF-1.7 " + bytes(range(256)) * 2000)
    client = connect()
    client.send("dossier.transfer", [RECEIVER], GOOD, purpose=PURPOSE, attachments=[paper])
    assert client.upload(paper).content_type == "application/pdf"
    (delivery,) = connect(RECEIVING).inbox(wait=0)
    fetched = tmp_path / "fetched.pdf"
    delivery.download(delivery.manifest.attachments[0], fetched)
    assert fetched.read_bytes() == paper.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_a_question_is_answered_through_the_bus(tmp_path: Path) -> None:
    ministry = Flask("ministry")
    ministry.post("/in")(lambda: Response('{"found":true}', content_type="application/json"))
    with serving(ministry) as partner, bus_world(tmp_path, partner_url=partner.url) as world, world.serving() as url:
        client = AgencyClient(url, key_of(SENDING), system=SENDING)
        reply = client.call("population.lookup", "G99", {"id": "099199000001"})
        assert reply.body == b'{"found":true}'
        assert reply.manifest.sender == "G99"
        client.close()


def test_a_question_asked_again_under_its_id_has_its_first_answer(tmp_path: Path) -> None:
    """The repeated manifest is signed at another moment, so the answer names the first one."""
    asked = 0

    def answer() -> Response:
        nonlocal asked
        asked += 1
        return Response(json.dumps({"number": asked}), content_type="application/json")

    ministry = Flask("ministry")
    ministry.post("/in")(answer)
    with serving(ministry) as partner, bus_world(tmp_path, partner_url=partner.url) as world, world.serving() as url:
        first, other = str(uuid6.uuid7()), str(uuid6.uuid7())
        later = AgencyClient(url, key_of(SENDING), system=SENDING, clock=lambda: utc_now() + timedelta(seconds=5))
        with AgencyClient(url, key_of(SENDING), system=SENDING) as client, later:
            answers = [
                asker.call("population.lookup", "G99", {"id": "099199000001"}, message_id=first).body
                for asker in (client, later, client)
            ]
            assert answers == [b'{"number": 1}'] * 3
            client.call("population.lookup", "G99", {"id": "099199000001"}, message_id=other)

            # Somebody between them who hands out the answer to another question, with either question's receipt.
            real, taken = client._http.request, {}

            def mixed(method: str, url: str, **facts: Any) -> Reply:
                reply = real(method, url, **facts)
                taken.setdefault("first", reply)
                return replace(reply, headers=reply.headers | {"lgsp-receipt": taken["first"].headers["lgsp-receipt"]})

            client._http.request = mixed  # type: ignore[method-assign]
            client.call("population.lookup", "G99", {"id": "099199000001"}, message_id=first)
            with pytest.raises(InvalidReply):
                client.call("population.lookup", "G99", {"id": "099199000001"}, message_id=other)
            client._http.request = lambda *_, **__: taken["first"]  # type: ignore[method-assign]
            with pytest.raises(InvalidReply):
                client.call("population.lookup", "G99", {"id": "099199000001"}, message_id=other)
        assert asked == 2


def test_a_lost_connection_is_tried_again_with_the_same_id(connect: MakeClient, world: World) -> None:
    client = connect(bus_url=f"http://127.0.0.1:{closed_port()}", attempts=3)
    with pytest.raises(ProviderUnavailable) as caught:
        client.send("dossier.transfer", [RECEIVER], GOOD, purpose=PURPOSE)
    assert caught.value.reason == "bus-unreachable"


@pytest.mark.parametrize(
    "status, kind, asked",
    [
        (500, "application/problem+json", 3),
        (503, "application/problem+json", 3),
        (502, "text/html", 3),
        (504, "text/html; charset=utf-8", 3),
        (502, "application/problem+json", 1),
        (504, "application/problem+json", 1),
        (400, "text/html", 1),
    ],
)
def test_what_passes_is_asked_again_and_nothing_else(connect: MakeClient, status: int, kind: str, asked: int) -> None:
    """The disk of the bus is full, its database fails over, the proxy before it finds no node."""
    seen = []
    front = Flask("front")

    @front.post("/v1/exchange")
    def fail() -> Response:
        seen.append(request.headers["Lgsp-Manifest"])
        return Response("{}", status, content_type=kind)

    with serving(front) as server, pytest.raises(Problem):
        connect(bus_url=server.url, attempts=3).send("dossier.transfer", [RECEIVER], GOOD, purpose=PURPOSE)
    assert len(seen) == asked
    assert len(set(seen)) == 1


def _faking(world: World, change: Callable[[Any], Any]) -> Flask:
    """The real bus with one answer changed on its way."""
    real = create_app(world.bus)
    front = Flask("front")

    @front.route("/<path:path>", methods=["GET", "POST"])
    def through(path: str) -> Response:
        with real.test_client() as inner:
            answer = inner.open(
                f"/{path}",
                method=request.method,
                data=request.get_data(),
                headers=[(name, value) for name, value in request.headers if name != "Host"],
                query_string=request.query_string.decode(),
            )
        body = answer.get_data()
        if answer.mimetype == "application/json" and path != "v1/oauth/token":
            body = json.dumps(change(json.loads(body))).encode()
        return Response(body, answer.status_code, content_type=answer.content_type)

    return front


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document | {"state": "delivered"} if "leaf" in document else document,
        lambda document: document | {"leaf": "0" * 64} if "leaf" in document else document,
        lambda document: document | {"message_id": str(uuid6.uuid7())} if "leaf" in document else document,
        lambda document: document | {"received_at": "2026-01-01T00:00:00Z"} if "leaf" in document else document,
        lambda document: document | {"receipt": document["receipt"][:-4] + "AAAA"} if "leaf" in document else document,
        lambda document: document | {"receipt": ""} if "leaf" in document else document,
        lambda document: {},
        lambda document: [],
    ],
)
def test_a_receipt_that_was_touched_is_never_taken(
    connect: MakeClient, world: World, change: Callable[[Any], Any]
) -> None:
    with serving(_faking(world, change)) as front:
        client = connect(bus_url=front.url, bus_keys=world.bus.ring.public_jwks())
        with pytest.raises(Problem) as caught:
            client.send("dossier.transfer", [RECEIVER], GOOD, purpose=PURPOSE)
    if "receipt" in caught.value.reason:
        assert isinstance(caught.value, InvalidReply)


def test_a_delivery_that_was_touched_is_given_back_unseen(connect: MakeClient, world: World) -> None:
    connect().send("dossier.transfer", [RECEIVER], GOOD, purpose=PURPOSE)

    def change(document: Any) -> Any:
        for delivery in document.get("deliveries", []):
            delivery["body_base64"] = "e30="
        return document

    with serving(_faking(world, change)) as front:
        assert next(iter(connect(RECEIVING, bus_url=front.url).inbox(wait=0)), None) is None
    assert next(iter(connect(RECEIVING).inbox(wait=5))).attempt > 1


def test_pinned_keys_are_not_exchanged_for_what_a_stranger_offers(connect: MakeClient, tmp_path: Path) -> None:
    stranger = KeyRing.create(tmp_path / "ring", SENDING)
    client = connect(bus_keys=stranger.public_jwks())
    with pytest.raises(NotIdentified) as caught:
        client.send("dossier.transfer", [RECEIVER], GOOD, purpose=PURPOSE)
    assert caught.value.reason == "key-unknown"


def test_a_rotated_key_of_the_bus_is_fetched_when_it_is_not_pinned(connect: MakeClient, world: World) -> None:
    client = connect()
    client.send("dossier.transfer", [RECEIVER], GOOD, purpose=PURPOSE)
    world.bus.ring.rotate(now=utc_now())
    client.send("dossier.transfer", [RECEIVER], GOOD, purpose=PURPOSE)


def test_the_one_stop_twin_can_be_a_member_that_pulls(connect: MakeClient, world: World, tmp_path: Path) -> None:
    sandbox = create_sandbox(SandboxConfig(credentials_file=tmp_path / "c.json")).extensions["sandbox"]
    member = OneStopMember(sandbox.twins["one_stop"])
    connect().send("dossier.note", [RECEIVER], dossier(4))
    connect().send("dossier.note", [RECEIVER], dossier(4))
    connect().send("dossier.note", [RECEIVER], {"no": "dossier"})
    taken = [member.take(delivery) for delivery in connect(RECEIVING).inbox(wait=0)]
    assert sorted(taken) == [False, False, True]
    assert sandbox.twins["one_stop"].state()["duplicates"] == 1


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"keys": 5},
        {"keys": [{}]},
        {"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]},
        {"keys": [{"kty": "RSA", "e": "AQAB", "n": "AQAB"}]},
        {"keys": [5]},
    ],
)
def test_a_key_set_that_is_none_is_refused(document: Any) -> None:
    with pytest.raises(InvalidReply):
        read_key_set(document)


@pytest.mark.parametrize(
    "status, body, problem",
    [
        (502, b"<html>", ProviderUnavailable),
        (404, b"", NotFound),
        (400, b'{"type": 5}', ProviderRejected),
        (400, b"[]", ProviderRejected),
        (403, b'{"type": "/problems/not-permitted", "errors": [5, {"pointer": 7}]}', NotPermitted),
    ],
)
def test_an_answer_of_something_between_is_still_a_problem(status: int, body: bytes, problem: type[Problem]) -> None:
    told = told_problem(replace(Reply(status=status), body=body))
    assert isinstance(told, problem)
    assert isinstance(told.detail("vi"), str)
