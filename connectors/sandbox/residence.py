"""Twin of the police's residence registration in the birth chain (vietnam.md 1, row SC-6): a new-born child is
registered where its parents live, once it has a personal number. Its manners: :mod:`connectors.sandbox.later`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from connectors.sandbox.later import Office, presets

NAME: Final = "residence"


def personal_number(request: Mapping[str, Any]) -> str:
    """The child's number in ``ketQua``, the result of the birth registration as the ministry wrote it (JSON as text);
    empty where there is none."""
    try:
        number = str(json.loads(request["ketQua"])["soDinhDanh"])
    except (KeyError, TypeError, ValueError):
        return ""
    return number if re.fullmatch("[0-9]{12}", number) else ""


def _result(request: Mapping[str, Any], _: int) -> Mapping[str, Any]:
    # No district since 01/07/2025, and the member stays (P23).
    address = {"maTinh": "31", "maHuyen": "", "maXa": "11560", "dcChiTiet": "1 đường Mẫu"}
    return {"soDinhDanh": personal_number(request), "noiThuongTru": address}


OFFICE: Final = Office(
    name=NAME,
    asks="dangKyThuongTru",
    fault=lambda request: "" if personal_number(request) else "ketQua",
    result=_result,
)
PRESETS: Final = presets(NAME, "G99.02/cu-tru")
