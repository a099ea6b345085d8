# SPDX-License-Identifier: MIT
"""
Tests for what a disk says of itself, and for its tray, by what initiators see:
`scstd.scsi.spc` and `scstd.scsi.sbc`.
"""

from __future__ import annotations

import struct

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from scstd.block.persistence import Volatile
from scstd.initiator.commands import CommandResult, read10, write10
from scstd.interfaces import IWriteThrough
from scstd.scsi.device import open_disk
from scstd.scsi.sam import ITL
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import memory
from scstd.test.test_disk import DiskTests


class RemovableTests(DiskTests):
    """
    A medium that can be ejected.
    """

    def test_eject(self) -> None:
        """Without a medium nearly nothing works; loading it is told to others."""
        self.connect(removable=True)
        other = Initiator(self.node, name=INITIATOR + "2").ready()
        self.assertEqual(self.one.do(b"\x1b\0\0\0\2\0").status, 0)
        self.check(self.one.do(bytes(6)), 2, 0x3A00)
        self.check(self.one.do(read10(0, 1), read=512), 2, 0x3A00)
        self.assertEqual(self.one.do(b"\x12\0\0\0\x24\0", read=36).data[1], 0x80)
        self.assertEqual(self.one.do(b"\x03\0\0\0\x12\0", read=18).data[12], 0x3A)
        self.assertEqual(self.one.do(b"\x1b\0\0\0\3\0").status, 0)
        self.assertEqual(self.one.do(bytes(6)).status, 0)
        self.check(other.do(bytes(6)), 6, 0x2800)

    def test_prevented(self) -> None:
        """A nexus may prevent it, until it ends."""
        self.connect(removable=True)
        other = Initiator(self.node, name=INITIATOR + "2").ready()
        self.assertEqual(other.do(b"\x1e\0\0\0\1\0").status, 0)
        self.check(self.one.do(b"\x1b\0\0\0\2\0"), 5, 0x5302)
        other.logout()
        self.assertEqual(self.one.do(b"\x1b\0\0\0\2\0").status, 0)

    def test_fixed(self) -> None:
        """A fixed disk has no tray."""
        self.check(self.one.do(b"\x1b\0\0\0\2\0"), 5, 0x2400)
        self.check(self.one.do(b"\x1e\0\0\0\1\0"), 5, 0x2000)


