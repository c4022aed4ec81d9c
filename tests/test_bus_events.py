"""Events: once under each id, in order, to those who may see them and nobody else; on both stores."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
from click.testing import CliRunner

from bus.cli import lgsp
from bus.event_store import EventStore
from bus.records import Settlement, State
from bus.tables import delivery_id
from connectors.base import Letter
from registry.changes import plan_changes
from registry.dossier_view import DossierFact
from registry.manifests import document_of, parse_manifest, plan
from registry.model import Agency, EventDelivery, Grant, Service, Stage, Subscription
from schemas.codec import write_json
from schemas.events import DOSSIER_CHANGED, EVENT_SERVICE, MEDIA_TYPE, REGISTRY_CHANGED, code_or_none
from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from schemas.moment import utc_now
from schemas.problem import Malformed, ProviderUnavailable
from schemas.validation import compile_schema
from security.evidence.checkpoint import NoteKey
from security.keys import KeyRing
from tests.bus_world import (
    ANSWERING,
    OPERATOR,
    RECEIVING,
    SENDING,
    SUSPENDED,
    UNGRANTED,
    World,
    ask,
    bus_world,
    delivering,
    key_of,
)
from tests.events_world import ASK, STATE, SUBSCRIPTION, VIEW, Clock, Listed, accept, mover, run, services, state
from tests.ledger_house import House, prepare
from tests.postgresql import PrivateServer, private_postgresql

FIRST, SECOND, THIRD = "H99.15-261121-0001", "H99.15-261121-0002", "H99.16-261121-0003"


@pytest.fixture(scope="module")
def postgresql(missing_service: Callable[[str], NoReturn]) -> Iterator[PrivateServer]:
    with private_postgresql(missing_service) as server:
        yield server


@pytest.fixture(scope="module")
def template(postgresql: PrivateServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with the tables and nothing in them."""
    name = postgresql.new_database()
    ring = KeyRing.open_or_create(tmp_path_factory.mktemp("ring"), SystemCode(OPERATOR))
    prepare(House(store_url=postgresql.url(name), ring=ring, log_key=NoteKey.generate("test.invalid/log")))
    return name


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path) as world:
        world.register(*services())
        yield world


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    settings: dict[str, object] = {}
    if request.param == "postgresql":
        server: PrivateServer = request.getfixturevalue("postgresql")
        settings["store_url"] = server.url(server.new_database(request.getfixturevalue("template")))
    with bus_world(tmp_path, **settings) as world:
        world.register(*services())
        yield world


def began(world: World, *subscriptions: Subscription, queues: Listed | None = None) -> tuple[Any, Listed]:
    """A mover that has seen these subscriptions."""
    queues = queues or Listed()
    world.register(*subscriptions)
    events = mover(world, queues)
    run(events)
    return events, queues


# ── what is told ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_status_is_an_event_in_codes_and_moments(world: World) -> None:
    events, queues = began(world, SUBSCRIPTION)
    said = accept(
        world,
        {"items": [state(FIRST, "2", due="20261130170000", holder="H99.16", procedure="1.004194")]},
    )
    assert run(events) == 1
    (event,), (letter,) = queues.events(), queues.letters
    message_id = said.message.manifest.message_id
    assert event == {
        "specversion": "1.0",
        "id": event["id"],
        "source": "urn:lgsp:bus:H99/lgsp-bus",
        "type": DOSSIER_CHANGED,
        "subject": FIRST,
        "time": event["time"],
        "datacontenttype": "application/json",
        "sequence": f"{said.exchange_id:019d}.00000",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "data": {
            "dossier": FIRST,
            "status": "2",
            "due_at": "2026-11-30T10:00:00.000000Z",
            "holder": "H99.16",
            "unit": "H99.15",
            "procedure": "1.004194",
            "message_id": message_id,
            "service": STATE,
            "sender": "H99.15",
        },
    }
    assert letter.content_type == MEDIA_TYPE
    assert letter.topic == (DOSSIER_CHANGED, "H99.15")
    fits = world.bus.directory.current().service(EVENT_SERVICE, 1)
    assert fits is not None
    assert isinstance(fits.schema, Mapping)
    compile_schema(fits.schema).validate(letter.body, MEDIA_TYPE)


