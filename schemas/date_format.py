"""Dates as partners write them: patterns in Unicode letters, read strictly and written again in another form.

::

    yyyyMMddHHmmss      portal, payment            dd/MM/yyyy HH:mm:ss   dossiers between systems
    dd/MM/yyyy          criminal record, business  yyyy/MM/dd HH:mm:ss   documents, profiles
    yyyyMMdd            population, insurance      MM/dd/yyyy            post
    dd.MM.yyyy          marriage                   MM/yyyy, yyyy         a date of birth known in part
    ddMMyyyy'T'HHmmssZ  document axis              epoch-ms              milliseconds since 1970

Ten forms live in one province (vietnam.md 5.4, P1). The letters are those of Unicode TR 35: ``yyyy MM dd HH mm ss SSS``
and ``XXX`` (+07:00), ``XX`` or ``Z`` (+0700), ``X`` (+07); ``d M H`` without the leading zero. Text in single quotes
stands for itself, and so does every sign that is no letter. ``fff`` is taken for ``SSS`` and a bare ``T`` for itself,
as in .NET manuals.

Letters that give wrong dates without an error are refused by name: ``hh`` turns half past one in the afternoon into
half past one at night (P2), ``YYYY`` is the year of the week, ``DD`` the day of the year.

Times without an offset are in Asia/Ho_Chi_Minh, which had other offsets before June 1975. All is pure and safe under
threads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Final

from schemas.moment import VIETNAM

#: The pattern that stands for whole milliseconds since 1970-01-01T00:00:00Z, a number.
EPOCH_MS: Final = "epoch-ms"
#: Longer than any date anybody writes.
_MAX_LENGTH: Final = 60

#: Letters → part of a date, and what its text looks like.
_LETTERS: Final = {
    "yyyy": ("year", "[0-9]{4}"),
    "MM": ("month", "[0-9]{2}"),
    "M": ("month", "[0-9]{1,2}"),
    "dd": ("day", "[0-9]{2}"),
    "d": ("day", "[0-9]{1,2}"),
    "HH": ("hour", "[0-9]{2}"),
    "H": ("hour", "[0-9]{1,2}"),
    "mm": ("minute", "[0-9]{2}"),
    "ss": ("second", "[0-9]{2}"),
    "SSS": ("millisecond", "[0-9]{3}"),
    "fff": ("millisecond", "[0-9]{3}"),
    **dict.fromkeys(("X", "XX", "XXX", "xx", "xxx", "Z"), ("offset", "Z|[+-][0-9]{2}(?::?[0-9]{2})?")),
}
#: Parts from the coarse to the fine: whoever states one states those before it.
_ORDER: Final = ("year", "month", "day", "hour", "minute", "second", "millisecond")
_REFUSED: Final = {
    "h": "is the clock of 12 hours, which loses the afternoon; write HH",
    "K": "is a clock of 12 hours, which loses the afternoon; write HH",
    "k": "counts hours from 1 to 24; write HH",
    "Y": "is the year of the week; write yyyy",
    "D": "is the day of the year; write dd",
    "a": "marks the half of a 12-hour day; write the hour as HH",
}
_PIECE: Final = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_TEXT: Final = re.compile(r"-?[0-9]{1,15}")
_VIETNAM_NOW: Final = timezone(timedelta(hours=7))


@dataclass(frozen=True, slots=True, kw_only=True)
class DatePattern:
    """A pattern that was understood. ``parts`` are the parts of a date it states, finest last."""

    text: str
    parts: frozenset[str]
    _pieces: tuple[tuple[str, str], ...]
    _reader: re.Pattern[str]

    def read(self, value: object) -> datetime | None:
        """The local moment that a value names, aware; None when the value is not written in this pattern or is no
        day of the calendar. Parts that the pattern lacks are the first of their kind (1 January, midnight)."""
        if self.text == EPOCH_MS:
            return _from_epoch(value)
        found = self._reader.fullmatch(value) if isinstance(value, str) and len(value) <= _MAX_LENGTH else None
        if found is None:
            return None
        given = found.groupdict()
        offset = given.pop("offset", None)
        numbers = {part: int(digits) for part, digits in given.items()}
        microsecond = numbers.pop("millisecond", 0) * 1000
        try:
            moment = datetime(
                numbers.pop("year"),
                numbers.pop("month", 1),
                numbers.pop("day", 1),
                **numbers,
                microsecond=microsecond,
                tzinfo=VIETNAM if offset is None else _zone(offset),
            )
            return moment if offset is None else moment.astimezone(VIETNAM)
        except (ValueError, OverflowError):
            return None

    def write(self, moment: datetime) -> str | int:
        """The moment in this pattern, text or (``epoch-ms``) a number. Finer parts than the pattern's are cut off."""
        if self.text == EPOCH_MS:
            return (moment - _EPOCH) // timedelta(milliseconds=1)
        if "offset" in self.parts and (moment.utcoffset() or timedelta()) % timedelta(minutes=1):
            # Before 1911 Sài Gòn kept the sun's own time, which no offset in whole minutes can say. The day stays.
            moment = moment.replace(tzinfo=_VIETNAM_NOW)
        return "".join(text or _written(letters, moment) for letters, text in self._pieces)

    def lacks(self, other: DatePattern) -> str:
        """A part that ``other`` must write and this pattern does not know; empty when there is none.

        The time of day may be missing, then it is midnight; a day or a month is never made up.
        """
        return next((part for part in ("year", "month", "day") if part in other.parts - self.parts), "")


