"""Field mapping: what each rule does, what it refuses, and that no rule or value makes it slow."""

from __future__ import annotations

import copy
import json
import re
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import bundled
from schemas.mapping import MAX_RULES, TEXTS, TYPES, FieldMapping, compile_mapping
from schemas.problem import Malformed, SchemaViolation
from schemas.validation import MAX_ERRORS, compile_schema

PAGE = Path(__file__).resolve().parent.parent / "docs" / "mapping.md"
EXAMPLES = [
    json.loads(text) for text in re.findall(r"^```json mapping\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
]
Rule = dict[str, Any]
NAME: Rule = {"split": "/a", "into": ["/h", "/d", "/t"], "by": "person-name"}
KINDS = ("rename", "copy", "constant", "codes", "date", "split", "join", "text", "type", "remove", "keep")


def mapped(value: Any, *rules: Rule) -> Any:
    return compile_mapping(rules).apply(value)


def failure(value: Any, *rules: Rule) -> list[tuple[str, str]]:
    with pytest.raises(SchemaViolation) as caught:
        mapped(value, *rules)
    assert caught.value.reason == "mapping-failed"
    assert caught.value.detail("vi") != caught.value.detail("en")
    return [(error.pointer, error.detail) for error in caught.value.errors]


# --- the page --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: "+".join(sorted(example["rules"][0])))
def test_an_example_of_the_page_does_what_the_page_says(example: dict[str, Any]) -> None:
    before = copy.deepcopy(example["before"])
    assert compile_mapping(example["rules"]).apply(before) == example["after"]
    assert before == example["before"]


def test_the_page_shows_every_kind_of_rule_and_every_step() -> None:
    shown = {kind for example in EXAMPLES for rule in example["rules"] for kind in KINDS if kind in rule}
    assert shown == set(KINDS)
    assert {
        name for row in re.findall(r"^\| (`.*?) \|", PAGE.read_text("utf-8"), re.M) for name in row.split("`")[1::2]
    } >= (set(TEXTS))


# --- the rules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule, before, after",
    [
        # rename and copy
        ({"rename": "/a", "to": "/b"}, {"a": 1}, {"b": 1}),
        ({"rename": "/a", "to": "/b"}, {"b": 2}, {"b": 2}),
        ({"rename": "/a", "to": "/b"}, {"a": None, "b": 2}, {"b": None}),
        ({"rename": "/a", "to": "/a/x/y"}, {"a": 1}, {"a": {"x": {"y": 1}}}),
        ({"rename": "/a/x", "to": "/a"}, {"a": {"x": 1, "y": 2}}, {"a": 1}),
        ({"rename": "/a/0", "to": "/b"}, {"a": [1, 2]}, {"a": [2], "b": 1}),
        ({"rename": "/a/2", "to": "/b"}, {"a": [1, 2]}, {"a": [1, 2]}),
        ({"rename": "/a/00", "to": "/b"}, {"a": [1, 2]}, {"a": [1, 2]}),
        ({"rename": "/a/-", "to": "/b"}, {"a": [1, 2]}, {"a": [1, 2]}),
        ({"rename": "/a", "to": "/b/-"}, {"a": 1}, {"b": [1]}),
        ({"rename": "/a", "to": "/b/-"}, {"a": 1, "b": [0]}, {"b": [0, 1]}),
        ({"rename": "/a", "to": "/b/-/c"}, {"a": 1}, {"b": [{"c": 1}]}),
        ({"rename": "/a", "to": "/b/1"}, {"a": 1, "b": [0, 0]}, {"b": [0, 1]}),
        ({"rename": "/a~1b", "to": "/c~0d"}, {"a/b": 1}, {"c~d": 1}),
        ({"rename": "/*", "to": "/*/x"}, [1, 2], [{"x": 1}, {"x": 2}]),
        ({"rename": "/*/x", "to": "/*"}, [{"x": 1}, {}], [1, {}]),
        ({"rename": "/a/*/b/*/c", "to": "/a/*/b/*/d"}, {"a": [{"b": [{"c": 1}]}, {}]}, {"a": [{"b": [{"d": 1}]}, {}]}),
        ({"rename": "/a/*/b", "to": "/a/*/c"}, {"a": None}, {"a": None}),
        ({"rename": "", "to": "/x"}, [1], {"x": [1]}),
        ({"rename": "/x", "to": ""}, {"x": [1], "y": 2}, [1]),
        ({"copy": "/a", "to": "/b"}, {"a": {"x": 1}}, {"a": {"x": 1}, "b": {"x": 1}}),
        ({"copy": "", "to": "/a"}, {"x": 1}, {"x": 1, "a": {"x": 1}}),
        ({"copy": "/a", "to": "/b"}, {}, {}),
        # constant
        ({"constant": None, "to": "/a"}, {"a": 1}, {"a": None}),
        ({"constant": "", "to": "/a", "if_absent": True}, {"a": None}, {"a": None}),
        ({"constant": False, "to": "/a/b", "if_absent": True}, {}, {"a": {"b": False}}),
        ({"constant": 1, "to": "/*/a"}, [{}, {"a": 2}], [{"a": 1}, {"a": 1}]),
        # codes
        ({"codes": {"1": "Nam"}, "at": "/a"}, {"a": "1"}, {"a": "Nam"}),
        ({"codes": {"1": "Nam"}, "at": "/a"}, {"a": 1}, {"a": "Nam"}),
        ({"codes": {"1": "Nam"}, "at": "/a"}, {"a": None}, {"a": None}),
        ({"codes": {"1": "Nam"}, "at": "/a"}, {}, {}),
        ({"codes": {"true": 1, "false": 0}, "at": "/a"}, {"a": True}, {"a": 1}),
        ({"codes": {"": None}, "at": "/a"}, {"a": ""}, {"a": None}),
        ({"codes": {"1": "Nam"}, "at": "/a", "otherwise": "keep"}, {"a": ["1"]}, {"a": ["1"]}),
        ({"codes": {"1": "Nam"}, "at": "/a/*", "otherwise": "keep"}, {"a": ["1", 9]}, {"a": ["Nam", 9]}),
        ({"codes": {"1": "Nam"}, "at": "/a/1"}, {"a": ["1", "1"]}, {"a": ["1", "Nam"]}),
        # date
        ({"date": "dd/MM/yyyy", "to_format": "yyyyMMdd", "at": "/a"}, {"a": "23/04/2026"}, {"a": "20260423"}),
        ({"date": "dd/MM/yyyy", "to_format": "yyyyMMdd", "at": "/a"}, {"a": ""}, {"a": ""}),
        ({"date": "dd/MM/yyyy", "to_format": "yyyyMMdd", "at": "/a"}, {"a": None}, {"a": None}),
        ({"date": ["MM/yyyy", "yyyy"], "to_format": "yyyy", "at": "/a"}, {"a": "04/2026"}, {"a": "2026"}),
        # split
        (NAME, {"a": "LÝ AN"}, {"h": "LÝ", "d": "", "t": "AN"}),
        (NAME, {"a": " An "}, {"h": "", "d": "", "t": "An"}),
        (NAME, {"a": ""}, {"h": "", "d": "", "t": ""}),
        (
            {"split": "/a", "into": ["/a/h", "/a/d", "/a/t"], "by": "person-name"},
            {"a": "NÔNG Y  BANG"},
            {"a": {"h": "NÔNG", "d": "Y", "t": "BANG"}},
        ),
        ({"split": "/a", "into": ["/b", "/c"], "by": ","}, {"a": "1, 2"}, {"b": "1", "c": "2"}),
        ({"split": "/a", "into": ["/b", "/c"], "by": ","}, {"a": "1"}, {"b": "1"}),
        ({"split": "/a", "into": ["/b", "/c"], "by": ",", "rest": "first"}, {"a": "1"}, {"c": "1"}),
        ({"split": "/a", "into": ["/b", "/c"], "by": ",", "rest": "last"}, {"a": "1,2,3"}, {"b": "1", "c": "2,3"}),
        ({"split": "/a", "into": ["/b", "/c"], "by": ",", "rest": "first"}, {"a": "1,2,3"}, {"b": "1,2", "c": "3"}),
        ({"split": "/a", "into": ["/b", "/c"], "by": ","}, {"a": None}, {}),
        ({"split": "/*/a", "into": ["/*/b", "/*/c"], "by": "-"}, [{"a": "1-2"}], [{"b": "1", "c": "2"}]),
        # join
        ({"join": ["/a", "/b", "/c"], "to": "/d"}, {"a": "x", "b": "", "c": "z"}, {"d": "x z"}),
        ({"join": ["/a", "/b"], "to": "/d", "with": ""}, {"a": "x", "b": 1}, {"d": "x1"}),
        ({"join": ["/a", "/b"], "to": "/d"}, {"a": None}, {}),
        ({"join": ["/a", "/b"], "to": "/d"}, {"a": ""}, {"d": ""}),
        ({"join": ["/a/x", "/a/y"], "to": "/a"}, {"a": {"x": "1", "y": "2", "z": "3"}}, {"a": "1 2"}),
        # text
        ({"text": "upper", "at": "/a"}, {"a": "nguye\u0302\u0303n thị mẫu"}, {"a": "NGUYỄN THỊ MẪU"}),
        ({"text": "upper", "at": "/a"}, {"a": "hoà"}, {"a": "HOÀ"}),
        ({"text": "lower", "at": "/a"}, {"a": "ĐẶNG"}, {"a": "đặng"}),
        ({"text": "name", "at": "/a"}, {"a": "\u00d0ặng\u200b  phương đông "}, {"a": "\u0110ẶNG PHƯƠNG ĐÔNG"}),
        ({"text": "nfc", "at": "/a"}, {"a": "e\u0302"}, {"a": "ê"}),
        ({"text": ["trim", "digits"], "at": "/a"}, {"a": " 09-9 ٣"}, {"a": "099"}),
        ({"text": "spaces", "at": "/a"}, {"a": " a \n b "}, {"a": "a b"}),
        ({"text": "phone-e164", "at": "/a"}, {"a": "0900 000 001"}, {"a": "+84900000001"}),
        ({"text": "upper", "at": "/a"}, {"a": None}, {"a": None}),
        # type
        ({"type": "string", "at": "/a"}, {"a": 1.5}, {"a": "1.5"}),
        ({"type": "string", "at": "/a"}, {"a": Decimal("1.50")}, {"a": "1.50"}),
        ({"type": "string", "at": "/a"}, {"a": True}, {"a": "true"}),
        ({"type": "integer", "at": "/a"}, {"a": "-12"}, {"a": -12}),
        ({"type": "integer", "at": "/a"}, {"a": 3.0}, {"a": 3}),
        ({"type": "integer", "at": "/a"}, {"a": True}, {"a": 1}),
        ({"type": "number", "at": "/a"}, {"a": "1.5"}, {"a": 1.5}),
        ({"type": "number", "at": "/a"}, {"a": "12345678901234567.89"}, {"a": Decimal("12345678901234567.89")}),
        ({"type": "boolean", "at": "/a"}, {"a": "0"}, {"a": False}),
        ({"type": "boolean", "at": "/a"}, {"a": 1}, {"a": True}),
        # remove and keep
        ({"remove": "/a/b"}, {"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}),
        ({"remove": "/a/*/b"}, {"a": [{"b": 1}, {}]}, {"a": [{}, {}]}),
        ({"remove": "/a"}, {}, {}),
        ({"remove": "/a"}, "text", "text"),
        ({"keep": ["/a", "/b/c", "/a/x"]}, {"a": {"y": 2}, "b": {"c": 3}, "e": 5}, {"a": {"y": 2}, "b": {"c": 3}}),
        ({"keep": ["/a/*/x"]}, {"a": [{"x": 1, "y": 2}, {"y": 2}, 3]}, {"a": [{"x": 1}, {}]}),
        ({"keep": ["/a/1"]}, {"a": [1, 2, 3]}, {"a": [2]}),
        ({"keep": ["/a/b"]}, {"a": 1}, {}),
        ({"keep": ["/*/x"]}, [{"x": 1, "y": 2}], [{"x": 1}]),
    ],
)  # fmt: skip
def test_a_rule_makes_this_of_that(rule: Rule, before: Any, after: Any) -> None:
    made = mapped(before, rule)
    assert made == after
    assert repr(made) == repr(after), "equal values of other types are not the same"


@pytest.mark.parametrize(
    "rule, value, pointer, detail",
    [
        ({"rename": "/a", "to": "/b", "required": True}, {}, "/a", "is required"),
        ({"copy": "/a", "to": "/b", "required": True}, {"a": None}, "/a", "is required"),
        ({"rename": "/a", "to": "/b/c"}, {"a": 1, "b": "SECRET"}, "/b/c", "has no place for the value"),
        ({"rename": "/a", "to": "/b/9"}, {"a": 1, "b": []}, "/b/9", "has no place for the value"),
        ({"constant": 1, "to": "/a/b"}, {"a": "SECRET"}, "/a/b", "has no place for the value"),
        ({"constant": 1, "to": "/a/*/b"}, {"a": {"SECRET": 1}}, "/a", "is no array"),
        ({"codes": {"1": "x"}, "at": "/a"}, {"a": "SECRET"}, "/a", "code not in the list"),
        ({"codes": {"1": "x"}, "at": "/a"}, {"a": {"SECRET": 1}}, "/a", "is no code"),
        ({"codes": {"1": "x"}, "at": "/a", "required": True}, {}, "/a", "is required"),
        ({"codes": {"1": "x"}, "at": "/a/*/b"}, {"a": [{"b": "1"}, {"b": "SECRET"}]}, "/a/1/b", "code not in the list"),
        ({"codes": {"1": "x"}, "at": "/a/*/b/*"}, {"a": [{}, {"b": ["1", "SECRET"]}]}, "/a/1/b/1", "code not in"),
        ({"codes": {"1": "x"}, "at": "/a/*/b/*"}, {"a": [{"b": []}, {"b": "SECRET"}]}, "/a/1/b", "is no array"),
        ({"date": "dd/MM/yyyy", "to_format": "yyyy", "at": "/a"}, {"a": "SECRET"}, "/a", "no date in the stated"),
        ({"date": "dd/MM/yyyy", "to_format": "yyyy", "at": "/a"}, {"a": 1}, "/a", "no date in the stated"),
        ({"date": "yyyyMMdd", "to_format": "yyyy", "at": "/a"}, {"a": "20260230"}, "/a", "no date in the stated"),
        ({"split": "/a", "into": ["/b", "/c"], "by": ","}, {"a": "SECRET,2,3"}, "/a", "has more than 2 parts"),
        ({"split": "/a", "into": ["/b", "/c"], "by": ","}, {"a": 1}, "/a", "is no text"),
        ({"split": "/a", "into": ["/b", "/c"], "by": ",", "required": True}, {}, "/a", "is required"),
        ({"join": ["/a", "/b"], "to": "/c"}, {"a": "x", "b": ["SECRET"]}, "/b", "is neither a text nor a number"),
        ({"join": ["/a", "/b"], "to": "/c", "required": True}, {"a": None}, "/c", "is required"),
        ({"text": "upper", "at": "/a"}, {"a": 1}, "/a", "is no text"),
        ({"text": "phone", "at": "/a"}, {"a": "SECRET"}, "/a", "is no telephone number"),
        ({"type": "integer", "at": "/a"}, {"a": "007"}, "/a", "cannot be written as integer"),
        ({"type": "integer", "at": "/a"}, {"a": "1.5"}, "/a", "cannot be written as integer"),
        ({"type": "integer", "at": "/a"}, {"a": "9" * 19}, "/a", "cannot be written as integer"),
        ({"type": "integer", "at": "/a"}, {"a": "١"}, "/a", "cannot be written as integer"),
        ({"type": "number", "at": "/a"}, {"a": "NaN"}, "/a", "cannot be written as number"),
        ({"type": "number", "at": "/a"}, {"a": "1e999999999"}, "/a", "cannot be written as number"),
        ({"type": "number", "at": "/a"}, {"a": True}, "/a", "cannot be written as number"),
        ({"type": "boolean", "at": "/a"}, {"a": "yes"}, "/a", "cannot be written as boolean"),
        ({"type": "string", "at": "/a"}, {"a": []}, "/a", "cannot be written as string"),
        ({"type": "string", "at": "/a"}, {"a": Decimal("1e-999999999")}, "/a", "cannot be written as string"),
        ({"keep": ["/a"]}, "SECRET", "", "is neither an object nor an array"),
    ],
)  # fmt: skip
def test_what_a_rule_cannot_work_with_is_named_and_never_shown(
    rule: Rule, value: Any, pointer: str, detail: str
) -> None:
    kind = next(kind for kind in KINDS if kind in rule)
    ((told_pointer, told_detail),) = failure(value, {"remove": "/unrelated"}, rule)
    assert told_pointer == pointer
    assert told_detail.startswith(f"rule 2 ({kind}): ")
    assert detail in told_detail
    assert "SECRET" not in told_detail


@pytest.mark.parametrize(
    "earlier, value, pointer",
    [
        ([{"rename": "/x", "to": "/a"}], {"x": "?"}, "/x"),
        ([{"copy": "/x", "to": "/a"}], {"x": "?"}, "/x"),
        ([{"rename": "/x", "to": "/y"}, {"rename": "/y", "to": "/a"}], {"x": "?"}, "/x"),
        ([{"rename": "", "to": "/a/b"}, {"rename": "/a/b/x", "to": "/a"}], {"x": "?"}, "/x"),
        ([{"split": "/x", "into": ["/a", "/b"], "by": ","}], {"x": "?,1"}, "/x"),
        ([{"join": ["/x", "/y"], "to": "/a"}], {"x": "?"}, "/x"),
        ([{"rename": "/a", "to": "/z"}, {"rename": "/x", "to": "/a"}], {"x": "?", "a": "1"}, "/x"),
    ],
)
def test_a_failure_points_into_what_was_sent(earlier: list[Rule], value: Any, pointer: str) -> None:
    ((told, _),) = failure(value, *earlier, {"codes": {"1": "x"}, "at": "/a"})
    assert told == pointer


def test_a_failure_in_an_array_that_was_renamed_keeps_its_number() -> None:
    rules = (
        {"rename": "/ds", "to": "/Ds"},
        {"rename": "/Ds/*/gt", "to": "/Ds/*/GT"},
        {"codes": {"1": "x"}, "at": "/Ds/*/GT"},
    )
    ((pointer, _),) = failure({"ds": [{"gt": "1"}, {"gt": "9"}]}, *rules)
    assert pointer == "/ds/1/gt"


def test_the_first_rule_that_fails_is_told_with_its_places_and_no_more() -> None:
    rules = ({"codes": {"1": "x"}, "at": "/*"}, {"constant": 1, "to": "/nowhere/*/x", "if_absent": True})
    told = failure(["9"] * 100, *rules)
    assert len(told) == MAX_ERRORS
    assert [pointer for pointer, _ in told][:2] == ["/0", "/1"]


# --- rules that are none ---------------------------------------------------------------------------------------------

#: Also refused by the JSON Schema of the rule language.
MISSHAPEN: list[Any] = [
    {},
    {"frobnicate": 1},
    {"rename": "/a", "copy": "/b", "to": "/c"},
    {"rename": "/a"},
    {"rename": "a", "to": "/b"},
    {"rename": 1, "to": "/b"},
    {"rename": "/a~2", "to": "/b"},
    {"rename": "/a~", "to": "/b"},
    {"rename": "/" + "a" * 500, "to": "/b"},
    {"rename": "/a", "to": "/b", "required": "yes"},
    {"rename": "/a", "to": "/b", "if_absent": True},
    {"constant": {}, "to": "/a"},
    {"constant": [1], "to": "/a"},
    {"constant": 1},
    {"constant": 1, "to": "/a", "if_absent": 1},
    {"codes": {}, "at": "/a"},
    {"codes": ["1"], "at": "/a"},
    {"codes": {"1": {}}, "at": "/a"},
    {"codes": {"1": "x"}},
    {"codes": {"1": "x"}, "at": "/a", "otherwise": "ignore"},
    {"date": "yyyy", "at": "/a"},
    {"date": "yyyy", "to_format": "yyyy"},
    {"date": [], "to_format": "yyyy", "at": "/a"},
    {"date": [1], "to_format": "yyyy", "at": "/a"},
    {"split": "/a", "into": ["/b"], "by": ","},
    {"split": "/a", "into": "/b", "by": ","},
    {"split": "/a", "into": ["/b", "/c"], "by": ""},
    {"split": "/a", "into": ["/b", "/c"], "by": ",", "rest": "middle"},
    {"split": "/a", "into": ["/b", "/c"]},
    {"join": [], "to": "/a"},
    {"join": "/a", "to": "/a"},
    {"join": ["/a", 1], "to": "/a"},
    {"join": ["/a"], "to": "/b", "with": 1},
    {"text": "shout", "at": "/a"},
    {"text": [], "at": "/a"},
    {"text": [[]], "at": "/a"},
    {"text": "upper"},
    {"type": "object", "at": "/a"},
    {"type": "string"},
    {"remove": ["/a"]},
    {"remove": "/a", "required": True},
    {"keep": []},
    {"keep": "/a"},
    {"keep": [""]},
    {"keep": ["/a", "b"]},
]
#: Only the compiler knows.
CONTRADICTORY: list[Any] = [
    "rename",
    None,
    {"remove": ""},
    {"remove": "/a/*"},
    {"codes": {1: "x"}, "at": "/a"},
    {"rename": "/a" * 33, "to": "/b"},
    {"rename": "/a/*/b", "to": "/b"},
    {"rename": "/a/b", "to": "/b/*"},
    {"rename": "/a/*/b", "to": "/c/*/b"},
    {"rename": "/a/*/b/*/c", "to": "/a/*/c"},
    {"join": ["/a/*/b", "/c"], "to": "/a/*/d"},
    {"split": "/a", "into": ["/b", "/c/*/d"], "by": ","},
    {"split": "/a", "into": ["/b", "/c"], "by": "person-name"},
    {"date": "yyyyMMddhhmmss", "to_format": "yyyy", "at": "/a"},
    {"date": "yyyy", "to_format": "dd/MM/yyyy", "at": "/a"},
    {"date": ["dd/MM/yyyy", "MM/yyyy"], "to_format": "yyyyMMdd", "at": "/a"},
    {"date": ["dd/MM/yyyy", "MM/yyyy"], "to_format": ["yyyyMMdd", "yyyy", "yyyy"], "at": "/a"},
]
LANGUAGE = compile_schema(bundled.document("mapping"))


def says_schema(rules: list[Any]) -> bool:
    try:
        LANGUAGE.validate(json.dumps(rules).encode(), "application/json")
    except SchemaViolation:
        return False
    return True


@pytest.mark.parametrize("rule", [*MISSHAPEN, *CONTRADICTORY], ids=repr)
def test_a_rule_that_is_none_is_refused_when_it_is_compiled(rule: Any) -> None:
    with pytest.raises(Malformed) as caught:
        compile_mapping([{"remove": "/a"}, rule])
    assert caught.value.reason == "mapping-invalid"
    assert str(caught.value.facts["rule"]).startswith("2")
    assert all(error.pointer.startswith("/1") and error.detail.startswith("rule 2") for error in caught.value.errors)


@pytest.mark.parametrize("rule", MISSHAPEN, ids=repr)
def test_the_schema_of_the_language_refuses_what_is_misshapen(rule: Any) -> None:
    assert not says_schema([rule])


def test_the_schema_takes_every_rule_of_the_page() -> None:
    for example in EXAMPLES:
        assert says_schema(example["rules"])


def test_the_schema_of_a_rule_refers_to_nothing_outside_itself() -> None:
    rule = bundled.document("mapping")["$defs"]["rule"]
    assert "$ref" not in json.dumps(rule)
    branches = {branch["if"]["required"][0]: branch["then"]["properties"] for branch in rule["allOf"]}
    assert tuple(branches) == KINDS
    assert branches["text"]["text"]["anyOf"][0]["enum"] == list(TEXTS)
    assert branches["type"]["type"]["enum"] == list(TYPES)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(Malformed) as caught:
        compile_mapping([{"rename": "a", "to": "b"}, {"remove": "/x"}, {"text": "shout", "at": "/y"}])
    assert [error.pointer for error in caught.value.errors] == ["/0/rename", "/0/to", "/2/text"]
    assert caught.value.facts["rule"] == "1 (rename)"


# --- promises about all rules and values -----------------------------------------------------------------------------

TEXT = st.sampled_from(["", "1", "LÝ THÁI AN", "23/04/2026", "a,b,c", "Ð", "0900000001", "20260423"])
NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**6) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)
POINTERS = st.lists(st.sampled_from(["a", "b", "c", "0", "1", "-", "*"]), max_size=4).map(
    lambda parts: "".join(f"/{part}" for part in parts)
)
FLAG = st.booleans()
RULES = st.one_of(
    st.fixed_dictionaries({"rename": POINTERS, "to": POINTERS}, optional={"required": FLAG}),
    st.fixed_dictionaries({"copy": POINTERS, "to": POINTERS}, optional={"required": FLAG}),
    st.fixed_dictionaries({"constant": TEXT | st.none(), "to": POINTERS}, optional={"if_absent": FLAG}),
    st.fixed_dictionaries({"codes": st.just({"1": "Nam"}), "at": POINTERS}, optional={"otherwise": st.just("keep")}),
    st.fixed_dictionaries({"date": st.just("dd/MM/yyyy"), "to_format": st.just("yyyyMMdd"), "at": POINTERS}),
    st.fixed_dictionaries({"split": POINTERS, "into": st.lists(POINTERS, min_size=2, max_size=3), "by": st.just(",")}),
    st.fixed_dictionaries({"join": st.lists(POINTERS, min_size=1, max_size=3), "to": POINTERS}),
    st.fixed_dictionaries({"text": st.sampled_from(sorted(TEXTS)), "at": POINTERS}),
    st.fixed_dictionaries({"type": st.sampled_from(TYPES), "at": POINTERS}),
    st.fixed_dictionaries({"remove": POINTERS}),
    st.fixed_dictionaries({"keep": st.lists(POINTERS, min_size=1, max_size=3)}),
)  # fmt: skip


