"""The snapshot's look-ups, and the snapshot that is current."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from registry.directory import Directory, LiveDirectory
from registry.model import Agency, Certificate, Entry, Grant, Pattern, Service, Stage, System
from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from schemas.moment import utc_now
from schemas.problem import InternalFailure, Malformed, SchemaViolation
from security.certificates import read_certificate
from security.keys import SigningKey

BIRTH, LAND, OTHER = ServiceCode("birth.registration"), ServiceCode("land.parcel"), ServiceCode("other.thing")
DEPARTMENT = AgencyCode("H99.15")


def agencies(*codes: str, **parents: str) -> list[Entry]:
    return [
        Agency(
            code=AgencyCode(code), name=code, parent=AgencyCode(parent) if (parent := parents.get(code, "")) else None
        )
        for code in codes
    ]


def system(code: str, *receives: ServiceCode, **facts: Any) -> System:
    return System(code=SystemCode(code), name=code, receives=receives, **facts)


def service(code: ServiceCode, version: int = 1, **facts: Any) -> Service:
    return Service(code=code, version=version, name=code, owner=AgencyCode("H99"), pattern=Pattern.ONE_WAY, **facts)


def certificate(key: SigningKey, **facts: Any) -> Certificate:
    read = read_certificate(key.certificate_pem)
    defaults: dict[str, Any] = {
        name: getattr(read, name) for name in ("key_id", "pem", "thumbprint", "not_before", "not_after")
    }
    return Certificate(**{**defaults, **facts})


@pytest.mark.parametrize(
    "systems, service_code, expected",
    [
        ([system("H99.15/a")], BIRTH, "H99.15/a"),
        ([system("H99.15/a", BIRTH)], BIRTH, "H99.15/a"),
        ([system("H99.15/a", BIRTH)], LAND, None),
        ([system("H99.15/a"), system("H99.15/b", BIRTH)], BIRTH, "H99.15/b"),
        ([system("H99.15/a"), system("H99.15/b", BIRTH)], LAND, "H99.15/a"),
        ([system("H99.15/a"), system("H99.15/b", sends_only=True)], LAND, "H99.15/a"),
        ([system("H99.15/a", sends_only=True)], LAND, None),
        ([system("H99.15/a", suspended=True)], LAND, None),
        # Mail for a system that is switched off does not spill into another one.
        ([system("H99.15/a"), system("H99.15/b", BIRTH, suspended=True)], BIRTH, None),
        ([system("H99.15/a"), system("H99.15/b", BIRTH, suspended=True)], LAND, "H99.15/a"),
        # Never guess between two.
        ([system("H99.15/a"), system("H99.15/b")], LAND, None),
        ([system("H99.15/a", LAND), system("H99.15/b", LAND)], LAND, None),
        ([system("H99.15.01/a")], LAND, None),
        ([], LAND, None),
    ],
)
def test_a_message_finds_the_one_system_that_takes_it(
    systems: list[System], service_code: ServiceCode, expected: str | None
) -> None:
    found = Directory([*agencies("H99.15"), *systems]).system_for(DEPARTMENT, service_code)
    assert (found.code if found else None) == expected


def test_an_agency_is_found_by_code_alias_and_old_spelling() -> None:
    held = Agency(code=DEPARTMENT, name="Sở Mẫu", aliases=("SOMAU",))
    directory = Directory([held])
    assert all(directory.agency(name) is held for name in ("H99.15", "SOMAU", "000.00.15.H99"))
    assert [directory.agency(name) for name in ("H99.1", "somau", "000.00.16.H99", "0", "")] == [None] * 5


def test_the_tree_follows_registered_parents_and_not_codes() -> None:
    directory = Directory(agencies("H99", "H99.15", "G99.1", **{"H99.15": "H99", "G99.1": "H99.15"}))
    assert [child.code for child in directory.children(AgencyCode("H99"))] == ["H99.15"]
    assert directory.ancestors(AgencyCode("G99.1")) == ("H99.15", "H99")


def test_a_loop_in_the_tree_ends() -> None:
    directory = Directory(agencies("H99", "H99.15", **{"H99": "H99.15", "H99.15": "H99"}))
    assert len(directory.ancestors(AgencyCode("H99"))) < 100


@pytest.mark.parametrize(
    "stages, sandbox_open, latest",
    [
        ({1: Stage.PUBLISHED, 2: Stage.PUBLISHED}, False, 2),
        ({1: Stage.PUBLISHED, 2: Stage.DRAFT}, False, 1),
        ({1: Stage.DEPRECATED, 2: Stage.RETIRED}, False, 1),
        ({1: Stage.PUBLISHED, 2: Stage.SANDBOX}, False, 1),
        ({1: Stage.PUBLISHED, 2: Stage.SANDBOX}, True, 2),
        ({2: Stage.PUBLISHED, 10: Stage.PUBLISHED}, False, 10),
        ({1: Stage.DRAFT}, True, None),
        ({}, False, None),
    ],
)
def test_the_latest_version_is_the_highest_open_one(
    stages: dict[int, Stage], sandbox_open: bool, latest: int | None
) -> None:
    versions = [service(BIRTH, version, stage=stage) for version, stage in stages.items()]
    directory = Directory(reversed(versions), sandbox_open=sandbox_open)
    assert directory.latest_version(BIRTH) == latest
    assert directory.service_exists(BIRTH) == bool(stages)


def test_keys_end_with_the_last_that_counts() -> None:
    key, now = SigningKey.generate(), utc_now()
    old, new = (certificate(key, not_after=now + timedelta(days=days)) for days in (3, 90))
    revoked = replace(new, not_after=now + timedelta(days=300), revoked_at=now)
    assert system("H99.15/a", certificates=(new, old, revoked)).keys_end == new.not_after
    assert system("H99.15/a", certificates=(revoked,)).keys_end is None
    assert system("H99.15/a", certificates=(new,), suspended=True).keys_end is None
    assert system("H99.15/a").keys_end is None


def test_a_key_is_found_with_its_owner_and_dates() -> None:
    key = SigningKey.generate()
    revoked = utc_now()
    directory = Directory([system("H99.15/a", certificates=(certificate(key, revoked_at=revoked),))])
    record = directory.find_key(key.key_id)
    assert record is not None
    assert (record.system, record.agency, record.revoked_at) == ("H99.15/a", "H99.15", revoked)
    assert (record.algorithm, record.thumbprint) == ("ES256", key.thumbprint)
    assert directory.find_key(key.key_id) is record
    assert directory.find_key("unknown") is None


def test_the_key_of_a_suspended_system_is_not_found() -> None:
    key = SigningKey.generate()
    held = system("H99.15/a", certificates=(certificate(key),))
    directory = Directory([held])
    assert directory.find_key(key.key_id)
    assert Directory([replace(held, suspended=True)], earlier=directory).find_key(key.key_id) is None


def test_a_one_stop_speaks_for_children_by_the_tree_too() -> None:
    key = SigningKey.generate()
    one_stop = system("H99.15/a", certificates=(certificate(key),), speaks_for_children=True)
    before = Directory([*agencies("H99.15", "G99.1", "G99.2", **{"G99.1": "H99.15"}), one_stop])
    record = before.find_key(key.key_id)
    assert record is not None
    assert [record.speaks_for(AgencyCode(code)) for code in ("H99.15", "H99.15.9", "G99.1", "G99.2", "H99")] == [
        True, True, True, False, False,
    ]  # fmt: skip
    moved = Directory([*agencies("H99.15", "G99.1", "G99.2", **{"G99.2": "H99.15"}), one_stop], earlier=before)
    record = moved.find_key(key.key_id)
    assert record is not None
    assert not record.speaks_for(AgencyCode("G99.1"))
    assert record.speaks_for(AgencyCode("G99.2"))


def test_a_payload_is_checked_against_the_schema_of_its_service() -> None:
    strict = service(BIRTH, schema={"type": "object", "required": ["HoTen"]}, reply_schema={"type": "array"})
    directory = Directory([strict])
    directory.schema_for(strict).validate(b'{"HoTen": "NGUYEN THI MAU"}', "application/json")
    with pytest.raises(SchemaViolation):
        directory.schema_for(strict).validate(b"{}", "application/json")
    directory.reply_schema_for(strict).validate(b"[]", "application/json")
    with pytest.raises(SchemaViolation):
        directory.reply_schema_for(strict).validate(b"{}", "application/json")


@pytest.mark.parametrize(
    "content_types, content_type, good, bad",
    [
        (("application/json",), "application/json", b'{"a": 1}', b'{"a": 1, "a": 2}'),
        (("application/xml",), "application/xml", b"<a/>", b"<!DOCTYPE a><a/>"),
        (("application/json", "text/xml"), "text/xml", b"<a/>", b"<a>"),
        (("application/json", "text/xml"), "application/json", b"1", b"NaN"),
        (("application/pdf",), "application/pdf", b"%PDF-1.7 \xff", None),
    ],
)
def test_without_a_schema_the_payload_must_be_what_it_says(
    content_types: tuple[str, ...], content_type: str, good: bytes, bad: bytes | None
) -> None:
    free = service(BIRTH, content_types=content_types)
    schema = Directory([free]).schema_for(free)
    schema.validate(good, content_type)
    if bad is not None:
        with pytest.raises(Malformed):
            schema.validate(bad, content_type)


def test_a_new_snapshot_takes_over_what_is_still_right() -> None:
    same, changed = service(BIRTH, schema={"type": "object"}), service(LAND, schema={"type": "object"})
    key = SigningKey.generate()
    holder = system("H99.15/a", certificates=(certificate(key),))
    before = Directory([same, changed, holder])
    before.warm()
    after = Directory([same, replace(changed, schema={"type": "array"}), holder], earlier=before)
    assert after.schema_for(same) is before.schema_for(same)
    assert after.find_key(key.key_id) is before.find_key(key.key_id)
    after.schema_for(after.services[LAND, 1]).validate(b"[]", "application/json")


def test_one_unusable_schema_or_key_does_not_hold_back_the_rest() -> None:
    bad = service(BIRTH, schema={"type": "no such type"})
    unreadable = replace(certificate(SigningKey.generate()), pem="no certificate")
    directory = Directory([bad, service(LAND), system("H99.15/a", certificates=(unreadable,))])
    directory.warm()
    directory.schema_for(directory.services[LAND, 1]).validate(b"{}", "application/json")
    with pytest.raises(Malformed):
        directory.schema_for(bad)


class Source:
    """A store in memory that counts, changes and fails on demand."""

    def __init__(self) -> None:
        self.number, self.looked, self.loaded, self.failing = 1, 0, 0, False

    def revision(self) -> int:
        self.looked += 1
        if self.failing:
            raise ConnectionError("the database is away")
        return self.number

    def load(self, *, sandbox_open: bool = False, earlier: Directory | None = None) -> Directory:
        self.loaded += 1
        if self.failing:
            raise ConnectionError("the database is away")
        return Directory(agencies("H99"), revision=self.number, sandbox_open=sandbox_open, earlier=earlier)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_store_is_looked_at_once_in_a_period_and_read_only_when_it_changed(source: Source, clock: Clock) -> None:
    live = LiveDirectory(source, 1.0, clock=clock)
    assert (source.looked, source.loaded) == (0, 0)
    first = live.current()
    assert all(live.current() is first for _ in range(100))
    assert (source.looked, source.loaded) == (0, 1)
    clock.now += 1.0
    assert live.current() is first
    assert live.current() is first
    assert (source.looked, source.loaded) == (1, 1)
    source.number = 2
    assert live.current() is first
    clock.now += 1.0
    assert live.current().revision == 2


def test_a_change_of_our_own_can_be_seen_at_once(source: Source, clock: Clock) -> None:
    live = LiveDirectory(source, 60.0, clock=clock)
    live.current()
    source.number = 2
    assert live.refresh().revision == 2


def test_a_failing_store_leaves_the_last_snapshot_for_a_bounded_time(source: Source, clock: Clock) -> None:
    live = LiveDirectory(source, 1.0, outlive_seconds=300, clock=clock)
    first = live.current()
    source.failing = True
    clock.now += 300
    assert live.current() is first
    clock.now += 1
    for _ in range(2):
        with pytest.raises(InternalFailure) as failure:
            live.current()
        assert failure.value.reason == "registry-unreachable"
    source.failing = False
    clock.now += 1
    assert live.current() is first


def test_a_bus_that_never_saw_the_registry_decides_nothing(source: Source, clock: Clock) -> None:
    source.failing = True
    live = LiveDirectory(source, 1.0, clock=clock)
    with pytest.raises(InternalFailure):
        live.current()
    source.failing = False
    assert live.refresh().revision == 1


def test_while_one_thread_refreshes_the_others_read_on(clock: Clock) -> None:
    entered, leave = threading.Event(), threading.Event()

    class SlowSource(Source):
        def revision(self) -> int:
            entered.set()
            assert leave.wait(10)
            return super().revision()

    live = LiveDirectory(SlowSource(), 1.0, clock=clock)
    first = live.current()
    clock.now += 1.0 + timedelta(seconds=1).total_seconds()
    refreshing = threading.Thread(target=live.current)
    refreshing.start()
    try:
        assert entered.wait(10)
        live._due_at = 0.0  # as if the period had run out again meanwhile
        assert live.current() is first
    finally:
        leave.set()
        refreshing.join(10)


def test_grants_come_nearest_first() -> None:
    tree = agencies("H99", "H99.15", "H99.15.01", **{"H99.15": "H99", "H99.15.01": "H99.15"})

    def held(name: str, who: str, shared: bool) -> Grant:
        return Grant(id=name, service=BIRTH, grantee=AgencyCode(who), include_children=shared)

    grants = [
        held("top", "H99", True),
        held("middle", "H99.15", True),
        held("kept", "H99.15", False),
        held("own", "H99.15.01", False),
    ]
    directory = Directory([*tree, *grants])
    found = {
        code: [g.id for g in directory.grants_for(AgencyCode(code), BIRTH)] for code in ("H99.15.01", "H99.15", "H99")
    }
    assert found == {"H99.15.01": ["own", "middle", "top"], "H99.15": ["middle", "kept", "top"], "H99": ["top"]}
    assert directory.grants_for(AgencyCode("H99.15"), OTHER) == ()
