# SPDX-License-Identifier: MIT
"""
Tests for formatting and sanitizing: `scstd.scsi.sbc.erase` and `background`.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from scstd.block.persistence import Volatile
from scstd.block.remembered import OPERATION
from scstd.filters.base import Filtered
from scstd.handlers.memory import MemoryStore
from scstd.initiator.commands import CommandResult, read10, write10
from scstd.interfaces import IUnmap, IWriteZeroes
from scstd.management.model.device_attributes import unit_settings
from scstd.protocols.wire.pdu import SCSIResponse, TaskManagementResponse
from scstd.scsi.device import close_disk, open_disk
from scstd.scsi.removable import change
from scstd.scsi.sbc.steps import PIECE
from scstd.scsi.unit import LogicalUnit
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.stores import ManualStore, MemoryDrive, memory

FORMAT = bytes((0x04, 0, 0, 0, 0, 0))


ERASE, EXIT = 2, 0x1F


IMMED, AUSE = 0x80, 0x20


OVERWRITE = 1


SENSE = bytes((3, 0, 0, 0, 18, 0))


def sanitize(action: int, flags: int = 0, length: int = 0) -> bytes:
    """Return the CDB of a SANITIZE."""
    return struct.pack(">BB5xHx", 0x48, action | flags, length)


def pattern(data: bytes, count: int = 1, *, invert: bool = False) -> bytes:
    """Return the parameter list of an OVERWRITE."""
    return struct.pack(">BxH", count | (0x80 if invert else 0), len(data)) + data


class Turns:
    """
    Turns of the reactor, one at a time.
    """

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def later(self, call: Callable[[], None]) -> None:
        """Have *call* made in another turn."""
        self.calls.append(call)

    def one(self) -> None:
        """Take one turn."""
        calls, self.calls = self.calls, []
        for call in calls:
            call()

    def all(self) -> int:
        """Take turns until nothing is left; return how many."""
        count = 0
        while self.calls:
            self.one()
            count += 1
        return count


class Broken(Filtered):
    """
    A store whose writes fail from some offset on; unmapping does not.
    """

    transparent = (IUnmap, IWriteZeroes)
    bad = 1 << 62

    def write(self, offset: int, data: Any, fua: bool) -> Any:
        """Write, or fail."""
        if offset + len(data) > self.bad:
            raise OSError(errno.EIO, "broken")
        return super().write(offset, data, fua)


class EraseTests(SynchronousTestCase):
    """
    What they need: a disk of four pieces, and turns of the reactor.
    """

    def setUp(self) -> None:
        """Serve a disk full of letters."""
        self.serve(memory(4 * PIECE))

    def serve(self, store: Any, kept: Volatile | None = None, **settings: Any) -> None:
        """Serve a store; its unit remembers what is *kept*."""
        self.turns = Turns()
        self.node, self.target, (unit,) = serve(store, **settings)
        self.kept = kept or Volatile()
        self.unit = self.open(store, **settings)
        self.target.luns.clear()
        self.target.add_lun(0, self.unit)
        del unit
        self.store = store
        self.one = Initiator(self.node).ready()

    def open(self, store: Any, **settings: Any) -> LogicalUnit:
        """Open a disk that remembers."""
        return open_disk(
            "disk0", store, unit_settings(settings), self.kept, later=self.turns.later
        )

    def check(self, done: CommandResult, key: int, asc: int) -> None:
        """The command has to have failed with this sense data."""
        self.assertEqual(done.status, 2)
        self.assertEqual((done.key, f"{done.asc:04x}"), (key, f"{asc:04x}"))

    def content(self) -> bytes:
        """Return all the disk has."""
        found = self.store
        while isinstance(found, Filtered):
            found = found.inner
        assert isinstance(found, MemoryStore)
        return bytes(found.read(0, found.size))

    def start(self, cdb: bytes, data: bytes = b"") -> Any:
        """Start a command that does not end at once."""
        pdu = self.one.command(cdb, write=len(data), data=data)
        self.one.send(pdu)
        return pdu


class SanitizeTests(EraseTests):
    """
    SANITIZE.
    """

    def test_overwrite(self) -> None:
        """A pattern is repeated in each block, everywhere, and cut off at its end."""
        self.store.write(12345 * 64, b"secret" * 100, False)
        data = pattern(b"abc")
        pdu = self.start(sanitize(OVERWRITE, 0, len(data)), data)
        self.assertEqual(self.one.receive(), [])
        self.assertEqual(self.turns.all(), 4)
        self.assertEqual(self.one.finish(pdu).status, 0)
        self.assertEqual(self.content(), (b"abc" * 171)[:512] * (4 * PIECE // 512))
        self.assertEqual(self.one.do(bytes(6)).status, 0)
        self.assertIsNone(self.kept.values[OPERATION])

    def test_passes(self) -> None:
        """With INVERT the last pass is the pattern, the one before its inversion."""
        seen: list[bytes] = []

        class Watching(Filtered):
            def write(self, offset: int, data: Any, fua: bool) -> Any:
                if not offset:
                    seen.append(bytes(data[:1]))
                return super().write(offset, data, fua)

        self.serve(Watching(memory()))
        for count, expected in ((2, b"\xf0\x0f"), (3, b"\x0f\xf0\x0f"), (1, b"\x0f")):
            seen.clear()
            data = pattern(b"\x0f", count, invert=True)
            pdu = self.start(sanitize(OVERWRITE, 0, len(data)), data)
            self.turns.all()
            self.assertEqual(self.one.finish(pdu).status, 0)
            self.assertEqual(b"".join(seen), expected)

    def test_erase(self) -> None:
        """BLOCK ERASE leaves zeros, and says that they can be read."""
        self.store.write(0, b"x" * PIECE, False)
        self.assertEqual(self.one.do(sanitize(ERASE, IMMED)).status, 0)
        self.turns.all()
        self.assertEqual(self.content(), bytes(4 * PIECE))
        page = self.one.do(b"\x12\1\xb1\0\x40\0", read=64).data
        self.assertEqual(page[7] >> 6, 1)

    def test_refused_meanwhile(self) -> None:
        """While it goes on the medium cannot be used, and all are told how far it is."""
        data = pattern(b"s")
        self.assertEqual(
            self.one.do(sanitize(OVERWRITE, IMMED, len(data)), data=data).status, 0
        )
        other = Initiator(self.node, name=INITIATOR + "2").ready()
        progress = []
        for _piece in range(3):
            done = other.do(bytes(6))
            self.check(done, 2, 0x041B)
            self.assertEqual(done.sense[15], 0x80)
            progress.append(int.from_bytes(done.sense[16:18], "big"))
            self.turns.one()
        self.assertEqual(progress, [0, 16384, 32768])
        for cdb, read, write in (
            (read10(0, 1), 512, b""),
            (write10(0, 1), 0, bytes(512)),
            (bytes((0x1B, 0, 0, 0, 1, 0)), 0, b""),
            (b"\x35" + bytes(9), 0, b""),
            (sanitize(ERASE), 0, b""),
            (FORMAT, 0, b""),
        ):
            self.check(self.one.do(cdb, read=read, data=write), 2, 0x041B)
        said = self.one.do(SENSE, read=18)
        self.assertEqual(
            (said.status, said.data[2], said.data[12:14]), (0, 2, b"\4\x1b")
        )
        self.assertEqual(int.from_bytes(said.data[16:18], "big"), 49152)
        for cdb in (
            b"\x12\0\0\0\x24\0",
            b"\xa0\0\0\0\0\0\0\0\0\x40\0\0",
            b"\x1a\0\x3f\0\x40\0",
            b"\xa3\x0c\0\0\0\0\0\0\0\x40\0\0",
            b"\x25" + bytes(9),
        ):
            self.assertEqual(self.one.do(cdb, read=64).status, 0, cdb)
        self.turns.all()
        self.assertEqual(self.one.do(read10(0, 1), read=512).data, b"s" * 512)

    def test_goes_on(self) -> None:
        """An abort, a reset and the loss of the nexus do not end it."""
        data = pattern(b"s")
        pdu = self.start(sanitize(OVERWRITE, 0, len(data)), data)
        self.turns.one()
        self.one.manage(1, tag=pdu.itt)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.one.manage(5)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.one.logout()
        self.turns.one()
        self.one = Initiator(self.node, name=INITIATOR + "2").ready()
        self.check(self.one.do(bytes(6)), 2, 0x041B)
        self.turns.all()
        self.assertEqual(self.one.do(bytes(6)).status, 0)
        self.assertEqual(self.content(), b"s" * 4 * PIECE)

    def test_goes_on_after_a_restart(self) -> None:
        """A restart begins it again, and nothing else is done before it is over."""
        data = pattern(b"s", 2, invert=True)
        self.start(sanitize(OVERWRITE, IMMED, len(data)), data)
        self.turns.one()
        closing = close_disk(self.unit)
        self.assertNoResult(closing)
        self.turns.all()
        self.successResultOf(closing)
        self.assertFalse(self.kept.values[OPERATION]["failed"])
        self.store = memory(4 * PIECE)
        self.serve(self.store, self.kept)
        self.check(self.one.do(bytes(6)), 2, 0x041B)
        self.turns.all()
        self.assertEqual(self.one.do(bytes(6)).status, 0)
        self.assertEqual(self.content(), b"s" * 4 * PIECE)

    def fail(self, flags: int) -> Broken:  # type: ignore[override]
        """Have a sanitize operation fail halfway."""
        store = Broken(memory(4 * PIECE))
        self.serve(store)
        store.bad = 2 * PIECE
        data = pattern(b"s")
        pdu = self.start(sanitize(OVERWRITE, flags, len(data)), data)
        self.turns.all()
        self.check(self.one.finish(pdu), 3, 0x3103)
        self.assertEqual(self.flushLoggedErrors(), [])
        return store

    def test_failed(self) -> None:
        """One that failed stays failed, over a restart, until another succeeds."""
        store = self.fail(0)
        self.check(self.one.do(read10(0, 1), read=512), 3, 0x3103)
        self.serve(store, self.kept)
        self.check(self.one.do(bytes(6)), 3, 0x3103)
        self.assertEqual(self.one.do(SENSE, read=18).data[12:14], b"\x31\3")
        # Restricted: there is no way out but success, and AUSE is none.
        self.check(self.one.do(sanitize(EXIT)), 5, 0x2400)
        self.check(self.one.do(sanitize(ERASE, AUSE)), 5, 0x2400)
        self.check(self.one.do(FORMAT), 3, 0x3103)
        self.assertEqual(self.one.do(sanitize(ERASE, IMMED)).status, 0)
        self.turns.all()
        self.assertEqual(self.one.do(bytes(6)).status, 0)
        self.assertEqual(self.content(), bytes(4 * PIECE))

    def test_excused(self) -> None:
        """One that was begun with AUSE may be excused, for good."""
        store = self.fail(AUSE)
        self.assertEqual(self.one.do(sanitize(EXIT)).status, 0)
        self.assertEqual(self.one.do(bytes(6)).status, 0)
        self.assertEqual(self.one.do(read10(0, 1), read=512).data, b"s" * 512)
        self.serve(store, self.kept)
        self.assertEqual(self.one.do(bytes(6)).status, 0)
        self.assertEqual(self.one.do(sanitize(EXIT)).status, 0)

    def test_waits_for_others(self) -> None:
        """What is under way ends first; what waits for its turn is refused then."""
        store = ManualStore()
        self.serve(store)
        writing = self.start(write10(0, 1), b"w" * 512)
        cdb = struct.pack(">BBQxxxBxx", 0x89, 0, 8, 1)
        comparing = self.start(cdb, bytes(1024))
        parked = self.start(write10(8, 1), b"p" * 512)
        data = pattern(b"s")
        self.assertEqual([name for name, *_ in store.calls], ["write", "read"])
        self.start(sanitize(OVERWRITE, IMMED, len(data)), data)
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.assertEqual(len(store.calls), 2)
        store.go()
        self.assertEqual(self.one.finish(writing).status, 0)
        store.go(2)
        found = {pdu.itt: pdu for pdu in self.one.receive()}
        self.assertEqual(found[comparing.itt].status, 0)
        self.assertEqual(bytes(found[parked.itt].data)[14:16], b"\4\x1b")
        store.go()
        self.turns.all()
        store.go(2)
        self.assertEqual(self.one.do(bytes(6)).status, 0)
        self.assertEqual(store.inner.read(0, 8192), b"s" * 8192)

    def test_wrong(self) -> None:
        """What is wrong with it is said before anything is done."""
        whole = pattern(b"p" * 512)
        for length, data, asc in (
            *((length, whole[:length], 0x2400) for length in range(5)),
            (517, bytes(517), 0x2400),
            (516, b"\0" + whole[1:], 0x2600),
            (516, b"\x21" + whole[1:], 0x2600),
            (516, b"\1\1" + whole[2:], 0x2600),
            (516, b"\1\0\0\0" + whole[4:], 0x2600),
            (516, b"\1\0\2\1" + whole[4:], 0x2600),
            (8, b"\1\0\0\5aaaa", 0x1A00),
            (8, b"\1\0\0\1", 0x1A00),
        ):
            done = self.one.do(sanitize(OVERWRITE, 0, length), data=data)
            self.check(done, 5, asc)
        self.check(self.one.do(sanitize(ERASE, 0, 8), data=bytes(8)), 5, 0x2400)
        self.check(self.one.do(sanitize(EXIT, 0, 8), data=bytes(8)), 5, 0x2400)
        self.check(self.one.do(sanitize(ERASE, 0x40)), 5, 0x2400)
        self.check(self.one.do(sanitize(4)), 5, 0x2400)
        self.assertFalse(self.unit.restricted)

    def test_not_there(self) -> None:
        """Thick disks have no BLOCK ERASE; both commands can be switched off."""
        self.serve(memory(), thin_provisioned=False)
        self.check(self.one.do(sanitize(ERASE)), 5, 0x2400)
        self.assertEqual(self.one.do(b"\x12\1\xb1\0\x40\0", read=64).data[7], 0)
        self.serve(memory(), erase_commands=False)
        self.check(self.one.do(sanitize(ERASE)), 5, 0x2000)
        self.check(self.one.do(FORMAT), 5, 0x2000)

    def test_not_exchanged(self) -> None:
        """A medium that is being sanitized stays in, by force too."""
        store = MemoryDrive({"a": bytes(2 * PIECE), "b": b"b" * PIECE}, "a", 512)
        self.serve(store)
        data = pattern(b"s")
        self.start(sanitize(OVERWRITE, IMMED, len(data)), data)
        failed = self.failureResultOf(change(self.unit, "b", force=True), OSError)
        self.assertEqual(failed.value.errno, errno.EBUSY)
        self.turns.all()
        self.successResultOf(change(self.unit, "b", force=True))
        self.assertEqual(store.media, {"a": b"s" * 2 * PIECE, "b": b"b" * PIECE})

    def test_read_only(self) -> None:
        """A write-protected disk is neither sanitized nor formatted."""
        self.serve(memory(), read_only=True)
        self.check(self.one.do(sanitize(ERASE)), 7, 0x2700)
        self.check(self.one.do(FORMAT), 7, 0x2700)
