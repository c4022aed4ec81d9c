"""``lgsp backup`` and ``lgsp restore``: the whole bus in one sealed file, and back."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bus.cli import FAILED, REFUSED, Session, fail
from bus.cli.keys import read_password
from bus.cli.proving import in_words_of_witness
from bus.cli.terminal import local, print_json, printable, session_of, span
from bus.settings import without_password
from schemas.moment import from_wire, to_wire
from schemas.problem import Language

if TYPE_CHECKING:
    from bus.backup import Progress
    from bus.backup.checking import Checked, Witnessed
    from bus.backup.making import Made
    from bus.backup.restoring import Restored
    from security.sealed_stream import Opener, Passphrase, Recipient
    from security.verifier import Trust

_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW = click.Path(dir_okay=False, path_type=Path)
#: How often a person sees how far it is.
_SHOW_SECONDS = 1.0

_WRITTEN = {"en": "The backup is written.", "vi": "Đã ghi xong bản sao lưu."}
_WHOLE = {
    "en": "YES: the backup is whole, and its evidence holds.",
    "vi": "ĐÚNG: bản sao lưu nguyên vẹn, bằng chứng hợp lệ.",
}
_BACK = {
    "en": "The bus is back, and its evidence holds.",
    "vi": "Trục đã được khôi phục, bằng chứng hợp lệ.",
}
_MISSING = {
    "en": "Attachments that the store speaks of and that are missing or damaged: {count}",
    "vi": "Số tệp đính kèm mà kho có ghi nhưng thiếu hoặc hỏng: {count}",
}
_UNDERWAY = {
    "en": "Under way at that moment, and due again: {count}. Their receivers may get them a second time, under the "
    "same idempotency key.",
    "vi": "Đang chuyển dở tại thời điểm đó và sẽ được gửi lại: {count}. Bên nhận có thể nhận lần hai với cùng khoá "
    "chống trùng.",
}

key_option = click.option("--key", "key_file", type=_EXISTING, help="The backup key (`lgsp key backup` made it).")
key_password_option = click.option(
    "--key-password-file",
    type=_EXISTING,
    help="File whose first line is the password of the backup key, if it has one.",
)
passphrase_option = click.option(
    "--passphrase-file",
    type=_EXISTING,
    help="File whose first line is the passphrase. Without key and file: asked for.",
)
trust_option = click.option(
    "--trust", "trust_file", type=_EXISTING,
    help="Trust file that was handed out before: the backup's log must be in it. Else whoever had the public key could "
    "have made the backup.",
)  # fmt: skip
checkpoint_option = click.option(
    "--checkpoint", type=_EXISTING,
    help="The newest checkpoint that a member or witness holds: is all that it saw in the backup?",
)  # fmt: skip


@click.command()
@click.option("--out", type=_NEW, help="File to write. Appears when it is complete; never overwritten.")
@click.option("--recipient", "recipients", multiple=True, help="Public key that it is sealed for, or a file with it.")
@passphrase_option
@click.option(
    "--exclude-bodies", is_flag=True,
    help="Leave out payloads, replies and attachments that were delivered; evidence, records and what waits stay.",
)  # fmt: skip
@click.option("--check", "checked", type=_EXISTING, help="Write nothing: is this file whole, and does its proof hold?")
@key_option
@key_password_option
@trust_option
@checkpoint_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def backup(
    context: click.Context, out: Path | None, recipients: Sequence[str], passphrase_file: Path | None,
    exclude_bodies: bool, checked: Path | None, key_file: Path | None, key_password_file: Path | None,
    trust_file: Path | None, checkpoint: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Write store, attachments, keys and registry of one moment into one sealed file, while the bus goes on working.

    Sealed for one or more public keys (the machine then holds nothing that opens it), for a passphrase, or for both.
    Settings are told in it, not restored from it. Exit code 0: written, or whole. 1: written, but files are missing;
    or the machine failed. 2: refused, or the file is no good.

    \b
    Once, on a machine that is not the bus:
      lgsp key backup --out backup.key               (prints the public key: lgsp-backup-…)
    Each night:
      lgsp backup --out /backup/lgsp-2026-04-23.backup --recipient lgsp-backup-…
    Each month, where the key is:
      lgsp backup --check lgsp-2026-04-23.backup --key backup.key --trust trust.json
    """
    session = session_of(context)
    if (out is None) == (checked is None):
        fail("Name a file to write (--out) or one to check (--check).", REFUSED)
    if checked is not None:
        opener = _opener(key_file, key_password_file, passphrase_file)
        _check(session, checked, opener, _trust(trust_file), _text(checkpoint), as_json=as_json)
    elif out is not None:
        if key_file or trust_file or checkpoint:
            fail("--key, --trust and --checkpoint belong to --check.", REFUSED)
        _make(session, out, _recipients(recipients, passphrase_file), bodies=not exclude_bodies, as_json=as_json)


