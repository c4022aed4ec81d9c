"""The demonstration's story in production mode, while what carries it is being killed: two `serve` behind a proxy, two
`work`, one PostgreSQL, three RabbitMQ nodes, of which one each is killed and started again, all through the story. It
is told until each kind was killed four times.

::

    make scenario ARGS=--story
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.faults_line import Line
from benchmarks.faults_servers import Servers
from benchmarks.havoc import Havoc, victims_of
from benchmarks.processes import free_port
from bus.demo.province import Province, running_province
from bus.demo.story import Story
from bus.processes.catalogue import shipped
from bus.settings import load_settings

#: Of processes that are killed: serve, work, rabbitmq.
KINDS = 3


@contextmanager
def province_on_cluster(home: Path, servers: Servers) -> Iterator[Province]:
    """The demonstration's province on these servers, behind a proxy."""
    ports = [free_port(), free_port()]
    proxy = Line(ports)
    settings = load_settings(
        {
            "home": home,
            "port": ports[0],
            "sandbox_port": free_port(),
            "public_url": proxy.url,
            "lease_seconds": 11,  # a partner of the demonstration is waited for 10 s
            "breaker_open_seconds": 1,
            "node_beat_seconds": 1,
            "serve_processes": 1,
            "processes": ",".join(definition.code for definition in shipped()),
        },
        environ=servers.variables(),
    )
    try:
        with running_province(settings, serve_ports=ports, works=2) as province:
            yield province
    finally:
        proxy.close()


def play(home: Path, servers: Servers, say: Callable[[str], None], *, kills: int = 1) -> Havoc:
    """The story, told again until a process of each kind was killed so often. Raises StepFailed, Problem or OSError for
    the first step that is not true."""
    with (
        province_on_cluster(home, servers) as province,
        Havoc(victims_of(province.nodes, province.bus, servers.rabbitmq), pause_seconds=0.3, say=say) as havoc,
    ):
        while not havoc.has_killed(KINDS, kills):
            with closing(Story(province, lambda _: None)) as story:
                _tell(story, say)
    return havoc


def _tell(story: Story, say: Callable[[str], None]) -> None:
    for number, (title, step) in enumerate(story.steps(), start=1):
        begun = time.monotonic()
        step()
        say(f"{number:2}. {title.en}  {time.monotonic() - begun:.1f} s")


def main() -> int:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lgsp-story-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # PostgreSQL's own user passes through
        servers = Servers(Path(folder) / "servers")
        try:
            havoc = play(Path(folder) / "home", servers, lambda text: print(text, flush=True), kills=4)
        finally:
            servers.stop()
    kills = ", ".join(f"{kind} {count}" for kind, count in sorted(havoc.kills.items()))
    print(f"every step was true in {time.monotonic() - begun:.0f} s; killed: {kills}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
