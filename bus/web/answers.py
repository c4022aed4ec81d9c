"""How the edge writes JSON."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Response


def json_response(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, content_type="application/json")
