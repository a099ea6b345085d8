# SPDX-License-Identifier: MIT
"""
Tests for the tree: `scstd.management.tree.tree`, `entries`, `objects`, `maps`, `sessions`.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.management.config.applying import Configurator
from scstd.management.config.reading import read
from scstd.management.errors import TreeError, number_of
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.mgmt import joined, split
from scstd.management.tree.nodes import Directory, File, Link
from scstd.management.tree.tree import Tree
from scstd.test.generating import examples
from scstd.test.initiator import Initiator

IQN = "iqn.2006-10.net.vlnb:tgt"


TARGET = f"targets/iscsi/{IQN}"


CONFIGURATION = f"""\
HANDLER vdisk_nullio {{
    DEVICE disk1 {{
        size 1G
    }}
    DEVICE disk2
    DEVICE disk3
}}
TARGET_DRIVER iscsi {{
    enabled 1
    TARGET {IQN} {{
        enabled 1
        LUN 0 disk1
        LUN 1 disk2
        GROUP g {{
            LUN 5 disk3
            INITIATOR iqn.2005-03.org.special:*
        }}
    }}
}}
"""


async def started(case: TestCase, text: str = CONFIGURATION) -> Tree:
    """
    Return the tree of a system that runs what a text says, until the test ends.
    """
    state = StateDirectory(Path(case.mktemp()))
    tree = Tree(System(reactor, state))
    await Configurator(tree).start(
        read(text, "scst.conf"), {"iscsi": ["tcp:0:interface=127.0.0.1"]}
    )
    case.addCleanup(tree.system.close)
    return tree


def login(tree: Tree, name: str = "iqn.2005-03.org.initiator:a") -> Initiator:
    """
    Return an initiator that has logged in, and has taken its power-on attentions.
    """
    driver: Any = tree.system.drivers["iscsi"].instance
    initiator = Initiator(driver.node, name=name)
    return initiator.ready(IQN)


class WordTests(SynchronousTestCase):
    """
    What is written to mgmt files.
    """

    def test_split(self) -> None:
        """Words, then pairs; as SCST's examples write them."""
        for text, words, pairs in (
            ("add_device d filename=/x; size=1G", ["add_device", "d"], [("filename", "/x"), ("size", "1G")]),
            ("add_device d filename=/x size=1G", ["add_device", "d"], [("filename", "/x"), ("size", "1G")]),
            ("add d 0 read_only=1;", ["add", "d", "0"], [("read_only", "1")]),
            ('x filter="delay write=1"; a=b', ["x"], [("filter", "delay write=1"), ("a", "b")]),
            ("x filename=/a b c; n=1", ["x"], [("filename", "/a b c"), ("n", "1")]),
            (r"x filename=/a\;b", ["x"], [("filename", "/a;b")]),
            ("", [], []),
        ):  # fmt: skip
            self.assertEqual(split(text), (words, pairs), text)
        self.assertRaises(TreeError, split, 'x "y')

    @examples()
    @given(
        st.lists(st.text("ab \\\";'", min_size=1), max_size=3),
        st.lists(st.tuples(st.sampled_from(["a", "b"]), st.text('xy= ";\\'))),
    )
    def test_joined(self, words: list[str], pairs: list[tuple[str, str]]) -> None:
        """What is joined is split into the same."""
        self.assertEqual(split(joined("v", words, pairs)), (["v", *words], pairs))


