"""The contract of a service, ready to run: what consumers may send, what the provider gets, and the way between them.

A payload has a *form* on each side: a schema, and a language (JSON or XML) that the schema is written in. A consumer
may send either language, and a provider reads one; where the two differ the bus translates by the schema
(:mod:`schemas.bridge`), and where the shapes differ by the service's mapping rules (:mod:`schemas.mapping`)::

    consumer's bytes ─ own form ─[to JSON]─ request_mapping ─ provider's form ─[to its language]─ provider's bytes
    consumer's bytes ─[to its language]─ own form ─ reply_mapping ─[to JSON]─ provider's form ─ provider's bytes

Most services need none of it: then nothing here costs more than a look at the content type. Everything is compiled once
and safe under threads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

import orjson

from registry.dossier_view import DossierFact, DossierReader, Heard
from registry.model import DossierView, Provider, Service
from schemas.codec import read_content_type
from schemas.message import sha256_hex
from schemas.problem import InvalidReply, Malformed, SchemaViolation
from schemas.validation import WELL_FORMED_JSON, WELL_FORMED_XML, PayloadSchema, compile_schema
from schemas.xsd import read_xsd

if TYPE_CHECKING:
    from schemas.bridge import Bridge
    from schemas.mapping import FieldMapping


class Kind(Enum):
    """The two languages that the bus can translate into each other."""

    JSON = "application/json"
    XML = "application/xml"


def kind_of(content_type: str) -> Kind | None:
    """JSON, XML, or neither. Raises Malformed for a Content-Type that cannot be read."""
    declared = read_content_type(content_type)
    if declared.is_json:
        return Kind.JSON
    return Kind.XML if declared.is_xml else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """A payload in the other side's form."""

    body: bytes
    content_type: str


class Form:
    """One side's form of one payload; a :class:`schemas.validation.PayloadSchema` that takes both languages."""

    __slots__ = ("_bridge", "_document", "_mirror", "_native", "element", "kind")

    def __init__(self, document: Mapping[str, Any] | str | None, element: str, default: PayloadSchema) -> None:
        """``default`` is what an undocumented payload is checked against. Raises Malformed for a bad schema."""
        self._document = document
        self._native = default
        self._bridge: Bridge | Malformed | None = None
        self._mirror: PayloadSchema | None = None
        self.element = element
        #: What the schema is written in; None where there is none, and then nothing can be translated.
        self.kind: Kind | None = None
        if document is not None:
            is_xsd = isinstance(document, str)
            self.kind = Kind.XML if is_xsd else Kind.JSON
            # The registration checked it.
            self._native = compile_schema(document, registered=True, element=element if is_xsd else "")

    @property
    def id(self) -> str:
        return self._native.id

    @property
    def digest(self) -> str:
        return self._native.digest

    def validate(self, body: bytes, content_type: str) -> Any:
        """See :class:`schemas.validation.PayloadSchema`; a body in the other language is translated first."""
        kind = self.kind
        if kind is None or kind_of(content_type) in (kind, None):
            return self._native.validate(body, content_type)
        if kind is Kind.XML:
            # First in the sender's own language, so that it is told its own names and places.
            self._mirrored().validate(body, content_type)
        return self._native.validate(self.translated(body, content_type, kind), kind.value)

    def _mirrored(self) -> PayloadSchema:
        """What the XSD says of the payload's JSON."""
        if self._mirror is None:
            self._mirror = compile_schema(self.json_schema, registered=True)
        return self._mirror

    def translated(self, body: bytes, content_type: str, wanted: Kind, parsed: Any = None) -> bytes:
        """The payload in the wanted language; ``parsed`` spares reading XML that :meth:`validate` has read.

        Raises SchemaViolation(payload-not-translatable), Malformed.
        """
        if kind_of(content_type) is wanted:
            return body
        if wanted is Kind.XML:
            return self.bridge().to_xml(body)
        return self.bridge().to_json(body if parsed is None or self.kind is not Kind.XML else parsed)

    def bridge(self) -> Bridge:
        """Both languages of the payload. Raises Malformed(schema-not-bridgeable, place)."""
        if self._bridge is None:
            self._bridge = _bridge_of(self._document, self.element)
        if isinstance(self._bridge, Malformed):
            raise self._bridge.with_traceback(None)
        return self._bridge

    @property
    def json_schema(self) -> Mapping[str, Any]:
        """What the payload is in JSON; anything, where there is no schema. Raises Malformed(schema-not-bridgeable)."""
        if self._document is None:
            return {}
        return self.bridge().json_schema if isinstance(self._document, str) else self._document

    @property
    def is_bridgeable(self) -> bool:
        try:
            self.bridge()
        except Malformed:
            return False
        return True


