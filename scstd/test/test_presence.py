# SPDX-License-Identifier: MIT
"""
Devices whose stores come and go while they stay LUNs: `scstd.management.ports.activation`.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from scstd.attributes import ConfigurationError
from scstd.initiator.commands import read10
from scstd.management.config.applying import Configurator
from scstd.management.config.reading import read
from scstd.management.config.writing import render
from scstd.management.model.warnings import hearing
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
from scstd.test.initiator import Initiator
from scstd.test.reserving import Registrant
from scstd.test.test_tree import IQN, login
from scstd.test.test_tree_live import attention

INQUIRY = bytes.fromhex("120000006000")


NOT_READY, MANUAL = 2, 0x0403


SIZE = 1 << 20


class PresenceCase(TestCase):
    """
    A system with files in a directory.
    """

    def setUp(self) -> None:
        """Make the directory."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def file(self, name: str = "a") -> Path:
        """Return a new file of 1 MiB."""
        path = self.directory / name
        path.write_bytes(bytes(SIZE))
        return path

    def text(self, *devices: str, handler: str = "vdisk_fileio", more: str = "") -> str:
        """Return a configuration of devices d0, d1, ... with these attributes."""
        blocks = "".join(
            f"DEVICE d{n} {{\n{one}\n}}\n" for n, one in enumerate(devices)
        )
        luns = "".join(f"LUN {n} d{n}\n" for n in range(len(devices)))
        return (
            f"HANDLER {handler} {{\n{blocks}}}\nTARGET_DRIVER iscsi {{\nenabled 1\n"
            f"TARGET {IQN} {{\nenabled 1\n{luns}}}\n}}\n{more}"
        )

    async def start(self, text: str, *, keep_going: bool = False) -> Configurator:
        """Start a system that runs what a text says."""
        tree = Tree(System(reactor, StateDirectory(self.directory / "state")))
        configurator = Configurator(tree, None, keep_going)
        await configurator.start(
            read(text, "scst.conf"), {"iscsi": ["tcp:0:interface=127.0.0.1"]}
        )
        self.addCleanup(tree.close)
        return configurator

    def sees(self, one: Initiator, lun: int = 0) -> Any:
        """Return what a READ ends with, behind the attentions that there are."""
        while attention(one, lun) in range(0x2900, 0x3FFF):
            pass
        done = one.do(read10(0, 1), read=512, lun=lun)
        return 0 if done.status == 0 else done.asc

    def locked(self, path: Path) -> bool:
        """Say whether somebody has a file open as a disk."""
        fd = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False


