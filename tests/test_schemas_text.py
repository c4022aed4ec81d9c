"""Vietnamese text: one spelling to compare, an order to sort by, plain forms for SMS and telephones."""

from __future__ import annotations

import random
import unicodedata

import pytest

from schemas.problem import Malformed
from schemas.text import collation_key, format_dong, name_key, national_phone, nfc, normalize_phone, unaccented


def test_a_decomposed_text_becomes_the_composed_one() -> None:
    assert nfc(unicodedata.normalize("NFD", "Nguyễn Thị Mẫu")) == "Nguyễn Thị Mẫu"


@pytest.mark.parametrize(
    "spelling",
    ["ĐẶNG PHƯƠNG ĐÔNG", "Đặng Phương Đông", "\u00d0ẶNG PHƯƠNG \u00d0ÔNG", "\u00f0ặng phương \u0189ông",
     unicodedata.normalize("NFD", "đặng phương đông"), "  Đặng\u00a0Phương\tĐông ", "Đặng\u200b Phương Đông"],
)  # fmt: skip
def test_every_spelling_of_a_name_has_one_key(spelling: str) -> None:
    assert name_key(spelling) == "ĐẶNG PHƯƠNG ĐÔNG"


@pytest.mark.parametrize("other", ["DẶNG PHƯƠNG ĐÔNG", "ĐẰNG PHƯƠNG ĐÔNG", "ĐẶNG PHUONG ĐÔNG", "ĐẶNGPHƯƠNG ĐÔNG"])
def test_another_name_keeps_another_key(other: str) -> None:
    assert name_key(other) != name_key("ĐẶNG PHƯƠNG ĐÔNG")


def test_names_sort_as_in_a_vietnamese_dictionary() -> None:
    ordered = ["1 Mai", "an", "ăn", "ân", "chi", "da", "đa", "Ê đê", "ma", "mà", "mả", "mã", "má", "mạ", "mai", "màn",
               "nông y", "o", "ô", "ơ", "Quang", "u", "ư", "xã", "yên", "zalo"]  # fmt: skip
    shuffled = random.Random(1).sample(ordered, len(ordered))
    assert sorted(shuffled, key=collation_key) == ordered
    assert collation_key("ÔNG") == collation_key(unicodedata.normalize("NFD", "ông"))
    assert collation_key("₫ ¼ \u0301 日本 ١") is not None  # signs and foreign letters have some place


@pytest.mark.parametrize(
    "amount, text",
    [(0, "0 ₫"), (999, "999 ₫"), (150000, "150.000 ₫"), (2_147_483_648, "2.147.483.648 ₫"), (-1000, "-1.000 ₫")],
)
def test_money_is_written_the_vietnamese_way(amount: int, text: str) -> None:
    assert format_dong(amount) == text


def test_an_sms_loses_its_accents_and_nothing_else() -> None:
    assert (
        unaccented("Đặng Phương Đông – lệ phí 150.000 ₫ “đã nộp”…") == 'Dang Phuong Dong - le phi 150.000 d "da nop"...'
    )
    assert unaccented(unicodedata.normalize("NFD", "Ưu ái")) == "Uu ai"
    assert unaccented("日") == "?"


@pytest.mark.parametrize(
    "text",
    ["0900000001", "+84900000001", "84900000001", "0084900000001", "+84 (0)900 000 001", "090.000.0001", "900000001"],
)
def test_a_mobile_number_has_one_international_form(text: str) -> None:
    assert normalize_phone(text) == "+84900000001"
    assert national_phone(text) == "0900000001"


def test_a_number_keeps_the_84_inside_it() -> None:
    assert normalize_phone("0848484848") == "+84848484848" == normalize_phone("84848484848")
    assert normalize_phone("02439999999") == "+842439999999"


@pytest.mark.parametrize(
    "text", ["", "84", "0100000001", "09000000011", "+85900000001", "0900-abc-001", "0" * 41, "٠٩٠٠٠٠٠٠٠١"]
)
def test_what_is_no_vietnamese_number_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        normalize_phone(text)
