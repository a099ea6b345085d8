# SPDX-License-Identifier: MIT
"""
The logical unit that is not there (SPC-5 section 6.7, SAM-5 section 5.11).

Commands to a LUN that maps to nothing go here: INQUIRY says that there is nothing,
REPORT LUNS says what there is, REQUEST SENSE and everything else that the LUN is not
supported.
"""

from __future__ import annotations

from typing import Any

from scstd.scsi.allow import Allow
from scstd.scsi.command import Command, CommandSet, Table, table
from scstd.scsi.sam import Task
from scstd.scsi.sense import ASC, CheckCondition, SenseKey, encode
from scstd.scsi.spc.inquiry import ABSENT, report_luns
from scstd.scsi.unit import LogicalUnit

_SET = CommandSet()


def _not_supported() -> CheckCondition:
    return CheckCondition(SenseKey.ILLEGAL_REQUEST, ASC.LOGICAL_UNIT_NOT_SUPPORTED)


@_SET.command(0x12, "INQUIRY", "12 01 ff ff ff 00", allow=Allow.ATTENTION)
def inquiry(unit: LogicalUnit, task: Task) -> bytes:  # noqa: ARG001
    """Qualifier 3, device type 1Fh: no device can be here."""
    if task.cdb[1] & 1:
        raise _not_supported()
    return ABSENT[: int.from_bytes(task.cdb[3:5], "big")]


@_SET.command(0x03, "REQUEST SENSE", "03 01 00 00 ff 00", allow=Allow.ATTENTION)
def request_sense(unit: LogicalUnit, task: Task) -> bytes:  # noqa: ARG001
    """The sense data that every other command gets."""
    sense = encode(_not_supported(), descriptor=bool(task.cdb[1] & 1))
    return sense[: task.cdb[4]]


_SET.command(
    0xA0, "REPORT LUNS", "a0 00 ff 00 00 00 ff ff ff ff 00 00", allow=Allow.ATTENTION
)(report_luns)


class _Absent(dict[int, Command | dict[int, Command]]):
    """A command table in which what is missing is LOGICAL UNIT NOT SUPPORTED."""

    def get(self, opcode: int, default: Any = None) -> Any:  # noqa: ARG002
        """Return the row of *opcode*."""
        row = super().get(opcode)
        if row is None:
            raise _not_supported()
        return row


_UNIT = LogicalUnit("absent")
_TABLE: Table = _Absent(table((_SET,), _UNIT))


def absent_unit() -> LogicalUnit:
    """
    Return a unit that stands for all LUNs of a target that map to nothing.
    """
    return LogicalUnit("absent", commands=_TABLE)
