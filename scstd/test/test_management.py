# SPDX-License-Identifier: MIT
"""
Tests for `scstd.attributes`, `scstd.plugin` and `scstd.management`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, execute
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.attributes import (
    ConfigurationError,
)
from scstd.blocking import Lane
from scstd.handlers.memory import MemoryStore
from scstd.management.config.applying import Configurator
from scstd.management.config.reading import read, read_file
from scstd.management.console.commands import Verbs
from scstd.management.grammar.scstconf import parse
from scstd.management.model.configuration import device
from scstd.management.paths import default_directory
from scstd.management.state.record_file import RecordFile
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
from scstd.protocols.target_names import check_iqn
from scstd.protocols.wire.names import normal_name
from scstd.scsi.device import open_disk
from scstd.scsi.luns import matches
from scstd.test.generating import examples

EXAMPLE = """\
# The file of SCST's own documentation, as far as it goes here.
setup_id 0x1
HANDLER vdisk_nullio {
    DEVICE disk1 {
        size 4G
        read_only 1
    }
    DEVICE disk2
}
HANDLER memory
{
    DEVICE "disk 3"x { size 1M }
}
TARGET_DRIVER iscsi {
    enabled 1
    TARGET iqn.2006-10.net.vlnb:tgt {
        enabled 1
        QueuedCommands 64
        alias "a \\"big\\" one"
        LUN 0 disk1 {
            read_only 1
        }
        LUN 300 disk2
        GROUP g {
            LUN 0 disk2
            INITIATOR iqn.2005-03.org.vlnb:*
            INITIATOR !*:bad
        }
    }
    TARGET iqn.2006-10.net.vlnb:other
}
"""


EXAMPLE = EXAMPLE.replace('"disk 3"x', "disk3")


UUID = "5a0f3c00-0000-4000-8000-000000000001"


class AtOnce(Lane):
    """A lane that makes its calls at once."""

    def __init__(self) -> None:
        super().__init__(None, "")

    def call(self, function: Any, *args: Any) -> Deferred[Any]:
        """Make the call."""
        return execute(function, *args)


class ParserTests(SynchronousTestCase):
    """
    scst.conf.
    """

    def wrong(self, text: str) -> str:
        """Return what is wrong with a file."""
        return str(self.assertRaises(ConfigurationError, read, text, "scst.conf"))

    def test_example(self) -> None:
        """What is written is what is configured."""
        found = read(EXAMPLE, "scst.conf")
        self.assertEqual(
            [one.name for one in found.devices], ["disk1", "disk2", "disk3"]
        )
        self.assertEqual(found.devices[0].values["size"], 4 << 30)
        self.assertTrue(found.devices[0].values["read_only"])
        (driver,) = found.drivers
        self.assertTrue(driver.values["enabled"])
        target, other = driver.targets
        self.assertEqual(target.values["QueuedCommands"], 64)
        self.assertEqual(target.values["alias"], 'a "big" one')
        self.assertEqual(
            [(one.lun, one.device, one.read_only) for one in target.luns],
            [(0, "disk1", True), (300, "disk2", False)],
        )
        (group,) = target.groups
        self.assertEqual(group.patterns, ("iqn.2005-03.org.vlnb:*", "!*:bad"))
        self.assertFalse(other.values["enabled"])

    def test_mistakes(self) -> None:
        """A mistake has its place, its word, and what was expected."""
        for text, place, words in (
            ("HANDLER nosuch {\n}\n", "1:9: 'nosuch'", "vdisk_fileio"),
            ("HANDLER memory {\n  DEVICE d {\n    size 1Q\n  }\n}\n", "3:10: '1Q'", "a number of bytes"),
            ("HANDLER memory {\n  DEVICE d {\n    colour red\n  }\n}\n", "3:5: 'colour'", "blocksize"),
            ("HANDLER memory {\n  DEVICE d\n}\n", "2:10: 'd'", "'size' is missing"),
            ("HANDLER memory {\n  DEVICE d {\n    size 1M\n    size 2M\n  }\n}", "4:5: 'size'", "given twice"),
            ("HANDLER memory {\n", "1:16: '{'", "closing brace"),
            ("}\n", "1:1: '}'", "no block is open"),
            ("{\n}\n", "1:1: '{'", "keyword"),
            ('HANDLER "memory {\n', "1:9:", "closing quote"),
            ("HANDLER\n", "1:1: 'HANDLER'", "device handler's name"),
            ("HANDLER memory\n", "1:9: 'memory'", "opening brace"),
            ("HANDLER memory more {\n}\n", "1:16: 'more'", "end of the line"),
            ("HANLDER memory {\n}\n", "1:1: 'HANLDER'", "did you mean 'HANDLER'?"),
            ("DEVICE_GROUP g\n", "1:14: 'g'", "opening brace"),
            ("DEVICE_GROUP g {\n  DEVICE d\n}\n", "2:10: 'd'", "unknown device"),
            ("DEVICE_GROUP g {\n  TARGET_GROUP t {\n    state off\n  }\n}\n", "3:11: 'off'", "one of active"),
            ("TARGET_DRIVER iscsi {\n  TARGET bad {\n  }\n}\n", "2:10: 'bad'", "iSCSI name"),
            ("TARGET_DRIVER iscsi {\n  TARGET iqn.2006-10.net:t {\n    LUN 0 d\n  }\n}\n", "3:11: 'd'", "unknown device"),
            ("TARGET_DRIVER iscsi {\n  TARGET iqn.2006-10.net:t {\n    LUN x d\n  }\n}\n", "3:9: 'x'", "whole number"),
            ("TARGET_DRIVER iscsi {\n  TARGET iqn.2006-10.net:t {\n    LUN 0\n  }\n}\n", "3:9: '0'", "device's name"),
            ("TARGET_DRIVER iscsi {\n  TARGET iqn.2006-10.net:t {\n    MaxSessions -1\n  }\n}\n", "3:17: '-1'", "whole number"),
            ("TARGET_DRIVER iscsi {\n  TARGET iqn.2006-10.net:t {\n    nonsense 1\n  }\n}\n", "3:5: 'nonsense'", "QueuedCommands"),
            ("HANDLER memory {\n  DEVICE d {\n    size 1M\n    filter slow\n  }\n}\n", "4:12: 'slow'", "delay"),
            ("HANDLER memory {\n  DEVICE d {\n    size 1M\n  }\n}\nHANDLER memory {\n  DEVICE d {\n    size 1M\n  }\n}\n", "7:10: 'd'", "there already"),
        ):  # fmt: skip
            message = self.wrong(text)
            self.assertTrue(message.startswith(f"scst.conf:{place}"), (text, message))
            self.assertIn(words, message)

    def test_no_file(self) -> None:
        """A file that cannot be read is named."""
        error = self.assertRaises(ConfigurationError, read_file, "/no/such/file")
        self.assertIn("/no/such/file", str(error))

    @examples()
    @given(st.text('{}"\\# \nabHANDLER', max_size=60))
    def test_any_text(self, text: str) -> None:
        """Any text is statements, or a mistake with its place."""
        try:
            parse(text, "f")
        except ConfigurationError as error:
            self.assertRegex(str(error), r"^f:\d+:\d+: ")

    def test_patterns(self) -> None:
        """Patterns: star, question mark, negation; nothing else is special."""
        for pattern, name, expected in (
            ("iqn.2026-11.org:*", "iqn.2026-11.org:x", True),
            ("iqn.2026-11.ORG:?", "iqn.2026-11.org:x", True),
            ("iqn.2026-11.org:?", "iqn.2026-11.org:xy", False),
            ("!*:bad", "a:good", True),
            ("!*:bad", "a:bad", False),
            ("[ab]", "a", False),
            ("[ab]", "[ab]", True),
            ("a.b", "axb", False),
        ):
            self.assertIs(matches(pattern, name), expected, (pattern, name))

    def test_iqn(self) -> None:
        """Names of targets are checked."""
        for name in (
            "iqn.2026-11.org.scstd:a.b-c",
            "eui.0123456789abcdef",
            "naa.52004567ba64678d",
            "iqn.2026-11.org",
        ):
            check_iqn(name)
            # Else no initiator could log in: its names are folded (section 4.2.7).
            self.assertEqual(normal_name(name), name)
        for name in (
            "iqn.2026-11.org:A",
            "disk",
            "iqn:x",
            "iqn.2026-11.org:a b",
            "eui.0123456789ABCDEF",
            "naa.52004567BA64678D",
        ):
            self.assertRaises(ConfigurationError, check_iqn, name)


class RecordTests(SynchronousTestCase):
    """
    One record, replaced in place.
    """

    def test_replaced(self) -> None:
        """The last one is there, a longer one, a shorter one, or nothing."""
        path = Path(self.mktemp())
        record = RecordFile(path)
        self.assertEqual(record.read(), b"")
        for data in (b"short", b"long" * 5000, b"x", b""):
            record.replace(data)
            self.assertEqual(RecordFile(path).read(), data)
        record.close()
        record.replace(b"again")
        self.assertEqual(record.read(), b"again")
        record.close()

    def test_torn(self) -> None:
        """One of which a part is missing, or wrong, is none."""
        path = Path(self.mktemp())
        record = RecordFile(path)
        record.replace(b"data" * 100)
        record.close()
        whole = path.read_bytes()
        for size in (0, 8, 16, 17, len(whole) - 1):
            path.write_bytes(whole[:size])
            self.assertEqual(record.read(), b"")
            path.write_bytes(whole[:size] + bytes(len(whole) - size))
            self.assertEqual(record.read(), b"")
        path.write_bytes(whole + b"more of an older one")
        self.assertEqual(record.read(), b"data" * 100)


class StateTests(SynchronousTestCase):
    """
    What devices remember.
    """

    def setUp(self) -> None:
        """Make a directory."""
        self.state = StateDirectory(Path(self.mktemp()))

    def test_kept(self) -> None:
        """What is saved is there the next time."""
        one = self.state.device("disk", AtOnce())
        one.update("uuid", UUID)
        one.close()
        self.assertEqual(self.state.device("disk", AtOnce()).load(), {"uuid": UUID})

    def test_locked(self) -> None:
        """A device that is open already does not share its identity."""
        one = self.state.device("disk", AtOnce())
        one.update("uuid", UUID)
        other = self.state.device("disk", AtOnce())
        self.assertEqual(other.load(), {})
        self.assertEqual((one.durable, other.durable), (True, False))
        other.update("uuid", "y")
        one.close()
        self.assertEqual(self.state.device("disk", AtOnce()).load(), {"uuid": UUID})

    def test_broken(self) -> None:
        """A file that is not ours is named, not overwritten."""
        self.state.device("disk", AtOnce()).close()
        path = self.state.path / "devices" / "disk.json"
        for text in ("{", "[]"):
            path.write_text(text)
            error = self.assertRaises(
                ConfigurationError, self.state.device, "disk", AtOnce()
            )
            self.assertIn("disk.json", str(error))

    def test_reservations(self) -> None:
        """What makes no sense as persistent reservations is named with its file."""
        kept = self.state.device("disk", AtOnce())
        kept.update("persistent", {"registrations": [], "type": 1, "holder": None})
        store = MemoryStore(1 << 20, 512)
        error = self.assertRaises(ValueError, open_disk, "disk", store, memory=kept)
        self.assertIn('disk.json: its entry "persistent"', str(error))
        kept.update("persistent", None)
        open_disk("disk", store, memory=kept)
        kept.close()

    def test_not_writable(self) -> None:
        """A directory that cannot be made is named, with the way out."""
        state = StateDirectory(Path("/proc/nowhere"))
        error = self.assertRaises(ConfigurationError, state.device, "disk", AtOnce())
        self.assertIn("--state-dir", str(error))

    def test_default(self) -> None:
        """The service manager's directory comes first."""
        self.patch(
            default_directory.__globals__["os"], "environ", {"STATE_DIRECTORY": "/x:/y"}
        )
        self.assertEqual(default_directory(), Path("/x"))
        self.patch(
            default_directory.__globals__["os"], "environ", {"XDG_STATE_HOME": "/h"}
        )
        self.patch(default_directory.__globals__["os"], "geteuid", lambda: 1000)
        self.assertEqual(default_directory(), Path("/h/scstd"))


