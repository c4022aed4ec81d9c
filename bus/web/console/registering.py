"""Changing the registry from the console: by form, by manifests, by a provider's WSDL or OpenAPI.

Whatever the way, it ends in a *draft*: manifests, and what they would change, worked out by the functions that
``lgsp registry apply`` calls. Somebody looks at that, gives a reason, and applies it: the steps, and one event of the
audit trail, in one transaction.

Somebody of one agency may change what is their agency's: its services, the rights to use them, its systems; but not
where the bus calls and with which secret, nor whom else a system may speak for: that could reach what is not theirs.
Keys need the right to guard.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time
from pathlib import Path
from typing import Any, Final

from flask import Response, request
from werkzeug.datastructures import FileStorage
from werkzeug.wrappers import Response as AnyResponse

from bus.access_requests import free_id, owner_of
from bus.people import note
from bus.registration import plan_registration
from bus.registry_drafts import RegistryDraft, RegistryDrafts, forget
from bus.web.console.desk import Console, Desk, Right, safe_address
from bus.web.console.names import STAGES
from bus.web.console.registry_pages import NEXT_STAGES, compared, sides_of
from bus.web.console.registry_view import (
    MOST_ROWS,
    agencies_seen,
    decides_on,
    named_version,
    the_grant,
    the_service,
    the_system,
)
from bus.web.console.words import Words
from registry.changes import Action, Change, Changes, RegistryChanged
from registry.manifests import (
    Document,
    difference_lines,
    document_of,
    entry_from,
    parse_manifest,
    shown_fact,
    write_manifest,
)
from registry.model import Agency, Entry, Grant, Quota, Service, Stage, Subscription, System
from registry.schema_difference import schema_text
from registry.strict_yaml import write_yaml
from schemas.codec import read_json, write_json
from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from schemas.moment import VIETNAM, from_wire, utc_now
from schemas.problem import FieldError, Malformed, NotFound, NotPermitted, Problem
from schemas.reasons import Wording

_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
#: Lines of a difference that the audit trail keeps.
_MOST_LINES: Final = 60
_MOST_FILES: Final = 50
#: Facts that are documents of their own.
_LONG: Final = frozenset({"/schema", "/reply_schema", "/provider/call/wsdl"})
#: Fact → value → its words.
_VALUES: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "/stage": STAGES,
    "/pattern": {
        "one-way": ("gửi một chiều, có biên nhận", "one-way, with a receipt"),
        "request-reply": ("hỏi và trả lời ngay", "question and answer"),
    },
    "/grade": {
        "signed": ("bên gửi tự ký", "signed by the sender"),
        "attested": ("trục xác nhận", "attested by the bus"),
    },
    "/mode": {
        "push": ("trục gọi tới", "the bus calls it"),
        "inbox": ("tự lấy từ hộp nhận", "fetches from its inbox"),
        "amqp": ("hàng đợi AMQP", "AMQP queue"),
    },
    "/delivery": {
        "message": ("bằng thông điệp của trục", "as messages of the bus"),
        "queue": ("bằng hàng đợi riêng", "by a queue of its own"),
    },
}


def install(console: Console) -> None:
    drafts = RegistryDrafts(console.bus.store)
    _draft_pages(console, drafts)
    _forms(console, drafts)
    _uploads(console, drafts)
    _grant_forms(console, drafts)


# ── who may change what ─────────────────────────────────────────────────────────────────────────────────────────────


def faults_of_scope(
    changes: Changes, scope: AgencyCode | None, owner: Mapping[str, AgencyCode | None], *, guards: bool
) -> Iterator[FieldError]:
    """Steps that are not theirs to make. ``owner`` of a service's code; ``guards``: may they change keys? Pure."""
    for step in changes.steps:
        place = f"/{step.kind}/{step.subject}"
        if isinstance(step.entry, System) and not guards and _keys(step.before) != _keys(step.after):
            rule = Wording("keys are for a security officer to change", "chỉ cán bộ an toàn thông tin được thay khoá")
            yield FieldError.worded(f"{place}/certificates", rule)
        if scope is None:
            continue
        entries = [each for each in (step.before, step.after) if each is not None]
        if not all(_is_of(each, scope, owner) for each in entries):
            yield FieldError.worded(place, Wording("is another agency's", "là của cơ quan khác"))
        elif isinstance(step.entry, System):
            for name in ("endpoint", "speaks_for_children"):
                before = getattr(step.before, name, None) or None
                if before != (getattr(step.after, name, None) or None):
                    rule = Wording(
                        "is for the province's registrar to change", "chỉ cán bộ quản lý danh mục của tỉnh được sửa"
                    )
                    yield FieldError.worded(f"{place}/{name}", rule)


