"""The registry over real HTTP: what a member sees of it, and the operator's manifests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.changes import plan_changes
from tests.bus_world import (
    ANSWERING,
    OPERATOR,
    RECEIVER,
    RECEIVING,
    SECRET,
    SENDER,
    SENDING,
    SUSPENDED,
    TRANSFER_SCHEMA,
    UNGRANTED,
    Answer,
    World,
    ask,
    bus_world,
)

MANIFEST = """\
kind: Agency
code: H99.31
name: Sở Mới
parent: H99
---
kind: Grant
id: note-31
service: dossier.note
grantee: H99.31
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path) as world:
        yield world


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with world.serving() as url:
        yield url


def read(world: World, url: str, path: str, system: str = SENDING) -> Answer:
    return ask("GET", f"{url}/v1/registry/{path}", headers=world.bearer(system))


def codes(world: World, url: str, path: str, system: str = SENDING, key: str = "code") -> list[str]:
    answer = read(world, url, path, system)
    assert answer.status == 200, answer.body
    return [item[key] for item in answer.json["items"]]


def test_every_member_sees_all_agencies_page_by_page(world: World, url: str) -> None:
    seen, after = [], ""
    for _ in range(10):
        page = read(world, url, f"agencies?max=2&after={after}", UNGRANTED).json
        seen += [item["code"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert seen == sorted(world.bus.directory.current().agencies)


@pytest.mark.parametrize("code", ["H99.16", "000.00.16.H99"])
def test_an_agency_is_found_by_either_spelling(world: World, url: str, code: str) -> None:
    assert read(world, url, f"agencies/{code}").json["code"] == RECEIVER


@pytest.mark.parametrize("path", ["agencies", "systems", "services", "grants", "schemas", "agencies/H99"])
def test_the_registry_is_for_members(world: World, url: str, path: str) -> None:
    assert ask("GET", f"{url}/v1/registry/{path}").status == 401
    assert read(world, url, path, SUSPENDED).status == 401


def test_a_system_is_shown_without_secrets_and_its_endpoint_to_its_own_agency_only(world: World, url: str) -> None:
    for system in (SENDING, ANSWERING, OPERATOR):
        told = read(world, url, "systems", system)
        text = told.body.decode()
        for never in ("PRIVATE", "BEGIN CERTIFICATE", "argon2", SECRET):
            assert never not in text
        seen = {item["code"]: item for item in told.json["items"]}
        assert ("endpoint" in seen[ANSWERING]) == (system in (ANSWERING, OPERATOR))
        assert ("has_client_secret" in seen[SENDING]) == (system in (SENDING, OPERATOR))
    one = read(world, url, f"systems/{ANSWERING}", ANSWERING).json
    assert one["endpoint"]["connector"] == "rest"
    assert one["certificates"][0]["key_id"]


def test_services_are_open_to_all_but_drafts_to_their_owner(world: World, url: str) -> None:
    def versions(system: str) -> list[int]:
        items = read(world, url, "services", system).json["items"]
        return [item["version"] for item in items if item["code"] == "dossier.transfer"]

    assert (versions(UNGRANTED), versions(OPERATOR)) == ([1], [1, 2])
    assert read(world, url, "services/dossier.transfer/2").status == 404
    service = read(world, url, "services/dossier.transfer/1", UNGRANTED).json
    assert service["schemas"][0]["schema"] == "dossier.transfer/1/request"
    assert "title" not in json.dumps(service)  # the digest of the schema, not the schema


def test_grants_are_shown_to_those_they_concern(world: World, url: str) -> None:
    assert "transfer" in codes(world, url, "grants", SENDING, "id")
    assert codes(world, url, "grants", RECEIVING, "id") == []
    assert len(codes(world, url, "grants", OPERATOR, "id")) == 7
    assert read(world, url, "grants/transfer").json["grantee"] == SENDER
    assert read(world, url, "grants/transfer", RECEIVING).status == 404


def test_strangers_learn_nothing_of_schemas(world: World, url: str) -> None:
    place = "schemas/dossier.transfer/1/request"
    assert read(world, url, place).json == TRANSFER_SCHEMA
    assert read(world, url, place).headers["content-type"] == "application/schema+json"
    assert codes(world, url, "schemas", SENDING, "schema") == ["dossier.transfer/1/request"]
    assert codes(world, url, "schemas", UNGRANTED, "schema") == []
    assert read(world, url, place, UNGRANTED).status == 404


@pytest.mark.parametrize(
    "path",
    [
        "agencies/H99.98", "systems/H99.15/khong-co", "systems/x/y", "services/khong.co/1", "services/X/1",
        "services/dossier.transfer/99", "grants/khong-co", "schemas/dossier.transfer/1/reply",
        "schemas/dossier.transfer/1/secret", "schemas/dossier.transfer/2/request", "schemas/dossier.note/1/request",
    ],
)  # fmt: skip
def test_what_is_not_registered_is_not_found(world: World, url: str, path: str) -> None:
    answer = read(world, url, path)
    assert (answer.status, answer.json["reason"]) == (404, "registry-entry-unknown")


@pytest.mark.parametrize("query", ["max=0", "max=x", "max=-1", "max=99999999"])
def test_a_page_has_a_size(world: World, url: str, query: str) -> None:
    assert read(world, url, f"agencies?{query}").json["reason"] == "query-invalid"


# ---- the operator's manifests ---------------------------------------------------------------------------------------


def apply(world: World, url: str, text: Any, query: str = "", media: str = "application/yaml") -> Answer:
    headers = world.bearer(OPERATOR, Content_Type=media)
    return ask("POST", f"{url}/v1/registry/manifests{query}", text, headers)


def test_a_dry_run_says_what_would_change_and_changes_nothing(world: World, url: str) -> None:
    before = world.rows()
    answer = apply(world, url, MANIFEST, "?dry_run=true")
    assert (answer.status, answer.json["applied"], answer.json["steps"]) == (200, False, 2)
    assert answer.json["lines"][:2] == ["+ Agency H99.31  Sở Mới", "+ Grant note-31"]
    assert world.rows() == before


def test_manifests_are_applied_at_once_and_again_is_nothing(world: World, url: str) -> None:
    first = apply(world, url, MANIFEST.encode()).json
    assert (first["applied"], first["revision"]) == (True, world.bus.registry.revision())
    assert read(world, url, "agencies/H99.31").status == 200
    again = apply(world, url, MANIFEST).json
    assert (again["applied"], again["steps"], again["revision"]) == (False, 0, first["revision"])
    event = world.bus.registry.events(subject="H99.31")[0]
    assert event["actor"] == f"api:{OPERATOR}"


def test_json_manifests_are_taken_too(world: World, url: str) -> None:
    document = json.dumps([{"kind": "Agency", "code": "H99.32", "name": "Sở Hai"}])
    assert apply(world, url, document, media="application/json").json["steps"] == 1


@pytest.mark.parametrize("system", [SENDING, ANSWERING])
def test_only_the_operator_changes_the_registry(world: World, url: str, system: str) -> None:
    headers = world.bearer(system, Content_Type="application/yaml")
    answer = ask("POST", f"{url}/v1/registry/manifests", MANIFEST, headers)
    assert (answer.status, answer.json["reason"]) == (403, "operator-only")
    assert ask("POST", f"{url}/v1/registry/manifests", MANIFEST).status == 401
    assert read(world, url, "agencies/H99.31").status == 404


@pytest.mark.parametrize(
    "text, media, status, reason",
    [
        ("kind: Agency\ncode: nonsense\nname: x\n", "application/yaml", 400, "registry-manifest-invalid"),
        ("kind: Agency\ncode: H99.33\n", "application/yaml", 400, "registry-manifest-invalid"),
        ("kind: Grant\nid: x\nservice: no.such\ngrantee: H99.15\n", "application/yaml", 400, "registry-inconsistent"),
        ("a: &a [*a]\n", "application/yaml", 400, "registry-manifest-invalid"),
        ("!!python/object/apply:os.system [id]\n", "application/yaml", 400, "registry-manifest-invalid"),
        ("{", "application/json", 400, "registry-manifest-invalid"),
        ("x", "text/html", 400, "content-type-not-taken"),
        ("x" * (2 * 2**20 + 1), "application/yaml", 413, "body-too-large"),
    ],
)
def test_a_bad_manifest_changes_nothing(
    world: World, url: str, text: str, media: str, status: int, reason: str
) -> None:
    before = world.rows()
    answer = apply(world, url, text, media=media)
    assert (answer.status, answer.json["reason"]) == (status, reason)
    assert world.rows() == before


@pytest.mark.parametrize(
    "asked, said",
    [("", "is no registered service"), ("en", "is no registered service"), ("vi", "không phải dịch vụ đã đăng ký")],
)
def test_broken_rules_are_told_in_the_language_of_the_caller(world: World, url: str, asked: str, said: str) -> None:
    headers = world.bearer(OPERATOR, Content_Type="application/yaml", **({"Accept_Language": asked} if asked else {}))
    text = "kind: Grant\nid: x\nservice: no.such\ngrantee: H99.15\n"
    answer = ask("POST", f"{url}/v1/registry/manifests", text, headers)
    assert answer.json["errors"] == [{"pointer": "/Grant/x/service", "detail": said}]


def test_a_code_of_a_schema_is_the_same_in_every_language(world: World, url: str) -> None:
    headers = world.bearer(OPERATOR, Content_Type="application/yaml", Accept_Language="vi")
    answer = ask("POST", f"{url}/v1/registry/manifests", "kind: Agency\ncode: H99.33\n", headers)
    assert [each["detail"] for each in answer.json["errors"]] == ["required: name"]


def test_a_manifest_from_the_network_reads_no_file_of_ours(world: World, url: str) -> None:
    text = (
        "kind: Service\ncode: a.b\nversion: 1\nname: x\nowner: H99\npattern: one-way\n"
        "schema: {file: ../keys/ring/ring.json}\n"
    )
    answer = apply(world, url, text)
    assert (answer.status, answer.json["reason"]) == (400, "registry-manifest-invalid")
    assert "current" not in answer.body.decode()


def test_somebody_quicker_is_told_apart(world: World, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load = world.bus.registry.load

    def load_and_be_overtaken() -> Any:
        directory = load()
        monkeypatch.undo()
        apply(world, url, "kind: Agency\ncode: H99.34\nname: Nhanh hơn\n")
        return directory

    monkeypatch.setattr(world.bus.registry, "load", load_and_be_overtaken)
    answer = apply(world, url, MANIFEST)
    assert (answer.status, answer.json["type"]) == (409, "/problems/registry-changed")
    assert plan_changes(world.bus.registry.load()).steps == ()
    assert read(world, url, "agencies/H99.31").status == 404
