"""Every example in schemas/README.md is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas import bundled
from schemas.codec import read_json
from schemas.message import Manifest
from schemas.validation import compile_schema

README = Path(__file__).parent.parent / "schemas" / "README.md"
BLOCKS = re.findall(r"^```(\w+) ?(\w*)\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)
PYTHON = [code for language, _, code in BLOCKS if language == "python"]
DOCUMENTS = [(name, text.encode()) for language, name, text in BLOCKS if language == "json"]


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_the_python_examples_run(code: str) -> None:
    exec(compile(code, str(README), "exec"), {})  # noqa: S102 - our own README


@pytest.mark.parametrize("name, body", DOCUMENTS, ids=[name for name, _ in DOCUMENTS])
def test_the_documents_fit_their_schemas(name: str, body: bytes) -> None:
    compile_schema(bundled.document(name)).validate(body, "application/json")
    if name == "manifest":
        claims = read_json(body)
        assert Manifest.from_claims(claims).to_claims() == claims


def test_there_are_examples_of_each_kind() -> None:
    assert len(PYTHON) >= 3
    assert {name for name, _ in DOCUMENTS} == {"manifest", "receipt", "problem"}


def test_every_file_of_the_room_is_in_the_map() -> None:
    text = README.read_text("utf-8")
    for path in README.parent.glob("*.py"):
        assert path.name == "__init__.py" or f"`{path.name}`" in text, path.name