def _is_of(entry: Entry, scope: AgencyCode, owner: Mapping[str, AgencyCode | None]) -> bool:
    if isinstance(entry, Service):
        return entry.owner == scope and owner.get(entry.code, scope) in (scope, None)
    if isinstance(entry, Grant):
        return owner.get(entry.service) == scope
    return isinstance(entry, System) and entry.agency == scope


def _keys(entry: Entry | None) -> object:
    return entry.certificates if isinstance(entry, System) else ()


def checked_changes(desk: Desk, manifest: str) -> Changes:
    """What manifests would change, by the checks of the command line and of this person's rights.

    Raises Malformed(registry-manifest-invalid, registry-inconsistent), NotPermitted(registry-not-yours).
    """
    changes = plan_registration(desk.bus.registry, parse_manifest(manifest.encode()))
    owners = {str(code): owner_of(desk.directory, code) for code, _ in desk.directory.services}
    errors = list(faults_of_scope(changes, desk.scope, owners, guards=desk.may(Right.GUARD)))
    if errors:
        raise NotPermitted("registry-not-yours", errors=errors)
    return changes


# ── looking at a draft, and applying it ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class ShownStep:
    """One step as the page tells it."""

    change: Change
    facts: list[tuple[str, str, str]]
    #: Of a version of a service: how its schemas differ from before, or from the version before.
    sides: Mapping[str, Any]
    against: Service | None
    #: Of a new version: its schemas field by field, as its page will show them.
    shapes: Mapping[str, Any]


def _draft_pages(console: Console, drafts: RegistryDrafts) -> None:
    @console.page("/registry/drafts/<draft_id>", Right.REGISTER)
    def registry_draft(desk: Desk, draft_id: str) -> Response:
        return _show_draft(desk, _the_draft(desk, drafts, draft_id))

    @console.deed("/registry/drafts/<draft_id>/apply", Right.REGISTER)
    def apply_draft(desk: Desk, draft_id: str) -> AnyResponse:
        draft = _the_draft(desk, drafts, draft_id)
        reason = desk.reason()
        try:
            changes = checked_changes(desk, draft.manifest)
        except (Malformed, NotPermitted):
            return _show_draft(desk, draft)
        if request.form.get("revision") != str(changes.based_on_revision):
            return _show_draft(desk, draft, moved=True)
        event = desk.event("registry.changed", _target(changes), reason, **_facts_of(changes, draft))

        def also(connection: Any) -> None:
            note(connection, event)
            forget(connection, draft.id)

        try:
            desk.bus.registry.apply(changes, desk.actor, also)
        except RegistryChanged:
            return _show_draft(desk, draft, moved=True)
        desk.bus.directory.refresh()
        return desk.back(draft.back or _place(changes), "Đã ghi vào danh mục.", "The registry has been changed.")


def _show_draft(desk: Desk, draft: RegistryDraft, *, moved: bool = False) -> Response:
    changes, trouble = None, None
    try:
        changes = checked_changes(desk, draft.manifest)
    except (Malformed, NotPermitted) as problem:
        trouble = problem
    return desk.show(
        "registry-draft.html",
        200 if trouble is None and not moved else 409 if moved else 400,
        draft=draft,
        changes=changes,
        steps=[_shown_step(desk, step) for step in changes.steps] if changes else [],
        trouble=trouble,
        trouble_text=trouble.detail(desk.language) if trouble else "",
        moved=moved,
    )


