"""Moves processes: gives them messages, sends what is due, notices deadlines. Runs in `lgsp work`.

::

    exchanges ──cursor──▶ inbox of each process ──▶ turn ──▶ send as the bus's own system ──▶ the way of every message
                                                     │
                                                     └─ state and steps, one transaction after each message sent

Nothing of it is in the path of a message: a message that moves a process was accepted and answered before it is read
here. At least once, in effect once: a turn that dies is done again under the same message ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from bus.assembly import Bus
from bus.delivery import problem_facts
from bus.logs import get_logger
from bus.processes.catalogue import load_definitions, unfit
from bus.processes.condition import find, key_text
from bus.processes.definition import Definition, Step, read_definition
from bus.processes.engine import MOST_VISITS, Engine, Flow
from bus.processes.facts import Facts
from bus.processes.journal import Claimed, Event, Interest, Journal, Progress, Status, read_fact
from bus.processes.sending import Sender
from schemas.identifiers import SystemCode
from schemas.moment import utc_now
from schemas.problem import InternalFailure, Problem, TooMany

log = get_logger()

#: A message that its receiver's side did not take is sent again after 2, 4, 8 … seconds, at most this far apart.
_MOST_SECONDS_APART: Final = 300
#: Tries of one message where no deadline ends them: some ten hours.
_MOST_TRIES: Final = 130


class Runner:
    """Runs the definitions that the settings name. One a program; several programs may share a store."""

    def __init__(self, bus: Bus, definitions: Sequence[Definition], now: Callable[[], datetime] = utc_now) -> None:
        self._bus = bus
        self._now = now
        self._definitions = definitions
        self._journal = Journal(bus.store)
        self._engines: dict[tuple[str, str], Engine] = {}
        self._lease = timedelta(seconds=bus.settings.lease_seconds + bus.settings.request_reply_timeout_seconds)
        self._sender = Sender(
            system=SystemCode(bus.settings.system),
            ring=bus.ring,
            directory=bus.directory,
            intake=bus.intake,
            calls=bus.calls,
        )
        self._told_unfit: set[str] = set()
        self._journal.begin()

    @classmethod
    def of(cls, bus: Bus) -> Runner:
        """With the definitions that the settings name. Raises Malformed for one that is missing or wrong."""
        return cls(bus, load_definitions(bus.settings.process_names, bus.settings.process_folder_path))

    def run_once(self) -> int:
        """Read what has come and move what is due, once; how many messages were given and processes moved."""
        given = self._journal.read(self._interests(), self._now())
        claims = self._journal.claim(self._now(), self._lease)
        for claimed in claims:
            try:
                self._move(claimed)
            except Exception:  # the lease runs out, and it is moved again
                log.exception("process.failed", process_id=claimed.id, definition=claimed.definition)
        return given + len(claims)

    def _interests(self) -> list[Interest]:
        """The definitions that the registry of now has everything for. Running processes go on in any case."""
        directory = self._bus.directory.current()
        fit = []
        for definition in self._definitions:
            lacking = unfit(definition, directory)
            if lacking and definition.code not in self._told_unfit:
                self._told_unfit.add(definition.code)
                log.warning("process.unfit", definition=definition.code, lacking=[error.detail for error in lacking])
            elif not lacking and definition.start.service is not None:
                fit.append(
                    Interest(
                        code=definition.code,
                        version=definition.version,
                        source=definition.source,
                        start=definition.start.service,
                        awaited=definition.awaited,
                        matching=definition.matching,
                    )
                )
        return fit

    def _move(self, claimed: Claimed) -> None:
        turn = _Turn(claimed, self._engine(claimed), self._journal, self._sender, self._now)
        turn.run()
        log.info("process.moved", process_id=claimed.id, definition=claimed.definition, status=turn.status.value)

    def _engine(self, claimed: Claimed) -> Engine:
        """That of the version under which the process began."""
        key = (claimed.definition, claimed.version)
        if key not in self._engines:
            source = self._journal.source_of(*key)
            if source is None:
                raise InternalFailure()
            self._engines[key] = Engine(read_definition(source))
        return self._engines[key]


@dataclass(slots=True)
class _Turn:
    """One claim of one process: as far as it can go now."""

    claimed: Claimed
    engine: Engine
    journal: Journal
    sender: Sender
    now: Callable[[], datetime]
    status: Status = Status.RUNNING
    _facts: Facts = field(init=False)
    _flow: Flow = field(init=False)
    _tries: dict[str, int] = field(init=False)
    _inbox: list[tuple[int, Any]] = field(init=False)
    _events: list[Event] = field(init=False, default_factory=list)
    _taken: list[int] = field(init=False, default_factory=list)
    _problem: Problem | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        state = self.claimed.state or {}
        self._facts = Facts(self.journal, self.claimed, state.get("seen", {}), frozenset(state.get("answered", ())))
        self._tries = dict(state.get("tries", {}))
        self._inbox = list(self.claimed.inbox)
        if self.claimed.state is None:
            self._flow = self.engine.start(self._facts)
        else:
            self._flow = self.engine.restore(state["engine"], self._facts)

    def run(self) -> None:
        """Send before taking, take before timing out: done again after a crash, the same happens in the same order."""
        again_at = None
        while True:
            self._advance()
            self._judge()
            if self.status in (Status.DONE, Status.FAILED):
                break
            step = self._flow.to_send()
            if step is not None:
                again_at = self._send(self.engine.definition.steps[step])
                if again_at is not None or self._problem is not None:
                    break
            elif not self._take():
                break
        deadline = self._flow.due_at()
        moments = [moment for moment in (again_at, deadline) if moment is not None]
        self._keep(due_at=min(moments, default=None), over=True)

    def _advance(self) -> None:
        for step in self._flow.advance():
            self._note(step, "deadline-passed")

    def _judge(self) -> None:
        """The status that follows from where it stands."""
        definition = self.engine.definition
        end = self._flow.ended_at()
        standing = self._flow.standing()
        if end is not None:
            self.status = Status.FAILED if definition.steps[end].error else Status.DONE
            self._note(end, self.status.value)
        elif standing and definition.undoing.issuperset(standing):
            self.status = Status.COMPENSATING

    def _take(self) -> bool:
        """Hand over the earliest message that it waits for."""
        for at, (exchange_id, service) in enumerate(self._inbox):
            steps = self._take_one(exchange_id, service)
            if steps:
                del self._inbox[at]
                self._taken.append(exchange_id)
                if self.claimed.state is None:
                    self._keep(due_at=None, over=False)  # known by its values before anything is sent that is answered
                return True
        return False

    def _take_one(self, exchange_id: int, service: Any) -> list[str]:
        if not self._fits(exchange_id, service):
            return []
        steps = self._flow.take(service)
        for step in steps:
            # At an event-based gateway the message belongs to the event behind it.
            for name in self._named(step, service):
                self._facts.learn(name, exchange_id)
                self._note(name, "received", service=service, message_id=self.journal.message_id_of(exchange_id))
        return steps

    def _fits(self, exchange_id: int, service: Any) -> bool:
        """Is it the message that the waiting step means? One of the same service may be about another matter."""
        waiting = [
            self.engine.definition.steps[n] for at in self._flow.waiting_for(service) for n in self._named(at, service)
        ]
        matches = [step.match for step in waiting if step.match is not None]
        if not matches:
            return True
        body = self.journal.learnt_from([exchange_id])[exchange_id].body
        said = read_fact(body)
        return all(key_text(find(said, m.value_at)) == key_text(find(self._facts(), m.fact_at)) != "" for m in matches)

    def _keys(self) -> frozenset[tuple[str, str]]:
        steps = [step for step in self.engine.definition.steps.values() if step.service and step.match]
        facts = self._facts() if steps else {}
        keys = {(str(s.service), key_text(find(facts, s.match.fact_at))) for s in steps if s.match is not None}
        return frozenset(key for key in keys if key[1])

    def _named(self, step: str, service: Any) -> list[str]:
        definition = self.engine.definition
        if definition.steps[step].service == service:
            return [step]
        behind = [arrow.target for arrow in definition.arrows.values() if arrow.source == step]
        return [name for name in behind if definition.steps[name].service == service]

    def _send(self, step: Step) -> datetime | None:
        """Send what the step says; None when that is done or given up, else when to try again."""
        if step.sending is None:
            raise InternalFailure()
        visit = self._flow.visits(step.id)
        try:
            if visit > MOST_VISITS:
                raise TooMany("process-turns", limit=MOST_VISITS)
            sent = self.sender.send(step.sending, self._facts(), (self.claimed.id, step.id, str(visit)), self.now())
        except Problem as problem:
            return self._not_sent(step, problem)
        if sent.answered:
            self._facts.learn(step.id, sent.exchange_id, answered=True)
        self._tries.pop(step.id, None)
        self._flow.sent(step.id)
        self._note(step.id, "sent", service=step.sending.service, message_id=sent.message_id)
        self._keep(due_at=None, over=False)
        return None

    def _not_sent(self, step: Step, problem: Problem) -> datetime | None:
        tries = self._tries.get(step.id, 0) + 1
        if problem.retryable and tries < _MOST_TRIES:
            self._tries[step.id] = tries
            if tries == 1:
                self._note(step.id, "not-sent-yet", service=_service(step), problem=problem)
            delay = max(min(2.0**tries, _MOST_SECONDS_APART), problem.retry_after_seconds or 0)
            return self.now() + timedelta(seconds=delay)
        self._tries.pop(step.id, None)
        self._note(step.id, "not-sent", service=_service(step), problem=problem)
        if self._flow.fail(step.id) is None:
            self.status, self._problem = Status.FAILED, problem
            self._note(step.id, Status.FAILED.value)
        return None

    def _note(self, step: str, event: str, *, service: str = "", message_id: str = "", problem: Any = None) -> None:
        self._events.append(
            Event(
                at=self.now(),
                step=step,
                event=event,
                service=service,
                message_id=message_id,
                problem=problem_facts(problem),
            )
        )

    def _keep(self, *, due_at: datetime | None, over: bool) -> None:
        state: Mapping[str, Any] = {
            "engine": self._flow.state(),
            "seen": self._facts.seen,
            "answered": self._facts.answered,
            "tries": self._tries,
        }
        kept = self.journal.keep(
            self.claimed,
            Progress(
                status=self.status,
                state=state,
                due_at=due_at,
                taken=tuple(self._taken),
                events=tuple(self._events),
                problem=problem_facts(self._problem),
                keys=self._keys(),
                over=over,
            ),
        )
        self._taken.clear()
        self._events.clear()
        if not kept:
            raise LostTurn()


class LostTurn(RuntimeError):
    """The lease of this turn ran out and another program has the process now: what was done here is done again there,
    under the same message ids."""


def _service(step: Step) -> str:
    return step.sending.service if step.sending else ""
