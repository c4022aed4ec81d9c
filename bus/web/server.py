"""`lgsp serve`: the application under gunicorn's gevent workers. Run as `python -m bus.web.server`.

A process of its own, because gevent must patch the standard library before anything else is imported. gevent, because
thousands of members may hold a long poll or wait for a slow provider at once, and a thread for each is too much; what
it costs and what it gives against granian and threads is measured in ``benchmarks/``.
"""

# ruff: noqa: I001  # bus.greenlets first: it patches the standard library
from __future__ import annotations

from bus.greenlets import in_real_thread, settle_in

import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gevent
import orjson
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName, ParseException
from gunicorn.workers.ggevent import GeventWorker

from bus.assembly import Bus, open_bus
from bus.inbox import InboxWatch
from bus.logs import configure_logs, get_logger
from bus.nodes import Role
from bus.readiness import begin_ending, is_ending
from bus.settings import Settings, load_settings
from bus.spans import configure_spans
from bus.store import refuse_unfit_store
from bus.web.app import create_app
from bus.web.problems import CONTENT_TYPE, problem_document
from schemas.problem import InternalFailure, Malformed

log = get_logger()


class _Waiting:
    """A wait with an end, by a greenlet that may be sent away meanwhile."""

    __slots__ = ("_greenlet", "_idle", "_timeout")

    def __init__(self, idle: set[Any], seconds: float) -> None:
        self._idle = idle
        self._timeout = gevent.Timeout(seconds)
        self._greenlet = gevent.getcurrent()

    def __enter__(self) -> None:
        self._idle.add(self._greenlet)
        self._timeout.start()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        self._timeout.cancel()
        self._idle.discard(self._greenlet)
        return error is self._timeout


class PatientWorker(GeventWorker):  # type: ignore[misc]  # gunicorn ships no types
    """A gevent worker that hangs up on callers who fall silent in the middle of a request."""

    #: Set from the settings before the workers start.
    read_timeout_seconds = 30

    def init_process(self) -> None:
        self._idle: set[Any] = set()
        self.log.error_log.addFilter(_is_no_silence)
        super().init_process()

    def timeout_ctx(self) -> _Waiting:
        """Around the wait for a connection's next request, the only time when nobody is owed an answer on it."""
        return _Waiting(self._idle, self.cfg.keepalive)

    def notify(self) -> None:
        """Called every second, also while stopping: then idle connections are closed and long polls are
        answered, not waited for."""
        super().notify()
        if not self.alive:
            InboxWatch.ending = True
            gevent.killall(list(self._idle), block=False)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        client.settimeout(self.read_timeout_seconds)
        # Past GeventWorker.handle, which does one thing: it takes the time-out away again.
        super(GeventWorker, self).handle(listener, client, addr)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:
        if is_ending():  # the answer says that no other will come on this connection
            req.force_close()
        return super().handle_request(listener_name, req, sock, addr)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """What never became a request. gunicorn would answer in HTML and repeat what it could not read, to the caller
        and to the log; here it is a problem like any other."""
        if isinstance(exc, gevent.GreenletExit):
            return  # an idle connection closed by `notify`: nobody asked anything
        ours = isinstance(exc, InvalidResponseHeader | InvalidResponseHeaderName)
        unreadable = isinstance(exc, ParseException) and not ours
        problem = Malformed("request-unreadable") if unreadable else InternalFailure()
        trace_id = os.urandom(16).hex()
        if unreadable:
            log.info("request.unreadable", reason=type(exc).__name__, trace_id=trace_id)
        else:
            log.error("request.failed", exc_info=exc, trace_id=trace_id)
        body = orjson.dumps(problem_document(problem, "en", trace_id))
        head = (
            f"HTTP/1.1 {problem.status} {problem.title}\r\nConnection: close\r\nContent-Type: {CONTENT_TYPE}\r\n"
            f"X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with suppress(OSError):  # who speaks like this may be gone already
            client.sendall(head.encode("ascii") + body)


def _is_no_silence(record: logging.LogRecord) -> bool:
    """A caller that said nothing more is hung up on; that is no error of ours and needs no trace in the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], TimeoutError))


class PatientArbiter(Arbiter):  # type: ignore[misc]
    """gunicorn's master, which on SIGTERM first lets the world look away."""

    def handle_term(self) -> None:
        """`/readyz` is red from now on, and everything is still answered, for the pause that the settings name. SIGINT
        or SIGQUIT cuts it short."""
        begin_ending()
        ends = time.monotonic() + self.app.drain_seconds
        while (left := ends - time.monotonic()) > 0:
            if not {signal.SIGINT, signal.SIGQUIT}.isdisjoint(self.wait_for_signals(timeout=min(left, 0.5))):
                break
            self.murder_workers()
        raise StopIteration


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn with our settings around one WSGI application, made anew in each of its worker processes."""

    def __init__(
        self,
        make_app: Callable[[], Any],
        *,
        host: str,
        port: int,
        processes: int,
        settings: Settings,
        on_exit: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_exit`` is called in each worker process that ends in good order."""
        self._make_app = make_app
        self._on_exit = on_exit
        self._address = f"{host}:{port}"
        self._processes = processes
        self._settings = settings
        super().__init__()

    @property
    def drain_seconds(self) -> float:
        return self._settings.drain_seconds

    def run(self) -> None:
        PatientArbiter(self).run()

    def load_config(self) -> None:
        """gunicorn asks for its configuration."""
        PatientWorker.read_timeout_seconds = self._settings.read_timeout_seconds
        options = {
            "bind": self._address,
            "workers": self._processes,
            # The class, not its name: this file may run as __main__, and its name would be read as a second module.
            "worker_class": PatientWorker,
            "worker_connections": 2000,
            "keepalive": 75,
            # A manifest has up to 16 KiB, and gunicorn's own limit is 8.
            "limit_request_field_size": 40960,
            # Nobody's forwarding headers are believed, and so nobody's address need be looked at.
            "forwarded_allow_ips": "*",
            "secure_scheme_headers": {},
            "forwarder_headers": "",
            # Whoever waits for a provider's reply gets it.
            "graceful_timeout": round(
                max(self._settings.read_timeout_seconds, self._settings.request_reply_timeout_seconds + 5)
            ),
            "worker_exit": lambda _server, _worker: self._on_exit(),
            "timeout": 60,
            "control_socket_disable": True,
            "loglevel": "warning",
        }
        for name, value in options.items():
            if name in self.cfg.settings:  # options differ between gunicorn releases
                self.cfg.set(name, value)

    def load(self) -> Any:
        """gunicorn asks for the application, in a new worker process."""
        return self._make_app()


def main() -> None:
    """Serve the bus."""
    settings = load_settings()
    refuse_unfit_store(settings)

    def make_app() -> Any:
        configure_logs(settings.log_level)
        configure_spans(settings, f"serve-{os.getpid()}")
        bus = open_bus(settings, apart=in_real_thread, role="serve")
        app = create_app(bus)
        bus.cluster.start(Role.SERVE)
        buses.append(bus)
        settle_in()
        return app

    def leave() -> None:
        for bus in buses:
            bus.cluster.stop()

    buses: list[Bus] = []
    Server(
        make_app,
        host=settings.host,
        port=settings.port,
        processes=settings.serve_processes,
        settings=settings,
        on_exit=leave,
    ).run()


if __name__ == "__main__":
    main()
