"""Breakers and limits per receiving system."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from bus.bulkheads import BreakerState, Bulkheads
from schemas.identifiers import SystemCode

ONE, OTHER = SystemCode("G99/csdl"), SystemCode("G99/khac")
LIMIT = 3


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bulkheads(clock: Clock) -> Bulkheads:
    return Bulkheads(failures_to_open=2, open_seconds=10, clock=clock)


def _fail(bulkheads: Bulkheads, times: int) -> None:
    for _ in range(times):
        bulkheads.enter(ONE)
        bulkheads.leave(ONE, healthy=False)


def test_no_more_calls_than_the_limit_run_at_once(bulkheads: Bulkheads) -> None:
    assert [bulkheads.try_enter(ONE, LIMIT) for _ in range(5)] == [True, True, True, False, False]
    assert bulkheads.free_places(ONE, LIMIT) == 0
    assert bulkheads.free_places(OTHER, LIMIT) == LIMIT, "a full system takes nothing from others"
    bulkheads.leave(ONE, healthy=True)
    assert bulkheads.free_places(ONE, LIMIT) == 1
    assert bulkheads.free_places(ONE, 1) == 0, "a limit that was lowered is obeyed"


def test_the_limit_holds_among_threads(bulkheads: Bulkheads) -> None:
    with ThreadPoolExecutor(8) as pool:
        entered = list(pool.map(lambda _: bulkheads.try_enter(ONE, LIMIT), range(64)))
    assert sum(entered) == LIMIT


def test_failures_in_a_row_open_the_breaker_of_that_system_only(bulkheads: Bulkheads) -> None:
    _fail(bulkheads, 1)
    assert bulkheads.state(ONE) is BreakerState.CLOSED
    _fail(bulkheads, 1)
    assert bulkheads.state(ONE) is BreakerState.OPEN
    assert bulkheads.free_places(ONE, LIMIT) == 0
    assert not bulkheads.try_enter(ONE, LIMIT)
    assert bulkheads.all_states() == {ONE: BreakerState.OPEN}
    assert bulkheads.state(OTHER) is BreakerState.CLOSED


def test_an_answer_in_between_starts_the_count_again(bulkheads: Bulkheads) -> None:
    for _ in range(5):
        _fail(bulkheads, 1)
        bulkheads.enter(ONE)
        bulkheads.leave(ONE, healthy=True)
    assert bulkheads.state(ONE) is BreakerState.CLOSED


def test_an_open_breaker_rests_then_lets_one_probe_through(bulkheads: Bulkheads, clock: Clock) -> None:
    _fail(bulkheads, 2)
    clock.now = 4.0
    assert bulkheads.seconds_until_probe(ONE) == 6.0
    clock.now = 10.0
    assert bulkheads.state(ONE) is BreakerState.HALF_OPEN
    assert bulkheads.seconds_until_probe(ONE) == 0.0
    assert bulkheads.free_places(ONE, LIMIT) == 1
    assert bulkheads.try_enter(ONE, LIMIT)
    assert bulkheads.free_places(ONE, LIMIT) == 0
    assert not bulkheads.try_enter(ONE, LIMIT)


def test_a_probe_that_succeeds_closes_the_breaker(bulkheads: Bulkheads, clock: Clock) -> None:
    _fail(bulkheads, 2)
    clock.now = 10.0
    bulkheads.enter(ONE)
    bulkheads.leave(ONE, healthy=True)
    assert bulkheads.state(ONE) is BreakerState.CLOSED
    assert bulkheads.free_places(ONE, LIMIT) == LIMIT


def test_a_probe_that_fails_opens_it_for_another_rest(bulkheads: Bulkheads, clock: Clock) -> None:
    _fail(bulkheads, 2)
    clock.now = 10.0
    _fail(bulkheads, 1)
    assert bulkheads.state(ONE) is BreakerState.OPEN
    assert bulkheads.seconds_until_probe(ONE) == 10.0


def test_calls_that_were_under_way_when_it_opened_are_still_counted_out(bulkheads: Bulkheads, clock: Clock) -> None:
    for _ in range(LIMIT):
        bulkheads.enter(ONE)
    for _ in range(LIMIT):
        bulkheads.leave(ONE, healthy=False)
    clock.now = 10.0
    assert bulkheads.free_places(ONE, LIMIT) == 1
