"""``lgsp doctor``: what it shows, and that each thing that can be wrong is found and told with what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bus.cli import lgsp
from bus.logs import no_logs
from schemas.moment import to_micros, utc_now
from tests.bus_world import World, bus_world
from tests.test_cli_operations import accept

Run = Callable[..., Result]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with no_logs(), bus_world(tmp_path) as world:
        yield world


@pytest.fixture
def run(world: World) -> Run:
    def invoke(*words: object, **environment: str) -> Result:
        return CliRunner().invoke(lgsp, ["--home", str(world.settings.home), *map(str, words)], env=environment)

    return invoke


def checks(result: Result) -> dict[str, dict[str, str]]:
    return {each["check"]: each for each in json.loads(result.stdout)["checks"]}


def test_a_bus_that_is_well_is_told_so_with_every_setting_and_its_origin(run: Run, world: World) -> None:
    accept(world)
    world.bus.seal_evidence(utc_now())
    told = run("doctor", LGSP_PORT="18080")
    assert told.exit_code == 0, told.output
    (line,) = [line for line in told.stdout.splitlines() if "port to listen on" in line]
    assert "18080" in line
    assert "LGSP_PORT" in line
    assert "Nothing is wrong" in told.stdout
    document = json.loads(run("doctor", "--json", "--full").stdout)
    assert document["settings"]["home"]["origin"] == "command line"
    assert document["well"] is True
    states = {each["check"]: each["state"] for each in document["checks"]}
    assert states["evidence"] == states["store"] == states["registry"] == "well"


def test_the_password_of_the_store_is_never_shown(tmp_path: Path) -> None:
    for url in (
        "postgresql+psycopg://lgsp:hunter2@127.0.0.1:9/lgsp",
        "postgresql+psycopg://127.0.0.1:9/l?password=hunter2",
    ):
        for words in (("doctor",), ("doctor", "--json")):
            told = CliRunner().invoke(lgsp, ["--home", str(tmp_path), *words], env={"LGSP_STORE_URL": url})
            assert told.exit_code == 1
            assert "hunter2" not in told.output
            assert "***" in told.output


def _forget_keys(world: World) -> None:
    world.settings.log_key_path.unlink()


def _open_keys(world: World) -> None:
    world.settings.log_key_path.chmod(0o644)


def _open_home(world: World) -> None:
    world.settings.home.chmod(0o777)


def _run_sql(statement: str) -> Callable[[World], None]:
    def run(world: World) -> None:
        accept(world)
        world.bus.seal_evidence(utc_now())
        with world.bus.store.writing() as connection:
            connection.exec_driver_sql(statement)

    return run


_FUTURE = to_micros(utc_now()) + 3_600_000_000


@pytest.mark.parametrize(
    "damage, check, advice",
    [
        (_forget_keys, "keys", "lgsp init"),
        (_open_keys, "files", "chmod -R go-rwx"),
        (_open_home, "home", "chmod go-w"),
        (_run_sql("UPDATE alembic_version SET version_num = '0000'"), "store", "lgsp upgrade"),
        (_run_sql("UPDATE evidence_leaves SET hash = zeroblob(32), entry = X'7B7D'"), "evidence", "Stop the bus"),
        (_run_sql(f"UPDATE evidence_checkpoints SET created_at = {_FUTURE}"), "sealing", "clock"),  # noqa: S608
        (_run_sql("UPDATE evidence_checkpoints SET note = replace(note, '— ', '+ ')"), "evidence", "debug"),
    ],
)
def test_what_is_wrong_is_found_and_told_with_what_to_do(
    run: Run, world: World, damage: Callable[[World], Any], check: str, advice: str
) -> None:
    damage(world)
    told = run("doctor", "--json")
    assert told.exit_code == 1, told.output
    found = checks(told)[check]
    assert found["state"] == "wrong", found
    assert advice in found["advice"]


def test_a_folder_without_a_bus_says_how_to_begin(tmp_path: Path) -> None:
    told = CliRunner().invoke(lgsp, ["--home", str(tmp_path / "none"), "doctor"])
    assert told.exit_code == 1
    assert "lgsp init" in told.stdout
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "environment, said",
    [
        ({"LGSP_PORT": "many"}, "LGSP_PORT"),
        ({"LGSP_LEASE_SECONDS": "0"}, "LGSP_LEASE_SECONDS"),
        ({"LGSP_CONFIG": "nowhere.toml"}, "nowhere.toml"),
    ],
)
def test_a_setting_that_cannot_be_used_stops_every_command_by_its_name(
    run: Run, environment: dict[str, str], said: str
) -> None:
    refused = run("doctor", **environment)
    assert (refused.exit_code, said in refused.stderr) == (2, True)
