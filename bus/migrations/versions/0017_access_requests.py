"""What agencies ask of the registry, and changes of it that somebody looks at before applying them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None
expands = True


def upgrade() -> None:
    op.create_table(
        "access_requests",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("agency", sa.Text, nullable=False),
        sa.Column("wish", sa.Text, nullable=False),
        sa.Column("asked_at", sa.BigInteger, nullable=False),
        sa.Column("asked_by", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("decided_at", sa.BigInteger),
        sa.Column("decided_by", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("grant_id", sa.Text),
    )
    op.create_index("access_requests_by_state", "access_requests", ["state", "id"])
    op.create_index("access_requests_by_agency", "access_requests", ["agency", "id"])
    op.create_index("access_requests_by_owner", "access_requests", ["owner", "id"])
    op.create_table(
        "registry_drafts",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("person", sa.Text, nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("manifest", sa.Text, nullable=False),
        sa.Column("notes", sa.Text, nullable=False),
        sa.Column("back", sa.Text, nullable=False),
    )
    op.create_index("registry_drafts_of_person", "registry_drafts", ["person", "made_at"])


def downgrade() -> None:
    op.drop_table("registry_drafts")
    op.drop_table("access_requests")
