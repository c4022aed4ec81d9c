"""Work on many dead deliveries at once, and deliveries that were set aside."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None
expands = True


def upgrade() -> None:
    big_id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "bulk_jobs",
        sa.Column("id", big_id, primary_key=True),
        sa.Column("form", sa.Text, nullable=False, unique=True),
        sa.Column("ordered_at", sa.BigInteger, nullable=False),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("agency", sa.Text),
        sa.Column("deed", sa.Text, nullable=False),
        sa.Column("meant", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("batch", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("expected", sa.BigInteger, nullable=False),
        sa.Column("looked", sa.BigInteger, nullable=False),
        sa.Column("moved", sa.BigInteger, nullable=False),
        sa.Column("reached", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
    )
    _index_of_some("bulk_jobs_running", "bulk_jobs", "state = 'running'")
    op.create_table(
        "bulk_moved",
        sa.Column("job_id", big_id, sa.ForeignKey("bulk_jobs.id"), primary_key=True, autoincrement=False),
        sa.Column("delivery_id", big_id, sa.ForeignKey("deliveries.id"), primary_key=True, autoincrement=False),
        sa.Column("moved_at", sa.BigInteger, nullable=False),
    )
    op.create_index("bulk_moved_by_delivery", "bulk_moved", ["delivery_id"])
    _index_of_some("deliveries_set_aside", "deliveries", "state = 'set-aside'")


def downgrade() -> None:
    op.drop_index("deliveries_set_aside", "deliveries")
    for table in ("bulk_moved", "bulk_jobs"):
        op.drop_table(table)


def _index_of_some(name: str, table: str, condition: str) -> None:
    op.create_index(name, table, ["id"], sqlite_where=sa.text(condition), postgresql_where=sa.text(condition))
