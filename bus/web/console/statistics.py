"""Statistics of a month: dossiers, messages, payments, post; as charts, as CSV and XLSX, as the printed report."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from bus.dossiers import UnitFigures
from bus.figures import Counts, Figures, MonthFigures, MonthMade
from bus.monthly import GOT, PARCEL, PAYMENT_STATES, SENT, added, bounds_of, counts_of, month_of, unit_figures
from bus.web.console.desk import Console, Desk, Right, attachment
from bus.web.console.spreadsheets import CSV, XLSX, Sheet, csv_of, xlsx_of
from bus.web.console.words import Words
from schemas.moment import VIETNAM, utc_now
from schemas.problem import NotFound

_MONTH: Final = re.compile(r"20[0-9]{2}-(?:0[1-9]|1[0-2])")
#: Months and units that a process keeps ready.
_VIEWS_KEPT: Final = 64
#: Bars of the chart of units; the table has all.
_MOST_BARS: Final = 15
_PAYMENT_WORDS: Final = {
    "requested": ("chờ thanh toán", "waiting"),
    "paid": ("đã thanh toán", "paid"),
    "failed": ("không thành công", "failed"),
    "refunded": ("đã hoàn trả", "refunded"),
}
#: Headings of dossiers' figures, in the order of the tables.
DOSSIER_COLUMNS: Final = (
    ("received", "Tiếp nhận", "Received"),
    ("online", "Trực tuyến", "Online"),
    ("returned", "Đã giải quyết", "Returned"),
    ("early", "Trước hạn", "Early"),
    ("on_time", "Đúng hạn", "On time"),
    ("late", "Quá hạn", "Late"),
    ("without_due_date", "Không ghi hạn", "No due date"),
    ("in_progress", "Đang giải quyết", "Open"),
    ("overdue", "Đang quá hạn", "Overdue"),
    ("withdrawn", "Công dân rút", "Withdrawn"),
    ("synchronised", "Đã đồng bộ", "At the portal"),
)


def install(console: Console) -> None:
    views = _Views(Figures(console.bus.store))

    @console.page("/statistics", Right.SEE, menu=("Thống kê", "Statistics"))
    def statistics(desk: Desk) -> AnyResponse:
        view = views.view(desk, request.args.get("month") or month_of(utc_now()))
        return desk.show(
            "statistics.html", view=view, **_words(desk), day_chart=day_chart(view.days), unit_bars=unit_bars(view)
        )

    @console.page("/statistics/report/<month>", Right.SEE)
    def monthly_report(desk: Desk, month: str) -> AnyResponse:
        view = views.view(desk, month)
        return desk.show(
            "statistics-report.html", view=view, today=utc_now().astimezone(VIETNAM), vi=Words("vi"), **_words(desk)
        )

    @console.page("/statistics/<month>.csv", Right.SEE)
    def statistics_csv(desk: Desk, month: str) -> AnyResponse:
        view = views.view(desk, month)
        table = request.args.get("table", "")
        sheet = next((sheet for sheet in sheets(desk, view) if sheet.name == table), None)
        if sheet is None:
            raise NotFound("page-unknown")
        return attachment(csv_of(sheet), CSV, f"{sheet.name}-{month}.csv")

    @console.page("/statistics/<month>.xlsx", Right.SEE)
    def statistics_xlsx(desk: Desk, month: str) -> AnyResponse:
        return attachment(xlsx_of(sheets(desk, views.view(desk, month))), XLSX, f"thong-ke-{month}.xlsx")


# ── what is shown ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Messages of one agency or of one service."""

    code: str
    sent: Counts
    got: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    day: date
    accepted: int = 0
    delivered: int = 0
    #: Given up or refused.
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Dossiers of one unit, or of one procedure."""

    code: str
    dossiers: UnitFigures
    numbers: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthView:
    """A month of one unit, or of all."""

    month: str
    unit: str
    #: None: it was not added up yet.
    made: MonthMade | None
    months: Sequence[str]
    units: Sequence[Group]
    procedures: Sequence[Group]
    total: Group
    agencies: Sequence[Traffic]
    services: Sequence[Traffic]
    traffic: Traffic
    days: Sequence[Day]

    @property
    def first(self) -> datetime:
        return bounds_of(self.month)[0]

    @property
    def last(self) -> datetime:
        return bounds_of(self.month)[1] - timedelta(days=1)

    @property
    def parcels(self) -> dict[str, int]:
        """State in words → how many."""
        return {name[len(PARCEL) :]: value for name, value in self.total.numbers.items() if name.startswith(PARCEL)}


class _Views:
    """The views that were shown last: they change only when their month is made again. Thread-safe."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._made = lru_cache(maxsize=_VIEWS_KEPT)(self._make)

    def view(self, desk: Desk, month: str) -> MonthView:
        """Raises NotFound, NotPermitted(other-agency)."""
        if not _MONTH.fullmatch(month):
            raise NotFound("page-unknown")
        asked = request.args.get("unit", "")
        if asked:
            desk.must_see(asked)
        today = utc_now().astimezone(VIETNAM).date()
        months = self._figures.months()
        names = tuple(sorted({*months, f"{today:%Y-%m}", month}, reverse=True))
        unit = str(desk.scope) if desk.scope is not None else asked
        return self._made(month, unit, months.get(month), names, today)

    def _make(self, month: str, unit: str, made: MonthMade | None, months: tuple[str, ...], today: date) -> MonthView:
        dossiers = self._figures.month(month, "dossiers", unit or None)
        flows = self._figures.month(month, "flows", unit or None)
        return MonthView(
            month=month,
            unit=unit,
            made=made,
            months=months,
            units=_grouped(dossiers, lambda row: row.unit),
            procedures=_grouped(dossiers, lambda row: row.name),
            total=_group("", dossiers),
            agencies=_traffic(flows, lambda row: row.unit),
            services=_traffic(flows, lambda row: row.name),
            traffic=_sum("", flows),
            days=_days(month, self._figures.month(month, "days", unit), today),
        )


