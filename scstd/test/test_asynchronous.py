# SPDX-License-Identifier: MIT
"""
Asynchronous Messages: what initiators are told without having asked, and how they are
asked to leave: `scstd.protocols.engine.async_message`.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.initiator.commands import read10, write10
from scstd.management.control.client import connect
from scstd.protocols.engine import async_message
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.wire.codes import FINAL
from scstd.protocols.wire.keys import LOCAL
from scstd.protocols.wire.pdu import AsynchronousMessage, LogoutRequest, LogoutResponse
from scstd.protocols.wire.states import ConnectionState, SessionState
from scstd.scsi.sense import ASC
from scstd.test.clients import need
from scstd.test.initiator import INITIATOR, Initiator, serve
from scstd.test.serving import Server
from scstd.test.stores import ManualStore, memory
from scstd.test.test_control import Connected, short_directory
from scstd.test.test_live import HEAD, KEPT
from scstd.test.test_tree import IQN, TARGET, login

CAPACITY, INQUIRY, LUNS = 0x2A09, 0x3F03, 0x3F0E


def several(**fields: Any) -> TargetSettings:
    """Return limits that let a session have several connections, and be continued."""
    local = {**LOCAL, "MaxConnections": 8, "DefaultTime2Retain": 20}
    return TargetSettings(local=local, **fields)


def events(initiator: Initiator) -> list[tuple[int, int]]:
    """Return LUN and additional sense code of the events that have come since."""
    assert initiator.receive() == []
    found, initiator.events = initiator.events, []
    return [
        (one.lun >> 48, int.from_bytes(bytes(one.data)[14:16], "big")) for one in found
    ]


def begin_write(initiator: Initiator) -> None:
    """Write a block, all of it with the command."""
    pdu = initiator.command(write10(0, 1), write=512)
    pdu.data = bytes(512)
    initiator.send(pdu)


class EventTests(SynchronousTestCase):
    """
    SCSI events: which unit attentions an initiator is told of at once.
    """

    def setUp(self) -> None:
        """Log in to two LUNs."""
        self.limits = TargetSettings()
        self.node, self.target, self.units = serve(
            memory(), memory(), limits=self.limits
        )
        self.one = Initiator(self.node).ready()
        self.other = Initiator(self.node, name=INITIATOR + "2").ready()

    def test_capacity(self) -> None:
        """Everybody is told of another capacity; the unit attention stays."""
        self.units[1].volume.resized()
        for who in (self.one, self.other):
            self.assertEqual(events(who), [(1, CAPACITY)])
            self.assertEqual(who.do(bytes(6), lun=1).asc, CAPACITY)
            self.assertEqual(who.do(bytes(6), lun=1).status, 0)
            self.assertEqual(events(who), [])

    def test_each(self) -> None:
        """Each change is an event, though one unit attention is enough for all."""
        for _change in range(3):
            self.units[0].volume.resized()
        self.assertEqual(events(self.one), [(0, CAPACITY)] * 3)
        self.assertEqual(self.one.do(bytes(6)).asc, CAPACITY)
        self.assertEqual(self.one.do(bytes(6)).status, 0)

    def test_luns(self) -> None:
        """LUNs that come or go are one event for the session, whatever LUNs it has."""
        self.target.add_lun(5, self.units[0])
        self.assertEqual(events(self.one), [(0, LUNS)])
        self.target.remove_lun(0)
        self.assertEqual(events(self.one), [(1, LUNS)])
        self.target.luns.clear()
        self.target.reassign()
        self.assertEqual(events(self.one), [(0, LUNS)])

    def test_several_at_once(self) -> None:
        """A map that changes in several places is one event."""
        del self.target.luns[1]
        for lun in range(7, 300, 20):
            self.target.luns[lun] = self.target.luns[0]
        self.target.reassign()
        self.assertEqual(events(self.one), [(0, LUNS)])

    def test_flat(self) -> None:
        """A LUN above 255 is named by the flat space method."""
        self.target.add_lun(300, self.units[0])
        events(self.one)
        self.units[0].volume.resized()
        self.assertEqual(events(self.one), [(0, CAPACITY), (0x4000 | 300, CAPACITY)])

    def test_inquiry(self) -> None:
        """Another logical unit behind a LUN is an event; replaced in silence none."""
        self.target.replace_lun(1, self.units[0])
        self.assertEqual(events(self.one), [(1, INQUIRY)])
        self.target.replace_lun(1, self.units[1], tell=False)
        self.assertEqual(events(self.one), [])

    def test_lun_that_is_gone(self) -> None:
        """What happens to a unit that is no LUN any more is no event."""
        store = ManualStore()
        node, target, (unit,) = serve(store)
        one = Initiator(node).ready()
        one.send(one.command(read10(0, 1), read=512))
        target.remove_lun(0)
        unit.volume.resized()
        self.assertEqual(events(one), [(0, LUNS)])

    def test_others(self) -> None:
        """Other unit attentions wait for a command."""
        for asc in (
            ASC.MODE_PARAMETERS_CHANGED,
            ASC.BUS_DEVICE_RESET_FUNCTION_OCCURRED,
            ASC.RESERVATIONS_PREEMPTED,
        ):
            self.units[0].attention(asc)
        self.assertEqual(events(self.one), [])

    def test_disabled(self) -> None:
        """With aen_disabled there are unit attentions alone."""
        self.limits.aen_disabled = True
        self.units[0].volume.resized()
        self.target.remove_lun(1)
        self.assertEqual(events(self.one), [])
        told = [self.one.do(bytes(6)).asc for _attention in range(2)]
        self.assertEqual(told, [CAPACITY, LUNS])

    def test_descriptor_sense(self) -> None:
        """The sense data has the format that the LUN's own has."""
        self.units[0].descriptor_sense = True
        self.units[0].volume.resized()
        self.one.receive()
        self.assertEqual(bytes(self.one.events[0].data)[2:6], b"\x72\x06\x2a\x09")

    def test_while_commands_are_under_way(self) -> None:
        """An event between answers takes its StatSN, and none of theirs."""
        store = ManualStore()
        node, _target, (unit,) = serve(store)
        one = Initiator(node).ready()
        expected = one.exp_stat_sn
        one.send(one.command(read10(0, 1), read=512))
        unit.volume.resized()
        store.go()
        (answer,) = one.receive()
        self.assertEqual(one.events[0].stat_sn, expected)
        self.assertEqual(answer.stat_sn, expected + 1)

    def test_not_after_a_logout_request(self) -> None:
        """Who is logging out is told nothing more."""
        store = ManualStore()
        node, _target, (unit,) = serve(store)
        one = Initiator(node).ready()
        begin_write(one)
        self.assertEqual(one.receive(), [])
        one.send(LogoutRequest(first=0x46, flags=FINAL, itt=99, cmd_sn=one.cmd_sn))
        unit.volume.resized()
        self.assertEqual(one.receive(), [])
        self.assertEqual(one.events, [])

    def test_one_connection(self) -> None:
        """A session of several connections is told on one of them, and once."""
        node, _target, (unit,) = serve(memory(), limits=several())
        one = Initiator(node).ready(MaxConnections="2")
        two = Initiator(node)
        two.cmd_sn = one.cmd_sn
        (session,) = node.sessions()
        two.login(tsih=session.tsih, cid=1)
        unit.volume.resized()
        self.assertEqual(len(events(one)) + len(events(two)), 1)
        one.connection.disconnected()
        self.assertEqual(two.one(AsynchronousMessage).async_event, 2)
        unit.volume.resized()
        self.assertEqual(events(two), [(0, CAPACITY)])

    def test_nobody_there(self) -> None:
        """A session without a connection is told nothing; the attention waits."""
        node, _target, (unit,) = serve(memory(), limits=several())
        one = Initiator(node).ready(DefaultTime2Retain="10")
        (session,) = node.sessions()
        one.connection.disconnected()
        unit.volume.resized()
        self.assertFalse(async_message.scsi_event(session, 0, CAPACITY))  # type: ignore[arg-type]
        self.assertEqual(len(session.nexus.itls[0].attentions), 1)


