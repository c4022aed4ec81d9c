"""One value in two spellings: what a JSON value is as XML text, and back.

Numbers keep their digits: they pass as text, never through a float. A ``Digits`` is a JSON number with a fraction or an
exponent, as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

import orjson

from schemas.bridge.shape import VARIANT_KINDS, Kind, Scalar
from schemas.codec import read_json
from schemas.problem import Malformed

#: Digits after which a plain form may need an unreasonable number of zeros; beyond doubles (1e308) anyway.
_MAX_EXPONENT: Final = 400
_MAX_INTEGER: Final = 2**63 - 1
#: White space of XML; ``str.split`` would take many more characters for it.
_SPACES: Final = re.compile(r"[ \t\r\n]+")
_ONE_SPACE: Final = re.compile(r"[\t\r\n]")
_INTEGER: Final = re.compile(r"([+-]?)(?=[0-9])0*+([0-9]*+)")  # possessive: no input makes it go back
_DECIMAL: Final = re.compile(r"([+-]?)(?=\.?[0-9])0*+([0-9]*+)(\.[0-9]*+)?")
_JSON_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_DOUBLE: Final = re.compile(r"([+-]?)(?=\.?[0-9])0*+([0-9]*+)(\.[0-9]*+)?([eE][+-]?[0-9]+)?")
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?")
_ZONE: Final = r"(?:Z|[+-][0-9]{2}:[0-9]{2})?"
_DATE: Final = r"-?[0-9]{4,}-[0-9]{2}-[0-9]{2}"
_TIME: Final = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?"
#: How the moments of XML Schema are written; whether there is such a day is the schema's question.
LEXICAL: Final[Mapping[str, str]] = {
    "date": f"{_DATE}{_ZONE}",
    "dateTime": f"{_DATE}T{_TIME}{_ZONE}",
    "time": f"{_TIME}{_ZONE}",
    "gYear": f"-?[0-9]{{4,}}{_ZONE}",
    "gYearMonth": f"-?[0-9]{{4,}}-[0-9]{{2}}{_ZONE}",
    "gMonthDay": f"--[0-9]{{2}}-[0-9]{{2}}{_ZONE}",
    "gMonth": f"--[0-9]{{2}}{_ZONE}",
    "gDay": f"---[0-9]{{2}}{_ZONE}",
    "hexBinary": "(?:[0-9A-Fa-f]{2})*",
}
SPECIAL_DOUBLES: Final = ("INF", "-INF", "NaN")


class Digits(str):
    """A JSON number that is not a whole one, as it was written."""

    __slots__ = ()


class Untranslatable(Exception):
    """A value that the other language cannot say; the text names the rule and never the value."""


def json_text(value: Any) -> str:
    """The JSON text of a value that may hold ``Digits``."""
    return orjson.dumps(value, default=_as_written, option=orjson.OPT_PASSTHROUGH_SUBCLASS).decode()


def _as_written(value: Any) -> orjson.Fragment:
    if isinstance(value, Digits):
        return orjson.Fragment(str(value))
    raise TypeError


# ---- JSON value → XML text. Each raises Untranslatable.


def _string(value: Any) -> str:
    if type(value) is not str:
        raise Untranslatable("type: string")
    return value


def _boolean(value: Any) -> str:
    if value is True:
        return "true"
    if value is False:
        return "false"
    raise Untranslatable("type: boolean")


def _integer(value: Any) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is Digits:  # JSON Schema takes 1.0 for an integer
        number = _exact(value)
        if number == number.to_integral_value() and -_MAX_INTEGER - 1 <= number <= _MAX_INTEGER:
            return str(int(number))
    raise Untranslatable("type: integer")


def _wide(value: Any) -> str:
    if type(value) is str and (found := _INTEGER.fullmatch(value)):
        return f"{found[1].removeprefix('+')}{found[2] or '0'}"
    return _integer(value)


def _decimal(value: Any) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is not Digits:
        raise Untranslatable("type: number")
    plain = format(_exact(value), "f") if "e" in value.lower() else str(value)
    whole, _, fraction = plain.partition(".")
    return whole if fraction == "0" and len(whole) >= _LONG else plain


def _exact(value: Digits) -> Decimal:
    exponent = value.lower().partition("e")[2]
    if len(exponent) > 5 or abs(int(exponent or "0")) > _MAX_EXPONENT:
        raise Untranslatable("number-too-large")
    return Decimal(value)


def _number(value: Any) -> str:
    if type(value) is int or type(value) is Digits:
        return str(value)
    raise Untranslatable("type: number")


def _double(value: Any) -> str:
    return str(value) if type(value) is str and value in SPECIAL_DOUBLES else _number(value)


def _base64(value: Any) -> str:
    if type(value) is not str:
        raise Untranslatable("type: string")
    if not _BASE64.fullmatch(value):
        raise Untranslatable("contentEncoding: base64")
    return value


#: Digits from which on a whole decimal is written with ``.0``: readers of the bus refuse integers beyond 64 bits.
_LONG: Final = 19
_TO_TEXT: Final[Mapping[Kind, Callable[[Any], str]]] = {
    Kind.TEXT: _string,
    Kind.BOOLEAN: _boolean,
    Kind.INTEGER: _integer,
    Kind.WIDE: _wide,
    Kind.DECIMAL: _decimal,
    Kind.DOUBLE: _double,
    Kind.NUMBER: _number,
    Kind.BASE64: _base64,
    Kind.JSON: json_text,
}


def to_text(scalar: Scalar) -> Callable[[Any], str]:
    """How this scalar's JSON values become XML text (not yet escaped); the function raises Untranslatable."""
    plain = _TO_TEXT[scalar.kind]
    lexical = LEXICAL.get(scalar.xsd)
    if lexical is None:
        return plain
    pattern, rule = re.compile(lexical), f"format: {scalar.xsd}"

    def checked(value: Any) -> str:
        text = plain(value)
        if not pattern.fullmatch(text):
            raise Untranslatable(rule)
        return text

    return checked


