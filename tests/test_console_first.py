"""The first screen, the search box, messages, refusals and dossiers of the console, in a browser."""

from __future__ import annotations

import ast
import inspect
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from sqlalchemy import text

from bus import alerts as alarm
from bus.finding import MOST_NUMBERS, Finder, Kind, numbers_in
from bus.incidents import AlertStore
from bus.logs import no_logs
from bus.people import PersonRole
from bus.records import State
from bus.watching import Watch
from bus.web.console.broken_rules import sentence
from bus.web.console.messages import as_text
from bus.web.console.names import Names
from connectors.importing.json_schemas import _FORMATS, DIALECT
from registry.access import NOT_A_MEMBER
from registry.model import DossierView, Grant, Pattern, PaymentView, Service
from schemas.bridge import lexical, read, write
from schemas.identifiers import AgencyCode, MessageId, ServiceCode
from schemas.message import Envelope
from schemas.moment import utc_now
from schemas.problem import Refused, SchemaViolation
from schemas.validation import _TOLD, NOT_SHOWN, compile_schema
from tests.bus_world import MINISTRY, RECEIVER, SENDER, World, bus_world, delivering, key_of
from tests.console_house import ConsoleHouse, assert_accessible, assert_fits, open_console, picture_folder
from tests.console_visitor import Visitor

CITIZEN, ENTERPRISE, TRACE = "099199000001", "9900000016", "4bf92f3577b34da6a3ce929d0e0e4736"
DOSSIER, REFERENCE = "H99.15-260423-0001", "HP-26/0423"
HOSTILE = "<img src=x onerror=alert(1)></pre><script>alert(2)</script>"
SYNC = ServiceCode("dossier.sync")
_OTHER_SIGNATURE = "UPDATE exchanges SET receipt = substr(receipt, 1, length(receipt) - 8) || 'AAAAAAAA' WHERE id = 0"
VIEW = DossierView(
    code="/MaHoSo", dates=("yyyyMMddHHmmss",), at="/LucNao", status="/TrangThai", received="/NgayTiepNhan",
    due="/NgayHenTra", holder="/DonVi", synchronises=True,
    payment=PaymentView(amount="/SoTien", reference="/MaThamChieu", states={"": "paid"}),
)  # fmt: skip


@dataclass(frozen=True)
class Sent:
    message_id: MessageId
    refused: str = ""


def send(world: World, payload: Any, **facts: Any) -> Sent:
    """Through the front door, without HTTP."""
    signed = world.signed(payload, **facts)
    envelope = Envelope(
        body=signed.body,
        content_type="application/json",
        headers={"lgsp-manifest": signed.headers["Lgsp-Manifest"]},
        received_at=utc_now(),
        traceparent=f"00-{TRACE}-00f067aa0ba902b7-01",
    )
    try:
        with no_logs():
            world.bus.intake.accept(envelope)
    except Refused as problem:
        return Sent(signed.manifest.message_id, problem.reason)
    return Sent(signed.manifest.message_id)


def refused_for_want_of_a_grant(world: World, **facts: Any) -> Sent:
    payload = {"title": f"Khai sinh, mẹ {CITIZEN}"}
    sent = send(world, payload, service="dossier.archive", purpose="", dossier=DOSSIER, **facts)
    assert sent.refused == "grant-expired"
    return sent


def dead(world: World, title: str = HOSTILE) -> MessageId:
    """Nobody listens where the ministry should."""
    sent = send(world, {"title": title}, receivers=(MINISTRY,), dossier=DOSSIER)
    with no_logs(), delivering(world.bus):
        until(lambda: state_of(world, sent.message_id) == State.DEAD)
    return sent.message_id


def state_of(world: World, message_id: MessageId) -> State:
    record = world.bus.ledger.find(message_id)
    assert record is not None
    return record.deliveries[0].state


def rows_of(world: World, table: str) -> list[Any]:
    with world.bus.store.reading() as connection:
        return list(connection.execute(text(f"SELECT * FROM {table}")))  # noqa: S608 - own names


def until(true: Any) -> None:
    patience_ends = time.monotonic() + 20
    while not true():
        assert time.monotonic() < patience_ends
        time.sleep(0.05)


def look_for(page: Page, asked: str) -> None:
    page.fill("#search", asked)
    with page.expect_navigation():
        page.press("#search", "Enter")


