"""SOAP envelopes: the gate has one reading of a message or none, answers are read patiently, faults tell no value."""

from __future__ import annotations

import json
import threading

import pytest
from lxml import etree

from schemas.codec import read_xml
from schemas.message import sha256_hex
from schemas.problem import (
    FieldError,
    InternalFailure,
    InvalidReply,
    Language,
    Malformed,
    NotIdentified,
    Problem,
    ProviderTimeout,
    SchemaViolation,
)
from schemas.reasons import Wording
from schemas.soap import (
    EXCHANGE_BLOCK,
    EXCHANGE_NS,
    MANIFEST_BLOCK,
    SECURITY_BLOCK,
    WSSE_NS,
    WSU_NS,
    SoapVersion,
    fault_code,
    payload_bytes,
    read_soap,
    read_soap_reply,
    version_of,
    write_fault,
    write_soap,
)

V11, V12 = SoapVersion.V11, SoapVersion.V12
MARK = "Nguyen-Van-Bi-Mat"
PAYLOAD = b'<x:GuiHoSo xmlns:x="urn:x"><x:ten>%s</x:ten></x:GuiHoSo>' % MARK.encode()


def an_envelope(
    body: str = PAYLOAD.decode(), header: str = "", *, version: SoapVersion = V11, attributes: str = ""
) -> bytes:
    head = f"<s:Header>{header}</s:Header>" if header else ""
    return f'<s:Envelope xmlns:s="{version.namespace}" {attributes}>{head}<s:Body>{body}</s:Body></s:Envelope>'.encode()


def refusal(
    data: bytes,
    content_type: str = "text/xml",
    soap_action: str | None = None,
    understood: frozenset[str] = frozenset(),
) -> str:
    with pytest.raises(Malformed) as caught:
        read_soap(data, content_type, soap_action, understood=understood)
    for language in ("vi", "en"):
        assert MARK not in write_fault(V11, caught.value, language=language, trace_id="t").decode()
    return caught.value.reason


@pytest.mark.parametrize("version", SoapVersion)
def test_an_envelope_gives_its_payload_and_its_blocks(version: SoapVersion) -> None:
    data = write_soap(version, PAYLOAD, [f'<Manifest xmlns="{EXCHANGE_NS}">a.b.c</Manifest>'.encode()])
    envelope = read_soap(data, f"{version.media_type}; charset=utf-8")
    assert envelope.version is version
    assert envelope.payload.tag == "{urn:x}GuiHoSo"
    assert envelope.body is envelope.payload.getparent()
    assert envelope.blocks.keys() == {MANIFEST_BLOCK}
    assert envelope.blocks[MANIFEST_BLOCK].text == "a.b.c"
    assert envelope.action == ""


def test_white_space_a_byte_order_mark_and_a_declaration_do_no_harm() -> None:
    data = an_envelope(f"\n  {PAYLOAD.decode()}\r\n\t").replace(b"<s:Body>", b"\n <s:Body>")
    data = b'\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n' + data + b"\n"
    assert read_soap(data, "text/xml").payload.tag == "{urn:x}GuiHoSo"


def test_cdata_is_one_more_spelling_of_text() -> None:
    plain, cdata = an_envelope("<a>1 &lt; 2 </a>"), an_envelope("<a><![CDATA[1 < 2 ]]></a>")
    assert payload_bytes(read_soap(plain, "text/xml").payload) == payload_bytes(read_soap(cdata, "text/xml").payload)
    assert read_soap(an_envelope("<a><![CDATA[<!-- text -->]]></a>"), "text/xml").payload.text == "<!-- text -->"


