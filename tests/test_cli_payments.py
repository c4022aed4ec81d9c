"""``lgsp payments reconcile``: a day of payments over the real path (SC-10), held against the platform's own file."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bus.cli import lgsp
from connectors.payment_books import COLUMNS
from schemas.moment import VIETNAM, utc_now
from tests.bus_world import ask
from tests.province_world import ProvinceWorld, province_world

FOLDER = Path(__file__).resolve().parent.parent / "schemas" / "partners" / "payment"
INIT = json.loads((FOLDER / "payment-init.example.json").read_bytes())
REFUND = json.loads((FOLDER / "payment-refund.example.json").read_bytes())
ASKED = 200
Run = Callable[..., Result]


def reference(number: int) -> str:
    return f"HP{number:04d}260423100001"


def dossier(number: int) -> str:
    return f"H99.15-260423-{number:04d}"


class Day:
    """What agency, payer and platform do."""

    def __init__(self, province: ProvinceWorld) -> None:
        self.province = province
        self.member = province.client("H99.15/mot-cua")

    def init(self, number: int) -> None:
        document = {name: value for name, value in INIT.items() if name not in ("MaXacThuc", "MaDoiTac")}
        document |= {
            "MaThamChieu": reference(number),
            "ThoiGianGD": f"{utc_now().astimezone(VIETNAM):%Y%m%d%H%M%S}",
            "ThongTinBienLai": INIT["ThongTinBienLai"] | {"MaHoSo": dossier(number)},
        }
        self.member.call("payment.init", "G99.30", document)

    def pay(self, number: int, *, told: bool = True, **wish: Any) -> list[dict[str, Any]]:
        """The payer's doing, and the answers to the platform's notices."""
        address = {"ipn_url": f"{self.province.url}/partners/G99.30/thanh-toan/ipn"} if told else {}
        wish |= {"MaThamChieu": reference(number), **address}
        body = json.dumps(wish).encode()
        return [json.loads(text) for text in ask("POST", f"{self.platform}/_sandbox/payment/pay", body).json["answers"]]

    def refund(self, number: int, amount: str = "150000") -> None:
        document = REFUND | {"MaThamChieu": reference(number), "MaHoSo": dossier(number), "SoTien": amount}
        self.member.send("payment.refund", ["H99.15"], document)

    @property
    def platform(self) -> str:
        return self.province.sandbox_url


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """SC-10: 200 INITs, 5 % cancelled, 2 % of another sum, 1 % told twice, a refund, and three differences."""
    with province_world(tmp_path_factory.mktemp("province")) as province:
        made = Day(province)
        with ThreadPoolExecutor(4) as several:
            list(several.map(made.init, range(1, ASKED + 1)))
            list(several.map(lambda number: made.pay(number, MaLoi="99"), range(1, 11)))
            list(several.map(lambda number: made.pay(number, SoTien="1000"), range(11, 15)))
            twice = list(several.map(lambda number: made.pay(number, times=2), range(15, 17)))
            # 17 is paid and no notice comes; 18 and 19 change in the platform's books after their notices.
            list(several.map(made.pay, range(18, 191)))
        assert [[answer["MaLoi"] for answer in answers] for answers in twice] == [["00", "00"]] * 2
        made.pay(17, told=False)
        made.pay(18, told=False, SoTien="149999")
        made.pay(19, told=False, MaLoi="99")
        made.refund(20)
        yield made
        made.member.close()


@pytest.fixture
def file(day: Day, tmp_path: Path) -> Path:
    path = tmp_path / "doi-soat.csv"
    path.write_bytes(ask("GET", f"{day.platform}/payment/daily").body)
    return path


@pytest.fixture
def run(day: Day) -> Run:
    def invoke(*words: object) -> Result:
        environment = {"LANG": "en_GB.UTF-8", "LC_ALL": "", "LC_MESSAGES": ""}
        home = str(day.province.settings.home)
        return CliRunner().invoke(lgsp, ["--home", home, "payments", "reconcile", *map(str, words)], env=environment)

    return invoke


@pytest.fixture
def today(file: Path) -> str:
    """The day of the platform's books, as it wrote it."""
    (written,) = {row["NgayDoiSoat"] for row in csv.DictReader(io.StringIO(file.read_text("utf-8")))}
    return f"{written[:4]}-{written[4:6]}-{written[6:]}"


