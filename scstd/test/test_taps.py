# SPDX-License-Identifier: MIT
"""
Taps: what sees each PDU of a connection, in and out (`scstd.interfaces.taps`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scstd.initiator.commands import read10, write10
from scstd.interfaces.taps import ITapped
from scstd.protocols.engine.tapped import TappedPDU
from scstd.protocols.wire.codes import RejectReason, TaskManagementCode
from scstd.protocols.wire.pdu import (
    R2T,
    AsynchronousMessage,
    DataIn,
    LoginRequest,
    LoginResponse,
    LogoutRequest,
    LogoutResponse,
    NOPIn,
    NOPOut,
    Reject,
    SCSICommand,
    SCSIResponse,
    SNACKRequest,
    TaskManagementResponse,
    TextRequest,
    TextResponse,
)
from scstd.protocols.wire.text import encode
from scstd.scsi.sense import ASC
from scstd.test.initiator import INITIATOR, TARGET, Initiator, serve
from scstd.test.stores import memory
from scstd.test.tapping import PATTERN, READY, Bench, Ears, GoOn, Noting, Script


class SeeingTests(Bench):
    """
    What comes by a tap.
    """

    def test_nothing(self) -> None:
        """Without taps nothing is on the path, neither in nor out."""
        one = Initiator(self.node).ready()
        connection = one.connection
        self.assertIsNone(connection.tapped)
        self.assertEqual(connection.send, connection.put)
        attached = connection.taps.attach(self.make)
        assert attached is not None
        self.assertIsNotNone(connection.tapped)
        self.assertNotEqual(connection.send, connection.put)
        attached.detach()
        self.assertIsNone(connection.tapped)
        self.assertEqual(connection.send, connection.put)

    def test_incoming_alone(self) -> None:
        """A tap that takes no outgoing PDUs leaves the way out as it is."""
        one = Initiator(self.node).ready()
        one.connection.taps.attach(lambda _tapped: Ears())
        self.assertEqual(one.connection.send, one.connection.put)
        self.assertEqual(one.do(READY).status, 0)

    def test_every_kind(self) -> None:
        """Every PDU of a session comes by, with its data, from the login on."""
        self.node.taps.attach(self.make)
        one = Initiator(self.node)
        one.login(InitialR2T="Yes", ImmediateData="No")
        (script,) = self.scripts
        self.assertEqual(script.kinds(), [LoginRequest, LoginResponse])
        one.do(READY)
        (_command, response) = script.seen
        self.assertEqual(len(response.data), 20)
        self.assertEqual(script.kinds(), [SCSICommand, SCSIResponse])
        one.send(one.command(read10(0, 2), read=1024))
        self.store.go()
        self.assertEqual(bytes(script.seen[-1].data), PATTERN)
        self.assertEqual(script.kinds(), [SCSICommand, DataIn])
        one.send(one.command(write10(0, 1), write=512))
        self.assertEqual(script.kinds(), [SCSICommand, R2T])
        one.send(one.ping(b"hello"))
        self.assertEqual(bytes(script.seen[-1].data), b"hello")
        self.assertEqual(script.kinds(), [NOPOut, NOPIn])
        one.manage(TaskManagementCode.LOGICAL_UNIT_RESET)
        self.assertEqual(script.kinds()[1:], [TaskManagementResponse])
        one.send(TextRequest(itt=900, cmd_sn=one.cmd_sn, data=encode([("A", "b")])))
        one.cmd_sn += 1
        self.assertEqual(script.kinds(), [TextRequest, TextResponse])
        one.send(SNACKRequest(itt=77))
        self.assertEqual(script.kinds(), [SNACKRequest, Reject])
        self.session().notify(0, ASC.MODE_PARAMETERS_CHANGED)
        self.assertEqual(script.kinds(), [AsynchronousMessage])
        one.logout()
        self.assertEqual(script.kinds(), [LogoutRequest, LogoutResponse])
        self.assertEqual(script.ends, 1)

    def session(self) -> Any:
        """Return the one session."""
        (found,) = self.node.sessions()
        return found

    def test_what_a_tap_is_told(self) -> None:
        """Names, numbers and the phase of the connection."""
        self.node.taps.attach(self.make)
        one = Initiator(self.node)
        (script,) = self.scripts
        tapped = script.tapped
        self.assertEqual((tapped.initiator, tapped.phase), ("", "login"))
        one.login()
        self.assertEqual((tapped.initiator, tapped.target), (INITIATOR, TARGET))
        self.assertEqual((tapped.isid, tapped.cid), (one.isid, 0))
        self.assertEqual(tapped.tsih, self.session().tsih)
        self.assertEqual((tapped.peer, tapped.portal), ("test:1", "127.0.0.1:3260"))
        self.assertEqual((tapped.phase, tapped.attached), ("normal", True))
        one.logout()
        self.assertEqual((tapped.phase, tapped.tsih), ("over", 0))
        self.assertFalse(tapped.attached)

    def test_illegal(self) -> None:
        """What is not legal comes by too, and is rejected after that."""
        self.begin()
        self.one.send(self.one.login_request([]))
        self.assertEqual(self.one.one(Reject).reason, RejectReason.PROTOCOL_ERROR)
        self.assertEqual(self.script.kinds(), [LoginRequest, Reject])

    def test_same_bytes(self) -> None:
        """A tap that lets everything go on changes no byte, with digests and without."""
        for digests in ("None", "CRC32C"):
            said = []
            for taps in (0, 2):
                node, _target, _units = serve(memory())
                one = Noting(node)
                for _number in range(taps):
                    one.connection.taps.attach(self.make)
                one.login(
                    HeaderDigest=digests,
                    DataDigest=digests,
                    MaxRecvDataSegmentLength="1024",
                )
                one.do(READY)
                one.do(write10(0, 9), data=bytes(range(256)) * 18)
                one.do(read10(0, 9), read=9 * 512)
                one.do(bytes((0x12, 0, 0, 0, 37, 0)), read=37)
                one.send(one.ping(b"odd"))
                one.receive()
                one.send(SNACKRequest(itt=1))
                one.receive()
                one.logout()
                said.append(bytes(one.octets))
            self.assertEqual(said[0], said[1])


class OrderTests(Bench):
    """
    Several taps.
    """

    def test_order(self) -> None:
        """From the wire inwards: node, target, session, connection; outwards back."""
        words: list[str] = []

        def named(name: str) -> Callable[[ITapped], Script]:
            def note(direction: str) -> Callable[[TappedPDU, GoOn], None]:
                def tell(passing: TappedPDU, go_on: GoOn) -> None:
                    words.append(name + direction)
                    go_on(passing)

                return tell

            return lambda tapped: Script(
                tapped, name, on_incoming=note("<"), on_outgoing=note(">")
            )

        one = Initiator(self.node).ready()
        (session,) = self.node.sessions()
        one.connection.taps.attach(named("c"))
        session.taps.attach(named("s"))
        self.node.targets[TARGET].taps.attach(named("t"))
        self.node.taps.attach(named("n1"))
        self.node.taps.attach(named("n2"))
        one.do(READY)
        inwards = ["n1", "n2", "t", "s", "c"]
        expected = [name + "<" for name in inwards]
        self.assertEqual(words, expected + [name + ">" for name in inwards[::-1]])

    def test_places(self) -> None:
        """Each place's taps are those of its connections, those that come too."""
        self.node.targets[TARGET].taps.attach(self.make)
        one = Initiator(self.node).ready()
        self.assertEqual(len(self.scripts), 1)
        self.scripts[0].kinds()
        two = Initiator(self.node)
        two.login(tsih=one.connection.session.tsih, cid=1)  # type: ignore[union-attr]
        self.assertEqual(len(self.scripts), 1)

    def test_session_has_several(self) -> None:
        """A session's taps are on each of its connections, on a later one too."""
        one = Initiator(self.node).ready(MaxConnections="4")
        (session,) = self.node.sessions()
        attachment = session.taps.attach(self.make)
        two = Initiator(self.node)
        two.login(tsih=session.tsih, cid=1)
        other = Initiator(self.node, isid=b"\x80\0\0\0\0\2").ready()
        self.assertEqual([script.tapped.cid for script in self.scripts], [0, 1])
        self.assertIsNone(other.connection.tapped)
        attachment.detach()
        attachment.detach()
        self.assertEqual([script.ends for script in self.scripts], [1, 1])
        self.assertIsNotNone(one.connection)

    def test_group(self) -> None:
        """A tap of a group is on its sessions, while they are in it."""
        group = self.target.add_group("g", [])
        group.luns.update(self.target.luns)
        self.node.targets[TARGET].taps.attach(self.make, group="g")
        one = Initiator(self.node).ready()
        self.assertEqual(self.scripts, [])
        self.target.set_patterns(group, [INITIATOR])
        (script,) = self.scripts
        self.assertEqual(script.tapped.initiator, INITIATOR)
        self.target.remove_group(group)
        self.assertEqual(script.ends, 1)
        self.assertIsNone(one.connection.tapped)

    def test_left_alone(self) -> None:
        """A connection for which nothing is made has nothing on its path."""
        asked: list[ITapped] = []
        self.node.taps.attach(asked.append)
        one = Initiator(self.node).ready()
        self.assertEqual(len(asked), 1)
        self.assertIsNone(one.connection.tapped)

    def test_detaches_its_own(self) -> None:
        """Taking one off leaves those of others, of the same kind too."""
        self.begin()
        other = self.connection.taps.attach(self.make)
        assert other is not None
        assert self.attached is not None
        self.attached.detach()
        self.attached.detach()
        self.script.kinds()
        self.one.do(READY)
        self.assertEqual(self.script.kinds(), [])
        self.assertEqual(self.scripts[1].kinds(), [SCSICommand, SCSIResponse])
        other.detach()
        self.assertIsNone(self.connection.tapped)

    def test_detached_in_its_own_call(self) -> None:
        """A tap may take itself off while it has a PDU in hand, which goes on."""
        self.begin()

        def once(passing: TappedPDU, go_on: GoOn) -> None:
            self.script.tapped.detach()
            go_on(passing)

        self.script.on_incoming = once
        self.assertEqual(self.one.do(READY).status, 0)
        self.assertIsNone(self.connection.tapped)
