"""What the twin of the national portal knows of procedures, fields and agencies: invented, in the portal's own shape.

Codes and names come from vietnam.md 3.3. Several names differ by one word, and one is the same twice under two codes,
because there are clients that match procedures by the likeness of names (P10).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIELDS = {"G15-HT03": "Hộ tịch", "G15-TP01": "Lý lịch tư pháp", "G99-DN01": "Cấp phép", "G99-KM01": "Khuyến mại"}
AGENCIES = {
    "G99": ("Bộ Thử Nghiệm", "1"),
    "H99": ("Tỉnh Thử Nghiệm", "1"),
    "H99.15": ("Sở Mẫu", "2"),
    "H99.20": ("UBND phường Mẫu", "3"),
}
#: Code, name, field, working days, fee in đồng by channel (1 counter, 2 online, 3 post), components, results.
_ROWS: tuple[tuple[str, str, str, int, tuple[int, int, int], tuple[str, ...], str], ...] = (
    (
        "1.001193",
        "Thủ tục đăng ký khai sinh",
        "G15-HT03",
        1,
        (0, 0, 0),
        ("Tờ khai", "Giấy chứng sinh"),
        "KQ.G15.000031",
    ),
    ("1.000894", "Thủ tục đăng ký kết hôn", "G15-HT03", 3, (0, 0, 0), ("Tờ khai",), "KQ.G15.000032"),
    ("2.000488", "Cấp Phiếu lý lịch tư pháp cho công dân Việt Nam", "G15-TP01", 10, (200000, 200000, 200000), (), ""),
    ("2.000489", "Cấp Phiếu lý lịch tư pháp cho cơ quan Việt Nam", "G15-TP01", 10, (200000, 200000, 200000), (), ""),
    ("1.003560", "Cấp giấy phép", "G99-DN01", 15, (150000, 75000, 150000), ("Đơn đề nghị",), ""),
    ("1.003561", "Cấp lại giấy phép", "G99-DN01", 7, (150000, 75000, 150000), ("Đơn đề nghị",), ""),
    ("1.003562", "Cấp giấy phép", "G99-DN01", 20, (300000, 300000, 300000), ("Đơn đề nghị",), ""),
    ("2.000033", "Thông báo hoạt động khuyến mại", "G99-KM01", 5, (0, 0, 0), ("Thông báo",), ""),
)


def catalogue() -> dict[str, dict[str, Any]]:
    """Procedures by code, each as LayThuTuc tells it (vietnam.md 4.2); a copy that may be changed."""
    return {row[0]: _procedure(*row) for row in _ROWS}


def listed(procedure: Mapping[str, Any]) -> dict[str, Any]:
    """A procedure as LayDanhSachTTHC lists it."""
    return {name: procedure[name] for name in ("MATTHC", "TENTTHC", "TRANGTHAI")}


def public_service(procedure: Mapping[str, Any]) -> dict[str, Any]:
    """The online service (DVC) of a procedure, as LayDVC lists it: its code is the procedure's with ``.01``."""
    return {
        "MADVC": f"{procedure['MATTHC']}.01",
        "TENDVC": procedure["TENTTHC"],
        "MATTHC": procedure["MATTHC"],
        "TENTTHC": procedure["TENTTHC"],
        "TENCOQUANBANHANH": AGENCIES["G99"][0],
        "TENLINHVUC": procedure["LINHVUCTHUCHIEN"][0]["TENLINHVUC"],
        "APDUNGDVC": [{"MADONVI": "H99", "TENDONVI": AGENCIES["H99"][0]}],
    }


def _procedure(
    code: str, name: str, field: str, days: int, fees: tuple[int, int, int], components: tuple[str, ...], result: str
) -> dict[str, Any]:
    return {
        "MATTHC": code,
        "TENTTHC": name,
        "LINHVUCTHUCHIEN": [{"MALINHVUC": field, "TENLINHVUC": FIELDS[field]}],
        "MACOQUANCONGBO": "G99",
        "TRINHTUTHUCHIEN": [{"TRUONGHOP": "", "TRINHTU": [{"TENTRINHTU": "Nộp hồ sơ tại Bộ phận Một cửa"}]}],
        "CACHTHUCTHUCHIEN": [
            {
                "KENH": channel,
                "THOIGIAN": [
                    {
                        "THOIGIANGIAIQUYET": days,
                        "DONVITINH": "Ngày làm việc",
                        "MOTA": "",
                        "PHILEPHI": [{"MAPHILEPHI": "LP01", "SOTIEN": fee, "DONVI": "đồng", "MOTA": ""}] if fee else [],
                    }
                ],
            }
            for channel, fee in enumerate(fees, start=1)
        ],
        "YEUCAU": "",
        "DOITUONGTHUCHIEN": [{"TENDOITUONG": "Công dân Việt Nam"}],
        "KETQUATHUCHIEN": [{"MAKETQUA": result, "TENKETQUA": "Kết quả giải quyết"}] if result else [],
        "CANCUPHAPLY": [{"SOVANBAN": "99/2026/TT-BTN", "TENVANBAN": "Thông tư thử nghiệm"}],
        "COQUANTHUCHIEN": [{"MADONVI": "H99.15", "TENDONVI": AGENCIES["H99.15"][0]}],
        "THANHPHANHOSO": [
            {
                "TRUONGHOP": "",
                "GIAYTO": [
                    {"MAGIAYTO": f"G99.T{number:03d}", "TENGIAYTO": paper, "TENMAUDON": "", "URL": ""}
                    for number, paper in enumerate(components, start=1)
                ],
            }
        ]
        if components
        else [],
        "TRANGTHAI": 1,
    }
