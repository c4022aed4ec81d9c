"""The faults, one small function each, and the table of them all."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pika

from benchmarks.dying_process import PUBLISH, SERVE, WORK, mark
from benchmarks.faults_line import Line
from benchmarks.faults_servers import QUEUE, FalseClock, Servers, Skipped, new_postgresql, small_disk, with_standby
from benchmarks.faults_stand import Load, Outcome, Sent, Stand, audit, without_timestamp
from benchmarks.timestamp_authority import AuthorityMissing, TimestampServer
from registry.model import RetryPolicy

EMBEDDED, PRODUCTION = "embedded", "production"
BOTH: Final = (EMBEDDED, PRODUCTION)
#: Ten minutes of outage in ten seconds: waits between attempts and the breaker's rest are as much shorter.
COMPRESSED: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where a fault is played: one mode, a folder of its own, and so many messages."""

    folder: Path
    mode: str
    servers: Servers
    messages: int
    #: What the time of sending is multiplied with: under 1, more messages a second.
    haste: float = 1.0
    #: How many processes are killed where a row kills them at a step.
    kills: int = 3

    def stand(self, **facts: Any) -> Stand:
        """A bus: one node of everything on SQLite, or two of each on PostgreSQL and RabbitMQ."""
        if self.mode == PRODUCTION and "servers" not in facts:
            facts["servers"] = self.servers.variables()
        return Stand(folder=self.folder, **{"nodes": 1 if self.mode == EMBEDDED else 2, **facts})


@contextmanager
def _under_load(scene: Scene, stand: Stand, *, seconds: float, **facts: Any) -> Iterator[Load]:
    """Inside, a quarter of the messages are on their way; afterwards all have been accepted."""
    load = Load(stand, **{"count": scene.messages, "seconds": seconds * scene.haste, **facts}).start()
    load.wait_until(0.25)
    yield load
    load.join()


