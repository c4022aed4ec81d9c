"""Messages that are looked into again for what they say: petitions, ratings.

Which services carry them says their payload schema, by an annotation (:mod:`schemas.places`) that names the places of
the facts: a service that another province calls otherwise, or shapes otherwise, needs no code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bus.ledger import Ledger
from bus.records import Carried
from registry.directory import Directory
from schemas.codec import read_json
from schemas.identifiers import ServiceCode
from schemas.places import Places
from schemas.problem import Malformed


@dataclass(slots=True, kw_only=True)
class Reading:
    """What was looked into, and what could not be: filled while :func:`read_again` goes on."""

    messages: int = 0
    #: Their bodies are gone, as the law wants it; what they said is not guessed.
    erased: int = 0
    #: Of a version that is not registered any more, or no JSON.
    unreadable: int = 0


def places_of(directory: Directory, annotation: str) -> Mapping[tuple[ServiceCode, int], Places]:
    """The services, by code and version, whose schema bears the annotation. Raises Malformed for a wrong one."""
    stated = (
        (service.code, service.version, service.schema.get(annotation))
        for service in directory.services.values()
        if isinstance(service.schema, Mapping)
    )
    return {(code, version): Places(where) for code, version, where in stated if where is not None}


def read_again(
    ledger: Ledger, directory: Directory, annotation: str, since: datetime, reading: Reading
) -> Iterator[tuple[Carried, Places, Any]]:
    """The messages of these services since then, in the order of acceptance, with their documents."""
    known = places_of(directory, annotation)
    for carried in ledger.carried({code for code, _ in known}, since):
        reading.messages += 1
        places = known.get((carried.service, carried.version))
        if carried.body is None:
            reading.erased += 1
            continue
        try:
            document = read_json(carried.body)
        except Malformed:
            document = None
        if places is None or document is None:
            reading.unreadable += 1
            continue
        yield carried, places, document
