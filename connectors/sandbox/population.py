"""Twin of the population database (vietnam.md 4.11): seven SOAP 1.1 operations about citizens, all of them invented.

::

    POST /population/cong-dan/v1/<operation>      or /population/cong-dan/v1: the Body names the operation
    Content-Type: application/xml
    SOAPAction: ""
    Timestamp: 1776913200000                      milliseconds, within five minutes of the twin's clock
    Authorization: Basic base64(user:sha256(path + user + timestamp + secret))
    X-Road-Client: …                              any
    ApiKey: …
    GET  /population/cong-dan/v1?wsdl

Its manners: an officer's code is mandatory (P18), names are compared letter by letter in capitals, so that a small
letter, a loose accent or an Ð of another alphabet finds nobody (P17), nobody found is an answer, and errors are faults
with an English text. What the fault codes are called is not known; ``Client.Authentication`` is this twin's word.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from time import time
from typing import TYPE_CHECKING, Final

from flask import Blueprint, Flask, Response, request
from lxml import etree

from connectors.sandbox.faults import Dial, Preset, error
from connectors.sandbox.sessions import same_secret
from connectors.soap_server import Operation, SoapServer
from schemas.problem import Problem
from schemas.soap import SoapVersion, read_soap, write_soap

if TYPE_CHECKING:
    from lxml.etree import _Element

NAME = "population"
NAMESPACE = "http://dancuquocgia.bca"
REPLY_NAMESPACE = "http://www.mic.gov.vn/dancu/1.0"
#: Where the operations are, on the ministry's host as below the twin's own address.
PATH = "/cong-dan/v1"
#: How far a caller's clock may be off.
SKEW_SECONDS = 300
WORDING = {
    "authentication": "Invalid authentication",
    "officer": "Officer code is required",
    "request": "Invalid request",
    "operation": "Unknown operation",
}
#: The code of an answer that found nobody, whoever was asked for.
NOBODY = "not-found"
PRESETS = {
    "fault": error("a soap:Fault of the server", "Server", message="Internal error"),
    "authentication": error("a fault that says Invalid authentication", "Client.Authentication", "authentication"),
    "not-found": error("nobody is found: an empty CongDan, TonTai false", NOBODY),
    "stall": Preset(says="the right answer after a minute", fault={"kind": "stall", "seconds": 60.0}),
}


# ---- What is asked and answered; fields are called as their elements


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """A day (``yyyyMMdd``), or a year where the papers have no more. A question gives one, an answer may give both."""

    Nam: str | None = None
    NgayThangNam: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """Somebody who is said to belong to the citizen."""

    QuanHe: str | None = None
    SoDinhDanh: str | None = None
    SoCMND: str | None = None
    HoVaTen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Who asks, and about whom. The officer may be missing here, so that the twin can say so in its own words."""

    MaYeuCau: str
    MaDVC: str
    MaTichHop: str
    MaCanBo: str | None = None
    MaDonVi: str | None = None
    TaiKhoan: str | None = None
    SoDienThoai: str | None = None
    SoDinhDanh: str | None = None
    SoCMND: str | None = None
    HoVaTen: str
    NgayThangNamSinh: Birth


@dataclass(frozen=True, slots=True, kw_only=True)
class RelativeQuestion(Question):
    NhanThan: Related


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseholderQuestion(Question):
    ChuHo: Related


