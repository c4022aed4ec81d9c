"""`lgsp serve` on granian: real threads under a server written in Rust. Run as `python -m bus.web.threaded_server`.

It takes about a fifth more messages a second than the gevent server (``lgsp bench`` measures both). In exchange it has
no time-out for callers who fall silent in the middle of a body, and a thread is held by each who waits: choose it
(``LGSP_SERVER=granian``) behind a proxy that reads requests whole before it passes them on, as nginx does.
"""

from __future__ import annotations

import gc
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

from bus.assembly import open_bus
from bus.logs import configure_logs
from bus.settings import load_settings
from bus.web.app import create_app

#: More than a processor can use at once, enough for callers who wait; each costs some 50 KB.
_THREADS = 64


def make_app() -> Any:
    """granian asks for the application, in each of its worker processes."""
    settings = load_settings()
    configure_logs(settings.log_level)
    app = create_app(open_bus(settings))
    gc.collect()
    gc.freeze()
    return app


def main() -> None:
    """Serve the bus."""
    settings = load_settings()
    Granian(
        f"{__spec__.name}:make_app",
        address=settings.host,
        port=settings.port,
        interface=Interfaces.WSGI,
        workers=settings.serve_processes,
        blocking_threads=_THREADS,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=settings.read_timeout_seconds * 1000),
        websockets=False,
        factory=True,
        log_enabled=False,
        respawn_failed_workers=True,
        workers_kill_timeout=settings.read_timeout_seconds,
    ).serve()


if __name__ == "__main__":
    main()
