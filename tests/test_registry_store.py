"""The registry's store: what is written is read back, changes are all or nothing, and the trail is kept."""

from __future__ import annotations

import ast
import inspect
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine

import registry.changes
from registry.changes import Action, RegistryChanged, everything, plan_changes
from registry.directory import Directory, LiveDirectory
from registry.model import (
    Agency,
    Certificate,
    DeliveryMode,
    Endpoint,
    Entry,
    Grant,
    Ordering,
    Pattern,
    Quota,
    RetryPolicy,
    Service,
    Stage,
    System,
)
from registry.store import RegistryStore, metadata
from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from schemas.message import Grade
from schemas.problem import Malformed
from security.certificates import read_certificate
from security.keys import SigningKey

MOMENT = datetime(2026, 11, 21, 14, 30, 17, 123457, tzinfo=UTC)
PROVINCE, DEPARTMENT = AgencyCode("H99"), AgencyCode("H99.15")
BIRTH = ServiceCode("civil.birth")


def certificate(revoked_at: datetime | None = None) -> Certificate:
    facts = read_certificate(SigningKey.generate().certificate_pem)
    return Certificate(
        key_id=facts.key_id,
        pem=facts.pem,
        thumbprint=facts.thumbprint,
        not_before=facts.not_before,
        not_after=facts.not_after,
        revoked_at=revoked_at,
    )


def full_registry() -> list[Entry]:
    """Every field of every kind away from its default."""
    return [
        Agency(code=PROVINCE, name="Tỉnh Thử Nghiệm"),
        Agency(code=DEPARTMENT, name="Sở Mẫu – 'Đ' \"x\" %s", parent=PROVINCE, aliases=("SOMAU", "SO.MAU")),
        System(
            code=SystemCode("H99.15/mot-cua"),
            name="Một cửa",
            mode=DeliveryMode.PUSH,
            endpoint=Endpoint(
                connector="rest",
                url="https://mot-cua.example/nhan",
                timeout_seconds=7.5,
                secret="mot-cua",
                settings={"lồng": {"nhau": [1, 2.5, None, True]}},
            ),
            certificates=(certificate(), certificate(revoked_at=MOMENT)),
            receives=(BIRTH,),
            concurrency=7,
            speaks_for_children=True,
            client_secret_hash="$argon2id$x",
        ),
        System(code=SystemCode("H99.15/cu"), name="Cũ", sends_only=True, sends=(BIRTH,), suspended=True),
        Service(
            code=BIRTH,
            version=1,
            name="Khai sinh",
            owner=DEPARTMENT,
            pattern=Pattern.REQUEST_REPLY,
            stage=Stage.DEPRECATED,
            grade=Grade.ATTESTED,
            ordering=Ordering.DOSSIER,
            content_types=("application/json", "application/xml"),
            schema={"type": "object", "properties": {"tên": {"maxLength": 5}}},
            reply_schema='<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="a"/></xs:schema>',
            retry=RetryPolicy(
                max_attempts=3, give_up_after_seconds=60, first_delay_seconds=0.5, factor=1.5, max_delay_seconds=9
            ),
            max_body_bytes=2**40,
            sunset=MOMENT,
        ),
        Grant(
            id="g-1",
            service=BIRTH,
            grantee=PROVINCE,
            include_children=True,
            receivers=(DEPARTMENT,),
            purposes=("khai sinh", "tra cứu"),
            valid_from=MOMENT,
            expires_at=MOMENT.replace(year=2999),
            quota=Quota(per_minute=1, per_day=2),
        ),
    ]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'registry.db'}")
    metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> RegistryStore:
    return RegistryStore(engine)


def written(directory: Directory) -> set[Entry | tuple[str, str]]:
    return {(type(entry).__name__, repr(entry)) for entry in everything(directory)}


def test_everything_written_is_read_back_the_same(store: RegistryStore) -> None:
    entries = full_registry()
    store.apply(plan_changes(store.load(), entries), "test")
    assert written(store.load()) == written(Directory(entries))


def test_the_same_changes_planned_again_are_none(store: RegistryStore) -> None:
    entries = full_registry()
    assert store.apply(plan_changes(store.load(), entries), "test") == 1
    changes = plan_changes(store.load(), entries)
    assert changes.steps == ()
    assert len(changes.unchanged) == len(entries)
    assert store.apply(changes, "test") == 1


