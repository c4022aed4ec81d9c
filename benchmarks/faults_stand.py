"""A whole bus to break: its processes under a supervisor, a sender's load in front of it, a receiver behind it, and the
audit that says afterwards what became of every message.

Every process is the real program. The supervisor starts again what has ended, as systemd would.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import time_machine

from benchmarks.bus import RECEIVER, SENDER, make_home
from benchmarks.faults_line import Line
from benchmarks.faults_receiver import Arrival, read_arrivals
from benchmarks.processes import ROOT, child_environment, free_port, wait_until_listening
from bus.assembly import Bus, open_bus
from bus.bundles import bundle_of, trust_of
from bus.records import ExchangeRecord, State
from connectors.client import AgencyClient, new_message_id
from registry.model import Entry, Grant, Ordering, Pattern, RetryPolicy, Service
from schemas.identifiers import AgencyCode, MessageId, ServiceCode
from schemas.moment import utc_now
from schemas.problem import Problem
from security.verifier import Trust, verify_bundle

ERRAND, IN_TURN, QUESTION = map(ServiceCode, ("fault.errand", "fault.in-turn", "fault.question"))
#: Seconds that a claim lasts here; 60 in production, and as much longer is what waits for a lease to end.
LEASE_SECONDS = 4.0
_PATIENCE_SECONDS = 45.0
#: After so many seconds without an answer the sender repeats its message.
_SENDER_TIMEOUT_SECONDS = 8.0
_QUICK = RetryPolicy(max_attempts=1000, first_delay_seconds=0.2, max_delay_seconds=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the messages of one row."""

    #: Messages for which the sender holds a receipt (or, of a question, the answer).
    accepted: int
    #: Of those: with exactly one effect at the receiver, with more, with none.
    once: int
    twice: int
    lost: int
    #: Requests that the receiver saw, of all kinds.
    arrivals: int
    #: Dead letters that were replayed after the fault, and those that stay dead because the receiver refuses them.
    replayed: int
    dead: int
    #: Answers that made the sender repeat, by status or kind.
    repeats: Mapping[str, int]
    #: Whatever is wrong with evidence, order or bookkeeping; nothing, if all is well.
    complaints: Sequence[str]
    #: From the end of the fault to the first effect after it; the worst where there were several faults.
    recovered_seconds: float
    #: From a receipt to its effect, the longest.
    slowest_seconds: float

    @property
    def is_whole(self) -> bool:
        return not (self.lost or self.twice or self.complaints)


