# SPDX-License-Identifier: MIT
"""
Tests for self-tests, diagnostic pages, buffers, the timestamp and identifying
information.
"""

from __future__ import annotations

import struct
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from scstd.block.persistence import Volatile
from scstd.initiator.commands import CommandResult
from scstd.management.model.device_attributes import unit_settings
from scstd.protocols.engine.node import Node, TargetSettings
from scstd.scsi.device import close_disk, open_disk
from scstd.scsi.selftest import KEPT, SAMPLES
from scstd.scsi.target import Target
from scstd.test.initiator import INITIATOR, TARGET, Initiator
from scstd.test.stores import ManualStore, memory


class PrimaryTests(SynchronousTestCase):
    """
    What all of them need: a disk with a clock and a memory, and two initiators.
    """

    def setUp(self) -> None:
        """Serve a plain store."""
        self.clock = Clock()
        self.clock.advance(1_000_000_000.5)
        self.kept = Volatile()
        self.connect(memory())

    def connect(self, store: Any, **settings: Any) -> None:
        """Serve a store, and log in twice."""
        self.store = store
        node, target = Node(), Target(TARGET)
        self.unit = open_disk(
            "disk0", store, unit_settings(settings), self.kept, self.clock.seconds
        )
        target.add_lun(0, self.unit)
        node.add_target(target, TargetSettings())
        self.one = Initiator(node).ready()
        self.other = Initiator(node, name=INITIATOR + "2").ready()

    def refused(self, done: CommandResult, asc: int, at: int | None = None) -> None:
        """The command has to have failed, pointing at this byte."""
        self.assertEqual((done.status, done.key), (2, 5))
        self.assertEqual(f"{done.asc:04x}", f"{asc:04x}")
        if at is not None:
            self.assertEqual(int.from_bytes(done.sense[16:18], "big"), at)


