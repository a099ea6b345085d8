# SPDX-License-Identifier: MIT
"""
What a connection sends: numbers, digests, and the one door out.

`Outlet.send` is the way of each PDU that leaves, its header segments and its data
segment; what it is depends on what is between the engine and the output: nothing,
digests, or taps (`Outlet.be_tapped`).  `Outlet.put` alone appends to the output.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from scstd.interfaces import Buffer
from scstd.protocols.wire.digest import digest
from scstd.protocols.wire.framing import PADDING
from scstd.protocols.wire.pdu import PDU
from scstd.protocols.wire.serial import MASK, CommandWindow

if TYPE_CHECKING:
    from scstd.protocols.engine.retransmission import Recovery

OUTPUT_BATCH = 65536
"""
Bytes of output that are sent before further PDUs are taken: the initiator can work on
the first answers while we work on the next, and memory stays bounded.
"""

_LONG = 16384
"""Bytes of a PDU of which more than a batch is made at once: they cost little each."""


@attrs.define(eq=False, repr=False)
class Outlet:
    """
    The sending side of a connection.
    """

    output: list[Buffer] = attrs.field(factory=list, init=False)
    """What is to be sent, in order."""
    output_bytes: int = attrs.field(default=0, init=False)
    """How much that is: bytes of data, of PDUs without it those of the header."""
    stat_sn: int = attrs.field(default=0, init=False)
    """The next StatSN."""
    window: CommandWindow = attrs.field(init=False)
    """The CmdSN window, the session's: every PDU tells of it."""
    header_digest: bool = attrs.field(default=False, init=False)
    """Whether PDUs have a header digest; in both directions, as the next."""
    data_digest: bool = attrs.field(default=False, init=False)
    recovery: Recovery | None = attrs.field(default=None, init=False)
    """What is kept to be sent again, at error recovery levels above 0."""
    send: Callable[[bytes, Buffer], None] = attrs.field(init=False)
    """Sends a PDU: header segments, data segment."""
    sender: Callable[[bytes, Buffer], None] = attrs.field(init=False)
    """The same, when nothing is in `later`: what is sent then waits behind it."""
    later: deque[Iterator[tuple[bytes, Buffer]]] = attrs.field(
        factory=deque, init=False
    )
    """What comes behind the output: answers that are made as they are sent, and PDUs
    that were sent after those."""
    later_bytes: int = attrs.field(default=0, init=False)
    """How much that is; while it is anything, `output_bytes` is at least a batch, and
    nothing further is taken in."""
    tapped: Callable[[PDU], None] | None = attrs.field(default=None, init=False)
    """Takes each PDU that comes, where there are taps."""
    direct: bool = attrs.field(default=True, init=False)
    """There are none, in or out."""

    # The transport.

    paused: bool = attrs.field(default=False, init=False)
    """The transport can take no more: nothing is read until it can."""
    blocked_since: float | None = attrs.field(default=None, init=False)
    """Since when the peer has taken nothing of what there is for it."""

    def __attrs_post_init__(self) -> None:
        self.send = self.sender = self.put

    @property
    def stalled(self) -> bool:
        """
        Whether received PDUs wait because there is much output to be sent first.
        """
        return self.output_bytes >= OUTPUT_BATCH

    def take_output(self) -> list[Buffer]:
        """
        Return the output, which is to be sent, and have none; or the next part of what
        is made as it is sent.
        """
        output, self.output = self.output, []
        self.output_bytes = 0
        if self.later:
            self._make_more()
        return output

    def forget_output(self) -> None:
        """
        Have nothing to send: there is nobody any more who would take it.
        """
        self.output.clear()
        self.later.clear()
        self.output_bytes = self.later_bytes = 0

    def send_in_parts(self, pdus: Iterator[tuple[bytes, Buffer]], length: int) -> None:
        """
        Send an answer of *length* bytes of data that is very many PDUs: they are made
        as the output is taken, for all at once would keep everybody waiting.  What is
        sent meanwhile waits until all are made: the order is the same.
        """
        self.later.append(pdus)
        self.later_bytes += length
        self.send = self._send_later
        if self.output:
            self.output_bytes += length + OUTPUT_BATCH
        else:
            self._make_more()

    def _send_later(self, header: bytes, data: Buffer = b"") -> None:
        self.later.append(iter(((header, data),)))
        self.later_bytes += len(data)
        self.output_bytes += len(data)

    def _make_more(self) -> None:
        """
        Have some of what comes later be the output, of which there is none.
        """
        later = self.later
        while later:
            for header, data in later[0]:
                self.sender(header, data)
                self.later_bytes -= len(data)
                if self.output_bytes >= OUTPUT_BATCH and (
                    len(data) < _LONG or self.output_bytes >= 4 * OUTPUT_BATCH
                ):
                    self.output_bytes += self.later_bytes
                    return
            later.popleft()
        self.send = self.sender

    def pause(self) -> None:
        """
        Take no further PDUs: the transport can take no more output.
        """
        self.paused = True

    def unpause(self) -> None:
        """
        Take PDUs again, those that are to come.
        """
        self.paused = False

    def note_blocked(self, since: float | None) -> None:
        """
        Note when the peer has taken something last; None: it has all that there is.
        """
        self.blocked_since = since

    def next_stat_sn(self) -> int:
        """
        Return the StatSN for a response, and advance it.
        """
        stat_sn = self.stat_sn
        self.stat_sn = (stat_sn + 1) & MASK
        return stat_sn

    def put(self, header: bytes, data: Buffer = b"", data_digest: bytes = b"") -> None:
        """
        Append a PDU to the output: the only place where that is done.  What is not data
        (a header digest too) stands in *header*.
        """
        output = self.output
        output.append(header)
        if data:
            length = len(data)
            self.output_bytes += length
            output.append(data)
            if length & 3:
                output.append(PADDING[length & 3])
            if data_digest:
                output.append(data_digest)
        else:
            self.output_bytes += len(header)

    def _put_digested(self, header: bytes, data: Buffer) -> None:
        """
        Append a PDU with the digests that were agreed on.
        """
        self.put(
            header + digest(header) if self.header_digest else header,
            data,
            digest(data, PADDING[len(data) & 3]) if data and self.data_digest else b"",
        )

    def be_tapped(
        self,
        arriving: Callable[[PDU], None] | None,
        leaving: Callable[[bytes, Buffer], None] | None,
    ) -> None:
        """
        Have the taps take what comes, and what leaves; None takes nothing.
        """
        self.tapped = arriving
        self.direct = arriving is None and leaving is None
        digests = self.header_digest or self.data_digest
        self.sender = leaving or (self._put_digested if digests else self.put)
        if not self.later:
            self.send = self.sender
        self.look_again()

    def look_again(self) -> None:
        """
        See whether anything special is at this connection: it has changed.
        """

    def number(self, pdu: Any, *, advance: bool = True) -> bytes:
        """
        Number a PDU, *advance* StatSN when it carries a status, and keep it if it may
        have to be sent again; return its header segments.
        """
        pdu.stat_sn = self.next_stat_sn() if advance else self.stat_sn
        pdu.exp_cmd_sn = self.window.exp_cmd_sn
        pdu.max_cmd_sn = self.window.max_cmd_sn
        header: bytes = pdu.encode()
        if advance and self.recovery is not None:
            self.recovery.retain(pdu.stat_sn, header, pdu.data)
        return header

    def send_pdu(self, pdu: Any, *, advance: bool = True) -> None:
        """
        Number a PDU and send it.
        """
        self.send(self.number(pdu, advance=advance), pdu.data)
