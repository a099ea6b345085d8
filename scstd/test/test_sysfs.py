# SPDX-License-Identifier: MIT
"""
What SCST's own tool finds in the tree, and what it writes there.

It is made for SCST's sysfs, and takes what it reads there to be that: these tests have
the facts that it relies on, without it.  See doc/operating.md, SCST's scstadmin.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import unittest
from pathlib import Path

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import implementer

import scstd
from scstd.management.errors import TreeError
from scstd.management.monitor.counters import COUNTERS
from scstd.management.tree.nodes import File
from scstd.management.tree.tree import Tree
from scstd.test.clients import need
from scstd.test.mounting import Mounting
from scstd.test.test_tree import IQN, TARGET, login, started
from scstd.test.test_tree_live import READY


async def refused(tree: Tree, path: str, text: str) -> int:
    """
    Return the errno with which a write is refused.
    """
    try:
        await tree.write(path, text)
    except TreeError as error:
        return error.errno
    return 0


class SysfsTests(TestCase):
    """
    Texts, modes and verbs.
    """

    async def test_marks(self) -> None:
        """
        Where SCST's tool looks for a mark, or for none, it is so whatever the value is.
        """
        tree = await started(self)
        await tree.manage("device_groups", "create", ["dg"])
        mgmt = "device_groups/dg/target_groups/mgmt"
        await tree.write(mgmt, "add there\n")
        group = "device_groups/dg/target_groups/there"
        await tree.write(f"{group}/mgmt", "add elsewhere\n")
        for path, said in (
            ("targets/iscsi/enabled", "1\n"),
            (f"{TARGET}/enabled", "1\n"),
            (f"{group}/group_id", "0\n[key]\n"),
            (f"{group}/state", "active\n[key]\n"),
            (f"{group}/preferred", "0\n"),
            (f"{group}/elsewhere/rel_tgt_id", "0\n[key]\n"),
        ):
            self.assertEqual(tree.read(path), said, path)
        port = f"{group}/elsewhere/rel_tgt_id"
        for text, said in (("7\n", "7"), ("0\n", "0"), ("9", "9"), ("", "0")):
            await tree.write(port, text)
            self.assertEqual(tree.read(port), f"{said}\n[key]\n")

    async def test_available(self) -> None:
        """
        What SCST's tool may give along, and what it may add to, stands in the mgmt
        files in SCST's words: a name that is not there it does not use.
        """
        tree = await started(self)
        parameters = "The following parameters available: "
        for path, prefix, some, none in (
            (
                "handlers/vdisk_fileio/mgmt",
                parameters,
                "filename read_only size",
                "type",
            ),
            (f"{TARGET}/luns/mgmt", parameters, "read_only", "device"),
            (f"{TARGET}/ini_groups/g/luns/mgmt", parameters, "read_only", "device"),
            (
                "targets/iscsi/mgmt",
                "The following target driver attributes available: ",
                "IncomingUser OutgoingUser portal",
                "enabled",
            ),
            (
                "targets/iscsi/mgmt",
                "The following target attributes available: ",
                "IncomingUser OutgoingUser allowed_portal",
                "QueuedCommands",
            ),
        ):
            (line,) = (
                one for one in tree.read(path).splitlines() if one.startswith(prefix)
            )
            names = line.removeprefix(prefix).split(", ")
            self.assertLessEqual(set(some.split()), set(names), path)
            self.assertNotIn(none, names)
        # A target gets what it is to have afterwards: see `Objects`.
        self.assertNotIn(parameters, tree.read("targets/iscsi/mgmt"))

    async def test_version(self) -> None:
        """SCST's tool finds a version that it takes; ours stands below."""
        tree = await started(self)
        first, second, *more = tree.read("version").splitlines()
        self.assertRegex(first, r"^3\.\d+\.\d+$")
        self.assertEqual((second, more), (f"scstd {scstd.__version__}", []))

    async def test_accounts(self) -> None:
        """
        A user and the secret are added as SCST takes them, without quotes, and removed
        by the name alone; until there is one there is no file to be seen.
        """
        tree = await started(self)
        mgmt = "targets/iscsi/mgmt"
        odd = 'jim pass;word="of\\jim"'
        for verb, where in (
            ("attribute", "targets/iscsi"),
            (f"target_attribute {IQN}", TARGET),
        ):
            add, remove = f"add_{verb}", f"del_{verb}"
            self.assertNotIn("IncomingUser", tree.list(where))
            for text in (
                f"{add} IncomingUser joe 12charsecret\n",
                f'{add}  IncomingUser "ann 12charsecret"',
                f"{add} IncomingUser1 {odd}",
            ):
                await tree.write(mgmt, text)
            self.assertEqual(
                [
                    tree.read(f"{where}/IncomingUser{at}", bare=True)
                    for at in ("", "1", "2")
                ],
                [
                    f"{one}\n[key]\n"
                    for one in ("joe 12charsecret", "ann 12charsecret", odd)
                ],
            )
            for text, number in (
                (f"{add} IncomingUser joe 12charsecret", errno.EEXIST),
                (f"{add} IncomingUser joe", errno.EINVAL),
                (f"{add} IncomingUser", errno.EINVAL),
                (f"{add} IncomingUsers joe 12charsecret", errno.EINVAL),
                (f"{remove} IncomingUser bob", errno.ENOENT),
                (f"{remove} IncomingUser joe 12charsecreT", errno.ENOENT),
                (f"{remove} IncomingUser", errno.EINVAL),
                (f"{remove} enabled 1", errno.EINVAL),
            ):
                self.assertEqual(await refused(tree, mgmt, text), number, text)
            for text in (
                f"{remove} IncomingUser joe",
                f"{remove} IncomingUser ann 12charsecret",
                f"{remove} IncomingUser {odd}",
            ):
                await tree.write(mgmt, text)
            self.assertNotIn("IncomingUser", tree.list(where))
            # There is one who we are: another takes his place.
            for who in ("me", "myself"):
                await tree.write(mgmt, f"{add} OutgoingUser {who} 12charsecret")
                said = tree.read(f"{where}/OutgoingUser", bare=True)
                self.assertEqual(said, f"{who} 12charsecret\n[key]\n")
            await tree.write(mgmt, f"{remove} OutgoingUser myself")
            self.assertNotIn("OutgoingUser", tree.list(where))

    async def test_threads(self) -> None:
        """SCST's threads are taken with a warning, and read back, but nothing comes."""
        tree = await started(self)
        logged: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            logged.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        there = int(tree.read("threads"))
        await tree.write("threads", f"{there + 7}\n")
        self.assertEqual(tree.read("threads").split("\n")[0], str(there + 7))
        await tree.write("devices/disk1/threads_num", "4\n")
        self.assertEqual(tree.read("devices/disk1/threads_num"), "0\n")
        self.assertEqual(
            [line.split(":")[0] for line in logged if "taken, and left out" in line],
            ["threads", "disk1"],
        )
        for text in ("", "0", "-1", "many"):
            number = await refused(tree, "threads", text)
            self.assertEqual(number, errno.EINVAL)

    async def test_blank(self) -> None:
        """Nothing is a value only where there may be none."""
        tree = await started(self)
        for path in (
            "measure_latency",
            f"{TARGET}/QueuedCommands",
            f"{TARGET}/enabled",
        ):
            before = tree.read(path)
            for text in ("", "\n"):
                self.assertEqual(await refused(tree, path, text), errno.EINVAL)
            self.assertEqual(tree.read(path), before)
        await tree.write("devices/disk1/prod_id", "one\n")
        await tree.write("devices/disk1/prod_id", "\n")
        self.assertEqual(tree.read("devices/disk1/prod_id"), "\n")

    async def test_default(self) -> None:
        """SCST's word for the default takes values away where several may be."""
        tree = await started(self)
        mgmt = "targets/iscsi/mgmt"
        for name, value in (
            ("allowed_portal", "10.*"),
            ("IncomingUser", "joe 12charsecret"),
        ):
            path = f"{TARGET}/{name}"
            add = f"add_target_attribute {IQN} {name}"
            for text in (":default:", ":default:\n"):
                await tree.write(mgmt, f"{add} {value}")
                self.assertIn(name, tree.list(TARGET))
                await tree.write(path, text)
                self.assertNotIn(name, tree.list(TARGET))
                await tree.write(path, text)
            await tree.write(mgmt, f"{add} {value}")
            for verb in ("add", "del"):
                text = f"{verb}_target_attribute {IQN} {name} :default:"
                self.assertIn(
                    await refused(tree, mgmt, text), {errno.EINVAL, errno.ENOENT}
                )
            self.assertIn(name, tree.list(TARGET))
            await tree.write(mgmt, f"set_target_attribute {IQN} {name} :default:")
            self.assertNotIn(name, tree.list(TARGET))

    async def test_dummy(self) -> None:
        """A device that only keeps a place is refused, and why; 0 asks for none."""
        tree = await started(self)
        mgmt = "handlers/vdisk_nullio/mgmt"
        number = await refused(tree, mgmt, "add_device nodev dummy=1;")
        self.assertEqual(number, errno.EINVAL)
        self.assertIn("LUN 0 may be missing", tree.last_error)
        # It is listed, for else SCST's tool opens a disk in its place.
        self.assertRegex(tree.read(mgmt), r"parameters available: .*\bdummy\b")
        await tree.write(mgmt, "add_device nodev dummy=0;size=1048576;")
        self.assertEqual(tree.read("devices/nodev/current_size"), "1048576\n")

    async def test_size(self) -> None:
        """The size is there though none was given, and is then not one to be saved."""
        tree = await started(self)
        path = Path(self.mktemp())
        path.write_bytes(bytes(3 << 20))
        mgmt = "handlers/vdisk_fileio"
        given = [("filename", str(path))]
        await tree.manage(mgmt, "add_device", ["found"], given)
        self.assertEqual(tree.read("devices/found/size"), f"{3 << 20}\n")
        self.assertEqual(tree.read("devices/found/size_mb"), "3\n")
        self.assertTrue(tree.read("devices/disk1/size").endswith("\n[key]\n"))

    async def test_settled(self) -> None:
        """What is settled when a device is opened is no file to be written, and why."""
        tree = await started(self)
        for name, writable in (("tst", False), ("rotational", True)):
            entry = tree.entry(f"devices/disk1/{name}")
            assert isinstance(entry, File)
            self.assertEqual(entry.writable, writable, name)
        self.assertEqual(await refused(tree, "devices/disk1/tst", "0"), errno.EPERM)
        self.assertIn("is settled when", tree.last_error)


