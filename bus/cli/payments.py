"""``lgsp payments``: a day's payments as they passed through the bus, held against the platform's own file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import click
from rich.table import Table

from bus.assembly import Bus
from bus.cli import FAILED, REFUSED, fail
from bus.cli.member import write_whole
from bus.cli.opened import opened_bus
from bus.cli.stats import day_of, midnight
from bus.cli.terminal import console, print_csv, print_json, session_of
from connectors.payment_books import (
    Books,
    Finding,
    Line,
    Result,
    Transaction,
    keep_books,
    read_day,
    reconcile,
    write_day,
)
from schemas.codec import read_json
from schemas.identifiers import ServiceCode
from schemas.problem import Malformed
from schemas.text import format_dong, in_thousands

_SERVICES = ("payment.init", "payment.notice", "payment.refund")
#: A payer has some days to pay what was asked for: so far back an INIT is looked for.
_ASKED_BEFORE = timedelta(days=7)
#: The platform repeats a notice that was not taken: so long after the day one is still looked for.
_TOLD_LATER = timedelta(days=7)
#: Results and findings → what an operator reads.
_WORDS: Mapping[str, str] = {
    Result.ONLY_THEIRS: "missing here",
    Result.ONLY_OURS: "missing there",
    Result.OTHER_AMOUNT: "amount differs",
    Finding.OTHER_THAN_ASKED: "not what was asked",
    Finding.PAID_TWICE: "paid twice",
    Finding.REFUND_WRONG: "refund without payment",
}
_COLUMNS = ("kind", "reference", "transaction", "dossier", "here", "there", "difference")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One difference; amounts are whole đồng, None where a side has no such payment."""

    kind: str
    reference: str
    transaction: str
    dossier: str
    here: int | None
    there: int | None

    @property
    def difference(self) -> int:
        return (self.there or 0) - (self.here or 0)


@click.group()
def payments() -> None:
    """Payments of a day: what passed through the bus, and what the platform says."""


@payments.command("reconcile")
@click.option("--service", "services", multiple=True, default=_SERVICES, show_default=True, help="Where to look.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the compared day, KetQua in it."
)
@click.option("--csv", "as_csv", is_flag=True, help="The differences, comma-separated.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.argument("day", metavar="DAY")
@click.argument("file", type=click.File("rb"))
@click.pass_context
def reconcile_day(
    context: click.Context, services: tuple[str, ...], out: Path | None, as_csv: bool, as_json: bool, day: str,
    file: BinaryIO,
) -> None:  # fmt: skip
    """Hold the payments of DAY (2026-04-23) against the platform's FILE of that day ("-": standard input).

    A payment counts on the day of its ThoiGianGD, whenever its notice came. Besides what one side lacks or has with
    another sum, it lists notices of another sum than was asked for, references that were paid twice, and refunds of
    what was not paid. Exit code 0: the books agree, 1: they differ.

    \b
    Examples:
      lgsp payments reconcile 2026-04-23 doi-soat.csv
      lgsp payments reconcile 2026-04-23 doi-soat.csv --out da-doi-soat.csv --csv
    """
    start = midnight(day_of(day))
    written_day = f"{start:%Y%m%d}"
    theirs = read_day(_text(file), written_day)
    with opened_bus(session_of(context)) as bus:
        books = keep_books(_messages(bus, services, start))
    lines = reconcile(books.paid_on(written_day), theirs)
    if out is not None:
        write_whole(out, write_day(written_day, lines).encode())
    books = books.on(written_day)
    rows = [*_rows(lines, books)]
    if as_csv:
        print_csv(_COLUMNS, ([getattr(row, name) for name in _COLUMNS] for row in rows))
    elif as_json:
        print_json(_document(day, books, lines, rows))
    else:
        _show(books, lines, rows)
    if rows:
        raise click.exceptions.Exit(FAILED)


def _text(file: BinaryIO) -> str:
    try:
        return file.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        fail("The platform's file is not UTF-8. Save it as CSV in UTF-8 and try again.", REFUSED)


def _messages(bus: Bus, services: tuple[str, ...], start: datetime) -> Iterator[tuple[datetime, Mapping[str, Any]]]:
    wanted = {ServiceCode(code) for code in services}
    for carried in bus.ledger.carried(wanted, start - _ASKED_BEFORE, start + _TOLD_LATER):
        try:
            document = None if carried.body is None else read_json(carried.body)
        except Malformed:
            continue
        if isinstance(document, Mapping):
            yield carried.received_at, document


def _rows(lines: Iterable[Line], books: Books) -> Iterator[Row]:
    for line in lines:
        shown = line.ours or line.theirs
        if shown is None or line.result is Result.MATCHED:
            continue
        yield Row(
            kind=line.result.value,
            reference=shown.reference,
            transaction=shown.transaction or (line.theirs.transaction if line.theirs else ""),
            dossier=shown.dossier or (line.theirs.dossier if line.theirs else ""),
            here=line.ours.amount if line.ours else None,
            there=line.theirs.amount if line.theirs else None,
        )
    for found in books.found:
        yield Row(
            kind=found.finding.value,
            reference=found.reference,
            transaction="",
            dossier=found.dossier,
            here=found.expected,
            there=found.amount,
        )


def _sums(lines: Iterable[Line]) -> tuple[list[Transaction], list[Transaction]]:
    """The payments of both sides."""
    known = list(lines)
    return [line.ours for line in known if line.ours], [line.theirs for line in known if line.theirs]


def _states(books: Books) -> dict[str, int]:
    """How many requests stand in which state, in the agency's own words (TD-PAY)."""
    return dict(Counter(account.state.value for account in books.accounts.values() if account.state))


def _document(day: str, books: Books, lines: tuple[Line, ...], rows: Iterable[Row]) -> dict[str, Any]:
    def side(transactions: list[Transaction]) -> dict[str, int]:
        return {"payments": len(transactions), "amount": sum(one.amount for one in transactions)}

    ours, theirs = _sums(lines)
    return {
        "day": day,
        "here": side(ours),
        "there": side(theirs),
        "difference": sum(line.difference for line in lines),
        "matched": sum(line.result is Result.MATCHED for line in lines),
        "states": _states(books),
        "differences": [{name: getattr(row, name) for name in _COLUMNS} for row in rows],
    }


def _show(books: Books, lines: tuple[Line, ...], rows: list[Row]) -> None:
    out = console()
    if rows:
        table = Table(box=None)
        for name in _COLUMNS:
            table.add_column(name, justify="right" if name in ("here", "there", "difference") else "left")
        for row in rows:
            amounts = (
                "" if amount is None else in_thousands(amount) for amount in (row.here, row.there, row.difference)
            )
            table.add_row(_WORDS[row.kind], row.reference, row.transaction, row.dossier, *amounts)
        out.print(table)
    for name, side in zip(("here", "there"), _sums(lines), strict=True):
        out.print(f"{name:<10} {len(side)} payments, {format_dong(sum(one.amount for one in side))}")
    out.print(f"{'difference':<10} {format_dong(sum(line.difference for line in lines))} in {len(rows)} differences")
    states = ", ".join(f"{state} {count}" for state, count in _states(books).items())
    if states:
        out.print(f"{'requests':<10} {states}")
