"""A developer's morning, in a browser and with a real provider: a WSDL becomes a service that an agency asks for and
calls; the first call is seen everywhere. The same, shorter, with an OpenAPI whose provider wants a secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import urllib3
from playwright.sync_api import Browser, Page

from bus.people import PersonRole
from connectors.client import AgencyClient
from connectors.sandbox.app import Sandbox, SandboxConfig, create_sandbox
from registry.model import Agency, Stage
from schemas.identifiers import AgencyCode, ServiceCode
from schemas.moment import to_wire, utc_now
from tests.bus_world import LOOKUP, OUTSIDER, RECEIVER, SENDER, SENDING, TRANSFER, key_of, post
from tests.console_house import ConsoleHouse, assert_accessible, assert_fits, open_page
from tests.console_visitor import Visitor
from tests.loopback import Recorded, serving

OPENAPI = Path(__file__).resolve().parent.parent / "schemas" / "partners" / "business_registry" / "openapi.json"
SERVICE = ServiceCode("tiep-nhan.nhan-ho-so")


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Recorded, Sandbox]]:
    """The sandbox's twins, each a real server with its own description."""
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path_factory.mktemp("sandbox") / "credentials.json"))
    sandbox: Sandbox = app.extensions["sandbox"]
    with serving(app) as server:
        yield server, sandbox
    sandbox.close()


def look(page: Page, house: ConsoleHouse, name: str) -> None:
    """As people and as the rules see it."""
    assert page.locator("h1").count() == 1, page.url
    assert_accessible(page)
    assert_fits(page)
    house.picture(page, f"developer-{name}")


def apply(page: Page, reason: str) -> None:
    page.fill("#reason", reason)
    page.click("main form button:has-text('Áp dụng')")


def test_a_wsdl_becomes_a_service_that_an_agency_asks_for_and_calls(
    console_house: ConsoleHouse,
    page: Page,
    chromium: Browser,
    provider: tuple[Recorded, Sandbox],
    tmp_path: Path,
) -> None:
    house, url = console_house, console_house.url
    wsdl = tmp_path / "tiep-nhan.wsdl"
    wsdl.write_bytes(urllib3.request("GET", f"{provider[0].url}/generic/soap").data)
    house.sign_in(page, "lan")

    # The province's registrar uploads what the provider handed out.
    page.click("nav >> text=Danh mục")
    page.click("text=Tải lên WSDL")
    page.set_input_files("#description", str(wsdl))
    page.fill("#prefix", "tiep-nhan")
    page.select_option("#owner", RECEIVER)
    page.fill("#system", f"{RECEIVER}/tiep-nhan")
    page.click("text=Đọc tệp và xem trước >> nth=0")
    shown = page.inner_text("main")
    assert f"dịch vụ {SERVICE}/1" in shown
    assert "hỏi và trả lời ngay" in shown
    assert "bản nháp" in shown
    assert not [word for word in ("/provider", "sha256") if word in shown], "no programmer's words, no digests"
    page.click("summary:has-text('Dữ liệu gửi đi') >> nth=0")
    assert "/MaHoSo" in page.inner_text("main"), "the fields are seen before anything is written"
    look(page, house, "01-draft")
    assert (SERVICE, 1) not in house.world.bus.registry.load().services
    apply(page, "Sở đăng ký dịch vụ tiếp nhận hồ sơ")

    # Both drafts are in a list, and published together.
    assert page.locator("main .mark:has-text('bản nháp')").count() == 2
    look(page, house, "02-drafts")
    page.click("text=Công bố 2 bản nháp này")
    assert "đã công bố" in page.inner_text("main")
    apply(page, "Đã kiểm tra với đơn vị cung cấp")
    assert house.world.bus.registry.load().services[SERVICE, 1].stage is Stage.PUBLISHED

    # An agency's own administrator finds it and asks.
    house.person("hoa", PersonRole.REGISTRAR, agency=SENDER)
    with open_page(chromium) as hers:
        house.sign_in(hers, "hoa")
        hers.fill("#search", SERVICE)
        hers.press("#search", "Enter")
        hers.click("text=Xem dịch vụ trong danh mục")
        assert RECEIVER in hers.inner_text("dl.facts"), "whom to send to is known before one may"
        hers.click("text=Đề nghị được dùng dịch vụ này")
        hers.fill("#purposes", "giai-quyet-tthc")
        hers.fill("#legal_basis", "Điều 5 Nghị định 47/2024/NĐ-CP")
        hers.fill("#expires", to_wire(utc_now() + timedelta(days=200))[:10])
        hers.click("text=Gửi đề nghị")
        look(hers, house, "03-asked")

        # The registrar sees it on the first screen and says yes.
        page.click("a.navbar-brand")
        assert "1 đề nghị truy cập đang chờ bạn giải quyết" in page.inner_text("#overview")
        look(page, house, "04-first-screen")
        page.click("#overview >> text=Xem và giải quyết")
        page.click("main td >> text=Xem")
        page.fill("#approve-reason", "đủ căn cứ pháp lý")
        page.click("button:has-text('Cấp quyền')")
        house.picture(page, "developer-05-approved")

        # She reads how to call it, and waits for the first call with the page open.
        hers.reload()
        hers.click("text=Cách gọi dịch vụ")
        command = hers.input_value("#command")
        assert f"lgsp call --profile lgsp.toml --service {SERVICE} --to {RECEIVER} --purpose giai-quyet-tthc" in command
        assert hers.locator("text=Đề nghị được dùng dịch vụ này").count() == 0, "it is hers already"
        assert "cuộc gọi đầu tiên sẽ hiện ở đây" in hers.inner_text("#recent")
        look(hers, house, "06-how-to-call")
        with AgencyClient(url, key_of(SENDING), system=SENDING) as client:
            reply = client.call(
                SERVICE, RECEIVER, {"MaHoSo": "H99.15-1", "ChuHoSo": "Ai Đó"}, purpose="giai-quyet-tthc"
            )
        assert json.loads(reply.body) == {"DaNhan": True, "NhanLai": False}
        hers.click("h1")  # nothing of the part has the focus
        hers.wait_for_selector("#recent a.code", timeout=9_000)
        look(hers, house, "07-first-call")

        # It is in her list, on her first screen, on the map, and its proof holds.
        hers.click("#recent a.code")
        hers.click("text=Kiểm chứng ngay")
        assert "Chứng cứ đúng" in hers.inner_text("[role=status]")
        assert "Ai Đó" not in hers.inner_text("main")
        house.picture(hers, "developer-08-proof")
        message = hers.url.split("/messages/")[1].partition("/")[0]
        hers.goto(f"{url}/console/messages")
        assert hers.locator(f"a[href='/console/messages/{message}']").count() == 1
        hers.goto(f"{url}/console/")
        assert "NhanHoSo" in hers.inner_text("#flows ~ div")
        hers.goto(f"{url}/console/map")
        assert hers.locator("svg.drawn path").count() >= 1
        assert SERVICE in hers.content()
        house.picture(hers, "developer-09-map")


