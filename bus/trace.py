"""The story of a message or a dossier, as its parties, the operator and the console read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bus.dossiers import DossierStory, status_name
from bus.records import DeliveryRecord, ExchangeRecord, State
from schemas.moment import to_wire
from schemas.problem import Language
from schemas.reasons import REASONS

_PAST = {State.DELIVERED: "delivered", State.WAITING: "rescheduled", State.DEAD: "died"}


def status_document(record: ExchangeRecord) -> dict[str, Any]:
    """What the parties of a message may see of it."""
    return {
        "message_id": record.message_id,
        "state": overall_state(record),
        "sender": record.sender,
        "service": f"{record.service}/{record.service_version}",
        "grade": record.grade.value,
        "dossier": record.dossier,
        "received_at": to_wire(record.received_at),
        "trace_id": record.traceparent[3:35],
        **({"body_erased": True} if record.body_erased else {}),
        "deliveries": [_delivery_document(delivery) for delivery in record.deliveries],
        "timeline": timeline(record),
    }


def dossier_document(story: DossierStory, records: Sequence[ExchangeRecord], now: datetime) -> dict[str, Any]:
    """A dossier as these messages tell it, the messages among it. A step's ``legal`` is false where it comes out of
    turn; amounts are whole đồng; what no message said is null."""
    message_of = {record.id: record.message_id for record in records}
    held = max(0, round((now - story.holder_since).total_seconds())) if story.holder_since else None
    return {
        "dossier": story.codes[0],
        "aliases": list(story.codes[1:]),
        "unit": story.unit or None,
        "procedure": story.procedure,
        "channel": story.channel,
        "status": _status_document(story.status),
        "status_since": _wire(story.status_since),
        "received_at": _wire(story.received_at),
        "due_at": _wire(story.due_at),
        "finished_at": _wire(story.finished_at),
        "timeliness": story.timeliness.value,
        "holder": {"name": story.holder, "since": _wire(story.holder_since), "seconds": held} if story.holder else None,
        "synchronised": story.synchronised,
        "history": [
            {
                "at": to_wire(step.at),
                "status": _status_document(step.status),
                "said": step.said,
                "legal": step.legal,
                "message_id": message_of.get(step.exchange_id),
            }
            for step in story.steps
        ],
        "payments": [
            {
                "reference": payment.reference,
                "amount": payment.amount,
                "state": payment.state,
                "at": to_wire(payment.at),
                "message_ids": [message_of[number] for number in payment.exchange_ids if number in message_of],
            }
            for payment in story.payments
        ],
        "parcels": [{"code": parcel.code, "state": parcel.state, "at": to_wire(parcel.at)} for parcel in story.parcels],
        "messages": [status_document(record) for record in records],
    }


def _status_document(code: str | None) -> dict[str, str] | None:
    return None if code is None else {"code": code, "name": status_name(code)}


def _wire(moment: datetime | None) -> str | None:
    return None if moment is None else to_wire(moment)


def overall_state(record: ExchangeRecord) -> str:
    """``delivered`` when every receiver has it, ``dead`` when one never got it, else ``accepted``."""
    states = {delivery.state for delivery in record.deliveries}
    if states == {State.DELIVERED}:
        return "delivered"
    ended = states & {State.DEAD, State.SET_ASIDE} and not states & {State.WAITING, State.DELIVERING}
    return "dead" if ended else "accepted"


def timeline(record: ExchangeRecord) -> list[dict[str, Any]]:
    """What happened, oldest first."""
    events: list[dict[str, Any]] = [{"at": to_wire(record.received_at), "event": "exchange.recorded"}]
    for delivery in record.deliveries:
        for attempt in delivery.attempts:
            events.append(
                {
                    "at": to_wire(attempt.finished_at),
                    "event": f"delivery.{_PAST[attempt.outcome]}",
                    "receiver": delivery.receiver,
                    "attempt": attempt.number,
                    "problem": attempt.problem,
                }
            )
        for replay in delivery.replays:
            events.append(
                {
                    "at": to_wire(replay.ordered_at),
                    "event": "delivery.replayed",
                    "receiver": delivery.receiver,
                    "replay": replay.id,
                    "reason": replay.reason,
                }
            )
    return sorted(events, key=lambda event: str(event["at"]))


def _delivery_document(delivery: DeliveryRecord) -> dict[str, Any]:
    return {
        "receiver": delivery.receiver,
        "state": delivery.state.told,
        "attempts": delivery.attempt,
        "due_at": to_wire(delivery.due_at) if delivery.due_at else None,
        "settled_at": to_wire(delivery.settled_at) if delivery.settled_at else None,
        "problem": delivery.problem,
    }


def in_words(problem: Mapping[str, Any] | None, language: Language, *, quoting: bool = True) -> str:
    """A stored problem as a sentence: the catalogue's wording with its facts woven in, and what the receiver said
    (``quoting``)."""
    if problem is None:
        return ""
    reason = str(problem.get("reason", ""))
    wording = REASONS.get(reason)
    if wording is None:
        return reason
    text = wording.vi if language == "vi" else wording.en
    sentence = text.format_map(_Facts(problem.get("facts") or {}))
    said = printable(str(problem.get("said") or "")) if quoting else ""
    return f"{sentence} (“{said}”)" if said else sentence


class _Facts(dict[str, Any]):
    """Facts of a stored problem. Some are not kept (a refusal keeps its reason only): those read as an ellipsis."""

    def __missing__(self, name: str) -> str:
        return "…"


def printable(text: str) -> str:
    """The text without what would move the cursor or recolour an operator's terminal: others wrote it."""
    return "".join(character if character.isprintable() else "�" for character in text)
