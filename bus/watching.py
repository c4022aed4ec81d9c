"""The duty of watching: once a minute one process looks at what rules look at, and writes what they find; whoever is
free sends what is to be told. Messages never wait for either."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, TypeVar

from bus.alerts import KeyEnd, Kind, QuotaUse, Rule, Sight, judge
from bus.assembly import Bus
from bus.incidents import AlertStore
from bus.logs import get_logger
from bus.notices import Notices
from bus.quotas import day_period
from registry.directory import Directory
from schemas.problem import Problem

log = get_logger()
T = TypeVar("T")

WATCH_SECONDS: Final = 60.0
#: How often notices that are due are looked for.
TELL_SECONDS: Final = 5.0


class Watch:
    """One process's part in it. `look_in_turn` and `tell` may run on two threads."""

    def __init__(self, bus: Bus, notices: Notices | None = None) -> None:
        self._bus = bus
        self._alerts = AlertStore(bus.store)
        self._notices = notices or Notices(bus.settings)

    def look_in_turn(self, now: datetime) -> bool:
        """Look, unless a process of this bus has done so within the minute. True when this one did."""
        if not self._bus.in_turn("alerts", now, WATCH_SECONDS, lambda _: True):
            return False
        self.look(now)
        return True

    def look(self, now: datetime) -> None:
        """What every rule finds at this moment is written. What cannot be looked at leaves its rules' incidents as they
        are: not to see is not to see that all is well."""
        rules = self._alerts.rules()
        for kind in Kind:
            of_kind = [rule for rule in rules if rule.kind is kind]
            try:
                sight = self._sight(kind, of_kind, now)
                for rule in of_kind:
                    opened, closed = self._alerts.keep(rule, judge(rule, sight), now)
                    if opened or closed:
                        log.info("alert.changed", rule=rule.id, kind=kind.value, opened=opened, closed=closed)
            except Exception:
                log.exception("alert.not_looked", kind=kind.value)

    def tell(self, now: datetime, stopping: Callable[[], bool] = lambda: False) -> int:
        """Send what is due; how many went. One that fails is tried again later, and the others go."""
        sent = 0
        for notice in self._alerts.take_due_notices(now):
            if stopping():
                break
            try:
                self._notices.send(notice)
            except Problem as problem:
                log.warning("alert.not_told", notice=notice.id, channel=notice.channel, reason=problem.reason)
                self._alerts.note_failed(notice.id, problem.reason, problem.facts)
                continue
            except Exception as error:  # the others must go all the same
                log.exception("alert.not_told", notice=notice.id, channel=notice.channel)
                self._alerts.note_failed(notice.id, "alert-not-sent", {"said": type(error).__name__})
                continue
            self._alerts.note_sent(notice.id, now)
            sent += 1
        return sent

    def close(self) -> None:
        self._notices.close()

    def _sight(self, kind: Kind, rules: Sequence[Rule], now: datetime) -> Sight:
        """What rules of this kind look at, and no more."""
        bus, sight = self._bus, Sight(at=now)
        if not any(rule.enabled for rule in rules):
            return sight
        match kind:
            case Kind.QUEUE_AGE:
                return replace(sight, queues=bus.ledger.queues())
            case Kind.ERROR_RATE:
                return replace(sight, attempts=self._alerts.attempts(now))
            case Kind.SILENCE:
                return replace(sight, accepted=self._alerts.accepted({rule.target for rule in rules}))
            case Kind.BREAKER:
                return replace(sight, open_breakers=self._alerts.open_breakers())
            case Kind.CERTIFICATE:
                return replace(sight, keys=list(_key_ends(bus)))
            case Kind.CHECKPOINT:
                with bus.store.reading() as connection:
                    return replace(sight, unsealed_since=bus.log.standing(connection).waiting_since)
            case Kind.QUOTA:
                return replace(sight, quotas=self._quotas(bus.directory.current(), now))

    def _quotas(self, directory: Directory, now: datetime) -> list[QuotaUse]:
        limited = {grant.id: grant for grant in directory.grants.values() if grant.quota.per_day}
        used = self._alerts.quota_used(list(limited), day_period(now))
        return [
            QuotaUse(grant=name, grantee=limited[name].grantee, used=count, limit=limited[name].quota.per_day)
            for name, count in used.items()
        ]


def _key_ends(bus: Bus) -> Iterator[KeyEnd]:
    """Of each system that has keys, and of the bus itself."""
    for system in bus.directory.current().systems.values():
        if system.keys_end is not None:
            yield KeyEnd(system=system.code, ends=system.keys_end)
    ours: Any = bus.ring.find_key(bus.ring.current.key_id)
    if ours is not None:
        yield KeyEnd(system=ours.system, ends=ours.not_after)
