"""The registry's tables and the only SQL that touches them.

Rows in, frozen values out. Lists, policies and schemas are JSON text; moments are whole microseconds since 1970 (UTC).
The same statements run on SQLite and PostgreSQL. References between tables are not foreign keys: every change is
checked as a whole against the whole registry (:mod:`registry.changes`) and applied only to the revision it was
checked against, which says more than a foreign key can.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from registry.changes import Change, Changes, RegistryChanged, entry_digest
from registry.directory import Directory
from registry.model import (
    Agency,
    Certificate,
    DeliveryMode,
    Endpoint,
    Entry,
    EventDelivery,
    Grant,
    Ordering,
    Pattern,
    Quota,
    RetryPolicy,
    Service,
    Stage,
    Subscription,
    System,
    dossier_facts,
    dossier_view_from,
    provider_facts,
    provider_from,
)
from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from schemas.message import Grade
from schemas.moment import from_micros, to_micros, utc_now

metadata = MetaData()

agencies = Table(
    "agencies",
    metadata,
    Column("code", String(35), primary_key=True),
    Column("name", Text, nullable=False),
    Column("parent", String(35)),
    Column("aliases", Text, nullable=False),
)

systems = Table(
    "systems",
    metadata,
    Column("code", String(80), primary_key=True),
    Column("name", Text, nullable=False),
    Column("mode", String(20), nullable=False),
    Column("endpoint", Text),
    Column("receives", Text, nullable=False),
    Column("sends", Text, nullable=False, server_default="[]"),
    Column("sends_only", Boolean, nullable=False),
    Column("concurrency", Integer, nullable=False),
    Column("speaks_for_children", Boolean, nullable=False),
    Column("client_secret_hash", Text, nullable=False),
    Column("suspended", Boolean, nullable=False),
)

certificates = Table(
    "certificates",
    metadata,
    Column("key_id", String(64), primary_key=True),
    Column("system", String(80), nullable=False, index=True),
    #: Place in the system's list, so that what is written is what is read back.
    Column("place", Integer, nullable=False),
    Column("pem", Text, nullable=False),
    Column("thumbprint", String(64), nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

services = Table(
    "services",
    metadata,
    Column("code", String(100), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("owner", String(35), nullable=False),
    Column("pattern", String(20), nullable=False),
    Column("stage", String(20), nullable=False),
    Column("grade", String(20), nullable=False),
    Column("ordering", String(20), nullable=False),
    Column("content_types", Text, nullable=False),
    #: JSON text: an object is a JSON Schema, a string is an XSD.
    Column("request_schema", Text),
    Column("reply_schema", Text),
    Column("element", Text, nullable=False, server_default=""),
    Column("reply_element", Text, nullable=False, server_default=""),
    #: JSON text of a registry.model.Provider; its call is ``{"soap": …}`` or ``{"http": …}``.
    Column("provider", Text),
    #: JSON text of a registry.model.DossierView.
    Column("dossier", Text),
    Column("retry", Text, nullable=False),
    Column("max_body_bytes", BigInteger, nullable=False),
    Column("sunset", BigInteger),
)

grants = Table(
    "grants",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("service", String(100), nullable=False),
    Column("grantee", String(35), nullable=False),
    Column("include_children", Boolean, nullable=False),
    Column("receivers", Text, nullable=False),
    Column("purposes", Text, nullable=False),
    Column("valid_from", BigInteger),
    Column("expires_at", BigInteger),
    Column("per_minute", Integer, nullable=False),
    Column("per_day", Integer, nullable=False),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("system", String(80), nullable=False),
    Column("types", Text, nullable=False),
    Column("delivery", String(20), nullable=False),
    Column("units", Text, nullable=False),
    Column("procedures", Text, nullable=False),
    Column("senders", Text, nullable=False),
)

#: Who changed what, and when. Rows are only ever added.
registry_events = Table(
    "registry_events",
    metadata,
    # SQLite numbers rows by itself only in a column of exactly the type INTEGER.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("revision", BigInteger, nullable=False),
    Column("occurred_at", BigInteger, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("action", String(20), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("subject", String(120), nullable=False),
    Column("before_sha256", String(64), nullable=False),
    Column("after_sha256", String(64), nullable=False),
    #: Who may be told besides the operator: agencies with a space between, EVERYBODY, or NULL: nobody.
    Column("concerns", Text),
    Index("registry_events_by_revision", "revision", "id"),
)

registry_revision = Table(
    "registry_revision",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
)

#: The one row of registry_revision.
REVISION_ROW = 1
#: The option by which ``bus.store`` lets a connection read without SQLite's write lock.
READ_ONLY: dict[str, Any] = {"lgsp_read": True}


#: In ``registry_events.concerns``.
EVERYBODY = "*"
#: The kind of events that are no entries.
_SECRET = "Secret"  # noqa: S105 - a word


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRecord:
    """An entry came, changed or went."""

    revision: int
    #: Within its revision, from 0.
    number: int
    occurred_at: datetime
    action: str
    kind: str
    subject: str
    after_sha256: str
    #: Agencies that may be told (``H99.15+``: those below it too) or EVERYBODY.
    concerns: frozenset[str]

    @property
    def place(self) -> tuple[int, int]:
        return self.revision, self.number

    def may_be_told(self, agency: AgencyCode, ancestors: Iterable[AgencyCode]) -> bool:
        """May this agency, below these ones, be told?"""
        return not self.concerns.isdisjoint({EVERYBODY, agency, f"{agency}+", *(f"{above}+" for above in ancestors)})


class RegistryStore:
    """Reads snapshots of the registry and applies checked changes to it. Safe under threads, as its engine is."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reader = engine.execution_options(**READ_ONLY)

    def is_ready(self) -> bool:
        """Have the registry's tables been made (``lgsp init`` makes them)?"""
        return inspect(self._engine).has_table(registry_revision.name)

    def revision(self) -> int:
        """The number of changes made so far; one read of one row. 0: nothing was ever registered."""
        with self._reader.connect() as connection:
            return _revision(connection)

    def load(self, *, sandbox_open: bool = False, earlier: Directory | None = None) -> Directory:
        """Everything at one revision.

        Neither SQLite (between statements) nor PostgreSQL (READ COMMITTED) promises one picture to several reads, so
        the revision is read before and after. Should it move three times in a row, the older number is kept with the
        newer rows: the next look at the revision differs and loads again.
        """
        for _ in range(3):
            with self._reader.connect() as connection:
                before = _revision(connection)
                entries = _read_everything(connection)
                if _revision(connection) == before:
                    break
        return Directory(entries, revision=before, sandbox_open=sandbox_open, earlier=earlier)

    def apply(self, changes: Changes, actor: str, also: Callable[[Connection], object] | None = None) -> int:
        """Make checked changes, all or none, and return the new revision. ``also`` writes in the same transaction.

        Idempotent in effect: changes planned once and applied twice raise RegistryChanged the second time, and a new
        plan of the same manifests is empty. ``actor``: who is answerable, as written to the audit trail.
        """
        if not changes.steps:
            return self.revision()
        with self._engine.begin() as connection:
            revision = _move_revision(connection, changes.based_on_revision)
            _delete_rows(connection, [step.before for step in changes.steps if step.before is not None])
            _insert_rows(connection, [step.after for step in changes.steps if step.after is not None])
            connection.execute(
                insert(registry_events), [_event_row(connection, step, actor, revision) for step in changes.steps]
            )
            if also is not None:
                also(connection)
        return revision

    def events(self, *, subject: str = "", limit: int = 100) -> list[Mapping[str, Any]]:
        """The audit trail, newest first, of one subject (``H99.15``, ``dossier.transfer/1``) or of all."""
        query = select(registry_events).order_by(registry_events.c.id.desc()).limit(limit)
        if subject:
            query = query.where(registry_events.c.subject == subject)
        with self._reader.connect() as connection:
            return [
                {**row, "occurred_at": from_micros(row["occurred_at"])} for row in connection.execute(query).mappings()
            ]

    def changes_since(self, revision: int, number: int, most: int) -> list[ChangeRecord]:
        """What was changed after the given place, in order; of the changes of one revision some may be left out at the
        end. Secrets are not among them."""
        query = (
            select(registry_events)
            .where(registry_events.c.revision >= revision, registry_events.c.kind != _SECRET)
            .order_by(registry_events.c.revision, registry_events.c.id)
            .limit(most + number + 1)
        )
        with self._reader.connect() as connection:
            rows = connection.execute(query).all()
        return [record for record in _numbered(rows) if record.place > (revision, number)][:most]

    def secret(self, name: str) -> bytes | None:
        """A connector's secret as it was put: sealed. Opening it is for ``security.secrets``."""
        with self._reader.connect() as connection:
            return connection.execute(select(secrets.c.sealed).where(secrets.c.name == name)).scalar_one_or_none()

    def secret_names(self) -> list[str]:
        with self._reader.connect() as connection:
            return list(connection.execute(select(secrets.c.name).order_by(secrets.c.name)).scalars())

    def put_secret(
        self, name: str, sealed: bytes, actor: str = "", also: Callable[[Connection], object] | None = None
    ) -> None:
        """Keep a sealed secret under its name, in place of an earlier one. The audit trail holds no digest of it.
        ``also`` writes in the same transaction."""
        row = {"sealed": sealed, "updated_at": to_micros(utc_now())}
        with self._engine.begin() as connection:
            replaced = connection.execute(update(secrets).where(secrets.c.name == name).values(row)).rowcount
            if not replaced:
                connection.execute(insert(secrets).values(name=name, **row))
            event = _event(actor, _revision(connection), "change" if replaced else "add", _SECRET, name)
            connection.execute(insert(registry_events).values(event))
            if also is not None:
                also(connection)


