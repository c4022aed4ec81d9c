"""A process definition: BPMN 2.0 (ISO/IEC 19510), read into values of our own.

::

    <bpmn:definitions xmlns:bpmn="http://www.omg.org/spec/BPMN/20100524/MODEL" xmlns:lgsp="urn:lgsp:process:1">
      <bpmn:message id="paid-notice" name="payment.notice"/>             the name is a service of the bus
      <bpmn:process id="payment-and-post" name="Nộp phí, trả kết quả qua bưu chính" isExecutable="true">
        <bpmn:startEvent id="fee"> <bpmn:messageEventDefinition messageRef="fee-due"/> …
        <bpmn:sendTask id="order" name="Đặt bưu gửi">
          <bpmn:extensionElements>
            <lgsp:send service="post.order" to="G99.21" purpose="tra-ket-qua">
              [{"copy": "/fee/maHoSo", "to": "/payload/MaHoSo"}]         rules of schemas/mapping.py
            </lgsp:send>
          </bpmn:extensionElements>
        </bpmn:sendTask>
        <bpmn:receiveTask id="delivered" messageRef="…"/>                waits for a message of the same dossier
        <bpmn:receiveTask id="paid" messageRef="…">                      or for the one with this value
          <bpmn:extensionElements><lgsp:match value="/MaThamChieu" fact="/fee/MaThamChieu"/></bpmn:extensionElements>
        <bpmn:boundaryEvent id="late" attachedToRef="delivered">         its deadline, an ISO 8601 duration
          <bpmn:timerEventDefinition><bpmn:timeDuration>P10D</bpmn:timeDuration></bpmn:timerEventDefinition>
        </bpmn:boundaryEvent>

The elements that are read are a closed list; whatever else would act (scripts, service tasks, sub-processes, loops of
the notation) is refused, and what only draws (diagrams, notes, lanes, pools) is left out. The engine never sees the
document, only a plain one written anew from these values (:meth:`Definition.plain`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from lxml import etree

from bus.processes.condition import Condition, read_condition, read_pointer
from schemas.codec import read_json, read_xml
from schemas.identifiers import AgencyCode, ServiceCode
from schemas.mapping import FieldMapping, compile_mapping
from schemas.problem import FieldError, Malformed
from schemas.validation import MAX_ERRORS

if TYPE_CHECKING:
    from lxml.etree import _Element

BPMN: Final = "http://www.omg.org/spec/BPMN/20100524/MODEL"
OURS: Final = "urn:lgsp:process:1"
MAX_DEFINITION_BYTES: Final = 1_000_000
MAX_STEPS: Final = 200
#: What the facts know besides the steps, so no step may be called so.
RESERVED: Final = frozenset({"payload", "process"})
#: Weeks alone, or days and hours; months and years have no fixed length and no deadline of ours needs them.
DURATION: Final = re.compile(r"P(?:\d{1,4}W|(?=.)(?:\d{1,4}D)?(?:T(?=.)(?:\d{1,4}H)?(?:\d{1,4}M)?(?:\d{1,6}S)?)?)")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


class Kind(StrEnum):
    """What a step is, by its BPMN element."""

    START = "startEvent"
    SEND = "sendTask"
    RECEIVE = "receiveTask"
    CATCH = "intermediateCatchEvent"
    BOUNDARY = "boundaryEvent"
    CHOICE = "exclusiveGateway"
    FORK = "parallelGateway"
    RACE = "eventBasedGateway"
    END = "endEvent"


#: What only draws or explains.
_DRAWN: Final = frozenset({"documentation", "textAnnotation", "association", "group", "laneSet", "extensionElements"})
_ROOT_DRAWN: Final = frozenset({"documentation", "collaboration", "category", "extensionElements"})
_INSIDE: Final = frozenset({"documentation", "incoming", "outgoing", "extensionElements"})
_EVENTS: Final = frozenset({"messageEventDefinition", "timerEventDefinition", "errorEventDefinition"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """What a send task sends. Without ``receiver`` it goes to the owner of the service."""

    service: ServiceCode
    #: 0: the latest that is open.
    version: int = 0
    #: A code, or where the facts have it.
    receiver: AgencyCode | None = None
    receiver_at: tuple[str, ...] = ()
    purpose: str = ""
    content: FieldMapping = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which message a step takes: the one whose value is this fact, whether or not it names the dossier. Payment
    platforms name their reference only."""

    value_at: tuple[str, ...]
    fact_at: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One element of the drawing."""

    id: str
    kind: Kind
    name: str = ""
    #: The service whose message it waits for.
    service: ServiceCode | None = None
    match: Match | None = None
    sending: Sending | None = None
    #: A timer's duration as written.
    duration: str = ""
    #: At a boundary: the step whose deadline or error it is.
    attached_to: str = ""
    #: At a boundary: a failure of the step; at an end: how the failed process is called.
    error: str = ""
    #: Of a choice: the flow that is taken when no condition holds.
    default: str = ""

    @property
    def waits(self) -> bool:
        """Does time pass here, so that a loop through it does not spin?"""
        return bool(self.service or self.duration) and self.kind is not Kind.START


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """A sequence flow, with its condition behind a choice."""

    id: str
    source: str
    target: str
    condition: Condition | None = None


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A whole process. Immutable and safe under threads."""

    code: str
    name: str
    #: Of the file's bytes: processes go on under the version they began with.
    version: str
    source: bytes = field(repr=False)
    steps: Mapping[str, Step] = field(repr=False)
    arrows: Mapping[str, Arrow] = field(repr=False)

    @cached_property
    def start(self) -> Step:
        return next(step for step in self.steps.values() if step.kind is Kind.START)

    @cached_property
    def awaited(self) -> frozenset[ServiceCode]:
        """The services whose messages a running process may take."""
        return frozenset(step.service for step in self.steps.values() if step.service and step.kind is not Kind.START)

    @cached_property
    def matching(self) -> frozenset[tuple[ServiceCode, tuple[str, ...]]]:
        """Services whose messages are also known by a value, and where in the payload it is."""
        return frozenset((s.service, s.match.value_at) for s in self.steps.values() if s.service and s.match)

    @cached_property
    def undoing(self) -> frozenset[str]:
        """The steps after which only failure can come: whoever stands there compensates."""
        hopeful: set[str] = {step.id for step in self.steps.values() if step.kind is Kind.END and not step.error}
        while True:
            more = {arrow.source for arrow in self.arrows.values() if arrow.target in hopeful}
            more |= {
                step.attached_to for step in self.steps.values() if step.kind is Kind.BOUNDARY and step.id in hopeful
            }
            if more <= hopeful:
                return frozenset(self.steps.keys() - hopeful)
            hopeful |= more

    def boundary_errors(self, step: str) -> tuple[Step, ...]:
        return tuple(s for s in self.steps.values() if s.attached_to == step and s.error)

    def plain(self) -> _Element:
        """The definition as BPMN without anything but its structure: what the engine is given."""
        root = etree.Element(_bpmn("definitions"), nsmap={"bpmn": BPMN})
        process = etree.SubElement(root, _bpmn("process"), id=self.code, isExecutable="true")
        for service in sorted({step.service for step in self.steps.values() if step.service}):
            etree.SubElement(root, _bpmn("message"), id=f"message.{service}", name=service)
        etree.SubElement(root, _bpmn("error"), id="error", name="error", errorCode="error")
        for step in self.steps.values():
            process.append(_plain_step(step))
        for arrow in self.arrows.values():
            made = etree.SubElement(
                process, _bpmn("sequenceFlow"), id=arrow.id, sourceRef=arrow.source, targetRef=arrow.target
            )
            if arrow.condition is not None:
                etree.SubElement(made, _bpmn("conditionExpression")).text = arrow.id
        return root


