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
        "Một giá trị không đúng dạng {kind_vi}. Hãy sửa và gửi lại.",
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
    "agency-code-no-old-form": Wording(
        "This agency code has no spelling under QCVN 102:2016. Use the new one, or register the old code as an alias.",
        "Mã định danh này không có cách viết theo QCVN 102:2016. Hãy dùng mã mới hoặc đăng ký mã cũ làm bí danh.",
    ),
    # Access decisions and the registry (registry/).
    "service-unknown": Wording(
        "There is no such service. Look up its code in the catalogue.",
        "Không có dịch vụ này. Hãy tra mã dịch vụ trong danh mục.",
    ),
    "service-version-unknown": Wording(
        "The service exists, but not in this version. Look up its versions in the catalogue.",
        "Dịch vụ có tồn tại nhưng không có phiên bản này. Hãy tra phiên bản trong danh mục.",
    ),
    "service-not-open": Wording(
        "This version of the service takes no messages at its present stage. Use an open version, or ask its owner.",
        "Phiên bản dịch vụ này hiện không nhận thông điệp. Hãy dùng phiên bản đang mở hoặc hỏi đơn vị chủ quản.",
    ),
    "no-grant": Wording(
        "The sender has no grant for this service. Ask its owner for access.",
        "Bên gửi chưa được cấp quyền dùng dịch vụ này. Hãy đề nghị đơn vị chủ quản cấp quyền.",
    ),
    "grant-expired": Wording(
        "The sender's grant for this service has expired. Ask the owner to renew it.",
        "Quyền dùng dịch vụ của bên gửi đã hết hạn. Hãy đề nghị đơn vị chủ quản gia hạn.",
    ),
    "grant-not-yet": Wording(
        "The sender's grant for this service is not in force yet. Send again after it begins.",
        "Quyền dùng dịch vụ của bên gửi chưa có hiệu lực. Hãy gửi lại sau khi quyền bắt đầu.",
    ),
    "purpose-missing": Wording(
        "The grant for this service asks for a stated purpose. State one of the granted purposes.",
        "Quyền dùng dịch vụ này yêu cầu nêu mục đích. Hãy nêu một mục đích đã được cấp.",
    ),
    "purpose-not-granted": Wording(
        "The stated purpose is not in the sender's grant. State a granted purpose, or ask the owner to extend the grant.",
        "Mục đích nêu ra không có trong quyền được cấp. Hãy nêu mục đích đã được cấp hoặc đề nghị bổ sung.",
    ),
    "receiver-not-granted": Wording(
        "The sender's grant does not reach every receiver. Leave out those listed, or ask the owner to extend the grant.",
        "Quyền của bên gửi không bao gồm mọi bên nhận. Hãy bỏ các bên được liệt kê hoặc đề nghị bổ sung quyền.",
    ),
    "receiver-missing": Wording(
        "The message names no receiver. Name at least one.",
        "Thông điệp chưa nêu bên nhận. Hãy nêu ít nhất một bên.",
    ),
    "receiver-unknown": Wording(
        "A receiver is not a member of this bus. Correct the receivers listed.",
        "Có bên nhận không phải thành viên của trục. Hãy sửa các bên nhận được liệt kê.",
    ),
    "receiver-takes-not": Wording(
        "A receiver has no system that takes this service now. Leave it out, or ask it to register one.",
        "Có bên nhận hiện không có hệ thống tiếp nhận dịch vụ này. Hãy bỏ bên đó hoặc đề nghị họ đăng ký hệ thống.",
    ),
    "receiver-cannot-reply": Wording(
        "The receiver's system fetches its messages and cannot answer a call. Ask it to register an endpoint.",
        "Hệ thống bên nhận tự lấy thông điệp nên không thể trả lời ngay. Hãy đề nghị họ đăng ký điểm cuối.",
    ),
    "one-receiver-only": Wording(
        "A request-reply service takes exactly one receiver. Send one message for each.",
        "Dịch vụ hỏi-đáp chỉ nhận đúng một bên nhận. Hãy gửi riêng cho từng bên.",
    ),
    "grade-too-low": Wording(
        "This service takes only messages that their sender has signed. Sign the manifest with the registered key.",
        "Dịch vụ này chỉ nhận thông điệp do bên gửi ký. Hãy ký bản kê khai bằng khoá đã đăng ký.",
    ),
    "content-type-not-taken": Wording(
        "The service does not take this content type. It takes: {taken}.",
        "Dịch vụ không nhận kiểu nội dung này. Các kiểu được nhận: {taken}.",
    ),
    "body-too-large": Wording(
        "The payload is over the service's limit of {limit} bytes. Move large parts into attachments.",
        "Nội dung vượt giới hạn {limit} byte của dịch vụ. Hãy chuyển phần lớn sang tệp đính kèm.",
    ),
    "quota-of-minute": Wording(
        "The quota of {limit} messages a minute is used up. Send the same message again later.",
        "Đã dùng hết hạn mức {limit} thông điệp mỗi phút. Hãy gửi lại sau.",
    ),
    "quota-of-day": Wording(
        "The quota of {limit} messages a day is used up. Send the same message again tomorrow, or ask for a higher quota.",
        "Đã dùng hết hạn mức {limit} thông điệp mỗi ngày. Hãy gửi lại vào ngày mai hoặc đề nghị tăng hạn mức.",
    ),
    "registry-unreachable": Wording(
        "The registry cannot be read now, so no right can be checked. Send the same message again later.",
        "Hiện không đọc được sổ đăng ký nên không kiểm tra được quyền. Hãy gửi lại sau.",
    ),
    "registry-changed": Wording(
        "The registry was changed after these changes were checked. Nothing was written; apply them again.",
        "Sổ đăng ký đã thay đổi sau khi kiểm tra. Chưa ghi gì; hãy áp dụng lại.",
    ),
    "registry-inconsistent": Wording(
        "The registry would not be consistent after these changes. Nothing was written; correct the places listed.",
        "Sổ đăng ký sẽ không nhất quán sau các thay đổi này. Chưa ghi gì; hãy sửa các chỗ được liệt kê.",
    ),
    "registry-manifest-invalid": Wording(
        "A manifest of the registry has errors. Nothing was written; correct the places listed.",
        "Tệp khai báo đăng ký có lỗi. Chưa ghi gì; hãy sửa các chỗ được liệt kê.",
    ),
}