class CounterTests(TestCase):
    """
    What sessions have done, by the direction of the data.
    """

    async def test_session(self) -> None:
        """
        Commands, data and what is not aligned are counted; writing one counter sets
        those of its direction to nothing.
        """
        tree = await started(self)
        one = login(tree)
        (name,) = tree.list(f"{TARGET}/sessions")
        session = f"{TARGET}/sessions/{name}"
        for counter in COUNTERS:
            await tree.write(f"{session}/{counter}", "0\n")
            self.assertEqual(tree.read(f"{session}/{counter}"), "0\n", counter)
        for lba, blocks in ((0, 8), (16, 16), (1, 8), (8, 1)):
            cdb = struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0)
            self.assertEqual(one.do(cdb, read=blocks << 9).status, 0)
        for lba, blocks in ((0, 8), (7, 8), (7, 1)):
            cdb = struct.pack(">BBIBHB", 0x2A, 0, lba, 0, blocks, 0)
            self.assertEqual(one.do(cdb, data=bytes(blocks << 9)).status, 0)
        self.assertEqual(one.do(READY).status, 0)
        wanted = {
            **dict.fromkeys(COUNTERS, 0),
            "read_cmd_count": 4,
            "read_io_count_kb": 16,
            "read_unaligned_cmd_count": 2,
            "write_cmd_count": 3,
            "write_io_count_kb": 8,
            "write_unaligned_cmd_count": 2,
            "none_cmd_count": 1,
        }
        self.assertEqual(self.found(tree, session), wanted)
        # Of a target: of all its sessions.
        other = login(tree, "iqn.2005-03.org.initiator:b")
        self.assertEqual(other.do(READY).status, 0)
        total = self.found(tree, TARGET)
        self.assertGreater(total["none_cmd_count"], 1)
        del total["none_cmd_count"], wanted["none_cmd_count"]
        self.assertEqual(total, wanted)
        await tree.write(f"{session}/read_io_count_kb", "0\n")
        found = self.found(tree, session)
        self.assertEqual({found[one] for one in found if one.startswith("read")}, {0})
        self.assertEqual(found["write_cmd_count"], 3)
        self.assertEqual(
            await refused(tree, f"{TARGET}/read_cmd_count", "0"), errno.EACCES
        )

    @staticmethod
    def found(tree: Tree, path: str) -> dict[str, int]:
        """Return the counters of an object."""
        return {name: int(tree.read(f"{path}/{name}")) for name in COUNTERS}


class MountTests(Mounting):
    """
    The tree where SCST's tool has it, through sshfs, as doc/scst.md says.
    """

    def test_as_root(self) -> None:
        """
        The page's script mounts the tree; files are opened, written, read and followed
        as by SCST's tool, and each refusal is an error and a line in the log.
        """
        if os.geteuid():
            raise unittest.SkipTest("only root can have mounts of its own")
        need("unshare")
        (script,) = self.page("scst.md")
        with self.served() as server:
            self.sh(self.here(script))
            steps = Path(__file__).with_name("sysfs_steps.py")
            said = self.mount(f"./with-tree {sys.executable} {steps} {IQN}")
            self.assertEqual(said, "done\n")
            status = self.sh("./with-tree sh -c 'exit 3' || echo $?").stdout
            self.assertEqual(status, "3\n")
            server.stop()
            log = server.log()
        self.assertNotIn("Traceback", log)
        self.assertNotIn("12charsecret", log)
        self.assertIn("there is a device 'd1' already", log)
