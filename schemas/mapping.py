"""Field mapping: one JSON value into another, by rules that stand in a service manifest.

Two partners rarely mean the same by different names; more often they mean the same by ``hoTen`` and ``HoVaTen``, by
``1`` and ``Nam``, by ``23/04/2026`` and ``20260423``. Such differences are declared, not programmed::

    {"rename": "/hoTen", "to": "/HoVaTen"}                       move a value
    {"copy": "/hoTen", "to": "/NguoiNop/HoTen"}                  and leave it where it was
    {"constant": "037", "to": "/MaTichHop", "if_absent": true}   a fixed text, number, true, false or null
    {"codes": {"1": "Nam", "2": "Nữ"}, "at": "/gioiTinh"}        a code list; "otherwise": "keep" lets others through
    {"date": "dd/MM/yyyy", "to_format": "yyyyMMdd", "at": …}     patterns of schemas/date_format.py, or lists of them
    {"split": "/hoTen", "into": [ho, dem, ten], "by": "person-name"}      or by a sign, with "rest": "first" or "last"
    {"join": ["/Ho", "/ChuDem", "/Ten"], "to": "/hoTen", "with": " "}
    {"text": ["name"], "at": "/HoVaTen"}                         upper, lower, nfc, trim, digits, …: see TEXTS
    {"type": "string", "at": "/maDonVi"}                         string, integer, number or boolean
    {"remove": "/ghiChu"}    {"keep": ["/a", "/b/*/c"]}          what goes, or all that stays

Pointers are JSON Pointers (RFC 6901); ``*`` as a whole segment stands for every item of an array, and a rule with
several pointers has the same path up to its last star in each. A target's missing objects are made, ``-`` appends to an
array. Rules run in their order. What is missing or null is passed over, unless the rule says ``"required": true``.
rename, split and join take the source away.

The input is never changed, time grows with rules times items, and what rules may multiply is bounded. A compiled
mapping is safe under threads. docs/mapping.md has an example of every rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

from schemas.date_format import DatePattern, read_date_pattern, rewrite_date
from schemas.problem import FieldError, Malformed, Problem, SchemaViolation
from schemas.text import name_key, national_phone, nfc, normalize_phone, unaccented
from schemas.validation import MAX_ERRORS

MAX_RULES: Final = 1000
MAX_POINTER_LENGTH: Final = 500
MAX_POINTER_SEGMENTS: Final = 32
MAX_POINTERS: Final = 1000
#: The largest lists in use have some 3,300 communes.
MAX_CODES: Final = 10_000
#: Values that copy and characters that join may make for one message: rules that copy an object into itself double it
#: with each turn.
MAX_MADE: Final = 2_000_000

Pointer = tuple[str, ...]
#: What a text rule may do.
TEXTS: Final[Mapping[str, Callable[[str], str]]] = {
    "upper": lambda text: nfc(text).upper(),
    "lower": lambda text: nfc(text).lower(),
    "nfc": nfc,
    "trim": str.strip,
    "spaces": lambda text: " ".join(text.split()),
    "digits": lambda text: "".join(sign for sign in text if sign in "0123456789"),
    "name": name_key,
    "unaccented": unaccented,
    "phone": national_phone,
    "phone-e164": normalize_phone,
}
TYPES: Final = ("string", "integer", "number", "boolean")


class _Missing:
    __slots__ = ()


_MISSING: Final = _Missing()


class _Unfit(Exception):
    """A value that a rule cannot work with. ``detail`` names the reason, ``pointer`` the place in the rule's words."""

    def __init__(self, detail: str, pointer: Pointer, indices: tuple[int, ...] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer
        self.indices = indices


class _Place(NamedTuple):
    """Where a rule works: an item of an array, or the document in its holder. ``indices`` are those of the stars."""

    container: list[Any]
    key: int
    indices: tuple[int, ...] = ()

    @property
    def value(self) -> Any:
        return self.container[self.key]


@dataclass(slots=True)
class _Purse:
    """What copy and join may still make during one application."""

    left: int = MAX_MADE

    def spend(self, amount: int, pointer: Pointer) -> None:
        self.left -= amount
        if self.left < 0:
            raise _Unfit("makes more than one message may hold", pointer)


#: Does a rule's work at one place. Raises _Unfit.
_Act = Callable[[_Place, _Purse], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    number: int
    kind: str
    #: The path up to the last star, cut at the stars: ``/a/*/b/*/c`` has ``(("a",), ("b",))``.
    base: tuple[Pointer, ...]
    act: _Act
    #: From which pointers values come to which, so that a later failure can be told in the input's own words.
    moves: tuple[tuple[Pointer, Pointer], ...] = ()

    @property
    def name(self) -> str:
        return f"{self.number} ({self.kind})"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldMapping:
    """Compiled rules. Immutable and safe under threads."""

    _rules: tuple[_Rule, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self._rules)

    def apply(self, value: Any) -> Any:
        """A new value, made by the rules in their order; the input stays as it is and shares nothing with it.

        Raises SchemaViolation ``mapping-failed``: the first rule that failed, at most ``MAX_ERRORS`` of its places as
        pointers into the input, and why; never a value.
        """
        holder = [_copied(value)]
        purse = _Purse()
        for rule in self._rules:
            errors = self._run(rule, holder, purse)
            if errors:
                raise SchemaViolation("mapping-failed", errors=errors, rule=rule.name)
        return holder[0]

    def _run(self, rule: _Rule, holder: list[Any], purse: _Purse) -> list[FieldError]:
        """Do a rule at all its places; what went wrong, if anything did."""
        errors: list[FieldError] = []
        places: Iterable[_Place] = [_Place(holder, 0)]
        for depth in range(len(rule.base)):
            places = _items(places, rule.base[: depth + 1])
        try:
            # All places first: a rule changes nothing above its last star, but what it does below is its own.
            found = list(places)
        except _Unfit as unfit:
            return [self._told(rule, unfit, unfit.indices or ())]
        for place in found:
            try:
                rule.act(place, purse)
            except _Unfit as unfit:
                errors.append(self._told(rule, unfit, place.indices))
                if len(errors) == MAX_ERRORS or purse.left < 0:
                    break
        return errors

    def _told(self, rule: _Rule, unfit: _Unfit, indices: tuple[int, ...]) -> FieldError:
        """The failure with the place where the value stood before earlier rules moved it."""
        pointer = unfit.pointer
        for earlier in reversed(self._rules[: rule.number - 1]):
            pointer = _before(pointer, earlier.moves)
        return FieldError(pointer=_spelled(pointer, indices), detail=f"rule {rule.name}: {unfit.detail}")


def compile_mapping(rules: Sequence[Mapping[str, Any]]) -> FieldMapping:
    """The mapping that rules describe, checked once for all.

    Raises Malformed ``mapping-invalid``: all that is wrong, as pointers into the list of rules.
    """
    if len(rules) > MAX_RULES:
        raise Malformed(
            "mapping-invalid", rule="all", errors=[FieldError(pointer="", detail=f"more than {MAX_RULES} rules")]
        )
    compiled: list[_Rule] = []
    errors: list[FieldError] = []
    first = ""
    for number, rule in enumerate(rules, start=1):
        reader = _Reader(number, rule)
        made = reader.compile()
        if made is not None:
            compiled.append(made)
        elif not errors:
            first = reader.name
        errors += reader.errors
    if errors:
        raise Malformed("mapping-invalid", rule=first, errors=errors[:MAX_ERRORS])
    return FieldMapping(_rules=tuple(compiled))


# ---- Reading rules


class _Reader:
    """One rule as it was written, and what is wrong with it."""

    def __init__(self, number: int, rule: object) -> None:
        self.number = number
        self.rule: Mapping[str, Any] = rule if isinstance(rule, Mapping) else {}
        self.kind = ""
        self.errors: list[FieldError] = []
        self._pointers: list[Pointer] = []

    @property
    def name(self) -> str:
        return f"{self.number} ({self.kind})" if self.kind else f"{self.number}"

    def compile(self) -> _Rule | None:
        """The rule, or None with ``errors``."""
        kinds = [kind for kind in _KINDS if kind in self.rule]
        if len(kinds) != 1:
            self.fail("", f"needs one of {', '.join(_KINDS)}" + (", not several" if kinds else ""))
            return None
        self.kind = kinds[0]
        options, compile_kind = _KINDS[self.kind]
        for name in self.rule:
            if name not in (self.kind, *options):
                # The name came from a manifest's author, not from a message; still a long one helps nobody.
                self.fail("", f"does not know the member '{str(name)[:40]}'")
        made = compile_kind(self)
        base = self._base()
        if self.errors:
            return None
        act, moves = made if isinstance(made, tuple) else (made, ())
        return _Rule(number=self.number, kind=self.kind, base=base, act=act, moves=moves)

    def fail(self, member: str, detail: str) -> None:
        place = f"/{self.number - 1}" + (f"/{member}" if member else "")
        self.errors.append(FieldError(pointer=place, detail=f"rule {self.name}: {detail}"))

    def pointer(self, member: str) -> Pointer:
        return self._pointer(member, self.rule.get(member))

    def pointers(self, member: str, *, least: int = 1, most: int = 20) -> tuple[Pointer, ...]:
        value = self.rule.get(member)
        if not isinstance(value, list | tuple) or not least <= len(value) <= most:
            self.fail(member, f"must be a list of {least} to {most} pointers")
            return ()
        return tuple(self._pointer(f"{member}/{at}", item) for at, item in enumerate(value))

    def flag(self, member: str) -> bool:
        value = self.rule.get(member, False)
        if not isinstance(value, bool):
            self.fail(member, "must be true or false")
        return value is True

    def choice(self, member: str, choices: Sequence[str], default: str = "") -> str:
        value = self.rule.get(member, default)
        if value not in choices:
            self.fail(member, f"must be one of {', '.join(choices)}")
            return ""
        return str(value)

    def text(self, member: str, default: str | None = None, *, least: int = 0) -> str:
        value = self.rule.get(member, default)
        if not isinstance(value, str) or not least <= len(value) <= 100:
            self.fail(member, f"must be a text of {least} to 100 characters")
            return ""
        return value

    def texts(self, member: str, most: int = 20) -> tuple[str, ...]:
        """One text or a list of them."""
        value = self.rule.get(member)
        given = [value] if isinstance(value, str) else value
        if not isinstance(given, list | tuple) or not 1 <= len(given) <= most:
            self.fail(member, f"must be a text or a list of at most {most}")
            return ()
        if not all(isinstance(item, str) for item in given):
            self.fail(member, "must hold only texts")
            return ()
        return tuple(given)

    def _pointer(self, member: str, value: object) -> Pointer:
        if not isinstance(value, str) or value[:1] not in ("", "/") or len(value) > MAX_POINTER_LENGTH:
            self.fail(member, f"must be a JSON Pointer, as in /a/b, of at most {MAX_POINTER_LENGTH} characters")
            return ()
        if "~" in value.replace("~0", "").replace("~1", ""):
            self.fail(member, "has a ~ that is neither ~0 nor ~1")
            return ()
        # Empty is the whole document.
        pointer = tuple(part.replace("~1", "/").replace("~0", "~") for part in value.split("/")[1:])
        if len(pointer) > MAX_POINTER_SEGMENTS:
            self.fail(member, f"has more than {MAX_POINTER_SEGMENTS} segments")
        self._pointers.append(pointer)
        return pointer

    def _base(self) -> tuple[Pointer, ...]:
        """The common path up to the last star. ``keep`` goes its own way from the root."""
        if self.kind == "keep":
            return ()
        bases = {pointer[: _after_stars(pointer)] for pointer in self._pointers}
        if len(bases) > 1:
            self.fail("", "its pointers need the same path up to the last *")
        return _segments(next(iter(bases), ()))


def _after_stars(pointer: Pointer) -> int:
    return max((at + 1 for at, step in enumerate(pointer) if step == "*"), default=0)


def _segments(base: Pointer) -> tuple[Pointer, ...]:
    segments: list[Pointer] = []
    start = 0
    for at, step in enumerate(base):
        if step == "*":
            segments.append(base[start:at])
            start = at + 1
    return tuple(segments)


def _inner(pointer: Pointer) -> Pointer:
    """The path below the last star."""
    return pointer[_after_stars(pointer) :]


# ---- The kinds of rules: each reads its options and returns what it does

_Moves = tuple[tuple[Pointer, Pointer], ...]


def _rename(reader: _Reader) -> tuple[_Act, _Moves]:
    source, target, required = reader.pointer("rename"), reader.pointer("to"), reader.flag("required")
    inner_source, inner_target = _inner(source), _inner(target)

    def act(place: _Place, _: _Purse) -> None:
        value = _take(place, inner_source)
        if _is_there(value, required, source):
            _put(place, inner_target, value, target)

    return act, ((source, target),)


def _copy(reader: _Reader) -> tuple[_Act, _Moves]:
    source, target, required = reader.pointer("copy"), reader.pointer("to"), reader.flag("required")
    inner_source, inner_target = _inner(source), _inner(target)

    def act(place: _Place, purse: _Purse) -> None:
        value = _find(place.value, inner_source)
        if _is_there(value, required, source):
            _put(place, inner_target, _copied(value, lambda made: purse.spend(made, source)), target)

    return act, ((source, target),)


def _constant(reader: _Reader) -> _Act:
    value, target, if_absent = reader.rule["constant"], reader.pointer("to"), reader.flag("if_absent")
    if not (value is None or isinstance(value, str | int | float | bool)):
        reader.fail("constant", "must be a text, a number, true, false or null")
    inner = _inner(target)

    def act(place: _Place, _: _Purse) -> None:
        if not if_absent or _find(place.value, inner) is _MISSING:
            _put(place, inner, value, target)

    return act


def _codes(reader: _Reader) -> _Act:
    table, at, required = reader.rule["codes"], reader.pointer("at"), reader.flag("required")
    keep = reader.choice("otherwise", ("refuse", "keep"), "refuse") == "keep"
    if not isinstance(table, Mapping) or not 1 <= len(table) <= MAX_CODES:
        reader.fail("codes", f"must be an object of 1 to {MAX_CODES} codes")
    elif not all(isinstance(code, str) for code in table):
        reader.fail("codes", "needs its codes in quotes")
    elif not all(value is None or isinstance(value, str | int | float | bool) for value in table.values()):
        reader.fail("codes", "must lead to texts, numbers, true, false or null")
    else:
        table = dict(table)

    def translate(value: Any) -> Any:
        code = _scalar_text(value)
        if code in table:
            return table[code]
        if keep:
            return value
        raise _Unfit("code not in the list" if code is not None else "is no code", at)

    return _changing(at, required, translate)


def _date(reader: _Reader) -> _Act:
    at, required = reader.pointer("at"), reader.flag("required")
    sources, targets = (_date_patterns(reader, member) for member in ("date", "to_format"))
    if len(targets) == 1:
        targets *= max(len(sources), 1)
    if len(sources) != len(targets) and not reader.errors:
        reader.fail("to_format", "must be one pattern, or as many as 'date' has")
    for source, target in zip(sources, targets, strict=False):
        if lacking := source.lacks(target):
            reader.fail("to_format", f"{target.text} states a {lacking} that {source.text} does not know")

    def translate(value: Any) -> Any:
        if value == "":
            return value
        written = rewrite_date(value, sources, targets)
        if written is None:
            raise _Unfit("is no date in the stated pattern", at)
        return written

    return _changing(at, required, translate)


def _date_patterns(reader: _Reader, member: str) -> tuple[DatePattern, ...]:
    patterns: list[DatePattern] = []
    for text in reader.texts(member):
        try:
            patterns.append(read_date_pattern(text))
        except ValueError as error:
            reader.fail(member, str(error))
    return tuple(patterns)


def _split(reader: _Reader) -> tuple[_Act, _Moves]:
    source, into, required = reader.pointer("split"), reader.pointers("into", least=2), reader.flag("required")
    by, rest = reader.text("by", least=1), reader.choice("rest", ("refuse", "first", "last"), "refuse")
    if by == PERSON_NAME and len(into) != 3:
        reader.fail("into", "needs three pointers for a person's name: family, middle, given")
    inner_source, inner_into = _inner(source), tuple(_inner(target) for target in into)

    def act(place: _Place, _: _Purse) -> None:
        value = _take(place, inner_source)
        if not _is_there(value, required, source) or value is None:
            return
        if not isinstance(value, str):
            raise _Unfit("is no text", source)
        parts = _name_parts(value) if by == PERSON_NAME else _parts(value, by, len(into), rest)
        if parts is None:
            raise _Unfit(f"has more than {len(into)} parts", source)
        for part, inner, target in zip(parts, inner_into, into, strict=True):
            if part is not None:
                _put(place, inner, part, target)

    return act, tuple((source, target) for target in into)


PERSON_NAME: Final = "person-name"


def _name_parts(name: str) -> list[str | None]:
    """Family, middle and given name; a Vietnamese name is written in this order, and one word is the given name."""
    words = name.split()
    if len(words) < 2:
        return ["", "", *(words or [""])]
    return [words[0], " ".join(words[1:-1]), words[-1]]


def _parts(text: str, by: str, places: int, rest: str) -> list[str | None] | None:
    """The trimmed parts, None for a place without one; None when there are too many and nobody takes the rest."""
    most = places if rest == "refuse" else places - 1
    parts = text.rsplit(by, most) if rest == "first" else text.split(by, most)
    if len(parts) > places:
        return None
    empty: list[str | None] = [None] * (places - len(parts))
    trimmed: list[str | None] = [part.strip() for part in parts]
    return empty + trimmed if rest == "first" else trimmed + empty


def _join(reader: _Reader) -> tuple[_Act, _Moves]:
    sources, target, required = reader.pointers("join"), reader.pointer("to"), reader.flag("required")
    between = reader.text("with", " ")
    inner_sources, inner_target = tuple(_inner(source) for source in sources), _inner(target)

    def act(place: _Place, purse: _Purse) -> None:
        found = [_take(place, inner) for inner in inner_sources]
        if not _is_there(next((v for v in found if v is not _MISSING and v is not None), _MISSING), required, target):
            return
        parts = [_part_text(value, source) for value, source in zip(found, sources, strict=True)]
        joined = between.join(part for part in parts if part)
        purse.spend(len(joined), target)
        _put(place, inner_target, joined, target)

    return act, ((sources[0] if sources else (), target),)


def _part_text(value: Any, source: Pointer) -> str:
    if value is _MISSING or value is None:
        return ""
    text = _scalar_text(value)
    if text is None:
        raise _Unfit("is neither a text nor a number", source)
    return text.strip()


def _text(reader: _Reader) -> _Act:
    at, required = reader.pointer("at"), reader.flag("required")
    names = reader.texts("text")
    for name in names:
        if name not in TEXTS:
            reader.fail("text", f"must be of {', '.join(TEXTS)}")
    steps = [TEXTS[name] for name in names if name in TEXTS]

    def translate(value: Any) -> Any:
        if not isinstance(value, str):
            raise _Unfit("is no text", at)
        try:
            for step in steps:
                value = step(value)
        except Problem:
            raise _Unfit("is no telephone number", at) from None
        return value

    return _changing(at, required, translate)


def _type(reader: _Reader) -> _Act:
    at, required = reader.pointer("at"), reader.flag("required")
    wanted = reader.choice("type", TYPES)

    def translate(value: Any) -> Any:
        made = _as_type(value, wanted)
        if made is None:
            raise _Unfit(f"cannot be written as {wanted}", at)
        return made

    return _changing(at, required, translate)


def _as_type(value: Any, wanted: str) -> Any:
    """The value in another type, None when it cannot be one without loss."""
    text = _scalar_text(value)
    if text is None:
        return None
    if wanted == "string":
        return text
    if wanted == "boolean":
        return {"true": True, "1": True, "false": False, "0": False}.get(text)
    if isinstance(value, bool):
        return int(value) if wanted == "integer" else None
    return _as_number(text, whole=wanted == "integer")


#: As JSON writes numbers: a code with leading zeros is none. 18 digits always fit 64 bits.
_WHOLE: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.0+)?")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,30})?")


