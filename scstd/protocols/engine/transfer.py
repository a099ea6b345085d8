# SPDX-License-Identifier: MIT
"""
Data-Out: collecting what a write command writes (RFC 7143 sections 4.2.5.2 and 11.7).

Bytes come with the command (immediate data), after it without being asked for
(unsolicited data, up to FirstBurstLength), and for each R2T.  DataPDUInOrder and
DataSequenceInOrder are Yes (keys.py), so each piece starts where the last one ended;
the pieces are joined once, when the last one is there, or not at all if there is one.

What the command does not need (a CDB shorter than the expected length) is taken and
dropped.  A piece that breaks the rules spoils the command, not the session: it is
remembered, the rest of the burst is dropped, and the command ends with the sense data
of the breach.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from scstd.interfaces import Buffer
from scstd.protocols.wire.codes import FINAL, RESERVED_TAG
from scstd.protocols.wire.framing import own
from scstd.protocols.wire.pdu import DataOut
from scstd.scsi.sam import Task
from scstd.scsi.sense import ASC, CheckCondition, SenseKey

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection


MAX_ABANDONED = 1024
"""Aborted writes whose Data-Out is still waited for, in order to drop it."""


def _aborted(asc: ASC) -> CheckCondition:
    return CheckCondition(SenseKey.ABORTED_COMMAND, asc)


class Abandoned(dict[int, set[int]]):
    """
    The Target Transfer Tags for which Data-Out may still come, in order to drop it, by
    the tag of a task that is over.
    """

    def add(self, tag: int, tags: set[int]) -> None:
        """
        Drop what comes for these; of too many the oldest are forgotten.
        """
        if tags:
            self[tag] = tags
            if len(self) > MAX_ABANDONED:
                del self[next(iter(self))]

    def takes(self, pdu: DataOut) -> bool:
        """
        Say whether a Data-Out PDU is to be dropped.
        """
        tags = self.get(pdu.itt)
        if tags is None or pdu.ttt not in tags:
            return False
        if pdu.flags & FINAL:
            self.forget(pdu.itt, (pdu.ttt,))
        return True

    def forget(self, tag: int, tags: Iterable[int]) -> None:
        """
        Expect nothing more for these.
        """
        left = self.get(tag)
        if left is not None:
            left.difference_update(tags)
            if not left:
                del self[tag]


@attrs.define(eq=False)
class Burst:
    """
    A run of Data-Out PDUs: the unsolicited one, or the answer to one R2T.

    An *exact* one has to bring what it may, neither less nor more (section 11.4.7.2).
    """

    at: int
    end: int
    data_sn: int = 0
    exact: bool = True

    @property
    def excess(self) -> ASC:
        """What more than it may bring ends the command with."""
        if self.exact:
            return ASC.NOT_ENOUGH_UNSOLICITED_DATA
        return ASC.UNEXPECTED_UNSOLICITED_DATA


@attrs.define(eq=False)
class WriteTransfer:
    """
    The Data-Out of one task.
    """

    task: Task
    lun: int
    needed: int
    """Bytes that are to be collected."""
    first_burst: int
    """How many of them may come unasked, those in the command PDU included."""
    since: float
    """When it last got on."""
    connection: Connection
    """The one that the task belongs to."""
    unsolicited: Burst | None = None
    """The burst that comes unasked, while it lasts."""
    pieces: list[Buffer] = attrs.field(factory=list)
    received: int = 0
    """Bytes that have come and are kept."""
    asked: int = 0
    """Up to where Data-Out has come unasked, or was asked for."""
    r2t_sn: int = 0
    """That of the next R2T."""
    bursts: dict[int, Burst] = attrs.field(factory=dict)
    """What R2Ts have asked for and has not come whole, by Target Transfer Tag."""
    error: CheckCondition | None = None
    """What the task is to end with."""

    def begin(self, data: Buffer, *, final: bool, expected: int) -> None:
        """
        Take what came with the command; not *final* says that more comes unasked.
        """
        allowed = min(self.first_burst, expected)
        if len(data) > allowed:
            self.error = _aborted(ASC.UNEXPECTED_UNSOLICITED_DATA)
        self._keep(data)
        if final:
            self.asked = self.received
        else:
            self.unsolicited = Burst(
                len(data), allowed, exact=expected > self.first_burst
            )

    def _keep(self, data: Buffer) -> None:
        room = self.needed - self.received
        if room <= 0:
            return
        if len(data) > room:
            data = memoryview(data)[:room]
        if data:
            self.pieces.append(own(data))
            self.received += len(data)

    def burst_of(self, pdu: DataOut) -> Burst | None:
        """
        Return the burst that a Data-Out PDU belongs to, None if nobody asked for it: an
        answer to an R2T has its LUN (RFC 7143 section 11.7.4).
        """
        if pdu.ttt == RESERVED_TAG:
            return self.unsolicited
        return self.bursts.get(pdu.ttt) if pdu.lun == self.lun else None

    def awaited(self) -> set[int]:
        """
        Return the Target Transfer Tags for which Data-Out may still come.
        """
        tags = set(self.bursts)
        if self.unsolicited is not None:
            tags.add(RESERVED_TAG)
        return tags

    def outdated(self, pdu: DataOut) -> bool:  # noqa: ARG002 - as `RecoverableTransfer`
        """
        Say whether a Data-Out PDU belongs to a burst that is over.
        """
        return False

    def receive(self, pdu: DataOut, burst: Burst, *, damaged: bool) -> None:
        """
        Take one Data-Out PDU; *damaged* says that its data digest was wrong.
        """
        data = pdu.data
        length = len(data)
        if damaged:
            self.error = _aborted(ASC.PROTOCOL_SERVICE_CRC_ERROR)
        elif self.error is None:
            if pdu.data_sn != burst.data_sn or pdu.buffer_offset != burst.at:
                self.error = _aborted(ASC.PROTOCOL_SERVICE_CRC_ERROR)
            elif burst.at + length > burst.end:
                self.error = _aborted(burst.excess)
            else:
                self._keep(data)
        burst.data_sn += 1
        burst.at += length
        if pdu.flags & FINAL:
            self._end(pdu, burst)

    def _end(self, pdu: DataOut, burst: Burst) -> None:
        if pdu.ttt == RESERVED_TAG:
            self.unsolicited = None
            self.asked = self.received
        else:
            del self.bursts[pdu.ttt]
        if burst.at < burst.end and burst.exact and self.error is None:
            self.error = _aborted(ASC.NOT_ENOUGH_UNSOLICITED_DATA)

    def solicit(self, ttt: int, max_burst: int) -> Burst | None:
        """
        Open the next burst to ask for, under *ttt*; None when there is none.
        """
        if self.unsolicited is not None or self.error is not None:
            return None
        if self.asked >= self.needed:
            return None
        burst = Burst(self.asked, min(self.asked + max_burst, self.needed))
        self.asked = burst.end
        self.bursts[ttt] = burst
        return burst

    @property
    def complete(self) -> bool:
        """
        Whether nothing more will come: all of it is there, or it was spoiled.
        """
        if self.unsolicited is not None or self.bursts:
            return False
        return self.error is not None or self.received >= self.needed

    def data(self) -> Buffer:
        """
        Return the bytes collected.
        """
        pieces = self.pieces
        if len(pieces) == 1:
            return pieces[0]
        return b"".join(pieces)
