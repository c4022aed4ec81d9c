"""What happened, as events (:mod:`schemas.events`), and who is told: pure functions over what is on disk.

An event's bytes follow from what is on disk alone, never from who is told or when: told again, or to somebody else, it
is the same one. Who is told is decided for each subscriber by what it may see: of a dossier what was said in messages
that it sent or received, as ``GET /v1/dossiers/{code}`` shows it; of the registry what ``/v1/registry`` shows it. The
bus's own system, the operator's, sees everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from bus.event_store import Said
from registry.access import is_party
from registry.directory import Directory
from registry.model import Subscription
from registry.store import ChangeRecord
from schemas.codes import DOSSIER_STATUSES
from schemas.events import (
    DOSSIER_CHANGED,
    EVENT_SERVICE,
    REGISTRY_CHANGED,
    Event,
    agency_or_none,
    code_or_none,
    event_id,
    sequence_of,
)
from schemas.identifiers import AgencyCode, DossierCode, SystemCode
from schemas.moment import to_wire
from schemas.problem import Malformed

_ACTIONS: Final = {"add": "added", "change": "changed", "remove": "removed"}


# ── dossiers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def dossier_event(said: Said, source: str) -> Event | None:
    """What was said as an event; None where nothing of it may be told: no code, or neither status, due date nor
    holder in the form of codes."""
    dossier = _dossier_code(said.dossier)
    status = said.status if said.status in DOSSIER_STATUSES else None
    holder = agency_or_none(said.holder)
    if dossier is None or said.service == EVENT_SERVICE or (status is None and said.due is None and holder is None):
        return None
    unit = agency_or_none(said.unit)
    told = {
        "dossier": dossier,
        "status": status,
        "due_at": None if said.due is None else to_wire(said.due),
        "holder": holder,
        "unit": unit,
        "procedure": code_or_none(said.procedure),
        "message_id": said.message_id,
        "service": said.service,
        "sender": said.sender,
    }
    return Event(
        id=event_id(source, "dossier", said.message_id, str(said.number)),
        source=source,
        type=DOSSIER_CHANGED,
        subject=dossier,
        time=said.at,
        sequence=sequence_of(said.position, said.number),
        data={name: value for name, value in told.items() if value is not None},
        traceparent=said.traceparent,
        unit=unit or "",
    )


def _dossier_code(text: str) -> str | None:
    try:
        return DossierCode(text)
    except Malformed:
        return code_or_none(text)


@dataclass(slots=True)
class Known:
    """What one subscriber has seen of one dossier so far."""

    status: str | None = None
    due: datetime | None = None
    holder: str | None = None
    unit: str | None = None
    procedure: str | None = None

    def learn(self, said: Said) -> bool:
        """Take in what was said next; is any of status, due date and holder news?"""
        holder = agency_or_none(said.holder)
        news = (
            (said.status is not None and said.status != self.status)
            or (said.due is not None and said.due != self.due)
            or (holder is not None and holder != self.holder)
        )
        self.status = said.status or self.status
        self.due = said.due or self.due
        self.holder = holder or self.holder
        self.unit = said.unit or self.unit
        self.procedure = said.procedure or self.procedure
        return news


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """One subscriber as the registry of now has it."""

    subscription: Subscription
    directory: Directory
    #: The bus's own system: it sees everything.
    operator: SystemCode

    def sees(self, said: Said) -> bool:
        """May it look at the message that said so?"""
        system = self.subscription.system
        return system == self.operator or is_party(
            self.directory,
            system,
            sender=said.sender,
            sender_system=said.sender_system,
            receivers=said.receivers,
        )

    def wants(self, said: Said, known: Known) -> bool:
        """Is it about what the subscription names? Unit and procedure need not be said each time."""
        subscription = self.subscription
        return (
            (not subscription.senders or said.sender in subscription.senders)
            and (not subscription.procedures or known.procedure in subscription.procedures)
            and (not subscription.units or self._is_below(known.unit, subscription.units))
        )

    def _is_below(self, unit: str | None, tops: Iterable[AgencyCode]) -> bool:
        if unit is None:
            return False
        code = AgencyCode.unchecked(unit)
        above = self.directory.ancestors(code)
        return any(code.is_within(top) or top in above for top in tops)

    def may_be_told(self, change: ChangeRecord) -> bool:
        """May it know of this change of the registry?"""
        system = self.subscription.system
        return system == self.operator or change.may_be_told(system.agency, self.directory.ancestors(system.agency))


# ── the registry ──────────────────────────────────────────────────────────────────────────────────────────────────────


def registry_event(change: ChangeRecord, source: str) -> Event:
    """A change of the registry as an event: which entry, not what it says."""
    data: dict[str, Any] = {
        "kind": change.kind,
        "code": change.subject,
        "action": _ACTIONS.get(change.action, change.action),
        "revision": change.revision,
    }
    parts = (str(change.revision), change.kind, change.subject, change.action, change.after_sha256)
    return Event(
        id=event_id(source, "registry", *parts),
        source=source,
        type=REGISTRY_CHANGED,
        subject=change.subject,
        time=change.occurred_at,
        sequence=sequence_of(change.revision, change.number),
        data=data,
    )
