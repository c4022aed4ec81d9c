"""A store with a million messages, made in minutes: a province of thirty agencies and thirty days.

::

    python -m benchmarks.million --home /tmp/million                                  # SQLite
    python -m benchmarks.million --home /tmp/million-pg --store-url postgresql+psycopg://…

Rows go into the tables in bulk, past the ledger, and are what it would have written: every message has its evidence,
its receipts, its attempts, its part in the figures; proofs verify. ``--sign-every N``: only every Nth message is really
signed, the others bear a signature of the same length that does not hold (signing a million costs some minutes).
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from sqlalchemy import Connection, Table, update

from bus.assembly import Bus, open_bus
from bus.figures import Figures
from bus.finding import Kind
from bus.retention import Retention
from bus.settings import Settings, load_settings
from bus.setup import initialise
from bus.tables import (
    attempts,
    counters,
    deliveries,
    delivery_id,
    dossier_events,
    exchanges,
    flow_hours,
    outbox,
    payloads,
    refusals,
    search_keys,
)
from registry.changes import plan_changes
from registry.model import Agency, Certificate, Entry, Grant, Pattern, Service, System
from schemas.identifiers import AgencyCode, DossierCode, MessageId, ServiceCode, SystemCode
from schemas.message import Grade, Manifest, sha256_hex
from schemas.moment import VIETNAM, from_micros, to_micros, to_wire, utc_now
from security.certificates import read_certificate
from security.evidence.entries import EvidenceEntry
from security.evidence.log import evidence_head, evidence_leaves
from security.keys import KeyRing, SigningKey
from security.signing import MANIFEST_TYPE, RECEIPT_TYPE, sign_compact

PROVINCE: Final = AgencyCode("H99")
PORTAL: Final = AgencyCode("G99")
OFFICES: Final = tuple(AgencyCode(f"H99.{number}") for number in range(10, 38))
PROCEDURES: Final = tuple(f"1.{number:06d}" for number in range(4000, 4040))
#: What a dossier's messages are, in order: service, hours after it came in.
_STORY: Final = (
    ("dossier.received", 0.0), ("dossier.progress", 3.0), ("payment.requested", 5.0), ("payment.notice", 9.0),
    ("dossier.finished", 60.0), ("post.tracking", 70.0),
)  # fmt: skip
_NOTES: Final = ("document.send", "population.changed", "land.changed", "tax.notice")
SERVICES: Final = (*(service for service, _ in _STORY), *_NOTES)
DAYS: Final = 30
_SECOND: Final = 1_000_000
_ROWS_AT_ONCE: Final = 20_000
_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000)

#: What a message says of a dossier beside which, whose and when, in the order of the table.
_SAID: Final = [column.name for column in dossier_events.columns][5:]
_encoder: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def _encode(claims: dict[str, Any]) -> bytes:
    return _encoder.encode(claims).encode()


def citizen_of(number: int) -> str:
    """The citizen's number in the messages of a dossier: reserved for tests, one for each dossier."""
    return f"099199{number % 1_000_000:06d}"


def system_of(agency: str) -> SystemCode:
    return SystemCode.unchecked(f"{agency}/phan-mem")


def make(settings: Settings, count: int, *, sign_every: int = 1, tell: Callable[[str], None] = print) -> None:
    """Fill a new bus with so many messages, up to now."""
    _old_ring(settings)
    initialise(settings)
    bus = open_bus(settings)
    try:
        keys = _register(bus)
        if not bus.store.is_sqlite:
            Retention(bus.store, bus.log, bodies_months=0, events_months=0).make_room(utc_now())
        writer = _Writer(bus=bus, keys=keys, sign_every=sign_every)
        started = time.monotonic()
        for number, (at, dossier, step) in enumerate(_timetable(count, utc_now())):
            writer.message(number, at, dossier, step)
            if number % 100_000 == 99_999:
                tell(f"{number + 1:,} messages, {time.monotonic() - started:.0f} s")
        writer.end()
        bus.store.write(Figures(bus.store).add_up, utc_now())
        tell(f"{count:,} messages, {writer.position:,} leaves, {time.monotonic() - started:.0f} s")
    finally:
        bus.close()


