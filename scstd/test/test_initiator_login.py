# SPDX-License-Identifier: MIT
"""
Tests for `scstd.initiator.login` against `scstd.protocols.wire.login`, and against
targets that do not do as they should.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.login import (
    MOST_RESPONSES,
    InitiatorLogin,
    LoginOptions,
    LoginRefused,
)
from scstd.initiator.requests import Requests
from scstd.initiator.session import InitiatorSession
from scstd.initiator.url import TargetURL
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.wire import chap
from scstd.protocols.wire.codes import CONTINUE, TRANSIT
from scstd.protocols.wire.keys import LOCAL
from scstd.protocols.wire.pdu import LoginResponse
from scstd.protocols.wire.text import decode, encode
from scstd.test.initiator import INITIATOR, TARGET, serve
from scstd.test.pairing import PairedConnection
from scstd.test.stores import memory

JOE = ("joe", b"one-secret-of-joe")
VAULT = ("vault", b"our-own-secret!!")


class PairTests(SynchronousTestCase):
    """
    With a target of ours.
    """

    def log_in(self, options: LoginOptions, **fields: Any) -> Any:
        """Log in to a target; return what went wrong, None if nothing did."""
        node, _target, _units = serve(memory(), limits=TargetSettings(**fields))
        self.node = node
        self.session = session = InitiatorSession(INITIATOR, options=options)
        side = PairedConnection(node)
        ended: list[Any] = []
        self.link = session.connect(on_login=ended.append)
        for _round in range(20):
            side.feed(self.link.take_output())
            session.receive_data(self.link, side.take())
        (found,) = ended
        return found

    def test_keys(self) -> None:
        """What was agreed on is what the target has agreed on."""
        keys = [
            ("HeaderDigest", "CRC32C,None"),
            ("DataDigest", "None"),
            ("MaxRecvDataSegmentLength", "65536"),
            ("MaxBurstLength", "16384"),
            ("ErrorRecoveryLevel", "2"),
            ("InitialR2T", "No"),
            ("MaxOutstandingR2T", "0x4"),
            ("X-none.of.ours", "1"),
        ]
        local = {**LOCAL, "ErrorRecoveryLevel": 1}
        self.assertIsNone(self.log_in(LoginOptions(TARGET, keys), local=local))
        agreed = self.link.parameters
        self.assertEqual(agreed.header_digest, "CRC32C")
        self.assertEqual(agreed.max_burst_length, 16384)
        self.assertEqual(agreed.first_burst_length, 16384)
        self.assertEqual(agreed.error_recovery_level, 1)
        self.assertIs(agreed.initial_r2t, False)
        self.assertEqual(agreed.max_recv_data_segment_length, 65536)
        self.assertEqual(agreed.max_xmit_data_segment_length, 1 << 20)
        self.assertEqual(self.link.keys["X-none.of.ours"], "NotUnderstood")
        self.assertTrue(self.link.header_digest)
        self.assertFalse(self.link.data_digest)
        self.assertIsNotNone(self.session.recovery)

    def test_long(self) -> None:
        """Texts longer than one PDU go over, both ways."""
        keys = [(f"X-key{number}", "v" * 200) for number in range(60)]
        self.assertIsNone(self.log_in(LoginOptions(TARGET, keys)))
        self.assertEqual(self.link.keys["X-key59"], "NotUnderstood")

    def test_not_found(self) -> None:
        """Who is refused knows why, and the session is over."""
        error = self.log_in(LoginOptions(TARGET + "nobody"))
        self.assertEqual(error.status, 0x0203)
        self.assertTrue(self.session.over)


class ChapTests(SynchronousTestCase):
    """
    CHAP, against the authenticator of ours.
    """

    def exchange(
        self, options: LoginOptions, authenticator: Any, lie: bytes | None = None
    ) -> InitiatorLogin:
        """Carry out the security stage; with a *lie* the target's proof is that."""
        login = InitiatorLogin(Requests(INITIATOR, bytes(6)), options)
        (request,) = login.begin()
        stage, answers = 0, [("AuthMethod", "CHAP")]
        for _step in range(4):
            transit = bool(request.flags & TRANSIT)
            if transit and authenticator.finished():
                stage = request.flags & 3
            response = LoginResponse(flags=stage | (TRANSIT if transit else 0), tsih=1)
            response.data = encode(answers)
            following = login.receive(response)
            if not following:
                return login
            (request,) = following
            given = decode(bytes(request.data))
            answers = [] if stage else authenticator.step("CHAP", given)
            if lie is not None:
                answers = [
                    (key, f"0x{lie.hex()}" if key == "CHAP_R" else value)
                    for key, value in answers
                ]
            stage = 0 if not authenticator.finished() else stage
        raise AssertionError("the login does not end")

    def authenticator(self, **fields: Any) -> chap.CHAP:
        """Return the target's side."""
        return chap.CHAP({JOE[0]: JOE[1]}, **fields)

    def test_algorithms(self) -> None:
        """Each algorithm is as good as the other side's."""
        for algorithm in chap.ALGORITHMS:
            allowed = frozenset((algorithm,))
            there = self.authenticator(algorithms=allowed, outgoing=VAULT)
            options = LoginOptions(TARGET, account=JOE, target_account=VAULT)
            self.exchange(options, there)
            self.assertEqual(there.user, "joe")

    def test_liar(self) -> None:
        """A target that does not know its secret is not believed."""
        options = LoginOptions(TARGET, account=JOE, target_account=VAULT)
        there = self.authenticator(outgoing=VAULT)
        with self.assertRaises(LoginRefused) as caught:
            self.exchange(options, there, lie=b"x" * 20)
        self.assertEqual(caught.exception.status, 0x0201)

    def test_no_proof(self) -> None:
        """Nor is one that says nothing."""
        options = LoginOptions(TARGET, account=JOE, target_account=VAULT)
        login = InitiatorLogin(Requests(INITIATOR, bytes(6)), options)
        login.begin()
        response = LoginResponse(flags=TRANSIT | 1, tsih=1)
        self.assertRaises(LoginRefused, login.receive, response)

    def test_other_name(self) -> None:
        """Nor is one of another name."""
        options = LoginOptions(TARGET, account=JOE, target_account=("other", VAULT[1]))
        there = self.authenticator(outgoing=VAULT)
        self.assertRaises(LoginRefused, self.exchange, options, there)

    def test_algorithm_not_offered(self) -> None:
        """An algorithm that was not offered is refused."""
        login = InitiatorLogin(
            Requests(INITIATOR, bytes(6)),
            LoginOptions(TARGET, account=JOE, algorithms=(8, 7)),
        )
        login.begin()
        response = LoginResponse()
        response.data = encode(
            [("CHAP_A", "5"), ("CHAP_I", "1"), ("CHAP_C", "0x" + "ab" * 16)]
        )
        self.assertRaises(LoginRefused, login.receive, response)


