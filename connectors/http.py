"""Outgoing HTTP, the one place: kept connections, a hard deadline, and failures told as problems.

A small HTTP/1.1 client of our own on the standard library's sockets and TLS. This is the delivery hot path, and the
client was a large part of what a delivery costs: a POST of 3 KB with the bus's headers over a kept connection takes 31
to 48 µs of CPU here and 257 µs with urllib3's pools (one caller, November 2026, 2 cores); requests takes more than
both. It also needs less: no proxies, cookies, redirects, compression or retries.

What a call promises:

- The time limit is total. The usual clients limit each single read, so a partner that sends one byte every few seconds
  could hold a worker for hours; here every read gets only what is left of the limit. (Name resolution is the one thing
  that Python cannot interrupt.)
- A reply over ``max_reply_bytes`` is cut off and refused, whatever its headers claim.
- A reply whose end can be understood in two ways is refused (RFC 9112, section 6.3), and a connection is used again
  only after an answer that ended where it said.
- Redirects are never followed: they would carry a payload and a credential to a place nobody registered.
- Nothing is retried here. The outbox retries, with the same idempotency key, where operators can see it.
- No error carries an address, a header, a secret or a byte of a body.
"""

from __future__ import annotations

import fcntl
import io
import re
import socket
import ssl
import termios
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import BinaryIO
from urllib.parse import urlsplit

from connectors.base import Reply
from schemas.moment import utc_now
from schemas.problem import InvalidReply, Problem, ProviderRejected, ProviderTimeout, ProviderUnavailable

