"""``lgsp petitions``: the petitions of a province, those that are suspected to be the same as one, by urgency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from bus.assembly import Bus
from bus.cli.opened import opened_bus
from bus.cli.stats import day_of, midnight, name_of
from bus.cli.terminal import console, print_csv, print_json, printable, session_of
from bus.petitions import PetitionBook, StandingGroup, petition_book, usual_clocks
from schemas.codec import read_json
from schemas.codes import PETITION_STATUSES
from schemas.moment import VIETNAM
from schemas.petitions import LIKENESS, WITHIN_DAYS, Clock, Clocks, Petition, Standing, read_clocks, standing_of

#: How far back one looks unless told: the longest clocks are shorter by far.
_USUAL_DAYS = 365
_COLUMNS = ("petition", "members", "unanswered", "sources", "dossier", "state", "holder", "due", "days left", "clock")


@click.command()
@click.option("--from", "since", metavar="YYYY-MM-DD", help="First day of the messages; else a year ago.")
@click.option("--open", "only_open", is_flag=True, help="Only groups with a member that has no answer.")
@click.option("--overdue", is_flag=True, help="Only groups whose day is past.")
@click.option(
    "--within",
    default=WITHIN_DAYS,
    show_default=True,
    type=click.IntRange(0, 3650),
    metavar="DAYS",
    help="Days between two that may be the same.",
)
@click.option(
    "--likeness",
    default=LIKENESS,
    show_default=True,
    type=click.FloatRange(0.1, 1),
    metavar="SHARE",
    help="Share of the shorter text that the longer one has.",
)
@click.option(
    "--clocks",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Days by field, as schemas/partners/petition/clocks.json; else that file.",
)
@click.option("--titles", is_flag=True, help="Show titles, too: they are citizens' own words.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated, one line a group.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with every member.")
@click.pass_context
def petitions(
    context: click.Context, since: str | None, only_open: bool, overdue: bool, within: int, likeness: float,
    clocks: Path | None, titles: bool, as_csv: bool, as_json: bool,
) -> None:  # fmt: skip
    """List petitions with their clocks; those that are suspected to be the same stand in one line.

    The same petition often comes by portal, SMS and paper. Texts are compared without diacritics and case; two that
    name different dossiers are never one. It is a suspicion: every member still needs its own answer, and the line
    stays open until all have it. Days are Vietnam's. No text of a petition is shown, titles only if you ask for them.

    \b
    Examples:
      lgsp petitions --open
      lgsp petitions --overdue --csv > qua-han.csv
      lgsp petitions --from 2026-04-01 --json
    """
    now = datetime.now(VIETNAM)
    start = midnight(day_of(since) if since else now.date() - timedelta(days=_USUAL_DAYS))
    table = read_clocks(read_json(clocks.read_bytes())) if clocks else None
    with opened_bus(session_of(context)) as bus:
        book = petition_book(
            bus.ledger, bus.directory.current(), start, now.date(), clocks=table, within_days=within, likeness=likeness
        )
        shown = [one for one in book.groups if _is_asked_for(one, only_open, overdue)]
        rows = [_row(bus, one, titles) for one in shown]
        headings = (*_COLUMNS, *(["title"] if titles else []))
        if as_json:
            print_json(_document(bus, book, shown, table, start, now, titles))
            return
        if as_csv:
            print_csv(headings, rows)
        else:
            _print_table(headings, rows)
        click.echo(_account(book, len(shown)), err=as_csv)


def _is_asked_for(one: StandingGroup, only_open: bool, overdue: bool) -> bool:
    if overdue:
        return one.standing.clock is Clock.OVERDUE
    return one.standing.clock.is_open or not only_open


def _row(bus: Bus, one: StandingGroup, titles: bool) -> list[str | int]:
    first, pressing, standing = one.group.members[0], one.pressing, one.standing
    row: list[str | int] = [
        first.code,
        len(one.group.members),
        one.group.unanswered(),
        ", ".join(source or "?" for source in one.sources),
        pressing.dossier or "",
        f"{pressing.status} {PETITION_STATUSES[pressing.status].name}",
        f"{pressing.holder} {name_of(bus, pressing.holder)}".strip(),
        standing.due.isoformat(),
        standing.days_left,
        standing.clock.value,
    ]
    return [*row, _title(one)] if titles else row


def _title(one: StandingGroup) -> str:
    return next((printable(member.title) for member in one.group.members if member.title), "")


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str | int]]) -> None:
    table = Table(box=None, title="Petitions", title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in ("members", "unanswered", "days left") else "left")
    for row in rows:
        table.add_row(*map(str, row))
    console().print(table)


def _account(book: PetitionBook, shown: int) -> str:
    """What stands above, and what is missing from it."""
    clocks = Counter(one.standing.clock for one in book.groups)
    members = sum(len(one.group.members) for one in book.groups)
    still_open = sum(count for clock, count in clocks.items() if clock.is_open)
    said = [
        f"{shown} of {len(book.groups)} groups shown; {members} petitions, {still_open} groups open, "
        f"{clocks[Clock.OVERDUE]} overdue."
    ]
    if book.reading.erased:
        said.append(f"{book.reading.erased} messages were erased and are not counted.")
    if book.reading.unreadable:
        said.append(f"{book.reading.unreadable} messages could not be read: their service is not registered any more.")
    if book.without_text:
        said.append(f"{book.without_text} petitions came in before, or elsewhere: only what became of them was heard.")
    return "\n".join(said)


def _document(
    bus: Bus, book: PetitionBook, shown: Sequence[StandingGroup], clocks: Clocks | None, start: datetime,
    now: datetime, titles: bool,
) -> dict[str, Any]:  # fmt: skip
    def members(one: StandingGroup) -> Iterator[dict[str, Any]]:
        for member in one.group.members:
            yield _member(member, standing_of(member, clocks or usual_clocks(), now.date()), titles)

    return {
        "from": f"{start:%Y-%m-%d}",
        "until": f"{now:%Y-%m-%d}",
        "groups": [
            {
                "sources": list(one.sources),
                "dossier": one.pressing.dossier,
                "holder": one.pressing.holder or None,
                "holder_name": name_of(bus, one.pressing.holder),
                **_clock(one.standing),
                "unanswered": one.group.unanswered(),
                "members": list(members(one)),
            }
            for one in shown
        ],
        "messages": book.reading.messages,
        "erased": book.reading.erased,
        "unreadable": book.reading.unreadable,
        "without_text": book.without_text,
    }


def _member(petition: Petition, standing: Standing, titles: bool) -> dict[str, Any]:
    return {
        "petition": petition.code,
        "source": petition.source or None,
        "sent": f"{petition.sent.astimezone(VIETNAM):%Y-%m-%d}",
        "status": petition.status,
        "out_of_turn": petition.out_of_turn,
        **_clock(standing),
        **({"title": petition.title} if titles else {}),
    }


def _clock(standing: Standing) -> dict[str, Any]:
    return {"clock": standing.clock.value, "due": standing.due.isoformat(), "days_left": standing.days_left}
