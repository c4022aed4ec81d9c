"""Several processes over one store act as one: who lives, parts of limits, breakers, duties, proofs that count once."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bus.bulkheads import BreakerState, Bulkheads
from bus.cluster import SEEN_SECONDS, Cluster
from bus.nodes import BreakerNews, NodeRecord, NodeStore, Role
from schemas.identifiers import SystemCode
from security.evidence.checkpoint import NoteKey
from security.keys import KeyRing
from tests.ledger_house import NOON, House

ONE, OTHER = SystemCode("G99/csdl"), SystemCode("G99/khac")
LIMIT = 12
REST = 15.0
BEAT = 5.0


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


@dataclass(slots=True)
class Time:
    """What all nodes of a test take for the time; each may be wrong by an ``off`` of its own."""

    seconds: float = 0.0

    def pass_(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass(slots=True)
class Process:
    """One process of a bus, without its threads."""

    house: House
    time: Time
    role: Role = Role.WORK
    #: How wrong its clock on the wall is.
    off: timedelta = timedelta(0)
    bulkheads: Bulkheads = field(init=False)
    nodes: NodeStore = field(init=False)
    cluster: Cluster = field(init=False)

    def __post_init__(self) -> None:
        self.bulkheads = Bulkheads(failures_to_open=2, open_seconds=REST, clock=lambda: self.time.seconds)
        self.nodes = NodeStore(self.house.store)
        self.cluster = Cluster(
            nodes=self.nodes,
            bulkheads=self.bulkheads,
            revision="0007",
            beat_seconds=BEAT,
            probe_seconds=60.0,
            clock=lambda: self.time.seconds,
            now=self.now,
        )
        self.cluster.enter(self.role)

    def now(self) -> datetime:
        return NOON + self.off + timedelta(seconds=self.time.seconds)

    def use(self, system: SystemCode = ONE, *, healthy: bool = True) -> None:
        self.bulkheads.enter(system)
        self.bulkheads.leave(system, healthy=healthy)

    def fail(self, times: int = 2, system: SystemCode = ONE) -> None:
        for _ in range(times):
            self.use(system, healthy=False)

    def share(self, system: SystemCode = ONE, limit: int = LIMIT) -> int:
        return self.bulkheads.share(system, limit)


class Province:
    """Some processes, and the seconds that pass for all of them."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.time = Time()
        self.processes: list[Process] = []

    def process(self, role: Role = Role.WORK, off: timedelta = timedelta(0)) -> Process:
        process = Process(self.house.another(), self.time, role, off)
        self.processes.append(process)
        return process

    def pass_(self, seconds: float, *, without: Process | None = None) -> None:
        """Who has news tells it at once; then, second after second, each looks and beats."""
        for second in range(int(seconds) + 1):
            self.time.pass_(min(second, 1))
            for process in self.processes:
                if process is not without:
                    process.cluster.turn()

    def living(self, seen_by: Process) -> int:
        return len(seen_by.cluster.living)


@pytest.fixture
def province(house: House) -> Province:
    return Province(house)


# ── who lives ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_process_is_on_the_roll_until_it_leaves(province: Province) -> None:
    first, second = province.process(), province.process(Role.SERVE)
    province.pass_(2)
    look = first.nodes.look()
    assert {(node.role, node.host, node.process) for node in look.nodes} == {
        (role, look.nodes[0].host, look.nodes[0].process) for role in (Role.WORK, Role.SERVE)
    }
    assert len({node.id for node in look.nodes}) == 2
    assert province.living(first) == province.living(second) == 2
    second.cluster.stop()
    province.processes.remove(second)
    province.pass_(1)
    assert province.living(first) == 1
    assert len(first.nodes.look().nodes) == 1


def test_a_killed_process_counts_as_gone_after_four_beats(province: Province) -> None:
    first, killed = province.process(), province.process()
    province.pass_(2)
    province.pass_(4 * BEAT - 4, without=killed)
    assert province.living(first) == 2, "it may only be slow"
    province.pass_(5, without=killed)
    assert province.living(first) == 1
    assert len(first.nodes.look().nodes) == 2, "an operator still sees that it was there"
    tidied = province.house.store.write(first.nodes.tidy, first.now(), timedelta(seconds=3 * BEAT))
    assert tidied == 1


def test_a_row_that_was_left_behind_is_nobody(province: Province) -> None:
    province.process()
    province.pass_(1)
    province.processes.clear()
    province.time.pass_(300)
    late = province.process()
    province.pass_(1)
    assert province.living(late) == 1


