# SPDX-License-Identifier: MIT
"""
What the drive can do, now and with other media: GET CONFIGURATION (MMC-6).

A feature is a row: its number, its version, whether it is always current or with which
profile, and its data.  The profiles' features are those that MMC-6 wants of a
CD-ROM and a DVD-ROM drive.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import pack

import attrs

from scstd.scsi.allow import Allow
from scstd.scsi.command import CommandSet
from scstd.scsi.mmc.disc import Profile, profile
from scstd.scsi.sam import Task
from scstd.scsi.sense import illegal_field
from scstd.scsi.unit import LogicalUnit

COMMANDS = CommandSet()


@attrs.frozen
class Feature:
    """
    One row.  Without *current* profiles the feature is persistent, and always current.
    """

    number: int
    name: str
    version: int
    data: Callable[[LogicalUnit], bytes] = lambda _unit: b""
    current: tuple[Profile, ...] = ()

    def is_current(self, now: Profile) -> bool:
        """
        Say whether the feature is current with a profile.
        """
        return not self.current or now in self.current

    def descriptor(self, unit: LogicalUnit, now: Profile) -> bytes:
        """
        Return the feature descriptor (MMC-6).
        """
        flags = self.version << 2 | (0 if self.current else 2) | self.is_current(now)
        data = self.data(unit)
        return pack(">HBB", self.number, flags, len(data)) + data


def _profiles(unit: LogicalUnit) -> bytes:
    now = profile(unit)
    return b"".join(
        pack(">HBx", one, one is now) for one in (Profile.DVD_ROM, Profile.CD_ROM)
    )


def _serial(unit: LogicalUnit) -> bytes:
    serial = unit.identity.serial.encode("ascii", "replace")
    return serial + b" " * (-len(serial) % 4)


_ANY = (Profile.CD_ROM, Profile.DVD_ROM)

FEATURES = (
    Feature(0x0000, "Profile List", 0, _profiles),
    # A SCSI device; INQ2: INQUIRY as SPC has it; DBE: device busy events.
    Feature(0x0001, "Core", 2, lambda _unit: b"\0\0\0\x01\x03\0\0\0"),
    # OCEVENT: operational changes are events; only polled ones.
    Feature(0x0002, "Morphing", 1, lambda _unit: b"\x02\0\0\0"),
    # A tray that loads, ejects and locks.
    Feature(0x0003, "Removable Medium", 1, lambda _unit: b"\x39\0\0\0"),
    # Blocks of 2048 bytes, one read at a time, with an error recovery page.
    Feature(
        0x0010,
        "Random Readable",
        0,
        lambda unit: pack(">IHBx", unit.block_size, 1, 1),
        _ANY,
    ),
    # No DAP, no C2 flags, no CD-Text.
    Feature(0x001E, "CD Read", 2, lambda _unit: bytes(4), (Profile.CD_ROM,)),
    Feature(0x001F, "DVD Read", 0, lambda _unit: b"", (Profile.DVD_ROM,)),
    Feature(0x0100, "Power Management", 0),
    Feature(0x0105, "Timeout", 1, lambda _unit: bytes(4)),
    # SCS: SET CD SPEED; MP2A: mode page 2Ah.
    Feature(
        0x0107,
        "Real Time Streaming",
        3,
        lambda _unit: b"\x0c\0\0\0",
        (Profile.DVD_ROM,),
    ),
    Feature(0x0108, "Drive Serial Number", 0, _serial),
)
"""Every feature, by its number."""


@COMMANDS.command(
    0x46,
    "GET CONFIGURATION",
    "46 03 ff ff 00 00 00 ff ff 00",
    allow=Allow.READY | Allow.PERSISTENT | Allow.ATTENTION,
)
def get_configuration(unit: LogicalUnit, task: Task) -> bytes:
    """
    GET CONFIGURATION (MMC-6): RT 0 every feature, 1 the current ones, both
    from the starting feature number on; 2 the one of that number.
    """
    kind = task.cdb[1] & 3
    first = int.from_bytes(task.cdb[2:4], "big")
    if kind == 3:
        raise illegal_field(1, 1)
    now = profile(unit)
    body = b"".join(
        feature.descriptor(unit, now)
        for feature in FEATURES
        if (feature.number == first if kind == 2 else feature.number >= first)
        and (kind != 1 or feature.is_current(now))
    )
    whole = pack(">IxxH", len(body) + 4, now) + body
    return whole[: int.from_bytes(task.cdb[7:9], "big")]
