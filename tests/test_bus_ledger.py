"""The ledger's contract: the same cases on SQLite and on PostgreSQL. After each, the rows must still agree."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from bus.ledger import MOST_ATTEMPTS_WITHOUT_END
from bus.records import Recorded, State
from bus.tables import delivery_id
from registry.model import Pattern
from schemas.identifiers import DossierCode, MessageId, ServiceCode, SystemCode
from schemas.message import AttachmentReference
from schemas.problem import IdempotencyConflict
from security.evidence.checkpoint import NoteKey
from security.keys import KeyRing
from tests.ledger_house import (
    ARCHIVE,
    DOSSIER,
    LEASE,
    NOON,
    RECEIVER,
    SECOND,
    STORE,
    House,
    a_message,
    statements_of,
)

SECONDS = timedelta(seconds=1)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[KeyRing, NoteKey]:
    folder = tmp_path_factory.mktemp("keys")
    return KeyRing.open_or_create(folder / "ring", SystemCode("H99/lgsp-bus")), NoteKey.generate("test.invalid/log")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def house(
    request: pytest.FixtureRequest, tmp_path: Path, new_store: Callable[[str, Path], str], keys: tuple[KeyRing, NoteKey]
) -> Iterator[House]:
    house = House(store_url=new_store(request.param, tmp_path), ring=keys[0], log_key=keys[1])
    yield house
    house.must_hold()
    house.close()


# ── recording ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_recorded_message_can_be_read_back_whole(house: House) -> None:
    message = a_message(b"\x00 exact \xff bytes", dossier=DOSSIER, receivers=(RECEIVER, SECOND))
    recorded = house.record(message)
    found = house.ledger.find(message.manifest.message_id)
    assert found is not None
    assert (found.manifest_jws, found.manifest_sha256) == (message.manifest_jws, message.manifest_sha256)
    assert (found.sender, found.dossier, found.received_at) == (message.manifest.sender, DOSSIER, NOON)
    assert house.ledger.body_of(found.id) == message.body
    assert [(d.receiver, d.system, d.state, d.due_at) for d in found.deliveries] == [
        (RECEIVER, STORE, State.WAITING, NOON),
        (SECOND, ARCHIVE, State.WAITING, NOON),
    ]
    assert not recorded.repeated
    assert house.ledger.find(MessageId("01938c00-0000-7000-8000-000000000000")) is None


def test_a_message_and_its_leaf_have_the_same_number(house: House) -> None:
    for _ in range(3):
        new = house.new()
        recorded = house.ledger.record(new)
        assert house.entry(recorded.exchange_id) == new.leaf.entry
        assert json.loads(house.entry(recorded.exchange_id))["message_id"] == new.message.manifest.message_id


def test_the_same_message_signed_again_gets_the_first_receipt(house: House) -> None:
    message = a_message(receivers=(SECOND, RECEIVER))
    first = house.new(message)
    recorded = house.ledger.record(first)
    later = NOON + 3600 * SECONDS
    signed_again = replace(
        message,
        manifest=replace(message.manifest, issued_at=later),
        manifest_jws="another signature",
        manifest_sha256="f" * 64,
        received_at=later,
    )
    again = house.record(signed_again)
    assert again.repeated
    assert again.receipt == first.receipt
    assert again.exchange_id == recorded.exchange_id
    assert (house.rows("exchanges"), house.rows("deliveries"), house.rows("evidence_leaves")) == (1, 2, 1)


@pytest.mark.parametrize(
    "changed",
    [{"body": b"{}"}, {"receivers": (SECOND,)}, {"dossier": DOSSIER}, {"purpose": "khac"}],
    ids=lambda changed: next(iter(changed)),
)
def test_an_id_used_for_other_facts_is_a_conflict_and_changes_nothing(house: House, changed: dict[str, Any]) -> None:
    message = a_message()
    house.record(message)
    with pytest.raises(IdempotencyConflict) as conflict:
        house.record(a_message(message_id=message.manifest.message_id, **changed))
    assert conflict.value.reason == "message-id-used"
    assert (house.rows("exchanges"), house.rows("evidence_leaves"), house.rows("outbox")) == (1, 1, 1)


def test_the_same_id_twice_in_one_group_is_recorded_once(house: House) -> None:
    first, other = house.new(), house.new()
    twin = house.new(first.message)
    false_twin = house.new(a_message(b"false", message_id=first.message.manifest.message_id))
    results = house.ledger._write([first, other, twin, false_twin])
    assert [getattr(result, "repeated", None) for result in results] == [False, False, True, None]
    assert results[2].receipt == first.receipt
    assert isinstance(results[3], IdempotencyConflict)
    assert house.rows("exchanges") == 2


def test_two_nodes_given_the_same_id_at_once_record_it_once(house: House) -> None:
    nodes = [house.another() for _ in range(4)]
    with ThreadPoolExecutor(len(nodes)) as pool:
        for _ in range(12):
            news = [nodes[0].new()]
            news += [node.new(news[0].message) for node in nodes[1:]]
            together = threading.Barrier(len(nodes))

            def record(node: House, new: Any, together: threading.Barrier = together) -> Recorded:
                together.wait()
                return node.ledger.record(new)

            results = list(pool.map(record, nodes, news))
            assert sorted(result.repeated for result in results) == [False, True, True, True]
            assert len({result.receipt.receipt for result in results}) == 1
    assert house.rows("exchanges") == 12


def test_two_nodes_given_one_id_for_two_messages_refuse_one_of_them(house: House) -> None:
    nodes = [house.another(), house.another()]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(12):
            message = a_message()
            news = [nodes[0].new(message), nodes[1].new(a_message(b"2", message_id=message.manifest.message_id))]
            together = threading.Barrier(2)

            def record(node: House, new: Any, together: threading.Barrier = together) -> str:
                together.wait()
                try:
                    node.ledger.record(new)
                except IdempotencyConflict:
                    return "conflict"
                return "recorded"

            assert sorted(pool.map(record, nodes, news)) == ["conflict", "recorded"]


def test_positions_have_no_gaps_when_nodes_write_at_once(house: House) -> None:
    nodes = [house.another() for _ in range(3)]

    def write(node: House) -> None:
        for number in range(15):
            node.record()
            if number % 5 == 0:
                node.ledger.refuse(node.refusal())

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, nodes))
    assert house.rows("evidence_leaves") == 3 * 18  # must_hold looks at the rest


def test_a_message_that_cannot_be_written_leaves_no_trace_and_takes_nobody_along(house: House) -> None:
    good, bad = house.new(), house.new()
    broken = replace(bad, message=replace(bad.message, traceparent=None))  # type: ignore[arg-type]
    with pytest.raises(Exception, match="traceparent"):
        house.ledger.record(broken)
    assert house.ledger.find(bad.message.manifest.message_id) is None
    assert (house.rows("evidence_leaves"), house.rows("payloads"), house.rows("deliveries")) == (0, 0, 0)
    with pytest.raises(Exception, match="traceparent"):
        house.ledger._write([good, broken])
    assert house.rows("evidence_leaves") == 0
    house.ledger.record(good)
    assert house.rows("evidence_leaves") == 1


def test_one_file_named_twice_is_kept_once(house: House) -> None:
    files = tuple(AttachmentReference(sha256="a" * 64, length=3, name=name) for name in ("1.pdf", "2.pdf"))
    house.record(attachments=files)
    assert house.rows("exchange_attachments") == 1


def test_quotas_are_counted_with_the_message_and_not_for_repeats(house: House) -> None:
    periods = (("grant", "2026-11-21"), ("grant", "2026-11-21T12:00"))
    first = house.new(quota_periods=periods)
    assert house.ledger.record(first).quota_used == dict.fromkeys(periods, 1)
    assert house.ledger.record(first).quota_used == {}
    assert house.another().record(quota_periods=periods).quota_used == dict.fromkeys(periods, 2)
    assert house.ledger.quota_used("grant", "2026-11-21") == 2
    assert house.ledger.quota_used("grant", "2026-11-22") == 0


def test_a_refusal_is_evidence_and_can_be_found(house: House) -> None:
    message_id = MessageId("01938c00-0000-7000-8000-000000000001")
    house.ledger.refuse(house.refusal(message_id=message_id, dossier=DOSSIER))
    house.ledger.refuse(house.refusal())
    (found,) = house.ledger.refusals_of(message_id=message_id)
    assert (found.problem, found.reason) == ("not-permitted", "no-grant")
    assert house.ledger.refusals_of(dossier=DOSSIER) == [found]
    assert json.loads(house.entry(found.id))["reason"] == "no-grant"


def test_who_delivers_is_woken_once_for_each_group_and_only_for_what_is_due(house: House) -> None:
    taps: list[int] = []
    house.ledger._on_due = lambda: taps.append(house.rows("outbox"))
    house.ledger._write([house.new(), house.new(), house.refusal()])
    assert taps == [2], "after the commit"
    house.record(lease_until=NOON + LEASE)
    house.ledger.refuse(house.refusal())
    assert taps == [2]


# ── claiming and settling ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_claim_carries_all_that_the_call_needs(house: House) -> None:
    message = a_message(b"body", dossier=DOSSIER)
    recorded = house.record(message)
    (claim,) = house.claim()
    assert (claim.body, claim.manifest_jws, claim.receipt_jws) == (
        b"body",
        message.manifest_jws,
        recorded.receipt.receipt,
    )
    assert (claim.attempt, claim.attempts_before, claim.lease_until) == (1, 0, NOON + LEASE)
    assert (claim.sender, claim.receiver, claim.system) == (message.manifest.sender, RECEIVER, STORE)
    assert claim.retry_since == claim.received_at == NOON
    held = house.ledger.held_claim(claim.delivery_id, 1)
    assert held == claim
    assert house.ledger.held_claim(claim.delivery_id, 2) is None


def test_nothing_is_claimed_twice_and_nothing_before_it_is_due(house: House) -> None:
    house.record(received_at=NOON + SECONDS)
    assert house.claim(NOON) == []
    assert not house.ledger.has_due(STORE, NOON)
    assert house.ledger.has_due(STORE, NOON + SECONDS)
    assert not house.ledger.has_due(ARCHIVE, NOON + SECONDS)
    assert len(house.claim(NOON + SECONDS)) == 1
    assert house.claim(NOON + SECONDS) == []


def test_many_claimers_share_the_work_without_overlap(house: House) -> None:
    for _ in range(40):
        house.record()
    nodes = [house.another() for _ in range(4)]

    def claim_all(node: House) -> list[int]:
        mine: list[int] = []
        while claims := node.claim(most=3):
            mine += [claim.delivery_id for claim in claims]
        return mine

    with ThreadPoolExecutor(4) as pool:
        taken = [number for mine in pool.map(claim_all, nodes) for number in mine]
    taken += claim_all(house)  # on PostgreSQL a claimer passes over what another one is just taking
    assert len(taken) == len(set(taken)) == 40


def test_the_oldest_due_is_claimed_first_up_to_the_limit(house: House) -> None:
    late, early = house.record(received_at=NOON), house.record(received_at=NOON - SECONDS)
    assert [claim.exchange_id for claim in house.claim(most=1)] == [early.exchange_id]
    assert [claim.exchange_id for claim in house.claim(most=1)] == [late.exchange_id]


def test_a_delivered_message_has_its_receipt_leaf_and_attempt(house: House) -> None:
    recorded = house.record()
    (claim,) = house.claim()
    settlement = house.end(claim, State.DELIVERED)
    assert house.ledger.settle(settlement)
    found = house.ledger.find(claim.message_id)
    assert found is not None
    (delivery,) = found.deliveries
    assert (delivery.state, delivery.receipt_jws) == (State.DELIVERED, settlement.receipt_jws)
    assert delivery.lease_until is delivery.due_at is None
    assert delivery.leaf == recorded.exchange_id + 1
    assert json.loads(house.entry(delivery.leaf))["kind"] == "delivered"
    assert [(a.number, a.outcome) for a in delivery.attempts] == [(1, State.DELIVERED)]


def test_each_receiver_has_a_state_of_its_own(house: House) -> None:
    message = a_message(receivers=(RECEIVER, SECOND))
    house.record(message)
    (claim,) = house.claim(system=STORE)
    (other,) = house.claim(system=ARCHIVE)
    house.settle(claim, State.DELIVERED)
    house.settle(other, State.DEAD)
    found = house.ledger.find(message.manifest.message_id)
    assert found is not None
    assert [d.state for d in found.deliveries] == [State.DELIVERED, State.DEAD]


def test_a_failed_attempt_comes_again_at_its_moment_with_the_next_number(house: House) -> None:
    house.record()
    (claim,) = house.claim()
    assert house.settle(claim, State.WAITING, due_at=NOON + 7 * SECONDS)
    assert house.ledger.systems_due(NOON) == [(STORE, NOON + 7 * SECONDS)]
    assert house.claim(NOON + 6 * SECONDS) == []
    (again,) = house.claim(NOON + 7 * SECONDS)
    assert again.attempt == 2
    found = house.ledger.find(claim.message_id)
    assert found is not None
    assert found.deliveries[0].leaf is None
    assert [a.problem and a.problem["reason"] for a in found.deliveries[0].attempts] == ["not-acknowledged"]


def test_a_settlement_that_comes_too_late_or_twice_is_ignored(house: House) -> None:
    house.record()
    (claim,) = house.claim()
    assert house.ledger.release_stalled(claim.lease_until + SECONDS) == 1
    assert not house.settle(claim, State.DELIVERED), "its lease is over"
    (again,) = house.claim(claim.lease_until + SECONDS)
    assert not house.settle(claim, State.DEAD), "another attempt is under way"
    assert house.settle(again, State.DELIVERED)
    assert not house.settle(again, State.DELIVERED)
    assert not house.settle(again, State.WAITING, due_at=NOON)
    assert not house.ledger.settle(replace(house.end(again, State.DEAD), delivery_id=4711))
    found = house.ledger.find(claim.message_id)
    assert found is not None
    assert found.deliveries[0].state is State.DELIVERED
    assert house.rows("evidence_leaves") == 2


def test_the_same_settlement_twice_in_one_group_counts_once(house: House) -> None:
    house.record()
    (claim,) = house.claim()
    twice = [house.end(claim, State.DELIVERED), house.end(claim, State.DEAD)]
    assert house.ledger._write(twice) == [True, False]


def test_two_nodes_that_end_one_attempt_at_once_end_it_once(house: House) -> None:
    nodes = [house.another(), house.another()]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(15):
            house.record()
            (claim,) = house.claim()
            together = threading.Barrier(2)

            def end(node: House, claim: Any = claim, together: threading.Barrier = together) -> bool:
                together.wait()
                return node.settle(claim, State.DELIVERED)

            assert sorted(pool.map(end, nodes)) == [False, True]


def test_a_turn_settles_and_claims_in_one_transaction(house: House) -> None:
    house.record()
    house.record()
    (claim,) = house.claim(most=1)
    settled = [house.end(claim, State.DELIVERED)]
    statements = statements_of(house.store)
    (following,) = house.ledger.settle_and_claim(settled, {STORE: 5, ARCHIVE: 5}, NOON, LEASE)
    assert following.exchange_id != claim.exchange_id
    assert sum(statement.startswith("BEGIN") for statement in statements) <= 1
    assert house.ledger.states() == {State.DELIVERED: 1, State.DELIVERING: 1}


# ── leases that run out ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_message_that_kills_its_deliverer_again_and_again_is_dead_in_the_end(house: House) -> None:
    house.record()
    now = NOON
    for number in range(1, MOST_ATTEMPTS_WITHOUT_END + 1):
        (claim,) = house.claim(now)
        assert claim.attempt == number
        now = claim.lease_until + SECONDS
        assert house.ledger.release_stalled(now) == 1
    assert house.ledger.states() == {State.DEAD: 1}
    (dead,) = house.ledger.dead()
    assert dead.problem is not None
    assert dead.problem["reason"] == "lease-ran-out"


def test_a_stalled_one_way_delivery_is_due_again_and_the_lost_attempt_is_told(house: House) -> None:
    house.record()
    (claim,) = house.claim()
    assert house.ledger.release_stalled(claim.lease_until) == 0, "the lease still holds"
    over = claim.lease_until + SECONDS
    assert house.ledger.release_stalled(over) == 1
    assert house.ledger.release_stalled(over) == 0
    found = house.ledger.find(claim.message_id)
    assert found is not None
    (delivery,) = found.deliveries
    assert (delivery.state, delivery.due_at, delivery.lease_until) == (State.WAITING, over, None)
    assert [(a.number, a.problem and a.problem["reason"]) for a in delivery.attempts] == [(1, "lease-ran-out")]
    (again,) = house.claim(over)
    assert again.attempt == 2


def test_a_stalled_call_is_dead_with_evidence_because_its_caller_is_gone(house: House) -> None:
    new = house.new(lease_until=NOON + LEASE)
    recorded = house.ledger.record(new)
    assert house.rows("outbox") == 0, "the caller itself delivers"
    house.ledger.release_stalled(NOON + LEASE + SECONDS)
    found = house.ledger.find(new.message.manifest.message_id)
    assert found is not None
    (delivery,) = found.deliveries
    assert delivery.state is State.DEAD
    assert delivery.leaf == recorded.exchange_id + 1
    assert json.loads(house.entry(delivery.leaf))["reason"] == "lease-ran-out"
    assert house.rows("outbox") == 0


def test_a_stalled_call_frees_the_messages_of_its_dossier(house: House) -> None:
    call = house.new(a_message(dossier=DOSSIER), lease_until=NOON + LEASE, ordered=True)
    house.ledger.record(call)
    house.record(dossier=DOSSIER, ordered=True)
    assert house.claim() == []
    house.ledger.release_stalled(NOON + LEASE + SECONDS)
    assert len(house.claim(NOON + timedelta(days=999))) == 1


def test_nodes_that_release_settle_and_claim_at_once_agree(house: House) -> None:
    """Without turns PostgreSQL lets a release undo a fresh claim, or send again what was just delivered."""
    for _ in range(30):
        house.record()
    nodes = [house.another() for _ in range(4)]
    over = NOON + LEASE + SECONDS
    for round_ in range(3):
        claims = house.claim(NOON + round_ * LEASE * 3, most=100)
        now = over + round_ * LEASE * 3

        def settle(node: House, claims: Any = claims, now: Any = now) -> None:
            for claim in claims[::2]:
                node.settle(claim, State.DELIVERED, now=now)

        def release(node: House, now: Any = now) -> None:
            for _ in range(5):
                node.ledger.release_stalled(now)
                node.claim(now, most=3)

        with ThreadPoolExecutor(4) as pool:
            done = [pool.submit(settle, nodes[0]), pool.submit(settle, nodes[1])]
            done += [pool.submit(release, node) for node in nodes[2:]]
            for future in done:
                future.result()
        house.must_hold()


# ── request-reply ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_failed_call_can_be_claimed_again_by_one_caller_at_a_time(house: House) -> None:
    new = house.new(lease_until=NOON + LEASE)
    recorded = house.ledger.record(new)
    message_id = new.message.manifest.message_id
    assert house.ledger.claim_again(message_id, NOON, LEASE) is None, "the first attempt still runs"
    held = house.ledger.held_claim(delivery_id(recorded.exchange_id, 0), 1)
    assert held is not None
    assert held.pattern is Pattern.REQUEST_REPLY
    house.settle(held, State.DEAD)
    nodes = [house.another() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        claims = list(pool.map(lambda node: node.ledger.claim_again(message_id, NOON, LEASE), nodes))
    (claim,) = [claim for claim in claims if claim is not None]
    assert (claim.attempt, claim.body, claim.lease_until) == (2, new.message.body, NOON + LEASE)
    house.settle(claim, State.DELIVERED)
    assert house.ledger.claim_again(message_id, NOON, LEASE) is None, "it was answered"


# ── dead letters and replay ───────────────────────────────────────────────────────────────────────────────────────────


def _dead(house: House, **facts: Any) -> int:
    house.record(**facts)
    (claim,) = house.claim(NOON + timedelta(days=999))
    house.settle(claim, State.DEAD)
    return claim.delivery_id


def test_a_dead_delivery_is_listed_with_its_reason_and_page_by_page(house: House) -> None:
    numbers = [_dead(house) for _ in range(3)]
    listed = house.ledger.dead()
    assert [record.delivery_id for record in listed] == numbers
    assert listed[0].problem == {"problem": "provider-rejected", "reason": "refused-by-receiver", "facts": {}}
    assert listed[0].died_at is not None
    assert [r.delivery_id for r in house.ledger.dead(most=1, after=numbers[0])] == numbers[1:2]
    assert house.ledger.dead(system=ARCHIVE) == []


def test_a_dead_delivery_can_be_replayed_with_a_fresh_budget_linked_to_the_first(house: House) -> None:
    number = _dead(house)
    later = NOON + 86_400 * SECONDS
    replay, moved = house.ledger.replay([number], "H99/truc", "hệ thống đã hoạt động lại", later)
    assert moved == 1
    assert house.ledger.dead() == []
    (claim,) = house.claim(later)
    assert (claim.delivery_id, claim.attempt, claim.attempts_before, claim.retry_since) == (number, 2, 1, later)
    house.settle(claim, State.DELIVERED, now=later)
    found = house.ledger.find(claim.message_id)
    assert found is not None
    (delivery,) = found.deliveries
    assert [(a.number, a.outcome) for a in delivery.attempts] == [(1, State.DEAD), (2, State.DELIVERED)]
    assert [(r.id, r.actor, r.after_attempt) for r in delivery.replays] == [(replay, "H99/truc", 1)]


def test_many_dead_deliveries_are_replayed_together_and_only_dead_ones(house: House) -> None:
    numbers = [_dead(house) for _ in range(3)]
    call = house.new(lease_until=NOON - LEASE)
    recorded = house.ledger.record(call)
    house.ledger.release_stalled(NOON)
    waiting = delivery_id(house.record().exchange_id, 0)
    asked = [*numbers, waiting, delivery_id(recorded.exchange_id, 0), 4711]
    assert house.ledger.replay(asked, "truc", "thử", NOON)[1] == 3, "a call is repeated by its caller, not by the bus"
    assert house.ledger.replay(asked, "truc", "thử", NOON)[1] == 0
    assert house.rows("outbox") == 4


def test_two_operators_replaying_at_once_send_it_once(house: House) -> None:
    nodes = [house.another(), house.another()]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(8):
            number = _dead(house)
            moved = pool.map(lambda node, number=number: node.ledger.replay([number], "a", "b", NOON)[1], nodes)
            assert sorted(moved) == [0, 1]
            (claim,) = house.claim()
            house.settle(claim, State.DELIVERED)


# ── order within a dossier ────────────────────────────────────────────────────────────────────────────────────────────


def test_messages_of_a_dossier_reach_a_receiver_one_after_the_other(house: House) -> None:
    ids = [house.record(dossier=DOSSIER, ordered=True).exchange_id for _ in range(3)]
    order = []
    for _ in ids:
        (claim,) = house.claim(NOON + timedelta(days=999))
        assert house.claim(NOON + timedelta(days=999)) == [], "the next one waits while this is under way"
        house.settle(claim, State.DELIVERED)
        order.append(claim.exchange_id)
    assert order == ids


def test_order_is_kept_within_one_group_and_does_not_hold_up_others(house: House) -> None:
    other = DossierCode("H99.15-261121-0002")
    works = [house.new(dossier=DOSSIER, ordered=True) for _ in range(2)]
    works += [house.new(dossier=other, ordered=True), house.new(dossier=DOSSIER)]
    results = house.ledger._write(works)
    claimed = {claim.exchange_id for claim in house.claim()}
    assert claimed == {results[0].exchange_id, results[2].exchange_id, results[3].exchange_id}


def test_a_later_message_waits_while_the_earlier_one_is_tried_again(house: House) -> None:
    first = house.record(dossier=DOSSIER, ordered=True).exchange_id
    second = house.record(dossier=DOSSIER, ordered=True).exchange_id
    (claim,) = house.claim()
    house.settle(claim, State.WAITING, due_at=NOON + SECONDS)
    assert house.claim(NOON) == []
    (again,) = house.claim(NOON + SECONDS)
    assert again.exchange_id == first
    house.ledger.release_stalled(again.lease_until + SECONDS)
    (third_try,) = house.claim(again.lease_until + SECONDS)
    assert third_try.exchange_id == first
    house.settle(third_try, State.DELIVERED)
    (following,) = house.claim(NOON + timedelta(days=999))
    assert following.exchange_id == second


def test_a_dead_message_lets_the_next_of_its_dossier_pass(house: House) -> None:
    house.record(dossier=DOSSIER, ordered=True)
    second = house.record(dossier=DOSSIER, ordered=True)
    (claim,) = house.claim()
    house.settle(claim, State.DEAD)
    (following,) = house.claim(NOON + timedelta(days=999))
    assert following.exchange_id == second.exchange_id


def test_the_successor_is_released_in_the_transaction_that_ends_its_predecessor(house: House) -> None:
    house.record(dossier=DOSSIER, ordered=True)
    second = house.record(dossier=DOSSIER, ordered=True)
    (claim,) = house.claim()
    settled = [house.end(claim, State.DELIVERED)]
    (following,) = house.ledger.settle_and_claim(settled, {STORE: 5}, NOON + timedelta(days=999), LEASE)
    assert following.exchange_id == second.exchange_id


def test_a_replayed_message_may_run_beside_later_ones_and_nobody_is_forgotten(house: House) -> None:
    number = _dead(house, dossier=DOSSIER, ordered=True)
    ids = [house.record(dossier=DOSSIER, ordered=True).exchange_id for _ in range(3)]
    house.ledger.replay([number], "truc", "thử", NOON)
    seen = []
    while claims := house.claim(NOON + timedelta(days=999)):
        for claim in claims:
            seen.append(claim.exchange_id)
            house.settle(claim, State.DELIVERED)
    assert sorted(seen[1:]) == sorted(ids) or sorted(seen) == sorted([number // 1024, *ids])
    assert house.ledger.states() == {State.DELIVERED: 4}


def test_order_holds_while_threads_record_and_deliver(house: House) -> None:
    dossiers = [DossierCode(f"H99.15-261121-{number:04}") for number in range(4)]
    recording = threading.Event()
    arrived: dict[str, list[int]] = {dossier: [] for dossier in dossiers}

    def record(dossier: DossierCode) -> None:
        for _ in range(8):
            house.record(dossier=dossier, ordered=True)

    def deliver(node: House) -> None:
        while True:
            over = recording.is_set()
            claims = node.claim(NOON + timedelta(days=999), most=4)
            for claim in claims:
                assert claim.dossier is not None
                arrived[claim.dossier].append(claim.exchange_id)
                node.settle(claim, State.DELIVERED)
            if over and not claims and not house.rows("outbox"):
                return

    nodes = [house.another(), house.another()]
    with ThreadPoolExecutor(6) as pool:
        deliverers = [pool.submit(deliver, node) for node in nodes]
        for future in [pool.submit(record, dossier) for dossier in dossiers]:
            future.result()
        recording.set()
        for future in deliverers:
            future.result()
    assert all(numbers == sorted(numbers) and len(numbers) == 8 for numbers in arrived.values())


# ── what is told ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_queues_and_states_agree_with_the_rows(house: House) -> None:
    house.record(receivers=(RECEIVER, SECOND), received_at=NOON - SECONDS)
    house.record()
    (claim,) = house.claim(most=1)
    house.settle(claim, State.DELIVERED)
    queues = {record.system: (record.waiting, record.oldest) for record in house.ledger.queues()}
    assert queues == {STORE: (1, NOON), ARCHIVE: (1, NOON - SECONDS)}
    assert house.ledger.states() == {State.WAITING: 2, State.DELIVERED: 1}


def test_systems_due_names_each_system_once_with_its_first_moment(house: House) -> None:
    assert house.ledger.systems_due(NOON) == []
    house.record(receivers=(RECEIVER, SECOND), received_at=NOON + SECONDS)
    house.record(received_at=NOON)
    assert house.ledger.systems_due(NOON) == [(STORE, NOON), (ARCHIVE, NOON + SECONDS)]


def test_a_dossier_is_told_in_the_order_of_acceptance(house: House) -> None:
    ids = [house.record(dossier=DOSSIER).exchange_id for _ in range(3)]
    house.record()
    assert [record.id for record in house.ledger.of_dossier(DOSSIER)] == ids


def test_a_dossier_of_many_messages_is_told_whole(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one statement has room for: each message has its own deliveries and attempts."""
    for _ in range(3):
        house.record(dossier=DOSSIER, receivers=(RECEIVER, SECOND))
    for claim in house.claim(most=2):
        house.settle(claim, State.DELIVERED)
    told = house.ledger.of_dossier(DOSSIER)
    assert [len(record.deliveries) for record in told] == [2, 2, 2]
    assert sum(len(delivery.attempts) for record in told for delivery in record.deliveries) == 2
    monkeypatch.setattr("bus.telling._VALUES_OF_A_STATEMENT", 1)
    assert house.ledger.of_dossier(DOSSIER) == told


