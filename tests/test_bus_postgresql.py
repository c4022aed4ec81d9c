"""The store on PostgreSQL when connections break, servers hang and hosts change: on a real server, through a proxy that
cuts where it is told to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, text

from bus.ledger import Ledger
from bus.postgresql import connect_arguments
from bus.records import State
from bus.settings import BadSetting, load_settings
from bus.store import OutcomeUnknown, StoreUnreachable, open_bell, open_store
from schemas.identifiers import SystemCode
from security.evidence.checkpoint import NoteKey
from security.keys import KeyRing
from tests.ledger_house import LEASE, NOON, House
from tests.postgresql import PrivateServer, private_postgresql

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[KeyRing, NoteKey]:
    folder = tmp_path_factory.mktemp("keys")
    return KeyRing.open_or_create(folder / "ring", SystemCode("H99/lgsp-bus")), NoteKey.generate("test.invalid/log")


class Proxy:
    """Stands between the store and its server. ``on_commit`` is called with the connection's two ends when a COMMIT
    comes by, and says whether it goes on to the server."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.on_commit: Callable[[socket.socket, socket.socket], bool] | None = None
        self.away = False
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.away:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, server]
            threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
            threading.Thread(target=self._back, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                act = self.on_commit
                if act is not None and b"COMMIT\x00" in data:
                    self.on_commit = None
                    if not act(client, server):
                        return
                server.sendall(data)
        except OSError:
            pass
        finally:
            _end(server)

    def _back(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := server.recv(65536):
                client.sendall(data)
        except OSError:
            pass
        finally:
            _end(client)

    def cut_all(self) -> None:
        for each in self._sockets:
            _end(each)

    def close(self) -> None:
        self._listener.close()
        self.cut_all()


def _end(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(postgresql: PrivateServer) -> Iterator[Proxy]:
    proxy = Proxy(postgresql.port)
    yield proxy
    proxy.close()


@pytest.fixture
def house(
    postgresql: PrivateServer, template: str, keys: tuple[KeyRing, NoteKey], proxy: Proxy, monkeypatch: Any
) -> Iterator[House]:
    monkeypatch.setattr("bus.ledger._FINDING_OUT_SECONDS", (0.0, 0.02, 0.05, 0.1))
    url = make_url(postgresql.url(postgresql.new_database(template))).set(port=proxy.port)
    house = House(store_url=url.render_as_string(hide_password=False), ring=keys[0], log_key=keys[1])
    yield house
    proxy.on_commit, proxy.away = None, False
    house.must_hold()
    house.close()


def _database(house: House) -> str:
    return str(house.store.engine.url.database)


def _sessions(server: PrivateServer, house: House) -> list[int]:
    with server.connect("postgres") as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE datname = %s"
        return [row[0] for row in connection.execute(query, [_database(house)])]


def _kill_sessions(server: PrivateServer, house: House) -> None:
    with server.connect("postgres") as connection:
        for pid in _sessions(server, house):
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


# ── a commit whose answer never comes ─────────────────────────────────────────────────────────────────────────────────


def _cut_after_it_was_committed(client: socket.socket, server: socket.socket) -> bool:
    """The server gets the COMMIT and carries it out; its answer is lost."""
    _end(client)
    server.sendall(b"Q\x00\x00\x00\x0bCOMMIT\x00")
    time.sleep(0.2)
    return False


def _cut_before(client: socket.socket, server: socket.socket) -> bool:
    _end(client)
    return False


CUTS = pytest.mark.parametrize("cut", [_cut_after_it_was_committed, _cut_before])


@CUTS
def test_a_message_whose_commit_broke_is_recorded_once_and_counted_once(house: House, proxy: Proxy, cut: Any) -> None:
    new = house.new(quota_periods=(("grant", "2026-11-21"),))
    house.ledger.quota_used("grant", "2026-11-21")
    proxy.on_commit = cut
    recorded = house.ledger.record(new)
    assert (recorded.repeated, recorded.receipt) == (False, new.receipt)
    assert recorded.quota_used == {("grant", "2026-11-21"): 1}
    assert house.ledger.quota_used("grant", "2026-11-21") == 1
    found = house.ledger.find(new.message.manifest.message_id)
    assert found is not None
    assert found.id == recorded.exchange_id
    again = house.record(new.message)
    assert (again.repeated, again.receipt) == (True, new.receipt)
    assert house.rows("exchanges") == 1


@CUTS
def test_a_refusal_whose_commit_broke_is_kept_once(house: House, proxy: Proxy, cut: Any) -> None:
    proxy.on_commit = cut
    house.ledger.refuse(house.refusal())
    assert house.rows("refusals") == 1
    assert house.ledger.totals()["refused", "not-permitted"] == 1


@CUTS
def test_a_proof_whose_commit_broke_counts_for_who_used_it_and_for_nobody_else(
    house: House, proxy: Proxy, cut: Any
) -> None:
    proxy.on_commit = cut
    assert house.ledger.use_proof(b"signed", NOON + LEASE)
    assert not house.ledger.use_proof(b"signed", NOON + LEASE)


@CUTS
@pytest.mark.parametrize("state", [State.DELIVERED, State.WAITING])
def test_a_settlement_whose_commit_broke_counts_once(house: House, proxy: Proxy, cut: Any, state: State) -> None:
    house.record()
    (claim,) = house.claim()
    proxy.on_commit = cut
    assert house.settle(claim, state)
    assert house.rows("attempts") == 1
    assert not house.settle(claim, state)


@CUTS
def test_a_group_whose_commit_broke_is_one_effect_for_each_of_its_callers(house: House, proxy: Proxy, cut: Any) -> None:
    """Messages, a repeat among them and a refusal in one group: each caller gets the truth of its own."""
    first = house.new()
    house.ledger.record(first)
    works = [house.new(), house.new(first.message), house.refusal(), house.new()]
    proxy.on_commit = cut
    answers = house.ledger._write(works)
    assert [getattr(answer, "repeated", None) for answer in answers] == [False, True, None, False]
    assert (house.rows("exchanges"), house.rows("refusals")) == (3, 1)


def test_a_backend_killed_while_it_commits(house: House, postgresql: PrivateServer) -> None:
    """The first commit hangs in a deferred trigger; there the session is terminated, as an administrator would."""
    with postgresql.connect(_database(house)) as admin:
        admin.execute("CREATE SEQUENCE commits")
        admin.execute(
            "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN IF nextval('commits') = 1 THEN PERFORM pg_sleep(60); END IF; RETURN NULL; END $$"
        )
        admin.execute(
            "CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON exchanges DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION slowly()"
        )
        with ThreadPoolExecutor(1) as pool:
            recording = pool.submit(house.record)
            committing = "SELECT pid FROM pg_stat_activity WHERE query = 'COMMIT' AND wait_event = 'PgSleep'"
            while not (pids := admin.execute(committing).fetchall()):
                time.sleep(0.01)
            assert not recording.done()
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", pids[0])
            recorded = recording.result(20)
    assert not recorded.repeated
    assert house.rows("exchanges") == 1


def test_nobody_is_told_recorded_while_the_store_stays_away(house: House, proxy: Proxy) -> None:
    """The answer to the COMMIT is lost and so is the server: an error, though it is on disk; the repeat tells."""

    def cut(client: socket.socket, server: socket.socket) -> bool:
        proxy.away = True
        return _cut_after_it_was_committed(client, server)

    new = house.new()
    proxy.on_commit = cut
    with pytest.raises(OutcomeUnknown):
        house.ledger.record(new)
    proxy.away = False
    again = house.ledger.record(house.new(new.message))
    assert (again.repeated, again.receipt) == (True, new.receipt)


# ── connections ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_connections_that_the_server_has_ended_are_replaced_without_anybody_noticing(
    house: House, postgresql: PrivateServer
) -> None:
    recorded = house.record()
    for _ in range(2):
        _kill_sessions(postgresql, house)
        assert house.ledger.body_of(recorded.exchange_id) is not None, "readers"
        house.record()
    assert house.rows("exchanges") == 3


def test_a_change_that_loses_its_connection_before_the_commit_is_made_again(
    house: House, postgresql: PrivateServer
) -> None:
    calls = []

    def change(connection: Any) -> int:
        calls.append(connection.execute(text("INSERT INTO counters VALUES ('x', '', 1)")).rowcount)
        if len(calls) == 1:
            _kill_sessions(postgresql, house)
        return int(connection.execute(text("SELECT value FROM counters WHERE name = 'x'")).scalar_one())

    assert house.store.write(change) == 1
    assert len(calls) == 2
    house.store.write(lambda connection: connection.execute(text("DELETE FROM counters WHERE name = 'x'")))


def test_while_the_server_is_away_everybody_hears_so_at_once_and_afterwards_all_is_well(
    house: House, proxy: Proxy
) -> None:
    house.record()
    proxy.away = True
    proxy.cut_all()
    started = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        failures = [f.exception(20) for f in [pool.submit(house.record) for _ in range(20)]]
    assert all(isinstance(failure, StoreUnreachable) for failure in failures), failures
    assert time.monotonic() - started < 5
    proxy.away = False
    house.record()
    assert house.rows("exchanges") == 2


@pytest.mark.parametrize("impossible", [None, "\x00"], ids=["no value", "no text"])
def test_a_statement_that_fails_among_others_takes_its_transaction_with_it_and_not_the_connection(
    house: House, impossible: Any
) -> None:
    bad, good = house.new(), house.new()
    object.__setattr__(bad.message, "traceparent", impossible)
    with pytest.raises(Exception, match=r"null value|0x00"):
        house.ledger._write([good, bad])
    assert (house.rows("exchanges"), house.rows("evidence_leaves"), house.rows("counters")) == (0, 0, 0)
    assert len(house.store._writers) == 1
    assert not house.ledger.record(good).repeated


def test_a_hung_server_is_given_up(postgresql: PrivateServer, template: str, keys: tuple[KeyRing, NoteKey]) -> None:
    """Its sockets answer, it does not: stopped in the middle of a statement, and while it is being connected to."""
    url = postgresql.url(postgresql.new_database(template))
    settings = load_settings({"store_url": url, "store_timeout_seconds": 0.5, "store_connect_seconds": 1.0}, environ={})
    store = open_store(settings)
    with store.reading() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    started = time.monotonic()
    with _stopped(pid), store.reading() as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() != pid, "an idle one is replaced"
    with store.reading() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with _stopped(pid), pytest.raises(Exception, match="silent"):
            connection.execute(text("SELECT 1"))
    assert time.monotonic() - started < 8
    store.close()


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_the_server_ends_what_takes_too_long(postgresql: PrivateServer, template: str) -> None:
    url = postgresql.url(postgresql.new_database(template))
    store = open_store(load_settings({"store_url": url, "store_timeout_seconds": 0.4}, environ={}))
    with pytest.raises(Exception, match="statement timeout"), store.reading() as connection:
        connection.execute(text("SELECT pg_sleep(5)"))
    with store.reading(unhurried=True) as connection:
        connection.execute(text("SELECT pg_sleep(0.6)"))
    with store.writing() as connection:
        connection.execute(text("LOCK TABLE counters"))
        started = time.monotonic()
        with pytest.raises(Exception, match="lock timeout"):
            store.write(lambda other: other.execute(text("LOCK TABLE counters")))
        assert time.monotonic() - started < 0.4 * 2
    store.close()


def test_a_process_holds_no_more_connections_than_it_may(postgresql: PrivateServer, house: House) -> None:
    url = postgresql.url(_database(house))
    store = open_store(load_settings({"store_url": url, "store_connections": 6}, environ={}))
    ledger = Ledger(store, house.log)
    before = len(_sessions(postgresql, house))
    seen = []

    def read_and_write(_: int) -> None:
        ledger.totals()
        store.write(lambda connection: connection.execute(text("SELECT pg_sleep(0.01)")))
        seen.append(len(_sessions(postgresql, house)))

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(read_and_write, range(36)))
    assert max(seen) - before <= 6
    store.close()
    assert len(_sessions(postgresql, house)) <= before


def test_what_is_read_in_one_block_is_of_one_moment(house: House) -> None:
    with house.store.reading() as connection:
        count = text("SELECT COUNT(*) FROM exchanges")
        assert connection.execute(count).scalar_one() == 0
        house.record()
        assert connection.execute(count).scalar_one() == 0
    assert house.rows("exchanges") == 1


# ── what the server is told ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_server_knows_who_is_connected(postgresql: PrivateServer, template: str) -> None:
    name = postgresql.new_database(template)
    store = open_store(load_settings({"store_url": postgresql.url(name)}, environ={}), role="work")
    with store.reading() as connection:
        assert connection.execute(text("SHOW application_name")).scalar_one() == f"lgsp work@{socket.gethostname()}"
        assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one() == "1min"
    store.close()


def test_the_urls_own_words_win_and_pass_through() -> None:
    url = make_url(
        "postgresql+psycopg://u:p@/db?host=a:5432&host=b:5433&sslmode=verify-full&sslrootcert=/ca.pem"
        "&connect_timeout=2&options=-c%20work_mem%3D8MB&target_session_attrs=any"
    )
    words = connect_arguments(url, load_settings(environ={}), "serve")
    assert "connect_timeout" not in words
    assert "target_session_attrs" not in words
    assert words["options"].endswith(" -c work_mem=8MB")
    assert "statement_timeout=30000" in words["options"]
    assert (
        connect_arguments(make_url("postgresql+psycopg://u@h/db"), load_settings(environ={}), "x" * 90)[
            "target_session_attrs"
        ]
        == "read-write"
    )


@pytest.mark.parametrize(
    "bad", [{"store_connections": 2}, {"store_timeout_seconds": 0.0}, {"store_connect_seconds": -1.0}]
)
def test_settings_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(BadSetting, match="LGSP_STORE_"):
        load_settings(bad, environ={})


def test_of_several_hosts_the_one_that_can_be_written_to_is_found(
    postgresql: PrivateServer, template: str, proxy: Proxy
) -> None:
    """The first host turns read-only, as a server that was failed over from comes back; the second is the primary."""
    name = postgresql.new_database(template)
    with private_postgresql(pytest.fail) as other, other.connect("postgres") as admin:
        admin.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        admin.execute("SELECT pg_reload_conf()")
        admin.execute(f"SET transaction_read_only = off; ALTER ROLE lgsp PASSWORD '{postgresql.password}'")
        url = (
            f"postgresql+psycopg://lgsp:{postgresql.password}@/{name}"
            f"?host=127.0.0.1:{other.port}&host=127.0.0.1:{proxy.port}"
        )
        store = open_store(load_settings({"store_url": url}, environ={}))
        for _ in range(2):
            where = store.write(lambda connection: connection.execute(text("SELECT current_database()")).scalar_one())
            assert where == name
            proxy.cut_all()
        store.close()


# ── the bell ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _bell(house: House) -> Iterator[threading.Event]:
    heard = threading.Event()
    bell = open_bell(load_settings({"store_url": house.store_url}, environ={}), heard.set)
    assert bell is not None
    bell.start()
    try:
        assert heard.wait(10), "once when it begins to listen"
        heard.clear()
        yield heard
    finally:
        bell.stop()


def test_what_one_host_makes_due_is_heard_on_another(house: House) -> None:
    with _bell(house) as heard:
        house.record()
        assert heard.wait(5)
        (claim,) = house.claim()
        heard.clear()
        house.settle(claim, State.WAITING, due_at=NOON)
        assert heard.wait(5), "a retry"
        (claim,) = house.claim()
        house.settle(claim, State.DEAD)
        heard.clear()
        house.ledger.replay([claim.delivery_id], "admin", "test", NOON)
        assert heard.wait(5), "a replay"


def test_what_is_not_committed_or_not_due_rings_nobody(house: House) -> None:
    with _bell(house) as heard:
        house.ledger.refuse(house.refusal())
        with suppress(KeyError), house.store.writing() as connection:
            house.ledger._write_in(connection, [house.new()])
            raise KeyError
        assert not heard.wait(0.2)


def test_a_bell_whose_connection_was_lost_rings_when_it_is_back(house: House, proxy: Proxy) -> None:
    with _bell(house) as heard:
        proxy.cut_all()
        assert heard.wait(10), "something may have been missed"
        heard.clear()
        house.record()
        assert heard.wait(5)


def test_sqlite_needs_no_bell(tmp_path: Path) -> None:
    assert open_bell(load_settings({"home": str(tmp_path)}, environ={}), print) is None


_UNDER_GEVENT = """
from bus.greenlets import in_real_thread
import sys, threading, time
from sqlalchemy import text
from bus.settings import load_settings
from bus.store import open_bell, open_store
settings = load_settings({"store_url": sys.argv[1]}, environ={})
store = open_store(settings, in_real_thread)
heard = threading.Event()
bell = open_bell(settings, heard.set)
bell.start()
assert heard.wait(10)
heard.clear()
ticks, ending = [], threading.Event()
def tick():
    while not ending.wait(0.01):
        ticks.append(time.monotonic())
threading.Thread(target=tick, daemon=True).start()
def read():
    with store.reading() as connection:
        connection.execute(text("SELECT pg_sleep(0.3)"))
readers = [threading.Thread(target=read) for _ in range(3)]
[reader.start() for reader in readers]
store.write(lambda connection: connection.execute(text("SELECT pg_sleep(0.3), pg_notify('lgsp_due', '')")))
[reader.join() for reader in readers]
assert heard.wait(5), "the bell"
ending.set()
gaps = [later - earlier for earlier, later in zip(ticks, ticks[1:])]
assert len(ticks) > 15 and max(gaps) < 0.25, (len(ticks), max(gaps))
bell.stop()
store.close()
print("ok")
"""


def test_under_gevent_nobody_waits_for_the_store_but_who_asked_it(postgresql: PrivateServer, template: str) -> None:
    url = postgresql.url(postgresql.new_database(template))
    done = subprocess.run(
        [sys.executable, "-c", _UNDER_GEVENT, url], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "ok\n", done.stderr
