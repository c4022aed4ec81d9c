"""``lgsp send``, ``call`` and ``inbox`` over a real bus on loopback."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from werkzeug.serving import make_server

from bus.cli import lgsp
from bus.logs import no_logs
from bus.web.app import create_app
from schemas.identifiers import MessageId
from schemas.moment import utc_now
from tests.bus_world import ANSWERING, GOOD, RECEIVING, SENDING, World, bus_world, key_of
from tests.loopback import QuietHandler
from tests.loopback import serving as serving_on_a_free_port

ROOT = Path(__file__).resolve().parent.parent
Run = Callable[..., Result]


@pytest.fixture
def world(tmp_path: Path, free_port: int) -> Iterator[World]:
    with bus_world(tmp_path, public_url=f"http://127.0.0.1:{free_port}") as world:
        yield world


@contextmanager
def serving(world: World) -> Iterator[str]:
    """The bus at its public address: a member's proof of identity names it, so another port would not do."""
    url = world.settings.public_url
    application = create_app(world.bus)
    port = int(url.rsplit(":", 1)[1])
    server = make_server("127.0.0.1", port, application, threaded=True, request_handler=QuietHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def run(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """`lgsp` in a folder of its own with the sender's profile ``lgsp.toml`` and the receiver's ``receiver.toml``."""
    folder = tmp_path / "member"
    folder.mkdir()
    monkeypatch.chdir(folder)
    # The server runs in this process, and what it logs is not what the command says.
    with no_logs(), serving(world) as url:
        for name, system in (("lgsp", SENDING), ("receiver", RECEIVING)):
            key_of(system).save(folder / f"{name}.pem")
            profile = f'bus = "{url}"\nsystem = "{system}"\nkey = "{name}.pem"\npurpose = "giai-quyet-tthc"\n'
            (folder / f"{name}.toml").write_text(profile, "utf-8")
        (folder / "ho-so.json").write_text(json.dumps(GOOD), "utf-8")

        def invoke(*words: str, typed: str | bytes = "", language: str = "en_GB.UTF-8") -> Result:
            return CliRunner().invoke(lgsp, words, input=typed, env={"LANG": language, "LC_ALL": "", "LC_MESSAGES": ""})

        yield invoke


TRANSFER = ("send", "--service", "dossier.transfer", "--to", "H99.16")
RECEIVE = ("inbox", "--profile", "receiver.toml")


def test_a_file_is_sent_by_its_profile_and_the_receipt_is_told(run: Run, world: World) -> None:
    sent = run(*TRANSFER, "ho-so.json")
    assert sent.exit_code == 0, sent.output
    lines = dict(line.split(maxsplit=1) for line in sent.stdout.splitlines())
    assert (lines["for"], len(lines["evidence"])) == ("H99.16", 64)
    record = world.bus.ledger.find(lines["accepted"])  # type: ignore[arg-type]
    assert record is not None
    assert world.bus.ledger.body_of(record.id) == json.dumps(GOOD).encode()


def test_a_receiver_may_be_named_by_its_old_code_and_the_payload_may_come_by_a_pipe(run: Run) -> None:
    sent = run(
        "send", "--service", "dossier.transfer/1", "--to", "000.00.16.H99", "--json", "-", typed=json.dumps(GOOD)
    )
    assert sent.exit_code == 0, sent.output
    assert json.loads(sent.stdout)["receivers"] == ["H99.16"]


def test_the_same_id_again_gives_the_first_receipt(run: Run) -> None:
    first = json.loads(run(*TRANSFER, "--json", "--out", "receipt.json", "ho-so.json").stdout)
    again = run(*TRANSFER, "--json", "--id", first["message_id"], "ho-so.json")
    assert json.loads(again.stdout) == first == json.loads(Path("receipt.json").read_text())


@pytest.mark.parametrize(
    "words, code, said",
    [
        (("--to", "H99.16", "--service", "dossier.nothing"), 2, "service"),
        (("--to", "H99.16", "--service", "dossier.transfer/x"), 2, "CODE/VERSION"),
        (("--to", "nobody", "--service", "dossier.transfer"), 2, "agency code"),
        (("--to", "H99.16", "--service", "dossier.transfer", "--id", "7"), 2, "message id"),
        (
            (
                "--to",
                "H99.16",
                "--service",
                "dossier.transfer",
                "--bus",
                "http://127.0.0.1:9",
                "--attempts",
                "1",
                "--id",
            ),
            1,
            "To repeat",
        ),
    ],
)
def test_what_cannot_be_sent_is_one_sentence_and_an_exit_code(
    run: Run, words: tuple[str, ...], code: int, said: str
) -> None:
    if words[-1] == "--id":
        words = (*words, "0193a5b0-7e2e-7c3f-9b1d-2f4c8e6a0d11")
    refused = run("send", *words, "ho-so.json")
    assert refused.exit_code == code, refused.output
    assert said in refused.stderr
    assert "Traceback" not in refused.output


def test_a_payload_that_breaks_its_schema_is_refused_in_the_language_of_the_terminal(run: Run) -> None:
    refused = run(*TRANSFER, "-", typed='{"pages": 0}', language="vi_VN.UTF-8")
    assert refused.exit_code == 2
    assert "lược đồ" in refused.stderr or "Dữ liệu" in refused.stderr
    assert "/pages" in refused.stderr


def test_the_inbox_is_saved_before_it_is_acknowledged(run: Run, world: World) -> None:
    Path("scan.PDF").write_bytes(b"%PDF-1.7 invented")
    sent = json.loads(run(*TRANSFER, "--json", "--attach", "scan.PDF", "ho-so.json").stdout)
    fetched = run(*RECEIVE, "--out", "received")
    assert fetched.exit_code == 0, fetched.output
    assert fetched.stdout.splitlines()[-1] == "1 message"
    place = Path("received") / sent["message_id"]
    assert json.loads((place / "body.json").read_bytes()) == GOOD
    about = json.loads((place / "message.json").read_bytes())
    (name,) = about["files"]
    assert (about["files"][name], (place / name).read_bytes()) == ("scan.PDF", b"%PDF-1.7 invented")
    assert (place / "receipt.jws").read_text() == sent["receipt"]
    assert [path.name for path in Path("received").iterdir()] == [sent["message_id"]]
    record = world.bus.ledger.find(sent["message_id"])
    assert record is not None
    assert [delivery.state for delivery in record.deliveries] == ["delivered"]
    assert run(*RECEIVE, "--out", "received").stdout == "0 messages\n"


def test_looking_leaves_the_message_there_and_json_carries_the_body(run: Run, world: World) -> None:
    sent = json.loads(run(*TRANSFER, "--json", "ho-so.json").stdout)
    looked = run(*RECEIVE, "--json", "--max", "1")
    assert looked.exit_code == 0, looked.output
    shown = json.loads(looked.stdout)
    assert (shown["message_id"], json.loads(base64.b64decode(shown["body_base64"]))) == (sent["message_id"], GOOD)
    record = world.bus.ledger.find(sent["message_id"])
    assert record is not None
    assert [delivery.state for delivery in record.deliveries] == ["delivering"]


def test_a_message_saved_before_is_acknowledged_without_being_written_again(run: Run, world: World) -> None:
    sent = json.loads(run(*TRANSFER, "--json", "ho-so.json").stdout)
    kept = run(*RECEIVE, "--out", "received", "--no-ack")
    assert kept.exit_code == 0, kept.output
    stamp = (Path("received") / sent["message_id"] / "body.json").stat().st_mtime_ns
    with world.bus.store.writing() as connection:
        connection.exec_driver_sql("UPDATE deliveries SET lease_until = 1")
    assert world.bus.ledger.release_stalled(utc_now()) == 1
    assert run(*RECEIVE, "--out", "received").exit_code == 0
    assert (Path("received") / sent["message_id"] / "body.json").stat().st_mtime_ns == stamp
    record = world.bus.ledger.find(sent["message_id"])
    assert record is not None
    assert record.deliveries[0].state == "delivered"


def test_a_followed_inbox_saves_what_comes_until_it_is_told_to_end(run: Run, world: World) -> None:
    follower = subprocess.Popen(
        [sys.executable, "-P", "-c", "from bus.cli import main; main()", *RECEIVE, "--out", "received", "--follow"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        sent = [json.loads(run(*TRANSFER, "--json", "ho-so.json").stdout)["message_id"] for _ in range(3)]
        patience_ends = time.monotonic() + 40
        while not all(_delivered(world, message_id) for message_id in sent):
            assert time.monotonic() < patience_ends
            assert follower.poll() is None
            time.sleep(0.05)
        follower.send_signal(signal.SIGTERM)
        said, _ = follower.communicate(timeout=30)
    finally:
        follower.kill()
        follower.wait()
    assert (follower.returncode, said.splitlines()[-1]) == (0, "3 messages")
    assert sorted(path.name for path in Path("received").iterdir()) == sorted(sent)


def _delivered(world: World, message_id: str) -> bool:
    record = world.bus.ledger.find(MessageId(message_id))
    return record is not None and record.deliveries[0].state == "delivered"


def test_a_reply_is_checked_and_its_exact_bytes_are_printed(run: Run, world: World) -> None:
    reply = b'{"hoTen": "NGUY\xe1\xbb\x84N V\xc4\x82N TH\xe1\xbb\xac"}'

    def provider(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        return [reply]

    with serving_on_a_free_port(provider) as partner:
        system = world.bus.directory.current().system(ANSWERING)
        assert system is not None
        assert system.endpoint is not None
        world.register(replace(system, endpoint=replace(system.endpoint, url=f"{partner.url}/in")))
        asked = run("call", "--service", "population.lookup", "--to", "G99", "-", typed='{"id": "097000000001"}')
        assert (asked.exit_code, asked.stdout_bytes) == (0, reply), asked.output
        assert "checked reply of G99" in asked.stderr
        shown = run(
            "call", "--service", "population.lookup", "--to", "G99", "--json", "--out", "reply.json", "ho-so.json"
        )
        assert json.loads(shown.stdout)["sender"] == "G99"
        assert Path("reply.json").read_bytes() == reply


def test_a_provider_that_is_away_is_a_failure_and_the_question_can_be_repeated(run: Run) -> None:
    asked = run("call", "--attempts", "1", "--service", "population.lookup", "--to", "G99", "ho-so.json")
    assert (asked.exit_code, "--id" in asked.stderr, asked.stdout) == (1, True, "")


def test_acknowledging_what_is_not_kept_is_refused(run: Run) -> None:
    refused = run(*RECEIVE, "--ack")
    assert (refused.exit_code, refused.stderr) == (
        2,
        "--ack needs --out or --json: what is acknowledged and not kept is lost.\n",
    )


@pytest.mark.parametrize(
    "profile, said",
    [
        ("bus = ", "not TOML"),
        ('password = "x"', "knows bus"),
        ("bus = 7", "each a text"),
        ('bus = "http://127.0.0.1:9"', "Missing: system, key"),
    ],
)
def test_a_profile_that_cannot_be_used_says_why(run: Run, profile: str, said: str) -> None:
    Path("bad.toml").write_text(profile, "utf-8")
    refused = run("inbox", "--profile", "bad.toml")
    assert refused.exit_code == 2
    assert said in refused.stderr


def test_the_keys_of_the_bus_may_be_pinned(run: Run, world: World) -> None:
    Path("bus.json").write_text(json.dumps(world.bus.ring.public_jwks()))
    assert run(*TRANSFER, "--bus-keys", "bus.json", "ho-so.json").exit_code == 0
    Path("other.json").write_text(json.dumps({"keys": []}))
    # A receipt by a key that was not pinned is no receipt, whatever the bus answers at /v1/keys.
    assert run(*TRANSFER, "--bus-keys", "other.json", "ho-so.json").exit_code != 0
