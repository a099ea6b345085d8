# SPDX-License-Identifier: MIT
"""
RESERVE and RELEASE (SPC-2): the whole logical unit for one I_T nexus.

Reservations for a third party and of elements are refused: bits that are not in the
usage maps.
"""

from __future__ import annotations

from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet
from scstd.scsi.sam import Task
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()


@COMMANDS.command(0x16, "RESERVE(6)", "16 00 00 00 00 00", allow=Allow.NO_MEDIUM)
def reserve_6(unit: LogicalUnit, task: Task) -> None:
    """RESERVE(6) (SPC-2 section 7.21): the whole logical unit."""
    unit.reservation.reserve(task.itl)


@COMMANDS.command(
    0x17, "RELEASE(6)", "17 00 00 00 00 00", allow=Allow.RESERVED | Allow.NO_MEDIUM
)
def release_6(unit: LogicalUnit, task: Task) -> None:
    """RELEASE(6) (SPC-2 section 7.16)."""
    unit.reservation.release(task.itl)


@COMMANDS.command(
    0x56, "RESERVE(10)", "56 00 00 00 00 00 00 00 00 00", allow=Allow.NO_MEDIUM
)
def reserve_10(unit: LogicalUnit, task: Task) -> None:
    """RESERVE(10) (SPC-2 section 7.22)."""
    unit.reservation.reserve(task.itl)


@COMMANDS.command(
    0x57,
    "RELEASE(10)",
    "57 00 00 00 00 00 00 00 00 00",
    allow=Allow.RESERVED | Allow.NO_MEDIUM,
)
def release_10(unit: LogicalUnit, task: Task) -> None:
    """RELEASE(10) (SPC-2 section 7.17)."""
    unit.reservation.release(task.itl)
