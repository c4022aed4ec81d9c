"""The fault dial: what goes wrong at a twin, how often, and whether the twin acted before it went wrong.

::

    PUT /_sandbox/<partner>/faults
    [{"service": "DongBoHoSoMC", "kind": "status", "status": 503, "count": 2},
     {"service": "*", "kind": "stall", "seconds": 6, "probability": 0.1}]

The list replaces the one before it; ``[]`` makes the twin well again. The first fault that matches and still has a
count is the one that happens. Each twin's own failures have names (:class:`Preset`), and what is said beside a name
stands above it: ``{"name": "duplicate-dossier", "tenant": "H99", "probability": 0.1}``.

========== =============================================================================== ==============
kind       what the caller sees                                                            acted before?
========== =============================================================================== ==============
error      200 and the partner's own error: ``code``, ``message``                          no
status     the HTTP status ``status``, with ``Retry-After`` when ``retry_after`` is given  no
stall      the right answer after ``seconds``                                              yes
time-out   nothing for ``seconds`` (60), then a closed connection                          yes
truncate   a correct head and half of the body                                             yes
reset      a connection reset                                                              no
nonsense   200 and a page of HTML                                                          no
========== =============================================================================== ==============

``acts`` overrides the last column: a reset *after* the dossier was stored is what makes systems send twice.
``tenant`` is the caller's code where the partner's protocol names it (``CALLERS``), or the agency that signed the
message. ``wording`` names a text of the twin's (``PUT …/wording``), so that a changed text is changed everywhere.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from flask import Response, request

from schemas.codec import read_json
from schemas.problem import Problem
from security.signing import split_compact

#: What the caller sees, by kind.
KINDS: Mapping[str, str] = {
    "error": "200 and the partner's own error, with `code` and `message`",
    "status": "the HTTP status `status`, with Retry-After when `retry_after` is given",
    "stall": "the right answer, after `seconds`",
    "time-out": "nothing for `seconds`, then a closed connection",
    "truncate": "a correct head and half of the body",
    "reset": "a connection reset",
    "nonsense": "200 and a page of HTML",
}
#: Members, parameters and headers by which partners' protocols name the caller.
CALLERS = ("madonvi", "CustomerCode", "MaDoiTac", "partnerCode", "MaDonViTiepNhan", "systemid", "X-SystemId")
ACTING_KINDS = frozenset({"stall", "time-out", "truncate"})
#: Longest pause a fault may ask for, in seconds: a worker thread hangs for it.
MAX_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong. ``count`` None means for ever; ``service`` and ``tenant`` ``*`` mean any."""

    kind: str
    service: str = "*"
    #: The caller's own code at the partner (``madonvi``), where the protocol has one.
    tenant: str = "*"
    count: int | None = None
    probability: float = 1.0
    seconds: float = 60.0
    status: int = 503
    retry_after: int | None = None
    code: str = "-1"
    message: str = "Lỗi hệ thống"
    #: Name of the twin's text to say instead of ``message``.
    wording: str = ""
    acts: bool | None = None

    @property
    def acts_first(self) -> bool:
        return self.kind in ACTING_KINDS if self.acts is None else self.acts


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A failure of one partner under a name: a fault, a call of the sandbox, or what to ask for."""

    #: What the caller sees, in a sentence.
    says: str
    #: Members of a :class:`Fault`.
    fault: Mapping[str, Any] = field(default_factory=dict)
    #: Path and body of the POST that brings it about.
    call: tuple[str, Mapping[str, Any] | Sequence[Mapping[str, Any]]] | None = None
    #: Where neither is needed: the data that do.
    by: str = ""


def error(says: str, code: str = "-1", wording: str = "", **members: Any) -> Preset:
    """The partner's own error, in the twin's text of that name."""
    return Preset(says=says, fault={"kind": "error", "code": code, "wording": wording, **members})


def read_faults(document: Any, presets: Mapping[str, Preset] | None = None) -> list[Fault]:
    """The faults in a JSON list. Raises ValueError or TypeError naming what is wrong."""
    if not isinstance(document, list):
        raise ValueError("a list of faults is expected")
    return [_read_fault(item, presets or {}) for item in document]


def _read_fault(item: Any, presets: Mapping[str, Preset]) -> Fault:
    if not isinstance(item, dict):
        raise ValueError("each fault is an object")
    if "name" in item:
        item = {**_preset_fault(item["name"], presets), **{key: value for key, value in item.items() if key != "name"}}
    fault = Fault(**item)
    if fault.kind not in KINDS:
        raise ValueError(f"kind is one of {', '.join(KINDS)}")
    if not 0 <= fault.probability <= 1 or not 0 <= fault.seconds <= MAX_SECONDS or not 100 <= fault.status <= 599:
        raise ValueError("probability is 0 to 1, seconds 0 to 600, status 100 to 599")
    if fault.count is not None and (type(fault.count) is not int or fault.count < 0):
        raise ValueError("count is a whole number")
    return fault


def _preset_fault(name: Any, presets: Mapping[str, Preset]) -> Mapping[str, Any]:
    known = sorted(each for each, preset in presets.items() if preset.fault)
    if name not in known:
        raise ValueError(f"name is one of {', '.join(known) or 'none: this twin names no faults'}")
    return presets[name].fault


class Dial:
    """The faults of all twins. Safe under threads; chance comes from a seed, so that a run can be repeated."""

    def __init__(self, seed: int = 1) -> None:
        self._faults: dict[str, list[tuple[Fault, int | None]]] = {}
        self._drawn: dict[str, int] = {}
        self._texts: dict[str, Mapping[str, str]] = {}
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def turn(self, partner: str, faults: Sequence[Fault]) -> None:
        with self._lock:
            self._faults[partner] = [(fault, fault.count) for fault in faults]

    def word(self, partner: str, texts: Mapping[str, str]) -> None:
        """What the twin says, by name; it may change later."""
        self._texts[partner] = texts

    def draw(self, partner: str, service: str, tenant: str = "*") -> Fault | None:
        """The fault for this call, if any; one with a count has one less afterwards."""
        with self._lock:
            faults = self._faults.get(partner, [])
            for at, (fault, left) in enumerate(faults):
                if left == 0 or fault.service not in ("*", service) or fault.tenant not in ("*", tenant):
                    continue
                if fault.probability < 1 and self._random.random() >= fault.probability:
                    continue
                faults[at] = (fault, None if left is None else left - 1)
                self._drawn[fault.kind] = self._drawn.get(fault.kind, 0) + 1
                return fault
        return None

    def shown(self) -> Mapping[str, Any]:
        with self._lock:
            return {
                partner: [{**asdict(fault), "count": left} for fault, left in faults]
                for partner, faults in self._faults.items()
            }

    def drawn(self) -> Mapping[str, int]:
        """How many faults of each kind have happened."""
        with self._lock:
            return dict(self._drawn)

    def close(self) -> None:
        """End all stalls at once, so that a stopping server need not wait for them."""
        self._closing.set()

    def apply(
        self,
        partner: str,
        service: str,
        act: Callable[[], Response],
        error: Callable[[str, str], Response],
        tenant: str = "*",
    ) -> Response:
        """The answer to one call: what ``act`` answers, or what the dial makes of it. ``error`` words a code and a
        message the way this partner does."""
        fault = self.draw(partner, service, caller() if tenant == "*" else tenant)
        if fault is None:
            return act()
        answer = act() if fault.acts_first else None
        if fault.kind == "error":
            return error(fault.code, self._texts.get(partner, {}).get(fault.wording, fault.message))
        if fault.kind == "status":
            return _with_status(fault)
        if fault.kind == "nonsense":
            return Response("<html><body>Hệ thống đang bảo trì</body></html>", mimetype="text/html")
        if fault.kind == "truncate":
            return _truncated(answer or act())
        if fault.kind in ("stall", "time-out"):
            self._closing.wait(fault.seconds)
        if fault.kind == "stall":
            return answer or act()
        return _reset()


def caller() -> str:
    """The code under which the request names its caller; ``*`` when it does not."""
    signed = request.headers.get("Lgsp-Manifest", "")
    if signed:
        try:
            return str(read_json(split_compact(signed).payload)["sender"])
        except (Problem, KeyError, TypeError):
            return "*"
    given = request.get_json(silent=True)
    body = given if isinstance(given, dict) else {}
    named = (request.args.get(name) or request.headers.get(name) or body.get(name) for name in CALLERS)
    return next((str(code) for code in named if code), "*")


def _with_status(fault: Fault) -> Response:
    response = Response(f"HTTP {fault.status}", status=fault.status, mimetype="text/plain")
    if fault.retry_after is not None:
        response.headers["Retry-After"] = str(fault.retry_after)
    return response


def _truncated(answer: Response) -> Response:
    """Half of the body under a head that promises all of it, then the end of the connection."""
    whole = answer.get_data()
    connection = _connection()

    def half() -> Iterator[bytes]:
        yield whole[: len(whole) // 2]
        if connection is not None:  # no server closes a connection that still owes bytes by itself in time
            connection.shutdown(socket.SHUT_RDWR)

    cut = Response(half(), status=answer.status_code, mimetype=answer.mimetype)
    cut.headers["Content-Length"] = str(len(whole))
    cut.headers["Connection"] = "close"
    return cut


def _connection() -> socket.socket | None:
    """The caller's socket, as the servers that run the sandbox name it."""
    found: socket.socket | None = request.environ.get("werkzeug.socket") or request.environ.get("gunicorn.socket")
    return found


def _reset() -> Response:
    """Reset the caller's connection. The server still holds the socket's number and will write an answer to it, so the
    number is made to name a dead pair of sockets first: closing it would let the answer reach a stranger."""
    connection = _connection()
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        near, far = socket.socketpair()
        with near, far:
            os.dup2(near.fileno(), connection.fileno())
    return Response(status=503, headers={"Connection": "close"})
