"""Login by client certificate: whose word on it is believed, whose certificate it is, and the real proxy in front."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
import urllib3
import uuid6
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bus.settings import BadSetting, load_settings
from bus.web.proxies import TrustedProxies
from schemas.identifiers import SystemCode
from schemas.moment import utc_now
from schemas.problem import NotIdentified
from security.certificates import SandboxAuthority, key_record, read_certificate
from security.client_certificates import identify_by_certificate
from security.keys import PublicKeyRecord, SigningKey
from tests.bus_world import (
    RECEIVING,
    SENDING,
    Answer,
    World,
    ask,
    bus_world,
    certificate_of,
    key_of,
)
from tests.debian import program
from tests.loopback import closed_port

PROXY = Path(__file__).resolve().parent.parent / "docker" / "proxy" / "haproxy.cfg"
SYSTEM = SystemCode("H99.15/mot-cua")
KEY = SigningKey.generate(name=SYSTEM)
RECORD = key_record(read_certificate(KEY.certificate_pem), SYSTEM)


class Directory:
    def __init__(self, *records: PublicKeyRecord) -> None:
        self.records = {record.key_id: record for record in records}

    def find_key(self, key_id: str) -> PublicKeyRecord | None:
        return self.records.get(key_id)


def der_of(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)


def header_of(pem: str) -> str:
    """RFC 9440."""
    return f":{base64.b64encode(der_of(pem)).decode()}:"


GOOD = header_of(KEY.certificate_pem)


# ---- whose certificate is it?


def test_a_registered_certificate_is_its_systems() -> None:
    assert identify_by_certificate(GOOD, Directory(RECORD), utc_now()) == RECORD


def _weak() -> str:
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    now = utc_now()
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


UNREADABLE = {
    "nothing": ":",
    "empty": "::",
    "no colons": GOOD.strip(":"),
    "one colon": GOOD[:-1],
    "PEM": KEY.certificate_pem.replace("\n", " "),
    "two": f"{GOOD}, {GOOD}",
    "two, the second a stranger's": f"{GOOD},:AAAA:",
    "a parameter": f"{GOOD};a=1",
    "url-safe base64": GOOD.replace("+", "-").replace("/", "_") + "-",
    "cut short": f":{base64.b64encode(der_of(KEY.certificate_pem)[:-9]).decode()}:",
    "more behind it": f":{base64.b64encode(der_of(KEY.certificate_pem) + b'x').decode()}:",
    "no certificate": f":{base64.b64encode(b'certificate').decode()}:",
    "a curve that is not taken": header_of(_weak()),
    "too long": f":{'A' * 20000}:",
    "another header smuggled in": f"{GOOD}\r\nLgsp-User: x",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_certificate_identifies_nobody(name: str) -> None:
    with pytest.raises(NotIdentified) as refused:
        identify_by_certificate(UNREADABLE[name], Directory(RECORD), utc_now())
    assert refused.value.reason == "client-certificate-unreadable"


OTHER = SigningKey.generate(name=SYSTEM)
RECORDS = {
    "nobody's": (Directory(), "client-certificate-unknown"),
    "another certificate of the same key": (
        Directory(replace(RECORD, thumbprint="A" * 43)),
        "client-certificate-unknown",
    ),
    "the bus's own": (Directory(replace(RECORD, attests=True)), "client-certificate-unknown"),
    "revoked": (Directory(replace(RECORD, revoked_at=utc_now() - timedelta(seconds=1))), "key-revoked"),
    "ended": (Directory(replace(RECORD, not_after=utc_now() - timedelta(seconds=1))), "key-expired"),
    "not begun": (Directory(replace(RECORD, not_before=utc_now() + timedelta(hours=1))), "key-not-yet-valid"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_certificate_that_does_not_count_identifies_nobody(name: str) -> None:
    directory, reason = RECORDS[name]
    with pytest.raises(NotIdentified) as refused:
        identify_by_certificate(GOOD, directory, utc_now())
    assert refused.value.reason == reason


# ---- whose word is believed?

PEERS = [
    ("", "127.0.0.1", False),
    ("127.0.0.1", "127.0.0.1", True),
    ("127.0.0.1", "127.0.0.2", False),
    ("10.1.0.0/16", "10.1.255.255", True),
    ("10.1.0.0/16", "10.2.0.0", False),
    (" 10.1.2.3 , 2001:db8::/32 ", "2001:db8::7", True),
    ("2001:db8::/32", "2001:db9::7", False),
    ("10.1.2.3", "::ffff:10.1.2.3", True),
    ("10.1.2.3", "::ffff:10.1.2.4", False),
    ("0.0.0.0/0", "::1", False),
    ("127.0.0.1", "", False),
    ("127.0.0.1", "127.0.0.1, 10.0.0.1", False),
    ("127.0.0.1", "localhost", False),
    ("127.0.0.1", "2130706433", False),
]


@pytest.mark.parametrize("trusted,peer,believed", PEERS)
def test_only_the_proxies_named_are_believed(trusted: str, peer: str, believed: bool) -> None:
    proxies = TrustedProxies(load_settings(environ={"LGSP_TRUSTED_PROXIES": trusted}))
    environ = {"HTTP_CLIENT_CERT": GOOD, "REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": "127.0.0.1"}
    assert proxies.client_certificate(environ) == (GOOD if believed else "")


@pytest.mark.parametrize(
    "name,value",
    [
        ("TRUSTED_PROXIES", "proxy"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "10.0.0.1;10.0.0.2"),
        ("CLIENT_CERTIFICATE_HEADER", ""),
        ("CLIENT_CERTIFICATE_HEADER", "Client_Cert"),
        ("CLIENT_CERTIFICATE_HEADER", "Client Cert"),
        ("CLIENT_CERTIFICATE_HEADER", "Authorization"),
        ("CLIENT_CERTIFICATE_HEADER", "lgsp-user"),
        ("CLIENT_CERTIFICATE_HEADER", "Content-Type"),
        ("CLIENT_CERTIFICATE_HEADER", "traceparent"),
    ],
)
def test_a_proxy_that_cannot_be_trusted_stops_the_start(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=f"LGSP_{name}"):
        load_settings(environ={f"LGSP_{name}": value})


# ---- over HTTP


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A bus behind a proxy on this machine."""
    with bus_world(tmp_path_factory.mktemp("behind"), trusted_proxies="127.0.0.1") as world:
        yield world


