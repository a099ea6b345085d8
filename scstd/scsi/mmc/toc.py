# SPDX-License-Identifier: MIT
"""
What is on the disc (MMC-6): READ TOC/PMA/ATIP, READ DISC INFORMATION, READ
TRACK INFORMATION, READ DISC STRUCTURE.

One session with one data track, closed: everything follows from the number of blocks.
"""

from __future__ import annotations

from struct import pack

from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet
from scstd.scsi.mmc.disc import Profile, address, msf, need, profile
from scstd.scsi.sam import Task
from scstd.scsi.sense import ASC, CheckCondition, SenseKey, illegal_field
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

_READS = Allow.WRITE_EXCLUSIVE

_DATA = 0x14
"""ADR 1 (the Q subchannel has the position), CONTROL 4 (a data track)."""

_LEAD_OUT = 0xAA


def _track(number: int, lba: int, *, as_msf: bool) -> bytes:
    return pack(">xBBx", _DATA, number) + address(lba, as_msf=as_msf)


def _toc(unit: LogicalUnit, first: int, *, as_msf: bool) -> bytes:
    """
    Return the formatted TOC, from track *first* on.
    """
    if first not in {0, 1, _LEAD_OUT}:
        raise illegal_field(6, 7)
    body = b"\x01\x01"
    if first != _LEAD_OUT:
        body += _track(1, 0, as_msf=as_msf)
    return body + _track(_LEAD_OUT, unit.blocks, as_msf=as_msf)


def _full_toc(unit: LogicalUnit) -> bytes:
    """
    Return the TOC as it is in the lead-in: points A0h, A1h and A2h, and the track.
    """
    need(unit, Profile.CD_ROM)

    def entry(point: int, where: bytes) -> bytes:
        return pack(">BBBBxxxx3s", 1, _DATA, 0, point, where)

    return (
        b"\x01\x01"
        + entry(0xA0, b"\x01\0\0")  # the first track; a CD-ROM
        + entry(0xA1, b"\x01\0\0")  # the last
        + entry(0xA2, msf(unit.blocks))
        + entry(1, msf(0))
    )


@COMMANDS.command(
    0x43, "READ TOC/PMA/ATIP", "43 02 0f 00 00 00 ff ff ff c0", allow=_READS
)
def read_toc(unit: LogicalUnit, task: Task) -> bytes:
    """
    READ TOC/PMA/ATIP (MMC-6): the formats 0 (TOC), 1 (session
    information) and 2 (full TOC).  Linux names the format where MMC-1 had it.
    """
    cdb = task.cdb
    as_msf = bool(cdb[1] & 2)
    format_ = cdb[2] & 0x0F or cdb[9] >> 6
    if format_ == 0:
        body = _toc(unit, cdb[6], as_msf=as_msf)
    elif format_ == 1:
        body = b"\x01\x01" + _track(1, 0, as_msf=as_msf)
    elif format_ == 2:
        if cdb[6] > 1:
            raise illegal_field(6, 7)
        body = _full_toc(unit)
    else:
        raise illegal_field(2, 3)
    whole = len(body).to_bytes(2, "big") + body
    return whole[: int.from_bytes(cdb[7:9], "big")]


@COMMANDS.command(
    0x51, "READ DISC INFORMATION", "51 07 00 00 00 00 00 ff ff 00", allow=_READS
)
def read_disc_information(unit: LogicalUnit, task: Task) -> bytes:
    """READ DISC INFORMATION (MMC-6): a complete disc of one session."""
    del unit
    if task.cdb[1] & 7:
        raise illegal_field(1, 2)
    data = pack(
        ">HBBBBBBB3xI4s4s8xBB",
        32,
        0x0E,  # not erasable; the last session and the disc are complete
        1,  # the first track
        1,  # sessions
        1,  # the first track of the last session
        1,  # and the last one
        0x20,  # URU: for unrestricted use
        0x00,  # CD-DA or CD-ROM
        0,
        b"\xff" * 4,  # there is no lead-in of another session to come
        b"\xff" * 4,
        0,
        0,
    )
    return data[: int.from_bytes(task.cdb[7:9], "big")]