def _old_ring(settings: Settings) -> None:
    """The bus's key is older than its first message, else no receipt of then holds."""
    ring = KeyRing.create(settings.ring_folder, SystemCode(settings.system))
    aged(ring.current, settings.system).save(settings.ring_folder / f"{ring.current.key_id}.pem")


def aged(key: SigningKey, name: str) -> SigningKey:
    """The same key with a certificate that has been valid for as long as there are messages."""
    private = load_pem_private_key(key.to_pem(), password=None)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = utc_now() - timedelta(days=DAYS + 5)
    builder = (
        x509.CertificateBuilder(subject, subject)
        .public_key(cast(Any, private).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=1000))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    certificate = builder.sign(cast(Any, private), hashes.SHA256())
    return key.with_certificate(certificate.public_bytes(Encoding.PEM).decode("ascii"))


def _register(bus: Bus) -> dict[AgencyCode, SigningKey]:
    agencies = [
        Agency(code=PROVINCE, name="Tỉnh Một Triệu"),
        Agency(code=PORTAL, name="Cổng Dịch vụ công"),
        *(Agency(code=code, name=f"Sở, ngành số {code[4:]}", parent=PROVINCE) for code in OFFICES),
    ]
    keys = {
        agency.code: aged(SigningKey.generate(name=system_of(agency.code)), system_of(agency.code))
        for agency in agencies
    }
    entries: list[Entry] = [*agencies]
    for agency in agencies:
        certificate = read_certificate(keys[agency.code].certificate_pem)
        held = Certificate(
            key_id=certificate.key_id, pem=certificate.pem, thumbprint=certificate.thumbprint,
            not_before=certificate.not_before, not_after=certificate.not_after,
        )  # fmt: skip
        entries.append(System(code=system_of(agency.code), name=f"Phần mềm của {agency.name}", certificates=(held,)))
    for name in SERVICES:
        code = ServiceCode(name)
        entries.append(Service(code=code, name=f"Dịch vụ {name}", version=1, owner=PROVINCE, pattern=Pattern.ONE_WAY))
        entries += [Grant(id=f"{name}-{office}", service=code, grantee=office) for office in OFFICES]
    bus.registry.apply(plan_changes(bus.registry.load(), entries), "benchmark")
    bus.directory.refresh()
    return keys


def _timetable(count: int, now: datetime) -> list[tuple[int, int, int]]:
    """(moment in microseconds, dossier or -1, step), in order: three messages in five belong to a dossier."""
    chance = random.Random(22)
    first = now - timedelta(days=DAYS)
    end = to_micros(now) - 5 * _SECOND
    rows: list[tuple[int, int, int]] = []
    for dossier in itertools.count():
        if len(rows) >= count * 3 // 5:
            break
        begins = _office_moment(chance, first)
        for step, (_, hours) in enumerate(_STORY):
            at = begins + int(hours * 3600 * _SECOND * (0.5 + chance.random()))
            if at < end:
                rows.append((at, dossier, step))
    while len(rows) < count:
        at = _office_moment(chance, first)
        if at < end:
            rows.append((at, -1, 0))
    return sorted(rows[:count])


def _office_moment(chance: random.Random, first: datetime) -> int:
    """Mostly between seven and five on working days."""
    while True:
        at = first + timedelta(seconds=chance.random() * DAYS * 86400)
        local = at.astimezone(VIETNAM)
        if (local.weekday() < 5 and 7 <= local.hour < 17) or chance.random() < 0.06:
            return to_micros(at)