def _shown_step(desk: Desk, step: Change) -> ShownStep:
    said = document_of(step.entry)
    adds = step.action is Action.ADD
    facts = [
        (each.pointer, _told(desk, each.pointer, each.before), _told(desk, each.pointer, each.after))
        for each in step.differences()
        # Of something new, defaults go without saying, but for its stage; its schemas are shown field by field.
        if not adds or (each.pointer.split("/")[1] in {*said, "stage"} and each.after and each.pointer not in _LONG)
    ]
    against, after = step.before, step.after
    if isinstance(after, Service) and against is None:
        earlier = [s for s in desk.directory.services.values() if s.code == after.code and s.version < after.version]
        against = max(earlier, key=lambda each: (each.stage is not Stage.DRAFT, each.version), default=None)
    sides = compared(against, after) if isinstance(against, Service) and isinstance(after, Service) else {}
    return ShownStep(
        change=step,
        facts=facts,
        sides=sides,
        against=against if isinstance(against, Service) else None,
        shapes=sides_of(after) if adds and isinstance(after, Service) else {},
    )


def _told(desk: Desk, pointer: str, value: Any) -> str:
    """A fact as people read it: moments in Vietnam's time, lists with commas, what has a name by its name."""
    if isinstance(value, str) and value in _VALUES.get(pointer, {}):
        return desk.t(*_VALUES[pointer][value])
    if isinstance(value, str) and pointer in ("/expires_at", "/valid_from", "/sunset"):
        return Words(desk.language).moment(from_wire(value))
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value) or "–"
    return "–" if value is None else shown_fact(pointer, value)


def _the_draft(desk: Desk, drafts: RegistryDrafts, draft_id: str) -> RegistryDraft:
    draft = drafts.find(draft_id, desk.person.name)
    if draft is None:
        raise NotFound("registry-draft-gone")
    return draft


def _target(changes: Changes) -> str:
    if len(changes.steps) == 1:
        return f"{changes.steps[0].kind.lower()}:{changes.steps[0].subject}"
    return f"registry:{changes.based_on_revision + 1}"


def _facts_of(changes: Changes, draft: RegistryDraft) -> dict[str, Any]:
    return {
        "origin": draft.origin,
        "revision": changes.based_on_revision + 1,
        "lines": list(difference_lines(changes))[:_MOST_LINES],
    }


def _place(changes: Changes) -> str:
    """The page of what was changed; of several services their list."""
    services = [step.after for step in changes.steps if isinstance(step.after, Service)]
    if len(services) > 1:
        first_words = {each.code.partition(".")[0] for each in services}
        return "/console/registry/services" + (f"?q={first_words.pop()}." if len(first_words) == 1 else "")
    if not services and (len(changes.steps) != 1 or changes.steps[0].after is None):
        return "/console/registry"
    entry = services[0] if services else changes.steps[0].after
    if isinstance(entry, Service):
        return f"/console/registry/services/{entry.code}/{entry.version}"
    if isinstance(entry, Grant):
        return f"/console/registry/grants/{entry.id}"
    if isinstance(entry, Subscription):
        return f"/console/registry/subscriptions/{entry.id}"
    if isinstance(entry, System | Agency):
        return f"/console/registry/{'systems' if isinstance(entry, System) else 'agencies'}/{entry.code}"
    return "/console/registry"


def keep_entries(
    desk: Desk, drafts: RegistryDrafts, entries: Sequence[Entry], origin: str, notes: Sequence[str] = ()
) -> AnyResponse:
    """A draft of these entries, and to its page."""
    return keep_draft(desk, drafts, write_manifest(entries), origin, notes)


def keep_draft(
    desk: Desk, drafts: RegistryDrafts, manifest: str, origin: str, notes: Sequence[str] = ()
) -> AnyResponse:
    back = safe_address(request.form["back"]) if request.form.get("back") else ""
    draft_id = drafts.keep(desk.person.name, manifest, utc_now(), origin=origin, notes=notes, back=back)
    return desk.back(f"/console/registry/drafts/{draft_id}")


# ── services by form ────────────────────────────────────────────────────────────────────────────────────────────────


