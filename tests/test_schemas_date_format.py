"""Dates in the patterns of partners: read strictly, written exactly, wrong letters refused by name."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.date_format import read_date_pattern, rewrite_date
from schemas.moment import VIETNAM

#: Every form of pitfall P1 for one moment, 23 April 2026, 13:30:15.123.
FORMS: dict[str, str | int] = {
    "yyyyMMddHHmmss": "20260423133015",
    "dd/MM/yyyy HH:mm:ss": "23/04/2026 13:30:15",
    "dd/MM/yyyy": "23/04/2026",
    "yyyyMMdd": "20260423",
    "yyyy/MM/dd HH:mm:ss": "2026/04/23 13:30:15",
    "MM/dd/yyyy": "04/23/2026",
    "dd.MM.yyyy": "23.04.2026",
    "yyyy-MM-ddTHH:mm:ss.fff": "2026-04-23T13:30:15.123",
    "yyyy-MM-dd'T'HH:mm:ss.SSSXXX": "2026-04-23T13:30:15.123+07:00",
    "epoch-ms": 1776925815123,
    "ddMMyyyy'T'HHmmssZ": "23042026T133015+0700",
    "ddMMyyyy'T'HHmmssX": "23042026T133015+07",
    "d/M/yyyy H:mm": "23/4/2026 13:30",
    "MM/yyyy": "04/2026",
    "yyyy": "2026",
    "'ngày' dd 'tháng' MM 'năm' yyyy": "ngày 23 tháng 04 năm 2026",
    "yyyy''MM": "2026'04",
}
FULLEST = "yyyy-MM-dd'T'HH:mm:ss.SSSXXX"


def rewritten(value: Any, source: str, target: str) -> str | int | None:
    return rewrite_date(value, [read_date_pattern(source)], [read_date_pattern(target)])


@pytest.mark.parametrize("pattern", FORMS)
def test_every_form_of_a_province_is_written(pattern: str) -> None:
    assert rewritten(FORMS[FULLEST], FULLEST, pattern) == FORMS[pattern]


@pytest.mark.parametrize("pattern", FORMS)
def test_every_form_of_a_province_is_read(pattern: str) -> None:
    assert rewritten(FORMS[pattern], pattern, pattern) == FORMS[pattern]


@pytest.mark.parametrize("target", FORMS)
@pytest.mark.parametrize("source", FORMS)
def test_nothing_is_invented_between_two_forms(source: str, target: str) -> None:
    one, other = read_date_pattern(source), read_date_pattern(target)
    if one.lacks(other):
        assert {"month", "day"} & (other.parts - one.parts)
        return
    there = rewritten(FORMS[source], source, target)
    assert rewritten(there, target, "yyyy") == "2026"
    if "day" in other.parts:
        assert rewritten(there, target, "dd/MM/yyyy") == "23/04/2026"


@pytest.mark.parametrize(
    "value, source, target, expected",
    [
        ("23/04/2026", "dd/MM/yyyy", "yyyyMMddHHmmss", "20260423000000"),
        ("23/04/2026", "dd/MM/yyyy", "epoch-ms", 1776877200000),
        ("1776877200000", "epoch-ms", "dd/MM/yyyy", "23/04/2026"),
        (-1, "epoch-ms", "yyyy-MM-dd HH:mm:ss.SSS", "1970-01-01 07:59:59.999"),
        ("2026-04-23T03:00:00Z", "yyyy-MM-dd'T'HH:mm:ssXXX", "dd/MM/yyyy HH:mm", "23/04/2026 10:00"),
        ("2026-04-23T18:00:00-0530", "yyyy-MM-dd'T'HH:mm:ssXXX", "dd/MM/yyyy HH:mm", "24/04/2026 06:30"),
        # Sài Gòn kept UTC+8 from 1960 to 1975: a birthday as milliseconds must not slip to the day before.
        ("01/01/1960", "dd/MM/yyyy", "epoch-ms", -315648000000),
        (-315648000000, "epoch-ms", "dd/MM/yyyy", "01/01/1960"),
        ("01/01/1900", "dd/MM/yyyy", "yyyy-MM-dd'T'HHXXX", "1900-01-01T00+07:00"),
        ("29/02/2024", "dd/MM/yyyy", "yyyyMMdd", "20240229"),
        ("3/4/2026", "d/M/yyyy", "dd/MM/yyyy", "03/04/2026"),
        ("03/04/2026", "d/M/yyyy", "d/M/yyyy", "3/4/2026"),
    ],
)
def test_a_date_in_another_form(value: Any, source: str, target: str, expected: str | int) -> None:
    assert rewritten(value, source, target) == expected


@pytest.mark.parametrize(
    "value, source",
    [
        ("30/02/2026", "dd/MM/yyyy"),
        ("29/02/2026", "dd/MM/yyyy"),
        ("00/01/2026", "dd/MM/yyyy"),
        ("04/23/2026", "dd/MM/yyyy"),
        ("23/04/26", "dd/MM/yyyy"),
        ("3/4/2026", "dd/MM/yyyy"),
        (" 23/04/2026", "dd/MM/yyyy"),
        ("23/04/2026\n", "dd/MM/yyyy"),
        ("٢٣/٠٤/٢٠٢٦", "dd/MM/yyyy"),
        ("23/04/0000", "dd/MM/yyyy"),
        ("20260423250000", "yyyyMMddHHmmss"),
        ("20260423", "yyyyMMddHHmmss"),
        ("2026-04-23T10:00:00+99:00", "yyyy-MM-dd'T'HH:mm:ssXXX"),
        ("2026-04-23T10:00:00+07:60", "yyyy-MM-dd'T'HH:mm:ssXXX"),
        ("0001-01-01T00:00:00+14:00", "yyyy-MM-dd'T'HH:mm:ssXXX"),
        (20260423, "yyyyMMdd"),
        (None, "yyyyMMdd"),
        (True, "epoch-ms"),
        (1.5, "epoch-ms"),
        ("1e9", "epoch-ms"),
        ("9" * 16, "epoch-ms"),
        (10**18, "epoch-ms"),
        ("2026" * 100, "yyyy"),
    ],
)
def test_what_is_not_in_the_pattern_is_no_date(value: Any, source: str) -> None:
    assert rewritten(value, source, "yyyy") is None


@pytest.mark.parametrize(
    "pattern, word",
    [
        ("yyyyMMddhhmmss", "12 hours"),
        ("dd/MM/yyyy KK:mm", "12 hours"),
        ("dd/MM/yyyy kk:mm", "write HH"),
        ("dd/MM/yyyy HH:mm a", "12-hour"),
        ("YYYYMMdd", "year of the week"),
        ("DD/MM/yyyy", "day of the year"),
        ("dd/mm/yyyy", "the month is MM"),
        ("dd/MM/yy", "no part of a date"),
        ("ddd/MM/yyyy", "no part of a date"),
        ("yyyy EEE", "no part of a date"),
        ("yyyyTTMM", "no part of a date"),
        ("dMyyyy", "write dd"),
        ("dd/MM", "its year"),
        ("dd/yyyy", "without the coarser"),
        ("yyyy HH", "without the coarser"),
        ("dd/MM/yyyy ss", "without the coarser"),
        ("MM/MM/yyyy", "twice"),
        ("dd/MM/yyyyXXX", "time of day"),
        ("yyyy'MM", "quote"),
        ("", "1 to 60"),
        ("y" * 61, "1 to 60"),
    ],
)
def test_a_pattern_that_would_mislead_is_refused_with_words(pattern: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        read_date_pattern(pattern)


@given(moment=st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))  # noqa: DTZ001 - made local
def test_a_moment_written_in_full_is_read_back(moment: datetime) -> None:
    local = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=VIETNAM)
    pattern = read_date_pattern("yyyy-MM-dd HH:mm:ss.SSS")
    assert pattern.read(pattern.write(local)) == local


@given(text=st.text(max_size=70))
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    for pattern in FORMS:
        read_date_pattern(pattern).read(text)


@given(text=st.text(alphabet="yMdHmsSXZTf'/ -.:hY", max_size=65))
def test_any_pattern_is_understood_or_refused_and_nothing_else(text: str) -> None:
    try:
        pattern = read_date_pattern(text)
    except ValueError:
        return
    moment = datetime(2026, 4, 23, 13, 30, 15, tzinfo=VIETNAM)
    assert pattern.read(pattern.write(moment)) is not None
