# SPDX-License-Identifier: MIT
"""
Taps: who sees, changes, drops, holds or adds the PDUs of an iSCSI connection.

A tap is for tests and for faults on purpose.  What changes bytes is a filter
(`IFilter`), what changes answers is a stage (`scstd.scsi.pipeline`), and what changes
PDUs is a tap.

What is attached is a function: it is called with each connection (`ITapped`), and
returns its tap, or None to leave that connection alone.  So what a tap knows of one
connection are its own fields.  It is attached with

* `scstd.protocols.engine.node.Node.taps`: from the first byte of each connection on,
  logins and discovery too,
* ``node.targets[name].taps``: the sessions of one target, or of one of its groups,
  from the end of the login on,
* ``session.taps`` and ``connection.taps``;

each has ``attach(make)``, which returns what has ``detach()``.  That takes away what
was attached there, and nothing else.

**Order.**  Those of the node are next to the wire, then come the target's, the
session's and the connection's, and of each the one that was attached first.  So with
two, a and b, what comes in is seen by a and then by b, and what goes out by b and then
by a.  The taps of scstd itself (`scstd.protocols.engine.tapped.TapRank`) are behind all
of them: a PDU that is dropped here has not come.

**What goes out and is dropped, or changed, was sent** as far as the target knows, and
was lost or damaged on a bad link: it has its StatSN, it is kept for a SNACK where the
error recovery level says so, and what is sent again comes by here again.  Digests are
made after the taps.

**Holding** a PDU is keeping it and calling ``go_on`` with it later, in the reactor's
thread, also when the tap is detached already.  What is held when its connection ends is
lost.  Nobody bounds how much a tap holds but the initiator, who waits for it.

A tap that raises is taken off, logged by its name, and its connection is closed: what
it was about to do with the PDU nobody knows.  Other connections go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import Attribute, Interface


class IPDUTap(Interface):
    """
    A tap of one connection: it provides `IIncomingPDUs`, `IOutgoingPDUs`, or both.

    What it does not provide is not on the path: a tap of incoming PDUs alone costs
    nothing where PDUs leave.
    """

    name: str = Attribute("What it is called in the log.")


class IIncomingPDUs(IPDUTap):
    """
    Sees each PDU that comes.
    """

    def incoming(tapped: Any, go_on: Callable[[Any], None]) -> None:
        """
        Take a PDU (`scstd.protocols.engine.tapped.TappedPDU`), and call *go_on* with
        it, or with another, now, later, several times or never.

        What is not legal in its phase comes too.  A wrong header digest of the
        initiator's does not: nobody knows where the next PDU begins.
        """


class IOutgoingPDUs(IPDUTap):
    """
    Sees each PDU that leaves: Data-In, SCSI Response, R2T, NOP-In, Reject, Asynchronous
    Message, and the responses to logins, texts, logouts and task management functions.
    """

    def outgoing(tapped: Any, go_on: Callable[[Any], None]) -> None:
        """
        Take a PDU, as `IIncomingPDUs.incoming` does.
        """


class ITapClosed(IPDUTap):
    """
    Wants to know of the end.
    """

    def closed() -> None:
        """
        Let go of everything: the connection is over, or the tap is detached.
        """


class ITapped(Interface):
    """
    A connection, as one tap of it sees it.
    """

    initiator: str = Attribute("The initiator's name; empty until it was said.")
    target: str = Attribute("The target's name; empty until it was said.")
    isid: bytes = Attribute("The initiator's part of the session's name, six bytes.")
    tsih: int = Attribute("The target's; 0 while there is no session.")
    cid: int = Attribute("The connection's number in its session.")
    peer: str = Attribute("Where the initiator is, ``host:port``.")
    portal: str = Attribute("Where it has come to, ``host:port``.")
    phase: str = Attribute(
        "``login``, ``normal``, ``discovery``, or ``over``: after a logout, too."
    )
    attached: bool = Attribute("Whether the tap is still there.")

    def send(pdu: Any, advance: bool = True) -> None:
        """
        Send a PDU of `scstd.protocols.wire.pdu` to the initiator, through the taps that
        are nearer to the wire than this one.

        It is given ExpCmdSN, MaxCmdSN and StatSN, which it takes for itself if
        *advance*.  To send it with the numbers it has, call the *go_on* of `outgoing`.
        """

    def send_bytes(octets: bytes) -> None:
        """
        Send bytes, PDU or not: no tap sees them.
        """

    def receive(pdu: Any) -> None:
        """
        Have a PDU come from the initiator, for the taps behind this one and the target.
        """

    def close(why: str) -> None:
        """
        Close the connection when what was sent is out.
        """

    def detach() -> None:
        """
        Take this tap off this connection.
        """
