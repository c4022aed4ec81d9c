"""Changes of the registry that somebody looks at before applying them. The SQL of it.

A draft is the text of manifests and nothing more: what it would change is worked out anew each time it is looked at, by
the same functions that `lgsp registry apply` calls. Drafts that nobody applied go after a day. Thread-safe.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import uuid6
from sqlalchemy import Connection, delete, insert, select

from bus.store import Store
from bus.tables import registry_drafts
from schemas.moment import from_micros, to_micros

_KEPT = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryDraft:
    """Manifests that wait for a second look."""

    id: str
    person: str
    made_at: datetime
    #: Where it came from: a file's name, a form.
    origin: str
    manifest: str
    notes: tuple[str, ...] = ()
    #: The page of the console to go back to.
    back: str = ""


class RegistryDrafts:
    """Keeps drafts, each for the person who made it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def keep(
        self, person: str, manifest: str, now: datetime, *, origin: str, notes: Sequence[str] = (), back: str = ""
    ) -> str:
        """A new draft; its id."""
        row = {
            "id": str(uuid6.uuid7()), "person": person, "made_at": to_micros(now), "origin": origin[:200],
            "manifest": manifest, "notes": json.dumps(list(notes), ensure_ascii=False), "back": back,
        }  # fmt: skip

        def change(connection: Connection) -> None:
            old = registry_drafts.c.made_at < to_micros(now - _KEPT)
            connection.execute(delete(registry_drafts).where(old))
            connection.execute(insert(registry_drafts).values(row))

        self._store.write(change)
        return str(row["id"])

    def find(self, draft_id: str, person: str) -> RegistryDraft | None:
        """The draft, if it is this person's."""
        query = select(registry_drafts).where(registry_drafts.c.id == draft_id, registry_drafts.c.person == person)
        with self._store.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        return RegistryDraft(
            id=row.id,
            person=row.person,
            made_at=from_micros(row.made_at),
            origin=row.origin,
            manifest=row.manifest,
            notes=tuple(json.loads(row.notes)),
            back=row.back,
        )


def forget(connection: Connection, draft_id: str) -> None:
    """Take a draft away in a transaction of the caller's."""
    connection.execute(delete(registry_drafts).where(registry_drafts.c.id == draft_id))
