"""The province's petitions as its messages tell of them: grouped, each group with its clock.

The rules are those of :mod:`schemas.petitions`; here is only where they come from. Nothing is kept beside the messages:
what is erased there is gone here, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from importlib.resources import files

from bus.ledger import Ledger
from bus.readings import Reading, read_again
from registry.directory import Directory
from schemas.codec import read_json
from schemas.petitions import (
    ANNOTATION,
    LIKENESS,
    WITHIN_DAYS,
    Clocks,
    Group,
    Petition,
    Standing,
    group_petitions,
    petitions_of,
    read_clocks,
    read_petition,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingGroup:
    """A group as of a day: its most pressing member, and how that stands."""

    group: Group
    pressing: Petition
    standing: Standing

    @property
    def sources(self) -> tuple[str, ...]:
        """How its members came in, each way once; empty for a way that no list knows."""
        return tuple(dict.fromkeys(one.source for one in self.group.members))


@dataclass(frozen=True, slots=True, kw_only=True)
class PetitionBook:
    """All groups of a time, the most pressing first."""

    groups: tuple[StandingGroup, ...]
    reading: Reading
    #: Petitions of which only a status was heard: they came in before, or elsewhere.
    without_text: int


@cache
def usual_clocks() -> Clocks:
    """The table that ships with the bus."""
    return read_clocks(read_json(files("schemas").joinpath("partners", "petition", "clocks.json").read_bytes()))


def petition_book(
    ledger: Ledger,
    directory: Directory,
    since: datetime,
    today: date,
    *,
    clocks: Clocks | None = None,
    within_days: int = WITHIN_DAYS,
    likeness: float = LIKENESS,
) -> PetitionBook:
    """What messages accepted since then tell, as of a day in Vietnam. Raises Malformed for a schema whose annotation
    is wrong."""
    reading = Reading()
    said = (
        one
        for carried, places, document in read_again(ledger, directory, ANNOTATION, since, reading)
        if (one := read_petition(document, places, carried.received_at, carried.receiver)) is not None
    )
    petitions, without_text = petitions_of(said)
    groups = group_petitions(petitions, within_days=within_days, likeness=likeness)
    return PetitionBook(
        groups=_by_urgency(groups, clocks or usual_clocks(), today), reading=reading, without_text=without_text
    )


def _by_urgency(groups: Iterable[Group], clocks: Clocks, today: date) -> tuple[StandingGroup, ...]:
    stood = []
    for group in groups:
        pressing, standing = group.pressing(clocks, today)
        stood.append(StandingGroup(group=group, pressing=pressing, standing=standing))
    return tuple(sorted(stood, key=lambda one: (not one.standing.clock.is_open, one.standing.due)))
