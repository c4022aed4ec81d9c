"""What strangers, thieves and careless members may send: each gets its own refusal, learns nothing, leaves nothing.

The table runs against the real server (gunicorn, gevent) in a process of its own. Every case plants a marker wherever
a sender may write; neither the answer nor the log may ever show it.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import time_machine

from schemas.message import AttachmentReference, Direction, Means
from schemas.moment import utc_now
from security import base64url
from security.keys import SigningKey
from security.signing import MANIFEST_TYPE, sign_compact
from tests.bus_world import (
    GOOD,
    MINISTRY,
    NOTE,
    OUTSIDER,
    PAPER,
    RECEIVER,
    SENDING,
    SUSPENDED,
    UNGRANTED,
    Answer,
    Signed,
    World,
    ask,
    bus_world,
    key_of,
    post,
)

#: Planted in payloads, headers, purposes, names; and, where only capitals may stand, its short form.
MARKER, CAPITALS = "dauvet7f3a9c", "QZX9K"

Make = Callable[[World], Signed]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with bus_world(tmp_path_factory.mktemp("hostile")) as world:
        yield world


@pytest.fixture(scope="module")
def url(world: World) -> Iterator[str]:
    with world.server_process(read_timeout_seconds=2, strangers_recorded_per_second=10_000) as url:
        yield url
    log = (world.settings.home / "serve.log").read_text()
    assert "exchange.refused" in log
    assert "Traceback" not in log
    assert_no_marker(log)


def assert_no_marker(text: str) -> None:
    assert MARKER not in text.lower()
    assert CAPITALS not in text.upper()


# ---- the hostile senders --------------------------------------------------------------------------------------------


def with_jws(message: Signed, jws: str) -> Signed:
    return replace(message, headers={**message.headers, "Lgsp-Manifest": jws})


def with_header(message: Signed, **changed: str | None) -> Signed:
    named = {name.replace("_", "-"): value for name, value in changed.items()}
    headers = {**message.headers, **named}
    return replace(message, headers={name: value for name, value in headers.items() if value is not None})


def forged(world: World, header: dict[str, Any], sign: Callable[[bytes], bytes]) -> Signed:
    """A message whose JWS has this header and a signature made by ``sign``."""
    message = world.signed(purpose=MARKER)
    claims = message.headers["Lgsp-Manifest"].split(".")[1]
    signing_input = f"{base64url.encode(json.dumps(header).encode())}.{claims}"
    return with_jws(message, f"{signing_input}.{base64url.encode(sign(signing_input.encode()))}")


def header_of(key: SigningKey, **changed: Any) -> dict[str, Any]:
    return {"alg": "ES256", "typ": MANIFEST_TYPE, "kid": key.key_id, "x5t#S256": key.thumbprint, **changed}


def wrongly_signed(world: World) -> Signed:
    return forged(world, header_of(key_of(SENDING)), key_of("stranger").sign)


def signed_by_nobody(world: World) -> Signed:
    return forged(world, header_of(key_of(SENDING), alg="none"), lambda _: b"")


def signed_with_the_public_key(world: World) -> Signed:
    secret = key_of(SENDING).certificate_pem.encode()
    return forged(world, header_of(key_of(SENDING), alg="HS256"), lambda d: hmac.digest(secret, d, hashlib.sha256))


def brings_its_own_key(world: World) -> Signed:
    header = header_of(key_of(SENDING), jku=f"https://{MARKER}.invalid/keys")
    return forged(world, header, key_of(SENDING).sign)


def unknown_member(world: World) -> Signed:
    message = world.signed()
    claims = message.manifest.to_claims() | {MARKER: MARKER}
    return with_jws(message, sign_compact(json.dumps(claims).encode(), MANIFEST_TYPE, key_of(SENDING)))


def tampered(world: World) -> Signed:
    message = world.signed({"title": "a" * len(MARKER)})
    return replace(message, body=message.body.replace(b"a" * len(MARKER), MARKER.encode()))


def another_body_under_the_same_id(world: World) -> Signed:
    message_id = str(uuid.uuid4())
    _first(world, world.signed(message_id=message_id))
    return world.signed({"title": MARKER}, message_id=message_id)


def over_quota(world: World) -> Signed:
    _first(world, world.signed(service="dossier.counted"))
    return world.signed({"title": MARKER}, service="dossier.counted")


def _first(world: World, message: Signed) -> None:
    """Let the bus take a message before the hostile one; by its own door, in this process."""
    with world.serving() as own_url:
        assert post(own_url, message).status in (202, 429)


def missing_attachment(world: World) -> Signed:
    return world.signed(attachments=[AttachmentReference(sha256="ab" * 32, length=3, name=f"{MARKER}.pdf")])


def attested(world: World, **changed: str) -> Signed:
    """A message with a token and plain headers."""
    plain = {
        "Content-Type": "application/json",
        "Lgsp-Service": NOTE,
        "Lgsp-Receiver": RECEIVER,
        "Lgsp-Message-Id": str(uuid.uuid4()),
        "Lgsp-Purpose": MARKER,
        "Lgsp-User": MARKER,
        **world.bearer(),
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    return replace(world.signed(), headers=plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    make: Make
    status: int
    problem: str
    reason: str


def case(name: str, status: int, problem: str, reason: str, make: Make) -> Case:
    return Case(name=name, make=make, status=status, problem=problem, reason=reason)


def _of(payload: Any = None, **facts: Any) -> Make:
    """A good message but for these facts."""
    body = {"title": MARKER} if payload is None else payload
    return lambda world: world.signed(body, **facts)


def _raw(body: str) -> Make:
    return _of(body.encode())


NOT_IDENTIFIED = [
    case("unsigned", 401, "not-identified", "unsigned", lambda w: with_header(w.signed(), Lgsp_Manifest=None)),
    case("wrongly signed", 401, "not-identified", "signature-invalid", wrongly_signed),
    case("alg none", 401, "not-identified", "algorithm-not-allowed", signed_by_nobody),
    case("HS256 with the public key", 401, "not-identified", "algorithm-not-allowed", signed_with_the_public_key),
    case("a header that names a key server", 401, "not-identified", "header-not-allowed", brings_its_own_key),
    case("unknown key", 401, "not-identified", "key-unknown", lambda w: w.signed(key=key_of("stranger"))),
    case("revoked key", 401, "not-identified", "key-revoked", lambda w: w.signed(key=key_of("retired"))),
    case("key of another agency", 401, "not-identified", "key-of-another-agency", _of(sender=RECEIVER)),
    case("key of the agency below", 401, "not-identified", "key-of-another-agency", _of(sender=OUTSIDER)),
    case("key of a suspended system", 401, "not-identified", "key-unknown",
         lambda w: w.signed(sender="H99.17", key=key_of(SUSPENDED))),
    case("token of a suspended system", 401, "not-identified", "token-invalid",
         lambda w: attested(w, **w.bearer(SUSPENDED))),
    case("a token that is none", 401, "not-identified", "token-invalid",
         lambda w: attested(w, Authorization=f"Bearer {MARKER}")),
    case("expired", 401, "not-identified", "manifest-expired",
         lambda w: w.signed(issued_at=utc_now() - timedelta(seconds=330))),
    case("from the future", 401, "not-identified", "manifest-from-future",
         lambda w: w.signed(issued_at=utc_now() + timedelta(seconds=330))),
    case("a reply as a request", 401, "not-identified", "direction-not-request", _of(direction=Direction.REPLY)),
    case("attested by itself", 401, "not-identified", "attestation-not-yours",
         _of(attested_means=Means.TOKEN, attested_system=SENDING)),
    case("tampered body", 401, "not-identified", "body-digest-mismatch", tampered),
    case("more body than signed", 401, "not-identified", "body-length-mismatch",
         lambda w: replace(m := w.signed(), body=m.body + MARKER.encode())),
    case("another content type than signed", 401, "not-identified", "content-type-mismatch",
         lambda w: with_header(w.signed(), Content_Type=f"application/{MARKER}")),
]  # fmt: skip
MALFORMED = [
    case("no JWS", 400, "malformed", "manifest-unreadable", lambda w: with_jws(w.signed(), MARKER)),
    case("a manifest too long", 400, "malformed", "manifest-too-long", lambda w: with_jws(w.signed(), "a" * 17_000)),
    case("a signed member that nobody knows", 400, "malformed", "manifest-unknown-member", unknown_member),
    case("wrong digest header", 400, "malformed", "content-digest-mismatch",
         lambda w: with_header(w.signed(), Content_Digest="sha-256=:" + "A" * 43 + "=:")),
    case("unreadable digest header", 400, "malformed", "content-digest-unreadable",
         lambda w: with_header(w.signed(), Content_Digest=MARKER)),
    case("duplicate keys", 400, "malformed", "json-duplicate-key", _raw(f'{{"title":"{MARKER}","title":"x"}}')),
    case("NaN", 400, "malformed", "json-not-a-number", _raw(f'{{"title":"{MARKER}","pages":NaN}}')),
    case("deep nesting", 400, "malformed", "json-too-deep", _raw("[" * 5000 + f'"{MARKER}"' + "]" * 5000)),
    case("half a document", 400, "malformed", "json-invalid", _raw(f'{{"title":"{MARKER}')),
    case("no UTF-8", 400, "malformed", "json-not-utf8", _of(b'{"title":"' + MARKER.encode() + b'\xff"}')),
    case("wrong content type", 400, "malformed", "content-type-not-taken", _of(content_type=f"text/{MARKER}")),
    case("wrong charset", 400, "malformed", "content-type-charset",
         _of(content_type="application/json; charset=utf-16")),
    case("an XML document type", 400, "malformed", "xml-doctype",
         _of(f'<!DOCTYPE a [<!ENTITY b "{MARKER}">]><a>&b;</a>'.encode(), service=PAPER,
             content_type="application/xml")),
    case("plain headers without an id", 400, "malformed", "header-missing", lambda w: attested(w, Lgsp_Message_Id="")),
    case("plain headers with a broken id", 400, "malformed", "identifier-invalid",
         lambda w: attested(w, Lgsp_Message_Id=MARKER)),
    case("plain headers with a broken receiver", 400, "malformed", "identifier-invalid",
         lambda w: attested(w, Lgsp_Receiver=f"{RECEIVER}, {MARKER}")),
]  # fmt: skip
NOT_PERMITTED = [
    case("no grant", 403, "not-permitted", "no-grant",
         lambda w: w.signed({"title": MARKER}, sender=OUTSIDER, key=key_of(UNGRANTED))),
    case("expired grant", 403, "not-permitted", "grant-expired", _of(service="dossier.archive")),
    case("wrong purpose", 403, "not-permitted", "purpose-not-granted", _of(purpose=MARKER)),
    case("no purpose", 403, "not-permitted", "purpose-missing", _of(purpose="")),
    case("a receiver outside the grant", 403, "not-permitted", "receiver-not-granted",
         _of(service="dossier.limited", receivers=(MINISTRY, RECEIVER))),
    case("a draft version", 403, "not-permitted", "service-not-open", _of(version=2)),
    case("a token where a signature is asked for", 403, "not-permitted", "grade-too-low",
         lambda w: attested(w, Lgsp_Service="dossier.transfer/1", Lgsp_Purpose="giai-quyet-tthc")),
    case("unknown service", 404, "unknown-service", "service-unknown", _of(service=f"a.{MARKER}")),
    case("unknown version", 404, "unknown-service", "service-version-unknown", _of(version=9)),
    case("unknown receiver", 404, "unknown-receiver", "receiver-unknown", _of(receivers=(f"H99.{CAPITALS}",))),
    case("a receiver that takes nothing", 404, "unknown-receiver", "receiver-takes-not", _of(receivers=("H99.17",))),
    case("over quota", 429, "too-many", "quota-of-day", over_quota),
]  # fmt: skip
NOT_VALID = [
    case("schema violation", 422, "schema-violation", "payload-breaks-schema",
         _of({"title": 7, "note": MARKER * 3, MARKER: 1})),
    case("missing attachment", 422, "schema-violation", "attachment-missing", missing_attachment),
    case("same id with another body", 409, "idempotency-conflict", "message-id-used", another_body_under_the_same_id),
]  # fmt: skip
TABLE = NOT_IDENTIFIED + MALFORMED + NOT_PERMITTED + NOT_VALID


@pytest.mark.parametrize("hostile", TABLE, ids=lambda hostile: hostile.name)
def test_a_hostile_message_is_refused_and_leaves_nothing_but_its_refusal(world: World, url: str, hostile: Case) -> None:
    message = hostile.make(world)
    before = world.rows()
    answer = post(f"{url}", with_header(message, User_Agent=MARKER, X_Marker=MARKER, Accept_Language=MARKER))
    assert_refused(answer, hostile)
    assert_only_the_refusal_was_kept(before, world.rows(), hostile.problem)
    assert post(url, world.signed()).status == 202  # the next good message passes


def assert_refused(answer: Answer, hostile: Case) -> None:
    problem = answer.json
    assert (answer.status, problem["type"], problem["reason"]) == (
        hostile.status,
        f"/problems/{hostile.problem}",
        hostile.reason,
    )
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert ("retry-after" in answer.headers) == (hostile.status == 429)
    assert problem["retryable"] == (hostile.status == 429)
    assert_no_marker(f"{answer.headers} {answer.body.decode()}")


def assert_only_the_refusal_was_kept(before: dict[str, int], after: dict[str, int], problem: str) -> None:
    """The refusal with what finds and explains it, its leaf, its counts (perhaps in a new counter), and how long
    the commit before took; no other table has a row more or less."""
    grown = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    assert grown.pop("refusals") == grown.pop("evidence_leaves") == grown.pop(f"counter refused {problem}") == 1
    left = {name for name in grown if not name.startswith("counter commit_")}
    assert left <= {"counters", "flow_hours", "search_keys", "refusal_details"}


def test_pointers_say_where_the_schema_is_broken_and_never_with_what(world: World, url: str) -> None:
    answer = post(url, world.signed({"title": 7, "pages": 0, "note": MARKER * 3}))
    assert {error["pointer"] for error in answer.json["errors"]} == {"/title", "/pages", "/note"}
    assert_no_marker(answer.body.decode())


# ---- bodies without end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True], ids=["by its length", "in chunks"])
def test_ten_mebibytes_are_refused(world: World, url: str, chunked: bool) -> None:
    body = MARKER.encode() * (10 * 2**20 // len(MARKER))
    message = world.signed(body)
    before = world.rows()
    status, problem = send_in_parts(url, message, chunked=chunked)
    assert (status, problem["type"], problem["reason"]) == (413, "/problems/too-large", "body-too-large")
    assert_no_marker(json.dumps(problem))
    assert_only_the_refusal_was_kept(before, world.rows(), "too-large")
    assert post(url, world.signed()).status == 202


def send_in_parts(url: str, message: Signed, *, chunked: bool) -> tuple[int, Any]:
    """Post a large body; a server that has heard enough may hang up on the rest."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
    parts = (message.body[at : at + 65_536] for at in range(0, len(message.body), 65_536))
    headers = dict(message.headers) | ({} if chunked else {"Content-Length": str(len(message.body))})
    try:
        try:
            connection.request("POST", "/v1/exchange", parts, headers, encode_chunked=chunked)
        except (BrokenPipeError, ConnectionResetError):
            # The answer was sent before all was heard: read it from what is left of the connection.
            connection._HTTPConnection__state = "Request-sent"  # type: ignore[attr-defined]
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