def _group(code: str, rows: Sequence[MonthFigures]) -> Group:
    numbers = added(rows)
    return Group(code=code, dossiers=unit_figures(numbers, code), numbers=numbers)


def _by(rows: Iterable[MonthFigures], key: Any) -> dict[str, list[MonthFigures]]:
    found: defaultdict[str, list[MonthFigures]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def _grouped(rows: Sequence[MonthFigures], key: Any) -> list[Group]:
    return [_group(code, of) for code, of in sorted(_by(rows, key).items())]


def _sum(code: str, rows: Sequence[MonthFigures]) -> Traffic:
    numbers = added(rows)
    return Traffic(code=code, sent=counts_of(numbers, SENT), got=counts_of(numbers, GOT))


def _traffic(rows: Sequence[MonthFigures], key: Any) -> list[Traffic]:
    found = [_sum(code, of) for code, of in _by(rows, key).items()]
    return sorted(found, key=lambda one: (-one.sent.accepted - one.got.accepted, one.code))


def _days(month: str, rows: Iterable[MonthFigures], today: date) -> list[Day]:
    """Every day of the month up to today."""
    numbers = {row.name: row.numbers for row in rows}
    first, end = (moment.date() for moment in bounds_of(month))
    end = min(end, today + timedelta(days=1))
    days = (first + timedelta(days=number) for number in range((end - first).days))
    return [
        Day(
            day=day,
            accepted=said.get("accepted", 0),
            delivered=said.get("delivered", 0),
            failed=said.get("died", 0) + said.get("refused", 0),
        )
        for day in days
        for said in (numbers.get(f"{day:%Y-%m-%d}", {}),)
    ]


def _words(desk: Desk) -> dict[str, Any]:
    def units() -> list[str]:
        return [] if desk.scope is not None else sorted(desk.directory.agencies)

    return {
        "columns": [(name, desk.t(vi, en)) for name, vi, en in DOSSIER_COLUMNS],
        "payment_states": [(state, desk.t(*_PAYMENT_WORDS[state])) for state in PAYMENT_STATES],
        "payment_words": _PAYMENT_WORDS,
        "unit_choice": units(),
        "agency_name": desk.names.agency,
        "service_name": desk.names.service,
    }


# ── charts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar of a chart, in its picture's own units."""

    day: Day
    x: float
    #: Height of what went well, and on top of it of what failed.
    well: float
    failed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DayChart:
    bars: Sequence[Bar]
    most: int
    step: float


def day_chart(days: Sequence[Day], width: int = 900, height: int = 160) -> DayChart:
    """Messages by day: accepted, with what failed on top."""
    most = max((day.accepted + day.failed for day in days), default=0)
    step = width / max(len(days), 28)
    scale = height / most if most else 0
    return DayChart(
        bars=[
            Bar(
                day=day,
                x=round(40 + number * step, 1),
                well=round(day.accepted * scale, 1),
                # Never so little that it cannot be seen.
                failed=round(max(2.0, day.failed * scale), 1) if day.failed else 0,
            )
            for number, day in enumerate(days)
        ],
        most=most,
        step=round(step, 1),
    )


def unit_bars(view: MonthView) -> list[tuple[Group, float]]:
    """Units (of one unit: procedures) with the lowest share of dossiers in time, lowest first."""
    groups = view.procedures if view.unit else view.units
    rated = [(group, float(share)) for group in groups if (share := group.dossiers.on_time_percent) is not None]
    return sorted(rated, key=lambda pair: (pair[1], pair[0].code))[:_MOST_BARS]


# ── tables to take away ───────────────────────────────────────────────────────────────────────────────────────────────


def sheets(desk: Desk, view: MonthView) -> list[Sheet]:
    t = desk.t
    heads = [t(vi, en) for _, vi, en in DOSSIER_COLUMNS]
    rates = [t("Tỷ lệ đúng hạn (%)", "On time (%)"), t("Tỷ lệ đồng bộ (%)", "At the portal (%)")]
    traffic = [
        t("Mã", "Code"), t("Tên", "Name"), t("Gửi", "Sent"), t("Gửi: đã giao", "Sent: delivered"),
        t("Gửi: không giao được", "Sent: given up"), t("Gửi: bị từ chối", "Sent: refused"), t("Nhận", "Received"),
        t("Nhận: đã giao", "Received: delivered"), t("Nhận: không giao được", "Received: given up"),
        t("95 % giao trong (ms)", "95 % within (ms)"),
    ]  # fmt: skip

    def dossier_rows(groups: Sequence[Group], name: Any) -> list[list[Any]]:
        head = [t("Mã", "Code"), t("Tên", "Name"), *heads, *rates]
        return [head, *([group.code, name(group.code), *_dossier_cells(group.dossiers)] for group in groups)]

    def traffic_rows(rows: Sequence[Traffic], name: Any) -> list[list[Any]]:
        return [traffic, *([one.code, name(one.code), *_traffic_cells(one)] for one in rows)]

    return [
        Sheet(name="don-vi", title=t("Đơn vị", "Units"), rows=dossier_rows(view.units, desk.names.agency)),
        Sheet(name="thu-tuc", title=t("Thủ tục", "Procedures"), rows=dossier_rows(view.procedures, lambda code: "")),
        Sheet(name="co-quan", title=t("Cơ quan", "Agencies"), rows=traffic_rows(view.agencies, desk.names.agency)),
        Sheet(
            name="dich-vu",
            title=t("Dịch vụ", "Services"),
            rows=traffic_rows(view.services, desk.names.service),
        ),
        Sheet(name="thanh-toan", title=t("Thanh toán, bưu chính", "Payments, post"), rows=_money_rows(desk, view)),
    ]


def _dossier_cells(figures: UnitFigures) -> list[Any]:
    rates = (figures.on_time_percent, figures.sync_percent)
    return [
        *(getattr(figures, name) for name, _, _ in DOSSIER_COLUMNS),
        *("" if rate is None else float(rate) for rate in rates),
    ]


def _traffic_cells(one: Traffic) -> list[Any]:
    p95 = one.got.percentile_ms() or one.sent.percentile_ms()
    return [
        one.sent.accepted, one.sent.delivered, one.sent.died, one.sent.refused, one.got.accepted, one.got.delivered,
        one.got.died, "" if p95 is None else "> 30000" if p95 == float("inf") else round(p95),
    ]  # fmt: skip


def _money_rows(desk: Desk, view: MonthView) -> list[list[Any]]:
    rows: list[list[Any]] = [
        [desk.t("Nội dung", "What"), desk.t("Số lượng", "Number"), desk.t("Số tiền (đồng)", "VND")]
    ]
    for state in PAYMENT_STATES:
        words = f"{desk.t('Thanh toán', 'Payments')}: {desk.t(*_PAYMENT_WORDS[state])}"
        rows.append([words, view.total.numbers.get(f"payments_{state}", 0), view.total.numbers.get(f"dong_{state}", 0)])
    for state, number in sorted(view.parcels.items()):
        rows.append([f"{desk.t('Bưu gửi', 'Parcels')}: {state or desk.t('chưa rõ', 'unknown')}", number, ""])
    return rows
