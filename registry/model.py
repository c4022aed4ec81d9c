"""The registry's values: Agency, System, Service, Grant, Subscription and the policies they carry.

All are frozen and safe to share between threads. Durations carry their unit in the name, times are aware UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any

from schemas.identifiers import AgencyCode, ServiceCode, SystemCode
from schemas.message import Grade


class Pattern(StrEnum):
    """A one-way message ends its call with a receipt; a request-reply call ends with the provider's reply."""

    ONE_WAY = "one-way"
    REQUEST_REPLY = "request-reply"


class Ordering(StrEnum):
    """Whether messages of one dossier to one receiver wait for each other."""

    NONE = "none"
    DOSSIER = "dossier"


class Stage(StrEnum):
    """Life of a service version: draft → sandbox → published → deprecated → retired."""

    DRAFT = "draft"
    SANDBOX = "sandbox"
    PUBLISHED = "published"
    DEPRECATED = "deprecated"
    RETIRED = "retired"


class DeliveryMode(StrEnum):
    """How a system gets its messages: the bus calls it (push), it fetches them from the bus (inbox), or it takes them,
    sealed, from a queue of its own at the broker (amqp)."""

    PUSH = "push"
    INBOX = "inbox"
    AMQP = "amqp"

    @property
    def is_delivered(self) -> bool:
        """Does the bus bring what is due, rather than wait until it is fetched?"""
        return self is not DeliveryMode.INBOX


