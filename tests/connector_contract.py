"""What every connector promises, as tests that a connector's own test file binds to its twin.

A test file subclasses :class:`ConnectorContract` and says in ``bound`` how to reach the twin and what to send. The twin
is a real HTTP server in the same process; nothing is patched.
"""

from __future__ import annotations

import json
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.base import Connector, Parcel
from connectors.http import HttpClient
from connectors.sandbox.app import Sandbox, SandboxConfig, create_sandbox
from connectors.sandbox.faults import Fault
from connectors.table import CONNECTORS
from registry.model import Endpoint, HttpCall, SoapCall
from schemas.identifiers import AgencyCode, MessageId, ServiceCode
from schemas.message import Manifest, sha256_hex
from schemas.moment import utc_now
from schemas.problem import (
    InvalidReply,
    ProviderFailure,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from security.keys import SigningKey
from security.signing import sign_manifest
from tests.loopback import Recorded, closed_port, saying, serving

SENDER = AgencyCode("H99.15")
RECEIVER = AgencyCode("H99.16")
KEY = SigningKey.generate()


def parcel_of(
    service: str,
    payload: Any,
    *,
    message_id: str | None = None,
    at: datetime | None = None,
    content_type: str = "application/json",
    call: SoapCall | HttpCall | None = None,
) -> Parcel:
    """A signed message of the test agency on its way to the test receiver."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
    manifest = Manifest(
        message_id=MessageId(message_id or str(uuid.uuid4())),
        sender=SENDER,
        receivers=(RECEIVER,),
        service=ServiceCode(service),
        service_version=1,
        issued_at=(at or utc_now()).replace(microsecond=0),
        content_type=content_type,
        body_sha256=sha256_hex(body),
        body_length=len(body),
    )
    return Parcel(
        manifest=manifest,
        manifest_jws=sign_manifest(manifest, KEY),
        receipt_jws="a.b.c",
        body=body,
        receiver=RECEIVER,
        traceparent=f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-01",
        call=call,
    )


def dossier(number: int = 1, **changes: Any) -> dict[str, Any]:
    """The example dossier under another code."""
    document: dict[str, Any] = json.loads(Path("schemas/examples/dossier.json").read_bytes())
    return document | {"MaHoSo": f"H99.15-260423-{number:04d}"} | changes


def _messages(problem: BaseException) -> list[str]:
    """The lines of a traceback that hold messages, not source code."""
    return [str(line) for line in traceback.TracebackException.from_exception(problem).format_exception_only()] + (
        _messages(problem.__context__) if problem.__context__ and not problem.__suppress_context__ else []
    )


@dataclass(frozen=True, kw_only=True)
class Binding:
    """How the suite reaches one connector's twin."""

    #: Name in the table of connectors, and of the twin.
    connector: str
    #: Where the twin is on the sandbox.
    path: str
    #: The operation that faults are set for.
    operation: str
    service: str
    payload: Callable[[int], Any]
    #: How many effects the twin has seen, from its state.
    effects: Callable[[Mapping[str, Any]], int]
    twin: str = ""
    #: Other twins that are asked, too.
    beside: frozenset[str] = frozenset()
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Kinds of fault that are answers here: any 2xx where the protocol asks for no more, a "not found" for a reader.
    answers: frozenset[str] = frozenset()
    #: Does each delivery log in with a session that others may share?
    logs_in: bool = True
    #: Form of the secret, from ``name:password``.
    secret_of: Callable[[str], str] = str
    #: What the payload is written in, and the provider's operation that takes it.
    content_type: str = "application/json"
    call: SoapCall | HttpCall | None = None

    @property
    def partner(self) -> str:
        """The twin's name."""
        return self.twin or self.connector


class Rig:
    """A connector, its twin, and the ways to disturb them."""

    def __init__(self, binding: Binding, sandbox: Sandbox, server: Recorded, connector: Connector) -> None:
        self.binding = binding
        self.sandbox = sandbox
        self.server = server
        self.connector = connector
        self.twin = binding.partner
        self.secret = binding.secret_of(sandbox.credentials[self.twin]).encode()
        self.endpoint = Endpoint(
            connector=binding.connector, url=server.url + binding.path, timeout_seconds=5.0, settings=binding.settings
        )

    def parcel(self, number: int = 1) -> Parcel:
        bound = self.binding
        return parcel_of(bound.service, bound.payload(number), content_type=bound.content_type, call=bound.call)

    def deliver(self, parcel: Parcel | None = None, **changes: Any) -> Any:
        return self.connector.deliver(parcel or self.parcel(), replace(self.endpoint, **changes), self.secret)

    def fault(self, kind: str, **details: Any) -> None:
        self.sandbox.dial.turn(self.twin, [Fault(kind=kind, service=self.binding.operation, **details)])

    def effects(self) -> int:
        return self.binding.effects(self.sandbox.twins[self.twin].state())


@pytest.mark.timeout(60)
class ConnectorContract:
    """Subclass with ``bound = Binding(…)``."""

    bound: Binding

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Iterator[Rig]:
        # All twins would take ten times as long to make, for each of some two thousand tests.
        only = {self.bound.partner, *self.bound.beside}
        app = create_sandbox(SandboxConfig(credentials_file=tmp_path / "credentials.json", only=only))
        sandbox: Sandbox = app.extensions["sandbox"]
        connector = CONNECTORS[self.bound.connector](HttpClient())
        with serving(app) as server:
            try:
                yield Rig(self.bound, sandbox, server, connector)
            finally:
                sandbox.close()
                connector.close()

    def test_a_parcel_is_delivered_and_the_answer_kept(self, rig: Rig) -> None:
        reply = rig.deliver()
        assert 200 <= reply.status < 300
        assert reply.body
        assert rig.effects() == 1

    def test_a_repeat_changes_nothing(self, rig: Rig) -> None:
        parcel = rig.parcel()
        rig.deliver(parcel)
        rig.deliver(replace(parcel, attempt=2))
        assert rig.effects() == 1

    def test_every_attempt_carries_the_message_id_as_idempotency_key(self, rig: Rig) -> None:
        parcel = rig.parcel()
        rig.deliver(parcel)
        rig.deliver(replace(parcel, attempt=2))
        keys = rig.server.header("Idempotency-Key")
        assert len(keys) >= 2
        assert set(keys) == {parcel.manifest.message_id}

    @pytest.mark.parametrize("status", [400, 403, 404, 409, 410, 422])
    def test_a_4xx_is_final(self, rig: Rig, status: int) -> None:
        rig.fault("status", status=status)
        with pytest.raises(ProviderRejected):
            rig.deliver()

    @pytest.mark.parametrize("status", [301, 302, 307, 408, 425, 429, 500, 502, 503, 504])
    def test_what_may_pass_is_tried_again(self, rig: Rig, status: int) -> None:
        rig.fault("status", status=status)
        with pytest.raises(ProviderUnavailable):
            rig.deliver()

    def test_the_partner_may_say_when_to_come_back(self, rig: Rig) -> None:
        rig.fault("status", status=429, retry_after=17)
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver()
        assert caught.value.retry_after_seconds == 17

    def test_silence_is_a_timeout_and_not_longer_than_the_limit(self, rig: Rig) -> None:
        rig.fault("time-out", seconds=30.0)
        with pytest.raises(ProviderTimeout):
            rig.deliver(timeout_seconds=0.5)

    @pytest.mark.parametrize("kind", ["reset", "truncate"])
    def test_a_broken_answer_is_tried_again_and_has_its_effect_once(self, rig: Rig, kind: str) -> None:
        parcel = rig.parcel()
        rig.fault(kind, count=1, acts=True)
        with pytest.raises(ProviderUnavailable):
            rig.deliver(parcel)
        rig.deliver(replace(parcel, attempt=2))
        assert rig.effects() == 1

    def test_a_refused_connection_is_tried_again(self, rig: Rig) -> None:
        with pytest.raises(ProviderUnavailable):
            rig.deliver(url=f"http://127.0.0.1:{closed_port()}{rig.binding.path}")

    def test_a_page_where_an_answer_was_due_is_invalid(self, rig: Rig) -> None:
        rig.fault("nonsense")
        if "nonsense" in rig.binding.answers:
            assert rig.deliver().status == 200
            return
        with pytest.raises(InvalidReply):
            rig.deliver()

    def test_bytes_that_are_not_http_are_invalid(self, rig: Rig) -> None:
        with saying([b"220 smtp.example.com ESMTP\r\n\r\n"]) as url, pytest.raises(InvalidReply):
            rig.deliver(url=url)

    def test_a_missing_secret_waits_for_the_operator(self, rig: Rig) -> None:
        with pytest.raises(ProviderUnavailable):
            rig.connector.deliver(rig.parcel(), rig.endpoint, None)

    @pytest.mark.parametrize(
        "kind, details",
        [
            ("status", {"status": 401}),
            ("status", {"status": 500}),
            ("error", {"code": "-1", "message": "bí mật 099199000001"}),
            ("nonsense", {}),
            ("reset", {}),
            ("truncate", {}),
            ("time-out", {"seconds": 30.0}),
        ],
    )
    def test_a_failure_tells_nothing_that_is_not_its_to_tell(self, rig: Rig, kind: str, details: Any) -> None:
        rig.fault(kind, **details)
        parcel = rig.parcel()
        if kind in rig.binding.answers:
            assert rig.deliver(parcel).status == 200
            return
        with pytest.raises(ProviderFailure) as caught:
            rig.deliver(parcel, timeout_seconds=0.5)
        problem = caught.value
        told = [*_messages(problem), problem.detail("vi"), problem.detail("en"), repr(problem)]
        told += [str(fact) for fact in problem.facts.values()]
        password = rig.secret.decode().rpartition(":")[2]
        for secret in (password, rig.server.url, "127.0.0.1", "099199000001", "NGUYỄN", parcel.manifest_jws):
            assert not any(secret in text for text in told)

    def test_eight_threads_share_one_connector(self, rig: Rig) -> None:
        failures: list[BaseException] = []

        def deliver(start: int) -> None:
            try:
                for number in range(start, start + 5):
                    rig.deliver(rig.parcel(number))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=deliver, args=(1 + 5 * at,)) for at in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert rig.effects() == 40
        if rig.binding.logs_in:
            assert rig.sandbox.twins[rig.twin].state()["logins"] == 1

    def test_a_session_that_ended_is_renewed_once(self, rig: Rig) -> None:
        if not rig.binding.logs_in:
            pytest.skip("this protocol has no sessions")
        rig.deliver(rig.parcel(1))
        rig.sandbox.twins[rig.twin].sessions.end_all()  # type: ignore[attr-defined]
        rig.deliver(rig.parcel(2))
        assert rig.effects() == 2
        assert rig.sandbox.twins[rig.twin].state()["logins"] == 2

    def test_a_wrong_password_waits_for_the_operator(self, rig: Rig) -> None:
        if not rig.binding.logs_in:
            pytest.skip("this protocol has no login")
        rig.secret = b"truc-lgsp:sai-mat-khau"
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver()
        assert caught.value.reason == "provider-login-failed"
