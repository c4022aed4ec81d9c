"""The public post (VNPost): dossiers fetched from citizens and results brought to them.

::

    POST <url>/<token_path>            grant_type=client_credentials, Basic client_id:client_secret
                                       → {"access_token", "expires_in"}
    POST <url>/<operation>             Authorization: Bearer …, or access_token: …; a JSON document as below
    POST <url>?service=<operation>     the same through an adapter
    GET  <url>/<tracking>?pagesize=1000&lastId=000000000000000000000000
                                       → {"_embedded": {"rh:doc": [{"_id": {"$oid": "…"}, "orderNumber", "statusCode",
                                          "statusMessage"}]}}

Source: vietnam.md 4.10 (OCPS-VNP, TD-VNP). What the post calls its operations is agreed with each province.

==================== ================ ===========================================================================
service              operation        payload, and what comes back
==================== ================ ===========================================================================
post.quote           getPrice         ``{weight, mainSrv, isreturn, sender, receiver}`` → ``{"content": {"price"}}``
post.collect-order   orderPost        an order: the citizen is the sender → ``{"Status": "100", "Message"}``
post.delivery-order  orderPost        an order: the citizen is the receiver, ``CODAmount`` is taken at the door
post.cancel          orderCancel      ``{CustomerCode, OrderNUmber}``: the misspelling is the post's own (P25)
post.tracking        orderTracking    ``{lastId, pagesize}``, both may be left out; one page of the feed
post.dossier-notice  document         a new dossier, ``NgayTiepNhan`` as MM/dd/yyyy (P1)
==================== ================ ===========================================================================

Payloads and answers pass byte for byte. The order number is the dossier's code and the post's own key, so a repeat is
the same order; a post that says of a repeat that it has the order is told apart by ``exists_codes``.

Endpoint settings: ``auth`` (``oauth2``, the default; ``header`` with ``auth_header: access_token`` for a token that
never changes), ``token_header`` (``Authorization``; any other name takes the bare token), ``token_path``,
``operation_in`` (``path``, the default, or ``query``), ``operations``, ``headers``, ``success_codes``, ``exists_codes``
and ``final_codes``. Only the meaning of 100 is known, so any code that no setting names is tried again.
The secret is ``client_id:client_secret``, or the token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote, urlencode

from connectors.base import Parcel, Reply
from connectors.http import HttpClient, check_status
from connectors.oauth2 import TokenCalls, place
from connectors.partner_json import (
    code_text,
    operation_of,
    payload_object,
    reply_object,
    setting_text,
    setting_texts,
    shown_code,
)
from connectors.rest import HEADER_NAME, authorization, content_digest, fixed_headers, kept, question_headers
from registry.model import Endpoint
from schemas.codec import read_json
from schemas.problem import InvalidReply, Problem, ProviderRejected, ProviderUnavailable

OPERATIONS: Final = {
    "post.quote": "getPrice",
    "post.collect-order": "orderPost",
    "post.delivery-order": "orderPost",
    "post.cancel": "orderCancel",
    "post.tracking": "orderTracking",
    "post.dossier-notice": "document",
}
TRACKING: Final = "post.tracking"
QUOTE: Final = "post.quote"
#: Where the feed begins: before every id.
FIRST_ID: Final = "0" * 24
#: Most events of one page (P27).
PAGE_SIZE: Final = 1000
SUCCESS_CODES: Final = ("100",)
_ID: Final = re.compile(r"[0-9a-f]{24}")


class PostConnector:
    """Hands orders to the post and asks it. Safe under threads; tokens are shared between them."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._calls = TokenCalls(http)

    def deliver(self, parcel: Parcel, endpoint: Endpoint, secret: bytes | None) -> Reply:
        """See :class:`connectors.base.Connector`. The reply is the post's answer, byte for byte."""
        method, url, body = _request(parcel, endpoint)
        headers = question_headers(parcel, endpoint, {"Accept": "application/json"})
        if body is not None:
            headers["Content-Type"] = "application/json"
            headers["Content-Digest"] = content_digest(parcel.manifest.body_sha256)

        def call(proof: Mapping[str, str], seconds: float) -> Reply:
            return self._http.request(method, url, headers={**headers, **proof}, body=body, timeout_seconds=seconds)

        if setting_text(endpoint, "auth", "oauth2") != "oauth2":
            reply = call(authorization(endpoint, secret), endpoint.timeout_seconds)
        else:
            reply = self._under_token(call, endpoint, secret)
        return kept(_judged(check_status(reply), parcel, endpoint))

    def close(self) -> None:
        self._http.close()

    def _under_token(
        self, call: Callable[[Mapping[str, str], float], Reply], endpoint: Endpoint, secret: bytes | None
    ) -> Reply:
        name = setting_text(endpoint, "token_header", "Authorization")
        if not HEADER_NAME.fullmatch(name):
            raise ProviderUnavailable("endpoint-invalid", setting="token_header")
        is_bearer = name.lower() == "authorization"
        return self._calls.make(
            lambda bearer, seconds: call({name: bearer if is_bearer else bearer.removeprefix("Bearer ")}, seconds),
            endpoint,
            secret,
            token_url=place(endpoint, "token_path", "token"),
            headers=fixed_headers(endpoint),
            form="grant_type=client_credentials",
        )


# ---- What is asked


