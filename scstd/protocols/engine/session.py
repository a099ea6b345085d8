# SPDX-License-Identifier: MIT
"""
The full feature phase of a normal session: commands into the SCSI core, and back.

A session here has one connection (MaxConnections=1), so the two refer to each other:
the `Connection` owns the bytes, the digests and StatSN, the session the tasks by
Initiator Task Tag and the I_T nexus.  Commands come in CmdSN order (`Connection` sees
to that).  Each becomes a `Task`; a write first collects its Data-Out.

Memory is bounded by a budget: a write is asked for its data only while what the session
holds is below it; the initiator waits for its R2T meanwhile, as it would for a slow
disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from scstd.protocols.engine.response import answer
from scstd.protocols.engine.transfer import WriteTransfer
from scstd.protocols.wire.pdu import (
    FINAL,
    IMMEDIATE,
    R2T,
    RESERVED_TAG,
    WRITE,
    DataOut,
    RejectReason,
    SCSICommand,
    TaskManagementRequest,
    TaskManagementResponse,
    TaskManagementResponseCode,
)
from scstd.protocols.wire.serial import less
from scstd.scsi.sam import Task, TaskManagementFunction
from scstd.scsi.sense import ASC, CheckCondition, SenseKey
from scstd.scsi.target import Nexus

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection

WRITE_BUDGET = 32 << 20
"""How many bytes of Data-Out a session may hold before further writes wait."""

_CODE = TaskManagementResponseCode
_FUNCTION = TaskManagementFunction


@attrs.define(eq=False, slots=False)
class Session:
    """
    One session: its identity, its nexus, its tasks.
    """

    connection: Connection
    nexus: Nexus
    initiator: str
    isid: bytes
    tsih: int
    tasks: dict[int, Task] = attrs.field(factory=dict)
    transfers: dict[int, WriteTransfer] = attrs.field(factory=dict)
    waiting: deque[WriteTransfer] = attrs.field(factory=deque)
    abandoned: dict[int, set[int]] = attrs.field(factory=dict)
    held: dict[int, int] = attrs.field(factory=dict)
    held_bytes: int = 0
    closed: bool = False
    commands: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    _ttt: int = 0

    # Commands.

    def command(self, pdu: SCSICommand) -> None:
        """
        Take a SCSI Command whose turn it is.
        """
        itt = pdu.itt
        connection = self.connection
        if itt in self.tasks:
            connection.reject(RejectReason.TASK_IN_PROGRESS)
            connection.finished(pdu)
            return
        nexus = self.nexus
        itl = nexus.luns.get(pdu.lun) or nexus.absent
        cdb = pdu.cdb if not pdu.ahs else _whole_cdb(pdu)
        flags = pdu.flags
        task = Task(
            itl, itt, flags & 7, cdb, pdu.expected_data_transfer_length, self._done, pdu
        )
        self.tasks[itt] = task
        self.commands += 1
        unit = itl.unit
        unit.begin(task)
        if flags & WRITE:
            self._begin_write(task, pdu)
        elif pdu.data or not flags & FINAL:
            # Data-Out for a command that says it writes nothing.
            unit.fail(
                task,
                CheckCondition(
                    SenseKey.ABORTED_COMMAND, ASC.UNEXPECTED_UNSOLICITED_DATA
                ),
            )
        else:
            unit.run(task)

    def _begin_write(self, task: Task, pdu: SCSICommand) -> None:
        parameters = self.connection.parameters
        final = bool(pdu.flags & FINAL)
        data = pdu.data
        expected = pdu.expected_data_transfer_length
        needed = min(task.data_out_length, expected)
        if final and len(data) == needed == expected:
            # All of it came with the command: nothing to collect.
            if self.connection.data_digest_failed:
                task.error = CheckCondition(
                    SenseKey.ABORTED_COMMAND, ASC.PROTOCOL_SERVICE_CRC_ERROR
                )
            elif not data or parameters.immediate_data:
                task.data_out = data
            else:
                task.error = CheckCondition(
                    SenseKey.ABORTED_COMMAND, ASC.UNEXPECTED_UNSOLICITED_DATA
                )
            self.write_bytes += needed
            task.itl.unit.run(task)
            return
        transfer = WriteTransfer(
            task,
            pdu.lun,
            needed,
            parameters.first_burst_length,
            self.connection.now,
        )
        transfer.begin(data, final=final, expected=expected)
        breach = (
            ASC.PROTOCOL_SERVICE_CRC_ERROR
            if self.connection.data_digest_failed
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
        self._advance(transfer)

    def data_out(self, pdu: DataOut) -> None:
        """
        Take a SCSI Data-Out.
        """
        transfer = self.transfers.get(pdu.itt)
        burst = None if transfer is None else transfer.burst_of(pdu)
        if transfer is None or burst is None:
            self._stray(pdu)
            return
        transfer.receive(pdu, burst, damaged=self.connection.data_digest_failed)
        transfer.since = self.connection.now
        if pdu.flags & FINAL:
            self._advance(transfer)

    def _stray(self, pdu: DataOut) -> None:
        """
        Drop Data-Out of a task that was aborted; reject what was never asked for.
        """
        expected = self.abandoned.get(pdu.itt)
        if expected is None or pdu.ttt not in expected:
            self.connection.reject(RejectReason.INVALID_PDU_FIELD)
            return
        if pdu.flags & FINAL:
            expected.discard(pdu.ttt)
            if not expected:
                del self.abandoned[pdu.itt]

    def _advance(self, transfer: WriteTransfer) -> None:
        """
        Go on with a write: run it when its data is there, else ask for more.
        """
        if transfer.complete:
            task = transfer.task
            del self.transfers[task.tag]
            self.write_bytes += transfer.received
            if transfer.error is not None:
                task.itl.unit.fail(task, transfer.error)
            else:
                task.data_out = transfer.data()
                task.itl.unit.run(task)
        elif self.held_bytes - transfer.needed >= WRITE_BUDGET and not transfer.bursts:
            if transfer.unsolicited is None:
                self.waiting.append(transfer)
        else:
            self._solicit(transfer)

    def _solicit(self, transfer: WriteTransfer) -> None:
        """
        Ask for as much as may be asked for at once (MaxOutstandingR2T).
        """
        connection = self.connection
        parameters = connection.parameters
        while len(transfer.bursts) < parameters.max_outstanding_r2t:
            ttt = self.next_ttt()
            burst = transfer.solicit(ttt, parameters.max_burst_length)
            if burst is None:
                return
            connection.send_pdu(
                R2T(
                    lun=transfer.lun,
                    itt=transfer.task.tag,
                    ttt=ttt,
                    r2t_sn=transfer.r2t_sn,
                    buffer_offset=burst.at,
                    desired_data_transfer_length=burst.end - burst.at,
                ),
                advance=False,
            )
            transfer.r2t_sn += 1

    def next_ttt(self) -> int:
        """
        Return a Target Transfer Tag that is not in use.
        """
        self._ttt = (self._ttt + 1) % RESERVED_TAG
        return self._ttt

    def _done(self, task: Task) -> None:
        pdu: SCSICommand = task.context
        tag = task.tag
        del self.tasks[tag]
        connection = self.connection
        if pdu.first & IMMEDIATE:
            connection.finished(pdu)
        else:
            connection.window.finished()
        if pdu.flags & WRITE:
            self._let_go(tag)
        if self.closed or (task.aborted and not task.tell_aborted):
            return
        self.read_bytes += len(task.data_in)
        answer(connection, task, pdu)
        if not connection.receiving:
            connection.wake()

    def _let_go(self, tag: int) -> None:
        """
        Take a write's bytes out of the account, and go on with one that waits.
        """
        transfer = self.transfers.pop(tag, None)
        if transfer is not None:
            # Aborted while its data was on the way: what still comes is dropped.
            tags = set(transfer.bursts)
            if transfer.unsolicited is not None:
                tags.add(RESERVED_TAG)
            if tags:
                self.abandoned[tag] = tags
        needed = self.held.pop(tag, 0)
        if not needed:
            return
        self.held_bytes -= needed
        while self.waiting and self.held_bytes - self.waiting[0].needed < WRITE_BUDGET:
            waiting = self.waiting.popleft()
            if self.transfers.get(waiting.task.tag) is waiting:
                self._solicit(waiting)

    def overdue(self, before: float) -> bool:
        """
        Say whether a write has waited for its Data-Out since *before*.
        """
        return any(
            transfer.since < before and (transfer.bursts or transfer.unsolicited)
            for transfer in self.transfers.values()
        )

    # Task management.

    def task_management(self, pdu: TaskManagementRequest) -> None:
        """
        Take a Task Management Function Request that every earlier command came before.
        """
        function = pdu.flags & 0x7F
        if function == _FUNCTION.ABORT_TASK:
            self._abort_task(pdu)
        elif function == _FUNCTION.TASK_REASSIGN:
            self._manage_done(pdu, _CODE.TASK_ALLEGIANCE_REASSIGNMENT_NOT_SUPPORTED)
        elif function == _FUNCTION.CLEAR_ACA:
            self._manage_done(pdu, _CODE.FUNCTION_NOT_SUPPORTED)
        elif function in {2, 4, 5, 6, 7}:
            self.nexus.manage(
                function, pdu.lun, lambda found: self._managed(pdu, function, found)
            )
        else:
            self._manage_done(pdu, _CODE.FUNCTION_REJECTED)

    def _managed(self, pdu: TaskManagementRequest, function: int, found: bool) -> None:
        self._manage_done(
            pdu, _CODE.FUNCTION_COMPLETE if found else _CODE.LUN_DOES_NOT_EXIST
        )
        if function == _FUNCTION.TARGET_COLD_RESET:
            self.connection.node.cold_reset(self.connection)

    def _abort_task(self, pdu: TaskManagementRequest) -> None:
        """
        Abort one task (RFC 7143 section 11.5.1, and 11.6.1 for the answers).
        """
        task = self.tasks.get(pdu.referenced_task_tag)
        if task is not None and not self.nexus.names(pdu.lun, task.itl):
            self._manage_done(pdu, _CODE.TASK_DOES_NOT_EXIST)
            return
        if task is not None:
            task.itl.unit.abort(
                [task], lambda: self._manage_done(pdu, _CODE.FUNCTION_COMPLETE)
            )
            return
        window = self.connection.window
        if not less(pdu.ref_cmd_sn, window.exp_cmd_sn) and less(
            pdu.ref_cmd_sn, pdu.cmd_sn
        ):
            # It has not arrived: from now on it counts as arrived, and aborted.
            self.connection.skip(pdu.ref_cmd_sn)
            self._manage_done(pdu, _CODE.FUNCTION_COMPLETE)
            return
        self._manage_done(pdu, _CODE.TASK_DOES_NOT_EXIST)

    def _manage_done(self, pdu: TaskManagementRequest, response: int) -> None:
        connection = self.connection
        connection.finished(pdu)
        if self.closed:
            return
        connection.send_pdu(TaskManagementResponse(response=response, itt=pdu.itt))
        if not connection.receiving:
            connection.wake()

    # The end.

    def close(self, gone: Callable[[], None]) -> None:
        """
        End the session; call *gone* when none of its tasks can touch data any more.
        """
        self.closed = True
        self.waiting.clear()
        self.nexus.lose(gone)


def _whole_cdb(pdu: SCSICommand) -> bytes:
    """
    Return the CDB with what an Extended CDB AHS adds (RFC 7143 section 11.2.2.3).
    """
    ahs = pdu.ahs
    at = 0
    while at + 4 <= len(ahs):
        length = int.from_bytes(ahs[at : at + 2], "big")
        if ahs[at + 2] == 1:
            return pdu.cdb + ahs[at + 4 : at + 3 + length]
        at += 3 + length + (-(3 + length) & 3)
    return pdu.cdb
