# SPDX-License-Identifier: MIT
"""
CDBs of the commands that everybody needs, and how a command ends.
"""

from __future__ import annotations

import struct

import attrs

UNIT_ATTENTION = 6
"""The sense key of a condition that the initiator has not been told of yet."""


@attrs.define
class CommandResult:
    """
    How a command ended.
    """

    status: int
    """The SCSI status (SAM-5 section 5.3)."""
    data: bytes = b""
    """Its Data-In, without what did not come."""
    sense: bytes = b""
    """Sense data, without their length."""
    flags: int = 0
    """The O and U bits of the response (RFC 7143 section 11.4.1)."""
    residual: int = 0
    """Bytes of overflow or underflow, as *flags* say."""

    @property
    def key(self) -> int:
        """The sense key, of fixed or descriptor format sense data."""
        return self.sense[1 if self.sense[0] & 0x7F >= 0x72 else 2] & 0x0F

    @property
    def asc(self) -> int:
        """The additional sense code and qualifier."""
        at = 2 if self.sense[0] & 0x7F >= 0x72 else 12
        return int.from_bytes(self.sense[at : at + 2], "big")


def read10(lba: int, blocks: int) -> bytes:
    """
    Return the CDB of a READ(10).
    """
    return struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0)


def write10(lba: int, blocks: int, fua: bool = False) -> bytes:
    """
    Return the CDB of a WRITE(10).
    """
    return struct.pack(">BBIBHB", 0x2A, 8 if fua else 0, lba, 0, blocks, 0)


TEST_UNIT_READY = bytes(6)
"""The CDB that asks whether there is anything to know (SPC-5 section 6.47)."""


def inquiry(length: int = 255, page: int | None = None) -> bytes:
    """
    Return the CDB of an INQUIRY: for the standard data, or a VPD *page*.
    """
    return struct.pack(">BBBHB", 0x12, page is not None, page or 0, length, 0)


def report_luns(length: int = 65536) -> bytes:
    """
    Return the CDB of a REPORT LUNS.
    """
    return struct.pack(">BB4xIxx", 0xA0, 0, length)


def read_capacity16(length: int = 32) -> bytes:
    """
    Return the CDB of a READ CAPACITY(16).
    """
    return struct.pack(">BBQIxx", 0x9E, 0x10, 0, length)


def read16(lba: int, blocks: int) -> bytes:
    """
    Return the CDB of a READ(16).
    """
    return struct.pack(">BBQIxx", 0x88, 0, lba, blocks)


def write16(lba: int, blocks: int, fua: bool = False) -> bytes:
    """
    Return the CDB of a WRITE(16).
    """
    return struct.pack(">BBQIxx", 0x8A, 8 if fua else 0, lba, blocks)