def containers(value: Any) -> set[int]:
    found: set[int] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict | list):
            found.add(id(item))
            stack += item.values() if isinstance(item, dict) else item
    return found


@settings(max_examples=400, deadline=None)
@given(rules=st.lists(RULES, max_size=6), value=VALUES)
def test_whatever_the_rules_the_input_stays_and_only_the_two_problems_are_raised(rules: list[Rule], value: Any) -> None:
    assert says_schema(rules) or any("" in rule.get("keep", ()) for rule in rules)
    try:
        mapping = compile_mapping(rules)
    except Malformed:
        return
    before = copy.deepcopy(value)
    try:
        made = mapping.apply(value)
    except SchemaViolation:
        assert 0 < len(failure(value, *rules)) <= MAX_ERRORS
    else:
        assert not containers(made) & containers(value)
        assert repr(mapping.apply(value)) == repr(made)
    assert repr(value) == repr(before)


def test_a_copy_shares_nothing_with_its_original() -> None:
    assert mapped({"a": [{}]}, {"copy": "/a", "to": "/b"}, {"constant": 1, "to": "/b/0/x"}) == {
        "a": [{}],
        "b": [{"x": 1}],
    }


def test_no_rules_change_nothing() -> None:
    mapping = compile_mapping([])
    assert len(mapping) == 0
    assert mapping.apply({"a": [1]}) == {"a": [1]}


