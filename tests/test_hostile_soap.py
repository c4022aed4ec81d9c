"""What strangers may send to the SOAP exchange: each gets a fault with a stable code, learns nothing, leaves nothing.

The table runs against the real server (gunicorn, gevent) in a process of its own. Every case plants a marker wherever
a sender may write; neither the fault nor the log may ever show it. The next good call passes.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from lxml import etree

from schemas.moment import utc_now
from schemas.soap import EXCHANGE_BLOCK, SoapVersion
from security.ws_security import sign_ws_security
from tests.bus_world import PAPER, SENDING, Signed, World, bus_world, key_of
from tests.soap_world import (
    attachment,
    element,
    envelope,
    facts,
    said,
    send,
    signed_envelope,
    submission,
    told,
)
from tests.test_hostile_messages import MARKER, assert_no_marker

SOAP = SoapVersion.V11.namespace
BODY = b'{"title":"a"}'


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with bus_world(tmp_path_factory.mktemp("hostile-soap")) as world:
        yield world


@pytest.fixture(scope="module")
def url(world: World) -> Iterator[str]:
    with world.server_process(read_timeout_seconds=2, strangers_recorded_per_second=10_000) as url:
        yield url
    log = (world.settings.home / "serve.log").read_text()
    assert "exchange.refused" in log
    assert "Traceback" not in log
    assert_no_marker(log)


Make = Callable[[World], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    make: Make
    reason: str
    code: str = "Client"
    headers: dict[str, str] = field(default_factory=dict)


def case(name: str, reason: str, make: Make | bytes | str, code: str = "Client", **headers: str) -> Case:
    data = make.encode() if isinstance(make, str) else make
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Case(
        name=name,
        make=(lambda world: data) if isinstance(data, bytes) else data,
        reason=reason,
        code=code,
        headers=named,
    )


def around(inner: str, before: str = "") -> str:
    return f'{before}<s:Envelope xmlns:s="{SOAP}">{inner}</s:Envelope>'


def body(inner: str) -> str:
    return f"<s:Body>{inner}</s:Body>"


GOOD = submission(BODY)
MARKED = submission(MARKER.encode())
WITH_COMMENT = GOOD.replace("json", f"js<!--{MARKER}-->on")
WITH_INSTRUCTION = GOOD.replace("json", f"js<?{MARKER} a?>on")
BOMB = "<!DOCTYPE a [<!ENTITY a 'aaaaaaaaaa'>" + "".join(
    f"<!ENTITY {new} '{f'&{old};' * 10}'>" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
WRITTEN = [
    case("an empty body", "soap-empty", b""),
    case("only white space", "soap-empty", b" \n "),
    case("no XML", "xml-invalid", MARKER),
    case("half a message", "xml-invalid", around(body(MARKED))[:-30]),
    case("a DOCTYPE", "xml-doctype", around(body(GOOD), f"<!DOCTYPE {MARKER}>")),
    case("an entity bomb", "xml-doctype", around(body(element("GetStatus", "&i;")), f"{BOMB}]>")),
    case("an external entity", "xml-doctype",
         around(body(element("GetStatus", "&a;")), f"<!DOCTYPE a [<!ENTITY a SYSTEM 'file:///{MARKER}'>]>")),
    case("an undefined entity", "xml-invalid", around(body(element("GetStatus", f"&{MARKER};")))),
    case("UTF-16", "xml-not-utf8", around(body(MARKED), '<?xml version="1.0" encoding="UTF-16"?>').encode("utf-16")),
    case("UTF-16 by its type", "content-type-charset", around(body(MARKED)).encode("utf-16"),
         Content_Type="text/xml; charset=utf-16"),
    case("a comment inside a value", "soap-comment", around(body(WITH_COMMENT))),
    case("an instruction inside a value", "soap-comment", around(body(WITH_INSTRUCTION))),
    case("30,000 elements", "xml-too-many-elements",
         around(body(element("SubmitMessage", f"<{MARKER}/>" * 30_000)))),
    case("200 levels", "xml-too-deep", around(body("<a>" * 200 + MARKER + "</a>" * 200))),
    case("another envelope", "soap-not-envelope", f"<Message>{MARKER}</Message>"),
    case("an envelope of nobody", "soap-version", around(body(GOOD)).replace(SOAP, f"urn:{MARKER}"),
         "VersionMismatch"),
]  # fmt: skip
SHAPED = [
    case("two Bodies", "soap-parts", around(body(GOOD) + body(MARKED))),
    case("two Headers", "soap-parts", around("<s:Header/><s:Header/>" + body(MARKED))),
    case("a Header after the Body", "soap-parts", around(f"{body(MARKED)}<s:Header/>")),
    case("an element beside the Body", "soap-parts", around(f"<{MARKER}/>{body(GOOD)}")),
    case("two operations", "soap-body-not-one", around(body(GOOD + MARKED))),
    case("no operation", "soap-body-not-one", around(body(""))),
    case("a block twice", "soap-block-duplicate",
         envelope(GOOD, element("Manifest", MARKER), element("Manifest", MARKER))),
    case("an id twice", "soap-id-duplicate",
         envelope(GOOD.replace("<payload>", f'<payload Id="{MARKER}">'), f'<a xmlns="urn:a" Id="{MARKER}"/>')),
    case("href", "soap-reference", around(body(element("SubmitMessage", f'<payload href="#{MARKER}"/>')))),
    case("an encoding style", "soap-encoding-style",
         around(body(GOOD).replace("<s:Body>", f'<s:Body s:encodingStyle="urn:{MARKER}">'))),
    case("a block that must be understood", "soap-must-understand",
         envelope(GOOD, f'<{MARKER} xmlns="urn:{MARKER}" xmlns:s="{SOAP}" s:mustUnderstand="1"/>'), "MustUnderstand"),
    case("an action that differs", "soap-action", around(body(GOOD)), SOAPAction=f'"urn:{MARKER}"'),
    case("an action with one quote", "soap-action-unreadable", around(body(GOOD)), SOAPAction=f'"{MARKER}'),
    case("multipart", "soap-multipart", around(body(MARKED)),
         Content_Type=f'multipart/related; type="text/xml"; boundary={MARKER}'),
    case("XOP", "soap-multipart", around(body(MARKED)), Content_Type="application/xop+xml"),
    case("JSON", "soap-content-type", b'{"a":"' + MARKER.encode() + b'"}', Content_Type="application/json"),
    case("1.1 as 1.2", "soap-version", around(body(GOOD)), "VersionMismatch", Content_Type="application/soap+xml"),
]  # fmt: skip
CALLED = [
    case("an unknown operation", "soap-operation-unknown", around(body(element(MARKER)))),
    case("an operation of another namespace", "soap-operation-unknown",
         around(body(f'<SubmitMessage xmlns="urn:{MARKER}"/>'))),
    case("the answer to an operation", "soap-operation-unknown",
         around(body(element("SubmitMessageResponse", MARKER)))),
    case("a missing member", "payload-breaks-schema",
         around(body(element("SubmitMessage", f"<payload>{MARKER}</payload>")))),
    case("no base64", "soap-value-unreadable", around(body(GOOD.replace("<payload>", f"<payload>!{MARKER}!")))),
    case("a manifest with children", "soap-block-invalid", envelope(GOOD, element("Manifest", f"<a>{MARKER}</a>"))),
    case("a fact that nobody knows", "soap-block-invalid", envelope(GOOD, element("Exchange", f"<a>{MARKER}</a>"))),
    case("a fact twice", "soap-block-invalid",
         envelope(GOOD, element("Exchange", f"<Service>{MARKER}</Service><Service>a</Service>"))),
    case("a file without content", "soap-attachment-incomplete",
         lambda w: signed_envelope(w.signed(), inner=f"<attachment><name>{MARKER}</name></attachment>")),
    case("an attachment that is not signed", "attachment-not-in-manifest",
         lambda w: signed_envelope(w.signed(), inner=attachment(MARKER.encode(), MARKER))),
    case("unsigned", "unsigned", envelope(MARKED)),
    case("no manifest", "manifest-unreadable", envelope(MARKED, element("Manifest", MARKER))),
    case("another body than signed", "body-digest-mismatch",
         lambda w: signed_envelope(_with_body(w.signed({"title": "a" * len(MARKER)})))),
    case("a token that is none", "token-invalid", envelope(MARKED, facts()), Authorization=f"Bearer {MARKER}"),
    case("a payload that breaks its schema", "payload-breaks-schema",
         lambda w: signed_envelope(w.signed({"title": 7, "note": MARKER * 3, MARKER: 1}))),
    case("a payload with a document type", "xml-doctype",
         lambda w: signed_envelope(w.signed(f"<!DOCTYPE {MARKER}><a/>".encode(), service=PAPER,
                                            content_type="application/xml"))),
    case("a question without an answer to who asks", "unsigned",
         envelope(element("GetStatus", f"<messageId>{MARKER}</messageId>"))),
    case("a manifest is no answer to that", "unsigned",
         lambda w: envelope(element("FetchInbox"), element("Manifest", w.signed().headers["Lgsp-Manifest"]))),
    case("a wait beyond the limit", "payload-breaks-schema", envelope(element("FetchInbox", "<wait>61</wait>"))),
]  # fmt: skip


def _with_body(message: Signed) -> Signed:
    return replace(message, body=message.body.replace(b"a" * len(MARKER), MARKER.encode()))


# ---- signatures that were moved


def genuine(
    world: World, *, when: timedelta = timedelta(0), blocks: tuple[str, ...] = (EXCHANGE_BLOCK,)
) -> etree._Element:
    key = key_of(SENDING)
    data = sign_ws_security(
        envelope(submission(BODY), facts()), key, key.certificate_pem, utc_now() + when, signed_blocks=frozenset(blocks)
    )
    return etree.fromstring(data)


def text_of(root: etree._Element) -> bytes:
    return etree.tostring(root, encoding="UTF-8")


def _parts(root: etree._Element) -> tuple[etree._Element, etree._Element]:
    return root[0], root[1]


def body_moved_under_a_block(world: World) -> bytes:
    root = genuine(world)
    header, signed_body = _parts(root)
    wrapper = etree.SubElement(header, f"{{urn:{MARKER}}}wrapper")
    wrapper.append(signed_body)
    etree.SubElement(root, f"{{{SOAP}}}Body").append(etree.fromstring(MARKED))
    return text_of(root)


def body_moved_under_a_sibling(world: World) -> bytes:
    root = genuine(world)
    _, signed_body = _parts(root)
    etree.SubElement(root, f"{{urn:{MARKER}}}wrapper").append(signed_body)
    etree.SubElement(root, f"{{{SOAP}}}Body").append(etree.fromstring(MARKED))
    return text_of(root)


def body_moved_and_its_id_taken(world: World) -> bytes:
    root = genuine(world)
    header, signed_body = _parts(root)
    new = etree.SubElement(root, f"{{{SOAP}}}Body", dict(signed_body.attrib))
    new.append(etree.fromstring(MARKED))
    etree.SubElement(header, f"{{urn:{MARKER}}}wrapper").append(signed_body)
    return text_of(root)


def payload_exchanged(world: World) -> bytes:
    root = genuine(world)
    root[1][0] = etree.fromstring(MARKED)
    return text_of(root)


def facts_exchanged(world: World) -> bytes:
    root = genuine(world)
    (block,) = root.iterfind(f".//{EXCHANGE_BLOCK}")
    block[0].text = MARKER
    return text_of(root)


SIGNED = [
    case("the Body moved under a block", "", body_moved_under_a_block),
    case("the Body moved under a sibling", "soap-parts", body_moved_under_a_sibling),
    case("the Body moved and its id taken", "soap-id-duplicate", body_moved_and_its_id_taken),
    case("another payload in the Body", "", payload_exchanged),
    case("other facts in the block", "", facts_exchanged),
    case("facts that are not signed", "", lambda w: text_of(genuine(w, blocks=()))),
    case("an expired Timestamp", "", lambda w: text_of(genuine(w, when=-timedelta(hours=1)))),
    case("a Timestamp from the future", "", lambda w: text_of(genuine(w, when=timedelta(hours=1)))),
]
TABLE = WRITTEN + SHAPED + CALLED + SIGNED


@pytest.mark.parametrize("hostile", TABLE, ids=lambda hostile: hostile.name)
def test_a_hostile_call_gets_a_fault_and_leaves_nothing_but_its_refusal(world: World, url: str, hostile: Case) -> None:
    data = hostile.make(world)
    before = world.rows()
    answer = send(url, data, {"User-Agent": MARKER, "X-Marker": MARKER, "Accept-Language": MARKER, **hostile.headers})
    fault = told(answer)
    if hostile.reason:
        assert fault.reason == hostile.reason
    else:  # which of the signature's rules is broken first is its own business
        assert fault.problem["type"] == "/problems/not-identified"
    assert fault.code == hostile.code
    assert_no_marker(f"{answer.headers} {answer.body.decode()}")
    grown = {name for name, count in world.rows().items() if count != before.get(name, 0)}
    kept = {"refusals", "evidence_leaves", "flow_hours", "search_keys", "refusal_details"}
    assert {name for name in grown if not name.startswith("counter")} <= kept
    assert said(send(url, signed_envelope(world.signed())))["state"] == "accepted"  # the next good call passes


def test_an_envelope_beyond_the_limit_is_refused_by_its_length(url: str) -> None:
    fault = told(send(url, envelope(submission(b"a" * (7 * 2**20)))))
    assert fault.reason == "body-too-large"


def test_a_payload_beyond_the_limit_is_refused(world: World, url: str) -> None:
    fault = told(send(url, signed_envelope(world.signed({"title": "a" * (2 * 2**20)}))))
    assert fault.reason == "body-too-large"


def test_no_caller_sees_the_value_of_another_in_its_fault(world: World, url: str) -> None:
    """Eight threads, each with invalid values that carry its own name."""
    seen: list[str] = []
    marks = [f"mark{uuid.uuid4().hex[:8]}{number}" for number in range(8)]

    def invalid(mark: str) -> list[bytes]:
        return [
            envelope(element("FetchInbox", f"<wait>{mark}</wait>")),
            envelope(element("SubmitMessage", f"<contentType>{mark}</contentType>")),
            envelope(element(mark)),
            envelope(GOOD, element("Manifest", mark)),
            signed_envelope(world.signed({"title": 7, "note": mark * 3, mark: mark})),
        ]

    def attack(mark: str) -> None:
        for _ in range(8):
            for data in invalid(mark):
                answer = send(url, data)
                told(answer)
                seen.append(answer.body.decode() + str(answer.headers))

    threads = [threading.Thread(target=attack, args=(mark,)) for mark in marks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8 * 8 * 5
    assert not [answer for answer in seen if "mark" in answer]
