"""`/v1/dossiers`: one dossier over all the messages of it that the caller may see."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from bus.assembly import Bus
from bus.dossiers import story_of
from bus.trace import dossier_document
from bus.web.answers import json_response
from bus.web.described import Answer, describe
from bus.web.door import identified_caller, is_operator, received_at
from bus.web.exchange import is_party
from schemas.problem import NotFound

_MOMENT = {"type": ["string", "null"], "format": "date-time"}
_TEXT = {"type": ["string", "null"]}
_LIST = {"type": "array", "items": {"type": "object"}}
_DOSSIER: dict[str, Any] = {
    "type": "object",
    "required": ["dossier", "status", "timeliness", "history", "payments", "parcels", "messages"],
    "properties": {
        "dossier": {"type": "string"},
        "aliases": {"type": "array", "items": {"type": "string"}},
        "unit": _TEXT,
        "procedure": _TEXT,
        "channel": _TEXT,
        "status": {"type": ["object", "null"], "description": "`code` 1 to 10 of the national list, and its `name`"},
        "status_since": _MOMENT,
        "received_at": _MOMENT,
        "due_at": _MOMENT,
        "finished_at": _MOMENT,
        "timeliness": {"type": "string"},
        "holder": {"type": ["object", "null"], "description": "`name`, `since`, `seconds`"},
        "synchronised": {"type": "boolean"},
        "history": {**_LIST, "description": "Statuses; `legal` is false where one comes out of turn"},
        "payments": {**_LIST, "description": "By reference; `amount` in whole đồng"},
        "parcels": _LIST,
        "messages": {**_LIST, "description": "Oldest first, each as `GET /v1/exchange/{message_id}` tells it"},
    },
}
#: Longer than any dossier code.
_MOST_CHARACTERS = 50


def dossier_surface(bus: Bus) -> Blueprint:
    """The routes of dossiers."""
    routes = Blueprint("dossiers", __name__)

    @routes.get("/v1/dossiers/<code>")
    @describe(
        "Exchange",
        "The story of a dossier",
        access="token",
        answers={200: Answer(meaning="Status, holder, due date, payments, post and messages", schema=_DOSSIER)},
        problems=(401, 404),
    )
    def dossier(code: str) -> Response:
        """From the messages that you sent or received, under any of its codes; from all of them for the operator. What
        the others said of it stays theirs. Which payloads speak of dossiers is said by the `dossier` view of their
        service."""
        return json_response(_seen_dossier(bus, code))

    return routes


def _seen_dossier(bus: Bus, code: str) -> dict[str, Any]:
    """Raises NotIdentified, NotFound: what is not yours does not exist."""
    principal = identified_caller(bus)
    codes = bus.ledger.codes_of_dossier(code) if len(code) <= _MOST_CHARACTERS else ()
    records = bus.ledger.of_dossier(*codes)
    if not is_operator(bus, principal):
        records = [record for record in records if is_party(bus, principal, record)]
    if not records:
        raise NotFound("dossier-unknown")
    seen = {record.id for record in records}
    events = [event for event in bus.ledger.said_of_dossier(*codes) if event.exchange_id in seen]
    told = {code, *(event.fact.dossier for event in events), *(record.dossier for record in records)}
    now = received_at()
    # Codes that only others use for it are theirs as well.
    return dossier_document(story_of([each for each in codes if each in told], events, now), records, now)
