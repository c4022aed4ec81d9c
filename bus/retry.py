"""What follows from the end of an attempt: a pure decision, made once, acted on elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from bus.records import State
from registry.model import RetryPolicy
from schemas.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDecision:
    """Delivered, again later (then ``due_at`` says when), or dead."""

    state: State
    due_at: datetime | None = None


def decide(
    problem: Problem | None,
    policy: RetryPolicy,
    *,
    tries: int,
    since: datetime,
    now: datetime,
    random: Callable[[], float],
) -> RetryDecision:
    """``tries`` counts this attempt and those before it, from ``since`` (acceptance or the last replay).

    A problem that is not retryable is final. The others are tried again after an exponential delay with full jitter
    between half and all of it (so that 4,000 messages of one outage do not come back in one second), or when the
    receiver said it will be ready, until the policy's attempts or time are used up. ``random()`` is in [0, 1).
    """
    if problem is None:
        return RetryDecision(state=State.DELIVERED)
    if not problem.retryable or tries >= policy.max_attempts:
        return RetryDecision(state=State.DEAD)
    delay = min(_ladder(policy, tries), policy.max_delay_seconds) * (0.5 + random() / 2)
    if problem.retry_after_seconds is not None:
        delay = max(delay, float(problem.retry_after_seconds))
    left = since + timedelta(seconds=policy.give_up_after_seconds) - now
    if delay > left.total_seconds():  # compared as seconds: a receiver may ask for more time than a date can hold
        return RetryDecision(state=State.DEAD)
    return RetryDecision(state=State.WAITING, due_at=now + timedelta(seconds=delay))


def _ladder(policy: RetryPolicy, tries: int) -> float:
    """The delay after so many tries, in seconds, as if it had no upper bound."""
    try:
        return policy.first_delay_seconds * policy.factor ** (tries - 1)
    except OverflowError:
        return math.inf