def _as_number(text: str, *, whole: bool) -> int | float | Decimal | None:
    """A Decimal where a float would lose digits; the writers of JSON that meet one know it."""
    if _WHOLE.fullmatch(text):
        return int(text.partition(".")[0])
    if whole or not _NUMBER.fullmatch(text):
        return None
    number, exact = float(text), Decimal(text)
    return number if Decimal(repr(number)) == exact else exact


def _remove(reader: _Reader) -> _Act:
    pointer = reader.pointer("remove")
    inner = _inner(pointer)
    if not inner:
        reader.fail("remove", "must name a member; remove the array itself, not its items")

    def act(place: _Place, _: _Purse) -> None:
        _take(place, inner)

    return act


#: A tree of pointers; an empty node keeps all below it.
_Tree = dict[str, Any]


def _keep(reader: _Reader) -> _Act:
    pointers = reader.pointers("keep", most=MAX_POINTERS)
    tree: _Tree = {}
    for pointer in sorted(pointers, key=len):
        _plant(tree, pointer)
    if () in pointers:
        reader.fail("keep", "must name members; the whole document stays anyway")

    def act(place: _Place, _: _Purse) -> None:
        if not isinstance(place.value, dict | list):
            raise _Unfit("is neither an object nor an array", ())
        place.container[place.key] = _kept(place.value, tree)

    return act


