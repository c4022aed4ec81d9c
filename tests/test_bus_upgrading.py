"""Old and new nodes side by side for one version: what `lgsp upgrade` does, refuses, and says comes next."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import inspect, text

import bus.store
from bus.cli import lgsp
from bus.nodes import BreakerNews, NodeRecord, NodeStore, Role
from bus.settings import load_settings
from bus.store import (
    Migrations,
    Revision,
    Store,
    StoreStanding,
    StoreUnfit,
    migrate,
    must_fit,
    newest_revision,
    open_store,
    standing_of,
)
from bus.upgrading import Upgrade, decide_upgrade
from schemas.moment import utc_now
from tests.bus_world import ask, bus_world, post
from tests.postgresql import PrivateServer
from tests.programs import Program

VERSIONS = Path(bus.store.__file__).parent / "migrations" / "versions"
NOW = newest_revision()
#: The last revision without a roll of nodes.
BEFORE = f"{int(next(VERSIONS.glob('*_nodes.py')).name[:4]) - 1:04}"
#: Revisions of two versions to come.
NEXT, LATER = f"{int(NOW) + 1:04}", f"{int(NOW) + 2:04}"

_STEP = """
import sqlalchemy as sa
from alembic import op

revision = "{id}"
down_revision = "{before}"
branch_labels = None
depends_on = None
expands = {expands}

def upgrade() -> None:
    op.add_column("outbox", sa.Column("note_{id}", sa.Text()))

def contract() -> None:
    op.create_table("finished_{id}", sa.Column("name", sa.Text()))

def downgrade() -> None:
    op.drop_column("outbox", "note_{id}")
"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path / 'lgsp.db'}"
    if request.param == "postgresql":
        server: PrivateServer = request.getfixturevalue("postgresql")
        url = server.url(server.new_database())
    store = open_store(load_settings({"store_url": url}, environ={}))
    yield store
    store.close()


def version(tmp_path: Path, *steps: tuple[str, bool]) -> Migrations:
    """The migrations of a program of the future: ours and these steps, each with whether it only expands."""
    folder = tmp_path / f"migrations-{'-'.join(id for id, _ in steps)}"
    shutil.copytree(VERSIONS.parent, folder)
    before = NOW
    for step, expands in steps:
        (folder / "versions" / f"{step}_more.py").write_text(_STEP.format(id=step, before=before, expands=expands))
        before = step
    return Migrations(location=str(folder))


def alive(store: Store, revision: str, *, name: str = "n", ago: timedelta = timedelta(0)) -> NodeRecord:
    """A node that was heard of."""
    now = utc_now() - ago
    node = NodeRecord(
        id=f"{name}-{revision}", role=Role.WORK, host="may-1", process=7, version="9", revision=revision,
        started_at=now, beat_at=now, beats=1,
    )  # fmt: skip
    NodeStore(store).beat(node, BreakerNews())
    return node


def columns(store: Store) -> set[str]:
    with store.reading() as connection:
        return {column["name"] for column in inspect(connection).get_columns("outbox")}


def finished(store: Store) -> list[str]:
    with store.reading() as connection:
        return sorted(name for name in inspect(connection).get_table_names() if name.startswith("finished"))


# ── the decision ──────────────────────────────────────────────────────────────────────────────────────────────────────


def standing(revision: str, works_with: str, newest: str) -> StoreStanding:
    return StoreStanding(
        dialect="sqlite", server_version="3", revision=revision, newest_revision=newest, works_with=works_with,
        durable=True,
    )  # fmt: skip


def steps(*expands: bool) -> list[Revision]:
    return [Revision(id=f"{number:04}", expands=only, contract=None) for number, only in enumerate(expands, 1)]


