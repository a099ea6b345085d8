# SPDX-License-Identifier: MIT
"""
Tests for ROD tokens: POPULATE TOKEN, WRITE USING TOKEN, and how long a token is good.
"""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from scstd.initiator.commands import CommandResult, write10
from scstd.protocols.wire.pdu import SCSIResponse
from scstd.scsi.copy import limits, mover, tokens
from scstd.scsi.copy.manager import CopyManager
from scstd.scsi.device import close_disk
from scstd.scsi.removable import changed
from scstd.test.copying import (
    ZERO_TOKEN,
    CopyTests,
    list_1,
    naa,
    offload,
    populate,
    receive_4,
    segment,
    write_using,
    xcopy,
)
from scstd.test.generating import examples
from scstd.test.initiator import INITIATOR, Initiator, corrupted
from scstd.test.stores import ManualStore, memory
from scstd.test.test_copy import pattern

EXPIRED, CANCELLED, DELETED = 0x2307, 0x2308, 0x2309


class ClockTests(CopyTests):
    """
    What the others need.
    """

    def setUp(self) -> None:
        """Serve two disks, the first of them full, and a clock."""
        self.clock = Clock()
        manager = CopyManager(self.clock.seconds)
        self.connect(memory(), memory(), manager=manager)
        self.stores[0].write(0, pattern(1 << 20), False)

    def invalid(self, done: CommandResult, asc: int) -> None:
        """The token has to have been refused."""
        self.check(done, 5, asc)


