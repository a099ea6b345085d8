# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.monitor.trace`, `latency` and `monitoring`, and for
`scstd.scsi.holds`: trace, latency figures, suspending and blocking.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.block.persistence import Volatile
from scstd.initiator.commands import read10, write10
from scstd.management.errors import TreeError
from scstd.management.model.trace_level import ALL, DEFAULT, TraceLevel
from scstd.protocols.wire.pdu import SCSIResponse, TaskManagementResponse
from scstd.scsi.conditions import Operation
from scstd.scsi.holds import Holds
from scstd.scsi.unit import LogicalUnit
from scstd.test.initiator import Initiator, serve
from scstd.test.stores import ManualStore, memory
from scstd.test.test_events import control_turn
from scstd.test.test_tree import TARGET, login, started


def traced(case: Any) -> list[str]:
    """Return a list that has what is traced from now on."""
    lines: list[str] = []

    def hear(event: Any) -> None:
        if event.get("log_namespace") == "scstd.trace":
            lines.append(formatEvent(event))

    take = cast("ILogObserver", hear)
    globalLogPublisher.addObserver(take)
    case.addCleanup(globalLogPublisher.removeObserver, take)
    return lines


class LevelTests(SynchronousTestCase):
    """
    SCST's verbs.
    """

    def test_verbs(self) -> None:
        """all, none, default, value, tokens, add and del."""
        kind = TraceLevel()
        for before, text, after in (
            (0, "all", ALL),
            (ALL, "none", 0),
            (0, "default", DEFAULT),
            (5, ":default:", DEFAULT),
            (0, "value 0x1400", 0x1400),
            (0, "value 5120", 0x1400),
            (0, "4096", 0x1000),
            (0, "scsi | mgmt", 0x1400),
            (0x400, "add SCSI", 0x1400),
            (0x1400, "del mgmt", 0x1000),
            (0x1000, "del mgmt", 0x1000),
        ):
            self.assertEqual(kind.change(before, text), after, text)
            self.assertEqual(kind.parse(kind.render(after)), after)
        for text in ("add", "add scsy", "value", "value x", "1x", "scsi nothing"):
            self.assertRaises(ValueError, kind.change, 0, text)


