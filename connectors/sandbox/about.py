"""What a twin tells of itself: its first sentence, where it answers, its named faults."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Mapping

from flask import Flask

from connectors.sandbox.credentials import NAMES
from connectors.sandbox.faults import Preset


def twin_names() -> list[str]:
    """The names that have a twin; some credentials are for calls that a partner makes."""
    return [name for name in NAMES if importlib.util.find_spec(f"connectors.sandbox.{name}") is not None]


def what(name: str) -> str:
    """What a twin is, in its own words: the first sentence of its file, without the place of its source."""
    module = importlib.import_module(f"connectors.sandbox.{name}")
    paragraph = " ".join((module.__doc__ or "").partition("\n\n")[0].split())
    sentence = re.sub(r" ?\(vietnam\.md[^)]*\)|`", "", paragraph).partition(". ")[0]
    return sentence.rstrip(".:")


def presets_of(name: str) -> Mapping[str, Preset]:
    """The twin's failures by name."""
    found: Mapping[str, Preset] = getattr(importlib.import_module(f"connectors.sandbox.{name}"), "PRESETS", {})
    return found


def calls_of(app: Flask, name: str) -> list[str]:
    """Where a twin answers: ``POST /one_stop/token``."""
    found = {
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith((f"/{name}/", f"/_sandbox/{name}/")) or rule.rule == f"/{name}"
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    return sorted(found, key=lambda call: call.partition(" ")[::-1])
