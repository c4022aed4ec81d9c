"""edXML, the packet in which document systems exchange official documents (QCVN 102:2016/BTTTT, annex to TT 10/2016).

::

    <edXML xmlns="http://www.mic.gov.vn/TBT/QCVN_102_2016">            in samples with the prefix edXML: below the root
      <edXMLEnvelope>
        <edXMLHeader>
          <MessageHeader>                         or <Status> | <MessageHeader> with a StatusCode: a status document
            <From><OrganId/>…</From> <To>…</To>*  DocumentId  Code  PromulgationInfo  DocumentType  Subject  Content
            SignerInfo  DueDate  ToPlaces  OtherInfo  ResponseFor*  SteeringType
          </MessageHeader>
          <TraceHeaderList><TraceHeader><OrganId/><Timestamp/></TraceHeader>*
            <Bussiness><BussinessDocType/>…</Bussiness></TraceHeaderList>
          <Signature/>
        </edXMLHeader>
        <edXMLBody><edXMLManifest><Reference><ContentId>cid:a</ContentId>…</Reference>*</edXMLManifest></edXMLBody>
      </edXMLEnvelope>
      <AttachmentEncoded><Attachment><ContentId>a</ContentId>
        <ContentTransferEncoded>base64 of a zip</ContentTransferEncoded>…</Attachment>*</AttachmentEncoded>
    </edXML>

    <EdXMLEnvelope xmlns="http://www.go.vn/eDoc">                      the old dialect: no header and body
      <MessageHeader>… <DocumentType>Công văn</DocumentType> …<TraceHeaderList/></MessageHeader>
      <Manifest><Attachment><FileName/><FileType/><Content>base64</Content></Attachment>*</Manifest>

Source: vietnam.md 4.19 and 3.7 (VXP, BKAV, LS-EOFF). Both dialects are read, QCVN 102:2016 is written. Names that look
misspelt (Bussiness, TyperNotation) are the standard's own, and the fields here keep them (P25): the element of a field
is its name in capitals, ``typer_notation`` is ``TyperNotation``.

A reader meets bytes before the root, in a sample of the axis's own kit the digits ``1212`` (P16). Up to
``MAX_STRAY_BYTES`` are skipped, and the value says how many there were. All is pure and safe under threads.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lxml import etree

from schemas.codec import read_xml
from schemas.date_format import DatePattern, read_date_pattern
from schemas.identifiers import AgencyCode
from schemas.moment import VIETNAM
from schemas.problem import Malformed

if TYPE_CHECKING:
    from lxml.etree import _Element

NAMESPACE: Final = "http://www.mic.gov.vn/TBT/QCVN_102_2016"
OLD_NAMESPACE: Final = "http://www.go.vn/eDoc"
XMLDSIG: Final = "http://www.w3.org/2000/09/xmldsig#"

#: Bytes before the root that are skipped; the known sample has four.
MAX_STRAY_BYTES: Final = 64
#: Documents go to hundreds of receivers at once; each is a dozen elements.
MAX_ELEMENTS: Final = 100_000
#: Most bytes of one document on the axis, and most that its attachments may unpack to: 50 MB (vietnam.md 4.19).
MAX_FILE_BYTES: Final = 50 * 1024 * 1024
#: Files in one attachment; an attachment is one file in a zip, some systems add its annexes.
MAX_ZIP_FILES: Final = 100

DATE: Final = read_date_pattern("yyyy/MM/dd")
TIMESTAMP: Final = read_date_pattern("yyyy/MM/dd HH:mm:ss")

#: Status codes (vietnam.md 3.7; VXP, BKAV). 13 is what the sender of a recall sees until the receivers say 15 or 16.
STATUS_CODES: Final = {
    "01": "đã đến",
    "02": "từ chối tiếp nhận",
    "03": "đã tiếp nhận",
    "04": "phân công",
    "05": "đang xử lý",
    "06": "hoàn thành",
    "13": "yêu cầu lấy lại",
    "15": "đồng ý yêu cầu cập nhật, lấy lại",
    "16": "từ chối yêu cầu cập nhật, lấy lại",
}

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
#: At most four groups (BKAV Checker); the signs are those of both spellings of the code.
_ORGAN_ID: Final = re.compile(r"[A-Za-z0-9]{1,13}(?:\.[A-Za-z0-9]{1,13}){0,3}")
_ROOT: Final = re.compile(rb"<(?:\?xml\s|!--|(?:[A-Za-z_][\w.-]*:)?[Ee]dXML)")
_Texts = TypeVar("_Texts")


class Dialect(StrEnum):
    """Which of the two living forms a document was written in."""

    QCVN_102 = "QCVN_102_2016"
    OLD = "go.vn/eDoc"


class BussinessDocType(IntEnum):
    """What a document does to earlier ones."""

    NEW = 0
    RECALL = 1
    UPDATE = 2
    REPLACE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    organ_id: str = ""
    organization_in_charge: str = ""
    organ_name: str = ""
    organ_add: str = ""
    email: str = ""
    telephone: str = ""
    fax: str = ""
    website: str = ""

    @property
    def agency(self) -> AgencyCode:
        """Whom ``organ_id`` names, in either spelling. Raises Malformed."""
        return AgencyCode.parse(self.organ_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    code_number: str = ""
    code_notation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromulgationInfo:
    place: str = ""
    #: ``yyyy/MM/dd``.
    promulgation_date: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentType:
    """The old dialect has the name alone."""

    type: str = ""
    type_detail: str = ""
    type_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerInfo:
    competence: str = ""
    position: str = ""
    function: str = ""
    full_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherInfo:
    priority: str = ""
    sphere_of_promulgation: str = ""
    typer_notation: str = ""
    promulgation_amount: str = ""
    page_amount: str = ""
    direction: str = ""
    appendixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseFor:
    """The document that this one answers, or (in a recall) takes back."""

    organ_id: str = ""
    code: str = ""
    promulgation_date: str = ""
    document_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StaffInfo:
    department: str = ""
    staff: str = ""
    email: str = ""
    mobile: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceHeader:
    organ_id: str = ""
    #: ``yyyy/MM/dd HH:mm:ss``.
    timestamp: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """A receiver that an update adds or takes away."""

    organ_id: str = ""
    receiver_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BussinessDocumentInfo:
    """What an update changes: the document's own facts, its receivers."""

    document_info: str = ""
    document_receiver: str = ""
    receiver_list: tuple[Receiver, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacementInfo:
    """A document that is replaced, and for whom."""

    document_id: str = ""
    organ_id_list: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bussiness:
    bussiness_doc_type: str = "0"
    bussiness_doc_reason: str = ""
    document_id: str = ""
    paper: str = ""
    staff_info: StaffInfo | None = None
    bussiness_document_info: BussinessDocumentInfo | None = None
    replacement_info_list: tuple[ReplacementInfo, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One attached file. ``content_id`` is without ``cid:``; without ``encoded`` the packet only promises it."""

    content_id: str = ""
    attachment_name: str = ""
    content_type: str = ""
    description: str = ""
    #: Base64, as it stands in the packet.
    encoded: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """An official document in its packet."""

    sender: Organization
    receivers: tuple[Organization, ...]
    document_id: str = ""
    code: Code = field(default_factory=Code)
    promulgation_info: PromulgationInfo = field(default_factory=PromulgationInfo)
    document_type: DocumentType = field(default_factory=DocumentType)
    subject: str = ""
    content: str = ""
    signer_info: SignerInfo = field(default_factory=SignerInfo)
    due_date: str = ""
    to_places: tuple[str, ...] = ()
    other_info: OtherInfo = field(default_factory=OtherInfo)
    response_for: tuple[ResponseFor, ...] = ()
    steering_type: str = ""
    trace: tuple[TraceHeader, ...] = ()
    bussiness: Bussiness = field(default_factory=Bussiness)
    attachments: tuple[Attachment, ...] = ()
    dialect: Dialect = Dialect.QCVN_102
    #: Bytes that stood before the root and are no part of the document.
    stray_bytes: int = 0
    #: Is there a signature that can be judged? The kit's samples have one in the wrong namespace, which proves nothing.
    is_signed: bool = False

    @property
    def bussiness_doc_type(self) -> BussinessDocType | None:
        """None for a number that the standard does not know."""
        found = self.bussiness.bussiness_doc_type.strip() or "0"
        return BussinessDocType(int(found)) if found in {"0", "1", "2", "3"} else None

    @property
    def concerns(self) -> tuple[str, ...]:
        """Ids of the documents that a recall, an update or a replacement is about, each once."""
        replaced = (info.document_id for info in self.bussiness.replacement_info_list)
        answered = (response.document_id for response in self.response_for)
        named = [text for text in (*replaced, *answered, self.bussiness.document_id) if text]
        return tuple(dict.fromkeys(named)) if self.bussiness_doc_type != BussinessDocType.NEW else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusDocument:
    """What a receiver did with a document (messagetype ``status``)."""

    sender: Organization
    response_for: ResponseFor
    status_code: str
    description: str = ""
    timestamp: str = ""
    staff_info: StaffInfo | None = None
    dialect: Dialect = Dialect.QCVN_102
    stray_bytes: int = 0
    is_signed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentId:
    """The name of a document between agencies: ``organ,yyyy/MM/dd,number/notation``, or a UUID."""

    text: str
    #: None in the form of a UUID.
    organ_id: str | None = None
    promulgated: datetime | None = None
    number: str | None = None

    @classmethod
    def parse(cls, text: str) -> DocumentId:
        """Raises Malformed ``edxml-document-id``."""
        if _UUID.fullmatch(text):
            return cls(text=text.lower())
        organ_id, _, rest = text.partition(",")
        day, _, number = rest.partition(",")
        promulgated = DATE.read(day)
        if not _ORGAN_ID.fullmatch(organ_id) or promulgated is None or not number.strip() or "\n" in text:
            raise Malformed("edxml-document-id")
        return cls(text=text, organ_id=organ_id, promulgated=promulgated, number=number)


# ---- Reading


def read_edxml(data: bytes) -> Document | StatusDocument:
    """The document in a packet of either dialect.

    Raises Malformed: ``edxml-unknown`` (no edXML at all, or another dialect), ``edxml-incomplete`` (no header),
    ``edxml-twice`` (an element that may stand once stands there twice, so that two readers may read two documents) and
    the reasons of :func:`schemas.codec.read_xml`.
    """
    body = without_stray_bytes(data)
    root = read_xml(body, max_elements=MAX_ELEMENTS)
    stray = len(data) - len(body)
    name = etree.QName(root)
    if name.namespace == NAMESPACE and name.localname in ("edXML", "edXMLEnvelope"):
        return _read_qcvn(root, stray)
    if name.namespace == OLD_NAMESPACE and name.localname.lower() == "edxmlenvelope":
        return _read_old(root, stray)
    raise Malformed("edxml-unknown")


def without_stray_bytes(data: bytes) -> bytes:
    """The packet itself, from its first sign on; a byte order mark right before it belongs to it.

    Markup is no stray byte. Raises Malformed ``edxml-unknown``.
    """
    found = _ROOT.search(data, 0, MAX_STRAY_BYTES + 64)
    start = -1 if found is None else found.start()
    if not 0 <= start <= MAX_STRAY_BYTES or b"<" in data[:start]:
        raise Malformed("edxml-unknown")
    return data if data[:start] == codecs.BOM_UTF8 else data[start:]


def _read_qcvn(root: _Element, stray: int) -> Document | StatusDocument:
    envelope = root if etree.QName(root).localname == "edXMLEnvelope" else _child(root, "edXMLEnvelope")
    header = _child(envelope, "edXMLHeader")
    message, status = _child(header, "MessageHeader"), _child(header, "Status")
    is_signed = header is not None and header.find(f"{{{XMLDSIG}}}Signature") is not None
    if message is not None and status is not None:
        raise Malformed("edxml-twice", element="Status")
    if status is not None or (message is not None and _child(message, "StatusCode") is not None):
        return _status(status if status is not None else message, Dialect.QCVN_102, stray, is_signed)
    if message is None:
        raise Malformed("edxml-incomplete")
    trace = _child(header, "TraceHeaderList")
    holder, inner = _child(root, "AttachmentEncoded"), _child(envelope, "AttachmentEncoded")
    if holder is not None and inner is not None and holder is not inner:
        raise Malformed("edxml-twice", element="AttachmentEncoded")
    return replace(
        _document(message),
        trace=tuple(_texts(TraceHeader, item) for item in _children(trace, "TraceHeader")),
        bussiness=_bussiness(_child(trace, "Bussiness")),
        attachments=_attachments(
            _child(_child(envelope, "edXMLBody"), "edXMLManifest"), inner if holder is None else holder
        ),
        stray_bytes=stray,
        is_signed=is_signed,
    )


def _read_old(root: _Element, stray: int) -> Document | StatusDocument:
    header = _child(root, "MessageHeader")
    if header is None:
        raise Malformed("edxml-incomplete")
    if _child(header, "StatusCode") is not None:
        return _status(header, Dialect.OLD, stray, is_signed=False)
    document = _document(header)
    signer = _child(header, "SignerInfo")
    kind = _child(header, "DocumentType")
    trace = _child(header, "TraceHeaderList")
    files = _children(_child(root, "Manifest"), "Attachment")
    return replace(
        document,
        document_type=document.document_type
        if kind is None or len(kind)
        else DocumentType(type_name=_text(header, "DocumentType")),
        signer_info=replace(document.signer_info, full_name=document.signer_info.full_name or _text(signer, "Signer")),
        trace=tuple(_old_trace(item) for item in _children(trace, "TraceHeader")),
        bussiness=_bussiness(_child(trace, "Bussiness")),
        attachments=tuple(_old_attachment(item, number) for number, item in enumerate(files, 1)),
        dialect=Dialect.OLD,
        stray_bytes=stray,
    )


def _document(header: _Element) -> Document:
    """What both dialects have alike."""
    sender = _child(header, "From")
    other = _child(header, "OtherInfo")
    appendixes = _child(other, "Appendixes")
    return Document(
        sender=_texts(Organization, sender),
        receivers=tuple(_texts(Organization, item) for item in _children(header, "To")),
        document_id=_text(header, "DocumentId"),
        code=_texts(Code, _child(header, "Code")),
        promulgation_info=_texts(PromulgationInfo, _child(header, "PromulgationInfo")),
        document_type=_texts(DocumentType, _child(header, "DocumentType")),
        subject=_text(header, "Subject"),
        content=_text(header, "Content"),
        signer_info=_texts(SignerInfo, _child(header, "SignerInfo")),
        due_date=_text(header, "DueDate"),
        to_places=_listed(_child(header, "ToPlaces"), "Place"),
        other_info=replace(
            _texts(OtherInfo, other), appendixes=_listed(other if appendixes is None else appendixes, "Appendix")
        ),
        response_for=tuple(_texts(ResponseFor, item) for item in _children(header, "ResponseFor") if len(item)),
        steering_type=_text(header, "SteeringType"),
    )


def _status(header: _Element | None, dialect: Dialect, stray: int, is_signed: bool) -> StatusDocument:
    staff = _child(header, "StaffInfo")
    return StatusDocument(
        sender=_texts(Organization, _child(header, "From")),
        response_for=_texts(ResponseFor, _child(header, "ResponseFor")),
        status_code=_text(header, "StatusCode"),
        description=_text(header, "Description"),
        timestamp=_text(header, "Timestamp"),
        staff_info=None if staff is None else _texts(StaffInfo, staff),
        dialect=dialect,
        stray_bytes=stray,
        is_signed=is_signed,
    )


def _bussiness(element: _Element | None) -> Bussiness:
    if element is None:
        return Bussiness()
    staff, info = _child(element, "StaffInfo"), _child(element, "BussinessDocumentInfo")
    replaced = _children(_child(element, "ReplacementInfoList"), "ReplacementInfo")
    return replace(
        _texts(Bussiness, element),
        staff_info=None if staff is None else _texts(StaffInfo, staff),
        bussiness_document_info=None
        if info is None
        else replace(
            _texts(BussinessDocumentInfo, info),
            receiver_list=tuple(_texts(Receiver, item) for item in _children(_child(info, "ReceiverList"), "Receiver")),
        ),
        replacement_info_list=tuple(
            ReplacementInfo(
                document_id=_text(item, "DocumentId"), organ_id_list=_listed(_child(item, "OrganIdList"), "OrganId")
            )
            for item in replaced
        ),
    )


def _attachments(manifest: _Element | None, holder: _Element | None) -> tuple[Attachment, ...]:
    """Those that the manifest names, in its order, then those that it does not; joined by ContentId."""
    found: dict[str, Attachment] = {}
    for item in _children(manifest, "Reference"):
        named = _texts(Attachment, item)
        key = named.content_id.removeprefix("cid:")
        _once(found, key, "Reference")
        found[key] = replace(named, content_id=key, encoded="")
    seen: dict[str, None] = {}
    for item in _children(holder, "Attachment"):
        held = _texts(Attachment, item)
        key = held.content_id.removeprefix("cid:")
        _once(seen, key, "Attachment")
        seen[key] = None
        known = found.get(key, replace(held, content_id=key))
        found[key] = replace(
            known,
            attachment_name=known.attachment_name or held.attachment_name,
            content_type=known.content_type or held.content_type,
            encoded=_text(item, "ContentTransferEncoded"),
        )
    return tuple(found.values())


def _once(found: Iterable[str], key: str, element: str) -> None:
    if key in found:
        raise Malformed("edxml-twice", element=element)


def _old_attachment(element: _Element, number: int) -> Attachment:
    return Attachment(
        content_id=_text(element, "ContentId").removeprefix("cid:") or f"att{number}",
        attachment_name=_text(element, "FileName") or _text(element, "AttachmentName"),
        content_type=_text(element, "FileType") or _text(element, "ContentType"),
        description=_text(element, "Description"),
        encoded=_text(element, "Content"),
    )


def _old_trace(element: _Element) -> TraceHeader:
    known = _texts(TraceHeader, element)
    return TraceHeader(
        organ_id=known.organ_id or _text(_child(element, "Path"), "From"),
        timestamp=known.timestamp or _text(element, "Time"),
    )


def _texts(kind: type[_Texts], element: _Element | None) -> _Texts:
    """A value whose plain text fields are the children of their names; fields of other types keep their default."""
    plain = [item.name for item in fields(kind) if item.type == "str" and item.name != "encoded"]  # type: ignore[arg-type]
    found = {name: _text(element, _element_name(name)) for name in plain}
    return kind(**{name: text for name, text in found.items() if text})


def _element_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _children(parent: _Element | None, name: str) -> list[_Element]:
    """Children of this name in the packet's namespace, or in none: the kits lose it around attachments."""
    if parent is None:
        return []
    taken = {f"{{{NAMESPACE}}}{name}", f"{{{OLD_NAMESPACE}}}{name}", name}
    return [item for item in parent if item.tag in taken]


def _child(parent: _Element | None, name: str) -> _Element | None:
    found = _children(parent, name)
    if len(found) > 1:
        raise Malformed("edxml-twice", element=name)
    return found[0] if found else None


def _text(parent: _Element | None, name: str) -> str:
    element = _child(parent, name)
    if element is None:
        return ""
    if not len(element):
        return (element.text or "").strip()
    # A comment in a value is not signed, and some readers take only what stands before it. Here: all, if it is text.
    if element.find("*") is not None:
        return ""
    return "".join([element.text or "", *(inner.tail or "" for inner in element)]).strip()


def _listed(parent: _Element | None, name: str) -> tuple[str, ...]:
    texts = ((item.text or "").strip() for item in _children(parent, name))
    return tuple(text for text in texts if text)


# ---- Writing


def write_edxml(document: Document | StatusDocument) -> bytes:
    """The packet in QCVN 102:2016, UTF-8, unsigned: a signature covers bytes, and these are new ones."""
    root = etree.Element(f"{{{NAMESPACE}}}edXML", nsmap={None: NAMESPACE})  # type: ignore[dict-item]  # lxml's default
    envelope = _add(root, "edXMLEnvelope")
    header = _add(envelope, "edXMLHeader")
    if isinstance(document, StatusDocument):
        _write_status(_add(header, "MessageHeader"), document)
    else:
        _write_header(_add(header, "MessageHeader"), document)
        _write_trace(_add(header, "TraceHeaderList"), document)
        _write_attachments(root, envelope, document.attachments)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + etree.tostring(root, encoding="UTF-8")


def _write_header(header: _Element, document: Document) -> None:
    _add_texts(_add(header, "From"), document.sender)
    for receiver in document.receivers:
        _add_texts(_add(header, "To"), receiver)
    _add(header, "DocumentId", document.document_id)
    _add_texts(_add(header, "Code"), document.code)
    _add_texts(_add(header, "PromulgationInfo"), document.promulgation_info)
    _add_texts(_add(header, "DocumentType"), document.document_type)
    _add(header, "Subject", document.subject)
    _add(header, "Content", document.content)
    _add_texts(_add(header, "SignerInfo"), document.signer_info)
    _add(header, "DueDate", document.due_date)
    _add_list(_add(header, "ToPlaces"), "Place", document.to_places)
    other = _add(header, "OtherInfo")
    _add_texts(other, document.other_info)
    _add_list(_add(other, "Appendixes"), "Appendix", document.other_info.appendixes)
    for response in document.response_for:
        _add_texts(_add(header, "ResponseFor"), response)
    _add(header, "SteeringType", document.steering_type)


def _write_trace(trace: _Element, document: Document) -> None:
    for item in document.trace:
        _add_texts(_add(trace, "TraceHeader"), item)
    done = document.bussiness
    bussiness = _add(trace, "Bussiness")
    _add_texts(bussiness, done)
    if done.staff_info is not None:
        _add_texts(_add(bussiness, "StaffInfo"), done.staff_info)
    if done.bussiness_document_info is not None:
        info = _add(bussiness, "BussinessDocumentInfo")
        _add_texts(info, done.bussiness_document_info)
        receivers = _add(info, "ReceiverList")
        for receiver in done.bussiness_document_info.receiver_list:
            _add_texts(_add(receivers, "Receiver"), receiver)
    if done.replacement_info_list:
        replaced = _add(bussiness, "ReplacementInfoList")
        for replacement in done.replacement_info_list:
            element = _add(replaced, "ReplacementInfo")
            _add(element, "DocumentId", replacement.document_id)
            _add_list(_add(element, "OrganIdList"), "OrganId", replacement.organ_id_list)


def _write_attachments(root: _Element, envelope: _Element, attachments: tuple[Attachment, ...]) -> None:
    manifest = _add(_add(envelope, "edXMLBody"), "edXMLManifest")
    for item in attachments:
        _add_texts(_add(manifest, "Reference"), replace(item, content_id=f"cid:{item.content_id}"))
    if attachments:
        holder = _add(root, "AttachmentEncoded")
        for item in attachments:
            element = _add(holder, "Attachment")
            _add_texts(element, item)
            _add(element, "ContentTransferEncoded", item.encoded)


def _write_status(header: _Element, document: StatusDocument) -> None:
    _add_texts(_add(header, "From"), document.sender)
    _add_texts(_add(header, "ResponseFor"), document.response_for)
    if document.staff_info is not None:
        _add_texts(_add(header, "StaffInfo"), document.staff_info)
    _add(header, "StatusCode", document.status_code)
    _add(header, "Description", document.description)
    _add(header, "Timestamp", document.timestamp)


def _add(parent: _Element, name: str, text: str = "") -> _Element:
    element = etree.SubElement(parent, f"{{{NAMESPACE}}}{name}")
    element.text = text or None
    return element


def _add_texts(parent: _Element, value: Any) -> None:
    """The plain text fields that say something. Nothing is invented for the others."""
    for item in fields(value):
        text = getattr(value, item.name)
        if item.type == "str" and item.name != "encoded" and text:
            _add(parent, _element_name(item.name), text)


def _add_list(parent: _Element, name: str, texts: tuple[str, ...]) -> None:
    for text in texts:
        _add(parent, name, text)


def recall_of(document: Document, reason: str, *, document_id: str, now: datetime) -> Document:
    """The packet that asks the receivers of a document to give it back (BussinessDocType 1), without its files."""
    told = ResponseFor(
        organ_id=document.sender.organ_id,
        code=f"{document.code.code_number}/{document.code.code_notation}",
        promulgation_date=document.promulgation_info.promulgation_date,
        document_id=document.document_id,
    )
    return replace(
        document,
        document_id=document_id,
        response_for=(told,),
        bussiness=Bussiness(
            bussiness_doc_type=str(int(BussinessDocType.RECALL)),
            bussiness_doc_reason=reason,
            document_id=document.document_id,
        ),
        trace=(TraceHeader(organ_id=document.sender.organ_id, timestamp=timestamp_of(now)),),
        attachments=(),
        dialect=Dialect.QCVN_102,
        stray_bytes=0,
        is_signed=False,
    )


def status_of(
    document: Document, status_code: str, *, receiver: Organization, now: datetime, description: str = ""
) -> StatusDocument:
    """What ``receiver`` says of a document that it got."""
    return StatusDocument(
        sender=receiver,
        response_for=ResponseFor(
            organ_id=document.sender.organ_id,
            code=f"{document.code.code_number}/{document.code.code_notation}",
            promulgation_date=document.promulgation_info.promulgation_date,
            document_id=document.document_id,
        ),
        status_code=status_code,
        description=description or STATUS_CODES.get(status_code, ""),
        timestamp=timestamp_of(now),
    )


def timestamp_of(moment: datetime) -> str:
    return str(TIMESTAMP.write(moment.astimezone(VIETNAM)))


# ---- Judging


#: Longest texts by place (BKAV Checker), counted in letters.
LENGTHS: Final = {
    "OrganName": 200,
    "OrganAdd": 250,
    "Email": 100,
    "Telephone": 20,
    "Fax": 20,
    "PromulgationInfo.Place": 50,
    "ToPlaces.Place": 150,
    "CodeNumber": 11,
    "CodeNotation": 30,
    "TypeName": 100,
    "TyperNotation": 10,
    "Subject": 500,
    "Content": 500,
    "FullName": 50,
    "Competence": 100,
    "Function": 100,
    "AttachmentName": 200,
}
#: Most that a number may be, by place.
RANGES: Final = {"Priority": 4, "BussinessDocType": 3}
#: Whole numbers without a published limit.
NUMBERS: Final = frozenset({"PromulgationAmount", "PageAmount", "SteeringType"})
DATES: Final = {"PromulgationDate": DATE, "DueDate": DATE, "Timestamp": TIMESTAMP}
#: Texts that must say something. Subject is published; without the others nobody knows from whom to whom.
REQUIRED: Final = frozenset({"From.OrganId", "To.OrganId", "Subject", "ResponseFor.DocumentId", "StatusCode"})


def faults_of(document: Document | StatusDocument) -> tuple[str, ...]:
    """What the axis would say about a packet, as its error codes; empty when all is well.

    ``N.MessageHeader.Subject``: missing (null); ``R.``: too long or out of range; ``M.``: does not match (an OrganId of
    more than four groups, an attachment that is promised and not there, a recall that names no document); ``T.``: not
    of its type (a date, a number). Each code once, in the packet's order.
    """
    places = _status_places(document) if isinstance(document, StatusDocument) else _document_places(document)
    found = [code for path, text in places for code in _faults_of_text(path, text)]
    if isinstance(document, StatusDocument):
        if document.status_code and document.status_code not in STATUS_CODES:
            found.append("R.MessageHeader.StatusCode")
    else:
        found.extend(_faults_between(document))
    return tuple(dict.fromkeys(found))


def _faults_between(document: Document) -> Iterator[str]:
    if not document.receivers:
        yield "N.MessageHeader.To"
    kind = document.bussiness_doc_type
    if kind not in (None, BussinessDocType.NEW) and not document.concerns:
        yield "M.TraceHeaderList.Bussiness.DocumentId"
    for item in document.attachments:
        if not item.encoded:
            yield "M.AttachmentEncoded.Attachment"


def _faults_of_text(path: str, text: str) -> Iterator[str]:
    leaf = path.rpartition(".")[2]
    pair = ".".join(path.split(".")[-2:])
    if not text:
        if leaf in REQUIRED or pair in REQUIRED:
            yield f"N.{path}"
        return
    limit = LENGTHS.get(pair, LENGTHS.get(leaf))
    if limit is not None and len(text) > limit:
        yield f"R.{path}"
    if leaf == "OrganId" and not _ORGAN_ID.fullmatch(text):
        yield f"M.{path}"
    if leaf in RANGES or leaf in NUMBERS:
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            yield f"T.{path}"
        elif int(text) > RANGES.get(leaf, int(text)):
            yield f"R.{path}"
    pattern: DatePattern | None = DATES.get(leaf)
    if pattern is not None and pattern.read(text) is None:
        yield f"T.{path}"
    if leaf == "DocumentId" and not _is_document_id(text):
        yield f"T.{path}"


def _is_document_id(text: str) -> bool:
    try:
        DocumentId.parse(text)
    except Malformed:
        return False
    return True


def _document_places(document: Document) -> Iterator[tuple[str, str]]:
    """Every text of a document under its place."""
    header = "MessageHeader"
    yield from _places(f"{header}.From", document.sender)
    for receiver in document.receivers:
        yield from _places(f"{header}.To", receiver)
    yield f"{header}.DocumentId", document.document_id
    for name in ("code", "promulgation_info", "document_type", "signer_info", "other_info"):
        yield from _places(f"{header}.{_element_name(name)}", getattr(document, name))
    yield f"{header}.Subject", document.subject
    yield f"{header}.Content", document.content
    yield f"{header}.DueDate", document.due_date
    yield f"{header}.SteeringType", document.steering_type
    for place in document.to_places:
        yield f"{header}.ToPlaces.Place", place
    for response in document.response_for:
        yield from ((path, text) for path, text in _places(f"{header}.ResponseFor", response) if text)
    for item in document.trace:
        yield from _places("TraceHeaderList.TraceHeader", item)
    yield from _places("TraceHeaderList.Bussiness", document.bussiness)
    for attachment in document.attachments:
        yield "AttachmentEncoded.Attachment.AttachmentName", attachment.attachment_name


def _status_places(document: StatusDocument) -> Iterator[tuple[str, str]]:
    yield from _places("MessageHeader.From", document.sender)
    yield from _places("MessageHeader.ResponseFor", document.response_for)
    yield "MessageHeader.StatusCode", document.status_code
    yield "MessageHeader.Timestamp", document.timestamp


def _places(path: str, value: Any) -> Iterator[tuple[str, str]]:
    for item in fields(value):
        if item.type == "str":
            yield f"{path}.{_element_name(item.name)}", getattr(value, item.name)


# ---- Attachments


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedFile:
    name: str
    content: bytes = field(repr=False)


def pack(name: str, content: bytes, *, content_id: str, description: str = "") -> Attachment:
    """A file as an attachment: zipped, then base64. The same file gives the same bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(name)
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, content)
    return Attachment(
        content_id=content_id,
        attachment_name=name,
        content_type="application/zip",
        description=description,
        encoded=base64.b64encode(packed.getvalue()).decode("ascii"),
    )


def unpack(attachment: Attachment, *, max_bytes: int = MAX_FILE_BYTES) -> tuple[AttachedFile, ...]:
    """The files in an attachment: those of its zip, or the content itself where a system does not zip.

    Names are only names: whoever writes them to a disk chooses his own. At most ``max_bytes`` are unpacked in all,
    whatever the zip claims. Raises Malformed ``edxml-attachment-unreadable``, ``edxml-attachment-too-large``.
    """
    try:
        content = base64.b64decode("".join(attachment.encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("edxml-attachment-unreadable") from None
    if len(content) > max_bytes:
        raise Malformed("edxml-attachment-too-large", limit=max_bytes)
    if not content.startswith(b"PK\x03\x04"):
        return (AttachedFile(name=attachment.attachment_name, content=content),)
    try:
        return _unzipped(content, max_bytes)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError):
        # RuntimeError: the zip is encrypted; NotImplementedError: a compression that the library lacks.
        raise Malformed("edxml-attachment-unreadable") from None


def _unzipped(content: bytes, max_bytes: int) -> tuple[AttachedFile, ...]:
    files: list[AttachedFile] = []
    left = max_bytes
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if len(entries) > MAX_ZIP_FILES:
            raise Malformed("edxml-attachment-too-large", limit=max_bytes)
        for entry in entries:
            with archive.open(entry) as stream:
                part = stream.read(left + 1)
            if len(part) > left:
                raise Malformed("edxml-attachment-too-large", limit=max_bytes)
            left -= len(part)
            files.append(AttachedFile(name=entry.filename, content=part))
    return tuple(files)
