# SPDX-License-Identifier: MIT
"""
Tests for `scstd.scsi.aca`: what establishes an auto contingent allegiance, and what the
task that did so leaves behind.
"""

from __future__ import annotations

import errno
import itertools

import attrs

from scstd.initiator.commands import read10, write10
from scstd.protocols.wire.pdu import R2T, SCSIResponse
from scstd.scsi.holds import Holds
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
from scstd.test.test_allegiance_cleared import REJECTED, F
from scstd.test.test_task_management import compare_and_write


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
        self.assertEqual(self.unit.volume.locks._awaited, {})

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
