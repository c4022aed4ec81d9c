"""Attachments: files named by the SHA-256 of their content, streamed in and out, resumable.

A file is written beside its place and moved there only when its digest is right and its bytes are on disk, so what has
a name is always whole. Each agency uploads for itself: that a file exists already tells a stranger nothing, because he
must bring all its bytes anyway.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bus.ledger import Ledger
from schemas.identifiers import AgencyCode
from schemas.message import SHA256_HEX, Manifest
from schemas.moment import utc_now
from schemas.problem import FieldError, Malformed, NotFound, SchemaViolation, TooLarge, TooMany
from schemas.reasons import Wording

_CHUNK_BYTES = 256 * 1024
#: What may be wrong with one attachment of a list.
NOT_UPLOADED = Wording("not uploaded, or of another length", "chưa tải lên, hoặc sai độ dài")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """How far an upload is. ``complete``: the file is stored; else ``received`` bytes of it are."""

    received: int
    complete: bool


class Attachments:
    """The content-addressed store of files. Thread-safe; processes may share the folder."""

    def __init__(self, folder: Path, ledger: Ledger, max_bytes: int) -> None:
        self._folder = folder
        self._ledger = ledger
        self._max_bytes = max_bytes

    def progress(self, sha256: str, agency: AgencyCode) -> Upload:
        """What is here of an agency's file. Raises NotFound when nothing is."""
        known = self._ledger.attachment_lengths([_checked(sha256)], agency)
        if sha256 in known:
            return Upload(received=known[sha256], complete=True)
        try:
            return Upload(received=self._part(sha256, agency).stat().st_size, complete=False)
        except FileNotFoundError:
            raise NotFound("attachment-unknown") from None

    def add(
        self, sha256: str, agency: AgencyCode, chunks: Iterable[bytes], *, start: int = 0, total: int | None = None
    ) -> Upload:
        """Store bytes from ``start`` on; with ``total`` given and not reached, keep them and wait for the rest.

        Raises Malformed(attachment-gap) when ``start`` is not where the last bytes ended,
        Malformed(attachment-digest) when the whole file has another digest (it is thrown away), TooLarge, and
        TooMany(attachment-busy) while the same agency uploads the same file on another connection.
        """
        part = self._part(_checked(sha256), agency)
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as file:
            _hold(file, part)
            if not start:
                file.truncate(0)
                file.seek(0)
            if file.tell() != start:
                raise Malformed("attachment-gap", received=file.tell())
            for chunk in chunks:
                if file.tell() + len(chunk) > self._max_bytes:
                    raise TooLarge("attachment-too-large", limit=self._max_bytes)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            received = file.tell()
            if total is not None and received < total:
                return Upload(received=received, complete=False)
            self._finish(part, sha256, agency, received)
        return Upload(received=received, complete=True)

    def open(self, sha256: str, agency: AgencyCode) -> Path:
        """The path of a file that this agency may read. Raises NotFound, also for files of others."""
        path = self._place(_checked(sha256))
        if not self._ledger.may_read_attachment(sha256, agency) or not path.exists():
            raise NotFound("attachment-unknown")
        return path

    def check_present(self, manifest: Manifest) -> None:
        """Raises SchemaViolation naming the attachments that the sender has not uploaded, or not with that length."""
        if not manifest.attachments:
            return
        known = self._ledger.attachment_lengths([a.sha256 for a in manifest.attachments], manifest.sender)
        missing = [
            FieldError.worded(f"/attachments/{number}", NOT_UPLOADED)
            for number, reference in enumerate(manifest.attachments)
            if known.get(reference.sha256) != reference.length
        ]
        if missing:
            raise SchemaViolation("attachment-missing", errors=missing)

    def _finish(self, part: Path, sha256: str, agency: AgencyCode, length: int) -> None:
        if _digest(part) != sha256:
            part.unlink()
            raise Malformed("attachment-digest")
        place = self._place(sha256)
        place.parent.mkdir(parents=True, exist_ok=True)
        part.replace(place)
        _sync_folder(place.parent)
        self._ledger.add_attachment(sha256, agency, length, utc_now())

    def _place(self, sha256: str) -> Path:
        return place_of(self._folder, sha256)

    def _part(self, sha256: str, agency: AgencyCode) -> Path:
        return self._folder / "incoming" / f"{sha256}.{agency}"


def place_of(folder: Path, sha256: str) -> Path:
    """Where a whole file lies in the attachments' folder."""
    return folder / sha256[:2] / sha256


def _hold(file: BinaryIO, part: Path) -> None:
    """Be the only one who writes to a half-uploaded file until it is closed. Raises TooMany(attachment-busy).

    Without it, somebody who had opened the file before its digest was found right could change it afterwards.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        still_there = os.path.samestat(os.fstat(file.fileno()), part.stat())
    except (BlockingIOError, FileNotFoundError):
        still_there = False
    if not still_there:  # another connection writes to it, or has just finished it
        raise TooMany("attachment-busy", retry_after_seconds=1)


def _checked(sha256: str) -> str:
    if not SHA256_HEX.fullmatch(sha256):
        raise NotFound("attachment-unknown")
    return sha256


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    """The new name is on disk too, not only the bytes."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_in_chunks(read: Callable[[int], bytes]) -> Iterable[bytes]:
    """The pieces of a stream until it ends."""
    while chunk := read(_CHUNK_BYTES):
        yield chunk
