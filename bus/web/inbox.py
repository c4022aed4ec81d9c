"""`/v1/inbox`: for members that cannot be called. They fetch, and say when they have it."""

from __future__ import annotations

import base64
import threading
import time
from collections import defaultdict
from datetime import timedelta
from random import random
from typing import Any, ClassVar

from flask import Blueprint, Response, request
from werkzeug.exceptions import MethodNotAllowed

from bus.assembly import Bus
from bus.delivery import problem_facts
from bus.ledger import Ledger
from bus.logs import get_logger
from bus.records import Claim, Settlement, State
from bus.retry import decide
from bus.translation import parcel_for
from bus.web.answers import json_response
from bus.web.described import Answer, Parameter, describe
from bus.web.door import identified_caller, read_body, received_at
from registry.model import DeliveryMode, RetryPolicy
from schemas.codec import read_json
from schemas.identifiers import SystemCode
from schemas.moment import to_wire, utc_now
from schemas.problem import (
    IdempotencyConflict,
    Malformed,
    NotFound,
    NotPermitted,
    ProviderRejected,
    ProviderUnavailable,
)

log = get_logger()

#: Longest wait for the first message of a fetch, seconds.
MAX_WAIT_SECONDS = 60
MAX_DELIVERIES = 200
_MAX_NACK_BYTES = 4096
_MAX_SAID_CHARACTERS = 200
#: One look at the store, so often, serves all who wait in this process.
_WATCH_SECONDS = 0.2

_DELIVERIES = {
    "type": "object",
    "required": ["deliveries"],
    "properties": {"deliveries": {"type": "array", "items": {"type": "object"}}},
}


def inbox_surface(bus: Bus) -> Blueprint:
    """The routes of the pull inbox."""
    routes = Blueprint("inbox", __name__)
    watch = InboxWatch(bus.ledger)
    lease = timedelta(seconds=bus.settings.lease_seconds)

    @routes.get("/v1/inbox")
    @describe(
        "Inbox",
        "Fetch what waits for you",
        access="token",
        parameters=(
            Parameter(
                name="wait", place="query", meaning="Seconds to wait for the first message", schema=_number(0, 60)
            ),
            Parameter(name="max", place="query", meaning="Most messages at once", schema=_number(1, MAX_DELIVERIES)),
        ),
        answers={200: Answer(meaning="Leased deliveries, oldest first; none is an empty list", schema=_DELIVERIES)},
        problems=(400, 401, 403),
    )
    def fetch() -> Response:
        """Long poll. Each delivery is yours until `lease_until`; acknowledge it by then, or it is handed out again."""
        if request.method == "HEAD":  # Flask adds it to every GET, and this one hands out leases
            raise MethodNotAllowed(valid_methods=["GET", "OPTIONS"])
        system = _own_inbox(bus)
        wait, most = _query_number("wait", 0, MAX_WAIT_SECONDS), _query_number("max", 50, MAX_DELIVERIES)
        if wait and not bus.ledger.has_due(system, utc_now()):
            watch.wait(system, wait)
        claims = []
        if bus.ledger.has_due(system, utc_now()):
            claims = bus.ledger.claim({system: max(1, most)}, utc_now(), lease)
        return json_response({"deliveries": [_delivery_document(bus, claim) for claim in claims]})

    @routes.post("/v1/inbox/<delivery>/ack")
    @describe(
        "Inbox",
        "Acknowledge a delivery",
        access="token",
        answers={204: Answer(meaning="Recorded: it will not come again")},
        problems=(401, 404, 409),
    )
    def acknowledge(delivery: str) -> Response:
        """Say so only after you have stored the message. Acknowledging twice is answered with 409 the second time."""
        claim = _own_claim(bus, delivery)
        now = utc_now()
        receipt_jws, leaf = bus.evidence.delivered(claim, now)
        _settle(
            bus.ledger,
            Settlement(
                delivery_id=claim.delivery_id,
                attempt=claim.attempt,
                state=State.DELIVERED,
                started_at=received_at(),
                finished_at=now,
                receipt_jws=receipt_jws,
                leaf=leaf,
            ),
        )
        return Response(status=204)

    @routes.post("/v1/inbox/<delivery>/nack")
    @describe(
        "Inbox",
        "Give a delivery back",
        access="token",
        body={
            "application/json": {
                "type": "object",
                "properties": {
                    "reason": {"type": "string", "maxLength": _MAX_SAID_CHARACTERS},
                    "final": {"type": "boolean", "description": "true: never send it again"},
                },
            }
        },
        answers={204: Answer(meaning="It comes again later, or (final) is dead with your reason")},
        problems=(400, 401, 404, 409),
    )
    def give_back(delivery: str) -> Response:
        """With a reason that the sender and the operator can read. Not final: the service's retry policy decides when
        it comes again."""
        said, final = _nack_body()
        claim = _own_claim(bus, delivery)
        now = utc_now()
        problem = ProviderRejected("refused-by-receiver") if final else ProviderUnavailable("not-acknowledged")
        service = bus.directory.current().service(claim.service, claim.service_version)
        decision = decide(
            problem,
            service.retry if service else RetryPolicy(),
            tries=claim.attempt - claim.attempts_before,
            since=claim.retry_since,
            now=now,
            random=random,
        )
        facts = problem_facts(problem) or {}
        _settle(
            bus.ledger,
            Settlement(
                delivery_id=claim.delivery_id,
                attempt=claim.attempt,
                state=decision.state,
                started_at=received_at(),
                finished_at=now,
                problem={**facts, "said": said},
                due_at=decision.due_at,
                leaf=bus.evidence.dead(claim, now, problem) if decision.state is State.DEAD else None,
            ),
        )
        return Response(status=204)

    return routes