# ---- what is no HTTP ------------------------------------------------------------------------------------------------

_POST = "POST /v1/exchange HTTP/1.1\r\nHost: bus\r\n"
NO_REQUESTS = {
    "a space in a header's name": f"GET /healthz HTTP/1.1\r\nHost: bus\r\nX {MARKER}: 1\r\n\r\n",
    "a length and chunks": f"{_POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": f"{_POST}Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "a length that is none": f"{_POST}Content-Length: {MARKER}\r\n\r\nabcdef",
    "a negative length": f"{_POST}Content-Length: -1\r\n\r\nabcdef",
    "an unknown coding": f"{_POST}Transfer-Encoding: {MARKER}\r\n\r\n",
    "an unknown expectation": f"{_POST}Expect: {MARKER}\r\nContent-Length: 2\r\n\r\n{{}}",
    "a chunk without a size": f"{_POST}Transfer-Encoding: chunked\r\n\r\n{MARKER}\r\n\r\n",
    "a method that is none": f"{MARKER} /v1/exchange HTTP/1.1\r\nHost: bus\r\n\r\n",
    "an unknown version": f"GET /healthz HTTP/{MARKER}\r\nHost: bus\r\n\r\n",
    "a NUL in a header": f"GET /healthz HTTP/1.1\r\nHost: bus\r\nX: {MARKER}\0\r\n\r\n",
    "a header without end": f"{_POST}X: {MARKER * 10_000}\r\nContent-Length: 2\r\n\r\n{{}}",
    "an address without end": f"GET /{MARKER * 1000} HTTP/1.1\r\nHost: bus\r\n\r\n",
    "a greeting of TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}


@pytest.mark.parametrize("spoken", NO_REQUESTS.values(), ids=NO_REQUESTS.keys())
def test_what_is_no_request_is_a_problem_that_repeats_nothing(world: World, url: str, spoken: str) -> None:
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=15) as connection:
        connection.sendall(spoken.encode("latin-1"))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        problem = json.loads(answer.read())
    assert (answer.status, problem["type"], problem["reason"]) == (400, "/problems/malformed", "request-unreadable")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert_no_marker(f"{answer.headers} {problem}")
    assert post(url, world.signed()).status == 202


