"""Alerts: what rules find, one incident from its opening to its end, mail and webhooks, the pages."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from sqlalchemy import insert, text

from bus import notices
from bus.alerts import DEFAULTS, KINDS, Finding, KeyEnd, Kind, QuotaUse, Rule, Sight, judge, said_of, sentence_of
from bus.incidents import GIVE_UP_AFTER, PATIENCE, AlertStore
from bus.logs import no_logs
from bus.notices import Notices, check_webhook
from bus.people import AuditEvent, People, PersonRole
from bus.records import QueueRecord
from bus.settings import BadSetting, load_settings
from bus.tables import breakers
from bus.watching import Watch
from schemas.identifiers import AgencyCode, SystemCode
from schemas.moment import VIETNAM, to_micros, utc_now
from schemas.problem import Malformed
from tests.bus_world import RECEIVING, World, bus_world, delivering
from tests.console_house import ConsoleHouse, assert_accessible, assert_fits, open_console, picture_folder
from tests.console_visitor import Visitor
from tests.loopback import serving
from tests.mail_house import MailHouse, mail_house
from tests.test_cli_operations import accept, dead_letter

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)  # a Monday, nine o'clock in Vietnam
FRIDAY = datetime(2026, 11, 20, 17, 0, tzinfo=VIETNAM)  # the end of the last working day
KHO, OTHER = RECEIVING, SystemCode("G99/csdl")
FROM = "truc@lgsp.example"


@pytest.fixture
def mails() -> Iterator[MailHouse]:
    with mail_house() as house:
        yield house


@pytest.fixture
def world(tmp_path: Path, mails: MailHouse) -> Iterator[World]:
    with bus_world(tmp_path, smtp_url=mails.url, alert_from=FROM, alert_hosts="127.0.0.1:9") as world:
        yield world


def made(world: World, rule: Rule) -> Rule:
    """The rule, kept, and the only one that is switched on."""
    store = AlertStore(world.bus.store)
    for each in store.rules():
        store.save(replace(each, enabled=False), event("off"))
    return store.rule(store.save(rule, event("made")))


def event(action: str, **facts: Any) -> AuditEvent:
    return AuditEvent(at=utc_now(), person="lan", action=f"alert-rule.{action}", target="", **facts)


def breaker(world: World, system: str = KHO) -> None:
    with world.bus.store.writing() as connection:
        row = {"system": system, "opening": "x", "opened_at": to_micros(utc_now())}
        connection.execute(insert(breakers).values(row))


def mend(world: World) -> None:
    with world.bus.store.writing() as connection:
        connection.execute(text("DELETE FROM breakers"))


# ── decisions ────────────────────────────────────────────────────────────────────────────────────────────────────────


def queue(minutes: int) -> QueueRecord:
    return QueueRecord(system=KHO, waiting=3, oldest=NOW - timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("rule", "sight", "found"),
    [
        (Rule(kind=Kind.QUEUE_AGE, limit=30), {"queues": [queue(30)]}, [(KHO, 30)]),
        (Rule(kind=Kind.QUEUE_AGE, limit=30), {"queues": [queue(29)]}, []),
        (Rule(kind=Kind.QUEUE_AGE, limit=30, target=OTHER), {"queues": [queue(99)]}, []),
        (Rule(kind=Kind.QUEUE_AGE, limit=30, enabled=False), {"queues": [queue(99)]}, []),
        (Rule(kind=Kind.ERROR_RATE, limit=20, least=20), {"attempts": {KHO: (5, 20)}}, [(KHO, 25)]),
        (Rule(kind=Kind.ERROR_RATE, limit=20, least=20), {"attempts": {KHO: (4, 20)}}, []),
        (Rule(kind=Kind.ERROR_RATE, limit=20, least=20), {"attempts": {KHO: (19, 19)}}, []),
        (Rule(kind=Kind.ERROR_RATE, limit=20), {"attempts": {KHO: (0, 0)}}, []),
        (Rule(kind=Kind.SILENCE, limit=60), {"accepted": {"": FRIDAY}}, [("", 90)]),
        (Rule(kind=Kind.SILENCE, limit=91), {"accepted": {"": FRIDAY}}, []),  # the weekend is free
        (Rule(kind=Kind.SILENCE, limit=60), {}, []),  # nothing ever came: nothing has stopped
        (Rule(kind=Kind.BREAKER, limit=0), {"open_breakers": [KHO, OTHER]}, [(KHO, 0), (OTHER, 0)]),
        (Rule(kind=Kind.BREAKER, limit=0, target=OTHER), {"open_breakers": [KHO, OTHER]}, [(OTHER, 0)]),
        (
            Rule(kind=Kind.CERTIFICATE, limit=30),
            {
                "keys": [
                    KeyEnd(system=KHO, ends=NOW + timedelta(days=7)),
                    KeyEnd(system=OTHER, ends=NOW + timedelta(99)),
                ]
            },
            [(KHO, 7)],
        ),
        (Rule(kind=Kind.CERTIFICATE, limit=30), {"keys": [KeyEnd(system=KHO, ends=NOW - timedelta(3))]}, [(KHO, 0)]),
        (Rule(kind=Kind.CHECKPOINT, limit=5), {"unsealed_since": NOW - timedelta(minutes=6)}, [("", 6)]),
        (Rule(kind=Kind.CHECKPOINT, limit=5), {"unsealed_since": None}, []),
        (
            Rule(kind=Kind.QUOTA, limit=80),
            {"quotas": [QuotaUse(grant="g", grantee=AgencyCode("H99.15"), used=80, limit=100)]},
            [("g", 80)],
        ),
        (
            Rule(kind=Kind.QUOTA, limit=80, target="H99.16"),
            {"quotas": [QuotaUse(grant="g", grantee=AgencyCode("H99.15"), used=99, limit=100)]},
            [],
        ),
    ],
)
def test_what_a_rule_finds(rule: Rule, sight: dict[str, Any], found: list[tuple[str, int]]) -> None:
    assert [(each.subject, each.value) for each in judge(rule, Sight(at=NOW, **sight))] == found


def test_every_kind_is_told_in_both_languages() -> None:
    assert {rule.kind for rule in DEFAULTS} == set(Kind)
    for rule in DEFAULTS:
        for language in ("vi", "en"):
            words = sentence_of(rule, language)
            assert "{" not in words
            assert words.endswith(".")
        assert KINDS[rule.kind].lowest <= rule.limit <= KINDS[rule.kind].highest


# ── incidents ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_bus_has_its_first_rules_once(world: World) -> None:
    store = AlertStore(world.bus.store)
    first = store.rules()
    assert [rule.kind for rule in first] == list(Kind)
    assert AlertStore(world.bus.store).rules() == first
    with world.bus.store.writing() as connection:
        connection.execute(text("DELETE FROM alert_rules"))
    assert store.rules() == []  # whoever removes them does not get them back


def test_one_incident_however_often_and_by_whomever_it_is_seen(world: World) -> None:
    rule = made(world, Rule(kind=Kind.BREAKER, limit=0))
    store, found = AlertStore(world.bus.store), [Finding(subject=KHO, value=0, agency=KHO.agency)]
    assert [store.keep(rule, found, NOW) for _ in range(3)] == [(1, 0), (0, 0), (0, 0)]
    (incident,) = store.open_incidents()
    assert (incident.subject, incident.opened_at, incident.agency) == (KHO, NOW, "H99.16")
    assert KHO in said_of(incident, "vi")
    # It comes and goes: still the same one.
    assert store.keep(rule, [], NOW + timedelta(minutes=1)) == (0, 0)
    assert store.keep(rule, found, NOW + timedelta(minutes=2)) == (0, 0)
    over = NOW + timedelta(minutes=2) + PATIENCE
    assert store.keep(rule, [], over) == (0, 1)
    assert store.open_incidents() == []
    assert store.history()[0].closed_at == over
    assert store.keep(rule, found, over) == (1, 0)
    assert len(store.history()) == 2
    assert store.history(AgencyCode("H99.17")) == []


def test_a_rule_that_is_switched_off_ends_its_incidents(world: World) -> None:
    rule = made(world, Rule(kind=Kind.BREAKER, limit=0))
    store = AlertStore(world.bus.store)
    store.keep(rule, [Finding(subject=KHO, value=0)], NOW)
    assert store.keep(replace(rule, enabled=False), [], NOW) == (0, 1)


def test_opening_and_end_are_told_by_mail(world: World, mails: MailHouse) -> None:
    rule = made(world, Rule(kind=Kind.BREAKER, limit=0, emails=("truc@h99.example", "b@h99.example")))
    watch, store = Watch(world.bus), AlertStore(world.bus.store)
    breaker(world)
    watch.look(utc_now())
    watch.look(utc_now())
    assert watch.tell(utc_now()) == 2
    assert watch.tell(utc_now()) == 0
    mend(world)
    later = utc_now() + PATIENCE + timedelta(seconds=1)
    store.keep(rule, [], later)
    assert watch.tell(later) == 2
    opening, ending = mails.letters[0], mails.letters[2]
    assert opening["Subject"] == "[lgsp-bus] Cảnh báo: Tạm ngừng gọi hệ thống (H99.16/kho)"
    assert (opening["To"], opening["From"], opening["Auto-Submitted"]) == ("truc@h99.example", FROM, "auto-generated")
    assert "/console/bulk?system=H99.16/kho" in opening.get_content()
    assert "Đã hết" in str(ending["Subject"])
    assert opening["Message-ID"] != ending["Message-ID"]
    assert {notice.event for notice in store.notices_of([1])[1]} == {"opened", "closed"}


def test_a_mail_server_that_refuses_is_asked_again_and_holds_nothing_up(world: World, mails: MailHouse) -> None:
    made(world, Rule(kind=Kind.BREAKER, limit=0, emails=("truc@h99.example",)))
    watch, store = Watch(world.bus), AlertStore(world.bus.store)
    breaker(world)
    mails.refuse = "451 later"
    watch.look(utc_now())
    assert watch.tell(utc_now()) == 0
    (notice,) = store.notices_of([1])[1]
    assert (notice.tries, notice.problem, notice.sent_at) == (
        1, {"reason": "alert-not-sent", "facts": {"said": "SMTPRecipientsRefused"}}, None,
    )  # fmt: skip
    assert watch.tell(utc_now()) == 0  # not at once
    mails.refuse = ""
    later = utc_now() + timedelta(minutes=5)
    (again,) = store.take_due_notices(later)
    Notices(world.settings).send(again)
    store.note_sent(again.id, later)
    assert len(mails.letters) == 1
    assert store.take_due_notices(later + timedelta(days=1)) == []


def test_a_notice_is_given_up_in_the_end(world: World) -> None:
    made(world, Rule(kind=Kind.BREAKER, limit=0, emails=("truc@h99.example",)))
    store = AlertStore(world.bus.store)
    breaker(world)
    Watch(world.bus).look(utc_now())
    now = utc_now() + GIVE_UP_AFTER + timedelta(seconds=1)
    assert len(store.take_due_notices(now)) == 1
    assert store.take_due_notices(now + timedelta(days=1)) == []


def test_passwords_go_to_no_server_without_tls(world: World, mails: MailHouse) -> None:
    made(world, Rule(kind=Kind.BREAKER, limit=0, emails=("truc@h99.example",)))
    breaker(world)
    watch = Watch(world.bus, Notices(replace(world.settings, smtp_url=mails.url.replace("//", "//truc:bi-mat@"))))
    watch.look(utc_now())
    assert watch.tell(utc_now()) == 0
    assert not any("AUTH" in command for command in mails.commands)
    assert mails.letters == []


def test_a_webhook_is_called_where_the_settings_allow(world: World) -> None:
    bodies: list[bytes] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        bodies.append(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        start_response("204 No Content" if len(bodies) > 1 else "503 Busy", [("Content-Length", "0")])
        return []

    with serving(application) as hook:
        settings = replace(world.settings, alert_hosts=hook.url.removeprefix("http://"))
        made(world, Rule(kind=Kind.BREAKER, limit=0, webhook=f"{hook.url}/alerts"))
        breaker(world)
        watch = Watch(world.bus, Notices(settings))
        watch.look(utc_now())
        assert watch.tell(utc_now()) == 0
        store = AlertStore(world.bus.store)
        (notice,) = store.take_due_notices(utc_now() + timedelta(minutes=1))
        Notices(settings).send(notice)
        assert hook.header("Idempotency-Key") == [f"alert-{notice.id}"] * 2
        assert b'"event": "opened"' in bodies[1]
        assert '"Trục tạm ngừng gọi H99.16/kho'.encode() in bodies[1]
        with pytest.raises(Malformed):
            Notices(world.settings).send(notice)  # another port than the one named


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:80/", "http://169.254.169.254/", "file:///etc/passwd", "http://a@127.0.0.1:9/",
     "http://127.0.0.1:9/ x", "http://127.0.0.1:999999/", "gopher://127.0.0.1:9/", ""],
)  # fmt: skip
def test_webhooks_go_nowhere_else(url: str) -> None:
    settings = load_settings({"alert_hosts": "127.0.0.1:9"}, environ={})
    check_webhook("http://127.0.0.1:9/x", settings)
    with pytest.raises(Malformed):
        check_webhook(url, settings)


@pytest.mark.parametrize(
    "wrong",
    [{"smtp_url": "http://x"}, {"smtp_url": "smtp://x:25"}, {"smtp_url": "smtp://x", "alert_from": "a b@c\nX: y"}],
)
def test_mail_settings_that_cannot_be_used_stop_the_start(wrong: dict[str, str]) -> None:
    with pytest.raises(BadSetting):
        load_settings(wrong, environ={})


def test_a_muted_rule_tells_when_it_ends_if_it_is_still_so(world: World, mails: MailHouse) -> None:
    rule = made(world, Rule(kind=Kind.BREAKER, limit=0, emails=("truc@h99.example",)))
    store, watch, now = AlertStore(world.bus.store), Watch(world.bus), utc_now()
    store.mute(rule.id, now + timedelta(hours=1), event("muted", reason="nhà mạng bảo trì"))
    breaker(world)
    watch.look(now)
    assert len(store.open_incidents()) == 1
    assert watch.tell(utc_now()) == 0
    watch.look(now + timedelta(hours=2))
    assert watch.tell(now + timedelta(hours=2)) == 1
    assert len(mails.letters) == 1
    muted = People(world.bus.store, world.bus.secrets).events(target=f"alert-rule:{rule.id}")
    assert (muted[0].action, muted[0].reason) == ("alert-rule.muted", "nhà mạng bảo trì")


def test_everything_that_rules_look_at_is_seen_in_a_real_store(world: World) -> None:
    store, watch = AlertStore(world.bus.store), Watch(world.bus)
    for rule in store.rules():
        limit = {Kind.CERTIFICATE: 365, Kind.QUOTA: 1, Kind.ERROR_RATE: 1}.get(rule.kind, 0)
        store.save(replace(rule, limit=limit, least=1), event("changed"))
    accept(world, world.signed(service="dossier.counted", purpose=""))
    watch.look(utc_now() + timedelta(seconds=1))
    kinds = {incident.rule.kind for incident in store.open_incidents()}
    assert kinds >= {Kind.QUEUE_AGE, Kind.CHECKPOINT, Kind.QUOTA, Kind.SILENCE}
    dead_letter(world)
    breaker(world)
    watch.look(utc_now() + timedelta(seconds=2))
    kinds = {incident.rule.kind for incident in store.open_incidents()}
    assert kinds >= {Kind.ERROR_RATE, Kind.BREAKER}


def test_what_cannot_be_looked_at_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made(world, Rule(kind=Kind.BREAKER, limit=0))
    watch, store = Watch(world.bus), AlertStore(world.bus.store)
    breaker(world)
    watch.look(utc_now())
    monkeypatch.setattr(AlertStore, "open_breakers", lambda _: 1 / 0)
    watch.look(utc_now() + timedelta(hours=1))
    assert len(store.open_incidents()) == 1


def test_one_process_looks_a_minute_and_any_may(world: World) -> None:
    now = utc_now()
    watch = Watch(world.bus)
    assert [watch.look_in_turn(now + timedelta(seconds=each)) for each in (0, 1, 60)] == [True, False, True]
    assert (AlertStore(world.bus.store).watched_at() or now) > now


@pytest.mark.parametrize("path", ["/console/", "/console/alerts"])
def test_who_opens_the_console_right_after_the_start_is_not_alarmed(console_house: ConsoleHouse, path: str) -> None:
    lan = Visitor.of(console_house, "lan", PersonRole.OBSERVER)
    alarm = "Hai phút vừa qua không có tiến trình"
    assert alarm in lan.get(path).text, "nothing delivers here"
    with no_logs(), delivering(console_house.world.bus):
        patience_ends = time.monotonic() + 20
        while alarm in lan.get(path).text:
            assert time.monotonic() < patience_ends
            time.sleep(0.1)
        assert AlertStore(console_house.world.bus.store).watched_at() is None, "it has not looked yet"


def test_a_delivery_process_watches(world: World, mails: MailHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.worker.WATCH_SECONDS", 0.2)
    monkeypatch.setattr("bus.worker.TELL_SECONDS", 0.2)
    made(world, Rule(kind=Kind.BREAKER, limit=0, emails=("truc@h99.example",)))
    breaker(world)
    with delivering(world.bus):
        for _ in range(100):
            if mails.letters:
                break
            time.sleep(0.1)
    assert len(mails.letters) == 1


# ── in the browser ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_operator_reads_an_alert_and_where_to_mend_it(console_house: ConsoleHouse, page: Page) -> None:
    world = console_house.world
    console_house.sign_in(page)
    page.goto(f"{console_house.url}/console/alerts")
    assert "không có tiến trình nào theo dõi" in page.inner_text("main")
    breaker(world)
    Watch(world.bus).look_in_turn(utc_now())
    page.reload()
    said = page.inner_text("#open")
    assert "Trục tạm ngừng gọi H99.16/kho" in said
    assert "Viết cho đơn vị vận hành" in said
    assert "theo dõi" not in said
    assert_accessible(page)
    assert_fits(page)
    console_house.picture(page, "alerts")
    page.click("text=Tới nơi xử lý")
    assert "system=H99.16" in page.url
    mend(world)
    AlertStore(world.bus.store).keep(AlertStore(world.bus.store).rules()[3], [], utc_now() + PATIENCE * 2)
    page.goto(f"{console_house.url}/console/alerts/history")
    assert "chỉ trên trang" in page.inner_text("main")
    assert_accessible(page)
    assert_fits(page)
    page.click("text=English")
    page.goto(f"{console_house.url}/console/alerts")
    assert "All quiet" in page.inner_text("main")


def test_a_rule_is_made_changed_and_muted_in_the_console(console_house: ConsoleHouse, page: Page) -> None:
    store = AlertStore(console_house.world.bus.store)
    console_house.sign_in(page)
    page.goto(f"{console_house.url}/console/alerts")
    page.select_option("#kind", "error-rate")
    page.click("text=Thêm quy tắc")
    assert_accessible(page)
    assert_fits(page)
    console_house.picture(page, "alerts-rule")
    page.fill("#limit", "100")
    page.fill("#emails", "not an address")
    page.fill("#webhook", "http://169.254.169.254/latest")
    page.click("text=Lưu quy tắc")
    said = page.inner_text("[role=alert]")
    assert all(word in said for word in ("Ngưỡng", "Thư điện tử", "Webhook", "LGSP_ALERT_HOSTS"))
    page.fill("#limit", "15")
    page.select_option("#target", RECEIVING)
    page.fill("#emails", "lan@h99.example; mai@h99.example")
    page.fill("#webhook", "")
    page.click("text=Lưu quy tắc")
    assert "Đã lưu" in page.inner_text("[role=status]")
    rule = store.rules()[-1]
    assert (rule.limit, rule.target, rule.emails) == (15, RECEIVING, ("lan@h99.example", "mai@h99.example"))
    assert "hơn 15 % lần chuyển tới H99.16/kho" in page.inner_text("main")
    assert "chưa đặt máy chủ thư" in page.inner_text("main")
    page.click("text=Sửa, tắt báo >> nth=-1")
    page.fill("#reason", "<b>đối tác bảo trì</b>")
    page.click("#mute button")
    assert "<b>đối tác bảo trì</b>" in page.inner_text("main")
    assert store.rule(rule.id).is_muted(utc_now())
    page.click("text=Sửa, tắt báo >> nth=-1")
    page.click("text=Bật báo lại")
    assert not store.rule(rule.id).is_muted(utc_now())
    page.click("text=Sửa, tắt báo >> nth=-1")
    page.uncheck("#enabled")
    page.click("text=Lưu quy tắc")
    assert not store.rule(rule.id).enabled
    actions = [each.action for each in console_house.people.events(target=f"alert-rule:{rule.id}")]
    assert actions[::-1] == ["alert-rule.made", "alert-rule.muted", "alert-rule.unmuted", "alert-rule.changed"]


def test_rules_are_the_provinces_and_incidents_their_agencys(console_house: ConsoleHouse, page: Page) -> None:
    world, url = console_house.world, console_house.url
    breaker(world)
    Watch(world.bus).look(utc_now())
    for agency, sees in (("H99.16", True), ("H99.17", False)):
        page.context.clear_cookies()
        console_house.person(agency.lower(), PersonRole.OPERATOR, agency=agency)
        console_house.sign_in(page, agency.lower())
        page.goto(f"{url}/console/alerts")
        assert ("H99.16/kho" in page.inner_text("#open")) is sees
        assert page.locator("#rules").count() == 0
        page.goto(f"{url}/console/alerts/history")
        assert ("H99.16/kho" in page.inner_text("main")) is sees
        key = page.get_attribute("input[name=form_key]", "value") or ""
        for path in ("/alerts/rules", "/alerts/rules/1/mute", "/alerts/rules/1/unmute"):
            fields: dict[str, str | float | bool] = {
                "form_key": key,
                "kind": "breaker",
                "hours": "4",
                "reason": "không được đâu",
            }
            assert page.request.post(f"{url}/console{path}", form=fields, max_redirects=0).status == 403
        assert page.request.get(f"{url}/console/alerts/rules/1").status == 403
    assert all(rule.muted_until is None for rule in AlertStore(world.bus.store).rules())


def test_a_rule_is_tried_out_and_what_came_of_it_is_said(tmp_path: Path, mails: MailHouse, page: Page) -> None:
    calls: list[Any] = []

    def webhook(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        calls.append(json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))))
        start_response("503 Busy", [("Content-Length", "0")])
        return [b""]

    with (
        serving(webhook) as hook,
        bus_world(tmp_path, smtp_url=mails.url, alert_from=FROM, alert_hosts=hook.url[7:]) as world,
        open_console(world, picture_folder(tmp_path)) as house,
    ):
        rule = made(world, Rule(kind=Kind.BREAKER, limit=0, emails=("lan@so-mau.example",), webhook=f"{hook.url}/x"))
        silent = AlertStore(world.bus.store).save(Rule(kind=Kind.BREAKER, limit=0), event("made"))
        house.sign_in(page)
        page.goto(f"{house.url}/console/alerts/rules/{silent}")
        assert page.locator("text=Gửi thử ngay").count() == 0, "it tells nobody"
        page.goto(f"{house.url}/console/alerts/rules/{rule.id}")
        page.click("text=Gửi thử ngay")
        rows = page.locator("tbody tr").all_inner_texts()
        assert "đã nhận" in rows[0], rows
        assert "chưa được" in rows[1], rows
        assert "503" in rows[1], "the server's answer, in words"
        assert_accessible(page)
        assert_fits(page)
        house.picture(page, "alert-test")
        (letter,) = mails.letters
        assert "không có sự cố" in str(letter["Subject"])
        assert "Ai nhận được thư này sẽ được báo khi" in letter.get_content()
        assert [call["event"] for call in calls] == ["test"]
        (noted,) = house.people.events(action="alert-rule.tested")
        assert (noted.person, noted.facts) == ("lan", {"emails": 1, "webhook": True})
        assert "so-mau" not in repr(noted), "addresses are persons'"

        lan = Visitor.of(house, "ba", PersonRole.OPERATOR)
        address = f"/console/alerts/rules/{rule.id}/test"
        assert lan.post(f"/console/alerts/rules/{silent}/test").status == 400
        assert [lan.post(address).status for _ in range(2)] == [200, 429]
        assert len(mails.letters) == 2
        assert letter["Message-ID"] != mails.letters[1]["Message-ID"]
        scoped = Visitor.of(house, "hoa", PersonRole.OPERATOR, agency="H99.15")
        looker = Visitor.of(house, "chi", PersonRole.OBSERVER)
        assert [each.post(address).status for each in (scoped, looker)] == [403, 403]
        assert len(calls) == 2


def test_a_slow_mail_server_does_not_keep_a_person_waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = Rule(kind=Kind.BREAKER, limit=0, emails=("a@b.example", "c@b.example"))
    monkeypatch.setattr(notices, "TEST_SECONDS", -1.0)
    assert [(each.sent, each.problem) for each in notices.try_out(rule, world.settings, utc_now())] == [
        (False, None)
    ] * 2
    off = load_settings({"home": world.settings.home}, environ={})
    monkeypatch.setattr(notices, "TEST_SECONDS", 20.0)
    first, _ = notices.try_out(rule, off, utc_now())
    assert first.problem is not None
    assert first.problem.reason == "alert-mail-missing"
