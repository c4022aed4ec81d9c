"""The WSDL that the bus writes, as other readers see it."""

from __future__ import annotations

from io import BytesIO

import pytest
import xmlschema
import zeep
from lxml import etree

from bus.web.soap import EXCHANGE_TYPES, PROBLEM_ELEMENT, RECEIPT_ELEMENT, exchange_server
from connectors.soap import describe_wsdl
from schemas.problem import Malformed
from schemas.soap import EXCHANGE_BLOCK, MANIFEST_BLOCK
from schemas.wsdl import WSDL_NS, WsdlOperation, write_wsdl

XSD = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:t" elementFormDefault="qualified">
<xs:element name="Ask"><xs:complexType><xs:sequence><xs:element name="id" type="xs:string"/></xs:sequence>
</xs:complexType></xs:element><xs:element name="Answer" type="xs:string"/></xs:schema>"""
BUNDLE = f'<w:types xmlns:w="{WSDL_NS}">{XSD}{EXCHANGE_TYPES}</w:types>'
ADDRESS = 'https://bus.invalid/soap?a=1&b="2"<'


def document(types: list[str], *, reply: str | None = "{urn:t}Answer", address: str = ADDRESS) -> bytes:
    operation = WsdlOperation(
        name="Ask",
        request="{urn:t}Ask",
        reply=reply,
        blocks=(MANIFEST_BLOCK, EXCHANGE_BLOCK),
        documentation="Hỏi & đáp",
    )
    return write_wsdl(
        name="Asking", namespace="urn:w", types=types, operations=[operation], address=address, fault=PROBLEM_ELEMENT
    )


@pytest.mark.parametrize("types", [[XSD, EXCHANGE_TYPES], [BUNDLE]], ids=["schemas", "a bundle"])
@pytest.mark.parametrize("version", ["Soap11", "Soap12"])
def test_zeep_makes_a_client_of_either_port(types: list[str], version: str) -> None:
    made = zeep.Client(BytesIO(document(types)), service_name="Asking", port_name=f"Asking{version}")
    written = made.create_message(made.service, "Ask", id="7", _soapheaders={"Manifest": "jws"})
    assert [child.tag.partition("}")[2] for child in written] == ["Header", "Body"]
    assert written[0][0].tag == MANIFEST_BLOCK
    assert written[1][0].tag == "{urn:t}Ask"
    made.transport.session.close()


def test_an_address_comes_out_as_it_went_in() -> None:
    root = etree.fromstring(document([XSD, EXCHANGE_TYPES]))
    assert root.xpath("//*[local-name()='address']/@location") == [ADDRESS, ADDRESS]


def test_one_way_services_answer_with_a_receipt_or_with_nothing() -> None:
    for reply, outputs in ((RECEIPT_ELEMENT, 1), (None, 0)):
        root = etree.fromstring(document([XSD, EXCHANGE_TYPES], reply=reply))
        assert len(root.findall(f".//{{{WSDL_NS}}}portType/*/{{{WSDL_NS}}}output")) == outputs
        zeep.Client(BytesIO(etree.tostring(root))).transport.session.close()


def test_our_own_reader_takes_what_our_own_writer_writes() -> None:
    described = describe_wsdl(exchange_server().wsdl("https://bus.invalid/soap/exchange").decode())
    assert described


@pytest.mark.parametrize("types", ["<a/>", "no xml", "<!DOCTYPE a><a/>"])
def test_types_that_are_none_are_refused(types: str) -> None:
    with pytest.raises(Malformed):
        document([types])


def test_the_types_in_the_document_are_valid_by_themselves() -> None:
    root = etree.fromstring(exchange_server().wsdl("https://bus.invalid/"))
    (schema,) = root.find(f"{{{WSDL_NS}}}types")
    assert "SubmitMessage" in xmlschema.XMLSchema10(etree.tostring(schema).decode()).elements


def test_every_prefix_in_a_value_is_declared() -> None:
    root = etree.fromstring(document([XSD, EXCHANGE_TYPES]))
    for node in root.iter():
        for name in ("element", "message", "type", "binding"):
            prefix, colon, _ = node.get(name, "").partition(":")
            assert not colon or prefix in node.nsmap
