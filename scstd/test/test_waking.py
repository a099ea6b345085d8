# SPDX-License-Identifier: MIT
"""
What a connection has to say in another turn than that in which bytes came: its transport
is woken for it (`Connection.wake`), as `scstd.test.pairing` sees.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.protocols.engine import read_budget, writes
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.wire.codes import TaskManagementCode
from scstd.protocols.wire.keys import LOCAL
from scstd.protocols.wire.pdu import R2T, LoginResponse, NOPIn, TaskManagementResponse
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import ManualStore, memory

ISID = b"\x80\0\0\0\0\2"
NAMES = (("InitiatorName", INITIATOR), ("TargetName", TARGET))


class LoginTests(SynchronousTestCase):
    """
    A login that waits for the files of hosts.
    """

    def setUp(self) -> None:
        """Serve a disk; the files are looked at later."""
        self.node, _target, _units = serve(memory())
        self.looks: list[Callable[[], None]] = []
        self.node.look = self.looks.append
        self.one = Initiator(self.node)

    def ask(self, target: str = TARGET, flags: int = 0x87) -> LoginResponse:
        """Send the first request; return what comes when the files were looked at."""
        names = (NAMES[0], ("TargetName", target))
        self.one.send(self.one.login_request(names, flags=flags))
        self.assertEqual(self.one.receive(), [])
        (ready,) = self.looks
        ready()
        answer: LoginResponse = self.one.one(LoginResponse)
        return answer

    def test_goes_on(self) -> None:
        """The answer to a first request of several is sent."""
        answer = self.ask(flags=0x81)
        self.assertEqual((answer.status_class, answer.flags), (0, 0x81))

    def test_done(self) -> None:
        """So is one that ends the login."""
        answer = self.ask()
        self.assertEqual((answer.status_class, answer.flags), (0, 0x87))

    def test_refused(self) -> None:
        """So is a refusal, and the connection closes."""
        self.assertEqual(self.ask(f"{TARGET}:none").status_class, 2)
        self.assertTrue(self.one.connection.over)


class SessionTests(SynchronousTestCase):
    """
    What one connection, or the store, has another say.
    """

    def setUp(self) -> None:
        """Have a session of two connections."""
        self.store = ManualStore()
        local = {**LOCAL, "MaxConnections": 2}
        self.node, _target, _units = serve(
            self.store, limits=TargetSettings(local=local)
        )
        keys = {"MaxConnections": "2", "ImmediateData": "No"}
        self.one = Initiator(self.node).ready(**keys)
        (session,) = self.node.sessions()
        self.other = Initiator(self.node)
        self.other.cmd_sn = self.one.cmd_sn
        answer = self.other.login(tsih=session.tsih, cid=1)
        self.assertEqual(answer.status_class, 0)

    def test_ping_in_its_turn(self) -> None:
        """A numbered ping that came too early is answered when its turn comes."""
        ping = self.other.ping()
        ping.first = 0
        ping.cmd_sn = self.one.cmd_sn + 1
        self.other.send(ping)
        self.assertEqual(self.other.receive(), [])
        self.one.send(self.one.command(bytes(6)))
        self.assertEqual(self.other.one(NOPIn).itt, ping.itt)

    def test_write_in_its_turn(self) -> None:
        """The data of a write that came too early is asked for when its turn comes."""
        write = self.other.command(write10(0, 1), write=512)
        write.cmd_sn = self.one.cmd_sn + 1
        self.other.send(write)
        self.assertEqual(self.other.receive(), [])
        self.one.send(self.one.command(bytes(6)))
        self.assertEqual(self.other.one(R2T).itt, write.itt)

    def test_write_that_waits_for_room(self) -> None:
        """The data of a write is asked for when one of another connection is over."""
        self.patch(writes, "WRITE_BUDGET", 512)
        first = self.one.command(write10(0, 1), write=512)
        self.one.send(first)
        second = self.other.command(write10(1, 1), write=512)
        second.cmd_sn = self.one.cmd_sn
        self.other.send(second)
        self.assertEqual(self.other.receive(), [])
        self.one.send(*self.one.data_out(self.one.one(R2T), bytes(512)))
        self.assertEqual(self.other.receive(), [])
        self.store.go()
        self.assertEqual(self.other.one(R2T).itt, second.itt)

    def test_ping_of_ours(self) -> None:
        """A ping goes out when the initiator has been silent."""
        self.one.connection.tick(31.0)
        self.assertEqual(self.one.one(NOPIn).ttt, 1)

    def test_silence(self) -> None:
        """The end of a connection that does not answer it is told, too."""
        self.one.connection.tick(31.0)
        self.one.receive()
        self.one.connection.tick(62.0)
        self.assertTrue(self.one.connection.over)
        self.assertEqual(self.one.receive(), [])


class RoomTests(SynchronousTestCase):
    """
    Commands that wait for room, where no answer says that there is some.
    """

    def test_write_reset_by_another(self) -> None:
        """Another session ends the write that took the room; the next is asked for."""
        self.patch(writes, "WRITE_BUDGET", 512)
        store = ManualStore()
        node, _target, _units = serve(store, memory())
        one = Initiator(node).ready(ImmediateData="No")
        other = Initiator(node, isid=ISID).ready()
        one.send(one.command(write10(0, 1), write=512))
        one.send(*one.data_out(one.one(R2T), bytes(512)))
        waiting = one.command(write10(0, 1), write=512, lun=1)
        one.send(waiting)
        other.manage(TaskManagementCode.LOGICAL_UNIT_RESET)
        self.assertEqual(one.receive(), [])
        store.go()
        self.assertEqual(one.one(R2T).itt, waiting.itt)

    def test_reset_by_another(self) -> None:
        """Another session ends the reads that took the room, and no answer says so."""
        self.patch(read_budget, "READ_BUDGET", 1 << 20)
        stores = [ManualStore(size=2 << 20) for _lun in range(2)]
        node, _target, _units = serve(*stores)
        one = Initiator(node).ready()
        other = Initiator(node, isid=ISID).ready()
        one.send(one.command(read10(0, 2048), read=1 << 20))
        one.send(one.command(read10(0, 2048), read=1 << 20, lun=1))
        other.manage(TaskManagementCode.LOGICAL_UNIT_RESET)
        self.assertEqual(one.receive(), [])
        self.assertEqual([len(store.calls) for store in stores], [1, 0])
        stores[0].go()
        self.assertEqual(other.one(TaskManagementResponse).response, 0)
        self.assertEqual(one.receive(), [])
        self.assertEqual([len(store.calls) for store in stores], [0, 1])

    def test_turn(self) -> None:
        """Who has had its turn has the next look for what room there still is."""
        self.patch(read_budget, "NODE_BUDGET", 3 << 19)
        self.patch(read_budget, "SPARED", 65536)
        store = ManualStore(size=2 << 20)
        node, _target, _units = serve(store)
        every = [
            Initiator(node, isid=ISID[:5] + bytes((number,))).ready()
            for number in range(3)
        ]
        for one, blocks in zip(every, (2048, 1536, 1536), strict=True):
            one.send(one.command(read10(0, blocks), read=blocks << 9))
        self.assertEqual(len(store.calls), 1)
        store.go()
        for one in every:
            one.receive()
        self.assertEqual(len(store.calls), 2)
