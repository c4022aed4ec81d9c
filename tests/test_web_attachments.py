"""Attachments over real HTTP: stored by digest, cut off and continued, read by the parties of a message only."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from schemas.message import AttachmentReference
from tests.bus_world import RECEIVING, SENDING, UNGRANTED, Answer, World, ask, bus_world, post

FILE = bytes(range(256)) * 1200  # 300 KiB, more than one read of the server
DIGEST = hashlib.sha256(FILE).hexdigest()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path, max_attachment_bytes=len(FILE)) as world:
        yield world


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with world.serving() as url:
        yield url


def put(world: World, url: str, body: bytes = FILE, *, digest: str = DIGEST, span: str = "") -> Answer:
    headers = world.bearer() | ({"Content-Range": f"bytes {span}"} if span else {})
    return ask("PUT", f"{url}/v1/attachments/{digest}", body, headers)


def head(world: World, url: str) -> tuple[int, int]:
    answer = ask("HEAD", f"{url}/v1/attachments/{DIGEST}", headers=world.bearer())
    return answer.status, int(answer.headers.get("upload-offset", -1))


def test_a_file_is_stored_and_comes_back_the_same(world: World, url: str) -> None:
    answer = put(world, url)
    assert (answer.status, answer.json) == (201, {"sha256": DIGEST, "received": len(FILE), "complete": True})
    assert head(world, url) == (200, len(FILE))
    back = ask("GET", f"{url}/v1/attachments/{DIGEST}", headers=world.bearer())
    assert (back.status, back.body, back.headers["content-type"]) == (200, FILE, "application/octet-stream")
    assert "no-store" in back.headers["cache-control"]
    assert back.headers["x-content-type-options"] == "nosniff"


def test_a_part_can_be_read(world: World, url: str) -> None:
    put(world, url)
    part = ask("GET", f"{url}/v1/attachments/{DIGEST}", headers=world.bearer(Range="bytes=10-19"))
    assert (part.status, part.body) == (206, FILE[10:20])


def test_an_upload_in_two_parts_is_put_together(world: World, url: str) -> None:
    first = put(world, url, FILE[:1000], span=f"0-999/{len(FILE)}")
    assert (first.status, first.json["received"], first.json["complete"]) == (202, 1000, False)
    assert head(world, url) == (404, 1000)
    rest = put(world, url, FILE[1000:], span=f"1000-{len(FILE) - 1}/{len(FILE)}")
    assert (rest.status, rest.json["complete"]) == (201, True)


@pytest.mark.parametrize("served", ["threads", "gunicorn"])
def test_an_upload_cut_off_in_the_middle_is_continued_where_it_ended(world: World, served: str) -> None:
    with world.serving() if served == "threads" else world.server_process() as url:
        cut_off_after(world, url, 200_000)
        kept = wait_until_kept(world, url)
        assert 0 < kept <= 200_000
        answer = put(world, url, FILE[kept:], span=f"{kept}-{len(FILE) - 1}/{len(FILE)}")
        assert (answer.status, answer.json["complete"]) == (201, True)
        assert ask("GET", f"{url}/v1/attachments/{DIGEST}", headers=world.bearer()).body == FILE


def cut_off_after(world: World, url: str, count: int) -> None:
    """Begin to send the whole file and let the connection die after some bytes."""
    address = urlsplit(url)
    lines = [
        f"PUT /v1/attachments/{DIGEST} HTTP/1.1",
        "Host: bus",
        f"Authorization: Bearer {world.token()}",
        f"Content-Length: {len(FILE)}",
        "",
        "",
    ]
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall("\r\n".join(lines).encode() + FILE[:count])
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def wait_until_kept(world: World, url: str) -> int:
    for _ in range(100):
        status, offset = head(world, url)
        if offset > 0:
            assert status == 404
            return offset
        time.sleep(0.05)
    raise AssertionError("nothing was kept of the upload")


@pytest.mark.parametrize(
    "body, span, reason",
    [
        (FILE[5:], f"5-{len(FILE) - 1}/{len(FILE)}", "attachment-gap"),
        (FILE, "nonsense", "header-invalid"),
        (FILE, "5-2/10", "header-invalid"),
        (FILE, "0-10/10", "header-invalid"),
        (b"x" * len(FILE), "", "attachment-digest"),
    ],
)
def test_an_upload_that_does_not_fit_is_refused(world: World, url: str, body: bytes, span: str, reason: str) -> None:
    answer = put(world, url, body, span=span)
    assert (answer.status, answer.json["reason"]) == (400, reason)
    assert head(world, url)[0] == 404


def test_a_file_over_the_limit_is_refused_by_its_length_and_by_its_bytes(world: World, url: str) -> None:
    by_length = put(world, url, FILE + b"x")
    assert (by_length.status, by_length.json["reason"]) == (413, "attachment-too-large")
    put(world, url, FILE, span=f"0-{len(FILE) - 1}/{len(FILE) + 1}")
    by_bytes = put(world, url, b"x", span=f"{len(FILE)}-{len(FILE)}/{len(FILE) + 1}")
    assert (by_bytes.status, by_bytes.json["reason"]) == (413, "attachment-too-large")


@pytest.mark.parametrize("digest", ["abc", "A" * 64, "%2e%2e%2fkeys", "g" * 64])
def test_a_name_that_is_no_digest_does_not_exist(world: World, url: str, digest: str) -> None:
    assert put(world, url, digest=digest).status == 404
    assert ask("GET", f"{url}/v1/attachments/{digest}", headers=world.bearer()).status == 404


def test_parties_of_a_message_that_names_a_file_may_read_it_and_nobody_else(world: World, url: str) -> None:
    put(world, url)

    def read(system: str) -> int:
        return ask("GET", f"{url}/v1/attachments/{DIGEST}", headers=world.bearer(system)).status

    assert [read(system) for system in (SENDING, RECEIVING, UNGRANTED)] == [200, 404, 404]
    reference = AttachmentReference(sha256=DIGEST, length=len(FILE), name="giay-khai-sinh.pdf")
    assert post(url, world.signed(attachments=[reference])).status == 202
    assert [read(system) for system in (SENDING, RECEIVING, UNGRANTED)] == [200, 200, 404]
    assert ask("GET", f"{url}/v1/attachments/{DIGEST}").status == 401


def test_another_agency_must_bring_all_bytes_itself(world: World, url: str) -> None:
    put(world, url)
    answer = ask("HEAD", f"{url}/v1/attachments/{DIGEST}", headers=world.bearer(UNGRANTED))
    assert (answer.status, "upload-offset" in answer.headers) == (404, False)
