# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.spc.log`, `logs` and `scstd.scsi.statistics`: log pages against
what was done.
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from scstd.block.counters import IOKind
from scstd.handlers.memory import MemoryStore
from scstd.initiator.commands import CommandResult, read10, write10
from scstd.scsi.spc import log
from scstd.scsi.statistics import kind_of
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.stores import ManualStore, Shared, memory

THRESHOLD, CUMULATIVE, DEFAULT_THRESHOLD, DEFAULT_CUMULATIVE = range(4)
WRITES, READS, VERIFIES, NON_MEDIUM, ACCESS = 0x02, 0x03, 0x05, 0x06, 0x19


class LogTests(SynchronousTestCase):
    """
    What all of them need: a disk, two initiators, LOG SENSE and LOG SELECT.
    """

    def setUp(self) -> None:
        """Serve a plain store."""
        self.connect(memory())

    def connect(self, store: Any, **settings: Any) -> None:
        """Serve a store, and log in twice."""
        self.node, _target, (self.unit,) = serve(store, **settings)
        self.one = Initiator(self.node).ready()
        self.other = Initiator(self.node, name=INITIATOR + "2").ready()

    def ask(
        self,
        code: int,
        subpage: int = 0,
        *,
        control: int = CUMULATIVE,
        pointer: int = 0,
        length: int = 4096,
    ) -> CommandResult:
        """Send a LOG SENSE."""
        cdb = struct.pack(
            ">BBBBxHHx", 0x4D, 0, control << 6 | code, subpage, pointer, length
        )
        return self.one.do(cdb, read=4096)

    def body(self, code: int, subpage: int = 0, **how: Any) -> bytes:
        """Return a page without its header, which is checked."""
        data = self.ask(code, subpage, **how).data
        self.assertEqual(data[0] & 0x3F, code)
        self.assertEqual(bool(data[0] & 0x40), bool(subpage))
        self.assertEqual(data[1], subpage)
        self.assertEqual(int.from_bytes(data[2:4], "big"), len(data) - 4)
        return data[4:]

    def parameters(self, code: int, **how: Any) -> dict[int, bytes]:
        """Return the values of a page by parameter code."""
        data, found = self.body(code, **how), {}
        while data:
            key, _control, length = struct.unpack_from(">HBB", data)
            found[key], data = data[4 : 4 + length], data[4 + length :]
        return found

    def numbers(self, code: int, **how: Any) -> dict[int, int]:
        """Return the values of a page that counts."""
        found = self.parameters(code, **how)
        return {key: int.from_bytes(value, "big") for key, value in found.items()}

    def select(
        self, code: int = 0, subpage: int = 0, *, pcr: bool = True, control: int = 1
    ) -> CommandResult:
        """Send a LOG SELECT without a list."""
        cdb = struct.pack(
            ">BBBBxxxHx", 0x4C, 2 if pcr else 0, control << 6 | code, subpage, 0
        )
        return self.one.do(cdb)

    def refused(self, done: CommandResult, asc: int, at: int) -> None:
        """The command has to have failed, pointing at this byte."""
        self.assertEqual((done.status, done.key), (2, 5))
        self.assertEqual(f"{done.asc:04x}", f"{asc:04x}")
        self.assertEqual(int.from_bytes(done.sense[16:18], "big"), at)


