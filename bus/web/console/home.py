"""The first screen: what is wrong, whom it touches, where to mend it; how flows go; what ends soon; the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from werkzeug.wrappers import Response as AnyResponse

from bus.access_requests import AccessRequests
from bus.assembly import Bus
from bus.figures import Counts, Hour, Route
from bus.incidents import AlertStore
from bus.overview import Overview, Overviews, TroubleGroup
from bus.web.console.alerts import open_now
from bus.web.console.desk import Console, Desk, Right
from bus.web.console.kept import Kept
from bus.web.console.registry_view import endings
from schemas.moment import utc_now
from security.evidence.log import EvidenceDamaged, LogStanding, StampStanding

#: All open pages of a process share what was read so lately.
_KEPT: Final = timedelta(seconds=5)
#: Rows of the table of flows, and groups of failures; the map and the bulk page show the others.
_MOST_FLOWS: Final = 50
_MOST_GROUPS: Final = 20


def install(console: Console) -> None:
    bus, overviews = console.bus, Overviews(console.bus.store)
    kept = Kept(lambda now: (overviews.read(now), _evidence(bus, now)), _KEPT)
    alerts = AlertStore(bus.store)

    @console.page("/", Right.SEE, menu=("Tổng quan", "Overview"))
    def home(desk: Desk) -> AnyResponse:
        return desk.show("home.html", **_values(desk, kept), **open_now(desk, alerts))

    @console.page("/parts/overview", Right.SEE)
    def overview_part(desk: Desk) -> AnyResponse:
        """What of the first screen changes; an answer that is as before costs the browser nothing."""
        return desk.part("home-live.html", **_values(desk, kept), **open_now(desk, alerts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """How the evidence log stands. ``holds``: the latest checkpoint is what the log's own leaves say, as of
    ``verified_at``."""

    log: LogStanding
    stamps: StampStanding | None
    holds: bool
    verified_at: datetime


def _evidence(bus: Bus, now: datetime) -> Evidence:
    with bus.store.reading() as connection:
        standing = bus.log.standing(connection)
        stamps = bus.log.stamp_standing(connection) if bus.settings.timestamp_urls else None
        checkpoint = bus.log.latest_checkpoint(connection)
        try:
            holds = checkpoint is None or bus.log.root_at(connection, checkpoint.size) == checkpoint.root
        except (EvidenceDamaged, ValueError):  # ValueError: fewer leaves than it was signed over
            holds = False
    return Evidence(log=standing, stamps=stamps, holds=holds, verified_at=now)


def _values(desk: Desk, kept: Kept[tuple[Overview, Evidence]]) -> dict[str, Any]:
    read_at, (read, evidence) = kept.at(utc_now())

    def seen(route: Route) -> bool:
        return desk.sees(route.sender, route.receiver)

    def touches(group: TroubleGroup) -> bool:
        return desk.scope is None or desk.scope in group.agencies

    flows = [each for each in read.flows if seen(each.route)]
    hours, sums = read.by_hour(desk.scope), Counts()
    for hour in hours:
        sums += hour.counts
    dead, refused = list(filter(touches, read.dead)), list(filter(touches, read.refused))
    # Strangers belong to no flow; they were refused all the same.
    sums.refused = max(sums.refused, sum(group.count for group in refused))
    soon = endings(desk, read_at)
    return {
        "n": desk.names,
        "read_at": read_at,
        "strip": strip(hours),
        "sums": sums,
        "flows": flows[:_MOST_FLOWS],
        "flows_left": max(0, len(flows) - _MOST_FLOWS),
        "waiting": sum(each.waiting for each in flows),
        "oldest": min((each.oldest for each in flows if each.oldest), default=None),
        "dead": dead[:_MOST_GROUPS],
        "dead_left": max(0, len(dead) - _MOST_GROUPS),
        "dead_count": sum(group.count for group in dead),
        "refused": refused[:_MOST_GROUPS],
        "refused_left": max(0, len(refused) - _MOST_GROUPS),
        "overview": read,
        "soon": soon[:_MOST_GROUPS],
        "soon_left": max(0, len(soon) - _MOST_GROUPS),
        "asked": _asked(desk),
        "evidence": evidence if desk.scope is None else None,
        "bulk_address": bulk_address,
        "hour_ago": read_at - timedelta(hours=2),
    }


def _asked(desk: Desk) -> int:
    """Access requests that wait for this person's decision."""
    return AccessRequests(desk.bus.store).waiting(desk.scope) if desk.may(Right.REGISTER) else 0


def bulk_address(group: TroubleGroup, **more: str) -> str:
    """The page that mends a group of dead deliveries."""
    route = group.route
    facts = {"system": route.system, "service": route.service, "sender": route.sender, "reason": group.reason}
    return f"/console/bulk?{urlencode({**facts, **more})}"


# ── the strip of the last day ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One hour of the strip: pieces from the bottom up, ``(colour, y, height)`` in pixels."""

    hour: Hour
    x: int
    pieces: tuple[tuple[str, float, float], ...]


#: Heights and widths of the drawing, pixels.
STRIP_HEIGHT, _BAR_STEP = 100, 30
_COLOURS: Final = (("delivered", "#2da44e"), ("refused", "#d4a72c"), ("died", "#cf222e"))


def strip(hours: list[Hour]) -> list[Bar]:
    """Bars as high as what ended in an hour; whatever failed is seen, be it one among a million."""
    highest = max((sum(getattr(hour.counts, what) for what, _ in _COLOURS) for hour in hours), default=0) or 1
    bars = []
    for place, hour in enumerate(hours):
        top, pieces = float(STRIP_HEIGHT), []
        for what, colour in _COLOURS:
            value = getattr(hour.counts, what)
            height = max(value / highest * (STRIP_HEIGHT - 8), 3.0) if value else 0.0
            top -= height
            if height:
                pieces.append((colour, round(top, 1), round(height, 1)))
        bars.append(Bar(hour=hour, x=place * _BAR_STEP, pieces=tuple(pieces)))
    return bars
