"""``lgsp process``: long flows: which there are, where each stands, and what it did."""

from __future__ import annotations

from pathlib import Path

import click
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from bus.cli import FAILED, REFUSED, fail
from bus.cli.opened import opened_bus
from bus.cli.terminal import console, in_words, local, print_json, printable, session_of
from bus.processes.catalogue import in_folder, shipped, unfit
from bus.processes.definition import read_definition
from bus.processes.journal import Event, Journal, ProcessRecord, Status
from bus.processes.story import process_document
from schemas.identifiers import DossierCode
from schemas.problem import Language, Malformed

COLOURS = {Status.DONE: "green", Status.FAILED: "red", Status.COMPENSATING: "yellow", Status.RUNNING: "cyan"}


@click.group()
def process() -> None:
    """Long flows: what is sent when, what is waited for and until when, and what undoes it, as BPMN files.

    `lgsp work` moves the flows that LGSP_PROCESSES names. docs/processes.md explains how to write one.
    """


@process.command("list")
@click.option("--status", type=click.Choice([status.value for status in Status]), help="Only those.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_context
def list_processes(context: click.Context, status: str | None, limit: int, as_json: bool) -> None:
    """List processes, newest first.

    \b
    Example:
      lgsp process list --status failed
    """
    with opened_bus(session_of(context)) as bus:
        records = Journal(bus.store).newest(limit, Status(status) if status else None)
    if as_json:
        print_json([process_document(record) for record in records])
        return
    table = Table("process", "definition", "dossier", "status", "started", "looked at next", box=None)
    for record in records:
        standing = Text(record.status.value, style=COLOURS[record.status])
        started, due = local(record.started_at), local(record.due_at)
        table.add_row(record.id, record.definition, record.dossier, standing, started, due)
    console().print(table)


@process.command()
@click.argument("code")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_context
def show(context: click.Context, code: str, as_json: bool) -> None:
    """Tell what the process CODE did, or the processes of the dossier CODE. Exit code 1 when there is none.

    \b
    Example:
      lgsp process show H99.15-260423-0001
    """
    session = session_of(context)
    with opened_bus(session) as bus:
        journal = Journal(bus.store)
        found = journal.find(code.strip())
        records = [found] if found else _of_dossier(journal, code.strip())
    if not records:
        fail("There is no such process, and none of a dossier of this code.", FAILED)
    if as_json:
        print_json([process_document(record) for record in records])
    for record in [] if as_json else records:
        console().print(process_tree(record, session.language))


@process.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_context
def definitions(context: click.Context, files: tuple[Path, ...]) -> None:
    """List the definitions that ship and those of LGSP_PROCESS_FOLDER, and what the registry lacks for each.

    With FILES, check those instead. Exit code 2 when one of them cannot be run.

    \b
    Example:
      lgsp process definitions my-flow.bpmn
    """
    session = session_of(context)
    for path in files:
        checked = read_definition(path.read_bytes())
        click.echo(f"{path.name}: {checked.code}, {len(checked.steps)} steps")
    if files:
        return
    settings = session.settings
    with opened_bus(session) as bus:
        directory = bus.directory.current()
        known = {each.code: each for each in (*shipped(), *in_folder(settings.process_folder_path))}
        for code, definition in sorted(known.items()):
            runs = "runs" if code in settings.process_names else "does not run (LGSP_PROCESSES)"
            tree = Tree(Text(f"{code}  {printable(definition.name)}  {definition.version}, {runs}"))
            for error in unfit(definition, directory):
                tree.add(Text(f"{error.pointer}: {error.said(session.language)}", style="yellow"))
            console().print(tree)


def process_tree(record: ProcessRecord, language: Language) -> Tree:
    """A process and its steps, for the terminal."""
    head = Text(f"{local(record.started_at)}  process {record.definition} {record.id}: ")
    tree = Tree(head.append(record.status.value, style=COLOURS[record.status]))
    for event in record.events:
        tree.add(_line(event, language))
    if record.due_at is not None:
        tree.add(Text(f"looked at again {local(record.due_at)}", style="dim"))
    return tree


def _line(event: Event, language: Language) -> Text:
    about = " ".join(part for part in (event.service, event.message_id) if part)
    words = f": {in_words(event.problem, language)}" if event.problem else ""
    return Text(f"{local(event.at)}  {event.step} {event.event} {about}{words}", style="red" if event.problem else "")


def _of_dossier(journal: Journal, code: str) -> list[ProcessRecord]:
    try:
        return journal.of_dossier(DossierCode(code))
    except Malformed:
        fail("This is neither the id of a process nor a dossier code (as in H99.15-260423-0001).", REFUSED)
