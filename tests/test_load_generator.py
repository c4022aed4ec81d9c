"""The load generator must tell the truth before anything is measured with it. Real loopback servers throughout."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.dossiers import make_dossiers, signed_requests
from benchmarks.load import http_request, percentile, read_requests, run_load, write_requests
from benchmarks.sink import start_sink
from schemas.identifiers import AgencyCode, ServiceCode
from security.keys import SigningKey

ANSWER = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def scripted_server(answer: Callable[[int, socket.socket], None]) -> Iterator[int]:
    """A server of one connection at a time; ``answer(number of the request, connection)`` says what happens."""
    listener = socket.create_server(("127.0.0.1", 0))
    seen = 0

    def serve() -> None:
        nonlocal seen
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    while connection.recv(65536):
                        seen += 1
                        answer(seen, connection)
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
        assert not thread.is_alive()


def requests_of(count: int) -> list[bytes]:
    return [http_request("/", b"x" * 3000, headers={"Idempotency-Key": f"key-{index}"}) for index in range(count)]


def test_every_request_arrives_once_and_has_its_row(tmp_path: Path) -> None:
    with start_sink() as sink:
        result = run_load(requests_of(500), port=sink.port, connections=8, csv=tmp_path / "rows.csv")
        stats, arrivals = sink.stats(), sink.arrivals()
    assert (result.requests, result.accepted, result.statuses) == (500, 500, {200: 500})
    assert (stats.requests, stats.distinct, stats.repeated, stats.body_bytes) == (500, 500, 0, 1_500_000)
    header, *rows = (tmp_path / "rows.csv").read_text().splitlines()
    assert header == "request,start_us,latency_us,status"
    starts = {int(index): int(start) for index, start, _, _ in (row.split(",") for row in rows)}
    assert sorted(starts) == list(range(500))
    # The clocks of two processes are the same clock: nothing arrives before it was sent.
    assert all(arrivals[f"key-{index}"] >= start for index, start in starts.items())


def test_a_short_list_is_repeated_for_a_count() -> None:
    with start_sink() as sink:
        result = run_load(requests_of(3), port=sink.port, connections=2, count=10)
        assert (result.requests, sink.stats().repeated) == (10, 7)


def test_the_open_loop_keeps_its_timetable() -> None:
    with start_sink() as sink:
        result = run_load(requests_of(400), port=sink.port, connections=8, rate=400, seconds=0.5)
    assert 180 <= result.requests <= 201
    assert result.rate == pytest.approx(400, rel=0.15)


def test_a_stall_is_charged_to_everyone_who_was_due_in_it() -> None:
    """A closed loop would see one slow answer in fifty; who keeps a timetable sees most of them late."""

    def stall_once(number: int, connection: socket.socket) -> None:
        if number == 1:
            time.sleep(0.5)
        connection.sendall(ANSWER)

    with scripted_server(stall_once) as port:
        open_loop = run_load(requests_of(50), port=port, connections=1, rate=100)
    with scripted_server(stall_once) as port:
        closed_loop = run_load(requests_of(50), port=port, connections=1)
    assert open_loop.p50_ms > 150
    assert closed_loop.p50_ms < 100
    assert min(open_loop.max_ms, closed_loop.max_ms) >= 500


def test_a_server_that_closes_after_each_answer_is_met_again() -> None:
    def answer_and_close(_: int, connection: socket.socket) -> None:
        connection.sendall(ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        connection.close()

    with scripted_server(answer_and_close) as port:
        result = run_load(requests_of(20), port=port, connections=1)
    assert result.statuses == {202: 20}


@pytest.mark.parametrize("rate", [0.0, 100.0])
def test_silence_is_given_up_and_counted_as_no_answer(rate: float) -> None:
    def say_nothing_to_the_second(number: int, connection: socket.socket) -> None:
        if number != 2:
            connection.sendall(ANSWER)

    with scripted_server(say_nothing_to_the_second) as port:
        result = run_load(requests_of(4), port=port, connections=1, rate=rate, timeout_seconds=0.3)
    assert result.statuses == {202: 3, 0: 1}
    assert result.accepted == 3


def test_an_answer_in_pieces_is_one_answer() -> None:
    def drip(_: int, connection: socket.socket) -> None:
        for piece in (b"HTTP/1.1 2", b"02 Accepted\r\nX: y\r\nContent-Le", b"ngth: 4\r\n\r\nab", b"cd"):
            connection.sendall(piece)
            time.sleep(0.01)

    with scripted_server(drip) as port:
        assert run_load(requests_of(3), port=port, connections=1).statuses == {202: 3}


def test_refused_connections_end_the_run(free_port: int) -> None:
    assert run_load(requests_of(5), port=free_port, connections=2).statuses == {0: 5}


@pytest.mark.parametrize("host", ["192.0.2.1", "0.0.0.0", "2001:db8::1"])  # noqa: S104 - must be refused
def test_only_loopback_is_driven(host: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        run_load(requests_of(1), host=host, port=80)


@pytest.mark.parametrize(
    "values, percent, expected",
    [([], 99, 0), ([7], 50, 7), ([1, 2, 3, 4], 50, 2), (list(range(1, 101)), 99, 99), (list(range(1, 102)), 99, 100)],
)
def test_percentiles_are_nearest_rank(values: list[int], percent: float, expected: int) -> None:
    assert percentile(values, percent) == expected


def test_the_example_in_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    readme = (Path(__file__).resolve().parent.parent / "benchmarks" / "README.md").read_text(encoding="utf-8")
    example = readme.split("```python\n")[1].split("```")[0]
    exec(compile(example, "benchmarks/README.md", "exec"), {})  # noqa: S102 - our own text
    assert "statuses {202: 1000}" in capsys.readouterr().out


def test_request_files_are_read_as_written(tmp_path: Path) -> None:
    requests = [b"a", b"", b"\x00" * 70000]
    assert read_requests(write_requests(tmp_path / "requests", requests)) == requests


def test_a_prepared_dossier_is_bound_by_its_manifest() -> None:
    dossiers = make_dossiers(16)
    requests = signed_requests(
        dossiers,
        SigningKey.generate(),
        sender=AgencyCode("H99.15"),
        receivers=[AgencyCode("G99.1")],
        service=ServiceCode("dossier.transfer"),
    )
    for dossier, request in zip(dossiers, requests, strict=True):
        head, _, body = request.partition(b"\r\n\r\n")
        jws = head.split(b"Lgsp-Manifest: ")[1].split(b"\r\n")[0]
        payload = jws.split(b".")[1]
        claims = base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4))
        assert hashlib.sha256(body).hexdigest().encode() in claims
        assert json.loads(body)["MaHoSo"] == dossier.code
    assert len({dossier.message_id for dossier in dossiers}) == 16
    assert len({dossier.code.split("-")[0] for dossier in dossiers}) == 8