def variant_kind(value: Any) -> str:
    """What a variant's value is called in XML. Raises Untranslatable for an object, an array or null."""
    if type(value) is str:
        return "string"
    if type(value) is bool:
        return "boolean"
    if type(value) is int or type(value) is Digits:
        return "number"
    raise Untranslatable("type: string, number, boolean")


# ---- XML text → JSON value. Each raises Untranslatable. A Fragment is written out as it is.


def _read_boolean(text: str) -> bool:
    word = text.strip(" \t\r\n")
    if word in ("true", "1"):
        return True
    if word in ("false", "0"):
        return False
    raise Untranslatable("format: boolean")


def _read_wide(text: str) -> int | str:
    found = _INTEGER.fullmatch(text.strip(" \t\r\n"))
    if found is None:
        raise Untranslatable("format: integer")
    sign, digits = found[1].removeprefix("+"), found[2] or "0"
    # The length comes first: int() of a million digits is slow.
    if len(digits) <= _LONG and -_MAX_INTEGER - 1 <= (number := int(sign + digits)) <= _MAX_INTEGER:
        return number
    return sign + digits


def _read_integer(text: str) -> int:
    value = _read_wide(text)
    if isinstance(value, str):
        raise Untranslatable("integer-beyond-64-bits")
    return value


def _read_decimal(text: str) -> orjson.Fragment:
    found = _DECIMAL.fullmatch(text.strip(" \t\r\n"))
    if found is None:
        raise Untranslatable("format: decimal")
    whole, fraction = found[2] or "0", (found[3] or "").removesuffix(".")
    if not fraction and len(whole) >= _LONG:
        fraction = ".0"
    return orjson.Fragment(f"{found[1].removeprefix('+')}{whole}{fraction}")


def _read_double(text: str) -> orjson.Fragment | str:
    word = text.strip(" \t\r\n")
    if word in SPECIAL_DOUBLES:
        return word
    found = _DOUBLE.fullmatch(word)
    if found is None:
        raise Untranslatable("format: double")
    sign, whole, fraction, exponent = found[1].removeprefix("+"), found[2] or "0", found[3] or "", found[4] or ""
    return _fragment(f"{sign}{whole}{'' if fraction == '.' else fraction}{exponent}")


def _read_number(text: str) -> orjson.Fragment:
    word = text.strip(" \t\r\n")
    if not _JSON_NUMBER.fullmatch(word):
        raise Untranslatable("format: number")
    return _fragment(word)


def _fragment(number: str) -> orjson.Fragment:
    """A number that every reader of the bus will take (:func:`schemas.codec.read_json`)."""
    try:
        read_json(number.encode())
    except Malformed as refusal:
        if refusal.reason != "json-number-too-large":
            raise Untranslatable("number-too-large") from None
        number += ".0"
    return orjson.Fragment(number)


def _read_base64(text: str) -> str:
    plain = _SPACES.sub("", text)
    if not _BASE64.fullmatch(plain):
        raise Untranslatable("format: base64Binary")
    return plain


def _read_json_text(text: str) -> orjson.Fragment:
    raw = text.encode()
    try:
        read_json(raw)
    except Malformed:
        raise Untranslatable("format: json") from None
    return orjson.Fragment(raw)


_FROM_TEXT: Final[Mapping[Kind, Callable[[str], Any]]] = {
    Kind.BOOLEAN: _read_boolean,
    Kind.INTEGER: _read_integer,
    Kind.WIDE: _read_wide,
    Kind.DECIMAL: _read_decimal,
    Kind.DOUBLE: _read_double,
    Kind.NUMBER: _read_number,
    Kind.BASE64: _read_base64,
    Kind.JSON: _read_json_text,
}


def from_text(scalar: Scalar) -> Callable[[str], Any]:
    """How this scalar's XML text becomes a JSON value; the function raises Untranslatable."""
    if scalar.kind is not Kind.TEXT:
        return _FROM_TEXT[scalar.kind]
    lexical = LEXICAL.get(scalar.xsd)
    if lexical is not None:
        return _moment(re.compile(lexical), f"format: {scalar.xsd}")
    return {"preserve": _unchanged, "replace": _replaced, "collapse": _collapsed}[scalar.space]


def _moment(pattern: re.Pattern[str], rule: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        word = text.strip(" \t\r\n")
        if not pattern.fullmatch(word):
            raise Untranslatable(rule)
        return word

    return read


def _unchanged(text: str) -> str:
    return text


def _replaced(text: str) -> str:
    return _ONE_SPACE.sub(" ", text)


def _collapsed(text: str) -> str:
    return _SPACES.sub(" ", text).strip(" ")


def variant_reader(kind: str) -> Callable[[str], Any]:
    """How the text of a variant of that kind is read. Raises Untranslatable for a kind that there is not."""
    if kind not in VARIANT_KINDS:
        raise Untranslatable("kind")
    return {"string": _unchanged, "number": _read_number, "boolean": _read_boolean}[kind]
