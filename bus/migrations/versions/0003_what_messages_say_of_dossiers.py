"""Dossier views of services, and what messages say of dossiers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

#: Index → its column, and the rows that it holds.
_PARTIAL = {
    "dossier_events_received": ("received", "received IS NOT NULL"),
    "dossier_events_finished": ("finished", "finished IS NOT NULL"),
    "dossier_events_milestones": ("at", "status IN ('2', '9', '10')"),
}


def upgrade() -> None:
    op.add_column("services", sa.Column("dossier", sa.Text()))
    op.create_table(
        "dossier_events",
        sa.Column("exchange_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("dossier", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text()),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text()),
        sa.Column("said", sa.Text()),
        sa.Column("received", sa.BigInteger()),
        sa.Column("due", sa.BigInteger()),
        sa.Column("finished", sa.BigInteger()),
        sa.Column("holder", sa.Text()),
        sa.Column("procedure", sa.Text()),
        sa.Column("channel", sa.Text()),
        sa.Column("amount", sa.BigInteger()),
        sa.Column("payment_reference", sa.Text()),
        sa.Column("payment_state", sa.Text()),
        sa.Column("parcel", sa.Text()),
        sa.Column("parcel_state", sa.Text()),
        sa.Column("synchronises", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["exchange_id"], ["exchanges.id"]),
        sa.PrimaryKeyConstraint("exchange_id", "number"),
        sqlite_with_rowid=False,
    )
    op.create_index("dossier_events_by_dossier", "dossier_events", ["dossier", "exchange_id", "number"])
    for name, (column, rows) in _PARTIAL.items():
        where = sa.text(rows)
        op.create_index(name, "dossier_events", [column], sqlite_where=where, postgresql_where=where)
    op.create_table(
        "dossier_aliases",
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("dossier", sa.Text(), nullable=False),
        sa.Column("exchange_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["exchange_id"], ["exchanges.id"]),
        sa.PrimaryKeyConstraint("alias"),
    )
    op.create_index("dossier_aliases_by_dossier", "dossier_aliases", ["dossier"])


def downgrade() -> None:
    op.drop_table("dossier_aliases")
    op.drop_table("dossier_events")
    op.drop_column("services", "dossier")
