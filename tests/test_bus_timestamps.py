"""The duty of timestamps: an authority outside says since when the log is so, and no message waits for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
import structlog
from click.testing import CliRunner

from benchmarks.certificates import new_root
from benchmarks.timestamp_authority import AuthorityMissing, TimestampServer
from bus.assembly import Bus, open_bus
from bus.bundles import bundle_of, trust_of
from bus.cli import lgsp
from bus.cli.doctor import _stamping
from bus.logs import no_logs
from bus.settings import BadSetting, Settings, load_settings
from bus.store import Store
from bus.timestamps import LONGEST_PAUSE_PERIODS, Stamping, timestamp_trust
from bus.worker import Worker
from schemas.identifiers import MessageId
from schemas.message import Envelope
from schemas.moment import utc_now
from security.verifier import Trust, canonical_json, verify_bundle
from tests.backed_up import back_up, bring_back, place
from tests.bus_world import World, ask, bus_world, delivering
from tests.loopback import closed_port, saying, serving
from tests.postgresql import PrivateServer, private_postgresql
from tests.processes import until

pytestmark = pytest.mark.service
VERIFIER = Path(__file__).resolve().parent.parent / "security" / "verifier.py"
PERIOD = 60.0


@pytest.fixture(scope="module")
def postgresql(missing_service: Callable[[str], NoReturn]) -> Iterator[PrivateServer]:
    with private_postgresql(missing_service) as server:
        yield server


@pytest.fixture
def authority(tmp_path: Path, missing_service: Callable[[str], NoReturn]) -> Iterator[TimestampServer]:
    try:
        server = TimestampServer(tmp_path / "tsa")
    except AuthorityMissing as reason:
        missing_service(str(reason))
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path, authority: TimestampServer) -> Iterator[World]:
    with made(tmp_path, authority, **on(request)) as world:
        yield world


def on(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.param == "sqlite":
        return {}
    server: PrivateServer = request.getfixturevalue("postgresql")
    return {"store_url": server.url(server.new_database())}


def made(folder: Path, authority: TimestampServer, **settings: object) -> Any:
    facts: dict[str, Any] = {"timestamp_url": authority.url, "timestamp_authority": authority.roots_file, **settings}
    return bus_world(folder, **facts)


@dataclass
class Node:
    """One process's part in the duty, with a time of its own."""

    bus: Bus
    seconds: float = 0.0
    stamping: Stamping = field(init=False)

    def __post_init__(self) -> None:
        trust = timestamp_trust(self.bus.settings)
        assert trust is not None
        self.stamping = Stamping(self.bus, trust, answer_seconds=1.0, monotonic=lambda: self.seconds)

    def turn(self, now: datetime) -> int | None:
        """The size that has a timestamp now."""
        checkpoint = self.stamping.stamp_in_turn(now)
        return None if checkpoint is None else checkpoint.size


