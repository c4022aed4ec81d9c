"""The half-year of Hải Phòng (vietnam.md 1.1 and 6.3, SC-1) as plain values: who, which dossiers, what happens when,
and the figures that the statistics must give.

From the document: 212 communes and 19 departments, departments that published their procedure lists anew, 26,690
dossiers of which 21,594 were returned, four districts as the most active. Invented, because the document is silent or
names would be somebody's: every code (H99), name, procedure, day, channel and due date, and that the four districts are
twice as busy.

A dossier comes in at a commune, or for a department at the province's centre. It goes to the department that its
procedure belongs to, which tells where it stands, and for most of them returns the result to where it came in. The same
numbers make the same half-year, to the byte. All functions are pure.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from schemas.identifiers import AgencyCode, DossierCode
from schemas.moment import VIETNAM

DOSSIERS: Final = 26_690
RETURNED: Final = 21_594
COMMUNES: Final = 212
DEPARTMENTS: Final = 19
PROVINCE: Final = AgencyCode("H99")
CENTRE: Final = AgencyCode("H99.50")
_DISTRICTS: Final = 15
#: As many dossiers as this many quiet communes have.
_WEIGHT_OF_DEPARTMENT, _WEIGHT_OF_BUSY, _BUSY_DISTRICTS = 4, 2, 4
FIRST_DAY, LAST_DAY = date(2018, 7, 1), date(2018, 12, 31)
#: Of the half-year: National Day fell on a Sunday, and the 31st of December was exchanged for a Saturday.
_DAYS_OFF: Final = frozenset({date(2018, 9, 3), date(2018, 12, 31)})
#: Working days until a result is due, by procedure of a department.
_WORKING_DAYS: Final = (1, 3, 5, 10, 15)
#: Of every so many returned dossiers one is late; real offices report 99.7 to 99.95 % on time (vietnam.md 7.4).
_ONE_LATE_OF: Final = 1000
#: Channels (vietnam.md 3.5) in their turns: at the counter, online, by post.
_CHANNELS: Final = ("1", "2", "1", "1", "2", "1", "1", "1", "2", "3")
_EXAMPLE: Final = Path(__file__).resolve().parent.parent / "schemas" / "examples" / "dossier.json"

Payload = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    """One dossier and its whole way."""

    code: DossierCode
    #: Whose dossier it is, where it came in, and who works on it.
    unit: AgencyCode
    desk: AgencyCode
    handler: AgencyCode
    procedure: str
    channel: str
    received: datetime
    due: datetime
    #: None: still open when the half-year ends.
    finished: datetime | None

    def payload(self, example: Payload) -> Payload:
        said = {
            "NgayNopHoSo": _text(self.received),
            "NgayTiepNhan": _text(self.received),
            "NgayHenTra": _text(self.due),
        }
        about = {"MaHoSo": self.code, "MaTTHC": self.procedure, "TenTTHC": f"Thủ tục mẫu {self.procedure}"}
        return {**example, **about, **said, "KenhThucHien": self.channel, "DonViXuLy": str(self.handler)}

    def progress(self) -> Payload:
        """It is being worked on since the morning after it came in; what stays open may wait for a paper."""
        waits = self.finished is None and self.due.day % 4 == 0
        row = {
            "MaHoSo": self.code,
            "NguoiXuLy": "Lê Thị Thử",
            "ThoiDiemXuLy": _text(self.received + timedelta(hours=1)),
            "PhongBanXuLy": str(self.handler),
            "NoiDungXuLy": "Yêu cầu bổ sung giấy tờ" if waits else "Thẩm định hồ sơ",
            "TrangThai": "5" if waits else "4",
        }
        return {"data": [row]}

    def result(self) -> Payload:
        if self.finished is None:
            raise ValueError("an open dossier has no result")
        moment = _text(self.finished)
        return {"MaHoSo": self.code, "TrangThai": "10", "NgayKetThucXuLy": moment, "NgayTra": moment}


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One message of the half-year."""

    day: date
    service: str
    sender: AgencyCode
    receiver: AgencyCode
    dossier: Dossier


