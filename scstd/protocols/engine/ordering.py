# SPDX-License-Identifier: MIT
"""
The order of commands: CmdSN over all the connections of a session (RFC 7143 section
4.2.2.1).

CmdSN belongs to the session: a command that comes early on one connection waits for one
that is still on its way on another, and its unsolicited Data-Out waits with it.  What
waits is bounded by the window; what is outside it, or has come before, is dropped
without a word.  A connection that goes takes what it had brought too early along: those
commands have not arrived, and their initiator sends them again with the same CmdSN
(section 7.2.1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs

from scstd.protocols.engine.phase import Phase
from scstd.protocols.wire.codes import FINAL, IMMEDIATE, RejectReason
from scstd.protocols.wire.pdu import DataOut, SCSICommand, TaskManagementRequest
from scstd.protocols.wire.serial import CommandWindow, less

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection
    from scstd.protocols.engine.requests import Row

IMMEDIATE_LIMIT = 64
"""
Immediate commands that may be in progress at once in a session, and as many immediate
task management functions beside them.  A connection always has room for one of each
(section 4.2.2.1), however many there are.
"""

MOST_FOLLOWING = 4096
"""Data-Out PDUs that may wait with one command."""


class Held(NamedTuple):
    """
    A PDU that came before its turn, and the connection on which it came.
    """

    connection: Connection
    run: Callable[[Connection, Any], None]
    pdu: Any
    header: bytes
    damaged: bool


def _skip(connection: Connection, _pdu: Any) -> None:
    connection.window.finished()


@attrs.define(eq=False)
class Ordering:
    """
    The commands of one session that have arrived, and those that wait.

    *immediate* counts the immediate ones in progress, *functions* those of task
    management; *late* are the task management functions that wait for the commands
    before them; *following* is the Data-Out of the held commands, by their CmdSN.
    """

    window: CommandWindow
    held: dict[int, Held] = attrs.field(factory=dict)
    following: dict[int, list[Held]] = attrs.field(factory=dict)
    late: list[tuple[Connection, TaskManagementRequest]] = attrs.field(factory=list)
    immediate: int = 0
    functions: int = 0

    def order(self, connection: Connection, row: Row, pdu: Any) -> None:
        """
        Run a PDU that has a CmdSN: now, when its turn comes, or never.
        """
        if connection.framer.data_digest_failed and (
            connection.recovery is not None or type(pdu) is not SCSICommand
        ):
            # It is as if it had not come (section 7.8); at level 0 a command fails.
            connection.reject(RejectReason.DATA_DIGEST_ERROR)
            return
        if pdu.first & IMMEDIATE:
            function = type(pdu) is TaskManagementRequest
            if (
                self.functions if function else self.immediate
            ) >= IMMEDIATE_LIMIT and not self._spares_one(connection, function):
                connection.reject(RejectReason.TOO_MANY_IMMEDIATE_COMMANDS)
                return
            self._count(pdu, 1)
            row.run(connection, pdu)
            return
        window = self.window
        if window.take(pdu.cmd_sn):
            row.run(connection, pdu)
            if self.held or self.late:
                self.catch_up()
        elif window.accepts(pdu.cmd_sn):
            framer = connection.framer
            self.held.setdefault(
                pdu.cmd_sn,
                Held(
                    connection, row.run, pdu, framer.header, framer.data_digest_failed
                ),
            )
        # Outside the window: silently ignored (section 4.2.2.1).

    def _spares_one(self, connection: Connection, function: bool) -> bool:
        """
        Say whether a connection has no immediate command, or function, in progress.
        """
        session = connection.session
        return session is not None and not session.has_immediate(
            connection, function=function
        )

    def follow(
        self,
        connection: Connection,
        run: Callable[[Connection, Any], None],
        pdu: DataOut,
    ) -> bool:
        """
        Keep unsolicited Data-Out until the turn of its command has come: then *run* is
        called with it.  Return False if it is of no command that waits, or too much.
        """
        for held in self.held.values():
            command = held.pdu
            if (
                held.connection is connection
                and held.run is not _skip
                and type(command) is SCSICommand
                and command.itt == pdu.itt
                and not command.flags & FINAL
            ):
                break
        else:
            return False
        there = self.following.setdefault(command.cmd_sn, [])
        # A burst has one end, and it is kept, though it be too long: then the command
        # fails when its turn has come, as any other.
        if there and there[-1].pdu.flags & FINAL:
            return False
        most = connection.parameters.first_burst_length
        size = sum(len(one.pdu.data) for one in there)
        if (len(there) < MOST_FOLLOWING and size <= most) or pdu.flags & FINAL:
            framer = connection.framer
            there.append(
                Held(connection, run, pdu, framer.header, framer.data_digest_failed)
            )
        return True

    def catch_up(self) -> None:
        """
        Run what waited for the CmdSN that has now arrived.
        """
        window = self.window
        self._manage()
        while window.exp_cmd_sn in self.held:
            held = self.held[window.exp_cmd_sn]
            if not window.take(window.exp_cmd_sn):
                break
            cmd_sn: int = held.pdu.cmd_sn
            del self.held[cmd_sn]
            following = self.following.pop(cmd_sn, [])
            connection = held.connection
            if connection.phase == Phase.OVER:
                # Its initiator has logged out: it is terminated with the others.
                window.finished()
            else:
                for one in (held, *following):
                    if not connection.over:
                        connection.current = one
                        one.run(connection, one.pdu)
                connection.current = None
                if not connection.receiving:
                    connection.wake()
            self._manage()

    def _manage(self) -> None:
        """
        Carry out the functions that waited, if all commands before them are there: not
        before, and before any command after them (section 4.2.3.3).
        """
        if not self.late:
            return
        exp_cmd_sn = self.window.exp_cmd_sn
        every, self.late = self.late, []
        for one in every:
            if less(exp_cmd_sn, one[1].cmd_sn):
                self.late.append(one)
        for connection, pdu in every:
            if not less(exp_cmd_sn, pdu.cmd_sn):
                connection.manage(pdu)

    def skip(self, connection: Connection, cmd_sn: int) -> None:
        """
        Count a command that has not arrived as arrived and over (it was aborted).
        """
        self.following.pop(cmd_sn, None)
        self.held[cmd_sn] = Held(
            connection, _skip, SCSICommand(cmd_sn=cmd_sn), b"", damaged=False
        )
        self.catch_up()

    def finished(self, pdu: Any) -> None:
        """
        Count a PDU with a CmdSN as over: the window opens, or an immediate one less.
        """
        if pdu.first & IMMEDIATE:
            self._count(pdu, -1)
        else:
            self.window.finished()

    def delayed(self, pdu: Any) -> None:
        """
        Take `finished` back for a PDU whose answer has to wait.
        """
        if pdu.first & IMMEDIATE:
            self._count(pdu, 1)
        else:
            self.window.owe()

    def refuse(self, pdu: Any) -> None:
        """
        Count a PDU that is being run as one that has not come, for it is rejected: its
        initiator fills the gap in CmdSN (section 7.3).
        """
        if pdu.first & IMMEDIATE:
            self._count(pdu, -1)
        else:
            self.window.give_back()

    def _count(self, pdu: Any, change: int) -> None:
        if type(pdu) is TaskManagementRequest:
            self.functions += change
        else:
            self.immediate += change

    def drop(self, connection: Connection) -> None:
        """
        Forget what a connection that is over has brought before its turn.
        """
        for cmd_sn, held in list(self.held.items()):
            # What was aborted before it came stays over, whoever said so.
            if held.connection is connection and held.run is not _skip:
                del self.held[cmd_sn]
                self.following.pop(cmd_sn, None)
        for late in list(self.late):
            if late[0] is connection:
                self.late.remove(late)
                self.functions -= 1
