"""Styles, scripts and signs: our own few, and Bootstrap's from its installed package. Nothing is built or fetched."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from flask import Response, send_from_directory

from bus.web.console.desk import Console
from schemas.problem import NotFound

_OWN: Final = Path(__file__).parent / "static"
#: What the pages use of the package, and nothing else in it.
_PACKAGED: Final = {
    "bootstrap.min.css": "css/bootstrap.min.css",
    "bootstrap.min.js": "js/bootstrap.min.js",
    "icons.svg": "icons/bootstrap-icons.svg",
}


def install(console: Console) -> None:
    @console.routes.get("/assets/<name>", endpoint="asset")
    def asset(name: str) -> Response:
        """Anybody may have them: the sign-in page needs them."""
        if name in _PACKAGED:
            answer = send_from_directory(_packaged(), _PACKAGED[name])
        elif (_OWN / name).is_file() and "/" not in name:
            answer = send_from_directory(_OWN, name)
        else:
            raise NotFound("page-unknown")
        answer.headers["Cache-Control"] = "public, max-age=3600"
        return answer


def _packaged() -> Path:
    spec = find_spec("flask_bootstrap")
    if spec is None or not spec.submodule_search_locations:
        raise NotFound("page-unknown")
    return Path(spec.submodule_search_locations[0]) / "static" / "bootstrap5"
