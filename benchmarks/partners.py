"""Two providers that answer at once with the same bytes: one over SOAP, one over REST."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.baseline_flask import server_command
from benchmarks.processes import Running, free_port, start_server
from schemas.soap import SoapVersion, write_soap

PARTNERS = Path(__file__).resolve().parent.parent / "schemas" / "partners"
#: Path → content type and body of the only answer.
ANSWERS = {
    "/soap": (
        "text/xml; charset=utf-8",
        write_soap(
            SoapVersion.V11, (PARTNERS / "population" / "TraCuuThongTinCongDanResponse.example.xml").read_bytes()
        ),
    ),
    "/rest": (
        "application/json",
        (PARTNERS / "business_registry" / "enterprise-detail-reply.example.json").read_bytes(),
    ),
}


def create_app() -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["wsgi.input"].read()
        content_type, body = ANSWERS[environ["PATH_INFO"]]
        start_response("200 OK", [("Content-Type", content_type), ("Content-Length", str(len(body)))])
        return [body]

    return answer


def start_partners() -> Running:
    port = free_port()
    command = server_command("gevent", f"{__name__}:create_app()", port, 1, 1)
    return start_server("partners", command, port=port)
