"""``lgsp stats``: what the units of a province did with their dossiers, by the messages that passed through the bus."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import date, datetime, timedelta
from typing import Any

import click
from rich.table import Table

from bus.assembly import Bus
from bus.cli import REFUSED, fail
from bus.cli.opened import opened_bus
from bus.cli.terminal import console, print_csv, print_json, printable, session_of
from bus.dossiers import Statistics, UnitFigures, statistics_of
from schemas.moment import VIETNAM, utc_now

#: Column of the CSV and member of the JSON → heading of the table.
_COLUMNS = {
    "received": "received", "online": "online", "returned": "returned", "early": "early", "on_time": "on time",
    "late": "late", "without_due_date": "no due date", "in_progress": "open", "overdue": "overdue",
    "withdrawn": "withdrawn", "on_time_percent": "on time %", "synchronised": "at portal", "sync_percent": "portal %",
}  # fmt: skip
#: Codes that one run lists; a province that has more has another problem.
_MOST_LISTED = 10_000


@click.command()
@click.option("--month", metavar="YYYY-MM", help="One month; else the current one.")
@click.option("--from", "since", metavar="YYYY-MM-DD", help="First day.")
@click.option("--until", metavar="YYYY-MM-DD", help="Last day, counted in; else today.")
@click.option("--unit", default="", help="Only this agency.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated, one line a unit, no total.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--missing", is_flag=True, help="Instead: codes of dossiers that came in and are not at the portal.")
@click.pass_context
def stats(
    context: click.Context, month: str | None, since: str | None, until: str | None, unit: str, as_csv: bool,
    as_json: bool, missing: bool,
) -> None:  # fmt: skip
    """Count dossiers per unit: received, returned, early, on time, late, and how many the national portal has.

    Days are Vietnam's. A dossier is received on the day on which it came in and returned on the day on which its work
    was done, each counted if that day is in the time asked for; early, on time and late compare days. Dossiers without
    a due date are shown and are in no rate. What the bus knows is what services with a dossier view carried.

    \b
    Examples:
      lgsp stats --month 2026-04
      lgsp stats --from 2026-01-01 --until 2026-06-30 --csv
      lgsp stats --unit H99.15 --missing
    """
    start, end = period_of(month, since, until)
    with opened_bus(session_of(context)) as bus:
        rows = bus.ledger.milestones(start, end)
        most = _MOST_LISTED if missing else 0
        found = statistics_of(rows, start, end, utc_now(), unit=unit, list_most=most)
        if missing:
            click.echo("".join(f"{code}\n" for code in found.not_synchronised), nl=False)
        elif as_csv:
            units = ([each.unit, name_of(bus, each.unit), *_written(_values(each))] for each in found.units)
            print_csv(["unit", "name", *_COLUMNS], units)
        elif as_json:
            print_json(_document(bus, found, start, end))
        else:
            console().print(_table(bus, found, start, end))


def period_of(month: str | None, since: str | None, until: str | None) -> tuple[datetime, datetime]:
    """Midnight of the first day, midnight after the last."""
    if month and (since or until):
        fail("Name a month, or a first and a last day.", REFUSED)
    today = datetime.now(VIETNAM).date()
    if since or until:
        if not since:
            fail("Name the first day, too (--from).", REFUSED)
        first, last = day_of(since), day_of(until) if until else today
    else:
        first = day_of(f"{month}-01") if month else today.replace(day=1)
        last = (first + timedelta(days=32)).replace(day=1) - timedelta(days=1)
    if last < first:
        fail("The last day is before the first.", REFUSED)
    return midnight(first), midnight(last + timedelta(days=1))


def day_of(text: str) -> date:
    """The day that an operator names, as ``2026-04-23``. Ends the command for anything else."""
    # Written out: fromisoformat also takes 20260401 and 2026-W14-3.
    if re.fullmatch(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}", text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    fail("A day is written as 2026-04-23 and a month as 2026-04.", REFUSED)


def midnight(day: date) -> datetime:
    """The beginning of a day in Vietnam."""
    return datetime(day.year, day.month, day.day, tzinfo=VIETNAM)


def name_of(bus: Bus, unit: str) -> str:
    agency = bus.directory.current().agency(unit)
    return printable(agency.name) if agency else ""


def _values(figures: UnitFigures) -> Iterator[Any]:
    return (getattr(figures, name) for name in _COLUMNS)


def _written(values: Iterable[Any]) -> Iterator[str]:
    return ("" if value is None else str(value) for value in values)


def _table(bus: Bus, found: Statistics, start: datetime, end: datetime) -> Table:
    last = end - timedelta(days=1)
    table = Table(title=f"Dossiers from {start:%Y-%m-%d} to {last:%Y-%m-%d}", title_justify="left", box=None)
    table.add_column("unit")
    for heading in _COLUMNS.values():
        table.add_column(heading, justify="right")
    for figures in found.units:
        table.add_row(f"{figures.unit} {name_of(bus, figures.unit)}".strip(), *_written(_values(figures)))
    table.add_section()
    table.add_row("all units", *_written(_values(found.total)), style="bold")
    return table


def _document(bus: Bus, found: Statistics, start: datetime, end: datetime) -> dict[str, Any]:
    last = end - timedelta(days=1)
    return {
        "from": f"{start:%Y-%m-%d}",
        "until": f"{last:%Y-%m-%d}",
        "units": [
            {"unit": figures.unit, "name": name_of(bus, figures.unit)} | _figures(figures) for figures in found.units
        ],
        "total": _figures(found.total),
    }


def _figures(figures: UnitFigures) -> dict[str, Any]:
    counted = {field.name for field in fields(UnitFigures)}
    values = dict(zip(_COLUMNS, _values(figures), strict=True))
    return {
        name: value if name in counted else (None if value is None else float(value)) for name, value in values.items()
    }
