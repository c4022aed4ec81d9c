"""``lgsp nodes`` and ``lgsp upgrade``: the processes of a bus on all its machines, and how their version changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import click
from rich.table import Table

from bus.bulkheads import BreakerState
from bus.cli import FAILED, REFUSED, Session, fail
from bus.cli.terminal import console, local, print_json, session_of, span
from bus.cluster import BEATS_MISSED
from bus.nodes import NodeRecord, NodeStore
from bus.store import OURS, Store, open_store, standing_of
from bus.upgrading import Upgrade
from schemas.moment import to_wire, utc_now


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def nodes(context: click.Context, as_json: bool) -> None:
    """Show every process that serves or delivers: on which machine, of which version, and when it was last heard of;
    and the receivers whose circuit breaker is open.

    A process that was killed is shown as silent for ten minutes, then it is forgotten. Exit code 1 when one is silent.
    """
    session = session_of(context)
    with _store_of(session) as store:
        look = NodeStore(store).look()
    now = utc_now()
    patience = timedelta(seconds=BEATS_MISSED * session.settings.node_beat_seconds)
    silent = {node.id for node in look.nodes if now - node.beat_at > patience}
    if as_json:
        print_json(
            {
                "nodes": [{**_document(node), "silent": node.id in silent} for node in look.nodes],
                "open_breakers": sorted(look.open),
            }
        )
    else:
        _print(look.nodes, silent, now)
        for system in sorted(look.open):
            click.echo(f"breaker {BreakerState.OPEN.value}: {system}")
    if silent:
        raise click.exceptions.Exit(FAILED)


def _print(found: Sequence[NodeRecord], silent: set[str], now: datetime) -> None:
    if not found:
        click.echo("No process serves or delivers.")
        return
    table = Table("role", "host", "process", "version", "tables", "since", "heard of", "node")
    for node in sorted(found, key=lambda node: (node.role, node.host, node.process)):
        heard = f"{span(now - node.beat_at)} ago" + (": silent" if node.id in silent else "")
        facts = (node.role.value, node.host, str(node.process), node.version, node.revision)
        table.add_row(*facts, local(node.started_at), heard, node.id, style="red" if node.id in silent else "")
    console().print(table)


def _document(node: NodeRecord) -> dict[str, Any]:
    return {
        "id": node.id,
        "role": node.role.value,
        "host": node.host,
        "process": node.process,
        "version": node.version,
        "tables": node.revision,
        "started_at": to_wire(node.started_at),
        "heard_at": to_wire(node.beat_at),
        "calls": sorted(node.uses),
    }


@click.command()
@click.option("--finish", is_flag=True, help="No older node runs any more: take away what only they needed.")
@click.option("--check", "only_check", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def upgrade(context: click.Context, finish: bool, only_check: bool, as_json: bool) -> None:
    """Bring the store's tables to this version: beside running nodes of the version before, wherever that is safe.

    Looks who is alive, does what is safe, refuses what is not (exit code 2), and says what comes next.

    \b
    Example, with the new version installed on this machine:
      lgsp upgrade
      (restart each node with the new version)
      lgsp upgrade --finish
    """
    session = session_of(context)
    with _store_of(session) as store:
        work = Upgrade(store, OURS)
        before = standing_of(store, OURS).revision
        decision = work.decide(utc_now(), finish=finish)
        if not (only_check or decision.refused):
            work.carry_out(decision)
        after = standing_of(store, OURS)
    changes = decision.contract_first or decision.expand or decision.contract_last
    if as_json:
        print_json(
            {
                "tables_before": before,
                "tables": after.revision,
                "works_with": after.works_with,
                "changed": bool(changes) and not only_check,
                "refused": decision.refused,
                "next": decision.next,
                "nodes": [_document(node) for node in decision.nodes],
            }
        )
    else:
        would = " (not done: --check)" if only_check else ""
        if decision.expand:
            click.echo(f"Tables: from {before} to {after.newest_revision}{would}.")
        if decision.contract_last:
            click.echo(f"What programs before {after.newest_revision} needed is gone{would}.")
        for node in decision.nodes:
            click.echo(f"  {node.role.value} {node.host} {node.process}: version {node.version}, {node.revision}")
        if not decision.refused:
            click.echo(decision.next)
    if decision.refused:
        fail(f"{decision.refused} {decision.next}", REFUSED)


@contextmanager
def _store_of(session: Session) -> Iterator[Store]:
    """The store alone: its tables may be others than a whole bus could work with."""
    store = open_store(session.settings)
    try:
        yield store
    finally:
        store.close()