class AsynchronousTests(SynchronousTestCase):
    """
    What the target says without having been asked.
    """

    def setUp(self) -> None:
        """Log in."""
        self.node, _target, _units = serve(memory(), limits=several())
        self.one = Initiator(self.node).ready(
            MaxConnections="2", DefaultTime2Wait="3", DefaultTime2Retain="10"
        )
        (self.session,) = self.node.sessions()

    def message(self) -> AsynchronousMessage:
        """Return the Asynchronous Message that has come."""
        message: AsynchronousMessage = self.one.one(AsynchronousMessage)
        return message

    def test_scsi_event(self) -> None:
        """A SCSI event carries sense data for its LUN, and takes a StatSN."""
        before = self.one.exp_stat_sn
        told = async_message.scsi_event(
            self.session, 0, ASC.REPORTED_LUNS_DATA_HAS_CHANGED
        )
        self.assertTrue(told)
        self.assertEqual(self.one.receive(), [])
        (message,) = self.one.events
        self.assertEqual((message.async_event, message.lun), (0, 0))
        self.assertEqual(message.stat_sn, before)
        sense = bytes(message.data)
        self.assertEqual(int.from_bytes(sense[:2], "big"), len(sense) - 2)
        self.assertEqual((sense[4] & 0xF, sense[14:16]), (6, b"\x3f\x0e"))
        self.assertEqual(self.one.do(bytes(6)).status, 0)

    def test_logout_request(self) -> None:
        """A logout is asked for, with the time there is; it may be asked for again."""
        for _time in range(2):
            async_message.ask_for_logout(self.one.connection, 30)
            message = self.message()
            self.assertEqual((message.async_event, message.parameter3), (1, 30))
            self.assertIs(self.one.connection.state, ConnectionState.LOGOUT_REQUESTED)
        self.assertEqual(self.one.do(bytes(6)).status, 0)
        self.assertIsInstance(self.one.logout(), LogoutResponse)

    def test_connection_drop(self) -> None:
        """A dropped connection is told of on another, with its CID and the times."""
        two = Initiator(self.node)
        two.cmd_sn = self.one.cmd_sn
        two.login(tsih=self.session.tsih, cid=5)
        async_message.drop_connection(two.connection, "maintenance")
        self.assertTrue(two.connection.over)
        message = self.message()
        self.assertEqual(
            (message.async_event, message.parameter1, message.parameter2),
            (2, 5, 3),
        )
        self.assertEqual(message.parameter3, 10)
        self.assertFalse(self.session.closed)

    def test_only_connection_drop(self) -> None:
        """The only connection is told itself, and the session waits for another."""
        async_message.drop_connection(self.one.connection, "maintenance")
        self.assertEqual(self.message().async_event, 2)
        self.assertTrue(self.one.connection.over)
        self.assertIs(self.session.state, SessionState.FAILED)

    def test_session_drop(self) -> None:
        """A session that is dropped is told so, and cannot be continued."""
        async_message.drop_session(self.session, "for a reason")
        message = self.message()
        self.assertEqual((message.async_event, message.parameter3), (3, 0))
        self.assertTrue(self.one.connection.over)
        self.assertEqual(self.one.connection.why, "for a reason")
        self.assertEqual(self.node.sessions(), [])

    def test_negotiation_request(self) -> None:
        """A negotiation is asked for."""
        async_message.ask_for_negotiation(self.one.connection, 5)
        message = self.message()
        self.assertEqual((message.async_event, message.parameter3), (4, 5))