def _revision(connection: Connection) -> int:
    query = select(registry_revision.c.revision).where(registry_revision.c.id == REVISION_ROW)
    return connection.execute(query).scalar_one_or_none() or 0


def _move_revision(connection: Connection, based_on: int) -> int:
    """From the revision that the changes were checked against to the next; its row lock makes appliers queue."""
    moved = connection.execute(
        update(registry_revision)
        .where(registry_revision.c.id == REVISION_ROW, registry_revision.c.revision == based_on)
        .values(revision=based_on + 1)
    ).rowcount
    if moved:
        return based_on + 1
    if based_on:
        raise RegistryChanged("registry-changed")
    try:
        connection.execute(insert(registry_revision).values(id=REVISION_ROW, revision=1))
    except IntegrityError:
        raise RegistryChanged("registry-changed") from None
    return 1


def _read_everything(connection: Connection) -> list[Entry]:
    held: dict[str, list[Certificate]] = {}
    for row in connection.execute(select(certificates).order_by(certificates.c.system, certificates.c.place)):
        held.setdefault(row.system, []).append(_certificate(row))
    return [
        *map(_agency, connection.execute(select(agencies))),
        *(_system(row, tuple(held.get(row.code, ()))) for row in connection.execute(select(systems))),
        *map(_service, connection.execute(select(services))),
        *map(_grant, connection.execute(select(grants))),
        *map(_subscription, connection.execute(select(subscriptions))),
    ]


