"""Messages and refusals found by keyed digests of numbers, references and traces; what a refused message was for.

Messages from before are found as ever: by id, dossier, agency, service and time.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None
expands = True


def upgrade() -> None:
    op.create_table(
        "search_keys",
        sa.Column("key", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "refusal_details",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            sa.ForeignKey("refusals.id"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("details", sa.Text, nullable=False),
    )
    op.create_table(
        "refused_messages",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            sa.ForeignKey("refusals.id"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("refused_messages")
    op.drop_table("refusal_details")
    op.drop_table("search_keys")