def _forms(console: Console, drafts: RegistryDrafts) -> None:
    @console.page("/registry/services/new", Right.REGISTER)
    def new_service(desk: Desk) -> Response:
        """An empty form, or the next version of a service (``from=CODE/VERSION``)."""
        origin = named_version(request.args.get("from", ""))
        values: dict[str, Any] = {"version": 1, "owner": desk.scope or "", "pattern": "one-way", "grade": "signed"}
        if origin is not None:
            values = _form_of(the_service(desk, *origin), desk)
        return _service_form(desk, values)

    @console.deed("/registry/services", Right.REGISTER)
    def register_service(desk: Desk) -> AnyResponse:
        values: dict[str, Any] = dict(request.form)
        values["content_types"] = request.form.getlist("content_types")
        try:
            service = _service_from(values, desk)
        except Malformed as problem:
            return _service_form(desk, values, problem)
        return keep_entries(desk, drafts, [service], desk.t("Biểu mẫu dịch vụ", "Form of a service"))

    @console.deed("/registry/services/<code>/<int:version>/stage", Right.REGISTER)
    def move_service(desk: Desk, code: str, version: int) -> AnyResponse:
        service = the_service(desk, code, version)
        desk.must_see(service.owner)
        wanted = [each for each in NEXT_STAGES[service.stage] if each == request.form.get("stage")]
        if not wanted:
            raise Malformed("query-invalid", name="stage")
        sunset = day_end("sunset") if wanted[0] is Stage.DEPRECATED else service.sunset
        if wanted[0] is Stage.DEPRECATED and sunset is None:
            raise Malformed("sunset-missing")
        moved = replace(service, stage=wanted[0], sunset=None if wanted[0] is Stage.PUBLISHED else sunset)
        return keep_entries(desk, drafts, [moved], desk.t("Chuyển giai đoạn", "Move to another stage"))

    @console.deed("/registry/services/publish", Right.REGISTER)
    def publish_services(desk: Desk) -> AnyResponse:
        """The drafts that the form names (``service``: ``CODE/VERSION``), all at once."""
        keys = request.form.getlist("service")[:MOST_ROWS]
        found = [the_service(desk, *named) for named in map(named_version, keys) if named is not None]
        for each in found:
            desk.must_see(each.owner)
        moved = [replace(each, stage=Stage.PUBLISHED) for each in found if Stage.PUBLISHED in NEXT_STAGES[each.stage]]
        if not moved:
            raise Malformed("query-invalid", name="service")
        return keep_entries(desk, drafts, moved, desk.t("Công bố các dịch vụ", "Publish services"))

    @console.deed("/registry/systems/<agency>/<name>/suspend", Right.REGISTER)
    def suspend_system(desk: Desk, agency: str, name: str) -> AnyResponse:
        system = the_system(desk, agency, name)
        changed = replace(system, suspended=not system.suspended)
        return keep_entries(desk, drafts, [changed], desk.t("Tạm ngưng hệ thống", "Suspend a system"))


def _service_form(desk: Desk, values: Mapping[str, Any], problem: Malformed | None = None) -> Response:
    return desk.show(
        "registry-service-form.html",
        200 if problem is None else 400,
        values=values,
        agencies=agencies_seen(desk),
        problem=problem,
        problem_text=problem.detail(desk.language) if problem else "",
    )


def _form_of(service: Service, desk: Desk) -> dict[str, Any]:
    """The form of the next version."""
    desk.must_see(service.owner)
    newest = max(s.version for s in desk.directory.services.values() if s.code == service.code)
    return {
        "from": service.key,
        "code": service.code,
        "version": newest + 1,
        "name": service.name,
        "owner": service.owner,
        "pattern": service.pattern,
        "grade": service.grade,
        "content_types": list(service.content_types),
        "schema": schema_text(service.schema),
        "reply_schema": schema_text(service.reply_schema),
    }


