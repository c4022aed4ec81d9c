"""Access decisions by table: one province with a few members, one request, and what becomes of it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.access import AccessRequest, Permission, Usage, decide
from registry.directory import Directory
from registry.model import Agency, DeliveryMode, Endpoint, Entry, Grant, Pattern, Quota, Service, Stage, System
from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from schemas.message import Grade
from schemas.problem import (
    Malformed,
    NotPermitted,
    Problem,
    TooLarge,
    TooMany,
    UnknownReceiver,
    UnknownService,
)

#: Half past nine at night, and 17 seconds, in Hà Nội.
NOW = datetime(2026, 11, 21, 14, 30, 17, tzinfo=UTC)
PROVINCE, DEPARTMENT, ONE_STOP, LAND, COMMUNE = map(AgencyCode, ("H99", "H99.15", "H99.15.01", "H99.16", "H99.15.02"))
TRANSFER, LOOKUP, DRAFTED, RETIRED, TRIAL, OLDER = map(
    ServiceCode, ("dossier.transfer", "citizen.lookup", "new.idea", "old.way", "trial.run", "dossier.status")
)


def agency(code: AgencyCode, **facts: Any) -> Agency:
    return Agency(code=code, name=f"Cơ quan {code}", **facts)


def service(code: ServiceCode, **facts: Any) -> Service:
    defaults: dict[str, Any] = {"version": 1, "name": code, "owner": PROVINCE, "pattern": Pattern.ONE_WAY}
    return Service(code=code, **{**defaults, **facts})


def grant(name: str, who: AgencyCode, what: ServiceCode = TRANSFER, **facts: Any) -> Grant:
    return Grant(id=name, service=what, grantee=who, **facts)


MEMBERS: list[Entry] = [
    agency(PROVINCE),
    agency(DEPARTMENT, parent=PROVINCE, aliases=("SOMAU",)),
    agency(ONE_STOP, parent=DEPARTMENT),
    agency(COMMUNE, parent=DEPARTMENT),
    agency(LAND, parent=PROVINCE),
    System(code=SystemCode("H99.15/mot-cua"), name="Một cửa"),
    System(
        code=SystemCode("H99.16/dat-dai"),
        name="Đất đai",
        mode=DeliveryMode.PUSH,
        endpoint=Endpoint(connector="rest", url="https://dat-dai.invalid/nhan"),
    ),
    System(code=SystemCode("H99.15.01/tam-ngung"), name="Tạm ngưng", suspended=True),
    System(code=SystemCode("H99.15.02/chi-gui"), name="Chỉ gửi", sends_only=True),
    service(TRANSFER, content_types=("application/json", "application/xml"), max_body_bytes=1000),
    service(TRANSFER, version=2, stage=Stage.SANDBOX),
    service(LOOKUP, pattern=Pattern.REQUEST_REPLY),
    service(DRAFTED, stage=Stage.DRAFT),
    service(RETIRED, stage=Stage.RETIRED),
    service(TRIAL, stage=Stage.SANDBOX, grade=Grade.ATTESTED),
    service(OLDER, stage=Stage.DEPRECATED),
]
REQUEST = AccessRequest(sender=ONE_STOP, service=TRANSFER, version=1, receivers=(LAND,))


def decided(*grants: Grant, usage: Usage | None = None, **changed: Any) -> Permission:
    directory = Directory([*MEMBERS, *grants])
    return decide(replace(REQUEST, **changed), directory, lambda _: usage or Usage(), NOW)


def refused(problem: type[Problem], *grants: Grant, usage: Usage | None = None, **changed: Any) -> Problem:
    with pytest.raises(problem) as refusal:
        decided(*grants, usage=usage, **changed)
    return refusal.value


BEFORE, AFTER = NOW - timedelta(microseconds=1), NOW + timedelta(microseconds=1)


@pytest.mark.parametrize(
    "given_grant, changed",
    [
        (grant("own", ONE_STOP), {}),
        (grant("parent", DEPARTMENT, include_children=True), {}),
        (grant("grandparent", PROVINCE, include_children=True), {}),
        (grant("in-force", ONE_STOP, valid_from=NOW, expires_at=AFTER), {}),
        (grant("purpose", ONE_STOP, purposes=("ho-tich",)), {"purpose": "ho-tich"}),
        (grant("any-purpose", ONE_STOP), {"purpose": "gi-cung-duoc"}),
        (grant("receiver", ONE_STOP, receivers=(LAND,)), {}),
        (grant("receivers", ONE_STOP, receivers=(LAND, DEPARTMENT)), {"receivers": (DEPARTMENT, LAND)}),
        (grant("alias", ONE_STOP, receivers=(DEPARTMENT,)), {"receivers": ("SOMAU",)}),
        (grant("old-spelling", ONE_STOP, receivers=(DEPARTMENT,)), {"receivers": ("000.00.15.H99",)}),
        (grant("xml", ONE_STOP), {"content_type": "application/xml"}),
        (grant("parameters", ONE_STOP), {"content_type": "Application/JSON; charset=UTF-8"}),
        (grant("to-the-brim", ONE_STOP), {"body_length": 1000}),
        (grant("deprecated", ONE_STOP, OLDER), {"service": OLDER}),
        (grant("reply", ONE_STOP, LOOKUP), {"service": LOOKUP}),
    ],
    ids=lambda value: value.id if isinstance(value, Grant) else "",
)
def test_a_message_that_a_grant_covers_may_pass(given_grant: Grant, changed: dict[str, Any]) -> None:
    assert decided(given_grant, **changed).grant == given_grant


@pytest.mark.parametrize(
    "given_grant, changed, problem, reason",
    [
        (grant("-", LAND), {}, NotPermitted, "no-grant"),
        (grant("parent-alone", DEPARTMENT), {}, NotPermitted, "no-grant"),
        (grant("child", COMMUNE, include_children=True), {"sender": DEPARTMENT}, NotPermitted, "no-grant"),
        (grant("sibling", COMMUNE, include_children=True), {}, NotPermitted, "no-grant"),
        (grant("other-service", ONE_STOP, LOOKUP), {}, NotPermitted, "no-grant"),
        (grant("stranger", ONE_STOP), {"sender": AgencyCode("G99")}, NotPermitted, "no-grant"),
        (grant("code", ONE_STOP), {"service": ServiceCode("no.such")}, UnknownService, "service-unknown"),
        (grant("version", ONE_STOP), {"version": 3}, UnknownService, "service-version-unknown"),
        (grant("version-0", ONE_STOP), {"version": 0}, UnknownService, "service-version-unknown"),
        (grant("draft", ONE_STOP, DRAFTED), {"service": DRAFTED}, NotPermitted, "service-not-open"),
        (grant("retired", ONE_STOP, RETIRED), {"service": RETIRED}, NotPermitted, "service-not-open"),
        (grant("sandbox", ONE_STOP, TRIAL), {"service": TRIAL}, NotPermitted, "service-not-open"),
        (grant("expired", ONE_STOP, expires_at=BEFORE), {}, NotPermitted, "grant-expired"),
        (grant("expires-now", ONE_STOP, expires_at=NOW), {}, NotPermitted, "grant-expired"),
        (grant("not-yet", ONE_STOP, valid_from=AFTER), {}, NotPermitted, "grant-not-yet"),
        (grant("unstated", ONE_STOP, purposes=("ho-tich",)), {}, NotPermitted, "purpose-missing"),
        (grant("purpose", ONE_STOP, purposes=("a",)), {"purpose": "b"}, NotPermitted, "purpose-not-granted"),
        (grant("purpose-part", ONE_STOP, purposes=("ab",)), {"purpose": "a"}, NotPermitted, "purpose-not-granted"),
        (grant("receiver", ONE_STOP, receivers=(DEPARTMENT,)), {}, NotPermitted, "receiver-not-granted"),
        (
            grant("one-of-two", ONE_STOP, receivers=(LAND,)),
            {"receivers": (LAND, DEPARTMENT)},
            NotPermitted,
            "receiver-not-granted",
        ),
        (grant("nobody", ONE_STOP), {"receivers": ()}, UnknownReceiver, "receiver-missing"),
        (grant("no-member", ONE_STOP), {"receivers": (AgencyCode("H99.77"),)}, UnknownReceiver, "receiver-unknown"),
        (grant("no-alias", ONE_STOP), {"receivers": ("000.00.77.H99",)}, UnknownReceiver, "receiver-unknown"),
        (grant("nonsense", ONE_STOP), {"receivers": ("0x",)}, UnknownReceiver, "receiver-unknown"),
        (grant("no-system", ONE_STOP), {"receivers": (PROVINCE,)}, UnknownReceiver, "receiver-takes-not"),
        (grant("suspended", ONE_STOP), {"receivers": (ONE_STOP,)}, UnknownReceiver, "receiver-takes-not"),
        (grant("sends-only", ONE_STOP), {"receivers": (COMMUNE,)}, UnknownReceiver, "receiver-takes-not"),
        (grant("html", ONE_STOP), {"content_type": "text/html"}, Malformed, "content-type-not-taken"),
        (grant("prefix", ONE_STOP), {"content_type": "application/jsonx"}, Malformed, "content-type-not-taken"),
        (grant("untyped", ONE_STOP), {"content_type": ""}, Malformed, "content-type-not-taken"),
        (grant("big", ONE_STOP), {"body_length": 1001}, TooLarge, "body-too-large"),
        (grant("attested", ONE_STOP), {"grade": Grade.ATTESTED}, NotPermitted, "grade-too-low"),
        (
            grant("two-replies", ONE_STOP, LOOKUP),
            {"service": LOOKUP, "receivers": (LAND, DEPARTMENT)},
            Malformed,
            "one-receiver-only",
        ),
        (
            grant("inbox-cannot-reply", ONE_STOP, LOOKUP),
            {"service": LOOKUP, "receivers": (DEPARTMENT,)},
            UnknownReceiver,
            "receiver-cannot-reply",
        ),
    ],
    ids=lambda value: value.id if isinstance(value, Grant) else "",
)
def test_a_message_that_no_grant_covers_is_refused(
    given_grant: Grant, changed: dict[str, Any], problem: type[Problem], reason: str
) -> None:
    assert refused(problem, given_grant, **changed).reason == reason


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 99},
        {"receivers": (AgencyCode("H99.77"),)},
        {"receivers": ()},
        {"content_type": "text/html"},
        {"body_length": 10**9},
        {"grade": Grade.ATTESTED},
        {"service": DRAFTED},
        {"service": RETIRED},
    ],
    ids=str,
)
def test_a_stranger_learns_nothing_but_that_it_has_no_grant(changed: dict[str, Any]) -> None:
    assert refused(NotPermitted, **changed).reason == "no-grant"


def test_sandbox_services_take_messages_only_where_the_sandbox_is_open() -> None:
    trial = replace(REQUEST, service=TRIAL)
    entries = [*MEMBERS, grant("trial", ONE_STOP, TRIAL)]
    assert decide(trial, Directory(entries, sandbox_open=True), lambda _: Usage(), NOW).service.stage is Stage.SANDBOX
    with pytest.raises(NotPermitted):
        decide(trial, Directory(entries), lambda _: Usage(), NOW)


def test_a_signed_message_is_welcome_where_an_attested_one_would_do() -> None:
    entries = [*MEMBERS, grant("trial", ONE_STOP, TRIAL)]
    for grade in Grade:
        request = replace(REQUEST, service=TRIAL, grade=grade)
        assert decide(request, Directory(entries, sandbox_open=True), lambda _: Usage(), NOW)


def test_every_receiver_gets_one_route_however_it_is_spelled() -> None:
    names = (LAND, "H99.15", "SOMAU", "000.00.15.H99", LAND)
    routes = decided(grant("any", ONE_STOP), receivers=names).routes
    assert [(code, system.code) for code, system in routes] == [
        (LAND, "H99.16/dat-dai"),
        (DEPARTMENT, "H99.15/mot-cua"),
    ]


def test_the_refusal_points_at_the_receivers_and_repeats_no_name() -> None:
    problem = refused(UnknownReceiver, grant("any", ONE_STOP), receivers=(LAND, "H99.66", "H99.67"))
    assert [error.pointer for error in problem.errors] == ["/receivers/1", "/receivers/2"]
    assert "H99" not in problem.detail() + "".join(error.detail for error in problem.errors)


def test_a_refusal_points_into_the_sender_s_own_list_even_with_repeats() -> None:
    names = (LAND, LAND, "H99.15", PROVINCE, "SOMAU")
    problem = refused(UnknownReceiver, grant("any", ONE_STOP), receivers=names)
    assert [error.pointer for error in problem.errors] == ["/receivers/3"]
    problem = refused(NotPermitted, grant("land", ONE_STOP, receivers=(LAND,)), receivers=names)
    assert [error.pointer for error in problem.errors] == ["/receivers/2", "/receivers/3", "/receivers/4"]


def test_a_thousand_unknown_receivers_get_twenty_errors() -> None:
    names = tuple(AgencyCode(f"G99.{number}") for number in range(1000))
    assert len(refused(UnknownReceiver, grant("any", ONE_STOP), receivers=names).errors) == 20


def test_two_grants_that_cover_half_of_the_message_each_do_not_cover_it() -> None:
    halves = grant("a", ONE_STOP, receivers=(LAND,)), grant("b", ONE_STOP, receivers=(DEPARTMENT,))
    assert refused(NotPermitted, *halves, receivers=(LAND, DEPARTMENT)).reason == "receiver-not-granted"


def test_one_good_grant_among_bad_ones_is_enough_in_any_order() -> None:
    grants = [
        grant("expired", ONE_STOP, expires_at=BEFORE),
        grant("purpose", ONE_STOP, purposes=("x",)),
        grant("good", ONE_STOP),
    ]
    for order in itertools.permutations(grants):
        assert decided(*order).grant.id == "good"


def test_the_answer_is_that_of_the_grant_that_came_nearest() -> None:
    grants = [grant("old", ONE_STOP, expires_at=BEFORE), grant("new", ONE_STOP, purposes=("ho-tich",))]
    for order in itertools.permutations(grants):
        assert refused(NotPermitted, *order, purpose="khac").reason == "purpose-not-granted"


@pytest.mark.parametrize(
    "quota, usage, reason, wait_seconds",
    [
        (Quota(per_minute=5), Usage(this_minute=5), "quota-of-minute", 43),
        (Quota(per_minute=5), Usage(this_minute=6, today=100), "quota-of-minute", 43),
        # 21:30:17 in Hà Nội; the next day begins in 2 h 29 min 43 s.
        (Quota(per_day=50), Usage(today=50), "quota-of-day", 8984),
        (Quota(per_minute=5, per_day=50), Usage(this_minute=5, today=50), "quota-of-day", 8984),
    ],
)
def test_a_sender_over_its_quota_is_told_when_to_come_back(
    quota: Quota, usage: Usage, reason: str, wait_seconds: int
) -> None:
    problem = refused(TooMany, grant("g", ONE_STOP, quota=quota), usage=usage)
    assert (problem.reason, problem.retry_after_seconds, problem.retryable) == (reason, wait_seconds, True)


@pytest.mark.parametrize(
    "quota, usage",
    [
        (Quota(per_minute=5, per_day=50), Usage(this_minute=4, today=49)),
        (Quota(), Usage(this_minute=10**9, today=10**9)),
    ],
)
def test_a_sender_within_its_quota_passes(quota: Quota, usage: Usage) -> None:
    assert decided(grant("g", ONE_STOP, quota=quota), usage=usage)


def test_usage_is_asked_only_for_a_grant_that_covers_the_message_and_has_a_quota() -> None:
    asked: list[str] = []

    def usage_of(asked_for: Grant) -> Usage:
        asked.append(asked_for.id)
        return Usage()

    quota = Quota(per_day=1)
    grants = [
        grant("expired", ONE_STOP, expires_at=BEFORE, quota=quota),
        grant("purpose", ONE_STOP, purposes=("x",), quota=quota),
        grant("good", ONE_STOP, quota=quota),
    ]
    decide(REQUEST, Directory([*MEMBERS, *grants]), usage_of, NOW)
    assert asked == ["good"]


purposes = st.sampled_from(["", "a", "b"])
grants_at_random = st.builds(
    Grant,
    id=st.uuids().map(str),
    service=st.sampled_from([TRANSFER, LOOKUP]),
    grantee=st.sampled_from([PROVINCE, DEPARTMENT, ONE_STOP, LAND]),
    include_children=st.booleans(),
    receivers=st.lists(st.sampled_from([LAND, DEPARTMENT]), unique=True).map(tuple),
    purposes=st.lists(st.sampled_from(["a", "b"]), unique=True).map(tuple),
    valid_from=st.sampled_from([None, BEFORE, AFTER]),
    expires_at=st.sampled_from([None, BEFORE, AFTER]),
)


@given(
    grants=st.lists(grants_at_random, max_size=5),
    sender=st.sampled_from([PROVINCE, DEPARTMENT, ONE_STOP, COMMUNE, LAND]),
    receivers=st.lists(st.sampled_from([LAND, DEPARTMENT]), min_size=1, unique=True),
    purpose=purposes,
)
def test_whatever_passes_is_covered_by_its_grant_and_whatever_is_covered_passes(
    grants: list[Grant], sender: AgencyCode, receivers: list[AgencyCode], purpose: str
) -> None:
    """The rule said once more, slowly and from the other side."""
    above = {PROVINCE: [], DEPARTMENT: [PROVINCE], LAND: [PROVINCE]}.get(sender, [DEPARTMENT, PROVINCE])

    def covers(held: Grant) -> bool:
        return (
            held.service == TRANSFER
            and (held.grantee == sender or (held.include_children and held.grantee in above))
            and (held.valid_from is None or held.valid_from <= NOW)
            and (held.expires_at is None or held.expires_at > NOW)
            and (not held.purposes or purpose in held.purposes)
            and (not held.receivers or set(receivers) <= set(held.receivers))
        )

    try:
        permission = decided(*grants, sender=sender, receivers=tuple(receivers), purpose=purpose)
    except NotPermitted:
        assert not any(map(covers, grants))
    else:
        assert covers(permission.grant)
        assert [code for code, _ in permission.routes] == receivers


# A system that is there for some services

KIOSK = System(code=SystemCode("H99.15.01/kiosk-01"), name="Kiosk", sends_only=True, sends=(TRANSFER,))


@pytest.mark.parametrize("system", [KIOSK.code, SystemCode("H99.15/mot-cua"), SystemCode("H99.15.01/la"), None])
def test_a_system_sends_what_it_is_there_for(system: SystemCode | None) -> None:
    directory = Directory([*MEMBERS, KIOSK, grant("own", ONE_STOP)])
    assert decide(replace(REQUEST, system=system), directory, lambda _: Usage(), NOW).grant.id == "own"


def test_a_system_sends_nothing_else_whatever_its_agency_may() -> None:
    directory = Directory([*MEMBERS, KIOSK, grant("own", ONE_STOP), grant("more", ONE_STOP, LOOKUP)])
    request = replace(REQUEST, service=LOOKUP)
    assert decide(request, directory, lambda _: Usage(), NOW).grant.id == "more"
    with pytest.raises(NotPermitted) as caught:
        decide(replace(request, system=KIOSK.code), directory, lambda _: Usage(), NOW)
    assert caught.value.reason == "service-not-of-system"


def test_being_there_for_a_service_is_no_grant() -> None:
    with pytest.raises(NotPermitted) as caught:
        decide(replace(REQUEST, system=KIOSK.code), Directory([*MEMBERS, KIOSK]), lambda _: Usage(), NOW)
    assert caught.value.reason == "no-grant"
