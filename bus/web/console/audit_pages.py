"""`/console/audit`, `/console/settings`, `/console/nodes`: who did what and why, what is set, which processes run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from flask import Response, request

from bus.people import AuditEvent, People
from bus.settings import setting_meanings, shown_settings, variable_name
from bus.web.console.desk import Console, Desk, Right, attachment
from bus.web.console.registry_view import MOST_ROWS
from bus.web.console.spreadsheets import CSV, Sheet, csv_of
from schemas.identifiers import AgencyCode
from schemas.moment import VIETNAM, utc_now

#: Rows of one CSV file; the next begins with ``before``.
MOST_EXPORTED = 10_000
_ASKED_AT_ONCE = 500
_FILTERS = ("person", "action", "target", "agency")


def install(console: Console) -> None:
    _audit(console, console.people)

    @console.page("/settings", Right.GUARD, menu=("Cấu hình", "Settings"))
    def settings(desk: Desk) -> Response:
        """Of this process. Passwords stand in addresses and are left out; secrets are not shown at all."""
        desk.must_see()
        bus_settings = desk.bus.settings
        meanings = setting_meanings()
        rows = [
            (variable_name(name), value, bus_settings.origins.get(name, "default"), meanings[name])
            for name, value in shown_settings(bus_settings)
        ]
        return desk.show("settings.html", rows=rows)

    @console.page("/nodes", Right.SEE)
    def nodes(desk: Desk) -> Response:
        desk.must_see()
        look = desk.bus.nodes.look()
        silent = 4 * desk.bus.settings.node_beat_seconds
        return desk.show("nodes.html", nodes=look.nodes, resting=look.open, silent=silent)


def _audit(console: Console, people: People) -> None:
    @console.page("/audit", Right.AUDIT, menu=("Nhật ký kiểm tra", "Audit trail"))
    def audit(desk: Desk) -> Response:
        found = _asked(desk, people, desk.asked_number("before"), MOST_ROWS + 1)
        more = found[MOST_ROWS - 1].id if len(found) > MOST_ROWS else 0
        filters = {name: request.args.get(name, "") for name in _FILTERS}
        return desk.show("audit.html", found=found[:MOST_ROWS], more=more, filters=filters)

    @console.page("/audit.csv", Right.AUDIT)
    def audit_csv(desk: Desk) -> Response:
        """The same events as a table, at most ten thousand; that somebody took them away is an event, too."""
        desk.note("audit.exported", "audit:", filters={name: request.args.get(name, "") for name in _FILTERS})
        name = f"{utc_now().astimezone(VIETNAM):nhat-ky-%Y%m%d-%H%M}"
        # Written whole: an answer that streams would read the store after its request is over.
        sheet = Sheet(name=name, title=name, rows=[_COLUMNS, *map(_cells, _all(desk, people))])
        return attachment(csv_of(sheet), CSV, f"{name}.csv")


def _asked(desk: Desk, people: People, before: int | None, limit: int) -> Sequence[AuditEvent]:
    """The events that the address asks for; of one agency's people, that agency's."""
    wanted = {name: request.args.get(name, "").strip() or None for name in _FILTERS}
    agency = desk.scope or (AgencyCode(wanted["agency"]) if wanted["agency"] else None)
    return people.events(
        person=wanted["person"],
        action=wanted["action"],
        target=wanted["target"],
        agency=agency,
        before=before,
        limit=limit,
    )


def _all(desk: Desk, people: People) -> Iterator[AuditEvent]:
    before, left = desk.asked_number("before"), MOST_EXPORTED
    while left > 0:
        found = _asked(desk, people, before, min(left, _ASKED_AT_ONCE))
        yield from found
        if len(found) < min(left, _ASKED_AT_ONCE):
            return
        before, left = found[-1].id, left - len(found)


_COLUMNS = ("id", "at", "person", "agency", "action", "target", "reason", "facts")


def _cells(event: AuditEvent) -> tuple[object, ...]:
    at = event.at.astimezone(VIETNAM).isoformat(timespec="seconds")
    facts = json.dumps(event.facts, ensure_ascii=False, default=str) if event.facts else ""
    return event.id, at, event.person, event.agency or "", event.action, event.target, event.reason, facts
