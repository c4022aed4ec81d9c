"""Petitions (phản ánh, kiến nghị): what messages say of them, which of them are the same, and how each keeps its time.

::

    portal   Toà nhà số 5 đường Mẫu xây trái phép, đã ba tháng nay…      ┐ words folded: "toa nha so 5 duong mau xay…"
    SMS      Toa nha so 5 duong Mau xay trai phep, da ba thang nay, cu…  ├ one group, one clock: the most pressing
    paper    Tòa nhà số 5, đường Mẫu xây trái phép, đã ba tháng nay…     ┘ member's

Source: vietnam.md 4.21 and 5.4 P28. The rules are ours:

* **The same?** Words are compared without case, diacritics, punctuation (an SMS has none of them). Of the runs of three
  words (shingles) of the shorter text, at least :data:`LIKENESS` stand in the longer one: containment and not overlap,
  for an SMS is cut. Both were sent within :data:`WITHIN_DAYS` days, and not about two different dossiers. A text of a
  few words says too little: it is the same as its equal only. It is a suspicion, for people to confirm: every member
  still gets its own answer.
* **Groups are stars, not chains**: each petition joins the fullest text that it is like. So two texts are never one
  group because a third one stands between them.
* **The clock** ends on the day that the message says (HanXuLy), else so many days after it was sent, by its field. Days
  are those of Asia/Ho_Chi_Minh and are compared as days, as those of dossiers are. Statuses 5, 6 and 7 stop it; an
  answer that is followed by work again was none.
* **A group's clock** is that of its most pressing member: the earliest due day of those that have no end yet; where all
  have one, a late one counts before one in time.

All functions are pure. Time grows with the number of petitions: candidates come out of an inverted index, and how many
are looked at for one petition is bounded.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import chain, islice
from math import ceil
from typing import Any, Final

from schemas.codes import PETITION_SOURCES, PETITION_STATUSES, SETTLED_PETITIONS, may_follow
from schemas.identifiers import AgencyCode
from schemas.moment import VIETNAM
from schemas.places import Places
from schemas.problem import Malformed
from schemas.text import plain_words

#: The member of a payload schema that says where a petition's facts stand.
ANNOTATION: Final = "x-lgsp-petition"
#: Days between two petitions that may be the same.
WITHIN_DAYS: Final = 30
#: Share of the shorter text's shingles that stand in the longer one.
LIKENESS: Final = 0.7
#: Words of one shingle.
_RUN: Final = 3
#: Shingles below which a text says too little to be like another one, a dozen words: less than what petitions end with
#: ("đề nghị cơ quan kiểm tra và trả lời"), a third of an SMS.
_FEW: Final = 10
#: Words that are read of one petition: the beginning tells, and a long one must not cost more than a hundred others.
_WORDS: Final = 250
#: Fuller texts that one petition is compared with, and places of the index that are looked at for them. Real ones have
#: a few; a flood of one text about thousands of dossiers must not take the square of its number.
_COMPARED: Final = 50
_LOOKED_AT: Final = 500
#: Longest code of a petition, dossier, status; longest title.
_CODE: Final = 50
_TITLE: Final = 2000
_MOST_DAYS: Final = 3650


class Clock(StrEnum):
    """How a petition keeps its time."""

    RUNNING = "running"
    DUE_SOON = "due-soon"
    OVERDUE = "overdue"
    ANSWERED_IN_TIME = "answered-in-time"
    ANSWERED_LATE = "answered-late"

    @property
    def is_open(self) -> bool:
        return self in _OPEN


_OPEN: Final = frozenset({Clock.RUNNING, Clock.DUE_SOON, Clock.OVERDUE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one message says of one petition. Moments are aware; what was not said is None or empty."""

    code: str
    #: When the bus took the message.
    at: datetime
    status: str | None = None
    #: The agency that has it in hand.
    holder: str = ""
    due: datetime | None = None
    answered: datetime | None = None
    dossier: str | None = None
    #: The petition itself, where the message carries it.
    source: str = ""
    sent: datetime | None = None
    field: str = ""
    title: str = ""
    words: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Petition:
    """One petition as far as messages told it."""

    code: str
    #: A code of ``schemas.codes.PETITION_SOURCES``; empty for any other.
    source: str
    sent: datetime
    #: Folded: see :func:`fold_name`.
    field: str = ""
    dossier: str | None = None
    title: str = ""
    #: Its text folded, as far as it is compared.
    words: tuple[str, ...] = ()
    status: str = "1"
    holder: str = ""
    #: The end of its time, where a message said so.
    due: datetime | None = None
    #: When its sender heard the end of it.
    settled: datetime | None = None
    #: Steps that no well-behaved system takes.
    out_of_turn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """In how many days what is answered."""

    days: int = 15
    #: So many days before its end a clock is called due soon.
    due_soon_days: int = 3
    #: By the folded name of the field.
    fields: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a petition, or a group, stands on a day."""

    clock: Clock
    due: date
    #: Until the due day: from today while it is open, from the day of its end after that. Negative: late.
    days_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Petitions that are suspected to be the same, by the day they were sent; most groups have one member."""

    members: tuple[Petition, ...]

    def pressing(self, clocks: Clocks, today: date) -> tuple[Petition, Standing]:
        """The member whose clock is the group's."""
        stood = [(one, standing_of(one, clocks, today)) for one in self.members]
        return min(stood, key=lambda pair: (not pair[1].clock.is_open, *_urgency(pair[1])))

    def unanswered(self) -> int:
        return sum(one.settled is None for one in self.members)


