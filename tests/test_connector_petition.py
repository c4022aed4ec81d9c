"""The national system of petitions: what goes out by the connector `rest`, and its calls to us."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from connectors.sandbox.app import Sandbox, SandboxConfig, create_sandbox
from registry.model import DeliveryMode, DossierView, Endpoint, Grant, HttpCall, Pattern, Service, System
from schemas.codes import PETITION_SOURCES, PETITION_STATUSES, SETTLED_PETITIONS, may_follow
from schemas.identifiers import ServiceCode, SystemCode
from schemas.message import Grade
from schemas.problem import (
    ProviderRejected,
    ProviderUnavailable,
    SchemaViolation,
)
from schemas.validation import compile_schema
from tests.bus_world import MINISTRY, RECEIVER, World, bus_world
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of
from tests.loopback import serving

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "schemas" / "partners" / "petition"
SYSTEM = SystemCode("G99.23/pakn")
SUBMIT, STATUS = ServiceCode("petition.submit"), ServiceCode("petition.status")
MOVE = HttpCall(path="/pakn/trang-thai")


def recorded(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.example.json").read_bytes())
    return document


def petition(number: int = 1, **changes: Any) -> dict[str, Any]:
    return recorded("submit") | {"MaPAKN": f"PAKN-260423-{number:04d}"} | changes


def status(**changes: Any) -> dict[str, Any]:
    return recorded("status") | changes


class TestPetition(ConnectorContract):
    bound = Binding(
        connector="rest",
        twin="petition",
        path="/petition",
        operation="tiep-nhan",
        service=SUBMIT,
        payload=petition,
        effects=lambda state: len(state["petitions"]),
        settings={"auth": "oauth2", "reply_codes": {"members": ["error_code"], "retry": ["-1", "2"]}},
        call=HttpCall(path="/pakn/tiep-nhan"),
    )

    def test_the_answer_reaches_the_national_system(self, rig: Rig) -> None:
        rig.deliver()
        rig.deliver(parcel_of(STATUS, status(), call=MOVE))
        (kept,) = rig.sandbox.twins["petition"].state()["petitions"].values()
        assert (kept["TrangThai"], kept["NoiDungTraLoi"]) == ("5", status()["NoiDungTraLoi"])

    def test_a_status_that_overtook_its_petition_waits_for_it(self, rig: Rig) -> None:
        parcel = parcel_of(STATUS, status(), call=MOVE)
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver(parcel)
        assert caught.value.facts == {"code": "2"}
        rig.deliver()
        assert rig.deliver(replace(parcel, attempt=2)).status == 200

    def test_a_step_out_of_turn_is_taken_and_seen(self, rig: Rig) -> None:
        rig.deliver()
        for after in ("5", "7", "4"):
            rig.deliver(parcel_of(STATUS, status(TrangThai=after), call=MOVE))
        state = rig.sandbox.twins["petition"].state()
        assert [one["TrangThai"] for one in state["petitions"].values()] == ["4"]
        assert state["out_of_turn"] == 2  # answered before anybody took it up, and worked on after it was closed

    @pytest.mark.parametrize("document", [petition(NoiDung=""), {}, [], status(TrangThai="9")])
    def test_what_it_does_not_take_is_final(self, rig: Rig, document: Any) -> None:
        rig.deliver()
        call = MOVE if isinstance(document, dict) and document.get("TrangThai") == "9" else rig.binding.call
        with pytest.raises(ProviderRejected):
            rig.deliver(parcel_of(SUBMIT, document, call=call))

    @pytest.mark.parametrize("secret", [b"", b"{", b"{}", b'{"user": "a"}', b'{"user": 1, "secret": "b"}', b"\xff"])
    def test_a_secret_that_cannot_be_read_waits_for_the_operator(self, rig: Rig, secret: bytes) -> None:
        rig.secret = secret
        with pytest.raises(ProviderUnavailable):
            rig.deliver()

    def test_a_plain_client_id_and_secret_are_enough_to_call_out(self, rig: Rig) -> None:
        parts = json.loads(rig.secret)
        rig.secret = f"{parts['user']}:{parts['secret']}".encode()
        assert rig.deliver().status == 200


# ---- The lists


def test_every_transition_leads_to_a_status_that_exists() -> None:
    assert {after for one in PETITION_STATUSES.values() for after in one.next} <= PETITION_STATUSES.keys()
    assert SETTLED_PETITIONS - PETITION_STATUSES.keys() == set()
    assert may_follow("1", "2", PETITION_STATUSES)
    assert not may_follow("7", "4", PETITION_STATUSES)
    assert not may_follow("1", "9", PETITION_STATUSES), "the list of dossiers has a 9"


def test_the_schemas_know_the_codes_of_the_lists() -> None:
    submit, moved = (json.loads((FOLDER / f"{name}.schema.json").read_bytes()) for name in ("submit", "status"))
    assert submit["properties"]["NguonGui"]["enum"] == list(PETITION_SOURCES)
    for schema in (submit, moved):
        assert schema["properties"]["TrangThai"]["enum"] == list(PETITION_STATUSES)


@pytest.mark.parametrize(
    "name, document",
    [
        ("submit", petition(MaPAKN="")),
        ("submit", petition(MaPAKN="=1+1")),
        ("submit", petition(MaPAKN="x" * 51)),
        ("submit", petition(NguonGui="facebook")),
        ("submit", petition(NoiDung="")),
        ("submit", petition(NoiDung="x" * 20_001)),
        ("submit", petition(NgayGui="25/04/2026")),
        ("submit", petition(NgayGui="20261325090000")),
        ("submit", petition(TrangThai="8")),
        ("submit", petition(DonViTiepNhan="Sở Mẫu")),
        ("submit", petition(NguoiGui={"HoTen": "Nguyễn Thị Mẫu", "SoCCCD": "099199000001"})),
        ("submit", petition(TepDinhKem=[{"TenTep": "don.pdf", "DuongDan": "https://example.com/don.pdf"}])),
        ("status", {"MaPAKN": "PAKN-260423-0001"}),
        ("status", {"MaPAKN": "PAKN-260423-0001", "TrangThai": "5"}),
        ("status", {"MaPAKN": "PAKN-260423-0001", "TrangThai": "3"}),
    ],
)
def test_what_nobody_could_use_is_refused_at_the_door(name: str, document: Any) -> None:
    schema = compile_schema(json.loads((FOLDER / f"{name}.schema.json").read_bytes()))
    with pytest.raises(SchemaViolation):
        schema.validate(json.dumps(document).encode(), "application/json")


# ---- They call us


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The settings of the demonstration, with another receiver."""
    with bus_world(tmp_path / "bus") as made:
        calls = {"chuyen": {"service": SUBMIT}, "trang-thai": {"service": STATUS}}
        endpoint = Endpoint(
            connector="rest",
            url="http://127.0.0.1:9",
            secret="petition",
            settings={"auth": "oauth2", "inbound": {"receiver": RECEIVER, "calls": calls}},
        )
        services = (
            Service(
                code=code,
                version=1,
                name=code,
                owner=MINISTRY,
                pattern=Pattern.ONE_WAY,
                grade=Grade.ATTESTED,
                schema=json.loads((FOLDER / f"{name}.schema.json").read_bytes()),
                dossier=DossierView(code="/MaHoSo"),
            )
            for code, name in ((SUBMIT, "submit"), (STATUS, "status"))
        )
        made.register(
            System(
                code=SystemCode(f"{MINISTRY}/pakn"),
                name="PAKN",
                mode=DeliveryMode.PUSH,
                endpoint=endpoint,
                receives=(SUBMIT, STATUS),
            ),
            *services,
            *(Grant(id=code, service=code, grantee=MINISTRY, receivers=(RECEIVER,)) for code in (SUBMIT, STATUS)),
        )
        yield made


