# SPDX-License-Identifier: MIT
"""
Tests for reading with a CD/DVD drive, by the bytes initiators see: `scstd.scsi.mmc`.

What is on the disc and what the drive can: `scstd.test.test_cdrom_features`.
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from scstd.initiator.commands import read10
from scstd.interfaces import IOpticalDrive
from scstd.scsi.command import Command, every
from scstd.scsi.device import open_cdrom, open_unit
from scstd.scsi.kinds import CDROM, PRIMARY
from scstd.scsi.mmc import reading, sector
from scstd.scsi.mmc.disc import CD_BLOCKS, from_msf, msf
from scstd.test.discs import CDTests, image
from scstd.test.stores import memory


class WhoTests(CDTests):
    """
    INQUIRY, capacity, the commands there are.
    """

    def test_inquiry(self) -> None:
        """A removable CD/DVD device, of MMC-6."""
        data = self.good("12 00 00 00 60 00")
        self.assertEqual(data[:2], b"\x05\x80")
        versions = struct.unpack_from(">4H", data, 58)
        self.assertEqual(versions, (0x00A0, 0x0961, 0x0460, 0x04E0))
        pages = self.good("12 01 00 00 ff 00")[4:]
        self.assertLessEqual({0x00, 0x80, 0x83, 0x86}, set(pages))
        self.assertFalse(set(pages) & {0xB0, 0xB1, 0xB2}, "of disks")

    def test_capacity(self) -> None:
        """READ CAPACITY says the last block and 2048."""
        self.assertEqual(self.good("25" + "00" * 9), struct.pack(">II", 999, 2048))

    def test_writes_do_not_exist(self) -> None:
        """No command writes; those that would are no operation codes."""
        for one in CDROM.sets[len(PRIMARY) :]:
            for row in one.rows:
                self.assertFalse(row.writes, row.name)
        for opcode in (0x0A, 0x2A, 0xAA, 0x8A, 0x41, 0x42, 0x04, 0x5B, 0x53, 0xA1):
            done = self.one.do(bytes((opcode,)) + bytes(11))
            self.check(done, 5, 0x2000)

    def test_supported_commands(self) -> None:
        """REPORT SUPPORTED OPERATION CODES has the drive's own commands."""
        data = self.good("a3 0c 00 00 00 00 00 00 ff ff 00 00")
        codes = {data[at] for at in range(4, len(data), 8)}
        wanted = bytes.fromhex(
            "00 03 12 1a 1b 1e 25 28 2b 2f 35 43 46 4a 51 52 55 5a a0 a7 a8 ac ad b6"
            "b9 bb bd be 16 17 56 57"
        )
        self.assertLessEqual(set(wanted), codes)

    def test_usage_maps(self) -> None:
        """Each command's usage map begins with its code and has its length."""
        lengths = {0: 6, 1: 10, 2: 10, 5: 12, 4: 16}
        for row in every(self.unit.commands):
            assert isinstance(row, Command)
            self.assertEqual(row.usage[0], row.opcode, row.name)
            self.assertEqual(row.length, lengths[row.opcode >> 5], row.name)

    def test_no_disc(self) -> None:
        """What makes no disc is refused."""
        self.assertRaises(ValueError, open_cdrom, "x", memory())
        store: Any = memory(4096 * 3, 2048)
        alsoProvides(store, IOpticalDrive)
        self.assertEqual(open_unit("x", store).device_type, 5)
        store.size = 5000
        self.assertRaises(ValueError, open_unit, "x", store)