def read_date_pattern(text: str) -> DatePattern:
    """The pattern in a text. Raises ValueError with words for the person who wrote it."""
    if text == EPOCH_MS:
        everything = frozenset({*_ORDER, "offset"})
        return DatePattern(text=text, parts=everything, _pieces=(), _reader=re.compile(""))
    if not 0 < len(text) <= _MAX_LENGTH:
        raise ValueError("a date pattern has 1 to 60 characters")
    pieces = _pieces_of(text)
    letters = [piece for piece, _ in pieces if piece]
    parts = [_LETTERS[piece][0] for piece in letters]
    _check_parts(parts)
    for (piece, _), (following, _) in pairwise(pieces):
        if piece in ("d", "M", "H") and following and following[0] not in "XxZ":
            raise ValueError(f"{piece} needs a sign behind it; write {piece}{piece}")
    reader = re.compile("".join(_expression(piece) if piece else re.escape(plain) for piece, plain in pieces))
    return DatePattern(text=text, parts=frozenset(parts), _pieces=pieces, _reader=reader)


def rewrite_date(value: object, sources: Sequence[DatePattern], targets: Sequence[DatePattern]) -> str | int | None:
    """The value in the target that stands where its source pattern stands, the first that fits; None when none does."""
    for source, target in zip(sources, targets, strict=True):
        moment = source.read(value)
        if moment is not None:
            return target.write(moment)
    return None


def _pieces_of(text: str) -> tuple[tuple[str, str], ...]:
    """(letters, "") for each part of a date, ("", text) for what stands for itself."""
    pieces: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        found = _PIECE.match(text, at)
        if found is None:
            raise ValueError("a quote is open; write '' for one quote")
        at = found.end()
        piece = found[0]
        if piece in _LETTERS:
            pieces.append((piece, ""))
        elif piece[0] in _REFUSED:
            raise ValueError(f"{piece} {_REFUSED[piece[0]]}")
        elif found[2] and piece != "T":
            raise ValueError(f"{piece} is no part of a date here; put plain text in single quotes")
        elif found[1] is not None:
            pieces.append(("", found[1].replace("''", "'") or "'"))
        else:
            pieces.append(("", piece))
    return tuple(pieces)


def _expression(letters: str) -> str:
    part, digits = _LETTERS[letters]
    return f"(?P<{part}>{digits})"


def _check_parts(parts: Sequence[str]) -> None:
    if len(set(parts)) != len(parts):
        raise ValueError("a part of the date stands there twice")
    known = [part in parts for part in _ORDER]
    if "minute" in parts and "hour" not in parts:
        raise ValueError("mm is the minute and needs HH; the month is MM")
    if not known[0] or known != sorted(known, reverse=True):
        raise ValueError("a date has its year, and no part without the coarser ones (a day needs its month)")
    if "offset" in parts and "hour" not in parts:
        raise ValueError("an offset needs the time of day")


def _zone(text: str) -> timezone:
    """Raises ValueError for an offset of a day or more."""
    if text == "Z":
        return UTC
    hours, minutes = int(text[1:3]), int(text[3:].lstrip(":") or 0)
    if minutes >= 60:
        raise ValueError("minutes of an offset")
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if text[0] == "-" else offset)


def _from_epoch(value: object) -> datetime | None:
    if isinstance(value, str) and _EPOCH_TEXT.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    try:
        return (_EPOCH + timedelta(milliseconds=value)).astimezone(VIETNAM)
    except OverflowError:
        return None


def _written(letters: str, moment: datetime) -> str:
    part = _LETTERS[letters][0]
    if part == "offset":
        text = f"{moment:%z}"[:5]
        return {1: text[:3], 3: f"{text[:3]}:{text[3:]}"}.get(len(letters) if letters != "Z" else 2, text)
    number = moment.microsecond // 1000 if part == "millisecond" else int(getattr(moment, part))
    return f"{number:0{len(letters)}}"
