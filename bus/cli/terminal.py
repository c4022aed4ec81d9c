"""What the commands print with: one console, one spelling of moments, problems in the reader's words."""

from __future__ import annotations

import csv
import io
import json
import os
import pwd
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import click
from rich.console import Console

from bus.cli import Session
from bus.trace import in_words as in_words
from bus.trace import printable as printable
from schemas.moment import VIETNAM
from schemas.problem import Language, Problem
from schemas.procedures import plain_cell


def console(*, stderr: bool = False) -> Console:
    """A console that takes every text as it is. In a pipe there is no window to fit into: lines are not cut."""
    made = Console(markup=False, highlight=False, emoji=False, stderr=stderr)
    return made if made.is_terminal else Console(markup=False, highlight=False, emoji=False, stderr=stderr, width=400)


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_csv(headings: Sequence[str], rows: Iterable[Sequence[str | int | None]]) -> None:
    """RFC 4180 with plain line ends. No cell runs as a formula: most of what is in them others wrote."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows([plain_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    click.echo(file.getvalue(), nl=False)


def problem_lines(problem: Problem, language: Language) -> list[str]:
    """What is wrong, then each place."""
    return [problem.detail(language), *(f"  {error.pointer}: {error.said(language)}" for error in problem.errors)]


def session_of(context: click.Context) -> Session:
    """The options before the command; the command may also be called alone, as tests do."""
    return context.ensure_object(Session)


def local(moment: datetime | None) -> str:
    """Vietnam's time, to the second: ``2026-04-23 08:15:02``. Operators read it beside wall clocks and papers."""
    return "" if moment is None else moment.astimezone(VIETNAM).strftime("%Y-%m-%d %H:%M:%S")


def span(length: timedelta) -> str:
    """A length of time as a person says it: ``340 ms``, ``12 s``, ``3 h 5 min``, ``2 d 4 h``."""
    seconds = length.total_seconds()
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    for unit, size, below, step in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            rest = int(seconds % size // step)
            return f"{int(seconds // size)} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def actor() -> str:
    """Who types: the account of the operating system, which the audit trail can be held against."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:  # a container may run under a number that has no name
        return f"cli:{os.getuid()}"
