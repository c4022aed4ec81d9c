"""Operations → manifests: the files that ``lgsp registry apply`` takes.

One operation is one service: ``<prefix>.<operation's name in words>``, version 1. Its manifest stands beside its
schemas (and its WSDL), which it names. A system with its endpoint is drafted too when its code is given: its secret is
named there, and nowhere contained. Nothing is made up: what a description does not say stays at the registry's
defaults, and what a person should look at is told in ``notes``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from connectors.importing.found import Found, Operation, Refusal
from registry.contract import Contract
from registry.model import Pattern, Service, Stage
from registry.strict_yaml import write_yaml
from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from schemas.problem import Malformed, Problem
from schemas.reasons import Wording
from schemas.text import unaccented

#: Both languages: the bus translates by the schema.
_BOTH: Final = ["application/json", "application/xml"]
_WORDS: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_URL: Final = re.compile(r"https?://[^/@\s]+(/[^\s]*)?")
_ADDRESSES_DIFFER: Final = Wording(
    "the operations lie at different addresses: a system has one endpoint; import the others apart",
    "các thao tác ở nhiều địa chỉ khác nhau, mà mỗi hệ thống chỉ có một điểm cuối; hãy nhập riêng các thao tác còn lại",
)
_NO_ADDRESS: Final = Wording(
    "the description gives no address that can be called: no endpoint is drafted; use --endpoint-url",
    "bản mô tả không có địa chỉ gọi được nên chưa lập điểm cuối; hãy cho biết địa chỉ gọi (--endpoint-url)",
)
_PROOFS_DIFFER: Final = Wording(
    "the operations identify callers differently: the endpoint is drafted for the first of them",
    "các thao tác xác thực bên gọi theo cách khác nhau: điểm cuối lập theo thao tác đầu tiên",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What whoever imports decides; the description cannot know it."""

    prefix: str
    owner: AgencyCode
    stage: Stage = Stage.DRAFT
    #: Only these operations, by the description's names; empty: all.
    select: frozenset[str] = frozenset()
    #: Draft a system with the provider's endpoint too.
    system: SystemCode | None = None
    #: Instead of the address in the description.
    endpoint_url: str = ""
    #: Instead of ``soap`` or ``rest``.
    connector: str = ""
    #: Name of the endpoint's secret; empty: one is made of the system's code where the description asks for proof.
    secret: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftedService:
    """One service: which operation it is, its code, what to know, and its files by name, the manifest first."""

    operation: str
    code: ServiceCode
    notes: tuple[Wording, ...]
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """All that one import gives."""

    services: tuple[DraftedService, ...]
    refusals: tuple[Refusal, ...]
    #: Names in ``select`` that the description has no operation for.
    unknown: tuple[str, ...] = ()
    #: The manifest of the system by file name, if one was asked for.
    system_files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Wording, ...] = ()
    #: Name of the secret that the system's endpoint needs before the first call; empty: none.
    secret: str = ""

    @property
    def manifests(self) -> tuple[str, ...]:
        """Names of the manifest files, in the order in which to apply them."""
        return (*(next(iter(service.files)) for service in self.services), *self.system_files)

    @property
    def files(self) -> dict[str, str]:
        """Every file by name."""
        return {
            name: text
            for part in (*(one.files for one in self.services), self.system_files)
            for name, text in part.items()
        }


def draft(found: Found, wishes: Wishes) -> Draft:
    """The manifests of what a description offers. An operation whose code cannot be made is refused like the others."""
    chosen = [one for one in found.operations if not wishes.select or one.name in wishes.select]
    refusals = [one for one in found.refusals if not wishes.select or one.name in wishes.select]
    known = {one.name for one in found.operations} | {one.name for one in found.refusals}
    services: list[tuple[Operation, DraftedService]] = []
    taken: set[str] = set()
    for operation in chosen:
        try:
            service = _service(operation, wishes)
            if service.code in taken:
                raise Malformed("import-code-taken")
        except Problem as problem:
            refusals.append(Refusal(name=operation.name, problem=problem))
            continue
        taken.add(service.code)
        services.append((operation, service))
    system = _system(found, services, wishes, wishes.system) if wishes.system and services else _DraftedSystem()
    return Draft(
        services=tuple(service for _, service in services),
        refusals=tuple(refusals),
        unknown=tuple(sorted(wishes.select - known)),
        system_files=system.files,
        notes=tuple(system.notes),
        secret=system.secret,
    )


def code_of(prefix: str, words: str) -> ServiceCode:
    """``dan-cu`` and ``TraCuuThongTin`` are ``dan-cu.tra-cuu-thong-tin``. Raises Malformed(import-code-invalid)."""
    plain = "-".join(word.lower() for word in _WORDS.findall(unaccented(words)))
    try:
        return ServiceCode(f"{prefix}.{plain}")
    except Malformed:
        raise Malformed("import-code-invalid") from None


