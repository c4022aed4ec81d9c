"""Switching any partner off and on again loses nothing and delivers nothing twice.

The demonstration's province (its registry, connectors, secrets), the real intake and worker, and all twins in one HTTP
server that is really stopped and started on its port. What is tested is read from the registry and from the recorded
examples, so a new partner is in it by itself: for each twin every service that leads there.

A twin that was disturbed must end in the same state as one that was not. That is told without knowing any twin: the
same examples are sent twice, once in peace, and the two states are compared but for counters of repeats.
"""

from __future__ import annotations

import html
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uuid6
import yaml
from flask import Flask, Response

from bus.assembly import signers_of
from bus.cli.members import file_name
from bus.demo.province import SIGNING, members_folder, set_up, tell_nobody_of_events
from bus.intake import Acceptance
from bus.logs import no_logs
from bus.records import State
from bus.settings import load_settings
from bus.web.app import create_app
from connectors.sandbox import national_portal_2025, population
from connectors.sandbox.about import presets_of
from connectors.sandbox.app import Sandbox, SandboxConfig, create_sandbox
from connectors.sandbox.faults import Fault, read_faults
from registry.directory import Directory
from registry.model import DeliveryMode, Pattern, Service
from schemas.identifiers import AgencyCode, MessageId, ServiceCode
from schemas.message import Envelope, Grade
from schemas.moment import utc_now
from schemas.problem import Problem
from security.keys import SigningKey
from tests.bus_world import Answer, World, ask, delivering
from tests.loopback import closed_port, serving

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS: Sequence[Mapping[str, Any]] = list(
    yaml.safe_load_all((ROOT / "bus" / "demo" / "province.yaml").read_text("utf-8"))
)
PAYMENT = {"PhienBan": "1.0.6", "MaThamChieu": "HP0002260423100001", "ThoiGianGD": "20260423100500"}
#: Where the name of a service's schema does not lead to its recorded example: the example.
EXAMPLES: Mapping[str, str | Mapping[str, object]] = {
    "rating.submit": "schemas/examples/rating.json",
    # A status needs its petition, so both tell the same one.
    "petition.submit": "schemas/partners/petition/submit.example.json",
    "dossier.transfer": "schemas/examples/dossier.json",
    "edoc.send": "schemas/partners/edoc/document.example.xml",
    "edoc.status": "schemas/partners/edoc/status.example.xml",
    "result.notice": {"MaHoSo": "H99.15-260423-0001", "TrichYeu": "Trả kết quả", "NgayTra": "2026-04-24"},
    "flow.payment-and-post": {"init": {"MaThamChieu": "HP0001260423100001"}, "order": {}, "cancel": {}},
    "flow.business-and-tax": {"filing": {"in_journal_no": "HS260423"}, "tax": {}},
    "business-tax.result": {"maHoSo": "H99.15-260423-0001", "ketQua": "1"},
    # The other examples carry digests made with another secret than the sandbox's; here the bus computes them.
    "payment.init": "schemas/partners/payment/payment-init.2.example.json",
    "payment.query": PAYMENT | {"LoaiBanTin": "QUERY"},
    "payment.bill": PAYMENT | {"LoaiBanTin": "GET_BILL"},
}
#: What must have been asked of a twin before it takes its one-way messages.
BEFORE = {"national_portal_2025": "dossier.create"}
#: What the world does after a question was answered, so that the next one has an answer: the payer pays.
AFTERWARDS = {"payment.init": ("payment/pay", {"MaThamChieu": PAYMENT["MaThamChieu"]})}
#: Twins that know no key for one of their effects: the member of the state that shows it, and how the page tells it.
WITHOUT_KEY = {
    "national_portal_2025": ("numbers", "A repeated `dossier.number` leaves an unused number behind."),
}
#: Named faults of carriers that the demonstration's province has no contract with.
ELSEWHERE = {("sms", "unapproved-template"), ("sms", "token-expired")}
#: Counters in twins' states that a repeat may move. All else is an effect.
REPEATS = frozenset(
    {
        "duplicates",
        "repeats",
        "logins",
        "asked",
        "times",
        "manifests_good",
        "officers",
        "batches",
        "idempotency_keys",
        "read",
    }
)
#: Whom a grant without receivers is tried with.
ANYBODY = ["H99.16"]
MESSAGES = 2
PATIENCE_SECONDS = 20.0
DOSSIER = re.compile(rb"[GH]\d{2}(?:\.\d{2})*-\d{6}-\d{4,6}")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def twin_of(system: Mapping[str, Any]) -> str:
    """The twin behind a system of the manifest; empty when it is none."""
    place = (system.get("endpoint") or {}).get("url", "")
    return place.removeprefix("{sandbox}/").split("/")[0] if place.startswith("{sandbox}") else ""


