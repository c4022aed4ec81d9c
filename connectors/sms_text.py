"""Texts of SMS notices: templates with named places, and how many characters a text takes on the air.

::

    "Ho so {MaHoSo} da duoc tiep nhan. Ngay hen tra: {NgayHenTra}"
    {"MaHoSo": "H99.15-260423-0001", "NgayHenTra": "24/04/2026"}

Values stand in their places by name. Code in use splits one text on commas, so a comma in somebody's name moves every
value behind it one place on (vietnam.md 5.4, P35). A value is put in once: braces in it stand for themselves.

All is pure and safe under threads. Templates and limits are data: schemas/partners/sms/templates.json.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from schemas.codec import read_json
from schemas.problem import ProviderRejected, ProviderUnavailable
from schemas.text import nfc, unaccented

_PLACE: Final = re.compile(r"\{([A-Za-z][A-Za-z0-9]{0,39})\}")
MAX_VALUE_CHARACTERS: Final = 500
#: The GSM alphabet and its extension table, whose characters count twice (3GPP TS 23.038, 6.2.1).
_PLAIN: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENDED: Final = frozenset("^{}\\[~]|€")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsTemplate:
    """A text with places. ``accented`` texts keep Vietnamese letters and have 70 characters instead of 160."""

    text: str
    accented: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters in the order in which they first stand in the text."""
        return tuple(dict.fromkeys(_PLACE.findall(self.text)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsText:
    """A text ready to leave, and the values in it in the template's order."""

    text: str
    values: tuple[str, ...]

    @property
    def is_unicode(self) -> bool:
        return not _is_plain(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsLimits:
    """What a carrier takes: characters of a single message, of each part of a longer one, and the most parts."""

    plain: int
    unicode: int
    plain_part: int
    unicode_part: int
    parts: int

    def most(self, *, unicode: bool) -> int:
        """Most characters of a text."""
        if self.parts == 1:
            return self.unicode if unicode else self.plain
        return self.parts * (self.unicode_part if unicode else self.plain_part)


def render(template: SmsTemplate, parameters: object) -> SmsText:
    """The text with its values. Raises ProviderRejected ``payload-not-for-partner``: a value that is missing, empty,
    too long or no line of text, and parameters that the template does not have."""
    names = template.names
    if not isinstance(parameters, Mapping) or not parameters.keys() <= set(names):
        raise ProviderRejected("payload-not-for-partner", member="parameters")
    values = {name: _value(name, parameters.get(name), template.accented) for name in names}
    text = template.text if template.accented else unaccented(template.text)
    return SmsText(text=_PLACE.sub(lambda found: values[found[1]], text), values=tuple(values[name] for name in names))


def _value(name: str, value: object, accented: bool) -> str:
    text = nfc(value).strip() if isinstance(value, str) else ""
    # Control and format characters would start a line of their own, or hide (Cc, Cf, Zl, Zp, Cs, Cn, Co).
    broken = any(unicodedata.category(c)[0] == "C" or unicodedata.category(c) in ("Zl", "Zp") for c in text)
    if not text or broken or len(text) > MAX_VALUE_CHARACTERS:
        raise ProviderRejected("payload-not-for-partner", member=f"parameters/{name}")
    return text if accented else unaccented(text)


def characters(text: str) -> int:
    """How many characters a text counts as: of the GSM alphabet, else in UTF-16."""
    if not _is_plain(text):
        return len(text.encode("utf-16-be")) // 2
    return len(text) + sum(character in _EXTENDED for character in text)


def check_length(text: SmsText, limits: SmsLimits) -> None:
    """Raise ProviderRejected ``notice-too-long``: nothing is cut, for a citizen cannot know what is missing."""
    most = limits.most(unicode=text.is_unicode)
    length = characters(text.text)
    if length > most:
        raise ProviderRejected("notice-too-long", length=length, limit=most)


def _is_plain(text: str) -> bool:
    return _PLAIN.issuperset(set(text) - _EXTENDED)


# ---- The data


@cache
def _document() -> Mapping[str, Any]:
    document: Mapping[str, Any] = read_json(files("schemas").joinpath("partners", "sms", "templates.json").read_bytes())
    return document


def template_named(name: object, own: Mapping[str, Any]) -> SmsTemplate:
    """A template: the endpoint's own of this name, or the one that ships. Raises ProviderRejected ``template-unknown``,
    ProviderUnavailable for one of the endpoint's that is none."""
    facts = (own.get(name) or _document()["templates"].get(name)) if isinstance(name, str) else None
    if facts is None:
        raise ProviderRejected("template-unknown")
    text = facts.get("text") if isinstance(facts, Mapping) else None
    if not isinstance(text, str) or not text or set(facts) - {"text", "accented"}:
        raise ProviderUnavailable("endpoint-invalid", setting="templates")
    return SmsTemplate(text=text, accented=facts.get("accented") is True)


def limits_of(carrier: str, own: Mapping[str, Any]) -> SmsLimits:
    """A carrier's limits, each of which the endpoint's setting may change. Raises ProviderUnavailable."""
    facts = {**_document()["limits"][carrier], **own}
    if not all(type(limit) is int and limit > 0 for limit in facts.values()):
        raise ProviderUnavailable("endpoint-invalid", setting="limits")
    try:
        return SmsLimits(**facts)
    except TypeError:
        raise ProviderUnavailable("endpoint-invalid", setting="limits") from None