# ── the processes ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _killed_at(step: str, scene: Scene) -> Outcome:
    """Some messages kill whoever has them at this step; each is repeated, or taken over."""
    questions = step.startswith("call")
    count = scene.messages // 3 if questions else scene.messages
    marks = {count * place // (scene.kills + 1): mark(step, place) for place in range(1, scene.kills + 1)}
    with scene.stand() as stand:
        load = Load(stand, count=count, seconds=6 * scene.haste, marks=marks, questions=questions).start()
        load.join()
        outcome = audit(stand, load)
        killed = len(stand.kill_marks_met())
    if killed != len(marks):
        complaint = f"{killed} of {len(marks)} processes were killed at their step"
        return replace(outcome, complaints=[*outcome.complaints, complaint])
    return outcome


def _killed_at_random(scene: Scene) -> Outcome:
    dice = random.Random(2026)
    with scene.stand() as stand:
        load = Load(stand, count=scene.messages * 2, seconds=20 * scene.haste).start()
        while load.is_sending:
            time.sleep(dice.uniform(0.3, 2.0))
            dice.choice([*stand.serves, *stand.works]).kill()
            stand.ended()
        load.join()
        return audit(stand, load)


def _rolling_restart(scene: Scene) -> Outcome:
    with scene.stand(nodes=2) as stand:
        with _under_load(scene, stand, seconds=14) as load:
            for program in (*stand.serves, *stand.works):
                program.stop()
                program.start()
                if program.port:
                    program.ready()
                stand.ended()
                time.sleep(1.0)
        return audit(stand, load)


# ── RabbitMQ ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _rabbitmq_killed(scene: Scene) -> Outcome:
    """The node that leads the receiver's queue; it comes back at the end."""
    cluster = scene.servers.rabbitmq
    with scene.stand() as stand:
        with _under_load(scene, stand, seconds=12) as load:
            queue = cluster.queues()[QUEUE]
            if len(queue["members"]) != len(cluster.nodes):
                raise RuntimeError(f"the queue has {len(queue['members'])} members")
            next(node for node in cluster.nodes if node.name == queue["leader"]).kill()
            stand.ended()
            load.wait_until(0.75)
            cluster.start()
        return audit(stand, load)


def _rabbitmq_all_killed(scene: Scene) -> Outcome:
    cluster = scene.servers.rabbitmq
    with scene.stand() as stand:
        with _under_load(scene, stand, seconds=20) as load:
            for node in cluster.nodes:
                node.kill()
            time.sleep(2)
            cluster.start()
            stand.ended()
        return audit(stand, load)


def _rabbitmq_restarted(scene: Scene) -> Outcome:
    """One node after the other, in an orderly way, as an upgrade does."""
    cluster = scene.servers.rabbitmq
    with scene.stand() as stand:
        with _under_load(scene, stand, seconds=30) as load:
            for node in cluster.nodes:
                node.stop()
                node.start(ready_within_seconds=120)
                stand.ended()
        return audit(stand, load)


def _rabbitmq_blocked(scene: Scene) -> Outcome:
    """The memory alarm of one node: the whole cluster takes no messages."""
    node = scene.servers.rabbitmq.nodes[0]
    with scene.stand() as stand:
        with _under_load(scene, stand, seconds=12) as load:
            node.control("set_vm_memory_high_watermark", "0.00001")
            try:
                load.wait_until(0.75)
            finally:
                node.control("set_vm_memory_high_watermark", "0.4")
            stand.ended()
        return audit(stand, load)


def _on_the_line(party: str, break_it: Callable[[list[Line], Load], None], seconds: float, scene: Scene) -> Outcome:
    """The network between the bus and its brokers, or its store."""
    servers = scene.servers
    ports = [node.port for node in servers.rabbitmq.nodes] if party == "rabbitmq" else [servers.postgresql.port]
    with ExitStack() as stack:
        lines = [Line([port]) for port in ports]
        for line in lines:
            stack.callback(line.close)
        over = {"brokers": lines} if party == "rabbitmq" else {"store": lines[0]}
        stand = stack.enter_context(scene.stand(servers=servers.variables(**over)))
        with _under_load(scene, stand, seconds=seconds) as load:
            break_it(lines, load)
            for line in lines:
                line.mend()
            stand.ended()
        return audit(stand, load)


def _cut(lines: list[Line], load: Load) -> None:
    for line in lines:
        line.cut()
    load.wait_until(0.75)


def _stall(lines: list[Line], load: Load) -> None:
    for line in lines:
        line.stall()
    load.wait_until(0.9)


def _reset_often(lines: list[Line], _load: Load) -> None:
    for _ in range(12):
        for line in lines:
            line.reset()
        time.sleep(0.5)


# ── PostgreSQL ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _postgresql_killed(scene: Scene) -> Outcome:
    server = scene.servers.postgresql
    with scene.stand() as stand:
        with _under_load(scene, stand, seconds=12) as load:
            for _ in range(2):
                server.kill()
                time.sleep(1)
                server.start()
                stand.ended()
                time.sleep(2)
        return audit(stand, load)


def _postgresql_failed_over(scene: Scene) -> Outcome:
    """The server is gone for good; its synchronous standby takes its place."""
    with ExitStack() as stack:
        first = new_postgresql(scene.folder / "first")
        stack.callback(first.stop)
        database = first.new_database()
        second = first.standby(scene.folder / "second")
        stack.callback(second.stop)
        variables = {**scene.servers.variables(), "LGSP_STORE_URL": with_standby(first, second, database)}
        stand = stack.enter_context(scene.stand(servers=variables))
        with _under_load(scene, stand, seconds=12) as load:
            first.kill()
            time.sleep(2)
            second.promote()
            stand.ended()
        return audit(stand, load)


def _postgresql_connections(scene: Scene) -> Outcome:
    """All sessions are ended by the server, in the middle of what they do, again and again."""
    server = scene.servers.postgresql
    with scene.stand() as stand:
        with _under_load(scene, stand, seconds=12) as load:
            for _ in range(12):
                server.break_connections()
                stand.ended()
                time.sleep(0.5)
        return audit(stand, load)


def _postgresql_disk_full(scene: Scene) -> Outcome:
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(scene.folder, 128))
        server = new_postgresql(scene.folder / "server", data=disk.place / "data")
        stack.callback(server.stop)
        variables = {**scene.servers.variables(), "LGSP_STORE_URL": server.url(server.new_database())}
        stand = stack.enter_context(scene.stand(servers=variables))
        with _under_load(scene, stand, seconds=14) as load:
            disk.fill()
            load.wait_until(0.75)
            disk.make_room()
            if not server.is_running:  # it ends itself when it can no longer write its log
                server.start()
            stand.ended()
        return audit(stand, load)


