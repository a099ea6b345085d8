# SPDX-License-Identifier: MIT
"""
Whether the unit is ready, and what it has to say (SPC-5 section 6): TEST UNIT READY,
REQUEST SENSE.
"""

from __future__ import annotations

from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet
from scstd.scsi.sam import Task
from scstd.scsi.sense import ASC, CheckCondition, SenseKey, encode
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()


@COMMANDS.command(0x00, "TEST UNIT READY", "00 00 00 00 00 00", allow=Allow.PERSISTENT)
def test_unit_ready(unit: LogicalUnit, task: Task) -> None:
    """TEST UNIT READY (SPC-5 section 6.47)."""


@COMMANDS.command(
    0x03,
    "REQUEST SENSE",
    "03 01 00 00 ff 00",
    allow=Allow.ANY,
)
def request_sense(unit: LogicalUnit, task: Task) -> bytes:
    """
    REQUEST SENSE (SPC-5 section 6.39).

    Sense data travels with its status (autosense), so there is none to ask for but a
    pending unit attention, which is reported here, and no more afterwards, and what
    keeps the unit from being ready.
    """
    said = CheckCondition(SenseKey.NO_SENSE, ASC.NO_ADDITIONAL_SENSE_INFORMATION)
    if task.itl.attentions:
        attention = task.itl.attentions.pop(0)
        said = CheckCondition(SenseKey.UNIT_ATTENTION, attention.asc)
    else:
        for condition in unit.conditions:
            found = condition.sense(task.itl)
            if found is not None:
                said = found
                break
    return encode(said, descriptor=bool(task.cdb[1] & 1))[: task.cdb[4]]