class TokenTests(ClockTests):
    """
    A token stands for data.
    """

    def test_copy(self) -> None:
        """What a token stands for is written; how much, is told."""
        token = self.populate((10, 4), (100, 2))
        self.assertEqual(len(token), 512)
        self.assertEqual(self.use(token, (50, 3), (7, 3)).status, 0)
        data = pattern(1 << 20)
        whole = data[5120:7168] + data[51200:52224]
        self.assertEqual(self.stores[1].read(25600, 1536), whole[:1536])
        self.assertEqual(self.stores[1].read(3584, 1536), whole[1536:])
        told = self.receive(lun=1)
        self.assertEqual(
            told.hex(),
            "0000002011010006fffffffe000000f10000000000000006000000000000000000000000",
        )

    def test_populated(self) -> None:
        """RECEIVE ROD TOKEN INFORMATION of POPULATE TOKEN; a token is told once."""
        data = populate((10, 4), (100, 2))
        self.assertEqual(self.one.do(offload(0x10, data), data=data).status, 0)
        short = self.one.do(receive_4(7, 7, 40), read=40).data
        told = self.receive()
        self.assertEqual(short, told[:40])
        self.assertEqual(
            told[:38].hex(),
            "00000222"
            "10"
            "01"
            "0000"
            "fffffffe"
            "00"
            "00"
            "00"
            "f1"
            "0000000000000006"
            "0000"
            "000000000000"
            "00000202"
            "0000",
        )
        self.assertEqual(len(told), 0x226)
        self.assertEqual(self.receive()[32:], bytes(4))

    def test_format(self) -> None:
        """A token has its type, who made it, how much it is, and a secret."""
        token, other = self.populate((0, 8)), self.populate((0, 8))
        self.assertEqual(token[:8].hex(), "00800001000001f8")
        self.assertNotEqual(token[8:16], other[8:16])
        self.assertEqual(token[16:48], naa(self.units[0], block=512))
        self.assertEqual(int.from_bytes(token[48:64], "big"), 4096)
        capacity = struct.unpack_from(">QI", token, 96)
        self.assertEqual(capacity, (2047, 512))
        self.assertEqual(token[128:132], b"\x53\xa8\0\x1c")
        self.assertTrue(token[132:].startswith(self.target.name.encode() + b"\0"))
        self.assertNotEqual(token[256:], other[256:])
        listed = self.one.do(receive_4(8, 0), read=1024).data
        self.assertEqual(listed[:4], (4 + 2 * 96).to_bytes(4, "big"))
        self.assertEqual(listed[8:], token[:96] + other[:96])
        self.assertEqual(
            self.one.do(receive_4(8, 0), read=8, lun=1).data, b"\0\0\0\4\0\0\0\0"
        )

    def test_rod_types(self) -> None:
        """Point in time copies but for persistent ones, which would be a lie."""
        for asked, made in (
            (0x00800000, 0x00800000),
            (0x00800001, 0x00800001),
            (0x0080FFFF, 0x00800001),
        ):
            token = self.populate((0, 1), flags=2, rod_type=asked)
            self.assertEqual(int.from_bytes(token[:4], "big"), made)
        for asked in (0x00010000, 0x00800002, 0xFFFF0001, 0):
            data = populate((0, 1), flags=2, rod_type=asked)
            done = self.one.do(offload(0x10, data), data=data)
            self.check(done, 5, 0x2600)
            self.assertEqual(self.pointer(done), 8)

    def test_zero_token(self) -> None:
        """The block device zero ROD token writes zeros, and deallocates."""
        self.stores[1].write(0, b"x" * 16384, False)
        seen: list[tuple[int, int]] = []
        inner = self.stores[1].unmap

        def unmap(offset: int, length: int) -> None:
            seen.append((offset, length))
            inner(offset, length)

        self.patch(self.stores[1], "unmap", unmap)
        self.assertEqual(self.use(ZERO_TOKEN, (0, 8), (16, 8), offset=99).status, 0)
        self.assertEqual(seen, [(0, 4096), (8192, 4096)])
        expected = bytes(4096) + b"x" * 4096 + bytes(4096) + b"x" * 4096
        self.assertEqual(self.stores[1].read(0, 16384), expected)
        self.assertEqual(self.receive(lun=1)[16:24], (16).to_bytes(8, "big"))
        wrong = corrupted(ZERO_TOKEN, 7)
        self.invalid(self.use(wrong, (0, 8)), 0x230A)

    def test_offset(self) -> None:
        """OFFSET INTO ROD counts blocks of the destination."""
        token = self.populate((0, 16))
        self.assertEqual(self.use(token, (0, 4), offset=10).status, 0)
        self.assertEqual(self.stores[1].read(0, 2048), pattern(8192)[5120:7168])
        done = self.use(token, (0, 1), offset=16)
        self.check(done, 5, 0x2600)
        self.assertEqual(self.pointer(done), 8)
        self.check(self.use(token, (0, 1), offset=(1 << 64) - 1), 5, 0x2600)

    def test_less_than_asked_for(self) -> None:
        """What the token has is written; that it was less is an error, and told."""
        token = self.populate((0, 4))
        done = self.use(token, (0, 6))
        self.check(done, 0xA, 0x0D04)
        self.assertEqual(int.from_bytes(done.sense[3:7], "big"), 4)
        self.assertEqual(self.stores[1].read(0, 2048), pattern(2048))
        self.assertEqual(self.stores[1].read(2048, 1024), bytes(1024))
        told = self.receive(lun=1)
        self.assertEqual((told[5], told[12], told[15]), (3, 2, 0xF1))
        self.assertEqual(told[16:24], (4).to_bytes(8, "big"))
        self.assertEqual(told[32 + 2] & 0xF, 0xA)

    def test_block_sizes(self) -> None:
        """A token of 512-byte blocks written to 4 KiB blocks, and the other way."""
        self.connect(memory(), memory(1 << 20, 4096))
        self.stores[0].write(0, pattern(65536), False)
        token = self.populate((1, 3), (40, 8), (8, 6))
        done = self.use(token, (2, 3))
        data = pattern(65536)
        whole = data[512:2048] + data[20480:24576] + data[4096:7168]
        self.assertEqual(done.status, 0)
        expected = whole + bytes(12288 - len(whole))
        self.assertEqual(self.stores[1].read(8192, 12288), expected)
        token = self.populate((2, 3), lun=1)
        self.assertEqual(self.use(token, (500, 5), (600, 9), offset=3, lun=0).status, 0)
        self.assertEqual(self.stores[0].read(256000, 2560), expected[1536:4096])
        self.assertEqual(self.stores[0].read(307200, 4608), expected[4096:8704])

    @examples(60)
    @given(st.data())
    def test_like_memory(self, data: st.DataObject) -> None:
        """Random ranges, offsets and block lengths do what slices of memory do."""
        self.patch(mover, "PIECE", data.draw(st.sampled_from([4096, 8192, 1 << 20])))
        sizes = [data.draw(st.sampled_from([512, 4096])) for _end in range(2)]
        self.connect(*(memory(1 << 18, size) for size in sizes))
        self.stores[0].write(0, pattern(1 << 18), False)

        def ranges(size: int) -> list[tuple[int, int]]:
            cuts = data.draw(
                st.lists(
                    st.integers(0, (1 << 18) // size),
                    min_size=2,
                    max_size=8,
                    unique=True,
                )
            )
            cuts = sorted(cuts)[: len(cuts) // 2 * 2]
            pairs = list(zip(cuts[::2], cuts[1::2], strict=True))
            chosen = [(first, end - first) for first, end in pairs]
            return list(data.draw(st.permutations(chosen)))

        sources, targets = ranges(sizes[0]), ranges(sizes[1])
        content = pattern(1 << 18)
        stream = b"".join(
            content[lba * sizes[0] : (lba + count) * sizes[0]] for lba, count in sources
        )
        offset = data.draw(st.integers(0, (len(stream) - 1) // sizes[1]))
        token = self.populate(*sources)
        done = self.use(token, *targets, offset=offset)
        stream = stream[offset * sizes[1] :]
        stream += bytes(-len(stream) % sizes[1])
        wanted = sum(count for _lba, count in targets) * sizes[1]
        self.assertEqual(done.status, 0 if len(stream) >= wanted else 2)
        model = bytearray(1 << 18)
        for lba, count in targets:
            part, stream = stream[: count * sizes[1]], stream[count * sizes[1] :]
            model[lba * sizes[1] : lba * sizes[1] + len(part)] = part
        self.assertEqual(self.stores[1].read(0, 1 << 18), model)


class ValidityTests(ClockTests):
    """
    When a token is good for nothing, and what is said then.
    """

    def test_token_expiry(self) -> None:
        """A token that is not used expires; using it begins its time anew."""
        token = self.populate((0, 4))
        self.clock.advance(29)
        self.assertEqual(self.use(token, (0, 4)).status, 0)
        self.clock.advance(29)
        self.assertEqual(self.use(token, (0, 4)).status, 0)
        self.clock.advance(30)
        self.invalid(self.use(token, (0, 4)), EXPIRED)
        self.assertEqual(self.units[0].conditions, [])
        self.assertFalse(self.units[0].restricted)

    def test_inactivity_timeout(self) -> None:
        """A longer time can be asked for, up to a limit."""
        token = self.populate((0, 4), inactivity=limits.MOST_INACTIVITY)
        self.clock.advance(limits.MOST_INACTIVITY - 1)
        self.assertEqual(self.use(token, (0, 4)).status, 0)
        data = populate((0, 1), inactivity=limits.MOST_INACTIVITY + 1)
        done = self.one.do(offload(0x10, data), data=data)
        self.check(done, 5, 0x2600)
        self.assertEqual(self.pointer(done), 4)

    def test_lifetime(self) -> None:
        """No token lives for ever, however often it is used."""
        token = self.populate((0, 4), inactivity=600)
        for _turn in range(limits.MOST_LIFETIME // 500):
            self.clock.advance(500)
            self.use(token, (0, 1))
        self.clock.advance(500)
        self.invalid(self.use(token, (0, 4)), EXPIRED)

    def test_cancelled_by_a_write(self) -> None:
        """A write to one of its blocks cancels a token; one beside them does not."""
        token = self.populate((100, 10), (300, 10))
        for lba in (99, 110, 299, 310):
            self.assertEqual(self.one.do(write10(lba, 1), data=bytes(512)).status, 0)
        self.assertEqual(self.use(token, (0, 4)).status, 0)
        self.one.do(write10(309, 1), data=bytes(512))
        self.invalid(self.use(token, (0, 4)), CANCELLED)
        self.assertEqual(self.one.do(bytes(6)).status, 0)

    @examples(80)
    @given(st.data())
    def test_cancelled_like_a_scan(self, data: st.DataObject) -> None:
        """Of many tokens just those are cancelled whose blocks are written."""
        self.setUp()
        pair = st.tuples(st.integers(0, 60), st.integers(1, 20))
        live = {}
        for _step in range(data.draw(st.integers(1, 12))):
            lba, count = data.draw(pair)
            if data.draw(st.booleans()):
                live[self.populate((lba, count), (lba + 100, count))] = lba, count
            else:
                self.one.do(write10(lba, count), data=bytes(count * 512))
                live = {
                    token: (first, blocks)
                    for token, (first, blocks) in live.items()
                    if first + blocks <= lba or lba + count <= first
                }
        tokens = self.manager.tokens.management_tokens(self.units[0])
        self.assertEqual(sorted(tokens), sorted(token[:96] for token in live))

    def test_cancelled_by_whatever_writes(self) -> None:
        """Everything that can change a block is noticed."""
        block = bytes(512)
        unmap_list = struct.pack(">HH4xQI4x", 22, 16, 8, 8)
        same = struct.pack(">BBQIxx", 0x93, 0, 4, 8)
        to_the_end = struct.pack(">BBQIxx", 0x93, 0, 2, 0)
        compare = struct.pack(">BBQxxxBxx", 0x89, 0, 9, 1)
        held = self.stores[0].read(9 * 512, 512)
        copied = list_1([], [segment(4, 100, 8, source=0xFFFF, target=0xFFFF)])
        for cdb, data in (
            (b"\x0a\0\0\x0a\1\0", block),
            (struct.pack(">BBQIxx", 0x8A, 0, 10, 1), block),
            (b"\x2e\0\0\0\0\x0a\0\0\1\0", block),
            (same, block),
            (to_the_end, block),
            (b"\x42\0\0\0\0\0\0\0\x18\0", unmap_list),
            (compare, held + block),
            (struct.pack(">BBQIxx", 0x8B, 0, 10, 1), block),
            (xcopy(copied), copied),
        ):
            self.stores[0].write(9 * 512, held, False)
            token = self.populate((9, 3))
            self.assertEqual(self.one.do(cdb, data=data).status, 0, cdb.hex())
            done = self.use(token, (0, 1))
            self.assertEqual((cdb.hex(), done.status), (cdb.hex(), 2))
            self.invalid(done, CANCELLED)
        unmap_list = struct.pack(">HH4xQI4x", 22, 16, 16, 8)
        token = self.populate((9, 3))
        self.one.do(b"\x42\0\0\0\0\0\0\0\x18\0", data=unmap_list)
        self.assertEqual(self.use(token, (0, 1)).status, 0)

    def test_cancelled_by_its_own_use(self) -> None:
        """Written over what it stands for, a token ends; disjoint ranges do not."""
        token = self.populate((0, 8))
        self.assertEqual(self.use(token, (100, 8), lun=0).status, 0)
        self.assertEqual(self.use(token, (200, 8), lun=0).status, 0)
        self.use(token, (4, 4), lun=0)
        self.invalid(self.use(token, (0, 1)), CANCELLED)

    def test_cancelled_while_used(self) -> None:
        """A write during WRITE USING TOKEN: nothing that came after it is written."""
        source = ManualStore(16 << 20)
        self.connect(source, memory(16 << 20))
        token = self.populate((0, 20480))
        data = write_using(token, (0, 20480))
        self.one.send(
            self.one.command(offload(0x11, data), write=len(data), data=data, lun=1)
        )
        source.go(2)
        self.one.send(self.one.command(write10(9, 1), write=512, data=b"w" * 512))
        source.inner.write(0, b"n" * (16 << 20), False)
        source.go(len(source.calls))
        self.assertEqual(source.calls, [])
        failed = [
            one
            for one in self.one.receive()
            if isinstance(one, SCSIResponse) and one.status
        ]
        sense = bytes(failed[0].data)[2:]
        self.assertEqual((sense[2] & 0xF, sense[12:14]), (5, b"\x23\x08"))
        self.assertEqual(self.stores[1].read(0, 16 << 20), bytes(16 << 20))

    def test_writes_before(self) -> None:
        """POPULATE TOKEN waits for a write that had begun: data does not change."""
        source = ManualStore()
        self.connect(source, memory())
        self.one.send(self.one.command(write10(3, 1), write=512, data=b"w" * 512))
        data = populate((0, 8))
        self.one.send(self.one.command(offload(0x10, data), write=len(data), data=data))
        self.assertEqual(self.one.receive(), [])
        source.go()
        self.assertEqual([one.status for one in self.one.receive()], [0, 0])
        token = self.receive()[38:]
        data = write_using(token, (0, 8))
        self.one.send(
            self.one.command(offload(0x11, data), write=len(data), data=data, lun=1)
        )
        source.go()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.assertEqual(self.stores[1].read(1536, 512), b"w" * 512)

    def test_garbled(self) -> None:
        """Any byte that is wrong makes a token corrupt, unknown, or no token."""
        token = self.populate((0, 4))
        for at, asc in (
            (0, 0x2301),
            (7, 0x230A),
            (15, 0x2304),
            (40, 0x2305),
            (511, 0x2305),
        ):
            self.invalid(self.use(corrupted(token, at), (0, 4)), asc)
        self.invalid(self.use(bytes(512), (0, 4)), 0x230A)
        self.assertEqual(self.use(token, (0, 4)).status, 0)

    def test_deleted(self) -> None:
        """DEL_TKN deletes the token after its use."""
        token = self.populate((0, 4))
        self.assertEqual(self.use(token, (0, 4), flags=2).status, 0)
        self.invalid(self.use(token, (0, 4)), DELETED)

    def test_wrong_session(self) -> None:
        """Another session of the same initiator may use it; a stranger may not."""
        token = self.populate((0, 4))
        again = Initiator(self.node, isid=b"\x80\0\0\0\0\2").ready()
        self.assertEqual(self.use(token, (9, 4), who=again).status, 0)
        group = self.target.add_group("stranger", [INITIATOR + "2"])
        self.target.add_lun(1, self.units[1], group=group)
        stranger = Initiator(self.node, name=INITIATOR + "2").ready()
        self.invalid(self.use(token, (9, 4), who=stranger), 0x2300)

    def test_reservation_of_the_source(self) -> None:
        """What a token stands for is read as its user may read it."""
        token = self.populate((0, 4))
        other = Initiator(self.node, name=INITIATOR + "2").ready()
        other.do(bytes((0x16, 0, 0, 0, 0, 0)))
        done = self.use(token, (0, 4))
        self.check(done, 0xA, 0x0D01)
        self.assertEqual((done.sense[8], done.sense[18]), (18, 0x18))

    def test_bounded(self) -> None:
        """So many tokens an initiator: a further one takes the oldest's place."""
        tokens = [
            self.populate((number, 1)) for number in range(limits.MOST_OF_INITIATOR + 1)
        ]
        self.invalid(self.use(tokens[0], (0, 1)), 0x2304)
        self.assertEqual(self.use(tokens[1], (0, 1)).status, 0)

    def test_full(self) -> None:
        """A table full of others' living tokens: INSUFFICIENT RESOURCES."""
        self.patch(tokens, "MOST_TOKENS", 2)
        kept = self.populate((0, 1)), self.populate((1, 1))
        data = populate((2, 1))
        other = Initiator(self.node, name=INITIATOR + "2").ready()
        self.check(other.do(offload(0x10, data), data=data), 5, 0x550D)
        self.assertEqual(self.use(kept[0], (0, 1), flags=2).status, 0)
        self.assertEqual(other.do(offload(0x10, data), data=data).status, 0)
        self.invalid(self.use(kept[0], (0, 1)), 0x2304)

    def test_another_medium(self) -> None:
        """A token goes with its medium, and with a change of its size."""
        unit = self.units[0]
        for change in (lambda: changed(unit), unit.volume.resized):
            token = self.populate((0, 4))
            change()
            self.one.do(bytes(6))
            self.invalid(self.use(token, (0, 4)), CANCELLED)
            self.assertEqual(self.units[0].conditions, [])

    def test_closed_device(self) -> None:
        """A token goes with its device."""
        token = self.populate((0, 4))
        self.successResultOf(close_disk(self.units[0]))
        self.invalid(self.use(token, (0, 4)), 0x2304)
