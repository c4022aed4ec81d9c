"""The half-year of Hải Phòng through the bus, in production mode, while what carries it is being killed.

::

    make scenario                                  a tenth: 2,669 dossiers, 7,500 messages
    make scenario ARGS="--dossiers 26690"          all of it
    make scenario ARGS=--story                     the demonstration's story instead

212 communes and 19 departments, each a member with its own key, and the province's centre; two `serve` and two `work`
on one PostgreSQL and three RabbitMQ nodes. One of each is killed (SIGKILL) and started again, one after the other, from
the first message to the last. Senders repeat what got no answer, under the same message id; receivers honour the
idempotency key. Before and after the departments publish their procedure lists anew, the centre looks each up.

Then the audit: every message that was acknowledged is in the ledger, delivered, acted upon once and proven, the
evidence log verifies, and the statistics (`lgsp stats`) say exactly what happened. Writes ``hai-phong.json`` and
``hai-phong.md`` below ``bench-results``; ends with 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final

from benchmarks import demo_cluster
from benchmarks.faults_servers import Servers
from benchmarks.faults_stand import Program
from benchmarks.hai_phong_audit import Findings, Sent, audit
from benchmarks.hai_phong_facts import CENTRE, DOSSIERS, PROVINCE, Errand, HalfYear
from benchmarks.havoc import Havoc, victims_of
from benchmarks.processes import free_port
from bus.assembly import Bus, open_bus
from bus.demo.province import Nodes, running_nodes
from bus.records import State
from bus.settings import Settings, load_settings
from bus.setup import initialise
from connectors.client import AgencyClient, new_message_id
from registry.changes import plan_changes
from registry.model import (
    Agency,
    Certificate,
    DeliveryMode,
    DossierView,
    Endpoint,
    Entry,
    Grant,
    Ordering,
    Pattern,
    RetryPolicy,
    Service,
    System,
)
from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from schemas.message import sha256_hex
from schemas.problem import Problem
from schemas.procedures import catalogue_diff, read_procedures
from security.certificates import read_certificate
from security.keys import SigningKey

TRANSFER, PROGRESS, RESULT, LIST = map(
    ServiceCode, ("dossier.transfer", "dossier.progress", "result.return", "procedure.list")
)
_SCHEMAS: Final = Path(__file__).resolve().parent.parent / "schemas"
_DATES: Final = ("yyyyMMddHHmmss",)
_RESULT_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["MaHoSo", "TrangThai", "NgayKetThucXuLy", "NgayTra"],
    "additionalProperties": False,
    "properties": {
        "MaHoSo": {"type": "string", "maxLength": 50},
        "TrangThai": {"const": "10"},
        "NgayKetThucXuLy": {"type": "string", "pattern": "^[0-9]{14}$"},
        "NgayTra": {"type": "string", "pattern": "^[0-9]{14}$"},
    },
}
#: Threads that send. More only add waiting: two processors are shared by all processes.
SENDERS: Final = 6
#: A message that got no receipt for so long is given up, and is a complaint.
_PATIENCE_SECONDS: Final = 180.0
_DRAIN_SECONDS: Final = 600.0
#: Messages whose evidence goes through the offline verifier, taken evenly from all.
MOST_BUNDLES: Final = 500
#: Shorter than a lease, so that a call that a killed process began has ended when another one may begin it.
_RECEIVER_TIMEOUT_SECONDS: Final = 4.0
_LEASE_SECONDS: Final = 5.0
_ENDED: Final = (State.DELIVERED, State.DEAD)


@dataclass(slots=True, kw_only=True)
class Report:
    """What one run found."""

    dossiers: int
    findings: Findings | None = None
    #: From the first message to the last receipt, and from there to the last delivery.
    sending_seconds: float = 0.0
    draining_seconds: float = 0.0
    audit_seconds: float = 0.0
    kills: dict[str, int] = field(default_factory=dict)
    back_within_seconds: dict[str, float] = field(default_factory=dict)
    #: Answers, or none, that made a sender repeat.
    repeats: dict[str, int] = field(default_factory=dict)
    #: Procedures of all departments' lists: added, changed, withdrawn.
    procedures: tuple[int, int, int] = (0, 0, 0)
    complaints: list[str] = field(default_factory=list)

    @property
    def messages_per_second(self) -> float:
        seconds = self.sending_seconds + self.draining_seconds
        return self.findings.accepted / seconds if self.findings and seconds else 0.0

    @property
    def is_whole(self) -> bool:
        return self.findings is not None and not self.complaints and not self.findings.complaints


class Town:
    """The members' software: everybody's clients, and the lists of what was accepted. Thread-safe."""

    def __init__(
        self, half_year: HalfYear, bus: Bus, nodes: Nodes, keys: Mapping[AgencyCode, SigningKey], senders: int
    ) -> None:
        """``senders``: threads that send."""
        self._half_year = half_year
        self._senders = senders
        self._addresses = list(nodes.serves)
        self._keys = keys
        self._bus_keys = bus.ring.public_jwks()
        self._mutex = threading.Lock()
        self._clients: dict[tuple[AgencyCode, str], AgencyClient] = {}
        self._turns = count()
        self.sent: list[Sent] = []
        self.repeats: Counter[str] = Counter()

    def send_all(self, say: Callable[[str], None]) -> None:
        """Every message of the half-year: the days in their order for each sender, a dossier always by the same one."""
        shares: list[list[Errand]] = [[] for _ in range(self._senders)]
        for number, dossier in enumerate(self._half_year.dossiers):
            shares[number % self._senders] += self._half_year.errands(dossier)
        for share in shares:
            share.sort(key=lambda errand: errand.day)  # stable: a dossier's own order stays
        total = sum(map(len, shares))
        with ThreadPoolExecutor(self._senders) as pool:
            running = [pool.submit(self._send_share, share) for share in shares]
            begun = time.monotonic()
            while not all(each.done() for each in running):
                time.sleep(min(10.0, 0.1 + (time.monotonic() - begun) / 3))
                done = len(self.sent)
                say(f"{done} of {total} messages accepted, {done / (time.monotonic() - begun):.0f} a second")
            for each in running:
                each.result()

    def _send_share(self, share: Sequence[Errand]) -> None:
        for errand in share:
            self._send(errand)

    def _send(self, errand: Errand) -> None:
        payload, message_id = self._half_year.payload(errand), str(new_message_id())
        receipt = self._patiently(
            errand.sender,
            lambda client: client.send(
                errand.service, [errand.receiver], payload, dossier=errand.dossier.code, message_id=message_id
            ),
        )
        sent = Sent(message_id=message_id, receipt_sha256=sha256_hex(receipt.receipt.encode()), errand=errand)
        with self._mutex:
            self.sent.append(sent)

    def list_of(self, department: AgencyCode) -> Any:
        """The centre looks a department's procedures up; without an answer, again as another question."""
        reply = self._patiently(CENTRE, lambda client: client.call(LIST, department, {"MaDonVi": department}))
        return json.loads(reply.body)

    def _patiently(self, agency: AgencyCode, ask: Callable[[AgencyClient], Any]) -> Any:
        """Ask one `serve` after the other until one answers. Raises the last refusal or silence."""
        gives_up = time.monotonic() + _PATIENCE_SECONDS
        first = next(self._turns)
        for turn in count(first):
            client = self._client(agency, self._addresses[turn % len(self._addresses)])
            try:
                return ask(client)
            except (Problem, OSError) as error:
                reason = error.reason if isinstance(error, Problem) else type(error).__name__
                with self._mutex:
                    self.repeats[reason] += 1
                if time.monotonic() > gives_up:
                    raise
                time.sleep(0.1)
        raise AssertionError("count() has no end")

    def _client(self, agency: AgencyCode, address: str) -> AgencyClient:
        with self._mutex:
            client = self._clients.get((agency, address))
            if client is None:
                client = AgencyClient(
                    address,
                    self._keys[agency],
                    system=_desk_of(agency),
                    bus_keys=self._bus_keys,
                    timeout_seconds=10.0,
                    attempts=1,
                )
                self._clients[agency, address] = client
            return client

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A half-year that is over: no process of the bus runs any more, its store is open."""

    bus: Bus
    sent: Sequence[Sent]
    #: What the receivers got.
    arrivals: Path
    #: Without findings yet.
    report: Report


def audited(done: Played, half_year: HalfYear) -> Report:
    """Its report, with what the audit finds."""
    begun = time.monotonic()
    done.report.findings = audit(done.bus, half_year, done.sent, done.arrivals, most_bundles=MOST_BUNDLES)
    done.report.audit_seconds = time.monotonic() - begun
    return done.report


@contextmanager
def played(
    half_year: HalfYear,
    folder: Path,
    servers: Servers,
    say: Callable[[str], None],
    *,
    senders: int = SENDERS,
    pause_seconds: float = 5.0,
) -> Iterator[Played]:
    """The half-year in a fresh database and an empty folder."""
    with _receiver(folder) as receiver, ExitStack() as stack:
        settings = _settings(folder / "home", servers)
        keys = _keys(half_year)
        bus = stack.enter_context(closing(_registered(settings, half_year, keys, receiver)))
        say(f"{len(keys)} members are registered")
        with running_nodes(settings, serve_ports=(settings.port, free_port()), works=2) as nodes:
            town = stack.enter_context(closing(Town(half_year, bus, nodes, keys, senders)))
            victims = victims_of(nodes, bus, servers.rabbitmq)
            report = _live(half_year, town, bus, receiver, Havoc(victims, pause_seconds=pause_seconds, say=say), say)
        yield Played(bus=bus, sent=town.sent, arrivals=folder / "arrivals", report=report)


def _live(
    half_year: HalfYear, town: Town, bus: Bus, receiver: Program, havoc: Havoc, say: Callable[[str], None]
) -> Report:
    """The half-year itself: one after the other dies from the first message until each kind did and all are sent."""
    report = Report(dossiers=half_year.dossiers_wanted)
    before = _look_up_all(half_year, town, receiver, anew=False)
    begun = time.monotonic()
    with havoc:
        town.send_all(say)
        report.sending_seconds = time.monotonic() - begun
        after = _look_up_all(half_year, town, receiver, anew=True)
        havoc.wait_until_killed(demo_cluster.KINDS)
    _drain(bus, say)
    report.draining_seconds = time.monotonic() - begun - report.sending_seconds
    report.kills, report.back_within_seconds = dict(havoc.kills), havoc.longest_seconds
    report.repeats = dict(town.repeats)
    report.procedures = _compared(before, after)
    if report.procedures != (wanted := (half_year.departments_wanted,) * 3):
        report.complaints.append(f"procedures added, changed, withdrawn: {report.procedures}, not {wanted}")
    return report


@contextmanager
def _receiver(folder: Path) -> Iterator[Program]:
    """All receiving systems of the province in one process."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.faults_receiver", str(port), str(folder / "arrivals")]
    receiver = Program(command, {}, folder / "receiver.log", port)
    receiver.start()
    try:
        receiver.ready()
        yield receiver
    finally:
        receiver.stop()


