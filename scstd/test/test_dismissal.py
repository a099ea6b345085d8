# SPDX-License-Identifier: MIT
"""
Tests for asking initiators to log out (RFC 7143 section 11.9): what becomes of those that
do, and of those that do not.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from scstd.protocols.engine import async_message
from scstd.protocols.engine.session import Session
from scstd.protocols.wire.pdu import AsynchronousMessage, LogoutResponse
from scstd.protocols.wire.states import SessionState
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.stores import ManualStore
from scstd.test.test_asynchronous import begin_write, several


class DismissalTests(SynchronousTestCase):
    """
    Initiators that are asked to log out, and have time to.
    """

    def setUp(self) -> None:
        """Log in to a store that waits."""
        self.store = ManualStore()
        self.limits = several(logout_timeout=5)
        self.node, _target, (self.unit,) = serve(self.store, limits=self.limits)
        self.one = Initiator(self.node).ready(MaxConnections="2")
        (self.session,) = self.node.sessions()
        self.gone: list[Session] = []

    def dismiss(self) -> None:
        """Have the session leave."""
        async_message.dismiss(
            self.session, "maintenance", lambda: self.gone.append(self.session)
        )

    def asked(self, initiator: Initiator) -> int:
        """Return within how many seconds an initiator was asked to log out."""
        message = initiator.one(AsynchronousMessage)
        self.assertEqual(message.async_event, 1)
        time: int = message.parameter3
        return time

    def test_logs_out(self) -> None:
        """Who is asked may finish what it has begun, and logs out."""
        begin_write(self.one)
        self.dismiss()
        self.assertEqual(self.asked(self.one), 5)
        self.node.tick(5.0)
        self.assertFalse(self.one.connection.over)
        self.store.go()
        self.assertEqual(len(self.one.receive()), 1)
        self.assertEqual(self.gone, [])
        self.assertIsInstance(self.one.logout(), LogoutResponse)
        self.assertEqual(self.gone, [self.session])
        self.node.tick(7.0)

    def test_does_not(self) -> None:
        """Who does not is told that the session is dropped, and it is."""
        self.dismiss()
        self.asked(self.one)
        self.node.tick(7.0)
        self.assertEqual(self.one.one(AsynchronousMessage).async_event, 3)
        self.assertTrue(self.one.connection.over)
        self.assertEqual(self.one.connection.why, "maintenance")
        self.assertEqual(self.gone, [self.session])

    def test_drops_when_its_tasks_are_over(self) -> None:
        """It is gone when its last task cannot touch data any more."""
        begin_write(self.one)
        self.dismiss()
        self.node.tick(7.0)
        self.assertEqual(self.gone, [])
        self.store.go()
        self.assertEqual(self.gone, [self.session])

    def test_at_once(self) -> None:
        """With a time of 0 it is dropped without a word of leaving."""
        self.limits.logout_timeout = 0
        self.dismiss()
        self.assertEqual(self.one.one(AsynchronousMessage).async_event, 3)
        self.assertEqual(self.gone, [self.session])

    def test_twice(self) -> None:
        """Asked again it has no more time; both who asked are called."""
        self.dismiss()
        self.one.connection.now = 4.0
        self.dismiss()
        self.node.tick(6.5)
        self.assertEqual(self.gone, [self.session] * 2)
        self.dismiss()
        self.assertEqual(self.gone, [self.session] * 3)

    def test_every_connection(self) -> None:
        """Every connection is asked; the session is gone with the last."""
        two = Initiator(self.node)
        two.cmd_sn = self.one.cmd_sn
        two.login(tsih=self.session.tsih, cid=1)
        self.dismiss()
        self.assertEqual([self.asked(self.one), self.asked(two)], [5, 5])
        self.one.logout(reason=1, cid=0)
        self.assertEqual(self.gone, [])
        two.cmd_sn = self.one.cmd_sn
        two.logout(reason=1, cid=1)
        self.assertEqual(self.gone, [self.session])

    def test_without_a_connection(self) -> None:
        """A session that waits to be continued does not wait any more."""
        one = Initiator(self.node, name=INITIATOR + "2").ready(DefaultTime2Retain="10")
        session = one.connection.session
        assert session is not None
        one.connection.disconnected()
        self.assertIs(session.state, SessionState.FAILED)
        async_message.dismiss(session, "maintenance", lambda: self.gone.append(session))
        self.assertEqual(self.gone, [session])

    def test_connection_lost_meanwhile(self) -> None:
        """A connection that goes without a logout makes the wait no longer."""
        one = Initiator(self.node, name=INITIATOR + "2").ready(DefaultTime2Retain="20")
        session = one.connection.session
        assert session is not None
        async_message.dismiss(session, "maintenance", lambda: self.gone.append(session))
        one.connection.disconnected()
        self.node.tick(7.0)
        self.assertEqual(self.gone, [session])
