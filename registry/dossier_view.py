"""What a payload says about dossiers, by the view of its service; compiled once, safe under threads.

::

    {"MaHoSo": "H99.15-260423-0001",        code: /MaHoSo           →  H99.15-260423-0001
     "TrangThaiHoSo": "2",                  status: /TrangThaiHoSo  →  2
     "NgayHenTra": "20260424170000", …}     due: /NgayHenTra        →  2026-04-24 17:00 in Asia/Ho_Chi_Minh

A place may lead on into JSON that stands there as text, as the payment platform answers (P5)::

    {"error_code": "0", "message": "{\\"TrangThaiGD\\":\\"1\\"}"}     state: /message/TrangThaiGD  →  1

A view looks on and never objects: what is missing, written otherwise or out of bounds was not said. A status that its
table lacks is kept as it was written, so that somebody sees it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from registry.model import DossierView, ParcelView, PaymentView
from schemas.codes import DOSSIER_STATUSES, LOCAL_STATUSES
from schemas.date_format import DatePattern, read_date_pattern
from schemas.identifiers import AgencyCode
from schemas.moment import VIETNAM
from schemas.places import EARLIEST_YEAR, find, items_of, plain_text, pointer_of
from schemas.problem import FieldError, Malformed
from schemas.reasons import Wording

#: Longest dossier code, status, reference or postal code that is kept.
_CODE: Final = 50
#: Longest name of a unit that is kept.
_NAME: Final = 200
#: Most đồng that a payment may have: what a 64-bit column holds, a thousand times the country's budget.
_MOST_DONG: Final = 2**63 - 1
_DIGITS: Final = re.compile(r"[0-9]{1,19}")
#: The portal's and the payment platform's form, of which a dossier's message has three: read by hand, it costs a
#: quarter of the general way (1 instead of 4 microseconds), which every message would pay for.
_COMMONEST: Final = "yyyyMMddHHmmss"


@dataclass(frozen=True, slots=True, kw_only=True)
class DossierFact:
    """What one message (or one item of it) says of one dossier. Moments are aware; what was not said is None."""

    dossier: str
    at: datetime
    aliases: tuple[str, ...] = ()
    #: Canonical code of the agency whose dossier it is.
    unit: str | None = None
    #: The national status, and the one that the message wrote.
    status: str | None = None
    said: str | None = None
    received: datetime | None = None
    due: datetime | None = None
    finished: datetime | None = None
    holder: str | None = None
    procedure: str | None = None
    channel: str | None = None
    #: Whole đồng.
    amount: int | None = None
    payment_reference: str | None = None
    payment_state: str | None = None
    parcel: str | None = None
    parcel_state: str | None = None
    synchronises: bool = False

    @property
    def is_empty(self) -> bool:
        """Does it name a dossier and say nothing of it? Its unit stands in its code."""
        return self == DossierFact(dossier=self.dossier, at=self.at, unit=self.unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the bus itself knows of the message: it stands in where the payload is silent."""

    accepted_at: datetime
    sender: str
    receiver: str
    #: Where the payload names none.
    dossier: str | None = None


