"""``lgsp doctor``: every setting with its origin, and whether the bus on this machine is well.

A check looks and says; it repairs nothing. Three answers: well, look (it works, and somebody should know), wrong.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar
from urllib.parse import urlsplit

import click
from rich.table import Table

from bus.cli import FAILED, Session
from bus.cli.terminal import console, local, print_json, session_of, span
from bus.settings import Settings, setting_meanings, shown_settings
from schemas.moment import utc_now

if TYPE_CHECKING:
    from bus.assembly import Bus

#: A certificate that ends within so many days is work for this week, or for this month.
_WRONG_DAYS, _LOOK_DAYS = 7, 45
#: The file system's clock and the process's come from the same machine, unless the folder is a network share.
_CLOCK_SECONDS = 5.0
#: Well over what one failure costs.
_LONGEST_UNSTAMPED = timedelta(minutes=15)
T = TypeVar("T")

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", ""})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check saw. ``advice`` says what to do when it is not well."""

    state: Literal["well", "look", "wrong"]
    words: str
    advice: str = ""


def well(words: str) -> Finding:
    return Finding(state="well", words=words)


def look(words: str, advice: str) -> Finding:
    return Finding(state="look", words=words, advice=advice)


def wrong(words: str, advice: str) -> Finding:
    return Finding(state="wrong", words=words, advice=advice)