def test_only_news_is_told_and_in_order(world: World) -> None:
    events, queues = began(world, SUBSCRIPTION)
    accept(world, {"items": [state(FIRST, "2"), state(SECOND, "2")]})
    accept(world, {"items": [state(FIRST, "2")]})  # said again
    accept(world, {"items": [state(FIRST, "4"), state(FIRST)]})  # the second says nothing
    run(events)
    accept(world, {"items": [state(FIRST, "4")]})  # said again, after it was told
    accept(world, {"items": [state(FIRST, "4", due="20261130170000")]})
    accept(world, {"items": [state(FIRST, "2")]})  # back again is news
    run(events)
    assert [told for told in queues.told() if told[0] == FIRST] == [
        (FIRST, "2"), (FIRST, "4"), (FIRST, "4"), (FIRST, "2")
    ]  # fmt: skip
    assert queues.told().count((SECOND, "2")) == 1
    sequences = [event["sequence"] for event in queues.events()]
    assert sequences == sorted(sequences)
    assert len({event["id"] for event in queues.events()}) == len(sequences) == 5
    assert run(mover(world, queues)) == 0, "another program goes on where this one stands"


def test_what_is_one_dossier_under_two_codes_is_told_once(embedded: World) -> None:
    events, queues = began(embedded, SUBSCRIPTION)
    accept(embedded, {"items": [state(FIRST, "2", also="BK-77")]})
    accept(embedded, {"items": [state("BK-77", "2")]})
    accept(embedded, {"items": [state("BK-77", "4")]})
    run(events)
    assert queues.told() == [(FIRST, "2"), ("BK-77", "4")]


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({}, [FIRST, SECOND, THIRD]),
        ({"types": ("vn.gov.lgsp.dossier.*",)}, [FIRST, SECOND, THIRD]),
        ({"types": (REGISTRY_CHANGED,)}, []),
        ({"units": (AgencyCode("H99.15"),)}, [FIRST, SECOND]),
        ({"units": (AgencyCode("H99"),)}, [FIRST, SECOND, THIRD]),
        ({"units": (AgencyCode("G99"),)}, []),
        ({"procedures": ("1.000002",)}, [SECOND, SECOND]),
        ({"senders": (AgencyCode("H99.15"),)}, [FIRST, SECOND, THIRD]),
        ({"senders": (AgencyCode("G99"),)}, []),
        ({"units": (AgencyCode("H99.15"),), "procedures": ("1.000001",)}, [FIRST]),
    ],
)
def test_a_subscription_is_told_what_it_names(embedded: World, facts: dict[str, Any], told: list[str]) -> None:
    events, queues = began(embedded, replace(SUBSCRIPTION, **facts))
    accept(embedded, {"items": [state(FIRST, "2", procedure="1.000001")]})
    accept(embedded, {"items": [state(SECOND, "2", procedure="1.000002")]})
    accept(embedded, {"items": [state(THIRD, "2")]})
    if facts.get("procedures") == ("1.000002",):
        accept(embedded, {"items": [state(SECOND, "4")]})  # the procedure was said before
    run(events)
    assert [subject for subject, _ in queues.told()] == told


