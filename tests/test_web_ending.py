"""Ending the server: requests under way are answered, and nobody holds it up."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.bus_world import RECEIVING, Answer, ask, bus_world


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