def note(**headers: str) -> dict[str, str]:
    """The facts of an attested note."""
    return {
        "Content-Type": "application/json",
        "Lgsp-Service": "dossier.note",
        "Lgsp-Receiver": "H99.16",
        "Lgsp-Message-Id": str(uuid6.uuid7()),
    } | headers


def test_a_message_by_certificate_is_attested_with_that_means(world: World) -> None:
    headers = note(**{"Client-Cert": header_of(key_of(SENDING).certificate_pem)})
    with world.serving() as url:
        answer = ask("POST", f"{url}/v1/exchange", b"{}", headers)
        assert answer.status == 202, answer.body
        again = ask("POST", f"{url}/v1/exchange", b"{}", headers)
        assert (again.status, again.json["receipt"]) == (200, answer.json["receipt"])
        own = {"Client-Cert": headers["Client-Cert"]}
        told = ask("GET", f"{url}/v1/exchange/{answer.json['message_id']}", headers=own)
        assert (told.status, told.json["grade"]) == (200, "attested")
        inbox = {"Client-Cert": header_of(key_of(RECEIVING).certificate_pem)}
        fetched = ask("GET", f"{url}/v1/inbox", headers=inbox).json["deliveries"]
    manifests = [delivery["manifest"] for delivery in fetched if delivery["message_id"] == answer.json["message_id"]]
    (manifest,) = manifests
    claims = base64.urlsafe_b64decode(manifest.split(".")[1] + "==").decode()
    assert '"means":"certificate"' in claims
    assert '"system":"H99.15/mot-cua"' in claims


def test_a_better_proof_that_fails_is_not_saved_by_a_certificate(world: World) -> None:
    certificate = {"Client-Cert": header_of(key_of(SENDING).certificate_pem)}
    with world.serving() as url:
        for broken in ({"Authorization": "Bearer x"}, {"Authorization": ""}, {"Lgsp-Manifest": "a.b.c"}):
            assert ask("POST", f"{url}/v1/exchange", b"{}", note() | certificate | broken).status in (400, 401), broken
        assert ask("GET", f"{url}/v1/inbox", headers=certificate | {"Authorization": "Bearer x"}).status == 401


