"""A backup is made: one moment of the store, then the files that this moment speaks of.

Runs beside a working bus. The store is read in one transaction that nobody waits for; keys are read around its
beginning, so that they are those of that moment; attachments are named by their content and never change, so they may
be copied after it.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from uuid6 import uuid7

from bus.attachments import place_of, read_in_chunks
from bus.backup import Progress, in_silence
from bus.backup.container import BackupWriter, batches
from bus.backup.rows import KEPT, attachment_digests, column_names, flush, rows_in, snapshot_of
from bus.settings import Settings
from bus.store import Store, StoreStanding, standing_of
from schemas.moment import to_wire, utc_now
from schemas.problem import Malformed
from security.evidence.log import EvidenceLog
from security.sealed_stream import Recipient, SealedWriter

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: What may hold a password, and says nothing of the bus that the next machine could use.
_NOT_TOLD: Final = frozenset({"store_url", "broker_url", "broker_authority", "broker_management", "home"})
#: So many missing attachments are named; of more only the number is kept.
_MOST_NAMED: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A backup that was written."""

    id: str
    created_at: datetime
    bytes: int
    seconds: float
    entries: int
    rows: Mapping[str, int]
    attachments: int
    #: Digests of files that the store speaks of and that are not there, or not what they were: look at the disk.
    missing: Sequence[str]
    missing_count: int


@dataclass(slots=True, kw_only=True)
class _Tally:
    rows: dict[str, int] = field(default_factory=dict)
    attachments: int = 0
    attachment_bytes: int = 0
    missing: list[str] = field(default_factory=list)
    missing_count: int = 0

    def miss(self, digest: str) -> None:
        self.missing_count += 1
        if len(self.missing) < _MOST_NAMED:
            self.missing.append(digest)


def make_backup(
    settings: Settings,
    store: Store,
    log: EvidenceLog,
    out: Path,
    recipients: Sequence[Recipient],
    *,
    bodies: bool = True,
    progress: Progress = in_silence,
) -> Made:
    """Write a backup to ``out``, which appears when all of it is on disk. Raises FileExistsError, OSError,
    Malformed(backup-tables-differ).

    Without ``bodies`` the payloads, replies and attachments of delivered messages stay behind.
    """
    standing = standing_of(store)
    if standing.revision != standing.newest_revision:
        found = standing.revision or "-"
        raise Malformed("backup-tables-differ", found=found, expected=standing.newest_revision)
    begun, tally, identity = time.monotonic(), _Tally(), str(uuid7())
    created_at = utc_now()
    with _appearing(out) as file, tempfile.TemporaryFile() as digests:
        sealed = SealedWriter(file, recipients)
        with _moment_of(settings, store, log) as moment:
            about = {"id": identity, "created_at": to_wire(created_at), "bodies": bodies}
            writer = BackupWriter(sealed, about | _standing(settings, standing, log, moment))
            for name, data in moment.keys.items():
                with writer.part("key", name) as part:
                    part.add(data)
            _write_tables(writer, moment.connection, tally, bodies=bodies, progress=progress)
            for digest in attachment_digests(moment.connection, bodies=bodies):
                digests.write(digest.encode("ascii") + b"\n")
        digests.seek(0)
        _write_attachments(writer, settings.attachment_folder, digests, tally, progress)
        writer.close(dataclasses.asdict(tally))
        length = file.tell()
    return Made(
        id=identity,
        created_at=created_at,
        bytes=length,
        seconds=time.monotonic() - begun,
        entries=moment.size,
        rows=tally.rows,
        attachments=tally.attachments,
        missing=tuple(tally.missing),
        missing_count=tally.missing_count,
    )


def _standing(settings: Settings, standing: StoreStanding, log: EvidenceLog, moment: _Moment) -> dict[str, Any]:
    """Which bus this is, and how far it is: what the header says besides."""
    checkpoint = log.latest_checkpoint(moment.connection)
    return {
        "program": version("lgsp-bus"),
        "revision": standing.revision,
        "dialect": standing.dialect,
        "system": settings.system,
        "log": {
            "origin": log.origin,
            "size": moment.size,
            "root": moment.root.hex(),
            "checkpoint": checkpoint.note if checkpoint else None,
        },
        "settings": {
            name: str(getattr(settings, name))
            for name, origin in settings.origins.items()
            if origin != "default" and name not in _NOT_TOLD
        },
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """What is written: the store through ``connection``, the key files, the log's size and root."""

    connection: Connection
    keys: Mapping[str, bytes]
    size: int
    root: bytes


@contextmanager
def _moment_of(settings: Settings, store: Store, log: EvidenceLog) -> Iterator[_Moment]:
    """A moment with the keys of that moment: those that signed and sealed what the store holds then."""
    while True:
        keys = _key_files(settings.key_folder)
        with snapshot_of(store) as connection:
            size, root = log.head(connection)  # the first look fixes the moment
            # A master key dropped meanwhile might be the one that seals what this moment holds: then look again.
            if _key_files(settings.key_folder) == keys:
                yield _Moment(connection=connection, keys=keys, size=size, root=root)
                return


def _key_files(folder: Path) -> dict[str, bytes]:
    """Every key file by its place below the folder; half-written ones have names that begin with a dot."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def _write_tables(
    writer: BackupWriter, connection: Connection, tally: _Tally, *, bodies: bool, progress: Progress
) -> None:
    for table in KEPT:
        count = 0
        with writer.part("table", table.name, columns=column_names(table)) as part:
            for rows, batch in batches(rows_in(connection, table, bodies=bodies)):
                part.add(batch)
                count += rows
                progress(table.name, count)
            part.facts["rows"] = tally.rows[str(table.name)] = count


def _write_attachments(
    writer: BackupWriter, folder: Path, digests: BinaryIO, tally: _Tally, progress: Progress
) -> None:
    for line in digests:
        digest = line.decode("ascii").strip()
        try:
            file = place_of(folder, digest).open("rb")
        except FileNotFoundError:
            tally.miss(digest)
            continue
        with file, writer.part("attachment", digest) as part:
            for chunk in read_in_chunks(file.read):
                part.add(chunk, deflate=False)
            part.facts["sound"] = part.sha256 == digest
        tally.attachments += 1
        tally.attachment_bytes += part.bytes
        if part.sha256 != digest:
            tally.miss(digest)
        progress("attachments", tally.attachments)


@contextmanager
def _appearing(out: Path) -> Iterator[BinaryIO]:
    """A file to write into, for its owner alone, that takes its name when all of it is on disk. Raises FileExistsError:
    the backup of yesterday is not written over."""
    if out.exists():
        raise FileExistsError(17, "there is a file of that name already", str(out))
    descriptor, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part")
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.rename(out)
        flush(out.parent)
    finally:
        partial.unlink(missing_ok=True)