# ── costs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

#: Tables that grow with every message. A hot statement reads them by key only.
_GROWING = ("exchanges", "payloads", "deliveries", "outbox", "attempts", "replies", "refusals", "evidence_leaves")


@pytest.mark.parametrize("house", ["sqlite"], indirect=True)  # the plans are SQLite\'s
def test_nothing_that_a_message_causes_grows_with_what_is_stored(house: House) -> None:
    statements = statements_of(house.store)
    for number in range(3):
        house.record(dossier=DOSSIER, ordered=True, receivers=(RECEIVER, SECOND), quota_periods=(("g", "2026"),))
        house.ledger.systems_due(NOON)
        house.ledger.has_due(STORE, NOON)
        (claim,) = house.claim()
        house.settle(claim, State.WAITING, due_at=NOON)
        (claim,) = house.ledger.settle_and_claim([], {STORE: 1}, NOON, LEASE)
        house.ledger.held_claim(claim.delivery_id, claim.attempt)
        house.settle(claim, State.DELIVERED if number % 2 else State.DEAD)
        house.ledger.release_stalled(NOON)
        house.ledger.refuse(house.refusal())
    call = house.new(lease_until=NOON)
    house.ledger.record(call)
    house.ledger.record(call)
    house.ledger.release_stalled(NOON + SECONDS)
    house.ledger.claim_again(call.message.manifest.message_id, NOON, LEASE)
    house.ledger.reply_to(call.message.manifest.message_id)
    house.ledger.replay([record.delivery_id for record in house.ledger.dead()], "truc", "thử", NOON)
    house.ledger.find(call.message.manifest.message_id)
    house.ledger.of_dossier(DOSSIER)
    house.ledger.may_read_attachment("a" * 64, RECEIVER)

    explained = _plans(house, statements)
    assert len(explained) > 20
    scans = {
        (statement, step)
        for statement, steps in explained.items()
        for step in steps
        for table in _GROWING
        # "SCAN x USING … INDEX" with MIN, MAX or LIMIT 1 reads one entry; without an index it reads the table.
        if re.match(rf"SCAN {table}\b(?! USING)", step)
    }
    assert not scans, "\n\n".join(f"{step}\n  {statement}" for statement, step in scans)


