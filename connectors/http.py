"""Outgoing HTTP, the one place: kept connections, a hard deadline, and failures told as problems.

urllib3's connection pools are used directly: a ``requests`` call costs two to three times as much per message, and
its session reads proxies and credentials from the environment, which a bus must not.

What a call promises:

- The time limit is total. urllib3 limits each single read, so a partner that sends one byte every few seconds could
  hold a worker for hours; here every read gets only what is left of the limit. (Name resolution is the one thing
  that Python cannot interrupt.)
- A reply over ``max_reply_bytes`` is cut off and refused, whatever its headers claim.
- Redirects are never followed: they would carry a payload and a credential to a place nobody registered.
- Nothing is retried here. The outbox retries, with the same idempotency key, where operators can see it.
- No error carries an address, a header, a secret or a byte of a body.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any, BinaryIO

import urllib3
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection

from connectors.base import Reply
from schemas.moment import utc_now
from schemas.problem import InvalidReply, Problem, ProviderRejected, ProviderTimeout, ProviderUnavailable

#: Statuses in the 400s that mean "not now" rather than "never": Request Timeout, Too Early, Too Many Requests.
NOT_NOW = frozenset({408, 425, 429})
#: A partner that asks for a longer pause than a day is misconfigured; the retry policy decides then.
MAX_RETRY_AFTER_SECONDS = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """How the bus calls out. Files are PEM; an empty name means the system's own trust, or no client certificate."""

    max_reply_bytes: int = 10 * 1024 * 1024
    #: Idle connections kept to one origin; more may be open at once, they are closed after use.
    kept_connections: int = 64
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""


