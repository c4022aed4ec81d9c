"""Which nodes of the broker can be reached from here, and how quickly.

Needs no password and leaves no line in their logs: a connection is opened and closed again, as a load balancer does.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

#: A node of the same network answers in a millisecond; one that is gone must not hold up a scrape.
_PATIENCE_SECONDS: Final = 1.0
_PORTS: Final = {"amqp": 5672, "amqps": 5671}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStanding:
    """A node of the broker, seen from this machine."""

    #: ``host:port``.
    node: str
    reachable: bool
    #: How long the connection took; what was waited, where there was none.
    seconds: float


def look_at_nodes(urls: Sequence[str], patience_seconds: float = _PATIENCE_SECONDS) -> list[NodeStanding]:
    """Each node once, all at the same time; never raises."""
    if not urls:
        return []
    with ThreadPoolExecutor(len(urls)) as pool:
        return list(pool.map(lambda url: _look_at(url, patience_seconds), urls))


def _look_at(url: str, patience_seconds: float) -> NodeStanding:
    started = time.monotonic()
    parts = urlsplit(url)
    host, port = parts.hostname or "localhost", parts.port or _PORTS.get(parts.scheme, 5672)
    try:
        socket.create_connection((host, port), patience_seconds).close()
        reachable = True
    except OSError:
        reachable = False
    return NodeStanding(node=f"{host}:{port}", reachable=reachable, seconds=time.monotonic() - started)
