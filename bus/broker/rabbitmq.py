"""RabbitMQ: one durable quorum queue of references for each receiving system, mailboxes of members, and the bus's only
use of pika.

::

    lgsp.deliver.<system>    quorum queue, at most DELIVERY_LIMIT returns of one reference, then:
    lgsp.dead                exchange and quorum queue of references that killed whoever took them
    lgsp.member.<system>     mailbox of a member that consumes by AMQP itself, see RabbitMailboxes
    lgsp.events              topic exchange and queues of events, see RabbitEvents

    message: {"delivery": "3145728"}, persistent, mandatory, headers {"traceparent": "00-…"}

One thread owns the connection and runs its loop; every other thread hands it work and is never called back by it except
through ``on_change``. Publishing is in batches whose confirms come back together. When the connection is lost, what was
not confirmed has failed (the outbox sends it again) and what was taken and not acknowledged comes again from the queue:
both are repeats, which the ledger tells from first times.
"""

from __future__ import annotations

import json
import random
import secrets
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import pika
from pika.adapters.select_connection import SelectConnection
from pika.channel import Channel
from pika.exceptions import AMQPError
from pika.spec import Basic, BasicProperties

from bus.broker.names import (
    EVENT_EXCHANGE,
    dead_event_queue_name,
    dead_mailbox_name,
    event_binding,
    event_queue_arguments,
    event_queue_name,
    event_routing_key,
    mailbox_arguments,
    mailbox_name,
)
from bus.logs import get_logger
from bus.records import Reference
from connectors.base import Letter
from schemas.identifiers import SystemCode
from schemas.problem import ProviderTimeout, ProviderUnavailable

log = get_logger()

#: How often a queue hands the same reference out before it goes to the dead ones.
DELIVERY_LIMIT: Final = 100
DEAD: Final = "lgsp.dead"
#: Of the number of a delivery, which has 63 bits.
_MOST_DIGITS: Final = 18
_HEARTBEAT_SECONDS: Final = 15
_CONNECT_SECONDS: Final = 5.0
#: After a connection that lasted so long the next one is tried soon.
_STEADY_SECONDS: Final = 5.0
#: Pause before the next try to connect: doubled each time up to the second, with some jitter.
_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 5.0
#: pika has three around an error of the network.
_MOST_WRAPPINGS: Final = 8
#: OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH.
_OTHER_NAME: Final = frozenset({62, 64})
_QUEUE_ARGUMENTS: Final = {
    "x-queue-type": "quorum",
    "x-delivery-limit": DELIVERY_LIMIT,
    "x-dead-letter-exchange": DEAD,
}


def queue_name(system: SystemCode) -> str:
    return f"lgsp.deliver.{system}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A reference taken from a queue. It comes again, to whoever takes next, unless it is acknowledged."""

    delivery_id: int
    system: SystemCode
    #: By time.monotonic.
    taken_at: float
    _tag: int
    #: Of which connection: a tag means nothing on another.
    _generation: int


