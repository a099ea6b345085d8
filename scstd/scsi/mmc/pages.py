# SPDX-License-Identifier: MIT
"""
The mode pages of CD/DVD devices, as rows (MMC-6).

Of the pages of older standards there are those that Linux and Windows look at: 2Ah
(capabilities), and 0Dh, which says how seconds are counted.
"""

from __future__ import annotations

import attrs

from scstd.scsi import removable
from scstd.scsi.mmc.speed import KILOBYTES
from scstd.scsi.spc import pages
from scstd.scsi.spc.mode import PAGES, Field, ModePage, declare
from scstd.scsi.unit import LogicalUnit

__all__ = ["pages"]  # which declares the page that drives have like disks


def _cdrom(unit: LogicalUnit) -> bool:
    return unit.device_type == 0x05


def _locked(unit: LogicalUnit) -> int:
    return bool(removable.preventing(unit))


_RECOVERY = PAGES[0x01, 0]

declare(
    attrs.evolve(_RECOVERY, exists=lambda unit: _cdrom(unit) or _RECOVERY.exists(unit)),
    ModePage(
        0x0D,
        "CD Device Parameters",
        0x06,
        (Field(4, 7, 16, value=60), Field(6, 7, 16, value=75)),
        exists=_cdrom,
    ),
    ModePage(0x1D, "Timeout and Protect", 0x08, exists=_cdrom),
    ModePage(
        0x2A,
        "MM Capabilities and Mechanical Status",
        0x14,
        (
            Field(2, 3, 1, value=1),  # reads DVD-ROM
            Field(6, 7, 3, value=1),  # a tray
            Field(6, 3, 1, value=1),  # EJECT
            Field(6, 1, 1, value=_locked),  # LOCK STATE
            Field(6, 0, 1, value=1),  # LOCK
            Field(8, 7, 16, value=KILOBYTES),
            Field(12, 7, 16, value=2048),  # BUFFER SIZE, kilobytes
            Field(14, 7, 16, value=KILOBYTES),
        ),
        exists=_cdrom,
    ),
)
