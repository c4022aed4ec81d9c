"""The ledger's tables. Moments are whole microseconds (``schemas.moment``), digests lower-case hex.

::

    exchanges 1 ── n deliveries 1 ── n attempts
        │ 1              │ 1
        ├── payloads     ├── 0..1 outbox   (a row: this delivery is due at a moment)
        │                └── 0..1 replies  (request-reply: the provider's exact answer)
        └── 0..n dossier_events            (what it says of dossiers, where its service has a view)

An exchange's id is the position of its leaf in the evidence log; a delivery's id is its exchange's id and the number of
the receiver in one integer (:func:`delivery_id`), so a batch of messages needs no round trip to learn its ids.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    literal_column,
    text,
)

metadata = MetaData()

#: SQLite gives a rowid only to INTEGER; PostgreSQL needs BIGINT for the same range.
BigId = BigInteger().with_variant(Integer, "sqlite")

exchanges = Table(
    "exchanges",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=False),
    Column("message_id", Text, nullable=False, unique=True),
    Column("facts_sha256", Text, nullable=False),
    Column("manifest_sha256", Text, nullable=False),
    Column("manifest", Text, nullable=False),
    Column("receipt", Text, nullable=False),
    Column("sender", Text, nullable=False),
    Column("sender_system", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("service_version", Integer, nullable=False),
    Column("pattern", Text, nullable=False),
    Column("grade", Text, nullable=False),
    Column("dossier", Text),
    Column("received_at", BigInteger, nullable=False),
    Column("traceparent", Text, nullable=False),
    Index("exchanges_by_sender", "sender", "id"),
    Index("exchanges_of_service", "service", "id"),
    Index("exchanges_by_dossier", "dossier", "id", sqlite_where=text("dossier IS NOT NULL"),
          postgresql_where=text("dossier IS NOT NULL")),
    Index("exchanges_by_service", "service", "received_at"),
)  # fmt: skip

#: Apart from the exchange: a body may be erased, and scans of exchanges need not read it.
payloads = Table(
    "payloads",
    metadata,
    Column("exchange_id", BigId, ForeignKey("exchanges.id"), primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=False),
    Column("exchange_id", BigId, ForeignKey("exchanges.id"), nullable=False),
    Column("receiver", Text, nullable=False),
    Column("system", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("lease_until", BigInteger),
    Column("ordering_key", Text),
    Column("attempts_before", Integer, nullable=False),
    Column("retry_since", BigInteger, nullable=False),
    Column("problem", Text),
    Column("settled_at", BigInteger),
    Column("receipt", Text),
    Column("leaf", BigInteger),
    Index("deliveries_by_exchange", "exchange_id"),
    Index("deliveries_by_receiver", "receiver", "id"),
    Index("deliveries_leased", "lease_until", sqlite_where=text("state = 'delivering'"),
          postgresql_where=text("state = 'delivering'")),
    Index("deliveries_dead", "id", sqlite_where=text("state = 'dead'"), postgresql_where=text("state = 'dead'")),
    Index("deliveries_set_aside", "id", sqlite_where=text("state = 'set-aside'"),
          postgresql_where=text("state = 'set-aside'")),
    Index("deliveries_in_order", "ordering_key", "system", "id",
          sqlite_where=text("ordering_key IS NOT NULL AND state IN ('waiting', 'delivering')"),
          postgresql_where=text("ordering_key IS NOT NULL AND state IN ('waiting', 'delivering')")),
)  # fmt: skip

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("delivery_id", BigId, ForeignKey("deliveries.id"), nullable=False),
    Column("system", Text, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    #: When a reference to it was sent to the receiver's queue. Until that is confirmed, ``due_at`` is when to send it
    #: again; then :data:`NEVER`.
    Column("queued_at", BigInteger),
    Index("outbox_by_system", "system", "due_at", "id"),
    Index("outbox_by_delivery", "delivery_id", unique=True),
)

attempts = Table(
    "attempts",
    metadata,
    Column("delivery_id", BigId, ForeignKey("deliveries.id"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("problem", Text),
)

replies = Table(
    "replies",
    metadata,
    Column("delivery_id", BigId, ForeignKey("deliveries.id"), primary_key=True, autoincrement=False),
    Column("manifest", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    #: Where the bus translated the answer: what the provider itself sent, and its own manifest if it signed.
    Column("original_manifest", Text),
    Column("original_content_type", Text),
    Column("original_body", LargeBinary),
)

refusals = Table(
    "refusals",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=False),
    Column("refused_at", BigInteger, nullable=False),
    Column("problem", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("sender", Text),
    Column("service", Text),
    Column("message_id", Text),
    Column("dossier", Text),
    Column("trace_id", Text, nullable=False),
    Index("refusals_by_message", "message_id", sqlite_where=text("message_id IS NOT NULL"),
          postgresql_where=text("message_id IS NOT NULL")),
    Index("refusals_by_dossier", "dossier", sqlite_where=text("dossier IS NOT NULL"),
          postgresql_where=text("dossier IS NOT NULL")),
)  # fmt: skip

#: An administrator's order to send dead deliveries again, and what it touched.
replays = Table(
    "replays",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("ordered_at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

replayed = Table(
    "replayed",
    metadata,
    Column("replay_id", BigId, ForeignKey("replays.id"), primary_key=True, autoincrement=False),
    Column("delivery_id", BigId, ForeignKey("deliveries.id"), primary_key=True, autoincrement=False),
    Column("after_attempt", Integer, nullable=False),
    Index("replayed_by_delivery", "delivery_id"),
)

attachments = Table(
    "attachments",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("agency", Text, primary_key=True),
    Column("length", BigInteger, nullable=False),
    Column("stored_at", BigInteger, nullable=False),
)

exchange_attachments = Table(
    "exchange_attachments",
    metadata,
    Column("exchange_id", BigId, ForeignKey("exchanges.id"), primary_key=True, autoincrement=False),
    Column("sha256", Text, primary_key=True),
    Index("exchange_attachments_by_digest", "sha256"),
)

#: Totals since the store was made, added up by every process; quotas and metrics read them.
counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("labels", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

#: Messages of one grant in one period (``2026-11-21T08:05`` or ``2026-11-21``, Asia/Ho_Chi_Minh).
quota_usage = Table(
    "quota_usage",
    metadata,
    Column("grant_id", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("used", BigInteger, nullable=False),
)

#: What a message says of a dossier, read once by the dossier view of its service; stays when the body is erased.
#: Later messages know better, so the order is that of acceptance; within a message ``number`` follows ``at``. What its
#: reply says is numbered from ``FIRST_OF_REPLY`` on.
dossier_events = Table(
    "dossier_events",
    metadata,
    Column("exchange_id", BigId, ForeignKey("exchanges.id"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    #: As the message spells it, which may be an alias.
    Column("dossier", Text, nullable=False),
    Column("unit", Text),
    Column("at", BigInteger, nullable=False),
    #: The national status, and the one that the message wrote.
    Column("status", Text),
    Column("said", Text),
    Column("received", BigInteger),
    Column("due", BigInteger),
    Column("finished", BigInteger),
    Column("holder", Text),
    Column("procedure", Text),
    Column("channel", Text),
    Column("amount", BigInteger),
    Column("payment_reference", Text),
    Column("payment_state", Text),
    Column("parcel", Text),
    Column("parcel_state", Text),
    Column("synchronises", Integer, nullable=False),
    #: Of what an answer says: its place in the evidence log, which orders it among the messages (their ids are such
    #: places). NULL: the exchange's id is.
    Column("position", BigInteger),
    Index("dossier_events_by_dossier", "dossier", "exchange_id", "number"),
    Index("dossier_events_received", "received", sqlite_where=text("received IS NOT NULL"),
          postgresql_where=text("received IS NOT NULL")),
    Index("dossier_events_finished", "finished", sqlite_where=text("finished IS NOT NULL"),
          postgresql_where=text("finished IS NOT NULL")),
    Index("dossier_events_answered", "position", sqlite_where=text("position IS NOT NULL"),
          postgresql_where=text("position IS NOT NULL")),
    #: Reception and end, for whoever states a status and no date.
    Index("dossier_events_milestones", "at", sqlite_where=text("status IN ('2', '9', '10')"),
          postgresql_where=text("status IN ('2', '9', '10')")),
    # One tree less to write into: the primary key is the table.
    sqlite_with_rowid=False,
)  # fmt: skip

#: Other codes of a dossier → the code it is counted under. Kept flat: no ``dossier`` here is itself an alias.
dossier_aliases = Table(
    "dossier_aliases",
    metadata,
    Column("alias", Text, primary_key=True),
    Column("dossier", Text, nullable=False),
    #: The message that said so first.
    Column("exchange_id", BigId, ForeignKey("exchanges.id"), nullable=False),
    Index("dossier_aliases_by_dossier", "dossier"),
)

#: Definitions as they were when processes began under them: those go on under the same one.
process_definitions = Table(
    "process_definitions",
    metadata,
    Column("code", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("source", LargeBinary, nullable=False),
)

#: How far the exchanges were read for processes.
process_cursor = Table(
    "process_cursor",
    metadata,
    Column("name", Text, primary_key=True),
    Column("exchange_id", BigInteger, nullable=False),
)

processes = Table(
    "processes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("definition", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("dossier", Text, nullable=False),
    Column("status", Text, nullable=False),
    #: JSON: where it stands and which exchanges it learnt from; no content of messages. NULL: not begun.
    Column("state", Text),
    Column("problem", Text),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    #: When to look at it next: a deadline, a retry, or at once; NULL when only a message can move it, or none.
    Column("due_at", BigInteger),
    Column("lease_until", BigInteger),
    #: Counts claims; a turn that comes back too late is ignored.
    Column("turn", Integer, nullable=False),
    Index("processes_due", "due_at", sqlite_where=text("due_at IS NOT NULL"),
          postgresql_where=text("due_at IS NOT NULL")),
    Index("processes_by_dossier", "dossier", "definition"),
)  # fmt: skip

#: Messages that a process was given and has not taken yet.
process_inbox = Table(
    "process_inbox",
    metadata,
    Column("process_id", Text, ForeignKey("processes.id"), primary_key=True),
    Column("exchange_id", BigId, ForeignKey("exchanges.id"), primary_key=True, autoincrement=False),
    Column("service", Text, nullable=False),
)

#: By what else than its dossier a process knows its messages: a service and a value in its payload.
process_keys = Table(
    "process_keys",
    metadata,
    Column("service", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("process_id", Text, ForeignKey("processes.id"), primary_key=True),
    Index("process_keys_by_process", "process_id"),
)

#: Messages known by a value that no process knew yet: it may be about to learn it.
process_unclaimed = Table(
    "process_unclaimed",
    metadata,
    Column("service", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("exchange_id", BigId, ForeignKey("exchanges.id"), primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Index("process_unclaimed_by_age", "at"),
)

#: What a process did, for the trace.
process_steps = Table(
    "process_steps",
    metadata,
    Column("process_id", Text, ForeignKey("processes.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("step", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("service", Text),
    Column("message_id", Text),
    Column("problem", Text),
)

#: How far each subscription was told of each kind of events: after this position and number comes what is new.
event_cursors = Table(
    "event_cursors",
    metadata,
    Column("subscription", Text, primary_key=True),
    Column("stream", Text, primary_key=True),
    #: The registry's, when it began.
    Column("revision", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("number", Integer, nullable=False),
    #: Counts claims; a turn that comes back too late is ignored.
    Column("turn", BigInteger, nullable=False),
    #: Until when somebody has it, or it rests after a failure.
    Column("free_at", BigInteger, nullable=False),
    #: Failures one after the other, and the reason of the last.
    Column("tries", Integer, nullable=False),
    Column("problem", Text),
)

#: The processes that serve and deliver, each with a row that it renews while it lives.
nodes = Table(
    "nodes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("process", BigInteger, nullable=False),
    #: Of the program, and the newest revision of the tables that it knows.
    Column("version", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("beat_at", BigInteger, nullable=False),
    #: Grows with each beat: others see it live by this, whatever their clocks say.
    Column("beats", BigInteger, nullable=False),
    #: JSON list: the receiving systems that it has called lately.
    Column("uses", Text, nullable=False),
)

#: The circuit breakers that are open; no row: closed.
breakers = Table(
    "breakers",
    metadata,
    Column("system", Text, primary_key=True),
    #: Names this opening: moment and node.
    Column("opening", Text, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    #: Who may try the system after the rest, and until when nobody else may.
    Column("probe_node", Text),
    Column("probe_until", BigInteger),
)

#: Periodic work that one process at a time does, and until when it counts as done.
duties = Table(
    "duties",
    metadata,
    Column("name", Text, primary_key=True),
    Column("node", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
)

#: Proofs of identity that count once (client assertions, WS-Security signatures), until they expire anyway.
used_proofs = Table(
    "used_proofs",
    metadata,
    #: SHA-256 of what was signed.
    Column("proof", Text, primary_key=True),
    #: Tells a use that is written again after a broken connection from a second one.
    Column("use", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("used_proofs_by_end", "expires_at"),
    sqlite_with_rowid=False,
)

#: Who may sign in to the console.
people = Table(
    "people",
    metadata,
    Column("name", Text, primary_key=True),
    Column("display_name", Text, nullable=False),
    #: Comma-separated (:class:`bus.people.PersonRole`).
    Column("roles", Text, nullable=False),
    #: Sees this agency only; null: the province.
    Column("agency", Text),
    #: argon2id in PHC text form; empty: signs in elsewhere (OpenID Connect).
    Column("password_hash", Text, nullable=False),
    Column("must_change", Integer, nullable=False),
    #: The sealed seed of one-time passwords (RFC 6238), and the latest period that was used.
    Column("totp", LargeBinary),
    Column("totp_used", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("locked_until", BigInteger),
    #: ``issuer subject`` of OpenID Connect.
    Column("subject", Text, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
)

person_sessions = Table(
    "person_sessions",
    metadata,
    Column("token_sha256", Text, primary_key=True),
    Column("person", Text, ForeignKey("people.name"), nullable=False),
    Column("form_key", Text, nullable=False),
    Column("begun_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger, nullable=False),
    Index("person_sessions_of_person", "person"),
)

#: What people did in the console, and why. Never changed.
audit_events = Table(
    "audit_events",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("person", Text, nullable=False),
    #: Whose affair it was; null: the province's.
    Column("agency", Text),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Index("audit_events_of_target", "target", "id"),
    Index("audit_events_of_person", "person", "id"),
    Index("audit_events_of_agency", "agency", "id"),
    Index("audit_events_of_action", "action", "id"),
)

#: Figures of each flow (sender, service, receiving system) by the hour, added up in the ledger's own transactions.
flow_hours = Table(
    "flow_hours",
    metadata,
    #: Hours since 1970.
    Column("hour", BigInteger, primary_key=True),
    Column("sender", Text, primary_key=True),
    Column("service", Text, primary_key=True),
    #: Empty of what was refused.
    Column("system", Text, primary_key=True),
    #: ``accepted``, ``delivered``, ``retried``, ``died``, ``refused``; ``ms <= 100``: delivered so soon after it came.
    Column("what", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

#: By what else than its id a message or a refusal is found: numbers of citizens and enterprises, references, traces.
#: Keyed digests only (:mod:`bus.finding`): whoever reads the table learns no number.
search_keys = Table(
    "search_keys",
    metadata,
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    #: In the evidence log: the id of the exchange or of the refusal.
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

#: What else is known of a refused message whose sender was proven: whom and what it was for, and which rules it broke.
#: JSON, no value of the payload.
refusal_details = Table(
    "refusal_details",
    metadata,
    Column("id", BigId, ForeignKey("refusals.id"), primary_key=True, autoincrement=False),
    Column("details", Text, nullable=False),
)

#: Refused messages that a grant would mend, sealed, for some hours (:mod:`bus.refused`); mostly none.
refused_messages = Table(
    "refused_messages",
    metadata,
    Column("id", BigId, ForeignKey("refusals.id"), primary_key=True, autoincrement=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("until", BigInteger, nullable=False),
)

#: Work on many dead deliveries at once, ordered in the console and carried on by whoever delivers (:mod:`bus.bulk`).
bulk_jobs = Table(
    "bulk_jobs",
    metadata,
    Column("id", BigId, primary_key=True),
    #: Of the form that ordered it: sent twice, it is one order.
    Column("form", Text, nullable=False, unique=True),
    Column("ordered_at", BigInteger, nullable=False),
    Column("person", Text, nullable=False),
    #: Whose deliveries only; null: the province's.
    Column("agency", Text),
    #: ``replay``, ``set-aside``, ``take-back``.
    Column("deed", Text, nullable=False),
    #: JSON (:class:`bus.bulk.Meant`).
    Column("meant", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("batch", Integer, nullable=False),
    #: ``running``, ``done``, ``stopped``.
    Column("state", Text, nullable=False),
    #: How many there were to do when it was ordered, and how many were looked at and moved.
    Column("expected", BigInteger, nullable=False),
    Column("looked", BigInteger, nullable=False),
    Column("moved", BigInteger, nullable=False),
    #: The last delivery that was looked at.
    Column("reached", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Index("bulk_jobs_running", "id", sqlite_where=text("state = 'running'"),
          postgresql_where=text("state = 'running'")),
)  # fmt: skip

#: The deliveries that such work moved.
bulk_moved = Table(
    "bulk_moved",
    metadata,
    Column("job_id", BigId, ForeignKey("bulk_jobs.id"), primary_key=True, autoincrement=False),
    Column("delivery_id", BigId, ForeignKey("deliveries.id"), primary_key=True, autoincrement=False),
    Column("moved_at", BigInteger, nullable=False),
    Index("bulk_moved_by_delivery", "delivery_id"),
)

#: When somebody is told (:mod:`bus.alerts`).
alert_rules = Table(
    "alert_rules",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("kind", Text, nullable=False),
    #: In the unit of its kind.
    Column("threshold", Integer, nullable=False),
    Column("target", Text, nullable=False),
    Column("least", Integer, nullable=False),
    #: Comma-separated.
    Column("emails", Text, nullable=False),
    Column("webhook", Text, nullable=False),
    Column("enabled", Integer, nullable=False),
    Column("muted_until", BigInteger),
    Column("muted_by", Text, nullable=False),
    Column("mute_reason", Text, nullable=False),
)

#: What rules found, from the opening to the end. One that is open for each rule and subject.
alert_incidents = Table(
    "alert_incidents",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("rule_id", BigId, ForeignKey("alert_rules.id"), nullable=False),
    Column("subject", Text, nullable=False),
    #: Whose affair it is; null: the province's.
    Column("agency", Text),
    Column("opened_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    Column("value", BigInteger, nullable=False),
    #: Its opening was told; not while its rule is muted.
    Column("told", Integer, nullable=False),
    Index("alert_incidents_open", "rule_id", "subject", unique=True, sqlite_where=text("closed_at IS NULL"),
          postgresql_where=text("closed_at IS NULL")),
    Index("alert_incidents_of_agency", "agency", "id"),
)  # fmt: skip

#: Whom it was told, or is still to be.
alert_notices = Table(
    "alert_notices",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("incident_id", BigId, ForeignKey("alert_incidents.id"), nullable=False),
    #: ``opened``, ``closed``.
    Column("event", Text, nullable=False),
    #: ``email``, ``webhook``.
    Column("channel", Text, nullable=False),
    Column("address", Text, nullable=False),
    #: The incident's value then.
    Column("value", BigInteger, nullable=False),
    Column("made_at", BigInteger, nullable=False),
    #: When to try (again); null: sent, or given up.
    Column("due_at", BigInteger),
    Column("tries", Integer, nullable=False),
    Column("sent_at", BigInteger),
    Column("problem", Text),
    Index("alert_notices_due", "due_at", sqlite_where=text("due_at IS NOT NULL"),
          postgresql_where=text("due_at IS NOT NULL")),
    Index("alert_notices_of_incident", "incident_id"),
)  # fmt: skip

#: The same by Vietnam's days (counted from 1970), added up when a day is over.
flow_days = Table(
    "flow_days",
    metadata,
    Column("day", BigInteger, primary_key=True),
    Column("sender", Text, primary_key=True),
    Column("service", Text, primary_key=True),
    Column("system", Text, primary_key=True),
    Column("what", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

#: A month (``2026-11``) as it was added up last (bus/monthly.py); ``figures`` is a JSON object of whole numbers.
month_figures = Table(
    "month_figures",
    metadata,
    Column("month", Text, primary_key=True),
    #: ``dossiers``: of a unit's procedure; ``flows``: of an agency's service; ``days``: of an agency's day.
    Column("kind", Text, primary_key=True),
    #: Empty: unknown; of days: the whole province.
    Column("unit", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("figures", Text, nullable=False),
)

months_made = Table(
    "months_made",
    metadata,
    Column("month", Text, primary_key=True),
    Column("made_at", BigInteger, nullable=False),
    Column("took_ms", BigInteger, nullable=False),
)

#: What agencies ask for: the right to use a service.
access_requests = Table(
    "access_requests",
    metadata,
    Column("id", Text, primary_key=True),
    Column("service", Text, nullable=False),
    #: Who answers for the service, as it was when somebody asked.
    Column("owner", Text, nullable=False),
    Column("agency", Text, nullable=False),
    #: JSON: purposes, receivers, legal basis, until when, quota.
    Column("wish", Text, nullable=False),
    Column("asked_at", BigInteger, nullable=False),
    #: ``person:…`` or ``system:…``.
    Column("asked_by", Text, nullable=False),
    #: :class:`bus.access_requests.RequestState`.
    Column("state", Text, nullable=False),
    Column("decided_at", BigInteger),
    Column("decided_by", Text),
    Column("reason", Text, nullable=False),
    Column("grant_id", Text),
    Index("access_requests_by_state", "state", "id"),
    Index("access_requests_by_agency", "agency", "id"),
    Index("access_requests_by_owner", "owner", "id"),
)

#: Changes of the registry that somebody looks at before applying them.
registry_drafts = Table(
    "registry_drafts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("person", Text, nullable=False),
    Column("made_at", BigInteger, nullable=False),
    #: Where it came from, in words; the manifests; what to know about them (JSON); the page to go back to.
    Column("origin", Text, nullable=False),
    Column("manifest", Text, nullable=False),
    Column("notes", Text, nullable=False),
    Column("back", Text, nullable=False),
    Index("registry_drafts_of_person", "person", "made_at"),
)

#: What the store says of itself, by name.
store_marks = Table(
    "store_marks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

#: The due moment of what needs no sending, its reference being in a queue: the last second of the year 9999.
NEVER = 253_402_300_799_000_000

#: Receivers of one exchange are numbered within ten bits; ``schemas.message.MAX_RECEIVERS`` stays below.
RECEIVERS_PER_EXCHANGE = 1024


#: More than a message says: ``registry.dossier_view.MAX_ITEMS`` stays below.
FIRST_OF_REPLY = 1024


#: What PostgreSQL keeps in parts, and by which id (see :mod:`bus.retention`).
PARTITIONED = {
    "payloads": "exchange_id",
    "replies": "delivery_id",
    "attempts": "delivery_id",
    "dossier_events": "exchange_id",
}


#: Written with literals: SQLite takes a partial index only when it sees the index's own words.
UNFINISHED = deliveries.c.state.in_([literal_column("'waiting'"), literal_column("'delivering'")])


def exchange_of(delivery: int) -> int:
    """The exchange that a delivery is of."""
    return delivery // RECEIVERS_PER_EXCHANGE


def delivery_id(exchange_id: int, number: int) -> int:
    return exchange_id * RECEIVERS_PER_EXCHANGE + number
