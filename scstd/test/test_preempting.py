# SPDX-License-Identifier: MIT
"""
Tests for PREEMPT, and PREEMPT AND ABORT: who loses what, who is told, and what happens
to commands that are under way; and what cluster software makes of it.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.initiator.reservations import (
    ABORT,
    CONFLICT,
    FIELD,
    PARAMETER,
    PREEMPT,
    RELEASE,
    RELEASED,
    RESERVE,
    UNREGISTERED,
    out_cdb,
    parameters,
)
from scstd.protocols.wire.pdu import SCSIResponse
from scstd.scsi.spc import prout
from scstd.test.initiator import Initiator, serve
from scstd.test.reserving import Registered, registrant
from scstd.test.stores import ManualStore, memory


class PreemptTests(Registered):
    """
    PREEMPT, and PREEMPT AND ABORT.
    """

    def setUp(self) -> None:
        """Register a third initiator with the second's key."""
        super().setUp()
        self.third = registrant(self.node, 4).register(2)

    def told(self) -> list[list[int]]:
        """Return what the four were told."""
        return [one.told() for one in (self.one, self.two, self.third, self.guest)]

    def test_holder(self) -> None:
        """The holder's key preempts the reservation, and all of that key."""
        for action in (PREEMPT, ABORT):
            self.two.register(2)
            self.third.register(2)
            self.two.out(RESERVE, 2, kind=3)
            self.assertEqual(self.one.out(action, 1, 2, kind=3).status, 0)
            self.assertEqual(
                (self.one.registered(), self.one.reservation()), ([1], (1, 3))
            )
            self.assertEqual(self.told(), [[], [UNREGISTERED], [UNREGISTERED], []])
            self.one.out(RELEASE, 1, kind=3)

    def test_holder_other_type(self) -> None:
        """If the type changes, those who stay registered are told of that."""
        self.third.register(4)
        self.two.out(RESERVE, 2, kind=5)
        self.assertEqual(self.one.out(PREEMPT, 1, 2, kind=8).status, 0)
        self.assertEqual(self.one.reservation(), (0, 8))
        self.assertEqual(self.told(), [[], [UNREGISTERED], [RELEASED], []])
        self.assertEqual(self.third.do(write10(0, 1), data=bytes(512)).status, 0)

    def test_registrations(self) -> None:
        """Another key than the holder's removes registrations; the type is ignored."""
        self.one.out(RESERVE, 1, kind=6)
        self.guest.register(3)
        self.assertEqual(self.guest.out(PREEMPT, 3, 2, kind=15).status, 0)
        self.assertEqual(
            (self.one.registered(), self.one.reservation()), ([1, 3], (1, 6))
        )
        self.assertEqual(self.told(), [[], [UNREGISTERED], [UNREGISTERED], []])
        self.assertEqual(self.two.do(read10(0, 1), read=512).status, CONFLICT)

    def test_no_reservation(self) -> None:
        """Without a reservation only registrations go, and none comes."""
        self.assertEqual(self.one.out(PREEMPT, 1, 2, kind=1).status, 0)
        self.assertEqual((self.one.registered(), self.one.reservation()), ([1], None))

    def test_unknown_key(self) -> None:
        """A key that nobody has is a conflict, none at all is refused."""
        for kind in (0, 3, 5):
            if kind:
                self.one.out(RESERVE, 1, kind=kind)
            self.assertEqual(self.two.out(PREEMPT, 2, 99, kind=1).status, CONFLICT)
            self.refuse(self.two.out(PREEMPT, 2, 0, kind=1), PARAMETER)
            self.one.out(RELEASE, 1, kind=kind)
            self.told()

    def test_all_registrants_zero(self) -> None:
        """A key of 0 preempts what all registrants hold, and all others."""
        for kind in (7, 8):
            self.two.register(2)
            self.third.register(3)
            self.one.out(RESERVE, 1, kind=kind)
            self.assertEqual(self.one.out(PREEMPT, 1, 0, kind=1).status, 0)
            self.assertEqual(
                (self.one.registered(), self.one.reservation()), ([1], (1, 1))
            )
            self.assertEqual(self.told(), [[], [UNREGISTERED], [UNREGISTERED], []])
            self.one.out(RELEASE, 1, kind=1)

    def test_all_registrants_key(self) -> None:
        """Any other key removes registrations; the reservation stays with the rest."""
        self.one.out(RESERVE, 1, kind=7)
        self.assertEqual(self.one.out(PREEMPT, 1, 2, kind=1).status, 0)
        self.assertEqual((self.one.registered(), self.one.reservation()), ([1], (0, 7)))
        self.assertEqual(self.told(), [[], [UNREGISTERED], [UNREGISTERED], []])
        self.assertEqual(self.one.out(PREEMPT, 1, 1, kind=1).status, 0)
        self.assertEqual((self.one.registered(), self.one.reservation()), ([], None))
        self.assertEqual(self.told(), [[], [], [], []])

    def test_itself(self) -> None:
        """The holder may preempt itself: it stays registered, the type changes."""
        self.one.out(RESERVE, 1, kind=1)
        self.assertEqual(self.one.out(PREEMPT, 1, 1, kind=3).status, 0)
        self.assertEqual(
            (self.one.registered(), self.one.reservation()), ([1, 2, 2], (1, 3))
        )
        self.assertEqual(self.told(), [[], [RELEASED], [RELEASED], []])

    def test_its_own_key(self) -> None:
        """One's own key without a reservation removes one's own registration."""
        self.assertEqual(self.two.out(PREEMPT, 2, 2).status, 0)
        self.assertEqual(self.two.registered(), [1])
        self.assertEqual(self.told(), [[], [], [UNREGISTERED], []])

    def test_bad_type(self) -> None:
        """The type of the new reservation is checked, before anything happens."""
        self.two.out(RESERVE, 2, kind=3)
        self.refuse(self.one.out(PREEMPT, 1, 2, kind=4), FIELD)
        self.assertEqual(
            (self.one.registered(), self.one.reservation()), ([1, 2, 2], (2, 3))
        )