class CountersTests(LogTests):
    """
    What is counted is what was done.
    """

    def test_transfers(self) -> None:
        """Bytes and commands of READ, WRITE and VERIFY are counted, each by itself."""
        for blocks in (1, 2, 3):
            self.one.do(write10(0, blocks), data=bytes(512 * blocks))
        self.one.do(read10(0, 8), read=4096)
        self.one.do(struct.pack(">BBQIxx", 0x88, 0, 0, 2), read=1024)
        self.one.do(b"\x2f\0\0\0\0\0\0\0\4\0")
        self.one.do(bytes(6))
        self.assertEqual(self.numbers(WRITES)[5], 6 * 512)
        self.assertEqual(self.numbers(READS)[5], 10 * 512)
        self.assertEqual(self.numbers(VERIFIES)[5], 4 * 512)
        for code in (WRITES, READS, VERIFIES):
            found = self.numbers(code)
            self.assertEqual(list(found), [0, 1, 2, 3, 4, 5, 6])
            self.assertEqual([found[key] for key in (0, 1, 2, 3, 4, 6)], [0] * 6)
        access = struct.unpack_from(">QQQQ", self.parameters(ACCESS)[1])
        self.assertEqual(access, (2, 3, 6, 10))

    def test_times(self) -> None:
        """Page 19h has the times of commands and of idleness, in microseconds."""
        now = [100.0]
        store = ManualStore()
        self.connect(store)
        self.unit.volume.counters.measure(lambda: now[0])

        def times() -> tuple[int, int, int]:
            found = self.parameters(ACCESS)
            self.assertEqual(struct.unpack(">II", found[3]), (6, 1))
            reading, writing = struct.unpack_from(">QQ", found[1], 32)
            return reading, writing, int.from_bytes(found[2], "big")

        now[0] += 2
        self.assertEqual(times(), (0, 0, 2_000_000))
        read = self.one.command(read10(0, 1), read=512)
        write = self.one.command(write10(8, 1), write=512, data=bytes(512))
        self.one.send(read)
        now[0] += 0.5
        self.one.send(write)
        now[0] += 0.25
        # While they are at work nothing is idle; where they overlap both count.
        self.assertEqual(times()[2], 2_000_000)
        store.go(2)
        self.one.receive()
        self.assertEqual(times(), (750_000, 250_000, 2_000_000))
        now[0] += 1
        self.assertEqual(times()[2], 3_000_000)

    def test_sampled(self) -> None:
        """Of what is answered at once one command in sixteen stands for the others."""
        now = [100.0]

        class Slow(MemoryStore):
            def read(self, offset: int, length: int) -> Any:
                now[0] += 0.001
                return super().read(offset, length)

        self.connect(Slow(1 << 20, 512))
        self.unit.volume.counters.measure(lambda: now[0])
        for _read in range(64):
            self.one.do(read10(0, 1), read=512)
        reading = struct.unpack_from(">Q", self.parameters(ACCESS)[1], 32)[0]
        self.assertAlmostEqual(reading / 64_000, 1.0, 3)
        idle = int.from_bytes(self.parameters(ACCESS)[2], "big")
        self.assertLess(idle, 1000)

    def test_refused(self) -> None:
        """A command that never begins is not counted."""
        self.one.do(read10(0xFFFFFFFF, 1), read=512)
        self.assertEqual(self.unit.volume.counters.reads.requests, 0)

    def test_errors(self) -> None:
        """Medium errors are counted by what met them, others as non-medium errors."""
        store = ManualStore()
        self.connect(store)
        for cdb, data, error in (
            (read10(0, 1), b"", OSError(5, "broken")),
            (write10(0, 1), bytes(512), OSError(5, "broken")),
            (write10(0, 1), bytes(512), OSError(5, "broken")),
            (read10(0, 1), b"", OSError(110, "late")),
            (read10(0, 1), b"", ValueError("a defect")),
            (write10(0, 1), bytes(512), OSError(28, "full")),
        ):
            pdu = self.one.command(
                cdb, read=0 if data else 512, write=len(data), data=data
            )
            self.one.send(pdu)
            store.fail(error)
            self.assertEqual(self.one.finish(pdu).status, 2)
        self.flushLoggedErrors(ValueError)
        self.assertEqual(self.numbers(READS)[6], 1)
        self.assertEqual(self.numbers(WRITES)[6], 2)
        self.assertEqual(self.numbers(NON_MEDIUM)[0], 2)

    def test_kinds(self) -> None:
        """Which commands move data, of those there are."""
        self.connect(memory(), long_cdbs=True)
        found = {
            row.name: IOKind(row.kind)
            for rows in self.unit.commands.values()
            for row in (rows.values() if isinstance(rows, dict) else [rows])
        }
        self.assertEqual(found["READ(32)"], IOKind.READ)
        for name in ("WRITE(6)", "WRITE ATOMIC(16)", "WRITE ATOMIC(32)"):
            self.assertEqual(found[name], IOKind.WRITE, name)
        self.assertEqual(found["COMPARE AND WRITE"], IOKind.WRITE)
        self.assertEqual(found["VERIFY(16)"], IOKind.VERIFY)
        for name in ("PRE-FETCH(10)", "SYNCHRONIZE CACHE(16)", "UNMAP", "INQUIRY"):
            self.assertEqual(found[name], IOKind.OTHER, name)
        self.assertEqual(kind_of(0x7F, 0x09), IOKind.READ)

    def test_starts(self) -> None:
        """A medium that is loaded again is another start."""
        self.connect(memory(), removable=True)
        self.assertEqual(self.numbers(0x0E)[4], 1)
        self.one.do(b"\x1b\0\0\0\2\0")
        self.assertEqual(self.ask(0x0E).status, 0)
        self.one.do(b"\x1b\0\0\0\3\0")
        self.assertEqual(self.numbers(0x0E)[4], 2)


