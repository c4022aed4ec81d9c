"""Bulk work: previewed, ordered, carried on by whoever delivers, stopped; in the browser and without."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

import pytest
from playwright.sync_api import Page
from sqlalchemy import text, update

from bus.bulk import Bulk, Deed, Job, JobState, Meant, Order
from bus.people import AuditEvent, People, PersonRole
from bus.records import State
from bus.tables import deliveries
from bus.trace import status_document
from bus.web.console.names import Names
from registry.directory import Directory
from schemas.identifiers import AgencyCode, MessageId, ServiceCode
from schemas.moment import utc_now
from schemas.problem import NotFound, ProviderRejected, ProviderUnavailable
from tests.bus_world import NOTE, RECEIVER, RECEIVING, SENDER, World, bus_world, delivering
from tests.console_house import ConsoleHouse, assert_accessible, assert_fits
from tests.console_visitor import Visitor
from tests.test_cli_operations import accept, dead_letter, end

REFUSED = ProviderRejected("provider-refused", status=422)
ALL = Meant()
HOSTILE = '<img src=x onerror="document.title=1">{{7*7}}'


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path) as world:
        yield world


def bulk_of(world: World) -> Bulk:
    return Bulk(world.bus.store, world.bus.ledger)


def order(world: World, deed: Deed = Deed.REPLAY, meant: Meant = ALL, batch: int = 1000, form: str = "f") -> Job:
    """Ordered by Lan."""
    bulk = bulk_of(world)
    event = AuditEvent(at=utc_now(), person="lan", action="bulk.ordered", target="")
    meant = meant if meant.until else replace(meant, until=utc_now() + timedelta(seconds=1))
    return bulk.job(
        bulk.order(Order(form=form, deed=deed, meant=meant, reason="đường truyền đã sửa", batch=batch), event)
    )


def carry_on(world: World, times: int = 1) -> int:
    """So many batches, without the pause between two."""
    bulk = bulk_of(world)
    return sum(world.bus.store.write(bulk.carry_on, utc_now()) for _ in range(times))


def state_of(world: World, message: MessageId) -> State:
    record = world.bus.ledger.find(message)
    assert record is not None
    return record.deliveries[0].state


def actions(world: World, target: str) -> list[str]:
    return [event.action for event in People(world.bus.store, world.bus.secrets).events(target=target)][::-1]


# ── without a browser ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_preview_counts_by_cause_and_changes_nothing(world: World) -> None:
    for _ in range(3):
        dead_letter(world)
    dead_letter(world, REFUSED)
    before = world.rows()
    preview = bulk_of(world).preview(Deed.REPLAY, Meant())
    assert [(group.reason, group.count) for group in preview.groups] == [
        ("provider-unreachable", 3), ("provider-refused", 1),
    ]  # fmt: skip
    assert (preview.count, preview.calls, preview.more, len(preview.sample)) == (4, 0, False, 4)
    assert world.rows() == before
    one = bulk_of(world).preview(Deed.REPLAY, Meant(reason="provider-refused", system=RECEIVING))
    assert (one.count, one.sample[0].trace_id) == (1, "0af7651916cd43dd8448eb211c80319c")


def test_reasons_to_choose_from_are_those_that_there_are(world: World) -> None:
    for problem in (None, REFUSED, REFUSED):
        dead_letter(world, problem)
    for agency, reasons in ((None, 2), (SENDER, 2), (RECEIVER, 2), (AgencyCode("H99.17"), 0)):
        found = bulk_of(world).reasons(Deed.REPLAY, agency)
        assert found == ["provider-refused", "provider-unreachable"][:reasons]
    assert bulk_of(world).reasons(Deed.TAKE_BACK, None) == []


def test_a_reason_quotes_nobody() -> None:
    names = Names(Directory([]), "en")
    problem = {"reason": "provider-refused", "facts": {"status": 422}, "said": "Nguyễn Văn A: 099199000001"}
    sentence = names.reason(problem)
    assert sentence.startswith("The receiver answered with status 422")
    assert names.problem(problem) == f"{sentence} (“Nguyễn Văn A: 099199000001”)"
    assert names.reason("provider-refused").startswith("The receiver answered with status …")
    assert [names.reason(nothing) for nothing in (None, {}, "")] == ["–", "–", "–"]
    assert names.reason("khong-co") == "khong-co"


@pytest.mark.parametrize(
    ("meant", "count"),
    [
        (Meant(service=NOTE), 0),
        (Meant(sender=SENDER), 2),
        (Meant(sender=RECEIVER), 0),
        (Meant(agency=RECEIVER), 2),
        (Meant(agency=AgencyCode("H99.17")), 0),
        (Meant(since=utc_now() + timedelta(days=1)), 0),
        (Meant(until=utc_now() - timedelta(days=1)), 0),
        (Meant(reason="unknown"), 0),
        (Meant(service=ServiceCode("dossier.transfer"), reason="provider-unreachable"), 2),
    ],
)
def test_every_condition_of_the_filter_counts(world: World, meant: Meant, count: int) -> None:
    dead_letter(world)
    dead_letter(world)
    assert bulk_of(world).preview(Deed.REPLAY, meant).count == count
    assert Meant.from_facts(json.loads(json.dumps(meant.to_facts()))) == meant


def test_work_is_done_in_batches_and_once(world: World) -> None:
    messages = [dead_letter(world) for _ in range(5)]
    job = order(world, batch=2)
    assert (job.expected, job.state) == (5, JobState.RUNNING)
    assert [carry_on(world) for _ in range(4)] == [2, 2, 1, 0]
    job = bulk_of(world).job(job.id)
    assert (job.state, job.looked, job.moved) == (JobState.DONE, 5, 5)
    assert {state_of(world, message) for message in messages} == {State.WAITING}
    record = world.bus.ledger.find(messages[0])
    assert record is not None
    assert [(each.actor, each.reason) for each in record.deliveries[0].replays] == [
        ("person:lan", "đường truyền đã sửa")
    ]
    assert actions(world, f"bulk:{job.id}") == ["bulk.ordered", "bulk.ended"]
    assert len(bulk_of(world).moved_by(job.id)) == 5


def test_the_same_form_sent_twice_is_one_order(world: World) -> None:
    dead_letter(world)
    first, second = order(world), order(world)
    assert first.id == second.id
    assert actions(world, f"bulk:{first.id}") == ["bulk.ordered"]


def test_what_dies_again_or_later_is_not_touched(world: World) -> None:
    message = dead_letter(world)
    job = order(world, meant=Meant(until=utc_now()), batch=1)
    assert carry_on(world) == 1
    later = accept(world)
    end(world, State.DEAD, ProviderUnavailable("provider-unreachable"))  # both are dead now, after the preview
    assert carry_on(world, 3) == 0
    assert {state_of(world, each) for each in (message, later)} == {State.DEAD}
    assert bulk_of(world).job(job.id).state is JobState.DONE


def test_two_orders_for_the_same_deliveries_do_it_once(world: World) -> None:
    for _ in range(3):
        dead_letter(world)
    order(world, form="a")
    order(world, Deed.SET_ASIDE, form="b")
    assert carry_on(world, 2) == 3
    done = bulk_of(world).jobs(None)
    assert sorted(job.moved for job in done) == [0, 3]


def test_a_batch_that_breaks_leaves_nothing_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the process dies in the middle: the next one goes on from where the store is."""
    messages = [dead_letter(world) for _ in range(4)]
    job = order(world, Deed.SET_ASIDE, batch=2)
    carry_on(world)

    def breaks(*_: object) -> list[int]:
        raise RuntimeError("killed")

    with monkeypatch.context() as broken:
        broken.setattr(world.bus.ledger, "take_back_in", breaks)
        broken.setattr(world.bus.ledger, "set_aside_in", breaks)
        with pytest.raises(RuntimeError):
            carry_on(world)
    assert bulk_of(world).job(job.id).looked == 2
    assert carry_on(world, 3) == 2
    assert {state_of(world, each) for each in messages} == {State.SET_ASIDE}


