"""Manifests: the registry as files that people read, review and keep under version control.

A file holds one or many documents (YAML, or JSON: an object or an array of objects). ``kind`` says what a document is,
the rest are the facts of :mod:`registry.model` by the same names; what is left out has its default. ``state: absent``
removes an entry; nothing is ever removed for not being mentioned. Secrets are never written in manifests: a key such
as ``password`` is refused, an endpoint names its secret.

Everything wrong is reported at once, as ``file#number/pointer`` and the rule that is broken.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from datetime import datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from registry.changes import Action, Changes, plain, plan_changes
from registry.directory import Directory, entry_key
from registry.model import (
    Agency,
    Certificate,
    DeliveryMode,
    DossierView,
    Endpoint,
    Entry,
    EventDelivery,
    Grant,
    Ordering,
    Pattern,
    Provider,
    Quota,
    RetryPolicy,
    Service,
    Stage,
    Subscription,
    System,
    dossier_facts,
    dossier_view_from,
    provider_facts,
    provider_from,
)
from registry.strict_yaml import BadYaml, read_yaml, write_yaml
from schemas.codec import read_json, write_json
from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from schemas.message import Grade, sha256_hex
from schemas.moment import from_wire
from schemas.problem import FieldError, Malformed, SchemaViolation
from schemas.reasons import Wording
from schemas.validation import PayloadSchema, compile_schema
from security.certificates import read_certificate

KINDS: dict[str, type] = {kind.__name__: kind for kind in (Agency, System, Service, Grant, Subscription)}
#: Files named by a manifest: an XSD with all its types fits.
MAX_FILE_BYTES = 2 * 1024 * 1024
#: Facts of an entry that manifests never carry.
NEVER_WRITTEN = frozenset({"client_secret_hash"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One document and where it stands."""

    source: str
    #: Counted from 1 in its file.
    number: int
    content: Mapping[str, Any]
    #: Where files that it names are looked for; None where there are no files (a manifest from the network).
    folder: Path | None = None

    @property
    def place(self) -> str:
        return f"{self.source}#{self.number}"


def read_manifests(paths: Sequence[Path]) -> list[Document]:
    """The documents of all files, in order. Raises Malformed(registry-manifest-invalid), OSError."""
    documents: list[Document] = []
    errors: list[FieldError] = []
    for path in paths:
        try:
            documents += parse_manifest(path.read_bytes(), source=path.name, folder=path.parent)
        except Malformed as problem:
            errors += problem.errors
    if errors:
        raise Malformed("registry-manifest-invalid", errors=errors)
    return documents


def parse_manifest(data: bytes, *, source: str = "manifest", folder: Path | None = None) -> list[Document]:
    """The documents of one text, YAML or JSON, each checked against the schema of its kind.

    Text becomes NFC on the way in: two spellings of one Vietnamese name must not make two names. Raises
    Malformed(registry-manifest-invalid) with every error of the text.
    """
    try:
        contents = _read_text(data)
    except (BadYaml, UnicodeDecodeError) as error:
        rule = error.rule if isinstance(error, BadYaml) else Wording("is not UTF-8", "không phải UTF-8")
        raise Malformed("registry-manifest-invalid", errors=[FieldError.worded(source, rule)]) from None
    except Malformed as problem:
        raise Malformed("registry-manifest-invalid", errors=[FieldError.worded(source, problem.wording())]) from None
    errors = [
        error for number, content in enumerate(contents, 1) for error in _form_errors(f"{source}#{number}", content)
    ]
    if errors:
        raise Malformed("registry-manifest-invalid", errors=errors)
    return [
        Document(source=source, number=number, content=content, folder=folder)
        for number, content in enumerate(contents, 1)
    ]


