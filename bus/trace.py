"""The story of a message or a dossier, as its parties, the operator and the console read it."""

from __future__ import annotations

from typing import Any

from bus.records import DeliveryRecord, ExchangeRecord, State
from schemas.moment import to_wire

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
        "deliveries": [_delivery_document(delivery) for delivery in record.deliveries],
        "timeline": timeline(record),
    }


def overall_state(record: ExchangeRecord) -> str:
    """``delivered`` when every receiver has it, ``dead`` when one never got it, else ``accepted``."""
    states = {delivery.state for delivery in record.deliveries}
    if states == {State.DELIVERED}:
        return "delivered"
    return "dead" if State.DEAD in states and not states & {State.WAITING, State.DELIVERING} else "accepted"


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
        "state": delivery.state.value,
        "attempts": delivery.attempt,
        "due_at": to_wire(delivery.due_at) if delivery.due_at else None,
        "settled_at": to_wire(delivery.settled_at) if delivery.settled_at else None,
        "problem": delivery.problem,
    }
