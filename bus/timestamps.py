"""The duty of getting timestamps: the latest checkpoint goes to an authority outside, and what it says is kept.

A checkpoint covers all entries before it, so one timestamp now and then is enough, and one that was missed is made up
for by the next. Messages never wait for an authority.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from bus.assembly import Bus
from bus.logs import get_logger
from bus.settings import Settings
from connectors.http import HttpClient, HttpSettings, check_status
from schemas.moment import utc_now
from schemas.problem import Problem
from security.evidence.checkpoint import Checkpoint
from security.timestamps import MAX_ANSWER_BYTES, QUERY_TYPE, REPLY_TYPE, Timestamp, TimestampTrust

log = get_logger()

#: For a whole answer; authorities take a fraction of a second.
ANSWER_SECONDS = 10.0
#: After each failure in a row the pause doubles, up to so many periods.
LONGEST_PAUSE_PERIODS = 8


def timestamp_trust(settings: Settings) -> TimestampTrust | None:
    """Whose timestamps are believed; None where no authority is asked.

    Raises Malformed(timestamp-authority-unreadable).
    """
    if not settings.timestamp_urls:
        return None
    return TimestampTrust.load(
        Path(settings.timestamp_authority),
        policy=settings.timestamp_policy,
        clock_skew_seconds=settings.clock_skew_seconds,
    )


class Stamping:
    """One process's part in the duty: whoever's turn it is asks. For one thread."""

    def __init__(
        self,
        bus: Bus,
        trust: TimestampTrust,
        *,
        answer_seconds: float = ANSWER_SECONDS,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._trust = trust
        self._answer_seconds = answer_seconds
        self._clock = clock
        self._monotonic = monotonic
        self._http = HttpClient(HttpSettings(max_reply_bytes=MAX_ANSWER_BYTES, kept_connections=1))
        #: The one that answered last is asked first.
        self._urls = list(bus.settings.timestamp_urls)
        self._failures = 0
        self._rests_until = 0.0

    @classmethod
    def of(cls, bus: Bus) -> Stamping | None:
        """None where no authority is asked. Raises Malformed(timestamp-authority-unreadable)."""
        trust = timestamp_trust(bus.settings)
        return None if trust is None else cls(bus, trust)

    def stamp_in_turn(self, now: datetime, stopping: Callable[[], bool] = lambda: False) -> Checkpoint | None:
        """Get a timestamp for the latest checkpoint, if it needs one and it is this process's turn; the checkpoint that
        has one now. ``stopping`` is asked between two authorities."""
        if self._monotonic() < self._rests_until:
            return None
        # 1. Whose turn it is, and what is to be stamped: a transaction that ends before the network begins
        checkpoint = self._bus.to_be_stamped(now)
        if checkpoint is None:
            return None
        # 2. The authorities in turn
        stamp = self._stamped(checkpoint, stopping)
        if stamp is None:
            self._rest()
            return None
        # 3. Kept, unless somebody else was quicker
        self._failures = 0
        if not self._bus.store.write(self._bus.log.keep_timestamp, checkpoint.size, stamp.token, stamp.at):
            return None
        log.info("evidence.stamped", size=checkpoint.size)
        return checkpoint

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()

    def _stamped(self, checkpoint: Checkpoint, stopping: Callable[[], bool]) -> Timestamp | None:
        for url in list(self._urls):
            if stopping():
                return None
            try:
                stamp = self._ask(url, checkpoint.note)
            except Problem as problem:
                log.warning("timestamp.failed", authority=urlsplit(url).hostname, reason=problem.reason)
                continue
            self._urls.remove(url)
            self._urls.insert(0, url)
            return stamp
        return None

    def _ask(self, url: str, note: str) -> Timestamp:
        request = self._trust.ask(note)
        reply = self._http.request(
            "POST",
            url,
            headers={"Content-Type": QUERY_TYPE, "Accept": REPLY_TYPE},
            body=request.query,
            timeout_seconds=self._answer_seconds,
        )
        return self._trust.accept(request, check_status(reply).body, self._clock())

    def _rest(self) -> None:
        periods = min(2**self._failures, LONGEST_PAUSE_PERIODS)
        self._failures += 1
        # A little less: who looks once a period must not come just too early.
        self._rests_until = self._monotonic() + (periods - 0.1) * self._bus.settings.timestamp_seconds
