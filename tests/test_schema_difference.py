"""What differs between two schemas, told by fields, and an invented example of one."""

from __future__ import annotations

from typing import Any

import pytest

from registry.schema_difference import Sort, fields_of, line_difference, sample_of, schema_differences
from schemas.validation import compile_schema

BEFORE: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["HoTen"],
    "properties": {
        "HoTen": {"type": "string", "maxLength": 200},
        "Tuoi": {"type": "integer"},
        "DiaChi": {"$ref": "#/$defs/DiaChi"},
        "Con": {"type": "array", "items": {"type": "object", "properties": {"Ten": {"type": "string"}}}},
    },
    "$defs": {"DiaChi": {"type": "object", "properties": {"Xa": {"type": "string"}}}},
}


def changed(**properties: Any) -> dict[str, Any]:
    kept = {**BEFORE["properties"], **properties}
    return {**BEFORE, "properties": {name: value for name, value in kept.items() if value is not None}}


def test_the_same_schema_differs_in_nothing() -> None:
    assert schema_differences(BEFORE, BEFORE) == []
    assert schema_differences(BEFORE, changed(HoTen={"type": "string", "maxLength": 200, "title": "Họ tên"})) == []


@pytest.mark.parametrize(
    "after, pointer, sort, breaks",
    [
        (changed(Email={"type": "string"}), "/Email", Sort.ADDED, False),
        ({**changed(Email={"type": "string"}), "required": ["HoTen", "Email"]}, "/Email", Sort.ADDED, True),
        (changed(Tuoi=None), "/Tuoi", Sort.REMOVED, True),
        (changed(HoTen={"type": "string", "maxLength": 100}), "/HoTen", Sort.CHANGED, True),
        (changed(HoTen={"type": "string", "maxLength": 300}), "/HoTen", Sort.CHANGED, False),
        (changed(Tuoi={"type": "number"}), "/Tuoi", Sort.CHANGED, False),
        (changed(Tuoi={"type": "string"}), "/Tuoi", Sort.CHANGED, True),
        (changed(Tuoi={"type": "integer", "minimum": 0}), "/Tuoi", Sort.CHANGED, True),
        ({**BEFORE, "required": ["HoTen", "Tuoi"]}, "/Tuoi", Sort.CHANGED, True),
        ({**BEFORE, "required": []}, "/HoTen", Sort.CHANGED, False),
        (
            {**BEFORE, "$defs": {"DiaChi": {"type": "object", "properties": {"Xa": {"type": "integer"}}}}},
            "/DiaChi/Xa",
            Sort.CHANGED,
            True,
        ),
        (
            changed(Con={"type": "array", "items": {"type": "object", "properties": {"Ten": {"enum": ["A"]}}}}),
            "/Con/*/Ten",
            Sort.CHANGED,
            True,
        ),
    ],
)
def test_each_field_says_what_became_of_it_and_whether_callers_must_change(
    after: dict[str, Any], pointer: str, sort: Sort, breaks: bool
) -> None:
    (found,) = schema_differences(BEFORE, after)
    assert (found.pointer, found.sort, found.breaks) == (pointer, sort, breaks)


def test_closing_a_schema_to_other_fields_is_told() -> None:
    (found,) = schema_differences(BEFORE, {**BEFORE, "additionalProperties": False})
    assert (found.pointer, found.breaks) == ("", True)
    assert list(found.facts()) == [("additionalProperties", None, False)]


def test_a_schema_that_refers_to_itself_has_an_end() -> None:
    endless = {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}}}
    assert len(fields_of(endless)) < 20
    assert sample_of(endless) is not None
    loop = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}
    assert fields_of(loop).keys() == {""}


def test_an_example_fits_its_own_schema() -> None:
    schema = changed(
        Ngay={"type": "string", "format": "date"}, Ma={"type": "string", "minLength": 9, "maxLength": 9},
        Loai={"enum": ["a", "b"]}, So={"type": "integer", "minimum": 5},
    )  # fmt: skip
    schema["required"] = list(schema["properties"])
    import json

    compile_schema(schema).validate(json.dumps(sample_of(schema)).encode(), "application/json")


def test_what_is_no_json_is_told_by_lines() -> None:
    assert line_difference("<a/>\n<b/>", "<a/>\n<c/>") == ["@@ -1,2 +1,2 @@", " <a/>", "-<b/>", "+<c/>"]
    assert line_difference(None, "<a/>")[-1] == "+<a/>"
