"""Code lists of the country, as data: level-1 agencies, provinces of the citizen number, dossier statuses.

Names are NFC. ``verified`` tells whether a published source confirms the pair of code and name; the others fit every
confirmed one but rest on general knowledge (vietnam.md 3.1). Nothing here refuses a message: a code that is missing
from a list may simply be newer than the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class Level1(NamedTuple):
    """A level-1 agency: a ministry or central body (``G..``) or a province (``H..``)."""

    code: str
    name: str
    verified: bool
    #: Nobody owns it: for sandboxes and tests.
    is_test: bool = False


def _table(prefix: str, text: str, *, verified: frozenset[str] | None) -> dict[str, Level1]:
    """``verified=None``: all of them are."""
    table = {}
    for entry in text.split("·"):
        number, name = entry.split(maxsplit=1)
        code = prefix + number
        table[code] = Level1(code, " ".join(name.split()), verified is None or code in verified)
    return table


_MINISTRIES = """
01 Công an · 02 Công Thương · 03 Giáo dục và Đào tạo · 04 Giao thông vận tải · 05 Kế hoạch và Đầu tư ·
06 Khoa học và Công nghệ · 07 Lao động - Thương binh và Xã hội · 08 Ngoại giao · 09 Nội vụ ·
10 Nông nghiệp và Phát triển nông thôn · 11 Quốc phòng · 12 Tài chính · 13 Tài nguyên và Môi trường ·
14 Thông tin và Truyền thông · 15 Tư pháp · 16 Văn hóa, Thể thao và Du lịch · 17 Xây dựng · 18 Y tế ·
19 Ngân hàng Nhà nước · 20 Thanh tra Chính phủ · 21 Ủy ban Dân tộc · 22 Văn phòng Chính phủ ·
24 Bảo hiểm xã hội Việt Nam · 27 Đài Tiếng nói Việt Nam · 28 Đài Truyền hình Việt Nam · 30 Thông tấn xã Việt Nam
"""

#: The 63 provinces before 01/07/2025, in alphabetical order; merged ones keep appearing under their old codes.
_PROVINCES = """
01 An Giang · 02 Bắc Giang · 03 Bắc Kạn · 04 Bạc Liêu · 05 Bắc Ninh · 06 Bà Rịa - Vũng Tàu · 07 Bến Tre · 08 Bình Định ·
09 Bình Dương · 10 Bình Phước · 11 Bình Thuận · 12 Cà Mau · 13 Cần Thơ · 14 Cao Bằng · 15 Đắk Lắk · 16 Đắk Nông ·
17 Đà Nẵng · 18 Điện Biên · 19 Đồng Nai · 20 Đồng Tháp · 21 Gia Lai · 22 Hà Giang · 23 Hải Dương · 24 Hải Phòng ·
25 Hà Nam · 26 Hà Nội · 27 Hà Tĩnh · 28 Hòa Bình · 29 TP. Hồ Chí Minh · 30 Hậu Giang · 31 Hưng Yên · 32 Khánh Hòa ·
33 Kiên Giang · 34 Kon Tum · 35 Lai Châu · 36 Lâm Đồng · 37 Lạng Sơn · 38 Lào Cai · 39 Long An · 40 Nam Định ·
41 Nghệ An · 42 Ninh Bình · 43 Ninh Thuận · 44 Phú Thọ · 45 Phú Yên · 46 Quảng Bình · 47 Quảng Nam · 48 Quảng Ngãi ·
49 Quảng Ninh · 50 Quảng Trị · 51 Sóc Trăng · 52 Sơn La · 53 Tây Ninh · 54 Thái Bình · 55 Thái Nguyên · 56 Thanh Hóa ·
57 Thừa Thiên Huế · 58 Tiền Giang · 59 Trà Vinh · 60 Tuyên Quang · 61 Vĩnh Long · 62 Vĩnh Phúc · 63 Yên Bái
"""

_CONFIRMED_PROVINCES = frozenset(["H14", "H15", "H17", "H22", "H29", "H30", "H37", "H41", "H49", "H56"])

_TEST = {
    "G99": Level1("G99", "Bộ Thử Nghiệm", verified=True, is_test=True),
    "H99": Level1("H99", "Tỉnh Thử Nghiệm", verified=True, is_test=True),
}

#: Level-1 agencies by code, ministries first, the two test agencies last.
LEVEL_1: Final[Mapping[str, Level1]] = MappingProxyType(
    _table("G", _MINISTRIES, verified=None) | _table("H", _PROVINCES, verified=_CONFIRMED_PROVINCES) | _TEST
)

_BIRTH_PROVINCES = """
001 Hà Nội · 002 Hà Giang · 004 Cao Bằng · 006 Bắc Kạn · 008 Tuyên Quang · 010 Lào Cai · 011 Điện Biên ·
012 Lai Châu · 014 Sơn La · 015 Yên Bái · 017 Hòa Bình · 019 Thái Nguyên · 020 Lạng Sơn · 022 Quảng Ninh ·
024 Bắc Giang · 025 Phú Thọ · 026 Vĩnh Phúc · 027 Bắc Ninh · 030 Hải Dương · 031 Hải Phòng · 033 Hưng Yên ·
034 Thái Bình · 035 Hà Nam · 036 Nam Định · 037 Ninh Bình · 038 Thanh Hóa · 040 Nghệ An · 042 Hà Tĩnh ·
044 Quảng Bình · 045 Quảng Trị · 046 Thừa Thiên Huế · 048 Đà Nẵng · 049 Quảng Nam · 051 Quảng Ngãi ·
052 Bình Định · 054 Phú Yên · 056 Khánh Hòa · 058 Ninh Thuận · 060 Bình Thuận · 062 Kon Tum · 064 Gia Lai ·
066 Đắk Lắk · 067 Đắk Nông · 068 Lâm Đồng · 070 Bình Phước · 072 Tây Ninh · 074 Bình Dương · 075 Đồng Nai ·
077 Bà Rịa - Vũng Tàu · 079 TP. Hồ Chí Minh · 080 Long An · 082 Tiền Giang · 083 Bến Tre · 084 Trà Vinh ·
086 Vĩnh Long · 087 Đồng Tháp · 089 An Giang · 091 Kiên Giang · 092 Cần Thơ · 093 Hậu Giang · 094 Sóc Trăng ·
095 Bạc Liêu · 096 Cà Mau
"""

#: Province of birth registration in a citizen number (TT 07/2016/TT-BCA). Numbers never change, so merged provinces
#: stay for ever. Codes above 100 stand for countries of birth and are not listed.
BIRTH_PROVINCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        number: " ".join(name.split())
        for number, name in (entry.split(maxsplit=1) for entry in _BIRTH_PROVINCES.split("·"))
    }
)

#: Not allocated by TT 07/2016: citizen numbers of test persons (vietnam.md 6.1).
TEST_BIRTH_PROVINCES: Final = frozenset({"097", "098", "099"})


class ListedStatus(NamedTuple):
    """A status of a list; ``next`` holds the statuses that may follow, none when it is final."""

    code: str
    name: str
    next: tuple[str, ...]


#: National dossier statuses by code (vietnam.md 3.4). The transitions are the ones a well-behaved one-stop makes;
#: observed systems skip some of them, so they are for warnings, not for refusals.
DOSSIER_STATUSES: Final[Mapping[str, ListedStatus]] = MappingProxyType(
    {
        status.code: status
        for status in (
            ListedStatus("1", "Mới đăng ký", ("2", "3", "7")),
            ListedStatus("2", "Được tiếp nhận", ("4", "5", "6", "8", "9", "7")),
            ListedStatus("3", "Không được tiếp nhận", ()),
            ListedStatus("4", "Đang xử lý", ("5", "6", "8", "9", "7")),
            ListedStatus("5", "Yêu cầu bổ sung giấy tờ", ("2", "4", "7", "8")),
            ListedStatus("6", "Yêu cầu thực hiện nghĩa vụ tài chính", ("4", "7", "8")),
            ListedStatus("7", "Công dân yêu cầu rút hồ sơ", ()),
            ListedStatus("8", "Dừng xử lý", ("4", "7")),
            ListedStatus("9", "Đã xử lý xong", ("10",)),
            ListedStatus("10", "Đã trả kết quả", ()),
        )
    }
)


#: Statuses in which a dossier's work is done: its result is there, or was handed out.
DONE_STATUSES: Final = frozenset({"9", "10"})
#: Statuses that statistics leave out: nobody has taken the dossier on (vietnam.md 3.4).
UNCOUNTED_STATUSES: Final = frozenset({"1", "3"})


def may_follow(before: str, after: str, statuses: Mapping[str, ListedStatus] = DOSSIER_STATUSES) -> bool:
    """Does a well-behaved system go from one status of the list to the other? The same status again is no step.

    For marking, never for refusing: provinces send 5, 6 and 8 as 9, and 9 for what nobody finished (P11).
    """
    known = statuses.get(before)
    return before == after or known is None or after in known.next


#: TrangThai of a petition (vietnam.md 4.21, a suggestion; the transitions are ours and for marking only). An agency to
#: which one was handed on may hand it on again or give it back, an answer may be taken up again before it is closed.
PETITION_STATUSES: Final[Mapping[str, ListedStatus]] = MappingProxyType(
    {
        status.code: status
        for status in (
            ListedStatus("1", "Mới", ("2", "3", "6")),
            ListedStatus("2", "Đã tiếp nhận", ("3", "4", "5", "6")),
            ListedStatus("3", "Đã chuyển", ("2", "4", "5", "6")),
            ListedStatus("4", "Đang xử lý", ("3", "5", "6")),
            ListedStatus("5", "Đã trả lời", ("4", "7")),
            ListedStatus("6", "Từ chối", ("7",)),
            ListedStatus("7", "Đóng", ()),
        )
    }
)
#: Statuses in which the sender of a petition has heard the end of it: its clock stands still.
SETTLED_PETITIONS: Final = frozenset({"5", "6", "7"})

#: NguonGui: how a petition came in. The first four are of vietnam.md 4.21; the others are the ways that the rules name
#: beside them (paper, telephone, fax, e-mail), in words of ours.
PETITION_SOURCES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "DVCQG": "Cổng Dịch vụ công quốc gia", "tinh": "Cổng của tỉnh", "SMS": "Tin nhắn", "kiosk": "Kiosk",
        "giay": "Đơn giấy", "mot-cua": "Bộ phận Một cửa", "dien-thoai": "Điện thoại", "fax": "Fax",
        "thu-dien-tu": "Thư điện tử",
    }
)  # fmt: skip


class LocalStatuses(NamedTuple):
    """Another list of dossier statuses, as its system writes them → national code.

    ``""`` as a code: a status that has no national counterpart. ``observed``: the pairs were seen in running systems;
    otherwise the list is published and the pairing is our reading, for an integrator to confirm.
    """

    source: str
    observed: bool
    national: Mapping[str, str]


#: Lists that a service's dossier view may name (vietnam.md 3.4). A manifest may also write a table of its own.
LOCAL_STATUSES: Final[Mapping[str, LocalStatuses]] = MappingProxyType(
    {
        "national": LocalStatuses(
            "the national list itself", observed=True, national={code: code for code in DOSSIER_STATUSES}
        ),
        "opencps": LocalStatuses(
            "OpenCPS, FormatTrangThaiHoSoDVCQG",
            observed=True,
            national={
                "new": "2", "receiving": "1", "processing": "4", "interoperating": "", "waiting": "5", "paying": "6",
                "releasing": "9", "done": "10", "denied": "3", "cancelled": "7", "unresolved": "8",
            },
        ),
        "profile-exchange": LocalStatuses(
            "message types of the provincial dossier exchange",
            observed=False,
            national={
                "TIEPNHAN": "2", "CAPNHAT": "4", "RUT": "7", "TUCHOI": "3", "KETQUA": "9", "THANHTOAN": "6",
            },
        ),
        "civil-status": LocalStatuses(
            "traTrangThaiHoSo of civil status",
            observed=False,
            national={"0": "", "1": "2", "2": "5", "3": "4", "4": "9", "6": "3"},
        ),
        "birth-group": LocalStatuses(
            "status push of the birth group (DVCLT)",
            observed=False,
            national={"1": "1", "2": "5", "3": "2", "4": "9", "5": "10", "6": "3", "7": "4"},
        ),
        "criminal-record": LocalStatuses(
            "DEC_STATUS_ID of the criminal record", observed=False, national={"3": "2", "4": "4", "5": "9"}
        ),
        "monitoring": LocalStatuses(
            "monitoring of dossiers (EMC)",
            observed=False,
            national={"0": "", "1": "2", "2": "4", "3": "10", "4": "4"},
        ),
    }
)  # fmt: skip

#: KenhThucHien: how a dossier came in (vietnam.md 3.5).
CHANNELS: Final[Mapping[str, str]] = MappingProxyType({"1": "Trực tiếp", "2": "Trực tuyến", "3": "Bưu chính công ích"})

#: HinhThuc: how its result goes out.
RESULT_DELIVERIES: Final[Mapping[str, str]] = MappingProxyType({"0": "Tại quầy", "1": "Qua bưu chính"})

#: LoaiDoiTuong: who applies.
APPLICANT_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {"1": "Công dân", "2": "Doanh nghiệp", "3": "Cơ quan nhà nước", "4": "Tổ chức khác"}
)
