# SPDX-License-Identifier: MIT
"""
The mode pages, as rows (SPC-5 section 7.5, SBC-4 section 6.5).

A field that can be changed acts: that is the rule.  What a disk made of software has no
use for (retries, retention priorities, idle timers) is zero and stays zero; TST stays
as it is configured, for tasks that are in a task set cannot change into another.
"""

from __future__ import annotations

from scstd.scsi.selftest import EXTENDED_SECONDS
from scstd.scsi.spc.mode import Field, ModePage, declare
from scstd.scsi.unit import LogicalUnit

HEADS, SECTORS = 64, 32
"""The geometry that is made up where one is asked for: a cylinder of 2048 blocks."""

ROTATION = 7200
"""Revolutions a minute of a medium that is said to rotate."""


_PROTOCOL = Field(2, 3, 4, of_protocol=True)
"""The protocol identifier (SPC-5, PROTOCOL IDENTIFIER field)."""


def _disk(unit: LogicalUnit) -> bool:
    return unit.device_type == 0


def _thin_disk(unit: LogicalUnit) -> bool:
    return _disk(unit) and unit.volume.thin


def cylinders(unit: LogicalUnit) -> int:
    """
    Return the cylinders that hold the whole medium, as far as three bytes count.
    """
    return min(-(-unit.blocks // (HEADS * SECTORS)), 0xFFFFFF)


def rotation(unit: LogicalUnit) -> int:
    """
    Return the MEDIUM ROTATION RATE: revolutions a minute, or 1 of one that does not.
    """
    return ROTATION if unit.rotational else 1


def threshold_exponent(unit: LogicalUnit) -> int:
    """
    Return the THRESHOLD EXPONENT of a thin unit whose store knows its space: resources
    are counted by the MiB; else 0.
    """
    if not (unit.volume.thin and unit.volume.can.space):
        return 0
    return 20 - unit.block_shift


declare(
    ModePage(0x01, "Read-Write Error Recovery", 0x0A, exists=_disk),
    ModePage(0x02, "Disconnect-Reconnect", 0x0E),
    ModePage(
        0x03,
        "Format Device",
        0x16,
        (
            Field(2, 7, 16, value=HEADS),  # TRACKS PER ZONE: a cylinder
            Field(10, 7, 16, value=SECTORS),
            # 65536 does not fit, and is not said.
            Field(12, 7, 16, value=lambda unit: unit.block_size & 0xFFFF),
            Field(14, 7, 16, value=1),  # INTERLEAVE
            Field(20, 6, 1, value=1),  # HSEC
            Field(20, 5, 1, value=lambda unit: unit.removable),  # RMB
        ),
        exists=_disk,
    ),
    ModePage(
        0x04,
        "Rigid Disk Geometry",
        0x16,
        (
            Field(2, 7, 24, value=cylinders),
            Field(5, 7, 8, value=HEADS),
            Field(20, 7, 16, value=rotation),
        ),
        exists=_disk,
    ),
    ModePage(0x07, "Verify Error Recovery", 0x0A, exists=_disk),
    ModePage(
        0x08,
        "Caching",
        0x12,
        (
            Field(
                2,
                2,
                1,
                "write_cache",
                changeable=lambda unit: not unit.volume.can.write_through,
            ),
        ),
        exists=_disk,
    ),
    ModePage(
        0x0A,
        "Control",
        0x0A,
        (
            Field(2, 7, 3, "separate_task_sets"),  # TST
            Field(2, 4, 1, "tmf_only", changeable=True),  # TMF_ONLY
            Field(2, 2, 1, "descriptor_sense", changeable=True),  # D_SENSE
            Field(2, 1, 1, value=1),  # GLTSD: log parameters are not saved
            # QUEUE ALGORITHM MODIFIER: restricted or unrestricted reordering
            Field(3, 7, 4, "queue_algorithm", changeable=True, allowed=(0, 1)),
            Field(3, 2, 2, "queue_error", changeable=True, allowed=(0, 1, 3)),  # QERR
            Field(4, 3, 1, "software_write_protect", changeable=True),  # SWP
            Field(5, 6, 1, "task_aborted_status", changeable=True),  # TAS
            Field(10, 7, 16, value=EXTENDED_SECONDS),
        ),
    ),
    ModePage(
        0x0A,
        "Control Extension",
        0x1C,
        (
            Field(4, 2, 1, value=1),  # TCMOS: the host's clock is set by others
            Field(4, 1, 1, value=1),  # SCSIP: but SET TIMESTAMP takes precedence
        ),
        subpage=0x01,
    ),
    ModePage(
        0x18,
        "Protocol Specific Logical Unit",
        0x06,
        (_PROTOCOL,),
    ),
    ModePage(0x19, "Protocol Specific Port", 0x06, (_PROTOCOL,)),
    ModePage(0x1A, "Power Condition", 0x26),
    ModePage(
        0x1C,
        "Informational Exceptions Control",
        0x0A,
        (Field(2, 3, 1, value=1),),  # DEXCPT: none are reported
    ),
    ModePage(0x1C, "Logical Block Provisioning", 0x0C, subpage=0x02, exists=_thin_disk),
)
