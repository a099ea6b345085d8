# SPDX-License-Identifier: MIT
"""
Tests for EXTENDED COPY: its parameter list, what it copies, what it says.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from scstd.handlers.memory import MemoryStore
from scstd.interfaces import Extent
from scstd.scsi.copy import limits, mover
from scstd.test.copying import (
    CopyTests,
    cscd,
    list_1,
    list_4,
    naa,
    receive_1,
    receive_4,
    segment,
    xcopy,
)
from scstd.test.generating import examples
from scstd.test.initiator import INITIATOR, Initiator
from scstd.test.stores import memory


def pattern(length: int, seed: int = 1) -> bytes:
    """Return bytes of which no two blocks are alike."""
    return b"".join(
        struct.pack(">QQ", seed, block) * 32 for block in range(-(-length // 512))
    )[:length]


class ExtendedCopyTests(CopyTests):
    """
    What is copied.
    """

    def setUp(self) -> None:
        """Serve two disks, the first of them full."""
        self.connect(memory(), memory())
        self.stores[0].write(0, pattern(1 << 20), False)

    def test_between_two_units(self) -> None:
        """One segment, by the NAA designators; nothing beside it is touched."""
        self.assertEqual(self.copy(segment(3, 10, 20)).status, 0)
        expected = bytes(20 * 512) + pattern(1 << 20)[5120:6656]
        self.assertEqual(self.stores[1].read(0, 23 * 512), expected)
        self.assertEqual(self.stores[1].read(23 * 512, 512), bytes(512))

    def test_every_designator(self) -> None:
        """NAA, T10, UUID and EUI-64 name a unit, as VPD page 83h shows them."""
        self.connect(memory(), memory())
        self.stores[0].write(0, pattern(4096), False)
        unit = self.units[1]
        page = self.one.do(b"\x12\1\x83\4\0\0", read=1024, lun=1).data
        at, names = 4, []
        while at < len(page):
            size = page[at + 3]
            if not page[at + 1] & 0x30 and size <= 20:
                names.append(
                    (page[at] & 15, page[at + 1] & 15, page[at + 4 : at + 4 + size])
                )
            at += 4 + size
        self.assertIn(3, [kind for _set, kind, _name in names])
        self.assertIn(10, [kind for _set, kind, _name in names])
        for number, (code_set, kind, name) in enumerate(names):
            data = list_1(
                [naa(self.units[0]), cscd(name, kind=kind, code_set=code_set)],
                [segment(1, number, 100 + number)],
            )
            self.assertEqual(self.one.do(xcopy(data), data=data).status, 0)
            self.assertEqual(
                self.stores[1].read((100 + number) << 9, 512),
                pattern(4096)[number * 512 :][:512],
            )
        self.assertEqual(unit.blocks, 2048)

    def test_several_segments(self) -> None:
        """Segments are processed in order: a later one sees what an earlier wrote."""
        done = self.copy(
            segment(8, 0, 0),
            segment(4, 0, 100, source=1, target=1),
            segment(2, 100, 0, source=1, target=0),
        )
        self.assertEqual(done.status, 0)
        self.assertEqual(self.stores[1].read(51200, 2048), pattern(2048))
        self.assertEqual(self.stores[0].read(0, 1024), pattern(1024))

    def test_itself(self) -> None:
        """CSCD descriptor ID FFFFh is the unit that the command was sent to."""
        data = list_1([], [segment(2, 5, 50, source=0xFFFF, target=0xFFFF)])
        self.assertEqual(self.one.do(xcopy(data), data=data).status, 0)
        self.assertEqual(self.stores[0].read(25600, 1024), pattern(4096)[2560:3584])

    def test_lid4(self) -> None:
        """EXTENDED COPY(LID4): CSCD descriptor IDs begin at 1 there."""
        cscds = [naa(unit) for unit in self.units]
        data = list_4(cscds, [segment(2, 0, 7, source=1, target=2)], list_id=0x12345)
        self.assertEqual(self.one.do(xcopy(data, lid4=True), data=data).status, 0)
        self.assertEqual(self.stores[1].read(7 * 512, 1024), pattern(1024))
        status = self.one.do(receive_4(5, 0x12345), read=1024).data
        self.assertEqual(status[4:6], b"\1\1")
        self.assertEqual(struct.unpack_from(">Q", status, 16), (1024,))
        data = list_4(cscds, [segment(1, 0, 0, source=0, target=1)])
        self.check(self.one.do(xcopy(data, lid4=True), data=data), 0xA, 0x0804)

    def test_background(self) -> None:
        """With IMMED how it went is only told on request, errors too."""
        cscds = [naa(unit) for unit in self.units]
        data = list_4(cscds, [segment(2, 0, 9, source=1, target=2)], flags=1)
        self.assertEqual(self.one.do(xcopy(data, lid4=True), data=data).status, 0)
        self.assertEqual(self.stores[1].read(9 * 512, 1024), pattern(1024))
        data = list_4(cscds, [segment(2, 0, 2047, source=1, target=2)], flags=1)
        self.assertEqual(self.one.do(xcopy(data, lid4=True), data=data).status, 0)
        status = self.one.do(receive_4(5, 1), read=1024).data
        self.assertEqual((status[5], status[12], status[14]), (2, 2, 18))
        self.assertEqual(status[34] & 0xF, 0xA)

    def test_block_size_mismatch(self) -> None:
        """Blocks are converted where they fit, and refused where they do not."""
        self.connect(memory(), memory(1 << 20, 4096))
        self.stores[0].write(0, pattern(65536), False)
        self.assertEqual(self.copy(segment(16, 8, 3)).status, 0)
        self.assertEqual(self.stores[1].read(12288, 8192), pattern(65536)[4096:12288])
        self.assertEqual(self.copy(segment(2, 24, 9, dc=True)).status, 0)
        self.assertEqual(self.stores[1].read(36864, 8192), pattern(65536)[12288:20480])
        done = self.copy(segment(4, 0, 0))
        self.check(done, 0xA, 0x260A)
        self.assertEqual(self.pointer(done), 16 + 64 + 10)
        self.assertEqual(self.stores[1].read(0, 4096), bytes(4096))
        back = segment(1, 3, 1, source=1, target=0)
        self.assertEqual(self.copy(back).status, 0)
        self.assertEqual(self.stores[0].read(512, 4096), pattern(65536)[4096:8192])

    def test_holes_stay_holes(self) -> None:
        """What a thin source has not got is deallocated in a thin destination."""
        seen: list[tuple[str, int, int]] = []

        class Holes(MemoryStore):
            def unmap(self, offset: int, length: int) -> None:
                seen.append(("unmap", offset, length))
                super().unmap(offset, length)

            def write(self, offset: int, data: Any, fua: bool) -> None:
                seen.append(("write", offset, len(data)))
                super().write(offset, data, fua)

        source, target = memory(), Holes(1 << 20, 512)

        def status(offset: int, length: int) -> list[Extent]:
            # Mapped from 65536 to 131072, and there are no whole blocks at the edges.
            edges = [0, 65536 + 100, 131072 - 100, 1 << 20]
            return [
                Extent(
                    max(first, offset),
                    min(end, offset + length) - max(first, offset),
                    n == 1,
                )
                for n, (first, end) in enumerate(pairwise(edges))
                if first < offset + length and end > offset
            ]

        self.patch(source, "block_status", status)
        source.write(65536, pattern(65536), False)
        target.write(0, b"x" * 262144, False)
        self.connect(source, target)
        seen.clear()
        self.assertEqual(self.copy(segment(512)).status, 0)
        self.assertEqual(
            sorted(seen, key=lambda one: one[1]),
            [("unmap", 0, 65536), ("write", 65536, 65536), ("unmap", 131072, 131072)],
        )
        self.assertEqual(target.read(0, 262144), source.read(0, 262144))

    def test_small_transfers(self) -> None:
        """No read or write is longer than the units take."""
        for unit, blocks in zip(self.units, (64, 40), strict=True):
            limits = attrs.evolve(unit.volume.limits, max_blocks=blocks)
            unit.volume.limits = limits
        seen: list[int] = []
        inner = self.stores[1].write

        def write(offset: int, data: Any, fua: bool) -> None:
            seen.append(len(data))
            inner(offset, data, fua)

        self.patch(self.stores[1], "write", write)
        self.assertEqual(self.copy(segment(1000)).status, 0)
        self.assertEqual(max(seen), 40 * 512)
        self.assertEqual(self.stores[1].read(0, 512000), pattern(512000))

    def test_unknown_holes(self) -> None:
        """A source that cannot tell its holes just now is read."""

        def status(offset: int, length: int) -> list[Extent]:
            raise OSError(5, f"no map of {length} bytes at {offset}")

        store = memory()
        self.patch(store, "block_status", status)
        store.write(0, pattern(4096), False)
        self.connect(store, memory())
        self.assertEqual(self.copy(segment(8)).status, 0)
        self.assertEqual(self.stores[1].read(0, 4096), pattern(4096))

    def test_nothing(self) -> None:
        """No parameter list, no segments, no blocks: GOOD, and nothing happens."""
        self.assertEqual(self.one.do(xcopy(b"")).status, 0)
        self.assertEqual(self.copy().status, 0)
        self.assertEqual(self.copy(segment(0, 1 << 40, 1 << 40)).status, 0)
        self.assertEqual(self.stores[1].read(0, 1 << 20), bytes(1 << 20))

    def test_hole_of_less_than_a_block(self) -> None:
        """A store that tells of a hole, but not of a whole block, is read."""
        source = memory()
        source.write(0, pattern(4096), False)

        def status(offset: int, length: int) -> list[Extent]:
            return [Extent(offset, min(100, length), mapped=False)]

        self.patch(source, "block_status", status)
        self.connect(source, memory())
        self.assertEqual(self.copy(segment(8)).status, 0)
        self.assertEqual(self.stores[1].read(0, 4096), pattern(4096))


class OverlapTests(CopyTests):
    """
    Source and destination overlap on one unit: as if all of it were read first.
    """

    def test_same_lun_overlap(self) -> None:
        """Both directions, closer than a piece and farther."""
        for source, target, blocks in (
            (0, 1, 4000),
            (1, 0, 4000),
            (0, 3000, 9000),
            (3000, 0, 9000),
            (100, 100, 5000),
            (0, 2048, 4096),
        ):
            store = memory(8 << 20)
            model = bytearray(pattern(8 << 20))
            store.write(0, model, False)
            self.connect(store)
            done = self.copy(segment(blocks, source, target, target=0))
            self.assertEqual(done.status, 0)
            model[target << 9 : (target + blocks) << 9] = model[
                source << 9 : (source + blocks) << 9
            ]
            self.assertEqual(store.read(0, 8 << 20), model, (source, target, blocks))
            # All of it is counted, in whichever direction it was done.
            status = self.one.do(receive_4(5, 1), read=1024).data
            counted = int.from_bytes(status[16:24], "big")
            self.assertEqual(counted, blocks << 9, (source, target, blocks))

    @examples(60)
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 1),
                st.integers(0, 1),
                st.integers(0, 300),
                st.integers(0, 211),
                st.integers(0, 211),
            ),
            min_size=1,
            max_size=8,
        ),
        st.sampled_from([512, 1024, 4096, 65536]),
    )
    def test_like_memory(
        self, copies: list[tuple[int, int, int, int, int]], piece: int
    ) -> None:
        """Random copies within and between two units do what slices of memory do."""
        self.patch(mover, "PIECE", piece)
        size = 512 * 512
        self.connect(memory(size), memory(size))
        models = [bytearray(pattern(size, 1)), bytearray(pattern(size, 2))]
        for store, model in zip(self.stores, models, strict=True):
            store.write(0, model, False)
        segments = []
        for source, target, blocks, source_lba, target_lba in copies:
            segments.append(
                segment(blocks, source_lba, target_lba, source=source, target=target)
            )
            taken = bytes(models[source][source_lba << 9 : (source_lba + blocks) << 9])
            models[target][target_lba << 9 : (target_lba + blocks) << 9] = taken
        self.assertEqual(self.copy(*segments).status, 0)
        for store, model in zip(self.stores, models, strict=True):
            self.assertEqual(store.read(0, size), model)


class ReceiveCopyResultsTests(CopyTests):
    """
    RECEIVE COPY RESULTS, byte by byte.
    """

    def setUp(self) -> None:
        """Serve two disks."""
        self.connect(memory(), memory())
        self.stores[0].write(0, pattern(1 << 20), False)

    def test_operating_parameters(self) -> None:
        """RECEIVE COPY OPERATING PARAMETERS."""
        data = self.one.do(receive_1(3, 0), read=1024).data
        self.assertEqual(
            data.hex(),
            "0000002b"
            "01000000"
            "0010"
            "0100"
            "00002200"
            "10000000"
            "00000000"
            "00000000"
            "00000000"
            "0000"
            "0040"
            "40"
            "090000"
            "000000"
            "03"
            "020ae4",
        )
        self.assertEqual(self.one.do(receive_1(3, 0, 8), read=8).data, data[:8])

    def test_status_lid1(self) -> None:
        """RECEIVE COPY STATUS(LID1): how much; told once."""
        self.check(self.one.do(receive_1(0, 1), read=12), 5, 0x2400)
        self.copy(segment(3), segment(5))
        data = self.one.do(receive_1(0, 1), read=12).data
        self.assertEqual(data.hex(), "000000080100020000001000")
        done = self.one.do(receive_1(0, 1), read=12)
        self.check(done, 5, 0x2400)
        self.assertEqual(int.from_bytes(done.sense[16:18], "big"), 2)

    def test_status_lid4(self) -> None:
        """RECEIVE COPY STATUS(LID4) of a copy that went well."""
        self.copy(segment(8))
        data = self.one.do(receive_4(5, 1), read=1024).data
        self.assertEqual(
            data.hex(),
            "0000001c00010004fffffffe0000000000000000000010000001000000000000",
        )
        more = self.one.do(receive_4(6, 1), read=1024).data
        self.assertEqual(more, b"\0\0\0\x20" + data[4:] + bytes(4))

    def test_failure(self) -> None:
        """A failure is told by both formats, with its sense data."""
        sense = self.copy(segment(1, 4000)).sense
        data = self.one.do(receive_1(4, 1), read=1024).data
        self.assertEqual(data[:4], (56 + len(sense)).to_bytes(4, "big"))
        self.assertEqual(data[56:60], b"\2\0" + len(sense).to_bytes(2, "big"))
        self.assertEqual(data[60:], sense)
        self.check(self.one.do(receive_1(4, 1), read=1024), 5, 0x2400)
        data = self.one.do(receive_4(5, 1), read=1024).data
        self.assertEqual((data[5], data[12], data[13], data[14]), (2, 2, 20, 18))
        self.assertEqual(data[32:50], sense)
        self.assertEqual(self.one.do(receive_1(0, 1), read=12).data[4], 2)
        self.assertEqual(self.one.do(receive_1(1, 1), read=12).data, bytes(4))
        self.copy(segment(1))
        self.assertEqual(self.one.do(receive_1(4, 1), read=99).data, bytes(4))

    def test_other_nexus(self) -> None:
        """A list identifier means something to its own I_T nexus only."""
        self.copy(segment(1))
        other = Initiator(self.node, name=INITIATOR + "2").ready()
        self.check(other.do(receive_4(5, 1), read=99), 5, 0x2400)
        again = Initiator(self.node, isid=b"\x80\0\0\0\0\2").ready()
        self.check(again.do(receive_4(5, 1), read=99), 5, 0x2400)

    def test_forgotten(self) -> None:
        """Results are bounded: the oldest goes; a reset forgets all."""
        for number in range(limits.MOST_RESULTS + 1):
            self.copy(segment(1), list_id=number)
        self.check(self.one.do(receive_1(0, 0), read=12), 5, 0x2400)
        self.assertEqual(self.one.do(receive_1(0, 1), read=12).status, 0)
        self.one.manage(5)
        self.one.receive()
        self.one.do(bytes(6))
        self.check(self.one.do(receive_1(0, 2), read=12), 5, 0x2400)

    def test_inquiry(self) -> None:
        """The 3PC bit is set, and the commands are reported as supported."""
        self.assertEqual(self.one.do(b"\x12\0\0\0\x60\0", read=96).data[5] & 8, 8)
        cdb = struct.pack(">BBBBHIxx", 0xA3, 0x0C, 2, 0x83, 0x11, 64)
        data = self.one.do(cdb, read=64).data
        self.assertEqual(data[1] & 7, 3)
        self.assertEqual(data[4:6], b"\x83\x11")
