# SPDX-License-Identifier: MIT
"""
Who gives way when all places for those who have not said yet who they are, are taken.

One peer must not keep all the others out by being silent, or slow.  So nobody who is in
time is refused because of those who are not: of the ones that have said nothing the
oldest of the address with the most places goes; if all of them have said something, the
oldest of that address, as long as it has several.  Who says its first word at once has
it said long before it is the oldest.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

_One = TypeVar("_One", bound=Hashable)


def neighbourhood(host: str) -> str:
    """
    Return what counts as one address: of IPv6 what one site has to itself, 64 bits.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


def who_gives_way(
    there: Iterable[_One],
    address: Callable[[_One], str],
    silent: Callable[[_One], bool],
) -> _One | None:
    """
    Return the one of those that are *there*, oldest first, that goes; None if they are
    all to stay.
    """
    every = [(one, address(one)) for one in there]
    counts = Counter(where for _one, where in every)
    quiet = [pair for pair in every if silent(pair[0])]
    # The first of several greatest is the oldest.
    found = max(quiet or every, key=lambda pair: counts[pair[1]], default=None)
    if found is None or (not quiet and counts[found[1]] == 1):
        return None
    return found[0]
