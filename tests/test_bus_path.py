"""The life of a message through the real parts: intake, ledger, relay, connectors, over real HTTP to a partner."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from uuid6 import uuid7

from bus.bulkheads import BreakerState
from bus.intake import Acceptance
from bus.records import State
from bus.worker import Worker
from registry.model import Agency, DeliveryMode, Endpoint, Ordering, Pattern, RetryPolicy, Service, System
from schemas.identifiers import AgencyCode, MessageId, ServiceCode, SystemCode
from schemas.message import AttachmentReference, Direction, Envelope, Manifest, sha256_hex
from schemas.moment import VIETNAM, utc_now
from schemas.problem import (
    IdempotencyConflict,
    InternalFailure,
    InvalidReply,
    NotIdentified,
    NotPermitted,
    ProviderRejected,
    ProviderUnavailable,
    SchemaViolation,
    TooMany,
)
from security.keys import SigningKey
from security.signing import sign_manifest, split_compact, verify_manifest
from tests.bus_world import (
    ANSWERING,
    LOOKUP,
    MINISTRY,
    SENDER,
    SENDING,
    Signed,
    World,
    _grant,
    bus_world,
    certificate_of,
    key_of,
)
from tests.loopback import serving

PUSH, ORDERED, ASK, COUNTED = map(ServiceCode, ("errand.push", "errand.ordered", "errand.ask", "dossier.counted"))
SLOW, SLOW_SYSTEM = AgencyCode("G99.01"), SystemCode("G99.01/cham")
MINUTE = timedelta(minutes=1)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
QUICK = RetryPolicy(max_attempts=4, first_delay_seconds=0.02, max_delay_seconds=0.05)
REPLY_SCHEMA = {"type": "object", "required": ["name"], "additionalProperties": False, "properties": {"name": {}}}


@dataclass
class Partner:
    """A partner's system as WSGI. ``answer`` says what it does with a request; it remembers all of them."""

    answer: Callable[[dict[str, Any], bytes], tuple[str, list[tuple[str, str]], bytes]] = field(
        default=lambda _environ, _body: ("200 OK", [("Content-Type", "application/json")], b'{"name": "A"}')
    )
    keys: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        self.keys.append(environ["HTTP_IDEMPOTENCY_KEY"])
        self.bodies.append(body)
        status, headers, said = self.answer(environ, body)
        start_response(status, headers)
        return [said]

    def refuse(self, *statuses: str) -> None:
        """Answer with these, one after the other, then with 200."""
        left, good = list(statuses), self.answer
        self.answer = lambda environ, body: (left.pop(0), [], b"") if left else good(environ, body)


@dataclass
class Stage:
    """The bus, its partners, and short ways to drive them."""

    world: World
    ministry: Partner
    slow: Partner

    def envelope(self, message: Signed, **changed: Any) -> Envelope:
        headers = {name.lower(): value for name, value in message.headers.items()}
        body = changed.pop("body", message.body)
        headers.update(changed)
        return Envelope(
            body=body,
            content_type=headers.pop("content-type"),
            headers=headers,
            received_at=utc_now(),
            traceparent=TRACE,
        )

    def message(self, service: str = PUSH, body: bytes = b'{"x": 1}', to: str = MINISTRY, **facts: Any) -> Signed:
        return self.world.signed(body, service=service, receivers=(to,), purpose="", **facts)

    def accept(self, message: Signed | None = None, **changed: Any) -> Acceptance:
        return self.world.bus.intake.accept(self.envelope(message or self.message(), **changed))

    def call(self, message: Signed) -> Any:
        return self.world.bus.calls.answer(self.accept(message))

    def found(self, acceptance: Acceptance) -> Any:
        return self.world.bus.ledger.find(acceptance.message.manifest.message_id)

    @contextmanager
    def delivering(self) -> Iterator[Worker]:
        worker = Worker(self.world.bus)
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            yield worker
        finally:
            worker.stop()
            thread.join(20)
            assert not thread.is_alive(), "the deliverer does not stop"

    def wait_until(self, condition: Callable[[], object]) -> None:
        patience_ends = time.monotonic() + 15
        while not condition():
            assert time.monotonic() < patience_ends, f"{self.world.bus.ledger.states()}"
            time.sleep(0.01)


