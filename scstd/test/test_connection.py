# SPDX-License-Identifier: MIT
"""
Tests for `scstd.protocols.engine.connection`: a whole session over a connection in memory.
"""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import read10, write10
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.engine.ordering import IMMEDIATE_LIMIT
from scstd.protocols.wire.codes import FINAL, IMMEDIATE, RESERVED_TAG, RejectReason
from scstd.protocols.wire.pdu import (
    AsynchronousMessage,
    DataOut,
    LoginResponse,
    LogoutRequest,
    LogoutResponse,
    NOPIn,
    NOPOut,
    Reject,
    SCSICommand,
    SCSIResponse,
    SNACKRequest,
)
from scstd.protocols.wire.states import ConnectionState
from scstd.test.generating import examples
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.pairing import PairedConnection
from scstd.test.stores import ManualStore, memory

PATTERN = bytes(range(256)) * 64


class LifeTests(SynchronousTestCase):
    """
    A session from login to logout.
    """

    def test_whole(self) -> None:
        """What is written is read back, and a logout is answered and closes."""
        node, _target, _units = serve(memory())
        one = Initiator(node).ready()
        self.assertEqual(one.do(write10(8, 32), data=PATTERN).status, 0)
        self.assertEqual(one.do(read10(8, 32), read=16384).data, PATTERN)
        response = one.logout()
        self.assertIsInstance(response, LogoutResponse)
        self.assertEqual(response.response, 0)
        self.assertTrue(one.connection.over)
        self.assertIs(one.connection.state, ConnectionState.FREE)
        self.assertEqual(node.sessions(), [])

    def test_byte_by_byte(self) -> None:
        """A stream that arrives in single bytes means the same."""
        node, _target, _units = serve(memory())
        one = Initiator(node)
        one.byte_by_byte()
        one.ready(HeaderDigest="CRC32C", DataDigest="CRC32C")
        self.assertEqual(one.do(write10(0, 32), data=PATTERN).status, 0)
        self.assertEqual(one.do(read10(0, 32), read=16384).data, PATTERN)
        self.assertEqual(one.logout().response, 0)

    def test_cut_anywhere(self) -> None:
        """A stream cut into two chunks at any byte gives the same answers."""
        for digests in ("None", "CRC32C"):
            script = _script(digests)
            expected = _answers(script)
            for cut in range(1, len(script)):
                self.assertEqual(_answers(script, cut), expected, cut)

    @examples(50)
    @given(st.lists(st.integers(1, 1500), max_size=12))
    def test_cut_into_many(self, cuts: list[int]) -> None:
        """A stream cut into many chunks gives the same answers."""
        script = _script("CRC32C")
        self.assertEqual(_answers(script, *cuts), _answers(script))

    def test_both_directions_wrap(self) -> None:
        """CmdSN and StatSN go on at 0 after 2**32-1."""
        node, _target, _units = serve(memory())
        one = Initiator(node)
        one.cmd_sn = 0xFFFFFFFA
        one.ready()
        one.connection.stat_sn = 0xFFFFFFFC
        for _number in range(12):
            self.assertEqual(one.do(read10(0, 1), read=512).status, 0)
        self.assertLess(one.cmd_sn, 100)
        self.assertLess(one.connection.stat_sn, 100)


def _script(digests: str) -> bytes:
    """
    Return what an initiator says in a session with a login, a write in three ways, a
    ping, a read and a logout.
    """
    node, _target, _units = serve(memory())
    one = Initiator(node)
    said: list[bytes] = []
    plain = one.feed

    def feed(data: bytes) -> None:
        said.append(data)
        plain(data)

    one.feed = feed
    one.ready(HeaderDigest=digests, DataDigest=digests, InitialR2T="No")
    one.do(write10(0, 20), data=PATTERN[:10240])
    one.send(one.ping(b"abc"))
    one.receive()
    one.do(read10(2, 3), read=1536)
    one.logout()
    return b"".join(said)


def _answers(script: bytes, *cuts: int) -> bytes:
    """
    Return what a connection says to *script*, received in chunks of these lengths.
    """
    node, _target, _units = serve(memory())
    side = PairedConnection(node)
    said: list[bytes] = []
    at = 0
    for length in (*cuts, len(script)):
        side.feed(script[at : at + length])
        at += length
        said.append(side.take())
    return b"".join(said)


