"""Monday, 8:05, in one browser and without a command line: a citizen's number leads to the refused message; why; the
grant is given; the message is taken on and really delivered; its proof holds."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

from bus.records import State
from connectors.sandbox.app import SandboxConfig, create_sandbox
from tests.bus_world import MINISTRY, OUTSIDER, TRANSFER, UNGRANTED, bus_world, delivering, key_of, post
from tests.console_house import ConsoleHouse, assert_accessible, assert_fits, open_console, picture_folder
from tests.loopback import serving

CITIZEN, DOSSIER = "099199000001", "H99.15-260423-0001"


def look(page: Page, house: ConsoleHouse, name: str) -> None:
    assert_accessible(page)
    assert_fits(page)
    house.picture(page, f"administrator-{name}")
    assert CITIZEN not in page.url + page.title(), "a citizen's number stands in no address"


def test_a_refused_message_is_found_understood_mended_delivered_and_proven(tmp_path: Path, page: Page) -> None:
    sandbox = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json"))
    with (
        serving(sandbox) as partner,
        bus_world(tmp_path, partner_url=f"{partner.url}/generic", refused_kept_hours=24) as world,
        delivering(world.bus),
        open_console(world, picture_folder(tmp_path)) as house,
    ):
        message = world.signed(
            {"title": f"Khai sinh, mẹ {CITIZEN}"},
            service=TRANSFER,
            sender=OUTSIDER,
            key=key_of(UNGRANTED),
            receivers=(MINISTRY,),
            dossier=DOSSIER,
        )
        assert post(house.url, message).json["reason"] == "no-grant"
        house.sign_in(page, "lan")
        assert "Bên gửi chưa được cấp quyền" in page.inner_text("#needs-you ~ div"), "the first screen says it"
        look(page, house, "1-first-screen")
        page.fill("#search", CITIZEN)
        page.press("#search", "Enter")
        page.wait_for_url("**/console/refusals/*")
        refusal = page.url
        look(page, house, "2-why")
        assert "Nhận lại và giao" not in page.inner_text("main"), "not before the right is there"

        page.click("text=Cấp quyền…")
        assert page.input_value("#purposes") == "giai-quyet-tthc", "what it stated is filled in"
        page.click("main form button")
        look(page, house, "3-preview")
        page.fill("#reason", "Bộ phận một cửa cần chuyển hồ sơ khai sinh")
        page.click("main form button:has-text('Áp dụng')")
        assert page.url == refusal, "back to where it was begun"
        page.fill("main #reason", "đã cấp quyền cho bộ phận một cửa")
        look(page, house, "4-mended")
        page.click("text=Nhận lại và giao")
        page.wait_for_url("**/console/messages/*")
        for _ in range(50):
            if "đã giao" in page.inner_text("h1"):
                break
            page.wait_for_timeout(100)
            page.reload()
        page.click("text=Kiểm chứng ngay")
        assert "Chứng cứ đúng" in page.inner_text("[role=status]")
        look(page, house, "5-proof")

        record = world.bus.ledger.find(message.manifest.message_id)
        assert record is not None
        assert [each.state for each in record.deliveries] == [State.DELIVERED]
        assert sandbox.extensions["sandbox"].twins["generic"].state()["received"] == 1
        done = {event.action: event for event in house.people.events()}
        assert {"search.number", "registry.changed", "refusal.taken"} <= set(done)
        assert CITIZEN not in repr(done)
