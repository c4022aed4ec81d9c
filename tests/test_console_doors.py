"""Every door of the console, also those that are added tomorrow: nobody comes in without a session, without the role,
or with a form that another site made. What stands behind the doors is told by the tests of each page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
import urllib3

from bus.people import PersonRole
from bus.web.app import create_app
from tests.console_house import ConsoleHouse
from tests.console_visitor import Visitor

#: Who may come in: ``anybody`` also a stranger, ``signed-in`` everybody who has signed in, else one right. A new page
#: stands here, or the first test fails.
DOORS = {
    "anybody": "GET sign-in, POST sign-in, GET assets/<name>, GET language/<language>",
    "signed-in": "GET account, POST account/password, GET account/second, POST account/second, POST sign-out",
    "see": """
        GET , GET parts/overview, POST search, GET nodes, GET map, GET parts/map,
        GET messages, GET messages/<message_id>, GET messages/<message_id>/proof, POST messages/<message_id>/verify,
        GET refusals, GET refusals/<int:refusal_id>, GET dossiers/<path:code>,
        GET bulk, GET bulk/<int:number>, GET bulk/<int:number>/progress,
        GET alerts, GET alerts/history, GET alerts/open,
        GET statistics, GET statistics/<month>.csv, GET statistics/<month>.xlsx, GET statistics/report/<month>,
        GET registry, GET registry/history, GET registry/keys,
        GET registry/agencies, GET registry/agencies/<code>, GET registry/systems, GET registry/systems/<agency>/<name>,
        GET registry/services, GET registry/services/<code>/<int:version>, GET registry/services/<code>/difference,
        GET registry/services/<code>/<int:version>/manifest, GET registry/services/<code>/<int:version>/openapi.json,
        GET registry/services/<code>/<int:version>/service.wsdl, GET registry/services/<code>/<int:version>/recent,
        GET registry/grants, GET registry/grants/<grant_id>,
        GET registry/requests, GET registry/requests/<request_id>,
        GET registry/subscriptions, GET registry/subscriptions/<subscription_id>
    """,
    "mend": """
        GET messages/<message_id>/rerun/<int:delivery_id>, POST messages/<message_id>/rerun/<int:delivery_id>,
        POST refusals/<int:refusal_id>/take, GET bulk/letter, POST bulk/order, POST bulk/<int:number>/stop,
        POST alerts/rules, GET alerts/rules/new, GET alerts/rules/<int:number>, POST alerts/rules/<int:number>/mute,
        POST alerts/rules/<int:number>/unmute, POST alerts/rules/<int:number>/test
    """,
    "open-bodies": "POST messages/<message_id>/body",
    "register": """
        GET registry/drafts/<draft_id>, POST registry/drafts/<draft_id>/apply,
        GET registry/upload, POST registry/upload/manifests, POST registry/upload/description,
        GET registry/services/new, POST registry/services, POST registry/services/publish,
        POST registry/services/<code>/<int:version>/stage, POST registry/systems/<agency>/<name>/suspend,
        GET registry/grants/new, GET registry/grants/<grant_id>/edit, POST registry/grants,
        POST registry/grants/<grant_id>/remove,
        GET registry/requests/new, POST registry/requests, POST registry/requests/<request_id>/approve,
        POST registry/requests/<request_id>/refuse, POST registry/requests/<request_id>/withdraw,
        GET registry/subscriptions/new, GET registry/subscriptions/<subscription_id>/edit, POST registry/subscriptions,
        POST registry/subscriptions/<subscription_id>/remove
    """,
    "guard": """
        GET people, GET people/new, POST people, GET people/<name>, POST people/<name>/roles,
        POST people/<name>/password, POST people/<name>/codes, POST people/<name>/disable, POST people/<name>/enable,
        POST registry/systems/<agency>/<name>/keys, POST registry/systems/<agency>/<name>/revoke,
        POST registry/systems/<agency>/<name>/secret, POST registry/systems/<agency>/<name>/endpoint-secret,
        GET settings
    """,
    "audit": "GET audit, GET audit.csv",
}
ROLES = {
    PersonRole.OBSERVER: {"see"},
    PersonRole.OPERATOR: {"see", "mend", "open-bodies"},
    PersonRole.REGISTRAR: {"see", "register"},
    PersonRole.SECURITY_OFFICER: {"see", "guard", "audit"},
    PersonRole.AUDITOR: {"see", "audit"},
}
#: What a stranger types for the parts of an address; nothing of that name is there.
_PARTS = {"message_id": "0193f000-0000-7000-8000-000000000000", "month": "2026-01", "agency": "H99.77"}


def doors() -> Iterator[tuple[str, str, str]]:
    """(right, method, address)."""
    for right, listed in DOORS.items():
        for door in listed.replace("\n", " ").split(","):
            method, _, rule = door.strip().partition(" ")
            yield right, method, rule.strip()


def address_of(rule: str) -> str:
    path = re.sub(r"<int:\w+>", "999999", rule)
    return "/console/" + re.sub(r"<(?:path:)?(\w+)>", lambda part: _PARTS.get(part[1], "khong-co"), path)


def test_the_list_of_doors_is_whole(console_house: ConsoleHouse) -> None:
    rules = create_app(console_house.world.bus).url_map.iter_rules()
    there = {
        f"{method} {rule.rule.removeprefix('/console/')}"
        for rule in rules
        if rule.rule.startswith("/console/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    listed = {f"{method} {rule}" for _, method, rule in doors()}
    assert there - listed == set(), "a door without a line above"
    assert listed - there == set(), "a line without a door"


def test_a_stranger_is_asked_to_sign_in(console_house: ConsoleHouse) -> None:
    for right, method, rule in doors():
        if right != "anybody":
            answer = urllib3.request(method, console_house.url + address_of(rule), redirect=False, retries=False)
            if method == "GET":
                assert answer.status == 302, rule
                assert answer.headers["Location"].startswith("/console/sign-in?next="), rule
            else:
                assert answer.status == 401, rule


@pytest.mark.parametrize("role", list(PersonRole))
def test_a_role_opens_its_own_doors_and_no_other(console_house: ConsoleHouse, role: PersonRole) -> None:
    """A deed without a key of the session changes nothing, so that every door can be tried."""
    visitor = Visitor.of(console_house, "lan", role)
    hostile = replace(visitor, form_key="khoá của trang khác")
    for right, method, rule in doors():
        if right == "anybody":
            continue
        answer = visitor.get(address_of(rule)) if method == "GET" else hostile.post(address_of(rule))
        if right not in ROLES[role] | {"signed-in"}:
            assert (answer.status, "role-missing" in answer.text) == (403, True), rule
        elif method == "GET":
            assert answer.status in (200, 302, 303, 400, 404), rule
        else:
            assert (answer.status, "form-foreign" in answer.text) == (403, True), rule
    assert visitor.get("/console/account").status == 200


def test_an_empty_form_is_answered_with_words(console_house: ConsoleHouse) -> None:
    """Of the right person, in the right session: whatever lacks is named, and nothing falls over."""
    visitor = Visitor.of(console_house, "lan")
    for right, method, rule in doors():
        if right != "anybody" and method == "POST" and rule != "sign-out":
            answer = visitor.post(address_of(rule))
            assert answer.status < 500, (rule, answer.text[:500])
            assert answer.status in (200, 303, 400, 403, 404, 409, 422), (rule, answer.status)


def test_a_letter_that_is_no_longer_needed_says_so(console_house: ConsoleHouse) -> None:
    """Somebody else was quicker to send again what failed."""
    letter = Visitor.of(console_house, "lan").get("/console/bulk/letter?system=H99.16/kho&do=write")
    assert (letter.status, "không cần viết" in letter.text) == (200, True)