def test_an_answer_is_told_in_its_turn_even_when_it_comes_late(world: World) -> None:
    """Its row belongs to a message that was told of long ago; its place is that of its own evidence."""
    events, queues = began(world, replace(SUBSCRIPTION, system=ANSWERING))
    asked = accept(world, {}, service=ASK, receivers=("G99",))
    accept(world, {"items": [state(SECOND, "2")]}, receivers=("G99",))
    run(events)
    accept(world, {"items": [state(SECOND, "4")]}, receivers=("G99",))
    answer(world, asked.exchange_id, DossierFact(dossier=FIRST, at=utc_now(), status="4", unit="H99.15"))
    accept(world, {"items": [state(SECOND, "8")]}, receivers=("G99",))
    run(events)
    assert queues.told(ANSWERING) == [(SECOND, "2"), (SECOND, "4"), (FIRST, "4"), (SECOND, "8")]
    assert queues.events(ANSWERING)[2]["data"]["message_id"] == asked.message.manifest.message_id


def answer(world: World, exchange_id: int, fact: DossierFact) -> None:
    claim = world.bus.ledger.held_claim(delivery_id(exchange_id, 0), 1)
    assert claim is not None
    receipt, leaf = world.bus.evidence.delivered(claim, utc_now())
    assert world.bus.ledger.settle(
        Settlement(
            delivery_id=claim.delivery_id,
            attempt=claim.attempt,
            state=State.DELIVERED,
            started_at=utc_now(),
            finished_at=utc_now(),
            receipt_jws=receipt,
            leaf=leaf,
            dossier_facts=(fact,),
        )
    )


# ── nothing personal ──────────────────────────────────────────────────────────────────────────────────────────────────

PERSON = {
    "name": "Nguyễn Thị Mẫu",
    "plain": "Nguyen Van A",
    "citizen": "001099012345",
    "old": "012345678",
    "phone": "0912345678",
    "mail": "mau@example.vn",
    "street": "12 Lý Thái Tổ",
}


@pytest.mark.parametrize("text", [*PERSON.values(), "an", "", "a b1", "x" * 51, "CCCD-001099012345", "a1\n"])
def test_what_may_be_somebody_is_no_code(text: str) -> None:
    assert code_or_none(text) is None


@pytest.mark.parametrize("text", ["BK-77", "1.004194", FIRST, "000.00.15.H99-230423-0001", "GPLX-20261121000123"])
def test_what_names_a_matter_is(text: str) -> None:
    assert code_or_none(text) == text


def test_no_event_holds_anything_personal(embedded: World) -> None:
    """Whatever a message puts where its view looks for codes: a person's name as holder, a number as procedure or even
    as the dossier's code, and everything else beside them."""
    events, queues = began(embedded, SUBSCRIPTION, replace(SUBSCRIPTION, id="bus", system=OPERATOR))
    for number, text in enumerate(PERSON.values()):
        code = f"H99.15-261121-{number:04d}"
        accept(
            embedded,
            {
                "who": PERSON,
                "items": [
                    {**state(code, "2", holder=text, procedure=text, also=text, unit=text, note=text), **PERSON},
                    state(text, "4"),
                    state(f"H99.15-261121-1{number:04d}", text),
                    state(f"H99.15-261121-2{number:04d}", holder=text),
                ],
            },
            dossier=code,
        )
    run(events)
    assert {subject for subject, _ in queues.told()} == {f"H99.15-261121-{n:04d}" for n in range(len(PERSON))}
    sent = b"".join(letter.body + repr((letter.headers, letter.topic)).encode() for letter in queues.letters)
    for text in PERSON.values():
        assert text.encode() not in sent
        assert write_json(text)[1:-1] not in sent


# ── who is told ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_subscriber_is_told_of_messages_that_it_may_look_at(embedded: World) -> None:
    """The rule of GET /v1/dossiers: sender, receiver, or whoever speaks for them. The operator's system sees all."""
    everybody = (RECEIVING, SENDING, ANSWERING, UNGRANTED, SUSPENDED, SystemCode(OPERATOR))
    subscriptions = [replace(SUBSCRIPTION, id=f"s{n}", system=system) for n, system in enumerate(everybody)]
    events, queues = began(embedded, *subscriptions)
    accept(embedded, {"items": [state(FIRST, "2")]})
    accept(embedded, {"items": [state(FIRST, "4")]}, receivers=("G99",))
    run(events)
    assert queues.told(RECEIVING) == [(FIRST, "2")]
    assert queues.told(ANSWERING) == [(FIRST, "4")]
    assert queues.told(SENDING) == queues.told(OPERATOR) == [(FIRST, "2"), (FIRST, "4")]
    assert queues.told(UNGRANTED) == queues.told(SUSPENDED) == []
    twice = [event for event in queues.events(SENDING) if event["data"]["status"] == "2"]
    assert twice == queues.events(RECEIVING), "the same event, whoever is told"


