"""Identifiers: what is one, what only looks like one, and the two living spellings of an agency."""

from __future__ import annotations

import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codes import BIRTH_PROVINCES, DOSSIER_STATUSES, LEVEL_1
from schemas.identifiers import (
    AgencyCode,
    CitizenNumber,
    DossierCode,
    Identifier,
    MessageId,
    OldAgencyCode,
    OldCitizenNumber,
    ProcedureCode,
    ResultPaperCode,
    ServiceCode,
    SystemCode,
    TaxCode,
)
from schemas.problem import Malformed

GOOD: list[tuple[type[Identifier], list[str]]] = [
    (AgencyCode, ["H99", "G99", "H99.15", "H99.15.01", "H15.50.05.13", "H37.DN.001", "G01.015.001.000"]),
    (OldAgencyCode, ["000.00.00.G22", "000.00.15.H51", "002.00.20.H13", "28.22.H17"]),
    (SystemCode, ["H99.15/mot-cua", "G99/db1"]),
    (ServiceCode, ["dossier.transfer", "dossier", "birth-registration.submit2"]),
    (MessageId, ["019a7b3c-1111-7222-8333-444455556666"]),
    (DossierCode, ["H99.15-260423-0001", "H15.50.05.13-261008-0975", "000.00.12.H62-201105-1234", "G99-260101-1800123",
                   "G22.99-251225-123456", "H99.15-240229-57321"]),
    (ProcedureCode, ["1.001193", "2.000488", "1.003560.000.00.00.H56", "1.003560.01"]),
    (ResultPaperCode, ["KQ.G15.000031"]),
    (CitizenNumber, ["099199000001", "099085000002", "099305000003", "099210000004", "097199000001", "001199000001"]),
    (OldCitizenNumber, ["012345678"]),
    (TaxCode, ["9900000016", "9900000023", "9900000048", "9900000055", "9900000062", "9900000087", "9900000094",
               "9900000104", "9900000111", "9900000016-001"]),
]  # fmt: skip

BAD: list[tuple[type[Identifier], list[str]]] = [
    (AgencyCode, ["", "h99", "H9", "H999", "H99.", ".H99", "H99..15", "H99.1-5", "H99.15\n", " H99", "H99.٣٤", "H９９",
                  "000.00.15.H99", "H99.123456", "H99.1.1.1.1.1.1", "H99." + "A" * 5 + ".B" * 30]),
    (OldAgencyCode, ["H99.15", "00.00.00.H99", "000.00.H99", "000.0.00.H99", "000.00.00.X99", "000.00.00.H99\n"]),
    (SystemCode, ["H99.15", "H99.15/", "H99.15/Mot-Cua", "H99.15/mot--cua", "H99.15/../x", "/mot-cua"]),
    (ServiceCode, ["", "Dossier", "dossier..x", "dossier.", "1dossier", "dossier/transfer", "a" * 101]),
    (MessageId, ["019A7B3C-1111-7222-8333-444455556666", "019a7b3c11117222833344445555666 6", "{019a7b3c}"]),
    (DossierCode, ["H99.15-260230-0001", "H99.15-261301-0001", "H99.15-230229-0001", "H99.15-260423-001",
                   "H99.15-260423-00000001", "H99.15-260423", "....-260423-0001", "H99.15-260423-0001\n",
                   "H99.15 -260423-0001", "H99.15-260423-٠٠٠١"]),
    (ProcedureCode, ["1001193", "1.00119", "1.001193.1", "1.001193.H56", "1.001193.000.00.00.X56"]),
    (ResultPaperCode, ["KQ.H15.000031", "KQ.G15.31", "kq.G15.000031"]),
    (CitizenNumber, ["09919900001", "0991990000011", "003199000001", "000199000001", "09919900000a", "٠٩٩١٩٩٠٠٠٠٠١"]),
    (OldCitizenNumber, ["01234567", "0123456789"]),
    (TaxCode, ["9900000017", "9900000070", "9900000016-000", "9900000016-1", "9900000016001", "99000000160", ""]),
]  # fmt: skip


def flat(table: list[tuple[type[Identifier], list[str]]]) -> list[tuple[type[Identifier], str]]:
    return [(kind, text) for kind, texts in table for text in texts]


@pytest.mark.parametrize("kind, text", flat(GOOD))
def test_a_well_formed_text_becomes_an_identifier_that_is_its_text(kind: type[Identifier], text: str) -> None:
    made = kind(text)
    assert made == text
    assert hash(made) == hash(text)
    assert json.dumps(made) == json.dumps(text)


@pytest.mark.parametrize("kind, text", flat(BAD))
def test_a_text_of_another_form_is_refused_without_being_repeated(kind: type[Identifier], text: str) -> None:
    with pytest.raises(Malformed) as refusal:
        kind(text)
    assert refusal.value.reason == "identifier-invalid"
    if len(text) > 2:
        assert text not in refusal.value.detail("en") + refusal.value.detail("vi")