def _plant(tree: _Tree, pointer: Pointer) -> None:
    """The shortest come first, so what a longer one would narrow down is already kept whole."""
    node = tree
    for step in pointer:
        if step in node and not node[step]:
            return
        node = node.setdefault(step, {})


def _kept(value: Any, node: _Tree) -> Any:
    """What of a value the tree keeps; goes as deep as the longest pointer."""
    if not node:
        return value
    if isinstance(value, dict):
        found = {name: _kept(value[name], below) for name, below in node.items() if name in value}
        return {name: item for name, item in found.items() if item is not _MISSING}
    if isinstance(value, list):
        branches = ((item, node.get(str(index), node.get("*"))) for index, item in enumerate(value))
        kept = [_kept(item, below) for item, below in branches if below is not None]
        return [item for item in kept if item is not _MISSING]
    return _MISSING


#: Kind → the options it knows, and what reads it.
_KINDS: Final[Mapping[str, tuple[tuple[str, ...], Callable[[_Reader], _Act | tuple[_Act, _Moves]]]]] = {
    "rename": (("to", "required"), _rename),
    "copy": (("to", "required"), _copy),
    "constant": (("to", "if_absent"), _constant),
    "codes": (("at", "otherwise", "required"), _codes),
    "date": (("to_format", "at", "required"), _date),
    "split": (("into", "by", "rest", "required"), _split),
    "join": (("to", "with", "required"), _join),
    "text": (("at", "required"), _text),
    "type": (("at", "required"), _type),
    "remove": ((), _remove),
    "keep": ((), _keep),
}


