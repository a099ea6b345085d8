# SPDX-License-Identifier: MIT
"""
The mode pages, as rows (SPC-5 section 7.5, SBC-4 section 6.5).
"""

from __future__ import annotations

from scstd.scsi.spc.mode import Field, ModePage, declare
from scstd.scsi.unit import LogicalUnit


def _disk(unit: LogicalUnit) -> bool:
    return unit.device_type == 0


declare(
    ModePage(0x01, "Read-Write Error Recovery", 0x0A),
    ModePage(0x02, "Disconnect-Reconnect", 0x0E),
    ModePage(
        0x08,
        "Caching",
        0x12,
        (Field(2, 2, 1, "write_cache", changeable=True),),
        exists=_disk,
    ),
    ModePage(
        0x0A,
        "Control",
        0x0A,
        (
            Field(2, 7, 3, "separate_task_sets"),
            Field(2, 2, 1, "descriptor_sense", changeable=True),
            Field(3, 7, 4, value=1),  # QUEUE ALGORITHM: unrestricted reordering
            Field(4, 3, 1, "software_write_protect", changeable=True),
            Field(5, 6, 1, "task_aborted_status", changeable=True),
        ),
    ),
    ModePage(0x1C, "Informational Exceptions Control", 0x0A),
)
