"""`lgsp sandbox`: the partners' twins under the same server as the bus. Run as `python -m bus.web.sandbox_server`."""

# ruff: noqa: I001  # bus.web.server first: it patches the standard library for gevent
from __future__ import annotations

from bus.web.server import Server

from typing import Any

from bus.assembly import signers_of
from bus.logs import configure_logs
from bus.settings import load_settings
from connectors.sandbox.app import SandboxConfig, create_sandbox


def main() -> None:
    """Serve every twin from one process: their memory is its own."""
    settings = load_settings()

    def make_app() -> Any:
        configure_logs(settings.log_level)
        # Where the bus of this home is at hand, the generic receiver checks the signatures itself.
        keys = signers_of(settings) if settings.ring_folder.exists() else None
        return create_sandbox(SandboxConfig(credentials_file=settings.sandbox_credentials_path, keys=keys))

    Server(make_app, host=settings.host, port=settings.sandbox_port, processes=1, settings=settings).run()


if __name__ == "__main__":
    main()
