"""What every test may count on: free ports, quick and repeatable property tests, and nobody left running at the end."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.console_house import ConsoleHouse

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}

# No deadline: shared machines drift. In CI the examples are the same every time, so a red run can be repeated.
settings.register_profile("quick", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("quick"), derandomize=True)
settings.register_profile("thorough", parent=settings.get_profile("quick"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if IN_CI else "quick"))


@pytest.fixture
def free_port() -> int:
    """A loopback TCP port that nobody listened on a moment ago. Prefer binding to port 0 where the server can."""
    return find_free_port()


@pytest.fixture
def free_ports() -> Callable[[int], list[int]]:
    """``free_ports(3)``: that many different free loopback ports."""

    def find(count: int) -> list[int]:
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        ports = [int(listener.getsockname()[1]) for listener in sockets]
        for listener in sockets:
            listener.close()
        return ports

    return find


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def missing_service() -> Callable[[str], NoReturn]:
    """Call it with the reason when a real service is not there: skips on a laptop, fails where CI=true."""

    def give_up(reason: str) -> NoReturn:
        if IN_CI:
            pytest.fail(f"{reason} (a missing service fails in CI)", pytrace=False)
        pytest.skip(reason)

    return give_up


@pytest.fixture(scope="session", autouse=True)
def no_process_is_left_behind() -> Iterator[None]:
    """Everything that a test starts, it stops. Looked at once, after the last test of this worker."""
    before = set(_children())
    yield
    patience_ends = time.monotonic() + 2
    while (left := _strays(before)) and time.monotonic() < patience_ends:
        time.sleep(0.05)
    assert not left, f"still running after the last test: {left}"


def _strays(before: set[int]) -> list[str]:
    named = {child: _program(child) for child in _children() if child not in before}
    # multiprocessing keeps one of these for the life of the interpreter.
    return [name for name in named.values() if name and "resource_tracker" not in name]


def _children() -> list[int]:
    """Process ids of this process's own children (Linux; elsewhere none are seen)."""
    found: list[int] = []
    for task in Path("/proc/self/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:
            continue
    return found


def _program(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:120]
    except OSError:
        return ""


# ── the console in a browser (tests/console_house.py) ───────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def chromium(missing_service: Callable[[str], NoReturn]) -> Iterator[Browser]:
    """One browser for all tests of a worker; each test has a window of its own."""
    from tests.console_house import open_browser
    from tests.debian import program

    program("chromium", "chromium", missing_service)
    with open_browser() as browser:
        yield browser


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    from tests.console_house import open_page

    with open_page(chromium) as page:
        yield page


@pytest.fixture
def console_house(tmp_path: Path) -> Iterator[ConsoleHouse]:
    """A small province (tests/bus_world.py) with its console."""
    from tests.bus_world import bus_world
    from tests.console_house import open_console, picture_folder

    with bus_world(tmp_path) as world, open_console(world, picture_folder(tmp_path)) as opened:
        yield opened
