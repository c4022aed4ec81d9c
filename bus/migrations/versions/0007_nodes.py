"""Processes know of each other: who lives, whose breakers rest, who does which duty, which proofs were used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

#: It only adds: programs of the revision before go on working beside it.
expands = True


def upgrade() -> None:
    op.create_table(
        "nodes",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("process", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("beat_at", sa.BigInteger(), nullable=False),
        sa.Column("beats", sa.BigInteger(), nullable=False),
        sa.Column("uses", sa.Text(), nullable=False),
    )
    op.create_table(
        "breakers",
        sa.Column("system", sa.Text(), primary_key=True),
        sa.Column("opening", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("probe_node", sa.Text()),
        sa.Column("probe_until", sa.BigInteger()),
    )
    op.create_table(
        "duties",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "used_proofs",
        sa.Column("proof", sa.Text(), primary_key=True),
        sa.Column("use", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("used_proofs_by_end", "used_proofs", ["expires_at"])
    op.create_table(
        "store_marks",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
    )


def downgrade() -> None:
    for table in ("store_marks", "used_proofs", "duties", "breakers", "nodes"):
        op.drop_table(table)
