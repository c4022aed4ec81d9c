"""Puts the bus together from its settings: the only place that knows which part gets which."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from bus.attachments import Attachments
from bus.bulkheads import Bulkheads
from bus.calls import Calls
from bus.cluster import Cluster
from bus.delivery import Delivery, lease_for_reply
from bus.evidence import EvidenceWriter
from bus.finding import Finder
from bus.inbox import Inbox
from bus.intake import Intake
from bus.ledger import Ledger
from bus.nodes import NodeStore
from bus.quotas import QuotaMeter
from bus.records import Settlement
from bus.refused import RefusedMessages
from bus.settings import Settings
from bus.store import Apart, Store, call_here, must_fit, newest_revision, open_engine, open_store
from bus.wake import WakeSender
from connectors.base import Connector, Mailboxes, Receiver
from connectors.table import build_connectors, build_receivers
from registry.directory import LiveDirectory
from registry.store import RegistryStore
from schemas.identifiers import SystemCode
from schemas.moment import utc_now
from schemas.problem import InternalFailure
from security.evidence.checkpoint import Checkpoint, NoteKey
from security.evidence.log import EvidenceLog
from security.identity import Identification
from security.keys import KeyRing, PublicKeyRecord
from security.secrets import SecretBox
from security.tokens import TokenAuthority

if TYPE_CHECKING:
    from sqlalchemy import Connection


T = TypeVar("T")

#: A process that was killed is shown as silent for so long, then forgotten.
_SILENT = timedelta(minutes=10)
_TIDY_SECONDS = 60.0


class NotInitialised(RuntimeError):
    """The home folder has no keys or no store yet; `lgsp init` makes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    """One process's share of the bus: what the web edge, the deliverers and the command line work with."""

    settings: Settings
    store: Store
    registry: RegistryStore
    directory: LiveDirectory
    ring: KeyRing
    log: EvidenceLog
    tokens: TokenAuthority
    identification: Identification
    secrets: SecretBox
    ledger: Ledger
    attachments: Attachments
    bulkheads: Bulkheads
    nodes: NodeStore
    cluster: Cluster
    evidence: EvidenceWriter
    finder: Finder
    refused: RefusedMessages
    intake: Intake
    calls: Calls
    inbox: Inbox
    wake: WakeSender
    #: Where members consume from the broker; None without one.
    mailboxes: ClosingMailboxes | None
    connectors: dict[str, Connector]
    receivers: Mapping[str, Receiver]
    #: The opened secret of a name, None when there is none.
    connector_secrets: Callable[[str], bytes | None]
    #: Makes a deliverer that hands its settlements to ``settle``.
    delivery: Callable[[Callable[[Settlement], object]], Delivery]
    #: What deliveries are due by. Whoever moves it on need not wait for the next attempt.
    clock: Callable[[], datetime]

    def seal_evidence(self, now: datetime) -> Checkpoint | None:
        """Sign a new checkpoint over the evidence log if it has grown."""
        return self.store.write(self.log.seal, now)

    def seal_in_turn(self, now: datetime) -> Checkpoint | None:
        """The same, unless a process of this bus has done so within the time between checkpoints."""
        with self.store.reading() as connection:
            if not self.log.has_grown(connection):
                return None
        return self.in_turn("seal", now, self.settings.checkpoint_seconds, partial(self.log.seal, now=now))

    def to_be_stamped(self, now: datetime) -> Checkpoint | None:
        """The latest checkpoint, if it has no timestamp and no process of this bus has asked for one lately: then it is
        this one's turn."""
        with self.store.reading() as connection:
            if self.log.unstamped_checkpoint(connection) is None:
                return None
        return self.in_turn("stamp", now, self.settings.timestamp_seconds, self.log.unstamped_checkpoint)

    def tidy_in_turn(self, now: datetime) -> int:
        """Remove what nobody needs any more: rows of processes that are gone, proofs that have expired, refused
        messages whose hours are over."""

        def tidy(connection: Connection) -> int:
            forgotten = self.ledger.forget_refused_in_time(connection, now)
            return forgotten + self.nodes.tidy(connection, now=now, silent_for=_SILENT)

        return self.in_turn("tidy", now, _TIDY_SECONDS, tidy) or 0

    def in_turn(self, duty: str, now: datetime, seconds: float, do: Callable[[Connection], T]) -> T | None:
        """Do a duty of all processes of this bus, unless one has done so within its period: None then."""
        return self.nodes.once_a_period(duty, self.cluster.id, now, seconds, do)

    def close(self) -> None:
        """Let go of connections and files. The bus is not used again."""
        self.cluster.stop()
        for connector in self.connectors.values():
            connector.close()
        if self.mailboxes is not None:
            self.mailboxes.close()
        self.wake.close()
        self.store.close()


class ClosingMailboxes(Mailboxes, Protocol):
    """Mailboxes with a connection to let go of."""

    def close(self) -> None: ...


def open_mailboxes(settings: Settings) -> ClosingMailboxes | None:
    """Nothing is connected before the first letter."""
    if not settings.broker_urls:
        return None
    # pika is for those who need it.
    from bus.broker.rabbitmq import RabbitMailboxes

    return RabbitMailboxes(settings.broker_urls, authority_file=settings.broker_authority)


