"""Speaking SOAP to the bus of ``tests.bus_world`` by hand: envelopes, answers, faults."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from lxml import etree

from schemas.soap import EXCHANGE_NS, SoapVersion, write_soap
from tests.bus_world import NOTE, RECEIVER, Answer, Signed, ask

PATH = "/soap/exchange"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A fault as a client sees it."""

    code: str
    text: str
    problem: Mapping[str, Any]

    @property
    def reason(self) -> str:
        return str(self.problem["reason"])


def element(name: str, inner: str = "") -> str:
    return f'<{name} xmlns="{EXCHANGE_NS}">{inner}</{name}>'


def envelope(body: str, *blocks: str, version: SoapVersion = SoapVersion.V11) -> bytes:
    return write_soap(version, body.encode(), [block.encode() for block in blocks])


def submission(body: bytes, content_type: str = "application/json", inner: str = "") -> str:
    payload = base64.b64encode(body).decode()
    return element(
        "SubmitMessage", f"<contentType>{escape(content_type)}</contentType><payload>{payload}</payload>{inner}"
    )


def signed_envelope(message: Signed, *, version: SoapVersion = SoapVersion.V11, inner: str = "") -> bytes:
    """The same message as over REST: the same manifest, the same bytes."""
    manifest = element("Manifest", message.headers["Lgsp-Manifest"])
    return envelope(submission(message.body, message.headers["Content-Type"], inner), manifest, version=version)


def facts(message_id: str = "", service: str = NOTE, receivers: tuple[str, ...] = (RECEIVER,), **more: str) -> str:
    """The block Exchange of an attested message."""
    lines = [f"<Service>{service}</Service>", *(f"<Receiver>{receiver}</Receiver>" for receiver in receivers)]
    lines.append(f"<MessageId>{message_id or uuid.uuid4()}</MessageId>")
    return element("Exchange", "".join(lines) + "".join(f"<{name}>{value}</{name}>" for name, value in more.items()))


def attachment(content: bytes, name: str = "don.pdf", **more: str) -> str:
    inner = f"<name>{name}</name><contentType>application/pdf</contentType>"
    inner += "".join(f"<{key}>{value}</{key}>" for key, value in more.items())
    return f"<attachment>{inner}<content>{base64.b64encode(content).decode()}</content></attachment>"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def send(
    url: str, data: bytes, headers: Mapping[str, str] | None = None, *, version: SoapVersion = SoapVersion.V11
) -> Answer:
    return ask("POST", url + PATH, data, {"Content-Type": version.media_type, **(headers or {})})


def said(answer: Answer) -> Any:
    """The payload of an answer that is no fault, as nested dicts; what comes twice is a list."""
    assert answer.status == 200, answer.body
    return plain(etree.fromstring(answer.body)[-1][0])


def plain(node: etree._Element) -> Any:
    if not len(node):
        return node.text or ""
    found: dict[str, list[Any]] = {}
    for child in node:
        found.setdefault(etree.QName(child).localname, []).append(plain(child))
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def told(answer: Answer, status: int = 500) -> Told:
    """The fault in an answer."""
    assert answer.status == status, answer.body
    fault = etree.fromstring(answer.body)[-1][0]
    assert etree.QName(fault).localname == "Fault", answer.body
    code = fault.findtext("faultcode") or fault.findtext("{*}Code/{*}Value") or ""
    text = fault.findtext("faultstring") or fault.findtext("{*}Reason/{*}Text") or ""
    (problem,) = fault.iterfind(f".//{{{EXCHANGE_NS}}}Problem")
    return Told(code=code.partition(":")[2], text=text, problem=plain(problem))