def _plain_step(step: Step) -> _Element:
    made = etree.Element(_bpmn(step.kind.value), id=step.id)
    if step.default:
        made.set("default", step.default)
    if step.attached_to:
        made.set("attachedToRef", step.attached_to)
    if step.service and step.kind is Kind.RECEIVE:
        made.set("messageRef", f"message.{step.service}")
    elif step.service:
        etree.SubElement(made, _bpmn("messageEventDefinition"), messageRef=f"message.{step.service}")
    elif step.duration:
        timer = etree.SubElement(made, _bpmn("timerEventDefinition"))
        etree.SubElement(timer, _bpmn("timeDuration")).text = step.duration
    elif step.kind is Kind.BOUNDARY:
        etree.SubElement(made, _bpmn("errorEventDefinition"), errorRef="error")
    return made


def _bpmn(name: str) -> str:
    return f"{{{BPMN}}}{name}"


def read_definition(data: bytes) -> Definition:
    """The process in a BPMN file.

    Raises Malformed: those of ``read_xml`` (DTDs, entities, size), and ``process-invalid`` with all that is wrong, each
    with the id of its element; what a file says is its author's own and is named.
    """
    if len(data) > MAX_DEFINITION_BYTES:
        raise Malformed("process-too-large", limit=MAX_DEFINITION_BYTES)
    root = read_xml(data, max_elements=5000)
    reader = _Reader(root)
    definition = reader.definition(hashlib.sha256(data).hexdigest()[:12], data)
    if definition is not None and not reader.errors:
        reader.errors += _shape_errors(definition)
    if definition is None or reader.errors:
        raise Malformed("process-invalid", errors=reader.errors[:MAX_ERRORS])
    return definition


