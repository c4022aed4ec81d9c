"""Is this process fit to take messages? One named answer per thing that it needs."""

from __future__ import annotations

import mmap
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from bus.assembly import Bus
from bus.broker import BrokerStanding
from bus.broker.nodes import look_at_nodes
from bus.logs import get_logger
from bus.worker import WorkStanding

log = get_logger()

#: A bus that cannot write is better taken out of service while it can still write its log. Bytes.
LEAST_FREE_BYTES = 256 * 1024 * 1024
#: The sealer runs every second (``checkpoint_seconds``); entries that wait this long say that no `lgsp work` runs.
LONGEST_UNSEALED = timedelta(seconds=60)
#: A turn of the relay takes milliseconds, and a second when the store is away. Seconds.
LONGEST_TURN = 60.0


#: One byte that all processes of one program share, those that it forks too.
_ending = mmap.mmap(-1, 1)


def begin_ending() -> None:
    """This program was told to end: it still answers, but nothing more is to be sent here."""
    _ending[0] = 1


def is_ending() -> bool:
    """Has `begin_ending` been called in any process of this program?"""
    return _ending[0] == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at. ``why`` is for the operator: a fact and what to do, no paths, no addresses."""

    name: str
    ok: bool
    why: str = ""


def readiness(
    bus: Bus,
    now: datetime,
    *,
    least_free_bytes: int = LEAST_FREE_BYTES,
    longest_unsealed: timedelta = LONGEST_UNSEALED,
    work: WorkStanding | None = None,
) -> list[Check]:
    """All checks, each made even when another fails. Costs a handful of look-ups, whatever the bus holds.

    ``work`` is how this process delivers, if it does.
    """
    looks: dict[str, Callable[[], str]] = {
        "store": lambda: _store(bus),
        "registry": lambda: _registry(bus),
        "keys": lambda: _keys(bus, now),
        "disk": lambda: _disk(bus, least_free_bytes),
        "checkpoint": lambda: _checkpoint(bus, now, longest_unsealed),
        "ending": lambda: "this process was told to end: send to another" if is_ending() else "",
    }
    if work is not None:
        looks["relay"] = lambda: _relay(work)
        if (broker := work.broker) is not None:
            looks["broker"] = lambda: _broker(broker)
    checks = [_look(name, look) for name, look in looks.items()]
    if work is None and bus.settings.broker_urls:
        checks.append(_broker_from_afar(bus))
    return checks


def _look(name: str, look: Callable[[], str]) -> Check:
    try:
        why = look()
    except Exception as failure:
        # Whatever a driver raises: the type goes to the operator, the text (paths, statements) to nobody.
        log.warning("readiness.failed", step=name, reason=type(failure).__name__)
        why = f"cannot be looked at ({type(failure).__name__})"
    return Check(name=name, ok=not why, why=why)


def _store(bus: Bus) -> str:
    bus.registry.revision()
    return ""


def _registry(bus: Bus) -> str:
    directory = bus.directory.current()
    return "" if directory.agencies else "nothing is registered: apply manifests with `lgsp registry apply`"


def _keys(bus: Bus, now: datetime) -> str:
    record = bus.ring.find_key(bus.ring.current.key_id)
    if record is None or not record.not_before <= now < record.not_after:
        return "the signing key is not valid now: rotate it with `lgsp key rotate`"
    return ""


def _disk(bus: Bus, least_free_bytes: int) -> str:
    free = shutil.disk_usage(bus.settings.home).free
    return "" if free >= least_free_bytes else f"{free // 2**20} MiB free in the home folder: make room"


def _checkpoint(bus: Bus, now: datetime, longest_unsealed: timedelta) -> str:
    with bus.store.reading() as connection:
        standing = bus.log.standing(connection)
    if standing.waiting_since is None or now - standing.waiting_since <= longest_unsealed:
        return ""
    return f"{standing.size - standing.sealed} entries wait to be sealed: is `lgsp work` running?"


def _broker(standing: BrokerStanding) -> str:
    if not standing.connected:
        return "not connected: what is due waits in the outbox; look at RabbitMQ and LGSP_BROKER_URL"
    return "paused by the broker: give its nodes memory and disk" if standing.blocked else ""


def _broker_from_afar(bus: Bus) -> Check:
    """For a process that only accepts. It says what it sees and stays ready: what it takes waits safely in the outbox,
    and to send callers away because a queue behind it rests would turn a delay into an outage."""
    lost = [seen.node for seen in look_at_nodes(bus.settings.broker_urls) if not seen.reachable]
    why = f"{len(lost)} of {len(bus.settings.broker_urls)} nodes cannot be reached: deliveries may wait" if lost else ""
    return Check(name="broker", ok=True, why=why)


def _relay(work: WorkStanding) -> str:
    ago = work.turned_seconds_ago
    return "" if ago <= LONGEST_TURN else f"no turn for {ago:.0f} s: does the store answer? If it does, restart it"
