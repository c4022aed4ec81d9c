"""Rules, incidents and notices as the store keeps them, and what rules look at there. The SQL of alerts.

One incident that is open for each rule and subject, by a unique index: however many processes look, however often, it
is opened once and closed once, and each notice is written in the transaction of what it tells.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, Select, func, insert, select, text, update

from bus.alerts import DEFAULTS, Finding, Incident, Kind, Rule
from bus.nodes import open_breakers
from bus.people import AuditEvent, note
from bus.store import Store
from bus.tables import (
    alert_incidents,
    alert_notices,
    alert_rules,
    duties,
    exchanges,
    flow_hours,
    quota_usage,
)
from schemas.identifiers import AgencyCode, SystemCode
from schemas.moment import from_micros, hour_of, to_micros
from schemas.problem import NotFound

#: What was not found for so long has ended: what comes and goes every minute is one incident, and one letter.
PATIENCE: Final = timedelta(minutes=5)
#: Pauses before a notice is tried again, and how long after it was made it is given up.
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=30), timedelta(hours=1)
GIVE_UP_AFTER: Final = timedelta(days=2)
_MOST_AT_ONCE: Final = 20
_DEFAULTS_MADE: Final = "alert-rules"

#: ``test``: nothing is wrong, somebody wants to see whether notices arrive; such a notice is not kept.
Told = Literal["opened", "closed", "test"]
Channel = Literal["email", "webhook"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something to tell somebody."""

    id: int
    incident: Incident
    event: Told
    channel: Channel
    address: str
    made_at: datetime
    tries: int = 0
    sent_at: datetime | None = None
    due_at: datetime | None = None
    problem: Mapping[str, Any] | None = None


