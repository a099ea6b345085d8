# SPDX-License-Identifier: MIT
"""
A text that a person has written is parsed once, whatever the way from the face that it
comes through to the plugin that it is for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from scstd.attributes import Attribute
from scstd.management.config.applying import Configurator
from scstd.management.config.reading import read, read_and_check
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
from scstd.tap import command_line_devices

LOOPBACK = {"iscsi": ["tcp:0:interface=127.0.0.1"]}

FILE = """
HANDLER memory {
    DEVICE disk {
        size 1M
        blocksize 4096
        usn serial
        filter "delay read=0.25"
    }
}
TARGET_DRIVER iscsi {
    TARGET iqn.2026-11.org.scstd:a {
        QueuedCommands 17
        LUN 0 disk
    }
}
"""

GIVEN = {"size": "1M", "blocksize": "4096", "usn": "serial"}


class ParsedOnceTests(TestCase):
    """
    Each parsing of a text of a row is counted.
    """

    def setUp(self) -> None:
        """Count, and make a system."""
        self.parsed: Counter[tuple[str, str]] = Counter()
        parse: Callable[[Any, str], Any] = Attribute.parse

        def counting(row: Any, text: str) -> Any:
            self.parsed[row.name, text] += 1
            return parse(row, text)

        self.patch(Attribute, "parse", counting)
        self.system = System(reactor, StateDirectory(Path(self.mktemp())))
        self.tree = Tree(self.system)
        self.addCleanup(self.tree.close)

    def see(self, *given: tuple[str, str]) -> None:
        """See that each of these was parsed once, and nothing else twice."""
        for one in given:
            self.assertEqual(self.parsed[one], 1, one)
        twice = {one for one, times in self.parsed.items() if times > 1}
        self.assertEqual(twice, set())

    def test_file(self) -> Deferred[None]:
        """From scst.conf, with a filter's parameters and a target's attributes."""

        async def check() -> None:
            await Configurator(self.tree).start(read(FILE, "scst.conf"), LOOPBACK)
            disk = self.system.devices["disk"]
            self.assertEqual(disk.unit.blocks, 256)
            self.assertEqual(disk.configuration.filters[0].values["read"], 0.25)
            self.see(*GIVEN.items(), ("read", "0.25"), ("QueuedCommands", "17"))

        return Deferred.fromCoroutine(check())

    def test_reload(self) -> Deferred[None]:
        """From a file that is read again, with another value of each kind."""

        async def check() -> None:
            configurator = Configurator(self.tree)
            await configurator.start(read(FILE, "scst.conf"), LOOPBACK)
            self.parsed.clear()
            text = FILE.replace("serial", "other").replace("0.25", "0.5")
            await configurator.apply(read(text.replace("17", "18"), "scst.conf"))
            self.assertEqual(self.system.devices["disk"].unit.identity.serial, "other")
            self.see(("usn", "other"), ("read", "0.5"), ("QueuedCommands", "18"))

        return Deferred.fromCoroutine(check())

    def test_check(self) -> None:
        """From a file that is only checked, by its handlers too."""
        path = Path(self.mktemp())
        path.write_text(FILE, encoding="utf-8")
        read_and_check(str(path))
        self.see(*GIVEN.items(), ("read", "0.25"))

    def test_command_line(self) -> Deferred[None]:
        """From the command line."""

        async def check() -> None:
            text = "disk=memory:size=1M:blocksize=4096:usn=serial"
            (device,) = command_line_devices([text], [])
            await self.system.devices.add(device)
            self.assertEqual(device.values["blocksize"], 4096)
            self.see(*GIVEN.items())

        return Deferred.fromCoroutine(check())

    def test_socket(self) -> Deferred[None]:
        """From what a tool writes to a mgmt file."""

        async def check() -> None:
            pairs = [*GIVEN.items(), ("filter", "delay read=0.25")]
            await self.tree.manage("handlers/memory", "add_device", ["disk"], pairs)
            self.see(*pairs, ("read", "0.25"))
            self.parsed.clear()
            await self.tree.write("devices/disk/usn", "other")
            words = ["disk", "delay read=0.5"]
            await self.tree.manage("handlers/memory", "set_filters", words)
            self.see(("usn", "other"), ("filter", words[1]), ("read", "0.5"))

        return Deferred.fromCoroutine(check())
