"""What timestamp authorities said of checkpoints of the evidence log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

#: It only adds: programs of the revision before go on working beside it.
expands = True

_Position = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "evidence_timestamps",
        sa.Column(
            "size",
            _Position,
            sa.ForeignKey("evidence_checkpoints.size"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("token", sa.LargeBinary(), nullable=False),
        sa.Column("stamped_at", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("evidence_timestamps")
