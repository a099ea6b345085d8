# SPDX-License-Identifier: MIT
"""
Tests for persistent reservations over a loss of power (APTPL): what is kept, when a
command is answered, and a server that is killed again and again.
"""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.block.persistence import Persistence, Volatile
from scstd.initiator.commands import read10
from scstd.initiator.reservations import (
    ABORT,
    APTPL,
    CLEAR,
    CONFLICT,
    IGNORE,
    PARAMETER,
    PREEMPT,
    REGISTER,
    RELEASE,
    RESERVE,
    in_cdb,
    out_cdb,
    parameters,
)
from scstd.interfaces import Result
from scstd.protocols.engine.node import Node, TargetSettings
from scstd.protocols.wire.pdu import SCSIResponse
from scstd.scsi.device import open_disk
from scstd.scsi.persistent import ReservationState
from scstd.scsi.target import Target
from scstd.scsi.unit import LogicalUnit
from scstd.test import killing
from scstd.test.initiator import TARGET
from scstd.test.reserving import Registrant, identifier, registrant
from scstd.test.stores import memory


def switched_on(kept: Persistence) -> tuple[Node, LogicalUnit]:
    """
    Return a node with a disk that has been opened with what its memory has.
    """
    node, target = Node(), Target(TARGET)
    unit = open_disk("disk", memory(), memory=kept)
    target.add_lun(0, unit)
    node.add_target(target, TargetSettings(queued_commands=2048))
    return node, unit


@attrs.define(eq=False)
class SlowMemory:
    """
    A memory that writes when it is told to; `values` is what is on the disk.
    """

    values: dict[str, Any] = attrs.field(factory=dict)
    durable: bool = True
    waiting: list[tuple[str, Any, Deferred[None]]] = attrs.field(factory=list)

    def load(self) -> dict[str, Any]:
        """Return what there is."""
        return dict(self.values)

    def update(self, key: str, value: Any) -> Result[None]:
        """Replace one entry, later."""
        if key != "persistent":
            self.values[key] = value
            return None
        written: Deferred[None] = Deferred()
        self.waiting.append((key, json.loads(json.dumps(value)), written))
        return written

    def insist(self, key: str, value: Any) -> Result[None]:
        """Keep no facts: nobody has one here."""
        raise NotImplementedError

    def keep(self, record: bytes) -> Result[None]:
        """Keep no record: nobody has one here."""
        raise NotImplementedError

    def clear(self) -> Result[None]:
        """Keep no record."""
        raise NotImplementedError

    def clear_in_time(self) -> Result[None]:
        """Keep no record."""
        raise NotImplementedError

    def hurry(self) -> None:
        """Keep no record."""

    def kept(self) -> bytes:
        """Return no record."""
        return b""

    def go(self) -> None:
        """Let the oldest write happen."""
        key, value, written = self.waiting.pop(0)
        self.values[key] = value
        written.callback(None)

    def fail(self) -> None:
        """Let the oldest write fail."""
        self.waiting.pop(0)[2].errback(OSError(errno.ENOSPC, "full"))


