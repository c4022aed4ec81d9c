"""A private RabbitMQ: own node name, ports, data and Erlang port mapper, loopback only, gone when it is stopped.

Uses the Debian package ``rabbitmq-server`` without its service: the node is a child of this process and nothing outside
``directory`` is written.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Running, child_environment, free_port, start_server

#: The package's own script; the one on PATH switches to the user of the system's service.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class RabbitMissing(RuntimeError):
    """There is no RabbitMQ on this machine and this user may not install it."""


@dataclass(slots=True, kw_only=True)
class RabbitNode:
    """A running node. ``pids`` are its processes (the port mapper too)."""

    node: Running
    mapper: subprocess.Popen[bytes]

    @property
    def port(self) -> int:
        return self.node.port

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def pids(self) -> list[int]:
        return [*self.node.pids, self.mapper.pid]

    def stop(self) -> None:
        """End the Erlang machine itself with SIGTERM: an orderly shutdown without the slow command-line tools."""
        machines = [pid for pid in self.node.pids if "beam" in _name(pid)]
        for pid in machines:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 15
        while any(_name(pid) for pid in machines) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.node.stop(patience_seconds=5)
        self.mapper.terminate()
        self.mapper.wait(5)


def start_rabbitmq(directory: Path, *, ready_within_seconds: float = 60.0) -> RabbitNode:
    """A node with its data below ``directory``. Raises RabbitMissing, or RuntimeError when it does not come up."""
    ensure_installed()
    directory.mkdir(parents=True, exist_ok=True)
    mapper_port, port, distribution_port = free_port(), free_port(), free_port()
    environment = {
        "HOME": str(directory),  # the Erlang cookie
        "ERL_EPMD_PORT": str(mapper_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"lgsp{secrets.token_hex(4)}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution_port),
        "RABBITMQ_MNESIA_BASE": str(directory / "data"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "none"),
    }
    (directory / "plugins").write_text("[].\n")
    (directory / "rabbitmq.conf").write_text("disk_free_limit.absolute = 50MB\n")
    mapper = subprocess.Popen(["epmd", "-port", str(mapper_port), "-address", "127.0.0.1"], stdin=subprocess.DEVNULL)
    try:
        with (directory / "output").open("wb") as log:
            node = start_server(
                *("rabbitmq", [str(SERVER)]),
                port=port,
                environment=environment,
                log=log,
                ready_within_seconds=ready_within_seconds,
            )
    except BaseException:
        mapper.terminate()
        mapper.wait(5)
        raise
    return RabbitNode(node=node, mapper=mapper)


def ensure_installed() -> None:
    """Install the Debian package when it is missing and this is root; the system's own service is not started."""
    if SERVER.exists() and shutil.which("epmd"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise RabbitMissing("RabbitMQ is not here; on Debian or Ubuntu: apt install rabbitmq-server")
    # RUNLEVEL=1 tells the package's scripts that this machine is not starting services now.
    environment = child_environment({"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"})
    for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "rabbitmq-server"]):
        done = subprocess.run(["apt-get", *arguments], env=environment, capture_output=True, check=False)
        if done.returncode != 0:
            raise RabbitMissing("apt-get could not install rabbitmq-server")


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