def _bridge_of(document: Mapping[str, Any] | str | None, element: str) -> Bridge | Malformed:
    """The bridge, or why there is none: that is kept, too, so that nobody can make the bus try again and again."""
    # Imported here: only services that are translated need it, and it reads schemas with a library of 40 MB.
    from schemas.bridge import bridge_json_schema, bridge_xsd

    if document is None:
        return Malformed("schema-not-bridgeable", why="there is none", place="schema")
    try:
        if not isinstance(document, str):
            return bridge_json_schema(document, element)
        return bridge_xsd(document, element or _only_element(document))
    except Malformed as problem:
        return problem


def _only_element(xsd: str) -> str:
    elements = read_xsd(xsd.encode()).elements
    if len(elements) != 1:
        raise Malformed(
            "schema-not-bridgeable", why="several elements may be the root and none is named", place="element"
        )
    return elements[0]


class Contract:
    """Both sides of a service, and the ways between them. Immutable in effect, safe under threads."""

    def __init__(self, service: Service) -> None:
        """Raises Malformed for a schema or a mapping that is none."""
        provider = service.provider or Provider()
        default = WELL_FORMED_JSON if service.content_types == ("application/json",) else AS_DECLARED
        self._content_types = service.content_types
        self.request = Form(service.schema, element_of(service, "request"), default)
        self.reply = Form(service.reply_schema, element_of(service, "reply"), default)
        self.provider_request, self.provider_reply = self.request, self.reply
        if provider.schema is not None:
            self.provider_request = Form(provider.schema, provider.element or self.request.element, default)
        if provider.reply_schema is not None:
            self.provider_reply = Form(provider.reply_schema, provider.reply_element or self.reply.element, default)
        self._request_mapping = _mapping(provider.request_mapping)
        self._reply_mapping = _mapping(provider.reply_mapping)
        #: The language that the provider reads; None: whatever the consumer sent.
        self.provider_kind = Kind(provider.content_type) if provider.content_type else self.provider_request.kind
        self._adapts_requests = self.provider_request is not self.request or self._request_mapping is not None
        self._dossier, self._reply_dossier = _readers(service.dossier)

    def takes(self, content_type: str) -> bool:
        """May a consumer send this type: one that the service names, or the other language of its schema?"""
        # Without parameters: ``Application/JSON; charset=utf-8`` is ``application/json`` (RFC 9110, section 8.3.1).
        media_type = content_type.split(";", 1)[0].strip().lower()
        if content_type in self._content_types or media_type in self._content_types:
            return True
        try:
            return kind_of(content_type) is not None and self.request.is_bridgeable
        except Malformed:
            return False

    def translated_forms(self) -> Iterator[tuple[str, Form]]:
        """The forms that must be bridgeable for what the service says it takes and how it adapts it, by field."""
        if self.request.kind is not None and (self._spoken() | {self.provider_kind}) - {self.request.kind, None}:
            yield "schema", self.request
        # Mapping rules speak of JSON, so whatever is written in XML is translated on the way.
        sides = (
            ("schema", self.request, self.provider_request, self._request_mapping),
            ("reply_schema", self.reply, self.provider_reply, self._reply_mapping),
        )
        for field, own, provided, mapping in sides:
            if own.kind is Kind.XML and (provided is not own or mapping is not None):
                yield field, own
            if provided is not own and provided.kind is not Kind.JSON:
                yield f"provider/{field}", provided

    def _spoken(self) -> set[Kind | None]:
        """The languages of the types that consumers may send."""
        return {kind_of(content_type) for content_type in self._content_types}

    def warm(self) -> None:
        """Make the translations now that calls of this service need, so that none of them waits a second for it."""
        for _, form in self.translated_forms():
            form.bridge()
        if self.reply.kind is not None and (self._spoken() | {self.provider_kind}) - {self.reply.kind, None}:
            _ = self.reply.is_bridgeable  # a reply that is not goes out as the provider wrote it

    def check_request(self, body: bytes, content_type: str) -> Any:
        """The consumer's payload breaks neither its own schema nor, once translated, the provider's. Returns what it
        was read as, which is worth something only to :meth:`dossier_facts`.

        Raises SchemaViolation (payload-breaks-schema, payload-not-translatable, mapping-failed,
        mapped-payload-breaks-schema) and Malformed.
        """
        parsed = self.request.validate(body, content_type)
        if self._adapts_requests:
            carried = self.for_provider(body, content_type) or Translated(body=body, content_type=content_type)
            try:
                self.provider_request.validate(carried.body, carried.content_type)
            except SchemaViolation as problem:
                raise SchemaViolation("mapped-payload-breaks-schema", errors=problem.errors) from None
        return parsed

    def dossier_facts(
        self, body: bytes, content_type: str, heard: Heard, parsed: Any = None
    ) -> tuple[DossierFact, ...]:
        """What a valid request says about dossiers; nothing where the service has no view, or cannot be read as JSON.

        ``parsed`` spares reading again what :meth:`check_request` has read. Never raises for what a payload holds:
        looking on is no reason to refuse.
        """
        return _said(self._dossier, self.request, body, content_type, heard, parsed)

    def reply_facts(self, body: bytes, content_type: str, heard: Heard) -> tuple[DossierFact, ...]:
        """The same for a valid answer as the provider gave it. One that names a dossier and says nothing of it says
        nothing."""
        said = _said(self._reply_dossier, self.reply, body, content_type, heard)
        return tuple(fact for fact in said if not fact.is_empty)

    def for_provider(self, body: bytes, content_type: str) -> Translated | None:
        """A valid request in the provider's form; None when it is in that form already."""
        kind, wanted = kind_of(content_type), self.provider_kind
        if kind is None or wanted is None or (kind is wanted and not self._adapts_requests):
            return None
        carried = _carried(body, content_type, self.request, self._request_mapping, self.provider_request, wanted)
        return Translated(body=carried, content_type=wanted.value)

    def for_consumer(self, body: bytes, content_type: str, wanted: Kind | None) -> Translated | None:
        """The provider's answer, checked, in the consumer's form and language; None when it is so already.

        Raises InvalidReply (reply-breaks-schema, reply-not-translatable).
        """
        try:
            parsed = self.provider_reply.validate(body, content_type)
            kind = kind_of(content_type) if content_type else None
            adapts = self.provider_reply is not self.reply or self._reply_mapping is not None
            if kind is None or wanted is None or self.reply.kind is None:
                return None
            if not adapts and (kind is wanted or not self.reply.is_bridgeable):
                return None
            carried = _carried(body, content_type, self.provider_reply, self._reply_mapping, self.reply, wanted, parsed)
            if adapts:
                self.reply.validate(carried, wanted.value)
        except (SchemaViolation, Malformed) as problem:
            if problem.reason in ("payload-not-translatable", "mapping-failed", "schema-not-bridgeable"):
                raise InvalidReply("reply-not-translatable", errors=problem.errors) from None
            raise InvalidReply("reply-breaks-schema", errors=problem.errors) from None
        return Translated(body=carried, content_type=wanted.value)


