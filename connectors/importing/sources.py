"""Where imported documents come from: files beside the given one, and hosts that the operator has named.

A description is written by a partner and read on the bus's own machine, inside its network, so it is a way to make the
bus read what only the bus can reach. Therefore:

- A file may name only files in its own folder or below. No absolute paths, no ``..`` beyond the folder, no links out.
- A URL is fetched only when its host and port stand in the setting ``import_hosts``; http and https, no redirects.
- A name that resolves to an address of the inside (loopback, private, link-local, shared, multicast, the metadata
  services of clouds) is refused, unless ``import_hosts`` names that very address. The addresses that were judged are
  the ones connected to: a name server that answers differently the second time is not asked a second time.
- 2 MiB a document, 50 documents, each read once, a minute for all.

No refusal names an address, a host or a path.
"""

from __future__ import annotations

import posixpath
import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urljoin, urlsplit

from connectors.http import Deadline, HttpClient, HttpSettings
from schemas.problem import Malformed, ProviderFailure

#: A description with all its types; the largest seen on a real axis has 400 KiB.
MAX_DOCUMENT_BYTES: Final = 2 * 1024 * 1024
MAX_DOCUMENTS: Final = 50
#: For all documents of one import together.
FETCH_SECONDS: Final = 60.0

_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\]")
_URL: Final = re.compile(r"https?://[!-~]{1,2000}", re.IGNORECASE)
#: Where clouds answer their guests although the ranges count as public: Azure's host agent, Oracle's metadata.
_OF_CLOUDS: Final = (IPv4Network("168.63.129.16/32"), IPv4Network("192.0.0.0/24"))
#: Addresses of version 4 written as version 6: NAT64 (RFC 6052) and the old compatible form.
_EMBEDDING: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("::/96"))


class AllowedHosts:
    """The setting ``import_hosts``: ``host`` (its standard ports) or ``host:port``, comma-separated. Immutable."""

    def __init__(self, setting: str) -> None:
        self._names = frozenset(word.strip().lower() for word in setting.split(",") if word.strip())

    def takes(self, host: str, port: int) -> bool:
        """Is this host, name or address as written, open on this port?"""
        bracketed = f"[{host}]" if ":" in host else host
        return f"{bracketed}:{port}" in self._names or (bracketed in self._names and port in _PORTS.values())

    def resolve(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host, all of them judged. Raises Malformed(import-address-private), OSError."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(address[0]) for *_, address in found]
        for address in addresses:
            if not is_public(address) and not self.takes(address, port):
                raise Malformed("import-address-private", setting="LGSP_IMPORT_HOSTS")
        return list(dict.fromkeys(addresses))


def is_public(text: str) -> bool:
    """Is this an address of the open network, however it is written?"""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        inner = _inner(address)
        if inner is not None:
            return is_public(str(inner))
        if address.is_site_local:
            return False
    if any(address in network for network in _OF_CLOUDS):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _inner(address: IPv6Address) -> IPv4Address | None:
    """The address of version 4 that one of version 6 leads to."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _EMBEDDING):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


class Documents:
    """The documents of one import, by *place*: a URL, or a path relative to the folder of the given file.

    Used by one thread. Close it, or use it in a ``with``.
    """

    def __init__(self, given: str, import_hosts: str = "") -> None:
        """``given`` is what the operator typed: a URL, or the name of a file. Raises Malformed for a URL that is not
        allowed."""
        self._hosts = AllowedHosts(import_hosts)
        self._http = HttpClient(HttpSettings(max_reply_bytes=MAX_DOCUMENT_BYTES), resolve=self._hosts.resolve)
        self._deadline = Deadline(FETCH_SECONDS)
        self._read: dict[str, bytes] = {}
        self._given = Path(given)
        self._folder = self._given.parent.resolve()
        #: The place of the given document itself.
        self.first = self._checked(given) if _URL.fullmatch(given) else self._given.name

    def __enter__(self) -> Documents:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections. Safe to call twice."""
        self._http.close()

    def locate(self, reference: str, base: str) -> str:
        """The place that a document at ``base`` means by a relative or absolute reference; its fragment is left out.

        Raises Malformed: ``import-place-refused``, ``import-host-not-allowed``.
        """
        reference = reference.strip().partition("#")[0]
        if not reference:
            return base
        if _is_url(base):
            return self._checked(urljoin(base, reference))
        if _URL.fullmatch(reference):
            return self._checked(reference)
        return _below(base, reference)

    def read(self, place: str) -> bytes:
        """The bytes of a document, read once.

        Raises Malformed: ``import-too-many``, ``import-too-large``, ``import-not-found``, ``import-not-fetched``,
        ``import-not-reachable``, ``import-address-private``, ``import-place-refused``.
        """
        if place not in self._read:
            if len(self._read) >= MAX_DOCUMENTS:
                raise Malformed("import-too-many", max_documents=MAX_DOCUMENTS)
            self._read[place] = self._fetch(place) if _is_url(place) else self._read_file(place)
        return self._read[place]

    def _checked(self, url: str) -> str:
        """The URL in one spelling. Raises Malformed when it is no plain http(s) URL of an allowed host."""
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError:
            raise Malformed("import-place-refused") from None
        netloc = parts.netloc.lower()
        host = netloc.rpartition(":")[0] if re.search(r":[0-9]{0,5}$", netloc) else netloc
        if parts.scheme not in _PORTS or not _HOST.fullmatch(host) or not _URL.fullmatch(url):
            raise Malformed("import-place-refused")
        if not self._hosts.takes(host.strip("[]"), port):
            raise Malformed("import-host-not-allowed", setting="LGSP_IMPORT_HOSTS")
        query = f"?{parts.query}" if parts.query else ""
        return f"{parts.scheme}://{host}:{port}{parts.path or '/'}{query}"

    def _fetch(self, url: str) -> bytes:
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        try:
            seconds = min(20.0, self._deadline.remaining())
            reply = self._http.request("GET", url, headers=headers, timeout_seconds=seconds)
        except ProviderFailure as problem:
            if problem.reason == "reply-too-large":
                raise Malformed("import-too-large", max_bytes=MAX_DOCUMENT_BYTES) from None
            raise Malformed("import-not-reachable") from None
        if reply.status != 200:
            raise Malformed("import-not-fetched", status=reply.status)
        return reply.body

    def _read_file(self, place: str) -> bytes:
        try:
            if place == self.first:
                path = self._given.resolve()
            else:
                path = (self._folder / place).resolve()
                if not path.is_relative_to(self._folder):
                    raise Malformed("import-place-refused")
            if not path.is_file():  # a pipe or a device would hold us, or never end
                raise Malformed("import-not-found")
            with path.open("rb") as file:
                data = file.read(MAX_DOCUMENT_BYTES + 1)
        except (OSError, ValueError):
            raise Malformed("import-not-found") from None
        if len(data) > MAX_DOCUMENT_BYTES:
            raise Malformed("import-too-large", max_bytes=MAX_DOCUMENT_BYTES)
        return data


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _below(base: str, reference: str) -> str:
    """The path, relative to the folder, that a file names. Raises Malformed(import-place-refused)."""
    path = unquote(reference)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path) or path[0] in "/\\" or "\\" in path or "\0" in path:
        raise Malformed("import-place-refused")
    place = posixpath.normpath(posixpath.join(posixpath.dirname(base), path))
    if place.startswith("../") or place in ("..", "."):
        raise Malformed("import-place-refused")
    return place
