"""The long flows that ship, with the demonstration's registry against the twins: real messages, real calls back.

Deliveries are those of the real worker, in a thread; the tests move the processes, so that they can stop in between.
The worker is there only while something is on its way: one that saw days come and go would put off what it just then
sends (the news of a dossier, told every half second) by as many days.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests
import time_machine
from click.testing import CliRunner

from bus.assembly import signers_of
from bus.cli import lgsp
from bus.processes.catalogue import shipped, unfit
from bus.processes.journal import Journal, ProcessRecord, Status
from bus.processes.runner import Runner
from bus.records import State
from connectors.client import AgencyClient
from connectors.land import PROOF
from schemas.identifiers import DossierCode
from schemas.message import Grade
from schemas.moment import utc_now
from schemas.validation import compile_schema
from security.signing import verify_manifest
from tests.bus_world import delivering
from tests.province_world import ProvinceWorld, province_world

ROOT = Path(__file__).resolve().parent.parent
PARTNERS = ROOT / "schemas" / "partners"
ONE_STOP = "H99.15/mot-cua"
#: Longer than anything here takes on a busy machine.
PATIENCE_SECONDS = 30.0


def example(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((PARTNERS / f"{name}.example.json").read_bytes())
    return document


@dataclass(slots=True)
class Flows:
    """The province, its one-stop, and what moves its processes."""

    world: ProvinceWorld
    one_stop: AgencyClient
    runner: Runner
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def new_dossier(self) -> DossierCode:
        return DossierCode(f"H99.15-260423-{next(self.numbers):04d}")

    def restart(self) -> None:
        """Another program goes on with what lies in the store."""
        self.runner = Runner(self.world.bus, shipped())

    def move(self) -> None:
        while self.runner.run_once():
            pass

    def process(self, dossier: str) -> ProcessRecord:
        (process,) = Journal(self.world.bus.store).of_dossier(DossierCode(dossier))
        return process

    def story(self, dossier: str) -> list[tuple[str, str]]:
        """The steps so far, after all deliveries are done and all moves made."""
        self.settle()
        self.move()
        self.settle()
        return [(event.step, event.event) for event in self.process(dossier).events]

    def settle(self) -> None:
        """Until nothing is on its way."""
        end = time.monotonic() + PATIENCE_SECONDS
        while self.on_their_way():
            with delivering(self.world.bus):
                while self.on_their_way():
                    assert time.monotonic() < end, f"still on their way: {self.on_their_way()}"
                    time.sleep(0.01)

    def on_their_way(self) -> dict[State, int]:
        states = self.world.bus.ledger.states()
        return {state: states[state] for state in (State.WAITING, State.DELIVERING) if state in states}

    @contextmanager
    def later(self, days: float) -> Iterator[None]:
        """Days later; nothing is on its way then, nor afterwards."""
        self.settle()
        with time_machine.travel(utc_now() + timedelta(days=days), tick=True):
            yield
            self.settle()

    def send(self, service: str, to: str, payload: Any, dossier: str) -> None:
        self.one_stop.send(service, [to], payload, dossier=dossier)

    def hand(self, path: str, **wish: Any) -> Any:
        """What somebody does at a partner's."""
        answer = requests.post(f"{self.world.sandbox_url}/{path}", json=wish, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def answer(self, office: str, dossier: str, **wish: Any) -> list[Any]:
        """An office answers, by calling the bus; what the bus said."""
        system = {"residence": "G99.02/cu-tru", "health_card": "G99.25/the-bhyt", "tax": "G99.26/dang-ky-thue"}[office]
        to = f"{self.world.url}/partners/{system}/ket-qua"
        done = self.hand(f"_sandbox/{office}/answer", maHoSo=dossier, to=to, **wish)
        folder = PARTNERS / office / "result.schema.json"
        compile_schema(json.loads(folder.read_bytes())).validate(
            json.dumps(done["notice"]).encode(), "application/json"
        )
        answers: list[Any] = done["answers"]
        return answers

    def twin(self, name: str) -> Any:
        return self.world.sandbox.twins[name].state()

    def messages(self, dossier: str, service: str) -> list[Any]:
        return [
            record for record in self.world.bus.ledger.of_dossier(DossierCode(dossier)) if record.service == service
        ]

    def sent_once(self, dossier: str, *services: str) -> None:
        """Each of these went out as one message and was delivered in one attempt."""
        for service in services:
            (record,) = self.messages(dossier, service)
            assert [(each.state, len(each.attempts)) for each in record.deliveries] == [(State.DELIVERED, 1)], service


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flows]:
    with (
        province_world(tmp_path_factory.mktemp("province")) as world,
        world.client(ONE_STOP) as one_stop,
    ):
        yield Flows(world=world, one_stop=one_stop, runner=Runner(world.bus, shipped()))


