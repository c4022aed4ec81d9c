"""What the manual and the READMEs say is true: their examples are inputs here.

A fenced block says by its first words what is done with it (```` ```json manifest ````). README's `sh` and `python`
blocks run against a demonstration province of their own, `http` blocks of the wire protocol against a real bus.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import click
import pytest
import uuid6
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from bus.cli import lgsp
from bus.demo.province import running_province
from bus.demo.story import Story
from bus.settings import load_settings, setting_meanings
from schemas import bundled
from schemas.codec import read_json
from schemas.identifiers import SystemCode
from schemas.message import Manifest, Means
from schemas.problem import Malformed, NotIdentified, Problem
from schemas.reasons import REASONS
from schemas.validation import compile_schema
from security import base64url
from security.evidence.tree import leaf_hash
from security.keys import PublicKeyRecord, key_id_of
from security.signing import split_compact, verify_manifest, verify_receipt
from tests.bus_world import SECRET, World, ask, bus_world
from tests.loopback import closed_port
from tools import picture
from tools import reasons as reasons_page

ROOT = Path(__file__).resolve().parent.parent
README, README_VI, WIRE = ROOT / "README.md", ROOT / "README.vi.md", ROOT / "docs" / "wire-protocol.md"
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(
            path
            for room in ("bus", "connectors", "registry", "security", "schemas")
            for path in (ROOT / room).glob("*.md")
        ),
        *(path for room in ("docker", "benchmarks") for path in (ROOT / room).glob("*.md")),
    ]
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
#: What an example leaves open.
OPEN = "…"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block: its language, the words behind it, its text."""

    language: str
    words: str
    text: str


