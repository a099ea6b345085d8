# SPDX-License-Identifier: MIT
"""
Diagnostics (SPC-5 section 6): SEND DIAGNOSTIC.
"""

from __future__ import annotations

from scstd.scsi.command import Allow, CommandSet
from scstd.scsi.sam import Task
from scstd.scsi.sense import illegal_field
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()


@COMMANDS.command(0x1D, "SEND DIAGNOSTIC", "1d 04 00 00 00 00", allow=Allow.STANDBY)
def send_diagnostic(unit: LogicalUnit, task: Task) -> None:  # noqa: ARG001
    """SEND DIAGNOSTIC (SPC-5 section 6.43): the default self-test, which passes."""
    if not task.cdb[1] & 4:
        raise illegal_field(1, 2)