@pytest.mark.parametrize("off", [timedelta(minutes=10), timedelta(minutes=-10)])
def test_a_clock_that_jumps_makes_nobody_dead(province: Province, off: timedelta) -> None:
    first, second = province.process(), province.process()
    province.pass_(7)
    second.off = off
    province.pass_(30)
    assert province.living(first) == province.living(second) == 2
    second.off = timedelta(0)
    province.pass_(30)
    assert province.living(first) == province.living(second) == 2


def test_rows_that_were_tidied_away_are_written_anew_by_the_living(province: Province) -> None:
    first = province.process()
    province.pass_(1)
    province.house.store.write(first.nodes.tidy, NOON + timedelta(days=1), timedelta(minutes=10))
    assert first.nodes.look().nodes == []
    province.pass_(BEAT + 1)
    assert province.living(first) == 1


# ── limits ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_process_that_is_alone_has_every_place(province: Province) -> None:
    only = province.process()
    assert only.share() == LIMIT
    province.pass_(1)
    only.use()
    province.pass_(1)
    assert only.share() == LIMIT


def test_a_limit_is_divided_among_those_who_call_the_system(province: Province) -> None:
    callers = [province.process() for _ in range(5)]
    idle = province.process(Role.SERVE)
    province.pass_(1)
    for caller in callers:
        caller.use()
    province.pass_(SEEN_SECONDS + 2)
    assert sorted(caller.share() for caller in callers) == [2, 2, 2, 3, 3]
    assert idle.share() == 1, "who begins has a small part until the others know"
    assert idle.share(limit=50) == 5
    assert idle.share(OTHER) == LIMIT // 6, "what nobody calls, all may begin to call at once"
    assert all(caller.share(limit=3) == 1 for caller in callers), "never none: it would never be called from here"


def test_a_system_that_is_not_called_any_more_is_divided_among_the_others(province: Province) -> None:
    first, second = province.process(), province.process()
    province.pass_(1)
    for process in (first, second):
        process.use()
    province.pass_(4)
    assert first.share() == second.share() == LIMIT // 2
    for _ in range(13):
        first.use()
        province.pass_(5)
    assert first.share() == LIMIT


def test_parts_never_add_up_to_more_than_the_limit_and_one_for_each_that_has_just_begun(province: Province) -> None:
    dice = random.Random(7)
    processes = [province.process() for _ in range(4)]
    province.pass_(1)
    calling: set[int] = set()
    changed_at = province.time.seconds
    for _ in range(60):
        if dice.random() < 0.1:
            calling ^= {dice.randrange(len(processes))}
            changed_at = province.time.seconds
        for number in calling:
            processes[number].use()
        province.pass_(1)
        shares = [processes[number].share() for number in calling]
        if province.time.seconds - changed_at > SEEN_SECONDS + 1:
            assert sum(shares) <= LIMIT
        assert sum(shares) <= LIMIT + len(processes)


def test_references_are_held_by_as_many_as_deliver(province: Province) -> None:
    first, second = province.process(), province.process()
    province.process(Role.SERVE)
    province.pass_(2)
    assert first.bulkheads.most_to_hold({ONE: 10, OTHER: 1}) == {ONE: 5, OTHER: 1}
    second.fail()
    province.pass_(1)
    assert first.bulkheads.most_to_hold({ONE: 10, OTHER: 1}) == {OTHER: 1}, "nothing is held of a system that rests"
    province.pass_(REST + 1)
    assert first.bulkheads.most_to_hold({ONE: 10, OTHER: 1}) == {ONE: 1, OTHER: 1}, "one for the probe"


# ── breakers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_breaker_that_opens_anywhere_is_open_everywhere_within_a_second(province: Province) -> None:
    first, second = province.process(), province.process(Role.SERVE)
    province.pass_(1)
    first.fail()
    province.pass_(1)
    assert second.bulkheads.state(ONE) is BreakerState.OPEN
    assert second.bulkheads.free_places(ONE, LIMIT) == 0
    assert second.bulkheads.state(OTHER) is BreakerState.CLOSED


def test_one_process_probes_and_all_close_when_it_succeeds(province: Province) -> None:
    processes = [province.process() for _ in range(3)]
    province.pass_(1)
    processes[0].fail()
    province.pass_(REST + 2)
    free = [process.bulkheads.free_places(ONE, LIMIT) for process in processes]
    assert sorted(free) == [0, 0, 1], "one probe at a time"
    prober = processes[free.index(1)]
    assert prober.bulkheads.try_enter(ONE, LIMIT)
    province.pass_(5)
    assert [process.bulkheads.free_places(ONE, LIMIT) for process in processes] == [0, 0, 0]
    prober.bulkheads.leave(ONE, healthy=True)
    province.pass_(1)
    assert {process.bulkheads.state(ONE) for process in processes} == {BreakerState.CLOSED}
    assert prober.nodes.look().open == {}