def actions(house: ConsoleHouse) -> list[tuple[str, str, str]]:
    return [(event.action, event.target, event.reason) for event in house.people.events()]


# ── finding, without a browser ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"SoDinhDanh":"099199000001"}', [(Kind.CITIZEN, CITIZEN)]),
        (b"<so>099199000001</so><msdn>9900000016-001</msdn>", [(Kind.CITIZEN, CITIZEN), (Kind.ENTERPRISE, ENTERPRISE)]),
        (b'{"a": 99199000001, "b": "0991990000012"}', []),  # eleven and thirteen digits
        (b'["099199000001", "099199000001"]', [(Kind.CITIZEN, CITIZEN)]),
        (b'"000199000001" "9900000017"', []),  # a province that was never allocated, a wrong check digit
        (b"\xff\x00", []),
    ],
)
def test_numbers_are_found_wherever_they_stand(body: bytes, found: list[tuple[Kind, str]]) -> None:
    assert list(numbers_in(body)) == found


def test_of_a_long_list_a_few_are_kept() -> None:
    assert len(list(numbers_in(" ".join(f"0991990{number:05d}" for number in range(1000)).encode()))) == MOST_NUMBERS


def test_a_key_depends_on_the_secret_and_the_kind() -> None:
    finder, other = Finder(b"a" * 32), Finder(b"b" * 32)
    keys = {finder.key(Kind.CITIZEN, CITIZEN), other.key(Kind.CITIZEN, CITIZEN), finder.key(Kind.TRACE, CITIZEN)}
    assert len(keys) == 3
    assert all(0 <= key < 2**63 for key in keys)


def test_a_body_as_text_hides_nothing() -> None:
    assert as_text('{"a":"\u202eđảo"}'.encode()) == '{\n  "a": "�đảo"\n}'
    assert as_text(b"\xff\x1b[2J") == "��[2J"


def test_the_store_holds_no_number(console_house: ConsoleHouse) -> None:
    world = console_house.world
    refused_for_want_of_a_grant(world)
    with world.bus.store.reading() as connection:
        for table in ("search_keys", "refusal_details", "refusals"):
            assert CITIZEN not in str(connection.execute(text(f"SELECT * FROM {table}")).all())  # noqa: S608 - own names
    records, refused = world.bus.ledger.found_by(world.bus.finder.key(Kind.CITIZEN, CITIZEN))
    assert (records, [each.reason for each in refused]) == ([], ["grant-expired"])
    assert refused[0].details["receivers"] == [RECEIVER]


def test_what_a_stranger_names_finds_nothing(console_house: ConsoleHouse) -> None:
    world = console_house.world
    assert send(world, {"title": CITIZEN}, key=key_of("nobody")).refused
    assert world.bus.ledger.found_by(world.bus.finder.key(Kind.CITIZEN, CITIZEN)) == ([], [])


# ── the scene ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_refused_message_is_found_by_number_and_mended(console_house: ConsoleHouse, page: Page) -> None:
    world = console_house.world
    sent = refused_for_want_of_a_grant(world)
    console_house.sign_in(page)
    look_for(page, CITIZEN)
    assert "/console/refusals/" in page.url
    assert CITIZEN not in page.url + page.title() + str(actions(console_house))
    assert ("search.number", "citizen-number", "") in actions(console_house)
    main = page.inner_text("main")
    assert "vẫn bị từ chối" in main
    assert "archive-expired" in main
    link = str(page.get_attribute("a:has-text('archive-expired')", "href"))
    assert link.startswith("/console/registry/grants/archive-expired?back="), "and from there back here"
    assert_accessible(page)
    assert_fits(page)
    console_house.picture(page, "refusal")
    world.register(Grant(id="archive-expired", service=ServiceCode("dossier.archive"), grantee=SENDER))
    page.reload()
    assert "Gửi lại bây giờ thì được phép" in page.inner_text("main")
    again = send(
        world, {"title": f"Khai sinh, mẹ {CITIZEN}"}, service="dossier.archive", purpose="", dossier=DOSSIER,
        message_id=sent.message_id,
    )  # fmt: skip
    assert not again.refused
    page.reload()
    page.click("text=Xem thông điệp")
    page.click("text=Kiểm chứng ngay")
    assert "Chứng cứ đúng" in page.inner_text("main")


