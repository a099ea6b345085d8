# SPDX-License-Identifier: MIT
"""
An initiator's side of one connection, sans-IO: PDUs out as bytes, bytes in as PDUs.

`InitiatorConnection.send` takes anything, also what no initiator should say.  What was
sent is in ``output`` until the transport takes it; `wake` tells the transport of output
that was not made while it handed bytes over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from scstd.interfaces import Buffer
from scstd.protocols.wire.codes import RESERVED_TAG, STATUS
from scstd.protocols.wire.framing import Framer, append
from scstd.protocols.wire.parameters import Parameters
from scstd.protocols.wire.pdu import PDU, R2T, DataIn, NOPIn
from scstd.protocols.wire.serial import add, less

if TYPE_CHECKING:
    from scstd.initiator.login import InitiatorLogin, LoginRefused

LONGEST_SEGMENT = (1 << 24) - 1
"""DataSegmentLength has three bytes: an initiator for tests takes all that comes."""


def on_the_wire(pdu: PDU, header_digest: bool, data_digest: bool) -> bytes:
    """
    Return a PDU with its padding and digests.
    """
    output: list[Any] = []
    append(
        output,
        pdu.encode(),
        pdu.data,
        header_digest=header_digest,
        data_digest=data_digest,
    )
    return b"".join(output)


def octets(output: Iterable[Buffer]) -> bytes:
    """
    Return the bytes of a connection's output.
    """
    return b"".join(output)


def has_status(pdu: Any) -> bool:
    """
    Say whether a PDU of the target has a StatSN of its own.
    """
    if isinstance(pdu, DataIn):
        return bool(pdu.flags & STATUS)
    if isinstance(pdu, NOPIn):
        return pdu.itt != RESERVED_TAG
    return not isinstance(pdu, R2T)


class InitiatorConnection:
    """
    One connection of a session.
    """

    def __init__(self, cid: int = 0, wake: Callable[[], object] = lambda: None) -> None:
        self.cid = cid
        """Its connection ID."""
        self.wake = wake
        self.framer = Framer(max_segment=LONGEST_SEGMENT)
        self.parameters = Parameters()
        """What was agreed on; of the lengths ``max_xmit…`` is how long ours may be."""
        self.login: InitiatorLogin | None = None
        """The login, while it is under way."""
        self.full = False
        """Whether the full feature phase has begun, and not ended."""
        self.over = False
        """Whether it is to be closed when the output is sent."""
        self.why = ""
        """Why it is over."""
        self.exp_stat_sn = 0
        """The StatSN before which everything has come."""
        self.statuses: dict[int, int] = {}
        """
        Statuses that have come, and the tags of what they are of, by StatSN: those that
        are not acknowledged, above error recovery level 0.
        """
        self.keys: dict[str, str] = {}
        """What the target said in the login."""
        self.on_login: Callable[[LoginRefused | None], object] = lambda _error: None
        """Called when the login is over, with what went wrong or None."""
        self.output: list[Buffer] = []
        self.receiving = False
        """Whether the transport hands bytes over: it looks at the output after that."""

    # What is agreed on.

    @property
    def header_digest(self) -> bool:
        """Whether headers have a digest, both ways."""
        return self.framer.header_digest

    @header_digest.setter
    def header_digest(self, value: bool) -> None:
        self.framer.header_digest = value

    @property
    def data_digest(self) -> bool:
        """Whether data segments have a digest, both ways."""
        return self.framer.data_digest

    @data_digest.setter
    def data_digest(self, value: bool) -> None:
        self.framer.data_digest = value

    def agreed(self, parameters: Parameters) -> None:
        """
        Go on with what the login has agreed on.
        """
        self.parameters = parameters
        self.header_digest = parameters.header_digest == "CRC32C"
        self.data_digest = parameters.data_digest == "CRC32C"

    # Out.

    def encode(self, pdu: PDU) -> bytes:
        """
        Return a PDU as it is sent.
        """
        return on_the_wire(pdu, self.header_digest, self.data_digest)

    def send(self, *pdus: PDU) -> None:
        """
        Send PDUs, with what they acknowledge filled in.
        """
        if self.over:
            return
        for pdu in pdus:
            if hasattr(pdu, "exp_stat_sn"):
                pdu.exp_stat_sn = self.exp_stat_sn
            self.send_bytes(self.encode(pdu))

    def send_bytes(self, data: bytes) -> None:
        """
        Send bytes, whatever they are.
        """
        self.output.append(data)
        if not self.receiving:
            self.wake()

    def take_output(self) -> bytes:
        """
        Return the bytes that are to be sent.
        """
        output, self.output = self.output, []
        return octets(output)

    # In.

    def received(self, chunk: bytes) -> Iterator[PDU]:
        """
        Return the PDUs that a chunk completes, one after the other: whoever takes one
        may change what holds for the next.

        :raises FramingError: the stream cannot be cut into PDUs any more.
        """
        self.framer.feed(chunk)
        while (pdu := self.framer.next()) is not None:
            yield pdu

    @property
    def damaged(self) -> bool:
        """Whether the data digest of the PDU that came last was wrong."""
        return self.framer.data_digest_failed

    def acknowledge(self, pdu: Any) -> None:
        """
        Have a PDU with a status acknowledged by what is sent next.
        """
        if has_status(pdu) and not less(pdu.stat_sn, self.exp_stat_sn):
            self.exp_stat_sn = add(pdu.stat_sn, 1)
