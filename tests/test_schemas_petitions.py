"""Petitions: which are the same, and how each keeps its time."""

from __future__ import annotations

import json
import random
import time
import unicodedata
from collections.abc import Callable, Iterable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.petitions import usual_clocks
from schemas.moment import VIETNAM
from schemas.petitions import (
    ANNOTATION,
    Clock,
    Clocks,
    Group,
    Petition,
    Said,
    group_petitions,
    petitions_of,
    read_clocks,
    read_petition,
    standing_of,
)
from schemas.places import Places
from schemas.problem import Malformed
from schemas.text import plain_words, unaccented

FOLDER = Path(__file__).resolve().parent.parent / "schemas" / "partners" / "petition"
SUBMIT, STATUS = (
    Places(json.loads((FOLDER / f"{name}.schema.json").read_bytes())[ANNOTATION]) for name in ("submit", "status")
)
PORTAL: dict[str, Any] = json.loads((FOLDER / "submit.example.json").read_bytes())
SMS: dict[str, Any] = json.loads((FOLDER / "submit.2.example.json").read_bytes())
DOSSIER, OTHER = "H99.15-260423-0001", "H99.15-260423-0002"
TEXT = PORTAL["NoiDung"]
#: Typed in from paper, with a salutation, other signs between the words and a word left out.
PAPER = (
    "Kính gửi: Trung tâm. Tôi nộp hồ sơ đăng ký khai sinh cho con ngày 23-04-2026; giấy hẹn trả kết quả ngày "
    "24-04-2026 nhưng đến nay bộ phận một cửa chưa trả giấy khai sinh. Đề nghị cơ quan kiểm tra và trả lời!"
)
FLOOD = (
    "Đường Mẫu ngập nước ba ngày nay, xe máy không đi được, trẻ em phải nghỉ học, đề nghị phường cho khơi cống ngay."
)


def at(text: str) -> datetime:
    """``04-25 09:00`` of 2026 in Vietnam."""
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=VIETNAM)


def heard(document: Any, moment: str = "04-28 09:05", places: Places = SUBMIT) -> Said | None:
    return read_petition(document, places, at(moment), "H99.15")


def said(document: Any, moment: str = "04-28 09:05", places: Places = SUBMIT) -> Said:
    found = heard(document, moment, places)
    assert found is not None
    return found


def petition(code: str, text: str, day: str = "04-25", dossier: str | None = None, **facts: Any) -> Petition:
    words = plain_words(text, 250)
    return Petition(code=code, source="DVCQG", sent=at(f"{day} 09:00"), words=words, dossier=dossier, **facts)


def grouped(*petitions: Petition, **options: Any) -> list[str]:
    """The groups, each as the codes of its members in one word."""
    return names(group_petitions(petitions, **options))


def names(groups: Iterable[Group]) -> list[str]:
    return ["".join(one.code for one in group.members) for group in groups]


# ── the same petition ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_complaint_by_portal_sms_and_paper_is_one_group() -> None:
    """P28, SC-12."""
    paper = {"MaPAKN": "GIAY-1", "NguonGui": "giay", "NoiDung": PAPER, "NgayGui": "20260427080000"}
    other = {"MaPAKN": "PAKN-2", "NguonGui": "DVCQG", "NoiDung": FLOOD, "NgayGui": "20260425080000"}
    found, _ = petitions_of([said(document) for document in (PORTAL, SMS, paper, other)])
    groups = group_petitions(found)
    assert [[one.code for one in group.members] for group in groups] == [
        ["PAKN-2"],
        ["PAKN-260423-0001", "H99.15-SMS-260426-0007", "GIAY-1"],
    ]
    assert [one.source for one in groups[1].members] == ["DVCQG", "SMS", "giay"]


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.upper(),
        unaccented(TEXT),
        unaccented(TEXT)[:140],
        unicodedata.normalize("NFD", TEXT),
        TEXT.replace("Đ", "Ð"),  # eth, of an Icelandic keyboard
        TEXT.replace(" ", "  \n\t"),
        TEXT.replace(" ", " — "),
        TEXT.replace("nộp", "n\u200bộp"),  # pasted from a web page
        "PAKN " + unaccented(TEXT)[:150],
        TEXT.replace("kiểm tra", "xem xét"),
    ],
)
def test_the_way_a_text_was_typed_does_not_matter(text: str) -> None:
    assert grouped(petition("A", TEXT), petition("B", text)) == ["AB"]