def _settings(home: Path, servers: Servers) -> Settings:
    port = free_port()
    given = {
        "home": home,
        "port": port,
        "public_url": f"http://127.0.0.1:{port}",
        "serve_processes": 1,
        "lease_seconds": _LEASE_SECONDS,
        "request_reply_timeout_seconds": _RECEIVER_TIMEOUT_SECONDS,
        "node_beat_seconds": 1,
        "log_level": "warning",
    }
    return load_settings(given, environ=servers.variables())


def _drain(bus: Bus, say: Callable[[str], None]) -> None:
    """Until nothing waits for anybody. Raises TimeoutError."""
    begun = time.monotonic()
    while waiting := sum(number for state, number in bus.ledger.states().items() if state not in _ENDED):
        if time.monotonic() > begun + _DRAIN_SECONDS:
            raise TimeoutError(f"{waiting} deliveries still wait")
        say(f"{waiting} deliveries to go")
        time.sleep(min(5.0, 0.2 + (time.monotonic() - begun) / 5))


def _look_up_all(half_year: HalfYear, town: Town, receiver: Program, *, anew: bool) -> dict[AgencyCode, Any]:
    """Each department publishes its list, and the centre looks it up."""
    found = {}
    for department in half_year.departments:
        published = {"result": half_year.catalogue(department, anew=anew)}
        wish = {"path": f"/danh-muc/{department}", "answer": published}
        request = urllib.request.Request(
            f"http://127.0.0.1:{receiver.port}/answer", method="PUT", data=json.dumps(wish).encode()
        )
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - our own receiver
        found[department] = town.list_of(department)
    return found


