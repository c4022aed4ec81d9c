"""What kills: one process after the other with SIGKILL, each started again before the next one dies.

::

    with Havoc(victims_of(nodes, bus, cluster), say=print) as havoc:
        …
    havoc.kills  # {"serve": 4, "work": 4, "rabbitmq": 3}
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, zip_longest
from typing import Self

from benchmarks.processes import family
from benchmarks.rabbitmq import RabbitCluster, RabbitNode
from bus.assembly import Bus
from bus.demo.province import Nodes, Process

_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """Something that dies at once when it is killed, and is as it was when `start` returns."""

    #: ``serve``, ``work`` or ``rabbitmq``.
    kind: str
    kill: Callable[[], None]
    start: Callable[[], None]


class Havoc:
    """Kills while its block runs; on the way out everything is up again. Raises there what went wrong in starting."""

    def __init__(
        self, victims: Sequence[Victim], *, pause_seconds: float = 1.0, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """``pause_seconds``: between the return of one and the end of the next."""
        self._victims = victims
        self._pause_seconds = pause_seconds
        self._say = say
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._rage, name="havoc", daemon=True)
        self._failed: Exception | None = None
        self.kills: Counter[str] = Counter()
        #: From a kill to the return, the longest of each kind.
        self.longest_seconds: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._failed is not None and kind is None:
            raise self._failed

    def has_killed(self, kinds: int, times: int = 1) -> bool:
        """Has it killed so many kinds so often, and are they back?"""
        return len(self.longest_seconds) == kinds and min(self.kills.values()) >= times

    def wait_until_killed(self, kinds: int, within_seconds: float = 180.0) -> None:
        """Until :meth:`has_killed`. Raises TimeoutError, or what went wrong in starting."""
        deadline = time.monotonic() + within_seconds
        while not self.has_killed(kinds):
            if self._failed is not None:
                raise self._failed
            if time.monotonic() > deadline:
                raise TimeoutError("not every kind of process was killed in time")
            time.sleep(0.05)

    def _rage(self) -> None:
        try:
            for victim in cycle(self._victims):
                if self._over.wait(self._pause_seconds):
                    return
                begun = time.monotonic()
                victim.kill()
                self.kills[victim.kind] += 1
                victim.start()
                seconds = time.monotonic() - begun
                self.longest_seconds[victim.kind] = max(seconds, self.longest_seconds.get(victim.kind, 0.0))
                self._say(f"{victim.kind} killed, back after {seconds:.1f} s")
        except Exception as error:
            self._failed = error


def victims_of(nodes: Nodes, bus: Bus, cluster: RabbitCluster) -> list[Victim]:
    """A `serve`, a `work` and a RabbitMQ node in turn, then the next of each. ``bus``: any look at its store."""
    serves = [_serve(process, address) for address, process in nodes.serves.items()]
    works = [_work(process, bus) for process in nodes.works]
    brokers = [_node(node) for node in cluster.nodes]
    return [victim for turn in zip_longest(serves, works, brokers) for victim in turn if victim is not None]


def _serve(process: Process, address: str) -> Victim:
    def start() -> None:
        process.start()
        process.wait_for(f"{address}/v1/keys")

    return Victim(kind="serve", kill=lambda: _kill(process), start=start)


def _work(process: Process, bus: Bus) -> Victim:
    def start() -> None:
        process.start()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while process.pid not in {node.process for node in bus.nodes.look().nodes}:
            process.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{process.name} did not come back")
            time.sleep(0.1)

    return Victim(kind="work", kill=lambda: _kill(process), start=start)


def _node(node: RabbitNode) -> Victim:
    return Victim(kind="rabbitmq", kill=node.kill, start=lambda: node.start(ready_within_seconds=120.0))


def _kill(process: Process) -> None:
    """With all that it has started: the processes of a web server die with it, as when a machine fails."""
    for pid in family(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait_until_ended()
