"""The books of payments: is a notice what was asked for, and do our day and the platform's agree?

::

    NgayDoiSoat,MaDoiTac,MaGiaoDich,MaThamChieu,MaHoSo,SoTien,TrangThaiGD,ThoiGianGD,KetQua
    20260423,DT-SANDBOX,G22.99.1-260423000001,HP0001260423100001,H99.15-260423-0001,150000,1,20260423100130,khop

Reconciliation is daily, by provider, state and amount (QĐ 31/2021/QĐ-TTg, article 36); the layout is a proposal
(vietnam.md 4.9). KetQua: ``khop`` both have it alike, ``lech_so_tien`` another sum, ``thua`` only the platform has it,
``thieu`` only we have it. Money is whole đồng. Everything here is pure.
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from connectors.partner_json import code_text, is_success
from connectors.payment_digest import read_money, read_time, value_text, write_time
from schemas.problem import Malformed

COLUMNS: Final = (
    *("NgayDoiSoat", "MaDoiTac", "MaGiaoDich", "MaThamChieu", "MaHoSo", "SoTien", "TrangThaiGD", "ThoiGianGD"),
    "KetQua",
)
#: TrangThaiGD of a transaction whose money has moved (TD-PAY); 3 is pending at the bank, 4 failed.
SETTLED: Final = "1"
#: Codes only: nothing that a spreadsheet would take for a formula, and nothing that breaks a line.
_CODE: Final = re.compile(r"(?:[0-9A-Za-z][0-9A-Za-z._/-]{0,99})?")
_DAY: Final = re.compile(r"20[0-9]{6}")


class Verdict(StrEnum):
    """What a notice is worth to whoever holds the INIT."""

    PAID = "paid"
    #: The platform says that nothing was paid: cancelled or failed.
    NOT_PAID = "not-paid"
    OTHER_PARTNER = "other-partner"
    OTHER_REFERENCE = "other-reference"
    OTHER_CURRENCY = "other-currency"
    #: The sum is not the one that was asked for: no dossier moves on by it.
    OTHER_AMOUNT = "other-amount"
    #: The gateway's notice names no sum: what was paid is known after the day's reconciliation.
    AMOUNT_UNKNOWN = "amount-unknown"


def check_notice(init: Mapping[str, Any], notice: Mapping[str, Any]) -> Verdict:
    """Does this notice, whose digest holds, say that this INIT is paid? In full, in đồng, under its own reference.

    An INIT that left MaDoiTac to the bus takes the notice's, which the bus has checked.
    """
    if notice.get("MaDoiTac") != init.get("MaDoiTac", notice.get("MaDoiTac")):
        return Verdict.OTHER_PARTNER
    if not init.get("MaThamChieu") or notice.get("MaThamChieu") != init["MaThamChieu"]:
        return Verdict.OTHER_REFERENCE
    if not is_success(notice.get("MaLoi")):
        return Verdict.NOT_PAID
    if notice.get("MaTienTe", "VND") != init.get("MaTienTe", "VND"):
        return Verdict.OTHER_CURRENCY
    asked = read_money(init.get("SoTien"))
    return Verdict.PAID if asked is not None and read_money(notice.get("SoTien")) == asked else Verdict.OTHER_AMOUNT


class LocalState(StrEnum):
    """Where a request for payment stands at the agency (TD-PAY)."""

    WAITING = "Chờ thanh toán"
    PAID = "Đã thanh toán"
    UNPAID = "Chưa thanh toán"
    CANCELLED = "Hủy thanh toán"
    REFUNDED = "Đã hoàn phí"


#: What may follow what. Money that has come is given back, never forgotten; a refund is the end.
NEXT: Final[Mapping[LocalState, frozenset[LocalState]]] = {
    LocalState.WAITING: frozenset({LocalState.PAID, LocalState.UNPAID, LocalState.CANCELLED}),
    LocalState.UNPAID: frozenset({LocalState.WAITING, LocalState.PAID, LocalState.CANCELLED}),
    # The payer cancelled, and the bank had moved the money already: its notice comes later and is true.
    LocalState.CANCELLED: frozenset({LocalState.WAITING, LocalState.PAID}),
    LocalState.PAID: frozenset({LocalState.REFUNDED}),
    LocalState.REFUNDED: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One payment as one side has it."""

    partner: str
    #: MaGiaoDich, the platform's; empty where our side never learnt it.
    transaction: str
    #: MaThamChieu, ours.
    reference: str
    amount: int
    #: TrangThaiGD.
    state: str = SETTLED
    dossier: str = ""
    #: ThoiGianGD as it was written.
    at: str = ""


