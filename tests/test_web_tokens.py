"""The token endpoint over real HTTP: by secret, by assertion, and by neither."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import time_machine

from bus.assembly import open_bus
from bus.web.app import create_app
from connectors.client import client_assertion
from schemas.identifiers import SystemCode
from schemas.moment import utc_now
from tests.bus_world import RECEIVING, SECRET, SENDING, SUSPENDED, Answer, World, ask, bus_world, key_of
from tests.loopback import serving

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path) as world:
        yield world


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with world.serving() as url:
        yield url


def ask_token(url: str, headers: dict[str, str] | None = None, **form: Any) -> Answer:
    body = urlencode({"grant_type": "client_credentials", **form}).encode()
    return ask(
        "POST", f"{url}/v1/oauth/token", body, {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
    )


def assertion(world: World, system: str = SENDING, *, key: str = "") -> dict[str, Any]:
    signed = client_assertion(SystemCode(system), world.settings.public_url, key_of(key or system), utc_now())
    return {"client_assertion_type": JWT_BEARER, "client_assertion": signed}


def basic(system: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{system}:{secret}".encode()).decode()}


def test_a_secret_in_the_form_or_as_basic_earns_a_token_that_works(url: str) -> None:
    for answer in (
        ask_token(url, client_id=SENDING, client_secret=SECRET),
        ask_token(url, basic(SENDING, SECRET)),
    ):
        assert (answer.status, answer.json["token_type"], answer.json["expires_in"]) == (200, "Bearer", 600)
        assert answer.headers["cache-control"] == "no-store"
        inbox = ask("GET", f"{url}/v1/inbox", headers={"Authorization": f"Bearer {answer.json['access_token']}"})
        assert inbox.status == 200


def test_an_assertion_signed_with_the_systems_key_earns_one_too_but_only_once(world: World, url: str) -> None:
    proof = assertion(world, RECEIVING)
    first, again = ask_token(url, **proof), ask_token(url, **proof)
    assert first.status == 200
    assert (again.status, again.json["reason"]) == (401, "assertion-replayed")


def test_an_assertion_that_one_process_has_taken_no_other_takes(world: World, url: str) -> None:
    proof = assertion(world, RECEIVING)
    other = open_bus(world.settings)
    try:
        with serving(create_app(other)) as elsewhere:
            assert ask_token(url, **proof).status == 200
            again = ask_token(elsewhere.url, **proof)
            assert (again.status, again.json["reason"]) == (401, "assertion-replayed")
            assert ask_token(elsewhere.url, **assertion(world, RECEIVING)).status == 200
    finally:
        other.close()


@pytest.mark.parametrize(
    "form, headers, status, reason",
    [
        ({"client_id": SENDING, "client_secret": "x" * 32}, {}, 401, "client-not-identified"),
        ({"client_id": "H99.98/la", "client_secret": SECRET}, {}, 401, "client-not-identified"),
        ({"client_id": RECEIVING, "client_secret": ""}, {}, 401, "client-not-identified"),
        ({"client_id": SENDING}, {}, 401, "client-not-identified"),
        ({}, basic(SENDING, "x"), 401, "client-not-identified"),
        ({}, {"Authorization": "Basic ###"}, 401, "client-not-identified"),
        ({"grant_type": "password", "client_id": SENDING, "client_secret": SECRET}, {}, 400, "grant-type-unknown"),
        ({"client_assertion": "a.b.c", "client_assertion_type": JWT_BEARER}, {}, 401, "assertion-invalid"),
        ({"client_assertion": "a.b.c"}, {}, 401, "client-not-identified"),
    ],
)
def test_who_proves_nothing_gets_no_token(
    url: str, form: dict[str, str], headers: dict[str, str], status: int, reason: str
) -> None:
    answer = ask_token(url, headers, **form)
    assert (answer.status, answer.json["reason"]) == (status, reason)
    assert SECRET not in answer.body.decode()
    assert answer.headers["cache-control"] == "no-store"


def test_a_key_cannot_assert_another_system(world: World, url: str) -> None:
    assert ask_token(url, **assertion(world, SENDING, key=RECEIVING)).json["reason"] == "assertion-invalid"


def test_a_suspended_system_gets_no_token_and_its_old_one_is_worth_nothing(world: World, url: str) -> None:
    assert ask_token(url, **assertion(world, SUSPENDED)).status == 401
    answer = ask("GET", f"{url}/v1/inbox", headers=world.bearer(SUSPENDED))
    assert (answer.status, answer.json["reason"]) == (401, "token-invalid")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_token_ends(world: World, url: str) -> None:
    old = world.bearer()
    with time_machine.travel(utc_now() + timedelta(seconds=601), tick=True):
        answer = ask("GET", f"{url}/v1/inbox", headers=old)
    assert (answer.status, answer.json["reason"]) == (401, "token-expired")


def test_a_form_that_is_too_large_is_refused(url: str) -> None:
    answer = ask_token(url, client_id=SENDING, client_secret="x" * 20_000)
    assert (answer.status, answer.json["reason"]) == (413, "body-too-large")
    assert ask_token(url, client_id=SENDING, client_secret=SECRET).status == 200


def test_the_bus_shows_its_public_keys_and_no_private_part(world: World, url: str) -> None:
    (key,) = ask("GET", f"{url}/v1/keys").json["keys"]
    assert key["kid"] == world.bus.ring.current.key_id
    assert not {"d", "p", "q", "k"} & key.keys()