def accepted(world: World, count: int = 1) -> list[MessageId]:
    """Through the front door, and sealed."""
    ids = []
    for _ in range(count):
        signed = world.signed()
        headers = {name.lower(): value for name, value in signed.headers.items()}
        envelope = Envelope(
            body=signed.body,
            content_type=headers["content-type"],
            headers=headers,
            received_at=utc_now(),
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        ids.append(world.bus.intake.accept(envelope).message.manifest.message_id)
    world.bus.seal_evidence(utc_now())
    return ids


def bundle(world: World, message_id: MessageId) -> bytes:
    record = world.bus.ledger.find(message_id)
    assert record is not None
    return bundle_of(world.bus, record)


def stamped(world: World) -> int:
    with world.bus.store.reading() as connection:
        return world.bus.log.stamp_standing(connection).stamped


def waits(world: World) -> bool:
    with world.bus.store.reading() as connection:
        return world.bus.log.stamp_standing(connection).waiting_since is not None


# ── what it is for ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_bundle_proves_since_when_by_the_first_timestamp_that_covers_it(world: World, tmp_path: Path) -> None:
    now, node = utc_now(), Node(world.bus)
    [first] = accepted(world)
    trust = Trust.read(trust_of(world.bus))
    assert verify_bundle(bundle(world, first), trust).findings[-2:] == ("timestamp-missing", "body-not-checked")
    assert node.turn(now) == 1
    [second] = accepted(world)
    assert node.turn(now + timedelta(seconds=PERIOD)) == 2
    [third] = accepted(world)
    verdicts = [verify_bundle(bundle(world, each), trust) for each in (first, second, third)]
    assert [verdict.holds for verdict in verdicts] == [True, True, True]
    assert [verdict.findings[-2] for verdict in verdicts] == ["timestamp-holds", "timestamp-holds", "timestamp-missing"]
    assert [verdict.facts["log_size"] for verdict in verdicts] == [1, 2, 3]
    told = verdicts[0].facts["timestamp"]
    assert told["authority"] == "CN=TSA mau"
    assert abs(datetime.fromisoformat(told["at"]) - now) < timedelta(seconds=20)
    believing_nobody = Trust.read(json.dumps(json.loads(trust_of(world.bus)) | {"timestamp_authorities": []}).encode())
    assert verify_bundle(bundle(world, first), believing_nobody).findings[-2] == "timestamp-not-checked"
    others = believing_nobody.believing(new_root("CA khac").pem)
    assert verify_bundle(bundle(world, first), others).findings[-1] == "timestamp-not-from-authority"


def test_a_timestamp_of_another_bundle_is_none_of_this_one(world: World) -> None:
    now, node = utc_now(), Node(world.bus)
    [first] = accepted(world)
    node.turn(now)
    [second] = accepted(world)
    node.turn(now + timedelta(seconds=PERIOD))
    trust = Trust.read(trust_of(world.bus))
    theirs, ours = (json.loads(bundle(world, each)) for each in (first, second))
    for changed in (ours | {"timestamp": theirs["timestamp"]}, ours | {"timestamp": ours["timestamp"][:-4]}):
        assert verify_bundle(canonical_json(changed), trust).findings[-1] == "timestamp-wrong"
    assert verify_bundle(canonical_json(ours | {"timestamp": 7}), trust).findings[-1] == "timestamp-wrong"


def test_anybody_verifies_it_offline_and_by_the_command(tmp_path: Path, authority: TimestampServer) -> None:
    with no_logs(), made(tmp_path, authority) as world:
        [message_id] = accepted(world)
        Node(world.bus).turn(utc_now())
        proof, trust = tmp_path / "proof.json", tmp_path / "trust.json"
        proof.write_bytes(bundle(world, message_id))
        bare = json.loads(trust_of(world.bus))
        assert bare.pop("timestamp_authorities") == [authority.root.pem.decode()]
        trust.write_text(json.dumps(bare))
        files = [str(proof), "--trust", str(trust)]
        for roots, code, said in (
            ([], 0, "who gave it was not checked"),
            (["--timestamp-authority", str(authority.roots_file)], 0, "has confirmed when"),
        ):
            command = [sys.executable, "-I", str(VERIFIER), *files, *roots, "--language", "en"]
            offline = subprocess.run(command, capture_output=True, text=True)
            online = CliRunner().invoke(lgsp, ["evidence", "verify", *files, *roots], env={"LANG": "en_GB.UTF-8"})
            assert (offline.returncode, online.exit_code) == (code, code), offline.stdout + online.output
            assert said in offline.stdout
            assert said in online.output
        assert "CN=TSA mau" in online.output
        trust.write_text("no roots")
        spoilt = CliRunner().invoke(
            lgsp, ["evidence", "verify", str(proof), "--trust", str(proof), "--timestamp-authority", str(trust)]
        )
        assert spoilt.exit_code == 2


# ── whose turn it is ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def another(world: World) -> Iterator[Bus]:
    """The same bus in another process, as far as the store can tell."""
    bus = open_bus(world.settings)
    yield bus
    bus.close()


def test_of_several_nodes_one_asks_in_a_period(world: World, another: Bus, authority: TimestampServer) -> None:
    now, nodes = utc_now(), [Node(world.bus), Node(another)]
    accepted(world, 3)
    assert [node.turn(now) for node in nodes] == [3, None]
    accepted(world)
    assert [node.turn(now + timedelta(seconds=1)) for node in nodes] == [None, None]
    assert [node.turn(now + timedelta(seconds=PERIOD)) for node in reversed(nodes)] == [4, None]
    assert authority.asked == 2


def test_nothing_new_is_no_question(world: World, authority: TimestampServer) -> None:
    now, node = utc_now(), Node(world.bus)
    assert node.turn(now) is None
    accepted(world)
    assert [node.turn(now + timedelta(seconds=PERIOD * turn)) for turn in range(3)] == [1, None, None]
    assert authority.asked == 1


def test_the_first_of_two_answers_is_kept(world: World) -> None:
    accepted(world)
    Node(world.bus).turn(utc_now())
    with world.bus.store.reading() as connection:
        held = world.bus.log.stamped_checkpoint(connection, 0)
    assert world.bus.store.write(world.bus.log.keep_timestamp, 1, b"later", utc_now()) is False
    with world.bus.store.reading() as connection:
        assert world.bus.log.stamped_checkpoint(connection, 0) == held


def test_the_store_waits_for_no_authority(world: World, tmp_path: Path) -> None:
    """While an authority thinks, others write: no transaction is open across the network."""
    written: list[MessageId] = []

    def thinking(environ: dict[str, Any], start: Any) -> list[bytes]:
        written.extend(accepted(world))
        start("503 Busy", [])
        return []

    accepted(world)
    with serving(thinking) as slow:
        node = Node(world.bus)
        node.stamping._urls = [slow.url]
        node.stamping._answer_seconds = 5.0
        assert node.turn(utc_now()) is None
        assert len(written) == 1  # when it answered, not once it was given up


# ── when the authority fails ──────────────────────────────────────────────────────────────────────────────────────────


def _answer(status: str, body: bytes, **headers: str) -> Callable[..., Any]:
    def application(environ: dict[str, Any], start: Any) -> list[bytes]:
        start(status, [("Content-Type", "application/timestamp-reply"), *headers.items()])
        return [body]

    return application


#: What an authority does, and the reason that is logged.
FAILURES: dict[str, tuple[Callable[[TimestampServer], Any], str]] = {
    "garbage": (lambda _: serving(_answer("200 OK", b"\x30\x03\x02\x01")), "timestamp-unreadable"),
    "nothing": (lambda _: serving(_answer("200 OK", b"")), "timestamp-unreadable"),
    "a huge answer": (lambda _: serving(_answer("200 OK", b"0" * 5_000_000)), "reply-too-large"),
    "elsewhere": (lambda a: serving(_answer("302 Found", b"", Location=a.url)), "provider-redirected"),
    "an error": (lambda _: serving(_answer("500 Broken", b"at line 1")), "provider-busy"),
    "not for you": (lambda _: serving(_answer("403 Forbidden", b"")), "provider-refused"),
    "no end": (lambda _: saying([b"HTTP/1.1 200 OK\r\n", b"X: "], keep_open=True), "provider-timed-out"),
    "no HTTP": (lambda _: saying([b"220 mail ready\r\n"]), "reply-not-readable"),
    "half of it": (lambda _: saying([b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n0\x82"]), "provider-broke-off"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_an_authority_that_fails_is_told_of_and_the_next_one_is_asked(
    tmp_path: Path, authority: TimestampServer, failure: str
) -> None:
    behave, reason = FAILURES[failure]
    with behave(authority) as broken:
        url = broken if isinstance(broken, str) else broken.url
        with made(tmp_path, authority, timestamp_url=f"{url}/tsa, {authority.url}") as world:
            accepted(world)
            node = Node(world.bus)
            with structlog.testing.capture_logs() as lines:
                assert node.turn(utc_now()) == 1
    failed = [line for line in lines if line["event"] == "timestamp.failed"]
    assert [(line["reason"], line["authority"]) for line in failed] == [(reason, "127.0.0.1")]
    assert authority.asked == 1
    assert node.stamping._urls[0] == authority.url  # the one that answers is asked first from now on


def test_an_authority_that_is_not_the_one_we_believe_is_not_kept(tmp_path: Path, authority: TimestampServer) -> None:
    other = TimestampServer(tmp_path / "other")
    with made(tmp_path, authority, timestamp_authority=other.roots_file) as world:
        accepted(world)
        with structlog.testing.capture_logs() as lines:
            assert Node(world.bus).turn(utc_now()) is None
        assert [line["reason"] for line in lines if line["event"] == "timestamp.failed"] == ["timestamp-untrusted"]
        assert stamped(world) == 0


def test_an_authority_that_is_away_is_asked_ever_more_rarely_and_missed_stamps_are_made_up_for(
    world: World, authority: TimestampServer
) -> None:
    node, begun = Node(world.bus), utc_now()
    authority.stop()
    asked: list[int] = []

    def go_on(periods: int) -> None:
        for _ in range(periods):
            now = begun + timedelta(seconds=node.seconds)
            with structlog.testing.capture_logs() as lines:
                node.turn(now)
            asked.extend([round(node.seconds / PERIOD)] * len(lines))
            node.seconds += PERIOD

    first = accepted(world)
    go_on(25)
    # After 1, 2, 4 periods, and then every eight.
    assert asked == [0, 1, 3, 7, 15, 23]
    assert LONGEST_PAUSE_PERIODS == 8
    accepted(world)  # nobody who sends has noticed
    authority.start()
    go_on(9)
    assert stamped(world) == 2
    assert verify_bundle(bundle(world, first[0]), Trust.read(trust_of(world.bus))).findings[-2] == "timestamp-holds"
    accepted(world)
    go_on(1)
    assert stamped(world) == 3


def test_lgsp_work_stamps_while_it_delivers_and_outlives_the_authority(
    tmp_path: Path, authority: TimestampServer
) -> None:
    quick = {"timestamp_seconds": 0.05, "checkpoint_seconds": 0.05}
    with made(tmp_path, authority, **quick) as world, no_logs(), delivering(world.bus):
        accepted(world)
        assert until(lambda: stamped(world) == 1)
        authority.stop()
        accepted(world)
        assert until(lambda: waits(world))
        authority.start()
        accepted(world)
        assert until(lambda: stamped(world) == 3)


def test_a_worker_without_an_authority_asks_nobody(tmp_path: Path) -> None:
    with bus_world(tmp_path) as world:
        worker = Worker(world.bus)
        assert worker._stamping is None
        assert Stamping.of(world.bus) is None
        worker._broker.close()
        assert "timestamp_authorities" not in json.loads(trust_of(world.bus))


# ── who looks after it ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_age_is_told_and_doctor_says_when_it_is_too_high(tmp_path: Path, authority: TimestampServer) -> None:
    def told(url: str) -> dict[str, float]:
        lines = [line for line in ask("GET", f"{url}/metrics").body.decode().splitlines() if line[:1] != "#"]
        return {name: float(value) for name, value in (line.split(" ") for line in lines if "stamp" in line[:30])}

    with no_logs(), made(tmp_path, authority) as world, world.serving() as url:
        assert told(url) == {"lgsp_evidence_unstamped_seconds": 0.0}
        accepted(world)
        world.bus.seal_evidence(utc_now())
        _age(world.bus.store, "evidence_checkpoints", "created_at", seconds=1000)
        assert 1000 <= told(url)["lgsp_evidence_unstamped_seconds"] < 1030
        assert _stamping(world.bus).state == "look"
        Node(world.bus).turn(utc_now())
        assert told(url)["lgsp_evidence_unstamped_seconds"] == 0.0
        assert -1 <= told(url)["lgsp_timestamp_age_seconds"] < 20
        assert _stamping(world.bus).words.startswith("last timestamp")


def _age(store: Store, table: str, column: str, *, seconds: int) -> None:
    with store.writing() as connection:
        connection.exec_driver_sql(f"UPDATE {table} SET {column} = {column} - {seconds * 1_000_000}")  # noqa: S608


@pytest.mark.parametrize("changed", ["X'00'", "(SELECT token FROM evidence_timestamps WHERE size = 1)"])
def test_a_changed_token_is_found(tmp_path: Path, authority: TimestampServer, changed: str) -> None:
    with no_logs(), made(tmp_path, authority) as world:
        node, now = Node(world.bus), utc_now()
        for turn in range(2):
            accepted(world)
            node.turn(now + timedelta(seconds=PERIOD * turn))
        command = ["--home", str(world.settings.home), "evidence", "log-verify"]
        assert CliRunner().invoke(lgsp, command).exit_code == 0
        with world.bus.store.writing() as connection:
            connection.exec_driver_sql(f"UPDATE evidence_timestamps SET token = {changed} WHERE size = 2")  # noqa: S608
        broken = CliRunner().invoke(lgsp, command)
        assert (broken.exit_code, "timestamp 2" in broken.output) == (1, True)


def test_a_backup_brings_timestamps_back(world: World, tmp_path: Path) -> None:
    [message_id] = accepted(world)
    Node(world.bus).turn(utc_now())
    proof = bundle(world, message_id)
    assert "timestamp" in json.loads(proof)
    back_up(world, tmp_path / "backup")
    facts = {"timestamp_url": world.settings.timestamp_url, "timestamp_authority": world.settings.timestamp_authority}
    settings = place(tmp_path / "new", **facts)
    bring_back(tmp_path / "backup", settings)
    restored = open_bus(settings)
    try:
        assert bundle(World(settings=settings, bus=restored, environment={}), message_id) == proof
    finally:
        restored.close()


@pytest.mark.parametrize(
    "variables, named",
    [
        ({"LGSP_TIMESTAMP_URL": "ftp://tsa.invalid"}, "LGSP_TIMESTAMP_URL"),
        ({"LGSP_TIMESTAMP_URL": "http://a.invalid, b.invalid"}, "LGSP_TIMESTAMP_URL"),
        ({"LGSP_TIMESTAMP_URL": "http://tsa.invalid"}, "LGSP_TIMESTAMP_AUTHORITY"),
        ({"LGSP_TIMESTAMP_POLICY": "any"}, "LGSP_TIMESTAMP_POLICY"),
        ({"LGSP_TIMESTAMP_POLICY": "1.02.3"}, "LGSP_TIMESTAMP_POLICY"),
        ({"LGSP_TIMESTAMP_SECONDS": "0"}, "LGSP_TIMESTAMP_SECONDS"),
    ],
)
def test_a_setting_that_cannot_work_stops_the_start(variables: dict[str, str], named: str) -> None:
    with pytest.raises(BadSetting, match=named):
        load_settings(environ=variables)


def test_settings_that_can_are_taken() -> None:
    settings: Settings = load_settings(
        environ={
            "LGSP_TIMESTAMP_URL": " http://a.invalid/tsa ,https://b.invalid,",
            "LGSP_TIMESTAMP_AUTHORITY": "roots.pem",
            "LGSP_TIMESTAMP_POLICY": "1.3.6.1.4.1.99999.1",
        }
    )
    assert settings.timestamp_urls == ("http://a.invalid/tsa", "https://b.invalid")


def test_roots_that_are_not_there_are_said_before_work_begins(tmp_path: Path) -> None:
    with no_logs(), bus_world(tmp_path) as world:
        variables = {
            "LGSP_TIMESTAMP_URL": f"http://127.0.0.1:{closed_port()}",
            "LGSP_TIMESTAMP_AUTHORITY": str(tmp_path / "none.pem"),
        }
        said = CliRunner().invoke(lgsp, ["--home", str(world.settings.home), "work"], env=variables)
        assert (said.exit_code, "LGSP_TIMESTAMP_AUTHORITY" in said.output) == (2, True), said.output
