"""Members that consume from the broker themselves, on a real RabbitMQ: from `POST /v1/exchange` to their own ack."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pika
import pytest
import urllib3
from click.testing import CliRunner, Result
from pika.exceptions import AMQPConnectionError, ChannelClosedByBroker

from benchmarks.rabbitmq import RabbitNode
from bus.broker.names import dead_mailbox_name, mailbox_name
from bus.broker.rabbitmq import RabbitMailboxes
from bus.cli import lgsp
from bus.settings import child_environment
from connectors.amqp import AmqpConnector, letter_of, sealing_key
from connectors.amqp_client import Mailbox, MailboxMessage
from connectors.base import Letter, Parcel
from connectors.client import AgencyClient
from registry.model import DeliveryMode, Endpoint, System
from schemas.identifiers import MessageId, ServiceCode, SystemCode
from schemas.message import Manifest, sha256_hex
from schemas.moment import utc_now
from schemas.problem import Malformed, ProviderFailure, ProviderRejected, ProviderTimeout, ProviderUnavailable
from security.keys import SigningKey
from tests.bus_world import (
    RECEIVER,
    RECEIVING,
    SENDER,
    Signed,
    World,
    bus_world,
    certificate_of,
    delivering,
    key_of,
    post,
)

PATIENCE = 20.0
SECRET_TEXT = "Nguyễn Thị Mẫu khai sinh"


@pytest.fixture
def world(tmp_path: Path, rabbitmq: RabbitNode) -> Iterator[World]:
    with bus_world(tmp_path, broker_url=rabbitmq.url, broker_management=rabbitmq.management_url) as world:
        system = world.bus.directory.current().system(RECEIVING)
        assert system is not None
        world.register(replace(system, mode=DeliveryMode.AMQP))
        empty(rabbitmq, mailbox_name(RECEIVING))
        yield world


def channel_of(url: str) -> Any:
    return pika.BlockingConnection(pika.URLParameters(url)).channel()


def empty(node: RabbitNode, *queues: str) -> None:
    channel = channel_of(node.url)
    for queue in queues:
        channel.queue_delete(queue)
    channel.connection.close()


def state_of(world: World, message: Signed) -> tuple[str, int]:
    """How its one delivery stands, and after how many attempts."""
    record = world.bus.ledger.find(message.manifest.message_id)
    assert record is not None
    (delivery,) = record.deliveries
    return delivery.state.value, delivery.attempt


def wait_for(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def client_of(world: World, url: str, system: str = RECEIVING) -> AgencyClient:
    return AgencyClient(url, key_of(system), system=system, audience=world.settings.public_url)


def fetched(mailbox: Mailbox, count: int) -> list[MailboxMessage]:
    messages: list[MailboxMessage] = []
    for message in mailbox.messages(wait_seconds=PATIENCE, follow=False):
        messages.append(message)
        if len(messages) == count:
            break
    return messages


@pytest.mark.service
def test_a_message_goes_from_its_sender_to_the_member_s_own_consumer_sealed(world: World, rabbitmq: RabbitNode) -> None:
    with world.serving() as url, delivering(world.bus):
        message = world.signed({"title": SECRET_TEXT}, dossier="H99.16-260423-0001")
        assert post(url, message).status == 202
        wait_for(lambda: state_of(world, message) == ("delivered", 1))
        letter = raw_letter(rabbitmq)
        told = (letter[1] + json.dumps(letter[0].headers).encode()).lower()
        for secret in (SECRET_TEXT, "H99.16-260423-0001", "dossier.transfer", "giai-quyet-tthc"):
            assert secret.encode().lower() not in told
        assert letter[0].message_id == message.manifest.message_id
        with client_of(world, url) as client, Mailbox(rabbitmq.url, client, [key_of(RECEIVING)]) as mailbox:
            (got,) = fetched(mailbox, 1)
            assert got.body == message.body
            assert got.manifest == message.manifest
            assert got.manifest_jws == message.headers["Lgsp-Manifest"]
            assert got.traceparent.startswith("00-")
            got.ack()
        with client_of(world, url) as client, Mailbox(rabbitmq.url, client, [key_of(RECEIVING)]) as mailbox:
            assert list(mailbox.messages(wait_seconds=0.3, follow=False)) == []


def raw_letter(node: RabbitNode) -> tuple[Any, bytes]:
    """What the broker holds; it stays there."""
    channel = channel_of(node.url)
    method, properties, body = channel.basic_get(mailbox_name(RECEIVING))
    assert method is not None
    channel.basic_nack(method.delivery_tag, requeue=True)
    channel.connection.close()
    return properties, body


@pytest.mark.service
def test_what_was_not_acknowledged_comes_again_and_what_was_given_back_too(world: World, rabbitmq: RabbitNode) -> None:
    with world.serving() as url, delivering(world.bus), client_of(world, url) as client:
        message_ = world.signed()
        post(url, message_)
        wait_for(lambda: state_of(world, message_)[0] == "delivered")
        ids = []
        for _ in range(2):
            with Mailbox(rabbitmq.url, client, [key_of(RECEIVING)]) as mailbox:
                ids += [message.manifest.message_id for message in fetched(mailbox, 1)]
        with Mailbox(rabbitmq.url, client, [key_of(RECEIVING)]) as mailbox:
            for message in fetched(mailbox, 1):
                message.give_back()
            (message,) = fetched(mailbox, 1)
            message.ack()
            assert {*ids, message.manifest.message_id} == {ids[0]}


@pytest.mark.service
def test_a_letter_that_is_not_what_its_receipt_says_is_laid_aside(world: World, rabbitmq: RabbitNode) -> None:
    with world.serving() as url, delivering(world.bus), client_of(world, url) as client:
        message = world.signed()
        post(url, message)
        wait_for(lambda: state_of(world, message)[0] == "delivered")
        channel = channel_of(rabbitmq.url)
        _, properties, body = channel.basic_get(mailbox_name(RECEIVING), auto_ack=True)
        dead = dead_mailbox_name(RECEIVING)
        channel.queue_purge(dead)
        other = world.signed({"title": "Khác"})
        system = world.bus.directory.current().system(RECEIVING)
        swapped = letter_of(
            Parcel(
                manifest=other.manifest, manifest_jws=other.headers["Lgsp-Manifest"], receipt_jws="", body=other.body,
                receiver=RECEIVER, traceparent="", system=system,
            ),
            utc_now(),
        )  # fmt: skip
        hostile = [
            (properties.headers, swapped.body),
            ({**properties.headers, "lgsp-manifest": swapped.headers["lgsp-manifest"]}, body),
            ({**properties.headers, "lgsp-receipt": "a.b.c"}, body),
            ({}, b"\xff\x00"),
            (properties.headers, body[:-8]),
        ]
        for headers, content in [*hostile, (properties.headers, body)]:
            channel.basic_publish("", mailbox_name(RECEIVING), content, pika.BasicProperties(headers=headers))
        with Mailbox(rabbitmq.url, client, [key_of(RECEIVING)]) as mailbox:
            (good,) = fetched(mailbox, 1)
            assert good.body == message.body
            good.ack()
            wait_for(lambda: channel.queue_declare(dead, passive=True).method.message_count == len(hostile))
        channel.connection.close()


@pytest.mark.service
def test_a_full_mailbox_keeps_what_it_has_and_the_rest_waits_in_the_bus(world: World, rabbitmq: RabbitNode) -> None:
    channel = channel_of(rabbitmq.url)
    with world.serving() as url, delivering(world.bus), client_of(world, url) as client:
        first = world.signed(purpose="giai-quyet-tthc")
        post(url, first)
        wait_for(lambda: state_of(world, first)[0] == "delivered")
        limit(rabbitmq, 1)
        try:
            # A quorum queue notices that it is full a letter late.
            late = [world.signed(service="dossier.note", purpose="") for _ in range(4)]
            for message in late:
                post(url, message)
            wait_for(lambda: any(attempts_of(world, message) for message in late))
        finally:
            limit(rabbitmq, None)
        wait_for(lambda: all(state_of(world, message)[0] == "delivered" for message in late))
        with Mailbox(rabbitmq.url, client, [key_of(RECEIVING)]) as mailbox:
            got = fetched(mailbox, 5)
            assert {m.manifest.message_id for m in got} == {m.manifest.message_id for m in [first, *late]}
            for message_ in got:
                message_.ack()
    channel.connection.close()


def attempts_of(world: World, message: Signed) -> list[str]:
    """Reasons of failed attempts."""
    record = world.bus.ledger.find(message.manifest.message_id)
    assert record is not None
    problems = [attempt.problem for delivery in record.deliveries for attempt in delivery.attempts]
    return [str(problem["reason"]) for problem in problems if problem]


def limit(node: RabbitNode, most: int | None) -> None:
    """An operator's policy of at most so many letters."""
    url = f"{node.management_url}api/policies/{node.virtual_path}/full"
    headers = urllib3.make_headers(basic_auth="guest:guest")
    policy = {"pattern": r"^lgsp\.member\.", "definition": {"max-length": most}, "apply-to": "queues"}
    with urllib3.PoolManager() as pool:
        bare = url.replace("guest:guest@", "")
        if most is None:
            answer = pool.request("DELETE", bare, headers=headers)
        else:
            answer = pool.request("PUT", bare, headers=headers, json=policy)
        assert answer.status in (201, 204), answer.data


