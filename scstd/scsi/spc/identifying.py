# SPDX-License-Identifier: MIT
"""
Identifying information (SPC-5, REPORT and SET IDENTIFYING INFORMATION commands): what
an administrator writes on a logical unit, kept over restarts.
"""

from __future__ import annotations

from struct import pack

from twisted.internet.defer import Deferred

from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet, Outcome
from scstd.scsi.persistence import keep
from scstd.scsi.sam import Task
from scstd.scsi.sense import (
    ASC,
    illegal_field,
    illegal_parameter,
    list_length_error,
)
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

_TEXT = 0x02
_SUPPORTED = 0x7F

LENGTHS = {0x00: 512, _TEXT: 256}
"""By IDENTIFYING INFORMATION TYPE, the most bytes: of any kind, of text (UTF-8)."""

_KEY = "identifying"


class _Kept:
    """
    What is kept of a unit: hex digits by type.
    """

    def __init__(self, unit: LogicalUnit) -> None:
        kept = unit.memory.load().get(_KEY, {})
        self.digits = {str(kind): str(value) for kind, value in kept.items()}


def _kept(unit: LogicalUnit) -> dict[str, str]:
    return unit.part(_Kept).digits


@COMMANDS.command(
    0xA3,
    "REPORT IDENTIFYING INFORMATION",
    "a3 1f 00 00 00 00 ff ff ff ff fe 00",
    service_action=0x05,
    allow=Allow.ANY & ~Allow.ATTENTION & ~Allow.UNAVAILABLE,
)
def report_identifying_information(unit: LogicalUnit, task: Task) -> bytes:
    """REPORT IDENTIFYING INFORMATION: one, or which there may be."""
    kind, length = task.cdb[10] >> 1, int.from_bytes(task.cdb[6:10], "big")
    if kind == _SUPPORTED:
        body = b"".join(pack(">BxH", one << 1, most) for one, most in LENGTHS.items())
    elif kind in LENGTHS:
        body = bytes.fromhex(_kept(unit).get(str(kind), ""))
    else:
        raise illegal_field(10, 7)
    return (pack(">xxH", len(body)) + body)[:length]


def _given(unit: LogicalUnit, task: Task) -> int:
    """
    Return the Data-Out of SET IDENTIFYING INFORMATION, if it is one there may be.
    """
    del unit
    kind, length = task.cdb[10] >> 1, int.from_bytes(task.cdb[6:10], "big")
    if kind not in LENGTHS:
        raise illegal_field(10, 7)
    if length > LENGTHS[kind]:
        raise illegal_field(6, 7)
    return length


@COMMANDS.command(
    0xA4,
    "SET IDENTIFYING INFORMATION",
    "a4 1f 00 00 00 00 ff ff ff ff fe 00",
    service_action=0x06,
    allow=Allow.NO_MEDIUM | Allow.STANDBY,
    data_out=_given,
)
def set_identifying_information(unit: LogicalUnit, task: Task) -> Outcome:
    """
    SET IDENTIFYING INFORMATION: kept before it is answered; a length of zero takes it
    away.  Text is UTF-8 and ends with a NUL.
    """
    kind, data = task.cdb[10] >> 1, bytes(task.data_out)
    if len(data) < task.data_out_length:
        raise list_length_error()
    if kind == _TEXT and data:
        if data[-1]:
            raise illegal_parameter(len(data) - 1)
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise illegal_parameter(error.start) from None
    return unit.keeping.run(
        lambda: Deferred.fromCoroutine(_set(unit, task, str(kind), data.hex()))
    )


async def _set(unit: LogicalUnit, task: Task, kind: str, digits: str) -> None:
    kept = {**_kept(unit), kind: digits}
    if not digits:
        del kept[kind]
    await keep(unit, _KEY, kept)
    unit.part(_Kept).digits = kept
    unit.attention(ASC.DEVICE_IDENTIFIER_CHANGED, but=task.itl)
