"""``lgsp registry``: look at the registry and change it by manifests.

Exit codes: 0 done (or nothing to do), 1 the store or the machine failed, 2 refused, with every reason printed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.table import Table

from bus.cli import FAILED, REFUSED
from bus.cli.members import equip, handed_out, refuse_open_folder, refuse_unwritable
from bus.cli.terminal import actor, console, problem_lines
from bus.registration import plan_registration
from bus.settings import Settings, load_settings
from bus.store import open_engine
from registry.changes import Changes, everything, kind_of, plain, plan_changes, subject_of
from registry.directory import Directory
from registry.importing import agencies_from_csv, members_from_csv
from registry.manifests import NEVER_WRITTEN, difference_lines, read_manifests, write_manifest
from registry.model import Agency, Certificate, Endpoint, Entry, Quota, RetryPolicy
from registry.store import RegistryStore
from schemas.message import sha256_hex
from schemas.moment import VIETNAM
from schemas.problem import Language, Problem
from security.secrets import SecretBox
from security.tokens import hash_secret, new_secret

#: In the key folder; `lgsp work` opens the secrets with it.

SECRET_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
KINDS = ("agencies", "systems", "services", "grants", "subscriptions")
_IMPORT_EXAMPLES = """\b
Examples:
  lgsp registry import --agencies agencies.csv
  lgsp registry import --members xa-phuong.csv --out members --dry-run
  lgsp registry import --wsdl population.wsdl --prefix dan-cu --owner G99.01 --out drafts
  lgsp registry import --openapi openapi.json --prefix dkdn --system G99.12/dkdn --out drafts
  lgsp registry apply drafts/*.yaml --dry-run
"""
SIGN_COLOURS = {"+": "green", "~": "yellow", "-": "red"}


@click.group("registry")
@click.option("--store", "store_url", help="SQLAlchemy URL of the store, instead of the one in the settings.")
@click.pass_context
def registry(context: click.Context, store_url: str | None) -> None:
    """Agencies, systems, data services, grants and subscriptions to events."""
    settings = getattr(context.obj, "settings", None) or load_settings()
    context.meta["lgsp.settings"] = replace(settings, store_url=store_url) if store_url else settings


@registry.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Print what would change, and change nothing.")
def apply(files: tuple[Path, ...], dry_run: bool) -> None:
    """Make the registry say what the manifests in FILES say, after printing the difference."""
    with _open_store() as store:
        changes = plan_registration(store, read_manifests(files))
        _carry_out(store, changes, dry_run=dry_run)


@registry.command("import", epilog=_IMPORT_EXAMPLES)
@click.option(
    "--agencies",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Register the agencies of a CSV file with the columns code, name, parent.",
)
@click.option(
    "--members",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Register agencies with a system, a key or a secret, and grants with quotas, from a CSV file.",
)
@click.option("--wsdl", metavar="FILE|URL", help="Draft services from a WSDL.")
@click.option("--openapi", metavar="FILE|URL", help="Draft services from an OpenAPI description, JSON or YAML.")
@click.option("--prefix", help="First word of the drafted services' codes, such as `dan-cu`.")
@click.option("--owner", help="Agency that answers for the services; the agency of --system when left out.")
@click.option("--stage", type=click.Choice(["draft", "sandbox", "published"]), default="draft", show_default=True)
@click.option("--select", "select", multiple=True, metavar="OPERATION", help="Only this operation; may be repeated.")
@click.option("--system", metavar="CODE", help="Also draft the provider's system, such as G99.12/dkdn.")
@click.option("--endpoint-url", default="", help="Where the provider is called, instead of the description's address.")
@click.option("--connector", default="", help="The endpoint's connector, instead of soap or rest.")
@click.option("--secret", "secret_name", default="", help="Name of the endpoint's secret; never its value.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the drafted files (here), or for the members' keys and secrets (members); made if missing.",
)
@click.option("--force", is_flag=True, help="Write over files that are there.")
@click.option("--dry-run", is_flag=True, help="Print what would change or be written, and change nothing.")
def import_(
    agencies: Path | None,
    members: Path | None,
    wsdl: str | None,
    openapi: str | None,
    out: Path | None,
    dry_run: bool,
    **wishes: Any,
) -> None:
    """Register agencies or whole members from a CSV file, or draft services from a provider's WSDL or OpenAPI.

    Drafts are files: look at them, then `lgsp registry apply` takes them. Nothing is registered before. Members are
    registered at once; a second run changes nothing, and makes no key or secret anew.
    """
    if [agencies, members, wsdl, openapi].count(None) != 3:
        raise click.UsageError("Give one of --agencies, --members, --wsdl and --openapi.")
    if wsdl or openapi:
        from bus.cli.importing import draft_services  # it brings zeep: only those who import wait for it

        draft_services(
            _settings(), _language(), wsdl=wsdl, openapi=openapi, out=out or Path(), dry_run=dry_run, **wishes
        )
        return
    with _open_store() as store:
        if members is not None:
            _import_members(store, members, out or Path("members"), dry_run=dry_run)
            return
        directory = store.load()
        assert agencies is not None  # noqa: S101 - one of four
        found = agencies_from_csv(agencies.read_bytes(), directory, source=agencies.name)
        _carry_out(store, plan_changes(directory, found), dry_run=dry_run)


def _import_members(store: RegistryStore, file: Path, folder: Path, *, dry_run: bool) -> None:
    """Everything is checked before the first key is made, and the keys are on disk before anything is registered."""
    directory = store.load()
    found = members_from_csv(file.read_bytes(), directory, source=file.name)
    agencies, grants = [member.agency for member in found], [grant for member in found for grant in member.grants]
    changes = plan_changes(directory, [*agencies, *(member.system for member in found), *grants])
    if dry_run:
        _carry_out(store, changes, dry_run=True)
        return
    refuse_open_folder(folder)
    try:
        equipped = equip(found, folder, _settings().public_url)
    except OSError as error:
        refuse_unwritable(folder, error)
    _carry_out(store, plan_changes(directory, [*agencies, *equipped.systems, *grants]), dry_run=False)
    click.echo(handed_out(equipped, found, folder))


@registry.command("list")
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def list_(kind: str, as_json: bool) -> None:
    """Everything of one kind, in order of codes."""
    with _open_store() as store:
        entries = sorted(getattr(store.load(), kind).values(), key=subject_of)
    if as_json:
        click.echo(_json([_public(entry) for entry in entries]))
    else:
        console().print(_listing(kind, entries))


@registry.command()
@click.argument("code")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def show(code: str, as_json: bool) -> None:
    """All facts of an agency (either spelling), system, service (CODE or CODE/VERSION) or grant."""
    with _open_store() as store:
        entries = _named(store.load(), code)
    if not entries:
        _refuse(["Nothing in the registry has this code."])
    if as_json:
        click.echo(_json([_public(entry) for entry in entries]))
        return
    for entry in entries:
        console().print(_facts(entry))


@registry.command()
@click.argument("kinds", nargs=-1, type=click.Choice(KINDS))
def export(kinds: tuple[str, ...]) -> None:
    """Write the registry (or some kinds of it) as manifests that `apply` reads back. Secrets are left out."""
    with _open_store() as store:
        directory = store.load()
    chosen = [entry for kind in KINDS if not kinds or kind in kinds for entry in getattr(directory, kind).values()]
    click.echo(write_manifest(chosen), nl=False)


@registry.command()
@click.argument("subject", default="")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
def history(subject: str, limit: int) -> None:
    """Who changed what and when, newest first; of one SUBJECT (H99.15, dossier.transfer/1) or of all."""
    with _open_store() as store:
        events = store.events(subject=subject, limit=limit)
    table = Table("when", "who", "action", "kind", "subject", "revision", "after (sha256)")
    for event in events:
        after = event["after_sha256"][:12]
        words = (event["actor"], event["action"], event["kind"], event["subject"], str(event["revision"]), after)
        table.add_row(f"{event['occurred_at'].astimezone(VIETNAM):%Y-%m-%d %H:%M:%S}", *words)
    console().print(table)


@registry.group()
def secret() -> None:
    """Sealed secrets of connectors. Their values go in and never come out."""


@secret.command("set")
@click.argument("name")
def set_secret(name: str) -> None:
    """Keep the secret NAME; its value is read from standard input, or asked for on a terminal."""
    if len(name) > 100 or not SECRET_NAME.fullmatch(name):
        _refuse(["A secret's name is words of a-z and 0-9 with '.', '_' or '-' between them, 100 characters at most."])
    value = str(click.prompt("Value", hide_input=True)) if sys.stdin.isatty() else sys.stdin.read().rstrip("\r\n")
    if not value:
        _refuse(["The value is empty."])
    with _open_store() as store:
        _settings().key_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sealed = SecretBox.load_or_create(_settings().master_key_path).seal(name, value.encode())
        store.put_secret(name, sealed, actor=actor())
    click.echo(f"secret {name} kept")


@secret.command("list")
def list_secrets() -> None:
    """Names of the secrets that are kept."""
    with _open_store() as store:
        for name in store.secret_names():
            click.echo(name)


@registry.command("client-secret")
@click.argument("system")
def client_secret(system: str) -> None:
    """Give a SYSTEM a new client secret for fetching tokens, print it once, keep only its hash."""
    with _open_store() as store:
        directory = store.load()
        held = directory.system(system)
        if held is None:
            _refuse(["There is no such system."])
        value = new_secret()
        changed = replace(held, client_secret_hash=hash_secret(value))
        store.apply(plan_changes(directory, [changed]), actor())
    click.echo(value)


# What the commands share


def _settings() -> Settings:
    settings: Settings = click.get_current_context().meta["lgsp.settings"]
    return settings


def _language() -> Language:
    session = click.get_current_context().find_object(object)
    language: Language = getattr(session, "language", "en")
    return language


@contextmanager
def _open_store() -> Iterator[RegistryStore]:
    """The registry's store; a problem inside becomes its text and exit code 2."""
    engine = open_engine(_settings())
    store = RegistryStore(engine)
    try:
        if not store.is_ready():
            click.echo("The store holds no registry yet. Run `lgsp init` first.", err=True)
            raise click.exceptions.Exit(FAILED)
        yield store
    except Problem as problem:
        _refuse(problem_lines(problem, _language()))
    finally:
        engine.dispose()


def _refuse(lines: Sequence[str]) -> NoReturn:
    for line in lines:
        click.echo(line, err=True)
    raise click.exceptions.Exit(REFUSED)


def _carry_out(store: RegistryStore, changes: Changes, *, dry_run: bool) -> None:
    for line in difference_lines(changes):
        click.secho(line, fg=SIGN_COLOURS.get(line[0]))
    if dry_run:
        click.echo("dry run: nothing was written")
    elif changes.steps:
        click.echo(f"applied: revision {store.apply(changes, actor())}")


def _named(directory: Directory, code: str) -> list[Entry]:
    agency = directory.agency(code)
    found: list[Entry] = [agency] if agency else []
    for entry in everything(directory):
        names = {subject_of(entry), str(getattr(entry, "code", ""))}
        if code in names and not isinstance(entry, Agency):
            found.append(entry)
    return found


def _public(entry: Entry) -> dict[str, Any]:
    facts = {name: value for name, value in plain(entry).items() if name not in NEVER_WRITTEN}
    return {"kind": kind_of(entry), **facts}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


_COLUMNS: dict[str, dict[str, Callable[[Any], object]]] = {
    "agencies": {
        "code": lambda agency: agency.code,
        "name": lambda agency: agency.name,
        "parent": lambda agency: agency.parent or "",
        "aliases": lambda agency: ", ".join(agency.aliases),
    },
    "systems": {
        "code": lambda system: system.code,
        "name": lambda system: system.name,
        "mode": lambda system: "sends only" if system.sends_only else system.mode,
        "connector": lambda system: system.endpoint.connector if system.endpoint else "",
        "receives": lambda system: ", ".join(system.receives) or "(all)",
        "keys": lambda system: len(system.certificates),
        "suspended": lambda system: "yes" if system.suspended else "",
    },
    "services": {
        "service": lambda service: service.key,
        "name": lambda service: service.name,
        "owner": lambda service: service.owner,
        "pattern": lambda service: service.pattern,
        "stage": lambda service: service.stage,
        "grade": lambda service: service.grade,
        "sunset": lambda service: _local(service.sunset),
    },
    "grants": {
        "id": lambda grant: grant.id,
        "service": lambda grant: grant.service,
        "grantee": lambda grant: grant.grantee + (" and below" if grant.include_children else ""),
        "receivers": lambda grant: ", ".join(grant.receivers) or "(any)",
        "purposes": lambda grant: ", ".join(grant.purposes) or "(any)",
        "expires": lambda grant: _local(grant.expires_at),
    },
    "subscriptions": {
        "id": lambda subscription: subscription.id,
        "system": lambda subscription: subscription.system,
        "types": lambda subscription: ", ".join(subscription.types),
        "delivery": lambda subscription: subscription.delivery,
        "units": lambda subscription: ", ".join(subscription.units) or "(all)",
        "procedures": lambda subscription: ", ".join(subscription.procedures) or "(all)",
        "senders": lambda subscription: ", ".join(subscription.senders) or "(all)",
    },
}


def _listing(kind: str, entries: Sequence[Entry]) -> Table:
    columns = _COLUMNS[kind]
    table = Table(*columns)
    for entry in entries:
        table.add_row(*(str(columns[name](entry)) for name in columns))
    return table


def _facts(entry: Entry) -> Table:
    """What a person wants to know: keys by name and date, schemas by size and digest. All else is in ``--json``."""
    table = Table("fact", "value", title=f"{kind_of(entry)} {subject_of(entry)}", title_justify="left")
    for field in fields(entry):
        if field.name not in NEVER_WRITTEN:
            table.add_row(field.name, _readable(getattr(entry, field.name)))
    return table


def _readable(value: Any) -> str:
    match value:
        case None | () | "":
            return "-"
        case datetime():
            return _local(value)
        case Certificate():
            revoked = f", revoked {_local(value.revoked_at)}" if value.revoked_at else ""
            return f"key {value.key_id} until {_local(value.not_after)}{revoked}"
        case tuple():
            return "\n".join(_readable(item) for item in value)
        case Mapping():
            return _digest("JSON Schema", json.dumps(value, ensure_ascii=False))
        case str() if len(value) > 300:
            return _digest("XSD", value)
        case Endpoint() | RetryPolicy() | Quota():
            return "\n".join(f"{name}: {fact}" for name, fact in plain(value).items())
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


def _digest(what: str, text: str) -> str:
    return f"{what}, {len(text.encode())} bytes, sha256 {sha256_hex(text.encode())[:12]}…"


def _local(moment: datetime | None) -> str:
    """As people in Vietnam read it."""
    return f"{moment.astimezone(VIETNAM):%Y-%m-%d %H:%M} +07" if moment else ""