@pytest.mark.service
def test_a_mailbox_that_somebody_deleted_is_made_again(world: World, rabbitmq: RabbitNode) -> None:
    with world.serving() as url, delivering(world.bus), client_of(world, url) as client:
        first, second = world.signed(), world.signed()
        post(url, first)
        wait_for(lambda: state_of(world, first)[0] == "delivered")
        empty(rabbitmq, mailbox_name(RECEIVING))
        post(url, second)
        wait_for(lambda: state_of(world, second)[0] == "delivered")
        assert "mailbox-unreachable" in attempts_of(world, second)
        with Mailbox(rabbitmq.url, client, [key_of(RECEIVING)]) as mailbox:
            (got,) = fetched(mailbox, 1)
            assert got.manifest.message_id == second.manifest.message_id
            got.ack()


@pytest.mark.service
def test_letters_of_many_threads_arrive_together(rabbitmq: RabbitNode) -> None:
    system = SystemCode("H99.16/nhieu-luong")
    empty(rabbitmq, mailbox_name(system))
    mailboxes = RabbitMailboxes([rabbitmq.url])
    letters = [letter(system, number) for number in range(400)]
    try:
        with ThreadPoolExecutor(40) as pool:
            list(pool.map(lambda each: mailboxes.put(each, PATIENCE), letters))
    finally:
        mailboxes.close()
    channel = channel_of(rabbitmq.url)
    got = set()
    for method, properties, _ in channel.consume(mailbox_name(system), inactivity_timeout=PATIENCE):
        assert method is not None
        got.add(properties.message_id)
        if len(got) == len(letters):
            break
    channel.connection.close()


