"""A bus with a history, its backup, and what somebody could make of it: for the tests of backup and restore."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, inspect, text

from bus.assembly import Bus
from bus.backup.container import BackupReader, BackupWriter, batches, rows_of
from bus.backup.making import Made, make_backup
from bus.backup.restoring import Restored, restore_backup
from bus.evidence import EvidenceWriter
from bus.records import Claim, Settlement, State
from bus.settings import Settings, load_settings
from schemas.message import AttachmentReference, Envelope
from schemas.moment import utc_now
from schemas.problem import Malformed, Problem, ProviderUnavailable
from security.evidence.checkpoint import NoteKey
from security.sealed_stream import BackupKey, SealedReader, SealedWriter
from tests.bus_world import LOOKUP, MINISTRY, RECEIVING, SENDER, Signed, World
from tests.postgresql import PrivateServer

KEY = BackupKey.generate()
OTHER_KEY = BackupKey.generate()
DOSSIER = "H99.15-261121-0001"
PAPER = b"%PDF-1.7 giay khai sinh " * 20_000
DELIVERED_PAPER = b"%PDF-1.7 da nhan " * 5_000
ANSWER = b'{"found":true}'


#: What the fixture `opened` is.
Open = Callable[[Settings], Bus]


def provider(_environ: object, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [ANSWER]


@dataclass(frozen=True, slots=True)
class Stores:
    """Where buses of a kind have their rows: empty text for SQLite in the home folder."""

    request: pytest.FixtureRequest

    def ready(self, kind: str) -> str:
        if kind == "sqlite":
            return ""
        server: PrivateServer = self.request.getfixturevalue("postgresql")
        return server.url(server.new_database(self.request.getfixturevalue("template")))

    def empty(self, kind: str) -> str:
        if kind == "sqlite":
            return ""
        server: PrivateServer = self.request.getfixturevalue("postgresql")
        return server.url(server.new_database())


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """What a bus was given before its backup."""

    delivered: Signed
    under_way: Signed
    waiting: Signed
    in_line: Signed
    dead: Signed
    called: Signed


def take(world: World | Bus, message: Signed) -> Any:
    """Through the front door, without HTTP."""
    bus = world.bus if isinstance(world, World) else world
    headers = {name.lower(): value for name, value in message.headers.items()}
    return bus.intake.accept(
        Envelope(
            body=message.body,
            content_type=headers["content-type"],
            headers=headers,
            received_at=utc_now(),
            traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
    )


def claims(bus: Bus, most: int = 10, lease: timedelta = timedelta(minutes=30)) -> list[Claim]:
    return bus.ledger.claim({RECEIVING: most}, utc_now(), lease)


def end(bus: Bus, claim: Claim, state: State) -> None:
    writer, now = EvidenceWriter(bus.ring), utc_now()
    problem = ProviderUnavailable("provider-unreachable")
    receipt = leaf = None
    if state is State.DELIVERED:
        receipt, leaf = writer.delivered(claim, now)
    else:
        leaf = writer.dead(claim, now, problem)
    facts = {"problem": problem.slug, "reason": problem.reason, "facts": {}} if state is State.DEAD else None
    assert bus.ledger.settle(
        Settlement(
            delivery_id=claim.delivery_id, attempt=claim.attempt, state=state, started_at=now, finished_at=now,
            problem=facts, receipt_jws=receipt, leaf=leaf,
        )
    )  # fmt: skip


def upload(world: World, data: bytes) -> AttachmentReference:
    digest = hashlib.sha256(data).hexdigest()
    assert world.bus.attachments.add(digest, SENDER, [data]).complete
    return AttachmentReference(
        sha256=digest, length=len(data), content_type="application/pdf", name="giay.pdf"
    )  # fmt: skip


def live(world: World) -> Lived:
    """A message in each state, an answered call, a refusal, a replay, attachments and a sealed secret."""
    bus = world.bus
    bus.registry.put_secret("csdl", bus.secrets.seal("csdl", b"mat-khau"), "test")
    delivered = world.signed(attachments=[upload(world, DELIVERED_PAPER)])
    dead, under_way = world.signed(), world.signed(attachments=[upload(world, PAPER)])
    take(world, delivered)
    end(bus, claims(bus)[0], State.DELIVERED)
    take(world, dead)
    [first] = claims(bus)
    end(bus, first, State.DEAD)
    assert bus.ledger.replay([first.delivery_id], "test", "thử lại", utc_now())[1] == 1
    end(bus, claims(bus)[0], State.DEAD)
    take(world, under_way)
    assert len(claims(bus)) == 1
    bus.seal_evidence(utc_now())
    waiting, in_line = world.signed(dossier=DOSSIER), world.signed({"title": "Bổ sung"}, dossier=DOSSIER)
    take(world, waiting)
    take(world, in_line)
    with pytest.raises(Problem):
        take(world, world.signed({"pages": 0}))
    called = world.signed({"id": "097000000001"}, service=LOOKUP, receivers=(MINISTRY,))
    assert bus.calls.answer(take(world, called)).body == ANSWER
    return Lived(
        delivered=delivered, under_way=under_way, waiting=waiting, in_line=in_line, dead=dead, called=called
    )  # fmt: skip


def back_up(world: World, out: Path, **facts: Any) -> Made:
    return make_backup(world.settings, world.bus.store, world.bus.log, out, [KEY.recipient], **facts)


def place(folder: Path, store_url: str = "", **facts: Any) -> Settings:
    return load_settings({"home": folder, "store_url": store_url, **facts}, environ={})


def bring_back(file: Path, settings: Settings, **facts: Any) -> Restored:
    with file.open("rb") as opened:
        return restore_backup(settings, opened, facts.pop("opener", KEY), **facts)


def rows(connection: Connection) -> dict[str, list[str]]:
    """Every row of every table, in one spelling for both stores: PostgreSQL's parts of a table are in the table."""
    found = {}
    tables = (name for name in inspect(connection).get_table_names() if not re.search("_([0-9]{15}|rest)$", name))
    for table in sorted(tables):
        lines = []
        for row in connection.execute(text(f'SELECT * FROM "{table}"')).mappings():  # noqa: S608 - own names
            plain = {name: int(value) if isinstance(value, bool) else value for name, value in row.items()}
            lines.append(repr(sorted(plain.items(), key=str)))
        found[table] = sorted(lines)
    return found


