"""The story of one dossier: what happens, step by step, and the proof that it did.

Each step does something that a member or a partner would do, then looks where only the truth is (the ledger, the twins'
own memory, the offline verifier) and fails unless it really happened.

What a step says stays true when a process of the bus or a node of its broker dies in it: one effect at the partner's,
not one attempt. Who calls the bus and gets no answer calls again, members, devices and partners alike.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from uuid6 import uuid7

from bus.demo.province import KIOSK, Province, fetched
from bus.logs import no_logs
from bus.petitions import StandingGroup, petition_book
from bus.processes.journal import Journal
from bus.records import ExchangeRecord, State
from connectors.client import AgencyClient, VerifiedReply
from schemas.identifiers import DossierCode, MessageId, SystemCode
from schemas.message import Receipt, sha256_hex
from schemas.moment import VIETNAM, utc_now
from schemas.petitions import Clock
from schemas.problem import (
    IdempotencyConflict,
    NotIdentified,
    NotPermitted,
    Problem,
    ProviderTimeout,
    ProviderUnavailable,
    SchemaViolation,
)
from schemas.text import unaccented
from security.keys import SigningKey

PORTAL = SystemCode("G99/cong-dvc")
ONE_STOP = SystemCode("H99.15/mot-cua")
WARD = SystemCode("H99.20/van-thu")
PURPOSE = "giai-quyet-tthc"
_VERIFIER = Path(__file__).parent.parent.parent / "security" / "verifier.py"
_DOCUMENT = Path(__file__).parent.parent.parent / "schemas" / "partners" / "edoc" / "document.example.xml"
_BIRTH = Path(__file__).parent.parent.parent / "schemas" / "partners" / "civil_status" / "joint-register.example.json"
_EXAMPLE = Path(__file__).parent.parent.parent / "schemas" / "examples" / "dossier.json"
#: What the mother complains of, by the portal and by SMS.
_PETITION = (
    "Tôi đã nộp hồ sơ đăng ký khai sinh cho con và nộp đủ lệ phí, giấy hẹn trả kết quả đã qua mà bưu điện vẫn chưa "
    "phát giấy khai sinh. Đề nghị Trung tâm kiểm tra và trả lời cho gia đình."
)
#: Nothing in the story should take longer than this, even on a busy laptop.
_PATIENCE_SECONDS = 60.0


class StepFailed(AssertionError):
    """What should have happened did not."""


class Title(NamedTuple):
    en: str
    vi: str


#: The citizen number of the mother (invented: no province has the code 099).
MOTHER = "099199000001"


@dataclass(slots=True)
class Account:
    """What the story sent, and what became of it: message ids by outcome."""

    sent: list[MessageId] = field(default_factory=list)
    delivered: list[MessageId] = field(default_factory=list)
    retried: list[MessageId] = field(default_factory=list)
    refused: list[MessageId] = field(default_factory=list)
    dead: list[MessageId] = field(default_factory=list)


class Story:
    """Plays once against a running province. ``tell`` gets one line of detail at a time."""

    def __init__(self, province: Province, tell: Callable[[str], None]) -> None:
        self._province = province
        self._tell = tell
        self._portal = province.client(PORTAL)
        self._one_stop = province.client(ONE_STOP)
        self._ward = province.client(WARD)
        self.account = Account()
        self._today = utc_now().astimezone(VIETNAM)
        # A new number each time, so that a story told twice in one home is two dossiers.
        self._number = int(self._today.strftime("%H%M%S")) * 10
        self.dossier = self._new_dossier()

    def close(self) -> None:
        """Let go of the members' connections."""
        for client in (self._portal, self._one_stop, self._ward):
            client.close()

    def steps(self) -> list[tuple[Title, Callable[[], None]]]:
        """The table of contents."""
        return [
            (Title("A citizen files a birth registration on the national portal; it reaches the one-stop",
                   "Công dân nộp hồ sơ khai sinh trên Cổng quốc gia; hồ sơ về một cửa"), self.file_dossier),
            (Title("The portal is unsure and sends it again: one receipt, one dossier",
                   "Cổng không chắc và gửi lại: một biên nhận, một hồ sơ"), self.send_again),
            (Title("The one-stop looks the mother up in the population database: JSON here, SOAP there",
                   "Một cửa tra người mẹ trong CSDL dân cư: bên này JSON, bên kia SOAP"),
             self.ask_population),
            (Title("The one-stop asks the business registry and gets a proven answer",
                   "Một cửa tra CSDL doanh nghiệp và nhận trả lời có chứng cứ"), self.ask_registry),
            (Title("The fee is paid: the platform's notice comes twice and is one message",
                   "Nộp lệ phí: thông báo của nền tảng thanh toán tới hai lần, chỉ là một thông điệp"), self.pay_fee),
            (Title("A birth goes on by itself: personal number, then residence and health card side by side",
                   "Liên thông khai sinh tự đi tiếp: số định danh, rồi thường trú và thẻ BHYT cùng lúc"),
             self.long_flow),
            (Title("Dossier and progress go to the national portal",
                   "Đồng bộ hồ sơ và tiến độ lên Cổng quốc gia"), self.report_progress),
            (Title("The result goes to two agencies at once; one of them fetches it from its inbox",
                   "Gửi kết quả cho hai đơn vị; một đơn vị tự lấy từ hộp nhận"), self.notify_two),
            (Title("An official document goes by the document axis to two agencies, each with a status of its own",
                   "Một văn bản qua trục liên thông tới hai cơ quan, mỗi nơi một trạng thái"), self.send_document),
            (Title("The post is to bring the certificate home, and the mother is told by SMS",
                   "Bưu điện nhận phát giấy khai sinh, nhắn tin SMS cho người mẹ"), self.send_home),
            (Title("A rating at a kiosk; a petition by portal and SMS is one case, and gets its answer",
                   "Đánh giá tại kiosk; phản ánh gửi qua Cổng và SMS là một vụ việc, và được trả lời"),
             self.rate_and_petition),
            (Title("An answer is lost on the way: the portal gets the dossier twice and keeps one",
                   "Mất phản hồi giữa đường: Cổng nhận hai lần, chỉ giữ một hồ sơ"), self.lose_an_answer),
            (Title("The portal is down: messages wait, it returns, they drain",
                   "Cổng ngừng hoạt động: thông điệp chờ, Cổng trở lại, thông điệp đi hết"), self.outage),
            (Title("The portal rejects a dossier for good: dead letter, mended, sent again",
                   "Cổng từ chối hẳn một hồ sơ: vào danh sách lỗi, được xử lý và gửi lại"), self.dead_letter),
            (Title("A payload that breaks its schema, a ward without a grant and a stranger's key are refused",
                   "Từ chối dữ liệu sai lược đồ, phường chưa được cấp quyền và khóa lạ"), self.refusals),
            (Title("The evidence of the first message is verified offline; one flipped byte, and the verifier says no",
                   "Kiểm chứng ngoại tuyến thông điệp đầu; sửa một byte thì bị bác"), self.prove),
        ]  # fmt: skip

    # ── the steps ─────────────────────────────────────────────────────────────────────────────────────────────────

    def file_dossier(self) -> None:
        receipt = self._send(self._portal, "dossier.transfer", ["H99.15"], self._dossier_payload(), purpose=PURPOSE)
        self._delivered(receipt)
        profiles = self._twin("one_stop")
        self._expect(str(self.dossier) in json.dumps(profiles), "the one-stop has the dossier")
        self._first = receipt

    def send_again(self) -> None:
        again = self._portal.send(
            "dossier.transfer", ["H99.15"], self._dossier_payload(), dossier=self.dossier, purpose=PURPOSE,
            message_id=self._first.message_id,
        )  # fmt: skip
        self._expect(again == self._first, "the second answer is the first receipt")
        record = self._province.bus.ledger.find(self._first.message_id)
        ends = [attempt.outcome for each in record.deliveries for attempt in each.attempts] if record else []
        self._expect(ends.count(State.DELIVERED) == 1, "it was delivered once")

    def ask_population(self) -> None:
        message_id, reply = self._ask("population.citizen-lookup", "G99.01", self._question("H99.15"), purpose=PURPOSE)
        name = json.loads(reply.body)["CongDan"]["HoVaTen"]
        self._expect(name["Ten"] == "MẪU", "the database knows the mother")
        # The client has verified the reply's manifest, which leads to the envelope that the ministry sent.
        stored = self._province.bus.ledger.reply_to(message_id)
        origin = reply.manifest.translated
        self._expect(
            stored is not None
            and stored.original is not None
            and origin is not None
            and origin.sha256 == sha256_hex(stored.original.body)
            and b":Envelope" in stored.original.body,
            "the ministry's SOAP answer is kept as it came",
        )
        self._expect(self._twin("population")["officers"].get("CB01", 0) >= 1, "the ministry knows which officer asked")
        self.account.delivered.append(message_id)
        self._tell(f"099199000001 → {' '.join(name.values())}")

    def ask_registry(self) -> None:
        message_id, reply = self._ask("enterprise.detail", "G99.12", {"msdn": "9900000016"}, purpose=PURPOSE)
        name = json.loads(reply.body)["MainInformation"]["NAME"]
        self._expect(name == "CÔNG TY TNHH MẪU", "the registry knows the enterprise")
        self.account.delivered.append(message_id)
        self._tell(f"9900000016 → {name}")

    def pay_fee(self) -> None:
        moment = self._today.strftime("%Y%m%d%H%M%S")
        reference = f"HP{self._number:08d}{self._today:%y%m%d}"
        order = {
            "PhienBan": "1.0.6", "MaThamChieu": reference, "SoTien": "8000", "LoaiHinhThanhToan": "PAY",
            "MaKenhThanhToan": "1", "MaThietBi": "1", "NgonNgu": "vi-VN", "MaTienTe": "VND", "MaNganHang": "PAYMENT",
            "ThongTinGiaoDich": f"Thanh toan le phi ho so {self.dossier}", "ThoiGianGD": moment, "Ip": "203.0.113.10",
            "ThongTinBienLai": {"MaDichVu": "2", "MaTTHC": "1.001193", "MaDonVi": "H99.15", "MaHoSo": self.dossier},
        }  # fmt: skip
        message_id, _ = self._ask("payment.init", "G99.30", order)
        self.account.delivered.append(message_id)
        ipn = f"{self._province.bus_url}/partners/G99.30/thanh-toan/ipn"
        pay = {"MaThamChieu": reference, "MaLoi": "00", "ipn_url": ipn, "times": 2}
        answers = self._partner_calls("/_sandbox/payment/pay", pay)
        self._expect([answer["MaLoi"] for answer in answers] == ["00", "00"], "both notices are answered with success")
        ledger = self._province.bus.ledger
        notices = [record for record in ledger.of_dossier(reference) if record.service == "payment.notice"]
        self._expect(len(notices) == 1, "the notice is one message")
        self._until(lambda: reference in json.dumps(self._twin("payment")["notices"]), "the fee software has it")
        self._tell(f"{reference} · 8.000 đồng")

    def long_flow(self) -> None:
        dossier = self._new_dossier()
        birth = json.loads(_BIRTH.read_text(encoding="utf-8")) | {"maHoSo": dossier}
        birth["data"] |= {"meSoGiayToTuyThan": f"0991990{self._number % 100_000:05d}"}  # a mother of its own
        receipt = self._one_stop.send(
            "civil-status.joint-register", ["G99.15"], birth, dossier=dossier, message_id=self._new_message_id()
        )
        self._delivered(receipt)
        self._ministry_says(dossier, "registered, the number comes later", second=1)
        self._until(lambda: len(self._passed(dossier)) == 2, "the flow has begun and waits for the number")
        self._expect(dossier not in self._twin("residence")["requests"], "nobody is asked without the number")
        self._province.partner("/civil_status/bo/cap-so", {"maHoSo": dossier}, method="POST")
        self._ministry_says(dossier, "now with the number", second=2)
        offices = {"residence": "G99.02/cu-tru", "health_card": "G99.25/the-bhyt"}
        for office, system in offices.items():
            self._until(lambda name=office: dossier in self._twin(name)["requests"], f"{office} is asked")  # type: ignore[misc]
            to = f"{self._province.bus_url}/partners/{system}/ket-qua"
            # The moment is stated, so that an answer that has to be given again is the same one.
            moment = f"{utc_now().astimezone(VIETNAM):%d/%m/%Y %H:%M:%S}"
            told = {"maHoSo": dossier, "thoiGianThucHien": moment, "to": to, "times": 2}
            answers = self._partner_calls(f"/_sandbox/{office}/answer", told)
            self._expect(answers[0] == answers[1], f"the answer of {office} comes twice and is one message")
        self._until(lambda: self._passed(dossier)[-1:] == ["done"], "the flow is done")
        self._until(lambda: self._states(dossier) == {State.DELIVERED}, "all of its messages are delivered")
        for office, system in offices.items():
            again = self._attempts_without_end(dossier, SystemCode(system))
            self._expect(self._twin(office)["repeats"] <= again, f"{office} was asked once")
        self._tell(" → ".join(self._passed(dossier)))
        self._tell(f"lgsp trace {dossier}")

    def report_progress(self) -> None:
        self._delivered(self._send(self._one_stop, "dossier.sync", ["G99"], self._dossier_payload()))
        rows = [self._progress_row(number) for number in range(12)]
        self._delivered(self._send(self._one_stop, "dossier.progress", ["G99"], {"data": rows}))
        state = self._twin("national_portal")
        self._expect(self.dossier in state["dossiers"], "the portal has the dossier")
        self._expect(len(state["progress"][self.dossier]) == 12, "the portal has every progress row, once")

    def notify_two(self) -> None:
        notice = {
            "MaHoSo": self.dossier,
            "TrichYeu": "Trả kết quả đăng ký khai sinh",
            "NgayTra": self._today.date().isoformat(),
        }
        receipt = self._send(self._one_stop, "result.notice", ["H99.16", "H99.20"], notice)
        got = None
        for delivery in self._ward.inbox(wait=20):
            with suppress(IdempotencyConflict):  # acknowledged before, and the answer was lost
                delivery.ack()
            if delivery.manifest.message_id == receipt.message_id:
                got = json.loads(delivery.body)
                break
        self._expect(got == notice, "the ward fetched the very notice from its inbox")
        self._delivered(receipt)
        self._expect(receipt.message_id in self._twin("generic")["arrivals"], "the department has it too")

    def send_document(self) -> None:
        document = _DOCUMENT.read_bytes()
        (own,) = set(re.findall(rb"<DocumentId>([^<]+)</DocumentId>", document))
        series, _, name = own.rpartition(b"/")
        named = b"%s/%d-%s" % (series, self._number, name)
        receipt = self._one_stop.send(
            "edoc.send", ["G99.22"], document.replace(own, named), content_type="application/xml",
            dossier=self.dossier, message_id=self._new_message_id(),
        )  # fmt: skip
        self._delivered(receipt)
        (kept,) = [sent for sent in self._twin("edoc")["sent"] if sent["documentId"] == named.decode()]
        self._expect(len(kept["statuses"]) >= 2, "every receiver has a status of its own")
        self._tell(f"{kept['documentId']} → {', '.join(kept['statuses'])}")

    def send_home(self) -> None:
        order = {
            "CustomerCode": "HCC-H99", "OrderNumber": self.dossier, "CODAmount": 0, "SenderProvince": 18,
            "SenderAddress": "1 đường Mẫu", "SenderName": "Trung tâm Hành chính công", "SenderTel": "02250000001",
            "SenderDesc": "01 Giấy khai sinh", "ReceiverName": "Nguyễn Thị Mẫu", "ReceiverAddress": "2 đường Thử",
            "ReceiverTel": "0900000001", "ReceiverProvince": 18,
        }  # fmt: skip
        self._delivered(self._send(self._one_stop, "post.delivery-order", ["G99.31"], order))
        self._expect(str(self.dossier) in self._twin("post")["orders"], "the post has the order")
        notice = {
            "to": "0900000001",
            "template": "dossier-received",
            "parameters": {"MaHoSo": self.dossier, "NgayHenTra": f"{self._today:%d/%m/%Y}"},
        }
        self._delivered(self._send(self._one_stop, "notice.sms", ["G99.32"], notice))
        outbox = json.dumps(self._twin("sms")["outbox"])
        self._expect(str(self.dossier) in outbox, "the carrier has the message, and sends none")

    def rate_and_petition(self) -> None:
        self._rate_at_kiosk()
        first, second = f"PAKN-{self._today:%y%m%d}-{self._number}", f"H99.15-SMS-{self._today:%y%m%d}-{self._number}"
        petition = self._petition(first, "DVCQG", _PETITION)
        inbound = f"{self._province.bus_url}/partners/G99.23/pakn/chuyen"
        handed = {"petition": petition, "to": inbound, "times": 2}
        first_answer, second_answer = self._partner_calls("/petition/bo/chuyen", handed)
        self._expect(first_answer["message_id"] == second_answer["message_id"], "both times it is taken, and is one")
        sms = self._petition(second, "SMS", unaccented(_PETITION)[:160])
        self._delivered(self._send(self._one_stop, "petition.submit", ["G99.23"], sms))
        group = self._group_of(first)
        self._expect({one.code for one in group.group.members} == {first, second}, "both ways are one case")
        self._expect(len(group.sources) == 2 and group.standing.clock.is_open, "it is open, and its clock runs")
        self._tell(f"{first} + {second} → {', '.join(group.sources)}")
        for code in (first, second):
            answer = {"MaPAKN": code, "TrangThai": "5", "NoiDungTraLoi": "Giấy khai sinh đã được gửi qua bưu điện.",
                      "NgayTraLoi": f"{utc_now().astimezone(VIETNAM):%Y%m%d%H%M%S}"}  # fmt: skip
            self._delivered(self._send(self._one_stop, "petition.status", ["G99.23"], answer))
        told = self._twin("petition")["petitions"]
        self._expect(all(told[code]["NoiDungTraLoi"] for code in (first, second)), "the national system has the answer")
        self._expect(self._group_of(first).standing.clock is Clock.ANSWERED_IN_TIME, "it was answered in time")
        services = [str(record.service) for record in self._province.bus.ledger.of_dossier(self.dossier)]
        self._expect(services.count("petition.submit") == 2, "the petition came twice by portal and is one message")

    def _rate_at_kiosk(self) -> None:
        rating = {
            "MaHoSo": self.dossier, "LoaiDanhGia": "citizen", "NguoiDanhGia": f"kiosk-01/{self._number}",
            "NoiDungDanhGia": "Thái độ của công chức", "DanhGia": "RẤT HÀI LÒNG",
            "ThoiGianDanhGia": f"{utc_now().astimezone(VIETNAM):%Y%m%d%H%M%S}",
        }  # fmt: skip
        message_id = self._new_message_id()
        self._province.from_device(KIOSK, "rating.submit", "H99.15", rating, message_id)
        record = self._province.bus.ledger.find(message_id)
        if record is None or record.sender_system != KIOSK:
            raise StepFailed("the kiosk sent the rating as itself")
        self._delivered(record)
        self._expect(message_id in self._twin("generic")["arrivals"], "the province's software has the rating")

    def _petition(self, code: str, source: str, text: str) -> dict[str, str]:
        moment = f"{utc_now().astimezone(VIETNAM):%Y%m%d%H%M%S}"
        return {"MaPAKN": code, "NguonGui": source, "MaHoSo": self.dossier, "NoiDung": f"{text} {self._number}",
                "NgayGui": moment, "DonViTiepNhan": "H99.15", "TrangThai": "1"}  # fmt: skip

    def _group_of(self, code: str) -> StandingGroup:
        bus, since = self._province.bus, self._today - timedelta(days=1)
        with no_logs():
            book = petition_book(bus.ledger, bus.directory.current(), since, utc_now().astimezone(VIETNAM).date())
        for group in book.groups:
            if any(one.code == code for one in group.group.members):
                return group
        raise StepFailed("the petition is in the list")

    def lose_an_answer(self) -> None:
        before = self._twin("national_portal")
        self._dial("national_portal", [{"service": "DongBoHoSoMC", "kind": "truncate", "count": 1}])
        self._on_new_dossier()
        receipt = self._send(self._one_stop, "dossier.sync", ["G99"], self._dossier_payload())
        self._delivered(receipt, retried=True)
        after = self._twin("national_portal")
        self._expect(len(after["dossiers"]) == len(before["dossiers"]) + 1, "the portal keeps one dossier")

    def outage(self) -> None:
        self._dial("national_portal", [{"service": "*", "kind": "status", "status": 503}])
        receipts = []
        for _ in range(6):
            self._on_new_dossier()
            receipts.append(self._send(self._one_stop, "dossier.sync", ["G99"], self._dossier_payload()))
        self._until(lambda: self._waiting("G99/cong-dvc") == len(receipts), "the messages wait")
        self._until(lambda: any(self._attempts(r) for r in receipts), "the bus has tried")
        self._tell(f"{self._waiting('G99/cong-dvc')} đang chờ / waiting")
        # Asked before the portal is back: the breaker holds some of them away from it, and those need one attempt only.
        tried = [receipt for receipt in receipts if self._attempts(receipt)]
        self._dial("national_portal", [])
        for receipt in receipts:
            self._delivered(receipt, retried=receipt in tried)
        self._expect(self._waiting("G99/cong-dvc") == 0, "nothing waits any more")

    def dead_letter(self) -> None:
        unknown = {"service": "DongBoHoSoMC", "kind": "error", "code": "-1", "message": "Không tìm thấy thủ tục"}
        self._dial("national_portal", [unknown])
        self._on_new_dossier()
        receipt = self._send(self._one_stop, "dossier.sync", ["G99"], self._dossier_payload())
        self._until(lambda: self._state(receipt) == State.DEAD, "the message is dead")
        self.account.dead.append(receipt.message_id)
        ledger = self._province.bus.ledger
        dead = next(entry for entry in ledger.dead() if entry.message_id == receipt.message_id)
        self._expect(dead.problem is not None, "the dead-letter list says why")
        self._dial("national_portal", [])
        _, moved = ledger.replay([dead.delivery_id], "demo", "thủ tục đã được bổ sung", utc_now())
        self._expect(moved == 1, "the operator sends it again")
        self._province.bus.wake.tap()
        self._delivered(receipt)

    def refusals(self) -> None:
        wrong = {**self._dossier_payload(), "TrangThaiHoSo": "chín mươi"}
        message_id = self._new_message_id()
        problem = self._refused(
            lambda: self._one_stop.send("dossier.sync", ["G99"], wrong, dossier=self.dossier, message_id=message_id),
            SchemaViolation,
        )
        self._expect(any("TrangThaiHoSo" in error.pointer for error in problem.errors), "the answer says where")
        self._expect("chín mươi" not in str(problem.errors) + problem.detail(), "the answer echoes no value")
        self.account.refused.append(message_id)
        self.account.refused.append(self._send_without_grant())
        stranger = AgencyClient(self._province.bus_url, SigningKey.generate(name="nobody"), system=ONE_STOP)
        refused = self._refused(
            lambda: stranger.send("dossier.sync", ["G99"], self._dossier_payload(), dossier=self.dossier), NotIdentified
        )
        stranger.close()
        self._tell(f"{problem.detail('vi')}  ·  {refused.detail('vi')}")

    def _send_without_grant(self) -> MessageId:
        """The ward sends the mother's dossier on without a grant: the console is where this is found and mended."""
        message_id, dossier = self._new_message_id(), self._new_dossier()
        problem = self._refused(
            lambda: self._ward.send(
                "dossier.transfer", ["H99.15"], self._dossier_payload() | {"MaHoSo": dossier}, dossier=dossier,
                purpose=PURPOSE, message_id=message_id,
            ),
            NotPermitted,
        )  # fmt: skip
        self._expect(problem.reason == "no-grant", "the answer says that there is no grant")
        return message_id

    def _question(self, unit: str) -> dict[str, Any]:
        """What a unit asks of the population database: the mother, by her number."""
        return {
            "MaYeuCau": f"YC-{self._number:08d}",
            "MaDVC": "1.001193",
            "MaTichHop": "037",
            "MaCanBo": "CB01",
            "MaDonVi": unit,
            "SoDinhDanh": MOTHER,
            "HoVaTen": "NGUYỄN THỊ MẪU",
            "NgayThangNamSinh": {"NgayThangNam": "19990101"},
        }

    def prove(self) -> None:
        folder = self._province.settings.home / "evidence"
        folder.mkdir(exist_ok=True)
        bundle, trust = folder / f"{self._first.message_id}.json", folder / "trust.json"
        self._until(lambda: self._fetch_bundle(bundle), "the evidence is sealed", every_seconds=0.5)
        trust.write_bytes(self._trust())
        self._expect(self._verifies(bundle, trust), "the offline verifier accepts the bundle")
        flipped = folder / "flipped.json"
        flipped.write_bytes(_flip(bundle.read_bytes()))
        self._expect(not self._verifies(flipped, trust), "the offline verifier refuses the flipped bundle")

    # ── doing ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _send(
        self, client: AgencyClient, service: str, receivers: list[str], payload: Mapping[str, Any], purpose: str = ""
    ) -> Receipt:
        receipt = client.send(
            service, receivers, payload, dossier=self.dossier, purpose=purpose, message_id=self._new_message_id()
        )
        self._tell(f"{service} {receipt.message_id}")
        return receipt

    def _ask(
        self, service: str, receiver: str, question: Mapping[str, Any], purpose: str = ""
    ) -> tuple[MessageId, VerifiedReply]:
        """The one-stop's question under the message id that was answered. An answer that died with the process that
        was to give it is no answer for ever: then it is another question."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            message_id = self._new_message_id()
            try:
                return message_id, self._one_stop.call(
                    service, receiver, question, dossier=self.dossier, purpose=purpose, message_id=message_id
                )
            except (ProviderUnavailable, ProviderTimeout):
                if time.monotonic() > deadline:
                    raise

    def _partner_calls(self, path: str, document: Mapping[str, Any]) -> list[Any]:
        """What the bus answered to the calls that a partner makes when told so at its desk, in their order. Where a
        call got no answer the partner makes them all again."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            done = self._province.partner(path, document, method="POST")
            answers = [_readable(answer) for answer in done.get("answers") or [done.get("answer")]]
            if not any("failed" in answer for answer in answers if isinstance(answer, dict)):
                return answers
            self._expect(time.monotonic() < deadline, "the bus answers a partner")
            time.sleep(0.2)

    def _new_message_id(self) -> MessageId:
        message_id = MessageId(str(uuid7()))
        self.account.sent.append(message_id)
        return message_id

    def _dossier_payload(self) -> dict[str, Any]:
        example: dict[str, Any] = json.loads(_EXAMPLE.read_text(encoding="utf-8"))
        moment = self._today.strftime("%Y%m%d%H%M%S")
        due = (self._today + timedelta(days=1)).strftime("%Y%m%d170000")
        return {**example, "MaHoSo": self.dossier, "NgayNopHoSo": moment, "NgayTiepNhan": moment, "NgayHenTra": due}

    def _progress_row(self, number: int) -> dict[str, str]:
        moment = (self._today + timedelta(minutes=number)).strftime("%Y%m%d%H%M%S")
        return {
            "MaHoSo": self.dossier,
            "NguoiXuLy": "Lê Thị Thử",
            "ChucDanh": "Công chức hộ tịch",
            "ThoiDiemXuLy": moment,
            "PhongBanXuLy": "Tư pháp - Hộ tịch",
            "NoiDungXuLy": f"Bước {number + 1} - Kiểm tra hồ sơ",
            "TrangThai": "4",
        }

    def _ministry_says(self, dossier: DossierCode, note: str, *, second: int) -> None:
        """The status "there is a result", by the ministry's own call."""
        moment = (self._today + timedelta(seconds=second)).strftime("%d/%m/%Y %H:%M:%S")
        to = f"{self._province.bus_url}/partners/G99.15/ho-tich/trang-thai"
        told = {"maHoSo": dossier, "trangThai": "4", "thoiGianThucHien": moment, "ghiChu": note, "to": to}
        (said,) = self._partner_calls("/civil_status/bo/trang-thai", told)
        self._expect(said["status"] == 1, "the ministry's call is taken")

    def _passed(self, dossier: DossierCode) -> list[str]:
        """The steps that the flow of a dossier has passed."""
        flows = Journal(self._province.bus.store).of_dossier(dossier)
        return [event.step for flow in flows for event in flow.events]

    def _states(self, dossier: DossierCode) -> set[State]:
        records = self._province.bus.ledger.of_dossier(dossier)
        return {delivery.state for record in records for delivery in record.deliveries}

    def _on_new_dossier(self) -> None:
        self.dossier = self._new_dossier()

    def _new_dossier(self) -> DossierCode:
        self._number += 1
        return DossierCode(f"H99.15-{self._today:%y%m%d}-{self._number % 10_000_000:07d}")

    def _dial(self, twin: str, faults: list[dict[str, Any]]) -> None:
        self._province.sandbox(f"/{twin}/faults", faults)

    # ── looking ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _delivered(self, receipt: Receipt | ExchangeRecord, *, retried: bool = False) -> None:
        self._until(lambda: self._state(receipt) == State.DELIVERED, "the message is delivered")
        self.account.delivered.append(receipt.message_id)
        if retried:
            self._expect(self._attempts(receipt) > 1, "it took more than one attempt")
            self.account.retried.append(receipt.message_id)

    def _state(self, receipt: Receipt | ExchangeRecord) -> State | None:
        """The state that all deliveries of a message share; None while they differ."""
        record = self._province.bus.ledger.find(receipt.message_id)
        states = {delivery.state for delivery in record.deliveries} if record else set()
        return states.pop() if len(states) == 1 else None

    def _attempts(self, receipt: Receipt | ExchangeRecord) -> int:
        record = self._province.bus.ledger.find(receipt.message_id)
        return sum(len(delivery.attempts) for delivery in record.deliveries) if record else 0

    def _attempts_without_end(self, dossier: DossierCode, system: SystemCode) -> int:
        """How often a delivery to a system had to be made again."""
        records = self._province.bus.ledger.of_dossier(dossier)
        deliveries = [each for record in records for each in record.deliveries if each.system == system]
        return sum(len(each.attempts) - 1 for each in deliveries)

    def _waiting(self, system: str) -> int:
        return sum(queue.waiting for queue in self._province.bus.ledger.queues() if queue.system == system)

    def _twin(self, name: str) -> Any:
        return self._province.sandbox(f"/{name}/state")

    def _refused(self, send: Callable[[], object], kind: type[Problem]) -> Problem:
        try:
            send()
        except kind as problem:
            return problem
        raise StepFailed("it was refused")

    def _fetch_bundle(self, path: Path) -> bool:
        try:
            path.write_bytes(self._portal.evidence(self._first.message_id))
        except Problem:
            return False
        return True

    def _trust(self) -> bytes:
        """What an outsider is given once, and keeps: the keys of bus and log."""
        return fetched(f"{self._province.bus_url}/v1/evidence/trust")

    def _verifies(self, bundle: Path, trust: Path) -> bool:
        """Ask the verifier as an outsider would: one file, another process, nothing of ours imported."""
        command = [sys.executable, "-I", str(_VERIFIER), str(bundle), "--trust", str(trust)]
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0

    def _until(self, true: Callable[[], bool], what: str, every_seconds: float = 0.05) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not true():
            if time.monotonic() > deadline:
                raise StepFailed(what)
            time.sleep(every_seconds)

    def _expect(self, true: bool, what: str) -> None:
        if not true:
            raise StepFailed(what)


def _readable(answer: Any) -> Any:
    """An answer that a twin hands on as text; a reason of its own, where there was none, as ``{"failed": reason}``."""
    if not isinstance(answer, str):
        return answer
    try:
        return json.loads(answer)
    except ValueError:
        return {"failed": answer}


def _flip(document: bytes) -> bytes:
    """One bit of one byte in the middle of the longest signed text, so that the JSON stays readable."""
    longest = max(document.split(b'"'), key=len)
    at = document.index(longest) + len(longest) // 2
    other = b"B" if document[at : at + 1] == b"A" else b"A"
    return document[:at] + other + document[at + 1 :]
