"""SpiffWorkflow (LGPL-3.0), which runs BPMN: the only file that knows it.

Two things of it are kept out. Its own engine evaluates conditions as Python: ours is asked by the flow's id and looks
the condition up in the definition (:class:`_Asked`). And its data travels in copies from task to task: ours holds none,
what a process knows stays in the ledger (``bus.processes.facts``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from SpiffWorkflow.bpmn import BpmnEvent, BpmnWorkflow
from SpiffWorkflow.bpmn.parser.BpmnParser import BpmnParser, full_tag
from SpiffWorkflow.bpmn.parser.TaskParser import TaskParser
from SpiffWorkflow.bpmn.serializer import BpmnWorkflowSerializer
from SpiffWorkflow.bpmn.specs.defaults import UserTask
from SpiffWorkflow.bpmn.specs.event_definitions.message import MessageEventDefinition
from SpiffWorkflow.bpmn.specs.event_definitions.timer import TimerEventDefinition
from SpiffWorkflow.util.task import TaskState

from bus.processes.definition import Definition, Kind
from schemas.identifiers import ServiceCode

#: Turns of one step in one process: a loop that waits a second each time must end as well.
MOST_VISITS: Final = 200


class _Parser(BpmnParser):  # type: ignore[misc]  # ships no types
    """A send task waits until we have sent: Spiff's own would throw an event inside the workflow."""

    OVERRIDE_PARSER_CLASSES = {full_tag("sendTask"): (TaskParser, UserTask)}  # noqa: RUF012 - Spiff's own way


