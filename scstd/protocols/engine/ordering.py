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
from scstd.protocols.wire.framing import own
from scstd.protocols.wire.pdu import DataOut, SCSICommand, TaskManagementRequest
from scstd.protocols.wire.serial import CommandWindow, less

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection
    from scstd.protocols.engine.dispatch import DispatchRow

IMMEDIATE_LIMIT = 64
"""
Immediate commands that may be in progress at once in a session, and as many immediate
task management functions beside them.  A connection always has room for one of each
(section 4.2.2.1), however many there are.
"""

MAX_EARLY_DATA_OUT = 1024
"""Data-Out PDUs that may wait with one command."""

HELD_BUDGET = 32 << 20
"""
Bytes that may wait with the commands of a session; of more than that it is as if it had
not come, or been damaged.
"""

_PDU_COST = 512
"""Bytes that a PDU takes beside its data."""


class HeldPDU(NamedTuple):
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
class EarlyDataOut:
    """
    Unsolicited Data-Out that waits with its command: *size* is the sum of its data,
    *cost* what it takes.
    """

    pieces: list[HeldPDU] = attrs.field(factory=list)
    size: int = 0
    cost: int = 0

    @property
    def whole(self) -> bool:
        """Whether the burst has ended."""
        return bool(self.pieces) and bool(self.pieces[-1].pdu.flags & FINAL)

    def add(self, piece: HeldPDU) -> int:
        """
        Keep one more; return what that takes.
        """
        length = len(piece.pdu.data)
        self.pieces.append(piece)
        self.size += length
        self.cost += length + _PDU_COST
        return length + _PDU_COST


def _kept(
    connection: Connection, run: Callable[[Connection, Any], None], pdu: Any
) -> HeldPDU:
    """
    Return a PDU as what may be kept until its turn.
    """
    pdu.data = own(pdu.data)
    return HeldPDU(
        connection, run, pdu, connection.header, connection.data_digest_failed
    )


@attrs.define(eq=False)
class Ordering:
    """
    The commands of one session that have arrived, and those that wait.
    """

    window: CommandWindow
    held: dict[int, HeldPDU] = attrs.field(factory=dict)
    """PDUs that came before their turn, by CmdSN."""
    early_data_out: dict[int, EarlyDataOut] = attrs.field(factory=dict)
    """The Data-Out of the held commands, by their CmdSN."""
    held_bytes: int = 0
    """What all that waits takes."""
    _announced: dict[int, HeldPDU] = attrs.field(factory=dict)
    """The held commands that have Data-Out behind them, by Initiator Task Tag."""
    deferred: list[tuple[Connection, TaskManagementRequest]] = attrs.field(factory=list)
    """Task management functions that wait for the commands before them."""
    immediate: int = 0
    """How many immediate commands are in progress."""
    functions: int = 0
    """How many immediate task management functions are."""

    def order(self, connection: Connection, row: DispatchRow, pdu: Any) -> None:
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
            if self.held or self.deferred:
                self.catch_up()
        elif window.accepts(pdu.cmd_sn):
            self._hold(connection, row.run, pdu)
        # Outside the window: silently ignored (section 4.2.2.1).

    def _hold(
        self, connection: Connection, run: Callable[[Connection, Any], None], pdu: Any
    ) -> None:
        """
        Keep a PDU that came early until its turn.
        """
        if pdu.cmd_sn in self.held:
            return
        if self.held_bytes + len(pdu.data) > HELD_BUDGET:
            connection.reject(RejectReason.DATA_DIGEST_ERROR)
            return
        held = _kept(connection, run, pdu)
        self.held[pdu.cmd_sn] = held
        self.held_bytes += len(pdu.data)
        if type(pdu) is SCSICommand and not pdu.flags & FINAL:
            self._announced.setdefault(pdu.itt, held)

    def _take_out(self, cmd_sn: int) -> tuple[HeldPDU | None, list[HeldPDU]]:
        """
        Take out what was held as *cmd_sn*, and the Data-Out that follows it.
        """
        held = self.held.pop(cmd_sn, None)
        following = self.early_data_out.pop(cmd_sn, None) or EarlyDataOut()
        self.held_bytes -= following.cost
        if held is not None:
            self.held_bytes -= len(held.pdu.data)
            tag = held.pdu.itt
            if self._announced.get(tag) is held:
                del self._announced[tag]
        return held, following.pieces

    def _spares_one(self, connection: Connection, function: bool) -> bool:
        """
        Say whether a connection has no immediate command, or function, in progress.
        """
        session = connection.session
        return session is not None and not session.has_immediate(
            connection, function=function
        )

    def hold_data_out(
        self,
        connection: Connection,
        run: Callable[[Connection, Any], None],
        pdu: DataOut,
    ) -> bool:
        """
        Keep unsolicited Data-Out until the turn of its command has come: then *run* is
        called with it.  Return False if it is of no command that waits, or too much.
        """
        held = self._announced.get(pdu.itt)
        if held is None or held.connection is not connection:
            return False
        there = self.early_data_out.setdefault(held.pdu.cmd_sn, EarlyDataOut())
        # A burst has one end, and it is kept, though it be too long: then the command
        # fails when its turn has come, as any other.
        if there.whole:
            return False
        room = (
            len(there.pieces) < MAX_EARLY_DATA_OUT
            and there.size <= connection.parameters.first_burst_length
            and self.held_bytes < HELD_BUDGET
        )
        if room or pdu.flags & FINAL:
            self.held_bytes += there.add(_kept(connection, run, pdu))
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
            _held, following = self._take_out(held.pdu.cmd_sn)
            connection = held.connection
            if connection.phase == Phase.OVER:
                # Its initiator has logged out: it is terminated with the others.
                window.finished()
            else:
                for one in (held, *following):
                    if not connection.over:
                        with connection.being_run(one):
                            one.run(connection, one.pdu)
                if not connection.receiving:
                    connection.wake()
            self._manage()

    def _manage(self) -> None:
        """
        Carry out the functions that waited, if all commands before them are there: not
        before, and before any command after them (section 4.2.3.3).
        """
        if not self.deferred:
            return
        exp_cmd_sn = self.window.exp_cmd_sn
        every, self.deferred = self.deferred, []
        for one in every:
            if less(exp_cmd_sn, one[1].cmd_sn):
                self.deferred.append(one)
        for connection, pdu in every:
            if not less(exp_cmd_sn, pdu.cmd_sn):
                connection.manage(pdu)

    def skip(self, connection: Connection, cmd_sn: int) -> None:
        """
        Count a command that has not arrived as arrived and over (it was aborted).
        """
        self._take_out(cmd_sn)
        self.held[cmd_sn] = HeldPDU(
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
                self._take_out(cmd_sn)
        for late in list(self.deferred):
            if late[0] is connection:
                self.deferred.remove(late)
                self.functions -= 1
