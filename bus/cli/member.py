"""``lgsp send``, ``call`` and ``inbox``: a member of the bus at the command line.

What is the same every time stands in a profile, ``lgsp.toml`` in the folder where one works or the file of
``--profile``; an option on the command line wins::

    bus = "http://127.0.0.1:8080"
    system = "H99.15/mot-cua"
    key = "mot-cua.pem"               # paths are relative to the profile
    # password_file, bus_keys, ca and purpose may stand here, too
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import click

from bus.cli import REFUSED, Session, fail
from bus.cli.keys import read_password
from bus.cli.terminal import local, print_json, printable, session_of
from connectors.client import MAX_ANSWER_BYTES, AgencyClient, InboxDelivery, new_message_id
from connectors.http import HttpSettings
from schemas.identifiers import AgencyCode, MessageId, SystemCode
from schemas.message import Receipt
from schemas.moment import to_wire, utc_now
from schemas.problem import Problem, ProviderFailure
from security.certificates import key_record, read_certificate
from security.keys import PublicKeyRecord, SigningKey

F = TypeVar("F", bound=Callable[..., Any])

PROFILE = Path("lgsp.toml")
_PATHS = frozenset({"key", "password_file", "bus_keys", "ca"})
_NAMES = frozenset({"bus", "system", "purpose"}) | _PATHS
#: A following inbox that lost its bus looks again after so many seconds.
_LOST_BUS_SECONDS = 5.0
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW = click.Path(dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Who speaks to which bus: options and profile, put together."""

    bus: str
    system: SystemCode
    key: Path
    password_file: Path | None = None
    bus_keys: Path | None = None
    ca: Path | None = None
    purpose: str = ""
    attempts: int = 5


def membership_options(command: F) -> F:
    """The options that say who speaks to which bus; read by `membership_of`."""
    for option in reversed(
        (
            click.option("--profile", type=_EXISTING, help="TOML file with these options; else lgsp.toml if there."),
            click.option("--bus", metavar="URL", help="Address of the bus."),
            click.option("--system", metavar="CODE", help="Your system's code, as in H99.15/mot-cua."),
            click.option("--key", type=_EXISTING, help="Your system's key file (PEM or PKCS#12)."),
            click.option("--password-file", type=_EXISTING, help="File whose first line is the key's password."),
            click.option("--bus-keys", type=_EXISTING, help="The bus's public keys (JWK Set or trust file), pinned."),
            click.option("--ca", type=_EXISTING, help="Certificate authority of the bus's TLS, PEM."),
            click.option("--attempts", type=click.IntRange(1, 100), help="Tries while the bus is away or busy (5)."),
        )
    ):
        command = option(command)
    return command


def _message_options(command: F) -> F:
    """The options that describe a message, the same for `send` and `call`."""
    for option in reversed(
        (
            click.option("--service", required=True, metavar="CODE[/V]", help="Service, with version if not 1."),
            click.option("--dossier", metavar="CODE", help="Dossier code (mã hồ sơ) that it belongs to."),
            click.option("--purpose", metavar="WORD", help="Stated purpose, where the grant asks for one."),
            click.option("--user", metavar="NAME", default="", help="Officer or account on whose behalf you act."),
            click.option("--as", "agency", metavar="CODE", help="Agency you speak for, if not your system's own."),
            click.option("--content-type", metavar="TYPE", help="Else told from the file: XML or JSON."),
            click.option("--id", "message_id", metavar="UUID", help="Message id; give it again to repeat a send."),
        )
    ):
        command = option(command)
    return command