class WindowTests(SynchronousTestCase):
    """
    CmdSN orders commands; the window limits them.
    """

    def setUp(self) -> None:
        """Log in."""
        self.store = ManualStore()
        node, _target, _units = serve(
            self.store, limits=TargetSettings(queued_commands=4)
        )
        self.one = Initiator(node).ready()

    def test_ahead_of_order(self) -> None:
        """A command whose predecessor is missing waits for it."""
        first = self.one.command(read10(0, 1), read=512)
        second = self.one.command(read10(1, 1), read=512)
        self.one.send(second)
        self.assertEqual(self.store.calls, [])
        self.one.send(first)
        self.assertEqual(len(self.store.calls), 2)
        self.store.go(2)
        found = self.one.receive()
        self.assertEqual([pdu.itt for pdu in found], [first.itt, second.itt])

    def test_outside(self) -> None:
        """Commands beyond the window, or before it, are silently ignored."""
        far = self.one.command(read10(0, 1), read=512)
        far.cmd_sn += 4
        old = self.one.command(read10(0, 1), read=512)
        old.cmd_sn = self.one.cmd_sn - 10
        self.one.send(far, old)
        self.assertEqual(self.one.receive(), [])
        self.assertEqual(self.store.calls, [])

    def test_closed_window(self) -> None:
        """The window closes while commands run, and opens as they finish."""
        pdus = [self.one.command(read10(0, 1), read=512) for _one in range(5)]
        self.one.send(*pdus)
        self.assertEqual(len(self.store.calls), 4)
        window = self.one.connection.window
        self.assertEqual((window.max_cmd_sn + 1) & 0xFFFFFFFF, window.exp_cmd_sn)
        self.store.go()
        answer = self.one.receive()[0]
        self.assertEqual(answer.max_cmd_sn, window.exp_cmd_sn)
        self.one.send(pdus[4])
        self.assertEqual(len(self.store.calls), 4)

    def test_immediate(self) -> None:
        """An immediate command runs at once and leaves the window alone."""
        before = self.one.connection.window.exp_cmd_sn
        self.one.send(self.one.command(read10(0, 1), read=512, immediate=True))
        self.assertEqual(len(self.store.calls), 1)
        self.assertEqual(self.one.connection.window.exp_cmd_sn, before)

    def test_too_many_immediate(self) -> None:
        """More immediate commands than any initiator needs are rejected."""
        for _number in range(IMMEDIATE_LIMIT):
            self.one.send(self.one.command(read10(0, 1), read=512, immediate=True))
        self.one.send(self.one.command(read10(0, 1), read=512, immediate=True))
        reject = self.one.one(Reject)
        self.assertEqual(reject.reason, RejectReason.TOO_MANY_IMMEDIATE_COMMANDS)

    def test_tag_in_use(self) -> None:
        """A second command with a tag that is in use is rejected."""
        first = self.one.command(read10(0, 1), read=512)
        second = self.one.command(read10(0, 1), read=512)
        second.itt = first.itt
        self.one.send(first, second)
        self.assertEqual(self.one.one(Reject).reason, RejectReason.TASK_IN_PROGRESS)