def test_broken_rules_of_a_schema_are_sentences(console_house: ConsoleHouse, page: Page) -> None:
    """Words of the schema stand in them as text: whoever writes a schema may be hostile too."""
    schema = {
        "type": "object",
        "required": ["title", HOSTILE],
        "properties": {"title": {"maxLength": 200}, "pages": {"type": ["integer", "null"]},
                       "code": {"pattern": HOSTILE}, "day": {"format": "date"}},
        "additionalProperties": False,
    }  # fmt: skip
    service, grant = ServiceCode("form.strict"), "strict"
    console_house.world.register(
        Service(code=service, version=1, name="Biểu mẫu", owner=AgencyCode("H99"), pattern=Pattern.ONE_WAY,
                schema=schema),
        Grant(id=grant, service=service, grantee=SENDER),
    )  # fmt: skip
    payload = {"title": "đ" * 201, "pages": "ba", "code": "x", "day": "hôm nay", CITIZEN: 1}
    assert send(console_house.world, payload, service=service, purpose="").refused == "payload-breaks-schema"
    [refusal] = rows_of(console_house.world, "refusals")
    console_house.sign_in(page)
    for language, sentences in SENTENCES.items():
        page.context.add_cookies([{"name": "lgsp-language", "value": language, "url": console_house.url}])
        page.goto(f"{console_house.url}/console/refusals/{refusal.id}")
        told = page.inner_text("main table")
        for each in sentences:
            assert each in told
        assert "maxLength: 200" in told, "the code that the sender was told stands beside"
        assert page.locator("main table img, main table script").count() == 0
        assert CITIZEN not in told
        assert_accessible(page)
        assert_fits(page)


SENTENCES = {
    "vi": (
        f"thiếu trường {HOSTILE}", "dài hơn 200 ký tự", "phải là số nguyên hoặc rỗng (null)",
        f"không đúng mẫu {HOSTILE}", "không phải ngày viết theo năm-tháng-ngày", "có trường ngoài lược đồ",
    ),
    "en": (
        f"the field {HOSTILE} is missing", "has more characters than 200", "must be a whole number or empty (null)",
        f"does not match the pattern {HOSTILE}", "is not a day", "has a field that the schema does not know",
    ),
}  # fmt: skip


def test_receivers_that_were_refused_are_told_in_the_language_of_the_page(console_house: ConsoleHouse) -> None:
    """What is kept is English; the page says it once, in its own language."""
    nobody = AgencyCode("H99.77")
    assert send(console_house.world, {"title": "x"}, receivers=(nobody,)).refused == "receiver-unknown"
    [refusal] = rows_of(console_house.world, "refusals")
    [kept] = rows_of(console_house.world, "refusal_details")
    assert json.loads(kept.details)["errors"] == [{"pointer": "/receivers/0", "detail": NOT_A_MEMBER.en}]
    lan = Visitor.of(console_house, "lan")
    for language, other in (("vi", "en"), ("en", "vi")):
        text = lan.in_language(language).get(f"/console/refusals/{refusal.id}").text
        assert NOT_A_MEMBER.said(language) in text
        assert NOT_A_MEMBER.said(other) not in text


def every_rule_of_json_schema() -> set[str]:
    """As a refused payload tells them."""
    cases: list[tuple[Any, Any]] = [
        ({"additionalProperties": False}, {"a": 1}), ({"unevaluatedProperties": False}, {"a": 1}),
        ({"unevaluatedItems": False}, [1]), ({"enum": [1]}, 2), ({"const": 1}, 2),
        ({"oneOf": [{}, {}]}, 1), ({"oneOf": [{"type": "null"}]}, 1), ({"anyOf": [{"type": "null"}]}, 1),
        ({"not": {}}, 1), ({"uniqueItems": True}, [1, 1]), ({"contains": {"type": "null"}}, [1]),
        ({"contains": {}, "maxContains": 1}, [1, 2]), ({"contains": {}, "minContains": 3}, [1]),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}), ({"propertyNames": {"maxLength": 1}}, {"ab": 1}),
        ({"properties": {"a": False}}, {"a": 1}), ({"required": ["a"]}, {}), ({"pattern": "a"}, "b"),
        ({"minimum": 2}, 1), ({"maximum": 2}, 3), ({"exclusiveMinimum": 2}, 2), ({"exclusiveMaximum": 2}, 2),
        ({"minLength": 2}, "a"), ({"maxLength": 1}, "ab"), ({"minItems": 1}, []), ({"maxItems": 1}, [1, 2]),
        ({"minProperties": 1}, {}), ({"maxProperties": 0}, {"a": 1}), ({"multipleOf": 2}, 3),
        *(({"type": name}, 1.5 if name != "number" else "a")
          for name in ("null", "boolean", "integer", "string", "array", "object", "number")),
        *(({"format": name}, " %{~^^ ") for name in sorted(_FORMATS)),
    ]  # fmt: skip
    told = set()
    for schema, value in cases:
        with pytest.raises(SchemaViolation) as refusal:
            compile_schema({"$schema": DIALECT, **schema}).validate(json.dumps(value).encode(), "application/json")
        told |= {error.detail for error in refusal.value.errors}
    return told


