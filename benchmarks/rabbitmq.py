"""A private RabbitMQ: own node names, ports, data and Erlang port mapper, loopback only, gone when it is stopped.

Uses the Debian package ``rabbitmq-server`` without its service: the nodes are children of this process and nothing
outside ``directory`` is written. One node, or several that form a cluster on this machine and are killed and started
again one by one.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3

from benchmarks.processes import Running, child_environment, free_port, start_server

#: The package's own script; the one on PATH switches to the user of the system's service.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
CONTROL = SERVER.with_name("rabbitmqctl")


class RabbitMissing(RuntimeError):
    """There is no RabbitMQ on this machine and this user may not install it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """What a server shows to those who connect, in PEM."""

    authority: Path
    certificate: Path
    key: Path

    def lines(self, of: str) -> list[str]:
        """For RabbitMQ's configuration."""
        return [
            f"{of}.cacertfile = {self.authority}",
            f"{of}.certfile = {self.certificate}",
            f"{of}.keyfile = {self.key}",
        ]


@dataclass(slots=True, kw_only=True)
class RabbitNode:
    """A node, running or not. ``pids`` are its processes; alone, it has its port mapper among them."""

    port: int
    #: What it is started with, each time.
    environment: Mapping[str, str]
    directory: Path
    mapper: subprocess.Popen[bytes] | None = None
    #: None while it is down.
    node: Running | None = None
    #: Of the management interface, 0 without it.
    management_port: int = 0
    #: Both speak TLS and nothing else.
    tls: bool = False
    virtual_host: str = "/"

    @property
    def url(self) -> str:
        return f"{'amqps' if self.tls else 'amqp'}://guest:guest@127.0.0.1:{self.port}/{self.virtual_path}"

    @property
    def virtual_path(self) -> str:
        """The virtual host as the last part of an address; empty for the one that every node has."""
        return "" if self.virtual_host == "/" else quote(self.virtual_host, safe="")

    @property
    def name(self) -> str:
        return self.environment["RABBITMQ_NODENAME"]

    @property
    def management_url(self) -> str:
        return f"{'https' if self.tls else 'http'}://guest:guest@127.0.0.1:{self.management_port}/"

    def with_virtual_host(self) -> RabbitNode:
        """This node with a new virtual host, where it has met nobody's queues. Needs the management interface."""
        host = f"test-{secrets.token_hex(4)}"
        headers = urllib3.make_headers(basic_auth="guest:guest")
        address = f"http://127.0.0.1:{self.management_port}/api/vhosts/{host}"
        with urllib3.PoolManager(timeout=20) as pool:
            answer = pool.request("PUT", address, headers=headers)
        if answer.status != 201:
            raise RuntimeError(f"no virtual host: {answer.status} {answer.data!r}")
        return replace(self, virtual_host=host)

    @property
    def pids(self) -> list[int]:
        return [*(self.node.pids if self.node else []), *([self.mapper.pid] if self.mapper else [])]

    def start(self, *, ready_within_seconds: float = 60.0) -> None:
        """Raises RuntimeError when it does not come up."""
        with (self.directory / "output").open("ab") as log:
            self.node = start_server(
                *("rabbitmq", [str(SERVER)]),
                port=self.port,
                environment=self.environment,
                log=log,
                ready_within_seconds=ready_within_seconds,
            )

    def stop(self) -> None:
        """End the Erlang machine itself with SIGTERM: an orderly shutdown without the slow command-line tools."""
        if self.node is not None:
            machines = [pid for pid in self.node.pids if "beam" in _name(pid)]
            for pid in machines:
                os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + 15
            while any(_name(pid) for pid in machines) and time.monotonic() < deadline:
                time.sleep(0.05)
            self.node.stop(patience_seconds=5)
            self.node = None
        if self.mapper is not None:
            self.mapper.terminate()
            self.mapper.wait(5)

    def kill(self) -> None:
        """SIGKILL to the node and everything that it started; its port mapper stays."""
        if self.node is None:
            return
        pids = self.node.pids
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.node.process.wait()
        while any(_name(pid) for pid in pids[1:]):  # its port is free only then
            time.sleep(0.02)
        self.node = None

    def control(self, *command: str) -> str:
        """What `rabbitmqctl` says to a command. Takes a second or two. Raises CalledProcessError."""
        environment = child_environment(self.environment)
        done = subprocess.run(
            [str(CONTROL), "--quiet", "-n", self.name, *command],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout


@dataclass(slots=True, kw_only=True)
class RabbitCluster:
    """Nodes that form one broker. All have the same port mapper."""

    nodes: list[RabbitNode]
    mapper: subprocess.Popen[bytes]

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    def start(self) -> None:
        """Start those that are down, all at once: one that was not the last to go waits for the others."""
        down = [node for node in self.nodes if node.node is None]
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            for started in [pool.submit(node.start, ready_within_seconds=120.0) for node in down]:
                started.result()

    def stop(self) -> None:
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            for stopped in [pool.submit(node.stop) for node in self.nodes]:
                stopped.result()
        self.mapper.terminate()
        self.mapper.wait(5)

    def queues(self) -> dict[str, dict[str, Any]]:
        """What the broker knows of each queue: its leader and members by node name, by the queue's name."""
        running = next(node for node in self.nodes if node.node is not None)
        said = running.control("list_queues", "--formatter", "json", "name", "leader", "members", "messages")
        return {queue["name"]: queue for queue in json.loads(said)}


def start_rabbitmq(
    directory: Path,
    *,
    management: bool = False,
    tls: TlsFiles | None = None,
    configuration: str = "",
    ready_within_seconds: float = 60.0,
) -> RabbitNode:
    """A node with its data below ``directory``, these lines in its configuration too, on request with its HTTP
    interface for operators; with ``tls`` it listens for nothing else. Raises RabbitMissing, or RuntimeError when it
    does not come up."""
    ensure_installed()
    mapper, mapper_port = _start_mapper()
    name = f"lgsp{secrets.token_hex(4)}@localhost"
    node = _node(directory, directory, mapper_port, name, management=management, tls=tls)
    node.mapper = mapper
    with (directory / "rabbitmq.conf").open("a") as file:
        file.write(configuration)
    try:
        node.start(ready_within_seconds=ready_within_seconds)
    except BaseException:
        mapper.terminate()
        mapper.wait(5)
        raise
    return node


def start_cluster(directory: Path, size: int = 3) -> RabbitCluster:
    """That many nodes with their data below ``directory``, as one broker. Raises as :func:`start_rabbitmq`."""
    ensure_installed()
    mapper, mapper_port = _start_mapper()
    mark = secrets.token_hex(4)
    names = [f"lgsp{mark}{number}@localhost" for number in range(1, size + 1)]
    nodes = [_node(directory / name.partition("@")[0], directory, mapper_port, name, peers=names) for name in names]
    cluster = RabbitCluster(nodes=nodes, mapper=mapper)
    try:
        nodes[0].start(ready_within_seconds=120.0)  # makes the cookie, and is there to be joined
        cluster.start()
    except BaseException:
        cluster.stop()
        raise
    return cluster


def _start_mapper() -> tuple[subprocess.Popen[bytes], int]:
    port = free_port()
    return subprocess.Popen(["epmd", "-port", str(port), "-address", "127.0.0.1"], stdin=subprocess.DEVNULL), port


def _node(
    directory: Path,
    cookie_folder: Path,
    mapper_port: int,
    name: str,
    peers: Sequence[str] = (),
    *,
    management: bool = False,
    tls: TlsFiles | None = None,
) -> RabbitNode:
    """A node that is not started yet."""
    directory.mkdir(parents=True, exist_ok=True)
    port, distribution_port = free_port(), free_port()
    environment = {
        "HOME": str(cookie_folder),  # the Erlang cookie, the same for all that talk to each other
        "ERL_EPMD_PORT": str(mapper_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": name,
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
    management_port = free_port() if management else 0
    lines = ["disk_free_limit.absolute = 50MB"]
    if tls is not None:
        del environment["RABBITMQ_NODE_PORT"]  # it would be one without TLS
        lines += ["listeners.tcp = none", f"listeners.ssl.1 = 127.0.0.1:{port}", *tls.lines("ssl_options")]
    if management:
        kind = "ssl" if tls else "tcp"
        lines += [f"management.{kind}.ip = 127.0.0.1", f"management.{kind}.port = {management_port}"]
        lines += tls.lines("management.ssl") if tls else []
    if peers:
        lines.append("cluster_formation.peer_discovery_backend = classic_config")
        lines += [f"cluster_formation.classic_config.nodes.{number} = {peer}" for number, peer in enumerate(peers, 1)]
    (directory / "plugins").write_text("[rabbitmq_management].\n" if management else "[].\n")
    (directory / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
    return RabbitNode(
        port=port,
        environment=environment,
        directory=directory,
        management_port=management_port,
        tls=tls is not None,
    )


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
