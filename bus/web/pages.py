"""`/docs` and `/problems`: pages for people. They load nothing from elsewhere: government networks have no CDN."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import flask_swagger_ui
from flask import Blueprint, Response, send_from_directory
from markupsafe import Markup

from bus.assembly import Bus
from bus.web.described import Answer, describe
from registry import changes
from schemas.problem import NotFound, Problem
from schemas.reasons import REASONS

_ASSETS = Path(flask_swagger_ui.__file__).parent / "dist"
#: What the page loads of the package, and nothing else in it.
_ASSET_NAMES = frozenset({"swagger-ui.css", "swagger-ui-bundle.js", "index.css", "favicon-32x32.png"})
#: swagger-ui sets style attributes and draws its icons from data: addresses; scripts come from files of ours only.
DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"

_DOCS_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><title>lgsp-bus API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css"><link rel="stylesheet" href="/docs/index.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
</head>
<body><div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script></body>
</html>
"""
#: No validator badge: it would ask a server on the Internet about every page view.
_DOCS_START = """window.ui = SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout",
});
"""
_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}"
    "code{background:#eee;padding:0 .2em}dt{margin-top:1em}dd{margin-left:1.5em}"
)
_ROOMS = ("schemas", "security", "registry", "connectors", "bus")


def page_surface(_bus: Bus) -> Blueprint:
    """The routes of pages."""
    routes = Blueprint("pages", __name__)

    @routes.get("/docs")
    @describe(
        "Documentation",
        "The API, to be read and tried",
        access="anyone",
        answers={200: Answer(meaning="Swagger UI", content_type="text/html")},
    )
    def docs() -> Response:
        """Loads nothing from elsewhere."""
        return _page(_DOCS_PAGE, DOCS_POLICY)

    @routes.get("/docs/<name>")
    @describe(
        "Documentation",
        "Files of the API page",
        access="anyone",
        answers={200: Answer(meaning="Style or script", content_type="*/*")},
        problems=(404,),
    )
    def docs_file(name: str) -> Response:
        """Served from the installed package."""
        if name == "start.js":
            response = Response(_DOCS_START, content_type="text/javascript; charset=utf-8")
        elif name in _ASSET_NAMES:
            response = send_from_directory(_ASSETS, name)
        else:
            raise NotFound("page-unknown")
        response.headers["Cache-Control"] = "public, max-age=3600"
        return response

    @routes.get("/problems")
    @describe(
        "Documentation",
        "All problems and reasons",
        access="anyone",
        answers={200: Answer(meaning="A page in Vietnamese and English", content_type="text/html")},
    )
    def problems() -> Response:
        """What `type` and `reason` of a problem document may say."""
        links = Markup("").join(
            Markup('<li><a href="/problems/{0}">{0}</a> · {1} · {2} · {3}</li>').format(
                slug, kind.status, kind.title_vi, kind.title
            )
            for slug, kind in sorted(problem_types().items())
        )
        return _problem_page("Lỗi · Problems", Markup("<ul>{}</ul>{}").format(links, _reason_list(sorted(REASONS))))

    @routes.get("/problems/<slug>")
    @describe(
        "Documentation",
        "A problem type",
        access="anyone",
        answers={200: Answer(meaning="A page in Vietnamese and English", content_type="text/html")},
        problems=(404,),
    )
    def problem(slug: str) -> Response:
        """What it means, whether to send again, and its reasons."""
        kind = problem_types().get(slug)
        if kind is None:
            raise NotFound("page-unknown")
        again = (
            "gửi lại được · may be sent again" if kind.retryable else "không tự gửi lại · do not send again unchanged"
        )
        head = Markup("<p>HTTP {} · {}</p><p>{}</p>").format(kind.status, again, " ".join((kind.__doc__ or "").split()))
        reasons = sorted(reasons_by_problem().get(kind.__name__, ()))
        return _problem_page(f"{kind.title_vi} · {kind.title}", head + _reason_list(reasons))

    return routes


def problem_types() -> dict[str, type[Problem]]:
    """Every problem that a caller may meet, by slug."""

    def below(kind: type[Problem]) -> Iterator[type[Problem]]:
        for child in kind.__subclasses__():
            # Ours only: the agency client makes problems from what it is told.
            if "slug" in vars(child) and child.__module__ in (Problem.__module__, changes.__name__):
                yield child
            yield from below(child)

    # RegistryChanged lives in another room and is found because that room is imported here.
    return {kind.slug: kind for kind in below(Problem)}


@cache
def reasons_by_problem() -> dict[str, frozenset[str]]:
    """Which reasons each problem is raised with, read from our own source: a list kept by hand would be wrong by the
    next commit. Raised through a variable, a reason is found on the page of all reasons only. About 0.3 s, once."""
    names = {kind.__name__ for kind in problem_types().values()}
    found: dict[str, set[str]] = {name: set() for name in names}
    for room in _ROOMS:
        for path in _sources(room):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names):
                    continue
                # The first argument, or what it chooses from: NotPermitted("a" if … else "b").
                first = (inner for argument in node.args[:1] for inner in ast.walk(argument))
                texts = {inner.value for inner in first if isinstance(inner, ast.Constant)}
                found[node.func.id].update(text for text in texts if isinstance(text, str) and text in REASONS)
    return {name: frozenset(reasons) for name, reasons in found.items()}


def _sources(room: str) -> Iterator[Path]:
    return (path for folder in import_module(room).__path__ for path in sorted(Path(folder).rglob("*.py")))


def _reason_list(reasons: list[str]) -> Markup:
    items = Markup("").join(
        Markup('<dt id="{0}"><code>{0}</code></dt><dd lang="vi">{1}</dd><dd lang="en">{2}</dd>').format(
            reason, REASONS[reason].vi, REASONS[reason].en
        )
        for reason in reasons
    )
    return Markup("<dl>{}</dl>").format(items)


def _problem_page(title: str, content: Markup) -> Response:
    page = Markup(
        '<!doctype html><html lang="vi"><head><meta charset="utf-8"><title>{0}</title><style>{1}</style></head>'
        '<body><h1>{0}</h1>{2}<p><a href="/problems">Tất cả lỗi · All problems</a></p></body></html>'
    ).format(title, Markup(_STYLE), content)  # noqa: S704 - a constant of this file
    return _page(page, PAGE_POLICY)


def _page(text: str, policy: str) -> Response:
    response = Response(text, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = policy
    response.headers["Cache-Control"] = "public, max-age=300"
    return response
