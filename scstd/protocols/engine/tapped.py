# SPDX-License-Identifier: MIT
"""
What a tap gets: a PDU on its way, and the connection as that tap sees it.

`taps` has the list of them, and their composition.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
from zope.interface import implementer

from scstd.interfaces.taps import ITapped
from scstd.protocols.engine.phase import Phase
from scstd.protocols.wire.pdu import PDU

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection
    from scstd.protocols.engine.taps import Taps


class TapRank(IntEnum):
    """
    The order of taps: what comes in goes upwards here, what goes out comes downwards.
    """

    NODE = 0
    """Others' that are attached to the node; those of one rank in their order."""
    TARGET = 1
    SESSION = 2
    CONNECTION = 3
    LEGAL = 10
    """What is not legal in its phase is rejected: what is behind does not see it."""
    RECOVERY = 11
    """ExpStatSN lets go of what was kept to be sent again (`retransmission`)."""
    FENCE = 12
    """ExpStatSN lets responses go on that wait for it (`response_fence`)."""
    FAULTS = 13
    """Black holes and digest failures, on purpose (`faults`)."""
    DRAINING = 14
    """Commands are not taken any more (`draining`)."""
    PRIORITY = 15
    """The PRI field of RFC 7144 (`dispatch`)."""


class Digest(IntEnum):
    """
    What a PDU has of a digest.
    """

    NONE = 0
    RIGHT = 1
    WRONG = 2


@attrs.define(eq=False)
class TappedPDU:
    """
    A PDU on its way through the taps.
    """

    pdu: PDU
    """The PDU, with its data segment; it may be changed, or replaced."""
    header: bytes = b""
    """Of one that came: its header segments as they were, which a Reject repeats."""
    header_digest: Digest = Digest.NONE
    """
    Which header digest it came with, or is to be sent with.  A wrong one ends the
    connection where it arrives.
    """
    data_digest: Digest = Digest.NONE
    """The same of the data segment; a PDU without one has none."""

    @property
    def damaged(self) -> bool:
        """Whether the data segment is not what was sent."""
        return self.data_digest is Digest.WRONG


Onward = Callable[[TappedPDU], None]
"""What takes a PDU on its way from here on."""

Tap = Callable[[TappedPDU, Onward], None]
"""A tap of the engine's own: it takes a PDU, and what is next."""


Maker = Callable[[Any], Any]
"""What is attached: it takes an `ITapped`, and returns an `IPDUTap` or None."""


@implementer(ITapped)
@attrs.define(eq=False, repr=False)
class Tapped:
    """
    A connection as one of others' taps sees it, and that tap's place in the order.
    """

    _taps: Taps
    place: tuple[TapRank, int]
    """Its rank, and the how-manieth it is."""
    tap: Any = None
    """What provides `IPDUTap`."""
    attached: bool = True
    onward: Onward | None = None
    """What is behind it, for what comes in."""
    outward: Onward | None = None
    """What is nearer to the wire, for what goes out."""
    _inside: int = 0
    """How many calls of its `incoming` are under way."""

    # What it sees.

    @property
    def _connection(self) -> Connection:
        return self._taps.connection

    @property
    def initiator(self) -> str:
        """The initiator's name."""
        return self._connection.login.initiator_name

    @property
    def target(self) -> str:
        """The target's name."""
        return self._connection.login.target_name or ""

    @property
    def isid(self) -> bytes:
        """The initiator's part of the session's name."""
        return self._connection.login.isid

    @property
    def tsih(self) -> int:
        """The target's part."""
        session = self._connection.session
        return 0 if session is None else session.tsih

    @property
    def cid(self) -> int:
        """The connection's number."""
        return self._connection.cid

    @property
    def peer(self) -> str:
        """Where the initiator is."""
        return self._connection.peer

    @property
    def portal(self) -> str:
        """Where it has come to."""
        return self._connection.portal

    @property
    def phase(self) -> str:
        """How far the connection is."""
        return _PHASES[self._connection.phase]

    # What it does.

    def send(self, pdu: Any, advance: bool = True) -> None:
        """Number a PDU, and send it."""
        connection = self._connection
        if not connection.over:
            connection.number(pdu, advance=advance)
            self._go_out(self._taps.leaving(pdu))

    def send_bytes(self, octets: bytes) -> None:
        """Send bytes."""
        if not self._connection.over:
            self._connection.put(octets)
            self._taps.wake()

    def receive(self, pdu: Any) -> None:
        """Have a PDU come in."""
        self._go_on(TappedPDU(pdu, pdu.encode()))

    def close(self, why: str) -> None:
        """Close the connection."""
        self._taps.later(partial(self._connection.fail, why))

    def detach(self) -> None:
        """Take the tap off."""
        self._taps.detach(self)

    # How it is called.

    def tell_incoming(self, passing: TappedPDU) -> None:
        """
        Have the tap see a PDU that came.
        """
        self._inside += 1
        try:
            self.tap.incoming(passing, self._go_on)
        except Exception as error:  # noqa: BLE001 - it is somebody else's
            self._taps.raised(self, error)
        finally:
            self._inside -= 1

    def tell_outgoing(self, passing: TappedPDU) -> None:
        """
        Have the tap see a PDU that leaves.
        """
        try:
            self.tap.outgoing(passing, self._go_out)
        except Exception as error:  # noqa: BLE001 - it is somebody else's
            self._taps.raised(self, error)

    def _go_on(self, passing: TappedPDU) -> None:
        if self._inside and not self._taps.busy:
            self._pass_on(passing)
        else:
            self._taps.later(partial(self._pass_on, passing))

    def _pass_on(self, passing: TappedPDU) -> None:
        onward = self.onward if self.attached else self._taps.behind(self)
        self._taps.guard(onward, passing)

    def _go_out(self, passing: TappedPDU) -> None:
        if not self._connection.over:
            outward = self.outward if self.attached else self._taps.before(self)
            self._taps.let_out(outward, passing)


_PHASES = {
    Phase.LOGIN: "login",
    Phase.NORMAL: "normal",
    Phase.DISCOVERY: "discovery",
    Phase.OVER: "over",
}
