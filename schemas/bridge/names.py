"""A JSON name as an XML name, one to one.

A name that XML allows stays as it is, Vietnamese letters included. Every other character becomes ``_xHHHH_`` with its
code point, as in ISO/IEC 9075-14 (SQL/XML) and the XML libraries of .NET: ``so luong`` → ``so_x0020_luong``.
"""

from __future__ import annotations

import re
from typing import Final

from schemas.bridge.shape import REST_ELEMENT

#: Letters that every XML processor takes in a name (XML 1.0, fourth edition): Latin with all Vietnamese letters.
_LETTERS: Final = (
    "A-Za-z_\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u0131\u0134-\u013e"
    "\u0141-\u0148\u014a-\u017e\u01a0\u01a1\u01af\u01b0\u1ea0-\u1ef9"
)
#: ... and what may follow the first: digits, signs, combining marks (a name that is not in NFC).
_FOLLOWING: Final = _LETTERS + "0-9.\u0300-\u0345-"
_PLAIN: Final = re.compile(rf"[{_LETTERS}][{_FOLLOWING}]*")
_LOOKS_ESCAPED: Final = re.compile(r"_(?=x[0-9A-Fa-f]{4,8}_)")
_FORBIDDEN: Final = re.compile(rf"\A[^{_LETTERS}]|[^{_FOLLOWING}]")


def xml_name(name: str) -> str:
    """The XML name of a JSON member. Two members never share one."""
    if name in ("", REST_ELEMENT):  # the one has no characters, the other is ours
        return f"_x005F_{name.removeprefix('_')}"
    if _PLAIN.fullmatch(name) and not _LOOKS_ESCAPED.search(name):
        return name
    return _FORBIDDEN.sub(lambda found: f"_x{ord(found[0]):04X}_", _LOOKS_ESCAPED.sub("_x005F_", name))
