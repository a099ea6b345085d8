# SPDX-License-Identifier: MIT
"""
Single sentences of RFC 7143 sections 4, 6 and 7 about names, logins, texts and discovery:
a test each, beside those of `scstd.test.test_rules`.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from scstd.attributes import ConfigurationError
from scstd.protocols.engine import async_message
from scstd.protocols.target_names import check_iqn
from scstd.protocols.wire.codes import CONTINUE, FINAL, RejectReason
from scstd.protocols.wire.login_status import LoginError
from scstd.protocols.wire.names import normal_name, wanted_name
from scstd.protocols.wire.pdu import (
    AsynchronousMessage,
    DataOut,
    LoginResponse,
    NOPOut,
    Reject,
    SCSICommand,
    SNACKRequest,
    TaskManagementRequest,
    TextResponse,
)
from scstd.protocols.wire.text import decode
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import memory
from scstd.test.test_rules import Sessions, limits

NAMES = [("InitiatorName", INITIATOR), ("TargetName", TARGET)]
STEM = "iqn.2026-11.org.scstd:"


class NameTests(SynchronousTestCase):
    """
    iSCSI names (section 4.2.7).
    """

    def test_prepared(self) -> None:
        """What makes no difference in a name is taken out of it (section 4.2.7.2)."""
        for name, normal in (
            ("IQN.2026-11.Org.Scstd:Stra\u00dfe", STEM + "strasse"),
            (STEM + "a\u00adb\u200bc", STEM + "abc"),
            (STEM + "e\u0301", STEM + "\u00e9"),
            (STEM + "\uff11\ufb01", STEM + "1fi"),
            (STEM + "\u65e5\u672c", STEM + "\u65e5\u672c"),
        ):
            self.assertEqual(normal_name(name), normal)

    def test_prohibited(self) -> None:
        """Characters that no name may have (section 4.2.7.2)."""
        for character in " _/@\t\u00a0\u2028\u3000\u3002\ue000\ufffd\u0378\u202e\u05d0":
            with self.assertRaises(LoginError):
                normal_name(f"{STEM}a{character}b")

    def test_longest(self) -> None:
        """A name has up to 223 bytes, and those are taken (section 4.2.7.1)."""
        longest = STEM + "n" * (223 - len(STEM))
        self.assertEqual(normal_name(longest), longest)
        with self.assertRaises(LoginError):
            normal_name(longest + "n")
        node, _target, _units = serve(memory())
        self.assertEqual(Initiator(node, name=longest).login().status_class, 0)

    def test_configured(self) -> None:
        """What is taken as a target's name an initiator can ask for, and only that."""
        for character in "/=;A ":
            with self.assertRaises(ConfigurationError):
                check_iqn(f"{STEM}a{character}b")
        for name in (STEM + "a:b-c.d\u00e9", STEM + "a_b@#", "iqn.2015-1.work:group"):
            check_iqn(name)
            self.assertEqual(wanted_name(name), name)