@dataclass(frozen=True, slots=True, kw_only=True)
class Agency:
    """A member of the bus: a ministry, province, department, commune. Agencies form a tree of any depth."""

    code: AgencyCode
    name: str
    parent: AgencyCode | None = None
    #: Other spellings of the same agency (QCVN 102:2016 and local ones), each unique in the registry.
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where and how the bus calls a system."""

    #: Name in the table of connectors (``rest``, ``national_portal``, …).
    connector: str
    url: str
    #: Longest wait for one call, connect and read together, in seconds. Must stay under the delivery lease.
    timeout_seconds: float = 20.0
    #: Name of the sealed secret that the connector needs, if any; its value never leaves the secret store in clear.
    secret: str = ""
    #: What else the connector reads, checked by the connector itself.
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A public key that a system signs with. Several may be valid at once, so that keys rotate with overlap."""

    #: RFC 7638 thumbprint of the public key, base64url: the ``kid`` of its signatures.
    key_id: str
    pem: str
    #: SHA-256 of the DER certificate, base64url: the ``x5t#S256`` of its signatures.
    thumbprint: str
    not_before: datetime
    not_after: datetime
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A software system of an agency: it signs, sends and receives on its agency's behalf."""

    code: SystemCode
    name: str
    mode: DeliveryMode = DeliveryMode.INBOX
    endpoint: Endpoint | None = None
    certificates: tuple[Certificate, ...] = ()
    #: Services this system takes for its agency; empty means all that no other system of the agency names.
    receives: tuple[ServiceCode, ...] = ()
    #: Services this system may send, of those that its agency may: a kiosk, a sensor. It then reads no message but its
    #: own. Empty means all, and that it reads what its agency may read.
    sends: tuple[ServiceCode, ...] = ()
    #: Takes no messages at all; set it on a second system, so that the agency's mail has one unmistakable address.
    sends_only: bool = False
    #: Most calls that the bus makes to this system at once.
    concurrency: int = 50
    #: May this system also speak for the agencies below its own (a one-stop for its communes)?
    speaks_for_children: bool = False
    #: argon2id hash of the client secret, for callers that fetch a token instead of signing; empty: no tokens.
    client_secret_hash: str = ""
    suspended: bool = False

    @property
    def agency(self) -> AgencyCode:
        return self.code.agency

    @property
    def keys_end(self) -> datetime | None:
        """When it can sign no more: an older key beside a newer one may end, that is how keys are changed. None: it
        has no key that counts now, or is suspended."""
        ends = [held.not_after for held in self.certificates if held.revoked_at is None]
        return max(ends, default=None) if not self.suspended else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a failed delivery is tried again: exponential backoff with full jitter, until attempts or time run out."""

    max_attempts: int = 20
    #: From the moment of acceptance.
    give_up_after_seconds: int = 72 * 3600
    first_delay_seconds: float = 2.0
    factor: float = 2.0
    max_delay_seconds: float = 3600.0 * 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SoapCall:
    """A provider's operation as its WSDL describes it: what the ``soap`` connector needs to call it."""

    #: The text of the WSDL 1.1, complete in itself: nothing is fetched when it is read.
    wsdl: str
    operation: str
    #: Which port, where several offer the operation; empty: the first SOAP port that does.
    port: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCall:
    """A provider's operation as its OpenAPI describes it: what the ``rest`` connector needs to call it.

    Members of the JSON payload that ``path`` (as ``{name}``), ``query`` or ``headers`` name travel there.
    """

    method: str = "POST"
    #: Appended to the endpoint's URL, with ``{name}`` where a member goes.
    path: str = ""
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    #: What is sent as the body: ``*`` the whole payload, a member's name that member, empty nothing.
    body: str = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """The provider's side of a service, where it is not simply a POST of what the consumer sent.

    The service's own ``schema`` and ``reply_schema`` are the contract with consumers, in JSON or in XML: a consumer may
    send either, the bus translates. What stands here is the provider's form; what is left out is as the service says.
    """

    #: What the provider reads, ``application/json`` or ``application/xml``; empty: by the kind of its schema.
    content_type: str = ""
    schema: Mapping[str, Any] | str | None = None
    reply_schema: Mapping[str, Any] | str | None = None
    element: str = ""
    reply_element: str = ""
    #: Rules of :mod:`schemas.mapping` from the consumer's form to the provider's, and from its reply back.
    request_mapping: tuple[Mapping[str, Any], ...] = ()
    reply_mapping: tuple[Mapping[str, Any], ...] = ()
    call: SoapCall | HttpCall | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentView:
    """Where a payload speaks of a payment for its dossier. Pointers as in :class:`DossierView`."""

    #: Whole đồng, a number or digits.
    amount: str = ""
    #: The payment's own reference, which stays the same from request to refund.
    reference: str = ""
    state: str = ""
    #: The state as written → ``requested``, ``paid``, ``failed``, ``refunded``; ``""`` stands for a missing state.
    states: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParcelView:
    """Where a payload speaks of a postal item that carries the dossier's papers."""

    #: The post's own code, by which it is tracked.
    code: str = ""
    state: str = ""
    #: The state as written → words for people; one that is missing here is told as it was written.
    states: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DossierView:
    """What the payloads of a service say about dossiers, for the trace and the statistics.

    Places are JSON Pointers (RFC 6901) into the payload, or into each of its ``items``; empty: the payload does not
    say it. A place may lead on into JSON that stands there as text. A payload in XML is read as the JSON that its XSD
    makes of it. Nothing here refuses a message: what cannot
    be read was not said. None of it may point at a person; it is kept when bodies are erased.
    """

    #: An array of which every item speaks of a dossier; where it is missing the whole payload does.
    items: str = ""
    #: The dossier's code; where it is missing, that of the message's manifest.
    code: str = ""
    #: Other codes of the same dossier.
    aliases: tuple[str, ...] = ()
    #: The agency whose dossier it is; where it is missing, the one in the code.
    unit: str = ""
    #: When it happened; where it is missing, when the message was accepted.
    at: str = ""
    #: Patterns of :mod:`schemas.date_format`, tried in their order.
    dates: tuple[str, ...] = ()
    status: str = ""
    #: The name of a list in ``schemas.codes.LOCAL_STATUSES``, or a table: status as written → national status;
    #: ``""`` on the left stands for a missing status, on the right for one that has no national counterpart.
    statuses: str | Mapping[str, str] = "national"
    received: str = ""
    due: str = ""
    finished: str = ""
    #: Who has the dossier in hand from then on: a pointer, or ``sender`` or ``receiver`` of the message.
    holder: str = ""
    procedure: str = ""
    #: How it came in, a code of ``schemas.codes.CHANNELS``.
    channel: str = ""
    payment: PaymentView | None = None
    parcel: ParcelView | None = None
    #: Once delivered, the dossier counts as synchronised to the national portal.
    synchronises: bool = False
    #: The same for the answers of a request-reply service; in it ``sender`` is who answers. An answer that the bus has
    #: to translate says nothing.
    reply: DossierView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One version of a data service."""

    code: ServiceCode
    version: int
    name: str
    owner: AgencyCode
    pattern: Pattern
    stage: Stage = Stage.PUBLISHED
    grade: Grade = Grade.SIGNED
    ordering: Ordering = Ordering.NONE
    content_types: tuple[str, ...] = ("application/json",)
    #: JSON Schema 2020-12 (a JSON object) or XSD (its text, or several in a ``wsdl:types`` element) of the request
    #: payload; None: any well-formed document.
    schema: Mapping[str, Any] | str | None = None
    #: The same for the reply of a request-reply service.
    reply_schema: Mapping[str, Any] | str | None = None
    #: The root of the payload in XML, as ``{namespace}name``; empty: any global element of the XSD, and for a JSON
    #: Schema the name that ``registry.contract.element_of`` makes of the service's code.
    element: str = ""
    reply_element: str = ""
    provider: Provider | None = None
    #: What its payloads say about dossiers; None: nothing that the bus should know.
    dossier: DossierView | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    #: Most bytes of one payload.
    max_body_bytes: int = 2 * 1024 * 1024
    sunset: datetime | None = None

    @property
    def key(self) -> str:
        """``code/version``, as written in headers, logs and the console."""
        return f"{self.code}/{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Most messages in a minute and in a day (Asia/Ho_Chi_Minh); 0 means no limit."""

    per_minute: int = 0
    per_day: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The right of an agency to use a service, for stated purposes, until a date."""

    id: str
    service: ServiceCode
    #: Who may send. A grant to an agency does not reach its children unless ``include_children``.
    grantee: AgencyCode
    include_children: bool = False
    #: Whom it may address; empty means any receiver that takes the service.
    receivers: tuple[AgencyCode, ...] = ()
    #: Purposes that a message may state; empty means that none need be stated and any is taken.
    purposes: tuple[str, ...] = ()
    valid_from: datetime | None = None
    expires_at: datetime | None = None
    quota: Quota = field(default_factory=Quota)


class EventDelivery(StrEnum):
    """How a subscriber gets its events: from a queue of its own at the broker, or as messages of the bus."""

    QUEUE = "queue"
    MESSAGE = "message"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A system is told of events (:mod:`schemas.events`). It is itself the permission; what a system may not see it is
    not told of, whatever it has subscribed to.
    """

    id: str
    #: Who is told.
    system: SystemCode
    #: Types of events; one that ends in ``*`` stands for all that begin so.
    types: tuple[str, ...]
    delivery: EventDelivery = EventDelivery.MESSAGE
    #: Only dossiers of these agencies and of those below them; empty: of all.
    units: tuple[AgencyCode, ...] = ()
    #: Only dossiers of these procedures; empty: of all.
    procedures: tuple[str, ...] = ()
    #: Only what these agencies said; empty: what anybody did.
    senders: tuple[AgencyCode, ...] = ()

    def wants(self, event_type: str) -> bool:
        """Is it about events of this type?"""
        return any(
            event_type.startswith(wanted[:-1]) if wanted.endswith("*") else event_type == wanted
            for wanted in self.types
        )


