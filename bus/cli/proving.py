"""``lgsp evidence``: proof of what happened, for people who do not trust this bus and need not."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from bus.cli import FAILED, REFUSED, Session, fail
from bus.cli.terminal import local, print_json, printable, session_of
from schemas.identifiers import MessageId
from schemas.moment import from_wire
from schemas.problem import Language
from security.evidence.checkpoint import verify_checkpoint
from security.verifier import MAX_FILE_BYTES, Refuted, Trust, Verdict, verify_file, verify_receipt

_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW = click.Path(dir_okay=False, path_type=Path)

_YES = {"en": "YES: the evidence holds.", "vi": "ĐÚNG: bằng chứng hợp lệ."}
_NO = {"en": "NO: the evidence does not hold.", "vi": "SAI: bằng chứng không hợp lệ."}
_RETOLD = {
    "en": "What is written beside the receipt is not what was signed.",
    "vi": "Nội dung ghi kèm biên nhận không phải nội dung đã ký.",
}
_LOST = {
    "en": "Lost: entries that the checkpoint of size {size} has and that came after this moment: {count}. What they "
    "stand for is not here; its senders hold the receipts and may send it again.",
    "vi": "Đã mất: các mục bằng chứng mà điểm kiểm tra cỡ {size} có, sau thời điểm này: {count}. Dữ liệu tương ứng "
    "không có ở đây; bên gửi giữ biên nhận và có thể gửi lại.",
}
_NOTHING_LOST = {
    "en": "The checkpoint of size {size} is part of this log: nothing that it witnesses is lost.",
    "vi": "Điểm kiểm tra cỡ {size} thuộc nhật ký này: không mất gì trong phạm vi nó chứng kiến.",
}


@click.group()
def evidence() -> None:
    """Export proof of a message, verify proof of others, watch over the log.

    \b
    A proof, handed over and verified where this bus is not:
      lgsp evidence trust --out trust.json           (once, by a way that both trust)
      lgsp evidence export 0193a5b0-… --out proof.json
      lgsp evidence verify proof.json --trust trust.json
    """


@evidence.command()
@click.argument("message_id")
@click.option("--out", type=_NEW, help="File to write; else standard output.")
@click.option("--body", is_flag=True, help="Put the payload in, too. It may hold personal data.")
@click.pass_context
def export(context: click.Context, message_id: str, out: Path | None, body: bool) -> None:
    """Write all evidence of a message as one file: manifest, receipt, log entries and their proofs."""
    from bus.bundles import bundle_of
    from bus.cli.opened import opened_bus

    wanted = MessageId(message_id)
    with opened_bus(session_of(context)) as bus:
        record = bus.ledger.find(wanted)
        if record is None:
            fail("The bus has no message of this id.")
        data = bundle_of(bus, record, with_body=body)
    _write(data, out)


@evidence.command()
@click.option("--out", type=_NEW, help="File to write; else standard output.")
@click.pass_context
def trust(context: click.Context, out: Path | None) -> None:
    """Write the trust file: the public keys of this bus and its log. Hand it over in person, or publish it."""
    from bus.bundles import trust_of
    from bus.cli.opened import opened_bus

    with opened_bus(session_of(context)) as bus:
        data = trust_of(bus)
    _write(data, out)


@evidence.command()
@click.argument("file", type=_EXISTING)
@click.option("--trust", "trust_file", type=_EXISTING, help="Trust file of the bus that wrote it; else this bus's own.")
@click.option(
    "--timestamp-authority",
    "roots_file",
    type=_EXISTING,
    help="Root certificates (PEM) of the timestamp authority, got from itself.",
)
@click.option("--body", "body_file", type=_EXISTING, help="The payload, if you have it from elsewhere.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def verify(
    context: click.Context,
    file: Path,
    trust_file: Path | None,
    roots_file: Path | None,
    body_file: Path | None,
    as_json: bool,
) -> None:
    """Does the evidence in FILE hold? A bundle, or a receipt (its JWS, or the JSON that `lgsp send` prints).

    Exit code 0: it holds. 1: it does not. 2: it could not be tried.
    """
    session = session_of(context)
    data = _read(file)
    body = _read(body_file) if body_file else None
    try:
        believed = Trust.read(_read(trust_file) if trust_file else _own_trust(session))
        if roots_file:
            believed = believed.believing(_read(roots_file))
    except Refuted:
        fail("The trust file, or the file of root certificates, cannot be read.", REFUSED)
    verdict, retold = _judge(data, believed, body)
    if as_json:
        print_json({"holds": verdict.holds and retold, "findings": verdict.findings, "facts": verdict.facts})
    else:
        _tell(verdict, retold, session.language)
        if not trust_file:
            click.echo("(believing the keys of this very bus; others need its trust file)", err=True)
    if not (verdict.holds and retold):
        raise click.exceptions.Exit(FAILED)


@evidence.command("log-verify")
@click.option(
    "--checkpoint",
    type=_EXISTING,
    help="The newest checkpoint that a member or witness holds: is all that it saw still here?",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def log_verify(context: click.Context, checkpoint: Path | None, as_json: bool) -> None:
    """Recompute the whole evidence log: every entry, tile, root and signature. Reads all of it.

    With --checkpoint also: how much of the log that others saw is not here any more, after a restore to an earlier
    moment. Exit code 1 for a fault, or when the log that they saw is another one; what is lost is told, and no fault.
    """
    from bus.cli.opened import opened_bus

    session = session_of(context)
    with opened_bus(session) as bus, bus.store.reading() as connection:
        audit = bus.log.verify_all(connection)
        faults, seen = list(audit.faults), None
        if checkpoint is not None:
            note = _read(checkpoint).decode("utf-8", "replace")
            seen = verify_checkpoint(note, bus.log.origin, bus.log.verifier)
            if seen.size <= audit.leaves and not faults and bus.log.root_at(connection, seen.size) != seen.root:
                faults.append(f"checkpoint {seen.size} that was kept: its root is not that of the entries here")
    missing = max(0, seen.size - audit.leaves) if seen else 0
    if as_json:
        told = {"leaves": audit.leaves, "checkpoints": audit.checkpoints, "faults": faults}
        print_json({**told, "witnessed": {"size": seen.size, "missing": missing}} if seen else told)
    else:
        click.echo(f"{audit.leaves} entries, {audit.checkpoints} checkpoints, {audit.tiles} tiles")
        _tell_log(faults)
        if seen is not None and not faults:
            click.echo(in_words_of_witness(seen.size, missing, session.language))
    if faults:
        raise click.exceptions.Exit(FAILED)


def _tell_log(faults: Sequence[str]) -> None:
    for fault in faults:
        click.echo(f"  ✗ {fault}")
    click.echo(
        f"{len(faults)} faults. Stop the bus, keep the store as it is, and compare it with a backup."
        if faults
        else "The log is whole."
    )


def in_words_of_witness(size: int, missing: int, language: Language) -> str:
    """What a checkpoint that somebody kept says of the log here: its first ``size`` entries are here, or not all."""
    return (_LOST if missing else _NOTHING_LOST)[language].format(count=missing, size=size)


def _own_trust(session: Session) -> bytes:
    from bus.bundles import trust_of
    from bus.cli.opened import opened_bus

    if not (session.settings.ring_folder / "ring.json").exists():
        fail("Name the trust file of the bus that wrote the evidence: --trust FILE.", REFUSED)
    with opened_bus(session) as bus:
        return trust_of(bus)


def _judge(data: bytes, believed: Trust, body: bytes | None) -> tuple[Verdict, bool]:
    """The verdict, and whether what stands beside a receipt in JSON is what the receipt says."""
    told = _receipt_json(data)
    if told is None:
        return verify_file(data, believed, body), True
    verdict = verify_receipt(str(told["receipt"]), believed)
    agreed = all(told[name] == verdict.facts.get(name) for name in ("message_id", "state", "leaf") if name in told)
    return verdict, agreed or not verdict.holds


def _receipt_json(data: bytes) -> dict[str, Any] | None:
    """The receipt in the form of the exchange's answer, or None for a bundle and a plain JWS."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    is_receipt = isinstance(document, dict) and "receipt" in document and "format" not in document
    return document if is_receipt else None


