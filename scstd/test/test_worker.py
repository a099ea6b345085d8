# SPDX-License-Identifier: MIT
"""
Tests for `scstd.workers.worker` in this process, its link in memory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from scstd.attributes import ConfigurationError
from scstd.management.config.reading import read
from scstd.management.errors import TreeError
from scstd.management.monitor.events import Event
from scstd.management.monitor.logs import Levels
from scstd.process import last_resort
from scstd.test.linking import Pair
from scstd.workers import worker as worker_module
from scstd.workers.worker import Settings, Worker

PART = """
HANDLER memory {
    DEVICE d {
        size 1M
    }
}
TARGET_DRIVER iscsi {
    enabled 1
    TARGET iqn.2000-01.test:one {
        LUN 0 d
        enabled 1
    }
}
"""


class WorkerTests(TestCase):
    """A worker does what the front calls, tells what happens, and ends."""

    def setUp(self) -> None:
        """Have one, not started."""
        self.events: list[Event] = []
        self.ended: list[bool] = []
        self.patch(worker_module, "LAST", mock.Mock(spec=last_resort.LastResort))
        self.worker = Worker(reactor, Levels(), lambda: self.ended.append(True))
        front: dict[str, Any] = {
            "event": self.events.append,
            "number": lambda ours, _theirs: {
                name: at + 1 for at, name in enumerate(ours)
            },
        }
        self.pair = Pair(front, self.worker.link)
        self.addCleanup(self.end)

    def end(self) -> Deferred[None]:
        """End it, if it has not."""
        self.pair.cut()
        return self.worker.stop()

    async def call(self, name: str, *args: Any) -> Any:
        """Call something, and have it answered."""
        done = self.pair.front.call(name, *args)
        while not done.called:
            self.pair.carry()
            turn: Deferred[None] = Deferred()
            reactor.callLater(0, turn.callback, None)
            await turn
        return await done

    async def start(self, part: str = PART, **settings: Any) -> None:
        """Start it."""
        state = Path(self.mktemp())
        await self.call("start", Settings(state, **settings), read(part, "part"))

    def names(self) -> list[str]:
        """Return what has happened."""
        self.pair.carry()
        return [one.name for one in self.events]

    async def test_start(self) -> None:
        """It opens its part, and tells of that."""
        await self.start(levels=(("scstd", "warn"),))
        self.assertIn("REG_VIRT_DEV", self.names())
        self.assertIn("d", await self.call("list", "handlers/memory"))
        self.assertEqual((("scstd", "warn"),), self.worker._levels.base)
        self.assertEqual(os.getpid(), await self.call("hello"))

    async def test_not_opened(self) -> None:
        """What it cannot open is why it does not serve."""
        part = PART.replace("memory", "vdisk_fileio").replace(
            "size 1M", "filename /nowhere/at.all"
        )
        with self.assertRaises(ConfigurationError) as caught:
            await self.start(part)
        self.assertIn("/nowhere/at.all", str(caught.exception))

    async def test_keep_going(self) -> None:
        """Told to keep going it serves the others."""
        part = PART.replace("memory", "vdisk_fileio").replace(
            "size 1M", "filename /nowhere/at.all"
        )
        await self.start(part, keep_going=True)
        self.assertIn("DEVICE_MISSING", self.names())

    async def test_apply(self) -> None:
        """It takes another part; that is no event of the whole."""
        await self.start()
        await self.call("apply", read("HANDLER memory {\n}\n", "none"), False)
        self.assertEqual([], list(self.worker.tree.system.devices))
        self.assertIn("DEVICE_CLOSED", self.names())
        self.assertNotIn("CONFIGURATION_APPLIED", self.names())

    async def test_do(self) -> None:
        """It changes what it is told to, by each way there is."""
        await self.start()
        tree = self.worker.tree
        target = "targets/iscsi/iqn.2000-01.test:one"
        await self.call("do", ("write", f"{target}/enabled", "0"))
        self.assertEqual("0", tree.read(f"{target}/enabled")[:1])
        await self.call("do", ("put", target, "enabled", True))
        self.assertEqual("1", tree.read(f"{target}/enabled")[:1])
        await self.call("do", ("manage", f"{target}/luns", "del", ["0"], []))
        await self.call("do", ("manage", "handlers/memory", "del_device", ["d"], []))
        (device,) = read(PART, "part").devices
        await self.call("do", ("add_device", device))
        self.assertEqual(["d"], list(tree.system.devices))

    async def test_adopt_nobody(self) -> None:
        """What cannot be adopted is closed."""
        await self.start()
        for driver in ("no such driver", "iscsi"):
            reading, writing = os.pipe()
            self.addCleanup(os.close, writing)
            with self.assertRaises((ConfigurationError, OSError)):
                self.worker.adopt(driver, "no such target", None, reading)
            self.assertRaises(BrokenPipeError, os.write, writing, b"anybody there")

    async def test_portals(self) -> None:
        """It tells initiators of the front's portals."""
        await self.start()
        await self.call("portals", {"iscsi": ["192.0.2.1:3260"]})
        instance: Any = self.worker.tree.system.drivers["iscsi"].instance
        self.assertEqual(["192.0.2.1:3260"], list(instance.portals()))

    async def test_slow_front(self) -> None:
        """What happens while the front reads nothing is told later, up to a number."""
        await self.start()
        self.pair.carry()
        del self.events[:]
        self.patch(worker_module, "_WAITING", 3)
        publish = self.worker.tree.system.events.publish
        self.worker.link.pauseProducing()
        for number in range(5):
            publish("IO_ERROR", lba=number)
        # The front has to know who is there.
        publish("SESSION_CLOSED", lba=8)
        self.assertEqual([], self.names())
        self.worker.link.resumeProducing()
        publish("IO_ERROR", lba=9)
        self.pair.carry()
        self.assertEqual([0, 1, 2, 8, 9], [one.fields["lba"] for one in self.events])

    async def test_odd_event(self) -> None:
        """An event with something in it that does not travel comes as text."""
        await self.start()
        self.worker.tree.system.events.publish("IO_ERROR", error=lambda: None)
        self.assertIn("IO_ERROR", self.names())
        self.assertIsInstance(self.events[-1].fields["error"], str)

    async def test_stop(self) -> None:
        """It closes everything, and ends when the link does."""
        await self.start()
        await self.call("stop")
        self.assertEqual([], list(self.worker.tree.system.devices))
        self.assertEqual([], self.ended)
        self.pair.front.close()
        self.pair.carry()
        self.assertEqual([True], self.ended)

    async def test_started_late(self) -> None:
        """What is to end opens nothing any more."""
        await self.call("stop")
        with self.assertRaises(TreeError):
            await self.start()

    async def test_front_gone(self) -> None:
        """Without a front it closes everything and ends."""
        await self.start()
        self.pair.cut()
        await self.worker.stop()
        self.assertEqual([], list(self.worker.tree.system.devices))
        self.assertEqual([True], self.ended)

    async def test_never_started(self) -> None:
        """One that the front has left before the start ends, too."""
        self.pair.cut()
        await self.worker.stop()
        self.assertEqual([True], self.ended)

    async def test_hurry(self) -> None:
        """Told to hurry, its stop waits for nothing."""
        await self.start()
        await self.call("hurry")
        self.assertTrue(self.worker.patience.hurried)
