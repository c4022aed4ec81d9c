"""Events by the broker: a real RabbitMQ, the worker's own process, subscribers' own users."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import pika
import pytest
from click.testing import CliRunner
from pika.exceptions import AMQPConnectionError, ChannelClosedByBroker

from benchmarks.rabbitmq import RabbitMissing, RabbitNode, start_rabbitmq
from bus.broker.names import EVENT_EXCHANGE, event_queue_name
from bus.cli import lgsp
from bus.event_mover import EventMover
from bus.event_store import EventStore
from bus.settings import child_environment
from registry.model import EventDelivery
from schemas.events import DOSSIER_CHANGED, MEDIA_TYPE
from tests.bus_world import RECEIVING, SENDING, World, bus_world
from tests.events_world import SUBSCRIPTION, accept, run, services, state
from tests.processes import running

pytestmark = pytest.mark.service

FIRST, SECOND = "H99.15-261121-0001", "H99.15-261121-0002"
PATIENCE = 30.0


@pytest.fixture(scope="module")
def rabbitmq(
    tmp_path_factory: pytest.TempPathFactory, missing_service: Callable[[str], NoReturn]
) -> Iterator[RabbitNode]:
    try:
        node = start_rabbitmq(tmp_path_factory.mktemp("rabbitmq"), management=True)
    except RabbitMissing as missing:
        missing_service(str(missing))
    try:
        yield node
    finally:
        node.stop()


@pytest.fixture
def world(tmp_path: Path, rabbitmq: RabbitNode) -> Iterator[World]:
    with bus_world(
        tmp_path, broker_url=rabbitmq.url, broker_management=rabbitmq.management_url, lease_seconds=6
    ) as world:
        world.register(*services(), SUBSCRIPTION, replace(SUBSCRIPTION, id="sending", system=SENDING))
        with connected(rabbitmq.url) as channel:
            for system in (RECEIVING, SENDING):
                channel.queue_delete(event_queue_name(system))
        yield world


@contextmanager
def connected(url: str) -> Iterator[Any]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


@contextmanager
def moving(world: World) -> Iterator[EventMover]:
    events = EventMover.of(world.bus)
    try:
        run(events)
        yield events
    finally:
        events.close()


def until(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def taken(url: str, system: str = RECEIVING) -> list[tuple[Any, Any, dict[str, Any]]]:
    """Everything in the subscriber's queue now, acknowledged."""
    found = []
    with connected(url) as channel:
        while True:
            method, properties, body = channel.basic_get(f"lgsp.events.{system}", auto_ack=True)
            if method is None:
                return found
            found.append((method, properties, json.loads(body)))


def told(url: str, system: str = RECEIVING) -> list[tuple[str, str]]:
    return [(event["subject"], event["data"]["status"]) for _, _, event in taken(url, system)]


def test_an_event_lies_in_the_queue_of_each_subscriber_who_may_see_it(world: World, rabbitmq: RabbitNode) -> None:
    with moving(world) as events:
        accept(world, {"items": [state(FIRST, "2")]})
        accept(world, {"items": [state(FIRST, "4")]}, receivers=("G99",))
        run(events)
    ((method, properties, event),) = taken(rabbitmq.url)
    assert (method.exchange, method.routing_key) == (
        EVENT_EXCHANGE,
        f"to.{RECEIVING}.unit.H99.15.type.{DOSSIER_CHANGED}",
    )
    assert (properties.content_type, properties.delivery_mode) == (MEDIA_TYPE, 2)
    assert properties.headers["traceparent"] == event["traceparent"]
    assert (event["subject"], event["data"]["status"]) == (FIRST, "2")
    assert told(rabbitmq.url, SENDING) == [(FIRST, "2"), (FIRST, "4")]


