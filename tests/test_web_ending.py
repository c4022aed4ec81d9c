"""Ending the server: requests under way are answered, and nobody holds it up."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import urllib3

from bus.nodes import Role
from tests.bus_world import RECEIVING, Answer, ask, bus_world, post
from tests.programs import Program


@pytest.mark.slow
def test_a_long_poll_does_not_hold_up_the_end_of_the_server(tmp_path: Path) -> None:
    answers: list[Answer] = []
    with bus_world(tmp_path) as world:
        with world.server_process() as url:
            bearer = world.bearer(RECEIVING)
            assert (
                ask("GET", f"{url}/v1/inbox?wait=0", None, bearer).status == 200
            )  # the first call of a process is slow
            poll = threading.Thread(target=lambda: answers.append(ask("GET", f"{url}/v1/inbox?wait=25", None, bearer)))
            poll.start()
            time.sleep(2.0)  # long enough for the poll to be waiting
            told_to_end = time.monotonic()
        took = time.monotonic() - told_to_end
        poll.join(30)
    assert took < 8
    assert [(answer.status, answer.json) for answer in answers] == [(200, {"deliveries": []})]


@pytest.mark.slow
def test_a_server_that_ends_says_so_first_and_answers_everything_meanwhile(tmp_path: Path) -> None:
    """For the pause `/readyz` is red, so that a proxy looks away; and a connection that is kept open is closed by an
    answer that says so, never under a request."""
    with bus_world(tmp_path) as world, urllib3.PoolManager(retries=False, timeout=10, maxsize=1) as kept:
        server = Program(world, "serve", drain_seconds=2)
        try:
            server.wait_until_it_serves()
            assert not_ready(kept, server.url) == []
            assert kept.request("GET", f"{server.url}/healthz").headers.get("Connection") == "keep-alive"
            assert [node.role for node in world.bus.nodes.look().nodes] == [Role.SERVE]
            server.tell_to_end()
            patience_ends = time.monotonic() + 2
            while not (failed := not_ready(kept, server.url)) and time.monotonic() < patience_ends:
                time.sleep(0.02)
            assert failed == ["ending"]
            assert kept.request("GET", f"{server.url}/healthz").headers.get("Connection") == "close"
            message = world.signed()
            assert post(server.url, message).status == 202, "what comes in the pause is accepted"
            assert server.wait() == 0
        finally:
            server.kill()
        assert world.bus.nodes.look().nodes == [], "it has left the roll"
        assert world.bus.ledger.find(message.manifest.message_id) is not None


def not_ready(pool: urllib3.PoolManager, url: str) -> list[str]:
    """The checks of `/readyz` that do not hold."""
    response = pool.request("GET", f"{url}/readyz")
    failed = [check["name"] for check in response.json()["checks"] if not check["ok"]]
    assert response.status == (503 if failed else 200)
    return failed
