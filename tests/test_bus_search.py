"""Finding messages among a hundred thousand, on both stores: the right ones, in order, by an index and never by reading
everything."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from itertools import islice, product
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, event, update

from bus.cli import lgsp
from bus.records import FoundMessage, State, Wanted
from bus.search import search, search_page
from bus.tables import deliveries
from schemas.identifiers import AgencyCode, DossierCode, ServiceCode, SystemCode
from schemas.moment import to_micros
from security.evidence.checkpoint import NoteKey
from security.keys import KeyRing
from tests.bus_world import RECEIVER, SENDER, bus_world, post
from tests.ledger_house import NOON, House

MESSAGES = 100_000
#: One message a minute, the last one at noon.
BEGINNING = NOON - timedelta(minutes=MESSAGES - 1)

# Every fifth message comes from one big office; each of the others sends one in 250. Every second goes to one receiver.
# One service in a thousand messages is rare. Every 500th is dead, every 501st under way, of the last 2,000 every tenth
# waits, every 70th of those in a line of its dossier.
_SERIES = "WITH RECURSIVE series(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM series WHERE n < {last}) "
_EXCHANGES = (
    "INSERT INTO exchanges (id, message_id, facts_sha256, manifest_sha256, manifest, receipt, sender, sender_system, "
    "service, service_version, pattern, grade, dossier, received_at, traceparent) "
    "{series} SELECT n * 2, '01938c00-0000-7000-8000-' || substr('00000000000' || n, -12), 'f', 'm', '{{}}', 'r', "
    "'H99.' || CASE WHEN n % 5 = 0 THEN 10 ELSE 100 + n % 200 END, 'H99.15/mot-cua', "
    "CASE WHEN n % 1000 = 7 THEN 'service.rare' WHEN n % 2 = 0 THEN 'dossier.transfer' ELSE 'dossier.note' END, 1, "
    "'one-way', 'signed', CASE WHEN n % 10 = 0 THEN 'H99.15-260101-' || substr('000' || (n / 100), -4) END, "
    "{beginning} + CAST(n AS BIGINT) * 60000000, 't' FROM series"
)
_DELIVERIES = (
    "INSERT INTO deliveries (id, exchange_id, receiver, system, state, attempt, ordering_key, attempts_before, "
    "retry_since) {series} SELECT CAST(n AS BIGINT) * 2048, n * 2, "
    "'G10' || CASE WHEN n % 2 = 0 THEN '' ELSE '.' || (100 + n % 200) END, 'G10/kho', "
    "CASE WHEN n % 500 = 3 THEN 'dead' WHEN n % 501 = 5 THEN 'delivering' "
    "WHEN n > {recent} AND n % 10 = 1 THEN 'waiting' ELSE 'delivered' END, 1, "
    "CASE WHEN n % 70 = 1 THEN 'line' END, 0, 0 FROM series"
)
_OUTBOX = (
    "INSERT INTO outbox (id, delivery_id, system, due_at) SELECT id, id, system, 0 FROM deliveries "
    "WHERE state = 'waiting' AND ordering_key IS NULL"
)


def fill(connection: Connection, messages: int = MESSAGES) -> None:
    """Messages enough for plans to matter, made by the store itself."""
    series = _SERIES.format(last=messages - 1)
    negative = "-12" if connection.dialect.name == "sqlite" else ""
    for template in (_EXCHANGES, _DELIVERIES, _OUTBOX):
        statement = template.format(series=series, beginning=to_micros(BEGINNING), recent=messages - 2000)
        if not negative:  # PostgreSQL counts from the end by another name
            statement = statement.replace("%", "%%")
            statement = re.sub(r"substr\(('0+' \|\| (?:n|\(n / 100\))), -(\d+)\)", r"right(\1, \2)", statement)
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql("ANALYZE")


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, new_store: Callable[[str, Path], str]
) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("search")
    ring = KeyRing.open_or_create(folder / "ring", SystemCode("H99/lgsp-bus"))
    key = NoteKey.generate("test.invalid/log")
    house = House(store_url=new_store(request.param, folder), ring=ring, log_key=key)
    with house.store.writing() as connection:
        fill(connection)
    yield house
    house.close()


AGENCIES = [None, AgencyCode("H99.10"), AgencyCode("H99.101"), AgencyCode("G10"), AgencyCode("G10.101")]
STATES = [None, *State]
SERVICES = [None, ServiceCode("dossier.note"), ServiceCode("service.rare")]
TIMES: list[tuple[datetime | None, datetime | None]] = [
    (None, None),
    (NOON - timedelta(days=3), None),
    (BEGINNING + timedelta(days=1), BEGINNING + timedelta(days=2)),
]


@cache
def _facts() -> list[tuple[int, str, str, str, State, datetime]]:
    """What the house was filled with: number, sender, receiver, service, state and moment, newest first."""
    return [_fact(number) for number in range(MESSAGES - 1, -1, -1)]


def _fact(number: int) -> tuple[int, str, str, str, State, datetime]:
    sender = "H99.10" if number % 5 == 0 else f"H99.{100 + number % 200}"
    receiver = "G10" if number % 2 == 0 else f"G10.{100 + number % 200}"
    service = "service.rare" if number % 1000 == 7 else "dossier.transfer" if number % 2 == 0 else "dossier.note"
    state = State.DELIVERED
    if number % 500 == 3:
        state = State.DEAD
    elif number % 501 == 5:
        state = State.DELIVERING
    elif number > MESSAGES - 2000 and number % 10 == 1:
        state = State.WAITING
    return number, sender, receiver, service, state, BEGINNING + timedelta(minutes=number)


def _expected(wanted: Wanted) -> list[int]:
    since, until = wanted.since or BEGINNING, wanted.until or NOON + timedelta(minutes=1)
    fitting = (
        number * 2 for number, at in _fitting(wanted.agency, wanted.service, wanted.state) if since <= at < until
    )
    return list(islice(fitting, wanted.limit))


@cache
def _fitting(
    agency: AgencyCode | None, service: ServiceCode | None, of_state: State | None
) -> list[tuple[int, datetime]]:
    return [
        (number, at)
        for number, sender, receiver, of, state, at in _facts()
        if (agency is None or agency in (sender, receiver))
        and (service is None or service == of)
        and (of_state is None or of_state is state)
    ]


COMBINATIONS = list(product(AGENCIES, STATES, SERVICES, TIMES))


@pytest.mark.parametrize("part", range(5))
def test_every_combination_finds_what_fits_newest_first(house: House, part: int) -> None:
    """A fifth of all combinations each (225 in all); the answers are computed a second time in Python."""
    for agency, state, service, (since, until) in COMBINATIONS[part::5]:
        wanted = Wanted(agency=agency, state=state, service=service, since=since, until=until, limit=7)
        found = [message.exchange_id for message in house.ledger.search(wanted)]
        assert found == _expected(wanted), wanted


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(limit=300),
        Wanted(agency=AgencyCode("H99.101"), limit=50),
        Wanted(state=State.WAITING, limit=33),
        Wanted(state=State.DEAD, agency=AgencyCode("G10"), limit=50),
    ],
    ids=str,
)
def test_pages_join_without_a_gap_or_a_double(house: House, wanted: Wanted) -> None:
    whole, before = [], None
    for _ in range(4):
        page = house.ledger.search(Wanted(**{name: getattr(wanted, name) for name in _NAMES} | {"before": before}))
        whole += [message.exchange_id for message in page]
        before = page[-1].exchange_id if page else before
    longer = Wanted(**{name: getattr(wanted, name) for name in _NAMES} | {"limit": wanted.limit * 4})
    assert whole == _expected(longer)


@pytest.mark.parametrize("part", range(5))
def test_short_looks_find_the_same(house: House, part: int) -> None:
    """However few rows a page looks at: pages together are the whole, none is stuck, and each says how far it is."""
    for agency, state, service, (since, until) in COMBINATIONS[part::15]:
        wanted = Wanted(agency=agency, state=state, service=service, since=since, until=until, limit=9)
        whole, before, pages = [], None, 0
        with house.store.reading() as connection:
            while len(whole) < 9 and pages < 80:
                page = search_page(connection, replace(wanted, before=before), rows=1500)
                whole += [message.exchange_id for message in page.messages]
                pages, earlier, before = pages + 1, before, page.before
                if before is None:
                    break
                assert earlier is None or before < earlier
                assert page.looked_back_to == BEGINNING + timedelta(minutes=-(-before // 2))
        assert whole[:9] == _expected(wanted), wanted


PAIRS = [
    (AgencyCode(sender), AgencyCode(receiver))
    for sender, receiver in [("H99.10", "G10"), ("H99.101", "G10.101"), ("H99.10", "G10.105"), ("H99.102", "G10"),
                             ("H99.101", "G10"), ("H99.101", "G10.103")]
]  # fmt: skip


@pytest.mark.parametrize("sender, receiver", PAIRS)
def test_what_one_sent_to_the_other_is_found_however_short_one_looks(
    house: House, sender: AgencyCode, receiver: AgencyCode
) -> None:
    for state, service, agency, rows in product((None, State.DELIVERED, State.DEAD), SERVICES[:2], (None, sender),
                                                (2000, 300)):  # fmt: skip
        wanted = Wanted(sender=sender, receiver=receiver, state=state, service=service, agency=agency, limit=20)
        expected = [
            number * 2
            for number, at_sender, at_receiver, of, of_state, _ in _facts()
            if (at_sender, at_receiver) == (sender, receiver)
            and service in (None, of)
            and (state is None or state is of_state)
        ]
        found, before = [], None
        with house.store.reading() as connection:
            for _ in range(4):
                page = search_page(connection, replace(wanted, before=before), rows=rows)
                found += [message.exchange_id for message in page.messages]
                before = page.before
                if before is None:
                    assert found == expected, wanted
                    break
        assert found == expected[: len(found)], wanted


def test_sender_and_receiver_stand_for_themselves_too(house: House) -> None:
    big, other = AgencyCode("H99.10"), AgencyCode("G10.101")
    assert {each.sender for each in house.ledger.search(Wanted(sender=big, limit=5))} == {big}
    assert {each.deliveries[0].receiver for each in house.ledger.search(Wanted(receiver=other, limit=5))} == {other}
    assert house.ledger.search(Wanted(receiver=other, agency=big, limit=5)) == []
    page = house.ledger.search_page(Wanted(sender=big, receiver=other))
    assert (page.messages, page.before) == ((), None), "the receiver's few were looked through"


def test_a_page_that_ends_between_deliveries_of_a_message_loses_none(
    tmp_path: Path, new_store: Callable[[str, Path], str]
) -> None:
    ring = KeyRing.open_or_create(tmp_path / "ring", SystemCode("H99/lgsp-bus"))
    house = House(store_url=new_store("sqlite", tmp_path), ring=ring, log_key=NoteKey.generate("test.invalid/log"))
    theirs, others = AgencyCode("H99.31"), AgencyCode("H99.32")
    with house.store.writing() as connection:
        fill(connection, messages=2)
        connection.execute(update(deliveries).values(state="dead", receiver=others))
        connection.exec_driver_sql(
            "INSERT INTO deliveries (id, exchange_id, receiver, system, state, attempt, attempts_before, retry_since) "
            "SELECT 1, 0, receiver, system, state, attempt, 0, 0 FROM deliveries WHERE id = 0"
        )
        connection.execute(update(deliveries).where(deliveries.c.id == 0).values(receiver=theirs))
    wanted = Wanted(agency=theirs, state=State.DEAD)
    with house.store.reading() as connection:
        first = search_page(connection, wanted, rows=2)
        assert (first.messages, first.before) == ((), 1)
        second = search_page(connection, replace(wanted, before=first.before), rows=2)
        assert [message.exchange_id for message in second.messages] == [0]
        assert [message.exchange_id for message in search(connection, wanted)] == [0]
    house.close()


_NAMES = ("agency", "service", "state", "dossier", "since", "until", "before", "limit")


def test_what_is_found_says_who_has_it(house: House) -> None:
    (found,) = house.ledger.search(Wanted(limit=1))
    last = MESSAGES - 1
    assert (found.exchange_id, found.received_at, found.sender) == (last * 2, NOON, "H99.299")
    assert [(each.receiver, each.state) for each in found.deliveries] == [("G10.299", State.DELIVERED)]
    of_dossier = house.ledger.search(Wanted(dossier=DossierCode("H99.15-260101-0042")))
    assert len(of_dossier) == 10
    assert {message.dossier for message in of_dossier} == {"H99.15-260101-0042"}


def test_a_page_has_an_upper_bound(house: House) -> None:
    assert len(house.ledger.search(Wanted(limit=100_000))) == 500


PLANNED = [
    Wanted(),
    Wanted(agency=AgencyCode("H99.101")),
    Wanted(agency=AgencyCode("G10.101")),
    Wanted(agency=AgencyCode("H99.10"), since=NOON - timedelta(days=1)),
    Wanted(service=ServiceCode("service.rare")),
    Wanted(service=ServiceCode("dossier.note"), until=BEGINNING + timedelta(days=20)),
    Wanted(dossier=DossierCode("H99.15-260101-0042")),
    Wanted(dossier=DossierCode("H99.15-260101-0042"), agency=AgencyCode("H99.10")),
    *(Wanted(state=state) for state in State),
    Wanted(sender=AgencyCode("H99.10"), receiver=AgencyCode("G10")),
    Wanted(sender=AgencyCode("H99.10"), receiver=AgencyCode("G10"), state=State.DEAD),
    Wanted(state=State.DEAD, service=ServiceCode("dossier.note")),
    Wanted(state=State.WAITING, agency=AgencyCode("G10.101")),
    Wanted(since=NOON - timedelta(hours=5), until=NOON - timedelta(hours=4)),
]


@pytest.mark.parametrize("wanted", PLANNED, ids=str)
def test_no_question_reads_a_whole_table(house: House, wanted: Wanted) -> None:
    for plan in _plans(house, wanted):
        assert not re.search(r"Seq Scan on (exchanges|deliveries)", plan), plan
        # SQLite calls it a scan where it goes along a whole table or index; along a part of one it searches. An index
        # of what is under way or dead is short.
        small = "deliveries_(?:leased|dead|in_order)"
        assert not re.search(rf"SCAN (exchanges|deliveries)\b(?! USING INDEX {small})", plan), plan
        for _, rows in re.findall(r"(Index.*?Scan[^\n]*)actual[^\n]*rows=(\d+)", plan):
            assert int(rows) < 5_000, plan


def test_what_waits_is_found_by_the_short_indexes(house: House) -> None:
    """A search along the primary key would look at every message there ever was."""
    if house.store.is_sqlite:
        plans = "\n".join(_plans(house, Wanted(state=State.WAITING)))
        assert "deliveries USING INDEX deliveries_in_order" in plans
        assert re.search(r"(SEARCH|SCAN) outbox", plans)
        assert not re.search(r"SEARCH deliveries USING INTEGER PRIMARY KEY \(rowid>", plans)


def _plans(house: House, wanted: Wanted) -> list[str]:
    """The plan of each statement of a search that looks at more than the newest id."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(house.store.engine, "before_cursor_execute", note)
    try:
        house.ledger.search(wanted)
    finally:
        event.remove(house.store.engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN " if house.store.is_sqlite else "EXPLAIN ANALYZE "
    plans = []
    with house.store.reading() as connection:
        for statement, parameters in asked:
            rows = connection.exec_driver_sql(explain + statement, parameters)
            plans.append(statement + "\n" + "\n".join(str(row[-1]) for row in rows))
    return [plan for plan in plans if "max(exchanges.id)" not in plan]


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_finds_and_says_so(tmp_path: Path) -> None:
    with bus_world(tmp_path) as world, world.serving() as url:
        messages = [world.signed() for _ in range(3)]
        for message in messages:
            assert post(url, message).status == 202
        home = ["--home", str(world.settings.home), "search"]

        def run(*arguments: str) -> Any:
            return CliRunner().invoke(lgsp, [*home, *arguments], env={"COLUMNS": "200"})

        told = run("--agency", SENDER, "--state", "waiting")
        assert told.exit_code == 0, told.output
        assert all(message.manifest.message_id in told.output for message in messages)
        document = json.loads(run("--agency", RECEIVER, "--limit", "2", "--json").output)
        newest = [message["message_id"] for message in document["messages"]]
        assert newest == [message.manifest.message_id for message in (messages[2], messages[1])]
        assert document["messages"][0]["deliveries"][0]["state"] == "waiting"
        page = run("--before", str(document["messages"][1]["number"]))
        assert messages[0].manifest.message_id in page.output
        assert "There may be more" in run("--limit", "1").output
        assert run("--sender", SENDER, "--receiver", RECEIVER).output == told.output
        assert run("--sender", RECEIVER).exit_code == 1
        nothing = run("--service", "document.send")
        assert (nothing.exit_code, nothing.output) == (1, "Nothing fits.\n")
        assert run("--since", "tomorrow").exit_code == 2
        assert run("--agency", "not an agency").exit_code == 2


def test_found_messages_carry_nothing_of_their_content() -> None:
    assert not {"body", "manifest_jws", "receipt_jws"} & set(FoundMessage.__slots__)  # type: ignore[attr-defined]
