"""The map: who talks to whom, drawn from what really passed; where it fails and where a receiver rests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from bus.figures import Counts, Figures, Flow
from bus.nodes import open_breakers
from bus.web.console.desk import Console, Desk, Right
from bus.web.console.kept import Kept
from schemas.identifiers import AgencyCode
from schemas.moment import VIETNAM, utc_now

#: Name in the address → how far back; whole days where it is more than one.
_SPANS: Final = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30)}
#: How long all pages of a process share what was read.
_KEPT: Final = {"24h": timedelta(seconds=15), "7d": timedelta(minutes=2), "30d": timedelta(minutes=5)}
#: What can be told apart in one drawing; the table has the others.
MOST_NODES: Final = 24
MOST_LINES: Final = 60
_PAGE: Final = 50
#: Of messages that came to an end: from here on a line is amber, and red.
_SOME_FAIL, _MANY_FAIL = 1.0, 10.0

_WIDTH, _NODE_WIDTH, _NODE_HEIGHT, _ROW = 1240, 240, 42, 60
_COLUMNS: Final = (10, (_WIDTH - _NODE_WIDTH) // 2, _WIDTH - _NODE_WIDTH - 10)


def install(console: Console) -> None:
    figures = Figures(console.bus.store)

    def lately(span: str) -> Kept[list[Flow]]:
        return Kept(lambda now: figures.flows(since_of(span, now)), _KEPT[span])

    kept = {span: lately(span) for span in _SPANS}

    @console.page("/map", Right.SEE, menu=("Bản đồ luồng", "Flow map"))
    def flow_map(desk: Desk) -> AnyResponse:
        return desk.show("map.html", **_values(desk, kept))

    @console.page("/parts/map", Right.SEE)
    def flow_map_part(desk: Desk) -> AnyResponse:
        """The drawing and the table, asked for again by an open page."""
        return desk.part("map-live.html", **_values(desk, kept))


def _values(desk: Desk, kept: Mapping[str, Kept[list[Flow]]]) -> dict[str, Any]:
    span = request.args.get("span", "")
    span = span if span in _SPANS else "24h"
    agency, service = request.args.get("agency", ""), request.args.get("service", "")
    read_at, flows = kept[span].at(utc_now())
    since = since_of(span, read_at)
    with desk.bus.store.reading() as connection:
        resting = open_breakers(connection)
    mine = [flow for flow in flows if desk.sees(flow.sender, flow.receiver)]
    chosen = [
        flow
        for flow in mine
        if (not agency or agency in (flow.sender, flow.receiver)) and (not service or service == flow.service)
    ]
    chosen.sort(key=lambda flow: (-flow.counts.accepted - flow.counts.refused, flow.sender, flow.service))
    first = request.args.get("from", 0, type=int)
    first = first if 0 <= first < len(chosen) else 0
    asked = {"span": span, "agency": agency, "service": service}
    return {
        "asked": asked,
        "part": _query(asked, first),
        "spans": list(_SPANS),
        "agencies": sorted({code for flow in mine for code in (flow.sender, flow.receiver) if code}),
        "services": sorted({flow.service for flow in mine if flow.service}),
        "drawing": draw(_lines(chosen, resting), str(desk.bus.settings.system).partition("/")[0]),
        "flows": chosen[first : first + _PAGE],
        "count": len(chosen),
        "first": first,
        "more": _query(asked, first + _PAGE) if first + _PAGE < len(chosen) else "",
        "back": _query(asked, max(0, first - _PAGE)) if first else "",
        "resting": resting,
        "hours": max(1.0, (utc_now() - since) / timedelta(hours=1)),
        "messages": lambda **wanted: messages_address(since, **wanted),
        "agency_name": desk.names.agency,
        "service_name": desk.names.service,
    }


def messages_address(since: datetime, *, sender: str, receiver: str, service: str = "") -> str:
    """The list of what one agency sent to another in that time."""
    wanted = {"sender": sender, "receiver": receiver, "service": service}
    wanted |= {"since": f"{since.astimezone(VIETNAM):%Y-%m-%d}"}
    return f"/console/messages?{urlencode({name: text for name, text in wanted.items() if text})}"


def _query(asked: dict[str, str], first: int) -> str:
    return urlencode({name: text for name, text in asked.items() if text} | {"from": first})


def since_of(span: str, now: datetime) -> datetime:
    """Whole days, for which figures are kept ready, where it is more than one."""
    if span == "24h":
        return now - _SPANS[span]
    return (now.astimezone(VIETNAM) - _SPANS[span]).replace(hour=0, minute=0, second=0, microsecond=0)


# ── drawing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True, kw_only=True)
class Line:
    """All that one agency sent to another."""

    sender: str
    receiver: str
    counts: Counts = field(default_factory=Counts)
    services: set[str] = field(default_factory=set)
    #: A system of the receiver rests behind its circuit breaker.
    rests: bool = False

    @property
    def tone(self) -> str:
        """``good``, ``warn`` or ``bad``."""
        failed = self.counts.failed_percent or 0
        if self.rests or failed >= _MANY_FAIL:
            return "bad"
        return "warn" if failed >= _SOME_FAIL else "good"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An agency, and the upper left corner of its box."""

    code: str
    x: int
    y: int
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnLine:
    line: Line
    #: SVG path data, from the sender's box to the receiver's.
    path: str
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """What is drawn, and how much is not."""

    nodes: Sequence[Node]
    lines: Sequence[DrawnLine]
    #: (x, group) of each column: ``below``, ``province``, ``outside``.
    columns: Sequence[tuple[int, str]]
    width: int
    height: int
    nodes_left: int
    lines_left: int


