# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.copy.offsets`: EXTENDED COPY segments that begin and end inside
blocks.
"""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from scstd.filters.error import wrap
from scstd.handlers.memory import MemoryStore
from scstd.scsi.copy import limits, offsets
from scstd.test.copying import (
    CopyTests,
    list_1,
    naa,
    receive_4,
    segment,
    with_offset,
    xcopy,
)
from scstd.test.generating import examples
from scstd.test.initiator import Initiator
from scstd.test.stores import memory
from scstd.test.test_copy import pattern

SIZE = 1 << 16


class OffsetTests(CopyTests):
    """
    What is copied.
    """

    def setUp(self) -> None:
        """Serve two disks, both of them full."""
        self.connect(memory(SIZE), memory(SIZE))
        self.contents = [bytearray(pattern(SIZE, seed)) for seed in (1, 2)]
        for store, content in zip(self.stores, self.contents, strict=True):
            store.write(0, bytes(content), False)

    def copied(self, at: int, to: int, length: int, *, same: bool = False) -> None:
        """Copy bytes, and see that these and no others are changed."""
        shifts = [unit.block_shift for unit in self.units]
        target = 0 if same else 1
        mask = [(1 << shift) - 1 for shift in shifts]
        one = with_offset(
            length,
            at >> shifts[0],
            at & mask[0],
            to >> shifts[target],
            to & mask[target],
            target=target,
        )
        done = self.copy(one)
        self.assertEqual(done.status, 0, (at, to, length, done))
        self.contents[target][to : to + length] = self.contents[0][at : at + length]
        for store, content in zip(self.stores, self.contents, strict=True):
            self.assertEqual(bytes(store.read(0, SIZE)), bytes(content))

    def test_bytes(self) -> None:
        """Inside a block, over some, at both ends; and nothing at all."""
        for at, to, length in (
            (0, 0, 512),
            (3, 5, 7),
            (3, 509, 6),
            (100, 700, 4000),
            (0, 1, SIZE - 1),
            (1, 0, SIZE - 1),
            (513, 1025, 511),
            (7, 7, 0),
        ):
            self.copied(at, to, length)

    @examples(150)
    @given(st.data())
    def test_any(self, data: st.DataObject) -> None:
        """Any bytes, between units of any two sizes of blocks, and inside one."""
        sizes = [data.draw(st.sampled_from((512, 4096))) for _each in range(2)]
        self.connect(memory(SIZE, sizes[0]), memory(SIZE, sizes[1]))
        self.contents = [bytearray(pattern(SIZE, seed)) for seed in (1, 2)]
        for store, content in zip(self.stores, self.contents, strict=True):
            store.write(0, bytes(content), False)
        # Pieces that are small enough to be several.
        self.patch(offsets, "PIECE", data.draw(st.sampled_from((4096, 8192, 1 << 20))))
        length = data.draw(st.integers(1, 20_000))
        at = data.draw(st.integers(0, SIZE - length))
        same = data.draw(st.booleans())
        near = st.integers(max(0, at - 9000), min(SIZE - length, at + 9000))
        to = data.draw(near if same else st.integers(0, SIZE - length))
        self.copied(at, to, length, same=same)

    def test_whole_blocks(self) -> None:
        """What is whole blocks goes the way of whole blocks."""
        self.patch(offsets, "put", None)
        self.copied(1024, 512, 4096)
        self.copied(1024, 2048, 4096, same=True)

    def test_others_keep(self) -> None:
        """Who writes the same block meanwhile loses nothing: each is alone there."""
        held: list[Deferred[Any]] = []

        class Slow(MemoryStore):
            def read(self, offset: int, length: int) -> Any:
                waits: Deferred[Any] = Deferred()
                waits.addCallback(lambda _: MemoryStore.read(self, offset, length))
                held.append(waits)
                return waits

        self.connect(memory(SIZE), Slow(SIZE, 512))
        self.stores[0].write(0, pattern(SIZE), False)
        data = list_1(
            [naa(unit) for unit in self.units], [with_offset(8, 0, 0, 3, 100)]
        )
        copying = self.one.command(xcopy(data), write=len(data), data=data)
        self.one.send(copying)
        (reading,) = held
        other = Initiator(self.node, isid=b"\x80\0\0\0\0\7").ready()
        cdb = struct.pack(">BBIBHB", 0x2A, 0, 3, 0, 1, 0)
        write = other.command(cdb, write=512, data=b"w" * 512, lun=1)
        other.send(write)
        self.assertEqual(other.receive(), [])
        reading.callback(None)
        self.assertEqual(self.one.finish(copying).status, 0)
        self.assertEqual(other.finish(write).status, 0)
        found = MemoryStore.read(self.stores[1], 3 * 512, 512)
        self.assertEqual(bytes(found), b"w" * 512)

    def test_wrong(self) -> None:
        """What does not fit is refused, with a pointer, before a byte is written."""
        head = 16 + 64
        for one, asc, at in (
            (with_offset(8, 0, 512), 0x2600, 28),
            (with_offset(8, 0, 0, 0, 512), 0x2600, 30),
            (with_offset(8, SIZE >> 9), 0x0000, 12),
            (with_offset(513, (SIZE >> 9) - 1), 0x0000, 12),
            (with_offset(513, 0, 0, (SIZE >> 9) - 1), 0x0000, 20),
            (with_offset(limits.MOST_SEGMENT_BYTES + 1), 0x2600, 8),
        ):
            done = self.copy(one)
            self.check(done, 0xA, asc)
            self.assertEqual(self.pointer(done), head + at)
        done = self.copy(with_offset(8, size=24))
        self.check(done, 5, 0x2600)
        self.assertEqual(self.pointer(done), head + 2)
        self.check(self.copy(with_offset(8)[:-4]), 5, 0x1A00)
        self.assertEqual(bytes(self.stores[1].read(0, SIZE)), bytes(self.contents[1]))

    def test_mixed(self) -> None:
        """Segments of both kinds stand in one list; what was done is told in bytes."""
        cscds = [naa(unit) for unit in self.units]
        data = list_1(
            cscds, [segment(2, 0, 8), with_offset(10, 1, 3, 9, 500), segment(1, 4, 20)]
        )
        self.assertEqual(self.one.do(xcopy(data), data=data).status, 0)
        for to, at, length in ((4096, 0, 1024), (5108, 515, 10), (10240, 2048, 512)):
            self.contents[1][to : to + length] = self.contents[0][at : at + length]
        self.assertEqual(bytes(self.stores[1].read(0, SIZE)), bytes(self.contents[1]))
        status = self.one.do(receive_4(5, 1), read=1024).data
        self.assertEqual(struct.unpack_from(">Q", status, 16), (1546,))

    def test_failures(self) -> None:
        """A destination that fails is told with its sense data, and the bytes left."""
        values = {"on": "write", "errno": "EIO", "offset": 4096, "length": 512}
        bad = wrap(None, "disk", memory(SIZE), {**values, "after": 0, "count": 0})
        self.connect(memory(SIZE), bad)
        done = self.copy(with_offset(8, 0, 0, 8, 1))
        self.check(done, 0xA, 0x0D01)

    def test_announced(self) -> None:
        """The descriptor type is in VPD page 8Fh."""
        page = self.one.do(b"\x12\1\x8f\4\0\0", read=1024).data
        self.assertIn(b"\0\x08\0\x04\x03\x02\x0a\xe4", page)
        kinds, at = [], 4
        while at < len(page):
            kind, length = struct.unpack_from(">HH", page, at)
            kinds.append(kind)
            # Padded, whatever is in it (SPC-5 table 644).
            self.assertEqual(length % 4, 0, hex(kind))
            at += 4 + length
        self.assertEqual(at, len(page))
        self.assertEqual(kinds, sorted(kinds))
        self.assertIn(0x0108, kinds)