@pytest.mark.parametrize(
    "text",
    [
        FLOOD,
        "",
        "Chưa trả giấy khai sinh",
        "Đề nghị cơ quan kiểm tra và trả lời.",  # what half of all petitions end with
        "Tôi nộp hồ sơ đăng ký kết hôn ngày 02/03/2026 tại phường, cán bộ bảo thiếu giấy xác nhận tình trạng hôn nhân.",
        " ".join(reversed(TEXT.split())),
    ],
)
def test_another_matter_is_another_group(text: str) -> None:
    assert grouped(petition("A", TEXT), petition("B", text)) == ["A", "B"]


def test_different_dossiers_part_the_same_words() -> None:
    mine, theirs = petition("A", TEXT, dossier=DOSSIER), petition("B", TEXT, dossier=OTHER)
    assert grouped(mine, theirs) == ["A", "B"]
    assert grouped(mine, petition("B", TEXT, dossier=DOSSIER)) == ["AB"]
    # One that names none may be of either; it joins one of them and does not join them.
    assert grouped(mine, theirs, petition("C", unaccented(TEXT)[:150])) == ["AC", "B"]
    assert grouped(petition("C", TEXT + " Xin cảm ơn."), mine, theirs) == ["AC", "B"]


@pytest.mark.parametrize("day, together", [("04-25", True), ("05-25", True), ("05-26", False), ("03-25", False)])
def test_the_same_words_long_after_are_a_new_complaint(day: str, together: bool) -> None:
    found = group_petitions([petition("A", TEXT, "04-25"), petition("B", TEXT, day)], within_days=30)
    assert len(found) == (1 if together else 2)


def test_two_texts_are_not_one_because_a_third_stands_between_them() -> None:
    """An SMS that is the common beginning of two petitions belongs to one of them; they stay two."""
    opening = "Ở tổ dân phố số năm phường Mẫu hai tháng nay đêm nào cũng có tiếng ồn lớn không ai ngủ được, đó là "
    one = opening + "tiếng máy cưa của xưởng gỗ đầu ngõ chạy đến ba giờ sáng, chủ xưởng nói có giấy phép làm ca đêm."
    two = opening + "quán hát của ông hàng xóm mở loa hết cỡ, khách say đánh nhau, công an phường gọi không thấy đến."
    assert grouped(petition("A", one), petition("B", two), petition("C", unaccented(opening))) in (
        ["AC", "B"],
        ["A", "BC"],
    )


def test_a_few_words_are_the_same_only_as_their_equal() -> None:
    short = petition("A", "Đèn đường hỏng")
    assert grouped(short, petition("B", "đen duong HONG!")) == ["AB"]
    assert grouped(short, petition("B", "Đèn đường hỏng rồi")) == ["A", "B"]
    assert grouped(short, petition("B", "Đèn đường hỏng ở tổ 5 đã ba tuần nay, đi lại rất nguy hiểm")) == ["A", "B"]
    assert grouped(petition("A", ""), petition("B", "…"), petition("C", "👍")) == ["A", "B", "C"]


def test_how_like_is_like_enough_is_for_the_operator() -> None:
    near = TEXT.replace("khai sinh", "khai tử").replace("con", "cha")
    assert grouped(petition("A", TEXT), petition("B", near), likeness=0.9) == ["A", "B"]
    assert grouped(petition("A", TEXT), petition("B", near), likeness=0.5) == ["AB"]


@given(st.permutations(range(8)))
def test_the_order_of_arrival_changes_nothing(order: list[int]) -> None:
    texts = [TEXT, unaccented(TEXT), PAPER, FLOOD, FLOOD.upper(), TEXT, TEXT, "Đèn đường hỏng"]
    dossiers = [DOSSIER, None, None, None, None, OTHER, None, None]
    every = [petition(str(n), texts[n], f"04-{10 + n}", dossiers[n]) for n in range(8)]
    assert names(group_petitions([every[n] for n in order])) == names(group_petitions(every))


@given(st.lists(st.tuples(st.text(max_size=80), st.sampled_from([None, "a", "b"])), max_size=12), st.floats(0.1, 1))
def test_every_petition_is_in_one_group_and_no_group_has_two_dossiers(
    texts: list[tuple[str, str | None]], likeness: float
) -> None:
    every = [petition(f"{n};", text, dossier=dossier) for n, (text, dossier) in enumerate(texts)]
    groups = group_petitions(every, likeness=likeness)
    assert sorted(one.code for group in groups for one in group.members) == sorted(one.code for one in every)
    assert all(len({one.dossier for one in group.members} - {None}) <= 1 for group in groups)


