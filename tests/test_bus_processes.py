"""Long flows: definitions that are refused, a flow over the real intake, and what happens when things go wrong."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from click.testing import CliRunner

from benchmarks.dying_process import FLOW as DYING
from benchmarks.dying_process import mark
from bus.bundles import bundle_of, trust_of
from bus.cli import lgsp
from bus.processes.catalogue import shipped
from bus.processes.condition import read_condition
from bus.processes.definition import Definition, Kind, read_definition
from bus.processes.engine import Engine
from bus.processes.journal import Journal, ProcessRecord, Status
from bus.processes.runner import Runner
from bus.settings import child_environment
from bus.worker import Worker
from registry.model import Pattern
from schemas.identifiers import AgencyCode, DossierCode, MessageId
from schemas.message import Grade
from schemas.moment import utc_now
from schemas.problem import Malformed
from security.verifier import Trust, verify_bundle
from tests.bus_world import MINISTRY, RECEIVER, SENDER, World, _grant, _service, bus_world, post
from tests.loopback import serving

DOSSIER = "H99.15-260423-0001"
#: Fee → bill (an answer is needed) → paid, or not in time → order → delivered; a lost parcel cancels the order.
FLOW = """<?xml version="1.0" encoding="UTF-8"?>
<bpmn:definitions xmlns:bpmn="http://www.omg.org/spec/BPMN/20100524/MODEL" xmlns:lgsp="urn:lgsp:process:1">
  <bpmn:message id="m1" name="fee.due"/>
  <bpmn:message id="m2" name="fee.paid"/>
  <bpmn:message id="m3" name="parcel.event"/>
  <bpmn:error id="unpaid" errorCode="not-paid"/>
  <bpmn:error id="refused" errorCode="no-bill"/>
  <bpmn:process id="fee-and-parcel" name="Phí rồi bưu gửi" isExecutable="true">
    <bpmn:startEvent id="fee"><bpmn:messageEventDefinition messageRef="m1"/></bpmn:startEvent>
    <bpmn:sequenceFlow id="f1" sourceRef="fee" targetRef="bill"/>
    <bpmn:sendTask id="bill"><bpmn:extensionElements>
      <lgsp:send service="fee.bill">[
        {"copy": "/fee/amount", "to": "/payload/amount"}, {"copy": "/process/dossier", "to": "/payload/dossier"}
      ]</lgsp:send>
    </bpmn:extensionElements></bpmn:sendTask>
    <bpmn:boundaryEvent id="no-bill" attachedToRef="bill"><bpmn:errorEventDefinition/></bpmn:boundaryEvent>
    <bpmn:sequenceFlow id="f2" sourceRef="no-bill" targetRef="failed"/>
    <bpmn:sequenceFlow id="f3" sourceRef="bill" targetRef="paid"/>
    <bpmn:receiveTask id="paid" messageRef="m2"/>
    <bpmn:boundaryEvent id="late" attachedToRef="paid">
      <bpmn:timerEventDefinition><bpmn:timeDuration>P3D</bpmn:timeDuration></bpmn:timerEventDefinition>
    </bpmn:boundaryEvent>
    <bpmn:sequenceFlow id="f4" sourceRef="late" targetRef="cancel"/>
    <bpmn:sequenceFlow id="f5" sourceRef="paid" targetRef="enough"/>
    <bpmn:exclusiveGateway id="enough" default="f7"/>
    <bpmn:sequenceFlow id="f6" sourceRef="enough" targetRef="order">
      <bpmn:conditionExpression>/paid/amount >= 20000</bpmn:conditionExpression>
    </bpmn:sequenceFlow>
    <bpmn:sequenceFlow id="f7" sourceRef="enough" targetRef="paid"/>
    <bpmn:sendTask id="order"><bpmn:extensionElements>
      <lgsp:send service="parcel.order" to="/process/senders/fee">[
        {"copy": "/bill/reference", "to": "/payload/reference"}
      ]</lgsp:send>
    </bpmn:extensionElements></bpmn:sendTask>
    <bpmn:sequenceFlow id="f8" sourceRef="order" targetRef="delivered"/>
    <bpmn:receiveTask id="delivered" messageRef="m3"/>
    <bpmn:sequenceFlow id="f9" sourceRef="delivered" targetRef="done"/>
    <bpmn:endEvent id="done"/>
    <bpmn:sendTask id="cancel"><bpmn:extensionElements>
      <lgsp:send service="fee.cancel" to="G99">[{"copy": "/bill/reference", "to": "/payload/reference"}]</lgsp:send>
    </bpmn:extensionElements></bpmn:sendTask>
    <bpmn:sequenceFlow id="f10" sourceRef="cancel" targetRef="not-paid"/>
    <bpmn:endEvent id="not-paid"><bpmn:errorEventDefinition errorRef="unpaid"/></bpmn:endEvent>
    <bpmn:endEvent id="failed"><bpmn:errorEventDefinition errorRef="refused"/></bpmn:endEvent>
  </bpmn:process>
