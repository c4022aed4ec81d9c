"""One dossier over several services: `/v1/dossiers/{code}`, ``lgsp trace`` and ``lgsp stats`` on a bus."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bus.cli import lgsp
from bus.logs import no_logs
from registry.model import DossierView, Grant, Pattern, PaymentView, Provider, Service
from schemas.identifiers import AgencyCode, MessageId, ServiceCode
from schemas.message import Envelope
from schemas.moment import VIETNAM, utc_now
from schemas.problem import Problem
from tests.bus_world import (
    MINISTRY,
    OPERATOR,
    RECEIVER,
    RECEIVING,
    SENDER,
    SENDING,
    UNGRANTED,
    World,
    ask,
    bus_world,
    post,
)
from tests.loopback import serving

CODE, OTHER = "H99.15-260423-0001", "H99.15-260423-57321"
SYNC, PAY = ServiceCode("dossier.sync"), ServiceCode("payment.notice")
VIEWS = {
    SYNC: DossierView(
        code="/MaHoSo", aliases=("/MaHoSoKhac",), dates=("yyyyMMddHHmmss",), at="/LucNao", status="/TrangThai",
        due="/NgayHenTra", holder="/DonVi", synchronises=True,
    ),
    PAY: DossierView(payment=PaymentView(amount="/SoTien", reference="/MaThamChieu", states={"": "paid"})),
}  # fmt: skip
Run = Callable[..., Result]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with no_logs(), bus_world(tmp_path) as world:
        for code, view in VIEWS.items():
            facts: dict[str, Any] = {"owner": AgencyCode("H99"), "pattern": Pattern.ONE_WAY, "dossier": view}
            world.register(
                Service(code=code, version=1, name="Thử", **facts), Grant(id=code, service=code, grantee=SENDER)
            )
        yield world


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with world.serving() as url:
        yield url


@pytest.fixture
def run(world: World) -> Run:
    def invoke(*words: object) -> Result:
        environment = {"LANG": "en_GB.UTF-8", "LC_ALL": "", "LC_MESSAGES": ""}
        return CliRunner().invoke(lgsp, ["--home", str(world.settings.home), *map(str, words)], env=environment)

    return invoke


def send(world: World, payload: Any, service: str = SYNC, to: str = RECEIVER, dossier: str = CODE) -> MessageId:
    """Through the front door, without HTTP."""
    signed = world.signed(payload, service=service, receivers=(to,), dossier=dossier)
    envelope = Envelope(
        body=signed.body,
        content_type="application/json",
        headers={name.lower(): value for name, value in signed.headers.items()},
        received_at=utc_now(),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    return world.bus.intake.accept(envelope).message.manifest.message_id


def a_little_history(world: World) -> list[MessageId]:
    """Received, in work, paid (told to the ministry only), and back a step that no one-stop should take."""
    said = {"MaHoSo": CODE, "DonVi": "H99.16"}
    return [
        send(world, said | {"TrangThai": "2", "NgayHenTra": "20260424170000", "LucNao": "20260423100000"}),
        send(world, said | {"TrangThai": "4", "LucNao": "20260423103000", "MaHoSoKhac": OTHER}),
        send(world, {"SoTien": 3_000_000_000, "MaThamChieu": "HP1"}, PAY, MINISTRY),
        send(world, {"MaHoSo": OTHER, "TrangThai": "9", "LucNao": "20260424090000"}, dossier=OTHER),
        send(world, {"MaHoSo": OTHER, "TrangThai": "2", "LucNao": "20260424100000"}, dossier=""),
    ]


@pytest.mark.parametrize("code", [CODE, OTHER])
def test_a_dossier_is_told_over_all_its_messages_under_any_of_its_codes(world: World, url: str, code: str) -> None:
    sent = a_little_history(world)
    document = ask("GET", f"{url}/v1/dossiers/{code}", headers=world.bearer(SENDING)).json
    assert [message["message_id"] for message in document["messages"]] == sent
    assert (document["dossier"], document["aliases"], document["unit"]) == (CODE, [OTHER], "H99.15")
    assert document["status"] == {"code": "2", "name": "Được tiếp nhận"}
    assert [(step["status"]["code"], step["legal"]) for step in document["history"]] == [
        ("2", True), ("4", True), ("9", True), ("2", False),
    ]  # fmt: skip
    assert [step["message_id"] for step in document["history"]] == [sent[0], sent[1], sent[3], sent[4]]
    assert (document["due_at"], document["timeliness"]) == ("2026-04-24T10:00:00.000000Z", "overdue")
    assert document["holder"]["name"] == "H99.16"
    assert document["holder"]["seconds"] > 0
    (payment,) = document["payments"]
    assert (payment["amount"], payment["state"], payment["message_ids"]) == (3_000_000_000, "paid", [sent[2]])


def test_each_party_sees_its_own_messages_and_what_they_say(world: World, url: str) -> None:
    sent = a_little_history(world)

    def seen(system: str) -> Any:
        return ask("GET", f"{url}/v1/dossiers/{CODE}", headers=world.bearer(system))

    receiver = seen(RECEIVING).json
    assert [message["message_id"] for message in receiver["messages"]] == [sent[0], sent[1], sent[3], sent[4]]
    assert receiver["payments"] == []
    ministry = seen("G99/csdl").json
    assert [message["message_id"] for message in ministry["messages"]] == [sent[2]]
    assert (ministry["status"], ministry["holder"], ministry["history"], ministry["aliases"]) == (None, None, [], [])
    assert len(seen(OPERATOR).json["messages"]) == 5


@pytest.mark.parametrize("code", [CODE, "H99.15-260423-9999", "x" * 51, "%00", "’; --"])
def test_a_dossier_of_others_is_a_dossier_that_does_not_exist(world: World, url: str, code: str) -> None:
    a_little_history(world)
    answer = ask("GET", f"{url}/v1/dossiers/{code}", headers=world.bearer(UNGRANTED))
    assert (answer.status, answer.json["reason"]) == (404, "dossier-unknown")
    assert ask("GET", f"{url}/v1/dossiers/{code}").status == 401


def test_a_payload_that_says_nothing_is_taken_all_the_same(world: World, url: str) -> None:
    message_id = send(world, [1, 2])
    document = ask("GET", f"{url}/v1/dossiers/{CODE}", headers=world.bearer()).json
    assert (document["messages"][0]["message_id"], document["status"]) == (message_id, None)


def test_a_payment_s_notice_that_names_only_the_reference_is_the_dossier_s(world: World, url: str) -> None:
    """As the demonstration's province declares it: the reference is another name of the dossier."""
    asked = DossierView(
        code="/MaHoSo", aliases=("/Ma",), payment=PaymentView(reference="/Ma", states={"": "requested"})
    )
    told = DossierView(code="/Ma", payment=PaymentView(amount="/SoTien", reference="/Ma", states={"": "paid"}))
    facts: dict[str, Any] = {"version": 1, "name": "Thử", "owner": AgencyCode("H99"), "pattern": Pattern.ONE_WAY}
    for code, view in (("payment.ask", asked), ("payment.tell", told)):
        service = Service(code=ServiceCode(code), dossier=view, **facts)
        world.register(service, Grant(id=code, service=service.code, grantee=SENDER))
    send(world, {"Ma": "HP0001260423100001", "MaHoSo": CODE}, "payment.ask", dossier="")
    send(world, {"Ma": "HP0001260423100001", "SoTien": "150000"}, "payment.tell", dossier="")
    document = ask("GET", f"{url}/v1/dossiers/{CODE}", headers=world.bearer()).json
    (payment,) = document["payments"]
    assert (payment["amount"], payment["state"], len(payment["message_ids"])) == (150_000, "paid", 2)
    assert (len(document["messages"]), document["unit"]) == (2, "H99.15")


