"""``lgsp registry import --wsdl`` and ``--openapi``: a provider's description becomes drafted files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from bus.cli import FAILED, REFUSED
from bus.cli.terminal import printable, problem_lines
from bus.settings import Settings
from connectors.importing.draft import Draft, Wishes, draft
from connectors.importing.openapi import read_openapi
from connectors.importing.sources import Documents
from connectors.importing.wsdl import read_wsdl
from registry.manifests import entry_from, read_manifests
from registry.model import Stage
from schemas.identifiers import AgencyCode, SystemCode
from schemas.problem import Language, Problem
from schemas.reasons import Wording


def draft_services(
    settings: Settings,
    language: Language,
    *,
    wsdl: str | None,
    openapi: str | None,
    prefix: str | None,
    owner: str | None,
    stage: str,
    select: Sequence[str],
    system: str | None,
    endpoint_url: str,
    connector: str,
    secret_name: str,
    out: Path,
    force: bool,
    dry_run: bool,
) -> None:
    """Draft, report, write. Exits with 2 when nothing could be drafted or a file would be written over."""
    if not prefix or not (owner or system):
        raise click.UsageError("Say --prefix, and --owner or --system: a service has a code and an owner.")
    try:
        system_code = SystemCode(system) if system else None
        wishes = Wishes(
            prefix=prefix,
            owner=AgencyCode(owner) if owner else SystemCode(system).agency,
            stage=Stage(stage),
            select=frozenset(select),
            system=system_code,
            endpoint_url=endpoint_url,
            connector=connector,
            secret=secret_name,
        )
        with Documents(wsdl or openapi or "", settings.import_hosts) as documents:
            made = draft(read_wsdl(documents) if wsdl else read_openapi(documents), wishes)
    except Problem as problem:
        click.echo(problem.detail(language), err=True)
        raise click.exceptions.Exit(REFUSED) from None
    _report(made, language)
    if not made.services:
        click.echo("nothing was drafted", err=True)
        raise click.exceptions.Exit(REFUSED)
    if dry_run:
        _print(made)
    else:
        _write(made, out, language, force=force)
    if made.unknown:
        raise click.exceptions.Exit(REFUSED)


def _report(made: Draft, language: Language) -> None:
    """One line for each operation: ``+`` drafted, ``!`` to know, ``-`` refused and why."""
    for service in made.services:
        click.secho(f"+ {printable(service.operation)}  {service.code}/1", fg="green")
        for note in service.notes:
            click.secho(f"    ! {printable(note.said(language))}", fg="yellow")
    for refusal in made.refusals:
        click.secho(f"- {printable(refusal.name)}  {refusal.problem.reason}", fg="red")
        click.echo(f"    {printable(refusal.problem.detail(language))}")
    for name in made.unknown:
        click.secho(f"- {printable(name)}  there is no such operation", fg="red")
    notes = [*made.notes, *([_secret_note(made.secret)] if made.secret else [])]
    for note in notes:
        click.secho(f"! {printable(note.said(language))}", fg="yellow")
    click.echo(f"{len(made.services)} drafted, {len(made.refusals)} refused")


def _secret_note(secret: str) -> Wording:
    command = f"lgsp registry secret set {secret}"
    return Wording(
        f"keep the endpoint's secret before the first call: {command}",
        f"lưu bí mật của điểm cuối trước lần gọi đầu tiên: {command}",
    )


def _print(made: Draft) -> None:
    """The manifests as one stream, and the names of the files that they would lie beside."""
    for name in made.manifests:
        click.echo(f"# {name}")
        click.echo(made.files[name], nl=False)
    for name in sorted(made.files.keys() - set(made.manifests)):
        click.echo(f"# {name}: {len(made.files[name].encode())} bytes")
    click.echo("dry run: nothing was written")


def _write(made: Draft, out: Path, language: Language, *, force: bool) -> None:
    """Every file, then what to do next. The manifests are read back: what is on disk is what `apply` takes."""
    there = sorted(name for name in made.files if (out / name).exists())
    if there and not force:
        click.echo(f"{there[0]} is in the folder already. Choose another --out, or --force to write over it.", err=True)
        raise click.exceptions.Exit(REFUSED)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in made.files.items():
            (out / name).write_text(text, encoding="utf-8")
        for document in read_manifests([out / name for name in made.manifests]):
            entry_from(document)
    except OSError as error:
        click.echo(f"The files cannot be written: {error.strerror}.", err=True)
        raise click.exceptions.Exit(FAILED) from None
    except Problem as problem:
        click.echo(printable("\n".join(problem_lines(problem, language))), err=True)
        raise click.exceptions.Exit(REFUSED) from None
    click.echo(f"{len(made.files)} files written. Look at them, then: lgsp registry apply {out}/*.yaml --dry-run")