def _service(code: str, **facts: Any) -> Service:
    defaults: dict[str, Any] = {"version": 1, "owner": AgencyCode("H99"), "pattern": Pattern.ONE_WAY, "retry": QUICK}
    return Service(code=ServiceCode(code), name="Dịch vụ thử", **{**defaults, **facts})


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with _stage(tmp_path) as stage:
        yield stage


@contextmanager
def _stage(tmp_path: Path, **settings: object) -> Iterator[Stage]:
    ministry, slow = Partner(), Partner()
    defaults: dict[str, object] = {
        "poll_seconds": 0.02,
        "breaker_failures": 100,
        "breaker_open_seconds": 0.3,
        "checkpoint_seconds": 0.2,
    }
    with ExitStack() as stack:
        ministry_url = stack.enter_context(serving(ministry)).url
        slow_url = stack.enter_context(serving(slow)).url
        world = stack.enter_context(bus_world(tmp_path, partner_url=ministry_url, **{**defaults, **settings}))
        held = certificate_of(key_of(SLOW_SYSTEM))
        world.register(
            _agency(SLOW),
            System(
                code=SLOW_SYSTEM,
                name="Hệ thống chậm",
                mode=DeliveryMode.PUSH,
                certificates=(held,),
                endpoint=Endpoint(connector="rest", url=f"{slow_url}/in", timeout_seconds=5.0),
            ),
            _service(PUSH),
            _service(ORDERED, ordering=Ordering.DOSSIER),
            _service(ASK, pattern=Pattern.REQUEST_REPLY, reply_schema=REPLY_SCHEMA),
            _grant("push", PUSH),
            _grant("ordered", ORDERED),
            _grant("ask", ASK),
        )
        yield Stage(world=world, ministry=ministry, slow=slow)


def _agency(code: AgencyCode) -> Agency:
    return Agency(code=code, name="Cục Thử Nghiệm", parent=MINISTRY)


# ── the order of the steps ────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _steps_noted(stage: Stage) -> Iterator[list[str]]:
    """Which of the parts were asked, in order, by watching the real ones work."""
    steps: list[str] = []
    intake: Any = stage.world.bus.intake
    directory = intake._directory
    ledger = intake._ledger

    class Watched:
        def __init__(self, original: Any, names: dict[str, str]) -> None:
            self._original, self._names = original, names

        def __getattr__(self, name: str) -> Any:
            if name in self._names:
                steps.append(self._names[name])
            return getattr(self._original, name)

    class WatchedDirectory(Watched):
        def current(self) -> Any:
            return Watched(directory.current(), {"contract_for": "validate"})

    intake._directory = WatchedDirectory(directory, {})
    intake._ledger = Watched(ledger, {"record": "record", "refuse": "refuse"})
    try:
        yield steps
    finally:
        intake._directory, intake._ledger = directory, ledger


def _forged(stage: Stage) -> Envelope:
    stranger = SigningKey.generate(name="stranger")
    return stage.envelope(stage.message(key=stranger))


def _tampered(stage: Stage) -> Envelope:
    message = stage.message()
    return stage.envelope(message, body=message.body.replace(b"1", b"2"))


@pytest.mark.parametrize("make", [_forged, _tampered], ids=["unknown-key", "another-body"])
def test_an_unidentified_sender_reaches_neither_rights_nor_schema(
    stage: Stage, make: Callable[[Stage], Envelope]
) -> None:
    with _steps_noted(stage) as steps, pytest.raises(NotIdentified):
        stage.world.bus.intake.accept(make(stage))
    assert steps == ["refuse"]
    rows = stage.world.rows()
    assert (rows["exchanges"], rows["refusals"], rows["evidence_leaves"]) == (0, 1, 1)


