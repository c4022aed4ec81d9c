"""Figures of flows by the day, of dossiers by the month; and the hours of all that passed before there were any."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None
expands = True

#: As they were in ``bus.ledger.BUCKETS_MS`` when this was written.
_BUCKETS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000)
_HOUR = 3_600_000_000
_INTO = "INSERT INTO flow_hours (hour, sender, service, system, what, value) "
_GROUPED = " GROUP BY 1, 2, 3, 4, 5"


def upgrade() -> None:
    op.create_table(
        "flow_days",
        sa.Column("day", sa.BigInteger, primary_key=True),
        sa.Column("sender", sa.Text, primary_key=True),
        sa.Column("service", sa.Text, primary_key=True),
        sa.Column("system", sa.Text, primary_key=True),
        sa.Column("what", sa.Text, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "month_figures",
        sa.Column("month", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("unit", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("figures", sa.Text, nullable=False),
    )
    op.create_table(
        "months_made",
        sa.Column("month", sa.Text, primary_key=True),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("took_ms", sa.BigInteger, nullable=False),
    )
    if not op.get_bind().execute(sa.text("SELECT 1 FROM flow_hours LIMIT 1")).first():
        _fill_hours()


def _fill_hours() -> None:
    """Once, from the rows themselves: some seconds for a million messages."""
    buckets = " ".join(f"WHEN settled_at - received_at <= {bound * 1000} THEN '{bound}'" for bound in _BUCKETS_MS)
    deliveries = "FROM deliveries JOIN exchanges ON exchanges.id = deliveries.exchange_id "
    for what, moment, where in (
        ("'accepted'", "received_at", ""),
        ("'delivered'", "settled_at", "WHERE state = 'delivered'"),
        ("'died'", "settled_at", "WHERE state = 'dead' AND settled_at IS NOT NULL"),
        (f"'ms <= ' || CASE {buckets} ELSE '+Inf' END", "settled_at", "WHERE state = 'delivered'"),
    ):
        op.execute(
            f"{_INTO}SELECT {moment} / {_HOUR}, sender, service, system, {what}, COUNT(*) {deliveries}{where}{_GROUPED}"
        )
    op.execute(
        f"{_INTO}SELECT finished_at / {_HOUR}, sender, service, system, 'retried', COUNT(*) FROM attempts "  # noqa: S608
        "JOIN deliveries ON deliveries.id = attempts.delivery_id "
        f"JOIN exchanges ON exchanges.id = deliveries.exchange_id WHERE outcome = 'waiting'{_GROUPED}"
    )
    op.execute(
        f"{_INTO}SELECT refused_at / {_HOUR}, sender, COALESCE(service, ''), '', 'refused', COUNT(*) "  # noqa: S608
        f"FROM refusals WHERE sender IS NOT NULL{_GROUPED}"
    )


def downgrade() -> None:
    for table in ("months_made", "month_figures", "flow_days"):
        op.drop_table(table)