def test_an_entry_can_change_and_go(store: RegistryStore) -> None:
    entries = full_registry()
    store.apply(plan_changes(store.load(), entries), "test")
    held = store.load()
    one_stop = held.systems[SystemCode("H99.15/mot-cua")]
    changed = replace(one_stop, name="Một cửa mới", certificates=one_stop.certificates[1:])
    store.apply(plan_changes(held, [changed], [held.grants["g-1"]]), "test")
    after = store.load()
    assert after.systems[one_stop.code] == changed
    assert after.grants == {}
    assert after.find_key(one_stop.certificates[0].key_id) is None


def test_a_key_can_move_from_one_system_to_another_in_one_step(store: RegistryStore) -> None:
    entries = full_registry()
    store.apply(plan_changes(store.load(), entries), "test")
    held = store.load()
    one, other = held.systems[SystemCode("H99.15/mot-cua")], held.systems[SystemCode("H99.15/cu")]
    moved = [replace(one, certificates=()), replace(other, certificates=one.certificates)]
    store.apply(plan_changes(held, moved), "test")
    assert store.load().systems[other.code].certificates == one.certificates


def test_each_change_moves_the_revision_by_one(store: RegistryStore) -> None:
    assert store.revision() == 0
    for number, name in enumerate(("Một", "Hai", "Ba"), 1):
        assert store.apply(plan_changes(store.load(), [Agency(code=PROVINCE, name=name)]), "test") == number
        assert store.revision() == store.load().revision == number


@pytest.mark.parametrize("before", [[], [Agency(code=PROVINCE, name="Tỉnh")]], ids=["empty", "used"])
def test_changes_planned_for_an_older_revision_are_not_written(store: RegistryStore, before: list[Entry]) -> None:
    store.apply(plan_changes(store.load(), before), "test")
    late = plan_changes(store.load(), [Agency(code=PROVINCE, name="Chậm")])
    store.apply(plan_changes(store.load(), [Agency(code=PROVINCE, name="Nhanh")]), "test")
    revision = store.revision()
    with pytest.raises(RegistryChanged):
        store.apply(late, "test")
    assert store.load().agencies[PROVINCE].name == "Nhanh"
    assert (store.revision(), len(store.events())) == (revision, revision)


