# SPDX-License-Identifier: MIT
"""
Where to listen, as people write it: an address and a port, or a Twisted endpoint.
"""

from __future__ import annotations

import re
import socket
from typing import Any

import attrs
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import getPlugins

from scstd.attributes import ConfigurationError
from scstd.installed import quietly


def endpoints(where: str) -> str:
    """
    Return the Twisted server endpoint string for an address or an endpoint string.

    :raises ConfigurationError: it is neither.
    """
    prefix = where.partition(":")[0]
    with quietly():
        parsers: Any = list(getPlugins(IStreamServerEndpointStringParser))
    # The first three are no plugins: Twisted has them built in.
    if prefix in {"tcp", "ssl", "unix", *(one.prefix for one in parsers)}:
        return where
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^:\[\]]*)):(\d+)", where)
    if match is None or int(match[3]) > 65535:
        raise ConfigurationError(
            f"{where!r}: expected ADDRESS:PORT, [IPV6-ADDRESS]:PORT or a Twisted server"
            " endpoint"
        )
    port = match[3]
    if match[1] is not None:
        address = match[1].replace(":", "\\:")
        return f"tcp6:{port}:interface={address}"
    if match[2] in {"", "*"}:
        return f"tcp:{port}"
    return f"tcp:{port}:interface={match[2]}"


def everywhere(port: int) -> str:
    """
    Return the endpoint string for every address, IPv6 and IPv4, of this machine.
    """
    if socket.has_dualstack_ipv6():
        return f"tcp6:{port}:interface=\\:\\:"
    return f"tcp:{port}"


def listening(address: Any) -> str:
    """
    Return an address that is listened on as `endpoints` takes it.
    """
    host = getattr(address, "host", None)
    if host is None:
        return str(address)
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"


def here(address: Any) -> str:
    """
    Return an address that is listened on as somebody on this machine reaches it.
    """
    name = listening(address)
    for wildcard in ("0.0.0.0:", "[::]:"):
        if name.startswith(wildcard):
            return f"127.0.0.1:{name.removeprefix(wildcard)}"
    return name


def encrypted(where: str) -> bool:
    """
    Say whether an endpoint string is one of TLS.
    """
    return where.startswith(("scst-tls:", "ssl:"))


@attrs.frozen
class Portal:
    """
    The kind of a portal: the text stays as it was written.
    """

    def parse(self, text: str) -> str:
        """Return *text*, if `endpoints` understands it."""
        endpoints(text)
        return text

    def render(self, value: str) -> str:
        """Return *value*."""
        return value

    def describe(self) -> str:
        """Say what is expected."""
        return "ADDRESS:PORT, [IPV6-ADDRESS]:PORT or a Twisted server endpoint"
