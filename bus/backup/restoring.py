"""A bus is brought back from a backup, and is a bus only when its evidence has proven it.

::

    check all of the file ─▶ is the place empty? ─▶ mark the home ─▶ keys, rows, attachments beside their places
          (nothing written)                          ─▶ prove it ─▶ the store appears ─▶ the keys appear ─▶ unmark

Whatever happens in between, the home says that it is incomplete, and no command of the bus takes it for one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from bus.attachments import place_of
from bus.backup import Progress, in_silence
from bus.backup.checking import LOG_KEY, Checked, Witnessed, broken, check_backup, columns_of, digest_of, key_name_of
from bus.backup.container import BackupReader, Part, rows_of
from bus.backup.rows import (
    TableFilled,
    attachment_digests,
    bring_up_to_date,
    delivery_states,
    filling,
    flush,
    held_in,
    kept_messages,
    knows_revision,
    make_due_again,
)
from bus.settings import Settings, variable_name
from schemas.message import sha256_hex
from schemas.moment import to_wire, utc_now
from schemas.problem import IdempotencyConflict, InternalFailure, Malformed, Refused
from security.evidence.checkpoint import NoteKey
from security.evidence.log import EvidenceLog
from security.keys import write_private_file
from security.sealed_stream import Opener, SealedReader
from security.signing import split_compact
from security.verifier import Trust

if TYPE_CHECKING:
    from sqlalchemy import Connection

_MOST_NAMED: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What is there now."""

    header: Mapping[str, Any]
    #: Of the evidence log: entries, checkpoints, and its public key as a trust file has it.
    entries: int
    checkpoints: int
    log_key: str
    #: Messages whose record was held against the log, and how many of them have their body.
    messages: int
    bodies: int
    #: Deliveries by state; those under way at the moment of the backup count as delivering and are due again.
    deliveries: Mapping[str, int]
    attachments: int
    #: Files that the store speaks of and that the backup did not have.
    missing: Sequence[str]
    missing_count: int
    witnessed: Witnessed | None


@dataclass(slots=True, kw_only=True)
class _Proven:
    entries: int = 0
    checkpoints: int = 0
    messages: int = 0
    bodies: int = 0
    deliveries: dict[str, int] = field(default_factory=dict)
    attachments: int = 0
    missing: list[str] = field(default_factory=list)
    missing_count: int = 0


def restore_backup(
    settings: Settings,
    file: BinaryIO,
    opener: Opener,
    *,
    force: bool = False,
    trust: Trust | None = None,
    witness: str | None = None,
    progress: Progress = in_silence,
) -> Restored:
    """Bring back the bus in ``file`` as that of these settings.

    Raises what :func:`check_backup` raises; IdempotencyConflict where something is there already; Malformed for a
    backup of another bus or a newer program; InternalFailure(restore-incomplete) without ``force`` after a restore that
    was broken off. ``force`` replaces keys and tables that have no evidence yet, and what a restore of this same backup
    has left; never a log that others may hold receipts of.
    """
    checked = check_backup(file, opener, trust=trust, witness=witness, progress=progress)
    _must_belong(settings, checked.header)
    replace = _must_have_room(settings, checked, force=force)
    _mark(settings, checked.header["id"])
    fresh_keys = settings.home / "keys.restoring"
    shutil.rmtree(fresh_keys, ignore_errors=True)
    fresh_keys.mkdir(mode=0o700)
    file.seek(0)
    reader = BackupReader(SealedReader(file, opener))
    if reader.header != checked.header:
        raise Malformed("backup-damaged")
    with filling(settings, checked.header["revision"], size=checked.size, replace=replace) as connection:
        _take_parts(reader, connection, fresh_keys, settings.attachment_folder, progress)
        bring_up_to_date(connection)
        proven = _prove(settings, connection, checked, fresh_keys, progress)
        make_due_again(connection)
    _put_keys(settings, fresh_keys, checked.header["id"])
    settings.restore_mark_path.unlink()
    flush(settings.home)
    return Restored(
        header=checked.header,
        log_key=checked.log_key,
        witnessed=checked.witnessed,
        entries=proven.entries,
        checkpoints=proven.checkpoints,
        messages=proven.messages,
        bodies=proven.bodies,
        deliveries=proven.deliveries,
        attachments=proven.attachments,
        missing=tuple(proven.missing),
        missing_count=proven.missing_count,
    )


# --- may it be restored here? ----------------------------------------------------------------------------------------


def _must_belong(settings: Settings, header: Mapping[str, Any]) -> None:
    """Keys speak for a system and a log of one name: under others nothing that they signed would hold."""
    for name, value in (("log_origin", header["log"]["origin"]), ("system", header["system"])):
        if getattr(settings, name) != value:
            raise Malformed("restore-setting-differs", variable=variable_name(name), value=str(value))
    if not knows_revision(header["revision"]):
        raise Malformed("backup-too-new", found=str(header["revision"]))