class RestartTests(SynchronousTestCase):
    """
    What is there after the power was off.
    """

    def setUp(self) -> None:
        """Log in three initiators."""
        self.kept = Volatile(durable=True)
        node, _unit = switched_on(self.kept)
        self.one, self.two, self.guest = (registrant(node, n) for n in (1, 2, 3))

    def again(self) -> tuple[Registrant, Registrant, Registrant]:
        """Switch off and on; return the initiators, logged in again."""
        values = json.loads(json.dumps(self.kept.values))
        node, _unit = switched_on(Volatile(values, durable=True))
        one, two, guest = (registrant(node, number) for number in (1, 2, 3))
        return one, two, guest

    def test_kept(self) -> None:
        """With APTPL registrations and the reservation are there, and act."""
        for kind in (1, 3, 5, 6, 7, 8):
            self.one.register(1, flags=APTPL)
            self.two.register(2, flags=APTPL)
            self.one.out(RESERVE, 1, kind=kind)
            one, _two, guest = self.again()
            self.assertEqual(guest.registered(), [1, 2])
            self.assertEqual(guest.full(), self.guest.full())
            self.assertEqual(guest.reservation(), (1 if kind < 7 else 0, kind))
            status = CONFLICT if kind in {3, 6, 8} else 0
            self.assertEqual(guest.do(read10(0, 1), read=512).status, status)
            self.assertEqual(one.do(read10(0, 1), read=512).status, 0)
            self.one.out(CLEAR, 1)
            self.two.told()

    def test_generation(self) -> None:
        """PRgeneration begins at 0 again."""
        self.one.register(1, flags=APTPL)
        self.assertEqual(self.again()[0].generation(), 0)

    def test_not_kept(self) -> None:
        """Without APTPL nothing is."""
        self.one.register(1)
        self.one.out(RESERVE, 1, kind=1)
        one, _two, _guest = self.again()
        self.assertEqual((one.registered(), one.reservation()), ([], None))

    def test_last_one_counts(self) -> None:
        """The last REGISTER says whether all of it is kept."""
        self.one.register(1, flags=APTPL)
        self.one.out(RESERVE, 1, kind=1)
        self.two.register(2)
        self.assertEqual(self.again()[0].registered(), [])
        self.two.register(2, flags=APTPL)
        self.assertEqual(self.again()[0].registered(), [1, 2])

    def test_each_action(self) -> None:
        """After each service action that is what is kept."""
        one, two = self.one, self.two
        for action in (
            lambda: one.out(REGISTER, 0, 1, flags=APTPL),
            lambda: two.out(IGNORE, 0, 2, flags=APTPL),
            lambda: one.out(RESERVE, 1, kind=6),
            lambda: one.out(RELEASE, 1, kind=6),
            lambda: two.out(RESERVE, 2, kind=5),
            lambda: two.move(2, 3, identifier(3), flags=APTPL),
            lambda: two.out(PREEMPT, 2, 3, kind=7),
            lambda: one.out(ABORT, 1, 2),
            lambda: one.out(CLEAR, 1),
        ):
            one.told()
            two.told()
            self.assertEqual(action().status, 0)
            self.guest.told()
            self.assertEqual(self.again()[2].full(), self.guest.full())

    def test_no_memory(self) -> None:
        """A unit that can keep nothing says so, and refuses APTPL."""
        node, unit = switched_on(Volatile())
        one = registrant(node).register(1)
        self.assertEqual(one.do(in_cdb(2), read=8).data[2] & 1, 0)
        done = one.out(REGISTER, 1, 2, flags=APTPL)
        self.assertEqual((done.status, done.asc), (2, PARAMETER))
        one.out(RESERVE, 1, kind=1)
        done = one.move(1, 3, identifier(3), flags=APTPL)
        self.assertEqual((done.status, done.asc), (2, PARAMETER))
        self.assertEqual(one.reservation(), (1, 1))
        # What ignores the bit ignores it.
        self.assertEqual(one.out(RELEASE, 1, kind=1, flags=APTPL).status, 0)
        self.assertFalse(unit.reservation.persistent.aptpl)

    def test_nonsense(self) -> None:
        """A unit whose reservations were mutilated is not opened: it would let in."""
        self.one.register(1, flags=APTPL)
        self.one.out(RESERVE, 1, kind=1)
        good = self.kept.values["persistent"]
        ReservationState.restored(good)
        for name, value in (
            ("registrations", []),
            ("registrations", [{"initiator_port": "a", "target": "b", "key": "x"}]),
            ("registrations", None),
            ("type", 2),
            ("type", 8),
            ("type", None),
            ("holder", None),
            ("holder", ["a", "b"]),
            ("holder", "a"),
        ):
            self.assertRaises(
                ValueError, ReservationState.restored, {**good, name: value}
            )
        kept: Any
        for kept in ({}, [], "x", 5):
            values = {"uuid": self.kept.values["uuid"], "persistent": kept}
            self.assertRaises(ValueError, switched_on, Volatile(values))