class InquiryTests(DiskTests):
    """
    INQUIRY, VPD pages, REPORT LUNS, supported commands.
    """

    def vpd(self, code: int) -> bytes:
        """Return a page's body."""
        data = self.one.do(struct.pack(">BBBHx", 0x12, 1, code, 255), read=255).data
        self.assertEqual(data[1], code)
        self.assertEqual(int.from_bytes(data[2:4], "big"), len(data) - 4)
        return data[4:]

    def test_standard(self) -> None:
        """Who it is, in ASCII."""
        data = self.one.do(b"\x12\0\0\0\x60\0", read=96).data
        self.assertEqual((data[0], data[4]), (0, 91))
        self.assertEqual(data[8:36], b"SCSTD   disk0           1   ")
        self.assertEqual(len(self.one.do(b"\x12\0\0\0\5\0", read=96).data), 5)
        self.check(self.one.do(b"\x12\0\1\0\5\0", read=96), 5, 0x2400)

    def test_pages(self) -> None:
        """Every page that is listed is there, in ascending order, and no other."""
        listed = self.vpd(0)
        self.assertEqual(list(listed), sorted(listed))
        self.assertLessEqual(
            {0, 0x80, 0x83, 0x86, 0x87, 0x88, 0x8F, 0xB0, 0xB1, 0xB2}, set(listed)
        )
        for code in range(256):
            done = self.one.do(struct.pack(">BBBHx", 0x12, 1, code, 255), read=255)
            self.assertEqual(done.status == 0, code in listed, code)

    def test_identification(self) -> None:
        """NAA, T10, UUID for the unit; ports and target by their names."""
        data = self.vpd(0x83)
        found: dict[tuple[int, int], bytes] = {}
        while data:
            length = data[3]
            found[data[1] >> 4 & 3, data[1] & 0xF] = data[4 : 4 + length]
            data = data[4 + length :]
        self.assertEqual(found[0, 3], self.unit.identity.naa)
        self.assertEqual(found[0, 3][0] >> 4, 6)
        self.assertEqual(found[0, 0xA], b"\x10\0" + self.unit.identity.uuid)
        self.assertTrue(found[0, 1].startswith(b"SCSTD   "))
        self.assertEqual(found[1, 8].rstrip(b"\0").decode(), f"{TARGET},t,0x0001")
        self.assertEqual(found[2, 8].rstrip(b"\0").decode(), TARGET)
        self.assertEqual(found[1, 4], b"\0\0\0\1")

    def test_limits(self) -> None:
        """Block limits are those that are kept."""
        body = self.vpd(0xB0)
        self.assertEqual(body[1], 255)
        most, optimal = struct.unpack_from(">II", body, 4)
        self.assertEqual((most, optimal), (16384, 2048))
        unmapped, descriptors = struct.unpack_from(">II", body, 16)
        self.assertEqual((unmapped, descriptors), (1 << 20, 256))

    def test_configured(self) -> None:
        """What is configured is what is said."""
        self.connect(
            t10_vend_id="ACME",
            prod_id="Rocket",
            prod_rev_lvl="9",
            usn="12345",
            naa_id="5000c50012345678",
            rotational=True,
        )
        data = self.one.do(b"\x12\0\0\0\x60\0", read=96).data
        self.assertEqual(data[8:36], b"ACME    Rocket          9   ")
        self.assertEqual(self.vpd(0x80), b"12345")
        self.assertIn(bytes.fromhex("5000c50012345678"), self.vpd(0x83))
        self.assertEqual(self.vpd(0xB1)[:2], b"\x1c\x20")

    def test_report_luns(self) -> None:
        """REPORT LUNS lists the map, of this LUN and of one that is not there."""
        self.target.add_lun(300, self.unit)
        self.target.add_lun(7, self.unit)
        self.one = Initiator(self.node).ready()
        expected = bytes.fromhex("00000018000000000000000000000000")
        expected += bytes.fromhex("0007000000000000412c000000000000")
        for lun in (0, 5):
            cdb = struct.pack(">BxBxxxIxx", 0xA0, 0, 64)
            self.assertEqual(self.one.do(cdb, read=64, lun=lun).data, expected)
        self.check(
            self.one.do(struct.pack(">BxBxxxIxx", 0xA0, 0, 8), read=8), 5, 0x2400
        )

    def test_absent(self) -> None:
        """A LUN that is not there says so in each way there is."""
        self.check(self.one.do(bytes(6), lun=5), 5, 0x2500)
        self.check(self.one.do(read10(0, 1), read=512, lun=5), 5, 0x2500)
        data = self.one.do(b"\x12\0\0\0\x24\0", read=36, lun=5).data
        self.assertEqual(data[0], 0x7F)
        data = self.one.do(b"\x03\0\0\0\x12\0", read=18, lun=5).data
        self.assertEqual((data[2], data[12]), (5, 0x25))

    def test_supported_commands(self) -> None:
        """Each command that is listed is there; its usage map starts with its code."""
        cdb = struct.pack(">BBBBHIxx", 0xA3, 0x0C, 0, 0, 0, 65535)
        data = self.one.do(cdb, read=65535).data
        rows = [data[at : at + 8] for at in range(4, len(data), 8)]
        self.assertEqual(len(data) - 4, int.from_bytes(data[:4], "big"))
        self.assertGreater(len(rows), 40)
        for row in rows:
            action = int.from_bytes(row[2:4], "big")
            cdb = struct.pack(
                ">BBBBHIxx", 0xA3, 0x0C, 2 if row[5] & 1 else 1, row[0], action, 255
            )
            one = self.one.do(cdb, read=255).data
            self.assertEqual(one[1] & 7, 3)
            self.assertEqual(one[4], row[0])
            self.assertEqual(int.from_bytes(one[2:4], "big"), row[7])

    def test_unsupported_command(self) -> None:
        """One that is not there is reported so."""
        cdb = struct.pack(">BBBBHIxx", 0xA3, 0x0C, 1, 0xC1, 0, 255)
        self.assertEqual(self.one.do(cdb, read=255).data[1] & 7, 1)
        cdb = struct.pack(">BBBBHIxx", 0xA3, 0x0C, 1, 0x9E, 0, 255)
        self.check(self.one.do(cdb, read=255), 5, 0x2400)

    def test_supported_functions(self) -> None:
        """REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS."""
        cdb = struct.pack(">BBBxxxIxx", 0xA3, 0x0D, 0, 16)
        self.assertEqual(self.one.do(cdb, read=16).data, bytes((0xFA, 0, 0, 0)))

    def test_service_action(self) -> None:
        """An unknown service action is an invalid field."""
        self.check(self.one.do(b"\xa3\x1f" + bytes(10)), 5, 0x2400)


