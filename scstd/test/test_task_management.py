# SPDX-License-Identifier: MIT
"""
Task management against every state that a task can be in (SAM-5 section 7), and what
else ends tasks: QERR.  (`test_allegiance` has auto contingent allegiance.)
"""

from __future__ import annotations

import itertools
import struct
from functools import partial
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.protocols.engine import task_management
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.wire.codes import TaskManagementCode
from scstd.protocols.wire.pdu import R2T, DataIn, SCSIResponse, TaskManagementResponse
from scstd.scsi.sam import TaskAttribute, TaskManagementFunction
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.stores import ManualStore

F = TaskManagementCode
ORDERED, ACA = 2, 4
TUR = bytes(6)

LBA = 8
"""Where the task under test writes."""

DATA = b"w" * 512

STATES = ("queued", "collecting", "parked", "storing", "unsent")

FUNCTIONS = (
    F.ABORT_TASK,
    F.ABORT_TASK_SET,
    F.CLEAR_TASK_SET,
    F.LOGICAL_UNIT_RESET,
    F.TARGET_WARM_RESET,
    F.TARGET_COLD_RESET,
)

ALONE = {F.ABORT_TASK, F.ABORT_TASK_SET}
"""Functions that leave other nexuses' tasks alone: they need not wait for those."""


def compare_and_write(lba: int, blocks: int) -> bytes:
    """Return the CDB of a COMPARE AND WRITE."""
    return struct.pack(">BBQxxxBxx", 0x89, 0, lba, blocks)


class Bench(SynchronousTestCase):
    """
    Two initiators at a store that waits, and a task in a state.
    """

    def begin(self, *, tst: int = 0, **settings: Any) -> None:
        """Log both in."""
        self.store = ManualStore()
        self.node, self.target, (self.unit,) = serve(
            self.store, limits=TargetSettings(queued_commands=64), tst=tst, **settings
        )
        self.one = Initiator(self.node).ready(InitialR2T="Yes")
        self.other = Initiator(self.node, name=INITIATOR + "2").ready()

    def bring(self, state: str) -> int:
        """
        Bring a write of *one* into a state; return its tag.
        """
        one, other = self.one, self.other
        if state == "queued":
            other.send(other.command(read10(0, 1), read=512, attribute=ORDERED))
        elif state == "parked":
            both = bytes(512) + b"c" * 512
            other.send(other.command(compare_and_write(LBA, 1), write=1024, data=both))
        data = b"" if state == "collecting" else DATA
        pdu = one.command(write10(LBA, 1), write=512, data=data)
        one.send(pdu)
        if state == "unsent":
            self.store.go()
        elif state == "collecting":
            self.r2t = one.one(R2T)
        else:
            self.assertEqual(one.receive(), [])
            names = [name for name, _deferred, _call in self.store.calls]
            self.assertEqual(names, ["write"] if state == "storing" else ["read"])
        return pdu.itt

    def response(self, who: Initiator) -> int | None:
        """Return the answer to a task management request, None if there is none yet."""
        found = who.receive()
        for pdu in found:
            self.assertIsInstance(pdu, TaskManagementResponse)
        self.assertLessEqual(len(found), 1)
        return found[0].response if found else None

    def finish_store(self) -> None:
        """Let the store do all it was asked for."""
        while self.store.calls:
            self.store.go()

    def written(self) -> bytes:
        """Return the first byte where the task under test writes."""
        return bytes(self.store.inner.read(LBA * 512, 1))


