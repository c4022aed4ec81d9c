"""`lgsp bench --dossiers N`: N dossiers of thirteen messages each, through the bus and the partners' twins.

::

    portal  → one-stop   the dossier is filed                     one-way
    one-stop → ministry  the mother in the population database    look-up, SOAP
             → registry  an enterprise                            look-up, REST
             → portal    the dossier, and four times its progress one-way, in the dossier's order
             → platform  the fee: order                           look-up, REST
    platform → one-stop  the signed notice of the payment         partner's own call, one-way
    one-stop → post      a delivery order                         one-way
             → carrier   an SMS                                   one-way
             → two units the result                               one-way, two deliveries

Everything is real: the demonstration's registry, `lgsp serve`, `lgsp work` and the twins in processes of their own, the
embedded store with full durability, evidence on. The callers are the agency client in threads of this process, so the
figures hold what a member's software waits for, its own checks included. What one caller waits is told for each kind of
message, what a delivery waits for each receiving system.

The second and the last quarter of the run are compared: nothing that one message costs may grow with the number of
messages already stored.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.load import percentile
from benchmarks.processes import Sample, family, free_port, sample
from bus.demo.province import Province, running_province, tell_nobody_of_events
from bus.settings import load_settings
from connectors.client import AgencyClient
from connectors.http import HttpClient, HttpSettings
from registry.changes import plan_changes
from registry.model import Quota
from schemas.identifiers import DossierCode, SystemCode
from schemas.moment import VIETNAM

PORTAL = SystemCode("G99/cong-dvc")
ONE_STOP = SystemCode("H99.15/mot-cua")
ROOT = Path(__file__).resolve().parent.parent
PARTNERS = ROOT / "schemas" / "partners"
#: Threads that play dossiers. More only add waiting: two processors are shared by all processes.
CALLERS = 8
QUARTERS = 4
#: The roles of the bus's processes, by the module that they run.
MODULES = {"serve": "bus.web.server", "work": "bus.work", "twins": "bus.web.sandbox_server"}
#: Longest wait for the last delivery after the last call.
DRAIN_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """What one kind of message waited, in milliseconds."""

    name: str
    count: int
    p50_ms: float
    p95_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarter:
    """One quarter of the dossiers, while the store grew."""

    #: In the store at its end.
    messages: int
    messages_per_second: float
    call_p50_ms: float
    call_p95_ms: float
    #: Processor time of serve and work together.
    bus_cpu_us_per_message: float
    store_bytes_per_message: float
    memory_mb: Mapping[str, float]


@dataclass(slots=True, kw_only=True)
class Report:
    """What one run found."""

    dossiers: int
    messages: int = 0
    deliveries: int = 0
    messages_per_second: float = 0.0
    calls: list[Waits] = field(default_factory=list)
    deliveries_by_system: list[Waits] = field(default_factory=list)
    quarters: list[Quarter] = field(default_factory=list)
    #: Processor seconds of each role, this process's callers among them.
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    #: What was accepted and did not get there once, or got there twice; must stay empty.
    wrong: list[str] = field(default_factory=list)

    def growth(self) -> dict[str, float]:
        """The last quarter ÷ the second; the first one warms up."""
        second, last = self.quarters[1], self.quarters[-1]
        return {
            "call p50": last.call_p50_ms / second.call_p50_ms,
            "processor time of the bus a message": last.bus_cpu_us_per_message / second.bus_cpu_us_per_message,
            "store bytes a message": last.store_bytes_per_message / second.store_bytes_per_message,
            "memory of serve": last.memory_mb["serve"] / second.memory_mb["serve"],
            "memory of work": last.memory_mb["work"] / second.memory_mb["work"],
        }


class DossierDay:
    """Plays the dossiers against a running province. Its methods run in many threads."""

    def __init__(self, province: Province, report: Report, callers: int, say: Callable[[str], None]) -> None:
        self._province = province
        self._callers = callers
        self._report = report
        self._say = say
        self._portal = province.client(PORTAL)
        self._one_stop = province.client(ONE_STOP)
        self._till = HttpClient(HttpSettings())
        self._lock = threading.Lock()
        self._took: dict[str, list[float]] = defaultdict(list)
        self._now = datetime.now(VIETNAM)
        self._payloads = {name: _example(path) for name, path in _EXAMPLES.items()}

    def run(self) -> None:
        """All quarters, then the wait until nothing is due any more."""
        edges = [self._report.dossiers * number // QUARTERS for number in range(QUARTERS + 1)]
        started = time.monotonic()
        cpu_at_start = self._cpu()
        with ThreadPoolExecutor(self._callers) as callers:
            for first, end in pairwise(edges):
                self._quarter(callers, first, end)
        _drain(self._province)
        self._report.messages_per_second = self._report.messages / (time.monotonic() - started)
        self._report.cpu_seconds = {role: used - cpu_at_start[role] for role, used in self._cpu().items()}
        self._report.calls = [_waits(name, took) for name, took in sorted(self._took.items())]
        self._look_into_the_store()

    def _quarter(self, callers: ThreadPoolExecutor, first: int, end: int) -> None:
        before = {name: len(took) for name, took in self._took.items()}
        messages, size, cpu = self._stored(), self._store_bytes(), self._cpu()
        started = time.monotonic()
        for _ in callers.map(self._play, range(first, end)):
            pass
        _drain(self._province)
        seconds = time.monotonic() - started
        took = [value for name, values in self._took.items() for value in values[before.get(name, 0) :]]
        now, used = self._stored(), self._cpu()
        count = now - messages
        waits = _waits("", took)
        quarter = Quarter(
            messages=now,
            messages_per_second=count / seconds,
            call_p50_ms=waits.p50_ms,
            call_p95_ms=waits.p95_ms,
            bus_cpu_us_per_message=sum(used[role] - cpu[role] for role in ("serve", "work")) / count * 1e6,
            store_bytes_per_message=(self._store_bytes() - size) / count,
            memory_mb={role: found.largest_rss_bytes / 2**20 for role, found in self._samples().items()},
        )
        self._report.quarters.append(quarter)
        self._report.messages = now
        self._say(
            f"{end} dossiers: {quarter.messages_per_second:.0f} messages/s, a call p50 {quarter.call_p50_ms:.1f} "
            f"p95 {quarter.call_p95_ms:.1f} ms, {quarter.store_bytes_per_message:.0f} bytes a message"
        )

    # ── one dossier ───────────────────────────────────────────────────────────────────────────────────────────────

    def _play(self, number: int) -> None:
        code = DossierCode(f"H99.15-{self._now:%y%m%d}-{number + 1:07d}")
        dossier = self._dossier(code)
        self._send(self._portal, "dossier.transfer", "H99.15", dossier, code, purpose="giai-quyet-tthc")
        self._call("population.citizen-lookup", "G99.01", self._payloads["lookup"], code, purpose="giai-quyet-tthc")
        self._call("enterprise.detail", "G99.12", self._payloads["enterprise"], code, purpose="giai-quyet-tthc")
        self._send(self._one_stop, "dossier.sync", "G99", dossier, code)
        self._pay(number, code)
        for step in range(4):
            self._send(self._one_stop, "dossier.progress", "G99", {"data": [self._progress(code, step)]}, code)
        order = {**self._payloads["order"], "OrderNumber": code}
        self._send(self._one_stop, "post.delivery-order", "G99.31", order, code)
        notice = {**self._payloads["notice"], "parameters": {"MaHoSo": code, "NgayHenTra": f"{self._now:%d/%m/%Y}"}}
        self._send(self._one_stop, "notice.sms", "G99.32", notice, code)
        result = {"MaHoSo": code, "TrichYeu": "Trả kết quả", "NgayTra": self._now.date().isoformat()}
        self._send(self._one_stop, "result.notice", "H99.16", result, code)

    def _pay(self, number: int, code: DossierCode) -> None:
        """The order, and what the platform then tells: the twin at the till calls the bus as the platform would."""
        order = dict(self._payloads["init"])
        reference = f"HP{number:08d}{self._now:%y%m%d}"
        order |= {"MaThamChieu": reference, "ThoiGianGD": f"{self._now:%Y%m%d%H%M%S}"}
        order["ThongTinBienLai"] = {**order["ThongTinBienLai"], "MaHoSo": code}
        self._call("payment.init", "G99.30", order, code)
        ipn = f"{self._province.bus_url}/partners/G99.30/thanh-toan/ipn"
        wish = {"MaThamChieu": reference, "MaLoi": "00", "ipn_url": ipn, "times": 1}
        with self._timed("payment.notice (with the twin)"):
            answer = self._till.request(
                "POST",
                f"{self._province.sandbox_url}/_sandbox/payment/pay",
                headers={"Content-Type": "application/json"},
                body=json.dumps(wish).encode(),
                timeout_seconds=30,
            )
        said = [json.loads(text)["MaLoi"] for text in json.loads(answer.body)["answers"]]
        if said != ["00"]:
            raise RuntimeError(f"the notice of {reference} was answered {said}")

    def _dossier(self, code: DossierCode) -> dict[str, Any]:
        moment, due = f"{self._now:%Y%m%d%H%M%S}", f"{self._now + timedelta(days=1):%Y%m%d}170000"
        changed = {"MaHoSo": code, "NgayNopHoSo": moment, "NgayTiepNhan": moment, "NgayHenTra": due}
        return {**self._payloads["dossier"], **changed}

    def _progress(self, code: DossierCode, step: int) -> dict[str, Any]:
        moment = f"{self._now + timedelta(minutes=step):%Y%m%d%H%M%S}"
        return {**self._payloads["progress"], "MaHoSo": code, "ThoiDiemXuLy": moment, "NgayBatDau": moment}

    def _send(
        self, client: AgencyClient, service: str, receiver: str, payload: Any, code: DossierCode, purpose: str = ""
    ) -> None:
        receivers = [receiver, "H99.20"] if service == "result.notice" else [receiver]
        with self._timed(service):
            client.send(service, receivers, payload, dossier=code, purpose=purpose)

    def _call(self, service: str, receiver: str, payload: Any, code: DossierCode, purpose: str = "") -> None:
        with self._timed(service):
            self._one_stop.call(service, receiver, payload, dossier=code, purpose=purpose)

    def _timed(self, name: str) -> _Timed:
        return _Timed(self._took[name])

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _samples(self) -> dict[str, Sample]:
        """Memory and processor time of each role; the processes of a server count together."""
        found: dict[str, list[int]] = {role: [] for role in MODULES}
        for pid in family(os.getpid()):
            for role, module in MODULES.items():
                if module in _command_line(pid):
                    found[role].append(pid)
        return {role: sample(pids) for role, pids in found.items()}

    def _cpu(self) -> dict[str, float]:
        used = {role: found.cpu_seconds for role, found in self._samples().items()}
        return {**used, "callers": time.process_time()}

    def _store_bytes(self) -> int:
        """Pages in use, those that still lie in the write-ahead log among them."""
        with closing(self._store()) as store:
            (pages,) = store.execute("PRAGMA page_count").fetchone()
            (free,) = store.execute("PRAGMA freelist_count").fetchone()
            (size,) = store.execute("PRAGMA page_size").fetchone()
        return int((pages - free) * size)

    def _stored(self) -> int:
        with closing(self._store()) as store:
            return int(store.execute("SELECT count(*) FROM exchanges").fetchone()[0])

    def _store(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self._province.settings.home / 'lgsp.db'}?mode=ro", uri=True)

    def _look_into_the_store(self) -> None:
        """How long deliveries took, by system, and whether each got there."""
        waited: dict[str, list[float]] = defaultdict(list)
        with closing(self._store()) as store:
            rows = store.execute(
                "SELECT d.system, d.state, d.settled_at - e.received_at, e.message_id FROM deliveries d "
                "JOIN exchanges e ON e.id = d.exchange_id WHERE d.system <> ? AND e.pattern = 'one-way'",
                (_FETCHES_ITSELF,),
            )
            for system, state, micros, message_id in rows:
                if state != "delivered":
                    self._report.wrong.append(f"{message_id} to {system} is {state}")
                else:
                    waited[system].append(micros / 1000)
        self._report.deliveries = sum(map(len, waited.values()))
        self._report.deliveries_by_system = [_waits(system, took) for system, took in sorted(waited.items())]
        self._count_effects()

    def _count_effects(self) -> None:
        """The twins' own books: one effect for each dossier."""
        dossiers = self._report.dossiers
        books = {
            "national_portal": ("dossiers", dossiers),
            "post": ("orders", dossiers),
            "sms": ("outbox", dossiers),
            "payment": ("notices", dossiers),
        }
        for twin, (book, expected) in books.items():
            kept = len(self._province.sandbox(f"/{twin}/state")[book])
            if kept != expected:
                self._report.wrong.append(f"the twin {twin} has {kept} {book}, not {expected}")

    def close(self) -> None:
        self._portal.close()
        self._one_stop.close()
        self._till.close()


