"""Bodies and events go when they are old, in parts on PostgreSQL and row by row on SQLite; nothing open and no evidence
goes with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from bus import retention
from bus.cli import lgsp
from bus.records import Recorded, Settlement, State, StoredReply
from bus.retention import Retention, first_since, start_of_month
from schemas.identifiers import DossierCode, SystemCode
from schemas.moment import utc_now
from security.evidence.checkpoint import NoteKey
from security.keys import KeyRing
from security.verifier import Trust, verify_bundle
from tests.bus_world import RECEIVING, ask, bus_world, post
from tests.ledger_house import NOON, House

DAY = timedelta(days=1)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def house(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    new_store: Callable[[str, Path], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[House]:
    monkeypatch.setattr(retention, "SMALLEST_PART", 16)
    ring = KeyRing.open_or_create(tmp_path / "ring", SystemCode("H99/lgsp-bus"))
    key = NoteKey.generate("test.invalid/log")
    house = House(store_url=new_store(request.param, tmp_path), ring=ring, log_key=key)
    if not house.store.is_sqlite:
        _small_parts(house)
    yield house
    house.close()


def _small_parts(house: House) -> None:
    """The parts of the migration are millions of ids long; these tables are empty and begin again with small ones."""
    with house.store.writing() as connection:
        for table in retention.PARTITIONED:
            for part in list(retention._parts(connection, table)):
                connection.execute(text(f"DROP TABLE {part.name}"))
    Retention(house.store, house.log, bodies_months=0, events_months=0).make_room(NOON)


def _policy(house: House, bodies: int = 0, events: int = 0) -> Retention:
    return Retention(house.store, house.log, bodies_months=bodies, events_months=events)


def _delivered(house: House, at: datetime, **facts: Any) -> Recorded:
    recorded = house.record(received_at=at, **facts)
    (claim,) = house.claim(at)
    assert house.settle(claim, State.DELIVERED, now=at)
    return recorded


def _parts(house: House, table: str) -> list[str]:
    with house.store.reading() as connection:
        return [part.name for part in retention._parts(connection, table)]


# ── when ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "now, months, begins",
    [
        (datetime(2026, 11, 21, 5, tzinfo=UTC), 0, datetime(2026, 10, 31, 17, tzinfo=UTC)),
        (datetime(2026, 11, 21, 5, tzinfo=UTC), 11, datetime(2025, 11, 30, 17, tzinfo=UTC)),
        (datetime(2026, 1, 31, 18, tzinfo=UTC), 1, datetime(2025, 12, 31, 17, tzinfo=UTC)),  # February in Vietnam
        (datetime(2026, 12, 31, 16, 59, tzinfo=UTC), 12, datetime(2025, 11, 30, 17, tzinfo=UTC)),
        (datetime(2028, 2, 29, 5, tzinfo=UTC), 24, datetime(2026, 1, 31, 17, tzinfo=UTC)),
    ],
)
def test_a_month_begins_at_midnight_in_vietnam(now: datetime, months: int, begins: datetime) -> None:
    assert start_of_month(now, months) == begins


def test_the_first_message_of_a_moment_is_found_by_halving(house: House) -> None:
    moments = [NOON + DAY * number for number in (0, 1, 1, 5, 9)]
    ids = [house.record(received_at=moment).exchange_id for moment in moments]
    with house.store.reading() as connection:
        assert first_since(connection, NOON - DAY) == ids[0]
        assert first_since(connection, NOON + DAY) == ids[1]
        assert first_since(connection, NOON + 2 * DAY) == ids[3]
        assert first_since(connection, NOON + 10 * DAY) == ids[4] + 1


# ── what goes and what stays ──────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_policy_everything_stays(house: House) -> None:
    recorded = _delivered(house, NOON - 4000 * DAY)
    assert _policy(house).erase(NOON) == {}
    assert house.ledger.body_of(recorded.exchange_id) is not None


def test_old_bodies_go_and_what_was_promised_stays(house: House) -> None:
    old = [_delivered(house, NOON - 160 * DAY + DAY * number).exchange_id for number in range(20)]
    young = [_delivered(house, NOON - DAY * number).exchange_id for number in (40, 10, 0)]
    erased = _policy(house, bodies=2).erase(NOON)
    assert "payloads" in erased
    assert not {"attempts", "dossier_events"} & set(erased)
    assert [house.ledger.body_of(number) for number in old] == [None] * 20
    assert all(house.ledger.body_of(number) for number in young)
    assert (house.rows("exchanges"), house.rows("attempts"), house.rows("deliveries")) == (23, 23, 23)
    house.must_hold()
    assert _policy(house, bodies=2).erase(NOON) == {}, "and again there is nothing to do"


def test_what_may_still_be_delivered_keeps_its_body(house: House) -> None:
    """Waiting, under way, dead and open to a replay: among a crowd of old messages that are done."""
    then = NOON - 400 * DAY
    dossier = DossierCode("H99.15-251021-0001")
    waiting = house.record(received_at=then).exchange_id
    (claim,) = house.claim(then)
    house.settle(claim, State.WAITING, now=then, due_at=NOON + DAY)
    in_line = [house.record(received_at=then, dossier=dossier, ordered=True).exchange_id for _ in range(2)]
    (first,) = house.claim(then)  # under way; the other waits behind it, without a date
    dead = house.record(received_at=then).exchange_id
    (dying,) = house.claim(then)
    house.settle(dying, State.DEAD, now=then)
    done = [_delivered(house, then).exchange_id for _ in range(40)]
    policy = _policy(house, bodies=1, events=1)
    policy.erase(NOON)
    assert all(house.ledger.body_of(number) for number in [waiting, *in_line, dead])
    assert not any(house.ledger.body_of(number) for number in done)
    house.ledger.replay([dying.delivery_id], "admin", "line repaired", NOON)
    again = {claim.exchange_id: claim for claim in house.claim(NOON)}
    assert again[dead].body == b'{"title": "x"}'
    house.settle(again[dead], State.DELIVERED)
    house.settle(first, State.DELIVERED)
    policy.erase(NOON)
    assert house.ledger.body_of(dead) is None
    assert house.ledger.body_of(in_line[0]) is None
    assert house.ledger.body_of(in_line[1]) is not None


def test_replies_go_with_the_bodies_and_a_dead_call_is_not_made_again(house: House) -> None:
    then = NOON - 100 * DAY
    answered = house.new(received_at=then, lease_until=then + DAY)
    failed = house.new(received_at=then, lease_until=then + DAY)
    for new, state in ((answered, State.DELIVERED), (failed, State.DEAD)):
        recorded = house.ledger.record(new)
        claim = house.ledger.held_claim(recorded.exchange_id * 1024, 1)
        assert claim is not None
        end = house.end(claim, state, now=then)
        object.__setattr__(end, "reply", StoredReply(manifest_jws="m", content_type="text/plain", body=b"answer"))
        assert house.ledger.settle(end)
    answered_id, failed_id = (new.message.manifest.message_id for new in (answered, failed))
    assert house.ledger.reply_to(answered_id) is not None
    for _ in range(40):
        _delivered(house, then)
    _policy(house, bodies=1).erase(NOON)
    assert house.ledger.reply_to(answered_id) is None
    assert house.ledger.claim_again(failed_id, NOON, DAY) is None
    house.must_hold()


def test_events_have_a_policy_of_their_own(house: House) -> None:
    for _ in range(20):
        _delivered(house, NOON - 100 * DAY)
    _delivered(house, NOON)
    assert "attempts" in _policy(house, events=1).erase(NOON)
    assert house.rows("attempts") == 1
    assert house.rows("payloads") == 21


# ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("house", ["postgresql"], indirect=True)
@pytest.mark.service
def test_parts_are_made_ahead_and_whole_old_ones_are_dropped(house: House) -> None:
    policy = _policy(house, bodies=1)
    for number in range(40):
        _delivered(house, NOON - 200 * DAY + DAY * number)
        policy.make_room(NOON)
    assert house.rows("payloads_rest") == 0
    before = _parts(house, "payloads")
    assert len(before) >= 5
    _delivered(house, NOON)
    policy.erase(NOON)
    after = _parts(house, "payloads")
    assert set(after) < set(before)
    assert house.rows("payloads") == 1
    assert _parts(house, "attempts") != after, "events have a policy of their own"
    _delivered(house, NOON)
    house.must_hold()


@pytest.mark.parametrize("house", ["postgresql"], indirect=True)
@pytest.mark.service
def test_what_outruns_the_parts_is_caught_and_the_next_part_begins_behind_it(house: House) -> None:
    ids = [_delivered(house, NOON).exchange_id for _ in range(30)]
    assert house.rows("payloads_rest") > 0
    assert _policy(house).make_room(NOON) > 0
    rest = house.rows("payloads_rest")
    ids += [_delivered(house, NOON).exchange_id for _ in range(3)]
    assert house.rows("payloads_rest") == rest, "new ones have a part again"
    assert all(house.ledger.body_of(number) for number in ids)
    later = NOON + 100 * DAY
    _delivered(house, later)
    _policy(house, bodies=1).erase(later)
    assert house.rows("payloads_rest") == 0, "and what is there goes row by row"
    house.must_hold()


@pytest.mark.parametrize("house", ["postgresql"], indirect=True)
@pytest.mark.service
def test_one_node_keeps_house_while_others_write(house: House) -> None:
    """Four nodes make room and erase all the time, and nobody who writes is refused."""
    other = house.another()

    def write(_: int) -> None:
        house.record(received_at=NOON)

    def keep(_: int) -> None:
        policy = _policy(other, bodies=1, events=1)
        policy.make_room(NOON)
        policy.erase(NOON)

    with ThreadPoolExecutor(8) as pool:
        written, kept = pool.map(write, range(200)), pool.map(keep, range(20))
        assert len([*written, *kept]) == 220
    assert house.rows("exchanges") == 200
    parts = _parts(house, "payloads")
    assert len(parts) == len(set(parts))
    house.must_hold()


# ── as people see it ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_trace_says_that_the_body_was_erased_and_the_proof_stands(tmp_path: Path) -> None:
    with bus_world(tmp_path) as world, world.serving() as url:
        message = world.signed()
        assert post(url, message).status == 202
        ledger, now = world.bus.ledger, utc_now()
        policy = Retention(world.bus.store, world.bus.log, bodies_months=1, events_months=0)
        later = now + 400 * DAY
        assert policy.erase(later) == {}, "it waits"
        (claim,) = ledger.claim({RECEIVING: 1}, now, DAY)
        receipt_jws, leaf = world.bus.evidence.delivered(claim, now)
        assert ledger.settle(
            Settlement(
                delivery_id=claim.delivery_id,
                attempt=claim.attempt,
                state=State.DELIVERED,
                started_at=now,
                finished_at=now,
                receipt_jws=receipt_jws,
                leaf=leaf,
            )
        )
        assert policy.erase(later) == {"payloads": 1}
        number = message.manifest.message_id
        bundle = ask("GET", f"{url}/v1/exchange/{number}/evidence", headers=world.bearer())
        trust = Trust.read(ask("GET", f"{url}/v1/evidence/trust").body)
        verdict = verify_bundle(bundle.body, trust, message.body)
        assert verdict.holds, verdict.findings
        assert ask("GET", f"{url}/v1/exchange/{number}", headers=world.bearer()).json["body_erased"] is True
        told = CliRunner().invoke(lgsp, ["--home", str(world.settings.home), "trace", number])
        assert "its body was erased" in told.output, told.output
