"""Alembic's entry: runs the migrations on the connection that :mod:`bus.store` hands it."""

from __future__ import annotations

from alembic import context

import bus.tables
import registry.store
import security.evidence.log

METADATA = [bus.tables.metadata, registry.store.metadata, security.evidence.log.metadata]


def run() -> None:
    context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
    with context.begin_transaction():
        context.run_migrations()


run()