def plan(directory: Directory, documents: Iterable[Document]) -> Changes:
    """The steps from this directory to one that says what the documents say.

    Applying them and planning again gives no steps. Raises Malformed(registry-manifest-invalid) for a document that
    cannot be made an entry, Malformed(registry-inconsistent) for entries that do not fit together.
    """
    put: list[Entry] = []
    remove: list[Entry] = []
    errors: list[FieldError] = []
    places: dict[object, str] = {}
    for document in documents:
        try:
            absent = document.content.get("state") == "absent"
            entry = _key_only(document.content, directory) if absent else entry_from(document)
        except Malformed as problem:
            errors += problem.errors or [FieldError.worded(document.place, problem.wording())]
            continue
        if entry is None:
            continue
        key = (type(entry), entry_key(entry))
        if key in places:
            rule = Wording(f"says again what {places[key]} says", f"khai trùng với {places[key]}")
            errors.append(FieldError.worded(document.place, rule))
        places[key] = document.place
        (remove if absent else put).append(entry)
    if errors:
        raise Malformed("registry-manifest-invalid", errors=errors)
    return plan_changes(directory, put, remove)


def entry_from(document: Document) -> Entry:
    """The registry's value of a document that has the right form. Raises Malformed with errors."""
    facts = {name: value for name, value in document.content.items() if name not in {"kind", "state"}}
    return _MAKERS[document.content["kind"]](facts, document)


def document_of(entry: Entry) -> dict[str, Any]:
    """The manifest document of an entry: its facts without defaults and secrets."""
    content: dict[str, Any] = {"kind": type(entry).__name__}
    for field in fields(entry):
        value = getattr(entry, field.name)
        if field.name in NEVER_WRITTEN or value == _default(field):
            continue
        content[field.name] = _without_defaults(value)
    return content


def write_manifest(entries: Iterable[Entry]) -> str:
    """A YAML stream from which :func:`plan` makes the same entries."""
    return write_yaml(document_of(entry) for entry in entries)


def difference_lines(changes: Changes) -> Iterator[str]:
    """The plan for the eyes of whoever must answer for it: ``+`` comes, ``~`` changes, ``-`` goes, and a count.

    Long texts (schemas, certificates) are shown by the start of their SHA-256, secret hashes not at all.
    """
    signs = {Action.ADD: "+", Action.CHANGE: "~", Action.REMOVE: "-"}
    for step in changes.steps:
        label = "" if step.action is Action.REMOVE else getattr(step.entry, "name", "")
        yield f"{signs[step.action]} {step.kind} {step.subject}  {label}".rstrip()
        if step.action is Action.CHANGE:
            for difference in step.differences():
                before, after = (
                    shown_fact(difference.pointer, difference.before),
                    shown_fact(difference.pointer, difference.after),
                )
                yield f"    {difference.pointer}: {before} → {after}"
    count = {action: sum(step.action is action for step in changes.steps) for action in Action}
    yield (
        f"{count[Action.ADD]} to add, {count[Action.CHANGE]} to change, {count[Action.REMOVE]} to remove, "
        f"{len(changes.unchanged)} unchanged"
    )


# Reading


def _read_text(data: bytes) -> list[Any]:
    text = unicodedata.normalize("NFC", data.decode("utf-8-sig"))
    if text.lstrip()[:1] in ("{", "["):
        content = read_json(text.encode())
        return content if isinstance(content, list) else [content]
    return read_yaml(text)


