"""Accounts, audit trail, settings and processes in the console."""

from __future__ import annotations

import csv
import io

import pyotp
import pytest
from playwright.sync_api import Page

from bus.people import AuditEvent, PersonRole, SignInFailed
from bus.settings import load_settings, shown_settings
from bus.web.console.desk import RIGHTS, Right
from schemas.identifiers import AgencyCode
from schemas.moment import utc_now
from security.one_time import new_seed
from tests.bus_world import RECEIVER, SENDER
from tests.console_house import PASSWORD, ConsoleHouse, assert_accessible, assert_fits
from tests.console_visitor import Visitor

HOSTILE = "<script>document.title='x'</script>"


def test_a_security_officer_makes_an_account_and_changes_it(console_house: ConsoleHouse, page: Page) -> None:
    people = console_house.people
    console_house.sign_in(page)
    page.goto(f"{console_house.url}/console/people/new")
    assert_accessible(page)
    assert_fits(page)
    page.fill("#name", "binh.tran")
    page.fill("#display_name", HOSTILE)
    page.check("#role-operator")
    page.select_option("#agency", RECEIVER)
    page.click("main form button")
    password = page.inner_text("#first-password")
    assert_accessible(page)
    _, session = people.sign_in("binh.tran", password, "", utc_now())
    assert (session.person.agency, session.person.must_change) == (RECEIVER, True)
    page.goto(f"{console_house.url}/console/people/binh.tran")
    assert HOSTILE in page.inner_text("h1")
    assert password not in page.content()
    assert_accessible(page)
    assert_fits(page)
    page.check("#role-auditor")
    page.fill("#roles-reason", "kiêm nhiệm kiểm tra")
    page.click("button:has-text('Lưu')")
    page.fill("#password-reason", "quên mật khẩu")
    page.click("button:has-text('Cấp mật khẩu mới')")
    assert page.inner_text("#first-password") != password
    page.goto(f"{console_house.url}/console/people/binh.tran")
    page.fill("#disable-reason", "đã chuyển công tác")
    page.click("button:has-text('Khoá tài khoản')")
    person = people.find("binh.tran")
    assert person is not None
    assert person.roles == {PersonRole.OPERATOR, PersonRole.AUDITOR}
    assert person.disabled_at is not None
    page.goto(f"{console_house.url}/console/people")
    assert "đã khoá" in page.inner_text("main")
    assert_accessible(page)
    assert_fits(page)
    told = [(event.action, event.reason) for event in people.events(target="person:binh.tran")]
    assert told == [
        ("person.disabled", "đã chuyển công tác"), ("password.reset", "quên mật khẩu"),
        ("person.changed", "kiêm nhiệm kiểm tra"), ("sign-in", ""), ("person.added", ""),
    ]  # fmt: skip


def test_the_audit_trail_is_read_by_filters_and_taken_away_as_a_table(console_house: ConsoleHouse, page: Page) -> None:
    people = console_house.people
    for number in range(60):
        people.note(AuditEvent(at=utc_now(), person="ba", action="replay", target=f"message:{number}", reason="=1+1"))
    people.note(AuditEvent(at=utc_now(), person=HOSTILE, action="mute", target="x", facts={"lines": [HOSTILE]}))
    console_house.sign_in(page)
    page.goto(f"{console_house.url}/console/audit")
    assert HOSTILE in page.inner_text("main")
    assert_accessible(page)
    assert_fits(page)
    page.fill("#action", "replay")
    page.click("text=Lọc")
    assert page.locator("tbody tr").count() == 50
    page.click("text=Cũ hơn")
    assert page.locator("tbody tr").count() == 10
    lan = Visitor.of(console_house, "thu", PersonRole.AUDITOR)
    answer = lan.get("/console/audit.csv?action=replay")
    rows = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))
    assert len(rows) == 60
    assert rows[0]["target"] == "message:59"
    assert {row["reason"] for row in rows} == {"'=1+1"}, "no spreadsheet may take it for a formula"
    assert [event.person for event in people.events(action="audit.exported")] == ["thu"]
    for path in ("audit?before=x", "audit?agency=%3Cx%3E", "audit.csv?before=-1"):
        assert lan.get(f"/console/{path}").status == 400


def test_settings_are_shown_with_their_origin_and_without_secrets(console_house: ConsoleHouse, page: Page) -> None:
    console_house.sign_in(page)
    page.goto(f"{console_house.url}/console/settings")
    assert "LGSP_HOME" in page.inner_text("main")
    assert_accessible(page)
    assert_fits(page)
    page.goto(f"{console_house.url}/console/nodes")
    assert_accessible(page)
    assert_fits(page)


def test_no_secret_is_among_the_settings_that_are_shown() -> None:
    environ = {
        "LGSP_STORE_URL": "postgresql://lgsp:bimat-1@db/lgsp", "LGSP_BROKER_URL": "amqp://lgsp:bimat-2@mq/",
        "LGSP_BROKER_MANAGEMENT": "http://lgsp:bimat-3@mq:15672", "LGSP_OIDC_ISSUER": "https://id.example",
        "LGSP_OIDC_CLIENT_ID": "truc", "LGSP_OIDC_CLIENT_SECRET": "bimat-4",
    }  # fmt: skip
    shown = dict(shown_settings(load_settings(environ=environ)))
    assert "bimat" not in str(shown)
    assert shown["oidc_client_secret"] == "***"
    assert shown["oidc_issuer"] == "https://id.example"


