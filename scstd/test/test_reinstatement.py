# SPDX-License-Identifier: MIT
"""
Tests for `scstd.protocols.engine.reinstatement`: logins that take the place of a
connection or a session (RFC 7143 section 6.3.5).
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.protocols.wire.codes import (
    TRANSIT,
)
from scstd.protocols.wire.pdu import (
    DataIn,
    LoginResponse,
)
from scstd.protocols.wire.states import SessionState
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.stores import ManualStore, memory
from scstd.test.test_connections import CLEARED, limits


class ReinstatementTests(SynchronousTestCase):
    """
    A login in the place of a connection, or of a session.
    """

    def setUp(self) -> None:
        """Log in to a store that waits."""
        self.store = ManualStore()
        self.limits = limits()
        self.node, _target, _units = serve(self.store, limits=self.limits)
        self.one = Initiator(self.node).ready(
            DefaultTime2Wait="0", DefaultTime2Retain="20"
        )
        (self.session,) = self.node.sessions()

    def again(self, **fields: Any) -> Initiator:
        """Return a connection that has sent its login."""
        more = Initiator(self.node)
        more.cmd_sn = self.one.cmd_sn
        names = [
            ("InitiatorName", INITIATOR),
            ("TargetName", "iqn.2026-11.org.scstd:test"),
        ]
        more.send(more.login_request(names, **fields))
        return more

    def test_connection_reinstatement(self) -> None:
        """The same TSIH and CID: the old connection's tasks end, the session stays."""
        self.one.send(self.one.command(write10(0, 1), write=512, data=bytes(512)))
        again = self.again(tsih=self.session.tsih)
        self.assertTrue(self.one.connection.over)
        self.assertEqual(again.receive(), [])
        self.store.go()
        response = again.one(LoginResponse)
        self.assertEqual(response.status_class, 0)
        self.assertEqual(response.tsih, self.session.tsih)
        self.assertEqual(self.node.sessions(), [self.session])
        again.cmd_sn = self.one.cmd_sn
        done = again.do(bytes(6))
        self.assertEqual((done.key, done.asc), CLEARED)

    def test_stale_write(self) -> None:
        """An old write has reached the medium before a lost connection comes back."""
        self.one.send(self.one.command(write10(0, 1), write=512, data=b"o" * 512))
        self.one.connection.disconnected()
        again = self.again(tsih=self.session.tsih)
        self.assertEqual(again.receive(), [])
        self.assertEqual(len(self.store.calls), 1)
        self.store.go()
        self.assertEqual(again.one(LoginResponse).status_class, 0)

    def test_continuation(self) -> None:
        """A session without a connection is continued, with its CmdSN."""
        self.one.connection.disconnected()
        self.assertIs(self.session.state, SessionState.FAILED)
        self.assertEqual(self.node.sessions(), [self.session])
        again = self.again(tsih=self.session.tsih, cid=7)
        response = again.one(LoginResponse)
        self.assertEqual(response.status_class, 0)
        self.assertEqual(response.exp_cmd_sn, self.one.cmd_sn)
        self.assertIs(self.session.state, SessionState.LOGGED_IN)
        again.send(again.command(read10(0, 1), read=512))
        self.store.go()
        self.assertEqual(again.one(DataIn).status, 0)

    def test_continuation_fails(self) -> None:
        """A login that fails leaves a session that may still be continued."""
        self.one.send(self.one.command(read10(0, 1), read=512))
        self.one.connection.disconnected()
        again = self.again(tsih=self.session.tsih)
        self.assertIs(self.session.state, SessionState.IN_CONTINUE)
        again.connection.disconnected()
        self.assertIs(self.session.state, SessionState.FAILED)

    def test_reinstatement_fails(self) -> None:
        """A login that takes the only connection away, and goes, leaves a session that
        may be continued; without time to retain it, none.
        """
        for configured, sessions in ((20, 1), (0, 0)):
            self.limits.local = {**self.limits.local, "DefaultTime2Retain": configured}
            self.one.send(self.one.command(read10(0, 1), read=512))
            again = self.again(tsih=self.session.tsih)
            self.assertTrue(self.one.connection.over)
            again.connection.disconnected()
            self.store.go()
            self.assertEqual(len(self.node.sessions()), sessions)
            if sessions:
                self.assertIs(self.session.state, SessionState.FAILED)
                self.one = self.again(tsih=self.session.tsih)
                self.one.cmd_sn = self.session.window.exp_cmd_sn
                self.assertEqual(self.one.receive()[0].status_class, 0)
                self.one.do(bytes(6))

    def test_reinstatement_fails_twice(self) -> None:
        """Two logins that wait for one connection's tasks, and both go."""
        self.one.send(self.one.command(read10(0, 1), read=512))
        waiting = [self.again(tsih=self.session.tsih) for _number in range(2)]
        for one in waiting:
            one.connection.disconnected()
            self.assertIs(self.session.state, SessionState.FAILED)
        self.store.go()
        self.node.tick(1000)
        self.assertEqual(self.node.sessions(), [])

    def test_retention(self) -> None:
        """After Time2Wait and Time2Retain the session is gone: 020Ah."""
        self.one.connection.disconnected()
        self.node.tick(20)
        self.assertEqual(self.node.sessions(), [self.session])
        self.node.tick(21)
        self.assertEqual(self.node.sessions(), [])
        self.assertIs(self.session.state, SessionState.FREE)
        response = self.again(tsih=self.session.tsih).one(LoginResponse)
        self.assertEqual((response.status_class, response.status_detail), (2, 0x0A))

    def test_not_retained(self) -> None:
        """With DefaultTime2Retain=0, the default here, a session ends at once."""
        node, _target, _units = serve(memory())
        one = Initiator(node).ready()
        one.connection.disconnected()
        self.assertEqual(node.sessions(), [])

    def test_unknown_session(self) -> None:
        """A TSIH that there is not: 020Ah, whoever asks."""
        response = self.again(tsih=4711).one(LoginResponse)
        self.assertEqual((response.status_class, response.status_detail), (2, 0x0A))

    def test_of_another_initiator(self) -> None:
        """The TSIH of another's session: 020Ah."""
        thief = Initiator(self.node, name=INITIATOR + "2")
        response = thief.login(tsih=self.session.tsih, cid=1)
        self.assertEqual((response.status_class, response.status_detail), (2, 0x0A))
        self.assertFalse(self.one.connection.over)

    def test_session_reinstatement(self) -> None:
        """TSIH 0 ends all of the old session, whatever was to be retained."""
        self.one.send(self.one.command(write10(0, 1), write=512, data=bytes(512)))
        again = self.again()
        self.assertTrue(self.one.connection.over)
        self.assertEqual(again.receive(), [])
        self.store.go()
        response = again.one(LoginResponse)
        self.assertNotEqual(response.tsih, self.session.tsih)
        self.assertIs(self.session.state, SessionState.FREE)
        done = again.do(bytes(6))
        self.assertEqual((done.key, done.asc), (6, 0x2907))

    def test_session_that_has_just_ended(self) -> None:
        """A session that ended with its connection is waited for, too."""
        self.limits.local = {**self.limits.local, "DefaultTime2Retain": 0}
        self.one.send(self.one.command(write10(0, 1), write=512, data=bytes(512)))
        self.one.connection.disconnected()
        self.assertEqual(self.node.sessions(), [])
        again = self.again()
        self.assertEqual(again.receive(), [])
        self.store.go()
        self.assertEqual(again.one(LoginResponse).status_class, 0)
        self.assertEqual(self.node._closing, {})

    def test_reinstatement_of_a_failed_session(self) -> None:
        """TSIH 0 takes the place of a session that waits to be continued, too."""
        self.one.connection.disconnected()
        response = self.again().one(LoginResponse)
        self.assertEqual(response.status_class, 0)
        self.assertIs(self.session.state, SessionState.FREE)
        self.assertEqual(len(self.node.sessions()), 1)

    def test_proof_first(self) -> None:
        """A login that proves nothing takes no connection over, and continues nothing."""
        self.limits.access.incoming = (("somebody", "a secret of theirs"),)
        response = self.again(tsih=self.session.tsih).one(LoginResponse)
        self.assertEqual((response.status_class, response.status_detail), (2, 1))
        self.assertFalse(self.one.connection.over)
        self.one.connection.disconnected()
        again = self.again(tsih=self.session.tsih, flags=0x81)
        self.assertFalse(again.receive()[0].flags & TRANSIT)
        self.assertIs(self.session.state, SessionState.FAILED)

    def test_ends_while_waiting(self) -> None:
        """A session that ends while a login waits to join it: 020Ah."""
        self.one.send(self.one.command(write10(0, 1), write=512, data=bytes(512)))
        again = self.again(tsih=self.session.tsih)
        self.session.end("closed")
        self.store.go()
        response = again.one(LoginResponse)
        self.assertEqual((response.status_class, response.status_detail), (2, 0x0A))