def _compared(before: Mapping[AgencyCode, Any], after: Mapping[AgencyCode, Any]) -> tuple[int, int, int]:
    differences = [
        catalogue_diff(read_procedures(before[department]), read_procedures(after[department])) for department in before
    ]
    return (
        sum(len(diff.added) for diff in differences),
        sum(len(diff.changed) for diff in differences),
        sum(len(diff.withdrawn) for diff in differences),
    )


# ── the registry ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _keys(half_year: HalfYear) -> dict[AgencyCode, SigningKey]:
    members = [CENTRE, *half_year.departments, *half_year.communes]
    return {agency: SigningKey.generate(name=_desk_of(agency)) for agency in members}


def _desk_of(agency: AgencyCode) -> SystemCode:
    return SystemCode(f"{agency}/mot-cua")


def _registered(
    settings: Settings, half_year: HalfYear, keys: Mapping[AgencyCode, SigningKey], receiver: Program
) -> Bus:
    """A fresh bus with all members, in one import."""
    initialise(settings)
    bus = open_bus(settings)
    url = f"http://127.0.0.1:{receiver.port}"
    desks = [
        System(
            code=_desk_of(agency),
            name="Một cửa điện tử",
            mode=DeliveryMode.PUSH,
            endpoint=_endpoint(f"{url}/mot-cua/{agency}"),
            certificates=(_certificate(key),),
        )
        for agency, key in keys.items()
    ]
    lists = [
        System(
            code=SystemCode(f"{agency}/danh-muc"),
            name="Danh mục thủ tục hành chính",
            mode=DeliveryMode.PUSH,
            endpoint=_endpoint(f"{url}/danh-muc/{agency}"),
            receives=(LIST,),
        )
        for agency in half_year.departments
    ]
    entries: list[Entry] = [*_agencies(half_year), *desks, *lists, *_services()]
    bus.registry.apply(plan_changes(bus.registry.load(), entries), "scenario")
    return bus


