"""Nothing that was acknowledged is ever lost: the web process and the delivery process are killed (SIGKILL) at each
step of a message's life, and started again.

Then: every acknowledged message was delivered, had one effect at a receiver that honours the idempotency key, and has
its evidence, which verifies; what was not acknowledged could be sent again under the same id.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import urllib3

from benchmarks.dying_process import SERVE, WORK, mark
from bus.bundles import bundle_of, trust_of
from bus.records import State
from bus.settings import child_environment, load_settings
from registry.model import Pattern, RetryPolicy, Service
from schemas.identifiers import AgencyCode, MessageId, ServiceCode
from schemas.message import sha256_hex
from security.verifier import Trust, verify_bundle
from tests.bus_world import LOOKUP, MINISTRY, SENDER, Answer, Signed, World, _grant, bus_world, delivering, post
from tests.loopback import closed_port, serving

pytestmark = pytest.mark.slow

ERRAND = ServiceCode("dossier.errand")
_LEASE_SECONDS = 3.5
_PATIENCE_SECONDS = 40


class Ministry:
    """A receiver that honours the idempotency key, as WSGI: what it did, once per key, and how often it was asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.asked: dict[str, int] = defaultdict(int)
        self.effects: dict[str, str] = {}
        self.conflicts = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        key, digest = environ["HTTP_IDEMPOTENCY_KEY"], sha256_hex(body)
        with self._lock:
            self.asked[key] += 1
            self.conflicts += self.effects.setdefault(key, digest) != digest
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'{"taken": true}']


class Sent:
    """What was sent, and what the bus said to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.messages: dict[str, Signed] = {}
        self.receipts: dict[str, str] = {}

    def send(self, url: str, message: Signed) -> Answer | None:
        """The bus's answer; None when it died before it gave one."""
        message_id = message.manifest.message_id
        with self._lock:
            self.messages[message_id] = message
        try:
            answer = post(url, message)
        except urllib3.exceptions.HTTPError:
            return None
        if answer.status in {200, 202} and message.manifest.service == ERRAND:
            with self._lock:
                first = self.receipts.setdefault(message_id, answer.json["receipt"])
            assert answer.json["receipt"] == first, "a message has one receipt for ever"
        return answer

    def unacknowledged(self) -> list[Signed]:
        return [message for key, message in self.messages.items() if key not in self.receipts]


@pytest.fixture
def ministry() -> Ministry:
    return Ministry()


@pytest.fixture
def world(tmp_path: Path, ministry: Ministry) -> Iterator[World]:
    """A bus whose ministry is up all the time; `ERRAND` goes there and does not give up early."""
    quick = RetryPolicy(max_attempts=1000, first_delay_seconds=0.05, max_delay_seconds=0.2)
    with (
        serving(ministry) as recorded,
        bus_world(
            tmp_path,
            partner_url=recorded.url,
            lease_seconds=_LEASE_SECONDS,
            request_reply_timeout_seconds=1.0,
            poll_seconds=0.05,
            checkpoint_seconds=0.2,
            breaker_failures=10_000,
        ) as world,
    ):
        service = Service(
            code=ERRAND, version=1, name="Việc vặt", owner=AgencyCode("H99"), pattern=Pattern.ONE_WAY, retry=quick
        )
        world.register(service, _grant("errand", ERRAND))
        yield world


def _message(world: World, text: bytes, service: str = ERRAND) -> Signed:
    return world.signed(b'{"note": "%s"}' % text, service=service, receivers=(MINISTRY,), sender=SENDER, purpose="")


class Process:
    """A process of the bus that dies of marked messages; ``url`` is where it serves."""

    def __init__(self, world: World, program: str, *, processes: int = 1) -> None:
        port = closed_port()
        self.url = f"http://127.0.0.1:{port}"
        settings = load_settings({"port": port, "serve_processes": processes}, environ=world.environment)
        self._log = world.settings.home / f"{program}.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.dying_process", program],
                env=child_environment(settings),
                cwd=Path(__file__).resolve().parent.parent,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_it_serves(self) -> None:
        patience_ends = time.monotonic() + _PATIENCE_SECONDS
        with urllib3.PoolManager(retries=False, timeout=2) as pool:
            while time.monotonic() < patience_ends and self._process.poll() is None:
                try:
                    pool.request("GET", f"{self.url}/v1/exchange/x")
                    return
                except urllib3.exceptions.HTTPError:
                    time.sleep(0.03)
        raise AssertionError(f"the server did not start: {self._log.read_text(errors='replace')[-2000:]}")

    def has_lost(self, workers: int) -> bool:
        """Has gunicorn seen that many of its workers die of SIGKILL?"""
        return self._log.read_text(errors="replace").count("was sent SIGKILL") == workers

    def must_have_been_killed(self) -> None:
        """It reached its step: nothing else ends it so."""
        assert self._process.wait(_PATIENCE_SECONDS) == -signal.SIGKILL

    def kill(self) -> None:
        """The whole process group, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """Politely, with SIGTERM; its exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_PATIENCE_SECONDS)
        finally:
            self.kill()