# ---- A day of ours, from what passed through the bus


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One reference as our messages tell it."""

    reference: str
    state: LocalState | None = None
    #: The INIT, where one passed through the bus. What is paid at the portal by a look-up has none.
    init: Mapping[str, Any] | None = None
    #: What the platform's notices say was paid, in the order of acceptance.
    paid: tuple[Transaction, ...] = ()

    def is_of(self, day: str) -> bool:
        asked = value_text((self.init or {}).get("ThoiGianGD")) or ""
        return asked.startswith(day) or any(one.at.startswith(day) for one in self.paid)


class Finding(StrEnum):
    """What is wrong whatever the platform's file says."""

    #: A notice says another sum (or currency) than its INIT asked for.
    OTHER_THAN_ASKED = "khac_yeu_cau"
    #: Two transactions paid one reference: one of them is owed back.
    PAID_TWICE = "thu_hai_lan"
    #: A refund of what was not paid, of another sum, or a second one.
    REFUND_WRONG = "hoan_phi_sai"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    finding: Finding
    reference: str
    dossier: str
    #: Whole đồng: what was asked for or paid before, and what the message says.
    expected: int
    amount: int
    #: ThoiGianGD of a notice, the moment of acceptance of a refund: ``yyyyMMddHHmmss``.
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What our messages say of payments."""

    accounts: Mapping[str, Account]
    found: tuple[Found, ...]

    def on(self, day: str) -> Books:
        """The accounts that were asked for or paid on a day, ``yyyyMMdd``, and what was found on it."""
        return Books(
            accounts={reference: account for reference, account in self.accounts.items() if account.is_of(day)},
            found=tuple(one for one in self.found if one.at.startswith(day)),
        )

    def paid_on(self, day: str) -> tuple[Transaction, ...]:
        """What the platform's notices say was paid on a day, ``yyyyMMdd``: by their own time, whenever they came."""
        return tuple(one for account in self.accounts.values() for one in account.paid if one.at.startswith(day))


def keep_books(messages: Iterable[tuple[datetime, Mapping[str, Any]]]) -> Books:
    """The accounts that INIT, CONFIRM and refunds give, in the order of acceptance, each with its moment.

    A notice is told by ``LoaiBanTin``, a refund by ``NgayHoanPhi``. Digests were checked before they were messages.
    """
    accounts: dict[str, Account] = {}
    found: list[Found] = []
    for accepted_at, message in messages:
        reference = _code_or_nothing(message.get("MaThamChieu"))
        if not reference:
            continue
        account = accounts.get(reference, Account(reference=reference))
        is_notice = message.get("LoaiBanTin") == "CONFIRM"
        entry = _refunded if "NgayHoanPhi" in message else _noticed if is_notice else _asked
        accounts[reference], finding = entry(account, message)
        if finding is not None:
            found.append(replace(finding, at=finding.at or write_time(accepted_at)))
    return Books(accounts=accounts, found=tuple(found))


def _asked(account: Account, init: Mapping[str, Any]) -> tuple[Account, Found | None]:
    if account.init is not None:  # the same reference is the same request; another one is refused by the platform
        return account, None
    state = LocalState.WAITING if account.state is None else account.state
    return replace(account, init=init, state=state), None