@click.command()
@membership_options
@_message_options
@click.option("--to", "receivers", required=True, multiple=True, metavar="AGENCY", help="Receiver; repeat for more.")
@click.option("--attach", "attachments", multiple=True, type=_EXISTING, help="File to send along; repeat for more.")
@click.option("--out", type=_NEW, help="Also write the receipt to this file (`lgsp evidence verify` reads it).")
@click.option("--json", "as_json", is_flag=True, help="Print the receipt as one JSON object.")
@click.argument("file", type=click.File("rb"))
@click.pass_context
def send(
    context: click.Context,
    /,
    service: str,
    dossier: str | None,
    purpose: str | None,
    user: str,
    agency: str | None,
    content_type: str | None,
    message_id: str | None,
    receivers: tuple[str, ...],
    attachments: tuple[Path, ...],
    out: Path | None,
    as_json: bool,
    file: Any,
    **who: Any,
) -> None:
    """Sign FILE ("-": standard input), hand it to the bus and print the checked receipt.

    With the receipt the message is the bus's to deliver. When the outcome is unknown, send again with the same --id.

    \b
    Example:
      lgsp send --service dossier.transfer --to H99.16 ho-so.json
    """
    body = file.read()
    membership = membership_of(who)
    chosen = MessageId(message_id) if message_id else new_message_id()
    code, version = _service(service)
    with client_of(membership, session_of(context), agency) as client, _repeatable(chosen):
        receipt = client.send(
            code,
            [AgencyCode.parse(receiver) for receiver in receivers],
            body,
            dossier=dossier,
            purpose=membership.purpose if purpose is None else purpose,
            user=user,
            attachments=attachments,
            content_type=content_type or _content_type(file, body),
            service_version=version,
            message_id=chosen,
        )
    document = _receipt_document(receipt)
    if out is not None:
        write_whole(out, json.dumps(document, ensure_ascii=False, indent=2).encode() + b"\n")
    if as_json:
        print_json(document)
        return
    click.echo(f"{receipt.state:<10} {receipt.message_id}")
    click.echo(f"{'at':<10} {local(receipt.received_at)} (Vietnam)")
    click.echo(f"{'for':<10} {', '.join(receipt.receivers)}")
    click.echo(f"{'evidence':<10} {receipt.leaf}")


@click.command()
@membership_options
@_message_options
@click.option("--to", "receiver", required=True, metavar="AGENCY", help="The provider.")
@click.option(
    "--provider-key",
    "provider_keys",
    multiple=True,
    metavar="SYSTEM=FILE",
    help="Certificate of a provider that signs its replies itself; repeat for more.",
)
@click.option("--out", type=_NEW, help="Write the reply to this file instead of standard output.")
@click.option("--json", "as_json", is_flag=True, help="Print reply and manifest as one JSON object.")
@click.argument("file", type=click.File("rb"))
@click.pass_context
def call(
    context: click.Context,
    /,
    service: str,
    dossier: str | None,
    purpose: str | None,
    user: str,
    agency: str | None,
    content_type: str | None,
    message_id: str | None,
    receiver: str,
    provider_keys: tuple[str, ...],
    out: Path | None,
    as_json: bool,
    file: Any,
    **who: Any,
) -> None:
    """Ask a provider with FILE ("-": standard input) and print its reply, checked to belong to this question.

    The reply's exact bytes go to standard output, words about it to standard error.

    \b
    Example:
      echo '{"soDinhDanh": "099000000001"}' | lgsp call --service population.lookup --to G99 -
    """
    body = file.read()
    membership = membership_of(who)
    chosen = MessageId(message_id) if message_id else new_message_id()
    code, version = _service(service)
    with (
        client_of(membership, session_of(context), agency, _provider_keys(provider_keys)) as client,
        _repeatable(chosen),
    ):
        reply = client.call(
            code,
            AgencyCode.parse(receiver),
            body,
            dossier=dossier,
            purpose=membership.purpose if purpose is None else purpose,
            user=user,
            content_type=content_type or _content_type(file, body),
            service_version=version,
            message_id=chosen,
        )
    if out is not None:
        write_whole(out, reply.body)
    if as_json:
        print_json(
            {
                "message_id": chosen,
                "sender": reply.manifest.sender,
                "content_type": reply.content_type,
                "manifest": reply.manifest_jws,
                "body_base64": base64.b64encode(reply.body).decode("ascii"),
            }
        )
        return
    click.echo(f"checked reply of {reply.manifest.sender} to {chosen}, {len(reply.body)} bytes", err=True)
    if out is None:
        sys.stdout.buffer.write(reply.body)
        sys.stdout.buffer.flush()