def test_stopped_work_goes_no_further(world: World) -> None:
    for _ in range(3):
        dead_letter(world)
    job = order(world, batch=1)
    carry_on(world)
    event = AuditEvent(at=utc_now(), person="lan", action="bulk.stopped", target=f"bulk:{job.id}")
    assert bulk_of(world).stop(job.id, event)
    assert not bulk_of(world).stop(job.id, event)
    assert carry_on(world, 3) == 0
    job = bulk_of(world).job(job.id)
    assert (job.state, job.moved) == (JobState.STOPPED, 1)
    assert actions(world, f"bulk:{job.id}") == ["bulk.ordered", "bulk.stopped"]
    with pytest.raises(NotFound):
        bulk_of(world).job(job.id + 1)


def test_what_is_set_aside_leaves_the_list_and_can_be_taken_back(world: World) -> None:
    message = dead_letter(world)
    order(world, Deed.SET_ASIDE)
    assert carry_on(world) == 1
    ledger = world.bus.ledger
    assert (ledger.dead(), ledger.unsettled()[State.DEAD]) == ([], 0)
    assert bulk_of(world).preview(Deed.REPLAY, Meant()).count == 0
    record = ledger.find(message)
    assert record is not None
    delivery = record.deliveries[0]
    assert (delivery.state, delivery.leaf is not None, len(delivery.attempts)) == (State.SET_ASIDE, True, 1)
    document = status_document(record)
    assert document["state"] == "dead"
    assert document["deliveries"][0]["state"] == "dead"  # the house's own affair
    (job,) = [each.job for each in bulk_of(world).moves_of([delivery.id])[delivery.id]]
    assert (job.person, job.reason, job.deed) == ("lan", "đường truyền đã sửa", Deed.SET_ASIDE)
    order(world, Deed.TAKE_BACK, form="back")
    assert carry_on(world) == 1
    assert state_of(world, message) is State.DEAD
    assert [each.job.deed for each in bulk_of(world).moves_of([delivery.id])[delivery.id]] == [
        Deed.SET_ASIDE,
        Deed.TAKE_BACK,
    ]


