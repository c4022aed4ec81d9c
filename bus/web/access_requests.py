"""`/v1/registry/access-requests`: a system asks for its agency's right to use a service, and sees what came of it."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

from flask import Blueprint, Response, request

from bus.access_requests import AccessRequest, AccessRequests, Wish, check_wish
from bus.assembly import Bus
from bus.people import AuditEvent, note
from bus.web.answers import json_response
from bus.web.described import Answer, Parameter, describe
from bus.web.door import identified_caller, is_operator, read_body, received_at
from bus.web.visibility import is_narrowed
from registry.model import Quota
from schemas.codec import read_json
from schemas.identifiers import AgencyCode, ServiceCode
from schemas.message import Principal
from schemas.moment import from_wire, to_wire
from schemas.problem import FieldError, Malformed, NotFound, NotPermitted
from schemas.reasons import Wording

#: A wish is a page of text at most.
MOST_BYTES = 64 * 1024
MOST_REQUESTS = 100

_WISH: dict[str, Any] = {
    "type": "object",
    "required": ["service", "purposes", "legal_basis", "expires_at"],
    "additionalProperties": False,
    "properties": {
        "service": {"type": "string"},
        "purposes": {"type": "array", "minItems": 1, "items": {"type": "string", "maxLength": 100}},
        "legal_basis": {"type": "string", "minLength": 5, "maxLength": 1000},
        "expires_at": {"type": "string", "format": "date-time", "description": "At most five years from now"},
        "receivers": {"type": "array", "items": {"type": "string"}},
        "quota": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"per_minute": {"type": "integer"}, "per_day": {"type": "integer"}},
        },
    },
}
_REQUEST: dict[str, Any] = {
    "type": "object",
    "required": ["id", "state", "service", "agency", "owner", "asked_at"],
    "properties": {
        "id": {"type": "string"},
        "state": {"enum": ["waiting", "approved", "refused", "withdrawn"]},
        "grant": {"type": ["string", "null"], "description": "The grant that was made, once approved"},
        "reason": {"type": "string", "description": "Why it was approved or refused"},
    },
}
_LIST = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": _REQUEST}, "next": {"type": ["string", "null"]}},
}


def install(bus: Bus, routes: Blueprint) -> None:
    """Declare the routes."""
    requests = AccessRequests(bus.store)

    @routes.post("/v1/registry/access-requests")
    @describe(
        "Registry",
        "Ask for access to a service",
        access="token",
        body={"application/json": _WISH},
        answers={201: Answer(meaning="The service's owner has been asked", schema=_REQUEST)},
        problems=(400, 401, 403, 404, 413),
    )
    def ask_for_access() -> Response:
        """For your own agency. The owner of the service, or the province, decides in the console."""
        principal = _whole_agency(bus)
        wish = _wish(read_body(request.environ, MOST_BYTES), principal.agency)
        now = received_at()
        owner = check_wish(wish, bus.directory.current(), now)
        by = f"system:{principal.system}"
        event = AuditEvent(
            at=now, person=by, action="access.asked", target=f"service:{wish.service}", reason=wish.legal_basis[:500],
            agency=wish.agency, facts={"purposes": wish.purposes},
        )  # fmt: skip
        kept = requests.ask(wish, owner, by, now, partial(note, event=event))
        return json_response(_shown(kept), 201)

    @routes.get("/v1/registry/access-requests")
    @describe(
        "Registry",
        "Access requests",
        access="token",
        parameters=(Parameter(name="before", place="query", meaning="`next` of the page before"),),
        answers={200: Answer(meaning="Newest first", schema=_LIST)},
        problems=(401, 403),
    )
    def access_requests() -> Response:
        """Those of your agency, and those about services that it owns."""
        principal = _whole_agency(bus)
        concerning = None if is_operator(bus, principal) else principal.agency
        found = requests.newest(concerning=concerning, before=request.args.get("before", ""), limit=MOST_REQUESTS + 1)
        following = found[MOST_REQUESTS - 1].id if len(found) > MOST_REQUESTS else None
        return json_response({"items": [_shown(each) for each in found[:MOST_REQUESTS]], "next": following})

    @routes.get("/v1/registry/access-requests/<request_id>")
    @describe(
        "Registry",
        "An access request",
        access="token",
        answers={200: Answer(meaning="What was asked, and what became of it", schema=_REQUEST)},
        problems=(401, 403, 404),
    )
    def access_request(request_id: str) -> Response:
        """By its id, if it is your agency's or about a service of yours."""
        principal = _whole_agency(bus)
        found = requests.find(request_id)
        concerned = found is not None and principal.agency in (found.wish.agency, found.owner)
        if found is None or not (concerned or is_operator(bus, principal)):
            raise NotFound("access-request-unknown")
        return json_response(_shown(found))


