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
    # Outgoing calls to partners (connectors/).
    "provider-unreachable": Wording(
        "The receiver's address cannot be reached. The bus tries again by itself; tell the receiver if it lasts.",
        "Không kết nối được tới bên nhận. Trục sẽ tự gửi lại; nếu kéo dài hãy báo cho bên nhận.",
    ),
    "provider-broke-off": Wording(
        "The receiver broke off the connection before its answer was complete. The bus tries again with the same key.",
        "Bên nhận ngắt kết nối khi chưa trả lời xong. Trục sẽ gửi lại với cùng khoá chống trùng.",
    ),
    "provider-tls-failed": Wording(
        "No trusted TLS connection to the receiver could be made. Check its certificate and the trusted authorities.",
        "Không lập được kết nối TLS tin cậy tới bên nhận. Hãy kiểm tra chứng thư và danh sách CA tin cậy.",
    ),
    "provider-timed-out": Wording(
        "The receiver did not finish its answer within {seconds} seconds. The bus tries again with the same key.",
        "Bên nhận không trả lời xong trong {seconds} giây. Trục sẽ gửi lại với cùng khoá chống trùng.",
    ),
    "provider-busy": Wording(
        "The receiver answered with status {status}: it cannot serve now. The bus tries again later.",
        "Bên nhận trả mã {status}: hiện chưa phục vụ được. Trục sẽ gửi lại sau.",
    ),
    "provider-refused": Wording(
        "The receiver answered with status {status} and will not take this message. Ask the receiver why, then replay.",
        "Bên nhận trả mã {status} và không nhận thông điệp này. Hãy hỏi bên nhận lý do rồi phát lại.",
    ),
    "provider-redirected": Wording(
        "The receiver answered with a redirect, which the bus never follows. Correct the endpoint's address.",
        "Bên nhận trả lời chuyển hướng; trục không đi theo. Hãy sửa địa chỉ điểm cuối.",
    ),
    "provider-login-failed": Wording(
        "The receiver did not accept the bus's login. Renew the credential of this endpoint.",
        "Bên nhận không chấp nhận đăng nhập của trục. Hãy cập nhật thông tin xác thực của điểm cuối.",
    ),
    "provider-said-no": Wording(
        "The partner system answered with error code {code}. Correct the data with the partner's manual, then replay.",
        "Hệ thống đối tác trả mã lỗi {code}. Hãy sửa dữ liệu theo tài liệu của đối tác rồi phát lại.",
    ),
    "endpoint-invalid": Wording(
        "The endpoint's setting '{setting}' is missing or has the wrong form. Correct it in the registry.",
        "Thiết lập '{setting}' của điểm cuối thiếu hoặc sai dạng. Hãy sửa trong sổ đăng ký.",
    ),
    "endpoint-secret-missing": Wording(
        "The endpoint needs a secret that is missing or has the wrong form. Store it again.",
        "Điểm cuối cần thông tin bí mật nhưng chưa có hoặc sai dạng. Hãy lưu lại.",
    ),
    "reply-not-readable": Wording(
        "The receiver's answer is not what its protocol promises. Tell the receiver; replay when it is repaired.",
        "Phản hồi của bên nhận không đúng giao thức đã công bố. Hãy báo bên nhận; phát lại khi đã sửa.",
    ),
    "reply-too-large": Wording(
        "The receiver's answer is over {limit} bytes. Ask for less, or use attachments.",
        "Phản hồi của bên nhận vượt quá {limit} byte. Hãy yêu cầu ít hơn hoặc dùng tệp đính kèm.",
    ),
    "reply-digest-wrong": Wording(
        "The receiver's answer does not match its own Content-Digest. Tell the receiver.",
        "Phản hồi của bên nhận không khớp Content-Digest của chính nó. Hãy báo bên nhận.",
    ),
}
