"""What a gateway of a process asks: one fact against one constant. Nothing is evaluated.

::

    /paid/trangThai = "1"            =, !=, <, <=, >, >= with a JSON text, number, true, false or null
    /paid/soTien >= 50000
    /order/maLoi in ["0", "00"]      one of several
    /number/soDinhDanh exists        there, and not null; `missing` is its opposite
    /paid/SoTien same as /fee/SoTien two facts, compared as text: partners write one sum as text and as number
    /number/ketQuaXuLy/so > ""       also into JSON that stands in a text; this one: there, and not empty

The fact is a JSON Pointer (RFC 6901) into what the process knows (``bus.processes.facts``). BPMN lets engines choose
their language of conditions, and the usual choice is a programming language: a definition would be code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from schemas.codec import read_json
from schemas.problem import Malformed

#: The whole of it: a pointer without spaces, a word, and the rest is a constant.
_FORM: Final = re.compile(r"(/\S{1,500})\s+(=|!=|<=|<|>=|>|in|exists|missing|same as)(?:\s+(\S.{0,1000}))?", re.DOTALL)
_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": lambda fact, constant: bool(fact < constant),
    "<=": lambda fact, constant: bool(fact <= constant),
    ">": lambda fact, constant: bool(fact > constant),
    ">=": lambda fact, constant: bool(fact >= constant),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One comparison. Facts of another kind than the constant are unequal to it and in no order with it: ``"1"`` is not
    1, and true is no number."""

    pointer: tuple[str, ...]
    operator: str
    #: Behind "same as": the segments of the other pointer.
    constant: Any = None

    def holds(self, facts: Any) -> bool:
        """Never raises: what is missing is missing."""
        fact = find(facts, self.pointer)
        match self.operator:
            case "exists":
                return fact is not None
            case "missing":
                return fact is None
            case "=":
                return _same(fact, self.constant)
            case "!=":
                return not _same(fact, self.constant)
            case "same as":
                return key_text(fact) == key_text(find(facts, self.constant)) != ""
            case "in":
                return any(_same(fact, one) for one in self.constant)
        return _kind(fact) is _kind(self.constant) and _ORDERS[self.operator](fact, self.constant)


def read_condition(text: str) -> Condition:
    """The condition that a definition's author wrote. Raises ValueError saying what is wrong with it."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ValueError('must be a pointer, an operator and a constant, as in: /paid/trangThai = "1"')
    pointer, operator, rest = found.groups()
    path = read_pointer(pointer)
    if operator in ("exists", "missing"):
        if rest is not None:
            raise ValueError(f"takes nothing after '{operator}'")
        return Condition(pointer=path, operator=operator)
    if operator == "same as":
        return Condition(pointer=path, operator=operator, constant=read_pointer(rest or ""))
    constant = _constant(rest or "")
    if operator == "in":
        if not isinstance(constant, list) or not all(map(_is_scalar, constant)):
            raise ValueError("needs a list of texts and numbers after 'in'")
    elif not _is_scalar(constant):
        raise ValueError("compares with a text, a number, true, false or null only")
    elif operator in _ORDERS and _kind(constant) not in (str, float):
        raise ValueError("has an order for texts and numbers only")
    return Condition(pointer=path, operator=operator, constant=constant)


def read_pointer(text: str) -> tuple[str, ...]:
    """The segments of a JSON Pointer. Raises ValueError."""
    if not text.startswith("/") or "~" in text.replace("~0", "").replace("~1", ""):
        raise ValueError("must be a JSON Pointer, as in /paid/soTien")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:])


def find(value: Any, pointer: tuple[str, ...]) -> Any:
    """The value at a pointer; None where there is none. A text on the way is read as the JSON that partners put into
    texts (P5)."""
    for step in pointer:
        if isinstance(value, str):
            value = _json_in(value)
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and re.fullmatch(r"0|[1-9][0-9]{0,8}", step) and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _json_in(text: str) -> Any:
    try:
        return read_json(text.encode("utf-8", errors="replace"))
    except Malformed:
        return None


def key_text(value: Any) -> str:
    """A value as partners' spellings of it agree: the same reference is text here and a number there. Empty: none."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _constant(text: str) -> Any:
    try:
        return read_json(text.encode())
    except Malformed:
        raise ValueError("needs a JSON constant; texts stand in double quotes") from None


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def _kind(value: object) -> type:
    if isinstance(value, bool):
        return bool
    return float if isinstance(value, int | float) else type(value)


def _same(fact: Any, constant: Any) -> bool:
    return _kind(fact) is _kind(constant) and bool(fact == constant)
