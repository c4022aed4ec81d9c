"""The one Flask application; settings say which surfaces it has. The same image is public gateway or admin console."""

from __future__ import annotations

from collections.abc import Callable

from flask import Flask

from bus.assembly import Bus
from bus.web import headers, problems
from bus.web.attachments import attachment_surface
from bus.web.console import console_surface
from bus.web.door import open_door
from bus.web.dossiers import dossier_surface
from bus.web.evidence import evidence_surface
from bus.web.exchange import exchange_surface
from bus.web.inbox import inbox_surface
from bus.web.openapi import openapi_surface
from bus.web.operations import operations_surface
from bus.web.pages import page_surface
from bus.web.partners import partner_surface
from bus.web.proxies import TrustedProxies
from bus.web.registry import registry_surface
from bus.web.services import service_surface
from bus.web.soap import SOAP_PATH, SoapExchange, soap_surface
from bus.web.submission import PATH, ShortWay, Submission, Taker
from bus.web.tokens import token_surface
from bus.worker import WorkStanding

#: Name of a surface in the settings → the groups of routes that it has.
SURFACES = {
    "exchange": (exchange_surface, dossier_surface, inbox_surface, attachment_surface, token_surface, evidence_surface),
    "soap": (soap_surface, service_surface),
    "partners": (partner_surface,),
    "registry": (registry_surface,),
    "docs": (openapi_surface, page_surface),
    "operations": (operations_surface,),
    "console": (console_surface,),
}


def create_app(bus: Bus) -> Flask:
    """The surfaces that ``bus.settings.surfaces`` names, over one bus."""
    proxies = TrustedProxies(bus.settings)
    app = _bare_app(bus, proxies)
    for name in SURFACES:
        if name in bus.settings.surface_names:
            for make in SURFACES[name]:
                app.register_blueprint(make(bus))
    takers: dict[str, Taker] = {}
    if "exchange" in bus.settings.surface_names:
        takers[PATH] = Submission(bus)
    if "soap" in bus.settings.surface_names:
        takers[SOAP_PATH] = SoapExchange(bus)
    app.wsgi_app = ShortWay(app, takers, proxies)  # type: ignore[method-assign]  # Flask's own idiom
    return app


def create_watch_app(bus: Bus, work: Callable[[], WorkStanding]) -> Flask:
    """What a delivery process tells of itself: the surface `operations` and no other."""
    app = _bare_app(bus, TrustedProxies(bus.settings))
    app.register_blueprint(operations_surface(bus, work))
    return app


def _bare_app(bus: Bus, proxies: TrustedProxies) -> Flask:
    """Nothing but what every answer of ours has."""
    app = Flask("lgsp", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = bus.settings.max_body_bytes
    app.before_request(lambda: open_door(proxies))
    headers.install(app)
    problems.install(app)
    return app