# ---- Working on values


def _changing(at: Pointer, required: bool, translate: Callable[[Any], Any]) -> _Act:
    """The act that puts a translated value where the value was; null stays null."""
    inner = _inner(at)

    def act(place: _Place, _: _Purse) -> None:
        if not inner:
            value = place.value
            if _is_there(value, required, at) and value is not None:
                place.container[place.key] = translate(value)
            return
        holder = _find(place.value, inner[:-1])
        value = _find(holder, inner[-1:])
        if _is_there(value, required, at) and value is not None:
            key = inner[-1] if isinstance(holder, dict) else int(inner[-1])
            holder[key] = translate(value)

    return act


def _is_there(value: Any, required: bool, pointer: Pointer) -> bool:
    if required and (value is _MISSING or value is None):
        raise _Unfit("is required", pointer)
    return value is not _MISSING


def _items(places: Iterable[_Place], base: tuple[Pointer, ...]) -> Iterator[_Place]:
    """Every item of the arrays at the base's last path below the places. An absent or null array has none."""
    for place in places:
        array = _find(place.value, base[-1])
        if array is _MISSING or array is None:
            continue
        if not isinstance(array, list):
            whole = tuple(step for segment in base for step in (*segment, "*"))[:-1]
            raise _Unfit("is no array", whole, place.indices)
        for index in range(len(array)):
            yield _Place(array, index, (*place.indices, index))


