# SPDX-License-Identifier: MIT
"""
What an initiator does about what its links do, at error recovery levels 1 and 2 (RFC
7143 sections 4.2.2 and 7).

StatSN, DataSN and R2TSN say what is missing; SNACK asks for it.  A command that the
target has not seen is sent again with its CmdSN.  When a connection is lost another
takes its place (`SessionRecovery.replace`): at level 2 the tasks are reassigned to it,
at level 1 those that the target has seen are gone.  A session of level 0 has none of
this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from scstd.initiator.connection import InitiatorConnection, has_status
from scstd.initiator.login import LoginRefused
from scstd.initiator.requests import snack_request
from scstd.initiator.tasks import InitiatorTask
from scstd.protocols.wire.codes import (
    ACKNOWLEDGE,
    OPCODE,
    RESERVED_TAG,
    LogoutReason,
    RejectReason,
    SNACKType,
    TaskManagementCode,
)
from scstd.protocols.wire.pdu import DataIn, SCSICommand
from scstd.protocols.wire.serial import add, less

if TYPE_CHECKING:
    from scstd.initiator.session_base import SessionBase


class SessionRecovery:
    """
    The recovery of one session.
    """

    def __init__(self, session: SessionBase) -> None:
        self.session = session
        self.counts: Counter[str] = Counter()
        """How often it did what: ``snack``, ``retry``, ``reassign``."""
        self._lost: list[InitiatorConnection] = []
        """Connections whose tasks have not gone over to another."""

    # What is missing.

    def see(self, connection: InitiatorConnection, pdu: Any) -> bool:
        """
        Note a PDU that has come; return whether it is not one that has come before.
        """
        if not has_status(pdu):
            return True
        seen = connection.statuses
        if less(pdu.stat_sn, connection.exp_stat_sn) or pdu.stat_sn in seen:
            # Of Data-In it is the data that may have been missing.
            return isinstance(pdu, DataIn)
        missing = self.missing(connection)
        seen[pdu.stat_sn] = getattr(pdu, "itt", RESERVED_TAG)
        if pdu.stat_sn != missing:
            self.snack(connection, SNACKType.STATUS, missing)
        return True

    @staticmethod
    def missing(connection: InitiatorConnection) -> int:
        """
        Return the first StatSN of a connection that has not come.
        """
        stat_sn = connection.exp_stat_sn
        while stat_sn in connection.statuses:
            stat_sn = add(stat_sn, 1)
        return stat_sn

    def acknowledge(self, connection: InitiatorConnection) -> None:
        """
        Move ExpStatSN on, but not past the status of a read whose data has gaps: that
        would acknowledge the data too.
        """
        seen = connection.statuses
        while connection.exp_stat_sn in seen:
            task = self.session.task_of(connection, seen[connection.exp_stat_sn])
            if task is not None and not task.complete:
                return
            del seen[connection.exp_stat_sn]
            connection.exp_stat_sn = add(connection.exp_stat_sn, 1)

    def snack(
        self,
        connection: InitiatorConnection,
        kind: SNACKType,
        begin: int,
        length: int = 0,
        **fields: int,
    ) -> None:
        """
        Ask for something again, or acknowledge data.
        """
        self.counts["snack"] += 1
        connection.send(snack_request(kind, begin, length, **fields))

    def see_data_in(
        self, connection: InitiatorConnection, task: InitiatorTask, pdu: DataIn
    ) -> None:
        """
        Acknowledge data, if the target asks for that.
        """
        if pdu.flags & ACKNOWLEDGE:
            self.snack(
                connection,
                SNACKType.DATA_ACK,
                task.contiguous(),
                ttt=pdu.ttt,
                lun=pdu.lun,
            )

    def ask_for_data(self, task: InitiatorTask) -> None:
        """
        Ask for the first run of Data-In that is missing.
        """
        assert task.connection is not None
        missing = task.contiguous()
        following = missing + 1
        while following < task.numbers and following not in task.pieces:
            following += 1
        self.snack(
            task.connection,
            SNACKType.DATA,
            missing,
            following - missing,
            itt=task.itt,
        )

    def unseen(self, task: InitiatorTask) -> bool:
        """
        Say whether the target has not acknowledged a command.
        """
        return not less(task.pdu.cmd_sn, self.session.exp_cmd_sn)

    def retry(self, task: InitiatorTask, connection: InitiatorConnection) -> None:
        """
        Send a command again, with its CmdSN (section 7.2.1).
        """
        self.counts["retry"] += 1
        self.session.send_command(task, connection)

    def send_again(
        self, connection: InitiatorConnection, header: bytes, reason: int
    ) -> bool:
        """
        Send what was rejected for its data digest again, if it can be.
        """
        if reason != RejectReason.DATA_DIGEST_ERROR:
            return False
        itt = int.from_bytes(header[16:20], "big")
        task = self.session.task_of(connection, itt)
        asked = self.session.asked.get(itt)
        if task is not None:
            if header[0] & OPCODE == SCSICommand.opcode:
                self.retry(task, connection)
            return True
        if asked is not None:
            connection.send(asked.pdu)
        return asked is not None

    def stalled(self) -> None:
        """
        Ask for all that may be missing: nothing has come for a while, and there are
        commands that are not over.
        """
        session = self.session
        for connection in session.connections:
            if connection.full:
                connection.send(session.ping(b""))
                self.snack(connection, SNACKType.STATUS, self.missing(connection))
        for task in list(session.tasks.values()):
            path = task.connection
            if path is None or not path.full:
                continue
            if self.unseen(task):
                self.retry(task, path)
            elif task.ended:
                session.look(task)
            elif task.writes:
                self.snack(path, SNACKType.DATA, len(task.r2ts), itt=task.itt)

    # Connections that are lost.

    def replace(
        self,
        lost: InitiatorConnection,
        cid: int | None = None,
        *,
        wake: Callable[[], object] = lambda: None,
        on_login: Callable[[LoginRefused | None], object] = lambda _error: None,
        connection: InitiatorConnection | None = None,
    ) -> InitiatorConnection:
        """
        Begin a login of a connection that takes over the tasks of a *lost* one.

        With the same *cid* the login logs the old one out; with another one a logout
        for recovery does (section 7.2.2).  A login that is refused ends the session.
        """
        if lost not in self._lost:
            self._lost.append(lost)
        fresh: InitiatorConnection

        def logged_in(error: LoginRefused | None) -> None:
            if error is None:
                self._take_over(fresh)
            elif error.status:
                self.session.end(str(error))
            on_login(error)

        if connection is None:
            number = lost.cid if cid is None else cid
            connection = InitiatorConnection(number, wake)
        fresh = connection
        return self.session.connect(on_login=logged_in, connection=fresh)

    def _take_over(self, fresh: InitiatorConnection) -> None:
        session = self.session
        parameters = session.parameters
        level = parameters.error_recovery_level if parameters is not None else 0
        for lost in list(self._lost):
            if level < 2 or lost.cid == fresh.cid:
                self._give(lost, fresh, level)
            else:
                request = session.logout_request(
                    LogoutReason.REMOVE_FOR_RECOVERY, lost.cid
                )
                then = partial(self._logged_out, lost, fresh)
                session.request(request, then, fresh)

    def _logged_out(
        self, lost: InitiatorConnection, fresh: InitiatorConnection, pdu: Any
    ) -> None:
        if pdu is not None:
            self._give(lost, fresh, 2 if pdu.response == 0 else 1)

    def _give(
        self, lost: InitiatorConnection, fresh: InitiatorConnection, level: int
    ) -> None:
        """
        Give the tasks of a lost connection to another.
        """
        if lost not in self._lost:
            return
        self._lost.remove(lost)
        session = self.session
        for task in [one for one in session.tasks.values() if one.connection is lost]:
            if self.unseen(task):
                self.retry(task, fresh)
            elif level < 2:
                # It ended with its connection (sections 6.3.4 and 6.3.6).
                del session.tasks[task.itt]
                task.end("its connection is lost")
            else:
                self.reassign(task, fresh)

    def reassign(self, task: InitiatorTask, fresh: InitiatorConnection) -> None:
        """
        Have a task go on at another connection (section 7.2.2).
        """
        self.counts["reassign"] += 1
        # What was not acknowledged comes again.
        begin = task.contiguous() if task.reads else 0
        task.forget_from(begin)
        task.connection = fresh
        request = self.session.task_management_request(
            TaskManagementCode.TASK_REASSIGN, tag=task.itt, exp_data_sn=begin
        )
        self.session.request(request, partial(self._reassigned, task), fresh)

    def _reassigned(self, task: InitiatorTask, pdu: Any) -> None:
        # Without an answer this connection is lost, too, and its tasks with it.
        if pdu is None or not pdu.response:
            return
        if self.session.tasks.pop(task.itt, None) is not None:
            task.end(f"it could not be reassigned (response {pdu.response})")
