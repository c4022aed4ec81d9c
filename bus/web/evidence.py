"""`/v1/evidence` and the bundle of one message: what others check the bus's word by."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence

from flask import Blueprint, Response, request

from bus.assembly import Bus
from bus.bundles import bundle_of, latest_checkpoint, trust_of
from bus.web.answers import json_response
from bus.web.described import Answer, Parameter, describe
from bus.web.door import identified_caller, is_operator
from bus.web.exchange import is_party, own_exchange
from bus.web.visibility import is_narrowed
from schemas.identifiers import MessageId
from schemas.message import Principal
from schemas.problem import Malformed, NotFound
from security.evidence.tree import leaf_hash

_SIZE = {"type": "integer", "minimum": 1}
_HASHES = {"type": "array", "items": {"type": "string", "contentEncoding": "base64"}}
_CONSISTENCY = {
    "type": "object",
    "required": ["old", "new", "proof"],
    "properties": {"old": _SIZE, "new": _SIZE, "proof": _HASHES},
}
_INCLUSION = {
    "type": "object",
    "required": ["position", "size", "leaf", "proof"],
    "properties": {
        "position": {"type": "integer", "minimum": 0},
        "size": _SIZE,
        "leaf": {"type": "string", "description": "RFC 6962 leaf hash, hex"},
        "proof": _HASHES,
        "entry": {"type": "string", "description": "The exact entry; for the parties of its message and the operator"},
    },
}


def evidence_surface(bus: Bus) -> Blueprint:
    """The routes of evidence."""
    routes = Blueprint("evidence", __name__)

    @routes.get("/v1/exchange/<message_id>/evidence")
    @describe(
        "Evidence",
        "The evidence bundle of a message",
        access="token",
        parameters=(
            Parameter(name="body", place="query", meaning="`true`: with the payload", schema={"type": "boolean"}),
        ),
        answers={200: Answer(meaning="Verify it offline with `security/verifier.py`", schema={"type": "object"})},
        problems=(400, 401, 404),
    )
    def bundle(message_id: str) -> Response:
        """One self-contained file: manifest, receipt, the log's entries with their proofs, the signed checkpoint. For
        the sender and the receivers of the message."""
        record = own_exchange(bus, identified_caller(bus), message_id)
        data = bundle_of(bus, record, with_body=query_flag("body"))
        response = Response(data, content_type="application/json")
        response.headers["Content-Disposition"] = f'attachment; filename="evidence-{record.message_id}.json"'
        return response

    @routes.get("/v1/evidence/checkpoint")
    @describe(
        "Evidence",
        "The latest checkpoint",
        access="anyone",
        answers={
            200: Answer(meaning="Size and root of the log, signed (C2SP tlog-checkpoint)", content_type="text/plain")
        },
        problems=(404,),
    )
    def checkpoint() -> Response:
        """Keep the ones you see: a log that ever shows two histories is caught by whoever kept one of them."""
        latest = latest_checkpoint(bus)
        if latest is None:
            raise NotFound("evidence-not-sealed")
        return Response(latest.note, content_type="text/plain; charset=utf-8")

    @routes.get("/v1/evidence/trust")
    @describe(
        "Evidence",
        "The trust file of the offline verifier",
        access="anyone",
        answers={200: Answer(meaning="The bus's and the log's public keys", schema={"type": "object"})},
    )
    def trust() -> Response:
        """Compare its digest with the one that the operator publishes before you rely on it."""
        return Response(trust_of(bus), content_type="application/json")

    @routes.get("/v1/evidence/consistency")
    @describe(
        "Evidence",
        "Proof that the log only grew",
        access="token",
        parameters=(
            Parameter(name="old", place="query", meaning="Size of an earlier checkpoint", required=True, schema=_SIZE),
            Parameter(name="new", place="query", meaning="Size of a later one", required=True, schema=_SIZE),
        ),
        answers={200: Answer(meaning="RFC 9162, section 2.1.4", schema=_CONSISTENCY)},
        problems=(400, 401),
    )
    def consistency() -> Response:
        """Between two sizes that checkpoints were signed for."""
        identified_caller(bus)
        old, new = _size("old"), _size("new")
        with bus.store.reading() as connection:
            proof = _proven(lambda: bus.log.consistency_proof(connection, old, new), "old")
        return json_response({"old": old, "new": new, "proof": _encoded(proof)})

    @routes.get("/v1/evidence/entries/<int:position>/proof")
    @describe(
        "Evidence",
        "Proof that an entry is in the log",
        access="token",
        parameters=(
            Parameter(name="size", place="query", meaning="Of the checkpoint; the latest if missing", schema=_SIZE),
        ),
        answers={200: Answer(meaning="RFC 9162, section 2.1.3", schema=_INCLUSION)},
        problems=(400, 401, 404),
    )
    def inclusion(position: int) -> Response:
        """Every member may check every place of the log; what the entry says is for the parties of its message."""
        principal = identified_caller(bus)
        latest = latest_checkpoint(bus)
        size = _size("size") if "size" in request.args else (latest.size if latest else 0)
        if position >= size:
            raise NotFound("evidence-entry-unknown")
        with bus.store.reading() as connection:
            proof = _proven(lambda: bus.log.inclusion_proof(connection, position, size), "size")
            entry = bus.log.entry(connection, position)
        if entry is None:
            raise NotFound("evidence-entry-unknown")
        document = {
            "position": position,
            "size": size,
            "leaf": leaf_hash(entry).hex(),
            "proof": _encoded(proof),
        }
        if _may_read(bus, principal, entry):
            document["entry"] = entry.decode("utf-8")
        return json_response(document)

    return routes


def query_flag(name: str) -> bool:
    """``true`` or ``false``; false when it is not there. Raises Malformed(query-invalid)."""
    text = request.args.get(name, "false")
    if text not in ("true", "false"):
        raise Malformed("query-invalid", name=name)
    return text == "true"


def _may_read(bus: Bus, principal: Principal, entry: bytes) -> bool:
    """Entries name agencies: who talks to whom is not every member's business."""
    if is_operator(bus, principal):
        return True
    facts = json.loads(entry)
    if "message_id" not in facts:
        return False
    if facts.get("sender") == principal.agency and not is_narrowed(bus, principal):
        return True
    record = bus.ledger.find(MessageId(facts["message_id"]))
    return record is not None and is_party(bus, principal, record)


def _size(name: str) -> int:
    text = request.args.get(name, "")
    if not text.isdecimal() or len(text) > 18 or int(text) == 0:
        raise Malformed("query-invalid", name=name)
    return int(text)


def _proven(prove: Callable[[], Sequence[bytes]], name: str) -> Sequence[bytes]:
    try:
        return prove()
    except ValueError:
        raise Malformed("query-invalid", name=name) from None


def _encoded(proof: Sequence[bytes]) -> list[str]:
    return [base64.b64encode(value).decode("ascii") for value in proof]
