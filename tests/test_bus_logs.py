"""Log lines: JSON objects with known keys, and nothing that somebody sent."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import orjson
import pytest

SECRET = "s3cr3t-097000000001"

_PROGRAM = """
import logging, sys
from bus.logs import configure_logs, get_logger
configure_logs(sys.argv[1])
log = get_logger()
SECRET = sys.argv[2]
"""


def _lines(program: str, level: str = "info") -> list[dict[str, Any]]:
    """What a process that runs ``program`` writes to its log."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM + program, level, SECRET], capture_output=True, timeout=30, check=False
    )
    assert done.stdout == b""
    assert SECRET.encode() not in done.stderr
    return [orjson.loads(line) for line in done.stderr.splitlines()]


def test_a_line_is_one_json_object_with_time_and_level() -> None:
    (line,) = _lines("log.info('exchange.recorded', message_id='a\\nb', count=3)")
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "exchange.recorded", "level": "info", "message_id": "a\nb", "count": 3}


def test_what_is_not_on_the_list_is_dropped() -> None:
    (line,) = _lines("log.info('exchange.refused', body=SECRET, payload={'x': SECRET}, key=SECRET, reason='no-grant')")
    assert line["reason"] == "no-grant"
    assert not {"body", "payload", "key"} & line.keys()


def test_bound_context_is_held_to_the_same_list() -> None:
    (line,) = _lines(
        "import structlog; structlog.contextvars.bind_contextvars(trace_id='t', citizen=SECRET); log.info('a.b')"
    )
    assert line["trace_id"] == "t"


def test_libraries_are_heard_but_not_quoted() -> None:
    lines = _lines("logging.getLogger('spyne').error('bad value %s', SECRET); logging.getLogger('x').info('no')")
    assert [(line["event"], line["surface"], line["level"]) for line in lines] == [
        ("library.warned", "spyne", "warning")
    ]


def test_lines_below_the_level_are_not_written() -> None:
    assert [line["event"] for line in _lines("log.info('a.b'); log.warning('c.d')", "warning")] == ["c.d"]


def test_the_last_words_of_a_process_are_written() -> None:
    lines = _lines("log.info('worker.stopped'); sys.exit(3)")
    assert [line["event"] for line in lines] == ["worker.stopped"]


def test_many_threads_write_whole_lines() -> None:
    program = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda number: log.info('a.b', count=number), range(500)))
"""
    assert sorted(line["count"] for line in _lines(program)) == list(range(500))


@pytest.mark.parametrize("value", ["b'bytes'", "object()", "{1, 2}"], ids=["bytes", "object", "set"])
def test_a_value_that_json_does_not_know_does_not_break_the_caller(value: str) -> None:
    lines = _lines(f"log.info('a.b', status={value}); log.info('still.alive')")
    assert [line["event"] for line in lines] == ["a.b", "still.alive"]


def test_an_exception_is_told_by_its_place_not_by_its_words() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "from bus.logs import configure_logs, get_logger\n"
            "configure_logs('info')\n"
            "try: raise ValueError('099199000001 is nobody business')\n"
            "except ValueError: get_logger().exception('request.failed')\n",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    line = orjson.loads(told)
    assert line["event"] == "request.failed"
    assert "ValueError" in line["exception"]
    assert "099199000001" not in told