def letter(system: SystemCode, number: int) -> Letter:
    return Letter(
        mailbox=system,
        message_id=MessageId(f"01900000-0000-7000-8000-{number:012d}"),
        body=b"sealed",
        content_type="application/jose",
        headers={},
    )


def test_a_broker_that_is_away_is_said_so_and_nothing_is_kept() -> None:
    mailboxes = RabbitMailboxes(["amqp://guest:guest@127.0.0.1:9/"])
    try:
        for _ in range(3):
            with pytest.raises(ProviderUnavailable) as failed:
                mailboxes.put(letter(RECEIVING, 1), 0.05)
            assert failed.value.reason == "mailbox-unreachable"
        assert not mailboxes._waiting
    finally:
        mailboxes.close()


def parcel(system: System | None, **facts: Any) -> Parcel:
    manifest = Manifest(
        message_id=MessageId("01900000-0000-7000-8000-000000000001"),
        sender=SENDER,
        receivers=(RECEIVER,),
        service=ServiceCode("dossier.note"),
        service_version=1,
        issued_at=utc_now(),
        content_type="application/json",
        body_sha256=sha256_hex(b"{}"),
        body_length=2,
    )
    made: dict[str, Any] = {
        "manifest": manifest, "manifest_jws": "a.b.c", "receipt_jws": "d.e.f", "body": b"{}", "receiver": RECEIVER,
        "traceparent": "00-0-0-01", "system": system,
    }  # fmt: skip
    return Parcel(**{**made, **facts})


def system_with(*certificates: Any) -> System:
    return System(code=RECEIVING, name="Kho", mode=DeliveryMode.AMQP, certificates=certificates)