def open_bus(
    settings: Settings,
    apart: Apart = call_here,
    clock: Callable[[], datetime] = utc_now,
    role: str = "command",
) -> Bus:
    """The bus of an initialised home folder. ``apart`` is where transactions run, ``clock`` says which deliveries are
    due, ``role`` is what the store is told of this process. Raises NotInitialised, StoreUnfit,
    InternalFailure(restore-incomplete)."""
    if settings.restore_mark_path.exists():
        raise InternalFailure("restore-incomplete")
    system = SystemCode(settings.system)
    try:
        ring = KeyRing(settings.ring_folder, system)
        log_key = NoteKey.load(settings.log_key_path, settings.log_origin)
        secrets = SecretBox.load(settings.master_key_path)
    except FileNotFoundError:
        raise NotInitialised(f"{settings.home} holds no keys; run `lgsp init` first") from None
    store = open_store(settings, apart, role)
    must_fit(store)
    registry = RegistryStore(store.engine)
    directory = LiveDirectory(registry)
    log = EvidenceLog(settings.log_origin, log_key)
    wake = WakeSender(settings.wake_folder)
    ledger = Ledger(store, log, on_due=wake.tap)
    tokens = TokenAuthority(
        ring, settings.public_url, clock_skew_seconds=settings.clock_skew_seconds, use_once=ledger.use_proof
    )

    def admits(code: SystemCode) -> bool:
        member = directory.current().system(code)
        return code == system or (member is not None and not member.suspended)

    identification = Identification(
        MembersAndBus(directory, ring),
        tokens,
        ring,
        directory.latest_version,
        clock_skew_seconds=settings.clock_skew_seconds,
        admits=admits,
        use_once=ledger.use_proof,
    )
    attachments = Attachments(settings.attachment_folder, ledger, settings.max_attachment_bytes)
    evidence = EvidenceWriter(ring)
    bulkheads = Bulkheads(failures_to_open=settings.breaker_failures, open_seconds=settings.breaker_open_seconds)
    nodes = NodeStore(store)
    cluster = Cluster(
        nodes=nodes,
        bulkheads=bulkheads,
        revision=newest_revision(),
        beat_seconds=settings.node_beat_seconds,
        probe_seconds=settings.lease_seconds,
    )
    connector_secrets = ConnectorSecrets(registry, secrets)
    mailboxes = open_mailboxes(settings)
    connectors = dict(build_connectors(secrets=connector_secrets, mailboxes=mailboxes))
    reply_lease = lease_for_reply(settings.request_reply_timeout_seconds)
    finder = Finder(log_key.derived_key("finding"))
    refused = RefusedMessages(secrets, settings.refused_kept_hours)
    intake = Intake(
        identification=identification,
        directory=directory,
        quotas=QuotaMeter(ledger.quota_used),
        attachments=attachments,
        evidence=evidence,
        ledger=ledger,
        finder=finder,
        refused=refused,
        reply_lease=reply_lease,
        strangers_recorded_per_second=settings.strangers_recorded_per_second,
    )

    def delivery(settle: Callable[[Settlement], object]) -> Delivery:
        return Delivery(
            directory=directory,
            connectors=connectors,
            secret=connector_secrets,
            bulkheads=bulkheads,
            evidence=evidence,
            settle=settle,
            clock_skew_seconds=settings.clock_skew_seconds,
            clock=clock,
        )

    calls = Calls(
        ledger=ledger, delivery=delivery(ledger.settle), bulkheads=bulkheads, directory=directory, lease=reply_lease
    )
    inbox = Inbox(ledger=ledger, directory=directory, evidence=evidence, lease_seconds=settings.lease_seconds)
    return Bus(
        settings=settings,
        store=store,
        registry=registry,
        directory=directory,
        ring=ring,
        log=log,
        tokens=tokens,
        identification=identification,
        secrets=secrets,
        ledger=ledger,
        attachments=attachments,
        bulkheads=bulkheads,
        nodes=nodes,
        cluster=cluster,
        evidence=evidence,
        finder=finder,
        refused=refused,
        intake=intake,
        calls=calls,
        inbox=inbox,
        wake=wake,
        mailboxes=mailboxes,
        connectors=connectors,
        receivers=build_receivers(),
        connector_secrets=connector_secrets,
        delivery=delivery,
        clock=clock,
    )


@dataclass(frozen=True, slots=True)
class MembersAndBus:
    """Keys of the members, and the bus's own: what its processes send is signed by its ring, which no registration
    could follow through every rotation."""

    directory: LiveDirectory
    ring: KeyRing

    def find_key(self, key_id: str) -> PublicKeyRecord | None:
        return self.directory.find_key(key_id) or self.ring.find_key(key_id)


def signers_of(settings: Settings) -> MembersAndBus:
    """Whoever may sign a manifest in an initialised home: members, and the bus for what it attests or sends itself."""
    directory = LiveDirectory(RegistryStore(open_engine(settings)))
    return MembersAndBus(directory, KeyRing(settings.ring_folder, SystemCode(settings.system)))


class ConnectorSecrets:
    """Opens the sealed secret of a name, and remembers it until the registry changes; seals what a connector was given
    by its partner (:class:`connectors.base.SecretStore`). Thread-safe."""

    def __init__(self, registry: RegistryStore, box: SecretBox) -> None:
        self._registry = registry
        self._box = box
        self._mutex = threading.Lock()
        self._opened: dict[str, tuple[bytes, bytes]] = {}

    def __call__(self, name: str) -> bytes | None:
        sealed = self._registry.secret(name)
        if sealed is None:
            return None
        with self._mutex:
            known = self._opened.get(name)
        if known is None or known[0] != sealed:
            known = (sealed, self._box.open(name, sealed))
            with self._mutex:
                self._opened[name] = known
        return known[1]

    def remember(self, name: str, secret: bytes) -> None:
        self._registry.put_secret(name, self._box.seal(name, secret), "connector")