class DurableTests(SynchronousTestCase):
    """
    GOOD comes when the change is on the disk, and nobody sees it before.
    """

    def setUp(self) -> None:
        """Register the first, durably."""
        self.kept = SlowMemory()
        self.node, self.unit = switched_on(self.kept)
        self.one, self.two, self.guest = (registrant(self.node, n) for n in (1, 2, 3))
        self.start(self.one, IGNORE, 0, 1)
        self.kept.go()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)

    def start(
        self, who: Registrant, action: int, key: int, action_key: int, kind: int = 0
    ) -> None:
        """Begin a PERSISTENT RESERVE OUT."""
        data = parameters(key, action_key, APTPL)
        who.send(who.command(out_cdb(action, kind), write=24, data=data))

    def test_answered_when_durable(self) -> None:
        """Until it is written the state is the one before, for everybody."""
        self.start(self.two, REGISTER, 0, 2)
        self.assertEqual(self.two.receive(), [])
        self.assertEqual(self.guest.registered(), [1])
        self.kept.go()
        self.assertEqual(self.two.one(SCSIResponse).status, 0)
        self.assertEqual(self.guest.registered(), [1, 2])

    def test_one_after_the_other(self) -> None:
        """A second change waits, and finds the state after the first."""
        self.start(self.one, RESERVE, 1, 0, kind=3)
        self.start(self.two, REGISTER, 0, 2)
        self.start(self.one, RELEASE, 1, 0, kind=3)
        for length in (1, 2):
            self.assertEqual(len(self.kept.waiting), 1)
            self.kept.go()
            self.assertEqual(
                len(self.kept.values["persistent"]["registrations"]), length
            )
        self.kept.go()
        self.assertEqual([pdu.status for pdu in self.one.receive()], [0, 0])
        self.assertEqual(self.two.one(SCSIResponse).status, 0)
        self.assertIsNone(self.guest.reservation())

    def test_not_written(self) -> None:
        """What cannot be kept does not happen, and the unit is not stuck."""
        self.start(self.two, REGISTER, 0, 2)
        self.kept.fail()
        done = self.two.one(SCSIResponse)
        self.assertEqual((done.status, bytes(done.data)[4] & 15), (2, 4))
        self.assertEqual(self.guest.registered(), [1])
        kept = self.kept.values["persistent"]["registrations"]
        self.assertEqual([one["key"] for one in kept], ["0x0000000000000001"])
        # ... and the next one can.
        self.start(self.two, REGISTER, 0, 2)
        self.kept.go()
        self.assertEqual(self.two.one(SCSIResponse).status, 0)

    def test_nothing_to_write(self) -> None:
        """What changes nothing that is kept is not written again."""
        self.start(self.one, REGISTER, 1, 1)
        self.assertEqual(self.kept.waiting, [])
        self.assertEqual(self.one.one(SCSIResponse).status, 0)

    def test_very_many_wait(self) -> None:
        """Two thousand that wait for one do not exhaust the stack."""
        self.start(self.one, RESERVE, 1, 0, kind=1)
        for _number in range(2000):
            self.start(self.one, RELEASE, 1, 0, kind=3)
        self.kept.go()
        statuses = [pdu.status for pdu in self.one.receive()]
        self.assertEqual((statuses.count(0), statuses.count(2)), (1, 2000))
        self.assertEqual(self.one.reservation(), (1, 1))

    def test_reserve_6_meanwhile(self) -> None:
        """RESERVE(6) does not slip in while the first registration is written."""
        self.start(self.one, REGISTER, 1, 0)
        self.kept.go()
        self.one.receive()
        self.start(self.one, REGISTER, 0, 1)
        for who in (self.one, self.two):
            self.assertEqual(who.do(b"\x16" + bytes(5)).status, CONFLICT)
        self.kept.go()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)

    def test_aborted_while_it_waits(self) -> None:
        """A change that is aborted before its turn never happens."""
        self.start(self.one, RESERVE, 1, 0, kind=1)
        self.start(self.two, REGISTER, 0, 2)
        self.two.manage(2)
        self.assertEqual(self.two.receive(), [])
        self.kept.go()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.assertEqual(len(self.two.receive()), 1)  # the task management response
        self.assertEqual((self.kept.waiting, self.guest.registered()), ([], [1]))

    def test_aborted_while_it_is_written(self) -> None:
        """One that is aborted while it is written ends before that is answered."""
        self.start(self.two, REGISTER, 0, 2)
        self.two.manage(2)
        self.assertEqual(self.two.receive(), [])
        self.kept.go()
        self.assertEqual(len(self.two.receive()), 1)
        self.assertEqual(self.guest.registered(), [1, 2])

    def test_preempted_while_it_waits(self) -> None:
        """A change of one who is preempted and aborted meanwhile does not happen."""
        self.start(self.two, REGISTER, 0, 2)
        self.kept.go()
        self.two.receive()
        self.start(self.one, ABORT, 1, 2)
        self.start(self.two, IGNORE, 0, 22)
        self.kept.go()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.assertEqual((self.two.receive(), self.kept.waiting), ([], []))
        self.assertEqual(self.guest.registered(), [1])


class KillTests(TestCase):
    """
    A server that is killed at random moments.
    """

    timeout = 300

    def test_killed(self) -> None:
        """
        After each kill -9 there is the state before the last change, or the one after
        it, never a third.
        """
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        found = killing.run(str(directory), kills=12, seed=None)
        self.assertEqual(found.wrong, [], found.seed)
        self.assertGreaterEqual(found.changes, 12)
