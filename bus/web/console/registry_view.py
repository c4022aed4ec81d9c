"""What of the registry is shown to whom, and how lists of it are cut into pages.

A person of the province sees all. One of an agency sees the list of agencies and the catalogue of services, as every
member may over the API, and otherwise what is the agency's own: its systems and keys, grants that it holds, shares or
has given, drafts and schemas of services that it owns, may use or takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar
from urllib.parse import urlencode

from flask import request

from bus.access_requests import owner_of
from bus.web.console.desk import Desk
from registry.changes import subject_of
from registry.model import Agency, Certificate, Entry, Grant, Service, Stage, System
from schemas.identifiers import AgencyCode, ServiceCode
from schemas.problem import Malformed, NotFound
from schemas.text import unaccented

T = TypeVar("T")
#: Rows of one page.
MOST_ROWS = 50
#: What ends within this time is told of before.
SOON: Final = timedelta(days=30)


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """One page of a list; ``next`` is the address of the following one."""

    items: list[T]
    total: int
    next: str = ""
    query: str = ""


@dataclass(frozen=True, kw_only=True)
class HeldKey:
    """A key and the system that signs with it."""

    system: System
    certificate: Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Something that ends within :data:`SOON`, or has ended. ``kind``: certificate, sunset, grant."""

    kind: str
    at: datetime
    subject: str
    agency: AgencyCode
    address: str


def paged(entries: Iterable[T], key: Callable[[T], str], words: Callable[[T], str]) -> Page[T]:
    """The page that the address asks for (``after``), of what has the words that it asks for (``q``)."""
    wanted = _folded(request.args.get("q", ""))[:100]
    after = request.args.get("after", "")
    found = sorted((each for each in entries if wanted in _folded(words(each))), key=key)
    rest = [each for each in found if key(each) > after] if after else found
    items = rest[:MOST_ROWS]
    following = ""
    if len(rest) > MOST_ROWS:
        kept = {name: value for name, value in request.args.items() if name != "after"}
        following = f"{request.path}?{urlencode({**kept, 'after': key(items[-1])})}"
    return Page(items=items, total=len(found), next=following, query=request.args.get("q", "")[:100])


def words_of(entry: Entry) -> str:
    """What an entry is found by."""
    return f"{subject_of(entry)} {getattr(entry, 'name', '')} {getattr(entry, 'grantee', '')}"


def _folded(text: str) -> str:
    return unaccented(text).lower().strip()


# ── who sees what ───────────────────────────────────────────────────────────────────────────────────────────────────


def agencies_seen(desk: Desk) -> list[Agency]:
    """Those that this person may act for, in the order of their codes."""
    return sorted((each for each in desk.directory.agencies.values() if desk.sees(each.code)), key=lambda a: a.code)


def sees_system(desk: Desk, system: System) -> bool:
    return desk.sees(system.agency)


def sees_service(desk: Desk, service: Service) -> bool:
    return service.stage is not Stage.DRAFT or desk.sees(service.owner)


def uses_service(desk: Desk, service: Service) -> bool:
    """Are its schemas their business?"""
    if desk.scope is None or service.owner == desk.scope:
        return True
    takes = any(service.code in system.receives for system in desk.directory.systems_of(desk.scope))
    granted = bool(desk.directory.grants_for(desk.scope, service.code))
    return sees_service(desk, service) and (takes or granted)


def sees_grant(desk: Desk, grant: Grant) -> bool:
    """One's own, one that an agency above shares, one on one's own service."""
    if desk.scope is None or grant.grantee == desk.scope or owner_of(desk.directory, grant.service) == desk.scope:
        return True
    return grant.include_children and grant.grantee in desk.directory.ancestors(desk.scope)


def decides_on(desk: Desk, service: ServiceCode) -> bool:
    """May this person say yes to those who want to use it?"""
    return desk.scope is None or owner_of(desk.directory, service) == desk.scope


def the_agency(desk: Desk, code: str) -> AgencyCode:
    found = desk.directory.agency(code)
    if found is None:
        raise NotFound("registry-entry-unknown")
    return found.code


def the_system(desk: Desk, agency: str, name: str) -> System:
    """Raises NotFound, NotPermitted(other-agency)."""
    found = desk.directory.system(f"{agency}/{name}")
    desk.must_see(agency)
    if found is None:
        raise NotFound("registry-entry-unknown")
    return found


def the_service(desk: Desk, code: str, version: int) -> Service:
    """Raises NotFound, also for a draft that is not theirs."""
    try:
        found = desk.directory.service(ServiceCode(code), version)
    except Malformed:
        found = None
    if found is None or not sees_service(desk, found):
        raise NotFound("registry-entry-unknown")
    return found


def named_version(text: str) -> tuple[str, int] | None:
    """The service and the version that ``CODE/VERSION`` names; None where it names none."""
    code, _, version = text.partition("/")
    right = code and version.isascii() and version.isdecimal() and len(version) < 6
    return (code, int(version)) if right else None


def latest_version(desk: Desk, code: ServiceCode) -> Service | None:
    """The version whose page tells of a service: the latest that is open, else the latest that they may see."""
    number = desk.directory.latest_version(code)
    if number is not None:
        return desk.directory.service(code, number)
    versions = [each for each in desk.directory.services.values() if each.code == code and sees_service(desk, each)]
    return max(versions, key=lambda each: each.version, default=None)


def the_grant(desk: Desk, grant_id: str) -> Grant:
    """Raises NotFound, also for one that does not concern them."""
    found = desk.directory.grants.get(grant_id)
    if found is None or not sees_grant(desk, found):
        raise NotFound("registry-entry-unknown")
    return found


def keys_seen(desk: Desk) -> list[HeldKey]:
    """Keys in use, the one that ends first in front."""
    found = [
        HeldKey(system=system, certificate=held)
        for system in desk.directory.systems.values()
        if sees_system(desk, system)
        for held in system.certificates
        if held.revoked_at is None
    ]
    return sorted(found, key=lambda held: (held.certificate.not_after, held.system.code))


def endings(desk: Desk, now: datetime) -> list[Ending]:
    """Certificates of systems that are in use, services with a sunset, and grants, soonest first. A grant that ended
    and was not missed for a month is not told of any more; the others need something done."""
    return sorted(_endings(desk, now), key=lambda each: (each.at, each.address))


def _endings(desk: Desk, now: datetime) -> Iterator[Ending]:
    directory = desk.directory
    for system in directory.systems.values():
        last = system.keys_end
        if last is not None and last <= now + SOON and sees_system(desk, system):
            address = f"/console/registry/systems/{system.code}"
            yield Ending(kind="certificate", at=last, subject=system.code, agency=system.agency, address=address)
    for service in directory.services.values():
        last = service.sunset if service.stage is not Stage.RETIRED else None
        if last is not None and last <= now + SOON and desk.sees(service.owner):
            address = f"/console/registry/services/{service.code}/{service.version}"
            yield Ending(kind="sunset", at=last, subject=service.key, agency=service.owner, address=address)
    for grant in directory.grants.values():
        last = grant.expires_at
        if last is not None and now - SOON <= last <= now + SOON and sees_grant(desk, grant):
            address = f"/console/registry/grants/{grant.id}"
            yield Ending(kind="grant", at=last, subject=grant.service, agency=grant.grantee, address=address)
