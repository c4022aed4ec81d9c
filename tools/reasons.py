#!/usr/bin/env python3
"""Write docs/reasons.md: every reason of schemas/reasons.py, with the problems that carry it in the code.

    python tools/reasons.py            write it
    python tools/reasons.py --check    exit 1 when the page is not what this script writes

Run it after adding or wording a reason.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reasons.md"
ROOMS = ("schemas", "security", "registry", "connectors", "bus")

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import registry.changes  # noqa: E402, F401  # a problem of its own, known once it is imported
from schemas.problem import Problem  # noqa: E402  # found through the line above when run as a script
from schemas.reasons import REASONS  # noqa: E402

HEAD = """\
# Reasons

What the member `reason` of a problem can say (see [the wire protocol](wire-protocol.md#problems)), with the sentence
that people read. Codes are contract; wording may be improved at any time. Words in braces are filled in: limits,
numbers and names of fields, never a received value. Written by `tools/reasons.py`; do not edit.

| Reason | Problem | English | Tiếng Việt |
|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    carriers = problems_by_reason()
    rows = []
    for reason, wording in sorted(REASONS.items()):
        slugs = ", ".join(f"`{slug}`" for slug in sorted(carriers[reason])) or "–"
        rows.append(f"| `{reason}` | {slugs} | {_cell(wording.en)} | {_cell(wording.vi)} |")
    return HEAD + "\n".join(rows) + "\n"


def problems_by_reason() -> dict[str, set[str]]:
    """Reason → slugs of the problem classes that the code makes with it, read from the source."""
    slugs = {cls.__name__: cls.slug for cls in _all_below(Problem)}
    found: dict[str, set[str]] = defaultdict(set)
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or not node.args:
                    continue
                name = node.func.id if isinstance(node.func, ast.Name) else ""
                if name in slugs:
                    for reason in _texts(node.args[0]) & REASONS.keys():
                        found[reason].add(slugs[name])
    for reason in ("internal", "lease-ran-out"):  # made without a class: the default, and what the ledger itself writes
        found[reason].add("internal-failure")
    return found


def _texts(node: ast.expr) -> set[str]:
    """The texts in an argument: one, or the two of a choice."""
    return {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def _all_below(cls: type[Problem]) -> Iterator[type[Problem]]:
    for child in cls.__subclasses__():
        if "slug" in vars(child):
            yield child
        yield from _all_below(child)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main(arguments: list[str]) -> int:
    if "--check" in arguments:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
