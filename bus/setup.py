"""First-time set-up of a home folder: keys and store. Everything here may be repeated without harm."""

from __future__ import annotations

from bus.people import People, PersonRole
from bus.settings import Settings
from bus.store import open_store
from bus.upgrading import Upgrade
from schemas.identifiers import SystemCode
from schemas.moment import utc_now
from schemas.problem import InternalFailure
from security.evidence.checkpoint import NoteKey
from security.evidence.log import EvidenceLog
from security.keys import KeyRing
from security.secrets import SecretBox


def initialise(settings: Settings) -> None:
    """Make what is missing: signing keys, the evidence log's key, the master key of secrets, the store's tables.

    Raises StoreUnfit when the tables may not be brought up to date while other nodes run, and
    InternalFailure(restore-incomplete): what a restore has not brought yet is not missing.
    """
    if settings.restore_mark_path.exists():
        raise InternalFailure("restore-incomplete")
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.key_folder.mkdir(exist_ok=True, mode=0o700)
    KeyRing.open_or_create(settings.ring_folder, SystemCode(settings.system))
    log_key = NoteKey.load_or_create(settings.log_key_path, settings.log_origin)
    SecretBox.load_or_create(settings.master_key_path)
    store = open_store(settings)
    try:
        Upgrade(store).bring_up_to_date(utc_now())
        with store.writing() as connection:
            EvidenceLog(settings.log_origin, log_key).prepare(connection)
    finally:
        store.close()


#: The first account; what it may do it can give to others.
FIRST_PERSON = "admin"
_FIRST_ROLES = (PersonRole.OPERATOR, PersonRole.REGISTRAR, PersonRole.SECURITY_OFFICER)


def first_person(settings: Settings) -> str | None:
    """Make the account that the console is first opened with; its password, told this once, or None when there are
    people already."""
    store = open_store(settings)
    try:
        people = People(store, SecretBox.load(settings.master_key_path))
        if people.any_there():
            return None
        return people.add(
            FIRST_PERSON,
            display_name="Quản trị trục",
            roles=_FIRST_ROLES,
            now=utc_now(),
            by=f"system:{settings.system}",
        )
    finally:
        store.close()
