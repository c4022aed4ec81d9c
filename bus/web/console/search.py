"""The search box: it knows what it was given, and goes straight to the one thing or tells what each hit is.

============================  =====================================================================================
message id                    the message, or its refusal
dossier code, or any alias    the dossier
32 hex digits, traceparent    what was sent under this trace
12 or 10 digits               what stands in messages about this citizen or enterprise (:mod:`bus.finding`)
payment or postal reference   the message that named it
agency, system, service       by code or part of the name: their messages
============================  =====================================================================================

What is asked for is sent in the body of the request: a citizen's number stands in no address and no log. That somebody
asked for a person is in the audit trail, without the number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar
from urllib.parse import quote

from flask import redirect, request
from werkzeug.wrappers import Response as AnyResponse

from bus.finding import Kind, number_of
from bus.records import ExchangeRecord, RefusalRecord
from bus.trace import overall_state
from bus.web.console.desk import Console, Desk, Right
from registry.model import Agency, Service, System
from schemas.identifiers import AgencyCode, DossierCode, MessageId
from schemas.problem import Malformed
from schemas.text import unaccented

_TRACE: Final = re.compile(r"(?:[0-9a-f]{2}-)?([0-9a-f]{32})(?:-[0-9a-f]{16}-[0-9a-f]{2})?")
#: Longer than anything that is looked for.
_MOST_CHARACTERS: Final = 200
_MOST_NAMES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One thing that was found."""

    #: ``message``, ``refusal``, ``dossier``, ``agency``, ``service``.
    kind: str
    address: str
    title: str
    note: str = ""
    at: datetime | None = None
    state: str = ""


def install(console: Console) -> None:
    @console.deed("/search", Right.SEE)
    def search(desk: Desk) -> AnyResponse:
        asked = " ".join(request.form.get("q", "").split())[:_MOST_CHARACTERS]
        what, hits = find(desk, asked) if asked else ("nothing", [])
        if what in (Kind.CITIZEN, Kind.ENTERPRISE):
            desk.note("search.number", f"{what}-number", hits=len(hits))
        if len(hits) == 1:
            return redirect(hits[0].address, 303)
        return desk.show("search.html", asked=asked, what=what, hits=hits, n=desk.names)


def find(desk: Desk, asked: str) -> tuple[str, list[Hit]]:
    """What it was taken for, and what this person may see of it; each thing once."""
    for what, look in (
        ("message", _by_message_id),
        (Kind.TRACE, _by_trace),
        ("dossier", _by_dossier),
        ("number", _by_number),
        (Kind.REFERENCE, _by_reference),
    ):
        taken = look(desk, asked)
        if taken is not None:
            kind, hits = taken
            return str(kind or what), list({hit.address: hit for hit in hits}.values())
    return "name", list(_by_name(desk, asked))


_Found = tuple[str, list[Hit]] | None


def _by_message_id(desk: Desk, asked: str) -> _Found:
    try:
        message_id = MessageId(asked.lower())
    except Malformed:
        return None
    record = desk.bus.ledger.find(message_id)
    refused = [] if record else desk.bus.ledger.refusals_of(message_id=message_id)
    return "", list(_hits(desk, [record] if record else [], refused))


def _by_trace(desk: Desk, asked: str) -> _Found:
    found = _TRACE.fullmatch(asked.lower())
    return None if found is None else ("", _by_key(desk, Kind.TRACE, found[1]))


def _by_dossier(desk: Desk, asked: str) -> _Found:
    """Any of its codes; one that has a dossier code's form is taken for one, found or not."""
    ledger = desk.bus.ledger
    try:
        code: DossierCode | None = DossierCode(asked.upper())
    except Malformed:
        code = None
    name = code or asked
    if len(name) > DossierCode.max_length:
        return None
    codes = ledger.codes_of_dossier(name)
    records = [record for record in ledger.of_dossier(*codes) if sees(desk, record)]
    if records:
        return "", [
            Hit(kind="dossier", address=f"/console/dossiers/{quote(name)}", title=name, at=records[-1].received_at)
        ]
    if code is None:
        return None
    return "", list(_hits(desk, [], ledger.refusals_of(dossier=code)))


def _by_number(desk: Desk, asked: str) -> _Found:
    digits = re.sub(r"[ .]", "", asked)
    number = number_of(digits) if re.fullmatch(r"[0-9]{10,13}(?:-[0-9]{3})?", digits) else None
    if number is None:
        return None
    return number[0], _by_key(desk, *number)


def _by_reference(desk: Desk, asked: str) -> _Found:
    hits = _by_key(desk, Kind.REFERENCE, asked)
    return ("", hits) if hits else None


def _by_key(desk: Desk, kind: Kind, text: str) -> list[Hit]:
    records, refused = desk.bus.ledger.found_by(desk.bus.finder.key(kind, text))
    hits = list(_hits(desk, records, refused))
    return sorted(hits, key=lambda hit: hit.at.timestamp() if hit.at else 0.0, reverse=True)


def _by_name(desk: Desk, asked: str) -> Iterator[Hit]:
    """Agencies, systems and services by code or part of the name, accents or not."""
    directory, wanted = desk.directory, unaccented(asked).lower()
    if len(wanted) < 2:
        return
    try:
        known = directory.agency(str(AgencyCode.parse(asked.upper())))
    except Malformed:
        known = directory.agency(asked)
    agencies = [known] if known else _named(directory.agencies.values(), wanted)
    for agency in agencies[:_MOST_NAMES]:
        address = f"/console/messages?agency={agency.code}"
        yield Hit(kind="agency", address=address, title=agency.name, note=agency.code)
    if known:
        return
    for system in _named(directory.systems.values(), wanted)[:_MOST_NAMES]:
        address = f"/console/messages?agency={system.agency}"
        yield Hit(kind="system", address=address, title=system.name, note=system.code)
    services = {service.code: service for service in directory.services.values()}
    for service in _named(services.values(), wanted)[:_MOST_NAMES]:
        address = f"/console/messages?service={service.code}"
        yield Hit(kind="service", address=address, title=service.name, note=service.code)


T = TypeVar("T", Agency, System, Service)


def _named(things: Iterable[T], wanted: str) -> list[T]:
    return [each for each in things if wanted in unaccented(f"{each.code} {each.name}").lower()]


def _hits(desk: Desk, records: Iterable[ExchangeRecord], refused: Iterable[RefusalRecord]) -> Iterator[Hit]:
    names = desk.names
    for record in records:
        if sees(desk, record):
            to = ", ".join(names.agency(delivery.receiver) for delivery in record.deliveries[:3])
            yield Hit(
                kind="message",
                address=f"/console/messages/{record.message_id}",
                title=names.service(record.service),
                note=f"{names.agency(record.sender)} → {to}",
                at=record.received_at,
                state=overall_state(record),
            )
    for refusal in refused:
        if desk.sees(refusal.sender):
            yield Hit(
                kind="refusal",
                address=f"/console/refusals/{refusal.id}",
                title=names.service(refusal.service),
                note=f"{names.agency(refusal.sender)}: {names.problem({'reason': refusal.reason, **refusal.details})}",
                at=refusal.refused_at,
                state="refused",
            )


def sees(desk: Desk, record: ExchangeRecord) -> bool:
    """Is this person's agency a party to the message?"""
    return desk.sees(record.sender, *(delivery.receiver for delivery in record.deliveries))