def _readers(view: DossierView | None) -> tuple[DossierReader | None, DossierReader | None]:
    """Of requests and of answers; None for a side of which the view says nothing."""
    if view is None or view.reply is None:
        return None if view is None else DossierReader(view), None
    of_requests = replace(view, reply=None)
    return None if of_requests == DossierView() else DossierReader(of_requests), DossierReader(view.reply)


def _said(
    reader: DossierReader | None, form: Form, body: bytes, content_type: str, heard: Heard, parsed: Any = None
) -> tuple[DossierFact, ...]:
    if reader is None:
        return ()
    try:
        kind = kind_of(content_type)
        if kind is None:
            return ()
        if kind is Kind.JSON and isinstance(parsed, dict | list):
            return reader.read(parsed, heard)
        document = orjson.loads(form.translated(body, content_type, Kind.JSON))
    except (SchemaViolation, Malformed, orjson.JSONDecodeError):
        return ()
    return reader.read(document, heard)


def _carried(
    body: bytes,
    content_type: str,
    source: Form,
    mapping: FieldMapping | None,
    target: Form,
    wanted: Kind,
    parsed: Any = None,
) -> bytes:
    """From one form to the other by way of JSON, which is what mapping rules speak of."""
    if source is target and mapping is None:
        return source.translated(body, content_type, wanted, parsed)
    document = source.translated(body, content_type, Kind.JSON, parsed)
    if mapping is not None:
        document = _written(mapping.apply(json.loads(document, parse_float=_decimal)))
    return target.translated(document, Kind.JSON.value, wanted)


