"""Rules about the repository itself that no linter knows."""

from __future__ import annotations

import ast
import re
import string
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas import problem
from schemas.reasons import REASONS

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("bus", "connectors", "registry", "security", "schemas")

#: Where packages come from is the business of the machine that installs them, and where the clone lies is nobody's.
FORBIDDEN_IN_FILES = {
    "an index option": re.compile(r"--(?:extra-)?index-url[ =]\S|--find-links[ =]\S"),
    "a registry address": re.compile(r"https?://[\w.-]*(?:pypi|pythonhosted|anaconda|npmjs|unpkg|jsdelivr)\.[\w./-]+"),
    "a machine path": re.compile(r"(?<![\w.}\])-])/(?:work|home|root|Users|mnt)/[\w.-]+"),
}
READ_AS_TEXT = {"", ".cfg", ".html", ".in", ".ini", ".json", ".mako", ".md", ".py", ".sh", ".toml", ".txt", ".xml"}
READ_AS_TEXT |= {".xsd", ".yaml", ".yml", ".wsdl", ".css", ".csv"}


def test_no_file_names_a_registry_or_a_machine() -> None:
    findings = [
        f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: {what}"
        for path in _tracked_files()
        if path.suffix in READ_AS_TEXT and path != Path(__file__).resolve()
        for text in [path.read_text(encoding="utf-8")]
        for what, pattern in FORBIDDEN_IN_FILES.items()
        for match in pattern.finditer(text)
    ]
    assert findings == []


@pytest.mark.parametrize(
    "text, what",
    [
        ("pip install --index-url " + "https://mirror.example/x", "an index option"),
        ("see https://" + "pypi.org/simple/flask", "a registry address"),
        ("open('/" + "home/someone/lgsp')", "a machine path"),
    ],
)
def test_the_search_for_addresses_finds_them(text: str, what: str) -> None:
    assert FORBIDDEN_IN_FILES[what].search(text)


def test_every_locked_package_has_its_hashes() -> None:
    for lock in ("run", "trace", "dev", "bench"):
        lines = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8").splitlines()
        pins = [number for number, line in enumerate(lines) if re.match(r"[a-z0-9]", line)]
        assert len(pins) > 40, lock
        assert all("==" in lines[pin] and "--hash=sha256:" in lines[pin + 1] for pin in pins), lock


def test_the_tests_are_flat_files() -> None:
    """A package below tests/ named like a room would shadow the real room."""
    assert [str(path) for path in (ROOT / "tests").rglob("__init__.py")] == []


def test_the_environment_is_read_in_one_place() -> None:
    readers = [
        str(path.relative_to(ROOT))
        for path, tree in _modules()
        if path != ROOT / "bus" / "settings.py" and any(_reads_environment(node) for node in ast.walk(tree))
    ]
    assert readers == []


def test_every_reason_that_is_raised_is_in_the_catalogue() -> None:
    unknown = [f"{place}: {reason}" for place, reason, _ in _raised_reasons() if reason not in REASONS]
    assert unknown == []


def test_every_raised_problem_brings_the_facts_that_its_wording_needs() -> None:
    """A missing fact would turn a clear refusal into an internal failure."""
    poor = [
        f"{place}: {reason} lacks {sorted(missing)}"
        for place, reason, facts in _raised_reasons()
        if reason in REASONS and facts is not None and (missing := _needed_facts(reason) - facts)
    ]
    assert poor == []


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_a_reason_says_the_same_in_both_languages(reason: str) -> None:
    wording = REASONS[reason]
    assert re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", reason)
    assert wording.en.strip()
    assert wording.vi.strip()
    assert wording.en != wording.vi
    # A fact that is itself a word comes in both languages: {kind} and {kind_vi}.
    vietnamese = {name.removesuffix("_vi") for name in _placeholders(wording.vi)}
    assert _placeholders(wording.en) == vietnamese


def _tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


def _modules() -> Iterator[tuple[Path, ast.Module]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def _reads_environment(node: ast.AST) -> bool:
    names = {"environ", "environb", "getenv", "getenvb", "putenv"}
    if isinstance(node, ast.Attribute):
        return node.attr in names and isinstance(node.value, ast.Name) and node.value.id == "os"
    return isinstance(node, ast.ImportFrom) and node.module == "os" and any(a.name in names for a in node.names)


def _raised_reasons() -> Iterator[tuple[str, str, set[str] | None]]:
    """(place, reason, names of the facts given, or None when they are not written out) of each Problem built."""
    problems = _problem_names()
    for path, tree in _modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _called(node) in problems and node.args:
                given = {keyword.arg for keyword in node.keywords}
                facts = None if None in given else {name for name in given if name}
                for reason in _constants(node.args[0]):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", reason, facts


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _constants(node: ast.expr) -> list[str]:
    if isinstance(node, ast.IfExp):
        return _constants(node.body) + _constants(node.orelse)
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def _needed_facts(reason: str) -> set[str]:
    return _placeholders(REASONS[reason].en) | _placeholders(REASONS[reason].vi)


def _placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def _problem_names() -> set[str]:
    """The tree in schemas/problem.py, and what other rooms derive from it."""
    names = {
        name for name, value in vars(problem).items() if isinstance(value, type) and issubclass(value, problem.Problem)
    }
    for _, tree in _modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and any(getattr(base, "id", "") in names for base in node.bases):
                names.add(node.name)
    return names