class LoginTests(SynchronousTestCase):
    """
    The login phase (section 6.3).
    """

    def setUp(self) -> None:
        """Make a node."""
        self.node, _target, _units = serve(memory(), limits=limits())

    def status(self, **fields: Any) -> tuple[int, Initiator]:
        """Return the status of a login by one request, and who sent it."""
        one = Initiator(self.node)
        one.send(one.login_request(NAMES, **fields))
        response = one.one(LoginResponse)
        return response.status_class << 8 | response.status_detail, one

    def test_reserved_when_refused(self) -> None:
        """T, CSG and NSG are reserved in a response that refuses (section 6.3.1)."""
        for flags in (0x87, 0xC7, 0x86):
            one = Initiator(self.node)
            one.send(one.login_request(NAMES[:1], flags=flags))
            self.assertEqual(one.one(LoginResponse).flags, 0)

    def test_what_a_login_is(self) -> None:
        """What becomes of a login by its ISID, TSIH and CID (section 6.3.1, table)."""
        other = b"\x80\0\0\0\0\7"
        self.assertEqual(self.status(tsih=9)[0], 0x020A)
        code, first = self.status()
        self.assertEqual(code, 0)
        (session,) = self.node.sessions()
        tsih = session.tsih
        self.assertEqual(self.status(isid=other, tsih=tsih)[0], 0x020A)
        self.assertEqual(self.status(tsih=tsih + 1)[0], 0x020A)
        self.assertEqual(self.status(isid=other)[0], 0)
        self.assertEqual(len(self.node.sessions()), 2)
        code, again = self.status(tsih=tsih)
        self.assertEqual(code, 0)
        self.assertTrue(first.connection.over)
        self.assertIs(again.connection.session, session)
        self.assertEqual(self.status()[0], 0)
        self.assertTrue(session.closed)
        self.assertTrue(again.connection.over)
        self.assertEqual(len(self.node.sessions()), 2)

    def test_portal_group_tag(self) -> None:
        """It is in the first response after a text is whole, and in no other."""
        one = Initiator(self.node)
        flags = (0x44, 0x04, 0x87)
        told = []
        for number, pairs in enumerate((NAMES[:1], NAMES[1:], [])):
            one.send(one.login_request(pairs, flags=flags[number]))
            response = one.one(LoginResponse)
            told.append("TargetPortalGroupTag" in dict(decode(bytes(response.data))))
        self.assertEqual(told, [False, True, False])

    def test_unknown_key_twice(self) -> None:
        """A key that is not understood may not come again either (section 6.3)."""
        odd = ("X-org.scstd.odd", "1")
        for flags in (0x00, 0x04):
            one = Initiator(self.node)
            one.send(one.login_request([*NAMES, odd], flags=flags))
            self.assertEqual(one.one(LoginResponse).status_class, 0)
            one.send(one.login_request([odd], flags=flags))
            response = one.one(LoginResponse)
            self.assertEqual((response.status_class, response.status_detail), (2, 0))

    def test_who_one_is_twice(self) -> None:
        """But who an initiator is it may say again: some do."""
        one = Initiator(self.node)
        one.send(one.login_request(NAMES, flags=0x04))
        one.receive()
        one.send(one.login_request(NAMES))
        self.assertEqual(one.one(LoginResponse).status_class, 0)

    def test_statuses_by_connection(self) -> None:
        """StatSN is each connection's own (section 4.2.2.2)."""
        one = Initiator(self.node).ready(MaxConnections="2")
        two = Initiator(self.node)
        two.cmd_sn = one.cmd_sn
        request = two.login_request(NAMES, tsih=self.node.sessions()[0].tsih, cid=1)
        request.exp_stat_sn = 5000
        two.send(request)
        self.assertEqual(two.one(LoginResponse).stat_sn, 5000)
        two.send(two.ping())
        self.assertEqual(two.receive()[0].stat_sn, 5001)
        before = one.exp_stat_sn
        one.send(one.ping())
        self.assertEqual(one.receive()[0].stat_sn, before)


class TextTests(Sessions):
    """
    Texts in the full feature phase (sections 6.2 and 6.4).
    """

    def test_end_and_more(self) -> None:
        """A request that ends, and says that more follows, is rejected (section 6.2)."""
        request = self.one.text(("X-org.scstd.odd", "1"))
        request.flags = FINAL | CONTINUE
        self.one.send(request)
        self.assertEqual(self.one.one(Reject).reason, RejectReason.PROTOCOL_ERROR)

    def test_final(self) -> None:
        """An empty answer to a request that ends ends, too (section 6.4)."""
        self.one.send(self.one.text())
        response = self.one.one(TextResponse)
        self.assertEqual((response.flags, response.ttt), (FINAL, 0xFFFFFFFF))

    def test_not_final(self) -> None:
        """A response that does not end has a Target Transfer Tag (section 6.4)."""
        request = self.one.text(("X-org.scstd.odd", "1"))
        request.flags = 0
        self.one.send(request)
        response = self.one.one(TextResponse)
        self.assertEqual(response.flags, 0)
        self.assertNotEqual(response.ttt, 0xFFFFFFFF)

    def test_before_all_was_received(self) -> None:
        """While an answer goes on the initiator sends no text, in a login neither
        (section 6.2).
        """
        many = [(f"X-org.scstd.key{number}", "1") for number in range(300)]
        for flags, data in ((FINAL, b"X-a=1\0"), (CONTINUE, b"")):
            request = self.one.text(*many)
            self.one.send(request)
            response = self.one.one(TextResponse)
            self.assertEqual(response.flags, CONTINUE)
            more = self.one.text(itt=request.itt, ttt=response.ttt, flags=flags)
            more.data = data
            self.one.send(more)
            self.assertEqual(self.one.one(Reject).reason, RejectReason.PROTOCOL_ERROR)
        for flags, data in ((0x87, b"X-a=1\0"), (0x44, b"")):
            one = Initiator(self.node, isid=b"\x80\0\0\0\0\2")
            one.send(one.login_request([*NAMES, *many]))
            self.assertEqual(one.one(LoginResponse).flags, 0x44)
            login = one.login_request([], flags=flags)
            login.data = data
            one.send(login)
            self.assertEqual(one.one(LoginResponse).status_class, 2)

    def test_endless(self) -> None:
        """A sequence of texts that never ends is rejected, long before it is (section
        6.2); 64 KiB of it are taken (section 6.1).
        """
        itt, ttt, taken = 77, 0xFFFFFFFF, 0
        for number in range(400):
            pairs = [(f"X-{number}-{more}", "v" * 1000) for more in range(8)]
            request = self.one.text(*pairs, itt=itt, ttt=ttt)
            request.flags = 0
            self.one.send(request)
            (response,) = self.one.receive()
            if isinstance(response, Reject):
                break
            taken += len(request.data)
            ttt = response.ttt
        self.assertEqual(response.reason, RejectReason.PROTOCOL_ERROR)
        self.assertGreater(taken, 1 << 16)
        self.assertIsNone(self.one.connection.text)

    def test_node_architecture(self) -> None:
        """X#NodeArchitecture is known, and has no answer (sections 6.2 and 13.26)."""
        one = Initiator(self.node, isid=b"\x80\0\0\0\0\2")
        pair = ("X#NodeArchitecture", "OS/1,HBA/2")
        one.send(one.login_request([*NAMES, pair]))
        response = one.one(LoginResponse)
        self.assertEqual(response.status_class, 0)
        self.assertNotIn(pair[0], dict(decode(bytes(response.data))))