class AlertStore:
    """Reads and writes rules, incidents and notices. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # ── rules ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def rules(self) -> list[Rule]:
        """All, in the order in which they were made; a new bus has its first ones from here on."""
        with self._store.reading() as connection:
            rows = connection.execute(select(alert_rules).order_by(alert_rules.c.id)).all()
        return [_rule(row) for row in rows] if rows else self._store.write(self._first_rules)

    def _first_rules(self, connection: Connection) -> list[Rule]:
        made = connection.execute(_MARK, {"name": _DEFAULTS_MADE, "value": "made"}).rowcount
        if made:
            connection.execute(insert(alert_rules), [_columns(rule) for rule in DEFAULTS])
        return [_rule(row) for row in connection.execute(select(alert_rules).order_by(alert_rules.c.id))]

    def rule(self, number: int) -> Rule:
        """Raises NotFound(alert-rule-unknown)."""
        with self._store.reading() as connection:
            row = connection.execute(select(alert_rules).where(alert_rules.c.id == number)).first()
        if row is None:
            raise NotFound("alert-rule-unknown")
        return _rule(row)

    def save(self, rule: Rule, event: AuditEvent) -> int:
        """A new rule (its id is 0) or a changed one, with its event; its number. Muting is left as it is."""

        def save(connection: Connection) -> int:
            number = rule.id
            columns = {name: value for name, value in _columns(rule).items() if not name.startswith("mute")}
            if number:
                connection.execute(update(alert_rules).where(alert_rules.c.id == number).values(columns))
            else:
                made = insert(alert_rules).values(**columns, muted_by="", mute_reason="").returning(alert_rules.c.id)
                number = connection.execute(made).scalar_one()
            note(connection, _about(event, number))
            return number

        return self._store.write(save)

    def mute(self, number: int, until: datetime | None, event: AuditEvent) -> None:
        """Nobody is told until then (None: they are again). Raises NotFound(alert-rule-unknown)."""
        values = {
            "muted_until": None if until is None else to_micros(until),
            "muted_by": "" if until is None else event.person,
            "mute_reason": "" if until is None else event.reason,
        }

        def mute(connection: Connection) -> None:
            if connection.execute(update(alert_rules).where(alert_rules.c.id == number).values(values)).rowcount != 1:
                raise NotFound("alert-rule-unknown")
            note(connection, _about(event, number))

        self._store.write(mute)

    # ── incidents ─────────────────────────────────────────────────────────────────────────────────────────────────

    def keep(self, rule: Rule, findings: Sequence[Finding], now: datetime) -> tuple[int, int]:
        """Write what a rule found just now: (incidents opened, closed). Said again, nothing."""
        if not findings:  # as nearly always
            with self._store.reading() as connection:
                if connection.execute(select(_ID).where(*_open_of(rule)).limit(1)).first() is None:
                    return 0, 0
        return self._store.write(self._keep_in, rule, findings, now)

    def _keep_in(
        self, connection: Connection, rule: Rule, findings: Sequence[Finding], now: datetime
    ) -> tuple[int, int]:
        opened = sum(self._found(connection, rule, found, now) for found in sorted(findings, key=_subject))
        still = select(alert_incidents).where(*_open_of(rule)).order_by(alert_incidents.c.id).with_for_update()
        known = connection.execute(still).all()
        patience = PATIENCE if rule.enabled else timedelta()
        there = set(map(_subject, findings))
        ended = [row for row in known if row.subject not in there and row.seen_at <= to_micros(now - patience)]
        for row in known:
            if not row.told and not rule.is_muted(now):
                self._tell(connection, rule, row, "opened", now)
        for row in ended:
            mine = alert_incidents.c.id == row.id
            connection.execute(update(alert_incidents).where(mine).values(closed_at=to_micros(now)))
            if not rule.is_muted(now):
                self._tell(connection, rule, row, "closed", now)
        return opened, len(ended)

    def _found(self, connection: Connection, rule: Rule, found: Finding, now: datetime) -> int:
        """1 when this opened an incident."""
        seen = {"seen_at": to_micros(now), "value": found.value}
        known = update(alert_incidents).where(*_open_of(rule), alert_incidents.c.subject == found.subject)
        if connection.execute(known.values(seen)).rowcount:
            return 0
        row = {"rule": rule.id, "subject": found.subject, "agency": found.agency, **seen}
        return int(connection.execute(_OPEN, row).rowcount)

    def _tell(self, connection: Connection, rule: Rule, row: Row[Any], event: Told, now: datetime) -> None:
        addresses = [("email", address) for address in rule.emails]
        addresses += [("webhook", rule.webhook)] if rule.webhook else []
        for channel, address in addresses:
            connection.execute(
                insert(alert_notices).values(
                    incident_id=row.id, event=event, channel=channel, address=address, value=row.value,
                    made_at=to_micros(now), due_at=to_micros(now), tries=0,
                )
            )  # fmt: skip
        connection.execute(update(alert_incidents).where(alert_incidents.c.id == row.id).values(told=1))

    def open_incidents(self, agency: AgencyCode | None = None, most: int = 200) -> list[Incident]:
        """Newest first; ``agency``: its own affairs only."""
        query = _INCIDENTS.where(alert_incidents.c.closed_at.is_(None))
        return self._incidents(query, agency, most)

    def history(self, agency: AgencyCode | None = None, before: int | None = None, most: int = 50) -> list[Incident]:
        """All incidents, newest first; the next page: ``before`` the last one's id."""
        query = _INCIDENTS if before is None else _INCIDENTS.where(alert_incidents.c.id < before)
        return self._incidents(query, agency, most)

    def _incidents(self, query: Select[Any], agency: AgencyCode | None, most: int) -> list[Incident]:
        if agency is not None:
            query = query.where(alert_incidents.c.agency == agency)
        with self._store.reading() as connection:
            return [_incident(row) for row in connection.execute(query.order_by(_ID.desc()).limit(most))]

    def notices_of(self, incidents: Collection[int]) -> dict[int, list[Notice]]:
        """Whom each incident was told, or is to be, in the order of making."""
        query = _NOTICES.where(alert_notices.c.incident_id.in_(incidents)).order_by(alert_notices.c.id)
        found: dict[int, list[Notice]] = {number: [] for number in incidents}
        with self._store.reading() as connection:
            for row in connection.execute(query):
                found[row.id].append(_notice(row))
        return found

    # ── notices ───────────────────────────────────────────────────────────────────────────────────────────────────

    def take_due_notices(self, now: datetime) -> list[Notice]:
        """Notices to be sent now. Each is due again after a pause, unless `note_sent` says that it went: who dies in
        between loses none, and a receiver may see one twice."""
        with self._store.reading() as connection:
            if connection.execute(select(alert_notices.c.id).where(*_due(now)).limit(1)).first() is None:
                return []
        return self._store.write(self._take_due_in, now)

    def _take_due_in(self, connection: Connection, now: datetime) -> list[Notice]:
        due = select(alert_notices.c.id, alert_notices.c.tries, alert_notices.c.made_at).where(*_due(now))
        due = due.order_by(alert_notices.c.due_at).limit(_MOST_AT_ONCE).with_for_update(skip_locked=True)
        taken = connection.execute(due).all()
        for row in taken:
            pause = min(_FIRST_PAUSE * 2 ** min(row.tries, 20), _LONGEST_PAUSE)
            again = None if now - from_micros(row.made_at) > GIVE_UP_AFTER else to_micros(now + pause)
            mine = update(alert_notices).where(alert_notices.c.id == row.id)
            connection.execute(mine.values(tries=row.tries + 1, due_at=again))
        found = _NOTICES.where(alert_notices.c.id.in_([row.id for row in taken])).order_by(alert_notices.c.id)
        return [_notice(row) for row in connection.execute(found)]

    def note_sent(self, notice: int, now: datetime) -> None:
        values = {"sent_at": to_micros(now), "due_at": None, "problem": None}
        self._change_notice(notice, values)

    def note_failed(self, notice: int, reason: str, facts: Mapping[str, Any]) -> None:
        self._change_notice(notice, {"problem": json.dumps({"reason": reason, "facts": facts}, default=str)})

    def _change_notice(self, notice: int, values: Mapping[str, Any]) -> None:
        changed = update(alert_notices).where(alert_notices.c.id == notice).values(values)
        self._store.write(lambda connection: connection.execute(changed) and None)

    # ── what rules look at ────────────────────────────────────────────────────────────────────────────────────────

    def watched_at(self) -> datetime | None:
        """Until when the latest look counts, or counted; None: nobody has looked yet."""
        with self._store.reading() as connection:
            until = connection.execute(select(duties.c.until).where(duties.c.name == "alerts")).scalar()
        return None if until is None else from_micros(until)

    def attempts(self, now: datetime) -> dict[SystemCode, tuple[int, int]]:
        """Failed attempts and all, of this hour and the one before, by system."""
        hour = hour_of(now)
        query = (
            select(flow_hours.c.system, flow_hours.c.what, func.sum(flow_hours.c.value))
            .where(flow_hours.c.hour >= hour - 1, flow_hours.c.what.in_(["delivered", "retried", "died"]))
            .group_by(flow_hours.c.system, flow_hours.c.what)
        )
        found: dict[SystemCode, tuple[int, int]] = {}
        with self._store.reading() as connection:
            for name, what, value in connection.execute(query):
                system = SystemCode.unchecked(name)
                failed, all_ = found.get(system, (0, 0))
                found[system] = (failed + int(value) * (what != "delivered"), all_ + int(value))
        return found

    def accepted(self, services: Collection[str]) -> dict[str, datetime]:
        """The latest acceptance of each service, and under ``""`` of all: one step into an index each."""
        found: dict[str, datetime] = {}
        with self._store.reading() as connection:
            for service in services:
                latest = select(func.max(exchanges.c.received_at)).where(exchanges.c.service == service)
                if not service:
                    newest = select(func.max(exchanges.c.id)).scalar_subquery()
                    latest = select(exchanges.c.received_at).where(exchanges.c.id == newest)
                at = connection.execute(latest).scalar()
                if at is not None:
                    found[service] = from_micros(at)
        return found

    def open_breakers(self) -> list[SystemCode]:
        with self._store.reading() as connection:
            return list(open_breakers(connection))

    def quota_used(self, grants: Sequence[str], period: str) -> dict[str, int]:
        found: dict[str, int] = {}
        with self._store.reading() as connection:
            for start in range(0, len(grants), 500):
                of = (quota_usage.c.grant_id.in_(grants[start : start + 500]), quota_usage.c.period == period)
                found.update({row.grant_id: row.used for row in connection.execute(select(quota_usage).where(*of))})
        return found


