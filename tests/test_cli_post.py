"""``lgsp post tracking``: the feed of the twin, over the demonstration's bus, becomes messages; once each, whatever
goes wrong in between."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner, Result

from bus.cli import lgsp
from bus.cli.post import event_of
from connectors.post import FIRST_ID
from schemas.validation import compile_schema
from tests.province_world import ProvinceWorld, province_world

ROOT = Path(__file__).resolve().parent.parent
DOSSIER = "H99.15-260423-0001"
NUMBERS = count(1)
Read = Callable[..., Result]


@pytest.fixture(scope="module")
def province(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProvinceWorld]:
    with province_world(tmp_path_factory.mktemp("province")) as world:
        yield world


@pytest.fixture
def world(province: ProvinceWorld) -> ProvinceWorld:
    """With a feed of its own."""
    province.sandbox.twins["post"].reset()
    province.sandbox.dial.turn("post", [])
    return province


@pytest.fixture
def read(world: ProvinceWorld, tmp_path: Path) -> Read:
    profile = world.member("H99.15/mot-cua", ".toml")

    def read(*words: str, to: str = "H99.15") -> Result:
        place = ["--place", str(tmp_path / "place.json"), "--attempts", "1"]
        command = ["post", "tracking", "--profile", str(profile), "--from", "G99.31", "--to", to, *place, *words]
        return CliRunner().invoke(lgsp, command)

    return read


def happens(world: ProvinceWorld, *events: tuple[str, str] | tuple[str, str, str]) -> None:
    names = ("orderNumber", "statusCode", "statusMessage")
    documents = [dict(zip(names, event, strict=False)) for event in events]
    answer = requests.post(f"{world.sandbox_url}/_sandbox/post/events", json=documents, timeout=10)
    assert answer.status_code == 200, answer.text


def told(world: ProvinceWorld, number: str) -> list[Any]:
    """The payloads of the messages about an order, by acceptance."""
    ledger = world.bus.ledger
    records = [record for record in ledger.of_dossier(number) if record.service == "post.event"]
    return [json.loads(ledger.body_of(record.id) or b"") for record in records]


def new_number() -> str:
    return f"H99.15-260424-{next(NUMBERS):04d}"


def test_each_event_is_one_message_of_its_dossier(world: ProvinceWorld, read: Read) -> None:
    one, other = new_number(), new_number()
    happens(world, (one, "10"), (other, "10"), (one, "50"))
    assert read().stdout == f"3 events sent to H99.15, read up to {3:024x}\n"
    assert [event["delivered"] for event in told(world, one)] == [False, True]
    assert told(world, other) == [
        {"OrderNumber": other, "statusCode": "10", "statusMessage": "Đã nhận đơn", "delivered": False, "ended": False}
    ]


def test_only_what_is_new_is_read(world: ProvinceWorld, read: Read) -> None:
    one = new_number()
    happens(world, (one, "10"))
    assert json.loads(read("--json").stdout)["sent"] == 1
    happens(world, (one, "20"))
    assert json.loads(read("--json").stdout)["sent"] == 1
    assert json.loads(read("--json").stdout)["sent"] == 0
    assert [event["statusCode"] for event in told(world, one)] == ["10", "20"]


def test_a_lost_place_sends_nothing_twice(world: ProvinceWorld, read: Read, tmp_path: Path) -> None:
    one = new_number()
    happens(world, (one, "10"), (one, "50"))
    read()
    (tmp_path / "place.json").unlink()
    assert read("--page-size", "1").exit_code == 0
    assert len(told(world, one)) == 2


def test_a_run_that_breaks_off_is_made_up_for(world: ProvinceWorld, read: Read, tmp_path: Path) -> None:
    one = new_number()
    happens(world, (one, "10"), (one, "20"), (one, "50"))
    address = f"{world.sandbox_url}/_sandbox/post/faults"
    fault = {"service": "orderTracking", "kind": "status", "status": 400}
    read("--page-size", "2", to="H99.77")  # nobody: refused at the first event
    assert not (tmp_path / "place.json").exists(), "a place is kept only behind what was sent"
    requests.put(address, json=[fault], timeout=10)
    assert read("--page-size", "2").exit_code != 0
    assert told(world, one) == []
    requests.put(address, json=[], timeout=10)
    assert read("--page-size", "2").exit_code == 0
    assert [event["statusCode"] for event in told(world, one)] == ["10", "20", "50"]


def test_a_state_that_the_table_lacks_is_sent_as_it_is_and_told(world: ProvinceWorld, read: Read) -> None:
    one = new_number()
    happens(world, (one, "77", "Tạm giữ\x1b[31m"), (one, "50"))
    result = read()
    assert result.exit_code == 1
    assert "states unknown: 77" in result.stderr
    assert "\x1b" not in result.stdout + result.stderr
    first, last = told(world, one)
    assert (first["delivered"], first["ended"], last["delivered"]) == (False, False, True)
    assert json.loads(read("--json").stdout)["unknown_states"] == []


def test_one_bad_event_does_not_hold_up_the_others(world: ProvinceWorld, read: Read) -> None:
    one = new_number()
    happens(world, ("", "50"), ("x" * 51, "50"), ("don-hang-le", "50"), (one, "50"))
    result = read("--json")
    assert result.exit_code == 1
    told_of = json.loads(result.stdout)
    assert told_of["not_told"] == [f"{1:024x}", f"{2:024x}"]
    assert told_of["sent"] == 2, "an order that is no dossier's is told, too"
    assert len(told(world, one)) == 1


@pytest.mark.parametrize("place", ["", "{", "[]", "{}"])
def test_a_place_that_cannot_be_read_is_not_taken_for_the_beginning(read: Read, tmp_path: Path, place: str) -> None:
    (tmp_path / "place.json").write_text(place)
    result = read()
    assert result.exit_code == 2
    assert "Move it away" in result.stderr


@pytest.mark.parametrize("last_id", [1, "x", "1; DROP TABLE", "0" * 23])
def test_a_place_that_is_none_is_refused(read: Read, tmp_path: Path, last_id: Any) -> None:
    (tmp_path / "place.json").write_text(json.dumps({"lastId": last_id}))
    assert read().exit_code != 0


@pytest.mark.parametrize(
    "event",
    [
        {"orderNumber": DOSSIER, "statusCode": 50},
        {"orderNumber": DOSSIER, "statusCode": "50", "statusMessage": None},
        {"orderNumber": DOSSIER, "statusCode": "50", "statusMessage": "x" * 2000},
        {"orderNumber": DOSSIER, "statusCode": "khác"},
    ],
)
def test_what_the_feed_says_fits_the_service(event: dict[str, Any]) -> None:
    schema = json.loads((ROOT / "schemas" / "partners" / "post" / "event.schema.json").read_bytes())
    compile_schema(schema).validate(json.dumps(event_of(event)).encode(), "application/json")


def test_the_command_of_the_manual_reads_the_feed(
    world: ProvinceWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "partners" / "post.md").read_text("utf-8")
    (command,) = re.findall(r"^```sh command\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    profile = world.member("H99.15/mot-cua", ".toml")
    text = profile.read_text().replace('"H99.15-mot-cua.pem"', f'"{profile.with_suffix(".pem")}"')
    (tmp_path / "lgsp.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(lgsp, shlex.split(command)[1:])
    assert result.exit_code == 0, result.stderr
    assert FIRST_ID in result.stdout
