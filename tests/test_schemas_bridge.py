"""One payload in two languages: what becomes what, that nothing is lost on the way, and what is refused."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import canonicalize

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.bridge import Bridge, bridge_json_schema, bridge_xsd
from schemas.bridge.from_json_schema import shape_of_json_schema
from schemas.bridge.from_xsd import shape_of_xsd
from schemas.bridge.lexical import Digits, json_text
from schemas.bridge.names import xml_name
from schemas.bridge.shape import Array, Document, Field, Items, Kind, Place, Record, Reference, Scalar, Shape
from schemas.problem import Malformed, SchemaViolation
from schemas.validation import MAX_ERRORS, compile_schema
from schemas.xsd import read_xsd

ROOT = Path(__file__).resolve().parent.parent
XML, JSON = "application/xml", "application/json"
ELEMENT = "{urn:lgsp:service:test}yeuCau"


def xsd(inner: str, *, qualified: bool = True) -> str:
    form = ' elementFormDefault="qualified"' if qualified else ""
    names = 'xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns="urn:t" targetNamespace="urn:t"'
    return f"<xs:schema {names}{form}>{inner}</xs:schema>"


def record(inner: str, *, more: str = "", top: str = "", qualified: bool = True) -> str:
    return xsd(
        f'{top}<xs:element name="r"><xs:complexType>{inner}{more}</xs:complexType></xs:element>', qualified=qualified
    )


def sequence(inner: str, **kwargs: Any) -> str:
    return record(f"<xs:sequence>{inner}</xs:sequence>", **kwargs)


def r(inner: str, attributes: str = "") -> str:
    return f'<r xmlns="urn:t" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"{attributes}>{inner}</r>'


def same(one: bytes, other: bytes) -> bool:
    return canonicalize(one.decode(), rewrite_prefixes=True) == canonicalize(other.decode(), rewrite_prefixes=True)


def translated(bridge: Bridge, xml: str, value: str) -> None:
    """The two are translations of one another, and both fit their schemas."""
    compile_schema(bridge.xsd, element=bridge.element).validate(xml.encode(), XML)
    compile_schema(bridge.json_schema).validate(value.encode(), JSON)
    assert bridge.to_json(xml.encode()).decode() == value
    assert same(bridge.to_xml(value.encode()), xml.encode()), bridge.to_xml(value.encode())


# ---- From an XSD


EXTENSION = (
    '<xs:complexType name="Goc"><xs:sequence><xs:element name="ma" type="xs:string"/></xs:sequence>'
    '<xs:attribute name="phienBan" type="xs:int"/></xs:complexType><xs:complexType name="Day"><xs:complexContent>'
    '<xs:extension base="Goc"><xs:sequence><xs:element name="ten" type="xs:string"/></xs:sequence></xs:extension>'
    "</xs:complexContent></xs:complexType>"
)
TREE = (
    '<xs:complexType name="Nut"><xs:sequence><xs:element name="con" type="Nut" minOccurs="0" maxOccurs="unbounded"/>'
    "</xs:sequence></xs:complexType>"
)
LANGUAGE = (
    '<xs:complexType><xs:simpleContent><xs:extension base="xs:decimal"><xs:attribute name="donVi" type="xs:string"/>'
    "</xs:extension></xs:simpleContent></xs:complexType>"
)


@pytest.mark.parametrize(
    "schema, xml, value",
    [
        (sequence('<xs:element name="a" type="xs:string"/>'), r("<a> x  &amp;&lt;y&#13;</a>"), '{"a":" x  &<y\\r"}'),
        (sequence('<xs:element name="a" type="xs:string"/>', qualified=False), '<n:r xmlns:n="urn:t"><a>1</a></n:r>',
         '{"a":"1"}'),
        (sequence('<xs:element name="a" type="xs:int" maxOccurs="9"/>'), r("<a>1</a>"), '{"a":[1]}'),
        (sequence('<xs:element name="a" type="xs:int" minOccurs="0" maxOccurs="9"/>'), r(""), "{}"),
        (sequence('<xs:element name="a" type="xs:int" nillable="true"/>'), r('<a xsi:nil="true"/>'), '{"a":null}'),
        (sequence('<xs:element name="a" type="xs:boolean"/>'), r("<a>true</a>"), '{"a":true}'),
        (sequence('<xs:element name="a" type="xs:decimal"/>'), r("<a>12345678901234567.10</a>"),
         '{"a":12345678901234567.10}'),
        (sequence('<xs:element name="a" type="xs:integer"/>'), r("<a>-123456789012345678901</a>"),
         '{"a":"-123456789012345678901"}'),
        (sequence('<xs:element name="a" type="xs:long"/>'), r("<a>9223372036854775807</a>"),
         '{"a":9223372036854775807}'),
        (sequence('<xs:element name="a" type="xs:double"/>'), r("<a>-INF</a>"), '{"a":"-INF"}'),
        (sequence('<xs:element name="a" type="xs:double"/>'), r("<a>1.50E3</a>"), '{"a":1.50E3}'),
        (sequence('<xs:element name="a" type="xs:date"/>'), r("<a>2026-04-23+07:00</a>"), '{"a":"2026-04-23+07:00"}'),
        (sequence('<xs:element name="a" type="xs:base64Binary"/>'), r("<a>w6E=</a>"), '{"a":"w6E="}'),
        (sequence('<xs:element name="a"><xs:simpleType><xs:list itemType="xs:int"/></xs:simpleType></xs:element>'),
         r("<a>1 2</a>"), '{"a":[1,2]}'),
        (sequence(f'<xs:element name="a">{LANGUAGE}</xs:element>'), r('<a donVi="đồng">1.0</a>'),
         '{"a":{"@donVi":"đồng","#text":1.0}}'),
        (record("", more='<xs:attribute name="a" type="xs:string"/>'), r("", ' a="x &quot;&#10;"'),
         '{"@a":"x \\"\\n"}'),
        (sequence('<xs:element name="d" type="Day"/>', top=EXTENSION),
         r('<d phienBan="1"><ma>1</ma><ten>2</ten></d>'), '{"d":{"@phienBan":1,"ma":"1","ten":"2"}}'),
        (sequence('<xs:element name="n" type="Nut"/>', top=TREE), r("<n><con><con/></con><con/></n>"),
         '{"n":{"con":[{"con":[{}]},{}]}}'),
        (record('<xs:choice><xs:element name="a" type="xs:int"/><xs:sequence><xs:element name="b" type="xs:int"/>'
                '<xs:element name="c" type="xs:int"/></xs:sequence></xs:choice>'), r("<b>1</b><c>2</c>"),
         '{"b":1,"c":2}'),
        (record('<xs:choice maxOccurs="unbounded"><xs:element name="a" type="xs:int"/><xs:element name="b"'
                ' type="xs:int"/></xs:choice>'), r("<b>1</b><a>2</a><b>3</b>"), '{"#items":[{"b":1},{"a":2},{"b":3}]}'),
        (record('<xs:choice><xs:sequence><xs:element name="a" type="xs:int"/><xs:element name="b" type="xs:int"/>'
                '</xs:sequence><xs:sequence><xs:element name="a" type="xs:int"/></xs:sequence></xs:choice>')
         .replace('<xs:sequence><xs:element name="a" type="xs:int"/></xs:sequence></xs:choice>',
                  '<xs:element name="c" type="xs:int"/></xs:choice>'), r("<a>1</a><b>2</b>"), '{"a":1,"b":2}'),
        (xsd('<xs:element name="r" type="xs:int"/>'), r("7"), "7"),
        (sequence('<xs:element name="số_nhà" type="xs:string"/>'), r("<số_nhà>1</số_nhà>"), '{"số_nhà":"1"}'),
    ],
)  # fmt: skip
def test_an_xsd_says_what_becomes_what(schema: str, xml: str, value: str) -> None:
    translated(bridge_xsd(schema, "{urn:t}r"), xml, value)


@pytest.mark.parametrize(
    "kind, xml, value",
    [
        ("xs:boolean", " 1 ", "true"),
        ("xs:int", " +007 ", "7"),
        ("xs:decimal", "+.50", "0.50"),
        ("xs:decimal", "5.", "5"),
        ("xs:decimal", "-0012", "-12"),
        ("xs:decimal", "12345678901234567890", "12345678901234567890.0"),
        ("xs:double", "12345678901234567890", "12345678901234567890.0"),
        ("xs:double", "+05E01", "5E01"),
        ("xs:token", "  a\t b\n", '"a b"'),
        ("xs:normalizedString", " a\tb", '" a b"'),
        ("xs:date", " 2026-04-23 ", '"2026-04-23"'),
        ("xs:base64Binary", " w6\nE= ", '"w6E="'),
        ("xs:anySimpleType", " x ", '" x "'),
        ("xs:string", "<![CDATA[<a>]]>&#10;", '"<a>\\n"'),
        ("xs:unsignedLong", "18446744073709551615", '"18446744073709551615"'),
    ],
)
def test_many_spellings_in_xml_are_one_in_json(kind: str, xml: str, value: str) -> None:
    bridge = bridge_xsd(sequence(f'<xs:element name="a" type="{kind}"/>'), "{urn:t}r")
    body = r(f"<a>{xml}</a>").encode()
    if kind != "xs:date":  # libxml2 does not take the white space that the standard allows around it
        compile_schema(bridge.xsd).validate(body, XML)
    assert bridge.to_json(body).decode() == f'{{"a":{value}}}'
    compile_schema(bridge.json_schema).validate(bridge.to_json(body), JSON)


@pytest.mark.parametrize(
    "kind, value, text",
    [
        ("decimal", "1.5e3", "1500"),
        ("decimal", "1E-7", "0.0000001"),
        ("decimal", "12345678901234567890.0", "12345678901234567890"),
        ("decimal", "0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        ("integer", "1.0", "1"),
        ("integer", '"12345678901234567890"', "12345678901234567890"),
        ("int", "2e2", "200"),
        ("double", "1e5", "1e5"),
    ],
)
def test_numbers_of_json_are_spelled_as_xml_wants_them(kind: str, value: str, text: str) -> None:
    bridge = bridge_xsd(sequence(f'<xs:element name="a" type="xs:{kind}"/>'), "{urn:t}r")
    assert bridge.to_xml(f'{{"a":{value}}}'.encode()).decode() == f'<r xmlns="urn:t"><a>{text}</a></r>'


def test_schemas_of_several_namespaces_are_bridged_together() -> None:
    people = (
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:p"><xs:element name="a">'
        '<xs:complexType><xs:sequence><xs:element name="x" type="xs:int"/></xs:sequence></xs:complexType></xs:element>'
        '<xs:attribute name="k" type="xs:int"/></xs:schema>'
    )
    home = sequence(
        '<xs:element name="a" type="xs:int"/><xs:element xmlns:p="urn:p" ref="p:a"/>',
        more='<xs:attribute xmlns:p="urn:p" ref="p:k"/>',
        top='<xs:import namespace="urn:p"/>',
    )
    bundle = f'<w:types xmlns:w="http://schemas.xmlsoap.org/wsdl/">{home}{people}</w:types>'
    xml = '<t:r xmlns:t="urn:t" xmlns:p="urn:p" p:k="7"><t:a>1</t:a><p:a><x>2</x></p:a></t:r>'
    translated(bridge_xsd(bundle, "{urn:t}r"), xml, '{"@k":7,"a":1,"a_2":{"x":2}}')


@pytest.mark.parametrize(
    "schema, element, xml, value",
    [
        (record("", more='<xs:attribute name="a" type="xs:int"/>').replace("elementForm", "attributeForm"), "{urn:t}r",
         '<t:r xmlns:t="urn:t" t:a="1"/>', '{"@a":1}'),
        (record("", more='<xs:attribute ref="xml:lang"/>',
                top='<xs:import namespace="http://www.w3.org/XML/1998/namespace"/>'), "{urn:t}r",
         '<r xmlns="urn:t" xml:lang="vi"/>', '{"@lang":"vi"}'),
        (sequence('<xs:element name="a" type="xs:int"/>').replace(' xmlns="urn:t" targetNamespace="urn:t"', ""), "r",
         "<r><a>1</a></r>", '{"a":1}'),
    ],
)  # fmt: skip
def test_names_keep_their_namespaces(schema: str, element: str, xml: str, value: str) -> None:
    translated(bridge_xsd(schema, element), xml, value)


def test_what_the_xsd_says_of_a_type_is_said_in_json_too() -> None:
    code = (
        '<xs:simpleType name="Ma"><xs:annotation><xs:documentation>Mã\n hồ sơ</xs:documentation></xs:annotation>'
        '<xs:restriction base="xs:string"><xs:pattern value="[A-Z]{2}[0-9]+"/><xs:maxLength value="9"/>'
        "</xs:restriction>"
        "</xs:simpleType>"
    )
    limits = (
        '<xs:element name="n"><xs:annotation><xs:documentation>Số lượng</xs:documentation></xs:annotation>'
        '<xs:simpleType><xs:restriction base="xs:integer"><xs:minInclusive value="0"/><xs:maxExclusive value="100"/>'
        '</xs:restriction></xs:simpleType></xs:element><xs:element name="e"><xs:simpleType><xs:restriction'
        ' base="xs:string"><xs:enumeration value="nam"/><xs:enumeration value="nữ"/></xs:restriction></xs:simpleType>'
        "</xs:element>"
    )
    bridge = bridge_xsd(sequence(f'<xs:element name="m" type="Ma"/>{limits}', top=code), "{urn:t}r")
    assert bridge.json_schema["properties"] == {
        "m": {"type": "string", "maxLength": 9, "pattern": "^(?:[A-Z]{2}[0-9]+)$"},
        "n": {"type": "integer", "minimum": 0, "exclusiveMaximum": 100, "description": "Số lượng"},
        "e": {"type": "string", "enum": ["nam", "nữ"]},
    }


def test_many_threads_may_translate_at_once() -> None:
    def run(number: int) -> bool:
        body = f'{{"a":[{number}],"s":"{number}"}}'.encode()
        return STRICT.to_json(STRICT.to_xml(body)) == body

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, range(400)))


def test_what_an_optional_wildcard_lets_in_is_left_out() -> None:
    schema = sequence(
        '<xs:element name="a" type="xs:int"/><xs:any minOccurs="0" maxOccurs="9" processContents="lax"/>',
        more="<xs:anyAttribute/>",
    )
    bridge = bridge_xsd(schema, "{urn:t}r")
    assert bridge.to_json(r("<a>1</a><la><sau/></la>", ' la="1"').encode()) == b'{"a":1}'


ATTRIBUTES = '<xs:attribute name="a" type="{}"/>'
ENCODED = (
    '<w:types xmlns:w="http://schemas.xmlsoap.org/wsdl/"><xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"'
    ' targetNamespace="http://schemas.xmlsoap.org/soap/encoding/"><xs:complexType name="Array"><xs:sequence>'
    '<xs:any minOccurs="0"/></xs:sequence></xs:complexType></xs:schema>'
    + sequence('<xs:element name="a"><xs:complexType><xs:complexContent><xs:extension'
               ' xmlns:e="http://schemas.xmlsoap.org/soap/encoding/" base="e:Array"/></xs:complexContent>'
               "</xs:complexType></xs:element>", top='<xs:import namespace="http://schemas.xmlsoap.org/soap/encoding/"/>')
    + "</w:types>"
)  # fmt: skip


@pytest.mark.parametrize(
    "schema, why, place",
    [
        (sequence('<xs:element name="a"><xs:complexType mixed="true"/></xs:element>'), "mixed-content", "r/a"),
        (sequence('<xs:element name="a"/>'), "any-type", "r/a"),
        (sequence("<xs:any/>"), "any-required", "r"),
        (record('<xs:sequence maxOccurs="9"><xs:element name="a"/><xs:element name="b"/></xs:sequence>'),
         "repeated-group", "r"),
        (sequence('<xs:element name="a" type="xs:int"/><xs:element name="b" type="xs:int"/><xs:element name="a"'
                  ' type="xs:int"/>'), "element-twice", "r/a"),
        (sequence('<xs:element name="a" type="T"/>', top='<xs:complexType name="T" abstract="true"/>'),
         "abstract-type", "r/a"),
        (sequence('<xs:element ref="h"/>', top='<xs:element name="h" type="xs:int"/><xs:element name="s" type="xs:int"'
                  ' substitutionGroup="h"/>'), "substitution-group", "r/h"),
        (sequence("", more=ATTRIBUTES.format("xs:QName")), "bound-to-xml", "r/@a"),
        (ENCODED, "soap-encoding", "r/a"),
    ],
)  # fmt: skip
def test_an_xsd_that_json_cannot_say_is_refused_with_its_place(schema: str, why: str, place: str) -> None:
    with pytest.raises(Malformed) as refusal:
        bridge_xsd(schema, "{urn:t}r")
    assert (refusal.value.reason, refusal.value.facts) == ("schema-not-bridgeable", {"why": why, "place": place})


def test_an_element_that_the_xsd_does_not_have_is_refused() -> None:
    with pytest.raises(Malformed) as refusal:
        bridge_xsd(sequence(""), "{urn:t}khac")
    assert refusal.value.reason == "xsd-element-unknown"


# ---- From a JSON Schema


PERSON = {
    "type": "object",
    "additionalProperties": False,
    "required": ["hoTen"],
    "properties": {
        "hoTen": {"type": "string", "minLength": 1, "maxLength": 50, "description": "Họ và tên"},
        "ngaySinh": {"type": ["string", "null"], "format": "date"},
        "gioiTinh": {"enum": ["nam", "nữ"]},
        "con": {"type": "array", "items": {"$ref": "#"}},
    },
}


def obj(properties: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False, **more}


@pytest.mark.parametrize(
    "schema, value, xml",
    [
        (PERSON, '{"hoTen":"A","ngaySinh":null,"con":[{"hoTen":"B","con":[]}]}',
         '<hoTen>A</hoTen><ngaySinh xsi:nil="true"/><con><item><hoTen>B</hoTen><con/></item></con>'),
        (obj({"a": {"type": "number"}}), '{"a":1.50}', "<a>1.50</a>"),
        (obj({"a": {"type": ["string", "integer"]}}), '{"a":7}', '<a kind="number">7</a>'),
        (obj({"a": {"type": ["string", "integer"]}}), '{"a":"7"}', "<a>7</a>"),
        (obj({"a": {"type": ["boolean", "string", "null"]}}), '{"a":false}', '<a kind="boolean">false</a>'),
        (obj({"a": {"type": ["boolean", "string", "null"]}}), '{"a":null}', '<a xsi:nil="true"/>'),
        (obj({"a": {"enum": ["0", "1", 0, 1]}}), '{"a":0}', '<a kind="number">0</a>'),
        (obj({"a": {}}), '{"a":{"b":[1.50,null]}}', '<a>{"b":[1.50,null]}</a>'),
        (obj({"a": {"type": ["array", "object", "null"]}}), '{"a":null}', "<a>null</a>"),
        (obj({"a": {"type": "array", "items": {"type": ["integer", "null"]}}}), '{"a":[1,null]}',
         '<a><item>1</item><item xsi:nil="true"/></a>'),
        (obj({"a": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}}}), '{"a":[[],["x"]]}',
         "<a><item/><item><item>x</item></item></a>"),
        ({"type": "array", "items": {"type": "string"}}, '["x"]', "<item>x</item>"),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, '{"a":"1","b":1.10,"c d":[]}',
         '<a>1</a><_more>{"b":1.10,"c d":[]}</_more>'),
        (obj({"so luong": {"type": "integer"}, "1a": {"type": "integer"}, "địa_chỉ": {"type": "integer"}}),
         '{"so luong":1,"1a":2,"địa_chỉ":3}',
         "<so_x0020_luong>1</so_x0020_luong><_x0031_a>2</_x0031_a><địa_chỉ>3</địa_chỉ>"),
        ({"oneOf": [obj({"a": {"type": "string"}}, required=["a"]), obj({"b": {"type": "string"}}, required=["b"])]},
         '{"b":"x"}', "<b>x</b>"),
        ({"allOf": [{"$ref": "#/$defs/Goc"}, {"type": "object", "properties": {"b": {"type": "string"}}}],
          "unevaluatedProperties": False,
          "$defs": {"Goc": {"type": "object", "properties": {"a": {"type": "string"}}}}},
         '{"a":"1","b":"2"}', "<a>1</a><b>2</b>"),
        (obj({"a": {"$ref": "#/$defs/S%E1%BB%91%20hi%E1%BB%87u", "description": "x"}}) | {
          "$defs": {"Số hiệu": {"type": "string", "maxLength": 3}}}, '{"a":"x"}', "<a>x</a>"),
        (obj({"a": {"$ref": "#/$defs/N"}}) | {"$defs": {"N": {"oneOf": [{"type": "null"}, {"type": "integer"}]}}},
         '{"a":null}', '<a xsi:nil="true"/>'),
    ],
)  # fmt: skip
def test_a_json_schema_says_what_becomes_what(schema: dict[str, Any], value: str, xml: str) -> None:
    bridge = bridge_json_schema(schema, ELEMENT)
    whole = (
        f'<yeuCau xmlns="urn:lgsp:service:test" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">{xml}</yeuCau>'
    )
    translated(bridge, whole, value)


def test_what_is_said_of_a_field_is_said_in_the_xsd_too() -> None:
    text = bridge_json_schema(PERSON, ELEMENT).xsd
    assert "Họ và tên" in text
    assert '<xs:maxLength value="50"/>' in text
    assert '<xs:enumeration value="nữ"/>' in text
    compiled = compile_schema(text, element=ELEMENT)
    with pytest.raises(SchemaViolation):
        compiled.validate(b'<yeuCau xmlns="urn:lgsp:service:test"><hoTen></hoTen></yeuCau>', XML)


@pytest.mark.parametrize(
    "schema, why, place",
    [
        (obj({"a": obj({}, patternProperties={"^x": {}})}), "pattern-properties", "/properties/a/patternProperties"),
        (obj({"a/b": {"prefixItems": [{}]}}), "tuple", "/properties/a~1b/prefixItems"),
        ({"$dynamicRef": "#"}, "dynamic-reference", "/$dynamicRef"),
        ({"$ref": "#x", "$defs": {"x": {"$anchor": "x"}}}, "reference", "/"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
         "endless-reference", "/"),
        ({"$defs": {"a": {"oneOf": [{"$ref": "#/$defs/a"}, {"type": "string"}]}}, "$ref": "#/$defs/a"},
         "recursive-union", "/$defs/a/oneOf"),
    ],
)  # fmt: skip
def test_a_json_schema_that_xml_cannot_say_is_refused_with_its_place(
    schema: dict[str, Any], why: str, place: str
) -> None:
    with pytest.raises(Malformed) as refusal:
        bridge_json_schema(schema, ELEMENT)
    assert refusal.value.reason == "schema-not-bridgeable"
    assert refusal.value.facts["why"] == why
    assert str(refusal.value.facts["place"]).startswith(place)


def test_a_schema_that_multiplies_is_refused_in_time() -> None:
    definitions = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 8} for n in range(60)} | {"d60": {}}
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(40):
        deep = {"anyOf": [deep, {"type": "object", "properties": {"a": {"type": "integer"}}}]}
    started = time.thread_time()
    for schema in ({"$ref": "#/$defs/d0", "$defs": definitions}, deep):
        try:
            bridge_json_schema(schema, ELEMENT)
        except Malformed as refusal:
            assert refusal.reason == "schema-not-bridgeable"  # noqa: PT017  # either answer will do, in time
    assert time.thread_time() - started < 20


@pytest.mark.parametrize(
    "name", ["a", "số", "so luong", "1", "", "_", "_x0020_", "_more", "a:b", "x\u00a0y", "-a", "😀", "a_x", "_x"]
)
def test_every_name_has_its_own_name_in_xml(name: str) -> None:
    others = [
        "a",
        "số",
        "so luong",
        "1",
        "",
        "_",
        "_x0020_",
        "_more",
        "a:b",
        "x\u00a0y",
        "-a",
        "😀",
        "a_x",
        "_x",
        "_x005F_",
    ]
    assert [other for other in others if xml_name(other) == xml_name(name)] == [name]
    schema = obj({name: {"type": "string"}})
    bridge = bridge_json_schema(schema, ELEMENT)
    body = json.dumps({name: "x"}, ensure_ascii=False).encode()
    compile_schema(bridge.xsd).validate(bridge.to_xml(body), XML)
    assert json.loads(bridge.to_json(bridge.to_xml(body))) == {name: "x"}


# ---- The schemas that are here


PARTNERS = sorted((ROOT / "schemas").glob("**/*.schema.json"))


@pytest.mark.parametrize("path", PARTNERS, ids=[path.name for path in PARTNERS])
def test_the_json_schemas_of_partners_are_bridged(path: Path) -> None:
    bridge = bridge_json_schema(json.loads(path.read_text("utf-8")), ELEMENT)
    compiled = compile_schema(bridge.xsd, element=ELEMENT)
    stem = path.name.removesuffix(".schema.json")
    for example in [path.parent / f"{stem}.example.json", path.parent / f"{stem}.2.example.json"]:
        if example.exists():
            body = example.read_bytes()
            xml = bridge.to_xml(body)
            compiled.validate(xml, XML)
            assert json.loads(bridge.to_json(xml)) == json.loads(body)
            assert bridge.to_xml(bridge.to_json(xml)) == xml


POPULATION = ROOT / "schemas" / "partners" / "population" / "population.xsd"


def population_elements() -> list[str]:
    return list(read_xsd(POPULATION.read_bytes()).elements) if POPULATION.exists() else []


@pytest.mark.parametrize("element", population_elements())
def test_the_population_database_is_bridged(element: str) -> None:
    text = POPULATION.read_text("utf-8")
    bridge = bridge_xsd(text, element)
    example = POPULATION.parent / f"{element.rpartition('}')[2]}.example.xml"
    if example.exists():
        body = example.read_bytes()
        value = bridge.to_json(body)
        compile_schema(bridge.json_schema).validate(value, JSON)
        xml = bridge.to_xml(value)
        compile_schema(text, element=element).validate(xml, XML)
        assert bridge.to_json(xml) == value


# ---- Nothing is lost on the way


EVERYTHING = sequence(
    '<xs:element name="s" type="xs:string"/><xs:element name="t" type="xs:token" minOccurs="0"/>'
    '<xs:element name="i" type="xs:long" nillable="true" maxOccurs="3"/><xs:element name="w" type="xs:integer"/>'
    '<xs:element name="d" type="xs:decimal" minOccurs="0"/><xs:element name="f" type="xs:double"/>'
    '<xs:element name="ngay" type="xs:date"/><xs:element name="b" type="xs:base64Binary"/>'
    '<xs:element name="l" minOccurs="0"><xs:simpleType><xs:list itemType="xs:int"/></xs:simpleType></xs:element>'
    f'<xs:element name="m" minOccurs="0">{LANGUAGE}</xs:element><xs:element name="n" type="Nut"/>'
    '<xs:element name="c" minOccurs="0"><xs:complexType><xs:choice maxOccurs="unbounded"><xs:element name="x"'
    ' type="xs:int"/><xs:element name="y" type="xs:boolean" nillable="true"/></xs:choice></xs:complexType>'
    "</xs:element>",
    more='<xs:attribute name="a" type="xs:string"/>',
    top=TREE,
)
UNION = {
    "type": "object",
    "required": ["a"],
    "properties": {
        "a": {"type": ["string", "integer", "boolean", "null"]},
        "b c": {"type": "array", "items": {"$ref": "#/$defs/n%C3%BAt"}},
        "n": {"type": ["number", "null"]},
        "any": {},
        "e": {"enum": ["x", "y", None]},
        "o": {"oneOf": [obj({"p": {"type": "integer"}}), obj({"p": {"type": "string"}, "q": {"type": "boolean"}})]},
        "ng": {"type": "string", "format": "date-time"},
    },
    "$defs": {"nút": obj({"con": {"type": "array", "items": {"$ref": "#/$defs/n%C3%BAt"}}, "tên": {"type": "string"}})},
}

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\t\n\r<&>\"']"), max_size=12).filter(
    lambda text: not set(text) & set("\ufffe\uffff")
)
NUMBERS = st.decimals(-(10**9), 10**9, places=5, allow_nan=False).map(lambda number: Digits(format(number, "f")))
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS | NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def scalars(scalar: Scalar) -> st.SearchStrategy[Any]:
    if "enum" in scalar.limits:
        return st.sampled_from(scalar.limits["enum"])
    moments = {"date": "2026-02-28", "dateTime": "2026-02-28T23:59:59.5Z", "time": "00:00:00Z"}
    if scalar.xsd in moments:
        return st.just(moments[scalar.xsd])
    long = st.integers(-(2**63), 2**63 - 1)
    return {
        Kind.TEXT: TEXTS
        if scalar.space == "preserve"
        else TEXTS.map(lambda text: re.sub("[ \t\r\n]+", " ", text).strip(" ")),
        Kind.BOOLEAN: st.booleans(),
        Kind.INTEGER: long if scalar.xsd == "long" else st.integers(-(2**31), 2**31 - 1),
        Kind.WIDE: long | st.integers(2**63, 2**70).map(str),
        Kind.DECIMAL: NUMBERS | st.integers(-(10**15), 10**15),
        Kind.DOUBLE: NUMBERS | st.sampled_from(["INF", "-INF", "NaN"]),
        Kind.NUMBER: NUMBERS | long | st.sampled_from([Digits("1e3"), Digits("-2.50E-7")]),
        Kind.BASE64: st.sampled_from(["", "AA==", "w6E=", "AAAA"]),
        Kind.VARIANT: st.booleans() | long | TEXTS | NUMBERS,
        Kind.JSON: ANYTHING,
    }[scalar.kind]


def values(document: Document, shape: Shape, depth: int = 0) -> st.SearchStrategy[Any]:
    match shape:
        case Scalar():
            return scalars(shape)
        case Items(item=item):
            return st.lists(scalars(item), max_size=3)
        case Array(item=item):
            return st.lists(fields(document, item, depth + 1), max_size=3 if depth < 3 else 0)
        case Reference(name=name):
            return st.deferred(lambda: values(document, document.definitions[name], depth + 1))
        case Record():
            return records(document, shape, depth)


def records(document: Document, shape: Record, depth: int) -> st.SearchStrategy[Any]:
    named = [field for field in shape.fields if field.place is not Place.REST]
    required = {f.json: fields(document, f, depth) for f in named if f.is_required}
    optional = {f.json: fields(document, f, depth) for f in named if not f.is_required and depth < 4}
    made: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(required, optional=optional)
    if len(named) == len(shape.fields):
        return made
    names = {field.json for field in named}
    rest = st.dictionaries(TEXTS.filter(lambda name: name not in names), ANYTHING, max_size=2)
    return st.builds(lambda one, other: one | other, made, rest)


def fields(document: Document, field: Field, depth: int) -> st.SearchStrategy[Any]:
    if field.place is Place.CHOICES:
        assert isinstance(field.shape, Record)
        each = st.one_of(
            *(fields(document, f, depth).map(lambda value, name=f.json: {name: value}) for f in field.shape.fields)
        )
    else:
        each = values(document, field.shape, depth)
        each = each | st.none() if field.is_nillable else each
    return st.lists(each, min_size=1, max_size=3) if field.is_repeated else each


def there_and_back(bridge: Bridge, value: Any) -> None:
    body = json_text(value).encode()
    xml = bridge.to_xml(body)
    compile_schema(bridge.xsd, registered=True, element=bridge.element).validate(xml, XML)
    back = bridge.to_json(xml)
    assert json.loads(back, parse_float=Digits) == value
    assert bridge.to_xml(back) == xml
    compile_schema(bridge.json_schema, registered=True).validate(back, JSON)


XSD_BRIDGE, XSD_SHAPE = bridge_xsd(EVERYTHING, "{urn:t}r"), shape_of_xsd(EVERYTHING, "{urn:t}r")
JSON_BRIDGE, JSON_SHAPE = bridge_json_schema(UNION, ELEMENT), shape_of_json_schema(UNION, ELEMENT)
UNHURRIED = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@UNHURRIED
@given(values(XSD_SHAPE, XSD_SHAPE.root.shape))
def test_json_goes_to_xml_and_back_by_an_xsd(value: Any) -> None:
    there_and_back(XSD_BRIDGE, value)


@UNHURRIED
@given(values(JSON_SHAPE, JSON_SHAPE.root.shape).filter(lambda value: value.get("o", {}) is not None))
def test_json_goes_to_xml_and_back_by_a_json_schema(value: Any) -> None:
    body = json_text(value).encode()
    xml = JSON_BRIDGE.to_xml(body)
    compile_schema(JSON_BRIDGE.xsd, registered=True, element=ELEMENT).validate(xml, XML)
    assert json.loads(JSON_BRIDGE.to_json(xml), parse_float=Digits) == value
    assert JSON_BRIDGE.to_xml(JSON_BRIDGE.to_json(xml)) == xml


# ---- Refusals


STRICT = bridge_xsd(
    sequence(
        '<xs:element name="a" type="xs:int" maxOccurs="unbounded"/><xs:element name="b" minOccurs="0"><xs:complexType>'
        '<xs:sequence><xs:element name="c" type="xs:date"/></xs:sequence><xs:attribute name="k" type="xs:int"/>'
        '</xs:complexType></xs:element><xs:element name="s" type="xs:string" minOccurs="0" nillable="true"/>'
    ),
    "{urn:t}r",
)


@pytest.mark.parametrize(
    "value, errors",
    [
        ('{"a":[1,"BI-MAT"]}', [("/a/1", "type: integer")]),
        ('{"a":1}', [("/a", "type: array")]),
        ('{"a":[]}', [("/a", "minItems: 1")]),
        ('{"a":[1],"BI-MAT":1}', [("/*", "additionalProperties")]),
        ('{"b":{"@k":"BI-MAT"}}', [("", "required: a"), ("/b/@k", "type: integer"), ("/b", "required: c")]),
        ('{"a":[1],"b":{"c":"23/04/2026"}}', [("/b/c", "format: date")]),
        ('{"a":[1],"b":null}', [("/b", "type: object")]),
        ('{"a":[null]}', [("/a/0", "type: integer")]),
        ('{"a":[1.5]}', [("/a/0", "type: integer")]),
        ('{"a":[true]}', [("/a/0", "type: integer")]),
        ('{"a":[1],"s":"BI\\u0000MAT"}', [("/s", "character-not-in-xml")]),
        ("[]", [("", "type: object")]),
        ("null", [("", "type: object")]),
    ],
)
def test_json_that_cannot_be_xml_is_refused_at_its_place(value: str, errors: list[tuple[str, str]]) -> None:
    with pytest.raises(SchemaViolation) as refusal:
        STRICT.to_xml(value.encode())
    assert [(error.pointer, error.detail) for error in refusal.value.errors] == errors
    assert refusal.value.reason == "payload-not-translatable"
    assert "BI-MAT" not in refusal.value.detail() + repr(refusal.value.errors)


@pytest.mark.parametrize(
    "xml, errors",
    [
        (r("<a>1</a><a>BI-MAT</a>"), [("/r/a[2]", "format: integer")]),
        (r("<a>9223372036854775808</a>"), [("/r/a", "integer-beyond-64-bits")]),
        (r("<a>1<!-- x -->2</a>"), [("/r/a", "comment-in-value")]),
        (r("<a>1<?x y?></a>"), [("/r/a", "comment-in-value")]),
        (r("<a>1<biMat/></a>"), [("/r/a/*", "element-unknown")]),
        (r("<a>1</a><biMat/>"), [("/r/*", "element-unknown")]),
        (r('<a xmlns="urn:khac">1</a>'), [("/r/*", "element-unknown")]),
        (r("<a>1</a>BI-MAT"), [("/r", "text-unexpected")]),
        (r('<a biMat="1">1</a>'), [("/r/a/@*", "attribute-unknown")]),
        (r('<a xsi:nil="true"/>'), [("/r/a", "nil-not-allowed"), ("/r/a", "format: integer")]),
        (r('<a xsi:type="x">1</a>'), [("/r/a/@type", "type-substitution")]),
        (r('<b k="x"><c>1</c></b>'), [("/r/b/@k", "format: integer"), ("/r/b/c", "format: date")]),
        (r("<b><c>2026-04-23</c><c>2026-04-23</c></b>"), [("/r/b/c[2]", "maxOccurs: 1")]),
        (r('<s xsi:nil="true">x</s>'), [("/r/s", "nil-not-empty")]),
        (r('<s xsi:nil="1" k="x"/>'), [("/r/s/@k", "attribute-of-nil")]),
        ("<biMat/>", [("/*", "root: {urn:t}r")]),
    ],
)
def test_xml_that_cannot_be_json_is_refused_at_its_place(xml: str, errors: list[tuple[str, str]]) -> None:
    with pytest.raises(SchemaViolation) as refusal:
        STRICT.to_json(xml.encode())
    assert [(error.pointer, error.detail) for error in refusal.value.errors] == errors
    assert not re.search("BI-MAT|biMat", refusal.value.detail() + repr(refusal.value.errors))


@pytest.mark.parametrize("nil", ["false", "0"])
def test_a_nil_that_is_not_one_says_nothing(nil: str) -> None:
    assert STRICT.to_json(r(f'<a>1</a><s xsi:nil="{nil}">x</s>').encode()) == b'{"a":[1],"s":"x"}'


def test_comments_between_elements_are_passed_over() -> None:
    assert STRICT.to_json(r("<!-- x --> <a>1</a> <?x y?>").encode()) == b'{"a":[1]}'


@pytest.mark.parametrize(
    "more",
    ['{"a":"1"}', "[]", "7", '{"x":1,"x":2}', "x", ""],
    ids=["named", "array", "number", "twice", "word", "none"],
)
def test_further_members_must_be_an_object_of_others(more: str) -> None:
    bridge = bridge_json_schema({"type": "object", "properties": {"a": {"type": "string"}}}, ELEMENT)
    with pytest.raises(SchemaViolation):
        bridge.to_json(f'<yeuCau xmlns="urn:lgsp:service:test"><_more>{more}</_more></yeuCau>'.encode())


HOSTILE_JSON = [
    ("wrong items", b'{"a":[' + b",".join([b'"x"'] * 500_000) + b"]}"),
    ("good items", b'{"a":[' + b",".join([b"1"] * 900_000) + b"]}"),
    ("digits", b'{"a":[1.' + b"0" * 2_000_000 + b"]}"),
    ("an exponent", b'{"a":[1e-' + b"9" * 1_000_000 + b"]}"),
    ("members", b"{" + b",".join(b'"k%d":1' % n for n in range(150_000)) + b"}"),
    ("text", b'{"s":"' + b"<&" * 500_000 + b'","a":[1]}'),
]
HOSTILE_XML = [
    ("digits", r("<a>" + "0" * 2_000_000 + "x</a>")),
    ("more digits", r("<a>" + "1" * 2_000_000 + "</a>")),
    ("wrong elements", r("<a>x</a>" * 19_000)),
    ("unknown elements", r("<x/>" * 19_000)),
    ("attributes", r("<a " + " ".join(f'k{n}="1"' for n in range(19_000)) + ">1</a>")),
    ("deep", r("<a>" * 38 + "</a>" * 38)),
    ("text between", r("x<a>1</a>" * 9_000)),
    ("a date", r("<b><c>" + "1" * 2_000_000 + "-x</c></b>")),
]


@pytest.mark.parametrize("name, body", HOSTILE_JSON, ids=[name for name, _ in HOSTILE_JSON])
def test_hostile_json_costs_little(name: str, body: bytes) -> None:
    started = time.thread_time()
    try:
        STRICT.to_xml(body)
    except SchemaViolation as refusal:
        assert len(refusal.errors) <= MAX_ERRORS  # noqa: PT017  # either answer will do, in time
    assert time.thread_time() - started < 20


@pytest.mark.parametrize("name, body", HOSTILE_XML, ids=[name for name, _ in HOSTILE_XML])
def test_hostile_xml_costs_little(name: str, body: str) -> None:
    started = time.thread_time()
    with pytest.raises(SchemaViolation) as refusal:
        STRICT.to_json(body.encode())
    assert time.thread_time() - started < 10
    assert 1 <= len(refusal.value.errors) <= MAX_ERRORS


# ---- The page


def test_the_examples_of_the_page_are_true() -> None:
    page = (ROOT / "docs" / "bridging.md").read_text("utf-8")
    names: dict[str, Any] = {}
    found = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert found
    for block in found:
        exec(compile(block, "docs/bridging.md", "exec"), names)  # noqa: S102  # our own page
