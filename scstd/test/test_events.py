# SPDX-License-Identifier: MIT
"""
Tests for events: `scstd.management.monitor.events`, what tells of them, and the subscription on
the control socket; `scstd.management.cli.events`.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

import scstd
from scstd.attributes import ConfigurationError
from scstd.management.cli.events import line
from scstd.management.cli.scstadmin import prepare
from scstd.management.control import control
from scstd.management.control.commands import FailedError
from scstd.management.errors import TreeError
from scstd.management.monitor.events import EVENTS, Event, Hub
from scstd.protocols.wire.pdu import TaskManagementResponse
from scstd.test.initiator import Initiator
from scstd.test.serving import PATIENCE, Server
from scstd.test.test_control import Connected, short_directory
from scstd.test.test_tree import CONFIGURATION, IQN, TARGET, login

DRIVE = """\
HANDLER vcdrom {
    DEVICE cd
}
"""


class HubTests(SynchronousTestCase):
    """
    Queues.
    """

    def test_bounded(self) -> None:
        """A slow subscriber loses the newest events and is told how many; not others."""
        hub = Hub(lambda: 5.0)
        slow, quick = hub.subscribe(most=3), hub.subscribe(["LUN_*"], most=3)
        for lun in range(5):
            hub.publish("LUN_NOT_FOUND", lun=lun)
            found, lost = quick.take(10)
            self.assertEqual(([one.fields["lun"] for one in found], lost), ([lun], 0))
        hub.publish("REG_VIRT_DEV", device="x")
        found, lost = slow.take(2)
        self.assertEqual(([one.number for one in found], lost), ([1, 2], 0))
        found, lost = slow.take(2)
        self.assertEqual(([one.number for one in found], lost), ([3], 3))
        self.assertEqual(quick.take(10), ([], 0))
        slow.end()
        self.assertEqual(list(hub.subscriptions), [quick])

    def test_ready(self) -> None:
        """Who waits is called once, at the next event that it wants."""
        hub = Hub(lambda: 5.0)
        one = hub.subscribe(["REG_VIRT_DEV"])
        calls: list[str] = []
        one.when_ready(lambda: calls.append("first"))
        hub.publish("DEVICE_CLOSED", device="x")
        self.assertEqual(calls, [])
        hub.publish("REG_VIRT_DEV", device="x")
        hub.publish("REG_VIRT_DEV", device="y")
        self.assertEqual(calls, ["first"])
        one.when_ready(lambda: calls.append("at once"))
        self.assertEqual(calls, ["first", "at once"])

    def test_unknown(self) -> None:
        """A name of no event is refused, with those there are."""
        hub = Hub(lambda: 5.0)
        error = self.assertRaises(ConfigurationError, hub.subscribe, ["LUN_NOT_FUOND"])
        self.assertIn("LUN_NOT_FOUND", str(error))
        self.assertEqual(hub.subscriptions, {})

    def test_all_are_declared(self) -> None:
        """What the code tells of is in the table and in the manual, and nothing else."""
        root = Path(scstd.__file__).parent
        told: set[str] = set()
        for path in root.rglob("*.py"):
            if "test" not in path.parts:
                text = path.read_text(encoding="utf-8")
                told.update(
                    re.findall(
                        r'(?:report|publish)\(\s*(?:session, pdu, )?"([A-Z_]+)"', text
                    )
                )
        self.assertEqual(told, set(EVENTS))
        manual = (root.parent / "doc/control.md").read_text(encoding="utf-8")
        for name in EVENTS:
            self.assertIn(f"`{name}`", manual)

    def test_line(self) -> None:
        """For people an event is one line; what is not known is left out."""
        said = line(
            Event(1, 0.0, "LOGIN_REFUSED", {"a": None, "b": 3, "c": "x y"}).as_dict()
        )
        self.assertTrue(said.endswith(' LOGIN_REFUSED b=3 c="x y"'), said)


class ToldTests(Connected):
    """
    What is told, over the control socket.
    """

    async def told(self, client: Any, *names: str) -> dict[str, Any]:
        """Return the next event, that has this name."""
        events, lost = await client.events()
        self.assertEqual(lost, 0)
        self.assertEqual([one["event"] for one in events], list(names))
        found: dict[str, Any] = events[-1]
        return found

    async def test_sessions(self) -> None:
        """Sessions, logins that are refused, LUNs that are not there."""
        client, tree = await self.connected()
        await client.subscribe()
        one = login(tree)
        event = await self.told(client, "SESSION_OPENED")
        self.assertEqual(
            (event["target"], event["initiator"]), (IQN, "iqn.2005-03.org.initiator:a")
        )
        one.do(bytes(6), lun=7)
        event = await self.told(client, "LUN_NOT_FOUND")
        self.assertEqual(
            (event["initiator"], event["lun"]), ("iqn.2005-03.org.initiator:a", 7)
        )
        one.logout()
        event = await self.told(client, "SESSION_CLOSED")
        self.assertEqual((event["target"], event["reason"]), (IQN, "logged out"))
        one = login(tree)
        await self.told(client, "SESSION_OPENED")
        driver = tree.system.drivers["iscsi"].instance
        await driver.end_session(driver.sessions()[0], "enough")
        event = await self.told(client, "SESSION_CLOSED")
        self.assertEqual(event["reason"], "enough")
        Initiator(driver.node, name="iqn.2005-03.org.x:b").login(IQN + "no")
        event = await self.told(client, "LOGIN_REFUSED")
        self.assertEqual((event["status"], event["target"]), ("0203", IQN + "no"))
        self.assertIn("no target", event["reason"])
        await client.manage(f"{TARGET}/luns", "clear")
        Initiator(driver.node, name="iqn.2005-03.org.x:b").login(IQN)
        await self.told(client, "NEGATIVE_LUNS_INQUIRY", "LOGIN_REFUSED")

    async def test_task_management(self) -> None:
        """A function is told of when it comes, and when it is answered."""
        client, tree = await self.connected()
        one = login(tree)
        await client.subscribe(["TM_FN_*"])
        one.manage(5, lun=1)
        self.assertEqual(one.one(TaskManagementResponse).response, 0)
        event = await self.told(client, "TM_FN_RECEIVED", "TM_FN_DONE")
        self.assertEqual(
            (event["function"], event["lun"], event["response"]),
            ("LOGICAL_UNIT_RESET", 1, 0),
        )

    async def test_devices(self) -> None:
        """Devices, their sizes and media, and what is configured."""
        client, tree = await self.connected()
        await client.subscribe()
        await client.manage("handlers/memory", "add_device", ["m"], [("size", "1M")])
        event = await self.told(client, "REG_VIRT_DEV")
        self.assertEqual((event["device"], event["blocks"]), ("m", 2048))
        await client.write("devices/m/gen_tp_soft_threshold_reached_UA", "1")
        await self.told(client, "SOFT_THRESHOLD_REACHED")
        tree.system.devices.find("m").unit.volume.resized()
        await self.told(client, "CAPACITY_CHANGED")
        await client.manage("handlers/memory", "del_device", ["m"])
        await self.told(client, "DEVICE_CLOSED")
        await client.manage("handlers/vcdrom", "add_device", ["cd"])
        await self.told(client, "REG_VIRT_DEV")
        disc = Path(self.mktemp())
        disc.write_bytes(bytes(1 << 20))
        await client.write("devices/cd/filename", str(disc.absolute()))
        event = await self.told(client, "MEDIUM_CHANGED")
        self.assertEqual((event["device"], event["blocks"]), ("cd", 512))
        path = Path(self.mktemp()).absolute()
        path.write_text("HANDLER nothing {\n}\n")
        with contextlib.suppress(FailedError):
            await client.apply(str(path))
        event = await self.told(client, "CONFIGURATION_FAILED")
        self.assertIn("nothing", event["error"])
        path.write_text(CONFIGURATION + DRIVE)
        await client.apply(str(path), keep=True)
        event = await self.told(client, "MEDIUM_CHANGED", "CONFIGURATION_APPLIED")
        self.assertEqual(event["changes"], 1)

    async def test_access_state(self) -> None:
        """SET TARGET PORT GROUPS is told of with who, what, and where to."""
        client, tree = await self.connected()
        path = Path(self.mktemp()).absolute()
        path.write_text(
            CONFIGURATION.replace("LUN 1 disk2", "LUN 9 m")
            + "HANDLER memory {\nDEVICE m {\nsize 1M\nexpl_alua 1\n}\n}\n"
            "DEVICE_GROUP dg {\nDEVICE m\nTARGET_GROUP tg {\ngroup_id 7\n"
            f"TARGET {IQN}\n}}\n}}\n"
        )
        await client.apply(str(path))
        one = login(tree)
        one.do(bytes(6), lun=9)
        await client.subscribe(["STPG_*"])
        data = bytes.fromhex("00000000 01 00 0007")
        done = one.do(bytes.fromhex("a40a00000000 00000008 0000"), data=data, lun=9)
        self.assertEqual(done.status, 0)
        event = await self.told(client, "STPG_USER_INVOKE")
        self.assertEqual(
            [event[name] for name in ("device", "target_group", "before", "state")],
            ["m", "tg", "active", "nonoptimized"],
        )

    async def test_refused(self) -> None:
        """One wait at a time, and only after subscribing; what is unknown is refused."""
        client, tree = await self.connected()
        for call in (client.events(), client.subscribe(["NOTHING"])):
            with self.assertRaises(FailedError):
                await call
        await client.subscribe(["REG_VIRT_DEV"])
        waiting = ensureDeferred(client.events())
        with self.assertRaises(FailedError):
            await client.events()
        # Other filters while it waits.
        await client.subscribe(["DEVICE_CLOSED"])
        tree.system.events.publish("REG_VIRT_DEV")
        tree.system.events.publish("DEVICE_CLOSED")
        events, _lost = await waiting
        self.assertEqual([one["event"] for one in events], ["DEVICE_CLOSED"])

    async def test_gone(self) -> None:
        """Who hangs up is forgotten, waiting or not."""
        client, tree = await self.connected()
        await client.subscribe()
        waiting = ensureDeferred(client.events())
        self.assertEqual(len(tree.system.events.subscriptions), 1)
        await self.hang_up(client)
        with contextlib.suppress(Exception):
            await waiting
        while tree.system.events.subscriptions:
            await control_turn()
        tree.system.events.publish("REG_VIRT_DEV")

    async def test_tool(self) -> None:
        """``scstadmin -events`` prints what happens; many at once are all there."""
        client, tree = await self.connected()
        body = prepare(["-events", "REG_*", "-count", "150", "-json"])
        assert not isinstance(body, int)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            running = ensureDeferred(body(client))
            while not tree.system.events.subscriptions:
                await control_turn()
            for number in range(151):
                tree.system.events.publish("REG_VIRT_DEV", device=f"d{number}" * 40)
            self.assertEqual(await running, 0)
        found = [json.loads(one)["number"] for one in out.getvalue().splitlines()]
        self.assertEqual(found, list(range(found[0], found[0] + 150)))

    async def test_too_slow(self) -> None:
        """Who does not take its events is told how many are gone."""
        client, tree = await self.connected()
        await client.subscribe()
        for number in range(2048 + 7):
            tree.system.events.publish("REG_VIRT_DEV", device=str(number))
        err, out = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            events = lost = 0
            while not lost:
                found, lost = await client.events()
                events += len(found)
                self.assertLessEqual(len(found), control.MAX_TOLD)
        self.assertEqual((events, lost), (2048, 7))


async def control_turn() -> None:
    """Let the reactor turn once."""
    from twisted.internet import reactor  # noqa: PLC0415 - the one that runs
    from twisted.internet.task import deferLater  # noqa: PLC0415

    await deferLater(reactor, 0.0, lambda: None)


class ProcessTests(SynchronousTestCase):
    """
    The tool as a process.
    """

    def test_interrupted(self) -> None:
        """Ctrl-C ends it, with a status of its own and without a complaint."""
        directory = short_directory(self)
        with Server(
            "--device",
            "d=memory:size=1M",
            directory=str(directory),
            wait_for="the control socket is",
        ):
            tool = subprocess.Popen(
                [
                    *(sys.executable, "-c"),
                    # In a background job SIGINT is ignored, in its children too.
                    "import signal as s; s.signal(s.SIGINT, s.default_int_handler);"
                    "from scstd.management.cli.scstadmin import entry; entry()",
                    *("-events", "-socket", "state/control"),
                ],
                cwd=directory,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert tool.stderr is not None
            self.assertEqual(tool.stderr.readline(), "subscribed\n")
            tool.send_signal(signal.SIGINT)
            out, err = tool.communicate(timeout=PATIENCE)
        self.assertEqual((tool.returncode, out, err), (130, "", ""))


class PatienceTests(Connected):
    """
    Files that may take long to be written.
    """

    async def test_errors(self) -> None:
        """They are refused like others."""
        _client, tree = await self.connected()
        for text in ("", "soon", "1.5"):
            with self.assertRaises(TreeError):
                await tree.write("suspend", text)
        with self.assertRaises(TreeError):
            await tree.write("devices/disk1/block", "2")
