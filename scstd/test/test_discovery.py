# SPDX-License-Identifier: MIT
"""
Tests for `scstd.protocols.wire.discovery`: Text Requests.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.wire.codes import RESERVED_TAG, RejectReason
from scstd.protocols.wire.pdu import NOPIn, Reject, SCSICommand, TextResponse
from scstd.protocols.wire.text import decode
from scstd.scsi.device import open_disk
from scstd.scsi.target import Target
from scstd.test.initiator import TARGET, Initiator, serve
from scstd.test.stores import memory

OTHER = "iqn.2026-11.org.scstd:other"
HERE = ("TargetAddress", "127.0.0.1:3260,1")


class SendTargetsTests(SynchronousTestCase):
    """
    SendTargets in both kinds of session.
    """

    def setUp(self) -> None:
        """Serve two targets, one of them for a few only."""
        self.node, self.target, units = serve(memory())
        other = Target(OTHER)
        other.add_lun(0, units[0])
        self.node.add_target(other, TargetSettings())
        hidden = Target("iqn.2026-11.org.scstd:hidden")
        group = hidden.add_group("few", ["iqn.*:friend"])
        hidden.add_lun(0, units[0], group=group)
        self.node.add_target(hidden, TargetSettings())

    def ask(self, one: Initiator, value: str) -> list[tuple[str, str]]:
        """Return the answer to SendTargets, in however many PDUs."""
        request = one.text(("SendTargets", value))
        one.send(request)
        response = one.one(TextResponse)
        data = bytes(response.data)
        while not response.flags & 0x80:
            self.assertNotEqual(response.ttt, RESERVED_TAG)
            one.send(one.text(itt=request.itt, ttt=response.ttt))
            response = one.one(TextResponse)
            data += bytes(response.data)
        self.assertEqual(response.ttt, RESERVED_TAG)
        return decode(data)

    def discovery(self) -> Initiator:
        """Return a discovery session."""
        one = Initiator(self.node)
        self.assertEqual(one.login(None).status_class, 0)
        return one

    def test_all(self) -> None:
        """All: each target that this initiator may see, with the portal it came to."""
        self.assertEqual(
            self.ask(self.discovery(), "All"),
            [("TargetName", OTHER), HERE, ("TargetName", TARGET), HERE],
        )

    def test_group(self) -> None:
        """A member of a group sees what the group has."""
        one = Initiator(self.node, name="iqn.2026-11.org.scstd:friend")
        one.login(None)
        names = [value for key, value in self.ask(one, "All") if key == "TargetName"]
        self.assertIn("iqn.2026-11.org.scstd:hidden", names)

    def test_name(self) -> None:
        """A name: that target, or nothing."""
        one = self.discovery()
        self.assertEqual(self.ask(one, OTHER), [("TargetName", OTHER), HERE])
        self.assertEqual(self.ask(one, OTHER + "2"), [])
        self.assertEqual(self.ask(one, "iqn.2026-11.org.scstd:hidden"), [])

    def test_empty(self) -> None:
        """Nothing: the session's own target, so only in a normal session."""
        self.assertEqual(self.ask(self.discovery(), ""), [("SendTargets", "Reject")])
        one = Initiator(self.node).ready()
        self.assertEqual(self.ask(one, ""), [("TargetName", TARGET), HERE])

    def test_all_in_normal_session(self) -> None:
        """All in a normal session: the session's own target."""
        one = Initiator(self.node).ready()
        self.assertEqual(self.ask(one, "All"), [("TargetName", TARGET), HERE])

    def test_portals(self) -> None:
        """The other portals of the node are told too."""
        self.node.portals = lambda: ["127.0.0.1:3260", "[::1]:3260"]
        found = self.ask(self.discovery(), TARGET)
        self.assertEqual(
            found, [("TargetName", TARGET), HERE, ("TargetAddress", "[::1]:3260,1")]
        )

    def test_long_answer(self) -> None:
        """An answer longer than a PDU comes in parts."""
        unit = open_disk("many", memory())
        for number in range(500):
            target = Target(f"iqn.2026-11.org.scstd:number{number:03}")
            target.add_lun(0, unit)
            self.node.add_target(target, TargetSettings())
        found = self.ask(self.discovery(), "All")
        self.assertEqual(len(found), 2 * 502)
        self.assertEqual(found[-1], HERE)

    def test_split_request(self) -> None:
        """A request in two parts is answered when it is whole."""
        one = self.discovery()
        request = one.text(("SendTargets", "All"))
        whole = bytes(request.data)
        request.flags, request.data = 0x40, whole[:5]
        one.send(request)
        response = one.one(TextResponse)
        self.assertEqual((response.flags, response.data), (0, b""))
        more = one.text(itt=request.itt, ttt=response.ttt)
        more.data = whole[5:]
        one.send(more)
        self.assertIn(("TargetName", TARGET), decode(bytes(one.one(TextResponse).data)))

    def test_unknown_key(self) -> None:
        """An unknown key is NotUnderstood."""
        odd, answer = ("X-org.scstd.odd", "1"), ("X-org.scstd.odd", "NotUnderstood")
        one = self.discovery()
        one.send(one.text(("SendTargets", TARGET), odd))
        self.assertIn(answer, decode(bytes(one.one(TextResponse).data)))
        one = Initiator(self.node).ready()
        one.send(one.text(odd))
        self.assertEqual(decode(bytes(one.one(TextResponse).data)), [answer])

    def test_unknown_tag(self) -> None:
        """A Target Transfer Tag that is not ours is rejected, and one that was; so is no
        text.
        """
        one = self.discovery()
        for ttt in (0x1234, 1):
            one.send(one.text(("SendTargets", "All"), ttt=ttt))
            self.assertEqual(one.one(Reject).reason, RejectReason.INVALID_PDU_FIELD)
        bad = one.text()
        bad.data = b"no text"
        one.send(bad)
        self.assertEqual(one.one(Reject).reason, RejectReason.PROTOCOL_ERROR)
        self.assertIn(("TargetName", TARGET), self.ask(one, "All"))

    def test_renegotiated(self) -> None:
        """MaxRecvDataSegmentLength may be declared anew."""
        one = Initiator(self.node).ready()
        one.send(one.text(("MaxRecvDataSegmentLength", "512")))
        one.one(TextResponse)
        ping = one.ping(bytes(700))
        one.send(ping)
        self.assertEqual(len(one.one(NOPIn).data), 512)

    def test_commands(self) -> None:
        """A SCSI command in a discovery session is a protocol error."""
        one = self.discovery()
        one.send(SCSICommand(itt=1, cmd_sn=one.cmd_sn))
        self.assertEqual(one.one(Reject).reason, RejectReason.PROTOCOL_ERROR)

    def test_idle(self) -> None:
        """A discovery session that is idle is closed: nobody needs it."""
        one = self.discovery()
        one.connection.tick(31)
        self.assertTrue(one.connection.over)
