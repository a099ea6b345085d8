# SPDX-License-Identifier: MIT
"""
What an initiator's session has under way, and what it sends: its connections, commands
and other requests.

What is done with what comes in stands on it: `scstd.initiator.responses`,
`scstd.initiator.recovery`, and `scstd.initiator.session`, which has all of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import attrs

from scstd.initiator.connection import InitiatorConnection
from scstd.initiator.login import InitiatorLogin, LoginOptions, LoginRefused
from scstd.initiator.requests import Requests, lun_field
from scstd.initiator.tasks import InitiatorTask
from scstd.interfaces import Buffer
from scstd.protocols.wire.codes import LogoutReason
from scstd.protocols.wire.parameters import Parameters
from scstd.protocols.wire.pdu import AsynchronousMessage, DataIn, SCSICommand
from scstd.protocols.wire.serial import less

Answered = Callable[[Any], object]
"""Takes the PDU that answers a request; None if there will be none."""


@attrs.define(eq=False)
class Asked:
    """
    A request that waits for its answer.
    """

    connection: InitiatorConnection
    answered: Answered
    pdu: Any


class Recovery(Protocol):
    """
    What a session has done about what gets lost (`scstd.initiator.recovery`).
    """

    def see_data_in(
        self, connection: InitiatorConnection, task: InitiatorTask, pdu: DataIn
    ) -> None:
        """
        Acknowledge data, if the target asks for that.
        """

    def ask_for_data(self, task: InitiatorTask) -> None:
        """
        Ask for Data-In that is missing.
        """

    def send_again(
        self, connection: InitiatorConnection, header: bytes, reason: int
    ) -> bool:
        """
        Send what was rejected again; return whether that can be.
        """


class SessionBase(Requests):
    """
    One session with a target, but for what comes in.
    """

    def __init__(
        self,
        name: str,
        isid: bytes = b"\x80\0\0\0\0\1",
        options: LoginOptions | None = None,
        *,
        cmd_sn: int = 1,
    ) -> None:
        super().__init__(name, isid, cmd_sn)
        self.options = options or LoginOptions(None)
        """What its logins are for."""
        self.connections: list[InitiatorConnection] = []
        self.parameters: Parameters | None = None
        """What its leading login agreed on; None before it is done."""
        self.tsih = 0
        """What the target calls it; 0 before the leading login is done."""
        self.exp_cmd_sn = self.max_cmd_sn = cmd_sn
        """The target's window (section 4.2.2.1)."""
        self.tasks: dict[int, InitiatorTask] = {}
        """Commands that were sent and are not over, by tag."""
        self.waiting: deque[InitiatorTask] = deque()
        """Commands that the window had no room for."""
        self.asked: dict[int, Asked] = {}
        """Other requests that are not answered, by tag."""
        self.recovery: Recovery | None = None
        """What it does about what gets lost; None at error recovery level 0."""
        self.answers = True
        """Whether it answers what the target asks for: R2Ts, pings, to log out."""
        self.over = False
        self.why = ""
        """Why it is over."""
        self.on_event: Callable[[AsynchronousMessage], object] = lambda _pdu: None
        """Called with each Asynchronous Message."""
        self.on_over: Callable[[str], object] = lambda _why: None
        """Called once, when the session is over, with the reason."""
        self.on_lost: Callable[[InitiatorConnection], object] | None = None
        """
        Called with a connection that is lost above level 0; who takes care of it calls
        `recovery.replace`.  Without it the session is over.
        """

    # Connections.

    def connect(
        self,
        cid: int | None = None,
        *,
        wake: Callable[[], object] = lambda: None,
        on_login: Callable[[LoginRefused | None], object] = lambda _error: None,
        connection: InitiatorConnection | None = None,
    ) -> InitiatorConnection:
        """
        Begin a login, which opens the session or adds a connection to it; *on_login* is
        called with what went wrong, or None, when it is over.
        """
        if connection is None:
            if cid is None:
                cid = max((one.cid for one in self.connections), default=-1) + 1
            connection = InitiatorConnection(cid, wake)
        self.connections.append(connection)
        connection.on_login = on_login
        connection.login = InitiatorLogin(
            self,
            self.options,
            cid=connection.cid,
            tsih=self.tsih,
            settled=self.parameters,
        )
        connection.send(*connection.login.begin())
        return connection

    def lost(
        self,
        connection: InitiatorConnection,
        why: str,
        refused: LoginRefused | None = None,
    ) -> None:
        """
        Note that a connection is no more: its login was *refused*, or it just went.
        """
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        self._close(connection, why)
        login, connection.login = connection.login, None
        if login is not None:
            error = LoginRefused(0, f"the connection is lost: {why}", {})
            connection.on_login(refused or error)
        # Their answers would come on this connection (section 4.2.5.1).
        for itt, asked in list(self.asked.items()):
            if asked.connection is connection:
                del self.asked[itt]
                asked.answered(None)
        if self.over:
            return
        if refused is not None and self.connections:
            # It never belonged to the session.
            return
        if refused is None and self.recovery is not None and self.on_lost is not None:
            self.on_lost(connection)
        else:
            self.end(why)

    @staticmethod
    def _close(connection: InitiatorConnection, why: str) -> None:
        connection.over, connection.full = True, False
        connection.why = connection.why or why
        if not connection.receiving:
            connection.wake()

    def end(self, why: str) -> None:
        """
        Have the session be over: its connections are to be closed.
        """
        if self.over:
            return
        self.over, self.why = True, why
        for connection in self.connections:
            self._close(connection, why)
        for task in (*self.tasks.values(), *self.waiting):
            task.end(why)
        self.tasks.clear()
        self.waiting.clear()
        for asked in list(self.asked.values()):
            asked.answered(None)
        self.asked.clear()
        self.on_over(why)

    def choose(self) -> InitiatorConnection | None:
        """
        Return the connection that the next command goes to: the one with the fewest.
        """
        ready = [one for one in self.connections if one.full]
        if len(ready) < 2:
            return ready[0] if ready else None
        mine = [task.connection for task in self.tasks.values()]
        return min(ready, key=mine.count)

    # Requests.

    @property
    def room(self) -> bool:
        """Whether the window has room for one more command."""
        return not less(self.max_cmd_sn, self.cmd_sn)

    def immediate_data(self, connection: InitiatorConnection, length: int) -> int:
        """
        Return how many bytes go with a command that writes so many.
        """
        agreed = connection.parameters
        if not agreed.immediate_data:
            return 0
        longest = agreed.max_xmit_data_segment_length
        return min(length, agreed.first_burst_length, longest)

    def execute(
        self,
        cdb: bytes,
        *,
        lun: int = 0,
        read: int = 0,
        data: Buffer = b"",
        attribute: int = 1,
        on_end: Callable[[InitiatorTask], object] = lambda _task: None,
    ) -> InitiatorTask:
        """
        Begin a command that reads at most so many bytes, or writes *data*, or both; it
        is sent when the window has room.  *on_end* is called when it is over.
        """

        def number(connection: InitiatorConnection) -> SCSICommand:
            return self.command_for(
                connection, cdb, data, lun=lun, read=read, attribute=attribute
            )

        pdu = SCSICommand(cdb=cdb, lun=lun_field(lun))
        task = InitiatorTask(pdu, data, on_end=on_end, number=number)
        self.begin(task)
        return task

    def command_for(
        self, connection: InitiatorConnection, cdb: bytes, data: Buffer, **fields: Any
    ) -> SCSICommand:
        """
        Return the PDU of a command that goes to a connection: with immediate data as
        `immediate_data` says, and the rest of the first burst after it where it may
        come unasked.
        """
        count = self.immediate_data(connection, len(data))
        agreed = connection.parameters
        end = min(len(data), agreed.first_burst_length)
        return self.command(
            cdb,
            write=len(data),
            data=data[:count],
            final=agreed.initial_r2t or count >= end,
            **fields,
        )

    def begin(self, task: InitiatorTask) -> None:
        """
        Send a command when there is room, and a connection for it.
        """
        if self.over:
            task.end(self.why)
            return
        self.waiting.append(task)
        self.go_on()

    def go_on(self) -> None:
        """
        Send what waits, if there is room now.
        """
        while self.waiting and self.room:
            connection = self.choose()
            if connection is None:
                return
            task = self.waiting.popleft()
            if task.number is not None:
                task.pdu = task.number(connection)
            self.tasks[task.itt] = task
            self.send_command(task, connection)

    def send_command(
        self, task: InitiatorTask, connection: InitiatorConnection
    ) -> None:
        """
        Send a command and its unsolicited data, for the first time or again.
        """
        task.connection = connection
        agreed = connection.parameters
        connection.send(task.pdu)
        connection.send(
            *task.unsolicited(
                agreed.first_burst_length, self.longest_data_out(connection)
            )
        )

    def longest_data_out(self, connection: InitiatorConnection) -> int:
        """
        Return how many bytes of data a Data-Out PDU may have.
        """
        return connection.parameters.max_xmit_data_segment_length

    def request(
        self,
        pdu: Any,
        answered: Answered = lambda _pdu: None,
        connection: InitiatorConnection | None = None,
    ) -> None:
        """
        Send a request that has one answer, immediately: a NOP-Out, a text, a logout, a
        task management function.
        """
        connection = connection or self.choose()
        if self.over or connection is None:
            answered(None)
            return
        self.asked[pdu.itt] = Asked(connection, answered, pdu)
        connection.send(pdu)

    def manage(
        self,
        function: int,
        *,
        lun: int = 0,
        task: InitiatorTask | None = None,
        answered: Answered = lambda _pdu: None,
    ) -> None:
        """
        Ask for a task management function, for one *task* or for all.

        A function for one task has to come after the command, so it goes the same way;
        one that has not been sent is just taken out.
        """
        if task is None:
            self.request(self.task_management_request(function, lun=lun), answered)
            return
        if task in self.waiting:
            self.waiting.remove(task)
            task.end("it was aborted")
            answered(None)
            return
        pdu = self.task_management_request(
            function, tag=task.itt, ref_cmd_sn=task.pdu.cmd_sn
        )
        pdu.lun = task.pdu.lun
        self.request(pdu, answered, task.connection)

    def logout(
        self,
        connection: InitiatorConnection | None = None,
        answered: Answered = lambda _pdu: None,
        *,
        reason: int = LogoutReason.CLOSE_SESSION,
    ) -> None:
        """
        Log out: the session, or one *connection* with another reason.
        """
        cid = connection.cid if connection is not None else 0
        self.request(self.logout_request(reason, cid), answered, connection)

    def task_of(
        self, connection: InitiatorConnection, itt: int
    ) -> InitiatorTask | None:
        """
        Return the task with this tag, if this is its connection.
        """
        task = self.tasks.get(itt)
        return task if task is not None and task.connection is connection else None

    def look(self, task: InitiatorTask) -> None:
        """
        See whether a command that has its status is over.
        """
        if self.recovery is None or task.complete:
            del self.tasks[task.itt]
            task.end()
        else:
            self.recovery.ask_for_data(task)

    def closed(self, connection: InitiatorConnection) -> None:
        """
        Note that a connection was logged out: its tasks are no more.
        """
        self.connections.remove(connection)
        self._close(connection, "logged out")
        for itt, task in list(self.tasks.items()):
            if task.connection is connection:
                del self.tasks[itt]
                task.end("its connection was logged out")
        if not self.connections:
            self.end("logged out")

    def asked_to_leave(self, connection: InitiatorConnection) -> None:
        """
        Log a connection out, for the target wants it.
        """
        if len(self.connections) > 1:
            reason = LogoutReason.CLOSE_CONNECTION
        else:
            reason = LogoutReason.CLOSE_SESSION
        self.logout(connection, reason=reason)
