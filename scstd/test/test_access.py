# SPDX-License-Identifier: MIT
"""
Tests for who may come in: CHAP, portals, groups by portal, redirection, host files.
"""

from __future__ import annotations

import base64
import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from scstd.protocols.engine.access_control import (
    Redirection,
    portal_allowed,
)
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.hosts import Hosts
from scstd.protocols.wire.chap import ALGORITHMS, CHAP, binary, response
from scstd.protocols.wire.login_status import LoginError, LoginStatus
from scstd.protocols.wire.pdu import LoginResponse
from scstd.protocols.wire.text import decode
from scstd.test.generating import examples
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import memory

NAMES = [("InitiatorName", INITIATOR), ("TargetName", TARGET)]


JOE = ("joe", "twelve-bytes-")


OURS = ("target", "another-twelve")


def proof(algorithm: int, keys: dict[str, str], secret: str) -> str:
    """Return CHAP_R for the target's challenge."""
    made = response(
        algorithm, int(keys["CHAP_I"]), secret.encode(), binary(keys["CHAP_C"])
    )
    return "0x" + made.hex()


class CHAPTests(SynchronousTestCase):
    """
    A login that has to prove who it is.
    """

    def setUp(self) -> None:
        """Serve a target with an account for each direction."""
        self.limits = TargetSettings()
        self.limits.access.incoming = (JOE, ("ann", "the-secret-of-ann"))
        self.limits.access.outgoing = OURS
        self.node, _target, _units = serve(memory(), limits=self.limits)
        self.one = Initiator(self.node)

    def ask(self, *pairs: tuple[str, str], flags: int = 0) -> dict[str, str]:
        """Send a request of the security stage; return the keys of its answer."""
        self.one.send(self.one.login_request(pairs, flags=flags))
        self.answer: LoginResponse = self.one.one(LoginResponse)
        return dict(decode(bytes(self.answer.data)))

    @property
    def status(self) -> int:
        """The status of the last answer."""
        return self.answer.status_class << 8 | self.answer.status_detail

    def challenge(self, algorithms: str = "7") -> dict[str, str]:
        """Get as far as the challenge."""
        keys = self.ask(*NAMES, ("AuthMethod", "CHAP,None"))
        self.assertEqual(keys["AuthMethod"], "CHAP")
        return self.ask(("CHAP_A", algorithms))

    def test_every_algorithm(self) -> None:
        """The first of the initiator's algorithms that is allowed is taken."""
        for algorithm in ALGORITHMS:
            self.one = Initiator(self.node, isid=bytes((0x80, 0, 0, 0, 0, algorithm)))
            keys = self.challenge(f"99,{algorithm},5")
            self.assertEqual(keys["CHAP_A"], str(algorithm))
            answer = proof(algorithm, keys, JOE[1])
            self.ask(("CHAP_N", "joe"), ("CHAP_R", answer), flags=0x83)
            self.assertEqual((self.status, self.answer.flags), (0, 0x83))
            self.assertEqual(self.one.do(bytes(6)).status, 2)
            self.assertEqual(self.one.do(bytes(6)).status, 0)

    def test_mutual(self) -> None:
        """The target proves itself to who asks, in hex or base64, of any length."""
        for number, length in enumerate((1, 16, 1024)):
            self.one = Initiator(self.node, isid=bytes((0x80, 0, 0, 0, 0, number)))
            keys = self.challenge()
            asked = random.Random(length).randbytes(length)
            said = self.ask(
                ("CHAP_N", "joe"),
                ("CHAP_R", proof(7, keys, JOE[1])),
                ("CHAP_I", "0x11"),
                ("CHAP_C", "0b" + base64.b64encode(asked).decode()),
                flags=0x83,
            )
            self.assertEqual((self.status, said["CHAP_N"]), (0, "target"))
            right = response(7, 0x11, OURS[1].encode(), asked)
            self.assertEqual(binary(said["CHAP_R"]), right)

    def join(self, user: tuple[str, str], **fields: int) -> int:
        """Log in as *user*; return the status."""
        fields["flags"] = 0

        def ask(*pairs: tuple[str, str]) -> dict[str, str]:
            self.one.send(self.one.login_request(pairs, **fields))
            self.answer = self.one.one(LoginResponse)
            return dict(decode(bytes(self.answer.data)))

        ask(*NAMES, ("AuthMethod", "CHAP"))
        keys = ask(("CHAP_A", "7"))
        fields["flags"] = 0x83
        ask(("CHAP_N", user[0]), ("CHAP_R", proof(7, keys, user[1])))
        return self.status

    def test_identity_of_a_session(self) -> None:
        """Every connection of a session is the same user's, and none does without a
        proof (RFC 7143 section 9.2).
        """
        self.node.failure_delay = 0
        self.limits.local = {**self.limits.local, "MaxConnections": 4}
        self.assertEqual(self.join(JOE), 0)
        (session,) = self.node.sessions()
        session.connection.parameters.max_connections = 4
        first = self.one.connection
        ann = ("ann", "the-secret-of-ann")
        for cid, user, expected in ((1, ann, 0x0201), (1, JOE, 0), (0, ann, 0x0201)):
            self.one = Initiator(self.node)
            status = self.join(user, tsih=session.tsih, cid=cid)
            self.assertEqual(status, expected)
        self.assertFalse(first.over)
        self.limits.access.incoming = ()
        self.one = Initiator(self.node)
        response = self.one.login(tsih=session.tsih, cid=2)
        self.assertEqual((response.status_class, response.status_detail), (2, 1))
        self.assertEqual(sorted(session.connections), [0, 1])

    def test_chap_pitfall_refused(self) -> None:
        """
        Wrong secrets, names, digests, reflection: status 0201, and over.  Keys that are
        missing or nonsense have statuses of their own (RFC 7143 section 9.2).
        """
        for status, change in (
            (0x0201, {"CHAP_R": "0x" + "00" * 32}),
            (0x0201, {"CHAP_R": "0x00"}),
            (0x0200, {"CHAP_R": "zz"}),
            (0x0200, {"CHAP_R": "0b!!"}),
            (0x0201, {"CHAP_N": "ann"}),
            (0x0201, {"CHAP_N": "nobody"}),
            (0x0201, {"CHAP_N": ""}),
            (0x0200, {"CHAP_C": "0x" + "11" * 1025, "CHAP_I": "1"}),
            (0x0207, {"CHAP_C": "0x11"}),
            (0x0207, {"CHAP_I": "1"}),
            (0x0200, {"CHAP_C": "0x11", "CHAP_I": "256"}),
            (0x0200, {"CHAP_C": "0x", "CHAP_I": "2"}),
            (0x0201, {"CHAP_C": "reflected", "CHAP_I": "7"}),
        ):
            self.one = Initiator(self.node)
            keys = self.challenge()
            good = {"CHAP_N": "joe", "CHAP_R": proof(7, keys, JOE[1]), **change}
            if good.get("CHAP_C") == "reflected":
                good["CHAP_C"] = keys["CHAP_C"]
            self.ask(*good.items(), flags=0x83)
            self.assertEqual(self.status, status, change)
            self.assertTrue(self.one.connection.over)
        self.assertEqual(self.limits.access.failures, 6)

    def test_incomplete(self) -> None:
        """A step without its keys, or with one twice, is no failed proof."""
        for status, pairs in (
            (0x0207, [("CHAP_N", "joe")]),
            (0x0207, [("CHAP_R", "0x11")]),
            (0x0200, [("CHAP_N", "joe"), ("CHAP_N", "joe"), ("CHAP_R", "0x11")]),
        ):
            self.one = Initiator(self.node)
            self.challenge()
            self.ask(*pairs, flags=0x83)
            self.assertEqual(self.status, status, pairs)
            self.assertTrue(self.one.connection.over)

    def test_chap_pitfall_skipped(self) -> None:
        """Nobody gets past: not without a method, nor with None, nor by another stage."""
        for status, pairs, flags in (
            (0x0201, NAMES, 0x87),
            (0x0201, [*NAMES, ("AuthMethod", "None")], 0x83),
            (0x0201, [*NAMES, ("AuthMethod", "SRP")], 0x83),
            (0x0200, [*NAMES, ("AuthMethod", "CHAP"), ("CHAP_N", "joe")], 0x83),
            (0x0200, [*NAMES, ("CHAP_A", "5"), ("CHAP_N", "joe")], 0x83),
        ):
            self.one = Initiator(self.node)
            self.ask(*pairs, flags=flags)
            self.assertEqual(self.status, status, pairs)
            self.assertTrue(self.one.connection.over)

    def test_transit_too_early(self) -> None:
        """A T bit before the proof changes nothing."""
        keys = self.ask(*NAMES, ("AuthMethod", "CHAP"), flags=0x81)
        self.assertEqual((keys["AuthMethod"], self.answer.flags), ("CHAP", 0))
        self.ask(flags=0x81)
        self.assertEqual((self.status, self.answer.flags), (0, 0))

    def test_no_algorithm(self) -> None:
        """Algorithms that are not allowed are not taken."""
        self.limits.access.algorithms = ("SHA-256", "SHA3-256")
        self.challenge("5,6")
        self.assertEqual(self.status, 0x0201)

    def test_twice(self) -> None:
        """A second round is refused: an identifier is used once."""
        self.challenge()
        self.assertEqual(self.status, 0)
        self.ask(("CHAP_A", "7"))
        self.assertEqual(self.status, 0x0200)

    def test_no_accounts(self) -> None:
        """Without accounts an initiator that wants CHAP alone is refused."""
        self.limits.access.incoming = ()
        self.ask(*NAMES, ("AuthMethod", "CHAP"))
        self.assertEqual(self.status, 0x0201)

    def test_delay(self) -> None:
        """A wrong proof is answered late."""
        self.node.failure_delay = 1.0
        self.ask(*NAMES, ("AuthMethod", "CHAP"))
        self.ask(("CHAP_A", "7"))
        wrong = (("CHAP_N", "joe"), ("CHAP_R", "0x11"))
        self.one.send(self.one.login_request(wrong, flags=0x83))
        self.assertEqual(self.one.receive(), [])
        self.one.connection.tick(0.5)
        self.assertEqual(self.one.receive(), [])
        self.one.connection.tick(1.0)
        self.assertEqual(self.one.one(LoginResponse).status_detail, 1)

    def test_discovery(self) -> None:
        """Discovery has accounts of its own."""
        self.node.access.incoming = (JOE,)
        self.assertEqual(self.one.login(None).status_class << 8, 0x0200)
        self.limits.access.incoming = ()
        self.assertEqual(Initiator(self.node).login().status_class, 0)

    def test_internal_portal(self) -> None:
        """Who is on the internal portal need not prove anything, if it does not ask."""
        self.node.internal_portal = "127.0.0.1"
        self.assertEqual(self.one.login().status_class, 0)
        self.one = Initiator(self.node, isid=b"\x80\0\0\0\0\2")
        self.ask(*NAMES, ("AuthMethod", "None"))
        self.assertEqual(self.status, 0x0201)

    @examples()
    @given(st.binary(min_size=1, max_size=1024))
    def test_binary(self, value: bytes) -> None:
        """Hex and base64, in either case, are the same bytes."""
        self.assertEqual(binary("0x" + value.hex()), value)
        self.assertEqual(binary("0X" + value.hex().upper()), value)
        self.assertEqual(binary("0b" + base64.b64encode(value).decode()), value)

    def test_secret_of_both(self) -> None:
        """One secret for both directions is refused at the login too, also where only
        the initiator proves itself (RFC 7143 section 9.2.1).
        """
        chap = CHAP({"joe": b"the-same-secret"}, ("us", b"the-same-secret"))
        keys = dict(chap.step("CHAP", [("CHAP_A", "5")]))
        pairs = [("CHAP_N", "joe"), ("CHAP_R", proof(5, keys, "the-same-secret"))]
        error = self.assertRaises(LoginError, chap.step, "CHAP", pairs)
        self.assertEqual(error.status, LoginStatus.AUTHENTICATION_FAILURE)