def test_without_a_mailbox_a_key_or_room_nothing_leaves() -> None:
    endpoint = Endpoint(connector="amqp", url="")
    held = certificate_of(key_of(RECEIVING))
    cases: list[tuple[Parcel, type[ProviderFailure], str]] = [
        (parcel(None), ProviderUnavailable, "receiver-not-connected"),
        (parcel(system_with()), ProviderUnavailable, "sealing-key-missing"),
        (parcel(system_with(replace(held, revoked_at=utc_now()))), ProviderUnavailable, "sealing-key-missing"),
        (parcel(system_with(replace(held, not_after=utc_now()))), ProviderUnavailable, "sealing-key-missing"),
        (parcel(system_with(held), manifest_jws="a" * 120_000), ProviderRejected, "mail-too-large"),
    ]
    for made, kind, reason in cases:
        with pytest.raises(kind) as failed:
            letter_of(made, utc_now())
        assert failed.value.reason == reason
    with pytest.raises(ProviderUnavailable) as failed:
        AmqpConnector().deliver(parcel(system_with(held)), endpoint, None)
    assert failed.value.reason == "mailbox-unreachable"


def test_of_two_certificates_the_newer_one_is_sealed_for_once_it_is_valid() -> None:
    now = utc_now()
    old, new = key_of(RECEIVING), SigningKey.generate()
    held = (certificate_of(old), certificate_of(new))
    later = replace(held[1], not_before=held[0].not_before.replace(year=now.year + 1))
    newer = replace(held[1], not_before=now)
    assert sealing_key((held[0], newer), now) == new.public_key
    assert sealing_key((later, held[0]), now) == old.public_key


def test_mode_amqp_needs_a_certificate_and_answers_no_questions(tmp_path: Path) -> None:
    with bus_world(tmp_path) as world:
        with pytest.raises(Malformed) as refused:
            world.register(System(code=SystemCode("H99.17/amqp"), name="Hệ thống", mode=DeliveryMode.AMQP))
        assert any("/certificates" in error.pointer for error in refused.value.errors)
        answering = world.bus.directory.current().system(SystemCode("G99/csdl"))
        assert answering is not None
        world.register(replace(answering, mode=DeliveryMode.AMQP))
        with world.serving() as url:
            answer = post(url, world.signed({}, service="population.lookup", receivers=["G99"], purpose=""))
        assert answer.json["reason"] == "receiver-cannot-reply"


@pytest.mark.service
def test_the_delivery_process_itself_fills_the_mailbox(world: World, rabbitmq: RabbitNode) -> None:
    """Under gevent, as `lgsp work` runs."""
    granted(world, rabbitmq, RECEIVING)
    sent = [world.signed(service="dossier.note", purpose="") for _ in range(20)]
    with world.serving() as url, client_of(world, url) as client:
        for message in sent:
            post(url, message)
        work = subprocess.Popen(
            [sys.executable, "-m", "bus.work"],
            env=child_environment(world.settings),
            cwd=Path(__file__).resolve().parent.parent,
            stdout=subprocess.DEVNULL,
        )
        try:
            with Mailbox(rabbitmq.url, client, [key_of(RECEIVING)]) as mailbox:
                got = fetched(mailbox, len(sent))
                for message_ in got:
                    message_.ack()
        finally:
            work.terminate()
            assert work.wait(20) == 0
        assert {each.manifest.message_id for each in got} == {each.manifest.message_id for each in sent}
        assert all(state_of(world, message) == ("delivered", 1) for message in sent)