def test_somebody_of_one_agency_manages_its_accounts_and_no_others(console_house: ConsoleHouse) -> None:
    console_house.person("ba", PersonRole.OPERATOR, agency=SENDER)
    console_house.person("tinh", PersonRole.OPERATOR)
    lan = Visitor.of(console_house, "lan", PersonRole.SECURITY_OFFICER, PersonRole.AUDITOR, agency=RECEIVER)
    listed = lan.get("/console/people").text
    assert "/console/people/lan" in listed
    assert "/console/people/ba" not in listed
    assert "/console/people/tinh" not in listed
    for name in ("ba", "tinh"):
        assert lan.get(f"/console/people/{name}").status == 404
        for deed in ("roles", "disable", "enable", "password", "codes"):
            assert lan.post(f"/console/people/{name}/{deed}", reason="vì cần thiết", roles="auditor").status == 404
    assert lan.get("/console/settings").status == 403
    assert lan.get("/console/nodes").status == 403
    new = {"display_name": "Mới", "roles": "operator"}
    assert lan.post("/console/people", name="moi", agency=SENDER, **new).status == 403
    assert lan.post("/console/people", name="moi", **new).status == 200
    made = console_house.people.find("moi")
    assert made is not None
    assert made.agency == RECEIVER, "nobody gives more than they have"
    assert lan.post("/console/people/moi/roles", roles="auditor", agency=SENDER, reason="vì cần thiết").status == 403
    trail = lan.get("/console/audit?agency=H99.15").text
    assert "person:ba" not in trail
    assert "person:moi" in trail


def test_nobody_changes_their_own_rights_or_locks_themselves_out(console_house: ConsoleHouse) -> None:
    lan = Visitor.of(console_house, "lan", PersonRole.SECURITY_OFFICER)
    for deed in ("roles", "disable", "enable", "password", "codes"):
        assert lan.post(f"/console/people/lan/{deed}", roles="operator", reason="vì cần thiết").status == 403
    person = console_house.people.find("lan")
    assert person is not None
    assert person.roles == {PersonRole.SECURITY_OFFICER}


@pytest.mark.parametrize("role", list(PersonRole))
def test_pages_are_for_whom_they_are_for(console_house: ConsoleHouse, role: PersonRole) -> None:
    someone = Visitor.of(console_house, "lan", role)
    for path, right in (
        ("people", Right.GUARD),
        ("settings", Right.GUARD),
        ("audit", Right.AUDIT),
        ("nodes", Right.SEE),
    ):
        assert (someone.get(f"/console/{path}").status == 200) is (right in RIGHTS[role]), path
    if Right.GUARD not in RIGHTS[role]:
        console_house.person("ba", PersonRole.OPERATOR)
        for deed in ("roles", "disable", "enable", "password", "codes"):
            assert someone.post(f"/console/people/ba/{deed}", reason="vì cần thiết").status == 403
        assert someone.post("/console/people", name="moi", roles="operator").status == 403


def test_a_form_without_its_key_makes_nobody(console_house: ConsoleHouse) -> None:
    lan = Visitor.of(console_house, "lan", PersonRole.SECURITY_OFFICER)
    stranger = Visitor(url=lan.url, token=lan.token, form_key="wrong")
    assert stranger.post("/console/people", name="moi", roles="operator", display_name="x").status == 403
    assert console_house.people.find("moi") is None


@pytest.mark.parametrize(
    "fields", [{"name": "Ô Kìa"}, {"name": ""}, {"name": "lan"}, {"roles": ""}, {"roles": "king"}], ids=str
)
def test_a_wrong_form_is_shown_again_with_what_was_typed(console_house: ConsoleHouse, fields: dict[str, str]) -> None:
    lan = Visitor.of(console_house, "lan", PersonRole.SECURITY_OFFICER)
    answer = lan.post("/console/people", **{"name": "moi", "roles": "operator", "display_name": "Họ Tên", **fields})
    assert answer.status == 400
    assert 'value="Họ Tên"' in answer.text
    assert [person.name for person in console_house.people.all()] == ["lan"]


def test_one_time_codes_are_switched_off_for_a_lost_telephone(console_house: ConsoleHouse) -> None:
    console_house.person("ba", PersonRole.OPERATOR)
    seed, now = new_seed(), utc_now()
    event = AuditEvent(at=now, person="ba", action="second-thing.kept", target="person:ba")
    assert console_house.people.keep_totp("ba", seed, pyotp.TOTP(seed.decode()).at(now), event)
    with pytest.raises(SignInFailed):
        console_house.people.sign_in("ba", PASSWORD, "", now)
    lan = Visitor.of(console_house, "lan", PersonRole.SECURITY_OFFICER)
    assert lan.post("/console/people/ba/codes", reason="mất điện thoại").status == 303
    console_house.people.sign_in("ba", PASSWORD, "", now)


def test_an_agency_that_is_no_member_is_no_scope(console_house: ConsoleHouse) -> None:
    lan = Visitor.of(console_house, "lan", PersonRole.SECURITY_OFFICER)
    answer = lan.post("/console/people", name="moi", roles="operator", agency=AgencyCode("H98.01"))
    assert answer.status == 400
