"""The evidence log: hashes and proofs of RFC 6962, checkpoints, and the store that builds them in batches."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, create_engine, delete, update

from schemas.problem import Malformed
from security.evidence import log as evidence
from security.evidence import tree
from security.evidence.checkpoint import (
    NoteKey,
    NoteVerifier,
    parse_checkpoint,
    sign_checkpoint,
    verify_checkpoint,
)
from security.evidence.entries import EvidenceEntry, delivered, refused
from security.evidence.log import EvidenceDamaged, EvidenceLog
from security.evidence.tree import consistency_holds, inclusion_holds, leaf_hash, node_hash, root_of

NOW = datetime(2026, 4, 23, 3, 0, tzinfo=UTC)
ORIGIN = "lgsp.h99.example/evidence"
#: The test vectors that certificate-transparency implementations share: eight leaves, and the root of each prefix.
CT_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaves_of(count: int) -> list[bytes]:
    return [leaf_hash(b"entry %d" % number) for number in range(count)]


def reader(leaves: list[bytes]) -> Callable[[int, int], bytes]:
    """A ReadNode over memory, slow and plain: what the tiles are held against."""
    known: dict[tuple[int, int], bytes] = {}

    def read(level: int, index: int) -> bytes:
        if level == 0:
            return leaves[index]
        if (level, index) not in known:
            known[level, index] = node_hash(read(level - 1, 2 * index), read(level - 1, 2 * index + 1))
        return known[level, index]

    return read


def flipped(value: bytes, bit: int) -> bytes:
    changed = bytearray(value)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


ALL_LEAVES = leaves_of(600)
READ = reader(ALL_LEAVES)


# --- the tree --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_the_certificate_transparency_vectors(size: int) -> None:
    assert root_of([leaf_hash(data) for data in CT_LEAVES[:size]]).hex() == CT_ROOTS[size]


def test_proofs_are_those_of_the_certificate_transparency_vectors() -> None:
    read = reader([leaf_hash(data) for data in CT_LEAVES])
    assert [value.hex() for value in tree.inclusion_proof(0, 8, read)] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    assert [value.hex() for value in tree.consistency_proof(6, 8, read)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


def test_every_leaf_of_every_size_up_to_600_is_proven() -> None:
    """All leaves of the small sizes and of those at the borders of tiles; first, middle and last of the others."""
    for size in range(1, 601):
        root = root_of(ALL_LEAVES[:size])
        indexes = range(size) if size < 70 or size in (255, 256, 257, 511, 512, 513, 600) else {0, size // 2, size - 1}
        for index in indexes:
            proof = tree.inclusion_proof(index, size, READ)
            assert len(proof) <= (size - 1).bit_length()
            assert inclusion_holds(ALL_LEAVES[index], index, size, proof, root)


@given(st.integers(1, 600), st.data())
def test_an_inclusion_proof_holds_for_its_leaf_place_and_root_only(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    leaf, root = ALL_LEAVES[index], root_of(ALL_LEAVES[:size])
    proof = tree.inclusion_proof(index, size, READ)
    assert inclusion_holds(leaf, index, size, proof, root)
    bit = data.draw(st.integers(0, 255))
    assert not inclusion_holds(flipped(leaf, bit), index, size, proof, root)
    assert not inclusion_holds(leaf, index, size, proof, flipped(root, bit))
    for place in range(len(proof)):
        bent = [*proof[:place], flipped(proof[place], bit), *proof[place + 1 :]]
        assert not inclusion_holds(leaf, index, size, bent, root)
    other = data.draw(st.integers(0, 600).filter(lambda value: value != index))
    assert not inclusion_holds(leaf, other, size, proof, root)
    assert not inclusion_holds(leaf, index, size, [*proof, root], root)
    if proof:
        assert not inclusion_holds(leaf, index, size, proof[:-1], root)
        assert not inclusion_holds(leaf, index, size, proof[1:], root)
        assert not inclusion_holds(leaf, index, size, [*proof[:-1], proof[-1][:-1]], root)


@given(st.integers(1, 600), st.data())
def test_a_consistency_proof_holds_for_its_two_trees_only(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new))
    old_root, new_root = root_of(ALL_LEAVES[:old]), root_of(ALL_LEAVES[:new])
    proof = tree.consistency_proof(old, new, READ)
    assert consistency_holds(old, new, old_root, new_root, proof)
    bit = data.draw(st.integers(0, 255))
    assert not consistency_holds(old, new, flipped(old_root, bit), new_root, proof)
    assert not consistency_holds(old, new, old_root, flipped(new_root, bit), proof)
    for place in range(len(proof)):
        bent = [*proof[:place], flipped(proof[place], bit), *proof[place + 1 :]]
        assert not consistency_holds(old, new, old_root, new_root, bent)
    assert not consistency_holds(old, new, old_root, new_root, [*proof, new_root])
    if proof:
        assert not consistency_holds(old, new, old_root, new_root, proof[:-1])


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 5), (5, 5), (6, 5)])
def test_there_is_no_proof_of_a_leaf_that_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError):
        tree.inclusion_proof(index, size, READ)
    assert not inclusion_holds(ALL_LEAVES[0], index, size, [], ALL_LEAVES[0])


@pytest.mark.parametrize(("old", "new"), [(0, 5), (0, 0), (6, 5), (-1, 5)])
def test_nothing_follows_from_an_empty_or_larger_tree(old: int, new: int) -> None:
    with pytest.raises(ValueError):
        tree.consistency_proof(old, new, READ)
    assert not consistency_holds(old, new, tree.EMPTY_ROOT, root_of(ALL_LEAVES[:5]), [])


def test_equal_trees_are_consistent_with_an_empty_proof_alone() -> None:
    root = root_of(ALL_LEAVES[:6])
    assert consistency_holds(6, 6, root, root, [])
    assert not consistency_holds(6, 6, root, root, [root])
    assert not consistency_holds(6, 7, root, root, [])


def test_a_node_does_not_pass_for_a_leaf() -> None:
    left, right = ALL_LEAVES[:2]
    assert leaf_hash(left + right) != node_hash(left, right)


# --- checkpoints -----------------------------------------------------------------------------------------------------

KEY = NoteKey.generate(ORIGIN)
NOTE = sign_checkpoint(ORIGIN, 600, root_of(ALL_LEAVES), KEY).note


def test_a_checkpoint_is_a_note_that_the_go_tools_read() -> None:
    """The example of the signed-note specification's Go reference (golang.org/x/mod/sumdb/note, PeterNeumann key)."""
    vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    verifier = NoteVerifier.parse(vkey)
    assert str(verifier) == vkey
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    signature = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    raw = base64.b64decode(signature)
    assert raw[:4] == verifier.key_hash
    assert verifier.holds(raw[4:], text.encode())


