"""``lgsp health``: is the process of this machine well? So ask containers and service managers."""

from __future__ import annotations

import http.client
import json
from contextlib import closing

import click

from bus.cli import fail
from bus.cli.terminal import session_of

_PATIENCE_SECONDS = 5.0
#: What a process listens on when it listens everywhere, and where it then answers itself.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  # looked up, not bound


@click.command()
@click.option("--work", is_flag=True, help="Ask `lgsp work` (LGSP_WORK_PORT) in place of `lgsp serve`.")
@click.option("--ready", is_flag=True, help="May messages be sent here? Else only: does the process answer?")
@click.pass_context
def health(context: click.Context, work: bool, ready: bool) -> None:
    """Ask the process of this machine how it is; exit code 0 when it is well.

    \b
    Example:
      lgsp health --ready
      lgsp health --work
    """
    settings = session_of(context).settings
    host, port = (settings.work_host, settings.work_port) if work else (settings.host, settings.port)
    if not port:
        fail("`lgsp work` tells nothing of itself here: set LGSP_WORK_PORT.")
    path = "/readyz" if ready else "/healthz"
    try:
        with closing(http.client.HTTPConnection(_EVERYWHERE.get(host, host), port, timeout=_PATIENCE_SECONDS)) as asked:
            asked.request("GET", path)
            answer = asked.getresponse()
            status, body = answer.status, answer.read(65536)
    except (OSError, http.client.HTTPException) as error:
        fail(f"Nobody answers on port {port} ({type(error).__name__}).")
    # A gateway without the surface `operations` does not know the address; that it says so shows that it lives.
    if status == 200 or (status == 404 and not ready):
        click.echo("well")
        return
    fail("\n".join([f"{path} answers {status}.", *_failing(body)]))


def _failing(body: bytes) -> list[str]:
    try:
        checks = json.loads(body)["checks"]
        return [f"  {check['name']}: {check['why']}" for check in checks if not check["ok"]]
    except (ValueError, KeyError, TypeError):
        return []
