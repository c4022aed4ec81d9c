"""``lgsp registry import --members``: a province's units from a spreadsheet, each with credentials and quotas."""

from __future__ import annotations

import json
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlencode

import pytest
from click.testing import CliRunner, Result

from bus.cli.registry import registry
from registry.importing import members_from_csv
from schemas.identifiers import AgencyCode, SystemCode
from schemas.message import Envelope
from schemas.moment import utc_now
from schemas.problem import Malformed, NotIdentified, NotPermitted, TooMany
from security.keys import SigningKey
from security.tokens import verify_secret
from tests.bus_world import GOOD, NOTE, RECEIVER, TRANSFER, World, ask, bus_world

HEAD = "Mã định danh;Tên đơn vị;Trực thuộc;Xác thực;Dịch vụ;Mỗi ngày"
#: SC-1: 212 communes under 19 departments. S1-3: 22 departments, 30 districts, 584 communes.
HAI_PHONG = [(f"H99.{20 + n // 12}.{n % 12 + 1:02d}", f"UBND xã Mẫu {n}", "H99") for n in range(212)]
HA_NOI = [
    *((f"H99.{20 + n}", f"Sở Mẫu {n}", "H99") for n in range(22)),
    *((f"H99.{50 + n}", f"UBND quận Mẫu {n}", "H99") for n in range(30)),
    *((f"H99.{50 + n // 20}.{n % 20 + 1:02d}", f"UBND phường Thử {n}", "") for n in range(584)),
]
Run = Callable[..., Result]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with bus_world(tmp_path) as world:
        yield world


@pytest.fixture
def run(world: World) -> Run:
    class Context:
        settings = world.settings

    def invoke(*words: str | Path) -> Result:
        return CliRunner().invoke(registry, [str(word) for word in words], obj=Context())

    return invoke


def sheet(folder: Path, lines: Sequence[str], head: str = HEAD) -> Path:
    path = folder / "xa-phuong.csv"
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8-sig")
    return path


def units(rows: Sequence[tuple[str, str, str]], proof: str = "") -> list[str]:
    return [f"{code};{name};{parent};{proof};{TRANSFER}, {NOTE};1.000" for code, name, parent in rows]