class Gate:
    """The way to the broker, which can be shut: whoever is on it is cut off, nobody gets in."""

    def __init__(self, node: RabbitNode) -> None:
        self._target = ("127.0.0.1", node.port)
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.port = 0

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._let_in, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        for each in [self._listener, *self._open]:
            if each is not None:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        self._open, self._listener = [], None

    def _let_in(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                inside, _ = listener.accept()
                outside = socket.create_connection(self._target)
                self._open += [inside, outside]
                for source, sink in ((inside, outside), (outside, inside)):
                    threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def address_through(gate: Gate, node: RabbitNode) -> str:
    return f"amqp://guest:guest@127.0.0.1:{gate.port}/{node.virtual_path}"


@pytest.mark.service
def test_while_the_broker_is_away_messages_are_accepted_and_none_is_lost(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    gate = Gate(rabbitmq)
    gate.open()
    try:
        with bus_world(tmp_path, broker_url=address_through(gate, rabbitmq)) as world:
            system = world.bus.directory.current().system(RECEIVING)
            assert system is not None
            world.register(replace(system, mode=DeliveryMode.AMQP))
            empty(rabbitmq, mailbox_name(RECEIVING))
            with world.serving() as url, delivering(world.bus), client_of(world, url) as client:
                sent = [world.signed(service="dossier.note", purpose="") for _ in range(9)]
                for place, message in enumerate(sent):
                    if place == 3:
                        wait_for(lambda: state_of(world, sent[0])[0] == "delivered")
                        gate.shut()
                    assert post(url, message).status == 202
                gate.open()
                wait_for(lambda: all(state_of(world, message)[0] == "delivered" for message in sent))
                with Mailbox(rabbitmq.url, client, [key_of(RECEIVING)]) as mailbox:
                    missing = {message.manifest.message_id for message in sent}
                    for got in mailbox.messages(wait_seconds=PATIENCE, follow=False):
                        got.ack()
                        missing.discard(got.manifest.message_id)
                        if not missing:
                            break
                    assert not missing
    finally:
        gate.shut()


@pytest.mark.service
def test_a_letter_is_said_to_have_arrived_only_if_it_has(rabbitmq: RabbitNode) -> None:
    gate, system = Gate(rabbitmq), SystemCode("H99.16/cat-day")
    gate.open()
    empty(rabbitmq, mailbox_name(system))
    mailboxes = RabbitMailboxes([address_through(gate, rabbitmq)])
    arrived: set[str] = set()

    def put(number: int) -> None:
        each = letter(system, number)
        while True:
            if number == 100:
                gate.shut()
                gate.open()
            with suppress(ProviderUnavailable, ProviderTimeout):
                mailboxes.put(each, 5.0)
                arrived.add(str(each.message_id))
                return

    try:
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(put, range(200)))
    finally:
        mailboxes.close()
        gate.shut()
    channel = channel_of(rabbitmq.url)
    lying = set()
    for method, properties, _ in channel.consume(mailbox_name(system), inactivity_timeout=1.0):
        if method is None:
            break
        lying.add(properties.message_id)
    channel.connection.close()
    assert len(arrived) == 200
    assert lying == arrived


def run(world: World, *words: str) -> Result:
    return CliRunner().invoke(lgsp, ["--home", str(world.settings.home), *words], env=dict(world.environment))


def url_of(node: RabbitNode, user: str, password: str) -> str:
    return f"amqp://{quote(user, safe='')}:{quote(password, safe='')}@127.0.0.1:{node.port}/{node.virtual_path}"


def granted(world: World, node: RabbitNode, system: str) -> str:
    """The address that a member gets in."""
    done = run(world, "broker", "grant", system, "--json")
    assert done.exit_code == 0, done.output
    account = json.loads(done.stdout)
    return url_of(node, account["user"], account["password"])


@pytest.mark.service
def test_a_member_reads_its_own_mailbox_with_its_own_user(world: World, rabbitmq: RabbitNode) -> None:
    address = granted(world, rabbitmq, RECEIVING)
    with (
        world.serving() as url,
        delivering(world.bus),
        client_of(world, url) as client,
        Mailbox(address, client, [key_of(RECEIVING)]) as mailbox,
    ):
        assert list(mailbox.messages(wait_seconds=0.1, follow=False)) == []  # made by the grant, before any letter
        sent = world.signed()
        post(url, sent)
        (got,) = fetched(mailbox, 1)
        assert got.body == sent.body
        got.ack()


@pytest.mark.service
def test_a_stranger_s_user_can_do_nothing_to_a_mailbox(world: World, rabbitmq: RabbitNode) -> None:
    other = SystemCode("H99.16/kho-khac")
    world.register(
        System(
            code=other, name="Kho khác", mode=DeliveryMode.AMQP, sends_only=True,
            certificates=(certificate_of(key_of(other)),),
        )
    )  # fmt: skip
    granted(world, rabbitmq, RECEIVING)
    stranger = granted(world, rabbitmq, other)
    theirs, own = mailbox_name(RECEIVING), mailbox_name(other)
    deeds: dict[str, Callable[[Any], object]] = {
        "get": lambda channel: channel.basic_get(theirs),
        "consume": lambda channel: channel.basic_consume(theirs, lambda *_: None),
        "dead": lambda channel: channel.basic_get(dead_mailbox_name(RECEIVING)),
        "purge": lambda channel: channel.queue_purge(theirs),
        "delete": lambda channel: channel.queue_delete(theirs),
        "delete its own": lambda channel: channel.queue_delete(own),
        "bind": lambda channel: channel.queue_bind(own, "amq.fanout"),
        "reference": lambda channel: channel.basic_get("lgsp.deliver.H99.16/kho"),
        "declare": lambda channel: channel.queue_declare("lgsp.member.H99.16/kho-khac-2"),
        "publish": lambda channel: publish(channel, theirs),
        "publish to itself": lambda channel: publish(channel, own),
    }
    for name, deed in deeds.items():
        channel = channel_of(stranger)
        with pytest.raises(ChannelClosedByBroker) as closed:
            deed(channel)
        assert closed.value.reply_code == 403, name
        channel.connection.close()
    channel = channel_of(stranger)
    assert channel.basic_get(own)[0] is None
    channel.connection.close()


def publish(channel: Any, queue: str) -> None:
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"forged", mandatory=True)