def test_what_others_said_counts_for_nobody_else(embedded: World) -> None:
    """The ministry heard of status 4 by the second message only; that somebody else knew it before is not its news."""
    events, queues = began(embedded, replace(SUBSCRIPTION, system=ANSWERING))
    accept(embedded, {"items": [state(FIRST, "4")]})
    accept(embedded, {"items": [state(FIRST, "4")]}, receivers=("G99",))
    run(events)
    assert queues.told(ANSWERING) == [(FIRST, "4")]


def test_a_system_for_some_services_is_told_what_it_sent_itself(embedded: World) -> None:
    sending, asking = (embedded.bus.directory.current().system(each) for each in (SENDING, UNGRANTED))
    assert sending is not None
    assert asking is not None
    embedded.register(replace(sending, sends=(ServiceCode(STATE),)), replace(asking, speaks_for_children=True))
    events, queues = began(embedded, replace(SUBSCRIPTION, system=SENDING))
    accept(embedded, {"items": [state(FIRST, "2")]})
    accept(embedded, {"items": [state(SECOND, "2")]}, sender="H99.16", receivers=("H99.15",), key=key_of(RECEIVING))
    run(events)
    assert queues.told(SENDING) == [(FIRST, "2")]


def test_changes_of_the_registry_are_told_to_those_whom_they_concern(world: World) -> None:
    told_of = {"types": (REGISTRY_CHANGED,)}
    events, queues = began(
        world,
        replace(SUBSCRIPTION, id="kho", **told_of),
        replace(SUBSCRIPTION, id="bo", system=ANSWERING, **told_of),
        replace(SUBSCRIPTION, id="bus", system=OPERATOR, **told_of),
    )
    queues.letters.clear()
    mine = Grant(id="kho-moi", service=STATE, grantee=AgencyCode("H99.16"))
    draft = replace(services()[0], version=2, stage=Stage.DRAFT)  # type: ignore[type-var]
    world.register(mine, Agency(code=AgencyCode("H99.18"), name="Sở Mới"))
    world.register(draft)
    world.bus.registry.put_secret("x", b"sealed", "test")
    world.register(remove=[mine])
    run(events)

    def changes(system: str) -> list[str]:
        return [f"{e['data']['action']} {e['data']['kind']} {e['subject']}" for e in queues.events(system)]

    public = "added Agency H99.18"
    own = ["added Grant kho-moi", "removed Grant kho-moi"]
    assert sorted(changes(RECEIVING)) == sorted([public, *own])
    assert changes(ANSWERING) == [public]
    assert sorted(changes(OPERATOR)) == sorted([public, *own, f"added Service {STATE}/2"])
    revisions = [event["data"]["revision"] for event in queues.events(OPERATOR)]
    assert revisions == sorted(revisions)
    assert {"kind", "code", "action", "revision"} == set(queues.events(OPERATOR)[0]["data"])


# ── nothing lost, nothing invented ────────────────────────────────────────────────────────────────────────────────────


class Killed(BaseException):
    """The process ends here."""


