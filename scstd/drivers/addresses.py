# SPDX-License-Identifier: MIT
"""
Addresses of sockets as people read them.
"""

from __future__ import annotations

from typing import Any


def address_name(address: Any) -> str:
    """
    Return ``host:port``, IPv6 in brackets; an IPv4 address of a socket that takes both
    is one of IPv4.
    """
    host = getattr(address, "host", None)
    if host is None:
        return str(address)
    host = host.removeprefix("::ffff:")
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"
