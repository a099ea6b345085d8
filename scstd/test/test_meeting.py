# SPDX-License-Identifier: MIT
"""
What shows only when two parts meet: a change of one while the other is at work.
"""

from __future__ import annotations

import errno
import struct
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.initiator.reservations import ABORT, RESERVE, out_cdb, parameters
from scstd.protocols.engine.faults import BlackHole
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.wire.codes import FINAL
from scstd.protocols.wire.keys import LOCAL
from scstd.protocols.wire.pdu import R2T, DataOut, SCSIResponse, TaskManagementResponse
from scstd.scsi.alua import AccessState, TargetPortGroup
from scstd.scsi.sam import Status
from scstd.scsi.sense import ASC
from scstd.test.copying import CopyTests, list_1, naa, segment, xcopy
from scstd.test.initiator import TARGET, Initiator, serve
from scstd.test.reserving import registrant
from scstd.test.stores import ManualStore, MemoryDrive, memory
from scstd.test.test_alua import AccessTests, ask
from scstd.test.test_fencing import acknowledge

READY = bytes(6)
ORDERED = 2
OVERWRITE = bytes.fromhex("48 01 00 00 00 00 00 00 06 00")


def several() -> TargetSettings:
    """Return limits that let a session have several connections."""
    return TargetSettings(local={**LOCAL, "MaxConnections": 8})


def joined(one: Initiator) -> Initiator:
    """Return another connection of a session."""
    session = one.connection.session
    assert session is not None
    two = Initiator(one.connection.node, name=one.name, isid=one.isid)
    two.cmd_sn = one.cmd_sn
    two.login(tsih=session.tsih, cid=1)
    return two


class ResizeTests(SynchronousTestCase):
    """
    A unit that becomes smaller under commands.
    """

    def setUp(self) -> None:
        """Log in to a store that waits."""
        self.store = ManualStore(1 << 20)
        self.node, _target, (self.unit,) = serve(self.store)
        self.one = Initiator(self.node).ready()

    def shrink(self, blocks: int = 1024) -> None:
        """Make the store smaller."""
        self.store.size = blocks * 512
        self.unit.volume.resized()

    def fails(self, code: int = 0x2100) -> None:
        """The command has to end so, after the unit attention of another one."""
        (answer,) = self.one.receive()
        sense = bytes(answer.data)[2:]
        self.assertEqual((sense[2], int.from_bytes(sense[12:14], "big")), (5, code))

    def test_write_whose_data_is_on_its_way(self) -> None:
        """A write beyond the new end reaches no store, though it was in range."""
        pdu = self.one.command(write10(2000, 1), write=512)
        self.one.send(pdu)
        r2t = self.one.one(R2T)
        self.shrink()
        self.one.do(READY)
        self.one.send(
            DataOut(flags=FINAL, itt=pdu.itt, ttt=r2t.ttt, data=bytes(512), lun=0)
        )
        self.fails()
        self.assertEqual(self.store.calls, [])

    def test_queued(self) -> None:
        """A read that waits for an ORDERED one ends so too; one in range does not."""
        self.one.send(self.one.command(read10(0, 1), read=512, attribute=ORDERED))
        self.one.send(self.one.command(read10(1023, 2), read=1024))
        self.shrink()
        self.unit.itls.copy().popitem()[0].attentions.clear()
        self.store.go()
        first, second = self.one.receive()
        self.assertEqual(len(first.data), 512)
        self.assertEqual(bytes(second.data)[14:16], b"\x21\0")

    def test_under_way(self) -> None:
        """What the store has begun it ends as it can."""
        self.one.send(self.one.command(read10(2000, 1), read=512))
        self.shrink()
        self.store.go()
        (answer,) = self.one.receive()
        self.assertEqual(len(answer.data), 512)

    def test_sanitize(self) -> None:
        """A sanitize operation keeps to the size there is, and covers what was added."""
        for blocks in (1024, 4096):
            store = ManualStore(1 << 20)
            node, _target, (unit,) = serve(store)
            one = Initiator(node).ready()
            data = b"\x01\0\0\x04" + b"\xa5" * 4
            one.send(one.command(OVERWRITE[:8] + b"\x08\0", write=len(data), data=data))
            seen = 0
            store.inner = memory(2 << 20)
            while store.calls:
                if not seen:
                    store.size = blocks * 512
                    unit.volume.resized()
                seen += store.calls[0][0] == "write"
                store.go()
            self.assertEqual(one.one(SCSIResponse).status, 0)
            # The first piece had begun: it is no longer than 1 MiB.
            whole = bytes(store.inner.read(0, 2 << 20))
            self.assertEqual(whole.count(0xA5) >= blocks * 512, True)
            self.assertEqual(whole.rstrip(b"\0").count(0), 0)


