"""A process of the bus that kills itself (SIGKILL, no farewell) when it meets a message marked for a step.

::

    python -m tests.dying_process serve
    python -m tests.dying_process work

The web process that dies is gunicorn's worker; its master starts another one. The delivery process is gone.

The product has no hooks for this: one of its methods is wrapped here. A message is marked for a step when its body
holds ``die at <step>``.
"""

from __future__ import annotations

if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()  # as the real programs do, before anything else is imported

import importlib
import os
import signal
import sys
from collections.abc import Iterable
from functools import partial, wraps
from pathlib import Path
from typing import Any

from bus.broker.embedded import EmbeddedBroker
from bus.delivery import Delivery
from bus.intake import Intake
from bus.ledger import Ledger
from bus.processes.journal import Journal
from bus.processes.sending import Sender
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
#: The same of a long flow that it moves.
FLOW = ("flow-send-before", "flow-send-after", "flow-keep-in-transaction", "flow-keep-after")


def mark(step: str) -> bytes:
    """What a body holds that kills the process at ``step``."""
    return f"die at {step}.".encode()


def _wrap(owner: Any, name: str, step: str, *, before: Any = None, after: Any = None) -> None:
    """Die before ``owner.name`` runs if ``before(*arguments)``, or after it if ``after(result, *arguments)``."""
    original = getattr(owner, name)

    @wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        if before is not None and before(*arguments):
            _die(step)
        result = original(*arguments, **named)
        if after is not None and after(result, *arguments):
            _die(step)
        return result

    setattr(owner, name, wrapped)


def _die(step: str) -> None:
    """Once for each step and home: the next process that meets the message lives."""
    try:
        (Path(os.environ["LGSP_HOME"]) / f"died at {step}").touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _note_flow(doomed: bytes, sent: set[str], _result: Any, _sender: Any, _sending: Any, facts: Any, *_: Any) -> bool:
    if doomed in str(facts).encode():
        sent.add(facts["process"]["id"])
    return False


def _arm(step: str) -> None:
    doomed = mark(step)
    ending: set[int] = set()

    def holds(thing: Any) -> bool:
        carrier = thing if hasattr(thing, "body") else getattr(thing, "message", None)
        return carrier is not None and doomed in carrier.body

    def one_holds(things: Iterable[Any]) -> bool:
        return any(holds(thing) for thing in things)

    def note_end(_settlement: Any, _delivery: Any, claim: Any, *_rest: Any) -> bool:
        if holds(claim):
            ending.add(claim.delivery_id)
        return False

    def one_ends(settled: Iterable[Any]) -> bool:
        return any(item.delivery_id in ending for item in settled)

    match step:
        case "receive":
            _wrap(Submission, "_receive", step, after=lambda envelope, *_: holds(envelope))
        case "identify":
            _wrap(Intake, "_identify", step, after=lambda message, *_: holds(message))
        case "authorise":
            _wrap(Intake, "_authorise", step, after=lambda _, __, message: holds(message))
        case "validate":
            _wrap(Intake, "_validate", step, after=lambda _, __, message, *___: holds(message))
        case "record-in-transaction":
            _wrap(Ledger, "_write_in", step, after=lambda _, __, ___, works: one_holds(works))
        case "record-after-commit":
            _wrap(Ledger, "record", step, after=lambda _, __, new: holds(new))
        case "dispatch-in-transaction":
            _wrap(Ledger, "_claim_in", step, after=lambda claims, *_: one_holds(claims))
        case "dispatch-after-commit":
            _wrap(EmbeddedBroker, "take", step, after=lambda claims, *_: one_holds(claims))
        case "deliver-before" | "call-before":
            _wrap(RestConnector, "deliver", step, before=lambda _, parcel, *__: holds(parcel))
        case "deliver-after" | "call-after":
            _wrap(RestConnector, "deliver", step, after=lambda _, __, parcel, *___: holds(parcel))
        case "settle-in-transaction":
            _wrap(Delivery, "_settlement", step, after=note_end)
            _wrap(
                Ledger, "_settle_all", step, after=lambda _, __, ___, items, ____: one_ends(item for _, item in items)
            )
        case "settle-after-commit":
            _wrap(Delivery, "_settlement", step, after=note_end)
            _wrap(EmbeddedBroker, "take", step, after=lambda _, __, settled, *___: one_ends(settled))
        case "flow-send-before":
            _wrap(Sender, "send", step, before=lambda _, __, facts, *___: doomed in str(facts).encode())
        case "flow-send-after":
            _wrap(Sender, "send", step, after=lambda _, __, ___, facts, *____: doomed in str(facts).encode())
        case "flow-keep-in-transaction" | "flow-keep-after":
            sent: set[str] = set()
            _wrap(Sender, "send", step, after=partial(_note_flow, doomed, sent))
            keep = "_keep_in" if step == "flow-keep-in-transaction" else "keep"
            _wrap(Journal, keep, step, after=lambda _, __, *rest: any(getattr(one, "id", "") in sent for one in rest))
        case _:
            raise SystemExit(f"there is no step '{step}'")


if __name__ == "__main__":
    program = sys.argv[1]
    for step in {"serve": SERVE, "work": (*WORK, *FLOW)}[program]:
        _arm(step)
    importlib.import_module({"serve": "bus.web.server", "work": "bus.work"}[program]).main()
