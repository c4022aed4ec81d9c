"""Bytes to values: what two readers could understand differently is refused, each for its own reason."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import bundled
from schemas.codec import canonical_json, read_content_type, read_json, read_xml, write_json
from schemas.problem import Malformed, Problem

GOOD_JSON = [
    b"{}", b"[]", b"null", b" true ", b'"\xc4\x90"', b"-0", b"1e3", b'{"a":{"b":[1,2.5,"c:d"]}}', b'{"a:b":"\\u003a"}',
    b'{"\\u0061":1,"b":2}', b"9223372036854775807", b"-9223372036854775808", b'{"id":"1234567890123456789012"}',
    b"0.1234567890123456789012345", b'"\\ud83d\\ude00"', b'{"a":1,"A":2}', b"[" * 64 + b"]" * 64,
    b"[" + b"[],{}," * 500 + b"1]", b'"' + b"[" * 5000 + b'"',
]  # fmt: skip

BAD_JSON = [
    (b'{"a":1,"a":1}', "json-duplicate-key"),
    (b'{"a":1,"\\u0061":2}', "json-duplicate-key"),
    (b'{"x":{"a":1,"b":2,"a":3}}', "json-duplicate-key"),
    # The dropped member takes a colon away, the escape brings one back: only the slow reader can tell.
    (b'{"a":1,"a":"\\u003a"}', "json-duplicate-key"),
    (b'{"a":1,"a":"\\u003A\\\\u003a"}', "json-duplicate-key"),
    (b'{"a":"x:y:z","a":"\\u003a\\u003a\\u003a"}', "json-duplicate-key"),
    (b"[NaN]", "json-not-a-number"),
    (b'{"a":-Infinity}', "json-not-a-number"),
    (b"1e999", "json-not-a-number"),
    (b"-1e400", "json-not-a-number"),
    (b"9223372036854775808", "json-number-too-large"),
    (b"-9223372036854775809", "json-number-too-large"),
    (b"[18446744073709551616]", "json-number-too-large"),
    (b"1" * 5000, "json-number-too-large"),
    (b"\xef\xbb\xbf{}", "json-byte-order-mark"),
    (b'"\xff"', "json-not-utf8"),
    (b'"\xc0\xaf"', "json-not-utf8"),
    (b'"\xed\xa0\x80"', "json-not-utf8"),
    ('{"a":1}'.encode("utf-16-le"), "json-invalid"),
    ('{"a":1}'.encode("utf-16"), "json-not-utf8"),
    (b'"\\ud800"', "json-invalid-text"),
    (b'{"\\udc00":1}', "json-invalid-text"),
    (b"[" * 65 + b"]" * 65, "json-too-deep"),
    (b'{"a":' * 65 + b"1" + b"}" * 65, "json-too-deep"),
    (b"[" * 1500 + b"]" * 1500, "json-too-deep"),
    (b"[" * 100_000 + b"]" * 100_000, "json-too-deep"),
    (b"[" * 100_000, "json-too-deep"),
    (b"{}{}", "json-invalid"),
    (b"{} x", "json-invalid"),
    (b"{}\x00", "json-invalid"),
    (b"", "json-invalid"),
    (b"{'a':1}", "json-invalid"),
    (b"[1,]", "json-invalid"),
    (b"01", "json-invalid"),
    (b"+1", "json-invalid"),
    (b'"\x01"', "json-invalid"),
    (b"/**/1", "json-invalid"),
]


@pytest.mark.parametrize("data", GOOD_JSON, ids=lambda data: repr(data[:24]))
def test_unambiguous_json_is_read_as_the_standard_reader_reads_it(data: bytes) -> None:
    assert read_json(data) == json.loads(data)


@pytest.mark.parametrize("data, reason", BAD_JSON, ids=lambda data: repr(data[:24]))
def test_ambiguous_or_broken_json_is_refused_for_its_own_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Malformed) as refusal:
        read_json(data)
    assert refusal.value.reason == reason
    assert refusal.value.detail("vi") != refusal.value.detail("en")


def test_the_depth_limit_is_the_callers() -> None:
    assert read_json(b"[[1]]", max_depth=2) == [[1]]
    with pytest.raises(Malformed):
        read_json(b"[[1]]", max_depth=1)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(JSON_VALUES, st.booleans())
def test_whatever_is_written_is_read_back_the_same(value: object, ascii_only: bool) -> None:
    assert read_json(write_json(value)) == value
    assert read_json(json.dumps(value, ensure_ascii=ascii_only, indent=1).encode()) == value


@given(JSON_VALUES, st.text(max_size=5), JSON_VALUES)
def test_no_duplicate_key_gets_through(value: object, key: str, other: object) -> None:
    first, second = json.dumps(value), json.dumps(other, ensure_ascii=True)
    name = json.dumps(key)
    with pytest.raises(Malformed) as refusal:
        read_json(f'[{{{name}:{first},"k":1,{name}:{second},"k":2}}]'.encode())
    assert refusal.value.reason == "json-duplicate-key"


def test_written_json_keeps_text_as_it_is() -> None:
    assert write_json({"b": "e\u0301Đ", "a": 1}) == '{"b":"e\u0301Đ","a":1}'.encode()
    assert canonical_json({"b": [1, {"d": 2, "c": 3}], "a": "Đ"}) == '{"a":"Đ","b":[1,{"c":3,"d":2}]}'.encode()


GOOD_XML = [
    b"<a/>", b'<?xml version="1.0" encoding="utf-8"?>\n<a>\xc4\x90</a>', b"\xef\xbb\xbf<a/>", b"<!-- <!DOCTYPE --><a/>",
    b"<a><![CDATA[<!DOCTYPE x>]]><!-- kept --></a>", b"<a>" * 40 + b"</a>" * 40, b"<a>" + b"<b/>" * 19_999 + b"</a>",
    b"<?xml version='1.0' encoding='UTF-8' standalone='yes'?><a>&#272;&amp;</a>",
]  # fmt: skip

BAD_XML = [
    (b'<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>', "xml-doctype"),
    (b'<?xml version="1.0"?>\n<!-- c --><?p i?> <!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "xml-doctype"),
    (b"\xef\xbb\xbf<!DOCTYPE a><a/>", "xml-doctype"),
    (b'<!DOCTYPE a [<!ENTITY % x SYSTEM "http://x.invalid/">%x;]><a/>', "xml-doctype"),
    (b'<?xml version="1.0" encoding="UTF-7"?>+ADwAIQ-DOCTYPE a+AD4-<a/>', "xml-not-utf8"),
    (b"<?xml version='1.0' encoding = 'iso-8859-1'?><a>\xc4\x90</a>", "xml-not-utf8"),
    ("<a>Đ</a>".encode("utf-16"), "xml-not-utf8"),
    ("<a/>".encode("utf-16-be"), "xml-not-utf8"),
    (b"<a>\xff</a>", "xml-not-utf8"),
    (b"<a>" * 41 + b"</a>" * 41, "xml-too-deep"),
    (b"<a>" * 5000 + b"</a>" * 5000, "xml-invalid"),
    (b"<a>" + b"<b/>" * 20_000 + b"</a>", "xml-too-many-elements"),
    (b"<a " + b" ".join(b'b%d="1"' % n for n in range(20_001)) + b"/>", "xml-too-many-attributes"),
    (b"<a>&e;</a>", "xml-invalid"),
    (b"<a><b></a>", "xml-invalid"),
    (b"<a/><b/>", "xml-invalid"),
    (b"<a>&#0;</a>", "xml-invalid"),
    (b"stray<a/>", "xml-invalid"),
    (b"", "xml-invalid"),
    (b"<x:a/>", "xml-invalid"),
]


@pytest.mark.parametrize("data", GOOD_XML, ids=lambda data: repr(data[:24]))
def test_plain_xml_is_read(data: bytes) -> None:
    assert read_xml(data).tag == "a"


@pytest.mark.parametrize("data, reason", BAD_XML, ids=lambda data: repr(data[:24]))
def test_dangerous_or_broken_xml_is_refused_for_its_own_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Malformed) as refusal:
        read_xml(data)
    assert refusal.value.reason == reason


def test_the_search_for_a_doctype_is_linear() -> None:
    started = time.perf_counter()
    with pytest.raises(Malformed):
        read_xml(b"<!--" * 200_000 + b"<!DOCTYPE")
    assert time.perf_counter() - started < 10  # quadratic search takes minutes


@pytest.mark.parametrize(
    "header, media_type",
    [
        ("application/json", "application/json"),
        ("Application/JSON; charset=UTF-8", "application/json"),
        ('text/xml;charset="utf-8"', "text/xml"),
        ("application/vnd.lgsp+json ; v=1 ; charset=utf-8", "application/vnd.lgsp+json"),
    ],
)
def test_a_content_type_is_read(header: str, media_type: str) -> None:
    read = read_content_type(header)
    assert read == (media_type, "utf-8")
    assert read.is_json == media_type.endswith("json")
    assert read.is_xml == media_type.endswith("xml")


@pytest.mark.parametrize(
    "header, reason",
    [
        ("", "content-type-invalid"),
        ("json", "content-type-invalid"),
        ("application/json, text/xml", "content-type-invalid"),
        ("application/json\r\nX: y", "content-type-invalid"),
        ("application/json;" + " a=b;" * 100, "content-type-invalid"),
        ("application/json; charset=utf-16", "content-type-charset"),
        ("text/xml; charset=utf-8; charset=tcvn", "content-type-charset"),
    ],
)
def test_an_unreadable_or_foreign_content_type_is_refused(header: str, reason: str) -> None:
    with pytest.raises(Malformed) as refusal:
        read_content_type(header)
    assert refusal.value.reason == reason


def test_the_sample_dossier_takes_the_fast_way() -> None:
    from schemas.codec import _surely_unambiguous

    data = bundled.example("dossier.json")
    assert 2_500 < len(data) < 3_500
    assert _surely_unambiguous(data, read_json(data))


def test_every_reason_speaks_both_languages() -> None:
    from schemas.reasons import REASONS

    for reason, wording in REASONS.items():
        assert wording.en.strip(), reason
        assert wording.vi.strip() != wording.en.strip(), reason
        fields = {part.split("}")[0] for part in wording.en.split("{")[1:]}
        fields_vi = {part.split("}")[0].removesuffix("_vi") for part in wording.vi.split("{")[1:]}
        assert fields_vi == fields, reason
    assert issubclass(Malformed, Problem)
