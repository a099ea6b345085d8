# SPDX-License-Identifier: MIT
"""
What auto contingent allegiance does to the commands that are there when it is
established, what clears it, and what becomes of them then.
"""

from __future__ import annotations

import errno
import itertools

import attrs

from scstd.initiator.commands import read10, write10
from scstd.protocols.wire.pdu import R2T, SCSIResponse, TaskManagementResponse
from scstd.scsi.aca import FaultedTaskSet
from scstd.scsi.holds import Holds
from scstd.scsi.sam import TaskManagementFunction
from scstd.test.initiator import INITIATOR, Initiator
from scstd.test.test_allegiance import (
    ACA,
    ACA_ACTIVE,
    BEYOND,
    BUSY,
    CHECK_CONDITION,
    GOOD,
    HEAD_OF_QUEUE,
    ORDERED,
    TASK_ABORTED,
    TUR,
    AllegianceBench,
    with_naca,
)
from scstd.test.test_task_management import compare_and_write

F = TaskManagementFunction
REJECTED = 255


@attrs.frozen
class Establishing:
    """
    A row: what happens to the commands of both nexuses that are started, and that are
    not, when the condition is established: ``blocked``, ``aborted``, or nothing.
    """

    tst: int
    qerr: int
    own: str
    others: str


ESTABLISHING = (
    Establishing(0, 0, "blocked", "blocked"),
    Establishing(0, 1, "aborted", "aborted"),
    Establishing(0, 3, "aborted", "blocked"),
    Establishing(1, 0, "blocked", ""),
    Establishing(1, 1, "aborted", ""),
    Establishing(1, 3, "aborted", ""),
)
"""SAM-5, table of blocking and aborting commands when ACA is established."""