#: Two processes that find the same at once open one.
_OPEN = text(
    "INSERT INTO alert_incidents (rule_id, subject, agency, opened_at, seen_at, value, told) "
    "VALUES (:rule, :subject, :agency, :seen_at, :seen_at, :value, 0) "
    "ON CONFLICT (rule_id, subject) WHERE closed_at IS NULL DO NOTHING"
)

_MARK = text("INSERT INTO store_marks (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING")

_ID = alert_incidents.c.id
_RULE = [column.label(f"of_rule_{column.name}") for column in alert_rules.c]
_INCIDENTS = select(alert_incidents, *_RULE).join(alert_rules, alert_rules.c.id == alert_incidents.c.rule_id)
_NOTICE = [column.label(f"notice_{column.name}") for column in alert_notices.c]
_NOTICES = (
    select(alert_incidents, *_RULE, *_NOTICE)
    .join(alert_rules, alert_rules.c.id == alert_incidents.c.rule_id)
    .join(alert_notices, alert_notices.c.incident_id == alert_incidents.c.id)
)


def _subject(finding: Finding) -> str:
    return finding.subject


def _open_of(rule: Rule) -> tuple[Any, ...]:
    return (alert_incidents.c.rule_id == rule.id, alert_incidents.c.closed_at.is_(None))


