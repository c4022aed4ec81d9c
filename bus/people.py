"""People who sign in to the console: who they are, their sessions, and what they did. The SQL of it.

::

    people 1 ── n person_sessions        a session is known by the SHA-256 of its token: the store betrays none
       audit_events                      what somebody did, to what, why; written in the transaction of the deed

Every process shares them; nothing is kept in a cookie but the token. Thread-safe.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from bus.roles import PersonRole as PersonRole
from bus.store import Store
from bus.tables import audit_events, people, person_sessions
from schemas.identifiers import AgencyCode
from schemas.moment import from_micros, to_micros
from schemas.problem import Malformed, NotFound
from security.one_time import period_of
from security.secrets import SecretBox
from security.tokens import hash_secret, verify_secret

#: A session ends so long after it was last used, and in any case so long after it began.
IDLE, LONGEST = timedelta(minutes=30), timedelta(hours=10)
#: Failures that are free, and the rest after each further one, doubled every time up to the longest.
_FREE_FAILURES = 4
_FIRST_REST, _LONGEST_REST = timedelta(seconds=30), timedelta(hours=1)
#: A session's row is written at most so often.
_SEEN = timedelta(minutes=1)
LEAST_PASSWORD_LENGTH = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody with an account. ``agency``: sees that one only; None sees the province."""

    name: str
    display_name: str
    roles: frozenset[PersonRole]
    agency: AgencyCode | None = None
    must_change: bool = False
    has_totp: bool = False
    subject: str | None = None
    locked_until: datetime | None = None
    disabled_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """A signed-in person. ``form_key`` stands in every form of theirs."""

    token_sha256: str
    person: Person
    form_key: str
    begun_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """Something that was done."""

    at: datetime
    person: str
    action: str
    #: What it was done to: ``message:…``, ``service:…``, ``person:…``.
    target: str
    reason: str = ""
    agency: AgencyCode | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    id: int = 0


class SignInFailed(Exception):
    """Name, password or code is wrong, or the account rests: one answer for all, so that a stranger learns nothing."""

    def __init__(self, locked_until: datetime | None = None) -> None:
        super().__init__("sign-in failed")
        self.locked_until = locked_until


