"""The national portal calls us: its login, dossiers, promotion notices with files, supplements and tax notices."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bus.web.app import create_app
from connectors.base import Answer, Incoming, PartnerCall, Reply
from connectors.national_portal_inbound import NationalPortalReceiver
from registry.model import DeliveryMode, Endpoint, Grant, Pattern, Service, System
from schemas.identifiers import AgencyCode, MessageId, ServiceCode, SystemCode
from schemas.message import Grade, Receipt
from schemas.problem import (
    IdempotencyConflict,
    InternalFailure,
    Malformed,
    NotIdentified,
    NotPermitted,
    Problem,
    ProviderUnavailable,
    UnknownService,
)
from tests.bus_world import MINISTRY, RECEIVER, World, ask, bus_world
from tests.loopback import serving

PORTAL = SystemCode("G99/cong-dvc")
SECRET = b"truc-lgsp:one-way-pass\ncong-dvc:other-way-pass"
ENDPOINT = Endpoint(
    connector="national_portal",
    url="http://127.0.0.1:9",
    secret="national-portal",
    settings={"madonvi": "H99", "inbound": {"receiver": RECEIVER, "purpose": "giai-quyet-tthc"}},
)
NOW = datetime(2026, 4, 23, 3, 0, tzinfo=UTC)
RECEIVING = NationalPortalReceiver()
SCHEMAS = Path(__file__).resolve().parent.parent / "schemas" / "partners" / "national_portal"

NOTICE = {
    "MaHoSo": "G99-260423-000001",
    "MaTTHC": "2.000033",
    "NgayNopHoSo": "20260423093000",
    "TenThuongNhan": "CÔNG TY TNHH MẪU",
    "MaSoThue": "9900000016",
    "TenChuongTrinhKhuyenMai": "Khuyến mại mẫu",
    "TongGiaTriHangHoa": "3000000000",
    "TenTepDonDangKy": "don.pdf",
    "TepDonDangKy": base64.b64encode(b"%PDF-1.7 m\xe1\xba\xabu" * 200).decode(),
    "TaiLieuNop": [{"TenTepDinhKem": "a.pdf", "Base64": base64.b64encode(b"%PDF").decode()}],
}


def called(path: str, document: Any, at: datetime = NOW, **headers: str) -> PartnerCall:
    body = document if isinstance(document, bytes) else json.dumps(document, ensure_ascii=False).encode()
    return PartnerCall(
        method="POST",
        path=path,
        query={},
        headers=headers,
        body=body,
        content_type="application/json",
        received_at=at,
        system=PORTAL,
    )


def receive(call: PartnerCall, endpoint: Endpoint = ENDPOINT, secret: bytes | None = SECRET) -> Incoming:
    incoming = RECEIVING.receive(call, endpoint, secret)
    assert isinstance(incoming, Incoming)
    return incoming


def session(at: datetime = NOW) -> str:
    login = {"username": "cong-dvc", "password": "other-way-pass"}
    answer = RECEIVING.receive(called("mapi/login", login, at), ENDPOINT, SECRET)
    assert isinstance(answer, Answer)
    document = json.loads(answer.body)
    assert document["error_code"] == 0
    return str(document["session"])


def receipt(at: datetime) -> Receipt:
    return Receipt(
        message_id=MessageId("019d0000-0000-7000-8000-000000000001"),
        state="accepted",
        received_at=at,
        receivers=(AgencyCode(RECEIVER),),
        leaf="0" * 64,
        receipt="a.b.c",
    )


def said(answer: Answer) -> Any:
    assert answer.status == 200
    return json.loads(answer.body)


class TestSession:
    def test_a_login_gives_a_session_that_lets_calls_in(self) -> None:
        incoming = receive(called("addtthcKhuyenMai", {"session": session(), **NOTICE}))
        assert incoming.service == "promotion.notice"

    def test_the_session_may_stand_in_a_header(self) -> None:
        call = called("XrdAdapter/RestService/forward/nhanhsdvcqg", {"MaHoSo": "H99.15-260423-0001"}, session=session())
        assert receive(call).service == "dossier.submitted"

    @pytest.mark.parametrize(
        "given",
        [{}, {"username": "cong-dvc"}, {"username": "cong-dvc", "password": "one-way-pass"}, {"password": 7}],
    )
    def test_a_wrong_login_is_refused(self, given: Any) -> None:
        with pytest.raises(NotIdentified):
            receive(called("login", given))

    def test_our_own_login_at_the_portal_does_not_open_our_door(self) -> None:
        with pytest.raises(NotIdentified):
            receive(called("login", {"username": "truc-lgsp", "password": "one-way-pass"}))

    @pytest.mark.parametrize("given", [None, "", "x", 7, "é.1.2", ".", "ffffffffff..", "a" * 300, ["a"]])
    def test_an_invented_session_is_refused(self, given: Any) -> None:
        with pytest.raises(NotIdentified) as caught:
            receive(called("nhanhsdvcqg", {"session": given, **NOTICE}))
        assert said(RECEIVING.refuse(called("", {}), caught.value)) == {
            "error_code": "-1",
            "message": "session không hợp lệ",
        }

    def test_a_session_ends(self) -> None:
        issued = session()
        receive(called("nhanhsdvcqg", {"session": issued, **NOTICE}, NOW + timedelta(seconds=899)))
        with pytest.raises(NotIdentified):
            receive(called("nhanhsdvcqg", {"session": issued, **NOTICE}, NOW + timedelta(seconds=901)))

    def test_a_longer_life_cannot_be_written_into_a_session(self) -> None:
        _, _, rest = session().partition(".")
        with pytest.raises(NotIdentified):
            receive(called("nhanhsdvcqg", {"session": f"ffffffffff.{rest}", **NOTICE}))

    def test_a_session_is_no_good_at_another_address_or_after_a_new_password(self) -> None:
        issued = session()
        with pytest.raises(NotIdentified):
            receive(replace(called("nhanhsdvcqg", {"session": issued, **NOTICE}), system=SystemCode("G99/khac")))
        with pytest.raises(NotIdentified):
            receive(called("nhanhsdvcqg", {"session": issued}), secret=SECRET + b"-new")

    @pytest.mark.parametrize(
        "secret",
        [
            None,
            b"",
            b"truc-lgsp:one-way-pass",
            b"truc-lgsp:one-way-pass\ncong-dvc",
            b"truc-lgsp:same\ntruc-lgsp:same",
            b"truc-lgsp:one\ncong-dvc:h99@123",
        ],
    )
    def test_without_a_good_password_of_its_own_nobody_gets_in(self, secret: bytes | None) -> None:
        with pytest.raises(ProviderUnavailable):
            receive(called("login", {"username": "cong-dvc", "password": ""}), secret=secret)

    @pytest.mark.parametrize(
        "inbound", [{"receiver": "nobody"}, {}, {"receiver": RECEIVER, "session_seconds": 0}, "text"]
    )
    def test_a_setting_that_is_wrong_is_the_operators(self, inbound: Any) -> None:
        endpoint = replace(ENDPOINT, settings={"madonvi": "H99", "inbound": inbound})
        with pytest.raises(ProviderUnavailable) as caught:
            receive(called("nhanhsdvcqg", {"session": session(), **NOTICE}), endpoint)
        told = said(RECEIVING.refuse(called("", {}), caught.value))
        assert told["error_code"] == "-1"
        assert "inbound" not in told["message"]


class TestMessages:
    def test_a_documents_bytes_are_what_the_portal_wrote_without_the_envelope(self) -> None:
        data = b'{ "MaHoSo" : "H99.15-260423-0001",  "SoTien": 1.10, "Ten": "M\\u1eabu" }'
        body = b'{"session":"%s","service":"nhanhsdvcqg","isUpdating":"False","data": %s }'
        incoming = receive(called("forward", body % (session().encode(), data)))
        assert incoming.body == data
        assert incoming.dossier == "H99.15-260423-0001"
        assert incoming.purpose == "giai-quyet-tthc"

    def test_a_list_of_one_is_that_one_and_a_list_of_more_stays_a_list(self) -> None:
        one, two = '{"MaHoSo": "H99.15-260423-0001"}', '{"MaHoSo":"H99.15-260423-0002"}'
        body = f'{{"session":"{session()}","data":[ {one} ]}}'
        assert receive(called("nhanhsdvcqg", body.encode())).body == one.encode()
        body = f'{{"session":"{session()}","data":[{one},{two}]}}'
        incoming = receive(called("nhanhsdvcqg", body.encode()))
        assert json.loads(incoming.body) == {"data": [json.loads(one), json.loads(two)]}
        assert incoming.dossier is None

    def test_members_without_data_lose_the_envelope_only(self) -> None:
        incoming = receive(called("addtthcKhuyenMai", {"session": session(), "madonvi": "H99", **NOTICE}))
        assert json.loads(incoming.body) == NOTICE
        assert b"session" not in incoming.body

    def test_a_body_without_an_envelope_is_untouched(self) -> None:
        body = b' {"MaHoSo" : "H99.15-260423-0001"}\n'
        assert receive(called("nhanhsdvcqg", body, session=session())).body == body

    @pytest.mark.parametrize(
        "operation, updating, service",
        [
            ("nhanhsdvcqg", "False", "dossier.submitted"),
            ("nhanhsdvcqg", "True", "dossier.supplement"),
            ("nhanhsdvcqg", True, "dossier.supplement"),
            ("addtthcKhuyenMai", "False", "promotion.notice"),
            ("addtthcKhuyenMai", "True", "promotion.supplement"),
            ("nhantbthuedvcqg", "False", "tax.notice"),
        ],
    )
    def test_the_operation_and_is_updating_say_which_message_it_is(
        self, operation: str, updating: Any, service: str
    ) -> None:
        document = {"session": session(), "service": operation, "isUpdating": updating, "data": {"MaHoSoQG": "QG-1"}}
        assert receive(called("anything", document)).service == service

    def test_an_endpoint_may_name_another_service(self) -> None:
        settings = {"madonvi": "H99", "inbound": {"receiver": RECEIVER, "services": {"nhanhsdvcqg": "dossier.filed"}}}
        document = {"session": session(), **NOTICE}
        assert receive(called("nhanhsdvcqg", document), replace(ENDPOINT, settings=settings)).service == "dossier.filed"

    def test_the_same_number_is_the_same_message_whatever_the_session(self) -> None:
        first, again = (
            receive(called("addtthcKhuyenMai", {"session": session(at), **NOTICE}, at))
            for at in (NOW, NOW + timedelta(hours=1))
        )
        assert (first.message_id, first.body) == (again.message_id, again.body)
        other = receive(called("addtthcKhuyenMai", {"session": session(), **NOTICE, "MaHoSo": "G99-260423-000002"}))
        assert other.message_id != first.message_id

    def test_two_supplements_to_one_dossier_are_two_messages(self) -> None:
        ids = {
            receive(called("addtthcKhuyenMai", {"session": session(), "isUpdating": "True", "data": data})).message_id
            for data in ({"MaHoSoQG": "QG-1", "ThongTinSuaDoi": text} for text in ("một", "hai", "hai"))
        }
        assert len(ids) == 2

    @pytest.mark.parametrize(
        "document, problem",
        [
            (b"{", Malformed),
            (b"[]", Malformed),
            ({"data": 7}, Malformed),
            ({"data": []}, Malformed),
            ({"data": ["x"]}, Malformed),
            ({"data": None}, Malformed),
            ({"service": "xoaHoSo"}, UnknownService),
            ({"service": {"a": 1}}, UnknownService),
        ],
    )
    def test_what_cannot_be_a_message_is_refused(self, document: Any, problem: type[Problem]) -> None:
        if isinstance(document, dict):
            document = {"session": session(), "service": "nhanhsdvcqg", **document}
        with pytest.raises(problem):
            receive(called("x", document))


class TestAnswers:
    def test_what_is_recorded_is_taken(self) -> None:
        call = called("addtthcKhuyenMai", {"session": session(), **NOTICE})
        assert said(RECEIVING.answer(call, receive(call), receipt(NOW)))["error_code"] == "0"

    def test_a_promotion_notice_that_was_here_before_is_told_as_the_portal_knows_it(self) -> None:
        call = called("addtthcKhuyenMai", {"session": session(), **NOTICE})
        earlier = receipt(NOW - timedelta(seconds=1))
        told = said(RECEIVING.answer(call, receive(call), earlier))
        assert told == {"error_code": "1", "message": "duplicate refId"}
        dossier = called("nhanhsdvcqg", {"session": session(), **NOTICE})
        assert said(RECEIVING.answer(dossier, receive(dossier), earlier))["error_code"] == "0"

    @pytest.mark.parametrize(
        "outcome, code",
        [
            (IdempotencyConflict("message-id-used"), "1"),
            (NotPermitted("no-grant"), "-1"),
            (InternalFailure(), "-1"),
            (Reply(body=b"{}"), "-1"),
        ],
    )
    def test_what_is_not_recorded_is_never_success(self, outcome: Any, code: str) -> None:
        call = called("nhanhsdvcqg", {"session": session(), **NOTICE})
        assert said(RECEIVING.answer(call, receive(call), outcome))["error_code"] == code


SERVICES = ("promotion.notice", "dossier.submitted", "tax.notice")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with registered(tmp_path) as made:
        yield made


@contextmanager
def registered(tmp_path: Path, service_bytes: int = 2 * 2**20, **settings: object) -> Iterator[World]:
    """A bus that knows the portal, its services with their limit, and its secret."""
    with bus_world(tmp_path, **settings) as made:
        made.register(System(code=PORTAL, name="Cổng", mode=DeliveryMode.PUSH, endpoint=ENDPOINT, sends_only=True))
        for code in SERVICES:
            schema = json.loads((SCHEMAS / f"{code.replace('.', '-')}.schema.json").read_bytes())
            made.register(
                Service(
                    code=ServiceCode(code),
                    version=1,
                    name=code,
                    owner=MINISTRY,
                    pattern=Pattern.ONE_WAY,
                    grade=Grade.ATTESTED,
                    schema=schema,
                    max_body_bytes=service_bytes,
                ),
                Grant(id=code.replace(".", "-"), service=ServiceCode(code), grantee=MINISTRY),
            )
        made.bus.registry.put_secret("national-portal", made.bus.secrets.seal("national-portal", SECRET), "test")
        yield made


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with serving(create_app(world.bus)) as server:
        yield f"{server.url}/partners/{PORTAL}"


def tell(url: str, path: str, document: Any) -> Any:
    return ask("POST", f"{url}/{path}", json.dumps(document).encode(), {"Content-Type": "application/json"}).json


def test_through_the_bus_a_notice_is_one_message_and_its_repeat_is_called_a_duplicate(world: World, url: str) -> None:
    login = tell(url, "mapi/login", {"username": "cong-dvc", "password": "other-way-pass"})
    call = {"session": login["session"], **NOTICE}
    assert tell(url, "addtthcKhuyenMai", call)["error_code"] == "0"
    for again in (call, call | {"TenThuongNhan": "CÔNG TY KHÁC"}):
        assert tell(url, "addtthcKhuyenMai", again) == {"error_code": "1", "message": "duplicate refId"}
    assert world.rows()["exchanges"] == 1


def test_through_the_bus_files_of_several_megabytes_come_up_to_the_limit_of_their_service(tmp_path: Path) -> None:
    """P15: base64 in JSON. The bus itself takes eight MiB here, the service five."""
    large = registered(tmp_path, service_bytes=5 * 2**20, max_body_bytes=8 * 2**20)
    with large as world, serving(create_app(world.bus)) as server:
        url = f"{server.url}/partners/{PORTAL}"
        session = tell(url, "mapi/login", {"username": "cong-dvc", "password": "other-way-pass"})["session"]
        for number, megabytes in enumerate((3, 6), 1):
            file = base64.b64encode(b"%PDF-1.7" + bytes(megabytes * 2**20 * 3 // 4)).decode()
            notice = {**NOTICE, "MaHoSo": f"G99-260423-{number:06d}", "TepDonDangKy": file}
            answer = tell(url, "addtthcKhuyenMai", {"session": session, **notice})
            assert answer["error_code"] == ("0" if megabytes == 3 else "-1"), answer
        assert str(5 * 2**20) in answer["message"]
        assert world.rows()["exchanges"] == 1


@pytest.mark.parametrize(
    "changes",
    [{"TepDonDangKy": "không phải base64"}, {"MaHoSo": ""}, {"NgayNopHoSo": "23/04/2026"}, {"TongGiaTriHangHoa": 1.5}],
)
def test_through_the_bus_a_notice_that_breaks_its_schema_is_refused_in_the_portals_form(
    world: World, url: str, changes: dict[str, Any]
) -> None:
    login = tell(url, "login", {"username": "cong-dvc", "password": "other-way-pass"})
    answer = tell(url, "addtthcKhuyenMai", {"session": login["session"], **NOTICE, **changes})
    assert answer["error_code"] == "-1"
    rows = world.rows()
    assert (rows["exchanges"], rows["refusals"]) == (0, 1)


def test_the_commands_of_the_manual_reach_the_bus(world: World, url: str) -> None:
    page = Path("docs/partners/national_portal.md").read_text("utf-8")
    commands, _ = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    told = {"BUS": url, "NAME": "cong-dvc", "PASSWORD": "other-way-pass"}
    said = subprocess.run(
        ["sh", "-euc", commands],
        env={"PATH": os.environ["PATH"], **told},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    assert said.count('"error_code":"0"') == 2
    assert world.rows()["exchanges"] == 2