class TraceTests(TestCase):
    """
    What is in the log.
    """

    async def test_commands(self) -> None:
        """With scsi each command is a line; without it nothing looks at commands."""
        tree = await started(self)
        one = login(tree)
        lines = traced(self)
        unit = tree.system.devices.find("disk1").unit
        one.do(read10(8, 8), read=4096)
        self.assertEqual((lines, set(unit.pipeline)), ([], set()))
        await tree.write("trace_level", "add scsi")
        self.assertEqual(tree.read("trace_level"), "mgmt | scsi\n[key]\n")
        one.do(read10(8, 8), read=4096)
        one.do(write10(16, 1), data=bytes(512))
        one.do(read10(1 << 31, 1), read=512)
        one.do(bytes(6), lun=7)
        self.assertEqual(len(lines), 4, lines)
        self.assertRegex(
            lines[0],
            r"^iqn.2005-03.org.initiator:a iqn.2006-10.net.vlnb:tgt LUN 0 \(disk1\)"
            r" tag \d+: READ\(10\) LBA 8 blocks 8 GOOD \d+ us$",
        )
        self.assertIn("WRITE(10) LBA 16 blocks 1 GOOD", lines[1])
        self.assertIn("CHECK CONDITION ILLEGAL REQUEST 21/00", lines[2])
        self.assertIn("absent", lines[3])
        await tree.write("trace_level", "default")
        one.do(read10(8, 8), read=4096)
        self.assertEqual((len(lines), set(unit.pipeline)), (4, set()))

    async def test_some(self) -> None:
        """The other tokens choose among commands; new devices are looked at too."""
        tree = await started(self)
        await tree.write("trace_level", "minor | pr")
        await tree.manage("handlers/memory", "add_device", ["m"], [("size", "1M")])
        await tree.manage(f"{TARGET}/luns", "add", ["m", "3"])
        one = login(tree)
        lines = traced(self)
        one.do(read10(0, 8), read=4096, lun=3)
        self.assertEqual(lines, [])
        one.do(read10(9999, 8), read=4096, lun=3)
        one.do(bytes.fromhex("5e000000000000000800"), read=8, lun=3)
        self.assertEqual(len(lines), 2)
        self.assertIn("PERSISTENT RESERVE IN", lines[1])
        await tree.write("trace_level", "retry")
        tree.system.devices.find("m").unit.attention(0x2900)  # type: ignore[arg-type]
        one.do(bytes(6), lun=3)
        one.do(read10(9999, 8), read=4096, lun=3)
        self.assertEqual(len(lines), 3)
        self.assertIn("UNIT ATTENTION 29/00", lines[2])

    async def test_management(self) -> None:
        """Task management is in the log by default, everything else with special."""
        tree = await started(self)
        one = login(tree)
        lines = traced(self)
        one.manage(5)
        one.one(TaskManagementResponse)
        self.assertEqual(
            [line.split(":")[0] for line in lines], ["TM_FN_RECEIVED", "TM_FN_DONE"]
        )
        await tree.write("trace_level", "special")
        one.manage(5)
        one.logout()
        self.assertEqual([line.split(":")[0] for line in lines[2:]], ["SESSION_CLOSED"])

    async def test_latency(self) -> None:
        """Figures by session, kind and state; from nothing when it is turned on."""
        tree = await started(self)
        one = login(tree)
        times = iter(range(1000))
        tree.system.watching.latency.clock = lambda: next(times) / 1e3
        path = f"{TARGET}/sessions/iqn.2005-03.org.initiator:a/latency"
        one.do(read10(0, 8), read=4096)
        self.assertEqual(tree.list(path), [])
        await tree.write("measure_latency", "1")
        for _count in range(3):
            one.do(read10(0, 8), read=4096)
        one.do(write10(0, 8), data=bytes(4096))
        self.assertEqual(tree.list(path), ["read", "write"])
        self.assertEqual(
            tree.read(f"{path}/read").splitlines(),
            [
                "data 3 1000 1000 1000",
                "work 3 1000 1000 1000",
                "total 3 2000 2000 2000",
            ],
        )
        await tree.write("measure_latency", "0")
        self.assertEqual(tree.list(path), [])


