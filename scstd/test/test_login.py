# SPDX-License-Identifier: MIT
"""
Tests for `scstd.protocols.wire.login` and `scstd.protocols.engine.login_phase`: the login phase.
"""

from __future__ import annotations

import stringprep
import unicodedata

from twisted.trial.unittest import SynchronousTestCase

from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.wire.login_status import LoginStatus
from scstd.protocols.wire.names import folded, normal_name
from scstd.protocols.wire.pdu import LoginResponse
from scstd.protocols.wire.text import decode, encode
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import memory

NAMES = [("InitiatorName", INITIATOR), ("TargetName", TARGET)]


class LoginTests(SynchronousTestCase):
    """
    Stages, names, statuses.
    """

    def setUp(self) -> None:
        """Make a node."""
        self.limits = TargetSettings()
        self.node, self.target, _units = serve(memory(), limits=self.limits)
        self.one = Initiator(self.node)

    def answer(self, request: object) -> LoginResponse:
        """Send a request, return its response."""
        self.one.send(request)  # type: ignore[arg-type]
        response: LoginResponse = self.one.one(LoginResponse)
        return response

    def status(self, *pairs: tuple[str, str], **fields: object) -> int:
        """Return the status of a login by one request."""
        one = Initiator(self.node)
        one.send(one.login_request(pairs, **fields))
        response = one.one(LoginResponse)
        self.assertEqual(one.connection.over, bool(response.status_class))
        status: int = response.status_class << 8 | response.status_detail
        return status

    def test_one_request(self) -> None:
        """One request with CSG 1, NSG 3 and T logs in."""
        response = self.one.login()
        self.assertEqual(response.status_class, 0)
        self.assertEqual(response.flags, 0x87)
        self.assertNotIn(response.tsih, {0, 0xFFFF})
        self.assertEqual(self.one.keys["TargetPortalGroupTag"], "1")
        self.assertEqual(self.one.keys["MaxRecvDataSegmentLength"], "1048576")

    def test_two_stages(self) -> None:
        """Security, then operational negotiation, then the full feature phase."""
        one = self.one
        first = self.answer(
            one.login_request([*NAMES, ("AuthMethod", "CHAP,None")], flags=0x81)
        )
        self.assertEqual(first.flags, 0x81)
        self.assertEqual(dict(decode(first.data))["AuthMethod"], "None")  # type: ignore[arg-type]
        second = self.answer(
            one.login_request([("HeaderDigest", "CRC32C,None")], flags=0x87)
        )
        self.assertEqual(second.flags, 0x87)
        self.assertEqual(dict(decode(second.data))["HeaderDigest"], "CRC32C")  # type: ignore[arg-type]
        one.link.header_digest = True
        one.do(bytes(6))
        self.assertEqual(one.do(bytes(6)).status, 0)

    def test_stay(self) -> None:
        """Without T the stage stays, as often as it takes."""
        one = self.one
        self.assertEqual(self.answer(one.login_request(NAMES, flags=0x04)).flags, 4)
        more = self.answer(one.login_request([("MaxConnections", "4")], flags=0x04))
        self.assertEqual(dict(decode(more.data)), {"MaxConnections": "1"})  # type: ignore[arg-type]
        self.assertEqual(self.answer(one.login_request([], flags=0x87)).flags, 0x87)

    def test_security_to_full_feature(self) -> None:
        """The operational stage may be left out."""
        self.assertEqual(self.status(*NAMES, flags=0x83), 0)

    def test_split_key(self) -> None:
        """A key may be cut in two by the C bit."""
        text = encode([*NAMES, ("InitialR2T", "No")])
        first = self.one.login_request([], flags=0x44)
        first.data = text[:30]
        response = self.answer(first)
        self.assertEqual((response.flags, response.data), (0x04, b""))
        second = self.one.login_request([], flags=0x87)
        second.data = text[30:]
        self.assertEqual(dict(decode(self.answer(second).data))["InitialR2T"], "No")  # type: ignore[arg-type]

    def test_long_answer(self) -> None:
        """An answer longer than 8192 bytes comes in parts with the C bit."""
        offers = [(f"X-org.scstd.key{number}", "1") for number in range(300)]
        first = self.answer(self.one.login_request([*NAMES, *offers], flags=0x87))
        self.assertEqual(first.flags & 0xC0, 0x40)
        self.assertEqual(len(first.data), 8192)
        second = self.answer(self.one.login_request([], flags=0x87))
        self.assertEqual(second.flags, 0x87)
        answers = dict(decode(bytes(first.data) + bytes(second.data)))
        self.assertEqual(answers["X-org.scstd.key299"], "NotUnderstood")

    def test_missing(self) -> None:
        """Names that are missing: status 0207h."""
        self.assertEqual(self.status(("TargetName", TARGET)), 0x0207)
        self.assertEqual(self.status(("InitiatorName", INITIATOR)), 0x0207)

    def test_not_found(self) -> None:
        """An unknown target, and one that may not be seen: 0203h."""
        self.assertEqual(
            self.status(NAMES[0], ("TargetName", "iqn.2026-11.org.scstd:no")), 0x0203
        )
        self.target.luns.clear()
        self.assertEqual(self.status(*NAMES), 0x0203)

    def test_disabled(self) -> None:
        """A target that is not enabled is not there; a node that is not, not now."""
        self.target.enabled = False
        self.assertEqual(self.status(*NAMES), 0x0203)
        self.node.enabled = False
        self.assertEqual(self.status(*NAMES), 0x0301)

    def test_statuses(self) -> None:
        """Each way of getting it wrong has its status."""
        for expected, pairs, fields in (
            (0x0205, NAMES, {"version_min": 1}),
            (0x0209, [*NAMES, ("SessionType", "Odd")], {}),
            (0x0201, [*NAMES, ("AuthMethod", "KRB5")], {"flags": 0x81}),
            (0x020A, NAMES, {"tsih": 77}),
            (0x0200, NAMES, {"flags": 0xC7}),
            (0x0200, NAMES, {"flags": 0x86}),
            (0x0200, NAMES, {"flags": 0x8B}),
            (0x0200, NAMES, {"flags": 0x84}),
            (0x0200, [("InitiatorName", "bad name"), NAMES[1]], {}),
            (0x0200, [*NAMES, ("TargetName", TARGET + "2")], {}),
        ):
            self.assertEqual(self.status(*pairs, **fields), expected, (pairs, fields))

    def test_malformed(self) -> None:
        """Text that is not text: 0200h."""
        for data in (b"InitiatorName", b"=x\0", b"a\xff=b\0", b"k" * 70 + b"=v\0"):
            one = Initiator(self.node)
            request = one.login_request([])
            request.data = data
            one.send(request)
            response = one.one(LoginResponse)
            self.assertEqual((response.status_class, response.status_detail), (2, 0))

    def test_differing_requests(self) -> None:
        """Requests of one login that differ in ISID, CID or tag are refused."""
        for field, value in (("isid", b"\x80\0\0\0\0\7"), ("cid", 9), ("itt", 9)):
            one = Initiator(self.node)
            one.send(one.login_request(NAMES, flags=0x04))
            one.receive()
            one.send(one.login_request([], **{field: value}))
            self.assertEqual(one.one(LoginResponse).status_class, 2, field)

    def test_endless(self) -> None:
        """A login of more requests than any honest one is refused."""
        one = self.one
        one.send(one.login_request(NAMES, flags=0x04))
        for _number in range(256):
            one.send(one.login_request([], flags=0x04))
        self.assertTrue(one.connection.over)

    def test_second_connection(self) -> None:
        """A second connection in a session is refused: 0206h."""
        tsih = self.one.login().tsih
        self.assertEqual(self.status(*NAMES, tsih=tsih, cid=1), 0x0206)

    def test_most_sessions(self) -> None:
        """MaxSessions limits the sessions of a target: 0302h."""
        self.limits.max_sessions = 1
        self.one.login()
        other = [("InitiatorName", INITIATOR + "2"), NAMES[1]]
        self.assertEqual(self.status(*other), LoginStatus.OUT_OF_RESOURCES)
        self.assertEqual(self.status(*NAMES), 0)

    def test_alias(self) -> None:
        """A target's alias is declared."""
        self.limits.alias = "the big one"
        self.one.login()
        self.assertEqual(self.one.keys["TargetAlias"], "the big one")

    def test_ascii_folds_as_the_tables_have_it(self) -> None:
        """The short way of ASCII names is what RFC 3722 makes of each character."""
        for one in map(chr, range(128)):
            kept = "" if stringprep.in_table_b1(one) else stringprep.map_table_b2(one)
            self.assertEqual(folded(one), unicodedata.normalize("NFKC", kept))

    def test_names(self) -> None:
        """Names are compared in their normal form."""
        self.assertEqual(normal_name("IQN.2026-11.Org.Scstd:Test"), TARGET)
        self.assertEqual(normal_name("eui.02004567A425678D"), "eui.02004567a425678d")
        self.assertEqual(
            self.status(("InitiatorName", INITIATOR.upper()), ("TargetName", TARGET)), 0
        )
