"""The schema documents and sample payloads that ship with the bus."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from schemas.codec import read_json


def document(name: str) -> dict[str, Any]:
    """A document of ``schemas/documents``, as in ``document("dossier")``. Raises FileNotFoundError."""
    parsed: dict[str, Any] = read_json(files("schemas").joinpath("documents", f"{name}.schema.json").read_bytes())
    return parsed


def example(name: str) -> bytes:
    """The exact bytes of a sample payload with invented data, as in ``example("dossier.json")``."""
    return files("schemas").joinpath("examples", name).read_bytes()
