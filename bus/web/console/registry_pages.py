"""`/console/registry/`: what is registered, whose it is, what ends soon. Reading only; `registering.py` changes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from bus.access_requests import AccessRequests, RequestState
from bus.quotas import quota_periods
from bus.records import FoundMessage, Wanted
from bus.web.console.desk import Console, Desk, Right, attachment
from bus.web.console.registry_view import (
    MOST_ROWS,
    SOON,
    HeldKey,
    decides_on,
    endings,
    keys_seen,
    paged,
    sees_grant,
    sees_service,
    sees_system,
    the_agency,
    the_grant,
    the_service,
    the_system,
    uses_service,
    words_of,
)
from bus.web.service_documents import openapi_of, wsdl_of
from registry.changes import subject_of
from registry.contract import Contract
from registry.manifests import write_manifest
from registry.model import Agency, Grant, Pattern, Service, Stage, System
from registry.schema_difference import fields_of, line_difference, sample_of, schema_text, service_differences
from schemas.moment import to_micros, utc_now
from schemas.problem import Malformed, NotFound

#: Where a version may go next, the usual way first.
NEXT_STAGES: dict[Stage, tuple[Stage, ...]] = {
    Stage.DRAFT: (Stage.SANDBOX, Stage.PUBLISHED),
    Stage.SANDBOX: (Stage.PUBLISHED, Stage.DRAFT),
    Stage.PUBLISHED: (Stage.DEPRECATED,),
    Stage.DEPRECATED: (Stage.RETIRED, Stage.PUBLISHED),
    Stage.RETIRED: (),
}
_SIDES = {"request": "schema", "reply": "reply_schema"}


def install(console: Console) -> None:
    _first_page(console)
    _agencies(console)
    _systems(console)
    _services(console)
    _grants(console)


def _first_page(console: Console) -> None:
    requests = AccessRequests(console.bus.store)

    @console.page("/registry", menu=("Danh mục", "Registry"))
    def registry(desk: Desk) -> Response:
        directory = desk.directory
        waiting = requests.newest(state=RequestState.WAITING, concerning=desk.scope, limit=10)
        counts = {
            "agencies": len(directory.agencies),
            "systems": sum(sees_system(desk, each) for each in directory.systems.values()),
            "services": sum(sees_service(desk, each) for each in directory.services.values()),
            "grants": sum(sees_grant(desk, each) for each in directory.grants.values()),
            "subscriptions": sum(desk.sees(each.system.agency) for each in directory.subscriptions.values()),
        }
        soon = endings(desk, utc_now())
        return desk.show(
            "registry.html",
            waiting=waiting,
            decides=lambda service: decides_on(desk, service),
            soon=soon[:MOST_ROWS],
            soon_left=max(0, len(soon) - MOST_ROWS),
            counts=counts,
        )

    @console.page("/registry/keys")
    def registry_keys(desk: Desk) -> Response:
        def place(held: HeldKey) -> str:
            return f"{to_micros(held.certificate.not_after):020d} {held.certificate.key_id}"

        page = paged(keys_seen(desk), place, lambda held: f"{held.system.code} {held.system.name}")
        return desk.show("registry-keys.html", page=page, soon=utc_now() + SOON)

    @console.page("/registry/history")
    def registry_history(desk: Desk) -> Response:
        """Who changed what, of the province; an agency's people see what became of single entries on their pages."""
        desk.must_see()
        events = desk.bus.registry.events(subject=request.args.get("subject", "")[:120], limit=100)
        return desk.show("registry-history.html", events=events, subject=request.args.get("subject", "")[:120])