def test_every_rule_of_json_schema_has_its_sentence() -> None:
    told = every_rule_of_json_schema()
    assert {each.partition(":")[0] for each in told} >= _TOLD.keys()
    for detail in told:
        known = sentence(detail)
        assert known is not None, detail
        assert len({detail, known.en, known.vi}) == 3, detail


XSD_CASES = [
    ("xs:integer", "<a>x</a>"), ("xs:integer", "<a><b/></a>"), ("xs:integer", '<a b="1">1</a>'), ("xs:integer", "<b/>"),
    ("E", "<a>x</a>"), ("E", "<a/>"), ("E", "<a><b>123</b></a>"), ("E", "<a><b>1</b><c/></a>"),
    ("E", '<a xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="true"><b>1</b></a>'),
    ("E", '<a xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:type="nothing"><b>1</b></a>'),
    ("A", "<a/>"), ("A", '<a n="2" m="1"/>'), ("A", '<a n="1" k="1"/>'), ("A", '<a n="1">x</a>'),
    *((kind, f"<a>{value}</a>") for kind, value in {
        "P": "b", "L": "ab", "N": "5", "X": "200", "M": "50.55", "U": "b", "S": "", "T": "abcdef",
    }.items()),
]  # fmt: skip
XSD_TYPES = """
<xs:complexType name="E"><xs:sequence><xs:element name="b" type="T"/></xs:sequence></xs:complexType>
<xs:complexType name="A"><xs:attribute name="n" type="xs:integer" fixed="1" use="required"/></xs:complexType>
""" + "".join(
    f'<xs:simpleType name="{name}"><xs:restriction base="xs:{base}">{facets}</xs:restriction></xs:simpleType>'
    for name, base, facets in (
        ("P", "string", '<xs:pattern value="a"/>'),
        ("L", "string", '<xs:length value="1"/>'),
        ("N", "integer", '<xs:minInclusive value="10"/>'),
        ("X", "integer", '<xs:maxExclusive value="10"/>'),
        ("M", "decimal", '<xs:totalDigits value="3"/><xs:fractionDigits value="1"/>'),
        ("U", "string", '<xs:enumeration value="a"/>'),
        ("S", "string", '<xs:minLength value="1"/>'),
        ("T", "string", '<xs:maxLength value="2"/>'),
    )
)


@pytest.mark.parametrize("kind, document", XSD_CASES)
def test_every_rule_of_xml_schema_has_its_sentence(kind: str, document: str) -> None:
    xsd = (
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">'
        f'<xs:element name="a" type="{kind}"/>{XSD_TYPES}</xs:schema>'
    )
    for element in ("", "a"):
        with pytest.raises(SchemaViolation) as refusal:
            compile_schema(xsd, element=element).validate(document.encode(), "application/xml")
        for error in refusal.value.errors:
            known = sentence(error.detail)
            assert known is not None, error.detail
            assert len({error.detail, known.en, known.vi}) == 3


def rules_of_the_bridge() -> Iterator[str]:
    """What the translation between JSON and XML refuses, as its source writes it; 1 for what is filled in."""
    for module in (lexical, read, write):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("Untranslatable", ".refuse")):
                for text in (said for argument in node.args for said in ast.walk(argument)):
                    if isinstance(text, ast.JoinedStr):
                        yield "".join(
                            str(part.value) if isinstance(part, ast.Constant) else "1" for part in text.values
                        )
                        break
                    if isinstance(text, ast.Constant) and isinstance(text.value, str) and text.value.strip("*, "):
                        yield text.value


