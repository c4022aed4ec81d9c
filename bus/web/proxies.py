"""Whose word about a caller's client certificate is believed: that of the proxies in the settings, of nobody else.

The proxy in front ends TLS and puts the certificate that it has verified into one header (RFC 9440), after taking away
whatever the caller wrote under that name. The same header from anybody else says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any

from bus.settings import Settings


class TrustedProxies:
    """Reads the header of trusted proxies. Safe to share between threads."""

    def __init__(self, settings: Settings) -> None:
        self._networks = settings.trusted_proxy_networks
        self._variable = f"HTTP_{settings.client_certificate_header.upper().replace('-', '_')}"

    def client_certificate(self, environ: Mapping[str, Any]) -> str:
        """What a trusted proxy says of the caller's certificate, as it wrote it; empty when nobody may say so.

        ``environ`` is the request's: its REMOTE_ADDR is the connection's other end, never a forwarded address.
        """
        if not self._networks:
            return ""
        said: str = environ.get(self._variable, "")
        return said if said and self._trusts(environ.get("REMOTE_ADDR", "")) else ""

    def _trusts(self, peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, IPv6Address):
            address = address.ipv4_mapped or address
        return any(address in network for network in self._networks)
