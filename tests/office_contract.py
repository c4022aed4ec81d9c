"""What the offices have in common that answer days later (``connectors/sandbox/later.py``): the contract of every
connector, their manners, their page, and their calls of the demonstration's bus."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests
import yaml

from registry.model import HttpCall
from schemas.problem import ProviderRejected
from schemas.validation import compile_schema
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of
from tests.province_world import province_world

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = {"auth": "oauth2", "reply_codes": {"members": ["maLoi"]}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An office and what it is asked."""

    name: str
    service: str
    result_service: str
    operation: str
    #: The recorded request, by its name in schemas/partners.
    request: str
    #: Its system in the demonstration.
    system: str
    #: Requests that it cannot use.
    faults: tuple[dict[str, Any], ...]

    @property
    def call(self) -> HttpCall:
        return HttpCall(method="POST", path=f"/{self.operation}", body="*")

    def recorded(self, number: int = 1) -> dict[str, Any]:
        path = ROOT / "schemas" / "partners" / self.name / f"{self.request}.example.json"
        document: dict[str, Any] = json.loads(path.read_bytes())
        return document | {"maHoSo": f"H99.15-260423-{number:04d}"}


def bound_to(office: Asked) -> Binding:
    return Binding(
        connector="rest",
        twin=office.name,
        path=f"/{office.name}",
        operation=office.operation,
        service=office.service,
        payload=office.recorded,
        effects=lambda state: len(state["requests"]),
        settings=SETTINGS,
        call=office.call,
    )


class OfficeContract(ConnectorContract):
    """Subclass with ``office = Asked(…)`` and ``bound = bound_to(office)``."""

    office: ClassVar[Asked]

    def test_another_request_under_the_same_code_is_refused(self, rig: Rig) -> None:
        rig.deliver()
        changed = parcel_of(self.office.service, rig.binding.payload(1) | {"them": "khác"}, call=self.office.call)
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(changed)
        assert caught.value.facts == {"code": "2"}
        assert rig.effects() == 1

    def test_what_the_office_cannot_use_is_refused(self, rig: Rig) -> None:
        for fault in ({"maHoSo": ""}, {"maHoSo": None}, *self.office.faults):
            parcel = parcel_of(self.office.service, rig.binding.payload(1) | fault, call=self.office.call)
            with pytest.raises(ProviderRejected):
                rig.deliver(parcel)
        assert rig.effects() == 0

    def test_nothing_can_be_answered_that_was_not_asked(self, rig: Rig) -> None:
        address = f"{rig.server.url}/_sandbox/{self.office.name}/answer"
        assert requests.post(address, json={"maHoSo": "H99.15-260423-0001"}, timeout=10).status_code == 404

    def test_the_commands_of_the_manual_ask_the_twin(self, rig: Rig) -> None:
        page = (ROOT / "docs" / "partners" / f"{self.office.name}.md").read_text("utf-8")
        (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        credential = json.loads(rig.sandbox.credentials[self.office.name])
        said = subprocess.run(
            ["sh", "-euc", commands.replace("http://127.0.0.1:8090", rig.server.url)],
            env={"PATH": os.environ["PATH"], "NAME": credential["user"], "SECRET": credential["secret"]},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
        assert said.count('"maLoi":"0"') == 1
        result = schema_of(self.office.name, "result")
        notices = [json.loads(line)["notice"] for line in said.splitlines() if "notice" in line]
        for notice in notices:
            result.validate(json.dumps(notice).encode(), "application/json")
        assert [notice["trangThai"] for notice in notices] == ["4", "6"]

    def test_the_demonstration_takes_its_answer_once(self, tmp_path: Path) -> None:
        office, request = self.office, self.office.recorded()
        dossier = request["maHoSo"]
        with province_world(tmp_path) as world:
            at, credential = world.sandbox_url, json.loads(world.sandbox.credentials[office.name])
            login = (credential["user"], credential["secret"])
            token = requests.post(f"{at}/{office.name}/token", auth=login, timeout=10).json()["access_token"]
            headers = {"Authorization": f"Bearer {token}"}
            requests.post(f"{at}/{office.name}/{office.operation}", json=request, headers=headers, timeout=10)
            to = f"{world.url}/partners/{office.system}/ket-qua"
            asked = {"maHoSo": dossier, "to": to, "times": 2, "thoiGianThucHien": "24/04/2026 10:00:00"}
            first, again = requests.post(f"{at}/_sandbox/{office.name}/answer", json=asked, timeout=10).json()[
                "answers"
            ]
            assert first == again
            kept = [each for each in world.bus.ledger.of_dossier(dossier) if each.service == office.result_service]
            assert [(each.message_id, each.sender) for each in kept] == [
                (first["message_id"], office.system.split("/")[0])
            ]

    def test_the_demonstration_registers_what_is_tested_here(self) -> None:
        documents = list(yaml.safe_load_all((ROOT / "bus" / "demo" / "province.yaml").read_text("utf-8")))
        (service,) = [each for each in documents if each.get("code") == self.office.service]
        (system,) = [each for each in documents if each.get("code") == self.office.system]
        assert service["provider"]["http"]["path"] == self.office.call.path
        assert SETTINGS.items() <= system["endpoint"]["settings"].items()


def schema_of(partner: str, name: str) -> Any:
    return compile_schema(json.loads((ROOT / "schemas" / "partners" / partner / f"{name}.schema.json").read_bytes()))
