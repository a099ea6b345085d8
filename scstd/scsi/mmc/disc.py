# SPDX-License-Identifier: MIT
"""
The disc: what the size of an image says of the medium it stands for.

An image is taken for what would be pressed of it: a CD-ROM if it fits on a CD of 80
minutes, else a DVD-ROM; one session, one data track (mode 1), complete.
"""

from __future__ import annotations

from enum import IntEnum

from scstd.scsi.sense import ASC, CheckCondition, SenseKey, illegal_field
from scstd.scsi.unit import LogicalUnit

FRAMES = 75
"""Blocks in a second of a CD."""

LEAD_IN = 150
"""Blocks of the two seconds before LBA 0."""

CD_BLOCKS = 80 * 60 * FRAMES
"""Blocks on the longest CD there is."""


class Profile(IntEnum):
    """
    Profiles (MMC-6, GET CONFIGURATION): what a drive is with this medium.
    """

    NONE = 0x0000
    CD_ROM = 0x0008
    DVD_ROM = 0x0010


def profile(unit: LogicalUnit) -> Profile:
    """
    Return the current profile.
    """
    if unit.stopped or not unit.blocks:
        return Profile.NONE
    return Profile.CD_ROM if unit.blocks <= CD_BLOCKS else Profile.DVD_ROM


def need(unit: LogicalUnit, wanted: Profile) -> None:
    """
    :raises CheckCondition: the medium is none of this profile.
    """
    if profile(unit) is not wanted:
        raise CheckCondition(
            SenseKey.ILLEGAL_REQUEST, ASC.CANNOT_READ_MEDIUM_INCOMPATIBLE_FORMAT
        )


def msf(lba: int) -> bytes:
    """
    Return minute, second and frame of a block, as three bytes.

    On a DVD they mean nothing; the last that can be said stands for those beyond.
    """
    frames = min(lba + LEAD_IN, 256 * 60 * FRAMES - 1)
    return bytes((frames // (60 * FRAMES), frames // FRAMES % 60, frames % FRAMES))


def from_msf(cdb: bytes, at: int) -> int:
    """
    Return the LBA of the minute, second and frame at byte *at* of a CDB.

    :raises CheckCondition: there is no such second or frame, or it is before LBA 0.
    """
    minute, second, frame = cdb[at : at + 3]
    if second >= 60:
        raise illegal_field(at + 1, 7)
    if frame >= FRAMES:
        raise illegal_field(at + 2, 7)
    lba: int = (minute * 60 + second) * FRAMES + frame - LEAD_IN
    if lba < 0:
        raise CheckCondition(
            SenseKey.ILLEGAL_REQUEST, ASC.LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE
        )
    return lba


def address(lba: int, *, as_msf: bool) -> bytes:
    """
    Return the four bytes of an address, by LBA or by time.
    """
    return b"\0" + msf(lba) if as_msf else lba.to_bytes(4, "big")
