"""May this message pass? One pure function, and the answer is no unless a grant says yes.

The order of the questions is a decision about what strangers learn. Every caller here is already identified, so the
catalogue's list of service codes is no secret to it: a code that nobody ever registered gets UnknownService. For a
code that exists, a caller without any grant gets NotPermitted(no-grant) and nothing else: not whether the version
exists, is open, who takes it, or what it accepts. Versions, stages, content types and receivers are spoken of only to
those who hold a grant. The quota comes last, so that a refused message never counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from operator import itemgetter

from registry.directory import Directory
from registry.model import Agency, DeliveryMode, Grant, Pattern, Service, System
from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from schemas.message import Grade
from schemas.moment import VIETNAM
from schemas.problem import (
    FieldError,
    Malformed,
    NotPermitted,
    Problem,
    TooLarge,
    TooMany,
    UnknownReceiver,
    UnknownService,
)
from schemas.reasons import Wording

#: What may be wrong with one receiver of a list.
NOT_A_MEMBER = Wording("is not a member of this bus", "không phải thành viên của trục")
NOT_IN_GRANT = Wording("is not in the grant", "không nằm trong quyền truy cập")
NO_SYSTEM = Wording("has no system for this service", "không có hệ thống nào nhận dịch vụ này")
RECEIVER_RULES = (NOT_A_MEMBER, NOT_IN_GRANT, NO_SYSTEM)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRequest:
    """What an identified sender wants to do."""

    sender: AgencyCode
    #: Of the sender; None: not narrowed to services.
    system: SystemCode | None = None
    service: ServiceCode
    version: int
    #: As written by the sender: codes or registered aliases. In the order of the manifest.
    receivers: tuple[str, ...]
    purpose: str = ""
    content_type: str = "application/json"
    grade: Grade = Grade.SIGNED
    body_length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Messages already accepted under one grant, by all who use it: in the current minute and the current day."""

    this_minute: int = 0
    today: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """A message may pass: under this grant, along these routes, one per receiver, without repeats."""

    service: Service
    grant: Grant
    routes: tuple[tuple[AgencyCode, System], ...]


def decide(
    request: AccessRequest, directory: Directory, usage_of: Callable[[Grant], Usage], now: datetime
) -> Permission:
    """The permission, or the first reason against it.

    1. service, 2. grants, and what the sending system is there for, 3. version and stage, 4. grade, 5. form and size,
    6. receivers, 7. one grant that covers time, purpose and every receiver, 8. its quota. ``usage_of`` is asked only
    for grants that have a quota. Where several grants might do, any one that covers the whole message is enough; two
    halves do not make a right.

    Raises UnknownService, UnknownReceiver, NotPermitted, Malformed, TooLarge, TooMany.
    """
    grants = directory.grants_for(request.sender, request.service)
    if not grants:
        if not directory.service_exists(request.service):
            raise UnknownService("service-unknown")
        raise NotPermitted("no-grant")
    if not directory.may_send(request.system, request.service):
        raise NotPermitted("service-not-of-system")
    service = _open_service(request, directory)
    _check_form(request, service, directory)
    agencies = _resolved(request, directory)
    grant = _covering_grant(grants, request, agencies, directory, usage_of, now)
    return Permission(service=service, grant=grant, routes=_routes(agencies, request, service, directory))


def is_party(
    directory: Directory,
    system: SystemCode,
    *,
    sender: AgencyCode,
    sender_system: SystemCode,
    receivers: Collection[AgencyCode],
) -> bool:
    """May this system look at a message: is its agency, or one that it speaks for, the sender or a receiver? A system
    that is there to send some services only is a party to what it sent itself."""
    held = directory.system(system)
    if held is not None and held.sends:
        return sender_system == system
    if system.agency == sender or system.agency in receivers:
        return True
    return bool(held and held.speaks_for_children) and any(
        system.agency in directory.ancestors(party) for party in (sender, *receivers)
    )


def _open_service(request: AccessRequest, directory: Directory) -> Service:
    service = directory.service(request.service, request.version)
    if service is None:
        raise UnknownService("service-version-unknown")
    if service.stage not in directory.open_stages:
        raise NotPermitted("service-not-open")
    return service


def _check_form(request: AccessRequest, service: Service, directory: Directory) -> None:
    if service.grade is Grade.SIGNED and request.grade is not Grade.SIGNED:
        raise NotPermitted("grade-too-low")
    if request.content_type not in service.content_types and not directory.contract_for(service).takes(
        request.content_type
    ):
        raise Malformed("content-type-not-taken", taken=", ".join(service.content_types))
    if request.body_length > service.max_body_bytes:
        raise TooLarge("body-too-large", limit=service.max_body_bytes)
    if len(request.receivers) != 1:
        if not request.receivers:
            raise UnknownReceiver("receiver-missing")
        if service.pattern is Pattern.REQUEST_REPLY:
            raise Malformed("one-receiver-only")


