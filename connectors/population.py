"""The population database (CSDL quốc gia về dân cư): a SOAP partner with two rules that the bus keeps for it.

::

    POST <url>/<operation>
    Content-Type: application/xml
    SOAPAction: ""
    Timestamp: <milliseconds>
    Authorization: Basic base64(user:sha256(path + user + timestamp + secret))
    ApiKey: <api_key>
    X-Road-Client: <by the setting headers>

    <soap:Envelope><soap:Body><XacThucThongTinCongDan xmlns="http://dancuquocgia.bca">…

Source: vietnam.md 4.11.

All of this is the ``soap`` connector under the settings below, which an endpoint may override one by one (a province
that stands behind another one's bus has headers of its own). What is here beside them are the rules that must hold
whatever schema a registrar has given the service:

- *Every question names its officer* (P18): the ministry writes down who asked, and the law wants to know.
- *Names are capitals in composed Unicode with the Vietnamese Đ* (P17): any other spelling is answered with "not found",
  which a counter reads as "this person does not exist".

A question that breaks one is refused before it leaves. It is never mended here: the manifest that travels along covers
these very bytes. The place to mend a name is the service's request mapping, where the bus states under a manifest of
its own what it made of the sender's words; docs/partners/population.md shows the rule.

The secret is a JSON object of ``user``, ``secret`` and ``api_key``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from connectors.base import Parcel, Reply
from connectors.http import HttpClient
from connectors.soap import SoapConnector
from registry.model import Endpoint
from schemas.codec import read_xml
from schemas.problem import Malformed, ProviderRejected
from schemas.text import name_key

if TYPE_CHECKING:
    from lxml.etree import _Element

NAMESPACE: Final = "http://dancuquocgia.bca"
#: How the ministry wants to be called, in the settings of :mod:`connectors.soap`.
SETTINGS: Final[Mapping[str, Any]] = {
    "path": "{operation}",
    "content_type": "application/xml",
    "soap_action": "",
    "http_headers": {
        "Timestamp": "{timestamp_ms}",
        "Authorization": (
            "Basic {base64({secret.user}:{sha256({url_path}{secret.user}{timestamp_ms}{secret.secret})})}"
        ),
        "ApiKey": "{secret.api_key}",
    },
    # An operator's matter, not the question's: a wrong secret, or a clock that is off.
    "retry_faults": ("Invalid authentication",),
}
#: The officer and the unit that ask.
OFFICER: Final = ("MaCanBo", "MaDonVi")


class PopulationConnector:
    """Asks the population database. Safe under threads."""

    def __init__(self, http: HttpClient) -> None:
        self._soap = SoapConnector(http)

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`. "Not found" is an answer."""
        check_question(parcel.body)
        return self._soap.deliver(parcel, replace(endpoint, settings={**SETTINGS, **endpoint.settings}), secret)

    def close(self) -> None:
        self._soap.close()


def check_question(payload: bytes) -> None:
    """Raise ProviderRejected for a question that the database must not be asked: ``officer-missing``,
    ``name-not-as-kept``, and ``payload-not-for-partner`` for what is no XML. Nothing of the payload is told."""
    try:
        root = read_xml(payload)
    except Malformed:
        raise ProviderRejected("payload-not-for-partner", member="(root)") from None
    for name in OFFICER:
        if not (root.findtext(f"{{{NAMESPACE}}}{name}") or "").strip():
            raise ProviderRejected("officer-missing", member=name)
    for element in root.iter(f"{{{NAMESPACE}}}HoVaTen"):
        text = element.text or ""
        if len(element) or text != name_key(text):
            raise ProviderRejected("name-not-as-kept", member=_place(element, root))


def _place(element: _Element, root: _Element) -> str:
    """Where a name stands, by the element around it where that is not the question itself (``NhanThan/HoVaTen``)."""
    around = element.getparent()
    if around is None or around is root:
        return "HoVaTen"
    known = next((name for name in ("NhanThan", "ChuHo") if around.tag == f"{{{NAMESPACE}}}{name}"), "*")
    return f"{known}/HoVaTen"