def test_every_rule_of_the_bridge_has_its_sentence() -> None:
    rules = set(rules_of_the_bridge())
    assert len(rules) >= 25
    for detail in rules:
        known = sentence(detail)
        assert known is not None, detail
        assert len({detail, known.en, known.vi}) == 3


def test_a_large_payload_has_its_sentence_too() -> None:
    known = sentence(NOT_SHOWN)
    assert known is not None
    assert known.vi != known.en == NOT_SHOWN


@pytest.mark.parametrize("detail", ["strange", "strange: word", "is nothing we know", "", "type", ": x"])
def test_a_rule_that_nobody_knows_stands_as_it_is(console_house: ConsoleHouse, detail: str) -> None:
    names = Names(console_house.world.bus.directory.current(), "vi")
    assert names.rule(detail) == detail
    assert names.rule_code(detail) == ""


def test_a_refused_message_that_is_kept_is_taken_on(tmp_path: Path, page: Page) -> None:
    with bus_world(tmp_path, refused_kept_hours=24) as world, open_console(world, picture_folder(tmp_path)) as house:
        sent = refused_for_want_of_a_grant(world)
        world.register(Grant(id="archive-expired", service=ServiceCode("dossier.archive"), grantee=SENDER))
        house.sign_in(page)
        look_for(page, CITIZEN)
        assert_accessible(page)
        page.fill("#reason", "đã gia hạn quyền")
        page.click("text=Nhận lại và giao")
        assert page.url.endswith(f"/console/messages/{sent.message_id}")
        assert "Trục đã nhận thông điệp" in page.inner_text("[role=status]")
        assert ("refusal.taken", f"message:{sent.message_id}", "đã gia hạn quyền") in actions(house)
        assert state_of(world, sent.message_id) == State.WAITING
        assert world.rows()["refused_messages"] == 0
        page.click("text=Kiểm chứng ngay")
        assert "Chứng cứ đúng" in page.inner_text(".alert")


def test_refused_messages_are_kept_sealed_and_for_a_time(tmp_path: Path) -> None:
    with bus_world(tmp_path, refused_kept_hours=24) as world:
        refused_for_want_of_a_grant(world)
        assert send(world, {"title": 7}).refused == "payload-breaks-schema"  # no grant mends that
        (kept,) = rows_of(world, "refused_messages")
        assert CITIZEN.encode() not in kept.sealed
        now, ledger = utc_now(), world.bus.ledger
        refused = ledger.refusal(kept.id)
        assert refused is not None
        assert ledger.kept_refused(kept.id, now) == kept.sealed
        opened = world.bus.refused.open(refused.message_id or "", kept.sealed, now)
        assert opened is not None
        assert CITIZEN.encode() in opened.body
        assert world.bus.refused.open("00000000-0000-7000-8000-000000000000", kept.sealed, now) is None
        assert ledger.kept_refused(kept.id, now + timedelta(hours=25)) is None
        assert world.bus.tidy_in_turn(now + timedelta(hours=25)) >= 1
        assert world.rows()["refused_messages"] == 0


def test_as_a_rule_no_refused_body_is_kept(console_house: ConsoleHouse) -> None:
    refused_for_want_of_a_grant(console_house.world)
    assert console_house.world.rows()["refused_messages"] == 0


def test_the_box_knows_what_it_was_given(console_house: ConsoleHouse, page: Page) -> None:
    world = console_house.world
    payload = {"title": f"Doanh nghiệp {ENTERPRISE}", "note": "0"}
    one = send(world, payload, dossier=DOSSIER).message_id
    console_house.sign_in(page)
    for asked, where in (
        (one.upper(), f"/console/messages/{one}"),
        (DOSSIER.lower(), f"/console/dossiers/{DOSSIER}"),
        (TRACE, f"/console/messages/{one}"),
        (f"00-{TRACE}-00f067aa0ba902b7-01", f"/console/messages/{one}"),
        (ENTERPRISE, f"/console/messages/{one}"),
        (f" {ENTERPRISE}-001 ", f"/console/messages/{one}"),
        ("000.00.16.H99", "/console/messages?agency=H99.16"),
        ("h99.16", "/console/messages?agency=H99.16"),
        ("so nhan", "/console/messages?agency=H99.16"),
        ("population.look", "/console/messages?service=population.lookup"),
        ("00000000-0000-7000-8000-000000000000", "/console/search"),
        (CITIZEN, "/console/search"),
        ("không có gì như thế", "/console/search"),
    ):
        look_for(page, asked)
        assert page.url.endswith(where), (asked, page.url)
    assert "Không tìm thấy" in page.inner_text("main")
    assert_accessible(page)
    look_for(page, "Sở")  # several: a list that says what each is
    assert page.locator("main tbody tr").count() >= 3
    assert_accessible(page)
    assert_fits(page)