def _noticed(account: Account, notice: Mapping[str, Any]) -> tuple[Account, Found | None]:
    asked = account.init or {"MaThamChieu": account.reference, "SoTien": notice.get("SoTien")}
    # The bus puts MaDoiTac in where an INIT leaves it out, and lets no notice of another partner pass.
    verdict = check_notice({**asked, "MaDoiTac": notice.get("MaDoiTac")}, notice)
    if verdict is Verdict.NOT_PAID:
        return _moved(account, LocalState.CANCELLED), None
    paid = _paid(account, notice)
    after = replace(_moved(account, LocalState.PAID), paid=(*account.paid, paid))
    if verdict is not Verdict.PAID:
        finding = Finding.OTHER_THAN_ASKED
        # Money has come, and not what was asked for: the request stands as it stood.
        after = replace(after, state=account.state)
    elif account.paid:
        finding = Finding.PAID_TWICE
    else:
        return after, None
    expected = read_money(asked.get("SoTien")) or 0
    return after, replace(_found(finding, account, expected, paid.amount), at=paid.at)


def _refunded(account: Account, refund: Mapping[str, Any]) -> tuple[Account, Found | None]:
    amount = read_money(refund.get("SoTien")) or 0
    came = [one.amount for one in account.paid]
    # Where nothing is known of the reference, its payment is older than the messages that were read.
    if account.state is not LocalState.REFUNDED and (amount in came or account.state is None):
        return replace(account, state=LocalState.REFUNDED), None
    return account, _found(Finding.REFUND_WRONG, account, came[0] if came else 0, amount)


def _moved(account: Account, to: LocalState) -> Account:
    may = account.state is None or to in NEXT[account.state]
    return replace(account, state=to) if may else account


def _paid(account: Account, notice: Mapping[str, Any]) -> Transaction:
    at = value_text(notice.get("ThoiGianGD")) or ""
    return Transaction(
        partner=_code_or_nothing(notice.get("MaDoiTac")),
        transaction=_code_or_nothing(notice.get("MaGiaoDich")),
        reference=account.reference,
        amount=read_money(notice.get("SoTien")) or 0,
        dossier=_dossier_of(account),
        at=at if read_time(at) is not None else "",
    )


def _found(finding: Finding, account: Account, expected: int, amount: int) -> Found:
    return Found(
        finding=finding,
        reference=account.reference,
        dossier=_dossier_of(account),
        expected=expected,
        amount=amount,
        at="",
    )


def _dossier_of(account: Account) -> str:
    receipt = (account.init or {}).get("ThongTinBienLai")
    return _code_or_nothing(receipt.get("MaHoSo")) if isinstance(receipt, Mapping) else ""


def _code_or_nothing(value: object) -> str:
    text = value_text(value) or ""
    return text if _CODE.fullmatch(text) else ""


# ---- A day of ours and a day of the platform's


class Result(StrEnum):
    MATCHED = "khop"
    OTHER_AMOUNT = "lech_so_tien"
    ONLY_THEIRS = "thua"
    ONLY_OURS = "thieu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One payment compared. At least one side is there."""

    result: Result
    ours: Transaction | None = None
    theirs: Transaction | None = None

    @property
    def difference(self) -> int:
        """Đồng that the platform has beyond ours."""
        return (self.theirs.amount if self.theirs else 0) - (self.ours.amount if self.ours else 0)


def reconcile(ours: Iterable[Transaction], theirs: Iterable[Transaction]) -> tuple[Line, ...]:
    """The day compared, by reference. Only settled payments count on either side; a row that comes twice is one.

    Two payments under one reference are told apart by MaGiaoDich; what our side never learnt the MaGiaoDich of is
    matched with what is left over.
    """
    mine, yours = _by_reference(ours), _by_reference(theirs)
    return tuple(line for key in sorted(mine.keys() | yours.keys()) for line in _compared(mine[key], yours[key]))


