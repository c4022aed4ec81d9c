"""The story of a process, as the operator, the trace and the console read it."""

from __future__ import annotations

from typing import Any

from bus.processes.journal import ProcessRecord
from schemas.moment import to_wire


def process_document(record: ProcessRecord) -> dict[str, Any]:
    """What may be shown of a process: codes, steps and moments, no content of messages."""
    return {
        "process": record.id,
        "definition": f"{record.definition}/{record.version}",
        "dossier": record.dossier,
        "status": record.status.value,
        "started_at": to_wire(record.started_at),
        "ended_at": to_wire(record.ended_at) if record.ended_at else None,
        "due_at": to_wire(record.due_at) if record.due_at else None,
        "problem": record.problem,
        "steps": [
            {
                "at": to_wire(event.at),
                "step": event.step,
                "event": event.event,
                "service": event.service or None,
                "message_id": event.message_id or None,
                "problem": event.problem,
            }
            for event in record.events
        ],
    }
