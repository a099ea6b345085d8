# SPDX-License-Identifier: MIT
"""
Vital product data (SPC-5 section 7.7, SBC-4 section 6.6).

A page is a function that returns the page's body, declared with its code and for which
logical units it exists.  The header, its length and page 00h (the list of pages) follow
from the table.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack

import attrs

from scstd.scsi.designators import (
    ASCII,
    BINARY,
    PORT,
    UNIT,
    UTF8,
    designator,
    name_string,
    port_name,
    relative_port,
    target_device,
)
from scstd.scsi.sam import ITL
from scstd.scsi.selftest import EXTENDED_SECONDS
from scstd.scsi.sense import illegal_field
from scstd.scsi.spc.pages import rotation, threshold_exponent
from scstd.scsi.unit import LogicalUnit

Body = Callable[[LogicalUnit, ITL], bytes]


@attrs.frozen
class VPDPage:
    """
    One row: a page code, its name, when it exists, and what makes its body.
    """

    code: int
    name: str
    body: Body
    exists: Callable[[LogicalUnit], bool]


PAGES: dict[int, VPDPage] = {}
"""Every page by its code."""

WELL_KNOWN = 0x1E
"""The device type of well known logical units, which have no identity of their own."""


def vpd_page(
    code: int, name: str, exists: Callable[[LogicalUnit], bool] = lambda _unit: True
) -> Callable[[Body], Body]:
    """
    Declare the decorated function as the body of a page.
    """

    def declare(body: Body) -> Body:
        PAGES[code] = VPDPage(code, name, body, exists)
        return body

    return declare


def page(unit: LogicalUnit, code: int, itl: ITL) -> bytes:
    """
    Return a whole page.

    :raises CheckCondition: the unit has no such page.
    """
    row = PAGES.get(code)
    if row is None or not row.exists(unit):
        raise illegal_field(2, 7)
    body = row.body(unit, itl)
    return pack(">BBH", qualified_type(unit, itl), code, len(body)) + body


def qualified_type(unit: LogicalUnit, itl: ITL) -> int:
    """
    Return the first byte of INQUIRY data: the device type, with qualifier 001b where
    the port is in the unavailable state (SPC-5 section 5.18.2).
    """
    if unit.access is not None and unit.access.hidden_at(itl):
        return 0x20 | unit.device_type
    return unit.device_type


def _ordinary(unit: LogicalUnit) -> bool:
    return unit.device_type != WELL_KNOWN


@vpd_page(0x00, "Supported VPD Pages")
def supported_pages(unit: LogicalUnit, _itl: ITL) -> bytes:
    """The codes of all pages, in ascending order (SPC-5 section 7.7.15)."""
    return bytes(code for code, row in sorted(PAGES.items()) if row.exists(unit))


@vpd_page(0x80, "Unit Serial Number", _ordinary)
def unit_serial_number(unit: LogicalUnit, _itl: ITL) -> bytes:
    """The serial number (SPC-5 section 7.7.19)."""
    return unit.identity.serial.encode("ascii", "replace")


@vpd_page(0x83, "Device Identification")
def device_identification(unit: LogicalUnit, itl: ITL) -> bytes:
    """
    Designators of the logical unit, the target port and the target device (SPC-5
    section 7.7.6): NAA first, it is what hosts prefer.  The SCSI name string of the
    unit is its NAA name again, as text.
    """
    identity = unit.identity
    naa = identity.naa
    vendor = unit.vendor.encode("ascii", "replace").ljust(8)[:8]
    nexus = itl.nexus
    found = (
        []
        if unit.device_type == WELL_KNOWN
        else [
            designator(UNIT, 0x3, BINARY, naa),
            designator(UNIT, 0x1, ASCII, vendor + identity.t10.encode()),
            designator(UNIT, 0xA, BINARY, b"\x10\0" + identity.uuid),
            designator(UNIT, 0x8, UTF8, name_string(f"naa.{naa.hex().upper()}")),
        ]
    )
    if identity.eui64:
        found.append(designator(UNIT, 0x2, BINARY, identity.eui64))
    if identity.vendor_specific:
        found.append(designator(UNIT, 0x0, ASCII, identity.vendor_specific.encode()))
    found += [
        relative_port(nexus),
        port_name(nexus),
        target_device(nexus, identity.device_name),
    ]
    if unit.access is not None:
        group = unit.access.group_of(nexus.target.qualified_name)
        if group is not None:
            number = pack(">HH", 0, group.group_id)
            transport = nexus.target.transport
            found.append(designator(PORT, 0x5, BINARY, number, transport))
    return b"".join(found)


@vpd_page(0x85, "Management Network Addresses", lambda unit: bool(unit.management_url))
def management_addresses(unit: LogicalUnit, _itl: ITL) -> bytes:
    """Where the unit is managed: the URL that is configured (SPC-5 section 7.7.9)."""
    url = name_string(unit.management_url)
    return pack(">BxH", 0x01, len(url)) + url  # storage configuration service


@vpd_page(0x86, "Extended INQUIRY Data", _ordinary)
def extended_inquiry(unit: LogicalUnit, _itl: ITL) -> bytes:
    """
    Extended INQUIRY data (SPC-5 section 7.7.7): task attributes SIMPLE, ORDERED and
    HEAD OF QUEUE, and command priority; whether there is a volatile cache; that a unit
    attention is cleared for one I_T nexus only; how long an extended self-test may
    take, in minutes.
    """
    body = bytearray(60)
    body[1] = 0x0F  # PRIOR_SUP, HEADSUP, ORDSUP, SIMPSUP
    body[2] = 0x00 if unit.volume.can.write_through else 0x01  # V_SUP
    body[3] = 0x01  # LUICLR
    body[6:8] = max(1, EXTENDED_SECONDS // 60).to_bytes(2, "big")
    return bytes(body)


@vpd_page(0x87, "Mode Page Policy", _ordinary)
def mode_page_policy(_unit: LogicalUnit, _itl: ITL) -> bytes:
    """All mode pages are shared by all I_T nexuses (SPC-5 section 7.7.10)."""
    return bytes((0x3F, 0xFF, 0x00, 0x00))


@vpd_page(0x88, "SCSI Ports", _ordinary)
def scsi_ports(_unit: LogicalUnit, itl: ITL) -> bytes:
    """
    The port of the target device, with its name, if it has one (SPC-5 section 7.7.16).
    """
    nexus = itl.nexus
    port = port_name(nexus) or relative_port(nexus)
    head = pack(">xxHxxHxxH", nexus.target.relative_port, 0, len(port))
    return head + port


def _disk(unit: LogicalUnit) -> bool:
    return unit.device_type == 0


@vpd_page(0xB0, "Block Limits", _disk)
def block_limits(unit: LogicalUnit, _itl: ITL) -> bytes:
    """Block limits (SBC-4 section 6.6.3); 0 says there is none."""
    thin = unit.volume.thin
    granularity = unit.volume.unmap_granularity >> unit.block_shift
    return pack(
        ">BBHIIIIIIIQIIIII",
        0,  # WSNZ=0: WRITE SAME of 0 blocks goes to the end
        min(unit.volume.limits.max_compared, 255),
        max(1, 4096 >> unit.block_shift),
        unit.volume.limits.max_blocks,
        unit.volume.limits.optimal_blocks,
        0,
        unit.volume.limits.max_unmapped if thin else 0,
        unit.volume.limits.max_descriptors if thin else 0,
        granularity if thin else 0,
        0x80000000 | unit.volume.unmap_alignment >> unit.block_shift if thin else 0,
        unit.volume.limits.max_same,
        unit.volume.limits.max_atomic,
        0,  # no alignment
        0,  # any number of blocks
        unit.volume.limits.max_atomic,
        unit.volume.limits.max_atomic,
    )


@vpd_page(0xB1, "Block Device Characteristics", _disk)
def block_characteristics(unit: LogicalUnit, _itl: ITL) -> bytes:
    """
    Medium rotation rate, no product type and no form factor (SBC-4 section 6.6.2);
    blocks may be read after BLOCK ERASE, where there is one (WABEREQ).

    FUAB: FUA and SYNCHRONIZE CACHE mean what SBC-4 says, which is the medium.  VBULS:
    unmapped blocks can be verified: they are zeros.
    """
    readable = 0x40 if unit.erasable and unit.volume.thin else 0
    return pack(">HBBB55x", rotation(unit), 0, readable, 0x02 | 0x01)


@vpd_page(
    0xB2, "Logical Block Provisioning", lambda unit: _disk(unit) and unit.volume.thin
)
def provisioning(unit: LogicalUnit, _itl: ITL) -> bytes:
    """
    UNMAP and WRITE SAME deallocate; what is deallocated reads as zeros; thin (SBC-4
    section 6.6.7).  The threshold exponent says how the Logical Block Provisioning log
    page counts.
    """
    return bytes((threshold_exponent(unit), 0x80 | 0x40 | 0x20 | 0x04, 0x02, 0))
