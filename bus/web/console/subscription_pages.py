"""`/console/registry/subscriptions`: which systems are told of events, how far each was told, what stops it.

A subscription is itself the permission, so only the province's registrars give, change and withdraw one; an agency's
own people see those of its systems.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from bus.event_store import Cursor, EventStore
from bus.registry_drafts import RegistryDrafts
from bus.web.console.desk import Console, Desk, Right
from bus.web.console.registering import keep_draft, keep_entries, words
from bus.web.console.registry_view import paged
from registry.manifests import parse_manifest, write_manifest
from registry.model import EventDelivery, Subscription
from registry.strict_yaml import write_yaml
from schemas.events import DOSSIER_CHANGED, EVENT_TYPES, REGISTRY_CHANGED
from schemas.identifiers import AgencyCode, SystemCode
from schemas.moment import utc_now
from schemas.problem import Malformed, NotFound

#: Type of event → its words.
TYPE_NAMES: Final[Mapping[str, tuple[str, str]]] = {
    DOSSIER_CHANGED: ("trạng thái, hạn trả hoặc nơi giữ hồ sơ thay đổi", "a dossier's status, due date or holder"),
    REGISTRY_CHANGED: ("danh mục dùng chung thay đổi", "a change of the registry"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How far a subscriber was told of one stream of events."""

    stream: str
    #: What has happened since; most of it may be for others.
    behind: int
    problem: str
    #: When it is tried again, where something stops it.
    again_at: datetime | None


def install(console: Console) -> None:
    drafts = RegistryDrafts(console.bus.store)
    _pages(console)
    _deeds(console, drafts)


def _pages(console: Console) -> None:
    @console.page("/registry/subscriptions")
    def registry_subscriptions(desk: Desk) -> Response:
        seen = [each for each in desk.directory.subscriptions.values() if desk.sees(each.system.agency)]
        page = paged(seen, lambda each: each.id, lambda each: f"{each.id} {each.system}")
        stopped = {each.subscription for each in _cursors(desk) if each.problem}
        return desk.show("registry-subscriptions.html", page=page, stopped=stopped, gives=_gives(desk), **_names(desk))

    @console.page("/registry/subscriptions/new", Right.REGISTER)
    def new_subscription(desk: Desk) -> Response:
        desk.must_see()
        return _form(desk, {"types": [DOSSIER_CHANGED], "system": request.args.get("system", "")})

    @console.page("/registry/subscriptions/<subscription_id>")
    def registry_subscription(desk: Desk, subscription_id: str) -> Response:
        found = _the_subscription(desk, subscription_id)
        return desk.show(
            "registry-subscription.html",
            found=found,
            system=desk.directory.system(found.system),
            told=told_of(desk, found),
            gives=_gives(desk),
            events=desk.bus.registry.events(subject=found.id, limit=10),
            **_names(desk),
        )

    @console.page("/registry/subscriptions/<subscription_id>/edit", Right.REGISTER)
    def edit_subscription(desk: Desk, subscription_id: str) -> Response:
        desk.must_see()
        found = _the_subscription(desk, subscription_id)
        values = {name: ", ".join(getattr(found, name)) for name in ("units", "procedures", "senders")}
        plain = {"id": found.id, "system": found.system, "types": list(found.types), "delivery": found.delivery}
        return _form(desk, {**values, **plain, "held": found.id})


def _deeds(console: Console, drafts: RegistryDrafts) -> None:
    @console.deed("/registry/subscriptions", Right.REGISTER)
    def keep_subscription(desk: Desk) -> AnyResponse:
        desk.must_see()
        try:
            made = _from_form(desk)
        except (Malformed, ValueError) as error:
            problem = error if isinstance(error, Malformed) else Malformed("query-invalid", name="delivery")
            return _form(desk, {**request.form, "types": request.form.getlist("types")}, problem)
        return keep_entries(desk, drafts, [made], desk.t("Biểu mẫu đăng ký nhận sự kiện", "Form of a subscription"))

    @console.deed("/registry/subscriptions/<subscription_id>/remove", Right.REGISTER)
    def remove_subscription(desk: Desk, subscription_id: str) -> AnyResponse:
        desk.must_see()
        found = _the_subscription(desk, subscription_id)
        text = write_yaml([{"kind": "Subscription", "id": found.id, "state": "absent"}])
        return keep_draft(desk, drafts, text, desk.t("Thôi báo sự kiện", "Withdraw a subscription"))


def told_of(desk: Desk, subscription: Subscription) -> list[Told]:
    """How far it was told; empty until `lgsp work` has looked at it first."""
    with desk.bus.store.reading() as connection:
        end = desk.bus.log.size(connection) - 1
    ends = {REGISTRY_CHANGED: desk.directory.revision}
    return [
        Told(
            stream=cursor.stream,
            behind=max(0, ends.get(cursor.stream, end) - cursor.position),
            problem=cursor.problem or "",
            again_at=cursor.free_at if cursor.problem and cursor.free_at > utc_now() else None,
        )
        for cursor in _cursors(desk)
        if cursor.subscription == subscription.id
    ]


def _cursors(desk: Desk) -> list[Cursor]:
    return EventStore(desk.bus.store, desk.bus.log).cursors()


def _gives(desk: Desk) -> bool:
    return desk.scope is None and desk.may(Right.REGISTER)


def _names(desk: Desk) -> dict[str, Any]:
    def type_name(name: str) -> str:
        every = desk.t("mọi sự kiện có mã bắt đầu bằng", "all whose type begins with")
        return f"{every} {name[:-1]}" if name.endswith("*") else desk.t(*TYPE_NAMES.get(name, (name, name)))

    return {"n": desk.names, "type_name": type_name}


def _the_subscription(desk: Desk, subscription_id: str) -> Subscription:
    """Raises NotFound, also for one that is another agency's."""
    found = desk.directory.subscriptions.get(subscription_id)
    if found is None or not desk.sees(found.system.agency):
        raise NotFound("registry-entry-unknown")
    return found


def _form(desk: Desk, values: Mapping[str, Any], problem: Malformed | None = None) -> Response:
    chosen = values.get("types", [])
    return desk.show(
        "registry-subscription-form.html",
        200 if problem is None else 400,
        values=values,
        types=[*EVENT_TYPES, *(each for each in chosen if each not in EVENT_TYPES)],
        systems=sorted(desk.directory.systems.values(), key=lambda each: each.code),
        problem=problem,
        problem_text=problem.detail(desk.language) if problem else "",
        **_names(desk),
    )


def _from_form(desk: Desk) -> Subscription:
    """What the form says, checked as a manifest of it would be. Raises Malformed, ValueError."""
    form = request.form
    made = Subscription(
        id=form.get("held") or form.get("id", "").strip(),
        system=SystemCode(form.get("system", "").strip()),
        types=tuple(form.getlist("types")),
        delivery=EventDelivery(form.get("delivery", "")),
        units=tuple(map(AgencyCode, words("units"))),
        procedures=tuple(words("procedures")),
        senders=tuple(map(AgencyCode, words("senders"))),
    )
    parse_manifest(write_manifest([made]).encode())
    return made