DEEP = "<a>" * 200 + "</a>" * 200
WIDE = "<r>" + "<a/>" * 30_000 + "</r>"
BOMB = '<!DOCTYPE s [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
FILE = '<!DOCTYPE s [<!ENTITY f SYSTEM "file:///etc/hostname">]>'
NS = V11.namespace
HREF = '<r xmlns:e="http://www.w3.org/2003/05/soap-encoding">{}</r>'
BAD_ENVELOPES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "soap-empty"),
    "white space": (b" \r\n", "soap-empty"),
    "text": (MARK.encode(), "xml-invalid"),
    "json": (json.dumps({"ten": MARK}).encode(), "xml-invalid"),
    "half": (an_envelope()[:-9], "xml-invalid"),
    "two roots": (an_envelope() + an_envelope(), "xml-invalid"),
    "text after the root": (an_envelope() + MARK.encode(), "xml-invalid"),
    "an undeclared prefix": (an_envelope(f"<q:{MARK}/>"), "xml-invalid"),
    "an undefined entity": (an_envelope(f"<a>&{MARK};</a>"), "xml-invalid"),
    "utf-16": (an_envelope().decode().encode("utf-16"), "xml-not-utf8"),
    "utf-16 without its mark": (an_envelope().decode().encode("utf-16-le"), "xml-not-utf8"),
    "utf-7 by its declaration": (b'<?xml version="1.0" encoding="utf-7"?>' + an_envelope(), "xml-not-utf8"),
    "latin-1": (an_envelope("<a>\u00e9</a>").decode().encode("latin-1"), "xml-not-utf8"),
    "a document type": (b"<!DOCTYPE s>" + an_envelope(), "xml-doctype"),
    "an entity bomb": (BOMB.encode() + an_envelope("<a>&b;</a>"), "xml-doctype"),
    "an external entity": (FILE.encode() + an_envelope("<a>&f;</a>"), "xml-doctype"),
    "200 levels": (an_envelope(DEEP), "xml-too-deep"),
    "30,000 elements": (an_envelope(WIDE), "xml-too-many-elements"),
    "a comment in a value": (an_envelope(f"<a>1<!--{MARK}-->2</a>"), "soap-comment"),
    "a comment before the root": (b"<!--c-->" + an_envelope(), "soap-comment"),
    "a comment after the root": (an_envelope() + b"<!--c-->", "soap-comment"),
    "a comment between the parts": (an_envelope().replace(b"<s:Body>", b"<!--c--><s:Body>"), "soap-comment"),
    "an instruction in a value": (an_envelope(f"<a>1<?x {MARK}?>2</a>"), "soap-comment"),
    "an instruction before the root": (b"<?xml-stylesheet href='x'?>" + an_envelope(), "soap-comment"),
    "no envelope": (PAYLOAD, "soap-not-envelope"),
    "an Envelope of no version": (an_envelope().replace(NS.encode(), b"urn:soap:2"), "soap-version"),
    "an Envelope of no namespace": (b"<Envelope><Body><a/></Body></Envelope>", "soap-version"),
    "the other version": (an_envelope(version=V12), "soap-version"),
    "no Body": (f'<s:Envelope xmlns:s="{NS}"/>'.encode(), "soap-parts"),
    "two Bodies": (an_envelope().replace(b"</s:Envelope>", b"<s:Body><a/></s:Body></s:Envelope>"), "soap-parts"),
    "two Headers": (an_envelope(header="<s:x/>").replace(b"<s:Body>", b"<s:Header/><s:Body>"), "soap-parts"),
    "Header after Body": (an_envelope().replace(b"</s:Envelope>", b"<s:Header/></s:Envelope>"), "soap-parts"),
    "something after Body": (an_envelope().replace(b"</s:Envelope>", b"<a/></s:Envelope>"), "soap-parts"),
    "a Body of the other version": (
        an_envelope().replace(b"s:Body", b"t:Body").replace(b"<t:Body", f'<t:Body xmlns:t="{V12.namespace}"'.encode()),
        "soap-parts",
    ),
    "text beside Body": (an_envelope().replace(b"<s:Body>", f"{MARK}<s:Body>".encode()), "soap-parts"),
    "a no-break space beside Body": (an_envelope().replace(b"<s:Body>", b"\xc2\xa0<s:Body>"), "soap-parts"),
    "text in Header": (an_envelope(header=f"{MARK}<x:a xmlns:x='urn:x'/>"), "soap-parts"),
    "an empty Body": (an_envelope(""), "soap-body-not-one"),
    "text in Body": (an_envelope(MARK), "soap-body-not-one"),
    "text beside the payload": (an_envelope(f"<a/>{MARK}"), "soap-body-not-one"),
    "two payloads": (an_envelope("<a/><b/>"), "soap-body-not-one"),
    "a block without namespace": (an_envelope(header="<a/>"), "soap-block-unqualified"),
    "a block twice": (an_envelope(header="<x:a xmlns:x='urn:x'/><y:a xmlns:y='urn:x'/>"), "soap-block-duplicate"),
    "Id twice": (an_envelope("<a><b Id='1'/><b Id='1'/></a>"), "soap-id-duplicate"),
    "Id and ID": (an_envelope("<a Id='1'><b ID='1'/></a>"), "soap-id-duplicate"),
    "id and wsu:Id": (an_envelope(f"<a id='1' xmlns:u='{WSU_NS}'><b u:Id='1'/></a>"), "soap-id-duplicate"),
    "xml:id, spelled with an entity": (an_envelope("<a xml:id='A'><b xml:id='&#65;'/></a>"), "soap-id-duplicate"),
    "an id of the Body again": (
        an_envelope("<a Id='1'/>").replace(b"<s:Body>", f"<s:Body xmlns:u='{WSU_NS}' u:Id='1'>".encode()),
        "soap-id-duplicate",
    ),
    "href": (an_envelope(HREF.format('<a href="#1"/><b id="1"/>')), "soap-reference"),
    "href of MTOM": (
        an_envelope('<i:Include xmlns:i="http://www.w3.org/2004/08/xop/include" href="cid:1"/>'),
        "soap-reference",
    ),
    "ref of SOAP 1.2": (an_envelope(HREF.format('<a e:ref="1"/>')), "soap-reference"),
    "encoded values": (an_envelope(attributes=f's:encodingStyle="{NS[:-9]}encoding/"'), "soap-encoding-style"),
}


