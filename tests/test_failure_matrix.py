"""The failure matrix in small: a few of its rows with few messages, and that it would notice what it looks for.

`make faults` plays all rows; what it found stands in ``docs/failure-matrix.md``.
"""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest
from sqlalchemy import text

from benchmarks import faults
from benchmarks.faults_line import Line
from benchmarks.faults_receiver import read_arrivals
from benchmarks.faults_rows import ROWS, Scene
from benchmarks.faults_servers import Servers
from benchmarks.faults_stand import Load, Stand, audit
from benchmarks.rabbitmq import RabbitCluster, RabbitNode
from bus.store import open_store
from tests.loopback import closed_port
from tests.postgresql import PrivateServer

pytestmark = pytest.mark.slow


@pytest.fixture
def servers(request: pytest.FixtureRequest) -> Servers:
    return SharedServers(request)


class SharedServers(Servers):
    """Those that all tests have, for rows that break no server; `make faults` starts its own."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        super().__init__(Path())
        self._request = request

    @property
    def postgresql(self) -> PrivateServer:
        server: PrivateServer = self._request.getfixturevalue("postgresql")
        return server

    @property
    def rabbitmq(self) -> RabbitCluster:
        if self._rabbitmq is None:
            node: RabbitNode = self._request.getfixturevalue("rabbitmq_server")
            assert node.mapper is not None
            self._rabbitmq = RabbitCluster(nodes=[node], mapper=node.mapper)
        return super().rabbitmq


@pytest.mark.parametrize(
    "name, mode",
    [
        ("serve-record-after-commit", "embedded"),
        ("receiver-breaks-off", "embedded"),
        pytest.param("relay-publish-confirmed", "production", marks=pytest.mark.service),
        pytest.param("postgresql-connections", "production", marks=pytest.mark.service),
    ],
)
def test_nothing_is_lost_and_nothing_doubled(
    name: str, mode: str, servers: Servers, tmp_path: Path, missing_service: Callable[[str], NoReturn]
) -> None:
    row = next(row for row in ROWS if row.name == name)

    record = faults.play(row, Scene(folder=tmp_path, mode=mode, servers=servers, messages=48, haste=0.4, kills=1))

    if record["result"] == "skipped":
        missing_service(record["complaints"])
    assert (record["result"], record["complaints"]) == ("whole", "")
    assert (record["accepted"], record["once"], record["twice"], record["lost"]) == ("48", "48", "0", "0")


def test_the_audit_notices_what_is_lost_doubled_changed_or_not_proven(tmp_path: Path) -> None:
    with Stand(folder=tmp_path) as stand:
        load = Load(stand, count=20, seconds=1).start()
        load.join()
        assert audit(stand, load).is_whole
        file = stand.arrivals_file
        honest = file.read_text()

        file.write_text("\n".join(honest.splitlines()[1:]) + "\n")
        assert audit(stand, load).lost == 1

        file.write_text(honest + re.sub(r" \S+ (\d+)\n\Z", r" another-key \1\n", honest.splitlines(True)[0]))
        assert audit(stand, load).twice == 1

        file.write_text(honest + honest.splitlines(True)[0].replace("effect", "conflict"))
        assert not audit(stand, load).is_whole

        in_order = [arrival.serial for arrival in read_arrivals(file)]
        file.write_text("".join(reversed(honest.splitlines(True))))
        assert [arrival.serial for arrival in read_arrivals(file)] != in_order
        assert any("out of order" in complaint for complaint in audit(stand, load).complaints)

        file.write_text(honest)
        for damage, complaint in _DAMAGES.items():
            _change(stand, damage)
            assert any(complaint in each for each in audit(stand, load).complaints), damage


_DAMAGES = {
    "UPDATE deliveries SET receipt = NULL WHERE id = (SELECT MIN(id) FROM deliveries)": "not proven",
    "UPDATE exchanges SET receipt = 'x' || receipt WHERE id = 0": "another receipt",
    "UPDATE evidence_leaves SET entry = X'7B7D' WHERE position = 3": "not the one that was hashed",
}


def _change(stand: Stand, damage: str) -> None:
    store = open_store(stand.settings)
    try:
        with store.writing() as connection:
            connection.execute(text(damage))
    finally:
        store.close()


def test_a_line_carries_is_cut_reset_stalled_and_mended() -> None:
    def say(connection: socket.socket, word: bytes) -> bytes:
        connection.sendall(word)
        return connection.recv(100)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        line = Line([closed_port(), server.server_address[1]])  # one target is down: the other is taken

        def connect() -> socket.socket:
            return socket.create_connection(("127.0.0.1", line.port), timeout=5)

        with connect() as first:
            assert say(first, b"well") == b"well"
            line.reset()
            with pytest.raises(ConnectionResetError):
                first.recv(100)
        with connect() as second:
            assert say(second, b"again") == b"again"
            line.stall()
            second.settimeout(0.2)
            with pytest.raises(TimeoutError):
                say(second, b"kept")
            line.mend()
            second.settimeout(5)
            assert second.recv(100) == b"kept"
            line.cut()
            assert second.recv(100) == b""
        with pytest.raises(ConnectionRefusedError):
            connect()
        line.mend()
        with connect() as third:
            assert say(third, b"mended") == b"mended"
        line.close()
        server.shutdown()


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with suppress(OSError):
            while word := self.request.recv(100):
                self.request.sendall(word)


def test_the_page_is_made_from_the_table_and_every_row_stands_in_it() -> None:
    table = faults.read_table()

    assert faults.PAGE.read_text(encoding="utf-8") == faults.page(table)
    assert [(record["row"], record["mode"]) for record in table] == [
        (row.name, mode) for row in ROWS for mode in row.modes
    ]
    assert {record["result"] for record in table} <= {"whole", "skipped"}
