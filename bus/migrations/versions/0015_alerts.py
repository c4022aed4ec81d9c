"""Rules that say when somebody is told, incidents, and who was told of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None
expands = True


def upgrade() -> None:
    big_id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "alert_rules",
        sa.Column("id", big_id, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("threshold", sa.Integer, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("least", sa.Integer, nullable=False),
        sa.Column("emails", sa.Text, nullable=False),
        sa.Column("webhook", sa.Text, nullable=False),
        sa.Column("enabled", sa.Integer, nullable=False),
        sa.Column("muted_until", sa.BigInteger),
        sa.Column("muted_by", sa.Text, nullable=False),
        sa.Column("mute_reason", sa.Text, nullable=False),
    )
    op.create_table(
        "alert_incidents",
        sa.Column("id", big_id, primary_key=True),
        sa.Column("rule_id", big_id, sa.ForeignKey("alert_rules.id"), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("agency", sa.Text),
        sa.Column("opened_at", sa.BigInteger, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
        sa.Column("closed_at", sa.BigInteger),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.Column("told", sa.Integer, nullable=False),
    )
    op.create_index(
        "alert_incidents_open",
        "alert_incidents",
        ["rule_id", "subject"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_index("alert_incidents_of_agency", "alert_incidents", ["agency", "id"])
    op.create_table(
        "alert_notices",
        sa.Column("id", big_id, primary_key=True),
        sa.Column("incident_id", big_id, sa.ForeignKey("alert_incidents.id"), nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.BigInteger),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("sent_at", sa.BigInteger),
        sa.Column("problem", sa.Text),
    )
    op.create_index(
        "alert_notices_due",
        "alert_notices",
        ["due_at"],
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("alert_notices_of_incident", "alert_notices", ["incident_id"])


def downgrade() -> None:
    for table in ("alert_notices", "alert_incidents", "alert_rules"):
        op.drop_table(table)