def test_the_demonstration_has_everything_that_the_shipped_flows_need(flows: Flows) -> None:
    directory = flows.world.bus.directory.current()
    assert [definition.code for definition in shipped()] == [
        "birth-chain", "business-and-tax", "land-tax-and-payment", "payment-and-post",
    ]  # fmt: skip
    assert [unfit(definition, directory) for definition in shipped()] == [[]] * 4
    told = CliRunner().invoke(lgsp, ["--home", str(flows.world.settings.home), "process", "definitions"])
    assert told.stdout.count("does not run (LGSP_PROCESSES)") == 4
    assert "not registered" not in told.stdout


def test_a_receiver_that_checks_signatures_knows_the_bus_for_what_it_sends_and_attests(flows: Flows) -> None:
    dossier = born(flows)
    numbered(flows, dossier)
    flows.story(dossier)
    signers = signers_of(flows.world.settings)
    for service, grade in {"residence.register": Grade.SIGNED, "civil-status.joint-status": Grade.ATTESTED}.items():
        (record,) = flows.messages(dossier, service)
        assert record.grade is grade
        assert verify_manifest(record.manifest_jws, signers, utc_now()).manifest.message_id == record.message_id
    flows.answer("residence", dossier, trangThai="6")
    assert flows.story(dossier)[-1] == ("not-resident", "failed")


# --- a birth ---------------------------------------------------------------------------------------------------------


def born(flows: Flows) -> DossierCode:
    """A birth is registered in the joint chain; each has a mother of its own, or it were a suspected twin."""
    dossier = flows.new_dossier()
    payload = example("civil_status/joint-register") | {"maHoSo": dossier}
    payload["data"] |= {"meSoGiayToTuyThan": f"0991990{dossier[-4:]:0>5}"}
    flows.send("civil-status.joint-register", "G99.15", payload, dossier)
    assert flows.story(dossier) == [("register", "received")]
    return dossier


def ministry_says(flows: Flows, dossier: str, status: str, second: int) -> None:
    to = f"{flows.world.url}/partners/G99.15/ho-tich/trang-thai"
    moment = f"24/04/2026 08:00:{second:02d}"
    asked = {"maHoSo": dossier, "trangThai": status, "thoiGianThucHien": moment, "to": to}
    assert flows.hand("civil_status/bo/trang-thai", **asked)["answer"]["status"] == 1


def numbered(flows: Flows, dossier: str) -> None:
    assert flows.hand("civil_status/bo/cap-so", maHoSo=dossier)["soDinhDanh"]
    ministry_says(flows, dossier, "4", 30)


def test_a_birth_becomes_a_residence_and_a_health_card(flows: Flows) -> None:
    dossier = born(flows)
    ministry_says(flows, dossier, "3", 1)
    ministry_says(flows, dossier, "4", 2)
    assert flows.story(dossier)[1:] == [("number", "received")] * 2, "a result without a number is not yet the result"
    assert dossier not in flows.twin("residence")["requests"]
    numbered(flows, dossier)
    flows.restart()
    assert sorted(flows.story(dossier)[4:]) == [("card", "sent"), ("residence", "sent")]
    asked = flows.twin("residence")["requests"][dossier]
    assert asked == flows.twin("health_card")["requests"][dossier]
    number = json.loads(asked["ketQua"])["soDinhDanh"]
    assert number.startswith("0993")
    flows.answer("residence", dossier, trangThai="3", thoiGianThucHien="24/04/2026 09:00:00")
    said = flows.answer("residence", dossier, times=2)
    assert [one["state"] for one in said] == ["accepted"] * 2
    assert said[0]["message_id"] == said[1]["message_id"], "the answer that comes twice is one message"
    flows.restart()
    assert flows.process(dossier).status is Status.RUNNING
    flows.answer("health_card", dossier)
    assert flows.story(dossier)[-1] == ("done", "done")
    assert flows.process(dossier).status is Status.DONE
    flows.sent_once(dossier, "residence.register", "health-card.issue")
    assert [flows.twin(office)["repeats"] for office in ("residence", "health_card")] == [0, 0]
    (result,) = flows.messages(dossier, "health-card.result")
    card = json.loads(flows.world.bus.ledger.body_of(result.id) or b"{}")["ketQua"]
    assert (card["soTheBHYT"][:5], card["soDinhDanh"]) == ("TE199", number)