def _resolved(request: AccessRequest, directory: Directory) -> list[Agency]:
    """The agencies meant, each once: a receiver named in both spellings is one receiver."""
    found: list[Agency] = []
    unknown: list[int] = []
    for place, name in enumerate(request.receivers):
        agency = directory.agency(name)
        if agency is None:
            unknown.append(place)
        else:
            found.append(agency)
    if unknown:
        raise UnknownReceiver("receiver-unknown", errors=_receiver_errors(unknown, NOT_A_MEMBER))
    return found if len(found) == 1 else list({agency.code: agency for agency in found}.values())


def _covering_grant(
    grants: tuple[Grant, ...],
    request: AccessRequest,
    receivers: list[Agency],
    directory: Directory,
    usage_of: Callable[[Grant], Usage],
    now: datetime,
) -> Grant:
    """The first grant with no objection; else the objection of the one that came nearest to yes."""
    objections: list[tuple[int, Problem]] = []
    for grant in grants:
        objection = _objection(grant, request, receivers, directory, usage_of, now)
        if objection is None:
            return grant
        objections.append(objection)
    raise max(objections, key=itemgetter(0))[1]


def _objection(
    grant: Grant,
    request: AccessRequest,
    receivers: list[Agency],
    directory: Directory,
    usage_of: Callable[[Grant], Usage],
    now: datetime,
) -> tuple[int, Problem] | None:
    """Why this grant does not cover the message, with how far it came; None when it does."""
    if grant.expires_at is not None and now >= grant.expires_at:
        return 0, NotPermitted("grant-expired")
    if grant.valid_from is not None and now < grant.valid_from:
        return 1, NotPermitted("grant-not-yet")
    if grant.purposes and request.purpose not in grant.purposes:
        return 2, NotPermitted("purpose-not-granted" if request.purpose else "purpose-missing")
    if grant.receivers:
        outside = [agency.code for agency in receivers if agency.code not in grant.receivers]
        if outside:
            places = _places(outside, request, directory)
            return 3, NotPermitted("receiver-not-granted", errors=_receiver_errors(places, NOT_IN_GRANT))
    quota = grant.quota
    if quota.per_minute or quota.per_day:
        usage = usage_of(grant)
        # The day first: whoever waits for the next minute only to be refused for the day was told too little.
        if quota.per_day and usage.today >= quota.per_day:
            return 4, TooMany("quota-of-day", limit=quota.per_day, retry_after_seconds=_seconds_to_midnight(now))
        if quota.per_minute and usage.this_minute >= quota.per_minute:
            return 5, TooMany("quota-of-minute", limit=quota.per_minute, retry_after_seconds=60 - now.second)
    return None


def _seconds_to_midnight(now: datetime) -> int:
    """Until the next day begins in Vietnam (no daylight saving: every day has 24 hours)."""
    local = now.astimezone(VIETNAM)
    midnight = datetime.combine(local.date() + timedelta(days=1), time(), VIETNAM)
    return int((midnight - local).total_seconds()) + 1


def _routes(
    receivers: list[Agency], request: AccessRequest, service: Service, directory: Directory
) -> tuple[tuple[AgencyCode, System], ...]:
    routes: list[tuple[AgencyCode, System]] = []
    without: list[AgencyCode] = []
    for agency in receivers:
        system = directory.system_for(agency.code, service.code)
        if system is None:
            without.append(agency.code)
        else:
            routes.append((agency.code, system))
    if without:
        raise UnknownReceiver(
            "receiver-takes-not",
            errors=_receiver_errors(_places(without, request, directory), NO_SYSTEM),
        )
    if service.pattern is Pattern.REQUEST_REPLY and routes[0][1].mode is not DeliveryMode.PUSH:
        raise UnknownReceiver("receiver-cannot-reply")
    return tuple(routes)


def _places(codes: list[AgencyCode], request: AccessRequest, directory: Directory) -> list[int]:
    """Where the sender's list names these agencies, in whatever spelling and however often."""
    meant = [directory.agency(name) for name in request.receivers]
    return [place for place, agency in enumerate(meant) if agency is not None and agency.code in codes]


def _receiver_errors(places: list[int], rule: Wording) -> list[FieldError]:
    """Which receivers, by place in the list; the first twenty of them."""
    return [FieldError.worded(f"/receivers/{place}", rule) for place in places[:20]]
