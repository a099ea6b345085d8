# SPDX-License-Identifier: MIT
"""
The target's side of a connection in memory: a `Connection` without a transport.

It is as strict as a transport has to be able to be.  What a connection puts into its
output while it is handed bytes, or pumped, is looked for after that; of everything else
it has to tell (`Connection.wake`), or nobody would ever send it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from scstd.blocking import Lane
from scstd.initiator.connection import octets
from scstd.protocols.engine.connection import Connection
from scstd.protocols.engine.node import Node
from scstd.protocols.hosts import Hosts


def _look_at_once(hosts: Hosts, ready: Callable[[], None]) -> None:
    """
    Look at the files of hosts without a thread: in memory nobody waits.
    """
    for one in (hosts.allow, hosts.deny):
        one.take(one.look()())
    ready()


class PairedConnection:
    """
    A connection of a node, and what its transport would do with it.
    """

    def __init__(self, node: Node, now: float = 0.0) -> None:
        hosts = getattr(node.look, "__self__", None)
        if isinstance(hosts, Hosts) and isinstance(
            getattr(hosts.call, "__self__", None), Lane
        ):
            node.look = partial(_look_at_once, hosts)
        self._woken = False
        self._seen = 0
        self._over = False
        self.connection = Connection(
            node, self._wake, now, peer="test:1", portal="127.0.0.1:3260"
        )
        self.look()

    def _wake(self) -> None:
        self._woken = True

    def look(self) -> None:
        """
        Take note of the output as a transport does after it has called the connection.
        """
        self._seen = len(self.connection.output)
        self._over = self.connection.over

    def see_woken(self) -> None:
        """
        See that of output that was not looked for the transport has been told.

        :raises AssertionError: it has not.
        """
        connection = self.connection
        fresh = len(connection.output) > self._seen or connection.over != self._over
        assert self._woken or not fresh, "there is output that nobody was told of"

    def feed(self, data: bytes, now: float | None = None) -> None:
        """
        Hand bytes over.
        """
        self.see_woken()
        connection = self.connection
        connection.receive_data(data, connection.now if now is None else now)
        self.look()

    def take(self) -> bytes:
        """
        Return the output, as far as the connection goes by itself.
        """
        self.see_woken()
        connection = self.connection
        found = bytearray()
        if self._woken and not connection.output:
            # What waited until something was sent goes on, as at a transport.
            self._woken = False
            self.look()
            connection.sent()
            self.see_woken()
        while connection.output:
            output = connection.take_output()
            self._woken = False
            self.look()
            found += octets(output)
            connection.sent()
            self.see_woken()
            connection.pump()
            self.look()
        self._woken = False
        self.look()
        return bytes(found)