class AbortTests(SynchronousTestCase):
    """
    PREEMPT AND ABORT answers when the aborted tasks can no longer touch data.
    """

    def setUp(self) -> None:
        """Log in to a store that waits."""
        self.store = ManualStore()
        self.node, _target, (self.unit,) = serve(self.store)
        self.one = registrant(self.node, 1).register(1)
        self.two = registrant(self.node, 2).register(2)
        self.two.out(RESERVE, 2, kind=6)

    def preempt(self, action: int = ABORT) -> None:
        """Have the first preempt the second."""
        pdu = self.one.command(out_cdb(action, 3), write=24, data=parameters(1, 2))
        self.one.send(pdu)

    def write(self, who: Initiator, lba: int, data: bytes) -> None:
        """Start a write of one block."""
        who.send(who.command(write10(lba, 1), write=512, data=data))

    def test_waits(self) -> None:
        """The answer comes when the store has finished with what was aborted."""
        self.write(self.two, 0, b"s" * 512)
        self.write(self.two, 1, b"s" * 512)
        self.preempt()
        self.assertEqual(self.one.receive(), [])
        self.store.go()
        self.assertEqual(self.one.receive(), [])
        self.store.go()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.assertEqual(self.two.receive(), [])
        self.assertEqual(self.two.told(), [UNREGISTERED])

    def test_waits_for_the_lost(self) -> None:
        """A write of a session that is gone can still touch data: it is waited for."""
        self.write(self.two, 0, b"s" * 512)
        self.two.connection.disconnected()
        self.preempt()
        self.assertEqual(self.one.receive(), [])
        self.store.go()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.assertEqual(self.unit.departing, {})

    def test_lost_itself(self) -> None:
        """One that preempts itself, and is lost meanwhile, does not wait for itself."""
        kept: Deferred[None] = Deferred()
        self.patch(prout, "_keep", lambda *_what: kept)
        pdu = self.two.command(out_cdb(ABORT, 3), write=24, data=parameters(2, 2))
        self.two.send(pdu)
        self.two.connection.disconnected()
        self.assertEqual(len(self.unit.departing), 1)
        kept.callback(None)
        self.assertEqual(self.unit.departing, {})

    def test_never_started(self) -> None:
        """A write whose data is still on its way never reaches the store."""
        pdu = self.two.command(write10(0, 16), write=8192, data=bytes(512))
        self.two.send(pdu)
        r2t = self.two.receive()[0]
        self.preempt()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.two.send(*self.two.data_out(r2t, b"s" * 8192))
        self.assertEqual(self.store.calls, [])
        self.assertEqual(self.two.receive(), [])

    def test_own_tasks(self) -> None:
        """One's own tasks, and others', go on."""
        self.write(self.one, 0, b"o" * 512)
        self.preempt()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.store.go()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)

    def test_task_aborted_status(self) -> None:
        """With TAS=1 the aborted end with TASK ABORTED."""
        self.unit.task_aborted_status = True
        self.write(self.two, 0, b"s" * 512)
        self.preempt()
        self.store.go()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.assertEqual(self.two.one(SCSIResponse).status, 0x40)

    def test_preempt_alone(self) -> None:
        """PREEMPT does not wait: what has begun ends as if nothing had happened."""
        self.write(self.two, 0, b"s" * 512)
        self.preempt(PREEMPT)
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.store.go()
        self.assertEqual(self.two.one(SCSIResponse).status, 0)
        self.two.told()
        self.assertEqual(self.two.do(write10(0, 1), data=bytes(512)).status, CONFLICT)

    def test_all_registrants(self) -> None:
        """A key of 0 aborts the tasks of every registrant, its own among them."""
        self.two.out(RELEASE, 2, kind=6)
        self.one.told()
        self.one.out(RESERVE, 1, kind=8)
        self.write(self.one, 0, b"o" * 512)
        self.write(self.two, 1, b"s" * 512)
        pdu = self.one.command(out_cdb(ABORT, 3), write=24, data=parameters(1, 0))
        self.one.send(pdu)
        self.store.go()
        self.assertEqual(self.one.receive(), [])
        self.store.go()
        self.assertEqual(self.one.one(SCSIResponse).itt, pdu.itt)
        self.assertEqual(self.two.receive(), [])

    def test_two_at_a_time(self) -> None:
        """Two that preempt each other: one does, the other does not, neither hangs."""
        self.write(self.two, 0, b"s" * 512)
        self.preempt()
        self.assertEqual(self.two.out(ABORT, 2, 1, kind=3).status, CONFLICT)
        self.store.go()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)

    def test_removal(self) -> None:
        """It allows medium removal again that the preempted prevent."""
        for itl in self.unit.itls:
            itl.prevents_removal = True
        self.preempt()
        self.assertEqual(
            [itl.prevents_removal for itl in self.unit.itls], [True, False]
        )


