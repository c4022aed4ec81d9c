"""A ledger of its own for tests, on SQLite or PostgreSQL, and messages to put into it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event, select, text
from uuid6 import uuid7

from bus.evidence import EvidenceWriter
from bus.ledger import Ledger
from bus.records import Claim, NewExchange, Recorded, Refusal, Settlement, State
from bus.settings import load_settings
from bus.store import Store, migrate, open_store
from registry.model import Pattern
from schemas.codec import canonical_json
from schemas.identifiers import AgencyCode, DossierCode, MessageId, ServiceCode, SystemCode
from schemas.message import (
    AttachmentReference,
    Envelope,
    Grade,
    Manifest,
    Means,
    Message,
    Principal,
    sha256_hex,
)
from schemas.problem import NotPermitted, ProviderRejected, ProviderUnavailable
from security.evidence.checkpoint import NoteKey
from security.evidence.log import EvidenceLog
from security.keys import KeyRing

SENDER = AgencyCode("H99.15")
RECEIVER, SECOND = AgencyCode("H99.16"), AgencyCode("H99.17")
STORE, ARCHIVE = SystemCode("H99.16/kho"), SystemCode("H99.17/luu-tru")
ROUTES = {RECEIVER: STORE, SECOND: ARCHIVE}
DOSSIER = DossierCode("H99.15-261121-0001")
#: The ledger is told the time; its own clock it asks only when it counts.
NOON = datetime(2026, 11, 21, 5, 0, tzinfo=UTC)
LEASE = timedelta(seconds=60)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(slots=True, kw_only=True)
class House:
    """One store with one ledger; `another` opens the same store a second time, as another node would."""

    store_url: str
    ring: KeyRing
    log_key: NoteKey
    store: Store = field(init=False)
    log: EvidenceLog = field(init=False)
    ledger: Ledger = field(init=False)
    evidence: EvidenceWriter = field(init=False)
    opened: list[House] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = open_store(load_settings({"store_url": self.store_url}, environ={}))
        self.log = EvidenceLog(self.log_key.name, self.log_key)
        self.ledger = Ledger(self.store, self.log)
        self.evidence = EvidenceWriter(self.ring)

    def another(self) -> House:
        house = House(store_url=self.store_url, ring=self.ring, log_key=self.log_key)
        self.opened.append(house)
        return house

    def close(self) -> None:
        for house in self.opened:
            house.close()
        self.store.close()

    # ── shortcuts ─────────────────────────────────────────────────────────────────────────────────────────────────

    def new(self, message: Message | None = None, **facts: Any) -> NewExchange:
        """A message ready to be recorded, with its receipt and leaf."""
        lease_until = facts.pop("lease_until", None)
        pattern = Pattern.REQUEST_REPLY if lease_until else facts.pop("pattern", Pattern.ONE_WAY)
        ordered, quota = facts.pop("ordered", False), facts.pop("quota_periods", ())
        message = message or a_message(**facts)
        receipt, leaf = self.evidence.accepted(message, message.received_at)
        return NewExchange(
            message=message,
            pattern=pattern,
            receipt=receipt,
            leaf=leaf,
            routes=tuple((agency, ROUTES[agency]) for agency in message.manifest.receivers),
            ordering_key=message.manifest.dossier if ordered else None,
            lease_until=lease_until,
            quota_periods=quota,
        )

    def record(self, message: Message | None = None, **facts: Any) -> Recorded:
        return self.ledger.record(self.new(message, **facts))

    def claim(self, now: datetime = NOON, system: SystemCode = STORE, most: int = 10) -> list[Claim]:
        return self.ledger.claim({system: most}, now, LEASE)

    def end(self, claim: Claim, state: State, *, now: datetime = NOON, due_at: datetime | None = None) -> Settlement:
        """How an attempt ended, with the evidence that the deliverer would write."""
        receipt_jws = leaf = problem = None
        if state is State.DELIVERED:
            receipt_jws, leaf = self.evidence.delivered(claim, now)
        else:
            failure = ProviderUnavailable("not-acknowledged")
            if state is State.DEAD:
                failure = ProviderRejected("refused-by-receiver")  # type: ignore[assignment]
                leaf = self.evidence.dead(claim, now, failure)
            problem = {"problem": failure.slug, "reason": failure.reason, "facts": {}}
        return Settlement(
            delivery_id=claim.delivery_id,
            attempt=claim.attempt,
            state=state,
            started_at=now,
            finished_at=now + timedelta(milliseconds=3),
            problem=problem,
            due_at=due_at,
            receipt_jws=receipt_jws,
            leaf=leaf,
        )

    def settle(self, claim: Claim, state: State, **facts: Any) -> bool:
        return self.ledger.settle(self.end(claim, state, **facts))

    def refusal(self, **facts: Any) -> Refusal:
        problem = NotPermitted("no-grant")
        envelope = Envelope(body=b"{}", content_type="", headers={}, received_at=NOON, traceparent=TRACE)
        return Refusal(
            refused_at=NOON,
            problem=problem.slug,
            reason=problem.reason,
            trace_id=envelope.trace_id,
            leaf=self.evidence.refused(problem, NOON, envelope),
            **facts,
        )

    def rows(self, table: str, where: str = "1 = 1") -> int:
        with self.store.reading() as connection:
            query = text(f"SELECT COUNT(*) FROM {table} WHERE {where}")  # noqa: S608 - the tests' own words
            return int(connection.execute(query).scalar_one())

    def entry(self, position: int) -> bytes:
        with self.store.reading() as connection:
            return self.log.entry(connection, position) or b""

    def must_hold(self) -> None:
        """What is true after every transaction, whatever was done: called at the end of each test of the suite."""
        with self.store.reading() as connection:
            assert self.log.verify_all(connection).faults == ()
            waiting = set(connection.execute(text("SELECT id FROM deliveries WHERE state = 'waiting'")).scalars())
            due = set(connection.execute(text("SELECT delivery_id FROM outbox")).scalars())
            assert due <= waiting, "only what waits is due"
            behind = text(
                "SELECT id FROM deliveries AS later WHERE ordering_key IS NOT NULL AND state = 'waiting' AND EXISTS "
                "(SELECT 1 FROM deliveries AS first WHERE first.ordering_key = later.ordering_key AND "
                "first.system = later.system AND first.id < later.id AND first.state IN ('waiting', 'delivering'))"
            )
            stuck = waiting - due - set(connection.execute(behind).scalars())
            assert not stuck, "whatever waits is due, or an earlier message of its dossier is under way"
            leased = "SELECT COUNT(*) FROM deliveries WHERE (state = 'delivering') <> (lease_until IS NOT NULL)"
            assert connection.execute(text(leased)).scalar_one() == 0, "a lease belongs to a delivery under way"
            by_state = select(text("state, COUNT(*) FROM deliveries GROUP BY state"))
            counts: dict[str, int] = dict(connection.execute(by_state).all())
            exchanges = connection.execute(text("SELECT COUNT(*) FROM exchanges")).scalar_one()
            refusals = connection.execute(text("SELECT COUNT(*) FROM refusals")).scalar_one()
            ended = connection.execute(
                text("SELECT COUNT(*) FROM attempts WHERE outcome IN ('delivered', 'dead')")
            ).scalar_one()
            leaves = connection.execute(text("SELECT COUNT(*) FROM evidence_leaves")).scalar_one()
        assert leaves == exchanges + refusals + ended, "a leaf for each message, refusal and end of a delivery"
        totals = self.ledger.totals()
        by_name: dict[str, int] = {}
        for (name, _), value in totals.items():
            by_name[name] = by_name.get(name, 0) + value
        assert by_name.get("accepted", 0) == exchanges
        assert by_name.get("refused", 0) == refusals
        assert by_name.get("delivered", 0) == counts.get("delivered", 0)
        assert by_name.get("delivered", 0) + by_name.get("died", 0) == ended
        assert {state.value: number for state, number in self.ledger.states().items()} == counts


def prepare(house: House) -> None:
    """Make the tables of an empty store, and let go of it."""
    migrate(house.store)
    with house.store.writing() as connection:
        house.log.prepare(connection)
    house.close()


def a_message(
    body: bytes = b'{"title": "x"}',
    *,
    message_id: str = "",
    receivers: Iterable[AgencyCode] = (RECEIVER,),
    dossier: DossierCode | None = None,
    issued_at: datetime = NOON,
    received_at: datetime = NOON,
    attachments: tuple[AttachmentReference, ...] = (),
    purpose: str = "",
) -> Message:
    """A message as step 2 would hand it on; the ledger does not look into its signature."""
    manifest = Manifest(
        message_id=MessageId(message_id or str(uuid7())),
        sender=SENDER,
        receivers=tuple(receivers),
        service=ServiceCode("dossier.transfer"),
        service_version=1,
        issued_at=issued_at,
        content_type="application/json",
        body_sha256=sha256_hex(body),
        body_length=len(body),
        dossier=dossier,
        attachments=attachments,
        purpose=purpose,
    )
    signed = canonical_json(manifest.to_claims())
    return Message(
        manifest=manifest,
        manifest_jws=f"signed:{signed.decode()}",
        manifest_sha256=sha256_hex(signed),
        grade=Grade.SIGNED,
        principal=Principal(agency=SENDER, system=SystemCode("H99.15/mot-cua"), means=Means.MANIFEST, key_id="k"),
        body=body,
        received_at=received_at,
        traceparent=TRACE,
    )


def statements_of(store: Store) -> list[str]:
    """Every statement that SQLite itself runs for the store from now on, values in place (PostgreSQL: none)."""
    seen: list[str] = []

    def watch(connection: Any, _record: Any, _proxy: Any) -> None:
        if store.is_sqlite:
            connection.set_trace_callback(seen.append)

    event.listen(store.engine, "checkout", watch)
    return seen
