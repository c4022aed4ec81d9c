"""``lgsp sandbox``: simulated partners on loopback."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from bus.cli import become
from bus.cli.terminal import print_json, session_of
from bus.settings import Settings, load_settings
from connectors.sandbox.about import calls_of, presets_of, twin_names, what
from connectors.sandbox.app import SandboxConfig, create_sandbox

if TYPE_CHECKING:
    from flask import Flask


@click.command()
@click.argument("twins", nargs=-1, metavar="[TWIN]...")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on (LGSP_SANDBOX_PORT).")
@click.option("--list", "only_list", is_flag=True, help="Show the twins (or the named ones) and what can go wrong.")
@click.option("--json", "as_json", is_flag=True, help="With --list: one JSON object.")
@click.pass_context
def sandbox(context: click.Context, twins: tuple[str, ...], port: int | None, only_list: bool, as_json: bool) -> None:
    """Run simulated partner systems that speak real HTTP, until Ctrl-C.

    Each has a dial for what goes wrong; it has no login, so keep the sandbox on an address that only testers reach.

    \b
    Examples:
      lgsp sandbox
      lgsp sandbox --list
      lgsp sandbox --list payment
      curl -X PUT http://127.0.0.1:8090/_sandbox/one_stop/faults \\
           -d '[{"kind": "status", "status": 503, "count": 2}]'
    """
    session = session_of(context)
    settings = load_settings({"home": session.home, "sandbox_port": port}, config=session.config)
    if not only_list:
        if twins:
            raise click.UsageError("All twins run in one server. To see some of them, add --list.")
        click.echo(f"lgsp sandbox at http://{settings.host}:{settings.sandbox_port} (Ctrl-C ends it)", err=True)
        become("bus.web.sandbox_server", settings)
    unknown = [name for name in twins if name not in twin_names()]
    if unknown:
        raise click.UsageError(f"No such twin: {', '.join(unknown)}. There are {', '.join(twin_names())}.")
    _list(settings, twins or tuple(twin_names()), as_json=as_json)


def _list(settings: Settings, names: Sequence[str], *, as_json: bool) -> None:
    running = _running(settings)
    at = f"http://{settings.host}:{settings.sandbox_port}"
    with TemporaryDirectory() as folder:  # an application that nobody serves tells where the twins answer
        app = create_sandbox(SandboxConfig(credentials_file=Path(folder) / "credentials.json"))
    if as_json:
        print_json(
            {
                **(running or {"faults": None, "happened": None}),
                "twins": list(names),
                "about": {
                    name: {
                        "what": what(name),
                        "address": f"{at}/{name}",
                        "calls": calls_of(app, name),
                        "presets": {key: asdict(preset) for key, preset in presets_of(name).items()},
                    }
                    for name in names
                },
            }
        )
        return
    for name in names:
        _print_twin(app, name, at, (running or {}).get("faults", {}).get(name, ()))
    _print_ways(at, names[0])
    happened = ", ".join(f"{kind} {count}" for kind, count in (running or {}).get("happened", {}).items())
    click.echo(f"The sandbox is {'running' if running else 'not running'} at {at}.")
    if running:
        click.echo(f"Faults that happened: {happened or 'none'}")
    click.echo(f"What its twins are logged in to with: {Path(settings.sandbox_credentials_path)}")


def _running(settings: Settings) -> dict[str, Any] | None:
    """What a running sandbox tells of itself, or None."""
    from connectors.http import HttpClient
    from schemas.problem import Problem

    client = HttpClient()
    try:
        url = f"http://{settings.host}:{settings.sandbox_port}/_sandbox"
        told = json.loads(client.request("GET", url, headers={}, timeout_seconds=3.0).body)
        return told if isinstance(told, dict) and "twins" in told else None
    except (Problem, ValueError):
        return None
    finally:
        client.close()


def _print_twin(app: Flask, name: str, at: str, faults: Sequence[Mapping[str, Any]]) -> None:
    click.secho(f"{name}  {at}/{name}", bold=True)
    click.echo(f"  {what(name)}.")
    for call in calls_of(app, name):
        click.echo(f"  {call}")
    presets = presets_of(name)
    for preset_name, preset in presets.items():
        how = f" ({preset.by})" if preset.by else " (see its call)" if preset.call else ""
        click.echo(f"    {preset_name:<22}{preset.says}{how}")
    for preset_name, preset in presets.items():
        if preset.call:
            path, body = preset.call
            click.echo(f"  {preset_name}: curl {at}{path} -d '{json.dumps(body, ensure_ascii=False)}'")
    for fault in faults:
        click.secho(f"  set now: {_short(fault)}", fg="yellow")
    click.echo()


def _print_ways(at: str, example: str) -> None:
    """What every twin can be made to do, and how."""
    from connectors.sandbox.faults import ACTING_KINDS, KINDS

    click.secho("Kinds of faults that every twin knows", bold=True)
    for kind, seen in KINDS.items():
        acted = "; it has acted before" if kind in ACTING_KINDS else ""
        click.echo(f"    {kind:<22}{seen}{acted}")
    control = f"{at}/_sandbox/{example}"
    first = next((name for name, preset in presets_of(example).items() if preset.fault), "")
    named = {"name": first, "probability": 0.1} if first else {"kind": "status", "status": 503}
    said = json.dumps([named, {"kind": "truncate", "service": "*", "tenant": "H99", "count": 2}], ensure_ascii=False)
    click.secho("How to set them (the list replaces the one before; [] makes the twin well)", bold=True)
    click.echo(f"  curl -X PUT {control}/faults -d '{said}'")
    click.echo("  name or kind, and beside it: service (one operation), tenant (one caller), probability, count,")
    click.echo("  seconds, status, retry_after, code, message, acts (false: it goes wrong before the twin has acted)")
    click.secho("What else it can be told", bold=True)
    click.echo(f"  curl {control}                  what it is, its texts, its named faults, as JSON")
    click.echo(f'  curl -X PUT {control}/wording -d \'{{"…": "…"}}\'   other texts, by the names above')
    click.echo(f"  curl {control}/state            what it has seen")
    click.echo(f"  curl -X POST {control}/reset    forget it")


def _short(fault: Mapping[str, Any]) -> str:
    """A fault without the members that say nothing."""
    from connectors.sandbox.faults import Fault

    plain = asdict(Fault(kind=fault["kind"]))
    return json.dumps({k: v for k, v in fault.items() if k == "kind" or plain[k] != v}, ensure_ascii=False)