def _urgency(standing: Standing) -> tuple[int, date]:
    return (0, standing.due) if standing.clock.is_open else (standing.days_left, standing.due)


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_petition(document: Any, places: Places, at: datetime, receiver: str) -> Said | None:
    """What a message says, None where it names no petition. Never raises for what a payload holds.

    ``receiver``: who got the message, and so has a petition in hand that came in without saying whose it is.
    """
    code = places.text(document, "code", _CODE)
    if code is None:
        return None
    written = places.raw(document, "text")
    words = None
    if isinstance(written, str):
        words = plain_words(_with_title(places.raw(document, "title"), written), _WORDS)
    status = places.text(document, "status", _CODE)
    source = places.text(document, "source", _CODE) or ""
    holder = _agency(places.raw(document, "holder"))
    return Said(
        code=code,
        at=at,
        status=status if status in PETITION_STATUSES else None,
        holder=holder or (_agency(receiver) if words is not None else ""),
        due=places.moment(document, "due"),
        answered=places.moment(document, "answered"),
        dossier=places.text(document, "dossier", _CODE),
        source=source if source in PETITION_SOURCES else "",
        sent=places.moment(document, "sent"),
        field=fold_name(places.raw(document, "field")),
        title=places.text(document, "title", _TITLE) or "",
        words=words,
    )


def _with_title(title: Any, text: str) -> str:
    """Title and text: a portal has both, an SMS often begins with what would be the title."""
    return f"{title} {text}" if isinstance(title, str) and not text.startswith(title) else text


def _agency(value: Any) -> str:
    """A code only: what else people write there may be a name."""
    try:
        return AgencyCode.parse(value) if isinstance(value, str) and len(value) <= _CODE else ""
    except Malformed:
        return ""


def fold_name(value: Any) -> str:
    """A short name as it is compared: words without diacritics, single spaces."""
    return " ".join(plain_words(value, _WORDS)) if isinstance(value, str) else ""


def read_clocks(document: Any) -> Clocks:
    """The table of days. Raises Malformed ``petition-clocks-invalid``."""
    stated = document if isinstance(document, Mapping) else {}
    fields = stated.get("fields", {})
    usual = Clocks()
    numbers = [stated.get("days", usual.days), stated.get("due_soon_days", usual.due_soon_days)]
    if not stated or not isinstance(fields, Mapping) or not all(map(_is_days, [*numbers, *fields.values()])):
        raise Malformed("petition-clocks-invalid")
    return Clocks(
        days=numbers[0], due_soon_days=numbers[1], fields={fold_name(name): days for name, days in fields.items()}
    )