def _mapping(rules: tuple[Mapping[str, Any], ...]) -> FieldMapping | None:
    if not rules:
        return None
    from schemas.mapping import compile_mapping

    return compile_mapping(rules)


def _written(value: Any) -> bytes:
    """JSON in which a decimal has the very digits that it came with."""
    return orjson.dumps(value, default=_digits)


def _decimal(text: str) -> Decimal:
    value = Decimal(text)
    # ``1e-999999999`` is short to send and a gigabyte to write out.
    if value and abs(value.adjusted()) > _MAX_DIGITS:
        raise Malformed("json-number-too-large")
    return value


#: Digits before or after the point: more than any IEEE 754 double has.
_MAX_DIGITS = 400


def _digits(value: Any) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f"))
    raise TypeError


def element_of(service: Service, side: str) -> str:
    """The root element of one side (``request`` or ``reply``) in XML, ``{namespace}name``; empty where an XSD leaves it
    open."""
    named = service.element if side == "request" else service.reply_element
    document = service.schema if side == "request" else service.reply_schema
    if named or isinstance(document, str):
        return named
    return f"{{urn:lgsp:service:{service.code}:{service.version}:{side}}}{operation_name(service)}{_SUFFIX[side]}"


#: What toolkits expect of a wrapped operation: the request has its name, the reply ``Response`` after it.
_SUFFIX = {"request": "", "reply": "Response"}


def operation_name(service: Service) -> str:
    """The service as the name of an operation: ``enterprise.filing-status`` is ``EnterpriseFilingStatus``."""
    return "".join(word.capitalize() for word in re.split(r"[.-]", service.code))


class _AsDeclared:
    """Where a service has no schema: JSON and XML must be well formed, other types are taken as they are."""

    __slots__ = ()
    id = "urn:lgsp:schema:as-declared"
    digest = sha256_hex(id.encode())

    def validate(self, body: bytes, content_type: str) -> Any:
        declared = read_content_type(content_type)
        if declared.is_json:
            return WELL_FORMED_JSON.validate(body, content_type)
        return WELL_FORMED_XML.validate(body, content_type) if declared.is_xml else body


AS_DECLARED: PayloadSchema = _AsDeclared()
