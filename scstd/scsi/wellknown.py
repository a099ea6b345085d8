# SPDX-License-Identifier: MIT
"""
The REPORT LUNS well known logical unit (SPC-5, well known logical units): the LUN that
an initiator can ask for the others, whatever LUNs there are.

It has the four commands that it must have, and no medium.
"""

from __future__ import annotations

from scstd.scsi.command import CommandSet, table
from scstd.scsi.spc import inquiry, ready, vpd
from scstd.scsi.unit import LogicalUnit

REPORT_LUNS = 0xC101 << 48
"""Its LUN field: extended addressing, well known logical unit (SAM-5 section 4.7)."""

_SETS: tuple[CommandSet, ...] = (inquiry.COMMANDS, ready.COMMANDS)


def well_known_unit() -> LogicalUnit:
    """
    Return the well known logical unit of one target.
    """
    unit = LogicalUnit("REPORT LUNS", device_type=vpd.WELL_KNOWN, product="REPORT LUNS")
    unit.commands.update(table(_SETS, unit))
    return unit
