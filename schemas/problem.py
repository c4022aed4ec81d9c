"""Everything that can go wrong with a message, as one tree.

::

    Problem
    ├── Refused              the sender's doing; never retried
    │   ├── Malformed  NotIdentified  NotPermitted  UnknownService  UnknownReceiver
    │   └── SchemaViolation  IdempotencyConflict  TooLarge  TooMany  NotFound
    ├── ProviderFailure      the receiving side's doing
    │   ├── ProviderUnavailable  ProviderTimeout      retryable
    │   └── ProviderRejected  InvalidReply
    └── InternalFailure      ours; detail never shown

A problem is raised with a *reason* from the catalogue in :mod:`schemas.reasons`, never with free text: the reason is
a stable code that programs may rely on, and its wording exists in Vietnamese and English. Facts may be woven into the
wording (limits, names of fields), refused values never: what a stranger sends must not come back in an answer or a log.

The class decides the wire form: problem details (RFC 9457) over REST, a fault over SOAP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from schemas.reasons import REASONS, Wording

Language = Literal["vi", "en"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldError:
    """One place in a document that breaks its schema.

    ``pointer`` is a JSON Pointer (RFC 6901) or an element path; ``detail`` names the broken rule, never the value: as
    a code that is the same in every language (``required: title``), or in English, and then ``detail_vi`` says it in
    Vietnamese.
    """

    pointer: str
    detail: str
    detail_vi: str = ""

    @classmethod
    def worded(cls, pointer: str, rule: Wording) -> FieldError:
        """A rule in the words of both languages."""
        return cls(pointer=pointer, detail=rule.en, detail_vi=rule.vi)

    def said(self, language: Language) -> str:
        """The rule in this language, or as it is where it has no words of its own."""
        return self.detail_vi or self.detail if language == "vi" else self.detail


class Problem(Exception):
    """Something about a message or its delivery is wrong, and this is what its owner may know of it."""

    slug: ClassVar[str]
    title: ClassVar[str]
    title_vi: ClassVar[str]
    #: HTTP status (RFC 9110) of the problem document.
    status: ClassVar[int]
    #: SOAP 1.1 fault code; SOAP 1.2 says Sender and Receiver for Client and Server.
    soap_fault: ClassVar[Literal["Client", "Server"]]
    #: May the same message be sent again unchanged with hope of success?
    retryable: ClassVar[bool]

    def __init__(
        self,
        reason: str,
        *,
        errors: Sequence[FieldError] = (),
        retry_after_seconds: int | None = None,
        **facts: str | int,
    ) -> None:
        """``reason`` is a key of the catalogue (an unknown one is a programming error: KeyError)."""
        self.reason = reason
        self.errors = tuple(errors)
        self.retry_after_seconds = retry_after_seconds
        self.facts = facts
        super().__init__(REASONS[reason].en.format(**facts))

    def detail(self, language: Language = "en") -> str:
        """What happened and what to do next, in one or two sentences."""
        return REASONS[self.reason].said(language).format(**self.facts)

    def wording(self) -> Wording:
        """The same in both languages."""
        return Wording(*(text.format(**self.facts) for text in REASONS[self.reason]))

    def localized_title(self, language: Language = "en") -> str:
        return self.title_vi if language == "vi" else self.title


class Refused(Problem):
    """The sender must change something before it sends again."""

    soap_fault = "Client"
    retryable = False


class Malformed(Refused):
    """The message cannot be read: its bytes, headers or identifiers break the rules of the format."""

    slug, status = "malformed", 400
    title, title_vi = "Malformed message", "Thông điệp sai định dạng"


class NotIdentified(Refused):
    """The bus cannot tell who sends this, or the proof of it does not hold."""

    slug, status = "not-identified", 401
    title, title_vi = "Sender not identified", "Không xác định được bên gửi"


class NotPermitted(Refused):
    """The sender is known, and has no right to do this."""

    slug, status = "not-permitted", 403
    title, title_vi = "Not permitted", "Không được phép"


class UnknownService(Refused):
    """No such data service or version is open to callers."""

    slug, status = "unknown-service", 404
    title, title_vi = "Unknown service", "Dịch vụ không tồn tại"


class UnknownReceiver(Refused):
    """A named receiver is not a member, or has no system that takes this service."""

    slug, status = "unknown-receiver", 404
    title, title_vi = "Unknown receiver", "Bên nhận không tồn tại"


class NotFound(Refused):
    """What was asked for does not exist, or is not the caller's to see; the two look the same on purpose."""

    slug, status = "not-found", 404
    title, title_vi = "Not found", "Không tìm thấy"


class SchemaViolation(Refused):
    """The payload breaks the schema of its service; ``errors`` say where."""

    slug, status = "schema-violation", 422
    title, title_vi = "Payload breaks its schema", "Dữ liệu không đúng lược đồ"


class IdempotencyConflict(Refused):
    """A message id was used again for something else."""

    slug, status = "idempotency-conflict", 409
    title, title_vi = "Message id already used", "Mã thông điệp đã được dùng"


class TooLarge(Refused):
    """A payload, header or attachment is over its limit."""

    slug, status = "too-large", 413
    title, title_vi = "Too large", "Vượt quá dung lượng cho phép"


class TooMany(Refused):
    """The sender is over its quota; the same message is welcome later."""

    slug, status = "too-many", 429
    title, title_vi = "Quota used up", "Vượt hạn mức"
    retryable = True


class ProviderFailure(Problem):
    """The receiving side did not do its part."""

    soap_fault = "Server"


class ProviderUnavailable(ProviderFailure):
    """The receiver could not be reached or says that it cannot serve now."""

    slug, status = "provider-unavailable", 503
    title, title_vi = "Receiver unavailable", "Bên nhận không sẵn sàng"
    retryable = True


class ProviderTimeout(ProviderFailure):
    """The receiver did not answer in time; it may or may not have acted."""

    slug, status = "provider-timeout", 504
    title, title_vi = "Receiver did not answer in time", "Bên nhận không trả lời kịp"
    retryable = True


class ProviderRejected(ProviderFailure):
    """The receiver understood the message and will not have it."""

    slug, status = "provider-rejected", 502
    title, title_vi = "Receiver rejected the message", "Bên nhận từ chối thông điệp"
    retryable = False


class InvalidReply(ProviderFailure):
    """The receiver's answer cannot be read or breaks its schema."""

    slug, status = "invalid-reply", 502
    title, title_vi = "Receiver's answer is invalid", "Phản hồi của bên nhận không hợp lệ"
    retryable = False


class InternalFailure(Problem):
    """The fault is ours. What it was goes to the log; the caller gets this sentence and a trace id."""

    slug, status = "internal-failure", 500
    title, title_vi = "Internal failure", "Lỗi hệ thống"
    soap_fault = "Server"
    retryable = True

    def __init__(self, reason: str = "internal") -> None:
        super().__init__(reason)
