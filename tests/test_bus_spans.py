"""Traces: the eight steps of a message as one tree, in its sender's trace, and how they reach a collector."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bus import otlp, spans
from bus.settings import BadSetting, load_settings
from bus.spans import Span, configure_spans, keep_spans
from tests.bus_world import ANSWERING, MINISTRY, bus_world, delivering, post
from tests.loopback import closed_port, serving
from tests.processes import until

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def kept() -> Iterator[list[Span]]:
    """The spans of this process."""
    found: list[Span] = []
    keep_spans(found.append)
    yield found
    keep_spans(None)


def test_the_eight_steps_of_a_message_are_one_tree_in_its_senders_trace(tmp_path: Path, kept: list[Span]) -> None:
    with (
        serving(lambda environ, start: start("200 OK", []) and [b""]) as partner,
        bus_world(tmp_path, partner_url=partner.url) as world,
        world.serving() as url,
        delivering(world.bus),
    ):
        message = world.signed({"title": "Nguyễn Văn A"}, receivers=[MINISTRY], dossier="H99.15-260423-0001")
        assert post(url, message, traceparent=CALLER).status == 202
        assert until(lambda: any(span.name == "settle" for span in list(kept)))
    steps = {span.name: span for span in kept if span.trace_id == CALLER[3:35]}
    assert steps.keys() == {
        "receive", "identify", "authorise", "validate", "record", "dispatch", "deliver", "settle",
    }  # fmt: skip
    receive = steps.pop("receive")
    assert (receive.parent_id, receive.is_arrival, receive.told) == (
        "00f067aa0ba902b7",
        True,
        {"lgsp.entrance": "/v1/exchange"},
    )
    assert {span.parent_id for span in steps.values()} == {receive.span_id}
    assert receive.started_ns <= steps["identify"].started_ns < steps["identify"].ended_ns <= steps["record"].ended_ns
    assert steps["record"].told["lgsp.message_id"] == message.manifest.message_id
    assert steps["deliver"].told["lgsp.system"] == ANSWERING
    # The partner is given the same trace, below the same span.
    assert partner.header("traceparent") == [f"00-{receive.trace_id}-{receive.span_id}-01"]
    # Nothing of a payload, and no dossier.
    text = repr(kept)
    assert "Nguyễn" not in text
    assert "260423" not in text


def test_a_refusal_ends_its_trace_with_a_code_and_no_words(tmp_path: Path, kept: list[Span]) -> None:
    with bus_world(tmp_path) as world, world.serving() as url:
        assert post(url, world.signed({"title": 7, "secret": "Nguyễn"})).status == 422
    assert [(span.name, span.failure) for span in kept] == [
        ("identify", ""),
        ("authorise", ""),
        ("validate", "payload-breaks-schema"),
        ("receive", "payload-breaks-schema"),
    ]
    assert "Nguyễn" not in repr(kept)


@pytest.mark.parametrize(
    "traceparent,spans_kept",
    [
        (CALLER, True),
        (CALLER[:-2] + "00", False),
        (CALLER[:-2] + "02", False),
        (CALLER[:-2] + "ff", True),
        ("00-" + "0" * 32 + "-00f067aa0ba902b7-01", True),
        ("nonsense", True),
        (CALLER.upper(), True),
        (CALLER + "-more", True),
        ("", True),
    ],
)
def test_who_calls_says_whether_it_wants_a_trace(
    tmp_path: Path, kept: list[Span], traceparent: str, spans_kept: bool
) -> None:
    with bus_world(tmp_path) as world, world.serving() as url:
        assert post(url, world.signed(), traceparent=traceparent).status == 202
    assert bool(kept) is spans_kept
    joined = traceparent.startswith(CALLER[:36]) and len(traceparent) == 55
    assert all((span.trace_id == CALLER[3:35]) is joined for span in kept)


def test_without_a_collector_nothing_is_kept_and_nothing_imported() -> None:
    configure_spans(load_settings(environ={}), "test")
    assert spans._keep is None


def test_without_the_libraries_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bus.otlp", None)
    settings = load_settings(environ={"LGSP_TRACE_ENDPOINT": "http://127.0.0.1:9/v1/traces"})
    with pytest.raises(BadSetting, match=r"lgsp-bus\[trace\]"):
        configure_spans(settings, "test")


@contextmanager
def collecting() -> Iterator[tuple[str, list[Any]]]:
    """A collector: its address, and the spans that arrived."""
    arrived: list[Any] = []

    def take(environ: dict[str, Any], start: Any) -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        if environ.get("HTTP_CONTENT_ENCODING") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest.FromString(body)
        for of_process in request.resource_spans:
            for scope in of_process.scope_spans:
                arrived.extend((of_process.resource, span) for span in scope.spans)
        start("200 OK", [("Content-Type", "application/x-protobuf")])
        return [b""]

    with serving(take) as collector:
        yield f"{collector.url}/v1/traces", arrived


def test_the_real_server_sends_its_spans_to_the_collector(tmp_path: Path) -> None:
    with (
        collecting() as (endpoint, arrived),
        bus_world(tmp_path) as world,
        world.server_process(trace_endpoint=endpoint) as url,
    ):
        assert post(url, world.signed(), traceparent=CALLER).status == 202
        assert post(url, world.signed({}), traceparent=CALLER).status == 422
        assert until(lambda: len(arrived) >= 9, 15)
    names = sorted(span.name for _, span in arrived)
    assert names == sorted(["receive", "identify", "authorise", "validate"] * 2 + ["record"])
    roots = [span for _, span in arrived if span.name == "receive"]
    assert {span.trace_id.hex() for _, span in arrived} == {CALLER[3:35]}
    assert {span.parent_span_id.hex() for span in roots} == {CALLER[36:52]}
    assert {span.parent_span_id for _, span in arrived if span.name != "receive"} == {span.span_id for span in roots}
    failed = {span.name: span.attributes for _, span in arrived if span.status.code == 2}
    assert failed.keys() == {"validate", "receive"}
    assert {a.value.string_value for a in failed["validate"] if a.key == "error.type"} == {"payload-breaks-schema"}
    resource = {a.key: a.value.string_value for a in arrived[0][0].attributes}
    assert resource["service.name"] == "lgsp-bus"


def test_a_collector_that_is_away_costs_spans_and_no_message(tmp_path: Path) -> None:
    dead = f"http://127.0.0.1:{closed_port()}/v1/traces"
    with bus_world(tmp_path) as world, world.server_process(trace_endpoint=dead) as url:
        for _ in range(5):
            assert post(url, world.signed()).status == 202


def test_a_share_of_nothing_keeps_nothing_and_the_same_half_everywhere() -> None:
    taken: list[Any] = []

    class Processor:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def on_end(self, span: Any) -> None:
            taken.append(span)

        def shutdown(self) -> None: ...

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(otlp, "BatchSpanProcessor", Processor)
        for share in (0.0, 0.5, 1.0):
            keep = otlp.open_exporter("http://127.0.0.1:9", share, "test")
            for first in ("0", "7", "8", "f"):
                keep(
                    Span(
                        name="x", trace_id="0" * 15 + "1" + first * 16, span_id="", parent_id="", started_ns=1,
                        ended_ns=2, told={},
                    )
                )  # fmt: skip
    assert len(taken) == 0 + 2 + 4