def test_a_checkpoint_says_what_was_signed() -> None:
    checkpoint = verify_checkpoint(NOTE, ORIGIN, KEY.verifier)
    assert (checkpoint.origin, checkpoint.size, checkpoint.root) == (ORIGIN, 600, root_of(ALL_LEAVES))
    assert parse_checkpoint(NOTE) == checkpoint
    assert NoteVerifier.parse(str(KEY.verifier)) == KEY.verifier


def test_no_byte_of_a_checkpoint_can_change() -> None:
    encoded = NOTE.encode()
    for place in range(len(encoded)):
        for bit in (0, 5):
            changed = bytearray(encoded)
            changed[place] ^= 1 << bit
            with pytest.raises((Malformed, UnicodeDecodeError)):
                verify_checkpoint(bytes(changed).decode(), ORIGIN, KEY.verifier)


def test_a_checkpoint_of_another_log_or_key_is_refused() -> None:
    namesake = NoteKey.generate(ORIGIN)
    stranger = NoteKey.generate("lgsp.h98.example/evidence")
    for note, verifier in ((NOTE, namesake.verifier), (NOTE, stranger.verifier)):
        with pytest.raises(Malformed):
            verify_checkpoint(note, ORIGIN, verifier)
    with pytest.raises(Malformed):
        verify_checkpoint(sign_checkpoint("elsewhere", 1, bytes(32), KEY).note, ORIGIN, KEY.verifier)


def test_a_witness_may_add_its_line() -> None:
    text, _, ours = NOTE.rpartition("\n\n")
    witness = NoteKey.generate("witness.example")
    line = sign_checkpoint("x", 1, bytes(32), witness).note.rpartition("\n\n")[2]
    assert verify_checkpoint(f"{text}\n\n{line}{ours}", ORIGIN, KEY.verifier).size == 600


BAD_NOTES = {
    "empty": "",
    "no signature": NOTE.rpartition("\n\n")[0] + "\n",
    "no newline at the end": NOTE[:-1],
    "leading zero": NOTE.replace("\n600\n", "\n0600\n"),
    "negative": NOTE.replace("\n600\n", "\n-600\n"),
    "two lines": NOTE.replace(f"{ORIGIN}\n", ""),
    "hyphen for the dash": NOTE.replace("—", "-"),
    "tab": NOTE.replace("— ", "—\t"),
    "carriage returns": NOTE.replace("\n", "\r\n"),
    "huge": NOTE + "x" * 100_000,
}


@pytest.mark.parametrize("name", BAD_NOTES)
def test_a_note_out_of_form_is_refused(name: str) -> None:
    with pytest.raises(Malformed) as caught:
        verify_checkpoint(BAD_NOTES[name], ORIGIN, KEY.verifier)
    assert caught.value.reason == "checkpoint-unreadable"