def all_rows(bus: Bus) -> dict[str, list[str]]:
    with bus.store.reading() as connection:
        return rows(connection)


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def log_key_of(settings: Settings) -> NoteKey:
    return NoteKey.load(settings.log_key_path, settings.log_origin)


def refused_for(file: Path, settings: Settings, **facts: Any) -> str:
    with pytest.raises(Malformed) as refused:
        bring_back(file, settings, **facts)
    return refused.value.reason


@dataclass(slots=True, kw_only=True)
class Forged:
    """A part that may be changed, sealed anew by somebody who has the public key."""

    kind: str
    name: str
    data: bytes
    columns: list[str]
    rows: list[list[Any]]
    end: dict[str, Any]
    left_out: bool = False


def forge(file: Path, out: Path, change: Callable[[Forged], object], **header: Any) -> None:
    with file.open("rb") as opened, out.open("wb") as written:
        reader = BackupReader(SealedReader(opened, KEY))
        known = {name: value for name, value in reader.header.items() if name != "format"}
        writer = BackupWriter(SealedWriter(written, [KEY.recipient]), {**known, **header})
        for part in reader.parts():
            pieces = list(part.data())
            columns = list(part.facts.get("columns", []))
            table = part.kind == "table"
            forged = Forged(
                kind=part.kind, name=part.name, columns=columns, end=dict(part.end),
                data=b"" if table else b"".join(pieces),
                rows=[row for piece in pieces for row in rows_of(piece, len(columns))] if table else [],
            )  # fmt: skip
            change(forged)
            if not forged.left_out:
                _write(writer, forged)
        writer.close({name: reader.closing[name] for name in reader.closing if name not in ("parts", "ends_sha256")})


def _write(writer: BackupWriter, forged: Forged) -> None:
    facts = {"columns": forged.columns} if forged.kind == "table" else {}
    with writer.part(forged.kind, forged.name, **facts) as part:
        if forged.kind == "table":
            for _, batch in batches(forged.rows):
                part.add(batch)
            part.facts["rows"] = len(forged.rows)
        else:
            part.add(forged.data)
        if "sound" in forged.end:
            part.facts["sound"] = forged.end["sound"]
