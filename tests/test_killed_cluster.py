"""Two `serve`, two `work`, one PostgreSQL and three RabbitMQ nodes carry what the bus is for, while one of each is
killed and started again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from benchmarks.demo_cluster import KINDS, play
from benchmarks.faults_servers import Servers, Skipped
from benchmarks.havoc import Havoc, Victim


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, missing_service: Callable[[str], NoReturn]) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("servers")
    for place in (folder, *folder.parents[:2]):
        place.chmod(0o711)  # PostgreSQL's own user passes through
    servers = Servers(folder)
    try:
        try:
            servers.variables()
        except Skipped as reason:
            missing_service(str(reason))
        yield servers
    finally:
        servers.stop()


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.timeout(240)
def test_the_story_is_true_while_each_kind_of_process_is_killed(servers: Servers, tmp_path: Path) -> None:
    told: list[str] = []

    havoc = play(tmp_path, servers, told.append)

    assert havoc.has_killed(KINDS), havoc.kills
    assert any(line.startswith("16. ") for line in told)


class _Mayfly:
    """A victim that tells what is done to it, and may fail to come back."""

    def __init__(self, kind: str, deeds: list[str], over: Callable[[], None], *, comes_back: bool = True) -> None:
        self._deeds, self._over, self._comes_back = deeds, over, comes_back
        self.victim = Victim(kind=kind, kill=lambda: deeds.append(f"{kind} dies"), start=self._start)

    def _start(self) -> None:
        self._deeds.append(f"{self.victim.kind} is back")
        if len(self._deeds) >= 8 or not self._comes_back:
            self._over()
        if not self._comes_back:
            raise RuntimeError(f"{self.victim.kind} did not come back")


def test_one_dies_when_the_one_before_is_back() -> None:
    deeds: list[str] = []
    enough = threading.Event()
    mayflies = [_Mayfly(kind, deeds, enough.set).victim for kind in ("serve", "work", "rabbitmq")]
    with Havoc(mayflies, pause_seconds=0) as havoc:
        assert enough.wait(10)
    assert deeds[:8] == [
        f"{kind} {deed}" for kind in ("serve", "work", "rabbitmq", "serve") for deed in ("dies", "is back")
    ]
    assert havoc.has_killed(3)
    assert not havoc.has_killed(3, 10**9)


def test_who_does_not_come_back_is_told() -> None:
    deeds: list[str] = []
    over = threading.Event()
    mayfly = _Mayfly("work", deeds, over.set, comes_back=False).victim
    havoc = Havoc([mayfly], pause_seconds=0)
    havoc.__enter__()
    assert over.wait(10)
    with pytest.raises(RuntimeError, match="did not come back"):
        havoc.__exit__(None)
    assert deeds == ["work dies", "work is back"]
