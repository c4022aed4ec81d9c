"""Tells subscribers of events. Runs in `lgsp work`, on any number of nodes.

::

    dossier_events   ──┐ cursor of the subscription            ┌─▶ lgsp.events ─▶ lgsp.events.<system>   (queue)
    registry_events  ──┴──────────▶ who sees and wants it? ────┴─▶ a message of the bus itself           (message)

Nothing of it is in the path of a message. At least once, under the same id each time: the cursor moves after the broker
or the ledger has the event on its disks, and a mover that dies is followed by another when its lease runs out. One
subscriber at a time, one event after the other: what cannot be told now is told first later, so the order holds, and
only that subscriber waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final, Protocol

from bus.assembly import Bus
from bus.event_store import Cursor, EventStore, Said
from bus.events import Audience, Known, dossier_event, registry_event
from bus.logs import get_logger
from bus.own_messages import own_envelope
from bus.settings import Settings
from connectors.base import Letter, message_id_of
from registry.directory import Directory
from registry.model import EventDelivery, Subscription
from registry.store import ChangeRecord
from schemas.events import (
    DOSSIER_CHANGED,
    EVENT_SERVICE,
    EVENT_SERVICE_VERSION,
    EVENT_TYPES,
    MEDIA_TYPE,
    REGISTRY_CHANGED,
    Event,
    source_of,
)
from schemas.identifiers import DossierCode, MessageId, SystemCode
from schemas.message import sha256_hex
from schemas.moment import utc_now
from schemas.problem import (
    IdempotencyConflict,
    Malformed,
    Problem,
    ProviderUnavailable,
    UnknownReceiver,
    UnknownService,
)

log = get_logger()

#: Words, or changes, that one turn looks at.
MOST_AT_ONCE: Final = 200
#: A turn ends by itself after a third of its lease, and one event is waited for as long, at most so long.
_CONFIRM_SECONDS: Final = 5.0
#: After a failure: 2, 4, 8 … seconds, at most this.
_LONGEST_REST_SECONDS: Final = 300
#: A place that moves on without anything to tell is written down now and then only.
_UNWRITTEN: Final = 1000
#: With these no subscriber's queue can be reached.
_NO_QUEUE: Final = frozenset({"mailbox-unreachable", "broker-missing"})

#: A position and a number there.
Place = tuple[int, int]


class EventQueues(Protocol):
    """Subscribers' queues at the broker (:class:`bus.broker.rabbitmq.RabbitEvents`)."""

    def put(self, letter: Letter, timeout_seconds: float) -> None:
        """See :class:`connectors.base.Mailboxes`."""

    def close(self) -> None:
        """Let go of the connection."""


