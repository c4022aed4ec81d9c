"""`lgsp bench`: the bus against its own goals and against what people build by hand, in one run on one machine.

Everything is started here on loopback, driven by the load generator and stopped; raw rows go to CSV files, the findings
to ``summary.json`` and ``summary.md`` in a folder of their own. Absolute numbers depend on the machine and on who else
uses it: the ratios are what to compare.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.baseline_flask import start_flask
from benchmarks.bus import RECEIVER, SENDER, SERVICE, start_bus
from benchmarks.dossiers import PASSWORD, USER, basic_requests, make_dossiers, signed_requests
from benchmarks.load import LoadResult, run_load
from benchmarks.processes import sample
from benchmarks.sink import Sink, start_sink
from benchmarks.steps import measure_steps

Pids = Callable[[], Sequence[int]]

CONNECTIONS = 32
#: Manifests are good for five minutes: no list is larger than what is sent in that time.
MOST_MESSAGES = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One measured pipeline."""

    name: str
    accepted_per_second: float
    delivered_per_second: float | None
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_us_per_message: float
    #: Who used it: serve, work, store, broker.
    cpu_us_by_role: Mapping[str, float]
    largest_process_mb: float
    statuses: dict[int, int] = field(default_factory=dict)


class Bench:
    """One run with its folder."""

    def __init__(self, folder: Path, messages: int, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._messages = messages
        self._say = say
        self.findings: list[Finding] = []
        self.notes: list[str] = []

    def run(self, *, with_dramatiq: bool) -> None:
        """All measurements, in the order of the summary."""
        self.crypto_us = crypto_us()
        self._say("processor time of the steps …")
        self.steps = measure_steps()
        with running_sink() as sink:
            closed = self._bus("bus, accepted → delivered", sink)
            half = max(1.0, (closed.delivered_per_second or 0) / 2)
            self._bus("bus, half load (open loop)", sink, rate=half)
            self._bus("bus, accept path only", sink, deliver=False)
            for server in ("gevent", "granian"):
                self._flask(server)
            if with_dramatiq:
                self._dramatiq(sink)

    # ── pipelines ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _bus(
        self,
        name: str,
        sink: Sink,
        *,
        rate: float = 0.0,
        deliver: bool = True,
        environment: dict[str, str] | None = None,
        servers: Mapping[str, Pids] | None = None,
        workers: int = 1,
    ) -> Finding:
        """``servers``: process ids of store and broker, whose processor time counts too."""
        with tempfile.TemporaryDirectory(prefix="lgsp-bench-") as home:
            bus = start_bus(Path(home), sink.url, deliver=deliver, environment=environment, workers=workers)
            try:
                time.sleep(1.0)
                dossiers = make_dossiers(self._messages + 500)
                requests = signed_requests(dossiers, bus.key, sender=SENDER, receivers=[RECEIVER], service=SERVICE)
                run_load(requests[:500], port=bus.port, connections=CONNECTIONS)
                time.sleep(0.5)
                sink.reset()
                return self._measure(
                    name,
                    requests[500:],
                    port=bus.port,
                    roles={"serve": lambda: bus.web.pids, "work": bus.worker_pids, **(servers or {})},
                    rate=rate,
                    sink=sink if deliver else None,
                )
            finally:
                bus.stop()

    def _flask(self, server: Any) -> Finding:
        with start_flask(server) as flask:
            bodies = make_dossiers(self._messages)
            requests = basic_requests(bodies, user="x", password="y", path="/v1/exchange")
            run_load(requests[:500], port=flask.port, connections=CONNECTIONS)
            return self._measure(
                f"bare Flask on {server}", requests, port=flask.port, roles={"web": lambda: flask.pids}
            )

    def _dramatiq(self, sink: Sink) -> None:
        from benchmarks.baseline_dramatiq import start_pipeline

        self._pipeline("dramatiq pipeline", lambda: start_pipeline(sink.url + "/in", server="gevent"), sink)

    def _pipeline(self, name: str, start: Callable[[], Any], sink: Sink) -> None:
        """One that is built by hand, with a quarter of the messages."""
        from benchmarks.rabbitmq import RabbitMissing

        try:
            pipeline = start()
        except (RabbitMissing, FileNotFoundError) as missing:
            self.notes.append(f"the {name} was not measured: {missing} (`make bench` installs what it needs)")
            return
        with pipeline:
            count = max(1000, self._messages // 4)
            requests = basic_requests(make_dossiers(count + 200), user=USER, password=PASSWORD)
            run_load(requests[:200], port=pipeline.port, connections=CONNECTIONS)
            time.sleep(1.0)
            sink.reset()
            self._measure(name, requests[200:], port=pipeline.port, roles={"all": lambda: pipeline.pids}, sink=sink)

    def _measure(
        self,
        name: str,
        requests: Sequence[bytes],
        *,
        port: int,
        roles: Mapping[str, Pids],
        rate: float = 0.0,
        sink: Sink | None = None,
    ) -> Finding:
        csv = self._folder / f"{name.replace(' ', '-').replace(',', '').replace('→', 'to')}.csv"
        before = {role: sample(pids()) for role, pids in roles.items()}
        result: LoadResult = run_load(requests, port=port, connections=CONNECTIONS, rate=rate, csv=csv)
        delivered = None
        if sink is not None:
            stats = sink.wait_for(result.accepted, within_seconds=60)
            seconds = (stats.last_us - stats.first_us) / 1e6
            delivered = stats.distinct / seconds if seconds else 0.0
            if stats.distinct != result.accepted or stats.repeated:
                self.notes.append(
                    f"{name}: {result.accepted} accepted, {stats.distinct} arrived, {stats.repeated} twice"
                )
        after = {role: sample(pids()) for role, pids in roles.items()}
        count = max(1, result.accepted)
        used = {role: (after[role].cpu_seconds - before[role].cpu_seconds) / count * 1e6 for role in roles}
        finding = Finding(
            name=name,
            accepted_per_second=result.rate,
            delivered_per_second=delivered,
            p50_ms=result.p50_ms,
            p95_ms=result.p95_ms,
            p99_ms=result.p99_ms,
            cpu_us_per_message=sum(used.values()),
            cpu_us_by_role=used,
            largest_process_mb=max(found.largest_rss_bytes for found in after.values()) / 2**20,
            statuses=dict(result.statuses),
        )
        self.findings.append(finding)
        self._say(_line(finding))
        return finding

    # ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def write_summary(self) -> Path:
        """``summary.json`` for programs, ``summary.md`` for people."""
        facts = {
            "at": datetime.now(UTC).isoformat(),
            "python": platform.python_version(),
            "processors": os.cpu_count(),
            "messages": self._messages,
            "es256_verify_and_sign_us": self.crypto_us,
            "load_average": os.getloadavg(),
            "findings": [asdict(finding) for finding in self.findings],
            "ratios": self.ratios(),
            "steps_us": self.steps,
            "notes": self.notes,
        }
        (self._folder / "summary.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
        lines = [
            f"# Measured {facts['at']}",
            "",
            f"Python {facts['python']}, {facts['processors']} processors, {self._messages} messages of 3 KB, "
            f"{CONNECTIONS} connections; one P-256 verification and one signature cost {self.crypto_us:.0f} µs here.",
            "",
            "| | accepted/s | delivered/s | p50 | p95 | p99 ms | CPU µs/message | largest process MB |",
            "|---|---|---|---|---|---|---|---|",
            *(_row(finding) for finding in self.findings),
            "",
            "| Ratio | | Goal |",
            "|---|---|---|",
            *(f"| {name} | {value:.2f} | {self.goals().get(name, '')} |" for name, value in self.ratios().items()),
            "",
            "| Where the time goes, alone and warm | µs |",
            "|---|---|",
            *(f"| {name} | {microseconds:.0f} |" for name, microseconds in self.steps.items()),
            "",
            *(f"- {note}" for note in self.notes),
        ]
        path = self._folder / "summary.md"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    def goals(self) -> dict[str, str]:
        """Ratio → what it should be."""
        return GOALS

    def ratios(self) -> dict[str, float]:
        """What can be compared between machines."""
        by_name = {finding.name: finding for finding in self.findings}
        bus = by_name["bus, accepted → delivered"]
        accept = by_name["bus, accept path only"]
        ratios = {
            "accept path ÷ bare Flask on gevent": accept.accepted_per_second
            / by_name["bare Flask on gevent"].accepted_per_second,
            "bus CPU per message ÷ (verify + sign)": bus.cpu_us_per_message / self.crypto_us,
        }
        if "dramatiq pipeline" in by_name:
            baseline = by_name["dramatiq pipeline"].delivered_per_second or 1
            ratios["bus ÷ dramatiq, delivered"] = (bus.delivered_per_second or 0) / baseline
        return ratios


GOALS = {
    "accept path ÷ bare Flask on gevent": "at least 0.20",
    "bus ÷ dramatiq, delivered": "at least 4",
    "bus CPU per message ÷ (verify + sign)": "the lower the better; naive 32, tuned prototypes 5",
}


@contextmanager
def running_sink() -> Iterator[Sink]:
    sink = start_sink()
    try:
        yield sink
    finally:
        sink.stop()


def crypto_us() -> float:
    """Processor time of one P-256 verification and one signature: the yardstick of this machine at this hour."""
    key = ec.generate_private_key(ec.SECP256R1())
    algorithm = ec.ECDSA(hashes.SHA256())
    public, signature = key.public_key(), key.sign(b"x", algorithm)
    times = 1000
    start = time.process_time()
    for _ in range(times):
        public.verify(signature, b"x", algorithm)
        key.sign(b"x", algorithm)
    return (time.process_time() - start) / times * 1e6


def _line(finding: Finding) -> str:
    delivered = "" if finding.delivered_per_second is None else f", delivered {finding.delivered_per_second:.0f}/s"
    roles = ", ".join(f"{role} {used:.0f}" for role, used in finding.cpu_us_by_role.items())
    return (
        f"{finding.name}: accepted {finding.accepted_per_second:.0f}/s{delivered}, p50 {finding.p50_ms:.1f} "
        f"p99 {finding.p99_ms:.1f} ms, {finding.cpu_us_per_message:.0f} µs CPU ({roles}), "
        f"{finding.largest_process_mb:.0f} MB"
    )


def _row(finding: Finding) -> str:
    delivered = "–" if finding.delivered_per_second is None else f"{finding.delivered_per_second:.0f}"
    return (
        f"| {finding.name} | {finding.accepted_per_second:.0f} | {delivered} | {finding.p50_ms:.1f} | "
        f"{finding.p95_ms:.1f} | {finding.p99_ms:.1f} | {finding.cpu_us_per_message:.0f} | "
        f"{finding.largest_process_mb:.0f} |"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when everything that was accepted arrived exactly once."""
    parser = argparse.ArgumentParser(prog="lgsp bench", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000, help="messages of the main run (default 10000)")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder for the results")
    parser.add_argument("--no-dramatiq", action="store_true", help="leave the RabbitMQ pipeline out")
    options = parser.parse_args(arguments)
    if not 1000 <= options.messages <= MOST_MESSAGES:
        parser.error(f"--messages: between 1000 and {MOST_MESSAGES}")
    folder = options.out / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder.mkdir(parents=True)
    bench = Bench(folder.absolute(), options.messages, lambda text: print(text, flush=True))
    bench.run(with_dramatiq=not options.no_dramatiq)
    path = bench.write_summary()
    print("\n" + path.read_text(encoding="utf-8"))
    return 1 if any("twice" in note for note in bench.notes) else 0


if __name__ == "__main__":
    sys.exit(main())
