# SPDX-License-Identifier: MIT
"""
The answer to one command, as it is kept to be sent again (`retransmission`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from scstd.interfaces import Buffer
from scstd.protocols.wire.codes import ACKNOWLEDGE, FINAL, STATUS
from scstd.protocols.wire.pdu import R2T, SCSICommand

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection


@attrs.define(eq=False)
class RetainedSegment:
    """
    One Data-In PDU of an answer: its bytes, and its F, A, S and residual bits.
    """

    at: int
    end: int
    flags: int


@attrs.define(eq=False)
class RetainedAnswer:
    """
    The whole answer to one command.
    """

    command: SCSICommand
    status: int
    sense: bytes
    flag: int
    """The residual bits."""
    residual: int
    data: Buffer | None
    """None when it was given up."""
    ttt: int
    """The Target Transfer Tag that a DataACK names it by."""
    r2ts: list[R2T]
    """Those of the command: Data-In is numbered after them."""
    segments: list[RetainedSegment] = attrs.field(factory=list)
    acknowledged: int = 0
    """The first segment that the initiator has not acknowledged."""
    stat_sn: int = -1
    """Of its status; -1 until that was sent."""
    snack_tag: int = 0
    apart: bool = False
    """The status does not go with the last segment."""
    bidirectional_residual: int = 0

    @property
    def first(self) -> int:
        """The DataSN of the first Data-In: R2Ts of the command were numbered before."""
        return len(self.r2ts)

    def cut(self, connection: Connection) -> None:
        """
        Cut the data that is not acknowledged, for what *connection* takes.
        """
        parameters = connection.parameters
        longest = parameters.longest_data_in
        max_burst = parameters.max_burst_length
        del self.segments[self.acknowledged :]
        at = self.segments[-1].end if self.segments else 0
        length = len(self.data or b"")
        while at < length:
            end = min(at + longest, length, (at // max_burst + 1) * max_burst)
            flags = 0
            if end == length:
                flags = FINAL
                if not self.apart:
                    flags |= STATUS | self.flag
            elif not end % max_burst:
                flags = FINAL | ACKNOWLEDGE
            self.segments.append(RetainedSegment(at, end, flags))
            at = end

    @property
    def alone(self) -> bool:
        """Whether the status goes in a SCSI Response, not with the last Data-In."""
        return self.apart or not self.segments
