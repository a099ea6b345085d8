# SPDX-License-Identifier: MIT
"""
What is read and not yet sent is bounded: `scstd.protocols.engine.read_budget`.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.initiator.connection import on_the_wire
from scstd.protocols import backpressure
from scstd.protocols.engine import read_budget as module
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.engine.read_budget import PATIENCE, READ_BUDGET, small
from scstd.protocols.iscsi_server import ISCSITargetFactory
from scstd.protocols.wire.codes import TaskManagementCode as F
from scstd.protocols.wire.keys import LOCAL
from scstd.protocols.wire.pdu import (
    DataIn,
    LoginRequest,
    NOPIn,
    NOPOut,
    SCSICommand,
    SCSIResponse,
    TaskManagementResponse,
)
from scstd.protocols.wire.text import encode
from scstd.scsi.holds import Holds
from scstd.scsi.sam import TaskAttribute
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import ManualStore, memory

MIB = 2048
"""Blocks of a MiB."""


class BudgetTests(SynchronousTestCase):
    """
    A session at two stores that wait.
    """

    def setUp(self) -> None:
        """Log in, with a budget of four MiB."""
        self.patch(module, "READ_BUDGET", 4 << 20)
        self.stores = [ManualStore(size=4 << 20) for _lun in range(2)]
        local = {**LOCAL, "MaxConnections": 2}
        self.node, _target, self.units = serve(
            *self.stores, limits=TargetSettings(local=local)
        )
        self.one = Initiator(self.node).ready(
            MaxRecvDataSegmentLength="262144", MaxBurstLength="1048576"
        )
        (self.session,) = self.node.sessions()
        self.one.do(bytes(6), lun=1)
        self.reads = self.session.reads

    def ask(self, lba: int = 0, *, lun: int = 0, **fields: Any) -> SCSICommand:
        """Send a READ of one MiB."""
        pdu = self.one.command(read10(lba, MIB), read=1 << 20, lun=lun, **fields)
        self.one.send(pdu)
        return pdu

    def calls(self, lun: int = 0) -> int:
        """Return how many calls a store has not answered."""
        return len(self.stores[lun].calls)

    def ends(self) -> list[int]:
        """Return the tags of the commands whose answers have come whole."""
        return [
            pdu.itt
            for pdu in self.one.receive()
            if isinstance(pdu, SCSIResponse)
            or (isinstance(pdu, DataIn) and pdu.flags & 1)
        ]

    def test_bounded(self) -> None:
        """The store is asked for what the budget has room for, and for no more."""
        for lba in range(10):
            self.ask(lba)
        self.assertEqual(self.calls(), 4)
        self.assertEqual(len(self.reads.parked), 6)

    def test_in_order(self) -> None:
        """What waits goes on in order when answers are sent, until all are there."""
        asked = [self.ask(lba) for lba in range(10)]
        found: list[int] = []
        while len(found) < 10:
            self.assertTrue(0 < self.calls() <= 4)
            self.stores[0].go()
            found += self.ends()
        self.assertEqual(found, [pdu.itt for pdu in asked])
        self.assertFalse(self.reads.charged or self.reads.work or self.reads.parked)
        self.assertEqual(self.node.unsent.total, 0)

    def test_unsent_counts(self) -> None:
        """An answer counts until it is sent, though the store has done its work."""
        for lba in range(6):
            self.ask(lba)
        self.stores[0].go(4)
        self.assertEqual(self.calls(), 0)
        self.ends()
        self.assertEqual(self.calls(), 2)

    def test_longer_than_the_budget(self) -> None:
        """A read that is longer than the budget goes when it is alone."""
        self.patch(module, "READ_BUDGET", 1 << 19)
        self.ask()
        self.ask()
        self.assertEqual(self.calls(), 1)
        self.stores[0].go()
        self.ends()
        self.assertEqual(self.calls(), 1)

    def test_others_go_on(self) -> None:
        """Pings, writes and commands that read nothing do not wait."""
        for lba in range(6):
            self.ask(lba)
        self.one.send(self.one.ping())
        self.assertIs(type(self.one.one(NOPIn)), NOPIn)
        self.one.send(self.one.command(bytes(6)))
        self.assertEqual(self.one.one(SCSIResponse).status, 0)
        self.one.send(self.one.command(write10(0, 1), write=512, data=bytes(512)))
        self.assertEqual(self.calls(), 5)

    def test_abort(self) -> None:
        """A read that waits is aborted at once, though nothing moves."""
        for lba in range(4):
            self.ask(lba)
        last = self.ask(4)
        self.one.manage(F.ABORT_TASK, tag=last.itt, ref_cmd_sn=last.cmd_sn)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.assertFalse(self.reads.parked)
        self.assertNotIn(last.itt, self.session.tasks)

    def test_abort_of_all(self) -> None:
        """So are all of them; those at the store wait for it, as ever."""
        for lba in range(8):
            self.ask(lba)
        self.one.manage(F.ABORT_TASK_SET)
        self.assertEqual(len(self.session.tasks), 4)
        self.stores[0].go(4)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.assertFalse(self.reads.charged or self.reads.parked)

    def test_connection_goes(self) -> None:
        """Nothing is left when the connection has gone, and the store is done."""
        for lba in range(8):
            self.ask(lba)
        self.one.connection.disconnected()
        self.stores[0].go(4)
        self.assertEqual(self.calls(), 0)
        self.assertFalse(self.reads.charged or self.reads.parked)
        self.assertEqual(self.node.unsent.total, 0)

    def test_ordered(self) -> None:
        """ORDERED reads, each of which starts when the one before ends, are bounded."""
        for lba in range(8):
            self.ask(lba, attribute=TaskAttribute.ORDERED)
        for _turn in range(4):
            self.stores[0].go()
        self.assertEqual(self.calls(), 0)
        self.assertEqual(len(self.ends()), 4)
        self.assertEqual(self.calls(), 1)

    def test_head_of_queue(self) -> None:
        """HEAD OF QUEUE among them keeps nothing from going on."""
        kinds = (
            TaskAttribute.SIMPLE,
            TaskAttribute.HEAD_OF_QUEUE,
            TaskAttribute.ORDERED,
        )
        for number in range(12):
            self.ask(number, attribute=kinds[number % 3])
        found: list[int] = []
        for _turn in range(100):
            if self.calls():
                self.stores[0].go()
            found += self.ends()
        self.assertEqual(len(found), 12)

    def test_immediate(self) -> None:
        """Immediate commands are no way around it."""
        for lba in range(20):
            self.ask(lba, immediate=True)
        self.assertEqual(self.calls(), 4)

    def test_store_that_hangs(self) -> None:
        """A store that does not answer keeps its own reads waiting, and no others."""
        for lba in range(6):
            self.ask(lba)
        other = self.ask(lun=1)
        self.assertEqual(self.calls(1), 0)
        for now in range(3):
            self.node.tick(now)
        self.assertEqual((self.calls(0), self.calls(1)), (4, 1))
        self.assertEqual(self.node.unsent.total, 1 << 20)
        self.stores[1].go()
        self.assertEqual(self.ends(), [other.itt])
        # A further one does not wait, either.
        self.ask(lun=1)
        self.assertEqual((self.calls(0), self.calls(1)), (4, 1))
        # It answers again: its reads go on.
        self.stores[1].go()
        for _turn in range(6):
            self.stores[0].go()
            self.ends()
        self.assertEqual(self.node.unsent.total, 0)
        self.assertFalse(self.reads.work)

    def test_other_connection_goes(self) -> None:
        """Room that another connection of the session leaves behind is found."""
        self.one.logout()
        self.one = Initiator(self.node).ready(MaxConnections="2")
        (self.session,) = self.node.sessions()
        other = Initiator(self.node)
        other.cmd_sn = self.one.cmd_sn
        other.login(tsih=self.session.tsih, cid=1)
        other.connection.hold_back(4 << 20)
        self.ask()
        self.assertEqual(self.calls(), 0)
        other.connection.hold_back(0)
        other.connection.disconnected()
        self.node.tick(1.0)
        self.assertEqual(self.calls(), 1)

    def test_held(self) -> None:
        """A read that somebody holds when its turn comes is charged for later."""
        for lba in range(5):
            self.ask(lba)
        unit = self.units[0]
        holds = Holds()
        holds.hold(unit, "a")
        self.stores[0].go()
        self.ends()
        self.assertEqual(holds.waiting(unit), 1)
        self.assertEqual(len(self.reads.charged), 3)
        holds.release(unit, "a")
        self.assertEqual(self.calls(), 4)

    def test_small(self) -> None:
        """What is small depends on how many of them there may be."""
        self.assertEqual(small(32), 65536)
        self.assertEqual(small(256), 16384)
        self.assertEqual(small(2048), 4096)

    def test_inquiry(self) -> None:
        """A command that says it expects gigabytes is charged for what it can have."""
        self.ask()
        answer = self.one.do(b"\x12\0\0\0\xff\0", read=0xFFFFFFF0)
        self.assertEqual(answer.status, 0)


class NodeTests(SynchronousTestCase):
    """
    The budget of all sessions together.
    """

    def setUp(self) -> None:
        """Log in three times, with a budget of one MiB and a half."""
        self.patch(module, "NODE_BUDGET", 3 << 19)
        self.patch(module, "SPARED", 65536)
        self.store = ManualStore(size=4 << 20)
        self.node, _target, _units = serve(self.store, limits=TargetSettings())
        self.every = [
            Initiator(self.node, isid=b"\x80\0\0\0\0" + bytes((number,))).ready(
                MaxRecvDataSegmentLength="262144"
            )
            for number in range(3)
        ]

    def read(self, one: Initiator, blocks: int = MIB) -> SCSICommand:
        """Send a READ."""
        pdu = one.command(read10(0, blocks), read=blocks << 9)
        one.send(pdu)
        return pdu

    def test_shared(self) -> None:
        """What one session has the others have not; they go on when it is free."""
        first, second, third = self.every
        for one in self.every:
            self.read(one)
        self.assertEqual(len(self.store.calls), 1)
        self.store.go()
        first.receive()
        self.assertEqual(second.receive(), [])
        self.assertEqual(len(self.store.calls), 1)
        self.store.go()
        second.receive()
        self.assertEqual(third.receive(), [])
        self.store.go()
        third.receive()
        self.assertEqual(self.node.unsent.total, 0)
        self.assertFalse(self.node.unsent.waiting)

    def test_woken(self) -> None:
        """One that waits is woken when there is room."""
        woken: list[int] = []
        self.every[1].connection.wake = lambda: woken.append(1)
        self.read(self.every[0])
        self.read(self.every[1])
        self.assertEqual(woken, [])
        self.store.go()
        self.assertEqual(woken, [1])

    def test_a_little(self) -> None:
        """A session that has nothing reads a little, whatever the others hold."""
        self.every[0].connection.hold_back(3 << 19)
        done = self.read(self.every[1], 128)
        self.assertEqual(len(self.store.calls), 1)
        self.store.go()
        self.assertEqual(self.every[1].receive()[-1].itt, done.itt)

    def test_who_takes_nothing(self) -> None:
        """The connection that holds most and takes nothing goes, if others wait."""
        holders = [one.connection for one in self.every[:2]]
        for size, one in zip((3 << 19, 1 << 19), holders, strict=True):
            one.hold_back(size)
            one.blocked_since = 100.0
        self.node.tick(100.0 + PATIENCE + 1)
        self.assertEqual([one.over for one in holders], [False, False])
        self.read(self.every[2])
        self.node.tick(99.0 + PATIENCE)
        self.assertEqual([one.over for one in holders], [False, False])
        self.node.tick(101.0 + PATIENCE)
        self.assertEqual([one.over for one in holders], [True, False])

    def test_all_who_take_nothing(self) -> None:
        """As many go as it takes to have half of the budget free."""
        holders = [one.connection for one in self.every[:2]]
        for one in holders:
            one.hold_back(3 << 19)
            one.blocked_since = 100.0
        self.read(self.every[2])
        self.node.tick(101.0 + PATIENCE)
        self.assertEqual([one.over for one in holders], [True, True])

    def test_discovery_that_takes_nothing(self) -> None:
        """A discovery session that takes nothing goes as well."""
        deaf = Initiator(self.node, isid=b"\x80\0\0\0\0\x99")
        deaf.login(None)
        deaf.connection.hold_back(3 << 19)
        deaf.connection.blocked_since = 100.0
        self.read(self.every[2])
        self.node.tick(101.0 + PATIENCE)
        self.assertTrue(deaf.connection.over)

    def test_turns(self) -> None:
        """Who has something under way reads no more while another waits."""
        first, second, _third = self.every
        self.patch(module, "SPARED", 0)
        self.read(first)
        self.read(second)
        self.read(first, 256)
        self.assertEqual(len(self.store.calls), 1)
        self.store.go()
        self.assertEqual(second.receive(), [])
        self.assertEqual(len(self.store.calls), 1)
        first.receive()
        self.assertEqual(len(self.store.calls), 2)


class Deaf(StringTransport):
    """
    A transport that takes so many bytes, and then none until it is told to.
    """

    room = 0

    def registerProducer(  # noqa: N802 - Twisted's name
        self, producer: Any, streaming: bool
    ) -> None:
        """Ask as long as there is room."""
        # The state is that of reading, here.
        self.producer, self.streaming = producer, streaming
        self.go_on()

    def go_on(self, room: int = 0) -> None:
        """Take so many bytes more."""
        self.room += room
        while self.producer is not None and self.room > 0:
            before = self.io.tell()
            self.producer.resumeProducing()
            self.room -= self.io.tell() - before


class TransportTests(SynchronousTestCase):
    """
    A session on a transport that does not take its answers.
    """

    def setUp(self) -> None:
        """Log in."""
        self.patch(module, "READ_BUDGET", 1 << 20)
        self.node, _target, _units = serve(memory(size=4 << 20))
        self.clock = Clock()
        self.factory = ISCSITargetFactory(self.node, self.clock)
        self.transport = Deaf()
        self.protocol: Any = self.factory.buildProtocol(self.transport.getPeer())
        self.protocol.makeConnection(self.transport)
        self.transport.room = 1024
        names = [("InitiatorName", INITIATOR), ("TargetName", TARGET)]
        self.send(LoginRequest(flags=0x87, isid=b"\x80\0\0\0\0\1", data=encode(names)))
        (self.session,) = self.node.sessions()
        self.session.nexus.itls[0].attentions.clear()
        self.transport.room = 0

    def send(self, *pdus: Any) -> None:
        """Send PDUs."""
        data = b"".join(on_the_wire(pdu, False, False) for pdu in pdus)
        self.protocol.dataReceived(data)

    def read(self, blocks: int) -> SCSICommand:
        """Return an immediate READ."""
        self.tag = getattr(self, "tag", 0) + 1
        return SCSICommand(
            first=0x41,
            flags=0xC1,
            itt=self.tag,
            expected_data_transfer_length=blocks << 9,
            cdb=read10(0, blocks).ljust(16, b"\0"),
        )

    def test_bounded(self) -> None:
        """A peer that takes nothing has no more read for it than the budget."""
        self.send(*[self.read(512) for _number in range(60)])
        held = self.protocol._backlog_bytes
        self.assertTrue(3 << 18 < held < 1 << 20, held)
        self.assertEqual(self.node.unsent.total, held)
        self.assertTrue(self.session.reads.parked)

    def test_small_ones(self) -> None:
        """Small reads are no way around it."""
        for _number in range(60):
            self.send(self.read(64))
        held = self.protocol._backlog_bytes
        self.assertTrue(held < 5 << 18, held)
        self.assertTrue(self.session.reads.parked)

    def test_all_come(self) -> None:
        """When it takes them after all, all come."""
        self.transport.clear()
        self.send(*[self.read(512) for _number in range(20)])
        for _turn in range(10_000):
            self.transport.go_on(65536)
            self.clock.advance(0)
            if not self.session.tasks and not self.protocol._producing:
                break
        self.assertGreater(len(self.transport.value()), 20 * 512 * 512)
        self.assertEqual(self.node.unsent.total, 0)
        self.assertFalse(self.session.reads.tight)

    def test_worst(self) -> None:
        """When the node has all it may have a peer is read from no more much sooner."""
        self.patch(module, "NODE_BUDGET", 1 << 16)
        self.send(self.read(512))
        self.assertTrue(self.protocol.connection.paused)

    def test_turns(self) -> None:
        """Requests that came at once are answered in turns, all of them."""
        self.patch(backpressure, "_TURN", 100_000)
        self.transport.room = 1 << 30
        self.transport.clear()
        ping = NOPOut(first=0x40, itt=1, cmd_sn=0, data=b"p" * 8000)
        self.send(*[ping] * 100)
        some = len(self.transport.value())
        self.assertTrue(50_000 < some < 150_000, some)
        self.assertEqual(self.transport.producerState, "paused")
        self.clock.pump([0] * 10)
        self.assertEqual(len(self.transport.value()), 100 * 8048)

    def test_budget(self) -> None:
        """The figures of doc/operating.md."""
        self.assertEqual(small(32), 65536)
        self.assertEqual(READ_BUDGET, 16 << 20)
