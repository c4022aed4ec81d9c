"""The business registry's connector, bound to the contract, and the registry's own manners."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from openapi_spec_validator import validate

from connectors.base import Connector
from connectors.business_registry import OPERATIONS, PARAMETERS
from connectors.http import HttpClient
from connectors.rest import RestConnector
from connectors.sandbox.app import Sandbox, SandboxConfig, create_sandbox
from connectors.table import CONNECTORS
from registry.model import HttpCall
from schemas.problem import ProviderRejected, SchemaViolation
from schemas.validation import compile_schema
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of
from tests.loopback import serving


class TestBusinessRegistry(ConnectorContract):
    bound = Binding(
        connector="business_registry",
        path="/business_registry",
        operation="chiTietDoanhNghiep",
        service="enterprise.detail",
        payload=lambda number: {"msdn": "9900000016"},
        # It only reads: the effect of a question is that it was asked under its key.
        effects=lambda state: len(state["idempotency_keys"]),
        answers=frozenset({"error"}),
    )

    def test_an_enterprise_comes_back_as_the_registry_wrote_it(self, rig: Rig) -> None:
        document = json.loads(rig.deliver().body)
        assert document["HOAdress"]["CityName"] == "Hải Phòng"
        assert document["MainInformation"]["ENTERPRISE_GDT_CODE"] == "9900000016"

    def test_an_unknown_enterprise_is_an_answer(self, rig: Rig) -> None:
        document = json.loads(rig.deliver(parcel_of("enterprise.detail", {"msdn": "9900000017"})).body)
        assert document == {"DataCount": 0, "Status": "0", "Message": "Không tìm thấy doanh nghiệp"}

    def test_filings_come_in_a_window_of_five_days(self, rig: Rig) -> None:
        ask = {"from_date": "01/04/2026", "to_date": "05/04/2026", "offset": 0, "limit": 3}
        document = json.loads(rig.deliver(parcel_of("enterprise.filings", ask)).body)
        assert (document["DataCount"], len(document["Data"])) == (5, 3)

    @pytest.mark.parametrize(
        "service, payload, reason",
        [
            ("enterprise.filings", {"from_date": "01/04/2026", "to_date": "06/04/2026"}, "window-too-wide"),
            ("enterprise.filings", {"from_date": "05/04/2026", "to_date": "01/04/2026"}, "window-too-wide"),
            ("enterprise.filings", {"from_date": "2026-04-01", "to_date": "05/04/2026"}, "payload-not-for-partner"),
            ("enterprise.filings", {"from_date": "01/04/2026"}, "payload-not-for-partner"),
            ("enterprise.detail", {}, "payload-not-for-partner"),
            ("enterprise.detail", {"msdn": ["9900000016"]}, "payload-not-for-partner"),
            ("enterprise.detail", {"msdn": "9900000016", "admin": "1"}, "payload-not-for-partner"),
            ("enterprise.delete", {"msdn": "9900000016"}, "service-not-of-partner"),
        ],
    )
    def test_questions_the_registry_does_not_take_never_leave(
        self, rig: Rig, service: str, payload: Any, reason: str
    ) -> None:
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(parcel_of(service, payload))
        assert caught.value.reason == reason
        assert rig.server.requests == []

    def test_a_value_cannot_add_a_parameter(self, rig: Rig) -> None:
        rig.deliver(parcel_of("enterprise.detail", {"msdn": "1&token=x#y"}))
        assert rig.sandbox.twins["business_registry"].state()["asked"] == {"chiTietDoanhNghiep": 1}


OPENAPI: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parent.parent / "schemas/partners/business_registry/openapi.json").read_bytes()
)
GETS = {path: item["get"] for path, item in OPENAPI["paths"].items()}
#: What is asked of each operation, and whether something is found.
QUESTIONS = [
    ("chiTietDoanhNghiep", {"msdn": "9900000016"}, True),
    ("chiTietDoanhNghiep", {"msdn": "9900000017"}, False),
    ("danhSachHoSo", {"from_date": "01/04/2026", "to_date": "05/04/2026", "offset": 1, "limit": 3}, True),
    ("danhSachHoSo", {"from_date": "01/04/2026", "to_date": "30/04/2026"}, False),
    ("danhSachHoSoTrongNgay", {"from_ts": "08:00", "to_ts": "09:30"}, True),
    ("tinhTrangHoSo", {"in_journal_no": "HS260423"}, True),
    ("tinhTrangHoSo", {"in_journal_no": "HS"}, False),
]


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """A parameter, or the one it refers to."""
    if "$ref" not in part:
        return part
    found: dict[str, Any] = OPENAPI["components"]["parameters"][part["$ref"].rpartition("/")[2]]
    return found


def reply_schema(name: str) -> Any:
    """The compiled schema of a component."""
    document = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": OPENAPI["components"]["schemas"]}}
    return compile_schema({"$schema": "https://json-schema.org/draft/2020-12/schema", **document})


class TestOpenapi:
    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[Rig]:
        app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json"))
        sandbox: Sandbox = app.extensions["sandbox"]
        connector = CONNECTORS["business_registry"](HttpClient())
        with serving(app) as server:
            try:
                yield Rig(TestBusinessRegistry.bound, sandbox, server, connector)
            finally:
                sandbox.close()
                connector.close()

    def test_the_document_is_valid(self) -> None:
        validate(OPENAPI)

    def test_it_names_the_operations_and_parameters_that_the_connector_knows(self) -> None:
        assert {get["operationId"] for get in GETS.values()} == set(OPERATIONS.values())
        for path, get in GETS.items():
            assert path == f"/apiCSDLDKDN/{get['operationId']}"
            parameters = [resolved(part) for part in get["parameters"]]
            needed, allowed = PARAMETERS[get["operationId"]]
            assert {part["name"] for part in parameters if part["required"]} == needed
            assert {part["name"] for part in parameters} >= needed | allowed

    @pytest.mark.parametrize("operation, question, found", QUESTIONS)
    def test_the_twin_answers_as_the_document_says(
        self, rig: Rig, operation: str, question: dict[str, Any], found: bool
    ) -> None:
        """Asked by the plain REST connector with nothing but what the document states."""
        (path,) = (path for path, get in GETS.items() if get["operationId"] == operation)
        names = tuple(resolved(part)["name"] for part in GETS[path]["parameters"])
        flow = OPENAPI["components"]["securitySchemes"]["ngsp"]["flows"]["clientCredentials"]
        settings = {"auth": "oauth2", "token_path": urlsplit(flow["tokenUrl"]).path}
        connector: Connector = RestConnector(HttpClient())
        parcel = replace(
            parcel_of("enterprise.look-up", question), call=HttpCall(method="GET", path=path, query=names, body="")
        )
        reply = connector.deliver(parcel, replace(rig.endpoint, connector="rest", settings=settings), rig.secret)
        connector.close()
        answer = GETS[path]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        document = reply_schema(answer).validate(reply.body, reply.content_type)
        assert document["Status"] == ("1" if found else "0")

    @pytest.mark.parametrize(
        "name, document",
        [
            ("EnterpriseDetail", {"DataCount": 0}),
            ("EnterpriseDetail", {"Status": "2"}),
            ("EnterpriseDetail", {"Status": "1", "HOAdress": {"WardID": "11560"}}),
            ("EnterpriseDetail", {"Status": "1", "BusinessActivity": [{"CODE": "6201", "IS_MAIN": "X"}]}),
            ("MainInformation", {"ENTERPRISE_GDT_CODE": "9900000016", "NAME": "A", "FOUNDING_DATE": "2020-01-02"}),
            ("Filing", {"RECEIPT_DATE": "01/04/2026"}),
        ],
    )
    def test_what_the_registry_never_says_breaks_the_document(self, name: str, document: Any) -> None:
        with pytest.raises(SchemaViolation):
            reply_schema(name).validate(json.dumps(document).encode(), "application/json")
