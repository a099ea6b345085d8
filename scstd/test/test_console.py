# SPDX-License-Identifier: MIT
"""
Tests for the prompt: `scstd.management.console.terminal`, `shown` and `verbs`.
"""

from __future__ import annotations

import io
import re
import unittest
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from twisted.conch.insults.insults import ServerProtocol
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase

import scstd
from scstd.initiator.commands import read10
from scstd.management.console.commands import _HELP, Verbs
from scstd.management.console.tables import Rows, TaskWatch
from scstd.management.console.terminal import (
    LONGEST,
    MAX_TYPED,
    ConsoleSession,
    Terminal,
    completions,
    word_before,
)
from scstd.test.initiator import Initiator
from scstd.test.test_docs import blocks
from scstd.test.test_events import control_turn
from scstd.test.test_tree import CONFIGURATION, IQN, login, started


class Held:
    """
    A backstore that answers a read when the test says so.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self.reads: list[Deferred[bytes]] = []

    def __getattr__(self, name: str) -> Any:
        """Be the other one."""
        return getattr(self._store, name)

    def read(self, _offset: int, _length: int) -> Deferred[bytes]:
        """Wait."""
        self.reads.append(Deferred())
        return self.reads[-1]


class CompletionTests(SynchronousTestCase):
    """
    What TAB offers.
    """

    def complete(self, line: str) -> list[str]:
        """Return the completions in a small world."""
        tree = {
            "": ["devices/", "version"],
            "devices": ["disk1/", "disk2/"],
            "devices/disk1": ["size", "sync"],
        }

        class Owner:
            def __init__(self) -> None:
                self.inner = "text"
                self._hidden = 1

            @property
            def never(self) -> int:
                """Fail: completion calls nothing."""
                raise AssertionError("it was called")

        names = {"luns": 1, "ls": 2, "tree": Owner()}
        return completions(line, names, lambda path: tree.get(path, []))

    def test_offers(self) -> None:
        """Names, attributes, and paths inside quotes are finished; nothing is called."""
        for line, offers in (
            ("l", ["ls", "luns"]),
            ("print(lu", ["luns"]),
            ("zz", []),
            ("tree.i", ["tree.inner"]),
            ("tree._h", ["tree._hidden"]),
            ("tree.inner.upp", ["tree.inner.upper"]),
            ("tree.never.x", []),
            ("zz.y", []),
            ("get('d", ["devices/"]),
            ('get("', ["devices/", "version"]),
            ("get('devices/disk", ["devices/disk1/", "devices/disk2/"]),
            ("set('devices/disk1/s", ["devices/disk1/size", "devices/disk1/sync"]),
            ("set('devices/none/s", []),
            ("set('devices/disk1', 'x', l", ["ls", "luns"]),
        ):
            self.assertEqual(self.complete(line), offers, line)
            for offer in offers:
                self.assertTrue(offer.startswith(word_before(line)), line)


class RowsTests(SynchronousTestCase):
    """
    Lists that print as tables.
    """

    def test_table(self) -> None:
        """A list is a list, and prints as a table of now."""
        rows = Rows(["aa", "b"], ("text", "length"), lambda one: (one, len(one)))
        self.assertEqual((rows[0], len(rows)), ("aa", 2))
        self.assertEqual(repr(rows), "   text  length\n0  aa    2\n1  b     1")
        self.assertEqual(repr(Rows([], ("text",), lambda one: (one,))), "none")


class PromptTests(TestCase):
    """
    The prompt on a running system.
    """

    async def open(self, configuration: str = CONFIGURATION) -> None:
        """Have a prompt."""
        self.verbs = Verbs(await started(self, configuration))
        self.transport = StringTransport()
        self.prompt: Any = ServerProtocol(
            Terminal, self.verbs.namespace(), self.verbs.paths
        )
        self.prompt.makeConnection(self.transport)

    def type(self, text: str) -> str:
        """Return what is shown when somebody types."""
        self.transport.clear()
        for letter in text.encode():
            self.prompt.dataReceived(bytes([letter]))
        shown: bytes = self.transport.value()
        return shown.decode()

    def line(self) -> str:
        """Return what stands at the prompt."""
        return b"".join(self.prompt.terminalProtocol.lineBuffer).decode()

    async def test_tab(self) -> None:
        """TAB finishes what is clear, shows what is not, and indents where nothing is."""
        await self.open()
        self.type("get('dev\t")
        self.assertEqual(self.line(), "get('device")
        self.assertIn("devices/  device_groups/", self.sorted(self.type("\t")))
        self.type("s/disk1/prod_i\t")
        self.assertEqual(self.line(), "get('devices/disk1/prod_id")
        self.assertIn("\a", self.type("zz\t"))
        self.type("\x03\t")
        self.assertEqual(self.line(), "    ")
        self.type("\x03ls('devices/\t")
        self.assertEqual(self.line(), "ls('devices/disk")
        self.assertIn("disk1/  disk2/  disk3/", self.type("\t"))

    @staticmethod
    def sorted(shown: str) -> str:
        """Return what is shown with the two in one order, whatever was theirs."""
        return shown.replace("device_groups/  devices/", "devices/  device_groups/")

    async def test_shown(self) -> None:
        """A verb without parentheses says what it does; long values are cut."""
        await self.open()
        self.assertIn("which device is at which LUN", self.type("luns\r"))
        shown = self.type("'x' * 5000\r")
        self.assertNotIn("x" * (LONGEST + 1), shown)
        self.assertIn("print(_)", shown)
        self.assertIn("x" * 5000, self.type("print(_)\r"))
        self.assertIn("no such session: 7", self.type("close(7)\r"))

    async def test_help(self) -> None:
        """Every name at the prompt is in the help, a line each, and no other."""
        await self.open()
        names = set(self.verbs.namespace())
        said = {word.strip() for name, usage, _text in _HELP
                for word in (usage.split(",") if "(" not in usage else [name])}  # fmt: skip
        self.assertEqual(said, names)
        shown = io.StringIO()
        with redirect_stdout(shown):
            self.verbs.help()
        self.assertEqual(len(shown.getvalue().splitlines()), len(_HELP))

    async def test_help_of_one(self) -> None:
        """Help of one verb is its lines; of what is none, that there is none."""
        await self.open()
        shown = self.type("help(trace)\r")
        self.assertIn('trace("add TOKEN")', shown)
        self.assertNotIn("luns()", shown.partition("\n")[2])
        self.assertIn("there is no help", self.type("help(5)\r"))

    async def test_objects(self) -> None:
        """An object is shown by its fields, others in it by their names; no secret is."""
        text = CONFIGURATION.replace(
            "enabled 1\n", 'enabled 1\nIncomingUser "joe 12charsecret"\n'
        )
        await self.open(text)
        target = self.verbs.tree.system.drivers.targets[IQN]
        for said, shown in (
            ("luns()[0].device", "<LogicalUnit disk1>"),
            ("luns()[0].device", "    volume: <Volume disk1>"),
            ("luns()[0].device.volume", "    block_size: 512"),
            ("luns()[0]", "    device: <LogicalUnit disk1>"),
            ("system", "    events: <Hub>"),
            ("devices", "    disk1: <Device disk1>"),
            ("targets", f"    {IQN}: <Target {IQN}>"),
            (f"targets['{IQN}']", "    nexuses: <dict: 0 entries>"),
            ("drivers['iscsi'].instance.settings", "IncomingUser: ********"),
            (
                f"drivers['iscsi'].instance.node.targets['{IQN}'].settings.access",
                "<AccessControl>",
            ),
            ("list(devices.values())", "<list: 3 entries>"),
            ("[1, 2]", "[1, 2]"),
            ("range(3)", "range(0, 3)"),
            ("'x' * 300", "x" * 300),
            ("list(range(5000))", "... and 4900 more"),
            ("print(drivers['iscsi'].instance)", "ISCSIDriver("),
            ("list(range(500)) + [devices]", "... and 401 more"),
            ("get('devices/disk1')", "\nblocksize "),
            ("get('targets/iscsi')", "joe ********"),
        ):
            got = self.type(f"{said}\r")
            self.assertIn(shown, got.replace("\r", ""), said)
            self.assertNotIn("12charsecret", got)
            if "print" not in said:
                self.assertLess(len(got), 12000, said)
        self.assertEqual(target.name, IQN)

    async def test_refused(self) -> None:
        """What is refused is said in one line, a mistake of Python's with its place."""
        await self.open()
        shown = self.type("mgmt('targets/iscsi', 'add_target ' + list(targets)[0])\r")
        self.assertIn("EEXIST there is a target", shown)
        self.assertNotIn("Traceback", shown)
        self.assertIn("ENOENT ", self.type("get('nowhere')\r"))
        self.assertIn("Traceback", self.type("1 / 0\r"))

    async def test_exit(self) -> None:
        """``exit()`` ends the prompt as Ctrl-D does, and nothing else."""
        for said in ("exit()\r", "quit()\r", "raise SystemExit(3)\r"):
            await self.open()
            self.type(said)
            self.assertTrue(self.transport.disconnecting, said)

    async def test_long_line(self) -> None:
        """A line that is pasted by mistake ends where it does, and costs little."""
        await self.open()
        shown = self.type("#" + "x" * 3 * MAX_TYPED)
        self.assertLess(len(shown), 200 * MAX_TYPED)
        self.assertEqual(len(self.prompt.terminalProtocol.lineBuffer), MAX_TYPED)
        self.type("\r")
        self.assertIn("2", self.type("1 + 1\r"))

    async def test_trace(self) -> None:
        """The trace is seen and changed by its words."""
        await self.open()
        self.assertIn("off  scsi", self.type("trace()\r"))
        self.type("trace('add scsi')\r")
        self.assertIn("on   scsi", self.type("trace()\r"))
        self.assertIn("EINVAL trace_level", self.type("trace('add x')\r"))

    async def test_follow(self) -> None:
        """What happens is shown as it comes, and the line that is being typed stays."""
        await self.open()
        tree = self.verbs.tree
        self.assertIn("unknown event", self.type("follow('NO')\r"))
        self.type("trace('add scsi')\r")
        self.assertIn("from now on", self.type("follow()\r"))
        self.type("abc")
        self.transport.clear()
        login(tree)
        tree.system.events.publish("LOGIN_REFUSED", initiator="\x1b[2J")
        await control_turn()
        shown = self.transport.value().decode()
        self.assertIn("SESSION_OPENED", shown)
        self.assertIn("TEST UNIT READY CHECK CONDITION", shown)
        self.assertIn("initiator=?[2J", shown)
        self.assertNotIn("initiator=\x1b", shown)
        self.assertEqual(self.line(), "abc")
        self.type("\x7f\x7f\x7ffollow('SESSION_*')\r")
        self.assertEqual(len(tree.system.events.subscriptions), 1)
        self.type("follow(False)\r")
        self.assertEqual(len(tree.system.events.subscriptions), 0)
        self.type("follow()\r")
        session = ConsoleSession(None)
        session.closed()
        session._terminal = self.prompt.terminalProtocol
        session.closed()
        self.assertEqual(len(tree.system.events.subscriptions), 0)
        self.type("follow()\r")
        self.prompt.connectionLost(ConnectionDone())
        self.assertEqual(len(tree.system.events.subscriptions), 0)

    async def test_tables(self) -> None:
        """Sessions, LUNs and the commands under way are shown with what they are."""
        await self.open()
        tree = self.verbs.tree
        self.assertEqual(repr(self.verbs.sessions()), "none")
        initiator = login(tree)
        self.assertIn("iqn.2005-03.org.initiator:a", repr(self.verbs.sessions()))
        luns = self.verbs.luns()
        self.assertEqual(
            [(row.group, row.lun, row.device.name) for row in luns],
            [("", 0, "disk1"), ("", 1, "disk2"), ("g", 5, "disk3")],
        )
        self.assertIn("1073741824", repr(luns))
        unit = tree.system.devices["disk1"].unit
        store = unit.store
        held: Any = Held(store)
        unit.volume.store = held
        initiator.send(initiator.command(read10(8, 1), read=512))
        self.assertEqual(len(held.reads), 1)
        tasks = self.verbs.tasks()
        self.assertEqual([task.lba for task in tasks], [8])
        self.assertRegex(
            repr(tasks), r"disk1 +0 +iqn\S+ +READ\(10\) +8 +1 +running +0\.0"
        )
        held.reads.pop().callback(bytes(512))
        self.assertEqual(repr(self.verbs.tasks()), "none")
        unit.volume.store = store
        self.assertIn(IQN, repr(luns))

    async def test_page(self) -> None:
        """What doc/operating.md says at the console can be said there."""
        page = Path(scstd.__file__).parents[1] / "doc" / "operating.md"
        if not page.exists():
            raise unittest.SkipTest("not run from a checkout")
        directory = Path(self.mktemp())
        directory.mkdir()
        text = blocks(page, "scst.conf")[0]
        await self.open(text.replace("filename ", f"filename {directory}/"))
        driver: Any = self.verbs.tree.system.drivers["iscsi"].instance
        name = "iqn.2026-11.org.scstd:ann"
        Initiator(driver.node, name=name).ready("iqn.2026-11.org.scstd:vm")
        (said,) = [one for one in blocks(page, "console") if ">>> luns()" in one]
        lines = re.findall(r"^>>> (.*)$", said, re.MULTILINE)
        self.assertGreater(len(lines), 5)
        for line in lines:
            shown = self.type(f"{line}\r")
            self.assertNotIn("Error", shown, line)
            await self.verbs.tree.change(lambda: None)
            if line == "luns()":
                table = said.partition(">>> luns()\n")[2].partition(">>>")[0]
                for row in table.splitlines():
                    self.assertIn(" ".join(row.split()), " ".join(shown.split()))
        self.assertEqual(len(self.verbs.luns()), 2)

    def test_watch(self) -> None:
        """A task's time is from when it was first seen, a look a second."""
        clock = Clock()

        class Unit:
            def __init__(self) -> None:
                self.under_way: list[Any] = []

            def tasks(self) -> list[Any]:
                """Return them."""
                return self.under_way

        class World:
            def __init__(self) -> None:
                self.unit = Unit()
                self.devices = {"d": self}
                self.reactor = clock

        world: Any = World()
        watch = TaskWatch(world)
        watch.start()
        old: Any = object()
        world.unit.under_way = [old]
        clock.advance(1)
        clock.advance(1)
        new: Any = object()
        world.unit.under_way = [old, new]
        clock.advance(1)
        self.assertEqual((watch.seconds(old), watch.seconds(new)), (2.0, 0.0))
        world.unit.under_way = []
        clock.advance(1)
        self.assertEqual(watch.seconds(old), 0.0)
        watch.stop()
        watch.stop()
        self.assertEqual(clock.getDelayedCalls(), [])
