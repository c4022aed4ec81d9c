"""The door of every request: trace context, log context, body, caller."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from flask import g, request

from bus.assembly import Bus
from bus.web.proxies import TrustedProxies
from schemas.message import Principal
from schemas.moment import utc_now
from schemas.problem import Malformed, NotPermitted, TooLarge

#: W3C Trace Context, level 1: version 00 only, ids that are not all zero.
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """When a request came in, the trace it belongs to, and what a trusted proxy says of the caller's certificate."""

    received_at: datetime
    traceparent: str
    client_certificate: str = ""
    #: The caller's own span, 16 hex digits; empty when the trace begins here.
    caller_span: str = ""


def arrive(environ: Mapping[str, Any], proxies: TrustedProxies) -> Arrival:
    """Join the caller's trace or begin one, and bind it to the log."""
    traceparent, caller_span = _continued(environ.get("HTTP_TRACEPARENT", ""))
    arrival = Arrival(
        received_at=utc_now(),
        traceparent=traceparent,
        caller_span=caller_span,
        client_certificate=proxies.client_certificate(environ),
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(trace_id=arrival.traceparent[3:35])
    return arrival


def open_door(proxies: TrustedProxies) -> None:
    """Before each request that Flask serves."""
    adopt(arrive(request.environ, proxies))


def adopt(arrival: Arrival) -> None:
    """Make an arrival the one of this Flask request."""
    g.arrival = arrival


def read_body(environ: Mapping[str, Any], most_bytes: int) -> bytes:
    """The whole body. A length over the limit is refused before a byte of it is read; half a body is refused.

    Raises TooLarge, Malformed(request-unreadable).
    """
    stated = environ.get("CONTENT_LENGTH", "")
    if not stated and "HTTP_TRANSFER_ENCODING" not in environ:
        return b""
    length = int(stated) if stated.isdecimal() else most_bytes + 1  # chunked: one more than allowed tells
    if stated and length > most_bytes:
        raise TooLarge("body-too-large", limit=most_bytes)
    try:
        body: bytes = environ["wsgi.input"].read(length)
    except Exception:  # whatever the server calls a caller who fell silent or wrote broken chunks
        raise Malformed("request-unreadable") from None
    if len(body) > most_bytes:
        raise TooLarge("body-too-large", limit=most_bytes)
    if stated and len(body) < length:
        raise Malformed("request-unreadable")
    return body


def identified_caller(bus: Bus) -> Principal:
    """Who asks, for calls without a message: the owner of the bearer token or the client certificate, not suspended.
    Raises NotIdentified."""
    said = request.headers.get("Authorization")
    headers = {} if said is None else {"authorization": said}
    principal = bus.identification.identify_caller(
        headers, received_at(), client_certificate=arrival().client_certificate
    )
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


def arrival() -> Arrival:
    """This Flask request's arrival."""
    adopted: Arrival = g.arrival
    return adopted


def received_at() -> datetime:
    """When this request came in."""
    return arrival().received_at


def _continued(traceparent: str) -> tuple[str, str]:
    """The same trace with a span of ours, or a new trace when the caller has none (or a broken one); and the span of
    the caller."""
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    trace_id, caller_span, flags = match.groups() if match else (os.urandom(16).hex(), "", "01")
    return f"00-{trace_id}-{os.urandom(8).hex()}-{flags}", caller_span
