"""Partners on the connector ``rest`` that call us: an answer that comes days after the question, as a setting.

::

    POST …/partners/<agency>/<system>/<path>   Authorization: Bearer <callback>, a JSON object
         → 202 {"message_id", "state": "accepted"}
         → 4xx {"reason", "detail"}: not so;  5xx: the same call again, later

    "inbound": {"receiver": "H99.15",
                "calls": {"ket-qua": {"service": "residence.result", "dossier": "maHoSo",
                                      "same": ["maHoSo", "trangThai", "thoiGianThucHien"]}}}

``calls`` is a table of paths: the service whose message such a call is, the member that names its dossier, and the
members that are equal in a call that comes again (without them: the whole body). ``header`` says where the proof is, if
not in ``Authorization``. The endpoint's secret is an object of ``user``, ``secret`` and ``callback``
(:mod:`connectors.callbacks`). A system without ``inbound`` is called by nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectors.base import Answer, Incoming, Outcome, PartnerCall, Reply, message_id_of
from connectors.callbacks import prove, receiver_of
from connectors.partner_json import code_text, setting_mapping, setting_texts
from registry.model import Endpoint
from schemas.codec import read_json, write_json
from schemas.identifiers import DossierCode, ServiceCode
from schemas.message import Receipt, sha256_hex
from schemas.problem import Malformed, NotFound, Problem, ProviderUnavailable

#: Longest value that tells calls apart.
_MOST_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """What the settings say of one path."""

    service: ServiceCode
    dossier: str
    same: tuple[str, ...]


class RestReceiver:
    """Takes calls by the table of the endpoint. Keeps nothing, so it is safe under threads."""

    def receive(self, call: PartnerCall, endpoint: Endpoint, secret: bytes | None) -> Incoming:
        """See :class:`connectors.base.Receiver`. The message is the body as it came."""
        inbound = setting_mapping(endpoint, "inbound")
        if not inbound:
            raise NotFound("page-unknown")
        prove(call, str(inbound.get("header", "authorization")), secret)
        told = _call_of(inbound, call)
        document = read_json(call.body)
        if not isinstance(document, dict):
            raise Malformed("partner-notice-invalid", member="(root)")
        parts = [_text(document, member) for member in told.same] or [sha256_hex(call.body)]
        return Incoming(
            service=told.service,
            receivers=(receiver_of(inbound),),
            body=call.body,
            content_type="application/json",
            message_id=message_id_of(call.system, told.service, *parts),
            dossier=_dossier(document, told.dossier) if told.dossier else None,
        )

    def answer(self, call: PartnerCall, incoming: Incoming, outcome: Outcome) -> Answer:
        """202 for what is recorded, the provider's own answer for a question."""
        if isinstance(outcome, Receipt):
            return _said({"message_id": outcome.message_id, "state": outcome.state}, 202)
        if isinstance(outcome, Reply):
            return Answer(body=outcome.body, content_type=outcome.content_type)
        return self.refuse(call, outcome)

    def refuse(self, call: PartnerCall, problem: Problem) -> Answer:
        """Our reason and sentence, under the problem's own status: 5xx is worth another try, 4xx is not."""
        return _said({"reason": problem.reason, "detail": problem.detail("vi")}, problem.status)


def _call_of(inbound: Mapping[str, Any], call: PartnerCall) -> _Call:
    """Raises NotFound for a path that the table lacks, ProviderUnavailable for a table that cannot be read."""
    calls = inbound.get("calls")
    rule = calls.get(call.path) if isinstance(calls, Mapping) else None
    if call.method != "POST" or rule is None:
        raise NotFound("page-unknown")
    try:
        service, dossier = ServiceCode(rule["service"]), rule.get("dossier", "")
        if isinstance(dossier, str):
            return _Call(service=service, dossier=dossier, same=setting_texts(rule, "same", ()))
    except (Malformed, KeyError, TypeError, AttributeError):
        pass
    raise ProviderUnavailable("endpoint-invalid", setting="inbound")


def _text(document: Mapping[str, Any], member: str) -> str:
    text = code_text(document.get(member))
    if not 0 < len(text) <= _MOST_CHARACTERS:
        raise Malformed("partner-notice-invalid", member=member)
    return text


def _dossier(document: Mapping[str, Any], member: str) -> DossierCode:
    """Whoever asked must learn it: an answer about no dossier of ours is refused."""
    try:
        return DossierCode(document.get(member))
    except Malformed:
        raise Malformed("partner-notice-invalid", member=member) from None


def _said(document: Mapping[str, Any], status: int) -> Answer:
    return Answer(status=status, body=write_json(document))