class HoldTests(SynchronousTestCase):
    """
    Tasks of a held unit.
    """

    def ready(self, **settings: Any) -> tuple[ManualStore, LogicalUnit, Initiator]:
        """Return a store that waits, its unit, and an initiator."""
        store = ManualStore()
        node, _target, units = serve(store, **settings)
        return store, units[0], Initiator(node).ready()

    def test_none_is_lost(self) -> None:
        """What has begun ends; what comes waits, and goes on in its order."""
        store, unit, one = self.ready()
        holds = Holds()
        one.send(one.command(read10(0, 1), read=512))
        quiet = holds.hold(unit, "a")
        for lba in (1, 2, 3):
            one.send(one.command(write10(lba, 1), write=512, data=bytes([lba]) * 512))
        self.assertEqual((len(store.calls), holds.waiting(unit)), (1, 3))
        self.assertNoResult(quiet)
        store.go()
        self.successResultOf(quiet)
        self.assertEqual(len(one.receive()), 1)
        holds.release(unit, "a")
        self.assertEqual([name for name, *_ in store.calls], ["write"] * 3)
        store.go(3)
        self.assertEqual([pdu.status for pdu in one.receive()], [0, 0, 0])
        self.assertEqual(
            bytes(store.inner.read(512, 1536)),
            b"".join(bytes([lba]) * 512 for lba in (1, 2, 3)),
        )
        self.assertNotIn("execute", vars(unit))

    def test_two(self) -> None:
        """It goes on when the last one lets go."""
        store, unit, one = self.ready()
        holds = Holds()
        self.successResultOf(holds.hold(unit, "a"))
        self.successResultOf(holds.hold(unit, "b"))
        one.send(one.command(read10(0, 1), read=512))
        holds.release(unit, "a")
        holds.release(unit, "a")
        self.assertEqual((store.calls, holds.by(unit)), ([], frozenset("b")))
        holds.release(unit, "b")
        self.assertEqual(len(store.calls), 1)
        store.go()
        one.receive()

    def test_abort(self) -> None:
        """A task that waits can be aborted at once, and never starts."""
        store, unit, one = self.ready()
        holds = Holds()
        holds.hold(unit, "a")
        kept, doomed = (
            one.command(read10(0, 1), read=512),
            one.command(read10(1, 1), read=512),
        )
        one.send(kept, doomed)
        one.manage(1, tag=doomed.itt)
        self.assertEqual(one.one(TaskManagementResponse).response, 0)
        self.assertEqual(holds.waiting(unit), 1)
        holds.release(unit, "a")
        self.assertEqual(len(store.calls), 1)
        store.go()
        one.receive()

    def test_ordered(self) -> None:
        """An ORDERED task still waits for those before it."""
        store, unit, one = self.ready()
        holds = Holds()
        holds.hold(unit, "a")
        one.send(one.command(read10(0, 1), read=512))
        one.send(one.command(write10(1, 1), write=512, data=bytes(512), attribute=2))
        holds.release(unit, "a")
        self.assertEqual([name for name, *_ in store.calls], ["read"])
        store.go()
        self.assertEqual([name for name, *_ in store.calls], ["write"])
        store.go()
        one.receive()

    def test_lost_session(self) -> None:
        """A session that ends takes its waiting tasks with it."""
        store, unit, one = self.ready()
        holds = Holds()
        holds.hold(unit, "a")
        one.send(one.command(read10(0, 1), read=512))
        one.connection.fail("gone")
        self.assertEqual((unit.tasks(), holds.waiting(unit)), ([], 0))
        holds.release(unit, "a")
        self.assertEqual(store.calls, [])

    def test_memory(self) -> None:
        """Thousands that wait go on without piling up on the stack."""
        node, _target, (unit,) = serve(memory())
        one = Initiator(node).ready()
        holds = Holds()
        holds.hold(unit, "a")
        over: list[int] = []
        itl = next(iter(unit.itls))
        for number in range(3000):
            from scstd.scsi.sam import Task  # noqa: PLC0415 - here alone

            task = Task(itl, number, 1, bytes(6), 0, lambda done: over.append(done.tag))
            unit.arrive(task)
            unit.run(task)
        self.assertEqual(over, [])
        holds.release(unit, "a")
        self.assertEqual(over, list(range(3000)))
        self.assertEqual(one.receive(), [])