@click.command()
@membership_options
@click.option("--wait", default=0, show_default=True, type=click.IntRange(0, 60), help="Seconds to wait for the first.")
@click.option("--max", "most", type=click.IntRange(1), help="Stop after so many messages.")
@click.option("--follow", is_flag=True, help="Go on for ever; a bus that is away is waited for.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to save to, one folder each.")
@click.option("--ack/--no-ack", default=None, help="Tell the bus that you have them. Default: when --out saves them.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON each, with the body.")
@click.pass_context
def inbox(
    context: click.Context,
    /,
    wait: int,
    most: int | None,
    follow: bool,
    out: Path | None,
    ack: bool | None,
    as_json: bool,
    **who: Any,
) -> None:
    """Fetch what waits for your system; each message is checked against the bus's receipt first.

    With --out a message is saved (body, manifest, receipt, attachments) and flushed to disk before it is
    acknowledged. Without acknowledgement it comes again when its lease is over.

    \b
    Examples:
      lgsp inbox                           look, and leave everything there
      lgsp inbox --out received            fetch all that is there
      lgsp inbox --out received --follow   fetch for ever
    """
    if ack and not (out or as_json):
        fail("--ack needs --out or --json: what is acknowledged and not kept is lost.", REFUSED)
    acknowledges = out is not None if ack is None else ack
    count = 0
    with client_of(membership_of(who), session_of(context)) as client, _ends_well(follow):
        for delivery in _fetched(client, wait, most, follow):
            saved = _save(delivery, out) if out else None
            _show(delivery, saved, as_json)
            count += 1  # here: who is told to end while the bus answers has it all the same
            if acknowledges:
                delivery.ack()
            if most is not None and count >= most:
                break
    if not as_json:
        click.echo(f"{count} message{'' if count == 1 else 's'}" + ("" if acknowledges else ", none acknowledged"))


# --- who speaks to which bus -----------------------------------------------------------------------------------------


def membership_of(options: dict[str, Any]) -> Membership:
    """Options over profile. Ends the command when something is missing."""
    chosen: Path | None = options.pop("profile")
    profile = _read_profile(chosen or PROFILE) if chosen or PROFILE.is_file() else {}
    values = profile | {name: value for name, value in options.items() if value is not None}
    missing = [name for name in ("bus", "system", "key") if not values.get(name)]
    if missing:
        fail(f"Missing: {', '.join(missing)}. Give --{missing[0]}, or write it into {chosen or PROFILE}.", REFUSED)
    return Membership(**{**values, "system": SystemCode(values["system"])})