class _Reader:
    """One document and what is wrong with it."""

    def __init__(self, root: _Element) -> None:
        self.root = root
        self.errors: list[FieldError] = []
        self._messages: dict[str, str] = {}
        self._errors: dict[str, str] = {}

    def fail(self, place: str, detail: str) -> None:
        self.errors.append(FieldError(pointer=place, detail=detail))

    def definition(self, version: str, source: bytes) -> Definition | None:
        if self.root.tag != _bpmn("definitions"):
            self.fail("", "must be a BPMN 2.0 document: definitions of the OMG's namespace of 2010-05-24")
            return None
        processes = self._read_root()
        if len(processes) != 1:
            self.fail("", "must have exactly one process")
            return None
        process = processes[0]
        code = self._id(process)
        steps, arrows = self._read_process(process)
        if not 2 <= len(steps) <= MAX_STEPS:
            self.fail(code, f"must have 2 to {MAX_STEPS} steps")
        return Definition(
            code=code,
            name=process.get("name", "")[:200],
            version=version,
            source=source,
            steps=steps,
            arrows=arrows,
        )

    def _read_root(self) -> list[_Element]:
        processes: list[_Element] = []
        for child in _elements(self.root):
            name = _local(child)
            if name == "message":
                self._messages[child.get("id", "")] = child.get("name", "")
            elif name == "error":
                self._errors[child.get("id", "")] = str(child.get("errorCode") or child.get("name", ""))
            elif name == "process":
                processes.append(child)
            elif name and name not in _ROOT_DRAWN:
                self.fail(child.get("id", ""), f"the element {name} is not taken here")
        return processes

    def _read_process(self, process: _Element) -> tuple[dict[str, Step], dict[str, Arrow]]:
        steps: dict[str, Step] = {}
        arrows: dict[str, Arrow] = {}
        kinds = {kind.value: kind for kind in Kind}
        for child in _elements(process):
            name = _local(child)
            if not name or name in _DRAWN:
                continue
            if name != "sequenceFlow" and name not in kinds:
                self.fail(child.get("id", ""), f"the element {name} is not taken here")
                continue
            key = self._id(child)
            if key in steps or key in arrows:
                self.fail(key, "has the id of another element")
            elif name == "sequenceFlow":
                arrows[key] = self._arrow(child, key)
            else:
                steps[key] = self._step(child, key, kinds[name])
        for step in steps.values():
            if step.id in RESERVED:
                self.fail(step.id, "is a name that the facts need themselves")
        return steps, arrows

    def _id(self, element: _Element) -> str:
        value = element.get("id", "")
        if _NAME.fullmatch(value) is None:
            self.fail(value[:70], f"{_local(element)} needs an id of letters, digits, - . _ with at most 64 characters")
        return value

    def _arrow(self, element: _Element, key: str) -> Arrow:
        condition = None
        for child in _elements(element):
            if _local(child) == "conditionExpression":
                try:
                    condition = read_condition(_text(child))
                except ValueError as error:
                    self.fail(key, f"the condition {error}")
            elif _local(child) not in _INSIDE:
                self.fail(key, f"the element {_local(child)} is not taken here")
        return Arrow(
            id=key, source=element.get("sourceRef", ""), target=element.get("targetRef", ""), condition=condition
        )

    def _step(self, element: _Element, key: str, kind: Kind) -> Step:
        facts: dict[str, Any] = {}
        events = 0
        for child in _elements(element):
            name = _local(child)
            if name in _EVENTS and kind in (Kind.START, Kind.CATCH, Kind.BOUNDARY, Kind.END):
                events += 1
                facts |= self._event(child, key, name)
            elif name not in _INSIDE:
                self.fail(key, f"the element {name or etree.QName(child).localname} is not taken here")
        if events > 1:
            self.fail(key, "has more than one event")
        if kind is Kind.RECEIVE:
            facts["service"] = self._service(key, self._messages.get(element.get("messageRef", ""), ""))
        if kind is Kind.BOUNDARY:
            facts["attached_to"] = element.get("attachedToRef", "")
            if element.get("cancelActivity", "true") != "true":
                self.fail(key, "must end its step (cancelActivity): reminders beside a step are not taken")
        if kind is Kind.CHOICE:
            facts["default"] = element.get("default", "")
        if kind in (Kind.RECEIVE, Kind.CATCH):
            facts["match"] = self._match(element, key)
        if kind is Kind.SEND:
            facts["sending"] = self._sending(element, key)
        self._check_events(key, kind, facts)
        return Step(id=key, kind=kind, name=element.get("name", "")[:200], **facts)

    def _check_events(self, key: str, kind: Kind, facts: Mapping[str, Any]) -> None:
        told = {name for name in ("service", "duration", "error") if facts.get(name)}
        allowed = {
            Kind.START: [{"service"}],
            Kind.RECEIVE: [{"service"}],
            Kind.CATCH: [{"service"}, {"duration"}],
            Kind.BOUNDARY: [{"duration"}, {"error"}],
            Kind.END: [set(), {"error"}],
        }.get(kind, [set()])
        if told not in allowed and not self.errors:
            words = " or ".join(
                {"service": "a message", "duration": "a timer", "error": "an error"}[n] for one in allowed for n in one
            )
            self.fail(key, f"needs {words}")

    def _event(self, element: _Element, key: str, name: str) -> dict[str, Any]:
        if name == "messageEventDefinition":
            return {"service": self._service(key, self._messages.get(element.get("messageRef", ""), ""))}
        if name == "errorEventDefinition":
            return {"error": self._errors.get(element.get("errorRef", ""), "") or "error"}
        durations = [_text(child) for child in _elements(element) if _local(child) == "timeDuration"]
        if len(durations) != 1 or len(list(_elements(element))) != 1 or DURATION.fullmatch(durations[0]) is None:
            self.fail(key, "needs one timeDuration of weeks, days, hours, minutes, seconds, as in P10D or PT30M")
            return {}
        return {"duration": durations[0]}

    def _service(self, key: str, name: str) -> ServiceCode | None:
        try:
            return ServiceCode(name)
        except Malformed:
            self.fail(key, "waits for a message whose name must be the code of a service")
            return None

    def _match(self, element: _Element, key: str) -> Match | None:
        found = element.find(f"./{_bpmn('extensionElements')}/{{{OURS}}}match")
        if found is None:
            return None
        try:
            return Match(value_at=read_pointer(found.get("value", "")), fact_at=read_pointer(found.get("fact", "")))
        except ValueError as error:
            self.fail(key, f"lgsp:match: {error}")
            return None

    def _sending(self, element: _Element, key: str) -> Sending | None:
        found = element.findall(f"./{_bpmn('extensionElements')}/{{{OURS}}}send")
        if len(found) != 1:
            self.fail(key, "needs one lgsp:send in its extensionElements")
            return None
        send = found[0]
        unknown = {str(name) for name in send.attrib} - {"service", "version", "to", "purpose"}
        if unknown or len(send):
            self.fail(key, "lgsp:send has service, version, to and purpose, and the rules as its text")
        try:
            content = compile_mapping(_rules(send))
            receiver, at = _receiver(send.get("to", ""))
            version = send.get("version", "0")
            if re.fullmatch(r"\d{1,4}", version) is None:
                raise ValueError("the version must be a number")
            return Sending(
                service=ServiceCode(send.get("service", "")),
                version=int(version),
                receiver=receiver,
                receiver_at=at,
                purpose=send.get("purpose", "")[:100],
                content=content,
            )
        except Malformed as problem:
            details = [f"{error.pointer} {error.detail}" for error in problem.errors] or [problem.detail("en")]
            self.fail(key, f"lgsp:send: {'; '.join(details)}"[:500])
        except ValueError as error:
            self.fail(key, f"lgsp:send: {error}")
        return None


