"""Events: subscriptions, how far each was told, whom a change of the registry concerns."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None
#: It only adds. What the release before writes beside this one has no position and concerns nobody: answers that it
#: settles, and changes of the registry that it makes, are told to nobody but the operator, or not at all.
expands = True

_ANSWERED = sa.text("position IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.String(100), primary_key=True),
        sa.Column("system", sa.String(80), nullable=False),
        sa.Column("types", sa.Text(), nullable=False),
        sa.Column("delivery", sa.String(20), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("units", "procedures", "senders")),
    )
    op.create_table(
        "event_cursors",
        sa.Column("subscription", sa.Text(), primary_key=True),
        sa.Column("stream", sa.Text(), primary_key=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("free_at", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("problem", sa.Text()),
    )
    op.add_column("registry_events", sa.Column("concerns", sa.Text()))
    op.create_index("registry_events_by_revision", "registry_events", ["revision", "id"])
    op.add_column("dossier_events", sa.Column("position", sa.BigInteger()))
    op.create_index(
        "dossier_events_answered",
        "dossier_events",
        ["position"],
        sqlite_where=_ANSWERED,
        postgresql_where=_ANSWERED,
    )


def downgrade() -> None:
    op.drop_index("dossier_events_answered", "dossier_events")
    op.drop_column("dossier_events", "position")
    op.drop_index("registry_events_by_revision", "registry_events")
    op.drop_column("registry_events", "concerns")
    op.drop_table("event_cursors")
    op.drop_table("subscriptions")