def _agencies(console: Console) -> None:
    @console.page("/registry/agencies")
    def registry_agencies(desk: Desk) -> Response:
        directory = desk.directory
        searched = bool(request.args.get("q", "").strip())
        roots = [each for each in directory.agencies.values() if searched or each.parent not in directory.agencies]
        page = paged(roots, lambda each: str(each.code), words_of)
        return desk.show("registry-agencies.html", page=page, below=_below(desk, page.items, searched))

    @console.page("/registry/agencies/<code>")
    def registry_agency(desk: Desk, code: str) -> Response:
        directory = desk.directory
        agency = directory.agencies[the_agency(desk, code)]
        services = [s for s in directory.services.values() if s.owner == agency.code and sees_service(desk, s)]
        grants = [g for g in directory.grants.values() if g.grantee == agency.code and sees_grant(desk, g)]
        return desk.show(
            "registry-agency.html",
            agency=agency,
            above=[directory.agencies[each] for each in reversed(directory.ancestors(agency.code))],
            children=paged(directory.children(agency.code), lambda each: str(each.code), words_of),
            systems=[each for each in directory.systems_of(agency.code) if sees_system(desk, each)],
            services=sorted(services, key=lambda each: each.key)[:50],
            grants=sorted(grants, key=lambda each: each.id)[:50],
            own=desk.sees(agency.code),
        )


def _below(desk: Desk, agencies: list[Agency], searched: bool) -> dict[str, tuple[Agency, ...]]:
    """The next storey of the tree under each agency of the page; none where somebody searched."""
    return {} if searched else {each.code: desk.directory.children(each.code)[:50] for each in agencies}


def _systems(console: Console) -> None:
    @console.page("/registry/systems")
    def registry_systems(desk: Desk) -> Response:
        seen = [each for each in desk.directory.systems.values() if sees_system(desk, each)]
        page = paged(seen, lambda each: str(each.code), words_of)
        return desk.show("registry-systems.html", page=page, resting=desk.bus.nodes.look().open)

    @console.page("/registry/systems/<agency>/<name>")
    def registry_system(desk: Desk, agency: str, name: str) -> Response:
        system = the_system(desk, agency, name)
        look = desk.bus.nodes.look()
        return desk.show(
            "registry-system.html",
            system=system,
            resting=system.code in look.open,
            used_by=[node for node in look.nodes if system.code in node.uses],
            soon=utc_now() + SOON,
            secret_kept=_secret_kept(desk, system),
            told=[each for each in desk.directory.subscriptions.values() if each.system == system.code],
            events=desk.bus.registry.events(subject=system.code, limit=10),
        )


def _secret_kept(desk: Desk, system: System) -> bool:
    """Without it no call can be made."""
    secret = system.endpoint.secret if system.endpoint else ""
    return not secret or desk.bus.registry.secret(secret) is not None


