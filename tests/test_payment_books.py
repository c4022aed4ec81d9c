"""A notice against what was asked for, and a day of ours against the platform's."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.payment_books import (
    COLUMNS,
    NEXT,
    Finding,
    Line,
    LocalState,
    Result,
    Transaction,
    Verdict,
    check_notice,
    keep_books,
    read_day,
    reconcile,
    write_day,
)
from schemas.problem import Malformed

FOLDER = Path(__file__).resolve().parent.parent / "schemas" / "partners" / "payment"
INIT, NOTICE = (json.loads((FOLDER / f"payment-{name}.example.json").read_bytes()) for name in ("init", "notice"))


@pytest.mark.parametrize(
    "init, notice, verdict",
    [
        ({}, {}, Verdict.PAID),
        ({}, {"SoTien": 150_000, "MaLoi": 0}, Verdict.PAID),
        ({"SoTien": "2147483648000"}, {"SoTien": "2147483648000"}, Verdict.PAID),
        ({}, {"SoTien": "1"}, Verdict.OTHER_AMOUNT),
        ({}, {"SoTien": "150000.0"}, Verdict.OTHER_AMOUNT),
        ({}, {"SoTien": 150000.0}, Verdict.OTHER_AMOUNT),
        ({}, {"SoTien": None}, Verdict.OTHER_AMOUNT),
        ({"SoTien": "x"}, {"SoTien": "x"}, Verdict.OTHER_AMOUNT),
        # 32 bits would make these two equal.
        ({"SoTien": "150000"}, {"SoTien": str(150_000 + 2**32)}, Verdict.OTHER_AMOUNT),
        ({}, {"MaLoi": "99"}, Verdict.NOT_PAID),
        ({}, {"MaLoi": None}, Verdict.NOT_PAID),
        ({}, {"MaLoi": "99", "ThongTinGiaoDich": "Thanh toan thanh cong"}, Verdict.NOT_PAID),
        ({}, {"MaThamChieu": "HP0002260423100001"}, Verdict.OTHER_REFERENCE),
        ({"MaThamChieu": ""}, {"MaThamChieu": ""}, Verdict.OTHER_REFERENCE),
        ({}, {"MaDoiTac": "DT-KHAC"}, Verdict.OTHER_PARTNER),
        ({}, {"MaTienTe": "USD"}, Verdict.OTHER_CURRENCY),
    ],
)
def test_a_notice_pays_what_was_asked_for_and_nothing_else(init: Any, notice: Any, verdict: Verdict) -> None:
    assert check_notice(INIT | init, NOTICE | notice) == verdict


def test_an_init_that_left_the_partner_code_to_the_bus_is_paid_too() -> None:
    assert check_notice({k: v for k, v in INIT.items() if k != "MaDoiTac"}, NOTICE) == Verdict.PAID


def test_money_that_came_is_given_back_and_never_forgotten() -> None:
    assert NEXT[LocalState.PAID] == {LocalState.REFUNDED}
    assert NEXT.keys() == set(LocalState)
    assert not NEXT[LocalState.REFUNDED]


NOON = datetime(2026, 4, 23, 5, tzinfo=UTC)
REFUND = json.loads((FOLDER / "payment-refund.example.json").read_bytes())
CANCELLED = NOTICE | {"MaLoi": "99"}
AGAIN = NOTICE | {"MaGiaoDich": "G22.99.1-260423000009"}
OTHER_SUM = NOTICE | {"SoTien": "1"}


@pytest.mark.parametrize(
    "messages, state, paid, findings",
    [
        ([INIT], LocalState.WAITING, 0, []),
        ([INIT, NOTICE], LocalState.PAID, 1, []),
        # Paid at the portal by a look-up: no INIT passed through the bus.
        ([NOTICE], LocalState.PAID, 1, []),
        ([NOTICE, INIT], LocalState.PAID, 1, []),
        ([INIT, CANCELLED], LocalState.CANCELLED, 0, []),
        # The bank had moved the money already.
        ([INIT, CANCELLED, NOTICE], LocalState.PAID, 1, []),
        ([INIT, NOTICE, CANCELLED], LocalState.PAID, 1, []),
        ([INIT, NOTICE, AGAIN], LocalState.PAID, 2, [Finding.PAID_TWICE]),
        ([INIT, OTHER_SUM], LocalState.WAITING, 1, [Finding.OTHER_THAN_ASKED]),
        ([INIT, NOTICE | {"MaTienTe": "USD"}], LocalState.WAITING, 1, [Finding.OTHER_THAN_ASKED]),
        ([INIT, NOTICE, REFUND], LocalState.REFUNDED, 1, []),
        # What came and was not asked for is given back, too.
        ([INIT, OTHER_SUM, REFUND | {"SoTien": "1"}], LocalState.REFUNDED, 1, [Finding.OTHER_THAN_ASKED]),
        # Of a payment that is older than what was read.
        ([REFUND], LocalState.REFUNDED, 0, []),
        ([INIT, REFUND], LocalState.WAITING, 0, [Finding.REFUND_WRONG]),
        ([INIT, CANCELLED, REFUND], LocalState.CANCELLED, 0, [Finding.REFUND_WRONG]),
        ([INIT, NOTICE, REFUND | {"SoTien": "150001"}], LocalState.PAID, 1, [Finding.REFUND_WRONG]),
        ([INIT, NOTICE, REFUND, REFUND], LocalState.REFUNDED, 1, [Finding.REFUND_WRONG]),
    ],
)
def test_an_account_is_what_its_messages_make_of_it(
    messages: list[dict[str, Any]], state: LocalState, paid: int, findings: list[Finding]
) -> None:
    books = keep_books((NOON, message) for message in messages)
    (account,) = books.accounts.values()
    assert (account.state, len(account.paid), [one.finding for one in books.found]) == (state, paid, findings)
    day = books.on("20260423")
    assert len(day.found) == len(findings)
    assert books.on("20260424").found == ()


def test_a_payment_is_of_the_day_that_the_platform_names_whenever_its_notice_came() -> None:
    late = NOTICE | {"ThoiGianGD": "20260422235959"}
    books = keep_books([(NOON, INIT), (NOON, late)])
    assert [one.at for one in books.paid_on("20260422")] == ["20260422235959"]
    assert books.paid_on("20260423") == ()
    (one,) = books.paid_on("20260422")
    assert (one.partner, one.dossier, one.amount) == ("DT-SANDBOX", "H99.15-260423-0001", 150_000)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"MaThamChieu": None},
        {"MaThamChieu": "=1+1", "LoaiBanTin": "CONFIRM", "MaLoi": "00", "SoTien": "1"},
        {"MaThamChieu": ["x"]},
    ],
)
def test_what_names_no_reference_is_in_no_books(message: dict[str, Any]) -> None:
    assert keep_books([(NOON, message)]).accounts == {}


@pytest.mark.parametrize("written", ["=cmd", "a,b", None, 7.5, {}])
def test_nothing_of_a_notice_is_written_that_is_no_code(written: Any) -> None:
    init = INIT | {"ThongTinBienLai": {"MaHoSo": written}}
    books = keep_books([(NOON, init), (NOON, NOTICE | {"MaGiaoDich": written, "ThoiGianGD": "20260423"})])
    (account,) = books.accounts.values()
    (one,) = account.paid
    assert (one.transaction, one.dossier, one.at) == ("", "", "")


def paid(number: int = 1, **changes: Any) -> Transaction:
    made = Transaction(
        partner="DT-SANDBOX",
        transaction=f"G22.99.1-260423{number:06d}",
        reference=f"HP{number:04d}260423100001",
        amount=150_000,
        at="20260423100130",
    )
    return replace(made, **changes)


def results(ours: list[Transaction], theirs: list[Transaction]) -> list[str]:
    return [line.result.value for line in reconcile(ours, theirs)]


@pytest.mark.parametrize(
    "ours, theirs, expected",
    [
        ([], [], []),
        ([paid()], [paid()], ["khop"]),
        ([paid()], [paid(amount=1)], ["lech_so_tien"]),
        ([paid()], [], ["thieu"]),
        ([], [paid()], ["thua"]),
        # What did not settle is no payment, on whichever side.
        ([paid(state="3")], [paid(state="4")], []),
        ([paid()], [paid(state="3")], ["thieu"]),
        ([paid(state="3")], [paid()], ["thua"]),
        # A row that comes twice is one payment; two payments of one reference are two.
        ([paid(), paid()], [paid()], ["khop"]),
        ([paid()], [paid(), paid(transaction="G22.99.1-260423000009")], ["khop", "thua"]),
        ([paid()], [paid(transaction="G22.99.1-260423000009")], ["thieu", "thua"]),
        # A second row of the same transaction with another sum is a difference, wherever it stands.
        ([paid()], [paid(amount=1), paid()], ["khop", "thua"]),
        # Where we never learnt MaGiaoDich the reference decides, then the sum.
        ([paid(transaction="")], [paid()], ["khop"]),
        ([paid(transaction="")], [paid(amount=1), paid(transaction="G22.99.1-260423000009")], ["khop", "thua"]),
        ([paid(transaction=""), paid()], [paid()], ["khop", "thieu"]),
        ([paid(partner="A")], [paid(partner="B")], ["thieu", "thua"]),
        ([paid(amount=2**40)], [paid(amount=2**40)], ["khop"]),
    ],
)
def test_a_day_is_compared(ours: list[Transaction], theirs: list[Transaction], expected: list[str]) -> None:
    assert results(ours, theirs) == expected


def test_a_payment_day_has_its_three_differences() -> None:
    ours = [paid(number) for number in range(1, 201)]
    theirs = [paid(1, amount=149_999), *(paid(number) for number in range(3, 201)), paid(999)]
    lines = reconcile(ours, theirs)
    assert Counter(line.result for line in lines) == {
        Result.MATCHED: 198,
        Result.OTHER_AMOUNT: 1,
        Result.ONLY_OURS: 1,
        Result.ONLY_THEIRS: 1,
    }
    assert sum(line.difference for line in lines) == sum(t.amount for t in theirs) - sum(t.amount for t in ours)
    assert reconcile(reversed(ours), reversed(theirs)) == lines


def test_the_comparison_is_written_in_the_agreed_columns() -> None:
    ours, theirs = paid(dossier="H99.15-260423-0001"), paid(amount=1)
    text = write_day("20260423", [Line(result=Result.OTHER_AMOUNT, ours=ours, theirs=theirs)])
    assert text.splitlines() == [
        ",".join(COLUMNS),
        "20260423,DT-SANDBOX,G22.99.1-260423000001,HP0001260423100001,H99.15-260423-0001,1,1,20260423100130,lech_so_tien",
    ]
    with pytest.raises(ValueError):
        write_day("23/04/2026", [])


def test_what_is_written_is_read_again() -> None:
    day = [paid(number, dossier="H99.15-260423-0001", amount=10**17 + number) for number in (1, 2)]
    text = write_day("20260423", reconcile(day, day))
    assert list(read_day(text)) == day
    assert list(read_day("\ufeff" + text.replace("\n", "\r\n"))) == day


GOOD = dict(
    zip(
        COLUMNS, ("20260423", "DT", "G1", "HP1", "H99.15-260423-0001", "150000", "1", "20260423100130", ""), strict=True
    )
)


@pytest.mark.parametrize(
    "column, value",
    [
        *(("SoTien", text) for text in ("", "0", "-1", "150.000", "1e5", "9" * 19)),
        *(("MaGiaoDich", text) for text in ("=1+1", "@x", "-1", "a b", 'a"b', "x" * 101)),
        *(("MaThamChieu", text) for text in ("", "+1")),
        *(("ThoiGianGD", text) for text in ("23/04/2026", "20260423250000")),
        ("MaHoSo", "=cmd"),
        ("MaDoiTac", "a\nb"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_its_value_is_not(column: str, value: str) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS)
    table.writeheader()
    table.writerows([GOOD, GOOD | {column: value}])
    with pytest.raises(Malformed) as caught:
        read_day(text.getvalue())
    assert (caught.value.reason, caught.value.facts) == ("payment-file-invalid", {"row": 3, "column": column})


@pytest.mark.parametrize(
    "text", ["", "a,b\n", "<html></html>", ",".join(COLUMNS) + '\n"x', ",".join(COLUMNS) + "\na,b\n"]
)
def test_a_file_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        read_day(text)


def test_the_file_of_another_day_is_not_compared() -> None:
    text = write_day("20260422", reconcile([paid()], [paid()]))
    assert read_day(text, "20260422") == (paid(),)
    with pytest.raises(Malformed) as caught:
        read_day(text, "20260423")
    assert caught.value.facts == {"row": 2, "column": "NgayDoiSoat"}
