"""What payment gateways of this field share: digests over joined values, money, and the time of a transaction.

::

    sha256        SHA-256( "v1|v2|…|vn" + "|" + secret )          the national platform
    hmac-sha256   HMAC-SHA-256( secret, "v1|v2|…|vn" )            KeyPay and its family
    hexadecimal; values in the order of the message's own list, UTF-8, a missing value is empty

Source: vietnam.md 4.9 (OCPS-PAY, TD-PAY). Everything here is pure and keeps nothing; no error holds a value, and the
joined text, which ends in the secret, never leaves this file.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from schemas.date_format import read_date_pattern
from schemas.moment import VIETNAM

SHA256: Final = "sha256"
HMAC_SHA256: Final = "hmac-sha256"
ALGORITHMS: Final = frozenset({SHA256, HMAC_SHA256})
#: The one member of each message that is free text and may hold the sign that joins.
FREE_TEXT: Final = frozenset({"ThongTinGiaoDich", "MoTaLoi"})
TIME: Final = read_date_pattern("yyyyMMddHHmmss")
#: Whole đồng, no separators, above zero. Eighteen digits fit the 64 bits of every reader; land-tax bills do not fit 32
#: (P31).
_MONEY: Final = re.compile(r"[1-9][0-9]{0,17}")
#: How near to twelve hours a difference must be to be the clock of twelve hours and not a slow queue.
_HALF_DAY: Final = timedelta(hours=12)
_HALF_DAY_SLACK: Final = timedelta(minutes=10)


def joined(document: Mapping[str, Any], fields: Sequence[str]) -> str:
    """The values of these members, joined. Raises ValueError with the member's name for a value that is not text or a
    whole number, or that could be read as two: ``a|b`` and ``c`` have the digest of ``a`` and ``b|c``."""
    values = []
    for name in fields:
        text = value_text(document.get(name))
        if text is None or ("|" in text and name not in FREE_TEXT):
            raise ValueError(name)
        values.append(text)
    return "|".join(values)


def digest(text: str, secret: bytes, algorithm: str = SHA256) -> str:
    """The digest of joined values, lower-case hexadecimal. Raises KeyError for an algorithm that is none of ours."""
    if algorithm == SHA256:
        return hashlib.sha256(b"%b|%b" % (text.encode("utf-8"), secret)).hexdigest()
    return hmac.new(secret, text.encode("utf-8"), {HMAC_SHA256: hashlib.sha256}[algorithm]).hexdigest()


def same_digest(given: object, computed: str) -> bool:
    """Compared in a time that tells nothing; capital letters count as small ones."""
    if not isinstance(given, str) or not given.isascii():
        return False
    return hmac.compare_digest(given.lower(), computed)


def value_text(value: object) -> str | None:
    """A value as it stands in a digest: text, or a whole number; None for anything else. Numbers with a point have
    more than one spelling."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value)


def read_money(value: object) -> int | None:
    """Whole đồng above zero, from a text or a number; None for what is not, as ``150.000``, ``1e5`` or 150000.0."""
    text = value_text(value)
    return int(text) if text and _MONEY.fullmatch(text) else None


def read_time(value: object) -> datetime | None:
    """The moment that a ``yyyyMMddHHmmss`` in Vietnamese time names, aware; None when it names none."""
    return TIME.read(value)


def write_time(moment: datetime) -> str:
    """The moment as ``yyyyMMddHHmmss``, Vietnamese time, the hour from 00 to 23."""
    return str(TIME.write(moment.astimezone(VIETNAM)))


def clock_of_twelve(stated: datetime, actual: datetime) -> bool:
    """Is the stated time half a day early? Three places of known payment code write ``hh`` for ``HH``: 13:30 becomes
    01:30, and the digest still holds (P2)."""
    return abs(actual - stated - _HALF_DAY) <= _HALF_DAY_SLACK
