# SPDX-License-Identifier: MIT
"""
Taps that tests have, and a session to have them on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from scstd.interfaces.taps import IIncomingPDUs, IOutgoingPDUs, ITapClosed, ITapped
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.engine.tapped import TappedPDU
from scstd.protocols.wire.keys import LOCAL
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import ManualStore, memory

READY = bytes(6)
PATTERN = bytes(range(256)) * 4

GoOn = Callable[[Any], None]


def passes(passing: TappedPDU, go_on: GoOn) -> None:
    """Let a PDU go on."""
    go_on(passing)


@implementer(IIncomingPDUs, IOutgoingPDUs, ITapClosed)
@attrs.define(eq=False, slots=False)
class Script:
    """
    A tap that a test has: it notes what it sees, and does what it is told to.
    """

    tapped: ITapped
    name: str = "script"
    seen: list[Any] = attrs.field(factory=list)
    """Everything, in order."""
    on_incoming: Callable[[TappedPDU, GoOn], None] = passes
    on_outgoing: Callable[[TappedPDU, GoOn], None] = passes
    ends: int = 0

    def incoming(self, passing: TappedPDU, go_on: GoOn) -> None:
        """See what comes."""
        self.seen.append(passing.pdu)
        self.on_incoming(passing, go_on)

    def outgoing(self, passing: TappedPDU, go_on: GoOn) -> None:
        """See what leaves."""
        self.seen.append(passing.pdu)
        self.on_outgoing(passing, go_on)

    def closed(self) -> None:
        """Count the ends."""
        self.ends += 1

    def kinds(self) -> list[type]:
        """Return the classes of what was seen, and forget it."""
        seen, self.seen = self.seen, []
        return [type(pdu) for pdu in seen]


@implementer(IIncomingPDUs)
class Ears:
    """
    A tap of incoming PDUs alone.
    """

    name = "ears"

    def incoming(self, passing: TappedPDU, go_on: GoOn) -> None:
        """Let it go on."""
        go_on(passing)


class Noting(Initiator):
    """
    An initiator that keeps all the bytes that came.
    """

    octets = b""

    def receive(self) -> list[Any]:
        """Note what has come."""
        self.octets += b"".join(self.connection.output)
        return super().receive()


class Bench(SynchronousTestCase):
    """
    A session, and a script on its connection.
    """

    level = 0

    def setUp(self) -> None:
        """Serve a disk."""
        local = {**LOCAL, "ErrorRecoveryLevel": self.level, "MaxConnections": 4}
        self.store = ManualStore()
        self.store.inner.write(0, PATTERN, False)
        self.node, self.target, _units = serve(
            self.store, memory(), limits=TargetSettings(local=local)
        )
        self.scripts: list[Script] = []
        self.wakes = 0

    def make(self, tapped: ITapped) -> Script:
        """Make a script, as what is attached does."""
        verifyObject(ITapped, tapped)
        script = Script(tapped)
        verifyObject(IIncomingPDUs, script)
        verifyObject(IOutgoingPDUs, script)
        self.scripts.append(script)
        return script

    def wake(self) -> None:
        """Count how often the transport is woken."""
        self.wakes += 1
        self.tell()

    def begin(self, **keys: str) -> None:
        """Log in, and attach a script to the connection."""
        self.one = Initiator(self.node).ready(**keys)
        self.connection = self.one.connection
        self.tell, self.connection.wake = self.connection.wake, self.wake
        self.attached = self.connection.taps.attach(self.make)
        (self.script,) = self.scripts

    def flush(self) -> None:
        """Do what a transport does when it was woken."""
        self.connection.sent()
