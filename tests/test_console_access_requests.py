"""Access requests: asked in the console or over the API, decided by the owner or the province; a grant is made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from bus.access_requests import LONGEST, AccessRequests, RequestState, Wish, check_wish, decide, grant_of, owner_of
from bus.people import PersonRole
from registry.model import Quota, Stage
from schemas.identifiers import AgencyCode, ServiceCode
from schemas.moment import to_wire, utc_now
from schemas.problem import Malformed, NotFound
from tests.bus_world import (
    NOTE,
    OPERATOR,
    OUTSIDER,
    RECEIVER,
    RECEIVING,
    SENDER,
    SENDING,
    SERVICES,
    UNGRANTED,
    Answer,
    World,
    ask,
    bus_world,
    key_of,
    post,
)
from tests.console_house import ConsoleHouse, assert_accessible, assert_fits
from tests.console_visitor import Visitor

ASKED = "/console/registry/requests"
HOSTILE = "<script>document.title='x'</script>"


def wish(**facts: Any) -> Wish:
    return replace(
        Wish(
            service=NOTE, agency=OUTSIDER, purposes=("giai-quyet-tthc",), legal_basis="Điều 5 Nghị định 47/2024",
            expires_at=utc_now() + timedelta(days=100),
        ),
        **facts,
    )  # fmt: skip


def keep(world: World, **facts: Any) -> str:
    made = wish(**facts)
    owner = check_wish(made, world.bus.directory.current(), utc_now())
    return AccessRequests(world.bus.store).ask(made, owner, "person:ba", utc_now(), lambda connection: None).id


@pytest.mark.parametrize(
    "facts, reason",
    [
        ({"service": ServiceCode("khong.co")}, "access-request-service"),
        ({"agency": AgencyCode("H98")}, "access-request-agency"),
        ({"receivers": (AgencyCode("H98"),)}, "access-request-agency"),
        ({"purposes": ()}, "access-request-purpose"),
        ({"purposes": ("a", "a")}, "access-request-purpose"),
        ({"purposes": (" a",)}, "access-request-purpose"),
        ({"purposes": ("x" * 101,)}, "access-request-purpose"),
        ({"legal_basis": "  luật  "}, "access-request-basis"),
        ({"legal_basis": "x" * 1001}, "access-request-basis"),
        ({"expires_at": utc_now() - timedelta(days=1)}, "access-request-expiry"),
        ({"expires_at": utc_now() + LONGEST + timedelta(days=1)}, "access-request-expiry"),
        ({"quota": Quota(per_day=-1)}, "access-request-quota"),
    ],
)
def test_what_cannot_be_asked_for(directory_world: World, facts: dict[str, Any], reason: str) -> None:
    with pytest.raises((Malformed, NotFound)) as refused:
        check_wish(wish(**facts), directory_world.bus.directory.current(), utc_now())
    assert refused.value.reason == reason


@pytest.fixture(scope="module")
def directory_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with bus_world(tmp_path_factory.mktemp("directory")) as world:
        yield world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path) as world:
        yield world


def test_drafts_cannot_be_asked_for_and_grants_get_free_names(world: World) -> None:
    hidden = replace(SERVICES[2], code=ServiceCode("so-mau.nhap"), stage=Stage.DRAFT)
    world.register(hidden)
    directory = world.bus.directory.current()
    with pytest.raises(NotFound):
        check_wish(wish(service=hidden.code), directory, utc_now())
    assert owner_of(directory, NOTE) == "H99"
    first = grant_of(wish(), directory)
    world.register(first)
    assert grant_of(wish(), world.bus.directory.current()).id == f"{first.id}-2"


def test_two_who_decide_at_once_do_not_both_win(world: World) -> None:
    request, requests = keep(world), AccessRequests(world.bus.store)
    requests.refuse(request, "person:lan", "chưa đủ căn cứ", utc_now(), lambda connection: None)
    with pytest.raises(Malformed) as late, world.bus.store.writing() as connection:
        decide(connection, request, RequestState.APPROVED, by="person:ba", reason="được", now=utc_now())
    assert late.value.reason == "access-request-decided"
    found = requests.find(request)
    assert found is not None
    assert (found.state, found.reason, found.grant_id) == (RequestState.REFUSED, "chưa đủ căn cứ", None)


# ── in the console ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_agency_asks_and_the_province_approves_and_the_call_passes(console_house: ConsoleHouse, page: Page) -> None:
    world = console_house.world
    message = world.signed(sender=OUTSIDER, key=key_of(UNGRANTED), service=NOTE)
    console_house.person("ba", PersonRole.REGISTRAR, agency=OUTSIDER)
    console_house.sign_in(page, "ba")
    page.goto(f"{console_house.url}/console/registry/services/{NOTE}/1")
    page.click("text=Đề nghị được dùng dịch vụ này")
    assert_accessible(page)
    assert_fits(page)
    page.fill("#purposes", "giai-quyet-tthc")
    page.fill("#legal_basis", HOSTILE)
    page.fill("#expires", to_wire(utc_now() + timedelta(days=200))[:10])
    page.click("main form button")
    assert HOSTILE in page.inner_text("main")
    assert page.locator("text=Rút đề nghị").count() == 1
    assert page.locator("h2:has-text('Cấp quyền')").count() == 0, "who asks does not decide"
    page.click("text=Đăng xuất")
    console_house.sign_in(page, "lan")
    page.goto(f"{console_house.url}/console/registry")
    assert_accessible(page)
    page.click("text=Xem và giải quyết")
    assert_accessible(page)
    assert_fits(page)
    page.fill("#per_day", "500")
    page.fill("#approve-reason", "đủ căn cứ pháp lý")
    page.click("button:has-text('Cấp quyền')")
    grant = world.bus.registry.load().grants[f"{NOTE}.{OUTSIDER}"]
    assert (grant.purposes, grant.quota.per_day) == (("giai-quyet-tthc",), 500)
    assert page.locator(f"a[href='/console/registry/grants/{grant.id}']").count() == 1
    assert post(console_house.url, message).status == 202
    (event,) = console_house.people.events(action="access.approved")
    assert (event.person, event.reason, event.agency) == ("lan", "đủ căn cứ pháp lý", OUTSIDER)


def test_only_those_concerned_see_a_request_and_only_the_owner_or_the_province_decides(
    console_house: ConsoleHouse,
) -> None:
    world = console_house.world
    world.register(replace(SERVICES[2], code=ServiceCode("so-nhan.viec"), owner=RECEIVER))
    request = keep(world, service=ServiceCode("so-nhan.viec"))
    asker, owner, other = (
        Visitor.of(console_house, name, PersonRole.REGISTRAR, agency=agency)
        for name, agency in (("asker", OUTSIDER), ("owner", RECEIVER), ("other", "H99.17"))
    )
    looker = Visitor.of(console_house, "looker", PersonRole.OBSERVER)
    assert [who.get(f"{ASKED}/{request}").status for who in (asker, owner, other, looker)] == [200, 200, 404, 200]
    assert request not in other.get(ASKED).text
    wanted = {"purposes": "giai-quyet-tthc", "reason": "vì cần thiết", "expires": "2028-01-01"}
    assert asker.post(f"{ASKED}/{request}/approve", **wanted).status == 403
    assert other.post(f"{ASKED}/{request}/approve", **wanted).status == 404
    assert looker.post(f"{ASKED}/{request}/approve", **wanted).status == 403
    assert owner.post(f"{ASKED}/{request}/withdraw").status == 403
    assert owner.post(f"{ASKED}/{request}/approve", **{**wanted, "reason": ""}).status == 400
    assert owner.post(f"{ASKED}/{request}/approve", **wanted).status == 303
    assert owner.post(f"{ASKED}/{request}/refuse", reason="đổi ý rồi").status == 400, "it is decided"
    assert f"so-nhan.viec.{OUTSIDER}" in world.bus.registry.load().grants
    assert asker.post(ASKED, service=NOTE, agency=SENDER, expires="2028-01-01").status == 403, "for itself only"


def test_a_request_is_refused_with_a_reason_or_withdrawn(console_house: ConsoleHouse) -> None:
    lan = Visitor.of(console_house, "lan", PersonRole.REGISTRAR)
    first, second = keep(console_house.world), keep(console_house.world, service=ServiceCode("dossier.archive"))
    assert lan.post(f"{ASKED}/{first}/refuse", reason="").status == 400
    assert lan.post(f"{ASKED}/{first}/refuse", reason="thiếu căn cứ pháp lý").status == 303
    assert lan.post(f"{ASKED}/{second}/withdraw").status == 303
    assert "thiếu căn cứ pháp lý" in lan.get(f"{ASKED}/{first}").text
    assert console_house.world.bus.registry.load().grants.keys().isdisjoint({f"{NOTE}.{OUTSIDER}"})
    states = {each.id: each.state for each in AccessRequests(console_house.world.bus.store).newest()}
    assert states == {first: RequestState.REFUSED, second: RequestState.WITHDRAWN}


# ── over the API ────────────────────────────────────────────────────────────────────────────────────────────────────


def sent(world: World, url: str, system: str = UNGRANTED, **changed: Any) -> Answer:
    document = {
        "service": NOTE, "purposes": ["giai-quyet-tthc"], "legal_basis": "Điều 5 Nghị định 47/2024",
        "expires_at": to_wire(utc_now() + timedelta(days=100)), "quota": {"per_day": 100},
    } | changed  # fmt: skip
    headers = world.bearer(system, Content_Type="application/json")
    kept = {name: value for name, value in document.items() if value is not None}
    return ask("POST", f"{url}/v1/registry/access-requests", json.dumps(kept), headers)


def test_a_system_asks_for_its_own_agency_and_follows_what_becomes_of_it(world: World) -> None:
    with world.serving() as url:
        answer = sent(world, url)
        assert answer.status == 201, answer.body
        asked = answer.json
        assert (asked["agency"], asked["owner"], asked["state"], asked["grant"]) == (OUTSIDER, "H99", "waiting", None)
        again = sent(world, url)
        assert (again.status, again.json["reason"]) == (400, "access-request-waiting")
        place = f"{url}/v1/registry/access-requests"
        for system, status in ((UNGRANTED, 200), (RECEIVING, 404), (OPERATOR, 200)):
            assert ask("GET", f"{place}/{asked['id']}", headers=world.bearer(system)).status == status
        assert ask("GET", place, headers=world.bearer(RECEIVING)).json == {"items": [], "next": None}
        mine = ask("GET", place, headers=world.bearer(UNGRANTED)).json
        assert [item["id"] for item in mine["items"]] == [asked["id"]]
        assert ask("GET", f"{place}/{asked['id']}").status == 401
        assert ask("POST", place, "{}").status == 401


@pytest.mark.parametrize(
    "changed, reason",
    [
        ({"service": None}, "access-request-unreadable"),
        ({"service": 7}, "access-request-unreadable"),
        ({"agency": "H99"}, "access-request-unreadable"),
        ({"purposes": "x"}, "access-request-unreadable"),
        ({"expires_at": "mai"}, "access-request-unreadable"),
        ({"expires_at": "2027-01-01"}, "access-request-unreadable"),
        ({"quota": {"per_day": "9"}}, "access-request-unreadable"),
        ({"quota": {"per_day": True}}, "access-request-unreadable"),
        ({"quota": {"per_week": 1}}, "access-request-unreadable"),
        ({"service": "<x>"}, "identifier-invalid"),
    ],
)
def test_a_request_that_cannot_be_read(directory_world: World, changed: dict[str, Any], reason: str) -> None:
    with directory_world.serving() as url:
        answer = sent(directory_world, url, **changed)
    assert (answer.status, answer.json["reason"]) == (400, reason)


def test_a_system_that_sends_some_services_only_does_not_ask(world: World) -> None:
    held = world.bus.registry.load().systems[SENDING]
    world.register(replace(held, sends=(NOTE,)))
    with world.serving() as url:
        answer = sent(world, url, SENDING)
    assert (answer.status, answer.json["reason"]) == (403, "service-not-of-system")
