"""The content-addressed store of files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bus.attachments import Attachments, _hold
from bus.settings import load_settings
from schemas.message import AttachmentReference
from schemas.problem import Malformed, NotFound, SchemaViolation, TooLarge, TooMany
from tests.bus_world import MINISTRY, RECEIVER, SENDER, World, bus_world, post
from tests.ledger_house import a_message

FILE = b"%PDF-1.7 ho so " * 100
NAME = hashlib.sha256(FILE).hexdigest()
MOST = 10_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path, max_attachment_bytes=MOST) as world:
        yield world


@pytest.fixture
def files(world: World) -> Attachments:
    return world.bus.attachments


def _stored(world: World) -> list[Path]:
    return [path for path in world.settings.attachment_folder.rglob("*") if path.is_file()]


def test_a_file_has_its_name_only_when_it_is_whole(world: World, files: Attachments) -> None:
    done = files.add(NAME, SENDER, [FILE[:10], FILE[10:]])
    assert (done.received, done.complete) == (len(FILE), True)
    path = files.open(NAME, SENDER)
    assert path.read_bytes() == FILE
    assert _stored(world) == [path]
    assert files.progress(NAME, SENDER) == done


def test_an_upload_goes_on_where_it_was_cut_off(files: Attachments) -> None:
    with pytest.raises(NotFound):
        files.progress(NAME, SENDER)
    first = files.add(NAME, SENDER, [FILE[:500]], total=len(FILE))
    assert (first.received, first.complete) == (500, False)
    assert files.progress(NAME, SENDER) == first
    with pytest.raises(NotFound):
        files.open(NAME, SENDER)
    assert files.add(NAME, SENDER, [FILE[500:]], start=500, total=len(FILE)).complete
    assert files.open(NAME, SENDER).read_bytes() == FILE


def test_an_upload_may_begin_again(files: Attachments) -> None:
    files.add(NAME, SENDER, [b"nonsense" * 500], total=9_000)
    assert files.add(NAME, SENDER, [FILE]).complete
    assert files.open(NAME, SENDER).read_bytes() == FILE


@pytest.mark.parametrize("start", [1, 499, 501, 10**12])
def test_a_gap_or_an_overlap_is_refused_with_how_much_is_here(files: Attachments, start: int) -> None:
    files.add(NAME, SENDER, [FILE[:500]], total=len(FILE))
    with pytest.raises(Malformed) as refused:
        files.add(NAME, SENDER, [FILE[start:]], start=start)
    assert refused.value.reason == "attachment-gap"
    assert refused.value.facts["received"] == 500


def test_bytes_of_another_digest_are_thrown_away(world: World, files: Attachments) -> None:
    with pytest.raises(Malformed) as refused:
        files.add(NAME, SENDER, [FILE[:-1] + b"!"])
    assert refused.value.reason == "attachment-digest"
    assert _stored(world) == []
    with pytest.raises(NotFound):
        files.open(NAME, SENDER)


def test_a_file_over_the_limit_is_refused_while_it_comes(files: Attachments) -> None:
    taken: list[int] = []

    def chunks() -> Iterator[bytes]:
        for number in range(100):
            taken.append(number)
            yield b"x" * 1000

    with pytest.raises(TooLarge):
        files.add(NAME, SENDER, chunks())
    assert len(taken) == 11


@pytest.mark.parametrize(
    "name", ["", "..", "../../etc/passwd", NAME.upper(), NAME[:-1], NAME + "0", "g" * 64, NAME + "\n", NAME + "/x"]
)
def test_a_name_that_is_no_digest_touches_no_file(world: World, files: Attachments, name: str) -> None:
    with pytest.raises(NotFound):
        files.add(name, SENDER, [FILE])
    with pytest.raises(NotFound):
        files.open(name, SENDER)
    with pytest.raises(NotFound):
        files.progress(name, SENDER)
    assert _stored(world) == []


def test_one_connection_at_a_time_writes_to_a_file(files: Attachments) -> None:
    def slowly() -> Iterator[bytes]:
        yield FILE[:100]
        with pytest.raises(TooMany) as refused:
            files.add(NAME, SENDER, [FILE])
        assert refused.value.reason == "attachment-busy"
        assert refused.value.retry_after_seconds
        yield FILE[100:]

    assert files.add(NAME, SENDER, slowly()).complete
    assert files.open(NAME, SENDER).read_bytes() == FILE


def test_a_stored_file_cannot_be_changed_through_an_upload_that_was_already_open(files: Attachments) -> None:
    """The attack: open the same upload twice, finish one with the right bytes, then go on writing to the other."""
    part = files._part(NAME, SENDER)
    part.parent.mkdir(parents=True)
    with part.open("ab") as late:
        assert files.add(NAME, SENDER, [FILE]).complete
        with pytest.raises(TooMany):
            _hold(late, part)
    assert files.open(NAME, SENDER).read_bytes() == FILE


def test_that_a_file_exists_tells_a_stranger_nothing(files: Attachments) -> None:
    files.add(NAME, SENDER, [FILE])
    for agency in (RECEIVER, MINISTRY):
        with pytest.raises(NotFound):
            files.open(NAME, agency)
        with pytest.raises(NotFound):
            files.progress(NAME, agency)


def test_the_parties_of_a_message_that_names_a_file_may_read_it(world: World, files: Attachments) -> None:
    files.add(NAME, SENDER, [FILE])
    reference = AttachmentReference(sha256=NAME, length=len(FILE))
    message = world.signed(service="dossier.note", purpose="", attachments=[reference])
    with world.serving() as url:
        assert post(url, message).status == 202
    assert files.open(NAME, RECEIVER).read_bytes() == FILE
    with pytest.raises(NotFound):
        files.open(NAME, MINISTRY)


def test_a_message_names_only_files_that_its_sender_uploaded_with_their_length(files: Attachments) -> None:
    files.add(NAME, SENDER, [FILE])
    good = AttachmentReference(sha256=NAME, length=len(FILE))
    manifest = a_message(attachments=(good,)).manifest
    files.check_present(manifest)
    for wrong in (
        replace(manifest, sender=RECEIVER),
        replace(manifest, attachments=(good, replace(good, sha256="a" * 64))),
        replace(manifest, attachments=(replace(good, length=1),)),
    ):
        with pytest.raises(SchemaViolation):
            files.check_present(wrong)


def test_the_limit_is_a_setting() -> None:
    assert load_settings(environ={}).max_attachment_bytes == 512 * 1024 * 1024
