# SPDX-License-Identifier: MIT
"""
Tests for copies that are stopped, and for what runs beside them.
"""

from __future__ import annotations

import struct
from typing import Any

from scstd.initiator.commands import read10, write10
from scstd.protocols.wire.pdu import SCSICommand, SCSIResponse, TaskManagementResponse
from scstd.scsi.removable import changed
from scstd.test.copying import (
    CopyTests,
    abort,
    list_1,
    list_4,
    naa,
    receive_1,
    receive_4,
    segment,
    xcopy,
)
from scstd.test.initiator import INITIATOR, Initiator
from scstd.test.stores import ManualStore, full

SIZE = 16 << 20
ABORT_TASK, ABORT_TASK_SET, LUN_RESET = 1, 2, 5
ORDERED = 2


class AbortMidCopyTests(CopyTests):
    """
    A copy that is stopped writes nothing after that has been answered.
    """

    def start(self, *, slow: int = 1, blocks: int = 20000) -> SCSICommand:
        """Begin to copy from LUN 0 to LUN 1, one of which waits to be told."""
        stores: list[Any] = [full(SIZE), full(SIZE)]
        stores[slow] = self.slow = ManualStore(SIZE)
        self.connect(*stores)
        data = list_1([naa(unit) for unit in self.units], [segment(blocks)])
        pdu = self.one.command(xcopy(data), write=len(data), data=data)
        self.one.send(pdu)
        return pdu

    def background(self) -> None:
        """Begin to copy in the background."""
        self.slow = ManualStore(SIZE)
        self.connect(full(SIZE), self.slow)
        cscds = [naa(unit) for unit in self.units]
        data = list_4(cscds, [segment(20000, source=1, target=2)], flags=1)
        self.assertEqual(self.one.do(xcopy(data, lid4=True), data=data).status, 0)

    def drain(self) -> None:
        """Let all that waits happen; nothing more may follow."""
        self.slow.go(len(self.slow.calls))
        self.assertEqual(self.slow.calls, [])
        self.assertEqual(self.manager.running, 0)
        for unit in self.units:
            self.assertEqual(unit.tasks(), [])

    def finish(self) -> None:
        """Let the copy go on to its end."""
        while self.slow.calls:
            self.slow.go()

    def stopped(self) -> None:
        """The function is answered when no write is left, and not before."""
        self.assertEqual(self.one.receive(), [])
        self.assertEqual(len(self.slow.calls), 4)
        self.slow.go(3)
        self.assertEqual(self.one.receive(), [])
        self.drain()

    def test_abort_task(self) -> None:
        """ABORT TASK: the task ends in silence."""
        pdu = self.start()
        self.one.manage(ABORT_TASK, tag=pdu.itt)
        self.stopped()
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)

    def test_abort_while_reading(self) -> None:
        """What was being read when the copy was aborted is never written."""
        pdu = self.start(slow=0)
        self.one.manage(ABORT_TASK, tag=pdu.itt)
        self.slow.inner.write(0, b"x" * SIZE, False)
        self.stopped()
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.assertEqual(self.stores[1].read(0, SIZE), bytes(SIZE))

    def test_reset_of_the_destination(self) -> None:
        """A reset of the other logical unit stops the copy, and waits for it."""
        self.start()
        self.one.manage(LUN_RESET, lun=1)
        self.stopped()
        function, response = self.sorted_answers()
        self.assertEqual(function.response, 0)
        sense = bytes(response.data)[2:]
        self.assertEqual((sense[2] & 0xF, sense[12:14]), (0xA, b"\x0d\1"))

    def sorted_answers(self) -> list[Any]:
        """Return the answer to the function, and that to the command."""
        found = self.one.receive()
        self.assertEqual(
            {type(one) for one in found}, {TaskManagementResponse, SCSIResponse}
        )
        return sorted(found, key=lambda one: isinstance(one, SCSIResponse))

    def test_reset_of_the_source(self) -> None:
        """The same for the source, while nothing of it is being read."""
        stores = [full(SIZE), full(SIZE), ManualStore(SIZE)]
        self.connect(*stores)
        self.slow = stores[2]  # type: ignore[assignment]
        data = list_1(
            [naa(unit) for unit in self.units], [segment(20000, source=1, target=2)]
        )
        self.one.send(self.one.command(xcopy(data), write=len(data), data=data))
        self.one.manage(LUN_RESET, lun=1)
        self.stopped()
        self.assertEqual(self.sorted_answers()[0].response, 0)

    def test_idle_end(self) -> None:
        """ABORT TASK SET at a destination with nothing under way there waits too."""
        self.start(slow=0)
        self.one.manage(ABORT_TASK_SET, lun=1)
        self.stopped()
        self.assertEqual(self.sorted_answers()[0].response, 0)

    def test_used_before(self) -> None:
        """A unit that an earlier segment wrote to is still an end of the copy."""
        stores: list[Any] = [full(SIZE), full(SIZE), ManualStore(SIZE)]
        self.connect(*stores)
        self.slow = stores[2]
        segments = [segment(1, 0, 0), segment(20000, 0, 0, target=2), segment(1, 5, 5)]
        data = list_1([naa(unit) for unit in self.units], segments)
        self.one.send(self.one.command(xcopy(data), write=len(data), data=data))
        self.one.manage(LUN_RESET, lun=1)
        self.stopped()
        response = self.sorted_answers()[1]
        self.assertEqual(bytes(response.data)[2 + 10 : 2 + 12], b"\0\1")

    def test_another_medium(self) -> None:
        """What is read from another medium than the copy began with is not written."""
        self.start()
        self.stores[0].write(0, b"n" * SIZE, False)
        changed(self.units[0])
        self.drain()
        sense = bytes(self.one.one(SCSIResponse).data)[2:]
        self.assertEqual((sense[2] & 0xF, sense[12:14]), (0xA, b"\x0d\1"))
        self.assertEqual(self.slow.inner.read(0, SIZE), bytes(SIZE))

    def test_reset_of_the_manager(self) -> None:
        """A reset of the unit that got the command ends it."""
        self.start()
        self.one.manage(LUN_RESET, lun=0)
        self.stopped()
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)

    def test_copy_operation_abort(self) -> None:
        """COPY OPERATION ABORT: the copy says that it was cleared."""
        copy = self.start()
        self.one.send(self.one.command(abort(1)))
        self.stopped()
        found = {one.itt: one for one in self.one.receive()}
        response = found.pop(copy.itt)
        sense = bytes(response.data)[2:]
        self.assertEqual((sense[2] & 0xF, sense[12:14]), (0xA, b"\x2f\2"))
        self.assertEqual([one.status for one in found.values()], [0])
        self.check(self.one.do(abort(1)), 5, 0x2400)
        self.check(self.one.do(abort(77)), 5, 0x2400)

    def test_copy_operation_abort_in_the_background(self) -> None:
        """The same for a copy in the background: status 60h, TASK ABORTED."""
        self.background()
        status = self.one.do(receive_4(5, 1), read=99).data
        self.assertEqual((status[5], status[8:12]), (0x12, b"\0\0\0\x64"))
        self.one.send(self.one.command(abort(1)))
        self.stopped()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        status = self.one.do(receive_4(5, 1), read=99).data
        self.assertEqual((status[5], status[12], status[14]), (0x60, 0x40, 0))

    def test_reset_in_the_background(self) -> None:
        """A reset stops a copy in the background, whichever end gets it."""
        for lun in (0, 1):
            self.background()
            self.one.manage(LUN_RESET, lun=lun)
            self.stopped()
            self.assertEqual(self.one.one(TaskManagementResponse).response, 0)

    def test_end_of_the_nexus(self) -> None:
        """A copy in the background ends with its session, which waits for it."""
        self.background()
        session = self.one.connection.session
        assert session is not None
        gone: list[bool] = []
        session.close(lambda: gone.append(True))
        self.assertEqual(gone, [])
        self.slow.go(3)
        self.assertEqual(gone, [])
        self.drain()
        self.assertEqual(gone, [True])

    def test_in_progress(self) -> None:
        """A list identifier in use is refused; in the other format differently."""
        self.start()
        data = list_1([naa(unit) for unit in self.units], [segment(1)])
        self.check(self.one.do(xcopy(data), data=data), 5, 0x0016)
        data = list_4([], [])
        self.check(self.one.do(xcopy(data, lid4=True), data=data), 5, 0x2600)
        status = self.one.do(receive_1(0, 1), read=12).data
        self.assertEqual(status.hex(), "000000080000010000000000")
        for action in (1, 4):
            self.check(self.one.do(receive_1(action, 1), read=99), 5, 0x2400)
        self.slow.go(2)
        status = self.one.do(receive_1(0, 1), read=12).data
        self.assertEqual(int.from_bytes(status[8:], "big"), 2 << 20)
        self.finish()

    def test_too_many(self) -> None:
        """There are so many copies at one time, as reported, and no more."""
        self.start()
        self.manager.running = 64
        data = list_1([naa(unit) for unit in self.units], [segment(1)], list_id=2)
        self.check(self.one.do(xcopy(data), data=data), 0xB, 0x5503)
        self.finish()