class KeptConnection:
    """A connection that is made again whenever it is lost, with a thread of its own that runs its loop.

    ``on_open`` is called on that thread with each new connection, ``on_lost`` when it has ended or could not be made.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        on_open: Callable[[SelectConnection], None],
        on_lost: Callable[[], None],
        authority_file: str = "",
        random: Callable[[], float] = random.random,
    ) -> None:
        """``urls``: the nodes of the cluster, tried in turn; ``authority_file``: who signed their certificates."""
        if not urls:
            raise ValueError("a broker has an address")
        self._parameters = [_parameters(url, authority_file) for url in urls]
        self._on_open_then = on_open
        self._on_lost = on_lost
        self._random = random
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rabbitmq", daemon=True)
        self._opened = 0
        #: Of the thread that owns it.
        self.current: SelectConnection | None = None

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self.in_loop(self._end)
        self._thread.join(10)

    @property
    def is_closing(self) -> bool:
        return self._closing.is_set()

    def in_loop(self, function: Callable[[], None]) -> bool:
        """Run on the thread of the connection; False when there is no connection."""
        connection = self.current
        if connection is None:
            return False
        with suppress(Exception):  # the loop has just ended: as if there were none
            connection.ioloop.add_callback_threadsafe(function)
            return True
        return False

    def begin_anew(self, error: BaseException) -> None:
        """The broker closed a channel for what it takes as a mistake: end the whole connection, and make another."""
        if self._closing.is_set() or self.current is None or not self.current.is_open:
            return
        log.warning("broker.channel_closed", reason=type(error).__name__)
        self.current.close()

    def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        turn = int(self._random() * len(self._parameters))
        while not self._closing.is_set():
            opened_before, begun = self._opened, time.monotonic()
            try:
                self._connect(self._parameters[turn % len(self._parameters)])
            except Exception:
                log.exception("broker.failed")
            turn += 1
            # One that opens and ends at once (a cluster that is still finding itself) is no reason to hurry: each end
            # gives back what was taken, which queues count.
            if self._opened > opened_before and time.monotonic() - begun > _STEADY_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            self._closing.wait(pause * (0.5 + self._random()))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _connect(self, parameters: pika.ConnectionParameters) -> None:
        """One connection from its beginning to its end."""
        connection = SelectConnection(
            parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_refused,
            on_close_callback=self._on_closed,
        )
        self.current = connection
        try:
            connection.ioloop.start()
        finally:
            self.current = None
            self._on_lost()
            with suppress(Exception):
                connection.ioloop.close()

    def _on_open(self, connection: SelectConnection) -> None:
        if self._closing.is_set():
            connection.close()
            return
        self._opened += 1
        self._on_open_then(connection)

    def _end(self) -> None:
        connection = self.current
        if connection is None:
            return
        if connection.is_open:
            connection.close()
        else:
            connection.ioloop.stop()

    def _on_refused(self, connection: SelectConnection, error: BaseException) -> None:
        log.warning("broker.unreachable", reason=_reason_of(error))
        connection.ioloop.stop()

    def _on_closed(self, connection: SelectConnection, error: BaseException) -> None:
        if not self._closing.is_set():
            log.warning("broker.lost", reason=type(error).__name__)
        connection.ioloop.stop()


def _reason_of(error: BaseException) -> str:
    """What is at the bottom of a failure to connect, which pika wraps several times; no names, no ports."""
    inner: Any = error
    for _ in range(_MOST_WRAPPINGS):
        if isinstance(inner, OSError):
            break
        tried = [*getattr(inner, "exceptions", ()), *inner.args, getattr(inner, "exception", None)]
        below = [each for each in tried if isinstance(each, BaseException)]
        if not below:
            break
        inner = below[-1]
    if isinstance(inner, ssl.SSLCertVerificationError):
        return "tls-name-differs" if inner.verify_code in _OTHER_NAME else "tls-certificate-untrusted"
    return "tls-failed" if isinstance(inner, ssl.SSLError) else type(inner).__name__


class RabbitLink:
    """The connection of one process to the broker. Thread-safe; opened by `start`, ended by `close`."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        on_change: Callable[[], None],
        authority_file: str = "",
        random: Callable[[], float] = random.random,
    ) -> None:
        """``urls``: the nodes of the cluster, tried in turn; ``authority_file``: who signed their certificates."""
        self._kept = KeptConnection(
            urls, on_open=self._on_open, on_lost=self._lose, authority_file=authority_file, random=random
        )
        self._on_change = on_change
        self._mutex = threading.Lock()
        # Of the thread that owns the connection:
        self._publishing: Channel | None = None
        self._consuming: Channel | None = None
        self._generation = 0
        self._declared: set[SystemCode] = set()
        self._consumers: dict[SystemCode, tuple[str, int]] = {}
        self._unconfirmed: dict[int, Reference] = {}
        self._next_tag = 1
        #: Last tag of each batch under way, and when it left.
        self._sent: deque[tuple[int, float]] = deque()
        # Shared, under the mutex:
        self._wanted: Mapping[SystemCode, int] = {}
        self._confirmed: list[Reference] = []
        self._failed: list[Reference] = []
        self._received: dict[SystemCode, deque[Received]] = {}
        self._depths: dict[SystemCode, int] = {}
        self._blocked = False
        self._open = False
        self._unconfirmed_count = 0
        self._confirm_seconds: float | None = None

    def start(self) -> None:
        self._kept.start()

    def close(self) -> None:
        """End the connection; what was taken and not acknowledged goes back to its queue."""
        self._kept.close()

    # ── for any thread ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_open(self) -> bool:
        """Can references be published and taken now?"""
        with self._mutex:
            return self._open

    @property
    def is_blocked(self) -> bool:
        """Has the broker asked for a pause (its memory or disk runs out)?"""
        with self._mutex:
            return self._blocked

    @property
    def unconfirmed(self) -> int:
        """References published whose confirmation has not come yet."""
        with self._mutex:
            return self._unconfirmed_count

    @property
    def confirm_seconds(self) -> float | None:
        """From sending a batch to its confirmation, the latest one; None before the first."""
        return self._confirm_seconds

    def publish(self, references: Sequence[Reference]) -> None:
        """Send each to its system's queue. What arrives safely turns up in `confirmed`, what may not have arrived in
        `failed`; a connection that ends just now may take some with it of which nothing is said."""
        with self._mutex:
            self._unconfirmed_count += len(references)
        if not self._kept.in_loop(lambda: self._publish(references)):
            self._fail(references)

    def confirmed(self) -> list[Reference]:
        """What has arrived in its queue since the last call: on the disks of most nodes."""
        with self._mutex:
            confirmed, self._confirmed = self._confirmed, []
        return confirmed

    def failed(self) -> list[Reference]:
        """What has not arrived since the last call, or may have: its connection was lost before it was confirmed."""
        with self._mutex:
            failed, self._failed = self._failed, []
        return failed

    def _fail(self, references: Iterable[Reference]) -> None:
        with self._mutex:
            before = len(self._failed)
            self._failed += references
            self._unconfirmed_count = max(0, self._unconfirmed_count - (len(self._failed) - before))

    def consume(self, prefetch: Mapping[SystemCode, int]) -> None:
        """Take references of these systems, each at most so many at once that are not acknowledged; of no others. What
        has been taken of others lies here until somebody takes care of it."""
        with self._mutex:
            if prefetch == self._wanted:
                return
            self._wanted = dict(prefetch)
        self._kept.in_loop(self._follow_wishes)

    def received(self) -> dict[SystemCode, int]:
        """How many references lie here for each system."""
        with self._mutex:
            return {system: len(waiting) for system, waiting in self._received.items() if waiting}

    def take(self, system: SystemCode, most: int) -> list[Received]:
        """The oldest of them; they are the caller's to acknowledge or to put back."""
        with self._mutex:
            waiting = self._received.get(system, deque())
            return [waiting.popleft() for _ in range(min(most, len(waiting)))]

    def take_older_than(self, seconds: float) -> list[Received]:
        """Those that have lain here for so long."""
        limit = time.monotonic() - seconds
        with self._mutex:
            old = [each for waiting in self._received.values() for each in waiting if each.taken_at < limit]
            for system in {each.system for each in old}:
                kept = (each for each in self._received[system] if each.taken_at >= limit)
                self._received[system] = deque(kept)
        return old

    def put_back(self, references: Iterable[Received]) -> None:
        """Undo a `take`."""
        with self._mutex:
            for each in references:
                if each._generation == self._generation:
                    self._received.setdefault(each.system, deque()).appendleft(each)

    def acknowledge(self, references: Sequence[Received]) -> None:
        """They are done: the queue may forget them."""
        if references:
            self._kept.in_loop(lambda: self._acknowledge(references))

    def look_at(self, systems: Sequence[SystemCode]) -> None:
        """Ask how many references lie ready in these queues; the answers turn up in `depths`."""
        self._kept.in_loop(lambda: self._look_at(systems))

    def depths(self) -> dict[SystemCode, int]:
        """The answers to `look_at` since the last call."""
        with self._mutex:
            depths, self._depths = self._depths, {}
        return depths

    # ── the connection's own thread ───────────────────────────────────────────────────────────────────────────────

    def _on_open(self, connection: SelectConnection) -> None:
        connection.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))
        connection.channel(on_open_callback=self._on_publishing_channel)

    def _on_publishing_channel(self, channel: Channel) -> None:
        self._publishing = channel
        self._next_tag = 1
        channel.add_on_close_callback(lambda _channel, error: self._kept.begin_anew(error))
        channel.add_on_return_callback(self._on_returned)
        channel.confirm_delivery(self._on_confirmed)
        channel.exchange_declare(DEAD, exchange_type="fanout", durable=True)
        channel.queue_declare(DEAD, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_bind(DEAD, DEAD, callback=self._on_ready_to_publish)

    def _on_ready_to_publish(self, _frame: Any) -> None:
        if self._kept.current is not None:
            self._kept.current.channel(on_open_callback=self._on_consuming_channel)

    def _on_consuming_channel(self, channel: Channel) -> None:
        self._consuming = channel
        channel.add_on_close_callback(lambda _channel, error: self._kept.begin_anew(error))
        channel.add_on_cancel_callback(self._on_cancelled)
        with self._mutex:
            self._generation += 1
            self._open = True
        log.info("broker.connected")
        self._follow_wishes()
        self._on_change()

    def _lose(self) -> None:
        self._publishing = self._consuming = None
        self._declared.clear()
        self._consumers.clear()
        self._fail(self._unconfirmed.values())
        self._unconfirmed.clear()
        self._sent.clear()
        with self._mutex:
            self._open = self._blocked = False
            self._unconfirmed_count = 0
            self._received.clear()
            self._depths.clear()
        self._on_change()

    def _set_blocked(self, blocked: bool) -> None:
        log.warning("broker.blocked" if blocked else "broker.unblocked")
        with self._mutex:
            self._blocked = blocked
        self._on_change()

    def _declare(self, system: SystemCode) -> None:
        """Commands of a channel are carried out in their order: what follows finds the queue."""
        if system not in self._declared and self._publishing is not None:
            self._declared.add(system)
            self._publishing.queue_declare(queue_name(system), durable=True, arguments=_QUEUE_ARGUMENTS)

    def _publish(self, references: Sequence[Reference]) -> None:
        channel = self._publishing
        if channel is None or not channel.is_open:
            self._fail(references)
            return
        for reference in references:
            self._declare(reference.system)
            properties = BasicProperties(
                content_type="application/json",
                delivery_mode=2,
                message_id=str(reference.delivery_id),
                headers={"traceparent": reference.traceparent},
            )
            body = json.dumps({"delivery": str(reference.delivery_id)}).encode("ascii")
            self._unconfirmed[self._next_tag] = reference
            self._next_tag += 1
            channel.basic_publish("", queue_name(reference.system), body, properties, mandatory=True)
        self._sent.append((self._next_tag - 1, time.monotonic()))

    def _on_confirmed(self, frame: Any) -> None:
        method, last = frame.method, frame.method.delivery_tag
        tags = [tag for tag in self._unconfirmed if tag <= last] if method.multiple else [last]
        done = [each for tag in tags if (each := self._unconfirmed.pop(tag, None)) is not None]
        while self._sent and self._sent[0][0] <= last:
            self._confirm_seconds = time.monotonic() - self._sent.popleft()[1]
        if isinstance(method, Basic.Ack):
            with self._mutex:
                self._unconfirmed_count -= len(done)
                self._confirmed += done
        else:
            self._fail(done)
        self._on_change()

    def _on_returned(self, _channel: Channel, method: Any, properties: BasicProperties, _body: bytes) -> None:
        """There is no such queue (somebody deleted it): declare it before the next. A return comes before its
        confirmation, which must then count for nothing."""
        number = properties.message_id
        self._declared = {system for system in self._declared if queue_name(system) != method.routing_key}
        for tag, reference in list(self._unconfirmed.items()):
            if str(reference.delivery_id) == number:
                del self._unconfirmed[tag]
                self._fail([reference])
        log.warning("broker.returned", system=method.routing_key.rpartition("deliver.")[2])

    def _follow_wishes(self) -> None:
        """Begin and end consumers so that they are those that are wanted. What one has brought stays here, taken: a
        queue that gets it back hands it out again and counts that, up to DELIVERY_LIMIT."""
        channel = self._consuming
        if channel is None or not channel.is_open:
            return
        with self._mutex:
            wanted = dict(self._wanted)
        for system, (consumer, prefetch) in list(self._consumers.items()):
            if wanted.get(system) != prefetch:
                channel.basic_cancel(consumer)
                del self._consumers[system]
        for system, prefetch in wanted.items():
            if system not in self._consumers:
                channel.queue_declare(queue_name(system), durable=True, arguments=_QUEUE_ARGUMENTS)
                # Counts for the consumers that begin after it, one by one.
                channel.basic_qos(prefetch_count=prefetch)
                consumer = channel.basic_consume(queue_name(system), self._on_message)
                self._consumers[system] = (consumer, prefetch)

    def _on_cancelled(self, frame: Any) -> None:
        """The broker ended a consumer: its queue was deleted, or the node that led it is gone. Declare and begin again.
        What was taken from it is good for a claim; its acknowledgement is for nothing."""
        consumer = frame.method.consumer_tag
        for system, (tag, _) in list(self._consumers.items()):
            if tag == consumer:
                log.warning("broker.consumer_cancelled", system=system)
                del self._consumers[system]
                self._declared.discard(system)
        self._follow_wishes()

    def _on_message(self, channel: Channel, method: Any, _properties: BasicProperties, body: bytes) -> None:
        system = SystemCode.unchecked(method.routing_key.removeprefix("lgsp.deliver."))
        delivery = _delivery_in(body)
        if delivery is None:
            # Not ours: somebody else wrote into the queue. Nothing is lost by laying it aside.
            log.error("broker.foreign_message", system=system)
            channel.basic_reject(method.delivery_tag, requeue=False)
            return
        received = Received(
            delivery_id=delivery,
            system=system,
            taken_at=time.monotonic(),
            _tag=method.delivery_tag,
            _generation=self._generation,
        )
        with self._mutex:
            self._received.setdefault(system, deque()).append(received)
        self._on_change()

    def _acknowledge(self, references: Sequence[Received]) -> None:
        channel = self._consuming
        if channel is None or not channel.is_open:
            return
        for each in references:
            if each._generation == self._generation:
                channel.basic_ack(each._tag)

    def _look_at(self, systems: Sequence[SystemCode]) -> None:
        if self._publishing is None or not self._publishing.is_open:
            return
        for system in systems:
            self._publishing.queue_declare(
                queue_name(system), durable=True, arguments=_QUEUE_ARGUMENTS, callback=self._keeping_depth(system)
            )

    def _keeping_depth(self, system: SystemCode) -> Callable[[Any], None]:
        def keep(frame: Any) -> None:
            with self._mutex:
                self._depths[system] = frame.method.message_count
            self._on_change()

        return keep


def _delivery_in(body: bytes) -> int | None:
    """The delivery that a message names; None when it is not one of ours, whatever it is: what escaped from here would
    end the connection, and a number that the store cannot hold would stop every claim."""
    try:
        named = json.loads(body)["delivery"]
    except Exception:
        return None
    is_number = isinstance(named, str) and named.isascii() and named.isdigit() and len(named) <= _MOST_DIGITS
    return int(named) if is_number else None


class RabbitMailboxes:
    """See :class:`connectors.base.Mailboxes`: a queue ``lgsp.member.<system>`` for each member that consumes by AMQP.

    ::

        lgsp.member.<system>         at most MAILBOX_BYTES, then it takes no more (nothing is dropped, nothing expires)
        lgsp.member.<system>.dead    what its consumer returned RETURN_LIMIT times

    A connection of its own, made at the first letter. Letters that come while others are on their way go out together,
    and their confirmations come back together.
    """

    def __init__(self, urls: Sequence[str], *, authority_file: str = "") -> None:
        self._kept = KeptConnection(urls, on_open=self._on_open, on_lost=self._lose, authority_file=authority_file)
        self._mutex = threading.Lock()
        self._started = False
        #: Handed over and not published yet.
        self._waiting: deque[_OnItsWay] = deque()
        # Of the thread that owns the connection:
        self._channel: Channel | None = None
        self._declared: set[SystemCode] = set()
        self._unconfirmed: dict[int, _OnItsWay] = {}
        self._next_tag = 1

    def put(self, letter: Letter, timeout_seconds: float) -> None:
        """See :class:`connectors.base.Mailboxes`."""
        sent = _OnItsWay(letter)
        with self._mutex:
            if not self._started:
                self._started = True
                self._kept.start()
            self._waiting.append(sent)
            first = len(self._waiting) == 1
        if first:  # whoever came first has asked the thread to look, for all that come until it does
            self._kept.in_loop(self._publish)
        if not sent.ended.wait(timeout_seconds):
            sent.given_up = True
            with self._mutex, suppress(ValueError):  # not one more kept for each try while the broker is away
                self._waiting.remove(sent)
            # Until there is a connection nothing can have gone out.
            raise (
                ProviderTimeout("mailbox-unreachable") if sent.published else ProviderUnavailable("mailbox-unreachable")
            )
        if sent.reason:
            raise ProviderUnavailable(sent.reason)

    def close(self) -> None:
        with self._mutex:
            started, self._started = self._started, True
        if started:
            self._kept.close()
            self._lose()

    def _on_open(self, connection: SelectConnection) -> None:
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        channel.add_on_close_callback(lambda _channel, error: self._kept.begin_anew(error))
        channel.add_on_return_callback(self._on_returned)
        channel.confirm_delivery(self._on_confirmed, callback=lambda _frame: self._begin(channel))

    def _begin(self, channel: Channel) -> None:
        self._channel = channel
        self._next_tag = 1
        self._publish()

    def _publish(self) -> None:
        channel = self._channel
        if channel is None or not channel.is_open:
            return
        with self._mutex:
            letters, self._waiting = list(self._waiting), deque()
        for sent in letters:
            if sent.given_up:
                continue
            letter = sent.letter
            self._declare(channel, letter.mailbox)
            properties = BasicProperties(
                content_type=letter.content_type,
                delivery_mode=2,
                message_id=str(letter.message_id),
                correlation_id=sent.number,
                headers=dict(letter.headers),
            )
            self._unconfirmed[self._next_tag] = sent
            self._next_tag += 1
            sent.published = True
            exchange, routing_key = self._address(letter)
            channel.basic_publish(exchange, routing_key, letter.body, properties, mandatory=True)

    def _address(self, letter: Letter) -> tuple[str, str]:
        """Exchange and routing key."""
        return "", mailbox_name(letter.mailbox)

    def _declare(self, channel: Channel, system: SystemCode) -> None:
        if system in self._declared:
            return
        self._declared.add(system)
        channel.queue_declare(dead_mailbox_name(system), durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_declare(mailbox_name(system), durable=True, arguments=mailbox_arguments(system))

    def _on_confirmed(self, frame: Any) -> None:
        method, last = frame.method, frame.method.delivery_tag
        tags = [tag for tag in self._unconfirmed if tag <= last] if method.multiple else [last]
        reason = "" if isinstance(method, Basic.Ack) else "mailbox-full"
        for tag in tags:
            sent = self._unconfirmed.pop(tag, None)
            if sent is not None:
                sent.end(reason)

    def _on_returned(self, _channel: Channel, _method: Any, properties: BasicProperties, _body: bytes) -> None:
        """Somebody deleted the mailbox: it is declared before the next letter. A return comes before its confirmation,
        which must then count for nothing."""
        for tag, sent in list(self._unconfirmed.items()):
            if sent.number == properties.correlation_id:
                del self._unconfirmed[tag]
                self._declared.discard(sent.letter.mailbox)
                sent.end("mailbox-unreachable")
                log.warning("mailbox.missing", system=sent.letter.mailbox)

    def _lose(self) -> None:
        """What was on its way may or may not have arrived. What was not yet, waits for the next connection."""
        self._channel = None
        self._declared.clear()
        lost, self._unconfirmed = list(self._unconfirmed.values()), {}
        for sent in lost:
            sent.end("mailbox-unreachable")


class RabbitEvents(RabbitMailboxes):
    """The same for events (:mod:`bus.event_mover`): a topic exchange, and a queue for each subscriber.

    ::

        lgsp.events                  durable topic exchange; only the bus publishes to it
        lgsp.events.<system>         bound to to.<system>.#, at most MAILBOX_BYTES, then it takes no more
        lgsp.events.<system>.dead    what its consumer returned RETURN_LIMIT times

    A letter's ``topic`` is the event's type and the unit.
    """

    def _declare(self, channel: Channel, system: SystemCode) -> None:
        if system in self._declared:
            return
        self._declared.add(system)
        queue = event_queue_name(system)
        channel.exchange_declare(EVENT_EXCHANGE, exchange_type="topic", durable=True)
        channel.queue_declare(dead_event_queue_name(system), durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_declare(queue, durable=True, arguments=event_queue_arguments(system))
        channel.queue_bind(queue, EVENT_EXCHANGE, event_binding(system))

    def _address(self, letter: Letter) -> tuple[str, str]:
        event_type, unit = letter.topic
        return EVENT_EXCHANGE, event_routing_key(letter.mailbox, unit, event_type)


class _OnItsWay:
    """One letter between its sender and the confirmation."""

    __slots__ = ("ended", "given_up", "letter", "number", "published", "reason")

    def __init__(self, letter: Letter) -> None:
        self.letter = letter
        #: Tells this letter from an earlier try of the same message.
        self.number = secrets.token_hex(8)
        self.ended = threading.Event()
        self.reason = ""
        self.published = False
        self.given_up = False

    def end(self, reason: str) -> None:
        self.reason = reason
        self.ended.set()


def _parameters(url: str, authority_file: str) -> pika.ConnectionParameters:
    try:
        parameters = pika.URLParameters(url)
    except (ValueError, AMQPError, AttributeError) as error:
        raise ValueError("LGSP_BROKER_URL: expected amqp:// or amqps://user:password@host:port/vhost") from error
    parameters.heartbeat = _HEARTBEAT_SECONDS
    parameters.blocked_connection_timeout = None  # a blocked broker is waited for, not left
    parameters.socket_timeout = parameters.stack_timeout = _CONNECT_SECONDS
    if url.startswith("amqps://") and authority_file:
        parameters.ssl_options = pika.SSLOptions(ssl.create_default_context(cafile=authority_file), parameters.host)
    return parameters