def of_kind(kind: str) -> list[Mapping[str, Any]]:
    return [document for document in DOCUMENTS if document["kind"] == kind]


def grants_of(service: str, twin: str) -> list[tuple[Mapping[str, Any], str]]:
    """The grants under which a service's messages go to the twin, each with the receiver that is behind it."""
    return [
        (grant, receiver)
        for grant in of_kind("Grant")
        if grant["service"] == service
        for receiver in grant.get("receivers", ANYBODY)
        if twin_of(goal_of(service, receiver)) == twin
    ]


def goal_of(service: str, agency: str) -> Mapping[str, Any]:
    """The system that takes the service for the receiver: the one that names it, else the one that takes the rest."""
    own = [system for system in of_kind("System") if system["code"].startswith(f"{agency}/")]
    rest = [system for system in own if "receives" not in system and not system.get("sends_only")]
    return next((system for system in own if service in system.get("receives", ())), *rest[:1])


TWINS = sorted({twin_of(system) for system in of_kind("System")} - {""})
#: Those that are told something; the others are only asked.
TOLD = [
    twin
    for twin in TWINS
    if any(service["pattern"] == "one-way" and grants_of(service["code"], twin) for service in of_kind("Service"))
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What one grant lets an agency send to a system that has a twin."""

    service: Service
    sender: AgencyCode
    receiver: AgencyCode
    purpose: str
    examples: Sequence[bytes]

    def payload(self, number: int) -> bytes:
        return self.examples[number % len(self.examples)]

    @property
    def content_type(self) -> str:
        return "application/xml" if self.examples[0].lstrip()[:1] == b"<" else "application/json"


def examples_of(document: Mapping[str, Any]) -> list[bytes]:
    """The recorded examples of a service's payload."""
    named = EXAMPLES.get(document["code"])
    if isinstance(named, str):
        return [(ROOT / named).read_bytes()]
    if named is not None:
        return [json.dumps(named, ensure_ascii=False).encode()]
    schema = ROOT / document["schema"]["file"].replace("{schemas}", "schemas")
    stem = document.get("element", "").partition("}")[2] or schema.name.removesuffix(".schema.json")
    ending = "xml" if schema.suffix == ".xsd" else "json"
    found = [path.read_bytes() for path in sorted(schema.parent.glob(f"{stem}.*{ending}")) if ".example." in path.name]
    assert found, f"{document['code']}: no {stem}.example.{ending} is recorded"
    return found


def numbered(example: bytes, number: int) -> bytes:
    """The example as another case: its running numbers (0001 of a dossier, a reference, a person) become others."""
    text = re.sub(rb"(?<=HP)000[1-9]|000[1-9](?!\d)", b"%04d" % (100 + number), example)
    return re.sub(rb"\d+(?=/[A-Z]+-[A-Z]+<)", b"%d" % (100 + number), text)


def created_in_2025(example: bytes, number: int) -> bytes:
    """The portal of 2025 takes progress of the dossiers that it has created, by the id that it gave them."""
    text = numbered(example, number)
    rows = json.loads(text)
    if not isinstance(rows, list):
        return text
    created = uuid.uuid5(national_portal_2025.IDS, rows[0]["MaHoSo"])
    return re.sub(rb"[0-9a-f]{8}-[0-9a-f-]{27}", str(created).encode(), text)


PREPARED: Mapping[str, Callable[[bytes, int], bytes]] = {"national_portal_2025": created_in_2025}


class Clock:
    """The wall's clock, moved on by hand instead of waiting."""

    ahead = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


@dataclass(slots=True, kw_only=True)
class Stage:
    """The province, its twins' server, and the clock that its deliveries are due by."""

    world: World
    app: Flask
    keys: Mapping[str, Any]
    clock: Clock
    on: ExitStack = field(default_factory=ExitStack)
    calm: dict[str, Any] = field(default_factory=dict)
    #: What the twins have answered.
    said: list[str] = field(default_factory=list)

    @property
    def sandbox(self) -> Sandbox:
        found: Sandbox = self.app.extensions["sandbox"]
        return found

    # ---- the twins' server

    def switch_on(self) -> None:
        self.on.enter_context(serving(self.app, self.world.settings.sandbox_port))

    def switch_off(self) -> None:
        self.on.close()

    def control(self, method: str, path: str, body: str = "") -> Any:
        return ask(method, f"http://127.0.0.1:{self.world.settings.sandbox_port}/_sandbox/{path}", body).json

    def faults(self, twin: str, *faults: Fault) -> None:
        self.sandbox.dial.turn(twin, faults)

    # ---- messages

    def headers(self, errand: Errand, body: bytes, message_id: str) -> dict[str, str]:
        found = DOSSIER.search(body)
        if errand.service.grade is Grade.SIGNED:
            return dict(
                self.world.signed(
                    body,
                    service=errand.service.code,
                    receivers=(errand.receiver,),
                    sender=errand.sender,
                    purpose=errand.purpose,
                    key=self.keys[errand.sender],
                    message_id=message_id,
                    content_type=errand.content_type,
                    dossier=found[0].decode() if found else "",
                ).headers
            )
        system = self.world.bus.directory.current().systems_of(errand.sender)[0]
        return self.world.bearer(
            system.code,
            Content_Type=errand.content_type,
            Lgsp_Service=errand.service.code,
            Lgsp_Receiver=errand.receiver,
            Lgsp_Message_Id=message_id,
            Lgsp_Purpose=errand.purpose,
            Lgsp_Dossier=found[0].decode() if found else "",
        )

    def accept(self, errand: Errand, body: bytes) -> Acceptance:
        """One message into the real intake."""
        message_id = str(uuid6.uuid7())
        headers = {name.lower(): value for name, value in self.headers(errand, body, message_id).items()}
        return self.world.bus.intake.accept(
            Envelope(
                body=body,
                content_type=headers.pop("content-type"),
                headers=headers,
                received_at=utc_now(),
                traceparent=TRACE,
            )
        )

    def settle(self) -> None:
        """Wait until the worker has nothing to do by the stage's clock."""
        ledger = self.world.bus.ledger
        patience_ends = time.monotonic() + PATIENCE_SECONDS
        # A claim and a settlement move work from one of these to the other between two looks; not past three.
        while self.something_due() or ledger.unsettled()[State.DELIVERING] or self.something_due():
            assert time.monotonic() < patience_ends, ledger.unsettled()
            time.sleep(0.005)

    def something_due(self) -> bool:
        now = self.clock()
        return any(due <= now and self.is_called(system) for system, due in self.world.bus.ledger.systems_due(now))

    def is_called(self, code: str) -> bool:
        system = self.world.bus.directory.current().system(code)
        return system is not None and system.mode is DeliveryMode.PUSH

    def next_attempt(self) -> None:
        """Whatever waits is due now."""
        self.clock.ahead += timedelta(minutes=10)
        self.settle()

    def drain(self, sent: Sequence[MessageId]) -> None:
        """Attempts until nothing waits, a bounded number of them: a dossier's messages go one after the other."""
        for _ in range(5):
            if set(self.states(sent)) <= {State.DELIVERED, State.DEAD}:
                return
            self.next_attempt()

    def states(self, sent: Sequence[MessageId]) -> list[State]:
        found = [self.world.bus.ledger.find(message_id) for message_id in sent]
        return [one.deliveries[0].state for one in found if one is not None]


def who_may(directory: Directory, grant: Mapping[str, Any]) -> AgencyCode:
    """The grantee, or the first agency below it that has a system where the grant is shared with those."""
    grantee = AgencyCode(grant["grantee"])
    if not grant.get("include_children"):
        return grantee
    below = (code for code in directory.agencies if code.startswith(f"{grantee}."))
    return next(code for code in (grantee, *below) if directory.systems_of(code))


def errands(stage: Stage, twin: str, pattern: Pattern) -> list[Errand]:
    """Everything that the registry lets anybody send to the twin's systems, in the manifest's order."""
    directory = stage.world.bus.directory.current()
    found = []
    for document in of_kind("Service"):
        service = directory.service(ServiceCode(document["code"]), 1)
        assert service is not None
        # One sender is enough: two would tell the partner the same thing.
        for grant, named in grants_of(service.code, twin)[:1] if service.pattern is pattern else ():
            receiver = AgencyCode(named)
            system = directory.system_for(receiver, service.code)
            assert system is not None
            assert system.code == goal_of(service.code, receiver)["code"]
            found.append(
                Errand(
                    service=service,
                    sender=who_may(directory, grant),
                    receiver=receiver,
                    purpose=grant.get("purposes", [""])[0],
                    examples=examples_of(document),
                )
            )
    return found


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    clock = Clock()
    settings = load_settings(
        {
            "home": tmp_path_factory.mktemp("outages") / "home",
            "sandbox_port": closed_port(),
            "poll_seconds": 0.02,
            # Attempts are counted here one by one; tests/test_bus_bulkheads.py holds the breaker.
            "breaker_failures": 1_000_000,
        },
        environ={},
    )
    with ExitStack() as stack:
        stack.enter_context(no_logs())
        bus = set_up(settings, clock)
        stack.callback(bus.close)
        tell_nobody_of_events(bus)
        keys = signers_of(settings)
        app = create_sandbox(SandboxConfig(credentials_file=settings.sandbox_credentials_path, keys=keys))
        stage = Stage(
            world=World(settings=settings, bus=bus),
            app=app,
            clock=clock,
            keys={
                AgencyCode("H99"): bus.ring,
                **{
                    system.agency: SigningKey.load(members_folder(settings) / f"{file_name(system)}.pem")
                    for system in SIGNING
                },
            },
        )

        def listen(answer: Response) -> Response:
            stage.said.append(html.unescape(answer.get_data(as_text=True)))
            return answer

        app.after_request(listen)
        stack.callback(stage.switch_off)
        stack.callback(stage.sandbox.close)
        stack.enter_context(delivering(bus))
        yield stage


@pytest.fixture
def twin(stage: Stage, request: pytest.FixtureRequest) -> Iterator[str]:
    """A twin that is on, well and empty; off again afterwards."""
    name: str = request.param
    stage.clock.ahead = timedelta()
    stage.switch_on()
    stage.faults(name)
    empty(stage, name)
    try:
        yield name
    finally:
        stage.faults(name)
        stage.switch_off()


def empty(stage: Stage, twin: str) -> None:
    """Let the twin forget everything, and do again what must come before its one-way messages."""
    stage.control("POST", f"{twin}/reset")
    if twin in BEFORE:
        (asking,) = [one for one in errands(stage, twin, Pattern.REQUEST_REPLY) if one.service.code == BEFORE[twin]]
        for number in range(MESSAGES):
            stage.world.bus.calls.answer(stage.accept(asking, numbered(asking.payload(0), number)))


def bodies(stage: Stage, twin: str, first: int, last: int) -> list[tuple[Errand, bytes]]:
    """Numbered examples of every one-way service, case by case and within one in the manifest's order."""
    found = errands(stage, twin, Pattern.ONE_WAY)
    return [(one, PREPARED.get(twin, numbered)(one.payload(n), n)) for n in range(first, last) for one in found]


def send_all(stage: Stage, cases: Sequence[tuple[Errand, bytes]]) -> list[MessageId]:
    return [stage.accept(errand, body).message.manifest.message_id for errand, body in cases]


def effects(stage: Stage, twin: str) -> Any:
    """The twin's state without what a repeat may move, and without values that are made anew each time."""
    return shape(stage.control("GET", f"{twin}/state"))


def shape(value: Any) -> Any:
    """How many of what: members by name (ids as one kind), items as a sorted list, numbers as they are."""
    match value:
        case Mapping():
            members = [(kind_of(name), shape(member)) for name, member in value.items() if name not in REPEATS]
            return sorted(members, key=repr)
        case list():
            return sorted(map(shape, value), key=repr)
        case str():
            return "text"
        case _:
            return value


def kind_of(name: str) -> str:
    try:
        return f"id of version {uuid.UUID(name).version}"
    except ValueError:
        return name


def in_peace(stage: Stage, twin: str) -> None:
    """See once what state the cases leave at a twin that nobody disturbs. The twin is empty afterwards."""
    if twin not in stage.calm:
        sent = send_all(stage, bodies(stage, twin, 0, MESSAGES))
        stage.drain(sent)
        assert stage.states(sent) == [State.DELIVERED] * len(sent), stories(stage, sent)
        stage.calm[twin] = effects(stage, twin)
        empty(stage, twin)
        assert effects(stage, twin) != stage.calm[twin], "nothing had an effect"


def stories(stage: Stage, sent: Sequence[MessageId]) -> str:
    """What became of those that were not delivered, for a failing test's reader."""
    found = [stage.world.bus.ledger.find(message_id) for message_id in sent]
    return "\n".join(
        f"{one.service}: {one.deliveries[0].state} {[attempt.problem for attempt in one.deliveries[0].attempts]}"
        for one in found
        if one is not None and one.deliveries[0].state is not State.DELIVERED
    )


def assert_all_arrived_once(stage: Stage, twin: str, sent: Sequence[MessageId]) -> None:
    stage.drain(sent)
    assert stage.states(sent) == [State.DELIVERED] * len(sent), stories(stage, sent)
    assert effects(stage, twin) == stage.calm[twin]


pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("twin", TOLD, indirect=True)
def test_messages_to_a_twin_that_is_off_wait_and_arrive_once(stage: Stage, twin: str) -> None:
    in_peace(stage, twin)
    cases = bodies(stage, twin, 0, MESSAGES)
    stage.switch_off()
    sent = send_all(stage, cases)
    stage.settle()
    stage.next_attempt()
    assert set(stage.states(sent)) <= {State.WAITING}, stories(stage, sent)
    stage.switch_on()
    assert_all_arrived_once(stage, twin, sent)


@pytest.mark.parametrize("twin", TOLD, indirect=True)
def test_a_twin_that_goes_off_in_the_middle_gets_the_rest_later_and_nothing_twice(stage: Stage, twin: str) -> None:
    in_peace(stage, twin)
    cases = bodies(stage, twin, 0, MESSAGES)
    first = send_all(stage, cases[: len(cases) // MESSAGES])
    stage.drain(first)
    stage.faults(twin, Fault(kind="truncate", count=2), Fault(kind="reset"))
    rest = send_all(stage, cases[len(cases) // MESSAGES :])
    stage.settle()
    stage.switch_off()
    stage.next_attempt()
    assert set(stage.states(first)) <= {State.DELIVERED}
    assert set(stage.states(rest)) <= {State.WAITING}, stories(stage, rest)
    stage.faults(twin)
    stage.switch_on()
    assert_all_arrived_once(stage, twin, first + rest)


@pytest.mark.parametrize("twin", TOLD, indirect=True)
def test_an_answer_that_is_lost_delivers_nothing_twice(stage: Stage, twin: str) -> None:
    in_peace(stage, twin)
    cases = bodies(stage, twin, 0, MESSAGES)
    first = send_all(stage, cases[: len(cases) // MESSAGES])
    stage.drain(first)
    before = effects(stage, twin)
    sent: list[MessageId] = []
    for fault in (Fault(kind="truncate"), Fault(kind="reset", acts=True), Fault(kind="time-out", seconds=0)):
        stage.faults(twin, fault)
        if not sent:
            sent = send_all(stage, cases[len(cases) // MESSAGES :])
            stage.settle()
        else:
            stage.next_attempt()
        assert set(stage.states(sent)) <= {State.WAITING}, stories(stage, sent)
        assert effects(stage, twin) != before, "the twin is to act before its answer is lost"
    stage.faults(twin)
    assert_all_arrived_once(stage, twin, first + sent)


@pytest.mark.parametrize("twin", TWINS, indirect=True)
def test_a_question_to_a_twin_that_is_off_can_be_asked_again_and_has_one_answer(stage: Stage, twin: str) -> None:
    with serving_bus(stage) as exchange:
        for question in questions(stage, twin):
            answered(stage, exchange, question)
        calm = effects(stage, twin)
        empty(stage, twin)
        asked = questions(stage, twin)
        stage.switch_off()
        for question in asked:
            put_off(exchange(question))
        stage.switch_on()
        for question in asked:
            stage.faults(twin, Fault(kind="truncate", count=1))
            put_off(exchange(question))
            first = answered(stage, exchange, question)
            stage.faults(twin, Fault(kind="reset"))  # were the twin asked again, this would be told
            again = exchange(question)
            assert (again.status, again.body) == (200, first.body)
            stage.faults(twin)
    found = effects(stage, twin)
    if twin in WITHOUT_KEY:
        member, words = WITHOUT_KEY[twin]
        assert words in " ".join((ROOT / "docs" / "partners" / "national_portal.md").read_text("utf-8").split())
        found, calm = ([one for one in state if one[0] != member] for state in (found, calm))
    assert found == calm


Question = tuple[Errand, bytes, str]
Exchange = Callable[[Question], Answer]


def questions(stage: Stage, twin: str) -> list[Question]:
    """Every request-reply service's example under an id of its own, at a twin that has something to tell."""
    stage.drain(send_all(stage, bodies(stage, twin, 1, 1 + MESSAGES)))
    return [(one, one.payload(0), str(uuid6.uuid7())) for one in errands(stage, twin, Pattern.REQUEST_REPLY)]


def put_off(answer: Answer) -> None:
    assert (answer.status, answer.json["retryable"]) == (503, True), answer.json
    assert int(answer.headers["retry-after"]) > 0


def answered(stage: Stage, exchange: Exchange, question: Question) -> Answer:
    answer, service = exchange(question), question[0].service.code
    assert answer.status == 200, (service, answer.body)
    if service in AFTERWARDS:
        path, document = AFTERWARDS[service]
        stage.control("POST", path, json.dumps(document))
    return answer


@pytest.mark.parametrize("twin", TWINS, indirect=True)
def test_every_named_fault_of_a_twin_happens_to_what_the_bus_sends_and_says_its_words(stage: Stage, twin: str) -> None:
    texts = getattr(stage.sandbox.twins[twin], "wording", {})
    for name, preset in presets_of(twin).items():
        if not preset.fault or (twin, name) in ELSEWHERE:
            continue
        fault = replace(read_faults([{"name": name, "count": 1}], presets_of(twin))[0], seconds=0)
        stage.faults(twin, fault)
        stage.said.clear()
        disturb(stage, twin, lambda: stage.sandbox.dial.shown()[twin][0]["count"] == 0)
        assert stage.sandbox.dial.shown()[twin][0]["count"] == 0, f"{name} did not happen"
        if fault.kind == "error" and fault.code != population.NOBODY:
            words = json.dumps(texts.get(fault.wording, fault.message), ensure_ascii=False)[1:-1]
            assert any(words in said for said in stage.said), (name, stage.said)


def disturb(stage: Stage, twin: str, happened: Callable[[], bool]) -> None:
    """Send one of each service until the fault has happened."""
    for errand in errands(stage, twin, Pattern.ONE_WAY) + errands(stage, twin, Pattern.REQUEST_REPLY):
        acceptance = stage.accept(errand, PREPARED.get(twin, numbered)(errand.payload(0), 0))
        if errand.service.pattern is Pattern.ONE_WAY:
            stage.drain([acceptance.message.manifest.message_id])
        else:
            with suppress(Problem):
                stage.world.bus.calls.answer(acceptance)
        if happened():
            return


@contextmanager
def serving_bus(stage: Stage) -> Iterator[Exchange]:
    with serving(create_app(stage.world.bus)) as server:

        def exchange(question: Question) -> Answer:
            errand, body, message_id = question
            return ask("POST", f"{server.url}/v1/exchange", body, stage.headers(errand, body, message_id))

        yield exchange
