"""What payloads say about dossiers: read by a view, which looks on and never objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import create_engine

from registry.changes import plan_changes
from registry.contract import Contract
from registry.directory import Directory
from registry.dossier_view import DossierFact, DossierReader, Heard
from registry.manifests import document_of, parse_manifest, plan
from registry.model import (
    Agency,
    DossierView,
    ParcelView,
    Pattern,
    PaymentView,
    Service,
    Stage,
    dossier_facts,
    dossier_view_from,
)
from registry.store import RegistryStore, metadata
from schemas.identifiers import AgencyCode, DossierCode, ServiceCode
from schemas.moment import VIETNAM
from schemas.places import MAX_ITEMS
from schemas.problem import Malformed

ROOT = Path(__file__).resolve().parent.parent
NOW = datetime(2026, 4, 23, 5, 0, tzinfo=UTC)
HEARD = Heard(accepted_at=NOW, sender="H99.15", receiver="G99", dossier=DossierCode("H99.20-260423-0009"))
CODE = "H99.15-260423-0001"


def at(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=VIETNAM)


#: What the national portal's own field names are (vietnam.md 4.3, 4.4).
PORTAL = DossierView(
    items="/data",
    code="/MaHoSo",
    aliases=("/MaHoSoKhac",),
    at="/ThoiDiemXuLy",
    dates=("yyyyMMddHHmmss", "dd/MM/yyyy"),
    status="/TrangThaiHoSo",
    received="/NgayTiepNhan",
    due="/NgayHenTra",
    finished="/NgayKetThucXuLy",
    holder="/DonViXuLy",
    procedure="/MaTTHC",
    channel="/KenhThucHien",
    payment=PaymentView(
        amount="/SoTien", reference="/MaThamChieu", state="/MaLoi", states={"": "requested", "00": "paid"}
    ),
    parcel=ParcelView(code="/ItemCode", state="/Status", states={"50": "delivered"}),
    synchronises=True,
)  # fmt: skip


def service(view: DossierView | None = PORTAL, **facts: Any) -> Service:
    return Service(
        code=ServiceCode("dossier.sync"), version=1, name="Đồng bộ hồ sơ", owner=AgencyCode("H99"),
        pattern=Pattern.ONE_WAY, dossier=view, **facts,
    )  # fmt: skip


def read(payload: Any, view: DossierView = PORTAL) -> tuple[DossierFact, ...]:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Contract(service(view)).dossier_facts(body, "application/json", HEARD)


def in_vietnam(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=VIETNAM)  # type: ignore[misc,arg-type]  # parts are numbers, never the zone


def test_a_payload_says_all_that_its_view_points_at() -> None:
    (fact,) = read(
        {
            "MaHoSo": CODE, "MaHoSoKhac": "H99.15-260423-57321", "TrangThaiHoSo": "2", "NgayTiepNhan": "20260423100000",
            "NgayHenTra": "24/04/2026", "NgayKetThucXuLy": "", "DonViXuLy": "UBND phường Mẫu", "MaTTHC": "1.001193",
            "KenhThucHien": "2", "SoTien": "3000000000", "MaThamChieu": "HP1", "MaLoi": "00", "ItemCode": "HC1",
            "Status": 50, "ChuHoSo": "NGUYỄN THỊ MẪU",
        }
    )  # fmt: skip
    assert fact == DossierFact(
        dossier=CODE,
        at=NOW,
        aliases=("H99.15-260423-57321",),
        unit="H99.15",
        status="2",
        said="2",
        received=in_vietnam(2026, 4, 23, 10),
        due=in_vietnam(2026, 4, 24),
        holder="UBND phường Mẫu",
        procedure="1.001193",
        channel="2",
        amount=3_000_000_000,
        payment_reference="HP1",
        payment_state="paid",
        parcel="HC1",
        parcel_state="delivered",
        synchronises=True,
    )


def test_each_item_of_a_batch_speaks_of_its_own_dossier_and_time_orders_them() -> None:
    rows = [
        {"MaHoSo": CODE, "TrangThaiHoSo": "4", "ThoiDiemXuLy": "20260423110000"},
        {"MaHoSo": "H99.15-260423-0002", "TrangThaiHoSo": "2", "ThoiDiemXuLy": "20260423103000"},
        {"MaHoSo": CODE, "TrangThaiHoSo": "2", "ThoiDiemXuLy": "20260423100000"},
    ]
    assert [(fact.dossier[-4:], fact.status) for fact in read({"data": rows})] == [
        ("0001", "2"), ("0002", "2"), ("0001", "4"),
    ]  # fmt: skip


def test_without_a_code_of_its_own_a_payload_speaks_of_the_message_s_dossier() -> None:
    (fact,) = read({"TrangThaiHoSo": "5"})
    assert (fact.dossier, fact.unit) == ("H99.20-260423-0009", "H99.20")
    nameless = Heard(accepted_at=NOW, sender="H99.15", receiver="G99")
    assert DossierReader(PORTAL).read({"TrangThaiHoSo": "5"}, nameless) == ()


def test_the_unit_in_an_old_code_is_the_same_unit() -> None:
    (fact,) = read({"MaHoSo": "000.00.15.H99-201105-0001"})
    assert (fact.dossier, fact.unit) == ("000.00.15.H99-201105-0001", "H99.15")


def test_a_unit_may_be_stated_and_a_message_may_hand_the_dossier_over() -> None:
    view = DossierView(unit="/MaDonVi", holder="receiver", statuses={"": "2"}, aliases=("/a", "/b"))
    (fact,) = read({"MaDonVi": "000.00.16.H99", "a": "x", "b": "x"}, view)
    assert (fact.unit, fact.holder, fact.status, fact.said, fact.aliases) == ("H99.16", "G99", "2", None, ("x",))


@pytest.mark.parametrize(
    "statuses, said, status",
    [
        ("national", "10", "10"),
        ("national", 4, "4"),  # a number where others write text (P4)
        ("national", "11", None),
        ("opencps", "waiting", "5"),
        ("opencps", "interoperating", None),
        ({"DA_TRA": "10", "MOI": ""}, "DA_TRA", "10"),
        ({"DA_TRA": "10", "MOI": ""}, "MOI", None),
    ],
)
def test_a_local_status_is_told_in_the_national_list_and_as_it_was_written(
    statuses: Any, said: Any, status: str | None
) -> None:
    (fact,) = read({"s": said}, DossierView(status="/s", statuses=statuses))
    assert (fact.status, fact.said) == (status, str(said))


@pytest.mark.parametrize(
    "said",
    [
        {"TrangThaiHoSo": ["2"], "NgayHenTra": 20260424, "SoTien": 1.5, "DonViXuLy": {"x": 1}, "ItemCode": True},
        {"TrangThaiHoSo": "2" * 51, "NgayHenTra": "20260431000000", "SoTien": "1.000.000", "DonViXuLy": "a\x1b[2J"},
        {"NgayHenTra": "19000101000000", "SoTien": -5, "KenhThucHien": "", "DonViXuLy": "x" * 201, "ItemCode": " "},
        {"SoTien": 2**63, "NgayHenTra": None, "TrangThaiHoSo": None},
        {"SoTien": "9" * 19, "MaHoSoKhac": ["x"], "MaTTHC": 10**30},
    ],
)
def test_what_cannot_be_read_was_not_said(said: dict[str, Any]) -> None:
    (fact,) = read({"MaHoSo": CODE} | said)
    assert (fact.due, fact.amount, fact.holder, fact.parcel, fact.status, fact.said) == (None,) * 6
    assert (fact.aliases, fact.procedure, fact.channel) == ((), None, None)


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b'"x"', b"7", b"{", b"\xff", b'{"data": 7}', b'{"data": {}}', b"[[]]"]
)
def test_no_payload_makes_a_view_fail(body: bytes) -> None:
    assert {fact.dossier for fact in read(body)} <= {"H99.20-260423-0009"}


def test_a_message_fills_no_disk_with_items() -> None:
    assert len(read([{"TrangThaiHoSo": "2"}] * (MAX_ITEMS + 5), DossierView(status="/TrangThaiHoSo"))) == MAX_ITEMS


def test_a_pointer_finds_items_of_arrays_and_odd_names() -> None:
    (fact,) = read({"a/b": [{"m~n": "x"}, {"m~n": "Phòng"}]}, DossierView(holder="/a~1b/1/m~0n"))
    assert fact.holder == "Phòng"
    for place in ("/a~1b/2/m~0n", "/a~1b/-/x", "/a~1b/٣", "/a~1b/1/m~0n/0"):
        (fact,) = read({"a/b": [{"m~n": "x"}, {"m~n": "Phòng"}]}, DossierView(holder=place))
        assert fact.holder is None, place


def test_a_payload_in_xml_is_read_by_the_names_of_its_schema() -> None:
    xsd = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="HoSo">
      <xs:complexType><xs:sequence>
      <xs:element name="MaHoSo" type="xs:string"/><xs:element name="TrangThai" type="xs:string"/>
    </xs:sequence></xs:complexType></xs:element></xs:schema>"""
    view = DossierView(code="/MaHoSo", status="/TrangThai")
    contract = Contract(service(view, schema=xsd, content_types=("application/xml",)))
    body = f"<HoSo><MaHoSo>{CODE}</MaHoSo><TrangThai>4</TrangThai></HoSo>".encode()
    (fact,) = contract.dossier_facts(body, "application/xml", HEARD)
    assert (fact.dossier, fact.status) == (CODE, "4")
    # XML of which nothing is known cannot be looked into, and nobody minds.
    assert (
        Contract(service(view, content_types=("application/xml",))).dossier_facts(body, "application/xml", HEARD) == ()
    )
    assert contract.dossier_facts(b"%PDF", "application/pdf", HEARD) == ()