def test_a_payment_day_has_its_three_differences_and_four_sums_that_nobody_asked_for(
    run: Run, file: Path, today: str, tmp_path: Path
) -> None:
    done = run(today, file, "--json", "--out", tmp_path / "compared.csv")
    assert done.exit_code == 1, done.output
    told = json.loads(done.stdout)
    by_kind = {kind: [row for row in told["differences"] if row["kind"] == kind] for kind in kinds(told)}
    assert kinds(told) == {"lech_so_tien": 1, "thua": 1, "thieu": 1, "khac_yeu_cau": 4}
    assert {kind: sorted(row["reference"] for row in rows) for kind, rows in by_kind.items()} == {
        "thua": [reference(17)],
        "lech_so_tien": [reference(18)],
        "thieu": [reference(19)],
        "khac_yeu_cau": [reference(number) for number in range(11, 15)],
    }
    (missing,) = by_kind["thua"]
    assert (missing["dossier"], missing["here"], missing["there"], missing["difference"]) == (
        dossier(17), None, 150_000, 150_000,
    )  # fmt: skip
    assert (by_kind["khac_yeu_cau"][0]["here"], by_kind["khac_yeu_cau"][0]["there"]) == (150_000, 1_000)
    # 180 told, of which the platform took one back, and one that was never told.
    assert (told["here"]["payments"], told["there"]["payments"], told["matched"]) == (179, 179, 177)
    assert told["difference"] == told["there"]["amount"] - told["here"]["amount"] == -1
    assert told["states"] == {
        # 17, the four of another sum, and the last ten that nobody paid.
        "Chờ thanh toán": 15, "Hủy thanh toán": 10, "Đã thanh toán": 174, "Đã hoàn phí": 1,
    }  # fmt: skip
    rows = list(csv.DictReader(io.StringIO((tmp_path / "compared.csv").read_text("utf-8"))))
    assert tuple(rows[0]) == COLUMNS
    assert Counter(row["KetQua"] for row in rows) == {"khop": 177, "lech_so_tien": 1, "thua": 1, "thieu": 1}


def kinds(told: Any) -> Counter[str]:
    return Counter(row["kind"] for row in told["differences"])


def test_the_day_is_told_in_words_with_sums_as_they_are_written_here(run: Run, file: Path, today: str) -> None:
    done = run(today, file)
    assert done.exit_code == 1
    for words in (
        "missing here",
        "missing there",
        "amount differs",
        "149.999",
        "not what was asked",
        "in 7 differences",
    ):
        assert words in done.stdout, words
    assert "here       179 payments, 26.254.000 ₫" in done.stdout
    assert len(list(csv.DictReader(io.StringIO(run(today, file, "--csv").stdout)))) == 7


def test_books_that_agree_are_exit_code_0(run: Run, today: str, tmp_path: Path) -> None:
    """Of a day on which nothing happened here nor there."""
    empty = tmp_path / "empty.csv"
    empty.write_text(",".join(COLUMNS) + "\n")
    done = run("2020-01-01", empty)
    assert (done.exit_code, "in 0 differences" in done.stdout) == (0, True), done.output


@pytest.mark.parametrize(
    "words, content",
    [
        (("2026-13-01",), None),
        (("20260423",), None),
        # The file of another day would call everything missing.
        (("2026-04-23",), None),
        (("TODAY",), b"\xff\xfe"),
        (("TODAY",), b"MaThamChieu\nHP1\n"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(
    run: Run, file: Path, today: str, words: tuple[str, ...], content: bytes | None
) -> None:
    if content is not None:
        file.write_bytes(content)
    done = run(*(today if word == "TODAY" else word for word in words), file)
    assert done.exit_code == 2, done.output
    assert done.stderr
    assert "Traceback" not in done.output