def test_a_killed_mover_loses_nothing_and_repeats_under_the_same_id(world: World) -> None:
    clock, queues = Clock(), Listed()
    world.register(SUBSCRIPTION)
    run(mover(world, queues, clock))
    for number in range(5):
        accept(world, {"items": [state(FIRST, str(number + 2))]})

    def die(letter: Letter) -> None:
        if len(queues.letters) == 3:
            raise Killed

    queues.after = die
    with pytest.raises(Killed):
        run(mover(world, queues, clock))
    before = queues.events()
    queues.after = lambda letter: None
    another = mover(world, queues, clock)
    assert run(another) == 0, "its lease runs"
    clock.forward(seconds=61)
    assert run(another) == 5
    assert queues.events()[3:6] == before, "the same, byte for byte"
    assert [status for _, status in queues.told()[3:]] == ["2", "3", "4", "5", "6"]
    assert len({letter.message_id for letter in queues.letters}) == 5


def test_a_late_turn_does_not_move_the_cursor_back(world: World) -> None:
    clock, queues = Clock(), Listed()
    world.register(SUBSCRIPTION)
    slow = mover(world, queues, clock)
    run(slow)
    accept(world, {"items": [state(FIRST, "2"), state(FIRST, "4")]})
    quick = mover(world, Listed(), clock)

    def sleep_over_the_lease(letter: Letter) -> None:
        queues.after = lambda letter: None
        clock.forward(seconds=61)
        assert run(quick) == 2

    queues.after = sleep_over_the_lease
    slow.run_once()
    (cursor,) = EventStore(world.bus.store, world.bus.log).cursors()
    with world.bus.store.reading() as connection:
        assert cursor.position == world.bus.log.size(connection) - 1
    assert run(slow) == run(quick) == 0


def test_while_the_broker_is_away_events_wait_and_messages_go_on(embedded: World) -> None:
    clock, queues = Clock(), Listed()
    kho = embedded.bus.directory.current().system(RECEIVING)
    assert kho is not None
    by_message = replace(SUBSCRIPTION, id="thong-diep", system=ANSWERING, delivery=EventDelivery.MESSAGE)
    embedded.register(SUBSCRIPTION, replace(SUBSCRIPTION, id="sending", system=SENDING), by_message)
    events = mover(embedded, queues, clock)
    run(events)
    tried: list[Letter] = []

    def away(letter: Letter) -> None:
        tried.append(letter)
        raise ProviderUnavailable("mailbox-unreachable")

    queues.fails = away
    accept(embedded, {"items": [state(FIRST, "2")]}, receivers=("H99.16", "G99"))
    assert events.run_once() == 1, "the message"
    assert len(tried) == 1, "one wait for all queues"
    accept(embedded, {"items": [state(FIRST, "4")]}, receivers=("H99.16", "G99"))
    assert events.run_once() == 1
    queues.fails = lambda letter: None
    clock.forward(seconds=5)
    run(events)
    assert queues.told(RECEIVING) == queues.told(SENDING) == [(FIRST, "2"), (FIRST, "4")]


def test_a_full_queue_holds_up_its_own_subscriber_only(embedded: World) -> None:
    clock, queues = Clock(), Listed()
    embedded.register(SUBSCRIPTION, replace(SUBSCRIPTION, id="sending", system=SENDING))
    events = mover(embedded, queues, clock)
    run(events)

    def full(letter: Letter) -> None:
        if letter.mailbox == RECEIVING:
            raise ProviderUnavailable("mailbox-full")

    queues.fails = full
    for number in range(3):
        accept(embedded, {"items": [state(FIRST, str(number + 2))]})
        run(events)
    assert len(queues.told(SENDING)) == 3
    assert queues.told(RECEIVING) == []
    by_name = {cursor.subscription: cursor for cursor in EventStore(embedded.bus.store, embedded.bus.log).cursors()}
    assert by_name["kho"].problem == "mailbox-full"
    assert by_name["sending"].problem is None
    queues.fails = lambda letter: None
    clock.forward(seconds=300)
    run(events)
    assert queues.told(RECEIVING) == queues.told(SENDING)