@pytest.mark.parametrize(
    "code, example, said",
    [
        ("dossier.transfer", "examples/dossier", {"status": "2", "holder": "G99", "channel": "2", "unit": "H99.15"}),
        (
            "dossier.sync",
            "partners/national_portal/dossier-sync.example",
            {"procedure": "1.001193", "synchronises": True},
        ),
        (
            "dossier.progress",
            "partners/national_portal/dossier-progress.example",
            {"unit": "H99.15", "synchronises": False},
        ),
        ("payment.init", "partners/payment/payment-init.example", {"amount": 150_000, "payment_state": "requested"}),
        ("payment.notice", "partners/payment/payment-notice.example", {"amount": 150_000, "payment_state": "paid"}),
    ],
)
def test_the_demonstration_s_views_understand_the_recorded_examples(
    code: str, example: str, said: dict[str, Any]
) -> None:
    documents = yaml.safe_load_all((ROOT / "bus" / "demo" / "province.yaml").read_text("utf-8"))
    registered = next(each for each in documents if each["kind"] == "Service" and each["code"] == code)
    payload = json.loads((ROOT / "schemas" / f"{example}.json").read_text("utf-8"))
    (fact, *_) = DossierReader(dossier_view_from(registered["dossier"])).read(payload, HEARD)
    assert {name: getattr(fact, name) for name in said} == said


