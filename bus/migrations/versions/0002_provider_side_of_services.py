"""The provider's side of services, and replies that the bus translated."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("services", sa.Column("element", sa.Text(), nullable=False, server_default=""))
    op.add_column("services", sa.Column("reply_element", sa.Text(), nullable=False, server_default=""))
    op.add_column("services", sa.Column("provider", sa.Text()))
    op.add_column("replies", sa.Column("original_manifest", sa.Text()))
    op.add_column("replies", sa.Column("original_content_type", sa.Text()))
    op.add_column("replies", sa.Column("original_body", sa.LargeBinary()))


def downgrade() -> None:
    for name in ("original_manifest", "original_content_type", "original_body"):
        op.drop_column("replies", name)
    for name in ("element", "reply_element", "provider"):
        op.drop_column("services", name)
