# SPDX-License-Identifier: MIT
"""
Parameter lists and CDBs of third-party copies, for tests.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import CommandResult
from scstd.scsi.copy.manager import CopyManager
from scstd.scsi.unit import LogicalUnit
from scstd.test.initiator import Initiator, serve

ZERO_TOKEN = struct.pack(">IxxH504x", 0xFFFF0001, 0x1F8)


def cscd(
    designator: bytes,
    *,
    kind: int = 3,
    code_set: int = 1,
    block: int = 0,
    null: bool = False,
    device_type: int = 0,
    association: int = 0,
    first: int = 0xE4,
) -> bytes:
    """
    Return an identification descriptor CSCD descriptor.
    """
    return struct.pack(
        ">BBHBBxB20sB3s",
        first,
        device_type | (0x20 if null else 0),
        0,
        code_set,
        kind | association << 4,
        len(designator),
        designator,
        0,
        block.to_bytes(3, "big"),
    )


def naa(unit: LogicalUnit, **fields: Any) -> bytes:
    """
    Return the CSCD descriptor that names a unit by its NAA.
    """
    return cscd(unit.identity.naa, **fields)


def segment(
    blocks: int,
    source_lba: int = 0,
    target_lba: int = 0,
    *,
    source: int = 0,
    target: int = 1,
    dc: bool = False,
    kind: int = 0x02,
) -> bytes:
    """
    Return a block device to block device segment descriptor.
    """
    return struct.pack(
        ">BBHHHxxHQQ",
        kind,
        2 if dc else 0,
        24,
        source,
        target,
        blocks,
        source_lba,
        target_lba,
    )


def with_offset(
    length: int,
    source_lba: int = 0,
    offset: int = 0,
    target_lba: int = 0,
    to: int = 0,
    *,
    source: int = 0,
    target: int = 1,
    size: int = 28,
) -> bytes:
    """
    Return a block device with offset to block device with offset segment descriptor.
    """
    return struct.pack(
        ">BBHHHIQQHH",
        *(0x0A, 0, size, source, target, length, source_lba, target_lba, offset, to),
    )


def list_1(
    cscds: Sequence[bytes],
    segments: Sequence[bytes],
    *,
    list_id: int = 1,
    usage: int = 0,
) -> bytes:
    """
    Return a parameter list of EXTENDED COPY(LID1).
    """
    one, two = b"".join(cscds), b"".join(segments)
    head = struct.pack(">BBH4xII", list_id, usage << 3, len(one), len(two), 0)
    return head + one + two


def list_4(
    cscds: Sequence[bytes],
    segments: Sequence[bytes],
    *,
    list_id: int = 1,
    usage: int = 0,
    flags: int = 0,
) -> bytes:
    """
    Return a parameter list of EXTENDED COPY(LID4); CSCD descriptor IDs begin at 1.
    """
    one, two = b"".join(cscds), b"".join(segments)
    head = struct.pack(
        ">BBH11xBB3xI18xHHH",
        1,
        usage << 3,
        32,
        flags,
        0xFF,
        list_id,
        len(one),
        len(two),
        0,
    )
    return head + one + two


def xcopy(data: bytes, *, lid4: bool = False) -> bytes:
    """
    Return the CDB of an EXTENDED COPY with this parameter list.
    """
    return struct.pack(">BB8xIxx", 0x83, int(lid4), len(data))


def abort(list_id: int) -> bytes:
    """
    Return the CDB of a COPY OPERATION ABORT.
    """
    return struct.pack(">BBI10x", 0x83, 0x1C, list_id)


def receive_1(action: int, list_id: int, length: int = 1024) -> bytes:
    """
    Return a CDB of 84h with a list identifier of one byte.
    """
    return struct.pack(">BBB7xIxx", 0x84, action, list_id, length)


def receive_4(action: int, list_id: int, length: int = 1024) -> bytes:
    """
    Return a CDB of 84h with a list identifier of four bytes.
    """
    return struct.pack(">BBI4xIxx", 0x84, action, list_id, length)


def _ranges(ranges: Sequence[tuple[int, int]]) -> bytes:
    return b"".join(struct.pack(">QI4x", lba, blocks) for lba, blocks in ranges)


def populate(
    *ranges: tuple[int, int], flags: int = 0, inactivity: int = 0, rod_type: int = 0
) -> bytes:
    """
    Return a parameter list of POPULATE TOKEN.
    """
    body = _ranges(ranges)
    return (
        struct.pack(">HBxIIxxH", 14 + len(body), flags, inactivity, rod_type, len(body))
        + body
    )


def write_using(
    token: bytes, *ranges: tuple[int, int], offset: int = 0, flags: int = 0
) -> bytes:
    """
    Return a parameter list of WRITE USING TOKEN.
    """
    body = _ranges(ranges)
    head = struct.pack(">HB5xQ", 534 + len(body), flags, offset)
    return head + token + bytes(6) + struct.pack(">H", len(body)) + body


def offload(action: int, data: bytes, list_id: int = 7) -> bytes:
    """
    Return the CDB of POPULATE TOKEN (10h) or WRITE USING TOKEN (11h).
    """
    return struct.pack(">BB4xIIxx", 0x83, action, list_id, len(data))


class CopyTests(SynchronousTestCase):
    """
    Two disks and an initiator that is logged in.
    """

    def connect(self, *stores: Any, manager: CopyManager | None = None) -> None:
        """Serve stores and log in."""
        self.stores = stores
        self.manager = manager or CopyManager()
        self.node, self.target, self.units = serve(*stores, copies=self.manager)
        self.one = Initiator(self.node).ready()

    def check(self, done: CommandResult, key: int, asc: int) -> None:
        """The command has to have failed with this sense data."""
        self.assertEqual(done.status, 2, done)
        self.assertEqual((done.key, f"{done.asc:04x}"), (key, f"{asc:04x}"))

    def pointer(self, done: CommandResult) -> int:
        """Return the field pointer into the parameter list."""
        self.assertEqual(done.sense[15] & 0xC0, 0x80)
        return int.from_bytes(done.sense[16:18], "big")

    def copy(self, *segments: bytes, **fields: Any) -> CommandResult:
        """Carry out an EXTENDED COPY(LID1) whose CSCDs are the disks, in order."""
        data = list_1([naa(unit) for unit in self.units], segments, **fields)
        return self.one.do(xcopy(data), data=data)

    def populate(self, *ranges: tuple[int, int], lun: int = 0, **fields: int) -> bytes:
        """Return a token for these blocks."""
        data = populate(*ranges, **fields)
        done = self.one.do(offload(0x10, data), data=data, lun=lun)
        self.assertEqual(done.status, 0, done)
        return self.receive(lun=lun)[38:]

    def receive(self, list_id: int = 7, *, lun: int = 0) -> bytes:
        """Return what RECEIVE ROD TOKEN INFORMATION says."""
        done = self.one.do(receive_4(0x07, list_id), read=1024, lun=lun)
        self.assertEqual(done.status, 0, done)
        return done.data

    def use(
        self,
        token: bytes,
        *ranges: tuple[int, int],
        lun: int = 1,
        who: Initiator | None = None,
        **fields: int,
    ) -> CommandResult:
        """Carry out a WRITE USING TOKEN."""
        data = write_using(token, *ranges, **fields)
        return (who or self.one).do(offload(0x11, data), data=data, lun=lun)
