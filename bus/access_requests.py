"""Agencies ask for the right to use a service; its owner or the province says yes or no. The SQL of it.

::

    waiting ──approve──▶ approved      the grant is made in the same transaction
       ├─────refuse────▶ refused       with a reason
       └────withdraw───▶ withdrawn     by whoever asked

A move is an UPDATE that names from and to, so two people who decide at once do not both win. Thread-safe.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import uuid6
from sqlalchemy import ColumnElement, Connection, Row, func, insert, or_, select, update

from bus.store import Store
from bus.tables import access_requests
from registry.directory import Directory
from registry.model import Grant, Quota, Stage
from schemas.identifiers import AgencyCode, ServiceCode
from schemas.moment import from_micros, from_wire, to_micros, to_wire
from schemas.problem import Malformed, NotFound

#: A right of more than this is asked for again: laws and offices change.
LONGEST: Final = timedelta(days=5 * 366)
_MOST_TEXT: Final = 1000
#: The schema of manifests takes no more in a grant.
_MOST_PURPOSES: Final = 100
_MOST_QUOTA: Final = 1_000_000_000


class RequestState(StrEnum):
    WAITING = "waiting"
    APPROVED = "approved"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What an agency asks for."""

    service: ServiceCode
    agency: AgencyCode
    purposes: tuple[str, ...]
    legal_basis: str
    expires_at: datetime
    receivers: tuple[AgencyCode, ...] = ()
    quota: Quota = field(default_factory=Quota)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRequest:
    """A wish, who uttered it, and what became of it."""

    id: str
    wish: Wish
    owner: AgencyCode
    asked_at: datetime
    asked_by: str
    state: RequestState
    decided_at: datetime | None = None
    decided_by: str | None = None
    reason: str = ""
    grant_id: str | None = None


def owner_of(directory: Directory, service: ServiceCode) -> AgencyCode | None:
    """Who answers for a service: the owner of its newest version that is more than a draft, else of the newest."""
    versions = sorted((each for each in directory.services.values() if each.code == service), key=lambda s: s.version)
    shown = [each for each in versions if each.stage is not Stage.DRAFT] or versions
    return shown[-1].owner if shown else None


def check_wish(wish: Wish, directory: Directory, now: datetime) -> AgencyCode:
    """May this be asked for? Returns the owner to decide. Raises Malformed, NotFound."""
    owner = owner_of(directory, wish.service)
    asked = [each for each in directory.services.values() if each.code == wish.service]
    if owner is None or all(each.stage in (Stage.DRAFT, Stage.RETIRED) for each in asked):
        raise NotFound("access-request-service")
    if wish.agency not in directory.agencies or any(each not in directory.agencies for each in wish.receivers):
        raise Malformed("access-request-agency")
    purposes = [each for each in wish.purposes if each.strip() == each and 1 <= len(each) <= 100]
    if not purposes or len(purposes) != len(wish.purposes) or len(set(purposes)) != len(purposes):
        raise Malformed("access-request-purpose")
    if len(purposes) > _MOST_PURPOSES:
        raise Malformed("access-request-purpose")
    if not 5 <= len(wish.legal_basis.strip()) <= _MOST_TEXT:
        raise Malformed("access-request-basis")
    if not now < wish.expires_at <= now + LONGEST:
        raise Malformed("access-request-expiry")
    if not all(0 <= each <= _MOST_QUOTA for each in (wish.quota.per_minute, wish.quota.per_day)):
        raise Malformed("access-request-quota")
    return owner


def grant_of(wish: Wish, directory: Directory) -> Grant:
    """The right that was asked for, under a name that is free: one that is there already stays as it is."""
    return Grant(
        id=free_id(f"{wish.service}.{wish.agency}", directory.grants),
        service=wish.service,
        grantee=wish.agency,
        receivers=wish.receivers,
        purposes=wish.purposes,
        expires_at=wish.expires_at,
        quota=wish.quota,
    )