class ActiveTests(PresenceCase):
    """
    The attribute ``active``.
    """

    async def test_closed(self) -> None:
        """With active 0 the file is not opened, and may be missing; the LUN is there."""
        there, absent = self.file(), self.directory / "none"
        config = await self.start(
            self.text(f"filename {there}\nactive 0", f"filename {absent}\nactive 0")
        )
        one = login(config.tree)
        self.assertFalse(self.locked(there))
        for lun in (0, 1):
            self.assertEqual(one.do(INQUIRY, read=96, lun=lun).status, 0)
            self.assertEqual(self.sees(one, lun), MANUAL)
        self.assertEqual(
            config.tree.read("devices/d0/state"), "closed: it is not active\n"
        )

    async def test_to_and_fro(self) -> None:
        """It is opened and closed under an initiator; its name and keys stay."""
        path = self.file()
        config = await self.start(self.text(f"filename {path}"))
        tree = config.tree
        driver: Any = tree.system.drivers["iscsi"].instance
        one = Registrant(driver.node, name="iqn.2005-03.org.initiator:a").ready(IQN)
        serial = tree.read("devices/d0/serial")
        assert isinstance(one, Registrant)
        one.register(7)
        await tree.write("devices/d0/active", "0")
        self.assertFalse(self.locked(path))
        self.assertEqual(self.sees(one), MANUAL)
        # START STOP UNIT does not make it ready.
        one.do(bytes.fromhex("1b0000000100"))
        self.assertEqual(self.sees(one), MANUAL)
        self.assertEqual(tree.read("devices/d0/serial"), serial)
        self.assertIn("active 0", render(tree.system.configuration()))
        await tree.write("devices/d0/active", "1")
        self.assertTrue(self.locked(path))
        self.assertEqual(attention(one), 0x3F03)
        self.assertEqual(self.sees(one), 0)
        self.assertEqual(one.registered(), [7])
        self.assertNotIn("active", render(tree.system.configuration()))
        # What is so already changes nothing.
        await tree.write("devices/d0/active", "1")
        self.assertEqual(attention(one), 0)

    async def test_cannot(self) -> None:
        """What cannot be opened stays closed, and configured so."""
        absent = self.directory / "none"
        config = await self.start(self.text(f"filename {absent}\nactive 0"))
        with self.assertRaises(ConfigurationError) as caught:
            await config.tree.write("devices/d0/active", "1")
        self.assertIn("does not exist", str(caught.exception))
        self.assertIn("active 0", render(config.tree.system.configuration()))
        with self.assertRaises(ConfigurationError):
            await config.tree.write("devices/d0/resync_size", "1")

    async def test_reload(self) -> None:
        """A reload opens and closes it, and touches no other LUN."""
        text = self.text(f"filename {self.file()}", f"filename {self.file('b')}")
        config = await self.start(text)
        one = login(config.tree)
        closed = text.replace("/a\n", "/a\nactive 0\n")
        steps = await config.apply(read(closed, ""))
        self.assertEqual(list(map(str, steps)), ["devices/d0/active: 0"])
        self.assertEqual([self.sees(one, lun) for lun in (0, 1)], [MANUAL, 0])
        steps = await config.apply(read(text, ""))
        self.assertEqual(list(map(str, steps)), ["devices/d0/active: 1"])
        self.assertEqual(attention(one, 1), 0)
        self.assertEqual([self.sees(one, lun) for lun in (0, 1)], [0, 0])


class MissingTests(PresenceCase):
    """
    Devices that cannot be opened.
    """

    async def test_start(self) -> None:
        """One that cannot be opened breaks its LUN alone, when that is asked for."""
        absent = self.directory / "none"
        text = self.text(f"filename {self.file()}", f"filename {absent}")
        with self.assertRaises(ConfigurationError):
            await self.start(text)
        config = await self.start(text, keep_going=True)
        tree = config.tree
        one = login(tree)
        self.assertEqual([self.sees(one, lun) for lun in (0, 1)], [0, MANUAL])
        self.assertEqual(tree.read("devices/d0/state"), "open\n")
        self.assertIn(f"missing: {absent} does not", tree.read("devices/d1/state"))
        again = read(render(tree.system.configuration()), "")
        self.assertEqual([device.name for device in again.devices], ["d0", "d1"])
        # A reload looks for it again, and goes on without.
        with hearing() as said:
            steps = await config.apply(read(text, ""))
        self.assertEqual(list(map(str, steps)), ["devices/d1/resync_size: 1"])
        self.assertIn("still missing", said[0])
        absent.write_bytes(bytes(SIZE))
        await config.apply(read(text, ""))
        self.assertEqual(attention(one, 1), 0x3F03)
        self.assertEqual(self.sees(one, 1), 0)
        # Nobody else has noticed.
        self.assertEqual(attention(one), 0)
        self.assertEqual(await config.apply(read(text, "")), [])

    async def test_found(self) -> None:
        """It is opened by hand: by -resync_dev, or by -open_dev with another file."""
        absent = self.directory / "none"
        text = self.text(f"filename {absent}")
        for verb in ("resync", "open", "other"):
            config = await self.start(text, keep_going=True)
            tree = config.tree
            one = login(tree)
            with self.assertRaises(ConfigurationError):
                await tree.write("devices/d0/resync_size", "1")
            file = absent if verb != "other" else self.directory / "elsewhere"
            file.write_bytes(bytes(SIZE))
            if verb == "resync":
                await tree.write("devices/d0/resync_size", "1")
            else:
                pairs = [("filename", str(file))] if verb == "other" else []
                await tree.manage("handlers/vdisk_fileio", "add_device", ["d0"], pairs)
            self.assertEqual(self.sees(one), 0)
            self.assertIn(str(file), render(tree.system.configuration()))
            with self.assertRaises(ConfigurationError):
                await tree.manage("handlers/vdisk_fileio", "add_device", ["d0"], [])
            await tree.close()
            file.unlink()

    async def test_apply(self) -> None:
        """A file is applied but for what cannot be opened, when that is asked for."""
        absent = self.directory / "none"
        config = await self.start(self.text(f"filename {self.file()}"))
        text = self.text(f"filename {self.directory / 'a'}", f"filename {absent}")
        with self.assertRaises(ConfigurationError):
            await config.apply(read(text, ""))
        self.flushLoggedErrors()
        self.assertNotIn("d1", config.tree.system.devices)
        with hearing() as said:
            await config.apply(read(text, ""), keep_going=True)
        self.assertIn("device d1 is missing, its LUNs are not ready", said[0])
        self.assertEqual(self.sees(login(config.tree), 1), MANUAL)

    async def test_changes(self) -> None:
        """A missing device is taken away, and is made otherwise, like any other."""
        absent = self.directory / "none"
        text = self.text(f"filename {absent}")
        config = await self.start(text, keep_going=True)
        one = login(config.tree)
        other = text.replace(str(absent), str(self.file()))
        await config.apply(read(other, ""))
        self.assertEqual(self.sees(one), 0)
        await config.apply(read("TARGET_DRIVER iscsi {\nenabled 1\n}\n", ""))
        self.assertEqual(list(config.tree.system.devices), [])


