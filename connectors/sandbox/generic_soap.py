"""The SOAP side of the plain receiver: its WSDL, its answers and its faults."""

from __future__ import annotations

from html import escape

from schemas.soap import SoapVersion, write_soap

NAMESPACE = "urn:lgsp:sandbox:generic"
OPERATION = "NhanHoSo"
REQUEST = f"{{{NAMESPACE}}}NhanHoSo"

#: ``{address}`` is where the twin is. The two ports differ in the version of SOAP.
WSDL = """<?xml version="1.0" encoding="UTF-8"?>
<definitions name="NhanHoSo" targetNamespace="urn:lgsp:sandbox:generic"
    xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:t="urn:lgsp:sandbox:generic" xmlns:xs="http://www.w3.org/2001/XMLSchema"
    xmlns:s11="http://schemas.xmlsoap.org/wsdl/soap/" xmlns:s12="http://schemas.xmlsoap.org/wsdl/soap12/">
  <types>
    <xs:schema targetNamespace="urn:lgsp:sandbox:generic" elementFormDefault="qualified">
      <xs:element name="NhanHoSo"><xs:complexType><xs:sequence>
        <xs:element name="MaHoSo" type="xs:string"/>
        <xs:element name="ChuHoSo" type="xs:string" minOccurs="0"/>
      </xs:sequence></xs:complexType></xs:element>
      <xs:element name="NhanHoSoTraLoi"><xs:complexType><xs:sequence>
        <xs:element name="DaNhan" type="xs:boolean"/>
        <xs:element name="NhanLai" type="xs:boolean"/>
      </xs:sequence></xs:complexType></xs:element>
    </xs:schema>
  </types>
  <message name="Yeucau"><part name="noiDung" element="t:NhanHoSo"/></message>
  <message name="TraLoi"><part name="noiDung" element="t:NhanHoSoTraLoi"/></message>
  <portType name="TiepNhan">
    <operation name="NhanHoSo"><input message="t:Yeucau"/><output message="t:TraLoi"/></operation>
    <operation name="BaoTin"><input message="t:Yeucau"/></operation>
  </portType>
  <binding name="TiepNhan11" type="t:TiepNhan">
    <s11:binding transport="http://schemas.xmlsoap.org/soap/http"/>
    <operation name="NhanHoSo"><s11:operation soapAction="urn:lgsp:sandbox:generic/NhanHoSo"/>
      <input><s11:body use="literal"/></input><output><s11:body use="literal"/></output></operation>
    <operation name="BaoTin"><s11:operation soapAction=""/><input><s11:body use="literal"/></input></operation>
  </binding>
  <binding name="TiepNhan12" type="t:TiepNhan">
    <s12:binding transport="http://schemas.xmlsoap.org/soap/http"/>
    <operation name="NhanHoSo"><s12:operation soapAction="urn:lgsp:sandbox:generic/NhanHoSo"/>
      <input><s12:body use="literal"/></input><output><s12:body use="literal"/></output></operation>
  </binding>
  <service name="TiepNhan">
    <port name="Soap11" binding="t:TiepNhan11"><s11:address location="{address}"/></port>
    <port name="Soap12" binding="t:TiepNhan12"><s12:address location="{address}"/></port>
  </service>
</definitions>
"""


def answer(version: SoapVersion, *, duplicate: bool) -> bytes:
    """The envelope that says the dossier was taken."""
    again = "true" if duplicate else "false"
    return write_soap(
        version,
        f'<t:NhanHoSoTraLoi xmlns:t="{NAMESPACE}"><t:DaNhan>true</t:DaNhan><t:NhanLai>{again}</t:NhanLai>'
        "</t:NhanHoSoTraLoi>".encode(),
    )


def fault(version: SoapVersion, code: str, text: str) -> bytes:
    """A fault in the words of a partner, who repeats what it likes. ``code`` is Client or Server."""
    if version is SoapVersion.V11:
        said = f"<faultcode>soap:{code}</faultcode><faultstring>{escape(text)}</faultstring>"
    else:
        new_code = {"Client": "Sender", "Server": "Receiver"}[code]
        said = (
            f"<soap:Code><soap:Value>soap:{new_code}</soap:Value></soap:Code>"
            f'<soap:Reason><soap:Text xml:lang="vi">{escape(text)}</soap:Text></soap:Reason>'
        )
    return write_soap(version, f"<soap:Fault>{said}</soap:Fault>".encode())
