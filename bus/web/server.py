"""`lgsp serve`: the application under gunicorn's gevent workers. Run as `python -m bus.web.server`.

A process of its own, because gevent must patch the standard library before anything else is imported. gevent, because
thousands of members may hold a long poll or wait for a slow provider at once, and a thread for each is too much; what
it costs and what it gives against granian and threads is measured in ``benchmarks/``.
"""

# ruff: noqa: E402  # the patch comes before every other import, or locks made earlier stay unpatched
from __future__ import annotations

from gevent import monkey

monkey.patch_all()

from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.workers.ggevent import GeventWorker

from bus.assembly import Bus, open_bus
from bus.logs import configure_logs
from bus.settings import Settings, load_settings
from bus.web.app import create_app


class PatientWorker(GeventWorker):  # type: ignore[misc]  # gunicorn ships no types
    """A gevent worker that hangs up on callers who fall silent in the middle of a request."""

    #: Set from the settings before the workers start.
    read_timeout_seconds = 30

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        client.settimeout(self.read_timeout_seconds)
        super().handle(listener, client, addr)


class BusServer(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn configured from our settings; each worker opens a bus of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        settings = self._settings
        PatientWorker.read_timeout_seconds = settings.read_timeout_seconds
        for name, value in {
            "bind": f"{settings.host}:{settings.port}",
            "workers": settings.serve_processes,
            "worker_class": "bus.web.server.PatientWorker",
            "worker_connections": 2000,
            "keepalive": 75,
            # A manifest to a thousand receivers is 24 KiB of header.
            "limit_request_field_size": 40960,
            "graceful_timeout": settings.read_timeout_seconds,
            "timeout": 60,
            "control_socket_disable": True,
            "loglevel": "warning",
            "proc_name": "lgsp serve",
        }.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Any:
        configure_logs(self._settings.log_level)
        bus: Bus = open_bus(self._settings)
        return create_app(bus)


def main() -> None:
    BusServer(load_settings()).run()


if __name__ == "__main__":
    main()
