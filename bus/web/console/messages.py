"""Messages: the list, one message's journey with its proof, its body behind a reason, and sending it again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from flask import Response, request
from werkzeug.wrappers import Response as AnyResponse

from bus.bulk import Bulk, Deed, Job, Move
from bus.bundles import bundle_of, trust_of
from bus.people import note
from bus.records import (
    AttemptRecord,
    DeliveryRecord,
    ExchangeRecord,
    FoundMessage,
    ReplayRecord,
    State,
    Wanted,
)
from bus.trace import overall_state, printable
from bus.web.console.desk import Console, Desk, Right, attachment
from bus.web.console.names import STATES
from bus.web.console.registry_view import latest_version
from bus.web.console.search import sees
from connectors.base import Parcel
from connectors.rest import payload_headers
from registry.model import Pattern
from schemas.identifiers import AgencyCode, DossierCode, MessageId, ServiceCode
from schemas.message import Manifest
from schemas.moment import VIETNAM, utc_now
from schemas.problem import Malformed, NotFound, NotPermitted, Problem
from security import base64url
from security.signing import split_compact
from security.verifier import Trust, verify_bundle

#: Messages of one page.
_PAGE: Final = 50
#: Other messages of its dossier that a message's page names.
_MOST_RELATED: Final = 20
#: What of a body a page shows; the rest is in the proof with its body (``lgsp evidence export --body``).
_MOST_SHOWN: Final = 64 * 1024
#: Members of a manifest that name persons, or may: shown together with the body.
_PERSONAL: Final = ("user", "attachments")


def install(console: Console) -> None:
    @console.page("/messages", Right.SEE, menu=("Thông điệp", "Messages"))
    def messages(desk: Desk) -> AnyResponse:
        asked = {name: request.args.get(name, "").strip() for name in _FILTERS}
        wanted = _wanted(desk, asked)
        found = desk.bus.ledger.search_page(wanted)
        conditions = {name: text for name, text in asked.items() if text}
        return desk.show(
            "messages.html", found=found, asked=asked, full=len(found.messages) == _PAGE, states=STATES, n=desk.names,
            more=urlencode(conditions | {"before": found.before}) if found.before is not None else "",
            version=latest_version(desk, wanted.service) if wanted.service and not found.messages else None,
        )  # fmt: skip

    @console.page("/messages/<message_id>", Right.SEE)
    def message(desk: Desk, message_id: str) -> AnyResponse:
        return _page(desk, _seen(desk, message_id))

    @console.deed("/messages/<message_id>/body", Right.OPEN_BODIES)
    def open_body(desk: Desk, message_id: str) -> AnyResponse:
        """Noted before it is shown: nobody reads a body unseen."""
        record = _seen(desk, message_id)
        desk.note("body.opened", f"message:{record.message_id}", desk.reason(), record.sender)
        return _page(desk, record, opened=_opened(desk, record))

    @console.deed("/messages/<message_id>/verify", Right.SEE)
    def verify_message(desk: Desk, message_id: str) -> AnyResponse:
        """By the offline verifier's own code, over the very bundle that leaves the house."""
        record = _seen(desk, message_id)
        try:
            verdict = verify_bundle(bundle_of(desk.bus, record), Trust.read(trust_of(desk.bus)))
        except Problem as problem:  # so broken that there is nothing to verify
            return _page(desk, record, proof_holds=False, sentences=[problem.detail(desk.language)])
        return _page(desk, record, proof_holds=verdict.holds, sentences=verdict.sentences(desk.language))

    @console.page("/messages/<message_id>/proof", Right.SEE)
    def message_proof(desk: Desk, message_id: str) -> AnyResponse:
        """Without the body: digests prove it, and whoever has it can show it."""
        record = _seen(desk, message_id)
        return attachment(bundle_of(desk.bus, record), "application/json", f"{record.message_id}.json")

    @console.page("/messages/<message_id>/rerun/<int:delivery_id>", Right.MEND)
    def rerun_preview(desk: Desk, message_id: str, delivery_id: int) -> AnyResponse:
        record = _seen(desk, message_id)
        delivery = _dead_delivery(record, delivery_id)
        return desk.show(
            "rerun.html", record=record, delivery=delivery, preview=_preview(desk, record, delivery),
            n=desk.names,
        )  # fmt: skip

    @console.deed("/messages/<message_id>/rerun/<int:delivery_id>", Right.MEND)
    def rerun(desk: Desk, message_id: str, delivery_id: int) -> AnyResponse:
        """Again from a page that was loaded before: nothing is dead any more, nothing is sent twice."""
        record = _seen(desk, message_id)
        delivery = _dead_delivery(record, delivery_id)
        address = f"/console/messages/{record.message_id}"
        reason, target = desk.reason(), f"message:{record.message_id}"
        event = desk.event("delivery.rerun", target, reason, record.sender, receiver=delivery.receiver)
        also = partial(note, event=event)
        _, moved = desk.bus.ledger.replay([delivery.id], desk.actor, reason, utc_now(), also)
        desk.bus.wake.tap()
        if not moved:
            return desk.back(address, "Thông điệp đã được gửi lại trước đó.", "It was sent again before.")
        return desk.back(address, "Đã xếp hàng gửi lại.", "It will be sent again now.")