def test_a_sender_without_a_grant_learns_nothing_of_the_schema(stage: Stage) -> None:
    stage.world.register(_service("errand.closed", schema={"type": "object", "required": ["secret"]}))
    with _steps_noted(stage) as steps, pytest.raises(NotPermitted) as refused:
        stage.accept(stage.message("errand.closed", b"[]"))
    assert "validate" not in steps
    assert steps[-1] == "refuse"
    assert refused.value.errors == ()


def test_a_payload_that_breaks_its_schema_never_reaches_the_ledger(stage: Stage) -> None:
    message = stage.world.signed({"title": 7})
    with _steps_noted(stage) as steps, pytest.raises(SchemaViolation):
        stage.accept(message)
    assert "record" not in steps
    assert steps[-2:] == ["validate", "refuse"]
    assert stage.world.rows()["exchanges"] == 0


def test_an_attachment_that_was_not_uploaded_is_refused(stage: Stage) -> None:
    message = stage.message(attachments=[AttachmentReference(sha256="a" * 64, length=1)])
    with pytest.raises(SchemaViolation) as refused:
        stage.accept(message)
    assert [error.pointer for error in refused.value.errors] == ["/attachments/0"]


def test_nothing_is_acknowledged_before_the_flush(stage: Stage) -> None:
    """The store's commit blocks: no receipt leaves the house until it is done."""
    store: Any = stage.world.bus.ledger._store
    writing, may_commit, at_the_gate = store.writing, threading.Event(), threading.Event()

    @contextmanager
    def blocked() -> Iterator[Any]:
        with writing() as connection:
            yield connection
            at_the_gate.set()
            assert may_commit.wait(10)

    store.writing = blocked
    message = stage.message()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(stage.accept, message)
        assert at_the_gate.wait(10)
        time.sleep(0.1)
        assert not answer.done()
        assert stage.world.bus.ledger.find(message.manifest.message_id) is None
        may_commit.set()
        receipt = answer.result(10).receipt
    store.writing = writing
    found = stage.world.bus.ledger.find(message.manifest.message_id)
    assert found is not None
    assert found.receipt_jws == receipt.receipt


def test_a_commit_that_fails_is_no_acknowledgement(stage: Stage) -> None:
    store: Any = stage.world.bus.ledger._store
    writing = store.writing

    @contextmanager
    def broken() -> Iterator[Any]:
        with writing() as connection:
            yield connection
            raise OSError("no space left on device")

    store.writing = broken
    message = stage.message()
    with pytest.raises(OSError, match="no space"):
        stage.accept(message)
    store.writing = writing
    assert stage.world.rows()["evidence_leaves"] == 0
    assert not stage.accept(message).repeated


def test_refusals_of_strangers_are_kept_at_a_bounded_rate_and_those_of_members_all(tmp_path: Path) -> None:
    with _stage(tmp_path, strangers_recorded_per_second=2) as stage:
        envelope = _forged(stage)
        for _ in range(30):
            with pytest.raises(NotIdentified):
                stage.world.bus.intake.accept(envelope)
        kept = stage.world.rows()["refusals"]
        assert 2 <= kept < 15
        for _ in range(10):
            with pytest.raises(NotPermitted):
                stage.accept(stage.message("dossier.archive"))
        assert stage.world.rows()["refusals"] == kept + 10


def test_a_quota_that_is_used_up_refuses_the_next_message(stage: Stage) -> None:
    first = stage.world.signed({"x": 1}, service=COUNTED, purpose="")
    stage.accept(first)
    today = utc_now().astimezone(VIETNAM).strftime("%Y-%m-%d")
    with pytest.raises(TooMany):
        stage.accept(stage.world.signed({"x": 2}, service=COUNTED, purpose=""))
    assert stage.world.bus.ledger.quota_used("counted", today) == 1


