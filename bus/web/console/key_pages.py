"""Keys and client secrets of systems: added, revoked, made anew. For those who guard."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from bus.people import note
from bus.web.console.desk import Console, Desk, Right
from bus.web.console.registry_view import the_system
from registry.changes import plan_changes
from registry.manifests import certificate_of
from registry.model import System
from schemas.moment import utc_now
from schemas.problem import Malformed, NotFound, NotPermitted
from security.tokens import hash_secret, new_secret


def install(console: Console) -> None:
    @console.deed("/registry/systems/<agency>/<name>/keys", Right.GUARD)
    def add_key(desk: Desk, agency: str, name: str) -> AnyResponse:
        """A certificate in PEM; the key in front goes on being good, so that keys change with overlap."""
        system = _fresh(desk, agency, name)
        held = certificate_of(request.form.get("pem", "").strip() + "\n")
        if held.not_after <= utc_now():
            raise Malformed("certificate-over")
        changed = replace(system, certificates=(*system.certificates, held))
        _apply(desk, changed, "key.added", desk.reason(), key=held.key_id)
        return desk.back(f"/console/registry/systems/{system.code}", "Đã thêm khoá.", "The key has been added.")

    @console.deed("/registry/systems/<agency>/<name>/revoke", Right.GUARD)
    def revoke_key(desk: Desk, agency: str, name: str) -> AnyResponse:
        system, key_id, now = _fresh(desk, agency, name), request.form.get("key", ""), utc_now()
        if all(held.key_id != key_id or held.revoked_at for held in system.certificates):
            raise NotFound("registry-entry-unknown")
        kept = tuple(replace(held, revoked_at=now) if held.key_id == key_id else held for held in system.certificates)
        _apply(desk, replace(system, certificates=kept), "key.revoked", desk.reason(), key=key_id)
        return desk.back(f"/console/registry/systems/{system.code}", "Đã thu hồi khoá.", "The key has been revoked.")

    @console.deed("/registry/systems/<agency>/<name>/secret", Right.GUARD)
    def new_client_secret(desk: Desk, agency: str, name: str) -> AnyResponse:
        """A new client secret, shown this once."""
        system, value = _fresh(desk, agency, name), new_secret()
        _apply(desk, replace(system, client_secret_hash=hash_secret(value)), "client-secret.made", desk.reason())
        return desk.show("registry-secret.html", system=system, value=value)

    @console.deed("/registry/systems/<agency>/<name>/endpoint-secret", Right.GUARD)
    def keep_endpoint_secret(desk: Desk, agency: str, name: str) -> AnyResponse:
        """What the bus logs in to the system with. It goes in and never comes out. A name may serve several systems:
        only the province's own people fill it."""
        system, reason, value = _fresh(desk, agency, name), desk.reason(), request.form.get("value", "")
        if desk.scope is not None:
            raise NotPermitted("other-agency")
        if system.endpoint is None or not system.endpoint.secret or not value:
            raise Malformed("query-invalid", name="value")
        secret = system.endpoint.secret
        event = desk.event("secret.kept", f"secret:{secret}", reason, system.agency, system=system.code)
        sealed = desk.bus.secrets.seal(secret, value.encode())
        desk.bus.registry.put_secret(secret, sealed, desk.actor, partial(note, event=event))
        return desk.back(f"/console/registry/systems/{system.code}", "Đã lưu bí mật.", "The secret is kept.")


def _fresh(desk: Desk, agency: str, name: str) -> System:
    """The system as the store has it now. Raises NotFound, NotPermitted(other-agency)."""
    known = the_system(desk, agency, name)
    found = desk.bus.registry.load().system(known.code)
    if found is None:
        raise NotFound("registry-entry-unknown")
    return found


def _apply(desk: Desk, system: System, action: str, reason: str, **facts: Any) -> None:
    event = desk.event(action, f"system:{system.code}", reason, system.agency, **facts)
    changes = plan_changes(desk.bus.registry.load(), [system])
    desk.bus.registry.apply(changes, desk.actor, partial(note, event=event))
    desk.bus.directory.refresh()
