"""The demonstration's whole province in one test process: its registry, its bus, and the twins, all on loopback.

::

    with province_world(tmp_path) as province:
        reply = province.client("H99.15/mot-cua").call("civil-status.status", "G99.15", {"maHoSo": ["…"]})
        province.sandbox.twins["civil_status"].state()

Nothing delivers one-way messages here (`lgsp work` does): what is asked is answered in the caller's own thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bus.assembly import Bus
from bus.cli.members import file_name
from bus.demo.province import members_folder, set_up
from bus.logs import no_logs
from bus.settings import Settings, load_settings
from bus.web.app import create_app
from connectors.client import AgencyClient
from connectors.sandbox.app import Sandbox, SandboxConfig, create_sandbox
from schemas.identifiers import SystemCode
from security.keys import SigningKey
from tests.loopback import closed_port, serving


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvinceWorld:
    settings: Settings
    bus: Bus
    sandbox: Sandbox
    #: Where the twins are.
    sandbox_url: str

    @property
    def url(self) -> str:
        return self.settings.public_url

    def member(self, system: str, suffix: str) -> Path:
        """A file of a member that signs: ``.pem`` its key, ``.toml`` its profile."""
        return members_folder(self.settings) / f"{file_name(SystemCode(system))}{suffix}"

    def client(self, system: str) -> AgencyClient:
        return AgencyClient(self.url, SigningKey.load(self.member(system, ".pem")), system=SystemCode(system))


@contextmanager
def province_world(folder: Path) -> Iterator[ProvinceWorld]:
    """The province with its bus at the address that its members know. Everything ends with the block."""
    port = closed_port()
    home = folder / "home"
    home.mkdir()
    credentials = home / "sandbox-credentials.json"
    app = create_sandbox(SandboxConfig(credentials_file=credentials))
    sandbox: Sandbox = app.extensions["sandbox"]
    with ExitStack() as stack:
        stack.enter_context(no_logs())
        stack.callback(sandbox.close)
        twins = stack.enter_context(serving(app))
        settings = load_settings(
            {
                "home": home,
                "port": port,
                "public_url": f"http://127.0.0.1:{port}",
                "sandbox_port": int(twins.url.rsplit(":", 1)[1]),
            }
        )
        bus = set_up(settings)
        stack.callback(bus.close)
        stack.enter_context(serving(create_app(bus), port))
        yield ProvinceWorld(settings=settings, bus=bus, sandbox=sandbox, sandbox_url=twins.url)
