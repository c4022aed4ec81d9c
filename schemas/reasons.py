"""The catalogue of reasons: a stable code, and what to tell a person in English and Vietnamese.

Wording rules: say what happened, then what to do; weave in limits and names of fields, never a received value.
Codes are contract (a change is a changelog entry); wording may be improved at any time.
"""

from __future__ import annotations

from typing import NamedTuple


class Wording(NamedTuple):
    """One meaning in both languages."""

    en: str
    vi: str

    def said(self, language: str) -> str:
        """In Vietnamese for ``vi``, else in English."""
        return self.vi if language == "vi" else self.en


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
    "service-not-of-system": Wording(
        "This system is registered to send other services only. Send it from a system that is there for it.",
        "Hệ thống này chỉ được đăng ký để gửi các dịch vụ khác. Hãy gửi từ hệ thống được phép.",
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
        "The stated purpose is not in the sender's grant. "
        "State a granted purpose, or ask the owner to extend the grant.",
        "Mục đích nêu ra không có trong quyền được cấp. Hãy nêu mục đích đã được cấp hoặc đề nghị bổ sung.",
    ),
    "receiver-not-granted": Wording(
        "The sender's grant does not reach every receiver. "
        "Leave out those listed, or ask the owner to extend the grant.",
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
        "The quota of {limit} messages a day is used up. "
        "Send the same message again tomorrow, or ask for a higher quota.",
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
    # What the agency client says of the bus (connectors/client.py).
    "bus-unreachable": Wording(
        "The bus cannot be reached, and it is not known whether it has the message. Send it again with the same id.",
        "Không kết nối được tới trục, chưa rõ trục đã nhận thông điệp hay chưa. Hãy gửi lại với cùng mã thông điệp.",
    ),
    "bus-answer-not-readable": Wording(
        "The bus's answer is not what the protocol promises. Check the address of the bus.",
        "Phản hồi của trục không đúng giao thức. Hãy kiểm tra địa chỉ của trục.",
    ),
    "receipt-not-of-this-message": Wording(
        "The bus's receipt is genuine but speaks of another message. Do not count this message as sent; "
        "tell the operator of the bus.",
        "Biên nhận của trục là thật nhưng nói về thông điệp khác. Chưa được coi là đã gửi; hãy báo quản trị trục.",
    ),
    "reply-not-of-this-request": Wording(
        "The signed reply does not belong to this request. Do not use it; tell the operator of the bus.",
        "Phản hồi đã ký không thuộc yêu cầu này. Không được sử dụng; hãy báo quản trị trục.",
    ),
    "attachment-digest-wrong": Wording(
        "The attachment's bytes do not have the digest that names them. Fetch it again.",
        "Nội dung tệp đính kèm không khớp mã băm. Hãy tải lại.",
    ),
    "unsigned": Wording(
        "The call carries neither a signed manifest (Lgsp-Manifest) nor a bearer token. Sign it, or fetch a "
        "token first.",
        "Lời gọi không có bản kê khai đã ký (Lgsp-Manifest) và cũng không có mã truy cập. Hãy ký hoặc lấy "
        "mã truy cập trước.",
    ),
    "manifest-missing": Wording(
        "The header Lgsp-Manifest is empty. Put the signed manifest there.",
        "Tiêu đề Lgsp-Manifest trống. Hãy đặt bản kê khai đã ký vào đó.",
    ),
    "manifest-unreadable": Wording(
        "The signed manifest is not a compact JWS in canonical base64url. Sign it with a standard JWS library.",
        "Bản kê khai đã ký không phải JWS dạng gọn với base64url chuẩn. Hãy ký bằng thư viện JWS chuẩn.",
    ),
    "manifest-too-long": Wording(
        "The signed manifest is over {limit} characters. Name fewer receivers or attachments.",
        "Bản kê khai đã ký dài quá {limit} ký tự. Hãy giảm số bên nhận hoặc tệp đính kèm.",
    ),
    "algorithm-not-allowed": Wording(
        "The signature's algorithm is not allowed, or is not that of the registered key. Use ES256 or PS256.",
        "Thuật toán chữ ký không được phép hoặc không khớp với khóa đã đăng ký. Hãy dùng ES256 hoặc PS256.",
    ),
    "header-not-allowed": Wording(
        "The signature's header must have exactly alg, typ, kid and x5t#S256, with the right typ. Remove all else.",
        "Phần đầu chữ ký phải có đúng alg, typ, kid và x5t#S256 với typ phù hợp. Hãy bỏ các trường khác.",
    ),
    "key-unknown": Wording(
        "No registered key has this kid. Register the certificate first, or sign with a registered key.",
        "Không có khóa đã đăng ký nào mang kid này. Hãy đăng ký chứng thư hoặc ký bằng khóa đã đăng ký.",
    ),
    "key-not-yet-valid": Wording(
        "The signing key is not valid yet. Check the clock, or wait until the certificate begins.",
        "Khóa ký chưa có hiệu lực. Hãy kiểm tra đồng hồ hoặc chờ chứng thư bắt đầu hiệu lực.",
    ),
    "key-expired": Wording(
        "The signing key has expired. Register a new certificate and sign with it.",
        "Khóa ký đã hết hạn. Hãy đăng ký chứng thư mới và ký lại.",
    ),
    "key-revoked": Wording(
        "The signing key is revoked. Register a new certificate and sign with it.",
        "Khóa ký đã bị thu hồi. Hãy đăng ký chứng thư mới và ký lại.",
    ),
    "key-of-another-agency": Wording(
        "The key does not belong to the agency that the manifest names as its sender. Correct the sender, "
        "or sign with that agency's key.",
        "Khóa không thuộc cơ quan được ghi là bên gửi. Hãy sửa bên gửi hoặc ký bằng khóa của cơ quan đó.",
    ),
    "key-unreadable": Wording(
        "The key file cannot be read: damaged, of an unknown form, or under another password.",
        "Không đọc được tệp khóa: hỏng, sai định dạng hoặc sai mật khẩu.",
    ),
    "key-weak": Wording(
        "Only P-256 keys and RSA keys of {minimum} to {maximum} bits are taken. Create a new key.",
        "Chỉ chấp nhận khóa P-256 hoặc RSA từ {minimum} đến {maximum} bit. Hãy tạo khóa mới.",
    ),
    "key-certificate-mismatch": Wording(
        "The certificate is not for this key. Choose the certificate that was issued for it.",
        "Chứng thư không thuộc khóa này. Hãy chọn đúng chứng thư đã cấp cho khóa.",
    ),
    "certificate-mismatch": Wording(
        "The header's x5t#S256 is not the registered certificate of this key. Register the new certificate, "
        "or name the old one.",
        "x5t#S256 không phải chứng thư đã đăng ký của khóa này. Hãy đăng ký chứng thư mới hoặc dùng chứng thư cũ.",
    ),
    "certificate-unreadable": Wording(
        "The certificate is not an X.509 certificate in PEM form.",
        "Chứng thư không phải X.509 dạng PEM.",
    ),
    "certificate-untrusted": Wording(
        "The certificate does not lead to a trusted authority, or was not valid at that time.",
        "Chứng thư không dẫn tới tổ chức chứng thực tin cậy hoặc không có hiệu lực tại thời điểm đó.",
    ),
    "signature-invalid": Wording(
        "The signature does not hold. Sign exactly the bytes that are sent, with the key that kid names.",
        "Chữ ký không hợp lệ. Hãy ký đúng dữ liệu được gửi bằng khóa mà kid chỉ ra.",
    ),
    "manifest-expired": Wording(
        "The manifest was signed more than {limit_seconds} seconds ago. Check the clock and sign again.",
        "Bản kê khai đã ký quá {limit_seconds} giây trước. Hãy kiểm tra đồng hồ và ký lại.",
    ),
    "manifest-from-future": Wording(
        "The manifest was signed more than {limit_seconds} seconds in the future. Check the clock and sign again.",
        "Thời điểm ký bản kê khai vượt quá {limit_seconds} giây trong tương lai. Hãy kiểm tra đồng hồ và ký lại.",
    ),
    "attestation-not-yours": Wording(
        "A manifest with an attested section is written by the bus alone. Leave the section out and sign again.",
        "Chỉ trục mới được viết mục attested trong bản kê khai. Hãy bỏ mục này và ký lại.",
    ),
    "direction-not-request": Wording(
        "A message that is sent must have the direction request. Correct the manifest and sign again.",
        "Thông điệp gửi đi phải có chiều request. Hãy sửa bản kê khai và ký lại.",
    ),
    "body-length-mismatch": Wording(
        "The body has another length than the manifest says. Send exactly the bytes that were signed.",
        "Độ dài nội dung khác với bản kê khai. Hãy gửi đúng các byte đã ký.",
    ),
    "body-digest-mismatch": Wording(
        "The body is not the one that the manifest was signed for. Send exactly the bytes that were signed.",
        "Nội dung không phải nội dung đã ký trong bản kê khai. Hãy gửi đúng các byte đã ký.",
    ),
    "content-type-mismatch": Wording(
        "The Content-Type is not the one in the manifest. Send the type that was signed.",
        "Content-Type không khớp bản kê khai. Hãy gửi đúng kiểu đã ký.",
    ),
    "content-digest-unreadable": Wording(
        "The header Content-Digest cannot be read. Write it as sha-256=:<base64>: (RFC 9530) or leave it out.",
        "Không đọc được tiêu đề Content-Digest. Hãy viết dạng sha-256=:<base64>: (RFC 9530) hoặc bỏ đi.",
    ),
    "content-digest-mismatch": Wording(
        "The body does not match its Content-Digest: it was damaged on the way. Send it again.",
        "Nội dung không khớp Content-Digest: dữ liệu bị hỏng trên đường truyền. Hãy gửi lại.",
    ),
    "header-missing": Wording(
        "The header {header} is missing. Add it and send again.",
        "Thiếu tiêu đề {header}. Hãy bổ sung và gửi lại.",
    ),
    "header-invalid": Wording(
        "The header {header} has the wrong form. Correct it and send again.",
        "Tiêu đề {header} sai dạng. Hãy sửa và gửi lại.",
    ),
    "no-open-version": Wording(
        "No version of this service is open to callers. Check the code in the registry.",
        "Không có phiên bản nào của dịch vụ này đang mở. Hãy kiểm tra mã trong sổ đăng ký.",
    ),
    "token-invalid": Wording(
        "The bearer token is not one of this bus. Fetch a new one.",
        "Mã truy cập không phải do trục này cấp. Hãy lấy mã mới.",
    ),
    "token-expired": Wording(
        "The bearer token has expired. Fetch a new one.",
        "Mã truy cập đã hết hạn. Hãy lấy mã mới.",
    ),
    "assertion-invalid": Wording(
        "The client assertion does not follow RFC 7523. Check iss, sub, aud, exp and jti.",
        "Client assertion không theo RFC 7523. Hãy kiểm tra iss, sub, aud, exp và jti.",
    ),
    "assertion-expired": Wording(
        "The client assertion has expired, or would live longer than {limit_seconds} seconds. Make a new one.",
        "Client assertion đã hết hạn hoặc có thời hạn quá {limit_seconds} giây. Hãy tạo mới.",
    ),
    "assertion-replayed": Wording(
        "The client assertion was used before. Make a new one with a new jti.",
        "Client assertion đã được dùng. Hãy tạo mới với jti mới.",
    ),
    "secret-weak": Wording(
        "The secret is too weak: at least {minimum} varied characters, and not made from the agency's code "
        "or the system's name.",
        "Mật khẩu quá yếu: cần ít nhất {minimum} ký tự đa dạng và không chứa mã cơ quan hay tên hệ thống.",
    ),
    "secret-unreadable": Wording(
        "A sealed secret cannot be opened with the master keys at hand. Store it again.",
        "Không mở được thông tin mật đã niêm phong bằng các khóa chủ hiện có. Hãy lưu lại.",
    ),
    "receipt-unreadable": Wording(
        "The receipt cannot be read. Fetch it again from the bus.",
        "Không đọc được biên nhận. Hãy tải lại từ trục.",
    ),
    "checkpoint-unreadable": Wording(
        "The checkpoint is not a signed note of this log.",
        "Điểm kiểm không phải ghi chú đã ký của nhật ký này.",
    ),
    "json-byte-order-mark": Wording(
        "The JSON begins with a byte order mark. Send UTF-8 without one.",
        "JSON có dấu BOM ở đầu. Hãy gửi UTF-8 không có BOM.",
    ),
    "json-not-utf8": Wording(
        "The JSON is not UTF-8. Encode it as UTF-8 and send again.",
        "JSON không phải UTF-8. Hãy mã hóa UTF-8 rồi gửi lại.",
    ),
    "json-too-deep": Wording(
        "The JSON nests more than {max_depth} arrays and objects. Flatten it.",
        "JSON lồng nhau quá {max_depth} cấp. Hãy giảm số cấp.",
    ),
    "json-duplicate-key": Wording(
        "A JSON object has the same key twice. Keep one of them.",
        "Một đối tượng JSON có khóa bị lặp. Hãy giữ lại một khóa.",
    ),
    "json-not-a-number": Wording(
        "The JSON has NaN, Infinity or a number too large for any reader. Send a finite one, or text.",
        "JSON có NaN, Infinity hoặc số quá lớn. Hãy gửi số hữu hạn hoặc chuỗi.",
    ),
    "json-number-too-large": Wording(
        "The JSON has a whole number beyond 64 bits, which readers round. Send it as text.",
        "JSON có số nguyên vượt 64 bit, dễ bị làm tròn. Hãy gửi dưới dạng chuỗi.",
    ),
    "json-invalid-text": Wording(
        "A JSON text has half of a surrogate pair, which is no character. Correct the text.",
        "Một chuỗi JSON có nửa cặp surrogate, không phải ký tự hợp lệ. Hãy sửa chuỗi.",
    ),
    "json-invalid": Wording(
        "The body is not one JSON document (RFC 8259). Check it with a JSON reader.",
        "Nội dung không phải một tài liệu JSON hợp lệ (RFC 8259). Hãy kiểm tra lại.",
    ),
    "xml-not-utf8": Wording(
        "The XML is not UTF-8, or declares another encoding. Send UTF-8.",
        "XML không phải UTF-8 hoặc khai báo bảng mã khác. Hãy gửi UTF-8.",
    ),
    "xml-doctype": Wording(
        "The XML has a document type declaration, which the bus never reads. Remove it.",
        "XML có khai báo DOCTYPE, trục không chấp nhận. Hãy bỏ khai báo này.",
    ),
    "xml-too-deep": Wording(
        "The XML nests more than {max_depth} elements. Flatten it.",
        "XML lồng nhau quá {max_depth} cấp. Hãy giảm số cấp.",
    ),
    "xml-too-many-elements": Wording(
        "The XML has more than {max_elements} elements. Split the message.",
        "XML có quá {max_elements} phần tử. Hãy chia nhỏ thông điệp.",
    ),
    "xml-too-many-attributes": Wording(
        "The XML has more than {max_attributes} attributes. Split the message.",
        "XML có quá {max_attributes} thuộc tính. Hãy chia nhỏ thông điệp.",
    ),
    "xml-invalid": Wording(
        "The body is not well-formed XML. Check it with an XML reader.",
        "Nội dung không phải XML hợp lệ. Hãy kiểm tra lại.",
    ),
    "content-type-invalid": Wording(
        "The Content-Type header cannot be read. Name the body's media type, as in application/json.",
        "Không đọc được tiêu đề Content-Type. Hãy ghi kiểu nội dung, ví dụ application/json.",
    ),
    "content-type-charset": Wording(
        "The Content-Type names a character set other than UTF-8. Send UTF-8.",
        "Content-Type ghi bảng mã khác UTF-8. Hãy gửi UTF-8.",
    ),
    "content-type-not-accepted": Wording(
        "The service's schema describes {expected}, and the body is declared to be something else.",
        "Lược đồ của dịch vụ mô tả {expected}, nhưng nội dung được khai báo là kiểu khác.",
    ),
    "payload-breaks-schema": Wording(
        "The payload breaks the schema of its service in {count} or more places. Correct those listed and send again.",
        "Dữ liệu sai lược đồ của dịch vụ ở ít nhất {count} chỗ; xem mục errors. Hãy sửa và gửi lại.",
    ),
    "schema-too-large": Wording(
        "A schema may have at most {max_bytes} bytes. Split the service.",
        "Lược đồ tối đa {max_bytes} byte. Hãy chia nhỏ dịch vụ.",
    ),
    "schema-invalid": Wording(
        "The schema is not valid JSON Schema 2020-12. Check it against the meta-schema.",
        "Lược đồ không đúng JSON Schema 2020-12. Hãy kiểm tra theo siêu lược đồ.",
    ),
    "schema-dialect": Wording(
        "The schema declares another dialect than JSON Schema 2020-12. Convert it.",
        "Lược đồ khai báo phiên bản khác JSON Schema 2020-12. Hãy chuyển đổi.",
    ),
    "schema-remote-reference": Wording(
        "The schema refers to another document. Only references inside it (#/...) are followed; make it one document.",
        "Lược đồ tham chiếu tài liệu khác. Chỉ chấp nhận tham chiếu nội bộ (#/...); hãy gộp thành một tài liệu.",
    ),
    "schema-pattern-unsafe": Wording(
        "A pattern of the schema is invalid or could run for ever. Avoid lookaround, back-references, nested repeats.",
        "Một biểu thức mẫu sai hoặc có thể chạy vô hạn. Tránh lookaround, tham chiếu ngược, lặp lồng nhau.",
    ),
    "xsd-invalid": Wording(
        "The schema is not valid XML Schema 1.0.",
        "Lược đồ không đúng XML Schema 1.0.",
    ),
    "xsd-occurrence-bound": Wording(
        'The schema has an occurrence bound over {max_occurs}. Use maxOccurs="unbounded".',
        'Lược đồ có giới hạn số lần xuất hiện trên {max_occurs}. Hãy dùng maxOccurs="unbounded".',
    ),
    # Partners with a protocol of their own (connectors/).
    "endpoint-secret-weak": Wording(
        "The password stored for this endpoint contains the agency's code. Agree on a random one with the partner.",
        "Mật khẩu của điểm cuối này chứa mã cơ quan. Hãy thống nhất mật khẩu ngẫu nhiên với đối tác.",
    ),
    "payload-not-for-partner": Wording(
        "The payload has no form that this partner takes: '{member}' is missing or wrong. Correct it and send again.",
        "Dữ liệu không đúng dạng đối tác nhận: '{member}' thiếu hoặc sai. Hãy sửa và gửi lại.",
    ),
    "service-not-of-partner": Wording(
        "This partner has no operation for the service. Register the service with another system of the receiver.",
        "Đối tác không có chức năng cho dịch vụ này. Hãy đăng ký dịch vụ với hệ thống khác của bên nhận.",
    ),
    "window-too-wide": Wording(
        "The partner answers for at most {days} days at once. Ask for shorter periods, one after the other.",
        "Đối tác chỉ trả lời tối đa {days} ngày mỗi lần. Hãy chia thành các khoảng ngắn hơn.",
    ),
    "partner-says-later": Wording(
        "The partner system answered with error code {code}, which passes. The bus tries again.",
        "Hệ thống đối tác trả mã lỗi {code}, là lỗi tạm thời. Trục sẽ gửi lại.",
    ),
    "lease-ran-out": Wording(
        "The process that delivered this message stopped before it could tell how it ended; it is tried again.",
        "Tiến trình chuyển thông điệp dừng trước khi kịp ghi kết quả; thông điệp sẽ được chuyển lại.",
    ),
    "message-id-used": Wording(
        "This message id was used before for a message with other content. Give the new message an id of its own.",
        "Mã thông điệp này đã dùng cho một thông điệp có nội dung khác. Hãy cấp mã riêng cho thông điệp mới.",
    ),
    "receiver-not-connected": Wording(
        "The receiver's system is suspended or has no address; messages wait until it is connected again.",
        "Hệ thống bên nhận đang tạm ngừng hoặc chưa có địa chỉ; thông điệp chờ đến khi kết nối lại.",
    ),
    "connector-missing": Wording(
        "The receiver's connector is not installed on this node. Ask the operator of the bus.",
        "Nút này chưa cài bộ kết nối của bên nhận. Hãy liên hệ đơn vị vận hành trục.",
    ),
    "receiver-busy": Wording(
        "The receiver is down or has as many calls as it can take. Send the same message again a little later.",
        "Bên nhận đang ngừng hoặc đã đủ số lời gọi đồng thời. Hãy gửi lại đúng thông điệp này sau ít phút.",
    ),
    "call-in-progress": Wording(
        "This very call is being answered right now. Ask again with the same message id for its reply.",
        "Chính lời gọi này đang được xử lý. Hãy hỏi lại với cùng mã thông điệp để nhận phản hồi.",
    ),
    "reply-breaks-schema": Wording(
        "The provider's reply breaks the schema of the service. Tell the owner of the service.",
        "Phản hồi của bên cung cấp không đúng lược đồ của dịch vụ. Hãy báo đơn vị quản lý dịch vụ.",
    ),
    "reply-manifest-invalid": Wording(
        "The provider signed its reply, and the signature does not fit the reply or the request.",
        "Bên cung cấp có ký phản hồi nhưng chữ ký không khớp phản hồi hoặc yêu cầu.",
    ),
    "attachment-unknown": Wording(
        "There is no such attachment here that you may see.",
        "Không có tệp đính kèm này hoặc bạn không được xem.",
    ),
    "attachment-gap": Wording(
        "These bytes do not begin where the last ones ended: {received} are here. Continue from there.",
        "Các byte này không nối tiếp phần đã nhận: đã có {received} byte. Hãy gửi tiếp từ đó.",
    ),
    "attachment-digest": Wording(
        "The uploaded file has another SHA-256 than its name says. It was thrown away; upload it again.",
        "SHA-256 của tệp tải lên khác với tên đã khai. Tệp đã bị bỏ; hãy tải lên lại.",
    ),
    "attachment-too-large": Wording(
        "An attachment has at most {limit} bytes.",
        "Tệp đính kèm tối đa {limit} byte.",
    ),
    "attachment-missing": Wording(
        "The manifest names attachments that you have not uploaded. Upload them first: PUT /v1/attachments/<sha256>.",
        "Bản kê khai nêu tệp đính kèm chưa được tải lên. Hãy tải lên trước: PUT /v1/attachments/<sha256>.",
    ),
    "message-unknown": Wording(
        "There is no such message here that you sent or received.",
        "Không có thông điệp này trong số thông điệp bạn gửi hoặc nhận.",
    ),
    "dossier-unknown": Wording(
        "There is no dossier of this code in the messages that you sent or received.",
        "Không có hồ sơ mang mã này trong các thông điệp bạn gửi hoặc nhận.",
    ),
    "delivery-unknown": Wording(
        "There is no such delivery in your inbox.",
        "Không có lượt chuyển này trong hộp nhận của bạn.",
    ),
    "lease-lost": Wording(
        "The time to acknowledge this delivery has run out; it will be handed out again. Acknowledge it then.",
        "Đã hết thời hạn xác nhận lượt chuyển này; nó sẽ được phát lại. Hãy xác nhận lần sau.",
    ),
    "not-acknowledged": Wording(
        "The receiver gave the message back and will take it later.",
        "Bên nhận trả lại thông điệp và sẽ nhận sau.",
    ),
    "refused-by-receiver": Wording(
        "The receiver fetched the message and refused it for good.",
        "Bên nhận đã lấy thông điệp và từ chối hẳn.",
    ),
    "query-invalid": Wording(
        "The query parameter '{name}' is not what is expected here.",
        "Tham số truy vấn '{name}' không hợp lệ.",
    ),
    "page-unknown": Wording(
        "There is nothing at this address. The API is described at /openapi.json.",
        "Không có gì tại địa chỉ này. Tài liệu API ở /openapi.json.",
    ),
    "method-not-allowed": Wording(
        "This address does not take that method; it takes {allowed}.",
        "Địa chỉ này không nhận phương thức đó; chỉ nhận {allowed}.",
    ),
    "request-unreadable": Wording(
        "The request could not be read to its end. Send it again.",
        "Không đọc được trọn vẹn yêu cầu. Hãy gửi lại.",
    ),
    "grant-type-unknown": Wording(
        "Only grant_type=client_credentials is taken here.",
        "Chỉ chấp nhận grant_type=client_credentials.",
    ),
    "client-not-identified": Wording(
        "The client id and its secret or assertion do not fit a registered system.",
        "Mã khách và mật khẩu hoặc chữ ký không khớp hệ thống đã đăng ký.",
    ),
    "not-an-inbox": Wording(
        "Your system is registered to be called by the bus, not to fetch. Ask the registrar to set mode: inbox.",
        "Hệ thống của bạn đăng ký để trục gọi tới, không phải để tự lấy. Đề nghị quản trị đặt mode: inbox.",
    ),
    # The web edge (bus/web/).
    "operator-only": Wording(
        "Only the operator of the bus may do this. Ask the operator.",
        "Chỉ quản trị trục được thực hiện việc này. Hãy liên hệ quản trị trục.",
    ),
    "registry-entry-unknown": Wording(
        "Nothing in the registry has this code, or it is not yours to see.",
        "Sổ đăng ký không có mã này hoặc bạn không được xem.",
    ),
    "evidence-not-sealed": Wording(
        "The evidence log has no checkpoint yet. Ask again in a moment.",
        "Nhật ký chứng cứ chưa có điểm chốt. Hãy thử lại sau giây lát.",
    ),
    "evidence-entry-unknown": Wording(
        "The evidence log has no such entry at this size. Name a position below the size of the checkpoint.",
        "Nhật ký chứng cứ không có mục này ở kích thước đó. Hãy nêu vị trí nhỏ hơn kích thước của điểm chốt.",
    ),
    "evidence-key-gone": Wording(
        "A key that signed this message is not registered any more, so its evidence cannot be bundled here. "
        "Ask the operator to register its certificate again as revoked.",
        "Khóa đã ký thông điệp này không còn đăng ký nên không lập được hồ sơ chứng cứ. "
        "Hãy đề nghị quản trị đăng ký lại chứng thư ở trạng thái đã thu hồi.",
    ),
    "attachment-busy": Wording(
        "The same file is being uploaded on another connection. Wait until that one ends, then ask how much is here.",
        "Tệp này đang được tải lên qua một kết nối khác. Hãy chờ kết nối đó xong rồi hỏi lại đã nhận được bao nhiêu.",
    ),
    # SOAP at the door (schemas/soap.py).
    "soap-content-type": Wording(
        "A SOAP message has the Content-Type text/xml (SOAP 1.1) or application/soap+xml (SOAP 1.2). Correct it.",
        "Thông điệp SOAP phải có Content-Type là text/xml (SOAP 1.1) hoặc application/soap+xml (SOAP 1.2). Hãy sửa.",
    ),
    "soap-multipart": Wording(
        "SOAP with attachments and MTOM are not taken. Send the file as base64 inside the message, or upload it as "
        "an attachment first and name it by its digest.",
        "Không nhận SOAP with Attachments và MTOM. Hãy gửi tệp dạng base64 trong thông điệp, hoặc tải tệp lên trước "
        "rồi nêu mã băm của tệp.",
    ),
    "soap-version": Wording(
        "The envelope is not of the SOAP version that its Content-Type names: text/xml goes with SOAP 1.1, "
        "application/soap+xml with SOAP 1.2.",
        "Phong bì không đúng phiên bản SOAP mà Content-Type nêu: text/xml đi với SOAP 1.1, application/soap+xml "
        "đi với SOAP 1.2.",
    ),
    "soap-empty": Wording(
        "The request has no body. Send a SOAP envelope.",
        "Yêu cầu không có nội dung. Hãy gửi phong bì SOAP.",
    ),
    "soap-comment": Wording(
        "A SOAP message must not have comments or processing instructions, for readers disagree about values that "
        "hold them. Remove them.",
        "Thông điệp SOAP không được chứa chú thích hoặc lệnh xử lý XML vì các bên có thể đọc giá trị khác nhau. "
        "Hãy bỏ đi.",
    ),
    "soap-not-envelope": Wording(
        "The root element is not a SOAP Envelope. Put the payload into the Body of an Envelope.",
        "Phần tử gốc không phải Envelope của SOAP. Hãy đặt nội dung vào Body của Envelope.",
    ),
    "soap-parts": Wording(
        "An Envelope has at most one Header, then exactly one Body, and nothing else. Remove what is more.",
        "Envelope chỉ có tối đa một Header, sau đó đúng một Body và không có gì khác. Hãy bỏ phần thừa.",
    ),
    "soap-body-not-one": Wording(
        "The Body must hold exactly one element and no text (style document, use literal). Correct it.",
        "Body phải chứa đúng một phần tử và không có văn bản (kiểu document/literal). Hãy sửa lại.",
    ),
    "soap-block-unqualified": Wording(
        "A header block has no namespace, which SOAP asks for. Add it, or remove the block.",
        "Có khối tiêu đề không có không gian tên như SOAP yêu cầu. Hãy bổ sung hoặc bỏ khối đó.",
    ),
    "soap-block-duplicate": Wording(
        "A header block comes twice. Send it once.",
        "Có khối tiêu đề xuất hiện hai lần. Hãy chỉ gửi một lần.",
    ),
    "soap-id-duplicate": Wording(
        "Two elements have the same Id, so a reference to it is ambiguous. Give every element its own.",
        "Có hai phần tử trùng Id nên tham chiếu không rõ ràng. Hãy đặt Id riêng cho từng phần tử.",
    ),
    "soap-reference": Wording(
        "A SOAP message must not refer to its parts by href or ref. Write the value in its place.",
        "Thông điệp SOAP không được tham chiếu bằng href hoặc ref. Hãy ghi giá trị tại chỗ.",
    ),
    "soap-encoding-style": Wording(
        "SOAP encoding (encodingStyle) is not taken. Use the style document and literal values.",
        "Không nhận kiểu mã hóa SOAP (encodingStyle). Hãy dùng kiểu document/literal.",
    ),
    "soap-must-understand": Wording(
        "A header block that must be understood is not known here. Leave it out, or do not demand that it be "
        "understood.",
        "Có khối tiêu đề bắt buộc phải hiểu (mustUnderstand) mà trục không biết. Hãy bỏ khối đó hoặc bỏ yêu cầu này.",
    ),
    "soap-must-understand-invalid": Wording(
        "The attribute mustUnderstand is neither 0 nor 1 (in SOAP 1.2 also false, true). Correct it.",
        "Thuộc tính mustUnderstand không phải 0 hoặc 1 (SOAP 1.2 còn có false, true). Hãy sửa lại.",
    ),
    "soap-action": Wording(
        "SOAPAction names another operation than the element in the Body. Correct it, or leave it empty.",
        "SOAPAction nêu thao tác khác với phần tử trong Body. Hãy sửa lại hoặc để trống.",
    ),
    "soap-action-unreadable": Wording(
        "SOAPAction cannot be read: its quotes do not match. Write it between two double quotes.",
        "Không đọc được SOAPAction: dấu ngoặc kép không khớp. Hãy đặt giữa hai dấu ngoặc kép.",
    ),
    "soap-reply-multipart": Wording(
        "The receiver answered with SOAP attachments (MTOM), which the bus does not read. Ask it to answer with plain "
        "SOAP.",
        "Bên nhận trả lời bằng SOAP kèm tệp (MTOM) mà trục không đọc. Hãy đề nghị trả lời bằng SOAP thường.",
    ),
    # Contracts of SOAP providers, and calls to them (connectors/soap.py).
    "wsdl-invalid": Wording(
        "This is not a WSDL 1.1 that can be understood. Check it with the provider's own tools and register it again.",
        "Đây không phải WSDL 1.1 hợp lệ. Hãy kiểm tra bằng công cụ của bên cung cấp rồi đăng ký lại.",
    ),
    "wsdl-too-large": Wording(
        "The WSDL and what it imports are over {limit} bytes or too many documents. Register only the part you need.",
        "WSDL cùng các tệp nhập vào vượt quá {limit} byte hoặc quá nhiều tệp. Hãy chỉ đăng ký phần cần dùng.",
    ),
    "wsdl-remote-reference": Wording(
        "The WSDL refers to another document, and nothing is fetched here. Put the document's content in its place.",
        "WSDL tham chiếu tới tệp khác; trục không tải từ ngoài vào. Hãy đưa nội dung tệp đó vào chỗ tham chiếu.",
    ),
    "wsdl-no-soap-port": Wording(
        "The WSDL has no port for SOAP 1.1 or 1.2 over HTTP. Ask the provider for the WSDL with its service and ports.",
        "WSDL không có cổng SOAP 1.1 hoặc 1.2 qua HTTP. Hãy xin bên cung cấp WSDL có đủ service và port.",
    ),
    "wsdl-port-unknown": Wording(
        "The WSDL has no SOAP port of this name. Take one of its own, or leave the port out.",
        "WSDL không có cổng SOAP mang tên này. Hãy dùng tên có trong WSDL hoặc bỏ trống.",
    ),
    "wsdl-operation-unknown": Wording(
        "The WSDL has no complete operation of this name on the port. Take one that it has, or complete its messages.",
        "WSDL không có thao tác hoàn chỉnh mang tên này ở cổng đã chọn. Hãy dùng thao tác có sẵn hoặc bổ sung message.",
    ),
    "wsdl-rpc-style": Wording(
        "The operation is of rpc style, which the bus does not speak. Ask the provider for document/literal.",
        "Thao tác thuộc kiểu rpc mà trục không hỗ trợ. Hãy đề nghị bên cung cấp dùng document/literal.",
    ),
    "provider-fault": Wording(
        "The provider answered with a SOAP fault ({code}) and will not take this message. Ask it why, then replay.",
        "Bên cung cấp trả SOAP fault ({code}) và không nhận thông điệp này. Hãy hỏi lý do rồi phát lại.",
    ),
    "provider-fault-not-now": Wording(
        "The provider answered with a SOAP fault ({code}): it cannot serve now. The bus tries again later.",
        "Bên cung cấp trả SOAP fault ({code}): hiện chưa phục vụ được. Trục sẽ gửi lại sau.",
    ),
    "soap-reply-unexpected": Wording(
        "The provider's SOAP answer holds another element than its WSDL promises. Tell the provider, or register its "
        "new WSDL.",
        "Phản hồi SOAP của bên cung cấp chứa phần tử khác với WSDL đã công bố. Hãy báo bên cung cấp hoặc đăng ký "
        "WSDL mới.",
    ),
    "wsdl-body-not-one": Wording(
        "A message of the operation is not one global element in the Body. Ask the provider for document/literal "
        "wrapped.",
        "Thông điệp của thao tác không phải một phần tử toàn cục trong Body. Hãy đề nghị bên cung cấp dùng "
        "document/literal wrapped.",
    ),
    # One payload in two languages (schemas/xsd.py, schemas/bridge/).
    "xsd-element-unknown": Wording(
        "The schema declares no global element of the name that the service gives. Correct element, {{namespace}}name.",
        "Lược đồ không khai báo phần tử gốc có tên mà dịch vụ nêu. Hãy sửa element, dạng {{namespace}}tên.",
    ),
    "schema-not-bridgeable": Wording(
        "The schema cannot be spoken in both JSON and XML ({why}, at {place}). Change it there, or publish the service "
        "in one language only. See docs/bridging.md.",
        "Lược đồ không chuyển được giữa JSON và XML ({why}, tại {place}). Hãy sửa tại đó hoặc chỉ công bố dịch vụ bằng "
        "một ngôn ngữ. Xem docs/bridging.md.",
    ),
    "payload-not-translatable": Wording(
        "The payload cannot be translated between JSON and XML in {count} or more places. Correct those listed.",
        "Không chuyển được dữ liệu giữa JSON và XML ở {count} chỗ trở lên. Hãy sửa những chỗ được liệt kê.",
    ),
    # The two sides of a service (registry/contract.py).
    "mapped-payload-breaks-schema": Wording(
        "The payload is right, but in the provider's form, after the service's field mapping, it breaks the provider's "
        "schema. The places are those of the provider's form; tell the owner of the service.",
        "Dữ liệu đúng lược đồ, nhưng sau khi ánh xạ sang dạng của bên cung cấp thì sai lược đồ của bên đó. "
        "Vị trí nêu theo dạng của bên cung cấp; hãy báo cho chủ dịch vụ.",
    ),
    "reply-not-translatable": Wording(
        "The receiver's answer cannot be put into the form that this service promises. Tell the owner of the service.",
        "Không chuyển được phản hồi của bên nhận sang dạng mà dịch vụ cam kết. Hãy báo cho chủ dịch vụ.",
    ),
    # SOAP operations (connectors/soap_server.py, bus/web/soap.py).
    "soap-operation-unknown": Wording(
        "The element in the Body names no operation of this address. See the WSDL at the same address with ?wsdl.",
        "Phần tử trong Body không phải là thao tác nào của địa chỉ này. Xem WSDL tại cùng địa chỉ với ?wsdl.",
    ),
    "attachment-not-in-manifest": Wording(
        "A file comes with the message and the signed manifest does not name it. Name every attachment and sign again.",
        "Có tệp gửi kèm mà bản kê khai đã ký không nêu. Hãy nêu đủ tệp đính kèm rồi ký lại.",
    ),
    "soap-block-invalid": Wording(
        "The header block {block} is not as the WSDL describes it; see its part {part}. Correct it and send again.",
        "Khối tiêu đề {block} không đúng mô tả trong WSDL; hãy xem phần {part}. Hãy sửa và gửi lại.",
    ),
    "soap-block-not-here": Wording(
        "The header block {block} belongs to a message that is sent, not to this operation. Leave it out.",
        "Khối tiêu đề {block} chỉ dùng khi gửi thông điệp, không dùng cho thao tác này. Hãy bỏ đi.",
    ),
    "soap-attachment-incomplete": Wording(
        "An attachment has neither its content nor the digest and length of a file uploaded before. Give one of them.",
        "Tệp đính kèm không có nội dung, cũng không có mã băm và độ dài của tệp đã tải lên. Hãy nêu một trong hai.",
    ),
    "soap-value-unreadable": Wording(
        "A value in the Body fits its type in the WSDL and still cannot be used: base64 with other characters in it, "
        "a date too far off. Correct it and send again.",
        "Một giá trị trong Body đúng kiểu theo WSDL nhưng không dùng được: base64 lẫn ký tự khác, ngày quá xa. "
        "Hãy sửa và gửi lại.",
    ),
    # Field mapping (schemas/mapping.py) and HTTP operations described by OpenAPI (connectors/http_call.py).
    "mapping-invalid": Wording(
        "Rule {rule} of a field mapping is not understood; the list of errors says what else is wrong. "
        "Correct the service's manifest. The rules are explained in docs/mapping.md.",
        "Không hiểu quy tắc {rule} của bảng chuyển đổi trường; danh sách lỗi nêu những chỗ sai khác. "
        "Hãy sửa khai báo dịch vụ. Các quy tắc được giải thích trong docs/mapping.md.",
    ),
    "mapping-failed": Wording(
        "The data could not be turned into the other side's form: rule {rule} of the service's field mapping does not "
        "fit it. Correct the places in the list of errors, or ask the service's owner to mend the rule.",
        "Không chuyển được dữ liệu sang dạng của bên kia: quy tắc {rule} trong bảng chuyển đổi của dịch vụ không phù "
        "hợp. Hãy sửa những chỗ nêu trong danh sách lỗi, hoặc đề nghị đơn vị chủ dịch vụ sửa quy tắc.",
    ),
    "http-call-invalid": Wording(
        "The HTTP operation registered for this service has a '{member}' that cannot be used. Correct its manifest.",
        "Thao tác HTTP đăng ký cho dịch vụ này có '{member}' không dùng được. Hãy sửa khai báo dịch vụ.",
    ),
    # The population database (connectors/population.py).
    "officer-missing": Wording(
        "The question does not say which officer asks: '{member}' is missing or empty, and the population database "
        "answers named officers only. Fill it in and send again.",
        "Yêu cầu không nêu cán bộ tra cứu: '{member}' thiếu hoặc trống, mà CSDL dân cư chỉ trả lời cán bộ có mã. "
        "Hãy điền và gửi lại.",
    ),
    "name-not-as-kept": Wording(
        "The name at '{member}' is not written as the population database keeps names, so it would find nobody. Write "
        "it in capitals, composed Unicode (NFC), Đ as U+0110, single spaces; or map the field with text: name.",
        "Họ tên tại '{member}' không viết đúng cách CSDL dân cư lưu nên sẽ không tìm thấy ai. Hãy viết chữ in hoa, "
        "Unicode dựng sẵn (NFC), chữ Đ là U+0110, cách nhau một dấu cách; hoặc dùng quy tắc ánh xạ text: name.",
    ),
    # Drafting services from a partner's WSDL or OpenAPI (connectors/importing/).
    "import-host-not-allowed": Wording(
        "The description lies on, or refers to, a host that may not be read from here. Put host:port into {setting}, "
        "or save the files and import them from a folder.",
        "Bản mô tả nằm ở hoặc tham chiếu tới máy chủ không được phép đọc. Hãy thêm host:port vào {setting} "
        "hoặc lưu các tệp vào một thư mục rồi nhập từ đó.",
    ),
    "import-address-private": Wording(
        "A host of the description resolves to an address inside the network. If that is meant, put the address itself "
        "into {setting}; else save the files and import them from a folder.",
        "Một máy chủ trong bản mô tả trỏ tới địa chỉ nội bộ. Nếu đúng chủ ý, hãy thêm chính địa chỉ đó vào {setting}; "
        "nếu không, hãy lưu các tệp rồi nhập từ thư mục.",
    ),
    "import-place-refused": Wording(
        "The description refers to a place that is never read: an absolute path, a path out of its folder, a scheme "
        "other than http and https, or an address with a password. Put the file beside the description.",
        "Bản mô tả tham chiếu tới nơi không bao giờ được đọc: đường dẫn tuyệt đối, ra ngoài thư mục, giao thức khác "
        "http/https hoặc địa chỉ kèm mật khẩu. Hãy đặt tệp cạnh bản mô tả.",
    ),
    "import-not-found": Wording(
        "A document of the description cannot be read. Put every file that it refers to in its folder.",
        "Không đọc được một tài liệu của bản mô tả. Hãy đặt mọi tệp được tham chiếu vào cùng thư mục.",
    ),
    "import-not-fetched": Wording(
        "A host answered with status {status} instead of a document. Redirects are not followed: name the final "
        "address.",
        "Máy chủ trả mã {status} thay vì tài liệu. Trục không đi theo chuyển hướng: hãy ghi địa chỉ cuối cùng.",
    ),
    "import-not-reachable": Wording(
        "A host of the description did not answer properly in time. Try again, or save the files and import them from "
        "a folder.",
        "Một máy chủ của bản mô tả không trả lời đúng hoặc kịp thời. Hãy thử lại hoặc lưu các tệp rồi nhập từ thư mục.",
    ),
    "import-too-large": Wording(
        "A document of the description has more than {max_bytes} bytes. Import a part of it.",
        "Một tài liệu của bản mô tả lớn hơn {max_bytes} byte. Hãy nhập từng phần.",
    ),
    "import-too-many": Wording(
        "The description refers to more than {max_documents} documents. Import a part of it.",
        "Bản mô tả tham chiếu hơn {max_documents} tài liệu. Hãy nhập từng phần.",
    ),
    "import-not-wsdl": Wording(
        "This is not a WSDL 1.1. WSDL 2.0 must be exported as 1.1 by the provider's tools.",
        "Đây không phải WSDL 1.1. Nếu là WSDL 2.0, hãy xuất lại thành 1.1 bằng công cụ của bên cung cấp.",
    ),
    "import-not-a-schema": Wording(
        "What the description refers to as an XSD is not one that can be understood. Ask the provider for it.",
        "Tài liệu được tham chiếu như XSD không phải XSD hợp lệ. Hãy xin lại từ bên cung cấp.",
    ),
    "import-schema-namespace": Wording(
        "An included or imported XSD has another target namespace than the one it is included or imported for. "
        "Correct one of the two.",
        "XSD được đưa vào có targetNamespace khác với không gian tên khi tham chiếu. Hãy sửa một trong hai.",
    ),
    "import-schema-redefined": Wording(
        "An XSD uses redefine or override, which is not supported. Write the final types in their place.",
        "XSD dùng redefine hoặc override, chưa được hỗ trợ. Hãy viết thẳng kiểu cuối cùng.",
    ),
    "import-schema-conflict": Wording(
        "Two XSDs of the description define the same name in different ways. Ask the provider which one holds.",
        "Hai XSD của bản mô tả định nghĩa cùng một tên theo hai cách khác nhau. Hãy hỏi bên cung cấp bản nào đúng.",
    ),
    "import-schema-missing": Wording(
        "The types need something that no XSD of the description defines. Add the missing XSD, and the schemaLocation "
        "that leads to it.",
        "Kiểu dữ liệu cần một định nghĩa không có trong XSD nào. Hãy bổ sung XSD còn thiếu và schemaLocation tới nó.",
    ),
    "import-wsdl-element-unknown": Wording(
        "A message names an element that no XSD of the description defines. Check the target namespace of the types.",
        "Thông điệp nêu phần tử không có trong XSD nào. Hãy kiểm tra targetNamespace của phần types.",
    ),
    "import-wsdl-encoded": Wording(
        "The operation uses SOAP encoding, which the bus does not speak. Ask the provider for document/literal.",
        "Thao tác dùng SOAP encoding mà trục không hỗ trợ. Hãy đề nghị bên cung cấp dùng document/literal.",
    ),
    "import-wsdl-mime": Wording(
        "The operation sends its message in several MIME parts, which the bus does not speak. Ask for plain SOAP.",
        "Thao tác gửi thông điệp nhiều phần MIME mà trục không hỗ trợ. Hãy đề nghị dùng SOAP thường.",
    ),
    "import-wsdl-overloaded": Wording(
        "Several operations of the port have this name, so a message does not tell which one is meant. Ask the "
        "provider to rename them.",
        "Nhiều thao tác cùng tên trong một cổng nên không phân biệt được. Hãy đề nghị bên cung cấp đổi tên.",
    ),
    "import-wsdl-direction": Wording(
        "The operation begins with the provider's message, or has none from the consumer. Only one-way and "
        "request-reply operations become services.",
        "Thao tác do bên cung cấp gửi trước hoặc không có thông điệp vào. Chỉ thao tác một chiều và hỏi-đáp "
        "mới thành dịch vụ.",
    ),
    "import-not-openapi": Wording(
        "This is not an OpenAPI description in JSON or YAML that can be understood (YAML anchors are not read).",
        "Đây không phải bản mô tả OpenAPI hợp lệ dạng JSON hoặc YAML (không đọc anchor của YAML).",
    ),
    "import-openapi-version": Wording(
        "Only OpenAPI 3.0 and 3.1 are read. Convert the description to one of them first.",
        "Chỉ đọc OpenAPI 3.0 và 3.1. Hãy chuyển bản mô tả sang một trong hai phiên bản này.",
    ),
    "import-openapi-reference": Wording(
        "A $ref leads to nothing that can be used here, or schemas name themselves ($id, $anchor, $dynamicRef). Write "
        "the schema in components, or correct the reference.",
        "Một $ref không dẫn tới nội dung dùng được, hoặc lược đồ tự đặt tên ($id, $anchor, $dynamicRef). "
        "Hãy đưa lược đồ vào components hoặc sửa tham chiếu.",
    ),
    "import-openapi-loop": Wording(
        "A schema consists of itself: its $ref or allOf leads back without a property or item between. Correct it.",
        "Một lược đồ chỉ gồm chính nó ($ref hoặc allOf quay lại mà không qua thuộc tính hay phần tử). Hãy sửa lại.",
    ),
    "import-openapi-schema": Wording(
        "A schema of the operation is not written as OpenAPI demands. Correct it.",
        "Một lược đồ của thao tác không đúng quy định của OpenAPI. Hãy sửa lại.",
    ),
    "import-openapi-method": Wording(
        "Only get, post, put, patch and delete become services.",
        "Chỉ các phương thức get, post, put, patch và delete mới thành dịch vụ.",
    ),
    "import-openapi-file": Wording(
        "The operation sends or returns files (multipart or binary), which travel as attachments on the bus. Ask the "
        "provider for an operation that takes JSON.",
        "Thao tác gửi hoặc trả tệp (multipart hoặc nhị phân); trên trục, tệp đi dạng đính kèm. Hãy đề nghị bên cung "
        "cấp thao tác nhận JSON.",
    ),
    "import-openapi-body": Wording(
        "The operation takes or answers something other than application/json. Ask the provider for JSON.",
        "Thao tác nhận hoặc trả dạng khác application/json. Hãy đề nghị bên cung cấp dùng JSON.",
    ),
    "import-openapi-parameter": Wording(
        "The parameter '{name}' cannot be sent: it is an object, a list outside the query, a cookie, described by a "
        "media type, or of a style that is not the usual one.",
        "Không gửi được tham số '{name}': là đối tượng, danh sách ngoài query, cookie, mô tả bằng kiểu nội dung hoặc "
        "có style khác thường.",
    ),
    "import-openapi-parameter-twice": Wording(
        "The name '{name}' stands for two parameters in different places, so a payload cannot hold both.",
        "Tên '{name}' dùng cho hai tham số ở hai nơi nên dữ liệu không chứa được cả hai.",
    ),
    "import-openapi-path": Wording(
        "The path and its parameters do not fit together. Declare every name in braces as a path parameter.",
        "Đường dẫn và các tham số của nó không khớp nhau. Hãy khai báo mọi tên trong ngoặc nhọn là tham số path.",
    ),
    "import-code-taken": Wording(
        "Another operation of the description gets the same code. Import it alone (--select) with another --prefix.",
        "Một thao tác khác của bản mô tả có cùng mã. Hãy nhập riêng thao tác này (--select) với --prefix khác.",
    ),
    "import-code-invalid": Wording(
        "No service code can be made of the prefix and the operation's name. Choose another --prefix: words of a-z and "
        "0-9 with dots or hyphens between them, short enough for 100 characters in all.",
        "Không lập được mã dịch vụ từ tiền tố và tên thao tác. Hãy chọn --prefix khác: chữ a-z, số 0-9, ngăn bằng dấu "
        "chấm hoặc gạch nối, tổng cộng không quá 100 ký tự.",
    ),
    # WS-Security signatures (security/ws_security.py).
    "ws-security-parts": Wording(
        "The Security header must have one BinarySecurityToken, one Timestamp and one Signature, and nothing else. "
        "Correct it.",
        "Tiêu đề Security phải có đúng một BinarySecurityToken, một Timestamp và một Signature. Hãy sửa lại.",
    ),
    "ws-security-token": Wording(
        "The BinarySecurityToken is not an X.509 certificate (ValueType …#X509v3) in base64 with a P-256 key or an RSA "
        "key of 2048 to 4096 bits. Send the registered certificate.",
        "BinarySecurityToken không phải chứng thư X.509 (ValueType …#X509v3) dạng base64 với khóa P-256 hoặc RSA từ "
        "2048 đến 4096 bit. Hãy gửi chứng thư đã đăng ký.",
    ),
    "ws-security-certificate-unknown": Wording(
        "The certificate in the Security header is not registered for any system in good standing. Register it, or "
        "sign with a registered one.",
        "Chứng thư trong tiêu đề Security chưa được đăng ký cho hệ thống nào đang hoạt động. Hãy đăng ký hoặc ký bằng "
        "chứng thư đã đăng ký.",
    ),
    "ws-security-timestamp": Wording(
        "The Timestamp must have Created, then Expires at most {limit_seconds} seconds later, both with a time zone. "
        "Correct it.",
        "Timestamp phải có Created rồi Expires sau đó tối đa {limit_seconds} giây, đều có múi giờ. Hãy sửa lại.",
    ),
    "ws-security-expired": Wording(
        "The message's Timestamp has expired. Check the clock and sign again.",
        "Timestamp của thông điệp đã hết hạn. Hãy kiểm tra đồng hồ và ký lại.",
    ),
    "ws-security-from-future": Wording(
        "The message's Timestamp was created more than {limit_seconds} seconds in the future. Check the clock and sign "
        "again.",
        "Timestamp của thông điệp vượt quá {limit_seconds} giây trong tương lai. Hãy kiểm tra đồng hồ và ký lại.",
    ),
    "ws-security-signature-form": Wording(
        "The signature's form is not taken: references by wsu:Id, each once and at most eight, KeyInfo with one direct "
        "reference to the BinarySecurityToken, no objects. Correct the toolkit's settings.",
        "Dạng chữ ký không được chấp nhận: chỉ tham chiếu theo wsu:Id, mỗi phần một lần và tối đa tám, KeyInfo tham "
        "chiếu trực tiếp BinarySecurityToken, không có Object. Hãy sửa cấu hình công cụ ký.",
    ),
    "ws-security-algorithm": Wording(
        "The signature must use ECDSA-SHA256, RSA-SHA256 or RSA-PSS-SHA256, as fits the certificate's key, and digests "
        "SHA-256, SHA-384 or SHA-512. Correct the toolkit's settings.",
        "Chữ ký phải dùng ECDSA-SHA256, RSA-SHA256 hoặc RSA-PSS-SHA256 phù hợp khóa của chứng thư, và mã băm SHA-256, "
        "SHA-384 hoặc SHA-512. Hãy sửa cấu hình công cụ ký.",
    ),
    "ws-security-canonicalization": Wording(
        "The signature must use exclusive C14N without comments everywhere and no other transform. Correct the "
        "toolkit's settings.",
        "Chữ ký phải dùng exclusive C14N không chú thích ở mọi chỗ và không có phép biến đổi nào khác. Hãy sửa cấu "
        "hình công cụ ký.",
    ),
    "ws-security-not-signed": Wording(
        "The element {part} of this message is missing or not covered by its signature. Sign it under its own wsu:Id.",
        "Phần tử {part} của thông điệp thiếu hoặc không được chữ ký bao phủ. Hãy ký phần tử đó theo wsu:Id của nó.",
    ),
    "ws-security-signature-invalid": Wording(
        "The signature does not hold. Sign last, and send exactly what was signed.",
        "Chữ ký không hợp lệ. Hãy ký ở bước cuối và gửi đúng nội dung đã ký.",
    ),
    "ws-security-replayed": Wording(
        "A message with this very signature has been used. Sign each call anew.",
        "Chữ ký này đã được sử dụng. Hãy ký lại cho mỗi lần gọi.",
    ),
    "soap-service-differs": Wording(
        "The block Exchange names another service than the address of the call. Name the same one, or leave it out.",
        "Khối Exchange nêu dịch vụ khác với địa chỉ được gọi. Hãy nêu cùng một dịch vụ hoặc bỏ trống.",
    ),
    "service-differs-from-address": Wording(
        "The manifest names another service than the address of the call. Send it to the address of its own service.",
        "Bản kê khai nêu dịch vụ khác với địa chỉ được gọi. Hãy gửi tới địa chỉ của đúng dịch vụ.",
    ),
    # Calls of land registration systems (connectors/land.py).
    "partner-not-proven": Wording(
        "The call does not prove who makes it. Send the agreed code or a token of this address.",
        "Lời gọi không chứng minh được bên gọi. Hãy gửi mã đã thống nhất hoặc token của địa chỉ này.",
    ),
    "partner-call-unknown": Wording(
        "This address of the partner has no such operation. Use one of its manual, by POST.",
        "Địa chỉ này của đối tác không có thao tác đó. Hãy dùng thao tác trong tài liệu, bằng POST.",
    ),
    "partner-call-not-json": Wording(
        "The call is not a JSON object. Send one with Content-Type application/json.",
        "Lời gọi không phải đối tượng JSON. Hãy gửi JSON với Content-Type application/json.",
    ),
    "partner-call-incomplete": Wording(
        "The member '{member}' of the call is missing or has the wrong form. Correct it.",
        "Trường '{member}' của lời gọi thiếu hoặc sai dạng. Hãy sửa lại.",
    ),
    # The public post (connectors/post.py).
    "page-too-large": Wording(
        "One page of this partner's feed has at most {limit} events. Ask for fewer, and for the pages after it.",
        "Mỗi trang dữ liệu của đối tác có tối đa {limit} sự kiện. Hãy yêu cầu ít hơn và lấy tiếp các trang sau.",
    ),
    # edXML and the e-document axis (schemas/edxml.py, security/edxml_signature.py, connectors/edoc.py).
    "edxml-unknown": Wording(
        "This is no edXML document of QCVN 102:2016 or of the older go.vn/eDoc form. Send one of them.",
        "Đây không phải văn bản edXML theo QCVN 102:2016 hoặc dạng go.vn/eDoc cũ. Hãy gửi một trong hai dạng đó.",
    ),
    "edxml-incomplete": Wording(
        "The edXML document has no MessageHeader. Build it anew with its header.",
        "Văn bản edXML không có MessageHeader. Hãy tạo lại văn bản với phần đầu đầy đủ.",
    ),
    "edxml-twice": Wording(
        "The element {element} stands twice in the edXML document, so that two readers may read two documents. Leave "
        "one.",
        "Phần tử {element} xuất hiện hai lần trong văn bản edXML nên có thể bị đọc thành hai nghĩa. Hãy giữ lại một.",
    ),
    "edxml-document-id": Wording(
        "The DocumentId is neither 'organ code,yyyy/MM/dd,number/notation' nor a UUID. Correct it.",
        "DocumentId không theo dạng 'mã đơn vị,yyyy/MM/dd,số/ký hiệu' và không phải UUID. Hãy sửa lại.",
    ),
    "edxml-attachment-unreadable": Wording(
        "An attachment is not base64 of a file or of an unencrypted zip. Attach it again.",
        "Tệp đính kèm không phải base64 của tệp hoặc của tệp zip không mã hóa. Hãy đính kèm lại.",
    ),
    "edxml-attachment-too-large": Wording(
        "An attachment unpacks to more than {limit} bytes or to too many files. Send a smaller one.",
        "Tệp đính kèm giải nén vượt quá {limit} byte hoặc có quá nhiều tệp. Hãy gửi tệp nhỏ hơn.",
    ),
    "edxml-unsigned": Wording(
        "The document carries no organisation signature, and one is required here. Sign it.",
        "Văn bản không có chữ ký số của cơ quan, tổ chức trong khi ở đây bắt buộc. Hãy ký số văn bản.",
    ),
    "edxml-signature-form": Wording(
        "The organisation signature must be one enveloped XML signature over the whole document with its X509 "
        "certificate. Correct the toolkit's settings.",
        "Chữ ký số của cơ quan phải là một chữ ký XML dạng enveloped trên toàn bộ văn bản, kèm chứng thư X509. Hãy sửa "
        "cấu hình công cụ ký.",
    ),
    "edxml-signature-algorithm": Wording(
        "The organisation signature uses an algorithm that is not taken. Sign with RSA-SHA256 or ECDSA-SHA256.",
        "Chữ ký số của cơ quan dùng thuật toán không được chấp nhận. Hãy ký bằng RSA-SHA256 hoặc ECDSA-SHA256.",
    ),
    "edxml-signature-certificate": Wording(
        "The certificate of the organisation signature is not registered for the sending agency. Register it.",
        "Chứng thư của chữ ký số chưa được đăng ký cho cơ quan gửi. Hãy đăng ký chứng thư đó.",
    ),
    "edxml-signature-invalid": Wording(
        "The organisation signature does not hold. Sign last, and send exactly what was signed.",
        "Chữ ký số của cơ quan không hợp lệ. Hãy ký ở bước cuối và gửi đúng nội dung đã ký.",
    ),
    "edoc-not-valid": Wording(
        "The axis would refuse this document with {code}. Correct the places that are listed, then send again.",
        "Trục văn bản sẽ từ chối văn bản này với mã {code}. Hãy sửa các vị trí được nêu rồi gửi lại.",
    ),
    "edoc-sender-differs": Wording(
        "The document's From names another agency than the sender of the message. Send in your own name.",
        "Phần From của văn bản nêu cơ quan khác với bên gửi thông điệp. Hãy gửi dưới tên cơ quan mình.",
    ),
    "edoc-too-large": Wording(
        "The document is over the axis's limit of {limit} bytes. Send fewer or smaller attachments.",
        "Văn bản vượt giới hạn {limit} byte của trục. Hãy gửi ít tệp đính kèm hơn hoặc tệp nhỏ hơn.",
    ),
    "edoc-signature-refused": Wording(
        "The axis delivered a document whose organisation signature does not hold or is not registered. It stays on "
        "the axis; ask the sending agency.",
        "Trục chuyển đến một văn bản có chữ ký số không hợp lệ hoặc chưa đăng ký. Văn bản vẫn nằm trên trục; hãy hỏi "
        "cơ quan gửi.",
    ),
    # Civil status (connectors/civil_status.py).
    "civil-status-duplicate-suspected": Wording(
        "The ministry suspects that this record is there already, as it does with twins. Have an officer confirm it in "
        "the ministry's software, then replay.",
        "Bộ nghi hồ sơ này trùng với hồ sơ đã có, như trường hợp sinh đôi. Hãy để cán bộ xác nhận trên phần mềm của Bộ "
        "rồi phát lại.",
    ),
    "partner-proof-wrong": Wording(
        "The partner's own proof of identity is missing or does not hold. Send the one that was agreed upon.",
        "Thông tin xác thực của đối tác thiếu hoặc không đúng. Hãy gửi đúng thông tin đã thống nhất.",
    ),
    "partner-notice-invalid": Wording(
        "The notice's member '{member}' is missing or has the wrong form. Correct it and send again.",
        "Trường '{member}' của thông báo thiếu hoặc sai dạng. Hãy sửa và gửi lại.",
    ),
    # Calls of the national portal (connectors/national_portal_inbound.py), its catalogue and ratings.
    "portal-session-invalid": Wording(
        "The session is missing, over, or not one of this address. Log in and send the call again.",
        "Thiếu session, session đã hết hạn hoặc không phải của địa chỉ này. Hãy đăng nhập và gửi lại.",
    ),
    "portal-login-wrong": Wording(
        "The name or the password is wrong. Use the ones that the province gave out for this address.",
        "Sai tài khoản hoặc mật khẩu. Hãy dùng tài khoản do tỉnh cấp cho địa chỉ này.",
    ),
    "portal-call-unreadable": Wording(
        "The call is a POST of one JSON object; 'data', if there is one, is an object or a list of objects.",
        "Lời gọi phải là POST một đối tượng JSON; 'data' nếu có phải là đối tượng hoặc danh sách đối tượng.",
    ),
    "portal-operation-unknown": Wording(
        "This address does not take the operation that the call names. Check 'service' or the end of the path.",
        "Địa chỉ này không nhận thao tác được nêu. Hãy kiểm tra 'service' hoặc phần cuối đường dẫn.",
    ),
    "catalogue-unreadable": Wording(
        "This is no catalogue of procedures: a list of objects as LayThuTuc tells them is expected.",
        "Đây không phải danh mục thủ tục: cần danh sách đối tượng theo cấu trúc của LayThuTuc.",
    ),
    "catalogue-empty": Wording(
        "The national catalogue came empty, so nothing was compared. Ask for it again.",
        "Danh mục quốc gia nhận về rỗng nên không đối chiếu. Hãy lấy lại danh mục.",
    ),
    "rating-unknown": Wording(
        "The rating is none of the three answers. Send one of those in the list.",
        "Đánh giá không thuộc ba mức trả lời. Hãy gửi một mức trong danh sách.",
    ),
    # Payment gateways.
    "payment-digest-wrong": Wording(
        "The digest of this payment message does not hold. Compute it anew over the values in the gateway's order, "
        "with the secret in use.",
        "Mã xác thực của thông điệp thanh toán không đúng. Hãy tính lại theo đúng thứ tự trường và khóa đang dùng.",
    ),
    "payment-partner-differs": Wording(
        "The payment message names another partner code than the one agreed for this connection.",
        "Thông điệp thanh toán nêu mã đối tác khác với mã đã thống nhất cho kết nối này.",
    ),
    "payment-clock-of-twelve": Wording(
        "The transaction time lies twelve hours before the message. Write the hour from 00 to 23 (HH, not hh).",
        "Thời gian giao dịch sớm hơn thông điệp mười hai giờ. Hãy ghi giờ từ 00 đến 23 (HH, không phải hh).",
    ),
    "payment-notice-incomplete": Wording(
        "The payment notice has no usable '{member}'. Nothing was recorded; send it again complete.",
        "Thông báo thanh toán thiếu hoặc sai '{member}'. Chưa ghi nhận gì; hãy gửi lại đầy đủ.",
    ),
    "payment-reference-unknown": Wording(
        "The payment notice names a reference that was never given out here. Nothing was recorded.",
        "Thông báo thanh toán nêu mã tham chiếu không do bên này cấp. Chưa ghi nhận gì.",
    ),
    "payment-file-invalid": Wording(
        "Row {row} of the reconciliation file cannot be read at column {column}. Ask the other side for the file "
        "again.",
        "Dòng {row} của tệp đối soát không đọc được ở cột {column}. Hãy đề nghị bên kia gửi lại tệp.",
    ),
    # Notices by SMS (connectors/sms.py, connectors/sms_text.py).
    "template-unknown": Wording(
        "No notice template has this name. Use one of the carrier's endpoint, or have it added there.",
        "Không có mẫu tin với tên này. Hãy dùng mẫu đã khai báo ở điểm cuối hoặc đề nghị bổ sung.",
    ),
    "notice-too-long": Wording(
        "The notice would have {length} characters; the carrier takes {limit}. Shorten the values, nothing is cut.",
        "Tin nhắn dài {length} ký tự, nhà mạng chỉ nhận {limit}. Hãy rút ngắn giá trị, trục không tự cắt.",
    ),
    "sms-caller-unknown": Wording(
        "The call does not prove that the carrier makes it. Send the agreed name and password.",
        "Lời gọi không chứng minh được là của nhà mạng. Hãy gửi tên và mật khẩu đã thống nhất.",
    ),
    "sms-call-unreadable": Wording(
        "The member '{member}' of the pushed message is missing or has the wrong form. Correct it.",
        "Trường '{member}' của tin nhắn chuyển tới thiếu hoặc sai dạng. Hãy sửa lại.",
    ),
    # Long flows (bus/processes/).
    "process-invalid": Wording(
        "The process definition cannot be run. Correct the places that are named.",
        "Định nghĩa quy trình không thể chạy. Hãy sửa các vị trí được nêu.",
    ),
    "process-too-large": Wording(
        "A process definition has at most {limit} bytes. Leave out what only draws.",
        "Định nghĩa quy trình có tối đa {limit} byte. Hãy bỏ phần chỉ dùng để vẽ.",
    ),
    "process-unknown": Wording(
        "There is no process definition '{name}'. `lgsp process definitions` lists them.",
        "Không có định nghĩa quy trình '{name}'. Lệnh `lgsp process definitions` liệt kê các định nghĩa.",
    ),
    "process-receiver-unknown": Wording(
        "The process does not know to whom this message goes: its facts hold no agency code there. "
        "Correct the definition.",
        "Quy trình không biết gửi thông điệp này cho ai: dữ kiện không có mã cơ quan tại vị trí đó. "
        "Hãy sửa định nghĩa.",
    ),
    "process-turns": Wording(
        "A process passes one step at most {limit} times. Look at the loop in its definition.",
        "Một quy trình đi qua một bước tối đa {limit} lần. Hãy xem lại vòng lặp trong định nghĩa.",
    ),
    # Petitions and ratings (schemas/places.py, schemas/petitions.py).
    "schema-annotation-invalid": Wording(
        "The schema of this service says wrongly where its facts stand. Name JSON Pointers and patterns of dates.",
        "Lược đồ của dịch vụ này chỉ sai vị trí dữ liệu. Hãy ghi JSON Pointer và mẫu ngày tháng.",
    ),
    "petition-clocks-invalid": Wording(
        "The table of days cannot be read. It has days, due_soon_days and fields (a name and its days each), whole "
        "numbers from 0 to 3650.",
        "Không đọc được bảng thời hạn. Bảng gồm days, due_soon_days và fields (mỗi lĩnh vực một số ngày), số nguyên từ "
        "0 đến 3650.",
    ),
    # Client certificates (security/client_certificates.py).
    "client-certificate-unreadable": Wording(
        "What the proxy says of your client certificate cannot be read: one certificate as RFC 9440 writes it, with a "
        "P-256 key or an RSA key of 2048 to 4096 bits. Use a registered certificate; if you do, tell the operator.",
        "Không đọc được thông tin chứng thư máy khách do máy chủ proxy chuyển tới: cần một chứng thư theo RFC 9440, "
        "khóa P-256 hoặc RSA từ 2048 đến 4096 bit. Hãy dùng chứng thư đã đăng ký; nếu đã đúng, hãy báo đơn vị vận "
        "hành.",
    ),
    "client-certificate-unknown": Wording(
        "The client certificate of this connection is not registered for any system in good standing. Register it, or "
        "connect with a registered one.",
        "Chứng thư máy khách của kết nối này chưa được đăng ký cho hệ thống nào đang hoạt động. Hãy đăng ký, hoặc kết "
        "nối bằng chứng thư đã đăng ký.",
    ),
    # XML inside JSON (connectors/social_protection.py).
    "embedded-xml-doctype": Wording(
        "An XML document inside the answer has a DTD, which may harm its reader. Ask the partner to leave it out.",
        "Tài liệu XML nằm trong câu trả lời có DTD, có thể gây hại cho bên đọc. Hãy yêu cầu đối tác bỏ DTD.",
    ),
    # Backups (security/sealed_stream.py, bus/backup/).
    "backup-unreadable": Wording(
        "This file is not a backup of the bus, or of a version that this program does not know.",
        "Tệp này không phải bản sao lưu của trục, hoặc thuộc phiên bản mà chương trình này không biết.",
    ),
    "backup-key-wrong": Wording(
        "The backup does not open: it was made for another key or passphrase.",
        "Không mở được bản sao lưu: nó được tạo cho khoá hoặc cụm mật khẩu khác.",
    ),
    "backup-damaged": Wording(
        "The backup is damaged or incomplete: it is not what was written. Nothing of it was used; take another copy.",
        "Bản sao lưu bị hỏng hoặc thiếu: nội dung không đúng như đã ghi. Chưa dùng gì từ nó; hãy lấy bản khác.",
    ),
    "backup-passphrase-short": Wording(
        "A backup's passphrase has at least {minimum} bytes. Choose a longer one.",
        "Cụm mật khẩu của bản sao lưu có ít nhất {minimum} byte. Hãy chọn cụm dài hơn.",
    ),
    "backup-recipient-invalid": Wording(
        "This is not the public key of a backup key. `lgsp key backup` prints one; copy the whole line.",
        "Đây không phải khoá công khai của khoá sao lưu. Lệnh `lgsp key backup` in ra khoá này; hãy chép cả dòng.",
    ),
    "backup-tables-differ": Wording(
        "The store's tables are at {found} and this program's at {expected}. Run `lgsp init`, then back up.",
        "Bảng của kho ở phiên bản {found}, của chương trình ở {expected}. Hãy chạy `lgsp init` rồi sao lưu.",
    ),
    "backup-too-new": Wording(
        "The backup was made by a newer program: its tables are at {found}. Install that version, then restore.",
        "Bản sao lưu do chương trình mới hơn tạo: bảng ở phiên bản {found}. Hãy cài phiên bản đó rồi khôi phục.",
    ),
    "backup-evidence-broken": Wording(
        "The backup opens, but its evidence log does not hold: {fault}. Nothing was restored; take another copy.",
        "Mở được bản sao lưu nhưng nhật ký bằng chứng không hợp lệ: {fault}. Chưa khôi phục gì; hãy lấy bản khác.",
    ),
    "backup-other-log": Wording(
        "The key of the backup's evidence log is not in the trust file: the backup is of another bus, or forged.",
        "Khoá nhật ký bằng chứng của bản sao lưu không có trong tệp tin cậy: bản sao lưu của trục khác, hoặc giả mạo.",
    ),
    "backup-checkpoint-unknown": Wording(
        "The checkpoint to compare with is not one of this backup's log, or its signature does not hold.",
        "Điểm kiểm tra dùng để so sánh không thuộc nhật ký của bản sao lưu này, hoặc chữ ký không đúng.",
    ),
    "restore-setting-differs": Wording(
        "The backup belongs to a bus with {variable}={value}. Set it so, then restore.",
        "Bản sao lưu thuộc trục có {variable}={value}. Hãy đặt như vậy rồi khôi phục.",
    ),
    "restore-not-empty": Wording(
        "There is something already: {held}. Restore into an empty home and store, or look at --force.",
        "Ở đây đã có dữ liệu: {held}. Hãy khôi phục vào thư mục và kho trống, hoặc xem --force.",
    ),
    "restore-evidence-there": Wording(
        "The store holds {size} evidence entries, which no restore replaces. Keep it under another name, then restore "
        "into an empty store.",
        "Kho đang có {size} mục bằng chứng, không lệnh khôi phục nào được ghi đè. Hãy giữ kho dưới tên khác rồi khôi "
        "phục vào kho trống.",
    ),
    "restore-incomplete": Wording(
        "A restore into this home did not come to its end, so there is no bus here yet. Run `lgsp restore FILE "
        "--force` again with the same file.",
        "Lần khôi phục vào thư mục này chưa hoàn tất nên chưa có trục ở đây. Hãy chạy lại `lgsp restore FILE --force` "
        "với cùng tệp đó.",
    ),
    "reply-erased": Wording(
        "This call was answered, and the answer has been erased here. Ask again under a new message id.",
        "Yêu cầu này đã được trả lời nhưng câu trả lời đã bị xoá tại đây. Hãy hỏi lại với mã thông điệp mới.",
    ),
    # Mailboxes at the broker (connectors/amqp.py, bus/broker/rabbitmq.py).
    "mailbox-full": Wording(
        "The receiver's mailbox at the broker takes no more; messages wait until the receiver consumes.",
        "Hộp thư của bên nhận trên hàng đợi đã đầy; thông điệp chờ đến khi bên nhận lấy bớt.",
    ),
    "mailbox-unreachable": Wording(
        "The receiver's mailbox cannot be reached: the broker is away, or this node has none. Messages wait.",
        "Chưa tới được hộp thư của bên nhận: hàng đợi ngừng, hoặc nút này không có hàng đợi. Thông điệp chờ.",
    ),
    "broker-login-refused": Wording(
        "RabbitMQ's management interface does not accept the login. Check LGSP_BROKER_MANAGEMENT; its user needs the "
        "tag administrator.",
        "Giao diện quản trị RabbitMQ không chấp nhận đăng nhập. Hãy kiểm tra LGSP_BROKER_MANAGEMENT; tài khoản cần "
        "nhãn administrator.",
    ),
    "sealing-key-missing": Wording(
        "The receiver has no valid certificate to seal for; messages wait until it registers one.",
        "Bên nhận không có chứng thư còn hiệu lực để mã hóa; thông điệp chờ đến khi đăng ký chứng thư mới.",
    ),
    "mail-too-large": Wording(
        "The manifest is too large for a mailbox at the broker. Name fewer attachments or receivers.",
        "Bản kê quá lớn so với hộp thư trên hàng đợi. Hãy giảm số tệp đính kèm hoặc số nơi nhận.",
    ),
    "sealed-unreadable": Wording(
        "The sealed document cannot be opened: it is damaged, or is no such document.",
        "Không mở được tài liệu mã hóa: tài liệu hỏng hoặc không đúng loại.",
    ),
    "sealed-for-another-key": Wording(
        "The document is sealed for a key that is not here. Keep the keys of earlier certificates until the mailbox is "
        "empty.",
        "Tài liệu được mã hóa cho khóa khác. Hãy giữ khóa của chứng thư cũ đến khi lấy hết hộp thư.",
    ),
    # Timestamps on checkpoints (security/timestamps.py).
    "timestamp-authority-unreadable": Wording(
        "The file of the timestamp authority's root certificates cannot be read. Check LGSP_TIMESTAMP_AUTHORITY.",
        "Không đọc được tệp chứng thư gốc của tổ chức cấp dấu thời gian. Hãy kiểm tra LGSP_TIMESTAMP_AUTHORITY.",
    ),
    "timestamp-unreadable": Wording(
        "The timestamp authority's answer is none of RFC 3161.",
        "Trả lời của tổ chức cấp dấu thời gian không đúng RFC 3161.",
    ),
    "timestamp-refused": Wording(
        "The timestamp authority gave no timestamp.",
        "Tổ chức cấp dấu thời gian từ chối cấp.",
    ),
    "timestamp-wrong": Wording(
        "The timestamp is for something else, under another policy, or its signature does not hold.",
        "Dấu thời gian dành cho dữ liệu khác, theo chính sách khác, hoặc chữ ký không hợp lệ.",
    ),
    "timestamp-untrusted": Wording(
        "The timestamp's certificate leads to no root in LGSP_TIMESTAMP_AUTHORITY, had ended, or is not one for "
        "timestamps.",
        "Chứng thư ký dấu thời gian không thuộc chứng thư gốc trong LGSP_TIMESTAMP_AUTHORITY, đã hết hạn, hoặc không "
        "dùng để cấp dấu thời gian.",
    ),
    "timestamp-out-of-time": Wording(
        "The timestamp's time is more than {seconds} seconds from ours. Compare both clocks with a third.",
        "Thời điểm trong dấu thời gian lệch quá {seconds} giây. Hãy so hai đồng hồ với đồng hồ thứ ba.",
    ),
    # The console
    "not-signed-in": Wording(
        "Nobody is signed in here, or the session has ended. Sign in again.",
        "Chưa đăng nhập hoặc phiên làm việc đã hết. Hãy đăng nhập lại.",
    ),
    "role-missing": Wording(
        "Your role does not allow this. Ask the province's security officer for one that does.",
        "Vai trò của bạn không cho phép việc này. Hãy đề nghị cán bộ an toàn thông tin của tỉnh cấp vai trò phù hợp.",
    ),
    "other-agency": Wording(
        "This is another agency's affair; your account sees its own agency only.",
        "Việc này thuộc cơ quan khác; tài khoản của bạn chỉ xem được cơ quan mình.",
    ),
    "form-foreign": Wording(
        "This form did not come from your present session. Go back, load the page again and repeat it.",
        "Biểu mẫu không thuộc phiên làm việc hiện tại. Hãy quay lại, tải lại trang và làm lại.",
    ),
    "reason-missing": Wording(
        "Say why, in a few words: it is kept in the audit trail.",
        "Hãy ghi lý do ngắn gọn: lý do được lưu trong nhật ký kiểm tra.",
    ),
    "rerun-not-possible": Wording(
        "This cannot be sent again from here: a call is repeated by its caller, and an erased body cannot be sent.",
        "Không gửi lại từ đây được: lời gọi hỏi đáp do bên gọi tự gọi lại, và nội dung đã xoá thì không gửi được nữa.",
    ),
    "refused-not-kept": Wording(
        "The bus does not keep this refused message (any more). Its sender has to send it again.",
        "Trục không (còn) giữ thông điệp bị từ chối này. Bên gửi cần gửi lại.",
    ),
    "person-exists": Wording("There is already an account {name}.", "Đã có tài khoản {name}."),
    "person-name": Wording(
        "A name has small letters a-z, digits, dots and hyphens.",
        "Tên đăng nhập gồm chữ thường a-z, chữ số, dấu chấm và gạch nối.",
    ),
    "person-roles": Wording("Give at least one role.", "Hãy chọn ít nhất một vai trò."),
    "person-unknown": Wording("There is no account {name}.", "Không có tài khoản {name}."),
    "password-weak": Wording(
        "Too easy to guess: at least {least} characters, not your name, not the old one.",
        "Mật khẩu quá dễ đoán: ít nhất {least} ký tự, không chứa tên, khác mật khẩu cũ.",
    ),
    # Events (bus/event_mover.py).
    "broker-missing": Wording(
        "This bus has no broker. Subscribe by message, or set LGSP_BROKER_URL.",
        "Trục này không có hàng đợi. Hãy đăng ký nhận bằng thông điệp hoặc đặt LGSP_BROKER_URL.",
    ),
    "alert-rule-unknown": Wording("There is no such rule.", "Không có quy tắc cảnh báo này."),
    "alert-host-not-allowed": Wording(
        "Webhooks may not go to this address. The setting {setting} names where they may.",
        "Không được gửi webhook tới địa chỉ này. Thiết đặt {setting} ghi những nơi được phép.",
    ),
    "alert-mail-missing": Wording("No mail server is set: {setting}.", "Chưa đặt máy chủ thư: {setting}."),
    "alert-not-sent": Wording("The mail server did not take it: {said}.", "Máy chủ thư không nhận: {said}."),
    "alert-test-nobody": Wording(
        "This rule tells nobody yet: save an address first.",
        "Quy tắc này chưa báo cho ai: hãy lưu địa chỉ nhận trước.",
    ),
    "alert-test-too-soon": Wording(
        "You sent a test within the last minute. Wait a minute, then send the next.",
        "Bạn vừa gửi thử chưa đầy một phút trước. Hãy đợi một phút rồi gửi tiếp.",
    ),
    "bulk-unknown": Wording(
        "There is no bulk work with this number.", "Không có việc xử lý hàng loạt nào mang số này."
    ),
    "registry-not-yours": Wording(
        "Some of these changes are not for your account to make; each is named.",
        "Một số thay đổi không thuộc quyền của tài khoản này; từng thay đổi được nêu bên dưới.",
    ),
    "registry-draft-gone": Wording(
        "This draft is not there: it was applied, is older than a day, or is somebody else's.",
        "Không có bản nháp này: đã được áp dụng, đã quá một ngày, hoặc là của người khác.",
    ),
    "sunset-missing": Wording(
        "Say until when the old version can still be used.",
        "Hãy ghi ngày ngừng phiên bản cũ.",
    ),
    "grant-of-another": Wording(
        "Service and agency of a grant stay as they are. Withdraw it and give a new one.",
        "Không đổi được dịch vụ và cơ quan của quyền đã cấp. Hãy thu hồi và cấp quyền mới.",
    ),
    "upload-name": Wording(
        "Files need different names of letters a-z, digits, dots and hyphens; 50 at most.",
        "Tên tệp phải khác nhau, chỉ gồm chữ không dấu, chữ số, dấu chấm và gạch nối; tối đa 50 tệp.",
    ),
    "upload-missing": Wording("Choose a file first.", "Hãy chọn tệp trước."),
    "import-nothing": Wording(
        "Nothing could be drafted from this description; the reasons are named.",
        "Không lập được dịch vụ nào từ bản mô tả này; lý do được nêu bên dưới.",
    ),
    "certificate-over": Wording(
        "This certificate has ended. Ask for a new one.",
        "Chứng thư này đã hết hạn. Hãy xin chứng thư mới.",
    ),
    "person-self": Wording(
        "Nobody changes their own account here. Ask another security officer.",
        "Không ai tự thay đổi tài khoản của mình ở đây. Hãy nhờ cán bộ an toàn thông tin khác.",
    ),
    "person-elsewhere": Wording(
        "This person signs in elsewhere and has no password here.",
        "Người này đăng nhập qua hệ thống khác, không có mật khẩu ở đây.",
    ),
    "openid-refused": Wording(
        "The sign-in at the identity provider does not hold. Begin again.",
        "Lần đăng nhập qua hệ thống định danh không hợp lệ. Hãy đăng nhập lại.",
    ),
    "openid-unreachable": Wording(
        "The identity provider cannot be reached. Try again, or sign in with an account of this bus.",
        "Không kết nối được hệ thống định danh. Hãy thử lại hoặc dùng tài khoản của trục.",
    ),
    "access-request-service": Wording(
        "No such data service is open to be asked for.",
        "Không có dịch vụ dữ liệu này để đề nghị truy cập.",
    ),
    "access-request-agency": Wording(
        "An agency that is named is not a member of this bus.",
        "Cơ quan được nêu không phải thành viên của trục.",
    ),
    "access-request-purpose": Wording(
        "Name at least one purpose, each once and at most 100 characters long.",
        "Hãy nêu ít nhất một mục đích, không trùng nhau, mỗi mục đích tối đa 100 ký tự.",
    ),
    "access-request-basis": Wording(
        "Name the legal basis, in 5 to 1000 characters.",
        "Hãy nêu căn cứ pháp lý, từ 5 đến 1000 ký tự.",
    ),
    "access-request-expiry": Wording(
        "Name a day in the future, at most five years from now.",
        "Hãy chọn ngày hết hạn trong tương lai, không quá năm năm.",
    ),
    "access-request-quota": Wording(
        "A quota is a whole number, 0 for no limit.",
        "Hạn mức là số nguyên, 0 là không giới hạn.",
    ),
    "access-request-waiting": Wording(
        "Your agency has asked for this service already and waits for the answer.",
        "Cơ quan đã đề nghị dịch vụ này và đang chờ trả lời.",
    ),
    "access-request-decided": Wording(
        "This request has been decided meanwhile.",
        "Đề nghị này vừa được giải quyết.",
    ),
    "access-request-unknown": Wording(
        "There is no such request, or it is not your agency's.",
        "Không có đề nghị này, hoặc không thuộc cơ quan bạn.",
    ),
    "access-request-not-yours": Wording(
        "Only the owner of the service or the province decides on this request.",
        "Chỉ cơ quan quản lý dịch vụ hoặc tỉnh được giải quyết đề nghị này.",
    ),
    "access-request-unreadable": Wording(
        "The request is no JSON object of the described form: see errors.",
        "Đề nghị không phải đối tượng JSON đúng mẫu: xem danh sách lỗi.",
    ),
}
