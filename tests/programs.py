"""`lgsp serve` and `lgsp work` as processes of their own, for tests that end them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import urllib3

from bus.settings import child_environment, load_settings
from tests.bus_world import World
from tests.loopback import closed_port

_MODULES = {"serve": "bus.web.server", "work": "bus.work"}
_PATIENCE_SECONDS = 40


class Program:
    """A running program over the world's store; ``url`` is where it serves. `kill` it in any case at the end."""

    def __init__(self, world: World, program: str, **settings: object) -> None:
        port = closed_port()
        self.url = f"http://127.0.0.1:{port}"
        self.program = program
        loaded = load_settings({"port": port, "serve_processes": 1, **settings}, environ=world.environment)
        self._log = world.settings.home / f"{program}-{port}.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _MODULES[program]],
                env=child_environment(loaded),
                cwd=Path(__file__).resolve().parent.parent,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_it_serves(self) -> None:
        patience_ends = time.monotonic() + _PATIENCE_SECONDS
        with urllib3.PoolManager(retries=False, timeout=2) as pool:
            while time.monotonic() < patience_ends and self._process.poll() is None:
                try:
                    pool.request("GET", f"{self.url}/healthz")
                    return
                except urllib3.exceptions.HTTPError:
                    time.sleep(0.03)
        raise AssertionError(f"the server did not start: {self.log()[-2000:]}")

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def tell_to_end(self) -> None:
        """SIGTERM, as an operator or systemd does."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Its exit code, once it has ended by itself."""
        return self._process.wait(_PATIENCE_SECONDS)

    def kill(self) -> None:
        """The whole process group, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