# ── lgsp trace ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_trace_tells_where_a_dossier_stands(world: World, run: Run) -> None:
    a_little_history(world)
    with pytest.raises(Problem):
        send(world, b"{")
    told = run("trace", CODE)
    assert told.exit_code == 0, told.output
    for words in (
        f"{CODE}: 5 messages, 1 refused",
        f"also {OTHER}",
        "status 2 Được tiếp nhận since 2026-04-24 10:00:00",
        "statuses 2 → 4 → 9 → 2!",
        "held by H99.16 Sở Nhận for",
        "came in 2026-04-23 10:00:00, due 2026-04-24 17:00:00: overdue",
        "payment HP1 3.000.000.000 đồng: paid",
    ):
        assert words in told.stdout, words
    document = json.loads(run("trace", OTHER, "--json").stdout)
    assert (document["dossier"], len(document["messages"]), document["refusals"]) == (CODE, 5, [])


def test_trace_finds_a_dossier_by_a_code_that_has_no_form(world: World, run: Run) -> None:
    send(world, {"MaHoSo": CODE, "TrangThai": "1", "MaHoSoKhac": "tam-57321"})
    assert f"also {CODE}" in run("trace", "tam-57321").stdout


# ── lgsp stats ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_stats_count_units_as_a_table_as_csv_and_as_json(world: World, run: Run) -> None:
    said = {"TrangThai": "2", "NgayHenTra": "20260424170000", "LucNao": "20260423100000"}
    for number in (1, 2, 3):
        send(world, said | {"MaHoSo": f"H99.15-260423-000{number}"})
    for number, end in ((1, "20260424235900"), (2, "20260425000000")):
        send(world, {"MaHoSo": f"H99.15-260423-000{number}", "TrangThai": "9", "LucNao": end})
    told = run("stats", "--month", "2026-04")
    assert told.exit_code == 0, told.output
    assert "H99.15 Sở Mẫu" in told.stdout
    (row,) = csv.DictReader(io.StringIO(run("stats", "--from", "2026-04-23", "--until", "2026-04-30", "--csv").stdout))
    assert {name: row[name] for name in ("unit", "name", "received", "returned", "on_time", "late", "overdue")} == {
        "unit": "H99.15", "name": "Sở Mẫu", "received": "3", "returned": "2", "on_time": "1", "late": "1",
        "overdue": "1",
    }  # fmt: skip
    assert (row["on_time_percent"], row["sync_percent"]) == ("50.00", "0.00")
    world.register(replace(world.bus.registry.load().agencies[SENDER], name="=HYPERLINK(0)"))
    assert "'=HYPERLINK" in run("stats", "--month", "2026-04", "--csv").stdout, "no cell runs as a formula"
    document = json.loads(run("stats", "--month", "2026-04", "--json").stdout)
    assert (document["until"], document["total"]["received"], document["total"]["on_time_percent"]) == (
        "2026-04-30", 3, 50.0,
    )  # fmt: skip
    assert run("stats", "--month", "2026-04", "--missing").stdout.split() == [
        f"H99.15-260423-000{number}" for number in (1, 2, 3)
    ]
    assert json.loads(run("stats", "--month", "2026-05", "--json").stdout)["units"] == []
    assert json.loads(run("stats", "--json").stdout)["from"] == f"{utc_now().astimezone(VIETNAM):%Y-%m}-01"