class HttpClient:
    """Calls partners over HTTP/1.1. One instance serves all threads of a process; forks must make their own."""

    def __init__(self, settings: HttpSettings | None = None) -> None:
        self._settings = settings or HttpSettings()
        self._pools: dict[str, urllib3.HTTPConnectionPool] = {}
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout_seconds: float,
        body: bytes | BinaryIO | None = None,
        sink: BinaryIO | None = None,
    ) -> Reply:
        """Send one request and return the complete answer, whatever its status; :func:`check_status` judges it.

        A file as ``body`` is streamed and needs its ``Content-Length`` among the headers. With a ``sink``, the content
        of a 2xx answer is written there, whatever its size, and the reply's body is empty.

        Header names of the answer are in lower case; repeated fields are joined with commas (RFC 9110, 5.3).
        Raises ProviderUnavailable (no address, refused, reset, TLS, cut off), ProviderTimeout (not complete in time),
        InvalidReply (not HTTP, or over the size limit).
        """
        origin, target = _split(url)
        pool = self._pools.get(origin) or self._open_pool(origin)
        deadline = monotonic() + timeout_seconds
        try:
            answer = pool.urlopen(
                method,
                target,
                body=body,
                headers={"Accept-Encoding": "identity", "User-Agent": "lgsp-bus", **headers},
                retries=False,
                redirect=False,
                assert_same_host=False,
                timeout=urllib3.Timeout(total=timeout_seconds),
                preload_content=False,
                decode_content=False,
            )
            try:
                if sink is not None and 200 <= answer.status < 300:
                    content = b""
                    while part := answer.read(262_144):
                        sink.write(part)
                else:
                    content = self._read(answer)
            except BaseException:
                answer.close()
                raise
            answer.release_conn()
        except (exceptions.HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            raise _as_problem(error, timeout_seconds, late=monotonic() >= deadline) from None
        answer_headers = {name.lower(): value for name, value in answer.headers.items()}
        return Reply(
            body=content,
            content_type=answer_headers.get("content-type", ""),
            status=answer.status,
            headers=answer_headers,
        )

    def close(self) -> None:
        """Let go of kept connections. Safe to call twice; a later request opens new ones."""
        with self._lock:
            pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    def _read(self, answer: urllib3.BaseHTTPResponse) -> bytes:
        limit = self._settings.max_reply_bytes
        announced = answer.headers.get("Content-Length", "")
        if announced.isdigit() and int(announced) <= limit:
            # The length is enforced by urllib3: fewer bytes than announced raise IncompleteRead.
            return answer.read()
        parts: list[bytes] = []
        size = 0
        while part := answer.read(65_536):
            size += len(part)
            if size > limit:
                raise InvalidReply("reply-too-large", limit=limit)
            parts.append(part)
        return b"".join(parts)

    def _open_pool(self, origin: str) -> urllib3.HTTPConnectionPool:
        with self._lock:
            pool = self._pools.get(origin)
            if pool is None:
                pool = self._pools[origin] = self._make_pool(origin)
            return pool

    def _make_pool(self, origin: str) -> urllib3.HTTPConnectionPool:
        settings = self._settings
        try:
            place = urllib3.util.parse_url(origin)
        except exceptions.LocationParseError:
            raise ProviderUnavailable("endpoint-invalid", setting="url") from None
        if not place.host or place.auth or place.scheme not in ("http", "https"):
            raise ProviderUnavailable("endpoint-invalid", setting="url")
        if place.scheme == "http":
            return _Pool(place.host, place.port, maxsize=settings.kept_connections)
        return _TlsPool(
            place.host,
            place.port,
            maxsize=settings.kept_connections,
            cert_reqs="CERT_REQUIRED",
            ca_certs=settings.ca_file or None,
            cert_file=settings.certificate_file or None,
            key_file=settings.key_file or None,
            ssl_minimum_version=ssl.TLSVersion.TLSv1_2,
            ssl_context=None if settings.ca_file else ssl.create_default_context(),
        )


class Deadline:
    """The time limit of a delivery that takes several calls: each call gets what the ones before it left."""

    __slots__ = ("_ends", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends = monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left, more than 0. Raises ProviderTimeout when none are."""
        left = self._ends - monotonic()
        if left <= 0:
            raise ProviderTimeout("provider-timed-out", seconds=f"{self._seconds:g}")
        return left


def check_status(reply: Reply) -> Reply:
    """The reply if its status is 2xx; else the problem that the status means.

    408, 425, 429, 5xx and redirects may be tried again (ProviderUnavailable, with the partner's Retry-After);
    the rest of the 400s may not (ProviderRejected).
    """
    status = reply.status
    if 200 <= status < 300:
        return reply
    if 400 <= status < 500 and status not in NOT_NOW:
        raise ProviderRejected("provider-refused", status=status)
    if 300 <= status < 400:
        raise ProviderUnavailable("provider-redirected")
    raise ProviderUnavailable(
        "provider-busy",
        status=status,
        retry_after_seconds=retry_after_seconds(reply.headers.get("retry-after", "")),
    )


def retry_after_seconds(text: str) -> int | None:
    """Seconds to wait by a Retry-After field (RFC 9110, 10.2.3: seconds or a date); None when absent or nonsense."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:9]), MAX_RETRY_AFTER_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0, int((moment - utc_now()).total_seconds())), MAX_RETRY_AFTER_SECONDS)


def _split(url: str) -> tuple[str, str]:
    """``https://host:port`` and ``/path?query`` of an absolute URL; a fragment is not sent."""
    authority_from = url.find("://") + 3
    if authority_from == 2:
        raise ProviderUnavailable("endpoint-invalid", setting="url")
    url = url.partition("#")[0]
    for at in range(authority_from, len(url)):
        if url[at] == "/":
            return url[:at], url[at:]
        if url[at] == "?":
            return url[:at], "/" + url[at:]
    return url, "/"


def _as_problem(error: Exception, timeout_seconds: float, *, late: bool) -> Problem:
    """What a failure of the network means. The error's own text names hosts and ports, so it goes no further."""
    # First, because urllib3 calls a refused connection a kind of connect time-out.
    if isinstance(error, exceptions.NewConnectionError):
        return ProviderUnavailable("provider-unreachable")
    if isinstance(error, exceptions.TimeoutError | TimeoutError) or (late and isinstance(error, OSError)):
        return ProviderTimeout("provider-timed-out", seconds=f"{timeout_seconds:g}")
    if isinstance(error, exceptions.SSLError | ssl.SSLError):
        return ProviderUnavailable("provider-tls-failed")
    if isinstance(error, exceptions.IncompleteRead | http.client.IncompleteRead):
        return ProviderUnavailable("provider-broke-off")
    if isinstance(error, exceptions.ProtocolError):
        return _as_broken_protocol(error)
    if isinstance(error, OSError):
        return ProviderUnavailable("provider-broke-off")
    return InvalidReply("reply-not-readable")


def _as_broken_protocol(error: exceptions.ProtocolError) -> Problem:
    """urllib3 wraps both a lost connection and bytes that are not HTTP in one class; the cause tells them apart."""
    cause = error.args[1] if len(error.args) > 1 else error.__cause__
    lost = isinstance(cause, OSError | http.client.IncompleteRead | exceptions.IncompleteRead)
    return ProviderUnavailable("provider-broke-off") if lost or cause is None else InvalidReply("reply-not-readable")


class _DeadlineReader(io.RawIOBase):
    """Reads a socket, giving each read only the time that is left until the deadline."""

    def __init__(self, source: socket.socket, seconds: float) -> None:
        self._source = source
        # The socket's own raw file keeps it open while the answer is read: http.client closes the connection of a
        # "Connection: close" answer as soon as it has seen the head.
        self._file = source.makefile("rb", buffering=0)
        self._deadline = monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        remaining = self._deadline - monotonic()
        if remaining <= 0:
            raise TimeoutError("deadline passed")
        self._source.settimeout(remaining)
        return self._file.readinto(buffer) or 0

    def close(self) -> None:
        self._file.close()
        super().close()


class _DeadlineSource:
    """What ``http.client.HTTPResponse`` wants of a socket: a file to read from."""

    __slots__ = ("_seconds", "_source")

    def __init__(self, source: socket.socket, seconds: float) -> None:
        self._source = source
        self._seconds = seconds

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._source, self._seconds), 16_384)


def _deadline_response(connection: HTTPConnection, source: socket.socket, **options: Any) -> http.client.HTTPResponse:
    """Makes the response of a connection. Before it asks for one, urllib3 sets ``connection.timeout`` to what is left
    of the total time limit (``HTTPConnectionPool._make_request``), so connecting and sending count too."""
    seconds = connection.timeout
    left = seconds if isinstance(seconds, int | float) else 0.0
    return _StrictResponse(_DeadlineSource(source, left), **options)  # type: ignore[arg-type]


class _StrictResponse(http.client.HTTPResponse):
    def begin(self) -> None:
        """Reads the head, and refuses one whose length can be read in two ways (RFC 9112, 6.3). urllib3 refuses it
        too, but leaves the connection to the garbage collector."""
        super().begin()
        lengths = set(self.headers.get_all("Content-Length", []))
        if len(lengths) > 1 or not all(length.isascii() and length.isdigit() for length in lengths):
            self.close()
            raise http.client.BadStatusLine("content-length")


class _Connection(HTTPConnection):
    def response_class(self, sock: socket.socket, **options: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        return _deadline_response(self, sock, **options)


class _TlsConnection(HTTPSConnection):
    def response_class(self, sock: socket.socket, **options: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        return _deadline_response(self, sock, **options)


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection
