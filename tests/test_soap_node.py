"""A SOAP client that is not Python: npm's ``soap``, from the published WSDL."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bus_world import RECEIVER, RECEIVING, SENDING, World, ask, bus_world
from tests.soap_world import PATH

#: The release that these tests were written with.
CLIENT = "soap@1.13.0"
pytestmark = [pytest.mark.service, pytest.mark.slow]
SCRIPT = Path(__file__).with_name("soap_client.mjs")


def absent(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client installed."""
    if not (shutil.which("node") and shutil.which("npm")):
        absent("node and npm are not here")
    folder = tmp_path_factory.mktemp("node")
    command = ["npm", "install", CLIENT, "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder]
    installed = subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False)
    if installed.returncode:
        absent("npm's registry gave no client")
    return folder


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path) as world:
        yield world


@pytest.mark.parametrize("soap12", [False, True], ids=["SOAP 1.1", "SOAP 1.2"])
def test_a_node_client_made_from_the_wsdl_does_the_whole_round(
    world: World, modules: Path, tmp_path: Path, soap12: bool
) -> None:
    messages = [world.signed(), world.signed({"title": "Đơn thứ hai"})]
    with world.serving() as url:
        wsdl = tmp_path / "exchange.wsdl"
        wsdl.write_bytes(ask("GET", f"{url}{PATH}?wsdl").body)
        facts = {
            "modules": str(modules),
            "wsdl": str(wsdl),
            "endpoint": url + PATH,
            "soap12": soap12,
            "port": "ExchangeSoap12" if soap12 else "ExchangeSoap11",
            "sender": world.token(SENDING),
            "receiver": world.token(RECEIVING),
            "messages": [
                {"manifest": one.headers["Lgsp-Manifest"], "payload": base64.b64encode(one.body).decode()}
                for one in messages
            ],
        }
        ran = subprocess.run(
            ["node", SCRIPT], input=json.dumps(facts), capture_output=True, text=True, timeout=60, check=False
        )
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert seen["operations"] == [
        "AckDelivery", "FetchInbox", "GetReceipt", "GetStatus", "NackDelivery", "SubmitMessage",
    ]  # fmt: skip
    assert seen["receipts"] == [one.manifest.message_id for one in messages]
    assert base64.b64decode(seen["payload"]) == messages[0].body
    assert (seen["settled"], seen["states"]) == (["delivered", "dead"], ["delivered", "dead"])
    assert (seen["proof"], seen["fault"]) == ([RECEIVER], "message-unknown")
