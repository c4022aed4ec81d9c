"""Codes inside a 200: what a REST partner's answer says of itself, as a setting of its endpoint.

::

    "reply_codes": {"members": ["errorCode", "maLoi"], "success": ["25"], "retry": ["03"]}

A member that is missing, null or empty says nothing, and zero in any spelling is success (P4). Other codes are success
where ``success`` names them, worth another try where ``retry`` does, and a final no otherwise. Words decide nothing.
"""

from __future__ import annotations

from connectors.base import Reply
from connectors.partner_json import code_text, is_success, reply_object, setting_mapping, setting_texts, shown_code
from registry.model import Endpoint
from schemas.problem import ProviderRejected, ProviderUnavailable


def check_codes(reply: Reply, endpoint: Endpoint) -> Reply:
    """The reply, unless its endpoint has ``reply_codes`` and one of them says no.

    Raises InvalidReply for what is no JSON object, ProviderUnavailable ``partner-says-later``, ProviderRejected
    ``provider-said-no``.
    """
    rules = setting_mapping(endpoint, "reply_codes")
    if not rules:
        return reply
    document = reply_object(reply)
    success, retry = setting_texts(rules, "success", ()), setting_texts(rules, "retry", ())
    for member in setting_texts(rules, "members", ()):
        code = document.get(member)
        if code is None or code == "" or is_success(code) or code_text(code) in success:
            continue
        if code_text(code) in retry:
            raise ProviderUnavailable("partner-says-later", code=shown_code(code))
        raise ProviderRejected("provider-said-no", code=shown_code(code))
    return reply