def _find(value: Any, path: Pointer) -> Any:
    for step in path:
        if isinstance(value, dict):
            value = value.get(step, _MISSING)
        elif isinstance(value, list) and (index := _index(step, len(value))) is not None:
            value = value[index]
        else:
            return _MISSING
    return value


def _index(step: str, length: int) -> int | None:
    """RFC 6901: digits without leading zeros."""
    fits = step.isascii() and step.isdecimal() and len(step) < 9 and (step == "0" or step[0] != "0")
    return int(step) if fits and int(step) < length else None


def _take(place: _Place, path: Pointer) -> Any:
    """The value at the path, taken out of what holds it."""
    if not path:
        value = place.value
        place.container[place.key] = None
        return value
    holder = _find(place.value, path[:-1])
    if isinstance(holder, dict):
        return holder.pop(path[-1], _MISSING)
    if isinstance(holder, list) and (index := _index(path[-1], len(holder))) is not None:
        return holder.pop(index)
    return _MISSING


def _put(place: _Place, path: Pointer, value: Any, told: Pointer) -> None:
    """Write a value, making the objects on the way; null on the way counts as missing."""
    container: Any = place.container
    key: Any = place.key
    for step in path:
        below = container[key]
        if below is None:
            below = container[key] = [] if step == "-" else {}
        container, key = below, _step(below, step, told)
    container[key] = value


