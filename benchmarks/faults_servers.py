"""What the bus stands on in production, to be broken: a PostgreSQL and three RabbitMQ nodes, private, on loopback; and
small file systems and false clocks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pika

from benchmarks.bus import RECEIVER
from benchmarks.faults_line import Line
from benchmarks.postgresql import PostgresMissing, PostgresServer, make_postgresql
from benchmarks.rabbitmq import RabbitCluster, RabbitMissing, start_cluster
from bus.broker.rabbitmq import queue_name
from schemas.identifiers import SystemCode

QUEUE = queue_name(SystemCode(f"{RECEIVER}/kho"))
#: Durable as the default is; small, because it has two processors. After a crash it flushes the file system once, not
#: each file of all rows' databases.
DURABLE = (
    *("shared_buffers=64MB", "max_connections=120", "min_wal_size=32MB", "max_wal_size=64MB"),
    "recovery_init_sync_method=syncfs",
)
_FAKETIME = "libfaketimeMT.so.1"


class Skipped(Exception):
    """The fault cannot be made here; the text says why."""


class Servers:
    """Started when they are first asked for, and used by one row after the other."""

    def __init__(self, folder: Path, *, rabbitmq_nodes: int = 3) -> None:
        self._folder = folder
        self._size = rabbitmq_nodes
        self._postgresql: PostgresServer | None = None
        self._rabbitmq: RabbitCluster | None = None

    @property
    def postgresql(self) -> PostgresServer:
        """Running."""
        if self._postgresql is None:
            self._postgresql = new_postgresql(self._folder / "postgresql")
        if not self._postgresql.is_running:
            self._postgresql.start()
        return self._postgresql

    @property
    def rabbitmq(self) -> RabbitCluster:
        """All its nodes run, and nothing is left in its queues."""
        if self._rabbitmq is None:
            try:
                self._rabbitmq = start_cluster(self._folder / "rabbitmq", self._size)
            except RabbitMissing as missing:
                raise Skipped(str(missing)) from None
        self._rabbitmq.start()
        connection = pika.BlockingConnection(pika.URLParameters(self._rabbitmq.urls[0]))
        connection.channel().queue_delete(QUEUE)
        connection.close()
        return self._rabbitmq

    @property
    def rabbitmq_urls(self) -> list[str]:
        return self._rabbitmq.urls if self._rabbitmq else []

    def variables(self, *, brokers: Sequence[Line] = (), store: Line | None = None) -> dict[str, str]:
        """Settings of a bus with a fresh database; it reaches brokers and store over these lines, where given."""
        server = self.postgresql
        ports = [line.port for line in brokers] or [node.port for node in self.rabbitmq.nodes]
        return {
            "LGSP_STORE_URL": server.url(server.new_database(), store.port if store else 0),
            "LGSP_BROKER_URL": ",".join(f"amqp://guest:guest@127.0.0.1:{port}/" for port in ports),
        }

    def stop(self) -> None:
        if self._postgresql is not None:
            self._postgresql.stop()
        if self._rabbitmq is not None:
            self._rabbitmq.stop()


def new_postgresql(folder: Path, *, data: Path | None = None) -> PostgresServer:
    """A durable server, running. Raises Skipped."""
    try:
        server = make_postgresql(folder, settings=DURABLE, data=data, small=data is not None)
    except PostgresMissing as missing:
        raise Skipped(str(missing)) from None
    server.start()
    return server


def with_standby(first: PostgresServer, second: PostgresServer, database: str) -> str:
    """The address of a database that is on whichever of the two takes writes."""
    hosts = f"host={first.address}&host={second.address}"
    return f"postgresql+psycopg://lgsp:{first.password}@/{database}?{hosts}&target_session_attrs=read-write"


class SmallDisk:
    """A file system of its own that can be filled to the last byte."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._ballast = place / "ballast"

    def fill(self) -> None:
        """Take all room that there is."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, 4096, 512, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    def make_room(self) -> None:
        self._ballast.unlink()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """An ext4 in a file, mounted below ``folder``. Raises Skipped where this process may not mount."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        raise Skipped("a file system of its own can only be mounted by root")
    image, place = folder / "disk.img", folder / "disk"
    place.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    for command in (["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], ["mount", "-o", "loop", str(image), str(place)]):
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode != 0:
            raise Skipped("this machine does not let a file be mounted")
    try:
        yield SmallDisk(place)
    finally:
        subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=False)


class FalseClock:
    """The clock of processes that are started with `variables`, by libfaketime: the wall clock alone, as when somebody
    sets a machine's date."""

    def __init__(self, folder: Path) -> None:
        """Raises Skipped where the library is missing and cannot be installed."""
        library = _faketime()
        self._file = folder / "clock"
        self.jump(0)
        self.variables = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
            "NO_FAKE_STAT": "1",  # files keep their times when a machine's date is set
        }

    def jump(self, seconds: int) -> None:
        """So far from the real time, within a second."""
        beside = self._file.with_suffix(".new")
        beside.write_text(f"{seconds:+d}\n")
        beside.replace(self._file)


def _faketime() -> Path:
    places = [*Path("/usr/lib").glob(f"*/faketime/{_FAKETIME}"), *Path("/usr/lib").glob(f"faketime/{_FAKETIME}")]
    if not places and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", "faketime"]):
            subprocess.run(["apt-get", "-qq", *command], env=quiet, capture_output=True, check=False)
        places = list(Path("/usr/lib").glob(f"*/faketime/{_FAKETIME}"))
    if not places:
        raise Skipped("libfaketime is not here (Debian: apt-get install faketime)")
    return places[0]
