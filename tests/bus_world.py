"""A small province for tests: an initialised bus, members with real keys, signed messages, the real application on
loopback.

::

    with bus_world(tmp_path) as world, world.serving() as url:
        answer = post(url, world.signed())          # H99.15 sends a note about a dossier to H99.16
        assert answer.status == 202

Members (all invented, under codes that nobody owns):

    H99                    the province            H99/lgsp-bus        the bus itself, the operator's system
    ├── H99.15             a department            H99.15/mot-cua      sends by key or by secret
    │   └── H99.15.01      its one-stop            H99.15.01/tiep-nhan inbox, holds no grant
    ├── H99.16             another department      H99.16/kho          inbox, receives
    └── H99.17             a third                 H99.17/tam-ngung    suspended
    G99                    a ministry              G99/csdl            is called (connector ``rest``)

Services: see ``SERVICES``. Everybody's key is made once per process; a fresh home costs about a tenth of a second.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import urllib3
import uuid6
from sqlalchemy import inspect, text

from bus.assembly import Bus, open_bus
from bus.settings import Settings, child_environment, load_settings
from bus.setup import initialise
from bus.web.app import create_app
from bus.worker import Worker
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
    Quota,
    RetryPolicy,
    Service,
    Stage,
    System,
)
from schemas.identifiers import AgencyCode, DossierCode, MessageId, ServiceCode, SystemCode
from schemas.message import AttachmentReference, Grade, Manifest
from schemas.moment import utc_now
from security.certificates import read_certificate
from security.keys import SigningKey
from security.signing import sign_manifest
from security.tokens import hash_secret
from tests.loopback import closed_port, serving

SENDER, RECEIVER, MINISTRY, OUTSIDER = map(AgencyCode, ("H99.15", "H99.16", "G99", "H99.15.01"))
OPERATOR = SystemCode("H99/lgsp-bus")
SENDING = SystemCode("H99.15/mot-cua")
RECEIVING = SystemCode("H99.16/kho")
ANSWERING = SystemCode("G99/csdl")
UNGRANTED = SystemCode("H99.15.01/tiep-nhan")
SUSPENDED = SystemCode("H99.17/tam-ngung")
#: The client secret of ``SENDING``.
SECRET = "8x-Qm2vTz_r41LkWcY7Bn-Ue30sJdPfo"
TRANSFER, NOTE, LOOKUP, PAPER = map(
    ServiceCode, ("dossier.transfer", "dossier.note", "population.lookup", "document.send")
)

#: A dossier's transfer needs a title and may say how many pages it has, and nothing else.
TRANSFER_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["title"],
    "properties": {
        "title": {"type": "string", "maxLength": 200},
        "pages": {"type": "integer", "minimum": 1},
        "note": {"type": "string", "maxLength": 20},
    },
    "additionalProperties": False,
}
GOOD = {"title": "Đăng ký khai sinh", "pages": 3}


def _service(code: str, **facts: Any) -> Service:
    defaults: dict[str, Any] = {"version": 1, "owner": AgencyCode("H99"), "pattern": Pattern.ONE_WAY}
    return Service(code=ServiceCode(code), name=f"Dịch vụ {code}", **{**defaults, **facts})


SERVICES: tuple[Service, ...] = (
    _service(
        TRANSFER,
        schema=TRANSFER_SCHEMA,
        ordering=Ordering.DOSSIER,
        retry=RetryPolicy(max_attempts=3, first_delay_seconds=0.05, max_delay_seconds=0.2),
    ),
    _service(TRANSFER, version=2, stage=Stage.DRAFT),
    _service(NOTE, grade=Grade.ATTESTED),
    _service(LOOKUP, pattern=Pattern.REQUEST_REPLY, grade=Grade.ATTESTED),
    _service(PAPER, content_types=("application/xml",)),
    _service("dossier.archive"),
    _service("dossier.limited"),
    _service("dossier.counted"),
)


def _grant(name: str, service: str, **facts: Any) -> Grant:
    return Grant(id=name, service=ServiceCode(service), **{"grantee": SENDER, **facts})


GRANTS: tuple[Grant, ...] = (
    _grant("transfer", TRANSFER, purposes=("giai-quyet-tthc",)),
    _grant("note", NOTE),
    _grant("lookup", LOOKUP),
    _grant("paper", PAPER),
    _grant("archive-expired", "dossier.archive", expires_at=datetime(2026, 1, 1, tzinfo=UTC)),
    _grant("limited", "dossier.limited", receivers=(MINISTRY,)),
    _grant("counted", "dossier.counted", quota=Quota(per_day=1)),
)

_AGENCIES = (
    Agency(code=AgencyCode("H99"), name="Tỉnh Thử Nghiệm"),
    Agency(code=SENDER, name="Sở Mẫu", parent=AgencyCode("H99")),
    Agency(code=OUTSIDER, name="Bộ phận Một cửa Sở Mẫu", parent=SENDER),
    Agency(code=RECEIVER, name="Sở Nhận", parent=AgencyCode("H99"), aliases=("000.00.16.H99",)),
    Agency(code=AgencyCode("H99.17"), name="Sở Tạm Ngưng", parent=AgencyCode("H99")),
    Agency(code=MINISTRY, name="Bộ Thử Nghiệm"),
)


@cache
def key_of(system: str) -> SigningKey:
    """The signing key of a system, the same all through one process."""
    return SigningKey.generate(name=system)


def certificate_of(key: SigningKey, **facts: Any) -> Certificate:
    """The key's certificate as the registry keeps it."""
    read = read_certificate(key.certificate_pem)
    return Certificate(
        key_id=read.key_id,
        pem=read.pem,
        thumbprint=read.thumbprint,
        not_before=read.not_before,
        not_after=read.not_after,
        **facts,
    )