def test_a_log_key_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "log.pem"
    key = NoteKey.load_or_create(path, ORIGIN)
    assert NoteKey.load_or_create(path, ORIGIN).verifier == key.verifier
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("damaged")
    with pytest.raises(Malformed):
        NoteKey.load(path, ORIGIN)


@pytest.mark.parametrize(
    "vkey",
    ["", "a+b", "a+00000000+AQ==", str(KEY.verifier)[:-4], "x" + str(KEY.verifier)],
    ids=["empty", "short", "no key", "cut", "another name"],
)
def test_a_damaged_log_key_is_refused(vkey: str) -> None:
    with pytest.raises(Malformed):
        NoteVerifier.parse(vkey)


# --- entries ---------------------------------------------------------------------------------------------------------


def test_an_entry_has_one_exact_spelling() -> None:
    entry = delivered(message_id="m", manifest_sha256="d", receiver="G99", attempt=2, at=NOW)
    assert entry.encode() == (
        b'{"at":"2026-04-23T03:00:00.000000Z","attempt":2,"kind":"delivered",'
        b'"manifest_sha256":"d","message_id":"m","receiver":"G99"}'
    )
    assert entry.leaf_hash() == hashlib.sha256(b"\x00" + entry.encode()).digest()
    assert entry.leaf() == (entry.leaf_hash(), entry.encode())
    shuffled = EvidenceEntry(kind="delivered", facts=dict(reversed(list(entry.facts.items()))))
    assert shuffled.encode() == entry.encode()
    assert b"sender" not in refused(reason="unsigned", body_sha256="0", at=NOW).encode()