# ── disks and clocks ──────────────────────────────────────────────────────────────────────────────────────────────────


def _sqlite_disk_full(scene: Scene) -> Outcome:
    with small_disk(scene.folder, 64) as disk, scene.stand(home=disk.place / "home") as stand:
        with _under_load(scene, stand, seconds=14) as load:
            disk.fill()
            load.wait_until(0.75)
            disk.make_room()
            stand.ended()
        return audit(stand, load)


def _attachments_disk_full(scene: Scene) -> Outcome:
    """Every message brings a file of 40 KB; the home folder, where files go, is a small disk."""
    with small_disk(scene.folder, 64) as disk, scene.stand(home=disk.place / "home") as stand:
        files = scene.folder / "files"
        files.mkdir()
        count = scene.messages // 2
        with _under_load(scene, stand, seconds=14, count=count, attachment=partial(_file, files)) as load:
            disk.fill()
            load.wait_until(0.75)
            disk.make_room()
            stand.ended()
        outcome = audit(stand, load)
        wrong = [path.name for path in (stand.home / "attachments").glob("??/*") if not _is_whole(path)]
        stored = len(list((stand.home / "attachments").glob("??/*")))
        if stored != count or wrong:
            complaint = f"{stored} of {count} files are stored, {len(wrong)} of them broken"
            return replace(outcome, complaints=[*outcome.complaints, complaint])
        return outcome


def _file(folder: Path, serial: int) -> Path:
    path = folder / f"{serial}.bin"
    path.write_bytes(random.Random(serial).randbytes(40_000))
    return path


def _is_whole(path: Path) -> bool:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def _clock_jumps(seconds: int, scene: Scene) -> Outcome:
    """The clock of one node is set wrong, and right again six seconds later. In production the other node is right."""
    scene.folder.mkdir(parents=True, exist_ok=True)
    clock = FalseClock(scene.folder)
    with scene.stand(last_node_environment=clock.variables) as stand:
        with _under_load(scene, stand, seconds=14) as load:
            clock.jump(seconds)
            load.wait_until(0.7)
            clock.jump(0)
            stand.ended()
        return audit(stand, load)


# ── the receiver ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _receiver_down(scene: Scene) -> Outcome:
    """The bus's own waiting times, divided by COMPRESSED, as is the outage."""
    retry = RetryPolicy(first_delay_seconds=2.0 / COMPRESSED, max_delay_seconds=4 * 3600.0 / COMPRESSED)
    environment = {"LGSP_BREAKER_OPEN_SECONDS": str(15 / COMPRESSED)}
    with scene.stand(retry=retry, environment=environment) as stand:
        with _under_load(scene, stand, seconds=14) as load:
            stand.receiver.stop()
            time.sleep(600 / COMPRESSED)
            stand.receiver.start()
            stand.receiver.ready()
            stand.ended()
        return audit(stand, load)


def _receiver_behaves(how: str, scene: Scene) -> Outcome:
    with scene.stand() as stand:
        with _under_load(scene, stand, seconds=12) as load:
            stand.receiver_behaves(how, 30)
            load.wait_until(0.75)
            stand.receiver_behaves("well")
            stand.ended()
        return audit(stand, load)


