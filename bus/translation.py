"""A message in its receiver's form: as its sender wrote it, or translated by the contract of its service.

A translated body gets a manifest of the bus's own: the sender's facts over the new bytes, how the sender was
identified, and the digest of what the sender wrote. So every manifest that leaves the house covers the bytes that
travel with it, and leads back to the ones that its author signed.
"""

from __future__ import annotations

from dataclasses import replace

from bus.records import Claim
from connectors.base import Parcel
from registry.directory import Directory
from registry.model import Service
from schemas.codec import read_json
from schemas.identifiers import SystemCode
from schemas.message import Manifest, Means, Translation, sha256_hex
from schemas.moment import utc_now
from security.signing import MANIFEST_TYPE, SignerSource, read_header, sign_manifest, split_compact


def parcel_for(claim: Claim, directory: Directory, signer: SignerSource) -> Parcel:
    """What the receiver of a claimed delivery gets. Raises SchemaViolation for a payload that cannot be translated,
    which step 4 has ruled out unless the contract changed since."""
    manifest = Manifest.from_claims(read_json(split_compact(claim.manifest_jws).payload))
    service = directory.service(claim.service, claim.service_version)
    parcel = Parcel(
        manifest=manifest,
        manifest_jws=claim.manifest_jws,
        receipt_jws=claim.receipt_jws,
        body=claim.body,
        receiver=claim.receiver,
        traceparent=claim.traceparent,
        system=directory.system(claim.system),
        attempt=claim.attempt,
        call=service.provider.call if service is not None and service.provider is not None else None,
    )
    return parcel if service is None else _translated(parcel, service, claim, directory, signer)


def _translated(parcel: Parcel, service: Service, claim: Claim, directory: Directory, signer: SignerSource) -> Parcel:
    manifest = parcel.manifest
    form = directory.contract_for(service).for_provider(parcel.body, manifest.content_type)
    if form is None:
        return parcel
    written = replace(
        manifest,
        issued_at=utc_now().replace(microsecond=0),
        content_type=form.content_type,
        body_sha256=sha256_hex(form.body),
        body_length=len(form.body),
        # The sender named the schema of its own form.
        schema_id="",
        schema_sha256="",
        attested_means=manifest.attested_means or Means.MANIFEST,
        attested_system=manifest.attested_system or _signing_system(claim, directory),
        translated=Translation(
            content_type=manifest.content_type,
            sha256=manifest.body_sha256,
            length=manifest.body_length,
            manifest_sha256=claim.manifest_sha256,
        ),
    )
    return replace(parcel, manifest=written, manifest_jws=sign_manifest(written, signer), body=form.body)


def _signing_system(claim: Claim, directory: Directory) -> SystemCode:
    """Whose key made the sender's manifest; the receiving system, if that key has gone since."""
    key_id = read_header(split_compact(claim.manifest_jws).header_segment, MANIFEST_TYPE).key_id
    key = directory.find_key(key_id)
    return key.system if key is not None else claim.system
