# SPDX-License-Identifier: MIT
"""
Answers: a finished task cut into Data-In PDUs and a SCSI Response.

Data-In PDUs are as long as the initiator takes (its MaxRecvDataSegmentLength, but no
more than MaxBurstLength) and end a sequence at each MaxBurstLength; GOOD status rides
on the last one (RFC 7143 section 11.7.3).  Sense data, and any other status, goes in a
SCSI Response.

A residual is the difference between what the initiator expected to transfer and what
the command transferred (RFC 7143 section 11.4.5.1): counted from the command's whole
length, also when less was moved because less was expected.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from scstd.interfaces import Buffer
from scstd.protocols.wire.codes import (
    FINAL,
    OVERFLOW,
    READ,
    RESERVED_TAG,
    STATUS,
    UNDERFLOW,
    WRITE,
)
from scstd.protocols.wire.pdu import DataIn, SCSICommand, SCSIResponse
from scstd.scsi.sam import Status, Task

if TYPE_CHECKING:
    from scstd.protocols.engine.connection import Connection

_DATA_IN = DataIn.layout.pack
_RESPONSE = SCSIResponse.layout.pack
_GOOD = Status.GOOD

_MANY = 64
"""Data-In PDUs of one answer that are made at once."""

_MUCH = 1 << 20
"""Bytes of one answer that are sent at once."""


def residual_of(expected: int, length: int) -> tuple[int, int]:
    """
    Return (flag, residual count) for *expected* bytes and a command of *length*.
    """
    if length == expected:
        return 0, 0
    if length > expected:
        return OVERFLOW, length - expected
    return UNDERFLOW, expected - length


def respond(connection: Connection, task: Task, command: SCSICommand) -> None:
    """
    Append the whole answer to *task* to the connection's output.
    """
    flags = command.flags
    data = task.data_in
    if task.status != _GOOD:
        # Nothing counts as transferred; more than was expected is said all the same.
        length = task.data_out_length
        expected = task.expected_length
        data_sn = 0
        if data and flags & READ:
            # A device that takes whole commands: a tape has read a shorter block, say.
            length = len(data)
            data_sn = send_pieces(connection, task, data, 0, 0, tail=0)
        elif length <= expected:
            length = 0
        flag, residual = residual_of(expected, length)
        _respond(connection, task, flag, residual, data_sn)
    elif flags & READ:
        length = task.data_in_length
        if length < 0:
            length = len(data)
        flag, residual = residual_of(task.expected_length, length)
        if flag == OVERFLOW and len(data) > task.expected_length:
            data = memoryview(data)[: task.expected_length]
        if data:
            _send_data(connection, task, data, flag, residual)
        else:
            _respond(connection, task, flag, residual)
    else:
        expected = task.expected_length if flags & WRITE else 0
        length = task.data_out_length or max(task.data_in_length, len(data))
        flag = residual = 0
        if length != expected:
            flag, residual = residual_of(expected, length)
        _respond(connection, task, flag, residual)


def _respond(
    connection: Connection, task: Task, flag: int, residual: int, exp_data_sn: int = 0
) -> None:
    """
    Send a SCSI Response: behind so many Data-In PDUs, of those without status (section
    11.4.8, ExpDataSN).
    """
    sense = task.sense
    if sense:
        sense = len(sense).to_bytes(2, "big") + sense
    window = connection.window
    stat_sn = connection.stat_sn
    connection.stat_sn = (stat_sn + 1) & 0xFFFFFFFF
    header = _RESPONSE(
        0x21,
        FINAL | flag,
        0,
        task.status,
        len(sense),
        task.tag,
        0,
        stat_sn,
        window.exp_cmd_sn,
        window.max_cmd_sn,
        exp_data_sn,
        0,
        residual,
    )
    connection.send(header, sense)


def _send_data(
    connection: Connection, task: Task, data: Buffer, flag: int, residual: int
) -> None:
    window = connection.window
    parameters = connection.parameters
    longest = parameters.longest_data_in
    length = len(data)
    if length <= longest:
        # The usual case, one PDU: written out.
        stat_sn = connection.stat_sn
        connection.stat_sn = (stat_sn + 1) & 0xFFFFFFFF
        connection.send(
            _DATA_IN(
                0x25,
                FINAL | STATUS | flag,
                0,
                length,
                0,
                task.tag,
                RESERVED_TAG,
                stat_sn,
                window.exp_cmd_sn,
                window.max_cmd_sn,
                0,
                0,
                residual,
            ),
            data,
        )
        return
    if (length > _MUCH or length > _MANY * longest) and connection.recovery is None:
        pieces = _pieces(connection, task, data, flag, residual)
        connection.send_in_parts(pieces, length)
    else:
        send_pieces(connection, task, data, flag, residual)


def send_pieces(
    connection: Connection,
    task: Task,
    data: Buffer,
    flag: int,
    residual: int,
    *,
    data_sn: int = 0,
    tail: int = STATUS,
) -> int:
    """
    Send Data-In as the initiator takes it, numbered from *data_sn* on; return the
    number after the last.  The status goes with the last PDU, unless *tail* is 0.
    """
    send = connection.send
    for header, piece in _pieces(
        connection, task, data, flag, residual, data_sn=data_sn, tail=tail
    ):
        send(header, piece)
        data_sn += 1
    return data_sn


def _pieces(
    connection: Connection,
    task: Task,
    data: Buffer,
    flag: int,
    residual: int,
    *,
    data_sn: int = 0,
    tail: int = STATUS,
) -> Iterator[tuple[bytes, Buffer]]:
    """
    Return the PDUs that `send_pieces` sends, header and data of each, numbered as the
    connection is now.
    """
    window, parameters = connection.window, connection.parameters
    tail |= flag
    return _cut(
        data,
        (parameters.longest_data_in, parameters.max_burst_length),
        (task.tag, RESERVED_TAG),
        (window.exp_cmd_sn, window.max_cmd_sn),
        data_sn,
        (tail, connection.next_stat_sn() if tail else 0, residual),
    )


def _cut(
    data: Buffer,
    limits: tuple[int, int],
    tags: tuple[int, int],
    numbers: tuple[int, int],
    data_sn: int,
    end_of_all: tuple[int, int, int],
) -> Iterator[tuple[bytes, Buffer]]:
    longest, max_burst = limits
    length = len(data)
    view = memoryview(data)
    tail, stat_sn, residual = end_of_all
    at = 0
    while at < length:
        # A sequence ends at each multiple of MaxBurstLength.
        end = min(at + longest, length, (at // max_burst + 1) * max_burst)
        bits = 0 if end % max_burst else FINAL
        size = end - at
        if end == length:
            bits = FINAL | tail
            last = stat_sn, *numbers, data_sn, at, residual
        else:
            last = 0, *numbers, data_sn, at, 0
        yield _DATA_IN(0x25, bits, 0, size, 0, *tags, *last), view[at:end]
        at = end
        data_sn += 1
