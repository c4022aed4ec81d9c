"""Twin of the tax office's registration of new enterprises (vietnam.md 1.5 S4-3, 4.13): the second half of the joint
dossier of business and tax registration. Its manners: :mod:`connectors.sandbox.later`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from connectors.sandbox.later import Office, presets
from schemas.identifiers import TaxCode
from schemas.problem import Malformed

NAME: Final = "tax"


def _fault(request: Mapping[str, Any]) -> str:
    try:
        TaxCode(request.get("maSoDoanhNghiep"))
    except Malformed:
        return "maSoDoanhNghiep"
    return "" if request.get("tenNguoiNopThue") else "tenNguoiNopThue"


def _result(request: Mapping[str, Any], _: int) -> Mapping[str, Any]:
    """For new enterprises the tax code is the enterprise's number (vietnam.md 3.8)."""
    return {
        "MaSoThue": request["maSoDoanhNghiep"],
        "TenNguoiNopThue": request["tenNguoiNopThue"],
        "DiaChi": request.get("diaChi", ""),
        "CoQuanThueQuanLy": "Thuế tỉnh Thử Nghiệm",
        "TrangThai": "00",
    }


OFFICE: Final = Office(name=NAME, asks="dangKyThue", cancels="huyDangKyThue", fault=_fault, result=_result)
PRESETS: Final = presets(NAME, "G99.26/dang-ky-thue")