class Program:
    """One process of the bus, started again whenever it ends, until told otherwise."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path, port: int = 0) -> None:
        self._command = list(command)
        self._environment = child_environment(environment)
        self._log = log
        self.port = port
        self._mutex = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = False
        #: How often it ended without being told to.
        self.deaths = 0

    def start(self) -> None:
        with self._mutex:
            self._wanted = True
            self._launch()

    def ready(self) -> None:
        """Wait until it listens. Raises RuntimeError."""
        wait_until_listening(self.port, within_seconds=_PATIENCE_SECONDS)

    def keep_alive(self) -> None:
        """The supervisor's look: start it again if it has ended."""
        with self._mutex:
            if self._wanted and self._process is not None and self._process.poll() is not None:
                self.deaths += 1
                self._launch()

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        with self._mutex:
            self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, wait, and not start it again."""
        with self._mutex:
            self._wanted = False
            process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._signal(signal.SIGKILL)
            process.wait()

    def _launch(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


@dataclass(kw_only=True)
class Stand:
    """Use as a context manager. ``fault_ends`` collects when each fault ended, by time.monotonic; empty, it was the
    deaths of marked processes."""

    folder: Path
    #: Variables of the store and the broker; none: embedded.
    servers: Mapping[str, str] = field(default_factory=dict)
    #: More variables for the bus's processes, and for those of the last node alone.
    environment: Mapping[str, str] = field(default_factory=dict)
    last_node_environment: Mapping[str, str] = field(default_factory=dict)
    nodes: int = 1
    retry: RetryPolicy = _QUICK
    home: Path = Path()
    serves: list[Program] = field(default_factory=list)
    works: list[Program] = field(default_factory=list)
    fault_ends: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Stand:
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _build(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.home = self.home if self.home.name else self.folder / "home"
        ports = [free_port() for _ in range(self.nodes)]
        self.front = self._keep(Line(ports))
        self.receiver = Program(
            [sys.executable, "-m", "benchmarks.faults_receiver", str(port := free_port()), str(self.arrivals_file)],
            {},
            self.folder / "receiver.log",
            port,
        )
        self._variables = {
            "LGSP_LEASE_SECONDS": str(LEASE_SECONDS),
            "LGSP_REQUEST_REPLY_TIMEOUT_SECONDS": "2",
            "LGSP_BREAKER_OPEN_SECONDS": "0.5",
            "LGSP_CHECKPOINT_SECONDS": "0.5",
            "LGSP_SERVE_PROCESSES": "1",
            "LGSP_PUBLIC_URL": self.front.url,
            **self.servers,
            **self.environment,
        }
        # A clock that is set back shall not come before the birth of the keys.
        with time_machine.travel(utc_now() - timedelta(days=1)):
            self.settings, self.key = make_home(
                self.home, f"http://127.0.0.1:{port}", self._variables, _services(self.retry)
            )
        for number, port in enumerate(ports):
            more = self.last_node_environment if number == self.nodes - 1 else {}
            self.serves.append(self._program("serve", number, port, more))
            self.works.append(self._program("work", number, 0, more))
        for program in self.programs:
            program.start()
            self._stack.callback(program.stop)
        for program in (self.receiver, *self.serves):
            program.ready()
        self._supervise()

    def _program(self, name: str, number: int, port: int, more: Mapping[str, str]) -> Program:
        variables = {**self._variables, "LGSP_HOME": str(self.home), "LGSP_PORT": str(port or 1), **more}
        command = [sys.executable, "-m", "benchmarks.dying_process", name]
        return Program(command, variables, self.folder / f"{name}-{number}.log", port)

    def _supervise(self) -> None:
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.05):
                for program in self.programs:
                    program.keep_alive()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(over.set)

    def _keep(self, line: Line) -> Line:
        self._stack.callback(line.close)
        return line

    @property
    def programs(self) -> list[Program]:
        return [self.receiver, *self.serves, *self.works]

    @property
    def arrivals_file(self) -> Path:
        return self.folder / "arrivals"

    def ended(self) -> None:
        """A fault ends now."""
        self.fault_ends.append(time.monotonic())

    def receiver_behaves(self, how: str, seconds: float = 0.0) -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.receiver.port}/behave",
            method="PUT",
            data=json.dumps({"how": how, "seconds": seconds}).encode(),
        )
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - the same

    def kill_marks_met(self) -> list[float]:
        """When a process killed itself for a mark, by time.monotonic."""
        offset = time.monotonic() - time.time()
        return sorted(path.stat().st_mtime + offset for path in self.home.glob("died at *"))


def _services(retry: RetryPolicy) -> list[Entry]:
    def service(code: ServiceCode, **facts: Any) -> Service:
        return Service(code=code, version=1, name=f"Thử lỗi {code}", owner=AgencyCode("H99"), retry=retry, **facts)

    return [
        service(ERRAND, pattern=Pattern.ONE_WAY),
        service(IN_TURN, pattern=Pattern.ONE_WAY, ordering=Ordering.DOSSIER),
        service(QUESTION, pattern=Pattern.REQUEST_REPLY),
        *(Grant(id=f"grant-{code}", service=code, grantee=SENDER) for code in (ERRAND, IN_TURN, QUESTION)),
    ]


# ── the load ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One message whose sender has the bus's word."""

    message_id: str
    serial: int
    body: bytes
    #: The receipt; of a question, empty.
    receipt: str
    at: float
    dossier: str = ""