class OddTests(SynchronousTestCase):
    """
    What targets say that they should not.
    """

    def setUp(self) -> None:
        """Begin a login."""
        self.login = InitiatorLogin(
            Requests(INITIATOR, bytes(6)),
            LoginOptions(TARGET, [("MaxBurstLength", "512")]),
        )
        self.login.begin()

    def say(self, *pairs: tuple[str, str], **fields: Any) -> list[Any]:
        """Have the target say something; return what is said to that."""
        response = LoginResponse(**fields)
        response.data = encode(pairs)
        found = self.login.receive(response)
        return [*map(bytes, (one.data for one in found))]

    def test_offers(self) -> None:
        """What the target offers is answered, and holds."""
        (said,) = self.say(("DataDigest", "CRC32C"), ("X-its", "1"), flags=4)
        self.assertEqual(
            decode(said), [("DataDigest", "CRC32C"), ("X-its", "NotUnderstood")]
        )
        self.assertEqual(self.say(flags=0x87, tsih=7), [])
        self.assertTrue(self.login.done)
        self.assertEqual(self.login.parameters.data_digest, "CRC32C")
        self.assertEqual(self.login.tsih, 7)

    def test_moved(self) -> None:
        """A target that is elsewhere says where."""
        where = ("TargetAddress", "10.0.0.1:3260,1")
        with self.assertRaises(LoginRefused) as caught:
            self.say(where, status_class=1, status_detail=1)
        self.assertEqual(caught.exception.moved_to, where[1])

    def test_refused_address(self) -> None:
        """An address is one only where it is a redirection."""
        with self.assertRaises(LoginRefused) as caught:
            self.say(("TargetAddress", "x"), status_class=2)
        self.assertEqual(caught.exception.moved_to, "")

    def test_in_parts(self) -> None:
        """A text in parts is asked for, and put together."""
        self.assertEqual(self.say(("X-a", "1"), flags=4 | CONTINUE), [b""])
        self.assertEqual(self.say(("X-b", "2"), flags=0x87, tsih=1), [])
        self.assertEqual(self.login.keys, {"X-a": "1", "X-b": "2"})

    def test_wrong_values(self) -> None:
        """An answer that cannot be ends the login."""
        for value in ("511", "1x", "16777216", "-1"):
            self.setUp()
            self.assertRaises(LoginRefused, self.say, ("MaxBurstLength", value))

    def test_no_text(self) -> None:
        """What is no text, or is longer than any, ends it."""
        for data in (b"x" * 10, b"=\0"):
            self.setUp()
            response = LoginResponse(flags=0x87)
            response.data = data
            self.assertRaises(LoginRefused, self.login.receive, response)

    def test_never_ends(self) -> None:
        """A target that never has done is left."""

        def go_on() -> None:
            for _response in range(MOST_RESPONSES + 1):
                self.say(flags=4)

        self.assertRaises(LoginRefused, go_on)

    def test_never_ends_in_parts(self) -> None:
        """Nor one whose text has no end."""

        def go_on() -> None:
            for _response in range(MOST_RESPONSES + 1):
                self.say(("X-a", "b"), flags=4 | CONTINUE)

        self.assertRaises(LoginRefused, go_on)


class URLTests(SynchronousTestCase):
    """
    URLs.
    """

    def test_parts(self) -> None:
        """Hosts of all kinds, accounts, the usual port."""
        for text, wanted in (
            ("iscsi://h:99/iqn.x/3", ("h", 99, "iqn.x", 3)),
            ("iscsi://h/iqn.x/0", ("h", 3260, "iqn.x", 0)),
            ("iscsi://[::1]:3261/iqn.x/0", ("::1", 3261, "iqn.x", 0)),
        ):
            found = TargetURL.parse(text)
            parts = (found.host, found.port, found.target, found.lun)
            self.assertEqual(parts, wanted)
        found = TargetURL.parse("iscsi+tls://joe%secret@h/iqn.x/0")
        self.assertTrue(found.tls)
        self.assertEqual(found.options().account, ("joe", b"secret"))
        self.assertNotIn("secret", repr(found))

    def test_none(self) -> None:
        """What is no URL is refused."""
        for text in (
            "",
            "iscsi://h/t",
            "http://h/t/0",
            "iscsi:///t/0",
            "iscsi://h/t/x",
        ):
            self.assertRaises(ValueError, TargetURL.parse, text)