class AccessTests(PresenceCase):
    """
    The attribute ``bind_alua_state``.
    """

    def grouped(self, bind: str, state: str = "active") -> str:
        """Return a configuration with a device in a device group."""
        return self.text(
            f"filename {self.directory / 'a'}\nexpl_alua 1\n{bind}",
            more=f"DEVICE_GROUP g {{\nDEVICE d0\nTARGET_GROUP ours {{\ngroup_id 1\n"
            f"state {state}\nTARGET {IQN}\n}}\nTARGET_GROUP theirs {{\ngroup_id 2\n"
            "state standby\nTARGET iqn.2006-10.net.vlnb:other {\nrel_tgt_id 9\n}\n}\n}\n",
        )

    async def test_states(self) -> None:
        """Its store is open just while a group with our target is active."""
        path = self.file()
        config = await self.start(self.grouped("bind_alua_state 1"))
        tree = config.tree
        one = login(tree)
        where = "device_groups/g/target_groups"
        self.assertTrue(self.locked(path))
        for state, there in (
            ("standby", False),
            ("unavailable", False),
            ("nonoptimized", True),
            ("offline", False),
            ("active", True),
        ):
            await tree.write(f"{where}/ours/state", state)
            self.assertEqual(self.locked(path), there, state)
            self.assertEqual(tree.read(f"{where}/ours/state").split()[0], state)
        # What another node's ports do is that node's.
        await tree.write(f"{where}/theirs/state", "active")
        await tree.write(f"{where}/theirs/state", "standby")
        self.assertTrue(self.locked(path))
        self.assertEqual(self.sees(one), 0)
        # It is configured as before.
        self.assertNotIn("active 0", render(tree.system.configuration()))
        self.assertEqual(config.plan(read(self.grouped("bind_alua_state 1"), "")), [])

    async def test_initiator(self) -> None:
        """An initiator's SET TARGET PORT GROUPS closes and opens it, too."""
        path = self.file()
        config = await self.start(self.grouped("bind_alua_state 1"))
        one = login(config.tree)
        for state, there in ((2, False), (0, True)):
            cdb = bytes.fromhex("a40a00000000000000080000")
            data = bytes((0, 0, 0, 0, state, 0, 0, 1))
            self.sees(one)
            one.send(one.command(cdb, write=8, data=data))
            for _turn in range(200):
                if self.locked(path) == there:
                    break
                await self.later()
            self.assertEqual(self.locked(path), there)

    async def later(self) -> None:
        """Let the reactor turn."""
        from twisted.internet.task import deferLater  # noqa: PLC0415

        await deferLater(reactor, 0.01)

    async def test_unbound(self) -> None:
        """vdisk_fileio is not bound unless it says so; it may be said while it runs."""
        path = self.file()
        config = await self.start(self.grouped(""))
        tree = config.tree
        where = "device_groups/g/target_groups/ours/state"
        await tree.write(where, "standby")
        self.assertTrue(self.locked(path))
        await tree.write(where, "active")
        await tree.write("devices/d0/bind_alua_state", "1")
        await tree.write(where, "standby")
        self.assertFalse(self.locked(path))

    async def test_begins_in_standby(self) -> None:
        """A device that comes into a group in standby is closed; of vdisk_blockio all."""
        path = self.file()
        text = self.grouped("", "standby").replace("vdisk_fileio", "vdisk_blockio")
        config = await self.start(text)
        self.assertFalse(self.locked(path))
        self.assertIn("bind_alua_state", config.tree.read("devices/d0/state"))
        await config.tree.write("device_groups/g/target_groups/ours/state", "active")
        self.assertTrue(self.locked(path))
        self.assertEqual(self.sees(login(config.tree)), 0)

    async def test_cannot(self) -> None:
        """What is not there when it is to be opened is missing; the state is what it is."""
        path = self.file()
        config = await self.start(self.grouped("bind_alua_state 1"))
        tree = config.tree
        where = "device_groups/g/target_groups/ours/state"
        await tree.write(where, "standby")
        path.unlink()
        await tree.write(where, "active")
        self.assertEqual(tree.read(where).split()[0], "active")
        self.assertIn("missing: ", tree.read("devices/d0/state"))
        self.assertEqual(self.sees(login(tree)), MANUAL)


