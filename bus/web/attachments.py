"""`/v1/attachments/{sha256}`: files beside messages, streamed and resumable."""

from __future__ import annotations

import re
from collections.abc import Iterable

from flask import Blueprint, Response, request, send_file
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from bus.assembly import Bus
from bus.attachments import Upload, read_in_chunks
from bus.web.answers import json_response
from bus.web.described import Answer, Parameter, describe
from bus.web.door import identified_caller
from bus.web.visibility import is_narrowed
from schemas.problem import Malformed, NotFound, TooLarge

#: RFC 9110, section 14.4, as a client says which part it brings (a request may carry it, section 14.5).
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")

_UPLOAD = {
    "type": "object",
    "required": ["sha256", "received", "complete"],
    "properties": {"sha256": {"type": "string"}, "received": {"type": "integer"}, "complete": {"type": "boolean"}},
}


def attachment_surface(bus: Bus) -> Blueprint:
    """The routes of attachments."""
    routes = Blueprint("attachments", __name__)

    @routes.put("/v1/attachments/<sha256>")
    @describe(
        "Attachments",
        "Upload a file",
        access="token",
        parameters=(
            Parameter(name="Content-Range", place="header", meaning="`bytes start-end/total` to continue an upload"),
        ),
        body={"application/octet-stream": {"type": "string", "format": "binary"}},
        answers={
            201: Answer(meaning="Stored, and its digest is right", schema=_UPLOAD),
            202: Answer(meaning="These bytes are kept; bring the rest", schema=_UPLOAD),
        },
        problems=(400, 401, 413),
    )
    def upload(sha256: str) -> Response:
        """Named by the SHA-256 of its content, lower-case hex. Cut off in the middle? `HEAD` says how much is here;
        continue with `Content-Range`."""
        principal = identified_caller(bus)
        start, total = _range()
        # One more than allowed, or a file of exactly that size is refused when its end is looked for.
        request.max_content_length = bus.settings.max_attachment_bytes + 1
        done = bus.attachments.add(sha256, principal.agency, _body(bus), start=start, total=total)
        document = {"sha256": sha256, "received": done.received, "complete": done.complete}
        return json_response(document, 201 if done.complete else 202)

    @routes.get("/v1/attachments/<sha256>")
    @describe(
        "Attachments",
        "Download a file",
        access="token",
        answers={
            200: Answer(
                meaning="The file. `HEAD` of a half-uploaded one: 404 with `Upload-Offset`",
                content_type="application/octet-stream",
            )
        },
        problems=(401, 404),
    )
    def download(sha256: str) -> Response:
        """For the agency that uploaded it and the parties of messages that name it. Ranges are served."""
        principal = identified_caller(bus)
        if request.method == "GET" and is_narrowed(bus, principal):
            raise NotFound("attachment-unknown")
        try:
            path = bus.attachments.open(sha256, principal.agency)
        except NotFound:
            if request.method == "HEAD":
                return _unfinished(bus.attachments.progress(sha256, principal.agency))
            raise
        response = send_file(path, "application/octet-stream", conditional=True, etag=sha256)
        response.headers["Upload-Offset"] = str(path.stat().st_size)
        response.headers["Cache-Control"] = "private, no-store"
        return response

    return routes


def _unfinished(upload: Upload) -> Response:
    response = Response(status=404)
    response.headers["Upload-Offset"] = str(upload.received)
    return response


def _range() -> tuple[int, int | None]:
    """Where the bytes begin, and how many the file has in all, as far as the caller says. A connection that breaks
    off looks like the end of the body: only who knows the length can tell."""
    text = request.headers.get("Content-Range")
    if text is None:
        return 0, request.content_length
    match = _CONTENT_RANGE.fullmatch(text)
    if match is None:
        raise Malformed("header-invalid", header="Content-Range")
    start, end, total = map(int, match.groups())
    if not start <= end < total:
        raise Malformed("header-invalid", header="Content-Range")
    return start, total


def _body(bus: Bus) -> Iterable[bytes]:
    try:
        yield from read_in_chunks(request.stream.read)
    except RequestEntityTooLarge:  # by its length, before a byte was read
        raise TooLarge("attachment-too-large", limit=bus.settings.max_attachment_bytes) from None
    except (ClientDisconnected, OSError):
        raise Malformed("request-unreadable") from None