def _services(console: Console) -> None:
    @console.page("/registry/services")
    def registry_services(desk: Desk) -> Response:
        seen = [each for each in desk.directory.services.values() if sees_service(desk, each)]
        page = paged(seen, lambda each: f"{each.code}/{each.version:06d}", words_of)
        drafts = [each for each in page.items if each.stage is Stage.DRAFT and desk.sees(each.owner)]
        # A whole registry is not published by one button: only what somebody has looked for.
        offered = drafts if page.query and desk.may(Right.REGISTER) else []
        return desk.show("registry-services.html", page=page, drafts=offered)

    @console.page("/registry/services/<code>/<int:version>")
    def registry_service(desk: Desk, code: str, version: int) -> Response:
        service = the_service(desk, code, version)
        directory = desk.directory
        versions = [s for s in directory.services.values() if s.code == service.code and sees_service(desk, s)]
        grants = [g for g in directory.grants.values() if g.service == service.code and sees_grant(desk, g)]
        return desk.show(
            "registry-service.html",
            service=service,
            versions=sorted(versions, key=lambda each: each.version),
            grants=sorted(grants, key=lambda each: each.id)[:50],
            sides=sides_of(service) if uses_service(desk, service) else None,
            next_stages=NEXT_STAGES[service.stage],
            takers=_takers(desk, service),
            locked=[each for each in _takers(desk, service) if desk.sees(each.agency) and not _secret_kept(desk, each)],
            calling=how_to_call(desk, service) if uses_service(desk, service) else None,
            granted=bool(desk.scope and desk.directory.grants_for(desk.scope, service.code)),
            recent=_recent(desk, service),
            n=desk.names,
            events=desk.bus.registry.events(subject=service.key, limit=10) if desk.sees(service.owner) else (),
        )

    @console.page("/registry/services/<code>/<int:version>/recent")
    def registry_service_recent(desk: Desk, code: str, version: int) -> AnyResponse:
        """The part of a service's page in which its first call appears."""
        service = the_service(desk, code, version)
        return desk.part("registry-service-recent.html", service=service, recent=_recent(desk, service), n=desk.names)

    @console.page("/registry/services/<code>/<int:version>/openapi.json")
    def registry_openapi(desk: Desk, code: str, version: int) -> Response:
        service = _described(desk, code, version)
        document = openapi_of(service, desk.directory.contract_for(service), desk.bus.settings.public_url)
        text = json.dumps(document, ensure_ascii=False, indent=2)
        return attachment(text, "application/json; charset=utf-8", f"{service.code}.json")

    @console.page("/registry/services/<code>/<int:version>/service.wsdl")
    def registry_wsdl(desk: Desk, code: str, version: int) -> Response:
        service = _described(desk, code, version)
        document = wsdl_of(service, desk.directory.contract_for(service), desk.bus.settings.public_url)
        return attachment(document, "text/xml; charset=utf-8", f"{service.code}.wsdl")

    @console.page("/registry/services/<code>/difference")
    def registry_difference(desk: Desk, code: str) -> Response:
        """Between two versions (``from``, ``to``)."""
        before = the_service(desk, code, _number("from"))
        after = the_service(desk, code, _number("to"))
        if not (uses_service(desk, before) and uses_service(desk, after)):
            raise NotFound("registry-entry-unknown")
        return desk.show(
            "registry-difference.html", before=before, after=after, sides=compared(before, after), key=subject_of
        )

    @console.page("/registry/services/<code>/<int:version>/manifest")
    def registry_manifest(desk: Desk, code: str, version: int) -> Response:
        """The version as a manifest, to keep under version control."""
        service = the_service(desk, code, version)
        desk.must_see(service.owner)
        name = f"{service.code}.{service.version}.yaml"
        return attachment(write_manifest([service]), "application/yaml; charset=utf-8", name)


def _described(desk: Desk, code: str, version: int) -> Service:
    """A version whose contract is this person's business. Raises NotFound."""
    service = the_service(desk, code, version)
    if not uses_service(desk, service):
        raise NotFound("registry-entry-unknown")
    return service


@dataclass(frozen=True, kw_only=True)
class Calling:
    """What a developer needs for the first call. Names in ``<>`` are the reader's own."""

    receiver: str
    #: Purposes that the grant takes; empty: none need be stated.
    purposes: tuple[str, ...]
    rest: str
    #: Empty where its payloads cannot be said in XML.
    soap: str
    #: Can it be described as OpenAPI? Not where its XSD has no counterpart in JSON.
    openapi: bool
    command: str


def how_to_call(desk: Desk, service: Service) -> Calling:
    """By REST, by SOAP, by the command of the client's package."""
    url = desk.bus.settings.public_url
    contract = desk.directory.contract_for(service)
    sides = (contract.request, contract.reply) if service.pattern is Pattern.REQUEST_REPLY else (contract.request,)
    both = all(side.is_bridgeable for side in sides)
    grants = [each for each in desk.directory.grants.values() if each.service == service.code]
    mine = desk.directory.grants_for(desk.scope, service.code) if desk.scope else tuple(grants)
    purposes = tuple(dict.fromkeys(purpose for grant in mine for purpose in grant.purposes))
    takers = sorted({each.agency for each in desk.directory.systems.values() if service.code in each.receives})
    receiver = str(takers[0]) if takers else desk.t("<mã cơ quan nhận>", "<code of the receiver>")
    stated = f" --purpose {purposes[0]}" if purposes else ""
    verb = "call" if service.pattern is Pattern.REQUEST_REPLY else "send"
    key = service.key if service.version != 1 else service.code
    return Calling(
        receiver=receiver,
        purposes=purposes,
        rest=f"{url}/v1/exchange",
        soap=f"{url}/soap/services/{service.key}" if both else "",
        openapi=both or not isinstance(service.schema, str),
        command=f"lgsp {verb} --profile lgsp.toml --service {key} --to {receiver}{stated} body.json",
    )


