"""What is inside a sealed backup: a header, parts with their digests, a closing record. One pass each way.

::

    frame    kind (1 byte) ‖ raw length (4) ‖ stored length (4) ‖ stored, deflated where that is shorter

    HEADER   JSON    which bus, which moment, the evidence log's size and root
    PART     JSON    {"kind": "key" | "table" | "attachment", "name": …}
      DATA           of tables: batches of rows
      END    JSON    {"bytes": …, "sha256": …}
    CLOSING  JSON    how many parts, the digest over their ENDs, and what a person wants to know

Rows are written so that they mean the same to every store: JSON, with bytes apart ::

    length (4 bytes) ‖ [[1, "x", [3], null], …] ‖ the bytes that ``[3]`` is the length of, …
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from schemas.problem import Malformed
from security.sealed_stream import SealedReader, SealedWriter

FORMAT: Final = "lgsp-backup/1"
_HEADER, _PART, _DATA, _END, _CLOSING = b"HPDEZ"
#: A batch is written when it has so many bytes; a single row may have more.
_BATCH_BYTES: Final = 256 * 1024
_MOST_FRAME_BYTES: Final = 2**31 - 1
#: Level 1: four fifths of what level 6 saves on JSON bodies, at a quarter of its time.
_LEVEL: Final = 1

Row = Sequence[Any]


class PartWriter:
    """Takes the data of one part. ``facts`` go into its END."""

    def __init__(self, frames: _FrameWriter) -> None:
        self._frames = frames
        self._digest = hashlib.sha256()
        self.bytes = 0
        self.facts: dict[str, Any] = {}

    def add(self, data: bytes, *, deflate: bool = True) -> None:
        self._digest.update(data)
        self.bytes += len(data)
        self._frames.write(_DATA, data, deflate=deflate)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def end(self) -> dict[str, Any]:
        return {"bytes": self.bytes, "sha256": self.sha256, **self.facts}


class BackupWriter:
    """Writes one backup. Without :meth:`close` it is none."""

    def __init__(self, sealed: SealedWriter, header: Mapping[str, Any]) -> None:
        self._sealed = sealed
        self._frames = _FrameWriter(sealed)
        self._ends = hashlib.sha256()
        self._parts = 0
        self._frames.write_json(_HEADER, {"format": FORMAT, **header})

    @contextmanager
    def part(self, kind: str, name: str, **facts: Any) -> Iterator[PartWriter]:
        self._frames.write_json(_PART, {"kind": kind, "name": name, **facts})
        part = PartWriter(self._frames)
        yield part
        self._ends.update(self._frames.write_json(_END, part.end()))
        self._parts += 1

    def close(self, totals: Mapping[str, Any]) -> None:
        self._frames.write_json(_CLOSING, {**totals, "parts": self._parts, "ends_sha256": self._ends.hexdigest()})
        self._sealed.close()


@dataclass(slots=True, kw_only=True)
class Part:
    """One part of a backup that is being read. ``end`` is there when :meth:`data` has come to its end."""

    kind: str
    name: str
    facts: Mapping[str, Any]
    end: Mapping[str, Any] = field(default_factory=dict)
    _data: Iterator[bytes] = field(default_factory=lambda: iter(()))

    def data(self) -> Iterator[bytes]:
        """Its pieces, once. The last has been given only when the digest over all of them is right."""
        return self._data


class BackupReader:
    """Reads one backup from its beginning to its end. Raises Malformed(backup-damaged, backup-unreadable)."""

    def __init__(self, sealed: SealedReader) -> None:
        self._sealed = sealed
        self._ends = hashlib.sha256()
        self._parts = 0
        kind, data = self._frame()
        self.header: Mapping[str, Any] = _document(data)
        if kind != _HEADER or self.header.get("format") != FORMAT:
            raise Malformed("backup-unreadable")
        #: The closing record, once `parts` has come to its end.
        self.closing: Mapping[str, Any] = {}

    def parts(self) -> Iterator[Part]:
        """Each part in turn; what its taker leaves unread is read, checked and thrown away."""
        while True:
            kind, data = self._frame()
            if kind == _CLOSING:
                break
            if kind != _PART:
                raise Malformed("backup-damaged")
            facts = _document(data)
            part = Part(kind=str(facts.get("kind")), name=str(facts.get("name")), facts=facts)
            part._data = self._data_of(part)
            yield part
            for _ in part.data():
                pass
        self.closing = _document(data)
        told = (self.closing.get("parts"), self.closing.get("ends_sha256"))
        if told != (self._parts, self._ends.hexdigest()):
            raise Malformed("backup-damaged")
        self._sealed.end()

    def _data_of(self, part: Part) -> Iterator[bytes]:
        digest, length = hashlib.sha256(), 0
        kind, data = self._frame()
        while kind == _DATA:
            digest.update(data)
            length += len(data)
            yield data
            kind, data = self._frame()
        if kind != _END:
            raise Malformed("backup-damaged")
        part.end = _document(data)
        self._ends.update(data)
        self._parts += 1
        if (part.end.get("bytes"), part.end.get("sha256")) != (length, digest.hexdigest()):
            raise Malformed("backup-damaged")

    def _frame(self) -> tuple[int, bytes]:
        kind = self._sealed.read(1)[0]
        raw, stored = (int.from_bytes(self._sealed.read(4), "big") for _ in range(2))
        if raw > _MOST_FRAME_BYTES or stored > raw:
            raise Malformed("backup-damaged")
        data = self._sealed.read(stored)
        return kind, data if stored == raw else _inflated(data, raw)


class _FrameWriter:
    def __init__(self, sealed: SealedWriter) -> None:
        self._sealed = sealed

    def write(self, kind: int, data: bytes, *, deflate: bool = True) -> None:
        if len(data) > _MOST_FRAME_BYTES:
            raise ValueError("more than a frame holds")
        stored = zlib.compress(data, _LEVEL) if deflate else data
        if len(stored) >= len(data):
            stored = data
        lengths = len(data).to_bytes(4, "big") + len(stored).to_bytes(4, "big")
        self._sealed.write(bytes([kind]) + lengths)
        self._sealed.write(stored)

    def write_json(self, kind: int, document: Mapping[str, Any]) -> bytes:
        data = orjson.dumps(document)
        self.write(kind, data)
        return data


# --- rows ------------------------------------------------------------------------------------------------------------


def batches(rows: Iterable[Row]) -> Iterator[tuple[int, bytes]]:
    """(how many rows, the batch) until the rows end; holds one batch in memory, or one row if that is larger."""
    held: list[list[Any]] = []
    blobs: list[bytes] = []
    size = 0
    for row in rows:
        plain: list[Any] = []
        for value in row:
            if type(value) is bytes:
                blobs.append(value)
                plain.append([len(value)])
                size += len(value)
            else:
                plain.append(value)
                size += len(value) if type(value) is str else 8
        held.append(plain)
        if size >= _BATCH_BYTES:
            yield len(held), _batch(held, blobs)
            held, blobs, size = [], [], 0
    if held:
        yield len(held), _batch(held, blobs)


def _batch(rows: Sequence[Row], blobs: Sequence[bytes]) -> bytes:
    listed = orjson.dumps(rows)
    return b"".join([len(listed).to_bytes(4, "big"), listed, *blobs])


def rows_of(batch: bytes, columns: int) -> list[list[Any]]:
    """The rows of a batch, each with so many values. Raises Malformed(backup-damaged)."""
    length = int.from_bytes(batch[:4], "big")
    try:
        rows: list[list[Any]] = orjson.loads(batch[4 : 4 + length])
        at = 4 + length
        if type(rows) is not list or any(type(row) is not list or len(row) != columns for row in rows):
            raise ValueError("another shape")
        for row in rows:
            for place, value in enumerate(row):
                if type(value) is list:
                    row[place] = batch[at : at + value[0]]
                    at += value[0]
    except (ValueError, TypeError, IndexError):
        raise Malformed("backup-damaged") from None
    if at != len(batch):
        raise Malformed("backup-damaged")
    return rows


def _inflated(data: bytes, length: int) -> bytes:
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(data, length)
    except zlib.error:
        raise Malformed("backup-damaged") from None
    if len(raw) != length or inflate.unconsumed_tail or inflate.unused_data:
        raise Malformed("backup-damaged")
    return raw


def _document(data: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(data)
    except ValueError:
        raise Malformed("backup-damaged") from None
    if not isinstance(document, dict):
        raise Malformed("backup-damaged")
    return document