# ── the first screen ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_screen_says_what_is_wrong(console_house: ConsoleHouse, page: Page) -> None:
    world = console_house.world
    dead(world)
    refused_for_want_of_a_grant(world)
    send(world, {"title": "chờ"})
    world.bus.seal_evidence(utc_now())
    console_house.sign_in(page)
    main = page.inner_text("main")
    for said in ("Không giao được: 1", "Không kết nối được tới bên nhận", "Bị từ chối trong 24 giờ", "grant-expired",
                 "Bước 7 Giao", "khớp với nhật ký"):  # fmt: skip
        assert said in main, said
    rerun = page.get_attribute("text=Gửi lại…", "href") or ""
    assert rerun.startswith("/console/bulk?system=G99%2Fcsdl&service=dossier.transfer")
    assert "reason=provider-unreachable" in rerun
    assert page.locator("svg.keep rect[fill='#cf222e']").count() == 1
    assert_accessible(page)
    assert_fits(page)
    console_house.picture(page, "home")
    part = f"{console_house.url}/console/parts/overview"
    tag = page.request.get(part, headers={"Lgsp-Part": "overview"}).headers["etag"]
    assert page.request.get(part, headers={"Lgsp-Part": "overview", "If-None-Match": tag}).status == 304
    alerts = AlertStore(console_house.world.bus.store)
    rule = next(rule for rule in alerts.rules() if rule.kind is alarm.Kind.BREAKER)
    alerts.keep(rule, [alarm.Finding(subject="G99/csdl", value=0)], utc_now())
    page.reload()
    assert page.inner_text("#overview").index("Tạm ngừng gọi hệ thống") < page.inner_text("#overview").index(
        "Không giao được"
    )
    assert_fits(page)
    page.click("text=Xem từng thông điệp")
    assert page.locator("main tbody tr").count() == 1
    assert_accessible(page)
    assert_fits(page)


def test_the_first_screen_counts_strangers_and_tells_reasons_whole(console_house: ConsoleHouse) -> None:
    world = console_house.world
    assert send(world, {"title": 5}).refused == "payload-breaks-schema"
    assert send(world, {"title": "lạ"}, key=key_of("nobody")).refused == "key-unknown"
    page = Visitor.of(console_house, "lan").get("/console/").text
    assert "bên gửi chưa định danh" in page
    assert "ở ít nhất 1 chỗ" in page
    assert re.search(r"<strong[^>]*>2</strong>bị từ chối", page)


def test_a_first_screen_without_anything(console_house: ConsoleHouse, page: Page) -> None:
    console_house.sign_in(page)
    main = page.inner_text("main")
    assert "không có tiến trình chuyển phát nào chạy" in main
    assert "Không có việc nào" not in main
    Watch(console_house.world.bus).look_in_turn(utc_now())
    page.reload()
    main = page.inner_text("main")
    assert "không có tiến trình" not in main
    assert "Không có việc nào" in main
    assert "Chưa có luồng nào" in main
    assert_accessible(page)


