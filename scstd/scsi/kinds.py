# SPDX-License-Identifier: MIT
"""
Kinds of devices: which commands each has.

A kind is a row of this table; the modules named in it declare the commands
(`CommandSet`), and their conditions (`Command.exists`) say which of those one logical
unit has.
"""

from __future__ import annotations

import attrs

from scstd.scsi.command import CommandSet, Table, table
from scstd.scsi.copy import extended, offload, page, results
from scstd.scsi.mmc import configuration, reading, speed, toc, tray
from scstd.scsi.mmc import pages as optical_pages
from scstd.scsi.sbc import (
    atomic,
    defects,
    erase,
    medium,
    provisioning,
    status,
    transfer,
    verify,
    xor,
)
from scstd.scsi.spc import (
    access,
    buffers,
    diagnostics,
    identifying,
    inquiry,
    log,
    logs,
    mode,
    opcodes,
    pages,
    prin,
    prout,
    ready,
    reserve,
    timestamp,
)
from scstd.scsi.unit import LogicalUnit

__all__ = [  # declare pages
    "CDROM",
    "DISK",
    "DeviceKind",
    "logs",
    "optical_pages",
    "page",
    "pages",
]


@attrs.frozen
class DeviceKind:
    """
    A kind of device: its peripheral device type (SPC-5 table 145) and its commands.
    """

    name: str
    device_type: int
    sets: tuple[CommandSet, ...]

    def commands(self, unit: LogicalUnit) -> Table:
        """
        Return the commands that *unit* has.
        """
        return table(self.sets, unit)


PRIMARY = (
    ready.COMMANDS,
    inquiry.COMMANDS,
    mode.COMMANDS,
    opcodes.COMMANDS,
    access.COMMANDS,
    reserve.COMMANDS,
    prin.COMMANDS,
    prout.COMMANDS,
    diagnostics.COMMANDS,
    log.COMMANDS,
    buffers.COMMANDS,
    timestamp.COMMANDS,
    identifying.COMMANDS,
)
"""What devices of every kind have."""

DISK = DeviceKind(
    "disk",
    0x00,
    (
        *PRIMARY,
        transfer.COMMANDS,
        medium.COMMANDS,
        verify.COMMANDS,
        atomic.COMMANDS,
        xor.COMMANDS,
        provisioning.COMMANDS,
        status.COMMANDS,
        erase.COMMANDS,
        defects.COMMANDS,
        extended.COMMANDS,
        offload.COMMANDS,
        results.COMMANDS,
    ),
)
"""A direct access block device (SBC-4)."""

CDROM = DeviceKind(
    "CD/DVD drive",
    0x05,
    (
        *PRIMARY,
        reading.COMMANDS,
        toc.COMMANDS,
        configuration.COMMANDS,
        tray.COMMANDS,
        speed.COMMANDS,
    ),
)
"""A CD/DVD device (MMC-6) that reads."""
