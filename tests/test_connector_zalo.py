"""Notices by Zalo, bound to the contract; parameter lengths, tokens that are refreshed."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.http import HttpClient
from connectors.zalo import ZaloConnector
from schemas.problem import ProviderRejected, ProviderUnavailable
from tests.bus_world import bus_world
from tests.connector_contract import Binding, ConnectorContract, Rig, parcel_of

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "schemas" / "partners" / "zalo"


def notice(number: int = 1, *, to: Any = "0900000001", template: str = "dossier-status", **changes: Any) -> Any:
    document = json.loads((FOLDER / "notice-zalo.example.json").read_bytes())
    parameters = document["parameters"] | {"ma_ho_so": f"H99.15-260423-{number:04d}"} | changes
    return {"to": to, "template": template, "parameters": parameters}


class Kept(dict[str, bytes]):
    """Secrets by name, as the bus keeps them for all its processes; how often one was written."""

    written = 0

    def __call__(self, name: str) -> bytes | None:
        return self.get(name)

    def remember(self, name: str, secret: bytes) -> None:
        self.written += 1
        self[name] = secret


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def process(kept: Kept) -> Iterator[Callable[[], ZaloConnector]]:
    """Another process that shares the store."""
    made: list[ZaloConnector] = []

    def start() -> ZaloConnector:
        connector = ZaloConnector(HttpClient())
        connector.remember_in(kept)
        made.append(connector)
        return connector

    yield start
    for connector in made:
        connector.close()


class TestZalo(ConnectorContract):
    bound = Binding(
        connector="zalo",
        path="/zalo",
        operation="template",
        service="notice.zalo",
        payload=notice,
        effects=lambda state: len(state["outbox"]),
        settings={"header_separator": "-", "template_ids": {"dossier-status": "201001"}},
    )

    def test_a_wrong_password_waits_for_the_operator(self, rig: Rig) -> None:
        rig.secret = json.dumps(json.loads(rig.secret) | {"secret_key": "sai"}).encode()
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver()
        assert caught.value.reason == "provider-login-failed"

    def test_accents_stay_and_the_number_is_one_number(self, rig: Rig) -> None:
        rig.deliver(parcel_of("notice.zalo", notice(to="+84 900 000 001", ten_nguoi_dan="Đặng Phương Đông, Mẫu")))
        (message,) = rig.sandbox.twins["zalo"].state()["outbox"]
        assert message["phone"] == "84900000001"
        assert message["template_data"]["ten_nguoi_dan"] == "Đặng Phương Đông, Mẫu"

    @pytest.mark.parametrize(
        "document, reason",
        [
            (notice(ten_nguoi_dan="x" * 31), "notice-too-long"),
            (notice(ten_dich_vu="x" * 201), "notice-too-long"),
            (notice(trang_thai=""), "payload-not-for-partner"),
            (notice(trang_thai=5), "payload-not-for-partner"),
            (notice(trang_thai="a\nb"), "payload-not-for-partner"),
            (notice(banner="x"), "payload-not-for-partner"),
            (notice(to="x"), "payload-not-for-partner"),
            (notice(template="x"), "template-unknown"),
        ],
    )
    def test_what_zalo_would_not_take_never_leaves(self, rig: Rig, document: Any, reason: str) -> None:
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(parcel_of("notice.zalo", document))
        assert caught.value.reason == reason
        assert rig.server.requests == []

    @pytest.mark.parametrize(
        "settings",
        [{"template_ids": {}}, {"header_separator": "."}, {"limits": {"name": "30"}}, {"final_codes": 5}],
    )
    def test_a_wrong_setting_waits_for_the_operator(self, rig: Rig, settings: dict[str, Any]) -> None:
        rig.fault("error", code="-1", message="x")
        with pytest.raises(ProviderUnavailable) as caught:
            rig.deliver(settings={**rig.binding.settings, **settings})
        assert caught.value.reason == "endpoint-invalid"

    def test_an_unknown_user_is_final_where_the_code_is_known_as_such(self, rig: Rig) -> None:
        parcel = parcel_of("notice.zalo", notice(to="0912345678"))
        with pytest.raises(ProviderUnavailable):
            rig.deliver(parcel)
        with pytest.raises(ProviderRejected) as caught:
            rig.deliver(parcel, settings={**rig.binding.settings, "final_codes": ["-118"]})
        assert caught.value.facts == {"code": "-118"}

    def test_the_newest_refresh_token_is_used_and_the_sealed_one_is_the_last_resort(self, rig: Rig) -> None:
        sessions = rig.sandbox.twins["zalo"].sessions  # type: ignore[attr-defined]
        assert isinstance(rig.connector, ZaloConnector)
        for number in range(1, 4):
            rig.deliver(rig.parcel(number))
            sessions.end_all()
        (newest,) = rig.connector._newest.values()
        assert newest not in rig.secret.decode()
        rig.connector._newest = dict.fromkeys(rig.connector._newest, "gone")
        rig.deliver(rig.parcel(4))
        assert rig.effects() == 4

    def test_the_commands_of_the_manual_ask_it(self, rig: Rig) -> None:
        page = (ROOT / "docs" / "partners" / "zalo.md").read_text("utf-8")
        (commands,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        parts = json.loads(rig.secret)
        said = subprocess.run(
            ["sh", "-euc", commands.replace("http://127.0.0.1:8090", rig.server.url)],
            env={"PATH": os.environ["PATH"], **{name.upper(): parts[name] for name in parts}},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
        assert '"error":0' in said
        assert rig.effects() == 1

    # Zalo takes each refresh token once; `strict` makes the twin so.

    def test_a_process_that_starts_again_goes_on_with_the_newest(
        self, rig: Rig, kept: Kept, process: Callable[[], ZaloConnector]
    ) -> None:
        deliver(rig, process(), 1)
        strict(rig)
        end_access(rig)
        deliver(rig, process(), 2)
        end_access(rig)
        deliver(rig, process(), 3)
        assert (rig.effects(), kept.written, list(kept)) == (3, 3, ["zalo.newest"])

    def test_without_a_store_a_restart_needs_an_operator(self, rig: Rig) -> None:
        deliver(rig, rig.connector, 1)
        strict(rig)
        end_access(rig)
        with pytest.raises(ProviderUnavailable):
            deliver(rig, ZaloConnector(HttpClient()), 2)

    def test_who_comes_second_finds_what_the_first_was_given(
        self, rig: Rig, kept: Kept, process: Callable[[], ZaloConnector]
    ) -> None:
        one, other = process(), process()
        deliver(rig, one, 1)
        deliver(rig, other, 2)
        strict(rig)
        for number in range(3, 9):
            end_access(rig)
            deliver(rig, (one, other)[number % 2], number)
        assert rig.effects() == 8

    def test_the_later_of_two_stays(self, rig: Rig, kept: Kept, process: Callable[[], ZaloConnector]) -> None:
        one = process()
        deliver(rig, one, 1)
        later = json.loads(kept["zalo.newest"])
        later |= {"at": later["at"] + 3_600_000_000, "refresh_token": later["refresh_token"]}
        kept["zalo.newest"] = json.dumps(later).encode()
        end_access(rig)
        deliver(rig, one, 2)
        assert json.loads(kept["zalo.newest"]) == later
        # The process itself has its own newer one.
        end_access(rig)
        strict(rig)
        deliver(rig, one, 3)

    def test_what_is_kept_for_another_secret_counts_no_more(
        self, rig: Rig, kept: Kept, process: Callable[[], ZaloConnector]
    ) -> None:
        kept["zalo.newest"] = json.dumps({"of": "0" * 64, "at": 2**60, "refresh_token": "of the app before"}).encode()
        deliver(rig, process(), 1)
        assert json.loads(kept["zalo.newest"])["of"] != "0" * 64

    @pytest.mark.parametrize("content", [b"{}", b"[]", b"7", b'{"of": 1}'])
    def test_what_cannot_be_read_was_not_kept(
        self, rig: Rig, kept: Kept, process: Callable[[], ZaloConnector], content: bytes
    ) -> None:
        kept["zalo.newest"] = content
        deliver(rig, process(), 1)
        assert rig.effects() == 1


def deliver(rig: Rig, connector: Any, number: int) -> None:
    connector.deliver(rig.parcel(number), replace(rig.endpoint, secret="zalo"), rig.secret)


def end_access(rig: Rig) -> None:
    rig.sandbox.twins["zalo"].sessions.end_all()  # type: ignore[attr-defined]


def strict(rig: Rig) -> None:
    twin: Any = rig.sandbox.twins["zalo"]
    twin._credential = {**twin._credential, "refresh_token": "used"}


def test_the_bus_seals_what_a_connector_was_given(tmp_path: Path) -> None:
    with bus_world(tmp_path) as world:
        store = world.bus.connector_secrets
        store.remember("zalo.newest", b"khoa-moi")
        sealed = world.bus.registry.secret("zalo.newest")
        assert sealed is not None
        assert b"khoa-moi" not in sealed
        assert store("zalo.newest") == b"khoa-moi"
        zalo = world.bus.connectors["zalo"]
        assert isinstance(zalo, ZaloConnector)
        assert zalo._secrets is store