class GateTests(SynchronousTestCase):
    """
    Portals, groups, redirection.
    """

    def setUp(self) -> None:
        """Serve a target."""
        self.limits = TargetSettings()
        self.node, self.target, (self.unit,) = serve(memory(), limits=self.limits)

    def login(self) -> int:
        """Return the status of a login."""
        answer = Initiator(self.node).login()
        status: int = answer.status_class << 8 | answer.status_detail
        return status

    def test_patterns(self) -> None:
        """Any positive pattern has to match, if there are any; no negative one may."""
        for patterns, allowed in (
            ((), True),
            (("192.0.2.*",), True),
            (("192.0.2.?",), True),
            (("192.0.3.*",), False),
            (("192.0.3.*", "192.0.2.1"), True),
            (("!192.0.2.1",), False),
            (("!192.0.3.*",), True),
            (("*", "!192.0.2.1"), False),
        ):
            self.assertEqual(portal_allowed(patterns, "192.0.2.1:3260"), allowed)
        self.assertTrue(portal_allowed(("2001:db8::*",), "[2001:DB8::1]:3260"))

    def test_allowed_portal(self) -> None:
        """Where a target is not there it is not found, nor seen by discovery."""
        self.assertEqual(self.login(), 0)
        self.limits.access.allowed_portals = ("192.0.2.*",)
        self.assertEqual(self.login(), 0x0203)
        one = Initiator(self.node)
        one.login(None)
        self.assertEqual(list(self.node.records(one.connection)), [])
        self.limits.access.allowed_portals = ("127.*",)
        self.node.portals = lambda: ["192.0.2.1:3260", "127.0.0.2:3260"]
        (record,) = self.node.records(one.connection)
        self.assertEqual(record.addresses, ("127.0.0.1:3260,1", "127.0.0.2:3260,1"))

    def test_per_portal_acl(self) -> None:
        """A group may name the portal."""
        self.limits.access.per_portal_acl = True
        group = self.target.add_group("g", ["*#127.0.0.1"])
        self.assertEqual(self.login(), 0x0203)
        self.target.add_lun(0, self.unit, group=group)
        self.assertEqual(self.login(), 0)

    def test_redirect(self) -> None:
        """Redirection comes before anything has to be proved, and discovery goes on."""
        self.limits.access.incoming = (JOE,)
        for permanent, status in ((False, 0x0101), (True, 0x0102)):
            self.limits.access.redirect = Redirection("192.0.2.9:3260", permanent)
            one = Initiator(self.node)
            answer = one.login()
            found = answer.status_class << 8 | answer.status_detail
            self.assertEqual(found, status)
            self.assertEqual(one.keys["TargetAddress"], "192.0.2.9:3260")
        self.assertEqual(Initiator(self.node).login(None).status_class, 0)

    def test_suspended(self) -> None:
        """While logins are suspended the answer is 0301."""
        self.node.suspended = True
        self.assertEqual(self.login(), 0x0301)

    def test_hosts(self) -> None:
        """Denied and not allowed is refused; only the first line that names it counts."""
        allow, deny = Path(self.mktemp()), Path(self.mktemp())
        hosts = Hosts.of(Clock(), str(allow), str(deny))
        self.node.refused_host, self.node.look = hosts.refused, hosts.look

        def look() -> None:
            hosts.look(lambda: None)

        look()
        self.assertFalse(hosts.refused(TARGET, "192.0.2.1"))
        deny.write_text(f"# comment\n{TARGET} 192.0.2.0/24, [2001:db8::]/32\nALL ALL\n")
        look()
        self.assertTrue(hosts.refused(TARGET, "192.0.2.1"))
        self.assertTrue(hosts.refused(TARGET, "2001:db8::5"))
        self.assertFalse(hosts.refused(TARGET, "192.0.3.1"))
        self.assertTrue(hosts.refused("iqn.2026-11.org.other:x", "192.0.3.1"))
        allow.write_text("ALL 192.0.2.1\n")
        look()
        self.assertFalse(hosts.refused(TARGET, "192.0.2.1"))
        self.assertTrue(hosts.refused(TARGET, "192.0.2.2"))
        deny.write_text("ALL ALL\n")
        self.assertEqual(self.login(), 0x0203)
