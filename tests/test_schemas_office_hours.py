"""Office time in Vietnam: halves of days, weekends, holidays."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from schemas.moment import VIETNAM
from schemas.office_hours import is_working_day, office_time


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=VIETNAM)


@pytest.mark.parametrize(
    ("since", "until", "minutes"),
    [
        ("2026-11-23T08:00", "2026-11-23T09:00", 60),  # a Monday
        ("2026-11-23T06:00", "2026-11-23T08:00", 30),
        ("2026-11-23T11:00", "2026-11-23T14:00", 60),  # over lunch
        ("2026-11-20T16:30", "2026-11-23T08:00", 60),  # over a weekend
        ("2026-11-21T08:00", "2026-11-22T17:00", 0),
        ("2026-04-29T16:00", "2026-05-04T08:00", 90),  # Reunification and Labour Day
        ("2026-11-23T09:00", "2026-11-23T08:00", 0),
        ("2020-01-01T00:00", "2026-11-23T17:00", None),  # no more than sixty days are counted
    ],
)
def test_only_office_time_counts(since: str, until: str, minutes: int | None) -> None:
    counted = office_time(at(since), at(until))
    if minutes is None:
        assert timedelta(hours=200) < counted < timedelta(hours=400)
    else:
        assert counted == timedelta(minutes=minutes)


def test_utc_moments_are_understood() -> None:
    begin, end = at("2026-11-23T08:00"), at("2026-11-23T09:00")
    assert office_time(begin.astimezone(UTC), end.astimezone(UTC)) == timedelta(hours=1)


@pytest.mark.parametrize("day", ["2026-02-16", "2026-02-17", "2026-02-20", "2026-09-02", "2027-04-16", "2026-11-22"])
def test_nobody_works_on_these_days(day: str) -> None:
    assert not is_working_day(date.fromisoformat(day))


@pytest.mark.parametrize("day", ["2026-02-12", "2026-02-24", "2026-09-03", "2026-11-23"])
def test_these_are_working_days(day: str) -> None:
    assert is_working_day(date.fromisoformat(day))
