"""Makes the processes of one bus act as one towards its receivers, with nobody in charge.

Each process looks at what all have told (:mod:`bus.nodes`) once a second, and beats (writes its own row) every few
seconds, or at once when it has something to tell. From a look follow:

*who lives*      a row whose beats grow. Own clock, own eyes: a clock that jumps makes nobody dead.
*parts*          the concurrency limit of a system is divided among those who call it; the rest of the processes, who
                 do not, take nothing away. Who begins to call a system that others call has a small part until they
                 have seen it.
*breakers*       one that opens anywhere opens here within a second, one that closes closes.

Nothing of it is in the path of a delivery: that asks only its own process.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from bus.bulkheads import Bulkheads, News, Part
from bus.logs import get_logger
from bus.nodes import BreakerNews, Look, NodeRecord, NodeStore, Role
from schemas.identifiers import SystemCode
from schemas.moment import to_micros, utc_now

log = get_logger()

#: How often a process looks at what the others have told.
LOOK_SECONDS: Final = 1.0
#: By then all others have seen what was told: a look, and some patience.
SEEN_SECONDS: Final = 2.0
#: Beats that may be missing before a node counts as gone.
BEATS_MISSED: Final = 4
#: Between two beats, however much there is to tell.
_LEAST_PAUSE_SECONDS: Final = 0.1
#: A row as old as this was left behind by a process that was killed.
_LEFT_BEHIND: Final = timedelta(seconds=120)

#: Who begins to call a system that others call has a tenth of the limit, until they have seen it: so far the limit may
#: be passed for these two seconds. With nothing it would answer "busy" for so long after each restart.
_BEGINNERS_PART: Final = 10


class Cluster:
    """This process among the others. `start` and `stop` it, or call `turn` yourself. Thread-safe."""

    def __init__(
        self,
        *,
        nodes: NodeStore,
        bulkheads: Bulkheads,
        revision: str,
        beat_seconds: float,
        probe_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """``probe_seconds``: the longest that one call takes, and so the longest that others wait for a probe."""
        self._nodes = nodes
        self._bulkheads = bulkheads
        self._revision = revision
        self._beat_seconds = beat_seconds
        self._probe_lease = timedelta(seconds=probe_seconds)
        self._clock = clock
        self._now = now
        self._bell = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._me: NodeRecord | None = None
        self._beaten_at = float("-inf")
        #: Node → its beats, and when they last grew by our clock.
        self._heard: dict[str, tuple[int, float]] = {}
        self._living: Sequence[NodeRecord] = ()
        #: System → when the others were told that it is called from here.
        self._told_uses: dict[SystemCode, float] = {}
        self._openings: set[str] = set()

    @property
    def id(self) -> str:
        """This process's name among the others; unique, and telling for people."""
        return self._me.id if self._me else f"{socket.gethostname()}-{os.getpid()}"

    @property
    def living(self) -> Sequence[NodeRecord]:
        """All nodes that live, this one too, as of the last look."""
        return self._living

    def start(self, role: Role) -> None:
        """Be one of them, and go on looking and beating on a thread. A store that is away is tried again."""
        self.enter(role)
        self._thread = threading.Thread(target=self._run, name="cluster", daemon=True)
        self._thread.start()

    def enter(self, role: Role) -> None:
        """Be one of them; `turn` does the rest."""
        now = self._now()
        self._me = NodeRecord(
            id=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
            role=role,
            host=socket.gethostname(),
            process=os.getpid(),
            version=program_version(),
            revision=self._revision,
            started_at=now,
            beat_at=now,
            beats=0,
        )
        self._bulkheads.join(may_probe=self._may_probe, on_news=self._bell.set)

    def stop(self) -> None:
        """Leave: the others need not wait until this one counts as gone."""
        self._stopping.set()
        self._bell.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._me is not None:
            try:
                self._nodes.leave(self._me.id)
            except Exception:  # the store is away: the row is tidied up later
                log.exception("node.not_left")
            self._me = None

    def _run(self) -> None:
        while not self._stopping.is_set():
            begun = self._clock()
            try:
                self.turn()
            except Exception:
                log.exception("node.failed")
            self._stopping.wait(_LEAST_PAUSE_SECONDS)
            self._bell.wait(max(0.0, begun + LOOK_SECONDS - self._clock()))
            self._bell.clear()

    def turn(self) -> None:
        """Beat if it is time or there is something to tell, look, and do what follows. For one thread."""
        if self._me is None:
            raise RuntimeError("enter first")
        news, uses = self._bulkheads.take_news(), self._bulkheads.used()
        due = self._clock() >= self._beaten_at + self._beat_seconds
        if due or news.opened or news.closed or news.unused_probes or uses != self._me.uses:
            self._beat(self._me, news, uses)
        look = self._nodes.look()
        self._bulkheads.follow(look.open, self._openings)
        self._openings &= set(look.open.values())
        self._living = self._alive(look)
        self._divide()

    def _beat(self, me: NodeRecord, news: News, uses: frozenset[SystemCode]) -> None:
        now = self._now()
        opened = {system: f"{to_micros(now)} {me.id}" for system in news.opened}
        self._openings.update(opened.values())
        self._me = replace(me, beat_at=now, beats=me.beats + 1, uses=uses)
        told = BreakerNews(opened=opened, closed=news.closed, unused=news.unused_probes)
        try:
            self._nodes.beat(self._me, told)
        except BaseException:
            self._bulkheads.tell_again(news)
            raise
        self._beaten_at = self._clock()
        self._told_uses = {system: self._told_uses.get(system, self._beaten_at) for system in uses}
        for system in opened:
            log.warning("breaker.opened", system=system)
        for system in news.closed:
            log.info("breaker.closed", system=system)

    def _alive(self, look: Look) -> list[NodeRecord]:
        clock, now = self._clock(), self._now()
        heard: dict[str, tuple[int, float]] = {}
        for node in look.nodes:
            known = self._heard.get(node.id)
            if known is None:
                old = node.beat_at < now - _LEFT_BEHIND
                heard[node.id] = (node.beats, float("-inf") if old else clock)
            else:
                heard[node.id] = known if known[0] == node.beats else (node.beats, clock)
        self._heard = heard
        patience = BEATS_MISSED * self._beat_seconds
        me = self._me.id if self._me else ""
        return [node for node in look.nodes if node.id == me or clock - heard[node.id][1] < patience]

    def _divide(self) -> None:
        me = self._me
        if me is None:
            return
        users: dict[SystemCode, list[str]] = {}
        for node in self._living:
            for system in node.uses:
                users.setdefault(system, []).append(node.id)
        settled = self._clock() - SEEN_SECONDS
        alone = len(self._living) <= 1
        parts: dict[SystemCode, Part] = {}
        for system, who in users.items():
            if alone or (me.id in who and self._told_uses.get(system, settled + 1) <= settled):
                parts[system] = _part(me.id, who)
            elif set(who) != {me.id}:
                many = max(_BEGINNERS_PART, len(who) + 1)
                parts[system] = Part(rank=many - 1, of=many)
        # What nobody calls yet, several may begin to call at the same moment.
        others = _part(me.id, [node.id for node in self._living])
        deliverers = sum(node.role is Role.WORK for node in self._living)
        self._bulkheads.divide(parts, others, deliverers)

    def _may_probe(self, system: SystemCode) -> bool:
        if self._me is None:
            return True
        living = [node.id for node in self._living]
        return self._nodes.claim_probe(system, self._me.id, living, self._now(), self._probe_lease)


def _part(me: str, of: Sequence[str]) -> Part:
    who = sorted({me, *of})
    return Part(rank=who.index(me), of=len(who))


def program_version() -> str:
    """The version of this program, as installed."""
    try:
        return version("lgsp-bus")
    except PackageNotFoundError:  # run from a folder that nothing was installed from
        return "unknown"