def test_a_subscriber_s_user_reads_its_own_queue_and_no_other(world: World, rabbitmq: RabbitNode) -> None:
    """The queue is there as soon as the user is; the exchange of events is nothing that it could bind or publish to."""
    granted = CliRunner().invoke(lgsp, ["broker", "grant", RECEIVING, "--json"], env=dict(world.environment))
    account = json.loads(granted.output)
    assert account["queues"] == [event_queue_name(RECEIVING)]
    login = f"{quote(account['user'], safe='')}:{account['password']}"
    own = rabbitmq.url.replace(rabbitmq.url.split("//")[1].split("@")[0], login)
    with moving(world) as events:
        accept(world, {"items": [state(FIRST, "2")]})
        run(events)
    assert told(own) == [(FIRST, "2")]
    attempts: list[Callable[[Any], Any]] = [
        lambda channel: channel.basic_get(event_queue_name(SENDING)),
        lambda channel: channel.queue_bind(event_queue_name(RECEIVING), EVENT_EXCHANGE, "#"),
        lambda channel: channel.queue_delete(event_queue_name(RECEIVING)),
        lambda channel: (
            channel.confirm_delivery(),
            channel.basic_publish(EVENT_EXCHANGE, f"to.{SENDING}.x", b"{}"),
        ),
    ]
    for attempt in attempts:
        with connected(own) as channel, pytest.raises(ChannelClosedByBroker) as refused:
            attempt(channel)
        assert refused.value.reply_code == 403
    listed = CliRunner().invoke(lgsp, ["broker", "list", "--json"], env=dict(world.environment))
    assert [(each["user"], each["wider"]) for each in json.loads(listed.output)] == [(RECEIVING, False)]


def test_a_queue_that_somebody_deleted_or_unbound_is_made_again(world: World, rabbitmq: RabbitNode) -> None:
    with moving(world) as events:
        accept(world, {"items": [state(FIRST, "2")]})
        run(events)
        assert told(rabbitmq.url) == [(FIRST, "2")]
        with connected(rabbitmq.url) as channel:
            channel.queue_unbind(event_queue_name(RECEIVING), EVENT_EXCHANGE, f"to.{RECEIVING}.#")
            channel.exchange_delete(EVENT_EXCHANGE)
        accept(world, {"items": [state(FIRST, "4")]})
        until(lambda: run(events) >= 0 and all(not behind(world, name) for name in ("kho", "sending")))
    assert told(rabbitmq.url) == [(FIRST, "4")]


def behind(world: World, subscription: str) -> bool:
    (cursor,) = (
        each for each in EventStore(world.bus.store, world.bus.log).cursors() if each.subscription == subscription
    )
    with world.bus.store.reading() as connection:
        return cursor.position < world.bus.log.size(connection) - 1


def worker(world: World) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return running("bus.work", child_environment(world.settings), world.settings.home / "work.log")


def test_a_killed_worker_and_a_broker_that_was_away_cost_nothing(world: World, rabbitmq: RabbitNode) -> None:
    """`lgsp work` is killed in the middle, the broker is stopped meanwhile; then both are there again."""
    number, count = 0, 60

    def more(of: int) -> None:
        nonlocal number
        for _ in range(of):
            accept(
                world,
                {"items": [state(f"H99.15-261121-{number:04d}", "2"), state(FIRST[:-4] + "9999", str(2 + number % 2))]},
            )
            number += 1

    with worker(world) as process:
        until(lambda: len(EventStore(world.bus.store, world.bus.log).cursors()) == 2)
        more(20)
        until(lambda: depth(rabbitmq.url) > 0)
        process.kill()
    rabbitmq.stop()
    more(20)
    with worker(world):
        rabbitmq.start()
        more(20)
        until(lambda: not behind(world, "kho"))
    found = [event for _, _, event in taken(rabbitmq.url)]
    first_times = list({event["id"]: event for event in found}.values())
    assert len(first_times) == 2 * count
    mine = [event["data"]["status"] for event in first_times if event["subject"].endswith("9999")]
    assert mine == [str(2 + n % 2) for n in range(count)], "in order per dossier"
    sequences = [event["sequence"] for event in first_times]
    assert sequences == sorted(sequences)


def depth(url: str) -> int:
    try:
        with connected(url) as channel:
            return int(channel.queue_declare(event_queue_name(RECEIVING), passive=True).method.message_count)
    except (ChannelClosedByBroker, AMQPConnectionError):
        return 0


def test_without_a_broker_subscriptions_to_a_queue_stand_still_and_say_so(tmp_path: Path) -> None:
    with bus_world(tmp_path) as world:
        by_message = replace(SUBSCRIPTION, id="thong-diep", delivery=EventDelivery.MESSAGE)
        world.register(*services(), SUBSCRIPTION, by_message)
        with moving(world) as events:
            accept(world, {"items": [state(SECOND, "2")]})
            assert run(events) == 1
        problems = {each.subscription: each.problem for each in EventStore(world.bus.store, world.bus.log).cursors()}
        assert problems == {"kho": "broker-missing", "thong-diep": None}