@pytest.mark.parametrize("name", BAD_ENVELOPES)
def test_what_could_be_read_in_two_ways_is_not_read(name: str) -> None:
    data, reason = BAD_ENVELOPES[name]
    assert refusal(data) == reason


@pytest.mark.parametrize(
    ("content_type", "reason"),
    [
        ('multipart/related; type="text/xml"; boundary=x', "soap-multipart"),
        ("multipart/form-data; boundary=x", "soap-multipart"),
        ('application/xop+xml; type="text/xml"', "soap-multipart"),
        ("application/xml", "soap-content-type"),
        ("application/json", "soap-content-type"),
        ("text/plain", "soap-content-type"),
        ("", "content-type-invalid"),
        ("text/xml, text/xml", "content-type-invalid"),
        ("text/xml; charset=utf-16", "content-type-charset"),
        ("text/xml; charset=utf-8; charset=utf-7", "content-type-charset"),
        ("application/soap+xml", "soap-version"),
    ],
)
def test_only_the_two_media_types_of_soap_are_taken(content_type: str, reason: str) -> None:
    assert refusal(an_envelope(), content_type) == reason


NEXT_11, NEXT_12 = "http://schemas.xmlsoap.org/soap/actor/next", f"{V12.namespace}/role/next"


@pytest.mark.parametrize(
    ("version", "attributes", "reason"),
    [
        (V11, 's:mustUnderstand="1"', "soap-must-understand"),
        (V11, 's:mustUnderstand="0"', None),
        (V11, 'mustUnderstand="1"', None),  # not SOAP's attribute
        (V11, f's:mustUnderstand="1" s:actor="{NEXT_11}"', "soap-must-understand"),
        (V11, 's:mustUnderstand="1" s:actor=""', "soap-must-understand"),
        (V11, 's:mustUnderstand="1" s:actor="urn:somebody-else"', None),
        (V11, f's:mustUnderstand="{MARK}"', "soap-must-understand-invalid"),
        (V12, 's:mustUnderstand="true"', "soap-must-understand"),
        (V12, 's:mustUnderstand="false"', None),
        (V12, f's:mustUnderstand="1" s:role="{NEXT_12}"', "soap-must-understand"),
        (V12, f's:mustUnderstand="1" s:role="{V12.namespace}/role/ultimateReceiver"', "soap-must-understand"),
        (V12, f's:mustUnderstand="1" s:role="{V12.namespace}/role/none"', None),
    ],
)
def test_a_block_that_must_be_understood_is_known_or_refused(
    version: SoapVersion, attributes: str, reason: str | None
) -> None:
    data = an_envelope(header=f"<x:Block xmlns:x='urn:x' {attributes}/>", version=version)
    understood = frozenset({"{urn:x}Block"})
    if reason is None:
        read_soap(data, version.media_type)
    elif reason == "soap-must-understand":
        read_soap(data, version.media_type, understood=understood)
        assert refusal(data, version.media_type) == reason
    else:
        assert refusal(data, version.media_type, understood=understood) == reason