def _service_from(values: Mapping[str, Any], desk: Desk) -> Service:
    """The version that the form says; what the form does not ask for is as in the version it began from.

    Raises Malformed(registry-manifest-invalid) with the fields.
    """
    content: dict[str, Any] = {"kind": "Service"}
    named = named_version(str(values.get("from", "")))
    if named is not None:
        origin = the_service(desk, *named)
        desk.must_see(origin.owner)
        content = {k: v for k, v in document_of(origin).items() if k not in ("sunset", "schema", "reply_schema")}
    number = str(values.get("version", ""))
    content |= {
        "code": str(values.get("code", "")).strip(),
        "version": int(number) if number.isdecimal() and len(number) < 6 else 0,
        "name": str(values.get("name", "")).strip(),
        "owner": str(values.get("owner", "")).strip(),
        "pattern": values.get("pattern"),
        "grade": values.get("grade"),
        "stage": "draft",
        "content_types": list(values.get("content_types") or ["application/json"]),
    }
    for name in ("schema", "reply_schema"):
        text = str(values.get(name, "")).strip()
        if text:
            content[name] = _schema(name, text)
    (document,) = parse_manifest(write_json([content]), source="")
    entry = entry_from(document)
    if not isinstance(entry, Service):
        raise Malformed("registry-manifest-invalid")
    return entry


def _schema(name: str, text: str) -> Any:
    if text.startswith("<"):
        return text
    try:
        return read_json(text.encode())
    except Malformed as problem:
        raise Malformed(
            "registry-manifest-invalid", errors=[FieldError.worded(f"/{name}", problem.wording())]
        ) from None


def day_end(name: str) -> datetime | None:
    """The last second of the day in a form, in Vietnam; None where it is empty. Raises Malformed(query-invalid)."""
    text = request.form.get(name, "").strip()
    if not text:
        return None
    try:
        return datetime.combine(datetime.strptime(text, "%Y-%m-%d").date(), time(23, 59, 59), VIETNAM)  # noqa: DTZ007
    except ValueError:
        raise Malformed("query-invalid", name=name) from None


def local_day(moment: datetime) -> str:
    """As a date field of a form has it, in Vietnam."""
    return moment.astimezone(VIETNAM).date().isoformat()


# ── by upload ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _uploads(console: Console, drafts: RegistryDrafts) -> None:
    @console.page("/registry/upload", Right.REGISTER)
    def upload(desk: Desk) -> Response:
        return _upload_page(desk)

    @console.deed("/registry/upload/manifests", Right.REGISTER)
    def upload_manifests(desk: Desk) -> AnyResponse:
        try:
            with tempfile.TemporaryDirectory(prefix="lgsp-") as folder:
                names = _saved(Path(folder), [*request.files.getlist("manifests"), *request.files.getlist("beside")])
                manifests = [Path(each.filename or "").name for each in request.files.getlist("manifests")]
                documents = _documents(Path(folder), manifests, frozenset(names))
                text = _whole(documents)
        except Problem as problem:
            return _upload_page(desk, problem)
        return keep_draft(desk, drafts, text, ", ".join(manifests))

    @console.deed("/registry/upload/description", Right.REGISTER)
    def upload_description(desk: Desk) -> AnyResponse:
        try:
            entries, notes, origin = _described(desk)
        except Problem as problem:
            return _upload_page(desk, problem)
        return keep_entries(desk, drafts, entries, origin, notes)


def _upload_page(desk: Desk, problem: Problem | None = None) -> Response:
    return desk.show(
        "registry-upload.html",
        200 if problem is None else 400,
        problem=problem,
        problem_text=problem.detail(desk.language) if problem else "",
        agencies=agencies_seen(desk),
        values=request.form,
    )


def _saved(folder: Path, files: Sequence[FileStorage]) -> list[str]:
    """Lay uploaded files into the folder, under their own plain names. Raises Malformed."""
    names: list[str] = []
    for file in files:
        if not file.filename:
            continue
        name = Path(file.filename.replace("\\", "/")).name
        if not _FILE_NAME.fullmatch(name) or name in names or len(names) >= _MOST_FILES:
            raise Malformed("upload-name")
        names.append(name)
        (folder / name).write_bytes(file.stream.read())
    if not names:
        raise Malformed("upload-missing")
    return names


