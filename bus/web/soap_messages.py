"""What is asked and answered at ``/soap/exchange``: each class is a type of the WSDL. See the same words over REST."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from bus.inbox import MAX_DELIVERIES, MAX_SAID_CHARACTERS, MAX_WAIT_SECONDS
from connectors.soap_server import Element
from schemas.message import MAX_ATTACHMENTS

#: What goes into manifests and headers is one line: no control characters (``schemas.message``).
_LINE = "[^\\t\\n\\r\u007f-\u009f\u2028\u2029]*"
ContentType = Annotated[str, Element(max_length=100, pattern=_LINE)]
MessageName = Annotated[str, Element(max_length=100, documentation="The message's id, a UUID")]
DeliveryName = Annotated[str, Element(max_length=40, documentation="The deliveryId that FetchInbox gave")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """Give the content, or digest and length of a file that was uploaded before (`PUT /v1/attachments/{sha256}`)."""

    name: Annotated[str, Element(max_length=200, pattern=_LINE)] = ""
    content_type: ContentType = "application/octet-stream"
    sha256: Annotated[str | None, Element(pattern="[0-9a-f]{64}", documentation="SHA-256, lower-case hex")] = None
    length: Annotated[int | None, Element(least=0, documentation="Bytes")] = None
    content: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitMessage:
    content_type: ContentType
    payload: bytes
    attachment: Annotated[tuple[Attachment, ...], Element(most=MAX_ATTACHMENTS)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The provider's reply, with the manifest that proves it."""

    content_type: str
    payload: bytes
    manifest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitMessageResponse:
    message_id: str
    state: str
    received_at: datetime
    receiver: tuple[str, ...]
    leaf: str
    receipt: Annotated[str, Element(documentation="Compact JWS of the bus")]
    repeated: Annotated[bool, Element(documentation="The message was here before; this is its first receipt")]
    reply: Annotated[Reply | None, Element(documentation="For a service of the pattern request-reply")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetStatus:
    message_id: MessageName


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryState:
    receiver: str
    state: Annotated[str, Element(values=("waiting", "delivering", "delivered", "dead"))]
    attempts: int
    due_at: datetime | None = None
    settled_at: datetime | None = None
    reason: Annotated[str | None, Element(documentation="Code of the problem of the last attempt")] = None
    detail: Annotated[str | None, Element(documentation="The same in words")] = None
    said: Annotated[str | None, Element(documentation="What the receiver said when it gave the delivery back")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    at: datetime
    event: str
    receiver: str | None = None
    attempt: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GetStatusResponse:
    message_id: str
    state: Annotated[str, Element(values=("accepted", "delivered", "dead"))]
    sender: str
    service: str
    grade: str
    dossier: str | None
    received_at: datetime
    trace_id: str
    delivery: tuple[DeliveryState, ...]
    event: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GetReceipt:
    message_id: MessageName


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReceipt:
    receiver: str
    receipt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GetReceiptResponse:
    message_id: str
    receipt: str
    delivery: tuple[DeliveryReceipt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchInbox:
    wait: Annotated[int, Element(least=0, greatest=MAX_WAIT_SECONDS, documentation="Seconds to wait for one")] = 0
    max: Annotated[int, Element(least=1, greatest=MAX_DELIVERIES)] = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentFacts:
    name: str
    content_type: str
    sha256: str
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    delivery_id: str
    message_id: str
    sender: str
    receiver: str
    service: str
    dossier: str | None
    content_type: str
    payload: bytes
    manifest: str
    receipt: str
    attempt: int
    lease_until: datetime
    attachment: tuple[AttachmentFacts, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchInboxResponse:
    delivery: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AckDelivery:
    delivery_id: DeliveryName


@dataclass(frozen=True, slots=True, kw_only=True)
class AckDeliveryResponse:
    state: Annotated[str, Element(values=("delivered",))]


@dataclass(frozen=True, slots=True, kw_only=True)
class NackDelivery:
    delivery_id: DeliveryName
    reason: Annotated[str, Element(max_length=MAX_SAID_CHARACTERS)] = ""
    final: Annotated[bool, Element(documentation="true: never send it again")] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NackDeliveryResponse:
    state: Annotated[str, Element(values=("waiting", "dead"))]
