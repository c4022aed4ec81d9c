"""`lgsp bench --soap`: what SOAP costs, against a bare spyne service and a bare zeep call in the same run.

* a signed, validated, recorded ``SubmitMessage`` against spyne saying hello to the same envelope, one process each;
* the connector's call of a SOAP provider against zeep's own call of the same provider;
* a REST consumer's call of that provider through the bus, and a SOAP consumer's call of a REST provider;
* the memory of the serving process over many calls.

Times of a single caller are what one waits; rates under load are what fits. Everything is on loopback, and only ratios
compare between machines.
"""

from __future__ import annotations

import argparse
import base64
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uuid6

from benchmarks.baseline_spyne import start_spyne
from benchmarks.bus import RECEIVER, SENDER, SERVICE, RunningBus, start_bus
from benchmarks.dossiers import make_dossiers
from benchmarks.load import http_request, run_load
from benchmarks.partners import PARTNERS, start_partners
from benchmarks.processes import Running, sample
from connectors.base import Parcel
from connectors.http import HttpClient
from connectors.soap import SoapConnector
from registry.model import DeliveryMode, Endpoint, Entry, Grant, HttpCall, Pattern, Provider, Service, SoapCall, System
from schemas.codec import read_xml
from schemas.identifiers import DossierCode, MessageId, ServiceCode, SystemCode
from schemas.message import Manifest, sha256_hex
from schemas.soap import EXCHANGE_NS, SoapVersion, payload_bytes, write_soap
from security.keys import Signer, SigningKey
from security.signing import sign_manifest

OPERATION = "TraCuuThongTinCongDan"
WSDL = (PARTNERS / "population" / "population.wsdl").read_text(encoding="utf-8")
QUESTION_XML = (PARTNERS / "population" / f"{OPERATION}.example.xml").read_bytes()
QUESTION_JSON = (PARTNERS / "population" / f"{OPERATION}.example.json").read_bytes()
CITIZEN = ServiceCode("population.citizen-lookup")
ENTERPRISE = ServiceCode("enterprise.detail")
_TEXT_XML = {"Content-Type": "text/xml; charset=utf-8"}
#: Manifests are good for five minutes: a list is used up well before.
CALLS_AT_ONCE = 5_000


