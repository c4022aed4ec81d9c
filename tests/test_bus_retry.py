"""What follows from the end of an attempt, by table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.records import State
from bus.retry import RetryDecision, decide
from registry.model import RetryPolicy
from schemas.problem import (
    InternalFailure,
    InvalidReply,
    Problem,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    SchemaViolation,
)

NOON = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)
POLICY = RetryPolicy(
    max_attempts=5, give_up_after_seconds=1000, first_delay_seconds=2.0, factor=3.0, max_delay_seconds=100.0
)


def _decide(
    problem: Problem | None,
    tries: int = 1,
    policy: RetryPolicy = POLICY,
    since: datetime = NOON,
    random: Callable[[], float] = lambda: 1.0,
) -> RetryDecision:
    return decide(problem, policy, tries=tries, since=since, now=NOON, random=random)


def _down(retry_after_seconds: int | None = None) -> Problem:
    return ProviderUnavailable("not-acknowledged", retry_after_seconds=retry_after_seconds)


def test_no_problem_is_delivered() -> None:
    assert _decide(None, tries=99) == RetryDecision(state=State.DELIVERED)


@pytest.mark.parametrize(
    "problem",
    [
        ProviderRejected("refused-by-receiver"),
        InvalidReply("reply-breaks-schema"),
        SchemaViolation("attachment-missing"),
    ],
    ids=lambda problem: problem.slug,
)
def test_a_permanent_problem_is_never_tried_again(problem: Problem) -> None:
    assert _decide(problem) == RetryDecision(state=State.DEAD)


@pytest.mark.parametrize(
    "problem",
    [_down(), ProviderTimeout("provider-timed-out", seconds="1"), InternalFailure()],
    ids=lambda problem: problem.slug,
)
def test_a_passing_problem_is_tried_again(problem: Problem) -> None:
    assert _decide(problem).state is State.WAITING


@pytest.mark.parametrize(
    "tries,delay", [(1, 2.0), (2, 6.0), (3, 18.0), (4, 54.0)], ids=["first", "second", "third", "fourth"]
)
def test_the_delay_grows_and_jitter_takes_at_most_half_of_it(tries: int, delay: float) -> None:
    longest = _decide(_down(), tries, random=lambda: 1.0).due_at
    shortest = _decide(_down(), tries, random=lambda: 0.0).due_at
    assert longest == NOON + timedelta(seconds=delay)
    assert shortest == NOON + timedelta(seconds=delay / 2)


def test_the_delay_has_an_upper_bound() -> None:
    policy = RetryPolicy(max_attempts=5000, first_delay_seconds=2.0, factor=10.0, max_delay_seconds=60.0)
    assert _decide(_down(), 4000, policy).due_at == NOON + timedelta(seconds=60)


def test_the_last_attempt_is_the_last() -> None:
    assert _decide(_down(), 4).state is State.WAITING
    assert _decide(_down(), 5).state is State.DEAD
    assert _decide(_down(), 6).state is State.DEAD


def test_it_is_given_up_when_the_next_try_would_be_too_late() -> None:
    assert _decide(_down(), since=NOON - timedelta(seconds=998)).due_at == NOON + timedelta(seconds=2)
    assert _decide(_down(), since=NOON - timedelta(seconds=999)).state is State.DEAD


def test_a_receiver_that_says_when_is_not_asked_before() -> None:
    assert _decide(_down(retry_after_seconds=500)).due_at == NOON + timedelta(seconds=500)
    assert _decide(_down(retry_after_seconds=1)).due_at == NOON + timedelta(seconds=2), "nor sooner than is polite"
    assert _decide(_down(retry_after_seconds=1001)).state is State.DEAD


def test_a_replay_starts_with_a_fresh_budget() -> None:
    """The caller counts tries from the replay on, and time from its moment."""
    assert _decide(_down(), tries=6, since=NOON - timedelta(days=9)).state is State.DEAD
    assert _decide(_down(), tries=6 - 5, since=NOON).state is State.WAITING


@given(
    tries=st.integers(1, 10_000),
    first=st.floats(0, 1e6),
    factor=st.floats(1, 1e6),
    jitter=st.floats(0, 1, exclude_max=True),
    retry_after=st.none() | st.integers(0, 10**20),
)
def test_whatever_the_policy_the_decision_is_one_of_two(
    tries: int, first: float, factor: float, jitter: float, retry_after: int | None
) -> None:
    policy = RetryPolicy(max_attempts=9_000, first_delay_seconds=first, factor=factor, max_delay_seconds=3600.0)
    decision = _decide(_down(retry_after), tries, policy, random=lambda: jitter)
    if decision.state is State.WAITING:
        assert decision.due_at is not None
        assert timedelta() <= decision.due_at - NOON <= timedelta(seconds=policy.give_up_after_seconds)
    else:
        assert decision == RetryDecision(state=State.DEAD)