HOSTILE = {
    "a stranger's": header_of(OTHER.certificate_pem),
    "a suspended system's": header_of(key_of("H99.17/tam-ngung").certificate_pem),
    "a revoked one": header_of(key_of("retired").certificate_pem),
    "unreadable": "x",
    "two": ", ".join(header_of(key.certificate_pem) for key in (key_of(SENDING), OTHER)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_certificate_of_no_member_opens_nothing(world: World, name: str) -> None:
    with world.serving() as url:
        answer = ask("POST", f"{url}/v1/exchange", b"{}", note(**{"Client-Cert": HOSTILE[name]}))
        assert answer.status == 401
        assert ask("GET", f"{url}/v1/inbox", headers={"Client-Cert": HOSTILE[name]}).status == 401


def test_without_a_trusted_proxy_the_header_says_nothing(tmp_path: Path) -> None:
    headers = note(**{"Client-Cert": header_of(key_of(SENDING).certificate_pem)})
    for trusted in ("", "192.0.2.1"):
        with bus_world(tmp_path / (trusted or "none"), trusted_proxies=trusted) as world, world.serving() as url:
            answer = ask("POST", f"{url}/v1/exchange", b"{}", headers)
            assert (answer.status, answer.json["reason"]) == (401, "unsigned")
            forwarded = headers | {"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.1"}
            assert ask("POST", f"{url}/v1/exchange", b"{}", forwarded).status == 401


# ---- the real proxy in front of the real server


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """HAProxy as `docker/proxy/haproxy.cfg` configures it, before one `lgsp serve`."""

    members: str
    inside: str
    #: The bus itself, past the proxy.
    bus: str
    folder: Path
    #: PEM files (certificate and key) by whose they are.
    certificates: Mapping[str, Path]

    def ask(self, who: str, method: str, path: str, body: bytes = b"", headers: Any = None, base: str = "") -> Answer:
        """One request on a connection that was opened with somebody's certificate ("": with none)."""
        context = ssl.create_default_context(cafile=str(self.folder / "authority.pem"))
        context.check_hostname = False
        if who:
            context.load_cert_chain(self.certificates[who])
        with urllib3.PoolManager(retries=False, timeout=20, ssl_context=context, assert_hostname=False) as pool:
            answer = pool.request(method, f"{base or self.members}{path}", body=body, headers=headers, redirect=False)
            return Answer(status=answer.status, headers=dict(answer.headers), body=answer.data)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, missing_service: Callable[[str], NoReturn]) -> Iterator[Gate]:
    haproxy = program("haproxy", "haproxy", missing_service)
    folder = tmp_path_factory.mktemp("gate")
    ours = SandboxAuthority.create(folder / "ours", "Members' authority")
    theirs = SandboxAuthority.create(folder / "theirs", "Somebody else's authority")
    holders = {
        "member": ours.issue_key(SENDING),
        "large": ours.issue_key(SENDING, algorithm="PS256"),
        "receiver": ours.issue_key(RECEIVING),
        "unregistered": ours.issue_key(SystemCode("H99.15/khac")),
        "stranger": theirs.issue_key(SENDING),
        "proxy": ours.issue_key(SystemCode("H99/proxy")),
    }
    for name, key in holders.items():
        (folder / f"{name}.pem").write_bytes(key.certificate_pem.encode() + key.to_pem())
    (folder / "authority.pem").write_text(ours.certificate_pem)
    with bus_world(folder, trusted_proxies="127.0.0.1") as world:
        for system, names in ((SENDING, ("member", "large")), (RECEIVING, ("receiver",))):
            known = world.bus.directory.current().system(system)
            assert known is not None
            held = tuple(certificate_of(holders[name]) for name in names)
            world.register(replace(known, certificates=(*known.certificates, *held)))
        with (
            world.server_process() as bus,
            running_proxy(haproxy, folder, bus.removeprefix("http://")) as (members, inside),
        ):
            yield Gate(
                members=members,
                inside=inside,
                bus=bus,
                folder=folder,
                certificates={name: folder / f"{name}.pem" for name in holders},
            )


@contextmanager
def running_proxy(haproxy: str, folder: Path, serve: str) -> Iterator[tuple[str, str]]:
    """The proxy on loopback, from the file that is shipped; its two addresses."""
    members, inside = closed_port(), closed_port()
    environment = {
        "PROXY_MEMBERS": f"127.0.0.1:{members}",
        "PROXY_INSIDE": f"127.0.0.1:{inside}",
        "PROXY_CERTIFICATE": str(folder / "proxy.pem"),
        "PROXY_AUTHORITY": str(folder / "authority.pem"),
        "PROXY_SERVE": serve,
        "PROXY_SERVE_MOST": "2",
        "PROXY_CONNECTIONS": "200",
    }
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen([haproxy, "-db", "-f", str(PROXY)], env=environment, stdout=log, stderr=log)
    try:
        patience_ends = time.monotonic() + 15
        while time.monotonic() < patience_ends and process.poll() is None:
            with suppress(OSError, urllib3.exceptions.HTTPError):
                if ask("GET", f"http://127.0.0.1:{inside}/readyz").status in (200, 503) and _serves(folder):
                    break
            time.sleep(0.05)
        assert process.poll() is None, (folder / "proxy.log").read_text()
        yield f"https://127.0.0.1:{members}", f"http://127.0.0.1:{inside}"
    finally:
        process.terminate()
        process.wait(10)


def _serves(folder: Path) -> bool:
    """Servers begin as well until a check says otherwise; a second look would only cost time."""
    return "Starting" not in (folder / "proxy.log").read_text()


@pytest.mark.service
def test_the_proxys_file_is_one(gate: Gate, missing_service: Callable[[str], NoReturn]) -> None:
    environment = {
        "PROXY_CERTIFICATE": str(gate.folder / "proxy.pem"),
        "PROXY_AUTHORITY": str(gate.folder / "authority.pem"),
        "PROXY_SERVE": "127.0.0.1:8080",
    }
    haproxy = program("haproxy", "haproxy", missing_service)
    checked = subprocess.run([haproxy, "-c", "-f", str(PROXY)], env=environment, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr.replace("[NOTICE]", ""), checked.stderr


@pytest.mark.service
@pytest.mark.parametrize("who", ["member", "large"])
def test_a_members_certificate_passes(gate: Gate, who: str) -> None:
    assert gate.ask(who, "POST", "/v1/exchange", b"{}", note()).status == 202
    assert gate.ask(who, "GET", "/v1/inbox").status == 200


@pytest.mark.service
@pytest.mark.parametrize("who", ["stranger", ""])
def test_a_strangers_certificate_does_not_even_get_a_connection(gate: Gate, who: str) -> None:
    with pytest.raises(urllib3.exceptions.HTTPError):
        gate.ask(who, "POST", "/v1/exchange", b"{}", note())


@pytest.mark.service
def test_a_certificate_of_the_right_authority_that_nobody_registered_is_a_strangers(gate: Gate) -> None:
    answer = gate.ask("unregistered", "POST", "/v1/exchange", b"{}", note())
    assert (answer.status, answer.json["reason"]) == (401, "client-certificate-unknown")


#: Ways to say through the proxy that one is somebody else.
CLAIMS = [
    ("Client-Cert",),
    ("client-cert",),
    ("CLIENT-CERT",),
    ("Client_Cert",),
    ("client_cert",),
    ("Client-Cert", "Client-Cert"),
    ("Client-Cert", "Client_Cert"),
    ("X-Forwarded-Client-Cert",),
]


@pytest.mark.service
@pytest.mark.parametrize("names", CLAIMS, ids=" ".join)
def test_a_header_that_the_caller_wrote_is_not_believed(gate: Gate, names: tuple[str, ...]) -> None:
    """Two callers say that they are the member: one without standing, and one who is somebody else."""
    claim = header_of(gate.certificates["member"].read_text())
    claimed = [(name, claim) for name in names]
    as_nobody = urllib3.HTTPHeaderDict([*note().items(), *claimed])
    answer = gate.ask("unregistered", "POST", "/v1/exchange", b"{}", as_nobody)
    assert (answer.status, answer.json["reason"]) == (401, "client-certificate-unknown")
    sent = gate.ask("member", "POST", "/v1/exchange", b"{}", note()).json["message_id"]
    # The receiver is party to the message and sees it; as "the member" it would see the same. Ask as a third.
    assert gate.ask("unregistered", "GET", f"/v1/exchange/{sent}", b"", urllib3.HTTPHeaderDict(claimed)).status == 401


@pytest.mark.service
@pytest.mark.parametrize("name", ["Client-Cert", "Client_Cert"])
def test_past_the_proxy_the_header_says_nothing(gate: Gate, name: str) -> None:
    """From another address than the proxy's, straight to the real server."""
    claim = {name: header_of(gate.certificates["member"].read_text())}
    port = int(gate.bus.rpartition(":")[2])
    with urllib3.HTTPConnectionPool("127.0.0.1", port, source_address=("127.0.0.2", 0), retries=False) as pool:
        answer = pool.request("POST", "/v1/exchange", body=b"{}", headers=note() | claim)
    assert answer.status == 401
    assert json.loads(answer.data)["reason"] == "unsigned"


@pytest.mark.service
def test_an_underscore_is_no_hyphen_even_from_the_proxys_address(gate: Gate) -> None:
    claim = {"Client_Cert": header_of(gate.certificates["member"].read_text())}
    assert ask("POST", f"{gate.bus}/v1/exchange", b"{}", note() | claim).status in (400, 401)


@pytest.mark.service
def test_a_resumed_session_is_still_its_members(gate: Gate) -> None:
    """A caller that comes back need not show the certificate again; HAProxy remembers it with the session."""
    context = ssl.create_default_context(cafile=str(gate.folder / "authority.pem"))
    context.check_hostname = False
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # where the session is known at once
    context.load_cert_chain(gate.certificates["member"])
    host, port = "127.0.0.1", int(gate.members.rpartition(":")[2])
    session, reused = None, []
    for _ in range(2):
        with (
            socket.create_connection((host, port)) as plain,
            context.wrap_socket(plain, server_hostname=host, session=session) as connection,
        ):
            reused.append(connection.session_reused)
            session = connection.session
            connection.sendall(b"GET /v1/inbox HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
    assert reused == [False, True]


#: Spellings of what only the inside may ask.
INSIDE = [
    "/metrics", "/readyz", "/healthz", "/metrics?x=1", "/%6detrics", "/%6Detrics", "//metrics", "/./metrics",
    "/x/../metrics", "/metrics/", "/metrics;x", "/%2e/metrics", "/metrics%00", "/metrics%3fx",
]  # fmt: skip


@pytest.mark.service
@pytest.mark.parametrize("path", INSIDE)
def test_the_numbers_are_for_the_inside(gate: Gate, path: str) -> None:
    context = ssl.create_default_context(cafile=str(gate.folder / "authority.pem"))
    context.check_hostname = False
    context.load_cert_chain(gate.certificates["member"])
    connection = http.client.HTTPSConnection(gate.members.removeprefix("https://"), context=context, timeout=10)
    with closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    assert answer.status in (301, 308, 400, 404), body
    assert b"lgsp_" not in body
    assert b'"checks"' not in body


@pytest.mark.service
def test_the_inside_answers_operations_and_nothing_else(gate: Gate) -> None:
    assert b"lgsp_messages_accepted_total" in ask("GET", f"{gate.inside}/metrics").body
    assert ask("GET", f"{gate.inside}/proxy/healthz").status == 200
    assert b"haproxy_backend_active_servers" in ask("GET", f"{gate.inside}/proxy/metrics").body
    claim = {"Client-Cert": header_of(gate.certificates["member"].read_text())}
    for path in ("/v1/inbox", "/v1/exchange", "/docs", "/"):
        assert ask("GET", f"{gate.inside}{path}", None, claim).status == 404


@pytest.mark.service
def test_the_proxys_log_names_no_message(gate: Gate) -> None:
    sent = gate.ask("member", "POST", "/v1/exchange", b"{}", note()).json["message_id"]
    gate.ask("member", "GET", f"/v1/exchange/{sent}")
    text = (gate.folder / "proxy.log").read_text()
    assert "POST 202" in text
    assert sent not in text
    assert "/v1/" not in text
