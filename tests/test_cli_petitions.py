"""``lgsp petitions`` and ``lgsp ratings`` on a bus with a little history, and what reaches the portal of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from bus.cli import lgsp
from bus.logs import no_logs
from connectors.http import HttpClient
from connectors.national_portal import NationalPortalConnector
from connectors.sandbox.app import Sandbox, SandboxConfig, create_sandbox
from registry.model import DossierView, Endpoint, Grant, Pattern, Service
from schemas.identifiers import AgencyCode, MessageId, ServiceCode
from schemas.message import Envelope, Grade
from schemas.moment import VIETNAM, to_micros, utc_now
from schemas.validation import compile_schema
from tests.bus_world import SENDER, World, bus_world
from tests.connector_contract import parcel_of
from tests.ledger_house import statements_of
from tests.loopback import serving

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"
FOLDER = SCHEMAS / "partners" / "petition"
PETITION: dict[str, Any] = json.loads((FOLDER / "submit.example.json").read_bytes())
SMS: dict[str, Any] = json.loads((FOLDER / "submit.2.example.json").read_bytes())
RATING: dict[str, Any] = json.loads((SCHEMAS / "examples" / "rating.json").read_bytes())
#: What no list, table or log may show.
PERSONAL = ("Nguyễn Thị Mẫu", "0900000001", "khai sinh", "chưa trả")
FLOOD = "Đường Mẫu ngập nước ba ngày nay, xe máy không đi được, trẻ em phải nghỉ học, đề nghị phường khơi cống ngay."
Run = Callable[..., Result]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with no_logs(), bus_world(tmp_path) as made:
        made.register(*members())
        yield made


def members() -> list[Any]:
    files = {
        # Not what the demonstration calls them: the schema says what they are.
        "pakn.den": "partners/petition/submit.schema.json",
        "pakn.trang-thai": "partners/petition/status.schema.json",
        "danh-gia": "documents/rating.schema.json",
    }
    return [
        *(
            Service(
                code=ServiceCode(code),
                version=1,
                name=code,
                owner=AgencyCode("H99"),
                pattern=Pattern.ONE_WAY,
                grade=Grade.ATTESTED,
                schema=json.loads((SCHEMAS / file).read_bytes()),
                dossier=DossierView(items="/data", code="/MaHoSo"),
            )
            for code, file in files.items()
        ),
        *(Grant(id=code, service=ServiceCode(code), grantee=SENDER) for code in files),
    ]


@pytest.fixture
def run(world: World) -> Run:
    def invoke(*words: object, **options: Any) -> Result:
        environment = {"LANG": "en_GB.UTF-8", "LC_ALL": "", "LC_MESSAGES": ""}
        done = CliRunner().invoke(
            lgsp, ["--home", str(world.settings.home), *map(str, words)], env=environment, **options
        )
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    return invoke


def accept(world: World, service: str, payload: Any) -> MessageId:
    """Through the front door, without HTTP."""
    signed = world.signed(payload, service=service, purpose="")
    headers = {name.lower(): value for name, value in signed.headers.items()}
    envelope = Envelope(
        body=signed.body,
        content_type=headers["content-type"],
        headers=headers,
        received_at=utc_now(),
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    return world.bus.intake.accept(envelope).message.manifest.message_id


#: The commands ask the clock again. Midnight may pass in between, so days that are left are compared by due days.
TODAY = datetime.now(VIETNAM)


def written(days_ago: float) -> str:
    return f"{TODAY - timedelta(days=days_ago):%Y%m%d%H%M%S}"


def due(days_ago: int, days: int = 15) -> str:
    return f"{TODAY + timedelta(days=days - days_ago):%Y-%m-%d}"


def petition(code: str, days_ago: float = 1, **facts: Any) -> dict[str, Any]:
    document = {**PETITION, "MaPAKN": code, "NgayGui": written(days_ago), **facts}
    return {name: value for name, value in document.items() if value is not None and name != "HanXuLy"}


def history(world: World) -> None:
    """A complaint by portal and SMS, of which one is answered; one that nobody took up; one about another dossier."""
    accept(world, "pakn.den", petition("P1", 5))
    accept(world, "pakn.den", petition("S1", 4, NguonGui="SMS", NoiDung=SMS["NoiDung"], MaHoSo=None, TieuDe=None))
    accept(world, "pakn.den", petition("P2", 20, NoiDung=FLOOD, TieuDe="=1+1", MaHoSo=None, DonViTiepNhan="H99.15"))
    accept(world, "pakn.den", petition("P3", 5, MaHoSo="H99.15-260423-0002"))
    answer = {"TrangThai": "5", "NoiDungTraLoi": "Đã trả giấy khai sinh.", "NgayTraLoi": written(3)}
    accept(world, "pakn.trang-thai", {"MaPAKN": "P1", **answer})
    accept(world, "pakn.trang-thai", {"MaPAKN": "P3", **answer})


# ── petitions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_groups_are_listed_with_sources_state_holder_and_days(run: Run, world: World) -> None:
    history(world)
    document = json.loads(run("petitions", "--json").stdout)
    groups = document["groups"]
    assert [[member["petition"] for member in group["members"]] for group in groups] == [["P2"], ["P1", "S1"], ["P3"]]
    overdue, same, answered = groups
    assert (overdue["clock"], overdue["due"], overdue["holder_name"]) == ("overdue", due(20), "Sở Mẫu")
    assert (same["clock"], same["due"], same["unanswered"]) == ("running", due(4), 1)
    assert same["sources"] == ["DVCQG", "SMS"]
    assert [(member["status"], member["clock"]) for member in same["members"]] == [
        ("5", "answered-in-time"),
        ("1", "running"),
    ]
    assert (answered["clock"], answered["unanswered"], answered["dossier"]) == (
        *("answered-in-time", 0),
        "H99.15-260423-0002",
    )
    table = run("petitions")
    assert "3 of 3 groups shown; 4 petitions, 2 groups open, 1 overdue." in table.stdout
    for words in ("P2", "DVCQG, SMS", "H99.15 Sở Mẫu", "overdue", "5 Đã trả lời"):
        assert words in table.stdout


def test_what_is_open_or_overdue_can_be_asked_for(run: Run, world: World) -> None:
    history(world)

    def listed(*options: str) -> list[str]:
        rows = csv.reader(io.StringIO(run("petitions", *options, "--csv").stdout))
        return [row[0] for row in rows][1:]

    assert listed() == ["P2", "P1", "P3"]
    assert listed("--open") == ["P2", "P1"]
    assert listed("--overdue") == ["P2"]
    assert listed("--within", "0") == ["P2", "S1", "P1", "P3"]
    assert listed("--from", f"{datetime.now(VIETNAM) + timedelta(days=1):%Y-%m-%d}") == []


def test_no_text_of_a_petition_is_shown_and_titles_only_when_asked_for(run: Run, world: World) -> None:
    history(world)
    for options in ((), ("--csv",), ("--json",), ("--open",)):
        said = run("petitions", *options).output
        assert [word for word in (*PERSONAL, "ngập", "=1+1") if word in said] == []
    titled = run("petitions", "--titles", "--csv").output
    assert "Trả kết quả khai sinh chậm" in titled
    assert "'=1+1" in titled, "a title runs in no spreadsheet"
    assert "Nguyễn Thị Mẫu" not in titled
    assert json.loads(run("petitions", "--titles", "--json").stdout)["groups"][0]["members"][0]["title"] == "=1+1"


def test_a_number_of_days_stays_a_number_in_a_spreadsheet(run: Run, world: World) -> None:
    history(world)
    (overdue, *_) = csv.DictReader(io.StringIO(run("petitions", "--csv").stdout))
    assert (overdue["days left"], overdue["clock"]) in (("-5", "overdue"), ("-6", "overdue"))


def test_erased_and_foreign_messages_are_counted_and_not_guessed(run: Run, world: World) -> None:
    history(world)
    accept(world, "pakn.trang-thai", {"MaPAKN": "P9", "TrangThai": "2"})
    with world.bus.store.writing() as connection:
        connection.execute(text("DELETE FROM payloads WHERE exchange_id = (SELECT MIN(exchange_id) FROM payloads)"))
    said = run("petitions")
    assert "1 messages were erased and are not counted." in said.stdout
    # The answer to the erased one, and one of which nothing else was ever heard.
    assert "2 petitions came in before, or elsewhere" in said.stdout
    document = json.loads(run("petitions", "--json").stdout)
    assert (document["messages"], document["erased"], document["without_text"]) == (7, 1, 2)


def test_a_province_brings_its_own_days(run: Run, world: World, tmp_path: Path) -> None:
    history(world)
    table = tmp_path / "han.json"
    table.write_text(json.dumps({"days": 30, "due_soon_days": 12, "fields": {"HỘ TỊCH": 2}}), "utf-8")
    groups = json.loads(run("petitions", "--clocks", table, "--json").stdout)["groups"]
    # All are of the field "Hộ tịch", as the example is.
    assert [group["clock"] for group in groups] == ["overdue", "overdue", "answered-in-time"]
    assert [group["due"] for group in groups] == [due(20, 2), due(4, 2), due(5, 2)]
    table.write_text('{"days": "mười lăm"}', "utf-8")
    refused = run("petitions", "--clocks", table)
    assert refused.exit_code == 2
    assert "whole numbers from 0 to 3650" in refused.stderr


def test_a_bus_without_petitions_says_so(run: Run) -> None:
    assert "0 of 0 groups shown" in run("petitions").stdout
    assert run("petitions", "--from", "hôm qua").exit_code == 2


def test_the_list_costs_what_there_is_of_petitions(world: World, run: Run) -> None:
    """Other messages, however many, are not looked at."""
    history(world)
    seen = statements_of(world.bus.store)
    list(world.bus.ledger.carried({ServiceCode("pakn.den")}, utc_now() - timedelta(days=1)))
    query = next(each for each in seen if "received_at >=" in each)
    with world.bus.store.reading() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")]
    assert plan == ["SEARCH exchanges USING COVERING INDEX exchanges_by_service (service=? AND received_at>?)"]


def test_messages_are_read_in_their_order_and_all_of_them(world: World) -> None:
    with world.bus.store.writing() as connection:
        source = connection.execute(text("SELECT * FROM exchanges LIMIT 1")).first()
        assert source is None
    ids = [accept(world, "danh-gia", RATING) for _ in range(3)] + [accept(world, "pakn.den", petition("P1"))]
    services = {ServiceCode("danh-gia"), ServiceCode("pakn.den")}
    carried = list(world.bus.ledger.carried(services, utc_now() - timedelta(hours=1)))
    assert [one.exchange_id for one in carried] == sorted(one.exchange_id for one in carried)
    assert [one.service for one in carried] == ["danh-gia"] * 3 + ["pakn.den"]
    assert {one.receiver for one in carried} == {"H99.16"}
    record = world.bus.ledger.find(ids[-1])
    assert record is not None
    assert carried[-1].exchange_id == record.id
    assert list(world.bus.ledger.carried(services, utc_now() + timedelta(hours=1))) == []
    with world.bus.store.writing() as connection:
        connection.execute(
            text("UPDATE exchanges SET received_at = :then WHERE id = :id"),
            {"then": to_micros(utc_now() - timedelta(days=2)), "id": carried[0].exchange_id},
        )
    assert len(list(world.bus.ledger.carried(services, utc_now() - timedelta(hours=1)))) == 3


# ── ratings ───────────────────────────────────────────────────────────────────────────────────────────────────────────

#: The middle of last month: long past when it is read.
THEN = (TODAY.replace(day=1) - timedelta(days=1)).replace(day=15, hour=10)
BEFORE = (THEN.replace(day=1) - timedelta(days=1)).replace(day=15)
MONTH = f"{THEN:%Y-%m}"


def rating(number: int = 1, answer: str = "HÀI LÒNG", at: datetime = THEN, **facts: Any) -> dict[str, Any]:
    defaults = {
        "MaHoSo": f"H99.15-260423-{number:04d}",
        "ThoiGianDanhGia": f"{at:%Y%m%d%H%M%S}",
        "NguoiDanhGia": f"N{number}",
    }
    return {**RATING, **defaults, "DanhGia": answer, **facts}


def month_of_ratings(world: World) -> None:
    citizens = [rating(n, "RẤT HÀI LÒNG") for n in range(1, 6)] + [rating(6), rating(7, "KHÔNG HÀI LÒNG")]
    accept(world, "danh-gia", {"data": citizens})
    accept(world, "danh-gia", rating(1, NoiDungDanhGia="Thời gian giải quyết"))
    accept(world, "danh-gia", rating(1, "KHÔNG HÀI LÒNG", LoaiDanhGia="internal", NguoiDanhGia="canbo.01"))
    accept(world, "danh-gia", rating(8, MaHoSo="H99.16-260423-0001"))
    accept(world, "danh-gia", rating(9, "KHÔNG HÀI LÒNG", BEFORE))
    accept(world, "danh-gia", rating(9, "KHÔNG HÀI LÒNG", TODAY))


def figures(run: Run, *options: str) -> dict[tuple[str, str, str], list[int]]:
    rows = json.loads(run("ratings", "--month", MONTH, "--json", *options).stdout)["ratings"]
    return {(row["unit"], row["kind"], row["question"]): row["counts"] for row in rows}


def test_ratings_are_counted_per_unit_and_question_and_both_kinds_apart(run: Run, world: World) -> None:
    month_of_ratings(world)
    manner, speed = "Thái độ của công chức", "Thời gian giải quyết"
    assert figures(run) == {
        ("H99.15", "citizen", manner): [5, 1, 1],
        ("H99.15", "citizen", speed): [0, 1, 0],
        ("H99.15", "internal", manner): [0, 0, 1],
        ("H99.16", "citizen", manner): [0, 1, 0],
    }
    assert list(figures(run, "--unit", "H99.16")) == [("H99.16", "citizen", manner)]
    assert len(figures(run, "--unit", "000.00.00.H99")) == 4
    table = run("ratings", "--month", MONTH).stdout
    assert f"Ratings given in {MONTH}" in table
    assert "H99.15 Sở Mẫu" in table
    rows = list(csv.DictReader(io.StringIO(run("ratings", "--month", MONTH, "--csv").stdout)))
    assert [int(rows[0][f"{name} %"]) for name in ("very satisfied", "satisfied", "not satisfied")] == [72, 14, 14]


def test_one_person_counts_once_with_the_last_word(run: Run, world: World) -> None:
    moments = [THEN + timedelta(seconds=seconds) for seconds in (100, 200, 300)]
    # The message of the second answer comes last; one person's name in two spellings; the same again.
    for moment, answer, who in (
        (moments[0], "KHÔNG HÀI LÒNG", "Trần Văn Thử"),
        (moments[2], "RẤT HÀI LÒNG", "TRẦN VĂN THỬ"),
        (moments[2], "RẤT HÀI LÒNG", "trần văn  thử"),
        (moments[1], "HÀI LÒNG", "Trần Văn Thử"),
    ):
        accept(world, "danh-gia", rating(1, answer, moment, NguoiDanhGia=who))
    assert list(figures(run).values()) == [[1, 0, 0]]
    # Another person, dossier, question or kind is another voice.
    accept(world, "danh-gia", rating(1, "HÀI LÒNG", NguoiDanhGia="Lý Thái An"))
    accept(world, "danh-gia", rating(2, "HÀI LÒNG", NguoiDanhGia="Trần Văn Thử"))
    assert list(figures(run).values()) == [[1, 2, 0]]
    assert "TRẦN" not in run("ratings", "--month", MONTH).output.upper()


def test_nameless_answers_about_one_dossier_are_one_voice(run: Run, world: World) -> None:
    nameless = rating(1)
    del nameless["NguoiDanhGia"]
    for answer in ("KHÔNG HÀI LÒNG", "HÀI LÒNG"):
        accept(world, "danh-gia", {**nameless, "DanhGia": answer})
    assert list(figures(run).values()) == [[0, 1, 0]]


def test_a_rating_of_no_dossier_of_ours_has_no_unit_and_is_seen(run: Run, world: World) -> None:
    accept(world, "danh-gia", rating(1, MaHoSo="HS-CU-77", NoiDungDanhGia="=cmd()"))
    assert list(figures(run)) == [("", "citizen", "=cmd()")]
    assert "(no agency)" in run("ratings", "--month", MONTH).stdout
    assert "'=cmd()" in run("ratings", "--month", MONTH, "--csv").stdout


def test_erased_ratings_are_counted_as_such(run: Run, world: World) -> None:
    month_of_ratings(world)
    with world.bus.store.writing() as connection:
        connection.execute(text("DELETE FROM payloads"))
    done = run("ratings", "--month", MONTH)
    assert "6 messages were erased" in done.stderr
    assert json.loads(run("ratings", "--month", MONTH, "--json").stdout)["ratings"] == []


def test_the_month_goes_to_the_portal_as_it_is_printed(run: Run, world: World, tmp_path: Path) -> None:
    """What citizens said, under the province's name, as ``lgsp send --service rating.sync`` takes it."""
    month_of_ratings(world)
    printed = run("ratings", "--month", MONTH, "--portal").stdout.encode()
    rows = json.loads(printed)["data"]
    assert [(row["NoiDung"], row["TongSoNguoiDanhGia"], row["Madonvi"], row["TenDonVi"]) for row in rows] == [
        ("Thái độ của công chức", 8, "H99", "Tỉnh Thử Nghiệm"),
        ("Thời gian giải quyết", 1, "H99", "Tỉnh Thử Nghiệm"),
    ]
    assert rows[0]["PhanTramDanhGiaRatHaiLong"] == "63%"
    schema = json.loads((SCHEMAS / "partners/national_portal/rating-sync.schema.json").read_bytes())
    compile_schema(schema).validate(printed, "application/json")
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json"))
    sandbox: Sandbox = app.extensions["sandbox"]
    connector = NationalPortalConnector(HttpClient())
    with serving(app) as twin:
        endpoint = Endpoint(connector="national_portal", url=f"{twin.url}/national_portal", settings={"madonvi": "H99"})
        for _ in range(2):
            connector.deliver(
                parcel_of("rating.sync", printed), endpoint, sandbox.credentials["national_portal"].encode()
            )
        state = sandbox.twins["national_portal"].state()
    connector.close()
    sandbox.close()
    assert (state["ratings"], state["ratings_not_100"]) == (2, 0)


def test_a_unit_sends_its_own_month(run: Run, world: World) -> None:
    month_of_ratings(world)
    (row,) = json.loads(run("ratings", "--month", MONTH, "--portal", "--unit", "H99.16").stdout)["data"]
    assert (row["Madonvi"], row["TenDonVi"], row["TongSoNguoiDanhGia"]) == ("H99.16", "Sở Nhận", 1)


@pytest.mark.parametrize(
    "options, words",
    [
        (("--month", f"{BEFORE:%Y-%m}", "--unit", "H99.16"), f"No citizen rated a dossier of H99.16 in {BEFORE:%Y-%m}"),
        (("--month", MONTH, "--unit", "H99.77"), "There is no agency H99.77"),
        (("--month", "04/2026"), "a month as 2026-04"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_a_sentence(
    run: Run, world: World, options: tuple[str, ...], words: str
) -> None:
    month_of_ratings(world)
    done = run("ratings", "--portal", *options)
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stdout == ""
