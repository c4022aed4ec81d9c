"""Who sees which data service. Strangers learn nothing of schemas; drafts are their owner's business."""

from __future__ import annotations

from bus.assembly import Bus
from bus.web.door import is_operator
from registry.model import Service, Stage
from schemas.identifiers import ServiceCode
from schemas.message import Principal
from schemas.problem import Malformed


def is_narrowed(bus: Bus, principal: Principal) -> bool:
    """Is the caller's system there to send some services only? Then what its agency may read is not for it."""
    system = bus.directory.current().system(principal.system)
    return system is not None and bool(system.sends)


def sees(bus: Bus, principal: Principal, service: Service) -> bool:
    return service.stage is not Stage.DRAFT or service.owner == principal.agency or is_operator(bus, principal)


def uses(bus: Bus, principal: Principal, service: Service) -> bool:
    """Strangers learn nothing of schemas: who sends, takes or owns the service does."""
    if not sees(bus, principal, service):
        return False
    directory = bus.directory.current()
    takes = any(service.code in system.receives for system in directory.systems_of(principal.agency))
    granted = bool(directory.grants_for(principal.agency, service.code))
    return takes or granted or service.owner == principal.agency or is_operator(bus, principal)


def seen_service(bus: Bus, principal: Principal, code: str, version: int) -> Service | None:
    try:
        service = bus.directory.current().service(ServiceCode(code), version)
    except Malformed:
        return None
    return service if service and sees(bus, principal, service) else None