class DossierReader:
    """A view that was understood."""

    def __init__(self, view: DossierView) -> None:
        """Raises Malformed(registry-manifest-invalid) with the place of what is wrong."""
        self._items = pointer_of(view.items)
        self._aliases = tuple(pointer_of(place) for place in view.aliases)
        self._patterns = _patterns(view.dates)
        self._commonest_first = view.dates[:1] == (_COMMONEST,)
        self._statuses = _statuses(view.statuses)
        self._hands_over = view.holder if view.holder in ("sender", "receiver") else ""
        self._places = {
            name: pointer_of(place)
            for name in ("code", "unit", "at", "status", "received", "due", "finished", "procedure", "channel")
            if (place := getattr(view, name))
        }
        if view.holder and not self._hands_over:
            self._places["holder"] = pointer_of(view.holder)
        self._payment = view.payment or PaymentView()
        self._parcel = view.parcel or ParcelView()
        for prefix, part, names in (
            ("payment", self._payment, ("amount", "reference", "state")),
            ("parcel", self._parcel, ("code", "state")),
        ):
            self._places |= {f"{prefix}_{name}": pointer_of(place) for name in names if (place := getattr(part, name))}
        self._has_payment = view.payment is not None
        self._synchronises = view.synchronises

    def read(self, document: Any, heard: Heard) -> tuple[DossierFact, ...]:
        """The facts in a payload, in the order in which they happened. Never raises for what a payload holds."""
        items = items_of(document, self._items)
        facts = [fact for item in items if (fact := self._fact(item, heard)) is not None]
        return tuple(sorted(facts, key=_moment_of))

    def _fact(self, item: Any, heard: Heard) -> DossierFact | None:
        found = {name: find(item, place) for name, place in self._places.items()}
        code = plain_text(found.get("code"), _CODE) or heard.dossier
        if not code:
            return None
        said = plain_text(found.get("status"), _CODE)
        status = self._statuses.get(said or "")
        payment_state = None
        if self._has_payment:
            payment_state = self._payment.states.get(plain_text(found.get("payment_state"), _CODE) or "")
        parcel_state = plain_text(found.get("parcel_state"), _NAME)
        date = self._date
        return DossierFact(
            dossier=code,
            at=date(found.get("at")) or heard.accepted_at,
            aliases=self._other_codes(item, code),
            unit=_agency(found.get("unit")) or _agency_in(code),
            status=status or None,
            said=said,
            received=date(found.get("received")),
            due=date(found.get("due")),
            finished=date(found.get("finished")),
            holder=getattr(heard, self._hands_over) if self._hands_over else plain_text(found.get("holder"), _NAME),
            procedure=plain_text(found.get("procedure"), _CODE),
            channel=plain_text(found.get("channel"), _CODE),
            amount=_dong(found.get("payment_amount")),
            payment_reference=plain_text(found.get("payment_reference"), _NAME),
            payment_state=payment_state,
            parcel=plain_text(found.get("parcel_code"), _NAME),
            parcel_state=self._parcel.states.get(parcel_state, parcel_state) if parcel_state else None,
            synchronises=self._synchronises,
        )

    def _other_codes(self, item: Any, code: str) -> tuple[str, ...]:
        if not self._aliases:
            return ()
        named = (plain_text(find(item, place), _CODE) for place in self._aliases)
        return tuple(dict.fromkeys(name for name in named if name and name != code))

    def _date(self, value: Any) -> datetime | None:
        if value is None or value == "":
            return None
        moment = _fourteen_digits(value) if self._commonest_first else None
        for pattern in self._patterns:
            moment = moment or pattern.read(value)
        return moment if moment is not None and moment.year >= EARLIEST_YEAR else None


def _fourteen_digits(value: Any) -> datetime | None:
    """``20260423100000`` in Vietnam; None where it is no such moment, which the general way then says, too."""
    if not (isinstance(value, str) and len(value) == 14 and value.isascii() and value.isdecimal()):
        return None
    try:
        return datetime(
            int(value[:4]), int(value[4:6]), int(value[6:8]), int(value[8:10]), int(value[10:12]), int(value[12:]),
            tzinfo=VIETNAM,
        )  # fmt: skip
    except ValueError:
        return None


def _moment_of(fact: DossierFact) -> datetime:
    return fact.at


def _dong(value: Any) -> int | None:
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _MOST_DONG else None


def _agency(value: Any) -> str | None:
    try:
        return AgencyCode.parse(value) if isinstance(value, str) and len(value) <= _CODE else None
    except Malformed:
        return None


def _agency_in(code: str) -> str | None:
    """The agency that a dossier's code begins with, in the canonical spelling."""
    return _agency(code.rsplit("-", 2)[0]) if code.count("-") >= 2 else None


# Reading the view


def _patterns(texts: Sequence[str]) -> tuple[DatePattern, ...]:
    patterns = []
    for place, text in enumerate(texts):
        try:
            patterns.append(read_date_pattern(text))
        except ValueError as error:
            raise _wrong(f"/dates/{place}", Wording(str(error), f"mẫu ngày viết chưa đúng: {error}")) from None
    return tuple(patterns)


def _statuses(named: str | Mapping[str, str]) -> Mapping[str, str]:
    if isinstance(named, str):
        if named not in LOCAL_STATUSES:
            known = ", ".join(LOCAL_STATUSES)
            raise _wrong("/statuses", Wording(f"is none of {known}", f"không thuộc các bảng trạng thái: {known}"))
        return LOCAL_STATUSES[named].national
    for said, status in named.items():
        if status and status not in DOSSIER_STATUSES:
            rule = Wording("is no national status, 1 to 10", "không phải trạng thái quốc gia, từ 1 đến 10")
            raise _wrong(f"/statuses/{said}", rule)
    return named


def _wrong(place: str, rule: Wording) -> Malformed:
    return Malformed("registry-manifest-invalid", errors=[FieldError.worded(f"/dossier{place}", rule)])