def node(revision: str) -> NodeRecord:
    now = datetime(2026, 11, 21).astimezone()
    return NodeRecord(
        id=revision, role=Role.SERVE, host="h", process=1, version="1", revision=revision, started_at=now, beat_at=now,
        beats=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    "at, works_with, newest, expands, living, finish, does, refused",
    [
        ("", "", "0002", True, [], False, "", "no tables"),
        ("0003", "0003", "0002", True, [], False, "", "knows 0002 only"),
        ("0003", "0002", "0002", True, [], True, "", "knows 0002 only"),
        ("0002", "0002", "0002", True, ["0002"], False, "", ""),
        ("0002", "0002", "0002", True, ["0001"], True, "", ""),
        ("0001", "0001", "0002", True, [], False, "expand", ""),
        ("0001", "0001", "0002", True, ["0001", "0002"], False, "expand", ""),
        ("0001", "0001", "0002", True, [], True, "", "Run `lgsp upgrade` first"),
        ("0001", "0001", "0002", False, ["0001"], False, "", "Stop all nodes"),
        ("0001", "0001", "0002", False, [], False, "expand", ""),
        ("0002", "0001", "0002", True, ["0001", "0002"], False, "", ""),
        ("0002", "0001", "0002", True, ["0001", "0002"], True, "", "older version are alive"),
        ("0002", "0001", "0002", True, ["0002"], True, "contract_last", ""),
        ("0002", "0001", "0002", True, [], True, "contract_last", ""),
        ("0002", "0001", "0003", True, ["0002"], False, "contract_first expand", ""),
        ("0002", "0001", "0003", True, ["0001", "0002"], False, "", "two versions ago"),
        ("0002", "0001", "0003", False, ["0002"], False, "", "Stop all nodes"),
        ("0002", "0001", "0003", False, [], False, "contract_first expand", ""),
    ],
)
def test_what_is_done_follows_from_the_store_and_from_who_is_alive(
    at: str, works_with: str, newest: str, expands: bool, living: list[str], finish: bool, does: str, refused: str
) -> None:
    decision = decide_upgrade(
        standing(at, works_with, newest), steps(True, expands, expands), [node(one) for one in living], finish=finish
    )
    done = {name for name in ("contract_first", "expand", "contract_last") if getattr(decision, name)}
    assert done == set(does.split())
    assert bool(decision.refused) == bool(refused)
    assert refused in f"{decision.refused} {decision.next}"
    assert decision.next, "an operator is never left without a next step"


# ── two revisions ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_upgrade_beside_running_nodes_and_its_end(store: Store, tmp_path: Path) -> None:
    migrate(store)
    new = version(tmp_path, (NEXT, True))
    old_node = alive(store, NOW)
    upgrade = Upgrade(store, new)
    upgrade.carry_out(upgrade.decide(utc_now(), finish=False))

    assert f"note_{NEXT}" in columns(store)
    assert finished(store) == []
    must_fit(store)  # this program is the older one: it may go on
    refused = upgrade.decide(utc_now(), finish=True)
    assert refused.refused
    assert list(refused.nodes) == [old_node]

    NodeStore(store).leave(old_node.id)
    alive(store, NEXT)
    upgrade.carry_out(upgrade.decide(utc_now(), finish=True))
    assert finished(store) == [f"finished_{NEXT}"]
    with pytest.raises(StoreUnfit, match=f"at {NEXT}, this program knows {NOW}"):
        must_fit(store)
    assert not upgrade.decide(utc_now(), finish=True).contract_last, "once is enough"


def test_the_next_version_ends_the_upgrade_before_it(store: Store, tmp_path: Path) -> None:
    migrate(store)
    first = Upgrade(store, version(tmp_path, (NEXT, True)))
    first.carry_out(first.decide(utc_now(), finish=False))
    second = Upgrade(store, version(tmp_path, (NEXT, True), (LATER, True)))
    left_over = alive(store, NOW)
    assert second.decide(utc_now(), finish=False).refused
    NodeStore(store).leave(left_over.id)
    second.carry_out(second.decide(utc_now(), finish=False))
    assert finished(store) == [f"finished_{NEXT}"]
    found = standing_of(store, version(tmp_path / "again", (NEXT, True), (LATER, True)))
    assert (found.revision, found.works_with) == (LATER, NEXT)


def test_a_change_that_older_nodes_could_not_bear_waits_until_they_stand_still(store: Store, tmp_path: Path) -> None:
    migrate(store)
    upgrade = Upgrade(store, version(tmp_path, (NEXT, False)))
    old_node = alive(store, NOW)
    assert upgrade.decide(utc_now(), finish=False).refused
    with pytest.raises(StoreUnfit, match="Stop all nodes"):
        upgrade.bring_up_to_date(utc_now())
    assert f"note_{NEXT}" not in columns(store)
    NodeStore(store).leave(old_node.id)
    upgrade.carry_out(upgrade.decide(utc_now(), finish=False))
    with pytest.raises(StoreUnfit):
        must_fit(store)


def test_a_node_that_was_killed_a_minute_ago_is_not_waited_for(store: Store, tmp_path: Path) -> None:
    migrate(store)
    alive(store, NOW, ago=timedelta(minutes=2))
    Upgrade(store, version(tmp_path, (NEXT, True))).bring_up_to_date(utc_now())
    assert finished(store) == [f"finished_{NEXT}"], "nobody is alive: all at once, as `lgsp init` does"


