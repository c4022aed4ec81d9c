"""One object, one wire form: problem details (RFC 9457) for every error of every surface."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Flask, Response, request
from werkzeug.datastructures import LanguageAccept
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge
from werkzeug.exceptions import NotFound as RouteNotFound
from werkzeug.http import parse_accept_header

from bus.logs import get_logger
from bus.web.door import arrival
from schemas.problem import (
    InternalFailure,
    Language,
    Malformed,
    NotFound,
    NotIdentified,
    Problem,
    TooLarge,
)

log = get_logger()

CONTENT_TYPE = "application/problem+json"


def install(app: Flask) -> None:
    """Make every error of the application a problem document."""
    app.register_error_handler(Problem, problem_response)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unknown_error)


def problem_response(problem: Problem) -> Response:
    """The document, with the headers that its status asks for."""
    document = problem_document(problem, preferred_language(), _trace_id())
    response = Response(orjson.dumps(document), problem.status, content_type=CONTENT_TYPE)
    response.headers.update(retry_after(problem))
    if isinstance(problem, NotIdentified):
        response.headers["WWW-Authenticate"] = "Bearer"  # RFC 9110, section 11.6.1: 401 names a way in
    return response


def retry_after(problem: Problem) -> dict[str, str]:
    """The header Retry-After, for problems that pass."""
    if problem.retry_after_seconds is not None:
        return {"Retry-After": str(problem.retry_after_seconds)}
    return {"Retry-After": "5"} if problem.status in (429, 503) else {}


def problem_document(problem: Problem, language: Language, trace_id: str) -> dict[str, Any]:
    """The members of RFC 9457 and ours: ``reason``, ``errors``, ``retryable``, ``trace_id``. No received value."""
    document: dict[str, Any] = {
        "type": f"/problems/{problem.slug}",
        "title": problem.localized_title(language),
        "status": problem.status,
        "detail": problem.detail(language),
        "instance": f"urn:trace:{trace_id}",
        "reason": problem.reason,
        "retryable": problem.retryable,
        "trace_id": trace_id,
    }
    if problem.errors:
        document["errors"] = [{"pointer": error.pointer, "detail": error.said(language)} for error in problem.errors]
    return document


def preferred_language() -> Language:
    """Vietnamese when the caller asks for it, else English."""
    return language_of(request.headers.get("Accept-Language", ""))


def language_of(accept_language: str) -> Language:
    """The same by the header's text."""
    if not accept_language:
        return "en"
    accepted = parse_accept_header(accept_language, LanguageAccept)
    return "vi" if accepted.best_match(["en", "vi"]) == "vi" else "en"


def _http_error(error: HTTPException) -> Response:
    """What Flask itself refuses: an unknown address, a wrong method, a request that cannot be read."""
    if isinstance(error, MethodNotAllowed):
        response = problem_response(
            Malformed("method-not-allowed", allowed=", ".join(sorted(error.valid_methods or ())))
        )
        response.status_code = 405
        response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
        return response
    if isinstance(error, RequestEntityTooLarge):
        return problem_response(TooLarge("body-too-large", limit=request.max_content_length or 0))
    if isinstance(error, RouteNotFound):
        return problem_response(NotFound("page-unknown"))
    if error.code is not None and error.code < 400:
        return error.get_response()  # type: ignore[return-value]  # a redirect of the router is a plain response
    return problem_response(Malformed("request-unreadable"))


def _unknown_error(error: Exception) -> Response:
    log.error("request.failed", exc_info=error)
    return problem_response(InternalFailure())


def _trace_id() -> str:
    return arrival().traceparent[3:35]
