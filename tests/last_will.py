"""What becomes of a test process's servers when it is killed, or told to end without being asked: they end too.

A process of its own holds the other end of a pipe. It learns from the pipe's end that the test process is gone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks.processes import family


class LastWill:
    """Starts its process with the first entry; `close` when everything has been put away in the ordinary way."""

    def __init__(self) -> None:
        self._executor: subprocess.Popen[bytes] | None = None

    def add(self, folder: Path, *pids: int) -> None:
        """These processes with all their children, and the folder they lived in."""
        if self._executor is None:
            self._executor = subprocess.Popen(
                [sys.executable, "-m", "tests.last_will"],
                cwd=Path(__file__).resolve().parent.parent,
                stdin=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is not for it
            )
        assert self._executor.stdin is not None
        self._executor.stdin.write(f"{folder} {' '.join(map(str, pids))}\n".encode())
        self._executor.stdin.flush()

    def close(self) -> None:
        if self._executor is not None:
            self._executor.communicate(b"nothing is left\n")


def execute(lines: list[str]) -> None:
    if lines and lines[-1] == "nothing is left":
        return
    for line in lines:
        folder, *pids = line.split()
        for pid in [member for eldest in pids for member in family(int(eldest))]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    execute(sys.stdin.read().splitlines())
