"""Sets the demonstration's province up: keys of its members, registry, secrets, and its processes: the twins, and one
`serve` and one `work`, or several of each behind a proxy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bus.assembly import Bus, open_bus
from bus.cli.members import file_name, write_key, write_secret
from bus.people import AuditEvent, People, PersonRole, trail_name
from bus.registration import plan_registration
from bus.settings import Settings, child_environment, variable_name
from bus.setup import initialise
from connectors.client import AgencyClient
from connectors.sandbox.credentials import open_credentials
from registry.changes import plan_changes
from registry.manifests import read_manifests
from schemas.identifiers import SystemCode
from schemas.moment import utc_now
from security.keys import SigningKey
from security.tokens import hash_secret, verify_secret

#: Members that sign for themselves in the story.
SIGNING = (SystemCode("G99/cong-dvc"), SystemCode("H99.15/mot-cua"), SystemCode("H99.20/van-thu"))
#: A member that does not sign yet: it earns a token with its client secret.
WITHOUT_KEY = SystemCode("H99.15/bao-cao")
#: The device at the ward's counter, which cannot sign either.
KIOSK = SystemCode("H99.20/kiosk-01")
#: Who signs in to the console of the demonstration; may do everything.
ADMINISTRATOR = "quan-tri"
#: Sealed secret → twin that it logs in to; a second one is what that partner logs in to the bus with.
_SECRETS = {
    "national-portal": "national_portal national_portal_inbound",
    "national-portal-2025": "national_portal_2025",
    "result-store": "result_store",
    "one-stop": "one_stop",
    "business-registry": "business_registry",
    "population": "population",
    "paygov": "paygov",
    "edoc": "edoc",
    "post": "post",
    "sms": "sms",
    "zalo": "zalo",
    "social-insurance": "social_insurance",
    "social-protection": "social_protection",
    "driver-licence": "driver_licence",
    "payment": "payment",
    "civil-status": "civil_status",
    "criminal-record": "criminal_record",
    "land": "land",
    "residence": "residence",
    "health-card": "health_card",
    "tax": "tax",
    "petition": "petition",
}
_READY_SECONDS = 60.0
_STOP_SECONDS = 20.0
#: A device repeats a call that got no answer so often, under the same message id.
_DEVICE_ATTEMPTS = 20


class ProvinceFailed(RuntimeError):
    """A process of the demonstration did not come up or ended; the text says which and where its log is."""


class Process:
    """One process of the province. It may end and be started again; its log goes on."""

    def __init__(self, name: str, module: str, settings: Settings, port: int = 0) -> None:
        """``port``: where it serves, when not where the settings say."""
        self.name = name
        self._module = module
        self._home = settings.home
        self._environment = child_environment(settings)
        if port:
            self._environment[variable_name("port")] = str(port)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """0 before its first start."""
        return self._process.pid if self._process else 0

    @property
    def log(self) -> Path:
        return self._home / f"{self.name}.log"

    def start(self) -> None:
        """Once it has never run, or has ended."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def wait_until_ended(self) -> None:
        """Of a process that was killed: it is then no zombie, and may be started again."""
        if self._process is not None:
            self._process.wait(_STOP_SECONDS)

    def check(self) -> None:
        """Raises ProvinceFailed when it has ended."""
        if self._process is None or self._process.poll() is not None:
            last_words = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
            raise ProvinceFailed("\n  ".join([f"lgsp {self.name} ended by itself; its last words:", *last_words]))

    def wait_for(self, url: str) -> None:
        """Until it answers at this address. Raises ProvinceFailed."""
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            self.check()
            try:
                with urllib.request.urlopen(url, timeout=2):  # noqa: S310  # the address is this machine's
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise ProvinceFailed(f"lgsp {self.name} did not answer within {_READY_SECONDS:.0f} s; see {self.log}")

    def stop(self) -> None:
        """SIGTERM; when patience ends, SIGKILL."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """The running processes of a bus."""

    #: Address → the `serve` that listens there.
    serves: Mapping[str, Process]
    works: Sequence[Process]


@dataclass(frozen=True, slots=True, kw_only=True)
class Province:
    """A running province."""

    settings: Settings
    #: This process's own view of the bus, for looking at the ledger as an operator.
    bus: Bus
    members_folder: Path
    nodes: Nodes
    #: The first password of :data:`ADMINISTRATOR`, made anew each time.
    password: str = ""

    @property
    def bus_url(self) -> str:
        return self.settings.public_url

    @property
    def sandbox_url(self) -> str:
        return f"http://{self.settings.host}:{self.settings.sandbox_port}"

    def client(self, system: SystemCode) -> AgencyClient:
        """What the member's own software would use."""
        key = SigningKey.load(self.members_folder / f"{file_name(system)}.pem")
        return AgencyClient(self.bus_url, key, system=system, bus_keys=self.bus.ring.public_jwks())

    def from_device(self, system: SystemCode, service: str, receiver: str, payload: Any, message_id: str) -> Any:
        """What a device does that cannot sign: a token for its secret, then the message; the receipt's document."""
        secret = (self.members_folder / f"{file_name(system)}.secret").read_text("ascii")
        form = {"grant_type": "client_credentials", "client_id": system, "client_secret": secret}
        token = json.loads(fetched(f"{self.bus_url}/v1/oauth/token", urlencode(form).encode()))["access_token"]
        facts = {"Lgsp-Service": service, "Lgsp-Receiver": receiver, "Lgsp-Message-Id": message_id}
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}", **facts}
        body = json.dumps(payload, ensure_ascii=False).encode()
        return json.loads(fetched(f"{self.bus_url}/v1/exchange", body, headers))

    def sandbox(self, path: str, document: Any = None, *, method: str = "") -> Any:
        """Ask the sandbox's controls: GET, or PUT (another ``method``) when there is something to say."""
        return self.partner(f"/_sandbox{path}", document, method=method)

    def partner(self, path: str, document: Any = None, *, method: str = "") -> Any:
        """The same at any address of the sandbox: what people do at a partner's desk."""
        data = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(  # noqa: S310  # the address is this machine's
            f"{self.sandbox_url}{path}",
            data=data,
            method=method or ("GET" if data is None else "PUT"),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.load(answer)


def fetched(url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> bytes:
    """What is answered; asked again while the bus is not there, or says that it is not at its best."""
    request = urllib.request.Request(url, data=body, headers=dict(headers or {}))  # noqa: S310  # this machine's
    for attempt in range(1, _DEVICE_ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return bytes(answer.read())
        except (OSError, HTTPException) as error:
            refused = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if refused or attempt == _DEVICE_ATTEMPTS:
                raise
            time.sleep(0.5)
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def running_province(settings: Settings, *, serve_ports: Sequence[int] = (), works: int = 1) -> Iterator[Province]:
    """The province with its processes up; they are stopped, by their own ids, on the way out.

    With several ``serve_ports`` the settings' public address is that of a proxy before them. Raises ProvinceFailed,
    OSError.
    """
    with ExitStack() as stack:
        bus = set_up(settings)
        stack.callback(bus.close)
        sandbox = Process("sandbox", "bus.web.sandbox_server", settings)
        sandbox.start()
        stack.callback(sandbox.stop)
        nodes = stack.enter_context(running_nodes(settings, serve_ports=serve_ports, works=works))
        province = Province(
            settings=settings, bus=bus, members_folder=members_folder(settings), nodes=nodes, password=give_account(bus)
        )
        sandbox.wait_for(f"{province.sandbox_url}/_sandbox")
        yield province
        sandbox.check()


@contextmanager
def running_nodes(settings: Settings, *, serve_ports: Sequence[int] = (), works: int = 1) -> Iterator[Nodes]:
    """One `serve` on the settings' port, or one on each of these, and so many `work`; stopped on the way out.

    Whoever ends one of them starts it again before that. Raises ProvinceFailed.
    """
    ports = tuple(serve_ports) or (settings.port,)
    nodes = Nodes(
        serves={
            f"http://{settings.host}:{port}": Process(
                _numbered("serve", number, len(ports)), "bus.web.server", settings, port
            )
            for number, port in enumerate(ports, 1)
        },
        works=[Process(_numbered("work", number, works), "bus.work", settings) for number in range(1, works + 1)],
    )
    with ExitStack() as stack:
        for process in (*nodes.serves.values(), *nodes.works):
            process.start()
            stack.callback(process.stop)
        for address, process in nodes.serves.items():
            process.wait_for(f"{address}/v1/keys")
        yield nodes
        for process in (*nodes.serves.values(), *nodes.works):
            process.check()


def _numbered(name: str, number: int, of: int) -> str:
    return name if of == 1 else f"{name}-{number}"


def set_up(settings: Settings, clock: Callable[[], datetime] = utc_now) -> Bus:
    """Keys, registry and secrets of the province, and its bus, of which no process runs yet. Again is harmless.

    ``clock`` says which deliveries are due (:func:`bus.assembly.open_bus`).
    """
    members = members_folder(settings)
    initialise(settings)
    members.mkdir(parents=True, exist_ok=True, mode=0o700)
    for system in SIGNING:
        write_key(members, system, settings.public_url)
    bus = open_bus(settings, clock=clock)
    with ExitStack() as on_failure:
        on_failure.callback(bus.close)
        credentials = open_credentials(settings.sandbox_credentials_path)
        _register(bus, settings, members)
        for system in (WITHOUT_KEY, KIOSK):
            _give_client_secret(bus, system, members)
        for name, twins in _SECRETS.items():
            secret = "\n".join(credentials[twin] for twin in twins.split()).encode()
            bus.registry.put_secret(name, bus.secrets.seal(name, secret), "demo")
        on_failure.pop_all()
    return bus


def tell_nobody_of_events(bus: Bus) -> None:
    """For those who count messages: events are messages of the bus's own, and come when they come."""
    held = bus.registry.load()
    bus.registry.apply(plan_changes(held, (), held.subscriptions.values()), "demo")


def give_account(bus: Bus) -> str:
    """An account for the console with a password of its own, made anew: nothing here has a default one."""
    people, now = People(bus.store, bus.secrets), utc_now()
    if people.find(ADMINISTRATOR) is None:
        people.add(ADMINISTRATOR, display_name="Quản trị (thử nghiệm)", roles=list(PersonRole), now=now, by="demo")
    event = AuditEvent(at=now, person="demo", action="password.reset", target=trail_name(ADMINISTRATOR))
    password = people.new_password(ADMINISTRATOR, event)
    # Whoever started the demonstration has it from their own terminal: nobody else has read it.
    people.change(ADMINISTRATOR, replace(event, action="password.chosen"), must_change=0, disabled_at=None)
    return password


def members_folder(settings: Settings) -> Path:
    return settings.home / "members"


def _give_client_secret(bus: Bus, system: SystemCode, folder: Path) -> None:
    """The client secret of a member that cannot sign: a file for the member, a hash for the registry."""
    held = bus.registry.load().system(system)
    if held is None:
        raise ProvinceFailed("the registry of the demonstration is not complete")
    secret, _ = write_secret(folder, system)
    if verify_secret(held.client_secret_hash, secret):
        return
    changed = replace(held, client_secret_hash=hash_secret(secret))
    bus.registry.apply(plan_changes(bus.registry.load(), [changed]), "demo")


def _register(bus: Bus, settings: Settings, folder: Path) -> None:
    """Write the manifests beside the certificates, as a registrar would have them, and apply them."""
    here = Path(__file__).parent
    schemas = os.path.relpath(here.parent.parent / "schemas", folder)
    text = (here / "province.yaml").read_text(encoding="utf-8")
    text = text.replace("{sandbox}", f"http://{settings.host}:{settings.sandbox_port}").replace("{schemas}", schemas)
    manifest = folder / "province.yaml"
    manifest.write_text(text, encoding="utf-8")
    bus.registry.apply(plan_registration(bus.registry, read_manifests([manifest])), "demo")