def _step(below: Any, step: str, told: Pointer) -> str | int:
    """The key for a step in a container, with something there to overwrite."""
    if isinstance(below, dict):
        below.setdefault(step, None)
        return step
    if isinstance(below, list):
        if step == "-":
            below.append(None)
            return len(below) - 1
        if (index := _index(step, len(below))) is not None:
            return index
    raise _Unfit("has no place for the value: what stands on its way is no object", told)


def _scalar_text(value: Any) -> str | None:
    """A text, number or boolean as text; None for the rest."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        # Readers that keep decimals exact let 1e-999999999 through, whose digits fill the memory.
        return f"{value:f}" if -_MAX_EXPONENT < value.adjusted() < _MAX_EXPONENT else None
    if isinstance(value, int | float):
        return str(value)
    return None


#: As far as a double goes.
_MAX_EXPONENT: Final = 400


def _copied(value: Any, count: Callable[[int], None] | None = None) -> Any:
    """A copy with containers of its own, without recursion: depth is the sender's choice. ``count`` is told how many
    values each container has, before they are copied."""
    holder = [value]
    stack: list[dict[str, Any] | list[Any]] = [holder]
    while stack:
        container = stack.pop()
        if count is not None:
            count(len(container))
        pairs: Any = container.items() if isinstance(container, dict) else enumerate(container)
        for key, item in pairs:
            if isinstance(item, dict | list):
                # Replacing the value of a key that is there leaves the iteration valid.
                copy = item.copy()
                container[key] = copy
                stack.append(copy)
    return holder[0]


def _before(pointer: Pointer, moves: _Moves) -> Pointer:
    """Where a value stood before a rule moved it."""
    for source, target in moves:
        if pointer[: len(target)] == target:
            return source + pointer[len(target) :]
    return pointer


def _filled(pointer: Pointer, indices: tuple[int, ...]) -> Pointer:
    left = iter(indices)
    return tuple(str(next(left, "*")) if step == "*" else step for step in pointer)


def _spelled(pointer: Pointer, indices: tuple[int, ...]) -> str:
    tokens = _filled(pointer, indices)
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in tokens)
