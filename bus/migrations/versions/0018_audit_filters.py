"""The audit trail is read by agency and by action, too."""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None
expands = True


def upgrade() -> None:
    op.create_index("audit_events_of_agency", "audit_events", ["agency", "id"])
    op.create_index("audit_events_of_action", "audit_events", ["action", "id"])


def downgrade() -> None:
    op.drop_index("audit_events_of_action", "audit_events")
    op.drop_index("audit_events_of_agency", "audit_events")
