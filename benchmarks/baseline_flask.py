"""The ceiling: a bare Flask route that reads the body and answers 202, on the servers that the bus could run on."""

from __future__ import annotations

import sys
from typing import Literal

from flask import Flask, request
from flask.typing import ResponseReturnValue

from benchmarks.processes import Running, free_port, program, start_server

Server = Literal["gevent", "gthread", "granian"]


def create_app() -> Flask:
    app = Flask(__name__)

    @app.post("/v1/exchange")
    def accept() -> ResponseReturnValue:
        return {"length": len(request.get_data())}, 202

    return app


def start_flask(server: Server = "gevent", *, workers: int = 2, threads: int = 8) -> Running:
    """The bare application on ``server``; ``threads`` is a worker's thread count (gevent has none)."""
    port = free_port()
    return start_server(f"flask on {server}", server_command(server, _TARGET, port, workers, threads), port=port)


def server_command(server: Server, target: str, port: int, workers: int, threads: int) -> list[str]:
    """How ``module:application`` or ``module:factory()`` is served, the same for every baseline."""
    if server == "granian":
        return [
            *(program("granian"), "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port)),
            *("--workers", str(workers), "--blocking-threads", str(threads), "--no-access-log"),
            *(["--factory"] if target.endswith("()") else []),
            target.removesuffix("()"),
        ]
    concurrency = ["--threads", str(threads)] if server == "gthread" else []
    return [
        *(sys.executable, "-m", "gunicorn", "--worker-class", server, "--workers", str(workers), *concurrency),
        *("--bind", f"127.0.0.1:{port}", "--keep-alive", "60", "--log-level", "warning", target),
    ]


_TARGET = f"{__name__}:create_app()"