class MeanwhileTests(PresenceCase):
    """
    What happens while a store is opened.
    """

    async def test_closed(self) -> None:
        """A device that is closed while access states open it leaves nothing open."""
        path = self.file()
        text = self.text(f"filename {path}\nactive 0")
        config = await self.start(text)
        system = config.tree.system
        opening = Deferred.fromCoroutine(system.set_device("d0", "active", True))
        await system.remove_device("d0", force=True)
        with self.assertRaises(ConfigurationError):
            await opening
        self.assertFalse(self.locked(path))
        self.assertNotIn("d0", system.devices)


class SizeTests(PresenceCase):
    """
    Files that have grown.
    """

    async def test_grown(self) -> None:
        """A live resize, as doc/operating.md has it, is written and starts again."""
        path = self.directory / "grows"
        text = self.text(f"filename {path}\nsize 1M")
        config = await self.start(text)
        tree = config.tree
        os.truncate(path, 2 * SIZE)
        await tree.write("devices/d0/resync_size", "1")
        self.assertEqual(tree.read("devices/d0/current_size"), f"{2 * SIZE}\n")
        written = render(tree.system.configuration())
        for one in (text, written):
            self.assertEqual(await config.apply(read(one, "")), [])
        await tree.close()
        for one in (text, written):
            with hearing() as said:
                config = await self.start(one)
            self.assertIn("the size of the file counts", said[0])
            self.assertEqual(
                config.tree.read("devices/d0/current_size"), f"{2 * SIZE}\n"
            )
            # By hand nothing is cut off either, and that is said.
            with self.assertRaises(ConfigurationError):
                await config.tree.write("devices/d0/size", "1536K")
            await config.tree.close()
        self.assertEqual(path.stat().st_size, 2 * SIZE)
