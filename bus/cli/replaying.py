"""``lgsp replay``: dead letters, and the order to send them again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from bus.assembly import Bus
from bus.cli import FAILED, REFUSED, fail
from bus.cli.opened import opened_bus
from bus.cli.terminal import actor, console, in_words, local, print_json, session_of, span
from bus.records import DeadRecord
from registry.model import Pattern
from schemas.identifiers import AgencyCode, MessageId, ServiceCode, SystemCode
from schemas.moment import to_wire, utc_now
from schemas.problem import Language

#: One transaction of a replay: its locks are short, and a database takes so many ids in one statement.
_AT_ONCE = 2000
_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which dead letters are meant; an empty fact leaves it open."""

    messages: frozenset[MessageId] = frozenset()
    system: SystemCode | None = None
    receiver: AgencyCode | None = None
    service: ServiceCode | None = None
    reason: str = ""

    def takes(self, record: DeadRecord) -> bool:
        return (
            (not self.messages or record.message_id in self.messages)
            and self.receiver in (None, record.receiver)
            and self.service in (None, record.service)
            and self.reason in ("", reason_of(record))
        )


@click.command()
@click.argument("messages", nargs=-1, metavar="[MESSAGE_ID]...")
@click.option("--list", "only_list", is_flag=True, help="Only show the dead letters that are meant.")
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
@click.option("--system", metavar="CODE", help="Those of one receiving system.")
@click.option("--to", "receiver", metavar="AGENCY", help="Those of one receiver.")
@click.option("--service", metavar="CODE", help="Those of one service.")
@click.option("--reason", metavar="CODE", help="Those that died for one reason (see --list).")
@click.option("--because", metavar="TEXT", help="Why they are sent again; kept with the message for good.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent again, and do nothing.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="Rows that --list shows.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def replay(
    context: click.Context,
    messages: tuple[str, ...],
    only_list: bool,
    everything: bool,
    system: str | None,
    receiver: str | None,
    service: str | None,
    reason: str | None,
    because: str | None,
    dry_run: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Send dead letters again: by message id, by filters (all must fit), or --all.

    A replay keeps the message as it is: same id, same bytes, same signature; its attempts so far stay on record.

    \b
    Examples:
      lgsp replay --list
      lgsp replay --system G99/csdl --dry-run
      lgsp replay --reason provider-unreachable --because "line of G99 repaired"
    """
    wanted = Wanted(
        messages=frozenset(MessageId(message) for message in messages),
        system=SystemCode(system) if system else None,
        receiver=AgencyCode.parse(receiver) if receiver else None,
        service=ServiceCode(service) if service else None,
        reason=reason or "",
    )
    if not (only_list or everything or wanted != Wanted()):
        fail(
            "Say which: message ids, --system, --to, --service, --reason, or --all. `lgsp replay --list` shows them.", 2
        )
    if not (only_list or dry_run or (because and because.strip())):
        fail("Say why with --because: whoever reads the trace later will ask.", REFUSED)
    session = session_of(context)
    with opened_bus(session) as bus:
        found = list(_dead(bus, wanted))
        _refuse_unknown(wanted, found)
        if only_list:
            _print_list(found, limit, as_json, session.language)
            return
        ready = [record for record in found if record.pattern is Pattern.ONE_WAY]
        left = len(found) - len(ready)
        numbers, moved = ([], len(ready)) if dry_run else _send_again(bus, ready, str(because), quiet=as_json)
    _print_result(numbers, moved, left, dry_run=dry_run, as_json=as_json)
    if moved < len(ready):
        raise click.exceptions.Exit(FAILED)


def reason_of(record: DeadRecord) -> str:
    return str((record.problem or {}).get("reason", "unknown"))


def _dead(bus: Bus, wanted: Wanted) -> Iterator[DeadRecord]:
    after = -1  # the first delivery of all bears the number 0
    while page := bus.ledger.dead(_PAGE, wanted.system, after):
        yield from filter(wanted.takes, page)
        after = page[-1].delivery_id


def _refuse_unknown(wanted: Wanted, found: Sequence[DeadRecord]) -> None:
    missing = wanted.messages - {record.message_id for record in found}
    if missing:
        lines = [f"{message}: no dead letter of this message fits." for message in sorted(missing)]
        fail("\n".join([*lines, "Nothing was sent again."]), REFUSED)


def _send_again(bus: Bus, ready: Sequence[DeadRecord], because: str, *, quiet: bool) -> tuple[list[int], int]:
    """Order the replays; (their numbers, deliveries moved)."""
    numbers: list[int] = []
    moved = 0
    columns = (TextColumn("sent again"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console(stderr=True), disable=quiet or len(ready) <= _AT_ONCE) as progress:
        task = progress.add_task("", total=len(ready))
        for start in range(0, len(ready), _AT_ONCE):
            ids = [record.delivery_id for record in ready[start : start + _AT_ONCE]]
            number, count = bus.ledger.replay(ids, actor(), because.strip(), utc_now())
            numbers.append(number)
            moved += count
            progress.advance(task, len(ids))
            bus.wake.tap()
    return numbers, moved


def _print_result(numbers: Sequence[int], moved: int, left: int, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json({"replays": list(numbers), "deliveries": moved, "left": left, "dry_run": dry_run})
        return
    what = f"{moved} deliver{'y' if moved == 1 else 'ies'}"
    if dry_run:
        click.echo(f"dry run: {what} would be sent again")
    elif numbers:
        click.echo(f"replay {', '.join(map(str, numbers))}: {what} will be sent again")
    else:
        click.echo("nothing to send again")
    if left:
        click.echo(f"{left} left alone: a request-reply call is repeated by its caller, who is the one waiting.")


# --- the list --------------------------------------------------------------------------------------------------------


def _print_list(found: Sequence[DeadRecord], limit: int, as_json: bool, language: Language) -> None:
    if as_json:
        print_json([_document(record) for record in found])
        return
    if not found:
        click.echo("no dead letters")
        return
    now = utc_now()
    groups: dict[tuple[str, str, str], list[DeadRecord]] = defaultdict(list)
    for record in found:
        groups[record.system, record.service, reason_of(record)].append(record)
    summary = Table("letters", "system", "service", "reason", "since", "what happened last", title="Dead letters")
    for (system, service, reason), records in sorted(groups.items(), key=lambda item: -len(item[1])):
        oldest = min((record.died_at for record in records if record.died_at), default=None)
        words = in_words(records[-1].problem, language)
        summary.add_row(str(len(records)), system, service, reason, local(oldest), words)
    table = Table("message", "service", "from", "to", "attempts", "dead for", "reason")
    for record in found[-limit:]:
        age = span(now - record.died_at) if record.died_at else ""
        parties = (record.service, record.sender, record.receiver)
        table.add_row(record.message_id, *parties, str(record.attempt), age, reason_of(record))
    screen = console()
    screen.print(summary)
    screen.print(table)
    if len(found) > limit:
        click.echo(f"{len(found)} in all, the newest {limit} shown; --limit shows more, --json shows all")


def _document(record: DeadRecord) -> dict[str, Any]:
    return {**asdict(record), "died_at": to_wire(record.died_at) if record.died_at else None}
