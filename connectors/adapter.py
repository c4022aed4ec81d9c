"""Calls through the adapter beside a province's security server (X-Road), for partners that are reached by one.

::

    POST http(s)://<security server>/XrdAdapter/RestService/forward/<path of the remote API>
         ?dstcode=<member>:<class>:<organisation>:<subsystem>&providerurl=<base of the remote API>

Source: vietnam.md 5.1. The destination stands in the query, or with ``address_in: header`` in two headers of the same
names; ``providerurl`` chooses one of several hosts behind a member. Both are settings of the endpoint and optional.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from connectors.base import Parcel, Reply
from connectors.http import Deadline, HttpClient, check_status
from connectors.partner_json import setting_text
from connectors.rest import JSON_BOTH_WAYS, question_headers
from registry.model import Endpoint
from schemas.problem import ProviderUnavailable


def post(
    http: HttpClient,
    parcel: Parcel,
    endpoint: Endpoint,
    deadline: Deadline,
    *,
    path: str,
    body: bytes,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """The partner's answer to one POST of JSON. ``headers`` stand above the endpoint's own."""
    target, sent = addressed(parcel, endpoint, path=path, query=query, headers=headers)
    return check_status(http.request("POST", target, headers=sent, body=body, timeout_seconds=deadline.remaining()))


def addressed(
    parcel: Parcel,
    endpoint: Endpoint,
    *,
    path: str,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[str, dict[str, str]]:
    """URL and headers of one POST to ``path`` below the endpoint."""
    address = {name: setting_text(endpoint, name) for name in ("dstcode", "providerurl") if endpoint.settings.get(name)}
    in_header = setting_text(endpoint, "address_in", "query") == "header"
    parameters = {**({} if in_header else address), **(query or {})}
    url = f"{endpoint.url.rstrip('/')}/{path.lstrip('/')}"
    sent = {
        **question_headers(parcel, endpoint, {**JSON_BOTH_WAYS, "Charset": "utf-8"}),
        **(address if in_header else {}),
        **(headers or {}),
    }
    return f"{url}?{urlencode(parameters)}" if parameters else url, sent


def refuse_guessable(password: str, agency: str) -> None:
    """Public client code has default passwords made of the agency's code (vietnam.md 6.4): those are no secrets."""
    plain = "".join(filter(str.isalnum, agency)).casefold()
    if plain and plain in "".join(filter(str.isalnum, password)).casefold():
        raise ProviderUnavailable("endpoint-secret-weak")
