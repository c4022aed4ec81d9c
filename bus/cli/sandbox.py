"""``lgsp sandbox``: simulated partners on loopback."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from bus.cli import become
from bus.cli.terminal import console, print_json, session_of
from bus.settings import Settings, load_settings
from connectors.sandbox.credentials import NAMES


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on (LGSP_SANDBOX_PORT).")
@click.option("--list", "only_list", is_flag=True, help="Show the twins, with faults when the sandbox is running.")
@click.option("--json", "as_json", is_flag=True, help="With --list: one JSON object.")
@click.pass_context
def sandbox(context: click.Context, port: int | None, only_list: bool, as_json: bool) -> None:
    """Run simulated partner systems that speak real HTTP, until Ctrl-C.

    Each has a dial for what goes wrong; it has no login, so keep the sandbox on an address that only testers reach.

    \b
    Examples:
      lgsp sandbox
      lgsp sandbox --list
      curl -X PUT http://127.0.0.1:8090/_sandbox/one_stop/faults \\
           -d '[{"kind": "status", "status": 503, "count": 2}]'
    """
    session = session_of(context)
    settings = load_settings({"home": session.home, "sandbox_port": port}, config=session.config)
    if not only_list:
        click.echo(f"lgsp sandbox at http://{settings.host}:{settings.sandbox_port} (Ctrl-C ends it)", err=True)
        become("bus.web.sandbox_server", settings)
    running = _running(settings)
    if as_json:
        print_json(running or {"twins": _twins(), "faults": None, "happened": None})
        return
    table = Table("twin", "what it is", "faults set", "happened")
    for name in (running or {}).get("twins", _twins()):
        faults = _short((running or {}).get("faults", {}).get(name))
        happened = _short((running or {}).get("happened", {}).get(name))
        table.add_row(name, _what(name), faults, happened)
    console().print(table)
    _print_kinds()
    at = f"http://{settings.host}:{settings.sandbox_port}"
    click.echo(f"The sandbox is {'running' if running else 'not running'} at {at}.")
    click.echo(f"What its twins are logged in to with: {Path(settings.sandbox_credentials_path)}")


def _twins() -> list[str]:
    """The names that have a twin; some credentials are for calls that a partner makes."""
    return [name for name in NAMES if importlib.util.find_spec(f"connectors.sandbox.{name}") is not None]


def _what(name: str) -> str:
    """What a twin is, in its own words: the first sentence of its file, without the place of its source."""
    module = importlib.import_module(f"connectors.sandbox.{name}")
    paragraph = " ".join((module.__doc__ or "").partition("\n\n")[0].split())
    sentence = re.sub(r" ?\(vietnam\.md[^)]*\)|`", "", paragraph).partition(". ")[0]
    return sentence.rstrip(".:")


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


def _print_kinds() -> None:
    from connectors.sandbox.faults import ACTING_KINDS, KINDS

    kinds = ", ".join(f"{kind}*" if kind in ACTING_KINDS else kind for kind in KINDS)
    click.echo(f"Kinds of faults: {kinds}  (*: the twin has acted before it goes wrong)")


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if value else ""