class TreeTests(TestCase):
    """
    Paths, files, verbs, errors.
    """

    async def refused(self, tree: Tree, path: str, text: str) -> int:
        """Return the errno with which a write is refused."""
        try:
            await tree.write(path, text)
        except TreeError as error:
            self.assertTrue(str(error))
            return error.errno
        return 0

    async def test_everything_reads(self) -> None:
        """Every file can be read or written, every mgmt has help, every link leads."""
        tree = await started(self)
        login(tree)
        seen = {"mgmt": 0, "files": 0, "links": 0}

        def visit(path: str, directory: Directory) -> None:
            names = directory.listing()
            self.assertEqual(len(names), len(set(names)), path)
            for name in names:
                where = f"{path}/{name}"
                entry = directory.find(name)
                if isinstance(entry, Link):
                    seen["links"] += 1
                    self.assertIsInstance(tree.entry(where), Directory, where)
                elif isinstance(entry, Directory):
                    visit(where, entry)
                elif name == "mgmt":
                    seen["mgmt"] += 1
                    self.assertIn("\n    ", tree.read(where))
                else:
                    assert isinstance(entry, File)
                    seen["files"] += 1
                    self.assertTrue(entry.reader or entry.writer, where)
                    if entry.reader:
                        self.assertTrue(tree.read(where).endswith("\n"), where)

        visit("", tree.directory(""))
        self.assertGreater(min(seen.values()), 4, seen)
        self.assertGreater(seen["files"], 100)

    async def test_layout(self) -> None:
        """What SCST's documentation names is where it says."""
        tree = await started(self)
        for path in (
            "handlers/vdisk_nullio/mgmt",
            "handlers/vdisk_nullio/type",
            "devices/disk1/handler",
            "devices/disk1/type",
            "devices/disk1/exported/export0",
            "devices/disk1/resync_size",
            "targets/iscsi/mgmt",
            "targets/iscsi/enabled",
            f"{TARGET}/luns/mgmt",
            f"{TARGET}/luns/0/device",
            f"{TARGET}/luns/0/read_only",
            f"{TARGET}/ini_groups/mgmt",
            f"{TARGET}/ini_groups/g/luns/5/device",
            f"{TARGET}/ini_groups/g/initiators/mgmt",
            f"{TARGET}/ini_groups/g/initiators/iqn.2005-03.org.special:*",
            f"{TARGET}/sessions",
            f"{TARGET}/QueuedCommands",
            f"{TARGET}/rel_tgt_id",
            "device_groups",
            "setup_id",
            "version",
            "last_sysfs_mgmt_res",
        ):
            tree.entry(path)
        device = tree.read("devices/disk1/exported/export0/device/size")
        self.assertEqual(device, f"{1 << 30}\n[key]\n")

    async def test_key(self) -> None:
        """The last line says whether a value is to be saved."""
        tree = await started(self)
        path = f"{TARGET}/QueuedCommands"
        self.assertEqual(tree.read(path), "32\n")
        await tree.write(path, "8\n")
        self.assertEqual(tree.read(path), "8\n[key]\n")
        await tree.write(path, ":default:")
        self.assertEqual(tree.read(path), "32\n")

    async def test_repeated(self) -> None:
        """An attribute with several values has a file for each, ending in digits."""
        tree = await started(self)
        mgmt = "targets/iscsi/mgmt"
        self.assertEqual(tree.read("targets/iscsi/portal"), "\n")
        self.assertNotIn("portal", tree.list("targets/iscsi"))
        await tree.write(mgmt, "add_attribute portal 127.0.0.1:1111")
        await tree.write(mgmt, "add_attribute portal 127.0.0.1:2222")
        self.assertEqual(tree.read("targets/iscsi/portal1"), "127.0.0.1:2222\n[key]\n")
        self.assertEqual(
            await self.refused(tree, mgmt, "add_attribute portal 127.0.0.1:2222"),
            errno.EEXIST,
        )
        await tree.write("targets/iscsi/portal1", "127.0.0.1:3333")
        await tree.write(mgmt, "del_attribute portal 127.0.0.1:1111")
        self.assertEqual(tree.read("targets/iscsi/portal"), "127.0.0.1:3333\n[key]\n")
        self.assertNotIn("portal1", tree.list("targets/iscsi"))

    async def test_refused(self) -> None:
        """What cannot be done has the errno that says why, and changes nothing."""
        tree = await started(self)
        before = tree.system.configuration()
        for path, text, number in (
            ("nothing", "1", errno.ENOENT),
            ("devices/none/size", "1", errno.ENOENT),
            ("version/x", "1", errno.ENOTDIR),
            ("devices", "1", errno.EISDIR),
            ("version", "1", errno.EACCES),
            ("devices/disk1/tst", "0", errno.EPERM),
            ("devices/disk1/size", "x", errno.EINVAL),
            ("devices/disk1/size", "1G\n2G", errno.EINVAL),
            (f"{TARGET}/QueuedCommands", "0", errno.EINVAL),
            ("handlers/vdisk_nullio/mgmt", "", errno.EINVAL),
            ("handlers/vdisk_nullio/mgmt", "nonsense", errno.EINVAL),
            ("handlers/vdisk_nullio/mgmt", "add_device", errno.EINVAL),
            ("handlers/vdisk_nullio/mgmt", "add_device disk1", errno.EEXIST),
            ("handlers/vdisk_nullio/mgmt", "add_device d9 sice=1", errno.EINVAL),
            ("handlers/vdisk_nullio/mgmt", "del_device d9", errno.ENOENT),
            ("handlers/vdisk_nullio/mgmt", "del_device disk1", errno.EBUSY),
            ("handlers/vdisk_fileio/mgmt", "add_device f filename=/no/such", errno.EINVAL),
            ("targets/iscsi/mgmt", f"add_target {IQN}", errno.EEXIST),
            ("targets/iscsi/mgmt", "add_target x", errno.EINVAL),
            ("targets/iscsi/mgmt", "del_target x", errno.ENOENT),
            (f"{TARGET}/luns/mgmt", "add disk1 0", errno.EEXIST),
            (f"{TARGET}/luns/mgmt", "add disk9 9", errno.ENOENT),
            (f"{TARGET}/luns/mgmt", "add disk1 16384", errno.EINVAL),
            (f"{TARGET}/luns/mgmt", "replace disk1 9", errno.ENOENT),
            (f"{TARGET}/luns/mgmt", "del 9", errno.ENOENT),
            (f"{TARGET}/luns/mgmt", "del 0 1", errno.EINVAL),
            (f"{TARGET}/ini_groups/mgmt", "create g", errno.EEXIST),
            (f"{TARGET}/ini_groups/mgmt", "create mgmt", errno.EINVAL),
            (f"{TARGET}/ini_groups/mgmt", "create a/b", errno.EINVAL),
            (f"{TARGET}/ini_groups/mgmt", "order", errno.EINVAL),
            (f"{TARGET}/ini_groups/g/initiators/mgmt", "del x", errno.ENOENT),
            (f"{TARGET}/ini_groups/g/initiators/mgmt", "move x g", errno.ENOENT),
        ):  # fmt: skip
            self.assertEqual(await self.refused(tree, path, text), number, (path, text))
            self.assertEqual(tree.read("last_sysfs_mgmt_res"), f"{number}\n")
        self.assertEqual(tree.system.configuration(), before)
        await tree.write("setup_id", "0x5")
        self.assertEqual(tree.read("last_sysfs_mgmt_res"), "0\n")
        self.assertEqual(number_of(ValueError()), errno.EINVAL)

    async def test_one_after_the_other(self) -> None:
        """Changes that are asked for at once are made one after the other."""
        tree = await started(self)
        path = Path(self.mktemp())
        path.write_bytes(bytes(1 << 20))
        mgmt = "handlers/vdisk_fileio/mgmt"
        both = [
            tree.write(mgmt, f"add_device f filename={path}"),
            tree.write(mgmt, "del_device f"),
        ]
        for one in both:
            await one
        self.assertNotIn("f", tree.list("devices"))

    async def test_portal_refused(self) -> None:
        """A portal that cannot be is refused, whatever its endpoint raises."""
        tree = await started(self)
        nonsense = Path(self.mktemp())
        nonsense.write_text("this is no key")
        tree.system.drivers["iscsi"].fixed = ()
        await tree.write("targets/iscsi/portal", "127.0.0.1:0")
        for portal, number in (
            (f"ssl:0:privateKey={nonsense}", errno.EINVAL),
            (f"scst-tls:0:certKey={nonsense}", errno.EINVAL),
        ):
            text = f"add_attribute portal {portal}"
            found = await self.refused(tree, "targets/iscsi/mgmt", text)
            self.assertEqual(found, number, portal)

    async def test_many_wait(self) -> None:
        """Thousands that wait for one change have their turn, and nothing is stuck."""
        tree = await started(self)
        await tree._turns.acquire()
        many = [tree.write("setup_id", str(number)) for number in range(3000)]
        tree._turns.release()
        for one in many:
            await one
        self.assertEqual(tree.read("setup_id"), "2999\n[key]\n")

    async def test_devices(self) -> None:
        """Devices are opened and closed; with force their LUNs go first."""
        tree = await started(self)
        mgmt = "handlers/memory/mgmt"
        await tree.write(mgmt, "add_device m size=1M; usn=abc")
        self.assertEqual(tree.read("devices/m/serial"), "abc\n")
        self.assertIn("m", tree.list("handlers/memory"))
        await tree.write(f"{TARGET}/luns/mgmt", "add m 7 read_only=1")
        self.assertEqual(tree.read(f"{TARGET}/luns/7/read_only"), "1\n[key]\n")
        await tree.write(mgmt, "del_device m force=1")
        self.assertNotIn("7", tree.list(f"{TARGET}/luns"))

    async def test_targets(self) -> None:
        """A target that is removed ends its sessions."""
        tree = await started(self)
        initiator = login(tree)
        await tree.write(f"{TARGET}/LogoutTimeout", "0")
        (name,) = tree.list(f"{TARGET}/sessions")
        self.assertEqual(name, initiator.name)
        await tree.write("targets/iscsi/mgmt", f"del_target {IQN}")
        self.assertTrue(initiator.connection.over)
        self.assertEqual(tree.system.sessions(), [])
        await tree.write("targets/iscsi/mgmt", f"add_target {IQN} enabled=1")
        self.assertEqual(tree.list(f"{TARGET}/luns"), ["mgmt"])

    async def test_sessions(self) -> None:
        """A session shows what was negotiated; writing force_close ends it."""
        tree = await started(self)
        first, second = login(tree), None
        driver: Any = tree.system.drivers["iscsi"].instance
        second = Initiator(driver.node, name=first.name, isid=b"\x80\0\0\0\0\2")
        second.login(IQN)
        sessions = tree.list(f"{TARGET}/sessions")
        self.assertEqual(sessions, [first.name, f"{first.name}_1"])
        path = f"{TARGET}/sessions/{first.name}"
        self.assertEqual(tree.read(f"{path}/initiator_name"), f"{first.name}\n")
        self.assertEqual(tree.read(f"{path}/ErrorRecoveryLevel"), "0\n")
        self.assertIn(tree.read(f"{path}/ImmediateData"), {"Yes\n", "No\n"})
        self.assertEqual(tree.read(f"{path}/lun1/active_commands"), "0\n")
        self.assertEqual(tree.read(f"{path}/luns/0/device/blocks"), f"{1 << 21}\n")
        await tree.write(f"{TARGET}/LogoutTimeout", "0")
        await tree.write(f"{path}_1/force_close", "1")
        self.assertTrue(second.connection.over)
        self.assertFalse(first.connection.over)

    async def test_queued_commands_is_live(self) -> None:
        """A session there is keeps to a changed QueuedCommands."""
        tree = await started(self)
        initiator = login(tree)
        window = initiator.connection.window
        wide = window.max_cmd_sn - window.exp_cmd_sn + 1
        await tree.write(f"{TARGET}/QueuedCommands", str(wide + 8))
        self.assertEqual(window.max_cmd_sn - window.exp_cmd_sn + 1, wide + 8)
