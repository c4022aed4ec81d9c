"""Operations described by OpenAPI: where each member of a payload travels, and that no value leaves its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask, Response, request
from hypothesis import given
from hypothesis import strategies as st

from connectors.http import HttpClient
from connectors.http_call import HttpRequest, http_request
from connectors.rest import NOT_FOR_PAYLOADS, RestConnector
from registry.model import Endpoint, HttpCall
from schemas.problem import ProviderRejected, ProviderUnavailable
from tests.connector_contract import parcel_of
from tests.loopback import Recorded, serving


def made(call: HttpCall, payload: Any) -> HttpRequest:
    body = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
    return http_request(call, body, own_headers=NOT_FOR_PAYLOADS)


@pytest.mark.parametrize(
    "call, payload, target, headers, body",
    [
        (HttpCall(), b' {"a": 1.10}\n', "", {}, b' {"a": 1.10}\n'),
        (HttpCall(), b"[1]", "", {}, b"[1]"),
        (HttpCall(path="/x"), b"{}", "/x", {}, b"{}"),
        (HttpCall(method="GET", path="/x", query=("a", "b")), {"b": 2, "a": "1"}, "/x?a=1&b=2", {}, None),
        (HttpCall(method="GET", path="/x"), {"a": 1}, "/x", {}, None),
        (HttpCall(method="GET", query=("a",)), {"a": [1, "hai", True]}, "?a=1&a=hai&a=true", {}, None),
        (HttpCall(method="GET", query=("a", "b", "c")), {"a": None, "b": []}, "", {}, None),
        (HttpCall(method="GET", query=("a",)), b'{"a": [ 1.10 , -2e3 ]}', "?a=1.10&a=-2e3", {}, None),
        (HttpCall(method="GET", query=("a",)), {"a": "1&token=x#y /?"}, "?a=1%26token%3Dx%23y%20%2F%3F", {}, None),
        (HttpCall(method="GET", query=("tên",)), {"tên": "Đặng"}, "?t%C3%AAn=%C4%90%E1%BA%B7ng", {}, None),
        (HttpCall(method="GET", path="/x/{a}/y"), {"a": "Đặng;b"}, "/x/%C4%90%E1%BA%B7ng%3Bb/y", {}, None),
        (HttpCall(method="GET", path="/{a}-{b}.json"), {"a": 1, "b": False}, "/1-false.json", {}, None),
        (HttpCall(method="GET", path="/{a}"), {"a": "H99.15-260423-0001"}, "/H99.15-260423-0001", {}, None),
        (HttpCall(method="GET", path="/{a}"), {"a": "%2e%2e"}, "/%252e%252e", {}, None),
        (HttpCall(method="GET", headers=("X-Can-Bo",)), {"X-Can-Bo": "CB 01"}, "", {"X-Can-Bo": "CB 01"}, None),
        (HttpCall(method="GET", headers=("X-Can-Bo",)), {"X-Can-Bo": None}, "", {}, None),
        (HttpCall(method="PUT", path="/{a}"), b'{"a": "1", "b" : 1.10, "\\u0063":{}}', "/1", {}, b'{"b":1.10,"c":{}}'),
        (HttpCall(path="/{a}", body="b"), b'{"a": 1, "b": [ 1.10 ], "c": 2}', "/1", {}, b"[ 1.10 ]"),
        (HttpCall(path="/x", body="b"), {"c": 2}, "/x", {}, b""),
        (HttpCall(path="/x", body=""), {"c": 2}, "/x", {}, b""),
        (HttpCall(method="DELETE", path="/{a}", body=""), {"a": 1}, "/1", {}, None),
        (HttpCall(method="PATCH", path="/{a}"), {"a": 1}, "/1", {}, b"{}"),
    ],
)  # fmt: skip
def test_members_travel_where_the_operation_says(
    call: HttpCall, payload: Any, target: str, headers: dict[str, str], body: bytes | None
) -> None:
    assert made(call, payload) == HttpRequest(method=call.method, target=target, headers=headers, body=body)


@pytest.mark.parametrize(
    "call, payload, member",
    [
        *(
            (HttpCall(method="GET", path="/x/{a}/y"), payload, "a")
            for payload in (
                {}, {"a": None}, {"a": ""}, {"a": []}, {"a": {}}, {"a": "1/2"}, {"a": "..\\x"}, {"a": "."}, {"a": ".."},
                {"a": "x\r\ny"}, {"a": "x\0"}, {"b": 1},
            )
        ),
        (HttpCall(method="GET", path="/x/.{a}"), {"a": "."}, "a"),
        (HttpCall(method="GET", path="/x/{a}{b}"), {"a": ".", "b": "."}, "a, b"),
        (HttpCall(method="GET", query=("a",)), {"a": {"b": 1}}, "a"),
        (HttpCall(method="GET", query=("a",)), {"a": [[1]]}, "a"),
        (HttpCall(method="GET", query=("a",)), {"a": [None]}, "a"),
        (HttpCall(method="GET", query=("a",)), {"a": "x" * 8000}, "(root)"),
        (HttpCall(method="GET", query=("a",)), ["a"], "(root)"),
        (HttpCall(method="GET", query=("a",)), b"<a/>", "(root)"),
        (HttpCall(method="GET", query=("a",)), b'{"a": 1, "a": 2}', "(root)"),
        *(
            (HttpCall(method="GET", headers=("X-A",)), {"X-A": value}, "X-A")
            for value in ("", " x", "x ", "a\r\nX-B: c", "a\nb", "Đặng", "\0", ["a"], {"a": 1}, "x" * 9000)
        ),
    ],
)  # fmt: skip
def test_a_value_cannot_leave_its_place(call: HttpCall, payload: Any, member: str) -> None:
    with pytest.raises(ProviderRejected) as caught:
        made(call, payload)
    assert (caught.value.reason, caught.value.facts) == ("payload-not-for-partner", {"member": member})


@pytest.mark.parametrize(
    "call, member",
    [
        (HttpCall(method="TRACE"), "method"),
        (HttpCall(method="get"), "method"),
        (HttpCall(path="x"), "path"),
        (HttpCall(path="/x?y=1"), "path"),
        (HttpCall(path="/x#y"), "path"),
        (HttpCall(path="/x y"), "path"),
        (HttpCall(path="/x\r\nHost: y"), "path"),
        (HttpCall(path="/{a"), "path"),
        (HttpCall(path="/{}"), "path"),
        (HttpCall(headers=("X A",)), "headers"),
        *((HttpCall(headers=(name,)), "headers") for name in ("Host", "lgsp-MANIFEST", "Authorization", "Accept")),
        *((HttpCall(headers=(name,)), "headers") for name in ("Content-Length", "traceparent", "Cookie", "Te")),
    ],
)  # fmt: skip
def test_an_operation_that_cannot_be_called_waits_for_the_operator(call: HttpCall, member: str) -> None:
    with pytest.raises(ProviderUnavailable) as caught:
        made(call, {"X": 1})
    assert (caught.value.reason, caught.value.facts) == ("http-call-invalid", {"member": member})


@given(
    members=st.dictionaries(
        st.text(max_size=5).filter(lambda name: name not in ("p", "q")), st.integers() | st.text(), max_size=4
    ),
    in_path=st.text(min_size=1, max_size=20),
    in_query=st.text(max_size=20),
)
def test_whatever_the_values_the_server_reads_them_as_they_were(
    members: dict[str, Any], in_path: str, in_query: str
) -> None:
    call = HttpCall(path="/a/{p}/b", query=("q",))
    payload = json.dumps(members | {"p": in_path, "q": in_query}).encode()
    try:
        going = http_request(call, payload, own_headers=frozenset())
    except ProviderRejected:
        return
    url = urlsplit(f"http://h{going.target}")
    assert url.path.startswith("/a/")
    assert url.path.count("/") == 3
    assert parse_qs(url.query, keep_blank_values=True, strict_parsing=True) == {"q": [in_query]}
    assert json.loads(going.body or b"") == members


# --- over real HTTP --------------------------------------------------------------------------------------------------


def _partner() -> Flask:
    app = Flask("partner")

    @app.route("/api/<path:path>", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def echo(path: str) -> Response:
        seen = {name.lower(): value for name, value in request.headers.items()}
        told = {"method": request.method, "path": path, "query": request.query_string.decode(), "headers": seen}
        return Response(json.dumps(told | {"body": request.get_data(as_text=True)}), content_type="application/json")

    @app.route("/missing/x", methods=["GET", "POST"])
    def missing() -> Response:
        return Response('{"tonTai": false}', 404, content_type="application/json")

    @app.post("/oauth/token")
    def token() -> Response:
        granted = request.form.to_dict() | {"access_token": "t1", "dstcode": request.headers.get("dstcode", "")}
        app.config["granted"] = granted
        return Response(json.dumps(granted), content_type="application/json")

    return app


@pytest.fixture
def partner() -> Iterator[Recorded]:
    with serving(_partner()) as server:
        yield server


def deliver(url: str, call: HttpCall, payload: Any, *, secret: bytes | None = None, **settings: Any) -> Any:
    connector = RestConnector(HttpClient())
    try:
        parcel = replace(parcel_of("dossier.opinion", payload), call=call)
        return connector.deliver(parcel, Endpoint(connector="rest", url=url, settings=settings), secret)
    finally:
        connector.close()


def test_an_operation_is_called_with_the_buss_own_headers(partner: Recorded) -> None:
    call = HttpCall(method="PUT", path="/hoSo/{maHoSo}", query=("trang",), headers=("X-Can-Bo",))
    payload = {"maHoSo": "H99.15-260423-0001", "trang": [1, 2], "X-Can-Bo": "CB01", "noiDung": "Đồng ý"}
    seen = json.loads(deliver(f"{partner.url}/api/", call, payload).body)
    assert (seen["method"], seen["path"], seen["query"]) == ("PUT", "hoSo/H99.15-260423-0001", "trang=1&trang=2")
    assert seen["body"] == '{"noiDung":"Đồng ý"}'
    headers = seen["headers"]
    assert headers["x-can-bo"] == "CB01"
    assert headers["accept"] == headers["content-type"] == "application/json"
    assert {"idempotency-key", "lgsp-manifest", "lgsp-receipt", "lgsp-receiver", "traceparent"} <= headers.keys()
    assert headers["content-digest"].startswith("sha-256=:")


def test_a_look_up_has_no_body_and_says_nothing_of_one(partner: Recorded) -> None:
    seen = json.loads(deliver(f"{partner.url}/api", HttpCall(method="GET", path="/x", query=("a",)), {"a": 1}).body)
    assert seen["body"] == ""
    assert not {"content-type", "content-digest", "content-length"} & {k for k, v in seen["headers"].items() if v}


def test_the_endpoints_headers_stand_above_the_payloads(partner: Recorded) -> None:
    call = HttpCall(method="GET", path="/x", headers=("dstCode", "X-Key"))
    fixed = {"dstcode": "VN:GOV:H99:x", "ACCEPT": "text/json"}
    settings = {"headers": fixed, "auth": "header", "auth_header": "x-key"}
    reply = deliver(f"{partner.url}/api", call, {"dstCode": "mine", "X-Key": "mine"}, secret=b"k1", **settings)
    headers = json.loads(reply.body)["headers"]
    assert (headers["dstcode"], headers["accept"], headers["x-key"]) == ("VN:GOV:H99:x", "text/json", "k1")


@pytest.mark.parametrize("suffix", ["?a=1", "#a"])
def test_a_url_that_nothing_can_follow_is_refused(partner: Recorded, suffix: str) -> None:
    with pytest.raises(ProviderUnavailable) as caught:
        deliver(f"{partner.url}/api{suffix}", HttpCall(method="GET", path="/x"), {})
    assert caught.value.reason == "endpoint-invalid"


def test_not_found_is_an_answer_where_the_endpoint_says_so(partner: Recorded) -> None:
    look_up = HttpCall(method="GET", path="/x")
    with pytest.raises(ProviderRejected):
        deliver(f"{partner.url}/missing", look_up, {})
    reply = deliver(f"{partner.url}/missing", look_up, {}, not_found="answer")
    assert (reply.status, reply.body, reply.content_type) == (404, b'{"tonTai": false}', "application/json")
    with pytest.raises(ProviderRejected):
        deliver(f"{partner.url}/missing", HttpCall(path="/x"), {}, not_found="answer")
    with pytest.raises(ProviderUnavailable) as caught:
        deliver(f"{partner.url}/missing", look_up, {}, not_found="perhaps")
    assert caught.value.facts == {"setting": "not_found"}


def test_a_token_server_elsewhere_gets_the_scope_and_none_of_the_partners_headers() -> None:
    app = _partner()
    with serving(app) as server:
        settings = {"auth": "oauth2", "token_url": f"{server.url}/oauth/token", "scope": "tra-cuu doc"}
        call = HttpCall(method="GET", path="/x")
        reply = deliver(f"{server.url}/api", call, {}, secret=b"a:b", headers={"dstcode": "x"}, **settings)
    assert json.loads(reply.body)["headers"]["authorization"] == "Bearer t1"
    granted = app.config["granted"]
    assert (granted["grant_type"], granted["scope"], granted["dstcode"]) == ("client_credentials", "tra-cuu doc", "")
