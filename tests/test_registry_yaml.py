"""The strict YAML reader: what it reads as, and everything it will not read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.strict_yaml import MAX_DEPTH, BadYaml, read_yaml, write_yaml


@pytest.mark.parametrize(
    "text, value",
    [
        ("a: no", "no"),
        ("a: off", "off"),
        ("a: 12:30", "12:30"),
        ("a: 2026-11-21", "2026-11-21"),
        ("a: 010", 10),
        ("a: 0x1F", "0x1F"),
        ("a: 1_000", "1_000"),
        ("a: true", True),
        ("a: ~", None),
        ("a: null", None),
        ("a:", None),
        ("a: 2.5", 2.5),
        ("a: -3", -3),
        ("a: '3'", "3"),
        ("a: .inf", ".inf"),
        ("a: .nan", ".nan"),
        ("a: H99.15", "H99.15"),
        ("a: =", "="),
        ("a: |\n  x\n  y\n", "x\ny\n"),
    ],
)
def test_a_plain_scalar_is_what_it_looks_like(text: str, value: object) -> None:
    [document] = read_yaml(text)
    assert document == {"a": value}
    assert type(document["a"]) is type(value)


BILLION_LAUGHS = "a: &a [x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n"


@pytest.mark.parametrize(
    "text, rule",
    [
        ("a: 1\na: 2", "twice"),
        ("a: {b: 1, b: 2}", "twice"),
        (BILLION_LAUGHS, "anchors"),
        ("a: *nowhere", "anchors"),
        ("base: &base {x: 1}\n", "anchors"),
        ("a: !!python/object/apply:os.system [id]", "tags"),
        ("a: !!binary aGVsbG8=", "tags"),
        ("a: !secret x", "tags"),
        ("1: x", "keys are strings"),
        ("? [a]\n: x", "keys are strings"),
        ("true: x", "keys are strings"),
        ("a: [", "not readable"),
        ("a: \x07", "not readable"),
        ("%YAML 3.0\n---\na: 1", "not readable"),
        ("a: " + "1" * 30, "too long"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested deeper"),
        ("[" * 5000, "nested deeper"),
        ("a: " + "x" * (16 * 1024 * 1024), "longer"),
    ],
)
def test_what_could_mean_something_else_is_refused(text: str, rule: str) -> None:
    with pytest.raises(BadYaml, match=rule):
        read_yaml(text)


def test_a_merge_key_is_an_ordinary_key_and_merges_nothing() -> None:
    assert read_yaml("<<: {a: 1}\nb: 2") == [{"<<": {"a": 1}, "b": 2}]


def test_a_refusal_names_the_line_and_not_the_value() -> None:
    with pytest.raises(BadYaml) as refusal:
        read_yaml("a: 1\nb: 2\nmat-khau: bi mat\nmat-khau: bi mat\n")
    assert "line 4" in str(refusal.value)
    assert "bi mat" not in str(refusal.value)


def test_empty_documents_are_left_out() -> None:
    assert read_yaml("---\n---\na: 1\n---\n") == [{"a": 1}]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C"])),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "tên", "no", "1x"]), children, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["kind", "code", "name"]), values, min_size=1))
def test_what_is_written_is_read_back(document: dict[str, object]) -> None:
    assert read_yaml(write_yaml([document])) == [document]


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "true",
        "010",
        "1.5",
        "~",
        "",
        "no",
        "2026-11-21",
        "<<",
        "=",
        "a\nb\n",
        " x",
        "x ",
        "1e3",
        "-",
        "# x",
        "a: b",
    ],
)
def test_a_text_that_looks_like_something_else_stays_a_text(text: str) -> None:
    assert read_yaml(write_yaml([{"a": text}])) == [{"a": text}]