@pytest.mark.parametrize(
    "facts", [{"kind": "dead"}, {"Ä": "x"}, {"": "x"}, {"a": 1.5}, {"a": None}, {"a": True}, {"a": 2**53}, {"a": [1]}]
)
def test_a_fact_without_a_canonical_form_is_no_evidence(facts: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        EvidenceEntry(kind="refused", facts=facts)  # type: ignore[arg-type]


# --- the store -------------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'evidence.db'}")
    evidence.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def log() -> EvidenceLog:
    return EvidenceLog(ORIGIN, KEY)


def append(log: EvidenceLog, connection: Connection, first: int, count: int) -> None:
    entries = [b"entry %d" % number for number in range(first, first + count)]
    assert log.append(connection, [(leaf_hash(entry), entry) for entry in entries]) == first


#: Batches that meet the borders of tiles from both sides, and one that fills many at once.
BATCHES = [1, 1, 3, 250, 1, 1, 255, 257, 256, 1000, 5, 3000, 1]


def test_a_log_that_grows_in_batches_of_any_size_has_the_roots_of_its_leaves(engine: Engine, log: EvidenceLog) -> None:
    leaves = leaves_of(sum(BATCHES))
    size, sizes = 0, []
    for number, batch in enumerate(BATCHES):
        # A new object now and then: another process, without this one's memory of the right edge.
        log = EvidenceLog(ORIGIN, KEY) if number % 3 == 2 else log
        with engine.begin() as connection:
            append(log, connection, size, batch)
        size += batch
        sizes.append(size)
        with engine.begin() as connection:
            checkpoint = log.seal(connection, NOW)
        assert checkpoint is not None
        assert (checkpoint.size, checkpoint.root) == (size, root_of(leaves[:size]))
    with engine.begin() as connection:
        assert log.latest_checkpoint(connection) == checkpoint
        assert log.seal(connection, NOW) is None
        for old in sizes:
            old_root = root_of(leaves[:old])
            proof = log.consistency_proof(connection, old, size)
            assert consistency_holds(old, size, old_root, checkpoint.root, proof)
            for index in {0, old // 3, 255 % old, 256 % old, 257 % old, old - 1}:
                proof = log.inclusion_proof(connection, index, old)
                assert inclusion_holds(leaves[index], index, old, proof, old_root)
        audit = log.verify_all(connection)
    assert audit.faults == ()
    assert (audit.leaves, audit.checkpoints) == (size, len(BATCHES))
    assert audit.tiles == size // 256 + 1


@pytest.mark.slow
def test_a_log_beyond_a_tile_of_tiles_proves_its_leaves(engine: Engine, log: EvidenceLog) -> None:
    """65,536 leaves fill a tile of level 1, and level 2 begins."""
    leaves = leaves_of(65_800)
    size = 0
    for target in (65_535, 65_536, 65_537, 65_800):
        with engine.begin() as connection:
            append(log, connection, size, target - size)
            checkpoint = log.seal(connection, NOW)
        size = target
        assert checkpoint is not None
        assert checkpoint.root == root_of(leaves[:size])
        with engine.connect() as connection:
            for index in (0, 255, 256, 257, 65_279, 65_280, size - 1):
                proof = EvidenceLog(ORIGIN, KEY).inclusion_proof(connection, index, size)
                assert inclusion_holds(leaves[index], index, size, proof, checkpoint.root)
    with engine.connect() as connection:
        proof = log.consistency_proof(connection, 65_535, size)
        assert consistency_holds(65_535, size, root_of(leaves[:65_535]), checkpoint.root, proof)
        assert log.verify_all(connection).faults == ()


def test_what_is_not_sealed_cannot_be_proven_yet(engine: Engine, log: EvidenceLog) -> None:
    with engine.begin() as connection:
        append(log, connection, 0, 3)
        log.seal(connection, NOW)
        append(log, connection, 3, 1)
        assert log.size(connection) == 4
        for index, size in ((3, 4), (0, 4), (3, 3)):
            with pytest.raises(ValueError):
                log.inclusion_proof(connection, index, size)
        with pytest.raises(ValueError):
            log.consistency_proof(connection, 3, 4)


def test_a_transaction_that_rolls_back_leaves_no_trace_in_the_tree(engine: Engine, log: EvidenceLog) -> None:
    with engine.begin() as connection:
        append(log, connection, 0, 300)
        log.seal(connection, NOW)
    with engine.connect() as connection, connection.begin() as transaction:
        log.append(connection, [(leaf_hash(b"never"), b"never")])
        assert log.seal(connection, NOW) is not None
        transaction.rollback()
    with engine.begin() as connection:
        append(log, connection, 300, 1)
        checkpoint = log.seal(connection, NOW)
    assert checkpoint is not None
    assert checkpoint.root == root_of(leaves_of(301))


def test_an_entry_is_kept_as_it_was(engine: Engine, log: EvidenceLog) -> None:
    with engine.begin() as connection:
        append(log, connection, 0, 2)
        assert log.entry(connection, 1) == b"entry 1"
        assert log.entry(connection, 2) is None
        with pytest.raises(ValueError):
            log.append(connection, [])


def test_an_empty_log_has_no_checkpoint(engine: Engine, log: EvidenceLog) -> None:
    with engine.begin() as connection:
        log.prepare(connection)
        log.prepare(connection)
        assert log.seal(connection, NOW) is None
        assert log.latest_checkpoint(connection) is None
        assert log.verify_all(connection).faults == ()


def test_the_log_key_bears_the_name_of_the_log() -> None:
    with pytest.raises(ValueError):
        EvidenceLog("another", KEY)


TAMPERINGS = {
    "an entry": lambda: (
        update(evidence.evidence_leaves).where(evidence.evidence_leaves.c.position == 7).values(entry=b"x")
    ),
    "a leaf and its hash": lambda: (
        update(evidence.evidence_leaves)
        .where(evidence.evidence_leaves.c.position == 7)
        .values(entry=b"x", hash=leaf_hash(b"x"))
    ),
    "a leaf gone": lambda: delete(evidence.evidence_leaves).where(evidence.evidence_leaves.c.position == 7),
    "the last leaf gone": lambda: delete(evidence.evidence_leaves).where(evidence.evidence_leaves.c.position == 599),
    "a tile": lambda: (
        update(evidence.evidence_tiles)
        .where(evidence.evidence_tiles.c.level == 0, evidence.evidence_tiles.c.tile_index == 1)
        .values(hashes=bytes(32 * 256))
    ),
    "an upper tile": lambda: (
        update(evidence.evidence_tiles).where(evidence.evidence_tiles.c.level == 1).values(hashes=bytes(64))
    ),
    "a tile gone": lambda: delete(evidence.evidence_tiles).where(evidence.evidence_tiles.c.level == 0),
    "a checkpoint": lambda: update(evidence.evidence_checkpoints).values(note=NOTE.replace("600", "601")),
    "the head": lambda: update(evidence.evidence_head).values(size=601),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_the_audit_finds_what_was_tampered_with(engine: Engine, log: EvidenceLog, name: str) -> None:
    with engine.begin() as connection:
        append(log, connection, 0, 600)
        log.seal(connection, NOW)
        assert log.verify_all(connection).faults == ()
        connection.execute(TAMPERINGS[name]())
        assert log.verify_all(connection).faults


def test_nothing_is_sealed_over_a_hole(engine: Engine, log: EvidenceLog) -> None:
    with engine.begin() as connection:
        append(log, connection, 0, 600)
        connection.execute(TAMPERINGS["the last leaf gone"]())
        with pytest.raises(EvidenceDamaged):
            log.seal(connection, NOW)