class EstablishingTests(AllegianceBench):
    """
    What is there when the condition is established.
    """

    def bring_all(self) -> dict[str, int]:
        """
        Have both start a read, *one* a command that is to fail, and both queue another
        command behind that; return the tags.
        """
        tags = {
            "own, started": self.read(self.one),
            "others, started": self.read(self.other),
        }
        self.failing = self.one.command(
            with_naca(read10(9, 1)), read=512, attribute=HEAD_OF_QUEUE
        )
        self.one.send(self.failing)
        self.assertEqual(len(self.store.calls), 3)
        tags["own, queued"] = self.read(self.one, 1)
        tags["others, queued"] = self.read(self.other, 1)
        return tags

    def break_store(self, at: int = 2) -> None:
        """Have the store fail the call at this place."""
        _name, deferred, _call = self.store.calls.pop(at)
        deferred.errback(OSError(errno.EIO, "broken"))

    def check(self, row: Establishing, *, tas: bool) -> None:
        """Check one row."""
        self.begin(tst=row.tst)
        self.unit.queue_error, self.unit.task_aborted_status = row.qerr, tas
        tags = self.bring_all()
        self.break_store()
        own, others = self.answers(self.one), self.answers(self.other)
        self.assertEqual(own, {self.failing.itt: CHECK_CONDITION})
        told = {tags["others, queued"]: TASK_ABORTED}
        self.assertEqual(others, told if tas and row.others == "aborted" else {})
        # What the store is at work for ends; nothing more is started.
        self.finish_store()
        own, others = self.answers(self.one), self.answers(self.other)
        self.assertEqual(own, {})
        of_others = {tags["others, started"]: GOOD, tags["others, queued"]: GOOD}
        told = {tags["others, started"]: TASK_ABORTED}
        self.assertEqual(
            others,
            of_others
            if not row.others
            else told
            if tas and row.others == "aborted"
            else {},
        )
        self.assertEqual(len(self.unit.tasks()), self.left(row))
        self.clear()
        self.finish_store()
        own, others = self.answers(self.one), self.answers(self.other)
        of_own = {tags["own, started"]: GOOD, tags["own, queued"]: GOOD}
        self.assertEqual(own, of_own if row.own == "blocked" else {})
        self.assertEqual(others, of_others if row.others == "blocked" else {})
        self.assertEqual(self.unit.tasks(), [])
        expected = 0x2F00 if row.others == "aborted" and not tas else 0
        done = self.other.do(TUR)
        self.assertEqual(done.asc if done.sense else 0, expected)
        self.assertEqual(self.one.do(TUR).status, GOOD)

    @staticmethod
    def left(row: Establishing) -> int:
        """Return how many commands are left in the unit."""
        return 2 * (row.own == "blocked") + 2 * (row.others == "blocked")

    def test_table(self) -> None:
        """Each row, with TAS=0 and TAS=1."""
        for row, tas in itertools.product(ESTABLISHING, (False, True)):
            with self.subTest(row=row, tas=tas):
                self.check(row, tas=tas)

    def test_collecting(self) -> None:
        """A write that waits for its data may get it, and does not start."""
        self.begin()
        tag = self.bring("collecting")
        self.establish()
        self.one.send(*self.one.data_out(self.r2t, b"w" * 512))
        self.assertEqual((self.store.calls, self.one.receive()), ([], []))
        self.clear()
        self.finish_store()
        self.assertEqual(self.answers(self.one), {tag: GOOD})
        self.assertEqual(self.written(), b"w")

    def test_collecting_after(self) -> None:
        """The data may also come after the condition is cleared."""
        self.begin()
        tag = self.bring("collecting")
        self.establish()
        self.clear()
        self.one.send(*self.one.data_out(self.r2t, b"w" * 512))
        self.finish_store()
        self.assertEqual(self.answers(self.one), {tag: GOOD})

    def test_order_is_kept(self) -> None:
        """What waited for an ORDERED task waits for it afterwards too."""
        self.begin()
        self.read(self.one)
        ordered = self.read(self.one, 1, ORDERED)
        behind = self.read(self.one, 2)
        self.one.send(
            self.one.command(with_naca(BEYOND), read=512, attribute=HEAD_OF_QUEUE)
        )
        self.assertEqual(self.one.one(SCSIResponse).status, CHECK_CONDITION)
        self.finish_store()
        self.assertEqual(self.one.receive(), [])
        for attribute in (ACA, ACA):
            self.assertEqual(self.one.do(TUR, attribute=attribute).status, GOOD)
        self.one.manage(F.CLEAR_ACA)
        self.assertEqual(len(self.one.receive()), 2)
        self.assertEqual(len(self.store.calls), 1)
        self.store.go()
        self.assertEqual(self.answers(self.one), {ordered: GOOD})
        self.store.go()
        self.assertEqual(self.answers(self.one), {behind: GOOD})

    def test_head_of_queue(self) -> None:
        """A blocked HEAD OF QUEUE task goes on before the others."""
        self.begin()
        before = self.read(self.other)
        ordered = self.read(self.other, 1, ORDERED)
        head = self.one.command(write10(0, 1), write=512, attribute=HEAD_OF_QUEUE)
        self.one.send(head)
        r2t = self.one.one(R2T)
        behind = self.read(self.other)
        self.establish()
        self.store.go()
        self.one.send(*self.one.data_out(r2t, b"w" * 512))
        self.clear()
        self.assertEqual([name for name, _d, _c in self.store.calls], ["write"])
        self.assertEqual(self.answers(self.other), {before: GOOD})
        for who, tag in (
            (self.one, head.itt),
            (self.other, ordered),
            (self.other, behind),
        ):
            self.store.go()
            self.assertEqual(self.answers(who), {tag: GOOD})

    def test_becomes_enabled(self) -> None:
        """What the failing command itself has kept from running is blocked as well."""
        self.begin()
        failing = self.one.command(with_naca(read10(0, 1)), read=512, attribute=ORDERED)
        self.one.send(failing)
        tags = [self.read(self.other), self.read(self.one)]
        self.break_store(0)
        self.assertEqual(self.answers(self.one), {failing.itt: CHECK_CONDITION})
        self.assertEqual(self.store.calls, [])
        self.clear()
        self.finish_store()
        self.assertEqual(self.answers(self.other), {tags[0]: GOOD})
        self.assertEqual(self.answers(self.one), {tags[1]: GOOD})

    def test_enabled_together(self) -> None:
        """Of several that become enabled at once the first to fail blocks the others."""
        self.begin()
        self.read(self.one, attribute=ORDERED)
        failing = self.one.command(with_naca(BEYOND), read=512)
        self.one.send(failing)
        behind = self.read(self.one)
        self.store.go()
        statuses = self.answers(self.one)
        self.assertEqual(statuses.pop(failing.itt), CHECK_CONDITION)
        self.assertEqual((len(statuses), self.store.calls), (1, []))
        self.clear()
        self.store.go()
        self.assertEqual(self.answers(self.one), {behind: GOOD})

    def test_another_fails(self) -> None:
        """A blocked command that fails says so afterwards, and faults its own nexus."""
        self.begin()
        failing = self.other.command(with_naca(read10(0, 1)), read=512)
        self.other.send(failing)
        started = self.read(self.one)
        write = self.one.command(write10(0, 1), write=512)
        self.one.send(write)
        r2t = self.one.one(R2T)
        self.establish()
        self.break_store(0)
        self.store.go()
        self.assertEqual((self.one.receive(), self.other.receive()), ([], []))
        self.assertEqual(self.manage(self.one), 0)
        self.assertEqual(self.answers(self.other), {failing.itt: CHECK_CONDITION})
        # Now it is the other's, and what was blocked is so still.
        self.assertEqual(self.one.receive(), [])
        self.assertEqual(self.one.do(TUR).status, BUSY)
        self.assertEqual(self.other.do(TUR).status, ACA_ACTIVE)
        self.assertEqual(self.manage(self.one), REJECTED)
        self.one.send(*self.one.data_out(r2t, bytes(512)))
        self.assertEqual(self.store.calls, [])
        self.assertEqual(self.manage(self.other), 0)
        self.assertEqual(self.answers(self.one), {started: GOOD})
        self.assertFalse(self.faulted())
        self.store.go()
        self.assertEqual(self.answers(self.one), {write.itt: GOOD})

    def test_another_aborts(self) -> None:
        """A blocked command that fails aborts others as QERR says, afterwards."""
        self.begin()
        failing = self.other.command(read10(0, 1), read=512)
        self.other.send(failing)
        self.read(self.one)
        self.establish()
        self.unit.queue_error = 1
        self.break_store(0)
        self.store.go()
        self.assertEqual(len(self.unit.tasks()), 2)
        self.clear()
        self.assertEqual(self.answers(self.other), {failing.itt: CHECK_CONDITION})
        self.assertEqual(self.one.receive(), [])
        self.assertEqual(self.unit.tasks(), [])
        self.assertEqual(self.one.do(TUR).asc, 0x2F00)

    def test_lock(self) -> None:
        """An ACA command need not wait for the answer to a write that is held."""
        self.begin()
        started = self.bring("storing")
        self.establish()
        both = bytes(1024)
        pdu = self.one.command(
            compare_and_write(8, 1), write=1024, data=both, attribute=ACA
        )
        self.one.send(pdu)
        self.store.go()
        self.assertEqual([name for name, _d, _c in self.store.calls], ["read"])
        self.finish_store()
        # With NACA=0: that has cleared it.
        self.assertEqual(
            self.answers(self.one), {pdu.itt: CHECK_CONDITION, started: GOOD}
        )
        self.bring("storing")
        self.one.send(self.one.command(compare_and_write(8, 1), write=1024, data=both))
        self.finish_store()
        self.assertEqual(self.unit.locks._awaited, {})

    def test_internal(self) -> None:
        """The target's own tasks go on, and establish nothing."""
        self.begin()
        itl = self.one.connection.session.nexus.itls[0]  # type: ignore[union-attr]
        before = self.unit.perform(itl, read10(0, 1), expected=512)
        self.establish()
        self.store.go()
        self.assertEqual(self.successResultOf(before).status, GOOD)
        during = self.unit.perform(itl, read10(0, 1), expected=512)
        self.store.go()
        self.assertEqual(self.successResultOf(during).status, GOOD)
        # The place of the ACA command is not theirs.
        self.unit.perform(itl, read10(0, 1), expected=512)
        self.assertEqual(self.one.do(TUR, attribute=ACA).status, GOOD)
        self.store.go()
        self.clear()
        wrong = self.unit.perform(itl, with_naca(BEYOND), expected=512)
        self.assertEqual(self.successResultOf(wrong).status, CHECK_CONDITION)
        self.assertFalse(self.faulted())

    def test_aborted(self) -> None:
        """A command that fails after it was aborted establishes nothing."""
        self.begin()
        pdu = self.one.command(with_naca(read10(0, 1)), read=512)
        self.one.send(pdu)
        self.one.manage(F.ABORT_TASK, tag=pdu.itt)
        self.break_store(0)
        self.assertEqual([one.response for one in self.one.receive()], [0])
        self.assertFalse(self.faulted())

    def test_held_unit(self) -> None:
        """What waits at a unit that is suspended does not slip past the condition."""
        self.begin()
        holds = Holds()
        self.establish_later = self.one.command(with_naca(read10(0, 1)), read=512)
        self.one.send(self.establish_later)
        holds.hold(self.unit, "me")
        tag = self.read(self.one)
        self.break_store(0)
        self.assertEqual(len(self.one.receive()), 1)
        holds.release(self.unit, "me")
        self.assertEqual(self.store.calls, [])
        self.clear()
        self.store.go()
        self.assertEqual(self.answers(self.one), {tag: GOOD})