# Rows to values


def _agency(row: Row[Any]) -> Agency:
    return Agency(
        code=AgencyCode(row.code),
        name=row.name,
        parent=AgencyCode(row.parent) if row.parent else None,
        aliases=tuple(json.loads(row.aliases)),
    )


def _system(row: Row[Any], held: tuple[Certificate, ...]) -> System:
    return System(
        code=SystemCode(row.code),
        name=row.name,
        mode=DeliveryMode(row.mode),
        endpoint=Endpoint(**json.loads(row.endpoint)) if row.endpoint else None,
        certificates=held,
        receives=tuple(map(ServiceCode, json.loads(row.receives))),
        sends=tuple(map(ServiceCode, json.loads(row.sends))),
        sends_only=row.sends_only,
        concurrency=row.concurrency,
        speaks_for_children=row.speaks_for_children,
        client_secret_hash=row.client_secret_hash,
        suspended=row.suspended,
    )


def _certificate(row: Row[Any]) -> Certificate:
    return Certificate(
        key_id=row.key_id,
        pem=row.pem,
        thumbprint=row.thumbprint,
        not_before=from_micros(row.not_before),
        not_after=from_micros(row.not_after),
        revoked_at=_moment(row.revoked_at),
    )


def _service(row: Row[Any]) -> Service:
    return Service(
        code=ServiceCode(row.code),
        version=row.version,
        name=row.name,
        owner=AgencyCode(row.owner),
        pattern=Pattern(row.pattern),
        stage=Stage(row.stage),
        grade=Grade(row.grade),
        ordering=Ordering(row.ordering),
        content_types=tuple(json.loads(row.content_types)),
        schema=json.loads(row.request_schema) if row.request_schema else None,
        reply_schema=json.loads(row.reply_schema) if row.reply_schema else None,
        element=row.element,
        reply_element=row.reply_element,
        provider=provider_from(json.loads(row.provider)) if row.provider else None,
        dossier=dossier_view_from(json.loads(row.dossier)) if row.dossier else None,
        retry=RetryPolicy(**json.loads(row.retry)),
        max_body_bytes=row.max_body_bytes,
        sunset=_moment(row.sunset),
    )


