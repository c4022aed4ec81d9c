"""The catalogue of reasons: a stable code, and what to tell a person in English and Vietnamese.

Wording rules: say what happened, then what to do; weave in limits and names of fields, never a received value.
Codes are contract (a change is a changelog entry); wording may be improved at any time.
"""

from __future__ import annotations

from typing import NamedTuple


class Wording(NamedTuple):
    en: str
    vi: str


REASONS: dict[str, Wording] = {
    "internal": Wording(
        "The bus could not finish this. Nothing was acknowledged; send the same message again, "
        "and give the trace id to the operator if it happens twice.",
        "Trục không xử lý được yêu cầu. Chưa có gì được xác nhận; hãy gửi lại đúng thông điệp này "
        "và báo mã truy vết cho quản trị nếu lỗi lặp lại.",
    ),
    "identifier-invalid": Wording(
        "A value is not a well-formed {kind}. Correct it and send again.",
        "Một giá trị không đúng dạng {kind}. Hãy sửa và gửi lại.",
    ),
    "manifest-invalid": Wording(
        "The manifest's member '{member}' is missing or has the wrong form. See the wire protocol, section Manifest.",
        "Trường '{member}' của bản kê khai thiếu hoặc sai dạng. Xem đặc tả giao thức, mục Manifest.",
    ),
    "manifest-unknown-member": Wording(
        "The manifest's section {section} has a member that this version does not know. Remove it and sign again.",
        "Mục {section} của bản kê khai có trường mà phiên bản này không biết. Hãy bỏ đi và ký lại.",
    ),
}