def test_a_manifest_in_a_header_of_almost_that_name_is_none(world: World, url: str) -> None:
    """WSGI writes ``Lgsp_Manifest`` and ``Lgsp-Manifest`` alike: a proxy that strips one must not be passed by."""
    message = world.signed()
    address = urlsplit(url)
    jws = message.headers["Lgsp-Manifest"]
    head = f"{_POST}Lgsp_Manifest: {jws}\r\nContent-Type: application/json\r\nContent-Length: {len(message.body)}"
    with socket.create_connection((address.hostname, address.port), timeout=15) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + message.body)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["reason"]) == (401, "unsigned")


# ---- silence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoken",
    [
        b"POST /v1/exch",
        b"POST /v1/exchange HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nLgsp-Man",
        b"POST /v1/exchange HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{",
        b'POST /v1/exchange HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a',
    ],
    ids=["in the request line", "in the headers", "in the body", "in a chunk"],
)
def test_who_falls_silent_is_cut_off_and_no_worker_is_lost(world: World, url: str, spoken: bytes) -> None:
    address = urlsplit(url)
    silent = [socket.create_connection((address.hostname, address.port), timeout=15) for _ in range(8)]
    try:
        started = time.monotonic()
        for connection in silent:
            connection.sendall(spoken)
        assert post(url, world.signed()).status == 202  # while the others still say nothing
        for connection in silent:
            while connection.recv(4096):
                pass
        assert 1.5 < time.monotonic() - started < 10
    finally:
        for connection in silent:
            connection.close()
    assert post(url, world.signed()).status == 202