@pytest.mark.service
def test_a_new_password_ends_the_old_one_and_a_revoked_user_is_thrown_out(world: World, rabbitmq: RabbitNode) -> None:
    first = granted(world, rabbitmq, RECEIVING)
    second = granted(world, rabbitmq, RECEIVING)
    with pytest.raises(AMQPConnectionError):
        channel_of(first)
    open_channel = channel_of(second)
    assert run(world, "broker", "revoke", RECEIVING).exit_code == 0
    wait_for(lambda: is_thrown_out(open_channel))
    with pytest.raises(AMQPConnectionError):
        channel_of(second)
    assert "had no user" in run(world, "broker", "revoke", RECEIVING).output


def is_thrown_out(channel: Any) -> bool:
    try:
        channel.connection.process_data_events()
    except AMQPConnectionError:
        return True
    return False


@pytest.mark.service
def test_the_list_tells_whose_rights_somebody_widened(world: World, rabbitmq: RabbitNode) -> None:
    granted(world, rabbitmq, RECEIVING)
    listed = {each["user"]: each["wider"] for each in json.loads(run(world, "broker", "list", "--json").stdout)}
    assert listed[RECEIVING] is False
    assert "guest" not in listed
    widen(rabbitmq, RECEIVING)
    try:
        assert "not as granted" in run(world, "broker", "list").output
    finally:
        granted(world, rabbitmq, RECEIVING)


def widen(node: RabbitNode, user: str) -> None:
    url = f"http://127.0.0.1:{node.management_port}/api/permissions/{node.virtual_path}/{quote(user, safe='')}"
    with urllib3.PoolManager() as pool:
        headers = urllib3.make_headers(basic_auth="guest:guest")
        answer = pool.request("PUT", url, headers=headers, json={"configure": ".*", "write": ".*", "read": ".*"})
        assert answer.status in (201, 204)


@pytest.mark.service
def test_only_registered_systems_of_the_mode_get_a_user_and_nothing_is_shown_twice(
    world: World, rabbitmq: RabbitNode
) -> None:
    for code in ("H99.15/mot-cua", "H99.16/khong-co"):
        assert run(world, "broker", "grant", code).exit_code == 2
    shown = run(world, "broker", "grant", RECEIVING)
    password = next(line.split()[1] for line in shown.stdout.splitlines() if line.startswith("password"))
    assert len(password) >= 43
    assert password not in run(world, "broker", "list").output
    for file in world.settings.home.rglob("*"):
        if file.is_file():
            assert password.encode() not in file.read_bytes()
    wrong = {**world.environment, "LGSP_BROKER_MANAGEMENT": rabbitmq.management_url.replace("guest:guest", "guest:no")}
    done = CliRunner().invoke(lgsp, ["--home", str(world.settings.home), "broker", "list"], env=wrong)
    assert done.exit_code == 1
    assert "LGSP_BROKER_MANAGEMENT" in done.output


@pytest.mark.parametrize("address", ["", "amqp://a:b@c", "http://host:15672", "not an address"])
def test_an_address_that_is_none_is_refused(address: str, tmp_path: Path) -> None:
    with bus_world(tmp_path, broker_url="amqp://a:b@127.0.0.1:9/", broker_management=address) as world:
        assert run(world, "broker", "list").exit_code == 2