class InboxWatch:
    """Lets many long polls wait on one look at the store. Thread-safe."""

    #: The process is told to end: nobody waits any longer, or a long poll would hold it up for a minute. A plain mark,
    #: because a signal handler sets it.
    ending: ClassVar[bool] = False

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._mutex = threading.Lock()
        self._waiting: dict[SystemCode, list[threading.Event]] = defaultdict(list)
        self._watching = False

    def wait(self, system: SystemCode, seconds: float) -> None:
        """Return when something is due for the system, at the latest after ``seconds``."""
        gate = threading.Event()
        with self._mutex:
            self._waiting[system].append(gate)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="inbox-watch", daemon=True).start()
        try:
            gate.wait(seconds)
        finally:
            with self._mutex:
                self._waiting[system].remove(gate)
                if not self._waiting[system]:
                    del self._waiting[system]

    def _watch(self) -> None:
        while True:
            with self._mutex:
                if not self._waiting:
                    self._watching = False
                    return
            due = self._due()
            with self._mutex:
                for system in self._waiting.keys() if self.ending else due & self._waiting.keys():
                    for gate in self._waiting[system]:
                        gate.set()
            time.sleep(_WATCH_SECONDS)

    def _due(self) -> set[SystemCode]:
        now = utc_now()
        try:
            return {system for system, due_at in self._ledger.systems_due(now) if due_at <= now}
        except Exception:  # the store is away for a moment: the next look may find it again
            log.exception("inbox.watch-failed")
            return set()


def _own_inbox(bus: Bus) -> SystemCode:
    principal = identified_caller(bus)
    system = bus.directory.current().system(principal.system)
    if system is None or system.suspended or system.mode is not DeliveryMode.INBOX:
        raise NotPermitted("not-an-inbox")
    return system.code


def _own_claim(bus: Bus, delivery: str) -> Claim:
    """The claim behind ``<delivery id>.<attempt>``. Raises NotFound (not yours), IdempotencyConflict(lease-lost)."""
    system = _own_inbox(bus)
    number, _, attempt = delivery.partition(".")
    if not (number.isdecimal() and attempt.isdecimal() and len(delivery) < 40):
        raise NotFound("delivery-unknown")
    claim = bus.ledger.held_claim(int(number), int(attempt))
    if claim is None:
        raise IdempotencyConflict("lease-lost")
    if claim.system != system:
        raise NotFound("delivery-unknown")
    return claim


def _settle(ledger: Ledger, settlement: Settlement) -> None:
    if not ledger.settle(settlement):
        raise IdempotencyConflict("lease-lost")


def _delivery_document(bus: Bus, claim: Claim) -> dict[str, Any]:
    parcel = parcel_for(claim, bus.directory.current(), bus.ring)
    manifest = parcel.manifest
    return {
        "delivery_id": f"{claim.delivery_id}.{claim.attempt}",
        "message_id": claim.message_id,
        "sender": claim.sender,
        "receiver": claim.receiver,
        "service": f"{claim.service}/{claim.service_version}",
        "dossier": claim.dossier,
        "content_type": manifest.content_type,
        "manifest": parcel.manifest_jws,
        "receipt": claim.receipt_jws,
        "body_base64": base64.b64encode(parcel.body).decode("ascii"),
        "attempt": claim.attempt,
        "lease_until": to_wire(claim.lease_until),
        "attachments": [
            {"sha256": a.sha256, "length": a.length, "name": a.name, "content_type": a.content_type}
            for a in manifest.attachments
        ],
    }


def _query_number(name: str, default: int, most: int) -> int:
    text = request.args.get(name)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 6:
        raise Malformed("query-invalid", name=name)
    return min(int(text), most)


def _nack_body() -> tuple[str, bool]:
    data = read_body(request.environ, _MAX_NACK_BYTES)
    document = read_json(data) if data else {}
    if not isinstance(document, dict):
        raise Malformed("query-invalid", name="reason")
    said, final = document.get("reason", ""), document.get("final", False)
    if not isinstance(said, str) or not isinstance(final, bool):
        raise Malformed("query-invalid", name="reason")
    return said[:_MAX_SAID_CHARACTERS], final


def _number(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high}
