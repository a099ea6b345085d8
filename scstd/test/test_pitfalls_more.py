# SPDX-License-Identifier: MIT
"""
What others got wrong at the edges: of the address space, of maps, of listening.
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from scstd.protocols.driver import ATTRIBUTES, ISCSIDriver
from scstd.scsi.command import every
from scstd.scsi.device import open_unit
from scstd.scsi.luns import Lun
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import ManualStore, memory

LONG = {
    0x88: "READ(16)",
    0x89: "COMPARE AND WRITE",
    0x8A: "WRITE(16)",
    0x8B: "ORWRITE(16)",
    0x8E: "WRITE AND VERIFY(16)",
    0x8F: "VERIFY(16)",
    0x90: "PRE-FETCH(16)",
    0x91: "SYNCHRONIZE CACHE(16)",
    0x93: "WRITE SAME(16)",
    0x9C: "WRITE ATOMIC(16)",
}


class Huge(ManualStore):
    """
    A store that says it is larger than it is, and is not to be asked.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


class EdgeTests(SynchronousTestCase):
    """
    The ends of the address space.
    """

    def test_behind_two_to_the_64(self) -> None:
        """A range that would wrap at 2^64 is refused, and reaches no store."""
        store = ManualStore()
        node, _target, _units = serve(store)
        one = Initiator(node).ready()
        for opcode, name in LONG.items():
            for lba in ((1 << 64) - 1, (1 << 64) - 8, 1 << 63):
                cdb = struct.pack(">BxQIxx", opcode, lba, 16)
                done = one.do(cdb)
                self.assertEqual(
                    (done.status, done.key, done.asc), (2, 5, 0x2100), name
                )
        self.assertEqual(store.calls, [])

    def test_every_long_command_is_there(self) -> None:
        """Each command whose LBA has 64 bits in the usual place is in the table."""
        unit = open_unit("disk", memory())
        usual = {
            row.opcode
            for row in every(unit.commands)
            if row.extent is not None
            and row.opcode >> 5 == 4
            and row.extent(struct.pack(">BxQIxx", row.opcode, 7, 9))[1:] == (7, 9)
        }
        self.assertEqual(usual, set(LONG))

    def test_last_block(self) -> None:
        """The last block is read; it and the one behind it are not."""
        node, _target, (unit,) = serve(memory())
        one = Initiator(node).ready()
        for lba, blocks, status in (
            (unit.blocks - 1, 1, 0),
            (unit.blocks - 1, 2, 2),
            (unit.blocks, 0, 2),
            (unit.blocks, 1, 2),
        ):
            for cdb in (
                struct.pack(">BxIxHx", 0x28, lba, blocks),
                struct.pack(">BxIIxx", 0xA8, lba, blocks),
                struct.pack(">BxQIxx", 0x88, lba, blocks),
            ):
                self.assertEqual(one.do(cdb, read=512 * blocks).status, status)

    def test_capacity_above_two_tebibytes(self) -> None:
        """READ CAPACITY(10) says FFFFFFFFh where it cannot say; (16) says it."""
        for blocks, told in (
            ((1 << 32) - 1, 0xFFFFFFFE),
            (1 << 32, 0xFFFFFFFF),
            ((1 << 32) + 1, 0xFFFFFFFF),
            (1 << 50, 0xFFFFFFFF),
        ):
            node, _target, _units = serve(Huge(blocks * 512))
            one = Initiator(node).ready()
            short = one.do(b"\x25" + bytes(9), read=8).data
            self.assertEqual(int.from_bytes(short[:4], "big"), told)
            long = one.do(struct.pack(">BB8xIxx", 0x9E, 0x10, 32), read=32).data
            self.assertEqual(int.from_bytes(long[:8], "big"), blocks - 1)


class ManyTests(SynchronousTestCase):
    """
    Many LUNs.
    """

    def test_a_thousand_luns(self) -> None:
        """A thousand LUNs, with gaps and without LUN 0, are all reported and there."""
        node, target, (unit,) = serve(memory())
        target.luns.clear()
        wanted = [1 + 16 * number for number in range(1000)]
        for lun in wanted:
            target.luns[lun] = Lun(unit)
        one = Initiator(node)
        one.login()
        data = one.do(struct.pack(">BxB3xIxx", 0xA0, 0, 65536), read=65536).data
        self.assertEqual(int.from_bytes(data[:4], "big"), 8000)
        fields = [data[at : at + 8] for at in range(8, 8008, 8)]
        found = [int.from_bytes(one[:2], "big") & 0x3FFF for one in fields]
        self.assertEqual(found, wanted)
        session = one.connection.session
        assert session is not None
        for field in fields:
            self.assertIn(int.from_bytes(field, "big"), session.nexus.luns)


class PortalTests(SynchronousTestCase):
    """
    Addresses that initiators are told.
    """

    def test_wildcards(self) -> None:
        """Addresses that stand for all of them are never told; IPv6 has brackets."""

        class Port:
            """A port that listens."""

            def __init__(self, address: Any) -> None:
                self.address = address

            def getHost(self) -> Any:  # noqa: N802 - Twisted's name
                """Return where."""
                return self.address

        defaults = {row.name: () if row.repeats else row.default for row in ATTRIBUTES}
        driver = ISCSIDriver(Clock(), defaults)
        ports: list[Any] = [
            Port(IPv4Address("TCP", "0.0.0.0", 3260)),
            Port(IPv6Address("TCP", "::", 3260)),
            Port(IPv6Address("TCP", "2001:db8::1", 3260)),
            Port(IPv4Address("TCP", "192.0.2.7", 860)),
        ]
        driver.ports.extend(ports)
        self.assertEqual(driver.node.portals(), ["[2001:db8::1]:3260", "192.0.2.7:860"])
