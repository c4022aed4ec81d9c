"""``lgsp trace``, ``replay`` and ``evidence`` on a bus with a little history."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bus.cli import lgsp
from bus.evidence import EvidenceWriter
from bus.logs import no_logs
from bus.records import Settlement, State
from schemas.identifiers import MessageId
from schemas.message import Envelope
from schemas.moment import utc_now
from schemas.problem import Problem, ProviderRejected, ProviderUnavailable
from tests.bus_world import GOOD, RECEIVING, Signed, World, bus_world

DOSSIER = "H99.15-260423-0001"
Run = Callable[..., Result]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with no_logs(), bus_world(tmp_path) as world:
        yield world


@pytest.fixture
def run(world: World) -> Run:
    def invoke(*words: object, language: str = "en_GB.UTF-8", **options: Any) -> Result:
        environment = {"LANG": language, "LC_ALL": "", "LC_MESSAGES": ""}
        home = ["--home", str(world.settings.home)]
        return CliRunner().invoke(lgsp, [*home, *map(str, words)], env=environment, **options)

    return invoke


def accept(world: World, message: Signed | None = None, **facts: Any) -> MessageId:
    """Through the front door, without HTTP."""
    signed = message or world.signed(**facts)
    headers = {name.lower(): value for name, value in signed.headers.items()}
    envelope = Envelope(
        body=signed.body,
        content_type=headers["content-type"],
        headers=headers,
        received_at=utc_now(),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    return world.bus.intake.accept(envelope).message.manifest.message_id


def end(world: World, state: State, problem: Problem | None = None, *, said: str = "") -> None:
    """Claim what is due for the receiver and settle it."""
    now = utc_now()
    writer = EvidenceWriter(world.bus.ring)
    for claim in world.bus.ledger.claim({RECEIVING: 10}, now, timedelta(minutes=1)):
        facts = None
        leaf = receipt = None
        if problem is not None:
            facts = {"problem": problem.slug, "reason": problem.reason, "facts": problem.facts, "said": said}
            leaf = writer.dead(claim, now, problem) if state is State.DEAD else None
        else:
            receipt, leaf = writer.delivered(claim, now)
        assert world.bus.ledger.settle(
            Settlement(
                delivery_id=claim.delivery_id,
                attempt=claim.attempt,
                state=state,
                started_at=now,
                finished_at=now,
                problem=facts,
                due_at=now if state is State.WAITING else None,
                receipt_jws=receipt,
                leaf=leaf,
            )
        )


def dead_letter(world: World, problem: Problem | None = None, **facts: Any) -> MessageId:
    message_id = accept(world, **facts)
    end(world, State.DEAD, problem or ProviderUnavailable("provider-unreachable"))
    return message_id


# --- trace


def test_a_message_is_told_with_names_attempts_and_reasons_in_words(run: Run, world: World) -> None:
    message_id = accept(world, dossier=DOSSIER)
    end(world, State.WAITING, ProviderUnavailable("provider-unreachable"))
    end(world, State.DELIVERED)
    told = run("trace", message_id)
    assert told.exit_code == 0, told.output
    for words in (
        "1 message, 0 refused",
        "dossier.transfer/1 from H99.15 Sở Mẫu: delivered",
        "to H99.16 Sở Nhận (H99.16/kho): delivered after",
        "The receiver's address cannot be reached.",
        "attempt 2",
        "trace 0af7651916cd43dd8448eb211c80319c",
    ):
        assert words in told.stdout, words
    assert "Không kết nối được tới bên nhận" in run("trace", message_id, language="vi_VN.UTF-8").stdout


def test_a_dossier_is_told_with_its_refusals_and_as_json(run: Run, world: World) -> None:
    first = accept(world, dossier=DOSSIER)
    with pytest.raises(Problem):
        accept(world, world.signed({"pages": 0}, dossier=DOSSIER))
    told = run("trace", DOSSIER)
    assert "1 message, 1 refused" in told.stdout
    # The number of broken places is not kept with a refusal; its sentence is told all the same.
    assert "breaks the schema" in told.stdout
    document = json.loads(run("trace", DOSSIER, "--json").stdout)
    assert [message["message_id"] for message in document["messages"]] == [first]
    assert [refusal["problem"] for refusal in document["refusals"]] == ["schema-violation"]


@pytest.mark.parametrize(
    "code, exit_code, said",
    [
        ("0193a5b0-7e2e-7c3f-9b1d-2f4c8e6a0d11", 1, "neither taken nor refused"),
        (DOSSIER, 1, "neither taken nor refused"),
        ("anything", 2, "neither a message id"),
    ],
)
def test_what_the_bus_does_not_know_is_said_so(run: Run, code: str, exit_code: int, said: str) -> None:
    told = run("trace", code)
    assert (told.exit_code, said in told.stderr) == (exit_code, True)


def test_what_a_receiver_said_cannot_move_the_operator_s_cursor(run: Run, world: World) -> None:
    message_id = accept(world)
    end(world, State.DEAD, ProviderRejected("refused-by-receiver"), said="\x1b[2Jgone\r")
    told = run("trace", message_id)
    assert "gone" in told.stdout
    assert "\x1b" not in told.stdout
    assert "\r" not in told.stdout


# --- replay


def test_dead_letters_are_listed_in_groups(run: Run, world: World) -> None:
    first, second = dead_letter(world), dead_letter(world)
    listed = run("replay", "--list")
    assert listed.exit_code == 0, listed.output
    assert "provider-unreachable" in listed.stdout
    assert "The receiver's address cannot be reached." in listed.stdout
    assert [first in listed.stdout, second in listed.stdout] == [True, True]
    documents = json.loads(run("replay", "--list", "--json").stdout)
    assert [(each["message_id"], each["attempt"]) for each in documents] == [(first, 1), (second, 1)]


def test_a_dead_letter_is_sent_again_and_its_trace_says_who_and_why(run: Run, world: World) -> None:
    message_id = dead_letter(world)
    done = run("replay", message_id, "--because", "the line was repaired")
    assert (done.exit_code, done.stdout) == (0, "replay 1: 1 delivery will be sent again\n")
    record = world.bus.ledger.find(message_id)
    assert record is not None
    assert record.deliveries[0].state is State.WAITING
    end(world, State.DELIVERED)
    told = run("trace", message_id).stdout
    assert told.index("attempt 1") < told.index("replay 1 ordered by cli:") < told.index("attempt 2")
    assert "the line was repaired" in told


@pytest.mark.parametrize(
    "filters, moved",
    [
        (("--all",), 2),
        (("--reason", "provider-unreachable"), 1),
        (("--reason", "provider-unreachable", "--service", "dossier.transfer"), 1),
        (("--system", "H99.16/kho"), 2),
        (("--system", "H99.17/kho"), 0),
        (("--to", "000.00.16.H99"), 2),
        (("--to", "H99.15"), 0),
        (("--service", "dossier.note"), 0),
    ],
)
def test_filters_choose_what_is_sent_again(run: Run, world: World, filters: tuple[str, ...], moved: int) -> None:
    dead_letter(world)
    dead_letter(world, ProviderRejected("refused-by-receiver"))
    dry = run("replay", *filters, "--dry-run", "--json")
    assert json.loads(dry.stdout) == {"replays": [], "deliveries": moved, "left": 0, "dry_run": True}
    assert len(world.bus.ledger.dead()) == 2
    done = run("replay", *filters, "--because", "tried", "--json")
    assert json.loads(done.stdout)["deliveries"] == moved
    assert len(world.bus.ledger.dead()) == 2 - moved


@pytest.mark.parametrize(
    "words, said",
    [
        ((), "Say which"),
        (("--all",), "--because"),
        (("--all", "--because", " "), "--because"),
        (("0193a5b0-7e2e-7c3f-9b1d-2f4c8e6a0d11", "--because", "x"), "Nothing was sent again"),
        (("not-an-id", "--because", "x"), "message id"),
    ],
)
def test_an_order_that_is_not_clear_is_refused_and_nothing_moves(
    run: Run, world: World, words: tuple[str, ...], said: str
) -> None:
    dead_letter(world)
    refused = run("replay", *words)
    assert (refused.exit_code, said in refused.stderr) == (2, True), refused.output
    assert len(world.bus.ledger.dead()) == 1


# --- evidence


def test_evidence_is_exported_verified_and_refuted_after_one_flipped_byte(
    run: Run, world: World, tmp_path: Path
) -> None:
    message_id = accept(world)
    end(world, State.DELIVERED)
    proof, trust = tmp_path / "proof.json", tmp_path / "trust.json"
    assert run("evidence", "export", message_id, "--body", "--out", proof).exit_code == 0
    assert run("evidence", "trust", "--out", trust).exit_code == 0
    assert proof.stat().st_mode & 0o777 == 0o600
    holds = run("evidence", "verify", proof, "--trust", trust)
    assert holds.exit_code == 0, holds.output
    assert "YES" in holds.stdout
    assert message_id in holds.stdout
    assert "ĐÚNG" in run("evidence", "verify", proof, language="vi_VN.UTF-8").stdout
    data = bytearray(proof.read_bytes())
    data[len(data) // 2] ^= 1
    proof.write_bytes(data)
    refuted = run("evidence", "verify", proof, "--trust", trust)
    assert (refuted.exit_code, "NO" in refuted.stdout) == (1, True)


def test_a_body_from_elsewhere_is_compared(run: Run, world: World, tmp_path: Path) -> None:
    message_id = accept(world)
    proof = tmp_path / "proof.json"
    proof.write_bytes(run("evidence", "export", message_id).stdout_bytes)
    for body, exit_code in ((json.dumps(GOOD, ensure_ascii=False).encode(), 0), (b"{}", 1)):
        (tmp_path / "body").write_bytes(body)
        assert run("evidence", "verify", proof, "--body", tmp_path / "body").exit_code == exit_code


@pytest.mark.parametrize(
    "changed, exit_code",
    [({}, 0), ({"leaf": "00" * 32}, 1), ({"state": "delivered"}, 1), ({"receipt": "a.b.c"}, 1)],
)
def test_a_receipt_in_json_must_say_what_was_signed(
    run: Run, world: World, tmp_path: Path, changed: dict[str, str], exit_code: int
) -> None:
    record = world.bus.ledger.find(accept(world))
    assert record is not None
    claims = json.loads(run("evidence", "verify", _written(tmp_path, record.receipt_jws), "--json").stdout)["facts"]
    receipt = {name: claims[name] for name in ("message_id", "state", "leaf")} | {"receipt": record.receipt_jws}
    verdict = run("evidence", "verify", _written(tmp_path, json.dumps(receipt | changed)))
    assert verdict.exit_code == exit_code, verdict.output


def _written(folder: Path, text: str) -> Path:
    path = folder / "receipt"
    path.write_text(text, "ascii")
    return path


def test_the_log_is_recomputed_and_a_changed_entry_is_found(run: Run, world: World) -> None:
    accept(world)
    world.bus.seal_evidence(utc_now())
    whole = run("evidence", "log-verify")
    assert (whole.exit_code, "The log is whole." in whole.stdout) == (0, True)
    with world.bus.store.writing() as connection:
        connection.exec_driver_sql("UPDATE evidence_leaves SET entry = X'7B7D' WHERE position = 0")
    broken = run("evidence", "log-verify")
    assert (broken.exit_code, "leaf 0" in broken.stdout) == (1, True)


def test_evidence_without_a_bus_at_hand_needs_a_trust_file(tmp_path: Path) -> None:
    path = _written(tmp_path, "a.b.c")
    refused = CliRunner().invoke(lgsp, ["--home", str(tmp_path / "none"), "evidence", "verify", str(path)])
    assert (refused.exit_code, "--trust" in refused.stderr) == (2, True)


@pytest.mark.parametrize("words", [("trace", DOSSIER), ("replay", "--list"), ("evidence", "trust"), ("key", "list")])
def test_commands_on_an_empty_folder_say_how_to_begin(tmp_path: Path, words: tuple[str, ...]) -> None:
    lost = CliRunner().invoke(lgsp, ["--home", str(tmp_path / "none"), *words])
    assert (lost.exit_code, "lgsp init" in lost.stderr) == (1, True), lost.output
