# SPDX-License-Identifier: MIT
"""
Tests for who asks (`scstd.interfaces.asking`): every call that a store gets for a
command says for which, and no other does.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from scstd.initiator.commands import read10, write10
from scstd.interfaces import (
    Asker,
    Buffer,
    ICompareAndWrite,
    asking,
    command_priority,
)
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.recorder import Recorder
from scstd.test.stores import memory

FUA = 0x08
BLOCK = bytes(512)


def with_lba(opcode: int, flags: int, lba: int, blocks: int = 1) -> bytes:
    """Return a CDB of 16 bytes."""
    return struct.pack(">BBQIxx", opcode, flags, lba, blocks)


def read_fua(lba: int) -> bytes:
    """Return a READ(10) with FUA."""
    return struct.pack(">BBIxHx", 0x28, FUA, lba, 1)


def unmap(lba: int) -> bytes:
    """Return the parameter list of an UNMAP."""
    return struct.pack(">HH4xQI4x", 22, 16, lba, 8)


PLACED: dict[str, Any] = {
    "READ(10)": lambda lba: (read10(lba, 1), b"", 512),
    "READ(10), FUA": lambda lba: (read_fua(lba), b"", 512),
    "WRITE(10)": lambda lba: (write10(lba, 1), BLOCK, 0),
    "WRITE(10), FUA": lambda lba: (write10(lba, 1, fua=True), BLOCK, 0),
    "WRITE SAME(16)": lambda lba: (with_lba(0x93, 0, lba, 8), BLOCK, 0),
    "WRITE SAME(16), zeros": lambda lba: (with_lba(0x93, 1, lba, 8), b"", 0),
    "WRITE SAME(16), unmap": lambda lba: (with_lba(0x93, 9, lba, 8), b"", 0),
    "UNMAP": lambda lba: (b"\x42" + bytes(7) + b"\x18\0", unmap(lba), 0),
    "COMPARE AND WRITE": lambda lba: (
        struct.pack(">BxQxxxBxx", 0x89, lba, 1),
        BLOCK * 2,
        0,
    ),
    "ORWRITE(16)": lambda lba: (with_lba(0x8B, 0, lba), BLOCK, 0),
    "WRITE ATOMIC(16)": lambda lba: (
        struct.pack(">BBQHHxx", 0x9C, 0, lba, 0, 1),
        BLOCK,
        0,
    ),
    "VERIFY(16)": lambda lba: (with_lba(0x8F, 2, lba), BLOCK, 0),
    "WRITE AND VERIFY(16)": lambda lba: (with_lba(0x8E, 2, lba), BLOCK, 0),
    "PRE-FETCH(16)": lambda lba: (with_lba(0x90, 0, lba), b"", 0),
    "GET LBA STATUS(16)": lambda lba: (
        struct.pack(">BBQIxx", 0x9E, 0x12, lba, 512),
        b"",
        512,
    ),
}
"""Commands by name: of an LBA, the CDB, Data-Out, and the length of Data-In."""

WHOLE: dict[str, Any] = {
    "SYNCHRONIZE CACHE(10)": (b"\x35" + bytes(9), b"", 0),
    "START STOP UNIT": (b"\x1b\0\0\0\0\0", b"", 0),
    "MODE SELECT(10)": (
        b"\x55\x10" + bytes(6) + b"\x1c\0",
        bytes(8) + b"\x08\x12" + bytes(18),
        0,
    ),
    "SEND DIAGNOSTIC": (b"\x1d\x04\0\0\0\0", b"", 0),
}
"""Those that name no block."""


class Comparing(Recorder):
    """One that compares and writes by itself."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.compared: list[Asker | None] = []

    def compare_and_write(
        self, offset: int, expected: Buffer, data: Buffer, fua: bool
    ) -> int:
        """Find what is expected."""
        self.compared.append(asking())
        return -1


class AskingBench(SynchronousTestCase):
    """
    Two initiators of a store that notes who asks.
    """

    def connect(self, inner: Any = None, **settings: Any) -> None:
        """Serve it, and log in twice."""
        self.store = Recorder(inner or memory())
        self.node, self.target, (self.unit,) = serve(self.store, **settings)
        self.one = Initiator(self.node).ready()
        self.two = Initiator(self.node, name=INITIATOR + ".two").ready()
        self.store.calls.clear()

    def start(self, who: Initiator, cdb: bytes, data: bytes, length: int) -> int:
        """Send a command; return its tag."""
        pdu = who.command(cdb, read=length, write=len(data), data=data)
        who.send(pdu)
        return pdu.itt

    def run_out(self) -> None:
        """Have every call made that waits."""
        while self.store.go():
            pass

    def statuses(self, who: Initiator) -> list[int]:
        """Return how the commands of an initiator have ended."""
        return [pdu.status for pdu in who.receive() if hasattr(pdu, "status")]


