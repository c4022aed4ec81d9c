"""What would change in the registry, checked as a whole before anything is written.

:func:`plan_changes` is pure: a directory and the entries wanted go in, the steps to get there come out, or everything
that is wrong with them at once. The store applies a plan only to the revision it was made for.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from registry.contract import Contract, Kind
from registry.directory import MAX_TREE_DEPTH, Directory, entry_key
from registry.dossier_view import DossierReader
from registry.model import (
    Agency,
    DeliveryMode,
    Entry,
    EventDelivery,
    Grant,
    Pattern,
    Provider,
    Service,
    SoapCall,
    Stage,
    Subscription,
    System,
)
from schemas.events import EVENT_SERVICE, EVENT_TYPES
from schemas.moment import to_wire
from schemas.problem import FieldError, Malformed, Refused
from schemas.reasons import Wording
from schemas.validation import compile_schema

#: Facts of an open service that may change without a new version: none of them breaks a caller that worked yesterday.
CHANGEABLE_WHEN_OPEN = frozenset({"name", "stage", "sunset", "retry", "provider", "dossier"})
#: Once callers may depend on a version, its contract is fixed.
FIXED_STAGES = frozenset({Stage.PUBLISHED, Stage.DEPRECATED, Stage.RETIRED})


class RegistryChanged(Refused):
    """Somebody changed the registry after these changes were checked; plan again."""

    slug, status = "registry-changed", 409
    title, title_vi = "Registry changed meanwhile", "Sổ đăng ký vừa thay đổi"
    retryable = True


class Action(StrEnum):
    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One fact that differs; ``pointer`` is its JSON Pointer in the entry. Absent facts are None."""

    pointer: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One step: an entry comes, changes or goes. ``before`` and ``after`` are None where there is none."""

    action: Action
    before: Entry | None = None
    after: Entry | None = None

    @property
    def entry(self) -> Entry:
        entry = self.after or self.before
        if entry is None:
            raise ValueError("a change of nothing")
        return entry

    @property
    def kind(self) -> str:
        return kind_of(self.entry)

    @property
    def subject(self) -> str:
        return subject_of(self.entry)

    def differences(self) -> list[Difference]:
        """Field by field, in order of pointers; a schema counts as one field."""
        before, after = _flat(self.before), _flat(self.after)
        names = sorted(before.keys() | after.keys())
        pairs = ((name, before.get(name), after.get(name)) for name in names)
        return [Difference(pointer=name, before=old, after=new) for name, old, new in pairs if old != new]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """A checked plan: its steps, what stays as it is, and the revision it was made for."""

    steps: tuple[Change, ...]
    unchanged: tuple[Entry, ...] = ()
    based_on_revision: int = 0


def plan_changes(directory: Directory, put: Iterable[Entry] = (), remove: Iterable[Entry] = ()) -> Changes:
    """The steps after which every entry of ``put`` is registered as given and none of ``remove`` is.

    Only the keys of ``remove`` matter; removing what is not there is nothing. A system put without a client secret
    keeps the one it has (secrets are never written in manifests). Raises Malformed(registry-inconsistent) with every
    broken reference and rule, pointers in the form ``/Service/dossier.transfer~11/owner``.
    """
    held = {_place(entry): entry for entry in everything(directory)}
    wanted = {_place(entry): _with_kept_secret(entry, held.get(_place(entry))) for entry in put}
    steps = [
        Change(action=Action.CHANGE if place in held else Action.ADD, before=held.get(place), after=entry)
        for place, entry in wanted.items()
        if held.get(place) != entry
    ]
    gone = {_place(entry): None for entry in remove if _place(entry) not in wanted}
    steps += [Change(action=Action.REMOVE, before=held[place]) for place in gone if place in held]
    changes = Changes(
        steps=tuple(steps),
        unchanged=tuple(entry for place, entry in wanted.items() if held.get(place) == entry),
        based_on_revision=directory.revision,
    )
    if steps:
        check_changes(directory, changes)
    return changes


def changed_directory(directory: Directory, changes: Changes) -> Directory:
    """The directory as it will be, at the revision after the changes."""
    entries = {_place(entry): entry for entry in everything(directory)}
    for step in changes.steps:
        if step.after is None:
            entries.pop(_place(step.entry), None)
        else:
            entries[_place(step.after)] = step.after
    return Directory(entries.values(), revision=changes.based_on_revision + 1, earlier=directory)


def check_changes(directory: Directory, changes: Changes) -> None:
    """Raises Malformed(registry-inconsistent) with everything that would be wrong after the changes."""
    after = changed_directory(directory, changes)
    errors = [*_broken_versions(changes), *_broken_schemas(changes), *inconsistencies(after)]
    if errors:
        raise Malformed("registry-inconsistent", errors=errors[:MAX_ERRORS])


#: Errors shown at once: enough for a day's repairs, and a bound on the answer.
MAX_ERRORS = 100


def inconsistencies(directory: Directory) -> Iterator[FieldError]:
    """Every rule that the registry as a whole breaks."""
    yield from _agency_faults(directory)
    yield from _system_faults(directory)
    for service in directory.services.values():
        if service.owner not in directory.agencies:
            yield _error(service, "owner", _NO_AGENCY)
    yield from _grant_faults(directory)
    yield from _subscription_faults(directory)


def everything(directory: Directory) -> Iterator[Entry]:
    """Agencies, systems, services, grants, subscriptions: in the order in which they refer to each other."""
    yield from directory.agencies.values()
    yield from directory.systems.values()
    yield from directory.services.values()
    yield from directory.grants.values()
    yield from directory.subscriptions.values()


def kind_of(entry: Entry) -> str:
    return type(entry).__name__


def subject_of(entry: Entry) -> str:
    """How people name it: code, ``code/version`` of a service, id of a grant or a subscription."""
    if isinstance(entry, Service):
        return entry.key
    return entry.id if isinstance(entry, Grant | Subscription) else str(entry.code)


def entry_digest(entry: Entry) -> str:
    """SHA-256 over the entry's whole canonical JSON, for the audit trail."""
    text = json.dumps(plain(entry), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
    """The value as JSON types: dataclasses as objects, moments in wire form, tuples as arrays."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return to_wire(value)
    return str(value) if isinstance(value, str) else value


# Rules

_NO_AGENCY = Wording("is no registered agency", "không phải cơ quan đã đăng ký")
_NO_SERVICE = Wording("is no registered service", "không phải dịch vụ đã đăng ký")


def _agency_faults(directory: Directory) -> Iterator[FieldError]:
    names = Counter(alias for agency in directory.agencies.values() for alias in agency.aliases)
    for agency in directory.agencies.values():
        if agency.parent is not None and agency.parent not in directory.agencies:
            yield _error(agency, "parent", _NO_AGENCY)
        if agency.code in directory.ancestors(agency.code) or len(directory.ancestors(agency.code)) >= MAX_TREE_DEPTH:
            rule = Wording(
                "makes a loop, or a tree deeper than any government",
                "tạo vòng lặp cấp trên, cấp dưới, hoặc cây cơ quan sâu quá mức",
            )
            yield _error(agency, "parent", rule)
        for place, alias in enumerate(agency.aliases):
            if names[alias] > 1 or alias in directory.agencies:
                rule = Wording("is the code or alias of another agency", "là mã hoặc mã khác của một cơ quan khác")
                yield _error(agency, f"aliases/{place}", rule)


def _system_faults(directory: Directory) -> Iterator[FieldError]:
    keys = Counter(held.key_id for system in directory.systems.values() for held in system.certificates)
    taken = Counter(
        (system.agency, service)
        for system in directory.systems.values()
        if not system.sends_only
        for service in system.receives or ("",)
    )
    for system in directory.systems.values():
        if system.agency not in directory.agencies:
            yield _error(system, "code", Wording("names no registered agency", "không thuộc cơ quan đã đăng ký nào"))
        if system.mode is DeliveryMode.PUSH and system.endpoint is None and not system.sends_only:
            yield _error(system, "endpoint", Wording("is needed in mode push", "phải có khi cách nhận là push"))
        if system.mode is DeliveryMode.AMQP and not system.certificates and not system.sends_only:
            rule = Wording(
                "are needed in mode amqp: what lies in the queue is sealed for one",
                "phải có khi cách nhận là amqp: thông điệp trong hàng đợi được niêm phong cho một khoá",
            )
            yield _error(system, "certificates", rule)
        for place, held in enumerate(system.certificates):
            if keys[held.key_id] > 1:
                rule = Wording(
                    "holds a key that is registered twice; a key names one system",
                    "có khoá đã đăng ký hai lần; mỗi khoá chỉ thuộc một hệ thống",
                )
                yield _error(system, f"certificates/{place}", rule)
        for place, service in enumerate(system.sends):
            if not directory.service_exists(service):
                yield _error(system, f"sends/{place}", _NO_SERVICE)
        for place, service in enumerate(system.receives):
            if not directory.service_exists(service):
                yield _error(system, f"receives/{place}", _NO_SERVICE)
            if not system.sends_only and taken[system.agency, service] > 1:
                rule = Wording("is taken by two systems of the agency", "có hai hệ thống của cơ quan cùng nhận")
                yield _error(system, f"receives/{place}", rule)
        if not system.receives and not system.sends_only and taken[system.agency, ""] > 1:
            rule = Wording(
                "two systems of the agency take everything: name services, or sends_only",
                "hai hệ thống của cơ quan cùng nhận mọi dịch vụ: hãy nêu rõ dịch vụ, hoặc đặt chỉ gửi (sends_only)",
            )
            yield _error(system, "receives", rule)


def _grant_faults(directory: Directory) -> Iterator[FieldError]:
    for grant in directory.grants.values():
        if not directory.service_exists(grant.service):
            yield _error(grant, "service", _NO_SERVICE)
        if grant.grantee not in directory.agencies:
            yield _error(grant, "grantee", _NO_AGENCY)
        for place, receiver in enumerate(grant.receivers):
            if receiver not in directory.agencies:
                yield _error(grant, f"receivers/{place}", _NO_AGENCY)
        if grant.valid_from and grant.expires_at and grant.valid_from >= grant.expires_at:
            rule = Wording("must be after valid_from", "phải sau thời điểm bắt đầu (valid_from)")
            yield _error(grant, "expires_at", rule)


def _subscription_faults(directory: Directory) -> Iterator[FieldError]:
    for subscription in directory.subscriptions.values():
        system = directory.system(subscription.system)
        if system is None:
            rule = Wording("is no registered system", "không phải hệ thống đã đăng ký")
            yield _error(subscription, "system", rule)
        elif subscription.delivery is EventDelivery.MESSAGE and not _takes_events(directory, system):
            rule = Wording(
                f"is not the one that takes {EVENT_SERVICE} for its agency",
                f"không phải hệ thống nhận {EVENT_SERVICE} của cơ quan mình",
            )
            yield _error(subscription, "system", rule)
        for place, wanted in enumerate(subscription.types):
            if not any(replace(subscription, types=(wanted,)).wants(known) for known in EVENT_TYPES):
                known_types = ", ".join(EVENT_TYPES)
                rule = Wording(f"is none of {known_types}", f"không thuộc các loại sự kiện: {known_types}")
                yield _error(subscription, f"types/{place}", rule)
        for name in ("units", "senders"):
            for place, agency in enumerate(getattr(subscription, name)):
                if agency not in directory.agencies:
                    yield _error(subscription, f"{name}/{place}", _NO_AGENCY)


def _takes_events(directory: Directory, system: System) -> bool:
    """Would a message of events reach this system? One that is suspended will again."""
    open_again = Directory(
        (replace(each, suspended=False) for each in directory.systems_of(system.agency)), revision=directory.revision
    )
    taker = open_again.system_for(system.agency, EVENT_SERVICE)
    return taker is not None and taker.code == system.code and directory.service_exists(EVENT_SERVICE)


def _broken_versions(changes: Changes) -> Iterator[FieldError]:
    """A version that callers may rely on keeps its contract; a different contract is a new version."""
    for step in changes.steps:
        before, after = step.before, step.after
        if not isinstance(before, Service) or before.stage not in FIXED_STAGES:
            continue
        if after is None and before.stage is not Stage.RETIRED:
            rule = Wording(
                "only a retired or never published version can be removed",
                "chỉ bỏ được phiên bản đã ngừng hoặc chưa từng công bố",
            )
            yield _error(before, "stage", rule)
        if isinstance(after, Service):
            for field in fields(Service):
                fixed = field.name not in CHANGEABLE_WHEN_OPEN
                if fixed and getattr(before, field.name) != getattr(after, field.name):
                    rule = Wording(
                        "is fixed once published; register a new version",
                        "không sửa được sau khi công bố; hãy đăng ký phiên bản mới",
                    )
                    yield _error(after, field.name, rule)
            if after.stage not in FIXED_STAGES:
                rule = Wording("cannot go back once published", "đã công bố thì không quay lại được")
                yield _error(after, "stage", rule)


def _broken_schemas(changes: Changes) -> Iterator[FieldError]:
    for step in changes.steps:
        if isinstance(step.after, Service):
            broken = [*_schema_faults(step.after), *_dossier_faults(step.after)]
            yield from broken or _contract_faults(step.after)


def _schema_faults(service: Service) -> Iterator[FieldError]:
    """Each schema alone, by the full check of a registration and not only the compiling."""
    provider = service.provider or Provider()
    documents = {
        "schema": (service.schema, service.element),
        "reply_schema": (service.reply_schema, service.reply_element),
        "provider/schema": (provider.schema, provider.element or service.element),
        "provider/reply_schema": (provider.reply_schema, provider.reply_element or service.reply_element),
    }
    for field, (document, element) in documents.items():
        if document is None:
            continue
        is_xsd = isinstance(document, str)
        language = "xml" if is_xsd else "json"
        if "/" not in field and not any(language in taken for taken in service.content_types):
            rule = Wording(
                "is of a language that none of the content types has",
                "viết cho định dạng (JSON hoặc XML) không có trong danh sách định dạng của dịch vụ",
            )
            yield _error(service, field, rule)
        try:
            compile_schema(document, element=element if is_xsd else "")
        except Malformed as problem:
            yield from problem.errors or [_error(service, field, problem.wording())]


def _dossier_faults(service: Service) -> Iterator[FieldError]:
    views = {"dossier": service.dossier, "dossier/reply": service.dossier.reply if service.dossier else None}
    for place, view in views.items():
        try:
            if view is not None:
                DossierReader(view)
        except Malformed as problem:
            for error in problem.errors:
                yield replace(error, pointer=_pointer(service, place + error.pointer.removeprefix("/dossier")))
    if views["dossier/reply"] is not None and service.pattern is not Pattern.REQUEST_REPLY:
        rule = Wording(
            "speaks of answers, and a one-way service has none",
            "nói về dữ liệu trả lời, mà dịch vụ một chiều không có trả lời",
        )
        yield _error(service, "dossier/reply", rule)


def _contract_faults(service: Service) -> Iterator[FieldError]:
    """Both sides together: the mapping can be read, and every translation that the service promises can be made."""
    try:
        contract = Contract(service)
    except Malformed as problem:
        yield from problem.errors or [_error(service, "provider", problem.wording())]
        return
    call = service.provider.call if service.provider is not None else None
    spoken = Kind.XML if isinstance(call, SoapCall) else Kind.JSON
    if call is not None and contract.provider_kind is not spoken:
        rule = Wording(
            f"must be {spoken.value} for a provider that is called so",
            f"phải là {spoken.value} với nhà cung cấp được gọi theo cách này",
        )
        yield _error(service, "provider/content_type", rule)
    for field, form in contract.translated_forms():
        try:
            form.bridge()
        except Malformed as problem:
            yield _error(service, field, problem.wording())


def _error(entry: Entry, field: str, rule: Wording) -> FieldError:
    return FieldError.worded(_pointer(entry, field), rule)


def _pointer(entry: Entry, field: str) -> str:
    subject = subject_of(entry).replace("~", "~0").replace("/", "~1")
    return f"/{kind_of(entry)}/{subject}/{field}"


# Small steps


def _place(entry: Entry) -> tuple[type, object]:
    return type(entry), entry_key(entry)


def _with_kept_secret(entry: Entry, held: Entry | None) -> Entry:
    if isinstance(entry, System) and isinstance(held, System) and not entry.client_secret_hash:
        return replace(entry, client_secret_hash=held.client_secret_hash)
    return entry


#: Fields that are compared and shown as one value, however deep they are.
_WHOLE = frozenset(
    {*("/schema", "/reply_schema", "/receives", "/sends", "/receivers", "/purposes", "/aliases", "/content_types")}
)


def _flat(entry: Entry | None) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def walk(pointer: str, value: Any) -> None:
        if isinstance(value, dict) and value and pointer not in _WHOLE:
            for name, item in value.items():
                walk(f"{pointer}/{name}", item)
        elif pointer == "/certificates":
            for held in value:
                walk(f"{pointer}/{held['key_id']}", held)
        else:
            found[pointer] = value

    if entry is not None:
        walk("", plain(entry))
    return found


__all__ = [
    "Action",
    "Agency",
    "Change",
    "Changes",
    "Difference",
    "RegistryChanged",
    "changed_directory",
    "check_changes",
    "entry_digest",
    "everything",
    "inconsistencies",
    "kind_of",
    "plain",
    "plan_changes",
    "subject_of",
]