# ── a message ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_message_its_body_and_its_proof(console_house: ConsoleHouse, page: Page) -> None:
    world = console_house.world
    message_id = send(world, {"title": HOSTILE}, dossier=DOSSIER).message_id
    send(world, {"title": "sau"}, dossier=DOSSIER)
    console_house.sign_in(page)
    page.goto(f"{console_house.url}/console/messages?dossier={DOSSIER}")
    assert page.locator("main tbody tr").count() == 2
    assert_accessible(page)
    assert_fits(page)
    page.locator("main tbody a").nth(2).click()
    assert page.url.endswith(f"/console/messages/{message_id}")
    assert "onerror" not in page.content()
    assert "Thông điệp cùng hồ sơ" in page.inner_text("main")
    assert_accessible(page)
    assert_fits(page)
    console_house.picture(page, "message")
    page.click("summary:has-text('Tiêu đề đi kèm')")
    headers = page.inner_text("details:has(> summary:has-text('Tiêu đề đi kèm'))")
    assert f"Idempotency-Key\n{message_id}\n" in headers
    assert '"typ":"lgsp-evidence+jws"' in headers
    assert "Content-Digest\nsha-256=:" in headers
    assert_fits(page)
    page.fill("#body-reason", "kiểm tra khiếu nại")
    page.click("button:has-text('Xem nội dung')")
    assert HOSTILE in page.inner_text("pre.body >> nth=0")
    assert ("body.opened", f"message:{message_id}", "kiểm tra khiếu nại") in actions(console_house)
    assert_accessible(page)
    page.click("text=Kiểm chứng ngay")
    assert "Chứng cứ đúng" in page.inner_text(".alert")
    assert "onerror" not in page.content()  # the next page hides the body again
    assert_accessible(page)
    with page.expect_download() as download:
        page.click("text=Tải tệp chứng cứ")
    assert download.value.suggested_filename == f"{message_id}.json"
    assert HOSTILE not in download.value.path().read_text()
    with world.bus.store.writing() as connection:
        connection.execute(text(_OTHER_SIGNATURE))
    page.click("text=Kiểm chứng ngay")
    assert "CHỨNG CỨ KHÔNG ĐÚNG" in page.inner_text(".alert")


def test_a_dead_message_is_sent_again_once(console_house: ConsoleHouse, page: Page) -> None:
    world = console_house.world
    message_id = dead(world)
    console_house.sign_in(page)
    page.goto(f"{console_house.url}/console/messages/{message_id}")
    assert page.locator("ol.timeline li").count() == 3
    assert_accessible(page)
    page.click("text=Gửi lại…")
    assert "Điều gì sẽ xảy ra" in page.inner_text("main")
    assert_accessible(page)
    assert_fits(page)
    console_house.picture(page, "rerun")
    assert state_of(world, message_id) == State.DEAD  # a preview changes nothing
    preview = page.url
    page.fill("#reason", "đường truyền đã nối lại")
    page.click("main button")
    assert "Đã xếp hàng gửi lại" in page.inner_text("[role=status]")
    assert "đường truyền đã nối lại" in page.inner_text("ol.timeline >> nth=0")
    assert state_of(world, message_id) == State.WAITING
    assert actions(console_house)[0] == ("delivery.rerun", f"message:{message_id}", "đường truyền đã nối lại")
    page.goto(preview)
    assert "không còn ở trạng thái không giao được" in page.inner_text("main")


def test_rights_decide_what_may_be_done(console_house: ConsoleHouse, page: Page) -> None:
    world = console_house.world
    message_id = dead(world)
    console_house.person("quan", PersonRole.OBSERVER)
    console_house.sign_in(page, "quan")
    assert "Gửi lại…" not in page.inner_text("main")
    page.goto(f"{console_house.url}/console/messages/{message_id}")
    main = page.inner_text("main")
    assert "vai trò của bạn không mở được" in main
    assert "Gửi lại…" not in main
    key = page.get_attribute("input[name=form_key]", "value") or ""
    record = world.bus.ledger.find(message_id)
    assert record is not None
    number = record.deliveries[0].id
    for address in (f"{message_id}/body", f"{message_id}/rerun/{number}"):
        fields: dict[str, str | float | bool] = {"form_key": key, "reason": "tôi muốn xem"}
        answer = page.request.post(f"{console_house.url}/console/messages/{address}", form=fields)
        assert (answer.status, HOSTILE in answer.text()) == (403, False)
    assert page.request.get(f"{console_house.url}/console/messages/{message_id}/rerun/{number}").status == 403
    assert state_of(world, message_id) == State.DEAD
    assert [action for action, *_ in actions(console_house)] == ["sign-in", *["password.chosen", "person.added"]]


