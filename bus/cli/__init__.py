"""``lgsp``, the one command line.

Each command lives in a module of its own, which is imported when the command is asked for: a command that only reads a
file must not wait for a web server's libraries. Exit codes: 0 done, 1 failed (the machine, the other side), 2 refused
or wrongly used; nobody needs to read a stack trace, ``--debug`` shows it to those who want to.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from bus.settings import BadSetting, Settings, child_environment, load_settings, user_language, without_password
from schemas.problem import InternalFailure, Language, Problem, Refused

#: Exit code when the machine or the other side did not do its part.
FAILED = 1
#: Exit code of a refusal, as click uses it for a wrong command line.
REFUSED = 2

#: Section → command → (where it lives, what the list of commands says of it).
_COMMANDS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Run the bus": {
        "demo": ("bus.cli.demo:demo", "A province on this machine, and the story of one dossier."),
        "init": ("bus.cli:init", "Make keys, store and folders of a new bus."),
        "serve": ("bus.cli:serve", "Serve members over HTTP."),
        "work": ("bus.cli:work", "Deliver what was accepted."),
        "nodes": ("bus.cli.nodes:nodes", "The processes that serve and deliver, on all machines."),
        "upgrade": ("bus.cli.nodes:upgrade", "Bring the store to this version while nodes run."),
        "health": ("bus.cli.health:health", "Is the process of this machine well? For containers."),
        "doctor": ("bus.cli.doctor:doctor", "Show every setting and check that all is well."),
        "sandbox": ("bus.cli.sandbox:sandbox", "Run simulated partner systems to try things on."),
    },
    "Who may do what": {
        "registry": ("bus.cli.registry:registry", "Agencies, systems, data services and grants."),
        "people": ("bus.cli.people:people", "Who may sign in to the console, and as what."),
        "broker": ("bus.cli.broker:broker", "Members who consume straight from RabbitMQ."),
        "events": ("bus.cli.events:events", "Subscriptions to events, and how far each was told."),
        "key": ("bus.cli.keys:key", "Make, show and rotate signing keys and certificates."),
    },
    "Talk over the bus": {
        "send": ("bus.cli.member:send", "Send a message and print the receipt."),
        "call": ("bus.cli.member:call", "Ask a provider and print its checked reply."),
        "inbox": ("bus.cli.member:inbox", "Fetch, save and acknowledge what waits for a system."),
        "edxml": ("bus.cli.packets:edxml", "Recall, answer or unpack a document of the axis."),
        "catalogue": ("bus.cli.catalogue:catalogue", "Pull the national procedures; where does ours differ?"),
        "post": ("bus.cli.post:post", "Read the post's feed of parcels."),
    },
    "Look after messages": {
        "trace": ("bus.cli.tracing:trace", "Tell the story of a message or a dossier."),
        "search": ("bus.cli.searching:search", "Find messages by agency, service, state, time."),
        "stats": ("bus.cli.stats:stats", "What units did with their dossiers in a time."),
        "payments": ("bus.cli.payments:payments", "A day's payments here and at the platform."),
        "petitions": ("bus.cli.petitions:petitions", "Petitions, the same ones together, and their clocks."),
        "ratings": ("bus.cli.ratings:ratings", "What people said of dossiers' handling in a month."),
        "replay": ("bus.cli.replaying:replay", "List dead letters and send them again."),
        "process": ("bus.cli.processes:process", "Long flows: which there are, where each stands."),
        "evidence": ("bus.cli.proving:evidence", "Export and verify proof of what happened."),
        "backup": ("bus.cli.backup:backup", "Write the whole bus into one sealed file, or check one."),
        "restore": ("bus.cli.backup:restore", "Bring a bus back from a backup, and prove it."),
        "bench": ("bus.cli.bench:bench", "Measure the bus against its goals."),
    },
}


@dataclass
class Session:
    """What the options before the command say. The settings are read when a command first asks for them."""

    home: Path | None = None
    config: Path | None = None
    debug: bool = False
    language: Language = field(default_factory=user_language)

    @cached_property
    def settings(self) -> Settings:
        """Raises BadSetting."""
        return load_settings({"home": self.home}, config=self.config)


class LazyGroup(click.Group):
    """Knows its commands by name, imports one when it is asked for, and turns failures into sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in _COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for section in _COMMANDS.values():
            if cmd_name in section:
                module, _, attribute = section[cmd_name][0].partition(":")
                command: click.Command = getattr(import_module(module), attribute)
                return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in _COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, words) for name, (_, words) in commands.items()], col_spacing=4)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            session = ctx.obj if isinstance(ctx.obj, Session) else Session()
            if session.debug:
                raise
            _explain(error, session)


@click.group(
    "lgsp",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Every command explains itself: lgsp COMMAND --help. A bus on this machine, in three terminals: "
    "`lgsp init && lgsp serve`, `lgsp work`, `lgsp doctor`.",
)
@click.option(
    "--home",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of keys, embedded store and attachments (LGSP_HOME).",
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with settings (LGSP_CONFIG).",
)
@click.option("--language", type=click.Choice(["vi", "en"]), help="Language of problems; else that of the terminal.")
@click.option("--debug", is_flag=True, help="Show stack traces.")
@click.version_option(package_name="lgsp-bus", prog_name="lgsp", message="%(prog)s %(version)s")
@click.pass_context
def lgsp(
    context: click.Context, home: Path | None, config: Path | None, language: Language | None, debug: bool
) -> None:
    """The data bus of a province: signed, validated, traced and provable exchange between agencies.

    Settings come from the environment (LGSP_...) or one TOML file; `lgsp doctor` lists them all.
    """
    context.obj = Session(home=home, config=config, debug=debug, language=language or user_language())


