# SPDX-License-Identifier: MIT
"""
Reading (MMC-6): READ, READ CD, READ CAPACITY, VERIFY, SEEK.

READ CD returns parts of the sector besides its user data: sync, header, error
correction.  They are made up as they would be on the disc (`sector`), which costs
about a third of a millisecond a sector; such reads are therefore short ones.
"""

from __future__ import annotations

from struct import Struct

from twisted.internet.defer import Deferred

from scstd.interfaces import Buffer
from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet, Outcome, extent_10, extent_12
from scstd.scsi.mmc import sector
from scstd.scsi.mmc.disc import Profile, from_msf, need
from scstd.scsi.sam import Task
from scstd.scsi.sbc import medium, transfer, verify
from scstd.scsi.sbc.steps import read_store
from scstd.scsi.sense import ASC, CheckCondition, SenseKey, illegal_field
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()

_READS = Allow.WRITE_EXCLUSIVE

MOST_CORRECTED = 64
"""Sectors that one READ CD may ask for with their error correction."""

_MODE_1_TYPES = {0, 2}
"""EXPECTED SECTOR TYPE: any, and mode 1."""

_SYNC, _HEADERS, _SUBHEADER, _USER, _CORRECTION = 0x80, 0x20, 0x40, 0x10, 0x08


COMMANDS.command(
    0x28,
    "READ(10)",
    "28 18 ff ff ff ff 00 ff ff 00",
    allow=_READS,
    extent=extent_10,
    longest="max_blocks",
)(transfer.read)
COMMANDS.command(
    0xA8,
    "READ(12)",
    # STREAMING, which lets data be wrong, is taken and not made use of.
    "a8 18 ff ff ff ff ff ff ff ff 80 00",
    allow=_READS,
    extent=extent_12,
    longest="max_blocks",
)(transfer.read)
COMMANDS.command(
    0x25, "READ CAPACITY(10)", "25 00 ff ff ff ff 00 00 01 00", allow=_READS
)(medium.read_capacity_10)
COMMANDS.command(
    0x2F,
    "VERIFY(10)",
    "2f 10 ff ff ff ff 00 ff ff 00",
    allow=_READS,
    extent=extent_10,
    longest="max_blocks",
)(verify.verify)


_CD = Struct(">xBIBH")


def extent_cd(cdb: bytes) -> tuple[int, int, int]:
    """
    Decode READ CD: 24 bits of TRANSFER LENGTH.
    """
    flags, lba, high, low = _CD.unpack_from(cdb)
    return flags, lba, high << 16 | low


def extent_cd_msf(cdb: bytes) -> tuple[int, int, int]:
    """
    Decode READ CD MSF: from the first time to before the second.
    """
    first, end = from_msf(cdb, 3), from_msf(cdb, 6)
    if end < first:
        raise illegal_field(6, 7)
    return cdb[1], first, end - first


def _selected(task: Task) -> int:
    """
    Return which parts of the sector READ CD asks for.

    :raises CheckCondition: they do not follow each other on the disc, or cannot be had.
    """
    parts, subchannel = task.cdb[9], task.cdb[10] & 7
    if task.flags >> 2 & 7 not in _MODE_1_TYPES:
        if task.flags >> 2 & 7 > 5:
            raise illegal_field(1, 4)
        raise CheckCondition(SenseKey.ILLEGAL_REQUEST, ASC.ILLEGAL_MODE_FOR_THIS_TRACK)
    if parts & 0x06:
        raise illegal_field(9, 2)  # C2 errors: there are none, and no bits for them
    if subchannel:
        raise illegal_field(10, 2)
    chosen = [bool(parts & bit) for bit in (_SYNC, _HEADERS, _USER, _CORRECTION)]
    if chosen[0] and chosen[2] and not chosen[1]:
        raise illegal_field(9, 7)
    if chosen[3] and not chosen[2]:
        raise illegal_field(9, 3)
    # A mode 1 sector has no subheader: asking for one gives nothing.
    return parts & ~_SUBHEADER


async def _read_sectors(unit: LogicalUnit, task: Task, parts: int) -> Buffer:
    shift = unit.block_shift
    data = await read_store(unit, task.lba << shift, task.blocks << shift)
    return _sectors(task.lba, data, parts)


def _sectors(lba: int, data: Buffer, parts: int) -> bytes:
    """
    Return the selected *parts* of the sectors from *lba* on, whose user data is *data*.
    """
    view = memoryview(data)
    found: list[Buffer] = []
    for at in range(0, len(view), 2048):
        user = bytes(view[at : at + 2048])
        if parts & _SYNC:
            found.append(sector.SYNC)
        if parts & _HEADERS:
            found.append(sector.header(lba))
        if parts & _USER:
            found.append(user)
        if parts & _CORRECTION:
            found.append(sector.correction(lba, user))
        lba += 1
    return b"".join(found)


@COMMANDS.command(
    0xBE,
    "READ CD",
    "be 1e ff ff ff ff ff ff ff fe 07 00",
    allow=_READS,
    extent=extent_cd,
    longest="max_blocks",
)
@COMMANDS.command(
    0xB9,
    "READ CD MSF",
    "b9 1e 00 ff ff ff ff ff ff fe 07 00",
    allow=_READS,
    extent=extent_cd_msf,
    longest="max_blocks",
)
def read_cd(unit: LogicalUnit, task: Task) -> Outcome:
    """
    READ CD (MMC-6) and READ CD MSF: of a CD, with the parts of the
    sector that are asked for.
    """
    need(unit, Profile.CD_ROM)
    parts = _selected(task)
    if not task.blocks or not parts:
        return b""
    if parts == _USER:
        return transfer.read(unit, task)
    if parts & _CORRECTION and task.blocks > MOST_CORRECTED:
        raise illegal_field(6, 7)
    return Deferred.fromCoroutine(_read_sectors(unit, task, parts))


@COMMANDS.command(
    0x2B,
    "SEEK(10)",
    "2b 00 ff ff ff ff 00 00 00 00",
    allow=_READS,
    extent=lambda cdb: (0, int.from_bytes(cdb[2:6], "big"), 0),
)
def seek_10(unit: LogicalUnit, task: Task) -> None:
    """SEEK(10) (MMC-6): there is no head to move."""


@COMMANDS.command(
    0x35, "SYNCHRONIZE CACHE(10)", "35 02 ff ff ff ff 00 ff ff 00", allow=_READS
)
def synchronize_cache(unit: LogicalUnit, task: Task) -> None:
    """SYNCHRONIZE CACHE (MMC-6): nothing was written."""