def test_eight_threads_share_one_mapping() -> None:
    mapping = compile_mapping([rule for example in EXAMPLES[:1] for rule in example["rules"]])
    wrong: list[Any] = []

    def work(name: str) -> None:
        for number in range(200):
            made = mapping.apply({"hoTen": f"{name}{number}", "con": [{"ten": name}]})
            if made["CongDan"] != {"HoVaTen": f"{name}{number}", "Con": [{"HoVaTen": name}]}:
                wrong.append(made)

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- hostile rules and values ----------------------------------------------------------------------------------------


def seconds(mapping: FieldMapping, value: Any) -> float:
    started = time.process_time()
    mapping.apply(value)
    return time.process_time() - started


def test_a_thousand_rules_are_taken_and_one_more_is_not() -> None:
    rule = {"rename": "/a", "to": "/b"}
    assert len(compile_mapping([rule] * MAX_RULES)) == MAX_RULES
    assert says_schema([rule] * MAX_RULES)
    with pytest.raises(Malformed):
        compile_mapping([rule] * (MAX_RULES + 1))
    assert not says_schema([rule] * (MAX_RULES + 1))


def test_time_grows_with_the_items_and_not_faster() -> None:
    mapping = compile_mapping(
        [
            {"rename": "/list/*/hoTen", "to": "/list/*/HoVaTen"},
            {"split": "/list/*/HoVaTen", "into": ["/list/*/Ho", "/list/*/Dem", "/list/*/Ten"], "by": "person-name"},
            {"codes": {"1": "Nam"}, "at": "/list/*/gt"},
            {"keep": ["/list/*/Ho", "/list/*/gt"]},
        ]
    )
    small, large = ({"list": [{"hoTen": "LÝ AN", "gt": "1"} for _ in range(size)]} for size in (10_000, 100_000))
    assert seconds(mapping, large) < 30 * max(seconds(mapping, small), 0.02)


