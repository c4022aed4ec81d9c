"""Spans on their way to a collector: OpenTelemetry's protocol (OTLP) over HTTP, and the only use of its libraries.

Sent in batches from a thread of their own; a collector that is away costs spans, never a message.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from bus.spans import Span

#: A collector is near. One that is not there must not hold up the end of a process either.
_SENDING_SECONDS = 2.0
_COLLECTING_MILLISECONDS = 1000.0
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope("lgsp-bus")


def open_exporter(endpoint: str, share: float, process: str) -> Callable[[Span], None]:
    """What takes spans for the collector at ``endpoint``. Of all traces it keeps this share, the same ones in every
    process: a trace is whole or not there."""
    resource = Resource(
        {"service.name": "lgsp-bus", "service.instance.id": process, "service.version": version("lgsp-bus")}
    )
    exporter = OTLPSpanExporter(endpoint, timeout=_SENDING_SECONDS)
    processor = BatchSpanProcessor(exporter, schedule_delay_millis=_COLLECTING_MILLISECONDS)
    atexit.register(processor.shutdown)
    highest = round(share * 2**64)

    def keep(span: Span) -> None:
        if int(span.trace_id[16:], 16) < highest:
            processor.on_end(_readable(span, resource))

    return keep


def _readable(span: Span, resource: Resource) -> ReadableSpan:
    trace_id = int(span.trace_id, 16)
    parent = None
    if span.parent_id:
        parent = SpanContext(trace_id, int(span.parent_id, 16), is_remote=True, trace_flags=_SAMPLED)
    own_id = span.span_id or os.urandom(8).hex()
    failed = {"error.type": span.failure} if span.failure else {}
    return ReadableSpan(
        name=span.name,
        context=SpanContext(trace_id, int(own_id, 16), is_remote=False, trace_flags=_SAMPLED),
        parent=parent,
        resource=resource,
        attributes={**span.told, **failed},
        kind=SpanKind.SERVER if span.is_arrival else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR if span.failure else StatusCode.UNSET),
        start_time=span.started_ns,
        end_time=span.ended_ns,
        instrumentation_scope=_SCOPE,
    )
