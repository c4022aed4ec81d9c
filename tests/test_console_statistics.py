"""Statistics in the console: the page, what can be taken away, the printed report."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from openpyxl import load_workbook
from playwright.sync_api import Page

from bus.figures import Figures, MonthFigures, MonthMade
from bus.monthly import due_month, month_of
from bus.people import PersonRole
from bus.web.console.spreadsheets import Sheet, csv_of, xlsx_of
from registry.model import Agency
from schemas.identifiers import AgencyCode
from schemas.moment import utc_now
from tests.console_house import ConsoleHouse, assert_accessible, assert_fits

HOSTILE = '=HYPERLINK("https://evil.example") <img src=x onerror=alert(1)>'
MONTH = month_of(utc_now())


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", HOSTILE])
def test_no_cell_is_a_formula(text: str) -> None:
    sheet = Sheet(name="x", title="X", rows=[["Tên"], [text, -5]])
    written = csv_of(sheet).decode("utf-8-sig").splitlines()[1:]
    assert written[0].lstrip('"').startswith("'")
    assert "".join(written).endswith(",-5")
    cell = load_workbook(io.BytesIO(xlsx_of([sheet]))).worksheets[0]["A2"]
    assert cell.data_type != "f"


def test_months_are_due_by_their_age_and_by_what_they_cost() -> None:
    now = utc_now()
    first = now - timedelta(days=62)
    names = sorted({month_of(now - timedelta(days=days)) for days in range(63)}, reverse=True)
    fresh = {name: MonthMade(made_at=now, took=timedelta()) for name in names}
    assert due_month({}, None, now) is None
    assert due_month({}, first, now) == names[0]
    assert due_month(fresh, first, now) is None
    assert due_month({name: fresh[name] for name in names[:1]}, first, now) == names[1]
    old = MonthMade(made_at=now - timedelta(minutes=11), took=timedelta(seconds=1))
    assert due_month({**fresh, names[0]: old}, first, now) == names[0]
    slow = MonthMade(made_at=now - timedelta(minutes=11), took=timedelta(seconds=10))
    assert due_month({**fresh, names[0]: slow}, first, now) is None
    assert due_month({**fresh, names[1]: old}, first, now) is None


def fill(house: ConsoleHouse) -> None:
    """A month of two units, one of which has a name that wants to be a formula and a tag."""
    house.world.register(Agency(code=AgencyCode("H99.17"), name=HOSTILE, parent=AgencyCode("H99")))
    numbers = {"received": 20, "returned": 10, "early": 4, "on_time": 5, "late": 1, "synchronised": 19, "overdue": 2}
    money = {"payments_paid": 3, "dong_paid": 24_000, "parcel đã phát": 2}
    today = f"{MONTH}-01"
    rows = [
        MonthFigures(kind="dossiers", unit="H99.15", name="1.004000", numbers={**numbers, **money}),
        MonthFigures(kind="dossiers", unit="H99.17", name="1.004001", numbers={"received": 7, "in_progress": 7}),
        MonthFigures(
            kind="flows", unit="H99.15", name="dossier.note",
            numbers={"sent accepted": 1234, "sent delivered": 1200, "sent refused": 12, "sent ms <= 100": 1200},
        ),
        MonthFigures(
            kind="flows", unit="H99.17", name="dossier.note",
            numbers={"got accepted": 1234, "got delivered": 1200, "got died": 22, "got ms <= 100": 1200},
        ),
        MonthFigures(kind="days", unit="", name=today, numbers={"accepted": 1234, "delivered": 1200, "died": 22}),
        MonthFigures(kind="days", unit="H99.17", name=today, numbers={"accepted": 1234, "delivered": 1200}),
    ]  # fmt: skip
    made = MonthMade(made_at=utc_now(), took=timedelta(seconds=1))
    Figures(house.world.bus.store).keep_month(MONTH, rows, made)


def test_a_month_is_shown_taken_away_and_printed(console_house: ConsoleHouse, page: Page) -> None:
    console_house.sign_in(page)
    page.goto(f"{console_house.url}/console/statistics")
    assert "chưa được tổng hợp" in page.inner_text("main")
    assert_accessible(page)
    fill(console_house)
    page.reload()
    text = page.inner_text("main")
    assert "90,00 %" in text  # four early and five on time of ten
    assert HOSTILE in text
    assert "24.000 đồng" in text
    assert "đã phát" in text
    assert_accessible(page)
    assert_fits(page)
    console_house.picture(page, "statistics")
    answer = page.request.get(f"{console_house.url}/console/statistics/{MONTH}.csv?table=don-vi")
    assert answer.headers["content-disposition"] == f'attachment; filename="don-vi-{MONTH}.csv"'
    lines = answer.body().decode("utf-8-sig").splitlines()
    assert lines[1].startswith("H99.15,Sở Mẫu,20,")
    assert lines[2].startswith("H99.17,\"'=HYPERLINK")
    book = load_workbook(io.BytesIO(page.request.get(f"{console_house.url}/console/statistics/{MONTH}.xlsx").body()))
    assert book.sheetnames == ["Đơn vị", "Thủ tục", "Cơ quan", "Dịch vụ", "Thanh toán, bưu chính"]
    assert (book["Đơn vị"]["B3"].value, book["Đơn vị"]["B3"].data_type) == (HOSTILE, "s")
    for path in (f"{MONTH}.csv?table=x", "2026-13.xlsx", "report/2026-1", f"report/{MONTH}%27"):
        assert page.request.get(f"{console_house.url}/console/statistics/{path}").status == 404
    page.goto(f"{console_house.url}/console/statistics/report/{MONTH}")
    report = page.inner_text("article")
    for words in ("CỘNG HÒA XÃ HỘI CHỦ NGHĨA VIỆT NAM", "NGƯỜI LẬP BIỂU", "90,00 %", "Lan"):
        assert words in report
    assert_accessible(page)
    assert_fits(page)
    page.emulate_media(media="print")
    assert not page.is_visible("nav")
    console_house.picture(page, "report")


def test_an_agency_sees_its_own_figures_only(console_house: ConsoleHouse, page: Page) -> None:
    console_house.person("mai", PersonRole.OBSERVER, agency="H99.17")
    console_house.sign_in(page, "mai")
    fill(console_house)
    for path in ("statistics", f"statistics/report/{MONTH}"):
        page.goto(f"{console_house.url}/console/{path}")
        text = page.inner_text("main")
        assert "1.004001" in text
        assert "1.004000" not in text
        assert "24.000" not in text
    for path in (f"?month={MONTH}&unit=H99.15", f"/report/{MONTH}?unit=H99.15", f"/{MONTH}.xlsx?unit=H99.15"):
        assert page.request.get(f"{console_house.url}/console/statistics{path}").status == 403
    rows = page.request.get(f"{console_house.url}/console/statistics/{MONTH}.csv?table=don-vi").text().splitlines()
    assert [row[:6] for row in rows[1:]] == ["H99.17"]
