"""Evidence over real HTTP: a bundle that the offline verifier believes, checkpoints, proofs."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.moment import utc_now
from security.evidence.checkpoint import verify_checkpoint
from security.evidence.tree import consistency_holds
from security.verifier import Trust, inclusion_holds, verify_bundle
from tests.bus_world import (
    NOTE,
    OPERATOR,
    RECEIVER,
    RECEIVING,
    SENDING,
    UNGRANTED,
    World,
    ask,
    bus_world,
    certificate_of,
    key_of,
    post,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path) as world:
        yield world


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with world.serving() as url:
        yield url


def trust(url: str) -> Trust:
    return Trust.read(ask("GET", f"{url}/v1/evidence/trust").body)


def test_a_bundle_is_believed_offline_and_one_changed_byte_is_not(world: World, url: str) -> None:
    message = world.signed()
    post(url, message)
    bundle = ask("GET", f"{url}/v1/exchange/{message.manifest.message_id}/evidence", headers=world.bearer())
    assert bundle.status == 200
    assert message.manifest.message_id in bundle.headers["content-disposition"]
    verdict = verify_bundle(bundle.body, trust(url), message.body)
    assert verdict.holds, verdict.findings
    changed = bytearray(bundle.body)
    changed[len(changed) // 2] ^= 1
    assert not verify_bundle(bytes(changed), trust(url), message.body).holds


def test_the_payload_is_in_the_bundle_only_when_asked_for(world: World, url: str) -> None:
    message = world.signed()
    post(url, message)
    place = f"{url}/v1/exchange/{message.manifest.message_id}/evidence"
    without, with_body = (ask("GET", place + query, headers=world.bearer()) for query in ("", "?body=true"))
    assert base64.b64decode(with_body.json["body"]) == message.body
    assert "body" not in without.json
    assert "body-is-signed" in verify_bundle(with_body.body, trust(url)).findings
    assert ask("GET", f"{place}?body=yes", headers=world.bearer()).json["reason"] == "query-invalid"


def test_deliveries_are_in_the_bundle_once_they_ended(world: World, url: str) -> None:
    message = world.signed()
    post(url, message)
    (delivery,) = ask("GET", f"{url}/v1/inbox", headers=world.bearer(RECEIVING)).json["deliveries"]
    ask("POST", f"{url}/v1/inbox/{delivery['delivery_id']}/ack", b"", world.bearer(RECEIVING))
    bundle = ask("GET", f"{url}/v1/exchange/{message.manifest.message_id}/evidence", headers=world.bearer(RECEIVING))
    verdict = verify_bundle(bundle.body, trust(url))
    assert verdict.holds
    assert [entry["kind"] for entry in verdict.facts["entries"]] == ["accepted", "delivered"]


def test_an_attested_message_has_a_bundle_too(world: World, url: str) -> None:
    message_id = str(uuid.uuid4())
    headers = world.bearer(Content_Type="application/json", Lgsp_Service=NOTE, Lgsp_Receiver=RECEIVER)
    assert ask("POST", f"{url}/v1/exchange", b"{}", headers | {"Lgsp-Message-Id": message_id}).status == 202
    bundle = ask("GET", f"{url}/v1/exchange/{message_id}/evidence", headers=world.bearer())
    verdict = verify_bundle(bundle.body, trust(url), b"{}")
    assert verdict.holds, verdict.findings


def test_evidence_outlives_the_key_that_signed_it_as_long_as_the_registry_keeps_it(world: World, url: str) -> None:
    message = world.signed()
    post(url, message)
    place = f"{url}/v1/exchange/{message.manifest.message_id}/evidence"
    held = world.bus.directory.current().systems[SENDING]
    renewed = certificate_of(key_of("renewed"))
    world.register(replace(held, certificates=(renewed, *held.certificates)))
    assert ask("GET", place, headers=world.bearer()).status == 200
    world.register(replace(held, certificates=(renewed,)))
    gone = ask("GET", place, headers=world.bearer())
    assert (gone.status, gone.json["reason"]) == (404, "evidence-key-gone")


def test_the_checkpoint_is_public_and_signed_by_the_logs_key(world: World, url: str) -> None:
    none_yet = ask("GET", f"{url}/v1/evidence/checkpoint")
    assert (none_yet.status, none_yet.json["reason"]) == (404, "evidence-not-sealed")
    post(url, world.signed())
    world.bus.seal_evidence(utc_now())
    answer = ask("GET", f"{url}/v1/evidence/checkpoint")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    checkpoint = verify_checkpoint(answer.body.decode(), world.settings.log_origin, world.bus.log.verifier)
    assert checkpoint.size == 1


def test_the_log_proves_that_it_only_grew_and_what_is_in_it(world: World, url: str) -> None:
    roots = {}
    for count in (3, 4):
        for _ in range(count):
            post(url, world.signed())
        checkpoint = world.bus.seal_evidence(utc_now())
        assert checkpoint is not None
        roots[checkpoint.size] = checkpoint.root
    grown = ask("GET", f"{url}/v1/evidence/consistency?old=3&new=7", headers=world.bearer(UNGRANTED)).json
    proof = [base64.b64decode(value) for value in grown["proof"]]
    assert consistency_holds(3, 7, roots[3], roots[7], proof)
    for position in range(7):
        place = f"{url}/v1/evidence/entries/{position}/proof"
        told = ask("GET", place, headers=world.bearer()).json
        path = [base64.b64decode(value) for value in told["proof"]]
        assert hashlib.sha256(b"\0" + told["entry"].encode()).hexdigest() == told["leaf"]
        assert inclusion_holds(bytes.fromhex(told["leaf"]), position, told["size"], path, roots[7])


def test_who_talks_to_whom_is_told_to_parties_and_the_operator_only(world: World, url: str) -> None:
    post(url, world.signed())
    ask("POST", f"{url}/v1/exchange", b"{}")  # a stranger's refusal is an entry as well
    world.bus.seal_evidence(utc_now())
    seen = {
        system: [
            "entry" in ask("GET", f"{url}/v1/evidence/entries/{position}/proof", headers=world.bearer(system)).json
            for position in (0, 1)
        ]
        for system in (RECEIVING, UNGRANTED, OPERATOR)
    }
    assert seen == {RECEIVING: [True, False], UNGRANTED: [False, False], OPERATOR: [True, True]}


@pytest.mark.parametrize(
    "path, status, reason",
    [
        ("consistency?old=1&new=9", 400, "query-invalid"),
        ("consistency?old=0&new=1", 400, "query-invalid"),
        ("consistency?old=2&new=1", 400, "query-invalid"),
        ("consistency?old=-1&new=1", 400, "query-invalid"),
        ("consistency", 400, "query-invalid"),
        ("entries/0/proof?size=9", 400, "query-invalid"),
        ("entries/9/proof", 404, "evidence-entry-unknown"),
        ("entries/99999999999999999999999/proof", 404, "evidence-entry-unknown"),
    ],
)
def test_what_the_log_does_not_have_it_does_not_prove(
    world: World, url: str, path: str, status: int, reason: str
) -> None:
    post(url, world.signed())
    world.bus.seal_evidence(utc_now())
    answer = ask("GET", f"{url}/v1/evidence/{path}", headers=world.bearer())
    assert (answer.status, answer.json["reason"]) == (status, reason)


@pytest.mark.parametrize("path", ["consistency?old=1&new=1", "entries/0/proof"])
def test_proofs_are_for_members(url: str, path: str) -> None:
    assert ask("GET", f"{url}/v1/evidence/{path}").status == 401