class SelfTestTests(PrimaryTests):
    """
    SEND DIAGNOSTIC, and the Self-Test Results log page.
    """

    def begin(self, code: int) -> CommandResult:
        """Ask for the self-test with this code."""
        return self.one.do(bytes((0x1D, code << 5, 0, 0, 0, 0)))

    def results(self) -> list[tuple[int, int, int]]:
        """Return code, result and LBA of each test that is logged."""
        data = self.one.do(b"\x4d\0\x50\0\0\0\0\x10\0\0", read=4096).data[4:]
        found = []
        for at in range(0, len(data), 20):
            both, lba = data[at + 4], int.from_bytes(data[at + 8 : at + 16], "big")
            if any(data[at + 4 : at + 20]):
                found.append((both >> 5, both & 0xF, lba))
        return found

    def test_default(self) -> None:
        """The default self-test reads the medium; it is not logged."""
        self.assertEqual(self.one.do(b"\x1d\x04\0\0\0\0").status, 0)
        self.assertEqual(self.results(), [])
        store = ManualStore()
        self.connect(store)
        pdu = self.one.command(b"\x1d\x04\0\0\0\0")
        self.one.send(pdu)
        store.go()
        store.fail(OSError(5, "broken"))
        done = self.one.finish(pdu)
        self.assertEqual((done.key, done.asc), (4, 0x3E03))

    def test_foreground(self) -> None:
        """A foreground test is answered when it is over, and its result is logged."""
        for code, samples in ((5, SAMPLES[False]), (6, SAMPLES[True])):
            store = ManualStore(16 << 20)
            self.connect(store)
            pdu = self.one.command(bytes((0x1D, code << 5, 0, 0, 0, 0)))
            self.one.send(pdu)
            reads = 0
            while store.calls:
                self.assertEqual(self.one.receive(), [])
                store.go()
                reads += 1
            self.assertEqual(reads, samples)
            self.assertEqual(self.one.finish(pdu).status, 0)
            self.assertEqual(self.results()[0], (code, 0, 2**64 - 1))

    def test_failure(self) -> None:
        """What cannot be read fails the test, and the log says where."""
        store = ManualStore()
        self.connect(store)
        pdu = self.one.command(bytes((0x1D, 5 << 5, 0, 0, 0, 0)))
        self.one.send(pdu)
        store.go()
        store.fail(OSError(5, "broken"))
        done = self.one.finish(pdu)
        self.assertEqual((done.key, done.asc), (4, 0x3E03))
        data = self.one.do(b"\x4d\0\x50\0\0\0\0\x10\0\0", read=4096).data[4:]
        lba = (self.unit.blocks - 8) // (SAMPLES[False] - 1)
        self.assertEqual(self.results(), [(5, 7, lba)])
        self.assertEqual(data[16:19], b"\x03\x11\x00")

    def test_background(self) -> None:
        """A background test lets commands go on; REQUEST SENSE says how far it is."""
        store = ManualStore()
        self.connect(store)
        self.assertEqual(self.begin(1).status, 0)
        self.assertEqual(self.results(), [(1, 0xF, 2**64 - 1)])
        store.go(8)
        sense = self.one.do(b"\x03\0\0\0\xff\0", read=255).data
        self.assertEqual((sense[2], sense[12:14]), (2, b"\x04\x09"))
        self.assertEqual(int.from_bytes(sense[16:18], "big"), 0x8000)
        self.assertEqual(self.one.do(bytes(6)).status, 0)
        done = self.begin(2)
        self.assertEqual((done.key, done.asc), (2, 0x0409))
        while store.calls:
            store.go()
        self.assertEqual(self.results(), [(1, 0, 2**64 - 1)])
        self.assertFalse(self.unit.restricted)
        sense = self.one.do(b"\x03\0\0\0\xff\0", read=255).data
        self.assertEqual(sense[2], 0)

    def test_aborted(self) -> None:
        """It is aborted by SEND DIAGNOSTIC, by a reset, and by closing the device."""
        self.refused(self.begin(4), 0x2400, 1)
        for how, result in (("code", 1), ("reset", 2)):
            store = ManualStore()
            self.connect(store)
            self.assertEqual(self.begin(2).status, 0)
            if how == "code":
                self.assertEqual(self.begin(4).status, 0)
            else:
                self.one.manage(5)
                self.one.receive()
                self.one.do(bytes(6))
            store.go()
            self.assertEqual(store.calls, [])
            self.assertEqual(self.results()[0][:2], (2, result))
        store = ManualStore()
        self.connect(store)
        self.begin(2)
        closing: Deferred[None] = close_disk(self.unit)
        store.go()
        self.assertEqual([call[0] for call in store.calls], ["flush"])
        store.go()
        self.successResultOf(closing)
        self.assertTrue(store.closed)

    def test_ejected(self) -> None:
        """Without a medium there is nothing to test; one that goes ends the test."""
        store = ManualStore()
        self.connect(store, removable=True)
        self.begin(1)
        pdu = self.one.command(b"\x1b\0\0\0\2\0")
        self.one.send(pdu)
        while store.calls:
            store.go()
        self.assertEqual(self.one.finish(pdu).status, 0)
        self.assertEqual(self.results()[0][:2], (1, 2))
        self.assertEqual(self.begin(5).status, 0)
        self.assertEqual(self.results()[0][:2], (5, 0))

    def test_aborted_in_the_foreground(self) -> None:
        """A foreground test whose command is aborted reads no more."""
        store = ManualStore()
        self.connect(store)
        self.one.send(self.one.command(bytes((0x1D, 6 << 5, 0, 0, 0, 0))))
        self.one.manage(2)
        self.assertEqual(self.one.receive(), [])
        store.go()
        self.assertEqual(len(self.one.receive()), 1)
        self.assertEqual(store.calls, [])

    def test_remembered(self) -> None:
        """The last twenty results are there when the device is opened again."""
        for _one in range(KEPT + 2):
            self.clock.advance(3600)
            self.assertEqual(self.begin(1).status, 0)
        found = self.results()
        self.assertEqual(len(found), KEPT)
        hours = [test.hours for test in self.unit.self_tests.results]
        self.assertEqual(hours[0], KEPT + 2)
        self.connect(memory())
        self.assertEqual(self.results(), found)

    def test_wrong(self) -> None:
        """Reserved codes, and two things at once, are refused."""
        self.refused(self.begin(3), 0x2400, 1)
        self.refused(self.begin(7), 0x2400, 1)
        self.refused(self.one.do(b"\x1d\x24\0\0\0\0"), 0x2400, 1)
        self.refused(self.one.do(b"\x1d\x04\0\0\4\0", data=bytes(4)), 0x2400, 3)
        self.assertEqual(self.one.do(b"\x1d" + bytes(5)).status, 0)

    def test_pages(self) -> None:
        """The one diagnostic page is the list of pages."""
        send = b"\x1d\x10\0\0\4\0"
        self.assertEqual(self.one.do(send, data=bytes(4)).status, 0)
        expected = b"\0\0\0\1\0"
        for receive in (b"\x1c\0\0\0\xff\0", b"\x1c\1\0\0\xff\0"):
            self.assertEqual(self.one.do(receive, read=255).data, expected)
        self.assertEqual(self.one.do(b"\x1c\1\0\0\1\0", read=255).data, b"\0")
        self.assertEqual(self.one.do(b"\x1c\1\0\0\0\0", read=255).data, b"")
        self.refused(self.one.do(b"\x1c\1\x40\0\xff\0", read=255), 0x2400, 2)
        self.refused(self.one.do(send, data=b"\x40\0\0\0"), 0x2600, 0)
        self.refused(self.one.do(b"\x1d\x10\0\0\2\0", data=bytes(2)), 0x1A00)
        self.refused(self.one.do(b"\x1d\0\0\0\4\0", data=bytes(4)), 0x2400, 1)