def test_blocks_for_another_actor_are_not_ours() -> None:
    block = "<w:Security xmlns:w='{}' s:actor='{}'/>"
    header = block.format(WSSE_NS, "urn:edge") + block.format(WSSE_NS, "urn:edge") + block.format(WSSE_NS, "")
    assert read_soap(an_envelope(header=header), "text/xml").blocks.keys() == {SECURITY_BLOCK}


@pytest.mark.parametrize(
    ("soap_action", "reason"),
    [
        (None, None),
        ("", None),
        ('""', None),
        ("GuiHoSo", None),
        ('"GuiHoSo"', None),
        (' "urn:x/GuiHoSo" ', None),
        ('"urn:x:GuiHoSo"', None),
        ('"http://x.example/#GuiHoSo"', None),
        ('"XoaHoSo"', "soap-action"),
        (f'"{MARK}"', "soap-action"),
        ('"urn:x/GuiHoSo/XoaHoSo"', "soap-action"),
        ('"KhongGuiHoSo"', "soap-action"),
        ('"GuiHoSo', "soap-action-unreadable"),
        ('GuiHoSo"', "soap-action-unreadable"),
        ('"', "soap-action-unreadable"),
        ('"Gui"HoSo"', "soap-action-unreadable"),
        ("Gui\x00HoSo", "soap-action-unreadable"),
    ],
)
def test_an_action_agrees_with_the_payload_or_is_left_out(soap_action: str | None, reason: str | None) -> None:
    if reason is None:
        expected = (soap_action or "").strip().strip('"')
        assert read_soap(an_envelope(), "text/xml", soap_action).action == expected
    else:
        assert refusal(an_envelope(), "text/xml", soap_action) == reason


def test_soap_1_2_names_its_action_in_the_content_type() -> None:
    data = an_envelope(version=V12)
    assert read_soap(data, 'application/soap+xml; action="urn:x/GuiHoSo"').action == "urn:x/GuiHoSo"
    assert read_soap(data, "application/soap+xml; Action=GuiHoSo; charset=utf-8").action == "GuiHoSo"
    assert refusal(data, 'application/soap+xml; action="urn:x/XoaHoSo"') == "soap-action"
    assert refusal(data, 'application/soap+xml; action="urn:x/GuiHoSo"', "XoaHoSo") == "soap-action"


def test_the_version_to_answer_in_is_guessed_from_the_media_type() -> None:
    assert version_of("application/soap+xml; charset=utf-16") is V12
    assert [version_of(text) for text in ("text/xml", "", "multipart/related", "\x00;;")] == [V11] * 4


