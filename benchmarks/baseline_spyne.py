"""The SOAP ceiling: a bare spyne service that takes what the bus's SubmitMessage takes and says hello."""

from __future__ import annotations

from typing import Any

import connectors.soap_server  # noqa: F401 - it makes spyne load on Python 3.12 and later
from benchmarks.baseline_flask import server_command
from benchmarks.processes import Running, free_port, start_server
from schemas.soap import EXCHANGE_NS


def create_app() -> Any:
    """As a spyne tutorial would have it, with its own schema validation on."""
    import spyne
    from spyne.protocol.soap import Soap11
    from spyne.server.wsgi import WsgiApplication

    class Hello(spyne.Service):  # type: ignore[misc]  # spyne has no types
        @spyne.rpc(spyne.Unicode, spyne.ByteArray, _returns=spyne.Unicode)  # type: ignore[untyped-decorator]
        def SubmitMessage(ctx: Any, contentType: str, payload: bytes) -> str:
            return "hello"

    return WsgiApplication(
        spyne.Application([Hello], EXCHANGE_NS, in_protocol=Soap11(validator="lxml"), out_protocol=Soap11())
    )


def start_spyne(*, workers: int = 1) -> Running:
    port = free_port()
    command = server_command("gevent", f"{__name__}:create_app()", port, workers, 1)
    return start_server("bare spyne", command, port=port)