class BufferTests(PrimaryTests):
    """
    READ BUFFER and WRITE BUFFER.
    """

    def read(
        self, mode: int, offset: int = 0, length: int = 65536, number: int = 0
    ) -> CommandResult:
        """Send a READ BUFFER."""
        cdb = bytes((0x3C, mode, number)) + offset.to_bytes(3, "big")
        return self.one.do(cdb + length.to_bytes(3, "big") + b"\0", read=65536)

    def write(
        self, mode: int, data: bytes, offset: int = 0, number: int = 0
    ) -> CommandResult:
        """Send a WRITE BUFFER."""
        cdb = bytes((0x3B, mode, number)) + offset.to_bytes(3, "big")
        return self.one.do(cdb + len(data).to_bytes(3, "big") + b"\0", data=data)

    def test_data(self) -> None:
        """What is written to the buffer is read from it, at its offset."""
        self.assertEqual(self.read(3).data, b"\0\1\0\0")
        self.assertEqual(self.read(2).data, bytes(65536))
        self.assertEqual(self.write(2, b"buffer", 1000).status, 0)
        self.assertEqual(self.read(2, 1000, 8).data, b"buffer\0\0")
        self.assertEqual(self.read(2, 65536).data, b"")
        self.refused(self.read(2, 65537), 0x2400, 3)
        self.refused(self.write(2, bytes(8), 65530), 0x2400, 6)
        self.refused(self.write(2, bytes(8), number=1), 0x2400, 2)
        self.refused(self.read(2, number=1), 0x2400, 2)
        self.assertEqual(self.read(3, number=1).data, bytes(4))

    def test_echo(self) -> None:
        """Each nexus has its own echo buffer, which is empty to begin with."""
        self.assertEqual(self.read(0x0B).data, b"\1\0\x10\0")
        self.refused(self.read(0x0B, 4), 0x2400, 3)
        self.refused(self.read(0x0A), 0x2C00)
        self.assertEqual(self.write(0x0A, b"echo").status, 0)
        cdb = b"\x3c\x0a" + bytes(6) + b"\xff\0"
        self.assertEqual(self.other.do(cdb, read=255).asc, 0x2C00)
        self.assertEqual(self.read(0x0A).data, b"echo")
        self.assertEqual(self.read(0x0A, length=2).data, b"ec")
        self.refused(self.write(0x0A, bytes(4097)), 0x2400, 6)
        # What was refused has changed nothing, nor has what another nexus writes.
        cdb = b"\x3b\x0a" + bytes(6) + b"\5\0"
        self.assertEqual(self.other.do(cdb, data=b"other").status, 0)
        self.assertEqual(self.read(0x0A).data, b"echo")
        # BUFFER ID and BUFFER OFFSET are ignored, both ways.
        self.assertEqual(self.write(0x0A, b"again", 77, 3).status, 0)
        self.assertEqual(self.read(0x0A, 99, number=5).data, b"again")
        self.assertEqual(self.write(0x0A, b"").status, 0)
        self.assertEqual(self.read(0x0A).data, b"")

    def test_modes(self) -> None:
        """No other mode exists: no microcode is taken in, whatever its length."""
        for mode in set(range(0x20)) - {2, 3, 0x0A, 0x0B}:
            self.refused(self.read(mode), 0x2400, 1)
            self.refused(self.write(mode, bytes(512)), 0x2400, 1)