def _endpoint(url: str) -> Endpoint:
    return Endpoint(connector="rest", url=url, timeout_seconds=_RECEIVER_TIMEOUT_SECONDS)


def _agencies(half_year: HalfYear) -> list[Agency]:
    """The province with its departments and districts, and the districts with their communes: three levels, as then."""
    names = {
        CENTRE: "Trung tâm Phục vụ hành chính công (thử nghiệm)",
        **{unit: f"Sở Mẫu {number:02}" for number, unit in enumerate(half_year.departments, 1)},
        **{unit: f"Quận Mẫu {number:02}" for number, unit in enumerate(half_year.districts, 1)},
    }
    communes = [
        Agency(code=unit, name=f"Xã Mẫu {number:03}", parent=AgencyCode(unit.rpartition(".")[0]))
        for number, unit in enumerate(half_year.communes, 1)
    ]
    second = [Agency(code=code, name=name, parent=PROVINCE) for code, name in names.items()]
    return [Agency(code=PROVINCE, name="Tỉnh Thử Nghiệm"), *second, *communes]


def _certificate(key: SigningKey) -> Certificate:
    certificate = read_certificate(key.certificate_pem)
    return Certificate(
        key_id=certificate.key_id,
        pem=certificate.pem,
        thumbprint=certificate.thumbprint,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
    )


def _services() -> list[Entry]:
    transferred = DossierView(
        code="/MaHoSo",
        dates=_DATES,
        status="/TrangThaiHoSo",
        received="/NgayTiepNhan",
        due="/NgayHenTra",
        holder="receiver",
        procedure="/MaTTHC",
        channel="/KenhThucHien",
    )
    told = DossierView(items="/data", code="/MaHoSo", at="/ThoiDiemXuLy", dates=_DATES, status="/TrangThai")
    returned = DossierView(
        code="/MaHoSo", at="/NgayTra", dates=_DATES, status="/TrangThai", finished="/NgayKetThucXuLy", holder="receiver"
    )
    progress = _read(_SCHEMAS / "partners" / "national_portal" / "dossier-progress.schema.json")
    return [
        _one_way(TRANSFER, "Chuyển hồ sơ", transferred, _read(_SCHEMAS / "documents" / "dossier.schema.json")),
        _one_way(PROGRESS, "Tiến độ hồ sơ", told, progress),
        _one_way(RESULT, "Trả kết quả", returned, _RESULT_SCHEMA),
        Service(code=LIST, version=1, name="Danh mục thủ tục", owner=PROVINCE, pattern=Pattern.REQUEST_REPLY),
        *(
            Grant(id=f"tinh-{number}", service=service, grantee=PROVINCE, include_children=True)
            for number, service in enumerate((TRANSFER, PROGRESS, RESULT))
        ),
        Grant(id="trung-tam-danh-muc", service=LIST, grantee=CENTRE),
    ]


