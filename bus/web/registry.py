"""`/v1/registry`: who is a member, what may be exchanged with whom, and the operator's way to change it.

What a member may read: all agencies; services but for other people's drafts; of systems what is needed to write to
them; grants that concern it; schemas of services that it uses, owns or takes. The operator reads everything. Secrets
and their hashes are in no answer at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
from flask import Blueprint, Response, request

from bus.assembly import Bus
from bus.registration import plan_registration
from bus.web import access_requests
from bus.web.answers import json_response
from bus.web.described import Answer, Parameter, describe
from bus.web.door import identified_caller, is_operator, operator, read_body
from bus.web.evidence import query_flag
from bus.web.visibility import seen_service, sees, uses
from registry.changes import plain, subject_of
from registry.directory import Directory
from registry.manifests import difference_lines, parse_manifest
from registry.model import Agency, Certificate, Entry, Grant, Service, System
from schemas.message import Principal
from schemas.problem import Malformed, NotFound

MOST_ENTRIES = 1000
_MEDIA_TYPES = ("application/yaml", "application/x-yaml", "text/yaml", "application/json")
_SCHEMA_PARTS = {"request": "schema", "reply": "reply_schema"}

_PAGING = (
    Parameter(name="after", place="query", meaning="`next` of the page before"),
    Parameter(
        name="max",
        place="query",
        meaning="Most entries at once",
        schema={"type": "integer", "minimum": 1, "maximum": MOST_ENTRIES},
    ),
)
_PAGE = {
    "type": "object",
    "required": ["items", "next", "revision"],
    "properties": {
        "items": {"type": "array", "items": {"type": "object"}},
        "next": {"type": ["string", "null"], "description": "Pass it as `after`; null on the last page"},
        "revision": {"type": "integer", "description": "Changes made to the registry so far"},
    },
}
_ENTRY = {"type": "object"}
_CHANGES = {
    "type": "object",
    "required": ["lines", "steps", "applied", "revision"],
    "properties": {
        "lines": {"type": "array", "items": {"type": "string"}, "description": "As `lgsp registry apply` prints them"},
        "steps": {"type": "integer"},
        "applied": {"type": "boolean"},
        "revision": {"type": "integer"},
    },
}


def registry_surface(bus: Bus) -> Blueprint:
    """The routes of the registry."""
    routes = Blueprint("registry", __name__)
    for make in (_agencies, _systems, _services, _grants, _schemas, _manifests, access_requests.install):
        make(bus, routes)
    return routes


def _agencies(bus: Bus, routes: Blueprint) -> None:
    @routes.get("/v1/registry/agencies")
    @_described_list("Agencies")
    def agencies() -> Response:
        """The members of the bus, a tree by `parent`."""
        identified_caller(bus)
        directory = bus.directory.current()
        return _page(directory.agencies.values(), _facts, directory.revision)

    @routes.get("/v1/registry/agencies/<code>")
    @_described_one("An agency")
    def agency(code: str) -> Response:
        """By its code in either spelling (`H99.15`, `000.00.15.H99`) or a registered alias."""
        identified_caller(bus)
        return _one(bus.directory.current().agency(code), _facts)


def _systems(bus: Bus, routes: Blueprint) -> None:
    @routes.get("/v1/registry/systems")
    @_described_list("Systems")
    def systems() -> Response:
        """Which systems agencies have and what they take. Endpoints are shown to their own agency and the operator."""
        principal = identified_caller(bus)
        directory = bus.directory.current()
        return _page(directory.systems.values(), lambda system: _system(bus, principal, system), directory.revision)

    @routes.get("/v1/registry/systems/<agency>/<name>")
    @_described_one("A system")
    def system(agency: str, name: str) -> Response:
        """By its code, `H99.15/mot-cua`."""
        principal = identified_caller(bus)
        held = bus.directory.current().system(f"{agency}/{name}")
        return _one(held, lambda found: _system(bus, principal, found))


def _services(bus: Bus, routes: Blueprint) -> None:
    @routes.get("/v1/registry/services")
    @_described_list("Data services")
    def services() -> Response:
        """Every version of every data service; a draft is shown to its owner only."""
        principal = identified_caller(bus)
        directory = bus.directory.current()
        seen = [service for service in directory.services.values() if sees(bus, principal, service)]
        return _page(seen, lambda service: _service(directory, service), directory.revision)

    @routes.get("/v1/registry/services/<code>/<int:version>")
    @_described_one("A version of a data service")
    def service(code: str, version: int) -> Response:
        """Its facts and the digests of its schemas."""
        principal = identified_caller(bus)
        directory = bus.directory.current()
        return _one(seen_service(bus, principal, code, version), lambda found: _service(directory, found))


def _grants(bus: Bus, routes: Blueprint) -> None:
    @routes.get("/v1/registry/grants")
    @_described_list("Grants")
    def grants() -> Response:
        """The rights of your agency (also those that an agency above shares), and those given on your services."""
        principal = identified_caller(bus)
        directory = bus.directory.current()
        mine = [grant for grant in directory.grants.values() if _concerns(bus, principal, grant)]
        return _page(mine, _facts, directory.revision)

    @routes.get("/v1/registry/grants/<grant_id>")
    @_described_one("A grant")
    def grant(grant_id: str) -> Response:
        """By its id, if it concerns your agency."""
        principal = identified_caller(bus)
        held = bus.directory.current().grants.get(grant_id)
        return _one(held if held and _concerns(bus, principal, held) else None, _facts)


def _schemas(bus: Bus, routes: Blueprint) -> None:
    @routes.get("/v1/registry/schemas")
    @_described_list("Payload schemas")
    def schemas() -> Response:
        """The schemas of services that you may use, own or take messages of."""
        principal = identified_caller(bus)
        directory = bus.directory.current()
        seen = [service for service in directory.services.values() if uses(bus, principal, service)]
        parts = [part for service in seen for part in _schema_parts(directory, service)]
        return _paged(parts, lambda part: str(part["schema"]), directory.revision)

    @routes.get("/v1/registry/schemas/<code>/<int:version>/<part>")
    @describe(
        "Registry",
        "A payload schema",
        access="token",
        answers={200: Answer(meaning="JSON Schema 2020-12 or XML Schema, as registered", content_type="*/*")},
        problems=(401, 404),
    )
    def schema(code: str, version: int, part: str) -> Response:
        """`part` is `request` or `reply`."""
        principal = identified_caller(bus)
        service = seen_service(bus, principal, code, version)
        if service is None or part not in _SCHEMA_PARTS or not uses(bus, principal, service):
            raise NotFound("registry-entry-unknown")
        document = getattr(service, _SCHEMA_PARTS[part])
        if document is None:
            raise NotFound("registry-entry-unknown")
        if isinstance(document, str):
            return Response(document, content_type="application/xml; charset=utf-8")
        return Response(orjson.dumps(document), content_type="application/schema+json")


def _manifests(bus: Bus, routes: Blueprint) -> None:
    @routes.post("/v1/registry/manifests")
    @describe(
        "Registry",
        "Apply manifests",
        access="token",
        parameters=(
            Parameter(
                name="dry_run",
                place="query",
                meaning="`true`: say what would change, change nothing",
                schema={"type": "boolean", "default": False},
            ),
        ),
        body={media: {"description": "One or many documents"} for media in ("application/yaml", "application/json")},
        answers={200: Answer(meaning="What changed, line by line", schema=_CHANGES)},
        problems=(400, 401, 403, 409, 413),
    )
    def manifests() -> Response:
        """For the operator: the same checks and the same difference as `lgsp registry apply`. All or nothing."""
        principal = operator(bus)
        dry_run = query_flag("dry_run")
        if request.mimetype not in _MEDIA_TYPES:
            raise Malformed("content-type-not-taken", taken=", ".join(_MEDIA_TYPES))
        documents = parse_manifest(read_body(request.environ, bus.settings.max_body_bytes))
        changes = plan_registration(bus.registry, documents)
        revision = changes.based_on_revision
        if not dry_run:
            revision = bus.registry.apply(changes, f"api:{principal.system}")
            bus.directory.refresh()
        return json_response(
            {
                "lines": list(difference_lines(changes)),
                "steps": len(changes.steps),
                "applied": bool(changes.steps) and not dry_run,
                "revision": revision,
            }
        )


# Who sees what


def _concerns(bus: Bus, principal: Principal, grant: Grant) -> bool:
    directory = bus.directory.current()
    owners = {service.owner for service in directory.services.values() if service.code == grant.service}
    shared = grant.include_children and grant.grantee in directory.ancestors(principal.agency)
    return shared or principal.agency in {grant.grantee, *owners} or is_operator(bus, principal)


# What is shown


def _facts(entry: Agency | Grant) -> dict[str, Any]:
    facts: dict[str, Any] = plain(entry)
    return facts


def _system(bus: Bus, principal: Principal, system: System) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "code": system.code,
        "name": system.name,
        "mode": system.mode.value,
        "receives": list(system.receives),
        "sends_only": system.sends_only,
        "suspended": system.suspended,
        "certificates": [_certificate(held) for held in system.certificates],
    }
    if principal.agency == system.agency or is_operator(bus, principal):
        endpoint = system.endpoint
        shown |= {
            "sends": list(system.sends),
            "concurrency": system.concurrency,
            "speaks_for_children": system.speaks_for_children,
            "has_client_secret": bool(system.client_secret_hash),
            # Settings of a connector may hold what a partner would not like to see repeated.
            "endpoint": endpoint
            and {
                "connector": endpoint.connector,
                "url": endpoint.url,
                "timeout_seconds": endpoint.timeout_seconds,
                "secret": endpoint.secret,
            },
        }
    return shown


def _certificate(held: Certificate) -> dict[str, Any]:
    facts: dict[str, Any] = plain(held)
    return {name: value for name, value in facts.items() if name != "pem"}


def _service(directory: Directory, service: Service) -> dict[str, Any]:
    facts: dict[str, Any] = plain(service)
    # Where and how the provider is called, and its own form, are its owner's business.
    facts = {name: value for name, value in facts.items() if name not in {*_SCHEMA_PARTS.values(), "provider"}}
    return facts | {"schemas": _schema_parts(directory, service)}


def _schema_parts(directory: Directory, service: Service) -> list[dict[str, Any]]:
    parts = []
    for part, compiled in (("request", directory.schema_for), ("reply", directory.reply_schema_for)):
        document = getattr(service, _SCHEMA_PARTS[part])
        if document is not None:
            language = "xml-schema" if isinstance(document, str) else "json-schema"
            parts.append({"schema": f"{service.key}/{part}", "language": language, "sha256": compiled(service).digest})
    return parts


# How it is answered


def _described_list(what: str) -> Callable[[Any], Any]:
    answers = {200: Answer(meaning="One page, in order of codes", schema=_PAGE)}
    return describe("Registry", what, access="token", parameters=_PAGING, answers=answers, problems=(400, 401))


def _described_one(what: str) -> Callable[[Any], Any]:
    answers = {200: Answer(meaning="Its facts", schema=_ENTRY)}
    return describe("Registry", what, access="token", answers=answers, problems=(401, 404))


def _page(entries: Iterable[Any], show: Callable[[Any], Mapping[str, Any]], revision: int) -> Response:
    return _paged(list(entries), subject_of, revision, show)


def _paged(
    entries: list[Any],
    key: Callable[[Any], str],
    revision: int,
    show: Callable[[Any], Mapping[str, Any]] = lambda entry: entry,
) -> Response:
    """One page in order of keys; only what is on it is made ready to be shown."""
    text = request.args.get("max", "100")
    if not text.isdecimal() or len(text) > 6 or int(text) == 0:
        raise Malformed("query-invalid", name="max")
    most, after = min(int(text), MOST_ENTRIES), request.args.get("after", "")
    following = sorted((entry for entry in entries if key(entry) > after), key=key)
    page = following[:most]
    last = key(page[-1]) if len(following) > most else None
    return json_response({"items": [show(entry) for entry in page], "next": last, "revision": revision})


def _one(entry: Entry | None, show: Callable[[Any], Mapping[str, Any]]) -> Response:
    if entry is None:
        raise NotFound("registry-entry-unknown")
    return json_response(show(entry))
