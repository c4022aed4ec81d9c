"""Whoever sits at the console: their session, their rights, their language, and what is shown to them."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, wraps
from typing import Any, Final, Literal
from urllib.parse import quote, unquote, urlsplit

from flask import Blueprint, Response, make_response, redirect, render_template, request
from markupsafe import Markup
from werkzeug.wrappers import Response as AnyResponse

from bus.assembly import Bus
from bus.people import AuditEvent, OpenSession, People, Person, PersonRole, trail_name
from bus.web.console import words
from bus.web.console.names import Names
from registry.directory import Directory
from schemas.identifiers import AgencyCode
from schemas.moment import utc_now
from schemas.problem import Malformed, NotIdentified, NotPermitted, Problem

Language = Literal["vi", "en"]


class Right(StrEnum):
    """What a page or a deed asks for."""

    #: Flows, messages without their bodies, dossiers, statistics, the registry.
    SEE = "see"
    #: Re-run, set aside, mute, write to partners.
    MEND = "mend"
    #: Open a body, with a reason.
    OPEN_BODIES = "open-bodies"
    #: Agencies, systems, services, grants.
    REGISTER = "register"
    #: People, keys, certificates, settings.
    GUARD = "guard"
    #: The audit trail.
    AUDIT = "audit"


RIGHTS: Final[dict[PersonRole, frozenset[Right]]] = {
    PersonRole.OBSERVER: frozenset({Right.SEE}),
    PersonRole.OPERATOR: frozenset({Right.SEE, Right.MEND, Right.OPEN_BODIES}),
    PersonRole.REGISTRAR: frozenset({Right.SEE, Right.REGISTER}),
    PersonRole.SECURITY_OFFICER: frozenset({Right.SEE, Right.GUARD, Right.AUDIT}),
    PersonRole.AUDITOR: frozenset({Right.SEE, Right.AUDIT}),
}

ROLE_NAMES: Final = {
    PersonRole.OBSERVER: ("quan sát", "observer"),
    PersonRole.OPERATOR: ("vận hành", "operator"),
    PersonRole.REGISTRAR: ("quản lý danh mục", "registrar"),
    PersonRole.SECURITY_OFFICER: ("an toàn thông tin", "security officer"),
    PersonRole.AUDITOR: ("kiểm tra", "auditor"),
}

#: Scripts and styles come from files of ours only; pictures also from data: (Bootstrap draws its signs so).
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_COOKIE, _LANGUAGE_COOKIE = "lgsp-console", "lgsp-language"


@dataclass(frozen=True)
class MenuEntry:
    endpoint: str
    vi: str
    en: str
    right: Right


class Console:
    """The blueprint, and how pages are declared on it."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.people = People(bus.store, bus.secrets)
        self.routes = Blueprint("console", __name__, url_prefix="/console", template_folder="templates")
        self.menu: list[MenuEntry] = []
        self.routes.errorhandler(Problem)(self._problem_page)

    def page(
        self, rule: str, right: Right | None = Right.SEE, menu: tuple[str, str] | None = None
    ) -> Callable[[Any], Any]:
        """Declare a page: ``def name(desk, …)`` returns what `Desk.show` gives. ``menu``: its name there, vi and en.
        ``right`` None: any signed-in person."""

        def declare(view: Callable[..., Any]) -> Callable[..., Any]:
            if menu is not None and right is not None:
                self.menu.append(MenuEntry(f"console.{view.__name__}", *menu, right))
            self.routes.get(rule, endpoint=view.__name__)(self._guarded(view, right))
            return view

        return declare

    def deed(self, rule: str, right: Right | None) -> Callable[[Any], Any]:
        """Declare a deed: a POST with the form key of the session."""

        def declare(view: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(view)
            def checked(desk: Desk, **path: Any) -> Any:
                desk.check_form()
                return view(desk, **path)

            self.routes.post(rule, endpoint=view.__name__)(self._guarded(checked, right))
            return view

        return declare

    def open_desk(self) -> Desk:
        """Raises NotIdentified: nobody is signed in."""
        token = request.cookies.get(_COOKIE, "")
        session = self.people.session(token, utc_now()) if token else None
        if session is None:
            raise NotIdentified("not-signed-in")
        return Desk(console=self, session=session)

    def _guarded(self, view: Callable[..., Any], right: Right | None) -> Callable[..., AnyResponse]:
        @wraps(view)
        def guarded(**path: Any) -> AnyResponse:
            try:
                desk = self.open_desk()
            except NotIdentified:
                if request.method == "POST" or "Lgsp-Part" in request.headers:
                    raise
                return redirect(f"/console/sign-in?next={_quoted(request.full_path)}")
            if desk.person.must_change and view.__name__ not in ("own_account", "choose_password", "sign_out"):
                return redirect("/console/account")
            if right is not None:
                desk.must(right)
            return harden(make_response(view(desk, **path)))

        return guarded

    def _problem_page(self, problem: Problem) -> AnyResponse:
        language = language_of_request()
        page = render_template(
            "console/problem.html",
            desk=None,
            problem=problem,
            text=problem.detail(language),
            **common(language),
        )
        return harden(make_response(page, problem.status))


@dataclass(frozen=True)
class Desk:
    """One request of one signed-in person."""

    console: Console
    session: OpenSession

    @property
    def bus(self) -> Bus:
        return self.console.bus

    @property
    def person(self) -> Person:
        return self.session.person

    @property
    def actor(self) -> str:
        """As the trails name this person."""
        return trail_name(self.person.name)

    @property
    def scope(self) -> AgencyCode | None:
        """The one agency that this person sees; None: all."""
        return self.person.agency

    @cached_property
    def rights(self) -> frozenset[Right]:
        return frozenset(right for role in self.person.roles for right in RIGHTS[role])

    @cached_property
    def directory(self) -> Directory:
        return self.bus.directory.current()

    @cached_property
    def language(self) -> Language:
        return language_of_request()

    @cached_property
    def names(self) -> Names:
        return Names(self.directory, self.language)

    @property
    def menu(self) -> list[MenuEntry]:
        return [entry for entry in self.console.menu if entry.right in self.rights]

    def may(self, right: str) -> bool:
        return right in self.rights

    def must(self, right: Right) -> None:
        """Raises NotPermitted(role-missing)."""
        if right not in self.rights:
            raise NotPermitted("role-missing")

    def sees(self, *agencies: str | None) -> bool:
        """Is it one of their own agency's affairs?"""
        return self.scope is None or self.scope in agencies

    def must_see(self, *agencies: str | None) -> None:
        """Raises NotPermitted(other-agency)."""
        if not self.sees(*agencies):
            raise NotPermitted("other-agency")

    def t(self, vi: str, en: str) -> str:
        return vi if self.language == "vi" else en

    def reason(self) -> str:
        """What the form gives as the reason. Raises Malformed(reason-missing)."""
        reason = request.form.get("reason", "").strip()
        if len(reason) < 5:
            raise Malformed("reason-missing")
        return reason[:500]

    def event(
        self, action: str, target: str, reason: str = "", agency: AgencyCode | None = None, **facts: Any
    ) -> AuditEvent:
        """An event of the audit trail, done by this person now."""
        return AuditEvent(
            at=utc_now(), person=self.person.name, action=action, target=target, reason=reason,
            agency=agency or self.scope, facts=facts,
        )  # fmt: skip

    def note(self, action: str, target: str, reason: str = "", agency: AgencyCode | None = None, **facts: Any) -> None:
        self.console.people.note(self.event(action, target, reason, agency, **facts))

    def check_form(self) -> None:
        """A form of this session, sent by a page of ours. Raises NotPermitted(form-foreign)."""
        origin = request.headers.get("Origin")
        foreign = origin not in (None, "null") and urlsplit(origin or "").netloc != request.host
        key = request.form.get("form_key") or request.headers.get("Lgsp-Form-Key") or ""
        if foreign or not hmac.compare_digest(key.encode(), self.session.form_key.encode()):
            raise NotPermitted("form-foreign")

    def show(self, template: str, status: int = 200, /, **values: Any) -> Response:
        """A page."""
        key = Markup('<input type="hidden" name="form_key" value="{}">').format(self.session.form_key)
        page = render_template(
            f"console/{template}", desk=self, form_key=lambda: key, **common(self.language), **values
        )
        return make_response(page, status)

    def part(self, template: str, **values: Any) -> AnyResponse:
        """The part of a page, asked for again while it is open: one that is as before costs the browser nothing."""
        answer = self.show(template, **values)
        answer.add_etag()
        return answer.make_conditional(request)

    def asked_number(self, name: str) -> int | None:
        """A whole number of the address, None where it names none. Raises Malformed(query-invalid)."""
        text = request.args.get(name, "")
        if text and not (text.isascii() and text.isdecimal() and len(text) < 19):
            raise Malformed("query-invalid", name=name)
        return int(text) if text else None

    def back(self, address: str, vi: str = "", en: str = "") -> AnyResponse:
        """To a page of ours after a deed, with a word about it."""
        answer = redirect(safe_address(address), 303)
        if vi:
            answer.set_cookie(
                "lgsp-said", _quoted(self.t(vi, en)), max_age=30, path="/console", httponly=True, samesite="Strict"
            )
        return answer


def harden(answer: AnyResponse) -> AnyResponse:
    answer.headers.setdefault("Content-Security-Policy", POLICY)
    if request.cookies.get("lgsp-said") and answer.status_code == 200:
        answer.delete_cookie("lgsp-said", path="/console")
    return answer


def attachment(content: str | bytes, content_type: str, name: str) -> Response:
    """A file for the browser to keep under this name."""
    answer = make_response(content)
    answer.headers["Content-Type"] = content_type
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


def give_session(answer: AnyResponse, token: str) -> AnyResponse:
    """Only over HTTPS, except on loopback; not to other sites, not to scripts."""
    answer.set_cookie(_COOKIE, token, path="/console", httponly=True, samesite="Lax", secure=request.is_secure)
    return answer


def take_session(answer: AnyResponse) -> AnyResponse:
    answer.delete_cookie(_COOKIE, path="/console")
    return answer


def safe_address(address: str) -> str:
    """A page of the console and nothing else: an address from a form or a link leads nowhere outside."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc or not parts.path.startswith("/console/") or "\\" in address or "//" in parts.path:
        return "/console/"
    return address


def language_of_request() -> Language:
    """Vietnamese, unless somebody chose English."""
    return "en" if request.cookies.get(_LANGUAGE_COOKIE) == "en" else "vi"


def choose_language(answer: AnyResponse, language: str) -> AnyResponse:
    answer.set_cookie(
        _LANGUAGE_COOKIE, "en" if language == "en" else "vi", path="/console", max_age=31536000, samesite="Lax"
    )
    return answer


def common(language: Language) -> dict[str, Any]:
    """What every template can use."""

    def t(vi: str, en: str) -> str:
        return vi if language == "vi" else en

    return {
        "language": language,
        "t": t,
        "role_name": lambda role: t(*ROLE_NAMES[role]),
        "said": unquote(request.cookies.get("lgsp-said", "")),
        "w": words.Words(language),
        "now": utc_now(),
    }


def _quoted(address: str) -> str:
    return quote(address.rstrip("?"), safe="")
