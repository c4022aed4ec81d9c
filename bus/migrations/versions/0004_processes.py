"""Long flows: their definitions, where each process stands, what it was given and what it did."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BIG_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_DUE = sa.text("due_at IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "process_definitions",
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("source", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("code", "version"),
    )
    op.create_table(
        "process_cursor",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("exchange_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "processes",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("dossier", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("state", sa.Text()),
        sa.Column("problem", sa.Text()),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger()),
        sa.Column("due_at", sa.BigInteger()),
        sa.Column("lease_until", sa.BigInteger()),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("processes_due", "processes", ["due_at"], sqlite_where=_DUE, postgresql_where=_DUE)
    op.create_index("processes_by_dossier", "processes", ["dossier", "definition"])
    op.create_table(
        "process_inbox",
        sa.Column("process_id", sa.Text(), nullable=False),
        sa.Column("exchange_id", _BIG_ID, nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["process_id"], ["processes.id"]),
        sa.ForeignKeyConstraint(["exchange_id"], ["exchanges.id"]),
        sa.PrimaryKeyConstraint("process_id", "exchange_id"),
    )
    op.create_table(
        "process_keys",
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("process_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["process_id"], ["processes.id"]),
        sa.PrimaryKeyConstraint("service", "value", "process_id"),
    )
    op.create_index("process_keys_by_process", "process_keys", ["process_id"])
    op.create_table(
        "process_unclaimed",
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("exchange_id", _BIG_ID, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["exchange_id"], ["exchanges.id"]),
        sa.PrimaryKeyConstraint("service", "value", "exchange_id"),
    )
    op.create_index("process_unclaimed_by_age", "process_unclaimed", ["at"])
    op.create_table(
        "process_steps",
        sa.Column("process_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("service", sa.Text()),
        sa.Column("message_id", sa.Text()),
        sa.Column("problem", sa.Text()),
        sa.ForeignKeyConstraint(["process_id"], ["processes.id"]),
        sa.PrimaryKeyConstraint("process_id", "number"),
    )


def downgrade() -> None:
    op.drop_table("process_unclaimed")
    names = ("process_steps", "process_keys", "process_inbox", "processes", "process_cursor", "process_definitions")
    for name in names:
        op.drop_table(name)