def test_what_has_no_body_any_more_is_not_taken_back(world: World) -> None:
    """It is passed by, once: the job ends."""
    dead_letter(world)
    dead_letter(world)
    order(world, Deed.SET_ASIDE)
    carry_on(world)
    with world.bus.store.writing() as connection:
        connection.execute(text("DELETE FROM payloads"))
    job = order(world, Deed.TAKE_BACK, form="back", batch=1)
    assert carry_on(world, 3) == 0
    assert bulk_of(world).job(job.id).state is JobState.DONE


def test_whoever_delivers_carries_it_on(world: World) -> None:
    for _ in range(3):
        dead_letter(world)
    job = order(world, Deed.SET_ASIDE, batch=2)
    with delivering(world.bus):
        for _ in range(100):
            if bulk_of(world).job(job.id).state is JobState.DONE:
                break
            time.sleep(0.1)
    assert bulk_of(world).job(job.id).moved == 3


def test_processes_take_turns(world: World) -> None:
    for _ in range(3):
        dead_letter(world)
    order(world, batch=1)
    now = utc_now()
    turns = [bulk_of(world).carry_on_in_turn(world.bus.nodes, node, now) for node in ("a", "b", "c")]
    assert turns == [1, 0, 0]
    assert bulk_of(world).carry_on_in_turn(world.bus.nodes, "b", now + timedelta(seconds=1)) == 1


