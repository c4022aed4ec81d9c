"""The outbox remembers whose reference lies in a broker's queue."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NEVER = 253_402_300_799_000_000


def upgrade() -> None:
    op.add_column("outbox", sa.Column("queued_at", sa.BigInteger()))


def downgrade() -> None:
    # What lies in a queue is due again: the older bus knows no queue but this table.
    op.execute(sa.text("UPDATE outbox SET due_at = queued_at WHERE due_at = :never").bindparams(never=_NEVER))
    op.drop_column("outbox", "queued_at")