def _rules(send: _Element) -> list[Any]:
    rules = read_json(_text(send).encode() or b"[]")
    if not isinstance(rules, list):
        raise ValueError("its text must be a JSON list of mapping rules")
    return rules


def _receiver(text: str) -> tuple[AgencyCode | None, tuple[str, ...]]:
    if text.startswith("/"):
        return None, read_pointer(text)
    return (AgencyCode(text) if text else None), ()


def _elements(parent: _Element) -> Iterator[_Element]:
    return (child for child in parent if isinstance(child.tag, str))


def _local(element: _Element) -> str:
    """The name of a BPMN element; empty for those of other namespaces, which are diagrams and tools' own notes."""
    name = etree.QName(element)
    return name.localname if name.namespace == BPMN else ""


def _text(element: _Element) -> str:
    return "".join(map(str, element.itertext())).strip()


# ---- Shape: what each part may look right for, and the whole be wrong


def _shape_errors(definition: Definition) -> list[FieldError]:
    steps, errors = definition.steps, []

    def fail(place: str, detail: str) -> None:
        errors.append(FieldError(pointer=place, detail=detail))

    for arrow in definition.arrows.values():
        if arrow.source not in steps or arrow.target not in steps:
            fail(arrow.id, "leads from or to an element that is not there")
        elif arrow.condition is not None and steps[arrow.source].kind is not Kind.CHOICE:
            fail(arrow.id, "has a condition, which only the flows of an exclusive gateway may have")
    if sum(step.kind is Kind.START for step in steps.values()) != 1:
        fail(definition.code, "must have exactly one start event")
    if errors:
        return errors
    for step in steps.values():
        out = [arrow for arrow in definition.arrows.values() if arrow.source == step.id]
        into = [arrow for arrow in definition.arrows.values() if arrow.target == step.id]
        for detail in _wrong_at(definition, step, into, out):
            fail(step.id, detail)
    if not errors:
        reached = _reached(definition, definition.start.id)
        for missing in sorted(steps.keys() - reached):
            fail(missing, "is never reached")
        for spinning in sorted(_spinning(definition)):
            fail(spinning, "stands in a loop in which nothing is waited for")
    return errors


