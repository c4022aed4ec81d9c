"""Traces on request: a span for each step of a message's life, in the trace that its sender began (W3C Trace Context).

::

    caller's span ─▶ receive ─┬─▶ identify, authorise, validate, record         in lgsp serve
                              └─▶ dispatch, deliver, settle                     in lgsp work, maybe days later

A message keeps the ``traceparent`` of its arrival, and every step hangs below it: no context is carried from one thread
or process to the next but with the message itself. Without a collector in the settings all this costs one comparison a
step. What a span may tell is listed here; nothing of a payload, no name, no dossier.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

from bus.settings import BadSetting, Settings
from schemas.problem import Problem

T = TypeVar("T")
P = ParamSpec("P")
S = TypeVar("S")
#: Steps 2 to 8 take a message, or what stands for it, as their first argument.
M = TypeVar("M", bound="Travelling")

#: Attribute of a span → what of a message or claim it holds. Deny by default, as with log lines.
_TOLD: Final = {
    "lgsp.message_id": "message_id",
    "lgsp.sender": "sender",
    "lgsp.service": "service",
    "lgsp.system": "system",
    "lgsp.attempt": "attempt",
}


class Travelling(Protocol):
    """What belongs to a trace: an envelope, a message, a claim, a reference."""

    @property
    def traceparent(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A step that has ended. Ids are lower-case hex, moments nanoseconds since 1970."""

    name: str
    trace_id: str
    #: Empty: any.
    span_id: str
    #: Empty: it begins the trace.
    parent_id: str
    started_ns: int
    ended_ns: int
    told: Mapping[str, str | int]
    #: The problem's reason, or the exception's type; empty: it went well.
    failure: str = ""
    #: It answered somebody else's request.
    is_arrival: bool = False


#: Where spans go. None: nobody asked for any.
_keep: Callable[[Span], None] | None = None


def configure_spans(settings: Settings, process: str) -> None:
    """Send the spans of this process to the collector of the settings, if they name one. Call once, at start, after the
    last fork. Raises BadSetting when the libraries for it are missing."""
    if not settings.trace_endpoint:
        return
    try:
        from bus.otlp import open_exporter
    except ImportError:
        raise BadSetting("LGSP_TRACE_ENDPOINT: traces need more packages: pip install 'lgsp-bus[trace]'") from None
    keep_spans(open_exporter(settings.trace_endpoint, settings.trace_share, process))


def keep_spans(keep: Callable[[Span], None] | None) -> None:
    """Give each span that ends to ``keep``; None: to nobody."""
    global _keep  # one for the process, as with log lines
    _keep = keep


def traced(step: str) -> Callable[[Callable[Concatenate[S, M, P], T]], Callable[Concatenate[S, M, P], T]]:
    """Decorates the method that is a step; its first argument says which trace it belongs to."""

    def decorate(method: Callable[Concatenate[S, M, P], T]) -> Callable[Concatenate[S, M, P], T]:
        @wraps(method)
        def run(self: S, subject: M, /, *args: P.args, **kwargs: P.kwargs) -> T:
            if _keep is None:
                return method(self, subject, *args, **kwargs)
            started = time.time_ns()
            failure = ""
            try:
                result = method(self, subject, *args, **kwargs)
                failure = _said_of(getattr(result, "problem", None))
                return result
            except BaseException as error:
                failure = _said_of(error)
                raise
            finally:
                _end(step, subject, started, failure)

        return run

    return decorate


def note_step(step: str, subject: Travelling, started_ns: int) -> None:
    """A step that was made for many at once, for one of them."""
    if _keep is not None:
        _end(step, subject, started_ns, "")


@contextmanager
def arriving(traceparent: str, caller_span: str, entrance: str) -> Iterator[None]:
    """Step 1 and what is done while the caller waits: the span that the others hang below. ``entrance`` is the door."""
    keep = _keep
    if keep is None or not _is_sampled(traceparent):
        yield
        return
    started = time.time_ns()
    failure = ""
    try:
        yield
    except BaseException as error:
        failure = _said_of(error)
        raise
    finally:
        keep(
            Span(
                name="receive",
                trace_id=traceparent[3:35],
                span_id=traceparent[36:52],
                parent_id=caller_span,
                started_ns=started,
                ended_ns=time.time_ns(),
                told={"lgsp.entrance": entrance},
                failure=failure,
                is_arrival=True,
            )
        )


def _end(step: str, subject: Travelling, started_ns: int, failure: str) -> None:
    traceparent = subject.traceparent
    if _keep is None or not _is_sampled(traceparent):
        return
    facts = getattr(subject, "manifest", subject)  # a message's facts are its manifest's
    told = {name: value for name, fact in _TOLD.items() if isinstance(value := getattr(facts, fact, None), str | int)}
    _keep(
        Span(
            name=step,
            trace_id=traceparent[3:35],
            span_id="",
            parent_id=traceparent[36:52],
            started_ns=started_ns,
            ended_ns=time.time_ns(),
            told=told,
            failure=failure,
        )
    )


def _is_sampled(traceparent: str) -> bool:
    """The caller's wish, the lowest bit of the flags."""
    return len(traceparent) == 55 and int(traceparent[53:], 16) & 1 == 1


def _said_of(error: object) -> str:
    """Codes, never words: those may quote what a stranger sent."""
    if isinstance(error, Problem):
        return error.reason or error.slug
    return type(error).__name__ if isinstance(error, BaseException) else ""