def _form_errors(place: str, content: Any) -> list[FieldError]:
    kind = content.get("kind") if isinstance(content, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        kinds = ", ".join(KINDS)
        rule = Wording(f"must be one of {kinds}", f"phải là một trong: {kinds}")
        return [FieldError.worded(f"{place}/kind", rule)]
    try:
        _schema_of(kind).validate(write_json(content), "application/json")
    except SchemaViolation as problem:
        return [replace(error, pointer=f"{place}{error.pointer}") for error in problem.errors]
    return []


@cache
def _schema_of(kind: str) -> PayloadSchema:
    """The registry's JSON Schema narrowed to one kind, so that an error names the field and not six alternatives."""
    whole = json.loads(resources.files("schemas").joinpath("documents/registry.schema.json").read_text("utf-8"))
    # Our own document: the second opinion, which takes seconds to load, is the tests'.
    return compile_schema(
        {"$schema": whole["$schema"], "$ref": f"#/$defs/{kind}", "$defs": whole["$defs"]}, registered=True
    )


def _agency(facts: dict[str, Any], _document: Document) -> Agency:
    return Agency(
        code=AgencyCode(facts["code"]),
        name=facts["name"],
        parent=AgencyCode(facts["parent"]) if "parent" in facts else None,
        aliases=tuple(facts.get("aliases", ())),
    )


def _system(facts: dict[str, Any], document: Document) -> System:
    made = {**facts, "code": SystemCode(facts["code"])}
    if "mode" in facts:
        made["mode"] = DeliveryMode(facts["mode"])
    if "endpoint" in facts:
        made["endpoint"] = Endpoint(**facts["endpoint"])
    for name in ("receives", "sends"):
        made[name] = tuple(map(ServiceCode, facts.get(name, ())))
    made["certificates"] = tuple(
        _certificate(item, document, f"/certificates/{place}")
        for place, item in enumerate(facts.get("certificates", ()))
    )
    return System(**made)


def _service(facts: dict[str, Any], document: Document) -> Service:
    made = {**facts, "code": ServiceCode(facts["code"]), "owner": AgencyCode(facts["owner"])}
    for name, enumeration in (("pattern", Pattern), ("stage", Stage), ("grade", Grade), ("ordering", Ordering)):
        if name in facts:
            made[name] = enumeration(facts[name])
    for name in ("schema", "reply_schema"):
        if name in facts:
            made[name] = _payload_schema(facts[name], document, f"/{name}")
    if "content_types" in facts:
        made["content_types"] = tuple(facts["content_types"])
    if "retry" in facts:
        made["retry"] = RetryPolicy(**facts["retry"])
    if "provider" in facts:
        made["provider"] = _provider(facts["provider"], document)
    if "dossier" in facts:
        made["dossier"] = dossier_view_from(facts["dossier"])
    if "sunset" in facts:
        made["sunset"] = _moment(facts["sunset"], document, "/sunset")
    return Service(**made)


def _provider(facts: Mapping[str, Any], document: Document) -> Provider:
    made = dict(facts)
    for name in ("schema", "reply_schema"):
        if name in facts:
            made[name] = _payload_schema(facts[name], document, f"/provider/{name}")
    if "soap" in facts:
        wsdl = _payload_schema(facts["soap"]["wsdl"], document, "/provider/soap/wsdl")
        if not isinstance(wsdl, str):
            raise _error(document, "/provider/soap/wsdl", Wording("is no XML", "không phải XML"))
        made["soap"] = {**facts["soap"], "wsdl": wsdl}
    return provider_from(made)


def _grant(facts: dict[str, Any], document: Document) -> Grant:
    made = {**facts, "service": ServiceCode(facts["service"]), "grantee": AgencyCode(facts["grantee"])}
    made["receivers"] = tuple(map(AgencyCode, facts.get("receivers", ())))
    made["purposes"] = tuple(facts.get("purposes", ()))
    made["quota"] = Quota(**facts.get("quota", {}))
    for name in ("valid_from", "expires_at"):
        if name in facts:
            made[name] = _moment(facts[name], document, f"/{name}")
    return Grant(**made)


def _subscription(facts: dict[str, Any], _document: Document) -> Subscription:
    made = {**facts, "system": SystemCode(facts["system"]), "types": tuple(facts["types"])}
    if "delivery" in facts:
        made["delivery"] = EventDelivery(facts["delivery"])
    for name in ("units", "senders"):
        made[name] = tuple(map(AgencyCode, facts.get(name, ())))
    made["procedures"] = tuple(facts.get("procedures", ()))
    return Subscription(**made)


_MAKERS: dict[str, Callable[[dict[str, Any], Document], Entry]] = {
    "Agency": _agency,
    "System": _system,
    "Service": _service,
    "Grant": _grant,
    "Subscription": _subscription,
}


def _key_only(content: Mapping[str, Any], directory: Directory) -> Entry | None:
    """The registered entry that a document with ``state: absent`` names, None when it is gone already."""
    match content["kind"]:
        case "Agency":
            return directory.agencies.get(AgencyCode(content["code"]))
        case "System":
            return directory.systems.get(SystemCode(content["code"]))
        case "Service":
            return directory.services.get((ServiceCode(content["code"]), content["version"]))
        case "Grant":
            return directory.grants.get(content["id"])
        case _:
            return directory.subscriptions.get(content["id"])


def _certificate(item: Mapping[str, Any], document: Document, pointer: str) -> Certificate:
    data = item["pem"].encode() if "pem" in item else _file(item["file"], document, f"{pointer}/file")
    try:
        certificate = certificate_of(data.decode("ascii"))
    except (Malformed, UnicodeDecodeError) as problem:
        none = Wording("is no certificate in PEM", "không phải chứng thư dạng PEM")
        rule = problem.wording() if isinstance(problem, Malformed) else none
        raise _error(document, pointer, rule) from None
    if "revoked_at" not in item:
        return certificate
    return replace(certificate, revoked_at=_moment(item["revoked_at"], document, f"{pointer}/revoked_at"))


def certificate_of(pem: str) -> Certificate:
    """A certificate as the registry keeps it. Raises Malformed."""
    facts = read_certificate(pem)
    return Certificate(
        key_id=facts.key_id,
        pem=facts.pem,
        thumbprint=facts.thumbprint,
        not_before=facts.not_before,
        not_after=facts.not_after,
    )


def _payload_schema(value: Any, document: Document, pointer: str) -> Mapping[str, Any] | str:
    if not (isinstance(value, Mapping) and value.keys() == {"file"}):
        return value  # type: ignore[no-any-return]
    data = _file(value["file"], document, pointer)
    try:
        text = unicodedata.normalize("NFC", data.decode("utf-8-sig"))
        if text.lstrip()[:1] == "<":
            return text
        schema = read_json(text.encode())
    except (Malformed, UnicodeDecodeError):
        rule = Wording(
            "names a file that is neither JSON nor XML in UTF-8", "nêu một tệp không phải JSON hoặc XML dạng UTF-8"
        )
        raise _error(document, pointer, rule) from None
    if not isinstance(schema, Mapping):
        rule = Wording("names a file that holds no JSON object", "nêu một tệp không chứa đối tượng JSON")
        raise _error(document, pointer, rule)
    return schema


def _file(name: Any, document: Document, pointer: str) -> bytes:
    """A file beside the manifest, ``..`` allowed: manifests and schemas may live in sister folders."""
    if document.folder is None:
        rule = Wording(
            "names a file, and here there are none: write the content in place",
            "nêu một tệp, mà ở đây không có tệp nào: hãy ghi thẳng nội dung vào chỗ này",
        )
        raise _error(document, pointer, rule)
    if not isinstance(name, str) or not name or name[0] in "/\\":
        rule = Wording("must be a path relative to the manifest", "phải là đường dẫn tính từ tệp kê khai")
        raise _error(document, pointer, rule)
    try:
        with (document.folder / name).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError):
        rule = Wording("names a file that cannot be read", "nêu một tệp không đọc được")
        raise _error(document, pointer, rule) from None
    if len(data) > MAX_FILE_BYTES:
        rule = Wording(
            f"names a file of more than {MAX_FILE_BYTES} bytes", f"nêu một tệp lớn hơn {MAX_FILE_BYTES} byte"
        )
        raise _error(document, pointer, rule)
    return data


