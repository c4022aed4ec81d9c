"""A process of the bus that kills itself (SIGKILL, no farewell) when it meets a message marked for a step.

::

    python -m benchmarks.dying_process serve
    python -m benchmarks.dying_process work

The web process that dies is gunicorn's worker; its master starts another one. The delivery process is gone.

The product has no hooks for this: one of its methods is wrapped here. A message is marked for a step when its body
holds ``die at <step>``. It kills once: the next process that meets it lives.
"""

from __future__ import annotations

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()  # as the real programs do, before anything else is imported

import importlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from bus.broker.embedded import EmbeddedBroker
from bus.broker.queued import QueuedBroker
from bus.broker.rabbitmq import RabbitLink
from bus.delivery import Delivery
from bus.intake import Intake
from bus.ledger import Ledger
from bus.processes.journal import Journal
from bus.processes.sending import Sender
from bus.records import Reference
from bus.tables import exchange_of, payloads
from bus.web.submission import Submission
from connectors.rest import RestConnector

#: Step → where the web process dies, in the order of a message's life.
SERVE = (
    "receive",
    "identify",
    "authorise",
    "validate",
    "record-in-transaction",
    "record-after-commit",
    "call-before",
    "call-after",
)
#: The same of the delivery process.
WORK = (
    "dispatch-in-transaction",
    "dispatch-after-commit",
    "deliver-before",
    "deliver-after",
    "settle-in-transaction",
    "settle-after-commit",
)
#: The same of its dispatcher, where the queue is a broker's: held back, published, confirmed, noted.
PUBLISH = (
    "publish-in-transaction",
    "publish-before",
    "publish-after",
    "publish-confirmed",
    "publish-noted-in-transaction",
    "publish-noted",
)
#: The same of a long flow that it moves.
FLOW = ("flow-send-before", "flow-send-after", "flow-keep-in-transaction", "flow-keep-after")


def mark(step: str, number: int = 0) -> bytes:
    """What a body holds that kills the process at ``step``; ``number`` tells marks of one step apart."""
    return f"die at {step} {number}.".encode()


#: Which marks something holds.
Holds = Callable[..., Sequence[bytes]]


def _wrap(owner: Any, name: str, *, before: Holds | None = None, after: Holds | None = None) -> None:
    """Die before ``owner.name`` runs if ``before(*arguments)`` finds a mark, or after it if
    ``after(result, *arguments)`` does."""
    original = getattr(owner, name)

    @wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        if before is not None:
            _die(before(*arguments))
        result = original(*arguments, **named)
        if after is not None:
            _die(after(result, *arguments))
        return result

    setattr(owner, name, wrapped)


def _die(marks: Iterable[bytes]) -> None:
    """Once for each mark and home: the next process that meets the message lives."""
    for mark in marks:
        try:
            (Path(os.environ["LGSP_HOME"]) / f"died{mark.decode().removeprefix('die')}").touch(exist_ok=False)
        except FileExistsError:
            continue
        os.kill(os.getpid(), signal.SIGKILL)


class _Mark:
    """Finds the marks of one step in what passes by."""

    def __init__(self, step: str) -> None:
        self._pattern = re.compile(rb"die at " + step.encode() + rb" \d+\.")

    def in_text(self, text: bytes) -> list[bytes]:
        return self._pattern.findall(text)

    def of(self, thing: Any) -> list[bytes]:
        """In the body of a message, or of what carries one."""
        carrier = thing if hasattr(thing, "body") else getattr(thing, "message", None)
        return [] if carrier is None else self.in_text(carrier.body)

    def of_all(self, things: Iterable[Any]) -> list[bytes]:
        return [mark for thing in things for mark in self.of(thing)]


class _Endings(_Mark):
    """Also finds the settlements of claims whose message is marked."""

    def __init__(self, step: str) -> None:
        super().__init__(step)
        self._ending: dict[int, list[bytes]] = {}

    def note(self, _settlement: Any, _delivery: Any, claim: Any, *_rest: Any) -> list[bytes]:
        if found := self.of(claim):
            self._ending[claim.delivery_id] = found
        return []

    def of_ended(self, settled: Iterable[Any]) -> list[bytes]:
        return [mark for item in settled for mark in self._ending.get(item.delivery_id, ())]


class _References(_Mark):
    """Also finds references to marked messages, which hold no body: it is looked up when they are held back."""

    def __init__(self, step: str) -> None:
        super().__init__(step)
        self._marked: dict[int, list[bytes]] = {}
        self._mutex = threading.Lock()

    def note(self, held: Iterable[Reference], connection: Connection) -> list[bytes]:
        exchanges = {exchange_of(each.delivery_id): each.delivery_id for each in held}
        rows = connection.execute(select(payloads).where(payloads.c.exchange_id.in_(list(exchanges))))
        with self._mutex:
            self._marked |= {exchanges[row.exchange_id]: found for row in rows if (found := self.in_text(row.body))}
        return []

    def of_references(self, references: Iterable[Reference]) -> list[bytes]:
        with self._mutex:
            return [mark for each in references for mark in self._marked.get(each.delivery_id, ())]


