"""Vietnamese text: one spelling to compare, an order to sort by, and the plain forms that SMS and telephones need.

All functions are pure. None is meant to rewrite a payload: the bytes of a message are its sender's.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import islice
from typing import Final

from schemas.problem import Malformed

#: Letters that look like Đ and are not U+0110: eth (Icelandic keyboards, old converters) and African D. The
#: population database compares exact letters, so a look-alike never matches (pitfall P17).
_LOOK_ALIKES: Final = str.maketrans({"Ð": "Đ", "ð": "đ", "Ɖ": "Đ", "ɖ": "đ"})


def nfc(text: str) -> str:
    """The text in Unicode normalisation form C: ``Nguyễn`` is six letters, however it was typed."""
    return unicodedata.normalize("NFC", text)


def name_key(name: str) -> str:
    """What two spellings of one name have in common: NFC, the right Đ, upper case, single spaces.

    Diacritics stay: HÒA and HÓA are different people, and the population database keeps HÒA and HOÀ apart too.
    Invisible format characters (zero-width spaces pasted from web pages) are dropped.
    """
    composed = nfc(name).translate(_LOOK_ALIKES)
    visible = "".join(c for c in composed if unicodedata.category(c) != "Cf")
    return nfc(" ".join(visible.upper().split()))


#: The letters in dictionary order. F, J, W and Z are not Vietnamese and stand where the Latin alphabet has them.
_ALPHABET: Final = {letter: rank for rank, letter in enumerate("aăâbcdđeêfghijklmnoôơpqrstuưvwxyz", start=100)}
#: Tones in dictionary order: none, grave (huyền), hook (hỏi), tilde (ngã), acute (sắc), dot below (nặng).
_TONES: Final = {"\u0300": 1, "\u0309": 2, "\u0303": 3, "\u0301": 4, "\u0323": 5}


def collation_key(text: str) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """Sort key of Vietnamese alphabetical order: word by word, letters first, then tones (``ma mà mả mã má mạ``).

    Digits come before letters, other signs before both; case does not count.
    """
    return tuple(_word_key(word) for word in nfc(text).translate(_LOOK_ALIKES).lower().split())


def _word_key(word: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    letters, tones = [], []
    for character in word:
        tone = 0
        for mark in unicodedata.normalize("NFD", character):
            tone = _TONES.get(mark, tone)
        base = nfc("".join(c for c in unicodedata.normalize("NFD", character) if c not in _TONES))
        letters.append(_ALPHABET.get(base, 50 + int(base) if base in "0123456789" and base else _other_rank(base)))
        tones.append(tone)
    return tuple(letters), tuple(tones)


def _other_rank(base: str) -> int:
    """Foreign letters follow z in code order; signs come first."""
    if not base:
        return 0
    return 200 + ord(base[0]) if base[0].isalpha() else min(ord(base[0]), 49)


def format_dong(amount: int) -> str:
    """``150000`` → ``150.000 ₫``: whole đồng, dots between thousands, a plain space (SMS and PDF fonts have it)."""
    return f"{in_thousands(amount)} ₫"


def in_thousands(amount: int) -> str:
    """``150000`` → ``150.000``."""
    return f"{amount:,}".replace(",", ".")


_PLAIN: Final = str.maketrans(
    {
        "Đ": "D",
        "đ": "d",
        "₫": "d",
        "“": '"',
        "”": '"',
        "‘": "'",
        "’": "'",
        "–": "-",
        "—": "-",
        "…": "...",
        "\u00a0": " ",
    }
)


def unaccented(text: str) -> str:
    """Plain ASCII for SMS (one 160-character part instead of 70): ``Đặng Phương Đông`` → ``Dang Phuong Dong``.

    What has no plain form becomes ``?``, so that nothing silently disappears from a notice.
    """
    plain = text.translate(_LOOK_ALIKES).translate(_PLAIN)
    bare = "".join(c for c in unicodedata.normalize("NFD", plain) if not unicodedata.combining(c))
    return bare.encode("ascii", "replace").decode("ascii")


#: What stands above and below letters once they are taken apart, and the invisible signs that web pages leave.
_MARKS: Final = re.compile("[\u0300-\u036f\u00ad\u200b-\u200f\u2060\ufeff]+")
_STROKES: Final = str.maketrans("ĐđÐðƉɖ", "dddddd")
_WORD: Final = re.compile("[a-z0-9]+")


def plain_words(text: str, most: int) -> tuple[str, ...]:
    """The first words of a text as telephones and hurried people write them, to compare by: no case, no diacritics, no
    punctuation, nothing invisible, đ is d. ``Tổ 5, đường Mẫu`` and ``to 5 duong mau`` are the same."""
    # Twenty characters a word, taken apart: nobody reads a novel to its end for its first words.
    bare = _MARKS.sub("", unicodedata.normalize("NFD", text[: most * 20]).translate(_STROKES)).lower()
    return tuple(found[0] for found in islice(_WORD.finditer(bare), most))


#: A national number without its 0: nine digits of a mobile (03, 05, 07, 08, 09) or ten of a fixed line (02).
_NATIONAL: Final = re.compile(r"[35789][0-9]{8}|2[0-9]{9}")
_PUNCTUATION: Final = str.maketrans("", "", " .-()\u00a0")


def normalize_phone(text: str) -> str:
    """A Vietnamese number in E.164 (``+84900000001``), whichever way it was written.

    Only a *leading* country code is taken for one: the number 0848 400 084 keeps every 84 inside it (pitfall P13: code
    in use compares one character with "84", and would replace every "84" if it matched). Raises Malformed.
    """
    digits = text.translate(_PUNCTUATION) if len(text) <= 40 else ""
    for prefix in ("+84", "0084", "84", "0", ""):
        national = digits.removeprefix(prefix) if digits.startswith(prefix) else ""
        # "+84 (0)900…" is a common way to write both codes at once.
        national = national[1:] if prefix in ("+84", "0084") and national.startswith("0") else national
        if _NATIONAL.fullmatch(national):
            return f"+84{national}"
    raise Malformed("identifier-invalid", kind="phone number", kind_vi="số điện thoại")


def national_phone(text: str) -> str:
    """The same number as people dial it at home: ``0900000001``. Raises Malformed."""
    return "0" + normalize_phone(text)[3:]