class OwnTests(Bench):
    """
    Every function against a task of the same nexus, in every state.
    """

    def check(self, state: str, function: F) -> None:
        """Check one cell of the table."""
        self.begin()
        itl = self.one.connection.session.nexus.itls[0]  # type: ignore[union-attr]
        tag = self.bring(state)
        self.one.manage(function, tag=tag if function is F.ABORT_TASK else 0xFFFFFFFF)
        if state == "unsent":
            status, managed = self.one.receive()
            self.assertIsInstance(status, SCSIResponse)
            expected = 1 if function is F.ABORT_TASK else 0
            self.assertEqual(managed.response, expected)
            return
        # Another's task is in the store where ours is queued or parked.
        waits = state == "storing" or (state != "collecting" and function not in ALONE)
        response = self.response(self.one)
        if waits:
            self.assertIsNone(response, "answered while data can still be touched")
            self.finish_store()
            response = self.response(self.one)
        self.assertEqual(response, 0)
        self.assertEqual(self.unit.tasks_of(itl), [])
        self.finish_store()
        self.assertEqual(self.unit.tasks(), [])
        self.assertFalse(self.unit.volume.locks)
        # The other's COMPARE AND WRITE had read, not written, when it was aborted.
        compared = b"c" if state == "parked" and function in ALONE else b"\0"
        touched = b"w" if state == "storing" else compared
        self.assertEqual(self.written(), touched)
        # Nothing comes after the answer, and the unit goes on.
        self.assertEqual(self.one.receive(), [])
        if function is F.TARGET_COLD_RESET:
            self.assertTrue(self.one.connection.over)
            self.assertTrue(self.other.connection.over)
            return
        resets = function in {F.LOGICAL_UNIT_RESET, F.TARGET_WARM_RESET}
        done = self.one.do(TUR)
        self.assertEqual(done.status, 2 if resets else 0)
        if resets:
            self.assertEqual((done.key, done.asc), (6, 0x2903))
        self.assertEqual(self.one.do(TUR).status, 0)

    def test_table(self) -> None:
        """No function answers early, loses a task, or lets one write afterwards."""
        for state, function in itertools.product(STATES, FUNCTIONS):
            with self.subTest(state=state, function=function.name):
                self.check(state, function)

    def test_no_stale_write_after_abort(self) -> None:
        """Data-Out of an aborted write is dropped; it never reaches the medium."""
        self.begin()
        tag = self.bring("collecting")
        self.one.manage(F.ABORT_TASK, tag=tag)
        self.assertEqual(self.response(self.one), 0)
        self.one.send(*self.one.data_out(self.r2t, DATA))
        self.assertEqual((self.store.calls, self.one.receive()), ([], []))

    def test_session_ends(self) -> None:
        """Logout in every state is answered when the task can touch nothing any more."""
        for state in STATES:
            with self.subTest(state=state):
                self.begin()
                self.bring(state)
                self.one.receive()
                clean: list[bool] = []
                self.one.connection.when_cleaned_up(partial(clean.append, True))
                self.one.connection.disconnected()
                self.assertEqual(bool(clean), state != "storing")
                self.finish_store()
                self.assertTrue(clean)
                self.assertEqual(self.unit.tasks(), [])


class OtherTests(Bench):
    """
    CLEAR TASK SET and resets of one nexus against tasks of another, TAS=0 and TAS=1.
    """

    def check(self, state: str, function: F, *, tas: bool) -> None:
        """Check one cell."""
        self.begin()
        self.unit.task_aborted_status = tas
        tag = self.bring(state)
        self.other.manage(function)
        self.finish_store()
        managed = [
            pdu for pdu in self.other.receive() if type(pdu) is TaskManagementResponse
        ]
        self.assertEqual([pdu.response for pdu in managed], [0])
        found = self.one.receive()
        if tas:
            (status,) = found
            self.assertEqual((status.itt, status.status), (tag, 0x40))
            self.assertEqual(bytes(status.data), b"")
        else:
            self.assertEqual(found, [])
        if function is F.CLEAR_TASK_SET and tas:
            self.assertEqual(self.one.do(TUR).status, 0)
        else:
            asc = 0x2F00 if function is F.CLEAR_TASK_SET else 0x2903
            self.assertEqual(self.one.do(TUR).asc, asc)
        self.assertEqual(self.one.do(TUR).status, 0)
        self.assertEqual(self.unit.tasks(), [])

    def test_table(self) -> None:
        """The owner is told once: by a status (TAS=1), or by a unit attention."""
        functions = (F.CLEAR_TASK_SET, F.LOGICAL_UNIT_RESET, F.TARGET_WARM_RESET)
        for state, function, tas in itertools.product(
            STATES[:-1], functions, (False, True)
        ):
            with self.subTest(state=state, function=function.name, tas=tas):
                self.check(state, function, tas=tas)

    def test_separate_sets(self) -> None:
        """With TST=1 CLEAR TASK SET leaves the tasks of others alone."""
        self.begin(tst=1)
        self.bring("storing")
        self.other.manage(F.CLEAR_TASK_SET)
        self.assertEqual(self.response(self.other), 0)
        self.store.go()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.assertEqual(self.one.do(TUR).status, 0)

    def test_bystander(self) -> None:
        """Who has no task in the set is not told that it was cleared."""
        self.begin()
        third = Initiator(self.node, name=INITIATOR + "3").ready()
        self.bring("storing")
        self.other.manage(F.CLEAR_TASK_SET)
        self.finish_store()
        self.assertEqual(self.one.do(TUR).asc, 0x2F00)
        self.assertEqual(third.do(TUR).status, 0)

    def test_reset_together(self) -> None:
        """Two initiators that reset at once both get answers, and one attention each."""
        self.begin()
        self.bring("storing")
        self.one.manage(F.LOGICAL_UNIT_RESET)
        self.other.manage(F.LOGICAL_UNIT_RESET)
        self.assertIsNone(self.response(self.one))
        self.finish_store()
        for who in (self.one, self.other):
            self.assertEqual(self.response(who), 0)
            self.assertEqual(who.do(TUR).asc, 0x2903)
            self.assertEqual(who.do(TUR).status, 0)

    def test_twice_mapped(self) -> None:
        """A target reset resets a logical unit once that is there as two LUNs."""
        self.begin()
        self.target.add_lun(1, self.unit)
        for lun in (0, 1):
            while self.one.do(TUR, lun=lun).status:
                pass
        self.one.manage(F.TARGET_WARM_RESET)
        self.assertEqual(self.response(self.one), 0)
        for lun in (0, 1):
            self.assertEqual(self.one.do(TUR, lun=lun).asc, 0x2903)
            self.assertEqual(self.one.do(TUR, lun=lun).status, 0)