class AccessMeetsTests(AccessTests):
    """
    Changes of access states that meet others, and queues.
    """

    def test_overtaken_by_one_that_fails(self) -> None:
        """After a failure the state is the last that was there, not transitioning."""
        waits: Deferred[None] = Deferred()
        self.devices.carry_out = lambda _group, _state: waits
        first = self.devices.set_state(self.near, AccessState.STANDBY)

        def fail(_group: TargetPortGroup, _state: AccessState) -> None:
            raise OSError(errno.EIO, "the script failed")

        self.devices.carry_out = fail
        second = self.devices.set_state(self.near, AccessState.UNAVAILABLE)
        self.failureResultOf(second, OSError)
        waits.callback(None)
        self.successResultOf(first)
        self.assertEqual(self.near.state, AccessState.ACTIVE)
        self.assertEqual(self.one.do(READY).status, 0)

    def test_ordered_tasks_in_the_queue(self) -> None:
        """Queued ORDERED tasks are refused in their turn, and hold nothing up."""
        pdus = [
            self.one.command(read10(n, 1), read=512, attribute=ORDERED)
            for n in range(3)
        ]
        self.one.send(*pdus)
        changed = self.devices.set_state(self.near, AccessState.STANDBY)
        self.assertFalse(changed.called)
        self.store.go()
        self.successResultOf(changed)
        first, *others = self.one.receive()
        self.assertEqual(len(first.data), 512)
        codes = [bytes(one.data)[14:16] for one in others]
        # That the state has changed, and what it is.
        self.assertEqual(codes, [b"\x2a\x06", b"\x04\x0b"])
        self.assertEqual(self.store.calls, [])
        self.assertFalse(self.unit.tasks())

    def test_two_requests_at_once(self) -> None:
        """Two paths that ask for the same group's change do not wait for each other."""
        self.two.send(self.two.command(read10(0, 1), read=512))
        data = bytes(4) + struct.pack(">BxH", 2, 257)
        for who in (self.one, self.two):
            who.send(who.command(ask(8), write=8, data=data))
        self.store.go()
        self.assertEqual(len(self.one.receive()), 1)
        self.assertEqual(len(self.two.receive()), 2)
        self.assertEqual(self.far.state, AccessState.STANDBY)


class MediumTests(SynchronousTestCase):
    """
    A medium that is changed under commands.
    """

    def test_atomic_write_that_fails_on_another_medium(self) -> None:
        """What was there before is not put back on the medium that came instead."""

        class Slow(MemoryDrive):
            """A drive whose writes wait, and fail if the medium has changed."""

            waiting: tuple[Deferred[None], int, Any] | None = None

            def write(self, offset: int, data: Any, fua: bool) -> Any:
                """Write, later the first time."""
                if self.waiting is not None:
                    return super().write(offset, data, fua)
                self.waiting = Deferred(), offset, bytes(data)
                return self.waiting[0]

        drive = Slow({"one": b"1" * 65536, "two": b"2" * 65536}, "one", 512)
        node, _target, (unit,) = serve(drive)
        one = Initiator(node).ready()
        cdb = struct.pack(">BBQHHxx", 0x9C, 0, 0, 0, 2)
        one.send(one.command(cdb, write=1024, data=b"w" * 1024))
        assert drive.waiting is not None
        drive.change("two")
        drive.waiting[0].errback(OSError(errno.EIO, "the medium has changed"))
        (answer,) = one.receive()
        self.assertEqual(answer.status, Status.CHECK_CONDITION)
        self.assertEqual(drive.media["two"], b"2" * 65536)
        self.assertFalse(unit.tasks())