def _wrong_at(definition: Definition, step: Step, into: list[Arrow], out: list[Arrow]) -> Iterator[str]:
    steps = definition.steps
    if step.kind is Kind.END:
        if out:
            yield "is an end, and flows go on from it"
    elif not out:
        yield "leads nowhere"
    elif len(out) > 1 and step.kind not in (Kind.CHOICE, Kind.FORK, Kind.RACE):
        yield "has several flows going out, which takes a gateway"
    if (step.kind in (Kind.START, Kind.BOUNDARY)) == bool(into):
        yield "must not be led to by a flow" if into else "is led to by no flow"
    if step.kind is Kind.BOUNDARY:
        host = steps.get(step.attached_to)
        if host is None or host.kind not in (Kind.SEND, Kind.RECEIVE):
            yield "must be attached to a send or receive task"
        elif step.error and host.kind is not Kind.SEND:
            yield "is an error, which only a send task can have"
    if step.kind is Kind.RACE and not all(
        steps[a.target].kind is Kind.CATCH and len(_into(definition, a)) == 1 for a in out
    ):
        yield "must lead to intermediate catch events that nothing else leads to"
    if step.kind is Kind.CHOICE and len(out) > 1:
        plain = [arrow.id for arrow in out if arrow.condition is None]
        if plain != [step.default]:
            yield "needs a condition on every flow but the one that is its default"


def _into(definition: Definition, arrow: Arrow) -> list[Arrow]:
    return [other for other in definition.arrows.values() if other.target == arrow.target]


def _next(definition: Definition, step: str) -> set[str]:
    follows = {arrow.target for arrow in definition.arrows.values() if arrow.source == step}
    return follows | {other.id for other in definition.steps.values() if other.attached_to == step}


def _reached(definition: Definition, start: str) -> set[str]:
    reached, ahead = {start}, [start]
    while ahead:
        fresh = _next(definition, ahead.pop()) - reached
        reached |= fresh
        ahead += fresh
    return reached


def _spinning(definition: Definition) -> set[str]:
    """Steps on a cycle of which no step waits: taking away, again and again, what nothing leads to or what leads
    nowhere leaves just the cycles."""
    left = {step.id for step in definition.steps.values() if not step.waits}
    while True:
        leads = {step: _next(definition, step) & left for step in left}
        led_to = set().union(*leads.values()) if leads else set()
        fewer = {step for step in left if leads[step] and step in led_to}
        if fewer == left:
            return left
        left = fewer