# ── a flood ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def a_thousand_words(chance: random.Random) -> str:
    return " ".join(chance.choice(f"{TEXT} {FLOOD}".split()) for _ in range(60))


def each_by_two_ways(chance: random.Random) -> list[Petition]:
    twice = [(f"04-{1 + n % 28:02}", a_thousand_words(chance)) for n in range(2500)]
    portal = [petition(f"P{n}", text, day) for n, (day, text) in enumerate(twice)]
    return portal + [petition(f"S{n}", unaccented(text)[:160], day) for n, (day, text) in enumerate(twice)]


FLOODS: dict[str, tuple[Callable[[random.Random], list[Petition]], int]] = {
    "each by two ways": (each_by_two_ways, 2500),
    "one text": (lambda _: [petition(f"P{n}", TEXT) for n in range(5000)], 1),
    "one text, every dossier another": (
        lambda _: [petition(f"P{n}", TEXT, dossier=f"D{n}") for n in range(5000)],
        5000,
    ),
    "one text, half name a dossier": (
        lambda _: [
            petition(f"P{n}", f"{TEXT} Tôi là {n} x{n}", dossier=f"D{n}" if n % 2 else None) for n in range(5000)
        ],
        2500,
    ),
    "one beginning": (
        lambda chance: [petition(f"P{n}", f"{TEXT} {a_thousand_words(chance)}") for n in range(5000)],
        5000,
    ),
    "no words": (lambda _: [petition(f"P{n}", "?") for n in range(5000)], 5000),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_five_thousand_are_grouped_in_a_breath(flood: str) -> None:
    """Measured: 0.1 to 1 s of processor time each; the bound leaves room for a machine under coverage. A square would
    take minutes."""
    made, groups = FLOODS[flood]
    petitions = made(random.Random(28))
    begun = time.process_time()
    assert len(group_petitions(petitions)) == groups
    assert time.process_time() - begun < 8


# ── clocks ────────────────────────────────────────────────────────────────────────────────────────────────────────────

CLOCKS = Clocks(days=15, due_soon_days=3, fields={"dat dai": 10, "khan": 0})


@pytest.mark.parametrize(
    "facts, today, clock, due, left",
    [
        ({}, "04-25", Clock.RUNNING, "05-10", 15),
        ({}, "05-06", Clock.RUNNING, "05-10", 4),
        ({}, "05-07", Clock.DUE_SOON, "05-10", 3),
        ({}, "05-10", Clock.DUE_SOON, "05-10", 0),
        ({}, "05-11", Clock.OVERDUE, "05-10", -1),
        ({"field": "dat dai"}, "05-05", Clock.DUE_SOON, "05-05", 0),
        ({"field": "dat dai"}, "05-06", Clock.OVERDUE, "05-05", -1),
        ({"field": "la"}, "05-06", Clock.RUNNING, "05-10", 4),
        ({"field": "khan"}, "04-25", Clock.DUE_SOON, "04-25", 0),
        ({"due": at("05-15 17:00")}, "05-11", Clock.RUNNING, "05-15", 4),
        ({"due": at("04-26 00:30")}, "04-27", Clock.OVERDUE, "04-26", -1),
        ({"settled": at("05-10 23:59")}, "06-30", Clock.ANSWERED_IN_TIME, "05-10", 0),
        ({"settled": at("05-11 00:00")}, "06-30", Clock.ANSWERED_LATE, "05-10", -1),
        ({"settled": at("04-26 10:00"), "due": at("04-26 08:00")}, "06-30", Clock.ANSWERED_IN_TIME, "04-26", 0),
    ],
)  # fmt: skip
def test_days_of_vietnam_decide(facts: dict[str, Any], today: str, clock: Clock, due: str, left: int) -> None:
    standing = standing_of(petition("A", TEXT, "04-25", **facts), CLOCKS, at(f"{today} 00:00").date())
    assert (standing.clock, f"{standing.due:%m-%d}", standing.days_left) == (clock, due, left)


def test_half_past_midnight_in_vietnam_is_yesterday_in_utc() -> None:
    late = petition("A", TEXT, settled=at("05-11 00:30"))
    assert standing_of(late, CLOCKS, date(2026, 6, 1)).clock is Clock.ANSWERED_LATE


def test_a_group_has_the_clock_of_its_most_pressing_member() -> None:
    today = date(2026, 5, 8)

    def clock_of(*members: Petition) -> tuple[str, Clock, int]:
        pressing, standing = Group(members=members).pressing(CLOCKS, today)
        return pressing.code, standing.clock, standing.days_left

    early, later = petition("A", TEXT, "04-25"), petition("B", TEXT, "05-01")
    assert clock_of(later, early) == ("A", Clock.DUE_SOON, 2)
    # An answer to one is none to the other, who has his own time; and it is not late for the first one's sake.
    answered = petition("A", TEXT, "04-20", settled=at("05-01 09:00"))
    assert clock_of(answered, later) == ("B", Clock.RUNNING, 8)
    assert Group(members=(answered, later)).unanswered() == 1
    # All have theirs: one that came late is not hidden by those in time.
    slow = petition("C", TEXT, "04-01", settled=at("04-20 09:00"))
    assert clock_of(answered, slow) == ("C", Clock.ANSWERED_LATE, -4)


# ── what messages tell ────────────────────────────────────────────────────────────────────────────────────────────────


def moved(status: str, **facts: Any) -> dict[str, Any]:
    return {"MaPAKN": PORTAL["MaPAKN"], "TrangThai": status, **facts}


def told(*documents: tuple[dict[str, Any], str]) -> Petition:
    every = [said(document, moment, SUBMIT if "NoiDung" in document else STATUS) for document, moment in documents]
    ((found,), without_text) = petitions_of(every)
    assert without_text == 0
    return found


def test_a_petition_is_read_where_its_schema_says() -> None:
    read = said(PORTAL)
    assert (read.code, read.source, read.dossier, read.field, read.holder) == (
        "PAKN-260423-0001", "DVCQG", DOSSIER, "ho tich", "H99.15",
    )  # fmt: skip
    assert (read.sent, read.due, read.status) == (at("04-25 09:00"), at("05-15 17:00"), "1")
    assert read.words is not None
    assert read.words[:8] == ("tra", "ket", "qua", "khai", "sinh", "cham", "toi", "nop")
    renamed = {"ma": "X1", "noi": {"dung": TEXT}, "ngay": "25/04/2026 09:00:00"}
    places = Places({"code": "/ma", "text": "/noi/dung", "sent": "/ngay", "dates": ["dd/MM/yyyy HH:mm:ss"]})
    assert said(renamed, places=places).sent == at("04-25 09:00")


@pytest.mark.parametrize(
    "document", [{}, [], None, "PAKN", {"MaPAKN": ""}, {"MaPAKN": None}, {"MaPAKN": []}, {"MaPAKN": "\x1b[31m"}]
)
def test_a_message_that_names_no_petition_says_nothing(document: Any) -> None:
    assert heard(document) is None


@pytest.mark.parametrize(
    "facts, attribute, value",
    [
        ({"NguonGui": "facebook"}, "source", ""),
        ({"NgayGui": "hôm qua"}, "sent", at("04-28 09:05")),
        ({"NgayGui": "20260230000000"}, "sent", at("04-28 09:05")),
        ({"NgayGui": "20270101000000"}, "sent", at("04-28 09:05")),  # after we had it
        ({"HanXuLy": 5}, "due", None),
        ({"TrangThai": "99"}, "status", "1"),
        ({"DonViTiepNhan": "Nguyễn Thị Mẫu"}, "holder", "H99.15"),
        ({"DonViTiepNhan": "000.00.20.H99"}, "holder", "H99.20"),
        ({"LinhVuc": {"$ne": 1}}, "field", ""),
        ({"TieuDe": 7}, "title", "7"),
        ({"TieuDe": "\x1b[31mđỏ"}, "title", ""),
        ({"MaHoSo": "x" * 51}, "dossier", None),
    ],
)
def test_what_cannot_be_read_was_not_said(facts: dict[str, Any], attribute: str, value: Any) -> None:
    assert getattr(told((PORTAL | facts, "04-28 09:05")), attribute) == value


def test_later_messages_know_better() -> None:
    found = told(
        (PORTAL, "04-25 09:05"),
        (moved("2"), "04-25 10:00"),
        (moved("3", DonViTiepNhan="H99.20"), "04-26 10:00"),
        (moved("4", HanXuLy="20260520170000"), "04-27 10:00"),
    )
    assert (found.status, found.holder, found.due, found.settled) == ("4", "H99.20", at("05-20 17:00"), None)
    assert found.out_of_turn == 0


def test_an_answer_counts_from_when_it_was_given_and_never_from_later() -> None:
    answer = moved("5", NoiDungTraLoi="Đã trả.", NgayTraLoi="20260428103000")
    assert told((PORTAL, "04-25 09:05"), (answer, "05-20 10:00")).settled == at("04-28 10:30")
    # Entered before it was given: a date ahead of its time is a mistake.
    assert told((PORTAL, "04-25 09:05"), (answer, "04-27 10:00")).settled == at("04-27 10:00")
    closed = (moved("7"), "06-01 10:00")
    assert told((PORTAL, "04-25 09:05"), (answer, "05-20 10:00"), closed).settled == at("04-28 10:30")
    assert told((PORTAL, "04-25 09:05"), (moved("6"), "04-26 10:00")).settled == at("04-26 10:00")


def test_an_answer_that_is_followed_by_work_was_none() -> None:
    answer = moved("5", NoiDungTraLoi="Đã trả.", NgayTraLoi="20260428103000")
    found = told((PORTAL, "04-25 09:05"), (answer, "04-28 11:00"), (moved("4"), "04-29 11:00"))
    assert (found.status, found.settled) == ("4", None)
    assert standing_of(found, CLOCKS, date(2026, 5, 16)).clock is Clock.OVERDUE


def test_a_step_out_of_turn_is_marked_and_taken() -> None:
    steps = [(moved(status), f"04-26 1{n}:00") for n, status in enumerate(["2", "2", "1", "7", "4"])]
    found = told((PORTAL, "04-25 09:05"), *steps)
    assert (found.status, found.out_of_turn) == ("4", 3)  # back to new, closed at once, and worked on after that


def test_the_same_petition_handed_on_is_one_and_keeps_its_first_day() -> None:
    again = PORTAL | {"TrangThai": "3", "DonViTiepNhan": "H99.20", "NgayGui": "20260427090000"}
    found = told((PORTAL, "04-25 09:05"), (again, "04-27 09:05"))
    assert (found.sent, found.status, found.holder) == (at("04-25 09:00"), "3", "H99.20")


def test_one_code_with_two_texts_is_two_petitions() -> None:
    """Two desks that number alike must not lose one of theirs."""
    other = PORTAL | {"NoiDung": FLOOD, "TieuDe": ""}
    found, _ = petitions_of([said(PORTAL), said(other), said(moved("2"), places=STATUS)])
    assert [(one.code, one.status) for one in found] == [("PAKN-260423-0001", "2")] * 2
    assert len(group_petitions(found)) == 2


def test_a_petition_of_which_only_a_status_is_known_is_counted_and_not_made_up() -> None:
    other = moved("5", NoiDungTraLoi="Đã trả.", NgayTraLoi="20260428103000") | {"MaPAKN": "PAKN-2"}
    found, without_text = petitions_of([said(other, places=STATUS), said(PORTAL), said(other, places=STATUS)])
    assert ([one.code for one in found], without_text) == ([PORTAL["MaPAKN"]], 1)


# ── the table of days, the annotation ─────────────────────────────────────────────────────────────────────────────────


def test_the_table_that_ships_with_the_bus_has_fifteen_days() -> None:
    assert usual_clocks() == Clocks(days=15, due_soon_days=3, fields={})


def test_fields_are_known_in_any_spelling() -> None:
    clocks = read_clocks({"days": 20, "fields": {"Đất đai": 10}})
    assert clocks == Clocks(days=20, due_soon_days=3, fields={"dat dai": 10})
    standing = standing_of(
        told((PORTAL | {"LinhVuc": "ĐẤT  ĐAI", "HanXuLy": ""}, "04-25 09:05")), clocks, date(2026, 4, 25)
    )
    assert standing.days_left == 10


@pytest.mark.parametrize(
    "table",
    [None, [], {}, {"days": "15"}, {"days": -1}, {"days": True}, {"days": 15.5}, {"days": 99999},
     {"days": 15, "fields": []}, {"days": 15, "fields": {"x": None}}, {"days": 15, "due_soon_days": "3"}],
)  # fmt: skip
def test_a_table_that_cannot_be_read_is_refused(table: Any) -> None:
    with pytest.raises(Malformed):
        read_clocks(table)


@pytest.mark.parametrize(
    "stated", [None, "x", [], {"dates": "yyyy"}, {"dates": ["hh"]}, {"dates": 1}, {"code": "MaPAKN"}]
)
def test_an_annotation_that_says_nothing_is_a_mistake(stated: Any) -> None:
    with pytest.raises(Malformed):
        Places(stated)
