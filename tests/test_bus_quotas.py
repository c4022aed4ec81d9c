"""Quota counts: what this process remembers, and what the store told it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bus.quotas import QuotaMeter, quota_periods
from registry.access import Usage
from registry.model import Grant, Quota
from schemas.identifiers import AgencyCode, ServiceCode

#: 2026-11-22 00:00:30 in Vietnam.
MIDNIGHT = datetime(2026, 11, 21, 17, 0, 30, tzinfo=UTC)


def _grant(per_minute: int = 0, per_day: int = 0) -> Grant:
    quota = Quota(per_minute=per_minute, per_day=per_day)
    return Grant(id="g", service=ServiceCode("dossier.transfer"), grantee=AgencyCode("H99.15"), quota=quota)


@pytest.mark.parametrize(
    "grant,periods",
    [
        (_grant(), ()),
        (_grant(per_day=1), (("g", "2026-11-22"),)),
        (_grant(per_minute=1), (("g", "2026-11-22T00:00"),)),
        (_grant(1, 1), (("g", "2026-11-22"), ("g", "2026-11-22T00:00"))),
    ],
    ids=["none", "day", "minute", "both"],
)
def test_periods_are_days_and_minutes_in_vietnam(grant: Grant, periods: tuple[tuple[str, str], ...]) -> None:
    assert quota_periods(grant, MIDNIGHT) == periods


def test_the_store_is_asked_once_for_each_period() -> None:
    asked: list[tuple[str, str]] = []

    def read(grant_id: str, period: str) -> int:
        asked.append((grant_id, period))
        return 7 if "T" in period else 40

    meter, grant = QuotaMeter(read), _grant(10, 100)
    for _ in range(3):
        assert meter.usage(grant, MIDNIGHT) == Usage(this_minute=7, today=40)
    assert len(asked) == 2


def test_a_message_counts_before_it_is_recorded_and_the_stores_word_is_learnt() -> None:
    meter, grant = QuotaMeter(lambda *_: 5), _grant(per_day=100)
    (period,) = quota_periods(grant, MIDNIGHT)
    meter.usage(grant, MIDNIGHT)
    meter.count((period,))
    assert meter.usage(grant, MIDNIGHT).today == 6
    meter.learn({period: 60})
    assert meter.usage(grant, MIDNIGHT).today == 60, "other processes counted, too"
    meter.learn({period: 59})
    assert meter.usage(grant, MIDNIGHT).today == 60, "an answer that comes late takes nothing back"


def test_memory_is_bounded_and_starts_again_from_the_store() -> None:
    meter = QuotaMeter(lambda *_: 3)
    meter.MOST_REMEMBERED = 2
    for second in range(10):
        meter.usage(_grant(per_minute=1), MIDNIGHT.replace(minute=second))
    assert len(meter._used) <= 4
    assert meter.usage(_grant(per_minute=1), MIDNIGHT).this_minute == 3