def test_the_twin_hands_a_petition_down_and_the_agency_gets_it_once(world: World, tmp_path: Path) -> None:
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json"))
    sandbox: Sandbox = app.extensions["sandbox"]
    secret = sandbox.credentials["petition"].encode()
    world.bus.registry.put_secret("petition", world.bus.secrets.seal("petition", secret), "test")
    with world.serving() as url, serving(app) as twin:

        def hand(path: str, **asked: Any) -> Any:
            to = f"{url}/partners/{MINISTRY}/pakn/{path}"
            return requests.post(f"{twin.url}/petition/bo/{path}", json=asked | {"to": to}, timeout=10).json()

        first, again = hand("chuyen", petition=petition(), times=2)["answers"]
        (closed,) = hand("trang-thai", status={"MaPAKN": petition()["MaPAKN"], "TrangThai": "7"})["answers"]
        (back,) = hand("chuyen", petition=petition(TrangThai="3", DonViTiepNhan="H99.16"))["answers"]
        (refused,) = hand("chuyen", petition=petition(2, NguonGui="facebook"))["answers"]
        stranger = requests.post(f"{url}/partners/{MINISTRY}/pakn/chuyen", json=petition(3), timeout=10)
        headers = world.bearer("H99.16/kho")
        fetched = requests.get(f"{url}/v1/inbox?wait=5", headers=headers, timeout=10).json()["deliveries"]
        traced = requests.get(f"{url}/v1/dossiers/H99.15-260423-0001", headers=headers, timeout=10).json()
    sandbox.close()
    assert first["message_id"] == again["message_id"]
    assert len({answer["message_id"] for answer in (first, closed, back)}) == 3
    assert refused["reason"] == "payload-breaks-schema"
    assert "facebook" not in json.dumps(refused)
    assert stranger.status_code == 401
    assert len(fetched) == 3
    # The status names no dossier; the petition does, both times that it was handed down.
    assert [message["service"] for message in traced["messages"]] == ["petition.submit/1"] * 2


def test_the_commands_of_the_manual_ask_the_twin(tmp_path: Path) -> None:
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json"))
    sandbox: Sandbox = app.extensions["sandbox"]
    page = (ROOT / "docs" / "partners" / "petition.md").read_text("utf-8")
    (commands,) = re.findall(r"^```sh\n(BASE.*?)^```", page, re.MULTILINE | re.DOTALL)
    credential = json.loads(sandbox.credentials["petition"])
    with serving(app) as server:
        said = subprocess.run(
            ["sh", "-euc", commands.replace("http://127.0.0.1:8090", server.url)],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "NAME": credential["user"], "SECRET": credential["secret"]},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
    state = sandbox.twins["petition"].state()
    sandbox.close()
    assert re.findall(r'"error_code": ?"(\d)"', said) == ["0", "0", "0", "2", "0", "0"]
    assert {code: one["TrangThai"] for code, one in state["petitions"].items()} == {
        "PAKN-260423-0001": "7",
        "H99.15-SMS-260426-0007": "1",
    }
