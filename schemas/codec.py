"""Bytes to values and back: strict JSON, hardened XML.

Two readers of one document must see the same thing, else what was signed, checked and delivered may be three
different things. So whatever readers are known to disagree about is refused: duplicate keys, numbers beyond 64 bits,
NaN, byte order marks, other character sets, DTDs. Each refusal has a reason of its own and never repeats the input.

All functions are pure and safe from many threads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import orjson
from lxml import etree

from schemas.problem import Malformed

if TYPE_CHECKING:
    from lxml.etree import _Element

#: Default bounds (interfaces.md, Limits).
MAX_JSON_DEPTH: Final = 64
MAX_XML_DEPTH: Final = 40
MAX_XML_ELEMENTS: Final = 20_000

_BOM: Final = b"\xef\xbb\xbf"
#: A number must fit a signed 64-bit integer (``long`` of Java and .NET): readers agree on it, beyond they round.
_MAX_INTEGER: Final = 2**63 - 1
_DIGITS_AS_ZEROS: Final = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))
#: 18 digits always fit 64 bits.
_LONG_RUN: Final = b"0" * 19


def read_json(data: bytes, *, max_depth: int = MAX_JSON_DEPTH) -> Any:
    """The value of a JSON document (RFC 8259, UTF-8), about 10 µs for 3 KB.

    Raises Malformed: ``json-byte-order-mark``, ``json-not-utf8``, ``json-too-deep``, ``json-duplicate-key``,
    ``json-not-a-number`` (NaN, Infinity, a number that overflows), ``json-number-too-large`` (an integer beyond 64
    bits), ``json-invalid-text`` (half a surrogate pair) and ``json-invalid`` for the rest, trailing bytes included.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        _explain_refusal(data, max_depth)
    brackets = data.count(b"{") + data.count(b"[")
    if brackets > max_depth and _deeper_than(value, max_depth):
        raise Malformed("json-too-deep", max_depth=max_depth)
    if not _surely_unambiguous(data, value):
        _read_slowly(data)
    return value


def _surely_unambiguous(data: bytes, value: Any) -> bool:
    """Is it certain that no key came twice and that no integer was rounded?

    orjson drops all but the last of equal keys, and nothing written out again can gain a colon except from an escaped
    one (``\\u003a``). So a document without such an escape that keeps its number of colons has lost no member. And an
    integer beyond 64 bits needs a run of 19 digits. When in doubt the answer is no, and the slow reader decides.
    """
    return (
        data.count(b":") == orjson.dumps(value).count(b":")
        and (b"\\" not in data or b"\\u003" not in data)
        and _LONG_RUN not in data.translate(_DIGITS_AS_ZEROS)
    )


def _deeper_than(value: Any, max_depth: int) -> bool:
    """Does the value nest more than ``max_depth`` arrays and objects? Goes layer by layer, so it cannot recurse."""
    layer: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(max_depth):
        layer = [
            child
            for container in layer
            for child in (container.values() if type(container) is dict else container)
            if type(child) is dict or type(child) is list
        ]
        if not layer:
            return False
    return True


def _read_slowly(data: bytes) -> Any:
    """The standard reader, which shows every key and every number as written. Half as fast, and it may recurse."""
    return json.loads(
        data.decode("utf-8"),
        object_pairs_hook=_object_without_duplicates,
        parse_int=_bounded_integer,
        parse_float=_finite_float,
        parse_constant=_refuse_constant,
    )


def _object_without_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Malformed("json-duplicate-key")
    return members


def _bounded_integer(digits: str) -> int:
    # The length comes first: int() of a million digits is slow (and refused by Python with another error).
    if len(digits) > 20 or not -_MAX_INTEGER - 1 <= int(digits) <= _MAX_INTEGER:
        raise Malformed("json-number-too-large")
    return int(digits)


