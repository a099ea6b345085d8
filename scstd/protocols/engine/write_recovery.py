# SPDX-License-Identifier: MIT
"""
Data-Out at error recovery levels above 0: what is lost or damaged is asked for again.

A PDU with a wrong data digest is as good as one that never came (RFC 7143 section 7.8);
a gap in DataSN shows one that never came (section 7.9).  Of such a burst the rest is
dropped; when it is over, or when nothing comes for a while, a recovery R2T asks for all
from the first byte that is missing (section 11.8).  So pieces may come in any order of
offsets: they are copied into one buffer.

What still comes for a burst that was asked for again is dropped.
"""

from __future__ import annotations

import attrs

from scstd.interfaces import Buffer
from scstd.protocols.engine.transfer import Burst, WriteTransfer
from scstd.protocols.wire.codes import FINAL, RESERVED_TAG
from scstd.protocols.wire.pdu import DataOut
from scstd.scsi.sense import ASC, CheckCondition, SenseKey

PATIENCE = 3.0
"""Seconds without Data-Out after which it is asked for again."""

MAX_TRIES = 32
"""How often the data of one command is asked for again before the command fails."""


@attrs.define(eq=False)
class RecoverableTransfer(WriteTransfer):
    """
    The Data-Out of one task, with recovery.
    """

    buffer: bytearray = attrs.field(factory=bytearray)
    missing: list[tuple[int, int]] = attrs.field(factory=list)
    broken: set[Burst] = attrs.field(factory=set)
    over: set[int] = attrs.field(factory=set)
    tries: int = 0

    def begin(self, data: Buffer, *, final: bool, expected: int) -> None:
        """Take what came with the command."""
        self.buffer = bytearray(self.needed)
        super().begin(data, final=final, expected=expected)
        self._put(0, data)

    def _keep(self, data: Buffer) -> None:
        room = max(self.needed - self.received, 0)
        self.received += min(room, len(data))

    def _put(self, offset: int, data: Buffer) -> None:
        end = min(offset + len(data), self.needed)
        if end > offset:
            self.buffer[offset:end] = memoryview(data)[: end - offset]

    def receive(self, pdu: DataOut, burst: Burst, *, damaged: bool) -> None:
        """Take one Data-Out PDU, unless it is damaged or comes after a lost one."""
        data = pdu.data
        end = burst.at + len(data)
        fits = pdu.data_sn == burst.data_sn and burst not in self.broken
        if not damaged and fits and self.error is None:
            if pdu.buffer_offset != burst.at or end > burst.end:
                self.error = CheckCondition(SenseKey.ABORTED_COMMAND, burst.excess)
            else:
                self._put(burst.at, data)
                self._keep(data)
                burst.at = end
                burst.data_sn += 1
        elif damaged or pdu.data_sn > burst.data_sn:
            self.broken.add(burst)
        elif not fits:
            # One that came twice: it changes nothing, and ends nothing.
            return
        if pdu.flags & FINAL:
            self._end(pdu, burst)

    def _end(self, pdu: DataOut, burst: Burst) -> None:
        lost = burst in self.broken
        self.broken.discard(burst)
        self.over.add(pdu.ttt)
        if pdu.ttt == RESERVED_TAG:
            self.unsolicited = None
            self.asked = burst.at
            return
        del self.bursts[pdu.ttt]
        if burst.at >= burst.end:
            return
        if lost:
            self._miss(burst)
        elif self.error is None:
            self.error = CheckCondition(
                SenseKey.ABORTED_COMMAND, ASC.NOT_ENOUGH_UNSOLICITED_DATA
            )

    def _miss(self, burst: Burst) -> None:
        self.missing.append((burst.at, burst.end))
        self.tries += 1
        if self.tries > MAX_TRIES:
            self.error = CheckCondition(
                SenseKey.ABORTED_COMMAND, ASC.PROTOCOL_SERVICE_CRC_ERROR
            )

    def outdated(self, pdu: DataOut) -> bool:
        """Say whether a Data-Out PDU belongs to a burst that is over."""
        return pdu.ttt in self.over

    def solicit(self, ttt: int, max_burst: int) -> Burst | None:
        """Open the next burst to ask for: first what is missing."""
        if self.missing and self.error is None and self.unsolicited is None:
            at, end = self.missing.pop(0)
            burst = Burst(at, end)
            self.bursts[ttt] = burst
            return burst
        return super().solicit(ttt, max_burst)

    def give_up_waiting(self, now: float) -> bool:
        """
        Say whether nothing has come for a while: then what is missing is to be asked
        for again.
        """
        if now - self.since < PATIENCE or not (self.bursts or self.unsolicited):
            return False
        self.forget_bursts()
        self.since = now
        return True

    def forget_bursts(self) -> None:
        """
        Wait no longer for what was asked for; it is missing.
        """
        self.broken.clear()
        if self.unsolicited is not None:
            self.asked = self.unsolicited.at
            self.unsolicited = None
            self.over.add(RESERVED_TAG)
        for ttt, burst in self.bursts.items():
            self.over.add(ttt)
            self._miss(burst)
        self.bursts.clear()

    @property
    def complete(self) -> bool:
        """Whether nothing more will come: all of it is there, or it was spoiled."""
        if self.unsolicited is not None or self.bursts:
            return False
        return self.error is not None or self.received >= self.needed

    def data(self) -> Buffer:
        """Return the bytes collected."""
        return self.buffer
