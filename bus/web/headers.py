"""Headers that every answer carries, so that no browser or proxy makes more of it than we said."""

from __future__ import annotations

from flask import Flask, Response

#: An API's answer is no page: nothing in it may run, load or be framed.
_API_POLICY = "default-src 'none'; frame-ancestors 'none'"


#: Messages, receipts and the registry are personal or confidential: what may be kept by others says so itself.
HARDENING = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", _API_POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)


def install(app: Flask) -> None:
    app.after_request(_harden)


def _harden(response: Response) -> Response:
    headers = response.headers
    for name, value in HARDENING:
        headers.setdefault(name, value)
    if response.status_code >= 400:
        headers["Cache-Control"] = "no-store"
    return response
