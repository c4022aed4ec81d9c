"""What every test may count on: free ports, real servers, quick and repeatable property tests, and nobody left running
at the end.

Of the real servers each test process has one of a kind, started when a test first asks for it::

    url = postgresql.url(postgresql.new_database())      an empty database
    url = new_store("postgresql", tmp_path)              a store with its tables; also "sqlite"
    rabbitmq.url                                         a virtual host of this test file's own

A test that kills, stops or reconfigures a server has one of its own.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from benchmarks.rabbitmq import RabbitMissing, RabbitNode, start_rabbitmq
from schemas.identifiers import SystemCode
from security.evidence.checkpoint import NoteKey
from security.keys import KeyRing
from tests.last_will import LastWill
from tests.ledger_house import House, prepare
from tests.postgresql import PrivateServer, hasty_folder, private_postgresql

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from bus.assembly import Bus
    from bus.settings import Settings
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests go first: one of a minute at the end would keep one process busy and the others idle."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


# ── real servers ──────────────────────────────────────────────────────────────────────────────────────────────────────


_STARTED: list[PrivateServer] = []


@pytest.fixture(scope="session")
def last_will() -> Iterator[LastWill]:
    will = LastWill()
    yield will
    will.close()


@pytest.fixture(scope="session")
def postgresql(missing_service: Callable[[str], NoReturn], last_will: LastWill) -> Iterator[PrivateServer]:
    with private_postgresql(missing_service) as server:
        last_will.add(server.folder, server.process_id)
        _STARTED.append(server)
        yield server
        _STARTED.remove(server)


@pytest.fixture(autouse=True)
def no_database_is_left_behind() -> Iterator[None]:
    """A test's databases go with it; those of module and session fixtures stay."""
    before = {name for server in _STARTED for name in server.databases}
    yield
    for server in _STARTED:
        made = set(server.databases) - before - _KEPT
        if made:  # most tests make none, and a connection takes longer than they do
            with suppress(psycopg.Error):  # a slow session is not gone yet: the database goes with the server
                server.drop(made)


#: What a session fixture made while a test was running.
_KEPT: set[str] = set()


@pytest.fixture(scope="session")
def template(postgresql: PrivateServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database with the tables in it, to be copied: ``postgresql.new_database(template)``."""
    name = postgresql.new_database()
    _KEPT.add(name)
    _make_tables(postgresql.url(name), tmp_path_factory)
    return name


@pytest.fixture(scope="session")
def template_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for SQLite."""
    path = tmp_path_factory.mktemp("template") / "lgsp.db"
    _make_tables(f"sqlite:///{path}", tmp_path_factory)
    return path


def _make_tables(url: str, folders: pytest.TempPathFactory) -> None:
    ring = KeyRing.open_or_create(folders.mktemp("keys") / "ring", SystemCode("H99/lgsp-bus"))
    prepare(House(store_url=url, ring=ring, log_key=NoteKey.generate("test.invalid/log")))


@pytest.fixture(scope="session")
def new_store(request: pytest.FixtureRequest) -> Callable[[str, Path], str]:
    """``new_store("sqlite", tmp_path)``, ``new_store("postgresql", tmp_path)``: the address of an empty store of its
    own that has its tables. Copied: making them takes a hundred times as long."""

    def make(kind: str, folder: Path) -> str:
        if kind == "sqlite":
            path = folder / "lgsp.db"
            shutil.copyfile(request.getfixturevalue("template_file"), path)
            return f"sqlite:///{path}"
        server: PrivateServer = request.getfixturevalue("postgresql")
        return server.url(server.new_database(request.getfixturevalue("template")))

    return make


@pytest.fixture
def opened() -> Iterator[Callable[[Settings], Bus]]:
    """``opened(settings)``: a bus that is closed at the end."""
    from bus.assembly import open_bus

    with ExitStack() as buses:
        yield lambda settings: buses.enter_context(closing(open_bus(settings)))


@pytest.fixture(scope="session")
def rabbitmq_server(missing_service: Callable[[str], NoReturn], last_will: LastWill) -> Iterator[RabbitNode]:
    folder = hasty_folder("lgsp-rabbitmq-")
    try:
        node = start_rabbitmq(folder, management=True)
    except RabbitMissing as missing:
        shutil.rmtree(folder)
        missing_service(str(missing))
    last_will.add(folder, *node.pids)
    try:
        yield node
    finally:
        node.kill()  # an orderly end takes six seconds, and nobody reads what it would write
        node.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def rabbitmq(rabbitmq_server: RabbitNode) -> RabbitNode:
    """A virtual host of the test file's own: nobody else's queues are in it. Users are the whole server's."""
    return rabbitmq_server.with_virtual_host()


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
