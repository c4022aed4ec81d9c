"""`lgsp bench`: hands over to the measurements of the checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

_CHECKOUT = Path(__file__).resolve().parent.parent.parent


@click.command()
@click.option(
    "--messages", type=click.IntRange(1000, 60_000), default=10_000, show_default=True, help="Of the main run."
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("bench-results"), show_default=True, help="Folder."
)
@click.option("--no-dramatiq", is_flag=True, help="Leave the hand-made RabbitMQ pipeline out.")
@click.option("--soap", is_flag=True, help="Measure SOAP instead, against bare spyne and bare zeep.")
@click.option(
    "--dossiers", type=click.IntRange(20, 100_000), help="Play so many dossiers through the bus and all twins instead."
)
@click.option("--production", is_flag=True, help="Measure PostgreSQL and RabbitMQ against the embedded store instead.")
def bench(messages: int, out: Path, no_dramatiq: bool, soap: bool, dossiers: int | None, production: bool) -> None:
    """Measure the bus against its goals, bare Flask and a hand-made pipeline; or SOAP against spyne and zeep; or a
    province's day; or production mode.

    Needs a source checkout and the packages that `make bench` installs. Everything is started on loopback and stopped;
    raw rows go to CSV files, a summary to the terminal and the folder.

    \b
    Example:
      make bench ARGS="--messages 20000"
      make bench ARGS=--soap
      make bench ARGS="--dossiers 2000"
      make bench ARGS=--production
    """
    if not (_CHECKOUT / "benchmarks" / "run.py").exists():
        raise click.ClickException("the measurements are in the source checkout: run `make bench` there")
    if dossiers:
        module, options = "dossier_day", ["--dossiers", str(dossiers)]
    elif soap:
        module, options = "soap", []
    else:
        module, options = "production" if production else "run", ["--messages", str(messages)]
        options += ["--no-dramatiq"] if no_dramatiq else []
    command = [sys.executable, "-m", f"benchmarks.{module}", *options, "--out", str(out.absolute())]
    raise click.exceptions.Exit(subprocess.run(command, cwd=_CHECKOUT, check=False).returncode)