class DiscoveryTests(SynchronousTestCase):
    """
    Discovery sessions (sections 4.3 and 7.4).
    """

    def setUp(self) -> None:
        """Begin one."""
        self.node, _target, _units = serve(memory(), limits=limits())
        self.one = Initiator(self.node)
        self.one.login(None)

    def test_only_send_targets(self) -> None:
        """A text without SendTargets is rejected; one that goes on has had it."""
        for pairs in ([], [("MaxRecvDataSegmentLength", "4096")]):
            self.one.send(self.one.text(*pairs))
            self.assertEqual(self.one.one(Reject).reason, RejectReason.PROTOCOL_ERROR)
        self.assertEqual(
            self.one.connection.parameters.max_xmit_data_segment_length, 8192
        )
        request = self.one.text(("SendTargets", "All"))
        request.flags = 0
        self.one.send(request)
        response = self.one.one(TextResponse)
        more = self.one.text(
            ("MaxRecvDataSegmentLength", "4096"), itt=request.itt, ttt=response.ttt
        )
        self.one.send(more)
        self.assertEqual(self.one.one(TextResponse).flags, FINAL)

    def test_all_others(self) -> None:
        """All other requests are rejected."""
        for pdu in (
            NOPOut(first=0x40, itt=1),
            SCSICommand(first=0x41, itt=2),
            TaskManagementRequest(first=0x42, flags=0x82, itt=3),
            DataOut(itt=4),
            SNACKRequest(itt=5),
        ):
            self.one.send(pdu)
            self.assertEqual(self.one.one(Reject).reason, RejectReason.PROTOCOL_ERROR)

    def test_says_nothing_by_itself(self) -> None:
        """The target sends nothing of its own: it closes (section 7.4.3)."""
        self.one.connection.tick(31)
        self.assertTrue(self.one.connection.over)
        self.assertEqual(self.one.receive(), [])

    def test_joining_ends_no_discovery(self) -> None:
        """A named discovery ends for a new session, not for a further connection
        (section 7.4.2.2).
        """
        one = Initiator(self.node).ready(MaxConnections="2")
        named = Initiator(self.node)
        named.login(None, TargetName=TARGET.upper())
        two = Initiator(self.node)
        two.cmd_sn = one.cmd_sn
        tsih = self.node.sessions()[0].tsih
        self.assertEqual(two.login(tsih=tsih, cid=1).status_class, 0)
        self.assertFalse(named.connection.over)
        Initiator(self.node).login()
        self.assertTrue(named.connection.over)


class ReservationTests(Sessions):
    """
    RESERVE and RELEASE (section 4.4.3.2).
    """

    def test_reserve(self) -> None:
        """A reservation outlives the connections of a session that is continued, but
        not the session, though one with the same names takes its place.
        """
        other = Initiator(self.node, name=INITIATOR + "2").ready()
        ready, reserve = bytes(6), bytes.fromhex("160000000000")
        self.assertEqual(self.one.do(reserve).status, 0)
        self.one.connection.disconnected()
        self.assertEqual(other.do(ready).status, 0x18)
        self.one = self.join(0)
        self.assertEqual(other.do(ready).status, 0x18)
        Initiator(self.node).login()
        self.assertEqual(other.do(ready).status, 0)


class ConnectionTests(Sessions):
    """
    Connections of one session (sections 4.2.5.1 and 4.2.6).
    """

    level = 1

    def test_snack_elsewhere(self) -> None:
        """A SNACK is for its own connection: elsewhere there is no such task."""
        two = self.join(1)
        pdu = self.start()
        self.store.go()
        self.one.receive()
        two.send(SNACKRequest(flags=FINAL, itt=pdu.itt))
        self.assertEqual(two.one(Reject).reason, RejectReason.PROTOCOL_ERROR)
        self.one.send(SNACKRequest(flags=FINAL, itt=pdu.itt))
        self.assertEqual(self.one.receive()[0].itt, pdu.itt)

    def test_dropped_connection_is_announced(self) -> None:
        """A connection that we drop is announced (section 4.2.6)."""
        async_message.drop_connection(self.one.connection, "a test")
        message = self.one.one(AsynchronousMessage)
        self.assertEqual((message.async_event, message.parameter1), (2, 0))
        self.assertTrue(self.one.connection.over)
