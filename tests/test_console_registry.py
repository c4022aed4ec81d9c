"""The registry in the console: looked at and changed in a browser; whose affair is whose; a second look first."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page

from bus.people import PersonRole
from bus.web.console.registering import faults_of_scope
from registry.changes import plan_changes
from registry.model import Agency, Endpoint, Service, Stage
from schemas.identifiers import AgencyCode, ServiceCode
from schemas.moment import utc_now
from tests.bus_world import (
    GOOD,
    NOTE,
    OUTSIDER,
    RECEIVER,
    RECEIVING,
    SENDER,
    SENDING,
    SERVICES,
    TRANSFER,
    TRANSFER_SCHEMA,
    UNGRANTED,
    certificate_of,
    key_of,
    post,
)
from tests.console_house import ConsoleHouse, assert_accessible, assert_fits
from tests.console_visitor import Visitor

WSDL = Path(__file__).parent / "corpus" / "wsdl" / "soap12-only.wsdl"
HOSTILE = '<img src=x onerror="document.title=1">'
PAGES = (
    "registry", "registry/agencies", "registry/agencies?q=so", "registry/agencies/H99", "registry/systems",
    "registry/systems/H99.15/mot-cua", "registry/services", "registry/services/dossier.transfer/1",
    "registry/services/dossier.transfer/difference?from=1&to=2", "registry/grants", "registry/grants/transfer",
    "registry/grants/transfer/edit", "registry/grants/new?service=dossier.note&grantee=H99.15",
    "registry/services/new", "registry/services/new?from=dossier.transfer/1", "registry/upload", "registry/keys",
    "registry/history", "registry/requests?state=all", "registry/requests/new", "nodes",
)  # fmt: skip


def apply(page: Page, reason: str = "theo công văn 12/STTTT") -> None:
    page.fill("#reason", reason)
    page.click("main form button")


def test_every_page_can_be_read_by_everybody_at_any_width(console_house: ConsoleHouse, page: Page) -> None:
    console_house.world.register(
        replace(SERVICES[1], schema={**TRANSFER_SCHEMA, "required": ["title", "pages"]}),
        Agency(code=AgencyCode("H99.18"), name=HOSTILE, parent=AgencyCode("H99")),
    )
    console_house.sign_in(page)
    for path in PAGES:
        page.goto(f"{console_house.url}/console/{path}")
        assert page.locator("h1").count() == 1, path
        assert_accessible(page)
        assert_fits(page)
    page.goto(f"{console_house.url}/console/registry/agencies")
    assert HOSTILE in page.inner_text("main")
    page.goto(f"{console_house.url}/console/registry/services/dossier.transfer/difference?from=1&to=2")
    assert "phải sửa phần mềm" in page.inner_text("main")


def test_a_refused_message_leads_to_a_grant_that_lets_it_pass(console_house: ConsoleHouse, page: Page) -> None:
    world = console_house.world
    message = world.signed(sender=OUTSIDER, key=key_of(UNGRANTED), service=NOTE)
    assert post(console_house.url, message).json["reason"] == "no-grant"
    console_house.sign_in(page)
    page.goto(
        f"{console_house.url}/console/registry/grants/new?service={NOTE}&grantee={OUTSIDER}&back=/console/account"
    )
    page.fill("#purposes", "giai-quyet-tthc")
    page.fill("#expires", "2030-01-31")
    page.click("main form button")
    assert "dossier.note.H99.15.01" in page.inner_text("main")
    assert f"{NOTE}.{OUTSIDER}" not in world.bus.registry.load().grants, "nothing is written before the second look"
    assert_accessible(page)
    assert_fits(page)
    apply(page)
    assert page.url.endswith("/console/account"), "back to where it was begun"
    assert post(console_house.url, message).status == 202
    (event,) = console_house.people.events(action="registry.changed")
    assert (event.person, event.target, event.reason) == ("lan", f"grant:{NOTE}.{OUTSIDER}", "theo công văn 12/STTTT")
    assert world.bus.registry.events(limit=1)[0]["actor"] == "person:lan"


def test_a_developer_uploads_a_wsdl_publishes_it_and_sees_the_first_call(
    console_house: ConsoleHouse, page: Page
) -> None:
    console_house.sign_in(page)
    page.goto(f"{console_house.url}/console/registry/upload")
    page.set_input_files("#description", str(WSDL))
    page.fill("#prefix", "thu")
    page.select_option("#owner", "H99.16")
    page.click("text=Đọc tệp và xem trước >> nth=0")
    assert "/console/registry/drafts/" in page.url
    assert_accessible(page)
    assert_fits(page)
    apply(page)
    (service,) = [s for s in console_house.world.bus.registry.load().services.values() if s.code.startswith("thu.")]
    assert (service.stage, service.owner) == (Stage.DRAFT, RECEIVER)
    page.goto(f"{console_house.url}/console/registry/services/{service.code}/1")
    page.click("text=Công bố")
    apply(page)
    assert console_house.world.bus.registry.load().services[service.code, 1].stage is Stage.PUBLISHED
    assert "cuộc gọi đầu tiên sẽ hiện ở đây" in page.inner_text("main")
    assert post(console_house.url, console_house.world.signed()).status == 202
    page.goto(f"{console_house.url}/console/registry/services/{TRANSFER}/1")
    assert page.locator("a[href^='/console/messages/']").count() == 1


def test_a_service_by_form_is_told_what_is_wrong_and_kept_as_typed(console_house: ConsoleHouse, page: Page) -> None:
    console_house.sign_in(page)
    page.goto(f"{console_house.url}/console/registry/services/new")
    page.fill("#code", "Ho Tich")
    page.fill("#name", HOSTILE)
    page.fill("#schema", '{"type": "strange"')
    page.click("main form button")
    assert page.input_value("#name") == HOSTILE
    assert "/schema" in page.inner_text("[role=alert]")
    page.fill("#schema", json.dumps(TRANSFER_SCHEMA))
    page.click("main form button")
    assert "/code" in page.inner_text("[role=alert]")
    assert_accessible(page)
    page.fill("#code", "ho-tich.dang-ky")
    page.click("main form button")
    apply(page)
    service = console_house.world.bus.registry.load().services[ServiceCode("ho-tich.dang-ky"), 1]
    assert (service.name, service.stage, service.schema) == (HOSTILE, Stage.DRAFT, TRANSFER_SCHEMA)


def test_the_next_version_is_compared_with_the_one_before(console_house: ConsoleHouse) -> None:
    lan = Visitor.of(console_house, "lan", PersonRole.REGISTRAR)
    told = lan.post(
        "/console/registry/services", **{"from": f"{TRANSFER}/1"}, code=TRANSFER, version="3", name="Chuyển hồ sơ",
        owner="H99", pattern="one-way", grade="signed", content_types=["application/json"],
        schema=json.dumps({**TRANSFER_SCHEMA, "required": ["title", "pages"]}),
    )  # fmt: skip
    draft = lan.get(told.to)
    assert "dossier.transfer/3" in draft.text
    assert "/pages" in lan.get(told.to).text
    assert "<img" not in draft.text


def test_a_draft_is_applied_once_to_the_registry_that_was_looked_at(console_house: ConsoleHouse) -> None:
    lan, ba = (Visitor.of(console_house, name, PersonRole.REGISTRAR) for name in ("lan", "ba"))
    world = console_house.world
    told = lan.post("/console/registry/grants", service=NOTE, grantee=OUTSIDER)
    revision = str(world.bus.registry.revision())
    assert ba.get(told.to).status == 404, "a draft is its maker's"
    assert lan.post(f"{told.to}/apply", revision=revision).status == 400, "no reason"
    world.register(Agency(code=AgencyCode("H99.19"), name="Sở Khác", parent=AgencyCode("H99")))
    assert lan.post(f"{told.to}/apply", revision=revision, reason="vì cần thiết").status == 409
    revision = str(world.bus.registry.revision())
    assert lan.post(f"{told.to}/apply", revision=revision, reason="vì cần thiết").status == 303
    assert lan.post(f"{told.to}/apply", revision=revision, reason="vì cần thiết").status == 404
    assert len(console_house.people.events(action="registry.changed")) == 1


def test_what_cannot_be_noted_is_not_registered(console_house: ConsoleHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    lan = Visitor.of(console_house, "lan", PersonRole.REGISTRAR)
    world = console_house.world
    told = lan.post("/console/registry/grants", service=NOTE, grantee=OUTSIDER)
    revision = world.bus.registry.revision()

    def broken(*_: object) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("bus.web.console.registering.note", broken)
    assert lan.post(f"{told.to}/apply", revision=str(revision), reason="vì cần thiết").status == 500
    assert world.bus.registry.revision() == revision
    assert f"{NOTE}.{OUTSIDER}" not in world.bus.registry.load().grants


@pytest.mark.parametrize("name", ["../ngoai.json", "/etc/hostname", "khac.json"])
def test_uploaded_manifests_name_no_file_of_the_bus(
    console_house: ConsoleHouse, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``../ngoai.json`` is there, and is a schema: it is not read all the same."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "ngoai.json").write_text(json.dumps(TRANSFER_SCHEMA), encoding="utf-8")
    lan = Visitor.of(console_house, "lan", PersonRole.REGISTRAR)
    manifest = (
        "kind: Service\ncode: thu.tep\nversion: 1\nname: Thử\nowner: H99\npattern: one-way\n"
        f"schema: {{file: {json.dumps(name)}}}\n"
    ).encode()
    refused = lan.upload("/console/registry/upload/manifests", [("manifests", "a.yaml", manifest)])
    assert refused.status == 400
    assert "a.yaml#1" in refused.text
    if "/" in name:
        return
    beside = ("beside", name, json.dumps(TRANSFER_SCHEMA).encode())
    told = lan.upload("/console/registry/upload/manifests", [("manifests", "a.yaml", manifest), beside])
    assert "thu.tep/1" in lan.get(told.to).text


@pytest.mark.parametrize(
    "files",
    [
        [("manifests", "a.yaml", b"kind: King\n")],
        [("manifests", "a.yaml", b"a: &a [*a]\n")],
        [("manifests", "a b.yaml", b"kind: Agency\n")],
        [("manifests", "a.yaml", b"\xff\xfe")],
        [],
    ],
)
def test_a_broken_upload_is_told_and_changes_nothing(
    console_house: ConsoleHouse, files: list[tuple[str, str, bytes]]
) -> None:
    lan = Visitor.of(console_house, "lan", PersonRole.REGISTRAR)
    before = console_house.world.rows()
    assert lan.upload("/console/registry/upload/manifests", files).status == 400
    broken = [("description", name, content) for _, name, content in files]
    assert lan.upload("/console/registry/upload/description", broken, prefix="thu", owner="H99").status == 400
    assert console_house.world.rows() == before


@pytest.mark.parametrize(
    "manifest, vi, en",
    [
        (
            "kind: Grant\nid: x\nservice: no.such\ngrantee: H99.15\n",
            "không phải dịch vụ đã đăng ký",
            "is no registered service",
        ),
        ("kind: Agency\ncode: H99.33\n", "thiếu trường name", "the field name is missing"),
    ],
)
def test_broken_rules_are_told_in_the_language_of_the_page(
    console_house: ConsoleHouse, manifest: str, vi: str, en: str
) -> None:
    lan = Visitor.of(console_house, "lan", PersonRole.REGISTRAR)
    told = {}
    for language in ("vi", "en"):
        asker = lan.in_language(language)
        answer = asker.upload("/console/registry/upload/manifests", [("manifests", "a.yaml", manifest.encode())])
        told[language] = (asker.get(answer.to) if answer.to else answer).text
    assert vi in told["vi"]
    assert en not in told["vi"]
    assert en in told["en"]


@pytest.mark.parametrize(
    "language, secret, header",
    [
        ("vi", "cán bộ an toàn thông tin lưu bí mật g99.12.dkdn", "bỏ trường đầu thư HTTP User-Agent"),
        ("en", "a security officer keeps the secret g99.12.dkdn", "the header User-Agent is left out"),
    ],
)
def test_what_an_import_tells_is_in_the_language_of_the_page(
    console_house: ConsoleHouse, language: str, secret: str, header: str
) -> None:
    console_house.world.register(Agency(code=AgencyCode("G99.12"), name="Sở Kế hoạch"))
    lan = Visitor.of(console_house, "lan", PersonRole.REGISTRAR).in_language(language)
    content = {"application/json": {"schema": {"type": "object"}}}
    description = {
        "openapi": "3.1.0",
        "info": {"title": "x", "version": "1"},
        "servers": [{"url": "https://dkdn.example.invalid"}],
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{"key": []}],
        "paths": {
            "/find": {
                "get": {
                    "operationId": "find",
                    "parameters": [{"in": "header", "name": "User-Agent", "schema": {"type": "string"}}],
                    "responses": {"200": {"description": "x", "content": content}},
                }
            }
        },
    }  # fmt: skip
    told = lan.upload(
        "/console/registry/upload/description", [("description", "dkdn.json", json.dumps(description).encode())],
        prefix="dkdn", owner="G99.12", system="G99.12/dkdn",
    )  # fmt: skip
    page = lan.get(told.to).text
    assert secret in page
    assert header in page
    assert "lgsp registry secret set" not in page, "that is for a terminal"


def test_a_version_goes_its_way_and_not_back(console_house: ConsoleHouse) -> None:
    lan = Visitor.of(console_house, "lan", PersonRole.REGISTRAR)
    store = console_house.world.bus.registry
    place = f"/console/registry/services/{NOTE}/1"
    assert lan.post(f"{place}/stage", stage="draft").status == 400
    assert lan.post(f"{place}/stage", stage="deprecated").status == 400, "no day is named"
    for stage, more in (("deprecated", {"sunset": "2030-01-31"}), ("retired", {})):
        draft = lan.post(f"{place}/stage", stage=stage, **more).to
        lan.post(f"{draft}/apply", revision=str(store.revision()), reason="đã có phiên bản mới")
        service = store.load().services[NOTE, 1]
        assert service.stage == stage
        assert service.sunset is not None
        assert service.sunset.isoformat() == "2030-01-31T16:59:59+00:00", "the end of the day in Vietnam"


def test_a_grant_is_changed_and_withdrawn(console_house: ConsoleHouse) -> None:
    lan = Visitor.of(console_house, "lan", PersonRole.REGISTRAR)
    store = console_house.world.bus.registry
    draft = lan.post("/console/registry/grants", id="note", service=NOTE, grantee=SENDER, per_day="1.000").to
    lan.post(f"{draft}/apply", revision=str(store.revision()), reason="giảm hạn mức")
    assert store.load().grants["note"].quota.per_day == 1000
    other = lan.post("/console/registry/grants", id="note", service=NOTE, grantee=RECEIVER)
    assert other.status == 400, "a grant stays its agency's"
    draft = lan.post("/console/registry/grants/note/remove").to
    lan.post(f"{draft}/apply", revision=str(store.revision()), reason="hết nhu cầu")
    assert "note" not in store.load().grants


def test_keys_are_added_revoked_and_secrets_shown_once(console_house: ConsoleHouse, page: Page) -> None:
    console_house.sign_in(page)
    fresh = certificate_of(key_of("fresh"))
    place = f"{console_house.url}/console/registry/systems/{RECEIVING}"
    page.goto(place)
    page.click("text=Thêm khoá (chứng thư PEM)")
    page.fill("#pem", fresh.pem)
    page.fill("#add-reason", "thay khoá hằng năm")
    page.click("text=Thêm khoá >> nth=-1")
    system = console_house.world.bus.registry.load().systems[RECEIVING]
    assert [held.key_id for held in system.certificates][-1] == fresh.key_id
    page.click("text=Thu hồi >> nth=0")
    page.fill("#revoke-1", "máy bị mất")
    page.click("text=Thu hồi khoá này >> nth=0")
    revoked = console_house.world.bus.registry.load().systems[RECEIVING].certificates[0]
    assert revoked.revoked_at is not None
    page.click("text=Cấp mã bí mật mới")
    page.fill("#secret-reason", "cấp lần đầu")
    page.click("text=Cấp mã mới")
    secret = page.inner_text("#secret")
    assert len(secret) > 20
    assert_accessible(page)
    assert_fits(page)
    page.goto(place)
    assert secret not in page.content()
    actions = [event.action for event in console_house.people.events(target=f"system:{RECEIVING}")]
    assert actions == ["client-secret.made", "key.revoked", "key.added"]


# ── whose affair is whose ───────────────────────────────────────────────────────────────────────────────────────────


def test_an_agencys_own_people_see_and_change_what_is_theirs(console_house: ConsoleHouse) -> None:
    console_house.world.register(
        Service(code=ServiceCode("so-nhan.viec"), version=1, name="Việc", owner=RECEIVER, pattern=SERVICES[0].pattern),
        replace(SERVICES[0], code=ServiceCode("so-mau.nhap"), owner=SENDER, stage=Stage.DRAFT),
    )
    lan = Visitor.of(console_house, "lan", PersonRole.REGISTRAR, PersonRole.SECURITY_OFFICER, agency=RECEIVER)
    for path, status in (
        (f"systems/{RECEIVING}", 200),
        (f"systems/{SENDING}", 403),
        ("grants/transfer", 404),
        ("services/so-mau.nhap/1", 404),
        ("services/dossier.transfer/1", 200),
        ("services/dossier.transfer/1/manifest", 403),
        ("services/so-nhan.viec/1/manifest", 200),
        ("services/dossier.transfer/2", 404),
        ("services/dossier.transfer/difference?from=1&to=1", 404),
        ("history", 403),
        ("grants/transfer/edit", 404),
    ):
        assert lan.get(f"/console/registry/{path}").status == status, path
    assert '"maxLength"' not in lan.get("/console/registry/services/dossier.transfer/1").text
    for path in ("systems", "keys", "grants", "", "agencies/H99.15"):
        text = lan.get(f"/console/registry/{path}".rstrip("/")).text
        assert SENDING not in text, path
        assert "so-mau.nhap" not in text
    store = console_house.world.bus.registry
    for fields, status in (
        ({"service": "so-nhan.viec", "grantee": SENDER}, 303),
        ({"service": NOTE, "grantee": RECEIVER}, 403),
    ):
        draft = lan.post("/console/registry/grants", **fields)
        done = lan.post(f"{draft.to}/apply", revision=str(store.revision()), reason="vì cần thiết")
        assert (done.status == 303) is (status == 303), fields
    assert "so-nhan.viec.H99.15" in store.load().grants
    assert f"{NOTE}.{RECEIVER}" not in store.load().grants
    assert lan.post(f"/console/registry/systems/{SENDING}/secret", reason="vì cần thiết").status == 403
    assert lan.post(f"/console/registry/systems/{SENDING}/suspend").status == 403


def test_an_agency_cannot_reach_beyond_itself_by_a_manifest(console_house: ConsoleHouse) -> None:
    """Where the bus calls and with which secret, whom a system speaks for, keys without the right to guard."""
    directory = console_house.world.bus.registry.load()
    held = directory.systems[RECEIVING]
    elsewhere = Endpoint(connector="rest", url="http://10.0.0.9/", secret="national-portal")
    for changed, guards, wrong in (
        (replace(held, name="Kho mới"), False, []),
        (replace(held, endpoint=elsewhere), True, ["/System/H99.16/kho/endpoint"]),
        (replace(held, speaks_for_children=True), True, ["/System/H99.16/kho/speaks_for_children"]),
        (replace(held, certificates=()), False, ["/System/H99.16/kho/certificates"]),
        (replace(held, certificates=()), True, []),
        (replace(directory.systems[SENDING], name="x"), True, ["/System/H99.15/mot-cua"]),
        (replace(directory.agencies[RECEIVER], name="x"), True, ["/Agency/H99.16"]),
        (replace(SERVICES[2], owner=RECEIVER, stage=Stage.DRAFT, version=9), True, ["/Service/dossier.note/9"]),
    ):
        changes = plan_changes(directory, [changed])
        found = faults_of_scope(changes, RECEIVER, {NOTE: AgencyCode("H99")}, guards=guards)
        assert [error.pointer for error in found] == wrong
    assert list(faults_of_scope(plan_changes(directory, [replace(held, name="x")]), None, {}, guards=False)) == []


@pytest.mark.parametrize("role", [PersonRole.OBSERVER, PersonRole.OPERATOR, PersonRole.AUDITOR])
def test_who_may_only_look_changes_nothing(console_house: ConsoleHouse, role: PersonRole) -> None:
    lan = Visitor.of(console_house, "lan", role)
    before = console_house.world.rows()
    assert lan.get("/console/registry/services/dossier.transfer/1").status == 200
    for path in ("services/new", "upload", "grants/new", "grants/transfer/edit", "requests/new"):
        assert lan.get(f"/console/registry/{path}").status == 403, path
    for path in (
        "services", f"services/{NOTE}/1/stage", f"systems/{SENDING}/suspend", "upload/manifests", "upload/description",
        "grants", "grants/note/remove", "requests", f"systems/{SENDING}/keys", f"systems/{SENDING}/revoke",
        f"systems/{SENDING}/secret",
    ):  # fmt: skip
        assert lan.post(f"/console/registry/{path}").status == 403, path
    assert console_house.world.rows() == before


@pytest.mark.parametrize("path, shown", [("/console/", 20), ("/console/registry", 50)])
def test_more_than_a_page_of_what_ends_soon_is_counted(console_house: ConsoleHouse, path: str, shown: int) -> None:
    ends = utc_now() + timedelta(days=10)
    note = console_house.world.bus.registry.load().grants["note"]
    console_house.world.register(*(replace(note, id=f"soon-{number}", expires_at=ends) for number in range(60)))
    told = Visitor.of(console_house, "lan", PersonRole.OBSERVER).get(path).text
    assert told.count('"/console/registry/grants/soon-') == shown
    assert f"và {60 - shown} mục nữa" in told


@pytest.mark.parametrize("path", ["/console/", "/console/registry"])
def test_what_ends_soon_is_told_the_same_on_both_first_pages(console_house: ConsoleHouse, path: str) -> None:
    world, soon, gone = console_house.world, utc_now() + timedelta(days=10), utc_now() - timedelta(days=40)
    systems, grants = world.bus.registry.load().systems, world.bus.registry.load().grants
    ending = replace(systems[RECEIVING].certificates[0], not_after=soon)
    changing = replace(systems[SENDING].certificates[0], key_id="the-older-one", not_after=soon, revoked_at=None)
    world.register(
        replace(systems[RECEIVING], certificates=(ending,)),
        replace(systems[SENDING], certificates=(changing, *systems[SENDING].certificates)),
        replace(SERVICES[2], stage=Stage.DEPRECATED, sunset=soon),
        replace(grants["note"], expires_at=soon), replace(grants["paper"], expires_at=gone),
    )  # fmt: skip
    lan = Visitor.of(console_house, "lan", PersonRole.OBSERVER)
    told = lan.get(path).text
    for wanted in (f"systems/{RECEIVING}", "services/dossier.note/1", "grants/note"):
        assert f'"/console/registry/{wanted}"' in told, wanted
    for not_wanted in (f"systems/{SENDING}", "grants/paper"):
        assert f'"/console/registry/{not_wanted}"' not in told, not_wanted
    tam = Visitor.of(console_house, "tam", PersonRole.OBSERVER, agency="H99.17")
    assert f'"/console/registry/systems/{RECEIVING}"' not in tam.get(path).text
    assert post(console_house.url, world.signed(GOOD)).status == 202
