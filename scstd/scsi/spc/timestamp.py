# SPDX-License-Identifier: MIT
"""
The device's clock (SPC-5, Device clocks): REPORT TIMESTAMP and SET TIMESTAMP.

It is the host's clock (the target's owner injects it: `LogicalUnit.clock`), until an
initiator sets it; then it runs on from what was set until the device is opened again,
whatever becomes of the host's.
"""

from __future__ import annotations

from struct import pack

from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet, list_out
from scstd.scsi.sam import Task
from scstd.scsi.sense import ASC, illegal_parameter, list_length_error
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

_SET, _OUTSIDE = 0x2, 0x3
"""TIMESTAMP ORIGIN: by SET TIMESTAMP; by a method outside of the standard."""

_LENGTH = 12


def _has_clock(unit: LogicalUnit) -> bool:
    return unit.clock is not None


class _Offset:
    """
    What SET TIMESTAMP has added to the clock that nobody sets, if it has come.
    """

    def __init__(self, _unit: LogicalUnit) -> None:
        self.seconds: float | None = None


@COMMANDS.command(
    0xA3,
    "REPORT TIMESTAMP",
    "a3 1f 00 00 00 00 ff ff ff ff 00 00",
    service_action=0x0F,
    allow=Allow.ANY & ~Allow.ATTENTION & ~Allow.UNAVAILABLE,
    exists=_has_clock,
)
def report_timestamp(unit: LogicalUnit, task: Task) -> bytes:
    """REPORT TIMESTAMP: milliseconds since 1970, as 48 bits."""
    assert unit.clock is not None
    assert unit.steady is not None
    offset = unit.part(_Offset).seconds
    since = unit.clock() if offset is None else unit.steady() + offset
    now = int(since * 1000) & 0xFFFFFFFFFFFF
    origin = _OUTSIDE if offset is None else _SET
    data = pack(">HBx6sxx", _LENGTH - 2, origin, now.to_bytes(6, "big"))
    return data[: int.from_bytes(task.cdb[6:10], "big")]


@COMMANDS.command(
    0xA4,
    "SET TIMESTAMP",
    "a4 1f 00 00 00 00 ff ff ff ff 00 00",
    service_action=0x0F,
    allow=Allow.READY,
    data_out=list_out(6, 4),
    exists=_has_clock,
)
def set_timestamp(unit: LogicalUnit, task: Task) -> None:
    """SET TIMESTAMP; the others are told."""
    assert unit.steady is not None
    data = bytes(task.data_out)
    if not task.data_out_length:
        return
    if len(data) < _LENGTH:
        raise list_length_error()
    for at in (0, 1, 2, 3, 10, 11):
        if data[at]:
            raise illegal_parameter(at)
    given = int.from_bytes(data[4:10], "big") / 1000
    unit.part(_Offset).seconds = given - unit.steady()
    unit.attention(ASC.TIMESTAMP_CHANGED, but=task.itl)
