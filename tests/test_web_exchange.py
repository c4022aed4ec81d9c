"""Messages in, their state and receipts out: `/v1/exchange` over real HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.codec import read_json
from security.signing import split_compact, verify_receipt
from tests.bus_world import (
    ANSWERING,
    GOOD,
    LOOKUP,
    MINISTRY,
    NOTE,
    RECEIVER,
    RECEIVING,
    SENDER,
    SENDING,
    UNGRANTED,
    World,
    ask,
    bus_world,
    post,
)
from tests.loopback import serving


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path) as world:
        yield world


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with world.serving() as url:
        yield url


def test_a_signed_message_is_answered_with_a_receipt_that_verifies(world: World, url: str) -> None:
    message = world.signed()
    answer = post(url, message)
    assert answer.status == 202
    receipt = answer.json
    assert receipt["message_id"] == message.manifest.message_id
    assert receipt["receivers"] == [RECEIVER]
    claims = verify_receipt(receipt["receipt"], world.bus.ring.find_key)
    assert (claims["message_id"], claims["leaf"]) == (message.manifest.message_id, receipt["leaf"])


def test_an_attested_message_needs_no_signature_of_its_own(world: World, url: str) -> None:
    message_id = str(uuid.uuid4())
    headers = world.bearer(
        Content_Type="application/json", Lgsp_Service=NOTE, Lgsp_Receiver=f"{RECEIVER},{MINISTRY}",
        Lgsp_Message_Id=message_id, Lgsp_User="canbo01",
    )  # fmt: skip
    answer = ask("POST", f"{url}/v1/exchange", b"{}", headers)
    assert answer.status == 202
    status = ask("GET", f"{url}/v1/exchange/{message_id}", headers=world.bearer()).json
    assert (status["grade"], status["state"]) == ("attested", "accepted")
    assert [delivery["receiver"] for delivery in status["deliveries"]] == [RECEIVER, MINISTRY]


def test_a_message_without_a_version_goes_to_the_latest_open_one(world: World, url: str) -> None:
    headers = world.bearer(Content_Type="application/json", Lgsp_Service=NOTE, Lgsp_Receiver=RECEIVER)
    message_id = str(uuid.uuid4())
    assert ask("POST", f"{url}/v1/exchange", b"{}", headers | {"Lgsp-Message-Id": message_id}).status == 202
    status = ask("GET", f"{url}/v1/exchange/{message_id}", headers=world.bearer()).json
    assert status["service"] == f"{NOTE}/1"


@pytest.mark.parametrize(
    "system, status", [(SENDING, 200), (RECEIVING, 200), (ANSWERING, 404), (UNGRANTED, 404)], ids=str
)
def test_state_receipt_and_evidence_exist_for_the_parties_only(
    world: World, url: str, system: str, status: int
) -> None:
    message = world.signed()
    post(url, message)
    place = f"{url}/v1/exchange/{message.manifest.message_id}"
    for page in ("", "/receipt", "/evidence"):
        answer = ask("GET", place + page, headers=world.bearer(system))
        assert answer.status == status, page
        assert answer.headers["cache-control"] == "no-store"
        if status == 404:
            unknown = ask("GET", f"{url}/v1/exchange/{uuid.uuid4()}{page}", headers=world.bearer(system))
            same = ("type", "title", "status", "detail", "reason")
            assert [answer.json[name] for name in same] == [unknown.json[name] for name in same]


@pytest.mark.parametrize("message_id", ["nonsense", "'; DROP TABLE exchanges; --", "00000000"])
def test_an_id_that_is_none_is_just_unknown(world: World, url: str, message_id: str) -> None:
    answer = ask("GET", f"{url}/v1/exchange/{message_id}", headers=world.bearer())
    assert (answer.status, answer.json["reason"]) == (404, "message-unknown")


def test_the_receipt_can_be_fetched_again(world: World, url: str) -> None:
    message = world.signed()
    first = post(url, message).json
    again = ask("GET", f"{url}/v1/exchange/{message.manifest.message_id}/receipt", headers=world.bearer()).json
    assert (again["receipt"], again["deliveries"]) == (first["receipt"], [])


def test_a_request_is_answered_with_the_providers_reply_and_a_manifest_that_names_the_request(tmp_path: Path) -> None:
    def provider(environ: object, start_response: object) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])  # type: ignore[operator]
        return [b'{"found":true}']

    with serving(provider) as partner, bus_world(tmp_path, partner_url=partner.url) as world, world.serving() as url:
        message = world.signed({"id": "097000000001"}, service=LOOKUP, receivers=(MINISTRY,))
        answer = post(url, message)
        assert (answer.status, answer.body) == (200, b'{"found":true}')
        reply = read_json(split_compact(answer.headers["lgsp-manifest"]).payload)
        request = verify_receipt(answer.headers["lgsp-receipt"], world.bus.ring.find_key)
        assert reply["request"]["manifest_sha256"] == request["manifest_sha256"]
        assert (reply["direction"], reply["sender"], reply["receivers"]) == ("reply", MINISTRY, [SENDER])
        # The same call again is answered from what is stored: the provider is asked once.
        assert post(url, message).body == b'{"found":true}'
        assert len(partner.requests) == 1


def test_a_provider_that_is_down_is_told_as_such_with_when_to_come_again(world: World, url: str) -> None:
    answer = post(url, world.signed(GOOD, service=LOOKUP, receivers=(MINISTRY,)))
    assert (answer.status, answer.json["type"]) == (503, "/problems/provider-unavailable")
    assert answer.json["retryable"] is True
    assert int(answer.headers["retry-after"]) > 0


def test_the_callers_trace_goes_on(world: World, url: str) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    message = world.signed()
    post(url, message, traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    status = ask("GET", f"{url}/v1/exchange/{message.manifest.message_id}", headers=world.bearer()).json
    assert status["trace_id"] == trace


@pytest.mark.parametrize("traceparent", ["", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "nonsense", "00-AB-CD-01"])
def test_a_broken_trace_is_replaced_by_one_of_ours(world: World, url: str, traceparent: str) -> None:
    answer = ask("POST", f"{url}/v1/exchange", b"{}", {"traceparent": traceparent})
    assert len(answer.json["trace_id"]) == 32
    assert answer.json["trace_id"].strip("0")


@pytest.mark.parametrize(
    "asked, title",
    [
        ("vi", "Không xác định được bên gửi"),
        ("vi-VN,vi;q=0.9,en;q=0.5", "Không xác định được bên gửi"),
        ("en", "Sender not identified"),
        ("fr", "Sender not identified"),
        ("", "Sender not identified"),
    ],
)
def test_problems_speak_the_callers_language(url: str, asked: str, title: str) -> None:
    answer = ask("POST", f"{url}/v1/exchange", b"{}", {"Accept-Language": asked})
    assert answer.json["title"] == title


@pytest.mark.parametrize(
    "method, path, status, reason",
    [
        ("GET", "/nowhere", 404, "page-unknown"),
        ("DELETE", "/v1/exchange", 405, "method-not-allowed"),
        ("GET", "/v1/exchange", 405, "method-not-allowed"),
        ("HEAD", "/v1/inbox", 405, ""),
    ],
)
def test_what_is_not_served_is_a_problem_too(url: str, method: str, path: str, status: int, reason: str) -> None:
    answer = ask(method, url + path)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    if method != "HEAD":
        assert answer.json["reason"] == reason
    if status == 405:
        assert answer.headers["allow"]


def test_options_says_what_may_be_asked_and_nothing_else(url: str) -> None:
    answer = ask("OPTIONS", f"{url}/v1/exchange")
    assert (answer.status, answer.body) == (200, b"")
    assert set(answer.headers["allow"].split(", ")) == {"POST", "OPTIONS"}
    assert "access-control-allow-origin" not in answer.headers


def test_the_real_server_takes_messages_too(world: World) -> None:
    with world.server_process() as url:
        message = world.signed()
        assert post(url, message).status == 202
        assert post(url, message).status == 200
        assert ask("GET", f"{url}/readyz").status == 200
