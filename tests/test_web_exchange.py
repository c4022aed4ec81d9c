"""Messages in, their state and receipts out: `/v1/exchange` over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bus_world import RECEIVING, World, ask, bus_world, post


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path) as world:
        yield world


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with world.serving() as url:
        yield url


def test_a_signed_message_is_answered_with_a_receipt(world: World, url: str) -> None:
    message = world.signed()
    answer = post(url, message)
    assert answer.status == 202
    assert answer.json["message_id"] == message.manifest.message_id
    status = ask("GET", f"{url}/v1/exchange/{message.manifest.message_id}", headers=world.bearer(RECEIVING))
    assert status.status == 200


def test_the_real_server_takes_it_too(world: World) -> None:
    with world.server_process() as url:
        answer = post(url, world.signed())
        assert answer.status == 202, answer.body
