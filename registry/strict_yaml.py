"""YAML without its surprises: the JSON types, no repeated keys, no anchors, no guessing.

YAML 1.1 turns ``no`` into false, ``12:30`` into 750 and ``2026-11-21`` into a date; a nest of aliases of a few hundred
bytes unfolds into gigabytes; of two equal keys the last wins without a word. Manifests decide who may read citizens'
data, so a document says exactly what it shows, or it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from typing import Any

import yaml

from schemas.reasons import Wording

#: Manifests of a whole country's communes fit; a file beyond this is not one that somebody reads.
MAX_TEXT_LENGTH = 16 * 1024 * 1024
MAX_DEPTH = 64
#: Digits of an integer: beyond 64 bits no count is meant, and reading a million digits takes seconds.
MAX_DIGITS = 20


_UNREADABLE = Wording("not readable as YAML", "không đọc được theo dạng YAML")


class BadYaml(ValueError):
    """The text is not one that we read; the message names rule and line, never the value."""

    def __init__(self, rule: Wording, line: int | None = None) -> None:
        """``line`` is counted from 0, as the reader counts; None where there is none."""
        self.rule = rule if line is None else Wording(f"line {line + 1}: {rule.en}", f"dòng {line + 1}: {rule.vi}")
        super().__init__(self.rule.en)


class _StrictLoader(yaml.SafeLoader):
    """Reads the YAML 1.2 core schema's null, booleans, integers and floats; everything else plain is a string."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - the library's own shape
    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            rule = Wording("anchors and aliases are not allowed", "không được dùng neo và bí danh (& và *)")
            raise BadYaml(rule, event.start_mark.line)
        if getattr(event, "tag", None) not in (None, "!"):
            raise BadYaml(Wording("tags are not allowed", "không được dùng nhãn kiểu (!)"), event.start_mark.line)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            rule = Wording(f"nested deeper than {MAX_DEPTH} levels", f"lồng nhau quá {MAX_DEPTH} cấp")
            raise BadYaml(rule, event.start_mark.line)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[str] = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                raise BadYaml(Wording("keys are strings", "tên trường phải là chuỗi"), line)
            if key_node.value in keys:
                raise BadYaml(Wording("the key is there twice", "tên trường có hai lần"), line)
            keys.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def _integer(digits: str) -> int:
    """Decimal, always: YAML 1.1 reads 010 as eight."""
    if len(digits) > MAX_DIGITS:
        raise BadYaml(Wording("a number is too long", "có số quá dài"))
    return int(digits)


class _TextKeyLoader(_StrictLoader):
    """Reads a key as the text that stands there: OpenAPI writes the statuses of its answers as ``200:``."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                key_node.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep=deep)


for _tag, _pattern, _first in (
    ("null", r"~|null|", [*"~n", ""]),
    ("bool", r"true|false", [*"tf"]),
    ("int", r"[-+]?[0-9]+", [*"-+0123456789"]),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", [*"-+.0123456789"]),
):
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first)
_StrictLoader.add_constructor("tag:yaml.org,2002:int", lambda _loader, node: _integer(node.value))
_StrictLoader.add_constructor("tag:yaml.org,2002:float", lambda _loader, node: float(node.value))


def read_yaml(text: str, *, any_key_is_text: bool = False) -> list[Any]:
    """The documents of a YAML stream; empty ones are left out. Raises BadYaml.

    Keys that are no strings are refused, or read as the text that stands there (``any_key_is_text``).
    """
    loader = _TextKeyLoader if any_key_is_text else _StrictLoader
    if len(text) > MAX_TEXT_LENGTH:
        rule = Wording(f"longer than {MAX_TEXT_LENGTH} characters", f"dài hơn {MAX_TEXT_LENGTH} ký tự")
        raise BadYaml(rule)
    try:
        return [document for document in yaml.load_all(text, Loader=loader) if document is not None]
    except yaml.MarkedYAMLError as error:
        raise BadYaml(_UNREADABLE, error.problem_mark.line if error.problem_mark else None) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise error if isinstance(error, BadYaml) else BadYaml(_UNREADABLE) from None


class _ReadableDumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    if style is None and any(
        pattern.match(text) for _, pattern in _StrictLoader.yaml_implicit_resolvers.get(text[:1], ())
    ):
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_ReadableDumper.add_representer(str, _represent_text)


def write_yaml(documents: Iterable[Any]) -> str:
    """A stream that :func:`read_yaml` reads back to the same values; keys keep their order."""
    return yaml.dump_all(
        documents, Dumper=_ReadableDumper, allow_unicode=True, sort_keys=False, explicit_start=True, width=120
    )
