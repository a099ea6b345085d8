# SPDX-License-Identifier: MIT
"""
Tests for what a process that was killed has left: with real processes, and kill -9.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from scstd.block.atomic_write import AtomicWrite
from scstd.initiator.blocking import BlockingSession
from scstd.initiator.commands import CommandResult
from scstd.management.state.record_file import RecordFile
from scstd.test.serving import PATIENCE, Server

READY = bytes(6)
SENSE = b"\3\0\0\0\x12\0"


class KillTests(TestCase):
    """
    A target that is killed and started again.
    """

    timeout = 120

    def setUp(self) -> None:
        """Make a directory."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def serve(self, more: str = "", size: str = "8M") -> Server:
        """Serve a file."""
        device = f"d=vdisk_fileio:filename=disk.img:size={size}{more}"
        return Server("--device", device, directory=str(self.directory))

    def session(self, server: Server) -> BlockingSession:
        """Log in, and take the unit attention."""
        one = BlockingSession(server.url, 1)
        one.do(READY)
        return one

    def check(self, done: CommandResult, key: int, asc: bytes) -> None:
        """See that a command ended with this sense data."""
        found = done.status, done.sense[2] & 15, done.sense[12:14]
        self.assertEqual(found, (2, key, asc))

    def state(self) -> dict[str, Any]:
        """Return what the device remembers."""
        (path,) = (self.directory / "state" / "devices").glob("*.json")
        values: dict[str, Any] = json.loads(path.read_text())
        return values

    def begun(self, one: BlockingSession) -> None:
        """Wait until an operation has changed something."""
        while not int.from_bytes(one.do(SENSE, read=18).data[16:18], "big"):
            self.assertEqual(one.do(READY).status, 2)

    def test_sanitize(self) -> None:
        """A sanitize operation is taken up again, and ends."""
        (self.directory / "disk.img").write_bytes(b"secret" * 1000)
        with self.serve(":filter=delay write=0.3") as server:
            one = self.session(server)
            data = b"\1\0\0\1z"
            cdb = struct.pack(">BB5xHx", 0x48, 0x81, len(data))
            self.assertEqual(one.do(cdb, data=data).status, 0)
            self.check(one.do(READY), 2, b"\4\x1b")
            self.begun(one)
            server.expect_kill()
            server.process.kill()
            server.process.wait(PATIENCE)
            one.close()
        self.assertNotEqual(
            (self.directory / "disk.img").read_bytes(), b"z" * (8 << 20)
        )
        with self.serve(":filter=delay write=0.02") as server:
            one = self.session(server)
            seen = set()
            while True:
                done = one.do(READY)
                if done.status == 0:
                    break
                seen.add(done.sense[12:14])
            self.assertEqual(seen, {b"\4\x1b"})
            one.close()
        self.assertEqual((self.directory / "disk.img").read_bytes(), b"z" * (8 << 20))
        self.assertIsNone(self.state()["operation"])

    def test_format(self) -> None:
        """A format is not: the medium is corrupt until it is formatted again."""
        delay = ":thin_provisioned=0:filter=delay write=0.3"
        with self.serve(delay, "128M") as server:
            one = self.session(server)
            self.assertEqual(one.do(b"\x04\x10\0\0\0\0", data=b"\0\2\0\0").status, 0)
            self.assertEqual(one.do(SENSE, read=18).data[12:14], b"\4\4")
            self.begun(one)
            server.expect_kill()
            server.process.kill()
            server.process.wait(PATIENCE)
            one.close()
        with self.serve(":thin_provisioned=0", "128M") as server:
            one = self.session(server)
            self.check(one.do(READY), 3, b"\x31\0")
            self.assertEqual(one.do(b"\x04\0\0\0\0\0").status, 0)
            self.assertEqual(one.do(READY).status, 0)
            one.close()

    def test_atomic(self) -> None:
        """An atomic write is kept until it is in the file, then finished or forgotten."""
        with self.serve() as server:
            one = self.session(server)
            cdb = struct.pack(">BBQHHxx", 0x9C, 0, 4, 0, 2)
            self.assertEqual(one.do(cdb, data=b"a" * 1024).status, 0)
            one.close()
        (path,) = (self.directory / "state" / "devices").glob("*.record")
        record = RecordFile(path)
        self.assertEqual(record.read(), b"")
        record.replace(struct.pack(">Q", 512) + b"b" * 1024)
        record.close()
        with self.serve() as server:
            one = self.session(server)
            found = one.read(0, 8)
            one.close()
        expected = bytes(512) + b"b" * 1024 + bytes(512) + b"a" * 1024 + bytes(1024)
        self.assertEqual(found, expected)
        self.assertEqual(record.read(), b"")

    def test_torn(self) -> None:
        """What looks torn is finished, and what does not is left alone."""
        image = self.directory / "disk.img"
        old, new, other = b"o" * 512, b"n" * 512, b"x" * 512
        with self.serve():
            pass
        (path,) = (self.directory / "state" / "devices").glob("*.json")
        for found, expected in (
            (old + new + old, new * 3),
            (old + other + new, old + other + new),
        ):
            with image.open("r+b") as file:
                file.write(found)
            record = RecordFile(path.with_suffix(".record"))
            record.replace(AtomicWrite.over(old * 3, 0, new * 3).record())
            record.close()
            with self.serve() as server:
                one = self.session(server)
                while one.do(READY).status:
                    # It looks at what was interrupted.
                    pass
                self.assertEqual(one.read(0, 3), expected)
                one.close()
            self.assertEqual(record.read(), b"")
