# SPDX-License-Identifier: MIT
"""
Tests for `scstd.textfile`, and for those who read by it: whatever is in a file's place,
it is said in one line, and nobody waits for it.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from scstd.attributes import ConfigurationError
from scstd.management.config.reading import read_file
from scstd.management.converters.legacy import convert
from scstd.management.state.durable import look
from scstd.management.state.record_file import RecordFile
from scstd.protocols.hosts import Hosts
from scstd.textfile import read_regular, read_text


class TextFileTests(SynchronousTestCase):
    """
    Files, and what is none.
    """

    def setUp(self) -> None:
        """Have one of each."""
        self.at = Path(self.mktemp())
        self.at.mkdir()
        os.mkfifo(self.at / "pipe")
        (self.at / "directory").mkdir()
        (self.at / "loop").symlink_to("loop")
        self.no_files = {
            "pipe": "not a regular file",
            "directory": "Is a directory",
            "loop": "Too many levels of symbolic links",
            "absent": "No such file or directory",
            "n" * 300: "File name too long",
            "n\0": "no path has a NUL in it",
        }

    def test_no_files(self) -> None:
        """What is no regular file is refused, and nothing is waited for."""
        for name, why in self.no_files.items():
            error = self.assertRaises(OSError, read_regular, self.at / name)
            self.assertEqual(error.strerror, why)
        error = self.assertRaises(OSError, read_regular, "/dev/zero")
        self.assertEqual(error.strerror, "not a regular file")

    def test_length(self) -> None:
        """A file that is too long is not read to its end."""
        path = self.at / "long"
        path.write_bytes(bytes(10))
        self.assertEqual(read_regular(path, most=10), bytes(10))
        error = self.assertRaises(OSError, read_regular, path, most=9)
        self.assertEqual(error.errno, errno.EFBIG)

    def test_text(self) -> None:
        """Text has its lines ended by newlines, and no mark; no text names its line."""
        path = self.at / "text"
        path.write_bytes("\ufeffa\r\nb\rc\nä".encode())
        self.assertEqual(read_text(path), "a\nb\nc\nä")
        path.write_bytes(b"a\nb\n\xc3")
        error = self.assertRaises(OSError, read_text, path)
        self.assertEqual(error.strerror, "line 3: expected UTF-8, found the byte 0xc3")

    def test_pipes(self) -> None:
        """A configuration may come through a pipe, where it may be waited for."""
        reading, writing = os.pipe()
        os.write(writing, b"TARGET_DRIVER iscsi {\n}\n")
        os.close(writing)
        path = f"/proc/self/fd/{reading}"
        self.assertRaises(ConfigurationError, read_file, path)
        self.assertEqual(read_file(path, pipes=True).drivers[0].name, "iscsi")
        os.close(reading)

    def test_readers(self) -> None:
        """Configurations, old ones too, and state files: one line names the file."""
        (self.at / "bytes").write_bytes(b"\n\xff")
        self.no_files["bytes"] = "line 2: expected UTF-8, found the byte 0xff"
        for name, why in self.no_files.items():
            path = str(self.at / name)
            error = self.assertRaises(ConfigurationError, read_file, path)
            # Of scst.conf the column is known, too.
            said = why.replace("line 2:", "2:1:") if name == "bytes" else f" {why}"
            self.assertEqual(str(error), f"{path}:{said}")
            if name != "pipe":
                error = self.assertRaises(ConfigurationError, convert, [path])
                self.assertEqual(str(error), f"{path}: {why}")
        self.assertEqual(
            look(self.at / "pipe", bytes), (b"", None, "not a regular file")
        )
        self.assertRaises(OSError, RecordFile(self.at / "pipe").read)

    def test_hosts(self) -> None:
        """
        While a file of initiators' addresses cannot be read the lines count that could.
        """
        deny = self.at / "deny"
        hosts = Hosts.of(Clock(), str(self.at / "allow"), str(deny))
        deny.write_bytes(b"\xef\xbb\xbfALL ALL\r\n")
        hosts.look(lambda: None)
        self.assertTrue(hosts.refused("iqn.x:y", "192.0.2.1"))
        deny.unlink()
        os.mkfifo(deny)
        hosts.look(lambda: None)
        self.assertTrue(hosts.refused("iqn.x:y", "192.0.2.1"))