@click.command()
@click.option(
    "--full", is_flag=True, help="Recompute the whole evidence log; takes about a second per 100,000 entries."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def doctor(context: click.Context, full: bool, as_json: bool) -> None:
    """Show every setting with its origin, then check store, keys, clock, disk, evidence and processes.

    Exit code 1 when something is wrong; each check that fails says what to do.
    """
    session = session_of(context)
    settings = session.settings
    findings = list(_findings(session, full=full))
    failed = any(finding.state == "wrong" for _, finding in findings)
    if as_json:
        print_json(
            {
                "settings": {
                    name: {"value": value, "origin": origin, "meaning": meaning}
                    for name, value, origin, meaning in _settings_rows(settings)
                },
                "checks": [
                    {"check": name, "state": finding.state, "words": finding.words, "advice": finding.advice}
                    for name, finding in findings
                ],
                "well": not failed,
            }
        )
    else:
        _print(settings, findings)
    if failed:
        raise click.exceptions.Exit(FAILED)


def _settings_rows(settings: Settings) -> Iterator[tuple[str, str, str, str]]:
    """Name, value, origin, meaning. No secret is among them."""
    meanings = setting_meanings()
    for name, value in shown_settings(settings):
        yield name, value, settings.origins.get(name, "default"), meanings[name]


def _print(settings: Settings, findings: list[tuple[str, Finding]]) -> None:
    screen = console()
    table = Table("setting", "value", "from", "meaning", title="Settings", title_justify="left")
    for name, value, origin, meaning in _settings_rows(settings):
        table.add_row(name, value, origin, meaning, style="" if origin == "default" else "bold")
    screen.print(table)
    signs = {"well": ("✓", "green"), "look": ("!", "yellow"), "wrong": ("✗", "red")}
    for name, finding in findings:
        sign, colour = signs[finding.state]
        click.echo(f"{click.style(sign, fg=colour)} {name:<10} {finding.words}")
        if finding.advice:
            click.echo(f"{'':<13}→ {finding.advice}")
    counted = {state: sum(finding.state == state for _, finding in findings) for state in signs}
    verdict = f"{counted['wrong']} wrong" if counted["wrong"] else "Nothing is wrong"
    click.echo(f"\n{verdict}" + (f", {counted['look']} worth a look." if counted["look"] else "."))


# --- the checks, in the order in which one thing needs the other -----------------------------------------------------


def _findings(session: Session, *, full: bool) -> Iterator[tuple[str, Finding]]:
    settings = session.settings
    seen = {name: _made(check, settings) for name, check in _LOOSE_CHECKS.items()}
    yield from seen.items()
    if "wrong" in (seen["keys"].state, seen["store"].state) or settings.restore_mark_path.exists():
        return
    from bus.cli.opened import opened_bus

    with opened_bus(session) as bus:
        yield "registry", _made(_registry, bus)
        yield "evidence", _made(_evidence_in_full if full else _evidence, bus)
        yield "sealing", _made(_sealing, bus)
        yield "stamping", _made(_stamping, bus)
        yield "letters", _made(_dead_letters, bus)


def _made(check: Callable[[T], Finding], subject: T) -> Finding:
    try:
        return check(subject)
    except Exception as failure:  # whatever a driver or a damaged file raises: the other checks still matter
        return wrong(f"cannot be looked at ({type(failure).__name__})", "`lgsp --debug` shows where; see also above.")


def _home(settings: Settings) -> Finding:
    if not settings.home.is_dir():
        return wrong(f"{settings.home} is not there", "Run `lgsp init`, or name the right folder with --home.")
    if settings.restore_mark_path.exists():
        return wrong("a restore did not come to its end", "Run `lgsp restore FILE --force` again with the same file.")
    if settings.home.stat().st_mode & 0o022:
        return wrong("others may write into the home folder", f"chmod go-w {settings.home}")
    return well(str(settings.home.resolve()))


def _disk(settings: Settings) -> Finding:
    from bus.readiness import LEAST_FREE_BYTES

    usage = shutil.disk_usage(settings.home if settings.home.exists() else Path.cwd())
    words = f"{usage.free / 2**30:.1f} GiB free of {usage.total / 2**30:.1f}"
    if usage.free < LEAST_FREE_BYTES:
        return wrong(words, "Make room: a bus that cannot write takes no messages.")
    return look(words, "Plan for more room.") if usage.free < usage.total / 20 else well(words)


def _keys(settings: Settings) -> Finding:
    from schemas.identifiers import SystemCode
    from security.evidence.checkpoint import NoteKey
    from security.keys import KeyRing
    from security.secrets import SecretBox

    try:
        ring = KeyRing(settings.ring_folder, SystemCode(settings.system))
        NoteKey.load(settings.log_key_path, settings.log_origin)
        SecretBox.load(settings.master_key_path)
    except FileNotFoundError:
        return wrong("keys are missing", "Run `lgsp init` for a new bus; for an old one, bring them back from a copy.")
    record = ring.find_key(ring.current.key_id)
    days = (record.not_after - utc_now()).days if record else -1
    words = f"{ring.current.key_id} ({ring.current.algorithm}) signs, {days} days left"
    if days < _WRONG_DAYS:
        return wrong(words, "Run `lgsp key rotate`.")
    return look(words, "Run `lgsp key rotate` soon.") if days < _LOOK_DAYS else well(words)


def _file_modes(settings: Settings) -> Finding:
    open_ones = [
        path
        for path in (settings.key_folder, *settings.key_folder.rglob("*"))
        if path.exists() and path.stat().st_mode & 0o077
    ]
    if open_ones:
        return wrong(f"others may read {len(open_ones)} key files", f"chmod -R go-rwx {settings.key_folder}")
    return well("key files are readable by their owner alone")


def _clock(settings: Settings) -> Finding:
    """Against the file system's clock; the evidence's own moments are looked at under `sealing`."""
    folder = settings.home if settings.home.is_dir() else None
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as probe:
        probe.write(b".")
        probe.flush()
        apart = abs(os.fstat(probe.fileno()).st_mtime - time.time())
    words = f"{local(utc_now())} in Vietnam"
    if apart > _CLOCK_SECONDS:
        return wrong(
            f"{words}; the home's file system is {apart:.0f} s apart", "Let both machines follow one NTP server."
        )
    return well(words)


def _address(settings: Settings) -> Finding:
    url = urlsplit(settings.public_url)
    if url.scheme not in ("http", "https") or not url.hostname:
        return wrong("public_url is not an address", "Set LGSP_PUBLIC_URL to the https:// address that members use.")
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        return look(f"{settings.public_url} is not encrypted", "Put TLS in front, and set LGSP_PUBLIC_URL to https://.")
    return well(settings.public_url)


def _port(settings: Settings) -> Finding:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host  # noqa: S104  # compared, not bound
    try:
        socket.create_connection((host, settings.port), timeout=2).close()
    except OSError:
        return look(f"{settings.port} is free: nobody serves here", "Run `lgsp serve` if this machine shall.")
    return well(f"{settings.port} is in use: a server answers")


def _deliverer(settings: Settings) -> Finding:
    """Each `lgsp work` keeps a pipe in the wake folder, named after its process."""
    names = os.listdir(settings.wake_folder) if settings.wake_folder.is_dir() else []
    alive = [name for name in names if Path(f"/proc/{name.partition('-')[0]}").exists()]
    if not alive:
        return look("no `lgsp work` listens on this machine", "Run `lgsp work` if this machine shall deliver.")
    return well(f"{len(alive)} running")


def _store(settings: Settings) -> Finding:
    from bus.store import open_store, standing_of

    database = settings.effective_store_url.removeprefix("sqlite:///")
    if settings.effective_store_url.startswith("sqlite") and not Path(database).exists():
        return wrong("there is no store yet", "Run `lgsp init`.")
    store = open_store(settings)
    try:
        started = time.monotonic()
        standing = standing_of(store)
        took = timedelta(seconds=time.monotonic() - started)
    except Exception as failure:  # drivers differ in what they raise
        return wrong(f"does not answer ({type(failure).__name__})", "Check LGSP_STORE_URL, and that it is running.")
    finally:
        store.close()
    words = f"{standing.dialect} {standing.server_version}, answers in {span(took)}, tables at {standing.revision}"
    ours = standing.newest_revision
    if standing.revision < ours or standing.works_with > ours:
        advice = "Run `lgsp upgrade`." if standing.revision < ours else "The store is newer: install a newer version."
        return wrong(f"{words or 'empty'}, this program needs {ours}", advice)
    if not standing.durable:
        return wrong(f"{words}; a commit is not flushed", "Set synchronous_commit and fsync on: receipts promise it.")
    if standing.works_with < standing.revision:
        advice = "Restart older nodes (`lgsp nodes`), then run `lgsp upgrade --finish`."
        return look(f"{words}; programs of {standing.works_with} still work with them", advice)
    return well(words)


def _broker(settings: Settings) -> Finding:
    """A majority of the nodes must be there, or no queue takes anything."""
    from bus.broker.nodes import look_at_nodes

    seen = look_at_nodes(settings.broker_urls)
    lost = [node.node for node in seen if not node.reachable]
    if not seen:
        return well("the store is the queue")
    words = f"{len(seen) - len(lost)} of {len(seen)} nodes can be reached"
    if 2 * len(lost) >= len(seen):
        return wrong(f"{words}; not {', '.join(lost)}", "Start RabbitMQ; until then what is accepted waits.")
    return (
        look(f"{words}; not {', '.join(lost)}", "Bring the node back before another one goes.") if lost else well(words)
    )


def _registry(bus: Bus) -> Finding:
    directory = bus.directory.current()
    words = f"{len(directory.agencies)} agencies, {len(directory.systems)} systems, {len(directory.services)} services"
    if not directory.agencies:
        return look(words, "Say who takes part: `lgsp registry apply FILE`.")
    soon = utc_now() + timedelta(days=_LOOK_DAYS)
    ending = [
        system.code for system in directory.systems.values() if system.keys_end is not None and system.keys_end < soon
    ]
    if ending:
        shown = ", ".join(ending[:5]) + (" …" if len(ending) > 5 else "")
        return look(f"{words}; keys end within {_LOOK_DAYS} days: {shown}", "Ask these members for new certificates.")
    return well(words)


def _evidence(bus: Bus) -> Finding:
    """The latest checkpoint's signature, and that its last entry leads to its root through the stored tiles."""
    from security.evidence.checkpoint import verify_checkpoint
    from security.evidence.tree import inclusion_holds, leaf_hash

    with bus.store.reading() as connection:
        checkpoint = bus.log.latest_checkpoint(connection)
        if checkpoint is None:
            return well("the log is empty")
        verify_checkpoint(checkpoint.note, bus.log.origin, bus.log.verifier)
        last = checkpoint.size - 1
        entry = bus.log.entry(connection, last)
        proof = bus.log.inclusion_proof(connection, last, checkpoint.size)
    if entry is None or not inclusion_holds(leaf_hash(entry), last, checkpoint.size, proof, checkpoint.root):
        return wrong("the log does not lead to its checkpoint", "Stop the bus, keep the store, `lgsp doctor --full`.")
    return well(f"{checkpoint.size} entries under a good checkpoint (--full recomputes all)")


def _evidence_in_full(bus: Bus) -> Finding:
    with bus.store.reading() as connection:
        audit = bus.log.verify_all(connection)
    if audit.faults:
        return wrong(f"{len(audit.faults)} faults: {audit.faults[0]}", "Stop the bus, keep the store, ask for help.")
    return well(f"all {audit.leaves} entries and {audit.checkpoints} checkpoints recomputed")


def _sealing(bus: Bus) -> Finding:
    from bus.readiness import LONGEST_UNSEALED

    now = utc_now()
    with bus.store.reading() as connection:
        standing = bus.log.standing(connection)
    if standing.sealed_at is not None and standing.sealed_at > now + timedelta(seconds=_CLOCK_SECONDS):
        ahead = span(standing.sealed_at - now)
        return wrong(f"the last checkpoint is {ahead} in the future", "Set the clock right before anything is signed.")
    if standing.waiting_since is not None and now - standing.waiting_since > LONGEST_UNSEALED:
        waiting = standing.size - standing.sealed
        return wrong(f"{waiting} entries wait to be sealed", "Run `lgsp work`: it seals every second.")
    return well(f"last checkpoint {local(standing.sealed_at)}" if standing.sealed_at else "nothing to seal yet")


def _stamping(bus: Bus) -> Finding:
    from bus.timestamps import timestamp_trust

    if timestamp_trust(bus.settings) is None:
        return well("no timestamp authority is asked")
    now = utc_now()
    with bus.store.reading() as connection:
        standing = bus.log.stamp_standing(connection)
    if standing.waiting_since is not None and now - standing.waiting_since > _LONGEST_UNSTAMPED:
        since = span(now - standing.waiting_since)
        advice = (
            "`lgsp work` logs `timestamp.failed` with the reason; is the authority there, and LGSP_TIMESTAMP_URL right?"
        )
        return look(f"no timestamp for {since}", advice)
    return well(f"last timestamp {local(standing.stamped_at)}" if standing.stamped_at else "nothing to stamp yet")


def _dead_letters(bus: Bus) -> Finding:
    from bus.records import State

    states = bus.ledger.states()
    dead = states.get(State.DEAD, 0)
    words = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no deliveries yet"
    return look(words, "`lgsp replay --list` shows the dead ones.") if dead else well(words)


#: Those that need only the settings.
_LOOSE_CHECKS: dict[str, Callable[[Settings], Finding]] = {
    "home": _home,
    "disk": _disk,
    "keys": _keys,
    "files": _file_modes,
    "clock": _clock,
    "address": _address,
    "port": _port,
    "deliverer": _deliverer,
    "store": _store,
    "broker": _broker,
}