def test_a_subscription_begins_now_and_one_that_ends_is_forgotten(world: World) -> None:
    accept(world, {"items": [state(FIRST, "2")]})
    events, queues = began(world, SUBSCRIPTION)
    accept(world, {"items": [state(FIRST, "4")]})
    run(events)
    world.register(remove=[SUBSCRIPTION])
    accept(world, {"items": [state(FIRST, "8")]})
    run(events)
    assert EventStore(world.bus.store, world.bus.log).cursors() == []
    world.register(SUBSCRIPTION)
    run(events)
    accept(world, {"items": [state(FIRST, "9")]})
    run(events)
    assert queues.told() == [(FIRST, "4"), (FIRST, "9")]


def test_a_suspended_system_is_told_nothing_and_goes_on_later_where_it_stood(embedded: World) -> None:
    events, queues = began(embedded, SUBSCRIPTION)
    kho = embedded.bus.directory.current().system(RECEIVING)
    assert kho is not None
    embedded.register(replace(kho, suspended=True))
    run(events)
    # Its agency gets no mail meanwhile; what the agency says itself is recorded.
    accept(embedded, {"items": [state(FIRST, "4")]}, sender="H99.15", receivers=("G99",))
    run(events)
    embedded.register(kho)
    accept(embedded, {"items": [state(SECOND, "2")]})
    run(events)
    assert queues.told() == [(SECOND, "2")]


