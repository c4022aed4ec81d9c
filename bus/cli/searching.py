"""``lgsp search``: messages by what somebody on the phone knows of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import click
from rich.table import Table

from bus.cli import FAILED
from bus.cli.opened import opened_bus
from bus.cli.stats import day_of, midnight
from bus.cli.terminal import console, local, print_json, session_of
from bus.records import FoundMessage, State, Wanted
from bus.search import MOST_FOUND
from schemas.identifiers import AgencyCode, DossierCode, ServiceCode
from schemas.moment import to_wire

_COLOURS = {State.DELIVERED: "green", State.DEAD: "red"}


@click.command()
@click.option("--agency", metavar="CODE", help="Its sender or one of its receivers.")
@click.option("--sender", metavar="CODE", help="Sent by this agency.")
@click.option("--receiver", metavar="CODE", help="For this agency.")
@click.option("--service", metavar="CODE", help="Of this service.")
@click.option("--state", type=click.Choice([state.value for state in State]), help="Of one of its deliveries.")
@click.option("--since", metavar="YYYY-MM-DD", help="Accepted on this day or later.")
@click.option("--until", metavar="YYYY-MM-DD", help="Accepted on this day or earlier.")
@click.option("--dossier", metavar="CODE", help="Of this dossier.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, MOST_FOUND), help="Messages to show.")
@click.option("--before", metavar="NUMBER", type=click.IntRange(0), help="Go on behind this one (the last number).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def search(
    context: click.Context, agency: str | None, sender: str | None, receiver: str | None, service: str | None,
    state: str | None, since: str | None, until: str | None, dossier: str | None, limit: int, before: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Find messages that fit all that is given, newest first. Without anything: the newest of all.

    Days and times are Vietnam's. `lgsp trace MESSAGE_ID` tells the whole story of one. Exit code 1 when nothing fits.

    \b
    Examples:
      lgsp search --agency H99.16 --state waiting
      lgsp search --sender H99.16 --receiver G99
      lgsp search --service dossier.transfer --since 2026-04-01 --until 2026-04-30 --limit 200
      lgsp search --dossier H99.15-260423-0001 --json
    """
    wanted = Wanted(
        agency=AgencyCode.parse(agency) if agency else None,
        sender=AgencyCode.parse(sender) if sender else None,
        receiver=AgencyCode.parse(receiver) if receiver else None,
        service=ServiceCode(service) if service else None,
        state=State(state) if state else None,
        dossier=DossierCode(dossier) if dossier else None,
        since=midnight(day_of(since)) if since else None,
        until=midnight(day_of(until) + timedelta(days=1)) if until else None,
        before=before,
        limit=limit,
    )
    with opened_bus(session_of(context)) as bus:
        found = bus.ledger.search(wanted)
    if as_json:
        print_json({"messages": [_document(message) for message in found]})
    else:
        _print(found, limit)
    if not found:
        raise click.exceptions.Exit(FAILED)


def _document(message: FoundMessage) -> dict[str, Any]:
    return {
        "number": message.exchange_id,
        "message_id": message.message_id,
        "received_at": to_wire(message.received_at),
        "sender": message.sender,
        "service": f"{message.service}/{message.service_version}",
        "dossier": message.dossier,
        "deliveries": [
            {
                "receiver": delivery.receiver,
                "system": delivery.system,
                "state": delivery.state.value,
                "attempts": delivery.attempts,
                "settled_at": to_wire(delivery.settled_at) if delivery.settled_at else None,
            }
            for delivery in message.deliveries
        ],
    }


def _print(found: Sequence[FoundMessage], limit: int) -> None:
    if not found:
        click.echo("Nothing fits.")
        return
    table = Table(box=None)
    for heading in ("number", "accepted", "service", "from", "to", "dossier", "message"):
        table.add_column(heading, no_wrap=heading in ("accepted", "message"))
    for message in found:
        to = "\n".join(
            f"[{_COLOURS.get(each.state, 'yellow')}]{each.receiver} {each.state.value}[/]"
            for each in message.deliveries
        )
        table.add_row(
            str(message.exchange_id),
            local(message.received_at),
            f"{message.service}/{message.service_version}",
            message.sender,
            to,
            message.dossier or "",
            message.message_id,
        )
    console().print(table)
    if len(found) >= limit:
        click.echo(f"\nThere may be more: --before {found[-1].exchange_id}")
