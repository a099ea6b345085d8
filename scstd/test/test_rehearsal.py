# SPDX-License-Identifier: MIT
"""
Tests for `scstd.management.config.rehearsal`: a check finds what a start would find.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hypothesis import given
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.attributes import ConfigurationError
from scstd.management.cli import scstadmin, tools
from scstd.management.config.applying import Configurator
from scstd.management.config.reading import read_and_check, read_file
from scstd.management.config.rehearsal import mistakes
from scstd.management.model.configuration import Configuration
from scstd.management.state.state import StateDirectory
from scstd.management.system import System
from scstd.management.tree.tree import Tree
from scstd.test.configurations import configurations
from scstd.test.generating import examples

IQN = "iqn.2006-10.net.vlnb:tgt"


def scst_conf(devices: str, lines: str = "", driver: str = "") -> str:
    """Return a configuration of devices, with lines of the target and the driver."""
    return (
        f"{devices}TARGET_DRIVER iscsi {{\nenabled 1\n{driver}\nTARGET {IQN} {{\n"
        f"enabled 1\n{lines}\n}}\n}}\n"
    )


class CheckTests(TestCase):
    """
    What is found, where, and that a start finds the same.
    """

    def setUp(self) -> None:
        """Make a directory with what devices may be made of."""
        self.at = Path(self.mktemp()).absolute()
        self.at.mkdir()
        (self.at / "good").write_bytes(bytes(1 << 20))
        (self.at / "odd").write_bytes(bytes(1000))
        (self.at / "empty").write_bytes(b"")
        (self.at / "directory").mkdir()

    def disk(self, name: str, lines: str = "", handler: str = "vdisk_fileio") -> str:
        """Return a block with a device in a file."""
        device = f"d_{name.replace('/', '_')}"
        return (
            f"HANDLER {handler} {{\nDEVICE {device} {{\nfilename {self.at / name}\n"
            f"{lines}\n}}\n}}\n"
        )

    def checked(self, text: str) -> str:
        """Return what a check says is wrong, without the file's name."""
        path = self.at / "scst.conf"
        path.write_text(text)
        try:
            read_and_check(str(path))
        except ConfigurationError as error:
            return str(error).replace(f"{path}:", "")
        return ""

    async def starts(self) -> str:
        """Return why what was checked last does not start."""
        tree = Tree(System(reactor, StateDirectory(self.at / "state")))
        try:
            await Configurator(tree).start(
                read_file(str(self.at / "scst.conf")),
                {"iscsi": ["tcp:0:interface=127.0.0.1"]},
            )
        except ConfigurationError as error:
            return str(error)
        finally:
            await tree.close()
        return ""

    async def test_found(self) -> None:
        """Files that are missing, no files, of wrong sizes; what targets may not have."""
        two = 'IncomingUser "a aaaaaaaaaaaa"\n'
        for text, where, why in (
            (self.disk("none"), "3:1: 'filename'", "does not exist"),
            (self.disk("none/x"), "3:1: 'filename'", "there is no directory"),
            (self.disk("none", "size 1M", "vdisk_blockio"), "3:1", "does not exist"),
            (self.disk("directory"), "3:1: 'filename'", "neither a file nor"),
            (self.disk("odd"), "3:1: 'filename'", "no whole block"),
            (self.disk("empty"), "3:1: 'filename'", "not one block"),
            (self.disk("empty", handler="vcdrom"), "3:1: 'filename'", ""),
            (self.disk("good", "size 2M\nread_only 1"), "3:1", "cannot grow"),
            (
                self.disk("good") + self.disk("directory/../good"),
                "9:1: 'filename'",
                "already",
            ),
            ("HANDLER memory {\nDEVICE a {\nsize 1000\n}\n}\n", "2:8: 'a'", "multiple"),
            (f'@{two}OutgoingUser "b aaaaaaaaaaaa"', "7:1: 'OutgoingUser'", "secret"),
            (f'@{two}IncomingUser "a bbbbbbbbbbbb"', "7:1: 'IncomingUser'", "twice"),
        ):
            text = (  # noqa: PLW2901 - what is short for a target
                scst_conf("", text[1:]) if text[0] == "@" else scst_conf(text)
            )
            said = self.checked(text)
            self.assertIn(where, said, text)
            self.assertIn(why, said)
            self.assertNotEqual(await self.starts(), "", text)
        self.flushLoggedErrors()

    async def test_not_found(self) -> None:
        """What a check passes starts; nothing is made, written or locked by it."""
        for text in (
            self.disk("good"),
            self.disk("good", "size 512K"),
            self.disk("good", "read_only 1\nblocksize 4096"),
            self.disk("good", "read_only 1")
            + self.disk("good", "read_only 1").replace("d_good", "again"),
            self.disk("none", "active 0"),
            self.disk("odd", handler="vcdrom"),
            self.disk("made", "size 1M"),
            "HANDLER vcdrom {\nDEVICE c\n}\n",
            "",
        ):
            before = sorted(self.at.iterdir())
            self.assertEqual(self.checked(scst_conf(text)), "", text)
            self.assertEqual(
                sorted({*self.at.iterdir()}), sorted({*before, self.at / "scst.conf"})
            )
            self.assertEqual(await self.starts(), "", text)

    def test_not_allowed(self) -> None:
        """What this user may not write is found."""
        if os.geteuid() == 0:
            self.patch(os, "access", lambda _path, mode: not mode & os.W_OK)
        else:
            (self.at / "good").chmod(stat.S_IRUSR)
        self.assertIn("Permission denied", self.checked(scst_conf(self.disk("good"))))
        said = self.checked(scst_conf(self.disk("new", "size 1M")))
        if os.geteuid() == 0:
            self.assertIn("Permission denied", said)
        said = self.checked(scst_conf(self.disk("good", "read_only 1")))
        self.assertEqual(said, "")

    async def test_nothing_to_serve(self) -> None:
        """A file that was emptied by mistake is refused by all three."""
        self.assertIn("nothing to serve", self.checked("HANDLER memory {\n}\n"))
        tree = Tree(System(reactor, StateDirectory(self.at / "state")))
        self.addCleanup(tree.close)
        configurator = Configurator(tree, str(self.at / "scst.conf"))
        await configurator.start(Configuration())
        with self.assertRaises(ConfigurationError) as caught:
            await configurator.reload()
        self.assertIn("nothing to serve", str(caught.exception))
        # What is added to what runs may be anything.
        self.assertEqual(await configurator.reload(keep=True), [])

    def test_tool(self) -> None:
        """-check_config says all of it, and ends with 1."""
        said: list[str] = []
        for name in ("say", "show"):
            self.patch(scstadmin, name, said.append)
        path = self.at / "scst.conf"
        path.write_text(scst_conf(self.disk("none") + self.disk("odd")))
        words = ["-check_config", str(path)]
        self.assertEqual(scstadmin.prepare(words), tools.REFUSED)
        self.assertEqual(len(said[0].splitlines()), 2)
        path.write_text(scst_conf(self.disk("good")))
        self.assertEqual(scstadmin.prepare(words), tools.DONE)


class AnyTests(SynchronousTestCase):
    """
    Any configuration.
    """

    @examples(30)
    @given(configurations())
    def test_right(self, configuration: Configuration) -> None:
        """In what can run nothing is found."""
        self.assertEqual([str(one) for one in mistakes(configuration, {})], [])
