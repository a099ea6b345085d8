# SPDX-License-Identifier: MIT
"""
Tests for the commands of a CD/DVD drive: `scstd.scsi.mmc`, by the bytes initiators see.
"""

from __future__ import annotations

import random
import struct
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides, implementer

from scstd.interfaces import IBackstore, IOpticalDrive, IReadOnly
from scstd.scsi.command import Command, every
from scstd.scsi.device import open_cdrom, open_unit
from scstd.scsi.kinds import CDROM, PRIMARY
from scstd.scsi.mmc import reading, sector
from scstd.scsi.mmc.configuration import FEATURES
from scstd.scsi.mmc.disc import CD_BLOCKS, from_msf, msf
from scstd.test.initiator import Done, Initiator, read10, serve
from scstd.test.stores import MemoryDrive, memory


def image(blocks: int, seed: int = 1) -> bytes:
    """Return the bytes of a disc."""
    return random.Random(seed).randbytes(blocks * 2048)


def drive(media: dict[str, bytes], medium: str = "") -> Any:
    """Return a CD/DVD drive of media in memory."""
    store = MemoryDrive(media, medium)
    alsoProvides(store, IOpticalDrive, IReadOnly)
    return store


@implementer(IBackstore, IReadOnly, IOpticalDrive)
class Pressed:
    """A disc of so many blocks, each filled with its LBA."""

    block_size = 2048

    def __init__(self, blocks: int) -> None:
        self.size = blocks * 2048

    def read(self, offset: int, length: int) -> bytes:
        """Make up the blocks."""
        first = offset // 2048
        numbers = range(first, first + length // 2048)
        return b"".join(lba.to_bytes(4, "big") * 512 for lba in numbers)

    def write(self, offset: int, data: Any, fua: bool) -> None:
        """Never be called."""
        raise AssertionError

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class CDTests(SynchronousTestCase):
    """
    What all of them need: a drive with a CD in it, and an initiator.
    """

    blocks = 1000

    def setUp(self) -> None:
        """Serve a CD."""
        self.connect(Pressed(self.blocks))

    def connect(self, store: Any) -> None:
        """Serve a store and log in."""
        self.node, self.target, (self.unit,) = serve(store)
        self.one = Initiator(self.node).ready()

    def dvd(self) -> None:
        """Serve a DVD."""
        self.connect(Pressed(2_000_000))

    def check(self, done: Done, key: int, asc: int) -> None:
        """The command has to have failed with this sense data."""
        self.assertEqual(done.status, 2)
        self.assertEqual((done.key, f"{done.asc:04x}"), (key, f"{asc:04x}"))

    def good(self, cdb: str, read: int = 65535) -> bytes:
        """Return what a command (hex) answers; it has to succeed."""
        done = self.one.do(bytes.fromhex(cdb), read=read)
        self.assertEqual(done.status, 0, done.sense.hex())
        return done.data

    def refused(self, cdb: str, asc: int = 0x2400, read: int = 65535) -> Done:
        """A command (hex) has to end with ILLEGAL REQUEST."""
        done = self.one.do(bytes.fromhex(cdb), read=read)
        self.check(done, 5, asc)
        return done


class WhoTests(CDTests):
    """
    INQUIRY, capacity, the commands there are.
    """

    def test_inquiry(self) -> None:
        """A removable CD/DVD device, of MMC-6."""
        data = self.good("12 00 00 00 60 00")
        self.assertEqual(data[:2], b"\x05\x80")
        versions = struct.unpack_from(">4H", data, 58)
        self.assertEqual(versions, (0x00A0, 0x0960, 0x0460, 0x04E0))
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


class DiscTests(CDTests):
    """
    What is on the disc.
    """

    def test_toc(self) -> None:
        """Format 0: one data track and the lead-out, by LBA and by time."""
        self.assertEqual(
            self.good("43 00 00 00 00 00 00 00 ff 00"),
            bytes.fromhex("00120101 00140100 00000000 0014aa00 000003e8"),
        )
        found = self.good("43 02 00 00 00 00 01 00 ff 00")
        self.assertEqual(found[8:12], bytes((0, 0, 2, 0)))
        self.assertEqual(found[16:20], bytes((0, 0, 15, 25)))
        found = self.good("43 00 00 00 00 00 aa 00 ff 00")
        self.assertEqual(found, bytes.fromhex("000a0101 0014aa00 000003e8"))
        self.refused("43 00 00 00 00 00 02 00 ff 00")
        self.assertEqual(len(self.good("43 00 00 00 00 00 00 00 04 00")), 4)

    def test_sessions(self) -> None:
        """Format 1, also where Linux says it."""
        expected = bytes.fromhex("000a0101 00140100 00000000")
        self.assertEqual(self.good("43 00 01 00 00 00 00 00 0c 00"), expected)
        self.assertEqual(self.good("43 00 00 00 00 00 00 00 0c 40"), expected)

    def test_full_toc(self) -> None:
        """Format 2: points A0h, A1h, A2h and the track, by time; of a CD only."""
        found = self.good("43 00 02 00 00 00 01 00 ff 00")
        self.assertEqual(found[:4], bytes.fromhex("002e0101"))
        entries = [found[at : at + 11] for at in range(4, len(found), 11)]
        self.assertEqual(
            [entry.hex() for entry in entries],
            [
                "011400a000000000010000",
                "011400a100000000010000",
                "011400a200000000000f19",
                "0114000100000000000200",
            ],
        )
        self.dvd()
        self.refused("43 00 02 00 00 00 01 00 ff 00", 0x3002)

    def test_other_formats(self) -> None:
        """A pressed disc has no PMA, ATIP or CD-TEXT."""
        for format_ in (3, 4, 5, 15):
            self.refused(f"43 00 {format_:02x} 00 00 00 00 00 ff 00")

    def test_disc_information(self) -> None:
        """A complete disc of one session with one track."""
        found = self.good("51 00 00 00 00 00 00 00 ff 00")
        self.assertEqual(found[:9], bytes.fromhex("0020 0e 01 01 01 01 20 00"))
        self.assertEqual(found[16:24], b"\xff" * 8)
        self.assertEqual(len(found), 34)
        self.refused("51 01 00 00 00 00 00 00 ff 00")

    def test_track_information(self) -> None:
        """The track, by address, by number and by session."""
        by_lba = self.good("52 00 000003e7 00 00ff 00")
        self.assertEqual(len(by_lba), 36)
        self.assertEqual(by_lba[:8], bytes.fromhex("0022 01 01 00 04 01 02"))
        self.assertEqual(struct.unpack_from(">I", by_lba, 8), (0,))
        self.assertEqual(struct.unpack_from(">II", by_lba, 24), (1000, 999))
        for cdb in ("52 01 00000001 00 00ff 00", "52 02 00000001 00 00ff 00"):
            self.assertEqual(self.good(cdb), by_lba)
        self.refused("52 00 000003e8 00 00ff 00", 0x2100)
        for cdb in (
            "52 01 00000000 00 00ff 00",
            "52 01 000000ff 00 00ff 00",
            "52 03 00000001 00 00ff 00",
            "52 05 00000001 00 00ff 00",
        ):
            self.refused(cdb)

    def test_structures(self) -> None:
        """READ DISC STRUCTURE of a DVD: physical, copyright, and the list of them."""
        self.dvd()
        found = self.good("ad 00 00000000 00 00 ffff 00 00")
        self.assertEqual((len(found), found[:4]), (2052, bytes.fromhex("08020000")))
        self.assertEqual(found[4:8], bytes.fromhex("010f0100"))
        first, last, inner = struct.unpack_from(">III", found, 8)
        self.assertEqual((first, last, inner), (0x30000, 0x30000 + 1_999_999, 0))
        found = self.good("ad 00 00000000 00 01 ffff 00 00")
        self.assertEqual(found, bytes.fromhex("0006 0000 00000000"))
        listed = self.good("ad 00 00000000 00 ff ffff 00 00")
        self.assertEqual(int.from_bytes(listed[:2], "big"), len(listed) - 2)
        for at in range(4, len(listed), 4):
            code, flags, length = struct.unpack_from(">BBH", listed, at)
            whole = self.good(f"ad 00 00000000 00 {code:02x} ffff 00 00")
            self.assertEqual((flags, length), (0x40, len(whole)))
        self.refused("ad 00 00000000 00 02 ffff 00 00")
        self.refused("ad 00 00000000 01 00 ffff 00 00")
        self.refused("ad 01 00000000 00 00 ffff 00 00")

    def test_structures_of_a_cd(self) -> None:
        """A CD has none of them; the list says what the drive knows."""
        self.refused("ad 00 00000000 00 00 ffff 00 00", 0x3000)
        self.assertEqual(len(self.good("ad 00 00000000 00 ff ffff 00 00")), 16)


class ConfigurationTests(CDTests):
    """
    GET CONFIGURATION.
    """

    def features(self, cdb: str) -> tuple[int, dict[int, tuple[int, bytes]]]:
        """Return the current profile, and (flags, data) by feature number."""
        data = self.good(cdb)
        length, profile = struct.unpack_from(">IxxH", data)
        self.assertEqual(length, len(data) - 4)
        found: dict[int, tuple[int, bytes]] = {}
        at = 8
        while at < len(data):
            number, flags, size = struct.unpack_from(">HBB", data, at)
            self.assertEqual(size % 4, 0)
            found[number] = (flags, data[at + 4 : at + 4 + size])
            at += 4 + size
        self.assertEqual(list(found), sorted(found))
        return profile, found

    def test_cd(self) -> None:
        """A CD: profile 8, CD Read is current, DVD Read is not."""
        profile, found = self.features("46 00 0000 00 00 00 ffff 00")
        self.assertEqual(profile, 0x0008)
        self.assertEqual(list(found), [one.number for one in FEATURES])
        self.assertEqual(found[0], (0x03, bytes.fromhex("00100000 00080100")))
        self.assertEqual(found[1][1][:5], bytes.fromhex("00000001 03"))
        self.assertEqual(found[3][1][0], 0x39)
        self.assertEqual(found[0x10][1], bytes.fromhex("00000800 0001 01 00"))
        self.assertEqual(found[0x1E][0] & 1, 1)
        self.assertEqual(found[0x1F][0] & 1, 0)
        serial = self.unit.identity.serial.encode()
        self.assertEqual(found[0x108][1].rstrip(), serial)

    def test_mandatory(self) -> None:
        """What each profile has to have is current with it."""
        wanted = {
            0x0008: {0x00, 0x01, 0x02, 0x03, 0x10, 0x1E, 0x100, 0x105},
            0x0010: {0x00, 0x01, 0x02, 0x03, 0x10, 0x1F, 0x100, 0x105, 0x107},
        }
        for _medium in ("cd", "dvd"):
            profile, found = self.features("46 01 0000 00 00 00 ffff 00")
            self.assertLessEqual(wanted.pop(profile), set(found))
            self.dvd()
        self.assertEqual(wanted, {})

    def test_size_decides(self) -> None:
        """80 minutes are a CD, one block more is a DVD."""
        for blocks, expected in ((CD_BLOCKS, 8), (CD_BLOCKS + 1, 0x10)):
            self.connect(Pressed(blocks))
            data = self.good("46 00 0000 00 00 00 0008 00")
            self.assertEqual(data[6:8], expected.to_bytes(2, "big"))

    def test_types(self) -> None:
        """RT 0 is all, 1 the current ones, 2 one; from a number on."""
        _profile, current = self.features("46 01 0000 00 00 00 ffff 00")
        self.assertNotIn(0x1F, current)
        _profile, from_there = self.features("46 00 001f 00 00 00 ffff 00")
        self.assertEqual(min(from_there), 0x1F)
        _profile, one = self.features("46 02 001f 00 00 00 ffff 00")
        self.assertEqual(list(one), [0x1F])
        _profile, none = self.features("46 02 0020 00 00 00 ffff 00")
        self.assertEqual(none, {})
        self.refused("46 03 0000 00 00 00 ffff 00")

    def test_cut_off(self) -> None:
        """A short answer says how long the whole one is."""
        whole = self.good("46 00 0000 00 00 00 ffff 00")
        self.assertEqual(self.good("46 00 0000 00 00 00 0008 00"), whole[:8])


class ModeTests(CDTests):
    """
    Mode pages of a drive.
    """

    def test_all(self) -> None:
        """No block descriptor, no device specific parameter; the pages MMC wants."""
        data = self.good("5a 00 3f 00 00 00 00 ffff 00")
        self.assertEqual(int.from_bytes(data[:2], "big"), len(data) - 2)
        self.assertEqual(data[2:8], bytes(6))
        codes, at = [], 8
        while at < len(data):
            codes.append(data[at] & 0x3F)
            at += 2 + data[at + 1]
        self.assertEqual(at, len(data))
        self.assertLessEqual({0x01, 0x0D, 0x1D, 0x2A}, set(codes))
        self.assertNotIn(0x08, codes)

    def test_capabilities(self) -> None:
        """Page 2Ah has the lock state as it is, and cannot be changed."""
        data = self.good("5a 00 2a 00 00 00 00 ffff 00")[8:]
        self.assertEqual((len(data), data[:2]), (22, b"\x2a\x14"))
        self.assertEqual((data[2], data[6]), (0x08, 0x29))
        self.good("1e 00 00 00 01 00", 0)
        locked = self.good("5a 00 2a 00 00 00 00 ffff 00")[8:]
        self.assertEqual(locked[6], 0x2B)
        changeable = self.good("5a 00 6a 00 00 00 00 ffff 00")[8:]
        self.assertEqual(changeable[2:], bytes(20))
        done = self.one.do(
            bytes.fromhex("55100000000000001e00"), data=bytes(8) + locked
        )
        self.assertEqual(done.status, 0)
        wrong = bytes(8) + locked[:6] + b"\0" + locked[7:]
        done = self.one.do(bytes.fromhex("55100000000000001e00"), data=wrong)
        self.check(done, 5, 0x2600)

    def test_disks_have_none(self) -> None:
        """A disk has none of the drive's pages."""
        node, _target, _units = serve(memory())
        disk = Initiator(node).ready()
        for code in (0x0D, 0x1D, 0x2A):
            done = disk.do(bytes((0x1A, 0, code, 0, 255, 0)), read=255)
            self.check(done, 5, 0x2400)


class SpeedTests(CDTests):
    """
    How fast it is.
    """

    def test_performance(self) -> None:
        """GET PERFORMANCE: one speed from the first block to the last."""
        found = self.good("ac 10 00000000 00 00 000a 00 00")
        length, flags = struct.unpack_from(">IB", found)
        self.assertEqual((length, flags, len(found)), (20, 0, 24))
        first, begin, last, end = struct.unpack_from(">IIII", found, 8)
        self.assertEqual((first, last, begin), (0, 999, end))
        self.assertEqual(
            self.good("ac 11 00000000 00 00 000a 00 00")[:5], b"\0\0\0\4\1"
        )
        for cdb in (
            "ac 10 00000000 00 00 000a 03 00",
            "ac 14 00000000 00 00 000a 00 00",
            "ac 00 00000000 00 00 000a 00 00",
            "ac 10 000003e8 00 00 000a 00 00",
        ):
            self.refused(cdb)

    def test_wishes(self) -> None:
        """SET CD SPEED, SET READ AHEAD and SET STREAMING are taken."""
        self.good("bb 00 ffff ffff 00 00 00 00 00 00", 0)
        self.refused("bb 02 ffff ffff 00 00 00 00 00 00", read=0)
        self.good("a7 00 00000001 00000010 00 00", 0)
        self.refused("a7 00 00000001 000003e8 00 00", read=0)
        wish = struct.pack(">BxxxIIIIII", 0, 0, 999, 99999, 1, 99999, 1)
        cdb = bytes.fromhex("b6 00 00 00 00 00 00 00 00 00 1c 00")
        self.assertEqual(self.one.do(cdb, data=wish).status, 0)
        self.check(self.one.do(cdb, data=b"\x02" + wish[1:]), 5, 0x2600)
        exact = struct.pack(">BxxxIIIIII", 2, 0, 999, 1385, 1000, 0, 0)
        self.assertEqual(self.one.do(cdb, data=exact).status, 0)

    def test_nothing_to_do(self) -> None:
        """SYNCHRONIZE CACHE has nothing to write; MECHANISM STATUS is idle."""
        self.good("35 00 00000000 00 0000 00", 0)
        self.assertEqual(self.good("bd 00 00000000 00 00 0008 00 00"), bytes(8))


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