# ── delivery ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_message_arrives_with_its_exact_bytes_under_its_id(stage: Stage) -> None:
    body = '{"tên":  "Nguyễn\\u0020A" }'.encode()
    acceptance = stage.accept(stage.message(body=body))
    with stage.delivering():
        stage.wait_until(lambda: stage.found(acceptance).deliveries[0].state is State.DELIVERED)
    assert stage.ministry.bodies == [body]
    assert stage.ministry.keys == [acceptance.message.manifest.message_id]
    assert stage.found(acceptance).deliveries[0].receipt_jws


def test_a_receiver_that_fails_for_a_while_gets_it_later_with_the_same_key(stage: Stage) -> None:
    stage.ministry.refuse("503 Service Unavailable", "500 Internal Server Error", "429 Too Many Requests")
    acceptance = stage.accept()
    with stage.delivering():
        stage.wait_until(lambda: stage.found(acceptance).deliveries[0].state is State.DELIVERED)
    (delivery,) = stage.found(acceptance).deliveries
    assert [attempt.outcome for attempt in delivery.attempts] == [State.WAITING] * 3 + [State.DELIVERED]
    assert set(stage.ministry.keys) == {acceptance.message.manifest.message_id}


def test_a_receiver_that_rejects_is_not_asked_again(stage: Stage) -> None:
    stage.ministry.refuse("422 Unprocessable Content")
    acceptance = stage.accept()
    with stage.delivering():
        stage.wait_until(lambda: stage.found(acceptance).deliveries[0].state is State.DEAD)
        time.sleep(0.1)
    assert len(stage.ministry.keys) == 1
    (dead,) = stage.world.bus.ledger.dead()
    assert dead.problem is not None
    assert dead.problem["problem"] == "provider-rejected"


def test_attempts_run_out_and_a_replay_starts_afresh(stage: Stage) -> None:
    stage.ministry.refuse(*["503 Service Unavailable"] * 6)
    acceptance = stage.accept()
    with stage.delivering():
        stage.wait_until(lambda: stage.found(acceptance).deliveries[0].state is State.DEAD)
        assert len(stage.ministry.keys) == QUICK.max_attempts
        stage.world.bus.ledger.replay([stage.found(acceptance).deliveries[0].id], "truc", "thử lại", utc_now())
        stage.wait_until(lambda: stage.found(acceptance).deliveries[0].state is State.DELIVERED)
    assert len(stage.ministry.keys) == 7, "two more failures did not end it"


def test_a_breaker_opens_and_messages_wait_without_using_up_their_attempts(tmp_path: Path) -> None:
    with _stage(tmp_path, breaker_failures=3, breaker_open_seconds=0.4) as stage:
        down = threading.Event()
        down.set()
        good = stage.ministry.answer
        stage.ministry.answer = lambda environ, body: (
            ("503 Service Unavailable", [], b"") if down.is_set() else good(environ, body)
        )
        stage.world.register(_service(PUSH, retry=replace(QUICK, max_attempts=100)))
        acceptances = [stage.accept() for _ in range(3)]
        with stage.delivering():
            stage.wait_until(lambda: stage.world.bus.bulkheads.state(ANSWERING) is BreakerState.OPEN)
            acceptances += [stage.accept() for _ in range(5)]
            asked = len(stage.ministry.keys)
            time.sleep(0.15)
            assert len(stage.ministry.keys) == asked, "while it rests nothing is sent"
            assert stage.world.bus.ledger.states() == {State.WAITING: 8}
            down.clear()
            stage.wait_until(lambda: stage.world.bus.ledger.states() == {State.DELIVERED: 8})
        untouched = [stage.found(acceptance).deliveries[0].attempt for acceptance in acceptances[3:]]
        assert untouched == [1] * 5


