"""SOAP operations from dataclasses: how types map, what callers may send, the defects of spyne that stay outside."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import pytest
import xmlschema
from lxml import etree

from bus.web.soap import exchange_server
from connectors.soap_server import Element, Operation, SoapServer
from schemas.problem import Malformed, ProviderUnavailable, SchemaViolation
from schemas.xsd import XS_NS

NS, REPLY_NS = "urn:test:question", "urn:test:answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    full_name: Annotated[str, Element(name="HoVaTen", max_length=40)]
    born: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUp:
    officer: Annotated[str, Element(pattern="[A-Z]{2}[0-9]{4}")]
    wait: Annotated[int, Element(least=0, greatest=60)] = 5
    number: Annotated[str | None, Element(choice="whom")] = None
    person: Annotated[Person | None, Element(choice="whom")] = None
    photo: bytes = b""
    share: Decimal | None = None
    alias: Annotated[tuple[str, ...], Element(most=3)] = ()
    strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    at: datetime
    person: tuple[Person, ...]
    photo: bytes
    share: Decimal | None
    asked: str


MOMENT = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)


def look_up(asked: LookUp, *given: Any) -> Found:
    if asked.officer == "XX0000":
        raise ProviderUnavailable("provider-unreachable")
    if asked.officer == "XX0001":
        raise LookupError(asked.officer)
    return Found(
        at=MOMENT,
        person=(Person(full_name="ĐẶNG PHƯƠNG ĐÔNG\x01"), Person(full_name="B", born=MOMENT)),
        photo=asked.photo,
        share=asked.share,
        asked=repr((asked, *given)),
    )


@pytest.fixture(scope="module")
def server() -> SoapServer:
    operation = Operation(name="LookUp", request=LookUp, reply=Found, call=look_up, documentation="Looks up")
    return SoapServer("Register", NS, [operation], reply_namespace=REPLY_NS)


def asked(inner: str, name: str = "LookUp") -> etree._Element:
    return etree.fromstring(f'<{name} xmlns="{NS}">{inner}</{name}>')


def test_every_type_goes_there_and_back(server: SoapServer) -> None:
    question = asked(
        "<officer>AB1234</officer><wait>7</wait><person><HoVaTen>TRẦN VĂN THỬ</HoVaTen>"
        "<born>1985-01-02T03:04:05Z</born></person><photo>AAEC\n</photo><share>0.10</share>"
        "<alias>a</alias><alias></alias><strict>1</strict>"
    )
    answer = etree.fromstring(server.handle("LookUp", question, "given"))
    said = {child.tag.partition("}")[2]: child.text for child in answer}
    assert answer.tag == f"{{{REPLY_NS}}}LookUpResponse"
    assert said["at"] == "2026-11-21T08:30:00+00:00"
    assert (said["photo"], said["share"]) == ("AAEC", "0.10")
    assert said["asked"] == repr(
        (
            LookUp(
                officer="AB1234",
                wait=7,
                person=Person(full_name="TRẦN VĂN THỬ", born=datetime(1985, 1, 2, 3, 4, 5, tzinfo=UTC)),
                photo=b"\x00\x01\x02",
                share=Decimal("0.10"),
                alias=("a", ""),
                strict=True,
            ),
            "given",
        )
    )


def test_an_absent_optional_takes_its_default(server: SoapServer) -> None:
    answer = server.handle("LookUp", asked("<officer>AB1234</officer><number>1</number>"))
    assert "wait=5" in answer.decode()
    assert "<share" not in answer.decode()


def test_characters_that_xml_cannot_hold_are_replaced(server: SoapServer) -> None:
    answer = server.handle("LookUp", asked("<officer>AB1234</officer><number>1</number>"))
    assert "ĐẶNG PHƯƠNG ĐÔNG\ufffd" in answer.decode()


def test_answers_are_valid_by_the_published_types(server: SoapServer) -> None:
    schemas = etree.fromstring(server.types().encode())
    (schema,) = [one for one in schemas if one.get("targetNamespace") == REPLY_NS]
    answer = server.handle("LookUp", asked("<officer>AB1234</officer><number>1</number>"))
    xmlschema.XMLSchema10(etree.tostring(schema).decode()).validate(answer.decode())


VALUE = "dauvet7f3a9c"
INVALID = {
    "a pattern": f"<officer>{VALUE}</officer><number>1</number>",
    "nothing at all": "",
    "a number out of its range": "<officer>AB1234</officer><wait>61</wait><number>1</number>",
    "no number": f"<officer>AB1234</officer><wait>{VALUE}</wait><number>1</number>",
    "neither of a choice": "<officer>AB1234</officer>",
    "both of a choice": "<officer>AB1234</officer><number>1</number><person><HoVaTen>A</HoVaTen></person>",
    "another order": "<number>1</number><officer>AB1234</officer>",
    "too many": "<officer>AB1234</officer><number>1</number>" + f"<alias>{VALUE}</alias>" * 4,
    "base64 cut off": f"<officer>AB1234</officer><number>1</number><photo>{VALUE}A</photo>",
    "an element that nobody knows": f"<officer>AB1234</officer><number>1</number><{VALUE}/>",
    "an element of another namespace": f'<officer>AB1234</officer><number xmlns="urn:{VALUE}">1</number>',
    "nil": '<officer xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:nil="true"/><number>1</number>',
    "text between elements": f"<officer>AB1234</officer>{VALUE}<number>1</number>",
    "an attribute": f'<officer a="{VALUE}">AB1234</officer><number>1</number>',
    "another type": '<officer xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:type="Person">AB1234</officer>',
}


@pytest.mark.parametrize("inner", INVALID.values(), ids=INVALID)
def test_what_breaks_the_types_is_refused_without_its_values(server: SoapServer, inner: str) -> None:
    with pytest.raises(SchemaViolation) as refused:
        server.handle("LookUp", asked(inner))
    assert VALUE not in f"{refused.value} {refused.value.errors}"
    assert server.handle("LookUp", asked("<officer>AB1234</officer><number>1</number>"))


PERSON = "<officer>AB1234</officer><person><HoVaTen>A</HoVaTen><born>{}</born></person>"
UNREADABLE = {
    "a year beyond dates": PERSON.format("99999-01-01T00:00:00Z"),
    "before all years": PERSON.format("-0001-01-01T00:00:00Z"),
    "before the first day in UTC": PERSON.format("0001-01-01T00:00:00+14:00"),
    "base64 with other characters": f"<officer>AB1234</officer><number>1</number><photo>!{VALUE}</photo>",
}


@pytest.mark.parametrize("inner", UNREADABLE.values(), ids=UNREADABLE)
def test_a_value_that_is_valid_and_cannot_be_used_is_refused(server: SoapServer, inner: str) -> None:
    with pytest.raises(Malformed) as refused:
        server.handle("LookUp", asked(inner))
    assert refused.value.reason == "soap-value-unreadable"


def test_a_decimal_keeps_all_its_digits(server: SoapServer) -> None:
    share = "1234567890123456789012.3400"
    answer = server.handle("LookUp", asked(f"<officer>AB1234</officer><number>1</number><share>{share}</share>"))
    assert f"<share>{share}</share>" in answer.decode()


@pytest.mark.parametrize("operation, name", [("LookUp", "Found"), ("LookUp", "Person"), ("Other", "LookUp")])
def test_only_the_element_of_an_operation_is_taken(server: SoapServer, operation: str, name: str) -> None:
    with pytest.raises(Malformed) as refused:
        server.handle(operation, asked("<officer>AB1234</officer><number>1</number>", name))
    assert refused.value.reason == "soap-operation-unknown"


# ---- what was found in spyne, each with the test that it stays outside


@pytest.mark.parametrize("officer, kind", [("XX0000", ProviderUnavailable), ("XX0001", LookupError)])
def test_an_exception_of_an_operation_reaches_the_caller_as_it_is(
    server: SoapServer, officer: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        server.handle("LookUp", asked(f"<officer>{officer}</officer><number>1</number>"))


def test_no_thread_sees_the_value_of_another_in_its_refusal(server: SoapServer) -> None:
    """spyne's own validation, with one XMLSchema for all, fails here within a second."""
    leaks: list[str] = []

    def send(mine: str) -> None:
        for _ in range(60):
            try:
                server.handle("LookUp", asked(f"<officer>{mine * 8}</officer><number>1</number>"))
            except SchemaViolation as problem:
                told = f"{problem} {problem.errors} {problem.facts}"
                if problem.errors[0].pointer != "/LookUp/officer" or any(name * 8 in told for name in "abcdefgh"):
                    leaks.append(told)

    threads = [threading.Thread(target=send, args=(mine,)) for mine in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert leaks == []


def test_spyne_logs_nothing_of_what_it_is_given(server: SoapServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for officer in (VALUE, "XX0001", "AB1234"):
            with suppress(SchemaViolation, LookupError):
                server.handle("LookUp", asked(f"<officer>{officer}</officer><number>{VALUE}</number>"))
    assert VALUE not in caplog.text


def test_it_loads_without_spynes_own_copy_of_six() -> None:
    """That copy does not load on Python 3.12 and later. In a process of its own: here it is loaded already."""
    program = (
        "import sys, warnings; warnings.simplefilter('error')\n"
        "import connectors.soap_server, six\n"
        "assert sys.modules['spyne.util.six'].moves is six.moves\n"
        "assert not [f for f in sys.meta_path if f.__class__.__module__.startswith('spyne')]\n"
        "assert not {'twisted', 'cgi', 'spyne.server.wsgi', 'spyne.protocol.soap'} & sys.modules.keys()\n"
    )
    root = Path(__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True, timeout=60)


# ---- what is published


def test_the_published_types_are_the_same_in_every_process() -> None:
    program = "from bus.web.soap import exchange_server; print(exchange_server().types(), end='')"
    root = Path(__file__).resolve().parent.parent
    made = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, check=True, timeout=60)
    assert made.stdout.decode() == exchange_server().types()


def test_the_types_of_the_exchange_please_a_second_opinion() -> None:
    schema = xmlschema.XMLSchema10(exchange_server().types())
    assert {"SubmitMessage", "NackDeliveryResponse", "Manifest", "Exchange", "Receipt", "Problem"} <= set(
        schema.elements
    )


def test_a_choice_stands_where_its_first_member_stands(server: SoapServer) -> None:
    types = etree.fromstring(server.types().encode())
    (sequence,) = types.iterfind(f".//{{{XS_NS}}}complexType[@name='LookUp']/{{{XS_NS}}}sequence")
    assert [child.tag.partition("}")[2] for child in sequence][:4] == ["element", "element", "choice", "element"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmappable:
    value: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    value: tuple[str, int]


@pytest.mark.parametrize("kind", [Unmappable, Pair, str])
def test_a_type_without_a_form_in_xml_is_refused_at_once(kind: type) -> None:
    with pytest.raises(TypeError):
        SoapServer("Bad", NS, [Operation(name="Bad", request=kind, reply=Found, call=look_up)])
