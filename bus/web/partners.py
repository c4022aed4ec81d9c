"""`/partners/{agency}/{system}/…`: partners that call us in their own protocol: notices of payment, callbacks, pushed
dossiers.

The receiver of the system's kind (``connectors/``) proves who calls and says which message the call is; from then on it
is a message like another, attested by the bus. The answer is in the partner's own words, and says "taken" only for what
is recorded.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from flask import Blueprint, Response, request

from bus.assembly import Bus
from bus.logs import get_logger
from bus.spans import arriving
from bus.web.described import Answer as Described
from bus.web.described import describe
from bus.web.door import Arrival, arrival, read_body
from bus.web.submission import unread
from connectors.base import Answer, Incoming, Outcome, PartnerCall, Receiver, Reply
from registry.model import Endpoint, Pattern, System
from schemas.identifiers import SystemCode
from schemas.message import Envelope, Means, Principal
from schemas.problem import InternalFailure, Malformed, NotFound, Problem, Refused

log = get_logger()


def partner_surface(bus: Bus) -> Blueprint:
    """The routes of partners' own calls."""
    routes = Blueprint("partners", __name__)
    calls = PartnerCalls(bus)

    def take(agency: str, name: str, path: str) -> Response:
        arrived = arrival()
        with arriving(arrived.traceparent, arrived.caller_span, "/partners"):
            answer = calls.take(agency, name, path, arrived)
        return Response(answer.body, answer.status, dict(answer.headers), content_type=answer.content_type or None)

    @routes.get("/partners/<agency>/<name>/<path:path>")
    @describe(
        "Partners",
        "A partner asks",
        access="anyone",
        answers={200: Described(meaning="As the partner's protocol says", content_type="*/*")},
        problems=(404,),
    )
    def asked(agency: str, name: str, path: str) -> Response:
        """Each kind of partner proves itself by its own protocol; see the pages of the partners."""
        return take(agency, name, path)

    @routes.post("/partners/<agency>/<name>/<path:path>")
    @describe(
        "Partners",
        "A partner calls",
        access="anyone",
        body={"application/json": {"description": "As the partner's protocol says"}},
        answers={200: Described(meaning="As the partner's protocol says", content_type="*/*")},
        problems=(400, 404, 413),
    )
    def called(agency: str, name: str, path: str) -> Response:
        """Each kind of partner proves itself by its own protocol; see the pages of the partners."""
        return take(agency, name, path)

    return routes


@dataclass(frozen=True, slots=True)
class PartnerCalls:
    """Takes one call of a partner at a time. Safe to share between threads."""

    bus: Bus

    def take(self, agency: str, name: str, path: str, arrival: Arrival) -> Answer:
        """The answer in the partner's words. Raises NotFound for an address that no partner has, and TooLarge,
        Malformed for a body that cannot be read: then nobody knows the words."""
        system, endpoint, receiver = self._partner(agency, name)
        call = _call(system, path, arrival, self.bus.settings.max_body_bytes)
        try:
            incoming = receiver.receive(call, endpoint, self._secret(endpoint))  # 1 and 2
        except Refused as problem:
            self.bus.intake.refuse(problem, unread(arrival))
            return receiver.refuse(call, problem)
        except Exception as error:
            return receiver.refuse(call, _told(error))
        if isinstance(incoming, Answer):
            return incoming
        structlog.contextvars.bind_contextvars(sender=system.agency, system=system.code)
        return receiver.answer(call, incoming, self._outcome(incoming, system, arrival))

    def _outcome(self, incoming: Incoming, system: System, arrival: Arrival) -> Outcome:
        try:
            acceptance = self.bus.intake.accept(_envelope(incoming, system, arrival))  # 2 to 5
            if acceptance.permission.service.pattern is Pattern.ONE_WAY:
                return acceptance.receipt
            reply = self.bus.calls.answer(acceptance)  # 7 and 8, in the caller's own time
            return Reply(body=reply.body, content_type=reply.content_type)
        except Exception as error:
            return _told(error)

    def _partner(self, agency: str, name: str) -> tuple[System, Endpoint, Receiver]:
        try:
            system = self.bus.directory.current().system(SystemCode(f"{agency}/{name}"))
        except Malformed:
            system = None
        if system is None or system.suspended or system.endpoint is None:
            raise NotFound("page-unknown")
        receiver = self.bus.receivers.get(system.endpoint.connector)
        if receiver is None:
            raise NotFound("page-unknown")
        return system, system.endpoint, receiver

    def _secret(self, endpoint: Endpoint) -> bytes | None:
        return self.bus.connector_secrets(endpoint.secret) if endpoint.secret else None


def _call(system: System, path: str, arrival: Arrival, most_bytes: int) -> PartnerCall:
    return PartnerCall(
        method=request.method,
        path=path,
        query=request.args.to_dict(),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=read_body(request.environ, most_bytes),
        content_type=request.headers.get("Content-Type", ""),
        received_at=arrival.received_at,
        system=system.code,
    )


def _envelope(incoming: Incoming, system: System, arrival: Arrival) -> Envelope:
    """The message as it would come over REST from a caller that does not sign."""
    facts = {
        "lgsp-service": incoming.service,
        "lgsp-receiver": ",".join(incoming.receivers),
        "lgsp-message-id": incoming.message_id,
        "lgsp-dossier": incoming.dossier or "",
        "lgsp-purpose": incoming.purpose,
        "lgsp-user": incoming.user,
    }
    return Envelope(
        body=incoming.body,
        content_type=incoming.content_type,
        headers={name: value for name, value in facts.items() if value},
        received_at=arrival.received_at,
        traceparent=arrival.traceparent,
        presenter=Principal(agency=system.agency, system=system.code, means=Means.PARTNER),
    )


def _told(error: Exception) -> Problem:
    """A problem as it is; anything else goes to the log and is told as our failure."""
    if isinstance(error, Problem):
        return error
    log.error("request.failed", exc_info=error)
    return InternalFailure()