def test_a_slow_receiver_does_not_delay_the_others(stage: Stage) -> None:
    may_answer = threading.Event()
    good = stage.slow.answer
    stage.slow.answer = lambda environ, body: (may_answer.wait(10), good(environ, body))[1]
    slow = [stage.accept(stage.message(to=SLOW)) for _ in range(60)]
    with stage.delivering():
        stage.wait_until(lambda: len(stage.slow.keys) == 50)
        begun = time.monotonic()
        quick = [stage.accept() for _ in range(10)]
        stage.wait_until(lambda: stage.world.bus.ledger.states().get(State.DELIVERED) == len(quick))
        assert time.monotonic() - begun < 5
        assert len(stage.slow.keys) == 50, "no more than its limit at once"
        may_answer.set()
        stage.wait_until(lambda: stage.world.bus.ledger.states() == {State.DELIVERED: len(slow) + len(quick)})


def test_a_graceful_stop_finishes_what_is_in_flight_and_claims_no_more(stage: Stage) -> None:
    may_answer, good = threading.Event(), stage.ministry.answer
    stage.ministry.answer = lambda environ, body: (may_answer.wait(10), good(environ, body))[1]
    under_way = stage.accept()
    with stage.delivering() as worker:
        stage.wait_until(lambda: stage.ministry.keys)
        worker.stop()
        later = stage.accept()
        time.sleep(0.1)
        may_answer.set()
    assert stage.found(under_way).deliveries[0].state is State.DELIVERED
    assert stage.found(later).deliveries[0].state is State.WAITING
    assert len(stage.ministry.keys) == 1


def test_a_deliverer_that_cannot_settle_still_stops_and_its_lease_runs_out(stage: Stage) -> None:
    """The registry out of reach for so long that nothing is answered: the attempt is not lost, only not told."""
    acceptance = stage.accept()
    delivery_failed = threading.Event()

    def unreachable(*_: Any) -> Any:
        delivery_failed.set()
        raise InternalFailure("registry-unreachable")

    worker = Worker(stage.world.bus)
    worker._delivery._decide = unreachable  # type: ignore[method-assign,assignment]
    thread = threading.Thread(target=worker.run)
    thread.start()
    assert delivery_failed.wait(10)
    worker.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert stage.found(acceptance).deliveries[0].state is State.DELIVERING
    assert stage.world.bus.bulkheads.free_places(ANSWERING, 50) == 50
    assert stage.world.bus.ledger.release_stalled(utc_now() + 60 * MINUTE) == 1


def test_a_settlement_that_could_not_be_written_is_written_later_and_nothing_is_sent_twice(stage: Stage) -> None:
    """The disk is full, or the database away, at the moment of settling."""
    acceptance = stage.accept()
    worker = Worker(stage.world.bus)
    broker: Any = worker._broker
    take = broker.take
    failures: list[Any] = []

    def fails_at_first(settled: Any, places: Any, now: Any) -> Any:
        if settled and not failures:
            failures.append(settled)
            raise OSError("no space left on device")
        return take(settled, places, now)

    broker.take = fails_at_first
    thread = threading.Thread(target=worker.run)
    thread.start()
    stage.wait_until(lambda: stage.found(acceptance).deliveries[0].state is State.DELIVERED)
    worker.stop()
    thread.join(10)
    assert failures
    assert len(stage.ministry.keys) == 1


def test_messages_of_a_dossier_arrive_in_order_even_when_the_first_is_tried_again(stage: Stage) -> None:
    stage.ministry.refuse("503 Service Unavailable", "503 Service Unavailable")
    dossier = "H99.15-261121-0001"
    acceptances = [stage.accept(stage.message(ORDERED, dossier=dossier)) for _ in range(4)]
    with stage.delivering():
        stage.wait_until(lambda: stage.world.bus.ledger.states() == {State.DELIVERED: 4})
    ids = [acceptance.message.manifest.message_id for acceptance in acceptances]
    assert stage.ministry.keys == [ids[0]] * 2 + ids


