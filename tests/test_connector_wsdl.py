"""What a WSDL says: ports, operations, elements; and what hostile or awkward ones get."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from time import perf_counter

import pytest

from connectors.sandbox import generic_soap
from connectors.soap import NOWHERE, WsdlDescription, describe_wsdl
from schemas.problem import Malformed, Problem, TooLarge
from schemas.soap import SoapVersion

HEAD = (
    '<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:t="urn:t" xmlns:xs="http://www.w3.org/2001/XMLSchema" '
    'xmlns:s="http://schemas.xmlsoap.org/wsdl/soap/" xmlns:h="http://schemas.xmlsoap.org/wsdl/http/" '
    'targetNamespace="urn:t">'
)
ELEMENTS = "".join(f'<xs:element name="{name}" type="xs:string"/>' for name in ("q", "r", "k", "f"))
SCHEMA = f'<xs:schema targetNamespace="urn:t" elementFormDefault="qualified">{ELEMENTS}</xs:schema>'
TYPES = f"<types>{SCHEMA}</types>"
MESSAGES = "".join(
    f'<message name="{name}m"><part name="p" element="t:{name}"/></message>' for name in ("q", "r", "k", "f")
)
PORT_TYPE = (
    '<portType name="P"><operation name="o"><input message="t:qm"/><output message="t:rm"/>'
    '<fault name="F" message="t:fm"/></operation></portType>'
)
LITERAL = '<input><s:body use="literal"/></input><output><s:body use="literal"/></output>'
BINDING = (
    '<binding name="B" type="t:P"><s:binding style="{style}" transport="http://schemas.xmlsoap.org/soap/http"/>'
    '<operation name="o">{action}{messages}</operation></binding>'
)
SERVICE = '<service name="S"><port name="A" binding="t:B"><s:address location="http://10.0.0.1/a"/></port></service>'


def binding(
    style: str = "document", action: str = '<s:operation soapAction="urn:t/o"/>', messages: str = LITERAL
) -> str:
    return BINDING.format(style=style, action=action, messages=messages)


def wsdl(*parts: str) -> str:
    return f"{HEAD}{''.join(parts)}</definitions>"


def reason_of(text: str, documents: Mapping[str, bytes] | None = None) -> str:
    load = None if documents is None else (lambda url: documents[url])
    with pytest.raises(Problem) as caught:
        describe_wsdl(text, load)
    for hidden in ("10.0.0.1", "etc/passwd", "urn:t"):
        assert hidden not in str(caught.value)
    return caught.value.reason


def test_ports_operations_and_elements_are_told() -> None:
    description = describe_wsdl(generic_soap.WSDL.replace("{address}", "https://soap.example.vn/x"))
    (service,) = description.services
    assert [(port.name, port.version, port.address) for port in service.ports] == [
        ("Soap11", SoapVersion.V11, "https://soap.example.vn/x"),
        ("Soap12", SoapVersion.V12, "https://soap.example.vn/x"),
    ]
    port, operation = description.find("NhanHoSo")
    assert (port.name, operation.style, operation.one_way) == ("Soap11", "document", False)
    assert operation.soap_action == "urn:lgsp:sandbox:generic/NhanHoSo"
    assert operation.request == "{urn:lgsp:sandbox:generic}NhanHoSo"
    assert operation.reply == "{urn:lgsp:sandbox:generic}NhanHoSoTraLoi"
    assert description.find("BaoTin")[1].one_way
    assert description.find("NhanHoSo", "Soap12")[0].version is SoapVersion.V12


def test_header_blocks_and_faults_are_told() -> None:
    messages = (
        '<input><s:header message="t:km" part="p" use="literal"/><s:body use="literal"/></input>'
        '<output><s:body use="literal"/></output><fault name="F"><s:fault name="F" use="literal"/></fault>'
    )
    text = wsdl(TYPES, MESSAGES, PORT_TYPE, binding(messages=messages), SERVICE)
    operation = describe_wsdl(text).find("o")[1]
    assert (operation.headers, operation.faults) == (("{urn:t}k",), ("{urn:t}f",))


def _described(*parts: str) -> WsdlDescription:
    return describe_wsdl(wsdl(*parts))


def test_a_missing_action_is_empty() -> None:
    for action in ("", "<s:operation/>", '<s:operation soapAction=""/>'):
        assert _described(TYPES, MESSAGES, PORT_TYPE, binding(action=action), SERVICE).find("o")[1].soap_action == ""


def test_a_port_that_is_not_soap_is_passed_over() -> None:
    http = (
        '<binding name="G" type="t:P"><h:binding verb="POST"/><operation name="o"><h:operation location="/o"/>'
        "<input/><output/></operation></binding>"
    )
    jms = binding().replace('name="B"', 'name="J"').replace("soap/http", "soap/jms")
    service = SERVICE.replace(
        "</service>",
        '<port name="G" binding="t:G"><h:address location="http://10.0.0.1/g"/></port>'
        '<port name="J" binding="t:J"><s:address location="jms:x"/></port></service>',
    )
    description = _described(TYPES, MESSAGES, PORT_TYPE, binding(), http, jms, service)
    assert [port.name for port in description.ports()] == ["A"]


def test_what_cannot_be_called_is_refused_when_it_is_asked_for() -> None:
    good = _described(TYPES, MESSAGES, PORT_TYPE, binding(), SERVICE)
    rpc = _described(TYPES, MESSAGES, PORT_TYPE, binding(style="rpc"), SERVICE)
    typed = MESSAGES.replace('element="t:q"', 'type="xs:string"')
    two = MESSAGES.replace(
        '<part name="p" element="t:q"/>', '<part name="p" element="t:q"/><part name="z" element="t:k"/>'
    )
    none = MESSAGES.replace('<part name="p" element="t:q"/>', "")
    missing = MESSAGES.replace('element="t:q"', 'element="t:nowhere"')
    cases = [
        (good, "x", "", "wsdl-operation-unknown"),
        (good, "o", "x", "wsdl-port-unknown"),
        (rpc, "o", "", "wsdl-rpc-style"),
        *(
            (_described(TYPES, messages, PORT_TYPE, binding(), SERVICE), "o", "", "wsdl-body-not-one")
            for messages in (typed, two, none)
        ),
        (_described(TYPES, missing, PORT_TYPE, binding(), SERVICE), "o", "", "wsdl-operation-unknown"),
    ]
    for description, operation, port, reason in cases:
        with pytest.raises(Malformed) as caught:
            description.find(operation, port)
        assert caught.value.reason == reason


IMPORT = '<import namespace="urn:t" location="{}"/>'
XS_IMPORT = (
    '<types><xs:schema targetNamespace="urn:t"><xs:{} namespace="urn:u" schemaLocation="{}"/></xs:schema></types>'
)
REST = MESSAGES + PORT_TYPE + binding() + SERVICE


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "xml-invalid"),
        ("<html/>", "wsdl-no-soap-port"),
        ("{}", "xml-invalid"),
        (wsdl(), "wsdl-no-soap-port"),
        (wsdl(TYPES, MESSAGES, PORT_TYPE, binding()), "wsdl-no-soap-port"),
        (wsdl(TYPES, MESSAGES, PORT_TYPE, SERVICE), "wsdl-no-soap-port"),
        (wsdl(TYPES, MESSAGES, binding(), SERVICE), "wsdl-invalid"),
        (wsdl(TYPES, MESSAGES, PORT_TYPE, binding(), SERVICE.replace('"t:B"', '"nope:B"')), "wsdl-invalid"),
        (wsdl(TYPES, MESSAGES.replace("t:q", "nope:q"), PORT_TYPE, binding(), SERVICE), "wsdl-invalid"),
        (wsdl(TYPES.replace('type="xs:string"', 'type="t:nowhere"'), REST), "wsdl-invalid"),
        (wsdl(TYPES.replace("<xs:element", "<xs:nonsense", 1).replace("/>", "/>", 1), REST), "wsdl-invalid"),
        ("<!DOCTYPE d>" + wsdl(TYPES, REST), "xml-doctype"),
        ('<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + wsdl(TYPES, REST), "xml-doctype"),
        ('<?xml version="1.0" encoding="utf-16"?>' + wsdl(TYPES, REST), "xml-not-utf8"),
        (wsdl("<a>" * 60, "</a>" * 60), "xml-too-deep"),
        (wsdl("<a/>" * 60_000), "xml-too-many-elements"),
        (wsdl(IMPORT.format("http://10.0.0.1/x.wsdl"), REST), "wsdl-remote-reference"),
        (wsdl(IMPORT.format("file:///etc/passwd"), REST), "wsdl-remote-reference"),
        (wsdl(IMPORT.format("/etc/passwd"), REST), "wsdl-remote-reference"),
        (wsdl(IMPORT.format("x.wsdl"), REST), "wsdl-remote-reference"),
        (wsdl(XS_IMPORT.format("import", "https://10.0.0.1/x.xsd"), REST), "wsdl-remote-reference"),
        (wsdl(XS_IMPORT.format("import", "../../etc/passwd"), REST), "wsdl-remote-reference"),
        (wsdl(XS_IMPORT.format("include", "file:///etc/passwd"), REST), "wsdl-remote-reference"),
        (wsdl(XS_IMPORT.format("include", "gopher://10.0.0.1/"), REST), "wsdl-remote-reference"),
    ],
)
def test_a_wsdl_that_is_broken_or_reaches_out_is_refused(text: str, reason: str) -> None:
    assert reason_of(text) == reason


def test_size_and_number_of_documents_are_bounded() -> None:
    with pytest.raises(TooLarge):
        describe_wsdl(wsdl(f"<documentation>{'x' * (4 << 20)}</documentation>"))
    asked: list[str] = []

    def another(url: str) -> bytes:
        asked.append(url)
        here = wsdl(IMPORT.format(f"http://a.example/{len(asked)}.wsdl"))
        return here.encode()

    with pytest.raises(TooLarge):
        describe_wsdl(wsdl(IMPORT.format("http://a.example/0.wsdl")), another)
    assert len(asked) == 50


def test_references_are_asked_of_the_loader_by_their_absolute_address_and_once() -> None:
    base = "http://a.example/dir/main.wsdl"
    documents = {
        "http://a.example/dir/abstract.wsdl": wsdl(
            XS_IMPORT.replace("urn:u", "urn:v").format("include", "../types/t.xsd"), MESSAGES, PORT_TYPE
        ),
        "http://a.example/types/t.xsd": SCHEMA.replace(
            "<xs:schema ", '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" '
        ),
    }
    asked: list[str] = []

    def load(url: str) -> bytes:
        asked.append(url)
        return documents[url].encode()

    text = wsdl(IMPORT.format("abstract.wsdl"), binding(), SERVICE)
    assert describe_wsdl(text, load, location=base).find("o")[1].request == "{urn:t}q"
    assert sorted(asked) == sorted(documents)


def test_documents_that_include_each_other_come_to_an_end() -> None:
    own = {NOWHERE: wsdl(IMPORT.format("service.wsdl"), TYPES, REST).encode()}
    assert describe_wsdl(own[NOWHERE].decode(), own.__getitem__).find("o")
    a, b = "http://wsdl.invalid/a.wsdl", "http://wsdl.invalid/b.wsdl"
    ring = {
        a: wsdl('<import namespace="urn:x" location="b.wsdl"/>', TYPES, REST).encode(),
        b: wsdl('<import namespace="urn:y" location="a.wsdl"/>').encode(),
    }
    with pytest.raises(Malformed):  # under false namespaces no two are ever the same document
        describe_wsdl(ring[a].decode(), ring.__getitem__)
    xs = 'xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:t"'
    schemas = {
        f"http://wsdl.invalid/{name}.xsd": f'<xs:schema {xs}><xs:include schemaLocation="{other}"/>{more}</xs:schema>'
        for name, other, more in (("a", "b.xsd", ELEMENTS), ("b", "a.xsd", ""))
    }
    including = wsdl(XS_IMPORT.format("include", "a.xsd"), REST)
    assert describe_wsdl(including, lambda url: schemas[url].encode()).find("o")


def test_a_loaders_document_goes_through_the_same_gate_and_its_refusal_is_passed_on() -> None:
    text = wsdl(IMPORT.format("http://a.example/x.wsdl"), REST)
    assert reason_of(text, {"http://a.example/x.wsdl": b"<!DOCTYPE a><a/>"}) == "xml-doctype"

    def refuse(_: str) -> bytes:
        raise Malformed("wsdl-remote-reference")

    with pytest.raises(Malformed, match="refers to another document"):
        describe_wsdl(text, refuse)


@pytest.mark.parametrize(
    "schema",
    [
        # A type that holds itself, types that extend each other in a ring, a group of itself.
        '<xs:complexType name="E"><xs:sequence><xs:element name="t" type="t:E" minOccurs="0"/></xs:sequence>'
        "</xs:complexType>",
        "".join(
            f'<xs:complexType name="T{at}"><xs:complexContent><xs:extension base="t:T{1 - at}"/></xs:complexContent>'
            "</xs:complexType>"
            for at in range(2)
        ),
        '<xs:group name="G"><xs:sequence><xs:group ref="t:G"/></xs:sequence></xs:group>',
        # A group that doubles forty times.
        "".join(
            f'<xs:group name="G{at}"><xs:sequence><xs:group ref="t:G{at + 1}"/><xs:group ref="t:G{at + 1}"/>'
            "</xs:sequence></xs:group>"
            for at in range(40)
        )
        + '<xs:group name="G40"><xs:sequence><xs:element name="x" type="xs:string"/></xs:sequence></xs:group>'
        '<xs:complexType name="D"><xs:sequence><xs:group ref="t:G0"/></xs:sequence></xs:complexType>'
        '<xs:complexType name="E"><xs:complexContent><xs:extension base="t:D"/></xs:complexContent></xs:complexType>',
        # A chain of two thousand extensions.
        '<xs:complexType name="T0"/>'
        + "".join(
            f'<xs:complexType name="T{at + 1}"><xs:complexContent><xs:extension base="t:T{at}"/></xs:complexContent>'
            "</xs:complexType>"
            for at in reversed(range(2000))
        ),
    ],
    ids=["itself", "ring", "group-of-itself", "doubling", "chain"],
)
def test_a_schema_made_to_exhaust_its_reader_ends_soon(schema: str) -> None:
    used = TYPES.replace('"q" type="xs:string"', '"q" type="t:E"') if 'name="E"' in schema else TYPES
    text = wsdl(used.replace("</xs:schema>", f"{schema}</xs:schema>"), REST)
    started = perf_counter()
    with suppress(Malformed):
        describe_wsdl(text)
    assert perf_counter() - started < 20


def test_eight_threads_read_different_wsdls() -> None:
    found: dict[int, str] = {}

    def read(number: int) -> None:
        text = wsdl(TYPES, REST).replace('"urn:t"', f'"urn:t{number}"')
        for _ in range(3):
            found[number] = describe_wsdl(text).find("o")[1].request

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: f"{{urn:t{number}}}q" for number in range(8)}
