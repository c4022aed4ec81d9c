"""A rolling restart under load, on a real PostgreSQL and a real RabbitMQ: two `serve` and two `work`, each told to end
and started again in turn, while members go on sending.

Nothing is lost, nothing reaches the receiver twice, and no caller sees anything but a server that is not there for a
moment, which its retry mends.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3

from benchmarks.rabbitmq import RabbitNode
from bus.nodes import Role
from bus.records import State
from registry.model import Pattern, RetryPolicy, Service
from schemas.identifiers import AgencyCode, ServiceCode
from schemas.message import sha256_hex
from tests.bus_world import LOOKUP, MINISTRY, SENDER, World, _grant, bus_world, post
from tests.loopback import serving
from tests.programs import Program

pytestmark = [pytest.mark.slow, pytest.mark.service]

ERRAND = ServiceCode("dossier.errand")
CALLERS = 4
LEAST_MESSAGES = 200
_PATIENCE_SECONDS = 40


class Ministry:
    """A receiver that counts, by the idempotency key, what reached it. Slow enough to be met in mid-call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.arrivals: Counter[str] = Counter()
        self.bodies: dict[str, str] = {}
        self.at_once = self.most_at_once = 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        with self._lock:
            self.arrivals[environ["HTTP_IDEMPOTENCY_KEY"]] += 1
            self.bodies[environ["HTTP_IDEMPOTENCY_KEY"]] = sha256_hex(body)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(0.05)
        with self._lock:
            self.at_once -= 1
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'{"taken": true}']


class Callers:
    """Members that send to whichever server answers, and repeat what got no answer under the same id."""

    def __init__(self, world: World, urls: Callable[[], list[str]]) -> None:
        self._world = world
        self._urls = urls
        self._lock = threading.Lock()
        self._signing = threading.Lock()
        self.over = threading.Event()
        self.accepted: dict[str, str] = {}
        self.unreachable: Counter[str] = Counter()
        self.busy: Counter[str] = Counter()

    def run(self, number: int) -> None:
        for turn in itertools.count(number):
            if self.over.is_set():
                return
            self._send(LOOKUP if turn % 5 == 0 else ERRAND, turn)
            time.sleep(0.03)

    def have_sent(self, running: Iterable[Future[None]], count: int) -> bool:
        """More than so many? A caller that gave up says why."""
        for caller in running:
            if caller.done():
                caller.result()
        return len(self.accepted) > count

    def _send(self, service: str, turn: int) -> None:
        with self._signing:
            message = self._world.signed(
                b'{"note": "%d"}' % turn, service=service, receivers=(MINISTRY,), sender=SENDER, purpose=""
            )
        patience_ends = time.monotonic() + _PATIENCE_SECONDS
        for again in itertools.count(turn):
            urls = self._urls()
            try:
                answer = post(urls[again % len(urls)], message)
            except urllib3.exceptions.HTTPError as error:
                with self._lock:
                    self.unreachable[type(error).__name__] += 1
            else:
                if answer.status in {200, 202}:
                    with self._lock:
                        self.accepted[message.manifest.message_id] = sha256_hex(message.body)
                    return
                assert answer.status == 503, answer.body
                assert answer.json["retryable"], answer.body
                with self._lock:
                    self.busy[answer.json["reason"]] += 1
            assert time.monotonic() < patience_ends, "a caller got no answer for a long time"
            time.sleep(0.05)


@contextmanager
def _bus(world: World) -> Iterator[dict[str, Program]]:
    programs = {
        name: Program(world, name.partition("-")[0], drain_seconds=0.5)
        for name in ("serve-1", "serve-2", "work-1", "work-2")
    }
    try:
        _wait_until(lambda: _roll(world) == {Role.SERVE: 2, Role.WORK: 2}, "not all nodes came up")
        yield programs
    finally:
        for program in programs.values():
            program.kill()


def _roll(world: World) -> dict[Role, int]:
    return dict(Counter(node.role for node in world.bus.nodes.look().nodes))


def _wait_until(condition: Callable[[], bool], complaint: str) -> None:
    patience_ends = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < patience_ends, complaint
        time.sleep(0.05)


@pytest.mark.timeout(240)
def test_each_node_restarted_in_turn_under_load_loses_and_doubles_nothing(
    tmp_path: Path, new_store: Callable[[str, Path], str], rabbitmq: RabbitNode
) -> None:
    ministry = Ministry()
    with (
        serving(ministry) as recorded,
        bus_world(
            tmp_path,
            partner_url=recorded.url,
            store_url=new_store("postgresql", tmp_path),
            broker_url=rabbitmq.url,
            # On a busy machine five seconds pass; a look-up that is asked again may reach the ministry twice.
            request_reply_timeout_seconds=20.0,
            node_beat_seconds=1.0,
        ) as world,
    ):
        quick = RetryPolicy(max_attempts=1000, first_delay_seconds=0.05, max_delay_seconds=0.2)
        service = Service(
            code=ERRAND, version=1, name="Việc vặt", owner=AgencyCode("H99"), pattern=Pattern.ONE_WAY, retry=quick
        )
        world.register(service, _grant("errand", ERRAND))
        with _bus(world) as programs, ThreadPoolExecutor(CALLERS) as pool:
            serving_now = {name: programs[name].url for name in ("serve-1", "serve-2")}
            callers = Callers(world, lambda: list(serving_now.values()))
            running = [pool.submit(callers.run, number) for number in range(CALLERS)]
            try:
                for name in ("serve-1", "work-1", "serve-2", "work-2"):
                    before = len(callers.accepted)
                    _wait_until(lambda before=before: callers.have_sent(running, before + 10), "nothing is accepted")
                    programs[name].tell_to_end()
                    assert programs[name].wait() == 0, programs[name].log()[-2000:]
                    programs[name] = Program(world, programs[name].program, drain_seconds=0.5)
                    if name in serving_now:
                        serving_now[name] = programs[name].url
                    _wait_until(lambda: _roll(world) == {Role.SERVE: 2, Role.WORK: 2}, f"{name} did not come back")
                _wait_until(lambda: callers.have_sent(running, LEAST_MESSAGES), "too slow to tell")
            finally:
                callers.over.set()
            for caller in running:
                caller.result()
            _wait_until(
                lambda: world.bus.ledger.states() == {State.DELIVERED: len(callers.accepted)},
                "something is not delivered",
            )
            logs = "".join(program.log() for program in programs.values())
        print(len(callers.accepted), callers.unreachable, callers.busy)  # noqa: T201
        assert set(callers.unreachable) <= {"NewConnectionError", "ProtocolError"}, "not there, or gone unread"
        assert ministry.bodies == callers.accepted, "everything arrived as it was sent"
        assert set(ministry.arrivals.values()) == {1}, "and once, even at the wire"
        assert "Traceback" not in logs
        with world.bus.store.reading() as connection:
            audit = world.bus.log.verify_all(connection)
        assert audit.faults == ()
        ended: Counter[str] = Counter()
        for (name, _), number in world.bus.ledger.totals().items():
            ended[name] += number
        assert ended["accepted"] == ended["delivered"] == len(callers.accepted)
        assert audit.leaves == sum(ended[name] for name in ("accepted", "refused", "delivered", "died"))
