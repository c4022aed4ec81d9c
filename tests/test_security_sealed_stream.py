"""Sealed files: what opens them, and everything that must not."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import canonical_json
from schemas.problem import Malformed
from security import base64url
from security.sealed_stream import (
    CHUNK_BYTES,
    MAGIC,
    BackupKey,
    BackupRecipient,
    Opener,
    Passphrase,
    Recipient,
    SealedReader,
    SealedWriter,
)

KEY = BackupKey.generate()
#: A cheap one: what it costs is not what is tested.
PHRASE = Passphrase(b"correct horse battery", log_n=4)
SEALED_CHUNK = CHUNK_BYTES + 16


def sealed(data: bytes, *recipients: Recipient) -> bytes:
    file = io.BytesIO()
    writer = SealedWriter(file, recipients or (KEY.recipient,))
    for start in range(0, len(data), 50_000):
        writer.write(data[start : start + 50_000])
    writer.close()
    return file.getvalue()


def opened(data: bytes, length: int, opener: Opener = KEY) -> bytes:
    reader = SealedReader(io.BytesIO(data), opener)
    read = reader.read(length)
    reader.end()
    return read


def reason_of(data: bytes, length: int, opener: Opener = KEY) -> str:
    with pytest.raises(Malformed) as refused:
        opened(data, length, opener)
    return refused.value.reason


def body_at(data: bytes) -> int:
    """Where the chunks begin."""
    return len(MAGIC) + 4 + int.from_bytes(data[len(MAGIC) : len(MAGIC) + 4], "big") + 32


LENGTHS = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES]


@pytest.mark.parametrize("length", LENGTHS)
def test_what_was_sealed_is_what_is_read(length: int) -> None:
    data = bytes(range(256)) * (length // 256 + 1)
    file = sealed(data[:length])
    assert opened(file, length) == data[:length]
    chunks = max(1, -(-length // CHUNK_BYTES))
    assert len(file) == body_at(file) + length + 16 * chunks


@given(st.lists(st.binary(max_size=200), max_size=20), st.lists(st.integers(1, 300), max_size=30))
def test_pieces_may_be_written_and_read_as_one_likes(pieces: list[bytes], reads: list[int]) -> None:
    file = io.BytesIO()
    writer = SealedWriter(file, [KEY.recipient])
    for piece in pieces:
        writer.write(piece)
    writer.close()
    whole, left = b"".join(pieces), b"".join(pieces)
    reader = SealedReader(io.BytesIO(file.getvalue()), KEY)
    for length in reads:
        if length > len(left):
            break
        assert reader.read(length) == left[:length]
        left = left[length:]
    assert reader.read(len(left)) == whole[len(whole) - len(left) :]
    reader.end()


def test_each_recipient_opens_it_alone_and_nobody_else() -> None:
    second = BackupKey.generate()
    file = sealed(b"x" * 100, KEY.recipient, second.recipient, PHRASE)
    for opener in (KEY, second, PHRASE):
        assert opened(file, 100, opener) == b"x" * 100
    assert reason_of(file, 100, BackupKey.generate()) == "backup-key-wrong"
    assert reason_of(file, 100, Passphrase(b"correct horse batterx", log_n=4)) == "backup-key-wrong"
    assert reason_of(sealed(b"x" * 100), 100, PHRASE) == "backup-key-wrong"


def test_two_files_of_the_same_have_nothing_in_common() -> None:
    first, second = sealed(b"x" * 1000), sealed(b"x" * 1000)
    assert first[body_at(first) :] != second[body_at(second) :]


DATA = bytes(3 * CHUNK_BYTES + 10)
FILE = sealed(DATA)
BODY = body_at(FILE)
CHUNKS = [FILE[start : start + SEALED_CHUNK] for start in range(BODY, len(FILE), SEALED_CHUNK)]
OTHER = sealed(DATA)


@pytest.mark.parametrize("place", [*range(0, BODY, 7), BODY, BODY + SEALED_CHUNK - 1, len(FILE) - 1])
def test_a_flipped_bit_is_seen_wherever_it_is(place: int) -> None:
    changed = bytearray(FILE)
    changed[place] ^= 0x10
    expected = {"backup-damaged", "backup-unreadable", "backup-key-wrong"} if place < BODY else {"backup-damaged"}
    assert reason_of(bytes(changed), len(DATA)) in expected


@pytest.mark.parametrize(
    "name, make",
    {
        "cut in the header": lambda: FILE[: BODY - 40],
        "cut before the first chunk": lambda: FILE[:BODY],
        "cut in a chunk": lambda: FILE[:-5],
        "cut between two chunks": lambda: FILE[:BODY] + b"".join(CHUNKS[:3]),
        "one byte more": lambda: FILE + b"\0",
        "a chunk more": lambda: FILE + CHUNKS[-1],
        "two chunks in the other order": lambda: FILE[:BODY] + CHUNKS[1] + CHUNKS[0] + b"".join(CHUNKS[2:]),
        "a chunk left out": lambda: FILE[:BODY] + CHUNKS[0] + b"".join(CHUNKS[2:]),
        "a chunk twice": lambda: FILE[:BODY] + CHUNKS[0] + b"".join(CHUNKS),
        "chunks of another file": lambda: FILE[:BODY] + OTHER[body_at(OTHER) :],
        "a chunk of another file": lambda: FILE[:BODY] + OTHER[body_at(OTHER) :][:SEALED_CHUNK] + b"".join(CHUNKS[1:]),
        "the header of another file": lambda: OTHER[: body_at(OTHER)] + b"".join(CHUNKS),
    }.items(),
)
def test_no_other_file_passes_for_it(name: str, make: Callable[[], bytes]) -> None:
    assert reason_of(make(), len(DATA)) == "backup-damaged", name


def test_a_file_that_ends_between_two_chunks_is_not_whole_though_all_that_is_there_was_read() -> None:
    assert reason_of(FILE[:BODY] + b"".join(CHUNKS[:3]), 3 * CHUNK_BYTES) == "backup-damaged"


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"PK\x03\x04" + bytes(50), MAGIC, MAGIC + b"\xff\xff\xff\xff"])
def test_another_kind_of_file_is_called_so(data: bytes) -> None:
    assert reason_of(data, 1) in {"backup-unreadable", "backup-damaged"}


def with_header(header: object) -> bytes:
    data = header if isinstance(header, bytes) else canonical_json(header)
    return MAGIC + len(data).to_bytes(4, "big") + data + bytes(32) + bytes(100)


SALT = base64url.encode(bytes(16))
STANZA = PHRASE.wrap(bytes(32))


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{",
        {"recipients": [], "salt": 1},
        {"recipients": {}, "salt": SALT},
        {"recipients": [1], "salt": SALT},
        {"recipients": [{}], "salt": SALT},
        {"recipients": [{"kind": "x25519"}], "salt": SALT},
        {"recipients": [{"kind": "x25519", "ephemeral": base64url.encode(bytes(32)), "wrapped": ""}], "salt": SALT},
        {"recipients": [{**STANZA, "log_n": 40}], "salt": SALT},
        {"recipients": [{**STANZA, "log_n": 0}], "salt": SALT},
        {"recipients": [{**STANZA, "log_n": True}], "salt": SALT},
        {"recipients": [{**STANZA, "log_n": "4"}], "salt": SALT},
        {"recipients": [{**STANZA, "wrapped": "!"}], "salt": SALT},
        {"recipients": [STANZA, STANZA], "salt": SALT},
        {"recipients": [{"kind": "other"}] * 21, "salt": SALT},
    ],
)
def test_a_hostile_header_costs_nothing_and_opens_nothing(header: object) -> None:
    opener: Opener = KEY if "x25519" in str(header) else PHRASE
    assert reason_of(with_header(header), 1, opener) in {"backup-damaged", "backup-key-wrong"}


def test_a_public_key_is_one_line_that_bears_no_slip_of_the_pen() -> None:
    text = str(KEY.recipient)
    assert BackupRecipient.parse(f"  {text}\n") == KEY.recipient
    for wrong in ("", "lgsp-backup-", text[:-1], text[:20] + ("A" if text[20] != "A" else "B") + text[21:], "x" + text):
        with pytest.raises(Malformed) as refused:
            BackupRecipient.parse(wrong)
        assert refused.value.reason == "backup-recipient-invalid"


def test_a_key_is_kept_as_a_private_file_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "backup.key"
    KEY.save(path, password=b"secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert BackupKey.load(path, password=b"secret").recipient == KEY.recipient
    with pytest.raises(FileExistsError):
        BackupKey.generate().save(path)
    for password in (b"other", None):
        with pytest.raises(Malformed):
            BackupKey.load(path, password=password)
    assert "PRIVATE" not in repr(KEY)


def test_a_short_phrase_is_refused() -> None:
    with pytest.raises(Malformed) as refused:
        Passphrase(b"elevenbytes")
    assert refused.value.reason == "backup-passphrase-short"


def test_the_price_of_a_try_is_written_in_the_file() -> None:
    header = json.loads(sealed(b"", Passphrase(b"correct horse battery"))[len(MAGIC) + 4 :].split(b"]", 1)[0] + b"]}")
    assert header["recipients"][0]["log_n"] == 17
