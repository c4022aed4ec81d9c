"""Moments: aware UTC inside, Asia/Ho_Chi_Minh at the edges, whole microseconds in the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

VIETNAM = ZoneInfo("Asia/Ho_Chi_Minh")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MICROS_AN_HOUR = 3_600_000_000


def utc_now() -> datetime:
    return datetime.now(UTC)


def to_micros(moment: datetime) -> int:
    """Whole microseconds since 1970-01-01T00:00:00Z: how the store keeps a moment. Exact both ways."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def hour_of(moment: datetime) -> int:
    """The hour in which it is, counted from 1970: how the store keeps what is added up by the hour."""
    return to_micros(moment) // _MICROS_AN_HOUR


@lru_cache(maxsize=1024)
def beginning_of(hour: int) -> datetime:
    """The first moment of such an hour."""
    return from_micros(hour * _MICROS_AN_HOUR)


def to_wire(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds and a Z, as every JSON document of the bus spells a moment."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def from_wire(text: str) -> datetime:
    """The moment an RFC 3339 text names. Raises ValueError when it has no offset or is not a date."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment needs an offset from UTC")
    return moment.astimezone(UTC)