#: What the registry is made of.
Entry = Agency | System | Service | Grant | Subscription


def provider_facts(provider: Provider) -> dict[str, Any]:
    """A provider's side as JSON types, without defaults; :func:`provider_from` reads it."""
    facts = _set_facts(provider)
    call = facts.pop("call", None)
    if call is not None:
        facts["soap" if isinstance(call, SoapCall) else "http"] = _set_facts(call)
    return facts


def provider_from(facts: Mapping[str, Any]) -> Provider:
    """The provider's side that :func:`provider_facts` or a manifest states."""
    made = {name: value for name, value in facts.items() if name not in {"soap", "http"}}
    for name in ("request_mapping", "reply_mapping"):
        made[name] = tuple(made.get(name, ()))
    if "soap" in facts:
        made["call"] = SoapCall(**facts["soap"])
    elif "http" in facts:
        http: dict[str, Any] = dict(facts["http"])
        http |= {name: tuple(http[name]) for name in ("query", "headers") if name in http}
        made["call"] = HttpCall(**http)
    return Provider(**made)


def dossier_facts(view: DossierView) -> dict[str, Any]:
    """A dossier view as JSON types, without defaults; :func:`dossier_view_from` reads it."""
    facts = _set_facts(view)
    for name in ("payment", "parcel"):
        if name in facts:
            facts[name] = _set_facts(facts[name])
    if view.reply is not None:
        facts["reply"] = dossier_facts(view.reply)
    return facts


def dossier_view_from(facts: Mapping[str, Any]) -> DossierView:
    """The view that :func:`dossier_facts` or a manifest states."""
    made = dict(facts)
    for name in ("aliases", "dates"):
        made[name] = tuple(made.get(name, ()))
    if "payment" in made:
        made["payment"] = PaymentView(**made["payment"])
    if "parcel" in made:
        made["parcel"] = ParcelView(**made["parcel"])
    if "reply" in made:
        made["reply"] = dossier_view_from(made["reply"])
    return DossierView(**made)


def _set_facts(value: Any) -> dict[str, Any]:
    """The fields that differ from their defaults; tuples as lists."""
    given = ((item, getattr(value, item.name)) for item in fields(value))
    return {item.name: list(fact) if isinstance(fact, tuple) else fact for item, fact in given if fact != item.default}