def _by_reference(transactions: Iterable[Transaction]) -> defaultdict[tuple[str, str], list[Transaction]]:
    found: defaultdict[tuple[str, str], list[Transaction]] = defaultdict(list)
    for transaction in dict.fromkeys(transactions):
        if transaction.state == SETTLED:
            found[transaction.partner, transaction.reference].append(transaction)
    return found


def _compared(ours: list[Transaction], theirs: list[Transaction]) -> Iterator[Line]:
    left = list(theirs)
    alone: list[Transaction] = []
    # Those that name their transaction choose first.
    for own in sorted(ours, key=lambda one: (not one.transaction, one.transaction)):
        fitting = [other for other in left if own.transaction in ("", other.transaction) or not other.transaction]
        if not fitting:
            alone.append(own)
            continue
        # Of several that fit the same transaction comes first, then the same sum.
        other = min(fitting, key=lambda one: (one.transaction != own.transaction, one.amount != own.amount))
        left.remove(other)
        same = own.amount == other.amount
        yield Line(result=Result.MATCHED if same else Result.OTHER_AMOUNT, ours=own, theirs=other)
    yield from (Line(result=Result.ONLY_OURS, ours=own) for own in alone)
    yield from (Line(result=Result.ONLY_THEIRS, theirs=other) for other in left)


def read_day(text: str, day: str = "") -> tuple[Transaction, ...]:
    """The rows of a daily file; KetQua is not read. Raises Malformed naming row and column, never a value, also for a
    row of another day than ``day`` (``yyyyMMdd``)."""
    table = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    rows: list[Transaction] = []
    try:
        if not set(COLUMNS[:-1]) <= set(table.fieldnames or ()):
            raise Malformed("payment-file-invalid", row=1, column="NgayDoiSoat")
        for number, row in enumerate(table, start=2):
            if day and row.get("NgayDoiSoat") != day:
                raise Malformed("payment-file-invalid", row=number, column="NgayDoiSoat")
            rows.append(_transaction(row, number))
    except csv.Error:
        raise Malformed("payment-file-invalid", row=len(rows) + 2, column="MaDoiTac") from None
    return tuple(rows)


def write_day(day: str, lines: Iterable[Line]) -> str:
    """The comparison as CSV. SoTien is the platform's where it has the payment; MaHoSo is ours where we know it.

    ``day`` is ``yyyyMMdd``; raises ValueError when it is not.
    """
    if not _DAY.fullmatch(day):
        raise ValueError("the day of a reconciliation is written yyyyMMdd")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for line in lines:
        shown = line.theirs or line.ours
        if shown is None:
            continue
        dossier = (line.ours.dossier if line.ours else "") or shown.dossier
        first = (day, shown.partner, shown.transaction, shown.reference, dossier)
        table.writerow((*first, shown.amount, shown.state, shown.at, line.result.value))
    return text.getvalue()


def _transaction(row: Mapping[str, Any], number: int) -> Transaction:
    def cell(name: str) -> str:
        value = row.get(name)
        if not isinstance(value, str) or not _CODE.fullmatch(value):
            raise Malformed("payment-file-invalid", row=number, column=name)
        return value

    amount = read_money(row.get("SoTien"))
    if amount is None:
        raise Malformed("payment-file-invalid", row=number, column="SoTien")
    at = cell("ThoiGianGD")
    if at and read_time(at) is None:
        raise Malformed("payment-file-invalid", row=number, column="ThoiGianGD")
    if not cell("MaThamChieu"):
        raise Malformed("payment-file-invalid", row=number, column="MaThamChieu")
    return Transaction(
        partner=cell("MaDoiTac"),
        transaction=cell("MaGiaoDich"),
        reference=cell("MaThamChieu"),
        amount=amount,
        state=code_text(cell("TrangThaiGD")),
        dossier=cell("MaHoSo"),
        at=at,
    )