def test_eight_threads_read_their_own_messages() -> None:
    wrong: list[str] = []

    def read(name: str) -> None:
        for _ in range(100):
            envelope = read_soap(an_envelope(f"<a>{name}</a>"), "text/xml", "a")
            if envelope.payload.text != name:
                wrong.append(name)
            if refusal(BAD_ENVELOPES["Id twice"][0]) != "soap-id-duplicate":
                wrong.append(name)

    threads = [threading.Thread(target=read, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# ---- Payloads and envelopes around them


def test_the_bytes_of_a_payload_do_not_depend_on_the_envelope() -> None:
    spellings = [
        an_envelope('<a xmlns="urn:a" b="1" a="2"><c/></a>'),
        an_envelope("<a  a='2'   b='1' xmlns='urn:a'><c></c></a>\n", attributes='xmlns:q="urn:q" xmlns:x="urn:x"'),
        an_envelope('<a a="2" b="&#49;"><c/></a>', attributes='xmlns="urn:a"'),
    ]
    texts = {payload_bytes(read_soap(data, "text/xml").payload) for data in spellings}
    assert texts == {b'<a xmlns="urn:a" a="2" b="1"><c></c></a>'}


def test_a_type_named_by_the_payload_can_still_be_resolved() -> None:
    attributes = 'xmlns:i="http://www.w3.org/2001/XMLSchema-instance" xmlns:d="urn:d" xmlns:unused="urn:u"'
    data = payload_bytes(read_soap(an_envelope('<a i:type="d:T">x</a>', attributes=attributes), "text/xml").payload)
    assert b'xmlns:d="urn:d"' in data
    assert b"unused" not in data
    assert payload_bytes(read_xml(data)) == data


def test_the_payload_is_spliced_into_its_envelope_unchanged() -> None:
    payload = b"<a  b='1'\n><![CDATA[x]]>\xc4\x90</a >"
    for start in (
        b"",
        b'<?xml version="1.0" encoding="UTF-8"?>\r\n',
        b"\xef\xbb\xbf<?xml version='1.0'?>",
        b"\xef\xbb\xbf",
    ):
        data = write_soap(V12, start + payload, [start + b"<x:b xmlns:x='urn:x'/>"])
        assert data.count(payload) == 1
        assert data.count(b"<?xml") == 1
        envelope = read_soap(data, "application/soap+xml")
        assert sha256_hex(payload_bytes(envelope.payload)) == sha256_hex(payload_bytes(read_xml(payload)))


def test_the_blocks_that_the_bus_knows_have_their_published_names() -> None:
    assert EXCHANGE_BLOCK == "{urn:lgsp:exchange:1}Exchange"
    assert MANIFEST_BLOCK == "{urn:lgsp:exchange:1}Manifest"


# ---- Faults


PROBLEM = SchemaViolation("soap-action", errors=[FieldError(pointer='/a/<b>"\x00', detail="a & b")])


@pytest.mark.parametrize("language, said", [("en", "is not in the grant"), ("vi", "không nằm trong quyền truy cập")])
def test_a_rule_in_words_is_told_in_the_language_of_the_fault(language: Language, said: str) -> None:
    rule = FieldError.worded("/receivers/0", Wording("is not in the grant", "không nằm trong quyền truy cập"))
    code = FieldError(pointer="/a", detail="required: b")
    data = write_fault(V12, SchemaViolation("soap-action", errors=[rule, code]), language=language, trace_id="t")
    assert f'detail="{said}"/><error pointer="/a" detail="required: b"/>' in data.decode()


def members(data: bytes, version: SoapVersion) -> dict[str, str]:
    envelope = read_soap(data, version.media_type)
    problem = envelope.payload.find(f".//{{{EXCHANGE_NS}}}Problem")
    assert problem is not None
    return {etree.QName(child).localname: child.text or "" for child in problem}


@pytest.mark.parametrize("version", SoapVersion)
def test_a_fault_says_what_the_problem_document_says(version: SoapVersion) -> None:
    data = write_fault(version, PROBLEM, language="en", trace_id="0af7")
    assert members(data, version) == {
        "type": "/problems/schema-violation",
        "title": PROBLEM.title,
        "status": "422",
        "reason": "soap-action",
        "retryable": "false",
        "traceId": "0af7",
        "errors": "",
    }
    envelope = read_soap(data, version.media_type)
    error = envelope.payload.find(f".//{{{EXCHANGE_NS}}}error")
    assert error is not None
    assert dict(error.attrib) == {"pointer": '/a/<b>"\ufffd', "detail": "a & b"}
    found = fault_code(envelope)
    assert found is not None
    assert found[1] == PROBLEM.detail("en")


@pytest.mark.parametrize(
    ("problem", "code", "code_12"),
    [
        (PROBLEM, "Client", "Sender"),
        (NotIdentified("unsigned"), "Client", "Sender"),
        (ProviderTimeout("provider-timed-out", seconds=3), "Server", "Receiver"),
        (InternalFailure(), "Server", "Receiver"),
        (Malformed("soap-must-understand"), "MustUnderstand", "MustUnderstand"),
        (Malformed("soap-version"), "VersionMismatch", "VersionMismatch"),
    ],
)
def test_the_fault_code_follows_the_problem(problem: Problem, code: str, code_12: str) -> None:
    old = read_soap(write_fault(V11, problem, language="vi", trace_id="t"), "text/xml")
    new = read_soap(write_fault(V12, problem, language="vi", trace_id="t"), "application/soap+xml")
    assert old.payload.findtext("faultcode") == f"soap:{code}"
    assert new.payload.findtext("{*}Code/{*}Value") == f"soap:{code_12}"
    assert new.payload.findtext("{*}Code/{*}Subcode/{*}Value") == f"lgsp:{problem.reason}"
    assert fault_code(old) == (code, problem.detail("vi"))
    assert fault_code(new) == (code_12, problem.detail("vi"))


@pytest.mark.parametrize("language", ["vi", "en"])
def test_a_fault_speaks_the_language_asked_for(language: str) -> None:
    envelope = read_soap(write_fault(V12, PROBLEM, language=language, trace_id="t"), "application/soap+xml")  # type: ignore[arg-type]
    text = envelope.payload.find("{*}Reason/{*}Text")
    assert text is not None
    assert text.get("{http://www.w3.org/XML/1998/namespace}lang") == language
    assert text.text == PROBLEM.detail(language)  # type: ignore[arg-type]


# ---- Partners' answers


def test_an_answer_is_read_with_patience() -> None:
    data = (
        f'<?xml version="1.0"?><?x y?><s:Envelope xmlns:s="{NS}"><!-- c -->text<s:Body><a>1<!-- c -->2</a><!-- c -->'
        "</s:Body><s:Header><b xmlns='urn:b'>1</b><b xmlns='urn:b'>2</b></s:Header></s:Envelope>"
    )
    envelope = read_soap_reply(data.encode(), "application/xml")
    assert (envelope.version, envelope.payload.text) == (V11, "12")
    assert envelope.blocks["{urn:b}b"].text == "1"


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "text",
        "utf-16",
        "a document type",
        "an entity bomb",
        "an external entity",
        "200 levels",
        "30,000 elements",
        "no envelope",
        "an Envelope of no version",
        "no Body",
        "two Bodies",
        "an empty Body",
        "two payloads",
    ],
)
def test_an_unsafe_or_ambiguous_answer_is_not_readable(name: str) -> None:
    with pytest.raises(InvalidReply) as caught:
        read_soap_reply(BAD_ENVELOPES[name][0], "text/xml")
    assert caught.value.reason == "reply-not-readable"
    assert MARK not in str(caught.value)


def test_an_answer_with_attachments_is_refused_with_its_own_reason() -> None:
    with pytest.raises(InvalidReply) as caught:
        read_soap_reply(b"--x", "Multipart/Related; boundary=x")
    assert caught.value.reason == "soap-reply-multipart"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "<s:Fault><faultcode>s:Client.Auth</faultcode><faultstring> No </faultstring></s:Fault>",
            ("Client.Auth", "No"),
        ),
        ("<s:Fault><s:faultcode>Server</s:faultcode></s:Fault>", ("Server", "")),
        ("<s:Fault/>", ("", "")),
        ("<Fault/>", None),
        ("<a/>", None),
    ],
)
def test_a_partners_fault_is_told_from_an_answer(body: str, expected: tuple[str, str] | None) -> None:
    assert fault_code(read_soap_reply(an_envelope(body), "text/xml")) == expected
