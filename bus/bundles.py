"""Evidence that leaves the house: one message's bundle, and the trust file it is verified by."""

from __future__ import annotations

from bus.assembly import Bus
from bus.records import ExchangeRecord
from bus.timestamps import timestamp_trust
from schemas.message import Grade
from schemas.moment import utc_now
from schemas.problem import NotFound
from security.evidence.bundle import proven_entry, write_bundle, write_trust
from security.evidence.checkpoint import Checkpoint
from security.signing import MANIFEST_TYPE, RECEIPT_TYPE, read_header, split_compact


def bundle_of(bus: Bus, record: ExchangeRecord, *, with_body: bool = False) -> bytes:
    """All evidence of one message as a file for ``security/verifier.py``: acceptance, and each delivery that has ended.

    Its checkpoint is the first one with a timestamp that covers them; where there is none, the latest, and the log is
    sealed first when that does not cover them yet. ``with_body``: the payload goes in too, if it
    was not erased. Raises NotFound(evidence-key-gone) when a key that signed is not registered any more.
    """
    positions = [record.id, *(delivery.leaf for delivery in record.deliveries if delivery.leaf is not None)]
    stamped = _stamped_over(bus, max(positions))
    checkpoint, token = stamped or (_checkpoint_over(bus, max(positions)), None)
    body = bus.ledger.body_of(record.id) if with_body else None
    with bus.store.reading() as connection:
        entries = [proven_entry(bus.log, connection, position, checkpoint.size) for position in positions]
    return write_bundle(
        message_id=record.message_id,
        manifest_jws=record.manifest_jws,
        sender_certificate_pem=_certificate_of_manifest(bus, record),
        receipt_jws=record.receipt_jws,
        bus_jwk=_key_of_receipt(bus, record),
        checkpoint=checkpoint,
        entries=entries,
        body=body,
        timestamp=token,
    )


def trust_of(bus: Bus) -> bytes:
    """What a verifier must believe: the bus's keys, the log's, and the roots of the timestamp authority, if one is
    asked. Get it once, by a way that you trust. Raises Malformed(timestamp-authority-unreadable)."""
    trusted = timestamp_trust(bus.settings)
    roots = trusted.pems() if trusted else ()
    return write_trust(bus.ring, [bus.log.verifier], timestamp_authorities=roots)


def latest_checkpoint(bus: Bus) -> Checkpoint | None:
    with bus.store.reading() as connection:
        return bus.log.latest_checkpoint(connection)


def _stamped_over(bus: Bus, position: int) -> tuple[Checkpoint, bytes] | None:
    with bus.store.reading() as connection:
        return bus.log.stamped_checkpoint(connection, position)


def _checkpoint_over(bus: Bus, position: int) -> Checkpoint:
    """The latest checkpoint; one is made when it does not reach this far (the sealer may be a second behind)."""
    checkpoint = latest_checkpoint(bus)
    if checkpoint is None or checkpoint.size <= position:
        bus.seal_evidence(utc_now())
        checkpoint = latest_checkpoint(bus)
    if checkpoint is None:
        raise NotFound("evidence-not-sealed")
    return checkpoint


def _certificate_of_manifest(bus: Bus, record: ExchangeRecord) -> str:
    key_id = read_header(split_compact(record.manifest_jws).header_segment, MANIFEST_TYPE).key_id
    if record.grade is Grade.ATTESTED:
        pem = bus.ring.certificate_pem(key_id)
    else:
        held = (known for system in bus.directory.current().systems.values() for known in system.certificates)
        pem = next((known.pem for known in held if known.key_id == key_id), None)
        pem = pem or bus.ring.certificate_pem(key_id)  # a message of the bus itself, from a process
    if pem is None:
        raise NotFound("evidence-key-gone")
    return pem


def _key_of_receipt(bus: Bus, record: ExchangeRecord) -> dict[str, str]:
    key_id = read_header(split_compact(record.receipt_jws).header_segment, RECEIPT_TYPE).key_id
    for jwk in bus.ring.public_jwks()["keys"]:
        if jwk["kid"] == key_id:
            return jwk
    raise NotFound("evidence-key-gone")
