"""Rules that say when somebody is told, and what follows from them: pure decisions, no store, no clock.

::

    Rule      a sentence: what is looked at, of which system or service, and from when on it is told
    Sight     what there is to see at one moment
    Finding   what a rule finds in it, of one system, grant or service

A finding that comes opens an incident, one that stays changes nothing, and one that has been gone for a while closes it
(:mod:`bus.incidents`); who is told of both stands in the rule (:mod:`bus.watching`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

from bus.records import QueueRecord
from schemas.identifiers import AgencyCode, SystemCode
from schemas.office_hours import office_time

_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)


class Kind(StrEnum):
    """What a rule looks at."""

    QUEUE_AGE = "queue-age"
    ERROR_RATE = "error-rate"
    SILENCE = "silence"
    BREAKER = "breaker"
    CERTIFICATE = "certificate"
    CHECKPOINT = "checkpoint"
    QUOTA = "quota"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When somebody is told, and who."""

    kind: Kind
    #: Minutes, per cent or days: see :data:`KINDS`.
    limit: int
    #: The system or service that it is about; empty: any.
    target: str = ""
    #: Error rate: attempts that there must be, or one failure at night were a hundred per cent.
    least: int = 0
    emails: tuple[str, ...] = ()
    webhook: str = ""
    enabled: bool = True
    muted_until: datetime | None = None
    muted_by: str = ""
    mute_reason: str = ""
    id: int = 0

    def is_muted(self, now: datetime) -> bool:
        return self.muted_until is not None and now < self.muted_until


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEnd:
    """When the last valid key of a system ends."""

    system: SystemCode
    ends: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaUse:
    """How much of a day's quota a grant has used."""

    grant: str
    grantee: AgencyCode
    used: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What there is to see at one moment."""

    at: datetime
    queues: Sequence[QueueRecord] = ()
    #: Attempts of this hour and the one before: failed ones, and all.
    attempts: Mapping[SystemCode, tuple[int, int]] = field(default_factory=dict)
    #: The latest acceptance by service, and under ``""`` of all; what never came is missing.
    accepted: Mapping[str, datetime] = field(default_factory=dict)
    open_breakers: Sequence[SystemCode] = ()
    keys: Sequence[KeyEnd] = ()
    #: The moment of the first entry that no checkpoint covers.
    unsealed_since: datetime | None = None
    quotas: Sequence[QuotaUse] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A rule's limit is passed. ``subject``: by which system, service or grant; empty: by the bus itself."""

    subject: str
    #: In the unit of the kind.
    value: int
    #: Whose affair it is; None: the province's.
    agency: AgencyCode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Something that a rule found, from its opening to its end."""

    id: int
    rule: Rule
    subject: str
    agency: AgencyCode | None
    opened_at: datetime
    #: When it was seen last.
    seen_at: datetime
    closed_at: datetime | None
    #: As seen last.
    value: int


def judge(rule: Rule, sight: Sight) -> list[Finding]:
    """What the rule finds, each subject once; nothing for one that is switched off."""
    return list(KINDS[rule.kind].find(rule, sight)) if rule.enabled else []


def _queues(rule: Rule, sight: Sight) -> Iterator[Finding]:
    for queue in sight.queues:
        minutes = (sight.at - queue.oldest) // _MINUTE
        if rule.target in ("", queue.system) and minutes >= rule.limit:
            yield Finding(subject=queue.system, value=minutes, agency=queue.system.agency)


def _errors(rule: Rule, sight: Sight) -> Iterator[Finding]:
    for system, (failed, all_) in sight.attempts.items():
        if rule.target in ("", system) and all_ >= max(1, rule.least) and failed * 100 > rule.limit * all_:
            yield Finding(subject=system, value=failed * 100 // all_, agency=system.agency)


def _silence(rule: Rule, sight: Sight) -> Iterator[Finding]:
    """Office time only passes in offices: a silence begins in one, and lasts over lunch and night."""
    last = sight.accepted.get(rule.target)
    if last is None:
        return
    minutes = office_time(last, sight.at) // _MINUTE
    if minutes >= rule.limit:
        yield Finding(subject=rule.target, value=minutes)


def _breakers(rule: Rule, sight: Sight) -> Iterator[Finding]:
    for system in sight.open_breakers:
        if rule.target in ("", system):
            yield Finding(subject=system, value=0, agency=system.agency)


def _certificates(rule: Rule, sight: Sight) -> Iterator[Finding]:
    for key in sight.keys:
        days = (key.ends - sight.at) // _DAY
        if rule.target in ("", key.system) and days <= rule.limit:
            yield Finding(subject=key.system, value=max(0, days), agency=key.system.agency)


def _checkpoint(rule: Rule, sight: Sight) -> Iterator[Finding]:
    if sight.unsealed_since is not None:
        minutes = (sight.at - sight.unsealed_since) // _MINUTE
        if minutes >= rule.limit:
            yield Finding(subject="", value=minutes)


def _quotas(rule: Rule, sight: Sight) -> Iterator[Finding]:
    for quota in sight.quotas:
        if rule.target in ("", quota.grantee) and quota.used * 100 >= rule.limit * quota.limit:
            yield Finding(subject=quota.grant, value=quota.used * 100 // quota.limit, agency=quota.grantee)


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFacts:
    """One kind of rule: its decision, the bounds of its limit, and its words, Vietnamese and English."""

    find: Callable[[Rule, Sight], Iterator[Finding]]
    name: tuple[str, str]
    #: With ``{target}``, ``{limit}``, ``{least}``.
    sentence: tuple[str, str]
    #: With ``{subject}``, ``{value}``.
    said: tuple[str, str]
    #: What is to be done about it.
    advice: tuple[str, str]
    #: Any of what: where no target is given.
    any: tuple[str, str]
    #: ``system``, ``service``, ``agency``; empty: there is nothing to choose.
    targets: Literal["system", "service", "agency", ""] = "system"
    unit: tuple[str, str] = ("", "")
    default: int = 0
    lowest: int = 1
    highest: int = 10_000
    #: The page that mends it, with ``{subject}`` and ``{agency}`` quoted.
    page: str = "/console/"


_ANY_SYSTEM: Final = ("bất kỳ hệ thống nào", "any system")

KINDS: Final[dict[Kind, KindFacts]] = {
    Kind.QUEUE_AGE: KindFacts(
        find=_queues,
        name=("Thông điệp chờ lâu", "Messages wait too long"),
        sentence=(
            "Báo khi thông điệp cũ nhất gửi tới {target} phải chờ từ {limit} phút trở lên.",
            "Tell when the oldest message to {target} has waited for {limit} minutes or more.",
        ),
        said=("Thông điệp cũ nhất gửi tới {subject} đã chờ {value} phút.",
              "The oldest message to {subject} has waited for {value} minutes."),
        advice=("Xem thông điệp đang chờ; hệ thống nhận có đang chạy, có lấy thông điệp không?",
                "Look at what waits: does the receiving system run, and does it fetch?"),
        any=_ANY_SYSTEM,
        unit=("phút", "minutes"),
        default=30,
        page="/console/messages?agency={agency}&state=waiting",
    ),
    Kind.ERROR_RATE: KindFacts(
        find=_errors,
        name=("Nhiều lần chuyển thất bại", "Many attempts fail"),
        sentence=(
            "Báo khi hơn {limit} % lần chuyển tới {target} thất bại trong giờ này và giờ trước (ít nhất {least} lần).",
            "Tell when over {limit} % of attempts to {target} fail in this and the last hour (of {least} or more).",
        ),
        said=("{value} % lần chuyển tới {subject} thất bại.", "{value} % of attempts to {subject} fail."),
        advice=("Xem nguyên nhân theo nhóm, viết cho đối tác, rồi gửi lại khi đã sửa.",
                "See the causes, write to the partner, and send again once it is mended."),
        any=_ANY_SYSTEM,
        unit=("%", "%"),
        default=20,
        highest=99,
        page="/console/bulk?system={subject}",
    ),
    Kind.SILENCE: KindFacts(
        find=_silence,
        name=("Im lặng trong giờ làm việc", "Silence in office hours"),
        sentence=(
            "Báo khi không có thông điệp nào của {target} trong {limit} phút giờ làm việc.",
            "Tell when no message of {target} has come for {limit} minutes of office time.",
        ),
        said=("Không có thông điệp nào ({subject}) trong {value} phút giờ làm việc.",
              "No message ({subject}) for {value} minutes of office time."),
        advice=("Các cơ quan có kết nối được tới trục không: tên miền, tường lửa, chứng thư của cổng?",
                "Can agencies reach the bus: names, firewall, certificate of the proxy?"),
        any=("bất kỳ dịch vụ nào", "any service"),
        targets="service",
        unit=("phút", "minutes"),
        default=60,
        page="/console/map",
    ),
    Kind.BREAKER: KindFacts(
        find=_breakers,
        name=("Tạm ngừng gọi hệ thống", "A system is not called any more"),
        sentence=(
            "Báo khi trục tạm ngừng gọi {target} vì lỗi liên tiếp (ngắt mạch).",
            "Tell when the bus stops calling {target} after failures in a row (circuit breaker).",
        ),
        said=("Trục tạm ngừng gọi {subject} vì lỗi liên tiếp; thông điệp được giữ lại chờ.",
              "The bus has stopped calling {subject} after failures in a row; messages wait."),
        advice=("Viết cho đơn vị vận hành hệ thống nhận; trục tự gọi lại khi hệ thống trả lời.",
                "Write to whoever runs it; the bus calls again by itself once it answers."),
        any=_ANY_SYSTEM,
        lowest=0,
        highest=0,
        page="/console/bulk?system={subject}",
    ),
    Kind.CERTIFICATE: KindFacts(
        find=_certificates,
        name=("Chứng thư sắp hết hạn", "A certificate ends soon"),
        sentence=("Báo khi chứng thư ký của {target} còn không quá {limit} ngày.",
                  "Tell when the signing certificate of {target} ends within {limit} days."),
        said=("Chứng thư ký của {subject} còn {value} ngày.",
              "The signing certificate of {subject} ends in {value} days."),
        advice=("Đề nghị cơ quan gửi chứng thư mới và đăng ký trước khi chứng thư cũ hết hạn.",
                "Ask the agency for a new certificate and register it before the old one ends."),
        any=_ANY_SYSTEM,
        unit=("ngày", "days"),
        default=30,
        highest=365,
        page="/console/registry/systems/{subject}",
    ),
    Kind.CHECKPOINT: KindFacts(
        find=_checkpoint,
        name=("Bằng chứng chưa niêm phong", "Evidence is not sealed"),
        sentence=("Báo khi có bằng chứng chờ niêm phong từ {limit} phút trở lên.",
                  "Tell when evidence has waited for its seal for {limit} minutes or more."),
        said=("Bằng chứng đã chờ niêm phong {value} phút.", "Evidence has waited for its seal for {value} minutes."),
        advice=("Kiểm tra tiến trình chuyển phát (lgsp work) và khoá của sổ bằng chứng.",
                "Look at the delivery process (lgsp work) and the key of the evidence log."),
        any=("", ""),
        targets="",
        unit=("phút", "minutes"),
        default=5,
    ),
    Kind.QUOTA: KindFacts(
        find=_quotas,
        name=("Sắp hết hạn mức ngày", "A day's quota runs out"),
        sentence=("Báo khi {target} dùng từ {limit} % hạn mức trong ngày trở lên.",
                  "Tell when {target} has used {limit} % of a day's quota or more."),
        said=("Quyền truy cập {subject} đã dùng {value} % hạn mức trong ngày.",
              "The grant {subject} has used {value} % of the day's quota."),
        advice=("Hỏi cơ quan vì sao gửi nhiều; nếu đúng nhu cầu, nâng hạn mức.",
                "Ask the agency why it sends so much; if it must, raise the quota."),
        any=("bất kỳ cơ quan nào", "any agency"),
        targets="agency",
        unit=("%", "%"),
        default=80,
        highest=100,
        page="/console/registry/grants/{subject}",
    ),
}  # fmt: skip

#: What a new bus begins with; nobody is written to before somebody says to whom.
DEFAULTS: Final = tuple(
    Rule(kind=kind, limit=facts.default, least=20 if kind is Kind.ERROR_RATE else 0) for kind, facts in KINDS.items()
)


def sentence_of(rule: Rule, language: Literal["vi", "en"]) -> str:
    """The rule as people say it."""
    facts, place = KINDS[rule.kind], 0 if language == "vi" else 1
    target = rule.target or facts.any[place]
    return facts.sentence[place].format(target=target, limit=rule.limit, least=rule.least)


def said_of(incident: Incident, language: Literal["vi", "en"]) -> str:
    """The incident as people say it."""
    facts, place = KINDS[incident.rule.kind], 0 if language == "vi" else 1
    return facts.said[place].format(subject=incident.subject or facts.any[place], value=incident.value)