def test_a_probe_that_fails_lets_all_rest_again(province: Province) -> None:
    first, second = province.process(), province.process()
    province.pass_(1)
    first.fail()
    province.pass_(REST + 2)
    assert second.bulkheads.try_enter(ONE, LIMIT)
    second.bulkheads.leave(ONE, healthy=False)
    province.pass_(1)
    assert {process.bulkheads.state(ONE) for process in (first, second)} == {BreakerState.OPEN}
    province.pass_(REST - 3)
    assert not first.bulkheads.try_enter(ONE, LIMIT)
    province.pass_(4)
    assert first.bulkheads.try_enter(ONE, LIMIT)


def test_a_probe_that_is_not_made_is_for_another(province: Province) -> None:
    first, second = province.process(), province.process()
    province.pass_(1)
    first.fail()
    province.pass_(REST + 2)
    assert first.bulkheads.free_places(ONE, LIMIT) == 1
    assert second.bulkheads.free_places(ONE, LIMIT) == 0
    province.pass_(4)
    assert second.bulkheads.free_places(ONE, LIMIT) == 1


def test_a_probe_of_a_process_that_was_killed_is_for_another(province: Province) -> None:
    first, killed = province.process(), province.process()
    province.pass_(1)
    first.fail()
    province.pass_(REST + 2)
    assert killed.bulkheads.try_enter(ONE, LIMIT)
    province.pass_(4 * BEAT + 2, without=killed)
    assert first.bulkheads.free_places(ONE, LIMIT) == 1


def test_a_probe_of_a_process_that_left_is_for_another_at_once(province: Province) -> None:
    first, leaving = province.process(), province.process()
    province.pass_(1)
    first.fail()
    province.pass_(REST + 2)
    assert leaving.bulkheads.try_enter(ONE, LIMIT)
    leaving.cluster.stop()
    assert first.bulkheads.free_places(ONE, LIMIT) == 1