@cache
def _secret_hash() -> str:
    return hash_secret(SECRET)


def members(partner_url: str) -> list[Entry]:
    """The province's registry; ``partner_url`` is where the ministry's system is called."""

    def system(code: SystemCode, **facts: Any) -> System:
        held = facts.pop("certificates", (certificate_of(key_of(code)),))
        return System(code=code, name=f"Hệ thống {code}", certificates=held, **facts)

    retired = certificate_of(key_of("retired"), revoked_at=utc_now() - timedelta(days=1))
    return [
        *_AGENCIES,
        system(OPERATOR, sends_only=True, certificates=()),
        system(
            SENDING,
            client_secret_hash=_secret_hash(),
            certificates=(certificate_of(key_of(SENDING)), retired),
        ),
        system(UNGRANTED),
        system(RECEIVING),
        system(SUSPENDED, suspended=True),
        system(
            ANSWERING,
            mode=DeliveryMode.PUSH,
            endpoint=Endpoint(connector="rest", url=f"{partner_url}/in", timeout_seconds=5.0),
        ),
        *SERVICES,
        *GRANTS,
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A message ready to be posted; ``dataclasses.replace`` makes it hostile."""

    manifest: Manifest
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True, kw_only=True)
class World:
    """One bus with its members. ``bus`` is this process's share of it; servers started from here have their own."""

    settings: Settings
    bus: Bus
    #: Variables that give another process this bus.
    environment: Mapping[str, str] = field(default_factory=dict)

    def register(self, *entries: Entry, remove: Iterable[Entry] = ()) -> None:
        """Put entries into the registry (this process sees them at once, others within a second)."""
        store = self.bus.registry
        store.apply(plan_changes(store.load(), entries, remove), "test")
        self.bus.directory.refresh()

    def signed(
        self,
        payload: Any = GOOD,
        *,
        service: str = TRANSFER,
        version: int = 1,
        receivers: Iterable[str] = (RECEIVER,),
        sender: str = SENDER,
        purpose: str = "giai-quyet-tthc",
        key: SigningKey | None = None,
        issued_at: datetime | None = None,
        message_id: str = "",
        dossier: str = "",
        content_type: str = "application/json",
        attachments: Iterable[AttachmentReference] = (),
        headers: Mapping[str, str] | None = None,
        **facts: Any,
    ) -> Signed:
        """A message with its signed manifest; ``payload`` is bytes, or becomes JSON."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
        manifest = Manifest(
            message_id=MessageId(message_id or str(uuid6.uuid7())),
            sender=AgencyCode(sender),
            receivers=tuple(map(AgencyCode, receivers)),
            service=ServiceCode(service),
            service_version=version,
            issued_at=(issued_at or utc_now()).replace(microsecond=0),
            content_type=content_type,
            body_sha256=hashlib.sha256(body).hexdigest(),
            body_length=len(body),
            purpose=purpose,
            attachments=tuple(attachments),
            dossier=DossierCode(dossier) if dossier else None,
            **facts,
        )
        jws = sign_manifest(manifest, key or key_of(SENDING))
        return Signed(
            manifest=manifest,
            body=body,
            headers={"Content-Type": content_type, "Lgsp-Manifest": jws, **(headers or {})},
        )

    def token(self, system: str = SENDING) -> str:
        """A bearer token, as the bus itself would hand it out."""
        return self.bus.tokens.issue(SystemCode(system), now=utc_now())

    def bearer(self, system: str = SENDING, **headers: str) -> dict[str, str]:
        """Headers of a caller that shows a token; underscores in names become hyphens."""
        return {"Authorization": f"Bearer {self.token(system)}"} | {k.replace("_", "-"): v for k, v in headers.items()}

    def rows(self) -> dict[str, int]:
        """How many rows each table holds, and under ``counter <name> <label>`` where each durable counter stands.
        What processes tell each other of themselves is left out, and how long their commits took: it changes with time
        alone; and so are the parts in which PostgreSQL keeps a table, for they are counted in it."""
        with self.bus.store.reading() as connection:
            tables = set(inspect(connection).get_table_names()) - {"alembic_version", "nodes", "duties"}
            tables = {name for name in tables if not re.search(r"_([0-9]{15}|rest)$", name)}
            counted = {
                name: connection.execute(text(f'SELECT COUNT(*) FROM "{name}"')).scalar_one()  # noqa: S608 - own names
                for name in sorted(tables)
            }
        counters = {
            f"counter {name} {label}": value
            for (name, label), value in self.bus.ledger.totals().items()
            if not name.startswith("commit_")
        }
        return counted | {"counters": len(counters)} | counters

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The application of this very process on a free loopback port, threaded; its URL."""
        with serving(create_app(self.bus)) as recorded:
            yield recorded.url

    @contextmanager
    def server_process(self, **changed: object) -> Iterator[str]:
        """The real server (`lgsp serve`, one worker) in a process of its own; its URL.

        ``changed`` settings win. Its log is ``home/serve.log``.
        """
        port = closed_port()
        settings = load_settings({"port": port, "serve_processes": 1, **changed}, environ=self.environment)
        log_path = self.settings.home / "serve.log"
        with log_path.open("ab") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "bus.web.server"],
                env=child_environment(settings),
                cwd=Path(__file__).resolve().parent.parent,
                stdout=log,
                stderr=log,
            )
        try:
            _wait_for_port(port, server, log_path)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@contextmanager