class SystemTests(TestCase):
    """
    A configuration made to run.
    """

    def setUp(self) -> None:
        """Make a system."""
        self.state = StateDirectory(Path(self.mktemp()))
        self.system = System(reactor, self.state)
        self.tree = Tree(self.system)

    async def open(self, text: str = EXAMPLE) -> None:
        """Open what a text configures, on a free port."""
        await Configurator(self.tree).start(
            read(text, "scst.conf"), {"iscsi": ["tcp:0:interface=127.0.0.1"]}
        )

    async def test_whole(self) -> None:
        """Devices, LUN maps and URLs are there, and everything closes."""
        await self.open()
        urls = self.system.urls()
        self.assertEqual(len(urls), 2)
        self.assertRegex(urls[1], r"^iscsi://127\.0\.0\.1:\d+/iqn.*:tgt/300$")
        target = self.system.drivers.targets["iqn.2006-10.net.vlnb:tgt"]
        self.assertEqual(list(target.luns_for("iqn.2005-03.org.vlnb:x")), [0])
        self.assertEqual(list(target.luns_for("iqn.other:bad")), [0, 300])
        await self.system.close()
        self.assertEqual(self.system.devices, {})

    async def test_identity(self) -> None:
        """A device keeps its identity over a restart; two devices never share one."""
        found = []
        for _start in range(2):
            await self.open()
            found.append([one.unit.identity for one in self.system.devices.values()])
            await self.system.close()
        self.assertEqual(found[0], found[1])
        self.assertEqual(len({one.naa for one in found[0]}), 3)
        saved = json.loads((self.state.path / "devices" / "disk1.json").read_text())
        self.assertIn("uuid", saved)

    async def test_failure(self) -> None:
        """What cannot be opened is named, and what was open is closed again."""
        text = EXAMPLE.replace(
            "HANDLER memory\n{",
            "HANDLER vdisk_fileio {\n DEVICE f {\n filename /no/such/file\n }\n}\nHANDLER memory {",
        )
        with self.assertRaises(ConfigurationError) as caught:
            await self.open(text)
        self.assertIn("device f: /no/such/file", str(caught.exception))
        self.assertEqual(self.system.devices, {})

    async def test_port_in_use(self) -> None:
        """A port that is taken is named."""
        await self.open()
        port = self.system.urls()[0].split("/")[2].split(":")[1]
        other = System(reactor, StateDirectory(Path(self.mktemp())))
        with self.assertRaises(ConfigurationError) as caught:
            await Configurator(Tree(other)).start(
                read(EXAMPLE, "scst.conf"),
                {"iscsi": [f"tcp:{port}:interface=127.0.0.1"]},
            )
        self.assertIn("cannot listen", str(caught.exception))
        await self.system.close()

    async def test_filters(self) -> None:
        """Filters stand before the store in the order in which they are written."""
        text = EXAMPLE.replace(
            "size 1M", 'size 1M\n filter "delay read=1"\n filter "error on=write"\n'
        )
        await self.open(text)
        store: Any = self.system.devices["disk3"].unit.store
        layers = []
        while hasattr(store, "inner"):
            store = store.inner
            layers.append(type(store).__name__)
        self.assertEqual(
            [name for name in layers if name != "Checked"],
            ["Failing", "Delayed", "MemoryStore"],
        )
        await self.system.close()

    async def test_verbs(self) -> None:
        """At the console, objects have paths, and attributes can be read and set."""
        await self.open()
        verbs = Verbs(self.tree)
        path = "targets/iscsi/iqn.2006-10.net.vlnb:tgt"
        self.assertIn(path, verbs.ls())
        self.assertEqual(verbs.get(path)["QueuedCommands"], "64")
        verbs.set(path, "QueuedCommands", "8")
        self.assertEqual(verbs.get(path)["QueuedCommands"], "8")
        verbs.set(path, "HeaderDigest", "None")
        verbs.set("devices/disk2", "prod_id", "Thing")
        told: list[int] = []
        unit = self.system.devices["disk2"].unit
        unit.attention = told.append  # type: ignore[assignment]
        self.assertEqual(self.system.devices["disk2"].unit.product, "Thing")
        verbs.set("devices/disk2", "gen_tp_soft_threshold_reached_UA", "1")
        self.assertEqual(told, [0x3807])
        del unit.attention
        verbs.set("devices/disk2", "read_only", "1")
        self.assertTrue(self.system.devices["disk2"].unit.write_protected)
        for arguments in (
            (path, "QueuedCommands", "0"),
            (path, "nonsense", "0"),
            ("devices/disk2", "size", "1M1"),
            ("devices/disk2", "tst", "0"),
            ("devices/none", "size", "1M"),
        ):
            self.assertRaises(ConfigurationError, verbs.set, *arguments)
        self.assertEqual((verbs.sessions(), verbs.tasks()), ([], []))
        self.assertRaises(ConfigurationError, verbs.close, 0)
        await self.system.close()

    def test_device_names(self) -> None:
        """Names that would be paths are refused."""
        for name in ("", "a/b", "..", "x" * 65, "a b"):
            self.assertRaises(
                ConfigurationError, device, name, "memory", [("size", "1M")]
            )
