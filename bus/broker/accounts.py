"""Members' own users at the broker, by RabbitMQ's management interface: each may read its mailbox, the queue of
its events and nothing else.

::

    user        the system's code, tagged lgsp-member; password made here, known to the broker as a salted hash
    permissions configure ^$   write ^$   read ^lgsp\\.(member|events)\\.<system>(\\.dead)?$
    limits      CONNECTIONS connections, CHANNELS channels

The interface is asked over HTTP because that works from any node of the bus; rabbitmqctl needs the cluster's cookie.
"""

from __future__ import annotations

import base64
import re
import secrets
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from bus.broker.names import (
    EVENT_EXCHANGE,
    EVENT_PREFIX,
    MAILBOX_DEAD_SUFFIX,
    MAILBOX_PREFIX,
    dead_event_queue_name,
    dead_mailbox_name,
    event_binding,
    event_queue_arguments,
    event_queue_name,
    mailbox_arguments,
    mailbox_name,
)
from connectors.base import Reply
from connectors.http import HttpClient, HttpSettings, check_status
from schemas.codec import read_json, write_json
from schemas.identifiers import SystemCode
from schemas.problem import InvalidReply, Malformed, ProviderUnavailable

#: Tells members' users from operators'. RabbitMQ gives it no rights.
TAG: Final = "lgsp-member"
#: Of one member at once: a few programs, and one being replaced by its successor.
CONNECTIONS: Final = 8
CHANNELS: Final = 32
_NOTHING: Final = "^$"
_TIMEOUT_SECONDS: Final = 15.0
_NAME: Final = re.compile(r"[A-Z][0-9]{2}(\.[A-Z0-9]{1,5}){0,5}/[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a member logs in with. The password exists here and at the member only."""

    system: SystemCode
    vhost: str
    #: Its mailbox, the queue of its events, or both.
    queues: tuple[str, ...]
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A member's user as the broker has it. ``wider``: it may do more than we give; somebody changed it."""

    system: str
    reads: str
    wider: bool


class Accounts:
    """Makes, removes and lists members' users."""

    def __init__(self, management_url: str, broker_url: str, *, authority_file: str = "") -> None:
        """``management_url`` with an administrator's user and password; ``broker_url`` names the virtual host. Raises
        ValueError for what is no such address."""
        parts = urlsplit(management_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is None:
            raise ValueError("LGSP_BROKER_MANAGEMENT: expected http:// or https://user:password@host:port")
        self._base = urlunsplit(
            (parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/") + "/api", "", "")
        )
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        self._authorization = f"Basic {base64.b64encode(login.encode()).decode('ascii')}"
        self._vhost = unquote(urlsplit(broker_url).path[1:]) or "/"
        self._http = HttpClient(HttpSettings(ca_file=authority_file))

    def grant(self, system: SystemCode, *, mailbox: bool = True, events: bool = False) -> Account:
        """A user for this member, or a new password for the one that it has; and its queues, which may be empty for
        long. Raises ProviderUnavailable, InvalidReply."""
        user, vhost = quote(system, safe=""), quote(self._vhost, safe="")
        queues: list[str] = []
        if mailbox:
            queues.append(mailbox_name(system))
            self._make_queue(vhost, dead_mailbox_name(system), {"x-queue-type": "quorum"})
            self._make_queue(vhost, mailbox_name(system), mailbox_arguments(system))
        if events:
            queues.append(event_queue_name(system))
            self._make_event_queue(vhost, system)
        password = secrets.token_urlsafe(32)
        # RabbitMQ wants the user before its rights; until it has some it does nothing.
        self._put(f"/users/{user}", {"password": password, "tags": TAG})
        self._put(
            f"/permissions/{vhost}/{user}",
            {"configure": _NOTHING, "write": _NOTHING, "read": _reads(system)},
        )
        for limit, value in (("max-connections", CONNECTIONS), ("max-channels", CHANNELS)):
            self._put(f"/user-limits/{user}/{limit}", {"value": value})
        return Account(system=system, vhost=self._vhost, queues=tuple(queues), password=password)

    def _make_queue(self, vhost: str, name: str, arguments: dict[str, Any]) -> None:
        self._put(f"/queues/{vhost}/{quote(name, safe='')}", {"durable": True, "arguments": arguments})

    def _make_event_queue(self, vhost: str, system: SystemCode) -> None:
        """As :class:`bus.broker.rabbitmq.RabbitEvents` makes it before the first event."""
        self._put(f"/exchanges/{vhost}/{EVENT_EXCHANGE}", {"type": "topic", "durable": True})
        self._make_queue(vhost, dead_event_queue_name(system), {"x-queue-type": "quorum"})
        self._make_queue(vhost, event_queue_name(system), event_queue_arguments(system))
        queue = quote(event_queue_name(system), safe="")
        binding = write_json({"routing_key": event_binding(system)})
        _expect(self._ask("POST", f"/bindings/{vhost}/e/{EVENT_EXCHANGE}/q/{queue}", binding))

    def revoke(self, system: SystemCode) -> bool:
        """Remove the user; the broker ends its connections. The mailbox stays. False when there was none. Raises as
        `grant`."""
        reply = self._ask("DELETE", f"/users/{quote(system, safe='')}")
        if reply.status == 404:
            return False
        _expect(reply)
        return True

    def users(self) -> list[Standing]:
        """Members' users by name. Raises as `grant`."""
        users = self._objects("/users")
        rights: dict[str, list[dict[str, Any]]] = {}
        for right in self._objects("/permissions"):
            rights.setdefault(str(right.get("user")), []).append(right)
        members = sorted(str(user.get("name")) for user in users if TAG in _tags(user))
        return [_standing(name, rights.get(name, []), self._vhost) for name in members]

    def close(self) -> None:
        self._http.close()

    def _put(self, path: str, document: dict[str, Any]) -> None:
        _expect(self._ask("PUT", path, write_json(document)))

    def _objects(self, path: str) -> list[dict[str, Any]]:
        try:
            found = read_json(_expect(self._ask("GET", path)).body)
        except Malformed:
            raise InvalidReply("reply-not-readable") from None
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise InvalidReply("reply-not-readable")
        return found

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Reply:
        headers = {"Authorization": self._authorization, "Content-Type": "application/json"}
        return self._http.request(
            method, self._base + path, headers=headers, body=body, timeout_seconds=_TIMEOUT_SECONDS
        )


def _reads(system: SystemCode) -> str:
    prefixes = f"({re.escape(MAILBOX_PREFIX)}|{re.escape(EVENT_PREFIX)})"
    return f"^{prefixes}{re.escape(system)}({re.escape(MAILBOX_DEAD_SUFFIX)})?$"


def _read_before_events(system: SystemCode) -> str:
    """What releases without events gave: less, and still as granted."""
    return f"^{re.escape(MAILBOX_PREFIX)}{re.escape(system)}({re.escape(MAILBOX_DEAD_SUFFIX)})?$"


def _standing(name: str, rights: list[dict[str, Any]], vhost: str) -> Standing:
    own = SystemCode.unchecked(name)
    given = {"configure": _NOTHING, "write": _NOTHING, "vhost": vhost}
    reads = (_reads(own), _read_before_events(own))
    exact = bool(_NAME.fullmatch(name)) and all(
        {part: right.get(part) for part in given} == given and right.get("read") in reads for right in rights
    )
    return Standing(system=name, reads=" ".join(str(right.get("read")) for right in rights), wider=not exact)


def _tags(user: dict[str, Any]) -> list[str]:
    """A list, or in earlier versions a text with commas."""
    tags = user.get("tags")
    return [str(tag) for tag in tags] if isinstance(tags, list) else str(tags).split(",")


def _expect(reply: Reply) -> Reply:
    if reply.status in (401, 403):
        raise ProviderUnavailable("broker-login-refused")
    return check_status(reply)