class AbortOrderTests(Bench):
    """
    What an abort must not set free.
    """

    def test_aborted_never_runs(self) -> None:
        """A task that becomes enabled by another's abort is not run if it is aborted."""
        self.begin()
        one = self.one
        one.send(one.command(read10(0, 1), read=512))
        one.send(one.command(read10(0, 1), read=512, attribute=ORDERED))
        one.send(one.command(write10(LBA, 1), write=512, data=DATA))
        one.manage(F.ABORT_TASK_SET)
        self.assertEqual(len(self.store.calls), 1)
        self.finish_store()
        self.assertEqual(self.response(one), 0)
        self.assertEqual((self.store.calls, self.written()), ([], b"\0"))

    def test_others_go_on(self) -> None:
        """What an aborted ORDERED task held up goes on."""
        self.begin()
        one, other = self.one, self.other
        one.send(one.command(read10(0, 1), read=512))
        ordered = one.command(TUR, attribute=ORDERED)
        one.send(ordered)
        other.send(other.command(TUR))
        self.assertEqual(other.receive(), [])
        one.manage(F.ABORT_TASK, tag=ordered.itt)
        self.assertEqual(self.response(one), 0)
        self.assertEqual(other.one(SCSIResponse).status, 0)

    def test_abort_while_store_hangs(self) -> None:
        """While a store hangs the answer is held, and the session can still end."""
        self.begin()
        tag = self.bring("storing")
        self.one.manage(F.ABORT_TASK, tag=tag)
        self.one.manage(F.LOGICAL_UNIT_RESET)
        self.assertIsNone(self.response(self.one))
        self.assertEqual(self.other.do(TUR).asc, 0x2903)
        self.assertEqual(self.other.do(TUR).status, 0)
        self.one.connection.disconnected()
        self.finish_store()
        self.assertEqual(self.unit.tasks(), [])

    def test_reset_waits_for_the_lost(self) -> None:
        """A reset is answered when the store has finished for a session that is gone."""
        self.begin()
        self.bring("storing")
        self.one.connection.disconnected()
        self.other.manage(F.LOGICAL_UNIT_RESET)
        self.assertIsNone(self.response(self.other))
        self.finish_store()
        self.assertEqual(self.response(self.other), 0)

    def test_waiting_for_writers(self) -> None:
        """A COMPARE AND WRITE that waits for writers can be aborted at once."""
        self.begin()
        self.bring("storing")
        pdu = self.other.command(
            compare_and_write(LBA, 1), write=1024, data=bytes(1024)
        )
        self.other.send(pdu)
        self.assertTrue(self.unit.volume.locks)
        self.other.manage(F.ABORT_TASK, tag=pdu.itt)
        self.assertEqual(self.response(self.other), 0)
        self.assertFalse(self.unit.volume.locks)
        self.store.go()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.assertEqual(self.store.calls, [])


