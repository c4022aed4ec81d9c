"""`/console/registry/requests`: an agency asks for the right to use a service; its owner, or the province, decides."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from bus.access_requests import (
    AccessRequest,
    AccessRequests,
    RequestState,
    Wish,
    check_wish,
    decide,
    grant_of,
    owner_of,
)
from bus.people import note
from bus.web.console.desk import Console, Desk, Right
from bus.web.console.registering import day_end, local_day, number, words
from bus.web.console.registry_view import MOST_ROWS, agencies_seen, decides_on, latest_version
from registry.changes import plan_changes
from registry.model import Quota, Stage
from schemas.identifiers import AgencyCode, ServiceCode
from schemas.moment import utc_now
from schemas.problem import Malformed, NotFound, NotPermitted


def install(console: Console) -> None:
    requests = AccessRequests(console.bus.store)
    _pages(console, requests)
    _deeds(console, requests)


def _pages(console: Console, requests: AccessRequests) -> None:
    @console.page("/registry/requests")
    def access_requests(desk: Desk) -> Response:
        wanted = request.args.get("state", "waiting")
        state = RequestState(wanted) if wanted in list(RequestState) else None
        found = requests.newest(
            state=state, concerning=desk.scope, before=request.args.get("before", ""), limit=MOST_ROWS + 1
        )
        more = found[MOST_ROWS - 1].id if len(found) > MOST_ROWS else ""
        return desk.show(
            "access-requests.html",
            found=found[:MOST_ROWS],
            more=more,
            state=wanted,
            decides=lambda service: decides_on(desk, service),
        )

    @console.page("/registry/requests/new", Right.REGISTER)
    def new_request(desk: Desk) -> Response:
        asked = request.args
        values = {"service": asked.get("service", ""), "agency": desk.scope or asked.get("agency", "")}
        return _form(desk, values)

    @console.page("/registry/requests/<request_id>")
    def access_request(desk: Desk, request_id: str) -> Response:
        found = _found(desk, requests, request_id)
        return desk.show(
            "access-request.html",
            found=found,
            version=latest_version(desk, found.wish.service),
            local_day=local_day,
            **_what_may_be_done(desk, found),
        )


def _deeds(console: Console, requests: AccessRequests) -> None:
    @console.deed("/registry/requests", Right.REGISTER)
    def ask_access(desk: Desk) -> AnyResponse:
        try:
            wish = _wish(desk)
            owner = check_wish(wish, desk.directory, utc_now())
            event = desk.event(
                "access.asked", f"service:{wish.service}", wish.legal_basis[:500], wish.agency, purposes=wish.purposes
            )
            kept = requests.ask(wish, owner, desk.actor, utc_now(), partial(note, event=event))
        except (Malformed, NotFound) as problem:
            return _form(desk, dict(request.form), problem)
        return desk.back(
            f"/console/registry/requests/{kept.id}",
            "Đã gửi đề nghị tới đơn vị quản lý dịch vụ.",
            "The owner has been asked.",
        )

    @console.deed("/registry/requests/<request_id>/approve", Right.REGISTER)
    def approve_access(desk: Desk, request_id: str) -> AnyResponse:
        found = _to_decide(desk, requests, request_id)
        reason, now = desk.reason(), utc_now()
        wish = _decided_wish(found.wish)
        check_wish(wish, desk.directory, now)
        fresh = desk.bus.registry.load()
        grant = grant_of(wish, fresh)
        event = desk.event(
            "access.approved", f"grant:{grant.id}", reason, wish.agency, request=found.id,
            purposes=wish.purposes, expires_at=wish.expires_at,
        )  # fmt: skip

        def also(connection: Any) -> None:
            decide(
                connection, found.id, RequestState.APPROVED, by=desk.actor, reason=reason, now=now, grant_id=grant.id
            )
            note(connection, event)

        desk.bus.registry.apply(plan_changes(fresh, [grant]), desk.actor, also)
        desk.bus.directory.refresh()
        return desk.back(f"/console/registry/requests/{found.id}", "Đã cấp quyền truy cập.", "Access has been granted.")

    @console.deed("/registry/requests/<request_id>/refuse", Right.REGISTER)
    def refuse_access(desk: Desk, request_id: str) -> AnyResponse:
        found = _to_decide(desk, requests, request_id)
        reason = desk.reason()
        event = desk.event("access.refused", f"request:{found.id}", reason, found.wish.agency)
        requests.refuse(found.id, desk.actor, reason, utc_now(), partial(note, event=event))
        return desk.back(f"/console/registry/requests/{found.id}", "Đã từ chối đề nghị.", "The request is refused.")

    @console.deed("/registry/requests/<request_id>/withdraw", Right.REGISTER)
    def withdraw_access(desk: Desk, request_id: str) -> AnyResponse:
        found = _found(desk, requests, request_id)
        desk.must_see(found.wish.agency)
        event = desk.event("access.withdrawn", f"request:{found.id}", agency=found.wish.agency)
        requests.withdraw(found.id, desk.actor, utc_now(), partial(note, event=event))
        return desk.back(f"/console/registry/requests/{found.id}", "Đã rút đề nghị.", "The request is withdrawn.")


def _found(desk: Desk, requests: AccessRequests, request_id: str) -> AccessRequest:
    """Raises NotFound, also for what is not their affair."""
    found = requests.find(request_id)
    if found is None or not desk.sees(found.wish.agency, found.owner, owner_of(desk.directory, found.wish.service)):
        raise NotFound("access-request-unknown")
    return found


def _to_decide(desk: Desk, requests: AccessRequests, request_id: str) -> AccessRequest:
    """Raises NotFound, NotPermitted(access-request-not-yours)."""
    found = _found(desk, requests, request_id)
    if not decides_on(desk, found.wish.service):
        raise NotPermitted("access-request-not-yours")
    return found


def _what_may_be_done(desk: Desk, found: AccessRequest) -> dict[str, bool]:
    waits = found.state is RequestState.WAITING and desk.may(Right.REGISTER)
    return {
        "may_decide": waits and decides_on(desk, found.wish.service),
        "may_withdraw": waits and desk.sees(found.wish.agency),
    }


def _wish(desk: Desk) -> Wish:
    """What the form asks for. Somebody of one agency asks for that one. Raises Malformed."""
    expires = day_end("expires")
    if expires is None:
        raise Malformed("access-request-expiry")
    agency = AgencyCode(request.form.get("agency", "").strip())
    desk.must_see(agency)
    return Wish(
        service=ServiceCode(request.form.get("service", "").strip()),
        agency=agency,
        purposes=tuple(words("purposes")),
        legal_basis=request.form.get("legal_basis", "").strip(),
        expires_at=expires,
        receivers=tuple(map(AgencyCode, words("receivers"))),
        quota=Quota(per_minute=number("per_minute"), per_day=number("per_day")),
    )


def _decided_wish(wish: Wish) -> Wish:
    """The wish as whoever decides narrows it: purposes, until when, how much."""
    return replace(
        wish,
        purposes=tuple(words("purposes")),
        expires_at=day_end("expires") or wish.expires_at,
        quota=Quota(per_minute=number("per_minute"), per_day=number("per_day")),
    )


def _form(desk: Desk, values: dict[str, Any], problem: Malformed | NotFound | None = None) -> Response:
    directory = desk.directory
    hidden = (Stage.DRAFT, Stage.RETIRED)
    codes = {each.code: each.name for each in directory.services.values() if each.stage not in hidden}
    return desk.show(
        "access-request-form.html",
        200 if problem is None else 400,
        values=values,
        codes=sorted(codes.items()),
        agencies=agencies_seen(desk),
        problem_text=problem.detail(desk.language) if problem else "",
    )