#: Statuses in the 400s that mean "not now" rather than "never": Request Timeout, Too Early, Too Many Requests.
NOT_NOW = frozenset({408, 425, 429})
#: A partner that asks for a longer pause than a day is misconfigured; the retry policy decides then.
MAX_RETRY_AFTER_SECONDS = 86_400
#: Most bytes of an answer's status line and headers. Manifests travel there, and are under 16 KiB.
MAX_HEAD_BYTES = 65_536
MAX_HEADERS = 100
#: Bodies up to this size leave in one segment train with the head: one system call instead of two.
JOINED_BODY_BYTES = 65_536
READ_BYTES = 65_536

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n]*)?")
_HEADER_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")
_TARGET = re.compile(r"/[!-~]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """How the bus calls out. Files are PEM; an empty name means the system's own trust, or no client certificate."""

    max_reply_bytes: int = 10 * 1024 * 1024
    #: Idle connections kept to one origin; more may be open at once, they are closed after use.
    kept_connections: int = 64
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""


#: The addresses to try for a host and port, in this order. What it raises, other than OSError, reaches the caller.
Resolve = Callable[[str, int], Sequence[str]]


class HttpClient:
    """Calls partners over HTTP/1.1. One instance serves all threads of a process; forks must make their own.

    With ``resolve`` the addresses that it returns are the ones connected to: there is no second resolution that could
    answer otherwise. TLS still verifies the certificate for the host's name.
    """

    def __init__(self, settings: HttpSettings | None = None, *, resolve: Resolve | None = None) -> None:
        self._settings = settings or HttpSettings()
        self._resolve = resolve or _as_named
        self._origins: dict[str, _Origin] = {}
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
        origin_text, target = _split(url)
        origin = self._origins.get(origin_text) or self._open_origin(origin_text)
        head = _request_head(method, target, origin.host_header, headers, body)
        deadline = monotonic() + timeout_seconds
        connection: _Connection | None = None
        try:
            connection = origin.take(deadline)
            sent = connection.send(head, body, deadline)
            status, answer_headers, reusable = _read_head(connection, deadline)
            to_sink = sink if sink is not None and 200 <= status < 300 else None
            length_free = method == "HEAD" or status in (204, 304)
            ended = True
            content = b""
            if not length_free:
                content, ended = self._read_body(connection, answer_headers, deadline, to_sink)
            if sent and reusable and ended and not connection.unread:
                origin.keep(connection)
                connection = None
        except (OSError, EOFError, _NotHttp) as error:
            raise _as_problem(error, timeout_seconds, late=monotonic() >= deadline) from None
        finally:
            if connection is not None:
                connection.close()
        content_type = answer_headers.get("content-type", "")
        return Reply(body=content, content_type=content_type, status=status, headers=answer_headers)

    def close(self) -> None:
        """Let go of kept connections. Safe to call twice; a later request opens new ones."""
        with self._lock:
            origins, self._origins = self._origins, {}
        for origin in origins.values():
            origin.close()

    def _read_body(
        self, connection: _Connection, headers: Mapping[str, str], deadline: float, sink: BinaryIO | None
    ) -> tuple[bytes, bool]:
        """The content (empty with a sink), and whether it ended by its own framing rather than with the connection."""
        limit = self._settings.max_reply_bytes
        length = _content_length(headers)
        if sink is None and length is not None and length <= limit:
            return connection.read_exactly(length, deadline), True
        if "transfer-encoding" in headers:
            pieces, framed = _chunks(connection, deadline), True
        elif length is not None:
            pieces, framed = _counted(connection, length, deadline), True
        else:
            pieces, framed = _until_closed(connection, deadline), False
        parts: list[bytes] = []
        size = 0
        for piece in pieces:
            if sink is not None:
                sink.write(piece)
                continue
            size += len(piece)
            if size > limit:
                raise InvalidReply("reply-too-large", limit=limit)
            parts.append(piece)
        return b"".join(parts), framed

    def _open_origin(self, text: str) -> _Origin:
        with self._lock:
            origin = self._origins.get(text)
            if origin is None:
                origin = self._origins[text] = _Origin(text, self._settings, self._resolve)
            return origin


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
    if isinstance(error, _NotHttp):
        return InvalidReply("reply-not-readable")
    if isinstance(error, TimeoutError) or (late and isinstance(error, OSError)):
        return ProviderTimeout("provider-timed-out", seconds=f"{timeout_seconds:g}")
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return ProviderUnavailable("provider-tls-failed")
    if isinstance(error, _Unreachable):
        return ProviderUnavailable("provider-unreachable")
    return ProviderUnavailable("provider-broke-off")


class _NotHttp(Exception):
    """The partner's bytes are no answer in HTTP/1.1, or one that can be read in two ways."""


class _Unreachable(OSError):
    """No connection came about: no such name, refused, no route."""


#: tcpi_state of Linux's TCP_INFO; asked of the kernel, because a poll costs a greenlet switch under gevent.
_TCP_ESTABLISHED = 1
#: FIONREAD's answer for an empty buffer.
_NOTHING = bytes(4)


class _Origin:
    """One scheme, host and port, with the connections kept to it. Safe under threads."""

    def __init__(self, text: str, settings: HttpSettings, resolve: Resolve) -> None:
        """Raises ProviderUnavailable(endpoint-invalid) for what is no plain ``http(s)://host[:port]``."""
        try:
            place = urlsplit(text)
            self._port = place.port or (443 if place.scheme == "https" else 80)
        except ValueError:
            raise ProviderUnavailable("endpoint-invalid", setting="url") from None
        plain = place.scheme in ("http", "https") and place.hostname and "@" not in place.netloc
        if not plain or not re.fullmatch(r"[!-~]+", place.netloc):
            raise ProviderUnavailable("endpoint-invalid", setting="url")
        self._host = place.hostname or ""
        self._resolve = resolve
        self.host_header = place.netloc
        self._tls = _tls_context(settings) if place.scheme == "https" else None
        self._kept_connections = settings.kept_connections
        #: The most recently used is taken first: the rest grow old together and are closed by their partners.
        self._idle: deque[_Connection] = deque()
        self._closed = False

    def take(self, deadline: float) -> _Connection:
        """A connection that was kept and is still open, or a new one."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._connect(deadline)
            if connection.is_quiet():
                return connection
            connection.close()

    def keep(self, connection: _Connection) -> None:
        if self._closed or len(self._idle) >= self._kept_connections:
            connection.close()
        else:
            self._idle.append(connection)

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _connect(self, deadline: float) -> _Connection:
        try:
            plain = self._open_socket(deadline)
        except TimeoutError:
            raise
        except (OSError, UnicodeError) as error:
            raise _Unreachable from error
        try:
            # The head and the body of a large request are two writes; Nagle would hold the second one back.
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                return _Connection(plain)
            plain.settimeout(_left(deadline))
            return _Connection(self._tls.wrap_socket(plain, server_hostname=self._host))
        except BaseException:
            plain.close()
            raise

    def _open_socket(self, deadline: float) -> socket.socket:
        """A connection to the first address that takes one. Raises what the last one said."""
        refused: OSError = OSError("no address")
        for address in self._resolve(self._host, self._port):
            try:
                return socket.create_connection((address, self._port), timeout=_left(deadline))
            except TimeoutError:
                raise
            except OSError as error:
                refused = error
        raise refused


def _as_named(host: str, _port: int) -> Sequence[str]:
    """The name itself: the system resolves it and tries its addresses in turn."""
    return (host,)


def _tls_context(settings: HttpSettings) -> ssl.SSLContext:
    """TLS 1.2 or later, the partner's certificate verified for its name. Raises ProviderUnavailable when a file of the
    settings cannot be read."""
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.certificate_file:
            context.load_cert_chain(settings.certificate_file, settings.key_file or None)
    except OSError:
        raise ProviderUnavailable("provider-tls-failed") from None
    return context


class _Connection:
    """A socket with what was read from it and not used yet. Used by one call at a time."""

    __slots__ = ("_socket", "unread")

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.unread = b""

    def is_quiet(self) -> bool:
        """Open, as far as one can see: a partner that has hung up, or talks without being asked, is readable."""
        state = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        unasked = fcntl.ioctl(self._socket.fileno(), termios.FIONREAD, _NOTHING)
        return state == _TCP_ESTABLISHED and unasked == _NOTHING

    def send(self, head: bytes, body: bytes | BinaryIO | None, deadline: float) -> bool:
        """Whether all of it was taken. A partner that refuses a large body may answer and hang up in the middle of it:
        that is no failure yet, for its answer says more than the broken pipe."""
        joined = isinstance(body, bytes) and len(body) <= JOINED_BODY_BYTES
        self._socket.settimeout(_left(deadline))
        self._socket.sendall(head + body if isinstance(body, bytes) and joined else head)
        if body is None or joined:
            return True
        source = io.BytesIO(body) if isinstance(body, bytes) else body
        try:
            while piece := source.read(262_144):
                self._socket.settimeout(_left(deadline))
                self._socket.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def read_some(self, deadline: float) -> bytes:
        """What was unread, or what comes next; empty when the partner has closed."""
        if self.unread:
            piece, self.unread = self.unread, b""
            return piece
        self._socket.settimeout(_left(deadline))
        return self._socket.recv(READ_BYTES)

    def read_through(self, mark: bytes, limit: int, deadline: float) -> bytes:
        """All up to and without ``mark``. Raises EOFError (what came is then unread), and _NotHttp when the mark does
        not come within ``limit`` bytes."""
        seen = self.read_some(deadline)
        while (at := seen.find(mark)) < 0:
            if len(seen) > limit:
                raise _NotHttp
            self._socket.settimeout(_left(deadline))
            piece = self._socket.recv(READ_BYTES)
            if not piece:
                self.unread = seen
                raise EOFError
            seen += piece
        self.unread = seen[at + len(mark) :]
        if at > limit:
            raise _NotHttp
        return seen[:at]

    def read_exactly(self, length: int, deadline: float) -> bytes:
        piece = self.unread
        if len(piece) >= length:
            self.unread = piece[length:]
            return piece[:length]
        self.unread = b""
        return piece + b"".join(_counted(self, length - len(piece), deadline))

    def put_back(self, rest: bytes) -> None:
        self.unread = rest + self.unread

    def close(self) -> None:
        self._socket.close()


def _left(deadline: float) -> float:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _request_head(
    method: str, target: str, host: str, headers: Mapping[str, str], body: bytes | BinaryIO | None
) -> bytes:
    """The request line and headers. Raises ProviderUnavailable when a value would not stay inside its line."""
    if not _TARGET.fullmatch(target):
        raise ProviderUnavailable("endpoint-invalid", setting="url")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "User-Agent: lgsp-bus", "Accept-Encoding: identity"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if isinstance(body, bytes):
        lines.append(f"Content-Length: {len(body)}")
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1 or "\0" in text:
        raise ProviderUnavailable("endpoint-invalid", setting="headers")
    try:
        return text.encode("latin-1") + b"\r\n\r\n"
    except UnicodeEncodeError:
        raise ProviderUnavailable("endpoint-invalid", setting="headers") from None


def _read_head(connection: _Connection, deadline: float) -> tuple[int, dict[str, str], bool]:
    """Status, headers, and whether the partner keeps the connection. Interim answers (1xx) are passed over."""
    for _ in range(10):
        try:
            lines = connection.read_through(b"\r\n\r\n", MAX_HEAD_BYTES, deadline).split(b"\r\n")
        except EOFError:
            # Cut off in the middle of a head, or something that never was one?
            if connection.unread[:7] != b"HTTP/1."[: len(connection.unread)]:
                raise _NotHttp from None
            raise
        first = _STATUS_LINE.fullmatch(lines[0])
        if first is None or len(lines) > MAX_HEADERS + 1:
            raise _NotHttp
        status = int(first[2])
        if status >= 200:
            headers = _headers(lines[1:])
            tokens = {token.strip().lower() for token in headers.get("connection", "").split(",")}
            return status, headers, first[1] == b"1" and "close" not in tokens
    raise _NotHttp


def _headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        raw_name, colon, raw_value = line.partition(b":")
        # No folded lines, no space before the colon, no bare line ends: each has hidden a header from one of two
        # readers before (RFC 9112, sections 5.1 and 5.2).
        if not colon or not _HEADER_NAME.fullmatch(raw_name) or b"\n" in raw_value or b"\r" in raw_value:
            raise _NotHttp
        name = raw_name.decode("ascii").lower()
        value = raw_value.strip(b" \t").decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    encoding = headers.get("transfer-encoding")
    if encoding is not None and (encoding.lower() != "chunked" or "content-length" in headers):
        raise _NotHttp
    return headers


def _content_length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length")
    if text is None:
        return None
    # One value, or the same one several times.
    values = {value.strip() for value in text.split(",")}
    length = values.pop()
    if values or not (length.isascii() and length.isdigit() and len(length) <= 18):
        raise _NotHttp
    return int(length)


def _counted(connection: _Connection, length: int, deadline: float) -> Iterator[bytes]:
    while length:
        piece = connection.read_some(deadline)
        if not piece:
            raise EOFError
        if len(piece) > length:
            connection.put_back(piece[length:])
            piece = piece[:length]
        length -= len(piece)
        yield piece


def _chunks(connection: _Connection, deadline: float) -> Iterator[bytes]:
    """RFC 9112, section 7.1; trailers are read and dropped."""
    while True:
        size = _CHUNK_SIZE.fullmatch(connection.read_through(b"\r\n", 200, deadline))
        if size is None:
            raise _NotHttp
        length = int(size[1], 16)
        if not length:
            break
        yield from _counted(connection, length, deadline)
        if connection.read_exactly(2, deadline) != b"\r\n":
            raise _NotHttp
    for _ in range(MAX_HEADERS):
        if not connection.read_through(b"\r\n", MAX_HEAD_BYTES, deadline):
            return
    raise _NotHttp


def _until_closed(connection: _Connection, deadline: float) -> Iterator[bytes]:
    while piece := connection.read_some(deadline):
        yield piece
