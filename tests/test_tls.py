"""TLS to the servers beneath: RabbitMQ and PostgreSQL that listen for nothing else, and are who they say they are."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from benchmarks.certificates import issue, new_root
from benchmarks.postgresql import PostgresMissing, PostgresServer, make_postgresql
from benchmarks.rabbitmq import RabbitMissing, RabbitNode, TlsFiles, start_rabbitmq
from bus.broker.accounts import Accounts
from bus.broker.rabbitmq import RabbitLink
from bus.logs import no_logs
from bus.records import State
from bus.settings import load_settings
from bus.store import open_store
from schemas.problem import ProviderUnavailable
from tests.bus_world import MINISTRY, bus_world, delivering, post
from tests.loopback import serving
from tests.processes import until

pytestmark = pytest.mark.service
GiveUp = Callable[[str], NoReturn]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """What the servers show, a certificate for 127.0.0.1 and for no name; and an authority that did not sign it."""

    files: TlsFiles
    stranger: Path


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    folder = Path(tempfile.mkdtemp(prefix="lgsp-tls-"))
    folder.chmod(0o755)  # the users that the servers run as pass through
    root = new_root("CA may chu mau")
    server = issue(
        "127.0.0.1",
        ec.generate_private_key(ec.SECP256R1()),
        root,
        usages=[ExtendedKeyUsageOID.SERVER_AUTH],
        hosts=[x509.IPAddress(ip_address("127.0.0.1"))],
    )
    files = TlsFiles(authority=folder / "root.pem", certificate=folder / "server.pem", key=folder / "server.key")
    files.authority.write_bytes(root.pem)
    files.certificate.write_bytes(server.pem)
    files.key.write_bytes(server.key_pem)
    files.key.chmod(0o600)
    stranger = folder / "stranger.pem"
    stranger.write_bytes(new_root("CA khac").pem)
    yield Certificates(files=files, stranger=stranger)
    shutil.rmtree(folder, ignore_errors=True)


# ── RabbitMQ ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def rabbit(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory, missing_service: GiveUp
) -> Iterator[RabbitNode]:
    try:
        node = start_rabbitmq(tmp_path_factory.mktemp("rabbit") / "node", management=True, tls=certificates.files)
    except RabbitMissing as reason:
        missing_service(str(reason))
    yield node
    node.stop()


def test_messages_travel_over_amqps(tmp_path: Path, rabbit: RabbitNode, certificates: Certificates) -> None:
    def taken(environ: dict[str, Any], start: Any) -> list[bytes]:
        start("200 OK", [("Content-Type", "application/json")])
        return [b"{}"]

    facts = {"broker_url": rabbit.url, "broker_authority": str(certificates.files.authority)}
    assert rabbit.url.startswith("amqps://")
    with (
        no_logs(),
        serving(taken) as partner,
        bus_world(tmp_path, partner_url=partner.url, **facts) as world,
        world.serving() as url,
        delivering(world.bus),
    ):
        assert post(url, world.signed({}, service="dossier.note", receivers=[MINISTRY])).status == 202
        assert until(lambda: world.bus.ledger.states().get(State.DELIVERED) == 1)
    assert len(partner.requests) == 1


def _as_it_is(rabbit: RabbitNode) -> str:
    return rabbit.url


def _under_a_name(rabbit: RabbitNode) -> str:
    return rabbit.url.replace("127.0.0.1", "localhost")


def _in_the_open(rabbit: RabbitNode) -> str:
    return rabbit.url.replace("amqps://", "amqp://")


@pytest.mark.parametrize(
    "address, authority, reason",
    [
        (_as_it_is, "stranger", "tls-certificate-untrusted"),
        (_as_it_is, "", "tls-certificate-untrusted"),  # the system's own authorities
        (_under_a_name, "authority", "tls-name-differs"),
        (_in_the_open, "authority", "IncompatibleProtocolError"),
    ],
    ids=["another authority", "no authority named", "another name", "without TLS"],
)
def test_a_broker_that_is_not_the_one_meant_is_refused_and_said_why(
    rabbit: RabbitNode,
    certificates: Certificates,
    address: Callable[[RabbitNode], str],
    authority: str,
    reason: str,
) -> None:
    files = {"": "", "stranger": str(certificates.stranger), "authority": str(certificates.files.authority)}
    link = RabbitLink([address(rabbit)], on_change=lambda: None, authority_file=files[authority])
    with structlog.testing.capture_logs() as lines:
        link.start()
        assert until(lambda: any(line["event"] == "broker.unreachable" for line in lines))
    assert not link.is_open
    link.close()
    assert {line["reason"] for line in lines if line["event"] == "broker.unreachable"} == {reason}
    assert all("127.0.0.1" not in str(line) for line in lines)


def test_the_management_interface_is_asked_over_https(rabbit: RabbitNode, certificates: Certificates) -> None:
    right, wrong = certificates.files.authority, certificates.stranger
    accounts = Accounts(rabbit.management_url, rabbit.url, authority_file=str(right))
    assert accounts.users() == []
    accounts.close()
    for url, file in ((rabbit.management_url, wrong), (rabbit.management_url.replace("127.0.0.1", "localhost"), right)):
        accounts = Accounts(url, rabbit.url, authority_file=str(file))
        with pytest.raises(ProviderUnavailable) as caught:
            accounts.users()
        assert caught.value.reason == "provider-tls-failed"
        accounts.close()


# ── PostgreSQL ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def postgresql(certificates: Certificates, missing_service: GiveUp) -> Iterator[PostgresServer]:
    folder = Path(tempfile.mkdtemp(prefix="lgsp-pg-"))
    settings = ("shared_buffers=32MB", "fsync=off", "ssl=on", "ssl_min_protocol_version=TLSv1.2")
    files = (f"ssl_cert_file={folder}/server.pem", f"ssl_key_file={folder}/server.key")
    try:
        server = make_postgresql(folder, settings=(*settings, *files))
    except PostgresMissing as reason:
        missing_service(str(reason))
    owner = (folder / "data").stat()
    for file in (certificates.files.certificate, certificates.files.key):  # a server reads a key that is its own alone
        copy = Path(shutil.copy(file, folder / file.name))
        copy.chmod(0o600)
        os.chown(copy, owner.st_uid, owner.st_gid)
    hba = folder / "data" / "pg_hba.conf"
    hba.write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


def asked(url: str) -> bool:
    """Is the connection of this store encrypted? Raises OperationalError when there is none."""
    store = open_store(load_settings({"store_url": url, "store_connect_seconds": 3.0}, environ={}))
    try:
        with store.reading() as connection:
            used = connection.execute(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")).scalar_one()
        with store.writing() as connection:
            wrote = connection.execute(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")).scalar_one()
        return bool(used and wrote)
    finally:
        store.close()


def test_the_store_is_spoken_to_over_tls(postgresql: PostgresServer, certificates: Certificates) -> None:
    url = postgresql.url(postgresql.new_database())
    assert asked(f"{url}?sslmode=verify-full&sslrootcert={certificates.files.authority}")


def test_a_bus_lives_on_a_store_that_is_verified(
    tmp_path: Path, postgresql: PostgresServer, certificates: Certificates
) -> None:
    url = f"{postgresql.url(postgresql.new_database())}?sslmode=verify-full&sslrootcert={certificates.files.authority}"
    with no_logs(), bus_world(tmp_path, store_url=url) as world, world.serving() as address:
        assert post(address, world.signed()).status == 202


@pytest.mark.parametrize(
    "host, root, said",
    [
        ("127.0.0.1", "stranger", "certificate verify failed"),
        ("127.0.0.1", "none", "does not exist"),
        ("localhost", "authority", "does not match host name"),
    ],
    ids=["another root", "no root", "another name"],
)
def test_a_store_that_is_not_the_one_meant_is_refused(
    postgresql: PostgresServer, certificates: Certificates, host: str, root: str, said: str
) -> None:
    files = {"stranger": certificates.stranger, "authority": certificates.files.authority}
    url = postgresql.url(postgresql.new_database()).replace("127.0.0.1", host)
    with pytest.raises(OperationalError, match=said):
        asked(f"{url}?sslmode=verify-full&sslrootcert={files.get(root, Path('/none/root.pem'))}")


def test_a_password_is_not_sent_in_the_open(postgresql: PostgresServer) -> None:
    with pytest.raises(OperationalError, match="no encryption"):
        asked(f"{postgresql.url(postgresql.new_database())}?sslmode=disable")
