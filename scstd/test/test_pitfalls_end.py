# SPDX-License-Identifier: MIT
"""
Bugs that other targets had, at the end of things: logouts, lost connections, and tasks
that go.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.protocols.wire.codes import FINAL
from scstd.protocols.wire.pdu import (
    DataIn,
    LogoutRequest,
    LogoutResponse,
    NOPIn,
    SCSICommand,
    TaskManagementResponse,
)
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import ManualStore
from scstd.test.test_pitfalls import PATTERN


class EndPitfallTests(SynchronousTestCase):
    """
    Task management, logouts, connections that go.
    """

    def setUp(self) -> None:
        """Log in to a store that waits."""
        self.store = ManualStore()
        self.node, _target, (self.unit,) = serve(self.store)
        self.one = Initiator(self.node).ready()

    def start(self, write: bytes = b"") -> SCSICommand:
        """Start a read, or a write of one block."""
        if write:
            pdu = self.one.command(write10(0, 1), write=512, data=write)
        else:
            pdu = self.one.command(read10(0, 1), read=512)
        self.one.send(pdu)
        return pdu

    def test_backend_is_stuck(self) -> None:
        """An abort of a stuck command is not answered; the session may be dropped."""
        pdu = self.start()
        self.one.manage(1, tag=pdu.itt)
        self.one.manage(5)
        self.assertEqual(self.one.receive(), [])
        # It answers pings meanwhile, and the initiator gives the session up.
        self.one.send(self.one.ping())
        self.one.one(NOPIn)
        self.one.connection.disconnected()
        self.assertEqual(self.node.sessions(), [])
        self.store.go()
        self.assertEqual(self.unit.tasks(), [])

    def test_stale_write(self) -> None:
        """After the answer to an abort the write never reaches the medium (tcmu#420)."""
        pdu = self.start(b"s" * 512)
        self.one.manage(1, tag=pdu.itt)
        self.assertEqual(self.one.receive(), [])
        self.store.go()
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.assertEqual(self.store.calls, [])

    def test_queued_write_is_not_started(self) -> None:
        """A write that had not started when it was aborted is never started."""
        self.start()
        ordered = self.one.command(
            write10(0, 1), write=512, data=b"s" * 512, attribute=2
        )
        self.one.send(ordered)
        self.assertEqual(len(self.store.calls), 1)
        self.one.manage(1, tag=ordered.itt)
        self.assertEqual(self.one.one(TaskManagementResponse).response, 0)
        self.store.go()
        self.assertEqual(self.store.calls, [])
        self.one.one(DataIn)

    def test_no_response_for_an_aborted_task(self) -> None:
        """A task that was aborted by its own initiator is never answered."""
        pdu = self.start()
        self.one.manage(2)
        self.store.go()
        found = self.one.receive()
        self.assertEqual([type(one) for one in found], [TaskManagementResponse])
        self.assertNotIn(pdu.itt, [one.itt for one in found])

    def test_pdu_after_logout(self) -> None:
        """What comes after a Logout Request is not taken (spdk), nor while its answer
        waits for a task.
        """
        one = self.one
        self.start()
        one.send(LogoutRequest(first=0x46, flags=FINAL, itt=9, cmd_sn=one.cmd_sn))
        one.send(one.ping())
        self.start()
        self.assertEqual(one.receive(), [])
        self.store.go()
        self.assertEqual(self.store.calls, [])
        self.assertIsInstance(one.one(LogoutResponse), LogoutResponse)
        self.assertTrue(one.connection.over)

    def test_drop_during_data_out(self) -> None:
        """A connection that goes during Data-Out ends the task once (tgt#24, spdk#725)."""
        pdu = self.one.command(write10(0, 64), write=32768)
        self.one.send(pdu)
        r2t = self.one.receive()[0]
        self.one.send(*self.one.data_out(r2t, PATTERN, 4096)[:3])
        (session,) = self.node.sessions()
        self.one.connection.disconnected()
        self.assertEqual(session.tasks, {})
        self.assertEqual((session.writes.transfers, session.writes.held_bytes), ({}, 0))
        self.assertEqual(self.unit.tasks(), [])
        self.assertEqual(self.store.calls, [])

    def test_drop_between_queued_data_in(self) -> None:
        """A connection that goes while reads are queued leaves none behind."""
        for _number in range(8):
            self.start()
        self.one.connection.disconnected()
        self.store.go(8)
        self.assertEqual(self.unit.tasks(), [])
        self.assertEqual(self.one.connection.output, [])

    def test_unsolicited_nop_in_is_not_kept(self) -> None:
        """Our pings that are answered leave nothing behind (tgt, 2016)."""
        connection = self.one.connection
        for number in range(1, 200):
            now = number * 40.0
            connection.tick(now)
            ping = self.one.one(NOPIn)
            connection.now = now + 1
            self.one.send(self.one.ping(b""))
            self.one.receive()
            self.assertEqual(ping.ttt, number)
        self.assertFalse(connection.over)
        self.assertEqual(connection.ordering.immediate, 0)