SERVICES = {
    each["code"]: each
    for each in yaml.safe_load_all((ROOT / "bus" / "demo" / "province.yaml").read_text("utf-8"))
    if each["kind"] == "Service"
}


def recorded(service: str, side: str) -> Any:
    """The recorded example of one side of a service of the demonstration."""
    path = SERVICES[service][side]["file"].format(schemas=ROOT / "schemas")
    return json.loads(Path(path.replace(".schema.", ".example.")).read_text("utf-8"))


@pytest.mark.parametrize(
    "service, said",
    [
        ("land.transfer", {"received": at("2026-04-23 10:00"), "due": at("2026-05-08 17:00"), "procedure": "1.012781"}),
        ("land.supplement", {"due": at("2026-05-12 17:00"), "holder": "G99"}),
        ("land.returned", {"status": "10", "at": at("2026-05-08 10:00")}),
        ("land.result-wrong", {"status": "4"}),
        ("land.tax-receipt", {"amount": 3_456_789_000, "payment_reference": "TB-2026-0001", "payment_state": "paid"}),
        ("land.moved", {"status": "4", "at": at("2026-04-23 14:00")}),
        ("land.waiting", {"status": "5", "at": at("2026-04-24 09:00")}),
        ("land.supplemented", {"status": "4", "due": at("2026-05-12 17:00")}),
        ("land.finished", {"status": "9", "finished": at("2026-05-04 10:00")}),
        ("land.tax-result", {"at": at("2026-04-27 09:00")}),
        ("land.tax-notice", {"amount": 3_456_789_000, "payment_state": "requested"}),
        ("social-protection.dossier", {"status": "10", "received": at("2026-04-23 10:00"), "channel": "1"}),
        ("social-protection.progress", {"status": "4", "at": at("2026-04-23 14:15"), "holder": "Sở Mẫu"}),
        ("payment.refund", {"amount": 150_000, "payment_state": "refunded"}),
        ("payment.payable", {"unit": "H99.15"}),
        ("post.cancel", {"unit": "H99.15"}),
        ("post.dossier-notice", {"unit": "H99.15", "received": None}),
        ("notice.sms", {"unit": "H99.15"}),
        ("notice.zalo", {"unit": "H99.15"}),
        ("dossier.submitted", {"status": "1", "at": at("2026-04-23 09:30"), "channel": "2", "holder": "G99"}),
        ("promotion.notice", {"status": "1", "dossier": "G99-260423-000001"}),
        ("promotion.result", {"status": "2", "aliases": ("H99.15-260424-0009",)}),
        ("promotion.supplement", {"dossier": "G99-260423-000001"}),
        ("tax.notice", {"amount": 3_000_000_000, "payment_reference": "TB-99-0001"}),
        ("dossier.create", {"unit": "H99.15", "synchronises": True}),
        ("dossier.advance", {"status": "4", "at": at("2026-04-23 14:15"), "holder": "Tư pháp - Hộ tịch"}),
        ("dossier.status", {"status": "4"}),
        # These two name no dossier: the message's own stands in.
        ("paygov.order", {"amount": 150_000, "payment_state": "requested", "dossier": HEARD.dossier}),
        ("paygov.notice", {"payment_state": "paid", "payment_reference": "H99.15-H99.15-260423-0001-01"}),
    ],
)
def test_every_partner_s_messages_are_understood(service: str, said: dict[str, Any]) -> None:
    (fact, *_) = DossierReader(dossier_view_from(SERVICES[service]["dossier"])).read(recorded(service, "schema"), HEARD)
    assert {name: getattr(fact, name) for name in said} == said