def test_no_personal_number_in_time_ends_the_chain_before_anybody_is_asked(flows: Flows) -> None:
    dossier = born(flows)
    ministry_says(flows, dossier, "3", 1)
    assert flows.story(dossier)[-1] == ("number", "received")
    with flows.later(days=15.1):
        story = flows.story(dossier)
    assert story[-2:] == [("number-late", "deadline-passed"), ("no-number", "failed")]
    assert flows.messages(dossier, "residence.register") == []


@pytest.mark.parametrize("office, end", [("residence", "not-resident"), ("health_card", "no-card")])
def test_a_refusal_of_one_office_ends_the_chain(flows: Flows, office: str, end: str) -> None:
    dossier = born(flows)
    numbered(flows, dossier)
    flows.story(dossier)
    flows.answer(office, dossier, trangThai="6", ghiChu="Chưa đủ điều kiện")
    assert flows.story(dossier)[-1] == (end, "failed")


def test_a_birth_that_the_ministry_refuses_ends_the_chain(flows: Flows) -> None:
    dossier = born(flows)
    ministry_says(flows, dossier, "6", 1)
    assert flows.story(dossier)[-2:] == [("number", "received"), ("not-registered", "failed")]


# --- an enterprise ---------------------------------------------------------------------------------------------------


def founded(flows: Flows, journal: str) -> DossierCode:
    dossier = flows.new_dossier()
    tax = {name: value for name, value in example("tax/register").items() if not name.startswith("ma")}
    payload = {"filing": {"in_journal_no": journal}, "tax": tax}
    flows.send("flow.business-and-tax", "H99.15", payload, dossier)
    return dossier


def told_of(flows: Flows, dossier: str) -> Any:
    (record,) = flows.messages(dossier, "business-tax.result")
    assert [each.receiver for each in record.deliveries] == ["H99.15"]
    return json.loads(flows.world.bus.ledger.body_of(record.id) or b"")


def test_an_enterprise_gets_its_tax_code_after_the_registry_has_decided(flows: Flows) -> None:
    dossier = founded(flows, "HS260401")
    assert flows.story(dossier) == [("begun", "received"), ("filing", "sent")]
    flows.move()
    assert len(flows.messages(dossier, "enterprise.filing-status")) == 1, "it is not asked again before tomorrow"
    flows.hand("_sandbox/business_registry/registered", in_journal_no="HS260401", date="24/04/2026")
    flows.restart()
    with flows.later(days=1.01):
        assert flows.story(dossier)[2:] == [("tomorrow", "deadline-passed"), ("filing", "sent"), ("tax", "sent")]
        flows.answer("tax", dossier, times=2)
        story = flows.story(dossier)
    assert story[5:] == [("taxed", "received"), ("tell", "sent"), ("told", "received"), ("done", "done")]
    assert flows.process(dossier).status is Status.DONE
    flows.sent_once(dossier, "tax.register", "business-tax.result")
    number = flows.twin("tax")["requests"][dossier]["maSoDoanhNghiep"]
    told = {"maHoSo": dossier, "ketQua": "1", "maSoDoanhNghiep": number, "maSoThue": number}
    assert told_of(flows, dossier) == told


def test_a_tax_office_that_does_not_answer_has_its_request_taken_back(flows: Flows) -> None:
    flows.hand("_sandbox/business_registry/registered", in_journal_no="HS260402")
    dossier = founded(flows, "HS260402")
    assert flows.story(dossier)[-1] == ("tax", "sent")
    with flows.later(days=5.1):
        story = flows.story(dossier)
    assert story[3:] == [
        ("tax-late", "deadline-passed"), ("cancel", "sent"), ("tell-no-tax", "sent"), ("no-tax-code", "failed"),
    ]  # fmt: skip
    assert dossier in flows.twin("tax")["cancelled"]
    assert told_of(flows, dossier)["lyDo"] == "no-tax-code"


