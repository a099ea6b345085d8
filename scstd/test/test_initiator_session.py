# SPDX-License-Identifier: MIT
"""
Tests for `scstd.initiator.session` and its CDBs: with a connection of ours in memory, and
with targets that send what they like.
"""

from __future__ import annotations

import random
from functools import partial
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from scstd.initiator.commands import (
    TEST_UNIT_READY,
    inquiry,
    read10,
    read16,
    read_capacity16,
    report_luns,
    write10,
    write16,
)
from scstd.initiator.connection import InitiatorConnection
from scstd.initiator.discovery import exchange_text, targets_of
from scstd.initiator.login import LoginOptions
from scstd.initiator.requests import lun_field
from scstd.initiator.session import InitiatorSession
from scstd.initiator.tasks import CommandFailure, InitiatorTask
from scstd.protocols.engine.node import TargetSettings
from scstd.protocols.wire.codes import FINAL, AsyncEvent, TaskManagementCode
from scstd.protocols.wire.keys import LOCAL
from scstd.protocols.wire.pdu import (
    PDU_TYPES,
    R2T,
    AsynchronousMessage,
    DataIn,
    NOPIn,
    Reject,
    SCSIResponse,
    TextResponse,
)
from scstd.scsi.target import Target
from scstd.test.initiator import INITIATOR, TARGET, serve
from scstd.test.pairing import PairedConnection
from scstd.test.stores import ManualStore, memory


class Sessions(SynchronousTestCase):
    """
    Sessions with a target in memory.
    """

    keys: tuple[tuple[str, str], ...] = ()

    def setUp(self) -> None:
        """Serve a disk, and log in."""
        self.store = self.make_store()
        local = {**LOCAL, "MaxConnections": 4}
        settings = TargetSettings(local=local, queued_commands=8)
        self.node, self.target, _units = serve(self.store, limits=settings)
        options = LoginOptions(TARGET, [("MaxConnections", "4"), *self.keys])
        self.session = InitiatorSession(INITIATOR, options=options)
        self.links: list[tuple[InitiatorConnection, PairedConnection]] = []
        self.connect()
        self.do(TEST_UNIT_READY)

    def make_store(self) -> Any:
        """Return the store."""
        return memory()

    def connect(self) -> InitiatorConnection:
        """Add a connection."""
        link = self.session.connect()
        self.links.append((link, PairedConnection(self.node)))
        self.pump()
        return link

    def pump(self) -> None:
        """Deliver what there is, both ways, until there is nothing."""
        moved = True
        while moved:
            moved = False
            for link, side in self.links:
                data = link.take_output()
                side.feed(data)
                answer = side.take()
                self.session.receive_data(link, answer)
                moved = moved or bool(data or answer)

    def do(self, cdb: bytes, **fields: Any) -> Any:
        """Carry out a command."""
        over: list[InitiatorTask] = []
        self.session.execute(cdb, on_end=over.append, **fields)
        self.pump()
        return over[0].result()