# ── in the browser ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_operator_sends_a_group_again(console_house: ConsoleHouse, page: Page) -> None:
    world = console_house.world
    for _ in range(3):
        dead_letter(world)
    other = dead_letter(world, REFUSED)
    console_house.sign_in(page)
    page.goto(f"{console_house.url}/console/bulk")
    assert "4 lượt chuyển" in page.inner_text("#what")
    assert_accessible(page)
    assert_fits(page)
    console_house.picture(page, "bulk")
    page.click("text=Chọn nhóm này >> nth=0")
    assert "3 lượt chuyển phù hợp" in page.inner_text("#what")
    page.check("#replay")
    page.fill("#reason", "Sở Nhận đã sửa máy chủ")
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("text=Thực hiện với 3 lượt")
    page.wait_for_url("**/console/bulk/1")
    assert "Đã xem 0 trên 3" in page.inner_text("#progress")
    assert_accessible(page)
    page.locator("body").click()
    assert carry_on(world) == 3
    page.wait_for_selector("#progress >> text=đã thực hiện 3")  # the part renews itself
    page.reload()
    assert page.locator("tbody tr").count() == 3
    assert "Sở Nhận đã sửa máy chủ" in page.inner_text("main")
    assert_accessible(page)
    assert_fits(page)
    console_house.picture(page, "bulk-job")
    assert state_of(world, other) is State.DEAD


def test_work_is_stopped_with_a_reason_and_set_aside_is_taken_back(console_house: ConsoleHouse, page: Page) -> None:
    world = console_house.world
    dead_letter(world)
    job = order(world, Deed.SET_ASIDE, batch=1)
    console_house.sign_in(page)
    page.goto(f"{console_house.url}/console/bulk/{job.id}")
    page.fill("#reason", HOSTILE)
    page.click("text=Dừng sau lô")
    assert "đã dừng" in page.inner_text("#progress")
    assert HOSTILE in page.inner_text("main")
    order(world, Deed.SET_ASIDE, form="again")
    carry_on(world)
    page.goto(f"{console_house.url}/console/bulk?view=aside")
    assert "1 lượt chuyển" in page.inner_text("#what")
    assert_accessible(page)
    page.fill("#reason", "gác nhầm nhóm")
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("text=Thực hiện với 1 lượt")
    page.wait_for_url("**/console/bulk/3")
    assert "Lấy lại" in page.title()


def test_a_letter_says_what_fails_and_nothing_of_people(console_house: ConsoleHouse, page: Page) -> None:
    dossier = "H99.15-260423-0001"
    dead_letter(console_house.world, dossier=dossier)
    console_house.sign_in(page)
    page.goto(f"{console_house.url}/console/bulk")
    page.click("text=Viết cho đối tác")
    letter = page.input_value("#letter")
    for words in ("Sở Nhận", "H99.16/kho", "dossier.transfer", "1 lượt", "0af7651916cd43dd8448eb211c80319c"):
        assert words in letter, words
    assert dossier not in letter
    mail = unquote(page.get_attribute("a[href^=mailto]", "href") or "")
    assert "&#" not in mail
    assert "0af7651916cd43dd8448eb211c80319c" in mail
    page.click("text=Chép nội dung")
    page.wait_for_selector("text=Đã chép")
    assert_accessible(page)
    assert_fits(page)
    console_house.picture(page, "bulk-letter")


def test_hostile_words_of_partners_and_addresses_stay_words(console_house: ConsoleHouse, page: Page) -> None:
    world = console_house.world
    message = dead_letter(world)
    problem = json.dumps({"problem": "x", "reason": HOSTILE, "facts": {}})
    with world.bus.store.writing() as connection:
        connection.execute(update(deliveries).values(problem=problem))
    console_house.sign_in(page)
    page.goto(f"{console_house.url}/console/bulk?reason=%3Cscript%3E&system=%22%3E%3Cb%3E&since=x")
    assert "không đúng dạng" in page.inner_text("main")
    page.goto(f"{console_house.url}/console/bulk")
    assert HOSTILE in page.inner_text("main")
    assert page.title().startswith("Xử lý hàng loạt")
    assert state_of(world, message) is State.DEAD


