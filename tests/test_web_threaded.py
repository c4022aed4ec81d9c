"""The bus on granian: the same answers as on gevent, from real threads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bus_world import bus_world, post


@pytest.mark.slow
def test_the_bus_answers_on_granian_as_on_gevent(tmp_path: Path) -> None:
    with bus_world(tmp_path) as world, world.server_process(server="granian") as url:
        message = world.signed()
        first = post(url, message)
        again = post(url, message)
        wrong = post(url, world.signed({"title": 1}))
    assert first.status == 202
    assert again.status == 200
    assert again.json == first.json
    assert wrong.status == 422
    assert wrong.json["reason"] == "payload-breaks-schema"
