# SPDX-License-Identifier: MIT
"""
Commands with Additional Header Segments, and among them those that move data in both
directions (RFC 7143 sections 11.2.2 and 11.3.1).

A bidirectional command collects its Data-Out as a write does.  Its Data-In never
carries the status: a SCSI Response tells both residuals.  R2Ts and Data-In share one
numbering (section 4.2.2.4).  The first command of this kind makes its connection answer
by `respond`; no other connection pays for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scstd.protocols.engine import response, retransmission
from scstd.protocols.wire.ahs import AHSError, ReservedTypeError, additions
from scstd.protocols.wire.codes import FINAL, READ, RESERVED_TAG, WRITE, RejectReason
from scstd.protocols.wire.pdu import SCSICommand, SCSIResponse
from scstd.scsi.command import wrong_direction
from scstd.scsi.sam import ITL, BidirectionalTask, Status, Task

if TYPE_CHECKING:
    from scstd.interfaces import Buffer
    from scstd.protocols.engine.connection import Connection

_BOTH = READ | WRITE


def task_of(connection: Connection, pdu: SCSICommand, itl: ITL) -> Task | None:
    """
    Return the task of a command with Additional Header Segments, or reject it.

    The segment that tells how much Data-In is expected and the R and W bits go
    together.
    """
    try:
        more = additions(bytes(pdu.ahs))
    except ReservedTypeError:
        refuse(connection, pdu, RejectReason.PROTOCOL_ERROR)
        return None
    except AHSError:
        refuse(connection, pdu)
        return None
    common = (
        itl,
        pdu.itt,
        pdu.flags & 0xF07,
        pdu.cdb + more.cdb,
        pdu.expected_data_transfer_length,
        connection.done,
        pdu,
    )
    both = pdu.flags & _BOTH == _BOTH
    if both != (more.expected_in is not None):
        refuse(connection, pdu)
        return None
    if more.expected_in is None:
        return Task(*common)
    prepare(connection)
    return BidirectionalTask(*common, expected_in_length=more.expected_in)


def refuse(
    connection: Connection,
    pdu: SCSICommand,
    reason: RejectReason = RejectReason.INVALID_PDU_FIELD,
) -> None:
    """
    Reject a command whose header contradicts itself; drop what data it announces.  It
    is as if it had not come: its CmdSN is not taken (section 7.3).
    """
    if connection.session is not None and not pdu.flags & FINAL:
        connection.session.writes.abandoned.add(pdu.itt, {RESERVED_TAG})
    connection.ordering.refuse(pdu)
    connection.reject(reason)


def take_back(connection: Connection, task: Task, pdu: SCSICommand) -> None:
    """
    Reject a command that has both bits and no segment; it is as if it had not come.
    """
    task.itl.unit.abort([task], lambda: None)
    if connection.session is not None:
        connection.session.uncount()
    # Its end has made room for another one, but it has taken none.
    connection.ordering.delayed(pdu)
    refuse(connection, pdu)


def check(task: Task) -> None:
    """
    See that a command which was sent as bidirectional, and has begun, is one.
    """
    if (
        isinstance(task, BidirectionalTask)
        and task.error is None
        and task.row is not None
        and not task.row.bidirectional
    ):
        task.error = wrong_direction()
        task.data_out_length = 0


def prepare(connection: Connection) -> None:
    """
    Have a connection answer bidirectional commands, too.
    """
    connection.respond_by(respond)


def respond(connection: Connection, task: Task, command: SCSICommand) -> None:
    """
    Answer any task, as `response.respond` and `retransmission.respond_recoverably` do.
    """
    if not isinstance(task, BidirectionalTask):
        respond_one_way = (
            response.respond
            if connection.recovery is None
            else retransmission.respond_recoverably
        )
        respond_one_way(connection, task, command)
        return
    data: Buffer = b""
    moved = returned = 0
    if task.status == Status.GOOD:
        data = task.data_in
        moved = task.data_out_length
        returned = len(data) if task.data_in_length < 0 else task.data_in_length
        data = memoryview(data)[: task.expected_in_length]
    flag, residual = response.residual_of(task.expected_length, moved)
    flag_in, residual_in = response.residual_of(task.expected_in_length, returned)
    # The o and u bits stand two places before O and U.
    flags = flag | flag_in << 2
    if connection.recovery is not None:
        connection.recovery.keep(
            command, task, data, flags, residual, bidirectional_residual=residual_in
        )
        return
    data_sn = response.send_pieces(
        connection, task, data, 0, 0, data_sn=command.r2ts, tail=0
    )
    sense = task.sense
    connection.send_pdu(
        SCSIResponse(
            flags=FINAL | flags,
            status=task.status,
            itt=task.tag,
            exp_data_sn=data_sn - command.r2ts,
            bidi_residual_count=residual_in,
            residual_count=residual,
            data=len(sense).to_bytes(2, "big") + sense if sense else b"",
        )
    )