class People:
    """Reads and writes accounts, sessions and the audit trail."""

    def __init__(self, store: Store, box: SecretBox) -> None:
        self._store = store
        self._box = box

    # ── accounts ──────────────────────────────────────────────────────────────────────────────────────────────────

    def add(
        self,
        name: str,
        *,
        display_name: str,
        roles: Collection[PersonRole],
        now: datetime,
        by: str,
        agency: AgencyCode | None = None,
        subject: str | None = None,
    ) -> str:
        """A new account; returns its first password, which must be changed at once and is kept nowhere. With a
        ``subject`` there is none: that person signs in elsewhere. Raises Malformed(person-exists, person-name)."""
        if not name.isascii() or not name.replace("-", "").replace(".", "").isalnum() or name != name.lower():
            raise Malformed("person-name")
        if not roles:
            raise Malformed("person-roles")
        password = "" if subject else secrets.token_urlsafe(15)
        row = {
            "name": name,
            "display_name": display_name or name,
            "roles": roles_text(roles),
            "agency": agency,
            "password_hash": "" if subject else hash_secret(password),
            "must_change": int(not subject),
            "totp_used": 0,
            "failures": 0,
            "subject": subject,
            "created_at": to_micros(now),
        }
        event = AuditEvent(
            at=now, person=by, action="person.added", target=trail_name(name), agency=agency,
            facts={"roles": row["roles"], "agency": agency},
        )  # fmt: skip

        def change(connection: Connection) -> None:
            if connection.execute(select(people.c.name).where(people.c.name == name)).first() is not None:
                raise Malformed("person-exists", name=name)
            connection.execute(insert(people).values(row))
            note(connection, event)

        self._store.write(change)
        return password

    def any_there(self) -> bool:
        with self._store.reading() as connection:
            return connection.execute(select(people.c.name).limit(1)).first() is not None

    def find(self, name: str) -> Person | None:
        with self._store.reading() as connection:
            row = connection.execute(select(people).where(people.c.name == name)).first()
        return None if row is None else _person(row)

    def all(self, agency: AgencyCode | None = None, *, after: str = "", limit: int | None = None) -> list[Person]:
        """In order of names; of one agency, or everybody."""
        query = select(people).where(people.c.name > after).order_by(people.c.name).limit(limit)
        if agency is not None:
            query = query.where(people.c.agency == agency)
        with self._store.reading() as connection:
            return [_person(row) for row in connection.execute(query)]

    def change(self, name: str, event: AuditEvent, **columns: Any) -> None:
        """Change an account's columns and note it; ends the person's sessions. Raises NotFound(person-unknown)."""

        def change(connection: Connection) -> None:
            if connection.execute(update(people).where(people.c.name == name).values(columns)).rowcount != 1:
                raise NotFound("person-unknown", name=name)
            connection.execute(delete(person_sessions).where(person_sessions.c.person == name))
            note(connection, event)

        self._store.write(change)

    def set_rights(
        self, name: str, roles: Collection[PersonRole], agency: AgencyCode | None, event: AuditEvent
    ) -> None:
        """What the person may do, and of which agency's affairs."""
        self.change(name, event, roles=roles_text(roles), agency=agency)

    def disable(self, name: str, event: AuditEvent) -> None:
        self.change(name, event, disabled_at=to_micros(event.at))

    def enable(self, name: str, event: AuditEvent) -> None:
        self.change(name, event, disabled_at=None, failures=0, locked_until=None)

    def new_password(self, name: str, event: AuditEvent) -> str:
        """A password that must be changed at once; the second thing to show goes too."""
        password = secrets.token_urlsafe(15)
        self.change(
            name, event, password_hash=hash_secret(password), must_change=1, totp=None, failures=0, locked_until=None
        )
        return password

    def choose_password(self, name: str, old: str, new: str, event: AuditEvent) -> None:
        """The person's own choice. Raises SignInFailed, Malformed(password-weak)."""
        with self._store.reading() as connection:
            row = connection.execute(select(people).where(people.c.name == name)).first()
        if row is None or not verify_secret(row.password_hash, old):
            raise SignInFailed
        if len(new) < LEAST_PASSWORD_LENGTH or len(set(new)) < 6 or name in new.lower() or new == old:
            raise Malformed("password-weak", least=LEAST_PASSWORD_LENGTH)
        self.change(name, event, password_hash=hash_secret(new), must_change=0)

    def keep_totp(self, name: str, seed: bytes, code: str, event: AuditEvent) -> bool:
        """From now on a code is asked for; False when this one does not fit the seed."""
        period = period_of(seed, code, event.at, 0)
        if period is None:
            return False
        self.change(name, event, totp=self._box.seal(_seal_name(name), seed), totp_used=period)
        return True

    # ── signing in ────────────────────────────────────────────────────────────────────────────────────────────────

    def sign_in(self, name: str, password: str, code: str, now: datetime) -> tuple[str, OpenSession]:
        """A new session and its token. Raises SignInFailed; each failure rests the account longer."""
        with self._store.reading() as connection:
            row = connection.execute(select(people).where(people.c.name == name)).first()
        right = verify_secret("" if row is None else row.password_hash, password)  # as slow for nobody as for somebody
        if row is None or row.disabled_at is not None:
            raise SignInFailed
        if row.locked_until is not None and to_micros(now) < row.locked_until:
            raise SignInFailed(from_micros(row.locked_until))
        period: int | None = row.totp_used
        if right and row.totp is not None:
            period = period_of(self._box.open(_seal_name(name), row.totp), code, now, row.totp_used)
        if not right or period is None:
            self._store.write(self._note_failure, name, now)
            raise SignInFailed
        return self._store.write(self._begin, row, period, now)

    def sign_in_as(
        self, subject: str, now: datetime, roles: Collection[PersonRole] | None = None
    ) -> tuple[str, OpenSession]:
        """For one whom an identity provider has sent (``issuer subject``); with ``roles`` it decides them, and who has
        none there has none here. Raises SignInFailed."""
        with self._store.reading() as connection:
            row = connection.execute(select(people).where(people.c.subject == subject)).first()
        if row is None or row.disabled_at is not None or (roles is not None and not roles):
            raise SignInFailed
        return self._store.write(self._begin_as, row, roles, now)

    def _begin_as(
        self, connection: Connection, row: Row[Any], roles: Collection[PersonRole] | None, now: datetime
    ) -> tuple[str, OpenSession]:
        named = row.roles if roles is None else roles_text(roles)
        if named != row.roles:
            connection.execute(update(people).where(people.c.name == row.name).values(roles=named))
            event = AuditEvent(
                at=now, person="openid", action="person.changed", target=trail_name(row.name),
                agency=AgencyCode.unchecked(row.agency) if row.agency else None,
                facts={"roles": named, "before": row.roles},
            )  # fmt: skip
            note(connection, event)
            row = connection.execute(select(people).where(people.c.name == row.name)).one()
        return self._begin(connection, row, row.totp_used, now)

    def _note_failure(self, connection: Connection, name: str, now: datetime) -> None:
        connection.execute(update(people).where(people.c.name == name).values(failures=people.c.failures + 1))
        failures = connection.execute(select(people.c.failures).where(people.c.name == name)).scalar_one()
        if failures > _FREE_FAILURES:
            rest = min(_FIRST_REST * 2 ** (failures - _FREE_FAILURES - 1), _LONGEST_REST)
            until = to_micros(now + rest)
            connection.execute(update(people).where(people.c.name == name).values(locked_until=until))
            note(
                connection,
                AuditEvent(at=now, person=name, action="sign-in.locked", target=trail_name(name),
                           facts={"failures": failures}),
            )  # fmt: skip

    def _begin(self, connection: Connection, row: Row[Any], period: int, now: datetime) -> tuple[str, OpenSession]:
        used = update(people).where(people.c.name == row.name, people.c.totp_used == row.totp_used)
        changed = connection.execute(used.values(failures=0, locked_until=None, totp_used=period)).rowcount
        if changed != 1:  # the same code at the same moment, somewhere else
            raise SignInFailed
        token = secrets.token_urlsafe(32)
        session = {
            "token_sha256": _digest(token),
            "person": row.name,
            "form_key": secrets.token_urlsafe(24),
            "begun_at": to_micros(now),
            "seen_at": to_micros(now),
            "ends_at": to_micros(now + LONGEST),
        }
        connection.execute(delete(person_sessions).where(person_sessions.c.ends_at < to_micros(now)))
        connection.execute(insert(person_sessions).values(session))
        note(connection, AuditEvent(at=now, person=row.name, action="sign-in", target=trail_name(row.name)))
        return token, OpenSession(
            token_sha256=session["token_sha256"], person=_person(row), form_key=session["form_key"], begun_at=now
        )

    def session(self, token: str, now: datetime) -> OpenSession | None:
        """Whose session this is, if it has not ended; using it keeps it open."""
        digest = _digest(token)
        query = (
            select(people, person_sessions.c.form_key, person_sessions.c.begun_at, person_sessions.c.seen_at)
            .join(person_sessions, person_sessions.c.person == people.c.name)
            .where(person_sessions.c.token_sha256 == digest, person_sessions.c.ends_at > to_micros(now))
        )
        with self._store.reading() as connection:
            row = connection.execute(query).first()
        if row is None or row.disabled_at is not None:
            return None
        seen = from_micros(row.seen_at)
        if now - seen > IDLE:
            return None
        if now - seen > _SEEN:
            renewed = update(person_sessions).where(person_sessions.c.token_sha256 == digest)
            self._store.write(lambda connection: connection.execute(renewed.values(seen_at=to_micros(now))) and None)
        return OpenSession(
            token_sha256=digest, person=_person(row), form_key=row.form_key, begun_at=from_micros(row.begun_at)
        )

    def sign_out(self, session: OpenSession) -> None:
        ended = delete(person_sessions).where(person_sessions.c.token_sha256 == session.token_sha256)
        self._store.write(lambda connection: connection.execute(ended) and None)

    # ── the audit trail ───────────────────────────────────────────────────────────────────────────────────────────

    def note(self, event: AuditEvent) -> None:
        """Keep what somebody did. Where the deed is a change of the store, use :func:`note` in its transaction."""
        self._store.write(note, event)

    def events(
        self,
        *,
        person: str | None = None,
        action: str | None = None,
        target: str | None = None,
        agency: AgencyCode | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> Sequence[AuditEvent]:
        """Newest first. ``agency``: only what was its affair."""
        query = select(audit_events).order_by(audit_events.c.id.desc()).limit(limit)
        for column, value in (("person", person), ("action", action), ("target", target), ("agency", agency)):
            if value is not None:
                query = query.where(audit_events.c[column] == value)
        if before is not None:
            query = query.where(audit_events.c.id < before)
        with self._store.reading() as connection:
            return [_event(row) for row in connection.execute(query)]

    def sessions_open(self, now: datetime) -> int:
        query = select(func.count()).where(person_sessions.c.seen_at > to_micros(now - IDLE))
        with self._store.reading() as connection:
            return int(connection.execute(query).scalar_one())


def trail_name(person: str) -> str:
    """How all trails name somebody with an account, as who did it or whom it was done to. (``cli:`` is who typed.)"""
    return f"person:{person}"


def roles_text(roles: Collection[PersonRole]) -> str:
    """As accounts and events keep them."""
    return ",".join(sorted(roles))


def note(connection: Connection, event: AuditEvent) -> None:
    """Write an event of the audit trail into a transaction of the caller's."""
    connection.execute(
        insert(audit_events).values(
            at=to_micros(event.at),
            person=event.person,
            agency=event.agency,
            action=event.action,
            target=event.target,
            reason=event.reason,
            facts=json.dumps(event.facts, ensure_ascii=False, default=str),
        )
    )


def _person(row: Row[Any]) -> Person:
    return Person(
        name=row.name,
        display_name=row.display_name,
        roles=frozenset(PersonRole(role) for role in row.roles.split(",") if role),
        agency=AgencyCode.unchecked(row.agency) if row.agency else None,
        must_change=bool(row.must_change),
        has_totp=row.totp is not None,
        subject=row.subject,
        locked_until=None if row.locked_until is None else from_micros(row.locked_until),
        disabled_at=None if row.disabled_at is None else from_micros(row.disabled_at),
    )


def _event(row: Row[Any]) -> AuditEvent:
    return AuditEvent(
        id=row.id,
        at=from_micros(row.at),
        person=row.person,
        agency=AgencyCode.unchecked(row.agency) if row.agency else None,
        action=row.action,
        target=row.target,
        reason=row.reason,
        facts=json.loads(row.facts),
    )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _seal_name(person: str) -> str:
    return f"totp of {person}"