def _due(now: datetime) -> tuple[Any, ...]:
    return (alert_notices.c.due_at <= to_micros(now), alert_notices.c.due_at.is_not(None))


def _about(event: AuditEvent, number: int) -> AuditEvent:
    return replace(event, target=f"alert-rule:{number}")


def _columns(rule: Rule) -> dict[str, Any]:
    return {
        "kind": rule.kind.value,
        "threshold": rule.limit,
        "target": rule.target,
        "least": rule.least,
        "emails": ",".join(rule.emails),
        "webhook": rule.webhook,
        "enabled": int(rule.enabled),
        "muted_until": None if rule.muted_until is None else to_micros(rule.muted_until),
        "muted_by": rule.muted_by,
        "mute_reason": rule.mute_reason,
    }


def _rule(row: Row[Any], before: str = "") -> Rule:
    values = {column.name: getattr(row, before + column.name) for column in alert_rules.c}
    muted = values.pop("muted_until")
    return Rule(
        id=values["id"],
        kind=Kind(values["kind"]),
        limit=values["threshold"],
        target=values["target"],
        least=values["least"],
        emails=tuple(part for part in values["emails"].split(",") if part),
        webhook=values["webhook"],
        enabled=bool(values["enabled"]),
        muted_until=None if muted is None else from_micros(muted),
        muted_by=values["muted_by"],
        mute_reason=values["mute_reason"],
    )


def _incident(row: Row[Any]) -> Incident:
    return Incident(
        id=row.id,
        rule=_rule(row, "of_rule_"),
        subject=row.subject,
        agency=AgencyCode.unchecked(row.agency) if row.agency else None,
        opened_at=from_micros(row.opened_at),
        seen_at=from_micros(row.seen_at),
        closed_at=None if row.closed_at is None else from_micros(row.closed_at),
        value=row.value,
    )


def _notice(row: Row[Any]) -> Notice:
    return Notice(
        id=row.notice_id,
        incident=replace(_incident(row), value=row.notice_value),
        event=row.notice_event,
        channel=row.notice_channel,
        address=row.notice_address,
        made_at=from_micros(row.notice_made_at),
        tries=row.notice_tries,
        sent_at=None if row.notice_sent_at is None else from_micros(row.notice_sent_at),
        due_at=None if row.notice_due_at is None else from_micros(row.notice_due_at),
        problem=None if row.notice_problem is None else json.loads(row.notice_problem),
    )