@pytest.mark.parametrize(
    "words",
    [
        ("--month", "2026-13"),
        ("--month", "20260401"),
        ("--from", "2026-W14-3"),
        ("--until", "2026-04-30"),
        ("--from", "2026-04-30", "--until", "2026-04-01"),
        ("--month", "2026-04", "--from", "2026-04-01"),
    ],
)
def test_a_time_that_is_none_is_refused(run: Run, words: tuple[str, ...]) -> None:
    assert run("stats", *words).exit_code == 2


# ── what answers say ──────────────────────────────────────────────────────────────────────────────────────────────────

QUERY = ServiceCode("payment.query")
STATUS = DossierView(status="/value/trangThai", statuses="civil-status")
INSIDE = DossierView(
    code="/message/Ma",
    payment=PaymentView(amount="/message/SoTien", reference="/message/Ma", state="/message/TT", states={"1": "paid"}),
)


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Registers a request-reply service with this view, whose provider gives this answer; asks it, and gives back the
    dossier's document, or what was refused and then the document."""
    answers: list[tuple[bytes, str]] = []

    def provider(environ: Any, start_response: Any) -> list[bytes]:
        body, content_type = answers[-1]
        start_response("200 OK", [("Content-Type", content_type), ("Content-Length", str(len(body)))])
        return [body]

    with serving(provider) as partner, no_logs(), bus_world(tmp_path, partner_url=partner.url) as world:

        def ask_it(
            view: DossierView | None, answer: Any, *, dossier: str = CODE, question: Any = None, **facts: Any
        ) -> Any:
            content_type = facts.pop("content_type", "application/json")
            answers.append((answer if isinstance(answer, bytes) else json.dumps(answer).encode(), content_type))
            service = Service(
                code=QUERY, version=1, name="Thử", owner=MINISTRY, pattern=Pattern.REQUEST_REPLY, dossier=view, **facts
            )
            world.register(service, Grant(id=QUERY, service=QUERY, grantee=SENDER))
            signed = world.signed(question or {"x": 1}, service=QUERY, receivers=(MINISTRY,), dossier=dossier)
            with world.serving() as url:
                status = post(url, signed).status
                told = ask("GET", f"{url}/v1/dossiers/{CODE}", headers=world.bearer(OPERATOR)).json
            return status, told, world

        yield ask_it


