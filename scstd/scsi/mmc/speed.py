# SPDX-License-Identifier: MIT
"""
How fast it reads (MMC-6): SET CD SPEED, SET STREAMING, GET PERFORMANCE, SET
READ AHEAD.

The drive has one speed, what the network and the file allow, and says one that no
player finds too slow.  What initiators ask for is taken, and changes nothing.
"""

from __future__ import annotations

from struct import pack, unpack_from

from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet, list_out
from scstd.scsi.sam import Task
from scstd.scsi.sense import illegal_field, illegal_parameter, list_length_error
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

KILOBYTES = 22160
"""What it says it reads, in units of 1000 bytes a second: a DVD at 16 times."""

_READS = Allow.WRITE_EXCLUSIVE


@COMMANDS.command(
    0xBB, "SET CD SPEED", "bb 03 ff ff ff ff 00 00 00 00 00 00", allow=Allow.NO_MEDIUM
)
def set_cd_speed(unit: LogicalUnit, task: Task) -> None:
    """SET CD SPEED (MMC-6): a wish."""
    del unit
    if task.cdb[1] & 3 > 1:
        raise illegal_field(1, 1)


@COMMANDS.command(
    0xA7, "SET READ AHEAD", "a7 00 ff ff ff ff ff ff ff ff 00 00", allow=_READS
)
def set_read_ahead(unit: LogicalUnit, task: Task) -> None:
    """SET READ AHEAD (MMC-6): the operating system's is good enough."""
    for at in (2, 6):
        if int.from_bytes(task.cdb[at : at + 4], "big") >= unit.blocks:
            raise illegal_field(at, 7)


@COMMANDS.command(
    0xB6,
    "SET STREAMING",
    "b6 00 00 00 00 00 00 00 ff ff ff 00",
    data_out=list_out(9, 2),
    allow=_READS,
)
def set_streaming(unit: LogicalUnit, task: Task) -> None:
    """SET STREAMING (MMC-6): one performance descriptor, a wish."""
    del unit
    if task.cdb[8]:
        raise illegal_field(8, 7)
    if not task.data_out_length:
        return
    if len(task.data_out) < 28:
        raise list_length_error()
    data = bytes(task.data_out)
    restore, exact = data[0] & 0x04, data[0] & 0x02
    size, time = unpack_from(">II", data, 12)
    if restore or not exact:
        return
    # EXACT: just that, or an error.
    if not time or size * 1000 > KILOBYTES * time:
        raise illegal_parameter(12)


@COMMANDS.command(
    0xAC,
    "GET PERFORMANCE",
    "ac 1f ff ff ff ff 00 00 ff ff ff 00",
    allow=_READS,
)
def get_performance(unit: LogicalUnit, task: Task) -> bytes:
    """
    GET PERFORMANCE (MMC-6): of type 00h, reading, the same everywhere; there are no
    exceptions, and no speeds of writing.
    """
    cdb = task.cdb
    if cdb[10]:
        raise illegal_field(10, 7)
    tolerance, write, except_ = cdb[1] >> 3 & 3, cdb[1] & 4, cdb[1] & 3
    if tolerance != 2:
        raise illegal_field(1, 4)
    if write:
        raise illegal_field(1, 2)
    if except_ == 3:
        raise illegal_field(1, 1)
    if except_:
        return pack(">IBxxx", 4, 1)
    first, most = unpack_from(">I", cdb, 2)[0], unpack_from(">H", cdb, 8)[0]
    if first >= unit.blocks:
        raise illegal_field(2, 7)
    last = unit.blocks - 1
    body = pack(">IIII", first, KILOBYTES, last, KILOBYTES) if most else b""
    return pack(">IBxxx", 20, 0) + body