@pytest.mark.parametrize("house", ["sqlite"], indirect=True)  # the plans are SQLite\'s
def test_looking_for_due_systems_jumps_along_the_index(house: House) -> None:
    statements = statements_of(house.store)
    house.ledger.systems_due(NOON)
    ((_, steps),) = _plans(house, [s for s in statements if "RECURSIVE" in s]).items()
    touching = [step for step in steps if "outbox" in step]
    assert touching
    assert all(step.startswith("SEARCH outbox USING COVERING INDEX outbox_by_system") for step in touching)


@pytest.mark.parametrize("house", ["sqlite"], indirect=True)  # the plans are SQLite\'s
def test_leases_that_ran_out_are_found_by_their_index(house: House) -> None:
    statements = statements_of(house.store)
    house.ledger.release_stalled(NOON)
    ((_, steps),) = _plans(house, [s for s in statements if "lease_until <" in s]).items()
    assert any("USING INDEX deliveries_leased" in step for step in steps), steps


def _plans(house: House, statements: list[str]) -> dict[str, list[str]]:
    """SQLite's plan of each statement, one for those that differ only in their values."""
    plans: dict[str, list[str]] = {}
    with house.store.reading() as connection:
        for statement in list(statements):
            shape = re.sub(r"[xX]?'[^']*'|\b[0-9]+\b", "…", statement)
            shape = re.sub(r"\(…(?:, …)*\)", "(…)", shape).strip()
            if shape in plans or not shape.startswith(("SELECT", "UPDATE", "DELETE", "WITH", "INSERT")):
                continue
            cursor = connection.connection.cursor()
            plans[shape] = [row[-1] for row in cursor.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()]
    return plans


