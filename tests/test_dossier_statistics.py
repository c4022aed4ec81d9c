"""Where dossiers stand, and what units have done: the same rules for one dossier and for thirty thousand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import insert

from bus.dossiers import Statistics, Timeliness, percent, statistics_of, story_of
from bus.records import DossierEvent, State
from bus.store import migrate
from bus.tables import dossier_events
from bus.telling import MILESTONE_COLUMNS
from registry.dossier_view import DossierFact
from schemas.codes import DOSSIER_STATUSES, LOCAL_STATUSES, may_follow
from schemas.identifiers import DossierCode, SystemCode
from schemas.moment import VIETNAM, to_micros
from security.evidence.checkpoint import NoteKey
from security.keys import KeyRing
from tests.ledger_house import House, statements_of

CODE: Final = "H99.15-260423-0001"
JANUARY = datetime(2026, 1, 1, tzinfo=VIETNAM)
JULY = datetime(2026, 7, 1, tzinfo=VIETNAM)


def at(text: str) -> datetime:
    """``04-23 10:00`` of 2026 in Vietnam."""
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=VIETNAM)


def told(*facts: DossierFact) -> list[DossierEvent]:
    return [DossierEvent(exchange_id=number, number=0, fact=fact) for number, fact in enumerate(facts)]


def fact(moment: str, status: str | None = None, **said: Any) -> DossierFact:
    return DossierFact(dossier=CODE, at=at(moment), status=status, said=status, unit="H99.15", **said)


# ── one dossier ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "due, finished, now, how",
    [
        ("04-24 17:00", "04-23 23:59", "05-01 00:00", Timeliness.EARLY),
        ("04-24 08:00", "04-24 23:59", "05-01 00:00", Timeliness.ON_TIME),  # days count, not hours
        ("04-24 17:00", "04-25 00:00", "05-01 00:00", Timeliness.LATE),
        (None, "04-25 00:00", "05-01 00:00", Timeliness.NO_DUE_DATE),
        ("04-24 17:00", None, "04-24 23:59", Timeliness.RUNNING),
        ("04-24 17:00", None, "04-25 00:00", Timeliness.OVERDUE),
        (None, None, "05-01 00:00", Timeliness.RUNNING),
    ],
)  # fmt: skip
def test_days_decide_who_is_early_and_who_is_late(due: str | None, finished: str | None, now: str, how: str) -> None:
    events = told(fact("04-23 10:00", "2", due=at(due) if due else None))
    if finished:
        events += told(fact(finished, "9"))
    assert story_of([CODE], events, at(now)).timeliness is how


@pytest.mark.parametrize(
    "status, how",
    [("1", "not-counted"), ("3", "not-counted"), ("5", "paused"), ("6", "paused"), ("7", "withdrawn"), ("8", "paused")],
)
def test_a_dossier_that_is_not_worked_on_is_neither_late_nor_on_time(status: str, how: str) -> None:
    events = told(fact("04-23 10:00", status, due=at("04-24 17:00")))
    assert story_of([CODE], events, at("06-01 00:00")).timeliness == how


def test_the_moment_that_a_message_states_beats_the_one_at_which_it_says_so() -> None:
    events = told(
        fact("04-23 10:00", "2", received=at("04-22 16:00")), fact("04-25 08:00", "9", finished=at("04-24 16:00"))
    )
    story = story_of([CODE], events, at("05-01 00:00"))
    assert (story.received_at, story.finished_at) == (at("04-22 16:00"), at("04-24 16:00"))
    assert story.status_since == at("04-25 08:00")


def test_the_end_is_when_the_work_was_done_not_when_the_paper_was_handed_out() -> None:
    events = told(fact("04-23 10:00", "2", due=at("04-24 17:00")), fact("04-24 15:00", "9"), fact("04-28 09:00", "10"))
    story = story_of([CODE], events, at("05-01 00:00"))
    assert (story.finished_at, story.timeliness) == (at("04-24 15:00"), Timeliness.ON_TIME)


def test_an_end_that_is_followed_by_work_was_none() -> None:
    """P11: provinces create dossiers that stand at 5, 6 or 8 as 9, and go on."""
    events = told(fact("04-23 10:00", "9", due=at("04-24 17:00"), finished=at("04-23 10:00")), fact("04-23 11:00", "4"))
    story = story_of([CODE], events, at("04-28 00:00"))
    assert (story.finished_at, story.timeliness) == (None, Timeliness.OVERDUE)


def test_a_step_out_of_turn_is_marked_and_taken() -> None:
    events = told(*(fact(f"04-23 1{hour}:00", status) for hour, status in enumerate(["1", "2", "2", "4", "2", "10"])))
    events.insert(2, replace(events[2], fact=replace(events[2].fact, status=None, said="lạ")))
    story = story_of([CODE], events, at("05-01 00:00"))
    assert [(step.status, step.said, step.legal) for step in story.steps] == [
        ("1", "1", True), ("2", "2", True), (None, "lạ", True), ("4", "4", True), ("2", "2", False),
        ("10", "10", False),
    ]  # fmt: skip
    assert story.status == "10"


def test_who_holds_it_since_when_and_what_was_paid_and_posted() -> None:
    story = story_of(
        [CODE],
        told(
            fact("04-23 10:00", "2", holder="H99.15"),
            fact("04-23 11:00", "4", holder="Phòng Tư pháp"),
            fact("04-23 12:00", "4", holder="Phòng Tư pháp"),
            fact("04-23 13:00", amount=3_000_000_000, payment_reference="R1", payment_state="requested"),
            fact("04-23 14:00", amount=3_000_000_000, payment_reference="R1", payment_state="paid"),
            fact("04-23 14:01", payment_reference="R1", payment_state="paid"),  # the same notice again
            fact("04-23 15:00", parcel="HC000000001VN", parcel_state="collected"),
            fact("04-23 16:00", parcel="HC000000001VN", parcel_state="delivered"),
        ),
        at("04-24 00:00"),
    )
    assert (story.holder, story.holder_since) == ("Phòng Tư pháp", at("04-23 11:00"))
    (payment,) = story.payments
    assert (payment.amount, payment.state, payment.exchange_ids) == (3_000_000_000, "paid", (3, 4, 5))
    assert [(parcel.code, parcel.state) for parcel in story.parcels] == [("HC000000001VN", "delivered")]


def test_a_dossier_of_which_nothing_was_said_has_an_empty_story() -> None:
    story = story_of([CODE], [], JULY)
    assert (story.status, story.received_at, story.holder, story.steps) == (None, None, None, ())


# ── the tables of statuses ────────────────────────────────────────────────────────────────────────────────────────────


def test_transitions_lead_to_statuses_that_exist_and_ends_are_ends() -> None:
    assert {after for status in DOSSIER_STATUSES.values() for after in status.next} <= DOSSIER_STATUSES.keys()
    assert {code for code, status in DOSSIER_STATUSES.items() if not status.next} == {"3", "7", "10"}
    assert may_follow("9", "10")
    assert may_follow("4", "4")
    assert may_follow("99", "4")  # a list that is newer than this one
    assert not may_follow("10", "4")


@pytest.mark.parametrize("name", sorted(LOCAL_STATUSES))
def test_every_local_list_leads_to_national_statuses(name: str) -> None:
    assert set(LOCAL_STATUSES[name].national.values()) <= {*DOSSIER_STATUSES, ""}
    assert "" not in LOCAL_STATUSES[name].national


# ── rates ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "part, whole, rate",
    [
        (5754, 5757, "99.95"),  # Hà Đông, first half of the year
        (1793, 1795, "99.89"),  # Bình Thuận, April 2025
        (105121, 105163, "99.96"),  # Hòa Bình, first quarter of 2019
        (14064, 14101, "99.74"),  # Vĩnh Phúc, third quarter of 2021
        (999_999, 1_000_000, "99.99"),  # never 100.00 with one late
        (7, 7, "100.00"),
        (0, 3, "0.00"),
        (0, 0, None),
    ],
)
def test_rates_are_those_that_provinces_publish(part: int, whole: int, rate: str | None) -> None:
    assert percent(part, whole) == (Decimal(rate) if rate else None)


# ── many dossiers ─────────────────────────────────────────────────────────────────────────────────────────────────────

Row = tuple[Any, ...]


def dossier_rows(
    code: str, unit: str, start: datetime, due: datetime | None, end: datetime | None, **facts: Any
) -> list[Row]:
    """What the ledger would tell of a dossier: received, in work, and finished if it was."""
    said = {"channel": "1", "synchronised": 1} | facts
    moments = [("2", start), ("4", start + timedelta(minutes=5))]
    moments += [("9", end), ("10", end + timedelta(days=2))] if end else []
    values = {
        "dossier": code,
        "unit": unit,
        "received": None,
        "finished": None,
        "procedure": None,
        "due": due and to_micros(due),
    }
    return [
        tuple((values | said | {"status": status, "at": to_micros(moment)})[name] for name in MILESTONE_COLUMNS)
        for status, moment in moments
    ]


def generated(unit: str, counts: Sequence[tuple[int, int | None]], *, online: int = 0) -> Iterator[Row]:
    """``(how many, days that they finish after their due date, None: still open)``: records that are invented."""
    number = 0
    for many, days in counts:
        for _ in range(many):
            number += 1
            start = JANUARY + timedelta(days=number % 150, hours=8)
            due = start + timedelta(days=15)
            end = None if days is None else due + timedelta(days=days)
            code = f"{unit}-{start:%y%m%d}-{number:06}"
            yield from dossier_rows(code, unit, start, due, end, channel="2" if number <= online else "1")


def figures_of(rows: Iterator[Row], **options: Any) -> Statistics:
    return statistics_of(rows, JANUARY, JULY, JULY, **options)


def test_ha_dong_has_99_95_percent() -> None:
    """S1-1: 6,333 dossiers, 3,387 of them online; 4 early, 5,750 on time and, as the rate implies, 3 late."""
    counts = [(4, -1), (5750, 0), (3, 1), (6333 - 5757, None)]
    (unit,) = figures_of(generated("H26.20", counts, online=3387)).units
    assert (unit.received, unit.online, unit.returned) == (6333, 3387, 5757)
    assert (unit.early, unit.on_time, unit.late, unit.in_progress) == (4, 5750, 3, 576)
    assert unit.on_time_percent == Decimal("99.95")


def test_hai_phong_has_the_totals_of_its_first_six_months() -> None:
    """S0-2: 26,690 received and 21,594 returned in 212 communes; 5,096 are still open."""

    def rows() -> Iterator[Row]:
        for commune in range(212):
            received = 26690 // 212 + (commune < 26690 % 212)
            returned = 21594 // 212 + (commune < 21594 % 212)
            yield from generated(f"H24.90.{commune:03}", [(returned, 0), (received - returned, None)])

    found = figures_of(rows())
    assert len(found.units) == 212
    assert (found.total.received, found.total.returned, found.total.in_progress) == (26690, 21594, 5096)
    assert percent(found.total.returned, found.total.received) == Decimal("80.91")


def test_what_is_not_a_unit_s_work_is_not_counted() -> None:
    start, due = JANUARY + timedelta(days=3), JANUARY + timedelta(days=9)
    rows = [
        *dossier_rows("a", "H99.15", start, due, due),
        *dossier_rows("b", "H99.15", start, None, due),  # nobody said until when
        *dossier_rows("c", "H99.15", start - timedelta(days=30), due, due),  # came in before the period
        *dossier_rows("d", "H99.15", start, due, JULY + timedelta(days=1)),  # finished after it
        *dossier_rows("e", "H99.15", start, due, None, synchronised=0),
        ("f", "H99.15", to_micros(start), "3", to_micros(start), None, None, "1", 0),  # refused at the counter
        ("g", "H99.15", to_micros(start), "7", to_micros(start), None, None, "1", 1),  # taken back
        *dossier_rows("h", "H99.16", start, due, due),
    ]  # fmt: skip
    found = statistics_of(rows, JANUARY, JULY, JULY, unit="H99.15", list_most=10)
    (unit,) = found.units
    assert (unit.received, unit.returned, unit.on_time, unit.without_due_date) == (5, 3, 2, 1)
    assert (unit.in_progress, unit.overdue, unit.withdrawn) == (1, 1, 1)
    assert (unit.synchronised, unit.sync_percent, found.not_synchronised) == (4, Decimal("80.00"), ("e",))


# ── in the store ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    ring = KeyRing.open_or_create(tmp_path / "ring", SystemCode("H99/lgsp-bus"))
    made = House(store_url=f"sqlite:///{tmp_path / 'lgsp.db'}", ring=ring, log_key=NoteKey.generate("test.invalid/log"))
    migrate(made.store)
    with made.store.writing() as connection:
        made.log.prepare(connection)
    yield made
    made.close()


def record(house: House, *facts: DossierFact, dossier: str = "") -> int:
    new = house.new(dossier=DossierCode(dossier) if dossier else None)
    return house.ledger.record(replace(new, dossier_facts=facts)).exchange_id


def statistics(house: House, **options: Any) -> Statistics:
    return statistics_of(house.ledger.milestones(JANUARY, JULY), JANUARY, JULY, JULY, **options)


def test_what_a_message_said_is_kept_with_it_and_once(house: House) -> None:
    said = fact("04-23 10:00", "2", due=at("04-24 17:00"), amount=3_000_000_000, holder="Phòng Tư pháp", parcel="HC1")
    new = replace(house.new(), dossier_facts=(said,))
    first = house.ledger.record(new)
    assert house.ledger.record(new).repeated
    (event,) = house.ledger.said_of_dossier(CODE)
    assert (event.exchange_id, event.fact, event.delivered) == (first.exchange_id, said, False)
    assert [record.id for record in house.ledger.of_dossier(CODE)] == [first.exchange_id]
    house.must_hold()


def test_messages_that_speak_of_a_dossier_are_its_messages_like_those_that_name_it(house: House) -> None:
    named = record(house, dossier=CODE)
    other = replace(fact("04-23 10:00", "4"), dossier="H99.15-260423-0002")
    batch = record(house, fact("04-23 10:00", "4"), other)
    record(house, other)
    assert [each.id for each in house.ledger.of_dossier(CODE)] == [named, batch]


def test_codes_that_a_message_joins_are_one_dossier_whichever_is_asked_for(house: House) -> None:
    national, local, third = "G22.99-260423-000001", CODE, "H99.15-260423-57321"
    record(house, replace(fact("04-23 09:00", "1"), dossier=national, unit=None))
    record(house, fact("04-23 10:00", "2", due=at("04-24 17:00")))
    assert statistics(house).total.received == 1
    record(house, fact("04-23 10:05", aliases=(third,)))
    record(house, replace(fact("04-23 10:10"), dossier=third, aliases=(national,)))
    record(house, replace(fact("04-24 10:10", "9"), dossier=national, unit=None, aliases=(local,)))  # a ring
    for code in (national, local, third):
        assert set(house.ledger.codes_of_dossier(code)) == {national, local, third}
        assert house.ledger.codes_of_dossier(code)[0] == CODE
    total = statistics(house).total
    assert (total.received, total.returned, total.on_time) == (1, 1, 1)


def test_a_dossier_is_at_the_portal_when_the_portal_took_it(house: House) -> None:
    record(house, fact("04-23 10:00", "2", synchronises=True))
    assert statistics(house, list_most=5).not_synchronised == (CODE,)
    (claim,) = house.claim()
    house.settle(claim, State.DELIVERED)
    assert statistics(house).total.sync_percent == Decimal("100.00")
    assert house.ledger.said_of_dossier(CODE)[0].delivered


def test_a_period_costs_what_happened_in_it(house: House) -> None:
    """Nothing scans: whoever looks at one month does not pay for the years before."""
    record(house, fact("04-23 10:00", "2"))
    seen = statements_of(house.store)
    statistics(house)
    query = next(each for each in seen if "WITH chosen" in each)
    with house.store.reading() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")]
    for table in ("dossier_events", "said"):
        assert not [step for step in plan if step.startswith(f"SCAN {table}")], plan
    assert sum("USING INDEX dossier_events_" in step or "COVERING INDEX dossier_events_" in step for step in plan) >= 4


def test_a_month_of_thirty_thousand_dossiers_is_told_from_the_store(house: House) -> None:
    """A tenth of it here; the whole is measured by hand (the number stands in docs/operations.md)."""
    exchange = record(house)
    rows = [
        {"exchange_id": exchange, "number": number, "dossier": f"H99.15-2604{day:02}-{sequence:04}", "unit": "H99.15",
         "at": to_micros(at(f"04-{day:02} 10:00") + timedelta(hours=step)), "status": status, "said": status,
         "due": to_micros(at(f"04-{day:02} 17:00")), "synchronises": 0}
        for number, (day, sequence, step, status) in enumerate(
            (day, sequence, step, status)
            for day in range(1, 31) for sequence in range(100) for step, status in enumerate(["2", "4", "9", "10"])
        )
    ]  # fmt: skip
    with house.store.writing() as connection:
        connection.execute(insert(dossier_events), rows)
    total = statistics(house).total
    assert (total.received, total.returned, total.on_time) == (3000, 3000, 3000)