CLEARS = {
    "CLEAR ACA": True,
    "LOGICAL UNIT RESET": True,
    "TARGET WARM RESET": True,
    "TARGET COLD RESET": True,
    "I_T NEXUS RESET": True,
    "logout": True,
    "connection lost": True,
    "LUN removed": True,
    "ABORT TASK": False,
    "ABORT TASK SET": False,
    "CLEAR TASK SET": False,
    "another's CLEAR ACA": False,
    "another's ABORT TASK SET": False,
    "another's CLEAR TASK SET": False,
    "another's logout": False,
    "another's LOGICAL UNIT RESET": True,
}
"""What clears the condition, and what does not (SAM-5, Clearing an ACA condition)."""


class ClearingTests(AllegianceBench):
    """
    What clears the condition, in one task set and in several.
    """

    def perform(self, name: str) -> None:
        """Have it happen."""
        who = self.other if name.startswith("another's ") else self.one
        name = name.removeprefix("another's ")
        if name == "logout":
            who.logout()
        elif name == "connection lost":
            who.connection.disconnected()
        elif name == "LUN removed":
            self.target.remove_lun(0)
        else:
            function = TaskManagementFunction[name.replace(" ", "_")]
            who.manage(function, tag=1 if function is F.ABORT_TASK else 0xFFFFFFFF)
            found = who.receive()
            expected = 0
            if name == "ABORT TASK":
                expected = 1
            elif name == "CLEAR ACA" and who is self.other and not self.tst:
                expected = REJECTED
            self.assertEqual([one.response for one in found], [expected])

    def check(self, name: str, *, clears: bool) -> None:
        """Check one."""
        self.begin(tst=self.tst)
        self.one = Initiator(self.node, isid=b"\x80\0\0\0\0\5")
        self.one.ready(iSCSIProtocolLevel="2")
        self.other.do(TUR)
        self.establish()
        itl = self.one.connection.session.nexus.itls[0]  # type: ignore[union-attr]
        if self.tst and name.startswith("another's LOGICAL"):
            clears = True
        self.perform(name)
        self.assertEqual(self.faulted(), not clears)
        self.assertEqual(isinstance(itl.task_set, FaultedTaskSet), not clears)
        if not clears:
            self.clear()

    def test_table(self) -> None:
        """Each of `CLEARS`, with one task set and with several."""
        for tst, (name, clears) in itertools.product((0, 1), CLEARS.items()):
            with self.subTest(name=name, tst=tst):
                self.tst = tst
                self.check(name, clears=clears)

    def test_without(self) -> None:
        """CLEAR ACA without a condition is complete; of no LUN there is no answer."""
        self.begin()
        self.assertEqual(self.manage(self.one), 0)
        self.assertEqual(self.manage(self.one, lun=7), 2)

    def test_aborts_command(self) -> None:
        """CLEAR ACA aborts the ACA command, and is answered when that is gone."""
        self.begin()
        started = self.read(self.other)
        self.establish()
        self.read(self.one, attribute=ACA)
        self.one.manage(F.CLEAR_ACA)
        self.assertEqual(self.one.receive(), [])
        self.assertFalse(self.faulted())
        self.store.go()
        self.assertEqual(self.answers(self.other), {started: GOOD})
        self.store.go()
        (response,) = self.one.receive()
        self.assertIsInstance(response, TaskManagementResponse)
        self.assertEqual(self.unit.tasks(), [])

    def test_aborts_collecting_command(self) -> None:
        """An ACA command that waits for its data goes at once."""
        self.begin()
        self.establish()
        self.one.send(self.one.command(write10(0, 1), write=512, attribute=ACA))
        self.one.one(R2T)
        self.clear()
        self.assertEqual(self.unit.tasks(), [])

    def test_abort_held(self) -> None:
        """What is over and held can be aborted, and is gone at once."""
        for function in (F.ABORT_TASK, F.ABORT_TASK_SET, F.CLEAR_TASK_SET):
            with self.subTest(function=function.name):
                self.begin()
                tag = self.bring("storing")
                self.establish()
                self.finish_store()
                held = tag if function is F.ABORT_TASK else 0xFFFFFFFF
                self.assertEqual(self.manage(self.one, function, tag=held), 0)
                self.assertEqual(self.unit.tasks(), [])
                self.clear()
                self.assertEqual(self.one.receive(), [])

    def test_session_ends(self) -> None:
        """The end of the faulted nexus lets those of others go on, and be answered."""
        self.begin()
        tags = [self.read(self.other), self.read(self.other, 1, ORDERED)]
        mine = self.read(self.one)
        self.establish()
        self.store.go()
        self.one.connection.disconnected()
        self.assertEqual(self.answers(self.other), {tags[0]: GOOD})
        self.finish_store()
        self.assertEqual(self.answers(self.other), {tags[1]: GOOD})
        self.assertTrue(mine)
        self.assertEqual(self.unit.tasks(), [])

    def test_other_session_ends(self) -> None:
        """Held and blocked tasks of a nexus that goes hold up nothing."""
        self.begin()
        self.read(self.other)
        self.read(self.other, 1, ORDERED)
        self.establish()
        self.other.connection.disconnected()
        self.assertTrue(self.faulted())
        self.finish_store()
        self.clear()
        self.assertEqual(self.unit.tasks(), [])
        self.assertEqual(self.one.do(TUR).status, GOOD)

    def test_gone_while_busy(self) -> None:
        """A task of a nexus that has gone enables nothing while there is a condition."""
        self.begin()
        self.read(self.other)
        ordered = self.read(self.one, 1, ORDERED)
        self.other.connection.disconnected()
        self.one.send(
            self.one.command(with_naca(BEYOND), read=512, attribute=HEAD_OF_QUEUE)
        )
        self.assertEqual(len(self.one.receive()), 1)
        self.store.go()
        self.assertEqual(self.store.calls, [])
        self.clear()
        self.store.go()
        self.assertEqual(self.answers(self.one), {ordered: GOOD})

    def test_lun_removed(self) -> None:
        """A LUN that goes lets finish what is blocked, and the ACA command."""
        self.begin()
        blocked = self.read(self.one)
        self.establish()
        command = self.read(self.one, attribute=ACA)
        removed = self.target.remove_lun(0)
        self.assertFalse(self.faulted())
        self.assertNoResult(removed)
        self.assertEqual(self.manage(self.one), 0)
        self.finish_store()
        self.assertEqual(self.answers(self.one), {blocked: GOOD, command: GOOD})
        self.successResultOf(removed)
        self.assertEqual(self.manage(self.one), 2)

    def test_reset_is_told(self) -> None:
        """A reset aborts what is blocked, held, and the ACA command, and is told."""
        self.begin()
        self.read(self.one)
        self.read(self.other)
        self.establish()
        self.store.go()
        self.one.send(self.one.command(write10(0, 1), write=512, attribute=ACA))
        self.one.one(R2T)
        self.one.manage(F.LOGICAL_UNIT_RESET)
        self.store.go()
        self.assertEqual([one.response for one in self.one.receive()], [0])
        self.assertEqual((self.unit.tasks(), self.other.receive()), ([], []))
        for who in (self.one, self.other):
            self.assertEqual(who.do(TUR).asc, 0x2903)

    def test_tas(self) -> None:
        """What another's CLEAR TASK SET aborts is told of, with TAS=1."""
        self.begin()
        self.unit.task_aborted_status = True
        tag = self.read(self.one)
        self.establish()
        self.store.go()
        self.assertEqual(self.manage(self.other, F.CLEAR_TASK_SET), 0)
        self.assertEqual(self.answers(self.one), {tag: TASK_ABORTED})
        self.assertTrue(self.faulted())

    def test_several(self) -> None:
        """With a task set each, each has its own condition."""
        self.begin(tst=1)
        self.establish()
        self.assertEqual(self.other.do(with_naca(BEYOND)).status, CHECK_CONDITION)
        self.clear_one_of_two()
        self.assertEqual(self.other.do(TUR).status, ACA_ACTIVE)
        self.assertEqual(self.manage(self.other), 0)
        self.assertFalse(self.faulted())

    def clear_one_of_two(self) -> None:
        """Clear *one*'s; the other's stays."""
        self.assertEqual(self.manage(self.one), 0)
        self.assertTrue(self.faulted())
        self.assertEqual(self.one.do(TUR).status, GOOD)

    def test_new_nexus(self) -> None:
        """Who comes while there is a condition meets it, in one task set."""
        for tst, expected in ((0, BUSY), (1, CHECK_CONDITION)):
            self.begin(tst=tst)
            self.establish()
            third = Initiator(self.node, name=INITIATOR + "3")
            third.login()
            self.assertEqual(third.do(TUR).status, expected)
            self.clear()
            # Its unit attention is not lost.
            self.assertEqual(third.do(TUR).status, GOOD if tst else CHECK_CONDITION)