@contextmanager
def _process(world: World, program: str) -> Iterator[Process]:
    process = Process(world, program)
    try:
        if program == "serve":
            process.wait_until_it_serves()
        yield process
    finally:
        process.kill()


def _wait_until_all_is_delivered(world: World, number: int) -> None:
    _wait_until(lambda: world.bus.ledger.states() == {State.DELIVERED: number}, "something is not delivered")


def _nothing_is_lost(world: World, ministry: Ministry, sent: Sent) -> None:
    """Everything was acknowledged in the end: then everything must have arrived, once, and be proven."""
    assert sent.receipts.keys() == {key for key, m in sent.messages.items() if m.manifest.service == ERRAND}
    _wait_until_all_is_delivered(world, len(sent.messages))
    assert ministry.effects == {key: sha256_hex(message.body) for key, message in sent.messages.items()}
    assert ministry.conflicts == 0
    world.bus.seal_evidence(max(m.manifest.issued_at for m in sent.messages.values()))
    with world.bus.store.reading() as connection:
        assert world.bus.log.verify_all(connection).faults == ()
    rows = world.rows()
    ended = sum(
        attempt.outcome in {State.DELIVERED, State.DEAD}
        for key in sent.messages
        for attempt in _found(world, key).deliveries[0].attempts
    )
    assert rows["exchanges"] == len(sent.messages)
    assert rows["evidence_leaves"] == rows["exchanges"] + rows["refusals"] + ended
    trust = Trust.read(trust_of(world.bus))
    for key, receipt in sent.receipts.items():
        found = _found(world, key)
        assert found.receipt_jws == receipt
        verdict = verify_bundle(bundle_of(world.bus, found), trust, sent.messages[key].body)
        assert verdict.holds, verdict


def _found(world: World, message_id: str) -> Any:
    found = world.bus.ledger.find(MessageId(message_id))
    assert found is not None, "an acknowledged message is gone"
    return found


def test_a_web_process_killed_at_any_step_loses_nothing_that_it_acknowledged(world: World, ministry: Ministry) -> None:
    sent, calls = Sent(), Sent()
    with delivering(world.bus), ThreadPoolExecutor(4) as pool, _process(world, "serve") as process:
        for number, step in enumerate(SERVE, 1):
            service = LOOKUP if step.startswith("call") else ERRAND
            doomed = _message(world, mark(step), service)
            neighbours = [_message(world, b"neighbour") for _ in range(3)]
            pending = [pool.submit(sent.send, process.url, message) for message in neighbours]
            answer = (calls if service == LOOKUP else sent).send(process.url, doomed)
            assert answer is None, "it died before it could answer"
            for future in pending:
                future.result()
            _wait_until(partial(process.has_lost, number), "it did not reach its step")
            kept = world.bus.ledger.find(doomed.manifest.message_id) is not None
            assert kept == (step in {"record-after-commit", "call-before", "call-after"})
        for message in sent.unacknowledged():
            sent.send(process.url, message)
        for message in calls.messages.values():
            _call_until_it_is_answered(process.url, calls, message)
        sent.messages.update(calls.messages)
        _nothing_is_lost(world, ministry, sent)


def _wait_until(condition: Callable[[], bool], complaint: str) -> None:
    patience_ends = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < patience_ends, complaint
        time.sleep(0.05)


def _call_until_it_is_answered(url: str, calls: Sent, message: Signed) -> None:
    """After the lease of the killed attempt the same call is made anew, and keeps its answer."""
    patience_ends = time.monotonic() + _PATIENCE_SECONDS
    while True:
        answer = calls.send(url, message)
        assert answer is not None
        if answer.status == 200:
            assert answer.json == {"taken": True}
            return
        assert answer.status == 503, answer.body
        assert answer.json["retryable"]
        assert time.monotonic() < patience_ends
        time.sleep(0.2)


def test_a_delivery_process_killed_at_any_step_delivers_everything(world: World, ministry: Ministry) -> None:
    sent, doomed = Sent(), {step: _message(world, mark(step)) for step in WORK}
    with world.serving() as url:
        for step in WORK:  # what one of them leaves behind, the next ones find
            for message in [_message(world, b"before"), doomed[step], _message(world, b"after")]:
                answer = sent.send(url, message)
                assert answer is not None
                assert answer.status == 202
            with _process(world, "work") as process:
                process.must_have_been_killed()
            found = _found(world, doomed[step].manifest.message_id).deliveries[0]
            assert (found.state is State.DELIVERED) == (step == "settle-after-commit")
            asked = ministry.asked[doomed[step].manifest.message_id]
            assert asked == (0 if step.startswith("dispatch") or step == "deliver-before" else 1)
    with delivering(world.bus):
        _nothing_is_lost(world, ministry, sent)