# ---- replays --------------------------------------------------------------------------------------------------------


def test_a_message_replayed_in_its_window_gets_its_first_receipt_and_no_second_delivery(world: World, url: str) -> None:
    message = world.signed()
    first = post(url, message)
    assert first.status == 202
    before = world.rows()
    again = post(url, message)
    assert (again.status, again.json) == (200, first.json)
    after = world.rows()
    repeated = f"counter repeated {message.manifest.service}"
    assert after.pop(repeated) == before.pop(repeated, 0) + 1
    after.pop("counters"), before.pop("counters")
    assert after == before


def test_a_message_replayed_after_its_window_is_refused(tmp_path: Path) -> None:
    with bus_world(tmp_path) as world, world.serving() as own_url:
        message = world.signed(GOOD)
        assert post(own_url, message).status == 202
        before = world.rows()
        with time_machine.travel(utc_now() + timedelta(seconds=world.settings.clock_skew_seconds + 2), tick=True):
            answer = post(own_url, message)
        assert (answer.status, answer.json["reason"]) == (401, "manifest-expired")
        assert_only_the_refusal_was_kept(before, world.rows(), "not-identified")


def test_a_message_signed_anew_after_a_long_outage_gets_its_first_receipt(tmp_path: Path) -> None:
    with bus_world(tmp_path) as world, world.serving() as own_url:
        message_id = str(uuid.uuid4())
        first = post(own_url, world.signed(message_id=message_id))
        with time_machine.travel(utc_now() + timedelta(hours=9), tick=True):
            again = post(own_url, world.signed(message_id=message_id))
        assert (first.status, again.status) == (202, 200)
        assert again.json == first.json


def test_a_stranger_cannot_fill_the_disk_with_refusals(tmp_path: Path) -> None:
    with bus_world(tmp_path, strangers_recorded_per_second=2) as world, world.serving() as own_url:
        for _ in range(30):
            assert ask("POST", f"{own_url}/v1/exchange", b"{}").status == 401
        assert world.rows()["refusals"] < 20