def test_a_registry_that_never_decides_is_given_up(flows: Flows) -> None:
    dossier = founded(flows, "HS260403")
    flows.story(dossier)
    for _ in range(2):
        with flows.later(days=1.01):
            flows.story(dossier)
    with flows.later(days=15.1):
        story = flows.story(dossier)
    assert story[-2:] == [("tell-late", "sent"), ("registry-late", "failed")]
    assert told_of(flows, dossier)["lyDo"] == "registry-late"


def test_a_filing_that_nobody_knows_is_told_at_once(flows: Flows) -> None:
    dossier = founded(flows, "KHONG-CO")
    assert flows.story(dossier)[-2:] == [("tell-unknown", "sent"), ("filing-unknown", "failed")]
    assert flows.twin("tax")["requests"].get(dossier) is None


# --- land tax --------------------------------------------------------------------------------------------------------


def land_reports(flows: Flows, dossier: str, name: str) -> None:
    """The land office's report goes to the bus as the office would send it, twice."""
    code = json.loads(flows.world.sandbox.credentials["land"])["security_code"]
    address = f"{flows.world.url}/partners/G99.13/dat-dai/{name}"
    reports = requests.get(f"{flows.world.sandbox_url}/land/reports/{dossier}", timeout=10).json()
    (body,) = [report["body"] for report in reports if report["path"] == name]
    for _ in range(2):
        answer = requests.post(address, json={**body, PROOF: code}, timeout=10)
        assert answer.json()["Result"] == 1, answer.text


def pay_order(dossier: str, amount: int) -> dict[str, Any]:
    order = example("payment/payment-init") | {"MaThamChieu": f"HP{dossier[-4:]}2604230001", "SoTien": str(amount)}
    order["ThongTinBienLai"] |= {"MaHoSo": dossier}
    return {name: value for name, value in order.items() if name not in ("MaDoiTac", "MaXacThuc")}


def paid(flows: Flows, reference: str, **wish: Any) -> None:
    ipn = f"{flows.world.url}/partners/G99.30/thanh-toan/ipn"
    told = flows.hand("_sandbox/payment/pay", MaThamChieu=reference, ipn_url=ipn, times=2, **wish)
    assert [json.loads(answer)["MaLoi"] for answer in told["answers"]] == ["00", "00"]


def taxed(flows: Flows) -> DossierCode:
    """A land dossier whose tax is known."""
    dossier = flows.new_dossier()
    flows.send("land.transfer", "G99.13", example("land/transfer") | {"SoBienNhan": dossier}, dossier)
    flows.settle()
    land_reports(flows, dossier, "ThongBaoThue")
    assert flows.story(dossier) == [("tax", "received")]
    return dossier


def test_land_tax_is_paid_and_the_land_office_told_once(flows: Flows) -> None:
    dossier = taxed(flows)
    order = pay_order(dossier, 3_456_789_000)
    flows.one_stop.call("payment.init", "G99.30", order, dossier=dossier)
    assert flows.story(dossier)[1:] == [("init", "received")]
    flows.restart()
    paid(flows, order["MaThamChieu"])
    assert flows.story(dossier)[2:] == [("paid", "received"), ("receipt", "sent")]
    flows.sent_once(dossier, "land.tax-receipt")
    assert flows.twin("land")["events"][dossier] == ["transfer", "tax_receipt"]
    land_reports(flows, dossier, "KetThuc")
    assert flows.story(dossier)[4:] == [("finished", "received"), ("done", "done")]
    assert flows.process(dossier).status is Status.DONE


def test_land_tax_that_nobody_pays_ends_after_thirty_days(flows: Flows) -> None:
    dossier = taxed(flows)
    with flows.later(days=30.1):
        story = flows.story(dossier)
    assert story[1:] == [("no-init", "deadline-passed"), ("tax-not-paid", "failed")]
    assert flows.messages(dossier, "land.tax-receipt") == []


# --- a fee and a parcel ----------------------------------------------------------------------------------------------


def wanted_by_post(flows: Flows) -> tuple[DossierCode, str]:
    """The one-stop asks for fee and parcel in one message; the dossier and the payment's reference."""
    dossier = flows.new_dossier()
    init = pay_order(dossier, 8000)
    order = example("post/order") | {"OrderNumber": dossier}
    cancel = {"CustomerCode": "HCC-H99", "OrderNUmber": dossier}
    flows.send("flow.payment-and-post", "H99.15", {"init": init, "order": order, "cancel": cancel}, dossier)
    assert flows.story(dossier) == [("fee", "received"), ("init", "sent")]
    return dossier, init["MaThamChieu"]


