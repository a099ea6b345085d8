# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.spc.mode`: MODE SELECT and MODE SENSE as commands.
"""

from __future__ import annotations

import struct

from scstd.block.capabilities import Capabilities
from scstd.scsi.spc import mode
from scstd.test.test_mode_pages import PageTests


class SelectTests(PageTests):
    """
    MODE SELECT refuses what is wrong, and does nothing then.
    """

    def test_values(self) -> None:
        """Values that the standard reserves are refused, and point at their field."""
        self.refused(self.set("queue_error", 2), 0x2600, 8 + 3, 2)
        self.refused(self.set("queue_algorithm", 7), 0x2600, 8 + 3, 7)
        self.assertEqual((self.unit.queue_error, self.unit.queue_algorithm), (0, 1))

    def test_all_or_nothing(self) -> None:
        """One wrong page keeps the right one before it from acting."""
        right = bytearray(self.sense(0xA))
        right[2] |= 4
        wrong = bytearray(self.sense(2))
        wrong[4] ^= 1
        done = self.select(bytes(right), bytes(wrong))
        self.refused(done, 0x2600, 8 + len(right) + 4, 0)
        self.assertFalse(self.unit.descriptor_sense)
        self.assertEqual(self.other.do(bytes(6)).status, 0)

    def test_lengths(self) -> None:
        """A list that ends too early is a PARAMETER LIST LENGTH ERROR; an empty is not."""
        page = self.sense(0xA)
        for data in (bytes(4), bytes(8) + page[:1], bytes(8) + page[:-1]):
            cdb = struct.pack(">BBxxxxxHx", 0x55, 0x10, len(data))
            self.assertEqual(self.one.do(cdb, data=data).asc, 0x1A00, data)
        data = bytes(8) + page
        cdb = struct.pack(">BBxxxxxHx", 0x55, 0x10, len(data) + 1)
        self.assertEqual(self.one.do(cdb, data=data).asc, 0x1A00)
        self.assertEqual(self.one.do(b"\x55\x10" + bytes(8)).status, 0)
        self.assertEqual(self.select().status, 0)

    def test_cut_header(self) -> None:
        """A header that is cut off anywhere is a PARAMETER LIST LENGTH ERROR."""
        for length in range(1, 8):
            cdb = struct.pack(">BBxxxxxHx", 0x55, 0x10, length)
            self.assertEqual(self.one.do(cdb, data=bytes(length)).asc, 0x1A00, length)
        for length in range(1, 4):
            cdb = bytes((0x15, 0x10, 0, 0, length, 0))
            self.assertEqual(self.one.do(cdb, data=bytes(length)).asc, 0x1A00, length)
        # So is a block descriptor that the list ends before.
        data = struct.pack(">HBBHH", 0, 0, 0, 0, 8)
        self.assertEqual(self.select(head=data).asc, 0x1A00)
        cdb = bytes((0x15, 0x10, 0, 0, 4, 0))
        self.assertEqual(self.one.do(cdb, data=b"\0\0\0\10").asc, 0x1A00)

    def test_page_length(self) -> None:
        """A page of another length than it has is refused at PAGE LENGTH."""
        page = bytearray(self.sense(0xA))
        page[1] -= 1
        self.refused(self.select(bytes(page)), 0x2600, 8 + 1)
        page = bytearray(self.sense(0xA, 1))
        page[3] -= 1
        self.refused(self.select(bytes(page)), 0x2600, 8 + 2)

    def test_unknown_page(self) -> None:
        """A page that is not there is refused at PAGE CODE."""
        self.refused(self.select(b"\x3e\x02\0\0"), 0x2600, 8, 5)
        self.refused(self.select(b"\x4a\x05\0\2\0\0"), 0x2600, 8, 5)

    def test_pf(self) -> None:
        """PF=0 is refused: there are no vendor specific pages."""
        self.refused(self.one.do(b"\x15\0\0\0\4\0", data=bytes(4)), 0x2400, 1, 4)

    def test_nothing_to_save(self) -> None:
        """Where nothing can be changed, SP and saved values are refused."""
        save = b"\x55\x11" + bytes(8)
        self.assertEqual(self.one.do(save).status, 0)
        self.unit.device_type = 0x05
        self.unit.volume.can = Capabilities(write_through=True)
        patched = {
            key: page for key, page in mode.PAGES.items() if key[0] in {0x02, 0x1A}
        }
        self.patch(mode, "PAGES", patched)
        self.refused(self.one.do(save), 0x2400, 1, 0)
        done = self.one.do(b"\x1a\x08\xc2\0\xff\0", read=255)
        self.assertEqual((done.key, done.asc), (5, 0x3900))
        self.assertEqual(self.one.do(b"\x1a\x08\x02\0\xff\0", read=255).status, 0)

    def test_header(self) -> None:
        """The header may say again what MODE SENSE said, but no medium type."""
        page = self.sense(0xA)
        head = struct.pack(">HBBHH", 18, 0, 0x90, 0, 0)
        self.assertEqual(self.select(page, head=head).status, 0)
        head = struct.pack(">HBBHH", 0, 1, 0, 0, 0)
        self.refused(self.select(page, head=head), 0x2600, 2)
        head = struct.pack(">HBBHH", 0, 0, 0, 0x0200, 0)
        self.refused(self.select(page, head=head), 0x2600, 4, 1)

    def test_descriptors(self) -> None:
        """A block descriptor, short or long, may say what is so, nothing else."""
        size, everything = 512, self.unit.blocks

        def short(blocks: int, size: int) -> bytes:
            return struct.pack(">HBBHHII", 0, 0, 0, 0, 8, blocks, size)

        def long(blocks: int, size: int) -> bytes:
            return struct.pack(">HBBBxHQxxxxI", 0, 0, 0, 1, 16, blocks, size)

        for head in (
            short(everything, size),
            short(0, size),
            short(0xFFFFFFFF, size),
            long(everything, size),
            long(0, size),
        ):
            self.assertEqual(self.select(head=head).status, 0, head)
        self.refused(self.select(head=short(everything - 1, size)), 0x2600, 8)
        self.refused(self.select(head=short(0, 4096)), 0x2600, 13)
        self.refused(self.select(head=long(everything - 1, size)), 0x2600, 8)
        self.refused(self.select(head=long(0, 4096)), 0x2600, 20)
        wrong = struct.pack(">HBBHH8x", 0, 0, 0, 0, 16) + bytes(8)
        self.refused(self.select(head=wrong), 0x2600, 6)


class SenseTests(PageTests):
    """
    MODE SENSE: headers, block descriptors, allocation lengths.
    """

    def test_allocation_lengths(self) -> None:
        """The answer is cut off at any length, 0 and 1 too; its length field is not."""
        whole = self.one.do(b"\x1a\0\x3f\xff\xff\0", read=255).data
        self.assertEqual(whole[0], len(whole) - 1)
        for length in range(len(whole) + 1):
            cdb = struct.pack(">BBBBBx", 0x1A, 0, 0x3F, 0xFF, length)
            self.assertEqual(self.one.do(cdb, read=255).data, whole[:length])
        ten = self.one.do(b"\x5a\0\x3f\xff\0\0\0\x10\0\0", read=4096).data
        self.assertEqual(ten[8:], whole[4:])
        for length in (0, 1, 2, 8, 9):
            cdb = struct.pack(">BBBBxxxHx", 0x5A, 0, 0x3F, 0xFF, length)
            self.assertEqual(self.one.do(cdb, read=4096).data, ten[:length])

    def test_descriptors(self) -> None:
        """DBD leaves the block descriptor out, LLBAA makes it long."""
        six = self.one.do(b"\x1a\0\x0a\0\xff\0", read=255).data
        self.assertEqual(six[3], 8)
        self.assertEqual(struct.unpack_from(">II", six, 4), (2048, 512))
        self.assertEqual(self.one.do(b"\x1a\x08\x0a\0\xff\0", read=255).data[3], 0)
        ten = self.one.do(b"\x5a\x10\x0a\0\0\0\0\0\xff\0", read=255).data
        self.assertEqual((ten[4], ten[7]), (1, 16))
        self.assertEqual(struct.unpack_from(">QxxxxI", ten, 8), (2048, 512))
        ten = self.one.do(b"\x5a\x18\x0a\0\0\0\0\0\xff\0", read=255).data
        self.assertEqual((ten[4], ten[7]), (0, 0))

    def test_big(self) -> None:
        """More blocks than a short descriptor can count are FFFFFFFFh there."""
        self.unit.volume.blocks = 1 << 33
        six = self.one.do(b"\x1a\0\x0a\0\xff\0", read=255).data
        self.assertEqual(six[4:8], b"\xff" * 4)
        ten = self.one.do(b"\x5a\x10\x0a\0\0\0\0\0\xff\0", read=255).data
        self.assertEqual(struct.unpack_from(">Q", ten, 8), (1 << 33,))

    def test_header(self) -> None:
        """Medium type 0; DPOFUA is true: READ and WRITE take DPO and FUA."""
        six = self.one.do(b"\x1a\x08\x0a\0\xff\0", read=255).data
        self.assertEqual((six[1], six[2]), (0, 0x10))
        both = b"\x28\x18" + bytes(6) + b"\x01\0"
        self.assertEqual(self.one.do(both, read=512).status, 0)
        both = b"\x2a\x18" + bytes(6) + b"\x01\0"
        self.assertEqual(self.one.do(both, data=bytes(512)).status, 0)

    def test_wrong(self) -> None:
        """No such page points at PAGE CODE, no such subpage at SUBPAGE CODE."""
        self.refused(self.one.do(b"\x1a\0\x3e\0\xff\0", read=255), 0x2400, 2, 5)
        self.refused(self.one.do(b"\x1a\0\x0a\5\xff\0", read=255), 0x2400, 3)
        self.refused(self.one.do(b"\x1a\0\x3f\5\xff\0", read=255), 0x2400, 3)