def test_a_receiver_that_is_suspended_is_waited_for_and_not_called(stage: Stage) -> None:
    acceptance = stage.accept()
    system = stage.world.bus.directory.current().system(ANSWERING)
    assert system is not None
    stage.world.register(replace(system, suspended=True))
    claims = stage.world.bus.ledger.claim({ANSWERING: 1}, utc_now(), MINUTE)
    stage.world.bus.bulkheads.enter(ANSWERING)
    outcome = stage.world.bus.delivery(stage.world.bus.ledger.settle).deliver(claims[0])
    assert isinstance(outcome.problem, ProviderUnavailable)
    assert stage.found(acceptance).deliveries[0].state is State.WAITING
    assert stage.ministry.keys == []


# ── request-reply ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_call_gets_the_first_answer_again_and_the_provider_is_asked_once(stage: Stage) -> None:
    message = stage.message(ASK)
    first = stage.call(message)
    assert stage.call(message) == first
    assert first.body == b'{"name": "A"}'
    assert len(stage.ministry.keys) == 1


def test_the_bus_vouches_for_a_reply_that_the_provider_did_not_sign(stage: Stage) -> None:
    message = stage.message(ASK)
    reply = stage.call(message)
    manifest = verify_manifest(reply.manifest_jws, stage.world.bus.ring, utc_now(), 300).manifest
    assert manifest.direction is Direction.REPLY
    assert manifest.body_sha256 == sha256_hex(reply.body)
    assert manifest.request_manifest_sha256 == sha256_hex(split_compact(message.headers["Lgsp-Manifest"]).payload)
    assert (manifest.sender, manifest.receivers, manifest.attested_system) == (MINISTRY, (SENDER,), ANSWERING)


def test_a_call_that_failed_can_be_made_again_under_the_same_id(stage: Stage) -> None:
    stage.ministry.refuse("503 Service Unavailable")
    message = stage.message(ASK)
    with pytest.raises(ProviderUnavailable):
        stage.call(message)
    assert stage.call(message).body == b'{"name": "A"}'
    found = stage.world.bus.ledger.find(message.manifest.message_id)
    assert found is not None
    assert [attempt.outcome for attempt in found.deliveries[0].attempts] == [State.DEAD, State.DELIVERED]
    assert set(stage.ministry.keys) == {message.manifest.message_id}


def test_a_call_that_is_under_way_is_not_started_beside_itself(stage: Stage) -> None:
    may_answer, good = threading.Event(), stage.ministry.answer
    stage.ministry.answer = lambda environ, body: (may_answer.wait(10), good(environ, body))[1]
    message = stage.message(ASK)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(stage.call, message)
        stage.wait_until(lambda: stage.ministry.keys)
        with pytest.raises(ProviderUnavailable) as busy:
            stage.call(message)
        assert (busy.value.reason, busy.value.retryable) == ("call-in-progress", True)
        may_answer.set()
        assert first.result(10).body == b'{"name": "A"}'
    assert len(stage.ministry.keys) == 1


def test_a_call_under_a_used_id_is_a_conflict(stage: Stage) -> None:
    message = stage.message(ASK)
    stage.call(message)
    other = stage.message(ASK, b'{"x": 2}', message_id=message.manifest.message_id)
    with pytest.raises(IdempotencyConflict):
        stage.call(other)


def _signing(
    message: Signed, body: bytes = b'{"name": "B"}', key: SigningKey | None = None, **changed: Any
) -> Callable[..., Any]:
    """A provider that signs its reply, as told."""
    facts: dict[str, Any] = {
        "message_id": MessageId(str(uuid7())),
        "direction": Direction.REPLY,
        "sender": MINISTRY,
        "receivers": (SENDER,),
        "service": message.manifest.service,
        "service_version": 1,
        "issued_at": utc_now().replace(microsecond=0),
        "content_type": "application/json",
        "body_sha256": sha256_hex(body),
        "body_length": len(body),
        "request_manifest_sha256": sha256_hex(split_compact(message.headers["Lgsp-Manifest"]).payload),
    }
    jws = sign_manifest(Manifest(**{**facts, **changed}), key or key_of(ANSWERING))
    headers = [("Content-Type", "application/json"), ("Lgsp-Manifest", jws)]
    return lambda _environ, _body: ("200 OK", headers, body)