def _no_timestamps(scene: Scene) -> Outcome:
    """It answers, is gone, and comes back: then one timestamp covers all that came meanwhile."""
    try:
        authority = TimestampServer(scene.folder / "authority")
    except AuthorityMissing as missing:
        raise Skipped(str(missing)) from None
    authority.start()
    environment = {
        "LGSP_TIMESTAMP_URL": authority.url,
        "LGSP_TIMESTAMP_AUTHORITY": str(authority.roots_file),
        "LGSP_TIMESTAMP_SECONDS": "0.5",
    }
    try:
        with scene.stand(environment=environment) as stand:
            with _under_load(scene, stand, seconds=14) as load:
                before = authority.asked
                authority.stop()
                load.wait_until(0.7)
                authority.start()
                stand.ended()
            outcome = audit(stand, load)
            unstamped = without_timestamp(stand, load.sent)
    finally:
        authority.stop()
    complaints = [*outcome.complaints]
    complaints += [] if before else ["no timestamp was asked for before the fault"]
    complaints += [f"{unstamped} messages have no timestamp in the end"] if unstamped else []
    return replace(outcome, complaints=complaints)


def _poison_messages(scene: Scene) -> Outcome:
    """A thousand messages that the receiver refuses, five of them for each good one."""
    poison = {serial: b"poison" for serial in range(1200) if serial % 6}

    def is_poison(sent: Sent) -> bool:
        return sent.serial in poison

    with scene.stand() as stand:
        load = Load(stand, count=1200, seconds=15, marks=poison).start()
        load.join()
        stand.ended()
        return audit(stand, load, refused=is_poison)


def _poison_references(scene: Scene) -> Outcome:
    """A thousand things in the receiver's queue that are no references, or references to nothing."""
    with scene.stand() as stand:
        with _under_load(scene, stand, seconds=8) as load:
            connection = pika.BlockingConnection(pika.URLParameters(scene.servers.rabbitmq_urls[0]))
            channel = connection.channel()
            for number in range(1000):
                body = [b"\x00\xff", b"{}", b'{"delivery": "x"}', b'{"delivery": "-1"}', b'{"delivery": 1e400}'][
                    number % 5
                ]
                channel.basic_publish("", QUEUE, body)
            connection.close()
            stand.ended()
        return audit(stand, load)


_FOREIGN: Final = (
    b'{"delivery": "999999999999"}',
    b"\x00\xff",
    b"{}",
    b'{"delivery": "x"}',
    b'{"delivery": "-1"}',
    b'{"delivery": 1e400}',
    b"[" * 9999,
)


# ── the table ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    name: str
    title: str
    modes: tuple[str, ...] = (PRODUCTION,)
    play: Callable[[Scene], Outcome]


#: Which of the eight steps a kill point belongs to.
_STEP_OF: Final = {
    "receive": "1 receive, read",
    "identify": "2 identify, done",
    "authorise": "3 authorise, done",
    "validate": "4 validate, done",
    "record-in-transaction": "5 record, before the commit",
    "record-after-commit": "5 record, after the commit",
    "call-before": "7 deliver, a question before its call",
    "call-after": "7 deliver, a question after its call",
    "publish-in-transaction": "6 dispatch, held back, before the commit",
    "publish-before": "6 dispatch, held back, not yet published",
    "publish-after": "6 dispatch, published, not yet confirmed",
    "publish-confirmed": "6 dispatch, confirmed, not yet noted",
    "publish-noted-in-transaction": "6 dispatch, noted, before the commit",
    "publish-noted": "6 dispatch, noted, after the commit",
    "dispatch-in-transaction": "6 dispatch, claimed, before the commit",
    "dispatch-after-commit": "6 dispatch, claimed, after the commit",
    "deliver-before": "7 deliver, before the call",
    "deliver-after": "7 deliver, after the call",
    "settle-in-transaction": "8 settle, before the commit",
    "settle-after-commit": "8 settle, after the commit",
}


