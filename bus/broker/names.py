"""What members' queues are called at the broker and how they are made: the same for whoever makes them first."""

from __future__ import annotations

from typing import Any, Final

from schemas.identifiers import SystemCode

MAILBOX_PREFIX: Final = "lgsp.member."
MAILBOX_DEAD_SUFFIX: Final = ".dead"
#: Of one member's mailbox, as far as the bus fills it: some hundred thousand messages. A policy may set less.
MAILBOX_BYTES: Final = 1024**3
#: How often a consumer may return a letter before it is laid aside.
RETURN_LIMIT: Final = 20


def mailbox_name(system: SystemCode) -> str:
    return f"{MAILBOX_PREFIX}{system}"


def dead_mailbox_name(system: SystemCode) -> str:
    return f"{mailbox_name(system)}{MAILBOX_DEAD_SUFFIX}"


def mailbox_arguments(system: SystemCode) -> dict[str, Any]:
    return {
        "x-queue-type": "quorum",
        "x-max-length-bytes": MAILBOX_BYTES,
        # A full mailbox refuses: its messages wait in the bus, where everybody sees them.
        "x-overflow": "reject-publish",
        "x-delivery-limit": RETURN_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead_mailbox_name(system),
        # Without it a node that dies at the wrong moment takes what was being laid aside with it.
        "x-dead-letter-strategy": "at-least-once",
    }