class ReadTests(CDTests):
    """
    READ, READ CD, VERIFY, SEEK.
    """

    def data(self, lba: int, blocks: int) -> bytes:
        """Return what is on the disc."""
        found: Any = self.unit.store.read(lba * 2048, blocks * 2048)
        return bytes(found)

    def test_read(self) -> None:
        """READ(10) and READ(12); also with STREAMING."""
        for cdb in (read10(990, 10), bytes.fromhex("a8 00 000003de 0000000a 80 00")):
            done = self.one.do(cdb, read=20480)
            self.assertEqual(done.data, self.data(990, 10))

    def test_range(self) -> None:
        """Blocks behind the last one are refused."""
        self.refused("28 00 000003de 00 000b 00", 0x2100)
        self.refused("a8 00 000003e8 00000001 00 00", 0x2100)
        self.refused("be 00 000003de 00000b 10 00 00", 0x2100)
        self.refused("2b 00 000003e8 00 00 00 00", 0x2100, 0)
        self.good("2b 00 000003e7 00 00 00 00", 0)

    def test_verify(self) -> None:
        """VERIFY reads; it compares with nothing."""
        self.good("2f 00 00000000 00 0064 00", 0)
        self.refused("2f 02 00000000 00 0001 00", read=0)

    def test_read_cd_user_data(self) -> None:
        """READ CD with user data alone is READ."""
        found = self.good("be 00 00000010 000003 10 00 00")
        self.assertEqual(found, self.data(16, 3))
        found = self.good("be 08 00000010 000001 10 00 00")
        self.assertEqual(found, self.data(16, 1))

    def test_read_cd_parts(self) -> None:
        """The parts of the sector that are asked for come in its order."""
        whole = self.good("be 00 00000010 000001 f8 00 00")
        self.assertEqual(len(whole), 2352)
        sync, head = whole[:12], whole[12:16]
        user, rest = whole[16:2064], whole[2064:]
        self.assertEqual(sync, bytes.fromhex("00ffffffffffffffffffff00"))
        self.assertEqual(
            head, bytes.fromhex("00021601")
        )  # 16 + 150 frames, BCD; mode 1
        self.assertEqual(user, self.data(16, 1))
        for parts, expected in (
            (0x00, b""),
            (0x10, user),
            (0x18, user + rest),
            (0x20, head),
            (0x30, head + user),
            (0x38, head + user + rest),
            (0x40, b""),
            (0x50, user),
            (0x60, head),
            (0x80, sync),
            (0xA0, sync + head),
            (0xB0, sync + head + user),
            (0xF8, whole),
        ):
            found = self.good(f"be 00 00000010 000001 {parts:02x} 00 00")
            self.assertEqual(found, expected, hex(parts))

    def test_read_cd_many(self) -> None:
        """Several sectors follow each other, each with its own header."""
        found = self.good("be 00 000003d4 000014 f8 00 00")
        self.assertEqual(len(found), 20 * 2352)
        for number in range(20):
            head = found[number * 2352 + 12 : number * 2352 + 16]
            self.assertEqual(head, sector.header(980 + number))

    def test_read_cd_refused(self) -> None:
        """What cannot be honoured is refused, and the field pointer says what."""
        for cdb, byte in (
            ("be 00 00000010 000001 90 00 00", 9),  # sync and user data, no header
            ("be 00 00000010 000001 08 00 00", 9),  # error correction alone
            ("be 00 00000010 000001 28 00 00", 9),
            ("be 00 00000010 000001 12 00 00", 9),  # C2 errors
            ("be 00 00000010 000001 10 02 00", 10),  # the Q subchannel
            ("be 18 00000010 000001 10 00 00", 1),  # a sector type that is reserved
            ("be 00 00000000 000041 f8 00 00", 6),  # very many, with error correction
        ):
            done = self.refused(cdb)
            self.assertEqual(int.from_bytes(done.sense[16:18], "big"), byte, cdb)
        for kind in (1, 3, 4, 5):
            self.refused(f"be {kind << 2:02x} 00000010 000001 10 00 00", 0x6400)

    def test_read_cd_msf(self) -> None:
        """READ CD MSF reads from a time to before another."""
        found = self.good("b9 00 00 000210 000213 10 00 00")
        self.assertEqual(found, self.data(16, 3))
        self.assertEqual(self.good("b9 00 00 000210 000210 10 00 00"), b"")
        self.refused("b9 00 00 000210 00020f 10 00 00")
        self.refused("b9 00 00 000210 00024b 10 00 00")  # frame 75
        self.refused("b9 00 00 003c00 003d00 10 00 00")  # second 60
        self.refused("b9 00 00 00014a 000210 10 00 00", 0x2100)  # before LBA 0

    def test_read_cd_of_a_dvd(self) -> None:
        """A DVD has no such sectors."""
        self.dvd()
        self.refused("be 00 00000010 000001 10 00 00", 0x3002)


class SectorTests(SynchronousTestCase):
    """
    Error detection and correction, against their definition in ECMA-130.
    """

    def whole(self) -> bytes:
        """Return a sector."""
        user = image(1, 7)
        return sector.SYNC + sector.header(4321) + user + sector.correction(4321, user)

    def test_edc(self) -> None:
        """The first 2068 bytes are a multiple of the EDC's polynomial."""
        whole = self.whole()
        remainder = 0
        for byte in whole[:2068]:
            for bit in range(8):
                carry = remainder >> 31 ^ (byte >> bit & 1)
                remainder = (remainder << 1 & 0xFFFFFFFF) ^ (0x8001801B * carry)
        self.assertEqual(remainder, 0)
        self.assertEqual(whole[2068:2076], bytes(8))

    @staticmethod
    def _times(one: int, other: int) -> int:
        """Return a product in GF(2^8)."""
        product = 0
        while other:
            product ^= one * (other & 1)
            one = one << 1 ^ (0x11D if one & 0x80 else 0)
            other >>= 1
        return product

    def _is_codeword(self, word: list[int]) -> None:
        """Both parity checks have to hold: all ones, and powers of two."""
        plain = weighted = 0
        for symbol in word:
            plain ^= symbol
            weighted = self._times(weighted, 2) ^ symbol
        self.assertEqual((plain, weighted), (0, 0))

    def test_parity(self) -> None:
        """Every column and every diagonal is a codeword, in both bytes of its words."""
        covered = self.whole()[12:]
        for plane in (0, 1):
            words = covered[plane::2]
            for column in range(43):
                self._is_codeword([words[column + 43 * row] for row in range(26)])
            for diagonal in range(26):
                steps = [(44 * step + 43 * diagonal) % 1118 for step in range(43)]
                word = [words[at] for at in steps]
                word += [words[1118 + diagonal], words[1118 + 26 + diagonal]]
                self._is_codeword(word)

    def test_msf(self) -> None:
        """Times and addresses are each other's inverse."""
        for lba in (0, 1, 74, 75, 4350, CD_BLOCKS):
            self.assertEqual(from_msf(msf(lba), 0), lba)
        self.assertEqual(msf(0), bytes((0, 2, 0)))
        self.assertEqual(msf(1 << 24), bytes((255, 59, 74)))


class LimitTests(CDTests):
    """
    What takes long is limited.
    """

    blocks = 5000

    def test_most(self) -> None:
        """The most sectors with error correction are those that are taken."""
        most = reading.MOST_CORRECTED
        found = self.good(f"be 00 00000000 {most:06x} f8 00 00", read=most * 2352)
        self.assertEqual(len(found), most * 2352)
        self.refused("28 00 00000000 00 1001 00", read=2048)
