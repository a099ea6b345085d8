# SPDX-License-Identifier: MIT
"""
Who is there (SPC-5 section 6): INQUIRY and REPORT LUNS.
"""

from __future__ import annotations

from scstd.scsi.command import Allow, CommandSet
from scstd.scsi.sam import Task
from scstd.scsi.sense import illegal_field
from scstd.scsi.spc import vpd
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()


_VERSIONS = (0x00A0, 0x0960, 0x0460)
"""Version descriptors: SAM-5, iSCSI, SPC-4 (SPC-5 section 6.7.2, table 154)."""

_KIND_VERSION = {0x00: 0x04C0, 0x05: 0x04E0}
"""And SBC-3, or MMC-6, by the peripheral device type."""


def standard_inquiry(unit: LogicalUnit) -> bytes:
    """
    Return standard INQUIRY data (SPC-5 section 6.7.2): 96 bytes, and what is vendor
    specific: up to 20 bytes of it at byte 36, more at byte 96, as in SCST.
    """
    specific = unit.inquiry_specific
    short = len(specific) <= 20
    data = bytearray(96 if short else 96 + len(specific))
    at = 36 if short else 96
    data[at : at + len(specific)] = specific
    data[0] = unit.device_type
    data[1] = 0x80 if unit.removable else 0
    data[2] = 0x06
    data[3] = 0x12  # HISUP, RESPONSE DATA FORMAT 2
    data[4] = min(len(data) - 5, 255)
    data[6] = 0x10  # MULTIP: more than one target port can be
    data[7] = 0x02  # CMDQUE
    data[8:16] = unit.vendor.encode("ascii", "replace").ljust(8)[:8]
    data[16:32] = unit.product.encode("ascii", "replace").ljust(16)[:16]
    data[32:36] = unit.revision.encode("ascii", "replace").ljust(4)[:4]
    versions = (*_VERSIONS, _KIND_VERSION[unit.device_type])
    for position, version in enumerate(versions):
        data[58 + 2 * position : 60 + 2 * position] = version.to_bytes(2, "big")
    return bytes(data)


ABSENT = bytes((0x7F, 0, 0x06, 0x12, 31)) + bytes(3) + b"SCSTD   ".ljust(28)
"""Standard INQUIRY data of a logical unit that is not there."""


@COMMANDS.command(0x12, "INQUIRY", "12 01 ff ff ff 00", allow=Allow.ANY)
def inquiry(unit: LogicalUnit, task: Task) -> bytes:
    """INQUIRY (SPC-5 section 6.7)."""
    length = int.from_bytes(task.cdb[3:5], "big")
    if task.cdb[1] & 1:
        return vpd.page(unit, task.cdb[2], task.itl)[:length]
    if task.cdb[2]:
        raise illegal_field(2, 7)
    return standard_inquiry(unit)[:length]


@COMMANDS.command(
    0xA0, "REPORT LUNS", "a0 00 ff 00 00 00 ff ff ff ff 00 00", allow=Allow.ANY
)
def report_luns(unit: LogicalUnit, task: Task) -> bytes:  # noqa: ARG001
    """
    REPORT LUNS (SPC-5 section 6.33): select report 0 and 2 the LUNs there are, 1 the
    well known logical units, of which there are none.
    """
    select, length = task.cdb[2], int.from_bytes(task.cdb[6:10], "big")
    if select > 2:
        raise illegal_field(2, 7)
    if length < 16:
        raise illegal_field(6, 7)
    nexus = task.itl.nexus
    luns = [] if select == 1 else sorted(nexus.itls)
    fields = b"".join(
        ((lun if lun < 256 else 0x4000 | lun) << 48).to_bytes(8, "big") for lun in luns
    )
    return (len(fields).to_bytes(4, "big") + bytes(4) + fields)[:length]