def _moment(text: str, document: Document, pointer: str) -> datetime:
    try:
        return from_wire(text)
    except (ValueError, OverflowError):
        rule = Wording("is no moment with an offset (RFC 3339)", "không phải thời điểm có múi giờ (RFC 3339)")
        raise _error(document, pointer, rule) from None


def _error(document: Document, pointer: str, rule: Wording) -> Malformed:
    return Malformed("registry-manifest-invalid", errors=[FieldError.worded(f"{document.place}{pointer}", rule)])


# Writing


def _default(field: Any) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _without_defaults(value: Any) -> Any:
    match value:
        case Certificate():
            return {"pem": value.pem} | ({"revoked_at": plain(value.revoked_at)} if value.revoked_at else {})
        case Endpoint() | RetryPolicy() | Quota():
            kept = ((field, getattr(value, field.name)) for field in fields(value))
            return {field.name: plain(item) for field, item in kept if item != _default(field)}
        case Provider():
            return plain(provider_facts(value))
        case DossierView():
            return plain(dossier_facts(value))
        case tuple():
            return [_without_defaults(item) for item in value]
        case _:
            return plain(value)


def shown_fact(pointer: str, value: Any) -> str:
    """A fact in one line; a long text by the start of its SHA-256, a secret's hash not at all."""
    if value is None:
        return "(none)"
    if pointer == "/client_secret_hash":
        return "(set)" if value else "(none)"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 and "\n" not in text else f"sha256 {sha256_hex(text.encode())[:12]}…"
