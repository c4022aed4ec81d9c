"""What a delivery process may rely on, whichever broker it works with; and what RabbitMQ alone must bear."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pika
import pytest

from benchmarks.rabbitmq import RabbitNode
from bus.broker import Broker
from bus.broker.embedded import EmbeddedBroker
from bus.broker.queued import QueuedBroker
from bus.broker.rabbitmq import DEAD, queue_name
from bus.records import Claim, Settlement, State
from registry.directory import Directory, LiveDirectory
from registry.model import Agency, DeliveryMode, Endpoint, System
from schemas.identifiers import AgencyCode, SystemCode
from schemas.moment import utc_now
from security.evidence.checkpoint import NoteKey
from security.keys import KeyRing
from tests.ledger_house import ARCHIVE, RECEIVER, SECOND, STORE, House

PATIENCE = 20.0


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[KeyRing, NoteKey]:
    folder = tmp_path_factory.mktemp("keys")
    return KeyRing.open_or_create(folder / "ring", SystemCode("H99/lgsp-bus")), NoteKey.generate("test.invalid/log")


class Registry:
    """Two receivers that are delivered to."""

    def revision(self) -> int:
        return 1

    def load(self, *, sandbox_open: bool = False, earlier: Directory | None = None) -> Directory:
        systems = [
            System(
                code=code,
                name="Kho",
                mode=DeliveryMode.PUSH,
                endpoint=Endpoint(connector="rest", url="http://127.0.0.1:9"),
                concurrency=20,
            )
            for code in (STORE, ARCHIVE)
        ]
        agencies = [Agency(code=code, name="Sở Mẫu") for code in (RECEIVER, SECOND)]
        return Directory(revision=1, sandbox_open=sandbox_open, earlier=earlier, entries=[*agencies, *systems])


class Desk:
    """A delivery process that does what the tests tell it."""

    def __init__(self, house: House, broker: Broker) -> None:
        self.house = house
        self.broker = broker
        self._closed = False

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.broker.close()

    def take(self, most: int = 20, settled: Sequence[Settlement] = ()) -> list[Claim]:
        return self.broker.take(settled, {code: most for code, _ in self.broker.systems_due(utc_now())}, utc_now())

    def take_until(self, count: int, most: int = 20) -> list[Claim]:
        """Claims as they come, until there are so many."""
        claims: list[Claim] = []
        deadline = time.monotonic() + PATIENCE
        while len(claims) < count and time.monotonic() < deadline:
            claims += self.take(min(most, count - len(claims)))
            if len(claims) < count:
                self.broker.wait(0.05)
        assert len(claims) == count, f"{len(claims)} of {count} came"
        return claims

    def settle(self, *claims: Claim, state: State = State.DELIVERED, later: timedelta | None = None) -> None:
        now = utc_now()
        due_at = None if later is None else now + later
        ended = [self.house.end(claim, state, now=now, due_at=due_at) for claim in claims]
        assert self.broker.take(ended, {}, now) == []

    def nothing_comes(self, seconds: float = 0.3) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.take():
                return False
            self.broker.wait(0.05)
        return True


class Brokers:
    """Makes delivery processes over one house."""

    def __init__(self, house: House, wake: Path, node: RabbitNode | None, stack: ExitStack) -> None:
        self.house = house
        self._wake = wake
        self._node = node
        self._stack = stack

    def record(self, *receivers: AgencyCode) -> int:
        """A message of now; the number of its exchange."""
        now = utc_now()
        return self.house.record(receivers=receivers or (RECEIVER,), issued_at=now, received_at=now).exchange_id

    def desk(self, house: House | None = None, lease_seconds: float = 60.0) -> Desk:
        house = house or self.house
        if self._node is None:
            broker: Broker = EmbeddedBroker(house.ledger, self._wake, lease_seconds)
        else:
            queued = QueuedBroker(
                house.ledger, LiveDirectory(Registry()), self._wake, [self._node.url],
                lease_seconds=lease_seconds, poll_seconds=0.05,
            )  # fmt: skip
            queued.start()
            broker = queued
        desk = Desk(house, broker)
        self._stack.callback(desk.close)
        return desk


PRODUCTION = pytest.param("postgresql+rabbitmq", marks=pytest.mark.service)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service), PRODUCTION])
def brokers(
    request: pytest.FixtureRequest, tmp_path: Path, new_store: Callable[[str, Path], str], keys: tuple[KeyRing, NoteKey]
) -> Iterator[Brokers]:
    store, _, broker = request.param.partition("+")
    node: RabbitNode | None = request.getfixturevalue("rabbitmq") if broker else None
    if node:
        _forget_queues(node)
    house = House(store_url=new_store(store, tmp_path), ring=keys[0], log_key=keys[1])
    with ExitStack() as stack:
        yield Brokers(house, tmp_path / "wake", node, stack)
    house.must_hold()
    house.close()


def _forget_queues(node: RabbitNode) -> None:
    with _channel(node) as channel:
        for system in (STORE, ARCHIVE):
            channel.queue_delete(queue_name(system))


@contextmanager
def _channel(node: RabbitNode) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
    """What was published on it is in its queue; unconfirmed, a quorum queue may lose it when the channel closes."""
    connection = pika.BlockingConnection(pika.URLParameters(node.url))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel
    finally:
        connection.close()


# ── the contract ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_recorded_comes_once_to_the_system_it_is_for(brokers: Brokers) -> None:
    desk = brokers.desk()
    for number in range(5):
        brokers.record(RECEIVER, *([SECOND] if number == 0 else []))

    claims = desk.take_until(6)

    assert sorted(claim.system for claim in claims) == [STORE] * 5 + [ARCHIVE]
    assert len({claim.delivery_id for claim in claims}) == 6
    assert desk.nothing_comes()


def test_a_settled_delivery_never_comes_again(brokers: Brokers) -> None:
    desk = brokers.desk()
    brokers.record()
    (claim,) = desk.take_until(1)

    desk.settle(claim)

    assert desk.nothing_comes()
    assert brokers.house.ledger.states() == {State.DELIVERED: 1}


def test_again_later_comes_later(brokers: Brokers) -> None:
    desk = brokers.desk()
    brokers.record()
    (claim,) = desk.take_until(1)

    desk.settle(claim, state=State.WAITING, later=timedelta(seconds=0.4))

    assert desk.nothing_comes(0.2)
    (again,) = desk.take_until(1)
    assert (again.delivery_id, again.attempt) == (claim.delivery_id, 2)


def test_no_more_is_taken_than_there_are_places(brokers: Brokers) -> None:
    desk = brokers.desk()
    for _ in range(5):
        brokers.record()
    desk.take_until(1, most=1)

    assert len(desk.take(2)) <= 2
    assert brokers.house.ledger.states()[State.WAITING] >= 2


def test_two_processes_share_the_work_and_neither_gets_what_the_other_has(brokers: Brokers) -> None:
    one, other = brokers.desk(), brokers.desk(brokers.house.another())
    for _ in range(60):
        brokers.record()
    found: dict[str, list[Claim]] = {"one": [], "other": []}
    deadline = time.monotonic() + PATIENCE

    def work(name: str, desk: Desk) -> None:
        while sum(map(len, found.values())) < 60 and time.monotonic() < deadline:
            claims = desk.take(5)
            found[name] += claims
            desk.settle(*claims)
            desk.broker.wait(0.02)

    threads = [threading.Thread(target=work, args=item) for item in (("one", one), ("other", other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    numbers = [claim.delivery_id for claims in found.values() for claim in claims]
    assert len(numbers) == len(set(numbers)) == 60
    assert brokers.house.ledger.states() == {State.DELIVERED: 60}


def test_what_a_dead_process_had_claimed_comes_again_when_its_lease_ran_out(brokers: Brokers) -> None:
    dead = brokers.desk(lease_seconds=0.2)
    brokers.record()
    (claim,) = dead.take_until(1)
    dead.close()

    desk = brokers.desk(brokers.house.another())
    assert desk.nothing_comes(0.3)
    assert brokers.house.ledger.release_stalled(utc_now()) == 1

    (again,) = desk.take_until(1)
    assert (again.delivery_id, again.attempt) == (claim.delivery_id, 2)


def test_a_turn_that_fails_takes_nothing(brokers: Brokers, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = brokers.desk()
    brokers.record()
    ledger = brokers.house.ledger
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_claim_in", _fails)
        patch.setattr(ledger, "_settle_and_claim_these_in", _fails)
        deadline = time.monotonic() + PATIENCE
        while not desk.broker.systems_due(utc_now()) and time.monotonic() < deadline:
            desk.broker.wait(0.05)
        with pytest.raises(RuntimeError):
            desk.take()

    assert len(desk.take_until(1)) == 1


def _fails(*_: object) -> NoReturn:
    raise RuntimeError("the store is out of reach")


def test_the_bell_wakes_who_waits(brokers: Brokers) -> None:
    desk = brokers.desk()
    desk.nothing_comes(0.3)
    started = time.monotonic()
    threading.Timer(0.1, desk.broker.tap).start()

    desk.broker.wait(10)

    assert time.monotonic() - started < 5


# ── RabbitMQ alone ────────────────────────────────────────────────────────────────────────────────────────────────────

rabbitmq_only = [
    pytest.mark.service,
    pytest.mark.parametrize("brokers", ["postgresql+rabbitmq"], indirect=True),
]


def only_rabbitmq(test: Callable[..., None]) -> Callable[..., None]:
    for mark in rabbitmq_only:
        test = mark(test)
    return test


@only_rabbitmq
def test_a_queue_holds_references_and_nothing_of_the_message(brokers: Brokers, rabbitmq: RabbitNode) -> None:
    desk = brokers.desk()
    desk.nothing_comes(0.3)  # the queues are there
    desk.close()
    quiet = QueuedBroker(
        brokers.house.ledger, LiveDirectory(Registry()), Path(brokers._wake), [rabbitmq.url],
        lease_seconds=60.0, poll_seconds=0.05,
    )  # fmt: skip
    quiet._link.consume = lambda prefetch: None  # type: ignore[method-assign]  # sends, and takes nothing
    quiet.start()
    try:
        recorded = brokers.record()
        _, properties, body = _first_in(rabbitmq, STORE)
    finally:
        quiet.close()

    assert set(json.loads(body)) == {"delivery"}
    assert int(json.loads(body)["delivery"]) // 1024 == recorded
    assert properties.delivery_mode == 2
    assert properties.headers["traceparent"].startswith("00-")


def _first_in(node: RabbitNode, system: SystemCode) -> tuple[object, pika.BasicProperties, bytes]:
    deadline = time.monotonic() + PATIENCE
    with _channel(node) as channel:
        while time.monotonic() < deadline:
            got = channel.basic_get(queue_name(system))
            if got[0] is not None:
                return got
            time.sleep(0.05)
    raise AssertionError("nothing came into the queue")


@only_rabbitmq
def test_a_reference_that_comes_twice_claims_once(brokers: Brokers, rabbitmq: RabbitNode) -> None:
    desk = brokers.desk()
    brokers.record()
    (claim,) = desk.take_until(1)
    _put(rabbitmq, {"delivery": str(claim.delivery_id)})

    assert desk.nothing_comes(0.4)
    desk.settle(claim)
    _put(rabbitmq, {"delivery": str(claim.delivery_id)})
    assert desk.nothing_comes(0.4)
    desk.close()
    assert _ready(rabbitmq, STORE) == 0, "the repeats are acknowledged"


@only_rabbitmq
def test_an_old_reference_does_not_bring_a_later_attempt_forward(brokers: Brokers, rabbitmq: RabbitNode) -> None:
    desk = brokers.desk()
    brokers.record()
    (claim,) = desk.take_until(1)
    desk.settle(claim, state=State.WAITING, later=timedelta(minutes=5))

    _put(rabbitmq, {"delivery": str(claim.delivery_id)})

    assert desk.nothing_comes(0.5)


@only_rabbitmq
def test_what_somebody_else_wrote_into_a_queue_is_laid_aside(brokers: Brokers, rabbitmq: RabbitNode) -> None:
    desk = brokers.desk()
    desk.nothing_comes(0.3)
    with _channel(rabbitmq) as channel:
        channel.queue_purge(DEAD)
        for body in _FOREIGN:
            channel.basic_publish("", queue_name(STORE), body)
    brokers.record()

    assert len(desk.take_until(1)) == 1
    deadline = time.monotonic() + PATIENCE
    with _channel(rabbitmq) as channel:
        while (
            channel.queue_declare(DEAD, passive=True).method.message_count < len(_FOREIGN)
            and time.monotonic() < deadline
        ):
            time.sleep(0.05)
        assert channel.queue_declare(DEAD, passive=True).method.message_count == len(_FOREIGN)
        channel.queue_purge(DEAD)


#: The last ones once ended the connection again and again, or would have stopped every claim.
_FOREIGN = (
    *(b"rubbish", b"[]", b'{"delivery": null}', b'{"delivery": "x"}', b"\xff", b'{"delivery": "-1"}', b"", b"null"),
    *(b'{"delivery": 1e400}', b'{"delivery": "' + b"9" * 30 + b'"}', '{"delivery": "²"}'.encode(), b"[" * 100_000),
)


@only_rabbitmq
def test_what_lay_in_a_queue_that_was_lost_is_sent_again(
    brokers: Brokers, rabbitmq: RabbitNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bus.broker.queued as queued

    monkeypatch.setattr(queued, "_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(queued, "_MISSED_AFTER", timedelta(seconds=0.3))
    desk = brokers.desk()
    desk.nothing_comes(0.3)
    with _channel(rabbitmq) as channel:
        channel.queue_delete(queue_name(STORE))  # an operator's mistake, or disks that are gone
    for _ in range(3):
        brokers.record()

    claims = desk.take_until(3)

    desk.settle(*claims)
    assert desk.nothing_comes()


@only_rabbitmq
def test_a_lost_connection_loses_nothing_and_claims_nothing_twice(brokers: Brokers, rabbitmq: RabbitNode) -> None:
    desk = brokers.desk()
    for _ in range(10):
        brokers.record()
    first = desk.take_until(4, most=4)
    _end_connections(desk)
    for _ in range(5):
        brokers.record()

    rest = desk.take_until(11)

    assert len({claim.delivery_id for claim in [*first, *rest]}) == 15
    desk.settle(*first, *rest)
    assert desk.nothing_comes()
    assert brokers.house.ledger.states() == {State.DELIVERED: 15}


@only_rabbitmq
def test_what_was_on_its_way_when_the_connection_was_lost_is_sent_again_soon(
    brokers: Brokers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.broker.queued._HOLD", timedelta(hours=1))
    desk = brokers.desk()
    desk.nothing_comes(0.3)
    with monkeypatch.context() as cable:
        cable.setattr(pika.channel.Channel, "basic_publish", lambda *_, **__: None)  # it never reaches the broker
        for _ in range(3):
            brokers.record()
        deadline = time.monotonic() + PATIENCE
        while desk.broker._link.unconfirmed < 3 and time.monotonic() < deadline:  # type: ignore[attr-defined]
            time.sleep(0.02)
    _end_connections(desk)

    desk.settle(*desk.take_until(3))

    assert desk.nothing_comes()


def _end_connections(desk: Desk) -> None:
    """As a cut cable does: the socket ends, and nobody said good-bye."""
    link = desk.broker._link  # type: ignore[attr-defined]
    link._kept.current._transport._sock.shutdown(socket.SHUT_RDWR)


def _put(node: RabbitNode, document: dict[str, str]) -> None:
    with _channel(node) as channel:
        channel.basic_publish("", queue_name(STORE), json.dumps(document).encode())


def _ready(node: RabbitNode, system: SystemCode) -> int:
    with _channel(node) as channel:
        return int(channel.queue_declare(queue_name(system), passive=True).method.message_count)


# ── among others ──────────────────────────────────────────────────────────────────────────────────────────────────────


@only_rabbitmq
def test_what_a_process_that_ends_has_not_claimed_is_for_others_at_once(brokers: Brokers) -> None:
    leaving = brokers.desk()
    for _ in range(10):
        brokers.record()
    held = leaving.take_until(2, most=2)
    _wait_for(lambda: leaving.broker.systems_due(utc_now()) != [], "the rest lies here")

    leaving.broker.give_back()
    other = brokers.desk()
    rest = other.take_until(8)

    assert leaving.broker.systems_due(utc_now()) == []
    leaving.settle(*held)  # what it has claimed, it still ends
    other.settle(*rest)
    assert other.nothing_comes()
    assert brokers.house.ledger.states() == {State.DELIVERED: 10}


@only_rabbitmq
def test_nothing_is_held_of_a_system_that_rests_and_no_queue_counts_it_as_a_failure(
    brokers: Brokers, rabbitmq: RabbitNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver may be down for days: its breaker opens and half-opens thousands of times, and a queue lays a
    reference aside that it got back twenty times."""
    import bus.broker.queued as queued

    monkeypatch.setattr(queued, "_SHORT_REST", timedelta(seconds=0.01))
    limits = {STORE: 3, ARCHIVE: 3}
    desk = brokers.desk()
    desk.broker._most_to_hold = lambda systems: {s: most for s, most in limits.items() if s in systems}  # type: ignore[attr-defined]
    for _ in range(5):
        brokers.record()
    for _ in range(25):
        limits[STORE] = 1
        desk.broker.tap()
        _wait_for(lambda: desk.broker.systems_due(utc_now()) != [], "one comes to probe with")
        del limits[STORE]
        desk.broker.tap()
        _wait_for(lambda: desk.broker.systems_due(utc_now()) == [], "it is given back")

    limits[STORE] = 10
    claims = desk.take_until(5)

    desk.settle(*claims)
    desk.close()
    assert _ready(rabbitmq, STORE) == 0
    with _channel(rabbitmq) as channel:
        assert channel.queue_declare(DEAD, passive=True).method.message_count == 0


def _wait_for(condition: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.01)
