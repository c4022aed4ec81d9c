"""Events as CloudEvents 1.0, structured JSON: that something happened, in codes and moments, never what or to whom.

::

    {"specversion": "1.0", "id": "0d6c…", "source": "urn:lgsp:bus:H99/lgsp-bus",
     "type": "vn.gov.lgsp.dossier.status-changed.v1", "subject": "H99.15-261121-0001",
     "time": "2026-11-21T05:00:00.000000Z", "datacontenttype": "application/json",
     "sequence": "0000000000000000042.00000", "traceparent": "00-…", "data": {"dossier": "H99.15-261121-0001", …}}

``source`` and ``id`` name an event for good: told again, it is the same. ``sequence`` (an extension of CloudEvents)
orders the events of one type as text. An event lies open in a queue, so whatever might be a name or a citizen's number
is left out of it, in one place: :func:`code_or_none`.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from schemas.codec import canonical_json
from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from schemas.moment import to_wire
from schemas.problem import Malformed

DOSSIER_CHANGED: Final = "vn.gov.lgsp.dossier.status-changed.v1"
REGISTRY_CHANGED: Final = "vn.gov.lgsp.registry.changed.v1"
EVENT_TYPES: Final = (DOSSIER_CHANGED, REGISTRY_CHANGED)
MEDIA_TYPE: Final = "application/cloudevents+json"
#: The service by which events travel as messages of the bus, and its version.
EVENT_SERVICE: Final = ServiceCode("event.occurred")
EVENT_SERVICE_VERSION: Final = 1
_NAMESPACE: Final = uuid.UUID("5f0a3c5e-7c37-5d0e-9b1a-3f6f5d7f2c11")
_MOST: Final = 50
#: Letters, digits and joints, at least one of them no digit: a citizen's number or telephone is all digits.
_CODE: Final = re.compile(r"(?=[0-9]*[A-Za-z._/-])[A-Za-z0-9]+(?:[._/-]+[A-Za-z0-9]+)*")
#: A citizen's number has 9 or 12 digits, a telephone 10 or 11, a tax code 10 or 13; a moment has 14.
_NUMBER: Final = re.compile(r"(?<![0-9])[0-9]{9,13}(?![0-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened."""

    id: str
    source: str
    type: str
    subject: str
    time: datetime
    #: Orders the events of this type and source.
    sequence: str
    data: Mapping[str, Any]
    #: Of the message that said so; empty: none did.
    traceparent: str = ""
    #: The agency whose matter it is; empty: nobody's in particular.
    unit: str = field(default="", compare=False)

    def to_json(self) -> bytes:
        """The event's bytes, the same each time it is told."""
        document = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "subject": self.subject,
            "time": to_wire(self.time),
            "datacontenttype": "application/json",
            "sequence": self.sequence,
            "data": dict(self.data),
        }
        if self.traceparent:
            document["traceparent"] = self.traceparent
        return canonical_json(document)


def source_of(bus: SystemCode) -> str:
    """What the events of this bus come from."""
    return f"urn:lgsp:bus:{bus}"


def event_id(source: str, *parts: str) -> str:
    """The id of what ``parts`` name at this source: the same for the same (RFC 9562, UUIDv5)."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join((source, *parts))))


def sequence_of(position: int, number: int) -> str:
    """Both with leading zeros, so that they order as text."""
    return f"{position:019d}.{number:05d}"


def code_or_none(text: str | None) -> str | None:
    """The text if it has the form of a code; None for what might be a name, a citizen's number or a telephone."""
    if not text or len(text) > _MOST or _CODE.fullmatch(text) is None:
        return None
    return None if _NUMBER.search(text) or not any(map(str.isdigit, text)) else text


def agency_or_none(text: str | None) -> str | None:
    """The same for the code of an agency."""
    try:
        return AgencyCode(text) if text else None
    except Malformed:
        return None