def test_what_could_not_be_told_is_told_later(province: Province, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = province.process(), province.process()
    province.pass_(1)
    first.fail()

    def away(*_: object) -> None:
        raise OSError("the store is away")

    monkeypatch.setattr(first.nodes, "beat", away)
    with pytest.raises(OSError, match="away"):
        first.cluster.turn()
    assert first.bulkheads.free_places(ONE, LIMIT) == 0, "its own breaker needs no store"
    monkeypatch.undo()
    province.pass_(1)
    assert second.bulkheads.state(ONE) is BreakerState.OPEN


def test_two_that_open_at_once_agree(province: Province) -> None:
    first, second = province.process(), province.process()
    province.pass_(1)
    first.fail()
    second.fail()
    province.pass_(2)
    assert len(first.nodes.look().open) == 1
    province.pass_(REST + 2)
    assert sorted(process.bulkheads.free_places(ONE, LIMIT) for process in (first, second)) == [0, 1]


def test_a_clock_that_is_wrong_holds_no_probe_for_ever(province: Province) -> None:
    wrong, right = province.process(off=timedelta(days=365)), province.process()
    province.pass_(1)
    wrong.fail()
    province.pass_(REST + 2)
    assert wrong.bulkheads.try_enter(ONE, LIMIT)
    assert right.bulkheads.free_places(ONE, LIMIT) == 1


# ── the threads of it ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_breaker_is_told_at_once_and_seen_within_two_seconds_of_real_time(house: House) -> None:
    seen = threading.Event()
    bulkheads = [Bulkheads(failures_to_open=1, open_seconds=60) for _ in range(2)]
    clusters = [
        Cluster(
            nodes=NodeStore(house.another().store), bulkheads=each, revision="0007", beat_seconds=BEAT, probe_seconds=60
        )
        for each in bulkheads
    ]
    for cluster in clusters:
        cluster.start(Role.WORK)
    try:
        bulkheads[0].enter(ONE)
        bulkheads[0].leave(ONE, healthy=False)
        for _ in range(40):
            if bulkheads[1].state(ONE) is BreakerState.OPEN:
                seen.set()
                break
            threading.Event().wait(0.05)
    finally:
        for cluster in clusters:
            cluster.stop()
    assert seen.is_set()
    assert clusters[0]._nodes.look().nodes == []


# ── duties ────────────────────────────────────────────────────────────────────────────────────────────────────────────

PERIOD = timedelta(seconds=10)


def test_a_duty_is_done_once_a_period_however_many_ask(house: House) -> None:
    stores = [NodeStore(house.another().store) for _ in range(4)]
    done: list[int] = []
    for second in range(30):
        now = NOON + timedelta(seconds=second)
        with ThreadPoolExecutor(4) as pool:
            list(
                pool.map(
                    lambda at, now=now, second=second: stores[at].in_turn(
                        "seal", f"n{at}", now, PERIOD, lambda _: done.append(second)
                    ),
                    range(4),
                )
            )
    assert done == [0, 10, 20]


def test_who_looks_a_little_early_does_not_miss_its_period(house: House) -> None:
    nodes = NodeStore(house.store)
    looks = [NOON + timedelta(seconds=seconds) for seconds in (0, 5, 9.5, 10, 19.5)]
    assert [nodes.once_a_period("alerts", "a", now, 10, lambda _: True) for now in looks] == [
        True, None, True, None, True,
    ]  # fmt: skip


def test_a_duty_that_failed_is_done_by_the_next(house: House) -> None:
    nodes = NodeStore(house.store)

    def fail(_: object) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        nodes.in_turn("tidy", "a", NOON, PERIOD, fail)
    assert nodes.in_turn("tidy", "b", NOON, PERIOD, lambda _: "done") == "done"
    assert nodes.in_turn("tidy", "b", NOON, PERIOD, lambda _: "again") is None
    assert nodes.in_turn("other", "b", NOON, PERIOD, lambda _: "done") == "done"


def test_a_clock_that_was_ahead_stops_no_duty(house: House) -> None:
    nodes = NodeStore(house.store)
    assert nodes.in_turn("seal", "ahead", NOON + timedelta(minutes=10), PERIOD, lambda _: 1) == 1
    assert nodes.in_turn("seal", "right", NOON, PERIOD, lambda _: 2) == 2


def test_many_sealers_grow_one_tree(house: House) -> None:
    """Each seals as if it were alone: the log itself sees to it that checkpoints do not fork."""
    houses = [house.another() for _ in range(4)]
    stop = threading.Event()
    errors: list[Exception] = []

    def seal(mine: House) -> None:
        while not stop.is_set():
            try:
                mine.store.write(mine.log.seal, NOON)
            except Exception as error:
                errors.append(error)

    sealers = [threading.Thread(target=seal, args=(mine,)) for mine in houses]
    for sealer in sealers:
        sealer.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda at: houses[at % 4].record(), range(120)))
    stop.set()
    for sealer in sealers:
        sealer.join()
    house.store.write(house.log.seal, NOON)
    assert errors == []
    assert house.rows("evidence_checkpoints") >= 1
    with house.store.reading() as connection:
        audit = house.log.verify_all(connection)
        assert house.log.standing(connection).sealed == 120
    assert audit.faults == ()
    assert audit.leaves == 120


def test_a_lease_that_ran_out_is_given_back_once_however_many_look(house: House) -> None:
    houses = [house.another() for _ in range(4)]
    for _ in range(10):
        house.record()
    assert len(house.claim()) == 10
    late = NOON + timedelta(minutes=10)
    with ThreadPoolExecutor(4) as pool:
        released = list(pool.map(lambda each: each.ledger.release_stalled(late), houses))
    assert sum(released) == 10
    assert house.rows("attempts") == 10
    assert len(house.claim(late)) == 10


# ── proofs that count once ────────────────────────────────────────────────────────────────────────────────────────────

END = NOON + timedelta(minutes=5)


def test_a_proof_counts_once_whichever_process_is_shown_it(house: House) -> None:
    other = house.another()
    assert house.ledger.use_proof(b"a" * 32, END)
    assert not house.ledger.use_proof(b"a" * 32, END)
    assert not other.ledger.use_proof(b"a" * 32, END)
    assert other.ledger.use_proof(b"b" * 32, END)


def test_of_many_who_show_a_proof_at_once_one_is_first(house: House) -> None:
    ledgers = [house.ledger, house.another().ledger, house.another().ledger]
    proofs = [bytes([number]) * 32 for number in range(6)]
    shown = [(ledger, proof) for proof in proofs for ledger in ledgers for _ in range(4)]
    random.Random(1).shuffle(shown)
    with ThreadPoolExecutor(16) as pool:
        first = list(pool.map(lambda each: each[0].use_proof(each[1], END), shown))
    assert sum(first) == len(proofs)
    assert {proof for (_, proof), was in zip(shown, first, strict=True) if was} == set(proofs)