@COMMANDS.command(
    0x52, "READ TRACK INFORMATION", "52 07 ff ff ff ff 00 ff ff 00", allow=_READS
)
def read_track_information(unit: LogicalUnit, task: Task) -> bytes:
    """READ TRACK INFORMATION (MMC-6): the one track, however named."""
    kind, number = task.cdb[1] & 3, int.from_bytes(task.cdb[2:6], "big")
    if kind == 3:
        raise illegal_field(1, 1)
    if task.cdb[1] & 4:
        raise illegal_field(1, 2)  # OPEN: no track is
    if kind == 0:
        if number >= unit.blocks:
            raise CheckCondition(
                SenseKey.ILLEGAL_REQUEST, ASC.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE
            )
    elif number != 1:
        raise illegal_field(2, 7)
    data = pack(
        ">HBBxBBBIIIIIIBBxx",
        34,
        1,
        1,
        0x04,  # a data track, recorded without interruption
        0x01,  # mode 1
        0x02,  # LRA_V
        0,
        0,
        0,
        0,
        unit.blocks,
        unit.blocks - 1,
        0,
        0,
    )
    return data[: int.from_bytes(task.cdb[7:9], "big")]


# READ DISC STRUCTURE.

_FIRST_SECTOR = 0x030000
"""The physical sector number of LBA 0 on a DVD (ECMA-267)."""


def _physical(unit: LogicalUnit) -> bytes:
    """
    Physical format information: a DVD-ROM of 120 mm, one layer as long as need be.
    """
    last = _FIRST_SECTOR + unit.blocks - 1
    return pack(
        ">BBBBIII2032x",
        0x01,  # DVD-ROM, version 1
        0x0F,  # 120 mm, no maximum rate
        0x01,  # one layer, embossed
        0x00,
        _FIRST_SECTOR,
        last,
        0,
    )


def _copyright(_unit: LogicalUnit) -> bytes:
    """Copyright information: no protection, every region."""
    return bytes(4)


def _manufacturing(_unit: LogicalUnit) -> bytes:
    """Disc manufacturing information: none."""
    return bytes(2048)


_STRUCTURES = {0x00: _physical, 0x01: _copyright, 0x04: _manufacturing}


@COMMANDS.command(
    0xAD,
    "READ DISC STRUCTURE",
    "ad 0f ff ff ff ff ff ff ff ff c0 00",
    allow=_READS | Allow.NO_MEDIUM,
)
def read_disc_structure(unit: LogicalUnit, task: Task) -> bytes:
    """
    READ DISC STRUCTURE (MMC-6), of a DVD, and the list of structures
    (FFh), which needs no disc.
    """
    cdb = task.cdb
    kind, layer, format_ = cdb[1] & 0x0F, cdb[6], cdb[7]
    if kind:
        raise illegal_field(1, 3)
    if format_ == 0xFF:
        body = b"".join(
            pack(">BBH", code, 0x40, len(structure(unit)) + 4)
            for code, structure in _STRUCTURES.items()
        )
    else:
        if unit.stopped:
            raise CheckCondition(SenseKey.NOT_READY, unit.stopped)
        if profile(unit) is not Profile.DVD_ROM:
            raise CheckCondition(
                SenseKey.ILLEGAL_REQUEST, ASC.INCOMPATIBLE_MEDIUM_INSTALLED
            )
        if format_ not in _STRUCTURES:
            raise illegal_field(7, 7)
        if layer:
            raise illegal_field(6, 7)
        body = _STRUCTURES[format_](unit)
    whole = pack(">Hxx", len(body) + 2) + body
    return whole[: int.from_bytes(cdb[8:10], "big")]