def test_many_movers_and_many_writers_lose_nothing_and_double_nothing(world: World) -> None:
    """Positions are seen in order however commits follow one another, and one has a cursor at a time."""
    queues = Listed()
    world.register(SUBSCRIPTION)
    run(mover(world, queues))
    done = threading.Event()

    def write(writer: int) -> None:
        for number in range(25):
            accept(world, {"items": [state(f"H99.15-261121-{writer}{number:03d}", "2")]})

    def move() -> None:
        events = mover(world, queues)
        while not done.is_set():
            events.run_once()

    writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    movers = [threading.Thread(target=move) for _ in range(2)]
    for thread in (*writers, *movers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in movers:
        thread.join()
    run(mover(world, queues))
    ids = [event["id"] for event in queues.events()]
    assert len(ids) == len(set(ids)) == 100
    sequences = [event["sequence"] for event in queues.events()]
    assert sequences == sorted(sequences)


def test_a_message_of_more_words_than_one_turn_is_told_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.event_mover.MOST_AT_ONCE", 7)
    events, queues = began(world, SUBSCRIPTION)
    accept(world, {"items": [state(f"H99.15-261121-{n:04d}", "2") for n in range(40)]})
    accept(world, {"items": [state(FIRST, "4")]})
    assert run(events) == 41
    assert len({event["id"] for event in queues.events()}) == 41


# ── by message ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_by_message_an_event_takes_the_way_of_every_message(embedded: World) -> None:
    by_message = replace(SUBSCRIPTION, delivery=EventDelivery.MESSAGE)
    embedded.register(by_message)
    with embedded.serving() as url, delivering(embedded.bus):
        run(mover(embedded))
        accept(embedded, {"items": [state(FIRST, "2")]}, receivers=("H99.16",))
        mine = embedded.bearer(RECEIVING)
        found: list[Any] = []
        for _ in range(200):
            items = ask("GET", f"{url}/v1/inbox", headers=mine).json["deliveries"]
            found = [item for item in items if item["service"].startswith(EVENT_SERVICE)]
            if found:
                break
            threading.Event().wait(0.05)
        (item,) = found
        assert item["sender"] == "H99"
        record = embedded.bus.ledger.find(item["message_id"])
        assert record is not None
        assert record.service == EVENT_SERVICE
        assert record.dossier == FIRST
        body = embedded.bus.ledger.body_of(record.id)
    event = json.loads(body or b"")
    assert (event["type"], event["subject"], event["data"]["status"]) == (DOSSIER_CHANGED, FIRST, "2")


def test_told_again_by_message_it_is_the_same_message(world: World) -> None:
    clock = Clock()
    world.register(replace(SUBSCRIPTION, delivery=EventDelivery.MESSAGE))
    events = mover(world, now=clock)
    run(events)
    accept(world, {"items": [state(FIRST, "2")]})
    (cursor,) = EventStore(world.bus.store, world.bus.log).cursors()
    run(events)
    # As if the mover had died before it wrote how far it was.
    again = EventStore(world.bus.store, world.bus.log)
    (now,) = again.cursors()
    assert again.claim(now, clock(), timedelta(seconds=60))
    again.keep(now, cursor.place, free_at=clock())
    clock.forward(seconds=3)
    before = world.rows()
    assert run(mover(world, now=clock)) == 1
    assert world.rows()["exchanges"] == before["exchanges"]


def test_what_the_bus_may_not_send_waits_until_it_may(embedded: World) -> None:
    clock = Clock()
    grant = next(each for each in services() if isinstance(each, Grant) and each.id == "events")
    embedded.register(replace(SUBSCRIPTION, delivery=EventDelivery.MESSAGE), remove=[grant])
    events = mover(embedded, now=clock)
    run(events)
    accept(embedded, {"items": [state(FIRST, "2")]})
    for _ in range(5):
        assert run(events) == 0
    (cursor,) = EventStore(embedded.bus.store, embedded.bus.log).cursors()
    assert (cursor.problem, cursor.tries) == ("no-grant", 1), "refused once, then it rests"
    embedded.register(grant)
    clock.forward(seconds=3)
    assert run(events) == 1


def test_events_of_events_are_not_told(embedded: World) -> None:
    """Should somebody give the service of events a view, nothing goes round in circles."""
    service = next(each for each in services() if getattr(each, "code", "") == EVENT_SERVICE)
    events, queues = began(
        embedded,
        replace(service, dossier=replace(VIEW, items="", code="/subject", status="/data/status")),  # type: ignore[type-var]
        replace(SUBSCRIPTION, id="message", delivery=EventDelivery.MESSAGE),
        replace(SUBSCRIPTION, id="bus", system=OPERATOR),
    )
    accept(embedded, {"items": [state(FIRST, "2")]})
    assert run(events) == 2
    assert queues.told(OPERATOR) == [(FIRST, "2")]


# ── in the registry ───────────────────────────────────────────────────────────────────────────────────────────────────

GOOD = {"kind": "Subscription", "id": "a", "system": RECEIVING, "types": [DOSSIER_CHANGED], "delivery": "queue"}


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"system": "H99.16"}, "/system"),
        ({"system": "H99.16/nobody"}, "/system"),
        ({"types": []}, "/types"),
        ({"types": ["*"]}, "/types/0"),
        ({"types": ["vn.gov.other.*"]}, "/types/0"),
        ({"types": ["vn.gov.lgsp.dossier.status-changed.v2"]}, "/types/0"),
        ({"delivery": "mail"}, "/delivery"),
        ({"units": ["H98"]}, "/units/0"),
        ({"senders": ["x"]}, "/senders/0"),
        ({"procedures": [""]}, "/procedures/0"),
        ({"id": "../x"}, "/id"),
        ({"to": "everybody"}, ""),
        ({"delivery": "message", "system": OPERATOR}, "/system"),
    ],
)
def test_a_wrong_subscription_is_refused_with_its_place(tmp_path: Path, changed: dict[str, Any], place: str) -> None:
    with bus_world(tmp_path) as world:
        world.register(*services())
        directory = world.bus.registry.load()
        plan(directory, parse_manifest(write_json(GOOD)))
        with pytest.raises(Malformed) as refused:
            plan(directory, parse_manifest(write_json({**GOOD, **changed})))
        assert any(error.pointer.endswith(place) for error in refused.value.errors), refused.value.errors