class SuspendTests(TestCase):
    """
    ``suspend`` and ``block`` in the tree.
    """

    async def waiting(self) -> tuple[Any, Initiator, Deferred[Any]]:
        """Return a tree, an initiator, and the read of disk1 that is under way."""
        tree = await started(self)
        one = login(tree)
        read: Deferred[bytes] = Deferred()
        store: Any = tree.system.devices.find("disk1").unit.store
        store.read = lambda *_arguments: read
        one.send(one.command(read10(0, 1), read=512))
        return tree, one, read

    async def test_suspend(self) -> None:
        """0 waits for what is under way; other things can be changed meanwhile."""
        tree, one, read = await self.waiting()
        self.assertIn("READ(10) LBA 0 blocks 1, at work", tree.read("trace_cmds"))
        done = tree.write("suspend", "0")
        self.assertFalse(done.called)
        await tree.write(f"{TARGET}/QueuedCommands", "8")
        one.send(one.command(bytes(6), lun=1))
        self.assertIn("TEST UNIT READY, waits to start", tree.read("trace_cmds"))
        await tree.manage("handlers/memory", "add_device", ["m"], [("size", "1M")])
        read.callback(bytes(512))
        await done
        self.assertEqual((tree.read("suspend"), len(one.receive())), ("1\n", 1))
        self.assertEqual(
            tree.system.watching.holds.by(tree.system.devices.find("m").unit),
            {"suspend"},
        )
        with self.assertRaises(TreeError):
            await tree.manage("handlers/memory", "del_device", ["m"])
        await tree.write("suspend", "-1")
        self.assertEqual(
            (tree.read("suspend"), one.one(SCSIResponse).status), ("0\n", 0)
        )
        self.assertEqual(tree.read("trace_cmds"), "\n")

    async def test_late(self) -> None:
        """What takes longer than it may is refused, and everything goes on."""
        tree, one, read = await self.waiting()
        tree.system.watching.reactor = clock = Clock()
        done = tree.write("suspend", "2")
        one.send(one.command(bytes(6), lun=1))
        self.assertEqual(one.receive(), [])
        clock.advance(2)
        with self.assertRaises(TreeError):
            await done
        self.assertEqual(one.one(SCSIResponse).status, 0)
        read.callback(bytes(512))
        one.receive()
        self.assertEqual(tree.read("suspend"), "0\n")

    async def test_block(self) -> None:
        """A device is blocked by itself; 11 does not wait, and the event has its word."""
        tree, one, read = await self.waiting()
        hears = tree.system.events.subscribe()
        await tree.write("devices/disk1/block", "11 backup one")
        one.send(one.command(bytes(6)))
        self.assertEqual(tree.read("devices/disk1/block"), "1 1\n")
        self.assertEqual(one.do(bytes(6), lun=1).status, 0)
        self.assertEqual(hears.take(9), ([], 0))
        read.callback(bytes(512))
        one.receive()
        (event,), _lost = hears.take(9)
        self.assertEqual(
            (event.name, dict(event.fields)),
            ("EXT_BLOCKING_DONE", {"device": "disk1", "data": "backup one"}),
        )
        await tree.write("devices/disk1/block", "0")
        self.assertEqual(
            (one.one(SCSIResponse).status, tree.read("devices/disk1/block")),
            (0, "0 0\n"),
        )

    async def test_sanitize(self) -> None:
        """What sanitizes in the background stands while it is held, and goes on after."""
        tree = await started(self)
        one = login(tree)
        unit = tree.system.devices.find("disk1").unit
        unit.memory = Volatile()
        turns: list[Any] = []
        unit.later = turns.append
        data = b"\x01\0\0\x01x"
        cdb = bytes((0x48, 0x81, 0, 0, 0, 0, 0, 0, len(data), 0))
        self.assertEqual(one.do(cdb, data=data).status, 0)
        done = tree.write("devices/disk1/block", "1")
        suspended = tree.write("suspend", "0")
        self.assertFalse(done.called or suspended.called)
        turns.pop()()
        await done
        await suspended
        self.assertEqual(turns, [])
        await tree.write("devices/disk1/block", "0")
        self.assertEqual(turns, [])
        self.assertEqual(tree.read("devices/disk1/active_commands"), "0\n")
        await tree.write("suspend", "-1")
        (sense,) = [one for one in unit.conditions if isinstance(one, Operation)]
        self.assertEqual(sense.done, 65536 // 1024)
        while turns:
            turns.pop()()
        self.assertFalse(unit.conditions)

    async def test_end(self) -> None:
        """The service ends while commands are held."""
        tree = await started(self)
        one = login(tree)
        await tree.write("suspend", "0")
        one.send(one.command(bytes(6)))
        await tree.system.close()
        self.assertEqual(tree.system.devices, {})

    async def test_functions(self) -> None:
        """``trace_mcmds`` has task management that waits for tasks."""
        tree, one, read = await self.waiting()
        one.manage(5)
        self.assertIn("LOGICAL_UNIT_RESET LUN 0", tree.read("trace_mcmds"))
        read.callback(bytes(512))
        await control_turn()
        one.receive()
        self.assertEqual(tree.read("trace_mcmds"), "\n")
        self.assertGreater(int(tree.read("threads")), 0)
        self.assertEqual(tree.read("devices/disk1/threads_num"), "0\n")
