# SPDX-License-Identifier: MIT
"""
Tests for the parameter lists of copies: limits, lengths, field pointers, nonsense.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scstd.scsi.copy import limits
from scstd.scsi.copy import offload as offloads
from scstd.test.copying import (
    ZERO_TOKEN,
    CopyTests,
    list_1,
    list_4,
    naa,
    offload,
    populate,
    receive_1,
    segment,
    with_offset,
    write_using,
    xcopy,
)
from scstd.test.generating import examples
from scstd.test.stores import memory


class ParameterListTests(CopyTests):
    """
    What is wrong with a list is found before anything is copied, and pointed at.
    """

    def setUp(self) -> None:
        """Serve two disks."""
        self.connect(memory(), memory())

    def refused(self, data: bytes, asc: int, *, lid4: bool = False) -> Any:
        """The list has to be refused with ILLEGAL REQUEST."""
        done = self.one.do(xcopy(data, lid4=lid4), data=data)
        self.check(done, 5, asc)
        return done

    def parameters(self, *segments: bytes, **fields: Any) -> bytes:
        """Return a list for the two disks."""
        return list_1([naa(unit) for unit in self.units], segments, **fields)

    def test_descriptor_limits(self) -> None:
        """One CSCD, one segment or one byte too many is refused, as reported."""
        parameters = self.one.do(receive_1(3, 0), read=1024).data
        cscds, segments, longest = struct.unpack_from(">HHI", parameters, 8)
        one = naa(self.units[0])
        done = self.refused(list_1([one] * (cscds + 1), []), 0x2606)
        self.assertEqual(self.pointer(done), 2)
        done = self.refused(list_1([one], [segment(1)] * (segments + 1)), 0x2608)
        self.assertEqual(self.pointer(done), 8)
        longer = with_offset(1, target=0)
        both = list_1([one] * (cscds + 1), [longer] * segments)
        self.assertGreater(len(both) - 16, longest)
        self.refused(both, 0x1A00)
        whole = list_1([one] * cscds, [longer] * segments)
        self.assertEqual(len(whole) - 16, longest)
        self.assertEqual(self.one.do(xcopy(whole), data=whole).status, 0)

    def test_too_long_is_not_collected(self) -> None:
        """A parameter list length of gigabytes is refused before a byte is asked for."""
        cdb = struct.pack(">BB8xIxx", 0x83, 0, 0xFFFFFFFF)
        self.one.send(self.one.command(cdb, write=0xFFFFFF00))
        answers = self.one.receive()
        self.assertEqual(len(answers), 1)
        self.assertEqual(bytes(answers[0].data)[14:16], b"\x1a\0")

    def test_descriptor_types(self) -> None:
        """CSCD and segment descriptors of other types are refused."""
        names = [naa(self.units[0], first=0xE0), naa(self.units[1])]
        done = self.refused(list_1(names, [segment(1)]), 0x2607)
        self.assertEqual(self.pointer(done), 16)
        done = self.refused(self.parameters(segment(1), segment(1, kind=0x03)), 0x2609)
        self.assertEqual(self.pointer(done), 16 + 64 + 28)

    def test_lengths(self) -> None:
        """A list that is cut off, and lengths that are no descriptors."""
        data = self.parameters(segment(1))
        for cut in (1, 28, 60, 95):
            self.refused(data[:-cut], 0x1A00)
        self.refused(data[:10], 0x1A00)
        short = self.one.do(xcopy(data), data=data[:50])
        self.check(short, 5, 0x1A00)
        done = self.refused(data[:2] + b"\0\x21" + data[4:] + b"\0" * 9, 0x2600)
        self.assertEqual(self.pointer(done), 2)
        done = self.refused(data[:82] + b"\0\x17" + data[84:], 0x2600)
        self.assertEqual(self.pointer(done), 82)
        self.refused(data[:8] + b"\0\0\0\x1b" + data[12:], 0x1A00)

    def test_inline_data(self) -> None:
        """There is no use for inline data here."""
        data = self.parameters(segment(1))
        done = self.refused(data[:12] + b"\0\0\0\4" + data[16:] + b"abcd", 0x260B)
        self.assertEqual(self.pointer(done), 12)

    def test_designator_length(self) -> None:
        """A designator has no more than 20 bytes."""
        data = bytearray(self.parameters(segment(1)))
        data[16 + 7] = 21
        done = self.refused(bytes(data), 0x2600)
        self.assertEqual(self.pointer(done), 23)

    def test_list_id_usage(self) -> None:
        """01b is reserved, 11b wants 0; and 11b leaves nothing to ask for."""
        self.assertEqual(
            self.pointer(self.refused(self.parameters(usage=1), 0x2600)), 1
        )
        wrong = self.parameters(usage=3, list_id=5)
        self.assertEqual(self.pointer(self.refused(wrong, 0x2600)), 0)
        self.assertEqual(self.copy(segment(1), usage=3, list_id=0).status, 0)
        self.check(self.one.do(receive_1(0, 0), read=12), 5, 0x2400)
        self.assertEqual(self.copy(segment(1), usage=2, list_id=9).status, 0)
        self.assertEqual(self.one.do(receive_1(0, 9), read=12).status, 0)

    def test_lid4_header(self) -> None:
        """The fixed fields of a LID4 header, and G_SENSE, are checked."""
        good = list_4([naa(self.units[0])], [])
        for at, value in ((0, 0), (3, 0x21), (16, 0), (15, 2)):
            wrong = bytearray(good)
            wrong[at] = value
            done = self.refused(bytes(wrong), 0x2600, lid4=True)
            self.assertEqual(self.pointer(done), 2 if at == 3 else at)
        wrong_usage = list_4([], [], usage=3, list_id=1)
        done = self.refused(wrong_usage, 0x2600, lid4=True)
        self.assertEqual(self.pointer(done), 20)

    @examples(150)
    @given(st.data())
    def test_fuzz(self, data: st.DataObject) -> None:
        """Whatever a list says, the answer is GOOD or sense data that says why."""
        lid4 = data.draw(st.booleans())
        make = list_4 if lid4 else list_1
        good = make(
            [naa(unit) for unit in self.units], [segment(1, 0, 0, source=1, target=1)]
        )
        changed = bytearray(good)
        for _change in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(good) - 1))
            changed[at] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(good)))
        sent = bytes(changed[: cut or len(good)])
        done = self.one.do(xcopy(sent, lid4=lid4), data=sent)
        self.assertIn(done.status, {0, 2})
        if done.status:
            self.assertIn(done.key, {5, 0xA})
        self.assertEqual(self.manager.running, 0)


class OffloadListTests(CopyTests):
    """
    What is wrong with the parameter lists.
    """

    def setUp(self) -> None:
        """Serve two disks."""
        self.connect(memory(), memory())

    def refused(self, action: int, data: bytes, asc: int, key: int = 5) -> Any:
        """The command has to be refused."""
        done = self.one.do(offload(action, data), data=data)
        self.check(done, key, asc)
        return done

    def test_ranges(self) -> None:
        """Blocks that are not there or named twice, too many ranges, too much."""
        for action, of in (
            (0x10, populate),
            (0x11, partial(write_using, ZERO_TOKEN)),
        ):
            self.refused(action, of((2047, 2)), 0x2100)
            self.refused(action, of((0, 1), (1 << 63, 1)), 0x2100)
            self.refused(action, of((0, 8), (20, 1), (7, 2)), 0x2600)
            many = [(2 * number, 1) for number in range(limits.MOST_RANGES + 1)]
            self.refused(action, of(*many), 0x2608)
            data = of(*many[:-1])
            self.assertEqual(self.one.do(offload(action, data), data=data).status, 0)
            self.refused(action, of(), 0x2600)
            empty = of((5, 0))
            self.assertEqual(self.one.do(offload(action, empty), data=empty).status, 0)
            cut = of((0, 1))
            self.refused(action, cut[:12], 0x1A00)
            self.assertEqual(self.one.do(offload(action, b"")).status, 0)

    def test_too_much(self) -> None:
        """More than MAXIMUM TOKEN TRANSFER SIZE is refused."""
        self.patch(offloads, "MOST_TOKEN_BYTES", 4096)
        self.refused(0x10, populate((0, 8), (9, 1)), 0x2600)
        self.refused(0x11, write_using(ZERO_TOKEN, (0, 9)), 0x2600)

    def test_lengths(self) -> None:
        """The length in the list has to be that of the list."""
        data = populate((0, 1))
        self.assertEqual(
            self.pointer(self.refused(0x10, b"\0\x1d" + data[2:], 0x2600)), 0
        )
        data = write_using(ZERO_TOKEN, (0, 1))
        self.assertEqual(
            self.pointer(self.refused(0x11, b"\2\x25" + data[2:], 0x2600)), 0
        )
        self.assertEqual(
            self.pointer(self.refused(0x11, b"\2\x27" + data[2:], 0x2600)), 0
        )

    def test_write_protected(self) -> None:
        """WRITE USING TOKEN to what must not be written."""
        self.units[0].write_protected = True
        self.refused(0x11, write_using(ZERO_TOKEN, (0, 1)), 0x2700, key=7)

    def test_immediate(self) -> None:
        """With IMMED the outcome is asked for."""
        data = populate((0, 8), flags=1)
        self.assertEqual(self.one.do(offload(0x10, data), data=data).status, 0)
        token = self.receive()[38:]
        self.assertEqual(self.use(token, (0, 9), flags=1).status, 0)
        told = self.receive(lun=1)
        self.assertEqual((told[5], told[12]), (3, 2))

    @examples(150)
    @given(st.data())
    def test_fuzz(self, data: st.DataObject) -> None:
        """Whatever a list says, there is a proper answer."""
        action = data.draw(st.sampled_from([0x10, 0x11]))
        good = (
            populate((0, 4), (9, 1))
            if action == 0x10
            else write_using(ZERO_TOKEN, (0, 4), (9, 1))
        )
        changed = bytearray(good)
        for _change in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(good) - 1))
            changed[at] = data.draw(st.integers(0, 255))
        sent = bytes(changed[: data.draw(st.integers(0, len(good))) or None])
        done = self.one.do(offload(action, sent), data=sent)
        self.assertIn(done.status, {0, 2})
        if done.status:
            self.assertIn(done.key, {5, 0xA})
        self.assertEqual(self.manager.running, 0)