def free_id(name: str, taken: Container[object]) -> str:
    """The name, or with the first number that makes it a free one."""
    number = 1
    while (found := name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    return found


class AccessRequests:
    """Reads and writes requests."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def ask(
        self, wish: Wish, owner: AgencyCode, by: str, now: datetime, also: Callable[[Connection], object]
    ) -> AccessRequest:
        """Keep a checked wish. ``also`` writes in the same transaction. Raises Malformed(access-request-waiting): the
        agency waits for an answer about this service already."""
        request = AccessRequest(
            id=str(uuid6.uuid7()), wish=wish, owner=owner, asked_at=now, asked_by=by, state=RequestState.WAITING
        )

        def change(connection: Connection) -> None:
            same = (
                access_requests.c.state == RequestState.WAITING,
                access_requests.c.agency == wish.agency,
                access_requests.c.service == wish.service,
            )
            if connection.execute(select(access_requests.c.id).where(*same).limit(1)).first() is not None:
                raise Malformed("access-request-waiting")
            connection.execute(insert(access_requests).values(_row(request)))
            also(connection)

        self._store.write(change)
        return request

    def find(self, request_id: str) -> AccessRequest | None:
        with self._store.reading() as connection:
            row = connection.execute(select(access_requests).where(access_requests.c.id == request_id)).first()
        return None if row is None else _request(row)

    def newest(
        self,
        *,
        state: RequestState | None = None,
        concerning: AgencyCode | None = None,
        before: str = "",
        limit: int = 50,
    ) -> Sequence[AccessRequest]:
        """Newest first. ``concerning``: asked by this agency, or about its services. ``before``: the id of the last one
        of the page before."""
        query = select(access_requests).order_by(access_requests.c.id.desc()).limit(limit)
        query = query.where(*_conditions(state, concerning))
        if before:
            query = query.where(access_requests.c.id < before)
        with self._store.reading() as connection:
            return [_request(row) for row in connection.execute(query)]

    def waiting(self, owner: AgencyCode | None = None) -> int:
        """How many wait for a decision; of this owner's services, or of all."""
        query = select(func.count()).where(access_requests.c.state == RequestState.WAITING)
        if owner is not None:
            query = query.where(access_requests.c.owner == owner)
        with self._store.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def withdraw(self, request_id: str, by: str, now: datetime, also: Callable[[Connection], object]) -> None:
        """Whoever asked needs it no more. Raises Malformed(access-request-decided)."""
        self._close(request_id, RequestState.WITHDRAWN, by, "", now, also)

    def refuse(
        self, request_id: str, by: str, reason: str, now: datetime, also: Callable[[Connection], object]
    ) -> None:
        """No, and why. Raises Malformed(access-request-decided)."""
        self._close(request_id, RequestState.REFUSED, by, reason, now, also)

    def _close(
        self,
        request_id: str,
        state: RequestState,
        by: str,
        reason: str,
        now: datetime,
        also: Callable[[Connection], object],
    ) -> None:
        def change(connection: Connection) -> None:
            decide(connection, request_id, state, by=by, reason=reason, now=now)
            also(connection)

        self._store.write(change)


def decide(
    connection: Connection,
    request_id: str,
    state: RequestState,
    *,
    by: str,
    reason: str,
    now: datetime,
    grant_id: str | None = None,
) -> None:
    """From waiting to ``state``, in a transaction of the caller's. Raises Malformed(access-request-decided)."""
    moved = connection.execute(
        update(access_requests)
        .where(access_requests.c.id == request_id, access_requests.c.state == RequestState.WAITING)
        .values(state=state, decided_at=to_micros(now), decided_by=by, reason=reason, grant_id=grant_id)
    ).rowcount
    if moved != 1:
        raise Malformed("access-request-decided")


def _conditions(state: RequestState | None, concerning: AgencyCode | None) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if state is not None:
        found.append(access_requests.c.state == state)
    if concerning is not None:
        found.append(or_(access_requests.c.agency == concerning, access_requests.c.owner == concerning))
    return found


def _row(request: AccessRequest) -> dict[str, Any]:
    wish = request.wish
    facts = {
        "purposes": list(wish.purposes),
        "legal_basis": wish.legal_basis,
        "expires_at": to_wire(wish.expires_at),
        "receivers": list(wish.receivers),
        "per_minute": wish.quota.per_minute,
        "per_day": wish.quota.per_day,
    }
    return {
        "id": request.id,
        "service": wish.service,
        "owner": request.owner,
        "agency": wish.agency,
        "wish": json.dumps(facts, ensure_ascii=False),
        "asked_at": to_micros(request.asked_at),
        "asked_by": request.asked_by,
        "state": request.state,
        "reason": request.reason,
    }


def _request(row: Row[Any]) -> AccessRequest:
    facts = json.loads(row.wish)
    wish = Wish(
        service=ServiceCode.unchecked(row.service),
        agency=AgencyCode.unchecked(row.agency),
        purposes=tuple(facts["purposes"]),
        legal_basis=facts["legal_basis"],
        expires_at=from_wire(facts["expires_at"]),
        receivers=tuple(map(AgencyCode.unchecked, facts["receivers"])),
        quota=Quota(per_minute=facts["per_minute"], per_day=facts["per_day"]),
    )
    return AccessRequest(
        id=row.id,
        wish=wish,
        owner=AgencyCode.unchecked(row.owner),
        asked_at=from_micros(row.asked_at),
        asked_by=row.asked_by,
        state=RequestState(row.state),
        decided_at=None if row.decided_at is None else from_micros(row.decided_at),
        decided_by=row.decided_by,
        reason=row.reason,
        grant_id=row.grant_id,
    )