def _grant(row: Row[Any]) -> Grant:
    return Grant(
        id=row.id,
        service=ServiceCode(row.service),
        grantee=AgencyCode(row.grantee),
        include_children=row.include_children,
        receivers=tuple(map(AgencyCode, json.loads(row.receivers))),
        purposes=tuple(json.loads(row.purposes)),
        valid_from=_moment(row.valid_from),
        expires_at=_moment(row.expires_at),
        quota=Quota(per_minute=row.per_minute, per_day=row.per_day),
    )


def _subscription(row: Row[Any]) -> Subscription:
    return Subscription(
        id=row.id,
        system=SystemCode(row.system),
        types=tuple(json.loads(row.types)),
        delivery=EventDelivery(row.delivery),
        units=tuple(map(AgencyCode, json.loads(row.units))),
        procedures=tuple(json.loads(row.procedures)),
        senders=tuple(map(AgencyCode, json.loads(row.senders))),
    )


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


# Values to rows


def _insert_rows(connection: Connection, entries: Iterable[Entry]) -> None:
    rows: dict[Table, list[dict[str, Any]]] = {}
    for entry in entries:
        rows.setdefault(_table(entry), []).append(_row(entry))
        if isinstance(entry, System) and entry.certificates:
            rows.setdefault(certificates, []).extend(_certificate_rows(entry))
    for table, added in rows.items():
        connection.execute(insert(table), added)


def _delete_rows(connection: Connection, entries: Iterable[Entry]) -> None:
    keys: dict[Table, list[dict[str, Any]]] = {}
    for entry in entries:
        table = _table(entry)
        keys.setdefault(table, []).append(
            {f"old_{column.name}": _row(entry)[column.name] for column in table.primary_key}
        )
        if isinstance(entry, System) and entry.certificates:
            keys.setdefault(certificates, []).extend({"old_key_id": held.key_id} for held in entry.certificates)
    for table, removed in keys.items():
        matches = [column == bindparam(f"old_{column.name}") for column in table.primary_key]
        connection.execute(delete(table).where(*matches), removed)


def _table(entry: Entry) -> Table:
    return {
        Agency: agencies,
        System: systems,
        Service: services,
        Grant: grants,
        Subscription: subscriptions,
    }[type(entry)]


def _row(entry: Entry) -> dict[str, Any]:
    match entry:
        case Agency():
            return {
                "code": entry.code,
                "name": entry.name,
                "parent": entry.parent,
                "aliases": _json(entry.aliases),
            }
        case System():
            return _system_row(entry)
        case Service():
            return _service_row(entry)
        case Grant():
            return {
                "id": entry.id,
                "service": entry.service,
                "grantee": entry.grantee,
                "include_children": entry.include_children,
                "receivers": _json(entry.receivers),
                "purposes": _json(entry.purposes),
                "valid_from": _micros(entry.valid_from),
                "expires_at": _micros(entry.expires_at),
                "per_minute": entry.quota.per_minute,
                "per_day": entry.quota.per_day,
            }
        case Subscription():
            return {
                "id": entry.id,
                "system": entry.system,
                "types": _json(entry.types),
                "delivery": entry.delivery.value,
                "units": _json(entry.units),
                "procedures": _json(entry.procedures),
                "senders": _json(entry.senders),
            }


