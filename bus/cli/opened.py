"""The bus of the home folder, opened by a command that looks into it. Heavy to import."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bus.assembly import Bus, open_bus
from bus.cli import Session
from bus.logs import no_logs


@contextmanager
def opened_bus(session: Session) -> Iterator[Bus]:
    """The bus without its log lines: what the command prints is for people. Raises NotInitialised."""
    with no_logs():
        bus = open_bus(session.settings)
        try:
            yield bus
        finally:
            bus.close()
