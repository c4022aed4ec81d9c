"""Headers that every answer carries, so that no browser or proxy makes more of it than we said."""

from __future__ import annotations

from flask import Flask, Response

#: An API's answer is no page: nothing in it may run, load or be framed.
_API_POLICY = "default-src 'none'; frame-ancestors 'none'"


def install(app: Flask) -> None:
    app.after_request(_harden)


def _harden(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Content-Security-Policy", _API_POLICY)
    headers.setdefault("Referrer-Policy", "no-referrer")
    # Messages, receipts and the registry are personal or confidential; what may be kept says so itself.
    if "Cache-Control" not in headers or response.status_code >= 400:
        headers["Cache-Control"] = "no-store"
    return response