class CommandTests(Sessions):
    """
    Commands that end.
    """

    def test_builders(self) -> None:
        """Each CDB is what it is called."""
        self.assertEqual(self.do(write16(7, 2), data=b"w" * 1024).status, 0)
        self.assertEqual(self.do(read16(8, 1), read=512).data, b"w" * 512)
        self.assertEqual(self.do(read10(7, 1), read=512).data, b"w" * 512)
        self.assertEqual(self.do(inquiry(), read=255).data[8:13], b"SCSTD")
        self.assertEqual(self.do(inquiry(page=0x80), read=255).data[1], 0x80)
        self.assertEqual(self.do(report_luns(), read=65536).data[3], 8)
        last = self.do(read_capacity16(), read=32).data[:8]
        self.assertEqual(int.from_bytes(last, "big"), (1 << 11) - 1)

    def test_window(self) -> None:
        """More commands than the window has room for wait, and all end."""
        over: list[InitiatorTask] = []
        for number in range(50):
            self.session.execute(
                write10(number, 1), data=bytes((number,)) * 512, on_end=over.append
            )
        self.assertGreater(len(self.session.waiting), 30)
        self.pump()
        self.assertEqual([task.status for task in over], [0] * 50)
        self.assertFalse(self.session.tasks)

    def test_connections(self) -> None:
        """Commands go over all connections, and over fewer when one is logged out."""
        second = self.connect()
        self.assertEqual([link.cid for link, _side in self.links], [0, 1])
        over: list[InitiatorTask] = []
        for number in range(8):
            self.session.execute(read10(number, 1), read=512, on_end=over.append)
        used = {task.connection for task in self.session.tasks.values()}
        self.assertEqual(len(used), 2)
        self.pump()
        self.assertEqual(len(over), 8)
        self.session.logout(second, reason=1)
        self.pump()
        self.assertTrue(second.over)
        self.assertFalse(self.session.over)
        self.assertEqual(self.do(read10(0, 1), read=512).status, 0)

    def test_refused_connection(self) -> None:
        """A connection that the target does not want leaves the session as it is."""
        for _number in range(3):
            self.connect()
        refused: list[Any] = []
        link = self.session.connect(on_login=refused.append)
        self.links.append((link, PairedConnection(self.node)))
        self.pump()
        self.assertEqual(refused[0].status, 0x0206)
        self.assertFalse(self.session.over)
        self.assertEqual(self.do(read10(0, 1), read=512).status, 0)

    def test_logged_out(self) -> None:
        """After the logout all is over, and who begins something is told."""
        self.session.logout()
        self.pump()
        self.assertEqual(self.session.why, "logged out")
        with self.assertRaises(CommandFailure):
            self.do(TEST_UNIT_READY)

    def test_luns(self) -> None:
        """LUNs from 256 on have the other form of address."""
        self.assertEqual(lun_field(255), 255 << 48)
        self.assertEqual(lun_field(256), 0x4100 << 48)

    def test_targets(self) -> None:
        """A text asks for targets."""
        found: list[Any] = []
        exchange_text(self.session, [("SendTargets", "All")], found.append)
        self.pump()
        self.assertEqual(targets_of(found[0]), {TARGET: ["127.0.0.1:3260,1"]})

    def test_many_targets(self) -> None:
        """What does not go into one answer is asked for until it is whole."""
        unit = next(iter(self.target.units()))
        for number in range(1500):
            more = Target(f"{TARGET}{number}")
            more.add_lun(0, unit)
            self.node.add_target(more, TargetSettings())
        self.session = InitiatorSession(INITIATOR, options=LoginOptions(None))
        self.links.clear()
        self.connect()
        found: list[Any] = []
        exchange_text(self.session, [("SendTargets", "All")], found.append)
        self.pump()
        self.assertEqual(len(targets_of(found[0])), 1501)


class BurstTests(CommandTests):
    """
    The same where nothing may come unasked, with short bursts and digests.
    """

    keys = (
        ("InitialR2T", "Yes"),
        ("ImmediateData", "No"),
        ("MaxBurstLength", "512"),
        ("FirstBurstLength", "512"),
        ("HeaderDigest", "CRC32C"),
        ("DataDigest", "CRC32C"),
    )


class UnaskedTests(CommandTests):
    """
    The same where all of the first burst comes unasked.
    """

    keys = (("InitialR2T", "No"), ("FirstBurstLength", "1024"))


class HeldTests(Sessions):
    """
    Commands that have not ended.
    """

    def make_store(self) -> Any:
        """Return a store that waits."""
        return ManualStore()

    def test_aborted(self) -> None:
        """An abort is answered, for a command that was sent and one that was not."""
        ended: list[InitiatorTask] = []
        tasks = [
            self.session.execute(read10(0, 1), read=512, on_end=ended.append)
            for _number in range(20)
        ]
        self.pump()
        answers: list[Any] = []
        for task in (tasks[0], tasks[-1]):
            self.session.manage(
                TaskManagementCode.ABORT_TASK, task=task, answered=answers.append
            )
        self.assertEqual(ended, [tasks[-1]])
        self.pump()
        self.store.go()
        self.pump()
        self.assertEqual(answers[0], None)
        self.assertEqual(answers[1].response, 0)

    def test_lost(self) -> None:
        """With the connection all ends, once, and the reason is known."""
        ended: list[InitiatorTask] = []
        why: list[str] = []
        answers: list[Any] = []
        self.session.on_over = why.append
        for _number in range(20):
            self.session.execute(read10(0, 1), read=512, on_end=ended.append)
        self.session.request(self.session.ping(), answers.append)
        self.session.lost(self.links[0][0], "gone")
        self.session.lost(self.links[0][0], "gone again")
        self.assertEqual(len(ended), 20)
        self.assertEqual((why, answers), (["gone"], [None]))
        self.assertEqual({task.failure for task in ended}, {"gone"})

    def test_one_begins_another(self) -> None:
        """Who begins a command when one has ended for the end is told at once."""
        failures: list[str] = []

        def again(task: InitiatorTask) -> None:
            failures.append(task.failure)
            if len(failures) < 3:
                self.session.execute(TEST_UNIT_READY, on_end=again)

        self.session.execute(read10(0, 1), read=512, on_end=again)
        self.session.end("over")
        self.assertEqual(failures, ["over"] * 3)