def test_a_store_from_before_the_roll_of_nodes_can_be_upgraded(store: Store) -> None:
    migrate(store, BEFORE)
    with pytest.raises(StoreUnfit, match="lgsp upgrade"):
        must_fit(store)
    upgrade = Upgrade(store)
    upgrade.carry_out(upgrade.decide(utc_now(), finish=False))
    must_fit(store)
    assert standing_of(store).works_with == BEFORE
    upgrade.carry_out(upgrade.decide(utc_now(), finish=True))
    assert standing_of(store).works_with == NOW


def test_a_new_store_works_with_this_program_only(store: Store) -> None:
    with pytest.raises(StoreUnfit, match="lgsp init"):
        must_fit(store)
    migrate(store)
    must_fit(store)
    assert standing_of(store).works_with == NOW


def test_two_that_set_up_a_store_at_once_follow_one_another(store: Store) -> None:
    other = open_store(load_settings({"store_url": store.engine.url.render_as_string(False)}, environ={}))
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(migrate, (store, other)))
        must_fit(other)
    finally:
        other.close()


def test_a_step_that_fails_leaves_the_store_as_it_was(store: Store, tmp_path: Path) -> None:
    migrate(store)
    new = version(tmp_path, (NEXT, True))
    step = next((Path(new.location) / "versions").glob(f"{NEXT}_*"))
    step.write_text(
        step.read_text().replace('op.create_table("finished', 'raise OSError\n    op.create_table("finished')
    )
    upgrade = Upgrade(store, new)
    upgrade.carry_out(upgrade.decide(utc_now(), finish=False))
    with pytest.raises(OSError):
        upgrade.carry_out(upgrade.decide(utc_now(), finish=True))
    assert standing_of(store, new).works_with == NOW
    must_fit(store)


# ── with real processes and the command line ──────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_an_old_node_goes_on_beside_the_new_tables_and_is_refused_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = version(tmp_path, (NEXT, True))
    with bus_world(tmp_path) as world:
        home = ("--home", str(world.settings.home))
        old = Program(world, "serve")
        try:
            old.wait_until_it_serves()
            # From here on the command line is that of the new version; the server is still the old one.
            monkeypatch.setattr("bus.cli.nodes.OURS", new)
            told = run(*home, "upgrade", "--check")
            assert f"from {NOW} to {NEXT} (not done" in told.output
            assert run(*home, "upgrade").exit_code == 0
            assert post(old.url, world.signed()).status == 202, "old programs go on"
            told = run(*home, "upgrade", "--finish")
            assert told.exit_code == 2
            assert "older version are alive" in told.output
            assert re.search(rf"serve \S+ \d+: version \S+, {NOW}", told.output)
            (seen,) = json.loads(run(*home, "nodes", "--json").stdout)["nodes"]
            assert (seen["role"], seen["tables"], seen["silent"]) == ("serve", NOW, False)
            again = Program(world, "serve")  # a restart of the old version is possible until the end
            try:
                again.wait_until_it_serves()
                assert ask("GET", f"{again.url}/healthz").status == 200
                again.tell_to_end()
                assert again.wait() == 0
            finally:
                again.kill()
            old.tell_to_end()
            assert old.wait() == 0
        finally:
            old.kill()
        assert "No process serves or delivers." in run(*home, "nodes").output
        assert "finished" in run(*home, "upgrade", "--finish").output
        assert "Nothing is to be done." in run(*home, "upgrade").output
        late = Program(world, "work")
        try:
            assert late.wait() != 0
        finally:
            late.kill()
        assert "install a newer version" in late.log()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(lgsp, list(arguments))


def test_doctor_says_that_an_upgrade_is_not_finished_and_whether_the_program_is_too_old(tmp_path: Path) -> None:
    with bus_world(tmp_path) as world:
        doctor = ("--home", str(world.settings.home), "doctor", "--json")
        for revision, works_with, state, advice in (
            (NEXT, NOW, "look", "--finish"),
            (NEXT, NEXT, "wrong", "install a newer version"),
            ("0001", "0001", "wrong", "lgsp upgrade"),
        ):
            with world.bus.store.writing() as connection:
                connection.execute(text("UPDATE alembic_version SET version_num = :new"), {"new": revision})
                connection.execute(text("UPDATE store_marks SET value = :new"), {"new": works_with})
            checks = {check["check"]: check for check in json.loads(run(*doctor).stdout)["checks"]}
            assert checks["store"]["state"] == state
            assert advice in checks["store"]["advice"]