QUERY_ANSWER = {"MaThamChieu": "HP1", "SoTien": "150000", "TrangThaiGD": "1"}
DECLARATION = {"DECLARATION_ID": 1, "DEC_STATUS_ID": 5, "RECEIVE_NO": "H99.15-260423-0002"}


@pytest.mark.parametrize(
    "service, answer, said",
    [
        ("civil-status.status", None, {"status": "4", "said": "3"}),
        ("driver-licence.dossier", None, {"status": "2", "due": at("2026-04-30 00:00"), "holder": "Sở Mẫu"}),
        ("social-protection.results", None, {"status": "10", "received": at("2026-04-23 10:00")}),
        ("post.tracking", None, {"parcel": "H99.15-260423-0001", "parcel_state": "Đã nhận đơn"}),
        ("dossier.status-query", None, {"status": "4", "dossier": "H99.15-260423-0001"}),
        ("criminal-record.status", {"STATUS": "1", "LISTCONTENT": [DECLARATION]}, {"status": "9"}),
        (
            "criminal-record.statuses",
            {"STATUS": "1", "LISTCONTENT": [DECLARATION]},
            {"dossier": "H99.15-260423-0002"},
        ),
        (
            "payment.query",
            {"error_code": "0", "message": json.dumps(QUERY_ANSWER)},
            {"payment_state": "paid", "amount": 150_000, "dossier": "HP1"},
        ),
    ],
)
def test_every_partner_s_answers_are_understood(service: str, answer: Any, said: dict[str, Any]) -> None:
    document = recorded(service, "reply_schema") if answer is None else answer
    view = dossier_view_from(SERVICES[service]["dossier"]).reply
    assert view is not None
    (fact, *_) = DossierReader(view).read(document, HEARD)
    assert {name: getattr(fact, name) for name in said} == said


