"""`lgsp demo`: a province on this machine, with the story of one dossier."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from bus.settings import load_settings

if TYPE_CHECKING:
    from bus.cli import Session
    from bus.demo.province import Province
    from bus.demo.story import Story
    from schemas.identifiers import MessageId


@click.command()
@click.option(
    "--once", is_flag=True, help="Play the story, print the summary and end; exit code 0 only if all was true."
)
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), default=Path("var/demo"), show_default=True)
@click.option("--port", type=int, help="Port of the bus (default: a free one with --once, else 8080).")
@click.pass_obj
def demo(session: Session, once: bool, home: Path, port: int | None) -> None:
    """Start bus, deliverer and sandbox on loopback and send a dossier through the province.

    Every hop is signed, validated, recorded and delivered for real, and the long flows that ship run. Without --once
    all of it stays up until Ctrl-C, to look around in.
    """
    from bus.demo.province import ProvinceFailed, running_province
    from bus.processes.catalogue import shipped

    console = Console()
    console.print("Bus, deliverer and sandbox are starting …")
    ports = _ports(once, port)
    settings = load_settings(
        {
            "home": home.absolute(),
            "port": ports[0],
            "sandbox_port": ports[1],
            "public_url": f"http://127.0.0.1:{ports[0]}",
            "lease_seconds": 15,
            "breaker_open_seconds": 1,
            "refused_kept_hours": 72,  # the ward's message that lacks a grant is taken on in the console
            "processes": ",".join(definition.code for definition in shipped()),
        }
    )
    # Told to stop from outside, it still stops what it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with running_province(settings) as province:
            succeeded = _play(province, console, session.language)
            if not once:
                _stay(province, console)
    except ProvinceFailed as error:
        raise click.ClickException(str(error)) from None
    if not succeeded:
        raise click.exceptions.Exit(1)


def _play(province: Province, console: Console, language: str) -> bool:
    """Tell the story step by step; False at the first step that is not true."""
    from bus.demo.story import StepFailed, Story
    from schemas.problem import Problem

    details: list[str] = []
    story = Story(province, details.append)
    for number, (title, step) in enumerate(story.steps(), start=1):
        text = title.vi if language == "vi" else title.en
        details.clear()
        started = time.monotonic()
        try:
            with console.status(f"{number:2}. {text}"):
                step()
        except (StepFailed, Problem, OSError) as error:
            console.print(f"[red]✗[/] {number:2}. {text}\n      not true: {error}")
            console.print(f"      logs: {province.settings.home}/*.log")
            return False
        console.print(f"[green]✓[/] {number:2}. {text}  [dim]{time.monotonic() - started:.1f} s[/]", soft_wrap=True)
        for detail in details[:3]:
            console.print(f"      [dim]{detail}[/]", highlight=False, soft_wrap=True)
    return _sum_up(story, province, console)


def _sum_up(story: Story, province: Province, console: Console) -> bool:
    """The counts, each with a message that `lgsp trace` finds; False when one cannot be found."""
    console.print("\n[bold]Summary / Tổng kết[/]")
    ledger = province.bus.ledger
    complete = True
    for outcome in fields(story.account):
        messages: list[MessageId] = getattr(story.account, outcome.name)
        complete &= bool(messages) and all(
            ledger.find(message) is not None or ledger.refusals_of(message_id=message) for message in messages
        )
        command = f"{_program()} --home {_short(province.settings.home)} trace {messages[0]}" if messages else ""
        console.print(f"{outcome.name:>10} {len(messages):4}   {command}", highlight=False, soft_wrap=True)
    if not complete:
        console.print("[red]A message of the summary cannot be found in the ledger.[/]")
    return complete


def _program() -> str:
    """How this program was called, for lines that can be pasted."""
    called = Path(sys.argv[0])
    return _short(called) if called.name == "lgsp" else "lgsp"


def _short(path: Path) -> str:
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _stay(province: Province, console: Console) -> None:
    from bus.demo.province import ADMINISTRATOR
    from bus.demo.story import MOTHER

    console.print(f"\nBus      {province.bus_url}     API pages: {province.bus_url}/docs")
    console.print(f"Sandbox  {province.sandbox_url}/_sandbox")
    console.print(f"Keys     {province.members_folder}")
    console.print(f"Console  {province.bus_url}/console/     {ADMINISTRATOR}, {province.password}", highlight=False)
    console.print(f"         Look for the mother's number {MOTHER}: one message of hers was refused.", highlight=False)
    console.print("Ctrl-C ends everything.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("stopping …")


def _ports(once: bool, port: int | None) -> tuple[int, int]:
    """Fixed ones to look around in; free ones where only the exit code counts, so that two runs do not collide."""
    if port is not None:
        return port, port + 10
    return (_free_port(), _free_port()) if once else (8080, 8090)


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
