"""`/healthz`, `/readyz`, `/metrics`: for load balancers and monitoring, on the admin side of the network."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST

from bus.assembly import Bus
from bus.readiness import readiness
from bus.web.answers import json_response
from bus.web.described import Answer, describe
from bus.web.metrics import metrics_text
from bus.worker import WorkStanding
from schemas.moment import utc_now

_READY = {
    "type": "object",
    "required": ["ready", "checks"],
    "properties": {
        "ready": {"type": "boolean"},
        "checks": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "ok", "why"],
                "properties": {"name": {"type": "string"}, "ok": {"type": "boolean"}, "why": {"type": "string"}},
            },
        },
    },
}


def operations_surface(bus: Bus, work: Callable[[], WorkStanding | None] = lambda: None) -> Blueprint:
    """The routes of operations. ``work`` tells how this process delivers, if it does."""
    routes = Blueprint("operations", __name__)

    @routes.get("/healthz")
    @describe(
        "Operations",
        "Does the process answer?",
        access="anyone",
        answers={200: Answer(meaning="It does", schema={"type": "object"})},
    )
    def healthz() -> Response:
        """Looks at nothing else: a process is not to be restarted because its database is down."""
        return json_response({"ok": True})

    @routes.get("/readyz")
    @describe(
        "Operations",
        "May messages be sent here?",
        access="anyone",
        answers={
            200: Answer(meaning="All checks hold", schema=_READY),
            503: Answer(meaning="One does not: it says why", schema=_READY),
        },
    )
    def readyz() -> Response:
        """Store, registry, keys, disk, and whether the evidence log is being sealed; with RabbitMQ, the broker."""
        checks = readiness(bus, utc_now(), work=work())
        ready = all(check.ok for check in checks)
        document = {
            "ready": ready,
            "checks": [{"name": check.name, "ok": check.ok, "why": check.why} for check in checks],
        }
        return json_response(document, 200 if ready else 503)

    @routes.get("/metrics")
    @describe(
        "Operations",
        "The bus in numbers",
        access="anyone",
        answers={200: Answer(meaning="Prometheus text; names in docs/metrics.md", content_type="text/plain")},
    )
    def metrics() -> Response:
        """Names agencies and systems: serve it on the admin side only."""
        return Response(metrics_text(bus, work()), content_type=CONTENT_TYPE_LATEST)

    return routes
