"""What `lgsp work` answers: whether it lives, whether it can work, and its numbers. No message comes in here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gevent.pywsgi import WSGIServer

from bus.assembly import Bus
from bus.web.app import create_watch_app
from bus.worker import Worker


@contextmanager
def watched(bus: Bus, worker: Worker) -> Iterator[None]:
    """Answer on the port that the settings name, for the whole block."""
    settings = bus.settings
    app = create_watch_app(bus, worker.standing)
    # No lines of its own: a scrape is no event, and a stranger's request line is not for a log.
    server = WSGIServer((settings.work_host, settings.work_port), app, log=None, error_log=None)
    server.start()
    try:
        yield
    finally:
        server.stop(timeout=1)