class _Timed:
    """Adds the milliseconds of its block to a list (appending is atomic)."""

    def __init__(self, took: list[float]) -> None:
        self._took = took

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._took.append((time.perf_counter() - self._started) * 1000)


_EXAMPLES: Mapping[str, Path] = {
    "dossier": ROOT / "schemas" / "examples" / "dossier.json",
    "lookup": PARTNERS / "population" / "TraCuuThongTinCongDan.example.json",
    "enterprise": PARTNERS / "business_registry" / "enterprise-detail.example.json",
    "progress": PARTNERS / "national_portal" / "dossier-progress.example.json",
    "init": PARTNERS / "payment" / "payment-init.example.json",
    "order": PARTNERS / "post" / "order.example.json",
    "notice": PARTNERS / "sms" / "notice-sms.example.json",
}
#: A ward's office looks into its inbox when it likes; what lies there is no wait of the bus.
_FETCHES_ITSELF = "H99.20/van-thu"
#: What the connector writes itself into a payment order.
_NOT_OURS = ("LoaiBanTin", "MaDoiTac", "MaXacThuc")


def _example(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {name: value for name, value in document.items() if name not in _NOT_OURS}


def _drain(province: Province) -> None:
    """Until nothing waits for anybody but those who fetch. Raises RuntimeError."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while any(queue.waiting for queue in province.bus.ledger.queues() if queue.system != _FETCHES_ITSELF):
        if time.monotonic() > deadline:
            raise RuntimeError("messages still wait after five minutes; the work log of the run says why")
        time.sleep(0.1)


def _waits(name: str, took: Iterable[float]) -> Waits:
    ordered = sorted(took)
    return Waits(
        name=name,
        count=len(ordered),
        p50_ms=percentile(ordered, 50),
        p95_ms=percentile(ordered, 95),
        max_ms=percentile(ordered, 100),
    )


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def play(dossiers: int, callers: int, home: Path, say: Callable[[str], None]) -> Report:
    """A province in ``home``, the day, and what it came to; everything is stopped afterwards."""
    port, report = free_port(), Report(dossiers=dossiers)
    settings = load_settings(
        {"home": home, "port": port, "sandbox_port": free_port(), "public_url": f"http://127.0.0.1:{port}"}
    )
    with running_province(settings) as province, closing(DossierDay(province, report, callers, say)) as day:
        _lift_quotas(province)
        tell_nobody_of_events(province.bus)
        day.run()
    return report


def _lift_quotas(province: Province) -> None:
    """The demonstration's agencies may call 600 times a minute; here the bus is to be the limit."""
    registry = province.bus.registry
    held = registry.load()
    lifted = [replace(grant, quota=Quota()) for grant in held.grants.values()]
    registry.apply(plan_changes(held, lifted), "benchmark")


def write_summary(report: Report, folder: Path) -> Path:
    """``dossiers.json`` for programs, ``dossiers.md`` for people."""
    facts = {
        "at": datetime.now(UTC).isoformat(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "load_average": os.getloadavg(),
        **asdict(report),
        "growth": report.growth(),
    }
    (folder / "dossiers.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
    last = report.quarters[-1]
    lines = [
        f"# {report.dossiers} dossiers, {report.messages} messages, {report.deliveries} deliveries",
        "",
        f"{report.messages_per_second:.0f} messages a second; {last.store_bytes_per_message:.0f} bytes of store each; "
        + ", ".join(f"{role} {megabytes:.0f} MB" for role, megabytes in last.memory_mb.items()),
        "",
        "Processor seconds: " + ", ".join(f"{role} {used:.1f}" for role, used in report.cpu_seconds.items()),
        "",
        *_waits_table("What a caller waited", report.calls),
        *_waits_table("From acceptance to delivery, by receiving system", report.deliveries_by_system),
        "| Last quarter ÷ second | |",
        "|---|---|",
        *(f"| {name} | {ratio:.2f} |" for name, ratio in report.growth().items()),
        "",
        *(f"- **wrong**: {text}" for text in report.wrong[:20]),
    ]
    path = folder / "dossiers.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _waits_table(title: str, rows: Sequence[Waits]) -> list[str]:
    body = [f"| {row.name} | {row.count} | {row.p50_ms:.1f} | {row.p95_ms:.1f} | {row.max_ms:.0f} |" for row in rows]
    return [f"| {title} | count | p50 ms | p95 ms | max ms |", "|---|---|---|---|---|", *body, ""]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when every message got there once."""
    parser = argparse.ArgumentParser(prog="lgsp bench --dossiers", description=__doc__)
    parser.add_argument("--dossiers", type=int, default=2000, help="how many (default 2000)")
    parser.add_argument("--callers", type=int, default=CALLERS, help=f"threads that play dossiers (default {CALLERS})")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder for the results")
    options = parser.parse_args(arguments)
    if not 20 <= options.dossiers <= 100_000:
        parser.error("--dossiers: between 20 and 100000")
    if not 1 <= options.callers <= 64:
        parser.error("--callers: between 1 and 64")
    folder = options.out / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="lgsp-bench-") as home:
        report = play(options.dossiers, options.callers, Path(home), lambda text: print(text, flush=True))
    print("\n" + write_summary(report, folder).read_text(encoding="utf-8"))
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