@click.command()
@click.argument("file", type=_EXISTING)
@key_option
@key_password_option
@passphrase_option
@trust_option
@checkpoint_option
@click.option(
    "--force", is_flag=True,
    help="Also over a bus without any evidence (its keys are kept aside), and after a restore that was broken off.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def restore(
    context: click.Context, file: Path, key_file: Path | None, key_password_file: Path | None,
    passphrase_file: Path | None, trust_file: Path | None, checkpoint: Path | None, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Bring back the bus in FILE into an empty home and an empty store, SQLite or PostgreSQL, whichever it came from.

    The whole file is checked before anything is written; then every entry of the evidence log, every signature and
    every message is proven before the store appears. What was under way is due again. No log with entries in it is ever
    replaced. Exit code 0: the bus is back. 1: the machine failed. 2: refused; nothing was restored.

    \b
    Examples:
      lgsp --home /srv/lgsp restore lgsp-2026-04-23.backup --key backup.key --trust trust.json
      LGSP_STORE_URL=postgresql+psycopg://… lgsp restore embedded.backup --passphrase-file phrase.txt
    """
    from bus.backup.restoring import restore_backup
    from bus.logs import no_logs

    session = session_of(context)
    opener = _opener(key_file, key_password_file, passphrase_file)
    trust, witness = _trust(trust_file), _text(checkpoint)
    with no_logs(), file.open("rb") as opened, _Shown() as shown:
        restored = restore_backup(
            session.settings, opened, opener, force=force, trust=trust, witness=witness, progress=shown.tell
        )
    if as_json:
        print_json(_restored_document(restored))
        return
    _tell_restored(session, restored)


# --- making ----------------------------------------------------------------------------------------------------------


def _make(session: Session, out: Path, recipients: Sequence[Recipient], *, bodies: bool, as_json: bool) -> None:
    from bus.backup.making import make_backup
    from bus.cli.opened import opened_bus

    if out.exists():
        fail(f"{out} is there already, and a backup is never overwritten. Choose another name.", REFUSED)
    with opened_bus(session) as bus, _Shown() as shown:
        made = make_backup(
            bus.settings, bus.store, bus.log, out, recipients, bodies=bodies, progress=shown.tell
        )  # fmt: skip
    if as_json:
        print_json(_made_document(made, out))
    else:
        _tell_made(session.language, made, out)
    if made.missing_count:
        raise click.exceptions.Exit(FAILED)


def _made_document(made: Made, out: Path) -> dict[str, Any]:
    return {
        "id": made.id,
        "file": str(out),
        "bytes": made.bytes,
        "created_at": to_wire(made.created_at),
        "seconds": round(made.seconds, 3),
        "entries": made.entries,
        "rows": made.rows,
        "attachments": made.attachments,
        "missing": made.missing,
        "missing_count": made.missing_count,
    }


def _tell_made(language: Language, made: Made, out: Path) -> None:
    click.echo(_WRITTEN[language])
    _tell_facts(
        {
            "file": f"{out} ({_size(made.bytes)})",
            "moment": f"{local(made.created_at)} (Vietnam), took {span(timedelta(seconds=made.seconds))}",
            "evidence": f"{made.entries} entries",
            "messages": f"{made.rows['exchanges']}, {made.rows['payloads']} with their body",
            "files": f"{made.attachments} attachments",
        }
    )
    _tell_missing(language, made.missing, made.missing_count)


# --- checking --------------------------------------------------------------------------------------------------------


def _check(
    session: Session, file: Path, opener: Opener, trust: Trust | None, witness: str | None, *, as_json: bool
) -> None:
    from bus.backup.checking import check_backup

    with file.open("rb") as opened, _Shown() as shown:
        checked = check_backup(opened, opener, trust=trust, witness=witness, progress=shown.tell)
    if as_json:
        print_json({**_about(checked.header), **checked.closing, **_witness_document(checked.witnessed),
                    "log_key": checked.log_key})  # fmt: skip
        return
    _tell_checked(session.language, checked, trusted=trust is not None)


def _tell_checked(language: Language, checked: Checked, *, trusted: bool) -> None:
    closing = checked.closing
    _tell_header(checked.header)
    _tell_facts(
        {
            "evidence": f"{checked.size} entries, all recomputed",
            "log key": checked.log_key,
            "messages": f"{closing['rows']['exchanges']}, {closing['rows']['payloads']} with their body",
            "files": f"{closing['attachments']} attachments ({_size(closing['attachment_bytes'])})",
        }
    )
    _tell_missing(language, closing["missing"], closing["missing_count"])
    _tell_witnessed(language, checked.witnessed)
    click.secho(_WHOLE[language], fg="green")
    if not trusted:
        click.echo("(compare the log key with the trust file that was handed out, or name it: --trust)", err=True)


def _about(header: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: header[name] for name in ("id", "created_at", "program", "revision", "dialect", "bodies", "system")},
        "log": header["log"],
        "settings": header["settings"],
    }


def _tell_header(header: Mapping[str, Any]) -> None:
    bodies = "" if header["bodies"] else ", without bodies of delivered messages"
    _tell_facts(
        {
            "backup": f"{header['id']}{bodies}",
            "moment": f"{local(from_wire(header['created_at']))} (Vietnam)",
            "bus": f"{header['system']}, log {header['log']['origin']}",
            "made by": f"lgsp-bus {header['program']} on {header['dialect']}, tables at {header['revision']}",
        }
    )


# --- restoring -------------------------------------------------------------------------------------------------------


def _restored_document(restored: Restored) -> dict[str, Any]:
    return {
        **_about(restored.header),
        "log_key": restored.log_key,
        "entries": restored.entries,
        "checkpoints": restored.checkpoints,
        "messages": restored.messages,
        "bodies_proven": restored.bodies,
        "deliveries": restored.deliveries,
        "attachments": restored.attachments,
        "missing": restored.missing,
        "missing_count": restored.missing_count,
        **_witness_document(restored.witnessed),
    }


def _tell_restored(session: Session, restored: Restored) -> None:
    language, settings = session.language, session.settings
    _tell_header(restored.header)
    states = ", ".join(f"{count} {state}" for state, count in sorted(restored.deliveries.items()))
    _tell_facts(
        {
            "home": str(settings.home.resolve()),
            "store": without_password(settings.effective_store_url),
            "evidence": f"{restored.entries} entries and {restored.checkpoints} checkpoints, all recomputed",
            "log key": restored.log_key,
            "messages": f"{restored.messages} held against their entries, {restored.bodies} with their body",
            "deliveries": states or "none",
            "files": f"{restored.attachments} attachments",
        }
    )
    _tell_missing(language, restored.missing, restored.missing_count)
    if restored.deliveries.get("delivering"):
        click.echo(_UNDERWAY[language].format(count=restored.deliveries["delivering"]))
    _tell_witnessed(language, restored.witnessed)
    told = restored.header["settings"]
    if told:
        click.echo("The bus had these settings; they are not restored:")
        _tell_facts({f"LGSP_{name.upper()}": str(value) for name, value in told.items()})
    click.secho(_BACK[language], fg="green")
    click.echo("Next: `lgsp doctor --full`, then start it. Members see a log that may be shorter: tell them.")


# --- what both say ---------------------------------------------------------------------------------------------------


def _tell_facts(facts: Mapping[str, str]) -> None:
    width = max(11, *(len(name) for name in facts))
    for name, value in facts.items():
        click.echo(f"  {name:<{width}} {printable(value)}")


def _tell_missing(language: Language, missing: Sequence[str], count: int) -> None:
    if not count:
        return
    click.secho(_MISSING[language].format(count=count), fg="yellow")
    for digest in missing:
        click.echo(f"  ✗ {printable(digest)}")
    if count > len(missing):
        click.echo(f"  … and {count - len(missing)} more")


def _tell_witnessed(language: Language, witnessed: Witnessed | None) -> None:
    if witnessed is not None:
        click.echo(in_words_of_witness(witnessed.size, witnessed.missing, language))


def _witness_document(witnessed: Witnessed | None) -> dict[str, Any]:
    return {"witnessed": None if witnessed is None else {"size": witnessed.size, "missing": witnessed.missing}}


def _size(length: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if length >= size:
            return f"{length / size:.1f} {unit}"
    return f"{length} bytes"


class _Shown:
    """Tells a person at a terminal how far it is, on one line of standard error; in a pipe nothing."""

    def __init__(self) -> None:
        self._watched = sys.stderr.isatty()
        self._shown_at = time.monotonic()
        self._width = 0
        self.tell: Progress = self._tell

    def __enter__(self) -> _Shown:
        return self

    def __exit__(self, *_: object) -> None:
        if self._width:
            click.echo(f"\r{'':<{self._width}}\r", nl=False, err=True)

    def _tell(self, what: str, count: int) -> None:
        if not self._watched or time.monotonic() - self._shown_at < _SHOW_SECONDS:
            return
        self._shown_at = time.monotonic()
        line = f"{what} {count:,}"
        click.echo(f"\r{line:<{self._width}}", nl=False, err=True)
        self._width = max(self._width, len(line))


# --- who may open it -------------------------------------------------------------------------------------------------


def _recipients(named: Sequence[str], passphrase_file: Path | None) -> list[Recipient]:
    from security.sealed_stream import BackupRecipient

    recipients: list[Recipient] = []
    for name in named:
        file = Path(name)
        recipients.append(BackupRecipient.parse(file.read_text("ascii", "replace") if file.is_file() else name))
    if passphrase_file or not recipients:
        recipients.append(_passphrase(passphrase_file, confirm=True))
    return recipients


def _opener(key_file: Path | None, password_file: Path | None, passphrase_file: Path | None) -> Opener:
    from security.sealed_stream import BackupKey

    if key_file is None:
        return _passphrase(passphrase_file, confirm=False)
    if passphrase_file is not None:
        fail("Name the key or the passphrase: either opens it alone.", REFUSED)
    return BackupKey.load(key_file, password=read_password(password_file))


def _passphrase(file: Path | None, *, confirm: bool) -> Passphrase:
    from security.sealed_stream import Passphrase

    phrase = read_password(file)
    if phrase is None:
        ask: Callable[..., str] = click.prompt
        phrase = ask("Passphrase of the backup", hide_input=True, confirmation_prompt=confirm, err=True).encode()
    return Passphrase(phrase)


def _trust(file: Path | None) -> Trust | None:
    from security.verifier import Refuted, Trust

    if file is None:
        return None
    try:
        return Trust.read(file.read_bytes())
    except Refuted:
        fail("The trust file cannot be read.", REFUSED)


def _text(file: Path | None) -> str | None:
    return None if file is None else file.read_text("utf-8", "replace")
