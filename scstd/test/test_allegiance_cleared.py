# SPDX-License-Identifier: MIT
"""
What auto contingent allegiance does to the commands that are there when it is
established, what clears it, and what becomes of them then.
"""

from __future__ import annotations

import itertools

from scstd.initiator.commands import write10
from scstd.protocols.wire.codes import TaskManagementCode
from scstd.protocols.wire.pdu import R2T, TaskManagementResponse
from scstd.scsi.aca import FaultedTaskSet
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

F = TaskManagementCode


REJECTED = 255


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
            function = TaskManagementCode[name.replace(" ", "_")]
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
