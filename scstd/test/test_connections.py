# SPDX-License-Identifier: MIT
"""
Several connections a session, connections that come back, sessions that are continued:
`scstd.protocols.engine.reinstatement`, `leaving` and `ordering` (RFC 7143 sections 4.2.2, 6.3
and 7.2).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.protocols.engine import async_message
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.iscsi_server import ISCSITargetFactory
from scstd.protocols.wire.codes import (
    FINAL,
    IMMEDIATE,
    RESERVED_TAG,
    RejectReason,
)
from scstd.protocols.wire.keys import LOCAL
from scstd.protocols.wire.login_status import LoginStatus
from scstd.protocols.wire.pdu import (
    R2T,
    AsynchronousMessage,
    DataIn,
    LoginResponse,
    LogoutRequest,
    LogoutResponse,
    NOPIn,
    SCSICommand,
    SCSIResponse,
    TaskManagementResponse,
)
from scstd.protocols.wire.states import ConnectionState, SessionState
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.stores import ManualStore, memory

CLEARED = (6, 0x477F)


PATTERN = bytes(range(256)) * 64


def limits(**keys: Any) -> TargetSettings:
    """Return limits with these local values: eight connections, and time to retain."""
    local = {"MaxConnections": 8, "DefaultTime2Retain": 20, **keys}
    return TargetSettings(local={**LOCAL, **local})


class SeveralTests(SynchronousTestCase):
    """
    MC/S: commands in one order over several connections.
    """

    level = "0"

    def setUp(self) -> None:
        """Log in twice to one session, at a store that waits."""
        self.store = ManualStore()
        self.limits = limits(ErrorRecoveryLevel=2)
        self.node, _target, (self.unit,) = serve(self.store, limits=self.limits)
        self.one = Initiator(self.node).ready(
            MaxConnections="4",
            ErrorRecoveryLevel=self.level,
            DefaultTime2Wait="0",
            DefaultTime2Retain="20",
        )
        (self.session,) = self.node.sessions()
        self.two = self.join(1)

    def join(self, cid: int, status: int = 0) -> Initiator:
        """Return a further connection of the session."""
        more = Initiator(self.node)
        more.cmd_sn = self.one.cmd_sn
        response = more.login(tsih=self.session.tsih, cid=cid)
        found = response.status_class << 8 | response.status_detail
        self.assertEqual(found, status)
        return more

    def command(self, who: Initiator, lba: int = 0) -> SCSICommand:
        """Return a read with the session's next CmdSN."""
        who.cmd_sn = self.one.cmd_sn
        pdu = who.command(read10(lba, 1), read=512)
        pdu.itt = pdu.cmd_sn
        self.one.cmd_sn = self.two.cmd_sn = pdu.cmd_sn + 1
        return pdu

    def lbas(self) -> list[int]:
        """Return the LBAs that the store was asked for, in order."""
        tasks = self.unit.tasks()
        return [task.lba for task in tasks if task.started]

    def test_order(self) -> None:
        """A command waits for one before it that is on its way on another connection."""
        first, second = self.command(self.one, 1), self.command(self.two, 2)
        self.two.send(second)
        self.assertEqual(self.store.calls, [])
        self.one.send(first)
        self.assertEqual(self.lbas(), [1, 2])

    def test_allegiance(self) -> None:
        """An answer goes out on the connection on which the command came."""
        first, second = self.command(self.one), self.command(self.two)
        self.one.send(first)
        self.two.send(second)
        self.store.go(2)
        self.assertEqual(self.one.one(DataIn).itt, first.itt)
        self.assertEqual(self.two.one(DataIn).itt, second.itt)

    def test_data_on_another_connection(self) -> None:
        """Data-Out must come where its command came: elsewhere it is rejected."""
        pdu = self.one.command(write10(0, 20), write=10240)
        self.one.send(pdu)
        r2t = self.one.one(R2T)
        self.two.send(*self.one.data_out(r2t, PATTERN, 10240))
        reject = self.two.receive()[0]
        self.assertEqual(reject.reason, RejectReason.INVALID_PDU_FIELD)
        self.one.send(*self.one.data_out(r2t, PATTERN))
        self.store.go()
        self.assertEqual(self.one.one(SCSIResponse).status, 0)

    def test_window_is_shared(self) -> None:
        """Both connections tell the same ExpCmdSN and MaxCmdSN."""
        self.one.send(self.command(self.one))
        self.two.send(self.two.ping())
        nop = self.two.one(NOPIn)
        self.assertEqual(nop.exp_cmd_sn, self.one.cmd_sn)
        self.assertEqual(nop.max_cmd_sn, self.session.window.max_cmd_sn)
        self.assertIs(self.one.connection.window, self.two.connection.window)

    def test_too_many(self) -> None:
        """More connections than were agreed on: 0206h."""
        self.join(2)
        self.join(3)
        self.join(4, LoginStatus.TOO_MANY_CONNECTIONS)
        self.assertEqual(len(self.session.connections), 4)

    def test_tag_in_use_elsewhere(self) -> None:
        """A tag belongs to the session: in use on one connection, rejected on another."""
        first, second = self.command(self.one), self.command(self.two)
        second.itt = first.itt
        self.one.send(first)
        self.two.send(second)
        self.assertEqual(self.two.receive()[0].reason, RejectReason.TASK_IN_PROGRESS)

    def test_abort_from_another_connection(self) -> None:
        """A task is aborted from any connection of its session."""
        pdu = self.command(self.one)
        self.one.send(pdu)
        self.two.manage(1, tag=pdu.itt)
        self.assertEqual(self.two.receive(), [])
        self.store.go()
        self.assertEqual(self.two.one(TaskManagementResponse).response, 0)
        self.assertEqual(self.one.receive(), [])

    def test_function_waits_for_other_connections(self) -> None:
        """A function waits for commands before it on every connection."""
        late = self.command(self.two)
        self.one.manage(2)
        self.assertEqual(self.one.receive(), [])
        self.two.send(late)
        self.store.go()
        # What was sent before has to be acknowledged on every connection.
        self.assertEqual(self.one.one(NOPIn).itt, RESERVED_TAG)
        for who in (self.one, self.two):
            who.receive()
            ping = who.ping()
            ping.exp_stat_sn = who.exp_stat_sn
            who.send(ping)
        _pong, managed, _ping = self.one.receive()
        self.assertEqual(managed.response, 0)

    def test_session_keys_are_settled(self) -> None:
        """A connection that joins cannot change what holds for the session."""
        more = Initiator(self.node)
        more.cmd_sn = self.one.cmd_sn
        more.login(
            tsih=self.session.tsih,
            cid=5,
            MaxBurstLength="512",
            HeaderDigest="CRC32C",
            ErrorRecoveryLevel="1",
        )
        self.assertEqual(more.keys["MaxBurstLength"], "Reject")
        self.assertEqual(more.keys["ErrorRecoveryLevel"], "Reject")
        self.assertEqual(more.keys["HeaderDigest"], "CRC32C")
        parameters = more.connection.parameters
        self.assertEqual(parameters.header_digest, "CRC32C")
        self.assertEqual(
            parameters.max_burst_length, self.one.connection.parameters.max_burst_length
        )

    def test_logout_of_one(self) -> None:
        """Logging one connection out ends its tasks, and no other's."""
        mine, other = self.command(self.one), self.command(self.two)
        self.one.send(mine)
        self.two.send(other)
        self.two.send(self.logout(self.two, 1, cid=1))
        self.assertEqual(self.two.receive(), [])
        self.store.go(2)
        self.assertEqual(self.two.one(LogoutResponse).response, 0)
        self.assertTrue(self.two.connection.over)
        self.assertIs(self.two.connection.state, ConnectionState.FREE)
        self.assertEqual(self.one.one(DataIn).itt, mine.itt)
        self.assertEqual(list(self.session.connections), [0])

    def logout(self, who: Initiator, reason: int, cid: int) -> LogoutRequest:
        """Return a Logout Request."""
        return LogoutRequest(
            first=0x06 | IMMEDIATE,
            flags=FINAL | reason,
            itt=who.next_itt() + 5000,
            cid=cid,
            cmd_sn=self.one.cmd_sn,
        )

    def test_logout_of_another(self) -> None:
        """One connection logs another out; its tasks are gone before the answer."""
        self.two.send(self.command(self.two))
        self.one.send(self.logout(self.one, 1, cid=1))
        self.assertTrue(self.two.connection.over)
        self.assertEqual(self.one.receive(), [])
        self.store.go()
        self.assertEqual(self.one.one(LogoutResponse).response, 0)
        done = self.one.do(bytes(6))
        self.assertEqual((done.key, done.asc), CLEARED)

    def test_logout_of_the_session(self) -> None:
        """Logging the session out closes every connection, cleanly."""
        self.one.send(self.command(self.one))
        self.two.send(self.logout(self.two, 0, cid=0))
        self.assertFalse(self.one.connection.over)
        self.store.go()
        self.assertEqual(self.two.one(LogoutResponse).response, 0)
        self.assertTrue(self.one.connection.over)
        self.assertIs(self.one.connection.state, ConnectionState.FREE)
        self.assertEqual(self.node.sessions(), [])
        self.assertIs(self.session.state, SessionState.FREE)

    def test_nothing_after_logout(self) -> None:
        """PDUs after a logout of the session are not taken, on any connection."""
        self.one.send(self.command(self.one))
        self.two.send(self.logout(self.two, 0, cid=0))
        self.one.send(self.command(self.one))
        self.two.send(self.two.ping())
        self.assertEqual(len(self.store.calls), 1)
        self.assertEqual(self.one.receive() + self.two.receive(), [])
        self.store.go()

    def test_one_fails(self) -> None:
        """A connection that fails takes its tasks along, not the session."""
        self.two.send(self.command(self.two))
        self.two.connection.disconnected()
        self.assertIs(self.two.connection.state, ConnectionState.CLEANUP_WAIT)
        self.store.go()
        self.assertIs(self.two.connection.state, ConnectionState.FREE)
        self.assertIs(self.session.state, SessionState.LOGGED_IN)
        done = self.one.do(bytes(6))
        self.assertEqual((done.key, done.asc), CLEARED)

    def test_early_commands_go_along(self) -> None:
        """What a failed connection brought too early has not arrived."""
        first, second = self.command(self.one, 1), self.command(self.two, 2)
        self.two.send(second)
        self.two.connection.disconnected()
        self.one.send(first)
        self.assertEqual(self.lbas(), [1])
        # It is repeated with its CmdSN, on a connection that is there.
        self.one.send(second)
        self.assertEqual(self.lbas(), [1, 2])

    def test_early_commands_of_one_that_leaves(self) -> None:
        """What waits for its turn on a connection is not begun after its logout."""
        first, busy = self.command(self.one, 1), self.command(self.two, 9)
        early = self.command(self.two, 2)
        self.two.send(first, early)
        self.two.logout_sent(reason=1, cid=1)
        # This one is told that the others were cleared.
        self.one.send(busy)
        self.assertEqual(self.one.one(SCSIResponse).status, 2)
        self.assertEqual(self.lbas(), [1])
        self.store.go()
        self.assertEqual(self.two.receive()[-1].response, 0)