def _kill_rows(program: str, steps: tuple[str, ...], modes: tuple[str, ...]) -> list[Row]:
    return [
        Row(
            name=f"{program}-{step}",
            title=f"SIGKILL of {program}: {_STEP_OF[step]}",
            modes=modes,
            play=partial(_killed_at, step),
        )
        for step in steps
    ]


ROWS: Final = (
    *_kill_rows("serve", SERVE, BOTH),
    *_kill_rows("relay", PUBLISH, (PRODUCTION,)),
    *_kill_rows("work", WORK, BOTH),
    Row(
        name="killed-at-random",
        title="SIGKILL of any process, about once a second",
        modes=BOTH,
        play=_killed_at_random,
    ),
    Row(
        name="rolling-restart",
        title="SIGTERM and start of each of two serve and two work, in turn",
        modes=BOTH,
        play=_rolling_restart,
    ),
    Row(name="rabbitmq-killed", title="RabbitMQ: SIGKILL of the queue's leader, of three", play=_rabbitmq_killed),
    Row(name="rabbitmq-all-killed", title="RabbitMQ: SIGKILL of all three nodes", play=_rabbitmq_all_killed),
    Row(name="rabbitmq-restarted", title="RabbitMQ: each node stopped and started", play=_rabbitmq_restarted),
    Row(name="rabbitmq-blocked", title="RabbitMQ: memory alarm", play=_rabbitmq_blocked),
    *(
        Row(name=f"{party}-{fault}", title=f"network to {title} {what}", play=partial(_on_the_line, party, do, seconds))
        for party, title in (("rabbitmq", "RabbitMQ"), ("postgresql", "PostgreSQL"))
        for fault, what, do, seconds in (
            ("cut", "cut for 6 s", _cut, 12),
            ("stalled", "silent for 26 s", _stall, 40),
            ("reset", "reset twice a second for 6 s", _reset_often, 12),
        )
    ),
    Row(name="postgresql-killed", title="PostgreSQL: SIGKILL, started again, twice", play=_postgresql_killed),
    Row(
        name="postgresql-failed-over",
        title="PostgreSQL: SIGKILL for good, its synchronous standby is promoted",
        play=_postgresql_failed_over,
    ),
    Row(
        name="postgresql-connections", title="PostgreSQL ends all sessions, twelve times", play=_postgresql_connections
    ),
    Row(name="postgresql-disk-full", title="PostgreSQL: disk full", play=_postgresql_disk_full),
    Row(name="sqlite-disk-full", title="disk full under the embedded store", modes=(EMBEDDED,), play=_sqlite_disk_full),
    Row(name="attachments-disk-full", title="disk full under the attachments", play=_attachments_disk_full),
    Row(
        name="clock-ahead",
        title="a node's clock jumps 10 minutes ahead and back",
        modes=BOTH,
        play=partial(_clock_jumps, 600),
    ),
    Row(
        name="clock-behind",
        title="a node's clock jumps 10 minutes back and ahead",
        modes=BOTH,
        play=partial(_clock_jumps, -600),
    ),
    Row(
        name="receiver-down",
        title=f"receiver down for 10 minutes (times ÷ {COMPRESSED})",
        modes=BOTH,
        play=_receiver_down,
    ),
    Row(name="receiver-slow", title="receiver answers after 30 s", modes=BOTH, play=partial(_receiver_behaves, "slow")),
    Row(
        name="receiver-garbage",
        title="receiver answers garbage",
        modes=BOTH,
        play=partial(_receiver_behaves, "garbage"),
    ),
    Row(
        name="receiver-breaks-off",
        title="receiver resets in mid-body",
        modes=BOTH,
        play=partial(_receiver_behaves, "breaks-off"),
    ),
    Row(name="timestamp-authority", title="timestamp authority down", modes=BOTH, play=_no_timestamps),
    Row(
        name="poison-messages",
        title="1,000 messages that the receiver refuses, among good ones",
        modes=BOTH,
        play=_poison_messages,
    ),
    Row(name="poison-references", title="1,000 foreign messages in the receiver's queue", play=_poison_references),
)