class BesideTests(CopyTests):
    """
    What runs beside a copy neither stops it for ever nor is stopped.
    """

    def finish(self, *slow: ManualStore) -> list[Any]:
        """Let everything happen; return the answers."""
        answers = []
        for _turn in range(1000):
            for store in slow:
                if store.calls:
                    store.go()
            answers += self.one.receive()
            if not any(store.calls for store in slow):
                return answers
        raise AssertionError("it never ends")

    def test_ordered_commands(self) -> None:
        """An ORDERED command waits for the EXTENDED COPY, which does not wait for it."""
        for shared in (0, 1):
            slow = ManualStore(SIZE)
            self.connect(full(SIZE), slow)
            for unit in self.units:
                unit.restricted_reordering = bool(shared)
            data = list_1([naa(unit) for unit in self.units], [segment(9000)])
            self.one.send(self.one.command(xcopy(data), write=len(data), data=data))
            other = self.one.command(bytes(6), lun=1, attribute=ORDERED)
            self.one.send(other)
            # The command is not in the task set of its destination.
            self.assertEqual(self.one.one(SCSIResponse).itt, other.itt)
            self.one.send(self.one.command(bytes(6), attribute=ORDERED))
            self.assertEqual(self.one.receive(), [])
            answers = self.finish(slow)
            self.assertEqual([one.status for one in answers], [0, 0])
            self.assertEqual(slow.inner.read(0, SIZE), self.stores[0].read(0, SIZE))

    def test_compare_and_write(self) -> None:
        """COMPARE AND WRITE at both ends, in both ranges, during a copy."""
        one, two = ManualStore(SIZE), ManualStore(SIZE)
        self.connect(one, two)
        one.inner.write(0, b"a" * SIZE, False)
        data = list_1(
            [naa(unit) for unit in self.units],
            [segment(9000), segment(9000, source=1, target=0, source_lba=10000)],
        )
        self.one.send(self.one.command(xcopy(data), write=len(data), data=data))
        for lun, lba, now in ((0, 5000, b"a"), (1, 5000, b"\0"), (0, 8999, b"a")):
            cdb = struct.pack(">BBQxxxBxx", 0x89, 0, lba, 1)
            both = now * 512 + b"c" * 512
            self.one.send(self.one.command(cdb, write=1024, data=both, lun=lun))
        answers = self.finish(one, two)
        self.assertEqual(len(answers), 4)
        self.assertEqual(self.manager.running, 0)
        self.assertFalse(self.units[0].volume.locks or self.units[1].volume.locks)

    def test_others_do_not_wait(self) -> None:
        """Another's reads and writes of the same units go on during a copy."""
        slow = ManualStore(SIZE)
        self.connect(full(SIZE), slow)
        other = Initiator(self.node, name=INITIATOR + "2").ready()
        data = list_1([naa(unit) for unit in self.units], [segment(9000)])
        self.one.send(self.one.command(xcopy(data), write=len(data), data=data))
        self.assertEqual(other.do(read10(0, 1), read=512).status, 0)
        self.assertEqual(other.do(write10(5, 1), data=b"o" * 512).status, 0)
        self.finish(slow)

    def test_memory_is_bounded(self) -> None:
        """Four pieces of 1 MiB are under way at a time, and never more."""
        one, two = ManualStore(SIZE), ManualStore(SIZE)
        self.connect(one, two)
        data = list_1([naa(unit) for unit in self.units], [segment(32768)])
        self.one.send(self.one.command(xcopy(data), write=len(data), data=data))
        most = 0
        while one.calls or two.calls:
            most = max(most, len(one.calls) + len(two.calls))
            (one if one.calls else two).go()
        self.assertEqual(most, 4)
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