def _system_row(system: System) -> dict[str, Any]:
    endpoint = system.endpoint
    return {
        "code": system.code,
        "name": system.name,
        "mode": system.mode.value,
        "endpoint": _json({name: getattr(endpoint, name) for name in endpoint.__slots__}) if endpoint else None,
        "receives": _json(system.receives),
        "sends": _json(system.sends),
        "sends_only": system.sends_only,
        "concurrency": system.concurrency,
        "speaks_for_children": system.speaks_for_children,
        "client_secret_hash": system.client_secret_hash,
        "suspended": system.suspended,
    }


def _certificate_rows(system: System) -> list[dict[str, Any]]:
    return [
        {
            "key_id": held.key_id,
            "system": system.code,
            "place": place,
            "pem": held.pem,
            "thumbprint": held.thumbprint,
            "not_before": to_micros(held.not_before),
            "not_after": to_micros(held.not_after),
            "revoked_at": _micros(held.revoked_at),
        }
        for place, held in enumerate(system.certificates)
    ]


def _service_row(service: Service) -> dict[str, Any]:
    return {
        "code": service.code,
        "version": service.version,
        "name": service.name,
        "owner": service.owner,
        "pattern": service.pattern.value,
        "stage": service.stage.value,
        "grade": service.grade.value,
        "ordering": service.ordering.value,
        "content_types": _json(service.content_types),
        "request_schema": None if service.schema is None else _json(service.schema),
        "reply_schema": None if service.reply_schema is None else _json(service.reply_schema),
        "element": service.element,
        "reply_element": service.reply_element,
        "provider": None if service.provider is None else _json(provider_facts(service.provider)),
        "dossier": None if service.dossier is None else _json(dossier_facts(service.dossier)),
        "retry": _json({name: getattr(service.retry, name) for name in service.retry.__slots__}),
        "max_body_bytes": service.max_body_bytes,
        "sunset": _micros(service.sunset),
    }


def _event_row(connection: Connection, step: Change, actor: str, revision: int) -> dict[str, Any]:
    return {
        **_event(actor, revision, step.action.value, step.kind, step.subject),
        "before_sha256": entry_digest(step.before) if step.before else "",
        "after_sha256": entry_digest(step.after) if step.after else "",
        "concerns": _concerns(connection, step),
    }


def _event(actor: str, revision: int, action: str, kind: str, subject: str) -> dict[str, Any]:
    return {
        "revision": revision,
        "occurred_at": to_micros(utc_now()),
        "actor": actor,
        "action": action,
        "kind": kind,
        "subject": subject,
        "before_sha256": "",
        "after_sha256": "",
        "concerns": None,
    }


def _concerns(connection: Connection, step: Change) -> str:
    """Whom the registry shows both what was and what is. ``H99.15+``: those below it too."""
    told: dict[str, None] = {}
    for entry in filter(None, (step.before, step.after)):
        match entry:
            case Grant():
                owners = select(services.c.owner).where(services.c.code == entry.service)
                told[entry.grantee + ("+" if entry.include_children else "")] = None
                told.update(dict.fromkeys(connection.execute(owners).scalars()))
            case Subscription():
                told[entry.system.agency] = None
            case Service() if entry.stage is Stage.DRAFT:
                told[entry.owner] = None
            case _:
                return EVERYBODY
    return " ".join(told)


def _numbered(rows: Iterable[Row[Any]]) -> Iterator[ChangeRecord]:
    """Numbers count from 0 within a revision: what a sequence of ids leaves out for a secret is not seen here."""
    revision, number = -1, 0
    for row in rows:
        revision, number = row.revision, number + 1 if row.revision == revision else 0
        yield ChangeRecord(
            revision=row.revision,
            number=number,
            occurred_at=from_micros(row.occurred_at),
            action=row.action,
            kind=row.kind,
            subject=row.subject,
            after_sha256=row.after_sha256,
            concerns=frozenset((row.concerns or "").split()),
        )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else to_micros(moment)
