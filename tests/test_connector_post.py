"""The post's connector, bound to the contract; orders, the feed, and the post's own manners."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from connectors.http import HttpClient
from connectors.post import FIRST_ID, PAGE_SIZE, PostConnector, post_statuses, read_page, tracking_pages
from connectors.sandbox.app import Sandbox, SandboxConfig, create_sandbox
from registry.model import Endpoint
from schemas.problem import InvalidReply, ProviderRejected, ProviderUnavailable, SchemaViolation
from schemas.validation import compile_schema
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of
from tests.loopback import Recorded, serving

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "schemas" / "partners" / "post"


def example(name: str, **changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.example.json").read_bytes())
    return document | changes


def order(number: int = 1, **changes: Any) -> dict[str, Any]:
    return example("order", OrderNumber=f"H99.15-260423-{number:04d}", **changes)


def check(schema: str, document: Any) -> None:
    compiled = compile_schema(json.loads((FOLDER / f"{schema}.schema.json").read_bytes()))
    compiled.validate(json.dumps(document).encode(), "application/json")


class TestPost(ConnectorContract):
    bound = Binding(
        connector="post",
        path="/post",
        operation="orderPost",
        service="post.delivery-order",
        payload=order,
        effects=lambda state: len(state["orders"]),
    )

    def ask(self, rig: Rig, service: str, payload: Any, **changes: Any) -> Any:
        return json.loads(rig.deliver(parcel_of(service, payload), **changes).body)

    def test_a_quote_is_a_whole_number_of_dong(self, rig: Rig) -> None:
        document = self.ask(rig, "post.quote", example("quote"))
        check("quote-reply", document)
        assert type(document["content"]["price"]) is int

    def test_the_order_leaves_as_it_was_signed(self, rig: Rig) -> None:
        body = json.dumps(order(), ensure_ascii=False, indent=3).encode()
        rig.deliver(parcel_of("post.collect-order", body))
        digests = rig.server.header("Content-Digest")
        rig.deliver(parcel_of("post.delivery-order", body))
        assert rig.server.header("Content-Digest") == digests * 2
        assert rig.effects() == 1

    def test_districts_are_gone_and_billions_are_not(self, rig: Rig) -> None:
        rich = order(CODAmount=3_000_000_000)
        for name in ("SenderDistrict", "ReceiverDistrict"):
            del rich[name]
        check("order", rich)
        self.ask(rig, "post.delivery-order", rich)
        sandbox = f"{rig.server.url}/_sandbox/post/events"
        assert requests.post(sandbox, json=[{"orderNumber": rich["OrderNumber"], "statusCode": "50"}], timeout=5).ok
        assert rig.sandbox.twins["post"].state()["cod_collected"] == 3_000_000_000

    @pytest.mark.parametrize("amount", [150000.0, 0.5, "150000", -1, True, None])
    def test_money_that_is_no_whole_number_of_dong_never_leaves(self, rig: Rig, amount: Any) -> None:
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(parcel_of("post.delivery-order", order(CODAmount=amount)))
        assert (caught.value.reason, caught.value.facts) == ("payload-not-for-partner", {"member": "CODAmount"})
        assert rig.server.requests == []

    def test_cancelling_needs_the_misspelt_name(self, rig: Rig) -> None:
        self.ask(rig, "post.collect-order", order())
        with pytest.raises(ProviderUnavailable):
            self.ask(rig, "post.cancel", {"CustomerCode": "HCC-H99", "OrderNumber": "H99.15-260423-0001"})
        assert self.ask(rig, "post.cancel", example("cancel"))["Status"] == "100"
        assert self.ask(rig, "post.cancel", example("cancel"))["Status"] == "100"
        assert rig.sandbox.twins["post"].state()["cancelled"] == ["H99.15-260423-0001"]
        with pytest.raises(SchemaViolation):
            check("cancel", {"CustomerCode": "HCC-H99", "OrderNumber": "H99.15-260423-0001"})

    @pytest.mark.parametrize(
        "settings, changes, kind, reason",
        [
            ({}, {"CustomerCode": "HCC-H98"}, ProviderUnavailable, "partner-says-later"),
            ({"final_codes": ["101"]}, {"CustomerCode": "HCC-H98"}, ProviderRejected, "provider-said-no"),
            ({"final_codes": ["101"]}, {"ReceiverName": "Lý Thái An"}, ProviderUnavailable, "partner-says-later"),
            ({"final_codes": ["102"]}, {"ReceiverName": "Lý Thái An"}, ProviderRejected, "provider-said-no"),
            ({"final_codes": "101"}, {}, ProviderUnavailable, "endpoint-invalid"),
            ({"operation_in": "body"}, {}, ProviderUnavailable, "endpoint-invalid"),
            ({"token_header": "a b"}, {}, ProviderUnavailable, "endpoint-invalid"),
        ],
    )
    def test_a_code_means_what_the_settings_say(
        self, rig: Rig, settings: dict[str, Any], changes: dict[str, Any], kind: type[Exception], reason: str
    ) -> None:
        self.ask(rig, "post.collect-order", order())
        parcel = parcel_of("post.collect-order", order(**changes))
        if reason == "endpoint-invalid" and "final_codes" in settings:
            rig.fault("error", code="99", message="x")
        with pytest.raises(kind) as caught:
            rig.deliver(parcel, settings=settings)
        assert caught.value.reason == reason  # type: ignore[attr-defined]

    def test_an_order_that_is_there_already_may_be_taken_for_done(self, rig: Rig) -> None:
        rig.fault("error", code="102", message="Đơn hàng đã tồn tại")
        reply = rig.deliver(settings={"exists_codes": ["102"]})
        assert json.loads(reply.body)["Status"] == "102"

    def test_through_an_adapter_the_operation_stands_in_the_query(self, rig: Rig) -> None:
        settings = {"operation_in": "query", "operations": {"post.delivery-order": "orderPost"}}
        rig.deliver(settings=settings)
        page = self.ask(rig, "post.tracking", {}, settings=settings)
        assert len(page["_embedded"]["rh:doc"]) == 1
        assert {path for _, path, _ in rig.server.requests} == {"/post", "/post/token"}

    @pytest.mark.parametrize(
        "settings",
        [
            {"token_header": "access-token"},
            {"auth": "header", "auth_header": "access-token"},
        ],
    )
    def test_a_bare_token_has_a_header_of_its_own(self, rig: Rig, settings: dict[str, Any]) -> None:
        if settings.get("auth") == "header":
            rig.secret = rig.secret.partition(b":")[2]
        rig.deliver(settings=settings)
        assert rig.effects() == 1
        (token,) = rig.server.header("access-token")
        assert " " not in token

    def test_the_notice_has_the_month_first(self, rig: Rig) -> None:
        assert self.ask(rig, "post.dossier-notice", example("dossier-notice"))["Status"] == "100"
        with pytest.raises(SchemaViolation):
            check("dossier-notice", example("dossier-notice", NgayTiepNhan="23/04/2026"))
        with pytest.raises(ProviderRejected):
            rig.deliver(
                parcel_of("post.dossier-notice", example("dossier-notice", NgayTiepNhan="23/04/2026")),
                settings={"final_codes": ["103"]},
            )

    def test_the_feed_is_read_page_by_page_to_its_end(self, rig: Rig) -> None:
        codes = list(post_statuses()["delivery"])
        for number in range(1, 6):
            self.ask(rig, "post.delivery-order", order(number))
        moves = [{"orderNumber": "H99.15-260423-0001", "statusCode": code} for code in codes]
        assert requests.post(f"{rig.server.url}/_sandbox/post/events", json=moves, timeout=5).ok

        def ask(payload: Any) -> bytes:
            body: bytes = rig.deliver(parcel_of("post.tracking", dict(payload))).body
            return body

        pages = list(tracking_pages(ask, page_size=4))
        assert [len(page.events) for page in pages] == [4, 4, 4, 2]
        assert [event["statusCode"] for page in pages for event in page.events] == ["10"] * 5 + codes
        assert list(tracking_pages(ask, last_id=pages[-1].last_id)) == []
        assert [len(page.events) for page in tracking_pages(ask, last_id=pages[1].last_id)] == [6]

    @pytest.mark.parametrize(
        "payload, reason",
        [
            ({"pagesize": PAGE_SIZE + 1}, "page-too-large"),
            ({"pagesize": 0}, "payload-not-for-partner"),
            ({"pagesize": True}, "payload-not-for-partner"),
            ({"pagesize": "10"}, "payload-not-for-partner"),
            ({"lastId": "0"}, "payload-not-for-partner"),
            ({"lastId": "0" * 23 + "&"}, "payload-not-for-partner"),
            ({"lastId": None}, "payload-not-for-partner"),
            ({"filter": "{}"}, "payload-not-for-partner"),
            ([], "payload-not-for-partner"),
        ],
    )
    def test_a_page_that_the_post_does_not_give_is_not_asked_for(self, rig: Rig, payload: Any, reason: str) -> None:
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(parcel_of("post.tracking", payload))
        assert caught.value.reason == reason
        assert rig.server.requests == []

    def test_an_unknown_service_is_no_operation_of_the_post(self, rig: Rig) -> None:
        with pytest.raises(ProviderRejected, match="no operation"):
            rig.deliver(parcel_of("post.burn", {}))

    def test_what_happens_at_the_counter_is_for_testers_who_know_the_codes(self, rig: Rig) -> None:
        for document in ({}, [5], [{"orderNumber": "x", "statusCode": "99"}], None):
            assert requests.post(f"{rig.server.url}/_sandbox/post/events", json=document, timeout=5).status_code == 400


def page_of(*ids: object) -> bytes:
    return json.dumps({"_embedded": {"rh:doc": [{"_id": {"$oid": one}} for one in ids]}}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"_embedded": []}',
        b'{"_embedded": {"rh:doc": 5}}',
        b'{"_embedded": {"rh:doc": [{}]}}',
        b'{"_embedded": {"rh:doc": [{"_id": "0000"}]}}',
        page_of(5),
        page_of("x" * 24),
        page_of(FIRST_ID),
        page_of("0" * 23 + "1"),
    ],
)
def test_a_feed_that_cannot_be_read_or_leads_back_ends_with_an_error(body: bytes) -> None:
    with pytest.raises(InvalidReply):
        read_page(body, "0" * 23 + "1")


def test_a_feed_that_repeats_its_page_is_not_read_for_ever() -> None:
    pages = tracking_pages(lambda payload: page_of("0" * 23 + "2"))
    assert next(pages).last_id == "0" * 23 + "2"
    with pytest.raises(InvalidReply):
        next(pages)


def test_states_are_data_and_say_what_nobody_has_verified() -> None:
    statuses = post_statuses()
    assert [code for code, one in statuses["collect"].items() if one.is_end] == ["0", "3", "4"]
    assert all(one.is_verified for one in statuses["collect"].values())
    assert not any(one.is_verified for one in statuses["delivery"].values())
    assert statuses["delivery"]["51"].name_en == "delivery failed, will retry"


@contextmanager
def hearing() -> Iterator[tuple[str, list[bytes]]]:
    """A server that says "100" once and keeps what it heard, letter for letter."""
    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            heard.append(connection.recv(65_536))
            body = b'{"Status": "100"}'
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
            )

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/post", heard
    finally:
        thread.join(10)
        listener.close()


def test_the_header_access_token_keeps_its_underscore() -> None:
    """No server of ours would show it: they drop such names."""
    connector = PostConnector(HttpClient())
    with hearing() as (url, heard):
        endpoint = Endpoint(connector="post", url=url, settings={"auth": "header", "auth_header": "access_token"})
        reply = connector.deliver(parcel_of("post.collect-order", order()), endpoint, b"thu-nghiem")
    connector.close()
    assert reply.status == 200
    assert b"\r\naccess_token: thu-nghiem\r\n" in heard[0]
    assert b"Authorization" not in heard[0]


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[tuple[Recorded, Sandbox]]:
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json"))
    parts: Sandbox = app.extensions["sandbox"]
    with serving(app) as server:
        try:
            yield server, parts
        finally:
            parts.close()


def test_the_commands_of_the_manual_ask_it(sandbox: tuple[Recorded, Sandbox]) -> None:
    server, parts = sandbox
    page = (ROOT / "docs" / "partners" / "post.md").read_text("utf-8")
    (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    name, _, password = parts.credentials["post"].partition(":")
    said = subprocess.run(
        ["sh", "-euc", commands.replace("http://127.0.0.1:8090", server.url)],
        env={"PATH": os.environ["PATH"], "NAME": name, "PASSWORD": password},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=ROOT,
    ).stdout
    assert '"price":' in said
    assert said.count('"Status": "100"') + said.count('"Status":"100"') == 3
    assert "Đã phát" in said
    assert parts.twins["post"].state()["cancelled"] == ["H99.15-260423-0002"]