@pytest.mark.parametrize("kind", [kind for kind, _ in GOOD])
@pytest.mark.parametrize("value", [None, 5, b"H99", ["H99"], True])
def test_what_is_not_text_is_refused_as_malformed_and_not_as_a_crash(kind: type[Identifier], value: object) -> None:
    with pytest.raises(Malformed):
        kind(value)


@pytest.mark.parametrize(
    "new, old",
    [
        ("H99", "000.00.00.H99"),
        ("G99", "000.00.00.G99"),
        ("H99.15", "000.00.15.H99"),
        ("H99.15.01", "000.01.15.H99"),
        ("H99.15.01.002", "002.01.15.H99"),
        ("H99.20.00.002", "002.00.20.H99"),
    ],
)
def test_an_agency_is_translated_between_its_spellings(new: str, old: str) -> None:
    assert AgencyCode(new).to_old() == old
    assert OldAgencyCode(old).to_new() == new
    assert AgencyCode.parse(old) == AgencyCode.parse(new) == new


def test_the_short_old_form_of_a_commune_is_read() -> None:
    assert AgencyCode.parse("28.22.H17") == "H17.22.28"


@pytest.mark.parametrize(
    "code", ["H15.50.05.13", "H37.DN.001", "G01.015.001.000", "H99.00", "H99.15.00", "H99.1", "Z99"]
)
def test_an_agency_without_an_old_form_says_so(code: str) -> None:
    with pytest.raises(Malformed) as refusal:
        AgencyCode(code).to_old()
    assert refusal.value.reason == "agency-code-no-old-form"


@given(st.from_regex(AgencyCode.pattern, fullmatch=True).filter(lambda text: len(text) <= 35))
def test_whatever_has_an_old_form_comes_back_from_it_unchanged(text: str) -> None:
    code = AgencyCode(text)
    try:
        old = code.to_old()
    except Malformed:
        return
    assert AgencyCode.parse(old) == code


def test_the_tree_of_agencies_goes_by_whole_groups() -> None:
    office = AgencyCode("H99.15.01")
    assert office.is_within("H99")
    assert office.is_within("H99.15")
    assert office.is_within("H99.15.01")
    assert not AgencyCode("H99.150").is_within("H99.15")
    assert not AgencyCode("H99").is_within("H99.15")
    assert office.parent == "H99.15"
    assert AgencyCode("H99").parent is None
    assert office.level == 3
    assert office.level_1 == "H99"
    assert office.is_test
    assert not AgencyCode("H15").is_test


def test_a_dossier_code_tells_its_agency_day_and_number() -> None:
    code = DossierCode("000.00.15.H99-240229-0042")
    assert (code.agency_text, code.agency, code.date, code.sequence) == (
        "000.00.15.H99", "H99.15", date(2024, 2, 29), "0042")  # fmt: skip


def test_a_procedure_code_tells_the_national_one_and_whose_variant_it_is() -> None:
    local = ProcedureCode("1.001193.000.00.00.H99")
    assert (local.national, local.agency, local.is_service) == ("1.001193", "H99", False)
    service = ProcedureCode("1.001193.01")
    assert (service.national, service.agency, service.is_service) == ("1.001193", None, True)
    assert ResultPaperCode("KQ.G15.000031").ministry == "G15"


def test_a_citizen_number_tells_year_gender_and_whether_the_person_is_invented() -> None:
    number = CitizenNumber("099305000003")
    assert (number.birth_year, number.is_female, number.is_test, number.province) == (2005, True, True, "")
    assert number.agrees_with(birth_year=2005, is_female=True)
    assert number.agrees_with()
    assert not number.agrees_with(birth_year=1905)
    assert not number.agrees_with(is_female=False)
    assert (CitizenNumber("099085000002").birth_year, CitizenNumber("099085000002").is_female) == (1985, False)
    assert CitizenNumber("001199000001").province == "Hà Nội"


def test_a_tax_body_that_no_check_digit_fits_is_refused_with_every_digit() -> None:
    # 990000007 sums to a multiple of 11; the wrong variant in circulation would take 0 for it.
    for digit in "0123456789":
        with pytest.raises(Malformed):
            TaxCode("990000007" + digit)


def test_a_dependent_unit_is_read_with_or_without_its_hyphen() -> None:
    unit = TaxCode.parse("9900000016001")
    assert unit == "9900000016-001"
    assert unit.enterprise == "9900000016"
    assert TaxCode.parse("9900000016") == "9900000016"


def test_the_code_lists_are_whole_and_normalised() -> None:
    from schemas.text import nfc

    assert sum(code.startswith("H") for code in LEVEL_1) == 64
    assert len(BIRTH_PROVINCES) == 63
    assert all(
        entry.code == code == AgencyCode(code) and nfc(entry.name) == entry.name for code, entry in LEVEL_1.items()
    )
    assert LEVEL_1["H41"] == ("H41", "Nghệ An", True, False)
    assert not LEVEL_1["H01"].verified
    assert [code for code, entry in LEVEL_1.items() if entry.is_test] == ["G99", "H99"]
    assert all(following in DOSSIER_STATUSES for status in DOSSIER_STATUSES.values() for following in status.next)
