"""What people who sign in to the console may be. Apart from :mod:`bus.people`: settings are read before anything of the
store is."""

from __future__ import annotations

from enum import StrEnum


class PersonRole(StrEnum):
    """What somebody is there for. A person may have several."""

    OBSERVER = "observer"
    OPERATOR = "operator"
    REGISTRAR = "registrar"
    SECURITY_OFFICER = "security-officer"
    AUDITOR = "auditor"