def blocks(page: Path) -> list[Block]:
    found = re.findall(r"^```(\w+)[ \t]*([^\n]*)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [Block(language=language, words=words, text=text) for language, words, text in found]


def the_block(words: str) -> str:
    """The one block of the wire protocol that is called so."""
    (found,) = (block.text for block in blocks(WIRE) if block.words == words)
    return found


# --- every page ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_page_is_in_nfc_without_trailing_white_space(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text == unicodedata.normalize("NFC", text)
    assert not re.search(r"[ \t]+$", text, re.MULTILINE)
    assert text.endswith("\n")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    without_code = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = unquote(target).partition("#")
        goal = (page.parent / path).resolve() if path else page
        assert goal.exists(), target
        assert goal.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(goal), target


def anchors(page: Path) -> set[str]:
    """The fragments of a page's headings, as GitHub and GitLab make them."""
    headings = re.findall(r"^#+ +(.+)$", page.read_text("utf-8"), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_file_of_ours_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(
        r"`((?:bus|connectors|registry|security|schemas|tests|tools|docs)/[\w./-]+)`", page.read_text("utf-8")
    )
    for name in named:
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_json_and_yaml_block_of_a_page_can_be_read(page: Path) -> None:
    for block in blocks(page):
        if block.language == "json" and not block.words.startswith("not-"):
            read_json(block.text.strip().encode())
        elif block.language == "yaml":
            assert list(yaml.safe_load_all(block.text))


# --- README ----------------------------------------------------------------------------------------------------------


def test_both_readmes_have_the_same_commands_and_pictures() -> None:
    def commands(page: Path) -> list[Block]:
        return [block for block in blocks(page) if block.language in ("sh", "python", "text")]

    def made(page: Path) -> list[str]:
        return re.findall(r"^\$ (.*)$", page.read_text("utf-8"), re.MULTILINE)

    def links(page: Path) -> set[str]:
        found = re.findall(r"\]\(([^)\s#]+)", page.read_text("utf-8"))
        return {link for link in found if not link.startswith(("README", "docs/flow"))}

    assert commands(README) == commands(README_VI)
    assert made(README) == made(README_VI)
    assert links(README) == links(README_VI)


def test_the_commands_that_the_readme_asks_make_for_exist() -> None:
    targets = re.findall(r"^(\w+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    asked = {word for page in (README, README_VI) for word in re.findall(r"make (\w+)", page.read_text("utf-8"))}
    assert {"demo", "test"} <= asked <= set(targets)


def test_the_readmes_show_the_story_that_the_demo_plays() -> None:
    titles = [title for title, _ in Story.steps(object.__new__(Story))]
    for page, language in ((README, "en"), (README_VI, "vi")):
        shown = re.findall(r"^✓ +(\d+)\. (.+?)  [\d.]+ s$", page.read_text("utf-8"), re.MULTILINE)
        assert len(shown) == 3
        for number, title in shown:
            assert title == getattr(titles[int(number) - 1], language)


def test_the_pictures_are_those_that_the_script_draws() -> None:
    for name, words in picture.WORDS.items():
        assert (ROOT / "docs" / name).read_text("utf-8") == picture.draw(words), "run: python tools/picture.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Somebody who follows the README: a folder with `var/demo` in it, and a terminal."""

    folder: Path
    port: int
    environment: dict[str, str]

    def start(self, block: Block) -> subprocess.Popen[str]:
        text = block.text.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")
        command = ["sh", "-euc", text] if block.language == "sh" else [sys.executable, "-W", "error", "-c", text]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def run(self, block: Block) -> str:
        process = self.start(block)
        said, complained = process.communicate(timeout=60)
        assert process.returncode == 0, f"{block.text}\n{said}\n{complained}"
        return said


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    """The demonstration's province as `make demo` leaves it, on ports of its own."""
    folder = tmp_path_factory.mktemp("newcomer")
    port = closed_port()
    settings = load_settings(
        {
            "home": folder / "var" / "demo",
            "port": port,
            "sandbox_port": closed_port(),
            "public_url": f"http://127.0.0.1:{port}",
            "serve_processes": 1,
        },
        environ={},
    )
    # What `make demo` installs below .venv, as far as the README needs it.
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n')
    (programs / "lgsp").write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "from bus.cli import main; main()" "$@"\n')
    (programs / "lgsp").chmod(0o755)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("LGSP_", "LC_", "LANG", "COV_"))
    }
    environment |= {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"}
    settings.home.parent.mkdir(parents=True)
    with running_province(settings):
        yield Visitor(folder=folder, port=port, environment=environment)


@pytest.mark.slow
def test_the_readmes_examples_run_as_pasted(visitor: Visitor) -> None:
    following: subprocess.Popen[str] | None = None
    said, ran = "", 0
    for block in blocks(README):
        if block.language == "text":
            assert fits(block.text, said), f"{block.text}\nis not what was said:\n{said}"
        elif "--follow" in block.text:
            # exec: Ctrl-C in a terminal reaches the program; here the shell in between would die of it first.
            following = visitor.start(Block(language="sh", words="", text=f"exec {block.text}"))
        elif block.language in ("sh", "python"):
            said = visitor.run(block)
            ran += 1
    assert ran >= 5
    assert following is not None, "one terminal fetches while the other one sends"
    assert_fetched(visitor, following)
    assert "YES" in said, "the last block verifies a receipt"
    assert_one_changed_byte_is_noticed(visitor)
    assert_a_missing_member_is_told_in_vietnamese(visitor)


def assert_fetched(visitor: Visitor, following: subprocess.Popen[str]) -> None:
    """What curl, Python and `lgsp send` sent has reached the inbox of the other terminal, each once."""
    sent = json.loads((visitor.folder / "receipt.json").read_text("utf-8"))["message_id"]
    saved = visitor.folder / "received"
    patience_ends = time.monotonic() + 30
    while not (saved / sent / "receipt.jws").exists():
        assert time.monotonic() < patience_ends, "the message has not reached the inbox"
        time.sleep(0.05)
    os.killpg(following.pid, signal.SIGINT)
    said, complained = following.communicate(timeout=20)
    assert following.returncode == 0, complained
    assert sent in said
    titles = sorted(json.loads((place / "body.json").read_bytes()).get("TieuDe", "") for place in saved.iterdir())
    assert titles == ["", "Họp giao ban", "Lịch tiếp công dân"]


def assert_a_missing_member_is_told_in_vietnamese(visitor: Visitor) -> None:
    curl = next(block.text for block in blocks(README) if "curl" in block.text)
    without = re.sub(r', "NoiDung": "[^"]*"', "", curl).replace("-d '{", "-H 'Accept-Language: vi' -d '{")
    document = json.loads(visitor.run(Block(language="sh", words="", text=without)))
    assert (document["status"], document["errors"]) == (422, [{"pointer": "", "detail": "required: NoiDung"}])
    assert document["title"] == "Dữ liệu không đúng lược đồ"
    assert "Lịch tiếp công dân" not in json.dumps(document, ensure_ascii=False)


def assert_one_changed_byte_is_noticed(visitor: Visitor) -> None:
    receipt = visitor.folder / "receipt.json"
    document = json.loads(receipt.read_text("utf-8"))
    header, payload, signature = document["receipt"].split(".")
    claims = base64url.decode(payload).replace(b'"H99.20"', b'"H99.21"')
    document["receipt"] = f"{header}.{base64url.encode(claims)}.{signature}"
    receipt.write_text(json.dumps(document), "utf-8")
    verify = visitor.start(Block(language="sh", words="", text="lgsp --home var/demo evidence verify receipt.json\n"))
    said, _ = verify.communicate(timeout=60)
    assert verify.returncode == 1, said


def fits(pattern: str, text: str) -> bool:
    """Is the text what the pattern says, ``…`` standing for what differs each time?"""
    parts = (re.escape(part) for part in pattern.strip().split(OPEN))
    return re.fullmatch(".*?".join(parts), text.strip(), re.DOTALL) is not None


# --- rooms -----------------------------------------------------------------------------------------------------------


def test_the_eight_steps_are_where_the_room_says() -> None:
    rows = re.findall(
        r"^\| (\d) \| \*\*\w+\*\*[^|]*\| `([\w/]+\.py)` \| `(\w+)\.(\w+)` \|",
        (ROOT / "bus/README.md").read_text("utf-8"),
        re.MULTILINE,
    )
    assert [number for number, *_ in rows] == list("12345678")
    for _, file, owner, method in rows:
        module = import_module("bus." + file.removesuffix(".py").replace("/", "."))
        assert callable(getattr(getattr(module, owner), method)), f"{file}: {owner}.{method}"


def test_every_file_of_the_bus_room_is_in_its_map() -> None:
    text = (ROOT / "bus" / "README.md").read_text("utf-8")
    for path in (ROOT / "bus").iterdir():
        if path.suffix == ".py" and path.name != "__init__.py":
            assert f"`{path.name}`" in text, path.name
        elif path.is_dir() and path.name != "__pycache__":
            assert f"`{path.name}/`" in text, path.name


def test_every_command_that_the_manual_names_exists() -> None:
    """Each ``lgsp …`` with its sub-command and options, in code spans and blocks alike."""
    for page in (README, README_VI, ROOT / "docs" / "operations.md", ROOT / "bus" / "README.md"):
        text = re.sub(r"\\\n\s*", " ", page.read_text("utf-8"))
        for line in re.findall(r"\blgsp ((?:--home \S+ )?[a-z][^\n`|]*)", text):
            assert_known(line.split(), f"{page.name}: lgsp {line}")


def assert_known(words: list[str], told: str) -> None:
    if words[0] == "--home":
        words = words[2:]
    command: click.Command = lgsp
    context = click.Context(lgsp)
    while isinstance(command, click.Group):
        name = words.pop(0).rstrip(",.;:")
        found = command.get_command(context, name)
        assert found is not None, told
        command = found
        if not words:
            break
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known, told


# --- the wire protocol: documents and signatures ---------------------------------------------------------------------


def test_the_manifest_is_one_and_names_the_body() -> None:
    claims = read_json(the_block("manifest").strip().encode())
    body = the_block("body").strip().encode()
    compile_schema(bundled.document("manifest")).validate(the_block("manifest").encode(), "application/json")
    manifest = Manifest.from_claims(claims)
    assert manifest.to_claims() == claims
    assert (manifest.body_sha256, manifest.body_length) == (hashlib.sha256(body).hexdigest(), len(body))


def test_the_manifest_of_a_reply_is_one_and_every_means_is_known_to_the_schema() -> None:
    text = the_block("manifest-of-a-reply")
    claims = read_json(text.strip().encode())
    schema = compile_schema(bundled.document("manifest"))
    assert Manifest.from_claims(claims).to_claims() == claims
    for means in Means:
        schema.validate(text.replace("connection", means).encode(), "application/json")


@pytest.mark.parametrize("reason", ["manifest-unknown-member", "manifest-invalid"])
def test_what_is_said_to_be_no_manifest_is_refused(reason: str) -> None:
    with pytest.raises(Malformed) as refused:
        Manifest.from_claims(read_json(the_block(f"not-a-manifest {reason}").strip().encode()))
    assert refused.value.reason == reason


def test_every_member_of_the_manifest_is_in_the_table() -> None:
    text = WIRE.read_text("utf-8")
    table = text[text.index("## The manifest") : text.index("An absent fact")]
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", table, re.MULTILINE))
    schema = bundled.document("manifest")
    assert isinstance(schema, dict)
    assert rows.keys() == schema["properties"].keys()
    assert {name for name, needed in rows.items() if needed.strip() == "yes"} == set(schema["required"])


def test_the_signed_manifest_verifies_with_the_key_given_and_says_what_the_manifest_says() -> None:
    jws = the_block("manifest-jws").strip()
    key = record_of(json.loads(the_block("key")), SystemCode("H99.15/mot-cua"))
    header = json.loads(the_block("header"))
    verified = verify_manifest(jws, _Keys({key.key_id: key}), datetime(2026, 4, 23, 2, 0, 9, tzinfo=UTC))
    assert verified.manifest.to_claims() == json.loads(the_block("manifest"))
    assert json.loads(base64url.decode(jws.split(".")[0])) == header
    with pytest.raises(NotIdentified):
        verify_manifest(flipped(jws), _Keys({key.key_id: key}), datetime(2026, 4, 23, 2, 0, 9, tzinfo=UTC))


def test_the_signed_receipt_verifies_with_the_key_given_and_names_manifest_and_leaf() -> None:
    jws = the_block("receipt-jws").strip()
    key = record_of(json.loads(the_block("bus-key")), SystemCode("H99/lgsp-bus"))
    claims = verify_receipt(jws, {key.key_id: key}.get)
    assert claims == json.loads(the_block("receipt-claims"))
    assert (
        claims["manifest_sha256"]
        == hashlib.sha256(split_compact(the_block("manifest-jws").strip()).payload).hexdigest()
    )
    assert claims["leaf"] == the_block("leaf").strip()
    with pytest.raises(NotIdentified):
        verify_receipt(flipped(jws), {key.key_id: key}.get)


def test_the_leaf_is_that_of_the_entry() -> None:
    entry = the_block("entry").strip().encode()
    assert leaf_hash(entry).hex() == the_block("leaf").strip()
    manifest = json.loads(the_block("manifest"))
    assert json.loads(entry)["body_sha256"] == manifest["body"]["sha256"]


def flipped(jws: str) -> str:
    """The same JWS with one bit of its signature changed."""
    head, _, signature = jws.rpartition(".")
    raw = bytearray(base64url.decode(signature))
    raw[0] ^= 1
    return f"{head}.{base64url.encode(bytes(raw))}"


class _Keys:
    def __init__(self, records: dict[str, PublicKeyRecord]) -> None:
        self.find_key = records.get


def record_of(jwk: dict[str, str], system: SystemCode) -> PublicKeyRecord:
    x, y = (int.from_bytes(base64url.decode(jwk[name]), "big") for name in ("x", "y"))
    public_key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    assert key_id_of(public_key) == jwk["kid"]
    return PublicKeyRecord(
        key_id=jwk["kid"],
        public_key=public_key,
        algorithm="ES256",
        thumbprint=jwk["x5t#S256"],
        system=system,
        agency=system.agency,
        not_before=datetime(2026, 1, 1, tzinfo=UTC),
        not_after=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=800),
    )


# --- the wire protocol: tables ---------------------------------------------------------------------------------------


def test_the_table_of_problems_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `/problems/([\w-]+)` \| (\d+) \| (yes|no) \|", WIRE.read_text("utf-8"), re.MULTILINE)
    in_code = {(cls.slug, str(cls.status), "yes" if cls.retryable else "no") for cls in problem_classes(Problem)}
    assert {(slug, status, retryable) for slug, status, retryable in rows} == in_code


def problem_classes(cls: type[Problem]) -> Iterator[type[Problem]]:
    """Those of the bus (the agency client makes a copy of each for what it is told)."""
    for child in cls.__subclasses__():
        if "slug" in vars(child) and child.__module__ != "connectors.client":
            yield child
        yield from problem_classes(child)


def test_the_page_of_reasons_is_that_of_the_catalogue() -> None:
    assert reasons_page.PAGE.read_text("utf-8") == reasons_page.page(), "run: python tools/reasons.py"


def test_every_reason_and_setting_that_the_wire_protocol_names_exists() -> None:
    text = WIRE.read_text("utf-8")
    settings = {f"LGSP_{name.upper()}" for name in setting_meanings()}
    assert set(re.findall(r"LGSP_[A-Z_]+", text)) <= settings
    named = set(re.findall(r"\(`([a-z]+(?:-[a-z]+)+)`\)|4\d\d `([a-z]+(?:-[a-z]+)+)`", text))
    reasons = {first or second for first, second in named}
    assert len(reasons) >= 8
    assert reasons <= REASONS.keys()


# --- the wire protocol: HTTP -----------------------------------------------------------------------------------------


def test_the_http_exchanges_of_the_wire_protocol_happen_as_written(tmp_path: Path) -> None:
    written = [block.text for block in blocks(WIRE) if block.language == "http"]
    assert len(written) % 2 == 0
    with conversation(tmp_path) as bus:
        for number in range(0, len(written), 2):
            bus.hold(written[number], written[number + 1])
    assert len(written) >= 26


@dataclass(slots=True, kw_only=True)
class Conversation:
    """A member that sends the requests as written and compares the answers."""

    world: World
    url: str
    delivery_id: str = ""

    def hold(self, request: str, expected: str) -> None:
        method, target, headers, body = self.request(request)
        answer = ask(method, self.url + target, body, headers)
        status, expected_headers, expected_body = read_answer(expected)
        told = f"{request}\n→ {answer.status} {answer.body.decode()}"
        assert answer.status == status, told
        for name, value in expected_headers.items():
            assert answer.headers[name.lower()] == value, told
        if expected_body is not None:
            assert_same(expected_body, answer.json, told)
            if "deliveries" in answer.json and "delivery_id" in (answer.json["deliveries"] or [{}])[0]:
                self.delivery_id = answer.json["deliveries"][0]["delivery_id"]

    def request(self, text: str) -> tuple[str, str, dict[str, str], bytes]:
        head, _, body_text = text.partition("\n\n")
        (method, target, version), *lines = (
            line.split(" ", 2 if n == 0 else -1) for n, line in enumerate(head.splitlines())
        )
        assert version == "HTTP/1.1"
        headers = dict(" ".join(line).split(": ", 1) for line in lines)
        body = body_text.rstrip("\n").replace("<secret of H99.15/mot-cua>", quote(SECRET)).encode()
        if "Content-Range" in headers:
            first, last = map(int, re.findall(r"\d+", headers["Content-Range"])[:2])
            body = body_text.encode()[: last - first + 1]
        for name, value in headers.items():
            headers[name] = self.filled_in(value, body)
        return method, target.replace("<delivery_id>", self.delivery_id), headers, body

    def filled_in(self, value: str, body: bytes) -> str:
        if token_of := re.fullmatch(r"Bearer <token of (\S+)>", value):
            return f"Bearer {self.world.token(token_of[1])}"
        if manifest := re.fullmatch(r"<manifest by H99\.15/mot-cua for (\S+) to (\S+)>", value):
            signed = self.world.signed(
                body, service=manifest[1], receivers=[manifest[2]], message_id=str(uuid6.uuid7())
            )
            return signed.headers["Lgsp-Manifest"]
        return value


@contextmanager
def conversation(folder: Path) -> Iterator[Conversation]:
    with bus_world(folder) as world, world.serving() as url:
        yield Conversation(world=world, url=url)


def read_answer(text: str) -> tuple[int, dict[str, str], Any]:
    head, _, body = text.partition("\n\n")
    first, *lines = head.strip().splitlines()
    headers = dict(line.split(": ", 1) for line in lines)
    return int(first.split()[1]), headers, json.loads(body) if body.strip() else None


def assert_same(expected: Any, actual: Any, told: str) -> None:
    """Equal, but where the example leaves it open."""
    if expected == OPEN:
        assert actual, told
    elif isinstance(expected, dict):
        assert isinstance(actual, dict), told
        assert actual.keys() == expected.keys(), told
        for name, value in expected.items():
            assert_same(value, actual[name], told)
    elif isinstance(expected, list):
        assert len(actual) == len(expected), told
        for one, other in zip(expected, actual, strict=True):
            assert_same(one, other, told)
    else:
        assert actual == expected, told


def test_the_attachment_of_the_example_is_the_line_it_is_said_to_be() -> None:
    named = re.search(r"/v1/attachments/([0-9a-f]{64})", WIRE.read_text("utf-8"))
    assert named is not None
    assert named[1] == hashlib.sha256(b"hello, province\n").hexdigest()


def test_a_body_in_the_inbox_is_the_body_that_was_sent(tmp_path: Path) -> None:
    with conversation(tmp_path) as bus:
        body = the_block("body").strip().encode()
        signed = bus.world.signed(body)
        assert ask("POST", f"{bus.url}/v1/exchange", body, signed.headers).status == 202
        fetched = ask("GET", f"{bus.url}/v1/inbox?wait=5&max=1", None, bus.world.bearer("H99.16/kho")).json
        assert base64.b64decode(fetched["deliveries"][0]["body_base64"]) == body


# --- operations ------------------------------------------------------------------------------------------------------

_MEMBERS = """
kind: Agency
code: H99
name: Tỉnh Thử Nghiệm
"""


@pytest.mark.slow
def test_the_operators_commands_run_and_a_backup_is_a_bus(tmp_path: Path) -> None:
    """`docs/operations.md` from `init` to `restore`, in the order of a real life."""
    lines = operators_lines(tmp_path)
    port = closed_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LGSP_", "COV_"))}
    environment |= {"LGSP_PORT": str(port), "LGSP_PUBLIC_URL": f"http://127.0.0.1:{port}", "PYTHONPATH": str(ROOT)}
    (tmp_path / "members.yaml").write_text(_MEMBERS, "utf-8")
    terminal = Terminal(folder=tmp_path, environment=environment)
    terminal.run(lines["init"])
    with terminal.running(lines["serve"], lines["work"]):
        terminal.run(lines["registry"])
        terminal.run(lines["evidence"])
        terminal.until(lines["doctor"])
        terminal.until(lines["nodes"])
        assert "Nothing is to be done." in terminal.run(lines["upgrade"])
        making, _, public_key = lines["key"].partition(" > ")
        Path(public_key).write_text(terminal.run(making), "ascii")
        terminal.run(lines["backup"])
    terminal.run(lines["check"])
    terminal.run(lines["mv"])
    terminal.run(lines["restore"])
    assert "✗" not in terminal.run(f"{lines['doctor']} --full")
    assert "H99" in terminal.run("lgsp --home srv/lgsp registry show H99")


def operators_lines(folder: Path) -> dict[str, str]:
    """Every line of the page's `sh` blocks by its command, on a folder of our own."""
    text = "".join(
        block.text for block in blocks(ROOT / "docs" / "operations.md") if block.language == "sh" and not block.words
    )
    lines = [line.replace("/srv", f"{folder}/srv") for line in text.splitlines()]
    found = {_name_of(line): line for line in lines if "doctor --full" not in line}
    assert found.keys() == {
        "doctor", "init", "serve", "work", "registry", "evidence", "key", "backup", "check", "mv", "restore",
        "nodes", "upgrade"
    }  # fmt: skip
    return found


def _name_of(line: str) -> str:
    words = line.replace("lgsp backup --check", "lgsp check").split()
    if words[0] != "lgsp":
        return words[0]
    return words[3] if words[1] == "--home" else words[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """Where an operator types."""

    folder: Path
    environment: dict[str, str]

    def command(self, line: str) -> list[str]:
        program, *words = shlex.split(line)
        own = [sys.executable, "-c", "from bus.cli import main; main()"]
        return [*(own if program == "lgsp" else [program]), *words]

    def run(self, line: str) -> str:
        ended = self.ended(line)
        assert ended.returncode == 0, f"{line}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def ended(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(line), cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60
        )

    def until(self, line: str) -> None:
        """Run a line until it says that all is well; the last word counts."""
        patience_ends = time.monotonic() + 30
        while self.ended(line).returncode and time.monotonic() < patience_ends:
            time.sleep(0.2)
        self.run(line)

    @contextmanager
    def running(self, *lines: str) -> Iterator[None]:
        started = [
            subprocess.Popen(
                self.command(line), cwd=self.folder, env=self.environment,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            for line in lines
        ]  # fmt: skip
        try:
            yield
        finally:
            for process in started:
                process.terminate()
            codes = [process.wait(30) for process in started]
        assert codes == [0] * len(started)
