"""``lgsp catalogue``: the national catalogue of procedures pulled through the bus, and held against a local one."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from bus.cli import FAILED, REFUSED
from bus.cli.member import client_of, membership_of, membership_options, written_whole
from bus.cli.terminal import print_json, printable, session_of
from schemas.codec import read_json
from schemas.identifiers import AgencyCode
from schemas.procedures import (
    CatalogueDiff,
    Procedure,
    Standing,
    catalogue_diff,
    drift_csv,
    drift_table,
    list_catalogue,
    pull_catalogue,
    read_procedures,
    standing_of,
)

_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def catalogue() -> None:
    """Pull the national catalogue of procedures, and see where the local one differs."""


@catalogue.command()
@membership_options
@click.option("--to", "portal", required=True, metavar="AGENCY", help="The portal, which owns procedure.list.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_context
def pull(context: click.Context, /, portal: str, file: Path, **who: Any) -> None:
    """Ask the portal for every procedure and write them to FILE, a JSON array of its own documents.

    One message a procedure (services procedure.list and procedure.detail). FILE changes only once all are there: a pull
    that breaks off leaves the catalogue of yesterday.

    \b
    Example:
      lgsp catalogue pull --to G99 quoc-gia.json
    """
    membership = membership_of(who)
    receiver = AgencyCode.parse(portal)
    with client_of(membership, session_of(context)) as client, written_whole(file) as written:

        def ask(service: str, payload: Mapping[str, Any]) -> Any:
            return read_json(client.call(service, receiver, payload, purpose=membership.purpose).body)

        listed = list_catalogue(ask)
        # Line by line: thousands of procedures with all their papers need not be in memory at once.
        before = b"[\n"
        with click.progressbar(
            pull_catalogue(ask, listed), length=len(listed), label="procedures", show_pos=True, file=sys.stderr
        ) as documents:
            for document in documents:
                written.write(before + json.dumps(document, ensure_ascii=False).encode())
                before = b",\n"
        written.write(b"\n]\n")
    click.echo(f"{len(listed)} procedures in {file}")


@catalogue.command()
@click.option("--check", "codes", multiple=True, metavar="CODE", help="Only: may dossiers be taken for this one?")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated, a line for each difference.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.argument("local", type=_EXISTING)
@click.argument("national", type=_EXISTING)
def diff(codes: tuple[str, ...], as_csv: bool, as_json: bool, local: Path, national: Path) -> None:
    """Compare the LOCAL catalogue with the NATIONAL one, by code: added, changed, withdrawn.

    Both are JSON arrays of procedures as the portal writes them; what a file leaves out is not compared. Exit code 0:
    the same, 1: they differ. With --check (repeat for more), for software that is about to take a dossier: 0 as ever,
    1 take it and warn (fee, days or papers are not those of the national catalogue), 2 do not take it (withdrawn, or
    in neither catalogue).

    \b
    Examples:
      lgsp catalogue diff tinh.json quoc-gia.json --csv > khac-biet.csv
      lgsp catalogue diff tinh.json quoc-gia.json --check 1.003560
    """
    ours, theirs = _read(local), _read(national)
    if codes:
        raise click.exceptions.Exit(_check(codes, ours, theirs, as_csv, as_json))
    found = catalogue_diff(ours, theirs)
    if as_csv:
        click.echo(drift_csv(found), nl=False)
    elif as_json:
        print_json(_document(found))
    else:
        for line in drift_table(found).splitlines():
            click.echo(printable(line))
    if not found.is_empty:
        raise click.exceptions.Exit(FAILED)


def _read(path: Path) -> tuple[Procedure, ...]:
    return read_procedures(read_json(path.read_bytes()))


def _check(
    codes: tuple[str, ...], ours: tuple[Procedure, ...], theirs: tuple[Procedure, ...], as_csv: bool, as_json: bool
) -> int:
    """Tell how the codes stand; the exit code is that of the worst."""
    standings = {code: standing_of(code, ours, theirs) for code in codes}
    if as_json:
        print_json({code: standing.name.lower() for code, standing in standings.items()})
    else:
        # A procedure's code has no comma and begins no formula.
        for code, standing in standings.items():
            click.echo(f"{code},{standing.value}" if as_csv else f"{code}  {standing.value}")
    if not all(standing.is_open for standing in standings.values()):
        return REFUSED
    return FAILED if set(standings.values()) - {Standing.SAME} else 0


def _document(found: CatalogueDiff) -> dict[str, Any]:
    def named(procedure: Procedure) -> dict[str, Any]:
        return {"code": procedure.code, "name": procedure.name}

    return {
        "added": [named(each) for each in found.added],
        "changed": [
            {**named(each.local), "changes": [change._asdict() for change in each.changes]} for each in found.changed
        ],
        "withdrawn": [named(each) for each in found.withdrawn],
        "twice": list(found.twice),
        "unchanged": found.unchanged,
    }