@dataclass(frozen=True, slots=True, kw_only=True)
class MarriageQuestion(Question):
    TinhTrangHonNhan: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    Ho: str
    ChuDem: str | None = None
    Ten: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The district's code is sent empty: there are no districts since 2025 (P23)."""

    MaTinhThanh: str = "31"
    MaQuanHuyen: str = ""
    MaPhuongXa: str = "11560"
    ChiTiet: str = "1 đường Mẫu"
    QuocGia: str = "VN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    HoVaTen: Name
    QuocTich: str = "VN"
    SoDinhDanh: str | None = None
    SoCMND: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Householder:
    QuanHe: str
    HoVaTen: Name
    SoDinhDanh: str | None = None
    SoCMND: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Citizen:
    """A citizen; without any field: nobody was found."""

    SoDinhDanh: str | None = None
    SoCMND: str | None = None
    HoVaTen: Name | None = None
    GioiTinh: str | None = None
    DanToc: str | None = None
    TonGiao: str | None = None
    TinhTrangHonNhan: str | None = None
    NhomMau: str | None = None
    NgayThangNamSinh: Birth | None = None
    NoiDangKyKhaiSinh: Place | None = None
    QueQuan: Place | None = None
    ThuongTru: Place | None = None
    NoiOHienTai: Place | None = None
    Cha: Person | None = None
    Me: Person | None = None
    VoChong: Person | None = None
    NguoiDaiDien: Person | None = None
    ChuHo: Householder | None = None
    SoSoHoKhau: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Household:
    SoSoHoKhau: str | None = None
    ChuHo: Householder | None = None
    ThanhVien: tuple[Citizen, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    TonTai: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CitizenReply:
    CongDan: Citizen


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictReply:
    KetQuaXacThuc: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseholdReply:
    HoGiaDinh: Household


# ---- Invented citizens: numbers with prefixes that no province has (vietnam.md 6.1), names with the hard letters


def _name(text: str) -> Name:
    first, *middle, last = text.split()
    return Name(Ho=first, ChuDem=" ".join(middle) or None, Ten=last)


def _person(number: str, name: str) -> Person:
    return Person(HoVaTen=_name(name), SoDinhDanh=number)


_MAU, _THU = ("099199000001", "NGUYỄN THỊ MẪU"), ("099085000002", "TRẦN VĂN THỬ")
_AN, _BANG = ("099170000006", "LÝ THÁI AN"), ("099050000005", "NÔNG Y BANG")
_THAO, _DONG = ("099305000003", "NGUYỄN TRẦN PHƯƠNG THẢO"), ("099210000004", "ĐẶNG PHƯƠNG ĐÔNG")
_NIE = ("099198000007", "H'MẪU NIÊ")


def _citizen(
    who: tuple[str, str],
    born: str,
    gender: str,
    *,
    household: str,
    relation: str,
    head: tuple[str, str],
    married: str = "1",
    old_number: str | None = None,
    father: tuple[str, str] | None = None,
    mother: tuple[str, str] | None = None,
    spouse: tuple[str, str] | None = None,
    guardian: tuple[str, str] | None = None,
) -> Citizen:
    """``born`` is a day, or a year alone; ``relation`` is the citizen's to the householder."""
    number, name = who
    return Citizen(
        SoDinhDanh=number,
        SoCMND=old_number,
        HoVaTen=_name(name),
        GioiTinh=gender,
        DanToc="01",
        TonGiao="00",
        TinhTrangHonNhan=married,
        NgayThangNamSinh=Birth(Nam=born[:4], NgayThangNam=born if len(born) > 4 else None),
        NoiDangKyKhaiSinh=Place(),
        QueQuan=Place(),
        ThuongTru=Place(),
        NoiOHienTai=Place(),
        Cha=_person(*father) if father else None,
        Me=_person(*mother) if mother else None,
        VoChong=_person(*spouse) if spouse else None,
        NguoiDaiDien=_person(*guardian) if guardian else None,
        ChuHo=Householder(QuanHe=relation, HoVaTen=_name(head[1]), SoDinhDanh=head[0]),
        SoSoHoKhau=household,
    )


_HOME, _OTHER = "990000001", "990000002"
CITIZENS: Final = (
    # The mother and the father of the demonstration's birth registration.
    _citizen(_MAU, "19990101", "2", household=_HOME, relation="Vợ", head=_THU, married="2", mother=_AN, spouse=_THU),
    _citizen(_THU, "19850102", "1", household=_HOME, relation="Chủ hộ", head=_THU, married="2", spouse=_MAU),
    _citizen(_THAO, "20051231", "2", household=_OTHER, relation="Cháu", head=_AN, mother=_AN),
    _citizen(_DONG, "20100228", "1", household=_OTHER, relation="Cháu", head=_AN, father=_BANG, guardian=_AN),
    _citizen(_AN, "19700615", "2", household=_OTHER, relation="Chủ hộ", head=_AN, married="2", spouse=_BANG),
    _citizen(_BANG, "1950", "1", household=_OTHER, relation="Chồng", head=_AN, married="2", old_number="990000005"),
    _citizen(_NIE, "19980720", "2", household=_OTHER, relation="Con", head=_AN, mother=_AN),
)


def find(question: Question) -> Citizen | None:
    """The citizen with this number, this very name and this date of birth: every letter counts (P17)."""
    for citizen in CITIZENS:
        if _is(citizen, question) and _born_on(citizen.NgayThangNamSinh or Birth(), question.NgayThangNamSinh):
            return citizen
    return None


def _is(person: Citizen | Person | Householder, named: Question | Related) -> bool:
    numbers = [(person.SoDinhDanh, named.SoDinhDanh), (person.SoCMND, named.SoCMND)]
    known = any(mine is not None and mine == given for mine, given in numbers)
    return known and _written(person.HoVaTen) == named.HoVaTen


def _written(name: Name | None) -> str:
    return " ".join(filter(None, (name.Ho, name.ChuDem, name.Ten))) if name else ""


def _born_on(kept: Birth, given: Birth) -> bool:
    return kept.NgayThangNam == given.NgayThangNam if given.NgayThangNam else kept.Nam == given.Nam


# ---- Operations


def _citizen_reply(question: Question) -> CitizenReply:
    return CitizenReply(CongDan=find(question) or Citizen())


def _exists(question: Question) -> VerdictReply:
    return _verdict(find(question) is not None)


def _relative(question: RelativeQuestion) -> VerdictReply:
    citizen = find(question) or Citizen()
    relatives = (citizen.Cha, citizen.Me, citizen.VoChong, citizen.NguoiDaiDien)
    return _verdict(any(relative is not None and _is(relative, question.NhanThan) for relative in relatives))


def _householder(question: HouseholderQuestion) -> VerdictReply:
    head = (find(question) or Citizen()).ChuHo
    return _verdict(head is not None and _is(head, question.ChuHo))


def _marriage(question: MarriageQuestion) -> VerdictReply:
    citizen = find(question)
    return _verdict(citizen is not None and citizen.TinhTrangHonNhan == question.TinhTrangHonNhan)


def _household(question: Question) -> HouseholdReply:
    citizen = find(question)
    if citizen is None:
        return HouseholdReply(HoGiaDinh=Household())
    members = tuple(other for other in CITIZENS if other.SoSoHoKhau == citizen.SoSoHoKhau)
    head = next((other.ChuHo for other in members if other.ChuHo and other.ChuHo.SoDinhDanh == other.SoDinhDanh), None)
    return HouseholdReply(HoGiaDinh=Household(SoSoHoKhau=citizen.SoSoHoKhau, ChuHo=head, ThanhVien=members))


def _verdict(holds: bool) -> VerdictReply:
    return VerdictReply(KetQuaXacThuc=Verdict(TonTai=holds))


OPERATIONS: Final = (
    Operation(name="TraCuuThongTinCongDan", request=Question, reply=CitizenReply, call=_citizen_reply),
    Operation(name="XacThucThongTinCongDan", request=Question, reply=VerdictReply, call=_exists),
    Operation(name="XacMinhThongTinNhanThan", request=RelativeQuestion, reply=VerdictReply, call=_relative),
    Operation(name="CungCapThongTinCongDan", request=Question, reply=CitizenReply, call=_citizen_reply),
    Operation(name="XacMinhThongTinChuHo", request=HouseholderQuestion, reply=VerdictReply, call=_householder),
    Operation(name="XacMinhTinhTrangHonNhan", request=MarriageQuestion, reply=VerdictReply, call=_marriage),
    Operation(name="CungCapThongTinHoGiaDinh", request=Question, reply=HouseholdReply, call=_household),
)


@cache
def _server() -> SoapServer:
    """One for all twins of a process, made at the first question: it takes half a second and keeps no state."""
    with _MAKING:
        return SoapServer("DanCuQuocGia", NAMESPACE, OPERATIONS, reply_namespace=REPLY_NAMESPACE)


_MAKING = threading.Lock()


def wsdl(address: str) -> str:
    """The WSDL that callers are given, with this address."""
    text = files("schemas").joinpath("partners", NAME, f"{NAME}.wsdl").read_text("utf-8")
    return re.sub(r'(<soap:address location=")[^"]*', lambda found: found[1] + escape(address), text)


def digest(path: str, user: str, timestamp: str, secret: str) -> str:
    """What a caller proves itself with (vietnam.md 4.11)."""
    return hashlib.sha256(f"{path}{user}{timestamp}{secret}".encode()).hexdigest()


# ---- The desk


class _Refused(Exception):
    """The ministry's own "no": a fault."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class PopulationTwin:
    """The database's desk. It only reads, so its state is who asked what. Safe under threads."""

    def __init__(self, dial: Dial, credential: str, wording: Mapping[str, str] | None = None) -> None:
        """``credential`` is a JSON object of ``user``, ``secret`` and ``api_key``."""
        self.wording = {**WORDING, **(wording or {})}
        self._dial = dial
        self._credential: Mapping[str, str] = json.loads(credential)
        self._lock = threading.Lock()
        self._asked: dict[str, int] = {}
        self._officers: dict[str, int] = {}
        self._idempotency_keys: dict[str, int] = {}

    def register(self, app: Flask) -> None:
        routes = Blueprint(NAME, __name__, url_prefix=f"/{NAME}")
        for path in (PATH, f"{PATH}/<operation>"):
            routes.get(path)(self._described)
            routes.post(path)(self._serve)
        app.register_blueprint(routes)

    def state(self) -> Mapping[str, object]:
        with self._lock:
            return {
                "asked": dict(self._asked),
                # The ministry writes down which officer asked.
                "officers": dict(self._officers),
                "idempotency_keys": dict(self._idempotency_keys),
            }

    def reset(self) -> None:
        with self._lock:
            self._asked.clear()
            self._officers.clear()
            self._idempotency_keys.clear()

    def _described(self, operation: str = "") -> Response:
        if "wsdl" not in request.args:
            return Response("SOAP 1.1: POST here, or GET ?wsdl", status=405, mimetype="text/plain")
        address = request.base_url.removesuffix(f"/{operation}") if operation else request.base_url
        return Response(wsdl(address), mimetype="text/xml")

    def _serve(self, operation: str = "") -> Response:
        try:
            self._authenticate()
            question = self._question(operation)
            officer = self._officer(question)
        except _Refused as refused:
            return _fault(refused.code, refused.text)
        asked = etree.QName(question).localname
        key = request.headers.get("Idempotency-Key") or question.findtext(f"{{{NAMESPACE}}}MaYeuCau") or ""
        with self._lock:
            for counts, name in ((self._asked, asked), (self._officers, officer), (self._idempotency_keys, key)):
                counts[name] = counts.get(name, 0) + 1
        tenant = question.findtext(f"{{{NAMESPACE}}}MaDonVi") or "*"

        def refuse(code: str, text: str) -> Response:
            return self._answer(asked, _of_nobody(question)) if code == NOBODY else _fault(code, text)

        return self._dial.apply(NAME, asked, lambda: self._answer(asked, question), refuse, tenant)

    def _authenticate(self) -> None:
        """Refuse a stale or missing time, a digest over anything else, a missing key or origin: all with one text."""
        user, secret = self._credential["user"], self._credential["secret"]
        stamp = request.headers.get("Timestamp", "")
        proof = base64.b64encode(f"{user}:{digest(request.path, user, stamp, secret)}".encode()).decode("ascii")
        timely = re.fullmatch("[0-9]{13}", stamp) and abs(int(stamp) / 1000 - time()) <= SKEW_SECONDS
        proven = same_secret(request.headers.get("Authorization"), f"Basic {proof}")
        keyed = same_secret(request.headers.get("ApiKey"), self._credential["api_key"])
        if not (timely and proven and keyed and request.headers.get("X-Road-Client")):
            raise _Refused("Client.Authentication", self.wording["authentication"])

    def _question(self, operation: str) -> _Element:
        """The payload. The ministry says ``application/xml`` where SOAP 1.1 has ``text/xml``; the twin takes both."""
        if request.mimetype not in ("application/xml", SoapVersion.V11.media_type):
            raise _Refused("Client", self.wording["request"])
        try:
            envelope = read_soap(request.get_data(), SoapVersion.V11.media_type, request.headers.get("SOAPAction"))
        except Problem:
            raise _Refused("Client", self.wording["request"]) from None
        asked = etree.QName(envelope.payload)
        if asked.namespace != NAMESPACE or operation not in ("", asked.localname):
            raise _Refused("Client", self.wording["operation"])
        return envelope.payload

    def _officer(self, question: _Element) -> str:
        """P18: who asks for what without a name gets nothing."""
        officer, unit = (question.findtext(f"{{{NAMESPACE}}}{name}", "").strip() for name in ("MaCanBo", "MaDonVi"))
        if not (officer and unit):
            raise _Refused("Client.Officer", self.wording["officer"])
        return officer

    def _answer(self, operation: str, question: _Element) -> Response:
        try:
            reply = _server().handle(operation, question)
        except Problem:
            return _fault("Client", self.wording["request"])
        return Response(write_soap(SoapVersion.V11, reply), content_type="text/xml; charset=utf-8")


def _of_nobody(question: _Element) -> _Element:
    """The same question about a number that nobody has."""
    other = copy.deepcopy(question)
    for name in ("SoDinhDanh", "SoCMND"):
        for element in other.iterfind(f"{{{NAMESPACE}}}{name}"):
            element.text = "0" * len(element.text or "")
    return other


def _fault(code: str, text: str) -> Response:
    """A fault of the ministry's. ``code`` is one of SOAP's, perhaps with a dotted part of its own; else ``Server``."""
    known = code if re.fullmatch(r"(Client|Server)(\.[A-Za-z]+)*", code) else "Server"
    fault = f'<faultcode>soap:{known}</faultcode><faultstring xml:lang="en">{escape(text)}</faultstring>'
    body = write_soap(SoapVersion.V11, f"<soap:Fault>{fault}</soap:Fault>".encode())
    return Response(body, status=500, content_type="text/xml; charset=utf-8")
