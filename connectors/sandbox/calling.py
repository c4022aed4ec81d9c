"""How a twin calls the bus, as its partner would: JSON with the secret that was agreed upon."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from connectors.http import HttpClient
from schemas.problem import Problem


def call_bus(address: str, document: Mapping[str, Any], callback: str) -> Any:
    """What the bus answered to a POST, or ``{"failed": reason}`` where nothing was."""
    http = HttpClient()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {callback}"}
    body = json.dumps(document, ensure_ascii=False).encode()
    try:
        answer = http.request("POST", address, headers=headers, body=body, timeout_seconds=10.0)
    except Problem as problem:
        return {"failed": problem.reason}
    finally:
        http.close()
    return json.loads(answer.body or b"null")