@dataclass(slots=True, kw_only=True)
class _Writer:
    """Rows of all tables, written some thousands at a time."""

    bus: Bus
    keys: dict[AgencyCode, SigningKey]
    sign_every: int
    position: int = 0
    rows: dict[Table, list[tuple[Any, ...]]] = field(default_factory=lambda: defaultdict(list))
    hours: Counter[tuple[int, str, str, str, str]] = field(default_factory=Counter)
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    latest: int = 0

    def message(self, number: int, at: int, dossier: int, step: int) -> None:
        """A message with everything that follows from it."""
        chance = self.chance
        office = OFFICES[dossier % len(OFFICES) if dossier >= 0 else int(len(OFFICES) * chance.random() ** 2)]
        service = _STORY[step][0] if dossier >= 0 else _NOTES[number % len(_NOTES)]
        to = PORTAL if dossier >= 0 else OFFICES[int(len(OFFICES) * chance.random() ** 2)]
        if number % 997 == 0:
            self._refused(at, office, service, number)
            return
        code = f"{office}-261101-{dossier:06d}" if dossier >= 0 else None
        citizen = citizen_of(dossier if dossier >= 0 else number)
        exchange, message_id, manifest_sha256 = self._accepted(number, at, office, to, service, code, citizen)
        self._delivered(number, at, exchange, message_id, manifest_sha256, office, to, service)
        if code is not None:
            self._said(exchange, at, code, office, dossier, step)
        self.latest = at
        if len(self.rows[exchanges]) >= _ROWS_AT_ONCE:
            self._flush()

    def _leaf(self, kind: Any, facts: dict[str, Any]) -> str:
        hash_, entry = EvidenceEntry(kind=kind, facts=facts).leaf()
        self.rows[evidence_leaves].append((self.position, hash_, entry))
        self.position += 1
        return hash_.hex()

    def _signed(self, number: int, claims: dict[str, Any], typ: str, key: Any) -> str:
        payload = _encode(claims)
        if number % self.sign_every == 0:
            return sign_compact(payload, typ, key)
        return sign_compact(payload, typ, _Pretending(key))

    def _accepted(
        self, number: int, at: int, sender: AgencyCode, to: AgencyCode, service: str, code: str | None, citizen: str
    ) -> tuple[int, str, str]:
        moment, key = from_micros(at), self.keys[sender]
        message_id = f"{at // 1000:012x}{0x7000 | number & 0xFFF:04x}{0x8000 | number >> 12 & 0x3FFF:04x}{number:012x}"
        message_id = "-".join((message_id[:8], message_id[8:12], message_id[12:16], message_id[16:20], message_id[20:]))
        document = {"MaHoSo": code, "NoiDung": "Thông báo về hồ sơ, bản số hoá kèm theo. " * 8, "So": number}
        document["SoDinhDanh"] = citizen
        body = json.dumps(document, ensure_ascii=False).encode()
        manifest = Manifest(
            message_id=MessageId.unchecked(message_id),
            sender=sender,
            receivers=(to,),
            service=ServiceCode.unchecked(service),
            service_version=1,
            issued_at=moment.replace(microsecond=0),
            content_type="application/json",
            body_sha256=hashlib.sha256(body).hexdigest(),
            body_length=len(body),
            dossier=DossierCode.unchecked(code) if code else None,
        )
        claims = manifest.to_claims()
        manifest_sha256 = sha256_hex(_encode(claims))
        exchange = self.position
        leaf = self._leaf(
            "accepted",
            {
                "message_id": message_id, "manifest_sha256": manifest_sha256, "body_sha256": manifest.body_sha256,
                "sender": sender, "system": system_of(sender), "grade": "signed", "key_id": key.key_id,
                "at": to_wire(moment),
            },
        )  # fmt: skip
        receipt = {
            "version": 1, "message_id": message_id, "manifest_sha256": manifest_sha256, "state": "accepted",
            "received_at": to_wire(moment), "receivers": [to], "leaf": leaf, "iat": int(moment.timestamp()),
        }  # fmt: skip
        trace = hashlib.sha256(message_id.encode()).hexdigest()
        self.rows[exchanges].append(
            (
                exchange, message_id, manifest.facts_sha256(), manifest_sha256,
                self._signed(number, claims, MANIFEST_TYPE, key),
                self._signed(number, receipt, RECEIPT_TYPE, self.bus.ring.current),
                sender, system_of(sender), service, 1, Pattern.ONE_WAY.value, Grade.SIGNED.value, code, at,
                f"00-{trace[:32]}-{trace[32:48]}-01",
            )
        )  # fmt: skip
        self.rows[payloads].append((exchange, body))
        self._found_by(exchange, (Kind.TRACE, trace[:32]), (Kind.CITIZEN, citizen))
        self._add(at, sender, service, system_of(to), "accepted")
        return exchange, message_id, manifest_sha256

    def _delivered(
        self, number: int, at: int, exchange: int, message_id: str, manifest_sha256: str, sender: str, to: str,
        service: str,
    ) -> None:  # fmt: skip
        system, delivery = system_of(to), delivery_id(exchange, 0)
        took = int(8000 * (1 - self.chance.random()) ** -0.7)
        done = at + took
        if number % 2003 == 5:
            self._dead(number, at, delivery, exchange, message_id, manifest_sha256, to, sender, service)
            return
        if at > to_micros(utc_now()) - 60 * _SECOND:
            self._waiting(delivery, exchange, to, at)
            return
        moment, facts = from_micros(done), {"message_id": message_id, "manifest_sha256": manifest_sha256}
        empty = sha256_hex(b"")
        leaf_at = self.position
        leaf = self._leaf(
            "delivered", {**facts, "receiver": to, "attempt": 1, "at": to_wire(moment), "reply_sha256": empty}
        )
        receipt = {
            "version": 1, **facts, "state": "delivered", "receiver": to, "attempt": 1, "delivered_at": to_wire(moment),
            "reply_sha256": empty, "leaf": leaf, "iat": int(moment.timestamp()),
        }  # fmt: skip
        signed = self._signed(number, receipt, RECEIPT_TYPE, self.bus.ring.current)
        self.rows[deliveries].append(
            (delivery, exchange, to, system, "delivered", 1, None, None, 0, at, None, done, signed, leaf_at)
        )
        self.rows[attempts].append((delivery, 1, at + took // 2, done, "delivered", None))
        self._add(done, sender, service, system, "delivered")
        bound = next((str(bound) for bound in _BUCKETS if took <= bound * 1000), "+Inf")
        self._add(done, sender, service, system, f"ms <= {bound}")

    def _dead(
        self, number: int, at: int, delivery: int, exchange: int, message_id: str, manifest_sha256: str, to: str,
        sender: str, service: str,
    ) -> None:  # fmt: skip
        reason = ("provider-answered", "connection-refused")[number % 2]
        slug = ("provider-rejected", "provider-unavailable")[number % 2]
        problem = json.dumps({"problem": slug, "reason": reason, "facts": {}})
        died, system = at + 900 * _SECOND, system_of(to)
        leaf_at = self.position
        self._leaf(
            "dead",
            {
                "message_id": message_id, "manifest_sha256": manifest_sha256, "receiver": to, "attempts": 3,
                "reason": reason, "at": to_wire(from_micros(died)),
            },
        )  # fmt: skip
        self.rows[deliveries].append(
            (delivery, exchange, to, system, "dead", 3, None, None, 0, at, problem, died, None, leaf_at)
        )
        for attempt, outcome in enumerate(("waiting", "waiting", "dead"), 1):
            end = at + attempt * 300 * _SECOND
            self.rows[attempts].append((delivery, attempt, end - _SECOND, end, outcome, problem))
            self._add(end, sender, service, system, "died" if outcome == "dead" else "retried")

    def _waiting(self, delivery: int, exchange: int, to: str, at: int) -> None:
        self.rows[deliveries].append(
            (delivery, exchange, to, system_of(to), "waiting", 0, None, None, 0, at, None, None, None, None)
        )
        self.rows[outbox].append((delivery, delivery, system_of(to), at, None))

    def _refused(self, at: int, sender: str, service: str, number: int) -> None:
        reason = "grant-missing"
        leaf_at = self.position
        message_id = f"{at // 1000:012x}"
        facts = {"reason": reason, "body_sha256": sha256_hex(b""), "at": to_wire(from_micros(at)), "sender": sender}
        self._leaf("refused", facts)
        trace = hashlib.sha256(f"{message_id}{number}".encode()).hexdigest()[:32]
        self.rows[refusals].append((leaf_at, at, "not-permitted", reason, sender, service, None, None, trace))
        self._found_by(leaf_at, (Kind.TRACE, trace), (Kind.CITIZEN, citizen_of(number)))
        self._add(at, sender, service, "", "refused")

    def _found_by(self, position: int, *named: tuple[Kind, str]) -> None:
        self.rows[search_keys] += [(self.bus.finder.key(kind, text), position) for kind, text in named]

    def _said(self, exchange: int, at: int, code: str, unit: str, dossier: int, step: int) -> None:
        facts: dict[str, Any] = {"procedure": PROCEDURES[dossier % len(PROCEDURES)], "synchronises": 0}
        day = 86400 * _SECOND
        match step:
            case 0:
                facts |= {"status": "2", "received": at, "due": at + 3 * day, "channel": "12"[dossier % 3 > 0]}
                facts["synchronises"] = 1
            case 1:
                facts |= {"status": "4", "holder": unit}
            case 2 | 3:
                facts |= {"payment_reference": f"TT{dossier:08d}", "amount": 8000 + 1000 * (dossier % 90)}
                facts["payment_state"] = "requested" if step == 2 else "failed" if dossier % 50 == 0 else "paid"
            case 4:
                facts |= {"status": "9" if dossier % 4 else "10", "finished": at, "synchronises": 1}
            case 5:
                facts |= {"parcel": f"VN{dossier:09d}", "parcel_state": "đã phát" if dossier % 5 else "đang chuyển"}
        self.rows[dossier_events].append((exchange, 0, code, unit, at, *map(facts.get, _SAID)))

    def _add(self, at: int, sender: str, service: str, system: str, what: str) -> None:
        self.hours[at // 3_600_000_000, sender, service, system, what] += 1

    def end(self) -> None:
        self.rows[flow_hours] = [(*flow, value) for flow, value in sorted(self.hours.items())]
        totals: Counter[tuple[str, str]] = Counter()
        for (_, _, service, _, what), value in self.hours.items():
            if what in ("accepted", "delivered", "retried", "died"):
                totals[what, service if what == "accepted" else ""] += value
        self.rows[counters] = [(*labels, value) for labels, value in totals.items()]
        self._flush()

    def _flush(self) -> None:
        """Everything so far, with a checkpoint over it, in the time of its messages."""
        with self.bus.store.writing(unhurried=True) as connection:
            for table in (exchanges, payloads, deliveries, outbox, attempts, dossier_events, refusals, evidence_leaves,
                          search_keys, flow_hours, counters):  # fmt: skip
                load(connection, table, self.rows.pop(table, []))
            connection.execute(
                update(evidence_head).where(evidence_head.c.name == "appended").values(size=self.position)
            )
            self.bus.log.seal(connection, from_micros(self.latest) + timedelta(seconds=1))


@dataclass(frozen=True, slots=True)
class _Pretending:
    """A key that does not sign."""

    key: Any

    @property
    def key_id(self) -> str:
        return str(self.key.key_id)

    @property
    def algorithm(self) -> Any:
        return self.key.algorithm

    @property
    def thumbprint(self) -> str:
        return str(self.key.thumbprint)

    def sign(self, _data: bytes) -> bytes:
        return bytes(64)


def load(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Rows with a value for every column of the table, in its order."""
    if not rows:
        return
    names = [column.name for column in table.columns]
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(names))
        driver.executemany(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})", rows)  # noqa: S608
        return
    with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} ({', '.join(names)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.million", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="a new home folder")
    parser.add_argument("--store-url", default="", help="an empty PostgreSQL database; else SQLite in the home")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--sign-every", type=int, default=1)
    options = parser.parse_args(arguments)
    if (options.home / "lgsp.db").exists():
        parser.error("there is a store already")
    environment = {"LGSP_HOME": str(options.home)}
    if options.store_url:
        environment["LGSP_STORE_URL"] = options.store_url
    make(load_settings(environ=environment), options.count, sign_every=options.sign_every)
    return 0


if __name__ == "__main__":
    sys.exit(main())
