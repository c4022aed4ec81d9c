"""Refused messages: who was turned away, at which step and why, and what mends it.

A refused message's body is not kept: nobody has taken it on. What is kept names the sender (if proven), whom it was
for, the broken rules with their places, and digests by which it is found. Mended, the sender sends it again; the page
says beforehand whether it would pass. Where the province keeps what lacked only a grant (:mod:`bus.refused`), it is
taken on from here.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from urllib.parse import urlencode

from flask import request
from werkzeug.wrappers import Response as AnyResponse

from bus.overview import STEPS, refusals_found
from bus.people import note
from bus.records import RefusalRecord
from bus.refused import MENDED_BY_GRANT
from bus.web.console.desk import Console, Desk, Right
from bus.web.console.messages import StepDone
from bus.web.console.search import sees
from registry.access import AccessRequest, Usage, decide
from registry.model import Grant
from schemas.identifiers import AgencyCode, MessageId, ServiceCode, SystemCode
from schemas.message import Grade
from schemas.moment import utc_now
from schemas.problem import Malformed, NotFound, Problem


def install(console: Console) -> None:
    @console.page("/refusals", Right.SEE)
    def refusals(desk: Desk) -> AnyResponse:
        asked = {name: request.args.get(name) for name in ("sender", "service", "reason")}
        if desk.scope is not None:
            asked["sender"] = desk.scope
        found, older = refusals_found(
            desk.bus.store, sender=asked["sender"], service=asked["service"], reason=asked["reason"],
            before=request.args.get("before", type=int),
        )  # fmt: skip
        more = urlencode({name: text for name, text in asked.items() if text is not None} | {"before": older})
        names = desk.names
        return desk.show("refusals.html", found=found, asked=asked, more=more if older else "", n=names)

    @console.page("/refusals/<int:refusal_id>", Right.SEE)
    def refusal(desk: Desk, refusal_id: int) -> AnyResponse:
        record = _seen(desk, refusal_id)
        again = desk.bus.ledger.find(MessageId(record.message_id)) if record.message_id else None
        now = utc_now()
        return desk.show(
            "refusal.html",
            refusal=record,
            steps=_steps(record),
            by_grant=_by_grant(record),
            grants=_grants(desk, record),
            verdict=would_pass(desk, record, now),
            kept=desk.bus.ledger.kept_refused(record.id, now) is not None,
            again=again if again is not None and sees(desk, again) else None,
            n=desk.names,
        )

    @console.deed("/refusals/<int:refusal_id>/take", Right.MEND)
    def take_refused(desk: Desk, refusal_id: int) -> AnyResponse:
        """Take the kept message on, as if it came now: steps 3 to 5 anew, the sender's own id and signature."""
        record, reason, now = _seen(desk, refusal_id), desk.reason(), utc_now()
        sealed = desk.bus.ledger.kept_refused(record.id, now)
        message = desk.bus.refused.open(record.message_id or "", sealed, now) if sealed else None
        if message is None:
            raise NotFound("refused-not-kept")
        acceptance = desk.bus.intake.accept_identified(message)
        sender = AgencyCode.unchecked(record.sender) if record.sender else None
        event = desk.event("refusal.taken", f"message:{record.message_id}", reason, sender, refusal=record.id)
        desk.bus.ledger.forget_refused(record.id, partial(note, event=event))
        address = f"/console/messages/{acceptance.message.manifest.message_id}"
        return desk.back(address, "Trục đã nhận thông điệp và đang giao.", "The bus has taken it and delivers it now.")


def _seen(desk: Desk, refusal_id: int) -> RefusalRecord:
    """Raises NotFound(message-unknown): what is another agency's does not exist."""
    record = desk.bus.ledger.refusal(refusal_id)
    if record is None or not desk.sees(record.sender):
        raise NotFound("message-unknown")
    return record


def _steps(record: RefusalRecord) -> list[StepDone]:
    failed = STEPS.get(record.problem, 1)
    at = record.refused_at
    return [
        StepDone(number=number, tone="good" if number < failed else "bad" if number == failed else "soft",
                 at=at if number == failed else None)
        for number in range(1, 9)
    ]  # fmt: skip


def _by_grant(record: RefusalRecord) -> bool:
    return bool(record.sender and record.service) and record.reason in MENDED_BY_GRANT


def _grants(desk: Desk, record: RefusalRecord) -> tuple[Grant, ...]:
    if not (record.sender and record.service):
        return ()
    return desk.directory.grants_for(AgencyCode.unchecked(record.sender), ServiceCode.unchecked(record.service))


def would_pass(desk: Desk, record: RefusalRecord, now: datetime) -> Problem | bool | None:
    """Would the registry of now let it pass steps 1 to 3? True, the problem that stands in its way, or None where too
    little is known to say. Quotas are not asked, nor is the payload, which is not here."""
    details = record.details
    if not (record.sender and record.service and details.get("receivers")):
        return None
    service = desk.directory.service(ServiceCode.unchecked(record.service), int(details.get("version", 1)))
    asked = AccessRequest(
        sender=AgencyCode.unchecked(record.sender),
        system=SystemCode.unchecked(details["system"]) if details.get("system") else None,
        service=ServiceCode.unchecked(record.service),
        version=int(details.get("version", 1)),
        receivers=tuple(details["receivers"]),
        purpose=str(details.get("purpose", "")),
        content_type=service.content_types[0] if service else "application/json",
        grade=Grade.SIGNED,
    )
    try:
        decide(asked, desk.directory, lambda _: Usage(), now)
    except Malformed:
        return None
    except Problem as problem:
        return problem
    return True