def feed_is_read(flows: Flows, folder: Path, *words: str) -> Any:
    profile = flows.world.member(ONE_STOP, ".toml")
    command = ["post", "tracking", "--profile", str(profile), "--from", "G99.31", "--to", "H99.15", "--json"]
    return CliRunner().invoke(lgsp, [*command, "--place", str(folder / "place.json"), *words])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture
def moves(flows: Flows) -> Callable[..., None]:
    def move(dossier: str, *codes: str) -> None:
        events = [{"orderNumber": dossier, "statusCode": code} for code in codes]
        address = f"{flows.world.sandbox_url}/_sandbox/post/events"
        assert requests.post(address, json=events, timeout=10).status_code == 200

    return move


def test_a_fee_is_paid_and_the_result_comes_by_post(flows: Flows, place: Path, moves: Callable[..., None]) -> None:
    dossier, reference = wanted_by_post(flows)
    flows.restart()
    paid(flows, reference)
    assert flows.story(dossier)[2:] == [("paid", "received"), ("order", "sent")]
    moves(dossier, "20", "30", "51")
    assert feed_is_read(flows, place).exit_code == 0
    flows.restart()
    assert flows.story(dossier)[4:] == [("parcel", "received")] * 4, "10, 20, 30 and a failed attempt: it is waited on"
    moves(dossier, "40", "50")
    assert json.loads(feed_is_read(flows, place).stdout)["sent"] == 2
    assert flows.story(dossier)[-2:] == [("parcel", "received"), ("done", "done")]
    assert json.loads(feed_is_read(flows, place).stdout)["sent"] == 0
    flows.sent_once(dossier, "payment.init", "post.delivery-order")
    assert flows.twin("payment")["repeats"] == 0
    assert list(flows.twin("post")["orders"]).count(dossier) == 1
    trace = CliRunner().invoke(lgsp, ["--home", str(flows.world.settings.home), "trace", dossier]).stdout
    assert "payment-and-post" in trace
    assert "order sent post.delivery-order" in trace


def test_a_feed_that_is_read_again_from_the_beginning_sends_nothing_twice(
    flows: Flows, tmp_path: Path, place: Path, moves: Callable[..., None]
) -> None:
    moves("H99.15-260423-9999", "40")
    feed_is_read(flows, place)
    (first,) = flows.messages("H99.15-260423-9999", "post.event")
    again = feed_is_read(flows, tmp_path, "--page-size", "2")
    assert again.exit_code == 0
    assert json.loads(again.stdout)["sent"] > 0, "all were sent again, and were the same messages"
    assert [record.id for record in flows.messages("H99.15-260423-9999", "post.event")] == [first.id]


def test_an_unpaid_fee_orders_no_parcel(flows: Flows) -> None:
    dossier, reference = wanted_by_post(flows)
    paid(flows, reference, MaLoi="99")
    assert flows.story(dossier)[2:] == [("paid", "received")], "a cancelled payment may be begun again"
    with flows.later(days=3.1):
        story = flows.story(dossier)
    assert story[3:] == [("unpaid", "deadline-passed"), ("not-paid", "failed")]
    assert dossier not in flows.twin("post")["orders"]


def test_a_parcel_that_is_not_brought_is_cancelled(flows: Flows) -> None:
    dossier, reference = wanted_by_post(flows)
    paid(flows, reference)
    flows.story(dossier)
    with flows.later(days=10.1):
        story = flows.story(dossier)
    assert story[4:] == [("overdue", "deadline-passed"), ("cancel", "sent"), ("not-delivered", "failed")]
    assert dossier in flows.twin("post")["cancelled"]


def test_a_parcel_that_comes_back_ends_the_flow_at_once(flows: Flows, place: Path, moves: Callable[..., None]) -> None:
    dossier, reference = wanted_by_post(flows)
    paid(flows, reference)
    flows.story(dossier)
    moves(dossier, "60", "61")
    assert feed_is_read(flows, place).exit_code == 0
    assert flows.story(dossier)[-2:] == [("parcel", "received"), ("not-delivered", "failed")]
    assert flows.messages(dossier, "post.cancel") == []
