"""A backup is read to its end and proven: every byte authentic, the evidence log whole and signed. Writes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from bus.backup import Progress, in_silence
from bus.backup.container import BackupReader, Part, rows_of
from schemas.codec import read_json
from schemas.message import SHA256_HEX
from schemas.problem import Malformed, Refused
from security.evidence.checkpoint import Checkpoint, NoteKey, NoteVerifier, verify_checkpoint
from security.evidence.tree import Frontier, leaf_hash
from security.sealed_stream import Opener, SealedReader
from security.verifier import Trust

LOG_KEY: Final = "evidence-log.pem"
#: Names without a leading dot, and with them the way up.
_KEY_NAME: Final = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}/){0,3}[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessed:
    """A checkpoint that somebody kept, held against a backup. ``missing`` entries came after the backup: they are not
    in it, and whoever holds their receipts can prove that they were."""

    size: int
    missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A backup that is whole and whose evidence holds."""

    header: Mapping[str, Any]
    closing: Mapping[str, Any]
    #: The public key of its evidence log, as a trust file has it.
    log_key: str
    witnessed: Witnessed | None

    @property
    def size(self) -> int:
        size: int = self.header["log"]["size"]
        return size


@dataclass(slots=True, kw_only=True)
class _Demands:
    """Roots that the tree must have on its way: by size, and where that is said."""

    roots: dict[int, bytes]
    frontier: Frontier = field(default_factory=Frontier)
    accepted: int = 0
    messages: int = 0

    def grow(self, position: int, stored: bytes, entry: bytes) -> None:
        if position != self.frontier.size:
            raise broken(f"entry {self.frontier.size} is missing")
        computed = leaf_hash(entry)
        if computed != stored:
            raise broken(f"entry {position} is not the one that was hashed")
        self.frontier.append(computed)
        self.accepted += read_json(entry).get("kind") == "accepted"
        self.look()

    def look(self) -> None:
        wanted = self.roots.get(self.frontier.size)
        if wanted is not None and wanted != self.frontier.root():
            raise broken(f"the first {self.frontier.size} entries have another root")


def broken(fault: str) -> Malformed:
    return Malformed("backup-evidence-broken", fault=fault)


def check_backup(
    file: BinaryIO,
    opener: Opener,
    *,
    trust: Trust | None = None,
    witness: str | None = None,
    progress: Progress = in_silence,
) -> Checked:
    """Read all of a backup from where the file stands. ``trust``: the log's key must be in it. ``witness``: a signed
    checkpoint of the log that somebody kept.

    Raises Malformed: backup-unreadable, backup-key-wrong, backup-damaged, backup-evidence-broken, backup-other-log,
    backup-checkpoint-unknown.
    """
    reader = BackupReader(SealedReader(file, opener))
    parts = reader.parts()
    try:
        log = reader.header["log"]
        verifier = _log_key(reader.header, parts)
        if trust is not None:
            _must_be_trusted(verifier, trust)
        signed = None if log["checkpoint"] is None else _signed(log["checkpoint"], verifier, "backup-evidence-broken")
        kept = None if witness is None else _signed(witness, verifier, "backup-checkpoint-unknown")
        demands = _Demands(roots={c.size: c.root for c in (kept, signed) if c is not None})
        if kept is not None and signed is not None and kept.size == signed.size and kept.root != signed.root:
            raise broken(f"two checkpoints of size {kept.size} differ")
        _read_parts(parts, demands, progress)
        _must_be_head(demands.frontier, log, signed)
        if demands.accepted != demands.messages:
            raise broken(f"it tells of {demands.accepted} accepted messages, and {demands.messages} are there")
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Malformed("backup-damaged") from None
    witnessed = None if kept is None else Witnessed(size=kept.size, missing=max(0, kept.size - int(log["size"])))
    return Checked(header=reader.header, closing=reader.closing, log_key=str(verifier), witnessed=witnessed)


def _log_key(header: Mapping[str, Any], parts: Iterator[Part]) -> NoteVerifier:
    """Keys come first, the log's among them in the order of their names."""
    for part in parts:
        if part.kind == "key" and key_name_of(part) == LOG_KEY:
            return NoteKey.from_pem(b"".join(part.data()), header["log"]["origin"]).verifier
        if part.kind != "key":
            break
    raise Malformed("backup-damaged")


def _must_be_trusted(verifier: NoteVerifier, trust: Trust) -> None:
    key = trust.log_keys.get((verifier.name, verifier.key_hash))
    if key is None or key.public_bytes_raw() != verifier.public_key:
        raise Malformed("backup-other-log")


def _signed(note: str, verifier: NoteVerifier, reason: str) -> Checkpoint:
    try:
        return verify_checkpoint(note, verifier.name, verifier)
    except Refused:
        if reason == "backup-checkpoint-unknown":
            raise Malformed("backup-checkpoint-unknown") from None
        raise broken("its last checkpoint is not signed by its key") from None


def _read_parts(parts: Iterator[Part], demands: _Demands, progress: Progress) -> None:
    count = 0
    demands.look()
    for part in parts:
        count += part.kind == "attachment"
        match part.kind:
            case "key":
                key_name_of(part)
            case "table":
                _read_table(part, demands, progress)
            case "attachment":
                _read_attachment(part)
                progress("attachments", count)
            case _:
                raise Malformed("backup-damaged")


def _read_table(part: Part, demands: _Demands, progress: Progress) -> None:
    count = 0
    columns = columns_of(part)
    for data in part.data():
        rows = rows_of(data, len(columns))
        if part.name == "evidence_leaves":
            at, stored, entry = (columns.index(name) for name in ("position", "hash", "entry"))
            for row in rows:
                demands.grow(row[at], row[stored], row[entry])
        count += len(rows)
        progress(part.name, count)
    if part.end.get("rows") != count:
        raise Malformed("backup-damaged")
    if part.name == "exchanges":
        demands.messages = count


def _read_attachment(part: Part) -> None:
    digest = digest_of(part)
    for _ in part.data():
        pass
    if (part.end["sha256"] == digest) is not part.end["sound"]:
        raise Malformed("backup-damaged")


def _must_be_head(frontier: Frontier, log: Mapping[str, Any], signed: Checkpoint | None) -> None:
    if frontier.size != log["size"] or frontier.root().hex() != log["root"]:
        raise broken("its entries are not those that the header tells of")
    if signed is not None and signed.size > frontier.size:
        raise broken("its last checkpoint is beyond its last entry")


def key_name_of(part: Part) -> str:
    """The place of a key file below the key folder, and nowhere else."""
    if not _KEY_NAME.fullmatch(part.name):
        raise Malformed("backup-damaged")
    return part.name


def digest_of(part: Part) -> str:
    """What an attachment is called, and nothing that could be a path."""
    if not SHA256_HEX.fullmatch(part.name):
        raise Malformed("backup-damaged")
    return part.name


def columns_of(part: Part) -> Sequence[str]:
    columns = part.facts["columns"]
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise Malformed("backup-damaged")
    return columns