def test_of_many_at_once_every_accepted_change_is_there(store: RegistryStore) -> None:
    names = [AgencyCode(f"H99.{number}") for number in range(10, 18)]
    store.apply(plan_changes(store.load(), [Agency(code=PROVINCE, name="Tỉnh")]), "test")

    def register(code: AgencyCode) -> None:
        for _ in range(1000):
            try:
                store.apply(plan_changes(store.load(), [Agency(code=code, name=code, parent=PROVINCE)]), "test")
            except RegistryChanged:
                continue
            return

    threads = [threading.Thread(target=register, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(names) <= set(store.load().agencies)
    assert store.revision() == 1 + len(names)


def test_a_failing_change_leaves_nothing_behind(store: RegistryStore) -> None:
    store.apply(plan_changes(store.load(), full_registry()), "test")
    before, revision = written(store.load()), store.revision()
    held = store.load()
    good = plan_changes(held, [Agency(code=AgencyCode("H99.77"), name="Mới", parent=PROVINCE)])
    twice = replace(good, steps=(*good.steps, *good.steps))
    with pytest.raises(Exception, match="UNIQUE"):
        store.apply(twice, "test")
    assert (written(store.load()), store.revision()) == (before, revision)


def test_the_trail_says_who_did_what_to_what(store: RegistryStore) -> None:
    store.apply(plan_changes(store.load(), full_registry()), "nguyen-thi-mau")
    store.apply(plan_changes(store.load(), [Agency(code=PROVINCE, name="Tên mới")]), "tran-van-thu")
    held = store.load()
    store.apply(plan_changes(held, [], [held.grants["g-1"]]), "tran-van-thu")
    renamed, added = store.events(subject="H99")
    assert (renamed["actor"], renamed["action"], renamed["kind"]) == ("tran-van-thu", Action.CHANGE, "Agency")
    assert renamed["before_sha256"] == added["after_sha256"] != renamed["after_sha256"]
    assert added["before_sha256"] == ""
    [newest] = store.events(limit=1)
    assert (newest["action"], newest["subject"], newest["after_sha256"]) == ("remove", "g-1", "")


def test_a_secret_is_kept_as_it_was_sealed_and_can_be_replaced(store: RegistryStore) -> None:
    assert store.secret("mot-cua") is None
    store.put_secret("mot-cua", b"\x00sealed\xff", "test")
    store.put_secret("mot-cua", b"again", "test")
    store.put_secret("khac", b"other", "test")
    assert store.secret("mot-cua") == b"again"
    assert store.secret_names() == ["khac", "mot-cua"]
    events = store.events(subject="mot-cua")
    assert [event["action"] for event in events] == ["change", "add"]
    assert all(event["after_sha256"] == event["before_sha256"] == "" for event in events)


def test_a_live_directory_follows_the_store(store: RegistryStore) -> None:
    live = LiveDirectory(store, 0.0)
    assert live.current().agency("H99") is None
    store.apply(plan_changes(store.load(), [Agency(code=PROVINCE, name="Tỉnh")]), "test")
    assert live.current().agency("H99") is not None


def wrong(directory: Directory, put: list[Entry], remove: list[Entry] | None = None) -> dict[str, str]:
    with pytest.raises(Malformed) as refusal:
        plan_changes(directory, put, remove or [])
    assert refusal.value.reason == "registry-inconsistent"
    for error in refusal.value.errors:
        assert error.said("en") == error.detail
        assert error.said("vi") not in ("", error.detail), error
    return {error.pointer: error.detail for error in refusal.value.errors}


HELD = full_registry()
NOBODY, NOTHING = AgencyCode("G99.9"), ServiceCode("no.such")
SYSTEM = System(code=SystemCode("H99.15/moi"), name="Mới", sends_only=True)
SERVICE = Service(code=ServiceCode("new.one"), version=1, name="n", owner=PROVINCE, pattern=Pattern.ONE_WAY)
GRANT = Grant(id="g-2", service=BIRTH, grantee=PROVINCE)
OTHER = Agency(code=AgencyCode("H99.16"), name="Sở Thử", parent=PROVINCE)


@pytest.mark.parametrize(
    "entry, pointer",
    [
        (replace(OTHER, parent=NOBODY), "/Agency/H99.16/parent"),
        (replace(OTHER, parent=OTHER.code), "/Agency/H99.16/parent"),
        (Agency(code=PROVINCE, name="Tỉnh", parent=DEPARTMENT), "/Agency/H99/parent"),
        (replace(OTHER, aliases=("SOMAU",)), "/Agency/H99.16/aliases/0"),
        (replace(OTHER, aliases=("MOI", "H99.15")), "/Agency/H99.16/aliases/1"),
        (replace(SYSTEM, code=SystemCode("G99.9/x")), "/System/G99.9~1x/code"),
        (replace(SYSTEM, mode=DeliveryMode.PUSH, sends_only=False, receives=(BIRTH,)), "/System/H99.15~1moi/endpoint"),
        (replace(SYSTEM, receives=(NOTHING,)), "/System/H99.15~1moi/receives/0"),
        (replace(SYSTEM, sends=(NOTHING,)), "/System/H99.15~1moi/sends/0"),
        (replace(SYSTEM, sends_only=False, receives=(BIRTH,)), "/System/H99.15~1mot-cua/receives/0"),
        (
            replace(SYSTEM, certificates=HELD[2].certificates[:1]),  # type: ignore[union-attr]
            "/System/H99.15~1moi/certificates/0",
        ),
        (replace(SERVICE, owner=NOBODY), "/Service/new.one~11/owner"),
        (replace(SERVICE, schema={"type": "nonsense"}), "/Service/new.one~11/schema"),
        (replace(SERVICE, schema={"$ref": "https://example.com/x"}), "/Service/new.one~11/schema"),
        (replace(SERVICE, schema="<not a schema/>"), "/Service/new.one~11/schema"),
        (replace(SERVICE, reply_schema="<nor this"), "/Service/new.one~11/reply_schema"),
        (replace(SERVICE, content_types=("text/xml",), schema={"type": "object"}), "/Service/new.one~11/schema"),
        (replace(GRANT, service=NOTHING), "/Grant/g-2/service"),
        (replace(GRANT, grantee=NOBODY), "/Grant/g-2/grantee"),
        (replace(GRANT, receivers=(PROVINCE, NOBODY)), "/Grant/g-2/receivers/1"),
        (replace(GRANT, valid_from=MOMENT, expires_at=MOMENT), "/Grant/g-2/expires_at"),
    ],
)
def test_what_does_not_fit_together_is_not_planned(entry: Entry, pointer: str) -> None:
    assert pointer in wrong(Directory(HELD), [entry])


def test_every_rule_of_the_registry_is_worded_in_both_languages() -> None:
    """Also those that no test breaks: each text in the file is a pair, and none is a bare sentence."""
    tree = ast.parse(inspect.getsource(registry.changes))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    pairs = [call.args for call in calls if getattr(call.func, "id", "") == "Wording"]
    assert len(pairs) >= 20
    assert not [ast.unparse(en) for en, vi in pairs if ast.unparse(en) == ast.unparse(vi)]
    bare = [ast.unparse(call) for call in calls if getattr(call.func, "id", "") == "FieldError"]
    assert not bare, "it has no Vietnamese"


def test_two_systems_that_would_take_everything_are_refused() -> None:
    both = [replace(SYSTEM, code=SystemCode(f"H99.16/{name}"), sends_only=False) for name in ("a", "b")]
    assert set(wrong(Directory(HELD), [OTHER, *both])) == {"/System/H99.16~1a/receives", "/System/H99.16~1b/receives"}


def test_an_agency_that_others_refer_to_cannot_go() -> None:
    errors = wrong(Directory(HELD), [], [HELD[1]])
    assert {"/System/H99.15~1mot-cua/code", "/Service/civil.birth~11/owner", "/Grant/g-1/receivers/0"} <= set(errors)


def test_entries_that_need_each_other_come_together_in_any_order() -> None:
    assert len(plan_changes(Directory(), reversed(HELD)).steps) == len(HELD)


PUBLISHED = replace(SERVICE, stage=Stage.PUBLISHED)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "Tên khác"},
        {"stage": Stage.DEPRECATED, "sunset": MOMENT},
        {"stage": Stage.RETIRED},
        {"retry": RetryPolicy(max_attempts=1)},
    ],
    ids=str,
)
def test_a_published_version_may_be_renamed_retried_otherwise_and_retired(changed: dict[str, object]) -> None:
    directory = Directory([*HELD, PUBLISHED])
    assert len(plan_changes(directory, [replace(PUBLISHED, **changed)]).steps) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed, field",
    [
        ({"schema": {"type": "object"}}, "schema"),
        ({"reply_schema": {"type": "object"}}, "reply_schema"),
        ({"owner": DEPARTMENT}, "owner"),
        ({"pattern": Pattern.REQUEST_REPLY}, "pattern"),
        ({"grade": Grade.ATTESTED}, "grade"),
        ({"ordering": Ordering.DOSSIER}, "ordering"),
        ({"content_types": ("application/xml",)}, "content_types"),
        ({"max_body_bytes": 1}, "max_body_bytes"),
        ({"stage": Stage.DRAFT}, "stage"),
        ({"stage": Stage.SANDBOX}, "stage"),
    ],
    ids=str,
)
@pytest.mark.parametrize("stage", [Stage.PUBLISHED, Stage.DEPRECATED, Stage.RETIRED])
def test_what_callers_rely_on_is_fixed_once_published(changed: dict[str, object], field: str, stage: Stage) -> None:
    held = replace(SERVICE, stage=stage)
    errors = wrong(Directory([*HELD, held]), [replace(held, **changed)])  # type: ignore[arg-type]
    assert set(errors) == {f"/Service/new.one~11/{field}"}


def test_a_draft_may_change_in_everything_and_go() -> None:
    directory = Directory([*HELD, replace(SERVICE, stage=Stage.DRAFT)])
    assert plan_changes(directory, [replace(SERVICE, schema={"type": "object"}, owner=DEPARTMENT)]).steps
    assert plan_changes(directory, [], [SERVICE]).steps


def test_only_a_retired_version_can_be_removed() -> None:
    assert "/Service/new.one~11/stage" in wrong(Directory([*HELD, PUBLISHED]), [], [PUBLISHED])
    assert plan_changes(Directory([*HELD, replace(SERVICE, stage=Stage.RETIRED)]), [], [SERVICE]).steps


def test_a_system_put_without_its_client_secret_keeps_it() -> None:
    directory = Directory(HELD)
    held = directory.systems[SystemCode("H99.15/mot-cua")]
    assert plan_changes(directory, [replace(held, client_secret_hash="")]).steps == ()
    [step] = plan_changes(directory, [replace(held, client_secret_hash="$argon2id$y")]).steps
    assert [difference.pointer for difference in step.differences()] == ["/client_secret_hash"]


def test_removing_what_is_not_there_is_nothing() -> None:
    assert plan_changes(Directory(HELD), [], [GRANT]).steps == ()