def test_a_hundred_thousand_failures_end_after_the_first_twenty() -> None:
    assert len(failure({"a": ["9"] * 100_000}, {"codes": {"1": "x"}, "at": "/a/*"})) == MAX_ERRORS


def test_depth_is_the_senders_choice_and_breaks_nothing() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    made = mapped({"a": deep}, {"copy": "/a", "to": "/b"}, {"remove": "/a"}, {"keep": ["/b/0/0"]})
    assert isinstance(made["b"][0][0], list)


@pytest.mark.parametrize(
    "rules",
    [
        [{"copy": "", "to": "/a"}],
        [{"copy": "/a", "to": "/b/-"}, {"copy": "/b", "to": "/a/-"}],
        [{"copy": "/s", "to": "/t"}, {"join": ["/s", "/t"], "to": "/s"}],
    ],
)
def test_rules_that_double_a_message_with_each_turn_are_stopped(rules: list[Rule]) -> None:
    mapping = compile_mapping(rules * (MAX_RULES // len(rules)))
    value = {"a": [1], "b": [2], "s": "x" * 1000}
    started = time.process_time()
    with pytest.raises(SchemaViolation) as caught:
        mapping.apply(value)
    assert time.process_time() - started < 10
    assert "makes more than one message may hold" in caught.value.errors[0].detail