class ModeTests(DiskTests):
    """
    MODE SENSE and MODE SELECT.
    """

    def page(self, code: int, control: int = 0) -> bytes:
        """Return one page."""
        cdb = struct.pack(">BBBBBx", 0x1A, 8, control << 6 | code, 0, 255)
        data = self.one.do(cdb, read=255).data
        self.assertEqual(data[0], len(data) - 1)
        return data[4:]

    def select(self, page: bytes, *, save: bool = False) -> CommandResult:
        """Send one page."""
        data = bytes(4) + page
        cdb = struct.pack(">BBxxBx", 0x15, 0x11 if save else 0x10, len(data))
        return self.one.do(cdb, data=data)

    def test_all(self) -> None:
        """Page 3Fh is all pages in order, in both sizes, with block descriptors."""
        short = self.one.do(b"\x1a\0\x3f\0\xff\0", read=255).data
        long = self.one.do(b"\x5a\0\x3f\0\0\0\0\0\xff\0", read=255).data
        self.assertEqual(short[3], 8)
        self.assertEqual(short[4:], long[8:])
        self.assertEqual(struct.unpack_from(">II", short, 4), (2048, 512))
        codes, at = [], 12
        while at < len(short):
            codes.append(short[at] & 0x3F)
            at += 2 + short[at + 1]
        expected = [1, 2, 3, 4, 7, 8, 0xA, 0x18, 0x19, 0x1A, 0x1C]
        self.assertEqual(codes, expected)
        self.check(self.one.do(b"\x1a\0\x3e\0\xff\0", read=255), 5, 0x2400)
        self.check(self.one.do(b"\x1a\0\x0a\5\xff\0", read=255), 5, 0x2400)

    def test_changed(self) -> None:
        """D_SENSE can be set: sense data has another format, others are told."""
        other = Initiator(self.node, name=INITIATOR + "2").ready()
        page = bytearray(self.page(0x0A))
        self.assertTrue(self.page(0x0A, 1)[2] & 4)
        page[2] |= 4
        self.assertEqual(self.select(bytes((page[0] & 0x3F,)) + page[1:]).status, 0)
        done = self.one.do(read10(0xFFFFFFFF, 1), read=512)
        self.assertEqual(done.sense[0], 0x72)
        self.check(done, 5, 0x2100)
        self.check(other.do(bytes(6)), 6, 0x2A01)
        self.assertFalse(self.page(0x0A, 2)[2] & 4)

    def test_write_protect(self) -> None:
        """SWP protects the disk from writes."""
        page = bytearray(self.page(0x0A))
        page[0], page[4] = 0x0A, page[4] | 8
        self.assertEqual(self.select(bytes(page)).status, 0)
        self.check(self.one.do(write10(0, 1), data=bytes(512)), 7, 0x2700)
        self.one.manage(5)
        self.one.receive()
        self.one.do(bytes(6))
        self.assertEqual(self.one.do(write10(0, 1), data=bytes(512)).status, 0)

    def test_cache(self) -> None:
        """WCE can be cleared; a store that is always durable says so and stays so."""
        page = bytearray(self.page(8))
        self.assertTrue(page[2] & 4)
        page[0], page[2] = 8, page[2] & ~4
        self.assertEqual(self.select(bytes(page)).status, 0)
        self.assertFalse(self.unit.write_cache)
        store = memory()
        alsoProvides(store, IWriteThrough)
        self.connect(store)
        page = bytearray(self.page(8))
        self.assertFalse(page[2] & 4)
        page[0], page[2] = 8, page[2] | 4
        self.check(self.select(bytes(page)), 5, 0x2600)

    def test_saved(self) -> None:
        """Saved values survive a reset, and the device's memory has them."""
        page = bytearray(self.page(0x0A))
        page[0], page[2] = 0x0A, page[2] | 4
        self.assertEqual(self.select(bytes(page), save=True).status, 0)
        self.assertTrue(self.page(0x0A, 3)[2] & 4)
        self.one.manage(5)
        self.one.receive()
        self.one.do(bytes(6))
        self.assertTrue(self.page(0x0A)[2] & 4)

    def test_wrong(self) -> None:
        """Nothing changes when anything is wrong, and the field pointer says what."""
        page = bytearray(self.page(0x0A))
        page[0] = 0x0A
        fixed = bytes((page[0], page[1], page[2], page[3], page[4] ^ 0x80)) + bytes(
            page[5:]
        )
        done = self.select(fixed)
        self.check(done, 5, 0x2600)
        self.assertEqual(int.from_bytes(done.sense[16:18], "big"), 4 + 4)
        self.check(self.select(b"\x3d\x02\0\0"), 5, 0x2600)
        self.check(self.select(bytes((0x0A, 9)) + bytes(9)), 5, 0x2600)
        self.check(self.select(bytes(page[:8])), 5, 0x1A00)
        self.check(self.one.do(b"\x15\0\0\0\4\0", data=bytes(4)), 5, 0x2400)
        self.assertEqual(self.one.do(b"\x15\x10\0\0\0\0").status, 0)

    def test_descriptor(self) -> None:
        """A block descriptor may say again what is so, nothing else."""
        data = struct.pack(">BBBBII", 0, 0, 0, 8, 2048, 512)
        cdb = struct.pack(">BBxxBx", 0x15, 0x10, len(data))
        self.assertEqual(self.one.do(cdb, data=data).status, 0)
        data = struct.pack(">BBBBII", 0, 0, 0, 8, 2048, 4096)
        self.check(self.one.do(cdb, data=data), 5, 0x2600)


