"""PostgreSQL: the tables that grow without bound are kept in parts (see :mod:`bus.retention`)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
#: The tables bear the same names and columns: programs of the release before go on working beside it.
expands = True

#: Table → its primary key, the column that parts it, how many of these ids belong to one exchange, and its parent.
_TABLES = {
    "payloads": (("exchange_id",), 1, "exchanges"),
    "replies": (("delivery_id",), 1024, "deliveries"),
    "attempts": (("delivery_id", "number"), 1024, "deliveries"),
    "dossier_events": (("exchange_id", "number"), 1, "exchanges"),
}
#: Index of dossier_events → its columns, and the rows that it holds.
_INDEXES = {
    "dossier_events_by_dossier": (["dossier", "exchange_id", "number"], None),
    "dossier_events_received": (["received"], "received IS NOT NULL"),
    "dossier_events_finished": (["finished"], "finished IS NOT NULL"),
    "dossier_events_milestones": (["at"], "status IN ('2', '9', '10')"),
}
_PART = 1 << 22


def upgrade() -> None:
    """What is there becomes the first part: it is read once to check its bounds, and not copied."""
    if op.get_bind().dialect.name != "postgresql":
        return
    head = op.get_bind().execute(sa.text("SELECT COALESCE(MAX(id), -1) + 1 FROM exchanges")).scalar_one()
    end = (head // _PART + 1) * _PART
    for table, (key, scale, parent) in _TABLES.items():
        first = f"{table}_{0:015d}"
        op.execute(f"ALTER TABLE {table} RENAME TO {first}")
        op.execute(f"ALTER INDEX {table}_pkey RENAME TO {first}_pkey")
        if table == "dossier_events":
            for name in _INDEXES:
                op.execute(f"ALTER INDEX {name} RENAME TO {name}_{0:015d}")
        op.execute(f"CREATE TABLE {table} (LIKE {first} INCLUDING DEFAULTS) PARTITION BY RANGE ({key[0]})")
        _constraints(table, key, parent)
        op.execute(f"ALTER TABLE {table} ATTACH PARTITION {first} FOR VALUES FROM (MINVALUE) TO ({end * scale})")
        op.execute(
            f"CREATE TABLE {table}_{end:015d} PARTITION OF {table} "
            f"FOR VALUES FROM ({end * scale}) TO ({(end + _PART) * scale})"
        )
        op.execute(f"CREATE TABLE {table}_rest PARTITION OF {table} DEFAULT")


def downgrade() -> None:
    """Copies all rows into one table: takes as long, and as much room, as they do."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, (key, _, parent) in _TABLES.items():
        op.execute(f"CREATE TABLE {table}_whole (LIKE {table} INCLUDING DEFAULTS)")
        op.execute(f"INSERT INTO {table}_whole SELECT * FROM {table}")  # noqa: S608 - our own tables
        op.execute(f"DROP TABLE {table}")
        op.execute(f"ALTER TABLE {table}_whole RENAME TO {table}")
        _constraints(table, key, parent)


def _constraints(table: str, key: tuple[str, ...], parent: str) -> None:
    op.create_primary_key(f"{table}_pkey", table, list(key))
    op.create_foreign_key(f"{table}_{key[0]}_fkey", table, parent, [key[0]], ["id"])
    if table == "dossier_events":
        for name, (columns, rows) in _INDEXES.items():
            op.create_index(name, table, columns, postgresql_where=sa.text(rows) if rows else None)
