"""Systems that send some services only, and messages found by their service."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("systems", sa.Column("sends", sa.Text(), nullable=False, server_default="[]"))
    op.create_index("exchanges_by_service", "exchanges", ["service", "received_at"])


def downgrade() -> None:
    op.drop_index("exchanges_by_service", "exchanges")
    op.drop_column("systems", "sends")