def test_a_status_in_an_answer_is_a_step_of_the_dossier_and_counts(asked: Callable[..., Any], run_in: Any) -> None:
    status, told, world = asked(DossierView(reply=STATUS), {"value": {"trangThai": "1"}})
    assert (status, told["status"]["code"]) == (200, "2")
    (step,) = told["history"]
    assert step["message_id"] == told["messages"][0]["message_id"]
    assert told["received_at"] is not None
    counted = json.loads(run_in(world, "stats", "--json").stdout)
    assert [unit["unit"] for unit in counted["units"]] == ["H99.15"]
    assert counted["total"]["received"] == 1
    assert "status 2 Được tiếp nhận" in run_in(world, "trace", CODE).stdout


@pytest.fixture
def run_in() -> Callable[..., Result]:
    def invoke(world: World, *words: str) -> Result:
        environment = {"LANG": "en_GB.UTF-8", "LC_ALL": "", "LC_MESSAGES": ""}
        return CliRunner().invoke(lgsp, ["--home", str(world.settings.home), *words], env=environment)

    return invoke


def test_an_answer_that_names_no_dossier_is_about_the_one_of_the_question(asked: Callable[..., Any]) -> None:
    view = DossierView(code="/maHoSo", reply=STATUS)
    _, told, _ = asked(view, {"value": {"trangThai": "4"}}, dossier="", question={"maHoSo": CODE})
    assert told["status"]["code"] == "9"


def test_json_that_stands_in_an_answer_as_text_is_read(asked: Callable[..., Any]) -> None:
    inner = json.dumps({"Ma": CODE, "SoTien": "3000000000", "TT": "1"})
    _, told, _ = asked(DossierView(reply=INSIDE), {"error_code": "0", "message": inner}, dossier="")
    (payment,) = told["payments"]
    assert (payment["amount"], payment["state"], payment["reference"]) == (3_000_000_000, "paid", CODE)


def test_question_and_answer_may_both_speak(asked: Callable[..., Any]) -> None:
    view = DossierView(status="/s", holder="receiver", reply=STATUS)
    _, told, world = asked(view, {"value": {"trangThai": "3"}}, question={"s": "2"})
    assert [step["status"]["code"] for step in told["history"]] == ["2", "4"]
    assert told["holder"]["name"] == MINISTRY
    assert world.rows()["dossier_events"] == 2


@pytest.mark.parametrize(
    ("answer", "facts"),
    [
        # Nothing in it, another shape, text that is no JSON.
        ({"value": {}}, {}),
        ({"value": ["trangThai"]}, {}),
        ({"value": "{"}, {}),
        ([], {}),
        (b"<html>", {"content_type": "text/html", "content_types": ("application/json", "text/html")}),
    ],
)
def test_an_answer_without_what_the_view_looks_for_says_nothing(
    asked: Callable[..., Any], answer: Any, facts: dict[str, Any]
) -> None:
    status, told, world = asked(DossierView(reply=STATUS), answer, **facts)
    assert (status, told["status"], told["history"]) == (200, None, [])
    assert world.rows()["dossier_events"] == 0


def test_an_answer_that_breaks_its_schema_says_nothing(asked: Callable[..., Any]) -> None:
    strict = {"type": "object", "required": ["ok"]}
    status, told, world = asked(DossierView(reply=STATUS), {"value": {"trangThai": "4"}}, reply_schema=strict)
    assert (status, told["status"], world.rows()["dossier_events"]) == (502, None, 0)


def test_an_answer_that_was_translated_says_nothing(asked: Callable[..., Any]) -> None:
    mapping = Provider(reply_mapping=({"rename": "/v", "to": "/value"},))
    answer, own = {"v": {"trangThai": "4"}}, {"type": "object"}
    status, told, world = asked(DossierView(reply=STATUS), answer, provider=mapping, reply_schema=own)
    assert (status, told["status"], world.rows()["dossier_events"]) == (200, None, 0)


def test_a_service_without_a_view_of_answers_keeps_nothing_of_them(asked: Callable[..., Any]) -> None:
    _, told, world = asked(None, {"value": {"trangThai": "4"}})
    assert (told["status"], world.rows()["dossier_events"]) == (None, 0)
    _, told, world = asked(DossierView(code="/maHoSo"), {"value": {"trangThai": "4"}})
    assert told["status"] is None