class CommandsTests(AskingBench):
    """
    Each command of a disk.
    """

    def test_who(self) -> None:
        """An asker is the session with its names, and the command."""
        self.connect()
        tag = self.start(self.two, read10(3, 1), b"", 512)
        (asker,) = self.store.askers("read")
        assert asker is not None
        session = asker.session
        self.assertEqual(
            (asker.opcode, asker.command, asker.tag, asker.priority, asker.internal),
            (0x28, "READ(10)", tag, 0, False),
        )
        self.assertEqual(
            (session.initiator, session.target, session.lun, session.device),
            (INITIATOR + ".two", TARGET, 0, "disk0"),
        )
        self.assertTrue(session.initiator_port.startswith(f"{INITIATOR}.two,i,0x"))
        self.assertIsNone(asking())

    def test_placed(self) -> None:
        """
        Of two that are at work at the same time, at different blocks, each call says
        whose it is, the first and every later one, whoever has the store answer.
        """
        for name, made in PLACED.items():
            self.connect()
            self.store.slow = True
            cases = {}
            for who, lba in ((self.one, 16), (self.two, 1024)):
                tag = self.start(who, *made(lba))
                cases[who.name, tag] = lba << 9
            self.run_out()
            good = 4 if name.startswith("PRE-FETCH") else 0  # CONDITION MET
            self.assertEqual(self.statuses(self.one)[-1:], [good], name)
            self.assertEqual(self.statuses(self.two)[-1:], [good], name)
            self.assertGreaterEqual(len(self.store.calls), 2, name)
            for call, asker, args in self.store.calls:
                assert asker is not None, (name, call)
                at = cases[asker.session.initiator, asker.tag]
                self.assertEqual(asker.command, name.partition(",")[0])
                if call != "flush":
                    self.assertTrue(at <= args[0] < at + 4096, (name, call, args))
            flushes = self.store.askers("flush")
            tags = [one.session.initiator for one in flushes if one is not None]
            self.assertEqual(tags.count(self.one.name), tags.count(self.two.name))

    def test_whole(self) -> None:
        """The same of commands that name no block."""
        for name, case in WHOLE.items():
            self.connect()
            self.store.slow = True
            tag = self.start(self.two, *case)
            self.run_out()
            self.assertEqual(self.statuses(self.two), [0], name)
            self.assertTrue(self.store.calls, name)
            for _call, asker, _args in self.store.calls:
                assert asker is not None
                self.assertEqual((asker.command, asker.tag), (name, tag))
                self.assertEqual(asker.session.initiator, self.two.name)

    def test_in_one_place(self) -> None:
        """Where one waits for another's range, or turn, each call is its own still."""
        swap = PLACED["COMPARE AND WRITE"](0)
        for name in ("READ(10)", "WRITE(10)", "COMPARE AND WRITE", "ORWRITE(16)"):
            self.connect()
            self.store.slow = True
            first = self.start(self.one, *swap)
            second = self.start(self.two, *PLACED[name](0))
            self.run_out()
            self.assertEqual(self.statuses(self.one)[-1:], [0], name)
            self.assertEqual(self.statuses(self.two)[-1:], [0], name)
            seen = [asker for _call, asker, _args in self.store.calls]
            tags = [(one.session.initiator, one.tag) for one in seen if one]
            self.assertEqual(len(tags), len(seen))
            theirs = (self.two.name, second)
            self.assertEqual(tags[:2], [(self.one.name, first)] * 2)
            self.assertEqual(set(tags[2:]), {theirs}, name)

    def test_turns(self) -> None:
        """Who has waited for another's turn to save mode pages flushes for itself."""
        self.connect()
        self.store.slow = True
        cdb, data, _length = WHOLE["MODE SELECT(10)"]
        self.start(self.one, cdb, data, 0)
        self.start(self.two, b"\x55\x11" + cdb[2:], data, 0)
        waiting, _call = self.store.waiting.pop()
        waiting.errback(OSError(errno.EIO, "no"))
        self.run_out()
        names = [one.session.initiator for one in self.store.askers("flush") if one]
        self.assertEqual(names, [self.one.name, self.two.name])
        self.assertEqual(self.statuses(self.two), [0])

    def test_its_own_compare_and_write(self) -> None:
        """A store that compares and writes by itself knows for whom."""
        self.store = store = Comparing(memory())
        directly: Any = store
        alsoProvides(directly, ICompareAndWrite)
        self.node, self.target, (self.unit,) = serve(directly)
        self.one = Initiator(self.node).ready()
        self.start(self.one, *PLACED["COMPARE AND WRITE"](0))
        (asker,) = store.compared
        assert asker is not None
        self.assertEqual(asker.command, "COMPARE AND WRITE")

    def test_priority(self) -> None:
        """What it is asked with is there too, also after a wait for a range."""
        seen: list[int] = []

        class Noting(Recorder):
            def noted(self, name: str, *args: Any) -> Any:
                seen.append(command_priority.get())
                return super().noted(name, *args)

        self.store = Noting(memory())
        self.node, self.target, (self.unit,) = serve(self.store)
        self.one = Initiator(self.node)
        self.one.ready(iSCSIProtocolLevel="2")
        self.store.slow = True
        self.start(self.one, *PLACED["COMPARE AND WRITE"](0))
        pdu = bytearray(self.one.encode(self.one.command(read10(0, 1), read=512)))
        pdu[2] = 5 << 4
        self.one.feed(bytes(pdu))
        self.run_out()
        asker = self.store.askers("read")[-1]
        assert asker is not None
        self.assertEqual((asker.command, asker.priority), ("READ(10)", 5))
        self.assertEqual(seen[-1], 5)
