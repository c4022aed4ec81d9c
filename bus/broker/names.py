"""What members' queues are called at the broker and how they are made: the same for whoever makes them first."""

from __future__ import annotations

from typing import Any, Final

from schemas.identifiers import SystemCode

MAILBOX_PREFIX: Final = "lgsp.member."
#: The exchange of events, and the queues of those who take them there.
EVENT_EXCHANGE: Final = "lgsp.events"
EVENT_PREFIX: Final = "lgsp.events."
MAILBOX_DEAD_SUFFIX: Final = ".dead"
#: Of one member's mailbox, as far as the bus fills it: some hundred thousand messages. A policy may set less.
MAILBOX_BYTES: Final = 1024**3
#: How often a consumer may return a letter before it is laid aside.
RETURN_LIMIT: Final = 20


def mailbox_name(system: SystemCode) -> str:
    return f"{MAILBOX_PREFIX}{system}"


def dead_mailbox_name(system: SystemCode) -> str:
    return f"{mailbox_name(system)}{MAILBOX_DEAD_SUFFIX}"


def event_queue_name(system: SystemCode) -> str:
    return f"{EVENT_PREFIX}{system}"


def dead_event_queue_name(system: SystemCode) -> str:
    return f"{event_queue_name(system)}{MAILBOX_DEAD_SUFFIX}"


def event_routing_key(system: SystemCode, unit: str, event_type: str) -> str:
    """``to.H99.16/kho.unit.H99.15.type.vn.gov…``: an event is for one subscriber, because each may see others. The
    name of a system has no dot, so no subscriber's key begins with another's. At most 255 bytes."""
    return f"{_TO}.{system}.unit.{unit or '-'}.type.{event_type}"


def event_binding(system: SystemCode) -> str:
    return f"{_TO}.{system}.#"


_TO: Final = "to"


def event_queue_arguments(system: SystemCode) -> dict[str, Any]:
    return _arguments(dead_event_queue_name(system))


def mailbox_arguments(system: SystemCode) -> dict[str, Any]:
    return _arguments(dead_mailbox_name(system))


def _arguments(dead: str) -> dict[str, Any]:
    return {
        "x-queue-type": "quorum",
        "x-max-length-bytes": MAILBOX_BYTES,
        # A full mailbox refuses: its messages wait in the bus, where everybody sees them.
        "x-overflow": "reject-publish",
        "x-delivery-limit": RETURN_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead,
        # Without it a node that dies at the wrong moment takes what was being laid aside with it.
        "x-dead-letter-strategy": "at-least-once",
    }