class WrongTests(SynchronousTestCase):
    """
    What must not come gets the protocol's answer.
    """

    def setUp(self) -> None:
        """Make a node."""
        self.node, _target, _units = serve(memory())

    def test_garbage(self) -> None:
        """Something that is not iSCSI closes the connection, unanswered."""
        one = Initiator(self.node)
        one.feed(b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n" * 40)
        self.assertTrue(one.connection.over)

    def test_command_before_login(self) -> None:
        """A first PDU that is no Login Request closes the connection."""
        one = Initiator(self.node)
        one.send(SCSICommand())
        self.assertTrue(one.connection.over)
        self.assertEqual(one.connection.output, [])

    def test_command_during_login(self) -> None:
        """Another PDU during the login is refused with status 020Bh."""
        one = Initiator(self.node)
        names = [("InitiatorName", INITIATOR), ("TargetName", TARGET)]
        one.send(one.login_request(names, flags=0x00))
        one.send(SCSICommand())
        response = one.receive()[-1]
        self.assertEqual((response.status_class, response.status_detail), (2, 0x0B))
        self.assertTrue(one.connection.over)

    def test_login_again(self) -> None:
        """A Login Request in the full feature phase is a protocol error."""
        one = Initiator(self.node).ready()
        one.send(one.login_request([]))
        self.assertEqual(one.one(Reject).reason, RejectReason.PROTOCOL_ERROR)
        self.assertEqual(one.do(read10(0, 1), read=512).status, 0)

    def test_unknown_opcode(self) -> None:
        """An unknown opcode is rejected with its header, and the session goes on."""
        one = Initiator(self.node).ready()
        header = struct.pack(">B47x", 0x1C)
        one.feed(header)
        reject = one.one(Reject)
        self.assertEqual(reject.reason, RejectReason.COMMAND_NOT_SUPPORTED)
        self.assertEqual(reject.data, header)
        self.assertEqual(one.do(read10(0, 1), read=512).status, 0)

    def test_snack(self) -> None:
        """SNACK has nothing to ask for at error recovery level 0."""
        one = Initiator(self.node).ready()
        one.send(SNACKRequest())
        self.assertEqual(one.one(Reject).reason, RejectReason.SNACK_REJECT)

    def test_long_segment(self) -> None:
        """A segment longer than declared is refused before memory is spent on it."""
        one = Initiator(self.node).ready()
        one.feed(struct.pack(">BBxxI40x", 0x40, 0x80, 0xFFFFFF))
        self.assertEqual(one.one(Reject).reason, RejectReason.PROTOCOL_ERROR)
        self.assertTrue(one.connection.over)

    def test_long_segment_in_login(self) -> None:
        """The same in the login phase closes the connection."""
        one = Initiator(self.node)
        one.feed(struct.pack(">BBxxI40x", 0x43, 0x87, 0xFFFFFF))
        self.assertTrue(one.connection.over)

    def test_half_a_pdu(self) -> None:
        """A connection that ends inside a PDU leaves nothing behind."""
        one = Initiator(self.node).ready()
        one.feed(one.encode(one.command(read10(0, 1), read=512))[:40])
        one.connection.disconnected()
        self.assertIs(one.connection.state, ConnectionState.FREE)
        self.assertEqual(self.node.sessions(), [])

    def test_huge_key(self) -> None:
        """A text of more than 64 KiB is refused, whatever its parts."""
        one = Initiator(self.node)
        for _part in range(9):
            request = one.login_request([], flags=0x44)
            request.data = b"A" * 8192
            one.send(request)
        response = one.receive()[-1]
        self.assertIsInstance(response, LoginResponse)
        self.assertEqual(response.status_class, 2)
        self.assertTrue(one.connection.over)

    def test_header_digest(self) -> None:
        """A wrong header digest ends the connection: nothing can be trusted.  It is
        announced (section 4.2.6).
        """
        one = Initiator(self.node).ready(HeaderDigest="CRC32C")
        data = bytearray(one.encode(one.command(read10(0, 1), read=512)))
        data[20] ^= 1
        one.feed(bytes(data))
        self.assertTrue(one.connection.over)
        self.assertEqual(one.one(AsynchronousMessage).async_event, 2)

    def test_data_digest(self) -> None:
        """Data with a wrong digest ends its command, and the session goes on."""
        one = Initiator(self.node).ready(DataDigest="CRC32C")
        data = bytearray(
            one.encode(one.command(write10(0, 1), write=512, data=bytes(512)))
        )
        data[60] ^= 1
        one.feed(bytes(data))
        done = one.one(SCSIResponse)
        self.assertEqual(done.status, 2)
        self.assertEqual(bytes(done.data)[4] & 0xF, 0xB)
        self.assertEqual(one.do(read10(0, 1), read=512).data, bytes(512))

    def test_digest_of_ping(self) -> None:
        """A ping with a wrong data digest is rejected as such."""
        one = Initiator(self.node).ready(DataDigest="CRC32C")
        data = bytearray(one.encode(one.ping()))
        data[50] ^= 1
        one.feed(bytes(data))
        self.assertEqual(one.one(Reject).reason, RejectReason.DATA_DIGEST_ERROR)
        one.send(one.ping())
        one.one(NOPIn)

    def test_stray_data(self) -> None:
        """Data-Out that nobody asked for is rejected."""
        one = Initiator(self.node).ready()
        one.send(DataOut(itt=77, ttt=5, data=bytes(4)))
        self.assertEqual(one.one(Reject).reason, RejectReason.INVALID_PDU_FIELD)


class PingTests(SynchronousTestCase):
    """
    NOP-Out and NOP-In, and the timers.
    """

    def setUp(self) -> None:
        """Log in."""
        self.node, _target, _units = serve(memory())
        self.one = Initiator(self.node).ready()

    def test_echo(self) -> None:
        """A ping comes back with its data."""
        ping = self.one.ping(b"are you there?")
        self.one.send(ping)
        answer = self.one.one(NOPIn)
        self.assertEqual((answer.itt, answer.data), (ping.itt, b"are you there?"))

    def test_no_answer_wanted(self) -> None:
        """A NOP-Out with the reserved tag is not answered."""
        self.one.send(NOPOut(first=IMMEDIATE, cmd_sn=self.one.cmd_sn))
        self.assertEqual(self.one.receive(), [])

    def test_our_ping(self) -> None:
        """An idle initiator is pinged, and stays if it answers."""
        connection = self.one.connection
        connection.tick(31)
        ping = self.one.one(NOPIn)
        self.assertEqual(ping.itt, RESERVED_TAG)
        self.assertNotEqual(ping.ttt, RESERVED_TAG)
        connection.now = 40
        self.one.send(
            NOPOut(first=IMMEDIATE, flags=FINAL, ttt=ping.ttt, cmd_sn=self.one.cmd_sn)
        )
        connection.tick(62)
        self.assertFalse(connection.over)

    def test_no_answer(self) -> None:
        """An initiator that does not answer is let go."""
        connection = self.one.connection
        connection.tick(31)
        connection.tick(60)
        self.assertFalse(connection.over)
        connection.tick(62)
        self.assertTrue(connection.over)
        self.assertEqual(self.node.sessions(), [])

    def test_slow_login(self) -> None:
        """A login that stalls is given up."""
        slow = Initiator(self.node)
        names = [("InitiatorName", INITIATOR), ("TargetName", TARGET)]
        slow.send(slow.login_request(names, flags=0))
        slow.connection.tick(29)
        self.assertFalse(slow.connection.over)
        slow.connection.tick(31)
        self.assertTrue(slow.connection.over)

    def test_no_login(self) -> None:
        """A connection on which nothing is said is given up."""
        slow = Initiator(self.node)
        slow.connection.tick(29)
        self.assertFalse(slow.connection.over)
        slow.connection.tick(31)
        self.assertTrue(slow.connection.over)

    def test_missing_data(self) -> None:
        """An initiator that does not send the data it announced is let go."""
        self.one.send(self.one.command(write10(0, 2), write=1024))
        connection = self.one.connection
        connection.timers.nop_in_interval = 0
        connection.tick(89)
        self.assertFalse(connection.over)
        connection.tick(91)
        self.assertTrue(connection.over)


class LogoutTests(SynchronousTestCase):
    """
    Logout, and the end of a session with work to do.
    """

    def setUp(self) -> None:
        """Log in to a store that waits."""
        self.store = ManualStore()
        self.node, _target, _units = serve(self.store)
        self.one = Initiator(self.node).ready()

    def test_waits_for_tasks(self) -> None:
        """A logout is answered when no task can touch data any more."""
        self.one.send(self.one.command(read10(0, 1), read=512))
        one = self.one
        one.send(LogoutRequest(first=0x46, flags=0x80, itt=9, cmd_sn=one.cmd_sn))
        self.assertEqual(one.receive(), [])
        self.store.go()
        self.assertEqual(one.one(LogoutResponse).response, 0)

    def test_other_connection(self) -> None:
        """Closing a connection that there is not is answered so."""
        self.assertEqual(self.one.logout(reason=1, cid=5).response, 1)
        self.assertFalse(self.one.connection.over)

    def test_recovery(self) -> None:
        """Removing a connection for recovery is not supported at level 0: it ends."""
        self.assertEqual(self.one.logout(reason=2).response, 2)
        self.assertTrue(self.one.connection.over)
        self.assertEqual(self.node.sessions(), [])

    def test_connection_lost(self) -> None:
        """A connection that is lost is clean only when its tasks are gone."""
        clean: list[bool] = []
        self.one.send(self.one.command(read10(0, 1), read=512))
        self.one.connection.when_cleaned_up(lambda: clean.append(True))
        self.one.connection.disconnected()
        self.assertEqual(clean, [])
        self.store.go()
        self.assertEqual(clean, [True])

    def test_reinstatement(self) -> None:
        """A second login of the same session waits for the tasks of the first."""
        self.one.send(self.one.command(write10(0, 1), write=512, data=bytes(512)))
        self.assertEqual(len(self.store.calls), 1)
        again = Initiator(self.node)
        again.send(
            again.login_request([("InitiatorName", INITIATOR), ("TargetName", TARGET)])
        )
        self.assertEqual(again.receive(), [])
        self.assertTrue(self.one.connection.over)
        self.store.go()
        response = again.one(LoginResponse)
        self.assertEqual(response.status_class, 0)
        self.assertEqual(len(self.node.sessions()), 1)
        done = again.do(bytes(6))
        self.assertEqual((done.key, done.asc), (6, 0x2907))

    def test_other_isid(self) -> None:
        """Another ISID is another session."""
        Initiator(self.node, isid=b"\x80\0\0\0\0\2").ready()
        self.assertEqual(len(self.node.sessions()), 2)
        self.assertFalse(self.one.connection.over)
