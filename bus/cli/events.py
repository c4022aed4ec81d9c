"""``lgsp events``: how far each subscriber was told of what happened."""

from __future__ import annotations

import click
from rich.table import Table

from bus.cli.opened import opened_bus
from bus.cli.terminal import console, local, print_json, session_of
from bus.event_store import Cursor, EventStore
from schemas.events import REGISTRY_CHANGED
from schemas.moment import to_wire, utc_now


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def events(context: click.Context, as_json: bool) -> None:
    """Subscriptions to events: what each was told up to, how much has happened since, and what stops it.

    Subscriptions are registered like anything else: `lgsp registry apply`, `lgsp registry list subscriptions`.
    """
    with opened_bus(session_of(context)) as bus:
        found = EventStore(bus.store, bus.log).cursors()
        directory = bus.directory.current()
        with bus.store.reading() as connection:
            end = bus.log.size(connection) - 1
    ends = {cursor: directory.revision if cursor.stream == REGISTRY_CHANGED else end for cursor in found}
    systems = {each.id: each.system for each in directory.subscriptions.values()}
    if as_json:
        print_json([_document(cursor, systems.get(cursor.subscription), ends[cursor]) for cursor in found])
        return
    table = Table("subscription", "system", "type", "behind by", "stopped by", "again at")
    for cursor in found:
        again = local(cursor.free_at) if cursor.problem and cursor.free_at > utc_now() else ""
        behind = str(max(0, ends[cursor] - cursor.position))
        table.add_row(
            cursor.subscription,
            systems.get(cursor.subscription, ""),
            cursor.stream,
            behind,
            cursor.problem or "",
            again,
            style="red" if cursor.problem else "",
        )
    console().print(table)


def _document(cursor: Cursor, system: str | None, end: int) -> dict[str, object]:
    return {
        "subscription": cursor.subscription,
        "system": system,
        "type": cursor.stream,
        "position": cursor.position,
        #: Of the evidence log (of the registry: revisions). Most of it is not for this subscriber.
        "behind": max(0, end - cursor.position),
        "failures": cursor.tries,
        "problem": cursor.problem,
        "again_at": to_wire(cursor.free_at) if cursor.problem else None,
    }
