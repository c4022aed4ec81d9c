"""The one Flask application; settings say which surfaces it has. The same image is public gateway or admin console."""

from __future__ import annotations

from flask import Flask

from bus.assembly import Bus
from bus.web import problems
from bus.web.attachments import attachment_surface
from bus.web.door import open_door
from bus.web.exchange import exchange_surface
from bus.web.inbox import inbox_surface
from bus.web.tokens import token_surface


def create_app(bus: Bus) -> Flask:
    """The surfaces that ``bus.settings.surfaces`` names, over one bus."""
    app = Flask("lgsp", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = bus.settings.max_body_bytes
    app.before_request(open_door)
    problems.install(app)
    surfaces = bus.settings.surface_names
    if "exchange" in surfaces:
        for make in (exchange_surface, inbox_surface, attachment_surface, token_surface):
            app.register_blueprint(make(bus))
    return app
