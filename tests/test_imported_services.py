"""Descriptions of partners become services that work, with no edit by hand: imported, applied, called through the bus.

The partners are the sandbox's twins over real HTTP: the population database's own WSDL, fetched from where it is
served, and the business registry's OpenAPI.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from bus.cli.registry import registry
from bus.settings import load_settings
from connectors.sandbox.app import Sandbox, SandboxConfig, create_sandbox
from registry.model import Agency, DeliveryMode, Endpoint, Grant, System
from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from tests.bus_world import SENDER, World, bus_world, post
from tests.loopback import Recorded, serving

PARTNERS = Path(__file__).resolve().parent.parent / "schemas" / "partners"
POPULATION, BUSINESS = AgencyCode("G99.01"), AgencyCode("G99.12")


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Recorded, Sandbox]]:
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path_factory.mktemp("sandbox") / "credentials.json"))
    sandbox: Sandbox = app.extensions["sandbox"]
    with serving(app) as server:
        yield server, sandbox
    sandbox.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path) as made:
        made.register(
            Agency(code=POPULATION, name="Cơ quan quản lý dân cư"),
            Agency(code=BUSINESS, name="Cơ quan đăng ký kinh doanh"),
        )
        yield made


def command(world: World, **settings: Any) -> Callable[..., str]:
    """``lgsp registry …`` on this bus; the words that it prints."""

    def run(*words: str | Path) -> str:
        class Context:
            language = "en"

        Context.settings = load_settings(settings, environ=world.environment)  # type: ignore[attr-defined]
        result = CliRunner().invoke(registry, [str(word) for word in words], obj=Context())
        assert result.exit_code == 0, result.output
        return result.output

    return run


def keep_secret(world: World, name: str, value: str) -> None:
    world.bus.registry.put_secret(name, world.bus.secrets.seal(name, value.encode()), "test")


def ask(world: World, url: str, service: str, receiver: str, payload: Any) -> Any:
    """Grant the service to the sender and call it."""
    world.bus.directory.refresh()
    world.register(Grant(id=service, service=ServiceCode(service), grantee=SENDER))
    answer = post(url, world.signed(payload, service=service, receivers=(receiver,)))
    assert answer.status == 200, answer.body
    return answer.json


def test_a_wsdl_from_its_own_address_becomes_services_that_work(
    world: World, twins: tuple[Recorded, Sandbox], tmp_path: Path
) -> None:
    server, sandbox = twins
    address = f"{server.url}/population/cong-dan/v1"
    endpoint = Endpoint(
        connector="population", url=address, secret="population", settings={"headers": {"X-Road-Client": "VN/GOV/H99"}}
    )
    world.register(System(code=SystemCode("G99.01/dan-cu"), name="x", mode=DeliveryMode.PUSH, endpoint=endpoint))
    keep_secret(world, "population", sandbox.credentials["population"])

    run = command(world, import_hosts=urlsplit(address).netloc)
    drafts = tmp_path / "drafts"
    words = ("--prefix", "dan-cu", "--owner", POPULATION, "--stage", "published", "--out", drafts)
    assert "7 drafted, 0 refused" in run("import", "--wsdl", f"{address}?wsdl", *words)
    run("apply", *sorted(drafts.glob("*.yaml")))

    question = json.loads((PARTNERS / "population" / "TraCuuThongTinCongDan.example.json").read_bytes())
    with world.serving() as url:
        reply = ask(world, url, "dan-cu.tra-cuu-thong-tin-cong-dan", POPULATION, question)
    assert reply["CongDan"]["HoVaTen"] == {"Ho": "NGUYỄN", "ChuDem": "THỊ", "Ten": "MẪU"}


def test_an_openapi_becomes_services_and_a_system_that_work(
    world: World, twins: tuple[Recorded, Sandbox], tmp_path: Path
) -> None:
    server, sandbox = twins
    run = command(world)
    drafts = tmp_path / "drafts"
    words = ("--prefix", "dkdn", "--system", f"{BUSINESS}/dkdn", "--stage", "published", "--out", drafts)
    there = ("--endpoint-url", f"{server.url}/business_registry")
    run("import", "--openapi", PARTNERS / "business_registry" / "openapi.json", *words, *there)
    run("apply", *sorted(drafts.glob("*.yaml")))
    (name,) = {endpoint.secret for endpoint in _endpoints(world) if endpoint.secret}
    keep_secret(world, name, sandbox.credentials["business_registry"])

    with world.serving() as url:
        found = ask(world, url, "dkdn.chi-tiet-doanh-nghiep", BUSINESS, {"msdn": "9900000016"})
        filings = ask(
            world, url, "dkdn.danh-sach-ho-so", BUSINESS, {"from_date": "01/04/2026", "to_date": "03/04/2026"}
        )
    assert found["MainInformation"]["NAME"] == "CÔNG TY TNHH MẪU"
    assert filings["DataCount"] == 3


def _endpoints(world: World) -> list[Endpoint]:
    systems = world.bus.registry.load().systems.values()
    return [system.endpoint for system in systems if system.endpoint is not None]