def test_who_only_looks_changes_nothing_and_an_agency_sees_its_own(console_house: ConsoleHouse, page: Page) -> None:
    world = console_house.world
    mine = dead_letter(world)
    everyones = order(world, Deed.SET_ASIDE)
    console_house.person("mai", PersonRole.OBSERVER)
    console_house.sign_in(page, "mai")
    page.goto(f"{console_house.url}/console/bulk")
    assert page.locator("form[method=post][action='/console/bulk/order']").count() == 0
    assert _posted(page, f"{console_house.url}/console/bulk/order", deed="replay", reason="không được đâu") == 403
    assert _posted(page, f"{console_house.url}/console/bulk/{everyones.id}/stop", reason="không được đâu") == 403
    page.context.clear_cookies()
    console_house.person("hoa", PersonRole.OPERATOR, agency="H99.17")
    console_house.sign_in(page, "hoa")
    page.goto(f"{console_house.url}/console/bulk")
    assert "Không có lượt chuyển nào" in page.inner_text("#what")
    assert "Chưa có việc nào" in page.inner_text("main")
    assert page.goto(f"{console_house.url}/console/bulk/{everyones.id}").status == 403  # type: ignore[union-attr]
    page.goto(f"{console_house.url}/console/bulk")
    assert _posted(page, f"{console_house.url}/console/bulk/order", deed="set-aside", reason="của cơ quan khác") == 303
    wrong = {"deed": "set-aside", "reason": "lọc sai thì không làm", "only_system": "<b>"}
    assert _posted(page, f"{console_house.url}/console/bulk/order", **wrong) == 404
    (hers,) = bulk_of(world).jobs(AgencyCode("H99.17"))
    assert hers.expected == 0
    assert state_of(world, mine) is State.DEAD


def _posted(page: Page, url: str, **fields: str) -> int:
    key = page.get_attribute("input[name=form_key]", "value") or ""
    return page.request.post(url, form={"form_key": key, **fields}, max_redirects=0).status


def test_a_messages_page_says_what_bulk_work_did_to_it(console_house: ConsoleHouse, page: Page) -> None:
    world = console_house.world
    message = dead_letter(world)
    aside = order(world, Deed.SET_ASIDE)
    carry_on(world)
    console_house.sign_in(page, "ba")
    page.goto(f"{console_house.url}/console/messages/{message}")
    shown = page.inner_text("main")
    assert "Được gác lại bởi lan" in shown
    assert "đường truyền đã sửa" in shown
    assert "Lấy lại…" in shown
    assert_accessible(page)
    assert_fits(page)
    console_house.picture(page, "message-set-aside")
    order(world, Deed.TAKE_BACK, form="back")
    again = order(world, form="again")
    carry_on(world, 2)
    page.reload()
    said = page.inner_text("ol.timeline")
    assert [said.index(each) for each in ("Lần 1", "gác lại bởi", "lấy lại bởi", "gửi lại bởi")] == sorted(
        said.index(each) for each in ("Lần 1", "gác lại bởi", "lấy lại bởi", "gửi lại bởi")
    )
    assert said.count("Được gửi lại bởi") == 1, "the order and its bulk work are one thing"
    for job in (aside, again):
        assert page.locator(f"ol.timeline a[href='/console/bulk/{job.id}']").count() == 1
    page.click(f"ol.timeline a[href='/console/bulk/{again.id}']")
    assert page.locator("h1:has-text('Gửi lại')").count() == 1


def test_an_agencys_people_are_told_who_did_it_but_do_not_open_the_provinces_work(console_house: ConsoleHouse) -> None:
    message = dead_letter(console_house.world)
    order(console_house.world, Deed.SET_ASIDE)
    carry_on(console_house.world)
    visitor = Visitor.of(console_house, "hoa", PersonRole.OBSERVER, agency=SENDER)
    page = visitor.get(f"/console/messages/{message}").text
    assert "Được gác lại bởi" in page
    assert 'href="/console/bulk/' not in page
    assert "Lấy lại…" not in page