class Load:
    """Messages by the agency client at an even pace; whoever gets no good answer repeats, under the same id."""

    def __init__(
        self,
        stand: Stand,
        *,
        count: int,
        seconds: float,
        marks: Mapping[int, bytes] | None = None,
        questions: bool = False,
        attachment: Callable[[int], Path] | None = None,
        senders: int = 8,
    ) -> None:
        """``marks`` are put into the body of the messages with these serials; ``attachment`` makes each a file."""
        self._stand = stand
        self._count = count
        self._seconds = seconds
        self._marks = marks or {}
        self._questions = questions
        self._attachment = attachment
        self._mutex = threading.Lock()
        self.sent: list[Sent] = []
        self.repeats: Counter[str] = Counter()
        self._begun = time.monotonic()
        self._gives_up = self._begun + seconds + _PATIENCE_SECONDS
        self._threads = [
            threading.Thread(target=self._send_all, args=(number, senders), daemon=True) for number in range(senders)
        ]
        self._client = AgencyClient(
            stand.front.url,
            stand.key,
            system=f"{SENDER}/mot-cua",
            timeout_seconds=_SENDER_TIMEOUT_SECONDS,
            attempts=2,
        )

    def start(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def wait_until(self, share: float) -> None:
        """Until so much of the time is over."""
        time.sleep(max(0.0, self._begun + self._seconds * share - time.monotonic()))

    @property
    def is_sending(self) -> bool:
        """Is there anything still to be sent, in its time?"""
        return time.monotonic() < self._begun + self._seconds

    def join(self) -> list[Sent]:
        """What was accepted in the end."""
        for thread in self._threads:
            thread.join()
        self._client.close()
        return self.sent

    def _send_all(self, first: int, step: int) -> None:
        """Every second sender sends the messages of a dossier in their order, ten each."""
        for turn, serial in enumerate(range(first, self._count, step)):
            time.sleep(max(0.0, self._begun + self._seconds * serial / self._count - time.monotonic()))
            dossier = f"{SENDER}-260423-{first:02}{turn // 10:04}" if first % 2 and not self._questions else ""
            self._send(serial, dossier)

    def _send(self, serial: int, dossier: str) -> None:
        note = self._marks.get(serial, b"").decode()
        body = json.dumps({"serial": serial, "note": note, "padding": "x" * 500}).encode()
        message_id = str(new_message_id())
        while time.monotonic() < self._gives_up:
            try:
                receipt = self._ask(message_id, body, dossier, serial)
            except Exception as error:
                with self._mutex:
                    self.repeats[_kind_of(error)] += 1
                time.sleep(random.uniform(0.1, 0.4))
                continue
            sent = Sent(
                message_id=message_id,
                serial=serial,
                body=body,
                receipt=receipt,
                at=time.monotonic(),
                dossier=dossier,
            )
            with self._mutex:
                self.sent.append(sent)
            return

    def _ask(self, message_id: str, body: bytes, dossier: str, serial: int) -> str:
        if self._questions:
            reply = self._client.call(QUESTION, RECEIVER, body, message_id=message_id)
            if json.loads(reply.body) != {"taken": True}:
                raise ValueError("another answer")
            return ""
        files = [self._attachment(serial)] if self._attachment else []
        return self._client.send(
            IN_TURN if dossier else ERRAND,
            [RECEIVER],
            body,
            dossier=dossier or None,
            message_id=message_id,
            attachments=files,
        ).receipt


def _kind_of(error: Exception) -> str:
    return f"{type(error).__name__} {error.reason}" if isinstance(error, Problem) else type(error).__name__


# ── the audit ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def audit(stand: Stand, load: Load, *, refused: Callable[[Sent], bool] = lambda _: False) -> Outcome:
    """Wait until all is settled (dead letters of what the receiver did not refuse are replayed once), and look.

    ``refused`` says of which messages the receiver wants no effect: these must be dead, the others delivered.
    """
    bus = open_bus(stand.settings)
    try:
        sent = load.sent
        wanted = [one for one in sent if not refused(one)]
        replayed = _settle_down(bus, {one.message_id for one in wanted})
        arrivals = read_arrivals(stand.arrivals_file)
        complaints = _complaints(bus, sent, {one.message_id for one in sent if refused(one)})
        effects = Counter(arrival.serial for arrival in arrivals if arrival.what == "effect")
        complaints += _out_of_order(arrivals, [one for one in sent if one.message_id not in replayed])
        complaints += [f"{arrival.serial}: another body" for arrival in arrivals if arrival.what == "conflict"]
        strangers = effects.keys() - {str(one.serial) for one in sent}
        complaints += [f"{serial}: an effect without a receipt" for serial in sorted(strangers)]
        counts = [effects[str(one.serial)] for one in wanted]
        return Outcome(
            accepted=len(sent),
            once=counts.count(1),
            twice=sum(number > 1 for number in counts),
            lost=counts.count(0),
            arrivals=len(arrivals),
            replayed=len(replayed),
            dead=bus.ledger.states().get(State.DEAD, 0),
            repeats=dict(load.repeats),
            complaints=complaints,
            recovered_seconds=_recovered(stand.fault_ends or stand.kill_marks_met(), arrivals),
            slowest_seconds=_slowest(wanted, arrivals),
        )
    finally:
        bus.close()


def without_timestamp(stand: Stand, sent: Sequence[Sent]) -> int:
    """Of how many messages no authority has confirmed the time, once the duty has had the time to catch up."""
    bus = open_bus(stand.settings)
    patience_ends = time.monotonic() + _PATIENCE_SECONDS
    try:
        trust = Trust.read(trust_of(bus))
        left = {one.message_id for one in sent}
        while left and time.monotonic() < patience_ends:
            time.sleep(0.5)
            left = {message_id for message_id in left if not _is_stamped(bus, message_id, trust)}
        return len(left)
    finally:
        bus.close()


def _is_stamped(bus: Bus, message_id: str, trust: Trust) -> bool:
    record = bus.ledger.find(MessageId(message_id))
    return record is not None and "timestamp-holds" in verify_bundle(bundle_of(bus, record), trust).findings


def _settle_down(bus: Bus, wanted: set[str]) -> set[str]:
    """The messages that were replayed."""
    patience_ends = time.monotonic() + _PATIENCE_SECONDS
    replayed: set[str] = set()
    while time.monotonic() < patience_ends:
        with suppress(Exception):  # the store may be on its way back
            states = bus.ledger.states()
            dead = [one for one in bus.ledger.dead(most=5000) if one.message_id in wanted - replayed]
            if dead:
                bus.ledger.replay([one.delivery_id for one in dead], "benchmarks", "the fault is over", utc_now())
                bus.wake.tap()
                replayed |= {one.message_id for one in dead}
            elif not states.keys() - {State.DELIVERED, State.DEAD}:
                break
        time.sleep(0.1)
    return replayed


def _complaints(bus: Bus, sent: Sequence[Sent], refused: set[str]) -> list[str]:
    """Of evidence: the log verifies and has exactly the leaves that it must have; every message has its receipt, the
    one that its sender holds, every delivery the bus's; and the bundle of each verifies offline."""
    bus.seal_evidence(utc_now())
    with bus.store.reading() as connection:
        audited = bus.log.verify_all(connection)
    complaints = list(audited.faults)
    trust = Trust.read(trust_of(bus))
    ended = 0
    for one in sent:
        record = bus.ledger.find(MessageId(one.message_id))
        if record is None:
            complaints.append(f"{one.serial}: acknowledged and not in the ledger")
            continue
        ended += sum(attempt.outcome is not State.WAITING for each in record.deliveries for attempt in each.attempts)
        complaints += [f"{one.serial}: {fault}" for fault in _faults_of(bus, record, one, one.message_id in refused)]
        if not _is_proven(bus, record, trust, one.body):
            complaints.append(f"{one.serial}: its bundle does not verify")
    totals = bus.ledger.totals()
    refusals = sum(value for (name, _), value in totals.items() if name == "refused")
    if audited.leaves != len(sent) + refusals + ended:
        complaints.append(f"{audited.leaves} leaves for {len(sent)} messages, {refusals} refusals and {ended} ends")
    return complaints


def _is_proven(bus: Bus, record: ExchangeRecord, trust: Trust, body: bytes) -> bool:
    try:
        return verify_bundle(bundle_of(bus, record), trust, body).holds
    except Problem:  # it cannot even be written
        return False


def _faults_of(bus: Bus, record: ExchangeRecord, sent: Sent, refused: bool) -> list[str]:
    faults = []
    if sent.receipt and record.receipt_jws != sent.receipt:
        faults.append("its sender holds another receipt")
    for delivery in record.deliveries:
        expected = State.DEAD if refused else State.DELIVERED
        if delivery.state is not expected:
            faults.append(f"it is {delivery.state}, not {expected}")
        elif delivery.leaf is None or (delivery.receipt_jws is None and not refused):
            faults.append("its delivery is not proven")
    return faults


def _out_of_order(arrivals: Sequence[Arrival], sent: Sequence[Sent]) -> list[str]:
    """Dossiers whose messages had their effects in another order than they were accepted in. (A dead letter does not
    hold up those behind it, so one that was replayed comes later.)"""
    place = {arrival.serial: number for number, arrival in enumerate(arrivals) if arrival.what == "effect"}
    in_turn: dict[str, list[Sent]] = defaultdict(list)
    for one in sorted(sent, key=lambda one: one.serial):
        if one.dossier and str(one.serial) in place:
            in_turn[one.dossier].append(one)
    places = {dossier: [place[str(one.serial)] for one in messages] for dossier, messages in in_turn.items()}
    return [f"{dossier}: out of order" for dossier, found in places.items() if found != sorted(found)]


def _recovered(fault_ends: Sequence[float], arrivals: Sequence[Arrival]) -> float:
    moments = [arrival.at_us / 1e6 for arrival in arrivals if arrival.what == "effect"]
    waits = [min((moment - end for moment in moments if moment >= end), default=0.0) for end in fault_ends]
    return max(waits, default=0.0)


def _slowest(sent: Sequence[Sent], arrivals: Sequence[Arrival]) -> float:
    first: dict[str, float] = {}
    for arrival in arrivals:
        if arrival.what == "effect":
            first.setdefault(arrival.serial, arrival.at_us / 1e6)
    # A question has its effect before its answer.
    return max(
        (first[str(one.serial)] - one.at for one in sent if one.receipt and str(one.serial) in first), default=0.0
    )