class QueueErrorTests(Bench):
    """
    QERR: what a CHECK CONDITION does to the other tasks (SPC-5, Control mode page).
    """

    WRONG = b"\xc1" + bytes(9)

    def queue(self, *, tst: int, qerr: int, tas: bool = False) -> tuple[int, int]:
        """
        Queue a write of each initiator behind a command that will fail; return what
        each has got when that has failed.
        """
        self.begin(tst=tst)
        self.unit.queue_error = qerr
        self.unit.task_aborted_status = tas
        one, other = self.one, self.other
        one.send(one.command(read10(0, 1), read=512))
        wrong = one.command(self.WRONG, attribute=ORDERED)
        one.send(wrong)
        one.send(one.command(write10(LBA, 1), write=512, data=DATA))
        other.send(other.command(write10(LBA + 1, 1), write=512, data=DATA))
        self.store.go()
        found = [pdu for pdu in one.receive() if type(pdu) is SCSIResponse]
        self.assertEqual([(pdu.itt, pdu.status) for pdu in found], [(wrong.itt, 2)])
        self.finish_store()
        return len(one.receive()), len(other.receive())

    def test_go_on(self) -> None:
        """QERR=00b: the others go on."""
        self.assertEqual(self.queue(tst=0, qerr=0), (1, 1))
        self.assertEqual(self.written(), b"w")

    def test_all(self) -> None:
        """QERR=01b with one task set: all are aborted, the other nexus is told."""
        self.assertEqual(self.queue(tst=0, qerr=1), (0, 0))
        self.assertEqual(self.written(), b"\0")
        self.assertEqual(self.other.do(TUR).asc, 0x2F00)
        self.assertEqual(self.one.do(TUR).status, 0)

    def test_all_told(self) -> None:
        """QERR=01b with TAS=1: the other nexus' task ends with TASK ABORTED."""
        self.assertEqual(self.queue(tst=0, qerr=1, tas=True), (0, 1))
        self.assertEqual(self.other.do(TUR).status, 0)

    def test_separate(self) -> None:
        """QERR=01b with a task set a nexus: only its own are aborted."""
        self.assertEqual(self.queue(tst=1, qerr=1), (0, 1))

    def test_nexus(self) -> None:
        """QERR=11b: only those of the same nexus are aborted."""
        self.assertEqual(self.queue(tst=0, qerr=3), (0, 1))
        self.assertEqual(self.written(), b"\0")

    def test_attention(self) -> None:
        """A unit attention of one initiator aborts nothing of another's."""
        self.begin()
        self.unit.queue_error = 1
        self.one.send(self.one.command(read10(0, 1), read=512))
        third = Initiator(self.node, name=INITIATOR + "3")
        third.login()
        self.assertEqual(third.do(TUR).asc, 0x2900)
        self.store.go()
        self.assertEqual(self.one.one(DataIn).status, 0)
        self.assertEqual(self.one.do(TUR).status, 0)

    def test_aborted_fails(self) -> None:
        """An aborted task that ends with an error aborts nobody else."""
        self.begin()
        self.unit.queue_error = 1
        tag = self.bring("parked")
        self.one.send(self.one.command(read10(0, 1), read=512))
        self.one.manage(F.ABORT_TASK, tag=tag)
        self.finish_store()
        self.assertEqual(len(self.one.receive()), 2)
        self.assertEqual(self.other.one(SCSIResponse).status, 0)


class AttributeTests(Bench):
    """
    Task attributes and the CONTROL byte.
    """

    def test_restricted(self) -> None:
        """QUEUE ALGORITHM MODIFIER 0: SIMPLE tasks run one after the other."""
        self.begin()
        self.unit.set_mode("queue_algorithm", 0)
        self.unit.modes_changed()
        for lba in range(3):
            self.one.send(self.one.command(read10(lba, 1), read=512))
        for left in (3, 2, 1):
            self.assertEqual(len(self.store.calls), 1)
            self.assertEqual(len(self.unit.tasks()), left)
            self.store.go()
        self.assertEqual(len(self.one.receive()), 3)

    def test_aca_attribute(self) -> None:
        """Without a condition the ACA attribute is refused, and holds nobody up."""
        self.begin()
        self.one.send(self.one.command(read10(0, 1), read=512))
        self.one.send(self.one.command(read10(0, 1), read=512, attribute=ORDERED))
        done = self.one.do(TUR, attribute=ACA)
        self.assertEqual((done.key, done.asc), (5, 0x4900))
        self.finish_store()
        self.assertEqual(len(self.one.receive()), 2)
        self.assertEqual(self.one.do(TUR).status, 0)


class CodesTests(SynchronousTestCase):
    """
    What the wire calls things, and what the core does.
    """

    def test_attributes(self) -> None:
        """Task attributes go through untranslated (RFC 7143 section 11.3.1)."""
        codes = {0: "UNTAGGED", 1: "SIMPLE", 2: "ORDERED", 3: "HEAD_OF_QUEUE", 4: "ACA"}
        self.assertEqual({int(one): one.name for one in TaskAttribute}, codes)

    def test_functions(self) -> None:
        """Each function of SAM-5 has a code, and one code is iSCSI's own."""
        self.assertEqual(
            set(task_management.OF_SAM.values()), set(TaskManagementFunction)
        )
        self.assertEqual(
            set(TaskManagementCode) - set(task_management.OF_SAM),
            {TaskManagementCode.TASK_REASSIGN},
        )
        self.assertEqual(set(task_management.FUNCTIONS), set(TaskManagementCode))