class ClusterTests(SynchronousTestCase):
    """
    What cluster software does.
    """

    def test_fencing(self) -> None:
        """
        As fence_scsi does: all register, one reserves Write Exclusive Registrants Only;
        who is fenced keeps reading and cannot write, until it registers again.
        """
        node, _target, _units = serve(memory())
        nodes = [registrant(node, number).register(number) for number in (1, 2, 3)]
        nodes[0].out(RESERVE, 1, kind=5)
        for one in nodes:
            self.assertEqual(one.do(write10(0, 1), data=bytes(512)).status, 0)
        # The second fences the first, which holds the reservation.
        self.assertEqual(nodes[1].out(ABORT, 2, 1, kind=5).status, 0)
        self.assertEqual(nodes[1].reservation(), (2, 5))
        self.assertEqual(nodes[0].told(), [UNREGISTERED])
        self.assertEqual(nodes[0].do(write10(0, 1), data=bytes(512)).status, CONFLICT)
        self.assertEqual(nodes[0].do(read10(0, 1), read=512).status, 0)
        self.assertEqual(nodes[2].do(write10(0, 1), data=bytes(512)).status, 0)
        nodes[0].register(1)
        self.assertEqual(nodes[0].do(write10(0, 1), data=bytes(512)).status, 0)

    def test_arbitration(self) -> None:
        """
        As a Windows cluster does: the defender holds the disk with its key; a
        challenger registers, and if the holder does not renew preempts it.
        """
        node, _target, _units = serve(memory())
        defender = registrant(node, 1).register(0xA)
        challenger = registrant(node, 2)
        defender.out(RESERVE, 0xA, kind=5)
        challenger.register(0xB)
        self.assertEqual(challenger.out(RESERVE, 0xB, kind=5).status, CONFLICT)
        self.assertEqual(challenger.reservation(), (0xA, 5))
        # The defender renews: the challenger's registration is gone, and it knows.
        self.assertEqual(defender.out(PREEMPT, 0xA, 0xB, kind=5).status, 0)
        self.assertEqual(challenger.told(), [UNREGISTERED])
        self.assertEqual(challenger.out(ABORT, 0xB, 0xA, kind=5).status, CONFLICT)
        # It comes again; now nobody defends.
        challenger.register(0xB)
        self.assertEqual(challenger.out(ABORT, 0xB, 0xA, kind=5).status, 0)
        self.assertEqual(challenger.reservation(), (0xB, 5))
        self.assertEqual(defender.told(), [UNREGISTERED])
        self.assertEqual(defender.do(write10(0, 1), data=bytes(512)).status, CONFLICT)
