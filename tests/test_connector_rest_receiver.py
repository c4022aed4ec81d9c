"""Partners on the plain REST connector that call us: the table of their paths, and hostile calls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from connectors.base import Answer, Incoming, PartnerCall, Reply, message_id_of
from connectors.rest_receiver import RestReceiver
from registry.model import Endpoint
from schemas.identifiers import SystemCode
from schemas.moment import utc_now
from schemas.problem import (
    IdempotencyConflict,
    InternalFailure,
    Malformed,
    NotFound,
    NotIdentified,
    Problem,
    ProviderUnavailable,
)

SYSTEM = SystemCode("G99.02/cu-tru")
SECRET = b'{"user": "u", "secret": "s", "callback": "bi-mat-thu"}'
RULE: dict[str, Any] = {
    "service": "residence.result",
    "dossier": "maHoSo",
    "same": ["maHoSo", "trangThai", "thoiGianThucHien"],
}
NOTICE = {"maHoSo": "H99.15-260423-0001", "trangThai": "3", "thoiGianThucHien": "24/04/2026 10:00:00"}


def endpoint(**inbound: Any) -> Endpoint:
    settings = {"inbound": {"receiver": "H99.15", "calls": {"ket-qua": RULE}, **inbound}}
    return Endpoint(connector="rest", url="http://127.0.0.1:9", secret="cu-tru", settings=settings)


def call(body: Any, **changes: Any) -> PartnerCall:
    made = PartnerCall(
        method="POST",
        path="ket-qua",
        query={},
        headers={"authorization": "Bearer bi-mat-thu"},
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
        content_type="application/json",
        received_at=utc_now(),
        system=SYSTEM,
    )
    return replace(made, **changes)


def received(body: Any = NOTICE, at: Endpoint | None = None, **changes: Any) -> Incoming:
    return RestReceiver().receive(call(body, **changes), at or endpoint(), SECRET)


def told(answer: Answer) -> Any:
    return json.loads(answer.body)


def test_a_call_is_a_message_of_the_service_that_the_table_names() -> None:
    body = json.dumps(NOTICE, indent=3).encode()
    incoming = received(body)
    assert (incoming.service, incoming.receivers, incoming.dossier) == (
        "residence.result", ("H99.15",), "H99.15-260423-0001",
    )  # fmt: skip
    assert incoming.body == body, "the partner's own bytes"
    assert incoming.message_id == message_id_of(SYSTEM, "residence.result", *NOTICE.values())


@pytest.mark.parametrize(
    "changes, same",
    [
        ({"ghiChu": "khác"}, True),
        ({"trangThai": "4"}, False),
        ({"thoiGianThucHien": "24/04/2026 10:00:01"}, False),
    ],
)
def test_members_say_which_calls_are_one(changes: dict[str, str], same: bool) -> None:
    assert (received(NOTICE | changes).message_id == received().message_id) is same


def test_without_members_the_whole_body_says_it() -> None:
    at = endpoint(calls={"ket-qua": {"service": "residence.result"}})
    assert received(at=at).message_id == received(at=at).message_id != received(NOTICE | {"ghiChu": ""}, at).message_id
    assert received(at=at).dossier is None


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer sai"}, {"authorization": "bi-mat-thu"}, {"authorization": "Basic bi-mat-thu"}],
)
def test_a_call_without_the_proof_is_nobodys(headers: Mapping[str, str]) -> None:
    with pytest.raises(NotIdentified):
        received(headers=headers)


@pytest.mark.parametrize("secret", [None, b"", b"u:s", b'{"user": "u", "secret": "s"}', b"{"])
def test_where_no_proof_is_agreed_upon_nobody_may_call(secret: bytes | None) -> None:
    for proof in ("Bearer ", "Bearer s", "Bearer bi-mat-thu"):
        with pytest.raises(NotIdentified):
            RestReceiver().receive(call(NOTICE, headers={"authorization": proof}), endpoint(), secret)


def test_the_proof_may_have_a_header_of_its_own() -> None:
    assert received(at=endpoint(header="X-Api-Key"), headers={"x-api-key": "bi-mat-thu"}).dossier


@pytest.mark.parametrize("changes", [{"path": "khac"}, {"path": ""}, {"path": "ket-qua/"}, {"method": "GET"}])
def test_other_addresses_are_nobodys(changes: dict[str, str]) -> None:
    with pytest.raises(NotFound):
        received(**changes)


def test_a_system_that_nobody_lets_call_has_no_address_at_all() -> None:
    silent = Endpoint(connector="rest", url="http://127.0.0.1:9", secret="cu-tru")
    with pytest.raises(NotFound):
        received(at=silent, headers={})


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b'"x"', b"\xff", b'{"maHoSo":"H99.15-260423-0001","maHoSo":"H99.15-260423-0002"}'),
        *(NOTICE | {"maHoSo": code} for code in (None, "", 1, "x y", ["H99.15-260423-0001"], "H99.15-260423-0001\n")),
        *(NOTICE | {"trangThai": status} for status in (None, "", {}, True, "4" * 201)),
        {name: value for name, value in NOTICE.items() if name != "thoiGianThucHien"},
    ],
)
def test_what_cannot_be_read_is_refused_and_not_repeated_to_the_caller(body: Any) -> None:
    with pytest.raises(Malformed) as caught:
        received(body)
    answer = RestReceiver().refuse(call(body), caught.value)
    assert answer.status == 400
    assert b"260423" not in answer.body


@pytest.mark.parametrize(
    "inbound",
    [
        {"receiver": None},
        {"receiver": "h99"},
        {"calls": {"ket-qua": "residence.result"}},
        {"calls": {"ket-qua": {}}},
        {"calls": {"ket-qua": {"service": "Không"}}},
        {"calls": {"ket-qua": {**RULE, "dossier": ["maHoSo"]}}},
        {"calls": {"ket-qua": {**RULE, "same": "maHoSo"}}},
        {"calls": {"ket-qua": []}},
    ],
)
def test_a_table_that_cannot_be_read_waits_for_the_operator(inbound: dict[str, Any]) -> None:
    with pytest.raises(ProviderUnavailable):
        received(at=endpoint(**inbound))


@pytest.mark.parametrize(
    "problem, status",
    [
        (Malformed("json-invalid"), 400),
        (IdempotencyConflict("message-id-used"), 409),
        (ProviderUnavailable("provider-unreachable"), 503),
        (InternalFailure(), 500),
    ],
)
def test_the_status_says_whether_to_come_again(problem: Problem, status: int) -> None:
    answer = RestReceiver().answer(call(NOTICE), received(), problem)
    assert (answer.status, told(answer)["reason"]) == (status, problem.reason)


def test_a_question_gets_the_answer_of_whoever_was_asked() -> None:
    answer = RestReceiver().answer(call(NOTICE), received(), Reply(body=b"<a/>", content_type="application/xml"))
    assert (answer.status, answer.body, answer.content_type) == (200, b"<a/>", "application/xml")
