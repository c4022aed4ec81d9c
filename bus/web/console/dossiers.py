"""One dossier: its journey across agencies as a drawn flow, who holds it and how long, due date, payments, post.

Told from the messages that this person may see: what others said of it among themselves stays theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from werkzeug.wrappers import Response as AnyResponse

from bus.dossiers import DossierStory, Timeliness, status_name, story_of
from bus.processes.journal import Journal
from bus.records import DossierEvent, ExchangeRecord, State
from bus.web.console.desk import Console, Desk, Right
from bus.web.console.names import Names
from bus.web.console.search import sees
from schemas.identifiers import DossierCode
from schemas.moment import utc_now
from schemas.problem import Malformed, NotFound

#: Messages of one drawing, and rows of the table beside it: the latest. Real dossiers have some dozens.
_MOST_DRAWN: Final = 40
_MOST_LISTED: Final = 50
#: How a due date is kept, for people, with the class of its mark.
TIMELINESS: Final = {
    Timeliness.EARLY: ("trước hạn", "early", "good"),
    Timeliness.ON_TIME: ("đúng hạn", "on time", "good"),
    Timeliness.LATE: ("trễ hạn", "late", "bad"),
    Timeliness.NO_DUE_DATE: ("xong, không có hạn", "finished, no due date", "soft"),
    Timeliness.RUNNING: ("đang xử lý", "in progress", "soft"),
    Timeliness.PAUSED: ("đang tạm dừng", "paused", "warn"),
    Timeliness.OVERDUE: ("quá hạn", "overdue", "bad"),
    Timeliness.WITHDRAWN: ("đã rút", "withdrawn", "soft"),
    Timeliness.NOT_COUNTED: ("chưa tiếp nhận", "not taken on", "soft"),
}
PAYMENTS: Final = {
    "requested": ("đã yêu cầu", "requested", "warn"),
    "paid": ("đã trả", "paid", "good"),
    "failed": ("không thành", "failed", "bad"),
    "refunded": ("đã hoàn", "refunded", "soft"),
}


def install(console: Console) -> None:
    @console.page("/dossiers/<path:code>", Right.SEE)
    def dossier(desk: Desk, code: str) -> AnyResponse:
        ledger, now = desk.bus.ledger, utc_now()
        if len(code) > DossierCode.max_length:
            raise NotFound("dossier-unknown")
        codes = ledger.codes_of_dossier(code)
        records = [record for record in ledger.of_dossier(*codes) if sees(desk, record)]
        known = _checked(code)
        refused = [each for each in (ledger.refusals_of(dossier=known) if known else []) if desk.sees(each.sender)]
        if not records and not refused:
            raise NotFound("dossier-unknown")
        seen = {record.id for record in records}
        events = [event for event in ledger.said_of_dossier(*codes) if event.exchange_id in seen]
        # Codes that only others use for it are theirs as well.
        told = {code, *(event.fact.dossier for event in events), *(record.dossier for record in records)}
        story = story_of([each for each in codes if each in told], events, now)
        names = desk.names
        return desk.show(
            "dossier.html",
            code=code,
            story=story,
            records=records[-_MOST_LISTED:],
            count=len(records),
            refused=refused[-_MOST_LISTED:],
            flow=drawn(records[-_MOST_DRAWN:], names),
            holders=holders(events, story, now),
            flows=Journal(desk.bus.store).of_dossier(known) if known and desk.scope is None else [],
            timeliness=TIMELINESS,
            payments=PAYMENTS,
            status_name=status_name,
            message_of={record.id: record.message_id for record in records},
            n=names,
        )


def _checked(code: str) -> DossierCode | None:
    try:
        return DossierCode(code)
    except Malformed:
        return None


# ── who held it ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Somebody had the dossier in hand."""

    holder: str
    since: datetime
    length: timedelta
    #: Has it still, and the clock runs.
    present: bool


def holders(events: Sequence[DossierEvent], story: DossierStory, now: datetime) -> list[Holding]:
    """One after the other, the clock stopped when the dossier is finished."""
    turns: list[tuple[str, datetime]] = []
    for event in events:
        if event.fact.holder and (not turns or turns[-1][0] != event.fact.holder):
            turns.append((event.fact.holder, event.fact.at))
    ends = [*(since for _, since in turns[1:]), story.finished_at or now][: len(turns)]
    return [
        Holding(
            holder=holder, since=since, length=max(timedelta(0), end - since),
            present=place == len(turns) - 1 and story.finished_at is None,
        )
        for place, ((holder, since), end) in enumerate(zip(turns, ends, strict=True))
    ]  # fmt: skip


# ── the drawing ───────────────────────────────────────────────────────────────────────────────────────────────────────

#: Pixels: between two agencies, of the heads, between two messages.
_COLUMN, _HEAD, _ROW = 190, 56, 40
_COLOURS: Final = {State.DELIVERED: "#1a7f37", State.WAITING: "#9a6700", State.DELIVERING: "#57606a",
                   State.DEAD: "#cf222e", State.SET_ASIDE: "#57606a"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """An agency: a line from top to bottom."""

    code: str
    name: tuple[str, ...]
    x: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """A message to one receiver."""

    y: int
    start: int
    end: int
    colour: str
    state: State
    label: str
    at: datetime
    message_id: str
    sender: str
    receiver: str

    @property
    def label_x(self) -> float:
        return (self.start + self.end) / 2

    @property
    def head(self) -> str:
        """Points of the arrow's head."""
        back = -8 if self.end > self.start else 8
        return f"{self.end},{self.y} {self.end + back},{self.y - 4} {self.end + back},{self.y + 4}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    lanes: tuple[Lane, ...]
    arrows: tuple[Arrow, ...]
    width: int
    height: int


def drawn(records: Sequence[ExchangeRecord], names: Names) -> Drawing:
    """Agencies side by side in the order in which they appear, messages below one another as they were accepted."""
    parties: dict[str, None] = {}
    for record in records:
        parties.update(dict.fromkeys([record.sender, *(each.receiver for each in record.deliveries[:4])]))
    place = {code: _COLUMN // 2 + number * _COLUMN for number, code in enumerate(parties)}
    arrows: list[Arrow] = []
    for record in records:
        for delivery in record.deliveries[:4]:
            start, end = place[record.sender], place[delivery.receiver]
            arrows.append(
                Arrow(
                    y=_HEAD + 24 + len(arrows) * _ROW,
                    start=start,
                    # To itself: a short stub, so that there is something to see.
                    end=end if end != start else start + _COLUMN // 3,
                    colour=_COLOURS[delivery.state],
                    state=delivery.state,
                    label=_cut(names.service(record.service), 26),
                    at=record.received_at,
                    message_id=record.message_id,
                    sender=record.sender,
                    receiver=delivery.receiver,
                )
            )
    lanes = tuple(Lane(code=code, name=_lines(names.agency(code)), x=x) for code, x in place.items())
    height = _HEAD + 20 + len(arrows) * _ROW
    return Drawing(lanes=lanes, arrows=tuple(arrows), width=max(1, len(lanes)) * _COLUMN, height=height)


def _lines(name: str) -> tuple[str, ...]:
    """A name in two lines of at most 24 characters."""
    first, rest = "", name.split()
    while rest and len(first) + len(rest[0]) < 24:
        first = f"{first} {rest.pop(0)}".strip()
    return (first, _cut(" ".join(rest), 24)) if rest and first else (_cut(name, 24),)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
