# SPDX-License-Identifier: MIT
"""
A command under way, as its initiator sees it: what came of its data, and how it ends.

Data-In is kept by DataSN, so that it may come twice and with gaps: a task has *ended*
when its status is there, and is *complete* when no data is missing either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from scstd.initiator.commands import CommandResult
from scstd.initiator.requests import data_out
from scstd.interfaces import Buffer
from scstd.protocols.wire.codes import FINAL, READ, STATUS, WRITE
from scstd.protocols.wire.pdu import R2T, DataIn, DataOut, SCSICommand, SCSIResponse

if TYPE_CHECKING:
    from scstd.initiator.connection import InitiatorConnection

_O_AND_U = 0x06


class CommandFailure(Exception):  # noqa: N818 - it is what became of it
    """
    A command has no SCSI status: its connection or session is lost, or the target
    rejected it or failed.
    """


def _nobody(_task: InitiatorTask) -> None:
    """Nobody waits for it."""


@attrs.define(eq=False)
class InitiatorTask:
    """
    One command.
    """

    pdu: SCSICommand
    data: Buffer = attrs.field(default=b"", repr=False)
    """All that it writes."""
    connection: InitiatorConnection | None = attrs.field(default=None, repr=False)
    """The connection that it is allegiant to; None before it is sent."""
    on_end: Callable[[InitiatorTask], object] = attrs.field(default=_nobody, repr=False)
    """Called once, when it is over."""
    number: Callable[[InitiatorConnection], SCSICommand] | None = attrs.field(
        default=None, repr=False
    )
    """Makes its PDU when it is sent: with its CmdSN, and what fits a connection."""
    pieces: dict[int, tuple[int, Buffer]] = attrs.field(factory=dict, repr=False)
    """Where in the buffer, and what: Data-In by DataSN."""
    numbers: int = -1
    """How many DataSNs there are, once it has ended."""
    status: int = -1
    sense: bytes = b""
    flags: int = 0
    residual: int = 0
    r2ts: set[int] = attrs.field(factory=set)
    """The R2TSNs that have come."""
    failure: str = ""
    """Why there is no status, if it is over without one."""

    @property
    def itt(self) -> int:
        """Its Initiator Task Tag."""
        return self.pdu.itt

    @property
    def reads(self) -> bool:
        """Whether it has Data-In."""
        return bool(self.pdu.flags & READ)

    @property
    def writes(self) -> bool:
        """Whether it has Data-Out."""
        return bool(self.pdu.flags & WRITE)

    @property
    def ended(self) -> bool:
        """Whether its status is there."""
        return self.status >= 0

    @property
    def complete(self) -> bool:
        """Whether its status is there, and all of its data."""
        if not self.ended:
            return False
        return bool(self.status) or not self.reads or self.contiguous() >= self.numbers

    def contiguous(self) -> int:
        """
        Return the first DataSN that has not come: a bidirectional command's R2Ts are
        numbered with its Data-In (RFC 7143 section 11.8.3).
        """
        number = 0
        while number in self.pieces or (self.writes and number in self.r2ts):
            number += 1
        return number

    def forget_from(self, data_sn: int) -> None:
        """
        Forget the status, and what came from *data_sn* on: it comes again.
        """
        self.pieces = {
            number: piece for number, piece in self.pieces.items() if number < data_sn
        }
        self.status = self.numbers = -1

    # What the target sends.

    def take_data_in(self, pdu: DataIn) -> None:
        """
        Take Data-In, with or without the status.
        """
        self.pieces[pdu.data_sn] = (pdu.buffer_offset, pdu.data)
        if pdu.flags & STATUS:
            self.numbers = pdu.data_sn + 1
            self.status = pdu.status
            self.flags, self.residual = pdu.flags & _O_AND_U, pdu.residual_count

    def take_response(self, pdu: SCSIResponse) -> None:
        """
        Take the response.
        """
        if pdu.response:
            self.failure = f"the target failed (response {pdu.response:#x})"
        # Of a bidirectional command R2Ts have the numbers before its Data-In.
        both = self.reads and self.writes
        self.numbers = pdu.exp_data_sn + (len(self.r2ts) if both else 0)
        self.status = pdu.status
        self.sense = bytes(pdu.data)[2:]
        self.flags, self.residual = pdu.flags & _O_AND_U, pdu.residual_count

    def unsolicited(self, first_burst: int, segment: int) -> list[DataOut]:
        """
        Return the Data-Out that follows the command before anybody asks, up to byte
        *first_burst*; none if the command said that there is none.
        """
        if self.pdu.flags & FINAL or not self.writes:
            return []
        end = min(first_burst, len(self.data))
        return data_out(self.pdu, self.data, len(self.pdu.data), end, segment)

    def solicited(self, r2t: R2T, segment: int) -> list[DataOut]:
        """
        Return the Data-Out that an R2T asks for.
        """
        end = r2t.buffer_offset + r2t.desired_data_transfer_length
        return data_out(r2t, self.data, r2t.buffer_offset, end, segment)

    def read_data(self) -> bytes:
        """
        Return the data read, without what did not come at its end.
        """
        if len(self.pieces) == 1:
            ((at, piece),) = self.pieces.values()
            if not at:
                return bytes(piece)
        end = max((at + len(piece) for at, piece in self.pieces.values()), default=0)
        whole = bytearray(end)
        for at, piece in self.pieces.values():
            whole[at : at + len(piece)] = piece
        return bytes(whole)

    def result(self) -> CommandResult:
        """
        Return how it ended.

        :raises CommandFailure: it has no status.
        """
        if self.failure or not self.ended:
            raise CommandFailure(self.failure or "the command has not ended")
        return CommandResult(
            self.status, self.read_data(), self.sense, self.flags, self.residual
        )

    def end(self, failure: str = "") -> None:
        """
        Be over, without a status if there is a *failure*; whoever waits is told.
        """
        self.failure = self.failure or failure
        call, self.on_end = self.on_end, _nobody
        call(self)