class TransportTests(SynchronousTestCase):
    """
    What one connection does to another reaches the other's transport.
    """

    def setUp(self) -> None:
        """Have two connections of one session, on transports of their own."""
        self.clock = Clock()
        self.node, _target, _units = serve(memory(), limits=limits())
        self.factory = ISCSITargetFactory(self.node, self.clock)
        self.factory.startFactory()
        self.addCleanup(self.factory.stopFactory)
        self.transports: list[StringTransport] = []
        tsih = self.connect(0, 0)
        self.connect(tsih, 1)
        (self.session,) = self.node.sessions()

    def connect(self, tsih: int, cid: int) -> int:
        """Log in on a new transport; return the TSIH."""
        names = [
            ("InitiatorName", INITIATOR),
            ("TargetName", "iqn.2026-11.org.scstd:test"),
            ("MaxConnections", "4"),
            ("DefaultTime2Wait", "0"),
            ("DefaultTime2Retain", "20"),
        ]
        maker = Initiator(self.node)
        request = maker.login_request(names[: 2 if tsih else 5], tsih=tsih, cid=cid)
        protocol = self.factory.buildProtocol(None)
        transport = StringTransport(
            IPv4Address("TCP", "127.0.0.1", 3260), IPv4Address("TCP", "127.0.0.1", 9)
        )
        self.transports.append(transport)
        protocol.makeConnection(transport)
        protocol.dataReceived(maker.encode(request))
        response = LoginResponse.parse(self.said(transport))
        self.assertEqual(response.status_class, 0)
        return response.tsih

    def said(self, transport: StringTransport) -> bytes:
        """Return what was sent, as a transport takes it: when it has room."""
        while transport.producer is not None:
            transport.producer.resumeProducing()
        value = transport.value()
        transport.clear()
        return bytes(value)

    def test_session_closed(self) -> None:
        """Closing a session tells and closes every transport of it."""
        async_message.drop_session(self.session, "by hand")
        self.clock.advance(0)
        for transport in self.transports:
            message = AsynchronousMessage.parse(self.said(transport))
            self.assertEqual(message.async_event, 3)
            self.assertTrue(transport.disconnecting)

    def test_logged_out_by_another(self) -> None:
        """A connection that another logs out is closed, and the other is answered."""
        pdu = LogoutRequest(first=0x46, flags=FINAL | 1, itt=5, cid=1, cmd_sn=100)
        next(iter(self.factory.protocols)).dataReceived(pdu.encode())
        self.clock.advance(0)
        first, second = self.transports
        self.assertEqual(LogoutResponse.parse(self.said(first)).response, 0)
        self.assertFalse(first.disconnecting)
        self.assertTrue(second.disconnecting)

    def test_time_to_retain(self) -> None:
        """The factory's clock ends a session that nobody continues."""
        for protocol in list(self.factory.protocols):
            protocol.connectionLost()
        self.assertEqual(self.node.sessions(), [self.session])
        self.clock.advance(19)
        self.assertEqual(self.node.sessions(), [self.session])
        self.clock.advance(2)
        self.assertEqual(self.node.sessions(), [])
