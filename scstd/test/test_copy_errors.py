# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.copy`: segments that fail, and what is said of them (SPC-5 section
6.4).
"""

from __future__ import annotations

from typing import Any

from scstd.filters.error import wrap
from scstd.test.copying import (
    CopyTests,
    cscd,
    list_1,
    naa,
    segment,
    xcopy,
)
from scstd.test.initiator import INITIATOR, Initiator
from scstd.test.stores import memory
from scstd.test.test_copy import pattern

RESERVE = bytes((0x16, 0, 0, 0, 0, 0))


class SegmentErrorTests(CopyTests):
    """
    What goes wrong with a segment: COPY ABORTED, which segment, where, and why.
    """

    def setUp(self) -> None:
        """Serve two disks."""
        self.connect(memory(), memory())

    def aborted(self, done: Any, asc: int, number: int, pointer: int | None) -> None:
        """The copy has to have been aborted in this segment."""
        self.check(done, 0xA, asc)
        self.assertEqual(int.from_bytes(done.sense[10:12], "big"), number)
        if pointer is not None:
            self.assertEqual(self.pointer(done), pointer)

    def test_no_such_descriptor(self) -> None:
        """A CSCD descriptor ID beyond the list: UNREACHABLE COPY TARGET."""
        done = self.copy(segment(1), segment(1, target=2))
        self.aborted(done, 0x0804, 1, 16 + 64 + 28 + 6)

    def test_not_reachable(self) -> None:
        """What no unit is called, a null device, and association not 0."""
        one = naa(self.units[0])
        for other in (
            cscd(b"\x60" + bytes(15)),
            naa(self.units[1], null=True),
            naa(self.units[1], association=1),
            cscd(b""),
        ):
            data = list_1([one, other], [segment(1)])
            done = self.one.do(xcopy(data), data=data)
            self.aborted(done, 0x0D02, 0, 16 + 32)

    def test_device_type(self) -> None:
        """A descriptor for a tape does not name a disk."""
        data = list_1(
            [naa(self.units[0], device_type=1), naa(self.units[1])], [segment(1)]
        )
        done = self.one.do(xcopy(data), data=data)
        self.aborted(done, 0x0D03, 0, 16)

    def test_block_length(self) -> None:
        """A block length that is not the unit's is refused."""
        data = list_1(
            [naa(self.units[0], block=512), naa(self.units[1], block=4096)],
            [segment(1)],
        )
        self.aborted(self.one.do(xcopy(data), data=data), 0x2600, 0, 16 + 32 + 29)

    def test_beyond_the_end(self) -> None:
        """A range that is not there, at either end; nothing is written."""
        self.stores[0].write(0, b"x" * 1024, False)
        start = 16 + 64
        self.aborted(self.copy(segment(2, 2047, 0)), 0, 0, start + 12)
        self.aborted(self.copy(segment(2, 0, 2047)), 0, 0, start + 20)
        self.aborted(self.copy(segment(1, 1 << 63, 0)), 0, 0, start + 12)
        self.assertEqual(self.stores[1].read(1 << 19, 1 << 19), bytes(1 << 19))

    def test_masked(self) -> None:
        """A unit that the LUN map of the nexus does not show cannot be copied."""
        group = self.target.add_group("half", [INITIATOR + "2"])
        self.target.add_lun(0, self.units[0], group=group)
        other = Initiator(self.node, name=INITIATOR + "2").ready()
        data = list_1([naa(unit) for unit in self.units], [segment(1)])
        self.aborted(other.do(xcopy(data), data=data), 0x0D02, 0, 16 + 32)

    def test_read_only_lun(self) -> None:
        """A LUN that is read-only in this map can be a source, and no destination."""
        self.target.add_lun(1, self.units[1], read_only=True)
        self.one = Initiator(self.node).ready()
        self.stores[1].write(0, b"y" * 512, False)
        done = self.copy(segment(1))
        self.aborted(done, 0x0D01, 0, 16 + 32)
        self.assertEqual(self.copy(segment(1, 0, 5, source=1, target=0)).status, 0)
        self.assertEqual(self.stores[0].read(2560, 512), b"y" * 512)

    def test_forwarded_sense(self) -> None:
        """What the destination said is handed on, in both formats of sense data."""
        self.target.add_lun(1, self.units[1], read_only=True)
        self.one = Initiator(self.node).ready()
        fixed = self.copy(segment(1)).sense
        self.assertEqual((fixed[7], fixed[8], fixed[9]), (10 + 19, 0, 18))
        self.assertEqual((fixed[18], fixed[21] & 0xF, fixed[31]), (2, 7, 0x27))
        self.units[0].descriptor_sense = True
        sense = self.copy(segment(1)).sense
        self.assertEqual(sense[0], 0x72)
        at = 8
        kinds = {}
        while at < len(sense):
            kinds[sense[at]] = sense[at : at + 2 + sense[at + 1]]
            at += 2 + sense[at + 1]
        self.assertEqual(kinds[0x0C][2:4], b"\x02\x02")
        self.assertEqual(kinds[0x0C][4] & 0x7F, 0x70)

    def test_reservation(self) -> None:
        """A reservation of another's at either end stops a copy there."""
        other = Initiator(self.node, name=INITIATOR + "2").ready()
        for lun, end in ((1, 2), (1, 1)):
            other.do(RESERVE, lun=lun)
            done = self.copy(segment(1) if end == 2 else segment(1, source=1, target=0))
            self.aborted(done, 0x0D01, 0, 16 + 32)
            self.assertEqual(done.sense[7 + end], 18)
            self.assertEqual(done.sense[18], 0x18)
        other.do(RESERVE, lun=0)
        self.assertEqual(self.copy(segment(1)).status, 0x18)

    def test_residual(self) -> None:
        """How many blocks of a segment are missing is in INFORMATION."""
        failing = {
            "on": "write",
            "errno": "ENOSPC",
            "offset": 3 << 20,
            "length": 0,
            "after": 0,
            "count": 0,
        }
        target = wrap(None, "disk", memory(8 << 20), failing)
        source = memory(8 << 20)
        source.write(0, pattern(8 << 20), False)
        self.connect(source, target)
        done = self.copy(segment(10000))
        self.aborted(done, 0x0D01, 0, 16 + 32)
        self.assertEqual(done.sense[0], 0xF0)
        self.assertEqual(int.from_bytes(done.sense[3:7], "big"), 10000 - 3 * 2048)
        self.assertEqual((done.sense[21] & 0xF, done.sense[31:33]), (7, b"\x27\x07"))
        done = self.copy(segment(1, 0, 3 * 2048))
        self.assertEqual(done.sense[0], 0x70)
