"""What tests of events need beside :mod:`tests.bus_world`: services that speak of dossiers, and queues of subscribers
that are lists."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from bus.event_mover import EventMover
from bus.intake import Acceptance
from connectors.base import Letter
from registry.model import (
    DossierView,
    EventDelivery,
    Grant,
    Ordering,
    Pattern,
    Service,
    Subscription,
)
from schemas.bundled import document
from schemas.events import DOSSIER_CHANGED, EVENT_SERVICE, MEDIA_TYPE
from schemas.identifiers import AgencyCode, ServiceCode
from schemas.message import Envelope, Grade
from schemas.moment import utc_now
from tests.bus_world import OPERATOR, RECEIVING, World

STATE, ASK = map(ServiceCode, ("dossier.state", "dossier.ask"))
VIEW = DossierView(
    items="/items",
    code="/code",
    aliases=("/also",),
    unit="/unit",
    status="/status",
    due="/due",
    holder="/holder",
    procedure="/procedure",
    dates=("yyyyMMddHHmmss",),
)
SUBSCRIPTION = Subscription(id="kho", system=RECEIVING, types=(DOSSIER_CHANGED,), delivery=EventDelivery.QUEUE)


def services() -> list[Service | Grant]:
    """Dossiers' states are told by a message, and by the answer to a question; events may be sent by the bus."""
    facts: dict[str, Any] = {"version": 1, "owner": AgencyCode("H99"), "grade": Grade.ATTESTED}
    return [
        Service(code=STATE, name="Trạng thái", pattern=Pattern.ONE_WAY, dossier=VIEW, **facts),
        Service(
            code=ASK, name="Hỏi trạng thái", pattern=Pattern.REQUEST_REPLY, dossier=DossierView(reply=VIEW), **facts
        ),
        Service(
            code=EVENT_SERVICE,
            name="Sự kiện",
            pattern=Pattern.ONE_WAY,
            ordering=Ordering.DOSSIER,
            content_types=(MEDIA_TYPE,),
            schema=document("cloud-event"),
            **facts,
        ),
        Grant(id="state", service=STATE, grantee=AgencyCode("H99"), include_children=True),
        Grant(id="ask", service=ASK, grantee=AgencyCode("H99"), include_children=True),
        Grant(id="events", service=EVENT_SERVICE, grantee=OPERATOR_AGENCY),
    ]


OPERATOR_AGENCY = AgencyCode(OPERATOR.split("/")[0])


@dataclass(slots=True)
class Listed:
    """Queues of subscribers. ``fails`` is asked before each letter and may raise; ``after`` when it lies here."""

    letters: list[Letter] = field(default_factory=list)
    fails: Callable[[Letter], None] = lambda letter: None
    after: Callable[[Letter], None] = lambda letter: None

    def put(self, letter: Letter, timeout_seconds: float) -> None:
        self.fails(letter)
        self.letters.append(letter)
        self.after(letter)

    def close(self) -> None:
        pass

    def events(self, system: str = RECEIVING) -> list[dict[str, Any]]:
        return [json.loads(letter.body) for letter in self.letters if letter.mailbox == system]

    def told(self, system: str = RECEIVING) -> list[tuple[str, str | None]]:
        """Subject and status, in order."""
        return [(event["subject"], event["data"].get("status")) for event in self.events(system)]


@dataclass(slots=True)
class Clock:
    """Tells the time it is set to."""

    now: datetime = field(default_factory=utc_now)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **length: float) -> None:
        self.now += timedelta(**length)


def mover(world: World, queues: Listed | None = None, now: Callable[[], datetime] = utc_now) -> EventMover:
    return EventMover(world.bus, queues, now)


def run(events: EventMover) -> int:
    """Until there is nothing to tell any more; how many events were told."""
    total = 0
    while told := events.run_once():
        total += told
    return total


def accept(world: World, payload: Any, *, receivers: tuple[str, ...] = ("H99.16",), **facts: Any) -> Acceptance:
    """A message of H99.15 about dossiers is recorded."""
    facts = {"service": STATE, **facts}
    signed = world.signed(payload, receivers=receivers, purpose="", **facts)
    return world.bus.intake.accept(
        Envelope(
            body=signed.body,
            content_type="application/json",
            headers={name.lower(): value for name, value in signed.headers.items()},
            received_at=utc_now(),
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
    )


def state(code: str, status: str | None = None, **facts: str) -> Mapping[str, str]:
    return {"code": code, **({"status": status} if status else {}), **facts}
