"""Broken rules of schemas as sentences.

They are kept and sent as a code that is the same in every language, with the schema's own word behind it where it has
one: ``required: title``, ``maxLength: 200``, ``cvc-pattern-valid``. The codes are those of JSON Schema (as
jsonschema-rs calls them), of XML Schema (as libxml2 does) and of the bridge between both. A page shows the sentence
beside the code. A few rules of the bus itself are kept as an English sentence, and need none beside theirs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from bus.attachments import NOT_UPLOADED
from registry.access import RECEIVER_RULES
from schemas.reasons import Wording
from schemas.validation import NOT_SHOWN

#: Types of JSON, as they stand behind "must be".
_TYPES: Final[Mapping[str, Wording]] = {
    "null": Wording("empty (null)", "rỗng (null)"),
    "boolean": Wording("true or false", "đúng hoặc sai (true, false)"),
    "integer": Wording("a whole number", "số nguyên"),
    "number": Wording("a number", "số"),
    "string": Wording("a text", "chuỗi ký tự"),
    "array": Wording("a list", "danh sách"),
    "object": Wording("an object", "đối tượng"),
}
_EMAIL = Wording("an e-mail address", "địa chỉ thư điện tử")
_HOST = Wording("a host name", "tên máy chủ")
_ADDRESS = Wording("an address (URI)", "địa chỉ (URI)")
_MOMENT = Wording(
    "a moment with its offset (2026-04-23T08:30:00+07:00)", "thời điểm có múi giờ (2026-04-23T08:30:00+07:00)"
)
_DECIMAL = Wording("a number", "số")
#: Formats, as they stand behind "is not".
_FORMATS: Final[Mapping[str, Wording]] = {
    "date": Wording("a day (2026-04-23)", "ngày viết theo năm-tháng-ngày (2026-04-23)"),
    "date-time": _MOMENT,
    "time": Wording("a time of day with its offset (08:30:00+07:00)", "giờ có múi giờ (08:30:00+07:00)"),
    "duration": Wording("a length of time (P1DT2H)", "khoảng thời gian (P1DT2H)"),
    "email": _EMAIL,
    "idn-email": _EMAIL,
    "hostname": _HOST,
    "idn-hostname": _HOST,
    "ipv4": Wording("an IPv4 address", "địa chỉ IPv4"),
    "ipv6": Wording("an IPv6 address", "địa chỉ IPv6"),
    "uri": _ADDRESS,
    "uri-reference": _ADDRESS,
    "iri": _ADDRESS,
    "iri-reference": _ADDRESS,
    "uri-template": Wording("a template of addresses", "mẫu địa chỉ (URI template)"),
    "uuid": Wording("a UUID", "mã UUID"),
    "json-pointer": Wording("a JSON Pointer", "con trỏ JSON (JSON Pointer)"),
    "relative-json-pointer": Wording("a relative JSON Pointer", "con trỏ JSON tương đối"),
    "regex": Wording("a regular expression", "biểu thức chính quy"),
    # Of the bridge: types of XML Schema.
    "boolean": Wording("true or false", "giá trị đúng hoặc sai (true, false)"),
    "integer": Wording("a whole number", "số nguyên"),
    "decimal": _DECIMAL,
    "double": _DECIMAL,
    "number": _DECIMAL,
    "base64Binary": Wording("Base64", "dữ liệu Base64"),
    "json": Wording("JSON", "dữ liệu JSON"),
    "dateTime": Wording("a moment (2026-04-23T08:30:00)", "thời điểm (2026-04-23T08:30:00)"),
    "object of further members": Wording("an object of further fields", "đối tượng gồm các trường thêm"),
}
#: Rules with a word of the schema behind the code; ``{}`` is that word.
_WITH_WORD: Final[Mapping[str, Wording]] = {
    "required": Wording("the field {} is missing", "thiếu trường {}"),
    "pattern": Wording("does not match the pattern {}", "không đúng mẫu {}"),
    "minimum": Wording("must be {} or more", "phải từ {} trở lên"),
    "maximum": Wording("must be {} or less", "không được lớn hơn {}"),
    "exclusiveMinimum": Wording("must be more than {}", "phải lớn hơn {}"),
    "exclusiveMaximum": Wording("must be less than {}", "phải nhỏ hơn {}"),
    "minLength": Wording("has fewer characters than {}", "ngắn hơn {} ký tự"),
    "maxLength": Wording("has more characters than {}", "dài hơn {} ký tự"),
    "minItems": Wording("has fewer items than {}", "có ít hơn {} phần tử"),
    "maxItems": Wording("has more items than {}", "có nhiều hơn {} phần tử"),
    "minProperties": Wording("has fewer fields than {}", "có ít hơn {} trường"),
    "maxProperties": Wording("has more fields than {}", "có nhiều hơn {} trường"),
    "multipleOf": Wording("must be a multiple of {}", "phải là bội số của {}"),
    "contentEncoding": Wording("is not encoded as {}", "không được mã hoá theo {}"),
    "root": Wording("the root element must be {}", "thẻ gốc phải là {}"),
    "maxOccurs": Wording("stands here more often than {}", "xuất hiện quá {} lần"),
    "one member": Wording("must have exactly one field of these: {}", "phải có đúng một trong các trường: {}"),
}
_UNKNOWN_FIELD = Wording("has a field that the schema does not know", "có trường ngoài lược đồ")
_UNKNOWN_ITEM = Wording("has more items than the schema knows", "có phần tử ngoài lược đồ")
_NOT_LISTED = Wording("is none of the values that the schema lists", "không thuộc danh sách giá trị của lược đồ")
_NOT_FIXED = Wording("is not the one value that the schema allows", "khác giá trị duy nhất mà lược đồ cho phép")
_UNKNOWN_ELEMENT = Wording("is an element that the schema does not have here", "lược đồ không có thẻ này ở đây")
_UNKNOWN_ATTRIBUTE = Wording("has an attribute that the schema does not have", "có thuộc tính ngoài lược đồ")
_NO_ATTRIBUTE = Wording("an attribute is missing", "thiếu thuộc tính bắt buộc")
_NO_TEXT = Wording("must not hold text of its own", "không được chứa chữ nằm ngoài thẻ con")
_NO_ELEMENTS = Wording("must hold a value and no elements", "chỉ được chứa giá trị, không chứa thẻ con")
_NOT_EMPTY = Wording("must be empty", "phải để trống")
_NOT_NIL = Wording("must not be left empty by xsi:nil", "không được để rỗng bằng xsi:nil")
_NIL_NOT_EMPTY = Wording("says that it is empty (xsi:nil), and is not", "khai là rỗng (xsi:nil) nhưng vẫn có nội dung")
_BAD_TYPE = Wording("names a type that it must not have here", "khai kiểu (xsi:type) không được dùng ở đây")
_NO_VALUE_OF_TYPE = Wording("is no value of the type that the schema asks for", "giá trị không đúng kiểu của lược đồ")
_ABSTRACT = Wording("must be replaced by an element or type of its group", "phải thay bằng thẻ hoặc kiểu cụ thể")
#: Rules that are kept as an English sentence.
_SENTENCES: Final[Mapping[str, Wording]] = {
    NOT_SHOWN: Wording(NOT_SHOWN, "sai ở sau các phần tử đầu tiên của dữ liệu lớn"),
    **{rule.en: rule for rule in (*RECEIVER_RULES, NOT_UPLOADED)},
}
#: Codes that stand alone.
_ALONE: Final[Mapping[str, Wording]] = {
    # JSON Schema
    "additionalProperties": _UNKNOWN_FIELD,
    "unevaluatedProperties": _UNKNOWN_FIELD,
    "additionalItems": _UNKNOWN_ITEM,
    "unevaluatedItems": _UNKNOWN_ITEM,
    "enum": _NOT_LISTED,
    "const": _NOT_FIXED,
    "oneOf": Wording("must fit exactly one form of the schema", "phải khớp đúng một trong các dạng của lược đồ"),
    "anyOf": Wording("fits no form of the schema", "không khớp dạng nào của lược đồ"),
    "not": Wording("is of a form that the schema forbids", "thuộc dạng mà lược đồ không cho phép"),
    "uniqueItems": Wording("has the same item twice", "có phần tử trùng nhau"),
    "contains": Wording(
        "has too few or too many items of the form that the schema asks for",
        "thiếu hoặc thừa phần tử theo dạng mà lược đồ yêu cầu",
    ),
    "propertyNames": Wording("has a field whose name breaks the rules", "có trường đặt tên không đúng quy định"),
    "falseSchema": Wording("must not be here", "không được có ở đây"),
    # The bridge between JSON and XML
    "element-unknown": _UNKNOWN_ELEMENT,
    "attribute-unknown": _UNKNOWN_ATTRIBUTE,
    "text-unexpected": _NO_TEXT,
    "nil-not-empty": _NIL_NOT_EMPTY,
    "nil-not-allowed": _NOT_NIL,
    "attribute-of-nil": Wording("is empty (xsi:nil) and has an attribute", "đã rỗng (xsi:nil) thì không có thuộc tính"),
    "comment-in-value": Wording("has a comment inside its value", "có ghi chú xen trong giá trị"),
    "enumeration": _NOT_LISTED,
    "type-substitution": _BAD_TYPE,
    "kind": _BAD_TYPE,
    "number-too-large": Wording("is too large a number", "số quá lớn"),
    "integer-beyond-64-bits": Wording("is too large a whole number (64 bits)", "số nguyên quá lớn (64 bit)"),
    "character-not-in-xml": Wording("has a character that XML cannot hold", "có ký tự mà XML không chứa được"),
    "no-white-space-in-list": Wording("is an item of a list and has a space", "phần tử của danh sách có dấu cách"),
    # XML Schema
    "element-content": Wording(
        "stands where the schema does not have it, or something is missing in it",
        "thẻ nằm sai chỗ, hoặc bên trong còn thiếu thẻ",
    ),
    "cvc-elt-1": _UNKNOWN_ELEMENT,
    "cvc-elt-2": _ABSTRACT,
    "cvc-elt-3-1": _NOT_NIL,
    "cvc-elt-3-2-1": _NIL_NOT_EMPTY,
    "cvc-elt-3-2-2": _NOT_NIL,
    "cvc-elt-4-1": _BAD_TYPE,
    "cvc-elt-4-2": _BAD_TYPE,
    "cvc-elt-4-3": _BAD_TYPE,
    "cvc-elt-5-1-1": _BAD_TYPE,
    "cvc-elt-5-1-2": _NO_VALUE_OF_TYPE,
    "cvc-elt-5-2-2-1": _NO_ELEMENTS,
    "cvc-elt-5-2-2-2-1": _NOT_FIXED,
    "cvc-elt-5-2-2-2-2": _NOT_FIXED,
    "cvc-type-2": _ABSTRACT,
    "cvc-type-3-1-1": _UNKNOWN_ATTRIBUTE,
    "cvc-type-3-1-2": _NO_ELEMENTS,
    "cvc-complex-type-2-1": _NOT_EMPTY,
    "cvc-complex-type-2-2": _NO_ELEMENTS,
    "cvc-complex-type-2-3": _NO_TEXT,
    "cvc-complex-type-2-4": _UNKNOWN_ELEMENT,
    "cvc-complex-type-3-1": _NOT_FIXED,
    "cvc-complex-type-3-2-1": _UNKNOWN_ATTRIBUTE,
    "cvc-complex-type-3-2-2": _UNKNOWN_ATTRIBUTE,
    "cvc-complex-type-4": _NO_ATTRIBUTE,
    "cvc-attribute-1": _UNKNOWN_ATTRIBUTE,
    "cvc-attribute-3": _NO_VALUE_OF_TYPE,
    "cvc-attribute-4": _NOT_FIXED,
    "cvc-au": _NOT_FIXED,
    "cvc-wildcard": _UNKNOWN_ELEMENT,
    "cvc-datatype-valid-1-2-1": _NO_VALUE_OF_TYPE,
    "cvc-datatype-valid-1-2-2": Wording("has an item of the wrong type", "có phần tử không đúng kiểu của lược đồ"),
    "cvc-datatype-valid-1-2-3": Wording("is of none of the types allowed", "không thuộc kiểu nào được phép"),
    "cvc-enumeration-valid": _NOT_LISTED,
    "cvc-pattern-valid": Wording("does not match the pattern of the schema", "không đúng mẫu của lược đồ"),
    "cvc-length-valid": Wording("is not of the length that the schema asks for", "sai độ dài mà lược đồ quy định"),
    "cvc-minlength-valid": Wording("is shorter than the schema allows", "ngắn hơn mức lược đồ cho phép"),
    "cvc-maxlength-valid": Wording("is longer than the schema allows", "dài hơn mức lược đồ cho phép"),
    "cvc-mininclusive-valid": Wording("is less than the schema allows", "nhỏ hơn mức lược đồ cho phép"),
    "cvc-minexclusive-valid": Wording("is less than the schema allows", "nhỏ hơn mức lược đồ cho phép"),
    "cvc-maxinclusive-valid": Wording("is more than the schema allows", "lớn hơn mức lược đồ cho phép"),
    "cvc-maxexclusive-valid": Wording("is more than the schema allows", "lớn hơn mức lược đồ cho phép"),
    "cvc-totaldigits-valid": Wording("has too many digits", "có quá nhiều chữ số"),
    "cvc-fractiondigits-valid": Wording("has too many decimal places", "có quá nhiều chữ số sau dấu phẩy"),
    "cvc-facet-valid": _NO_VALUE_OF_TYPE,
    "cvc-idc": Wording(
        "breaks a rule of keys: something is there twice, or refers to what is not there",
        "trùng khoá, hoặc dẫn tới mục không có",
    ),
}
_MOST_ATTRIBUTES: Final = re.compile(r"at most (\d+) attributes")


def sentence(detail: str) -> Wording | None:
    """The sentence for a rule as it is stored; None for one that is not known. Pure."""
    if known := _SENTENCES.get(detail) or _ALONE.get(detail):
        return known
    if counted := _MOST_ATTRIBUTES.fullmatch(detail):
        return Wording(f"has more attributes than {counted[1]}", f"có nhiều hơn {counted[1]} thuộc tính")
    code, colon, word = detail.partition(": ")
    if not colon:
        return None
    if code == "type":
        return _one_of_types(word)
    if code == "format":
        form = _FORMATS.get(word, Wording(f"of the format {word}", f"dữ liệu dạng {word}"))
        return Wording(f"is not {form.en}", f"không phải {form.vi}")
    if code in _WITH_WORD:
        return Wording(*(text.format(word) for text in _WITH_WORD[code]))
    return None


def code_beside(detail: str) -> str:
    """The code to show beside the sentence: empty where the sentence is all there is. Pure."""
    return detail if detail not in _SENTENCES and sentence(detail) else ""


def _one_of_types(names: str) -> Wording:
    nothing_last = sorted(names.split(", "), key=lambda name: name == "null")
    types = [_TYPES.get(name, Wording(name, name)) for name in nothing_last]
    return Wording(
        f"must be {' or '.join(each.en for each in types)}", f"phải là {' hoặc '.join(each.vi for each in types)}"
    )
