"""Bulk work and alerts on PostgreSQL: the statements that differ, and several processes at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from bus.alerts import Finding, Kind, Rule
from bus.bulk import Deed, JobState, Meant
from bus.incidents import PATIENCE, AlertStore
from bus.records import State
from bus.watching import Watch
from schemas.moment import utc_now
from tests.bus_world import RECEIVING, World, bus_world
from tests.postgresql import private_postgresql
from tests.test_cli_operations import dead_letter
from tests.test_console_alerts import breaker, event, made
from tests.test_console_bulk import REFUSED, bulk_of, carry_on, order, state_of

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def url(missing_service: Callable[[str], NoReturn]) -> Iterator[str]:
    with private_postgresql(missing_service) as server:
        yield server.url(server.new_database())


@pytest.fixture
def world(tmp_path: Path, url: str) -> Iterator[World]:
    with bus_world(tmp_path, store_url=url) as world:
        yield world


def test_bulk_work_and_alerts_on_postgresql(world: World) -> None:
    messages = [dead_letter(world) for _ in range(5)]
    dead_letter(world, REFUSED)
    meant = Meant(reason="provider-unreachable", agency=RECEIVING.agency)
    preview = bulk_of(world).preview(Deed.REPLAY, meant)
    assert [(group.reason, group.count, group.calls) for group in preview.groups] == [("provider-unreachable", 5, 0)]
    job = order(world, Deed.SET_ASIDE, meant, batch=2)
    carry_on_together(world, turns=6)
    job = bulk_of(world).job(job.id)
    assert (job.state, job.looked, job.moved) == (JobState.DONE, 5, 5)
    assert {state_of(world, each) for each in messages} == {State.SET_ASIDE}
    order(world, Deed.TAKE_BACK, meant, form="back")
    assert carry_on(world, 2) == 5
    order(world, Deed.REPLAY, meant, form="again")
    assert carry_on(world, 2) == 5
    assert {state_of(world, each) for each in messages} == {State.WAITING}

    rule = made(world, Rule(kind=Kind.BREAKER, limit=0, emails=("truc@h99.example",)))
    store, now = AlertStore(world.bus.store), utc_now()
    found = [Finding(subject=RECEIVING, value=0, agency=RECEIVING.agency)]
    opened = at_once(lambda: store.keep(rule, found, now)[0])
    assert sum(opened) == 1
    taken = at_once(lambda: len(store.take_due_notices(now)))
    assert sum(taken) == 1
    assert sum(at_once(lambda: store.keep(rule, [], now + PATIENCE)[1])) == 1
    for each in store.rules():
        store.save(replace(each, enabled=True), event("changed"))
    breaker(world)
    Watch(world.bus).look(utc_now() + timedelta(hours=1))
    kinds = {incident.rule.kind for incident in store.open_incidents()}
    assert kinds >= {Kind.BREAKER, Kind.QUEUE_AGE, Kind.CHECKPOINT}


def carry_on_together(world: World, turns: int) -> None:
    at_once(lambda: carry_on(world), turns)


def at_once(do: Callable[[], int], times: int = 4) -> list[int]:
    """On so many threads; what each returned."""
    returned: list[int] = []
    threads = [threading.Thread(target=lambda: returned.append(do())) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(returned) == times
    return returned
