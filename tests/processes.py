"""A process of the bus, as a test runs it beside itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from urllib3.exceptions import HTTPError


@contextmanager
def running(module: str, environment: Mapping[str, str], log_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``python -m module`` with these variables of ours, ended in order at the end."""
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**os.environ, **environment},
            cwd=Path(__file__).resolve().parent.parent,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(look: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Look again and again; True as soon as it is so. A process that does not answer yet is no answer."""
    patience_ends = time.monotonic() + seconds
    while time.monotonic() < patience_ends:
        with suppress(OSError, HTTPError):
            if look():
                return True
        time.sleep(0.05)
    return False