</bpmn:definitions>"""


class Ministry:
    """The other side, as WSGI: answers bills, takes the rest; ``status`` is what it says."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.status = "200 OK"
        self.taken: list[tuple[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        with self._lock:
            self.taken.append((environ["HTTP_IDEMPOTENCY_KEY"], body))
        start_response(self.status, [("Content-Type", "application/json")])
        return [b'{"reference": "B-1"}']

    @property
    def effects(self) -> dict[str, Any]:
        with self._lock:
            return dict(self.taken)


@pytest.fixture
def ministry() -> Ministry:
    return Ministry()


@pytest.fixture
def world(tmp_path: Path, ministry: Ministry) -> Iterator[World]:
    with serving(ministry) as recorded, bus_world(tmp_path, partner_url=recorded.url) as world:
        _register(world)
        yield world


def _register(world: World) -> None:
    province = AgencyCode("H99")
    world.register(
        _service("fee.due"),
        _service("fee.paid"),
        _service("fee.bill", owner=MINISTRY, pattern=Pattern.REQUEST_REPLY),
        _service("fee.cancel"),
        _service("parcel.order"),
        _service("parcel.event"),
        *(_grant(f"in-{name}", name) for name in ("fee.due", "fee.paid", "parcel.event")),
        *(
            _grant(f"out-{name}", name, grantee=province, receivers=receivers)
            for name, receivers in {
                "fee.bill": (MINISTRY,),
                "fee.cancel": (MINISTRY,),
                "parcel.order": (SENDER,),
            }.items()
        ),
    )


@pytest.fixture
def flow() -> Definition:
    return read_definition(FLOW.encode())


@pytest.fixture
def runner(world: World, flow: Definition) -> Runner:
    return Runner(world.bus, [flow])


def _say(world: World, service: str, payload: Any, **facts: Any) -> None:
    message = world.signed(
        payload, service=service, receivers=(RECEIVER,), dossier=facts.pop("dossier", DOSSIER), **facts
    )
    with world.serving() as url:
        assert post(url, message).status in (200, 202)


def _run(runner: Runner) -> None:
    while runner.run_once():
        pass


def _process(world: World) -> ProcessRecord:
    (process,) = Journal(world.bus.store).of_dossier(DossierCode(DOSSIER))
    return process


def _story(process: ProcessRecord) -> list[tuple[str, str]]:
    return [(event.step, event.event) for event in process.events]


# A flow


def test_a_flow_goes_from_message_to_message_until_it_is_done(world: World, runner: Runner, ministry: Ministry) -> None:
    _say(world, "fee.due", {"amount": 20000})
    _run(runner)
    process = _process(world)
    assert _story(process) == [("fee", "received"), ("bill", "sent")]
    assert list(ministry.effects.values()) == [{"amount": 20000, "dossier": DOSSIER}]
    assert process.status is Status.RUNNING
    assert process.due_at is not None, "the deadline of the payment"
    _say(world, "fee.paid", {"amount": 20000})
    _run(runner)
    assert _story(_process(world))[2:] == [("paid", "received"), ("order", "sent")]
    order = _process(world).events[-1]
    found = world.bus.ledger.find(MessageId(order.message_id))
    assert found is not None
    assert world.bus.ledger.body_of(found.id) == b'{"reference":"B-1"}'
    assert [delivery.receiver for delivery in found.deliveries] == [SENDER], "whoever asked for the fee"
    _say(world, "parcel.event", {"status": "2"})
    _run(runner)
    process = _process(world)
    assert _story(process)[4:] == [("delivered", "received"), ("done", "done")]
    assert (process.status, process.due_at) == (Status.DONE, None)


def test_what_a_process_sends_is_signed_by_the_bus_and_proven_like_any_message(
    world: World, runner: Runner, ministry: Ministry
) -> None:
    _say(world, "fee.due", {"amount": 1})
    _run(runner)
    sent = world.bus.ledger.find(MessageId(_process(world).events[1].message_id))
    assert sent is not None
    assert (sent.grade, sent.sender, sent.sender_system) == (Grade.SIGNED, "H99", "H99/lgsp-bus")
    assert sent.dossier == DOSSIER
    verdict = verify_bundle(bundle_of(world.bus, sent), Trust.read(trust_of(world.bus)))
    assert verdict.holds, verdict


def test_no_content_of_messages_is_copied_into_the_state(world: World, runner: Runner) -> None:
    _say(world, "fee.due", {"amount": 20000, "name": "NGUYỄN VĂN MẪU"})
    _run(runner)
    assert "MẪU" not in json.dumps(_process(world).state, ensure_ascii=False)


# Twice, early, late, restarted


def test_a_notice_that_comes_twice_moves_it_once(world: World, runner: Runner) -> None:
    for _ in range(2):  # two messages, each under an id of its own
        _say(world, "fee.due", {"amount": 20000})
    for _ in range(2):
        _say(world, "fee.paid", {"amount": 20000})
    _run(runner)
    assert _story(_process(world)) == [
        ("fee", "received"), ("bill", "sent"), ("paid", "received"), ("order", "sent"),
    ]  # fmt: skip


def test_a_notice_before_its_step_is_kept_until_it_is_waited_for(world: World, runner: Runner) -> None:
    _say(world, "fee.due", {"amount": 20000})
    _say(world, "parcel.event", {"status": "2"})
    _run(runner)
    assert _story(_process(world))[-1] == ("bill", "sent")
    _say(world, "fee.paid", {"amount": 20000})
    _run(runner)
    assert _process(world).status is Status.DONE


def test_messages_of_other_dossiers_and_before_the_first_start_move_nothing(world: World, flow: Definition) -> None:
    _say(world, "fee.due", {"amount": 20000})
    runner = Runner(world.bus, [flow])
    _say(world, "fee.paid", {"amount": 20000}, dossier="H99.15-260423-0002")
    _run(runner)
    assert Journal(world.bus.store).newest(10) == []


def test_a_notice_that_names_no_dossier_is_known_by_its_reference(world: World) -> None:
    match = '<bpmn:extensionElements><lgsp:match value="/ref" fact="/fee/ref"/></bpmn:extensionElements>'
    known = FLOW.replace('id="paid" messageRef="m2"/>', f'id="paid" messageRef="m2">{match}</bpmn:receiveTask>')
    runner = Runner(world.bus, [read_definition(known.encode())])
    _say(world, "fee.due", {"amount": 20000, "ref": "HP1"})
    _say(world, "fee.paid", {"amount": 20000, "ref": "HP2"})
    _run(runner)
    assert _story(_process(world))[-1] == ("bill", "sent"), "another payment of the same dossier"
    _say(world, "fee.paid", {"amount": 20000, "ref": "HP1"}, dossier="")
    _run(runner)
    assert _story(_process(world))[-2:] == [("paid", "received"), ("order", "sent")]


def test_too_little_money_goes_on_waiting(world: World, runner: Runner) -> None:
    _say(world, "fee.due", {"amount": 20000})
    _say(world, "fee.paid", {"amount": 19999})
    _run(runner)
    assert _story(_process(world))[-1] == ("paid", "received")
    _say(world, "fee.paid", {"amount": 20000})
    _run(runner)
    assert _story(_process(world))[-2:] == [("paid", "received"), ("order", "sent")]


def test_a_deadline_that_passes_sends_what_undoes_the_rest(world: World, runner: Runner, ministry: Ministry) -> None:
    _say(world, "fee.due", {"amount": 20000})
    _run(runner)
    with time_machine.travel(utc_now() + timedelta(days=2, hours=23), tick=True):
        _run(runner)
        assert _process(world).status is Status.RUNNING
    with time_machine.travel(utc_now() + timedelta(days=3, seconds=1), tick=True):
        _run(runner)
    process = _process(world)
    assert _story(process)[2:] == [("late", "deadline-passed"), ("cancel", "sent"), ("not-paid", "failed")]
    assert process.status is Status.FAILED


def test_another_program_goes_on_where_the_first_one_stopped(world: World, runner: Runner, flow: Definition) -> None:
    _say(world, "fee.due", {"amount": 20000})
    _run(runner)
    changed = FLOW.replace("/paid/amount >= 20000", "/paid/amount >= 99999")
    later = Runner(world.bus, [read_definition(changed.encode())])
    _say(world, "fee.paid", {"amount": 20000})
    _run(later)
    assert _story(_process(world))[-1] == ("order", "sent"), "under the definition that it began with"


def test_two_programs_never_move_the_same_process(world: World, flow: Definition, ministry: Ministry) -> None:
    runners = [Runner(world.bus, [flow]) for _ in range(4)]
    for number in range(12):
        _say(world, "fee.due", {"amount": number}, dossier=f"H99.15-260423-{number + 1:04}")
    threads = [threading.Thread(target=_run, args=(runner,)) for runner in runners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ministry.taken) == 12
    records = Journal(world.bus.store).newest(100)
    assert [_story(record) for record in records] == [[("fee", "received"), ("bill", "sent")]] * 12


# What people see


def _lgsp(world: World, *words: str) -> Any:
    return CliRunner().invoke(lgsp, ["--home", str(world.settings.home), *words])


def test_the_command_line_lists_processes_and_tells_their_story(world: World, runner: Runner) -> None:
    _say(world, "fee.due", {"amount": 20000})
    _run(runner)
    (listed,) = json.loads(_lgsp(world, "process", "list", "--json").stdout)
    assert (listed["definition"].split("/")[0], listed["status"]) == ("fee-and-parcel", "running")
    assert [step["event"] for step in listed["steps"]] == ["received", "sent"]
    assert "fee-and-parcel" in _lgsp(world, "process", "list").stdout
    for code in (DOSSIER, listed["process"]):
        told = _lgsp(world, "process", "show", code)
        assert told.exit_code == 0
        assert "bill sent fee.bill" in told.stdout
    assert _lgsp(world, "process", "show", "H99.15-260423-0009").exit_code == 1
    assert _lgsp(world, "process", "show", "?").exit_code == 2


def test_the_trace_of_a_dossier_shows_its_processes(world: World, runner: Runner) -> None:
    _say(world, "fee.due", {"amount": 20000})
    _run(runner)
    assert "bill sent fee.bill" in _lgsp(world, "trace", DOSSIER).stdout
    (process,) = json.loads(_lgsp(world, "trace", DOSSIER, "--json").stdout)["processes"]
    assert process["status"] == "running"


def test_definitions_are_listed_with_what_the_registry_lacks_and_files_are_checked(
    world: World, tmp_path: Path
) -> None:
    listed = _lgsp(world, "process", "definitions").stdout
    assert "payment-and-post" in listed
    assert "payment.notice, which is not registered" in listed
    file = tmp_path / "mine.bpmn"
    file.write_text(FLOW, encoding="utf-8")
    assert "fee-and-parcel, 12 steps" in _lgsp(world, "process", "definitions", str(file)).stdout
    file.write_text(FLOW.replace("P3D", "P1M"), encoding="utf-8")
    refused = _lgsp(world, "process", "definitions", str(file))
    assert refused.exit_code == 2
    assert "late" in refused.stderr


def test_the_example_of_the_manual_can_be_run() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "processes.md").read_text("utf-8")
    (example,) = re.findall(r"^```xml bpmn\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert read_definition(example.encode()).code == "fee"
    assert all(f"| `{definition.code}` |" in page for definition in shipped())


@pytest.mark.parametrize("definition", shipped(), ids=lambda definition: definition.code)
def test_what_ships_can_be_run_and_undoes_what_fails(definition: Definition) -> None:
    flow = Engine(definition).start(dict)
    flow.advance()
    assert flow.standing() == [definition.start.id]
    assert definition.undoing
    waits = [step for step in definition.steps.values() if step.kind is Kind.RECEIVE]
    guarded = {step.attached_to for step in definition.steps.values() if step.duration}
    assert {step.id for step in waits} <= guarded, "nothing is waited for without end"


@pytest.mark.slow
def test_a_delivery_process_killed_at_any_step_of_a_flow_sends_nothing_twice(
    tmp_path: Path, ministry: Ministry
) -> None:
    """SIGKILL before and after sending, and before and after the state is written; then another process goes on."""
    (tmp_path / "fee-and-parcel.bpmn").write_text(FLOW, encoding="utf-8")
    quick = {"lease_seconds": 0.5, "request_reply_timeout_seconds": 0.5, "poll_seconds": 0.05}
    with serving(ministry) as recorded, bus_world(
        tmp_path, partner_url=recorded.url, processes="fee-and-parcel", process_folder=str(tmp_path), **quick
    ) as world:  # fmt: skip
        _register(world)
        runner = Runner.of(world.bus)
        for number, step in enumerate(DYING, start=1):
            note = mark(step).decode()
            _say(world, "fee.due", {"amount": number, "note": note}, dossier=f"H99.15-260423-{number:04}")
            killed = subprocess.run(
                [sys.executable, "-m", "benchmarks.dying_process", "work"],
                env=child_environment(world.settings),
                cwd=Path(__file__).resolve().parent.parent,
                capture_output=True,
                timeout=60,
                check=False,
            )
            assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
        patience_ends = time.monotonic() + 30
        whole = [("fee", "received"), ("bill", "sent")]
        while [_story(record) for record in Journal(world.bus.store).newest(9)] != [whole] * len(DYING):
            assert time.monotonic() < patience_ends
            world.bus.ledger.release_stalled(utc_now())
            with time_machine.travel(utc_now() + timedelta(minutes=10), tick=True):
                _run(runner)
        assert sorted(body["amount"] for body in ministry.effects.values()) == list(range(1, len(DYING) + 1))


# Those that ship, over the partners' recorded examples


def _example(partner: str, name: str) -> Any:
    folder = Path(__file__).resolve().parent.parent / "schemas" / "partners" / partner
    return json.loads((folder / f"{name}.example.json").read_bytes())


def _shipped(world: World, code: str, *requests: str) -> Runner:
    """The services of a shipped definition, whose partner is the ministry; a runner for it."""
    (definition,) = (one for one in shipped() if one.code == code)
    heard = {str(step.service) for step in definition.steps.values() if step.service}
    said = {str(step.sending.service) for step in definition.steps.values() if step.sending}
    patterns = {name: Pattern.REQUEST_REPLY if name in requests else Pattern.ONE_WAY for name in heard | said}
    world.register(
        *(_service(name, owner=MINISTRY, pattern=pattern) for name, pattern in patterns.items()),
        *(_grant(f"heard-{name}", name) for name in heard),
        *(_grant(f"said-{name}", name, grantee=AgencyCode("H99"), receivers=(MINISTRY,)) for name in said),
    )
    return Runner(world.bus, [definition])


def _sent_by(world: World, step: str) -> Any:
    (event,) = (each for each in _process(world).events if (each.step, each.event) == (step, "sent"))
    found = world.bus.ledger.find(MessageId(event.message_id))
    assert found is not None
    return json.loads(world.bus.ledger.body_of(found.id) or b"")


def _ordered(world: World) -> Runner:
    """Fee and post, as far as the order."""
    runner = _shipped(world, "payment-and-post", "payment.init")
    init, order, cancel = _example("payment", "payment-init"), _example("post", "order"), _example("post", "cancel")
    _say(world, "flow.payment-and-post", {"init": init, "order": order, "cancel": cancel})
    _run(runner)
    assert _sent_by(world, "init") == init
    notice = _example("payment", "payment-notice")
    _say(world, "payment.notice", {**notice, "SoTien": 149999}, dossier="")
    _run(runner)
    assert _story(_process(world))[-1] == ("paid", "received"), "not the sum that was asked for"
    _say(world, "payment.notice", {**notice, "SoTien": int(notice["SoTien"])}, dossier="")
    _run(runner)
    assert _sent_by(world, "order") == order
    return runner


def test_fee_and_post_ends_when_the_parcel_is_delivered(world: World) -> None:
    runner = _ordered(world)
    _say(world, "post.event", {"delivered": False})
    _say(world, "post.event", {"delivered": True})
    _run(runner)
    assert _process(world).status is Status.DONE


def test_fee_and_post_cancels_the_order_of_a_parcel_that_never_comes(world: World) -> None:
    runner = _ordered(world)
    with time_machine.travel(utc_now() + timedelta(days=10, minutes=1), tick=True):
        _run(runner)
    assert _sent_by(world, "cancel") == _example("post", "cancel")
    assert _process(world).status is Status.FAILED


def test_land_tax_that_is_paid_in_full_is_told_to_the_land_office(world: World) -> None:
    runner = _shipped(world, "land-tax-and-payment")
    tax, init = _example("land", "tax-notice"), _example("payment", "payment-init")
    _say(world, "land.tax-notice", tax)
    _say(world, "payment.init", {**init, "SoTien": str(tax["SoTien"])})
    _say(world, "payment.notice", {**_example("payment", "payment-notice"), "SoTien": str(tax["SoTien"])}, dossier="")
    for _ in range(2):
        _run(runner)
    assert _sent_by(world, "receipt") == _example("land", "tax-receipt")
    _say(world, "land.finished", _example("land", "finished"))
    _run(runner)
    assert _process(world).status is Status.DONE


# The other side


def test_a_provider_that_is_down_is_asked_again(world: World, runner: Runner, ministry: Ministry) -> None:
    ministry.status = "503 Service Unavailable"
    _say(world, "fee.due", {"amount": 20000})
    _run(runner)
    assert _story(_process(world)) == [("fee", "received"), ("bill", "not-sent-yet")]
    ministry.status = "200 OK"
    with time_machine.travel(utc_now() + timedelta(seconds=60), tick=True):
        _run(runner)
    assert _story(_process(world))[-1] == ("bill", "sent")
    assert len(ministry.effects) == 1, "one message, tried twice"


def test_a_message_that_is_refused_goes_the_way_of_its_error(world: World, runner: Runner) -> None:
    world.register(remove=[_grant("out-fee.bill", "fee.bill", grantee=AgencyCode("H99"), receivers=(MINISTRY,))])
    _say(world, "fee.due", {"amount": 20000})
    _run(runner)
    process = _process(world)
    assert _story(process)[1:] == [("bill", "not-sent"), ("failed", "failed")]
    assert process.events[1].problem is not None
    assert process.events[1].problem["reason"] == "no-grant"


def test_without_an_error_event_the_process_fails_and_says_why(world: World, runner: Runner) -> None:
    gone = _grant("out-parcel.order", "parcel.order", grantee=AgencyCode("H99"), receivers=(SENDER,))
    world.register(remove=[gone])
    _say(world, "fee.due", {"amount": 20000})
    _say(world, "fee.paid", {"amount": 20000})
    _run(runner)
    process = _process(world)
    assert (process.status, process.problem and process.problem["reason"]) == (Status.FAILED, "no-grant")


def test_a_definition_whose_services_are_not_registered_waits_for_them(world: World, flow: Definition) -> None:
    runner = Runner(world.bus, [read_definition(FLOW.replace("fee.cancel", "fee.withdraw").encode())])
    _say(world, "fee.due", {"amount": 20000})
    _run(runner)
    assert Journal(world.bus.store).newest(10) == []


def test_the_delivery_process_moves_the_flows_that_the_settings_name(tmp_path: Path, ministry: Ministry) -> None:
    folder = tmp_path / "flows"
    folder.mkdir()
    (folder / "fee-and-parcel.bpmn").write_text(FLOW, encoding="utf-8")
    with bus_world(tmp_path, processes="fee-and-parcel", process_folder=str(folder), poll_seconds=0.05) as world:
        worker = Worker(world.bus)
        thread = threading.Thread(target=worker.run)
        thread.start()
        worker.stop()
        thread.join()
        assert world.rows()["process_cursor"] == 1


# Definitions that are refused


_AFTER_ORDER = '<bpmn:sequenceFlow id="f8" sourceRef="order" targetRef="delivered"/>'


_DONE = '<bpmn:endEvent id="done"/>'
_PARCEL = '<bpmn:receiveTask id="delivered" messageRef="m3"/>'
_START = '<bpmn:startEvent id="fee"><bpmn:messageEventDefinition messageRef="m1"/></bpmn:startEvent>'
#: What it is → what is replaced in FLOW, by what, and a word of the answer.
_WRONG = {
    "a script": (_DONE, '<bpmn:scriptTask id="done"><bpmn:script>1</bpmn:script></bpmn:scriptTask>', "scriptTask"),
    "a service task": (_DONE, '<bpmn:serviceTask id="done"/>', "serviceTask"),
    "a call": (_DONE, '<bpmn:callActivity id="done" calledElement="x"/>', "callActivity"),
    "a loop of the notation": (
        _PARCEL,
        _PARCEL.replace("/>", '><bpmn:standardLoopCharacteristics loopMaximum="9"/></bpmn:receiveTask>'),
        "standardLoop",
    ),
    "Python as a condition": ("/paid/amount >= 20000", "__import__('os').system('true')", "pointer"),
    "Python as a duration": ("P3D", "datetime.now()", "timeDuration"),
    "a month has no fixed length": ("P3D", "P1M", "timeDuration"),
    "an empty duration": ("P3D", "PT", "timeDuration"),
    "nothing leads to it": (_AFTER_ORDER, _AFTER_ORDER.replace("delivered", "bill"), "led to by no flow"),
    "a flow to nowhere": ('sourceRef="paid" targetRef="enough"', 'sourceRef="paid" targetRef="x"', "not there"),
    "a choice without default": (' default="f7"', "", "default"),
    "a bad mapping rule": ('"to": "/payload/amount"}', '"into": "/payload/amount"}', "lgsp:send"),
    "no code of a service": ('name="fee.paid"', 'name="Fee Paid"', "service"),
    "no code of an agency": ('to="G99"', 'to="??"', "lgsp:send"),
    "a name that the facts need": ('"cancel"', '"payload"', "facts"),
    "a reminder beside a step": ('id="late" attached', 'id="late" cancelActivity="false" attached', "cancelActivity"),
    "an id that is a path": ('id="fee-and-parcel"', 'id="../x"', "id"),
    "a start without a message": (_START, '<bpmn:startEvent id="fee"/>', "message"),
    "another document": (FLOW, "<definitions/>", "BPMN"),
}


@pytest.mark.parametrize("wrong", _WRONG)
def test_a_definition_that_could_do_harm_or_cannot_work_is_refused(wrong: str) -> None:
    old, new, said = _WRONG[wrong]
    assert old in FLOW
    with pytest.raises(Malformed) as refused:
        read_definition(FLOW.replace(old, new).encode())
    assert refused.value.reason == "process-invalid"
    assert said in " ".join(error.detail for error in refused.value.errors)


def test_a_loop_in_which_nothing_is_waited_for_is_refused() -> None:
    spinning = FLOW.replace(
        'id="f7" sourceRef="enough" targetRef="paid"', 'id="f7" sourceRef="enough" targetRef="bill2"'
    )
    spinning = spinning.replace(
        '<bpmn:endEvent id="done"/>',
        '<bpmn:endEvent id="done"/><bpmn:sendTask id="bill2"><bpmn:extensionElements><lgsp:send service="fee.bill">[]'
        '</lgsp:send></bpmn:extensionElements></bpmn:sendTask><bpmn:sequenceFlow id="f99" sourceRef="bill2" '
        'targetRef="enough"/>',
    )
    with pytest.raises(Malformed) as refused:
        read_definition(spinning.encode())
    assert {error.pointer for error in refused.value.errors} == {"bill2", "enough"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>', "xml-doctype"),
        (b"<x" + b" " * 1_000_001 + b"/>", "process-too-large"),
        (b"<x", "xml-invalid"),
        (b"<x>" + b"<y/>" * 5001 + b"</x>", "xml-too-many-elements"),
    ],
)
def test_a_document_that_attacks_its_reader_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Malformed) as refused:
        read_definition(data)
    assert refused.value.reason == reason


