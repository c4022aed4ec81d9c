"""How things are called on a page: agencies, services, states, reasons, in the words of an official."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bus.people import trail_name
from bus.records import State
from bus.trace import in_words
from bus.web.console.broken_rules import code_beside, sentence
from registry.directory import Directory
from registry.model import Stage
from schemas.identifiers import ServiceCode, SystemCode
from schemas.problem import FieldError, Language

STATES: Final[Mapping[str, tuple[str, str, str]]] = {
    State.WAITING: ("đang chờ gửi", "waiting", "warn"),
    State.DELIVERING: ("đang giao", "under way", "soft"),
    State.DELIVERED: ("đã giao", "delivered", "good"),
    State.DEAD: ("không giao được", "not delivered", "bad"),
    State.SET_ASIDE: ("đã gác lại", "set aside", "soft"),
    "accepted": ("đã nhận, chưa giao xong", "taken, not all delivered", "soft"),
    "refused": ("bị từ chối", "refused", "bad"),
}
STAGES: Final[Mapping[str, tuple[str, str]]] = {
    Stage.DRAFT: ("bản nháp", "draft"),
    Stage.SANDBOX: ("chạy thử", "sandbox"),
    Stage.PUBLISHED: ("đã công bố", "published"),
    Stage.DEPRECATED: ("sắp ngừng", "deprecated"),
    Stage.RETIRED: ("đã ngừng", "retired"),
}
#: The eight steps of a message's life (bus/README.md).
STEPS: Final = (
    ("Nhận", "Receive"),
    ("Định danh", "Identify"),
    ("Cho phép", "Authorise"),
    ("Kiểm tra", "Validate"),
    ("Ghi sổ", "Record"),
    ("Xếp hàng", "Dispatch"),
    ("Giao", "Deliver"),
    ("Kết thúc", "Settle"),
)


@dataclass(frozen=True)
class Names:
    """By the registry of today. Used by templates as ``n``."""

    directory: Directory
    language: Language

    def agency(self, code: str | None) -> str:
        """``Sở Mẫu``; its code where the registry knows none."""
        if code is None:
            return self._t("bên gửi chưa định danh", "a sender who was not identified")
        known = self.directory.agency(code) if code else None
        return known.name if known else code

    def service(self, code: str | None) -> str:
        """The name of the version that is open, or of any; else the code."""
        if not code:
            return self._t("chưa rõ dịch vụ", "no service") if code is None else code
        latest = self.directory.latest_version(ServiceCode.unchecked(code)) or 1
        known = self.directory.service(ServiceCode.unchecked(code), latest)
        return known.name if known else code

    def system(self, code: str) -> str:
        known = self.directory.system(SystemCode.unchecked(code))
        return known.name if known else code

    def state(self, state: str) -> str:
        vi, en, _ = STATES.get(state, (state, state, "soft"))
        return self._t(vi, en)

    def tone(self, state: str) -> str:
        """The class of a state's mark: ``good``, ``bad``, ``warn``, ``soft``."""
        return STATES.get(state, ("", "", "soft"))[2]

    def stage(self, stage: str) -> str:
        return self._t(*STAGES[stage])

    def who(self, actor: str) -> str:
        """Who did it, as the trails name them: a person by the name of their account, all others as they stand."""
        return actor.removeprefix(trail_name(""))

    def step(self, number: int) -> str:
        return self._t(*STEPS[number - 1])

    def problem(self, problem: Mapping[str, Any] | None) -> str:
        """A stored problem as a sentence."""
        return in_words(problem, self.language)

    def reason(self, problem: Mapping[str, Any] | str | None) -> str:
        """Why, also of a reason's code alone, and nothing of what the receiver said: letters travel outside."""
        told = {"reason": problem} if isinstance(problem, str) else problem
        return in_words(told, self.language, quoting=False) or "–"

    def rule(self, detail: str) -> str:
        """A broken rule as it is stored (``required: title``) as a sentence; a rule that is not known as it stands."""
        known = sentence(detail)
        return known.said(self.language) if known else detail

    def rule_code(self, detail: str) -> str:
        """What to show beside :meth:`rule`: the code that the sender was told, empty where nothing else was said."""
        return code_beside(detail)

    def broken(self, error: FieldError) -> str:
        """What is wrong at one place."""
        return error.said(self.language) if error.detail_vi else self.rule(error.detail)

    def _t(self, vi: str, en: str) -> str:
        return vi if self.language == "vi" else en
