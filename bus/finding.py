"""By what messages and refusals are found beside their ids: numbers of citizens and enterprises, references, traces.

A clerk on the phone has a citizen's number and nothing else. What is kept for that is a keyed digest: whoever reads the
store learns no number from it, and whoever may ask the bus about one number learns which messages it stands in::

    "SoDinhDanh":"099199000001"  ──▶  099199000001  ──HMAC-SHA256, 8 bytes──▶  a row (digest, position in the log)

Any run of 12 digits that a citizen's number may be, and of 10 that are a tax code, counts, wherever it stands in a JSON
or XML payload: also in one that breaks its schema, so that a refused message is found, too. The key is derived from the
evidence log's own; a bus that lost it finds what came since.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Final

from registry.dossier_view import DossierFact
from schemas.identifiers import CitizenNumber, TaxCode
from schemas.problem import Malformed

#: Where payloads are looked into, and how many numbers of one are kept: a list of a thousand citizens is no message
#: about any of them.
MOST_BYTES: Final = 64 * 1024
MOST_NUMBERS: Final = 20
#: Everything but digits ends a number.
_DIGITS: Final = bytes(byte if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))


class Kind(StrEnum):
    """What a key stands for."""

    CITIZEN = "citizen"
    ENTERPRISE = "enterprise"
    REFERENCE = "reference"
    TRACE = "trace"


class Finder:
    """Makes search keys. Immutable and safe under threads."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def key(self, kind: Kind, text: str) -> int:
        """63 bits of a keyed digest: what two databases hold in one integer."""
        digest = hmac.digest(self._key, f"{kind.value}\x00{text}".encode(), "sha256")
        return int.from_bytes(digest[:8], "big") >> 1

    def keys(self, trace_id: str, body: bytes, facts: Sequence[DossierFact] = ()) -> frozenset[int]:
        """All by which a message can be found: its trace, the numbers in its payload, and the references to payments
        and parcels that its dossier view told."""
        found = [(Kind.TRACE, trace_id), *numbers_in(body), *((Kind.REFERENCE, each) for each in _references(facts))]
        return frozenset(self.key(kind, text) for kind, text in found)


def numbers_in(body: bytes) -> Iterable[tuple[Kind, str]]:
    """The numbers of citizens and enterprises in a payload, each once, the first :data:`MOST_NUMBERS`."""
    found: dict[tuple[Kind, str], None] = {}
    for digits in body[:MOST_BYTES].translate(_DIGITS).split():
        if len(digits) in (10, 12) and (number := number_of(digits.decode("ascii"))):
            found[number] = None
            if len(found) == MOST_NUMBERS:
                break
    return found


def number_of(text: str) -> tuple[Kind, str] | None:
    """A citizen's or an enterprise's number as it is kept, or None. A dependent unit is found by its enterprise's."""
    try:
        if len(text) == 12:
            return Kind.CITIZEN, CitizenNumber(text)
        return Kind.ENTERPRISE, TaxCode.parse(text).enterprise
    except Malformed:
        return None


def _references(facts: Sequence[DossierFact]) -> Iterator[str]:
    for fact in facts[:MOST_NUMBERS]:
        if fact.payment_reference:
            yield fact.payment_reference
        if fact.parcel:
            yield fact.parcel
