# SPDX-License-Identifier: MIT
"""
Who a logical unit is: the names by which hosts tell one disk from another.

Two disks with one name are merged by multipath software, and data is lost; a disk whose
name changes is a new disk to its host.  So every device gets a random UUID when it is
first opened, remembered under its name for ever after, and the serial number and the
NAA name are made of it.  What is configured takes precedence.

NAA names need an IEEE company identifier, which this project does not have: the one
used has the bit "locally administered" set, so no registered one can be equal.
"""

from __future__ import annotations

import uuid as uuids

import attrs

from scstd.scsi.settings import UnitSettings

COMPANY_ID = 0x025C57
"""A locally administered company identifier (24 bits)."""

_UNIQUE = ("serial", "naa", "uuid", "eui64", "t10")


@attrs.frozen
class Identity:
    """
    The names of one logical unit.
    """

    serial: str
    """The unit serial number."""
    naa: bytes
    """8 or 16 bytes."""
    uuid: bytes
    """16 bytes."""
    eui64: bytes = b""
    """8, 12 or 16 bytes, or empty."""
    t10: str = ""
    """The T10 vendor ID designator, behind the vendor."""
    vendor_specific: str = ""
    """The vendor specific designator, if there is one."""
    device_name: str = ""
    """The SCSI name of the target device, if it is not the target's own."""
    names: frozenset[tuple[str, str | bytes]] = attrs.field(
        init=False, eq=False, repr=False
    )
    """What hosts tell disks apart by; made once, for many are compared with many."""

    @names.default
    def _names(self) -> frozenset[tuple[str, str | bytes]]:
        found = ((field, getattr(self, field)) for field in _UNIQUE)
        return frozenset((field, value) for field, value in found if value)

    @classmethod
    def random(cls) -> Identity:
        """
        Return an identity that nothing else has.
        """
        return cls.of(uuids.uuid4(), UnitSettings())

    @classmethod
    def of(cls, unique: uuids.UUID, settings: UnitSettings) -> Identity:
        """
        Return the identity made of a UUID and of what is configured.
        """
        naa = settings.naa
        eui64 = settings.eui64
        serial = settings.serial or unique.hex[:16]
        return cls(
            serial=serial,
            naa=_bytes(naa) if naa else naa_6(unique),
            uuid=unique.bytes,
            eui64=_bytes(eui64) if eui64 else b"",
            t10=settings.t10 or serial,
            vendor_specific=settings.vendor_specific,
            device_name=settings.device_name,
        )

    def shared_with(self, other: Identity) -> str:
        """
        Return which name both have, the first one, or nothing: then hosts can tell the
        two apart.
        """
        if self.names.isdisjoint(other.names):
            return ""
        shared = {field for field, _value in self.names & other.names}
        return next(field for field in _UNIQUE if field in shared)


def naa_6(unique: uuids.UUID) -> bytes:
    """
    Return an NAA IEEE Registered Extended designator (SPC-5 section 7.7.6.6.5).
    """
    rest = unique.int & ((1 << 100) - 1)
    return ((6 << 124) | (COMPANY_ID << 100) | rest).to_bytes(16, "big")


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x").replace(":", ""))