class TimestampTests(PrimaryTests):
    """
    REPORT TIMESTAMP and SET TIMESTAMP.
    """

    REPORT = b"\xa3\x0f\0\0\0\0\0\0\0\x0c\0\0"
    SET = b"\xa4\x0f\0\0\0\0\0\0\0\x0c\0\0"

    def report(self) -> tuple[int, int]:
        """Return origin and milliseconds."""
        data = self.one.do(self.REPORT, read=12).data
        self.assertEqual(data[:2], b"\0\x0a")
        return data[2], int.from_bytes(data[4:10], "big")

    def test_host(self) -> None:
        """It is the host's clock to begin with."""
        self.assertEqual(self.report(), (3, 1_000_000_000_500))
        self.clock.advance(1.25)
        self.assertEqual(self.report(), (3, 1_000_000_001_750))

    def test_set(self) -> None:
        """Once set it runs on from there; the others are told."""
        data = bytes(4) + (5_000).to_bytes(6, "big") + bytes(2)
        self.assertEqual(self.one.do(self.SET, data=data).status, 0)
        self.clock.advance(2)
        self.assertEqual(self.report(), (2, 7_000))
        self.assertEqual(self.other.do(bytes(6)).asc, 0x2A10)
        self.connect(memory())
        self.assertEqual(self.report()[0], 3)

    def test_wrong(self) -> None:
        """A list that is too short or has reserved bits is refused."""
        self.refused(self.one.do(self.SET[:9] + b"\x0b\0\0", data=bytes(11)), 0x1A00)
        self.refused(self.one.do(self.SET, data=bytes(11) + b"\1"), 0x2600, 11)
        self.assertEqual(self.one.do(self.SET[:9] + bytes(3)).status, 0)
        self.assertEqual(self.report()[0], 3)

    def test_no_clock(self) -> None:
        """A unit without a clock has no such commands."""
        self.assertNotIn(0x0F, open_disk("x", memory()).commands[0xA3])


class IdentifyingTests(PrimaryTests):
    """
    REPORT and SET IDENTIFYING INFORMATION.
    """

    def report(self, kind: int = 0, length: int = 1024) -> bytes:
        """Return what is kept of a type."""
        cdb = struct.pack(">BBxxxxIBx", 0xA3, 5, length, kind << 1)
        data = self.one.do(cdb, read=1024).data
        if length >= 4:
            self.assertEqual(int.from_bytes(data[2:4], "big"), len(data) - 4)
        return data[4:]

    def set(self, data: bytes, kind: int = 0) -> CommandResult:
        """Keep something."""
        cdb = struct.pack(">BBxxxxIBx", 0xA4, 6, len(data), kind << 1)
        return self.one.do(cdb, data=data)

    def test_kept(self) -> None:
        """Both types are kept over a reopen, and each by itself; the others are told."""
        self.assertEqual(self.report(), b"")
        self.assertEqual(self.set(b"\0any\xff").status, 0)
        self.assertEqual(self.other.do(bytes(6)).asc, 0x3F05)
        self.assertEqual(self.set("the grün one\0".encode(), 2).status, 0)
        self.connect(memory())
        self.assertEqual(self.report(), b"\0any\xff")
        self.assertEqual(self.report(2), "the grün one\0".encode())
        self.assertEqual(self.set(b"").status, 0)
        self.assertEqual(self.report(), b"")
        self.assertNotEqual(self.report(2), b"")

    def test_supported(self) -> None:
        """Type 7Fh lists the types and their greatest lengths."""
        self.assertEqual(self.report(0x7F), b"\0\0\2\0\4\0\1\0")
        self.assertEqual(self.set(bytes(512)).status, 0)
        self.refused(self.set(bytes(513)), 0x2400, 6)

    def test_wrong(self) -> None:
        """Other types, text without an end and text that is no UTF-8 are refused."""
        cdb = struct.pack(">BBxxxxIBx", 0xA3, 5, 64, 3 << 1)
        self.refused(self.one.do(cdb, read=64), 0x2400, 10)
        self.refused(self.set(b"x", 3), 0x2400, 10)
        self.refused(self.set(b"no end", 2), 0x2600, 5)
        self.refused(self.set(b"ab\xff\0", 2), 0x2600, 2)
        self.assertEqual(self.report(2), b"")