def _tell(verdict: Verdict, retold: bool, language: Language) -> None:
    holds = verdict.holds and retold
    sentences = [*verdict.sentences(language), *([] if retold else [_RETOLD[language]])]
    for number, sentence in enumerate(sentences, start=1):
        click.echo(f"  {'✗' if not holds and number == len(sentences) else '✓'} {sentence}")
    if holds:
        for name, value in _facts(verdict.facts):
            click.echo(f"    {name:<11} {printable(value)}")
    click.secho((_YES if holds else _NO)[language], fg="green" if holds else "red")


def _facts(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What was proven, for a person: who, what, when."""
    manifest = facts.get("manifest", {})
    receipt = facts.get("receipt", facts)
    told = [
        ("message", receipt.get("message_id")),
        ("sender", manifest.get("sender")),
        ("receivers", ", ".join(manifest.get("receivers", []))),
        ("service", manifest.get("service")),
        ("state", receipt.get("state")),
    ]
    if isinstance(receipt.get("iat"), int):
        told.append(("signed at", f"{local(datetime.fromtimestamp(receipt['iat'], UTC))} (Vietnam)"))
    if stamped := facts.get("timestamp"):
        told.append(("stamped", f"{local(datetime.fromisoformat(stamped['at']))} by {stamped['authority']}"))
    for entry in facts.get("entries", []):
        at = local(from_wire(str(entry["at"]))) if "at" in entry else ""
        told.append((str(entry.get("kind")), f"{at} {entry.get('receiver', '')} (entry {entry.get('position')})"))
    return [(name, str(value)) for name, value in told if value]


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        fail(f"{path} is larger than any evidence.", REFUSED)
    return data


def _write(data: bytes, out: Path | None) -> None:
    if out is None:
        click.echo(data, nl=False)
        return
    # Evidence names people's affairs: for its owner alone, until they decide otherwise.
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
    click.echo(f"written: {out} ({len(data)} bytes)", err=True)