class OddTests(Sessions):
    """
    What the target sends by itself.
    """

    def take(self, pdu: Any) -> None:
        """Have the target send a PDU."""
        link = self.links[0][0]
        self.session.receive_data(link, link.encode(pdu))

    def numbered(self, kind: type[Any], **fields: Any) -> Any:
        """Return a PDU with numbers that fit."""
        pdu = kind(**fields)
        pdu.stat_sn = self.links[0][0].exp_stat_sn
        pdu.exp_cmd_sn, pdu.max_cmd_sn = self.session.cmd_sn, self.session.cmd_sn + 8
        return pdu

    def test_asked_to_leave(self) -> None:
        """Who is asked to log out does."""
        event = AsyncEvent.LOGOUT_REQUEST
        self.take(self.numbered(AsynchronousMessage, async_event=event))
        self.pump()
        self.assertTrue(self.session.over)
        self.assertFalse(self.node.sessions())

    def test_dropped(self) -> None:
        """A session that the target drops is over."""
        events: list[Any] = []
        self.session.on_event = events.append
        event = AsyncEvent.SESSION_DROP
        self.take(self.numbered(AsynchronousMessage, async_event=event))
        self.assertTrue(self.session.over)
        self.assertEqual(len(events), 1)

    def test_ping(self) -> None:
        """A ping is answered, unless it wants none or we do not answer."""
        link = self.links[0][0]
        self.take(self.numbered(NOPIn, ttt=5))
        self.assertTrue(link.take_output())
        self.take(self.numbered(NOPIn))
        self.session.answers = False
        self.take(self.numbered(NOPIn, ttt=6))
        self.assertFalse(link.take_output())

    def test_rejected(self) -> None:
        """A command that is rejected has no status."""
        ended: list[InitiatorTask] = []
        task = self.session.execute(TEST_UNIT_READY, on_end=ended.append)
        reject = self.numbered(Reject, reason=4)
        reject.data = task.pdu.encode()
        self.take(reject)
        with self.assertRaises(CommandFailure):
            ended[0].result()
        self.assertFalse(self.session.tasks)

    def test_failed(self) -> None:
        """Nor has one whose target has failed."""
        ended: list[InitiatorTask] = []
        task = self.session.execute(TEST_UNIT_READY, on_end=ended.append)
        self.take(self.numbered(SCSIResponse, itt=task.itt, response=1))
        with self.assertRaises(CommandFailure):
            ended[0].result()

    def test_endless_text(self) -> None:
        """A text that is none, and one without end, are told as nothing."""
        found: list[Any] = []
        exchange_text(self.session, [("SendTargets", "All")], found.append)
        (itt,) = self.session.asked
        pdu = self.numbered(TextResponse, itt=itt, flags=FINAL)
        pdu.data = b"no text"
        self.take(pdu)
        self.assertEqual(found, [None])
        exchange_text(self.session, [("SendTargets", "All")], found.append)
        while len(found) < 2:
            (itt,) = self.session.asked
            pdu = self.numbered(TextResponse, itt=itt, flags=0, ttt=1)
            pdu.data = b"X-a=" + b"b" * 4000 + b"\0"
            self.take(pdu)
        self.assertEqual(found, [None, None])

    def test_anything(self) -> None:
        """Whatever a target sends, nothing is raised; all ends with the session."""
        for seed in range(150):
            self.assail(random.Random(seed))

    def assail(self, chance: random.Random) -> None:
        """Have the target send PDUs with fields by chance, and damaged ones."""
        self.setUp()
        link = self.links[0][0]
        ended: list[InitiatorTask] = []
        kinds = [one for code, one in PDU_TYPES.items() if code >= 0x20]
        for _step in range(20):
            if chance.random() < 0.5:
                self.session.execute(
                    chance.choice((read10(0, 8), write10(0, 8))),
                    read=4096,
                    on_end=ended.append,
                )
            pdu: Any = self.numbered(chance.choice(kinds))
            tags = [*self.session.tasks, *self.session.asked, 7]
            for name in ("itt", "ttt", "flags", "data_sn", "buffer_offset", "status"):
                if hasattr(pdu, name) and chance.random() < 0.6:
                    small = chance.choice((0, 1, 0x80, 0x81, chance.randrange(256)))
                    setattr(pdu, name, chance.choice(tags) if name == "itt" else small)
            if isinstance(pdu, R2T):
                pdu.desired_data_transfer_length = chance.choice((0, 512, 1 << 20))
            if isinstance(pdu, (DataIn, Reject, TextResponse)):
                pdu.data = chance.randbytes(chance.choice((0, 4, 48, 512)))
            data = bytearray(link.encode(pdu))
            if chance.random() < 0.1:
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            self.session.receive_data(link, bytes(data))
        self.session.lost(link, "enough")
        self.assertTrue(self.session.over)
        self.assertFalse(self.session.tasks)
        for task in ended:
            partial(task.end, "again")()
        self.assertEqual(len(ended), len(set(map(id, ended))))
