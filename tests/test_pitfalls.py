"""The table of pitfalls is whole: every one has a verdict, a reason and tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "pitfalls.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| P")]


def test_every_pitfall_has_its_row_or_is_named_as_missing() -> None:
    missing = re.findall(r"\bP\d+\b", PAGE.partition("Not there yet:")[2])
    assert sorted([row[0] for row in ROWS] + missing, key=lambda name: int(name[1:])) == [f"P{n}" for n in range(1, 37)]


def test_every_verdict_is_one_of_four_and_says_how() -> None:
    for name, _, verdict, how, _ in ROWS:
        assert verdict in {"tolerated", "translated", "refused", "impossible"}, name
        assert len(how) > 20, name


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_test_that_a_row_names_is_there(row: list[str]) -> None:
    named = re.findall(r"`([^`]+)`", row[-1])
    assert named
    for name in named:
        found = re.fullmatch(r"(tests/test_\w+\.py)((?:::\w+)+)", name)
        assert found, f"{name} is no single test"
        path = ROOT / found[1]
        assert path.exists(), name
        assert is_test(ast.parse(path.read_text("utf-8")), found[2].split("::")[1:]), f"{name} is not there"


def is_test(node: ast.AST, names: list[str]) -> bool:
    """Does the path of names lead to a test function, or to a class with one, that pytest collects?"""
    kinds = (ast.FunctionDef, ast.ClassDef)
    found = next(
        (item for item in getattr(node, "body", ()) if isinstance(item, kinds) and item.name == names[0]), None
    )
    if found is None or not found.name.startswith("Test" if isinstance(found, ast.ClassDef) else "test_"):
        return False
    if names[1:]:
        return is_test(found, names[1:])
    return isinstance(found, ast.FunctionDef) or any(is_test(found, [each]) for each in members_of(found))


def members_of(owner: ast.ClassDef) -> list[str]:
    return [item.name for item in owner.body if isinstance(item, ast.FunctionDef)]


@pytest.mark.parametrize(
    "names, there",
    [
        (["test_a"], True),
        (["TestB"], True),
        (["TestB", "test_c"], True),
        (["TestB", "helper"], False),
        (["TestEmpty"], False),
        (["helper"], False),
        (["test_c"], False),
        (["test_a", "test_c"], False),
        (["gone"], False),
    ],
)
def test_a_name_leads_to_a_test_or_nowhere(names: list[str], there: bool) -> None:
    text = "def test_a(): ...\ndef helper(): ...\nclass TestB:\n    def test_c(self): ...\n    def helper(self): ...\n"
    assert is_test(ast.parse(text + "class TestEmpty:\n    def helper(self): ...\n"), names) is there