def _whole_agency(bus: Bus) -> Principal:
    """A system that is there for some services only does not ask on its agency's behalf. Raises NotPermitted."""
    principal = identified_caller(bus)
    if is_narrowed(bus, principal):
        raise NotPermitted("service-not-of-system")
    return principal


def _wish(body: bytes, agency: AgencyCode) -> Wish:
    """Raises Malformed(access-request-unreadable) with the fields."""
    document = read_json(body)
    if not isinstance(document, dict):
        raise _unreadable("", Wording("must be an object", "phải là một đối tượng"))
    unknown = sorted(document.keys() - _WISH["properties"].keys())
    if unknown:
        raise _unreadable("", Wording("has members that are not known", "có trường ngoài danh sách"))
    quota = document.get("quota", {})
    if not isinstance(quota, dict) or not quota.keys() <= {"per_minute", "per_day"}:
        rule = Wording(
            "must be an object with per_minute and per_day", "phải là một đối tượng có per_minute và per_day"
        )
        raise _unreadable("/quota", rule)
    if not all(type(value) is int for value in quota.values()):
        raise _unreadable("/quota", Wording("must hold whole numbers", "phải gồm các số nguyên"))
    return Wish(
        service=ServiceCode(_text(document, "service")),
        agency=agency,
        purposes=_texts(document, "purposes"),
        legal_basis=_text(document, "legal_basis").strip(),
        expires_at=_moment(document, "expires_at"),
        receivers=tuple(map(AgencyCode, _texts(document, "receivers"))),
        quota=Quota(**quota),
    )


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str):
        raise _unreadable(f"/{name}", Wording("must be text", "phải là chuỗi"))
    return value


def _texts(document: dict[str, Any], name: str) -> tuple[str, ...]:
    value = document.get(name, [])
    if not isinstance(value, list) or len(value) > 100 or not all(isinstance(item, str) for item in value):
        raise _unreadable(f"/{name}", Wording("must be a list of texts", "phải là danh sách các chuỗi"))
    return tuple(value)


def _moment(document: dict[str, Any], name: str) -> datetime:
    try:
        return from_wire(_text(document, name))
    except (ValueError, OverflowError):
        rule = Wording("must be a moment with an offset (RFC 3339)", "phải là thời điểm có múi giờ (RFC 3339)")
        raise _unreadable(f"/{name}", rule) from None


def _unreadable(pointer: str, rule: Wording) -> Malformed:
    return Malformed("access-request-unreadable", errors=[FieldError.worded(pointer, rule)])


def _shown(found: AccessRequest) -> dict[str, Any]:
    wish = found.wish
    return {
        "id": found.id,
        "state": found.state.value,
        "service": wish.service,
        "agency": wish.agency,
        "owner": found.owner,
        "purposes": list(wish.purposes),
        "legal_basis": wish.legal_basis,
        "expires_at": to_wire(wish.expires_at),
        "receivers": list(wish.receivers),
        "quota": {"per_minute": wish.quota.per_minute, "per_day": wish.quota.per_day},
        "asked_at": to_wire(found.asked_at),
        "decided_at": to_wire(found.decided_at) if found.decided_at else None,
        "reason": found.reason,
        "grant": found.grant_id,
    }