def test_a_reply_that_the_provider_signed_is_handed_on_under_its_signature(stage: Stage) -> None:
    message = stage.message(ASK)
    stage.ministry.answer = _signing(message)
    reply = stage.call(message)
    manifest = verify_manifest(reply.manifest_jws, stage.world.bus.directory, utc_now(), 300).manifest
    assert (manifest.sender, manifest.attested_means) == (MINISTRY, None)
    assert reply.body == b'{"name": "B"}'


@pytest.mark.parametrize(
    "changed",
    [
        {"key": SigningKey.generate(name="stranger")},
        {"key": key_of(SENDING)},
        {"sender": SENDER, "key": key_of(SENDING)},
        {"direction": Direction.REQUEST},
        {"body_sha256": sha256_hex(b"another body")},
        {"request_manifest_sha256": sha256_hex(b"another request")},
        {"request_manifest_sha256": ""},
    ],
    ids=["stranger", "other-member", "other-sender", "request", "other-body", "other-request", "no-request"],
)
def test_a_forged_reply_is_not_handed_on(stage: Stage, changed: dict[str, Any]) -> None:
    message = stage.message(ASK)
    stage.ministry.answer = _signing(message, **changed)
    with pytest.raises(InvalidReply) as refused:
        stage.call(message)
    assert refused.value.reason == "reply-manifest-invalid"
    assert stage.world.rows()["replies"] == 0


@pytest.mark.parametrize("body", [b'{"name": 1, "more": 2}', b"{}", b"not json", b""])
def test_a_reply_that_breaks_its_schema_is_not_handed_on(stage: Stage, body: bytes) -> None:
    stage.ministry.answer = lambda _environ, _body: ("200 OK", [("Content-Type", "application/json")], body)
    with pytest.raises(InvalidReply) as refused:
        stage.call(stage.message(ASK))
    assert refused.value.reason == "reply-breaks-schema"
    assert stage.world.rows()["replies"] == 0


def test_a_rejected_call_tells_so(stage: Stage) -> None:
    stage.ministry.refuse("404 Not Found")
    with pytest.raises(ProviderRejected):
        stage.call(stage.message(ASK))


def test_a_call_to_a_full_system_fails_at_once_and_can_be_made_again(stage: Stage) -> None:
    system = stage.world.bus.directory.current().system(ANSWERING)
    assert system is not None
    stage.world.register(replace(system, concurrency=1))
    stage.world.bus.bulkheads.enter(ANSWERING)
    message = stage.message(ASK)
    with pytest.raises(ProviderUnavailable) as busy:
        stage.call(message)
    assert busy.value.reason == "receiver-busy"
    assert busy.value.retry_after_seconds
    assert stage.ministry.keys == []
    stage.world.bus.bulkheads.leave(ANSWERING, healthy=True)
    assert stage.call(message).body == b'{"name": "A"}'


def test_a_call_whose_process_died_can_be_made_again_after_its_lease(stage: Stage) -> None:
    message = stage.message(ASK)
    acceptance = stage.accept(message)  # and then the process dies
    with pytest.raises(ProviderUnavailable):
        stage.call(message)
    assert acceptance.lease_until is not None
    stage.world.bus.ledger.release_stalled(acceptance.lease_until + MINUTE)
    assert stage.call(message).body == b'{"name": "A"}'


def test_an_attested_call_is_answered_too(stage: Stage) -> None:
    message = stage.message(LOOKUP)
    assert stage.call(message).body == b'{"name": "A"}'