def test_another_agencys_affairs_do_not_exist(console_house: ConsoleHouse, page: Page) -> None:
    """Sở Nhận is no party to what Sở Mẫu sends to the ministry."""
    world = console_house.world
    theirs = dead(world, f"mẹ {CITIZEN}")
    refused = refused_for_want_of_a_grant(world)
    (refusal,) = world.bus.ledger.refusals_of(message_id=refused.message_id)
    record = world.bus.ledger.find(theirs)
    assert record is not None
    console_house.person("thu", agency=RECEIVER)
    Watch(world.bus).look_in_turn(utc_now())
    console_house.sign_in(page, "thu")
    main = page.inner_text("main")
    assert "Không có việc nào" in main
    assert "Sở Mẫu" not in main
    for asked in (theirs, refused.message_id, DOSSIER, CITIZEN, TRACE):
        look_for(page, asked)
        assert "Không tìm thấy" in page.inner_text("main"), asked
    number = record.deliveries[0].id
    for address in (f"messages/{theirs}", f"messages/{theirs}/proof", f"messages/{theirs}/rerun/{number}",
                    f"refusals/{refusal.id}", f"dossiers/{DOSSIER}"):  # fmt: skip
        assert page.request.get(f"{console_house.url}/console/{address}").status == 404, address
    key = page.get_attribute("input[name=form_key]", "value") or ""
    for deed in ("body", "verify", f"rerun/{number}"):
        fields: dict[str, str | float | bool] = {"form_key": key, "reason": "tò mò thôi"}
        answer = page.request.post(f"{console_house.url}/console/messages/{theirs}/{deed}", form=fields)
        assert answer.status == 404, deed
    for listed in (f"messages?agency={SENDER}", "refusals", f"refusals?sender={SENDER}"):
        page.goto(f"{console_house.url}/console/{listed}")
        assert "Sở Mẫu" not in page.inner_text("main"), listed
    own = send(world, {"title": "cho Sở Nhận"}, dossier=DOSSIER).message_id
    page.goto(f"{console_house.url}/console/dossiers/{DOSSIER}")
    assert page.locator("main tbody tr").count() == 1
    assert "Bộ Thử Nghiệm" not in page.content()
    page.goto(f"{console_house.url}/console/messages/{own}")
    assert "Bộ Thử Nghiệm" not in page.content()


# ── a dossier ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_dossiers_journey(console_house: ConsoleHouse, page: Page) -> None:
    world = console_house.world
    facts: dict[str, Any] = {"owner": AgencyCode("H99"), "pattern": Pattern.ONE_WAY, "dossier": VIEW}
    world.register(
        Service(code=SYNC, version=1, name="Đồng bộ hồ sơ", **facts), Grant(id="sync", service=SYNC, grantee=SENDER)
    )
    messages: tuple[dict[str, Any], ...] = (
        {"TrangThai": "2", "NgayTiepNhan": "20260420080000", "NgayHenTra": "20260424170000", "DonVi": "H99.15",
         "LucNao": "20260420080000"},
        {"TrangThai": "4", "DonVi": HOSTILE, "LucNao": "20260421090000", "SoTien": 8000, "MaThamChieu": REFERENCE},
        {"TrangThai": "10", "LucNao": "20260425090000"},
    )  # fmt: skip
    for payload in messages:
        send(world, {"MaHoSo": DOSSIER, **payload}, service=SYNC, receivers=(MINISTRY, RECEIVER), dossier=DOSSIER)
    refused_for_want_of_a_grant(world)
    console_house.sign_in(page)
    look_for(page, REFERENCE)
    assert "/console/messages/" in page.url
    look_for(page, DOSSIER)
    main = page.inner_text("main")
    for said in ("trễ hạn", "10 Đã trả kết quả", "8.000 đồng", "đã trả", "Có thông điệp bị từ chối", "1 ngày 1 giờ",
                 "không theo thứ tự"):  # fmt: skip
        assert said in main, said
    assert page.locator("svg.keep polygon").count() == 6
    assert page.locator("img").count() == 0
    assert_accessible(page)
    assert_fits(page)
    console_house.picture(page, "dossier")
    page.click("text=English")
    assert_accessible(page)
    assert "late" in page.inner_text("main h1")
    assert page.request.get(f"{console_house.url}/console/dossiers/H99.15-260423-0002").status == 404


def test_nobody_sees_anything_without_signing_in(console_house: ConsoleHouse, page: Page) -> None:
    for address in ("", "messages", "refusals", "parts/overview", "dossiers/x", "messages/x/proof"):
        page.goto(f"{console_house.url}/console/{address}")
        assert "/console/sign-in" in page.url
    assert page.request.post(f"{console_house.url}/console/search", form={"q": CITIZEN}).status == 401
