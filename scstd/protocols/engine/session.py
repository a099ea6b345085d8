# SPDX-License-Identifier: MIT
"""
The full feature phase of a normal session: commands into the SCSI core, and back.

The session owns what its connections share: the CmdSN window and the order of commands
(`Ordering`), the tasks by Initiator Task Tag, the I_T nexus.  Each command becomes a
`Task`; a write first collects its Data-Out.  The answer goes out on the connection on
which the command came, or to which it was reassigned: whose ``done`` the task calls.

Memory is bounded by a budget: a write is asked for its data only while what the session
holds is below it; the initiator waits for its R2T meanwhile, as it would for a slow
disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import attrs

from scstd.protocols.engine import (
    asynchronous,
    bidirectional,
    leaving,
    task_management,
)
from scstd.protocols.engine.faults import Faults
from scstd.protocols.engine.fencing import Fence
from scstd.protocols.engine.ordering import Ordering
from scstd.protocols.engine.phase import Phase
from scstd.protocols.engine.terminating import Termination
from scstd.protocols.engine.transfer import Abandoned, WriteTransfer
from scstd.protocols.engine.write_recovery import RecoverableTransfer
from scstd.protocols.wire.codes import (
    FINAL,
    IMMEDIATE,
    READ,
    RESERVED_TAG,
    WRITE,
    RejectReason,
)
from scstd.protocols.wire.pdu import (
    R2T,
    DataOut,
    NOPIn,
    SCSICommand,
    TaskManagementRequest,
)
from scstd.protocols.wire.serial import CommandWindow
from scstd.protocols.wire.states import (
    Event,
    SessionEvent,
    SessionState,
    session_after,
)
from scstd.scsi.nexus import Nexus
from scstd.scsi.sam import BidirectionalTask, Task
from scstd.scsi.sense import ASC, CheckCondition, SenseKey

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection
    from scstd.protocols.engine.node import Limits, Node

WRITE_BUDGET = 32 << 20
"""How many bytes of Data-Out a session may hold before further writes wait."""


@attrs.define(eq=False, repr=False)
class Session:
    """
    One session: its identity, its nexus, its connections by CID, its tasks by tag.

    ``lost`` are connections that failed and whose tasks may be reassigned,
    ``departing`` those whose tasks are terminated but can still touch data;
    ``managing`` are task management functions under way, by tag; ``terminations`` the
    messages of terminated tasks that are not acknowledged.  While it is ``draining`` it
    takes no command.
    """

    node: Node
    nexus: Nexus
    initiator: str
    isid: bytes
    tsih: int
    ordering: Ordering
    limits: Limits
    fence: Fence | None = None
    draining: bool = False
    dismissal: leaving.Dismissal | None = None
    state: SessionState = SessionState.FREE
    connections: dict[int, Connection] = attrs.field(factory=dict)
    lost: dict[Connection, leaving.Lost] = attrs.field(factory=dict)
    departing: dict[Connection, None] = attrs.field(factory=dict)
    failed_since: float = 0.0
    tasks: dict[int, Task] = attrs.field(factory=dict)
    transfers: dict[int, WriteTransfer] = attrs.field(factory=dict)
    waiting: deque[WriteTransfer] = attrs.field(factory=deque)
    abandoned: Abandoned = attrs.field(factory=Abandoned)
    held: dict[int, int] = attrs.field(factory=dict)
    managing: dict[int, TaskManagementRequest] = attrs.field(factory=dict)
    terminations: list[Termination] = attrs.field(factory=list)
    held_bytes: int = 0
    closed: bool = False
    commands: int = 0
    write_commands: int = 0
    two_way_commands: int = 0
    none_commands: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    _last: Connection | None = None
    _ttt: int = 0
    _gone: bool = False
    _on_gone: list[Callable[[], None]] = attrs.field(factory=list)

    @property
    def window(self) -> CommandWindow:
        """The CmdSN window."""
        return self.ordering.window

    @property
    def connection(self) -> Connection:
        """One of the connections; of a session that has none, the last."""
        for connection in self.connections.values():
            return connection
        assert self._last is not None
        return self._last

    @property
    def retains(self) -> int:
        """
        How long the session and its tasks outlive their connections, in seconds, after
        Time2Wait: what was agreed on, but no longer than is configured.  (An initiator
        that does not offer DefaultTime2Retain gets the RFC's 20 seconds otherwise, and
        its reservations with them, which nobody has asked for.)
        """
        agreed = self.connection.parameters.default_time2retain
        configured: int = self.limits.local["DefaultTime2Retain"]
        return min(agreed, configured)

    @property
    def faults(self) -> Faults:
        """The target's faults on purpose, or those of the initiator's group."""
        group = self.nexus.group
        faults = self.limits.faults
        return faults if group is None else faults.but(group.values)

    # Connections.

    def join(self, connection: Connection) -> None:
        """
        Add a connection whose login is done.
        """
        self.connections[connection.cid] = self._last = connection
        connection.session = self
        connection.done = partial(self.done, connection)
        connection.order_by(self.ordering)
        self.tune(connection)

    def tune(self, connection: Connection) -> None:
        """
        Give a connection the target's limits as they are now.
        """
        timers, limits = connection.timers, self.limits
        timers.response = limits.response_timeout
        timers.nop_in_interval = limits.nop_in_interval
        timers.nop_in_timeout = limits.nop_in_timeout

    def limits_changed(self) -> None:
        """
        Act on what has changed in the configuration of the target or a group.
        """
        if self.window.size != self.limits.queued_commands:
            told = self.window.max_cmd_sn
            self.window.resize(self.limits.queued_commands)
            if self.window.max_cmd_sn != told:
                self.tell_window()
        for connection in self.connections.values():
            self.tune(connection)
            connection.look_out()

    def left(self, connection: Connection, *, logged_out: bool, joining: bool) -> None:
        """
        Go on without a connection, or end with the last one.
        """
        leaving.leave(self, connection, logged_out=logged_out, joining=joining)
        if not (self.closed or logged_out or joining):
            asynchronous.connection_dropped(self, connection)

    def tell_window(self) -> None:
        """
        Tell MaxCmdSN, which has changed with no answer that would (RFC 7143 section
        11.4.11): the initiator may have nothing under way, and wait for it.
        """
        if any(connection.output for connection in self.connections.values()):
            return
        for connection in self.connections.values():
            if connection.phase == Phase.NORMAL:
                connection.send_pdu(NOPIn(), advance=False)
                if not connection.receiving:
                    connection.wake()
                return

    # Commands.

    def command(self, connection: Connection, pdu: SCSICommand) -> None:
        """
        Take a SCSI Command whose turn it is.
        """
        itt = pdu.itt
        if itt in self.tasks:
            self.ordering.refuse(pdu)
            connection.reject(RejectReason.TASK_IN_PROGRESS)
            return
        nexus = self.nexus
        itl = nexus.luns.get(pdu.lun) or nexus.missing(pdu.lun)
        flags = pdu.flags
        if pdu.ahs:
            found = bidirectional.task_of(connection, pdu, itl)
            if found is None:
                self.ordering.finished(pdu)
                return
            task = found
        else:
            task = Task(
                itl,
                itt,
                flags & 0xF07,
                pdu.cdb,
                pdu.expected_data_transfer_length,
                connection.done,
                pdu,
            )
        self.tasks[itt] = task
        self.commands += 1
        unit = itl.unit
        unit.begin(task)
        if flags & WRITE:
            self._begin_write(connection, task, pdu)
            return
        if not flags & READ:
            self.none_commands += 1
        if pdu.data or not flags & FINAL:
            # Data-Out for a command that says it writes nothing.
            unit.fail(
                task,
                CheckCondition(
                    SenseKey.ABORTED_COMMAND, ASC.UNEXPECTED_UNSOLICITED_DATA
                ),
            )
        else:
            unit.run(task)

    def _begin_write(
        self, connection: Connection, task: Task, pdu: SCSICommand
    ) -> None:
        flags = pdu.flags
        if flags & READ:
            if not isinstance(task, BidirectionalTask):
                # It is taken back, as if it had not come, and rejected.
                task.itl.unit.abort([task], lambda: None)
                bidirectional.refuse(connection, pdu)
                self.commands -= 1
                return
            bidirectional.check(task)
            self.two_way_commands += 1
        else:
            self.write_commands += 1
        parameters = connection.parameters
        final = flags & FINAL
        data = pdu.data
        expected = pdu.expected_data_transfer_length
        needed = min(task.data_out_length, expected)
        if final and len(data) == needed == expected:
            # All of it came with the command: nothing to collect.
            if connection.data_digest_failed:
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
        kind = WriteTransfer if connection.recovery is None else RecoverableTransfer
        transfer = kind(
            task,
            pdu.lun,
            needed,
            parameters.first_burst_length,
            connection.now,
            connection,
        )
        transfer.begin(data, final=bool(final), expected=expected)
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
        Drop Data-Out of a task that was aborted, or that was asked for again; reject
        what was never asked for.
        """
        if transfer is not None and transfer.outdated(pdu):
            return
        if not self.abandoned.takes(pdu):
            connection.reject(RejectReason.INVALID_PDU_FIELD)

    def advance(self, transfer: WriteTransfer) -> None:
        """
        Go on with a write: run it when its data is there, else ask for more.
        """
        if transfer.complete:
            task = transfer.task
            del self.transfers[task.tag]
            task.context.r2ts = transfer.r2t_sn
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

    def done(self, connection: Connection, task: Task) -> None:
        """
        Answer a task of *connection* that is over.
        """
        pdu: SCSICommand = task.context
        tag = task.tag
        del self.tasks[tag]
        ordering = self.ordering
        if pdu.first & IMMEDIATE:
            ordering.immediate -= 1
        else:
            ordering.window.finished()
        if pdu.flags & WRITE:
            self._let_go(tag, pdu)
        if self.closed or (task.aborted and not task.tell_aborted):
            if connection.over:
                leaving.settle(self, connection)
            return
        self.read_bytes += len(task.data_in)
        connection.answer(connection, task, pdu)
        if not connection.receiving:
            connection.wake()

    def _let_go(self, tag: int, pdu: SCSICommand) -> None:
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

    # Time.

    def overdue(self, connection: Connection, before: float) -> bool:
        """
        Say whether a write on *connection* has waited for its Data-Out since *before*,
        or a response for an acknowledgment.
        """
        if self.fence is not None and self.fence.overdue(connection, before):
            return True
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

    def tick(self, now: float) -> None:
        """
        Look whether the time to recover what has failed is over.
        """
        if self.lost or self.state is SessionState.FAILED:
            leaving.expire(self, now)
        dismissal = self.dismissal
        if dismissal is not None and now >= dismissal.until:
            asynchronous.drop_session(self, dismissal.why)

    # Task management.

    def manage(self, connection: Connection, pdu: TaskManagementRequest) -> None:
        """
        Take a Task Management Function Request that every earlier command came before.
        """
        task_management.manage(self, connection, pdu)

    # The end.

    def close(self, gone: Callable[[], None] | None) -> None:
        """
        End the session; call *gone* when none of its tasks can touch data any more.
        """
        if gone is not None:
            self.when_gone(gone)
        if self.closed:
            return
        self.closed = True
        if self.state is not SessionState.FREE:
            self.state = session_after(self.state, SessionEvent.CLOSED)
        self.waiting.clear()
        if self.fence is not None:
            self.fence.close()
        self.node.forget(self)
        self.nexus.lose(self._is_gone)

    def _is_gone(self) -> None:
        self._gone = True
        lost, self.lost = self.lost, {}
        for connection in lost:
            if connection.recovery is not None:
                connection.recovery.forget()
            connection.cleaned_up()
        calls, self._on_gone = self._on_gone, []
        for call in calls:
            call()

    def when_gone(self, call: Callable[[], None]) -> None:
        """
        Call *call* when none of the tasks of a closed session can touch data any more.
        """
        if self._gone:
            call()
        else:
            self._on_gone.append(call)

    def end(self, why: str, gone: Callable[[], None] | None = None) -> None:
        """
        End the session and its connections, whatever was negotiated; call *gone* when
        none of its tasks can touch data any more.
        """
        for connection in self.connections.values():
            connection.why = why
        self.close(gone)
        for connection in list(self.connections.values()):
            # What ends one may end the others.
            if not connection.over:
                connection.end(Event.FAILED)

    def notify(self, lun: int, asc: ASC) -> None:
        """
        Tell the initiator of a unit attention, unless that is switched off.
        """
        if not self.limits.aen_disabled:
            asynchronous.scsi_event(self, lun, asc)
