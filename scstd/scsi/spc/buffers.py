# SPDX-License-Identifier: MIT
"""
READ BUFFER and WRITE BUFFER (SPC-5, READ BUFFER and WRITE BUFFER commands): memory of
the device that initiators test the way to it with.

There is one data buffer for all, and an echo buffer for each I_T nexus, so that nobody
else can overwrite it: that is what EBOS says, for ECHO BUFFER OVERWRITTEN never has
to.  BUFFER ID and BUFFER OFFSET mean nothing there, and are not looked at.  There is no
microcode to download, and no error history.
"""

from __future__ import annotations

from struct import pack

from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet
from scstd.scsi.sam import Task
from scstd.scsi.sense import (
    ASC,
    CheckCondition,
    SenseKey,
    illegal_field,
    list_length_error,
)
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

CAPACITY = 65536
"""Bytes of the data buffer, number 0."""

ECHO_CAPACITY = 4096
"""Bytes of an echo buffer."""

_ECHO_BUFFER = pack(">BxH", 0x01, ECHO_CAPACITY)
"""The descriptor of an echo buffer: EBOS, and its capacity."""

_DATA, _DESCRIPTOR, _ECHO, _ECHO_DESCRIPTOR = 0x02, 0x03, 0x0A, 0x0B
"""Modes; every other one is refused."""

_ALLOW = Allow.READY | Allow.STANDBY | Allow.UNAVAILABLE


class _DataBuffer(bytearray):
    """
    The data buffer of a unit, which is there from when it is first used.
    """

    def __init__(self, _unit: LogicalUnit) -> None:
        super().__init__(CAPACITY)


@COMMANDS.command(
    0x3C,
    "READ BUFFER(10)",
    "3c 1f ff ff ff ff ff ff ff 00",
    allow=_ALLOW | Allow.WRITE_EXCLUSIVE,
)
def read_buffer(unit: LogicalUnit, task: Task) -> bytes:
    """READ BUFFER(10): data, echo buffer, and the descriptor of each."""
    cdb = task.cdb
    mode, number = cdb[1] & 0x1F, cdb[2]
    offset, length = (int.from_bytes(cdb[at : at + 3], "big") for at in (3, 6))
    if mode == _DATA:
        _check_place(number, offset, 0)
        return bytes(unit.part(_DataBuffer)[offset : offset + length])
    if offset and mode in {_DESCRIPTOR, _ECHO_DESCRIPTOR}:
        raise illegal_field(3, 7)
    if mode == _DESCRIPTOR:
        # OFFSET BOUNDARY 0: any byte; a buffer that is not there has no capacity.
        capacity = 0 if number else CAPACITY
        return capacity.to_bytes(4, "big")[:length]
    if mode == _ECHO_DESCRIPTOR:
        return _ECHO_BUFFER[:length]
    if mode != _ECHO:
        raise illegal_field(1, 4)
    if task.itl.echo_buffer is None:
        raise CheckCondition(SenseKey.ILLEGAL_REQUEST, ASC.COMMAND_SEQUENCE_ERROR)
    return task.itl.echo_buffer[:length]


def _check_place(number: int, offset: int, length: int) -> None:
    if number:
        raise illegal_field(2, 7)
    if offset > CAPACITY:
        raise illegal_field(3, 7)
    if offset + length > CAPACITY:
        raise illegal_field(6, 7)


def _written(unit: LogicalUnit, task: Task) -> int:
    """
    Return the Data-Out of WRITE BUFFER, of which nothing is taken in that is refused.
    """
    del unit
    cdb = task.cdb
    mode, offset, length = (
        cdb[1] & 0x1F,
        int.from_bytes(cdb[3:6], "big"),
        int.from_bytes(cdb[6:9], "big"),
    )
    if mode == _DATA:
        _check_place(cdb[2], offset, length)
    elif mode == _ECHO:
        if length > ECHO_CAPACITY:
            raise illegal_field(6, 7)
    else:
        raise illegal_field(1, 4)
    return length


@COMMANDS.command(
    0x3B,
    "WRITE BUFFER",
    "3b 1f ff ff ff ff ff ff ff 00",
    allow=_ALLOW,
    data_out=_written,
)
def write_buffer(unit: LogicalUnit, task: Task) -> None:
    """WRITE BUFFER: data and echo buffer; there is no microcode to replace."""
    data = bytes(task.data_out)
    if len(data) < task.data_out_length:
        raise list_length_error()
    if task.cdb[1] & 0x1F == _ECHO:
        task.itl.echo_buffer = data
        return
    offset = int.from_bytes(task.cdb[3:6], "big")
    unit.part(_DataBuffer)[offset : offset + len(data)] = data
