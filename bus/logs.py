"""Log lines: JSON, one per event that matters, with context bound at two doors (a request, a delivery).

Events are dotted past facts (``exchange.recorded``). A payload, a name, a citizen's number or a secret never goes into
a line: what may be logged is listed in :data:`LOGGED`, everything else is dropped before it is written.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import traceback
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, TextIO

import orjson
import structlog

#: The keys that may appear in a line. Deny by default: a new key is added here with thought, not by accident.
LOGGED = frozenset(
    {
        "event", "level", "timestamp", "exception", "trace_id", "message_id", "sender", "receiver", "system", "service",
        "grade", "delivery_id", "attempt", "state", "problem", "reason", "duration_ms", "count", "process", "surface",
        "due_at", "port", "size", "connector", "status", "actor", "replay", "step",
        "authority",
    }
)  # fmt: skip

#: A buffered line waits at most this long before it is written.
FLUSH_SECONDS = 0.2


def configure_logs(level: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to ``stream`` (standard error) as JSON. Call once, at start."""
    number = getattr(logging, level.upper())
    output = _BufferedLines((stream or sys.stderr).buffer)
    #: The last words of a process are the ones that are looked for.
    atexit.register(output.write_out)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _say_where,
            _keep_only_logged,
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.BytesLoggerFactory(file=output),  # type: ignore[arg-type]  # needs write and flush only
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_StandardLogging()], force=True)


def get_logger() -> Any:
    """The logger, whatever it was configured to be."""
    return structlog.get_logger()


@contextmanager
def no_logs() -> Iterator[None]:
    """Write no lines meanwhile: for commands that open the bus to look into it, and whose output is for people."""
    before = structlog.get_config()
    silent = {
        "wrapper_class": structlog.make_filtering_bound_logger(logging.CRITICAL),
        "cache_logger_on_first_use": False,
    }
    structlog.configure(**(before | silent))
    try:
        yield
    finally:
        structlog.configure(**before)


def _say_where(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The trace of an exception without its words: they may quote what a stranger sent."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        lines = []
        while error is not None:
            lines.append(type(error).__qualname__)
            lines += [f"  {f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
            error = error.__cause__ or error.__context__
        event["exception"] = "\n".join(lines)
    return event


def _keep_only_logged(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: value for key, value in event.items() if key in LOGGED}


class _StandardLogging(logging.Handler):
    """Lines of libraries: their source and level, never their text (spyne and others log what strangers send)."""

    def emit(self, record: logging.LogRecord) -> None:
        get_logger().warning("library.warned", surface=record.name, level=record.levelname.lower())


class _BufferedLines:
    """Collects lines and writes them together; errors and a timer flush at once. Safe under threads."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._lines: list[bytes] = []
        self._mutex = threading.Lock()
        self._timer: threading.Timer | None = None

    def write(self, line: bytes) -> int:
        with self._mutex:
            self._lines.append(line)
            if self._timer is None:
                self._timer = threading.Timer(FLUSH_SECONDS, self.write_out)
                self._timer.daemon = True
                self._timer.start()
        return len(line)

    def flush(self) -> None:
        """structlog flushes after each line; the timer decides when the bytes really go out."""

    def write_out(self) -> None:
        """Everything so far goes out now."""
        with self._mutex:
            lines, self._lines, self._timer = self._lines, [], None
        if lines:
            self._raw.write(b"".join(lines))
            self._raw.flush()
