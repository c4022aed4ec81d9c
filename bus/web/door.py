"""The door of every request: trace context, log context, and step 1, from an HTTP request to an Envelope."""

from __future__ import annotations

import os
import re
from datetime import datetime

import structlog
from flask import Request, g, request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from bus.assembly import Bus
from schemas.message import Envelope, Principal
from schemas.moment import utc_now
from schemas.problem import Malformed, NotPermitted, TooLarge

#: W3C Trace Context, level 1: version 00 only, ids that are not all zero.
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")

#: The headers that the bus understands; all others stay outside.
_ENVELOPE_HEADERS = (
    "Lgsp-Manifest", "Authorization", "Lgsp-Service", "Lgsp-Message-Id", "Lgsp-Dossier", "Lgsp-Purpose", "Lgsp-User",
    "Content-Digest",
)  # fmt: skip


def open_door() -> None:
    """Before each request: join the caller's trace or begin one, and bind it to the log."""
    g.received_at = utc_now()
    g.traceparent = _continued(request.headers.get("traceparent", ""))
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(trace_id=g.traceparent[3:35])


def read_envelope(most_bytes: int) -> Envelope:
    """Step 1, receive: the request as an Envelope. Raises TooLarge, Malformed(request-unreadable)."""
    return Envelope(
        body=read_body(request, most_bytes),
        content_type=request.headers.get("Content-Type", ""),
        headers=_envelope_headers(),
        received_at=g.received_at,
        traceparent=g.traceparent,
    )


def empty_envelope() -> Envelope:
    """The envelope of a request whose body was not read, for the evidence of its refusal."""
    return Envelope(body=b"", content_type="", headers={}, received_at=g.received_at, traceparent=g.traceparent)


def read_body(incoming: Request, most_bytes: int) -> bytes:
    """The whole body. A length over the limit is refused before a byte of it is read; half a body is refused."""
    # One more than allowed: werkzeug cuts a body without a length at the limit and says nothing.
    incoming.max_content_length = most_bytes + 1
    try:
        body = incoming.get_data(cache=False)
    except RequestEntityTooLarge:
        raise TooLarge("body-too-large", limit=most_bytes) from None
    except (ClientDisconnected, OSError):
        raise Malformed("request-unreadable") from None
    if len(body) > most_bytes:
        raise TooLarge("body-too-large", limit=most_bytes)
    if incoming.content_length is not None and len(body) < incoming.content_length:
        raise Malformed("request-unreadable")
    return body


def identified_caller(bus: Bus) -> Principal:
    """Who asks, for calls without a message: the owner of the bearer token, not suspended. Raises NotIdentified."""
    headers = {"authorization": request.headers.get("Authorization", "")}
    principal = bus.identification.identify_caller(headers, received_at())
    structlog.contextvars.bind_contextvars(sender=principal.agency, system=principal.system)
    return principal


def is_operator(bus: Bus, principal: Principal) -> bool:
    """Does the bus's own system ask? Its tokens are minted on the bus's own machine (`lgsp key operator-token`)."""
    return principal.system == bus.settings.system


def operator(bus: Bus) -> Principal:
    """The caller, if it is the operator. Raises NotIdentified, NotPermitted(operator-only)."""
    principal = identified_caller(bus)
    if not is_operator(bus, principal):
        raise NotPermitted("operator-only")
    return principal


def received_at() -> datetime:
    """When this request came in."""
    moment: datetime = g.received_at
    return moment


def _envelope_headers() -> dict[str, str]:
    found = {name.lower(): value for name in _ENVELOPE_HEADERS if (value := request.headers.get(name)) is not None}
    receivers = request.headers.getlist("Lgsp-Receiver")
    if receivers:
        found["lgsp-receiver"] = ",".join(receivers)
    return found


def _continued(traceparent: str) -> str:
    """The same trace with a span of ours, or a new trace when the caller has none (or a broken one)."""
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    trace_id, flags = match.groups() if match else (os.urandom(16).hex(), "01")
    return f"00-{trace_id}-{os.urandom(8).hex()}-{flags}"
