"""`lgsp bench`: hands over to the measurements of the checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

_CHECKOUT = Path(__file__).resolve().parent.parent.parent


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Measure the bus against its goals and a hand-made pipeline; needs a checkout and `make bench`'s packages."""
    if not (_CHECKOUT / "benchmarks" / "run.py").exists():
        raise click.ClickException("the measurements are in the source checkout: run `make bench` there")
    command = [sys.executable, "-m", "benchmarks.run", *arguments]
    raise click.exceptions.Exit(subprocess.run(command, cwd=_CHECKOUT, check=False).returncode)