def test_a_system_with_a_subscription_is_not_removed(tmp_path: Path) -> None:
    with bus_world(tmp_path) as world:
        world.register(*services(), SUBSCRIPTION)
        directory = world.bus.registry.load()
        with pytest.raises(Malformed):
            plan_changes(directory, remove=[directory.systems[RECEIVING]])


def test_subscriptions_are_written_and_read_back(world: World) -> None:
    held = replace(SUBSCRIPTION, units=(AgencyCode("H99.15"),), procedures=("1.004194",), senders=(AgencyCode("G99"),))
    world.register(held)
    directory = world.bus.registry.load()
    assert directory.subscriptions == {"kho": held}
    assert plan(directory, parse_manifest(write_json(document_of(held)))).steps == ()
    gone = {"kind": "Subscription", "id": "kho", "state": "absent"}
    (step,) = plan(directory, parse_manifest(write_json(gone))).steps
    assert step.before == held


def test_the_command_says_how_far_each_was_told(tmp_path: Path) -> None:
    with bus_world(tmp_path) as world:
        world.register(*services())
        events, _ = began(world, SUBSCRIPTION)
        accept(world, {"items": [state(FIRST, "2")]})
        environment = dict(world.environment)
        asked = CliRunner().invoke(lgsp, ["events", "--json"], env=environment, catch_exceptions=False)
        (told,) = json.loads(asked.output)
        assert (told["subscription"], told["system"], told["behind"]) == ("kho", RECEIVING, 1)
        run(events)
        table = CliRunner().invoke(lgsp, ["events"], env=environment, catch_exceptions=False)
        assert "kho" in table.output


def blocks(kind: str) -> list[str]:
    page = (Path(__file__).parent.parent / "docs" / "events.md").read_text(encoding="utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", page, flags=re.DOTALL)


def test_the_manual_s_entries_bring_the_manual_s_event(tmp_path: Path) -> None:
    """The page's own manifests, applied; then an event has the members of the page's example, and no other."""
    (example,) = (json.loads(text) for text in blocks("json event"))
    with bus_world(tmp_path) as world:
        world.register(
            *(each for each in services() if getattr(each, "id", getattr(each, "code", "")) in (STATE, "state"))
        )
        world.register(Agency(code=AgencyCode("H99.20"), name="Phường Mẫu"))
        folder = Path(__file__).parent.parent / "docs"
        subscription, entries = blocks("yaml manifest")
        text = f"{entries}---\n{subscription}".replace("senders: [H99.20] ", "senders: [H99.15] ")
        documents = parse_manifest(text.encode(), folder=folder)
        sending = world.bus.directory.current().system(SENDING)
        assert sending is not None
        world.register(replace(sending, sends_only=True))
        changes = plan(world.bus.registry.load(), documents)
        world.bus.registry.apply(changes, "test")
        world.bus.directory.refresh()
        events = mover(world)
        run(events)
        accept(
            world,
            {"items": [state(FIRST, "4", due="20261130170000", holder="H99.16", procedure="1.004194")]},
            receivers=("H99.16",),
        )
        assert run(events) == 1
        (record,) = [each for each in world.bus.ledger.of_dossier(FIRST) if each.service == EVENT_SERVICE]
        event = json.loads(world.bus.ledger.body_of(record.id) or b"")
        schema = changes_schema(changes)
        for each in (example, event):
            compile_schema(schema).validate(write_json(each), MEDIA_TYPE)
    assert event.keys() == example.keys()
    assert event["data"].keys() == example["data"].keys()
    same = ("specversion", "source", "type", "subject", "datacontenttype", "traceparent")
    assert {name: event[name] for name in same} == {name: example[name] for name in same}
    told = ("dossier", "status", "due_at", "holder", "unit", "procedure", "sender")
    assert {name: event["data"][name] for name in told} == {name: example["data"][name] for name in told}


def changes_schema(changes: Any) -> Mapping[str, Any]:
    schema = next(step.after.schema for step in changes.steps if isinstance(step.after, Service))
    assert isinstance(schema, Mapping)
    return schema
