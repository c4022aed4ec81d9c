"""Twin of the social insurance's office that gives new-born children their health card (vietnam.md 3.8, 6.1), the last
leg of the birth chain. Its manners: :mod:`connectors.sandbox.later`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from connectors.sandbox.later import Office, presets
from connectors.sandbox.residence import personal_number

NAME: Final = "health_card"
#: Children under six, highest level, and the province that does not exist.
CARD: Final = "TE199"


def _result(request: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    insured = f"99{number:08d}"
    return {"soDinhDanh": personal_number(request), "maSoBhxh": insured, "soTheBHYT": f"{CARD}{insured}"}


OFFICE: Final = Office(
    name=NAME,
    asks="capThe",
    fault=lambda request: "" if personal_number(request) else "ketQua",
    result=_result,
)
PRESETS: Final = presets(NAME, "G99.25/the-bhyt")