def _must_have_room(settings: Settings, checked: Checked, *, force: bool) -> bool:
    """Whether tables are to be replaced. Raises as :func:`restore_backup` says."""
    broken_off = _marked(settings)
    if broken_off is not None and not force:
        raise InternalFailure("restore-incomplete")
    store = held_in(settings)
    # The evidence of a restore that died between its last two steps is that of this backup, and nobody worked on it.
    ours = broken_off == checked.header["id"] and store.size == checked.size
    if store.size and not (force and ours):
        raise IdempotencyConflict("restore-evidence-there", size=store.size)
    held = [
        name
        for name, there in (
            ("keys", _has_files(settings.key_folder)),
            ("attachments", _has_files(settings.attachment_folder)),
            ("tables", store.tables),
        )
        if there
    ]
    if held and not force:
        raise IdempotencyConflict("restore-not-empty", held=", ".join(held))
    return store.tables


def _has_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*"))


def _mark(settings: Settings, backup: str) -> None:
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    mark = json.dumps({"backup": backup, "begun_at": to_wire(utc_now())})
    write_private_file(settings.restore_mark_path, mark.encode("ascii"))
    flush(settings.home)


def _marked(settings: Settings) -> str | None:
    """The backup whose restore was broken off here; empty when the mark does not say."""
    try:
        return str(json.loads(settings.restore_mark_path.read_bytes())["backup"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return ""


# --- what is in the file goes to its places --------------------------------------------------------------------------


def _take_parts(
    reader: BackupReader, connection: Connection, keys: Path, attachments: Path, progress: Progress
) -> None:
    count = 0
    for part in reader.parts():
        match part.kind:
            case "key":
                _take_key(part, keys)
            case "table":
                _take_table(part, connection, progress)
            case "attachment":
                _take_attachment(part, attachments)
                count += 1
                progress("attachments", count)


def _take_key(part: Part, folder: Path) -> None:
    place = folder / key_name_of(part)
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private_file(place, b"".join(part.data()), new=True)


def _take_table(part: Part, connection: Connection, progress: Progress) -> None:
    columns = columns_of(part)
    try:
        table = TableFilled(connection, part.name, columns)
    except ValueError:
        raise Malformed("backup-damaged") from None
    count = 0

    def counted() -> Iterator[list[list[Any]]]:
        nonlocal count
        for data in part.data():
            rows = rows_of(data, len(columns))
            yield rows
            count += len(rows)
            progress(part.name, count)

    table.take(counted())


def _take_attachment(part: Part, folder: Path) -> None:
    """Under its name only if it is what its name says; what was damaged when the backup was made is left out."""
    place = place_of(folder, digest_of(part))
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f".{place.name}.part")
    try:
        with partial.open("wb") as file:
            for data in part.data():
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if part.end["sha256"] == place.name:
            partial.rename(place)
    finally:
        partial.unlink(missing_ok=True)


def _put_keys(settings: Settings, fresh: Path, backup: str) -> None:
    if settings.key_folder.exists():  # of a bus that has no evidence yet: kept all the same
        settings.key_folder.rename(settings.home / f"keys.before-restore-{backup}-{utc_now():%Y%m%d%H%M%S}")
    fresh.rename(settings.key_folder)
    flush(settings.home)


# --- is it what it was? ----------------------------------------------------------------------------------------------


def _prove(settings: Settings, connection: Connection, checked: Checked, keys: Path, progress: Progress) -> _Proven:
    """Every leaf, tile, root and signature recomputed; every message held against its entry. Raises
    Malformed(backup-evidence-broken)."""
    origin = checked.header["log"]["origin"]
    log = EvidenceLog(origin, NoteKey.load(keys / LOG_KEY, origin))
    progress("evidence", 0)
    audit = log.verify_all(connection)
    if audit.faults:
        raise broken(audit.faults[0])
    size, root = log.head(connection)
    if size != checked.size or root.hex() != checked.header["log"]["root"]:
        raise broken("its entries are not those that the header tells of")
    proven = _Proven(entries=size, checkpoints=audit.checkpoints, deliveries=delivery_states(connection))
    for kept in kept_messages(connection):
        entry = kept.entry or {}
        if entry.get("kind") != "accepted" or entry.get("manifest_sha256") != _manifest_sha256(kept.manifest_jws):
            raise broken(f"message {kept.exchange_id} is not the one that entry {kept.exchange_id} tells of")
        if kept.body is not None and sha256_hex(kept.body) != entry.get("body_sha256"):
            raise broken(f"the body of message {kept.exchange_id} is not the one that was accepted")
        proven.messages += 1
        proven.bodies += kept.body is not None
        progress("messages proven", proven.messages)
    for digest in attachment_digests(connection, bodies=True):
        if place_of(settings.attachment_folder, digest).exists():
            proven.attachments += 1
            continue
        proven.missing_count += 1
        if len(proven.missing) < _MOST_NAMED:
            proven.missing.append(digest)
    return proven


def _manifest_sha256(jws: str) -> str:
    """What an entry names a manifest by; empty for a text that is none."""
    try:
        return sha256_hex(split_compact(jws).payload)
    except Refused:
        return ""
