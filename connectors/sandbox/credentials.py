"""The twins' credentials: random for each installation, in one file that only its owner can read.

Public client code of this field has default passwords made of the agency's code (vietnam.md 6.4); a sandbox with a
default would teach the same habit. The file is made at the first start and kept, so that a sandbox that comes back is
the same partner.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

#: Twins with a login, and the name they log in with.
NAMES = {
    "national_portal": "truc-lgsp",
    "national_portal_2025": "truc-lgsp",
    # What the portal logs in to the bus with.
    "national_portal_inbound": "cong-dvc",
    "result_store": "truc-lgsp",
    "one_stop": "truc-lgsp",
    "business_registry": "truc-lgsp",
    "generic": "truc-lgsp",
    "population": "truc-lgsp",
    "paygov": "ACCESSKEY-SANDBOX",
    "social_insurance": "truc-lgsp",
    "criminal_record": "truc-lgsp",
    "social_protection": "truc-lgsp",
    "edoc": "truc-lgsp",
    "driver_licence": "truc-lgsp",
    "payment": "DT-SANDBOX",
    "civil_status": "truc-lgsp",
    "land": "truc-lgsp",
    "post": "truc-lgsp",
    "sms": "truc-lgsp",
    "zalo": "truc-lgsp",
    "residence": "truc-lgsp",
    "health_card": "truc-lgsp",
    "tax": "truc-lgsp",
    "petition": "truc-lgsp",
}
#: Twins that want more than a name and a password: what their random parts are called.
PARTS = {
    "zalo": ("app_id", "secret_key", "refresh_token"),
    "land": ("password", "security_code"),
    "population": ("secret", "api_key"),
    "criminal_record": ("secret", "callback"),
    "civil_status": ("secret", "callback"),
    "residence": ("secret", "callback"),
    "health_card": ("secret", "callback"),
    "tax": ("secret", "callback"),
    "petition": ("secret", "callback"),
}


def open_credentials(path: Path) -> Mapping[str, str]:
    """``name:password`` by twin, from the file or made now with mode 0600; a JSON object of ``user`` and ``PARTS`` for
    a twin that has them.

    This is the form in which connectors take their secret. Raises PermissionError when others can read the file.
    """
    if path.exists():
        if path.stat().st_mode & 0o077:
            raise PermissionError("the credentials file of the sandbox may be read by its owner only (chmod 600)")
        known: dict[str, str] = json.loads(path.read_text("utf-8"))
    else:
        known = {}
    missing = NAMES.keys() - known.keys()
    if missing:
        known |= {twin: _made(twin) for twin in sorted(missing)}
        _write(path, known)
    return known


def _made(twin: str) -> str:
    if twin not in PARTS:
        return f"{NAMES[twin]}:{secrets.token_urlsafe(24)}"
    return json.dumps({"user": NAMES[twin], **{part: secrets.token_urlsafe(24) for part in PARTS[twin]}})


def _write(path: Path, known: Mapping[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(known, file, indent=1)
    partial.replace(path)