def _one_way(code: ServiceCode, name: str, view: DossierView, schema: Mapping[str, Any]) -> Service:
    return Service(
        code=code,
        version=1,
        name=name,
        owner=PROVINCE,
        pattern=Pattern.ONE_WAY,
        ordering=Ordering.DOSSIER,
        schema=schema,
        dossier=view,
        retry=RetryPolicy(max_attempts=1000, first_delay_seconds=0.5, max_delay_seconds=5),
    )


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


# ── the report ────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_report(report: Report, folder: Path) -> Path:
    """``hai-phong.json`` for programs, ``hai-phong.md`` for people."""
    facts = {
        "at": datetime.now(UTC).isoformat(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "load_average": os.getloadavg(),
        "messages_per_second": report.messages_per_second,
        "whole": report.is_whole,
        **asdict(report),
    }
    (folder / "hai-phong.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
    path = folder / "hai-phong.md"
    path.write_text("\n".join(_lines(report)) + "\n", encoding="utf-8")
    return path


def _lines(report: Report) -> Iterator[str]:
    found = report.findings
    if found is None:
        yield "# Hải Phòng: nothing was found"
        return
    yield f"# Hải Phòng: {report.dossiers} dossiers, {found.accepted} messages"
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| dossiers received / returned / still open | {found.received} / {found.returned} / {found.still_open} |"
    yield f"| messages accepted / acted upon once / twice / lost | {found.accepted} / {found.once} / {found.twice} / {found.lost} |"  # noqa: E501
    yield f"| calls that receivers got; dead letters | {found.arrivals}; {found.dead} |"
    yield f"| leaves of evidence, all verified; bundles verified offline | {found.leaves}; {found.bundles} |"
    yield f"| procedures added / changed / withdrawn | {' / '.join(map(str, report.procedures))} |"
    yield f"| killed | {_told(report.kills)} |"
    yield f"| back within, s | {_told({name: f'{each:.1f}' for name, each in report.back_within_seconds.items()})} |"
    yield f"| what made senders repeat | {_told(report.repeats)} |"
    yield f"| sending, then draining, s | {report.sending_seconds:.0f}, {report.draining_seconds:.0f} |"
    yield f"| messages a second, first to last delivery | {report.messages_per_second:.0f} |"
    yield f"| audit, s | {report.audit_seconds:.0f} |"
    yield ""
    busiest = sorted(found.by_unit.items(), key=lambda each: (-each[1]["received"], each[0]))[:10]
    yield "| Busiest units | received | returned | open | late |"
    yield "|---|--:|--:|--:|--:|"
    for unit, said in busiest:
        yield f"| {unit} | {said['received']} | {said['returned']} | {said['in_progress']} | {said['late']} |"
    yield ""
    yield from (f"- **wrong**: {text}" for text in [*report.complaints, *found.complaints][:30])


def _told(numbers: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(numbers.items())) or "none"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when nothing is wrong."""
    parser = argparse.ArgumentParser(
        prog="make scenario", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dossiers", type=int, default=DOSSIERS // 10, help=f"how many (default {DOSSIERS // 10})")
    parser.add_argument("--senders", type=int, default=SENDERS, help=f"threads that send (default {SENDERS})")
    parser.add_argument("--pause", type=float, default=5.0, help="seconds between two kills (default 5)")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder for the results")
    parser.add_argument("--story", action="store_true", help="the demonstration's story instead")
    options = parser.parse_args(arguments)
    if options.story:
        return demo_cluster.main()
    if not 20 <= options.dossiers <= 100_000:
        parser.error("--dossiers: between 20 and 100000")
    if not 1 <= options.senders <= 64:
        parser.error("--senders: between 1 and 64")
    if not 0 <= options.pause <= 600:
        parser.error("--pause: between 0 and 600")
    # Told to stop from outside, it still stops what it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = options.out / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    results.mkdir(parents=True)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lgsp-scenario-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # PostgreSQL's own user passes through
        servers = Servers(Path(folder) / "servers")
        try:
            half_year = HalfYear(dossiers_wanted=options.dossiers)
            with played(
                half_year,
                Path(folder) / "scenario",
                servers,
                lambda text: print(f"{time.monotonic() - begun:6.0f} s  {text}", flush=True),
                senders=options.senders,
                pause_seconds=options.pause,
            ) as done:
                report = audited(done, half_year)
        finally:
            servers.stop()
    print("\n" + write_report(report, results).read_text(encoding="utf-8"))
    return 0 if report.is_whole else 1


if __name__ == "__main__":
    sys.exit(main())
