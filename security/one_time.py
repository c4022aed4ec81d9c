"""One-time passwords by time (TOTP, RFC 6238), the second thing that a person shows: six digits, 30 seconds, SHA-1, as
every authenticator application expects them."""

from __future__ import annotations

from datetime import datetime

import pyotp

_PERIOD_SECONDS = 30
#: Periods before and after the present one that count: clocks of telephones differ.
_NEIGHBOURS = 1


def new_seed() -> bytes:
    """160 random bits, as base32 text."""
    return pyotp.random_base32().encode("ascii")


def provisioning_uri(seed: bytes, name: str, issuer: str) -> str:
    """What an authenticator application reads as a QR code."""
    return pyotp.TOTP(seed.decode("ascii")).provisioning_uri(name=name, issuer_name=issuer)


def period_of(seed: bytes, code: str, now: datetime, last_used: int) -> int | None:
    """The period that a code is for, later than the last one used; None when it does not count. A code counts once: RFC
    6238, 5.2."""
    present = int(now.timestamp()) // _PERIOD_SECONDS
    totp = pyotp.TOTP(seed.decode("ascii"))
    for period in range(present - _NEIGHBOURS, present + _NEIGHBOURS + 1):
        if period > last_used and pyotp.utils.strings_equal(code.strip(), totp.generate_otp(period)):
            return period
    return None