class TreeTests(Connected):
    """
    Changes through the control socket.
    """

    async def test_resize(self) -> None:
        """A file that is resized through the socket is an event for both sessions."""
        client, tree = await self.connected()
        path = Path(self.mktemp())
        path.write_bytes(bytes(1 << 20))
        await client.manage(
            "handlers/vdisk_fileio", "add_device", ["f"], [("filename", str(path))]
        )
        one, other = login(tree), login(tree, "iqn.2005-03.org.initiator:b")
        await client.write(f"{TARGET}/luns/mgmt", "add f 4")
        for who in (one, other):
            self.assertEqual(events(who), [(0, LUNS)])
        await client.write("devices/f/size", "3M")
        for who in (one, other):
            self.assertEqual(events(who), [(4, CAPACITY)])
        await client.write(f"{TARGET}/aen_disabled", "1")
        await client.write("devices/f/size", "4M")
        await client.write("devices/f/prod_id", "Other")
        self.assertEqual(events(one), [])
        told = set()
        while (done := one.do(bytes(6), lun=4)).status:
            told.add(done.asc)
        self.assertEqual(told, {0x2900, LUNS, CAPACITY, INQUIRY})

    async def leave(self) -> tuple[Any, Initiator, Deferred[None]]:
        """Remove a target whose initiator does not log out yet."""
        client, tree = await self.connected()
        one = login(tree)
        one.connection.now = reactor.seconds()
        removal = Deferred.fromCoroutine(
            client.manage("targets/iscsi", "del_target", [IQN])
        )
        while not one.connection.output:
            await client.read("version")
        self.assertEqual(one.one(AsynchronousMessage).async_event, 1)
        return tree, one, removal

    async def test_target_removed(self) -> None:
        """A target is removed when its initiators have logged out, not before."""
        tree, one, removal = await self.leave()
        self.assertEqual(one.do(bytes(6)).status, 0)
        self.assertFalse(removal.called)
        refused = Initiator(one.connection.node, name=one.name + "2").login(IQN)
        self.assertEqual(refused.status_class, 2)
        one.logout()
        await removal
        self.assertEqual(tree.system.sessions(), [])

    async def test_stopped_meanwhile(self) -> None:
        """The end of the service does not wait for who is to leave."""
        tree, one, removal = await self.leave()
        await tree.system.close()
        self.assertEqual(one.one(AsynchronousMessage).async_event, 3)
        self.assertTrue(one.connection.over)
        await removal