class NexusResetTests(SynchronousTestCase):
    """
    I_T NEXUS RESET: what a nexus loss does.
    """

    def setUp(self) -> None:
        """Log in at protocol level 2."""
        self.store = ManualStore()
        self.node, self.target, (self.unit,) = serve(self.store, removable=True)
        self.one = Initiator(self.node).ready(iSCSIProtocolLevel="2")
        (self.itl,) = self.unit.itls

    def test_prevents_removal(self) -> None:
        """It allows removal again, however it was prevented."""
        self.assertEqual(self.one.do(bytes.fromhex("1e0000000100")).status, 0)
        self.assertTrue(self.itl.prevents_removal)
        self.itl.prevents_persistently = True
        self.one.manage(11)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.assertFalse(self.itl.prevents_removal)
        self.assertFalse(self.itl.prevents_persistently)

    def test_lun_that_is_leaving(self) -> None:
        """Tasks at a LUN that was taken away are aborted too, and waited for."""
        self.one.send(self.one.command(write10(0, 1), write=512, data=b"x" * 512))
        self.target.remove_lun(0)
        self.one.manage(11)
        self.assertEqual(self.one.receive(), [])
        self.store.go()
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.assertFalse(self.unit.itls)

    def test_results_of_copies(self) -> None:
        """The results of its copies are forgotten (SPC-5, held data)."""
        self.itl.copies[7] = None  # type: ignore[assignment]
        self.one.manage(11)
        self.assertEqual(self.itl.copies, {})


class ConnectionsTests(SynchronousTestCase):
    """
    Several connections a session, and what others do.
    """

    def test_preempted_while_data_is_collected(self) -> None:
        """
        PREEMPT AND ABORT ends a write that waits for its data on another connection;
        the data is dropped, and both go on.
        """
        store = memory()
        node, _target, (unit,) = serve(store, limits=several())
        one = registrant(node, 1).register(1)
        two = registrant(node, 2).register(2)
        two.out(RESERVE, 2, kind=6)
        pdu = two.command(write10(0, 1), write=512)
        two.send(pdu)
        r2t = two.one(R2T)
        one.send(one.command(out_cdb(ABORT, 3), write=24, data=parameters(1, 2)))
        self.assertEqual(one.one(SCSIResponse).status, 0)
        two.send(DataOut(flags=FINAL, itt=pdu.itt, ttt=r2t.ttt, data=b"x" * 512, lun=0))
        self.assertEqual(two.receive(), [])
        self.assertEqual(bytes(store.read(0, 512)), bytes(512))
        self.assertEqual(two.do(READY).status, Status.CHECK_CONDITION)
        self.assertEqual(two.do(READY).status, 0)
        self.assertFalse(unit.tasks())

    def test_reset_on_the_other_connection(self) -> None:
        """A reset on one connection ends a write that collects data on the other."""
        node, _target, (unit,) = serve(memory(), limits=several())
        one = Initiator(node).ready(MaxConnections="2")
        two = joined(one)
        pdu = two.command(write10(0, 1), write=512)
        two.send(pdu)
        r2t = two.one(R2T)
        one.cmd_sn = two.cmd_sn
        one.manage(5)
        for who in (one, two, one):
            # Its response is fenced.
            found = who.receive()
            acknowledge(who)
        self.assertEqual([pdu.first for pdu in found], [0x22, 0x20])
        self.assertEqual(found[0].response, 0)
        two.send(DataOut(flags=FINAL, itt=pdu.itt, ttt=r2t.ttt, data=b"x" * 512, lun=0))
        self.assertEqual(two.receive(), [])
        two.cmd_sn = one.cmd_sn
        self.assertEqual(two.do(READY).asc, ASC.BUS_DEVICE_RESET_FUNCTION_OCCURRED)
        self.assertFalse(unit.tasks())