class SoapBench:
    """One run. ``say`` gets a line for each finding."""

    def __init__(self, calls: int, memory_calls: int, say: Callable[[str], None]) -> None:
        self._calls = calls
        self._memory_calls = memory_calls
        self._say = say
        self.findings: dict[str, dict[str, float]] = {}
        self.memory: dict[str, float] = {}

    def run(self) -> None:
        with start_spyne() as spyne:
            bodies = [body for _, body in _submissions(SigningKey.generate(name=f"{SENDER}/x"), self._calls)]
            requests = [http_request("/", body, headers=_TEXT_XML) for body in bodies]
            self._load("bare spyne", requests[300:], requests[:300], spyne)
        with start_partners() as partners, tempfile.TemporaryDirectory(prefix="lgsp-bench-") as home:
            self._call("bare zeep call", _bare_zeep(partners.url), self._calls // 4)
            self._call("connector call", _connector(partners.url), self._calls // 4)
            environment = {"LGSP_SERVE_PROCESSES": "1"}
            bus = start_bus(
                Path(home), partners.url, deliver=False, environment=environment, more=_services(partners.url)
            )
            try:
                self._load_bus("SOAP submit", bus, _submit_requests)
                self._load_bus("REST submit", bus, _rest_requests)
                self._load_bus("REST → bus → SOAP", bus, _citizen_requests)
                self._load_bus("SOAP → bus → REST", bus, _enterprise_requests)
                self._measure_memory(bus)
            finally:
                bus.stop()

    def ratios(self) -> dict[str, float]:
        found = self.findings
        return {
            "SOAP submit ÷ bare spyne, processor time": found["SOAP submit"]["cpu_us"] / found["bare spyne"]["cpu_us"],
            "SOAP submit ÷ bare spyne, under load": found["bare spyne"]["rate"] / found["SOAP submit"]["rate"],
            "SOAP submit ÷ bare spyne, one caller": found["SOAP submit"]["p50_ms"] / found["bare spyne"]["p50_ms"],
            "connector call ÷ bare zeep call": found["connector call"]["p50_ms"] / found["bare zeep call"]["p50_ms"],
            "REST → bus → SOAP minus bare zeep call, ms p50": found["REST → bus → SOAP"]["p50_ms"]
            - found["bare zeep call"]["p50_ms"],
            "memory after ÷ before": self.memory["after_mb"] / self.memory["before_mb"] if self.memory else 1.0,
        }

    def _load_bus(self, name: str, bus: RunningBus, make: Callable[[Signer, int], list[bytes]]) -> None:
        self._load(name, make(bus.key, self._calls), make(bus.key, 300), bus.web)

    def _load(self, name: str, requests: Sequence[bytes], first: Sequence[bytes], server: Running) -> None:
        """A quarter of the requests one after another, the others 16 at once; ``first`` warms the server up."""
        run_load(first, port=server.port, connections=4)
        quarter = len(requests) // 4
        alone = run_load(requests[:quarter], port=server.port, connections=1)
        before = sample(server.pids).cpu_seconds
        loaded = run_load(requests[quarter:], port=server.port, connections=16)
        cpu_us = (sample(server.pids).cpu_seconds - before) / max(1, loaded.accepted) * 1e6
        if loaded.accepted != loaded.requests:
            raise RuntimeError(f"{name}: not every call was answered well: {dict(loaded.statuses)}")
        self.findings[name] = {"p50_ms": alone.p50_ms, "p99_ms": alone.p99_ms, "rate": loaded.rate, "cpu_us": cpu_us}
        self._say(
            f"{name}: alone p50 {alone.p50_ms:.2f} p99 {alone.p99_ms:.2f} ms; "
            f"16 callers {loaded.rate:.0f}/s, {cpu_us:.0f} µs of processor time a call"
        )

    def _call(self, name: str, call: Callable[[], object], times: int) -> None:
        for _ in range(50):
            call()
        took = []
        for _ in range(times):
            start = time.perf_counter()
            call()
            took.append((time.perf_counter() - start) * 1000)
        took.sort()
        self.findings[name] = {"p50_ms": statistics.median(took), "p99_ms": took[int(len(took) * 0.99)]}
        self._say(f"{name}: p50 {self.findings[name]['p50_ms']:.2f} p99 {self.findings[name]['p99_ms']:.2f} ms")

    def _measure_memory(self, bus: RunningBus) -> None:
        """Resident memory of the largest serving process after the first tenth of the calls, and after all."""
        sent = 0
        while sent < self._memory_calls:
            count = min(CALLS_AT_ONCE, self._memory_calls - sent)
            result = run_load(_submit_requests(bus.key, count), port=bus.port, connections=16)
            if result.accepted != count:
                raise RuntimeError(f"memory: {dict(result.statuses)}")
            sent += count
            megabytes = sample(bus.web.pids).largest_rss_bytes / 2**20
            if "before_mb" not in self.memory and sent >= self._memory_calls // 10:
                self.memory["before_mb"] = megabytes
            self.memory["after_mb"] = megabytes
            self.memory["calls"] = sent
            self._say(f"memory after {sent} SOAP submits: {megabytes:.0f} MB")


# ---- What is sent


def _submissions(signer: Signer, count: int) -> list[tuple[Manifest, bytes]]:
    """Envelopes of SubmitMessage with the manifest block; the payload is a dossier of 3 KB."""
    made = []
    for dossier in make_dossiers(count):
        manifest = _manifest(SERVICE, dossier.body, "application/json", dossier.message_id, dossier.code)
        payload = base64.b64encode(dossier.body).decode()
        body = (
            f'<SubmitMessage xmlns="{EXCHANGE_NS}"><contentType>application/json</contentType>'
            f"<payload>{payload}</payload></SubmitMessage>"
        )
        made.append((manifest, _envelope(body.encode(), manifest, signer)))
    return made


def _submit_requests(signer: Signer, count: int) -> list[bytes]:
    return [http_request("/soap/exchange", body, headers=_TEXT_XML) for _, body in _submissions(signer, count)]


def _rest_requests(signer: Signer, count: int) -> list[bytes]:
    made = []
    for dossier in make_dossiers(count):
        manifest = _manifest(SERVICE, dossier.body, "application/json", dossier.message_id, dossier.code)
        made.append(_rest(dossier.body, manifest, signer))
    return made


def _citizen_requests(signer: Signer, count: int) -> list[bytes]:
    manifests = (_manifest(CITIZEN, QUESTION_JSON, "application/json") for _ in range(count))
    return [_rest(QUESTION_JSON, manifest, signer) for manifest in manifests]


def _enterprise_requests(signer: Signer, count: int) -> list[bytes]:
    question = payload_bytes(
        read_xml(
            b'<EnterpriseDetail xmlns="urn:lgsp:service:enterprise.detail:1:request"><msdn>9900000016</msdn>'
            b"</EnterpriseDetail>"
        )
    )
    manifests = (_manifest(ENTERPRISE, question, "application/xml") for _ in range(count))
    return [
        http_request(f"/soap/services/{ENTERPRISE}", _envelope(question, manifest, signer), headers=_TEXT_XML)
        for manifest in manifests
    ]


def _rest(body: bytes, manifest: Manifest, signer: Signer) -> bytes:
    headers = {"Content-Type": manifest.content_type, "Lgsp-Manifest": sign_manifest(manifest, signer)}
    return http_request("/v1/exchange", body, headers=headers)


def _envelope(payload: bytes, manifest: Manifest, signer: Signer) -> bytes:
    block = f'<Manifest xmlns="{EXCHANGE_NS}">{sign_manifest(manifest, signer)}</Manifest>'
    return write_soap(SoapVersion.V11, payload, [block.encode()])


def _manifest(
    service: ServiceCode,
    body: bytes,
    content_type: str,
    message_id: MessageId | None = None,
    dossier: DossierCode | None = None,
) -> Manifest:
    return Manifest(
        message_id=message_id or MessageId(str(uuid6.uuid7())),
        sender=SENDER,
        receivers=(RECEIVER,),
        service=service,
        service_version=1,
        issued_at=datetime.now(UTC).replace(microsecond=0),
        content_type=content_type,
        body_sha256=sha256_hex(body),
        body_length=len(body),
        dossier=dossier,
    )


# ---- Who answers


def _services(url: str) -> list[Entry]:
    """A SOAP provider that REST consumers call, and a REST provider that SOAP consumers call."""
    types = (PARTNERS / "population" / "population.xsd").read_text(encoding="utf-8")
    detail = PARTNERS / "business_registry"

    def system(name: str, connector: str, path: str, service: ServiceCode) -> System:
        endpoint = Endpoint(connector=connector, url=f"{url}{path}")
        code = SystemCode(f"{RECEIVER}/{name}")
        return System(code=code, name=name, mode=DeliveryMode.PUSH, endpoint=endpoint, receives=(service,))

    return [
        system("dan-cu", "soap", "/soap", CITIZEN),
        system("doanh-nghiep", "rest", "", ENTERPRISE),
        Service(
            code=CITIZEN,
            version=1,
            name="Tra cứu công dân",
            owner=RECEIVER,
            pattern=Pattern.REQUEST_REPLY,
            content_types=("application/xml", "application/json"),
            schema=types,
            reply_schema=types,
            element=f"{{http://dancuquocgia.bca}}{OPERATION}",
            reply_element=read_xml((PARTNERS / "population" / f"{OPERATION}Response.example.xml").read_bytes()).tag,
            provider=Provider(call=SoapCall(wsdl=WSDL, operation=OPERATION)),
        ),
        Service(
            code=ENTERPRISE,
            version=1,
            name="Chi tiết doanh nghiệp",
            owner=RECEIVER,
            pattern=Pattern.REQUEST_REPLY,
            schema=json.loads((detail / "enterprise-detail.schema.json").read_text(encoding="utf-8")),
            reply_schema=json.loads((detail / "enterprise-detail-reply.schema.json").read_text(encoding="utf-8")),
            provider=Provider(call=HttpCall(method="GET", path="/rest", query=("msdn",), body="")),
        ),
        Grant(id="citizen", service=CITIZEN, grantee=SENDER),
        Grant(id="enterprise", service=ENTERPRISE, grantee=SENDER),
    ]


def _bare_zeep(url: str) -> Callable[[], object]:
    import zeep

    with tempfile.NamedTemporaryFile(suffix=".wsdl") as file:
        file.write(WSDL.encode())
        file.flush()
        client: Any = zeep.Client(file.name)  # type: ignore[no-untyped-call]
    service = client.create_service(next(iter(client.wsdl.bindings)), f"{url}/soap")
    question = json.loads(QUESTION_JSON)
    return lambda: service[OPERATION](**question)


def _connector(url: str) -> Callable[[], object]:
    connector = SoapConnector(HttpClient())
    endpoint = Endpoint(connector="soap", url=f"{url}/soap")
    parcel = Parcel(
        manifest=_manifest(CITIZEN, QUESTION_XML, "application/xml"),
        manifest_jws="x",
        receipt_jws="x",
        body=QUESTION_XML,
        receiver=RECEIVER,
        traceparent="00-" + "1" * 32 + "-" + "1" * 16 + "-01",
        call=SoapCall(wsdl=WSDL, operation=OPERATION),
    )
    return lambda: connector.deliver(parcel, endpoint, None)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="lgsp bench --soap", description=__doc__)
    parser.add_argument("--calls", type=int, default=4_000, help="calls of each measurement (default 4000)")
    parser.add_argument("--memory-calls", type=int, default=100_000, help="calls of the memory run (default 100000)")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder for the results")
    options = parser.parse_args(arguments)
    bench = SoapBench(options.calls, options.memory_calls, lambda text: print(text, flush=True))
    bench.run()
    facts = {"findings": bench.findings, "memory": bench.memory, "ratios": bench.ratios()}
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"soap-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")
    for name, value in bench.ratios().items():
        print(f"{name}: {value:.2f}")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
