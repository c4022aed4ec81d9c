"""The generic REST connector, bound to the contract, and what is its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, request

from connectors.base import Connector, Parcel, Reply
from connectors.http import HttpClient
from connectors.rest import RestConnector
from connectors.sandbox.app import SandboxConfig, create_sandbox
from registry.model import Endpoint, HttpCall
from schemas.problem import InvalidReply, ProviderUnavailable
from tests.connector_contract import KEY, Binding, ConnectorContract, Rig, dossier, parcel_of
from tests.loopback import serving


class TestRest(ConnectorContract):
    bound = Binding(
        connector="rest",
        twin="generic",
        path="/generic/in",
        operation="in",
        service="dossier.transfer",
        payload=dossier,
        effects=lambda state: state["received"],
        settings={"auth": "bearer"},
        answers=frozenset({"nonsense"}),
        logs_in=False,
        secret_of=lambda credential: credential.partition(":")[2],
    )


class _Described:
    """The connector for a service that was registered with its HTTP operation."""

    def __init__(self, connector: Connector, call: HttpCall) -> None:
        self._connector = connector
        self._call = call

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        return self._connector.deliver(replace(parcel, call=self._call), endpoint, secret)

    def close(self) -> None:
        self._connector.close()


class TestDescribedOperation(ConnectorContract):
    """The business registry without a line of code of its own: its OpenAPI says all there is to know."""

    bound = Binding(
        connector="rest",
        twin="business_registry",
        path="/business_registry",
        operation="chiTietDoanhNghiep",
        service="enterprise.detail",
        payload=lambda number: {"msdn": "9900000016"},
        effects=lambda state: len(state["idempotency_keys"]),
        settings={"auth": "oauth2"},
        answers=frozenset({"error", "nonsense"}),
    )

    @pytest.fixture(autouse=True)
    def described(self, rig: Rig) -> None:
        call = HttpCall(method="GET", path="/apiCSDLDKDN/chiTietDoanhNghiep", query=("msdn",), body="")
        rig.connector = _Described(rig.connector, call)

    def test_an_enterprise_comes_back_as_the_registry_wrote_it(self, rig: Rig) -> None:
        document = json.loads(rig.deliver().body)
        assert document["HOAdress"]["CityName"] == "Hải Phòng"
        assert ("GET", "/business_registry/apiCSDLDKDN/chiTietDoanhNghiep") in {
            (method, path) for method, path, _ in rig.server.requests
        }

    def test_a_value_cannot_add_a_parameter(self, rig: Rig) -> None:
        reply = rig.deliver(parcel_of("enterprise.detail", {"msdn": "9900000016&msdn=9900000023"}))
        assert json.loads(reply.body)["Status"] == "0"


class _Keys:
    def find_key(self, key_id: str) -> Any:
        from datetime import timedelta

        from schemas.identifiers import SystemCode
        from schemas.moment import utc_now
        from security.keys import PublicKeyRecord

        if key_id != KEY.key_id:
            return None
        return PublicKeyRecord(
            key_id=KEY.key_id,
            public_key=KEY.public_key,
            algorithm=KEY.algorithm,
            thumbprint=KEY.thumbprint,
            system=SystemCode("H99.15/mot-cua"),
            agency=SystemCode("H99.15/mot-cua").agency,
            not_before=utc_now() - timedelta(days=10),
            not_after=utc_now() + timedelta(days=10),
        )


def _echo() -> Flask:
    app = Flask("echo")

    @app.post("/")
    def take() -> Response:
        seen = {name.lower(): value for name, value in request.headers.items()}
        return Response(json.dumps(seen), headers={"Lgsp-Manifest": "x.y.z", "Server-Secret": "no"})

    @app.post("/wrong-digest")
    def wrong() -> Response:
        return Response("hello", headers={"Content-Digest": "sha-256=:AAAA:"})

    return app


def _deliver(url: str, secret: bytes | None = None, **settings: Any) -> dict[str, str]:
    http = HttpClient()
    parcel = parcel_of("dossier.transfer", {"a": 1})
    try:
        reply = RestConnector(http).deliver(parcel, Endpoint(connector="rest", url=url, settings=settings), secret)
    finally:
        http.close()
    assert reply.headers["lgsp-manifest"] == "x.y.z"
    assert "server-secret" not in reply.headers
    seen: dict[str, str] = json.loads(reply.body)
    assert seen["lgsp-manifest"] == parcel.manifest_jws
    assert seen["lgsp-receipt"] == parcel.receipt_jws
    assert seen["lgsp-receiver"] == "H99.16"
    assert seen["traceparent"] == parcel.traceparent
    assert seen["content-type"] == "application/json"
    assert seen["content-digest"].startswith("sha-256=:")
    return seen


def test_each_way_to_prove_who_calls() -> None:
    with serving(_echo()) as server:
        assert "authorization" not in _deliver(server.url)
        assert _deliver(server.url, b"abc", auth="bearer")["authorization"] == "Bearer abc"
        assert _deliver(server.url, b"a:b", auth="basic")["authorization"] == "Basic YTpi"
        assert _deliver(server.url, b"k1", auth="header", auth_header="X-Api-Key")["x-api-key"] == "k1"
        assert _deliver(server.url, headers={"dstcode": "VN:GOV:H99:x"})["dstcode"] == "VN:GOV:H99:x"


@pytest.mark.parametrize(
    "secret, settings",
    [
        (b"a\r\nX: y", {"auth": "bearer"}),
        (b"", {"auth": "bearer"}),
        (None, {"auth": "basic"}),
        (b"no-colon", {"auth": "basic"}),
        (b"x", {"auth": "header"}),
        (b"x", {"auth": "header", "auth_header": "bad name"}),
        (b"x", {"auth": "magic"}),
        (None, {"auth": "oauth2"}),
        (b"no-colon", {"auth": "oauth2"}),
        (b"a:b", {"auth": "oauth2", "token_path": 1}),
        (b"a:b", {"auth": "oauth2", "token_url": "ftp://example.com/token"}),
        (None, {"headers": {"X": "a\r\nb: c"}}),
        (None, {"headers": {"content-LENGTH": "3"}}),
        (None, {"headers": {"Lgsp-Manifest": "mine"}}),
        (None, {"headers": ["X"]}),
    ],
)
def test_settings_that_would_forge_a_request_never_leave(secret: bytes | None, settings: dict[str, Any]) -> None:
    with serving(_echo()) as server:
        with pytest.raises(ProviderUnavailable) as caught:
            _deliver(server.url, secret, **settings)
        assert caught.value.reason in ("endpoint-invalid", "endpoint-secret-missing")
        assert server.requests == []


def test_an_answer_that_breaks_its_own_digest_is_invalid() -> None:
    with serving(_echo()) as server, pytest.raises(InvalidReply) as caught:
        _deliver(f"{server.url}/wrong-digest")
    assert caught.value.reason == "reply-digest-wrong"


def test_the_plain_receiver_checks_the_senders_manifest_when_it_has_keys(tmp_path: Path) -> None:
    app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "c.json", keys=_Keys()))
    http = HttpClient()
    twin = app.extensions["sandbox"].twins["generic"]
    with serving(app) as server:
        endpoint = Endpoint(connector="rest", url=f"{server.url}/generic/in")
        good = parcel_of("dossier.transfer", {"a": 1})
        RestConnector(http).deliver(good, endpoint, None)
        other = parcel_of("dossier.transfer", {"a": 2})
        with pytest.raises(Exception, match="400"):
            RestConnector(http).deliver(replace(good, body=other.body), endpoint, None)
        http.close()
    assert twin.state()["manifests_good"] == 1
    assert twin.state()["manifests_bad"] == 1
