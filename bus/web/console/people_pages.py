"""`/console/people`: who may sign in, and as what. For those who guard; whoever sees one agency manages that one's."""

from __future__ import annotations

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from bus.people import People, Person, PersonRole, roles_text, trail_name
from bus.web.console.desk import Console, Desk, Right
from bus.web.console.registry_view import MOST_ROWS, agencies_seen
from schemas.identifiers import AgencyCode
from schemas.moment import utc_now
from schemas.problem import Malformed, NotFound, NotPermitted


def install(console: Console) -> None:
    _pages(console, console.people)
    _deeds(console, console.people)


def _pages(console: Console, people: People) -> None:
    @console.page("/people", Right.GUARD, menu=("Tài khoản", "Accounts"))
    def people_list(desk: Desk) -> Response:
        found = people.all(desk.scope, after=request.args.get("after", ""), limit=MOST_ROWS + 1)
        more = found[MOST_ROWS - 1].name if len(found) > MOST_ROWS else ""
        return desk.show("people.html", found=found[:MOST_ROWS], more=more, open_now=people.sessions_open(utc_now()))

    @console.page("/people/new", Right.GUARD)
    def new_person(desk: Desk) -> Response:
        return _form(desk)

    @console.page("/people/<name>", Right.GUARD)
    def person(desk: Desk, name: str) -> Response:
        found = _found(desk, people, name)
        return desk.show(
            "person.html",
            person=found,
            roles=list(PersonRole),
            agencies=_agencies(desk),
            events=people.events(target=trail_name(found.name), limit=20),
            is_self=found.name == desk.person.name,
        )


def _deeds(console: Console, people: People) -> None:
    @console.deed("/people", Right.GUARD)
    def add_person(desk: Desk) -> AnyResponse:
        form = request.form
        subject = form.get("subject", "").strip() or None
        name = form.get("name", "").strip().lower()
        desk.must_see(form.get("agency", "").strip() or desk.scope)
        try:
            password = people.add(
                name,
                display_name=form.get("display_name", "").strip()[:200],
                roles=_roles(),
                now=utc_now(),
                by=desk.person.name,
                agency=_agency(desk),
                subject=subject,
            )
        except Malformed as problem:
            return _form(desk, problem)
        if not password:
            return desk.back(f"/console/people/{name}", "Đã tạo tài khoản.", "The account has been made.")
        return desk.show("person-password.html", name=name, password=password)

    @console.deed("/people/<name>/roles", Right.GUARD)
    def change_person(desk: Desk, name: str) -> AnyResponse:
        found = _other(desk, people, name)
        roles, agency = _roles(), _agency(desk)
        if not roles:
            raise Malformed("person-roles")
        event = desk.event(
            "person.changed", trail_name(name), desk.reason(), agency,
            roles=roles_text(roles), before=roles_text(found.roles), agency_before=found.agency,
        )  # fmt: skip
        people.set_rights(name, roles, agency, event)
        return desk.back(f"/console/people/{name}", "Đã đổi vai trò.", "The roles have been changed.")

    @console.deed("/people/<name>/disable", Right.GUARD)
    def disable_person(desk: Desk, name: str) -> AnyResponse:
        found = _other(desk, people, name)
        people.disable(name, desk.event("person.disabled", trail_name(name), desk.reason(), found.agency))
        return desk.back(f"/console/people/{name}", "Đã khoá tài khoản.", "The account is disabled.")

    @console.deed("/people/<name>/enable", Right.GUARD)
    def enable_person(desk: Desk, name: str) -> AnyResponse:
        found = _other(desk, people, name)
        people.enable(name, desk.event("person.enabled", trail_name(name), desk.reason(), found.agency))
        return desk.back(f"/console/people/{name}", "Đã mở tài khoản.", "The account is open again.")

    @console.deed("/people/<name>/password", Right.GUARD)
    def reset_password(desk: Desk, name: str) -> AnyResponse:
        """A new first password, shown this once; one-time codes begin anew."""
        found = _other(desk, people, name)
        if found.subject:
            raise Malformed("person-elsewhere")
        event = desk.event("password.reset", trail_name(name), desk.reason(), found.agency)
        return desk.show("person-password.html", name=name, password=people.new_password(name, event))

    @console.deed("/people/<name>/codes", Right.GUARD)
    def reset_codes(desk: Desk, name: str) -> AnyResponse:
        """The telephone is lost: sign in without a code, then set one up."""
        found = _other(desk, people, name)
        people.change(name, desk.event("second-thing.reset", trail_name(name), desk.reason(), found.agency), totp=None)
        return desk.back(f"/console/people/{name}", "Đã bỏ mã một lần.", "One-time codes are off.")


def _form(desk: Desk, problem: Malformed | None = None) -> Response:
    return desk.show(
        "person-form.html",
        200 if problem is None else 400,
        roles=list(PersonRole),
        agencies=_agencies(desk),
        values=request.form,
        chosen=request.form.getlist("roles"),
        problem_text=problem.detail(desk.language) if problem else "",
        issuer=desk.bus.settings.oidc_issuer,
    )


def _agencies(desk: Desk) -> list[tuple[str, str]]:
    return [(str(each.code), each.name) for each in agencies_seen(desk)]


def _found(desk: Desk, people: People, name: str) -> Person:
    """Raises NotFound, also for somebody of another agency."""
    found = people.find(name)
    if found is None or not desk.sees(found.agency):
        raise NotFound("person-unknown", name=name[:60])
    return found


def _other(desk: Desk, people: People, name: str) -> Person:
    """Nobody changes their own rights, nor locks themselves out. Raises NotFound, NotPermitted(person-self)."""
    found = _found(desk, people, name)
    if found.name == desk.person.name:
        raise NotPermitted("person-self")
    return found


def _roles() -> list[PersonRole]:
    chosen = request.form.getlist("roles")
    return [role for role in PersonRole if role in chosen]


def _agency(desk: Desk) -> AgencyCode | None:
    """The agency of the form; whoever sees one agency gives no other. Raises Malformed, NotPermitted(other-agency)."""
    text = request.form.get("agency", "").strip()
    agency = AgencyCode(text) if text else desk.scope
    desk.must_see(agency)
    if agency is not None and agency not in desk.directory.agencies:
        raise Malformed("access-request-agency")
    return agency