# ── the list ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_FILTERS: Final = ("agency", "sender", "receiver", "service", "state", "dossier", "since", "until")


def _wanted(desk: Desk, asked: Mapping[str, str]) -> Wanted:
    """What the address asks for. Raises Malformed(identifier-invalid, query-invalid)."""
    agency, sender, receiver = (
        AgencyCode.parse(asked[name].upper()) if asked[name] else None for name in ("agency", "sender", "receiver")
    )
    until = _day(asked, "until")
    return Wanted(
        agency=desk.scope or agency,
        sender=sender,
        receiver=receiver,
        service=ServiceCode(asked["service"]) if asked["service"] else None,
        state=_state(asked["state"]),
        dossier=DossierCode(asked["dossier"].upper()) if asked["dossier"] else None,
        since=_day(asked, "since"),
        until=until + timedelta(days=1) if until else None,
        before=desk.asked_number("before"),
        limit=_PAGE,
    )


def _state(text: str) -> State | None:
    if text and text not in set(State):
        raise Malformed("query-invalid", name="state")
    return State(text) if text else None


def _day(asked: Mapping[str, str], name: str) -> datetime | None:
    """Its first moment in Vietnam."""
    try:
        day = date.fromisoformat(asked[name]) if asked[name] else None
    except ValueError:
        raise Malformed("query-invalid", name=name) from None
    return datetime(day.year, day.month, day.day, tzinfo=VIETNAM) if day else None


# ── one message ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _seen(desk: Desk, message_id: str) -> ExchangeRecord:
    """Raises NotFound(message-unknown): what is another agency's does not exist."""
    try:
        record = desk.bus.ledger.find(MessageId(message_id.lower()))
    except Malformed:
        record = None
    if record is None or not sees(desk, record):
        raise NotFound("message-unknown")
    return record


def _page(desk: Desk, record: ExchangeRecord, **more: Any) -> Response:
    manifest = claims_of(record.manifest_jws)
    shown = manifest if more.get("opened") else {name: each for name, each in manifest.items() if name not in _PERSONAL}
    return desk.show(
        "message.html",
        record=record,
        state=overall_state(record),
        steps=steps_of(record),
        manifest=_pretty(shown),
        hidden=[name for name in _PERSONAL if name in manifest and name not in shown],
        facts=manifest,
        headers=headers_of(record),
        receipts=_receipts(record),
        related=_related(desk, record)[:_MOST_RELATED],
        may_rerun=partial(may_rerun, record),
        stations=_stations(desk, record),
        n=desk.names,
        **more,
    )


#: Deliveries that a message's page shows.
_MOST_DELIVERIES: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """Something that happened to a delivery: an attempt, an order to send it again, or bulk work on it."""

    at: datetime
    attempt: AttemptRecord | None = None
    replay: ReplayRecord | None = None
    job: Job | None = None


def _stations(desk: Desk, record: ExchangeRecord) -> dict[int, list[Station]]:
    """By delivery, in their order."""
    shown = record.deliveries[:_MOST_DELIVERIES]
    moves = Bulk(desk.bus.store, desk.bus.ledger).moves_of([each.id for each in shown])
    return {each.id: stations_of(each, moves.get(each.id, [])) for each in shown}


def stations_of(delivery: DeliveryRecord, moves: Sequence[Move]) -> list[Station]:
    """A bulk re-run is its order to send again: both were written in one transaction, at one moment."""
    reruns = {move.at: move.job for move in moves if move.job.deed is Deed.REPLAY}
    found = [Station(at=each.started_at, attempt=each) for each in delivery.attempts]
    found += [Station(at=each.ordered_at, replay=each, job=reruns.get(each.ordered_at)) for each in delivery.replays]
    found += [Station(at=each.at, job=each.job) for each in moves if each.job.deed is not Deed.REPLAY]
    return sorted(found, key=lambda station: (station.at, station.attempt is None))


def _related(desk: Desk, record: ExchangeRecord) -> list[FoundMessage]:
    """The latest under the same dossier code, as far as this person may see them."""
    if record.dossier is None:
        return []
    of_it = Wanted(agency=desk.scope, dossier=record.dossier, limit=_MOST_RELATED + 1)
    return [other for other in desk.bus.ledger.search(of_it) if other.exchange_id != record.id]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """One of the eight steps as this message went through it. ``tone``: good, bad, warn, or soft: not reached."""

    number: int
    tone: str
    at: datetime | None = None


