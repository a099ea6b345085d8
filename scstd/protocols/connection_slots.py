# SPDX-License-Identifier: MIT
"""
The places for connections: how many there may be, and who gives way when all are taken
(`scstd.crowd`).

There are places for all connections (MaxOpenConnections) and, among them, for logins
under way (MaxUnfinishedLogins).  A connection that is closing gives way first, then a
login; a session never does.  One address has no more than three quarters of all places,
so that sessions of one machine do not keep the others out.  The last descriptors of the
process are for what else it has to open: files, and the control socket.
"""

from __future__ import annotations

import math
import resource
from collections import Counter
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from scstd.crowd import neighbourhood, who_gives_way
from scstd.protocols.engine.access_control import host_of
from scstd.protocols.engine.phase import Phase

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection

_SHARED = 64
"""With fewer places than these one address may have all of them."""

_KEPT_FREE = 32
"""Descriptors that connections leave, of a limit that is twice that at least."""


def max_descriptors() -> int:
    """
    Return how many descriptors connections may leave this process with.
    """
    most, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return 1 << 30
    return most - min(_KEPT_FREE, most // 4)


class Transport(Hashable, Protocol):
    """
    Who takes a place: the transport of one connection.
    """

    @property
    def connection(self) -> Connection:
        """The connection."""

    def give_way(self) -> None:
        """
        Be gone at once.
        """


@attrs.define(eq=False)
class ConnectionSlots:
    """
    The connections of one node, in the order in which they came.
    """

    taken: dict[Transport, str] = attrs.field(factory=dict)
    """Where each comes from."""
    counts: Counter[str] = attrs.field(factory=Counter)
    logins: dict[Transport, None] = attrs.field(factory=dict)
    """Those that were logging in when somebody looked last."""
    closing: dict[Transport, None] = attrs.field(factory=dict)
    descriptors: int = attrs.field(factory=max_descriptors)
    _ceiling: float = math.inf

    def take(self, one: Transport, peer: str) -> None:
        """
        Give a connection from *peer* (``host:port``) a place.
        """
        where = neighbourhood(host_of(peer))
        self.taken[one] = where
        self.counts[where] += 1
        self.logins[one] = None

    def ends(self, one: Transport) -> None:
        """
        Note that a connection closes: it is the first to give way.
        """
        if one in self.taken:
            self.closing[one] = None

    def leave(self, one: Transport) -> None:
        """
        Have its place be free.
        """
        self.closing.pop(one, None)
        where = self.taken.pop(one, None)
        if len(self.taken) < self._ceiling * 3 // 4:
            self._ceiling = math.inf
        self.logins.pop(one, None)
        if where is not None:
            self.counts[where] -= 1
            if not self.counts[where]:
                del self.counts[where]

    def has_room(self, host: str, most: int) -> bool:
        """
        Say whether one more connection may come from an address, when there may be
        *most*; make room for it if somebody can give way.
        """
        where = neighbourhood(host)
        if most >= _SHARED and self.counts[where] >= most - most // 4:
            return self._clear(where)
        return len(self.taken) < most or self._clear()

    def has_descriptors(self, transport: Any) -> bool:
        """
        Say whether a connection leaves enough descriptors free; make room for others if
        it does not, but somebody can give way.
        """
        try:
            number: int = transport.getHandle().fileno()
        except (AttributeError, TypeError):
            # It is not of this machine's kernel.
            return True
        if number >= self.descriptors:
            # So many connections, and all else that is open, are as much as can be.
            self._ceiling = len(self.taken)
        return len(self.taken) < self._ceiling or self._clear()

    def has_room_for_login(self, most: int) -> bool:
        """
        Say whether one more login may begin, when *most* may be under way; make room
        for it if somebody can give way.
        """
        if len(self.logins) < most:
            return True
        self._look()
        if len(self.logins) < most:
            return True
        return self._give_way()

    def _look(self) -> None:
        for one in list(self.logins):
            if one.connection.phase != Phase.LOGIN:
                del self.logins[one]

    def _clear(self, of: str | None = None) -> bool:
        """
        Have one connection go: one that is closing, or a login; *of* this address.
        """
        for one in self.closing:
            if of in {None, self.taken[one]}:
                self._drop(one)
                return True
        self._look()
        return self._give_way(of)

    def _give_way(self, of: str | None = None) -> bool:
        found = who_gives_way(
            [one for one in self.logins if of in {None, self.taken[one]}],
            self.taken.__getitem__,
            lambda one: not one.connection.login_phase.begun,
        )
        if found is not None:
            self._drop(found)
        return found is not None

    def _drop(self, one: Transport) -> None:
        self.leave(one)
        one.give_way()
