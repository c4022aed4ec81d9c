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
    left_over = len(text) & 3
    if left_over and text[-1] not in _LAST_CHARACTERS[left_over]:
        raise ValueError("not canonical base64url")
    try:
        standard = text.encode("ascii").translate(_TO_STANDARD)
        return binascii.a2b_base64(standard + _PADDING[left_over], strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("not base64url") from None


_PADDING = (b"", b"", b"==", b"=")
#: By length modulo 4: characters whose spare bits are zero (the last 4 bits, the last 2). One left over is no text.
_LAST_CHARACTERS = ("", "", "AQgw", "AEIMQUYcgkosw048")
#: To the alphabet of binascii, and what base64url does not have ("+", "/", "=") to what no alphabet has.
_TO_STANDARD = bytes.maketrans(b"-_+/=", b"+/!!!")
