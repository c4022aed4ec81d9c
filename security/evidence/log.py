"""The evidence log's store: leaves, tiles, checkpoints. The only SQL of this room.

Leaves are appended inside the ledger's own transaction: a message and its evidence become durable together or not at
all. The tree is built later and in batches by :meth:`EvidenceLog.seal`, which costs what the batch costs, whatever the
size of the log.

Layout, after C2SP tlog-tiles (256 hashes a tile): a complete tile of level 0 holds 256 leaf hashes, one of level ``n``
the roots of 256 tiles of level ``n - 1``. Tiles of level 0 are written once, when they are full; the leaves after the
last full one are read from their own rows. Tiles of higher levels grow in place, one hash per finished tile below.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Dialect,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    insert,
    select,
    text,
    update,
)

from schemas.moment import from_micros, from_wire, to_micros
from schemas.problem import Malformed
from security.evidence.checkpoint import (
    Checkpoint,
    NoteSigner,
    NoteVerifier,
    parse_checkpoint,
    sign_checkpoint,
    verify_checkpoint,
)
from security.evidence.tree import (
    HASH_LENGTH,
    Frontier,
    consistency_proof,
    frontier_nodes,
    inclusion_proof,
    leaf_hash,
    subtree_of_power,
)
from security.statements import Prepared
from security.verifier import Refuted, read_timestamp

#: tlog-tiles: tiles of height 8.
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT

#: SQLite makes a column the row's own address only when it is called INTEGER; elsewhere a log outgrows 32 bits.
_Position = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

#: Two rows: how many leaves were appended, how many of them a checkpoint covers.
evidence_head = Table(
    "evidence_head",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("size", BigInteger, nullable=False),
)
evidence_leaves = Table(
    "evidence_leaves",
    metadata,
    Column("position", _Position, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    Column("entry", LargeBinary, nullable=False),
)
evidence_tiles = Table(
    "evidence_tiles",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("tile_index", BigInteger, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
)
evidence_checkpoints = Table(
    "evidence_checkpoints",
    metadata,
    Column("size", _Position, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
#: Tokens of timestamp authorities (RFC 3161, DER) for checkpoints; ``stamped_at`` is the time in the token.
evidence_timestamps = Table(
    "evidence_timestamps",
    metadata,
    Column("size", _Position, ForeignKey(evidence_checkpoints.c.size), primary_key=True, autoincrement=False),
    Column("token", LargeBinary, nullable=False),
    Column("stamped_at", BigInteger, nullable=False),
)

_APPENDED, _SEALED = "appended", "sealed"
_advance = (
    update(evidence_head)
    .where(evidence_head.c.name == bindparam("name_"))
    .values(size=evidence_head.c.size + bindparam("count"))
)
_lock_head = select(evidence_head.c.size).where(evidence_head.c.name == _APPENDED).with_for_update()
_move_sealed = (
    update(evidence_head)
    .where(evidence_head.c.name == _SEALED, evidence_head.c.size == bindparam("old"))
    .values(size=bindparam("new"))
)
_keep_token = text(
    "INSERT INTO evidence_timestamps (size, token, stamped_at) VALUES (:size, :token, :stamped_at) "
    "ON CONFLICT (size) DO NOTHING"
)
_insert_leaf = insert(evidence_leaves)
_leaf_hashes = (
    select(evidence_leaves.c.hash)
    .where(evidence_leaves.c.position >= bindparam("start"), evidence_leaves.c.position < bindparam("end"))
    .order_by(evidence_leaves.c.position)
)
_one_tile = select(evidence_tiles.c.hashes).where(
    evidence_tiles.c.level == bindparam("level"), evidence_tiles.c.tile_index == bindparam("tile_index")
)
_grow_tile = (
    update(evidence_tiles)
    .where(evidence_tiles.c.level == bindparam("at_level"), evidence_tiles.c.tile_index == bindparam("at_index"))
    .values(hashes=bindparam("grown"))
)


class EvidenceDamaged(Exception):
    """The store does not hold what the log wrote. Nothing is sealed until an operator has looked (``verify_all``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogAudit:
    """What :meth:`EvidenceLog.verify_all` found; no faults means that the log is what its checkpoints say."""

    leaves: int
    checkpoints: int
    tiles: int
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStanding:
    """How far the log is sealed. ``waiting_since`` is the moment in the first entry that no checkpoint covers yet."""

    size: int
    sealed: int
    sealed_at: datetime | None
    waiting_since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StampStanding:
    """How far timestamps reach. ``waiting_since`` is the moment of the first checkpoint that none covers yet."""

    stamped: int
    stamped_at: datetime | None
    waiting_since: datetime | None


class EvidenceLog:
    """An append-only log. One instance may serve all threads; transactions belong to the caller, always."""

    def __init__(self, origin: str, log_key: NoteSigner) -> None:
        """``origin`` names the log in its checkpoints, for ever; ``log_key`` signs them under the same name.

        Raises ValueError for a key of another name (tlog-checkpoint: the two should match; verifiers here insist).
        """
        if log_key.name != origin:
            raise ValueError("the log's key bears the log's name")
        self.origin = origin
        self._key = log_key
        # The right edge at the last checkpoint of ours, with that checkpoint's root. Used only when the store's last
        # checkpoint has the same size and root: a transaction that was rolled back leaves no trace here.
        self._edge: tuple[bytes, Frontier] | None = None

    @property
    def verifier(self) -> NoteVerifier:
        """The public half of the key that signs checkpoints: what verifiers, monitors and witnesses are given."""
        return self._key.verifier

    # --- writing ---------------------------------------------------------------------------------------------------

    def prepare(self, connection: Connection) -> None:
        """Write the two rows of the head if they are missing. Once, before the first append; safe to repeat."""
        present = set(connection.execute(select(evidence_head.c.name)).scalars())
        missing = [{"name": name, "size": 0} for name in (_APPENDED, _SEALED) if name not in present]
        if missing:
            connection.execute(insert(evidence_head), missing)

    def lock(self, connection: Connection) -> None:
        """Wait until no other transaction appends, and let none append before this one has ended.

        For writers that must look before they append. SQLite has one writer at a time anyway and ignores it.
        """
        connection.execute(_lock_head)

    def append(self, connection: Connection, entries: Sequence[tuple[bytes, bytes]]) -> int:
        """Append (leaf hash, entry) pairs in order and return the position of the first.

        Runs in the caller's transaction. Writers of other transactions wait for its commit, so positions have no gaps
        and become visible in order; keep the transaction short.
        """
        return self.take_turn(connection).append(entries)

    def take_turn(self, connection: Connection) -> AppendTurn:
        """:meth:`lock`, and the right to append in this transaction until it ends. The lock is asked for here and got
        when the first entry is appended, or whatever was asked after it is answered."""
        return AppendTurn(self, connection)

    def seal(self, connection: Connection, now: datetime) -> Checkpoint | None:
        """Sign a checkpoint over all leaves so far; None when there is nothing new, or another process was quicker.

        Costs the new leaves, one signature and five small statements, whatever the size of the log: call it once a
        second or every few hundred leaves, in a transaction of its own (after an append in the same one is fine, before
        one could deadlock on PostgreSQL). The caller commits.
        """
        sizes = self._sizes(connection)
        old, new = sizes.get(_SEALED, 0), sizes.get(_APPENDED, 0)
        if new == old:
            return None
        # Whoever moves the mark builds; on PostgreSQL a second sealer waits here, then finds the mark moved.
        if connection.execute(_move_sealed, {"old": old, "new": new}).rowcount != 1:
            return None
        frontier = self._frontier(connection, old)
        # Leaves from the start of the tile that is being filled, if this batch fills it; else only the new ones.
        fills_a_tile = new // TILE_WIDTH > old // TILE_WIDTH
        start = old - old % TILE_WIDTH if fills_a_tile else old
        leaves = list(connection.execute(_leaf_hashes, {"start": start, "end": new}).scalars())
        if len(leaves) != new - start:
            raise EvidenceDamaged("leaves are missing")
        for leaf in leaves[old - start :]:
            frontier.append(bytes(leaf))
        if fills_a_tile:
            self._write_tiles(connection, start // TILE_WIDTH, leaves)
        checkpoint = sign_checkpoint(self.origin, new, frontier.root(), self._key)
        connection.execute(
            insert(evidence_checkpoints),
            {"size": new, "note": checkpoint.note, "created_at": to_micros(now)},
        )
        self._edge = (checkpoint.root, frontier)
        return checkpoint

    def keep_timestamp(self, connection: Connection, size: int, token: bytes, at: datetime) -> bool:
        """Keep a verified token for the checkpoint of this size, unless it has one: False then. The caller commits."""
        row = {"size": size, "token": token, "stamped_at": to_micros(at)}
        return connection.execute(_keep_token, row).rowcount == 1

    # --- reading ---------------------------------------------------------------------------------------------------

    def size(self, connection: Connection) -> int:
        """How many leaves were appended, sealed or not."""
        return self._sizes(connection).get(_APPENDED, 0)

    def has_grown(self, connection: Connection) -> bool:
        """Are there leaves that no checkpoint covers?"""
        sizes = self._sizes(connection)
        return sizes.get(_APPENDED, 0) != sizes.get(_SEALED, 0)

    def head(self, connection: Connection) -> tuple[int, bytes]:
        """Size and root of the tree over all leaves, sealed or not: what the next checkpoint would say."""
        size = self.size(connection)
        return size, self.root_at(connection, size)

    def root_at(self, connection: Connection, size: int) -> bytes:
        """The root over the first ``size`` leaves; reads a few tiles, and the leaves that no checkpoint covers yet.

        Raises ValueError where there are not so many.
        """
        sizes = self._sizes(connection)
        if size > sizes.get(_APPENDED, 0):
            raise ValueError("the log has fewer leaves")
        start = min(size, sizes.get(_SEALED, 0))
        frontier = self._frontier(connection, start)
        for leaf in connection.execute(_leaf_hashes, {"start": start, "end": size}).scalars():
            frontier.append(bytes(leaf))
        if frontier.size != size:
            raise EvidenceDamaged("leaves are missing")
        return frontier.root()

    def entry(self, connection: Connection, position: int) -> bytes | None:
        row = connection.execute(
            select(evidence_leaves.c.entry).where(evidence_leaves.c.position == position)
        ).scalar_one_or_none()
        return None if row is None else bytes(row)

    def holds(self, connection: Connection, position: int, leaf: bytes) -> bool:
        """Is this leaf at this position?"""
        query = select(evidence_leaves.c.hash).where(evidence_leaves.c.position == position)
        return bytes(connection.execute(query).scalar_one_or_none() or b"") == leaf

    def standing(self, connection: Connection) -> LogStanding:
        """Sizes and moments, by three look-ups; for those who watch over the log."""
        sizes = self._sizes(connection)
        size, sealed = sizes.get(_APPENDED, 0), sizes.get(_SEALED, 0)
        created_at = connection.execute(
            select(evidence_checkpoints.c.created_at).order_by(evidence_checkpoints.c.size.desc()).limit(1)
        ).scalar_one_or_none()
        first = self.entry(connection, sealed) if size > sealed else None
        return LogStanding(
            size=size,
            sealed=sealed,
            sealed_at=None if created_at is None else from_micros(created_at),
            waiting_since=None if first is None else from_wire(json.loads(first)["at"]),
        )

    def latest_checkpoint(self, connection: Connection) -> Checkpoint | None:
        note = connection.execute(
            select(evidence_checkpoints.c.note).order_by(evidence_checkpoints.c.size.desc()).limit(1)
        ).scalar_one_or_none()
        return None if note is None else parse_checkpoint(note)

    def unstamped_checkpoint(self, connection: Connection) -> Checkpoint | None:
        """The latest checkpoint, if no timestamp covers it: that one covers all before it, too."""
        latest = self.latest_checkpoint(connection)
        return latest if latest is not None and latest.size > _stamped_size(connection) else None

    def stamped_checkpoint(self, connection: Connection, position: int) -> tuple[Checkpoint, bytes] | None:
        """The first checkpoint with a timestamp that covers this entry, and the token; None when there is none yet."""
        row = connection.execute(
            select(evidence_checkpoints.c.note, evidence_timestamps.c.token)
            .join(evidence_timestamps, evidence_timestamps.c.size == evidence_checkpoints.c.size)
            .where(evidence_timestamps.c.size > position)
            .order_by(evidence_timestamps.c.size)
            .limit(1)
        ).first()
        return None if row is None else (parse_checkpoint(row.note), bytes(row.token))

    def stamp_standing(self, connection: Connection) -> StampStanding:
        """How far timestamps reach, by two look-ups."""
        last = connection.execute(
            select(evidence_timestamps.c.size, evidence_timestamps.c.stamped_at)
            .order_by(evidence_timestamps.c.size.desc())
            .limit(1)
        ).first()
        stamped = 0 if last is None else int(last.size)
        waiting = connection.execute(
            select(evidence_checkpoints.c.created_at)
            .where(evidence_checkpoints.c.size > stamped)
            .order_by(evidence_checkpoints.c.size)
            .limit(1)
        ).scalar_one_or_none()
        return StampStanding(
            stamped=stamped,
            stamped_at=None if last is None else from_micros(last.stamped_at),
            waiting_since=None if waiting is None else from_micros(waiting),
        )

    def inclusion_proof(self, connection: Connection, position: int, size: int) -> list[bytes]:
        """The audit path of a leaf under the checkpoint of ``size``. Reads a few tiles and at most 255 leaf rows.

        Raises ValueError when there is no such leaf, or when ``size`` is beyond what is sealed.
        """
        self._must_be_sealed(connection, size)
        return inclusion_proof(position, size, _TileReader(connection).node)

    def consistency_proof(self, connection: Connection, old: int, new: int) -> list[bytes]:
        """That the log of size ``old`` is the beginning of the log of size ``new``. Raises ValueError as above."""
        self._must_be_sealed(connection, new)
        return consistency_proof(old, new, _TileReader(connection).node)

    def verify_all(self, connection: Connection) -> LogAudit:
        """Recompute every leaf, tile, root and signature from the entries. Reads the whole log, row by row."""
        rows = connection.execute(select(evidence_checkpoints.c.size, evidence_checkpoints.c.note))
        notes: dict[int, str] = {row.size: row.note for row in rows}
        count = len(notes)
        faults: list[str] = []
        frontier, tile, tiles = Frontier(), bytearray(), 0
        for position, stored, entry in _all_leaves(connection):
            if position != frontier.size:
                faults.append(f"leaf {frontier.size}: missing")
                break
            computed = leaf_hash(bytes(entry))
            if computed != bytes(stored):
                faults.append(f"leaf {position}: the entry is not the one that was hashed")
            frontier.append(computed)
            tile += computed
            if len(tile) == TILE_WIDTH * HASH_LENGTH:
                sealed = position < max(notes, default=0)
                tiles += sealed and _tile_is(connection, 0, position // TILE_WIDTH, bytes(tile), faults)
                tile.clear()
            if frontier.size in notes:
                self._check_note(notes.pop(frontier.size), frontier, faults)
        faults.extend(f"checkpoint {size}: beyond the last leaf" for size in sorted(notes))
        if frontier.size != self.size(connection):
            faults.append("head: its size is not the number of leaves")
        tiles += self._check_upper_tiles(connection, faults)
        faults.extend(_wrong_timestamps(connection))
        return LogAudit(leaves=frontier.size, checkpoints=count, tiles=tiles, faults=tuple(faults))

    # --- inside ----------------------------------------------------------------------------------------------------

    def _sizes(self, connection: Connection) -> dict[str, int]:
        rows = connection.execute(select(evidence_head.c.name, evidence_head.c.size))
        return {row.name: row.size for row in rows}

    def _must_be_sealed(self, connection: Connection, size: int) -> None:
        if size > self._sizes(connection).get(_SEALED, 0):
            raise ValueError("the log has no checkpoint of that size yet")

    def _frontier(self, connection: Connection, size: int) -> Frontier:
        """The right edge at a sealed size: from memory when the store agrees, else from a handful of tiles."""
        if size == 0:
            return Frontier()
        last = self.latest_checkpoint(connection)
        if self._edge and last and self._edge[1].size == last.size == size and self._edge[0] == last.root:
            return self._edge[1].copy()
        reader = _TileReader(connection)
        return Frontier(size, [reader.node(level, index) for level, index in frontier_nodes(size)])

    def _write_tiles(self, connection: Connection, first_tile: int, leaves: Sequence[bytes]) -> None:
        """Write the level-0 tiles that are full, then pass their roots up."""
        full = len(leaves) // TILE_WIDTH
        chunks = [leaves[i * TILE_WIDTH : (i + 1) * TILE_WIDTH] for i in range(full)]
        connection.execute(
            insert(evidence_tiles),
            [{"level": 0, "tile_index": first_tile + i, "hashes": b"".join(chunk)} for i, chunk in enumerate(chunks)],
        )
        self._extend_level(connection, 1, first_tile, [subtree_of_power(chunk) for chunk in chunks])

    def _extend_level(self, connection: Connection, level: int, start: int, hashes: Sequence[bytes]) -> None:
        """Append ``hashes`` at place ``start`` of this level; the roots of tiles that became full go one level up."""
        finished: list[bytes] = []
        first_tile = start // TILE_WIDTH
        taken, tile_index = 0, first_tile
        while taken < len(hashes):
            held = connection.execute(_one_tile, {"level": level, "tile_index": tile_index}).scalar_one_or_none()
            before = bytes(held or b"")
            if len(before) != (start + taken) % TILE_WIDTH * HASH_LENGTH:
                raise EvidenceDamaged("a tile does not fit the tiles below it")
            room = TILE_WIDTH - len(before) // HASH_LENGTH
            grown = before + b"".join(hashes[taken : taken + room])
            taken += room
            if held is None:
                row = {"level": level, "tile_index": tile_index, "hashes": grown}
                connection.execute(insert(evidence_tiles), row)
            else:
                connection.execute(_grow_tile, {"at_level": level, "at_index": tile_index, "grown": grown})
            if len(grown) == TILE_WIDTH * HASH_LENGTH:
                finished.append(subtree_of_power(_split_hashes(grown)))
            tile_index += 1
        if finished:
            self._extend_level(connection, level + 1, first_tile, finished)

    def _check_note(self, note: str, frontier: Frontier, faults: list[str]) -> None:
        try:
            checkpoint = verify_checkpoint(note, self.origin, self._key.verifier)
        except Malformed:
            faults.append(f"checkpoint {frontier.size}: its signature does not hold")
            return
        if checkpoint.size != frontier.size or checkpoint.root != frontier.root():
            faults.append(f"checkpoint {frontier.size}: its root is not that of the leaves")

    def _check_upper_tiles(self, connection: Connection, faults: list[str]) -> int:
        """Each hash of a higher tile must be the root of the tile below it. Returns how many tiles were checked."""
        checked = 0
        rows = connection.execute(
            select(evidence_tiles.c.level, evidence_tiles.c.tile_index, evidence_tiles.c.hashes)
            .where(evidence_tiles.c.level > 0)
            .order_by(evidence_tiles.c.level, evidence_tiles.c.tile_index)
        ).all()
        for level, tile_index, hashes in rows:
            for place, stored in enumerate(_split_hashes(bytes(hashes)), start=tile_index * TILE_WIDTH):
                below = connection.execute(_one_tile, {"level": level - 1, "tile_index": place}).scalar_one_or_none()
                whole = below is not None and len(below) == TILE_WIDTH * HASH_LENGTH
                if not whole or subtree_of_power(_split_hashes(bytes(below or b""))) != stored:
                    faults.append(f"tile {level}/{tile_index}: does not fit the tiles below")
                    break
            checked += 1
        return checked


class _Appending:
    """What runs when something is appended, which is on the path of every message."""

    def __init__(self, dialect: Dialect) -> None:
        self.lock_head = Prepared(_lock_head, dialect)
        self.advance = Prepared(_advance, dialect)
        self.insert_leaf = Prepared(_insert_leaf, dialect)


@cache
def _prepared(dialect: Dialect) -> _Appending:
    return _Appending(dialect)


class AppendTurn:
    """Appends in one transaction: what is appended waits for no answer of the store, the turn knows where it stands.
    While it lasts nobody else appends, and in its own transaction nothing else may."""

    def __init__(self, log: EvidenceLog, connection: Connection) -> None:
        statements = _prepared(connection.dialect)
        self._log = log
        self._connection = connection
        self._advance, self._insert = statements.advance, statements.insert_leaf
        self._head = statements.lock_head.ask(connection)
        self._size: int | None = None
        #: Position and hash of the first leaf: when it is there later, so is all else of this transaction.
        self.first: tuple[int, bytes] | None = None

    def append(self, entries: Sequence[tuple[bytes, bytes]]) -> int:
        """See :meth:`EvidenceLog.append`."""
        if not entries:
            raise ValueError("nothing to append")
        first = self.wait()
        self._size = first + len(entries)
        self.first = self.first or (first, entries[0][0])
        self._advance.run(self._connection, {"count": len(entries), "name_": _APPENDED})
        self._insert.many(
            self._connection,
            [{"position": at, "hash": leaf, "entry": entry} for at, (leaf, entry) in enumerate(entries, first)],
        )
        return first

    def wait(self) -> int:
        """Return once it is this transaction's turn, with the position of the next leaf."""
        if self._size is None:
            head = self._head()
            if not head:
                self._log.prepare(self._connection)
            self._size = head[0][0] if head else 0
        return self._size


class _TileReader:
    """Roots of complete subtrees, from tiles; each tile is read once. Lives for one proof."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tiles: dict[tuple[int, int], list[bytes]] = {}

    def node(self, level: int, index: int) -> bytes:
        """The root over the leaves ``index << level`` up to ``(index + 1) << level``."""
        tile_level, height = divmod(level, TILE_HEIGHT)
        start = index << height
        hashes = self._tile(tile_level, start // TILE_WIDTH)
        offset = start % TILE_WIDTH
        wanted = hashes[offset : offset + (1 << height)]
        if len(wanted) != 1 << height:
            raise ValueError("the log has no such subtree yet")
        return subtree_of_power(wanted)

    def _tile(self, level: int, tile_index: int) -> list[bytes]:
        key = (level, tile_index)
        if key not in self._tiles:
            self._tiles[key] = self._read(level, tile_index)
        return self._tiles[key]

    def _read(self, level: int, tile_index: int) -> list[bytes]:
        held = self._connection.execute(_one_tile, {"level": level, "tile_index": tile_index}).scalar_one_or_none()
        if held is not None:
            return _split_hashes(bytes(held))
        if level > 0:
            return []
        bounds = {"start": tile_index * TILE_WIDTH, "end": (tile_index + 1) * TILE_WIDTH}
        return [bytes(value) for value in self._connection.execute(_leaf_hashes, bounds).scalars()]


def _all_leaves(connection: Connection, page: int = 1000) -> Iterator[tuple[int, bytes, bytes]]:
    """Every leaf in order, a page at a time, so that memory stays flat."""
    after = -1
    leaves = evidence_leaves.c
    while True:
        rows = connection.execute(
            select(leaves.position, leaves.hash, leaves.entry)
            .where(leaves.position > after)
            .order_by(leaves.position)
            .limit(page)
        ).all()
        yield from ((row.position, row.hash, row.entry) for row in rows)
        if len(rows) < page:
            return
        after = rows[-1].position


def _tile_is(connection: Connection, level: int, tile_index: int, hashes: bytes, faults: list[str]) -> bool:
    held = connection.execute(_one_tile, {"level": level, "tile_index": tile_index}).scalar_one_or_none()
    if held is None or bytes(held) != hashes:
        faults.append(f"tile {level}/{tile_index}: does not hold its leaves")
    return True


def _stamped_size(connection: Connection) -> int:
    newest = select(evidence_timestamps.c.size).order_by(evidence_timestamps.c.size.desc()).limit(1)
    return connection.execute(newest).scalar_one_or_none() or 0


def _wrong_timestamps(connection: Connection) -> list[str]:
    """Tokens that are none, or not about their checkpoint. Whose they are, a verifier asks who knows the authority."""
    rows = connection.execute(
        select(evidence_timestamps.c.size, evidence_timestamps.c.token, evidence_checkpoints.c.note)
        .outerjoin(evidence_checkpoints, evidence_checkpoints.c.size == evidence_timestamps.c.size)
        .order_by(evidence_timestamps.c.size)
    )
    wrong = []
    for size, token, note in rows:
        try:
            read_timestamp(bytes(token), note or "")
        except Refuted:
            wrong.append(f"timestamp {size}: it is not one of that checkpoint")
    return wrong


def _split_hashes(hashes: bytes) -> list[bytes]:
    return [hashes[i : i + HASH_LENGTH] for i in range(0, len(hashes), HASH_LENGTH)]
