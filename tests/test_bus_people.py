"""Accounts, sessions and the audit trail, on both stores and without a browser; and `lgsp people`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pyotp
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from bus.cli import lgsp
from bus.people import IDLE, LONGEST, AuditEvent, People, PersonRole, SignInFailed
from bus.store import Store
from schemas.identifiers import AgencyCode
from schemas.problem import Malformed, NotFound
from security.one_time import new_seed
from tests.bus_world import World, bus_world
from tests.postgresql import PrivateServer, private_postgresql

NOW = datetime(2026, 11, 23, 1, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SECRET = "con-bò-ăn-cỏ-ngoài-đồng"


@pytest.fixture(scope="module")
def postgresql(missing_service: Callable[[str], NoReturn]) -> Iterator[PrivateServer]:
    with private_postgresql(missing_service) as server:
        yield server


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    settings = {}
    if request.param == "postgresql":
        server: PrivateServer = request.getfixturevalue("postgresql")
        settings["store_url"] = server.url(server.new_database())
    with bus_world(tmp_path_factory.mktemp(request.param), **settings) as opened:
        yield opened


@pytest.fixture
def people(world: World) -> People:
    with world.bus.store.writing() as connection:
        for table in ("person_sessions", "people", "audit_events"):
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - names of ours
    return People(world.bus.store, world.bus.secrets)


def add(people: People, name: str = "lan", agency: str | None = None, subject: str | None = None) -> str:
    return people.add(
        name, display_name="Lan", roles=[PersonRole.OPERATOR], now=NOW, by="test",
        agency=AgencyCode(agency) if agency else None, subject=subject,
    )  # fmt: skip


def event(action: str, name: str = "lan", at: datetime = NOW) -> AuditEvent:
    return AuditEvent(at=at, person="test", action=action, target=f"person:{name}", reason="vì thử nghiệm")


def test_a_first_password_opens_the_door_and_must_be_changed(people: People) -> None:
    password = add(people)
    token, session = people.sign_in("lan", password, "", NOW)
    assert session.person.must_change
    people.choose_password("lan", password, SECRET, event("password.chosen"))
    assert people.session(token, NOW) is None, "a changed password ends what was open"
    _, session = people.sign_in("lan", SECRET, "", NOW)
    assert not session.person.must_change


@pytest.mark.parametrize("new", ["ngắn", "aaaaaaaaaaaaaaaa", "toi-la-LAN-day-roi", None])
def test_a_password_that_is_easy_to_guess_is_not_taken(people: People, new: str | None) -> None:
    password = add(people)
    with pytest.raises(Malformed) as refused:
        people.choose_password("lan", password, new or password, event("password.chosen"))
    assert refused.value.reason == "password-weak"


@pytest.mark.parametrize("name", ["Lan", "lan nguyen", "lân", "", "lan/1", "-"])
def test_names_are_plain(people: People, name: str) -> None:
    with pytest.raises(Malformed) as refused:
        add(people, name)
    assert refused.value.reason == "person-name"


def test_there_is_one_account_of_a_name_and_none_without_a_role(people: People) -> None:
    add(people)
    with pytest.raises(Malformed) as refused:
        add(people)
    assert refused.value.reason == "person-exists"
    with pytest.raises(Malformed):
        people.add("ba", display_name="", roles=[], now=NOW, by="test")
    assert [person.name for person in people.all()] == ["lan"]


def test_a_session_ends_when_nobody_uses_it_and_in_any_case_after_a_day_of_work(people: People) -> None:
    token, _ = people.sign_in("lan", add(people), "", NOW)
    assert people.session(token, NOW + IDLE) is not None
    assert people.session(token, NOW + IDLE + IDLE - MINUTE) is not None, "using it has kept it open"
    assert people.session(token, NOW + IDLE * 4) is None
    moment, kept = NOW, people.sign_in("lan", people.new_password("lan", event("password.reset")), "", NOW)[0]
    while moment < NOW + LONGEST - IDLE:
        moment += IDLE / 2
        assert people.session(kept, moment) is not None
    assert people.session(kept, NOW + LONGEST) is None


def test_a_token_is_not_in_the_store(people: People, world: World) -> None:
    token, session = people.sign_in("lan", add(people), "", NOW)
    with world.bus.store.reading() as connection:
        rows = connection.execute(text("SELECT * FROM person_sessions")).all()
    assert len(rows) == 1
    assert token not in str(rows)
    people.sign_out(session)
    assert people.session(token, NOW) is None


def test_rests_double_and_end_with_the_right_password(people: People) -> None:
    password = add(people)
    moment, rests = NOW, []
    for _ in range(8):
        with pytest.raises(SignInFailed):
            people.sign_in("lan", "x", "", moment)
        person = people.find("lan")
        assert person is not None
        if person.locked_until and person.locked_until > moment:
            rests.append((person.locked_until - moment).total_seconds())
            with pytest.raises(SignInFailed) as failed:
                people.sign_in("lan", password, "", moment)
            assert failed.value.locked_until == person.locked_until, "the right password must wait, too"
            moment = person.locked_until
    assert rests == [30, 60, 120, 240]
    people.sign_in("lan", password, "", moment)
    for _ in range(4):
        with pytest.raises(SignInFailed) as failed:
            people.sign_in("lan", "x", "", moment)
    assert failed.value.locked_until is None, "it counts from the beginning again"
    assert len(people.events(action="sign-in.locked")) == 4


def test_a_code_counts_once_and_never_backwards(people: People) -> None:
    password, seed = add(people), new_seed()
    codes = pyotp.TOTP(seed.decode())
    assert not people.keep_totp("lan", seed, "000000", event("second-thing.kept"))
    assert people.keep_totp("lan", seed, codes.at(NOW), event("second-thing.kept"))
    for code, moment, inside in (
        ("", NOW, False),
        (codes.at(NOW), NOW, False),
        (codes.at(NOW + MINUTE), NOW + MINUTE, True),
        (codes.at(NOW + MINUTE), NOW + MINUTE, False),
        (codes.at(NOW), NOW + MINUTE, False),
        (codes.at(NOW + MINUTE * 2), NOW + MINUTE * 2, True),
    ):
        if inside:
            people.sign_in("lan", password, code, moment)
        else:
            with pytest.raises(SignInFailed):
                people.sign_in("lan", password, code, moment)


def test_who_is_disabled_is_out_at_once_and_for_good(people: People) -> None:
    password = add(people)
    token, _ = people.sign_in("lan", password, "", NOW)
    people.disable("lan", event("person.disabled"))
    assert people.session(token, NOW) is None
    with pytest.raises(SignInFailed):
        people.sign_in("lan", password, "", NOW)
    people.enable("lan", event("person.enabled"))
    people.sign_in("lan", password, "", NOW)


def test_nobody_and_somebody_fail_alike(people: People) -> None:
    add(people, "ngoai", subject="https://id.example 1")
    for name in ("khong-co", "ngoai"):
        with pytest.raises(SignInFailed) as failed:
            people.sign_in(name, "", "", NOW)
        assert failed.value.locked_until is None


def test_who_signs_in_elsewhere_has_the_roles_that_are_given_there(people: People) -> None:
    assert add(people, "ngoai", subject="https://id.example 1") == ""
    _, session = people.sign_in_as("https://id.example 1", NOW)
    assert session.person.roles == {PersonRole.OPERATOR}
    _, session = people.sign_in_as("https://id.example 1", NOW, {PersonRole.AUDITOR})
    assert session.person.roles == {PersonRole.AUDITOR}
    (changed,) = people.events(action="person.changed")
    assert changed.facts == {"roles": "auditor", "before": "operator"}
    for subject, roles in (("https://id.example 1", frozenset[PersonRole]()), ("https://id.example 2", None)):
        with pytest.raises(SignInFailed):
            people.sign_in_as(subject, NOW, roles)


@pytest.mark.parametrize(
    "deed",
    [
        lambda people: add(people, "ba"),
        lambda people: people.disable("lan", event("person.disabled")),
        lambda people: people.set_rights("lan", [PersonRole.AUDITOR], None, event("person.changed")),
        lambda people: people.new_password("lan", event("password.reset")),
        lambda people: people.sign_in_as("https://id.example 1", NOW, {PersonRole.AUDITOR}),
    ],
    ids=["add", "disable", "roles", "password", "sign-in"],
)
def test_a_deed_and_its_event_are_one(
    people: People, world: World, deed: Callable[[People], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be noted is not done."""
    add(people)
    add(people, "ngoai", subject="https://id.example 1")

    def broken(*_: object) -> None:
        raise RuntimeError("the disk is full")

    before = snapshot(world.bus.store)
    monkeypatch.setattr("bus.people.note", broken)
    with pytest.raises(RuntimeError):
        deed(people)
    monkeypatch.undo()
    assert snapshot(world.bus.store) == before
    deed(people)
    assert snapshot(world.bus.store) != before