def _read_profile(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        fail(f"The profile {path} is not TOML.", REFUSED)
    for name, value in values.items():
        if name not in _NAMES or not isinstance(value, str):
            fail(f"The profile {path} knows {', '.join(sorted(_NAMES))}, each a text, and nothing else.", REFUSED)
    return {name: path.parent / value if name in _PATHS else value for name, value in values.items()}


def client_of(
    membership: Membership,
    session: Session,
    agency: str | None = None,
    provider_keys: list[PublicKeyRecord] | None = None,
) -> AgencyClient:
    key = SigningKey.load(membership.key, password=read_password(membership.password_file))
    return AgencyClient(
        membership.bus,
        key,
        agency=agency,
        system=membership.system,
        bus_keys=_pinned_keys(membership.bus_keys),
        provider_keys=provider_keys or (),
        http=HttpSettings(ca_file=str(membership.ca or ""), max_reply_bytes=MAX_ANSWER_BYTES),
        language=session.language,
        attempts=membership.attempts,
    )


def _pinned_keys(path: Path | None) -> dict[str, Any] | None:
    """A JWK Set, or the bus keys of a trust file in the form of one."""
    if path is None:
        return None
    try:
        document = json.loads(path.read_bytes())
        return {"keys": document["keys"] if "keys" in document else document["bus_keys"]}
    except (ValueError, KeyError, TypeError):
        fail("The file of --bus-keys is neither a JWK Set nor a trust file.", REFUSED)


def _provider_keys(named: tuple[str, ...]) -> list[PublicKeyRecord]:
    records = []
    for item in named:
        system, equals, path = item.partition("=")
        if not equals:
            fail("--provider-key is written SYSTEM=FILE, as in G99/csdl=csdl.crt.", REFUSED)
        records.append(key_record(read_certificate(Path(path).read_text("ascii", "replace")), SystemCode(system)))
    return records


# --- sending ---------------------------------------------------------------------------------------------------------


def _service(text: str) -> tuple[str, int]:
    code, _, version = text.partition("/")
    if not version:
        return code, 1
    if not version.isdecimal():
        fail("--service is written CODE or CODE/VERSION, as in dossier.transfer/2.", REFUSED)
    return code, int(version)


def _content_type(file: Any, body: bytes) -> str:
    looks_like_xml = str(getattr(file, "name", "")).lower().endswith(".xml") or body.lstrip()[:1] == b"<"
    return "application/xml" if looks_like_xml else "application/json"


@contextmanager
def _repeatable(message_id: MessageId) -> Iterator[None]:
    """Tell the id when the outcome is unknown: a second message with another id could be a second delivery."""
    try:
        yield
    except ProviderFailure as problem:
        if problem.retryable:
            click.echo(f"To repeat this very message: --id {message_id}", err=True)
        raise


def _receipt_document(receipt: Receipt) -> dict[str, Any]:
    """As the bus writes it (interfaces: Receipt)."""
    return {
        "message_id": receipt.message_id,
        "state": receipt.state,
        "received_at": to_wire(receipt.received_at),
        "receivers": list(receipt.receivers),
        "leaf": receipt.leaf,
        "receipt": receipt.receipt,
    }


# --- the inbox -------------------------------------------------------------------------------------------------------


def _fetched(client: AgencyClient, wait: int, most: int | None, follow: bool) -> Iterator[InboxDelivery]:
    """The inbox; when following, a bus that is away is waited for."""
    page = min(most or 50, 50)
    while True:
        try:
            yield from client.inbox(wait=wait or (20 if follow else 0), max=page, follow=follow)
            return
        except Problem as problem:
            if not (follow and problem.retryable):
                raise
            click.echo(f"{local(utc_now())}  the bus is away, trying again", err=True)
            time.sleep(_LOST_BUS_SECONDS)


@contextmanager
def _ends_well(follow: bool) -> Iterator[None]:
    """Following ends by Ctrl-C or SIGTERM, and that is success: what was not acknowledged comes again."""
    if not follow:
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        click.echo(err=True)
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(delivery: InboxDelivery, saved: Path | None, as_json: bool) -> None:
    manifest = delivery.manifest
    if as_json:
        line = {
            "delivery_id": delivery.delivery_id,
            "message_id": manifest.message_id,
            "sender": manifest.sender,
            "service": f"{manifest.service}/{manifest.service_version}",
            "dossier": manifest.dossier,
            "content_type": manifest.content_type,
            "attempt": delivery.attempt,
            "manifest": delivery.manifest_jws,
            "receipt": delivery.receipt_jws,
            "saved": str(saved) if saved else None,
            "body_base64": base64.b64encode(delivery.body).decode("ascii"),
        }
        click.echo(json.dumps(line, ensure_ascii=False))
    else:
        words = [
            local(manifest.issued_at),
            manifest.message_id,
            f"{manifest.service}/{manifest.service_version}",
            f"from {manifest.sender}",
            f"{len(delivery.body)} bytes",
            manifest.dossier and f"dossier {manifest.dossier}",
            manifest.attachments and f"{len(manifest.attachments)} attached",
            saved and f"→ {saved}",
        ]
        click.echo("  ".join(str(word) for word in words if word))
    sys.stdout.flush()


def _save(delivery: InboxDelivery, folder: Path) -> Path:
    """Save a message as a folder, whole or not at all, and on disk before this returns. Again is harmless."""
    manifest = delivery.manifest
    place = folder / manifest.message_id
    body_name = "body" + (
        ".xml" if "xml" in manifest.content_type else ".json" if "json" in manifest.content_type else ""
    )
    if place.exists():
        # Saved before, and the acknowledgement was lost on its way.
        if (place / body_name).read_bytes() != delivery.body:
            fail(f"{place} holds another body under this message id. Look at it, move it away, and fetch again.")
        return place
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = folder / f".{manifest.message_id}.{secrets.token_hex(4)}.part"
    partial.mkdir(mode=0o700)
    try:
        names = {}
        for attachment in manifest.attachments:
            # The sender's name for a file is not a path of ours: it stays in the manifest.
            suffix = Path(attachment.name).suffix
            name = attachment.sha256 + (suffix if _SUFFIX.fullmatch(suffix) else "")
            delivery.download(attachment, partial / name)
            names[name] = printable(attachment.name)
            _flush(partial / name)
        about = {**manifest.to_claims(), "files": names, "fetched_at": to_wire(utc_now())}
        for name, data in (
            (body_name, delivery.body),
            ("manifest.jws", delivery.manifest_jws.encode("ascii")),
            ("receipt.jws", delivery.receipt_jws.encode("ascii")),
            ("message.json", json.dumps(about, ensure_ascii=False, indent=2).encode() + b"\n"),
        ):
            (partial / name).write_bytes(data)
            _flush(partial / name)
        _flush(partial)
        partial.rename(place)
        _flush(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return place


def write_whole(path: Path, data: bytes) -> None:
    with written_whole(path) as file:
        file.write(data)


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write into that takes this name once all is written and flushed; until then the old one stays."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("wb") as file:
            yield file
        _flush(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