def _is_days(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_DAYS


# ── one petition ──────────────────────────────────────────────────────────────────────────────────────────────────────


def petitions_of(said: Iterable[Said]) -> tuple[list[Petition], int]:
    """The petitions that messages tell of, and how many codes are only spoken of (the petition itself is not among the
    messages). Messages come in the order of acceptance; later ones know better, and the first text is the text.

    One code with two texts is two petitions: two desks that number alike must not lose one of them.
    """
    of_code: dict[str, list[Said]] = defaultdict(list)
    for one in said:
        of_code[one.code].append(one)
    found = [_petitions_of_code(told) for told in of_code.values()]
    return [petition for petitions in found for petition in petitions], sum(not petitions for petitions in found)


def _petitions_of_code(told: Sequence[Said]) -> list[Petition]:
    texts: dict[tuple[str, ...], Said] = {}
    for one in told:
        if one.words is not None:
            texts.setdefault(one.words, one)
    status, settled, out_of_turn = _course(told)
    last = {
        name: next((value for one in reversed(told) if (value := getattr(one, name))), None)
        for name in ("due", "holder", "dossier")
    }
    return [
        Petition(
            code=first.code,
            source=first.source,
            # Nobody sent it after we had it; a clock that goes wrong must not gain days.
            sent=min(first.sent or first.at, first.at),
            field=first.field,
            dossier=first.dossier or last["dossier"],
            title=first.title,
            words=words,
            status=status,
            holder=last["holder"] or "",
            due=last["due"],
            settled=settled,
            out_of_turn=out_of_turn,
        )
        for words, first in texts.items()
    ]


def _course(told: Sequence[Said]) -> tuple[str, datetime | None, int]:
    """The last status, the moment of the end if there is one, and the number of steps out of turn."""
    status, settled, out_of_turn = "", None, 0
    for one in told:
        after = one.status or ("" if one.words is None else status or "1")
        if not after or after == status:
            continue
        out_of_turn += bool(status) and not may_follow(status, after, PETITION_STATUSES)
        if after not in SETTLED_PETITIONS:
            settled = None
        elif settled is None:
            # An answer may be entered after it was given, never before.
            settled = min(one.answered or one.at, one.at)
        status = after
    return status or "1", settled, out_of_turn


def standing_of(petition: Petition, clocks: Clocks, today: date) -> Standing:
    """How it keeps its time, as of a day in Vietnam."""
    days = clocks.fields.get(petition.field, clocks.days)
    due = _day(petition.due) if petition.due is not None else _day(petition.sent) + timedelta(days=days)
    if petition.settled is not None:
        left = (due - _day(petition.settled)).days
        clock = Clock.ANSWERED_IN_TIME if left >= 0 else Clock.ANSWERED_LATE
    else:
        left = (due - today).days
        clock = Clock.OVERDUE if left < 0 else Clock.DUE_SOON if left <= clocks.due_soon_days else Clock.RUNNING
    return Standing(clock=clock, due=due, days_left=left)


def _day(moment: datetime) -> date:
    return moment.astimezone(VIETNAM).date()


# ── the same petition ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True, kw_only=True)
class _Star:
    """A group while it grows: the fullest text, and those that are like it."""

    number: int
    head: Petition
    shingles: frozenset[int]
    members: list[Petition]
    #: The one dossier that its members name.
    dossier: str | None

    def takes(self, petition: Petition, within_days: int) -> bool:
        apart = petition.dossier and self.dossier and petition.dossier != self.dossier
        return not apart and abs((_day(petition.sent) - _day(self.head.sent)).days) <= within_days

    def add(self, petition: Petition) -> None:
        self.members.append(petition)
        self.dossier = self.dossier or petition.dossier


def group_petitions(
    petitions: Iterable[Petition], *, within_days: int = WITHIN_DAYS, likeness: float = LIKENESS
) -> list[Group]:
    """Every petition in one group, by the moment at which the first of each was sent. The same petitions in another
    order give the same groups."""
    every = sorted(petitions, key=lambda one: (one.sent, one.code, one.words))
    reader = _Shingles()
    told = [(one, reader.of(one.words)) for one in every]
    told.sort(key=lambda pair: -len(pair[1]))
    sky = _Sky(Counter(shingle for _, shingles in told for shingle in shingles), within_days, likeness)
    for petition, shingles in told:
        star = sky.nearest(petition, shingles)
        if star is None:
            sky.add(petition, shingles)
        else:
            star.add(petition)
    groups = [Group(members=tuple(sorted(star.members, key=_order))) for star in sky.stars]
    return sorted(groups, key=lambda group: _order(group.members[0]))


def _order(petition: Petition) -> tuple[datetime, str]:
    return petition.sent, petition.code


class _Shingles:
    """Runs of words as numbers: half the time and a third of the memory of texts."""

    #: Bits of a word's number; more words than that are not read of any number of petitions that fits into memory.
    _BITS: Final = 24

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._short: dict[tuple[str, ...], int] = {}

    def of(self, words: tuple[str, ...]) -> frozenset[int]:
        """The runs of a text; of one that says too little a number of its own, which only its equal has."""
        numbers = [self._numbers.setdefault(word, len(self._numbers)) for word in words]
        bits = self._BITS
        runs = frozenset(
            (first << 2 * bits) + (second << bits) + third
            for first, second, third in zip(numbers, numbers[1:], numbers[_RUN - 1 :], strict=False)
        )
        if len(runs) >= _FEW:
            return runs
        return frozenset({-1 - self._short.setdefault(words, len(self._short))} if words else ())


class _Sky:
    """The stars so far, and where to find those that share a shingle with a petition."""

    def __init__(self, frequency: Mapping[int, int], within_days: int, likeness: float) -> None:
        self.stars: list[_Star] = []
        self._frequency = frequency
        self._within_days = within_days
        self._likeness = likeness
        #: By shingle: heads that name no dossier, heads that name one, and those by the dossier, too.
        self._plain: dict[int, list[_Star]] = {}
        self._naming: dict[int, list[_Star]] = {}
        self._of_dossier: dict[tuple[int, str], list[_Star]] = {}

    def add(self, petition: Petition, shingles: frozenset[int]) -> None:
        dossier = petition.dossier
        star = _Star(number=len(self.stars), head=petition, shingles=shingles, members=[petition], dossier=dossier)
        self.stars.append(star)
        for shingle in shingles:
            # What nobody else has leads nowhere: most of a text that came once.
            if self._frequency[shingle] == 1:
                continue
            if dossier is None:
                self._plain.setdefault(shingle, []).append(star)
            else:
                self._naming.setdefault(shingle, []).append(star)
                self._of_dossier.setdefault((shingle, dossier), []).append(star)

    def nearest(self, petition: Petition, shingles: frozenset[int]) -> _Star | None:
        """The star whose head this petition is most like, of equal ones the first; heads are never shorter."""
        needed = max(1, ceil(self._likeness * len(shingles)))
        best, shared = None, needed - 1
        for star in sorted(self._candidates(petition, shingles, needed), key=lambda star: star.number):
            common = len(shingles & star.shingles)
            if common > shared:
                best, shared = star, common
        return best

    def _candidates(self, petition: Petition, shingles: frozenset[int], needed: int) -> Iterable[_Star]:
        """Stars that may be like it. Whoever has enough of its shingles has one of the rarest ones, so many that the
        others would not be enough."""
        rarest = sorted(shingles, key=self._frequency.__getitem__)[: len(shingles) - needed + 1]
        found: dict[int, _Star] = {}
        places = (star for shingle in rarest for star in self._at(shingle, petition))
        for star in islice(places, _LOOKED_AT):
            if star.number not in found and star.takes(petition, self._within_days):
                found[star.number] = star
                if len(found) == _COMPARED:
                    break
        return found.values()

    def _at(self, shingle: int, petition: Petition) -> Iterable[_Star]:
        dossier = petition.dossier
        naming = self._naming.get(shingle, ()) if dossier is None else self._of_dossier.get((shingle, dossier), ())
        return chain(naming, self._plain.get(shingle, ()))
