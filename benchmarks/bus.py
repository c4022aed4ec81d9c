"""The bus as the measurements run it: fresh home, one sender, one receiver (the sink), evidence on, full durability."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Running, free_port, start_server
from bus.settings import Settings, load_settings
from bus.setup import initialise
from bus.store import open_store
from registry.changes import plan_changes
from registry.model import (
    Agency,
    Certificate,
    DeliveryMode,
    Endpoint,
    Entry,
    Grant,
    Ordering,
    Pattern,
    Service,
    System,
)
from registry.store import RegistryStore
from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from security.certificates import read_certificate
from security.keys import SigningKey

SENDER = AgencyCode("H99.15")
RECEIVER = AgencyCode("H99.16")
SERVICE = ServiceCode("dossier.transfer")
SCHEMA = Path(__file__).resolve().parent.parent / "schemas" / "documents" / "dossier.schema.json"


@dataclass(slots=True, kw_only=True)
class RunningBus:
    """A bus in its own processes; there are no ``workers`` where only the accept path is measured."""

    web: Running
    workers: tuple[Running, ...]
    home: Path
    key: SigningKey

    @property
    def port(self) -> int:
        return self.web.port

    def pids(self) -> list[int]:
        return [*self.web.pids, *self.worker_pids()]

    def worker_pids(self) -> list[int]:
        return [pid for worker in self.workers for pid in worker.pids]

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop(patience_seconds=20)
        self.web.stop()


def start_bus(
    home: Path,
    sink_url: str,
    *,
    deliver: bool = True,
    workers: int = 1,
    environment: dict[str, str] | None = None,
    more: Sequence[Entry] = (),
) -> RunningBus:
    """Initialise ``home``, register sender, receiver and service (and ``more``), start web and delivery processes."""
    port = free_port()
    variables = {"LGSP_PORT": str(port), "LGSP_LOG_LEVEL": "info", **(environment or {}), "LGSP_HOME": str(home)}
    _, key = make_home(home, sink_url, variables, more)
    log = (home / "bus.log").open("ab")
    web = start_server(
        "lgsp serve", [sys.executable, "-m", "bus.web.server"], port=port, environment=variables, log=log
    )
    running = tuple(
        start_server("lgsp work", [sys.executable, "-m", "bus.work"], port=port, environment=variables, log=log)
        for _ in range(workers if deliver else 0)
    )
    return RunningBus(web=web, workers=running, home=home, key=key)


def make_home(
    home: Path, sink_url: str, variables: dict[str, str] | None = None, more: Sequence[Entry] = ()
) -> tuple[Settings, SigningKey]:
    """A fresh bus in ``home`` with one sender, whose key is returned, and one receiver at the sink."""
    settings = load_settings(environ={"LGSP_HOME": str(home), **(variables or {})})
    initialise(settings)
    key = SigningKey.generate(name=f"{SENDER}/mot-cua")
    _register(settings, key, sink_url, more)
    return settings, key


def _register(settings: Settings, key: SigningKey, sink_url: str, more: Sequence[Entry]) -> None:
    certificate = read_certificate(key.certificate_pem)
    entries: list[Entry] = [
        Agency(code=AgencyCode("H99"), name="Tỉnh Thử Nghiệm"),
        Agency(code=SENDER, name="Sở Mẫu", parent=AgencyCode("H99")),
        Agency(code=RECEIVER, name="Sở Nhận", parent=AgencyCode("H99")),
        System(
            code=SystemCode(f"{SENDER}/mot-cua"),
            name="Một cửa",
            certificates=(
                Certificate(
                    key_id=certificate.key_id,
                    pem=certificate.pem,
                    thumbprint=certificate.thumbprint,
                    not_before=certificate.not_before,
                    not_after=certificate.not_after,
                ),
            ),
        ),
        System(
            code=SystemCode(f"{RECEIVER}/kho"),
            name="Kho",
            mode=DeliveryMode.PUSH,
            endpoint=Endpoint(connector="rest", url=f"{sink_url}/in"),
        ),
        Service(
            code=SERVICE,
            version=1,
            name="Chuyển hồ sơ",
            owner=AgencyCode("H99"),
            pattern=Pattern.ONE_WAY,
            ordering=Ordering.DOSSIER,
            schema=json.loads(SCHEMA.read_text(encoding="utf-8")),
        ),
        Grant(id="bench", service=SERVICE, grantee=SENDER),
        *more,
    ]
    store = open_store(settings)
    registry = RegistryStore(store.engine)
    registry.apply(plan_changes(registry.load(), entries), "benchmark")
    store.close()