class _Asked:
    """Stands where Spiff's script engine would: answers conditions by the id of their flow, durations as written."""

    def __init__(self, definition: Definition, facts: Callable[[], Any]) -> None:
        self._definition = definition
        self._facts = facts

    def evaluate(self, _task: Any, expression: str, external_context: Any = None) -> Any:
        arrow = self._definition.arrows.get(expression)
        if arrow is None or arrow.condition is None:
            return expression  # a timer's duration
        return arrow.condition.holds(self._facts())

    def execute(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError("definitions hold no scripts")

    call_service = execute


class Engine:
    """Starts and restores flows of one definition. Safe under threads: each flow has its own workflow and spec."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self._serializer = BpmnWorkflowSerializer()
        parser = _Parser()
        parser.add_bpmn_xml(definition.plain())
        #: What every state of this definition would repeat; it is put back when a state is read.
        self._spec = json.dumps(self._serializer.to_dict(parser.get_spec(definition.code)))

    def start(self, facts: Callable[[], Any]) -> Flow:
        """A flow that waits for the message of its start event. ``facts`` are asked for when a gateway needs them."""
        spec = self._serializer.from_dict(json.loads(self._spec))
        return Flow(self, BpmnWorkflow(spec, script_engine=_Asked(self.definition, facts)))

    def restore(self, state: Any, facts: Callable[[], Any]) -> Flow:
        """The flow that ``Flow.state`` has described."""
        workflow = self._serializer.from_dict({**json.loads(json.dumps(state)), "spec": json.loads(self._spec)})
        workflow.script_engine = _Asked(self.definition, facts)
        return Flow(self, workflow)

    def state_of(self, workflow: Any) -> dict[str, Any]:
        state: dict[str, Any] = self._serializer.to_dict(workflow)
        del state["spec"]
        return state


class Flow:
    """One process on its way. Not safe under threads."""

    def __init__(self, engine: Engine, workflow: Any) -> None:
        self._engine = engine
        self._workflow = workflow
        self._definition = engine.definition

    def advance(self) -> list[str]:
        """Go as far as nothing is to be sent or waited for; the deadlines that passed on the way, by the id of their
        event."""
        before = {task.id for task in self._tasks(TaskState.COMPLETED)}
        self._workflow.refresh_timers()
        self._workflow.do_engine_steps()
        steps = [task.task_spec.name for task in self._tasks(TaskState.COMPLETED) if task.id not in before]
        return [name for name in steps if self._is_timer(name)]

    def to_send(self) -> str | None:
        """The next send task that stands open."""
        return next((task.task_spec.name for task in self._open_sends()), None)

    def sent(self, step: str) -> None:
        """The send task is done."""
        next(task for task in self._open_sends() if task.task_spec.name == step).run()

    def fail(self, step: str) -> str | None:
        """The send task cannot be done: go the way of its error event, and name it; None when it has none."""
        task = next(task for task in self._open_sends() if task.task_spec.name == step)
        errors = {event.id for event in self._definition.boundary_errors(step)}
        for neighbour in task.parent.children:
            name: str = neighbour.task_spec.name
            if name in errors and neighbour.state == TaskState.WAITING:
                event = BpmnEvent(neighbour.task_spec.event_definition)
                neighbour.task_spec.catch(neighbour, event)
                neighbour.task_spec._update(neighbour)
                return name
        return None

    def take(self, service: ServiceCode) -> list[str]:
        """Hand over a message: the steps that waited for it; none when nobody did."""
        waiting = self.waiting_for(service)
        if waiting:
            self._workflow.send_event(BpmnEvent(MessageEventDefinition(service)))
        return waiting

    def standing(self) -> list[str]:
        """The steps at which it stands."""
        names = [task.task_spec.name for task in self._tasks(TaskState.READY | TaskState.WAITING | TaskState.STARTED)]
        return [name for name in dict.fromkeys(names) if name in self._definition.steps]

    def ended_at(self) -> str | None:
        """The end that decides: an error end at once, another when nothing is left open."""
        ends = [
            self._definition.steps[task.task_spec.name]
            for task in self._tasks(TaskState.COMPLETED)
            if task.task_spec.name in self._definition.steps
        ]
        ends = [step for step in ends if step.kind is Kind.END]
        failed = next((step.id for step in ends if step.error), None)
        if failed is not None:
            return failed
        return ends[-1].id if ends and self._workflow.is_completed() else None

    def due_at(self) -> datetime | None:
        """When the next deadline passes."""
        moments = [
            datetime.fromisoformat(task._get_internal_data("event_value")).astimezone(UTC)
            for task in self._tasks(TaskState.WAITING)
            for event in _events(task)
            if isinstance(event, TimerEventDefinition) and task._get_internal_data("event_value")
        ]
        return min(moments, default=None)

    def visits(self, step: str) -> int:
        """How often the step was reached, this time included."""
        return sum(task.task_spec.name == step for task in self._tasks(TaskState.FINISHED_MASK | TaskState.READY))

    def state(self) -> dict[str, Any]:
        """All that is needed to go on in another process; holds no data of messages."""
        return self._engine.state_of(self._workflow)

    def _tasks(self, state: int) -> list[Any]:
        tasks: list[Any] = self._workflow.get_tasks(state=state)
        return tasks

    def _open_sends(self) -> Iterator[Any]:
        steps = self._definition.steps
        for task in self._tasks(TaskState.READY):
            step = steps.get(task.task_spec.name)
            if step is not None and step.kind is Kind.SEND:
                yield task

    def waiting_for(self, service: ServiceCode) -> list[str]:
        """The steps that a message of this service would move."""
        return [
            task.task_spec.name
            for task in self._tasks(TaskState.WAITING)
            for event in _events(task)
            if isinstance(event, MessageEventDefinition) and event.name == service
        ]

    def _is_timer(self, name: str) -> bool:
        step = self._definition.steps.get(name)
        return step is not None and bool(step.duration)


def _events(task: Any) -> list[Any]:
    """What a task waits for; an event-based gateway waits for all that its events would."""
    event = getattr(task.task_spec, "event_definition", None)
    several = getattr(event, "event_definitions", None)
    return list(several) if several is not None else [event]