class EventMover:
    """One a process; for one thread."""

    def __init__(self, bus: Bus, queues: EventQueues | None, now: Callable[[], datetime] = utc_now) -> None:
        """``queues`` None: there is no broker; subscriptions to a queue stand still."""
        self._bus = bus
        self._events = EventStore(bus.store, bus.log)
        self._system = SystemCode(bus.settings.system)
        self._source = source_of(self._system)
        self._queues = queues
        self._now = now
        self._lease = timedelta(seconds=bus.settings.lease_seconds)
        #: The revision of the registry that the cursors follow.
        self._followed: int | None = None
        #: Subscription and stream → turn, and the place before which there is nothing to tell.
        self._looked: dict[tuple[str, str], tuple[int, Place]] = {}

    @classmethod
    def of(cls, bus: Bus) -> EventMover:
        """With the broker that the settings name."""
        return cls(bus, open_event_queues(bus.settings))

    def close(self) -> None:
        if self._queues is not None:
            self._queues.close()

    def run_once(self) -> int:
        """Tell each subscriber what is new, up to some bound; how many events were told."""
        directory = self._bus.directory.current()
        self._follow(directory)
        told, no_queue = 0, False
        for cursor in self._in_turn(directory):
            subscription = directory.subscriptions[cursor.subscription]
            if no_queue and subscription.delivery is EventDelivery.QUEUE:
                continue  # a broker that is away is waited for once
            audience = Audience(subscription=subscription, directory=directory, operator=self._system)
            try:
                count, problem = self._take_turn(cursor, audience)
            except (
                Exception
            ):  # the store is away, or a fault of ours: the others go on, this one when its lease is over
                log.exception("event.failed", subscription=cursor.subscription)
                continue
            told += count
            no_queue = no_queue or (problem is not None and problem.reason in _NO_QUEUE)
        return told

    def _follow(self, directory: Directory) -> None:
        if self._followed != directory.revision:
            wanted = {
                (subscription.id, stream)
                for subscription in directory.subscriptions.values()
                for stream in EVENT_TYPES
                if subscription.wants(stream)
            }
            self._events.follow(wanted, {REGISTRY_CHANGED: directory.revision}, directory.revision)
            self._followed = directory.revision

    def _in_turn(self, directory: Directory) -> list[Cursor]:
        """Those that may be moved now; those that need no broker first."""
        if not directory.subscriptions:
            return []
        return sorted(
            (cursor for cursor in self._events.cursors() if self._may_move(cursor, directory)),
            key=lambda cursor: directory.subscriptions[cursor.subscription].delivery is EventDelivery.QUEUE,
        )

    def _may_move(self, cursor: Cursor, directory: Directory) -> bool:
        subscription = directory.subscriptions.get(cursor.subscription)
        system = directory.system(subscription.system) if subscription else None
        if system is None or system.suspended:
            return False  # it goes on from where it stands
        now = self._now()
        longest = self._lease + timedelta(seconds=_LONGEST_REST_SECONDS)
        return not now < cursor.free_at <= now + 2 * longest  # later than that: of a clock that was wrong

    # ── one look at one cursor ────────────────────────────────────────────────────────────────────────────────────

    def _take_turn(self, cursor: Cursor, audience: Audience) -> tuple[int, Problem | None]:
        """As far as it can go now: how many events were told, and what stopped it."""
        key = (cursor.subscription, cursor.stream)
        turn, looked = self._looked.get(key, (-1, cursor.place))
        events, end = self._happened(cursor.stream, looked if turn == cursor.turn else cursor.place, audience)
        wanted = [(place, event) for place, event in events if event is not None]
        if not wanted and end[0] - cursor.position < _UNWRITTEN:
            self._looked[key] = (cursor.turn, end)
            return 0, None
        if not self._events.claim(cursor, self._now(), self._lease):
            return 0, None
        places, problem = self._tell_all(wanted, audience)
        whole = len(places) == len(wanted)
        self._keep(cursor, end if whole else places[-1] if places else cursor.place, problem)
        if places:
            log.info("event.told", subscription=cursor.subscription, count=len(places))
        return len(places), problem

    def _tell_all(
        self, events: Iterable[tuple[Place, Event]], audience: Audience
    ) -> tuple[list[Place], Problem | None]:
        """The places of those that were told, in order."""
        over = self._now() + self._lease / 3
        told: list[Place] = []
        for place, event in events:
            try:
                self._tell(event, audience)
            except Problem as problem:
                return told, problem
            told.append(place)
            if self._now() > over:
                break
        return told, None

    def _keep(self, cursor: Cursor, place: Place, problem: Problem | None) -> None:
        tries = 0 if problem is None else cursor.tries + 1
        rest = timedelta(seconds=min(2.0 ** min(tries, 20), _LONGEST_REST_SECONDS) if problem else 0)
        reason = None if problem is None else problem.reason
        if problem is not None:
            log.warning("event.not_told", subscription=cursor.subscription, reason=reason, count=tries)
        if not self._events.keep(cursor, place, free_at=self._now() + rest, tries=tries, problem=reason):
            log.warning("event.turn_lost", subscription=cursor.subscription)

    # ── what happened ─────────────────────────────────────────────────────────────────────────────────────────────

    def _happened(
        self, stream: str, after: Place, audience: Audience
    ) -> tuple[Iterator[tuple[Place, Event | None]], Place]:
        """What came after a place, None where it is not for this audience, and the place up to which this is all."""
        if stream == REGISTRY_CHANGED:
            changes = self._bus.registry.changes_since(*after, MOST_AT_ONCE)
            return self._changed(changes, audience), changes[-1].place if changes else after
        said, end = self._events.said_since(after, MOST_AT_ONCE)
        return self._said(said, audience), end

    def _changed(self, changes: Iterable[ChangeRecord], audience: Audience) -> Iterator[tuple[Place, Event | None]]:
        for change in changes:
            yield change.place, registry_event(change, self._source) if audience.may_be_told(change) else None

    def _said(self, said: Iterable[Said], audience: Audience) -> Iterator[tuple[Place, Event | None]]:
        dossiers: dict[str, Known] = {}
        for each in said:
            yield each.place, self._event_of(each, audience, dossiers) if audience.sees(each) else None

    def _event_of(self, said: Said, audience: Audience, dossiers: dict[str, Known]) -> Event | None:
        """None where it is no news to this audience, or not what the subscription is about."""
        codes = self._bus.ledger.codes_of_dossier(said.dossier)
        known = dossiers.get(codes[0])
        if known is None:
            known = dossiers[codes[0]] = Known()
            for earlier in self._events.said_before(codes, said.place):
                if audience.sees(earlier):
                    known.learn(earlier)
        news = known.learn(said)
        return dossier_event(said, self._source) if news and audience.wants(said, known) else None

    # ── telling ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, event: Event, audience: Audience) -> None:
        """Returns when it is on disk. Raises Problem."""
        subscription = audience.subscription
        message_id = message_id_of(self._system, "event", subscription.id, event.id)
        if subscription.delivery is EventDelivery.QUEUE:
            self._put(event, subscription, message_id)
        else:
            self._send(event, subscription, audience.directory, message_id)

    def _put(self, event: Event, subscription: Subscription, message_id: MessageId) -> None:
        if self._queues is None:
            raise ProviderUnavailable("broker-missing")
        letter = Letter(
            mailbox=subscription.system,
            message_id=message_id,
            body=event.to_json(),
            content_type=MEDIA_TYPE,
            headers={"traceparent": _traceparent(event)},
            topic=(event.type, event.unit),
        )
        self._queues.put(letter, min(_CONFIRM_SECONDS, self._lease.total_seconds() / 3))

    def _send(self, event: Event, subscription: Subscription, directory: Directory, message_id: MessageId) -> None:
        service = directory.service(EVENT_SERVICE, EVENT_SERVICE_VERSION)
        if service is None:
            raise UnknownService("service-unknown")
        agency = subscription.system.agency
        taker = directory.system_for(agency, EVENT_SERVICE)
        if taker is None or taker.code != subscription.system:  # another system of its agency is not meant
            raise UnknownReceiver("receiver-not-connected")
        envelope = own_envelope(
            self._bus.ring,
            self._system,
            message_id=message_id,
            receivers=(agency,),
            service=service,
            body=event.to_json(),
            content_type=MEDIA_TYPE,
            traceparent=_traceparent(event),
            now=self._now(),
            dossier=_dossier_of(event),
        )
        try:
            self._bus.intake.accept(envelope)
        except IdempotencyConflict:  # told before, by a release that words events otherwise
            log.warning("event.worded_otherwise", subscription=subscription.id)


def open_event_queues(settings: Settings) -> EventQueues | None:
    """Nothing is connected before the first event."""
    if not settings.broker_urls:
        return None
    # pika is for those who need it.
    from bus.broker.rabbitmq import RabbitEvents

    return RabbitEvents(settings.broker_urls, authority_file=settings.broker_authority)


def _traceparent(event: Event) -> str:
    """That of the message that said so; a change of the registry has one of its own."""
    digits = event.id.replace("-", "")
    return event.traceparent or f"00-{digits}-{sha256_hex(digits.encode())[:16]}-01"


def _dossier_of(event: Event) -> DossierCode | None:
    """Messages about one dossier follow one another, where the service asks for it."""
    try:
        return DossierCode(event.subject) if event.type == DOSSIER_CHANGED else None
    except Malformed:
        return None