# Conditions

_FACTS = {"a": {"b": "1", "n": 5, "t": True, "l": [{"x": 7, "y": 1}], "null": None}}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ('/a/b = "1"', True), ("/a/b = 1", False), ("/a/n = 5", True), ("/a/n = 5.0", True), ("/a/t = 1", False),
        ("/a/t = true", True), ('/a/b != "2"', True), ("/a/n >= 5", True), ("/a/n < 5", False), ('/a/n > "4"', False),
        ("/a/t > 0", False), ("/a/l/0/x = 7", True), ("/a/l/1/x exists", False), ("/a/null exists", False),
        ("/a/null missing", True), ("/zz missing", True), ('/a/b in ["0", "1"]', True), ("/zz = null", True),
        ("/zz > 1", False), ("/a/l > 1", False), ("  /a/n   <=   5 ", True),
        ("/a/b same as /a/l/0/y", True), ("/a/n same as /a/b", False), ("/zz same as /zy", False),
    ],
)  # fmt: skip
def test_a_condition_compares_one_fact_with_one_constant(condition: str, holds: bool) -> None:
    assert read_condition(condition).holds(_FACTS) is holds


@pytest.mark.parametrize(
    "condition",
    ["", "a = 1", "/a", "/a == 1", "/a = b", "/a = {}", "/a = [1]", "/a in 5", "/a in [[1]]", "/a > true",
     "/a exists 1",
     "/a same as 1", "/a = 1 or /b = 2", "/a~2 = 1", "/a = NaN", "1 = 1", "/a = __import__('os')", "${a}", "/a > null"],
)  # fmt: skip
def test_any_other_condition_is_refused(condition: str) -> None:
    with pytest.raises(ValueError, match=r"pointer|JSON|compares|order|takes|list|Pointer"):
        read_condition(condition)
