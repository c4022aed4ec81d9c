"""The map of flows: what is drawn, and the page in a browser."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from playwright.sync_api import Page
from sqlalchemy import insert

from bus.figures import Counts
from bus.people import PersonRole
from bus.tables import breakers, flow_hours
from bus.web.console.flow_map import MOST_LINES, MOST_NODES, Line, draw, group_of, since_of
from registry.model import Agency
from schemas.identifiers import AgencyCode
from schemas.moment import VIETNAM, to_micros, utc_now
from tests.bus_world import MINISTRY, RECEIVER, SENDER, World, post
from tests.console_house import ConsoleHouse, assert_accessible, assert_fits
from tests.console_visitor import Visitor

HOSTILE = '"><script>alert(1)</script> Sở'


def line(sender: str, receiver: str, accepted: int = 10, failed: int = 0) -> Line:
    counts = Counts(accepted=accepted, delivered=accepted - failed, died=failed)
    return Line(sender=sender, receiver=receiver, counts=counts)


def test_agencies_stand_in_columns_by_where_they_belong() -> None:
    assert [group_of(code, "H99") for code in ("H99", "H99.15", "H99.15.01", "G99", "H98.15", "H9")] == [
        "province", "province", "below", "outside", "outside", "outside",
    ]  # fmt: skip
    drawing = draw([line("H99.15", "G99"), line("H99.15.01", "H99.15")], "H99")
    assert [group for _, group in drawing.columns] == ["below", "province", "outside"]
    assert {node.code: node.x for node in drawing.nodes}["G99"] > 900


@pytest.mark.parametrize("agencies", [2, 5, 24, 200])
def test_few_and_many_agencies_are_drawn_apart_from_each_other(agencies: int) -> None:
    codes = [f"H99.{number}" for number in range(10, 10 + agencies)]
    drawing = draw([line(a, b, number) for number, (a, b) in enumerate(pairwise(codes), 1)], "H99")
    assert len(drawing.nodes) == min(agencies, MOST_NODES)
    assert len(drawing.nodes) + drawing.nodes_left == agencies
    assert len(drawing.lines) <= MOST_LINES
    assert len(drawing.lines) + drawing.lines_left == agencies - 1
    places = {(node.x, node.y) for node in drawing.nodes}
    assert len(places) == len(drawing.nodes)
    assert all(0 <= node.y <= drawing.height - 42 for node in drawing.nodes)
    assert [group for _, group in drawing.columns] == ["senders", "receivers"]


def test_what_fails_is_drawn_before_what_is_busy() -> None:
    many = [line(f"H99.{number}", "G99", 1000) for number in range(10, 60)]
    drawing = draw([*many, line("H99.70", "G99", 2, failed=2)], "H99")
    assert "H99.70" in {node.code for node in drawing.nodes}
    assert [each.line.tone for each in drawing.lines][:2] == ["bad", "good"]
    assert [line("a", "b", 100, failed=n).tone for n in (0, 1, 9, 10)] == ["good", "warn", "warn", "bad"]


def test_nothing_is_drawn_of_nothing() -> None:
    assert draw([], "H99").nodes == []


def test_longer_times_begin_at_midnight() -> None:
    now = utc_now()
    assert now - since_of("24h", now) == timedelta(hours=24)
    assert since_of("7d", now).astimezone(VIETNAM).hour == 0


def fill(world: World) -> None:
    hour = to_micros(utc_now()) // 3_600_000_000
    flows = {
        ("H99.15", "dossier.note", "H99.16/kho"): {"accepted": 40, "delivered": 30, "died": 8, "ms <= 100": 30},
        ("H99.15", "dossier.transfer", "G99/csdl"): {"accepted": 500, "delivered": 500, "ms <= 20": 500},
        ("H99.16", "dossier.note", "H99.17/tam-ngung"): {"accepted": 3, "delivered": 3, "ms <= 50": 3},
        ("H99.15", "dossier.limited", ""): {"refused": 7},
    }
    rows = [
        {"hour": hour, "sender": sender, "service": service, "system": system, "what": what, "value": value}
        for (sender, service, system), numbers in flows.items()
        for what, value in numbers.items()
    ]
    opened = to_micros(utc_now() - timedelta(minutes=3))
    with world.bus.store.writing() as connection:
        connection.execute(insert(flow_hours), rows)
        connection.execute(insert(breakers), {"system": "H99.16/kho", "opening": "x", "opened_at": opened})


def test_the_map_shows_who_talks_to_whom_and_leads_to_the_messages(console_house: ConsoleHouse, page: Page) -> None:
    console_house.sign_in(page)
    page.goto(f"{console_house.url}/console/map")
    assert "Chưa có thông điệp nào" in page.inner_text("main")
    assert_accessible(page)
    fill(console_house.world)
    console_house.world.register(Agency(code=AgencyCode("H99.17"), name=HOSTILE, parent=AgencyCode("H99")))
    page.goto(f"{console_house.url}/console/map?span=7d")
    text = page.inner_text("main")
    assert "cầu dao đang ngắt" in text
    assert HOSTILE in text
    assert "21,1 %" in text  # 8 of 38 that came to an end
    assert_accessible(page)
    assert_fits(page)
    console_house.picture(page, "map")
    links = [str(each.get_attribute("href")) for each in page.locator("svg.whole a").all()]
    pair = "/console/messages?sender=H99.15&receiver=H99.16&service=dossier.note&since="
    assert any(link.startswith(pair) for link in links)
    page.select_option("#agency", "G99")
    page.click("main form button")
    assert page.locator("tbody tr").count() == 1
    assert "500" in page.inner_text("tbody")
    page.goto(f"{console_house.url}/console/map?agency=nobody&service=%22%3E&from=-5&span=x")
    assert "Không có thông điệp nào khớp" in page.inner_text("main")


def test_an_agency_sees_its_own_lines_only(console_house: ConsoleHouse, page: Page) -> None:
    console_house.person("mai", PersonRole.OBSERVER, agency="H99.17")
    console_house.sign_in(page, "mai")
    fill(console_house.world)
    page.goto(f"{console_house.url}/console/map?span=7d&agency=H99.15")
    assert "500" not in page.inner_text("main")
    page.goto(f"{console_house.url}/console/map?span=7d")
    assert page.locator("tbody tr").count() == 1
    assert page.locator("#agency option").all_inner_texts()[1:] == ["Sở Nhận (H99.16)", "Sở Tạm Ngưng (H99.17)"]


def test_an_open_map_is_renewed(console_house: ConsoleHouse, page: Page) -> None:
    console_house.sign_in(page)
    fill(console_house.world)
    page.goto(f"{console_house.url}/console/map?span=7d&agency=H99.15")
    assert page.get_attribute("#flows-live", "data-every") == "30"
    part = str(page.get_attribute("#flows-live", "data-part"))
    assert part == "/console/parts/map?span=7d&agency=H99.15&from=0"
    asked = page.request.get(console_house.url + part)
    assert "<html" not in asked.text()
    assert asked.text().count("<tr>") == page.locator("#flows-live tr").count()
    again = page.request.get(console_house.url + part, headers={"If-None-Match": asked.headers["etag"]})
    assert again.status in (200, 304), "a rate an hour may have moved on between the two"


def test_a_line_leads_to_what_one_agency_sent_to_the_other(console_house: ConsoleHouse, page: Page) -> None:
    world = console_house.world
    wanted = post(console_house.url, world.signed()).json["message_id"]
    other = post(console_house.url, world.signed(receivers=(MINISTRY,))).json["message_id"]
    console_house.sign_in(page)
    page.goto(f"{console_house.url}/console/map")
    page.locator(f"svg.whole a[href*='receiver={RECEIVER}']").first.press("Enter")
    page.wait_for_url("**/console/messages?*")
    assert page.locator(f"a[href='/console/messages/{wanted}']").count() == 1
    assert page.locator(f"a[href='/console/messages/{other}']").count() == 0
    assert "Sở Nhận" in page.inner_text("form.panel")
    assert_accessible(page)
    assert_fits(page)
    page.click("text=bỏ điều kiện này")
    assert page.locator(f"a[href='/console/messages/{other}']").count() == 1
    stranger = Visitor.of(console_house, "hoa", PersonRole.OBSERVER, agency="H99.17")
    assert wanted not in stranger.get(f"/console/messages?sender={SENDER}&receiver={RECEIVER}").text
    partner = Visitor.of(console_house, "chi", PersonRole.OBSERVER, agency=RECEIVER)
    assert wanted in partner.get(f"/console/messages?sender={SENDER}&receiver={RECEIVER}").text
    assert other not in partner.get(f"/console/messages?sender={SENDER}&receiver={MINISTRY}").text
