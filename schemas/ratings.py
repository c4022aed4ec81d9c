"""What citizens say of a dossier's handling, and the monthly rows that the national portal wants of it.

::

    {"MaHoSo", "LoaiDanhGia", "NoiDungDanhGia": "<question>", "DanhGia": "RẤT HÀI LÒNG", "ThoiGianDanhGia"}

    {"NgayTongHop": "4-2026", "TongSoNguoiDanhGia": 120, "PhanTramDanhGiaRatHaiLong": "90%",
     "PhanTramDanhGiaHaiLong": "8%", "PhanTramDanhGiaChuaHaiLong": "2%", …, "NoiDung": "<question>", "Madonvi"}

Source: vietnam.md 4.20 (OCPS-DVC, TD-RATE). The client that is in the field divides whole numbers before it rounds, so
its three parts add up to 98 or 99; ours add up to 100, and rows of others are read as they are. All functions are pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import IntEnum, StrEnum
from typing import Any, Final

from schemas.identifiers import AgencyCode, DossierCode
from schemas.moment import VIETNAM
from schemas.places import Places
from schemas.problem import Malformed
from schemas.text import name_key, nfc


class Satisfaction(IntEnum):
    """An answer, from the best to the worst; the number is its place among the parts."""

    VERY_SATISFIED = 0
    SATISFIED = 1
    NOT_SATISFIED = 2


#: ``DanhGia`` as it is written, in capitals.
ANSWERS: Final[Mapping[str, Satisfaction]] = {
    "RẤT HÀI LÒNG": Satisfaction.VERY_SATISFIED,
    "HÀI LÒNG": Satisfaction.SATISFIED,
    "KHÔNG HÀI LÒNG": Satisfaction.NOT_SATISFIED,
    "CHƯA HÀI LÒNG": Satisfaction.NOT_SATISFIED,
}
#: Members of a row for the three parts, in the order of :class:`Satisfaction`; the second three repeat them for the
#: service, as the client in the field does.
PARTS: Final = ("PhanTramDanhGiaRatHaiLong", "PhanTramDanhGiaHaiLong", "PhanTramDanhGiaChuaHaiLong")
SERVICE_PARTS: Final = (
    "PhanTramDanhGiaDichVuRatHaiLong",
    "PhanTramDanhGiaDichVuHaiLong",
    "PhanTramDanhGiaDichVuChuaHaiLong",
)
#: Longest code; longest question, and name of whoever rates.
_CODE: Final = 50
_QUESTION: Final = 2000
_PERCENT: Final = re.compile(r"([0-9]{1,3})(?:[.,][0-9]{1,4})?\s*%?")


#: The member of a payload schema that says where ratings stand.
ANNOTATION: Final = "x-lgsp-rating"


class Kind(StrEnum):
    """Who rates: the person served, or an officer about another unit's part (vietnam.md 1.5 S4-5)."""

    CITIZEN = "citizen"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """One person's answer to one question about one dossier."""

    question: str
    answer: Satisfaction
    day: date


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenRating:
    """A rating as a message gave it: who rates is only there to count one person once."""

    kind: Kind
    #: The agency in the dossier's code.
    unit: AgencyCode | None
    dossier: str
    rater: str
    at: datetime
    rating: Rating


def read_ratings(document: Any, places: Places, accepted_at: datetime) -> Iterator[GivenRating]:
    """The ratings in a payload. What names no dossier, no question, no known kind or answer is passed over: the
    service's schema refuses it, and nothing is made up."""
    kinds = places.stated.get("kinds", {})
    for item in places.items(document):
        dossier, question = places.text(item, "dossier", _CODE), places.text(item, "question", _QUESTION)
        kind = kinds.get(places.text(item, "kind", _CODE))
        try:
            answer = read_answer(places.raw(item, "answer"))
        except Malformed:
            continue
        if not dossier or not question or kind not in tuple(Kind):
            continue
        # Nobody rated after we had it.
        at = min(places.moment(item, "at") or accepted_at, accepted_at)
        yield GivenRating(
            kind=Kind(kind),
            unit=_unit_of(dossier),
            dossier=dossier,
            rater=name_key(places.text(item, "rater", _QUESTION) or ""),
            at=at,
            rating=Rating(question=nfc(" ".join(question.split())), answer=answer, day=at.astimezone(VIETNAM).date()),
        )


def last_words(given: Iterable[GivenRating]) -> Iterator[GivenRating]:
    """Of one person's answers to one question about one dossier the last; of those of one moment the one that came
    last. Answers without a name are one person's: a device that asks nobody's name asks once."""
    last: dict[tuple[str, ...], GivenRating] = {}
    for one in given:
        key = (one.kind, one.dossier, one.rater, name_key(one.rating.question))
        known = last.get(key)
        if known is None or one.at >= known.at:
            last[key] = one
    return iter(last.values())


def _unit_of(dossier: str) -> AgencyCode | None:
    try:
        return DossierCode(dossier).agency
    except Malformed:
        return None


def read_answer(text: object) -> Satisfaction:
    """The answer in a ``DanhGia``, whatever its capitals and its Unicode composition. Raises Malformed."""
    answer = ANSWERS.get(name_key(text)) if isinstance(text, str) else None
    if answer is None:
        raise Malformed("rating-unknown")
    return answer


def whole_percentages(counts: Sequence[int]) -> tuple[int, ...]:
    """Parts of a hundred, whole and together exactly 100 (largest remainder; of equal ones the first gets more); all
    zero when there is nothing to divide. Raises ValueError for a negative count."""
    if any(count < 0 for count in counts):
        raise ValueError("a count is not negative")
    total = sum(counts)
    if not total:
        return tuple(0 for _ in counts)
    parts = [count * 100 // total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda at: (-(counts[at] * 100 % total), at))
    for at in by_remainder[: 100 - sum(parts)]:
        parts[at] += 1
    return tuple(parts)


def monthly_rows(
    ratings: Iterable[Rating], *, year: int, month: int, agency: str, agency_name: str
) -> list[dict[str, Any]]:
    """The rows of DongBoDanhGia for a month: one for each question, in the order of questions; none when nobody rated.

    Days are those of Asia/Ho_Chi_Minh; ratings of other months are left out.
    """
    counts: dict[str, list[int]] = {}
    for rating in ratings:
        if (rating.day.year, rating.day.month) == (year, month):
            counts.setdefault(rating.question, [0, 0, 0])[rating.answer] += 1
    return [_row(question, counts[question], f"{month}-{year}", agency, agency_name) for question in sorted(counts)]


def _row(question: str, counts: Sequence[int], month: str, agency: str, agency_name: str) -> dict[str, Any]:
    parts = [f"{part}%" for part in whole_percentages(counts)]
    return {
        "NgayTongHop": month,
        "TongSoNguoiDanhGia": sum(counts),
        **dict(zip(PARTS, parts, strict=True)),
        **dict(zip(SERVICE_PARTS, parts, strict=True)),
        "NoiDung": question,
        "DanhSachNoiDungYKien": "",
        "MaThuTuc": "",
        "Madonvi": agency,
        "TenDonVi": agency_name,
    }


def read_percentages(row: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The three parts of somebody's row, whatever they add up to: ``"90%"``, ``"90 %"``, ``90``, ``"89,9%"`` (cut to
    whole). None when one of them is no percentage: then the row is not to be counted."""
    parts = [_percent(row.get(member)) for member in PARTS]
    return tuple(part for part in parts if part is not None) if None not in parts else None


def _percent(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    found = _PERCENT.fullmatch(str(value).strip())
    return int(found[1]) if found and int(found[1]) <= 100 else None