def _finite_float(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise Malformed("json-not-a-number")
    return number


def _refuse_constant(_: str) -> NoReturn:
    raise Malformed("json-not-a-number")


def _explain_refusal(data: bytes, max_depth: int) -> NoReturn:
    """orjson has refused the document; find out why in our words."""
    if data.startswith(_BOM):
        raise Malformed("json-byte-order-mark")
    try:
        _read_slowly(data)
    except UnicodeDecodeError:
        raise Malformed("json-not-utf8") from None
    except RecursionError:
        raise Malformed("json-too-deep", max_depth=max_depth) from None
    except ValueError:
        raise Malformed("json-invalid") from None
    # Valid for the standard reader: it takes half a surrogate pair for text, and it nests a little deeper.
    if data.count(b"{") + data.count(b"[") > _ORJSON_DEPTH:
        raise Malformed("json-too-deep", max_depth=max_depth)
    raise Malformed("json-invalid-text")


#: orjson reads at most this many levels.
_ORJSON_DEPTH: Final = 1024


def write_json(value: Any) -> bytes:
    """Compact UTF-8 JSON in the order given; text as it is, not re-normalised. Raises TypeError for foreign values."""
    return orjson.dumps(value)


def canonical_json(value: Any) -> bytes:
    """The one spelling of a value for a digest: compact, members sorted by code point, UTF-8.

    Equal to RFC 8785 (JCS) for what the bus digests: whole numbers and keys without characters beyond U+FFFF.
    """
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


#: ``<?xml version="1.0" encoding="…"?>`` at the very start.
_XML_ENCODING: Final = re.compile(rb"""<\?xml[^>]{1,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
#: What may stand before the root, then a DOCTYPE. Possessive: no input makes it go back.
_XML_DOCTYPE: Final = re.compile(rb"(?:\s++|<\?.*?\?>|<!--.*?-->)*+<!DOCTYPE", re.DOTALL)


def read_xml(data: bytes, *, max_depth: int = MAX_XML_DEPTH, max_elements: int = MAX_XML_ELEMENTS) -> _Element:
    """The root element of an XML document in UTF-8 (a byte order mark is allowed), about 30 µs for 3 KB.

    Raises Malformed: ``xml-not-utf8`` (by its bytes or by its declaration), ``xml-doctype`` (any DTD, before anything
    of it is read: entities, external files), ``xml-too-deep``, ``xml-too-many-elements``,
    ``xml-too-many-attributes`` (as many as elements are allowed) and ``xml-invalid``. Nothing
    is ever fetched. Comments, processing instructions and CDATA are kept.
    """
    _refuse_other_encodings(data)
    if b"<!DOCTYPE" in data and _XML_DOCTYPE.match(data.removeprefix(_BOM)):
        raise Malformed("xml-doctype")
    # A new parser per call: a parser keeps its dictionary and error log, which threads and callers would share.
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        collect_ids=False,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise Malformed("xml-invalid") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise Malformed("xml-doctype")
    _refuse_large_tree(data, root, max_depth, max_elements)
    return root


def _refuse_other_encodings(data: bytes) -> None:
    """UTF-8, and nothing that claims to be something else: UTF-7 would hide a DOCTYPE from the search for it."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("xml-not-utf8") from None
    declared = _XML_ENCODING.match(data.removeprefix(_BOM))
    if b"\x00" in data or (declared is not None and declared[1].lower() not in (b"utf-8", b"us-ascii")):
        raise Malformed("xml-not-utf8")


def _refuse_large_tree(data: bytes, root: _Element, max_depth: int, max_elements: int) -> None:
    """Every element costs at least one ``<``, so most documents are known to be small without a walk."""
    tags = data.count(b"<")
    if tags > max_elements and _count(root, "count(//*)") > max_elements:
        raise Malformed("xml-too-many-elements", max_elements=max_elements)
    if data.count(b"=") > max_elements and _count(root, "count(//@*)") > max_elements:
        raise Malformed("xml-too-many-attributes", max_attributes=max_elements)
    if tags > max_depth and _below(max_depth)(root):
        raise Malformed("xml-too-deep", max_depth=max_depth)


def _count(root: _Element, path: str) -> float:
    counted = root.xpath(path)
    return counted if isinstance(counted, float) else float("inf")


@lru_cache(maxsize=16)
def _below(depth: int) -> etree.XPath:
    """Is there an element below ``depth`` levels? Written as steps, which cost a tenth of counting ancestors."""
    return etree.XPath(f"boolean({'/*' * (depth + 1)})")


class ContentType(NamedTuple):
    """What a Content-Type header says: the media type in lower case, and whether it is JSON or XML."""

    media_type: str
    charset: str

    @property
    def is_json(self) -> bool:
        return self.media_type == "application/json" or self.media_type.endswith("+json")

    @property
    def is_xml(self) -> bool:
        return self.media_type in ("application/xml", "text/xml") or self.media_type.endswith("+xml")


_WORD: Final = r"[A-Za-z0-9!#$&^_.+-]{1,80}"
_CONTENT_TYPE: Final = re.compile(rf"({_WORD}/{_WORD})((?:[ \t]*;[ \t]*{_WORD}=(?:{_WORD}|\"[^\"\\]*\"))*)[ \t]*")
_CHARSET: Final = re.compile(r";[ \t]*charset=\"?([^\";]*)\"?", re.IGNORECASE)


@lru_cache(maxsize=256)
def read_content_type(header: str) -> ContentType:
    """The media type and character set a Content-Type header names (RFC 9110, 8.3); charset defaults to ``utf-8``.

    Raises Malformed ``content-type-invalid``, and ``content-type-charset`` for a character set that is not UTF-8.
    """
    found = _CONTENT_TYPE.fullmatch(header) if len(header) <= 200 else None
    if found is None:
        raise Malformed("content-type-invalid")
    charsets = {name.lower() for name in _CHARSET.findall(found[2])}
    if not charsets <= {"utf-8", "utf8", "us-ascii"}:
        raise Malformed("content-type-charset")
    return ContentType(found[1].lower(), "utf-8")
