"""The first tables: ledger, registry, evidence"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

#: SQLite gives a row's own address only to INTEGER; PostgreSQL needs BIGINT for the same range.
_BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "attachments",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("agency", sa.Text(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("stored_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", "agency"),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "labels"),
    )
    op.create_table(
        "exchanges",
        sa.Column("id", _BIG_ID, autoincrement=False, nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("facts_sha256", sa.Text(), nullable=False),
        sa.Column("manifest_sha256", sa.Text(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("sender_system", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("service_version", sa.Integer(), nullable=False),
        sa.Column("pattern", sa.Text(), nullable=False),
        sa.Column("grade", sa.Text(), nullable=False),
        sa.Column("dossier", sa.Text(), nullable=True),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("traceparent", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("message_id"),
    )
    op.create_index(
        "exchanges_by_dossier",
        "exchanges",
        ["dossier", "id"],
        unique=False,
        sqlite_where=sa.text("dossier IS NOT NULL"),
        postgresql_where=sa.text("dossier IS NOT NULL"),
    )
    op.create_table(
        "quota_usage",
        sa.Column("grant_id", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("grant_id", "period"),
    )
    op.create_table(
        "refusals",
        sa.Column("id", _BIG_ID, autoincrement=False, nullable=False),
        sa.Column("refused_at", sa.BigInteger(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=True),
        sa.Column("service", sa.Text(), nullable=True),
        sa.Column("message_id", sa.Text(), nullable=True),
        sa.Column("dossier", sa.Text(), nullable=True),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "refusals_by_dossier",
        "refusals",
        ["dossier"],
        unique=False,
        sqlite_where=sa.text("dossier IS NOT NULL"),
        postgresql_where=sa.text("dossier IS NOT NULL"),
    )
    op.create_index(
        "refusals_by_message",
        "refusals",
        ["message_id"],
        unique=False,
        sqlite_where=sa.text("message_id IS NOT NULL"),
        postgresql_where=sa.text("message_id IS NOT NULL"),
    )
    op.create_table(
        "replays",
        sa.Column("id", _BIG_ID, nullable=False),
        sa.Column("ordered_at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", _BIG_ID, autoincrement=False, nullable=False),
        sa.Column("exchange_id", _BIG_ID, nullable=False),
        sa.Column("receiver", sa.Text(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("ordering_key", sa.Text(), nullable=True),
        sa.Column("attempts_before", sa.Integer(), nullable=False),
        sa.Column("retry_since", sa.BigInteger(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.Column("receipt", sa.Text(), nullable=True),
        sa.Column("leaf", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["exchange_id"],
            ["exchanges.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("deliveries_by_exchange", "deliveries", ["exchange_id"], unique=False)
    op.create_index(
        "deliveries_dead",
        "deliveries",
        ["id"],
        unique=False,
        sqlite_where=sa.text("state = 'dead'"),
        postgresql_where=sa.text("state = 'dead'"),
    )
    op.create_index(
        "deliveries_in_order",
        "deliveries",
        ["ordering_key", "system", "id"],
        unique=False,
        sqlite_where=sa.text("ordering_key IS NOT NULL AND state IN ('waiting', 'delivering')"),
        postgresql_where=sa.text("ordering_key IS NOT NULL AND state IN ('waiting', 'delivering')"),
    )
    op.create_index(
        "deliveries_leased",
        "deliveries",
        ["lease_until"],
        unique=False,
        sqlite_where=sa.text("state = 'delivering'"),
        postgresql_where=sa.text("state = 'delivering'"),
    )
    op.create_table(
        "exchange_attachments",
        sa.Column("exchange_id", _BIG_ID, autoincrement=False, nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["exchange_id"],
            ["exchanges.id"],
        ),
        sa.PrimaryKeyConstraint("exchange_id", "sha256"),
    )
    op.create_index("exchange_attachments_by_digest", "exchange_attachments", ["sha256"], unique=False)
    op.create_table(
        "payloads",
        sa.Column("exchange_id", _BIG_ID, autoincrement=False, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["exchange_id"],
            ["exchanges.id"],
        ),
        sa.PrimaryKeyConstraint("exchange_id"),
    )
    op.create_table(
        "attempts",
        sa.Column("delivery_id", _BIG_ID, autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["deliveries.id"],
        ),
        sa.PrimaryKeyConstraint("delivery_id", "number"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", _BIG_ID, nullable=False),
        sa.Column("delivery_id", _BIG_ID, nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["deliveries.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("outbox_by_delivery", "outbox", ["delivery_id"], unique=True)
    op.create_index("outbox_by_system", "outbox", ["system", "due_at", "id"], unique=False)
    op.create_table(
        "replayed",
        sa.Column("replay_id", _BIG_ID, autoincrement=False, nullable=False),
        sa.Column("delivery_id", _BIG_ID, autoincrement=False, nullable=False),
        sa.Column("after_attempt", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["deliveries.id"],
        ),
        sa.ForeignKeyConstraint(
            ["replay_id"],
            ["replays.id"],
        ),
        sa.PrimaryKeyConstraint("replay_id", "delivery_id"),
    )
    op.create_index("replayed_by_delivery", "replayed", ["delivery_id"], unique=False)
    op.create_table(
        "replies",
        sa.Column("delivery_id", _BIG_ID, autoincrement=False, nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["deliveries.id"],
        ),
        sa.PrimaryKeyConstraint("delivery_id"),
    )
    op.create_table(
        "agencies",
        sa.Column("code", sa.String(length=35), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("parent", sa.String(length=35), nullable=True),
        sa.Column("aliases", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("code"),
    )
    op.create_table(
        "certificates",
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("system", sa.String(length=80), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("pem", sa.Text(), nullable=False),
        sa.Column("thumbprint", sa.String(length=64), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("key_id"),
    )
    op.create_index(op.f("ix_certificates_system"), "certificates", ["system"], unique=False)
    op.create_table(
        "grants",
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("service", sa.String(length=100), nullable=False),
        sa.Column("grantee", sa.String(length=35), nullable=False),
        sa.Column("include_children", sa.Boolean(), nullable=False),
        sa.Column("receivers", sa.Text(), nullable=False),
        sa.Column("purposes", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("per_minute", sa.Integer(), nullable=False),
        sa.Column("per_day", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "registry_events",
        sa.Column("id", _BIG_ID, autoincrement=True, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("action", sa.String(length=20), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("subject", sa.String(length=120), nullable=False),
        sa.Column("before_sha256", sa.String(length=64), nullable=False),
        sa.Column("after_sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "registry_revision",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "services",
        sa.Column("code", sa.String(length=100), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.String(length=35), nullable=False),
        sa.Column("pattern", sa.String(length=20), nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("grade", sa.String(length=20), nullable=False),
        sa.Column("ordering", sa.String(length=20), nullable=False),
        sa.Column("content_types", sa.Text(), nullable=False),
        sa.Column("request_schema", sa.Text(), nullable=True),
        sa.Column("reply_schema", sa.Text(), nullable=True),
        sa.Column("retry", sa.Text(), nullable=False),
        sa.Column("max_body_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sunset", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("code", "version"),
    )
    op.create_table(
        "systems",
        sa.Column("code", sa.String(length=80), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("mode", sa.String(length=20), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=True),
        sa.Column("receives", sa.Text(), nullable=False),
        sa.Column("sends_only", sa.Boolean(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("speaks_for_children", sa.Boolean(), nullable=False),
        sa.Column("client_secret_hash", sa.Text(), nullable=False),
        sa.Column("suspended", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("code"),
    )
    op.create_table(
        "evidence_checkpoints",
        sa.Column("size", _BIG_ID, autoincrement=False, nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("size"),
    )
    op.create_table(
        "evidence_head",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "evidence_leaves",
        sa.Column("position", _BIG_ID, autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position"),
    )
    op.create_table(
        "evidence_tiles",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tile_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "tile_index"),
    )


def downgrade() -> None:
    op.drop_table("evidence_tiles")
    op.drop_table("evidence_leaves")
    op.drop_table("evidence_head")
    op.drop_table("evidence_checkpoints")
    op.drop_table("systems")
    op.drop_table("services")
    op.drop_table("secrets")
    op.drop_table("registry_revision")
    op.drop_table("registry_events")
    op.drop_table("grants")
    op.drop_table("certificates")
    op.drop_table("agencies")
    op.drop_table("replies")
    op.drop_table("replayed")
    op.drop_table("outbox")
    op.drop_table("attempts")
    op.drop_table("payloads")
    op.drop_table("exchange_attachments")
    op.drop_table("deliveries")
    op.drop_table("replays")
    op.drop_table("refusals")
    op.drop_table("quota_usage")
    op.drop_table("exchanges")
    op.drop_table("counters")
    op.drop_table("attachments")
