# SPDX-License-Identifier: MIT
"""
The writes of a session: each collects its Data-Out, then it runs.

Memory is bounded by a budget: a write is asked for its data only while what the session
holds is below it; the initiator waits for its R2T meanwhile, as it would for a slow
disk.  A write whose data comes whole with its command has nothing to collect, and
passes by all of this.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs

from scstd.protocols.engine import bidirectional
from scstd.protocols.engine.transfer import Abandoned, WriteTransfer
from scstd.protocols.engine.write_recovery import RecoverableTransfer
from scstd.protocols.wire.codes import FINAL, READ, RESERVED_TAG, RejectReason
from scstd.protocols.wire.pdu import R2T, DataOut, SCSICommand
from scstd.scsi.sam import BidirectionalTask, Task
from scstd.scsi.sense import ASC, CheckCondition, SenseKey

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection

WRITE_BUDGET = 32 << 20
"""How many bytes of Data-Out a session may hold before further writes wait."""


@attrs.define(eq=False, repr=False)
class Writes:
    """
    The writes of one session, by their Initiator Task Tags.
    """

    transfers: dict[int, WriteTransfer] = attrs.field(factory=dict)
    """Those whose Data-Out is being collected."""
    waiting: deque[WriteTransfer] = attrs.field(factory=deque)
    """Those of them that are not asked for theirs yet, oldest first."""
    abandoned: Abandoned = attrs.field(factory=Abandoned)
    """The Data-Out that still comes for tasks that are over."""
    held: dict[int, int] = attrs.field(factory=dict)
    """Bytes that each write holds until it is answered."""
    held_bytes: int = 0
    """Their sum."""
    commands: int = 0
    """Writes that there were."""
    two_way_commands: int = 0
    """Bidirectional commands that there were."""
    written: int = 0
    """Bytes of both."""
    _ttt: int = 0
    """The last Target Transfer Tag."""

    def begin(self, connection: Connection, task: Task, pdu: SCSICommand) -> None:
        """
        Take a command that has Data-Out; run it if all of that came with it.
        """
        flags = pdu.flags
        if flags & READ:
            if not isinstance(task, BidirectionalTask):
                bidirectional.take_back(connection, task, pdu)
                return
            bidirectional.check(task)
            self.two_way_commands += 1
        else:
            self.commands += 1
        data = pdu.data
        length = len(data)
        expected = pdu.expected_data_transfer_length
        needed = min(task.data_out_length, expected)
        if flags & FINAL and length == needed == expected:
            # All of it came with the command: nothing to collect.
            if connection.data_digest_failed:
                task.error = CheckCondition(
                    SenseKey.ABORTED_COMMAND, ASC.PROTOCOL_SERVICE_CRC_ERROR
                )
            elif length <= connection.parameters.longest_immediate_data:
                task.data_out = data
            else:
                task.error = CheckCondition(
                    SenseKey.ABORTED_COMMAND, ASC.UNEXPECTED_UNSOLICITED_DATA
                )
            self.written += needed
            task.itl.unit.run(task)
        else:
            self._collect(connection, task, pdu, needed)

    def _collect(
        self, connection: Connection, task: Task, pdu: SCSICommand, needed: int
    ) -> None:
        parameters = connection.parameters
        final = pdu.flags & FINAL
        data = pdu.data
        kind = WriteTransfer if connection.recovery is None else RecoverableTransfer
        transfer = kind(
            task,
            pdu.lun,
            needed,
            parameters.first_burst_length,
            connection.now,
            connection,
        )
        transfer.begin(
            data, final=bool(final), expected=pdu.expected_data_transfer_length
        )
        breach = (
            ASC.PROTOCOL_SERVICE_CRC_ERROR
            if connection.data_digest_failed
            else ASC.UNEXPECTED_UNSOLICITED_DATA
            if (data and not parameters.immediate_data)
            or (not final and parameters.initial_r2t)
            else None
        )
        if breach is not None:
            transfer.error = CheckCondition(SenseKey.ABORTED_COMMAND, breach)
        self.transfers[task.tag] = transfer
        self.held[task.tag] = needed
        self.held_bytes += needed
        self.advance(transfer)

    def data_out(self, connection: Connection, pdu: DataOut) -> None:
        """
        Take a SCSI Data-Out.
        """
        transfer = self.transfers.get(pdu.itt)
        burst = None if transfer is None else transfer.burst_of(pdu)
        if transfer is None or burst is None or transfer.connection is not connection:
            self._stray(connection, transfer, pdu)
            return
        damaged = connection.data_digest_failed
        if damaged:
            connection.reject(RejectReason.DATA_DIGEST_ERROR)
        transfer.receive(pdu, burst, damaged=damaged)
        transfer.since = connection.now
        if pdu.flags & FINAL:
            self.advance(transfer)

    def _stray(
        self, connection: Connection, transfer: WriteTransfer | None, pdu: DataOut
    ) -> None:
        """
        Keep Data-Out of a command that waits for its turn; drop that of a task that was
        aborted, or that was asked for again; reject what was never asked for, or is
        damaged.
        """
        if (
            transfer is None
            and pdu.ttt == RESERVED_TAG
            and connection.ordering.held
            and connection.ordering.hold_data_out(connection, self.data_out, pdu)
        ):
            return
        dropped = self.abandoned.takes(pdu)
        if connection.data_digest_failed:
            connection.reject(RejectReason.DATA_DIGEST_ERROR)
        elif not dropped and (transfer is None or not transfer.outdated(pdu)):
            connection.reject(RejectReason.INVALID_PDU_FIELD)

    def advance(self, transfer: WriteTransfer) -> None:
        """
        Go on with a write: run it when its data is there, else ask for more.
        """
        if transfer.complete:
            task = transfer.task
            del self.transfers[task.tag]
            task.context.r2ts = transfer.r2t_sn
            self.written += transfer.received
            if transfer.error is not None:
                task.itl.unit.fail(task, transfer.error)
            else:
                task.data_out = transfer.data()
                task.itl.unit.run(task)
        elif self.held_bytes - transfer.needed >= WRITE_BUDGET and not transfer.bursts:
            if transfer.unsolicited is None:
                self.waiting.append(transfer)
        else:
            self.solicit(transfer)

    def solicit(self, transfer: WriteTransfer) -> None:
        """
        Ask for as much as may be asked for at once (MaxOutstandingR2T).
        """
        connection = transfer.connection
        if connection.over:
            return
        parameters = connection.parameters
        while len(transfer.bursts) < parameters.max_outstanding_r2t:
            ttt = self.next_ttt()
            burst = transfer.solicit(ttt, parameters.max_burst_length)
            if burst is None:
                return
            pdu = R2T(
                lun=transfer.lun,
                itt=transfer.task.tag,
                ttt=ttt,
                r2t_sn=transfer.r2t_sn,
                buffer_offset=burst.at,
                desired_data_transfer_length=burst.end - burst.at,
            )
            connection.send_pdu(pdu, advance=False)
            if connection.recovery is not None:
                connection.recovery.asked(pdu)
            transfer.r2t_sn += 1

    def next_ttt(self) -> int:
        """
        Return a Target Transfer Tag that is not in use.
        """
        self._ttt = (self._ttt + 1) % RESERVED_TAG
        return self._ttt

    def let_go(self, tag: int, pdu: SCSICommand) -> None:
        """
        Take a write's bytes out of the account, and go on with one that waits.
        """
        transfer = self.transfers.pop(tag, None)
        if transfer is not None:
            # Aborted while its data was on the way: what still comes is dropped.
            pdu.r2ts = transfer.r2t_sn
            self.abandoned.add(tag, transfer.awaited())
        needed = self.held.pop(tag, 0)
        if not needed:
            return
        self.held_bytes -= needed
        while self.waiting and self.held_bytes - self.waiting[0].needed < WRITE_BUDGET:
            waiting = self.waiting.popleft()
            if self.transfers.get(waiting.task.tag) is waiting:
                self.solicit(waiting)
                # It may have come on another connection than what is over.
                if not waiting.connection.receiving:
                    waiting.connection.wake()

    def overdue(self, connection: Connection, before: float) -> bool:
        """
        Say whether a write on *connection* has waited for its Data-Out since *before*.
        """
        return any(
            transfer.since < before
            and transfer.connection is connection
            and (transfer.bursts or transfer.unsolicited)
            for transfer in self.transfers.values()
        )

    def ask_again(self, connection: Connection, now: float) -> None:
        """
        Ask again for Data-Out that has not come for a while (RFC 7143 section 7.1.4.1).
        """
        for transfer in list(self.transfers.values()):
            if (
                isinstance(transfer, RecoverableTransfer)
                and transfer.connection is connection
                and transfer.give_up_waiting(now)
            ):
                self.advance(transfer)
                connection.wake()

    def close(self) -> None:
        """
        Ask for no more: the session is over.
        """
        self.waiting.clear()
