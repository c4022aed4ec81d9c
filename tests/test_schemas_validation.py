"""Payload schemas: what a schema may be, what it lets through, and what a refusal may tell and cost."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from schemas import bundled
from schemas.codec import read_xml
from schemas.message import sha256_hex
from schemas.problem import Malformed, SchemaViolation
from schemas.validation import (
    MAX_ERRORS,
    MAX_SCHEMA_BYTES,
    WELL_FORMED_JSON,
    WELL_FORMED_XML,
    PayloadSchema,
    compile_schema,
    compile_xsd,
)

JSON = "application/json"
XML = "application/xml; charset=utf-8"


def xsd(inner: str, *, top: str = "") -> str:
    return (
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:test"'
        ' elementFormDefault="qualified">'
        f'{top}<xs:element name="hoSo"><xs:complexType><xs:sequence>{inner}</xs:sequence></xs:complexType></xs:element>'
        "</xs:schema>"
    )


def pattern(value: str) -> str:
    return (
        '<xs:element name="ten" maxOccurs="unbounded"><xs:simpleType><xs:restriction base="xs:string">'
        f'<xs:pattern value="{value}"/></xs:restriction></xs:simpleType></xs:element>'
    )


NUMBERS = xsd('<xs:element name="ma" type="xs:int" maxOccurs="unbounded"/>')


def refusal_of(schema: PayloadSchema, body: bytes, content_type: str) -> SchemaViolation:
    with pytest.raises(SchemaViolation) as caught:
        schema.validate(body, content_type)
    return caught.value


def dossier(**changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = orjson.loads(bundled.example("dossier.json"))
    return value | changes


def without(name: str) -> dict[str, Any]:
    value = dossier()
    del value[name]
    return value


# ---- JSON


def test_the_sample_dossier_fits_its_schema_and_comes_back_parsed() -> None:
    schema = compile_schema(bundled.document("dossier"))
    assert schema.validate(bundled.example("dossier.json"), "application/json; charset=utf-8") == dossier()
    assert schema.id == "urn:lgsp:schema:dossier:1"


@pytest.mark.parametrize("optional", ["KenhThucHien", "TaiLieuNop", "MaDoiTuong", "GhiChu", "NgayNopHoSo"])
def test_a_dossier_may_leave_out_what_the_portal_does_not_demand(optional: str) -> None:
    compile_schema(bundled.document("dossier")).validate(orjson.dumps(without(optional)), JSON)


@pytest.mark.parametrize(
    "value, pointer, rule",
    [
        (without("MaHoSo"), "", "required: MaHoSo"),
        (without("DonViXuLy"), "", "required: DonViXuLy"),
        (dossier(MaHoSo="H99.15-260423"), "/MaHoSo", "pattern"),
        (dossier(NgayTiepNhan="2026-04-23T10:00:00"), "/NgayTiepNhan", "pattern"),
        (dossier(NgayTiepNhan="20261323100000"), "/NgayTiepNhan", "pattern"),
        (dossier(NgayTiepNhan=""), "/NgayTiepNhan", "pattern"),
        (dossier(TrangThaiHoSo="11"), "/TrangThaiHoSo", "enum"),
        (dossier(TrangThaiHoSo=2), "/TrangThaiHoSo", "type: string"),
        (dossier(TrichYeuHoSo="đ" * 1001), "/TrichYeuHoSo", "maxLength: 1000"),
        (dossier(GhiChu="đ" * 2001), "/GhiChu", "maxLength: 2000"),
        (dossier(NguoiLa="x"), "", "additionalProperties"),
        (dossier(DinhDanhCHS=[{"LoaiDinhDanh": "1"}]), "/DinhDanhCHS/0", "required: SoDinhDanh"),
        ([dossier()], "", "type: object"),
    ],
)
def test_a_dossier_that_breaks_its_schema_is_told_where_and_which_rule(value: Any, pointer: str, rule: str) -> None:
    violation = refusal_of(compile_schema(bundled.document("dossier")), orjson.dumps(value), JSON)
    assert any(e.pointer == pointer and e.detail.startswith(rule) for e in violation.errors), violation.errors


def test_a_refusal_repeats_nothing_that_was_sent() -> None:
    secret = "BI-MAT-0042"
    schema = compile_schema(
        {
            "properties": {"a": {"type": "integer"}, "b": {"enum": ["x"]}, "c": {"const": 1}, "d": {"format": "date"}},
            "patternProperties": {"^BI": {"type": "integer"}},
            "additionalProperties": {"type": "boolean"},
            "propertyNames": {"maxLength": 3},
            "dependentRequired": {"a": ["e"]},
        }
    )
    body = dict.fromkeys(["a", "b", "c", "d", secret, f"x/~{secret}"], secret)
    violation = refusal_of(schema, orjson.dumps(body), JSON)
    told = repr([(e.pointer, e.detail) for e in violation.errors]) + violation.detail("vi") + str(violation.facts)
    assert secret not in told
    assert {"/a", "/b", "/c", "/d", "/*"} <= {error.pointer for error in violation.errors}


@pytest.mark.parametrize(
    "schema, reason",
    [
        ({"type": "strin"}, "schema-invalid"),
        ({"minLength": -1}, "schema-invalid"),
        ({"properties": []}, "schema-invalid"),
        ({"format": "no-such-format"}, "schema-invalid"),
        ({"$ref": "#/$defs/absent"}, "schema-invalid"),
        ({"const": object()}, "schema-invalid"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "schema-dialect"),
        ({"$ref": "https://schemas.invalid/x.json"}, "schema-remote-reference"),
        ({"items": {"$ref": "file:///etc/passwd"}}, "schema-remote-reference"),
        ({"properties": {"a": {"$dynamicRef": "other.json#x"}}}, "schema-remote-reference"),
        ({"pattern": "(?=a)b"}, "schema-pattern-unsafe"),
        ({"pattern": r"(a)\1"}, "schema-pattern-unsafe"),
        ({"pattern": "("}, "schema-pattern-unsafe"),
        ({"pattern": "a{1000}{1000}{1000}"}, "schema-pattern-unsafe"),
        ({"patternProperties": {"(?!x)": True}}, "schema-pattern-unsafe"),
        ({"description": "x" * MAX_SCHEMA_BYTES}, "schema-too-large"),
    ],
    ids=lambda value: value if isinstance(value, str) else "schema",
)
def test_a_schema_that_is_wrong_or_dangerous_is_refused_when_registered(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(Malformed) as refusal:
        compile_schema(schema)
    assert refusal.value.reason == reason


def test_a_schema_nested_without_end_is_refused_and_does_not_crash() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"not": schema}
    with pytest.raises(Malformed):
        compile_schema(schema)


def test_properties_may_be_named_like_keywords() -> None:
    schema = compile_schema({"properties": {"pattern": {"type": "string"}, "$ref": {"type": "string"}}})
    schema.validate(b'{"pattern":"(","$ref":"http://x.invalid/"}', JSON)


def test_formats_are_asserted() -> None:
    schema = compile_schema({"format": "date"})
    schema.validate(b'"2024-02-29"', JSON)
    assert refusal_of(schema, b'"2023-02-29"', JSON).errors[0].detail == "format: date"


def test_the_same_schema_is_compiled_once() -> None:
    first = compile_schema({"type": "object", "maxProperties": 3})
    assert compile_schema({"maxProperties": 3, "type": "object"}) is first
    assert first.digest == sha256_hex(b'{"maxProperties":3,"type":"object"}')
    assert first.id == f"sha256:{first.digest}"
    assert compile_schema(NUMBERS) is compile_schema(NUMBERS)


def test_a_schema_out_of_the_registry_is_compiled_without_the_libraries_of_registration() -> None:
    script = (
        "import sys; from schemas.validation import compile_schema\n"
        "compile_schema({'type': 'object'}, registered=True).validate(b'{}', 'application/json')\n"
        f"compile_schema({NUMBERS!r}, registered=True)\n"
        "assert 'jsonschema' not in sys.modules and 'xmlschema' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_schema_seen_unchecked_is_still_checked_when_it_is_registered() -> None:
    # The same element with two types: libxml2 compiles it, the standard (cos-element-consistent) forbids it.
    ambiguous = xsd('<xs:element name="a" type="xs:int"/><xs:element name="a" type="xs:string"/>')
    compile_schema(ambiguous, registered=True)
    for _ in range(2):
        with pytest.raises(Malformed):
            compile_schema(ambiguous)


HOSTILE: list[tuple[str, dict[str, Any], bytes]] = [
    ("a million wrong items", {"items": {"type": "string"}}, b"[" + b",".join([b"1"] * 999_999) + b"]"),
    ("the same behind anyOf", {"anyOf": [{"items": {"type": "string"}}, {"type": "object"}]},
     b"[" + b",".join([b"1"] * 999_999) + b"]"),
    ("an exponential pattern", {"items": {"pattern": "^(a+)+$"}},
     b"[" + b",".join([b'"' + b"a" * 60 + b'!"'] * 30_000) + b"]"),
    ("wrong members", {"additionalProperties": {"type": "string"}},
     b"{" + b",".join(b'"k%d":1' % n for n in range(150_000)) + b"}"),
    ("a wrong tree", {"$ref": "#/$defs/t", "$defs": {"t": {"items": {"$ref": "#/$defs/t"}, "type": "array"}}},
     b"[" + b",".join([b"[[1,2],[3,[4]]]"] * 40_000) + b"]"),
]  # fmt: skip


@pytest.mark.parametrize("name, schema, body", HOSTILE, ids=[name for name, _, _ in HOSTILE])
def test_a_hostile_payload_is_refused_quickly(name: str, schema: dict[str, Any], body: bytes) -> None:
    compiled = compile_schema(schema)
    started = time.thread_time()
    violation = refusal_of(compiled, body, JSON)
    # 20 to 120 ms of processor time; listing every error would take 3 to 17 s.
    assert time.thread_time() - started < 8
    assert 1 <= len(violation.errors) <= MAX_ERRORS


def test_an_error_beyond_the_excerpt_is_refused_without_a_false_place() -> None:
    schema = compile_schema({"items": {"type": "integer"}, "minItems": 1000, "contains": {"const": 7}})
    body = orjson.dumps([7] * 50_000 + ["x"])
    assert [e.detail for e in refusal_of(schema, body, JSON).errors] == ["beyond the first items of a large payload"]
    schema.validate(orjson.dumps([7] * 50_000), JSON)


SECOND_OPINION: list[Any] = [
    dossier(), without("MaTTHC"), dossier(HinhThuc="2"), dossier(MaDoiTuong=None), dossier(MaDoiTuong=5),
    dossier(TaiLieuNop=[{}]), dossier(DanhSachLePhi=[{"TenPhiLePhi": "x", "Gia": "-1"}]), dossier(Email="x" * 300),
    [], None,
    dossier(DanhSachTepDinhKemKhac=[{"TenGiayTo": "x", "SoLuong": 1.5}]), dossier(NgayHenTra=""), dossier(NgayTra="0"),
]  # fmt: skip


@pytest.mark.parametrize("value", SECOND_OPINION, ids=range(len(SECOND_OPINION)))
def test_jsonschema_is_of_the_same_opinion(value: Any) -> None:
    document = bundled.document("dossier")
    second = Draft202012Validator(document, format_checker=Draft202012Validator.FORMAT_CHECKER).is_valid(value)
    try:
        compile_schema(document).validate(orjson.dumps(value), JSON)
        first = True
    except SchemaViolation:
        first = False
    assert first == second


# ---- XML


def test_a_document_that_fits_its_xsd_comes_back_as_its_root() -> None:
    schema = compile_schema(NUMBERS)
    assert schema.validate(b'<hoSo xmlns="urn:test"><ma>1</ma></hoSo>', XML).tag == "{urn:test}hoSo"
    assert schema.id == "urn:test"


def test_an_xml_refusal_names_places_and_rules_and_repeats_nothing() -> None:
    violation = refusal_of(
        compile_schema(NUMBERS),
        b'<t:hoSo xmlns:t="urn:test"><t:ma>BI-MAT</t:ma><t:biMat biMat="BI-MAT"/></t:hoSo>',
        XML,
    )
    assert [(error.pointer, error.detail) for error in violation.errors] == [
        ("/hoSo/ma", "cvc-datatype-valid-1-2-1"),
        ("/hoSo/*", "element-content"),
    ]


@pytest.mark.parametrize(
    "schema, reason",
    [
        ("<a/>", "xsd-invalid"),
        ("not xml", "xml-invalid"),
        ("<!DOCTYPE a><a/>", "xml-doctype"),
        (xsd('<xs:element name="a" type="xs:nonsense"/>'), "xsd-invalid"),
        (xsd('<xs:element name="a"/><xs:any/>').replace("sequence", "sequense"), "xsd-invalid"),
        (xsd('<xs:element name="a" minOccurs="0"/><xs:element name="a"/>'), "xsd-invalid"),
        (xsd("", top='<xs:include schemaLocation="http://x.invalid/x.xsd"/>'), "schema-remote-reference"),
        (xsd("", top='<xs:import namespace="urn:x" schemaLocation="file:///etc/passwd"/>'), "schema-remote-reference"),
        (xsd("", top='<xs:redefine schemaLocation="x.xsd"/>'), "schema-remote-reference"),
        (xsd('<xs:element name="a" maxOccurs="100000000"/>'), "xsd-occurrence-bound"),
        (xsd(pattern("(a+)+")), "schema-pattern-unsafe"),
        (xsd(pattern("(a|aa)+")), "schema-pattern-unsafe"),
        (xsd(pattern("((a)*b?)*c")), "schema-pattern-unsafe"),
        (xsd(pattern("([a-z]+[0-9]?){1,99}x")), "schema-pattern-unsafe"),
        (xsd(pattern("(,[a-z,]+)*")), "schema-pattern-unsafe"),
        (xsd("<!--" + "x" * MAX_SCHEMA_BYTES + "-->"), "schema-too-large"),
    ],
    ids=lambda value: value[:20],
)
def test_an_xsd_that_is_wrong_or_dangerous_is_refused_when_registered(schema: str, reason: str) -> None:
    with pytest.raises(Malformed) as refusal:
        compile_schema(schema)
    assert refusal.value.reason == reason


@pytest.mark.parametrize(
    "value", ["[A-Z]+(-[A-Z]+)*", "([A-Z]|[0-9])+", r"[A-Z0-9]+(\.[A-Z0-9]+)*", r"\(a\)*", "(a+)?b"]
)
def test_a_plain_pattern_is_taken(value: str) -> None:
    compile_schema(xsd(pattern(value)))


def test_a_location_named_in_a_payload_is_not_followed() -> None:
    body = (
        b'<hoSo xmlns="urn:test" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        b' xsi:schemaLocation="urn:test file:///nonexistent.xsd"><ma>1</ma></hoSo>'
    )
    compile_schema(NUMBERS).validate(body, XML)


def test_threads_do_not_see_each_others_errors() -> None:
    schema = compile_schema(xsd(pattern("[0-9]+")))

    def run(wrong: int) -> int:
        body = b'<hoSo xmlns="urn:test"><ten>1</ten>' + b"<ten>x</ten>" * wrong + b"</hoSo>"
        try:
            schema.validate(body, XML)
        except SchemaViolation as violation:
            return len(violation.errors)
        return 0

    wrongs = [n % 5 for n in range(400)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, wrongs)) == wrongs


@pytest.mark.parametrize(
    "body",
    [
        b'<hoSo xmlns="urn:test">' + b"<ma>x</ma>" * 19_000 + b"</hoSo>",
        b'<hoSo xmlns="urn:test"><ma ' + b" ".join(b'a%d="1"' % n for n in range(19_000)) + b">1</ma></hoSo>",
        b'<hoSo xmlns="urn:test">' + b"<ma>1</ma>" * 10_000 + b"<ma>x</ma>" * 9_000 + b"</hoSo>",
    ],
    ids=["wrong elements", "wrong attributes", "wrong elements after good ones"],
)
def test_a_hostile_document_is_refused_quickly(body: bytes) -> None:
    compiled = compile_schema(NUMBERS)
    started = time.thread_time()
    violation = refusal_of(compiled, body, XML)
    assert time.thread_time() - started < 0.7  # 30 ms of processor time; a list of every error costs 1 to 3 s
    assert 1 <= len(violation.errors) <= MAX_ERRORS


def test_a_few_errors_in_a_large_document_are_placed() -> None:
    body = b'<hoSo xmlns="urn:test">' + b"<ma>1</ma>" * 10_000 + b"<ma>x</ma></hoSo>"
    schema = compile_schema(NUMBERS)
    assert [error.pointer for error in refusal_of(schema, body, XML).errors] == ["/hoSo/ma[10001]"]
    schema.validate(body.replace(b"x</", b"2</"), XML)


# ---- Several schemas in one text


def bundle(*schemas: str) -> str:
    return '<w:types xmlns:w="http://schemas.xmlsoap.org/wsdl/" xmlns:n="urn:nguoi">' + "".join(schemas) + "</w:types>"


IMPORT = '<xs:import namespace="urn:nguoi" schemaLocation="http://192.0.2.1/x.xsd"/>'
PEOPLE = (
    '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:t="urn:test" targetNamespace="urn:nguoi">'
    '<xs:import namespace="urn:test"/><xs:simpleType name="Tuoi"><xs:restriction base="xs:int">'
    '<xs:maxInclusive value="150"/></xs:restriction></xs:simpleType>'
    '<xs:element name="nguoi"><xs:complexType><xs:sequence><xs:element name="tuoi" type="n:Tuoi"/>'
    '<xs:element ref="t:hoSo" minOccurs="0"/></xs:sequence></xs:complexType></xs:element></xs:schema>'
)
MORE_PEOPLE = (
    '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:nguoi"'
    ' elementFormDefault="qualified"><xs:element name="ho"><xs:complexType><xs:sequence>'
    '<xs:element name="tuoi" type="n:Tuoi"/></xs:sequence></xs:complexType></xs:element></xs:schema>'
)
LANG = '<xs:import namespace="http://www.w3.org/XML/1998/namespace"/>'
BUNDLE = bundle(xsd('<xs:element ref="n:nguoi"/>', top=IMPORT), "<!-- hai -->", PEOPLE)


@pytest.mark.parametrize(
    "text, body, is_valid",
    [
        (BUNDLE, '<hoSo xmlns="urn:test"><n:nguoi xmlns:n="urn:nguoi"><tuoi xmlns="">7</tuoi></n:nguoi></hoSo>', True),
        (BUNDLE, '<n:nguoi xmlns:n="urn:nguoi"><tuoi>7</tuoi></n:nguoi>', True),
        (BUNDLE, '<n:nguoi xmlns:n="urn:nguoi"><tuoi>151</tuoi></n:nguoi>', False),
        (BUNDLE, '<n:nguoi xmlns:n="urn:nguoi"><n:tuoi>7</n:tuoi></n:nguoi>', False),
        (bundle(xsd(""), PEOPLE, MORE_PEOPLE), '<ho xmlns="urn:nguoi"><tuoi>7</tuoi></ho>', True),
        (bundle(xsd(""), PEOPLE, MORE_PEOPLE), '<ho xmlns="urn:nguoi"><tuoi>200</tuoi></ho>', False),
        (bundle(xsd('<xs:any namespace="##other" processContents="lax"/>'), PEOPLE),
         '<hoSo xmlns="urn:test"><n:nguoi xmlns:n="urn:nguoi"><tuoi>x</tuoi></n:nguoi></hoSo>', False),
        (xsd("", top=f'{LANG}<xs:attribute name="a" type="xs:int"/>').replace("</xs:sequence>",
         '</xs:sequence><xs:attribute ref="xml:lang"/>'), '<hoSo xmlns="urn:test" xml:lang="vi"/>', True),
        (xsd("", top='<!-- x --><xs:import namespace="http://www.w3.org/2001/XMLSchema"/>'),
         '<hoSo xmlns="urn:test"/>', True),
    ],
)  # fmt: skip
def test_schemas_that_import_one_another_are_one_schema(text: str, body: str, is_valid: bool) -> None:
    schema = compile_schema(text)
    if is_valid:
        schema.validate(body.encode(), XML)
    else:
        refusal_of(schema, body.encode(), XML)


@pytest.mark.parametrize(
    "text, reason",
    [
        (bundle(), "xsd-invalid"),
        (bundle("<a/>"), "xsd-invalid"),
        (bundle(*[PEOPLE] * 101), "xsd-invalid"),
        (bundle(xsd("", top=IMPORT)), "schema-remote-reference"),
        (bundle(xsd("", top='<xs:import schemaLocation="x.xsd"/>'), PEOPLE), "schema-remote-reference"),
        (bundle(xsd("", top='<xs:include schemaLocation="x.xsd"/>'), PEOPLE), "schema-remote-reference"),
        (bundle(xsd('<xs:element ref="n:nguoi"/>'), PEOPLE), "xsd-invalid"),  # not imported
        (bundle(xsd(""), PEOPLE, PEOPLE.replace("nguoi", "khac").replace("xs:int", "xs:string")), "xsd-invalid"),
        (bundle(xsd(pattern("(a+)+")), PEOPLE), "schema-pattern-unsafe"),
    ],
)
def test_a_bundle_that_is_not_whole_is_refused(text: str, reason: str) -> None:
    with pytest.raises(Malformed) as refusal:
        compile_schema(text)
    assert refusal.value.reason == reason


def test_the_root_may_be_named() -> None:
    document = b'<n:nguoi xmlns:n="urn:nguoi"><tuoi>7</tuoi></n:nguoi>'
    named = compile_schema(BUNDLE, element="{urn:nguoi}nguoi")
    named.validate(document, XML)
    other = compile_schema(BUNDLE, element="{urn:test}hoSo")
    assert other is not named
    assert other.digest == named.digest == compile_schema(BUNDLE).digest
    assert [(error.pointer, error.detail) for error in refusal_of(other, document, XML).errors] == [
        ("/nguoi", "root: {urn:test}hoSo")
    ]
    assert refusal_of(other, b"<biMat/>", XML).errors[0].pointer == "/*"
    with pytest.raises(Malformed) as refusal:
        compile_schema(BUNDLE, element="{urn:test}nguoi")
    assert refusal.value.reason == "xsd-element-unknown"


# ---- Content types and well-formed documents


@pytest.mark.parametrize(
    "schema, body, content_type",
    [
        (WELL_FORMED_JSON, b"{}", "application/xml"),
        (WELL_FORMED_XML, b"<a/>", "application/json"),
        (compile_schema({}), b"{}", "text/plain"),
        (compile_schema(NUMBERS), b"<a/>", "application/json"),
    ],
)
def test_a_body_of_another_type_is_refused_before_it_is_read(
    schema: PayloadSchema, body: bytes, content_type: str
) -> None:
    with pytest.raises(Malformed) as refusal:
        schema.validate(body, content_type)
    assert refusal.value.reason == "content-type-not-accepted"


def test_any_well_formed_document_fits_where_nothing_more_is_asked() -> None:
    assert WELL_FORMED_JSON.validate(b'{"a":[1]}', "application/problem+json") == {"a": [1]}
    assert WELL_FORMED_XML.validate(b"<a/>", "text/xml").tag == "a"
    with pytest.raises(Malformed):
        WELL_FORMED_JSON.validate(b'{"a":1,"a":2}', JSON)
    with pytest.raises(Malformed):
        WELL_FORMED_XML.validate(b"<a>", XML)
    assert WELL_FORMED_JSON.digest != WELL_FORMED_XML.digest


def test_an_element_inside_an_envelope_is_validated_alone_and_its_places_begin_with_it() -> None:
    schema = compile_xsd(
        '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:a" elementFormDefault="qualified">'
        '<xs:element name="hoSo"><xs:complexType><xs:sequence>'
        '<xs:element name="ma" type="xs:int" maxOccurs="9"/></xs:sequence></xs:complexType></xs:element></xs:schema>'
    )
    envelope = read_xml(
        b'<e:Envelope xmlns:e="urn:e"><e:Header><x/></e:Header>'
        b'<e:Body><hoSo xmlns="urn:a"><ma>1</ma><ma>x</ma></hoSo></e:Body></e:Envelope>'
    )
    with pytest.raises(SchemaViolation) as caught:
        schema.validate_element(envelope[1][0])
    assert [error.pointer for error in caught.value.errors] == ["/hoSo/ma[2]"]
