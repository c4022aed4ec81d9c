"""Where payloads say what: JSON Pointers into them, and the patterns of their dates. Looking on, never objecting.

::

    "x-lgsp-petition": {"code": "/MaPAKN", "sent": "/NgayGui", …, "dates": ["yyyyMMddHHmmss"]}

Such an object stands in a payload schema, as an annotation (JSON Schema Core, 7.7): whoever says what the members are
called says there what they mean, and no code knows their names. All is pure and safe under threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import orjson

from schemas.date_format import DatePattern, read_date_pattern
from schemas.problem import Malformed

Pointer = tuple[str, ...]
#: Dates before are typing errors, and a database counts from 1970.
EARLIEST_YEAR: Final = 1971
#: Items of one message that are looked at; the portal's own batches have 10, catching up has some hundreds.
MAX_ITEMS: Final = 1000


def pointer_of(text: str) -> Pointer:
    """The segments of a JSON Pointer, whose form was checked before."""
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:])


def find(value: Any, place: Pointer) -> Any:
    """What stands there; None where nothing does. A text that is JSON is looked into as what it holds (P5)."""
    for part in place:
        if isinstance(value, str):
            value = _inside(value)
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isascii() and part.isdecimal() and len(part) < 6:
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def _inside(text: str) -> Any:
    """The JSON in a text; None where it is none."""
    try:
        return orjson.loads(text) if text.lstrip()[:1] in ("{", "[") else None
    except orjson.JSONDecodeError:
        return None


def items_of(document: Any, place: Pointer) -> list[Any]:
    """The items at a place, or of a document that is a list; the document itself where there are none."""
    items = find(document, place) if place else document
    if not isinstance(items, list):
        items = [document if items is None else items]
    return items[:MAX_ITEMS]


def plain_text(value: Any, most: int) -> str | None:
    """A code or a name; partners write codes as numbers, too. Nothing that would move somebody's cursor (a trace is
    read in terminals), nothing longer than a column is meant for."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        value = str(value)
    if not isinstance(value, str):
        return None
    text = value.strip()
    return text if 0 < len(text) <= most and text.isprintable() else None


class Places:
    """An annotation that was understood: pointers by name, patterns of dates, and whatever else it holds."""

    def __init__(self, stated: Any) -> None:
        """Raises Malformed ``schema-annotation-invalid``: what is no object, no pointer and no pattern is a mistake of
        whoever wrote the schema."""
        try:
            dates = stated.get("dates", [])
            self._patterns: tuple[DatePattern, ...] = tuple(read_date_pattern(text) for text in dates)
        except (AttributeError, TypeError, ValueError):
            raise Malformed("schema-annotation-invalid") from None
        self.stated: Mapping[str, Any] = stated
        pointers = {name: text for name, text in stated.items() if isinstance(text, str)}
        if not all(text.startswith("/") for text in pointers.values()):
            raise Malformed("schema-annotation-invalid")
        self._pointers = {name: pointer_of(text) for name, text in pointers.items()}

    def names(self, name: str) -> bool:
        """Does the payload say this at all?"""
        return name in self._pointers

    def items(self, document: Any) -> list[Any]:
        """The objects in a payload that are looked at, one by one."""
        return items_of(document, self._pointers.get("items", ()))

    def raw(self, item: Any, name: str) -> Any:
        place = self._pointers.get(name)
        return None if place is None else find(item, place)

    def text(self, item: Any, name: str, most: int) -> str | None:
        return plain_text(self.raw(item, name), most)

    def moment(self, item: Any, name: str) -> datetime | None:
        """The first pattern that fits says it; None where none does."""
        value = self.raw(item, name)
        found = next((moment for pattern in self._patterns if (moment := pattern.read(value))), None)
        return found if found is not None and found.year >= EARLIEST_YEAR else None
