# SPDX-License-Identifier: MIT
"""
Who is there (SPC-5 section 6): INQUIRY and REPORT LUNS.
"""

from __future__ import annotations

from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet
from scstd.scsi.sam import ITL, Task
from scstd.scsi.sense import illegal_field
from scstd.scsi.spc import vpd
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()


_SAM, _SPC = 0x00A0, 0x0460
"""Version descriptors: SAM-5 and SPC-4 (SPC-5 section 6.7.2, table 154)."""

_KIND_VERSION = {0x00: 0x04C0, 0x05: 0x04E0}
"""And SBC-3, or MMC-6, by the peripheral device type."""


def standard_inquiry(unit: LogicalUnit, itl: ITL) -> bytes:
    """
    Return standard INQUIRY data (SPC-5 section 6.7.2): 96 bytes, and what is vendor
    specific: up to 20 bytes of it at byte 36, more at byte 96, as in SCST.
    """
    specific = unit.inquiry_specific
    short = len(specific) <= 20
    data = bytearray(96 if short else 96 + len(specific))
    at = 36 if short else 96
    data[at : at + len(specific)] = specific
    data[0] = vpd.qualified_type(unit, itl)
    data[1] = 0x80 if unit.removable else 0
    data[2] = 0x06
    data[3] = 0x32  # NORMACA, HISUP, RESPONSE DATA FORMAT 2
    data[4] = min(len(data) - 5, 255)
    if unit.access is not None:
        data[5] = 0x30 if unit.explicit_access else 0x10  # TPGS
    if unit.copies is not None:
        data[5] |= 0x08  # 3PC
    data[6] = 0x10  # MULTIP: more than one target port can be
    data[7] = 0x02  # CMDQUE
    data[8:16] = unit.vendor.encode("ascii", "replace").ljust(8)[:8]
    data[16:32] = unit.product.encode("ascii", "replace").ljust(16)[:16]
    data[32:36] = unit.revision.encode("ascii", "replace").ljust(4)[:4]
    transport = itl.nexus.transport_version
    versions = [_SAM, transport, _SPC] if transport else [_SAM, _SPC]
    if unit.device_type in _KIND_VERSION:
        versions.append(_KIND_VERSION[unit.device_type])
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
    return standard_inquiry(unit, task.itl)[:length]


_SELECT: dict[int, tuple[bool, bool]] = {
    0x00: (True, False),
    0x01: (False, True),
    0x02: (True, True),
    # Conglomerates: no logical unit here is administrative, none subsidiary.
    0x10: (False, False),
    0x11: (True, False),
    0x12: (False, False),
}
"""SELECT REPORT: whether it lists the ordinary logical units, the well known one."""

_WELL_KNOWN = b"\xc1\x01" + bytes(6)
"""The LUN field of the REPORT LUNS well known logical unit."""


@COMMANDS.command(
    0xA0, "REPORT LUNS", "a0 00 ff 00 00 00 ff ff ff ff 00 00", allow=Allow.ANY
)
def report_luns(unit: LogicalUnit, task: Task) -> bytes:  # noqa: ARG001
    """
    REPORT LUNS (SPC-5 section 6.33), for the nexus that asks.
    """
    select, length = task.cdb[2], int.from_bytes(task.cdb[6:10], "big")
    found = _SELECT.get(select)
    if found is None:
        raise illegal_field(2, 7)
    if length < 16:
        raise illegal_field(6, 7)
    nexus = task.itl.nexus
    ordinary, well_known = found
    fields = b""
    if ordinary:
        fields = b"".join(nexus.lun_fields())
        nexus.inventory_reported()
    if well_known:
        fields += _WELL_KNOWN
    return (len(fields).to_bytes(4, "big") + bytes(4) + fields)[:length]