def snapshot(store: Store) -> list[object]:
    with store.reading() as connection:
        return [
            sorted(map(str, connection.execute(text(f"SELECT * FROM {table}"))))  # noqa: S608 - names of ours
            for table in ("people", "person_sessions", "audit_events")
        ]


def test_events_are_found_by_who_what_whose_and_in_pages(people: People) -> None:
    add(people, "lan", agency="H99.15")
    add(people, "ba", agency="H99.16")
    people.note(AuditEvent(at=NOW, person="lan", action="replay", target="message:1", reason="lý do"))
    assert [each.target for each in people.events(person="lan")] == ["message:1"]
    assert [each.target for each in people.events(action="person.added")] == ["person:ba", "person:lan"]
    assert [each.target for each in people.events(agency=AgencyCode("H99.16"))] == ["person:ba"]
    first = people.events(limit=2)
    rest = people.events(before=first[-1].id, limit=2)
    assert [each.target for each in (*first, *rest)] == ["message:1", "person:ba", "person:lan"]
    assert [each.name for each in people.all(limit=1)] == ["ba"]
    assert [each.name for each in people.all(after="ba")] == ["lan"]


def test_a_change_of_nobody_is_refused(people: People) -> None:
    with pytest.raises(NotFound):
        people.disable("khong-co", event("person.disabled", "khong-co"))
    assert people.events() == []


