"""Subscriptions to events in the console: who is told of what, how far, and what stops it."""

from __future__ import annotations

from datetime import timedelta

from playwright.sync_api import Page
from sqlalchemy import insert

from bus.people import PersonRole
from bus.tables import event_cursors
from registry.model import EventDelivery, Subscription
from schemas.events import DOSSIER_CHANGED, REGISTRY_CHANGED
from schemas.moment import to_micros, utc_now
from tests.bus_world import OUTSIDER, RECEIVER, RECEIVING, UNGRANTED
from tests.console_house import ConsoleHouse, assert_accessible, assert_fits
from tests.console_visitor import Visitor

LIST = "/console/registry/subscriptions"
KEPT = Subscription(
    id="kho", system=RECEIVING, types=(DOSSIER_CHANGED,), delivery=EventDelivery.QUEUE, units=(RECEIVER,)
)


def stop(house: ConsoleHouse, problem: str | None = "provider-unreachable") -> None:
    """As the worker leaves it when the subscriber cannot be reached."""
    later = to_micros(utc_now() + timedelta(minutes=5))
    row = {"subscription": "kho", "stream": DOSSIER_CHANGED, "revision": 1, "position": -1, "number": 0, "turn": 1,
           "free_at": later, "tries": 3, "problem": problem}  # fmt: skip
    house.world.bus.store.write(lambda connection: connection.execute(insert(event_cursors), row))


def test_who_is_told_of_what_and_what_stops_it(console_house: ConsoleHouse, page: Page) -> None:
    house = console_house
    house.sign_in(page)
    page.goto(f"{house.url}{LIST}")
    assert "Chưa hệ thống nào" in page.inner_text("main")
    house.world.register(KEPT)
    stop(house)
    page.goto(f"{house.url}/console/registry")
    page.click("a.tile:has-text('đăng ký nhận sự kiện')")
    assert "chưa báo được" in page.inner_text("tbody")
    assert_accessible(page)
    assert_fits(page)
    page.click("tbody a.code >> nth=0")
    shown = page.inner_text("main")
    assert "trạng thái, hạn trả hoặc nơi giữ hồ sơ" in shown
    assert "Thử lại lúc" in shown
    assert "qua hàng đợi riêng" in shown
    assert_accessible(page)
    assert_fits(page)
    house.picture(page, "subscription")
    page.goto(f"{house.url}/console/registry/systems/{RECEIVING}")
    assert page.locator(f"a[href='{LIST}/kho']").count() == 1
    page.goto(f"{house.url}/console/language/en?next={LIST}/kho")
    assert "cannot be told" in page.inner_text("main")


def test_a_subscription_is_given_changed_and_withdrawn(console_house: ConsoleHouse, page: Page) -> None:
    house = console_house
    house.sign_in(page)
    page.goto(f"{house.url}{LIST}")
    page.click("text=Thêm đăng ký nhận sự kiện")
    page.fill("#id", "Không được")
    page.select_option("#system", UNGRANTED)
    page.fill("#units", OUTSIDER)
    page.click("text=Xem trước")
    assert page.locator("[role=alert]").count() == 1, "said on the form, with what was typed"
    assert page.input_value("#id") == "Không được"
    assert_accessible(page)
    assert_fits(page)
    page.fill("#id", "theo-doi")
    page.select_option("#delivery", "queue")
    page.click("text=Xem trước")
    drafted = page.inner_text("main")
    assert "đăng ký nhận sự kiện" in drafted
    assert "bằng hàng đợi riêng" in drafted
    page.fill("#reason", "theo dõi hồ sơ liên thông")
    page.click("text=Áp dụng 1 thay đổi")
    assert page.url.endswith(f"{LIST}/theo-doi")
    held = house.world.bus.registry.load().subscriptions["theo-doi"]
    assert (held.system, held.types, held.units) == (UNGRANTED, (DOSSIER_CHANGED,), (OUTSIDER,))
    page.click("text=Sửa đăng ký này")
    page.check(f"input[value='{REGISTRY_CHANGED}']")
    page.click("text=Xem trước")
    page.fill("#reason", "cần cả danh mục")
    page.click("text=Áp dụng 1 thay đổi")
    assert house.world.bus.registry.load().subscriptions["theo-doi"].types == (DOSSIER_CHANGED, REGISTRY_CHANGED)
    page.click("text=Thôi báo sự kiện")
    page.fill("#reason", "không cần nữa")
    page.click("text=Áp dụng 1 thay đổi")
    assert "theo-doi" not in house.world.bus.registry.load().subscriptions
    assert len(house.people.events(action="registry.changed")) == 3


def test_an_agency_sees_its_own_and_only_the_province_decides(console_house: ConsoleHouse) -> None:
    house = console_house
    house.world.register(KEPT)
    own = Visitor.of(house, "own", *PersonRole, agency=RECEIVER)
    other = Visitor.of(house, "other", *PersonRole, agency=OUTSIDER)
    looker = Visitor.of(house, "looker", PersonRole.OBSERVER)
    assert [each.get(f"{LIST}/kho").status for each in (own, other, looker)] == [200, 404, 200]
    assert "kho" not in other.get(LIST).text.partition("<tbody>")[2]
    form = {"id": "lay-trom", "system": RECEIVING, "types": DOSSIER_CHANGED, "delivery": "message"}
    for each in (own, other, looker):
        assert each.post(LIST, **form).status == 403
        assert each.post(f"{LIST}/kho/remove").status == 403
        assert each.get(f"{LIST}/new").status == 403
        assert "Sửa đăng ký này" not in each.get(f"{LIST}/kho").text
    manifest = f"kind: Subscription\nid: lay-trom\nsystem: {RECEIVING}\ntypes: [{DOSSIER_CHANGED}]\n".encode()
    at = own.upload("/console/registry/upload/manifests", [("manifests", "a.yaml", manifest)]).to
    assert own.get(at).status == 400
    own.post(f"{at}/apply", reason="thử xem sao", revision="1")
    assert set(house.world.bus.registry.load().subscriptions) == {"kho"}
