"""The pull inbox over real HTTP: fetch, lease, acknowledge, give back, wait."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.moment import utc_now
from tests.bus_world import (
    ANSWERING,
    RECEIVING,
    SENDING,
    SUSPENDED,
    UNGRANTED,
    Answer,
    World,
    ask,
    bus_world,
    post,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path) as world:
        yield world


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with world.serving() as url:
        yield url


def fetch(world: World, url: str, query: str = "", system: str = RECEIVING) -> list[dict[str, Any]]:
    answer = ask("GET", f"{url}/v1/inbox{query}", headers=world.bearer(system))
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json["deliveries"]
    return found


def settle(world: World, url: str, delivery: str, verdict: str, body: bytes = b"", system: str = RECEIVING) -> Answer:
    return ask("POST", f"{url}/v1/inbox/{delivery}/{verdict}", body, world.bearer(system))


def test_a_delivery_comes_whole_is_acknowledged_and_comes_no_more(world: World, url: str) -> None:
    message = world.signed()
    post(url, message)
    (delivery,) = fetch(world, url)
    assert base64.b64decode(delivery["body_base64"]) == message.body
    assert delivery["manifest"] == message.headers["Lgsp-Manifest"]
    assert settle(world, url, delivery["delivery_id"], "ack").status == 204
    assert fetch(world, url) == []
    status = ask("GET", f"{url}/v1/exchange/{message.manifest.message_id}", headers=world.bearer()).json
    assert status["state"] == "delivered"
    receipts = ask("GET", f"{url}/v1/exchange/{message.manifest.message_id}/receipt", headers=world.bearer()).json
    assert [entry["receiver"] for entry in receipts["deliveries"]] == ["H99.16"]


def test_what_is_leased_is_not_handed_out_twice(world: World, url: str) -> None:
    post(url, world.signed())
    assert len(fetch(world, url)) == 1
    assert fetch(world, url) == []


def test_max_bounds_a_fetch_and_the_oldest_come_first(world: World, url: str) -> None:
    sent = [world.signed() for _ in range(5)]
    for message in sent:
        post(url, message)
    first, rest = fetch(world, url, "?max=2"), fetch(world, url)
    assert [d["message_id"] for d in first + rest] == [m.manifest.message_id for m in sent]
    assert len(first) == 2


def test_a_second_acknowledgement_finds_the_lease_gone(world: World, url: str) -> None:
    post(url, world.signed())
    (delivery,) = fetch(world, url)
    settle(world, url, delivery["delivery_id"], "ack")
    again = settle(world, url, delivery["delivery_id"], "ack")
    assert (again.status, again.json["reason"]) == (409, "lease-lost")


def test_a_lease_that_ran_out_is_lost_and_the_delivery_comes_again(tmp_path: Path) -> None:
    with bus_world(tmp_path, lease_seconds=0.2) as world, world.serving() as url:
        post(url, world.signed())
        (first,) = fetch(world, url)
        time.sleep(0.3)
        assert world.bus.ledger.release_stalled(utc_now()) == 1
        (second,) = fetch(world, url)
        assert (second["message_id"], second["attempt"]) == (first["message_id"], 2)
        late = settle(world, url, first["delivery_id"], "ack")
        assert (late.status, late.json["reason"]) == (409, "lease-lost")


def test_a_delivery_given_back_comes_again_with_its_reason_kept(world: World, url: str) -> None:
    message = world.signed()
    post(url, message)
    (delivery,) = fetch(world, url)
    answer = settle(
        world, url, delivery["delivery_id"], "nack", b'{"reason":"kho \xc4\x91ang b\xe1\xba\xa3o tr\xc3\xac"}'
    )
    assert answer.status == 204
    (again,) = fetch(world, url, "?wait=5")
    assert again["attempt"] == 2
    status = ask("GET", f"{url}/v1/exchange/{message.manifest.message_id}", headers=world.bearer()).json
    assert status["timeline"][1]["problem"]["said"] == "kho đang bảo trì"


def test_a_delivery_given_back_for_good_is_dead(world: World, url: str) -> None:
    message = world.signed()
    post(url, message)
    (delivery,) = fetch(world, url)
    assert settle(world, url, delivery["delivery_id"], "nack", b'{"reason":"sai","final":true}').status == 204
    status = ask("GET", f"{url}/v1/exchange/{message.manifest.message_id}", headers=world.bearer()).json
    assert (status["state"], status["deliveries"][0]["problem"]["reason"]) == ("dead", "refused-by-receiver")


def test_giving_back_too_often_makes_it_dead(world: World, url: str) -> None:
    message = world.signed()  # the service's policy: three attempts
    post(url, message)
    for _ in range(3):
        (delivery,) = fetch(world, url, "?wait=5")
        settle(world, url, delivery["delivery_id"], "nack")
    assert fetch(world, url) == []
    assert world.bus.ledger.dead()[0].message_id == message.manifest.message_id


@pytest.mark.parametrize("delivery", ["1.1", "x", "-1.1", "1.x", "9" * 50 + ".1", "1.1.1"])
def test_a_delivery_that_is_not_held_cannot_be_acknowledged(world: World, url: str, delivery: str) -> None:
    assert settle(world, url, delivery, "ack").status in (404, 409)


def test_nobody_settles_for_another(world: World, url: str) -> None:
    post(url, world.signed())
    (delivery,) = fetch(world, url)
    for verdict in ("ack", "nack"):
        stranger = settle(world, url, delivery["delivery_id"], verdict, system=UNGRANTED)
        assert (stranger.status, stranger.json["reason"]) == (404, "delivery-unknown")
    assert settle(world, url, delivery["delivery_id"], "ack").status == 204


@pytest.mark.parametrize(
    "system, status, reason", [(ANSWERING, 403, "not-an-inbox"), (SUSPENDED, 401, "token-invalid")], ids=str
)
def test_an_inbox_is_for_systems_that_fetch(world: World, url: str, system: str, status: int, reason: str) -> None:
    answer = ask("GET", f"{url}/v1/inbox", headers=world.bearer(system))
    assert (answer.status, answer.json["reason"]) == (status, reason)


@pytest.mark.parametrize("query", ["?wait=x", "?max=-1", "?wait=1e3", "?max=99999999", "?wait=%C2%B2"])
def test_a_query_that_is_none_is_refused_and_leases_nothing(world: World, url: str, query: str) -> None:
    post(url, world.signed())
    answer = ask("GET", f"{url}/v1/inbox{query}", headers=world.bearer(RECEIVING))
    assert (answer.status, answer.json["reason"]) == (400, "query-invalid")
    assert len(fetch(world, url)) == 1


@pytest.mark.parametrize("body", [b"[]", b'{"reason":1}', b'{"final":"yes"}', b"{", b'{"reason":"a","reason":"b"}'])
def test_a_giving_back_that_cannot_be_read_is_refused_and_the_lease_stays(world: World, url: str, body: bytes) -> None:
    post(url, world.signed())
    (delivery,) = fetch(world, url)
    assert settle(world, url, delivery["delivery_id"], "nack", body).status == 400
    assert settle(world, url, delivery["delivery_id"], "ack").status == 204


def test_a_long_poll_is_woken_by_another_callers_message(world: World, url: str) -> None:
    found: list[Any] = []
    waited: list[float] = []

    def wait() -> None:
        started = time.monotonic()
        found.extend(fetch(world, url, "?wait=20"))
        waited.append(time.monotonic() - started)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.4)
    message = world.signed()
    post(url, message)
    waiting.join(20)
    assert [delivery["message_id"] for delivery in found] == [message.manifest.message_id]
    assert waited[0] < 10


def test_a_long_poll_ends_with_nothing_when_nothing_came(world: World, url: str) -> None:
    started = time.monotonic()
    assert fetch(world, url, "?wait=1", SENDING) == []
    assert 0.9 < time.monotonic() - started < 8


def test_messages_of_one_dossier_come_one_after_the_other(world: World, url: str) -> None:
    sent = [world.signed(dossier="H99.15-260423-0001") for _ in range(2)]
    for message in sent:
        post(url, message)
    (first,) = fetch(world, url)
    assert first["message_id"] == sent[0].manifest.message_id
    settle(world, url, first["delivery_id"], "ack")
    (second,) = fetch(world, url)
    assert second["message_id"] == sent[1].manifest.message_id


def test_many_long_polls_hold_up_nobody_and_are_woken_across_processes(world: World) -> None:
    """The real server with two processes: whoever polls at one is woken by a message that came to the other."""
    with world.server_process(serve_processes=2) as url:
        found: list[Any] = []
        pollers = [
            threading.Thread(target=lambda: found.extend(fetch(world, url, "?wait=30&max=1"))) for _ in range(20)
        ]
        for poller in pollers:
            poller.start()
        time.sleep(0.5)
        started = time.monotonic()
        sent = [world.signed() for _ in range(20)]
        for message in sent:
            assert post(url, message).status == 202
        for poller in pollers:
            poller.join(30)
        assert time.monotonic() - started < 15
    assert {d["message_id"] for d in found} <= {m.manifest.message_id for m in sent}
    assert len({d["delivery_id"] for d in found}) == len(found) > 0  # nobody gets what another holds
