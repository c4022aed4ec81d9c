"""Monthly ratings: parts that add up to a hundred, and rows of others as they are."""

from __future__ import annotations

import json
import unicodedata
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.problem import Malformed
from schemas.ratings import Rating, Satisfaction, monthly_rows, read_answer, read_percentages, whole_percentages
from schemas.validation import compile_schema

SCHEMA = Path(__file__).resolve().parent.parent / "schemas" / "partners" / "national_portal" / "rating-sync.schema.json"


@pytest.mark.parametrize(
    "counts, parts",
    [
        ((108, 10, 2), (90, 8, 2)),
        ((1, 1, 1), (34, 33, 33)),
        ((2, 1, 0), (67, 33, 0)),
        ((1, 1, 6), (13, 12, 75)),
        ((0, 0, 0), (0, 0, 0)),
        ((5, 0, 0), (100, 0, 0)),
        ((999, 1, 0), (100, 0, 0)),
        ((332, 333, 335), (33, 33, 34)),
    ],
)
def test_parts_are_rounded_together(counts: tuple[int, ...], parts: tuple[int, ...]) -> None:
    assert whole_percentages(counts) == parts


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=5))
def test_parts_add_up_to_a_hundred_and_none_is_off_by_one_or_more(counts: list[int]) -> None:
    parts, total = whole_percentages(counts), sum(counts)
    assert sum(parts) == (100 if total else 0)
    assert all(abs(part * total - count * 100) < total or not total for part, count in zip(parts, counts, strict=True))


def test_a_negative_count_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="negative"):
        whole_percentages((1, -1, 0))


@pytest.mark.parametrize(
    "text, answer",
    [
        ("RẤT HÀI LÒNG", Satisfaction.VERY_SATISFIED),
        ("Hài lòng", Satisfaction.SATISFIED),
        (unicodedata.normalize("NFD", " không hài  lòng "), Satisfaction.NOT_SATISFIED),
        ("Chưa hài lòng", Satisfaction.NOT_SATISFIED),
    ],
)
def test_an_answer_is_known_in_any_spelling(text: str, answer: Satisfaction) -> None:
    assert read_answer(text) is answer


@pytest.mark.parametrize("text", ["", "HAI LONG", "RẤT KHÔNG HÀI LÒNG", None, 1])
def test_an_answer_that_is_not_in_the_list_is_refused(text: Any) -> None:
    with pytest.raises(Malformed):
        read_answer(text)


def test_a_month_has_one_row_for_each_question_that_the_portal_takes() -> None:
    def rated(question: str, *answers: int, day: date = date(2026, 4, 30)) -> list[Rating]:
        return [
            Rating(question=question, answer=Satisfaction(place), day=day)
            for place, count in enumerate(answers)
            for _ in range(count)
        ]

    ratings = (
        rated("Thái độ", 108, 10, 2) + rated("Thời gian", 1, 1, 1) + rated("Thái độ", 0, 0, 9, day=date(2026, 5, 1))
    )
    rows = monthly_rows(ratings, year=2026, month=4, agency="H99", agency_name="Tỉnh Thử Nghiệm")
    assert [(row["NgayTongHop"], row["NoiDung"], row["TongSoNguoiDanhGia"]) for row in rows] == [
        ("4-2026", "Thái độ", 120),
        ("4-2026", "Thời gian", 3),
    ]
    assert [read_percentages(row) for row in rows] == [(90, 8, 2), (34, 33, 33)]
    compile_schema(json.loads(SCHEMA.read_bytes())).validate(json.dumps({"data": rows}).encode(), "application/json")
    assert monthly_rows([], year=2026, month=4, agency="H99", agency_name="") == []


@pytest.mark.parametrize(
    "values, parts",
    [
        (("90%", "8%", "2%"), (90, 8, 2)),
        (("33%", "33%", "33%"), (33, 33, 33)),
        (("51 %", "50", 1), (51, 50, 1)),
        (("89,9%", "10.1%", 0.0), (89, 10, 0)),
        (("90%", "8%", ""), None),
        (("90%", "8%", None), None),
        (("190%", "8%", "2%"), None),
        (("-1%", "99%", "2%"), None),
        ((True, "99%", "2%"), None),
    ],
)
def test_rows_of_others_are_read_whatever_they_add_up_to(
    values: tuple[Any, ...], parts: tuple[int, ...] | None
) -> None:
    names = ("PhanTramDanhGiaRatHaiLong", "PhanTramDanhGiaHaiLong", "PhanTramDanhGiaChuaHaiLong")
    assert read_percentages(dict(zip(names, values, strict=True))) == parts
