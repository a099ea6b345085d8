# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.sbc.erase`: FORMAT UNIT (SBC-4 section 5.4).
"""

from __future__ import annotations

import errno
from typing import Any

from zope.interface import noLongerProvides

from scstd.block.persistence import Volatile
from scstd.block.remembered import OPERATION
from scstd.filters.base import Filtered
from scstd.initiator.commands import read10
from scstd.interfaces import IUnmap, IWriteZeroes
from scstd.protocols.wire.pdu import TaskManagementResponse
from scstd.scsi.device import close_disk
from scstd.scsi.holds import Holds
from scstd.scsi.sbc.steps import PIECE
from scstd.test.stores import ManualStore, memory
from scstd.test.test_erase import (
    FORMAT,
    OVERWRITE,
    Broken,
    EraseTests,
    pattern,
    sanitize,
)

FORMAT_WITH = bytes((0x04, 0x10, 0, 0, 0, 0))


class FormatTests(EraseTests):
    """
    FORMAT UNIT.
    """

    def test_format(self) -> None:
        """Every block is zero afterwards, whatever the store can do."""
        for hidden in ((), (IUnmap,), (IUnmap, IWriteZeroes)):
            store: Any = Filtered(memory(4 * PIECE))
            for interface in hidden:
                noLongerProvides(store, interface)
            store.write(0, b"x" * PIECE, False)
            store.write(3 * PIECE, b"x" * PIECE, False)
            self.serve(store)
            pdu = self.start(FORMAT)
            self.turns.all()
            self.assertEqual(self.one.finish(pdu).status, 0)
            self.assertEqual(self.content(), bytes(4 * PIECE))

    def test_parameters(self) -> None:
        """IMMED, FOV with DCRT, and an empty defect list are taken."""
        for cdb, data in (
            (FORMAT_WITH, b"\0\2\0\0"),
            (FORMAT_WITH, b"\0\xa2\0\0"),
            (b"\x04\x38\0\0\0\0", b"\0\x82\0\0\0\0\0\0"),
        ):
            self.assertEqual(self.one.do(cdb, data=data).status, 0)
            done = self.one.do(bytes(6))
            self.check(done, 2, 0x0404)
            self.turns.all()
            self.assertEqual(self.one.do(bytes(6)).status, 0)

    def test_wrong(self) -> None:
        """What there is not is refused, and nothing is begun."""
        for cdb, data, asc in (
            (b"\x04\x90\0\0\0\0", b"\0\0\0\0", 0x2400),
            (b"\x04\x08\0\0\0\0", b"", 0x2400),
            (b"\x04\0\0\0\1\0", b"", 0x2400),
            (FORMAT_WITH, b"\0\0", 0x1A00),
            (FORMAT_WITH, b"", 0x1A00),
            (FORMAT_WITH, b"\1\0\0\0", 0x2600),
            (FORMAT_WITH, b"\0\x20\0\0", 0x2600),
            (FORMAT_WITH, b"\0\x88\0\0\0\0\0\0", 0x2600),
            (FORMAT_WITH, b"\0\0\0\4\0\0\0\1", 0x2600),
        ):
            self.check(self.one.do(cdb, data=data), 5, asc)
        self.assertFalse(self.unit.restricted)

    def corrupt(self) -> None:
        """The medium has to be unusable until it is formatted."""
        self.check(self.one.do(read10(0, 1), read=512), 3, 0x3100)
        self.check(self.one.do(bytes(6)), 3, 0x3100)
        self.assertEqual(self.one.do(b"\x12\0\0\0\x24\0", read=36).status, 0)
        self.assertEqual(self.one.do(FORMAT_WITH, data=b"\0\2\0\0").status, 0)
        self.turns.all()
        self.assertEqual(self.one.do(read10(0, 1), read=512).status, 0)

    def serve_slowly(self) -> None:
        """Serve a disk that is formatted in more than one step."""
        store: Any = Filtered(memory(4 * PIECE))
        noLongerProvides(store, IUnmap)
        noLongerProvides(store, IWriteZeroes)
        self.serve(store)

    def test_reset(self) -> None:
        """A reset ends it, and is answered when it has; the medium is corrupt."""
        self.serve_slowly()
        self.one.do(FORMAT_WITH, data=b"\0\2\0\0")
        self.turns.one()
        self.one.manage(5)
        self.assertEqual(self.one.receive(), [])
        self.turns.all()
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.one.do(bytes(6))
        self.corrupt()

    def test_abort(self) -> None:
        """The abort of its command ends it."""
        self.serve_slowly()
        pdu = self.start(FORMAT)
        self.turns.one()
        self.one.manage(1, tag=pdu.itt)
        self.assertEqual(self.one.receive(), [])
        self.turns.all()
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.corrupt()

    def test_restart(self) -> None:
        """A restart in the middle leaves a corrupt medium."""
        self.serve_slowly()
        self.one.do(FORMAT_WITH, data=b"\0\2\0\0")
        self.turns.one()
        closing = close_disk(self.unit)
        self.turns.all()
        self.successResultOf(closing)
        store = memory(4 * PIECE)
        self.serve(store, self.kept)
        self.corrupt()
        self.serve(store, self.kept)
        self.assertEqual(self.one.do(bytes(6)).status, 0)

    def test_held(self) -> None:
        """While its unit is held it stands between two pieces, and goes on from there."""
        self.serve_slowly()
        self.store.write(0, b"x" * 4 * PIECE, False)
        holds = Holds()
        pdu = self.start(FORMAT)
        self.turns.one()
        (condition,) = [one for one in self.unit.conditions if hasattr(one, "done")]
        quiet = holds.hold(self.unit, "a")
        self.assertNoResult(quiet)
        self.turns.all()
        self.successResultOf(quiet)
        self.successResultOf(holds.hold(self.unit, "b"))
        left = self.content().count(b"x")
        self.assertEqual((left, condition.done), (2 * PIECE, 0x4000))
        self.assertEqual(self.turns.all(), 0)
        holds.release(self.unit, "a")
        self.assertEqual((self.turns.all(), self.one.receive()), (0, []))
        holds.release(self.unit, "b")
        self.turns.all()
        self.assertEqual(self.one.finish(pdu).status, 0)
        self.assertEqual(self.content(), bytes(4 * PIECE))

    def test_held_late(self) -> None:
        """Holding waits for the piece under way, or for the end if that was the last."""
        slow = ManualStore(2 * PIECE)
        self.serve(slow)
        self.start(FORMAT)
        holds = Holds()
        released = holds.hold(self.unit, "a")
        holds.release(self.unit, "a")
        self.successResultOf(released)
        quiet = holds.hold(self.unit, "a")
        self.assertNoResult(quiet)
        while slow.calls:
            slow.go()
            self.turns.all()
        self.successResultOf(quiet)
        self.assertEqual(slow.calls, [])
        holds.release(self.unit, "a")

    def test_held_ended(self) -> None:
        """A reset, an abort and the end of the device end it while it stands."""
        for end in (
            lambda _pdu: self.one.manage(5),
            lambda pdu: self.one.manage(1, tag=pdu.itt),
        ):
            self.serve_slowly()
            pdu = self.start(FORMAT)
            holds = Holds()
            holds.hold(self.unit, "a")
            self.turns.all()
            end(pdu)
            self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
            self.assertFalse(self.unit.conditions[1:])
            holds.release(self.unit, "a")
            self.one.do(bytes(6))
            self.corrupt()
        self.serve_slowly()
        self.start(FORMAT)
        holds.hold(self.unit, "a")
        self.turns.all()
        self.successResultOf(close_disk(self.unit))

    def test_failed(self) -> None:
        """An error of the medium is told, and the medium is corrupt; a sanitize
        operation mends it too.
        """
        store: Any = Broken(memory(4 * PIECE))
        noLongerProvides(store, IUnmap)
        noLongerProvides(store, IWriteZeroes)
        self.serve(store)
        store.bad = 2 * PIECE
        pdu = self.start(FORMAT)
        self.turns.all()
        self.check(self.one.finish(pdu), 3, 0x3101)
        self.check(self.one.do(bytes(6)), 3, 0x3100)
        store.bad = 1 << 62
        data = pattern(b"s")
        pdu = self.start(sanitize(OVERWRITE, 0, len(data)), data)
        self.turns.all()
        self.assertEqual(self.one.finish(pdu).status, 0)
        self.assertEqual(self.one.do(bytes(6)).status, 0)

    def test_memory_fails(self) -> None:
        """What cannot be remembered is not begun."""

        class Full(Volatile):
            def update(self, key: str, value: Any) -> None:
                if key == OPERATION:
                    raise OSError(errno.ENOSPC, "full")
                super().update(key, value)

        self.serve(memory(), Full())
        self.store.write(0, b"x" * 512, False)
        self.check(self.one.do(FORMAT), 4, 0x4400)
        self.assertEqual(self.one.do(read10(0, 1), read=512).data, b"x" * 512)