def test_a_use_that_is_written_twice_is_one(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that breaks at the commit leaves open whether it was written; it is written again."""
    write = house.store.write

    def broken(*arguments: object) -> object:
        monkeypatch.undo()
        write(*arguments)  # type: ignore[arg-type]
        raise ConnectionResetError

    monkeypatch.setattr(house.store, "write", broken)
    with pytest.raises(ConnectionResetError):
        house.ledger.use_proof(b"c" * 32, END)  # alone in its group: nobody knows, and it does not count
    uses = [_use(b"d" * 32, "one"), _use(b"e" * 32, "two")]
    for _ in range(2):
        assert write(house.ledger._write_in, uses).answers(2) == [True, True]
    assert write(house.ledger._write_in, [_use(b"d" * 32, "three")]).answers(1) == [False]


def _use(proof: bytes, use: str) -> object:
    from bus.records import ProofUse

    return ProofUse(proof=proof.hex(), expires_at=END, use=use)


def test_expired_proofs_are_tidied_away_and_others_kept(house: House) -> None:
    house.ledger.use_proof(b"f" * 32, NOON)
    house.ledger.use_proof(b"g" * 32, END)
    nodes = NodeStore(house.store)
    assert house.store.write(nodes.tidy, NOON + timedelta(seconds=1), timedelta(minutes=10)) == 1
    assert house.rows("used_proofs") == 1
    assert not house.ledger.use_proof(b"g" * 32, END)


# ── quotas ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_SENDER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from bus.quotas import QuotaMeter
from schemas.identifiers import SystemCode
from security.evidence.checkpoint import NoteKey
from security.keys import KeyRing
from tests.ledger_house import House, NOON
from registry.model import Grant, Quota
from registry.access import Usage
from bus.quotas import quota_periods
from schemas.identifiers import AgencyCode, ServiceCode

url, folder, limit, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
house = House(store_url=url, ring=KeyRing.open_or_create(folder / "ring", SystemCode("H99/lgsp-bus")),
              log_key=NoteKey.load(folder / "log.pem", "test.invalid/log"))
grant = Grant(id="g", service=ServiceCode("dossier.transfer"), grantee=AgencyCode("H99.15"), quota=Quota(per_day=limit))
meter = QuotaMeter(house.ledger.quota_used)
periods = quota_periods(grant, NOON)
print("ready", flush=True)
sys.stdin.readline()

def send(_):
    passed = 0
    for _ in range(limit):
        if meter.usage(grant, NOON).today >= limit:
            break
        meter.count(periods)
        meter.learn(house.record(quota_periods=periods).quota_used)
        passed += 1
    return passed

with ThreadPoolExecutor(threads) as pool:
    print(sum(pool.map(send, range(threads))))
house.close()
"""


def test_two_processes_together_keep_a_quota(house: House, tmp_path: Path, keys: tuple[KeyRing, NoteKey]) -> None:
    limit, threads = 60, 4
    folder = tmp_path / "shared"
    folder.mkdir()
    NoteKey.load_or_create(folder / "log.pem", "test.invalid/log")
    KeyRing.open_or_create(folder / "ring", SystemCode("H99/lgsp-bus"))
    senders = [
        subprocess.Popen(
            [sys.executable, "-c", _SENDER, house.store_url, str(folder), str(limit), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parent.parent,
        )
        for _ in range(2)
    ]
    for sender in senders:
        assert sender.stdout is not None
        assert sender.stdout.readline() == "ready\n"
    outputs = [sender.communicate("go\n", timeout=60)[0] for sender in senders]
    passed = sum(int(output) for output in outputs)
    assert limit <= passed <= limit + 2 * threads, "as many as were in flight, no more"
    assert house.ledger.quota_used("g", "2026-11-21") == passed == house.rows("exchanges")


def test_a_node_row_survives_what_a_store_makes_of_it(house: House) -> None:
    nodes = NodeStore(house.store)
    node = NodeRecord(
        id="n", role=Role.SERVE, host="máy-chủ", process=2**40, version="0.1.0", revision="0007", started_at=NOON,
        beat_at=NOON, beats=1, uses=frozenset({ONE, OTHER}),
    )  # fmt: skip
    nodes.beat(node, BreakerNews())
    assert nodes.look().nodes == [node]