def _service(operation: Operation, wishes: Wishes) -> DraftedService:
    code = code_of(wishes.prefix, operation.code_words)
    files = {f"{code}.yaml": ""}
    content: dict[str, Any] = {
        "kind": "Service",
        "code": str(code),
        "version": 1,
        "name": operation.title or operation.name[:300],
        "owner": str(wishes.owner),
        "pattern": "one-way" if operation.one_way else "request-reply",
        "stage": str(wishes.stage),
    }
    content["content_types"], refused = _languages(operation, code, wishes.owner)
    content |= dict(_schemas(operation, code, files))
    if operation.element:
        content["element"] = operation.element
    if operation.reply_element:
        content["reply_element"] = operation.reply_element
    content["provider"] = _provider(operation, code, files)
    files[f"{code}.yaml"] = write_yaml([content])
    return DraftedService(operation=operation.name, code=code, notes=(*operation.notes, *refused), files=files)


def _languages(operation: Operation, code: ServiceCode, owner: AgencyCode) -> tuple[list[str], list[Wording]]:
    """Content types in which consumers may speak, and why not both where it is only the schema's own."""
    contract = Contract(
        Service(
            code=code,
            version=1,
            name=operation.name,
            owner=owner,
            pattern=Pattern.ONE_WAY if operation.one_way else Pattern.REQUEST_REPLY,
            schema=operation.schema,
            reply_schema=operation.reply_schema,
            element=operation.element,
            reply_element=operation.reply_element,
        )
    )
    try:
        contract.request.bridge()
        if operation.reply_schema is not None:
            contract.reply.bridge()
    except Malformed as problem:
        own = "application/xml" if isinstance(operation.schema, str) else "application/json"
        why = problem.wording()
        return [own], [Wording(f"{own} only: {why.en}", f"chỉ nhận {own}: {why.vi}")]
    return _BOTH, []


def _schemas(operation: Operation, code: str, files: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Names the schemas' files, and writes them. Request and reply share one where they are the same."""
    names: dict[int, str] = {}
    for member, schema, infix in (("schema", operation.schema, ""), ("reply_schema", operation.reply_schema, "-reply")):
        if schema is None:
            continue
        if id(schema) not in names:
            is_xsd = isinstance(schema, str)
            name = names[id(schema)] = f"{code}{infix}{'.xsd' if is_xsd else '.schema.json'}"
            files[name] = schema if isinstance(schema, str) else json.dumps(schema, ensure_ascii=False, indent=2) + "\n"
        yield member, {"file": names[id(schema)]}


def _provider(operation: Operation, code: str, files: dict[str, str]) -> dict[str, Any]:
    if not operation.wsdl:
        return {"content_type": "application/json", "http": dict(operation.call)}
    files[f"{code}.wsdl"] = operation.wsdl
    return {"content_type": "application/xml", "soap": {"wsdl": {"file": f"{code}.wsdl"}, **operation.call}}


@dataclass(frozen=True, slots=True, kw_only=True)
class _DraftedSystem:
    files: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[Wording] = ()
    secret: str = ""


def _system(
    found: Found, services: Sequence[tuple[Operation, DraftedService]], wishes: Wishes, code: SystemCode
) -> _DraftedSystem:
    """The provider's system: where it is called, how the bus proves itself, what it takes."""
    notes: list[Wording] = []
    secret = ""
    addresses = list(dict.fromkeys(operation.address for operation, _ in services))
    url = wishes.endpoint_url or addresses[0]
    if not wishes.endpoint_url and len(addresses) > 1:
        notes.append(_ADDRESSES_DIFFER)
    if not _URL.fullmatch(url):
        notes.append(_NO_ADDRESS)
    settings = services[0][0].endpoint_settings
    if any(operation.endpoint_settings != settings for operation, _ in services):
        notes.append(_PROOFS_DIFFER)
    content: dict[str, Any] = {"kind": "System", "code": str(code), "name": str(code), "mode": "push"}
    if _URL.fullmatch(url):
        endpoint = content["endpoint"] = {"connector": wishes.connector or found.connector, "url": url}
        if settings:
            endpoint["settings"] = dict(settings)
        if secret := wishes.secret or (_secret_name(code) if settings else ""):
            endpoint["secret"] = secret
    content["receives"] = [str(service.code) for _, service in services]
    # An agency's code has capitals and a service's has none: no service's file has this name.
    files = {f"{code.replace('/', '.')}.yaml": write_yaml([content])}
    return _DraftedSystem(files=files, notes=notes, secret=secret)


def _secret_name(code: SystemCode) -> str:
    return code.lower().replace("/", ".")