@pytest.mark.parametrize("text", ["{", "[1", "x", "", '{"a": NaN}', "{" * 5000, '"a"', 7, None, '{"b": 1}'])
def test_text_that_is_no_json_says_nothing(text: Any) -> None:
    (fact,) = DossierReader(DossierView(status="/message/a")).read({"message": text}, HEARD)
    assert fact.said is None


# ── in the registry ───────────────────────────────────────────────────────────────────────────────────────────────────

MANIFEST = """
kind: Service
code: dossier.sync
version: 1
name: Đồng bộ hồ sơ
owner: H99
pattern: one-way
dossier:
  code: /MaHoSo
  aliases: [/MaHoSoKhac]
  dates: [yyyyMMddHHmmss]
  status: /TrangThai
  statuses: {"moi": "1", "khac": ""}
  holder: receiver
  payment: {amount: /SoTien, states: {"00": paid}}
  parcel: {code: /ItemCode}
  synchronises: true
"""
OWNED = Directory([Agency(code=AgencyCode("H99"), name="Tỉnh Thử Nghiệm")])


def planned(text: str) -> Service:
    (step,) = plan(OWNED, parse_manifest(text.encode())).steps
    assert isinstance(step.after, Service)
    return step.after


def test_a_view_is_written_as_it_was_read() -> None:
    registered = planned(MANIFEST)
    assert registered.dossier is not None
    assert registered.dossier.payment == PaymentView(amount="/SoTien", states={"00": "paid"})
    document = document_of(registered)
    assert planned(json.dumps(document)) == registered
    assert document["dossier"]["holder"] == "receiver"


def test_a_view_of_answers_is_written_as_it_was_read() -> None:
    registered = planned(
        MANIFEST.replace("one-way", "request-reply")
        + "  reply: {items: /d, dates: [dd/MM/yyyy], payment: {states: {x: paid}}, parcel: {code: /c}}"
    )
    assert registered.dossier is not None
    assert registered.dossier.reply == DossierView(
        items="/d", dates=("dd/MM/yyyy",), payment=PaymentView(states={"x": "paid"}), parcel=ParcelView(code="/c")
    )
    assert planned(json.dumps(document_of(registered))) == registered
    assert dossier_view_from(json.loads(json.dumps(dossier_facts(registered.dossier)))) == registered.dossier


def test_a_view_may_change_when_the_contract_no_longer_can(registry_store: RegistryStore) -> None:
    owner = Agency(code=AgencyCode("H99"), name="Tỉnh Thử Nghiệm")
    registry_store.apply(plan_changes(registry_store.load(), [owner, service(None, stage=Stage.PUBLISHED)]), "test")
    registry_store.apply(plan_changes(registry_store.load(), [service(PORTAL)]), "test")
    assert registry_store.load().services[ServiceCode("dossier.sync"), 1].dossier == PORTAL


@pytest.fixture
def registry_store(tmp_path: Path) -> Iterator[RegistryStore]:
    engine = create_engine(f"sqlite:///{tmp_path / 'registry.db'}")
    metadata.create_all(engine)
    yield RegistryStore(engine)
    engine.dispose()


@pytest.mark.parametrize(
    "wrong, place",
    [
        ("dates: [hh:mm]", "dates/0"),
        ("dates: [yyyyMMdd, YYYY]", "dates/1"),
        ("statuses: unheard-of", "statuses"),
        ('statuses: {"x": "11"}', "statuses"),
        ("status: TrangThai", "status"),
        ("code: /a~2", "code"),
        ("payment: {states: {x: lost}}", "payment/states"),
        ("person: /ChuHoSo", ""),
        ("reply: {dates: [hh:mm]}", "reply/dates/0"),
        ("reply: {reply: {status: /s}}", "reply"),
        ("reply: {status: /s}", "reply"),  # of a one-way service
    ],
)
def test_a_view_that_means_nothing_is_not_registered(wrong: str, place: str) -> None:
    text = MANIFEST[: MANIFEST.index("dossier:\n")] + f"dossier:\n  {wrong}\n"
    with pytest.raises(Malformed) as refused:
        plan(OWNED, parse_manifest(text.encode()))
    assert any(f"/dossier/{place}".rstrip("/") in error.pointer for error in refused.value.errors)
