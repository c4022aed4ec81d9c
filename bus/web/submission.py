"""`POST /v1/exchange` in plain WSGI: the hot route, spoken without a framework in between.

Flask serves every route of the bus. On this one and its sister over SOAP its request and response objects cost as much
time as identifying, authorising, validating and recording the message together (measured: `benchmarks/`), so a small
middleware takes the successful way itself. Whatever goes wrong here is handed to Flask's error handlers: there is one
way to word a problem.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from flask import Flask, Response

from bus.assembly import Bus
from bus.spans import arriving
from bus.web.door import Arrival, adopt, arrive, read_body
from bus.web.headers import HARDENING
from bus.web.proxies import TrustedProxies
from registry.model import Pattern
from schemas.message import Envelope, Receipt
from schemas.moment import to_wire
from schemas.problem import Malformed, TooLarge

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

Environ = dict[str, Any]
#: Status, headers and body of an answer.
Taken = tuple[int, dict[str, str], bytes]

PATH = "/v1/exchange"

#: WSGI variable → name in the envelope. The headers that the bus understands; all others stay outside.
_ENVELOPE_HEADERS = {
    f"HTTP_{name.upper().replace('-', '_')}": name
    for name in (
        "lgsp-manifest", "authorization", "lgsp-service", "lgsp-receiver", "lgsp-message-id", "lgsp-dossier",
        "lgsp-purpose", "lgsp-user", "content-digest",
    )
}  # fmt: skip


class Submission:
    """Takes one message per call. Safe to share between threads."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._most_bytes = bus.settings.max_body_bytes

    def take(self, environ: Environ, arrival: Arrival) -> Taken:
        """The answer to a submitted message: status, headers, body. Raises Problem."""
        try:
            envelope = self._receive(environ, arrival)  # 1
        except (TooLarge, Malformed) as problem:
            self._bus.intake.refuse(problem, unread(arrival))
            raise
        acceptance = self._bus.intake.accept(envelope)  # 2 to 5
        if acceptance.permission.service.pattern is Pattern.ONE_WAY:
            return 200 if acceptance.repeated else 202, {"Content-Type": "application/json"}, _json(acceptance.receipt)
        reply = self._bus.calls.answer(acceptance)  # 7 and 8, in the caller's own time
        headers = {
            "Content-Type": reply.content_type,
            "Lgsp-Manifest": reply.manifest_jws,
            "Lgsp-Receipt": acceptance.receipt.receipt,
        }
        return 200, headers, reply.body

    def _receive(self, environ: Environ, arrival: Arrival) -> Envelope:
        return Envelope(
            body=read_body(environ, self._most_bytes),
            content_type=environ.get("CONTENT_TYPE", ""),
            headers={name: environ[variable] for variable, name in _ENVELOPE_HEADERS.items() if variable in environ},
            received_at=arrival.received_at,
            traceparent=arrival.traceparent,
            client_certificate=arrival.client_certificate,
        )


class Taker(Protocol):
    """What takes the requests to one address."""

    def take(self, environ: Environ, arrival: Arrival) -> Taken:
        """The answer. What it raises is worded by Flask's error handlers."""
        ...


class ShortWay:
    """WSGI middleware: a POST to one of the hot addresses goes straight to its taker, everything else to Flask."""

    def __init__(self, app: Flask, takers: Mapping[str, Taker], proxies: TrustedProxies) -> None:
        self._app = app
        self._proxies = proxies
        self._flask = app.wsgi_app
        self._takers = takers

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        taker = self._takers.get(environ["PATH_INFO"])
        if taker is None or environ["REQUEST_METHOD"] != "POST":
            answer: Iterable[bytes] = self._flask(environ, start_response)
            return answer
        arrival = arrive(environ, self._proxies)
        try:
            with arriving(arrival.traceparent, arrival.caller_span, environ["PATH_INFO"]):
                status, headers, body = taker.take(environ, arrival)
        except Exception as error:
            return self._problem(error, environ, arrival)(environ, start_response)
        start_response(_STATUS_LINES[status], [*headers.items(), ("Content-Length", str(len(body))), *HARDENING])
        return [body]

    def _problem(self, error: Exception, environ: Environ, arrival: Arrival) -> Response:
        with self._app.request_context(environ):
            adopt(arrival)
            return self._app.finalize_request(self._app.handle_user_exception(error))


_STATUS_LINES = {status: f"{status} {HTTPStatus(status).phrase}" for status in (200, 202, 500)}


def unread(arrival: Arrival) -> Envelope:
    """The envelope of a request whose body was not read, for the evidence of its refusal."""
    return Envelope(
        body=b"", content_type="", headers={}, received_at=arrival.received_at, traceparent=arrival.traceparent
    )


def _json(receipt: Receipt) -> bytes:
    return orjson.dumps(
        {
            "message_id": receipt.message_id,
            "state": receipt.state,
            "received_at": to_wire(receipt.received_at),
            "receivers": list(receipt.receivers),
            "leaf": receipt.leaf,
            "receipt": receipt.receipt,
        }
    )