def _lines(flows: Iterable[Flow], resting: Collection[str]) -> list[Line]:
    found: dict[tuple[str, str], Line] = {}
    for flow in flows:
        if flow.system:
            key = (flow.sender, flow.receiver)
            line = found.setdefault(key, Line(sender=flow.sender, receiver=flow.receiver))
            line.counts += flow.counts
            line.services.add(flow.service)
            line.rests = line.rests or flow.system in resting
    return list(found.values())


def group_of(code: str, province: str) -> str:
    """Of the province itself, of what is below its departments, or from elsewhere."""
    agency = AgencyCode.unchecked(code)
    if not agency.is_within(province):
        return "outside"
    return "province" if agency.level <= 2 else "below"


def draw(lines: Sequence[Line], province: str) -> Drawing:
    """The busiest agencies with what passes between them: those below the departments at the left, the province in the
    middle, others at the right; neighbours near each other."""
    traffic: defaultdict[str, int] = defaultdict(int)
    for line in lines:
        for code in (line.sender, line.receiver):
            # What fails or rests is drawn before what is merely busy.
            traffic[code] += line.counts.accepted + (10**9 if line.tone == "bad" else 0)
    shown = set(sorted(traffic, key=lambda code: (-traffic[code], code))[:MOST_NODES])
    inside = [line for line in lines if line.sender in shown and line.receiver in shown]
    inside.sort(key=lambda line: (line.tone != "bad", -line.counts.accepted, line.sender, line.receiver))
    drawn = inside[:MOST_LINES]
    columns = _columns(shown, drawn, province)
    height = max((len(codes) for codes in columns.values()), default=0) * _ROW + 40
    places = {
        code: (_x_of(group, columns), (height - len(codes) * _ROW) // 2 + number * _ROW + 30)
        for group, codes in columns.items()
        for number, code in enumerate(codes)
    }
    most = max((line.counts.accepted for line in drawn), default=1) or 1
    return Drawing(
        nodes=[Node(code=code, x=x, y=y, tone=_tone_of(code, lines)) for code, (x, y) in places.items()],
        lines=[
            DrawnLine(
                line=line,
                path=_path(places[line.sender], places[line.receiver]),
                width=round(1.2 + 5 * (line.counts.accepted / most) ** 0.5, 1),
            )
            for line in drawn
        ],
        columns=[(_x_of(group, columns), group) for group in columns],
        width=_WIDTH,
        height=height + 20,
        nodes_left=len(traffic) - len(shown),
        lines_left=len(lines) - len(drawn),
    )


def _columns(shown: Iterable[str], lines: Sequence[Line], province: str) -> dict[str, list[str]]:
    """Group → its agencies from top to bottom. One group alone is parted into those that mostly send and those that
    mostly get."""
    columns: dict[str, list[str]] = {}
    for group in ("below", "province", "outside"):
        codes = sorted(code for code in shown if group_of(code, province) == group)
        if codes:
            columns[group] = codes
    if len(columns) == 1 and (codes := next(iter(columns.values())))[1:]:
        sent: defaultdict[str, int] = defaultdict(int)
        for line in lines:
            sent[line.sender] += line.counts.accepted
            sent[line.receiver] -= line.counts.accepted
        codes = sorted(codes, key=lambda code: (-sent[code], code))
        columns = {"senders": codes[: (len(codes) + 1) // 2], "receivers": codes[(len(codes) + 1) // 2 :]}
    for _ in range(3):
        _untangle(columns, lines)
    return columns


def _untangle(columns: dict[str, list[str]], lines: Sequence[Line]) -> None:
    """Each agency at the mean height of those it talks to: fewer lines cross."""
    height = {code: number / len(codes) for codes in columns.values() for number, code in enumerate(codes)}
    beside: defaultdict[str, list[float]] = defaultdict(list)
    for line in lines:
        beside[line.sender].append(height[line.receiver])
        beside[line.receiver].append(height[line.sender])
    for codes in columns.values():
        codes.sort(key=lambda code: (sum(beside[code]) / len(beside[code]) if beside[code] else 1.0, code))


def _x_of(group: str, columns: dict[str, list[str]]) -> int:
    if len(columns) == 2:
        return (_COLUMNS[0], _COLUMNS[2])[list(columns).index(group)]
    return _COLUMNS[1] if len(columns) == 1 else _COLUMNS[("below", "province", "outside").index(group)]


def _tone_of(code: str, lines: Iterable[Line]) -> str:
    return "bad" if any(line.rests and line.receiver == code for line in lines) else "good"


def _path(start: tuple[int, int], end: tuple[int, int]) -> str:
    """There and back lie a little apart; within a column it goes round by the right."""
    (x1, y1), (x2, y2) = start, end
    if x1 == x2:
        side, away = x1 + _NODE_WIDTH, 50 + abs(y2 - y1) // 5
        y1, y2 = y1 + _NODE_HEIGHT // 2 + 8, y2 + _NODE_HEIGHT // 2 - 8
        return f"M{side} {y1}C{side + away} {y1} {side + away} {y2} {side + 3} {y2}"
    right = x2 > x1
    apart = -6 if right else 6
    y1, y2 = y1 + _NODE_HEIGHT // 2 + apart, y2 + _NODE_HEIGHT // 2 + apart
    x1, x2 = (x1 + _NODE_WIDTH, x2 - 3) if right else (x1, x2 + _NODE_WIDTH + 3)
    middle = (x1 + x2) // 2
    return f"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"