def _documents(folder: Path, manifests: Sequence[str], there: frozenset[str]) -> list[Document]:
    """The documents of uploaded manifests, which may name files that came with them and no others."""
    documents = [
        document
        for name in manifests
        if name in there
        for document in parse_manifest((folder / name).read_bytes(), source=name, folder=folder)
    ]
    rule = Wording("names a file that was not uploaded with it", "nêu một tệp không được tải lên cùng")
    outside = [
        FieldError.worded(document.place, rule)
        for document in documents
        if not set(_named_files(document.content)) <= there
    ]
    if outside:
        raise Malformed("registry-manifest-invalid", errors=outside)
    return documents


def _named_files(content: Any) -> Iterator[str]:
    if isinstance(content, Mapping):
        name = content.get("file")
        if isinstance(name, str):
            yield name
        for inner in content.values():
            yield from _named_files(inner)
    elif isinstance(content, list):
        for inner in content:
            yield from _named_files(inner)


def _whole(documents: Sequence[Document]) -> str:
    """The documents as one text in which every file stands in place. Raises Malformed."""
    made: list[Mapping[str, Any]] = []
    for document in documents:
        absent = document.content.get("state") == "absent"
        made.append(document.content if absent else document_of(entry_from(document)))
    return write_yaml(made)


def _described(desk: Desk) -> tuple[list[Entry], list[str], str]:
    """What a provider's WSDL or OpenAPI gives: entries, what to know, the file's name. Nothing is fetched."""
    # They bring zeep: only those who import wait for it.
    from connectors.importing.draft import Wishes, draft
    from connectors.importing.openapi import read_openapi
    from connectors.importing.sources import Documents
    from connectors.importing.wsdl import read_wsdl

    form = request.form
    system = form.get("system", "").strip()
    wishes = Wishes(
        prefix=form.get("prefix", "").strip(),
        owner=AgencyCode(form.get("owner", "").strip()),
        system=SystemCode(system) if system else None,
        endpoint_url=form.get("endpoint_url", "").strip(),
        secret=form.get("secret", "").strip(),
        select=frozenset(form.get("select", "").split()),
        stage=Stage.PUBLISHED if form.get("stage") == Stage.PUBLISHED else Stage.DRAFT,
    )
    if not wishes.prefix:
        raise Malformed("import-code-invalid")
    with tempfile.TemporaryDirectory(prefix="lgsp-") as place:
        folder = Path(place)
        names = _saved(folder, request.files.getlist("description"))
        first = next((name for name in names if not name.lower().endswith(".xsd")), names[0])
        is_xml = (folder / first).read_bytes().lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"
        with Documents(str(folder / first)) as documents:
            made = draft(read_wsdl(documents) if is_xml else read_openapi(documents), wishes)
        out = folder / "drafted"
        out.mkdir()
        for name, text in made.files.items():
            (out / name).write_text(text, encoding="utf-8")
        entries = [
            entry_from(document)
            for name in made.manifests
            for document in parse_manifest((out / name).read_bytes(), source=name, folder=out)
        ]
    notes = [f"{service.operation}: {note.said(desk.language)}" for service in made.services for note in service.notes]
    notes += [f"{each.name}: {each.problem.detail(desk.language)}" for each in made.refusals]
    absent = desk.t("không có thao tác này", "no such operation")
    notes += [*(note.said(desk.language) for note in made.notes), *(f"{name}: {absent}" for name in made.unknown)]
    if made.secret and desk.bus.registry.secret(made.secret) is None:
        told = desk.t(
            "Áp dụng xong, cán bộ an toàn thông tin lưu bí mật %s ở trang của hệ thống; trước đó chưa gọi được.",
            "Once applied, a security officer keeps the secret %s on the system's page; no call works before.",
        )
        notes.append(told % made.secret)
    if not entries:
        raise Malformed("import-nothing", errors=[FieldError.worded("", Wording(text, text)) for text in notes[:50]])
    return entries, notes, first