class RealTests(TestCase):
    """
    A real initiator that is told things: libiscsi in qemu-io.
    """

    timeout = 60

    def setUp(self) -> None:
        """Find what is needed; make a directory."""
        need("qemu-io")
        self.directory = short_directory(self)

    async def test_goes_on(self) -> None:
        """It goes on after an event, and logs in again after it was asked to leave."""
        (self.directory / "scst.conf").write_text(
            HEAD.format(devices="", targets="", kept=KEPT)
        )
        with Server(
            *("--config", "scst.conf", "--log-level", "debug"),
            directory=str(self.directory),
            wait_for="the control socket is",
        ) as server:
            tree = await connect(reactor, self.directory / "state/control")
            self.addCleanup(tree.close)
            client = subprocess.Popen(  # noqa: ASYNC220 - there is nothing else to do
                ["qemu-io", "-f", "raw", server.url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self.addCleanup(client.kill)
            assert client.stdin is not None
            assert client.stdout is not None

            def say(command: str, answer: str) -> None:
                client.stdin.write(command + "\n")  # type: ignore[union-attr]
                client.stdin.flush()  # type: ignore[union-attr]
                said = ""
                for line in client.stdout:  # type: ignore[union-attr]
                    said += line
                    if answer in line:
                        return
                self.fail(said)

            say("write -P 5 0 64k", "wrote 65536/65536")
            await tree.write("devices/disk/size", "128M")
            say("read -P 5 0 64k", "read 65536/65536")
            sessions = f"targets/iscsi/{KEPT}/sessions"
            (name,) = await tree.names(sessions)
            before = await tree.read(f"{sessions}/{name}/sid")
            await tree.write(f"{sessions}/{name}/force_close", "1")
            say("read -P 5 0 64k", "read 65536/65536")
            (name,) = await tree.names(sessions)
            self.assertNotEqual(await tree.read(f"{sessions}/{name}/sid"), before)
            self.assertIn("logged out", server.log())
            client.kill()
            client.communicate()
