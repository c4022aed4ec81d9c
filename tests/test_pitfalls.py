"""The table of pitfalls is whole: every one has a verdict, a reason and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

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


def test_every_test_that_a_row_names_is_there() -> None:
    for name, *_, held in ROWS:
        files = re.findall(r"`(tests/\w+\.py)`", held)
        assert files, name
        assert [file for file in files if not (ROOT / file).exists()] == [], name