def bus_world(folder: Path, *, partner_url: str = "http://127.0.0.1:9", **settings: object) -> Iterator[World]:
    """A bus in ``folder`` (a ``tmp_path``) with the members above; closed at the end.

    ``settings`` are settings of the bus by name. ``partner_url``: where the ministry's system is called.
    """
    home = folder / "home"
    environment = {"LGSP_HOME": str(home)} | {f"LGSP_{name.upper()}": str(value) for name, value in settings.items()}
    shutil.copytree(_template(), home)
    loaded = load_settings(environ=environment)
    if loaded.store_url:
        initialise(loaded)
    bus = open_bus(loaded)
    try:
        world = World(settings=loaded, bus=bus, environment=environment)
        world.register(*members(partner_url))
        yield world
    finally:
        bus.close()


@contextmanager
def delivering(bus: Bus) -> Iterator[None]:
    """A deliverer in this process, alive for the whole block."""
    worker = Worker(bus)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join()


def post(url: str, message: Signed, **headers: str) -> Answer:
    """Send a message to ``/v1/exchange``; underscores in names of headers become hyphens."""
    return ask("POST", f"{url}/v1/exchange", message.body, {**message.headers, **_hyphenated(headers)})


def ask(method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
    """One request on a connection of its own; no retries, no redirects."""
    with urllib3.PoolManager(retries=False, timeout=30) as pool:
        response = pool.request(method, url, body=body, headers=dict(headers or {}), redirect=False)
        return Answer(
            status=response.status,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=response.data,
        )


def _hyphenated(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@cache
def _template() -> Path:
    """A home as `lgsp init` leaves it, made once per process: a copy costs a tenth of the real thing."""
    folder = Path(tempfile.mkdtemp(prefix="bus-world-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    initialise(load_settings(environ={"LGSP_HOME": str(folder / "home")}))
    return folder / "home"


def _wait_for_port(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    patience_ends = time.monotonic() + 20
    while time.monotonic() < patience_ends:
        if server.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.03)
    raise AssertionError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")