def _arm_serve(step: str) -> None:
    doomed = _Mark(step)
    match step:
        case "receive":
            _wrap(Submission, "_receive", after=lambda envelope, *_: doomed.of(envelope))
        case "identify":
            _wrap(Intake, "_identify", after=lambda message, *_: doomed.of(message))
        case "authorise":
            _wrap(Intake, "_authorise", after=lambda _, __, message: doomed.of(message))
        case "validate":
            _wrap(Intake, "_validate", after=lambda _, __, message, *___: doomed.of(message))
        case "record-in-transaction":
            _wrap(Ledger, "_write_in", after=lambda _, __, ___, works: doomed.of_all(works))
        case "record-after-commit":
            _wrap(Ledger, "record", after=lambda _, __, new: doomed.of(new))
        case "call-before":
            _wrap(RestConnector, "deliver", before=lambda _, parcel, *__: doomed.of(parcel))
        case "call-after":
            _wrap(RestConnector, "deliver", after=lambda _, __, parcel, *___: doomed.of(parcel))


def _arm_work(step: str) -> None:
    doomed = _Endings(step)
    match step:
        case "dispatch-in-transaction":
            for claim in ("_claim_in", "_settle_and_claim_these_in"):
                _wrap(Ledger, claim, after=lambda claims, *_: doomed.of_all(claims))
        case "dispatch-after-commit":
            for broker in (EmbeddedBroker, QueuedBroker):
                _wrap(broker, "take", after=lambda claims, *_: doomed.of_all(claims))
        case "deliver-before":
            _wrap(RestConnector, "deliver", before=lambda _, parcel, *__: doomed.of(parcel))
        case "deliver-after":
            _wrap(RestConnector, "deliver", after=lambda _, __, parcel, *___: doomed.of(parcel))
        case "settle-in-transaction":
            _wrap(Delivery, "_settlement", after=doomed.note)
            _wrap(Ledger, "_settle_all", after=lambda _, __, ___, items, *____: doomed.of_ended(i for _, i in items))
        case "settle-after-commit":
            _wrap(Delivery, "_settlement", after=doomed.note)
            for broker in (EmbeddedBroker, QueuedBroker):
                _wrap(broker, "take", after=lambda _, __, settled, *___: doomed.of_ended(settled))


def _arm_publish(step: str) -> None:
    doomed = _References(step)
    _wrap(Ledger, "_hold_due_in", after=lambda held, _, connection, *__: doomed.note(held, connection))
    match step:
        case "publish-in-transaction":
            _wrap(Ledger, "_hold_due_in", after=lambda held, *_: doomed.of_references(held))
        case "publish-before":
            _wrap(RabbitLink, "publish", before=lambda _, held: doomed.of_references(held))
        case "publish-after":
            _wrap(RabbitLink, "_publish", after=lambda _, __, held: doomed.of_references(held))
        case "publish-confirmed":
            _wrap(RabbitLink, "confirmed", after=lambda arrived, *_: doomed.of_references(arrived))
        case "publish-noted-in-transaction":
            _wrap(Ledger, "_hold_due_in", after=lambda _, __, ___, arrived, *____: doomed.of_references(arrived))
        case "publish-noted":
            _wrap(Ledger, "hold_due", after=lambda _, __, arrived, *___: doomed.of_references(arrived))


def _arm_flow(step: str) -> None:
    doomed = _Mark(step)
    sent: dict[str, list[bytes]] = {}

    def note(_result: Any, _sender: Any, _sending: Any, facts: Any, *_: Any) -> list[bytes]:
        if found := doomed.in_text(str(facts).encode()):
            sent[facts["process"]["id"]] = found
        return []

    match step:
        case "flow-send-before":
            _wrap(Sender, "send", before=lambda _, __, facts, *___: doomed.in_text(str(facts).encode()))
        case "flow-send-after":
            _wrap(Sender, "send", after=lambda _, __, ___, facts, *____: doomed.in_text(str(facts).encode()))
        case "flow-keep-in-transaction" | "flow-keep-after":
            _wrap(Sender, "send", after=note)
            keep = "_keep_in" if step == "flow-keep-in-transaction" else "keep"
            _wrap(Journal, keep, after=partial(_of_kept, sent))


def _of_kept(sent: dict[str, list[bytes]], _result: Any, _journal: Any, *kept: Any) -> list[bytes]:
    return [mark for one in kept for mark in sent.get(getattr(one, "id", ""), ())]


#: Program → its module, and what it dies of.
_PROGRAMS: dict[str, tuple[str, Sequence[tuple[Callable[[str], None], Sequence[str]]]]] = {
    "serve": ("bus.web.server", [(_arm_serve, SERVE)]),
    "work": ("bus.work", [(_arm_work, WORK), (_arm_publish, PUBLISH), (_arm_flow, FLOW)]),
}

if __name__ == "__main__":
    module, arms = _PROGRAMS[sys.argv[1]]
    for arm, steps in arms:
        for step in steps:
            arm(step)
    importlib.import_module(module).main()