# ── grants ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _grant_forms(console: Console, drafts: RegistryDrafts) -> None:
    @console.page("/registry/grants/new", Right.REGISTER)
    def new_grant(desk: Desk) -> Response:
        """``service``, ``grantee``, ``purpose``, ``receiver``: what a refused message lacked."""
        asked = request.args
        held = [
            each
            for each in desk.directory.grants.values()
            if each.service == asked.get("service") and each.grantee == asked.get("grantee")
        ]
        values = {
            "service": asked.get("service", ""), "grantee": asked.get("grantee", ""),
            "purposes": asked.get("purpose", ""), "receivers": asked.get("receiver", ""), "back": asked.get("back", ""),
        }  # fmt: skip
        return _grant_form(desk, values, held=held)

    @console.page("/registry/grants/<grant_id>/edit", Right.REGISTER)
    def edit_grant(desk: Desk, grant_id: str) -> Response:
        grant = the_grant(desk, grant_id)
        if not decides_on(desk, grant.service):
            raise NotPermitted("other-agency")
        until = local_day(grant.expires_at) if grant.expires_at else ""
        values = {
            "id": grant.id, "service": grant.service, "grantee": grant.grantee, "purposes": ", ".join(grant.purposes),
            "receivers": ", ".join(grant.receivers), "expires": until, "include_children": grant.include_children,
            "per_minute": grant.quota.per_minute or "", "per_day": grant.quota.per_day or "",
            "back": request.args.get("back", ""),
        }  # fmt: skip
        return _grant_form(desk, values)

    @console.deed("/registry/grants", Right.REGISTER)
    def keep_grant(desk: Desk) -> AnyResponse:
        try:
            grant = _grant_from(desk)
        except Malformed as problem:
            return _grant_form(desk, dict(request.form), problem)
        return keep_entries(desk, drafts, [grant], desk.t("Biểu mẫu quyền truy cập", "Form of a grant"))

    @console.deed("/registry/grants/<grant_id>/remove", Right.REGISTER)
    def remove_grant(desk: Desk, grant_id: str) -> AnyResponse:
        grant = the_grant(desk, grant_id)
        text = write_yaml([{"kind": "Grant", "id": grant.id, "state": "absent"}])
        return keep_draft(desk, drafts, text, desk.t("Thu hồi quyền truy cập", "Withdraw a grant"))


def _grant_form(
    desk: Desk, values: Mapping[str, Any], problem: Malformed | None = None, held: Sequence[Grant] = ()
) -> Response:
    codes = sorted({code for code, _ in desk.directory.services if decides_on(desk, code)})
    return desk.show(
        "registry-grant-form.html",
        200 if problem is None else 400,
        values=values,
        held=held,
        codes=codes,
        agencies=sorted(desk.directory.agencies.values(), key=lambda each: each.code),
        problem=problem,
        problem_text=problem.detail(desk.language) if problem else "",
    )


def _grant_from(desk: Desk) -> Grant:
    """The right that the form says; the dates that it does not ask for are as they were. Raises Malformed."""
    form = request.form
    service, grantee = ServiceCode(form.get("service", "").strip()), AgencyCode(form.get("grantee", "").strip())
    held = desk.directory.grants.get(form.get("id", ""))
    if held is not None and (held.service, held.grantee) != (service, grantee):
        raise Malformed("grant-of-another")
    expires = day_end("expires")
    if held is not None and held.expires_at and expires:
        expires = held.expires_at if local_day(held.expires_at) == local_day(expires) else expires
    return Grant(
        id=held.id if held else free_id(f"{service}.{grantee}", desk.directory.grants),
        service=service,
        grantee=grantee,
        include_children=bool(form.get("include_children")),
        receivers=tuple(map(AgencyCode, words("receivers"))),
        purposes=tuple(words("purposes")),
        valid_from=held.valid_from if held else None,
        expires_at=expires,
        quota=Quota(per_minute=number("per_minute"), per_day=number("per_day")),
    )


def words(name: str) -> list[str]:
    """The words of a field of the form, with commas or new lines between them, each once."""
    return list(dict.fromkeys(each.strip() for each in re.split(r"[,;\n]", request.form.get(name, "")) if each.strip()))


def number(name: str) -> int:
    """A whole number of the form, 0 where it is empty. Raises Malformed(query-invalid)."""
    text = request.form.get(name, "").strip().replace(".", "")
    if text and not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise Malformed("query-invalid", name=name)
    return int(text or 0)