class BlackHoleTests(SynchronousTestCase):
    """
    A black hole, and those who want to get out.
    """

    def setUp(self) -> None:
        """Log in to a black hole."""
        self.limits = TargetSettings()
        self.node, _target, (self.unit,) = serve(memory(), limits=self.limits)
        self.one = Initiator(self.node).ready()
        self.hole(BlackHole.COMMANDS)

    def hole(self, kind: BlackHole) -> None:
        """Open or close it."""
        self.limits.faults.black_hole = kind
        self.node.targets[TARGET].settings_changed()

    def test_abort(self) -> None:
        """An abort of what is in it is answered; so are a reset and a logout."""
        pdu = self.one.command(write10(0, 8), write=4096, final=False)
        self.one.send(pdu)
        self.one.manage(1, tag=pdu.itt, ref_cmd_sn=pdu.cmd_sn)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 1)
        self.one.manage(5)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.hole(BlackHole.NOTHING)
        self.assertEqual(self.one.do(READY).asc, 0x2903)
        self.assertEqual(self.one.do(READY).status, 0)

    def test_window(self) -> None:
        """What fell in does not fill the window, however much it was."""
        for _command in range(200):
            self.one.send(self.one.command(read10(0, 1), read=512))
        self.assertEqual(self.one.receive(), [])
        self.hole(BlackHole.NOTHING)
        self.assertEqual(self.one.do(READY).status, 0)


class LeavingTests(CopyTests):
    """
    LUNs that are taken away while long work goes on.
    """

    def test_copy(self) -> None:
        """A LUN whose removal waits for a copy to it: the copy ends, then it is gone."""
        slow = ManualStore(4 << 20)
        self.connect(memory(4 << 20), slow)
        data = list_1([naa(unit) for unit in self.units], [segment(4096)])
        self.one.send(self.one.command(xcopy(data), write=len(data), data=data))
        removed = self.target.remove_lun(1)
        # One piece ends at a time, and between two of them there may be none.
        while slow.calls:
            self.assertNoResult(removed)
            slow.go()
        self.successResultOf(removed)
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.assertFalse(self.units[1].itls)
        self.assertFalse(self.units[1].tasks())

    def test_sanitize(self) -> None:
        """A LUN that is sanitized goes when the command is over; the work is done."""
        slow = ManualStore(1 << 20)
        self.connect(memory(), slow)
        data = b"\x01\0\0\x04" + b"\xa5" * 4
        cdb = OVERWRITE[:8] + b"\x08\0"
        self.one.send(self.one.command(cdb, write=len(data), data=data, lun=1))
        removed = self.target.remove_lun(1)
        self.assertNoResult(removed)
        while slow.calls:
            slow.go()
        self.successResultOf(removed)
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.assertIsNone(self.units[1].background)
        self.assertEqual(bytes(slow.inner.read(0, 4)), b"\xa5" * 4)

    def test_sanitize_aborted_by_removal_of_its_session(self) -> None:
        """A session that ends leaves the sanitize at work, with nobody to wait."""
        slow = ManualStore(1 << 20)
        self.connect(slow)
        data = b"\x01\0\0\x04" + b"\xa5" * 4
        cdb = OVERWRITE[:8] + b"\x08\0"
        self.one.send(self.one.command(cdb, write=len(data), data=data))
        self.one.connection.disconnected()
        self.assertFalse(self.units[0].tasks())
        self.assertIsNotNone(self.units[0].background)
        while slow.calls:
            slow.go()
        self.assertIsNone(self.units[0].background)
        self.assertEqual(bytes(slow.inner.read(0, 4)), b"\xa5" * 4)
