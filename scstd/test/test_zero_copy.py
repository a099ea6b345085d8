# SPDX-License-Identifier: MIT
"""
Tests for reads that are sent from the page cache itself (`FilePart`).
"""

from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from scstd.handlers.fileio import FileStore
from scstd.interfaces import FilePart
from scstd.test.initiator import Initiator, read10, serve, write10
from scstd.test.plain import PlainSession
from scstd.test.serving import Server

CONTENT = random.Random(7).randbytes(4 << 20)
LARGE = (("MaxRecvDataSegmentLength", "262144"), ("MaxBurstLength", "1048576"))


class PartTests(SynchronousTestCase):
    """
    Parts of a file, and the store that hands them out.
    """

    def setUp(self) -> None:
        """Open a file that is in the page cache."""
        self.path = Path(self.mktemp())
        self.path.write_bytes(CONTENT)
        fd = os.open(self.path, os.O_RDWR)
        self.store = FileStore(reactor, "disk", fd, len(CONTENT), 512)
        self.addCleanup(os.close, fd)

    def part(self, offset: int, length: int) -> FilePart:
        """Return a part of the file, which has to be cached."""
        part = self.store.locate(offset, length)
        assert part is not None
        return part

    def test_slices(self) -> None:
        """A slice of a part, and a slice of that, are those bytes."""
        part = self.part(4096, 65536)
        self.assertEqual((len(part), part.loaded), (65536, False))
        self.assertEqual(part[8:][8:100].load(), CONTENT[4112:4204])
        self.assertEqual(part.load(), CONTENT[4096 : 4096 + 65536])

    def test_written_over(self) -> None:
        """What is not yet sent when the file changes is what was read."""
        part = self.part(0, 65536)
        piece = part[1000:2000]
        self.store.write(0, bytes(65536), False)
        self.assertTrue(piece.loaded)
        self.assertEqual(piece.load(), CONTENT[1000:2000])
        self.assertEqual(self.part(0, 65536).load(), bytes(65536))

    def test_closed(self) -> None:
        """What is not yet sent when the file is closed is what was read."""
        store = FileStore(
            reactor, "disk", os.open(self.path, os.O_RDWR), len(CONTENT), 512
        )
        part = store.locate(0, 65536)
        assert part is not None
        self.successResultOf(store.close())
        self.assertTrue(part.loaded)
        self.assertEqual(part[9:99].load(), CONTENT[9:99])

    def test_forgotten(self) -> None:
        """Parts that were sent cost nothing for ever."""
        for _read in range(1000):
            self.part(0, 65536)
        self.assertLess(len(self.store._parts), 100)

    def test_cut_off(self) -> None:
        """What is gone is an error, not zeros."""
        part = self.part(1 << 20, 65536)
        os.truncate(self.path, 1 << 20)
        self.assertRaises(OSError, part.load)

    def test_not_cached(self) -> None:
        """What would have to be read first is read by a thread."""
        self.patch(self.store._cache, "_counts", False)
        self.assertIdentical(self.store.locate(0, 65536), None)

    def test_read_then_written(self) -> None:
        """A READ in one chunk with a later ORDERED WRITE returns what was there."""
        node, _target, _units = serve(self.store)
        one = Initiator(node)
        one.connection.sends_files = True
        one.ready(MaxRecvDataSegmentLength="262144")
        read = one.command(read10(0, 128), read=65536)
        write = one.command(write10(0, 8), write=4096, data=bytes(4096), attribute=2)
        one.send(read, write)
        self.assertGreaterEqual(one.connection.parts, 1)
        self.assertEqual(one.finish(read).data, CONTENT[:65536])

    def test_digests(self) -> None:
        """With data digests the bytes are read: the digest needs them."""
        node, _target, _units = serve(self.store)
        one = Initiator(node)
        one.connection.sends_files = True
        one.ready(DataDigest="CRC32C", MaxRecvDataSegmentLength="262144")
        self.assertEqual(one.do(read10(0, 128), read=65536).data, CONTENT[:65536])
        self.assertEqual(one.connection.parts, 0)


class SocketTests(TestCase):
    """
    Through real sockets.
    """

    timeout = 60

    def setUp(self) -> None:
        """Serve a file."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = self.directory / "disk.img"
        self.path.write_bytes(CONTENT)

    def served(self) -> Any:
        """Return the server."""
        return Server(
            "--device",
            "d=vdisk_fileio:filename=disk.img",
            directory=str(self.directory),
        )

    def test_all_sizes(self) -> None:
        """Large reads of any size and place, in long and in short segments."""
        chance = random.Random(1)
        with self.served() as server:
            for number, keys in enumerate((LARGE, ())):
                session = PlainSession(server.url, number, *keys)
                session.read(0, 1)
                for _read in range(40):
                    blocks = chance.randrange(100, 2048)
                    lba = chance.randrange((len(CONTENT) >> 9) - blocks)
                    session.ask(lba, blocks)
                    wanted = CONTENT[lba << 9 : (lba + blocks) << 9]
                    self.assertEqual(session.whole(), wanted)
                session.close()

    def test_slow_reader(self) -> None:
        """What the socket does not take goes later, right to the byte."""
        with self.served() as server:
            session = PlainSession(server.url, 1, *LARGE)
            session.read(0, 1)
            for number in range(24):
                session.ask(number * 128, 2048)
            other = PlainSession(server.url, 2)
            self.assertEqual(other.read(8, 8), CONTENT[4096:8192])
            for number in range(24):
                start = number * 65536
                self.assertEqual(session.whole(), CONTENT[start : start + (1 << 20)])
            session.close()
            other.close()

    def test_cut_off(self) -> None:
        """A file cut off under reads ends in an error for them and for nobody else."""
        with self.served() as server:
            session = PlainSession(server.url, 1, *LARGE)
            session.read(0, 1)
            session.ask(4096, 2048)
            self.assertEqual(session.whole(), CONTENT[2 << 20 : 3 << 20])
            os.truncate(self.path, 1 << 20)
            session.ask(4096, 2048)
            with contextlib.suppress(ConnectionError):
                answer = session.receive()
                self.assertEqual((answer[0] & 0x3F, answer[3]), (0x21, 2))
            other = PlainSession(server.url, 2)
            self.assertEqual(other.read(8, 8), CONTENT[4096:8192])
            other.close()
            session.close()
        self.assertNotIn("Traceback", server.log())
