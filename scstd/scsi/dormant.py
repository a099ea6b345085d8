# SPDX-License-Identifier: MIT
"""
A logical unit whose medium is not there, and that is not ready therefore: a device that
is closed on purpose (a standby node's), or one that could not be opened.

It has the names, reservations and mode pages of the device, so initiators find the LUN
where it was, and every command that needs the medium ends with LOGICAL UNIT NOT READY,
MANUAL INTERVENTION REQUIRED (SPC-5 annex F, 04/03).  When the medium is there another
unit takes its place.
"""

from __future__ import annotations

import attrs

from scstd.scsi.allow import Allow
from scstd.scsi.sam import ITL, Task
from scstd.scsi.sense import ASC, CheckCondition, SenseKey


@attrs.frozen(eq=False)
class Dormant:
    """
    The condition of such a unit, which nothing that initiators do lifts.
    """

    def check(self, task: Task, allow: Allow) -> None:
        """Stop what needs the medium."""
        if Allow.NO_MEDIUM not in allow:
            raise self.sense(task.itl)

    def sense(self, itl: ITL) -> CheckCondition:
        """Say that a person has to do something."""
        del itl
        return CheckCondition(SenseKey.NOT_READY, ASC.MANUAL_INTERVENTION_REQUIRED)
