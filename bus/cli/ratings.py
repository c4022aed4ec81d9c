"""``lgsp ratings``: what people said of the handling of dossiers in a month, per unit and question."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click
from rich.table import Table

from bus.assembly import Bus
from bus.cli import REFUSED, fail
from bus.cli.opened import opened_bus
from bus.cli.stats import name_of, period_of
from bus.cli.terminal import console, print_csv, print_json, printable, session_of
from bus.ratings import RatingBook, RatingFigures, rating_book
from schemas.identifiers import AgencyCode, SystemCode
from schemas.ratings import PARTS

_ANSWERS = ("very satisfied", "satisfied", "not satisfied")
_COLUMNS = ("unit", "name", "kind", "question", "rated", *_ANSWERS, *(f"{answer} %" for answer in _ANSWERS))
#: Rows of one message to the portal, by its schema.
_MOST_ROWS = 100


@click.command()
@click.option("--month", metavar="YYYY-MM", help="One month; else the current one.")
@click.option("--unit", default="", help="Only this agency and those below it.")
@click.option(
    "--portal",
    is_flag=True,
    help="Print the payload of `rating.sync` instead: citizens' ratings, one row a "
    "question, under the name of --unit, else of the bus's own province.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated, one line a unit, kind and question.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def ratings(
    context: click.Context, month: str | None, unit: str, portal: bool, as_csv: bool, as_json: bool
) -> None:  # fmt: skip
    """Count ratings of dossiers per unit and question; what citizens say and what officers say stands apart.

    One person's answers to one question about one dossier count once, the last of them. The month is that of the
    rating, in Vietnam's days, whenever its message came. The unit is the agency in the dossier's code.

    \b
    Examples:
      lgsp ratings --month 2026-04
      lgsp ratings --month 2026-04 --unit H99.15 --csv
      lgsp ratings --month 2026-04 --portal | lgsp send --service rating.sync --to G99 -
    """
    start, end = period_of(month, None, None)
    with opened_bus(session_of(context)) as bus:
        home = AgencyCode(SystemCode(bus.settings.system).agency.level_1)
        agency = AgencyCode.parse(unit) if unit else home if portal else None
        book = rating_book(bus.ledger, bus.directory.current(), start, end, agency)
        if portal:
            print_json({"data": _portal_rows(bus, book, start, agency or home)})
            return
        figures = book.figures()
        if as_json:
            print_json(_document(bus, book, figures, start))
            return
        if as_csv:
            print_csv(_COLUMNS, [[row.unit, *_cells(bus, row)] for row in figures])
        else:
            console().print(_table(bus, figures, start))
        if book.reading.erased:
            click.echo(f"{book.reading.erased} messages were erased and are not counted.", err=True)


def _portal_rows(bus: Bus, book: RatingBook, start: datetime, agency: AgencyCode) -> list[dict[str, Any]]:
    name = name_of(bus, agency)
    if not name:
        fail(f"There is no agency {printable(agency)} in the registry. Name one with --unit.", REFUSED)
    rows = book.portal_rows(start, agency, name)
    if not rows:
        fail(f"No citizen rated a dossier of {agency} in {start:%Y-%m}: there is nothing to send.", REFUSED)
    if len(rows) > _MOST_ROWS:
        fail(f"There are {len(rows)} different questions, and a message takes {_MOST_ROWS}. "
             "Are free texts sent as questions?", REFUSED)  # fmt: skip
    return rows


def _cells(bus: Bus, row: RatingFigures) -> list[str | int]:
    numbers = [row.rated, *row.counts, *row.percentages]
    return [name_of(bus, row.unit), row.kind.value, printable(row.question), *numbers]


def _table(bus: Bus, figures: list[RatingFigures], start: datetime) -> Table:
    table = Table(title=f"Ratings given in {start:%Y-%m}", title_justify="left", box=None)
    for heading in ("unit", *_COLUMNS[2:]):
        table.add_column(heading, justify="left" if heading in ("unit", "kind", "question") else "right")
    for row in figures:
        name, *rest = _cells(bus, row)
        table.add_row(f"{row.unit or '(no agency)'} {name}".strip(), *map(str, rest))
    return table


def _document(bus: Bus, book: RatingBook, figures: list[RatingFigures], start: datetime) -> dict[str, Any]:
    return {
        "month": f"{start:%Y-%m}",
        "ratings": [
            {
                "unit": row.unit,
                "name": name_of(bus, row.unit),
                "kind": row.kind.value,
                "question": row.question,
                "rated": row.rated,
                "counts": row.counts,
                "percentages": dict(zip(PARTS, row.percentages, strict=True)),
            }
            for row in figures
        ],
        "messages": book.reading.messages,
        "erased": book.reading.erased,
        "unreadable": book.reading.unreadable,
    }