class SpaceTests(LogTests):
    """
    The Logical Block Provisioning page says what the store's space is.
    """

    def counts(self) -> list[tuple[int, int]]:
        """Return resource count and scope of available and used resources."""
        found = self.parameters(0x0C)
        self.assertEqual(list(found), [1, 2])
        return [struct.unpack(">IBxxx", value) for value in found.values()]

    def test_space(self) -> None:
        """Counts are in threshold sets, as VPD B2h says; the space is shared."""
        self.connect(Shared(3 << 30, 10 << 30))
        exponent = self.one.do(b"\x12\1\xb2\0\xff\0", read=255).data[4]
        sets = 512 << exponent
        self.assertEqual(sets, 1 << 20)
        self.assertEqual(
            self.counts(), [((7 << 30) // sets, 2), ((3 << 30) // sets, 2)]
        )

    def test_later(self) -> None:
        """The store may take its time, and may fail."""
        wait: Deferred[Any] = Deferred()
        self.connect(Shared(1 << 30, 2 << 30, wait))
        cdb = b"\x4d\0\x4c\0\0\0\0\x10\0\0"
        pdu = self.one.command(cdb, read=4096)
        self.one.send(pdu)
        self.assertEqual(self.one.receive(), [])
        wait.callback(None)
        self.assertEqual(len(self.one.finish(pdu).data), 4 + 12 + 12)
        self.connect(Shared(1 << 30, 2 << 30, fail(OSError(5, "broken"))))
        self.assertEqual(self.ask(0x0C).key, 3)

    def test_unknown(self) -> None:
        """A store that cannot say has no such page, and no thresholds."""
        self.refused(self.ask(0x0C), 0x2400, 2)
        self.assertEqual(self.one.do(b"\x12\1\xb2\0\xff\0", read=255).data[4], 0)


class SenseTests(LogTests):
    """
    LOG SENSE: pages, lists, page controls, pointer, lengths.
    """

    def test_lists(self) -> None:
        """What is listed is there, in order, and nothing else is."""
        listed = list(self.body(0))
        self.assertEqual(listed, sorted(listed))
        self.assertLessEqual({0, 2, 3, 5, 6, 0x0D, 0x0E, 0x10, 0x19, 0x2F}, set(listed))
        pairs = self.body(0, 0xFF)
        both = [(pairs[at], pairs[at + 1]) for at in range(0, len(pairs), 2)]
        self.assertEqual(both, sorted(both))
        self.assertEqual([code for code, sub in both if not sub], listed)
        for code in range(0x40):
            for subpage in (0, 1, 0xFF):
                done = self.ask(code, subpage)
                self.assertEqual(done.status == 0, (code, subpage) in both)
        self.assertEqual(self.body(2, 0xFF), bytes((2, 0, 2, 0xFF)))
        self.refused(self.ask(0x3E), 0x2400, 2)
        self.refused(self.ask(2, 1), 0x2400, 3)
        self.refused(self.ask(0, 1), 0x2400, 3)

    def test_form(self) -> None:
        """DS says that nothing is saved, TSD too; parameters ascend."""
        for page in log.pages_of(self.unit):
            data = self.ask(page.code, page.subpage).data
            self.assertEqual(data[0] & 0x80, 0x80, page.name)
            at, codes = 4, []
            while at < len(data):
                code, control, length = struct.unpack_from(">HBB", data, at)
                self.assertEqual(control & 0xF0, 0x20)
                codes.append(code)
                at += 4 + length
            self.assertEqual(at, len(data))
            self.assertEqual(codes, sorted(set(codes)))

    def test_controls(self) -> None:
        """Thresholds are all ones, default cumulative values zeros."""
        self.one.do(read10(0, 8), read=4096)
        self.assertEqual(self.numbers(READS)[5], 4096)
        self.assertEqual(self.numbers(READS, control=DEFAULT_CUMULATIVE)[5], 0)
        for control in (THRESHOLD, DEFAULT_THRESHOLD):
            self.assertEqual(self.numbers(READS, control=control)[5], 2**64 - 1)

    def test_pointer(self) -> None:
        """The parameter pointer says where to begin; behind the last one is wrong."""
        self.assertEqual(list(self.numbers(READS, pointer=5)), [5, 6])
        self.refused(self.ask(READS, pointer=7), 0x2400, 5)
        self.refused(self.ask(0, pointer=1), 0x2400, 5)

    def test_lengths(self) -> None:
        """A page is cut off at any length, 0 and 1 too; its length field is not."""
        whole = self.ask(READS).data
        for length in range(len(whole) + 2):
            self.assertEqual(self.ask(READS, length=length).data, whole[:length])

    def test_no_saving(self) -> None:
        """SP and PPC are refused: nothing is saved, and PPC is obsolete."""
        for bit, byte in ((0, 1), (1, 1)):
            cdb = bytes((0x4D, 1 << bit, 0x42, 0, 0, 0, 0, 1, 0, 0))
            self.refused(self.one.do(cdb, read=256), 0x2400, byte)
        self.refused(self.one.do(b"\x4c\x01\x40" + bytes(7)), 0x2400, 1)

    def test_unknown(self) -> None:
        """What is not known is said to be so."""
        self.assertEqual(self.parameters(0x0D)[0], b"\0\xff")
        self.assertEqual(self.parameters(0x2F)[0], b"\0\0\xff\xff")


class SelectTests(LogTests):
    """
    LOG SELECT resets, tells the others, and sets nothing.
    """

    def test_reset(self) -> None:
        """PCR resets a page, not others, and the others are told."""
        self.one.do(read10(0, 8), read=4096)
        self.one.do(write10(0, 1), data=bytes(512))
        self.assertEqual(self.select(READS).status, 0)
        self.assertEqual(self.numbers(READS)[5], 0)
        self.assertEqual(self.numbers(WRITES)[5], 512)
        done = self.other.do(bytes(6))
        self.assertEqual((done.key, done.asc), (6, 0x2A02))
        self.assertEqual(self.one.do(bytes(6)).status, 0)
        self.one.do(read10(0, 1), read=512)
        self.assertEqual(self.numbers(READS)[5], 512)

    def test_all(self) -> None:
        """Page 00h is all pages; PC=11b without PCR is the same; PC=01b is nothing."""
        for how in ({"pcr": True}, {"pcr": False, "control": DEFAULT_CUMULATIVE}):
            self.one.do(read10(0, 8), read=4096)
            self.one.do(write10(0, 1), data=bytes(512))
            self.assertEqual(self.select(pcr=False, control=CUMULATIVE).status, 0)
            self.assertNotEqual(self.numbers(READS)[5], 0)
            self.assertEqual(self.other.do(bytes(6)).status, 0)
            self.assertEqual(self.select(**how).status, 0)
            self.assertEqual(self.numbers(READS)[5], 0)
            self.assertEqual(self.numbers(WRITES)[5], 0)
            self.assertEqual(self.other.do(bytes(6)).asc, 0x2A02)

    def test_no_page(self) -> None:
        """A page that is not there cannot be reset."""
        self.refused(self.select(0x3E), 0x2400, 2)
        self.refused(self.select(READS, 1), 0x2400, 3)

    def test_lists(self) -> None:
        """A list is checked; a parameter in it is refused, for none can be set."""

        def send(data: bytes, first: int = 0, page: int = 0) -> CommandResult:
            cdb = struct.pack(">BBBBxxxHx", 0x4C, first, 0x40 | page, 0, len(data))
            return self.one.do(cdb, data=data)

        self.refused(send(b"\x03\0\0\x08\0\5\0\4\0\0\0\0"), 0x2600, 4)
        self.refused(send(b"\x3e\0\0\0"), 0x2600, 0)
        self.assertEqual(send(b"\x03\0\0\0").status, 0)
        self.assertEqual(send(b"\x03\0\0\x08\0\5\0\4").asc, 0x1A00)
        self.assertEqual(send(b"\x03\0").asc, 0x1A00)
        self.refused(send(b"\x03\0\0\0", first=2), 0x2400, 1)
        self.refused(send(b"\x03\0\0\0", page=3), 0x2400, 2)
