# SPDX-License-Identifier: MIT
"""
Commands that have something remembered, with a memory that is slow or fails: they are
answered when it is durable, and what is refused has changed nothing.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from twisted.internet.defer import Deferred

from scstd.block.persistence import Volatile
from scstd.block.remembered import OPERATION, Job, pending
from scstd.filters.base import Filtered
from scstd.initiator.commands import CommandResult, read10, write10
from scstd.protocols.wire.pdu import SCSIResponse, TaskManagementResponse
from scstd.scsi.device import close_disk
from scstd.scsi.sbc.steps import PIECE
from scstd.test.stores import memory
from scstd.test.test_erase import (
    ERASE,
    EXIT,
    FORMAT,
    IMMED,
    Broken,
    EraseTests,
    sanitize,
)

BUSY, CORRUPT, INTERNAL = (2, 0x041B), (3, 0x3103), (4, 0x4400)


class Slow(Volatile):
    """
    A memory that answers when it is told to; `values` is what is on the disk.
    """

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        super().__init__(values or {}, durable=True)
        self.waiting: list[tuple[str, Any, Deferred[None]]] = []
        self.slow = True

    def update(self, key: str, value: Any) -> Any:
        """Replace an entry, later."""
        if not self.slow or key == "uuid":
            self.values[key] = value
            return None
        self.waiting.append((key, value, Deferred()))
        return self.waiting[-1][2]

    def insist(self, key: str, value: Any) -> Any:
        """Replace an entry, later."""
        return self.update(key, value)

    def go(self) -> None:
        """Let the oldest be kept."""
        key, value, kept = self.waiting.pop(0)
        self.values[key] = value
        kept.callback(None)

    def fail(self) -> None:
        """Have the oldest be refused."""
        self.waiting.pop(0)[2].errback(OSError(errno.EIO, "ill"))


class RememberingTests(EraseTests):
    """
    A disk of four pieces that remembers slowly.
    """

    def setUp(self) -> None:
        """Serve it, full of letters."""
        self.slow = Slow()
        store = memory(4 * PIECE)
        store.write(0, b"x" * 4 * PIECE, False)
        self.serve(store, self.slow)

    def ended(self, done: CommandResult) -> tuple[int, int]:
        """Return the sense key and additional sense code of a command that failed."""
        self.assertEqual(done.status, 2)
        return done.key, done.asc


class EraseKeptTests(RememberingTests):
    """
    SANITIZE and FORMAT UNIT.
    """

    def test_immediate(self) -> None:
        """With IMMED it is answered when it is remembered, and nothing changes before."""
        self.start(sanitize(ERASE, IMMED))
        self.turns.all()
        self.assertEqual(self.one.receive(), [])
        self.assertEqual(self.one.do(write10(0, 1), data=b"w" * 512).status, 0)
        self.assertEqual(self.ended(self.one.do(FORMAT)), BUSY)
        self.assertEqual(self.ended(self.one.do(sanitize(ERASE))), BUSY)
        self.assertEqual(self.content(), b"w" * 512 + b"x" * (4 * PIECE - 512))
        self.slow.go()
        # It is going to begin: nothing that a restart would take up.
        self.assertIsNone(pending(self.slow.values))
        self.assertEqual(self.ended(self.one.do(write10(0, 1), data=bytes(512))), BUSY)
        self.turns.all()
        self.assertEqual(self.one.receive(), [])
        self.assertEqual(self.content(), b"w" * 512 + b"x" * (4 * PIECE - 512))
        self.slow.go()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.assertEqual(self.ended(self.one.do(read10(0, 1), read=512)), BUSY)
        self.turns.all()
        self.assertEqual(self.content(), bytes(4 * PIECE))

    def test_refused(self) -> None:
        """What cannot be remembered is refused, IMMED or not, and changes nothing."""
        for cdb in (sanitize(ERASE, IMMED), sanitize(ERASE), FORMAT):
            pdu = self.start(cdb)
            self.slow.fail()
            self.turns.all()
            self.assertEqual(self.ended(self.one.finish(pdu)), INTERNAL)
            self.assertFalse(self.unit.restricted)
            self.assertEqual(self.one.do(read10(9, 1), read=512).data, b"x" * 512)
        self.assertNotIn(OPERATION, self.slow.values)
        self.successResultOf(close_disk(self.unit))

    def test_failure_stays(self) -> None:
        """A refused one leaves the failure of the one before, and so does EXIT."""
        job = Job("erase", unrestricted=True)
        self.serve(self.store, Slow({OPERATION: job.record(failed=True)}))
        self.slow = self.kept  # type: ignore[assignment]
        for cdb in (sanitize(ERASE, IMMED | 0x20), sanitize(EXIT)):
            pdu = self.start(cdb)
            self.slow.fail()
            self.assertEqual(self.ended(self.one.finish(pdu)), INTERNAL)
            self.assertEqual(self.ended(self.one.do(bytes(6))), CORRUPT)
        pdu = self.start(sanitize(EXIT))
        self.assertEqual(self.ended(self.one.do(bytes(6))), CORRUPT)
        self.slow.go()
        self.assertEqual(self.one.finish(pdu).status, 0)
        self.assertEqual(self.one.do(bytes(6)).status, 0)

    def test_end(self) -> None:
        """It is over when that is remembered: a restart must not begin it again."""
        pdu = self.start(sanitize(ERASE))
        self.slow.go()
        self.slow.go()
        self.turns.all()
        self.assertEqual(self.one.receive(), [])
        self.assertEqual(self.ended(self.one.do(write10(0, 1), data=bytes(512))), BUSY)
        self.slow.go()
        self.assertEqual(self.one.finish(pdu).status, 0)
        self.assertEqual(self.one.do(write10(0, 1), data=bytes(512)).status, 0)

    def test_end_closed(self) -> None:
        """A device can be closed before that, and then nobody is told that it is done."""
        pdu = self.start(sanitize(ERASE))
        self.slow.go()
        self.slow.go()
        self.turns.all()
        self.successResultOf(close_disk(self.unit))
        self.assertEqual(self.ended(self.one.finish(pdu)), INTERNAL)
        self.assertFalse(self.slow.values[OPERATION]["failed"])

    def test_failed(self) -> None:
        """A failure is told at once, though it may be remembered later."""
        store = Broken(memory(4 * PIECE))
        self.serve(store, Slow())
        self.slow = self.kept  # type: ignore[assignment]
        store.bad = 0
        pdu = self.start(sanitize(1, 0, 5), b"\1\0\0\1s")
        self.slow.go()
        self.slow.go()
        self.turns.all()
        self.assertEqual(self.ended(self.one.finish(pdu)), CORRUPT)
        self.slow.go()
        self.assertTrue(self.slow.values[OPERATION]["failed"])
        self.assertTrue(Job.of(self.slow.values[OPERATION]).sanitizes)

    def test_closed_before(self) -> None:
        """A device can be closed before it has begun: it is as it was."""
        failed = Job("erase", unrestricted=True).record(failed=True)
        self.patch(self.store, "close", lambda: None)
        self.serve(self.store, Slow({OPERATION: failed}))
        self.slow = self.kept  # type: ignore[assignment]
        for steps in (0, 1):
            pdu = self.start(sanitize(ERASE, 0x20))
            for _step in range(steps):
                self.slow.go()
            closing = close_disk(self.unit)
            if not steps:
                self.slow.fail()
            self.successResultOf(closing)
            self.assertEqual(self.ended(self.one.finish(pdu)), INTERNAL)
            self.assertEqual(pending(self.slow.values), failed)
        self.assertEqual(self.content(), b"x" * 4 * PIECE)
        self.serve(self.store, Slow(self.slow.values))
        self.assertEqual(self.ended(self.one.do(bytes(6))), CORRUPT)

    def test_aborted(self) -> None:
        """A format that is aborted before it is remembered, or its end is, still ends."""
        for steps in (1, 2):
            self.serve(memory(4 * PIECE), Slow())
            self.slow = self.kept  # type: ignore[assignment]
            pdu = self.start(FORMAT)
            for _step in range(steps):
                self.slow.go()
            self.turns.all()
            self.one.manage(1, tag=pdu.itt)
            self.assertEqual(self.one.receive(), [])
            self.slow.go()
            self.turns.all()
            self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
            self.assertIsNone(self.unit.background)

    def test_resumed(self) -> None:
        """What is remembered already needs nothing to be taken up."""
        slow = Slow({OPERATION: Job("erase").record(failed=False)})
        self.serve(self.store, slow)
        self.turns.all()
        self.assertEqual(self.content(), bytes(4 * PIECE))
        self.assertEqual([key for key, _, _ in slow.waiting], [OPERATION])


class Unflushed(Filtered):
    """
    A store whose flushes fail while it is *ill*.
    """

    ill = True

    def flush(self) -> Any:
        """Flush, or fail."""
        if self.ill:
            raise OSError(errno.EIO, "not flushed")
        return super().flush()


class ModeTests(RememberingTests):
    """
    MODE SELECT with SP.
    """

    def select(self, page: bytes, *, save: bool = True) -> Any:
        """Start a MODE SELECT(10)."""
        data = bytes(8) + page
        return self.start(struct.pack(">BBxxxxxHx", 0x55, 0x10 | save, len(data)), data)

    def page(self, code: int) -> bytes:
        """Return a page as it is."""
        cdb = struct.pack(">BBBBxxxHx", 0x5A, 8, code, 0, 255)
        return self.one.do(cdb, read=255).data[8:]

    def with_bit(self, code: int, byte: int, bit: int) -> bytes:
        """Return a page with one bit turned."""
        page = bytearray(self.page(code))
        page[0] &= 0x3F
        page[byte] ^= bit
        return bytes(page)

    def test_refused(self) -> None:
        """What cannot be saved is not set either."""
        before = self.page(0x0A)
        pdu = self.select(self.with_bit(0x0A, 2, 4))
        self.assertEqual(self.page(0x0A), before)
        self.slow.fail()
        self.assertEqual(self.ended(self.one.finish(pdu)), INTERNAL)
        self.assertEqual(self.page(0x0A), before)

    def test_one_after_the_other(self) -> None:
        """Of two the second saves what the first has set, if that was kept."""
        wanted = [self.with_bit(0x0A, 2, 4), self.with_bit(0x08, 2, 4)]
        first, second = (self.select(one) for one in wanted)
        self.assertEqual(len(self.slow.waiting), 1)
        self.slow.go()
        self.assertEqual(self.one.finish(first).status, 0)
        self.slow.go()
        self.assertEqual(self.one.finish(second).status, 0)
        saved = self.slow.values["modes"]
        self.assertEqual((saved["descriptor_sense"], saved["write_cache"]), (1, 0))

    def test_not_flushed(self) -> None:
        """The cache stays on, and nothing is saved, if it cannot be flushed."""
        store = Unflushed(memory(4 * PIECE))
        self.serve(store, Slow())
        for save in (True, False):
            pdu = self.select(self.with_bit(0x08, 2, 4), save=save)
            self.assertEqual(self.ended(self.one.finish(pdu))[0], 3)
            self.assertTrue(self.page(0x08)[2] & 4)
        self.assertEqual(self.kept.values.keys(), {"uuid"})
        store.ill = False
        pdu = self.select(self.with_bit(0x08, 2, 4), save=False)
        self.assertEqual(self.one.finish(pdu).status, 0)
        self.assertFalse(self.page(0x08)[2] & 4)


class IdentifyingTests(RememberingTests):
    """
    SET IDENTIFYING INFORMATION.
    """

    def set(self, data: bytes, kind: int) -> Any:
        """Start one."""
        cdb = struct.pack(">BBxxxxIBx", 0xA4, 6, len(data), kind << 1)
        return self.start(cdb, data)

    def report(self, kind: int) -> bytes:
        """Return what is kept of a type."""
        cdb = struct.pack(">BBxxxxIBx", 0xA3, 5, 255, kind << 1)
        return self.one.do(cdb, read=255).data[4:]

    def test_refused(self) -> None:
        """Nobody sees what is not kept, and it does not come with the next."""
        first, second = self.set(b"one", 0), self.set(b"two\0", 2)
        self.assertEqual(self.report(0), b"")
        self.slow.fail()
        self.assertEqual(self.ended(self.one.finish(first)), INTERNAL)
        self.slow.go()
        self.assertEqual(self.one.finish(second).status, 0)
        self.assertEqual((self.report(0), self.report(2)), (b"", b"two\0"))
        self.assertEqual(self.slow.values["identifying"], {"2": b"two\0".hex()})


class SelfTestTests(RememberingTests):
    """
    Results of self-tests.
    """

    def test_kept_later(self) -> None:
        """A result that cannot be kept is a fact nevertheless, and is kept later."""
        pdu = self.start(b"\x1d\xa0\0\0\0\0")
        self.assertEqual(self.one.receive(), [])
        self.slow.fail()
        self.assertEqual(self.one.finish(pdu).status, 0)
        self.slow.go()
        self.assertEqual(self.slow.values["self_tests"][0][:2], [5, 0])