class IdentityTests(SynchronousTestCase):
    """
    Who a device is.
    """

    def test_unique(self) -> None:
        """Two devices are never the same."""
        one, other = open_disk("same", memory()), open_disk("same", memory())
        for field in ("serial", "naa", "uuid"):
            self.assertNotEqual(
                getattr(one.identity, field), getattr(other.identity, field)
            )

    def test_remembered(self) -> None:
        """What is remembered is who it was."""
        kept = Volatile()
        one, other = (open_disk("a", memory(), memory=kept) for _twice in "12")
        self.assertEqual(one.identity, other.identity)

    def test_no_disk(self) -> None:
        """Sizes that make no disk are refused."""
        for size, block_size in ((0, 512), (1000, 512), (131072, 131072)):
            store = memory()
            store.size, store.block_size = size, block_size
            self.assertRaises(ValueError, open_disk, "x", store)

    def test_addresses(self) -> None:
        """A LUN below 256 has two addresses, a greater one has one."""
        node, target, (unit,) = serve(memory())
        target.add_lun(300, unit)
        one = Initiator(node).ready()
        nexus = one.connection.session.nexus  # type: ignore[union-attr]
        found: dict[int, ITL] = nexus.luns
        self.assertIs(found[0], found[0x4000 << 48])
        self.assertIn(0x412C << 48, found)
        self.assertNotIn(300 << 48, found)
