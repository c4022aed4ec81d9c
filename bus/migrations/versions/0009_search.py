"""Indexes for finding messages by agency and service (see :mod:`bus.search`)."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None
expands = True

_INDEXES = {
    "exchanges_by_sender": ("exchanges", ["sender", "id"]),
    "exchanges_of_service": ("exchanges", ["service", "id"]),
    "deliveries_by_receiver": ("deliveries", ["receiver", "id"]),
}


def upgrade() -> None:
    for name, (table, columns) in _INDEXES.items():
        op.create_index(name, table, columns)


def downgrade() -> None:
    for name, (table, _) in _INDEXES.items():
        op.drop_index(name, table)