def _takers(desk: Desk, service: Service) -> list[System]:
    """Systems that name the service. Whose it is may be known to all who may call it; which one, to its agency."""
    found = [each for each in desk.directory.systems.values() if service.code in each.receives]
    return sorted(found, key=lambda each: each.code)[:MOST_ROWS]


def compared(before: Service, after: Service) -> dict[str, dict[str, Any]]:
    """Both sides of two versions: what differs by fields, else by lines."""
    found: dict[str, dict[str, Any]] = {}
    for side, attribute in _SIDES.items():
        old, new = getattr(before, attribute), getattr(after, attribute)
        if old == new:
            continue
        fields = service_differences(before, after, side) if old is not None and new is not None else None
        found[side] = {"fields": fields, "lines": line_difference(old, new)}
    return found


def sides_of(service: Service) -> dict[str, dict[str, Any]]:
    """Each schema of a service: its text, its fields, an invented example."""
    found: dict[str, dict[str, Any]] = {}
    for side, attribute in _SIDES.items():
        document = getattr(service, attribute)
        if document is None:
            continue
        try:
            shape = getattr(Contract(service), side).json_schema
            fields = list(fields_of(shape).items())[:200]
            sample = json.dumps(sample_of(shape), ensure_ascii=False, indent=2)
        except Malformed:
            fields, sample = [], ""
        language = "XSD" if isinstance(document, str) else "JSON Schema"
        found[side] = {"language": language, "text": schema_text(document), "fields": fields, "sample": sample}
    return found


def _recent(desk: Desk, service: Service) -> list[FoundMessage]:
    """The last messages of the service, so that a developer sees the first call appear."""
    wanted = Wanted(service=service.code, agency=desk.scope, limit=5)
    return list(desk.bus.ledger.search_page(wanted).messages)


def _number(name: str) -> int:
    text = request.args.get(name, "")
    if not text.isdecimal() or len(text) > 6:
        raise Malformed("query-invalid", name=name)
    return int(text)


def _grants(console: Console) -> None:
    @console.page("/registry/grants")
    def registry_grants(desk: Desk) -> Response:
        seen = [each for each in desk.directory.grants.values() if sees_grant(desk, each)]
        for name in ("service", "grantee"):
            if wanted := request.args.get(name):
                seen = [each for each in seen if getattr(each, name) == wanted]
        page = paged(seen, lambda each: each.id, lambda each: f"{each.id} {each.service} {each.grantee}")
        return desk.show("registry-grants.html", page=page)

    @console.page("/registry/grants/<grant_id>")
    def registry_grant(desk: Desk, grant_id: str) -> Response:
        grant = the_grant(desk, grant_id)
        mends = desk.may(Right.REGISTER) and decides_on(desk, grant.service)
        return desk.show(
            "registry-grant.html",
            grant=grant,
            mends=mends,
            used=_used(desk, grant),
            events=desk.bus.registry.events(subject=grant.id, limit=10),
        )


def _used(desk: Desk, grant: Grant) -> dict[str, int]:
    """How much of its quota is used, by the store's own count."""
    periods = quota_periods(grant, utc_now())
    return {"minute" if "T" in period[1] else "day": desk.bus.ledger.quota_used(*period) for period in periods}
