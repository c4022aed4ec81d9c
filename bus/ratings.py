"""What people said of dossiers' handling, month by month: counted per unit, kind and question from their messages.

The rules are those of :mod:`schemas.ratings`. Who rated is used to count one person once, and is told to nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bus.ledger import Ledger
from bus.readings import Reading, read_again
from registry.directory import Directory
from schemas.identifiers import AgencyCode
from schemas.ratings import (
    ANNOTATION,
    GivenRating,
    Kind,
    Satisfaction,
    last_words,
    monthly_rows,
    read_ratings,
    whole_percentages,
)


@dataclass(slots=True, kw_only=True)
class RatingFigures:
    """Answers to one question about one unit's dossiers."""

    unit: str
    kind: Kind
    question: str
    counts: list[int]

    @property
    def rated(self) -> int:
        return sum(self.counts)

    @property
    def percentages(self) -> tuple[int, ...]:
        """Whole, together 100, in the order of :class:`Satisfaction`."""
        return whole_percentages(self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingBook:
    """The ratings of a month, of one unit with those below it or of all."""

    given: tuple[GivenRating, ...]
    reading: Reading

    def figures(self) -> list[RatingFigures]:
        """By unit, kind and question."""
        found: dict[tuple[str, Kind, str], RatingFigures] = {}
        for one in self.given:
            key = (one.unit or "", one.kind, one.rating.question)
            if key not in found:
                found[key] = RatingFigures(unit=key[0], kind=key[1], question=key[2], counts=[0] * len(Satisfaction))
            found[key].counts[one.rating.answer] += 1
        return [found[key] for key in sorted(found)]

    def portal_rows(self, month: datetime, agency: str, agency_name: str) -> list[dict[str, Any]]:
        """The rows of DongBoDanhGia for all of it under one agency's name: what citizens said, and nothing else."""
        return monthly_rows(
            (one.rating for one in self.given if one.kind is Kind.CITIZEN),
            year=month.year,
            month=month.month,
            agency=agency,
            agency_name=agency_name,
        )


def rating_book(
    ledger: Ledger, directory: Directory, since: datetime, until: datetime, unit: AgencyCode | None = None
) -> RatingBook:
    """Ratings given in ``[since, until)``, whenever their messages came after that. ``unit``: this agency and those
    below it. Raises Malformed for a schema whose annotation is wrong."""
    reading = Reading()
    given = (
        one
        for carried, places, document in read_again(ledger, directory, ANNOTATION, since, reading)
        for one in read_ratings(document, places, carried.received_at)
    )
    kept = tuple(
        one
        for one in last_words(given)
        if since <= one.at < until and (unit is None or (one.unit is not None and one.unit.is_within(unit)))
    )
    return RatingBook(given=kept, reading=reading)