@pytest.mark.service
@pytest.mark.parametrize("house", ["postgresql"], indirect=True)
def test_postgresql_really_waits_for_its_turn(house: House) -> None:
    """The turnstile itself: while one writer is inside, the other does not get past its first statement."""
    node, done = house.another(), threading.Event()
    with house.store.writing() as connection:
        house.log.lock(connection)
        thread = threading.Thread(target=lambda: done.set() if node.record() else None)
        thread.start()
        assert not done.wait(0.3)
        waiting = connection.execute(text("SELECT COUNT(*) FROM pg_locks WHERE NOT granted")).scalar_one()
        assert waiting == 1
    thread.join(10)
    assert done.is_set()


def test_payloads_of_a_time_are_read_without_the_others(house: House) -> None:
    hour = timedelta(hours=1)
    transfer = {ServiceCode("dossier.transfer")}
    assert list(house.ledger.carried(transfer, NOON, NOON + hour)) == []
    for number in range(40):
        # Every fourth was accepted a little before the one that stands before it: writers wait for one another.
        moment = NOON + number * hour - (2 * hour / 60 if number % 4 == 0 else 0 * hour)
        house.record(a_message(b"%d" % number, received_at=moment))
        house.ledger.settle(house.end(house.claim(moment)[0], State.DELIVERED, now=moment))

    def read(first: float, last: float, *services: str) -> list[int]:
        wanted = {ServiceCode(code) for code in services or ("dossier.note", "dossier.transfer")}
        found = house.ledger.carried(wanted, NOON + first * hour, NOON + last * hour)
        return [int(one.body or b"-1") for one in found]

    assert read(-1, 100) == list(range(40))
    assert read(3, 8) == [3, 4, 5, 6, 7, 8]
    assert read(4, 8) == [5, 6, 7, 8]
    assert (read(-9, -1), read(50, 60), read(3, 8, "dossier.note")) == ([], [], [])
    (one,) = house.ledger.carried(transfer, NOON + hour, NOON + 2 * hour)
    assert (one.received_at, one.receiver) == (NOON + hour, RECEIVER)