@dataclass(slots=True)
class Figures:
    """What one unit's line of the statistics must say."""

    received: int = 0
    online: int = 0
    returned: int = 0
    early: int = 0
    on_time: int = 0
    late: int = 0
    in_progress: int = 0

    def count(self, dossier: Dossier) -> None:
        self.received += 1
        self.online += dossier.channel == "2"
        if dossier.finished is None:
            self.in_progress += 1
            return
        self.returned += 1
        days = (dossier.finished.date() - dossier.due.date()).days
        self.early += days < 0
        self.on_time += days == 0
        self.late += days > 0


@dataclass(frozen=True, kw_only=True)
class HalfYear:
    """The scenario with so many dossiers, and as many of the units as asked for."""

    dossiers_wanted: int = DOSSIERS
    communes_wanted: int = COMMUNES
    departments_wanted: int = DEPARTMENTS
    _example: Payload = field(default_factory=lambda: json.loads(_EXAMPLE.read_text(encoding="utf-8")), repr=False)

    @cached_property
    def districts(self) -> list[AgencyCode]:
        return [AgencyCode(f"H99.{31 + number}") for number in range(_DISTRICTS)]

    @cached_property
    def departments(self) -> list[AgencyCode]:
        return [AgencyCode(f"H99.{number:02}") for number in range(1, self.departments_wanted + 1)]

    @cached_property
    def communes(self) -> list[AgencyCode]:
        """Spread evenly over the districts, and numbered in each."""
        numbers = Counter[AgencyCode]()
        found = []
        for _, district in zip(range(self.communes_wanted), cycle(self.districts), strict=False):
            numbers[district] += 1
            found.append(AgencyCode(f"{district}.{numbers[district]:02}"))
        return found

    @cached_property
    def dossiers(self) -> list[Dossier]:
        """In the order in which they came in."""
        units = self._units()
        returned = round(self.dossiers_wanted * RETURNED / DOSSIERS)
        days = _working_days()
        sequences = Counter[tuple[str, date]]()
        made = []
        done = 0
        for number in range(self.dossiers_wanted):
            day = number * len(days) // self.dossiers_wanted
            # Returned ones are spread evenly: the share of any beginning is that of the whole.
            is_done = (number + 1) * returned // self.dossiers_wanted > number * returned // self.dossiers_wanted
            done += is_done
            unit = units[number]
            sequences[unit, days[day]] += 1
            code = DossierCode(f"{unit}-{days[day]:%y%m%d}-{sequences[unit, days[day]]:04}")
            made.append(self._dossier(number, code, unit, days, day, done if is_done else 0))
        return made

    def _units(self) -> list[AgencyCode]:
        """Whose each dossier is: every unit as often as its weight, each in turn (Bresenham's way)."""
        busy = tuple(f"{district}." for district in self.districts[:_BUSY_DISTRICTS])
        weights = dict.fromkeys(self.departments, _WEIGHT_OF_DEPARTMENT)
        weights |= {unit: _WEIGHT_OF_BUSY if unit.startswith(busy) else 1 for unit in self.communes}
        turns = sorted(((turn + 0.5) / weight, unit) for unit, weight in weights.items() for turn in range(weight))
        return [unit for _, (_, unit) in zip(range(self.dossiers_wanted), cycle(turns), strict=False)]

    def _dossier(
        self, number: int, code: DossierCode, unit: AgencyCode, days: Sequence[date], day: int, done: int
    ) -> Dossier:
        """``done``: the how-manieth returned one it is; 0: it stays open."""
        is_departments = unit in self._department_numbers
        handler = unit if is_departments else self.departments[number % len(self.departments)]
        kind = number // 7 % len(_WORKING_DAYS)
        due = _plus_working_days(days[day], _WORKING_DAYS[kind])
        worked = _WORKING_DAYS[kind] - number % 3 // 2 + (2 if done and done % _ONE_LATE_OF == 0 else 0)
        finished = min(_plus_working_days(days[day], max(worked, 0)), days[-1])
        return Dossier(
            code=code,
            unit=unit,
            desk=CENTRE if is_departments else unit,
            handler=handler,
            procedure=procedure_code(self._department_numbers[handler], kind),
            channel=_CHANNELS[number % len(_CHANNELS)],
            received=_at(days[day], 8, number % 60),
            due=_at(due, 17, 0),
            finished=_at(finished, 16, number % 60) if done else None,
        )

    @cached_property
    def _department_numbers(self) -> dict[AgencyCode, int]:
        return {unit: number for number, unit in enumerate(self.departments, 1)}

    def errands(self, dossier: Dossier) -> list[Errand]:
        """The messages of one dossier, in their order."""
        facts: list[tuple[date, str, AgencyCode, AgencyCode]] = [
            (dossier.received.date(), "dossier.transfer", dossier.desk, dossier.handler),
            (dossier.received.date() + timedelta(days=1), "dossier.progress", dossier.handler, dossier.desk),
        ]
        if dossier.finished is not None:
            day = max(dossier.finished.date(), facts[-1][0])
            facts.append((day, "result.return", dossier.handler, dossier.desk))
        return [
            Errand(day=day, service=service, sender=sender, receiver=receiver, dossier=dossier)
            for day, service, sender, receiver in facts
        ]

    def payload(self, errand: Errand) -> Payload:
        match errand.service:
            case "dossier.transfer":
                return errand.dossier.payload(self._example)
            case "dossier.progress":
                return errand.dossier.progress()
            case _:
                return errand.dossier.result()

    def expected(self) -> dict[str, Figures]:
        """By unit; those with no dossier are left out."""
        figures: dict[str, Figures] = defaultdict(Figures)
        for dossier in self.dossiers:
            figures[dossier.unit].count(dossier)
        return dict(figures)

    def catalogue(self, department: AgencyCode, *, anew: bool) -> list[Payload]:
        """A department's procedures as it publishes them (vietnam.md 4.2): before, and anew, with one added, one with
        another time limit and one withdrawn."""
        number = self._department_numbers[department]
        kinds = range(len(_WORKING_DAYS))
        if not anew:
            return [_procedure(number, kind, _WORKING_DAYS[kind]) for kind in kinds]
        kept = [_procedure(number, kind, _WORKING_DAYS[kind] - (kind == 1)) for kind in kinds[:-1]]
        return [*kept, _procedure(number, len(_WORKING_DAYS), 2)]


def procedure_code(department: int, kind: int) -> str:
    """No national procedure begins with a 9."""
    return f"9.{department:03}{kind:03}"


def _procedure(department: int, kind: int, days: int) -> Payload:
    code = procedure_code(department, kind)
    limit = {"THOIGIANGIAIQUYET": days, "DONVITINH": "Ngày làm việc", "PHILEPHI": []}
    channel = {"KENH": 1, "THOIGIAN": [limit]}
    return {"MATTHC": code, "TENTTHC": f"Thủ tục mẫu {code}", "CACHTHUCTHUCHIEN": [channel], "TRANGTHAI": 1}


def _working_days() -> list[date]:
    days = (FIRST_DAY + timedelta(days=number) for number in range((LAST_DAY - FIRST_DAY).days + 1))
    return [day for day in days if _is_working(day)]


def _is_working(day: date) -> bool:
    return day.weekday() < 5 and day not in _DAYS_OFF


def _plus_working_days(day: date, count: int) -> date:
    while count:
        day += timedelta(days=1)
        count -= _is_working(day)
    return day


def _at(day: date, hour: int, minute: int) -> datetime:
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=VIETNAM)


def _text(moment: datetime) -> str:
    return f"{moment:%Y%m%d%H%M%S}"