def test_an_openapi_with_a_secret_becomes_a_service_without_a_command_line(
    console_house: ConsoleHouse, page: Page, provider: tuple[Recorded, Sandbox]
) -> None:
    house = console_house
    server, sandbox = provider
    business, key = AgencyCode("G99.12"), sandbox.credentials["business_registry"]
    house.world.register(Agency(code=business, name="Cơ quan đăng ký kinh doanh"))
    house.sign_in(page, "lan")
    page.goto(f"{house.url}/console/registry/upload")
    page.set_input_files("#description", str(OPENAPI))
    page.fill("#prefix", "dkdn")
    page.select_option("#owner", business)
    page.select_option("#stage", "published")
    page.fill("#system", f"{business}/dkdn")
    page.fill("#endpoint_url", f"{server.url}/business_registry")
    page.click("text=Đọc tệp và xem trước >> nth=0")
    look(page, house, "10-openapi")
    drafted = page.inner_text("main")
    assert "đã công bố" in drafted, "that it may be called at once is said"
    assert "lưu bí mật g99.12.dkdn ở trang của hệ thống" in drafted
    assert "lgsp registry" not in drafted
    apply(page, "theo văn bản của cơ quan đăng ký kinh doanh")
    page.click("main td a.code >> nth=0")
    assert "Chưa gọi được" in page.inner_text("[role=alert]")
    page.goto(f"{house.url}/console/registry/systems/{business}/dkdn")
    assert "CHƯA LƯU" in page.inner_text("dl.facts")
    page.fill("#secret-value", key)
    page.fill("#keep-reason", "bí mật bàn giao ngày hôm nay")
    look(page, house, "11-secret")
    page.click("button:has-text('Lưu bí mật')")
    assert "CHƯA LƯU" not in page.inner_text("main")
    assert key not in page.content()
    (event,) = house.people.events(action="secret.kept")
    assert (event.person, event.facts) == ("lan", {"system": f"{business}/dkdn"})
    assert key not in repr(event)

    service = "dkdn.chi-tiet-doanh-nghiep"
    page.goto(f"{house.url}/console/registry/grants/new?service={service}&grantee={SENDER}")
    page.click("main form button")
    apply(page, "phục vụ giải quyết hồ sơ")
    found = post(house.url, house.world.signed({"msdn": "9900000016"}, service=service, receivers=(business,)))
    assert found.json["MainInformation"]["NAME"] == "CÔNG TY TNHH MẪU", found.body
    page.goto(f"{house.url}/console/registry/services/{service}/1")
    assert page.locator("#recent a.code").count() == 1
    with page.expect_download() as download:
        page.click("text=Tải OpenAPI")
    assert json.loads(download.value.path().read_bytes())["openapi"].startswith("3.1")


def test_only_those_who_may_use_a_service_get_its_description_and_only_the_province_keeps_secrets(
    console_house: ConsoleHouse,
) -> None:
    service = f"/console/registry/services/{TRANSFER}/1"
    holder = Visitor.of(console_house, "chi", PersonRole.REGISTRAR, agency=SENDER)
    other = Visitor.of(console_house, "ngoc", *PersonRole, agency=OUTSIDER)
    for name in ("openapi.json", "service.wsdl"):
        assert holder.get(f"{service}/{name}").status == 200
        assert other.get(f"{service}/{name}").status == 404
    assert "lgsp send" in holder.get(service).text
    assert "lgsp send" not in other.get(service).text
    bare = holder.get(f"/console/registry/services/{LOOKUP}/1").text
    assert "lgsp call" in bare
    assert "service.wsdl" not in bare, "what has no schema has no WSDL"
    message = console_house.world.signed()
    assert post(console_house.url, message).status == 202
    mine = "/console/registry/services/dossier.transfer/1/recent"
    assert message.manifest.message_id in holder.get(mine).text
    assert message.manifest.message_id not in other.get(mine).text
    own = f"/console/registry/systems/{OUTSIDER}/tiep-nhan/endpoint-secret"
    assert other.post(own, value="x", reason="vì cần thiết").status == 403
    assert holder.post(own, value="x", reason="vì cần thiết").status == 403
