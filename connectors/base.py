"""What a connector is: the two protocols, and the values that cross them.

A :class:`Connector` calls a partner; a :class:`Receiver` turns a partner's own call into an envelope for the bus.
Both are plain objects without a base class; the table in ``connectors/table.py`` names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from registry.model import Endpoint, HttpCall, SoapCall
from schemas.identifiers import AgencyCode
from schemas.message import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One message on its way to one receiver: everything a connector may use, and nothing else of the bus."""

    manifest: Manifest
    #: The sender's manifest as compact JWS, and the bus's receipt for it: both travel with the payload.
    manifest_jws: str
    receipt_jws: str
    body: bytes
    receiver: AgencyCode
    traceparent: str
    #: 1 for the first try.
    attempt: int = 1
    #: The provider's operation, where the service was registered from its WSDL or OpenAPI.
    call: SoapCall | HttpCall | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the partner answered, exact bytes. ``headers`` has lower-case names and only those worth keeping."""

    body: bytes = b""
    content_type: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The answer as it came over the wire, where ``body`` is only a part of it (the payload of a SOAP envelope).
    original: bytes = b""

    @property
    def received(self) -> bytes:
        """The partner's exact bytes: what the evidence is about."""
        return self.original or self.body


class Connector(Protocol):
    """Carries parcels to one kind of partner. One instance serves all threads of a process."""

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """Hand the parcel over and return the partner's answer.

        Idempotent for the partner: every call carries ``Idempotency-Key: <message id>`` or the partner's own key with
        the same force, and repeats of a parcel carry the same one.

        Raises ProviderUnavailable (refused, reset, 5xx, 408, 425, 429), ProviderTimeout (no answer in
        ``endpoint.timeout_seconds``), ProviderRejected (the partner will never take it; not retried), InvalidReply
        (the answer is nonsense). No error text carries a secret, a payload or an internal address.
        """
        ...

    def close(self) -> None:
        """Let go of kept connections; the instance is not used again."""
        ...
