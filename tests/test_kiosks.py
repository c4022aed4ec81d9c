"""Devices at counters: each sends its two services as itself, and nothing else; a province's worth of them at once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import uuid6

from registry.manifests import parse_manifest, read_manifests
from registry.model import Agency, DossierView, Grant, Pattern, Service, System
from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from schemas.message import Grade, sha256_hex
from schemas.problem import Malformed
from security.keys import SigningKey
from security.tokens import hash_secret
from tests.bus_world import RECEIVER, SENDER, Answer, World, ask, bus_world, certificate_of

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "partners" / "petition.md").read_text("utf-8")
RATING: dict[str, Any] = json.loads((ROOT / "schemas" / "examples" / "rating.json").read_bytes())
PETITION: dict[str, Any] = json.loads((ROOT / "schemas/partners/petition/submit.example.json").read_bytes())
SCHEMAS = {
    "rating.submit": "documents/rating.schema.json",
    "petition.submit": "partners/petition/submit.schema.json",
    "petition.status": "partners/petition/status.schema.json",
}
WARD = AgencyCode("H99.20")
SECRET = "m4y-K1osk_khong-bao-gio-doan-duoc-01"
KIOSK = SystemCode("H99.20/kiosk-01")
DESK = SystemCode("H99.20/mot-cua")
DOSSIER = RATING["MaHoSo"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path) as made:
        made.register(*members())
        yield made


def members() -> list[Any]:
    services = tuple(ServiceCode(code) for code in ("rating.submit", "petition.submit"))
    kiosk = System(code=KIOSK, name="Kiosk", sends_only=True, sends=services, client_secret_hash=hash_secret(SECRET))
    return [
        Agency(code=WARD, name="Phường Mẫu", parent=AgencyCode("H99")),
        System(code=DESK, name="Một cửa phường Mẫu"),
        *(
            Service(
                code=ServiceCode(code),
                version=1,
                name=code,
                owner=AgencyCode("H99"),
                pattern=Pattern.ONE_WAY,
                grade=Grade.ATTESTED,
                schema=json.loads((ROOT / "schemas" / file).read_bytes()),
                dossier=DossierView(items="/data", code="/MaHoSo"),
            )
            for code, file in SCHEMAS.items()
        ),
        kiosk,
        replace(kiosk, code=SystemCode("H99.20/kiosk-02"), client_secret_hash=""),
        *(
            Grant(id=f"tinh-{code}", service=ServiceCode(code), grantee=AgencyCode("H99"), include_children=True)
            for code in (*SCHEMAS, "dossier.note")
        ),
    ]


def token_of(url: str, system: str = KIOSK, secret: str = SECRET) -> Answer:
    form = {"grant_type": "client_credentials", "client_id": system, "client_secret": secret}
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return ask("POST", f"{url}/v1/oauth/token", urlencode(form), headers)


def send(
    url: str, token: str, service: str, payload: Any, message_id: str = "", receiver: str = RECEIVER, **more: str
) -> Answer:
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Lgsp-Service": service,
        "Lgsp-Receiver": receiver,
        "Lgsp-Message-Id": message_id or str(uuid6.uuid7()),
    }
    return ask("POST", f"{url}/v1/exchange", json.dumps(payload), headers | more)


def get(url: str, token: str, path: str) -> Answer:
    return ask("GET", f"{url}{path}", headers={"Authorization": f"Bearer {token}"})


def test_a_kiosk_sends_ratings_and_petitions_as_itself(world: World) -> None:
    with world.serving() as url:
        token = token_of(url).json["access_token"]
        answers = [
            send(url, token, "rating.submit", RATING),
            send(url, token, "rating.submit", {"data": [RATING, RATING | {"NoiDungDanhGia": "Thời gian giải quyết"}]}),
            send(url, token, "petition.submit", PETITION | {"NguonGui": "kiosk"}),
        ]
        assert [answer.status for answer in answers] == [202, 202, 202]
        told = get(url, token, f"/v1/exchange/{answers[0].json['message_id']}")
    assert told.status == 200
    record = world.bus.ledger.find(answers[0].json["message_id"])
    assert record is not None
    assert (record.sender, record.sender_system, record.grade) == (WARD, KIOSK, Grade.ATTESTED)
    assert [each.service for each in world.bus.ledger.of_dossier(DOSSIER)] == [
        *("rating.submit", "rating.submit", "petition.submit"),
    ]


def test_a_kiosk_sends_nothing_else_though_its_agency_may(world: World) -> None:
    status = {"MaPAKN": "PAKN-260423-0001", "TrangThai": "2"}
    with world.serving() as url:
        kiosk, desk = (world.token(system) for system in (KIOSK, DESK))
        for service, payload in (("petition.status", status), ("dossier.note", {})):
            assert send(url, desk, service, payload).status == 202
            refused = send(url, kiosk, service, payload)
            assert (refused.status, refused.json["reason"]) == (403, "service-not-of-system")
        # What the agency itself may not, the device may not either, and is told no more than anybody.
        assert send(url, kiosk, "population.lookup", {}).json["reason"] == "no-grant"


def test_a_kiosk_reads_no_dossier_no_message_and_no_file_but_its_own(world: World) -> None:
    file = b"ket qua"
    digest = sha256_hex(file)
    with world.serving() as url:
        kiosk, other, desk = (world.token(system) for system in (KIOSK, "H99.20/kiosk-02", DESK))
        ask("PUT", f"{url}/v1/attachments/{digest}", file, {"Authorization": f"Bearer {desk}"})
        of_desk = send(url, desk, "rating.submit", RATING).json["message_id"]
        paths = [f"/v1/dossiers/{DOSSIER}", f"/v1/exchange/{of_desk}", f"/v1/attachments/{digest}"]
        paths += [f"/v1/exchange/{of_desk}/receipt", f"/v1/exchange/{of_desk}/evidence"]
        assert {path: get(url, kiosk, path).status for path in paths} == dict.fromkeys(paths, 404)
        assert [get(url, desk, path).status for path in paths[:4]] == [200] * 4
        of_kiosk = send(url, kiosk, "rating.submit", RATING).json["message_id"]
        assert get(url, kiosk, f"/v1/exchange/{of_kiosk}").status == 200
        assert get(url, other, f"/v1/exchange/{of_kiosk}").status == 404
        seen = get(url, kiosk, f"/v1/dossiers/{DOSSIER}").json
        assert [message["message_id"] for message in seen["messages"]] == [of_kiosk]
        assert get(url, kiosk, "/v1/inbox").json["deliveries"] == []


def test_a_kiosk_sends_for_nobody_else(world: World) -> None:
    key = SigningKey.generate(name=KIOSK)
    held = world.bus.directory.current().system(KIOSK)
    assert held is not None
    world.register(replace(held, certificates=(certificate_of(key),)))
    signed = world.signed(RATING, service="rating.submit", sender=SENDER, key=key, purpose="")
    own = world.signed(RATING, service="rating.submit", sender=WARD, key=key, purpose="")
    status = world.signed(
        {"MaPAKN": "1", "TrangThai": "2"}, service="petition.status", sender=WARD, key=key, purpose=""
    )
    with world.serving() as url:
        answers = [ask("POST", f"{url}/v1/exchange", each.body, each.headers) for each in (signed, own, status)]
        # Another device's name with this one's secret, and a stolen device that was suspended.
        assert token_of(url, "H99.20/kiosk-02").status == 401
        token = token_of(url).json["access_token"]
        world.register(replace(held, suspended=True))
        assert token_of(url).status == 401
    assert [answer.status for answer in answers] == [401, 202, 403]
    with world.serving() as url:
        assert send(url, token, "rating.submit", RATING).status == 401


def test_a_list_of_no_services_is_no_list() -> None:
    """Empty means all: a manifest that writes an empty list would say the opposite of what it looks like."""
    text = "kind: System\ncode: H99.20/kiosk-01\nname: Kiosk\nsends: []\n"
    with pytest.raises(Malformed):
        read_text(text)


def read_text(text: str) -> Any:
    return parse_manifest(text.encode())


# ---- The page


def block(words: str) -> str:
    (found,) = re.findall(rf"^```sh {words}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_kiosk_of_the_page_can_be_read_and_is_that_of_the_demonstration() -> None:
    manifests = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    province = (ROOT / "bus" / "demo" / "province.yaml").read_text("utf-8")
    for manifest in manifests:
        for document in manifest.strip().split("\n---\n"):
            assert document in province
            read_text(document)


def test_the_province_gets_its_hundred_and_seventy_kiosks_in_one_go(world: World, tmp_path: Path) -> None:
    names = [f"H99.K{number:03d}" for number in range(1, 171)]
    rows = [f"{code};Xã Mẫu {number};H99" for number, code in enumerate(names, start=1)]
    (tmp_path / "xa-phuong.csv").write_text("\n".join(["code;name;parent", *rows]) + "\n", "utf-8")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**world.environment, "PATH": path, "PYTHONPATH": str(ROOT)}

    def sh(commands: str) -> str:
        done = subprocess.run(
            ["sh", "-euc", commands], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
            timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    sh("lgsp registry import --agencies xa-phuong.csv")
    said = sh(block("kiosks"))
    assert "170 to add, 0 to change, 0 to remove" in said
    assert len(read_manifests([tmp_path / "kiosk.yaml"])) == 170
    world.bus.directory.refresh()
    directory = world.bus.directory.current()
    held = [directory.system(f"{code}/kiosk-01") for code in names]
    assert all(system is not None and system.sends_only and len(system.sends) == 2 for system in held)
    with world.serving() as url:
        token = world.token("H99.K170/kiosk-01")
        assert send(url, token, "rating.submit", RATING).status == 202
        assert send(url, token, "dossier.note", {}).status == 403


def test_the_commands_of_the_page_send_a_rating(world: World) -> None:
    with world.serving() as url:
        said = subprocess.run(
            ["sh", "-euc", block("kiosk").replace("Lgsp-Receiver: H99.15", f"Lgsp-Receiver: {RECEIVER}")],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "BUS": url, "KIOSK_SECRET": SECRET},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
    record = world.bus.ledger.find(json.loads(said)["message_id"])
    assert record is not None
    assert record.sender_system == KIOSK