@click.command()
@click.pass_obj
def init(session: Session) -> None:
    """Make what a bus needs and does not have yet: signing keys, the evidence log's key, the store's tables.

    What is there already stays as it is, so it is safe to run again, also after an update of the program.

    \b
    Example:
      lgsp --home /srv/lgsp init
    """
    from bus.setup import FIRST_PERSON, first_person, initialise

    settings = session.settings
    was_there = _has_keys(settings)
    initialise(settings)
    password = first_person(settings)
    click.echo("The bus was set up before; its tables are up to date." if was_there else "The bus is set up.")
    click.echo()
    for what, where in (
        ("home", settings.home.resolve()),
        ("keys", settings.key_folder.resolve()),
        ("store", without_password(settings.effective_store_url)),
        ("speaks as", settings.system),
        ("address", settings.public_url),
        ("console", f"{settings.public_url}/console/"),
    ):
        click.echo(f"  {what:<10} {where}")
    if password:
        click.echo(f"\nSign in to the console as {FIRST_PERSON} with {password} (told this once, to be changed there).")
    at_home = f" --home {session.home}" if session.home else ""
    click.echo("\nNext, each in a terminal of its own:\n")
    for command, words in (
        ("serve", "members reach the bus"),
        ("work", "messages are delivered"),
        ("doctor", "is everything well?"),
        ("registry apply FILE", "say who takes part"),
    ):
        click.echo(f"  lgsp{at_home} {command:<22} {words}")
    click.echo("\nKeep a copy of the key folder in a safe place: what it signed cannot be signed again without it.")


@click.command()
@click.option("--host", help="Address to listen on (LGSP_HOST).")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on (LGSP_PORT).")
@click.option("--processes", type=click.IntRange(1), help="Web processes (LGSP_SERVE_PROCESSES).")
@click.pass_obj
def serve(session: Session, host: str | None, port: int | None, processes: int | None) -> None:
    """Serve members over HTTP until SIGTERM or Ctrl-C; requests under way are answered first.

    \b
    Example:
      lgsp serve --port 8080
    """
    settings = _with(session, host=host, port=port, serve_processes=processes)
    _must_have_keys(settings)
    click.echo(f"lgsp serves http://{settings.host}:{settings.port} (Ctrl-C ends it)", err=True)
    become("bus.web.server", settings)


@click.command()
@click.pass_obj
def work(session: Session) -> None:
    """Deliver accepted messages until SIGTERM or Ctrl-C; deliveries under way end first.

    Several may run beside each other, on one machine or, with PostgreSQL, on many.
    """
    settings = session.settings
    _must_have_keys(settings)
    if settings.timestamp_urls:
        from bus.timestamps import timestamp_trust

        timestamp_trust(settings)  # said here, where somebody reads it
    click.echo("lgsp delivers (Ctrl-C ends it)", err=True)
    become("bus.work", settings)


def main() -> None:
    """Entry point of the program."""
    lgsp(prog_name="lgsp")


# What the commands share


def become(module: str, settings: Settings) -> NoReturn:
    """Replace this process by ``python -m module`` with the same settings and the same code."""
    code = str(Path(__file__).resolve().parent.parent.parent)
    environment = child_environment(settings)
    # Its values are in the environment by now; the child must not read another file's over them.
    environment.pop("LGSP_CONFIG", None)
    paths = [code, *filter(None, [environment.get("PYTHONPATH")])]
    sys.stdout.flush()
    # -P: a folder called "bus" where the operator happens to stand must not be imported instead of ours.
    os.execve(  # noqa: S606  # no shell is wanted
        sys.executable,
        [sys.executable, "-P", "-m", module],
        {**environment, "PYTHONPATH": os.pathsep.join(paths)},
    )


def fail(sentence: str, code: int = FAILED) -> NoReturn:
    """End with a sentence on standard error."""
    click.echo(sentence, err=True)
    raise click.exceptions.Exit(code)


def _with(session: Session, **overrides: object) -> Settings:
    return load_settings({"home": session.home, **overrides}, config=session.config)


def _has_keys(settings: Settings) -> bool:
    return (settings.ring_folder / "ring.json").exists()


def _must_have_keys(settings: Settings) -> None:
    if settings.restore_mark_path.exists():
        raise InternalFailure("restore-incomplete")
    if not _has_keys(settings):
        fail(f"There is no bus in {settings.home} yet. Run `lgsp init` first, or name its folder with --home.")


def _explain(error: Exception, session: Session) -> NoReturn:
    """The sentence for a failure, and its exit code. A stack trace helps nobody who did not write the program."""
    if isinstance(error, Problem):
        lines = [error.detail(session.language)]
        lines += [f"  {place.pointer or '(whole document)'}: {place.said(session.language)}" for place in error.errors]
        fail("\n".join(lines), REFUSED if isinstance(error, Refused) else FAILED)
    if isinstance(error, BadSetting):
        fail(f"{error}.", REFUSED)
    name = type(error).__name__
    if name == "NotInitialised":  # its module is heavy, and only commands that loaded it can raise it
        fail(f"There is no bus in {session.settings.home} yet. Run `lgsp init` first, or name its folder with --home.")
    if name == "StoreUnfit":
        fail(f"{error}.".replace("..", "."))
    if isinstance(error, OSError):
        place = f" ({error.filename})" if error.filename else ""
        fail(f"The system said: {error.strerror or name}{place}.")
    if type(error).__module__.startswith(("sqlalchemy", "psycopg", "sqlite3")):
        fail(f"The store did not answer as it should ({name}). `lgsp doctor` says what is wrong with it.")
    fail(f"This should not happen ({name}). Run the same command with `lgsp --debug ...` and report what it prints.")
