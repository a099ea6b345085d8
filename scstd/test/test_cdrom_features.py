# SPDX-License-Identifier: MIT
"""
Tests for what a CD/DVD drive says of its disc and of itself, by the bytes initiators
see: `scstd.scsi.mmc`.
"""

from __future__ import annotations

import struct

from scstd.scsi.mmc.configuration import FEATURES
from scstd.test.discs import CDTests, Pressed
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import memory


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
        # No disc type, identification or bar code; no lead-in to come; no tables.
        self.assertEqual(found[9:16], bytes(7))
        self.assertEqual(found[16:24], b"\xff" * 8)
        self.assertEqual(found[24:], bytes(10))
        self.assertEqual(self.good("51 00 00 00 00 00 00 00 05 00"), found[:5])
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
        for blocks, expected in ((360_000, 8), (360_001, 0x10)):
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