# ── lgsp people ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., str]]:
    with bus_world(tmp_path) as world:

        def call(*words: str, code: int = 0) -> str:
            done = CliRunner().invoke(lgsp, ["people", *words], env=dict(world.environment))
            assert done.exit_code == code, done.output
            return done.output

        yield call


def test_the_machines_operator_makes_and_changes_accounts(run: Callable[..., str], tmp_path: Path) -> None:
    told = run("add", "lan", "--display-name", "Nguyễn Thị Lan", "--role", "operator", "--agency", "H99.15")
    first = told.strip().removeprefix("lan: ")
    assert len(first) >= 20
    assert "operator" in run("list")
    assert "H99.15" in run("list")
    again = run("password", "lan").strip().removeprefix("lan: ")
    assert again != first
    assert run("disable", "lan") == ""
    assert "disabled" in run("list")
    run("enable", "lan")
    assert "disabled" not in run("list")
    assert "OpenID Connect" in run("add", "ba", "--role", "auditor", "--subject", "https://id.example 1")
    with bus_world(tmp_path / "other") as other:
        assert People(other.bus.store, other.bus.secrets).all() == [], "each bus has its own"


@pytest.mark.parametrize(
    "words, code",
    [
        (("add", "lan"), 2),
        (("add", "Lan", "--role", "operator"), 2),
        (("add", "lan", "--role", "king"), 2),
        (("add", "lan", "--role", "operator", "--agency", "nowhere"), 2),
        (("disable", "khong-co"), 2),
        (("password", "khong-co"), 2),
    ],
)
def test_what_cannot_be_is_refused(run: Callable[..., str], words: tuple[str, ...], code: int) -> None:
    run(*words, code=code)
    assert run("list") == ""
