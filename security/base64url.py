"""Base64url without padding (RFC 7515, section 2), read strictly: one text for one value, and no other."""

from __future__ import annotations

import base64
import binascii


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """The bytes that ``text`` spells. Raises ValueError for padding, foreign characters and a wrong last character.

    The last character of a text whose length is no multiple of four carries bits that belong to no byte. Most readers
    ignore them, and so take several texts for one value; here they must be zero.
    """
    if "+" in text or "/" in text:
        raise ValueError("not base64url")
    try:
        data = binascii.a2b_base64(text.translate(_TO_STANDARD) + "=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error:
        raise ValueError("not base64url") from None
    if encode(data) != text:
        raise ValueError("not canonical base64url")
    return data


_TO_STANDARD = str.maketrans("-_", "+/")
