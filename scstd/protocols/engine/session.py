# SPDX-License-Identifier: MIT
"""
The full feature phase of a normal session: commands into the SCSI core, and back.

The session owns what its connections share: the CmdSN window and the order of commands
(`Ordering`), the tasks by Initiator Task Tag, the I_T nexus.  Each command becomes a
`Task`; a write first collects its Data-Out (`Writes`).  The answer goes out on the
connection on which the command came, or to which it was reassigned: whose ``done`` the
task calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import attrs

from scstd.protocols.engine import (
    async_message,
    bidirectional,
    connection_cleanup,
    draining,
    task_management,
)
from scstd.protocols.engine.fast_abort import Termination
from scstd.protocols.engine.faults import Faults
from scstd.protocols.engine.ordering import Ordering
from scstd.protocols.engine.phase import Phase
from scstd.protocols.engine.read_budget import Reads, small
from scstd.protocols.engine.response_fence import Fence
from scstd.protocols.engine.tap_lists import TapList
from scstd.protocols.engine.tapped import TapRank
from scstd.protocols.engine.writes import Writes
from scstd.protocols.wire.codes import FINAL, IMMEDIATE, READ, WRITE, RejectReason
from scstd.protocols.wire.pdu import NOPIn, SCSICommand, TaskManagementRequest
from scstd.protocols.wire.serial import CommandWindow
from scstd.protocols.wire.states import (
    ConnectionEvent,
    SessionEvent,
    SessionState,
    session_after,
)
from scstd.scsi.nexus import Nexus
from scstd.scsi.sam import Task
from scstd.scsi.sense import ASC, CheckCondition, SenseKey
from scstd.scsi.taskset import ReservedAttributeError

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection
    from scstd.protocols.engine.node import Node, TargetSettings


@attrs.define(eq=False, repr=False)
class Session:
    """
    One session: its fields are assigned by its own methods, and by nobody else.
    """

    node: Node
    nexus: Nexus
    initiator: str
    isid: bytes
    tsih: int
    ordering: Ordering
    settings: TargetSettings
    fence: Fence | None = None
    """Has responses wait for others, if it may have several connections."""
    draining: bool = False
    """It takes no command."""
    dismissal: connection_cleanup.Dismissal | None = None
    """Its initiator was asked to log out."""
    state: SessionState = SessionState.FREE
    connections: dict[int, Connection] = attrs.field(factory=dict)
    """By CID."""
    lost: dict[Connection, connection_cleanup.Lost] = attrs.field(factory=dict)
    """Those that failed, and whose tasks may be reassigned."""
    departing: dict[Connection, None] = attrs.field(factory=dict)
    """Those whose tasks are terminated, but can still touch data."""
    failed_since: float = 0.0
    """When it lost the last connection."""
    tasks: dict[int, Task] = attrs.field(factory=dict)
    """By Initiator Task Tag."""
    writes: Writes = attrs.field(factory=Writes)
    reads: Reads = attrs.field(
        default=attrs.Factory(
            lambda self: Reads(self, self.node.unsent), takes_self=True
        )
    )
    managing: dict[int, tuple[Connection, TaskManagementRequest]] = attrs.field(
        factory=dict
    )
    """Task management functions under way, by Initiator Task Tag."""
    terminations: list[Termination] = attrs.field(factory=list)
    """Messages of terminated tasks that are not acknowledged."""
    closed: bool = False
    commands: int = 0
    none_commands: int = 0
    """Commands that move no data."""
    read_bytes: int = 0
    target_taps: TapList | None = None
    taps: TapList = attrs.field(
        default=attrs.Factory(
            lambda self: TapList(TapRank.SESSION, self.connections.values),
            takes_self=True,
        )
    )
    _last: Connection | None = None
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
        configured: int = self.settings.local["DefaultTime2Retain"]
        return min(agreed, configured)

    @property
    def faults(self) -> Faults:
        """The target's faults on purpose, or those of the initiator's group."""
        group = self.nexus.group
        faults = self.settings.faults
        return faults if group is None else faults.but(group.values)

    @property
    def tap_lists(self) -> Iterator[TapList]:
        """The taps that its connections have with others: the target's, and its own."""
        if self.target_taps is not None:
            yield self.target_taps
        yield self.taps

    # What others have it note.

    def happened(self, event: SessionEvent) -> None:
        """
        Note what has happened to the session.

        :raises ProtocolError: it can not happen in its state.
        """
        self.state = session_after(self.state, event)

    def begin(self, state: SessionState) -> None:
        """
        Go on from the state in which its login was, which is done.
        """
        self.state = session_after(state, SessionEvent.LOGIN_DONE)

    def lost_connections(self, now: float) -> None:
        """
        Note that there is no connection left, since *now*: it waits for one.
        """
        self.happened(SessionEvent.CONNECTIONS_FAILED)
        self.failed_since = now

    def put_fence(self, fence: Fence) -> None:
        """
        Have a fence for responses.
        """
        self.fence = fence

    def drain(self) -> None:
        """
        Take no further command (`draining`).
        """
        self.draining = True
        for connection in self.connections.values():
            self.tap(connection)

    def dismiss(self, dismissal: connection_cleanup.Dismissal) -> None:
        """
        Note that the initiator was asked to log out.
        """
        self.dismissal = dismissal

    def forget_terminations(self, connection: Connection) -> None:
        """
        Wait for no acknowledgment of a connection any more.
        """
        self.terminations = [
            one for one in self.terminations if one.connection is not connection
        ]

    def uncount(self) -> None:
        """
        Count a command less, for it was rejected: it is as if it had not come.
        """
        self.commands -= 1

    # Connections.

    def join(self, connection: Connection) -> None:
        """
        Add a connection whose login is done.
        """
        self.connections[connection.cid] = self._last = connection
        connection.enter(self, partial(self.done, connection))
        self.tune(connection)
        self.reads.small = small(self.settings.queued_commands)

    def tune(self, connection: Connection) -> None:
        """
        Give a connection the target's settings as they are now.
        """
        settings = self.settings
        connection.timers.tune(
            settings.response_timeout, settings.nop_in_interval, settings.nop_in_timeout
        )

    def tap(self, connection: Connection) -> None:
        """
        Give a connection the taps of this session, as they are now.
        """
        taps = connection.taps
        taps.set(TapRank.FAULTS, self.faults.tap(connection))
        taps.set(
            TapRank.DRAINING,
            partial(draining.leave_out, self) if self.draining else None,
        )
        taps.review()

    def settings_changed(self) -> None:
        """
        Act on what has changed in the configuration of the target or a group.
        """
        if self.window.size != self.settings.queued_commands:
            told = self.window.max_cmd_sn
            self.window.resize(self.settings.queued_commands)
            self.reads.small = small(self.settings.queued_commands)
            if self.window.max_cmd_sn != told:
                self.tell_window()
        for connection in self.connections.values():
            self.tune(connection)
            self.tap(connection)

    def left(self, connection: Connection, *, logged_out: bool, joining: bool) -> None:
        """
        Go on without a connection, or end with the last one.
        """
        connection_cleanup.leave(
            self, connection, logged_out=logged_out, joining=joining
        )
        if not (self.closed or joining):
            self.node.report(
                "CONNECTION_CLOSED",
                target=self.nexus.target.name,
                initiator=self.initiator,
                peer=connection.peer,
                tsih=self.tsih,
                cid=connection.cid,
                left=len(self.connections),
                reason=connection.why or "logged out",
            )
        if not (self.closed or logged_out or joining):
            async_message.connection_dropped(self, connection)

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
                return
            task = found
        else:
            task = Task(
                itl,
                itt,
                # Priority and attribute: RFC 7143 numbers attributes as the core does.
                flags & 0xF07,
                pdu.cdb,
                pdu.expected_data_transfer_length,
                connection.done,
                pdu,
            )
        self.tasks[itt] = task
        self.commands += 1
        reads = self.reads
        if flags & READ and (reads.tight or task.expected_length > reads.small):
            task.admission = reads.admits
        unit = itl.unit
        try:
            unit.arrive(task)
        except ReservedAttributeError:
            self._take_back(connection, pdu)
            return
        if flags & WRITE:
            self.writes.begin(connection, task, pdu)
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

    def _take_back(self, connection: Connection, pdu: SCSICommand) -> None:
        """
        Reject a command with a reserved task attribute: it is as if it had not come
        (RFC 7143 sections 7.3 and 11).
        """
        del self.tasks[pdu.itt]
        self.uncount()
        bidirectional.refuse(connection, pdu, RejectReason.PROTOCOL_ERROR)

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
            self.writes.let_go(tag, pdu)
        if task.admission is not None:
            self.reads.over(task)
        if self.closed or (task.aborted and not task.tell_aborted):
            if connection.over:
                connection_cleanup.settle(self, connection)
            return
        self.read_bytes += len(task.data_in)
        connection.responder(connection, task, pdu)
        if not connection.receiving:
            connection.wake()

    def has_immediate(self, connection: Connection, *, function: bool) -> bool:
        """
        Say whether an immediate command of *connection* is in progress, or an immediate
        task management function; one whose answer waits is, too.
        """
        requests = [
            task.context for task in connection_cleanup.allegiant(self, connection)
        ]
        others = [*self.managing.values(), *self.ordering.deferred]
        if self.fence is not None:
            others += [(held.connection, held.pdu) for held in self.fence.held]
        requests += [pdu for one, pdu in others if one is connection]
        return any(
            pdu.first & IMMEDIATE and (type(pdu) is TaskManagementRequest) == function
            for pdu in requests
        )

    # Time.

    def overdue(self, connection: Connection, before: float) -> bool:
        """
        Say whether a write on *connection* has waited for its Data-Out since *before*,
        or a response for an acknowledgment.
        """
        if self.fence is not None and self.fence.overdue(connection, before):
            return True
        return self.writes.overdue(connection, before)

    def tick(self, now: float) -> None:
        """
        Look whether the time to recover what has failed is over.
        """
        if self.reads.work or self.reads.parked:
            self.reads.tick()
        if self.lost or self.state is SessionState.FAILED:
            connection_cleanup.expire(self, now)
        dismissal = self.dismissal
        if dismissal is not None and now >= dismissal.until:
            async_message.drop_session(self, dismissal.why)

    def reveal(self) -> None:
        """
        Have a command for which a store is being called be among `tasks`.
        """
        for itl in self.nexus.itls.values():
            itl.unit.calling.reveal()

    # Task management.

    def manage(self, connection: Connection, pdu: TaskManagementRequest) -> None:
        """
        Take a Task Management Function Request that every earlier command came before.
        """
        self.reveal()
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
            self.happened(SessionEvent.CLOSED)
        self.writes.close()
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
            connection.give_reason(why)
        self.close(gone)
        for connection in list(self.connections.values()):
            # What ends one may end the others.
            if not connection.over:
                connection.end(ConnectionEvent.FAILED)

    def notify(self, lun: int, asc: ASC) -> None:
        """
        Tell the initiator of a unit attention, unless that is switched off.
        """
        if not self.settings.aen_disabled:
            async_message.scsi_event(self, lun, asc)