def steps_of(record: ExchangeRecord) -> list[StepDone]:
    """A message that is here has passed the first five; the others are as its slowest receiver stands."""
    deliveries = record.deliveries
    tried = [attempt for delivery in deliveries for attempt in delivery.attempts]
    first = min((attempt.started_at for attempt in tried), default=None)
    begun = bool(tried) or any(delivery.state is not State.WAITING for delivery in deliveries)
    states = {delivery.state for delivery in deliveries}
    ended = [delivery.settled_at for delivery in deliveries if delivery.settled_at]
    if State.DEAD in states:
        deliver, settle = "bad", "bad"
    elif states == {State.DELIVERED}:
        deliver, settle = "good", "good"
    else:
        deliver, settle = ("warn" if begun else "soft"), "soft"
    done = [StepDone(number=number, tone="good", at=record.received_at if number in (1, 5) else None)
            for number in range(1, 6)]  # fmt: skip
    return [
        *done,
        StepDone(number=6, tone="good" if begun else "warn"),
        StepDone(number=7, tone=deliver, at=first),
        StepDone(number=8, tone=settle, at=max(ended) if len(ended) == len(deliveries) and ended else None),
    ]


def claims_of(jws: str) -> dict[str, Any]:
    """What a compact JWS says. Its signature was checked when it came; the proof checks it again."""
    try:
        claims = json.loads(split_compact(jws).payload)
    except (Malformed, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def headers_of(record: ExchangeRecord) -> dict[str, str]:
    """What travels beside the payload to a REST receiver, the same at every attempt; of the first of several. Of what
    is signed only how: what it says stands beside it, and persons' names in it are not for everybody."""
    parcel = Parcel(
        manifest=Manifest.from_claims(claims_of(record.manifest_jws)),
        manifest_jws=record.manifest_jws,
        receipt_jws=record.receipt_jws,
        body=b"",
        receiver=record.deliveries[0].receiver,
        traceparent=record.traceparent,
    )
    headers = payload_headers(parcel)
    signed = {name: _signed_how(headers[name]) for name in ("Lgsp-Manifest", "Lgsp-Receipt")}
    return {**headers, **signed}


def _signed_how(jws: str) -> str:
    """The protected header of a compact JWS, readable, in place of the whole."""
    return f"{base64url.decode(jws.partition('.')[0]).decode('utf-8', 'replace')} . … . …"


def _receipts(record: ExchangeRecord) -> list[tuple[str, str, str]]:
    """Whose it is (empty: the acceptance), what it says, and itself."""
    signed = [("", record.receipt_jws)]
    signed += [(delivery.receiver, delivery.receipt_jws) for delivery in record.deliveries if delivery.receipt_jws]
    return [(receiver, _pretty(claims_of(jws)), jws) for receiver, jws in signed]


def _pretty(document: object) -> str:
    return json.dumps(document, ensure_ascii=False, indent=2)


# ── bodies ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedBody:
    """A body as text for a page. ``text`` None: erased."""

    #: ``request`` or ``reply``.
    kind: str
    text: str | None
    bytes: int
    cut: bool


def _opened(desk: Desk, record: ExchangeRecord) -> list[OpenedBody]:
    bodies = [("request", desk.bus.ledger.body_of(record.id))]
    if record.pattern is Pattern.REQUEST_REPLY and (reply := desk.bus.ledger.reply_to(record.message_id)):
        bodies.append(("reply", reply.body))
    return [
        OpenedBody(
            kind=kind, text=None if body is None else as_text(body), bytes=len(body or b""),
            cut=len(body or b"") > _MOST_SHOWN,
        )
        for kind, body in bodies
    ]  # fmt: skip


def as_text(body: bytes) -> str:
    """JSON in lines, anything else as it is; without what would turn the reader's text round or hide a part of it."""
    shown = body[:_MOST_SHOWN]
    try:
        text = json.dumps(json.loads(shown), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        text = shown.decode("utf-8", "replace")
    return "\n".join(printable(line.replace("\t", "    ")) for line in text.splitlines())


# ── sending again ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _dead_delivery(record: ExchangeRecord, delivery_id: int) -> DeliveryRecord:
    """Raises NotFound(message-unknown), NotPermitted(rerun-not-possible)."""
    delivery = next((each for each in record.deliveries if each.id == delivery_id), None)
    if delivery is None:
        raise NotFound("message-unknown")
    if not may_rerun(record, delivery) and delivery.state is State.DEAD:
        raise NotPermitted("rerun-not-possible")
    return delivery


def may_rerun(record: ExchangeRecord, delivery: DeliveryRecord) -> bool:
    """A call is repeated by its caller, who is the one waiting; what was erased cannot be sent."""
    return delivery.state is State.DEAD and record.pattern is Pattern.ONE_WAY and not record.body_erased


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What sending again would meet, as of now."""

    suspended: bool
    #: The registry sends this service to another system now; the delivery keeps its own.
    moved_to: str
    breaker_open: bool
    #: Attempts that it would get, and for how long.
    attempts: int
    hours: int


def _preview(desk: Desk, record: ExchangeRecord, delivery: DeliveryRecord) -> Preview:
    directory = desk.directory
    system = directory.system(delivery.system)
    now_at = directory.system_for(delivery.receiver, record.service)
    service = directory.service(record.service, record.service_version)
    return Preview(
        suspended=system is None or system.suspended,
        moved_to=now_at.code if now_at is not None and now_at.code != delivery.system else "",
        breaker_open=delivery.system in desk.bus.nodes.look().open,
        attempts=service.retry.max_attempts if service else 0,
        hours=round(service.retry.give_up_after_seconds / 3600) if service else 0,
    )