def accept(world: World, key: SigningKey, sender: str) -> None:
    message = world.signed(GOOD, sender=sender, key=key, purpose="")
    headers = {name.lower(): value for name, value in message.headers.items()}
    world.bus.intake.accept(
        Envelope(
            body=message.body,
            content_type=headers.pop("content-type"),
            headers=headers,
            received_at=utc_now(),
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
    )


@pytest.mark.parametrize("rows", [HAI_PHONG, HA_NOI], ids=["212-communes", "636-units"])
def test_a_province_of_units_is_imported_in_one_command_and_each_sends_as_itself_only(
    world: World, run: Run, tmp_path: Path, rows: Sequence[tuple[str, str, str]]
) -> None:
    out = tmp_path / "members"
    done = run("import", "--members", sheet(tmp_path, units(rows)), "--out", out)
    assert done.exit_code == 0, done.output
    assert f"{len(rows)} members: {len(rows)} keys and 0 secrets made, 0 had theirs" in done.stdout
    world.bus.directory.refresh()
    held = world.bus.registry.load()
    for at, (code, name, _) in enumerate(rows):
        system = held.systems[SystemCode(f"{code}/mot-cua")]
        assert (len(system.certificates), system.agency, held.agencies[AgencyCode(code)].name) == (1, code, name)
        assert held.grants[f"{TRANSFER}.{code}"].quota.per_day == 1000
        key = SigningKey.load(out / f"{code}-mot-cua.pem")
        accept(world, key, code)
        with pytest.raises((NotIdentified, NotPermitted)):
            accept(world, key, rows[at - 1][0])
    if rows is HA_NOI:
        assert held.agencies[AgencyCode("H99.50.01")].parent == "H99.50"


def test_a_second_run_changes_nothing_and_rotates_nothing(world: World, run: Run, tmp_path: Path) -> None:
    file, out = sheet(tmp_path, units(HAI_PHONG[:3]) + units(HAI_PHONG[3:5], "mã bí mật")), tmp_path / "members"
    assert run("import", "--members", file, "--out", out).exit_code == 0
    revision, files = world.bus.registry.revision(), {path: path.read_bytes() for path in out.iterdir()}
    again = run("import", "--members", file, "--out", out)
    assert "0 to add, 0 to change, 0 to remove, 20 unchanged" in again.stdout
    assert "5 members: 0 keys and 0 secrets made, 5 had theirs" in again.stdout
    assert world.bus.registry.revision() == revision
    assert {path: path.read_bytes() for path in out.iterdir()} == files
    for path in files:  # handed out and deleted, as the last line asks
        path.unlink()
    assert "5 had theirs" in run("import", "--members", file, "--out", out).stdout
    assert list(out.iterdir()) == []
    assert world.bus.registry.revision() == revision


def test_keys_that_an_interrupted_run_made_are_used(world: World, run: Run, tmp_path: Path) -> None:
    file, out = sheet(tmp_path, units(HAI_PHONG[:2])), tmp_path / "members"
    out.mkdir(mode=0o700)
    made = SigningKey.generate(name="H99.20.01/mot-cua")
    made.save(out / "H99.20.01-mot-cua.pem")
    done = run("import", "--members", file, "--out", out)
    assert "2 members: 1 keys and 0 secrets made, 1 had theirs" in done.stdout
    (certificate,) = world.bus.registry.load().systems[SystemCode("H99.20.01/mot-cua")].certificates
    assert certificate.key_id == made.key_id


def test_a_new_quota_and_a_new_line_are_all_that_a_later_sheet_changes(world: World, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "members"
    run("import", "--members", sheet(tmp_path, units(HAI_PHONG[:2])), "--out", out)
    lines = [line.replace("1.000", "5") for line in units(HAI_PHONG[:1])] + units(HAI_PHONG[1:3])
    done = run("import", "--members", sheet(tmp_path, lines), "--out", out)
    assert "4 to add, 2 to change, 0 to remove" in done.stdout
    world.bus.directory.refresh()
    key = SigningKey.load(out / "H99.20.01-mot-cua.pem")
    for _ in range(5):
        accept(world, key, "H99.20.01")
    with pytest.raises(TooMany):
        accept(world, key, "H99.20.01")


def test_only_their_owner_can_read_what_was_made(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "members"
    run("import", "--members", sheet(tmp_path, units(HAI_PHONG[:1]) + units(HAI_PHONG[1:2], "secret")), "--out", out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    secret_halves = [path for path in out.iterdir() if path.suffix in (".pem", ".secret")]
    assert [stat.S_IMODE(path.stat().st_mode) for path in secret_halves] == [0o600, 0o600]
    out.chmod(0o755)
    refused = run("import", "--members", sheet(tmp_path, units(HAI_PHONG[2:3])), "--out", out)
    assert refused.exit_code == 2
    assert refused.stderr == f"Others can read {out}, and private keys come into it. Run: chmod 700 {out}\n"


def test_a_member_with_a_secret_earns_a_token_and_sends_attested(world: World, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "members"
    done = run("import", "--members", sheet(tmp_path, units(HAI_PHONG[:1], "secret")), "--out", out)
    assert "0 keys and 1 secrets made" in done.stdout
    secret = (out / "H99.20.01-mot-cua.secret").read_text("ascii")
    assert secret not in done.output
    world.bus.directory.refresh()
    code = "H99.20.01/mot-cua"
    assert verify_secret(world.bus.registry.load().systems[SystemCode(code)].client_secret_hash, secret)
    with world.serving() as url:
        asked = urlencode({"grant_type": "client_credentials", "client_id": code, "client_secret": secret})
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        token = ask("POST", f"{url}/v1/oauth/token", asked, form).json["access_token"]
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Lgsp-Service": NOTE,
            "Lgsp-Receiver": RECEIVER,
            "Lgsp-Message-Id": "01a20127-77d9-7d6a-8472-b7552859e34c",
        }
        answer = ask("POST", f"{url}/v1/exchange", json.dumps({"x": 1}), headers)
    assert answer.status == 202, answer.json
    found = world.bus.ledger.find("01a20127-77d9-7d6a-8472-b7552859e34c")  # type: ignore[arg-type]
    assert found is not None
    assert found.sender == "H99.20.01"


def test_a_dry_run_shows_what_would_come_and_writes_nothing(world: World, run: Run, tmp_path: Path) -> None:
    revision = world.bus.registry.revision()
    file = sheet(tmp_path, units(HAI_PHONG[:1]))
    shown = run("import", "--members", file, "--out", tmp_path / "members", "--dry-run")
    assert shown.exit_code == 0
    assert "+ System H99.20.01/mot-cua  UBND xã Mẫu 0" in shown.stdout
    assert f"+ Grant {TRANSFER}.H99.20.01" in shown.stdout
    assert shown.stdout.endswith("dry run: nothing was written\n")
    assert not (tmp_path / "members").exists()
    assert world.bus.registry.revision() == revision


def test_everything_wrong_is_told_by_its_line_and_nothing_is_made(world: World, run: Run, tmp_path: Path) -> None:
    revision = world.bus.registry.revision()
    lines = [
        *units(HAI_PHONG[:1]),
        f"H99.20.02;UBND xã Mẫu;H99;vân tay;{TRANSFER};",
        "H99.20.03;UBND xã Mẫu;H99;;khong.co;",
        f"H99.20.04;UBND xã Mẫu;H99;;{TRANSFER};nhiều",
        f"H99.20.05;UBND xã Mẫu;H99;;{TRANSFER};-1",
        f"H99.20.06;UBND xã Mẫu;H99;;{TRANSFER};²",
        "H99.20.07;UBND xã Mẫu;H99;;DOSSIER TRANSFER;",
    ]
    refused = run("import", "--members", sheet(tmp_path, lines), "--out", tmp_path / "members")
    assert refused.exit_code == 2
    told = refused.stderr.splitlines()[1:]
    assert told[:4] == [
        "  xa-phuong.csv#3/proof: must be key or secret",
        "  xa-phuong.csv#4/services: names khong.co, which is not registered",
        "  xa-phuong.csv#5/per_day: must be a whole number, or empty for no limit",
        "  xa-phuong.csv#6/per_day: must be a whole number, or empty for no limit",
    ]
    assert [line.split(":")[0] for line in told[4:6]] == ["  xa-phuong.csv#7/per_day", "  xa-phuong.csv#8"]
    assert not (tmp_path / "members").exists()
    assert world.bus.registry.revision() == revision


@pytest.mark.parametrize(
    "lines, head",
    [
        (["H99.20.01;A;H99", "H99.20.01;B;H99"], "code;name;parent"),
        (["H99.20.01;;H99"], "code;name;parent"),
        (["x;A;H99"], "code;name;parent"),
        (["H99.20.01;A;Mot Cua"], "code;name;system"),
        (["H99.20.01;A;a/b"], "code;name;system"),
        (["H99.20.01;A;key;x"], "code;name;proof;proof"),
        (["A"], "name"),
        (['H99.20.01;"A'], "code;name"),
    ],
    ids=["twice", "no-name", "no-code", "system-spelling", "system-path", "heading-twice", "no-heading", "quote"],
)
def test_a_sheet_that_cannot_be_is_refused(world: World, lines: list[str], head: str) -> None:
    data = "\n".join([head, *lines]).encode()
    with pytest.raises(Malformed) as refused:
        members_from_csv(data, world.bus.registry.load(), source="x.csv")
    assert all(error.pointer.startswith("x.csv#") for error in refused.value.errors)


def test_names_are_composed_and_quotas_read_as_people_write_them(world: World) -> None:
    apart = unicodedata.normalize("NFD", "UBND phường Thủy Nguyên")
    head = "code,name,system,services,receivers,per minute,per day"
    row = f'H99.20.01,{apart},van-thu,{NOTE},"{RECEIVER} 000.00.15.H99",60,1 000'
    (member,) = members_from_csv(f"{head}\n{row}\n".encode(), world.bus.registry.load())
    assert member.agency.name == unicodedata.normalize("NFC", apart) == member.system.name
    assert member.system.code == "H99.20.01/van-thu"
    (grant,) = member.grants
    assert (grant.receivers, grant.quota.per_minute, grant.quota.per_day) == ((RECEIVER, "H99.15"), 60, 1000)


def test_the_manual_s_sheet_makes_the_members_that_the_manual_says(world: World, run: Run, tmp_path: Path) -> None:
    manual = (Path(__file__).resolve().parent.parent / "docs" / "registering-a-service.md").read_text("utf-8")
    (example,) = [
        text for text in re.findall(r"^```csv\n(.*?)^```$", manual, re.DOTALL | re.MULTILINE) if "xác" in text
    ]
    file, out = tmp_path / "don-vi.csv", tmp_path / "members"
    file.write_text(example, encoding="utf-8")
    assert "2 members: 1 keys and 1 secrets made" in run("import", "--members", file, "--out", out).stdout
    names = {"H99.41-mot-cua.pem", "H99.41-mot-cua.crt", "H99.41-mot-cua.toml", "H99.42-van-thu.secret"}
    assert {path.name for path in out.iterdir()} == names
    quota = world.bus.registry.load().grants["dossier.transfer.H99.42"].quota
    assert (quota.per_minute, quota.per_day) == (60, 1000)
