"""`lgsp bench --production`: PostgreSQL and RabbitMQ against the embedded store: one machine, the same load.

The servers run on the same processors and their share is counted. Beside the bus, in the same run: what the machine
gives at most (bare HTTP, commits of PostgreSQL, confirmed publishing into a quorum queue), and the pipelines that
people build by hand.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import psycopg

from benchmarks.baseline_faststream import start_faststream
from benchmarks.baseline_flask import start_flask
from benchmarks.load import http_request, run_load
from benchmarks.processes import family
from benchmarks.rabbitmq import RabbitMissing, RabbitNode, start_rabbitmq
from benchmarks.run import MOST_MESSAGES, Bench, Pids, crypto_us, running_sink
from benchmarks.sink import Sink
from bus.broker.rabbitmq import RabbitLink
from bus.records import Reference
from schemas.identifiers import SystemCode
from tests.postgresql import PrivateServer, private_postgresql

EMBEDDED, PRODUCTION, TWO_WORKERS = "embedded", "PostgreSQL and RabbitMQ", "the same, two lgsp work"
PIPELINE, FASTSTREAM = "dramatiq pipeline", "FastStream pipeline"


class ProductionBench(Bench):
    """One run with its folder."""

    def __init__(self, folder: Path, messages: int, say: Callable[[str], None]) -> None:
        super().__init__(folder, messages, say)
        #: Name → what the machine gives at most, a second.
        self.limits: dict[str, float] = {}

    def run(self, *, with_dramatiq: bool) -> None:
        self.crypto_us = crypto_us()
        self.steps: dict[str, float] = {}
        with (
            running_sink() as sink,
            private_postgresql(_give_up, durable=True) as postgresql,
            tempfile.TemporaryDirectory(prefix="lgsp-bench-rabbitmq-") as folder,
        ):
            broker = start_rabbitmq(Path(folder))
            try:
                self._measure_limits(postgresql, broker)
                self._modes(sink, postgresql, broker)
            finally:
                broker.stop()
            if with_dramatiq:
                self._dramatiq(sink)
                self._pipeline(FASTSTREAM, lambda: start_faststream(sink.url + "/in"), sink)

    def _modes(self, sink: Sink, postgresql: PrivateServer, broker: RabbitNode) -> None:
        servers: dict[str, Pids] = {"store": lambda: family(postgresql.process_id), "broker": lambda: broker.pids}

        def production() -> dict[str, str]:
            return {"LGSP_STORE_URL": postgresql.url(postgresql.new_database()), "LGSP_BROKER_URL": broker.url}

        self._bus(EMBEDDED, sink)
        whole = self._bus(PRODUCTION, sink, environment=production(), servers=servers)
        self._bus(TWO_WORKERS, sink, environment=production(), servers=servers, workers=2)
        half = max(1.0, (whole.delivered_per_second or 0) / 2)
        self._bus(f"{PRODUCTION}, half load", sink, environment=production(), servers=servers, rate=half)

    def ratios(self) -> dict[str, float]:
        found = {finding.name: finding.delivered_per_second or 0.0 for finding in self.findings}
        ratios = {
            "production ÷ embedded, delivered": found[PRODUCTION] / found[EMBEDDED],
            "two lgsp work ÷ one": found[TWO_WORKERS] / found[PRODUCTION],
        }
        for pipeline in (PIPELINE, FASTSTREAM):
            if found.get(pipeline):
                ratios[f"production ÷ {pipeline}, delivered"] = found[PRODUCTION] / found[pipeline]
        return ratios

    def goals(self) -> dict[str, str]:
        return {
            "production ÷ embedded, delivered": "at least 0.60",
            "two lgsp work ÷ one": "at least 1.6 where cores allow",
            f"production ÷ {PIPELINE}, delivered": "at least 3",
        }

    # ── what the machine gives ────────────────────────────────────────────────────────────────────────────────────

    def _measure_limits(self, postgresql: PrivateServer, broker: RabbitNode) -> None:
        with start_flask("gevent") as flask:
            request = http_request("/v1/exchange", b"x" * 3000, headers={"Content-Type": "application/json"})
            run_load([request], port=flask.port, connections=32, count=500)
            self.limits["bare Flask, requests"] = run_load(
                [request], port=flask.port, connections=32, count=10_000
            ).rate
        for callers in (1, 16):
            self.limits[f"PostgreSQL, commits of one 3 KB row, {callers} at once"] = _commits(postgresql, callers)
        self.limits["RabbitMQ, confirmed references into a quorum queue"] = _confirms(broker)
        for name, rate in self.limits.items():
            self._say(f"{name}: {rate:.0f}/s")
            self.notes.append(f"{name}: {rate:.0f} a second")


def _commits(postgresql: PrivateServer, callers: int, seconds: float = 3.0) -> float:
    """Commits a second that reach the disk."""
    database = postgresql.new_database()
    with postgresql.connect(database) as connection:
        connection.execute("CREATE TABLE rows (id BIGSERIAL PRIMARY KEY, body BYTEA)")
    counts = [0] * callers
    ends = time.monotonic() + seconds

    def work(number: int) -> None:
        with postgresql.connect(database) as connection:
            while time.monotonic() < ends:
                connection.execute("INSERT INTO rows (body) VALUES (%s)", (b"x" * 3000,))
                counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def _confirms(broker: RabbitNode, count: int = 20_000) -> float:
    """References a second that the broker has confirmed, as our own link sends them."""
    changed = threading.Event()
    link = RabbitLink([broker.url], on_change=changed.set)
    link.start()
    system = SystemCode("H99.99/limit")
    trace = f"00-{'0af7651916cd43dd8448eb211c80319c'}-b7ad6b7169203331-01"
    references = [
        Reference(delivery_id=number, system=system, traceparent=trace, outbox_id=number) for number in range(count)
    ]
    try:
        while not link.is_open:
            changed.wait(1)
        started = time.monotonic()
        done = 0
        while done < count and time.monotonic() < started + 60:
            if references and link.unconfirmed < 2000:
                link.publish(references[:500])
                references = references[500:]
            changed.wait(0.01)
            changed.clear()
            done += len(link.confirmed())
        return done / (time.monotonic() - started)
    finally:
        link.close()


def _give_up(reason: str) -> NoReturn:
    raise RuntimeError(reason)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when everything that was accepted arrived exactly once."""
    parser = argparse.ArgumentParser(prog="lgsp bench --production", description=__doc__)
    parser.add_argument("--messages", type=int, default=8000, help="messages of each run (default 8000)")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder for the results")
    parser.add_argument("--no-dramatiq", action="store_true", help="leave the hand-made pipeline out")
    options = parser.parse_args(arguments)
    if not 1000 <= options.messages <= MOST_MESSAGES:
        parser.error(f"--messages: between 1000 and {MOST_MESSAGES}")
    folder = options.out / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder.mkdir(parents=True)
    bench = ProductionBench(folder.absolute(), options.messages, lambda text: print(text, flush=True))
    try:
        bench.run(with_dramatiq=not options.no_dramatiq)
    except (RabbitMissing, RuntimeError, psycopg.Error) as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    print("\n" + bench.write_summary().read_text(encoding="utf-8"))
    return 1 if any("twice" in note for note in bench.notes) else 0


if __name__ == "__main__":
    sys.exit(main())