def _request(parcel: Parcel, endpoint: Endpoint) -> tuple[str, str, bytes | None]:
    """Method, URL and body. Raises ProviderRejected for what the post would not understand."""
    operation = operation_of(parcel, endpoint, OPERATIONS)
    payload = payload_object(parcel)
    asked = feed_query(payload) if parcel.manifest.service == TRACKING else {}
    where = setting_text(endpoint, "operation_in", "path")
    if where == "path":
        query = f"?{urlencode(asked)}" if asked else ""
        url = f"{endpoint.url.rstrip('/')}/{quote(operation, safe='/')}{query}"
    elif where == "query":
        url = f"{endpoint.url}?{urlencode({'service': operation, **asked})}"
    else:
        raise ProviderUnavailable("endpoint-invalid", setting="operation_in")
    if asked:
        return "GET", url, None
    amount = payload.get("CODAmount", 0)
    if type(amount) is not int or amount < 0:
        # 150000.0 is an integer to JSON Schema; money has no fraction here, not even an empty one.
        raise ProviderRejected("payload-not-for-partner", member="CODAmount")
    return "POST", url, parcel.body


def feed_query(payload: Mapping[str, Any]) -> dict[str, str]:
    """What a page is asked with. Raises ProviderRejected ``payload-not-for-partner``, ``page-too-large``."""
    last_id, size = payload.get("lastId", FIRST_ID), payload.get("pagesize", PAGE_SIZE)
    if payload.keys() - {"lastId", "pagesize"}:
        raise ProviderRejected("payload-not-for-partner", member="(root)")
    if not isinstance(last_id, str) or not _ID.fullmatch(last_id):
        raise ProviderRejected("payload-not-for-partner", member="lastId")
    if type(size) is not int or size < 1:
        raise ProviderRejected("payload-not-for-partner", member="pagesize")
    if size > PAGE_SIZE:
        raise ProviderRejected("page-too-large", limit=PAGE_SIZE)
    return {"pagesize": str(size), "lastId": last_id}


# ---- What is answered


def _judged(reply: Reply, parcel: Parcel, endpoint: Endpoint) -> Reply:
    """The reply, if it is the answer that the service asks for. Raises ProviderRejected ``provider-said-no`` by
    ``final_codes``, ProviderUnavailable ``partner-says-later`` for other codes, InvalidReply for what has none."""
    document = reply_object(reply)
    service = parcel.manifest.service
    if service == TRACKING and "_embedded" in document:
        read_page(reply.body)
        return reply
    if service == QUOTE and isinstance(document.get("content"), Mapping):
        return reply
    code = code_text(document.get("Status"))
    if not code:
        raise InvalidReply("reply-not-readable")
    settings = endpoint.settings
    accepted = {*setting_texts(settings, "success_codes", SUCCESS_CODES), *setting_texts(settings, "exists_codes", ())}
    if code in accepted and service not in (TRACKING, QUOTE):
        return reply
    if code in setting_texts(settings, "final_codes", ()):
        raise ProviderRejected("provider-said-no", code=shown_code(code))
    raise ProviderUnavailable("partner-says-later", code=shown_code(code))


# ---- The feed


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingPage:
    """One page of the feed, as the post wrote its events."""

    events: tuple[Mapping[str, Any], ...]
    #: What the page after it is asked with. To be kept only when the events are: a lost id asks again, which does no
    #: harm, an id kept too early loses events (P26).
    last_id: str


def read_page(body: bytes, after: str = FIRST_ID) -> TrackingPage:
    """The page in an answer. Raises InvalidReply for what is no page, or leads back to where we have been."""
    try:
        events = tuple(read_json(body)["_embedded"]["rh:doc"])
        ids = [event["_id"]["$oid"] for event in events]
    except (Problem, KeyError, TypeError):
        raise InvalidReply("reply-not-readable") from None
    if not all(isinstance(one, str) and _ID.fullmatch(one) for one in ids) or (ids and ids[-1] <= after):
        raise InvalidReply("reply-not-readable")
    return TrackingPage(events=events, last_id=ids[-1] if ids else after)


def tracking_pages(
    ask: Callable[[Mapping[str, Any]], bytes], *, last_id: str = FIRST_ID, page_size: int = PAGE_SIZE
) -> Iterator[TrackingPage]:
    """All pages after ``last_id``; ``ask`` sends the payload of ``post.tracking`` and returns the answer's body.

    Ends at an empty page: a short one may be the post's own limit. (A client in use looks for one order in all pages
    and begins anew at the end, for ever.) A feed that does not move on raises InvalidReply.
    """
    while True:
        page = read_page(ask({"lastId": last_id, "pagesize": page_size}), last_id)
        if not page.events:
            return
        yield page
        last_id = page.last_id


# ---- Codes, which are data


@dataclass(frozen=True, slots=True, kw_only=True)
class PostStatus:
    """A state of an order. ``is_end``: nothing comes after it. ``is_delivered``: the receiver has it.
    ``is_verified``: some source says so."""

    code: str
    name: str
    name_en: str
    is_end: bool
    is_delivered: bool
    is_verified: bool


@cache
def post_statuses() -> Mapping[str, Mapping[str, PostStatus]]:
    """States by kind (``collect``, ``delivery``) and code, from schemas/partners/post/statuses.json."""
    document = read_json(files("schemas").joinpath("partners", "post", "statuses.json").read_bytes())
    return {
        kind: {
            code: PostStatus(
                code=code,
                name=row["vi"],
                name_en=row["en"],
                is_end=row["end"],
                is_delivered=row.get("delivered", False),
                is_verified=row["verified"],
            )
            for code, row in document[kind].items()
        }
        for kind in ("collect", "delivery")
    }
